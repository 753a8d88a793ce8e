"""Names and expressions of one binding: what `pe.clock * 2` is worth once parameters are chosen.

Which fields a part has, and what they must measure, is fields.py; the result is build.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ...ir.errors import Location, UserError, nearest
from . import syntax, units
from .binding import Binding, Change, Changes, Value
from .conditions import check_names, check_words
from .files import SourceFile
from .units import Quantity

_ONE_KIND = {
    ("die", "cores"): "more than one kind of core in a die",
    ("wafer", "dies"): "more than one kind of die in a wafer",
    ("system", "wafers"): "more than one kind of wafer in a system",
}


@dataclass
class Scope:
    """The names of one file: its parameters, its parts and the files it uses.

    A copy (`wafer fast = wse with {..}`) is its original seen in a scope with `changes`.
    """

    file: SourceFile
    binding: Binding
    prefix: tuple[str, ...] = ()
    changes: Changes = field(default_factory=dict)
    evaluated: dict[tuple[str, ...], Value] = field(default_factory=dict)

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

    # Parameters and conditions.

    def parameter(self, name: str, location: Location | None) -> Value:
        """The chosen value of a parameter, or its default; raises UserError."""
        declared = self.file.parameters[name]
        key = ("param", name)
        if key not in self.evaluated:
            with self.binding.evaluating((*self.prefix, *key), name, location):
                self.evaluated[key] = self._parameter(declared, location)
        return self.evaluated[key]

    def _parameter(self, declared: syntax.ParameterSyntax, location: Location | None) -> Value:
        if declared.when is not None and not self.holds(declared.when):
            raise UserError(
                f"parameter {declared.name} exists only when {declared.when.text}", location
            )
        if not self.prefix and declared.name in self.binding.chosen:
            return self.binding.chosen[declared.name]
        return self.word_or_value(declared.default)

    def holds(self, condition: syntax.Condition | None) -> bool:
        """Whether the condition of a `when` is met; without one, always."""
        if condition is None:
            return True
        check_names(condition, self.file.parameters)
        left, right = (self.word_or_value(side) for side in (condition.left, condition.right))
        if isinstance(left, str) or isinstance(right, str):
            check_words(condition, self.file.parameters)
            return (left == right) == (condition.comparison == "==")
        units.same_dimension(left, right, condition.location)
        return {
            "==": left == right,
            "!=": left != right,
            "<=": left <= right,
            ">=": left >= right,
            "<": left < right,
            ">": left > right,
        }[condition.comparison]

    # Expressions.

    def word_or_value(self, expression: syntax.Expression, view: "View | None" = None) -> Value:
        """A value, where a name that stands for nothing else is a word."""
        if isinstance(expression, syntax.Reference) and len(expression.path) == 1:
            name = expression.path[0]
            if name not in self.file.parameters:
                return name
            return self.parameter(name, expression.location)
        return self.value(expression, view)

    def value(self, expression: syntax.Expression, view: "View | None" = None) -> Value:
        """What an expression is worth, read in the block `view`; raises UserError."""
        match expression:
            case syntax.Number():
                return units.quantity(expression.value, expression.unit, expression.location)
            case syntax.Reference():
                return self._referenced(expression, view)
            case syntax.Call():
                return self.binding.physics(expression, self)
            case syntax.Chain():
                return self._chain(expression, view)

    def number(self, expression: syntax.Expression, view: "View | None" = None) -> Quantity:
        """The same for an expression that must be a quantity."""
        value = self.value(expression, view)
        if isinstance(value, str):
            raise UserError(f"expected a number, got the word '{value}'", expression.location)
        return value

    def _chain(self, chain: syntax.Chain, view: "View | None") -> Quantity:
        result = self.number(chain.first, view)
        for sign, operand in chain.rest:
            result = units.combined(result, sign, self.number(operand, view), operand.location)
        return result

    def _referenced(self, reference: syntax.Reference, view: "View | None") -> Value:
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
        if head in self.file.parameters:
            if rest:
                raise UserError(f"parameter {head} has no fields", reference.location)
            return self.parameter(head, reference.location)
        if head in self.parts:
            part = self.part_named(head, reference.location)
            return part.follow(rest, reference) if rest else part
        if head in self.namespaces:
            return self.namespaces[head].find_from_outside(rest, reference)
        raise self._unknown(head, "name", reference.location)

    def find_from_outside(
        self, path: tuple[str, ...], reference: syntax.Reference
    ) -> "Value | View | Scope":
        """The rest of a name that began with this file's name in another file."""
        if not path:
            return self
        head, rest = path[0], path[1:]
        if head in self.file.parameters:
            return self.parameter(head, reference.location)
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
        if len(reference.path) == 1 and reference.path[0] in self.file.parameters:
            found = self.parameter(reference.path[0], reference.location)
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
            raise self._unknown(head, " or ".join(kinds), reference.location)
        return self.find(reference, None)

    def part_named(self, name: str, location: Location) -> "View":
        """A part of this file by name; a copy is its original in a scope with the changes."""
        part = self.parts[name]
        if isinstance(part, syntax.Block):
            return View(part, self, (name,))
        with self.binding.evaluating((*self.prefix, "copy", name), name, location):
            original = self.part(part.original, part.kind)
            changes = dict(self._change(change, original) for change in part.changes)
        return original.copied(name, changes, self.changes)

    def _change(
        self, change: syntax.Field | syntax.Block | syntax.Dead, original: "View"
    ) -> tuple[tuple[str, ...], Change]:
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
        return bool(trail) and trail[-1][0] == view.key(name)

    def names(self) -> list[str]:
        return [*self.file.parameters, *self.parts, *self.namespaces]

    def _unknown(self, name: str, what: str, location: Location, where: str = "") -> UserError:
        return UserError(f"unknown {what} '{name}'{where}{nearest(name, self.names())}", location)


