"""One design of a space, and what a strategy may ask of the space.

A space of hardware is in hardware_space.py; a finite one with everything known in table.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = Mapping[str, np.ndarray]
"""Values of parameters, one entry a design: numbers in SI, or words; nan or "" where a parameter
does not exist."""


@dataclass(frozen=True)
class Design:
    """A value for every open parameter that exists in it, sorted by name."""

    values: tuple[tuple[str, float | str], ...]

    @classmethod
    def of(cls, values: Mapping[str, float | str]) -> "Design":
        """The design with these values; whole numbers become floats, so that 4 and 4.0 are one."""
        plain = {name: v if isinstance(v, str) else float(v) for name, v in values.items()}
        return cls(tuple(sorted(plain.items())))

    @cached_property
    def key(self) -> str:
        """What tells this design from every other: 16 hexadecimal digits of its values."""
        return sha256(json.dumps(self.values).encode()).hexdigest()[:16]

    def __getitem__(self, name: str) -> float | str:
        return dict(self.values)[name]

    def __str__(self) -> str:
        return ", ".join(
            f"{name}={value if isinstance(value, str) else format(value, 'g')}"
            for name, value in self.values
        )


class DesignSpace(Protocol):
    """The legal designs. Known constraints (area, reticle, power budget, yield) hold in all that
    it gives; nothing that breaks one becomes a trial."""

    @property
    def names(self) -> tuple[str, ...]:
        """The open parameters, in the order of the spec."""
        ...

    def sample(self, count: int, rng: np.random.Generator) -> list[Design]:
        """Up to `count` different legal designs, uniform over the parameters' values; fewer only
        where no more were found."""
        ...

    def from_unit(self, points: Floats) -> list[Design | None]:
        """The designs that points of the unit cube stand for, one axis a parameter; None where a
        point is not legal. (count, len(names))"""
        ...

    def to_unit(self, designs: Sequence[Design]) -> Floats:
        """The middle of what `from_unit` takes for each design: (count, len(names)); 0.5 for a
        parameter that a design does not have."""
        ...

    def features(self, designs: Sequence[Design]) -> Floats:
        """What a surrogate reads, every column within 0..1: numbers by their rank among the values
        or their logarithm, a column for each word of a choice. (count, features)"""
        ...

    def neighbours(self, design: Design, count: int, rng: np.random.Generator) -> list[Design]:
        """Up to `count` legal designs that differ from this one in one or a few parameters."""
        ...

    def all(self, limit: int = 1 << 18) -> Iterator[Columns]:
        """Every legal design of a finite space, in batches of about `limit`.

        Raises UserError for a parameter whose values cannot be listed.
        """
        ...


def columns_of(designs: Sequence[Design], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Designs as columns, those that none of the designs has left out."""
    rows = [dict(design.values) for design in designs]
    found: dict[str, np.ndarray] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        known = [value for value in values if value is not None]
        if not known:
            continue
        missing = "" if isinstance(known[0], str) else np.nan
        found[name] = np.array([missing if value is None else value for value in values])
    return found


def designs_of(columns: Columns, rows: NDArray[np.integer] | None = None) -> list[Design]:
    """Some rows of a batch (default: all) as designs; a batch without columns is the one design of
    a space that leaves nothing open."""
    count = len(next(iter(columns.values()))) if columns else 1
    plain = {name: column.tolist() for name, column in columns.items()}
    return [
        Design.of({name: values[row] for name, values in plain.items() if _exists(values[row])})
        for row in (range(count) if rows is None else rows.tolist())
    ]


def _exists(value: float | str) -> bool:
    """A missing number is nan, a missing word is empty."""
    return value != "" if isinstance(value, str) else value == value
