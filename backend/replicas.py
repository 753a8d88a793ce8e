"""Gradients are summed over the replicas of a stage, once a step.

Replicas form a ring in their order. Every core exchanges its gradients with the cores at the same
place of the two neighbours: a reduce-scatter and an all-gather of 2 (n - 1) steps over n replicas,
each with the n-th part of the bytes (Thakur et al., IJHPCA 2005, section 4.4).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..ir.expression import Work
from ..ir.floor import floor_of
from ..ir.graph import DTYPE_BYTES
from ..ir.hardware import Hardware
from ..ir.program import Program, Rectangle
from . import switched
from .core import compute_dtype, map_work
from .extents import Number
from .handover import meeting, together, word_hops_of
from .network import Flows, bound_s, fabric_of

if TYPE_CHECKING:
    from .flit_network import FlitNetwork

ADD = Work(arithmetic=1, functions=0)


@dataclass(frozen=True)
class GradientSum:
    """What summing one stage's gradients over its replicas takes.

    `seconds` are all of it, `compute_s` and `software_s` parts of that; `word_hops` of one replica
    over all links.
    """

    seconds: float = 0.0
    compute_s: float = 0.0
    software_s: float = 0.0
    word_hops: float = 0.0
    flows: int = 0
    link_energy_j: float = 0.0
    """Of links between wafers or to switches, of all replicas."""

    def and_then(self, other: "GradientSum") -> "GradientSum":
        """Both, one after the other."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return GradientSum(*(first + second for first, second in pairs))


def least_cycles(
    hardware: Hardware,
    gradients: Number,
    replicas: Number,
    rows: Number,
    columns: Number,
    rings: Number = 1,
) -> Number:
    """Cycles that summing a core's `gradients` (bytes) takes at least: at every step all cores of
    a row, or of a column, send over one link; through switches what it does take. `rings` of so
    many replicas each, which stand in turn, sum at the same time."""
    if floor_of(hardware).switched:
        group = switched.Group(replicas, columns * rings)
        exchange = switched.all_reduce(hardware, group, gradients)
        return exchange.seconds * hardware.core.clock_hz
    steps = 2 * (replicas - 1)
    words = rings * np.ceil(gradients / replicas / hardware.core.router.width_bytes)
    return steps * (words * np.minimum(rows, columns) + hardware.core.software.launch_cycles)


def gradient_sum(
    program: Program,
    places: Sequence[Rectangle],
    gradients: float,
    dtype: str,
    contended: bool,
    network: "FlitNetwork | None" = None,
    of_experts: float = 0.0,
) -> GradientSum:
    """Summing `gradients` bytes of `dtype` in each core of a stage over its replicas.

    With `contended` the exchanges of all pairs of replicas are in flight together; otherwise each
    has the wafer to itself; a `network`, if there is one, simulates them together. Replicas without
    places stand side by side in a row. Streamed gradients leave their wafer anyway, and are summed
    on their way to the memory where the optimizer runs.
    """
    if of_experts == 0:
        return _sum_of(program, [places], gradients, dtype, contended, network)
    ep = program.mapping.ep
    alike = [places[first::ep] for first in range(ep)]
    whole = _sum_of(program, [places], gradients - of_experts, dtype, contended, network)
    return whole.and_then(_sum_of(program, alike, of_experts, dtype, contended, network))


def _sum_of(
    program: Program,
    rings: Sequence[Sequence[Rectangle]],
    gradients: float,
    dtype: str,
    contended: bool,
    network: "FlitNetwork | None",
) -> GradientSum:
    """The sum over the replicas of each of some rings, which do so at the same time."""
    hardware = program.hardware
    if program.mapping.dp == len(rings) or gradients == 0:
        return GradientSum()
    if floor_of(hardware).switched:
        return _through_switches(program, gradients, len(rings))
    split = [_by_island(places) for places in rings]
    here, islands = [own for own, _ in split], max(count for _, count in split)
    if program.mapping.streaming or islands > 1:
        inner = _on_wafer(program, here, gradients, dtype, contended, network)
        if program.mapping.streaming:
            return inner
        return _over_islands(program, inner, gradients, rings)
    return _on_wafer(program, rings, gradients, dtype, contended, network)


