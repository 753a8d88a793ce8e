"""A batch of points judged at once: which are designs, and which constraints they hold.

All points that are built alike, of the same words and the same parts, are one binding whose figures
are arrays. Where a `when` tells points apart, the batch is split in two and each half bound.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import UserError, nearest
from ...ir.hardware import Hardware
from .binding import InvalidPointError, OneByOneError, SplitNeededError
from .build import Design
from .parameters import choose, given_values

if TYPE_CHECKING:
    from .space import HardwareSpace

Columns = Mapping[str, np.ndarray]
"""Values of parameters, one entry a point: numbers in SI, or words. nan or "" where a parameter
does not exist."""


@dataclass(frozen=True)
class Verdicts:
    """What becomes of each point of a batch; every array has one entry a point."""

    valid: np.ndarray
    """Whether its values make a design at all."""
    holds: Mapping[str, np.ndarray]
    """By the text of a constraint, whether it is met; true where a point has no such constraint."""

    @property
    def feasible(self) -> np.ndarray:
        """Whether a point is a design that meets every constraint."""
        return self.valid & np.all([*self.holds.values(), self.valid], axis=0)


def judge(space: "HardwareSpace", points: Columns) -> Verdicts:
    """The verdicts on a batch of points; raises UserError for a mistake in the spec or a name."""
    count = len(next(iter(points.values()))) if points else 1
    valid, holds = np.zeros(count, bool), dict[str, np.ndarray]()
    for tree in trees(space, points):
        rows = tree.rows
        valid[rows] = tree.valid
        for text, held in _held(tree.hardware).items():
            column = holds.setdefault(text, np.ones(count, bool))
            column[rows] = held & tree.valid
    return Verdicts(valid, holds)


@dataclass(frozen=True)
class Tree:
    """Points of a batch that are one tree."""

    rows: np.ndarray
    """Their numbers in the batch."""
    valid: np.ndarray
    """Which of them are designs; the figures of others mean nothing."""
    hardware: Hardware
    """Its figures are numbers, or arrays with one entry for each of the points."""


def trees(space: "HardwareSpace", points: Columns) -> Iterator[Tree]:
    """A batch of points as hardware; those that are no designs at all may be left out.

    Raises UserError for a mistake in the spec or a name.
    """
    for name in points:
        if name not in space.parameters:
            raise UserError(f"unknown parameter '{name}'{nearest(name, space.parameters)}")
    count = len(next(iter(points.values()))) if points else 1
    for group in alike(points, np.arange(count)):
        yield from _trees_of(space, points, group)


def _trees_of(space: "HardwareSpace", points: Columns, rows: np.ndarray) -> Iterator[Tree]:
    try:
        design, hardware = _bound(space, points, rows)
    except SplitNeededError as split:
        for half in (rows[split.mask], rows[~split.mask]):
            yield from _trees_of(space, points, half)
    except OneByOneError:
        for row in rows:
            yield from _tree_of_one(space, points, np.array([row]))
    except InvalidPointError:
        return
    else:
        yield Tree(rows, np.broadcast_to(design.binding.valid, rows.shape), hardware)


def _bound(space: "HardwareSpace", points: Columns, rows: np.ndarray) -> tuple[Design, Any]:
    values = chosen_of(points, rows)
    given = given_values(space.parameters, values)
    design = Design(space.file, given, space.physics, space.memo, len(rows))
    with np.errstate(all="ignore"):
        chosen = choose(design.scope, space.parameters, values)
        return design, design.hardware(space.name, chosen)


def _tree_of_one(space: "HardwareSpace", points: Columns, row: np.ndarray) -> Iterator[Tree]:
    try:
        hardware = space.bind(chosen_of(points, row))
    except InvalidPointError:
        return
    yield Tree(row, np.ones(1, bool), hardware)


def _held(hardware: Hardware) -> dict[str, Any]:
    """By the text of a constraint, whether it is met; of several of one text, whether all are."""
    held: dict[str, Any] = {}
    for line in hardware.constraints:
        held[line.text] = held.get(line.text, True) & line.holds
    return held


def chosen_of(points: Columns, rows: np.ndarray) -> dict[str, Any]:
    """The values of some points that are alike: one where all have the same, else an array."""
    found: dict[str, Any] = {}
    for name, column in points.items():
        values = column[rows]
        first = values[0]
        if _missing(values)[0]:
            continue
        if values.dtype.kind in "US" or bool((values == first).all()):
            found[name] = str(first) if values.dtype.kind in "US" else float(first)
        else:
            found[name] = values
    return found


def alike(points: Columns, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The points in groups that have the same words and the same parameters."""
    keys = [
        values if values.dtype.kind in "US" else _missing(values)
        for values in (column[rows] for column in points.values())
        if values.dtype.kind in "US" or _missing(values).any()
    ]
    codes = np.zeros(len(rows), int)
    for key in keys:
        _, inverse = np.unique(key, return_inverse=True)
        _, codes = np.unique(codes * (inverse.max() + 1) + inverse, return_inverse=True)
    for code in range(codes.max() + 1 if len(rows) else 0):
        yield rows[codes == code]


def _missing(values: np.ndarray) -> np.ndarray:
    return values == "" if values.dtype.kind in "US" else np.isnan(values)
