"""Which block of a value a device of a mesh holds; values cut into blocks and put together."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dims import size
from .graph import TensorType
from .program import Mesh, Sharding

if TYPE_CHECKING:
    from torch import Tensor

Device = tuple[int, ...]
"""Coordinates on the mesh's axes, in their order."""

Shards = dict[Device, "Tensor"]

Block = tuple[range, ...]
"""The elements of each dimension that a device holds."""


@dataclass(frozen=True)
class Devices:
    """The devices of a mesh and the blocks that they hold."""

    mesh: Mesh

    def __iter__(self) -> Iterator[Device]:
        return itertools.product(*(range(axis.size) for axis in self.mesh.axes))

    def index(self, device: Device, axes: Sequence[str]) -> int:
        """The place of a device along some axes, the first varying slowest."""
        at = dict(zip(self.mesh.sizes, device, strict=True))
        place = 0
        for name in axes:
            place = place * self.mesh.sizes[name] + at[name]
        return place

    def block(self, device: Device, type_: TensorType, sharding: Sharding) -> Block:
        """The block that a device holds; the last ones are short or empty."""
        ranges: list[range] = []
        for at, (dim, axes) in enumerate(zip(type_.shape, sharding.axes, strict=True)):
            length = -(-(size(dim) + sharding.room_in(at)) // self.mesh.extent(axes))
            first = self.index(device, axes) * length
            ranges.append(range(min(first, size(dim)), min(first + length, size(dim))))
        return tuple(ranges)

    def split(self, value: "Tensor", type_: TensorType, sharding: Sharding) -> Shards:
        """The blocks of a whole value."""
        shards: Shards = {}
        for device in self:
            part = value
            for at, block in enumerate(self.block(device, type_, sharding)):
                part = part.narrow(at, block.start, len(block))
            shards[device] = part
        return shards

    def join(self, shards: Shards, type_: TensorType, sharding: Sharding) -> "Tensor":
        """The whole value; every device's block is written, so replicas must agree."""
        import torch

        whole = torch.zeros([size(dim) for dim in type_.shape], dtype=getattr(torch, type_.dtype))
        for device in self:
            part = whole
            for at, block in enumerate(self.block(device, type_, sharding)):
                part = part.narrow(at, block.start, len(block))
            part.copy_(shards[device])
        return whole

    def groups(self, axes: Sequence[str]) -> list[list[Device]]:
        """Devices that differ only along `axes`, in order along them."""
        found: dict[Device, list[Device]] = {}
        for device in self:
            kept = tuple(
                0 if axis.name in axes else place
                for axis, place in zip(self.mesh.axes, device, strict=True)
            )
            found.setdefault(kept, []).append(device)
        return [sorted(group, key=lambda d: self.index(d, axes)) for group in found.values()]
