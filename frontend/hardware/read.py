"""A block of a spec to SI values by name, checked against the tables of fields.py.

Every mistake in a field is found here; what must fit together is checked in build.py.
"""

import math
from typing import Any

from ...ir.errors import Location, UserError, nearest
from . import syntax, units
from .evaluate import View
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

LARGEST_COUNT = 10_000_000


class NotBuiltError(UserError):
    """What the language knows and the tool does not do yet: refused where it would be used."""


def read(view: View, spec: BlockSpec, clock_hz: float | None = None) -> dict[str, Any]:
    """A block's fields by name in SI, its inner blocks checked and left to their own `read`.

    `clock_hz` joins cycles and seconds. Raises UserError for a name that the table does not
    have, a required one that is missing, and a value that its type refuses.
    """
    _check_names(view, spec)
    return {name: read_field(view, name, spec.fields[name], clock_hz) for name in spec.fields}


def read_field(view: View, name: str, spec: FieldSpec, clock_hz: float | None = None) -> Any:
    """One field in SI, or its default where it is not given; raises as `read` does."""
    if name in view.fields:
        return _read_given(view, name, spec.type, clock_hz)
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
            raise _unknown(view, "field", name, spec, known, given.location)
    for block in view.blocks.values():
        kind = block.block.kind
        if kind not in spec.blocks:
            raise _unknown(view, "block", kind, spec, known, block.block.location)
        _check_block_name(view, block, spec.blocks[kind])
    for item in view.block.items:
        if isinstance(item, syntax.Dead) and view.block.kind != "defects":
            raise UserError(
                f"{view.label}: dead cores and dies stand in a wafer's 'defects {{ .. }}'",
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


def _unknown(
    view: View, what: str, name: str, spec: BlockSpec, known: list[str], location: Location
) -> UserError:
    if name in spec.later:
        return NotBuiltError(f"{view.label}: {spec.later[name]}", location)
    return UserError(f"{view.label} has no {what} '{name}'{nearest(name, known)}", location)


def _read_given(view: View, name: str, wanted: FieldType, clock_hz: float | None) -> Any:
    given = view.fields[name].value
    label = f"{view.label}: {name}"
    match wanted:
        case Amount():
            value = _quantity(view, name, label)
            _check_dimension(value, wanted.dimension, label, given.location)
            return _in_range(value.magnitude, wanted, label, given.location)
        case Duration():
            return _duration(_quantity(view, name, label), wanted, clock_hz, label, given.location)
        case Count():
            return _whole(_quantity(view, name, label), wanted.least, label, given.location)
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
            if not isinstance(given, syntax.CountOf):
                raise UserError(f"{label}: expected a count, as in '1 of wse'", given.location)
            count = _whole(_number(view, name, given.count), 1, label, given.location)
            return count, view.home(name).part(given.part, kind)
        case Spares():
            return _spares(_quantity(view, name, label), label, given.location)


def _number(view: View, name: str, expression: syntax.Expression) -> Quantity:
    return view.home(name).number(expression, view.reading(name))


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


def _in_range(value: float, wanted: Amount, label: str, location: Location) -> float:
    if value < 0 or (value == 0 and not wanted.zero):
        least = "zero or more" if wanted.zero else "more than zero"
        raise UserError(f"{label}: must be {least}", location)
    if wanted.most is not None and value > wanted.most:
        raise UserError(f"{label}: must be at most {wanted.most:g}, got {value:g}", location)
    return value


def _duration(
    value: Quantity, wanted: Duration, clock_hz: float | None, label: str, location: Location
) -> float:
    in_cycles = units.CYCLES.matches(value)
    if not in_cycles and not units.SECONDS.matches(value):
        raise UserError(
            f"{label}: expected cycles or seconds, as in '2 cycle' or '100 ns', got "
            f"{units.dimension_name(value)}",
            location,
        )
    amount = _in_range(value.magnitude, Amount(wanted.read_as, zero=True), label, location)
    if in_cycles == (wanted.read_as is units.CYCLES):
        return amount
    assert clock_hz is not None
    joined = amount / clock_hz if in_cycles else amount * clock_hz
    if not math.isfinite(joined):
        raise UserError("the number is too large", location)
    return joined


def _whole(value: Quantity, least: int, label: str, location: Location) -> int:
    _check_dimension(value, units.NUMBER, label, location)
    number = float(value.magnitude)
    if number != round(number):
        raise UserError(f"{label}: expected a whole number, got {number:g}", location)
    if not least <= number <= LARGEST_COUNT:
        raise UserError(f"{label}: expected {least} to {LARGEST_COUNT:,}, got {number:g}", location)
    return round(number)


def _word(view: View, name: str, wanted: Word, label: str) -> str:
    given = view.fields[name].value
    if isinstance(given, syntax.Pair | syntax.GridOf | syntax.CountOf):
        word = None
    else:
        word = view.home(name).word_or_value(given, view.reading(name))
    if isinstance(word, str) and word in wanted.later:
        raise NotBuiltError(
            f"{label}: {wanted.later[word]}, expected {' or '.join(wanted.allowed)}",
            given.location,
        )
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
    if isinstance(wanted, Shape):
        return _whole(first, 1, label, given.location), _whole(second, 1, label, given.location)
    lengths: list[float] = []
    for value in (first, second):
        _check_dimension(value, units.METRES, label, given.location)
        lengths.append(_in_range(value.magnitude, Amount(units.METRES), label, given.location))
    return lengths[0], lengths[1]


def _grid(view: View, name: str, wanted: Grid, label: str) -> tuple[int, int, View, View | None]:
    given = view.fields[name].value
    example = "12 x 7 of tile joined stitched" if wanted.joined else "66 x 154 of pe"
    if not isinstance(given, syntax.GridOf) or (given.joint is not None) != wanted.joined:
        raise UserError(f"{label}: expected rows x columns, as in '{example}'", given.location)
    sides = (given.grid.first, given.grid.second)
    rows, columns = (_whole(_number(view, name, side), 1, label, side.location) for side in sides)
    scope = view.home(name)
    joint = scope.part(given.joint, "link") if given.joint else None
    return rows, columns, scope.part(given.part, wanted.kind), joint


def _spares(value: Quantity, label: str, location: Location) -> tuple[int, int]:
    for dimension, place in ((units.ROWS, 0), (units.COLUMNS, 1)):
        if dimension.matches(value):
            count = value.magnitude * units.si(1.0, units.NUMBER)
            spares = _whole(count, 0, label, location)
            return (spares, 0) if place == 0 else (0, spares)
    raise UserError(
        f"{label}: expected rows or columns, as in '1 column', got {units.dimension_name(value)}",
        location,
    )
