"""The table of ATen operators: what each becomes in our graph.

`SAME` are no computation, `ELEMENTWISE` are expressions, `RULES` are everything else. A rule takes
a `Call` and returns the view of its result, or raises `UnsupportedError` with what it cannot do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

from ...ir.dims import Dim
from ...ir.expression import LETTERS, substitute
from ...ir.graph import Attribute, TensorType
from .builder import GraphBuilder, View, letters_for


class UnsupportedError(Exception):
    """An operator, or a use of one, that the graph has no form for."""


@dataclass(frozen=True)
class Shown:
    """A tensor as ATen sees it: its view and its type."""

    view: View
    type: TensorType


@dataclass(frozen=True)
class Call:
    """One call of an ATen operator: tensors are `Shown`, integers are dimensions."""

    graph: GraphBuilder
    arguments: Sequence[Any]
    named: dict[str, Any]
    type: TensorType
    name: str

    def get(self, at: int, name: str, default: Any = None) -> Any:
        """The argument at a place or of a name."""
        return self.arguments[at] if at < len(self.arguments) else self.named.get(name, default)

    def tensor(self, at: int) -> Shown:
        """The tensor argument at a place."""
        found = self.arguments[at]
        if not isinstance(found, Shown):
            raise UnsupportedError(f"argument {at} is no tensor")
        return found

    def solid(self, shown: Shown) -> View:
        """A view of a tensor in which every dimension is one of the value's own."""
        own = self.graph.types[shown.view.name].shape
        axes = shown.view.axes
        if sorted(axis for axis in axes if axis is not None) == list(range(len(axes))) and all(
            own[axis] == size
            for axis, size in zip(axes, shown.type.shape, strict=True)
            if axis is not None
        ):
            return shown.view
        return self.graph.whole(self.graph.real(shown.view, shown.type.shape))

    def real(self, at: int) -> str:
        """The name of a tensor argument with exactly the dimensions that ATen sees."""
        shown = self.tensor(at)
        return self.graph.real(shown.view, shown.type.shape)


Rule = Callable[[Call], View]

SAME = frozenset(
    {
        "alias.default",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "detach_.default",
        "dropout.default",
        "lift_fresh_copy.default",
    }
)
"""Operators whose result is their first operand; dropout too, in inference."""

ELEMENTWISE = {
    "abs.default": "abs(a)",
    "add.Tensor": "a + b",
    "cos.default": "cos(a)",
    "div.Tensor": "a / b",
    "exp.default": "exp(a)",
    "maximum.default": "maximum(a, b)",
    "minimum.default": "minimum(a, b)",
    "mul.Scalar": "a * b",
    "mul.Tensor": "a * b",
    "neg.default": "-a",
    "reciprocal.default": "reciprocal(a)",
    "relu.default": "relu(a)",
    "rsqrt.default": "rsqrt(a)",
    "sigmoid.default": "sigmoid(a)",
    "silu.default": "silu(a)",
    "sin.default": "sin(a)",
    "softplus.default": "softplus(a)",
    "sqrt.default": "sqrt(a)",
    "square.default": "square(a)",
    "sub.Tensor": "a - b",
    "tanh.default": "tanh(a)",
}


def spare_letter(taken: str, wanted: str) -> str:
    """`wanted`, or another letter that is none of `taken`."""
    return next(letter for letter in wanted + LETTERS if letter not in taken)


def _size(dim: Dim, what: str) -> int:
    if not isinstance(dim, int):
        raise UnsupportedError(f"{what} {dim}, which is not a number")
    return dim


def elementwise(expr: str) -> Rule:
    """A rule for an expression; numbers among the arguments are written into it."""

    def rule(call: Call) -> View:
        if call.named.get("alpha", 1) != 1:
            raise UnsupportedError(f"alpha = {call.named['alpha']}")
        views: list[View] = []
        letters: dict[str, str] = {}
        for letter, argument in zip(LETTERS, call.arguments, strict=False):
            if isinstance(argument, Shown):
                letters[letter] = LETTERS[len(views)]
                views.append(argument.view)
            else:
                letters[letter] = _number(argument)
        if expr == "a * b" and call.arguments[1] == 1 and call.tensor(0).type == call.type:
            return views[0]
        return call.graph.elementwise(substitute(expr, letters), views, call.type, call.name)

    return rule


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or not isfinite(value):
        raise UnsupportedError(f"the number {value}")
    return repr(value)


