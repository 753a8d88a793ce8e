"""Scans and convolutions: our operators of scans/operators.py, and ATen's convolutions."""

from collections.abc import Sequence
from typing import Any

from ....ir.dims import Dim
from ....ir.graph import Attribute, TensorType
from ....ir.kind import parse_equation
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError, fixed

_BROADCAST = ("decay", "factor", "rate", "beta")
"""Parts of a scan that need not have every letter."""

_POSITIONS, _OUTPUTS, _KERNELS = "xyz", "uvw", "klm"
"""Letters of up to three positions in a convolution's operand and result, and of its kernel."""


def _scan(call: Call) -> Any:
    values: Sequence[Shown] = call.get(0, "operands")
    names = ("parts", "indices", "sequence", "delta", "scale", "chunk")
    parts, indices, *settings = (call.get(at, name) for at, name in enumerate(names, start=1))
    letters, results = parse_equation(indices)
    taken = {
        part: call.lettered(value, own, "" if part in _BROADCAST else own)
        for part, value, own in zip(parts.split(), values, letters, strict=True)
    }
    orders = [taken["value"][1], taken["initial"][1] if "initial" in taken else results[-1]]
    own = [_order(like, result) for like, result in zip(orders, results, strict=False)]
    attributes: dict[str, Attribute] = {
        "indices": f"{','.join(x for _, x in taken.values())}->{','.join(own)}",
        "parts": parts,
    }
    given = dict(zip(names[2:], settings, strict=True))
    attributes |= {name: value for name, value in given.items() if value not in (None, False)}
    return _added(call, "scan", [name for name, _ in taken.values()], results, own, attributes)


def _order(like: str, letters: str) -> str:
    """Letters in the order of others, if they are the same."""
    return like if sorted(like) == sorted(letters) else letters


def _added(
    call: Call,
    kind: str,
    operands: Sequence[str],
    seen: Sequence[str],
    own: Sequence[str],
    attributes: dict[str, Attribute],
) -> Any:
    """An operator whose results have letters `own`; their views in the order that is `seen`."""
    types = [
        TensorType(type_.dtype, tuple(type_.shape[letters.index(x)] for x in order))
        for type_, letters, order in zip(call.types, seen, own, strict=True)
    ]
    made = call.graph.add_several(kind, operands, types, attributes, kind)
    views = [
        View(view.name, tuple(order.index(x) for x in letters))
        for view, letters, order in zip(made, seen, own, strict=True)
    ]
    return tuple(views) if len(views) > 1 else views.pop()


def _causal(call: Call) -> Any:
    """A short causal convolution of every channel, after inputs that were kept or zeros."""
    x, weight, initial, window = (
        call.get(at, name) for at, name in enumerate(("x", "weight", "initial", "window"))
    )
    name, letters = call.lettered(x, "bcs", "bcs")
    taken = [(name, letters), call.lettered(weight, "ck", "ck")]
    if initial is not None:
        taken.append(call.lettered(initial, "bcw", "bcw"))
    seen = ["bcs", "bcw"] if window else ["bcs"]
    own = [letters, "bcw"] if window else [letters]
    width = fixed(weight.type.shape[1], "a kernel of")
    attributes: dict[str, Attribute] = {
        "indices": f"{','.join(x for _, x in taken)}->{','.join(own)}",
        "positions": "s",
        "kernel": "k",
        "outputs": "s",
        "stride": (1,),
        "dilation": (1,),
        "before": (width - 1,),
        "after": (0,),
    }
    if window:
        attributes["window"] = window
    return _added(call, "convolve", [name for name, _ in taken], seen, own, attributes)


