"""Views: the same elements otherwise shaped, ordered, cut or joined; and layers repeated."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..dims import Dim, size
from ..errors import VerificationError
from ..graph import Attribute, Op, TensorType
from ..kind import OpKind, Tape, Types, parse_indices, stated
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
    (letters,), result = letters_of(op)
    start, stop = size(op.dim("start")), size(op.dim("stop"))
    x = operands[0].narrow(letters.index(op.text("along")), start, stop - start)
    return aligned(x, letters, result)


def _pad(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    (letters,), result = letters_of(op)
    at, x = result.index(op.text("along")), aligned(operands[0], letters, result)
    value = op.number("value")
    ends = [
        x.new_full((*x.shape[:at], size(op.dim(name)), *x.shape[at + 1 :]), value)
        for name in ("before", "after")
    ]
    return torch.cat([ends[0], x, ends[1]], dim=at)


def _flip(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (letters,), result = letters_of(op)
    return aligned(operands[0], letters, result).flip(result.index(op.text("along")))


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


def _resized(op: Op, types: Types, change: Callable[[Dim], Dim]) -> Types:
    """The operand's type in the order of the result, with another size along `along`."""
    (letters,), result = parse_indices(op.text("indices"))
    sizes = dict(zip(letters, types[0].shape, strict=True))
    along = op.text("along")
    if along not in sizes:
        raise VerificationError(f"index {along!r} is not one of the operand's, {letters!r}")
    sizes[along] = change(sizes[along])
    return (TensorType(types[0].dtype, tuple(sizes[letter] for letter in result)),)


def _sliced(op: Op, types: Types) -> Types:
    start, stop = op.dim("start"), op.dim("stop")

    def change(whole: Dim) -> Dim:
        before, inside, after = start, stop - start, whole - stop
        if any(isinstance(part, int) and part < 0 for part in (before, inside, after)):
            raise VerificationError(f"no elements {start} to {stop} of {whole}")
        if inside != 1 and op.text("along") not in parse_indices(op.text("indices"))[1]:
            raise VerificationError(f"index {op.text('along')} is dropped but is {inside}")
        return inside

    return _resized(op, types, change)


def _padded(op: Op, types: Types) -> Types:
    ends = [op.dim("before"), op.dim("after")]
    if any(isinstance(end, int) and end < 0 for end in ends):
        raise VerificationError(f"no room of {ends[0]} and {ends[1]} elements")
    return _resized(op, types, lambda whole: whole + ends[0] + ends[1])


def _pad_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    type_ = tape.type_of(op.operands[0])
    start, along = op.dim("before"), op.text("along")
    stop = start + type_.shape[letters.index(along)]
    attributes: dict[str, Attribute] = {"indices": f"{result}->{letters}", "along": along}
    return (tape.add("slice", [given], type_, {**attributes, "start": start, "stop": stop}),)


def _flip_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    attributes = {"indices": f"{result}->{letters}", "along": op.text("along")}
    return (tape.add("flip", [given], tape.type_of(op.operands[0]), attributes),)


def _slice_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    along, type_ = op.text("along"), tape.type_of(op.operands[0])
    attributes: dict[str, Attribute] = {
        "indices": f"{result}->{letters}",
        "along": along,
        "before": op.dim("start"),
        "after": type_.shape[letters.index(along)] - op.dim("stop"),
        "value": 0,
    }
    return (tape.add("pad", [given], type_, attributes),)


def _reshape_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    return (tape.add("reshape", [given], tape.type_of(op.operands[0]), {}),)


def _transpose_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None,)
    order = op.integers("order")
    back = {"order": tuple(order.index(at) for at in range(len(order)))}
    return (tape.add("transpose", [given], tape.type_of(op.operands[0]), back),)


def _concat_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """For every operand its part of the gradient."""
    (given,) = gradients
    if given is None:
        return (None,) * len(op.operands)
    letters, result = letters_of(op)
    found: list[str | None] = []
    start: Dim = 0
    for name, own in zip(op.operands, letters, strict=True):
        type_, along = tape.type_of(name), op.text("along")
        thick = own if along in own else along + own
        shape = type_.shape if along in own else (1, *type_.shape)
        stop = start + shape[thick.index(along)]
        attributes: dict[str, Attribute] = {"indices": f"{result}->{thick}", "along": along}
        part = tape.add(
            "slice",
            [given],
            TensorType(type_.dtype, shape),
            {**attributes, "start": start, "stop": stop},
        )
        found.append(part if thick == own else tape.add("reshape", [part], type_, {}))
        start = stop
    return tuple(found)


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
        gradient=_concat_gradient,
    ),
    OpKind(
        name="reshape",
        doc="The same elements in row-major order under another shape.",
        operands=1,
        types=_reshaped,
        reference=_reshape,
        gradient=_reshape_gradient,
    ),
    OpKind(
        name="transpose",
        doc="Dimensions in another `order`.",
        operands=1,
        types=_transposed,
        reference=_transpose,
        gradient=_transpose_gradient,
    ),
    OpKind(
        name="slice",
        doc="""Elements `start` to `stop` (dimensions) along the letter `along`, which the result
        may lack where it is one element thick.""",
        operands=1,
        indices=stated(whole="along", uneven="along"),
        types=_sliced,
        reference=_slice,
        gradient=_slice_gradient,
    ),
    OpKind(
        name="pad",
        doc="""`before` and `after` elements (dimensions) of a `value` around the operand's along
        the letter `along`.""",
        operands=1,
        indices=stated(whole="along", uneven="along"),
        types=_padded,
        reference=_pad,
        gradient=_pad_gradient,
    ),
    OpKind(
        name="flip",
        doc="The elements along the letter `along` in reverse.",
        operands=1,
        indices=stated(whole="along"),
        types=lambda op, types: _resized(op, types, lambda whole: whole),
        reference=_flip,
        gradient=_flip_gradient,
    ),
    OpKind(
        name="repeat",
        doc="""`count` layers from the layer `first` on, each the graph `body`; what one
        carries out the next carries in. From the last layer to `first` if `reverse`.""",
        operands=None,
        reference=_not_alone,
    ),
)
