"""Equal operators become one, and maps that only one other reads become part of it."""

from dataclasses import dataclass, replace

from ..ir.graph import Graph, Op
from .fuse import with_chains_folded, without_dead


@dataclass(frozen=True)
class Share:
    """Compute what several operators compute alike only once, and maps in the maps they feed.

    A valid graph in, a valid graph with the same values out. Operators are alike whose kind,
    operands and attributes are; a value that a later graph computes once more stays there.
    """

    name: str = "share"

    def run(self, graph: Graph) -> Graph:
        """The graph in which no two operators are alike."""
        known: dict[tuple[object, ...], Op] = {}
        same: dict[str, str] = {}
        ops: list[Op] = []
        for op in graph.ops:
            op = replace(op, operands=tuple(same.get(name, name) for name in op.operands))
            key = (op.kind, op.operands, op.types, frozenset(op.attributes.items()))
            first = known.setdefault(key, op) if op.kind != "repeat" else op
            if first is op:
                ops.append(op)
            else:
                same |= zip(op.results, first.results, strict=True)
        outputs = tuple(replace(o, name=same.get(o.name, o.name)) for o in graph.outputs)
        return without_dead(with_chains_folded(replace(graph, ops=tuple(ops), outputs=outputs)))
