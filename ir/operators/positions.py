"""What depends on positions: rotary embedding, and positions themselves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import size
from ..errors import VerificationError
from ..graph import Op
from ..kind import Indices, OpKind, Tape, Types, stated
from .tensors import aligned, letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor


def _rotary(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = letters_of(op)
    x, cos, sin = (aligned(v, own, result) for v, own in zip(operands, letters, strict=True))
    pair = result.index(op.text("pair"))
    if op.attributes.get("inverse"):
        first, second = (x * sin).unbind(pair)
        return x * cos - torch.stack((-second, first), dim=pair)
    first, second = x.unbind(pair)
    return x * cos + torch.stack((-second, first), dim=pair) * sin


def _rotary_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """The gradient turned back. Cosines and sines come from positions and have none."""
    (given,) = gradients
    if given is None:
        return (None, None, None)
    (own, cos, sin), result = letters_of(op)
    x, *angles = op.operands
    attributes = {
        "indices": f"{result},{cos},{sin}->{own}",
        "pair": op.text("pair"),
        "inverse": not op.attributes.get("inverse"),
    }
    return (tape.add("rotary", [given, *angles], tape.type_of(x), attributes), None, None)


def _iota(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    start, step = size(op.dim("start")), size(op.dim("step"))
    return (torch.arange(size(op.type.shape[0])) * step + start).to(torch_dtype(op))


def _iota_indices(op: Op) -> Indices:
    (_, result) = letters_of(op)
    return Indices((), result)


def _check_iota(op: Op, types: Types) -> None:
    if len(op.type.shape) != 1:
        raise VerificationError(f"positions have one dimension, not {len(op.type.shape)}")
    op.dim("start")
    op.dim("step")


KINDS = (
    OpKind(
        name="rotary",
        doc="""Rotary embedding in pair form: the letter `pair` (size 2) holds both halves of
        a head, and (x0, x1) becomes (x0 cos - x1 sin, x1 cos + x0 sin). Su et al.,
        arXiv 2104.09864, in the half-rotated layout of Hugging Face. The other way round if
        `inverse`: (x0 cos + x1 sin, x1 cos - x0 sin), each product with the sine taken before it
        changes places, so that it is the transpose for any cosines and sines.""",
        operands=3,
        indices=stated(whole="pair"),
        reference=_rotary,
        gradient=_rotary_gradient,
    ),
    OpKind(
        name="iota",
        doc="""The numbers `start`, `start` + `step`, and so on (both dimensions), along the one
        letter of the result. A part of them follows from where it lies.""",
        operands=0,
        indices=_iota_indices,
        check=_check_iota,
        creates=True,
        reference=_iota,
    ),
)
