"""Rows of tables, and the sums of their gradients."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import size
from ..graph import Attribute, Op
from ..kind import Indices, OpKind, Tape, stated
from .tensors import aligned, letters_of, torch_dtype

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


def _gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None, None)
    (ids, table), result = letters_of(op)
    attributes: dict[str, Attribute] = {
        "indices": f"{result},{ids}->{table}",
        "rows": op.text("rows"),
    }
    if "padding" in op.attributes:
        attributes["padding"] = op.attributes["padding"]
    type_ = tape.type_of(op.operands[1])
    return (None, tape.add("embedding_grad", [given, op.operands[0]], type_, attributes))


def _embedding_grad(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    (given_letters, id_letters), result = letters_of(op)
    given, ids = operands
    rest = "".join(letter for letter in given_letters if letter not in id_letters)
    rows = aligned(given, given_letters, id_letters + rest).flatten(0, len(id_letters) - 1)
    flat = ids.flatten()
    if "padding" in op.attributes:
        rows = rows.masked_fill((flat == op.integer("padding"))[:, None], 0)
    count = size(op.type.shape[result.index(op.text("rows"))])
    wide = torch.promote_types(rows.dtype, torch.float32)
    total = rows.new_zeros((count, *rows.shape[1:]), dtype=wide).index_add_(0, flat, rows.to(wide))
    return aligned(total, op.text("rows") + rest, result).to(torch_dtype(op))


KINDS = (
    OpKind(
        name="embedding",
        doc="""Rows of a table: the letter `rows` of the second operand is looked up. The row
        `padding`, where there is one, takes no gradient.""",
        operands=2,
        indices=_indices,
        reference=_embedding,
        gradient=_gradient,
    ),
    OpKind(
        name="embedding_grad",
        doc="""The gradient of a table of which rows were looked up: for each of its `rows` the
        sum of the gradients of all results that were that row, but none for `padding`. Which rows
        a part of the table holds follows from where it lies.""",
        operands=2,
        indices=stated(reduced="sum"),
        creates=True,
        reference=_embedding_grad,
    ),
)
