"""A training step on virtual devices: replicas, micro-batches, and what replicas divide.

Every replica runs all micro-batches of its own forward and backward; gradients are summed on the
devices, averaged over replicas, and the optimizer runs once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
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
    def ep(self) -> int:
        """Replicas that divide the experts among them; neighbours do."""
        return self.program.mapping.ep

    def home(self, replica: int) -> int | None:
        """The place of a replica among those that it divides experts with."""
        return replica % self.ep if self.ep > 1 else None

    def devices(self, replica: int) -> Devices:
        return Devices(self.program.mesh, self.home(replica))

    def divides(self, role: Role) -> bool:
        """Whether each replica keeps its part alone of weights, gradients or states."""
        least = {"state": 1, "gradient": 2, "weight": 3}[role]
        return self.replicas.count > 1 and self.program.mapping.zero >= least

    def _alike(self, key: Key) -> list[range]:
        """The replicas that hold the same of a value: all, or those with the same experts."""
        count = self.replicas.count
        if key.of_experts:
            return [range(first, count, self.ep) for first in range(self.ep)]
        return [range(count)]

    def _among(self, key: Key, values: Sequence[Shards], what: "_Collective") -> list[Shards]:
        """A collective of the replicas that hold the same of a value, at the same places."""
        found: list[Shards] = [{}] * len(values)
        for members in self._alike(key):
            some = replace(self.replicas, count=len(members))
            first = self.devices(members[0])
            given = [first.moved(values[at], self.home(members[0])) for at in members]
            for at, shards in zip(members, what(some, given, first), strict=True):
                found[at] = first.moved(shards, self.home(at))
        return found

    def _parts(self, key: Key, values: Sequence[Shards]) -> list[Shards]:
        """Each replica's part of its blocks."""

        def cut(replicas: Replicas, values: list[Shards], devices: Devices) -> list[Shards]:
            del devices
            return [replicas.parts(shards, at) for at, shards in enumerate(values)]

        return self._among(key, values, cut)

    def passages(self, states: "Sequence[State]", parts: bool = False) -> list[Passage]:
        """A micro-batch of every replica, or its optimizer, about to begin."""
        return [
            Passage(
                self.program,
                state,
                self.held[at],
                parts,
                self.home(at),
                self.held[at - at % self.ep :][: self.ep] if self.ep > 1 else (),
            )
            for at, state in enumerate(states)
        ]

    def load(self, states: "Sequence[State]") -> None:
        """Put weights and optimizer states where each replica keeps them."""
        whole = [loaded(self.program, state, self.home(at)) for at, state in enumerate(states)]
        for key in whole[0]:
            divided = self.divides(key.role) and key.divisible
            values = [blocks[key] for blocks in whole]
            for held, shards in zip(
                self.held, self._parts(key, values) if divided else values, strict=True
            ):
                if divided:
                    held.parts[key] = shards
                elif self.program.mapping.streaming and key.role == "weight":
                    held.off_wafer[key] = shards
                else:
                    held.blocks[key] = shards

    def microbatch(self, states: "Sequence[State]") -> "list[Mapping[str, Tensor]]":
        """One micro-batch of every replica, forward and backward: what it yields; its gradients
        are kept."""
        passages = self.passages(states)
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
        def gather(replicas: Replicas, parts: list[Shards], devices: Devices) -> list[Shards]:
            return replicas.gather(parts, key.shapes(devices))

        whole = self._among(key, [held.parts[key] for held in self.held], gather)
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
            if key.of_experts:
                made = self._at_experts(made)
            parts = self.divides("gradient") and key.divisible
            if parts:
                made = self._among(key, made, lambda some, own, _: some.average_parts(own))
            for held, shards in zip(self.held, made, strict=True):
                before = (held.parts if parts else held.blocks).get(key)
                held.write(key, shards if before is None else _sum(before, shards), parts)
            self.gradients[key] = None
        for passage in passages:
            passage.gradients.clear()

    def _at_experts(self, made: Sequence[Shards]) -> list[Shards]:
        """Gradients of experts where these are, of the tokens of all replicas that divide them:
        their mean, which takes nothing from one replica to another."""
        found: list[Shards] = []
        for replica in range(len(made)):
            first = replica - replica % self.ep
            group = made[first : first + self.ep]
            own = [{d: each[d] for d in self.devices(replica)} for each in group]
            found.append(_scaled(reduce(_sum, own), 1 / self.ep))
        return found

    def average(self) -> None:
        """Give every replica the mean of the gradients of all, unless that is done already."""
        for key in self.gradients:
            if self.replicas.count > 1 and key in self.held[0].blocks:
                values = [held.blocks[key] for held in self.held]
                means = self._among(key, values, lambda some, own, _: some.average(own))
                for held, shards in zip(self.held, means, strict=True):
                    held.blocks[key] = shards

    # The optimizer

    def update(self, states: "Sequence[State]") -> None:
        """Run the optimizer: each replica on all that it holds, or on its part."""
        parts = self.divides("state")
        passages = self.passages(states, parts)
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
            parts = self._parts(key, [held.blocks[key] for held in self.held])
            for held, shards in zip(self.held, parts, strict=True):
                held.parts[key] = shards
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
            values = self._among(key, [held.parts[key] for held in self.held], _put_together(key))
        else:
            values = [
                (held.blocks if key in held.blocks else held.off_wafer)[key] for held in self.held
            ]
        first, *others = (
            self._joined(key, values[at : at + self.ep]) for at in range(0, len(values), self.ep)
        )
        if not all(torch.equal(first, other) for other in others):
            raise VerificationError(f"replicas hold different values of {key.role} {key.source}")
        return first

    def _joined(self, key: Key, group: Sequence[Shards]) -> "Tensor":
        """A whole value, from what the replicas that divide experts hold of it."""
        everywhere = Devices(self.program.mesh)
        shards = {device: block for own in group for device, block in own.items()}
        return everywhere.join(shards, key.type, key.sharding)


_Collective = Callable[[Replicas, list[Shards], Devices], list[Shards]]


def _put_together(key: Key) -> _Collective:
    """Whole blocks of a value from the parts that replicas keep of them."""

    def whole(replicas: Replicas, parts: list[Shards], devices: Devices) -> list[Shards]:
        del replicas
        blocks = {
            d: whole_of([own[d] for own in parts], shape)
            for d, shape in key.shapes(devices).items()
        }
        return [dict(blocks) for _ in parts]

    return whole


def _scaled(shards: Shards, factor: float) -> Shards:
    return {device: block * factor for device, block in shards.items()}


def _sum(left: Shards, right: Shards) -> Shards:
    return {device: block + right[device] for device, block in left.items()}
