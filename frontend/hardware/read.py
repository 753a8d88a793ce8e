"""A block of a spec to SI values by name, checked against the tables of fields.py.

Every mistake in a field is found here; what must fit together is checked in build.py.
"""

from functools import partial
from typing import Any

import numpy as np

from ...ir.errors import Location, UserError, nearest
from . import expressions, syntax, units
from .binding import Binding
from .fields import (
    REQUIRED,
    Amount,
    BlockSpec,
    Count,
    CountOf,
    Duration,
    FieldSpec,
    FieldType,
    Grid,
    PartOf,
    Shape,
    Size,
    Spares,
    Word,
)
from .units import Dimension, Quantity
from .view import View

LARGEST_COUNT = 10_000_000
SMALLEST, LARGEST = 1e-60, 1e60
"""Of amounts in SI, far beyond any design: products of four of them are still numbers."""
FIT_TOLERANCE = 1e-9
"""Relative: less than this is what floating point adds."""


def read(view: View, spec: BlockSpec, clock_hz: Any = None) -> dict[str, Any]:
    """A block's fields by name in SI, its inner blocks checked and left to their own `read`.

    `clock_hz` joins cycles and seconds. Raises UserError for a name that the table does not
    have, a required one that is missing, and a value that its type refuses.
    """

    def fields() -> dict[str, Any]:
        _check_names(view, spec)
        return {name: read_field(view, name, spec.fields[name], clock_hz) for name in spec.fields}

    if view.scope.changes or isinstance(clock_hz, np.ndarray):
        return fields()
    key = ("fields", view.scope.prefix, id(view.block), clock_hz)
    return view.scope.binding.remembered(key, fields, _names_no_part)


def _names_no_part(values: dict[str, Any]) -> bool:
    """Whether none of a block's values is a part, which belongs to one binding."""
    return not any(
        isinstance(item, View)
        for value in values.values()
        for item in (value if isinstance(value, tuple) else (value,))
    )


def read_field(view: View, name: str, spec: FieldSpec, clock_hz: Any = None) -> Any:
    """One field in SI, or its default where it is not given; raises as `read` does."""
    if name in view.fields:
        if isinstance(clock_hz, np.ndarray):
            return _read_given(view, name, spec.type, clock_hz)
        key = name, clock_hz
        if key not in view.read:
            view.read[key] = view.scope.binding.noting(
                lambda: _read_given(view, name, spec.type, clock_hz)
            )
        value, asked = view.read[key]
        view.scope.binding.asked |= asked
        return value
    if spec.default is REQUIRED:
        raise UserError(f"{view.label}: field {name} is missing", view.block.location)
    return spec.default


def inner(view: View, kind: str) -> list[View]:
    """The inner blocks of a kind, in the order written."""
    return [block for block in view.blocks.values() if block.block.kind == kind]


def _check_names(view: View, spec: BlockSpec) -> None:
    known = [*spec.fields, *spec.blocks]
    for name, given in view.fields.items():
        if name not in spec.fields:
            raise unknown(view.label, "field", name, known, given.location)
    for block in view.blocks.values():
        kind = block.block.kind
        if kind not in spec.blocks:
            raise unknown(view.label, "block", kind, known, block.block.location)
        _check_block_name(view, block, spec.blocks[kind])
    for item in view.block.items:
        if isinstance(item, syntax.Dead) and view.block.kind != "defects":
            raise UserError(
                f"{view.label}: dead cores, dies and links stand in a wafer's 'defects {{ .. }}'",
                item.location,
            )
        if isinstance(item, syntax.Place) and not spec.places:
            raise UserError(
                f"{view.label}: other cores are placed in a die, other dies in a wafer",
                item.location,
            )
    for kind, wanted in spec.blocks.items():
        if not wanted.optional and not inner(view, kind):
            raise UserError(f"{view.label}: block {kind} is missing", view.block.location)


def _check_block_name(view: View, block: View, wanted: BlockSpec) -> None:
    kind, name, location = block.block.kind, block.block.name, block.block.location
    if wanted.named and name is None:
        example = f"{kind} {wanted.names[-1] if wanted.names else 'host'}"
        raise UserError(f"{view.label}: {kind} needs a name, as in '{example}'", location)
    if not wanted.named and name is not None:
        raise UserError(f"{view.label}: {kind} takes no name, got '{name}'", location)
    if wanted.names and name not in wanted.names:
        raise UserError(
            f"{view.label}: {kind} is on one of {', '.join(wanted.names)}, got '{name}'"
            f"{nearest(str(name), wanted.names)}",
            location,
        )


