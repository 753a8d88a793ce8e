"""A training step on virtual devices: replicas, micro-batches, and what replicas divide.

Every replica runs all micro-batches of its own forward and backward; gradients are summed on the
devices, averaged over replicas, and the optimizer runs once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from .blocks import Devices, Shards
from .errors import VerificationError
from .graph import Role
from .program import Program, Visit
from .virtual_passage import Passage, keys_read, loaded
from .virtual_replicas import Held, Key, Replicas, whole_of

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """What a training step leaves."""

    outputs: "Mapping[str, Tensor]"
    """`<weight>.gradient`, the mean over all micro-batches (of layers alone the sum), and what
    weights and optimizer states become, by their sources."""
    microbatches: "Sequence[Mapping[str, Tensor]]"
    """What each micro-batch yields by itself (`loss`), those of the first replica first."""
    held: Sequence[Held]
    """What each replica holds at the end."""


def run_training(
    program: Program, states: Sequence["State"], replicas: Replicas | None = None
) -> Trained:
    """A training step on one state for every micro-batch, those of the first replica first.

    `mapping.zero` says what replicas divide: with 1 each updates its part of the weights, from
    its part of the optimizer's states, and all gather the weights; with 2 each keeps its part of
    the gradients alone, which are reduced and scattered in every micro-batch; with 3 also of the
    weights, which are gathered for every visit and dropped behind it. With `mapping.streaming`
    weights are loaded for every visit and dropped behind it.

    Raises VerificationError where a device reads what it does not hold, or where devices that
    hold the same disagree.
    """
    count = program.mapping.dp
    if len(states) != count * program.microbatches:
        raise VerificationError(
            f"{len(states)} states for {count} replicas of {program.microbatches} micro-batches"
        )
    own = [states[at :: program.microbatches] for at in range(program.microbatches)]
    step = _Step(program, replicas or Replicas(count), [Held() for _ in range(count)])
    step.load(own[0])
    yielded = [step.microbatch(each) for each in own]
    step.average()
    step.update(own[0])
    by_replica = [outputs[at] for at in range(count) for outputs in yielded]
    return Trained(step.outputs(), by_replica, step.held)


@dataclass
class _Step:
    """A training step under way."""

    program: Program
    replicas: Replicas
    held: list[Held]
    gradients: dict[Key, None] = field(default_factory=dict[Key, None])
    updated: dict[Key, None] = field(default_factory=dict[Key, None])

    @cached_property
    def devices(self) -> Devices:
        return Devices(self.program.mesh)

    def divides(self, role: Role) -> bool:
        """Whether each replica keeps its part alone of weights, gradients or states."""
        least = {"state": 1, "gradient": 2, "weight": 3}[role]
        return self.replicas.count > 1 and self.program.mapping.zero >= least

    def load(self, states: "Sequence[State]") -> None:
        """Put weights and optimizer states where each replica keeps them."""
        for at, (held, state) in enumerate(zip(self.held, states, strict=True)):
            for key, shards in loaded(self.program, state).items():
                if self.divides(key.role) and key.divisible:
                    held.parts[key] = self.replicas.parts(shards, at)
                elif self.program.mapping.streaming and key.role == "weight":
                    held.off_wafer[key] = shards
                else:
                    held.blocks[key] = shards

    def microbatch(self, states: "Sequence[State]") -> "list[Mapping[str, Tensor]]":
        """One micro-batch of every replica, forward and backward: what it yields; its gradients
        are kept."""
        passages = [
            Passage(self.program, state, held)
            for state, held in zip(states, self.held, strict=True)
        ]
        for visit in self.program.visits:
            if visit.way != "update":
                self._fetch(visit)
                for passage in passages:
                    passage.visit(visit)
                self._drop(self._weights(visit))
                self._keep_gradients(passages)
        return [passage.outputs for passage in passages]

    # Weights that come for a visit

    def _weights(self, visit: Visit) -> list[Key]:
        keys = keys_read(self.program, visit)
        return [*dict.fromkeys(key for key in keys if key.role == "weight")]

    def _fetch(self, visit: Visit) -> None:
        """Bring what a visit reads of weights that are divided or off the wafer."""
        for key in self._weights(visit):
            if self.divides("weight") and key.divisible:
                self._gather(key)
            else:
                for held in self.held:
                    if key in held.off_wafer:
                        held.blocks[key] = held.off_wafer.pop(key)

    def _gather(self, key: Key) -> None:
        parts = [held.parts[key] for held in self.held]
        whole = self.replicas.gather(parts, key.shapes(self.devices))
        for held, shards in zip(self.held, whole, strict=True):
            held.blocks[key] = shards

    def _drop(self, weights: Sequence[Key]) -> None:
        """Let go of weights that were fetched; those from off the wafer are written back."""
        for key in weights:
            for held in self.held:
                if self.divides("weight") and key.divisible:
                    held.blocks.pop(key, None)
                elif self.program.mapping.streaming:
                    held.off_wafer[key] = held.blocks.pop(key)

    # Gradients

    @property
    def _weight(self) -> float:
        """Of a micro-batch in the mean over those of a replica. Gradients that come from outside
        are those of the whole step, so that theirs are summed over all."""
        program = self.program
        return program.mapping.dp if program.given else 1 / program.microbatches

    def _keep_gradients(self, passages: Sequence[Passage]) -> None:
        """Add the gradients of the last visit to those of the micro-batches before."""
        for key in passages[0].gradients:
            made = [_scaled(own.gradients[key], self._weight) for own in passages]
            parts = self.divides("gradient") and key.divisible
            if parts:
                made = self.replicas.average_parts(made)
            for held, shards in zip(self.held, made, strict=True):
                before = (held.parts if parts else held.blocks).get(key)
                held.write(key, shards if before is None else _sum(before, shards), parts)
            self.gradients[key] = None
        for passage in passages:
            passage.gradients.clear()

    def average(self) -> None:
        """Give every replica the mean of the gradients of all, unless that is done already."""
        for key in self.gradients:
            if self.replicas.count > 1 and key in self.held[0].blocks:
                means = self.replicas.average([held.blocks[key] for held in self.held])
                for held, shards in zip(self.held, means, strict=True):
                    held.blocks[key] = shards

    # The optimizer

    def update(self, states: "Sequence[State]") -> None:
        """Run the optimizer: each replica on all that it holds, or on its part."""
        parts = self.divides("state")
        passages = [
            Passage(self.program, state, held, parts)
            for state, held in zip(states, self.held, strict=True)
        ]
        for visit in self.program.visits:
            if visit.way == "update":
                if not self.divides("weight"):
                    self._fetch(visit)
                cut = self._cut(visit) if parts else []
                for passage in passages:
                    passage.visit(visit)
                new = [key for key in passages[0].updated if key.role == "weight"]
                self._complete(cut, new)
                self._drop([*dict.fromkeys([*self._weights(visit), *new])])
                self.updated |= passages[0].updated
                for passage in passages:
                    passage.updated.clear()

    def _cut(self, visit: Visit) -> list[Key]:
        """Divide what a visit reads and each replica holds whole; what that was."""
        read = dict.fromkeys(keys_read(self.program, visit))
        cut = [key for key in read if key.divisible and key not in self.held[0].parts]
        for key in cut:
            for at, held in enumerate(self.held):
                held.parts[key] = self.replicas.parts(held.blocks[key], at)
        return cut

    def _complete(self, cut: Sequence[Key], new: Sequence[Key]) -> None:
        """Every replica gathers the new weights of which it keeps more than its part."""
        whole = [] if self.divides("weight") else [k for k in new if k in self.held[0].parts]
        for key in whole:
            self._gather(key)
        for key in (*cut, *whole):
            for held in self.held:
                held.parts.pop(key, None)

    # What is left

    def outputs(self) -> dict[str, "Tensor"]:
        """Gradients, weights and states by name, put together from all devices and replicas."""
        found = {f"{key.source}.gradient": self._whole(key) for key in self.gradients}
        return found | {key.source: self._whole(key) for key in self.updated}

    def _whole(self, key: Key) -> "Tensor":
        import torch

        if key in self.held[0].parts and key not in self.held[0].blocks:
            parts = [held.parts[key] for held in self.held]
            shapes = key.shapes(self.devices)
            blocks = {d: whole_of([own[d] for own in parts], s) for d, s in shapes.items()}
            return self.devices.join(blocks, key.type, key.sharding)
        places = [held.blocks if key in held.blocks else held.off_wafer for held in self.held]
        first, *others = (self.devices.join(place[key], key.type, key.sharding) for place in places)
        if not all(torch.equal(first, other) for other in others):
            raise VerificationError(f"replicas hold different values of {key.role} {key.source}")
        return first


def _scaled(shards: Shards, factor: float) -> Shards:
    return {device: block * factor for device, block in shards.items()}


def _sum(left: Shards, right: Shards) -> Shards:
    return {device: block + right[device] for device, block in left.items()}
