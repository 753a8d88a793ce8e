"""What is assumed of a design where its spec says nothing, so that nothing is assumed silently.

The defaults themselves are in core.py and grids.py; docs/language.md states them. Importing this
module imports neither lark nor pint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .view import View


@dataclass
class Assumptions:
    """What parts leave out, by part and field, and what holds instead."""

    _said: dict[str, Callable[[], str]] = field(default_factory=dict[str, Callable[[], str]])

    def say(self, view: "View", name: str, text: Callable[[], str]) -> None:
        """Of the part `view` nothing is written about `name`, and so `text()` holds."""
        self._said[".".join((*view.path, name))] = lambda: f"{view.label}: {text()}"

    def repeat(self, found: Mapping[str, str]) -> None:
        """All that was found elsewhere."""
        self._said |= {name: partial(str, text) for name, text in found.items()}

    @property
    def found(self) -> dict[str, str]:
        """By part and field, in words."""
        return {name: text() for name, text in self._said.items()}
