"""The mapped program: the model graph split over a system of wafers or GPUs.

A stage is one program for many devices (SPMD): the graphs that it runs, sharded over a device mesh
(mapped.py) on a rectangle of cores.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from . import dims
from .errors import VerificationError
from .graph import Op, Phase, TensorType, forward_bodies
from .hardware import Hardware
from .mapped import MappedGraph, Mesh, Sharding

Layout = Literal["matvec", "matmul", "sequence"]
"""`matvec` keeps tokens whole and splits features over rows and columns in turn; `matmul` splits
tokens over rows and features over columns; `sequence` is `matvec` on one row of devices with the
tokens of hidden states split over it (arXiv 2205.05198)."""
Recompute = Literal["none", "selective", "full"]
"""What of a layer's forward pass is computed once more for its backward pass; the scores of
attention always are, which is all that `selective` asks for."""
Place = Literal["sram", "dram"]
"""Where weights or caches lie: with the cores, or in the nearest memory beside their SRAM."""
Way = Literal["forward", "backward", "update"]
"""What a call is to a training step; inference has the first alone."""


@dataclass(frozen=True)
class Rectangle:
    """Cores of an island (floor.py), by the north-west corner and the size."""

    row: int
    column: int
    rows: int
    columns: int
    island: int = 0

    @property
    def centre(self) -> tuple[float, float]:
        return self.row + (self.rows - 1) / 2, self.column + (self.columns - 1) / 2

    def overlaps(self, other: "Rectangle") -> bool:
        """Whether any core lies in both."""
        return (
            self.island == other.island
            and self.row < other.row + other.rows
            and other.row < self.row + self.rows
            and self.column < other.column + other.columns
            and other.column < self.column + self.columns
        )


@dataclass(frozen=True)
class CoreMemory:
    """Bytes in the fullest core of a stage, each kind in a place of its own."""

    weights_bytes: int
    cache_bytes: int
    activation_bytes: int
    """While a graph runs."""
    gradient_bytes: int = 0
    optimizer_bytes: int = 0
    saved_bytes: int = 0
    """What the forward pass saves for the backward pass, at the end of the forward pass."""
    dram_bytes: int = 0
    """That lie in DRAM for this core, not in it."""

    @property
    def total_bytes(self) -> int:
        return sum(dataclasses.astuple(self)) - self.dram_bytes


@dataclass(frozen=True)
class Stage:
    """Graphs run one after the other on a rectangle, once for each micro-batch; those of the
    optimizer once a step.

    `calls` are `repeat` operators over the program's values; a value that another stage made is
    sent from there. `places` has one rectangle a replica and is empty before placement.
    """

    calls: tuple[Op, ...]
    memory: CoreMemory | None = None
    places: tuple[Rectangle, ...] = ()

    @property
    def runs(self) -> str:
        """Its graphs in words, and how often each is run: `main.0, 11 x layer0`."""
        counted: dict[str, int] = {}
        for call in self.calls:
            body = call.text("body")
            counted[body] = counted.get(body, 0) + call.integer("count")
        named = (f"{count} x {body}" if count > 1 else body for body, count in counted.items())
        return ", ".join(named)


@dataclass(frozen=True)
class Visit:
    """Calls of one way that a stage runs for a micro-batch without waiting for another stage; a
    stage of several chunks of layers is visited once for each."""

    stage: int
    way: Way
    calls: tuple[Op, ...]


@dataclass(frozen=True)
class Transfer:
    """Values that one stage sends to another one: once for each micro-batch on their way forward
    or backward, or, on the way to an update, once a step."""

    source: int
    target: int
    values: tuple[str, ...]
    bytes: int
    way: Way = "forward"


@dataclass(frozen=True)
class Workload:
    phase: Phase
    batch: int
    sequence: int
    context: int
    dtype: str


@dataclass(frozen=True)
class Strategy:
    """The strategy: what was chosen or pinned. dp, pp and ep count rectangles; the experts of a
    layer lie on ep of its dp replicas."""

    dp: int
    pp: int
    region: tuple[int, int]
    layout: Layout
    head_groups: int
    """Parts that the heads are cut into; the rest of the columns split each head."""
    microbatch: int
    """Sequences."""
    recompute: Recompute = "none"
    ep: int = 1
    interleave: int = 1
    """Chunks of layers in each stage; the chunks go round the stages."""
    zero: int = 0
    """What replicas divide among them instead of each holding all: 1 the optimizer's states, 2
    gradients too, 3 weights too (ZeRO, arXiv 1910.02054)."""
    streaming: bool = False
    """Weights come from off the wafer for every pass over a layer, and gradients leave for there,
    where the optimizer runs."""
    weights: Place = "sram"
    """Of weights that are not streamed; gradients and the optimizer's states lie with them."""
    cache: Place = "sram"


