"""The same elements otherwise shaped, ordered or repeated: views where it can be."""

from collections.abc import Sequence

from ....ir.dims import Dim
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError


def _reshape(call: Call) -> View:
    x = call.tensor(0)
    return call.graph.reshape(x.view, x.type.shape, call.type.shape)


def reordered(shown: Shown, order: Sequence[int]) -> View:
    """A view with its dimensions in another order."""
    return View(shown.view.name, tuple(shown.view.axes[at] for at in order))


def _transpose(call: Call) -> View:
    order = list(range(call.rank))
    if not order:
        return call.tensor(0).view
    a, b = (at % len(order) for at in call.arguments[1:3])
    order[a], order[b] = order[b], order[a]
    return reordered(call.tensor(0), order)


def _permute(call: Call) -> View:
    return reordered(call.tensor(0), [at % call.rank for at in call.arguments[1]])


def _reversed(call: Call) -> View:
    return reordered(call.tensor(0), range(call.rank)[::-1])


def _matrix_transposed(call: Call) -> View:
    order = list(range(call.rank))
    return reordered(call.tensor(0), [*order[:-2], order[-1], order[-2]])


def _movedim(call: Call) -> View:
    source, target = (
        [at % call.rank for at in ([places] if isinstance(places, int) else places)]
        for places in call.arguments[1:3]
    )
    order = [at for at in range(call.rank) if at not in source]
    for place, at in sorted(zip(target, source, strict=True)):
        order.insert(place, at)
    return reordered(call.tensor(0), order)


def unsqueezed(view: View, at: int) -> View:
    """A view with a dimension of one put in."""
    return View(view.name, (*view.axes[:at], None, *view.axes[at:]))


def _unsqueeze(call: Call) -> View:
    return unsqueezed(call.tensor(0).view, call.arguments[1] % call.rank)


def _squeeze(call: Call) -> View:
    x = call.tensor(0)
    rank, sizes = len(x.type.shape), x.type.shape
    stated = call.get(1, "dim", list(range(rank)))
    places = {at % max(rank, 1) for at in ([stated] if isinstance(stated, int) else stated)}
    kept = [at for at in range(rank) if at not in places or sizes[at] != 1]
    return View(x.view.name, tuple(x.view.axes[at] for at in kept))


def _expand(call: Call) -> View:
    view = call.tensor(0).view
    return View(view.name, (None,) * (call.rank - len(view.axes)) + view.axes)


def _broadcast_tensors(call: Call) -> tuple[View, ...]:
    rank = len(call.types[0].shape)
    views = [call.as_tensor(x, "a tensor").view for x in call.arguments[0]]
    return tuple(View(view.name, (None,) * (rank - len(view.axes)) + view.axes) for view in views)


def _repeat(call: Call) -> View:
    """Every dimension that is repeated is two for a moment: how often, and which."""
    x, times = call.tensor(0), list(call.arguments[1])
    times = [1] * (len(x.type.shape) - len(times)) + times
    added = len(times) - len(x.type.shape)
    return _repeated(call, x, added, times, before=True)


def _repeated(call: Call, x: Shown, added: int, times: Sequence[Dim], before: bool) -> View:
    axes: list[int | None] = []
    seen: list[Dim] = []
    sizes = ((1,) * added) + x.type.shape
    for time, size, axis in zip(times, sizes, (None,) * added + x.view.axes, strict=True):
        if time == 1 or size == 1:
            axes.append(axis)
            seen.append(size * time)
        else:
            axes.extend((None, axis) if before else (axis, None))
            seen.extend((time, size) if before else (size, time))
    view = View(x.view.name, tuple(axes))
    if tuple(seen) == call.type.shape:
        return view
    return call.graph.reshape(view, seen, call.type.shape)


def _repeat_interleave(call: Call) -> View:
    x, times, stated = call.tensor(0), call.arguments[1], call.get(2, "dim")
    if isinstance(times, Shown):
        raise UnsupportedError("repeats that differ")
    if stated is None:
        view = call.graph.reshape(x.view, x.type.shape, (x.type.elements,))
        x = Shown(view, type(x.type)(x.type.dtype, (x.type.elements,)))
    at = (stated or 0) % call.rank
    each = [times if place == at else 1 for place in range(call.rank)]
    return _repeated(call, x, 0, each, before=False)


RULES: dict[str, Rule] = {
    "_reshape_alias.default": _reshape,
    "_unsafe_view.default": _reshape,
    "adjoint.default": _matrix_transposed,
    "broadcast_tensors.default": _broadcast_tensors,
    "broadcast_to.default": _expand,
    "expand.default": _expand,
    "expand_as.default": _expand,
    "flatten.using_ints": _reshape,
    "mT.default": _matrix_transposed,
    "matrix_H.default": _matrix_transposed,
    "movedim.int": _movedim,
    "movedim.intlist": _movedim,
    "moveaxis.int": _movedim,
    "moveaxis.intlist": _movedim,
    "numpy_T.default": _reversed,
    "permute.default": _permute,
    "ravel.default": _reshape,
    "repeat.default": _repeat,
    "repeat_interleave.self_int": _repeat_interleave,
    "repeat_interleave.self_Tensor": _repeat_interleave,
    "reshape.default": _reshape,
    "reshape_as.default": _reshape,
    "squeeze.default": _squeeze,
    "squeeze.dim": _squeeze,
    "squeeze.dims": _squeeze,
    "swapaxes.default": _transpose,
    "swapdims.default": _transpose,
    "t.default": _reversed,
    "tile.default": _repeat,
    "transpose.int": _transpose,
    "unflatten.int": _reshape,
    "unsqueeze.default": _unsqueeze,
    "view.default": _reshape,
    "view_as.default": _reshape,
}
