"""The workloads of a study: which steps every design is judged on, and their figures together.

Several workloads stay apart (`separate`: figures are asked by name, "decode/latency_s"), or become
one set of figures as well: those of a mix in which every step runs as often as its weight
(`weighted`), or of each figure the worst (`worst`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..frontend.model import ModelConfig, trace_key
from ..ir.graph import Phase
from ..ir.program import Workload
from ..ir.store import digest
from .objective import DIRECTIONS

Combine = Literal["separate", "weighted", "worst"]
Figures = Mapping[str, Any]
"""Numbers, or arrays with one entry a design, by the path of a key in the report."""


@dataclass(frozen=True)
class Task:
    """One step of a model that every design is judged on."""

    name: str
    """What its figures are called by where there are several: "decode/latency_s"."""
    config: ModelConfig
    phase: Phase
    batch: int = 1
    sequence: int = 2048
    context: int = 2048
    weight: float = 1.0
    """How often it runs in a mix, relative to the others."""

    @property
    def workload(self) -> Workload:
        """The step, as the compiler has it."""
        return Workload(self.phase, self.batch, self.sequence, self.context, self.config.dtype)

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.batch * (1 if self.phase == "decode" else self.sequence)

    @cached_property
    def key(self) -> str:
        """What tells this step from every other, its name and weight left out."""
        sizes = self.batch, self.sequence, self.context
        return digest(trace_key(self.config, self.phase), self.config.dtype, repr(sizes))


def together(tasks: Sequence[Task], figures: Sequence[Figures], combine: Combine) -> dict[str, Any]:
    """The figures of a design from those of each task; plain names of several that stay apart are
    only of what all have in common, such as its area."""
    if len(tasks) == 1:
        return dict(figures[0])
    named = {
        f"{task.name}/{name}": value
        for task, own in zip(tasks, figures, strict=True)
        for name, value in own.items()
    }
    match combine:
        case "separate":
            return {**named, **{name: figures[0][name] for name in figures[0] if shared(name)}}
        case "weighted":
            return {**named, **_mixed(tasks, figures)}
        case "worst":
            return {**named, **_worst(figures)}


def shared(figure: str) -> bool:
    """Whether a figure is of the hardware alone, the same for every workload."""
    of_system = figure.startswith("hardware.") and figure != "hardware.peak_flops"
    return of_system or figure in ("power_nameplate_w", "cost_usd")


def _common(figures: Sequence[Figures]) -> list[str]:
    return [name for name in figures[0] if all(name in own for own in figures)]


def _worst(figures: Sequence[Figures]) -> dict[str, Any]:
    """Of each figure the greatest, or the least of those of which more is better."""
    return {
        name: (_least if DIRECTIONS.get(name) == "max" else _most)([own[name] for own in figures])
        for name in _common(figures)
    }


def _mixed(tasks: Sequence[Task], figures: Sequence[Figures]) -> dict[str, Any]:
    """Figures of a mix of steps: what a step takes is averaged over steps, what a second takes over
    time, what tokens cost over tokens; of all else it is the greatest."""
    steps = [task.weight for task in tasks]
    time = [task.weight * own["latency_s"] for task, own in zip(tasks, figures, strict=True)]
    tokens = [task.weight * task.tokens for task in tasks]
    found: dict[str, Any] = {}
    for name in _common(figures):
        values = [own[name] for own in figures]
        if name in ("latency_s", "energy_j") or name.startswith(("breakdown.", "energy.")):
            found[name] = _mean(values, steps)
        elif name in ("tokens_per_s", "power_w", "mfu", "noc.mean_link_utilization"):
            found[name] = _mean(values, time)
        elif name == "usd_per_million_tokens":
            found[name] = _mean(values, tokens)
        else:
            found[name] = _most(values)
    return found | efficiencies(found)


EFFICIENCIES = ("tokens_per_j", "tokens_per_s_per_w")


def efficiencies(figures: Figures) -> dict[str, Any]:
    """Tokens for a joule, under both names that they are known by."""
    if not {"tokens_per_s", "latency_s", "energy_j"} <= figures.keys():
        return {}
    each = figures["tokens_per_s"] * figures["latency_s"] / figures["energy_j"]
    return dict.fromkeys(EFFICIENCIES, each)


def _mean(values: Sequence[Any], weights: Sequence[Any]) -> Any:
    with np.errstate(invalid="ignore"):  # inf of a design that cannot do the work
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _most(values: Sequence[Any]) -> Any:
    return _plain(np.maximum.reduce(values))


def _least(values: Sequence[Any]) -> Any:
    return _plain(np.minimum.reduce(values))


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