@dataclass
class View:
    """A part, or a block inside one, in the scope that its expressions are read in."""

    block: syntax.Block
    scope: Scope
    path: tuple[str, ...]
    """The part's name and the names of the blocks down to this one."""
    parent: "View | None" = None

    @property
    def label(self) -> str:
        """How messages call it: `core pe`, `core pe: sram`."""
        if self.parent is None:
            return f"{self.block.kind} {self.path[0]}" if self.block.name else self.block.kind
        joint = ": " if self.parent.parent is None else "."
        return f"{self.parent.label}{joint}{self.block.title}"

    def key(self, name: str) -> tuple[str, ...]:
        return (*self.scope.prefix, *self.path, name)

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
    def fields(self) -> dict[str, syntax.Field]:
        """The fields as written here or changed by a copy; raises UserError for a repeated one."""
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
        here = self.key("")[:-1]
        changed = {k[-1]: c.field for k, c in self.scope.changes.items() if k[:-1] == here}
        return {**found, **changed}

    def _repeated(self, again: syntax.Field, first: syntax.Field) -> UserError:
        mixed = _ONE_KIND.get((self.block.kind, again.name))
        if mixed:
            return UserError(f"{self.label}: {mixed} is not built yet", again.location)
        return UserError(
            f"{self.label}: field {again.name} is repeated, first given on line "
            f"{first.location.line}",
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
        kinds = {"cores": "core", "dies": "die", "technology": "technology", "software": "software"}
        for given in self.fields.values():
            if isinstance(given.value, syntax.GridOf) and given.value.joint is not None:
                yield self.home(given.name).part(given.value.joint, "link")
            if given.name not in kinds:
                continue
            if isinstance(given.value, syntax.GridOf | syntax.CountOf):
                yield self.home(given.name).part(given.value.part, kinds[given.name])
            elif isinstance(given.value, syntax.Reference):
                yield self.home(given.name).part(given.value, kinds[given.name])

    def home(self, name: str) -> Scope:
        """The scope in which a field's value is read: a changed one in the file of the copy."""
        change = self.scope.changes.get(self.key(name))
        return change.scope if change else self.scope

    def reading(self, name: str) -> "View | None":
        """The block whose fields a field's value may name."""
        return None if self.key(name) in self.scope.changes else self

    def value(self, name: str, location: Location | None = None) -> Value:
        """A field's value, read from `location`; raises UserError where it is no single one."""
        given = self.fields[name]
        if isinstance(given.value, syntax.Pair | syntax.CountOf | syntax.GridOf):
            raise UserError(
                f"{self.label}: {name} is not a single number", location or given.value.location
            )
        cache, key = self.scope.evaluated, ("field", *self.key(name))
        if key not in cache:
            with self.scope.binding.evaluating(
                self.key(name), ".".join((*self.path, name)), location or given.location
            ):
                cache[key] = self.home(name).value(given.value, self.reading(name))
        return cache[key]

    def follow(self, path: tuple[str, ...], reference: syntax.Reference) -> "Value | View":
        """What the rest of a dotted name stands for inside this block."""
        head, rest = path[0], path[1:]
        block = self._block(head)
        if block is not None:
            return block.follow(rest, reference) if rest else block
        if head in self.fields and not rest:
            return self.value(head, reference.location)
        known = [*self.fields, *(view.path[-1] for view in self.blocks.values())]
        raise UserError(
            f"{self.label} has no field '{head}'{nearest(head, known)}", reference.location
        )


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
