"""What an expression is worth in the scope of a file, and whether a condition holds.

What names stand for is evaluate.py's to say.
"""

import math
import operator
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import UserError, nearest
from . import syntax, units
from .binding import AbsentError, Value
from .conditions import check_names, check_words
from .units import FUNCTIONS, Quantity

if TYPE_CHECKING:
    from .evaluate import Scope
from .view import View

COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


def holds(condition: syntax.Condition | None, scope: "Scope") -> bool:
    """Whether the condition of a `when` is met; without one, always, and never where it asks for a
    parameter that does not exist.

    Raises UserError, and SplitNeededError where it is met by some points of a batch only.
    """
    if condition is None:
        return True
    check_names(condition, scope.file)
    try:
        left, right = (word_or_value(side, scope) for side in (condition.left, condition.right))
    except AbsentError:
        return False
    if isinstance(left, str) or isinstance(right, str):
        check_words(condition, scope.file.parameters)
        if isinstance(left, str) != isinstance(right, str):
            kinds = ("a word" if isinstance(side, str) else "a number" for side in (left, right))
            raise UserError(f"the two sides differ: {' and '.join(kinds)}", condition.location)
        return (left == right) == (condition.comparison == "==")
    units.same_dimension(left, right, condition.location)
    met = COMPARISONS[condition.comparison](left.magnitude, right.magnitude)
    return scope.binding.decided(met)


def word_or_value(
    expression: syntax.Expression, scope: "Scope", view: "View | None" = None
) -> Value:
    """A value, where a name that stands for nothing else is a word."""
    if isinstance(expression, syntax.Reference) and len(expression.path) == 1:
        name = expression.path[0]
        if not scope.is_value(name):
            return name
        return scope.named_value(name, expression.location)
    return value(expression, scope, view)


def value(expression: syntax.Expression, scope: "Scope", view: "View | None" = None) -> Value:
    """What an expression is worth, read in the block `view`; raises UserError."""
    match expression:
        case syntax.Number():
            return units.quantity(expression.value, expression.unit, expression.location)
        case syntax.Reference():
            return scope.referenced(expression, view)
        case syntax.Chain():
            return _finite(_chain(expression, scope, view), expression, scope)
        case syntax.Call():
            return _finite(_call(expression, scope, view), expression, scope)


def _finite(found: Quantity, expression: syntax.Expression, scope: "Scope") -> Quantity:
    """What was computed; points of a batch for which it is no number are struck."""
    if isinstance(found.magnitude, np.ndarray):
        finite = np.isfinite(found.magnitude)
        scope.binding.require(finite, lambda: "no finite number", expression.location)
    return found


def number(expression: syntax.Expression, scope: "Scope", view: "View | None" = None) -> Quantity:
    """The same for an expression that must be a quantity."""
    found = value(expression, scope, view)
    if isinstance(found, str):
        raise UserError(f"expected a number, got the word '{found}'", expression.location)
    return found


def _chain(chain: syntax.Chain, scope: "Scope", view: "View | None") -> Quantity:
    result = number(chain.first, scope, view)
    for sign, operand in chain.rest:
        result = units.combined(result, sign, number(operand, scope, view), operand.location)
    return result


def _call(call: syntax.Call, scope: "Scope", view: "View | None") -> Quantity:
    path = call.function.path
    if len(path) == 1 and path[0] in FUNCTIONS:
        values = [number(argument, scope, view) for argument in call.arguments]
        return units.called(path[0], values, call.location)
    if len(path) == 2 and path[0] in scope.file.tables:
        return _from_table(call, scope, view)
    if len(path) > 1:
        raise UserError(
            f"unknown table '{path[0]}'{nearest(path[0], scope.file.tables)}", call.location
        )
    return scope.binding.physics(call, scope)


def _from_table(call: syntax.Call, scope: "Scope", view: "View | None") -> Quantity:
    table, column = scope.file.tables[call.function.path[0]], call.function.path[1]
    keys = [number(argument, scope, view) for argument in call.arguments]
    table.check(column, len(keys), call.location)
    for key, argument in zip(keys, call.arguments, strict=True):
        if not units.NUMBER.matches(key):
            raise UserError(
                f"a key of a table is a plain number, got {units.dimension_name(key)}",
                argument.location,
            )
    figure = table.figure(column, [key.magnitude for key in keys])
    there = ~np.isnan(figure) if isinstance(figure, np.ndarray) else not math.isnan(figure)
    scope.binding.require(
        there,
        lambda: (
            f"table {table.path.name} has no row "
            + ", ".join(
                f"{name} = {key.magnitude:g}" for name, key in zip(table.names, keys, strict=False)
            )
        ),
        call.location,
    )
    return Quantity(figure)
