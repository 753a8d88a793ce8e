"""Quantities of a .wsc file: a number with a dimension, in SI once it is read.

The units are listed in units.txt, and Pint reads them, once each: arithmetic is on plain numbers,
or on arrays of them where a batch of points is bound at once. Importing this module imports Pint.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pint

from ...ir.errors import Location, UserError, nearest

_FACTOR = re.compile(r"([A-Za-zµ]+)([0-9]?)")
_LITERAL = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ][A-Za-zµ0-9/]*)?"
)

Exponents: TypeAlias = tuple[tuple[str, float], ...]
"""Base units and their powers, sorted, none of power zero."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in SI, or an array of them, and what it measures."""

    magnitude: Any
    exponents: Exponents = ()


class InvalidPointError(UserError):
    """Values that make no design: a mistake of one point, where its spec may be sound."""


@dataclass(frozen=True)
class Dimension:
    """What a field measures: its name in messages, its SI unit, and how one is written."""

    name: str
    unit: str | None
    example: str

    def matches(self, value: Quantity) -> bool:
        return value.exponents == unit_quantity(self.unit).exponents


NUMBER = Dimension("a plain number", None, "0.5")
BYTES = Dimension("bytes", "B", "48 KiB")
SECONDS = Dimension("seconds", "s", "100 ns")
CYCLES = Dimension("cycles", "cycle", "2 cycle")
HERTZ = Dimension("hertz", "Hz", "1.1 GHz")
METRES = Dimension("metres", "m", "228 um")
SQUARE_METRES = Dimension("square metres", "m2", "858 mm2")
JOULES = Dimension("joules", "J", "0.5 pJ")
WATTS = Dimension("watts", "W", "23 kW")
DOLLARS = Dimension("dollars", "USD", "9346 USD")
DOLLARS_PER_JOULE = Dimension("dollars/joule", "USD/J", "0.08 USD/kWh")
FLOPS_PER_CYCLE = Dimension("flop/cycle", "flop/cycle", "8 flop/cycle")
FLOPS_PER_SECOND = Dimension("flop/second", "flop/s", "7.5e15 flop/s")
ELEMENTS_PER_CYCLE = Dimension("elements/cycle", "element/cycle", "4 element/cycle")
BYTES_PER_CYCLE = Dimension("bytes/cycle", "B/cycle", "16 B/cycle")
BYTES_PER_SECOND = Dimension("bytes/second", "B/s", "12.5 GB/s")
BYTES_PER_SECOND_PER_METRE = Dimension("bytes/second/metre", "B/s/m", "224 GB/s/mm")
BYTES_PER_SECOND_PER_AREA = Dimension("bytes/second/square metre", "B/s/m2", "4000 GB/s/mm2")
JOULES_PER_BYTE = Dimension("joules/byte", "J/B", "0.2 pJ/bit")
JOULES_PER_BYTE_METRE = Dimension("joules/byte/metre", "J/B/m", "0.1 pJ/bit/mm")
JOULES_PER_CYCLE = Dimension("joules/cycle", "J/cycle", "1 pJ/cycle")
WATTS_PER_AREA = Dimension("watts/square metre", "W/m2", "0.05 W/mm2")
AREA_PER_BYTE = Dimension("square metres/byte", "m2/B", "0.027 um2/bit")
DEFECTS_PER_AREA = Dimension("defects/square metre", "defect/m2", "0.09 defect/cm2")
ROWS = Dimension("rows", "row", "1 row")
COLUMNS = Dimension("columns", "column", "1 column")

_DIMENSIONS = tuple(value for value in globals().values() if isinstance(value, Dimension))


@cache
def _registry() -> pint.UnitRegistry:
    return pint.UnitRegistry(str(Path(__file__).parent / "units.txt"), on_redefinition="raise")


@cache
def _names() -> frozenset[str]:
    return frozenset(_registry())


