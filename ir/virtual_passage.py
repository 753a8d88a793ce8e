"""One micro-batch of a mapped program on virtual devices, from stage to stage of a replica.

What single operators do is in virtual_ops.py, what stays on the devices in virtual_replicas.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .blocks import Devices, Shards
from .dims import size
from .errors import VerificationError
from .graph import Input, Op, Output
from .mapped import MappedGraph
from .program import Program, Visit
from .virtual_ops import run_on_devices, run_on_parts
from .virtual_replicas import Held, Key

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]

_PASSED = ("carried", "shared")


def loaded(program: Program, state: "State", home: int | None = None) -> dict[Key, Shards]:
    """The blocks of all weights and optimizer states that the devices of each stage of a replica
    hold; `home` is its place among those that divide experts."""
    devices = Devices(program.mesh, home)
    return {
        key: devices.split(_shaped(state[key.source], key), key.type, key.sharding)
        for visit in program.visits
        for key in keys_read(program, visit)
        if key.role in ("weight", "state")
    }


def keys_read(program: Program, visit: Visit) -> Iterator[Key]:
    """What the calls of a visit read that stays on the devices."""
    for call in visit.calls:
        mapped = program.graphs[call.text("body")]
        for layer in layers_of(call):
            for value in mapped.graph.inputs:
                if value.role in ("weight", "state", "gradient", "saved"):
                    yield key_of(mapped, value, visit.stage, layer)


def key_of(mapped: MappedGraph, value: Input | Output, stage: int, layer: int) -> Key:
    """Under which an input or output of a graph stays on the devices of a stage."""
    type_, sharding = mapped.graph.types[value.name], mapped.shardings[value.name]
    return Key(stage, value.role, value.source.replace("*", str(layer)), type_, sharding)


def layers_of(call: Op) -> range:
    """The layers that a call runs, in order."""
    layers = range(call.integer("first"), call.integer("first") + call.integer("count"))
    return layers[::-1] if call.attributes.get("reverse") else layers


def _shaped(whole: "Tensor", key: Key) -> "Tensor":
    return whole.reshape([size(dim) for dim in key.type.shape])


@dataclass
class Passage:
    """A micro-batch on its way through the stages of a replica, or the optimizer at work.

    With `parts` every operator runs on the parts of blocks that this replica keeps.
    """

    program: Program
    state: "State"
    """What comes from outside: data, buffers, caches."""
    held: Held
    parts: bool = False
    home: int | None = None
    """The place of the replica among those that divide experts, if there are such."""
    group: Sequence[Held] = ()
    """What each of these holds, in order."""
    values: "dict[str, Tensor]" = field(default_factory=dict[str, Any])
    saved: dict[Key, Shards] = field(default_factory=dict[Key, Shards])
    gradients: dict[Key, Shards] = field(default_factory=dict[Key, Shards])
    updated: dict[Key, None] = field(default_factory=dict[Key, None])
    """Weights and states that have become something new."""
    outputs: "dict[str, Tensor]" = field(default_factory=dict[str, Any])
    """What leaves the devices, by source."""

    def __post_init__(self) -> None:
        self.values |= {name: self.state[name] for name in self.program.given}

    def visit(self, visit: Visit) -> None:
        """Run the calls of a visit to a stage."""
        for call in visit.calls:
            results = self._call(call, visit.stage)
            self.values.update(zip(call.results, results, strict=True))

    def _call(self, call: Op, stage: int) -> list["Tensor"]:
        mapped = self.program.graphs[call.text("body")]
        names = [value.name for value in mapped.graph.inputs if value.role in _PASSED]
        carried = [value.name for value in mapped.graph.inputs if value.role == "carried"]
        given = {n: self.values[operand] for n, operand in zip(names, call.operands, strict=True)}
        results: list[Tensor] = []
        for layer in layers_of(call):
            results = self._graph(mapped, stage, layer, given)
            given |= dict(zip(carried, results, strict=False))
        return results

    def _graph(self, mapped: MappedGraph, stage: int, layer: int, given: "State") -> list["Tensor"]:
        """What a graph hands on, whole; its other outputs are kept."""
        devices = Devices(self.program.mesh, self.home)
        shards: dict[str, Shards] = {}
        for value in mapped.graph.inputs:
            key = key_of(mapped, value, stage, layer)
            if value.role == "weight" and self.group and not mapped.updates:
                shards[value.name] = self._read_by_all(key)
            else:
                shards[value.name] = self._read(devices, key, given.get(value.name))
        run = run_on_parts if self.parts else run_on_devices
        for op in mapped.graph.ops:
            results = run(op, mapped, devices, [shards[name] for name in op.operands])
            shards.update(zip(op.results, results, strict=True))
        handed_on: list[Tensor] = []
        for output in mapped.graph.outputs:
            key = key_of(mapped, output, stage, layer)
            if output.role in _PASSED:
                handed_on.append(devices.join(shards[output.name], key.type, key.sharding))
            else:
                self._write(devices, key, shards[output.name])
        return handed_on

    def _read_by_all(self, key: Key) -> Shards:
        """What each replica has of a weight, which its own devices alone read there."""
        return {device: block for held in self.group for device, block in held.read(key).items()}

    def _read(self, devices: Devices, key: Key, given: "Tensor | None") -> Shards:
        match key.role:
            case "weight" | "state" | "gradient":
                return self.held.read(key, self.parts)
            case "saved":
                if key not in self.saved:
                    raise VerificationError(f"stage {key.stage}: nothing saves {key.source} there")
                return self.saved[key]
            case "buffer":
                whole = self.state[key.source]
                return devices.everywhere.split(_shaped(whole, key), key.type, key.sharding)
            case _:
                whole = self.state[key.source] if given is None else given
                return devices.split(_shaped(whole, key), key.type, key.sharding)

    def _write(self, devices: Devices, key: Key, shards: Shards) -> None:
        match key.role:
            case "saved":
                self.saved[key] = shards
            case "gradient":
                self.gradients[key] = shards
            case "weight" | "state":
                self.held.write(key, shards, self.parts)
                self.updated[key] = None
            case _:
                self.outputs[key.source] = devices.join(shards, key.type, key.sharding)
