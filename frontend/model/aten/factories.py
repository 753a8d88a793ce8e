"""Tensors made from sizes and numbers alone."""

from typing import Any

from ....ir.graph import TensorType
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError, number
from .elementwise import expression

_ZERO = (
    "empty.memory_format",
    "empty_like.default",
    "empty_permuted.default",
    "empty_strided.default",
    "new_empty.default",
    "new_empty_strided.default",
    "new_zeros.default",
    "zero.default",
    "zeros.default",
    "zeros_like.default",
)
"""Tensors of zeros; what an empty one holds may be anything, so also zeros."""

_ONE = ("new_ones.default", "ones.default", "ones_like.default")

_NUMBER = {
    "fill.Scalar": 1,
    "fill.Tensor": 1,
    "full.default": 1,
    "full_like.default": 1,
    "new_full.default": 2,
    "scalar_tensor.default": 0,
}
"""The place of the number among the arguments."""


def _filled(value: float) -> Rule:
    return lambda call: call.constant(value, call.type)


def _full(at: int) -> Rule:
    def rule(call: Call) -> View:
        value = call.get(at, "fill_value", call.named.get("value"))
        if isinstance(value, Shown):
            type_ = TensorType(call.type.dtype, ())
            made = expression(call, "a", value, type_=type_)
            return View(made.name, (None,) * call.rank)
        return call.constant(value, call.type)

    return rule


def _whole_number(value: Any) -> bool:
    return not isinstance(value, float) or value.is_integer()


def _arange(call: Call) -> View:
    values = list(call.arguments)
    values = [0, *values] if len(values) == 1 else values
    start, _, step = [*values, 1] if len(values) == 2 else values
    (count,) = call.type.shape
    if _whole_number(start) and _whole_number(step):
        start, step = (int(x) if isinstance(x, float) else x for x in (start, step))
        type_ = TensorType(call.type.dtype, (count,))
        return call.add("iota", [], type_, indices="->s", start=start, step=step)
    return expression(call, f"a * ({number(step)}) + {number(start)}", _steps(call))


def _steps(call: Call) -> Shown:
    (count,) = call.type.shape
    return Shown(call.positions(count), TensorType("int64", (count,)))


def _linspace(call: Call) -> View:
    start, end, count = call.arguments[:3]
    if isinstance(start, Shown) or isinstance(end, Shown) or not isinstance(count, int):
        raise UnsupportedError("ends or a number of steps that are not constant")
    step = (end - start) / max(count - 1, 1)
    return expression(call, "a * b + c", _steps(call), step, start)


def _grid(call: Call, rows: Any, columns: Any) -> tuple[View, View]:
    """Row and column numbers, to be broadcast against a matrix."""
    down, across = call.positions(rows), call.positions(columns)
    return View(down.name, (0, None)), View(across.name, (0,))


def _eye(call: Call) -> View:
    down, across = _grid(call, *call.type.shape)
    return call.elementwise("a == b", down, across).view


def _triangle(test: str) -> Rule:
    def rule(call: Call) -> View:
        x, diagonal = call.tensor(0), call.get(1, "diagonal", 0)
        down, across = _grid(call, *x.type.shape[-2:])
        offset = "b" if diagonal == 0 else f"b + ({number(diagonal)})"
        return call.elementwise(f"where(c {test} {offset}, a, 0)", x.view, down, across).view

    return rule


def _one_hot(call: Call) -> View:
    x, across = call.tensor(0), call.positions(call.type.shape[-1])
    return call.elementwise("a == b", View(x.view.name, (*x.view.axes, None)), across).view


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ZERO, _filled(0)),
    **dict.fromkeys(_ONE, _filled(1)),
    **{name: _full(at) for name, at in _NUMBER.items()},
    "arange.default": _arange,
    "arange.start": _arange,
    "arange.start_step": _arange,
    "eye.default": _eye,
    "eye.m": _eye,
    "linspace.default": _linspace,
    "one_hot.default": _one_hot,
    "tril.default": _triangle("<="),
    "triu.default": _triangle(">="),
}
