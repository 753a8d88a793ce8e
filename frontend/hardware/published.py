"""Published figures of the chips that the shipped specs describe, beside what is computed of them.

They stand in specs/published.jsonl, a line a figure; what each is of a design is computed by
backend/physics/headline.py. A spec's own sources are in the spec.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .files import SHIPPED
from .units import unit_quantity

FLOPS_PER_S: Mapping[str, float] = {"TFLOP/s": 1e12, "PFLOP/s": 1e15}
"""Units that a spec does not write, to SI."""


@dataclass(frozen=True)
class Published:
    """One figure of a chip, as its makers or a paper give it."""

    spec: str
    figure: str
    """The key of backend/physics/headline.py."""
    value: float
    """In `unit`, with the digits that were published."""
    unit: str
    source: str
    note: str = ""
    """Why the computed one differs, or what of the spec rests on this one."""

    @property
    def scale(self) -> float:
        """One `unit` in SI."""
        if self.unit in FLOPS_PER_S:
            return FLOPS_PER_S[self.unit]
        return unit_quantity(self.unit or None).magnitude

    @property
    def places(self) -> int:
        """Digits published after the point."""
        return len(repr(self.value).partition(".")[2])


@dataclass(frozen=True)
class Compared:
    """A published figure and the computed one, in the published unit."""

    published: Published
    computed: float
    stated: float = 0.0
    """Share of the computed figure that the spec states rather than leaves to be computed."""

    @property
    def difference(self) -> float:
        """Of the computed figure, as a share of the published one."""
        return self.computed / self.published.value - 1

    @property
    def agrees(self) -> bool:
        """Whether the computed figure, rounded to the published digits, is the published one."""
        places, value = self.published.places, self.published.value
        return round(self.computed, places) == round(value, places)

    @property
    def text(self) -> str:
        """`22.44 PB/s, published 20 PB/s: +12%`; then what is stated, the source and the note."""
        unit = f" {self.published.unit}".rstrip()
        values = f"{spelt(self.computed)}{unit}, published {spelt(self.published.value)}{unit}"
        stated = f"{100 * self.stated:.0f}% of it stated; " if self.stated else ""
        note = f"; {self.published.note}" if self.published.note else ""
        return f"{values}: {self.verdict} ({stated}{self.published.source}{note})"

    @property
    def verdict(self) -> str:
        return "as published" if self.agrees else f"{100 * self.difference:+.2g}%"


def spelt(value: float) -> str:
    """Four digits, and whole numbers in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def published_figures(spec: Path) -> tuple[Published, ...]:
    """The published figures of the chip that a shipped spec describes, in the order of their file;
    none of any other file."""
    if spec.resolve().parent != SHIPPED.resolve():
        return ()
    lines = (SHIPPED / "published.jsonl").read_text(encoding="utf-8").splitlines()
    figures = (Published(**json.loads(line)) for line in lines)
    return tuple(figure for figure in figures if figure.spec == spec.stem)


def compare(
    published: tuple[Published, ...], computed: Mapping[str, tuple[float, float]]
) -> tuple[Compared, ...]:
    """Published figures beside computed ones; a figure that was not computed is left out.

    `computed` gives, by key, the figure in SI and the share of it that the spec states.
    """
    return tuple(
        Compared(figure, computed[figure.figure][0] / figure.scale, computed[figure.figure][1])
        for figure in published
        if figure.figure in computed
    )