def _gelu(call: Call) -> View:
    tanh = call.named.get("approximate", "none") == "tanh"
    view = call.tensor(0).view
    return call.graph.elementwise(
        "gelu_tanh(a)" if tanh else "gelu(a)", [view], call.type, call.name
    )


def _power(call: Call) -> View:
    exponent = _number(call.arguments[1])
    expr = "square(a)" if float(exponent) == 2 else f"a ** {exponent}"
    return call.graph.elementwise(expr, [call.tensor(0).view], call.type, call.name)


def _cast(call: Call) -> View:
    shown = call.tensor(0)
    if shown.type.dtype == call.type.dtype:
        return shown.view
    name = f"{shown.view.name}.{call.type.dtype}"
    return call.graph.elementwise("a", [shown.view], call.type, name)


def _linear(call: Call) -> View:
    x, weight = call.tensor(0), call.tensor(1)
    view = call.solid(x)
    letters = letters_for(len(x.type.shape))
    new = spare_letter(letters, "f")
    left = call.graph.letters(view, letters, x.type.shape)
    right = call.graph.letters(weight.view, new + letters[-1], weight.type.shape)
    result = call.graph.add(
        "matmul",
        [view.name, weight.view.name],
        call.type,
        {"indices": f"{left},{right}->{letters[:-1]}{new}"},
        call.name,
    )
    bias = call.get(2, "bias")
    if bias is None:
        return result
    return call.graph.elementwise("a + b", [result, bias.view], call.type, f"{call.name}.biased")


def _matmul(call: Call) -> View:
    """A product of matrices, the leading dimensions in step; a sum of one product is none."""
    left, right = call.tensor(0), call.tensor(1)
    a, b = left.type.shape, right.type.shape
    if a[-1] == 1:
        views = [left.view, right.view]
        return call.graph.elementwise("a * b", views, call.type, call.name)
    if len(a) != len(b) or a[:-2] != b[:-2]:
        raise UnsupportedError(f"a product of {left.type} and {right.type}")
    result = letters_for(len(a))
    outer, rows, columns = result[:-2], result[-2], result[-1]
    inner = spare_letter(result, "k")
    return call.graph.add(
        "matmul",
        [call.real(0), call.real(1)],
        call.type,
        {"indices": f"{outer}{rows}{inner},{outer}{inner}{columns}->{result}"},
        call.name,
    )


def _mean(call: Call) -> View:
    """The sum over its number of elements; a reduced dimension that is kept is one of the view."""
    x = call.tensor(0)
    rank = len(x.type.shape)
    over = {at % rank for at in call.arguments[1]}
    count = prod(_size(x.type.shape[at], "a mean over") for at in over)
    kept = [at for at in range(rank) if at not in over]
    type_ = TensorType(call.type.dtype, tuple(x.type.shape[at] for at in kept))
    letters = letters_for(rank)
    view = call.solid(x)
    own = call.graph.letters(view, letters, x.type.shape)
    result = "".join(letters[at] for at in kept)
    total = call.graph.add(
        "reduce",
        [view.name],
        type_,
        {"indices": f"{own}->{result}", "function": "sum", "expr": "a"},
        "sum",
    )
    mean = call.graph.elementwise(f"a / {count}", [total], type_, call.name)
    if not call.get(2, "keepdim", False):
        return mean
    places = iter(mean.axes)
    return View(mean.name, tuple(next(places) if at in kept else None for at in range(rank)))


def _embedding(call: Call) -> View:
    table, ids = call.tensor(0), call.tensor(1)
    view = call.solid(ids)
    result = letters_for(len(call.type.shape))
    rows = spare_letter(result, "v")
    left = call.graph.letters(view, result[:-1], ids.type.shape)
    right = call.graph.letters(table.view, rows + result[-1], table.type.shape)
    return call.graph.add(
        "embedding",
        [view.name, table.view.name],
        call.type,
        {"indices": f"{left},{right}->{result}", "rows": rows},
        call.name,
    )


