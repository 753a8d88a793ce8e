"""Elements chosen by their size or by an index, and values put where an index says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dims import size
from ..errors import VerificationError
from ..graph import Op, TensorType
from ..kind import Indices, OpKind, Tape, Types, parse_equation, stated
from .tensors import aligned, letters_of

if TYPE_CHECKING:
    from torch import Tensor


def _topk(op: Op, operands: Sequence["Tensor"]) -> "tuple[Tensor, Tensor]":
    (letters,), (result, other) = parse_equation(op.text("indices"))
    at, (new,) = letters.index(op.text("over")), set(result) - set(letters)
    x, largest = operands[0], bool(op.attributes["largest"])
    count = min(size(op.type.shape[result.index(new)]), x.shape[at])
    if count == 1:
        values, places = x.max(at, keepdim=True) if largest else x.min(at, keepdim=True)
    elif count == x.shape[at]:
        values, places = x.sort(dim=at, descending=largest, stable=True)
    else:
        values, places = x.topk(count, at, largest, bool(op.attributes["sorted"]))
    own = letters.replace(op.text("over"), new)
    return aligned(values, own, result), aligned(places, own, other)


def _topk_indices(op: Op) -> Indices:
    """The dimension that is chosen from and that of the choice are whole."""
    operands, (result, *others) = parse_equation(op.text("indices"))
    new = set(result) - set(operands[0])
    whole = frozenset({op.text("over"), *new})
    return Indices(operands, result, whole=whole, others=tuple(others))


def _check_topk(op: Op, types: Types) -> None:
    letters, results = parse_equation(op.text("indices"))
    new = set(results[0]) - set(letters[0])
    if len(results) != 2 or set(results[0]) != set(results[1]) or len(new) != 1:
        raise VerificationError("two results with one new letter in the place of `over`")
    if (op.types[0].dtype, op.types[1].dtype) != (types[0].dtype, "int64"):
        raise VerificationError(f"results are {types[0].dtype} and int64")


def _topk_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """What the values were chosen for goes back to where they came from."""
    given = gradients[0]
    if given is None:
        return (None,)
    (letters,), (result, other) = parse_equation(op.text("indices"))
    zeros = _zeros(tape, tape.type_of(op.operands[0]), letters)
    return (_put(tape, zeros, letters, (op.results[1], other), (given, result), op.text("over")),)


def _zeros(tape: Tape, type_: TensorType, letters: str) -> str:
    return tape.add("elementwise", [], type_, {"indices": f"->{letters}", "expr": "0"})


def _put(
    tape: Tape,
    into: str,
    letters: str,
    index: tuple[str, str],
    source: tuple[str, str],
    along: str,
    function: str = "add",
) -> str:
    attributes = {
        "indices": f"{letters},{index[1]},{source[1]}->{letters}",
        "along": along,
        "function": function,
    }
    return tape.add("scatter", [into, index[0], source[0]], tape.type_of(into), attributes)


def _taken(
    tape: Tape,
    given: str,
    letters: str,
    index: tuple[str, str],
    type_: TensorType,
    own: str,
    along: str,
) -> str:
    """The elements of `given` at `index`, summed over what `own` lacks."""
    inside = "".join(dict.fromkeys(index[1] + letters.replace(along, "")))
    sizes = dict(zip(letters, tape.type_of(given).shape, strict=True))
    sizes |= dict(zip(index[1], tape.type_of(index[0]).shape, strict=True))
    full = inside if set(inside) - set(own) else own
    found = tape.add(
        "gather",
        [given, index[0]],
        TensorType(type_.dtype, tuple(sizes[letter] for letter in full)),
        {"indices": f"{letters},{index[1]}->{full}", "along": along},
    )
    if full == own:
        return found
    summed = {"indices": f"{full}->{own}", "function": "sum", "expr": "a"}
    return tape.add("reduce", [found], type_, summed)


def _selected(
    value: "Tensor", letters: str, index: "Tensor", own: str, along: str
) -> "tuple[Tensor, tuple[Tensor, ...], str]":
    """A value and the index into its first dimensions that an op's index means; the letters of
    what that index selects."""
    import torch

    shared = [letter for letter in letters if letter in own and letter != along]
    new = [letter for letter in own if letter not in shared]
    rest = [letter for letter in letters if letter not in shared and letter != along]
    index = aligned(index, own, "".join(shared + new))
    value = aligned(value, letters, "".join([*shared, along, *rest]))
    places = [
        torch.arange(index.shape[at]).reshape([-1] + [1] * (index.ndim - 1 - at))
        for at in range(len(shared))
    ]
    return value, (*places, index), "".join(shared + new + rest)


def _gather(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (letters, own), result = letters_of(op)
    value, index, found = _selected(operands[0], letters, operands[1], own, op.text("along"))
    return aligned(value[index], found, result)


def _first_dtype(op: Op, types: Types) -> Types:
    return (TensorType(types[0].dtype, op.type.shape),)


def _gather_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None, None)
    (letters, own), result = letters_of(op)
    zeros = _zeros(tape, tape.type_of(op.operands[0]), letters)
    index = (op.operands[1], own)
    return (_put(tape, zeros, letters, index, (given, result), op.text("along")), None)


def _scatter(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (letters, own, source), result = letters_of(op)
    into, index, found = _selected(operands[0], letters, operands[1], own, op.text("along"))
    values = aligned(operands[2], source, found).to(into.dtype).expand(into[index].shape)
    put = into.index_put(index, values, accumulate=op.text("function") == "add")
    along = op.text("along")
    shared = [letter for letter in letters if letter in own and letter != along]
    rest = [letter for letter in letters if letter not in shared and letter != along]
    return aligned(put, "".join([*shared, along, *rest]), result)


def _scatter_indices(op: Op) -> Indices:
    """Where values go is known to who holds the whole dimension and all values."""
    operands, result = letters_of(op)
    new = (set(operands[1]) | set(operands[2])) - set(result)
    reduced = dict.fromkeys(sorted(new), "sum") if op.text("function") == "add" else {}
    return Indices(operands, result, reduced, whole=frozenset({op.text("along"), *new}))


def _check_scatter(op: Op, types: Types) -> None:
    if op.text("function") not in ("add", "set"):
        raise VerificationError(f"no function {op.text('function')!r}, only add, set")


def _scatter_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    """What is put somewhere gets the gradient from there; what it replaces gets none."""
    (given,) = gradients
    if given is None:
        return (None, None, None)
    (letters, own, source), result = letters_of(op)
    index, along = (op.operands[1], own), op.text("along")
    if result != letters:
        turned = {"indices": f"{result}->{letters}", "expr": "a"}
        given = tape.add("elementwise", [given], tape.type_of(op.operands[0]), turned)
    values = _taken(tape, given, letters, index, tape.type_of(op.operands[2]), source, along)
    if op.text("function") == "add":
        return (given, None, values)
    nothing = tape.add(
        "elementwise", [], TensorType(op.type.dtype, ()), {"indices": "->", "expr": "0"}
    )
    return (_put(tape, given, letters, index, (nothing, ""), along, "set"), None, values)


KINDS = (
    OpKind(
        name="topk",
        doc="""The greatest (or, if not `largest`, the least) elements along the letter `over` and
        their positions there, in order if `sorted`. A new letter in the results stands for the
        choice; if that is all of them this is a stable sort. Where there are fewer elements than
        are chosen the results hold those.""",
        operands=1,
        indices=_topk_indices,
        check=_check_topk,
        creates=True,
        reference=_topk,
        gradient=_topk_gradient,
    ),
    OpKind(
        name="gather",
        doc="""The elements of the first operand where the second says along the letter `along`;
        letters that both have go in step. An index below zero counts from the end.""",
        operands=2,
        indices=stated(whole="along"),
        types=_first_dtype,
        reference=_gather,
        gradient=_gather_gradient,
    ),
    OpKind(
        name="scatter",
        doc="""The first operand with elements of the third `set` or `add`ed (`function`) where
        the second says along the letter `along`; letters that they share go in step.""",
        operands=3,
        indices=_scatter_indices,
        types=_first_dtype,
        check=_check_scatter,
        reference=_scatter,
        gradient=_scatter_gradient,
    ),
)
