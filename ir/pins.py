"""What a user pins of the mapping; None where the search may choose."""

from dataclasses import dataclass
from typing import Literal

from .errors import UserError


@dataclass(frozen=True)
class Pins:
    """The parts of a mapping that are fixed from outside."""

    dp: int | None = None
    pp: int | None = None
    region: tuple[int, int] | None = None
    """Rows and columns of cores; `tp=RxC` is the same pin."""
    microbatch: int | None = None
    """Sequences."""
    recompute: Literal["none", "selective", "full"] | None = None
    ep: int | None = None
    interleave: int | None = None
    zero: int | None = None
    streaming: bool | None = None
    weights: Literal["sram", "dram", "off-wafer"] | None = None
    """`off-wafer` is the same pin as streaming."""
    cache: Literal["sram", "dram"] | None = None

    def check_batch(self, batch: int) -> None:
        """Raise UserError where what is pinned does not divide the batch."""
        replicas, sequences = self.dp or 1, self.microbatch or 1
        if batch % (replicas * sequences):
            raise UserError(
                f"--mapping: dp={replicas} with microbatch={sequences} does not divide a batch "
                f"of {batch}"
            )
