"""Products of tokens with the matrices of the experts that they chose: what a mixture of experts is
taken apart into, so that both the width that goes in and the one that comes out can be split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import dims
from ..dims import Dim
from ..errors import VerificationError
from ..graph import Op
from ..kind import OpKind, Types, letter_sizes, stated
from .tensors import letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

_SUMMED = stated(reduced="sum")


def chosen_matmul(op: Op, operands: Sequence["Tensor"], first: int = 0) -> "Tensor":
    """The result; `first` is the number of the first expert that the weights hold."""
    import torch

    (tokens, choice, weights), result = letters_of(op)
    at = weights.index(op.text("expert"))
    equation = f"{tokens},{choice},{weights[:at] + weights[at + 1 :]}->{result}"
    x, index, matrices = operands
    shape = [dims.size(dim) for dim in op.type.shape]
    total = torch.zeros(shape, dtype=torch_dtype(op))
    for expert, matrix in enumerate(matrices.unbind(at)):
        here = (index == first + expert).to(x.dtype)
        if here.any():
            total += torch.einsum(equation, x, here, matrix.to(x.dtype)).to(total.dtype)
    return total


def _flops(op: Op, types: Types) -> Dim:
    """Two for every combination of letters but the experts: a choice takes one of them."""
    sizes = letter_sizes(op, _SUMMED(op), types)
    return dims.product(n for x, n in sizes.items() if x != op.text("expert")) * 2


def _check(op: Op, types: Types) -> None:
    del types
    (tokens, choice, weights), result = letters_of(op)
    if op.text("expert") not in weights or op.text("expert") in tokens + choice + result:
        raise VerificationError(f"index {op.text('expert')!r} must be one of the weights alone")
    op.integer("total")


KINDS = (
    OpKind(
        name="chosen_matmul",
        doc="""Sums of products of tokens (first operand) with the matrices (third) that the second
        numbers by the letter `expert`, over the letters that the result lacks. Those held are
        some of `total`; a choice of others adds nothing. `load` is as in `experts`.""",
        operands=3,
        indices=_SUMMED,
        check=_check,
        flops=_flops,
        reference=chosen_matmul,
    ),
)
