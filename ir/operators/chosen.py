"""Products of tokens with the matrices of the experts that they chose: what a mixture of experts is
taken apart into, so that both the width that goes in and the one that comes out can be split."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from .. import dims
from ..dims import Dim
from ..errors import VerificationError
from ..graph import Attribute, Op
from ..kind import OpKind, Tape, Types, letter_sizes, stated
from .experts import fraction_of, share
from .load import check_load
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


def chosen_matmul_grad(op: Op, operands: Sequence["Tensor"], first: int = 0) -> "Tensor":
    """The gradient of the matrices; `first` is the number of the first expert that the result
    holds."""
    import torch

    (given, choice, tokens), result = letters_of(op)
    at = result.index(op.text("expert"))
    equation = f"{given},{choice},{tokens}->{result[:at] + result[at + 1 :]}"
    flow, index, x = operands
    total = torch.zeros([dims.size(dim) for dim in op.type.shape], dtype=torch_dtype(op))
    for expert, matrix in enumerate(total.unbind(at)):
        here = (index == first + expert).to(x.dtype)
        if here.any():
            matrix.copy_(torch.einsum(equation, flow.to(x.dtype), here, x))
    return total


def forward_equation(op: Op) -> str:
    """The letters of the product whose matrices a gradient is of."""
    (given, choice, tokens), result = letters_of(op)
    return f"{tokens},{choice},{result}->{given}"


def _gradient(op: Op, tape: Tape, given: Sequence[str | None]) -> tuple[str | None, ...]:
    """The tokens take theirs through the same matrices; each matrix from the tokens that chose
    it."""
    if given[0] is None:
        return (None, None, None)
    (tokens, choice, weights), result = letters_of(op)
    x, index, matrices = op.operands

    def made(kind: str, operands: Sequence[str], like: str, indices: str) -> str | None:
        attributes: dict[str, Attribute] = {**op.attributes, "indices": indices}
        if not tape.wants(like):
            return None
        return tape.add(kind, operands, tape.type_of(like), attributes)

    through, outer = (
        f"{result},{choice},{weights}->{tokens}",
        f"{result},{choice},{tokens}->{weights}",
    )
    return (
        made("chosen_matmul", [given[0], index, matrices], x, through),
        None,
        made("chosen_matmul_grad", [given[0], index, x], matrices, outer),
    )


def chosen_letters(op: Op) -> str:
    """The letters that count the choices of one token: those of the choice that no token has, in
    what goes in or what comes out."""
    (tokens, choice, _), result = letters_of(op)
    return "".join(x for x in choice if x not in tokens or x not in result)


def _flops(op: Op, types: Types) -> Dim:
    """Two for every combination of letters but the experts: a choice takes one of them, if it has
    weights."""
    sizes, expert = letter_sizes(op, _SUMMED(op), types), op.text("expert")
    whole = dims.product(n for x, n in sizes.items() if x != expert) * 2
    chosen = prod(dims.size(sizes[x]) for x in chosen_letters(op))
    return fraction_of(whole, share(op, dims.size(sizes[expert]), chosen))


def _grad_flops(op: Op, types: Types) -> Dim:
    """As many as of the product forward."""
    given, index, tokens = types
    attributes = {**op.attributes, "indices": forward_equation(op)}
    forward = replace(op, types=(given,), attributes=attributes)
    return _flops(forward, (tokens, index, op.type))


def _check(op: Op, types: Types) -> None:
    del types
    (first, choice, third), result = letters_of(op)
    weights, others = (third, result) if op.kind == "chosen_matmul" else (result, third)
    if op.text("expert") not in weights or op.text("expert") in first + choice + others:
        raise VerificationError(f"index {op.text('expert')!r} must be one of the weights alone")
    check_load(op)


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
        gradient=_gradient,
    ),
    OpKind(
        name="chosen_matmul_grad",
        doc="""The gradient of the matrices of `chosen_matmul`, from that of its result, the choice
        and the tokens: for each expert the sum of their products over the tokens that chose it.
        Which experts a part of the result holds follows from where it lies.""",
        operands=3,
        indices=_SUMMED,
        check=_check,
        flops=_grad_flops,
        creates=True,
        reference=chosen_matmul_grad,
    ),
)
