"""Attention in one kernel that never writes its scores (FlashAttention, arXiv 2205.14135).

Of many queries, a block of threads takes a tile of queries past the tiles of keys that they see;
products and softmax of a tile follow each other. Of one query a sequence (decode), a block takes
the query heads that share their keys and streams these; where there are few such blocks the keys
are cut into parts, and a second kernel merges them (Flash-Decoding). The kernels around them, which
add rotary embeddings and fill the cache, belong to both, as in NVIDIA's TensorRT-LLM.
"""

from dataclasses import dataclass

import numpy as np

from ...ir.graph import DTYPE_BYTES
from ..core import CoreWork
from ..extents import Number, ceil_div
from .device import Device, Kernels

QUERIES, KEYS = 64, 32
"""Of a tile of prefill."""
SOFTMAX_OPERATIONS = 6
"""Of a score, in float32: scale and subtract, compare and choose for the mask, maximum, sum,
convert. Beside them an exponential, and the sums so far are scaled anew once a tile."""
PREFILL_KERNELS = 4
"""Attention and what comes before it: bookkeeping of sequences, rotary embedding, the cache. As
those of decode and merging, a number that the shortest measured runs tell."""
DECODE_KERNELS = 2
MERGE_KERNELS = 2
PARTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128)
"""Into how many parts keys may be cut."""
SHORTEST_PART = 64
"""Keys of a part at least."""
ROWS = 16
"""Query heads that a matrix instruction takes."""
MOST_GROUPED = 32
"""Query heads for one head of keys that the kernel for groups takes; beyond, every query head is
on its own, as without groups."""
UNGROUPED_RESIDENT = 4
"""Blocks of one query head that a multiprocessor holds at once."""


@dataclass(frozen=True)
class Shape:
    """Sizes of attention: numbers, or arrays over many cases."""

    batch: Number
    heads: Number
    groups: Number
    """Heads of keys and values."""
    queries: Number
    keys: Number
    """Those of the queries' own tokens counted."""
    width: Number
    value_width: Number
    causal: bool = True
    window: Number | None = None

    @property
    def own(self) -> Number:
        """Queries of all heads of the batch."""
        return self.batch * self.heads * self.queries

    @property
    def seen(self) -> Number:
        """Keys that the last query sees."""
        return self.keys if self.window is None else np.minimum(self.keys, self.window)

    def pairs(self) -> Number:
        """Queries times keys that they see, of one head."""
        if not self.causal:
            return self.queries * self.seen
        before = self.keys - self.queries
        rising = np.clip(self.seen - before, 0.0, self.queries)
        rest = self.queries - rising
        return rising * before + rising * (rising + 1) / 2 + rest * self.seen


def attention(device: Device, dtype: str, shape: Shape) -> Kernels:
    """Attention of a batch of sequences; for one query each, the kernel of decode."""
    one = np.asarray(shape.queries) == 1
    if one.all():
        return _decode(device, dtype, shape)
    if not one.any():
        return _prefill(device, dtype, shape)
    return _either(one, _decode(device, dtype, shape), _prefill(device, dtype, shape))


def _prefill(device: Device, dtype: str, shape: Shape) -> Kernels:
    """The kernel before reads queries, keys and values and writes them; then comes attention."""
    size = DTYPE_BYTES[dtype]
    own = size * shape.own * shape.width
    new = size * shape.batch * shape.groups * shape.queries * (shape.width + shape.value_width)
    keys = size * shape.batch * shape.groups * shape.keys * (shape.width + shape.value_width)
    result = size * shape.own * shape.value_width
    rows = ceil_div(shape.queries, QUERIES)
    blocks = rows * shape.batch * shape.heads
    visited, longest = _tiles(shape, rows)
    each = ceil_div(blocks, device.count)
    tile = _tile_cycles(device, dtype, shape)
    computes = np.maximum(each * visited / rows, longest) * tile + each * device.block_cycles
    streams = device.memory_cycles(own + keys + result)
    before = device.memory_cycles(2 * (own + new))
    pairs = shape.pairs() * shape.batch * shape.heads
    work = CoreWork(
        cycles=before + np.maximum(computes, streams),
        multiply_adds=pairs * (shape.width + shape.value_width),
        vector_operations=pairs * _score_operations(shape),
        memory_bytes=2 * (own + new) + own + keys + result,
    )
    return Kernels(PREFILL_KERNELS, device.launch_cycles, work)


