"""Products with weights that stream onto the wafer and are gone again: none of them lies in a core.

Tokens lie over the rows of a mesh and features over its columns. Every weight is broadcast down the
column whose cores hold its feature, where each starts an instruction on the vector of the core's
tokens; sums, or features of the other side, run along the rows ("Cerebras Architecture Deep Dive",
Hot Chips 34: AXPY with weights as they arrive). Gradients leave down the columns in the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..ir.dims import size
from ..ir.graph import DTYPE_BYTES, Graph, Op
from ..ir.hardware import Hardware
from ..ir.kinds import indices_of
from .core import CoreWork, matrix_elements_per_cycle
from .extents import Number, ceil_div

LAUNCHES = 2
"""The product, and what runs along the rows."""
INNER_PRODUCT_SHARE = 0.5
"""Of the rate of multiply-adds: gradients are inner products over tokens with sums of 32 bits, two
a cycle where vectors of 16 bits have four (Rocki et al., SC20, of WSE-1)."""


@dataclass(frozen=True)
class Flow:
    """What streams through a graph: weights as they are read, and gradients as they are made."""

    weights: frozenset[str]
    gradients: frozenset[str]

    @staticmethod
    def of(graph: Graph) -> "Flow":
        """Of a graph's weights and gradients, and of what these are converted from or to."""
        weights = {value.name for value in graph.inputs if value.role == "weight"}
        gradients = {output.name for output in graph.outputs if output.role == "gradient"}
        converted = [op for op in graph.ops if op.kind == "elementwise" and len(op.operands) == 1]
        weights |= {op.result for op in converted if op.operands[0] in weights}
        gradients |= {op.operands[0] for op in converted if op.result in gradients}
        return Flow(frozenset(weights), frozenset(gradients))

    def concerns(self, op: Op) -> bool:
        """Whether a product takes a weight or makes a gradient."""
        return op.result in self.gradients or not self.weights.isdisjoint(op.operands)


@dataclass(frozen=True)
class Features:
    """The sizes of a product of tokens with features on both sides of a weight: tokens of a core,
    and all features that the weight, or its gradient, has on either side."""

    tokens: Number
    first: int
    second: int

    @staticmethod
    def of(op: Op, graph: Graph, block: Mapping[str, Number], flow: Flow) -> "Features":
        """Of a product in a graph; `block` is the size of every letter on a core."""
        indices = indices_of(op)
        names = (*op.operands, op.result)
        whole = {
            x: size(dim)
            for letters, name in zip((*indices.operands, indices.result), names, strict=True)
            for x, dim in zip(letters, graph.types[name].shape, strict=True)
        }
        at = next((at for at, name in enumerate(op.operands) if name in flow.weights), None)
        weight = indices.result if at is None else indices.operands[at]
        other = indices.operands[0 if at is None else 1 - at]
        return Features(
            tokens=prod((block[x] for x in other if x not in weight), start=1.0),
            first=prod(whole[x] for x in weight if x in other),
            second=prod(whole[x] for x in weight if x not in other),
        )


@dataclass(frozen=True)
class Streamed:
    """A streamed product on one core, and the words over its links."""

    work: CoreWork
    row_words: Number
    column_words: Number
    filling_cycles: Number
    """Until the last core of the mesh has its first operands."""


def streamed_product(
    hardware: Hardware, dtype: str, sizes: Features, rows: Number, columns: Number, gradient: bool
) -> Streamed:
    """Features of one side stay in the columns; for each of the other side the tokens' sums, or
    the tokens themselves, pass along the rows. The faster of the two choices.

    A gradient needs one more pass, down the columns, which adds up what rows have of it.
    """
    core, width = hardware.core, hardware.core.router.width_bytes
    issue, rate = core.software.issue_cycles, matrix_elements_per_cycle(core, dtype)
    rate *= INNER_PRODUCT_SHARE if gradient else 1.0
    vector = ceil_div(sizes.tokens * DTYPE_BYTES[dtype], width)

    def cycles(staying: int, passing: int) -> Number:
        inner = ceil_div(staying, columns)
        each = inner * (issue + ceil_div(sizes.tokens, rate)) + issue + vector
        return passing * (each + (issue + inner) * gradient)

    first, second = cycles(sizes.first, sizes.second), cycles(sizes.second, sizes.first)
    swap = np.asarray(second) < first
    staying = np.where(swap, sizes.second, sizes.first)
    passing = np.where(swap, sizes.first, sizes.second)
    weights = ceil_div(staying, columns) * passing
    count, bytes_ = weights * sizes.tokens, DTYPE_BYTES[dtype]
    relay = 2 * core.router.ramp_cycles + 1 + core.router.hop_cycles
    work = CoreWork(
        cycles=np.minimum(first, second),
        multiply_adds=count,
        sram_read_bytes=2 * bytes_ * count,
        sram_write_bytes=bytes_ * count,
    )
    return Streamed(
        work, passing * vector, weights, relay * columns + rows * core.router.hop_cycles
    )