def _through_switches(program: Program, gradients: float, rings: int) -> GradientSum:
    """Groups of devices at the same place of all replicas of a ring; all groups of a stage work at
    once."""
    hardware, columns = program.hardware, program.mapping.region[1]
    replicas = program.mapping.dp // rings
    group = switched.Group(replicas, columns * rings)
    exchange = switched.all_reduce(hardware, group, gradients)
    return GradientSum(
        seconds=float(exchange.seconds),
        flows=2 * (replicas - 1) * program.mapping.dp * columns,
        link_energy_j=columns * rings * float(switched.energy_j(hardware, exchange)),
    )


def _by_island(places: Sequence[Rectangle]) -> tuple[list[Rectangle], int]:
    """The rectangles of the island that has most of them, and how many islands there are."""
    islands: dict[int, list[Rectangle]] = {}
    for place in places:
        islands.setdefault(place.island, []).append(place)
    return max(islands.values(), key=len, default=[]), len(islands)


def _over_islands(
    program: Program, inner: GradientSum, gradients: float, rings: Sequence[Sequence[Rectangle]]
) -> GradientSum:
    """The sums of all islands exchanged between them, behind those inside each, while other stages
    exchange theirs over the same links."""
    from . import links

    whole = gradients * program.mesh.devices
    own = [{place.island for place in places} for places in rings]
    islands = max(own, key=len)
    spans = [{place.island for place in stage.places} for stage in program.stages]
    spans = spans if len(rings) == 1 else [*spans, *own[1:]]
    sharing = sum(min(span) < max(islands) and min(islands) < max(span) for span in spans)
    between = links.all_reduce(program.hardware, whole, len(islands), sharing)
    return replace(
        inner,
        seconds=inner.seconds + float(between.seconds),
        link_energy_j=len(rings) * float(between.energy_j),
    )


def _on_wafer(
    program: Program,
    rings: Sequence[Sequence[Rectangle]],
    gradients: float,
    dtype: str,
    contended: bool,
    network: "FlitNetwork | None",
) -> GradientSum:
    """Rings of replicas on one wafer, all at once if `contended`."""
    hardware, rows, columns = program.hardware, *program.mapping.region
    every = program.mapping.dp
    replicas = max(len(places) for places in rings) or every // len(rings)
    if replicas == 1:
        return GradientSum()
    fabric = fabric_of(hardware.wafer)
    if not any(rings):
        row = [Rectangle(0, at * columns, rows, columns) for at in range(every)]
        rings = [row[first :: len(rings)] for first in range(len(rings))]
        fabric = replace(fabric, columns=max(fabric.columns, every * columns))
    part = gradients / replicas
    pairs = [
        _flows(program, a, b, part)
        for places in rings
        for a, b in zip(places, (*places[1:], *places[:1]), strict=True)
    ]
    if contended:
        step_s = bound_s(fabric, together(pairs))
    else:
        step_s = max(bound_s(fabric, flows) for flows in pairs)
    if network is not None:
        step_s = max(step_s, float(network.finish_s(fabric, together(meeting(pairs))).max()))
    steps, core = 2 * (replicas - 1), hardware.core
    elements = np.ceil(part / DTYPE_BYTES[dtype])
    adding = map_work(core, compute_dtype(core, dtype), elements, ADD).cycles * (replicas - 1)
    compute_s = float(adding / core.clock_hz)
    software_s = steps * core.software.launch_cycles / core.clock_hz
    return GradientSum(
        seconds=steps * step_s + compute_s + software_s,
        compute_s=compute_s,
        software_s=software_s,
        word_hops=steps
        * sum(word_hops_of(f, core.router.width_bytes) for f in pairs)
        / (replicas * len(rings)),
        flows=steps * sum(len(flows) for flows in pairs),
    )


def _flows(program: Program, source: Rectangle, target: Rectangle, part: float) -> Flows:
    """Every core's part to the core at the same place of another rectangle."""
    mesh = program.mesh
    row, column = np.divmod(np.arange(mesh.rows * mesh.columns), mesh.columns)
    return Flows(
        source_row=source.row + row,
        source_column=source.column + column,
        target_row=target.row + row,
        target_column=target.column + column,
        bytes=np.full(len(row), part),
        release_s=np.zeros(len(row)),
    )
