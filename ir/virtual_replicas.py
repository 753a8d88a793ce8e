"""What the virtual devices of a replica hold between operators, and what replicas do together.

Replicas that divide what they hold (ZeRO, arXiv 1910.02054) each keep one of as many equal parts
of every device's block, which is flattened and padded for that.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .blocks import Device, Devices, Shards
from .errors import VerificationError
from .graph import Role, TensorType
from .mapped import EXPERTS, Sharding

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Key:
    """A value that stays on the devices of a stage: its role, its source there, how it lies."""

    stage: int
    role: Role
    source: str
    type: TensorType
    sharding: Sharding

    @property
    def of_experts(self) -> bool:
        """Whether replicas divide it among them by expert."""
        return any(EXPERTS in axes for axes in self.sharding.axes)

    @property
    def divisible(self) -> bool:
        """Whether replicas can divide it among them: all hold a single number."""
        return bool(self.type.shape)

    def shapes(self, devices: Devices) -> dict[Device, list[int]]:
        """The shape of every device's block."""
        blocks = ((device, devices.block(device, self.type, self.sharding)) for device in devices)
        return {device: [len(places) for places in block] for device, block in blocks}


@dataclass
class Held:
    """What the devices of one replica hold: whole blocks, or this replica's parts of blocks.

    What lies off the wafer can be loaded, but not read.
    """

    blocks: dict[Key, Shards] = field(default_factory=dict[Key, Shards])
    parts: dict[Key, Shards] = field(default_factory=dict[Key, Shards])
    off_wafer: dict[Key, Shards] = field(default_factory=dict[Key, Shards])

    def read(self, key: Key, part: bool = False) -> Shards:
        """The blocks of a value, or the parts of them; raises VerificationError if not held."""
        found = (self.parts if part and key.divisible else self.blocks).get(key)
        if found is None:
            raise VerificationError(
                f"stage {key.stage} reads {key.role} {key.source}{key.sharding}, which its devices "
                "do not hold"
            )
        return found

    def write(self, key: Key, shards: Shards, part: bool = False) -> None:
        """Keep the blocks of a value, or the parts of them."""
        (self.parts if part and key.divisible else self.blocks)[key] = shards


def whole_of(parts: "Sequence[Tensor]", shape: Sequence[int]) -> "Tensor":
    """A block, from the parts of all replicas."""
    import torch

    count = 1
    for length in shape:
        count *= length
    return torch.cat([*parts])[:count].reshape([*shape])


@dataclass
class Replicas:
    """Collectives among the devices of all replicas that have the same place in their stage.

    Values are given and returned as a list with the blocks, or parts, of one replica after the
    other.
    """

    count: int
    ran: Counter[str] = field(default_factory=Counter[str])
    """Collectives so far, by kind."""

    def part(self, block: "Tensor", replica: int) -> "Tensor":
        """The part of a block that a replica keeps."""
        import torch

        flat = block.flatten()
        length = -(-flat.numel() // self.count)
        padded = torch.cat([flat, flat.new_zeros(length * self.count - flat.numel())])
        return padded.narrow(0, replica * length, length)

    def parts(self, shards: Shards, replica: int) -> Shards:
        """The parts of all devices' blocks that a replica keeps."""
        return {device: self.part(block, replica) for device, block in shards.items()}

    def average(self, values: list[Shards]) -> list[Shards]:
        """All replicas end with the mean of what each has (an all-reduce)."""
        self.ran["replicas.all_reduce"] += 1
        mean = _mean(values)
        return [dict(mean) for _ in values]

    def average_parts(self, values: list[Shards]) -> list[Shards]:
        """Each replica ends with its part of the mean (a reduce-scatter)."""
        self.ran["replicas.reduce_scatter"] += 1
        mean = _mean(values)
        return [self.parts(mean, replica) for replica in range(self.count)]

    def gather(self, parts: list[Shards], shapes: Mapping[Device, Sequence[int]]) -> list[Shards]:
        """All replicas end with whole blocks (an all-gather)."""
        self.ran["replicas.all_gather"] += 1
        whole = {d: whole_of([own[d] for own in parts], shape) for d, shape in shapes.items()}
        return [dict(whole) for _ in parts]


def _mean(values: list[Shards]) -> Shards:
    import torch

    return {device: torch.stack([own[device] for own in values]).mean(0) for device in values[0]}
