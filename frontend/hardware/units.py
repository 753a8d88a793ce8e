"""Quantities of a .wsc file: a number with a dimension, in SI once it is read.

The units are listed in units.txt; Pint checks dimensions. Importing this module imports Pint.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import pint

from ...ir.errors import Location, UserError, nearest

Quantity: TypeAlias = pint.Quantity

_FACTOR = re.compile(r"([A-Za-zµ]+)([0-9]?)")
_LITERAL = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ][A-Za-zµ0-9/]*)?"
)


@dataclass(frozen=True)
class Dimension:
    """What a field measures: its name in messages, its SI unit, and how one is written."""

    name: str
    unit: str | None
    example: str

    def matches(self, value: Quantity) -> bool:
        return value.dimensionality == unit_quantity(self.unit).dimensionality


NUMBER = Dimension("a plain number", None, "0.5")
BYTES = Dimension("bytes", "B", "48 KiB")
SECONDS = Dimension("seconds", "s", "100 ns")
CYCLES = Dimension("cycles", "cycle", "2 cycle")
HERTZ = Dimension("hertz", "Hz", "1.1 GHz")
METRES = Dimension("metres", "m", "228 um")
SQUARE_METRES = Dimension("square metres", "m2", "858 mm2")
JOULES = Dimension("joules", "J", "0.5 pJ")
WATTS = Dimension("watts", "W", "23 kW")
FLOPS_PER_CYCLE = Dimension("flop/cycle", "flop/cycle", "8 flop/cycle")
ELEMENTS_PER_CYCLE = Dimension("elements/cycle", "element/cycle", "4 element/cycle")
BYTES_PER_CYCLE = Dimension("bytes/cycle", "B/cycle", "16 B/cycle")
BYTES_PER_SECOND = Dimension("bytes/second", "B/s", "12.5 GB/s")
JOULES_PER_BYTE = Dimension("joules/byte", "J/B", "0.2 pJ/bit")
JOULES_PER_BYTE_METRE = Dimension("joules/byte/metre", "J/B/m", "0.1 pJ/bit/mm")
JOULES_PER_CYCLE = Dimension("joules/cycle", "J/cycle", "1 pJ/cycle")
WATTS_PER_AREA = Dimension("watts/square metre", "W/m2", "0.05 W/mm2")
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
    return result.to_base_units()


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
        one = unit_quantity(unit)
    except UserError as error:
        raise UserError(error.message, location) from None
    return checked(lambda: value * one, location)


def si(value: float, dimension: Dimension) -> Quantity:
    """A number that is already in the SI unit of `dimension`."""
    return in_units_of(value, unit_quantity(dimension.unit))


def in_units_of(value: float, like: Quantity) -> Quantity:
    """A number in SI as a quantity of the same kind as `like`."""
    return cast(Quantity, _registry().Quantity(value, like.units))


def read_quantity(text: str) -> Quantity | None:
    """`64 KiB` or `64KiB` as a quantity, None where the text is no number; raises UserError."""
    literal = _LITERAL.fullmatch(text.strip())
    return quantity(float(literal[1]), literal[2]) if literal else None


def checked(compute: Callable[[], Any], location: Location | None) -> Quantity:
    """The result of an arithmetic step; raises UserError where it is not a finite number."""
    try:
        result = compute()
    except ZeroDivisionError:
        raise UserError("division by zero", location) from None
    except OverflowError:
        raise UserError("the number is too large", location) from None
    if not math.isfinite(result.magnitude):
        raise UserError("the number is too large", location)
    return result


def dimension_name(value: Quantity) -> str:
    """What a quantity measures, in a message: `bytes`, `joules/cycle`, `a plain number`."""
    for dimension in _DIMENSIONS:
        if dimension.matches(value):
            return dimension.name
    return str(value.units).replace(" ", "").replace("**", "")


def same_dimension(left: Quantity, right: Quantity, location: Location | None) -> None:
    """Raise UserError where two quantities that are compared differ in what they measure."""
    if left.dimensionality != right.dimensionality:
        names = (dimension_name(left), dimension_name(right))
        raise UserError(f"the two sides differ: {names[0]} and {names[1]}", location)


def combined(left: Quantity, sign: str, right: Quantity, location: Location | None) -> Quantity:
    """`left sign right`; raises UserError for unlike summands and a result that is not finite."""
    if sign in "+-" and left.dimensionality != right.dimensionality:
        names = (dimension_name(right), dimension_name(left))
        verb = "add {} to {}" if sign == "+" else "subtract {} from {}"
        raise UserError(f"cannot {verb.format(*names)}", location)
    operations: dict[str, Callable[[], Any]] = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
    }
    return checked(operations[sign], location)
