"""What a search wants: figures of the report to minimize or maximize, and limits on others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..ir.errors import UserError, nearest
from .design import Floats

Direction = Literal["min", "max"]

DIRECTIONS: Mapping[str, Direction] = {
    "latency_s": "min",
    "tokens_per_s": "max",
    "tokens_per_s_per_w": "max",
    "tokens_per_j": "max",
    "power_w": "min",
    "power_peak_w": "min",
    "power_nameplate_w": "min",
    "energy_j": "min",
    "mfu": "max",
    "cycles_per_layer": "min",
    "cost_usd": "min",
    "usd_per_million_tokens": "min",
    "hardware.area_mm2": "min",
    "hardware.wafers": "min",
    "hardware.cores": "min",
    "memory.peak_core_bytes": "min",
    "noc.max_link_utilization": "min",
}
"""Which way is better, of the figures for which that is plain; others need `min:` or `max:`."""


@dataclass(frozen=True)
class Objective:
    """A figure by its path in the report, and which way is better. With several workloads in a
    study it may be of one of them: `decode/latency_s`."""

    figure: str
    direction: Direction

    def __str__(self) -> str:
        return f"{self.direction}:{self.figure}"

    @property
    def sign(self) -> float:
        """Times a figure, what is to be minimized."""
        return 1.0 if self.direction == "min" else -1.0


def read_objective(text: str) -> Objective:
    """`latency_s`, `max:tokens_per_s`, `min:decode/energy_j`; raises UserError."""
    way, _, rest = text.rpartition(":")
    figure = rest.strip()
    plain = figure.rpartition("/")[2]
    if way in ("min", "max") and figure:
        return Objective(figure, way)
    if way:
        raise UserError(f"--objective {text}: expected 'min:' or 'max:' before a figure")
    if plain not in DIRECTIONS:
        raise UserError(
            f"--objective {text}: say 'min:{figure}' or 'max:{figure}'{nearest(plain, DIRECTIONS)}"
        )
    return Objective(figure, DIRECTIONS[plain])


@dataclass(frozen=True)
class Limit:
    """An outcome constraint: a design that breaks it is not on the front."""

    figure: str
    relation: Literal["<=", ">="]
    value: float

    def __str__(self) -> str:
        return f"{self.figure} {self.relation} {self.value:.15g}"

    def excess(self, figures: Mapping[str, float]) -> float:
        """How far the limit is broken, in the figure's unit; not above zero where it holds."""
        gap = figures[self.figure] - self.value
        return gap if self.relation == "<=" else -gap


_LIMIT = re.compile(r"\s*([\w./]+)\s*(<=|>=)\s*([-+0-9.eE]+)\s*")


def read_limit(text: str) -> Limit:
    """`power_w <= 15000`; raises UserError."""
    match = _LIMIT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        figure, relation, value = match.groups()
        return Limit(figure, "<=" if relation == "<=" else ">=", float(value))
    except ValueError:
        raise UserError(
            f"--constraint {text!r}: expected a figure, <= or >=, and a number in SI, "
            "as in 'power_w <= 15000'"
        ) from None


def losses(figures: Sequence[Mapping[str, float]], objectives: Sequence[Objective]) -> Floats:
    """What is to be minimized, of each set of figures: (sets, objectives)."""
    rows = [[each.sign * row[each.figure] for each in objectives] for row in figures]
    return np.array(rows, dtype=np.float64).reshape(len(figures), len(objectives))