def _concat(call: Call) -> View:
    parts: Sequence[Shown] = call.arguments[0]
    result = letters_for(len(call.type.shape))
    along = result[call.get(1, "dim", 0) % len(result)]
    views = [call.solid(part) for part in parts]
    own = [
        call.graph.letters(view, result, part.type.shape)
        for view, part in zip(views, parts, strict=True)
    ]
    return call.graph.add(
        "concat",
        [view.name for view in views],
        call.type,
        {"indices": f"{','.join(own)}->{result}", "along": along},
        call.name,
    )


def _attention(call: Call) -> View:
    scale, causal, window = call.arguments[3:]
    attributes: dict[str, Attribute] = {"scale": scale, "causal": causal}
    if window is not None:
        attributes["window"] = window
    return call.graph.add(
        "attention", [call.real(at) for at in range(3)], call.type, attributes, "attention"
    )


def _reshape(call: Call) -> View:
    x = call.tensor(0)
    return call.graph.reshape(x.view, x.type.shape, call.type.shape)


def _reordered(call: Call, order: Sequence[int]) -> View:
    view = call.tensor(0).view
    return View(view.name, tuple(view.axes[at] for at in order))


def _transpose(call: Call) -> View:
    order = list(range(len(call.type.shape)))
    a, b = (at % len(order) for at in call.arguments[1:3])
    order[a], order[b] = order[b], order[a]
    return _reordered(call, order)


def _permute(call: Call) -> View:
    return _reordered(call, [at % len(call.type.shape) for at in call.arguments[1]])


def _unsqueeze(call: Call) -> View:
    view = call.tensor(0).view
    at = call.arguments[1] % len(call.type.shape)
    return View(view.name, (*view.axes[:at], None, *view.axes[at:]))


def _squeeze(call: Call) -> View:
    x = call.tensor(0)
    at = call.arguments[1] % len(x.type.shape)
    if len(call.type.shape) == len(x.type.shape):
        return x.view
    return View(x.view.name, x.view.axes[:at] + x.view.axes[at + 1 :])


def _expand(call: Call) -> View:
    view = call.tensor(0).view
    added = (None,) * (len(call.type.shape) - len(view.axes))
    return View(view.name, added + view.axes)


def _slice(call: Call) -> View:
    x = call.tensor(0)
    if x.type == call.type:
        return x.view
    at = call.get(1, "dim", 0) % len(x.type.shape)
    axis = x.view.axes[at]
    size = _size(x.type.shape[at], "a slice of")
    if axis is None or call.get(4, "step", 1) != 1:
        raise UnsupportedError("a slice with steps or of a broadcast dimension")
    bounds = (call.get(2, "start"), 0), (call.get(3, "end"), size)
    stated = [_size(bound or default, "a slice to") for bound, default in bounds]
    start, stop = (min(max(at + size if at < 0 else at, 0), size) for at in stated)
    own = call.graph.types[x.view.name]
    shape = (*own.shape[:axis], stop - start, *own.shape[axis + 1 :])
    part = call.graph.add(
        "slice",
        [x.view.name],
        TensorType(own.dtype, shape),
        {"dim": axis, "start": start, "stop": stop},
    )
    return View(part.name, x.view.axes)


RULES: dict[str, Rule] = {
    **{name: elementwise(expr) for name, expr in ELEMENTWISE.items()},
    **{name: lambda call: call.tensor(0).view for name in SAME},
    "attention.default": _attention,
    "cat.default": _concat,
    "embedding.default": _embedding,
    "expand.default": _expand,
    "gelu.default": _gelu,
    "linear.default": _linear,
    "matmul.default": _matmul,
    "mean.dim": _mean,
    "permute.default": _permute,
    "pow.Tensor_Scalar": _power,
    "reshape.default": _reshape,
    "slice.Tensor": _slice,
    "squeeze.dim": _squeeze,
    "to.device": _cast,
    "to.dtype": _cast,
    "to.dtype_layout": _cast,
    "transpose.int": _transpose,
    "type_as.default": _cast,
    "unsqueeze.default": _unsqueeze,
    "view.default": _reshape,
}
