"""How many scales of a quantized value a core keeps: those of the blocks that its part meets."""

from collections.abc import Mapping
from functools import reduce
from math import prod

import numpy as np

from ..ir.dims import size
from ..ir.graph import DTYPE_BYTES
from ..ir.kinds import indices_of
from ..ir.mapped import MappedGraph
from ..ir.operators.quantized import Block, blocks_of
from .extents import Number, Sizes, block_bytes, block_shape, ceil_div


def scale_bytes(mapped: MappedGraph, name: str, sizes: Sizes) -> Number | None:
    """Bytes that a core keeps of an input that is nothing but scales of one quantized value; None
    for any other value."""
    readers = mapped.graph.consumers[name]
    if len(readers) != 1 or readers[0].kind != "dequantize" or readers[0].operands[0] == name:
        return None
    op, types, shardings = readers[0], mapped.graph.types, mapped.shardings
    blocks, (value, *_) = blocks_of(op), indices_of(op).operands
    if not blocks:
        return None
    shape = block_shape(types[op.operands[0]], shardings[op.operands[0]], sizes)
    wholes = (float(size(dim)) for dim in types[op.operands[0]].shape)
    parts = dict(zip(value, zip(shape, wholes, strict=True), strict=True))
    letters = indices_of(op).operands[op.operands.index(name)]
    counts = [
        _met(blocks[letter], parts, float(size(dim))) if letter in blocks else parts[letter][0]
        for letter, dim in zip(letters, types[name].shape, strict=True)
    ]
    kept = prod(counts, start=1.0) * DTYPE_BYTES[types[name].dtype]
    return np.minimum(kept, block_bytes(types[name], shardings[name], sizes))


def _met(block: Block, parts: Mapping[str, tuple[Number, float]], total: float) -> Number:
    """Blocks that a part of a value meets at most: for every place of the slower letters those of a
    stretch of the faster ones, of which only the first may be cut."""
    most: Number = total
    for at in range(len(block.group)):
        slower, faster = block.group[:at], block.group[at:]
        whole = (np.asarray(parts[x][0]) == parts[x][1] for x in faster[1:])
        stretch = prod((parts[x][0] for x in faster), start=1.0)
        row = prod((parts[x][1] for x in faster), start=1.0)
        in_step = not slower or row % block.size == 0
        each = _of_stretch(stretch, block.size, in_step)
        met = prod((parts[x][0] for x in slower), start=1.0) * each
        straight = reduce(np.logical_and, whole, np.asarray(True))
        most = np.where(straight, np.minimum(most, met), most)
    return most


def _of_stretch(elements: Number, block: int, in_step: bool) -> Number:
    """Blocks that a stretch of elements meets at most, where stretches of as many stand in a row:
    one more than it fills, unless rows begin with a block (`in_step`) and stretches do."""
    elements = np.asarray(elements)
    together = (np.mod(block, elements) == 0) | (np.mod(elements, block) == 0)
    return np.minimum(ceil_div(elements, block) + np.where(together & in_step, 0, 1), elements)