def _tiles(shape: Shape, rows: Number) -> tuple[Number, Number]:
    """Tiles of keys that all blocks of one head visit together, and the longest of them."""
    columns = ceil_div(shape.keys, KEYS)
    wide = QUERIES // KEYS
    most = columns
    if shape.window is not None:
        most = np.minimum(columns, ceil_div(shape.window, KEYS) + wide)
    if not shape.causal:
        return rows * most, most
    before = np.floor((shape.keys - shape.queries) / KEYS)
    rising = np.clip(np.floor((most - before) / wide), 0.0, rows)
    visited = rising * before + wide * rising * (rising + 1) / 2 + (rows - rising) * most
    return visited, most


def _tile_cycles(device: Device, dtype: str, shape: Shape) -> Number:
    """Products, then softmax, of a tile of scores on one multiprocessor."""
    products = (shape.width + shape.value_width) / device.multiply_adds(dtype)
    lanes = device.elements("float32")
    softmax = (_score_operations(shape) + device.core.function_cycles) / lanes
    return QUERIES * KEYS * (products + softmax)


def _score_operations(shape: Shape) -> Number:
    return SOFTMAX_OPERATIONS + shape.value_width / KEYS


def _decode(device: Device, dtype: str, shape: Shape) -> Kernels:
    """The fastest number of parts that the keys may be cut into."""
    size = DTYPE_BYTES[dtype]
    seen, both = shape.seen, shape.width + shape.value_width
    own = size * shape.batch * shape.heads * both
    cached = size * shape.batch * shape.groups * seen * both
    shared = shape.heads / np.asarray(shape.groups)
    grouped = (shared > 1) & (shared <= MOST_GROUPED)
    tiles = np.where(grouped, ceil_div(shared, ROWS), 1.0)
    resident = np.where(grouped, 1.0, UNGROUPED_RESIDENT)
    units = shape.batch * np.where(grouped, shape.groups, shape.heads)
    rate = device.parts.load_bytes_per_cycle / (tiles * resident)
    starts = device.block_cycles * (1 + tiles)
    most = ceil_div(device.count, units)
    launch = device.launch_cycles
    count: Number = np.asarray(1.0)
    busy: Number = np.asarray(np.inf)
    for parts in PARTS:
        allowed = (parts == 1) | ((seen >= parts * SHORTEST_PART) & (parts <= most))
        kernels = DECODE_KERNELS + MERGE_KERNELS * (parts > 1)
        block = starts + size * both * seen / parts / rate
        waves = ceil_div(units * parts, device.count * resident)
        streams = starts + device.memory_cycles(own + cached)
        works = np.maximum(waves * block, streams)
        if parts > 1:
            works = works + device.l2_cycles(2 * parts * 4 * shape.own * shape.value_width)
        faster = allowed & (kernels * launch + works < count * launch + busy)
        count, busy = np.where(faster, kernels, count), np.where(faster, works, busy)
    pairs = shape.batch * shape.heads * seen
    work = CoreWork(
        cycles=busy,
        multiply_adds=pairs * both,
        vector_operations=pairs * SOFTMAX_OPERATIONS,
        memory_bytes=own + cached,
    )
    return Kernels(count, launch, work)


def _either(first: np.ndarray, a: Kernels, b: Kernels) -> Kernels:
    def pick(of_a: Number, of_b: Number) -> Number:
        return np.where(first, of_a, of_b)

    work = CoreWork(
        cycles=pick(a.work.cycles, b.work.cycles),
        multiply_adds=pick(a.work.multiply_adds, b.work.multiply_adds),
        vector_operations=pick(a.work.vector_operations, b.work.vector_operations),
        memory_bytes=pick(a.work.memory_bytes, b.work.memory_bytes),
    )
    return Kernels(pick(a.count, b.count), a.launch, work)
