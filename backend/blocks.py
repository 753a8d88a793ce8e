"""What the busiest device holds of the values of a mapped graph.

All figures follow the sizes of the mesh axes, which may be arrays (extents.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..ir.graph import Op
from ..ir.kinds import Indices
from ..ir.mapped import Direction, MappedGraph
from .extents import Number, Sizes, block_bytes, block_shape

MESH_AXES: dict[Direction, tuple[str, ...]] = {"rows": ("yh", "yd"), "columns": ("xh", "xd")}
"""Axes of the mesh along each direction, the first varying slowest."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a mapped graph's values on one mesh or many."""

    mapped: MappedGraph
    sizes: Sizes

    @cached_property
    def _known(self) -> dict[str, tuple[list[Number], Number]]:
        """Shapes and bytes that have been asked for, by value."""
        return {}

    def _of(self, name: str) -> tuple[list[Number], Number]:
        if name not in self._known:
            type_, sharding = self.mapped.graph.types[name], self.mapped.shardings[name]
            shape = block_shape(type_, sharding, self.sizes)
            self._known[name] = shape, block_bytes(type_, sharding, self.sizes)
        return self._known[name]

    def shape(self, name: str) -> list[Number]:
        """The dimensions of a value's block."""
        return self._of(name)[0]

    def bytes(self, name: str) -> Number:
        """Bytes of a value's block."""
        return self._of(name)[1]

    def letters(self, op: Op, indices: Indices) -> dict[str, Number]:
        """The size of every letter in a block; a letter of several values is as in the largest."""
        return self._largest(rows_of(op, indices))

    def tile_letters(self, op: Op, indices: Indices) -> dict[str, Number]:
        """The size of every letter in the tiles that a product takes, whatever it makes."""
        return self._largest(zip(indices.operands, op.operands, strict=True))

    def _largest(self, rows: Iterable[tuple[str, str]]) -> dict[str, Number]:
        sizes: dict[str, Number] = {}
        for letters, name in rows:
            for letter, dim in zip(letters, self.shape(name), strict=True):
                sizes[letter] = np.maximum(sizes.get(letter, 0.0), dim)
        return sizes


def rows_of(op: Op, indices: Indices) -> Iterator[tuple[str, str]]:
    """The letters of every operand and result, with the value's name."""
    letters = (*indices.operands, indices.result, *indices.others)
    return zip(letters, (*op.operands, *op.results), strict=True)


def axes_of(op: Op) -> tuple[str, ...]:
    """The mesh axes of a collective."""
    axes = op.attributes["axes"]
    assert isinstance(axes, tuple)
    return tuple(str(axis) for axis in axes)
