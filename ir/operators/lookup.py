"""Rows of tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Op
from ..kind import Indices, OpKind
from .tensors import aligned, letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _embedding(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = letters_of(op)
    ids, table = operands
    found = table.movedim(letters[1].index(op.text("rows")), 0)[ids]
    rest = letters[1].replace(op.text("rows"), "")
    return aligned(found, letters[0] + rest, result)


def _indices(op: Op) -> Indices:
    operands, result = letters_of(op)
    return Indices(operands, result, {op.text("rows"): "sum"})


KINDS = (
    OpKind(
        name="embedding",
        doc="Rows of a table: the letter `rows` of the second operand is looked up.",
        operands=2,
        indices=_indices,
        reference=_embedding,
    ),
)
