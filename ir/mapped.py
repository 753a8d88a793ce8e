"""A graph split over the devices of a mesh: for every value which dimension lies on which axis.

Sharding lives here and only here. Graph operators keep whole-value types, so a mapped graph is
still a graph that can be run unsplit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from .errors import VerificationError
from .expression import is_sum
from .graph import Graph, Op
from .kinds import Indices, kind_of

Direction = Literal["rows", "columns"]
EXPERTS = "e"
"""The axis over the replicas that divide the experts of a layer among them."""


@dataclass(frozen=True)
class Axis:
    """An axis of the mesh: along `rows` the index grows from north to south, along `columns` from
    west to east. Of several axes along one direction the first varies slowest. An axis along
    `replicas` joins devices at the same place of several rectangles."""

    name: str
    size: int
    along: Direction | Literal["replicas"]


@dataclass(frozen=True)
class Mesh:
    """The devices of a stage; may fill less than the rectangle that holds it. Replicas that divide
    experts among them are an axis too, though each is a rectangle of its own."""

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
        """Of one rectangle."""
        return self.rows * self.columns

    def extent(self, names: Iterable[str]) -> int:
        """The number of parts that a dimension over these axes is cut into."""
        return prod(self.sizes[name] for name in names)

    def direction(self, names: Iterable[str]) -> Direction:
        """The one direction of some axes; raises VerificationError if they have two."""
        wanted = set(names)
        found = {axis.along for axis in self.axes if axis.name in wanted}
        if found == {"rows"}:
            return "rows"
        if found == {"columns"}:
            return "columns"
        raise VerificationError(f"axes {sorted(wanted)} do not lie along one direction")

    def __str__(self) -> str:
        return " ".join(f"{axis.name}:{axis.along}={axis.size}" for axis in self.axes)


@dataclass(frozen=True)
class Routed:
    """Of what tokens are on the way through experts that replicas divide among them: each replica
    has that of the tokens, its own and others', of which an expert that it holds was chosen.

    An element follows from `chosen` of `total` experts: all that a token chose, or a single one
    where there is an element for each.
    """

    chosen: int
    total: int

    def __str__(self) -> str:
        return f"{self.chosen}/{self.total}"


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
    routed: Routed | None = None
    """For each token of this replica with the replicas that hold experts of its choice."""

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
        routed = f" routed {self.routed}" if self.routed else ""
        return f" on ({cut}){partial}{room}{routed}"


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
        everywhere = self._held_by_all
        for op in self.graph.ops:
            self._verify_op(op)
            self._verify_routed(op, everywhere)
        for output in self.graph.outputs:
            where = f"graph {self.graph.name}: output %{output.name}"
            if self.shardings[output.name].partial:
                raise VerificationError(f"{where} is a partial result")
            if self.shardings[output.name].routed and output.role != "saved":
                raise VerificationError(f"{where} lies with the experts")

    @cached_property
    def _held_by_all(self) -> frozenset[str]:
        """What every replica holds, its part of it where that is cut over replicas: weights and
        buffers, and what follows from these alone."""
        found = {i.name for i in self.graph.inputs if i.role in ("weight", "buffer")}
        for op in self.graph.ops:
            if found.issuperset(op.operands):
                found.update(op.results)
        return frozenset(found)

    def _verify_routed(self, op: Op, everywhere: frozenset[str]) -> None:
        """Tokens must be sent to experts and what these make of them be collected; whatever works
        on it between finds all else on every replica."""
        where = f"graph {self.graph.name}: {op.kind} %{op.result}"
        routed = [bool(self.shardings[name].routed) for name in op.operands]
        made = [bool(self.shardings[name].routed) for name in op.results]
        divided = [self.over_replicas(name) for name in (*op.operands, *op.results)]
        fits = not any(made)
        if op.kind == "dispatch":
            fits = not any(routed) and all(made)
        elif op.kind == "collect":
            fits = routed == [False] + [True] * len(made) and not any(made)
        elif op.kind == "all_reduce":
            fits = routed == made
        elif op.kind in ("chosen_matmul", "chosen_matmul_grad") and any(divided):
            pairs = zip(routed, op.operands, strict=True)
            fits = all(own for own, name in pairs if name not in everywhere) and all(made) == (
                op.kind == "chosen_matmul"
            )
        elif any(routed):
            pairs = zip(routed, op.operands, strict=True)
            fits = all(made) and all(own or name in everywhere for own, name in pairs)
        if not fits:
            raise VerificationError(f"{where}: tokens do not lie where the experts are")
        before = any(divided[: len(op.operands)])
        if before != any(divided[len(op.operands) :]) and not any(routed):
            raise VerificationError(f"{where}: an axis of replicas gets lost")

    def over_replicas(self, name: str) -> bool:
        """Whether a value is cut over replicas."""
        return any(EXPERTS in axes for axes in self.shardings[name].axes)

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
        if partial and self._adds_parts(op):
            return
        if partial:
            raise VerificationError(f"{where} reads %{partial[0]}, a partial result")
        kind = kind_of(op)
        if kind.indices is not None and not kind.collective:
            self._verify_local(where, op, kind.indices(op))

    def _adds_parts(self, op: Op) -> bool:
        """Whether an operator adds partial results that lie alike to one that does too."""
        kind = kind_of(op)
        if op.kind != "elementwise" or not is_sum(op.text("expr"), len(op.operands)):
            return False
        assert kind.indices is not None
        indices = kind.indices(op)
        rows = zip((*indices.operands, indices.result), (*op.operands, op.result), strict=True)
        places = {
            (
                frozenset(zip(letters, self.shardings[name].axes, strict=True)),
                frozenset(self.shardings[name].partial),
                self.shardings[name].function,
            )
            for letters, name in rows
        }
        return len(places) == 1 and next(iter(places))[2] == "sum"

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
            partial = {axis for letter in gone for axis in cuts.get(letter, ())} - {EXPERTS}
            if partial != set(self.shardings[name].partial):
                raise VerificationError(f"{where}: the result is partial over {sorted(partial)}")
