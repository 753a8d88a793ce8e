"""What an operator of a mapped graph takes on a GPU, from the sizes of its letters."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from ...ir.graph import Op
from ...ir.kinds import Indices, indices_of
from ..core import CoreWork
from ..extents import Number
from .attention import Shape, attention
from .device import Device, Kernels
from .products import product

PRODUCTS = frozenset({"matmul", "grid_matmul"})


def product_kernels(
    device: Device, dtype: str, indices: Indices, sizes: Mapping[str, Number]
) -> Kernels:
    """A product of two values; letters that both share with the result count its batch."""
    left, right = (set(letters) for letters in indices.operands)
    result = set(indices.result)

    def extent(letters: set[str]) -> Number:
        return prod((sizes[x] for x in sorted(letters)), start=1.0)

    return product(
        device,
        dtype,
        m=extent(left & result - right),
        n=extent(right & result - left),
        k=extent((left | right) - result),
        batch=extent(left & right & result),
    )


def is_scores(op: Op) -> bool:
    """Whether a product of queries and keys stands for the attention that it belongs to."""
    return op.kind in PRODUCTS and "kernel" in op.attributes and "key" in op.attributes


def attention_kernels(
    device: Device, scores: Op, sizes: Mapping[str, Number], value_width: Number
) -> Kernels:
    """The attention that a product of queries and keys belongs to. Its heads and sequences that
    have keys of their own count as batch; those that share keys with them, as heads."""
    indices = indices_of(scores)
    one, other = (set(letters) for letters in indices.operands)
    keys, own = set(scores.text("key")), set(scores.text("query"))
    query, key = (other, one) if keys & one else (one, other)

    def extent(letters: set[str]) -> Number:
        return prod((sizes[x] for x in sorted(letters)), start=1.0)

    limits = [scores.integer(x) for x in ("window", "chunk") if scores.attributes.get(x)]
    shape = Shape(
        batch=extent(query & key & set(indices.result)),
        heads=extent(query - key - own),
        groups=1.0,
        queries=extent(own & query),
        keys=extent(key - query),
        width=extent((query & key) - set(indices.result)),
        value_width=value_width,
        causal=bool(scores.attributes.get("causal")),
        window=min(limits, default=None),
    )
    return attention(device, scores.type.dtype, shape)


def map_kernels(device: Device, work: CoreWork, bytes_: Number) -> Kernels:
    """One kernel that does some work on all lanes, or moves bytes, whichever takes longer."""
    busy = np.maximum(work.cycles, device.memory_cycles(bytes_)) + device.block_cycles
    return Kernels(1.0, device.launch_cycles, replace(work, cycles=busy, memory_bytes=bytes_))
