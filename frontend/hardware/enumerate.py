"""Every point of a space, parameter by parameter, in batches of columns.

A parameter's values are listed for all points of a batch at once, and points that no values of
later parameters can save are dropped at once: those for which a table has no row, and those that
break a constraint without physics.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...ir.errors import UserError
from . import expressions, syntax, units
from .binding import AbsentError, InvalidPointError, SplitNeededError
from .domain import Choices, Domain, Interval
from .evaluate import Scope
from .expressions import COMPARISONS
from .files import SourceFile
from .open_values import domains, grouped, scope_of
from .parameters import given_values
from .units import FUNCTIONS

if TYPE_CHECKING:
    from .space import HardwareSpace

Columns = dict[str, np.ndarray]
_Settled: TypeAlias = tuple[list[str], list[syntax.ConstraintSyntax]]
"""Lets and constraints that may be evaluated."""


def enumerate_points(
    space: "HardwareSpace", fixed: Mapping[str, str | float], limit: int
) -> Iterator[Columns]:
    """All points with some parameters `fixed`, in batches of about `limit`; raises UserError for
    values that cannot be listed."""
    given = given_values(space.parameters, fixed)
    held = {
        name: np.array([value if isinstance(value, str) else float(value.magnitude)])
        for name, value in given.items()
    }
    names = [
        name
        for name, known in space.parameters.items()
        if known.domain is not None and name not in held
    ]
    for columns in _Listing(space, in_order(names, space.file), limit).points(held, 1, 0):
        yield {name: columns[name] for name in (*held, *names)}


@dataclass(frozen=True)
class _Listing:
    space: "HardwareSpace"
    names: tuple[str, ...]
    """In an order in which the values of each rest on those before it only."""
    limit: int

    def points(self, columns: Columns, count: int, at: int) -> Iterator[Columns]:
        """All points that begin with the values of the parameters before the one `at`."""
        if count == 0:
            return
        if at == len(self.names):
            yield columns
            return
        for rows in grouped(columns, count):
            for half, values, repeats in self._values(columns, rows, self.names[at]):
                yield from self._grown(columns, half, values, repeats, at)

    def _grown(
        self, columns: Columns, rows: np.ndarray, values: np.ndarray, repeats: np.ndarray, at: int
    ) -> Iterator[Columns]:
        """The points of `rows` with the values of one more parameter, in pieces."""
        ends = np.cumsum(repeats)
        pieces = min(len(rows), -(-int(ends[-1]) // self.limit) or 1)
        for piece in np.array_split(np.arange(len(rows)), pieces):
            low, high = int(ends[piece[0]] - repeats[piece[0]]), int(ends[piece[-1]])
            grown = {
                name: np.repeat(column[rows[piece]], repeats[piece])
                for name, column in columns.items()
            }
            grown[self.names[at]] = values[low:high]
            kept = self._kept(grown, high - low, at)
            grown = {name: column[kept] for name, column in grown.items()}
            yield from self.points(grown, int(kept.sum()), at + 1)

    def _values(
        self, columns: Columns, rows: np.ndarray, name: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Points, all values of a parameter for one after the other, and how many each has."""
        for some, valid, domain in domains(self.space, columns, rows, name):
            if domain is None:
                word = isinstance(self.space.parameters[name].default, str)
                yield some, np.full(len(some), "" if word else np.nan), np.ones(len(some), int)
                continue
            with np.errstate(all="ignore"):
                values, repeats = _listed(name, domain, len(some))
            yield some, values[np.repeat(valid, repeats)], np.where(valid, repeats, 0)

    def _kept(self, columns: Columns, count: int, at: int) -> np.ndarray:
        """Which points no constraint without physics, and no missing row of a table, rules out."""
        lets, lines = self._settled[at]
        if not lets and not lines:
            return np.ones(count, bool)
        kept = np.zeros(count, bool)
        for rows in grouped(columns, count):
            self._keep(columns, rows, lets, lines, kept)
        return kept

    @cached_property
    def _settled(self) -> Sequence[_Settled]:
        """By parameter, the lets and constraints for which it is the last that they rest on; of
        the first: or none. Those that rest on parts or physics are left out."""
        found: list[tuple[list[str], list[syntax.ConstraintSyntax]]] = [
            ([], []) for _ in self.names
        ]
        file = self.space.file

        def last(*sides: syntax.Expression) -> int | None:
            names = _rests_on(file, *sides)
            if not names <= file.parameters.keys() | file.lets.keys():
                return None
            return max((self.names.index(name) for name in names & {*self.names}), default=0)

        for name, let in file.lets.items():
            if (at := last(let.value)) is not None:
                found[at][0].append(name)
        for line in file.constraints:
            if (at := last(line.left, line.right, *_sides(line.when, file))) is not None:
                found[at][1].append(line)
        return found

    def _keep(
        self,
        columns: Columns,
        rows: np.ndarray,
        lets: Sequence[str],
        lines: Sequence[syntax.ConstraintSyntax],
        kept: np.ndarray,
    ) -> None:
        scope = scope_of(self.space, columns, rows)
        try:
            with np.errstate(all="ignore"):
                holds: Any = True
                for name in lets:
                    with suppress(AbsentError):
                        scope.named_value(name, None)
                for line in lines:
                    if scope.holds(line.when):
                        holds = holds & _met(line, scope)
        except SplitNeededError as split:
            for half in (rows[split.mask], rows[~split.mask]):
                self._keep(columns, half, lets, lines, kept)
        except InvalidPointError:
            return
        else:
            kept[rows] = holds & scope.binding.valid


