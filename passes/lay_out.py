"""The chain of graphs, sharded in one layout: bodies first, then what feeds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..ir.errors import VerificationError
from ..ir.graph import Graph, Op, Role, TensorType, forward_bodies
from ..ir.mapped import EXPERTS, Axis, MappedGraph, Mesh, Sharding
from ..ir.program import Layout
from .aims import carried_sharding
from .combine import Combine
from .pieces import SHARED, Chain
from .shard import Shard
from .spread_experts import routed


@dataclass(frozen=True)
class LayOut:
    """Shard every graph of a chain so that values fit where they pass from one to the next.

    Hidden states have one place in a layout. Shared values lie as the first layers that read them
    want, for all others too, and the pieces that make them are sharded last, towards that. What a
    graph keeps for a later one stays where it was made; a weight that is trained has one place in
    all graphs, and its gradient and states lie there too.
    """

    layout: Layout
    name: str = "shard"

    def run(self, chain: Chain) -> dict[str, MappedGraph]:
        """Mapped graphs by name, sizes still symbolic."""
        shard, combine = Shard(self.layout), Combine()
        alike = _alike(chain)
        places = self._passed_on(chain, alike)
        bodies = forward_bodies(chain.calls)
        kept = _Kept(_trained(chain), _gradient_parts(chain), bodies)
        mapped: dict[str, MappedGraph] = {}
        calls = sorted(chain.calls, key=lambda call: _makes_shared(chain, call))
        for call in calls:
            name = call.text("body")
            if name in mapped:
                continue
            graph = chain.graphs[name]
            read = {own: alike[outside] for own, outside in _shared_reads(chain, call)}
            given = {own: places[outside] for own, outside in read.items() if outside in places}
            made = {o.name for o in graph.outputs if o.role == "shared"}
            wanted = {n: places[alike[n]] for n in made if alike.get(n) in places}
            sharded = shard.run(
                graph, wanted | kept.wanted(graph, call), given | kept.given(graph, call)
            )
            mapped[name] = sharded if _is_backward(graph) else combine.run(sharded)
            kept.note(mapped[name])
            places |= {outside: mapped[name].shardings[own] for own, outside in read.items()}
        if chain.shared is not None:
            wanted = {outside: places[group] for outside, group in alike.items()}
            mapped[SHARED] = combine.run(shard.run(chain.graphs[SHARED], wanted))
        order = dict.fromkeys([call.text("body") for call in chain.calls])
        mapped |= routed({name: mapped[name] for name in order}, bodies)
        return {name: mapped[name] for name in chain.graphs if name in mapped}

    def _passed_on(self, chain: Chain, alike: Mapping[str, str]) -> dict[str, Sharding]:
        """Shared values that stages send to each other lie like hidden states."""
        anew = () if chain.shared is None else chain.shared.results
        return {
            alike[outside]: carried_sharding(self.layout, value_type)
            for call in chain.calls
            for outside, value_type in _read_types(chain, call)
            if outside not in anew
        }


def _is_backward(graph: Graph) -> bool:
    """Whether a graph makes gradients: its order, in which least is live, is kept."""
    return any(output.role == "gradient" for output in graph.outputs)


# What outlives a graph


_Key = tuple[str, str, str]
"""A role, a source, and for a source in layers the graph that runs them forward."""


@dataclass
class _Kept:
    """Where what graphs keep for each other lies, as far as it is known."""

    trained: frozenset[str]
    """Weights that have gradients, by source."""
    parts: Mapping[str, str]
    """Values of the chain that are parts of a weight's gradient, and of which."""
    bodies: Mapping[str, str]
    """The graph that runs a graph's layers forward."""
    places: dict[_Key, Sharding] = field(default_factory=dict[_Key, Sharding])

    def given(self, graph: Graph, call: Op) -> dict[str, Sharding]:
        """The places of a graph's inputs."""
        found: dict[str, Sharding] = {}
        passed = iter(call.operands)
        for value in graph.inputs:
            outside = next(passed) if value.role in ("carried", "shared") else ""
            if value.role == "carried":
                place = self._of_part(outside)
            else:
                place = self.places.get(self._key(graph, value.role, value.source))
            if place is not None:
                found[value.name] = place
        return found

    def wanted(self, graph: Graph, call: Op) -> dict[str, Sharding]:
        """The places in which a graph's outputs must end."""
        found: dict[str, Sharding] = {}
        passed = iter(call.results)
        for output in graph.outputs:
            outside = next(passed) if output.role in ("carried", "shared") else ""
            place = self._of_part(outside) if output.role == "carried" else None
            if output.role in ("gradient", "weight"):
                place = self.places.get(self._key(graph, "weight", output.source))
            if place is not None:
                found[output.name] = place
        return found

    def note(self, mapped: MappedGraph) -> None:
        """Remember where a graph has put what others read."""
        for value in mapped.graph.inputs:
            if value.role == "state" or (value.role == "weight" and value.source in self.trained):
                key = self._key(mapped.graph, value.role, value.source)
                self.places.setdefault(key, mapped.shardings[value.name])
        for output in mapped.graph.outputs:
            if output.role == "saved":
                key = self._key(mapped.graph, output.role, output.source)
                self.places[key] = mapped.shardings[output.name]

    def _key(self, graph: Graph, role: Role, source: str) -> _Key:
        """What names a value; a gradient lies where its weight does."""
        named = "weight" if role == "gradient" else role
        return named, source, self.bodies.get(graph.name, "") if "*" in source else ""

    def _of_part(self, outside: str) -> Sharding | None:
        source = self.parts.get(outside)
        return None if source is None else self.places.get(("weight", source, ""))


