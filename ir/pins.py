"""What a user pins of the mapping; None where the search may choose."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pins:
    """The parts of a mapping that are fixed from outside."""

    dp: int | None = None
    pp: int | None = None
    region: tuple[int, int] | None = None
    """Rows and columns of cores; `tp=RxC` is the same pin."""
    microbatch: int | None = None
    """Sequences."""