def _met(line: syntax.ConstraintSyntax, scope: Scope) -> Any:
    left, right = (expressions.number(side, scope) for side in (line.left, line.right))
    units.same_dimension(left, right, line.location)
    return COMPARISONS[line.comparison](left.magnitude, right.magnitude)


def _sides(condition: syntax.Condition | None, file: SourceFile) -> Iterator[syntax.Expression]:
    """The sides of a condition that are no words."""
    known = file.parameters.keys() | file.lets.keys()
    for side in () if condition is None else (condition.left, condition.right):
        if not isinstance(side, syntax.Reference) or side.path[0] in known:
            yield side


def _listed(name: str, domain: Domain, count: int) -> tuple[np.ndarray, np.ndarray]:
    """All values for each of `count` points, one point after the other, and how many each has."""
    if isinstance(domain, Interval) and domain.step is None:
        raise UserError(
            f"parameter {name}: the values of {domain.text} cannot be listed without a step"
        )
    lengths = np.nan_to_num(_many(domain.size, count), nan=0.0, posinf=0.0).astype(int).clip(min=0)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.arange(len(starts)) - starts
    return _of_runs(domain, lengths).at(places), lengths


def _of_runs(domain: Domain, lengths: np.ndarray) -> Domain:
    """A domain of points as one of their runs of values."""

    def spread(value: Any) -> Any:
        return np.repeat(value, lengths) if isinstance(value, np.ndarray) else value

    if isinstance(domain, Choices):
        return replace(domain, values=tuple(spread(value) for value in domain.values))
    ends = {"low": spread(domain.low), "high": spread(domain.high)}
    if isinstance(domain, Interval):
        ends["step"] = spread(domain.step)
    return replace(domain, **ends)


def _many(value: Any, count: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, float), (count,))


def in_order(names: Sequence[str], file: SourceFile) -> tuple[str, ...]:
    """The parameters, each after those that its values or its existence rest on.

    Raises UserError where there is no such order.
    """
    ordered: list[str] = []
    needs = {name: _needs(file.parameters[name], file) - {name} for name in names}
    while len(ordered) < len(names):
        waiting = [name for name in names if name not in ordered]
        ready = [name for name in waiting if needs[name].isdisjoint(waiting)]
        if not ready:
            raise UserError(
                f"the values of parameters {' and '.join(waiting)} cannot be listed, as they rest "
                "on each other",
                file.parameters[waiting[0]].location,
            )
        ordered.append(ready[0])
    return tuple(ordered)


def _needs(declared: syntax.ParameterSyntax, file: SourceFile) -> set[str]:
    """The names that the domain and the condition of a parameter rest on."""
    match declared.domain:
        case syntax.Choices(values=values):
            ends: tuple[syntax.Expression | None, ...] = values
        case syntax.Powers(low=low, high=high):
            ends = low, high
        case syntax.Interval(low=low, high=high, step=step):
            ends = low, high, step
        case None:
            ends = ()
    given = (end for end in ends if end is not None)
    return _rests_on(file, *given, *_sides(declared.when, file))


def _rests_on(file: SourceFile, *expressions_: syntax.Expression) -> set[str]:
    """The names in expressions, and those that lets and parameters without a domain rest on; of
    parts the name of the part, of physics that of the function."""
    found: set[str] = set()
    open_ = [*expressions_]
    while open_:
        match open_.pop():
            case syntax.Reference((name, *_)) if name not in found:
                found.add(name)
                if name in file.lets:
                    open_.append(file.lets[name].value)
                elif name in file.parameters and file.parameters[name].domain is None:
                    declared = file.parameters[name]
                    open_ += [declared.default, *_sides(declared.when, file)]
            case syntax.Chain(first=first, rest=rest):
                open_ += [first, *(side for _, side in rest)]
            case syntax.Call(function=function, arguments=arguments):
                if function.path[0] not in FUNCTIONS and function.path[0] not in file.tables:
                    found.add(str(function))
                open_ += arguments
            case _:
                pass
    return found
