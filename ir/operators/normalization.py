"""Normalizations along one dimension."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Op
from ..kind import OpKind, stated
from .tensors import aligned, letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor


def _norm(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = letters_of(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    over = result.index(op.text("over"))
    x = values[0].float()
    if op.text("function") == "layer":
        x = x - x.mean(over, keepdim=True)
    x = x * (x.square().mean(over, keepdim=True) + op.number("epsilon")).rsqrt()
    for at, value in enumerate(values[1:]):
        x = x * value if at == 0 else x + value
    return x.to(torch_dtype(op))


KINDS = (
    OpKind(
        name="norm",
        doc="""`rms` or `layer` normalization along the letter `over`, times a weight, plus a
        bias, where given. Zhang and Sennrich, NeurIPS 2019; Ba et al., arXiv 1607.06450.""",
        operands=None,
        indices=stated(whole="over"),
        reference=_norm,
    ),
)
