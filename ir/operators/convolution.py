"""Convolutions, among them the short causal ones before a scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from .. import dims
from ..dims import Dim
from ..errors import VerificationError
from ..graph import Op
from ..kind import Indices, OpKind, Types, letter_sizes, parse_equation
from .differentiated import differentiated, forward_of, gradient_as, gradient_indices
from .tensors import aligned

if TYPE_CHECKING:
    from torch import Tensor

_SETTINGS = ("stride", "dilation", "before", "after")
"""What a convolution states for every position: steps, and zeros in front and behind."""


@dataclass(frozen=True)
class _Form:
    """A convolution's letters: operands, results, and which of them are positions."""

    operands: tuple[str, ...]
    results: tuple[str, ...]
    positions: str
    kernel: str
    outputs: str

    @cached_property
    def channels(self) -> tuple[str, str, str, str]:
        """The letters of no position: of the batch, of groups, contracted, and new."""
        x, weight, result = set(self.operands[0]), set(self.operands[1]), set(self.results[0])
        placed = {*self.positions, *self.outputs, *self.kernel}
        found = (
            x & result - weight,
            x & weight & result,
            (x & weight) - result,
            (weight & result) - x,
        )
        batch, groups, inner, outer = ("".join(sorted(letters - placed)) for letters in found)
        return batch, groups, inner, outer

    @cached_property
    def along(self) -> str:
        """The letter of an initial or final window, empty without one."""
        windows = "".join((*self.operands[2:], *self.results[1:]))
        return "".join(sorted(set(windows) - set(self.operands[0])))


def _form(op: Op) -> _Form:
    """Raises VerificationError for letters or settings that do not fit each other."""
    operands, results = parse_equation(op.text("indices"))
    form = _Form(operands, results, op.text("positions"), op.text("kernel"), op.text("outputs"))
    rank = len(form.positions)
    if len(operands) not in (2, 3) or len(results) > 2 or not 1 <= rank <= 3:
        raise VerificationError(f"no convolution {op.text('indices')!r}")
    lengths = {len(form.kernel), len(form.outputs), *(len(op.integers(x)) for x in _SETTINGS)}
    if lengths != {rank}:
        raise VerificationError(f"{rank} positions, but {sorted(lengths)} of another setting")
    if len(operands) + len(results) > 3 and (rank > 1 or len(form.along) != 1):
        raise VerificationError(f"windows of {op.text('indices')!r}")
    if len(results) == 2:
        op.integer("window")
    known = {*form.positions, *form.kernel, *form.outputs, *form.along, *"".join(form.channels)}
    strange = set("".join((*operands, *results))) - known
    if strange:
        raise VerificationError(f"index {min(strange)} has no part in a convolution")
    return form


def _check(op: Op, types: Types) -> None:
    del types
    form = _form(op)
    if len(op.types) == 2:
        held = op.types[1].shape[form.results[1].index(form.along)]
        if held != op.integer("window"):
            raise VerificationError(f"a window of {held}, not of {op.integer('window')}")


def _indices(op: Op) -> Indices:
    form = _form(op)
    whole = {*form.positions, *form.kernel, *form.outputs, *form.along}
    return Indices(
        form.operands,
        form.results[0],
        dict.fromkeys(form.channels[2], "sum"),
        whole=frozenset(whole),
        others=form.results[1:],
    )


def _convolve(op: Op, operands: Sequence["Tensor"]) -> "tuple[Tensor, ...]":
    import torch

    return tuple(
        value.to(getattr(torch, type_.dtype))
        for value, type_ in zip(_convolved(op, operands), op.types, strict=True)
    )


def _convolved(op: Op, operands: Sequence["Tensor"]) -> "list[Tensor]":
    """The result in float32 or float64, and the final window if one is stated."""
    import torch
    from torch.nn import functional

    form = _form(op)
    batch, groups, inner, outer = form.channels
    dtype = torch.float64 if operands[0].dtype == torch.float64 else torch.float32
    channels = batch + groups + inner
    x = aligned(operands[0].to(dtype), form.operands[0], channels + form.positions)
    weight = aligned(operands[1].to(dtype), form.operands[1], groups + outer + inner + form.kernel)
    sizes = x.shape[: len(channels)], weight.shape[: len(groups + outer)]
    before, after = op.integers("before"), op.integers("after")
    seen = x
    if len(operands) == 3:
        initial = aligned(operands[2].to(dtype), form.operands[2], channels + form.along)
        seen = torch.cat([initial, x], dim=-1)
        padded = _last(seen, before[0] + x.shape[-1])
        before = (0,)
    else:
        padded = x
    pads = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
    padded = functional.pad(padded, pads)
    rank, own = len(form.positions), weight.shape[len(sizes[1]) + len(inner) :]
    count = prod(sizes[1][: len(groups)])
    result = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1](
        padded.reshape(prod(sizes[0][: len(batch)]), -1, *padded.shape[-rank:]),
        weight.reshape(prod(sizes[1]), -1, *own),
        stride=op.integers("stride"),
        dilation=op.integers("dilation"),
        groups=count,
    )
    result = result.reshape(*sizes[0][: len(batch)], *sizes[1], *result.shape[-rank:])
    values = [aligned(result, batch + groups + outer + form.outputs, form.results[0])]
    if len(form.results) == 2:
        last = _last(seen, op.integer("window"))
        values.append(aligned(last, channels + form.along, form.results[1]))
    return values


def _last(value: "Tensor", count: int) -> "Tensor":
    """The last `count` entries of the last dimension, zeros in front where there are less."""
    from torch.nn import functional

    return functional.pad(value, (max(count - value.shape[-1], 0), 0))[..., -count:]


def _products(op: Op, form: _Form, indices: Indices, types: Types) -> Dim:
    """Two for every weight that every element of the result takes."""
    sizes = letter_sizes(op, indices, types)
    letters = dict.fromkeys(form.results[0] + form.operands[1])
    return dims.product(sizes[letter] for letter in letters) * 2


def _flops(op: Op, types: Types) -> Dim:
    return _products(op, _form(op), _indices(op), types)


def _grad_indices(op: Op) -> Indices:
    return gradient_indices(op, _indices(forward_of(op)).whole)


def _grad_flops(op: Op, types: Types) -> Dim:
    if 0 not in op.integers("given"):
        return 0
    return _products(op, _form(forward_of(op)), _grad_indices(op), types) * 2


KINDS = (
    OpKind(
        name="convolve",
        doc="""A convolution (cross-correlation) of x with a weight, over one to three `positions`
        of x against the `kernel` letters of the weight, giving `outputs`; every position has a
        `stride`, a `dilation`, and zeros `before` and `after` it. Letters of x, weight and
        result are groups, of x and weight alone are contracted, of weight and result alone are
        new. In one dimension a third operand may hold the inputs before the first, in place of
        the zeros in front, and a second result holds the last `window` inputs, zeros in front:
        what a causal convolution keeps from one call to the next.""",
        operands=None,
        indices=_indices,
        check=_check,
        creates=True,
        flops=_flops,
        gradient=gradient_as("convolve_grad"),
        reference=_convolve,
    ),
    OpKind(
        name="convolve_grad",
        doc="""The gradients of a convolution for all its operands, which come first, from those
        of its results that are `given` (0 is the result, 1 the window). FLOPs are twice the
        convolution's.""",
        operands=None,
        indices=_grad_indices,
        flops=_grad_flops,
        reference=differentiated(_convolved),
    ),
)
