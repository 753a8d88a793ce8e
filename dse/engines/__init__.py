"""Where trials are evaluated: in this process, in processes of this machine, on a Ray cluster.

All give the same results. An engine evaluates what it is given and knows neither store nor
strategy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..evaluator import Evaluator
from ..trial import Outcome, Trial

Ended = tuple[int, "Outcome | Lost"]
"""The number of a trial, and how its evaluation ended."""


@dataclass(frozen=True)
class Lost:
    """An evaluation whose worker died, or was killed for it hung."""

    reason: str
    seconds: float
    """That were spent on it."""


class Engine(Protocol):
    """Evaluates up to `workers` trials at once."""

    @property
    def workers(self) -> int: ...

    @property
    def place(self) -> str:
        """For people: where trials are evaluated."""
        ...

    def submit(self, trial: Trial, evaluator: Evaluator, folder: Path) -> None:
        """Begin to evaluate; `folder` is the trial's own, and gets its log."""
        ...

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        """What has ended since; waits up to so many seconds for something to."""
        ...

    def close(self) -> None:
        """Stop what runs, without waiting for it."""
        ...


def make_engine(
    name: str, workers: int, timeout_s: float | None = None, address: str | None = None
) -> Engine:
    """`local` or `ray`; without workers trials are evaluated in this process.

    Args:
        timeout_s: After which an evaluation counts as hung; in this process none does.
        address: Of a running Ray cluster; else one is started here.

    Raises:
        UserError: Ray is not installed, or nothing answers at the address.
    """
    if name == "ray":
        from .ray import RayEngine

        return RayEngine(max(workers, 1), timeout_s, address)
    if workers == 0:
        from .inline import InlineEngine

        return InlineEngine()
    from .local import LocalEngine

    return LocalEngine(workers, timeout_s)
