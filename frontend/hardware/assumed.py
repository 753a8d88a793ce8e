"""What is assumed of a design where its spec says nothing, so that nothing is assumed silently.

The defaults themselves are in core.py and build.py; docs/language.md states them. Importing this
module imports neither lark nor pint.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluate import View


@dataclass
class Assumptions:
    """What the parts of the system leave out, by part and field; of other parts nothing is kept."""

    found: dict[str, str] = field(default_factory=dict[str, str])
    _listening: bool = False

    @contextmanager
    def of_the_system(self) -> Iterator[None]:
        self._listening = True
        try:
            yield
        finally:
            self._listening = False

    def say(self, view: "View", name: str, text: str) -> None:
        """Of the part `view` nothing is written about `name`, and so `text` holds."""
        if self._listening:
            self.found[".".join((*view.path, name))] = f"{view.label}: {text}"
