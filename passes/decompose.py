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
    """Split norms, softmax and attention into reductions and elementwise maps.

    A valid graph in, a valid graph with the same values out. Decides nothing: it exposes the
    reductions, which are what splitting over devices turns into collectives.
    """

    name: str = "decompose"

    def run(self, graph: Graph) -> Graph:
        """The graph with every composite operator replaced."""
        ops: list[Op] = []
        for op in graph.ops:
            rewrite = _REWRITES.get(op.kind)
            ops.extend(rewrite(op, graph.operand_types(op)) if rewrite else [op])
        return graph.with_ops(ops)


def _op(
    origin: Op,
    kind: str,
    part: str,
    operands: tuple[str, ...],
    type_: TensorType,
    **attributes: Attribute,
) -> Op:
    """An operator that is one part of `origin` and keeps its module path."""
    return Op(kind, operands, (f"{origin.result}.{part}",), (type_,), attributes, origin.path)


def _renamed(op: Op, result: str) -> Op:
    return Op(op.kind, op.operands, (result,), op.types, op.attributes, op.path)


def _norm(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """x rsqrt(mean(x^2) + epsilon) w, after taking off the mean for a layer norm."""
    indices = indices_of(op)
    letters, over = indices.result, op.text("over")
    if indices.operands[0] != letters:
        raise VerificationError(f"norm %{op.result}: the operand's indices are not the result's")
    rest = letters.replace(over, "")
    count = dims.size(types[0].shape[letters.index(over)])
    reduced = TensorType(
        "float32", tuple(d for d, a in zip(op.type.shape, letters, strict=True) if a != over)
    )
    centred: list[Op] = []
    x = op.operands[0]
    if op.text("function") == "layer":
        total = _op(
            op,
            "reduce",
            "total",
            (x,),
            reduced,
            indices=f"{letters}->{rest}",
            function="sum",
            expr="a",
        )
        centre = _op(
            op,
            "elementwise",
            "centre",
            (x, total.result),
            op.type,
            indices=f"{letters},{rest}->{letters}",
            expr=f"a - b / {count}",
        )
        centred, x = [total, centre], centre.result
    squares = _op(
        op,
        "reduce",
        "squares",
        (x,),
        reduced,
        indices=f"{letters}->{rest}",
        function="sum",
        expr="square(a)",
    )
    extra = op.operands[1:]
    scaled = f"a * rsqrt(b * {1 / count!r} + {op.number('epsilon')!r})"
    expr = scaled + (" * c" if extra else "") + (" + d" if len(extra) == 2 else "")
    last = _op(
        op,
        "elementwise",
        "scaled",
        (x, squares.result, *extra),
        op.type,
        indices=f"{','.join((letters, rest, *indices.operands[1:]))}->{letters}",
        expr=expr,
    )
    return [*centred, squares, _renamed(last, op.result)]


def _softmax(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    letters, over = indices_of(op).result, op.text("over")
    weights, total = _exponentials(op, op.operands[0], op.type, letters, over, 1.0)
    rest = "".join(letter for letter in letters if letter not in over)
    last = _op(
        op,
        "elementwise",
        "share",
        (weights[-1].result, total.result),
        op.type,
        indices=f"{letters},{rest}->{letters}",
        expr="a / b",
    )
    return [*weights, total, _renamed(last, op.result)]


def _exponentials(
    op: Op, scores: str, type_: TensorType, letters: str, over: str, scale: float
) -> tuple[list[Op], Op]:
    """exp(scale (x - max x)) along `over`, and its sum: a softmax not yet divided."""
    rest = "".join(letter for letter in letters if letter not in over)
    shape = tuple(d for d, a in zip(type_.shape, letters, strict=True) if a not in over)
    reduced = TensorType(type_.dtype, shape)
    highest = _op(
        op,
        "reduce",
        "highest",
        (scores,),
        reduced,
        indices=f"{letters}->{rest}",
        function="max",
        expr="a",
    )
    expr = "exp(a - b)" if scale == 1 else f"exp((a - b) * {scale!r})"
    weights = _op(
        op,
        "elementwise",
        "weights",
        (scores, highest.result),
        type_,
        indices=f"{letters},{rest}->{letters}",
        expr=expr,
    )
    total = _op(
        op,
        "reduce",
        "total",
        (weights.result,),
        reduced,
        indices=f"{letters}->{rest}",
        function="sum",
        expr="a",
    )
    return [highest, weights], total


def _attention(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """Grouped queries against their keys; the division by the softmax's sum comes last, on the
    narrow result (as in FlashAttention, arXiv 2205.14135, section 3.1)."""
    query, key, value = types
    batch, heads, queries, width = query.shape
    groups, keys, out = key.shape[1], key.shape[2], value.shape[3]
    group_size = dims.size(heads) // dims.size(groups)

    def typed(*shape: Dim) -> TensorType:
        return TensorType(op.type.dtype, shape)

    grouped = _op(
        op,
        "reshape",
        "grouped",
        (op.operands[0],),
        typed(batch, groups, group_size, queries, width),
    )
    scores = _op(
        op,
        "matmul",
        "scores",
        (grouped.result, op.operands[1]),
        typed(batch, groups, group_size, queries, keys),
        indices="bgrsd,bgtd->bgrst",
    )
    ops = [grouped, scores]
    if op.attributes.get("causal") and (queries != 1 or op.attributes.get("window") is not None):
        ops.append(
            _op(
                op,
                "mask",
                "masked",
                (scores.result,),
                scores.type,
                indices="bgrst->bgrst",
                query="s",
                key="t",
                window=op.attributes.get("window"),
            )
        )
    weights, total = _exponentials(
        op, ops[-1].result, scores.type, "bgrst", "t", op.number("scale")
    )
    mixed = _op(
        op,
        "matmul",
        "mixed",
        (weights[-1].result, op.operands[2]),
        typed(batch, queries, groups, group_size, out),
        indices="bgrst,bgte->bsgre",
    )
    share = _op(
        op,
        "elementwise",
        "share",
        (mixed.result, total.result),
        mixed.type,
        indices="bsgre,bgrs->bsgre",
        expr="a / b",
    )
    joined = _op(op, "reshape", "joined", (share.result,), op.type)
    return [*ops, *weights, total, mixed, share, _renamed(joined, op.result)]


_REWRITES: dict[str, Callable[[Op, tuple[TensorType, ...]], list[Op]]] = {
    "norm": _norm,
    "softmax": _softmax,
    "attention": _attention,
}
