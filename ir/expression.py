"""Elementwise expressions: `a * silu(b)` over operands a, b, c ... and numbers.

One small language serves every elementwise operator: fusing is substitution, counting is a walk
over the syntax, running is evaluation over torch tensors.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz"

FUNCTIONS = (
    "abs",
    "cos",
    "exp",
    "gelu",
    "gelu_tanh",
    "log",
    "maximum",
    "minimum",
    "reciprocal",
    "relu",
    "rsqrt",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "sqrt",
    "square",
    "tanh",
)
_BINARY = ("maximum", "minimum")

_ATOM = re.compile(r"\w+|\w+\([^()]*\)|\d+(\.\d*)?(e[+-]?\d+)?")
"""What needs no parentheses inside another expression: a name, a call, a number."""

_CALLS = {
    **dict.fromkeys(("abs", "maximum", "minimum", "relu", "square"), (1, 0)),
    **dict.fromkeys(("sigmoid", "softplus"), (1, 2)),
    **dict.fromkeys(("silu", "tanh"), (2, 2)),
    **dict.fromkeys(("gelu", "gelu_tanh"), (6, 2)),
}
"""(arithmetic operations, scalar functions) of a call; one scalar function where not listed. A
sigmoid is an exponential and a reciprocal; a GELU is a cubic and a hyperbolic tangent."""


@dataclass(frozen=True)
class Work:
    """Operations for one element of the result."""

    arithmetic: int
    functions: int


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
        case ast.Name(id=name) if len(name) == 1 and name in LETTERS:
            parts = []
        case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
            parts = []
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in FUNCTIONS and len(
            parts
        ) == (2 if name in _BINARY else 1):
            pass
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow(), right=right
        ):
            parts = [left, right]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            parts = [inner]
        case _:
            raise ValueError(f"{text!r} holds {ast.unparse(node)!r}, which no expression may")
    for part in parts:
        _check(part, text)


@lru_cache(maxsize=4096)
def work(text: str) -> Work:
    """What one element costs: a division or a power other than a square is a scalar function."""
    arithmetic = functions = 0
    for node in ast.walk(parse(text)):
        match node:
            case ast.Call(func=ast.Name(id=name)):
                plain, scalar = _CALLS.get(name, (0, 1))
            case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2)):
                plain, scalar = 1, 0
            case ast.BinOp(op=ast.Div() | ast.Pow()):
                plain, scalar = 0, 1
            case ast.BinOp() | ast.UnaryOp():
                plain, scalar = 1, 0
            case _:
                continue
        arithmetic += plain
        functions += scalar
    return Work(arithmetic, functions)


def operands_of(text: str) -> tuple[str, ...]:
    """The operand letters that an expression reads, in order."""
    names = {node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)}
    return tuple(sorted(names - set(FUNCTIONS)))


def substitute(text: str, replacements: Mapping[str, str]) -> str:
    """`text` with operand letters replaced by expressions, all at once, in parentheses."""
    parse(text)

    def replaced(match: re.Match[str]) -> str:
        inner = replacements.get(match[0], match[0])
        return inner if re.fullmatch(_ATOM, inner) else f"({inner})"

    return re.sub(r"(?<!\.)\b[a-z]\b", replaced, text)


def evaluate(text: str, operands: Sequence[Any]) -> Any:
    """The expression over torch tensors that are already broadcast against each other."""
    return _evaluate(parse(text), dict(zip(LETTERS, operands, strict=False)))


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(operand=inner):
            return -_evaluate(inner, values)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _evaluate(left, values), _evaluate(right, values)
            return _binary(operator, a, b)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, [_evaluate(argument, values) for argument in arguments])
        case _:
            raise ValueError(f"not in the language: {ast.dump(node)}")


def _binary(operator: ast.operator, a: Any, b: Any) -> Any:
    match operator:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div():
            return a / b
        case _:
            return a**b


def _call(name: str, arguments: list[Any]) -> Any:
    import torch
    import torch.nn.functional as F  # noqa: N812

    arguments = [torch.as_tensor(argument) for argument in arguments]
    if name == "gelu_tanh":
        return F.gelu(arguments[0], approximate="tanh")
    if name in ("silu", "gelu", "softplus"):
        return getattr(F, name)(*arguments)
    return getattr(torch, name)(*arguments)
