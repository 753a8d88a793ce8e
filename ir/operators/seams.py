"""A view between dimensions that nothing splits alike: kept as an operator, because its elements
must lie whole where it is taken."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..dims import Dim, size
from ..errors import VerificationError
from ..graph import Op
from ..kind import OpKind, Tape, Types, stated
from .tensors import letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _view(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (letters,), result = letters_of(op)
    order, into = op.text("order"), op.text("into")
    sizes = dict(zip(result, op.type.shape, strict=True))
    value = operands[0].permute([letters.index(letter) for letter in order])
    value = value.reshape([size(sizes[letter]) for letter in into])
    return value.permute([into.index(letter) for letter in result])


def _check(op: Op, types: Types) -> None:
    (letters,), result = letters_of(op)
    order, into = op.text("order"), op.text("into")
    if sorted(order) != sorted(letters) or sorted(into) != sorted(result):
        raise VerificationError(f"orders {order!r} and {into!r} for {op.text('indices')!r}")
    free = [letter for letter in order if letter in into]
    if free != [letter for letter in into if letter in order]:
        raise VerificationError(f"orders {order!r} and {into!r} cross each other")
    if (set(order) ^ set(into)) - set(op.text("whole")):
        raise VerificationError("a letter of one side alone must be whole")
    if types[0].dtype != op.type.dtype or types[0].elements != op.type.elements:
        raise VerificationError(f"view of {types[0]} as {op.type}")
    sizes = dict(zip(letters + result, (*types[0].shape, *op.type.shape), strict=True))
    if _between(order, into, sizes) != _between(into, order, sizes):
        raise VerificationError(f"view of {types[0]} as {op.type}: {order!r} is not {into!r}")


def _between(own: str, other: str, sizes: Mapping[str, Dim]) -> list[Dim]:
    """The elements before, between and after the letters that both sides have."""
    found: list[Dim] = [1]
    for letter in own:
        if letter in other:
            found.append(1)
        else:
            found[-1] = found[-1] * sizes[letter]
    return found


def _gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    attributes = {
        "indices": f"{result}->{letters}",
        "order": op.text("into"),
        "into": op.text("order"),
        "whole": op.text("whole"),
    }
    return (tape.add("view", [given], tape.type_of(op.operands[0]), attributes),)


KINDS = (
    OpKind(
        name="view",
        doc="""The operand's elements in the order of the letters `order`, row-major, as the
        letters `into`. Letters of one side alone are in `whole`; between those of both sides lie
        as many elements on one side as on the other.""",
        operands=1,
        indices=stated(whole="whole"),
        check=_check,
        creates=True,
        reference=_view,
        gradient=_gradient,
    ),
)
