"""A study as reports read it: plain values, whoever searched and wherever they are kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .quantities import si, size, three_digits

Value = float | str

_SUFFIXES = {"_s": "s", "_w": "W", "_j": "J"}


@dataclass(frozen=True)
class Goal:
    """An objective: a figure of the report, and which way is better ("min" or "max")."""

    figure: str
    direction: str

    def __str__(self) -> str:
        return f"{self.direction}:{self.figure}"


@dataclass(frozen=True)
class Unit:
    """How a spec writes a parameter: its unit, and how much one of it is in SI."""

    name: str = ""
    one: float = 1.0


@dataclass(frozen=True)
class TrialRow:
    """A trial: a design at a fidelity, and what became of it."""

    number: int
    fidelity: str
    state: str
    values: Mapping[str, Value]
    """Parameters in SI, or words."""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0
    reason: str = ""
    attempts: int = 0
    note: str = ""
    worker: str = ""


@dataclass(frozen=True)
class StudyHead:
    """What a study searches, and how."""

    name: str
    hardware: str
    workloads: tuple[str, ...]
    """A line each, for a person."""
    goals: tuple[Goal, ...]
    limits: tuple[str, ...]
    fidelities: tuple[str, ...]
    """The cheapest first; the front is of the last."""
    strategy: str
    seed: int
    budget: str
    parameters: tuple[str, ...]
    units: Mapping[str, Unit] = field(default_factory=dict[str, Unit])

    def to_json(self) -> dict[str, Any]:
        """The keys that every object about a study begins with."""
        return {
            "name": self.name,
            "hardware": self.hardware,
            "workloads": list(self.workloads),
            "objectives": [str(goal) for goal in self.goals],
            "constraints": list(self.limits),
            "fidelities": list(self.fidelities),
            "strategy": self.strategy,
            "seed": self.seed,
            "budget": self.budget,
        }

    def value(self, name: str, value: Value, digits: int = 6) -> str:
        """A parameter's value as the spec writes it: `48 KiB`."""
        if isinstance(value, str):
            return value
        unit = self.units.get(name, Unit())
        return f"{value / unit.one:.{digits}g} {unit.name}".rstrip()

    def design(self, values: Mapping[str, Value]) -> str:
        """Values by name, in the order of the spec."""
        known = {name: at for at, name in enumerate(self.parameters)}
        ordered = sorted(values, key=lambda name: known.get(name, len(known)))
        return ", ".join(f"{name}={self.value(name, values[name])}" for name in ordered)


def unit_of(name: str) -> str:
    """The unit that the name of a figure ends in; empty where it ends in none."""
    plain = name.rpartition("/")[2].rpartition(".")[2]
    if plain.endswith("_bytes"):
        return "B"
    if plain.endswith("_mm2"):
        return "mm2"
    return next(
        (
            unit
            for suffix, unit in _SUFFIXES.items()
            if plain.endswith(suffix) and "_per_" not in plain
        ),
        "",
    )


def figure_text(name: str, value: float) -> str:
    """A figure of the report with the unit that its name ends in."""
    unit = unit_of(name)
    if unit == "B":
        return size(value)
    if unit in ("mm2", ""):
        return f"{three_digits(value)} {unit}".rstrip()
    return si(value, unit)


def duration(seconds: float) -> str:
    """A time as a person reads it: `48 s`, `12 min`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return si(seconds, "s") if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def trial_json(trial: TrialRow) -> dict[str, Any]:
    """A trial as JSON; its values in SI."""
    return {
        "trial": trial.number,
        "fidelity": trial.fidelity,
        "state": trial.state,
        "design": dict(trial.values),
        "figures": dict(trial.figures),
        "seconds": trial.seconds,
        "reason": trial.reason,
        "attempts": trial.attempts,
        "note": trial.note,
        "worker": trial.worker,
    }
