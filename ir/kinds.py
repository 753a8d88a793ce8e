"""The table of operator kinds: what each computes, its shapes, its work, and how it may be split.

Every kind but the views states its *indices*: a letter for each dimension of each operand and of
the result, in the manner of einsum. Splitting follows from them: a letter of the result may be
split freely, a letter that is reduced gives partial results, and a letter in `whole` may not be
split at all. Collectives, which change where a value lies and not what it is, are kinds too; on
whole values they are the identity.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import dims, expression
from . import reference as run
from .dims import Dim
from .errors import VerificationError, nearest
from .graph import Graph, Op, TensorType


@dataclass(frozen=True)
class Indices:
    """Letters of the operands and the result; `reduced` letters say how they are combined."""

    operands: tuple[str, ...]
    result: str
    reduced: Mapping[str, str] = field(default_factory=dict[str, str])
    whole: frozenset[str] = frozenset()

    @property
    def equation(self) -> str:
        return f"{','.join(self.operands)}->{self.result}"


def parse_indices(text: str) -> tuple[tuple[str, ...], str]:
    """`"bse,fe->bsf"` as (("bse", "fe"), "bsf")."""
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError(f"{text!r} is not of the form 'ab,bc->ac'")
    return tuple(left.split(",")), right


Types = tuple[TensorType, ...]

REDUCTIONS = ("max", "sum")


@dataclass(frozen=True)
class OpKind:
    """A declaration: everything else about a kind is derived from these fields.

    `operands` is how many a kind takes, or None for any number. `result` derives the result's
    type where it follows from the operands. `flops` counts a multiply-add as two.
    """

    name: str
    doc: str
    operands: int | None
    reference: Callable[[Op, Sequence[Any]], Any]
    indices: Callable[[Op], Indices] | None = None
    result: Callable[[Op, Types], TensorType] | None = None
    flops: Callable[[Op, Types], Dim] = lambda op, types: 0
    collective: bool = False


def _stated(reduced: str = "", whole: str = "") -> Callable[[Op], Indices]:
    """Indices from the op's `indices` attribute; letters missing in the result are reduced.

    `whole` names the attribute that holds the letters which may not be split.
    """

    def read(op: Op) -> Indices:
        operands, result = parse_indices(op.text("indices"))
        gone = {letter for letters in operands for letter in letters} - set(result)
        how = op.text("function") if reduced == "function" else reduced
        combined = dict.fromkeys(sorted(gone), how) if how else {}
        return Indices(operands, result, combined, frozenset(op.text(whole) if whole else ""))

    return read


def letter_sizes(op: Op, indices: Indices, types: Types) -> dict[str, Dim]:
    """The size of every letter; raises VerificationError where two dimensions disagree."""
    sizes: dict[str, Dim] = {}
    rows = [*zip(indices.operands, types, strict=True), (indices.result, op.type)]
    free = op.text("along") if op.kind == "concat" else ""
    for letters, type_ in rows:
        if len(letters) != len(type_.shape):
            raise VerificationError(f"%{op.result}: indices {letters!r} for shape {type_}")
        for letter, dim in zip(letters, type_.shape, strict=True):
            if sizes.setdefault(letter, dim) != dim and letter not in free:
                raise VerificationError(
                    f"%{op.result}: index {letter} is {sizes[letter]} and {dim} at once"
                )
    return sizes


def _matmul_flops(op: Op, types: Types) -> Dim:
    sizes = letter_sizes(op, indices_of(op), types)
    return dims.product(sizes.values()) * 2


def _attention_flops(op: Op, types: Types) -> Dim:
    """Scores and weighted values over all pairs, not halved for causality."""
    query, _, value = types
    batch, heads, queries, width = query.shape
    keys, value_width = value.shape[-2], value.shape[-1]
    return batch * heads * queries * keys * (width + value_width) * 2


def _same_as_operand(op: Op, types: Types) -> TensorType:
    return types[0]


def _reshaped(op: Op, types: Types) -> TensorType:
    if types[0].elements != op.type.elements:
        raise VerificationError(f"%{op.result}: reshape of {types[0]} to {op.type}")
    return TensorType(types[0].dtype, op.type.shape)


def _transposed(op: Op, types: Types) -> TensorType:
    order, rank = op.integers("order"), len(types[0].shape)
    if sorted(order) != [*range(rank)]:
        raise VerificationError(
            f"%{op.result}: order {[*order]} is no permutation of {rank} dimensions"
        )
    return TensorType(types[0].dtype, tuple(types[0].shape[at] for at in order))


def _sliced(op: Op, types: Types) -> TensorType:
    at, start, stop = op.integer("dim"), op.integer("start"), op.integer("stop")
    shape = list(types[0].shape)
    whole = shape[at] if 0 <= at < len(shape) else 0
    if not 0 <= start <= stop or (isinstance(whole, int) and stop > whole):
        raise VerificationError(
            f"%{op.result}: no elements {start} to {stop} of dimension {at} of {types[0]}"
        )
    shape[at] = stop - start
    return TensorType(types[0].dtype, tuple(shape))


def _concatenated(op: Op, types: Types) -> TensorType:
    operands, result = parse_indices(op.text("indices"))
    along = op.text("along")
    total: Dim = 0
    for letters, type_ in zip(operands, types, strict=True):
        total = total + (type_.shape[letters.index(along)] if along in letters else 1)
    sizes = dict(zip(operands[0], types[0].shape, strict=True)) | {along: total}
    return TensorType(types[0].dtype, tuple(sizes[letter] for letter in result))


KINDS: dict[str, OpKind] = {
    kind.name: kind
    for kind in (
        OpKind(
            name="matmul",
            doc="Sum of products over the letters that the result lacks.",
            operands=2,
            indices=_stated(reduced="sum"),
            flops=_matmul_flops,
            reference=run.matmul,
        ),
        OpKind(
            name="elementwise",
            doc="`expr` for every element; operands a, b, c ... are broadcast by their letters.",
            operands=None,
            indices=_stated(),
            reference=run.elementwise,
        ),
        OpKind(
            name="reduce",
            doc="`expr` for every element, then `function` (sum, max) over the missing letters.",
            operands=None,
            indices=_stated(reduced="function"),
            reference=run.reduce,
        ),
        OpKind(
            name="norm",
            doc="""`rms` or `layer` normalization along the letter `over`, times a weight, plus a
            bias, where given. Zhang and Sennrich, NeurIPS 2019; Ba et al., arXiv 1607.06450.""",
            operands=None,
            indices=_stated(whole="over"),
            reference=run.norm,
        ),
        OpKind(
            name="rotary",
            doc="""Rotary embedding in pair form: the letter `pair` (size 2) holds both halves of
            a head, and (x0, x1) becomes (x0 cos - x1 sin, x1 cos + x0 sin). Su et al.,
            arXiv 2104.09864, in the half-rotated layout of Hugging Face.""",
            operands=3,
            indices=_stated(whole="pair"),
            reference=run.rotary,
        ),
        OpKind(
            name="attention",
            doc="""Softmax(scale q k) v for q (batch, heads, queries, width), k and v (batch,
            groups, keys, width); the result is (batch, queries, heads, width). Query i sees key j
            where j - i <= keys - queries if `causal`, and only the last `window` of those if
            given.""",
            operands=3,
            indices=lambda op: Indices(
                ("bhsd", "bgtd", "bgte"), "bshe", {"t": "sum", "d": "sum", "g": "sum"}
            ),
            flops=_attention_flops,
            reference=run.attention,
        ),
        OpKind(
            name="mask",
            doc="""Minus infinity where `query` must not see `key` (letters): later positions, and
            those `window` or more behind; the last query stands at the last key. Without a letter
            for `query` there is one query.""",
            operands=1,
            indices=_stated(),
            reference=run.mask,
        ),
        OpKind(
            name="embedding",
            doc="Rows of a table: the letter `rows` of the second operand is looked up.",
            operands=2,
            indices=lambda op: Indices(
                parse_indices(op.text("indices"))[0],
                parse_indices(op.text("indices"))[1],
                {op.text("rows"): "sum"},
            ),
            reference=run.embedding,
        ),
        OpKind(
            name="concat",
            doc="""Operands one after the other along the letter `along`; an operand without that
            letter is one element thick.""",
            operands=None,
            indices=_stated(whole="along"),
            result=_concatenated,
            reference=run.concat,
        ),
        OpKind(
            name="reshape",
            doc="The same elements in row-major order under another shape.",
            operands=1,
            result=_reshaped,
            reference=run.reshape,
        ),
        OpKind(
            name="transpose",
            doc="Dimensions in another `order`.",
            operands=1,
            result=_transposed,
            reference=run.transpose,
        ),
        OpKind(
            name="slice",
            doc="Elements `start` to `stop` of the dimension `dim`.",
            operands=1,
            result=_sliced,
            reference=run.slice_,
        ),
        OpKind(
            name="repeat",
            doc="""`count` layers from the layer `first` on, each the graph `body`; what one
            carries out the next carries in.""",
            operands=None,
            reference=run.not_alone,
        ),
        OpKind(
            name="shard",
            doc="Each device keeps its part of a value that it holds whole; nothing moves.",
            operands=1,
            result=_same_as_operand,
            reference=run.identity,
        ),
        OpKind(
            name="all_reduce",
            doc="""Every device along `axes` ends with the sum or maximum (`function`) of all
            devices' values; several operands go as one message.""",
            operands=None,
            reference=run.identity,
            collective=True,
        ),
        OpKind(
            name="reduce_scatter",
            doc="""The sum over `axes` of all devices' values, of which each device keeps the part
            that the result's sharding gives it.""",
            operands=1,
            result=_same_as_operand,
            reference=run.identity,
            collective=True,
        ),
        OpKind(
            name="all_gather",
            doc="Every device along `axes` ends with the whole value that was split over them.",
            operands=1,
            result=_same_as_operand,
            reference=run.identity,
            collective=True,
        ),
        OpKind(
            name="grid_matmul",
            doc="""A matrix product whose operands are both split over the mesh so that tiles must
            travel. `form` is `rotate` (left tiles travel along columns, right tiles along rows;
            the contraction is split over columns on the left and rows on the right) or `reduce`
            (right tiles travel along rows, partial results are summed along columns). Cannon 1969;
            van de Geijn and Watts, SUMMA, 1997; MeshGEMM and MeshGEMM-T, arXiv 2502.04563.""",
            operands=2,
            indices=_stated(reduced="sum"),
            flops=_matmul_flops,
            reference=run.matmul,
            collective=True,
        ),
    )
}