def unknown(label: str, what: str, name: str, known: list[str], location: Location) -> UserError:
    """The error for a field or block that the one called `label` does not have."""
    return UserError(f"{label} has no {what} '{name}'{nearest(name, known)}", location)


def _read_given(view: View, name: str, wanted: FieldType, clock_hz: Any) -> Any:
    given = view.fields[name].value
    label = f"{view.label}: {name}"
    binding = view.scope.binding
    match wanted:
        case Amount():
            value = _quantity(view, name, label)
            _check_dimension(value, wanted.dimension, label, given.location)
            return _in_range(value.magnitude, wanted, label, given.location, binding)
        case Duration():
            value = _quantity(view, name, label)
            return _duration(value, wanted, clock_hz, label, given.location, binding)
        case Count():
            value = _quantity(view, name, label)
            return _whole(value, wanted.least, label, given.location, binding)
        case Word():
            return _word(view, name, wanted, label)
        case PartOf(kind):
            if not isinstance(given, syntax.Reference):
                raise UserError(f"{label}: expected the name of a {kind}", given.location)
            return view.home(name).part(given, kind)
        case Size() | Shape():
            return _pair(view, name, wanted, label)
        case Grid():
            return _grid(view, name, wanted, label)
        case CountOf(kind):
            return _count_of(view, name, kind, label)
        case Spares():
            return _spares(_quantity(view, name, label), label, given.location, binding)


def whole(view: View, expression: syntax.Expression, least: int, label: str) -> Any:
    """A count that stands in a block outside its fields, as in a `place`."""
    value = expressions.number(expression, view.scope, view)
    return _whole(value, least, label, expression.location, view.scope.binding)


def _number(view: View, name: str, expression: syntax.Expression) -> Quantity:
    """One of the numbers of a field, such as the rows of a grid; it may not mean the field."""
    label = partial(".".join, (*view.path, name))
    with view.scope.binding.evaluating(view.step(name), label, expression.location):
        return expressions.number(expression, view.home(name), view.reading(name))


def _quantity(view: View, name: str, label: str) -> Quantity:
    value = view.value(name)
    if isinstance(value, str):
        location = view.fields[name].value.location
        raise UserError(f"{label}: expected a number, got the word '{value}'", location)
    return value


def _check_dimension(
    value: Quantity, wanted: Dimension, label: str, location: Location | None
) -> None:
    if not wanted.matches(value):
        raise UserError(
            f"{label}: expected {wanted.name}, as in '{wanted.example}', got "
            f"{units.dimension_name(value)}",
            location,
        )


def _in_range(value: Any, wanted: Amount, label: str, location: Location, binding: Binding) -> Any:
    if isinstance(value, np.ndarray):
        binding.require(np.isfinite(value), lambda: f"{label}: no finite number", location)
    least = "zero or more" if wanted.zero else "more than zero"
    holds = value >= 0 if wanted.zero else value > 0
    binding.require(holds, lambda: f"{label}: must be {least}", location)
    binding.require(value <= LARGEST, lambda: f"{label}: the number is too large", location)
    apart = (value == 0) | (value >= SMALLEST)
    binding.require(apart, lambda: f"{label}: the number is too small", location)
    if wanted.most is not None:
        binding.require(
            value <= wanted.most * (1 + FIT_TOLERANCE),
            lambda: f"{label}: must be at most {wanted.most:g}, got {value:g}",
            location,
        )
    return value


def _duration(
    value: Quantity,
    wanted: Duration,
    clock_hz: Any,
    label: str,
    location: Location,
    binding: Binding,
) -> Any:
    in_cycles = units.CYCLES.matches(value)
    if not in_cycles and not units.SECONDS.matches(value):
        raise UserError(
            f"{label}: expected cycles or seconds, as in '2 cycle' or '100 ns', got "
            f"{units.dimension_name(value)}",
            location,
        )
    if in_cycles and clock_hz is None:
        raise UserError(f"{label}: expected seconds, as no core's clock is near", location)
    within = Amount(wanted.read_as, zero=True)
    amount = _in_range(value.magnitude, within, label, location, binding)
    if in_cycles == (wanted.read_as is units.CYCLES):
        return amount
    joined = amount / clock_hz if in_cycles else amount * clock_hz
    return units.checked(Quantity(joined), location).magnitude


