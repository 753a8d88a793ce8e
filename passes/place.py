"""Stages get their rectangles of cores."""

import dataclasses
from dataclasses import dataclass

from ..ir.program import Placement, Program
from .placement import PlacementError, place
from .placement_problem import Exchange, PlacementProblem


@dataclass(frozen=True)
class Place:
    """Put every stage of every replica on the wafer, by CP-SAT.

    Minimizes the bytes that stages exchange times the hops between their centres; in training also
    the bytes of gradients that replicas exchange, each with the next one. Rectangles do
    not overlap and avoid dead cores and dies. A program whose rectangles do not fit the wafer is
    left unplaced.
    """

    seed: int = 0
    name: str = "place"

    def run(self, program: Program) -> Program:
        """The program with places and how good they are."""
        stages, replicas = len(program.stages), program.mapping.dp
        exchanges = tuple(
            Exchange(
                replica * stages + transfer.source,
                replica * stages + transfer.target,
                transfer.bytes,
            )
            for replica in range(replicas)
            for transfer in program.transfers
        ) + _sums(program)
        sizes = (program.mapping.region,) * (stages * replicas)
        try:
            placed = place(
                PlacementProblem(program.hardware.wafer, sizes, exchanges, seed=self.seed)
            )
        except PlacementError:
            return program
        found = [
            dataclasses.replace(stage, places=tuple(placed.rectangles[at::stages]))
            for at, stage in enumerate(program.stages)
        ]
        placement = Placement(placed.objective, placed.lower_bound)
        return dataclasses.replace(program, stages=tuple(found), placement=placement)


def _sums(program: Program) -> tuple[Exchange, ...]:
    """What sums of gradients over the ring of replicas exchange in a step: 2 (n - 1) times the
    n-th part of a stage's gradients."""
    stages, replicas = len(program.stages), program.mapping.dp
    found: list[Exchange] = []
    for at, stage in enumerate(program.stages):
        of_core = 0 if stage.memory is None else stage.memory.gradient_bytes
        bytes_ = of_core * program.mesh.devices * 2 * (replicas - 1) // replicas
        pairs = [(r, (r + 1) % replicas) for r in range(replicas if replicas > 2 else replicas - 1)]
        if bytes_:
            found.extend(Exchange(a * stages + at, b * stages + at, bytes_) for a, b in pairs)
    return tuple(found)
