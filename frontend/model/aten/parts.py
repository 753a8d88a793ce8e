"""Tensors cut apart, joined, padded and turned around along one dimension."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ....ir.dims import Dim, Polynomial
from ....ir.graph import TensorType
from ..builder import View, letters_for
from .call import Call, Rule, Shown, UnsupportedError, letters_of
from .elementwise import cast, expression
from .shapes import unsqueezed


def with_size(type_: TensorType, at: int, size: Dim) -> TensorType:
    """A type with another size of one dimension."""
    return TensorType(type_.dtype, (*type_.shape[:at], size, *type_.shape[at + 1 :]))


def without(type_: TensorType, at: int) -> TensorType:
    """A type without one of its dimensions."""
    return TensorType(type_.dtype, (*type_.shape[:at], *type_.shape[at + 1 :]))


def cut(call: Call, x: Shown, at: int, start: Dim, size: Dim) -> Shown:
    """`size` elements of a tensor from `start` on, along the dimension `at`."""
    type_ = with_size(x.type, at, size)
    axis = x.view.axes[at]
    own = call.graph.types[x.view.name]
    if axis is None or own.shape[axis] != x.type.shape[at] or type_ == x.type:
        return Shown(x.view, type_)
    letters = letters_of(own)
    part = call.graph.add(
        "slice",
        [x.view.name],
        with_size(own, axis, size),
        {
            "indices": f"{letters}->{letters}",
            "along": letters[axis],
            "start": start,
            "stop": start + size,
        },
    )
    return Shown(View(part.name, x.view.axes), type_)


def selected(call: Call, x: Shown, at: int, index: Dim) -> Shown:
    """One element along the dimension `at`, which is gone."""
    part = cut(call, x, at, index, 1)
    type_ = without(x.type, at)
    axis = part.view.axes[at]
    axes = (*part.view.axes[:at], *part.view.axes[at + 1 :])
    if axis is None:
        return Shown(View(part.view.name, axes), type_)
    own = call.graph.types[part.view.name]
    if own.shape[axis] != 1:
        part = Shown(call.graph.whole(call.graph.real(part.view, part.type.shape)), part.type)
        return Shown(call.graph.reshape(part.view, part.type.shape, type_.shape), type_)
    thin = call.graph.reshape(
        call.graph.whole(part.view.name), own.shape, (*own.shape[:axis], *own.shape[axis + 1 :])
    )
    moved = tuple(a - 1 if a is not None and a > axis else a for a in axes)
    return Shown(View(thin.name, moved), type_)


def from_start(index: Any, size: Dim) -> Dim:
    """An index of a dimension, counted from its start; raises UnsupportedError if unclear."""
    if isinstance(index, int):
        return size + index if index < 0 else index
    signs = {factor > 0 for _, factor in index.terms}
    if len(signs) > 1:
        raise UnsupportedError(f"an index {index} that may be below zero")
    return index if signs == {True} else size + index


def _slice(call: Call) -> View:
    x = call.tensor(0)
    if x.type == call.type:
        return x.view
    at, step = call.dim(1, "dim", len(x.type.shape), 0), call.get(4, "step", 1)
    whole, count = x.type.shape[at], call.type.shape[at]
    start: Dim = call.get(2, "start") or 0
    if isinstance(start, Polynomial) and start + count == whole:
        start = whole - count
    else:
        start = from_start(start, whole)
    if isinstance(start, int) and isinstance(whole, int):
        start = min(max(start, 0), whole)
    if step == 1:
        return cut(call, x, at, start, count).view
    return _stepped(call, x, at, start, step).view


def _stepped(call: Call, x: Shown, at: int, start: Dim, step: int) -> Shown:
    """Every `step`-th element: groups of as many, and one of each."""
    whole, count = x.type.shape[at], call.type.shape[at]
    spare = whole - count * step
    if not isinstance(spare, int) or not isinstance(start, int):
        raise UnsupportedError(f"a slice of {whole} in steps of {step}")
    lacking = max(start - step + 1, 0) - spare
    if lacking > 0:
        x, spare = _padded(call, x, at, 0, lacking, 0), spare + lacking
    first = min(start, spare)
    groups = cut(call, x, at, first, count * step)
    before, after = x.type.shape[:at], x.type.shape[at + 1 :]
    shape = (*before, count, step, *after)
    view = call.graph.reshape(groups.view, groups.type.shape, shape)
    return selected(call, Shown(view, TensorType(x.type.dtype, shape)), at + 1, start - first)


def _unfold(call: Call) -> View:
    """Windows along a dimension; where they begin stays there, and their insides come last."""
    x, size, step = call.tensor(0), call.arguments[2], call.arguments[3]
    at = call.dim(1, "dim", len(x.type.shape))
    count = call.type.shape[at]
    part = call.with_arguments(type_=with_size(x.type, at, count))
    rows = [
        cut(call, x, at, lag, count) if step == 1 else _stepped(part, x, at, lag, step)
        for lag in range(size)
    ]
    return stacked(call, rows, call.rank - 1, call.type)


def _select(call: Call) -> View:
    x = call.tensor(0)
    at = call.dim(1, "dim", len(x.type.shape))
    return selected(call, x, at, from_start(call.get(2, "index"), x.type.shape[at])).view


def _narrow(call: Call) -> View:
    x = call.tensor(0)
    at = call.dim(1, "dim", len(x.type.shape))
    start = from_start(call.get(2, "start"), x.type.shape[at])
    return cut(call, x, at, start, call.get(3, "length")).view


def _split(call: Call) -> tuple[View, ...]:
    """All parts, whose sizes are in their types."""
    x = call.tensor(0)
    at = call.dim(2, "dim", len(x.type.shape), 0)
    start: Dim = 0
    views: list[View] = []
    for type_ in call.types:
        views.append(cut(call, x, at, start, type_.shape[at]).view)
        start = start + type_.shape[at]
    return tuple(views)


def _unbind(call: Call) -> tuple[View, ...]:
    x = call.tensor(0)
    at = call.dim(1, "dim", len(x.type.shape), 0)
    return tuple(selected(call, x, at, index).view for index in range(len(call.types)))


def joined(call: Call, parts: Sequence[Shown], at: int, type_: TensorType) -> View:
    """Tensors one after the other; one without elements is none."""
    parts = [part for part in parts if part.type.shape[at : at + 1] != (0,)] or parts[:1]
    if len(parts) == 1:
        return parts[0].view
    result = letters_of(type_)
    rows: list[tuple[str, str]] = []
    for part in parts:
        view = cast(call, part, type_.dtype)
        shown = Shown(view, TensorType(type_.dtype, part.type.shape))
        solid = call.solid(shown)
        rows.append((solid.name, call.graph.letters(solid, result, part.type.shape)))
    return call.graph.add(
        "concat",
        [name for name, _ in rows],
        type_,
        {"indices": f"{','.join(own for _, own in rows)}->{result}", "along": result[at]},
        call.name,
    )


def _concat(call: Call) -> View:
    parts = [call.as_tensor(part, "a part") for part in call.arguments[0]]
    parts = [part for part in parts if len(part.type.shape) == call.rank]
    return joined(call, parts, call.dim(1, "dim", call.rank, 0), call.type)


def _stack(call: Call) -> View:
    at = call.dim(1, "dim", call.rank, 0)
    parts = [call.as_tensor(part, "a part") for part in call.arguments[0]]
    return stacked(call, parts, at, call.type)


def stacked(call: Call, parts: Sequence[Shown], at: int, type_: TensorType) -> View:
    """Tensors one after the other along a dimension that they do not have."""
    thick = with_size(type_, at, 1)
    return joined(
        call,
        [Shown(unsqueezed(part.view, at), replace(thick, dtype=part.type.dtype)) for part in parts],
        at,
        type_,
    )


def _pad(call: Call) -> View:
    """Room before and after, given for the last dimension first; below zero it is cut away."""
    x, ends = call.tensor(0), list(call.arguments[1])
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value") or 0
    if not isinstance(mode, str):
        mode, value = "constant", mode
    if mode != "constant":
        raise UnsupportedError(f"mode {mode}")
    for place in range(len(ends) // 2):
        at = len(x.type.shape) - 1 - place
        x = _padded(call, x, at, ends[2 * place], ends[2 * place + 1], value)
    return x.view


def _padded(call: Call, x: Shown, at: int, before: Dim, after: Dim, value: float) -> Shown:
    removed = [-end if isinstance(end, int) and end < 0 else 0 for end in (before, after)]
    if any(removed):
        x = cut(call, x, at, removed[0], x.type.shape[at] - sum(removed))
    before, after = before + removed[0], after + removed[1]
    if before == 0 and after == 0:
        return x
    view = call.solid(x)
    letters = letters_of(x.type)
    type_ = with_size(x.type, at, x.type.shape[at] + before + after)
    own = call.graph.letters(view, letters, x.type.shape)
    padded = call.add(
        "pad",
        [view.name],
        type_,
        indices=f"{own}->{letters}",
        along=letters[at],
        before=before,
        after=after,
        value=value,
    )
    return Shown(padded, type_)


def _flip(call: Call) -> View:
    x = call.tensor(0)
    letters = letters_of(x.type)
    for at in call.arguments[1]:
        name, own = call.lettered(x, letters, letters)
        indices = {"indices": f"{own}->{letters}", "along": letters[at % len(letters)]}
        x = Shown(call.graph.add("flip", [name], x.type, indices, call.name), x.type)
    return x.view


def _roll(call: Call) -> View:
    x, shifts, places = call.tensor(0), call.arguments[1], call.get(2, "dims", [])
    if not places:
        raise UnsupportedError("a roll over all dimensions at once")
    for shift, place in zip(shifts, places, strict=True):
        at = place % len(x.type.shape)
        size = x.type.shape[at]
        if isinstance(size, int):
            shift %= size
        head = size - shift if isinstance(size, int) or shift >= 0 else -shift
        parts = [cut(call, x, at, head, size - head), cut(call, x, at, 0, head)]
        x = Shown(joined(call, parts, at, x.type), x.type)
    return x.view


def _diff(call: Call) -> View:
    x = call.tensor(0)
    at = call.dim(2, "dim", len(x.type.shape), -1)
    if call.get(1, "n", 1) != 1:
        raise UnsupportedError("differences of differences")
    ends = [call.get(3, "prepend"), x, call.get(4, "append")]
    parts = [end for end in ends if isinstance(end, Shown)]
    size: Dim = sum((part.type.shape[at] for part in parts), start=0)
    whole = Shown(joined(call, parts, at, with_size(x.type, at, size)), with_size(x.type, at, size))
    first, last = (cut(call, whole, at, start, size - 1) for start in (0, 1))
    return expression(call, "a != b" if x.type.dtype == "bool" else "a - b", last, first)


def replaced(call: Call, x: Shown, source: Shown, at: int, start: Dim) -> View:
    """A tensor with the elements from `start` on, along the dimension `at`, those of another."""
    size, count = x.type.shape[at], source.type.shape[at]
    parts = [
        cut(call, x, at, 0, start),
        Shown(source.view, with_size(x.type, at, count)),
        cut(call, x, at, start + count, size - start - count),
    ]
    parts[1] = Shown(source.view, replace(parts[1].type, dtype=source.type.dtype))
    return joined(call, parts, at, call.type)


def _select_scatter(call: Call) -> View:
    x, source = call.tensor(0), call.tensor(1)
    at = call.dim(2, "dim", call.rank)
    index = from_start(call.get(3, "index"), x.type.shape[at])
    type_ = replace(with_size(x.type, at, 1), dtype=source.type.dtype)
    return replaced(call, x, Shown(unsqueezed(source.view, at), type_), at, index)


def _glu(call: Call) -> View:
    x = call.tensor(0)
    at = call.dim(1, "dim", call.rank, -1)
    half = call.type.shape[at]
    first, second = (cut(call, x, at, start, half) for start in (0, half))
    return expression(call, "a * sigmoid(b)", first, second)


def _diagonal(call: Call) -> View:
    """The main diagonal: of every row the element of its own number."""
    x = call.tensor(0)
    rank = len(x.type.shape)
    a, b = call.dim(2, "dim1", rank, 0), call.dim(3, "dim2", rank, 1)
    if call.get(1, "offset", 0) != 0 or x.type.shape[a] != x.type.shape[b]:
        raise UnsupportedError("any but the main diagonal of a square")
    letters = letters_for(rank)
    name, own = call.lettered(x, letters, letters)
    index = call.positions(x.type.shape[a])
    kept = [letter for at, letter in enumerate(letters) if at not in (a, b)]
    result = "".join([*kept, letters[a]])
    indices = f"{own},{letters[a]}->{result}"
    return call.add("gather", [name, index.name], call.type, indices=indices, along=letters[b])


RULES: dict[str, Rule] = {
    "cat.default": _concat,
    "chunk.default": _split,
    "concat.default": _concat,
    "concatenate.default": _concat,
    "constant_pad_nd.default": _pad,
    "diagonal.default": _diagonal,
    "diff.default": _diff,
    "flip.default": _flip,
    "glu.default": _glu,
    "narrow.default": _narrow,
    "pad.default": _pad,
    "roll.default": _roll,
    "select.int": _select,
    "select_scatter.default": _select_scatter,
    "slice.Tensor": _slice,
    "split.Tensor": _split,
    "split.default": _split,
    "split.sizes": _split,
    "split_with_sizes.default": _split,
    "stack.default": _stack,
    "tensor_split.sections": _split,
    "unbind.int": _unbind,
    "unfold.default": _unfold,
    "unsafe_chunk.default": _split,
    "unsafe_split.Tensor": _split,
}
