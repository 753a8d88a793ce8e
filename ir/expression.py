"""Elementwise expressions: `where(a > 0, a, b * 0.5)` over operands a, b, c ... and numbers.

One small language serves every elementwise operator: fusing is substitution, counting is a walk
over the syntax, running is evaluation over torch tensors. Besides operands it knows numbers, `inf`,
the symbols of dimensions (`a + context`), arithmetic (`+ - * / // % **`), comparisons, `and`, `or`,
`not`, and `FUNCTIONS`.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import inf
from typing import Any

from . import dims

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Work:
    """Operations for one element of the result."""

    arithmetic: int
    functions: int


@dataclass(frozen=True)
class Function:
    """How many operands a function takes and what one call costs."""

    operands: int
    work: Work


_PLAIN, _SCALAR = Work(1, 0), Work(0, 1)

FUNCTIONS: Mapping[str, Function] = {
    **dict.fromkeys(("abs", "relu", "square"), Function(1, _PLAIN)),
    **dict.fromkeys(("ceil", "floor", "round", "sign", "trunc"), Function(1, _PLAIN)),
    **dict.fromkeys(("maximum", "minimum"), Function(2, _PLAIN)),
    "where": Function(3, _PLAIN),
    **dict.fromkeys(("cos", "erf", "exp", "exp2", "log", "log2", "sin"), Function(1, _SCALAR)),
    **dict.fromkeys(("atan", "reciprocal", "rsqrt", "sqrt"), Function(1, _SCALAR)),
    **dict.fromkeys(("expm1", "log1p"), Function(1, Work(1, 1))),
    **dict.fromkeys(("sigmoid", "softplus"), Function(1, Work(1, 2))),
    **dict.fromkeys(("silu", "tanh"), Function(1, Work(2, 2))),
    **dict.fromkeys(("gelu", "gelu_tanh"), Function(1, Work(6, 2))),
}
"""All functions. A sigmoid is an exponential and a reciprocal; a GELU is a cubic and a hyperbolic
tangent."""

CONSTANTS = {"inf": inf}

_OPERATORS: Mapping[type[ast.AST], tuple[Callable[..., Any], Work]] = {
    ast.Add: (operator.add, _PLAIN),
    ast.Sub: (operator.sub, _PLAIN),
    ast.Mult: (operator.mul, _PLAIN),
    ast.Div: (operator.truediv, _SCALAR),
    ast.FloorDiv: (operator.floordiv, Work(1, 1)),
    ast.Mod: (operator.mod, Work(2, 1)),
    ast.Pow: (operator.pow, _SCALAR),
    ast.USub: (operator.neg, _PLAIN),
    ast.Lt: (operator.lt, _PLAIN),
    ast.LtE: (operator.le, _PLAIN),
    ast.Gt: (operator.gt, _PLAIN),
    ast.GtE: (operator.ge, _PLAIN),
    ast.Eq: (operator.eq, _PLAIN),
    ast.NotEq: (operator.ne, _PLAIN),
}
"""Arithmetic and comparisons as Python writes them; a quotient `//` is rounded down."""

_ATOM = re.compile(r"\w+|\w+\([^()]*\)|\d+(\.\d*)?(e[+-]?\d+)?")
"""What needs no parentheses inside another expression: a name, a call, a number."""


@lru_cache(maxsize=4096)
def parse(text: str) -> ast.expr:
    """The syntax of an expression; raises ValueError for anything outside the language."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not an expression: {text!r}") from error
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    match node:
        case ast.Name(id=name) if (len(name) == 1 and name in LETTERS) or name in CONSTANTS:
            parts = []
        case ast.Name(id=name) if name in dims.SYMBOLS:
            parts = []
        case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
            parts = []
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if (
            name in FUNCTIONS and len(parts) == FUNCTIONS[name].operands
        ):
            pass
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            parts = [left, right]
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            parts = [left, right]
        case ast.BoolOp(values=parts):
            pass
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=inner):
            parts = [inner]
        case _:
            raise ValueError(f"{text!r} holds {ast.unparse(node)!r}, which no expression may")
    for part in parts:
        _check(part, text)


@lru_cache(maxsize=4096)
def work(text: str) -> Work:
    """What one element costs: a division or a power other than a square is a scalar function."""
    each = [_node_work(node) for node in ast.walk(parse(text))]
    return Work(sum(cost.arithmetic for cost in each), sum(cost.functions for cost in each))


def _node_work(node: ast.AST) -> Work:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return FUNCTIONS[name].work
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2)):
            return _PLAIN
        case ast.BinOp(op=op) | ast.Compare(ops=[op]):
            return _OPERATORS[type(op)][1]
        case ast.BoolOp(values=values):
            return Work(len(values) - 1, 0)
        case ast.UnaryOp():
            return _PLAIN
        case _:
            return Work(0, 0)


def operands_of(text: str) -> tuple[str, ...]:
    """The operand letters that an expression reads, in order."""
    names = {node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)}
    return tuple(sorted(name for name in names if name in LETTERS))


def substitute(text: str, replacements: Mapping[str, str]) -> str:
    """`text` with operand letters replaced by expressions, all at once, in parentheses."""
    parse(text)
    return _replaced(r"(?<!\.)\b[a-z]\b", text, replacements)


def bind(text: str, sizes: Mapping[str, int]) -> str:
    """`text` with the symbols that `sizes` names replaced by their values."""
    if not any(name in text for name in sizes):
        return text
    return _replaced(r"\b[a-z]{2,}\b", text, {name: str(size) for name, size in sizes.items()})


def _replaced(pattern: str, text: str, replacements: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        inner = replacements.get(match[0], match[0])
        return inner if re.fullmatch(_ATOM, inner) else f"({inner})"

    return re.sub(pattern, replaced, text)


def evaluate(text: str, operands: Sequence[Any]) -> Any:
    """The expression over torch tensors that are already broadcast against each other.

    Raises ValueError while it names a dimension that is not bound to a number.
    """
    return _evaluate(parse(text), dict(zip(LETTERS, operands, strict=False)))


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Name(id=name) if name in dims.SYMBOLS:
            raise ValueError(f"dimension {name} is not bound to a number")
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return _call("logical_not", [_evaluate(inner, values)])
        case ast.UnaryOp(operand=inner):
            return -_evaluate(inner, values)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)][0](_evaluate(left, values), _evaluate(right, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _OPERATORS[type(op)][0](_evaluate(left, values), _evaluate(right, values))
        case ast.BoolOp(op=op, values=parts):
            name = "logical_and" if isinstance(op, ast.And) else "logical_or"
            evaluated = [_evaluate(part, values) for part in parts]
            return reduce(lambda a, b: _call(name, [a, b]), evaluated)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, [_evaluate(argument, values) for argument in arguments])
        case _:
            raise ValueError(f"not in the language: {ast.dump(node)}")


def _call(name: str, arguments: list[Any]) -> Any:
    import torch
    import torch.nn.functional as F  # noqa: N812

    arguments = [torch.as_tensor(argument) for argument in arguments]
    if name == "gelu_tanh":
        return F.gelu(arguments[0], approximate="tanh")
    if name in ("silu", "gelu", "softplus"):
        return getattr(F, name)(*arguments)
    return getattr(torch, name)(*arguments)


def is_sum(text: str, count: int) -> bool:
    """Whether an expression is the sum of its first `count` letters, each taken once."""
    terms = text.replace("(", "").replace(")", "").split(" + ")
    return sorted(terms) == sorted(LETTERS[:count])
