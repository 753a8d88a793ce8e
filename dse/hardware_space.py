"""The open parameters of a `.wsc` file as a space of designs.

A point of the unit cube stands for a design: in the order in which domains rest on each other,
every coordinate picks a place in the list of its parameter's values. What physics and constraints
allow is judged in batches (frontend/hardware/batch.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..frontend.hardware.domain import Choices, Domain, Interval, Powers
from ..frontend.hardware.enumerate import in_order
from ..frontend.hardware.open_values import domains, grouped
from ..frontend.hardware.parameters import given_values
from ..frontend.hardware.space import HardwareSpace
from ..ir.errors import UserError
from ..ir.hardware import Hardware
from .design import Columns, Design, Floats, columns_of, designs_of

Booleans = NDArray[np.bool_]

FEW_DRAWS, MOST_DRAWS = 1 << 14, 1 << 20
"""Points that are drawn before a space is listed instead, where it is small enough; and where it
is not, before no more are looked for."""
MOST_LISTED = 1 << 20
"""Points of a space that is listed to draw from."""
MOST_JUDGED = 1 << 18
"""Points whose verdict is remembered."""
WIDE = 4.0
"""An interval whose ends are so many times apart is read by its logarithm."""


@dataclass(frozen=True)
class HardwareDesigns:
    """The legal designs of a spec in which some parameters are `fixed`; those without a domain
    are not open. A spec that leaves nothing open has one design, of no values."""

    space: HardwareSpace
    fixed: Mapping[str, str | float] = field(default_factory=dict[str, str | float])
    """Texts as a person writes them (`"64 KiB"`), or numbers in SI."""

    @property
    def names(self) -> tuple[str, ...]:
        """The open parameters, in the order of the spec."""
        return self._names

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(
            name
            for name, known in self.space.parameters.items()
            if known.domain is not None and name not in self.fixed
        )

    def bind(self, design: Design) -> Hardware:
        """The hardware of a design; raises UserError for values that the spec does not allow."""
        return self.space.bind({**self.fixed, **dict(design.values)})

    # Designs from points and back.

    def from_unit(self, points: Floats) -> list[Design | None]:
        """The design of each point, or None; see DesignSpace."""
        columns, legal = self._legal_at(points)
        designs = iter(self._designs(columns, np.flatnonzero(legal)))
        return [next(designs) if each else None for each in legal]

    def to_unit(self, designs: Sequence[Design]) -> Floats:
        """The middle of what `from_unit` takes for each design; see DesignSpace."""
        return self._places(designs)[0]

    def _legal_at(self, points: Floats) -> tuple[Columns, Booleans]:
        """The values that points stand for, and which of them are legal."""
        columns, made = self._values_at(np.asarray(points, dtype=np.float64))
        keys, known = self._keys(columns, len(made)), self._judged
        if len(known) > MOST_JUDGED:
            known.clear()
        new = {key: row for row, key in enumerate(keys) if made[row] and key not in known}
        rows = np.array([*new.values()], dtype=np.int64)
        if new:
            legal = self.legal({name: column[rows] for name, column in columns.items()})
            known |= zip(new, legal.tolist(), strict=True)
        return columns, np.array([known.get(key, False) for key in keys], bool)

    @cached_property
    def _judged(self) -> dict[bytes, bool]:
        """Whether points that were drawn are legal, by their keys."""
        return {}

    def _keys(self, columns: Columns, count: int) -> list[bytes]:
        """What tells points apart: the bytes of their values, of words those of their number."""
        table = np.zeros((count, len(self.names)))
        for at, name in enumerate(self.names):
            domain = self.space.parameters[name].domain
            if self._word(name) and isinstance(domain, Choices):
                for number, word in enumerate(domain.values):
                    table[columns[name] == word, at] = number + 1
            else:
                table[:, at] = columns[name]
        return [row.tobytes() for row in table]

    def _values_at(self, points: Floats) -> tuple[Columns, Booleans]:
        count = len(points)
        found = self.constants(count)
        made = np.ones(count, bool)
        for name in self._order:
            values = np.full(count, self._missing(name), dtype=object)
            rows = np.flatnonzero(made)
            made[:] = False
            for some, domain in self._domains(found, rows, name):
                made[some] = True
                if domain is not None:
                    values[some] = _value_at(domain, points[some, self.names.index(name)])
            found[name] = values.astype(str if self._word(name) else float)
        return found, made

    def _places(self, designs: Sequence[Design]) -> tuple[Floats, Floats]:
        """Of each design and parameter the place in the unit cube, and how many values there are:
        both (count, len(names)); 0.5 and 1 for a parameter that it does not have."""
        given = columns_of(designs, self.names)
        columns = self.constants(len(designs)) | given
        unit = np.full((len(designs), len(self.names)), 0.5)
        sizes = np.ones_like(unit)
        known = dict(list(columns.items())[: len(self.fixed)])
        for name in self._order:
            at = self.names.index(name)
            for rows, domain in self._domains(known, np.arange(len(designs)), name):
                if domain is not None and name in given:
                    unit[rows, at] = _unit_of(domain, given[name][rows])
                    sizes[rows, at] = domain.size
            known[name] = columns.get(name, np.full(len(designs), self._missing(name)))
        return unit, sizes

    def _domains(
        self, columns: Columns, rows: NDArray[np.int64], name: str
    ) -> Iterator[tuple[NDArray[np.int64], Domain | None]]:
        """The domain of a parameter for some points, those left out that can be no designs."""
        known = {other: column[rows] for other, column in columns.items()}
        for group in grouped(known, len(rows)) if len(rows) else ():
            for some, valid, domain in domains(self.space, known, group, name):
                if domain is None:
                    yield rows[some], None
                    continue
                valid = valid & (np.asarray(domain.size) >= 1)
                yield rows[some[valid]], _of_some(domain, valid)

    # Legal designs.

    def legal(self, columns: Columns) -> Booleans:
        """Which designs meet every constraint, and what physics demands; (count,)."""
        count = len(next(iter(columns.values()))) if columns else 1
        if count == 0:
            return np.zeros(0, bool)
        return self.space.judge({**self.constants(count), **columns}).feasible

    def all(self, limit: int = 1 << 18) -> Iterator[Columns]:
        """Every legal design, in batches; see DesignSpace."""
        for columns in self.space.points(self.fixed, limit):
            legal = self.legal(columns)
            if legal.any():
                yield {name: columns[name][legal] for name in self.names}

    def sample(self, count: int, rng: np.random.Generator) -> list[Design]:
        """Different legal designs; see DesignSpace."""
        found: dict[Design, None] = {}
        drawn = 0
        while len(found) < count and drawn < MOST_DRAWS:
            if drawn >= FEW_DRAWS and self._listed is not None:
                return self._rest(found, count, rng)
            each = int(np.clip(4 * (count - len(found)), 256, FEW_DRAWS))
            columns, legal = self._legal_at(rng.random((each, len(self.names))))
            found |= dict.fromkeys(self._designs(columns, np.flatnonzero(legal)))
            drawn += each
        return list(found)[:count]

    def _rest(
        self, found: Mapping[Design, None], count: int, rng: np.random.Generator
    ) -> list[Design]:
        """Those found and others from the list of all, none twice."""
        assert self._listed is not None
        others: list[Design] = []
        for row in rng.permutation(len(self._listed)):
            if len(found) + len(others) >= count:
                break
            if self._listed[row] not in found:
                others.append(self._listed[row])
        return [*found, *others]

    @cached_property
    def _listed(self) -> list[Design] | None:
        """Every legal design, where the space is small."""
        listed = 0
        found: list[Design] = []
        try:
            for columns in self.space.points(self.fixed):
                listed += len(next(iter(columns.values()))) if columns else 1
                if listed > MOST_LISTED:
                    return None
                found += self._designs(columns, np.flatnonzero(self.legal(columns)))
        except UserError:
            return None
        return found

    def neighbours(self, design: Design, count: int, rng: np.random.Generator) -> list[Design]:
        """Legal designs one or a few steps away: most of one value or two, by one place up or
        down, or by as many as there are; domains that rest on them keep the place in them."""
        if not self.names:
            return []
        (at,), (sizes,) = self._places([design])
        tries = 8 * count + 32
        points = np.tile(at, (tries, 1))
        changed = np.minimum(rng.geometric(0.6, tries), len(self.names))
        order = rng.random(points.shape).argsort(axis=1).argsort(axis=1)
        moved = order < changed[:, None]
        far = self._words | (rng.random(points.shape) < 0.3)
        step = np.where(rng.random(points.shape) < 0.5, -1.0, 1.0) / np.minimum(sizes, 16.0)
        near = np.where((at + step < 0) | (at + step > 1), at - step, at + step)
        points = np.where(moved, np.where(far, rng.random(points.shape), near), points)
        found = dict.fromkeys(each for each in self.from_unit(points) if each is not None)
        found.pop(design, None)
        return list(found)[:count]

    # What a surrogate reads.

    def features(self, designs: Sequence[Design]) -> Floats:
        """Columns within 0..1; see DesignSpace. Words that a design does not have are zeros."""
        columns = columns_of(designs, self.names)
        found: list[np.ndarray] = [np.zeros((len(designs), 0))]
        for name in self.names:
            values = columns.get(name, np.full(len(designs), self._missing(name)))
            scale = self._scales[name]
            if isinstance(scale, tuple):
                found.append(np.stack([values == word for word in scale], axis=1) * 1.0)
            else:
                found.append(scale.of(values)[:, None])
        return np.concatenate(found, axis=1)

    @cached_property
    def _scales(self) -> Mapping[str, "_Scale | tuple[str, ...]"]:
        """How each parameter is read: a scale of numbers, or the words."""
        drawn, made = self._values_at(np.random.default_rng(0).random((1024, len(self.names))))
        found: dict[str, _Scale | tuple[str, ...]] = {}
        for name in self.names:
            known = self.space.parameters[name]
            if self._word(name):
                assert isinstance(known.domain, Choices)
                found[name] = tuple(str(word) for word in known.domain.values)
                continue
            seen = drawn[name][made & ~np.isnan(drawn[name])]
            domain = known.domain
            if known.depends and len(seen):
                domain = Interval(seen.min(), seen.max(), None, "")
            assert domain is not None
            found[name] = _Scale.of_domain(domain)
        return found

    # Names.

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return in_order(self.names, self.space.file)

    @cached_property
    def _words(self) -> Booleans:
        return np.array([self._word(name) for name in self.names], bool)

    def _word(self, name: str) -> bool:
        return isinstance(self.space.parameters[name].default, str)

    def _missing(self, name: str) -> str | float:
        return "" if self._word(name) else np.nan

    @cached_property
    def _fixed_values(self) -> Mapping[str, str | float]:
        given = given_values(self.space.parameters, self.fixed)
        return {
            name: value if isinstance(value, str) else float(value.magnitude)
            for name, value in given.items()
        }

    def constants(self, count: int) -> dict[str, np.ndarray]:
        """The fixed parameters as columns."""
        return {name: np.full(count, value) for name, value in self._fixed_values.items()}

    def _designs(self, columns: Columns, rows: NDArray[np.int64]) -> list[Design]:
        if not self.names:
            return [Design(())] * len(rows)
        return designs_of({name: columns[name] for name in self.names}, rows)


@dataclass(frozen=True)
class _Scale:
    """Where a number lies between the least and the greatest value of its parameter."""

    values: Floats
    """Of a list, sorted, at equal distances; else the two ends."""
    logarithm: bool

    @classmethod
    def of_domain(cls, domain: Domain) -> "_Scale":
        match domain:
            case Choices():
                numbers = [value for value in domain.values if not isinstance(value, str)]
                return cls(np.unique(np.array(numbers, float)), False)
            case Powers():
                return cls(np.array([domain.low, domain.high], float), True)
            case Interval():
                ends = np.array([domain.low, domain.high], float)
                return cls(ends, bool(ends[0] > 0 and ends[1] / ends[0] >= WIDE))

    def of(self, values: np.ndarray) -> Floats:
        """0 for the least, 1 for the greatest; 0.5 for a missing number."""
        known, ends = np.asarray(values, float), self.values
        if self.logarithm:
            known, ends = np.log(known), np.log(ends)
        if ends[0] == ends[-1]:
            return np.full(len(known), 0.5)
        return np.nan_to_num(np.interp(known, ends, np.linspace(0.0, 1.0, len(ends))), nan=0.5)


def _value_at(domain: Domain, unit: Floats) -> np.ndarray:
    """The values at points from 0 to 1 of a domain's list."""
    if isinstance(domain, Interval) and domain.step is None:
        return domain.at(unit)
    size = np.broadcast_to(np.asarray(domain.size, float), unit.shape)
    return domain.at(np.clip(np.floor(unit * size), 0, size - 1).astype(np.int64))


def _unit_of(domain: Domain, values: np.ndarray) -> Floats:
    place = np.asarray(domain.place(values), float)
    if isinstance(domain, Interval) and domain.step is None:
        return place
    return np.clip((place + 0.5) / np.asarray(domain.size, float), 0.0, 1.0)


def _of_some(domain: Domain, which: Booleans) -> Domain:
    """A domain of points as one of some of them."""

    def some(value: Any) -> Any:
        return value[which] if isinstance(value, np.ndarray) else value

    match domain:
        case Choices():
            return Choices(tuple(some(value) for value in domain.values), domain.text)
        case Powers():
            return Powers(some(domain.low), some(domain.high), domain.text)
        case Interval():
            ends = some(domain.low), some(domain.high)
            return Interval(*ends, some(domain.step), domain.text)
