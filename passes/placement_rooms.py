"""How many rectangles a whole system holds; and where they stand in a cluster, whose devices are
one row. Where they go on a wafer is decided in placement.py.
"""

from functools import lru_cache

from ..ir.floor import Floor, floor_of
from ..ir.hardware import Hardware
from ..ir.program import Rectangle
from .placement_shelves import count_fitting


def rooms(hardware: Hardware, rows: int, columns: int) -> int:
    """How many disjoint rectangles of rows x columns live cores all islands hold together; in a
    cluster, how many groups of `columns` devices there are."""
    floor = floor_of(hardware)
    if floor.switched:
        return floor.columns // columns if rows == 1 else 0
    return floor.islands * count_fitting(hardware.wafer, rows, columns)


def row_of_groups(floor: Floor, columns: int, count: int) -> list[Rectangle] | None:
    """Groups of devices of a cluster one behind the other; None if they do not fit.

    No group meets more nodes than it must, for which devices at the end of a node may stay idle;
    where there are too few for that, groups stand without gaps.
    """
    if count * columns > floor.columns:
        return None
    begins = _begins(floor.node or floor.columns, columns, count)
    if begins and begins[-1] + columns > floor.columns:
        begins = tuple(at * columns for at in range(count))
    return [Rectangle(0, begin, 1, columns) for begin in begins]


@lru_cache(maxsize=64)
def _begins(node: int, columns: int, count: int) -> tuple[int, ...]:
    """First devices of groups that span ceil(columns / node) nodes each: a group begins at most
    so far into its node as its last node has devices to spare."""
    spare = -columns % node
    begins: list[int] = []
    at = 0
    for _ in range(count):
        if at % node > spare:
            at += node - at % node
        begins.append(at)
        at += columns
    return tuple(begins)
