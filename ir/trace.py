"""What happens when in a step: pieces of work on tracks, and figures that change over time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TASKS = "micro-batches"
"""The track of a stage's work on one micro-batch after the other."""
MEMORY = "memory of the fullest core, bytes"
"""The sample of what a stage's fullest core holds, by kind."""

Details = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Slice:
    """A piece of work on a track of a group; those of one track do not overlap."""

    group: str
    track: str
    name: str
    start_s: float
    seconds: float
    details: Details = field(default_factory=dict[str, str | int | float])


@dataclass(frozen=True)
class Sample:
    """Figures of a group from a moment on, until the next sample of the same name."""

    group: str
    name: str
    at_s: float
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Arrow:
    """What goes from the beginning of one slice to that of the next, and so on."""

    name: str
    through: tuple[Slice, ...]
    """At least two, in the order in which they begin."""


@dataclass(frozen=True)
class Trace:
    """A step as it runs on the first replica."""

    slices: tuple[Slice, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    """What is left out, in words."""
    arrows: tuple[Arrow, ...] = ()