@cache
def unit_quantity(unit: str | None) -> Quantity:
    """One of a unit such as `pJ/bit/mm`, in SI; raises UserError for a unit that is not known."""
    registry = _registry()
    result: Any = registry.Quantity(1.0)
    for index, text in enumerate(unit.split("/") if unit else ()):
        factor = _FACTOR.fullmatch(text)
        if factor is None or factor[1] not in _names():
            raise UserError(_unknown(unit or "", text))
        power = int(factor[2] or 1) * (-1 if index else 1)
        result = result * registry.Unit(factor[1]) ** power
    base = result.to_base_units()
    powers = {str(name): float(power) for name, power in base.unit_items()}
    return Quantity(float(base.magnitude), tuple(sorted(powers.items())))


def _unknown(unit: str, factor: str) -> str:
    names = sorted(_names())
    rates = [f"{name}/{per}" for per in ("s", "cycle") for name in names]
    if factor == unit:
        return f"unknown unit '{unit}'{nearest(unit, [*rates, *names])}"
    hint = nearest(factor, names) or "; a division by a name has blanks around '/'"
    return f"unknown unit '{factor}' in '{unit}'{hint}"


def quantity(value: float, unit: str | None, location: Location | None = None) -> Quantity:
    """`value` in `unit` as an SI quantity; raises UserError where the unit is not known."""
    try:
        return _quantity(value, unit)
    except UserError as error:
        raise UserError(error.message, location) from None


@lru_cache(maxsize=4096)
def _quantity(value: float, unit: str | None) -> Quantity:
    one = unit_quantity(unit)
    return checked(Quantity(value * one.magnitude, one.exponents), None)


def si(value: Any, dimension: Dimension) -> Quantity:
    """A number that is already in the SI unit of `dimension`."""
    return Quantity(value, unit_quantity(dimension.unit).exponents)


def in_units_of(value: Any, like: Quantity) -> Quantity:
    """A number in SI as a quantity of the same kind as `like`."""
    return Quantity(value, like.exponents)


def read_quantity(text: str) -> Quantity | None:
    """`64 KiB` or `64KiB` as a quantity, None where the text is no number; raises UserError."""
    literal = _LITERAL.fullmatch(text.strip())
    return quantity(float(literal[1]), literal[2]) if literal else None


def checked(result: Quantity, location: Location | None) -> Quantity:
    """A result of arithmetic; raises InvalidPointError where it is one number, and not finite.

    Of a batch of points those that are not finite are struck by expressions.py.
    """
    number = result.magnitude
    if not isinstance(number, np.ndarray) and not math.isfinite(number):
        raise InvalidPointError("the number is too large", location)
    return result


def dimension_name(value: Quantity) -> str:
    """What a quantity measures, in a message: `bytes`, `joules/cycle`, `a plain number`."""
    for dimension in _DIMENSIONS:
        if dimension.matches(value):
            return dimension.name
    above = [_power(name, power) for name, power in value.exponents if power > 0]
    below = [f"/{_power(name, -power)}" for name, power in value.exponents if power < 0]
    return "*".join(above or ["1"]) + "".join(below)


def unit_name(value: Quantity) -> str:
    """The SI unit of a quantity as a spec spells it; nothing for a plain number, or an odd one."""
    return next((d.unit or "" for d in _DIMENSIONS if d.matches(value)), "")


def _power(name: str, power: float) -> str:
    return name if power == 1 else f"{name}{power:g}"


def same_dimension(left: Quantity, right: Quantity, location: Location | None) -> None:
    """Raise UserError where two quantities that are compared differ in what they measure."""
    if left.exponents != right.exponents:
        names = (dimension_name(left), dimension_name(right))
        raise UserError(f"the two sides differ: {names[0]} and {names[1]}", location)