def kind_of(op: Op) -> OpKind:
    """The declaration of an op's kind; raises VerificationError for an unknown one."""
    kind = KINDS.get(op.kind)
    if kind is None:
        raise VerificationError(f"no operator kind {op.kind!r}{nearest(op.kind, KINDS)}")
    return kind


def indices_of(op: Op) -> Indices:
    """The op's indices; raises VerificationError for a view or another kind without them."""
    kind = kind_of(op)
    if kind.indices is None:
        raise VerificationError(f"{op.kind} %{op.result} has no indices")
    return kind.indices(op)


def verify_op(graph: str, op: Op, types: Types) -> None:
    """Raise VerificationError unless operands, attributes and stated types fit the kind."""
    kind = kind_of(op)
    where = f"graph {graph}: {op.kind} %{op.result}"
    if kind.operands is not None and len(types) != kind.operands:
        raise VerificationError(f"{where}: {len(types)} operands, not {kind.operands}")
    if len(op.results) != len(op.types):
        raise VerificationError(f"{where}: {len(op.results)} results of {len(op.types)} types")
    if kind.indices is not None:
        _verify_indices(where, op, kind.indices, types)
    if op.kind in ("elementwise", "reduce"):
        _verify_expression(where, op)
    function = op.attributes.get("function", "sum")
    if op.kind in ("reduce", "all_reduce") and function not in REDUCTIONS:
        raise VerificationError(f"{where}: no function {function!r}, only {', '.join(REDUCTIONS)}")
    if op.kind == "all_reduce" and op.types != types:
        raise VerificationError(f"{where}: results do not have the operands' types")
    if kind.result is not None and kind.result(op, types) != op.type:
        raise VerificationError(f"{where}: result is {kind.result(op, types)}, not {op.type}")


