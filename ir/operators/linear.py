"""Products of matrices, in einsum form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import Dim
from ..graph import Op, TensorType
from ..kind import OpKind, Tape, Types, product_flops, stated
from .flow import flow, is_floating
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


def _gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """For each operand the product of the result's gradient and the other operand."""
    (given,) = gradients
    if given is None:
        return (None, None)
    (left, right), result = letters_of(op)
    first, second = op.operands
    return (
        _other_side(tape, (given, result), (second, right), (first, left)),
        _other_side(tape, (given, result), (first, left), (second, right)),
    )


def _other_side(
    tape: Tape, given: tuple[str, str], other: tuple[str, str], wanted: tuple[str, str]
) -> str | None:
    """The gradient of the operand `wanted`; each is a name and its letters."""
    name, letters = wanted
    type_ = tape.type_of(name)
    if not is_floating(type_) or not tape.wants(name):
        return None
    sizes = dict(zip(letters, type_.shape, strict=True))
    shared = "".join(letter for letter in letters if letter in given[1] + other[1])
    product = tape.add(
        "matmul",
        [given[0], other[0]],
        TensorType(type_.dtype, tuple(sizes[letter] for letter in shared)),
        {"indices": f"{given[1]},{other[1]}->{shared}"},
    )
    return flow(tape, [(product, shared)], "a", letters, type_)


KINDS = (
    OpKind(
        name="matmul",
        doc="Sum of products over the letters that the result lacks.",
        operands=2,
        indices=_SUMMED,
        flops=_flops,
        reference=_matmul,
        gradient=_gradient,
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
