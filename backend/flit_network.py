"""What a program's phases take on its network cycle by cycle: each distinct one simulated once.

A phase is asked for, then all that were asked for are simulated, and asking again answers. Phases
that are too large are judged by smaller ones: longer messages by shorter ones, long lines by short
ones, links between dies of broken periods by those of whole ones; each on the straight line through
two. `notes` says what was.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor

import numpy as np

from ..ir.errors import UserError
from ..ir.hardware import Hardware
from .flit_phases import LEAST_MEMBERS, LEAST_WORDS, LinePhase, Phase, SentPhase
from .flit_routers import PIECES, Floats, Routers
from .network import Fabric, Flows
from .noc.simulate import STEPS_PER_S, duration

PHASE_SHARE = 1 / 16
"""Of the budget that one phase may take before smaller ones stand for it."""

NOTES = (
    "network: routers simulated cycle by cycle, every distinct phase once on the row, column or "
    "patch of cores that stands for all",
    "network: phases that are in flight together share links by their loads, as at fluid",
    "network: no phase takes less than its closed form",
    "network: latency of links between dies is added; their buffers are taken to cover it",
)


@dataclass(frozen=True)
class Part:
    """A phase that is simulated, and its weight in the one that it stands for."""

    weight: float
    phase: Phase


@dataclass
class FlitNetwork:
    """The phases of one program. `answers` are cycles, of flows one each."""

    routers: Routers
    clock_hz: float
    asked: dict[Phase, None] = field(default_factory=dict[Phase, None])
    answers: dict[Phase, Floats] = field(default_factory=dict[Phase, Floats])
    parts: dict[Phase, tuple[Part, ...]] = field(default_factory=dict[Phase, tuple[Part, ...]])
    kept: dict[str, None] = field(default_factory=dict[str, None])
    """What keeps its closed form, in words."""

    @staticmethod
    def of(hardware: Hardware) -> "FlitNetwork":
        """The network of a system's wafers, before anything is asked."""
        return FlitNetwork(Routers.of(hardware), hardware.core.clock_hz)

    def cycles(self, phase: Phase) -> float:
        """Until all of a phase is done; 0 before it was simulated."""
        return float(self._answer(phase, 1).max())

    def _answer(self, phase: Phase, count: int) -> Floats:
        if not self.parts:
            self.asked[phase] = None
            return np.zeros(count)
        return self.answers[phase]

    def finish_s(self, fabric: Fabric, sent: Flows) -> Floats:
        """When each of some flows has arrived, sent at once: (flows,), in seconds. Zeros before
        they were simulated."""
        finish = np.zeros(len(sent))
        moving = np.flatnonzero(sent.travel)
        if len(moving):
            die = (fabric.die_rows, fabric.die_columns)
            period = self.routers.border_period
            phase = SentPhase.of(sent[moving], fabric.word_bytes, die, period)
            finish[moving] = self._answer(phase, len(moving)) / self.clock_hz
        return finish

    def keep(self, what: str) -> None:
        """Say what keeps its closed form."""
        self.kept[what] = None

    def simulate(self, budget_s: float) -> None:
        """Simulate what was asked for; raises UserError where that would take longer than the
        budget, in seconds of one processor."""
        budget = budget_s * STEPS_PER_S["flit"]
        self.parts = {phase: parts_of(phase, budget * PHASE_SHARE) for phase in self.asked}
        distinct = {part.phase: None for parts in self.parts.values() for part in parts}
        steps = sum(phase.steps for phase in distinct)
        if steps > budget:
            raise UserError(_too_much(len(distinct), steps, budget_s))
        found = {phase: phase.arrivals(self.routers) for phase in distinct}
        for phase, parts in self.parts.items():
            cycles = sum((part.weight * found[part.phase] for part in parts), start=0.0)
            self.answers[phase] = np.maximum(np.asarray(cycles), 0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What this level leaves out, assumes or extrapolates, in words."""
        counts = (
            (_by_words, "judged by shorter messages"),
            (_by_length, "judged by shorter lines"),
            (_by_period, "judged by links between dies of whole cycles a word"),
        )
        told = [
            f"network: {number} of {len(self.parts)} phases {what}"
            for changed, what in counts
            if (number := sum(any(changed(p, q.phase) for q in of) for p, of in self.parts.items()))
        ]
        return (*NOTES, *told, *(f"network: {what}" for what in self.kept))


def _by_words(phase: Phase, part: Phase) -> bool:
    return part.message_words < phase.message_words * (1 - 1e-9)


def _by_length(phase: Phase, part: Phase) -> bool:
    return (
        isinstance(phase, LinePhase)
        and isinstance(part, LinePhase)
        and (part.members < phase.members)
    )


def _by_period(phase: Phase, part: Phase) -> bool:
    return part.period != phase.period


def _too_much(phases: int, steps: int, budget_s: float) -> str:
    pieces = f"{steps / PIECES:.3g} words through routers in {phases} phases"
    takes = duration(steps / STEPS_PER_S["flit"])
    return (
        f"fidelity flit: simulating {pieces} would take about {takes}, and the budget is "
        f"{budget_s:g} s: raise --flit-budget, or use fluid"
    )


def parts_of(phase: Phase, most: float) -> tuple[Part, ...]:
    """What is simulated for a phase, if possible of no more than `most` steps each."""
    whole = floor(phase.period)
    if whole != phase.period:
        slow = replace(phase, period=float(whole + 1))
        return _between(replace(phase, period=float(whole)), slow, phase.period - whole, most)
    if phase.steps <= most:
        return (Part(1.0, phase),)
    if phase.message_words > 2 * LEAST_WORDS:
        return _by_shorter_messages(phase, most)
    if isinstance(phase, LinePhase) and phase.members > 2 * LEAST_MEMBERS and phase.parted:
        return _by_shorter_lines(phase, most)
    return (Part(1.0, phase),)


def _between(small: Phase, large: Phase, at: float, most: float) -> tuple[Part, ...]:
    """A straight line through two phases, which is at the first for 0 and at the second for 1."""
    return (
        *_weighted(1 - at, parts_of(small, most)),
        *_weighted(at, parts_of(large, most)),
    )


def _weighted(weight: float, parts: Sequence[Part]) -> list[Part]:
    return [Part(weight * part.weight, part.phase) for part in parts]


def _by_shorter_messages(phase: Phase, most: float) -> tuple[Part, ...]:
    """Both together take about as long as one phase may. Far apart, as what comes of how a phase
    begins and ends does not grow with its messages evenly."""
    words = phase.message_words
    large = max(LEAST_WORDS, floor(words * most / phase.steps / 1.25))
    small = large // 4
    at = (words - small) / (large - small)
    return _between(phase.with_words(small / words), phase.with_words(large / words), at, most)


def _by_shorter_lines(phase: LinePhase, most: float) -> tuple[Part, ...]:
    """Parts of members stay as long as they are; dies are not cut."""
    die = phase.die_cores // phase.stride
    large = max(LEAST_MEMBERS, floor(phase.members * (most / phase.steps / 1.25) ** 0.5))
    small = large // 4
    if 0 < die < phase.members:
        large = max(2 * die, large // die * die)
        small = max(die, small // die * die)
    if large >= phase.members:
        return (Part(1.0, phase),)
    at = (phase.members - small) / (large - small)
    return _between(phase.shorter(small), phase.shorter(large), at, most)
