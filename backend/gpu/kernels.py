"""The kernels that a GPU runs for every operator of a mapped graph.

Products and attention have kernels of their own; maps are fused (fusion.py); any other operator is
one kernel that reads its operands from memory and writes its results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ...ir.graph import Op
from ...ir.kinds import indices_of, kind_of
from ..blocks import Blocks, axes_of
from ..core import CoreWork
from ..extents import Number, extent
from ..kernels import added
from .device import Device, Kernels
from .fusion import MAPS, Fused, kernels_of
from .operators import PRODUCTS, attention_kernels, is_scores, map_kernels, product_kernels
from .products import product

FREE = frozenset({"shard", "slice", "view"})
NONE = Kernels(0.0, 0.0, CoreWork())
"""Of views, and of what a kernel before does on the way."""


@dataclass(frozen=True)
class GraphKernels:
    """Kernels of a graph's operators; `rate` is the dtype that a product runs at, `work` what any
    other operator makes of the vector lanes, `of_experts` the sizes (m, n, k) of a product of one
    expert with its tokens, and of how many."""

    device: Device
    blocks: Blocks
    rate: Callable[[Op], str]
    work: Callable[[Op], CoreWork]
    of_experts: Callable[[Op], tuple[Number, Number, Number, Number]]

    def of(self, op: Op) -> tuple[Kernels, ...]:
        """Kernels that are launched for an operator, one after the other. What several compute
        together is all of the first one."""
        kernels = [self._own(op)]
        fused = self._fused.get(op.result)
        if fused is not None and self.device.core.software.dropout:
            kernels.extend(self._dropped(name) for name in fused.written if name in self._scores)
        kernels.extend(self._added_up(name) for name in op.results if name in self._gradients)
        return tuple(kernels)

    def _own(self, op: Op) -> Kernels:
        if op.kind in FREE or ("kernel" in op.attributes and not is_scores(op)):
            return NONE
        if op.kind in PRODUCTS:
            return self._product(op)
        if op.kind in ("chosen_matmul", "chosen_matmul_grad"):
            m, n, k, count = self.of_experts(op)
            return product(self.device, self.rate(op), m, n, k, count)
        if op.kind in MAPS:
            fused = self._fused.get(op.result)
            return NONE if fused is None else self._map(fused)
        if op.kind == "concat" and not self._caches.isdisjoint(op.operands):
            return NONE
        read = op.results if op.kind == "embedding" else op.operands
        return map_kernels(self.device, self.work(op), self._bytes((*read, *op.results)))

    @cached_property
    def _fused(self) -> dict[str, Fused]:
        graph = self.blocks.mapped.graph
        return dict(kernels_of(graph, [op.result for op in graph.ops if self._idle(op)]))

    def _idle(self, op: Op) -> bool:
        """Whether a collective, or a cut into parts, deals with one device only."""
        if op.kind == "shard":
            same = self.blocks.bytes(op.result) == self.blocks.bytes(op.operands[0])
        elif kind_of(op).collective and op.kind not in PRODUCTS:
            same = np.asarray(extent(axes_of(op), self.blocks.sizes)) == 1
        else:
            return False
        return bool(np.all(same))

    @cached_property
    def _caches(self) -> frozenset[str]:
        """Caches take up new tokens in the kernels of attention."""
        inputs = self.blocks.mapped.graph.inputs
        return frozenset(value.name for value in inputs if value.role == "cache")

    @cached_property
    def _gradients(self) -> frozenset[str]:
        outputs = self.blocks.mapped.graph.outputs
        return frozenset(output.name for output in outputs if output.role == "gradient")

    def _bytes(self, names: tuple[str, ...]) -> Number:
        return sum((self.blocks.bytes(name) for name in names), start=0.0)

    def _map(self, fused: Fused) -> Kernels:
        work = added(self.work(op) for op in fused.ops)
        return map_kernels(self.device, work, self._bytes((*fused.read, *fused.written)))

    @cached_property
    def _scores(self) -> frozenset[str]:
        """In training, values for each pair of a query and a key that it sees."""
        graph = self.blocks.mapped.graph
        trains = any(output.role in ("saved", "gradient") for output in graph.outputs)
        shapes = {op.type.shape for op in graph.ops if op.kind == "mask" and trains}
        return frozenset(name for name, type_ in graph.types.items() if type_.shape in shapes)

    def _dropped(self, name: str) -> Kernels:
        """Values are read, some are set to zero, and a byte each says whether."""
        elements = prod(self.blocks.shape(name), start=1.0)
        work = CoreWork(vector_operations=elements)
        return map_kernels(self.device, work, 2 * self.blocks.bytes(name) + elements)

    def _added_up(self, name: str) -> Kernels:
        """A gradient of a weight is added to the sum over micro-batches: both are read, and the
        sum is written."""
        work = CoreWork(vector_operations=prod(self.blocks.shape(name), start=1.0))
        return map_kernels(self.device, work, 3 * self.blocks.bytes(name))

    def _product(self, op: Op) -> Kernels:
        indices = indices_of(op)
        sizes = self.blocks.letters(op, indices)
        if "kernel" in op.attributes:
            return attention_kernels(self.device, op, sizes, self._value_width(op))
        return product_kernels(self.device, self.rate(op), indices, sizes)

    def _value_width(self, scores: Op) -> Number:
        """Of the attention that some scores belong to."""
        ops = self.blocks.mapped.graph.ops
        kernel = [op for op in ops if op.attributes.get("kernel") == scores.text("kernel")]
        mixed = next(op for op in kernel if op.kind in PRODUCTS and op is not scores)
        left, right = indices_of(mixed).operands
        sizes = self.blocks.letters(mixed, indices_of(mixed))
        return prod((sizes[x] for x in sorted(set(right) - set(left))), start=1.0)
