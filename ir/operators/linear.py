"""Products of matrices, in einsum form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import Dim
from ..graph import Op
from ..kind import OpKind, Types, product_flops, stated
from .tensors import letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _matmul(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = letters_of(op)
    return torch.einsum(f"{','.join(letters)}->{result}", *operands)


_SUMMED = stated(reduced="sum")


def _flops(op: Op, types: Types) -> Dim:
    return product_flops(op, types, _SUMMED(op))


KINDS = (
    OpKind(
        name="matmul",
        doc="Sum of products over the letters that the result lacks.",
        operands=2,
        indices=_SUMMED,
        flops=_flops,
        reference=_matmul,
    ),
    OpKind(
        name="grid_matmul",
        doc="""A matrix product whose operands are both split over the mesh so that tiles must
        travel. `form` is `rotate` (left tiles travel along columns, right tiles along rows;
        the contraction is split over columns on the left and rows on the right) or `reduce`
        (right tiles travel along rows, partial results are summed along columns). Cannon 1969;
        van de Geijn and Watts, SUMMA, 1997; MeshGEMM and MeshGEMM-T, arXiv 2502.04563.""",
        operands=2,
        indices=_SUMMED,
        flops=_flops,
        reference=_matmul,
        collective=True,
    ),
)
