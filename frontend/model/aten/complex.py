"""Complex numbers: real ones with a last dimension of two that ATen does not see.

What does not care gets the real tensor with that dimension; the few operators that compute with
complex numbers are taken apart.
"""

from collections.abc import Mapping
from typing import Any

from ....ir.graph import TensorType
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError, stored_type
from .elementwise import SAME, expression
from .parts import selected, stacked

_PLACES: Mapping[str, tuple[int, ...]] = {
    "_unsafe_view.default": (),
    "add.Tensor": (),
    "broadcast_to.default": (),
    "expand.default": (),
    "flatten.using_ints": (),
    "index_select.default": (1,),
    "reshape.default": (),
    "select.int": (1,),
    "slice.Tensor": (1,),
    "squeeze.dim": (1,),
    "sub.Tensor": (),
    "transpose.int": (1, 2),
    "unsqueeze.default": (1,),
    "view.default": (),
    **dict.fromkeys(SAME, ()),
}
"""Operators that treat both parts alike, and the places of arguments that count dimensions."""


def as_real(x: Shown) -> Shown:
    """A complex tensor as the graph holds it."""
    return Shown(x.view, x.stored)


def _alike(rule: Rule, places: tuple[int, ...]) -> Rule:
    def apply(call: Call) -> Any:
        arguments: list[Any] = [as_real(x) if isinstance(x, Shown) else x for x in call.arguments]
        if any(isinstance(x, Shown) and not x.complex for x in call.arguments):
            raise UnsupportedError("complex and real numbers together")
        rank = max(call.rank, len(call.tensor(0).type.shape))
        for at in places:
            if at < len(arguments):
                arguments[at] %= rank
        real = Call(call.graph, arguments, call.named, stored_type(call.type), call.name)
        return rule(real)

    return apply


def _parts(call: Call, x: Shown) -> tuple[Shown, Shown]:
    """Real and imaginary parts."""
    held = as_real(x)
    last = len(x.type.shape)
    first, second = (selected(call, held, last, index) for index in (0, 1))
    return first, second


def _joined(call: Call, first: View, second: View) -> View:
    """The complex tensor of two parts."""
    held = stored_type(call.type)
    type_ = TensorType(held.dtype, call.type.shape)
    return stacked(call, [Shown(first, type_), Shown(second, type_)], call.rank, held)


def _part_type(call: Call) -> TensorType:
    return TensorType(stored_type(call.type).dtype, call.type.shape)


def _multiply(call: Call) -> View:
    a, b = call.arguments[:2]
    if not (isinstance(a, Shown) and a.complex):
        a, b = b, a
    held = stored_type(call.type)
    if not isinstance(b, Shown):
        return expression(call, "a * b", as_real(a), b, type_=held)
    if not b.complex:
        wide = View(b.view.name, (*b.view.axes, None))
        return call.elementwise("a * b", a.view, wide, type_=held).view
    (a0, a1), (b0, b1) = _parts(call, a), _parts(call, b)
    type_ = _part_type(call)
    views = a0.view, a1.view, b0.view, b1.view
    real = call.elementwise("a * c - b * d", *views, type_=type_)
    imaginary = call.elementwise("a * d + b * c", *views, type_=type_)
    return _joined(call, real.view, imaginary.view)


def _conjugate(call: Call) -> View:
    first, second = _parts(call, call.tensor(0))
    negative = call.elementwise("-a", second.view, type_=second.type)
    return _joined(call, first.view, negative.view)


def _polar(call: Call) -> View:
    length, angle = call.tensor(0), call.tensor(1)
    type_ = _part_type(call)
    real, imaginary = (
        call.elementwise(f"a * {function}(b)", length.view, angle.view, type_=type_)
        for function in ("cos", "sin")
    )
    return _joined(call, real.view, imaginary.view)


def _complex(call: Call) -> View:
    return _joined(call, call.tensor(0).view, call.tensor(1).view)


def _part(which: int) -> Rule:
    return lambda call: _parts(call, call.tensor(0))[which].view


def _same(call: Call) -> View:
    return call.tensor(0).view


def _length(call: Call) -> View:
    first, second = _parts(call, call.tensor(0))
    return call.elementwise("sqrt(square(a) + square(b))", first.view, second.view).view


_OWN: dict[str, Rule] = {
    "_conj.default": _conjugate,
    "_to_copy.default": _same,
    "abs.default": _length,
    "complex.default": _complex,
    "conj.default": _conjugate,
    "conj_physical.default": _conjugate,
    "imag.default": _part(1),
    "mul.Scalar": _multiply,
    "mul.Tensor": _multiply,
    "polar.default": _polar,
    "real.default": _part(0),
    "to.device": _same,
    "to.dtype": _same,
    "to.dtype_layout": _same,
    "view_as_complex.default": _same,
    "view_as_real.default": _same,
}


def with_complex(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules for real tensors, and for complex ones where there are any: all others raise
    UnsupportedError for complex numbers."""
    alike = {name: _alike(rules[name], places) for name, places in _PLACES.items()}
    complex_rules = {**alike, **_OWN}
    names = {**rules, **_OWN}
    return {name: _either(rules.get(name), complex_rules.get(name)) for name in names}


def _either(real: Rule | None, complex_: Rule | None) -> Rule:
    def rule(call: Call) -> Any:
        shown = [x for x in call.arguments if isinstance(x, Shown)]
        has = any(x.complex for x in shown)
        has = has or any(stored_type(type_) != type_ for type_ in call.types)
        chosen = complex_ if has else real
        if chosen is None:
            raise UnsupportedError("complex numbers" if has else "real numbers")
        return chosen(call)

    return rule