def _convolution(call: Call, padding: Sequence[tuple[int, int]], groups: int) -> View:
    """(batch, channels, positions) with a weight (new channels, channels of a group, kernel)."""
    x, weight = call.tensor(0), call.tensor(1)
    rank = len(weight.type.shape) - 2
    batch = "b" if len(x.type.shape) == rank + 2 else ""
    new, inner = (fixed(size, "channels") for size in weight.type.shape[:2])
    if groups == 1:
        letters, shapes = ("i", "oi", "o"), ((inner,), (new, inner), (new,))
    elif groups == new and inner == 1:
        letters, shapes = ("g", "g", "g"), ((groups,), (groups,), (groups,))
    else:
        each = new // groups
        letters = ("gi", "goi", "go")
        shapes = ((groups, inner), (groups, each, inner), (groups, each))
    positions, outputs, kernel = (own[:rank] for own in (_POSITIONS, _OUTPUTS, _KERNELS))
    sized = (x.type.shape[: len(batch)], x.type.shape[len(batch) + 1 :], weight.type.shape[2:])
    left = _reshaped(call, x, (*sized[0], *shapes[0], *sized[1]))
    right = _reshaped(call, weight, (*shapes[1], *sized[2]))
    shape = (*sized[0], *shapes[2], *call.type.shape[len(batch) + 1 :])
    taken = [
        call.lettered(left, own := batch + letters[0] + positions, own),
        call.lettered(right, own := letters[1] + kernel, own),
    ]
    before, after = zip(*padding, strict=True)
    made = call.add(
        "convolve",
        [name for name, _ in taken],
        TensorType(call.type.dtype, shape),
        indices=f"{','.join(own for _, own in taken)}->{batch}{letters[2]}{outputs}",
        positions=positions,
        kernel=kernel,
        outputs=outputs,
        stride=_each(call.get(3, "stride", 1), rank),
        dilation=_each(call.get(5, "dilation", 1), rank),
        before=before,
        after=after,
    )
    made = call.graph.reshape(made, shape, call.type.shape)
    bias = call.get(2, "bias")
    if bias is None:
        return made
    shifted = View(bias.view.name, (*bias.view.axes, *(None,) * rank))
    return call.graph.elementwise("a + b", [made, shifted], call.type, f"{call.name}.biased")


def _reshaped(call: Call, x: Shown, shape: tuple[Dim, ...]) -> Shown:
    view = call.graph.reshape(x.view, x.type.shape, shape) if shape != x.type.shape else x.view
    return Shown(view, TensorType(x.type.dtype, shape))


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """A setting for every position, of which one may stand for all."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * rank if len(values) == 1 else values


def _padded(call: Call) -> View:
    rank = len(call.tensor(1).type.shape) - 2
    padding = [(size, size) for size in _each(call.get(4, "padding", 0), rank)]
    return _convolution(call, padding, call.get(6, "groups", 1))


def _named_padding(call: Call) -> View:
    """`valid` is none; `same` keeps the size, an odd zero being put behind."""
    kernel = [fixed(size, "a kernel of") for size in call.tensor(1).type.shape[2:]]
    dilation = _each(call.get(5, "dilation", 1), len(kernel))
    total = [
        (size - 1) * step if call.get(4, "padding") == "same" else 0
        for size, step in zip(kernel, dilation, strict=True)
    ]
    padding = [(size // 2, size - size // 2) for size in total]
    return _convolution(call, padding, call.get(6, "groups", 1))


def _general(call: Call) -> View:
    """`convolution`, which has two more arguments before the groups."""
    if call.get(6, "transposed", False):
        raise UnsupportedError("a transposed convolution")
    rank = len(call.tensor(1).type.shape) - 2
    padding = [(size, size) for size in _each(call.get(4, "padding", 0), rank)]
    return _convolution(call, padding, call.get(8, "groups", 1))


RULES: dict[str, Rule] = {
    "convolution.default": _general,
    "convolve.default": _causal,
    "convolve_kept.default": _causal,
    "scan.default": _scan,
    "scan_kept.default": _scan,
    **{f"conv{rank}d.default": _padded for rank in (1, 2, 3)},
    **{f"conv{rank}d.padding": _named_padding for rank in (1, 2, 3)},
}
