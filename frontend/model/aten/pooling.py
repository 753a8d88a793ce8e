"""Blocks of neighbouring elements: their means, and the blocks themselves."""

from collections.abc import Sequence
from typing import Any

from ....ir.graph import TensorType
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError, fixed
from .reductions import averaged
from .shapes import reordered


def _sizes(given: Any, rank: int) -> list[int]:
    sizes = [given] * rank if isinstance(given, int) else list(given)
    return sizes * rank if len(sizes) == 1 else sizes


def _blocks(call: Call, x: Shown, block: Sequence[int], others: Sequence[Any]) -> Shown:
    """The last dimensions of a tensor as (blocks, block) each; they must not overlap.

    What is left over at an end is in no block.
    """
    stride, padding, dilation = others
    rank = len(block)
    steps = _sizes(stride, rank) if stride else list(block)
    spread = any(_sizes(padding, rank)) or any(step != 1 for step in _sizes(dilation, rank))
    if steps != list(block) or spread:
        raise UnsupportedError("blocks that overlap, or reach beyond the ends")
    sizes = [fixed(size, "blocks of") for size in x.type.shape[-rank:]]
    if any(size % step for size, step in zip(sizes, block, strict=True)):
        raise UnsupportedError("blocks that do not fill a dimension")
    pairs = (part for size, step in zip(sizes, block, strict=True) for part in (size // step, step))
    shape = (*x.type.shape[:-rank], *pairs)
    view = call.graph.reshape(x.view, x.type.shape, shape)
    return Shown(view, TensorType(x.type.dtype, shape))


def _average(rank: int) -> Rule:
    def rule(call: Call) -> View:
        x = call.tensor(0)
        block = _sizes(call.arguments[1], rank)
        if call.get(4, "ceil_mode", False) or call.get(6, "divisor", None):
            raise UnsupportedError("means of blocks by another number than their elements")
        found = _blocks(call, x, block, (call.get(2, "stride"), call.get(3, "padding", 0), 1))
        whole = len(found.type.shape)
        over = {whole - 1 - 2 * at for at in range(rank)}
        return averaged(call, found, over, 0).view

    return rule


def _unfolded(call: Call) -> View:
    """`im2col`: every block of (batch, channels, height, width) as a column."""
    x = call.tensor(0)
    block, dilation, padding, stride = call.arguments[1:5]
    found = _blocks(call, x, _sizes(block, 2), (stride, padding, dilation))
    if len(found.type.shape) != 6:
        raise UnsupportedError("blocks of an image without a batch")
    order = (0, 1, 3, 5, 2, 4)
    shape = tuple(found.type.shape[at] for at in order)
    return call.graph.reshape(reordered(found, order), shape, call.type.shape)


RULES: dict[str, Rule] = {
    "avg_pool1d.default": _average(1),
    "avg_pool2d.default": _average(2),
    "im2col.default": _unfolded,
}
