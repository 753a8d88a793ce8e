"""A design evaluated at a fidelity: what was asked, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .design import Design

State = Literal["queued", "running", "done", "infeasible", "failed", "lost"]
"""done: it has figures. infeasible: evaluated, and it cannot do the work (figures may be there,
none is trusted). failed: the evaluation broke, as often as it was tried. lost: its worker was."""

ENDED: tuple[State, ...] = ("done", "infeasible", "failed")


@dataclass(frozen=True)
class Suggestion:
    """What a strategy wants to know next."""

    design: Design
    fidelity: str
    note: str = ""
    """Why, in a word or two."""


@dataclass(frozen=True)
class Outcome:
    """What an evaluator says of a design at a fidelity."""

    state: Literal["done", "infeasible", "failed"]
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """By the path of a key in the report ("latency_s", "memory.kv_bytes"); every one finite."""
    seconds: float = 0.0
    """Of one core, to evaluate."""
    reason: str = ""
    """Why it is not done."""


@dataclass(frozen=True)
class Trial:
    """A suggestion and what became of it; unique by design, fidelity and evaluator version."""

    number: int
    """In the order in which trials were asked for, from 0."""
    design: Design
    fidelity: str
    state: State
    outcome: Outcome | None = None
    attempts: int = 0
    note: str = ""
    worker: str = ""
