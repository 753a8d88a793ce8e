"""All-reduces that may go together go as one message."""

from dataclasses import dataclass

from ..ir.errors import VerificationError
from ..ir.graph import Op
from ..ir.mapped import MappedGraph


@dataclass(frozen=True)
class Combine:
    """Order a mapped graph so that all-reduces over the same axes meet, and merge them.

    A valid mapped graph in, a valid one with the same values out. Launching a collective costs
    more than the few words of a vector that it carries, so each is put off until nothing else
    can run; then all that wait and agree in axes and function become one.
    """

    name: str = "combine"

    def run(self, mapped: MappedGraph) -> MappedGraph:
        """The graph with fewer, wider all-reduces."""
        waiting = {op.result: op for op in mapped.graph.ops}
        ready = {value.name for value in mapped.graph.inputs}
        ops: list[Op] = []
        while waiting:
            able = [op for op in waiting.values() if ready.issuperset(op.operands)]
            local = [op for op in able if op.kind != "all_reduce"]
            chosen = local or _alike(able)
            if not chosen:
                raise VerificationError(f"%{next(iter(waiting))} depends on itself")
            ops.extend(local or [_merged(chosen)])
            for op in chosen:
                ready.update(op.results)
                del waiting[op.result]
        return MappedGraph(mapped.graph.with_ops(ops), mapped.shardings)


def _alike(able: list[Op]) -> list[Op]:
    """The first all-reduce that can run, and the others of its axes and function."""
    return [op for op in able if op.attributes == able[0].attributes]


def _merged(ops: list[Op]) -> Op:
    return Op(
        "all_reduce",
        tuple(name for op in ops for name in op.operands),
        tuple(name for op in ops for name in op.results),
        tuple(type_ for op in ops for type_ in op.types),
        ops[0].attributes,
        ops[0].path,
    )
