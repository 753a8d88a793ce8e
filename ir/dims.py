"""Dimensions of tensors: integers, or integer polynomials in batch, sequence and context.

A dimension that turns out constant is always a plain `int`, so equality is structural.
"""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Union

SYMBOLS = ("batch", "context", "sequence")

Monomial = tuple[str, ...]
Dim = Union[int, "Polynomial"]


@dataclass(frozen=True)
class Polynomial:
    """A sum of integer multiples of products of symbols; never constant, terms sorted."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dim) -> Dim:
        total = dict(self.terms)
        for monomial, factor in _terms(other):
            total[monomial] = total.get(monomial, 0) + factor
        return _normal(total)

    def __mul__(self, other: Dim) -> Dim:
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = tuple(sorted(left + right))
                total[monomial] = total.get(monomial, 0) + a * b
        return _normal(total)

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        text = " + ".join(_monomial_text(monomial, factor) for monomial, factor in self.terms)
        return text.replace("+ -", "- ")


def _terms(value: Dim) -> tuple[tuple[Monomial, int], ...]:
    return value.terms if isinstance(value, Polynomial) else (((), value),)


def _normal(terms: Mapping[Monomial, int]) -> Dim:
    left = tuple(sorted(((m, f) for m, f in terms.items() if f), key=_printing_order))
    if not left:
        return 0
    return left[0][1] if left == (((), left[0][1]),) else Polynomial(left)


def _printing_order(term: tuple[Monomial, int]) -> tuple[int, Monomial]:
    return -len(term[0]), term[0]


def _monomial_text(monomial: Monomial, factor: int) -> str:
    if not monomial:
        return str(factor)
    product = "*".join(monomial)
    return product if factor == 1 else f"{factor}*{product}"


def symbol(name: str) -> Dim:
    """The dimension that is exactly the symbol `name`."""
    if name not in SYMBOLS:
        raise ValueError(f"no dimension is called {name!r}, only {', '.join(SYMBOLS)}")
    return Polynomial((((name,), 1),))


def bind(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    """`dim` with the symbols that `sizes` names replaced by their values."""
    if isinstance(dim, int):
        return dim
    return sum(
        (
            prod((sizes.get(name, symbol(name)) for name in monomial), start=factor)
            for monomial, factor in dim.terms
        ),
        start=0,
    )


def size(dim: Dim) -> int:
    """The integer that `dim` is; raises ValueError while a symbol is left in it."""
    if isinstance(dim, int):
        return dim
    raise ValueError(f"dimension {dim} is not bound to a number")


def ceil_div(dim: Dim, by: int) -> Dim:
    """`dim / by` rounded up; of a polynomial each factor, so that it is never too small for sizes
    and factors that are not negative."""
    if isinstance(dim, int):
        return -(-dim // by)
    return _normal({monomial: -(-factor // by) for monomial, factor in dim.terms})


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions; 1 for none."""
    return prod(dims, start=1)


def parse_dim(text: str) -> Dim:
    """Read what `str(dim)` wrote; raises ValueError but for sums and products of integers and
    symbols."""
    try:
        return _from_ast(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"not a dimension: {text!r}") from error


def _from_ast(node: ast.expr) -> Dim:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _from_ast(inner) * -1
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _from_ast(left) + _from_ast(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _from_ast(left) - _from_ast(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _from_ast(left) * _from_ast(right)
        case _:
            raise ValueError(f"not a dimension: {ast.unparse(node)!r}")
