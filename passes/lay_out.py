"""The chain of graphs, sharded in one layout: bodies first, then what feeds them."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.errors import VerificationError
from ..ir.program import Axis, Layout, MappedGraph, Mesh, Sharding
from .combine import Combine
from .pieces import SHARED, Chain
from .shard import Shard


@dataclass(frozen=True)
class LayOut:
    """Shard every graph of a chain so that values fit where they pass from one to the next.

    Hidden states have one place in a layout. Shared values lie as the layers want them, and the
    piece that makes them is sharded last, towards that.
    """

    layout: Layout
    name: str = "shard"

    def run(self, chain: Chain) -> dict[str, MappedGraph]:
        """Mapped graphs by name, sizes still symbolic."""
        shard, combine = Shard(self.layout), Combine()
        mapped = {
            name: combine.run(shard.run(graph))
            for name, graph in chain.graphs.items()
            if name != SHARED
        }
        if chain.shared is not None:
            wanted = _wanted(chain, mapped)
            mapped[SHARED] = combine.run(shard.run(chain.graphs[SHARED], wanted))
        return mapped


def _wanted(chain: Chain, mapped: Mapping[str, MappedGraph]) -> dict[str, Sharding]:
    """How the layers want each shared value; raises VerificationError if they disagree."""
    wanted: dict[str, Sharding] = {}
    for call in chain.calls:
        body = mapped[call.text("body")]
        inputs = [i for i in body.graph.inputs if i.role in ("carried", "shared")]
        for value, name in zip(inputs, call.operands, strict=True):
            sharding = body.shardings[value.name]
            if value.role == "shared" and wanted.setdefault(name, sharding) != sharding:
                raise VerificationError(f"layers want %{name} in different places")
    return wanted


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
