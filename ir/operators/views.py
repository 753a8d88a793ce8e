"""Views: the same elements otherwise shaped, ordered, cut or joined; and layers repeated."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import Dim, size
from ..errors import VerificationError
from ..graph import Op, TensorType
from ..kind import OpKind, Types, parse_indices, stated
from .tensors import aligned, letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _concat(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, result = letters_of(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    return torch.cat(values, dim=result.index(op.text("along")))


def _reshape(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    return operands[0].reshape([size(dim) for dim in op.type.shape])


def _transpose(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    return operands[0].permute(op.integers("order"))


def _slice(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    start, stop = op.integer("start"), op.integer("stop")
    return operands[0].narrow(op.integer("dim"), start, stop - start)


def _not_alone(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    raise VerificationError(f"{op.kind} %{op.result} has no value apart from its graph")


def _reshaped(op: Op, types: Types) -> Types:
    if types[0].elements != op.type.elements:
        raise VerificationError(f"reshape of {types[0]} to {op.type}")
    return (TensorType(types[0].dtype, op.type.shape),)


def _transposed(op: Op, types: Types) -> Types:
    order, rank = op.integers("order"), len(types[0].shape)
    if sorted(order) != [*range(rank)]:
        raise VerificationError(f"order {[*order]} is no permutation of {rank} dimensions")
    return (TensorType(types[0].dtype, tuple(types[0].shape[at] for at in order)),)


def _sliced(op: Op, types: Types) -> Types:
    at, start, stop = op.integer("dim"), op.integer("start"), op.integer("stop")
    shape = list(types[0].shape)
    whole = shape[at] if 0 <= at < len(shape) else 0
    if not 0 <= start <= stop or (isinstance(whole, int) and stop > whole):
        raise VerificationError(f"no elements {start} to {stop} of dimension {at} of {types[0]}")
    shape[at] = stop - start
    return (TensorType(types[0].dtype, tuple(shape)),)


def _concatenated(op: Op, types: Types) -> Types:
    operands, result = parse_indices(op.text("indices"))
    along = op.text("along")
    total: Dim = 0
    for letters, type_ in zip(operands, types, strict=True):
        total = total + (type_.shape[letters.index(along)] if along in letters else 1)
    sizes = dict(zip(operands[0], types[0].shape, strict=True)) | {along: total}
    return (TensorType(types[0].dtype, tuple(sizes[letter] for letter in result)),)


KINDS = (
    OpKind(
        name="concat",
        doc="""Operands one after the other along the letter `along`; an operand without that
        letter is one element thick.""",
        operands=None,
        indices=stated(whole="along", uneven="along"),
        types=_concatenated,
        creates=True,
        reference=_concat,
    ),
    OpKind(
        name="reshape",
        doc="The same elements in row-major order under another shape.",
        operands=1,
        types=_reshaped,
        reference=_reshape,
    ),
    OpKind(
        name="transpose",
        doc="Dimensions in another `order`.",
        operands=1,
        types=_transposed,
        reference=_transpose,
    ),
    OpKind(
        name="slice",
        doc="Elements `start` to `stop` of the dimension `dim`.",
        operands=1,
        types=_sliced,
        reference=_slice,
    ),
    OpKind(
        name="repeat",
        doc="""`count` layers from the layer `first` on, each the graph `body`; what one
        carries out the next carries in.""",
        operands=None,
        reference=_not_alone,
    ),
)
