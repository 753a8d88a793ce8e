"""The core: cycles and traffic of one operator on the blocks that a core holds.

A core issues vector instructions. Each costs the software's issue overhead and then one cycle for
every group of elements that its lanes and its SRAM ports take together. A product of an m x k and
a k x n block is k m instructions of length n (or k n of length m, whichever is faster), each a
multiply-add of a scalar and a vector onto a vector in SRAM: two reads and one write an element.
Where the tiles of both operands travel, those of the left one are the vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..ir.expression import Work, work
from ..ir.graph import DTYPE_BITS, DTYPE_BYTES, Op
from ..ir.hardware import Core
from .extents import Number, ceil_div

ROTARY_WORK = Work(arithmetic=3, functions=0)
"""x cos + turned(x) sin: two products and a sum."""
COPY_WORK = Work(arithmetic=1, functions=0)


@dataclass(frozen=True)
class CoreWork:
    """What one operator makes of a core: busy cycles, and what energy is counted by."""

    cycles: Number = 0.0
    multiply_adds: Number = 0.0
    vector_operations: Number = 0.0
    sram_read_bytes: Number = 0.0
    sram_write_bytes: Number = 0.0
    memory_bytes: Number = 0.0
    """To and from the memories of the die."""


def compute_dtype(core: Core, dtype: str) -> str:
    """The dtype whose vector rates hold: integers and booleans go at the rate of float32, floats
    that a core does not have at that of the narrowest it has that holds them."""
    return _nearest(core.vector_elements_per_cycle, dtype)


def matrix_dtype(core: Core, dtype: str) -> str:
    """The dtype whose matrix rates hold."""
    return _nearest(core.matrix_flops_per_cycle, dtype)


def _nearest(rates: Mapping[str, float], dtype: str) -> str:
    if dtype in rates:
        return dtype
    bits = 32 if dtype == "bool" or "int" in dtype else DTYPE_BITS[dtype]
    wide = [name for name in rates if DTYPE_BITS[name] >= max(bits, 16)]
    if wide:
        return min(wide, key=lambda name: (DTYPE_BITS[name], name))
    return max(rates, key=lambda name: (DTYPE_BITS[name], name))


def _port_elements(core: Core, dtype: str) -> float:
    """Elements a cycle that the SRAM's ports allow with two reads and one write each."""
    bytes_ = DTYPE_BYTES[dtype]
    return min(core.sram.read_bytes_per_cycle / 2, core.sram.write_bytes_per_cycle) / bytes_


def matrix_elements_per_cycle(core: Core, dtype: str) -> float:
    """Multiply-adds a cycle of the axpy form, bound by the unit and by the SRAM's ports."""
    return min(core.matrix_flops_per_cycle[dtype] / 2, _port_elements(core, dtype))


def vector_elements_per_cycle(core: Core, dtype: str) -> float:
    """Results a cycle of a two-operand vector instruction, bound by lanes and ports."""
    rate = core.vector_elements_per_cycle[compute_dtype(core, dtype)]
    return min(rate, _port_elements(core, dtype))


def product_work(core: Core, dtype: str, m: Number, n: Number, k: Number) -> CoreWork:
    """An m x k by k x n product; a batch of products has its count in `k`."""
    rate = matrix_elements_per_cycle(core, dtype)
    issue = core.software.issue_cycles

    def along(length: Number, others: Number) -> Number:
        return k * others * (issue + ceil_div(length, rate))

    count = m * n * k
    bytes_ = DTYPE_BYTES[dtype]
    return CoreWork(
        cycles=np.minimum(along(n, m), along(m, n)),
        multiply_adds=count,
        sram_read_bytes=2 * bytes_ * count,
        sram_write_bytes=bytes_ * count,
    )


def tile_product_work(core: Core, dtype: str, m: Number, n: Number, k: Number) -> CoreWork:
    """The product of an m x k and a k x n tile, both of which travel from core to core.

    Vector lanes take one element of the right tile and the m rows of a column of the left one, as
    MeshGEMM's kernel does, which keeps its tiles by columns (arXiv 2502.04563). A matrix unit that
    is wider than the lanes takes tiles in either direction.
    """
    work, lanes = product_work(core, dtype, m, n, k), compute_dtype(core, dtype)
    if core.matrix_flops_per_cycle[dtype] / 2 > core.vector_elements_per_cycle[lanes]:
        return work
    taken = ceil_div(m, matrix_elements_per_cycle(core, dtype))
    return replace(work, cycles=k * n * (core.software.issue_cycles + taken))


def map_work(core: Core, dtype: str, elements: Number, each: Work) -> CoreWork:
    """An elementwise expression: one instruction a node. A scalar function is a chain of steps,
    taken either for one element after the other or, an instruction a step, for all of them."""
    rate = vector_elements_per_cycle(core, dtype)
    issue = core.software.issue_cycles
    vectors = each.arithmetic * (issue + ceil_div(elements, rate))
    stepwise = core.function_cycles * (issue + ceil_div(elements, rate))
    functions = each.functions * np.minimum(issue + elements * core.function_cycles, stepwise)
    operations = each.arithmetic + each.functions * core.function_cycles
    bytes_ = DTYPE_BYTES[dtype] * elements * (each.arithmetic + each.functions)
    return CoreWork(
        cycles=(vectors + functions) * (np.asarray(elements) > 0),
        vector_operations=elements * operations,
        sram_read_bytes=2 * bytes_,
        sram_write_bytes=bytes_,
    )


def expression_work(op: Op) -> Work:
    """Operations for one element that an elementwise operator or reduction touches."""
    match op.kind:
        case "rotary":
            return ROTARY_WORK
        case "reduce":
            inner = work(op.text("expr"))
            return Work(inner.arithmetic + 1, inner.functions)
        case "elementwise":
            inner = work(op.text("expr"))
            return inner if inner != Work(0, 0) else COPY_WORK
        case _:
            return COPY_WORK
