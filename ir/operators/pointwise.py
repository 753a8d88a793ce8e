"""Maps over elements, and reductions of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import expression
from ..dims import size
from ..errors import VerificationError
from ..graph import Op
from ..kind import OpKind, Tape, Types, letter_sizes, stated
from .chain_rule import elementwise_gradient, reduce_gradient
from .tensors import aligned, letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor


def _elementwise(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = letters_of(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    value = torch.as_tensor(expression.evaluate(op.text("expr"), values)).to(torch_dtype(op))
    value = value.reshape([1] * len(result)) if value.ndim == 0 else value
    missing = [at for at, letter in enumerate(result) if letter not in "".join(letters)]
    shape = [size(dim) if at in missing else -1 for at, dim in enumerate(op.type.shape)]
    return value.expand(shape)


def _reduce(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = letters_of(op)
    inside = result + "".join(sorted(set("".join(letters)) - set(result)))
    dtype = torch_dtype(op)
    values = [aligned(v, own, inside).to(dtype) for v, own in zip(operands, letters, strict=True)]
    value = expression.evaluate(op.text("expr"), values)
    over = tuple(range(len(result), len(inside)))
    if not over:
        # To torch, no dimensions are all of them.
        return value
    if op.text("function") == "sum":
        return value.sum(over)
    if value.numel() == 0:
        return torch.full(value.shape[: len(result)], -torch.inf, dtype=dtype)
    return value.amax(over)


def _cumsum(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (letters,), result = letters_of(op)
    over = result.index(op.text("over"))
    x = aligned(operands[0], letters, result).to(torch_dtype(op))
    return x.flip(over).cumsum(over).flip(over) if op.attributes.get("reverse") else x.cumsum(over)


def _cumsum_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    attributes = {
        "indices": f"{result}->{letters}",
        "over": op.text("over"),
        "reverse": not op.attributes.get("reverse"),
    }
    return (tape.add("cumsum", [given], tape.type_of(op.operands[0]), attributes),)


REDUCTIONS = ("max", "sum")

_MAPPED = stated()


def _check_map(op: Op, types: Types) -> None:
    """Only dimensions of size one may be dropped."""
    _check_expression(op)
    indices = _MAPPED(op)
    sizes = letter_sizes(op, indices, types)
    inside = {letter for letters in indices.operands for letter in letters}
    thick = [x for x in sorted(inside - set(indices.result)) if sizes[x] != 1]
    if thick:
        raise VerificationError(f"index {thick[0]} is dropped but is not 1")


def _check_reduction(op: Op, types: Types) -> None:
    del types
    _check_expression(op)
    check_function(op)


def check_function(op: Op) -> None:
    """Raise VerificationError unless the op's `function` is a known reduction."""
    function = op.attributes.get("function", "sum")
    if function not in REDUCTIONS:
        raise VerificationError(f"no function {function!r}, only {', '.join(REDUCTIONS)}")


def _check_expression(op: Op) -> None:
    text, count = op.text("expr"), len(op.operands)
    try:
        letters = expression.operands_of(text)
    except ValueError as error:
        raise VerificationError(str(error)) from error
    missing = [letter for letter in letters if letter not in expression.LETTERS[:count]]
    if missing:
        raise VerificationError(
            f"expression {text!r} reads {missing[0]}, but there are {count} operands"
        )


KINDS = (
    OpKind(
        name="elementwise",
        doc="`expr` for every element; operands a, b, c ... are broadcast by their letters.",
        operands=None,
        indices=_MAPPED,
        check=_check_map,
        creates=True,
        reference=_elementwise,
        gradient=elementwise_gradient,
    ),
    OpKind(
        name="reduce",
        doc="`expr` for every element, then `function` (sum, max) over the missing letters.",
        operands=None,
        indices=stated(reduced="function"),
        check=_check_reduction,
        reference=_reduce,
        gradient=reduce_gradient,
    ),
    OpKind(
        name="cumsum",
        doc="""Running sums along the letter `over`, each with its own element; from the end on
        if `reverse`.""",
        operands=1,
        indices=stated(whole="over"),
        reference=_cumsum,
        gradient=_cumsum_gradient,
    ),
)
