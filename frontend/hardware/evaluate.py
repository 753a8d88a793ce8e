"""Names of one binding: what `pe.clock` stands for once parameters are chosen.

Expressions are expressions.py. Which fields a part has, and what they must measure, is fields.py;
the result is build.py.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...ir.errors import Location, UserError, nearest
from . import expressions, syntax
from .binding import AbsentError, Binding, Change, Changes, Value
from .files import SourceFile
from .view import View


@dataclass
class Scope:
    """The names of one file: its parameters, its parts and the files it uses.

    A copy (`wafer fast = wse with {..}`) is its original seen in a scope with `changes`.
    """

    file: SourceFile
    binding: Binding
    prefix: tuple[str, ...] = ()
    changes: Changes = field(default_factory=dict)
    evaluated: dict[tuple[str, ...], tuple[Value, frozenset[str]]] = field(default_factory=dict)
    """Values that are known, and which parameters were asked for them."""
    views: dict[str, "View"] = field(default_factory=dict[str, "View"])
    """Parts that have been asked for by name."""

    @cached_property
    def namespaces(self) -> dict[str, "Scope"]:
        return {
            name: Scope(file, self.binding, (*self.prefix, name), self.changes)
            for name, file in self.file.used.items()
        }

    @cached_property
    def parts(self) -> dict[str, syntax.Block | syntax.Copy]:
        """The parts that exist in this binding, by name."""
        return {
            name: part
            for name, part in self.file.parts.items()
            if isinstance(part, syntax.Copy) or self.holds(part.when)
        }

    def with_changes(self, changes: Changes) -> "Scope":
        return Scope(self.file, self.binding, self.prefix, {**self.changes, **changes})

    # Parameters, lets and conditions.

    def is_value(self, name: str) -> bool:
        """Whether a name is a parameter's or a let's."""
        return name in self.file.parameters or name in self.file.lets

    def named_value(self, name: str, location: Location | None) -> Value:
        """What a parameter was chosen to be, or its default; what a let is; raises UserError."""
        key = ("value", name)
        if key not in self.evaluated:
            with self.binding.evaluating((*self.prefix, *key), lambda: name, location):
                found, asked = self.binding.noting(lambda: self._named_value(name, location))
            own = not self.prefix and name in self.file.parameters
            self.evaluated[key] = found, asked | {name} if own else asked
        found, asked = self.evaluated[key]
        self.binding.asked |= asked
        return found

    def _named_value(self, name: str, location: Location | None) -> Value:
        declared = self.file.parameters.get(name)
        if declared is None:
            let = self.file.lets[name].value
            return self.binding.remembered(
                ("let", self.prefix, name), lambda: expressions.word_or_value(let, self), _is_single
            )
        if not self.exists(declared):
            assert declared.when is not None
            raise AbsentError(f"parameter {name} exists only when {declared.when.text}", location)
        if not self.prefix and name in self.binding.chosen:
            return self.binding.chosen[name]
        return expressions.word_or_value(declared.default, self)

    def exists(self, declared: syntax.ParameterSyntax) -> bool:
        """Whether a parameter exists in this binding."""
        return self.binding.of_all or self.holds(declared.when)

    def check_lets(self) -> None:
        """Raise UserError for a mistake in a let, used or not; one that rests on a parameter which
        does not exist, does not exist either."""
        for name in self.file.lets:
            with suppress(AbsentError):
                self.named_value(name, None)

    def holds(self, condition: syntax.Condition | None) -> bool:
        """Whether the condition of a `when` is met."""
        return expressions.holds(condition, self)

    def referenced(self, reference: syntax.Reference, view: "View | None") -> Value:
        """The value that a dotted name stands for; raises UserError for a part or a file."""
        found = self.find(reference, view)
        if isinstance(found, View | Scope):
            raise UserError(f"expected a number, got {_described(found)}", reference.location)
        return found

    # Names.

    def find(self, reference: syntax.Reference, view: "View | None") -> "Value | View | Scope":
        """What a dotted name stands for: the innermost block that knows it wins."""
        head, rest = reference.path[0], reference.path[1:]
        while view is not None:
            if view.has(head) and not self._is_evaluating(view, head):
                return view.follow(reference.path, reference)
            view = view.parent
        if self.is_value(head):
            if rest:
                raise UserError(f"the value {head} has no fields", reference.location)
            return self.named_value(head, reference.location)
        if head in self.parts:
            part = self.part_named(head, reference.location)
            return part.follow(rest, reference) if rest else part
        if head in self.namespaces:
            return self.namespaces[head].find_from_outside(rest, reference)
        if head in self.file.tables:
            example = f"{head}.{self.file.tables[head].names[-1]}(..)"
            raise UserError(
                f"a figure of table {head} needs its keys, as in '{example}'", reference.location
            )
        raise self._unknown(head, "name", reference.location)

    def find_from_outside(
        self, path: tuple[str, ...], reference: syntax.Reference
    ) -> "Value | View | Scope":
        """The rest of a name that began with this file's name in another file."""
        if not path:
            return self
        head, rest = path[0], path[1:]
        if self.is_value(head):
            return self.named_value(head, reference.location)
        if head in self.parts:
            part = self.part_named(head, reference.location)
            return part.follow(rest, reference) if rest else part
        only = self.only_part("technology")
        if only is None:
            raise self._unknown(head, "name", reference.location, f" in {self.file.name}")
        return only.follow(path, reference)

    def only_part(self, kind: str) -> "View | None":
        """The file's part of a kind, where it has exactly one."""
        names = [name for name, part in self.parts.items() if part.kind == kind]
        return self.part_named(names[0], self.parts[names[0]].location) if len(names) == 1 else None

    def part(self, reference: syntax.Reference, *kinds: str) -> "View":
        """The part of one of the kinds that a name, or a parameter's choice, stands for."""
        found: Value | View | Scope
        if len(reference.path) == 1 and self.is_value(reference.path[0]):
            found = self.named_value(reference.path[0], reference.location)
        else:
            found = self._found_part(reference, kinds)
        if isinstance(found, str):
            found = self._found_part(syntax.Reference((found,), reference.location), kinds)
        if isinstance(found, Scope):
            only = [part for part in map(found.only_part, kinds) if part is not None]
            found = only[0] if len(only) == 1 else found
        if isinstance(found, View) and found.block.kind in kinds:
            return found
        raise UserError(
            f"expected a {' or '.join(kinds)}, got {_described(found)}", reference.location
        )

    def _found_part(
        self, reference: syntax.Reference, kinds: tuple[str, ...]
    ) -> "Value | View | Scope":
        head = reference.path[0]
        if head not in self.parts and head not in self.namespaces:
            what = " or ".join(kinds) if len(kinds) < 3 else "part"
            raise self._unknown(head, what, reference.location)
        return self.find(reference, None)

    def part_named(self, name: str, location: Location) -> "View":
        """A part of this file by name; a copy is its original in a scope with the changes."""
        if name not in self.views:
            self.views[name] = self._part_named(name, location)
        return self.views[name]

    def _part_named(self, name: str, location: Location) -> "View":
        part = self.parts[name]
        if isinstance(part, syntax.Block):
            return View(part, self, (name,))
        with self.binding.evaluating((*self.prefix, "copy", name), lambda: name, location):
            original = self.part(part.original, part.kind)
            changes = dict(self._change(change, original) for change in part.changes)
        return original.copied(name, changes, self.changes)

    def _change(self, change: syntax.Item, original: "View") -> tuple[tuple[str, ...], Change]:
        if not isinstance(change, syntax.Field):
            raise UserError(
                "a copy changes fields only, as in 'with { tile.pe.clock = 1.3 GHz }'",
                change.location,
            )
        view = original
        for name in change.path.path[:-1]:
            view = view.child(name, change.location)
        return view.key(change.name), Change(change, self)

    def _is_evaluating(self, view: "View", name: str) -> bool:
        """Whether `name` is the very field whose value is being read: `clock = clock`."""
        trail = self.binding.trail
        return bool(trail) and name in view.fields and next(reversed(trail)) == view.step(name)

    def names(self) -> list[str]:
        file = self.file
        return [*file.parameters, *file.lets, *self.parts, *self.namespaces, *file.tables]

    def _unknown(self, name: str, what: str, location: Location, where: str = "") -> UserError:
        return UserError(f"unknown {what} '{name}'{where}{nearest(name, self.names())}", location)


def _is_single(value: Value) -> bool:
    """Whether a value is that of one point, and no array."""
    return isinstance(value, str) or not isinstance(value.magnitude, np.ndarray)


def _described(found: Value | View | Scope) -> str:
    match found:
        case View():
            return found.label
        case Scope():
            return f"the file {found.file.name}"
        case str():
            return f"the word '{found}'"
        case _:
            return "a number"
