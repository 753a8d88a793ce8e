"""Composite operators become the primitive ones that can be split: products, reductions, maps."""

from collections.abc import Callable
from dataclasses import dataclass

from ..ir import dims
from ..ir.dims import Dim
from ..ir.errors import VerificationError
from ..ir.graph import Attribute, Graph, Op, TensorType
from ..ir.kinds import indices_of


@dataclass(frozen=True)
class Decompose:
    """Split norms and attention into products, reductions and elementwise maps.

    A valid graph in, a valid graph with the same values out. Decides nothing: it exposes the
    reductions, which are what splitting over devices turns into collectives.
    """

    name: str = "decompose"

    def run(self, graph: Graph) -> Graph:
        """The graph with every composite operator replaced."""
        ops: list[Op] = []
        for op in graph.ops:
            parts = _REWRITES.get(op.kind)
            ops.extend(parts(op, graph.operand_types(op)) if parts else [op])
        return graph.with_ops(ops)


@dataclass(frozen=True)
class _Parts:
    """Makes the operators that one composite operator becomes; they keep its module path."""

    whole: Op

    def op(
        self, kind: str, part: str, operands: tuple[str, ...], type_: TensorType, **more: Attribute
    ) -> Op:
        name = f"{self.whole.result}.{part}"
        return Op(kind, operands, (name,), (type_,), more, self.whole.path)

    def map(
        self, part: str, operands: tuple[str, ...], type_: TensorType, indices: str, expr: str
    ) -> Op:
        return self.op("elementwise", part, operands, type_, indices=indices, expr=expr)

    def reduce(
        self, part: str, operand: str, type_: TensorType, indices: str, function: str, expr: str
    ) -> Op:
        more: dict[str, Attribute] = {"indices": indices, "function": function, "expr": expr}
        return self.op("reduce", part, (operand,), type_, **more)

    def last(self, op: Op) -> Op:
        """`op` under the name of the composite operator's result."""
        return Op(op.kind, op.operands, self.whole.results, op.types, op.attributes, op.path)


def _norm(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """x rsqrt(mean(x^2) + epsilon) w, after taking off the mean for a layer norm."""
    indices, parts = indices_of(op), _Parts(op)
    letters, over = indices.result, op.text("over")
    if indices.operands[0] != letters:
        raise VerificationError(f"norm %{op.result}: the operand's indices are not the result's")
    rest = letters.replace(over, "")
    count = dims.size(types[0].shape[letters.index(over)])
    shape = tuple(d for d, a in zip(op.type.shape, letters, strict=True) if a != over)
    narrow = TensorType("float32", shape)
    inward, outward = f"{letters}->{rest}", f"{letters},{rest}->{letters}"
    centred: list[Op] = []
    x = op.operands[0]
    if op.text("function") == "layer":
        total = parts.reduce("total", x, narrow, inward, "sum", "a")
        mean = parts.map("mean", (total.result,), narrow, f"{rest}->{rest}", f"a * {1 / count!r}")
        centre = parts.map("centre", (x, mean.result), op.type, outward, "a - b")
        centred, x = [total, mean, centre], centre.result
    squares = parts.reduce("squares", x, narrow, inward, "sum", "square(a)")
    root = f"rsqrt(a * {1 / count!r} + {op.number('epsilon')!r})"
    scale = parts.map("scale", (squares.result,), narrow, f"{rest}->{rest}", root)
    affine = op.operands[1:]
    spelt = ",".join((letters, rest, *indices.operands[1:]))
    expr = ("a * b", "a * b * c", "a * b * c + d")[len(affine)]
    scaled = parts.map("scaled", (x, scale.result, *affine), op.type, f"{spelt}->{letters}", expr)
    return [*centred, squares, scale, parts.last(scaled)]


def _attention(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """Grouped queries against their keys; the division by the softmax's sum comes last, on the
    narrow result (as in FlashAttention, arXiv 2205.14135, section 3.1)."""
    query, key, value = types
    batch, heads, queries, width = query.shape
    groups, keys, out = key.shape[1], key.shape[2], value.shape[3]
    members = dims.size(heads) // dims.size(groups)
    parts = _Parts(op)

    def typed(*shape: Dim) -> TensorType:
        return TensorType(op.type.dtype, shape)

    square = typed(batch, groups, members, queries, keys)
    narrow = typed(batch, groups, members, queries)
    wide = typed(batch, queries, groups, members, out)
    split = typed(batch, groups, members, queries, width)
    grouped = parts.op("reshape", "grouped", op.operands[:1], split)
    scores = parts.op(
        "matmul", "scores", (grouped.result, op.operands[1]), square, indices="bgrsd,bgtd->bgrst"
    )
    masked = _masked(op, parts, scores) if op.attributes.get("causal") else []
    seen = (*masked, scores)[0].result
    highest = parts.reduce("highest", seen, narrow, "bgrst->bgrs", "max", "a")
    raised = f"exp((a - b) * {op.number('scale')!r})"
    weights = parts.map("weights", (seen, highest.result), square, "bgrst,bgrs->bgrst", raised)
    total = parts.reduce("total", weights.result, narrow, "bgrst->bgrs", "sum", "a")
    inverse = parts.map("inverse", (total.result,), narrow, "bgrs->bgrs", "reciprocal(a)")
    mixed = parts.op(
        "matmul", "mixed", (weights.result, op.operands[2]), wide, indices="bgrst,bgte->bsgre"
    )
    share = parts.map("share", (mixed.result, inverse.result), wide, "bsgre,bgrs->bsgre", "a * b")
    joined = parts.op("reshape", "joined", (share.result,), op.type)
    pieces = [grouped, scores, *masked, highest, weights, total, mixed, inverse, share]
    return [*pieces, parts.last(joined)]


def _masked(op: Op, parts: _Parts, scores: Op) -> list[Op]:
    """The mask, which a single query at the end of its keys needs only for a window."""
    window = op.attributes.get("window")
    if scores.type.shape[3] == 1 and window is None:
        return []
    more: dict[str, Attribute] = {"query": "s", "key": "t", "window": window}
    indices = "bgrst->bgrst"
    return [parts.op("mask", "masked", (scores.result,), scores.type, indices=indices, **more)]


_REWRITES: dict[str, Callable[[Op, tuple[TensorType, ...]], list[Op]]] = {
    "norm": _norm,
    "attention": _attention,
}