def _trained(chain: Chain) -> frozenset[str]:
    """The sources of all weights that have gradients."""
    outputs = (output for graph in chain.graphs.values() for output in graph.outputs)
    return frozenset(output.source for output in outputs if output.role == "gradient")


def _gradient_parts(chain: Chain) -> dict[str, str]:
    """Values that pieces and layers pass on and that are parts of a weight's gradient, by the
    weight's source."""
    found: dict[str, str] = {}
    for call in reversed(chain.calls):
        graph = chain.graphs[call.text("body")]
        like = {o.name: o.source for o in graph.outputs if o.role == "gradient"}
        passed = iter(call.results)
        for output in graph.outputs:
            if output.role in ("carried", "shared") and (outside := next(passed)) in found:
                like[output.name] = found[outside]
        for op in reversed(graph.ops):
            if op.kind == "elementwise" and op.result in like:
                same = (n for n in op.operands if graph.types[n] == op.type)
                like = dict.fromkeys(same, like[op.result]) | like
        inputs = [value for value in graph.inputs if value.role in ("carried", "shared")]
        pairs = zip(inputs, call.operands, strict=True)
        found |= {outside: like[value.name] for value, outside in pairs if value.name in like}
    return found


# What passes between graphs


def _read_types(chain: Chain, call: Op) -> list[tuple[str, TensorType]]:
    types = chain.graphs[call.text("body")].types
    return [(outside, types[own]) for own, outside in _shared_reads(chain, call)]


def _shared_reads(chain: Chain, call: Op) -> list[tuple[str, str]]:
    """The shared inputs of a call's graph, each with the value of the chain that it reads."""
    inputs = [i for i in chain.graphs[call.text("body")].inputs if i.role in ("carried", "shared")]
    pairs = zip(inputs, call.operands, strict=True)
    return [(value.name, outside) for value, outside in pairs if value.role == "shared"]


def _makes_shared(chain: Chain, call: Op) -> bool:
    return any(output.role == "shared" for output in chain.graphs[call.text("body")].outputs)


def _alike(chain: Chain) -> dict[str, str]:
    """Shared values that must lie alike, as different calls of one graph read them: for each the
    first of its group."""
    group: dict[str, str] = {}
    first: dict[tuple[str, str], str] = {}
    for call in chain.calls:
        for own, outside in _shared_reads(chain, call):
            group.setdefault(outside, outside)
            met = group[first.setdefault((call.text("body"), own), outside)]
            old = group[outside]
            group = {name: met if at == old else at for name, at in group.items()}
    return group


def mesh_of(rows: int, columns: int, head_groups: int, layout: Layout, experts: int = 1) -> Mesh:
    """The mesh that fills a region: heads over the outer axis, their width over the inner one;
    `experts` replicas that divide these among them are an axis too.

    Rows are grouped too where tiles travel, so that both sides of a product are cut alike. Cores
    left over by the grouping stay idle. Raises VerificationError for more groups than cores.
    """
    row_groups = head_groups if layout == "matmul" else 1
    if rows < row_groups or columns < head_groups:
        raise VerificationError(f"{head_groups} head groups on {rows} x {columns} cores")
    replicas = (Axis(EXPERTS, experts, "replicas"),) if experts > 1 else ()
    return Mesh(
        (
            *replicas,
            Axis("yh", row_groups, "rows"),
            Axis("yd", rows // row_groups, "rows"),
            Axis("xh", head_groups, "columns"),
            Axis("xd", columns // head_groups, "columns"),
        )
    )
