"""Products in a dtype that the hardware has no rate for are computed in that of their result."""

import dataclasses
import logging
from dataclasses import dataclass

from ..ir.graph import Graph, Model, Op
from .fuse import without_dead

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Widen:
    """Drop the quantization of activations that feeds products which run wider anyway.

    A valid model in, a valid model out. Decides, by the dtypes that the matrix unit has `rates`
    for, where a product is computed: weights keep the dtype that they are stored in, activations
    are no longer rounded to a narrower one and back. Results are closer to the unquantized model.
    """

    rates: frozenset[str]
    name: str = "widen"

    def run(self, model: Model) -> Model:
        """The model with every product in a dtype that the hardware has."""
        for dtype in sorted(self._missing(model)):
            logger.info("the hardware has no rate for %s: such products run wider", dtype)
        return model.map(self._widened)

    def _missing(self, model: Model) -> set[str]:
        ops = (op for graph in model.graphs.values() for op in graph.ops)
        return {str(op.attributes["compute"]) for op in ops if self._is_too_narrow(op)}

    def _is_too_narrow(self, op: Op) -> bool:
        stated = op.attributes.get("compute")
        return stated is not None and stated not in self.rates

    def _widened(self, graph: Graph) -> Graph:
        if not any(self._is_too_narrow(op) for op in graph.ops):
            return graph
        ops = [self._wide(graph, op) if self._is_too_narrow(op) else op for op in graph.ops]
        return without_dead(graph.with_ops(ops))

    @staticmethod
    def _wide(graph: Graph, op: Op) -> Op:
        operands = tuple(_unrounded(graph, name) for name in op.operands)
        attributes = {key: value for key, value in op.attributes.items() if key != "compute"}
        return dataclasses.replace(op, operands=operands, attributes=attributes)


def _unrounded(graph: Graph, name: str) -> str:
    """What a value was before it was quantized and dequantized; itself where it was not."""
    wide = graph.producers.get(name)
    narrow = graph.producers.get(wide.operands[0]) if wide and wide.kind == "dequantize" else None
    if narrow is None or narrow.kind != "quantize":
        return name
    before = narrow.operands[0]
    return before if graph.types[before] == graph.types[name] else name
