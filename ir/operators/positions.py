"""What depends on positions in the sequence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Op
from ..kind import OpKind, stated
from .tensors import aligned, letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _rotary(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = letters_of(op)
    x, cos, sin = (aligned(v, own, result) for v, own in zip(operands, letters, strict=True))
    pair = result.index(op.text("pair"))
    first, second = x.unbind(pair)
    turned = torch.stack((-second, first), dim=pair)
    return x * cos + turned * sin


KINDS = (
    OpKind(
        name="rotary",
        doc="""Rotary embedding in pair form: the letter `pair` (size 2) holds both halves of
        a head, and (x0, x1) becomes (x0 cos - x1 sin, x1 cos + x0 sin). Su et al.,
        arXiv 2104.09864, in the half-rotated layout of Hugging Face.""",
        operands=3,
        indices=stated(whole="pair"),
        reference=_rotary,
    ),
)
