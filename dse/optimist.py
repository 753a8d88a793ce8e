"""Figures that no evaluation of a design can beat: from the design bound, and from physics.

Latency and throughput rest on the design bound (backend/design_bound.py); energy on the least
arithmetic and on what is drawn all the time; area, cost and nameplate power are exact. Average
power has none: a bound on time bounds it from the wrong side.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend.design_bound import latency_s, memory_s
from ..backend.physics.cost import system_usd, usd_per_million_tokens
from ..backend.physics.power import power
from ..frontend.hardware.batch import chosen_of, trees
from ..ir.errors import UserError
from ..ir.hardware import Hardware
from .asked import Asked
from .design import Columns, Floats
from .hardware_space import HardwareDesigns
from .mapped import MappedEvaluator
from .objective import Objective
from .workloads import EFFICIENCIES, Task, together

Figures = dict[str, Any]

LOWER = ("latency_s", "energy_j", "usd_per_million_tokens")
"""Figures of which the least is known, and no more."""
UPPER = ("tokens_per_s", "mfu", *EFFICIENCIES)
EXACT = ("power_nameplate_w", "cost_usd", "hardware.area_mm2", "hardware.wafers", "hardware.cores")
INSTEAD = {
    "power_w": "energy_j or power_nameplate_w",
    "power_peak_w": "power_nameplate_w",
}


@dataclass(frozen=True)
class DesignOptimist:
    """The best conceivable figures of designs for what an evaluator judges them on."""

    designs: HardwareDesigns
    evaluator: MappedEvaluator
    _asked: dict[tuple[object, ...], Asked] = field(
        default_factory=dict[tuple[object, ...], Asked], repr=False, compare=False
    )
    """Of every task, by kind of hardware."""

    def proven(self, objective: Objective) -> str | None:
        """None, or why an objective has no optimistic figure."""
        name = objective.figure.rpartition("/")[2]
        ways = {**dict.fromkeys(LOWER, "min"), **dict.fromkeys(UPPER, "max")}
        if name in EXACT:
            return None
        if ways.get(name) == objective.direction:
            return None
        if name in ways:
            return f"how far {name} can go that way is not known"
        instead = INSTEAD.get(name)
        hint = f"; {instead} has one" if instead else ""
        return f"nothing bounds {name} but an evaluation{hint}"

    def optimistic(self, columns: Columns, objectives: Sequence[Objective]) -> Floats:
        """Losses that no evaluation of a design betters; see Optimist. Raises UserError for an
        objective that has none."""
        for objective in objectives:
            if (reason := self.proven(objective)) is not None:
                raise UserError(f"{objective}: {reason}")
        found = np.full((_count(columns), len(objectives)), np.inf)
        names = [objective.figure for objective in objectives]
        for rows, figures, able in self._by_tree(columns, names):
            for at, objective in enumerate(objectives):
                values = np.broadcast_to(figures[objective.figure], rows.shape)
                found[rows, at] = np.where(able, objective.sign * values, np.inf)
        return found

    def expected(self, columns: Columns, figures: Sequence[str]) -> Floats | None:
        """Figures as the bounds have them, average power from both; see Optimist."""
        found = np.full((_count(columns), len(figures)), np.nan)
        for rows, known, able in self._by_tree(columns, figures):
            if not set(figures) <= known.keys():
                return None
            for at, name in enumerate(figures):
                found[rows, at] = np.where(able, known[name], np.nan)
        return found

    def _by_tree(
        self, columns: Columns, names: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.intp], Figures, NDArray[np.bool_]]]:
        """Rows of designs that are one tree, their figures, and which may do the work."""
        points = {**self.designs.constants(_count(columns)), **columns}
        space = self.designs.space
        for tree in trees(space, points):
            if tree.valid.any():
                first = chosen_of(points, tree.rows[tree.valid][:1])
                some = _Some(tree.hardware, len(tree.rows), lambda first=first: space.bind(first))
                figures, able = self._figures(some, names)
                yield tree.rows, figures, able & tree.valid

    def _figures(self, some: "_Some", names: Sequence[str]) -> tuple[Figures, np.ndarray]:
        """The figures of designs of one tree, and which of them may do the work."""
        exact = {name: of(some.hardware) for name, of in _EXACT.items() if _wanted(name, names)}
        tasks = self.evaluator.tasks
        each = [self._of_task(task, some, names) for task in tasks]
        able = np.all([np.isfinite(figures["latency_s"]) for figures in each], axis=0)
        figures = together(tasks, [{**own, **exact} for own in each], self.evaluator.combine)
        return {**figures, **exact}, able

    def _of_task(self, task: Task, some: "_Some", names: Sequence[str]) -> Figures:
        hardware, count = some.hardware, some.count
        asked = self._asked_for(task, some)
        latency: Any = np.full(count, np.inf)
        for demand in asked.demands:
            least = np.maximum(latency_s(demand, hardware, count), memory_s(demand, hardware))
            latency = np.minimum(latency, least)
        joules = asked.least_energy_j(hardware, latency)
        with np.errstate(invalid="ignore"):
            watts = joules / latency
        found: Figures = {
            "latency_s": latency,
            "tokens_per_s": task.tokens / latency,
            "energy_j": joules,
            "power_w": watts,
        }
        found |= dict.fromkeys(EFFICIENCIES, task.tokens / joules)
        if _wanted("mfu", names):
            peak = hardware.peak_flops(task.config.dtype)
            found["mfu"] = asked.flops / (latency * peak)
        if _wanted("usd_per_million_tokens", names):
            found["usd_per_million_tokens"] = _dollars(hardware, watts, found)
        return found

    def _asked_for(self, task: Task, some: "_Some") -> Asked:
        """What a task asks for of hardware of this kind."""
        evaluator = self.evaluator
        key = task.key, evaluator.compiler(task, some.hardware).kind
        if key not in self._asked:
            self._asked[key] = evaluator.asked(task, evaluator.compiler(task, some.one()))
        return self._asked[key]


@dataclass(frozen=True)
class _Some:
    """Designs that are one tree."""

    hardware: Hardware
    """Figures are numbers, or arrays of `count`."""
    count: int
    one: Callable[[], Hardware]
    """The first of them alone."""


def _wanted(name: str, names: Sequence[str]) -> bool:
    return any(each.rpartition("/")[2] == name for each in names)


def _count(columns: Columns) -> int:
    return len(next(iter(columns.values()))) if columns else 1


def _dollars(hardware: Hardware, power_w: Any, found: Figures) -> Any:
    economy = hardware.economy
    if economy is None:
        raise UserError(
            "usd_per_million_tokens needs the lifetime and electricity of the spec's system"
        )
    return usd_per_million_tokens(
        system_usd(hardware),
        economy.lifetime_s,
        economy.utilization,
        power_w,
        economy.electricity_usd_per_j,
        found["tokens_per_s"],
    )


_EXACT: Mapping[str, Callable[[Hardware], Any]] = {
    "power_nameplate_w": power,
    "cost_usd": system_usd,
    "hardware.area_mm2": lambda hardware: hardware.wafers * hardware.wafer.area_m2 * 1e6,
    "hardware.wafers": lambda hardware: hardware.wafers,
    "hardware.cores": lambda hardware: hardware.cores,
}
