"""The dead dies and dead cores that a wafer's `defects { .. }` names.

Drawing them from a density is not built; what the compiler makes of them is in passes/.
"""

from collections import Counter

from ...ir import hardware as ir
from ...ir.errors import UserError
from . import syntax
from .evaluate import View
from .fields import PARTS
from .read import inner, read


def defects(
    view: View, grid: tuple[int, int], die: ir.Die
) -> tuple[tuple[tuple[int, int], ...], tuple[ir.DeadCore, ...]]:
    """The dead dies, and the dead cores of the other dies, each checked against its grid."""
    dies: list[tuple[int, int]] = []
    cores: list[ir.DeadCore] = []
    wafer = f"wafer {view.path[0]}"
    for block in inner(view, "defects"):
        read(block, PARTS["wafer"].blocks["defects"])
        for dead in block.block.items:
            if not isinstance(dead, syntax.Dead):
                continue
            if dead.what == "die" and dead.of is None:
                dies.append(_place("die", dead.at, grid, wafer, dead))
            elif dead.what == "core" and dead.of == "die" and dead.of_at is not None:
                of = _place("die", dead.of_at, grid, wafer, dead)
                core = _place("core", dead.at, (die.rows, die.columns), f"die {die.name}", dead)
                cores.append(ir.DeadCore(of, core))
            else:
                raise UserError(
                    "expected 'dead die 11, 6' or 'dead core 3, 5 of die 0, 2'", dead.location
                )
    _check_dead_once(view, dies, cores)
    return tuple(dies), tuple(core for core in cores if core.die not in dies)


def _check_dead_once(view: View, dies: list[tuple[int, int]], cores: list[ir.DeadCore]) -> None:
    repeated = [item for item, times in Counter([*dies, *cores]).items() if times > 1]
    if repeated:
        item = repeated[0]
        text = (
            f"core {_at(item.core)} of die {_at(item.die)}"
            if isinstance(item, ir.DeadCore)
            else f"die {_at(item)}"
        )
        raise UserError(
            f"{view.label}: {text} is named dead twice",
            inner(view, "defects")[0].block.location,
        )


def _at(place: tuple[int, int]) -> str:
    return f"{place[0]}, {place[1]}"


def _place(
    what: str, at: tuple[float, float], grid: tuple[int, int], of: str, dead: syntax.Dead
) -> tuple[int, int]:
    row, column = at
    if row != int(row) or column != int(column) or row >= grid[0] or column >= grid[1]:
        raise UserError(
            f"{of} has no {what} {row:g}, {column:g}: it has {grid[0]} x {grid[1]}, counted "
            "from zero",
            dead.location,
        )
    return int(row), int(column)