@dataclass(frozen=True)
class Tried:
    """A strategy that the search looked at, its estimate and what became of it."""

    mapping: Strategy
    bound_s: float
    core_bytes: int
    outcome: str


@dataclass(frozen=True)
class Placement:
    """How good the placement is: bytes times hops of a step, or in a cluster bytes from node to
    node; and how little that could be."""

    objective: float
    lower_bound: float
    hottest_bytes: float = 0.0
    """That the busiest link between two cores of a wafer, or the busiest node of a cluster, carries
    in a step, by an estimate."""

    @property
    def gap(self) -> float:
        """How far the objective may be from the best, as a fraction of it."""
        return 0.0 if self.objective == 0 else 1 - self.lower_bound / self.objective


@dataclass(frozen=True)
class Program:
    """A model mapped onto a wafer, and everything that its evaluation needs."""

    model: str
    parameters: int
    layers: int
    flops: int
    """Of the whole step, all replicas, as traced."""
    workload: Workload
    hardware: Hardware
    mapping: Strategy
    mesh: Mesh
    graphs: Mapping[str, MappedGraph]
    stages: tuple[Stage, ...]
    given: tuple[str, ...] = ()
    """Values that come from outside: the hidden states, where only layers were mapped."""
    placement: Placement | None = None
    tried: tuple[Tried, ...] = field(default=())
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many strategies the search dropped unseen, by reason."""
    advice: tuple[str, ...] = field(default=())
    """Changes under which the program would fit, if it does not."""

    @property
    def microbatches(self) -> int:
        """Micro-batches that pass through one replica in a step."""
        return -(-self.workload.batch // (self.mapping.dp * self.mapping.microbatch))

    def way(self, call: Op) -> Way:
        """Whether a call is of the forward pass, of the backward pass (with the loss) or of the
        optimizer."""
        mapped = self.graphs[call.text("body")]
        if mapped.updates:
            return "update"
        gradients = any(output.role == "gradient" for output in mapped.graph.outputs)
        return "backward" if gradients else "forward"

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        """One micro-batch on its way through the stages, and the optimizer behind it.

        Raises VerificationError for a call that reads what no call before it can make.
        """
        left = [list(stage.calls) for stage in self.stages]
        made = set(self.given)
        found: list[Visit] = []
        while any(left):
            before = len(found)
            for at, calls in enumerate(left):
                ready = self._ready(calls, made)
                if ready:
                    found.append(Visit(at, self.way(ready[0]), tuple(ready)))
            if len(found) == before:
                at = next(at for at, calls in enumerate(left) if calls)
                call = left[at][0]
                missing = next(name for name in call.operands if name not in made)
                raise VerificationError(
                    f"stage {at}: call of {call.text('body')} reads %{missing}, which nothing "
                    "before it makes"
                )
        return tuple(found)

    def _ready(self, calls: list[Op], made: set[str]) -> list[Op]:
        """Take from a stage's calls those of one way that can run now."""
        ready: list[Op] = []
        while calls and made.issuperset(calls[0].operands):
            if ready and self.way(calls[0]) != self.way(ready[0]):
                break
            made.update(calls[0].results)
            ready.append(calls.pop(0))
        return ready

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """Values that cross stages, by pair of stages and way, in order. Parts of gradients are
        summed where they arise, and go once a step."""
        made = dict.fromkeys(self.given, 0)
        crossing: dict[tuple[int, int, Way], dict[str, int]] = {}
        for visit in self.visits:
            for call in visit.calls:
                for at, name in enumerate(call.operands):
                    if made[name] != visit.stage:
                        way: Way = "update" if self._is_gradient(call, at) else visit.way
                        pair = crossing.setdefault((made[name], visit.stage, way), {})
                        pair[name] = self.value_bytes(name)
                made.update((name, visit.stage) for name in call.results)
        return tuple(
            Transfer(source, target, tuple(values), sum(values.values()), way)
            for (source, target, way), values in sorted(crossing.items())
        )

    def _is_gradient(self, call: Op, at: int) -> bool:
        """Whether an operand of a call is a part of the gradient of a weight."""
        graph = self.graphs[call.text("body")].graph
        read = [i.type for i in graph.inputs if i.role in ("carried", "shared")]
        return read[at] in [graph.types[o.name] for o in graph.outputs if o.role == "gradient"]

    def value_bytes(self, name: str) -> int:
        """Bytes of one of the program's values."""
        for stage in self.stages:
            for call in stage.calls:
                if name in call.results:
                    return dims.size(call.types[call.results.index(name)].bytes)
                if name in self.given and name in call.operands:
                    inputs = self.graphs[call.text("body")].graph.inputs
                    read = [i.type for i in inputs if i.role in ("carried", "shared")]
                    return dims.size(read[call.operands.index(name)].bytes)
        raise KeyError(name)

    def with_stages(self, stages: Iterable[Stage]) -> "Program":
        """The program with other stages."""
        return dataclasses.replace(self, stages=tuple(stages))

    def verify(self) -> None:
        """Raise VerificationError unless graphs, calls and rectangles are consistent."""
        for mapped in self.graphs.values():
            mapped.verify(self.mesh)
        self._verify_kept()
        for at, stage in enumerate(self.stages):
            for call in stage.calls:
                self._verify_call(at, call)
        self._verify_order()
        self._verify_places()

    def _verify_kept(self) -> None:
        """What one graph keeps for others must lie where they read it, and a gradient and what
        becomes of a weight where the weight lies."""
        bodies = forward_bodies(call for stage in self.stages for call in stage.calls)
        kept = self._places("outputs", bodies)
        for key, (name, type_, sharding) in self._places("inputs", bodies):
            for other, there, place in (made for own, made in kept if own == key):
                if (type_, sharding) != (there, place):
                    raise VerificationError(
                        f"graph {name}: {key[1]} is read as {type_}{sharding}, but graph {other} "
                        f"has it as {there}{place}"
                    )

    def _places(
        self, side: Literal["inputs", "outputs"], bodies: Mapping[str, str]
    ) -> list[tuple[tuple[str, str, str], tuple[str, TensorType, Sharding]]]:
        """Where kept values lie: their kind, source and layer, then graph, type and sharding."""
        found: list[tuple[tuple[str, str, str], tuple[str, TensorType, Sharding]]] = []
        for name, mapped in self.graphs.items():
            values = mapped.graph.inputs if side == "inputs" else mapped.graph.outputs
            for value in values:
                if value.role in ("saved", "gradient", "weight", "state"):
                    role = "weight" if value.role == "gradient" else value.role
                    layer = bodies.get(name, name) if "*" in value.source else ""
                    type_, place = mapped.graph.types[value.name], mapped.shardings[value.name]
                    found.append(((role, value.source, layer), (name, type_, place)))
        return found

    def _verify_call(self, at: int, call: Op) -> None:
        where = f"stage {at}: call of {call.text('body')}"
        mapped = self.graphs.get(call.text("body"))
        if mapped is None:
            raise VerificationError(f"{where}: no such graph")
        inputs = [i for i in mapped.graph.inputs if i.role in ("carried", "shared")]
        outputs = [o for o in mapped.graph.outputs if o.role in ("carried", "shared")]
        types = tuple(mapped.graph.types[output.name] for output in outputs)
        if len(inputs) != len(call.operands) or types != call.types:
            raise VerificationError(f"{where}: operands or results do not fit the graph")

    def _verify_order(self) -> None:
        """Every call must find what it reads."""
        ran = sum(len(visit.calls) for visit in self.visits)
        if ran != sum(len(stage.calls) for stage in self.stages):
            raise VerificationError("a call is never run")

    def _verify_places(self) -> None:
        places = [place for stage in self.stages for place in stage.places]
        places.sort(key=lambda place: (place.island, place.column))
        for at, place in enumerate(places):
            if place.rows < self.mesh.rows or place.columns < self.mesh.columns:
                raise VerificationError(f"rectangle {place} is smaller than mesh {self.mesh}")
            ends = (place.island, place.column + place.columns)
            for other in places[at + 1 :]:
                if (other.island, other.column) >= ends:
                    break
                if place.overlaps(other):
                    raise VerificationError(f"rectangles {place} and {other} overlap")
