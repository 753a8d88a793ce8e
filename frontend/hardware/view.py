"""A part of a spec, or a block inside one, in the scope that its expressions are read in.

What its names stand for is evaluate.py; what it must hold is fields.py.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ...ir.errors import Location, UserError, nearest
from . import expressions, syntax
from .binding import Changes, Value

if TYPE_CHECKING:
    from .evaluate import Scope

PART_KINDS = (
    *("technology", "software", "network", "memory", "core", "link", "die", "switch"),
    *("wafer", "node"),
)
REFERRED = ("technology", "software", "router", "switch")
"""Fields that name a part by itself, without a count."""

_SEVERAL = {
    "cores": "another kind of core is placed, as in 'place 2 x 8 of big at 0, 0'",
    "dies": "another kind of die is placed, as in 'place 4 x 7 of decode at 8, 0'",
    "wafers": "all wafers of a system are of one kind",
}
"""What to say where a field is repeated for want of the right form."""


@dataclass
class View:
    """A part, or a block inside one, in the scope that its expressions are read in."""

    block: syntax.Block
    scope: "Scope"
    path: tuple[str, ...]
    """The part's name and the names of the blocks down to this one."""
    parent: "View | None" = None
    read: dict[tuple[str, Any], tuple[Any, frozenset[str]]] = field(
        default_factory=dict[tuple[str, Any], tuple[Any, frozenset[str]]]
    )
    """Fields that have been read of it, by name and clock, as they are in SI, and which parameters
    were asked for them."""

    @cached_property
    def label(self) -> str:
        """How messages call it: `core pe`, `core pe: sram`."""
        if self.parent is None:
            return f"{self.block.kind} {self.path[0]}" if self.block.name else self.block.kind
        joint = ": " if self.parent.parent is None else "."
        return f"{self.parent.label}{joint}{self.block.title}"

    def key(self, name: str) -> tuple[str, ...]:
        return (*self.scope.prefix, *self.path, name)

    def step(self, name: str) -> Hashable:
        """What evaluating a field is called, to find cycles: a copy's field is not its original's,
        on which it may rest."""
        return self.key(name), id(self.fields[name])

    def copied(self, name: str, changes: Changes, outer: Changes) -> "View":
        """This part under another name, with changed fields; `outer` changes of it win."""
        old, new = self.key("")[:-1], (*self.scope.prefix, name)
        own = {
            (*new, *key[len(old) :]): change
            for key, change in {**self.scope.changes, **changes}.items()
            if key[: len(old)] == old
        }
        winning = {key: change for key, change in outer.items() if key[: len(new)] == new}
        scope = self.scope.with_changes({**changes, **own, **winning})
        return View(self.block, scope, (name,))

    @cached_property
    def fields(self) -> Mapping[str, syntax.Field]:
        """The fields as written here or changed by a copy; raises UserError for a repeated one."""
        written = self.scope.binding.memo.written.get(id(self.block))
        if written is None:
            written = self.scope.binding.memo.written[id(self.block)] = self._written()
        if not self.scope.changes:
            return written
        here = self.key("")[:-1]
        changed = {k[-1]: c.field for k, c in self.scope.changes.items() if k[:-1] == here}
        return {**written, **changed}

    def _written(self) -> dict[str, syntax.Field]:
        found: dict[str, syntax.Field] = {}
        for item in self.block.items:
            if not isinstance(item, syntax.Field):
                continue
            if len(item.path.path) > 1:
                raise UserError(
                    f"expected the name of a field, got '{item.path}': a dotted name belongs "
                    "in a copy",
                    item.location,
                )
            if item.name in found:
                raise self._repeated(item, found[item.name])
            found[item.name] = item
        return found

    def _repeated(self, again: syntax.Field, first: syntax.Field) -> UserError:
        instead = _SEVERAL.get(again.name)
        return UserError(
            f"{self.label}: field {again.name} is repeated, first given on line "
            f"{first.location.line}" + (f"; {instead}" if instead else ""),
            again.location,
        )

    @cached_property
    def blocks(self) -> dict[str, "View"]:
        """The inner blocks that exist in this binding, by kind and name."""
        found: dict[str, View] = {}
        for item in self.block.items:
            if not isinstance(item, syntax.Block) or not self.scope.holds(item.when):
                continue
            if item.title in found:
                raise UserError(
                    f"{self.label}: {item.title} is repeated, first given on line "
                    f"{found[item.title].block.location.line}",
                    item.location,
                )
            found[item.title] = View(item, self.scope, (*self.path, item.name or item.kind), self)
        return found

    def has(self, name: str) -> bool:
        return name in self.fields or self._block(name) is not None

    def _block(self, name: str) -> "View | None":
        named = (view for view in self.blocks.values() if view.path[-1] == name)
        return next(named, None)

    def child(self, name: str, location: Location) -> "View":
        """The inner block, or the part that a field of this one refers to, called `name`."""
        block = self._block(name)
        if block is not None:
            return block
        parts = {view.path[0]: view for view in self._parts()}
        if name in parts:
            return parts[name]
        known = [*parts, *(view.path[-1] for view in self.blocks.values())]
        raise UserError(f"{self.label} has no part '{name}'{nearest(name, known)}", location)

    def _parts(self) -> Iterator["View"]:
        """The parts that this one refers to."""
        for given in self.fields.values():
            home = self.home(given.name)
            match given.value:
                case syntax.GridOf(part=part, joint=joint) | syntax.CountOf(part=part, joint=joint):
                    yield home.part(part, *PART_KINDS)
                    if joint is not None:
                        yield home.part(joint, "link")
                case syntax.Reference() if given.name in REFERRED:
                    yield home.part(given.value, *PART_KINDS)
                case _:
                    pass
        for item in self.block.items:
            if isinstance(item, syntax.Place):
                yield self.scope.part(item.part, *PART_KINDS)

    def home(self, name: str) -> "Scope":
        """The scope in which a field's value is read: a changed one in the file of the copy."""
        change = self.scope.changes.get(self.key(name))
        return change.scope if change else self.scope

    def reading(self, name: str) -> "View | None":
        """The block whose fields a field's value may name."""
        return None if self.key(name) in self.scope.changes else self

    def value(self, name: str, location: Location | None = None) -> Value:
        """A field's value, read from `location`; raises UserError where it is no single one."""
        given = self.fields[name]
        written = given.value
        if isinstance(written, syntax.Pair | syntax.CountOf | syntax.GridOf):
            raise UserError(
                f"{self.label}: {name} is not a single number", location or written.location
            )
        cache, key = self.scope.evaluated, ("field", *self.key(name))
        binding = self.scope.binding
        if key not in cache:
            label = partial(".".join, (*self.path, name))
            with binding.evaluating(self.step(name), label, location or given.location):
                cache[key] = binding.noting(
                    lambda: expressions.value(written, self.home(name), self.reading(name))
                )
        found, asked = cache[key]
        binding.asked |= asked
        return found

    def follow(self, path: tuple[str, ...], reference: syntax.Reference) -> "Value | View":
        """What the rest of a dotted name stands for inside this block."""
        head, rest = path[0], path[1:]
        block = self._block(head)
        if block is not None:
            return block.follow(rest, reference) if rest else block
        if head in self.fields:
            if rest:
                raise UserError(f"{self.label}: {head} has no fields", reference.location)
            return self.value(head, reference.location)
        known = [*self.fields, *(view.path[-1] for view in self.blocks.values())]
        raise UserError(
            f"{self.label} has no field '{head}'{nearest(head, known)}", reference.location
        )
