"""Composite operators become the primitive ones that can be split: products, reductions, maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..ir import dims
from ..ir.dims import Dim
from ..ir.expression import LETTERS
from ..ir.graph import Attribute, Graph, Op, TensorType
from ..ir.kind import letter_sizes
from ..ir.kinds import indices_of
from ..ir.operators.attention import extras_of
from ..ir.operators.experts import extras_of as expert_biases
from ..ir.operators.experts import parts_of


@dataclass(frozen=True)
class Decompose:
    """Split norms and attention into products, reductions and elementwise maps.

    A valid graph in, a valid graph with the same values out. Decides nothing: it exposes the
    reductions, which are what splitting over devices turns into collectives. With `kernels`,
    the parts of one attention say so (`kernel`): the hardware runs them as one.
    """

    kernels: bool = False
    name: str = "decompose"

    def run(self, graph: Graph) -> Graph:
        """The graph with every composite operator replaced."""
        ops: list[Op] = []
        for op in graph.ops:
            rewrite = _REWRITES.get(op.kind)
            parts = rewrite(op, graph.operand_types(op)) if rewrite else [op]
            one = self.kernels and op.kind == "attention" and "indices" not in extras_of(op)
            ops.extend(_as_kernel(op, parts) if one else parts)
        return graph.with_ops(ops)


def _as_kernel(whole: Op, parts: list[Op]) -> list[Op]:
    """The parts of an attention under its name; its scores name the letters of queries and keys,
    and say what hides keys from queries."""
    named = ("causal", "window", "chunk")
    rules: dict[str, Attribute] = {x: whole.attributes[x] for x in named if x in whole.attributes}
    scores = f"{whole.result}.scores"
    marked: list[Op] = []
    for op in parts:
        more: dict[str, Attribute] = {"kernel": whole.result}
        if op.result == scores:
            more |= {"query": "s", "key": "t", **rules}
        views = op.kind in ("reshape", "transpose")
        marked.append(op if views else replace(op, attributes={**op.attributes, **more}))
    return marked


@dataclass(frozen=True)
class Parts:
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
        results = self.whole.results[:1]
        return Op(op.kind, op.operands, results, op.types, op.attributes, op.path)


def norm_parts(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """x rsqrt(mean(x^2) + epsilon) w, after taking off the mean for a layer norm."""
    indices, parts = indices_of(op), Parts(op)
    own, letters, over = indices.operands[0], indices.result, op.text("over")
    rest = letters.replace(over, "")
    count = dims.size(types[0].shape[own.index(over)])
    shape = tuple(d for d, a in zip(op.type.shape, letters, strict=True) if a != over)
    narrow = TensorType("float32", shape)
    inward, outward = f"{own}->{rest}", f"{own},{rest}->{own}"
    centred: list[Op] = []
    x = op.operands[0]
    if op.text("function") == "layer":
        total = parts.reduce("total", x, narrow, inward, "sum", "a")
        mean = parts.map("mean", (total.result,), narrow, f"{rest}->{rest}", f"a * {1 / count!r}")
        type_ = TensorType(op.type.dtype, types[0].shape)
        centre = parts.map("centre", (x, mean.result), type_, outward, "a - b")
        centred, x = [total, mean, centre], centre.result
    squares = parts.reduce("squares", x, narrow, inward, "sum", "square(a)")
    root = f"rsqrt(a * {1 / count!r} + {op.number('epsilon')!r})"
    scale = parts.map("scale", (squares.result,), narrow, f"{rest}->{rest}", root)
    affine = op.operands[1:]
    spelt = ",".join((own, rest, *indices.operands[1:]))
    expr = ("a * b", "a * b * c", "a * b * c + d")[len(affine)]
    scaled = parts.map("scaled", (x, scale.result, *affine), op.type, f"{spelt}->{letters}", expr)
    return [*centred, squares, scale, parts.last(scaled)]


def _softmax(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """exp(x - max(x)) / sum, or x - max(x) - log(sum), in the result's dtype."""
    indices, parts = indices_of(op), Parts(op)
    (letters,), result, over = indices.operands, indices.result, op.text("over")
    rest = result.replace(over, "")
    shape = tuple(dim for dim, a in zip(op.type.shape, result, strict=True) if a != over)
    narrow = TensorType(op.type.dtype, shape)
    inward, beside = f"{letters}->{rest}", f"{letters},{rest}->{result}"
    highest = parts.reduce("highest", op.operands[0], narrow, inward, "max", "a")
    operands = (op.operands[0], highest.result)
    if op.attributes.get("log"):
        raised = parts.map("raised", operands, op.type, beside, "exp(a - b)")
        total = parts.reduce("total", raised.result, narrow, f"{result}->{rest}", "sum", "a")
        spelt = f"{letters},{rest},{rest}->{result}"
        last = parts.map("less", (*operands, total.result), op.type, spelt, "a - b - log(c)")
        return [highest, raised, total, parts.last(last)]
    raised = parts.map("raised", operands, op.type, beside, "exp(a - b)")
    total = parts.reduce("total", raised.result, narrow, f"{result}->{rest}", "sum", "a")
    share = f"{result},{rest}->{result}"
    last = parts.map("share", (raised.result, total.result), op.type, share, "a / b")
    return [highest, raised, total, parts.last(last)]


