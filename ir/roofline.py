"""Operators against what a core can do at most: FLOP/s over FLOPs a byte (Williams, Waterman and
Patterson, Communications of the ACM 52(4), 2009)."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RooflinePoint:
    """An operator, or a whole layer, in one run on one core."""

    name: str
    kind: str
    memory: str
    """Which of the memories its bytes are of."""
    flops: float
    """Of the matrix and the vector unit; a multiply-add is two."""
    bytes: float
    seconds: float
    """That are laid to it: arithmetic, launches, and waiting for its messages."""
    working_s: float
    """Of these, arithmetic."""

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes

    @property
    def attained(self) -> float:
        """FLOP/s."""
        return self.flops / self.seconds


@dataclass(frozen=True)
class Roofline:
    """The roofs of a core, and where operators lie below them."""

    peaks: Mapping[str, float]
    """FLOP/s by unit."""
    bandwidths: Mapping[str, float]
    """Bytes/s by memory, both ways."""
    points: tuple[RooflinePoint, ...]

    def roof(self, point: RooflinePoint) -> float:
        """FLOP/s at most at a point's intensity."""
        return min(max(self.peaks.values()), self.bandwidths[point.memory] * point.intensity)
