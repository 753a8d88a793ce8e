"""Derivatives of elementwise expressions, by the chain rule from the result down to the operands.

What comes out is an expression of the same language, with zeros, ones and signs folded away.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from .expression import LETTERS, operands_of, parse

_GIVEN = "given"
"""Stands for the gradient of the result while an expression is built; no operand is called so."""

_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "abs": ("sign(a)",),
    "atan": ("1 / (1 + square(a))",),
    "cos": ("-sin(a)",),
    "erf": ("1.1283791670955126 * exp(-square(a))",),
    "exp": ("exp(a)",),
    "exp2": ("0.6931471805599453 * exp2(a)",),
    "expm1": ("exp(a)",),
    "gelu": (
        "0.5 * (1 + erf(a * 0.7071067811865476)) + a * exp(-0.5 * square(a)) * 0.3989422804014327",
    ),
    "gelu_tanh": (
        "0.5 * (1 + tanh(0.7978845608028654 * (a + 0.044715 * a ** 3)))"
        " + 0.3989422804014327 * a * (1 + 0.134145 * square(a))"
        " * (1 - square(tanh(0.7978845608028654 * (a + 0.044715 * a ** 3))))",
    ),
    "log": ("1 / a",),
    "log1p": ("1 / (1 + a)",),
    "log2": ("1.4426950408889634 / a",),
    "maximum": ("0.5 + 0.5 * sign(a - b)", "0.5 - 0.5 * sign(a - b)"),
    "minimum": ("0.5 - 0.5 * sign(a - b)", "0.5 + 0.5 * sign(a - b)"),
    "reciprocal": ("-square(reciprocal(a))",),
    "relu": ("sign(relu(a))",),
    "rsqrt": ("-0.5 * rsqrt(a) ** 3",),
    "sigmoid": ("sigmoid(a) * (1 - sigmoid(a))",),
    "silu": ("sigmoid(a) * (1 + a * (1 - sigmoid(a)))",),
    "sin": ("cos(a)",),
    "softplus": ("sigmoid(a)",),
    "sqrt": ("0.5 * rsqrt(a)",),
    "square": ("2 * a",),
    "tanh": ("1 - square(tanh(a))",),
    **dict.fromkeys(("ceil", "floor", "round", "sign", "trunc"), ("0",)),
}
"""Derivatives of each function by its arguments a, b: constants have 17 digits of 2/sqrt(pi),
log(2), 1/sqrt(2), 1/sqrt(2 pi), log2(e), sqrt(2/pi). Where a maximum ties, each side has half, as
in torch; steps have none."""


@dataclass(frozen=True)
class PulledBack:
    """A gradient for an operand: `expr`, whose `a` is the gradient of the result and whose
    b, c, ... are the operands of the forward expression that `reads` lists by place."""

    expr: str
    reads: tuple[int, ...]


@lru_cache(maxsize=4096)
def pull_back(text: str) -> Mapping[str, PulledBack]:
    """For every operand letter of an expression the gradient that flows to it from the result.

    A letter is missing where nothing flows. Raises ValueError for a function without derivative.
    """
    found: dict[str, ast.expr] = {}
    _pull(parse(text), ast.Name(_GIVEN), found)
    return {letter: _renamed(node) for letter, node in found.items() if not _is(node, 0)}


def _renamed(node: ast.expr) -> PulledBack:
    reads = operands_of(ast.unparse(_with_names(node, {_GIVEN: "0"})))
    names = {_GIVEN: "a"} | dict(zip(reads, LETTERS[1:], strict=False))
    expr = ast.unparse(_with_names(node, names))
    return PulledBack(expr, tuple(LETTERS.index(letter) for letter in reads))


def _pull(node: ast.expr, given: ast.expr, found: dict[str, ast.expr]) -> None:
    """Add to `found` what flows to every letter below `node`, to which `given` flows."""
    if _is(given, 0):
        return
    match node:
        case ast.Name(id=name) if name in LETTERS:
            found[name] = _add(found[name], given) if name in found else given
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            _pull(inner, _negative(given), found)
        case ast.BinOp(left=left, op=op, right=right):
            for side, flows in zip((left, right), _binary(op, left, right, given), strict=True):
                _pull_unless_constant(side, flows, found)
        case ast.Call(func=ast.Name(id="where"), args=[condition, left, right]):
            _pull(left, _call("where", condition, given, ast.Constant(0)), found)
            _pull(right, _call("where", condition, ast.Constant(0), given), found)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            names = dict(zip(LETTERS, arguments, strict=False))
            for argument, derivative in zip(arguments, _derivatives(name), strict=True):
                factor = _with_nodes(parse(derivative), names)
                _pull_unless_constant(argument, _multiply(given, factor), found)
        case _:
            pass


def _pull_unless_constant(node: ast.expr, given: ast.expr, found: dict[str, ast.expr]) -> None:
    if not isinstance(node, ast.Constant):
        _pull(node, given, found)


def _derivatives(name: str) -> tuple[str, ...]:
    if name not in _FUNCTIONS:
        raise ValueError(f"the function {name} has no derivative")
    return _FUNCTIONS[name]


def _binary(
    op: ast.operator, left: ast.expr, right: ast.expr, given: ast.expr
) -> tuple[ast.expr, ast.expr]:
    """What flows to the two sides of an arithmetic operator."""
    nothing = ast.Constant(0)
    match op:
        case ast.Add():
            return given, given
        case ast.Sub():
            return given, _negative(given)
        case ast.Mult():
            return _multiply(given, right), _multiply(given, left)
        case ast.Div():
            square = _call("square", right)
            return _divide(given, right), _negative(_divide(_multiply(given, left), square))
        case ast.Pow():
            one_less = _add(right, ast.Constant(-1))
            slope = _multiply(right, left if _is(one_less, 1) else _power(left, one_less))
            grown = _multiply(_power(left, right), _call("log", left))
            return _multiply(given, slope), _multiply(given, grown)
        case ast.Mod():
            return given, _negative(_multiply(given, ast.BinOp(left, ast.FloorDiv(), right)))
        case _:
            return nothing, nothing


# Expressions built with what is plain folded away


def _number(node: ast.expr) -> float | None:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            return None


def _is(node: ast.expr, value: float) -> bool:
    return _number(node) == value


def _call(name: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name), [*arguments], [])


def _negative(node: ast.expr) -> ast.expr:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return inner
        case ast.Constant(value=int() | float() as value):
            return ast.Constant(-value)
        case _:
            return ast.UnaryOp(ast.USub(), node)


def _add(left: ast.expr, right: ast.expr) -> ast.expr:
    match _number(left), _number(right):
        case 0, _:
            return right
        case _, 0:
            return left
        case ((int() | float() as a), (int() | float() as b)):
            return ast.Constant(a + b)
        case _:
            pass
    if isinstance(right, ast.UnaryOp) and isinstance(right.op, ast.USub):
        return ast.BinOp(left, ast.Sub(), right.operand)
    return ast.BinOp(left, ast.Add(), right)


def _multiply(left: ast.expr, right: ast.expr) -> ast.expr:
    if _is(left, 0) or _is(right, 1):
        return left
    if _is(right, 0) or _is(left, 1):
        return right
    match left, right:
        case ast.UnaryOp(op=ast.USub(), operand=inner), _:
            return _negative(_multiply(inner, right))
        case _, ast.UnaryOp(op=ast.USub(), operand=inner):
            return _negative(_multiply(left, inner))
        case _, ast.BinOp(left=inner, op=ast.Mult(), right=last):
            return _multiply(_multiply(left, inner), last)
        case _:
            return ast.BinOp(left, ast.Mult(), right)


def _divide(left: ast.expr, right: ast.expr) -> ast.expr:
    match left:
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _negative(_divide(inner, right))
        case _:
            return ast.BinOp(left, ast.Div(), right)


def _power(base: ast.expr, exponent: ast.expr) -> ast.expr:
    if _is(exponent, 2):
        return _call("square", base)
    return ast.BinOp(base, ast.Pow(), exponent)


class _Names(ast.NodeTransformer):
    """Puts other nodes in the place of names."""

    def __init__(self, nodes: Mapping[str, ast.expr]) -> None:
        self.nodes = nodes

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.nodes.get(node.id, node)


def _with_nodes(node: ast.expr, nodes: Mapping[str, ast.expr]) -> ast.expr:
    return _Names(nodes).visit(_copied(node))


def _with_names(node: ast.expr, names: Mapping[str, str]) -> ast.expr:
    return _with_nodes(node, {name: parse(text) for name, text in names.items()})


def _copied(node: ast.expr) -> ast.expr:
    """A tree of its own, without the marks of how it was parsed."""
    return ast.parse(ast.unparse(node), mode="eval").body
