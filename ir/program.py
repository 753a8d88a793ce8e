"""The mapped program: the model graph split over a wafer.

A stage is one program for many devices (SPMD): the graphs that it runs, a device mesh over a
rectangle of cores, and for every value which dimension lies on which mesh axis and whether it is
a partial result. Sharding lives here and only here. Graph operators keep whole-value types, so a
mapped graph is still a graph that can be run unsplit.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

from . import dims
from .errors import VerificationError
from .graph import Graph, Op, Phase, TensorType, forward_bodies
from .hardware import Hardware
from .kinds import Indices, kind_of

Direction = Literal["rows", "columns"]
Layout = Literal["matvec", "matmul"]
Recompute = Literal["none", "full"]
"""What of a layer's forward pass is computed once more for its backward pass; the scores of
attention always are."""


@dataclass(frozen=True)
class Axis:
    """An axis of the mesh: along `rows` the index grows from north to south, along `columns` from
    west to east. Of several axes along one direction the first varies slowest."""

    name: str
    size: int
    along: Direction


@dataclass(frozen=True)
class Mesh:
    """The devices of a stage; may fill less than the rectangle that holds it."""

    axes: tuple[Axis, ...]

    @cached_property
    def sizes(self) -> dict[str, int]:
        return {axis.name: axis.size for axis in self.axes}

    @property
    def rows(self) -> int:
        return self.extent(axis.name for axis in self.axes if axis.along == "rows")

    @property
    def columns(self) -> int:
        return self.extent(axis.name for axis in self.axes if axis.along == "columns")

    @property
    def devices(self) -> int:
        return prod(self.sizes.values())

    def extent(self, names: Iterable[str]) -> int:
        """The number of parts that a dimension over these axes is cut into."""
        return prod(self.sizes[name] for name in names)

    def direction(self, names: Iterable[str]) -> Direction:
        """The one direction of some axes; raises VerificationError if they have two."""
        wanted = set(names)
        found: set[Direction] = {axis.along for axis in self.axes if axis.name in wanted}
        if len(found) != 1:
            raise VerificationError(f"axes {sorted(wanted)} do not lie along one direction")
        return found.pop()

    def __str__(self) -> str:
        return " ".join(f"{axis.name}:{axis.along}={axis.size}" for axis in self.axes)


@dataclass(frozen=True)
class Sharding:
    """Where a value lies: for each dimension the axes it is cut over, slowest first.

    A dimension of n elements over p devices gives each a block of ceil(n / p), the last ones
    less. Over the `partial` axes every device holds a part of the sum or maximum (`function`).
    """

    axes: tuple[tuple[str, ...], ...]
    partial: tuple[str, ...] = ()
    function: str = "sum"
    room: tuple[int, ...] = ()
    """For each dimension the elements that will be appended to it (a cache's tokens); blocks are
    sized as if they were there. Empty for none."""

    def room_in(self, dim: int) -> int:
        """Elements that will be appended to one dimension."""
        return self.room[dim] if self.room else 0

    @property
    def used(self) -> frozenset[str]:
        return frozenset(name for names in self.axes for name in names) | frozenset(self.partial)

    def __str__(self) -> str:
        cut = ", ".join("*".join(names) or "-" for names in self.axes)
        partial = f" {self.function}({'*'.join(self.partial)})" if self.partial else ""
        room = f" room {','.join(map(str, self.room))}" if self.room else ""
        return f" on ({cut}){partial}{room}"


def replicated(rank: int) -> Sharding:
    """Every device holds the whole."""
    return Sharding(((),) * rank)


@dataclass(frozen=True)
class MappedGraph:
    """A graph with a sharding for every value."""

    graph: Graph
    shardings: Mapping[str, Sharding]

    @cached_property
    def updates(self) -> bool:
        """Whether the graph is of the optimizer, which runs once a step, behind the micro-batches
        of all others."""
        return any(output.role in ("weight", "state") for output in self.graph.outputs)

    def verify(self, mesh: Mesh) -> None:
        """Raise VerificationError unless every value has a sharding that fits its type."""
        self.graph.verify()
        for name, type_ in self.graph.types.items():
            sharding = self.shardings.get(name)
            where = f"graph {self.graph.name}: %{name}"
            if sharding is None:
                raise VerificationError(f"{where} has no sharding")
            if not len(sharding.axes) == len(type_.shape) == len(sharding.room or type_.shape):
                raise VerificationError(f"{where}: sharding{sharding} for {type_}")
            named = [axis for axes in sharding.axes for axis in axes] + list(sharding.partial)
            unknown = set(named) - set(mesh.sizes)
            if unknown or len(named) != len(set(named)):
                raise VerificationError(f"{where}: sharding{sharding} does not fit mesh {mesh}")
        for op in self.graph.ops:
            self._verify_op(op)
        for output in self.graph.outputs:
            if self.shardings[output.name].partial:
                raise VerificationError(
                    f"graph {self.graph.name}: output %{output.name} is a partial result"
                )

    def _verify_op(self, op: Op) -> None:
        """Only a sum may read partial results, and whatever sees one device only must find the
        parts of its operands that belong together there."""
        where = f"graph {self.graph.name}: {op.kind} %{op.result}"
        if op.kind in ("all_reduce", "reduce_scatter"):
            for name in op.operands:
                now = self.shardings[name]
                function = op.attributes.get("function", "sum")
                axes = op.attributes["axes"]
                added = isinstance(axes, tuple) and set(axes) <= set(now.partial)
                if not added or not now.partial or now.function != function:
                    raise VerificationError(f"{where} does not complete %{name}{now}")
            return
        partial = [name for name in op.operands if self.shardings[name].partial]
        if partial:
            raise VerificationError(f"{where} reads %{partial[0]}, a partial result")
        kind = kind_of(op)
        if kind.indices is not None and not kind.collective:
            self._verify_local(where, op, kind.indices(op))

    def _verify_local(self, where: str, op: Op, indices: Indices) -> None:
        free = indices.uneven
        results = [*zip((indices.result, *indices.others), op.results, strict=True)]
        rows = [*zip(indices.operands, op.operands, strict=True), *results]
        cuts: dict[str, tuple[str, ...]] = {}
        for letters, name in rows:
            for letter, cut in zip(letters, self.shardings[name].axes, strict=True):
                if letter not in free and cuts.setdefault(letter, cut) != cut:
                    raise VerificationError(
                        f"{where}: index {letter} is cut over {cuts[letter]} and {cut} at once"
                    )
        split = [letter for letter in indices.whole if letter not in free and cuts.get(letter)]
        if split:
            raise VerificationError(f"{where}: index {split[0]} may not be cut")
        for letters, name in results:
            gone = [letter for letter in indices.reduced if letter not in letters]
            partial = {axis for letter in gone for axis in cuts.get(letter, ())}
            if partial != set(self.shardings[name].partial):
                raise VerificationError(f"{where}: the result is partial over {sorted(partial)}")


@dataclass(frozen=True)
class Rectangle:
    """Cores of a wafer, by the north-west corner and the size."""

    row: int
    column: int
    rows: int
    columns: int

    @property
    def centre(self) -> tuple[float, float]:
        return self.row + (self.rows - 1) / 2, self.column + (self.columns - 1) / 2

    def overlaps(self, other: "Rectangle") -> bool:
        """Whether any core lies in both."""
        return (
            self.row < other.row + other.rows
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

    @property
    def total_bytes(self) -> int:
        return sum(dataclasses.astuple(self))


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


@dataclass(frozen=True)
class Transfer:
    """Values that one stage sends to a later one, once for each micro-batch."""

    source: int
    target: int
    values: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Workload:
    phase: Phase
    batch: int
    sequence: int
    context: int
    dtype: str


@dataclass(frozen=True)
class Strategy:
    """The strategy: what was chosen or pinned. dp, pp and ep count rectangles."""

    dp: int
    pp: int
    region: tuple[int, int]
    layout: Layout
    """`matvec` keeps tokens whole and splits features over rows and columns in turn; `matmul`
    splits tokens over rows and features over columns."""
    head_groups: int
    """Parts that the heads are cut into; the rest of the columns split each head."""
    microbatch: int
    """Sequences."""
    recompute: Recompute = "none"


@dataclass(frozen=True)
class Tried:
    """A strategy that the search looked at, its estimate and what became of it."""

    mapping: Strategy
    bound_s: float
    core_bytes: int
    outcome: str


@dataclass(frozen=True)
class Placement:
    """How good the placement is: bytes times hops for one micro-batch through one replica."""

    objective: float
    lower_bound: float

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
    advice: tuple[str, ...] = field(default=())
    """Changes under which the program would fit, if it does not."""

    @property
    def microbatches(self) -> int:
        """Micro-batches that pass through one replica in a step."""
        return -(-self.workload.batch // (self.mapping.dp * self.mapping.microbatch))

    @cached_property
    def transfers(self) -> tuple[Transfer, ...]:
        """Values that cross stages, by pair of stages, in order."""
        made = dict.fromkeys(self.given, 0)
        crossing: dict[tuple[int, int], dict[str, int]] = {}
        for at, stage in enumerate(self.stages):
            for call in stage.calls:
                for name in call.operands:
                    if made[name] != at:
                        crossing.setdefault((made[name], at), {})[name] = self.value_bytes(name)
                made.update((name, at) for name in call.results)
        return tuple(
            Transfer(source, target, tuple(values), sum(values.values()))
            for (source, target), values in sorted(crossing.items())
        )

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
        made = set(self.given)
        for at, stage in enumerate(self.stages):
            for call in stage.calls:
                self._verify_call(at, call, made)
                made.update(call.results)
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

    def _verify_call(self, at: int, call: Op, made: set[str]) -> None:
        where = f"stage {at}: call of {call.text('body')}"
        mapped = self.graphs.get(call.text("body"))
        if mapped is None:
            raise VerificationError(f"{where}: no such graph")
        missing = [name for name in call.operands if name not in made]
        if missing:
            raise VerificationError(f"{where} reads %{missing[0]}, which nothing before it makes")
        inputs = [i for i in mapped.graph.inputs if i.role in ("carried", "shared")]
        outputs = [o for o in mapped.graph.outputs if o.role in ("carried", "shared")]
        types = tuple(mapped.graph.types[output.name] for output in outputs)
        if len(inputs) != len(call.operands) or types != call.types:
            raise VerificationError(f"{where}: operands or results do not fit the graph")

    def _verify_places(self) -> None:
        places = [place for stage in self.stages for place in stage.places]
        for at, place in enumerate(places):
            if place.rows < self.mesh.rows or place.columns < self.mesh.columns:
                raise VerificationError(f"rectangle {place} is smaller than mesh {self.mesh}")
            clash = next((other for other in places[:at] if place.overlaps(other)), None)
            if clash is not None:
                raise VerificationError(f"rectangles {clash} and {place} overlap")