def combined(left: Quantity, sign: str, right: Quantity, location: Location | None) -> Quantity:
    """`left sign right`; raises UserError for unlike summands and a result that is not finite."""
    a, b = left.magnitude, right.magnitude
    if sign in "+-":
        if left.exponents != right.exponents:
            names = (dimension_name(right), dimension_name(left))
            verb = "add {} to {}" if sign == "+" else "subtract {} from {}"
            raise UserError(f"cannot {verb.format(*names)}", location)
        return checked(Quantity(a + b if sign == "+" else a - b, left.exponents), location)
    if sign == "*":
        return checked(Quantity(a * b, _joined(left.exponents, right.exponents, 1.0)), location)
    if not isinstance(b, np.ndarray) and b == 0:
        raise InvalidPointError("division by zero", location)
    with np.errstate(all="ignore"):
        return checked(Quantity(a / b, _joined(left.exponents, right.exponents, -1.0)), location)


@lru_cache(maxsize=4096)
def _joined(left: Exponents, right: Exponents, sign: float) -> Exponents:
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0.0) + sign * power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _least(values: Sequence[Any]) -> Any:
    return _fold(values, min, np.minimum)


def _most(values: Sequence[Any]) -> Any:
    return _fold(values, max, np.maximum)


def _fold(values: Sequence[Any], one: Callable[..., Any], many: Callable[..., Any]) -> Any:
    result = values[0]
    for value in values[1:]:
        both = isinstance(result, np.ndarray) or isinstance(value, np.ndarray)
        result = many(result, value) if both else one(result, value)
    return result


def _rounding(of_one: Callable[[float], int], of_many: Callable[[Any], Any]) -> Callable[..., Any]:
    """A rounding that takes no notice of a last digit lost: 0.3 / 0.1 counts as 3."""

    def rounded(values: Sequence[Any]) -> Any:
        (value,) = values
        if isinstance(value, np.ndarray):
            near = np.round(value)
            return np.where(np.abs(value - near) <= 1e-9 * np.abs(near), near, of_many(value))
        near = float(round(value))
        return near if abs(value - near) <= 1e-9 * abs(near) else float(of_one(value))

    return rounded


def _root(values: Sequence[Any]) -> Any:
    return np.sqrt(values[0]) if isinstance(values[0], np.ndarray) else math.sqrt(values[0])


def _log2(values: Sequence[Any]) -> Any:
    return np.log2(values[0]) if isinstance(values[0], np.ndarray) else math.log2(values[0])


_PLAIN = {
    "floor": _rounding(math.floor, np.floor),
    "ceil": _rounding(math.ceil, np.ceil),
    "round": _rounding(round, np.round),
    "log2": _log2,
}
"""Functions of one plain number."""

_OF_LIKE = {"min": _least, "max": _most}
"""Functions of quantities of one kind."""

FUNCTIONS = (*_PLAIN, *_OF_LIKE, "sqrt")


def called(name: str, values: Sequence[Quantity], location: Location | None) -> Quantity:
    """One of FUNCTIONS; raises UserError for arguments of a wrong number or kind."""
    if name not in _OF_LIKE and len(values) != 1:
        raise UserError(f"{name}() takes one number, got {len(values)}", location)
    first, magnitudes = values[0], [value.magnitude for value in values]
    if name in _OF_LIKE:
        for other in values[1:]:
            same_dimension(first, other, location)
        return Quantity(_OF_LIKE[name](magnitudes), first.exponents)
    if name in _PLAIN and not NUMBER.matches(first):
        raise UserError(
            f"{name}() takes a plain number, got {dimension_name(first)}: divide by a unit, as in "
            f"'{name}(size / 1 mm)'",
            location,
        )
    single = not isinstance(first.magnitude, np.ndarray)
    if single and name == "sqrt" and first.magnitude < 0:
        raise InvalidPointError("sqrt() takes a number of zero or more", location)
    if single and name == "log2" and first.magnitude <= 0:
        raise InvalidPointError("log2() takes a number of more than zero", location)
    with np.errstate(all="ignore"):
        if name == "sqrt":
            halved = tuple((unit, power / 2) for unit, power in first.exponents)
            return Quantity(_root(magnitudes), halved)
        return checked(Quantity(_PLAIN[name](magnitudes), first.exponents), location)
