"""Attention whose queries and keys are joined from two parts takes the parts as they are."""

from dataclasses import dataclass, replace

from ..ir.graph import Attribute, Graph, Op, TensorType
from ..ir.kinds import indices_of
from ..ir.operators.attention import EXTRAS, extras_of
from .fuse import without_dead


@dataclass(frozen=True)
class SplitScores:
    """Scores of joined widths become the sum of the scores of both, where all heads have the
    second part of the keys in common (positions in latent attention, arXiv 2405.04434).

    A valid graph in, a valid graph with the same values out (other roundings). Keys that all heads
    share are then not copied for each, and no join ties the order of one part's width to that of
    the other.
    """

    name: str = "split_scores"

    def run(self, graph: Graph) -> Graph:
        """The graph with every such attention split."""
        ops: list[Op] = []
        for op in graph.ops:
            ops.extend(_split(graph, op) if op.kind == "attention" else [op])
        return without_dead(graph.with_ops(ops))


def _split(graph: Graph, op: Op) -> list[Op]:
    """An attention over parts, behind what brings these into its order; it alone where its queries
    and keys are not joined so."""
    query, key, *others = op.operands
    asked, seen = _parts(graph, query), _parts(graph, key)
    if asked is None or seen is None or "more_query" in extras_of(op):
        return [op]
    common = _common(graph, *seen[1])
    sizes = [[type_.shape[-1] for _, type_ in _typed(graph, own)] for own in (asked, seen)]
    if common is None or sizes[0] != sizes[1]:
        return [op]
    views: list[Op] = []

    def ordered(at: int, name: str, letters: str) -> str:
        """A part as (batch, heads, tokens, width)."""
        order = tuple(letters.index(x) for x in _ORDER)
        if order == (0, 1, 2, 3):
            return name
        type_ = graph.types[name]
        turned = TensorType(type_.dtype, tuple(type_.shape[place] for place in order))
        result = f"{op.result}.part{at}"
        views.append(Op("transpose", (name,), (result,), (turned,), {"order": order}, op.path))
        return result

    parts = [ordered(at, *part) for at, part in enumerate((*asked, seen[0], common))]
    extras: dict[str, str] = dict(zip(extras_of(op), others[1:], strict=True))
    extras |= {"more_query": parts[1], "more_key": parts[3]}
    names = tuple(name for name in EXTRAS if name in extras)
    attributes: dict[str, Attribute] = {**op.attributes, "extras": names}
    operands = (parts[0], parts[2], others[0], *(extras[name] for name in names))
    return [*views, replace(op, operands=operands, attributes=attributes)]


_ORDER = "bhsd"
"""Letters of queries or keys: batch, heads, tokens, width."""

_Part = tuple[str, str]
"""The name of a value, and which letter of `_ORDER` each of its dimensions is."""


def _parts(graph: Graph, name: str) -> tuple[_Part, _Part] | None:
    """The two values that queries or keys are joined from along their width, if they are."""
    op = graph.producers.get(name)
    if op is None or op.kind != "concat" or len(op.operands) != 2:
        return None
    indices = indices_of(op)
    if op.text("along") != indices.result[-1]:
        return None
    named = str.maketrans(indices.result, _ORDER)
    first, second = (letters.translate(named) for letters in indices.operands)
    return (op.operands[0], first), (op.operands[1], second)


def _common(graph: Graph, name: str, letters: str) -> _Part | None:
    """What a part of the keys is a copy of for every head, if it is."""
    op = graph.producers.get(name)
    if op is None or op.kind != "elementwise" or op.text("expr") != "a" or not op.operands:
        return None
    indices = indices_of(op)
    (own,) = indices.operands
    made = dict(zip(indices.result, letters, strict=True))
    named = "".join(made.get(x, "h") for x in own)
    at = [place for place, x in enumerate(own) if x not in made]
    alone = [graph.types[op.operands[0]].shape[place] for place in at] == [1]
    return (op.operands[0], named) if alone and sorted(named) == sorted(_ORDER) else None


def _typed(graph: Graph, parts: tuple[_Part, _Part]) -> list[tuple[str, TensorType]]:
    """Both parts with their types; width last."""
    found: list[tuple[str, TensorType]] = []
    for name, letters in parts:
        type_ = graph.types[name]
        shape = tuple(type_.shape[letters.index(x)] for x in _ORDER)
        found.append((name, TensorType(type_.dtype, shape)))
    return found
