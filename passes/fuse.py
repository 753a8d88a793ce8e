"""Fusing: what a model computes in many small operators, said in few.

Patterns are found by what flows where, never by the names of modules. Each rewrite keeps the
name of the value that it yields, and what nothing reads any more is dropped at the end.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_lowercase

from ..ir.dims import Dim
from ..ir.expression import LETTERS, substitute
from ..ir.graph import Graph, Op, TensorType
from ..ir.operators.tensors import letters_of

_NUMBER = r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)"


@dataclass(frozen=True)
class Fuse:
    """A valid graph in, a valid graph out that computes the same with fewer operators.

    - Root mean square normalization becomes one `norm`, which computes in float32 inside.
    - Rotary embedding in the half-rotated form becomes one `rotary` in pair form, between views.
    - An elementwise operator whose only reader is elementwise over the same elements joins it,
      unless it changes the dtype.
    - What nothing reads is gone.

    Values are those of the unfused graph: exactly where no norm is fused, and up to the rounding
    of a norm's last product where its weight is narrower than float32.
    """

    name: str = "fuse"

    def run(self, graph: Graph) -> Graph:
        """The fused graph."""
        graph = without_dead(_rewritten(graph))
        return without_dead(with_chains_folded(graph))


def without_dead(graph: Graph) -> Graph:
    """The graph without operators whose results nothing reads; a repeat may have other outputs, and
    `kept` ones stay."""
    needed = set(graph.output_names)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        stays = op.kind == "repeat" or op.attributes.get("kept") is True
        if stays or not needed.isdisjoint(op.results):
            kept.append(op)
            needed.update(op.operands)
    return graph.with_ops(kept[::-1])


def _rewritten(graph: Graph) -> Graph:
    """The graph with every pattern in its place; what the patterns no longer read is left in."""
    rewritten = _Views(graph)
    for op in graph.ops:
        if norm := match_norm(graph, op):
            rewritten.ops.append(norm.op())
        elif rotary := match_rotary(graph, op):
            rewritten.add_rotary(rotary)
        else:
            rewritten.ops.append(op)
    return graph.with_ops(rewritten.ops)


# Reading a graph backwards


def _elementwise(graph: Graph, name: str) -> Op | None:
    """The elementwise operator that yields `name`, if one does."""
    op = graph.producers.get(name)
    return op if op is not None and op.kind == "elementwise" else None


def _expression(graph: Graph, name: str, pattern: str) -> tuple[Op, tuple[str, ...]] | None:
    """The elementwise operator behind `name` whose expression matches, and the groups found."""
    op = _elementwise(graph, name)
    match = re.fullmatch(pattern, op.text("expr")) if op else None
    return (op, match.groups()) if op and match else None


def _through_casts(graph: Graph, name: str) -> str:
    """The value that `name` is, but for its dtype."""
    while op := _elementwise(graph, name):
        (letters, *_), result = letters_of(op)
        if op.text("expr") != "a" or letters != result:
            break
        name = op.operands[0]
    return name


def _pairs(op: Op) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Both orders of the two operands of a product or sum, each a name and its letters."""
    letters, _ = letters_of(op)
    if len(letters) == 2:
        first, second = zip(op.operands, letters, strict=True)
        yield first, second
        yield second, first


def _is(op: Op | None, kind: str, expr: str = "") -> bool:
    return op is not None and op.kind == kind and (not expr or op.text("expr") == expr)


# Normalization


@dataclass(frozen=True)
class Norm:
    """A root mean square normalization found in a graph: `weight * x / rms(x)`."""

    root: Op
    x: str
    weight: str
    letters: str
    over: str
    epsilon: float

    def op(self) -> Op:
        """The operator that stands for all of it."""
        attributes = {
            "indices": f"{self.letters},{self.over}->{self.letters}",
            "function": "rms",
            "over": self.over,
            "epsilon": self.epsilon,
        }
        return replace(
            self.root, kind="norm", operands=(self.x, self.weight), attributes=attributes
        )


def match_norm(graph: Graph, op: Op) -> Norm | None:
    """The normalization that `op`, the product with the weight, is the end of."""
    if not _is(op, "elementwise", "a * b"):
        return None
    _, result = letters_of(op)
    for (weight, over), (scaled, letters) in _pairs(op):
        if len(over) == 1 and letters == result:
            found = _match_scaled(graph, _through_casts(graph, scaled), letters, over)
            if found is not None:
                x, epsilon = found
                return Norm(op, x, weight, letters, over, epsilon)
    return None


def _match_scaled(graph: Graph, name: str, letters: str, over: str) -> tuple[str, float] | None:
    """x and epsilon, if `name` is x over its root mean square along the letter `over`."""
    product = _expression(graph, name, r"a \* b")
    if product is None:
        return None
    rest = letters.replace(over, "")
    for (x, own), (inverse, scale) in _pairs(product[0]):
        if own == letters and scale == rest:
            source = _through_casts(graph, x)
            epsilon = _match_inverse(graph, inverse, source, letters, over)
            if epsilon is not None:
                return source, epsilon
    return None