def attention_parts(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """Grouped queries against their keys; the division by the softmax's sum comes last, on the
    narrow result (as in FlashAttention, arXiv 2205.14135, section 3.1)."""
    query, key, value, *more = types
    extras = dict(zip(extras_of(op), zip(op.operands[3:], more, strict=True), strict=True))
    batch, heads, queries, width = query.shape
    groups, keys, out = key.shape[1], key.shape[2], value.shape[3]
    members = dims.size(heads) // dims.size(groups)
    parts = Parts(op)

    def typed(*shape: Dim) -> TensorType:
        return TensorType(op.type.dtype, shape)

    square = typed(batch, groups, members, queries, keys)
    narrow = typed(batch, groups, members, queries)
    wide = typed(batch, queries, groups, members, out)
    split = typed(batch, groups, members, queries, width)
    grouped = parts.op("reshape", "grouped", op.operands[:1], split)
    first = scores_of(parts, grouped, op.operands[1], square, extras)
    scores = first[-1]
    scaled = scaled_scores(op, parts, scores, extras)
    masked = masked_scores(op, parts, (scores, *scaled)[-1])
    selected = selected_scores(parts, (scores, *scaled, *masked)[-1], extras.get("indices"))
    seen = (scores, *scaled, *masked, *selected)[-1].result
    highest = parts.reduce("highest", seen, narrow, "bgrst->bgrs", "max", "a")
    sunk = _sunk(parts, highest, extras.get("sinks"))
    peak = (highest, *sunk)[-1].result
    raised = "exp(a - b)" if scaled else f"exp((a - b) * {op.number('scale')!r})"
    weights = parts.map("weights", (seen, peak), square, "bgrst,bgrs->bgrst", raised)
    total = parts.reduce("total", weights.result, narrow, "bgrst->bgrs", "sum", "a")
    if sunk:
        sinks = sunk[0].result
        inverse = parts.map(
            "inverse", (total.result, sinks, peak), narrow,
            "bgrs,gr,bgrs->bgrs", "reciprocal(a + exp(b - c))",
        )  # fmt: skip
    else:
        inverse = parts.map("inverse", (total.result,), narrow, "bgrs->bgrs", "reciprocal(a)")
    mixed = parts.op(
        "matmul", "mixed", (weights.result, op.operands[2]), wide, indices="bgrst,bgte->bsgre"
    )
    share = parts.map("share", (mixed.result, inverse.result), wide, "bsgre,bgrs->bsgre", "a * b")
    joined = parts.op("reshape", "joined", (share.result,), op.type)
    before = [grouped, *first, *scaled, *masked, *selected, highest, *sunk]
    return [*before, weights, total, mixed, inverse, share, parts.last(joined)]


Extras = Mapping[str, tuple[str, TensorType]]
"""The operands that attention has after queries, keys and values, by what they are."""


def scores_of(
    parts: Parts, grouped: Op, key: str, square: TensorType, extras: Extras, scale: str = "a"
) -> list[Op]:
    """Products of queries, by group and member, and keys: the sum of two where both have more
    dimensions, of which the queries are taken as `scale` says."""
    indices = "bgrsd,bgtd->bgrst"
    if "more_query" not in extras:
        return [parts.op("matmul", "scores", (grouped.result, key), square, indices=indices)]
    first = parts.op("matmul", "first", (grouped.result, key), square, indices=indices)
    (query, asked), (other, seen) = extras["more_query"], extras["more_key"]
    split = TensorType(square.dtype, (*square.shape[:-1], asked.shape[-1]))
    more = [parts.op("reshape", "more", (query,), split)]
    if scale != "a":
        more.append(parts.map("taken", more[0].results, split, "bgrsd->bgrsd", scale))
    query = more[-1].result
    if seen.shape[1] != square.shape[1]:
        each = TensorType(seen.dtype, (seen.shape[0], square.shape[1], *seen.shape[2:]))
        more.append(parts.map("common", (other,), each, "bptd->bgtd", "a"))
        other = more[-1].result
    second = parts.op("matmul", "second", (query, other), square, indices=indices)
    both = (first.result, second.result)
    total = parts.map("scores", both, square, "bgrst,bgrst->bgrst", "a + b")
    return [first, *more, second, total]


def scaled_scores(op: Op, parts: Parts, scores: Op, extras: Extras) -> list[Op]:
    """Scores times the scale, capped and with a mask added, where anything but a softmax follows:
    else the scale waits for the exponential."""
    cap = op.attributes.get("softcap")
    if cap is None and not {"mask", "sinks"} & extras.keys():
        return []
    scale = op.number("scale")
    expr = f"a * {scale!r}"
    if cap is not None:
        expr = f"tanh(a * {scale / op.number('softcap')!r}) * {op.number('softcap')!r}"
    if "mask" not in extras:
        return [parts.map("scaled", (scores.result,), scores.type, "bgrst->bgrst", expr)]
    name, type_ = extras["mask"]
    letters = op.text("mask")
    views: list[Op] = []
    if "h" in letters:
        at = letters.index("h")
        shape = (*type_.shape[:at], *scores.type.shape[1:3], *type_.shape[at + 1 :])
        views.append(parts.op("reshape", "added", (name,), TensorType(type_.dtype, shape)))
        name = views[0].result
    spelt = f"bgrst,{letters.replace('h', 'gr')}->bgrst"
    operands = (scores.result, name)
    return [*views, parts.map("scaled", operands, scores.type, spelt, f"{expr} + b")]


def masked_scores(op: Op, parts: Parts, scores: Op) -> list[Op]:
    """The mask, which a single query at the end of its keys needs only for a window or chunk."""
    rules = {name: op.attributes.get(name) for name in ("window", "chunk")}
    rules = {name: value for name, value in rules.items() if value is not None}
    causal = bool(op.attributes.get("causal"))
    if scores.type.shape[3:] == (1, 1) or (not rules and (not causal or scores.type.shape[3] == 1)):
        return []
    more: dict[str, Attribute] = {"query": "s", "key": "t", "window": rules.get("window")}
    if "chunk" in rules:
        more["chunk"] = rules["chunk"]
    if not causal:
        more["causal"] = False
    indices = "bgrst->bgrst"
    return [parts.op("mask", "masked", (scores.result,), scores.type, indices=indices, **more)]


def selected_scores(parts: Parts, scores: Op, indices: tuple[str, TensorType] | None) -> list[Op]:
    """Scores of keys that a query did not select at minus infinity."""
    if indices is None:
        return []
    batch, _, _, queries, keys = scores.type.shape
    marks = TensorType(scores.type.dtype, (batch, queries, keys))
    none = parts.map("unselected", (), marks, "->bst", "0")
    one = parts.map("one", (), TensorType(marks.dtype, ()), "->", "1")
    marked = parts.op(
        "scatter", "selected", (none.result, indices[0], one.result), marks,
        indices="bst,bsk,->bst", along="t", function="set",
    )  # fmt: skip
    kept = parts.map(
        "kept", (scores.result, marked.result), scores.type,
        "bgrst,bst->bgrst", "where(b > 0, a, -inf)",
    )  # fmt: skip
    return [none, one, marked, kept]


def _sunk(parts: Parts, highest: Op, sinks: tuple[str, TensorType] | None) -> list[Op]:
    """The sinks by group and member, and the highest score with them."""
    if sinks is None:
        return []
    name, type_ = sinks
    split = parts.op("reshape", "sinks", (name,), TensorType(type_.dtype, highest.type.shape[1:3]))
    operands = (highest.result, split.result)
    peak = parts.map("peak", operands, highest.type, "bgrs,gr->bgrs", "maximum(a, b)")
    return [split, peak]


def experts_parts(op: Op, types: tuple[TensorType, ...]) -> list[Op]:
    """Two products with the chosen matrices, the activation and the choices' weights between; what
    stands before the activation is called as the second result, if there is one."""
    roles, parts = parts_of(op), Parts(op)
    indices = indices_of(op)
    x, index, scale, up, down, *biases = op.operands
    (x_, index_, scale_, up_, down_, *_), result = indices.operands, indices.result
    given = dict(
        zip(expert_biases(op), zip(biases, indices.operands[5:], strict=True), strict=True)
    )
    sizes = letter_sizes(op, indices, types)
    inner = roles.tokens + roles.chosen + roles.inner
    wide = roles.tokens + roles.chosen + roles.pair + roles.inner

    def typed(letters: str) -> TensorType:
        return TensorType(types[0].dtype, tuple(sizes[letter] for letter in letters))

    more = {
        name: op.attributes[name] for name in ("expert", "total", "load") if name in op.attributes
    }

    def product(part: str, operands: tuple[str, str, str], letters: str, type_: TensorType) -> Op:
        return parts.op("chosen_matmul", part, operands, type_, indices=letters, **more)

    def looked_up(part: str, name: str, result: str) -> Op:
        table, own = given[name]
        spelt = f"{own},{index_}->{result}"
        operands = (table, index)
        return parts.op("gather", part, operands, typed(result), indices=spelt, along=roles.expert)

    ops = [product("up", (x, index, up), f"{x_},{index_},{up_}->{wide}", typed(wide))]
    if "up_bias" in given:
        ops.append(looked_up("up_bias", "up_bias", wide))
        both = (ops[-2].result, ops[-1].result)
        ops.append(parts.map("biased", both, typed(wide), f"{wide},{wide}->{wide}", "a + b"))
    if op.results[1:]:
        ops[-1] = replace(ops[-1], results=op.results[1:])
    before = [ops[-1].result]
    if roles.pair:
        halves: list[Op] = []
        for at in (0, 1):
            halves.append(
                parts.op(
                    "slice", f"half{at}", (before[0],), typed(inner),
                    indices=f"{wide}->{inner}", along=roles.pair, start=at, stop=at + 1,
                )
            )  # fmt: skip
        ops.extend(halves)
        before = [half.result for half in halves]
    spelt = ",".join([*[inner] * len(before), scale_])
    expr = f"({op.text('expr')}) * {LETTERS[len(before)]}"
    ops.append(parts.map("weighted", (*before, scale), typed(inner), f"{spelt}->{inner}", expr))
    spelt = f"{inner},{index_},{down_}->{result}"
    ops.append(product("down", (ops[-1].result, index, down), spelt, op.type))
    if "down_bias" in given:
        own = roles.tokens + roles.chosen + roles.out
        bias = looked_up("down_bias", "down_bias", own)
        attributes: dict[str, Attribute] = {"function": "sum", "expr": "a * b"}
        attributes["indices"] = f"{own},{scale_}->{result}"
        summed = parts.op("reduce", "bias", (bias.result, scale), op.type, **attributes)
        both = (ops[-1].result, summed.result)
        total = parts.map("total", both, op.type, f"{result},{result}->{result}", "a + b")
        ops.extend([bias, summed, total])
    return [*ops[:-1], parts.last(ops[-1])]


_REWRITES: dict[str, Callable[[Op, tuple[TensorType, ...]], list[Op]]] = {
    "norm": norm_parts,
    "attention": attention_parts,
    "softmax": _softmax,
    "experts": experts_parts,
}