def _whole(value: Quantity, least: int, label: str, location: Location, binding: Binding) -> Any:
    _check_dimension(value, units.NUMBER, label, location)
    number = value.magnitude
    near = np.round(number) if isinstance(number, np.ndarray) else round(number)
    binding.require(
        abs(number - near) <= FIT_TOLERANCE * abs(number),
        lambda: f"{label}: expected a whole number, got {number:g}",
        location,
    )
    binding.require(
        (least <= near) & (near <= LARGEST_COUNT),
        lambda: f"{label}: expected {least} to {LARGEST_COUNT:,}, got {number:g}",
        location,
    )
    return near


def _word(view: View, name: str, wanted: Word, label: str) -> str:
    given = view.fields[name].value
    if isinstance(given, syntax.Pair | syntax.GridOf | syntax.CountOf):
        word = None
    else:
        word = expressions.word_or_value(given, view.home(name), view.reading(name))
    if not isinstance(word, str) or word not in wanted.allowed:
        got = f"'{word}'" if isinstance(word, str) else "a number"
        hint = nearest(word, wanted.allowed) if isinstance(word, str) else ""
        raise UserError(
            f"{label}: expected {' or '.join(wanted.allowed)}, got {got}{hint}", given.location
        )
    return word


def _pair(view: View, name: str, wanted: Size | Shape, label: str) -> tuple[Any, Any]:
    given = view.fields[name].value
    if not isinstance(given, syntax.Pair):
        example = "17 mm x 30 mm" if isinstance(wanted, Size) else "750 x 994"
        raise UserError(f"{label}: expected two numbers, as in '{example}'", given.location)
    first, second = (_number(view, name, side) for side in (given.first, given.second))
    binding, location = view.scope.binding, given.location
    if isinstance(wanted, Shape):
        rows, columns = (_whole(side, 1, label, location, binding) for side in (first, second))
        return rows, columns
    for value in (first, second):
        _check_dimension(value, units.METRES, label, location)
    within = Amount(units.METRES)
    height, width = (
        _in_range(value.magnitude, within, label, location, binding) for value in (first, second)
    )
    return height, width


def _grid(view: View, name: str, wanted: Grid, label: str) -> tuple[Any, Any, View, View | None]:
    given = view.fields[name].value
    example = "12 x 7 of tile joined stitched" if wanted.joined else "66 x 154 of pe"
    if not isinstance(given, syntax.GridOf) or (given.joint is not None) != wanted.joined:
        raise UserError(f"{label}: expected rows x columns, as in '{example}'", given.location)
    sides = (given.grid.first, given.grid.second)
    scope = view.home(name)
    rows, columns = (
        _whole(_number(view, name, side), 1, label, side.location, scope.binding) for side in sides
    )
    joint = scope.part(given.joint, "link") if given.joint else None
    return rows, columns, scope.part(given.part, wanted.kind), joint


def _count_of(view: View, name: str, kind: str, label: str) -> tuple[Any, View, View | None]:
    given = view.fields[name].value
    if not isinstance(given, syntax.CountOf):
        raise UserError(f"{label}: expected a count, as in '{_COUNTS[kind]}'", given.location)
    if given.joint is not None and kind == "memory":
        raise UserError(f"{label}: memories are not joined", given.joint.location)
    scope, location = view.home(name), given.location
    count = _whole(_number(view, name, given.count), 1, label, location, scope.binding)
    joint = None if given.joint is None else scope.part(given.joint, "link")
    return count, scope.part(given.part, kind), joint


_COUNTS = {"wafer": "1 of wse", "node": "16 of dgx joined fabric", "memory": "5 of hbm2e"}


def _spares(value: Quantity, label: str, location: Location, binding: Binding) -> tuple[Any, Any]:
    for dimension, place in ((units.ROWS, 0), (units.COLUMNS, 1)):
        if dimension.matches(value):
            spares = _whole(Quantity(value.magnitude), 0, label, location, binding)
            return (spares, 0) if place == 0 else (0, spares)
    raise UserError(
        f"{label}: expected rows or columns, as in '1 column', got {units.dimension_name(value)}",
        location,
    )
