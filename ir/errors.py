"""What may go wrong and whose fault it is.

`UserError` is the user's mistake: one message, never a traceback, exit code 2.
`VerificationError` is a representation that breaks its own rules: a bug of ours, exit code 3.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Location:
    """A place in a text file; line and column count from one."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = (self.file, self.line, self.column)
        return ":".join(str(part) for part in parts if part is not None)


class UserError(Exception):
    """A mistake in what the user gave us: a file, a flag, a name, a pin."""

    def __init__(self, message: str, location: Location | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.location = location

    def __str__(self) -> str:
        if self.location is None:
            return f"error: {self.message}"
        return f"{self.location}: error: {self.message}"


class VerificationError(Exception):
    """A representation that is not valid: names the op or part, and the rule it breaks."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the known name closest to `name`, else an empty string."""
    matches = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f", did you mean '{matches[0]}'?" if matches else ""
