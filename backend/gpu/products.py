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


def product(
    device: Device, dtype: str, m: Number, n: Number, k: Number, batch: Number = 1.0
) -> Kernels:
    """`batch` products of m x k and k x n, each figure a number or an array."""
    launch, busy = _best(device, dtype, m, n, k, batch)
    size = DTYPE_BYTES[dtype]
    count = batch * m * n * k
    return Kernels(
        launch,
        CoreWork(
            cycles=busy,
            multiply_adds=count,
            memory_bytes=size * batch * (m * k + k * n + m * n),
        ),
    )


def _best(
    device: Device, dtype: str, m: Number, n: Number, k: Number, batch: Number
) -> tuple[Number, Number]:
    """Cycles of launches and of work with the fastest tile and cut."""
    launch: Number = np.asarray(0.0)
    busy: Number = np.asarray(np.inf)
    for tile in TILES:
        for parts in PARTS:
            kernels = 1.0 if parts == 1 else 2.0
            started = kernels * device.launch_cycles
            works = _tiled(device, dtype, m, n, k, batch, tile, parts)
            faster = started + works < launch + busy
            launch = np.where(faster, started, launch)
            busy = np.where(faster, works, busy)
    return launch, busy


def _tiled(
    device: Device,
    dtype: str,
    m: Number,
    n: Number,
    k: Number,
    batch: Number,
    tile: Tile,
    parts: int,
) -> Number:
    """Cycles of a product in equal tiles: the busiest multiprocessor's, or memory's."""
    size = DTYPE_BYTES[dtype]
    high, wide = tile
    blocks = ceil_div(m, high) * ceil_div(n, wide) * parts * batch
    depth = ceil_div(k / parts, DEPTH) * DEPTH
    loads = (high + wide) * size / device.parts.load_bytes_per_cycle
    computes = high * wide / device.multiply_adds(dtype)
    waves = ceil_div(blocks, device.count)
    written = (size if parts == 1 else PARTIAL_BYTES) * batch * m * n * parts
    streams = device.memory_cycles(_memory_bytes(device, size, m, n, k, batch, tile))
    inner = np.maximum(waves * depth * np.maximum(loads, computes), streams)
    if parts == 1:
        return waves * device.block_cycles + inner + device.memory_cycles(written)
    added = device.l2_cycles(written) + device.memory_cycles(size * batch * m * n)
    return waves * device.block_cycles + inner + device.l2_cycles(written) + added


def _memory_bytes(
    device: Device, size: float, m: Number, n: Number, k: Number, batch: Number, tile: Tile
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