def _verify_indices(where: str, op: Op, read: Callable[[Op], Indices], types: Types) -> None:
    try:
        indices = read(op)
    except ValueError as error:
        raise VerificationError(f"{where}: {error}") from error
    if len(indices.operands) != len(types):
        raise VerificationError(f"{where}: indices for {len(indices.operands)} operands")
    sizes = letter_sizes(op, indices, types)
    inside = {letter for letters in indices.operands for letter in letters}
    new = [letter for letter in indices.result if letter not in inside]
    if new and op.kind not in ("elementwise", "concat"):
        raise VerificationError(f"{where}: index {new[0]} of the result is in no operand")
    if op.kind == "elementwise":
        thick = [x for x in sorted(inside - set(indices.result)) if sizes[x] != 1]
        if thick:
            raise VerificationError(f"{where}: index {thick[0]} is dropped but is not 1")


def _verify_expression(where: str, op: Op) -> None:
    text, count = op.text("expr"), len(op.operands)
    try:
        letters = expression.operands_of(text)
    except ValueError as error:
        raise VerificationError(f"{where}: {error}") from error
    missing = [letter for letter in letters if letter not in expression.LETTERS[:count]]
    if missing:
        raise VerificationError(
            f"{where}: expression {text!r} reads {missing[0]}, but there are {count} operands"
        )


def graph_flops(graph: Graph) -> Dim:
    """FLOPs of a graph's own matrix products and attention, a multiply-add counted as two."""
    return sum((kind_of(op).flops(op, graph.operand_types(op)) for op in graph.ops), start=0)
