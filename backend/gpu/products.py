"""Products of matrices in tiles of the result, one block of threads a tile, in waves.

A multiprocessor works on a tile at the rate of its matrix unit or of what it loads from L2 for it,
whichever is slower; tiles that the device cannot hold at once wait for the next wave. A product of
few tiles is also cut along k, and a second kernel adds the parts. The library is taken to choose
the fastest of its tiles (NVIDIA, "Matrix Multiplication Background User's Guide", section 3.1).
"""

import numpy as np

from ...ir.graph import DTYPE_BYTES
from ..core import CoreWork
from ..extents import Number, ceil_div
from .device import Device, Kernels

DEPTH = 32
"""Elements of k that a block loads at once."""
PARTS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
"""Into how many parts k may be cut."""
PARTIAL_BYTES = 4
"""Of an element of a part's sums."""


Tile = tuple[int, int]
"""Rows and columns of the result that a block computes; its buffers fill a multiprocessor, which
works on one tile after the other."""

TILES: tuple[Tile, ...] = (
    (256, 128),
    (128, 256),
    (128, 128),
    (256, 64),
    (64, 256),
    (128, 64),
    (64, 128),
    (64, 64),
    (32, 128),
    (32, 64),
    (16, 128),
    (16, 64),
)
"""Those of the guide, and narrower ones for few rows."""

_CHOICES = tuple((high, wide, parts) for high, wide in TILES for parts in PARTS)


def product(
    device: Device, dtype: str, m: Number, n: Number, k: Number, batch: Number = 1.0
) -> Kernels:
    """`batch` products of m x k and k x n, each figure a number or an array."""
    count, busy = _best(device, dtype, m, n, k, batch)
    size = DTYPE_BYTES[dtype]
    return Kernels(
        count,
        device.launch_cycles,
        CoreWork(
            cycles=busy,
            multiply_adds=batch * m * n * k,
            memory_bytes=size * batch * (m * k + k * n + m * n),
        ),
    )


def _best(
    device: Device, dtype: str, m: Number, n: Number, k: Number, batch: Number
) -> tuple[Number, Number]:
    """Kernels, and their cycles of work, with the fastest tile and cut."""
    m, n, k, batch = np.broadcast_arrays(*map(np.asarray, (m, n, k, batch)))
    choices = (-1, *([1] * m.ndim))
    high, wide, parts = (np.reshape(each, choices) for each in zip(*_CHOICES, strict=True))
    count = np.where(parts == 1, 1.0, 2.0) * np.ones(m.shape)
    works = _tiled(device, dtype, m, n, k, batch, (high, wide), parts)
    best = np.argmin(count * device.launch_cycles + works, axis=0)[np.newaxis]
    picked = (np.take_along_axis(each, best, axis=0)[0] for each in (count, works))
    return next(picked), next(picked)


def _tiled(
    device: Device,
    dtype: str,
    m: Number,
    n: Number,
    k: Number,
    batch: Number,
    tile: tuple[Number, Number],
    parts: Number,
) -> np.ndarray:
    """Cycles of a product in equal tiles: the busiest multiprocessor's, or memory's."""
    size = DTYPE_BYTES[dtype]
    high, wide = tile
    blocks = ceil_div(m, high) * ceil_div(n, wide) * parts * batch
    depth = ceil_div(k / parts, DEPTH) * DEPTH
    loads = (high + wide) * size / device.parts.load_bytes_per_cycle
    computes = high * wide / device.multiply_adds(dtype)
    waves = ceil_div(blocks, device.count)
    streams = device.memory_cycles(_memory_bytes(device, size, m, n, k, batch, tile))
    inner = np.maximum(waves * depth * np.maximum(loads, computes), streams)
    result = device.memory_cycles(size * batch * m * n)
    sums = PARTIAL_BYTES * batch * m * n * parts
    added = np.where(parts == 1, 0.0, 2 * device.l2_cycles(sums))
    return waves * device.block_cycles + inner + result + added


def _memory_bytes(
    device: Device,
    size: float,
    m: Number,
    n: Number,
    k: Number,
    batch: Number,
    tile: tuple[Number, Number],
) -> Number:
    """Bytes of both operands read from memory: a wave of tiles is about square, and an operand
    that L2 does not hold is read again for every row (or column) of such squares."""
    side = np.sqrt(device.count)
    left, right = size * batch * m * k, size * batch * k * n
    again = ceil_div(ceil_div(m, tile[0]), side), ceil_div(ceil_div(n, tile[1]), side)
    held = device.l2_bytes / 2
    left_again = np.where(size * m * k <= held, 1.0, again[1])
    right_again = np.where(size * k * n <= held, 1.0, again[0])
    return np.minimum(left + right * right_again, left * left_again + right)
