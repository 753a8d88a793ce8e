"""What all files of one binding share: the chosen values, a guard against cycles, the changes.

The names and expressions that are evaluated with it are in evaluate.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ...ir.errors import Location, UserError
from . import syntax
from .units import Quantity

if TYPE_CHECKING:
    from .evaluate import Scope

Value: TypeAlias = Quantity | str
"""A quantity in SI, or a word such as `on`, `circuit`, `stitched`."""

Changes: TypeAlias = "Mapping[tuple[str, ...], Change]"
"""The fields that copies change, by the names of file, part and blocks down to the field."""

MAX_CHAIN = 60
"""References to references to references; a spec needs five."""


@dataclass(frozen=True)
class Change:
    """A field that a copy changes, and the file scope in which its value is read."""

    field: syntax.Field
    scope: "Scope"


@dataclass
class Binding:
    """The chosen values, the physics of constraints, and what is being evaluated."""

    chosen: Mapping[str, Value]
    physics: "Callable[[syntax.Call, Scope], Quantity]"
    trail: list[tuple[object, str]] = field(default_factory=list)

    @contextmanager
    def evaluating(self, key: object, label: str, location: Location | None) -> Iterator[None]:
        """Guard one step of evaluation against cycles and endless chains of references."""
        if key in [known for known, _ in self.trail]:
            start = [known for known, _ in self.trail].index(key)
            chain = " -> ".join([*(name for _, name in self.trail[start:]), label])
            raise UserError(f"{label} depends on itself: {chain}", location)
        if len(self.trail) >= MAX_CHAIN:
            raise UserError(f"references nest more than {MAX_CHAIN} deep", location)
        self.trail.append((key, label))
        try:
            yield
        finally:
            self.trail.pop()