def _match_inverse(graph: Graph, name: str, source: str, letters: str, over: str) -> float | None:
    """Epsilon, if `name` is one over the root mean square of `source`."""
    if not (root := _expression(graph, name, r"rsqrt\(a\)")):
        return None
    if not (plus := _expression(graph, root[0].operands[0], rf"a \+ {_NUMBER}")):
        return None
    if not (mean := _expression(graph, plus[0].operands[0], rf"a / {_NUMBER}")):
        return None
    total = graph.producers.get(mean[0].operands[0])
    if total is None or not _is(total, "reduce", "a") or total.text("function") != "sum":
        return None
    (own,), result = letters_of(total)
    square = _expression(graph, total.operands[0], r"square\(a\)")
    if square is None or _through_casts(graph, square[0].operands[0]) != source:
        return None
    shape = graph.types[total.operands[0]].shape
    at = letters.index(over)
    same_order = own.replace(own[at], "") == result and len(own) == len(letters)
    return float(plus[1][0]) if same_order and float(mean[1][0]) == shape[at] else None


# Rotary embedding


@dataclass(frozen=True)
class Rotary:
    """`x * cos + concat(-second half of x, first half of x) * sin`, along the letter `width`."""

    root: Op
    operands: tuple[str, str, str]
    letters: tuple[str, str, str]
    result: str
    width: str


def match_rotary(graph: Graph, op: Op) -> Rotary | None:
    """The rotary embedding that `op`, the sum of two products, is the end of."""
    if not _is(op, "elementwise", "a + b"):
        return None
    _, result = letters_of(op)
    for (left, straight), (right, crossed) in _pairs(op):
        if straight == crossed == result and (match := _match_parts(graph, left, right)):
            operands, letters, target = match
            width = result[-1]
            if target == result and all(own.endswith(width) for own in letters):
                return Rotary(op, operands, letters, result, width)
    return None


def _match_parts(
    graph: Graph, left: str, right: str
) -> tuple[tuple[str, str, str], tuple[str, str, str], str] | None:
    """x, cos, sin, their letters and those of the result."""
    straight = _expression(graph, left, r"a \* b")
    crossed = _expression(graph, right, r"a \* b")
    if straight is None or crossed is None:
        return None
    _, target = letters_of(straight[0])
    if letters_of(crossed[0])[1] != target:
        return None
    for (x, own), (cos, cos_letters) in _pairs(straight[0]):
        for (turned, turned_letters), (sin, sin_letters) in _pairs(crossed[0]):
            if turned_letters == target and _is_turned(graph, turned, x, own, target):
                return (x, cos, sin), (own, cos_letters, sin_letters), target
    return None


def _is_turned(graph: Graph, name: str, x: str, own: str, target: str) -> bool:
    """Whether `name`, in the order `target`, is the second half of `x` negated, then its first."""
    joined = graph.producers.get(name)
    if joined is None or joined.kind != "concat" or len(joined.operands) != 2:
        return False
    (second_letters, first_letters), result = letters_of(joined)
    negated = _expression(graph, joined.operands[0], "-a")
    if negated is None or joined.text("along") != result[-1]:
        return False
    (half_letters,), half_result = letters_of(negated[0])
    order = [target.index(letter) for letter in own]
    return (
        _order(first_letters, result) == order
        and _order(_composed(half_letters, half_result, second_letters), result) == order
        and _is_half(graph, joined.operands[1], x, 0)
        and _is_half(graph, negated[0].operands[0], x, 1)
    )


def _composed(letters: str, result: str, renamed: str) -> str:
    """`letters` with those of `result` called as in `renamed`."""
    return letters.translate(str.maketrans(result, renamed))


def _order(letters: str, result: str) -> list[int]:
    return [result.index(letter) for letter in letters]


def _is_half(graph: Graph, name: str, x: str, which: int) -> bool:
    """Whether `name` is the first (0) or second (1) half of the last dimension of `x`."""
    op = graph.producers.get(name)
    shape = graph.types[x].shape
    size = shape[-1]
    if op is None or op.kind != "slice" or op.operands != (x,) or not isinstance(size, int):
        return False
    (own,), result = letters_of(op)
    bounds = (own, op.text("along"), op.dim("start"), op.dim("stop"))
    half = size // 2
    return size % 2 == 0 and bounds == (result, own[-1], which * half, (which + 1) * half)


