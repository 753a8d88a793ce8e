"""Gradients of composite operators, and the loss, become operators that can be split.

What an operator is composed of is differentiated in its place: the gradient of a norm or of
attention is the sweep over the forward operators, which are computed once more from the operands.
decompose.py then takes apart what composite operators are left among them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..ir.expression import LETTERS
from ..ir.graph import Attribute, Graph, Input, Op, Output, TensorType
from ..ir.kind import letter_sizes
from ..ir.kinds import indices_of
from ..ir.operators.attention import extras_of
from ..ir.operators.experts import parts_of
from ..ir.operators.tensors import letters_of
from .backward import Sweep, reached
from .decompose import (
    Parts,
    attention_parts,
    experts_parts,
    masked_scores,
    norm_parts,
    scaled_scores,
    scores_of,
    selected_scores,
)
from .fuse import without_dead

Types = tuple[TensorType, ...]

_SHIFTS = (".highest", ".peak")
"""Endings of values that a softmax takes off its scores and that cancel: nothing flows back."""

_WIDE = "float32"
"""The loss is computed so, or wider."""


@dataclass(frozen=True)
class DecomposeGradients:
    """Take the gradients of norms, attention and experts apart, and the loss with its gradient.

    A valid graph in, a valid graph with the same values out. Attention is differentiated through
    its probabilities (as in FlashAttention-2, arXiv 2307.08691, section 2.2), which it has in
    common with the same attention where a graph runs that once more.
    """

    name: str = "decompose_gradients"

    def run(self, graph: Graph) -> Graph:
        """The graph with every such operator replaced."""
        ops: list[Op] = []
        again = [op.operands[1:] for op in graph.ops if op.kind == "attention_grad"]
        for op in graph.ops:
            rewrite = _REWRITES.get(op.kind)
            if op.kind == "attention" and op.operands in again and "sinks" not in extras_of(op):
                rewrite = _through_probabilities
            ops.extend(rewrite(op, graph.operand_types(op)) if rewrite else [op])
        return graph.with_ops(ops)


# Norms and attention


def _norm_grad(op: Op, types: Types) -> list[Op]:
    letters, result = letters_of(op)
    given, *operands = op.operands
    attributes = {**op.attributes, "indices": f"{','.join((result, *letters[2:]))}->{letters[0]}"}
    forward = Op("norm", tuple(operands), (f"{op.result}.norm",), types[:1], attributes, op.path)
    return _differentiated(op, types, forward, norm_parts(forward, types[1:]), operands[:1], given)


def _attention_grad(op: Op, types: Types) -> list[Op]:
    given, *operands = op.operands
    attributes = {name: value for name, value in op.attributes.items() if name != "gives"}
    name = f"{op.result}.attention"
    forward = Op("attention", tuple(operands), (name,), types[:1], attributes, op.path)
    names = ("query", "key", "value", *extras_of(forward))
    by_name = dict(zip(names, operands, strict=True))
    gives = op.attributes["gives"]
    assert isinstance(gives, tuple)
    wanted = [by_name[str(name)] for name in gives]
    taken_apart = attention_parts if "sinks" in names else _through_probabilities
    return _differentiated(op, types, forward, taken_apart(forward, types[1:]), wanted, given)


def _through_probabilities(op: Op, types: Types) -> list[Op]:
    """Attention with its softmax whole; the queries are scaled, which are narrower than scores."""
    query, key, value, *more = types
    extras = dict(zip(extras_of(op), zip(op.operands[3:], more, strict=True), strict=True))
    batch, heads, queries, width = query.shape
    groups, keys, out = key.shape[1], key.shape[2], value.shape[3]
    parts, dtype = Parts(op), op.type.dtype
    members = heads // groups if isinstance(heads, int) and isinstance(groups, int) else 1
    split = TensorType(dtype, (batch, groups, members, queries, width))
    square = TensorType(dtype, (batch, groups, members, queries, keys))
    wide = TensorType(dtype, (batch, queries, groups, members, out))
    before = [parts.op("reshape", "grouped", op.operands[:1], split)]
    plain = op.attributes.get("softcap") is None and "mask" not in extras
    expr = f"a * {op.number('scale')!r}"
    if plain:
        before.append(parts.map("narrow", (before[0].result,), split, "bgrsd->bgrsd", expr))
    scale = expr if plain else "a"
    ops = [*before, *scores_of(parts, before[-1], op.operands[1], square, extras, scale)]
    ops.extend([] if plain else scaled_scores(op, parts, ops[-1], extras))
    ops.extend(masked_scores(op, parts, ops[-1]))
    ops.extend(selected_scores(parts, ops[-1], extras.get("indices")))
    softmax: dict[str, Attribute] = {"indices": "bgrst->bgrst", "over": "t"}
    ops.append(parts.op("softmax", "shares", (ops[-1].result,), square, **softmax))
    operands = (ops[-1].result, op.operands[2])
    mixed = parts.op("matmul", "mixed", operands, wide, indices="bgrst,bgte->bsgre")
    return [*ops, mixed, parts.last(parts.op("reshape", "joined", (mixed.result,), op.type))]


def _experts_grad(op: Op, types: Types) -> list[Op]:
    """Every product becomes two; what was before the activation is read, if it was kept."""
    kept = bool(op.attributes.get("hidden"))
    letters, result = letters_of(op)[0], f"{op.result}.experts"
    given, operands, roles = op.operands[0], op.operands[1 + kept :], parts_of(op)
    hidden = letters[1] if kept else "".join(roles.hidden)
    sizes = letter_sizes(op, indices_of(op), types)
    attributes = {
        **{name: value for name, value in op.attributes.items() if name != "hidden"},
        "indices": f"{','.join(letters[1 + kept :])}->{letters[0]},{hidden}",
    }
    before = TensorType(types[0].dtype, tuple(sizes[letter] for letter in hidden))
    results = (result, f"{result}.hidden")
    forward = Op("experts", operands, results, (types[0], before), attributes, op.path)
    ops = experts_parts(forward, types[1 + kept :])
    wanted = [name for at, name in enumerate(operands) if at != 1]
    known = {results[1]: op.operands[1]} if kept else {}
    return _differentiated(op, types, forward, ops, wanted, given, known)


def _differentiated(
    op: Op,
    types: Types,
    forward: Op,
    ops: Sequence[Op],
    wanted: Sequence[str],
    given: str,
    known: Mapping[str, str] = MappingProxyType({}),
) -> list[Op]:
    """The gradients of `wanted` operands, called as the results of `op`, from that of the result
    of `forward`, which is made of `ops`. Of those `known` ones have been kept, under other names,
    and need not be made."""
    read = dict(zip(op.operands, types, strict=True))
    inputs = tuple(Input(name, type_, "carried", name) for name, type_ in read.items())
    graph = Graph(forward.result, inputs, tuple(ops), ())
    active = reached(graph, wanted, lambda op, found: ())
    sweep = Sweep(graph, {name for name in active if not name.endswith(_SHIFTS)})
    sweep.give(forward.result, given)
    sweep.run(lambda op, found: ())
    made = [sweep.total(name) for name in wanted]
    whole = [
        replace(each, operands=tuple(known.get(name, name) for name in each.operands))
        for each in (*ops, *sweep.ops)
    ]
    inside = {name for each in whole for name in each.results}
    for at, name in enumerate(made):
        if name not in inside or name in made[:at]:
            made[at] = f"{forward.result}.copy{at}"
            own = LETTERS[: len(op.types[at].shape)]
            attributes = {"indices": f"{own}->{own}", "expr": "a"}
            whole.append(Op("elementwise", (name,), (made[at],), (op.types[at],), attributes))
            inside.add(made[at])
    names = {name: f"{op.result}.{name.removeprefix(f'{op.result}.')}" for name in inside}
    names |= zip(made, op.results, strict=True)
    outputs = tuple(Output(name, "carried", name) for name in made)
    kept = without_dead(replace(_unmasked(replace(graph, ops=tuple(whole))), outputs=outputs))
    return [
        replace(
            each,
            operands=tuple(names.get(name, name) for name in each.operands),
            results=tuple(names[name] for name in each.results),
            path=op.path,
        )
        for each in kept.ops
    ]


def _unmasked(graph: Graph) -> Graph:
    """The graph without the masks of gradients: where a probability is zero, so is what flows to
    its score."""
    same: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = replace(op, operands=tuple(same.get(name, name) for name in op.operands))
        if op.kind == "mask" and op.attributes.get("fill") == 0:
            same[op.result] = op.operands[0]
        else:
            ops.append(op)
    return graph.with_ops(ops)


# The loss


@dataclass(frozen=True)
class _Loss:
    """The values that the loss and its gradient have in common.

    `labels` are those that tokens are to say, `counted` is 1 for every token that counts, `count`
    their number; `highest` and `total` are of the exponentials of a token's logits.
    """

    ops: list[Op]
    labels: str
    classes: str
    highest: str
    total: str
    counted: str
    count: str
    letters: str
    own: str
    narrow: TensorType


def _loss_of(op: Op, parts: Parts, logits: str, labels: str, types: Types) -> _Loss:
    (letters, own) = letters_of(op)[0][-2:]
    over = op.text("classes")
    scalar = TensorType(_WIDE, ())
    narrow = TensorType(_WIDE, types[1].shape)
    ops = _shifted(op, parts, labels, own, types[1])
    target = ops[-1].result if ops else labels
    places = TensorType("int64", (types[0].shape[letters.index(over)],))
    iota: dict[str, Attribute] = {"indices": f"->{over}", "start": 0, "step": 1}
    classes = parts.op("iota", "classes", (), places, **iota)
    highest = parts.reduce("highest", logits, narrow, f"{letters}->{own}", "max", "a")
    exponentials: dict[str, Attribute] = {
        "indices": f"{letters},{own}->{own}", "function": "sum", "expr": "exp(a - b)",
    }  # fmt: skip
    total = parts.op("reduce", "total", (logits, highest.result), narrow, **exponentials)
    counts = f"where(a == {op.integer('ignore')}, 0, 1)"
    counted = parts.map("counted", (target,), narrow, f"{own}->{own}", counts)
    count = parts.reduce("count", counted.result, scalar, f"{own}->", "sum", "a")
    return _Loss(
        [*ops, classes, highest, total, counted, count],
        target, classes.result, highest.result, total.result, counted.result, count.result,
        letters, own, narrow,
    )  # fmt: skip


def _shifted(op: Op, parts: Parts, labels: str, own: str, type_: TensorType) -> list[Op]:
    """The labels `shift` places on along `along`; none behind the last."""
    shift, along = op.integer("shift"), op.text("along")
    if not shift:
        return []
    at, same = own.index(along), f"{own}->{own}"
    length = type_.shape[at]
    rest = (*type_.shape[:at], length - shift, *type_.shape[at + 1 :])
    cut: dict[str, Attribute] = {"indices": same, "along": along, "start": shift, "stop": length}
    later = parts.op("slice", "later", (labels,), TensorType(type_.dtype, rest), **cut)
    filled: dict[str, Attribute] = {
        "indices": same, "along": along, "before": 0, "after": shift, "value": op.integer("ignore"),
    }  # fmt: skip
    return [later, parts.op("pad", "labels", (later.result,), type_, **filled)]


def _cross_entropy(op: Op, types: Types) -> list[Op]:
    parts = Parts(op)
    logits, labels = op.operands
    loss = _loss_of(op, parts, logits, labels, types)
    letters, own, scalar = loss.letters, loss.own, TensorType(_WIDE, ())
    pick: dict[str, Attribute] = {
        "indices": f"{letters},{op.text('classes')},{own}->{own}",
        "function": "sum",
        "expr": "where(b == c, a, 0)",
    }
    said = parts.op("reduce", "said", (logits, loss.classes, loss.labels), loss.narrow, **pick)
    lost: dict[str, Attribute] = {
        "indices": ",".join([own] * 4) + "->",
        "function": "sum",
        "expr": "(log(a) + b - c) * d",
    }
    operands = (loss.total, loss.highest, said.result, loss.counted)
    summed = parts.op("reduce", "lost", operands, scalar, **lost)
    mean = parts.map("mean", (summed.result, loss.count), op.type, ",->", "a / b")
    return [*loss.ops, said, summed, parts.last(mean)]


def _cross_entropy_grad(op: Op, types: Types) -> list[Op]:
    parts = Parts(op)
    given, logits, labels = op.operands
    loss = _loss_of(op, parts, logits, labels, types[1:])
    letters, own = loss.letters, loss.own
    operands = (loss.counted, given, loss.count)
    weight = parts.map("weight", operands, loss.narrow, f"{own},,->{own}", "a * b / c")
    inverse = parts.map("inverse", (loss.total,), loss.narrow, f"{own}->{own}", "reciprocal(a)")
    spelt = f"{letters},{own},{own},{op.text('classes')},{own},{own}->{letters_of(op)[1]}"
    expr = "(exp(a - b) * c - where(d == e, 1, 0)) * f"
    read = (
        logits, loss.highest, inverse.result, loss.classes, loss.labels, weight.result,
    )  # fmt: skip
    gradient = parts.map("gradient", read, op.type, spelt, expr)
    return [*loss.ops, weight, inverse, parts.last(gradient)]


_REWRITES: dict[str, Callable[[Op, Types], list[Op]]] = {
    "norm_grad": _norm_grad,
    "attention_grad": _attention_grad,
    "experts_grad": _experts_grad,
    "cross_entropy": _cross_entropy,
    "cross_entropy_grad": _cross_entropy_grad,
}
