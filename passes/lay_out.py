"""The chain of graphs, sharded in one layout: bodies first, then what feeds them."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.errors import VerificationError
from ..ir.graph import Op, TensorType
from ..ir.program import Axis, Layout, MappedGraph, Mesh, Sharding
from .combine import Combine
from .pieces import SHARED, Chain
from .shard import Shard, carried_sharding


@dataclass(frozen=True)
class LayOut:
    """Shard every graph of a chain so that values fit where they pass from one to the next.

    Hidden states have one place in a layout. Shared values lie as the first layers that read them
    want, for all others too, and the pieces that make them are sharded last, towards that.
    """

    layout: Layout
    name: str = "shard"

    def run(self, chain: Chain) -> dict[str, MappedGraph]:
        """Mapped graphs by name, sizes still symbolic."""
        shard, combine = Shard(self.layout), Combine()
        alike = _alike(chain)
        places = self._passed_on(chain, alike)
        mapped: dict[str, MappedGraph] = {}
        calls = sorted(chain.calls, key=lambda call: _makes_shared(chain, call))
        for call in calls:
            name = call.text("body")
            if name in mapped:
                continue
            read = {own: alike[outside] for own, outside in _shared_reads(chain, call)}
            given = {own: places[outside] for own, outside in read.items() if outside in places}
            wanted = {outside: places[group] for outside, group in alike.items() if group in places}
            mapped[name] = combine.run(shard.run(chain.graphs[name], wanted, given))
            places |= {outside: mapped[name].shardings[own] for own, outside in read.items()}
        if chain.shared is not None:
            wanted = {outside: places[group] for outside, group in alike.items()}
            mapped[SHARED] = combine.run(shard.run(chain.graphs[SHARED], wanted))
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


def mesh_of(rows: int, columns: int, head_groups: int, layout: Layout) -> Mesh:
    """The mesh that fills a region: heads over the outer axis, their width over the inner one.

    Rows are grouped too where tiles travel, so that both sides of a product are cut alike. Cores
    left over by the grouping stay idle. Raises VerificationError for more groups than cores.
    """
    row_groups = head_groups if layout == "matmul" else 1
    if rows < row_groups or columns < head_groups:
        raise VerificationError(f"{head_groups} head groups on {rows} x {columns} cores")
    return Mesh(
        (
            Axis("yh", row_groups, "rows"),
            Axis("yd", rows // row_groups, "rows"),
            Axis("xh", head_groups, "columns"),
            Axis("xd", columns // head_groups, "columns"),
        )
    )