@dataclass
class _Views:
    """Adds rotary operators between views of pairs; a value is viewed once however often read."""

    graph: Graph
    ops: list[Op] = field(default_factory=list[Op])
    made: dict[tuple[str, tuple[Dim, ...]], str] = field(
        default_factory=dict[tuple[str, tuple[Dim, ...]], str]
    )

    def add_rotary(self, found: Rotary) -> None:
        """Add the operator for a pattern, whose root's result is a view of it."""
        root, pair = found.root, _unused(found.result + "".join(found.letters))
        named = [own[:-1] + pair + own[-1] for own in (*found.letters, found.result)]
        paired = TensorType(root.type.dtype, _in_pairs(root.type.shape))
        result = f"{root.result}.pairs"
        attributes = {"indices": f"{','.join(named[:3])}->{named[3]}", "pair": pair}
        operands = tuple(self._paired(name, root.path) for name in found.operands)
        self.ops.append(Op("rotary", operands, (result,), (paired,), attributes, root.path))
        self.ops.append(Op("reshape", (result,), root.results, root.types, {}, root.path))

    def _paired(self, name: str, path: str) -> str:
        """The name of a value with its last dimension in two halves."""
        type_ = self.graph.types[name]
        shape = _in_pairs(type_.shape)
        if (name, shape) not in self.made:
            source = self.graph.producers.get(name)
            operand = source.operands[0] if source and source.kind == "reshape" else name
            result = f"{name}.pairs"
            types = (TensorType(type_.dtype, shape),)
            self.ops.append(Op("reshape", (operand,), (result,), types, {}, path))
            self.made[name, shape] = result
        return self.made[name, shape]


def _in_pairs(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    width = shape[-1]
    assert isinstance(width, int)
    return (*shape[:-1], 2, width // 2)


def _unused(letters: str) -> str:
    """A letter for pairs that is none of `letters`, p if it is free."""
    return next(letter for letter in "p" + ascii_lowercase if letter not in letters)


# Chains of elementwise operators


def with_chains_folded(graph: Graph) -> Graph:
    """Every elementwise operator with the ones folded in that only it reads."""
    uses = Counter(name for op in graph.ops for name in op.operands)
    uses.update(graph.output_names)
    latest: dict[str, Op] = {}
    for op in graph.ops:
        folded = op
        while op.kind == "elementwise":
            at = _foldable(graph, folded, latest, uses)
            if at is None:
                break
            folded = _folded(folded, at, latest[folded.operands[at]])
        latest[op.result] = folded
    return graph.with_ops([latest[op.result] for op in graph.ops])


def _foldable(graph: Graph, op: Op, latest: dict[str, Op], uses: Counter[str]) -> int | None:
    """The first operand of `op` that can be computed inside it, without working twice."""
    letters, result = letters_of(op)
    for at, (name, own) in enumerate(zip(op.operands, letters, strict=True)):
        inner = latest.get(name)
        if inner is None or inner.kind != "elementwise" or uses[name] != 1:
            continue
        spread = inner.text("expr") == "a"
        same_dtype = spread or all(graph.types[n].dtype == inner.type.dtype for n in inner.operands)
        merged = len(op.operands) - 1 + len(inner.operands)
        if same_dtype and sorted(own) == sorted(result) and merged <= len(LETTERS):
            return at
    return None


def _folded(op: Op, at: int, inner: Op) -> Op:
    """`op` with the operator behind its operand number `at` computed inside."""
    letters, result = letters_of(op)
    inner_letters, inner_result = letters_of(inner)
    renamed = _renamed(inner_letters, inner_result, letters[at], "".join(letters) + result)
    outer = [*zip(op.operands, letters, strict=True)]
    operands: dict[tuple[str, str], str] = {}
    for operand in (*outer[:at], *zip(inner.operands, renamed, strict=True), *outer[at + 1 :]):
        operands.setdefault(operand, LETTERS[len(operands)])
    inside = _substituted(
        inner.text("expr"), [*zip(inner.operands, renamed, strict=True)], operands
    )
    replacements = {
        LETTERS[place]: inside if place == at else operands[operand]
        for place, operand in enumerate(outer)
    }
    attributes = {
        **op.attributes,
        "indices": f"{','.join(own for _, own in operands)}->{result}",
        "expr": substitute(op.text("expr"), replacements),
    }
    return replace(op, operands=tuple(name for name, _ in operands), attributes=attributes)


def _substituted(
    expr: str, own: Sequence[tuple[str, str]], operands: dict[tuple[str, str], str]
) -> str:
    return substitute(expr, {LETTERS[at]: operands[operand] for at, operand in enumerate(own)})


def _renamed(operands: Sequence[str], result: str, target: str, taken: str) -> tuple[str, ...]:
    """Letters of an operator's operands with those of its result called as in `target`, and those
    that the result lacks (of size one) called as nothing in `taken`."""
    spare = iter(letter for letter in reversed(ascii_lowercase) if letter not in taken)
    names = dict(zip(result, target, strict=True))
    return tuple(
        "".join(names.get(a) or names.setdefault(a, next(spare)) for a in own) for own in operands
    )
