"""What is going on, on standard error and only where a person watches; and how long it took."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

logger = logging.getLogger(__name__)

_DOING = {
    "trace": "tracing the model",
    "compile": "mapping it onto the wafer",
    "evaluate": "evaluating the program",
    "explain": "evaluating what would help",
    "verify": "running it on virtual devices",
}


class Progress:
    """Steps of a run: each is timed, and shown while it lasts unless `quiet` or not a terminal."""

    def __init__(self, quiet: bool) -> None:
        self.shown = not quiet and sys.stderr.isatty()

    @contextmanager
    def step(self, name: str, spent: dict[str, float]) -> Iterator[None]:
        """Time a step (`trace`, `compile`, `evaluate`, `explain`, `verify`) into `spent`."""
        started = perf_counter()
        if self.shown:
            from rich.console import Console

            with Console(stderr=True).status(_DOING[name]):
                yield
        else:
            yield
        spent[name] = perf_counter() - started
        logger.info("%s took %.3f s", name, spent[name])
