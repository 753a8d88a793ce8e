"""A syntax tree as the text of a .wsc file: what parse.py reads from it is the same tree.

Where blocks break and what lines up is format.py's to say.
"""

import math
from collections.abc import Iterable

from . import syntax
from .format import laid_out

_SUM, _PRODUCT, _ATOM = range(3)
"""How tightly the operands of an expression hold together."""


def print_spec(statements: Iterable[syntax.Statement]) -> str:
    """The text of statements, for any that `parse` may return; comments are not in the tree."""
    text = "".join(f"{_statement(statement)}\n" for statement in statements)
    return laid_out(text, "printed spec")


def _statement(statement: syntax.Statement) -> str:
    match statement:
        case syntax.Version(number):
            return f"wsc {_digits(number)}"
        case syntax.Use(file, name):
            return f'use "{file}" as {name}'
        case syntax.ParameterSyntax(name, default, domain, when, source):
            within = f" in {_domain(domain)}" if domain else ""
            return f"param {name} = {_expression(default)}{within}{_when(when)}{_source(source)}"
        case syntax.Let(name, value, source):
            return f"let {name} = {_expression(value)}{_source(source)}"
        case syntax.ConstraintSyntax(left, comparison, right, _, when, source):
            sides = f"{_expression(left)} {comparison} {_expression(right)}"
            return f"constraint {sides}{_when(when)}{_source(source)}"
        case syntax.Block():
            return _item(statement)
        case syntax.Copy(kind, name, original, changes):
            return f"{kind} {name} = {original} with {_items(changes)}"


def _items(items: Iterable[syntax.Item]) -> str:
    return f"{{ {'; '.join(_item(item) for item in items)} }}"


def _item(item: syntax.Item) -> str:
    match item:
        case syntax.Field(path, value, _, source):
            return f"{path} = {_value(value)}{_source(source)}"
        case syntax.Block():
            return f"{item.title}{_when(item.when)} {_items(item.items)}"
        case syntax.Dead(what, at, side, of, of_at):
            facing = f" {side}" if side else ""
            within = f" of {of} {_cell(of_at)}" if of and of_at else ""
            return f"dead {what} {_cell(at)}{facing}{within}"
        case syntax.Place(grid, part, row, column):
            corner = f"{_expression(row)}, {_expression(column)}"
            return f"place {_value(grid)} of {part} at {corner}"


def _cell(at: tuple[float, float]) -> str:
    return ", ".join(_digits(index) for index in at)


def _when(condition: syntax.Condition | None) -> str:
    if condition is None:
        return ""
    left, right = _expression(condition.left), _expression(condition.right)
    return f" when {left} {condition.comparison} {right}"


def _source(source: str | None) -> str:
    return "" if source is None else f' from "{source}"'


def _domain(domain: syntax.DomainSyntax) -> str:
    match domain:
        case syntax.Choices(values):
            unit = _shared_unit(values)
            listed = ", ".join(_without_unit(value, unit) for value in values)
            return f"{{{listed}}}{_unit(unit)}"
        case syntax.Powers(low, high):
            unit = _shared_unit((low, high))
            ends = f"{_without_unit(low, unit)}, {_without_unit(high, unit)}"
            return f"pow2({ends}){_unit(unit)}"
        case syntax.Interval(low, high, step):
            unit = high.unit if isinstance(high, syntax.Number) else None
            steps = f" step {_expression(step)}" if step else ""
            return f"{_without_unit(low, unit)} .. {_expression(high)}{steps}"


def _shared_unit(values: Iterable[syntax.Expression]) -> str | None:
    """The unit that all values have, which is then written once behind them."""
    units = {value.unit if isinstance(value, syntax.Number) else None for value in values}
    return units.pop() if len(units) == 1 else None


def _without_unit(value: syntax.Expression, unit: str | None) -> str:
    if isinstance(value, syntax.Number) and value.unit == unit:
        return _digits(value.value)
    return _expression(value)


def _value(value: syntax.FieldValue) -> str:
    match value:
        case syntax.Pair(first, second):
            return f"{_expression(first)} x {_expression(second)}"
        case syntax.CountOf(count, part, joint):
            return f"{_expression(count)} of {part}{_joined(joint)}"
        case syntax.GridOf(grid, part, joint):
            return f"{_value(grid)} of {part}{_joined(joint)}"
        case _:
            return _expression(value)


def _joined(joint: syntax.Reference | None) -> str:
    return f" joined {joint}" if joint else ""


def _expression(expression: syntax.Expression, within: int = _SUM) -> str:
    """An expression, in parentheses where it stands among operands that hold tighter."""
    match expression:
        case syntax.Number(value, unit):
            return _digits(value) + _unit(unit)
        case syntax.Reference():
            return str(expression)
        case syntax.Call(function, arguments):
            return f"{function}({', '.join(_expression(argument) for argument in arguments)})"
        case syntax.Chain(syntax.Number(-1.0, None), (("*", operand),)):
            # A sign holds a product; it is itself an operand of sums only.
            text, tightness = f"-{_expression(operand, _negated(operand))}", _SUM + 1
        case syntax.Chain(first, rest):
            tightness = _SUM if rest[0][0] in "+-" else _PRODUCT
            operands = [(sign, _expression(operand, tightness + 1)) for sign, operand in rest]
            text = _expression(first, tightness + 1)
            text += "".join(f" {sign} {operand}" for sign, operand in operands)
    return text if tightness >= within else f"({text})"


def _negated(operand: syntax.Expression) -> int:
    """Parentheses around what is negated, unless it is a product: one sign only may stand there."""
    return _ATOM if _is_negative(operand) else _PRODUCT


def _is_negative(expression: syntax.Expression) -> bool:
    return (
        isinstance(expression, syntax.Chain)
        and isinstance(expression.first, syntax.Number)
        and expression.first.value < 0
    )


def _unit(unit: str | None) -> str:
    return f" {unit}" if unit else ""


def _digits(number: float) -> str:
    """A number as the language writes it: no sign, and one too large for any is still that."""
    if math.isinf(number):
        return "1e999"
    return str(int(number)) if number == int(number) and number < 1e16 else repr(number)
