"""Stages get their rectangles of cores."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.floor import Floor, floor_of
from ..ir.program import Placement, Program, Rectangle
from .placement import PlacementError
from .placement_islands import Pipelines, settle
from .placement_problem import Exchange
from .placement_rooms import row_of_groups
from .placement_traffic import anchors_of, exchanges_of


@dataclass(frozen=True)
class Place:
    """Put every stage of every replica on a wafer, and in its place there by CP-SAT.

    Minimizes the bytes of a step times the hops between centres: what stages hand over, the sums
    of gradients, each replica with the next one, and what goes to the ports of a wafer. Rectangles
    do not overlap and avoid dead cores and dies. In a cluster groups of devices stand in one order,
    tensor-parallel ones nearest, then replicas, then stages (Megatron-LM, arXiv 2104.04473), and
    the objective is the bytes that cross from node to node. A program whose rectangles do not fit
    is left unplaced.
    """

    seed: int = 0
    name: str = "place"

    def run(self, program: Program) -> Program:
        """The program with places and how good they are."""
        floor = floor_of(program.hardware)
        return _in_a_row(program, floor) if floor.switched else self._on_wafers(program)

    def _on_wafers(self, program: Program) -> Program:
        pipelines = Pipelines(
            program.hardware,
            program.mapping.dp,
            len(program.stages),
            program.mapping.region,
            exchanges_of(program),
            anchors_of(program),
            self.seed,
        )
        try:
            settled = settle(pipelines)
        except PlacementError:
            return program
        placement = Placement(settled.objective, settled.lower_bound, settled.hottest_bytes)
        return _placed(program, settled.rectangles, placement)


def _in_a_row(program: Program, floor: Floor) -> Program:
    """The program on a cluster. There is one order, so that nothing is better."""
    replicas, stages = program.mapping.dp, len(program.stages)
    rows, columns = program.mapping.region
    groups = row_of_groups(floor, columns, replicas * stages) if rows == 1 else None
    if groups is None:
        return program
    places = [groups[s * replicas + r] for r in range(replicas) for s in range(stages)]
    crossing = _through_nodes(floor, places, exchanges_of(program))
    total = sum(crossing.values()) / 2
    busiest = max(crossing.values(), default=0.0)
    return _placed(program, places, Placement(total, total, busiest))


def _through_nodes(
    floor: Floor, places: Sequence[Rectangle], exchanges: Sequence[Exchange]
) -> dict[int, float]:
    """Bytes that each node sends to others and takes from them, where every device exchanges its
    share with its like of another group."""
    node = floor.node or floor.columns
    passing: defaultdict[int, float] = defaultdict(float)
    for exchange in exchanges:
        first, second = places[exchange.first], places[exchange.second]
        share = exchange.weight_bytes / first.columns
        for device in range(first.columns):
            ends = (first.column + device) // node, (second.column + device) // node
            for end in ends if ends[0] != ends[1] else ():
                passing[end] += share
    return passing


def _placed(program: Program, places: Sequence[Rectangle], placement: Placement) -> Program:
    """The program with places, of which stage s of replica r has number r * stages + s."""
    count = len(program.stages)
    stages = (
        dataclasses.replace(stage, places=tuple(places[at::count]))
        for at, stage in enumerate(program.stages)
    )
    return dataclasses.replace(program.with_stages(stages), placement=placement)
