"""A chain of mapped graphs on one mesh or many: what each piece of it costs and holds.

A piece is one graph of the chain: the embedding, a kind of layer, the head. Figures may be arrays
over many meshes (extents.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..ir.hardware import Hardware
from ..ir.mapped import MappedGraph
from .bound import GraphBound, graph_bound
from .cost import Costing, OpCost
from .dram_traffic import Moved, moved_of
from .exchange import Places
from .extents import Number, Sizes, block_bytes
from .memory import GraphMemory, graph_memory, held_elsewhere
from .query_blocks import scores_room


@dataclass(frozen=True)
class PieceCosts:
    """Costs, bound and memory of one graph; the latter two are made when asked for."""

    hardware: Hardware
    mapped: MappedGraph
    sizes: Sizes
    elsewhere: frozenset[str] = frozenset()
    """Weights that it reads where another piece holds them."""
    streaming: bool = False
    """Whether weights come from off the wafer as they are read, and gradients leave it."""
    places: Places = ()
    """Where the replicas that divide experts lie, if that is known."""

    @property
    def costing(self) -> Costing:
        return Costing(self.hardware, self.mapped, self.sizes, self.streaming, self.places)

    @cached_property
    def costs(self) -> list[OpCost]:
        return self.costing.costs()

    @cached_property
    def bound(self) -> GraphBound:
        return graph_bound(self.mapped, self.costs)

    @cached_property
    def memory(self) -> GraphMemory:
        scores = scores_room(self.hardware)
        return graph_memory(self.mapped, self.sizes, self.elsewhere, scores)

    @cached_property
    def moved(self) -> Moved:
        """Bytes between the fullest core and DRAM in one run, of what lies there."""
        return moved_of(self.hardware.core, self.mapped, self.sizes)

    @cached_property
    def moved_whole(self) -> Moved:
        """Bytes between all cores together and DRAM, each byte counted once."""
        return moved_of(self.hardware.core, self.mapped, dict.fromkeys(self.sizes, 1))

    @cached_property
    def carried_bytes(self) -> Number:
        """Bytes of a core's block of what the graph carries out."""
        graph = self.mapped.graph
        carried = [output.name for output in graph.outputs if output.role == "carried"]
        shardings = self.mapped.shardings
        return sum(
            (block_bytes(graph.types[name], shardings[name], self.sizes) for name in carried),
            start=0.0,
        )


def pieces_of(
    hardware: Hardware,
    graphs: Mapping[str, MappedGraph],
    sizes: Sizes,
    streaming: bool = False,
    places: Places = (),
) -> dict[str, PieceCosts]:
    """The pieces of a chain by graph name."""
    elsewhere = held_elsewhere({name: mapped.graph for name, mapped in graphs.items()})
    return {
        name: PieceCosts(hardware, mapped, sizes, elsewhere[name], streaming, places)
        for name, mapped in graphs.items()
    }
