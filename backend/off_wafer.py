"""What a program with streamed weights brings onto its wafers and sends off them.

Every run of a graph takes its weights in and, in the backward pass, sends its gradients off; all
replicas on a wafer take the same weights, and their gradients leave as a sum. Rates and times of
such streams are in streaming.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..ir.dims import size
from ..ir.graph import Graph, TensorType
from ..ir.program import Program
from .streaming import OffWafer, ends_s, off_wafer, piece_s


@dataclass(frozen=True)
class Streamed:
    """Bytes of one run of a graph: of the weights that come, and of the gradients that leave."""

    coming: float
    leaving: float


def streamed(graph: Graph) -> Streamed:
    """The weights that a graph reads and the gradients that it makes."""
    weights = (value.type for value in graph.inputs if value.role == "weight")
    made = (graph.types[output.name] for output in graph.outputs if output.role == "gradient")
    return Streamed(_total(weights), _total(made))


def waiting_s(program: Program, graph: Graph, working_s: float) -> float:
    """Seconds that a run of a graph waits for its stream, beside what it works."""
    bytes_ = streamed(graph)
    way = _way(program)
    each = piece_s(way, working_s, bytes_.coming, bytes_.leaving, stages_of_a_wafer(program))
    return float(each) - working_s


def stream_s(program: Program, graph: Graph) -> float:
    """Seconds that the stream of a run of a graph takes by itself."""
    bytes_ = streamed(graph)
    way, sharing = _way(program), stages_of_a_wafer(program)
    return float(piece_s(way, 0.0, bytes_.coming, bytes_.leaving, sharing))


def unhidden_s(program: Program) -> float:
    """Seconds that nothing hides: the first weights of a step, and its last gradients."""
    graphs = [
        streamed(program.graphs[call.text("body")].graph)
        for visit in program.visits
        for call in visit.calls
        if visit.way != "update"
    ]
    first = next((bytes_.coming for bytes_ in graphs if bytes_.coming), 0.0)
    last = next((bytes_.leaving for bytes_ in graphs[::-1] if bytes_.leaving), 0.0)
    return float(ends_s(_way(program), first, last, stages_of_a_wafer(program)))


def stream_energy_j(program: Program, graph: Graph) -> float:
    """Joules of the bytes of one run of a graph."""
    bytes_ = streamed(graph)
    return (bytes_.coming + bytes_.leaving) * _way(program).energy_j_per_byte


def _way(program: Program) -> OffWafer:
    way = off_wafer(program.hardware)
    assert way is not None
    return way


def stages_of_a_wafer(program: Program) -> float:
    """Stages of a wafer that stream at the same time."""
    stages: dict[int, set[int]] = {}
    for at, stage in enumerate(program.stages):
        for place in stage.places:
            stages.setdefault(place.island, set()).add(at)
    if not stages:
        return max(1.0, len(program.stages) / program.hardware.wafers)
    return float(max(len(of_one) for of_one in stages.values()))


def _total(types: Iterable[TensorType]) -> float:
    return float(sum(size(type_.bytes) for type_ in types))
