"""Tokens on their way to experts that other replicas hold, and back (expert parallelism).

On whole values both are the identity: who holds which experts is said by where their matrices lie.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import VerificationError
from ..graph import Op
from ..kind import Indices, OpKind, Types, parse_equation
from .load import check_load

if TYPE_CHECKING:
    from torch import Tensor


def _indices(op: Op) -> Indices:
    operands, (result, *others) = parse_equation(op.text("indices"))
    return Indices(operands, result, whole=frozenset(op.text("chosen")), others=tuple(others))


def _behind_choice(op: Op, types: Types) -> Types:
    del op
    return types[1:]


def _identity(op: Op, operands: Sequence["Tensor"]) -> "Sequence[Tensor]":
    del op
    return operands[1:]


def _check(op: Op, types: Types) -> None:
    if len(types) < 2:
        raise VerificationError("nothing to send beside the choice of experts")
    choice = _indices(op).operands[0]
    if not set(op.text("chosen")) <= set(choice):
        raise VerificationError(f"{op.text('chosen')!r} does not count the choices of a token")
    check_load(op)


_SHARED = """ The letters `chosen` of the first operand, the choice, count the experts of a token;
        `experts` of `total` have matrices, which the devices along `axes` hold in equal runs.
        `load` is as in `experts`."""

KINDS = (
    OpKind(
        name="dispatch",
        doc="""All values but the first go to the devices along `axes` that hold an expert of a
        token's choice, once to each; what has the letters `chosen`, for each choice of its own.
        """
        + _SHARED,
        operands=None,
        indices=_indices,
        types=_behind_choice,
        check=_check,
        reference=_identity,
        collective=True,
    ),
    OpKind(
        name="collect",
        doc="""All values but the first come back from the devices along `axes` that made them: the
        sum of what each made of a token, or, for what has the letters `chosen`, that of the one
        that holds the expert."""
        + _SHARED,
        operands=None,
        indices=_indices,
        types=_behind_choice,
        check=_check,
        reference=_identity,
        collective=True,
    ),
)
