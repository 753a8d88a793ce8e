"""Which block of a value a device of a mesh holds; values cut into blocks and put together."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dims import size
from .errors import VerificationError
from .graph import TensorType
from .mapped import Mesh, Sharding

if TYPE_CHECKING:
    from torch import Tensor

Device = tuple[int, ...]
"""Coordinates on the mesh's axes, in their order."""

Shards = dict[Device, "Tensor"]

Block = tuple[range, ...]
"""The elements of each dimension that a device holds."""


def narrowed(whole: "Tensor", block: Block) -> "Tensor":
    """The block of a whole value, as a view."""
    for at, places in enumerate(block):
        if len(places) != whole.shape[at]:
            whole = whole.narrow(at, places.start, len(places))
    return whole


@dataclass(frozen=True)
class Devices:
    """The devices of a mesh and the blocks that they hold."""

    mesh: Mesh
    home: int | None = None
    """The place of the replica that is meant among those that divide experts; None for all."""

    def __iter__(self) -> Iterator[Device]:
        alone = None if self.home is None else (self.home,)
        return itertools.product(
            *(
                alone if alone and axis.along == "replicas" else range(axis.size)
                for axis in self.mesh.axes
            )
        )

    @property
    def everywhere(self) -> "Devices":
        """The devices of all replicas that divide experts among them."""
        return Devices(self.mesh)

    def moved(self, shards: Shards, home: int | None) -> Shards:
        """The blocks of a replica as they lie, at the same places, on another one."""
        if home is None:
            return shards
        along = [axis.along for axis in self.mesh.axes].index("replicas")
        return {(*d[:along], home, *d[along + 1 :]): block for d, block in shards.items()}

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
        return {device: narrowed(value, self.block(device, type_, sharding)) for device in self}

    def join(self, shards: Shards, type_: TensorType, sharding: Sharding) -> "Tensor":
        """The whole value; raises VerificationError where devices that hold the same block
        disagree about it by more than rounding."""
        import torch

        whole = torch.zeros([size(dim) for dim in type_.shape], dtype=getattr(torch, type_.dtype))
        first: dict[Block, Tensor] = {}
        for device in self:
            block = self.block(device, type_, sharding)
            agreed = first.setdefault(block, shards[device])
            if not torch.allclose(agreed, shards[device], rtol=1e-3, atol=1e-5, equal_nan=True):
                raise VerificationError(f"devices hold different values of block {block}")
            narrowed(whole, block).copy_(shards[device])
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
