"""Gradients are summed over the replicas of a stage, once a step.

Replicas form a ring in their order. Every core exchanges its gradients with the cores at the same
place of the two neighbours: a reduce-scatter and an all-gather of 2 (n - 1) steps over n replicas,
each with the n-th part of the bytes (Thakur et al., IJHPCA 2005, section 4.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir.expression import Work
from ..ir.floor import floor_of
from ..ir.graph import DTYPE_BYTES
from ..ir.hardware import Hardware
from ..ir.program import Program, Rectangle
from . import switched
from .core import compute_dtype, map_work
from .extents import Number
from .handover import together, word_hops_of
from .network import Flows, bound_s, fabric_of

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


def least_cycles(
    hardware: Hardware, gradients: Number, replicas: Number, rows: Number, columns: Number
) -> Number:
    """Cycles that summing a core's `gradients` (bytes) takes at least: at every step all cores of
    a row, or of a column, send over one link; through switches what it does take."""
    if floor_of(hardware).switched:
        exchange = switched.all_reduce(hardware, switched.Group(replicas, columns), gradients)
        return exchange.seconds * hardware.core.clock_hz
    steps = 2 * (replicas - 1)
    words = np.ceil(gradients / replicas / hardware.core.router.width_bytes)
    return steps * (words * np.minimum(rows, columns) + hardware.core.software.launch_cycles)


def gradient_sum(
    program: Program, places: Sequence[Rectangle], gradients: float, dtype: str, contended: bool
) -> GradientSum:
    """Summing `gradients` bytes of `dtype` in each core of a stage over its replicas.

    With `contended` the exchanges of all pairs of replicas are in flight together; otherwise each
    has the wafer to itself. Replicas without places stand side by side in a row. Streamed gradients
    leave their wafer anyway, and are summed on their way to the memory where the optimizer runs.
    """
    replicas, hardware = program.mapping.dp, program.hardware
    if replicas == 1 or gradients == 0:
        return GradientSum()
    if floor_of(hardware).switched:
        return _through_switches(program, gradients)
    here, islands = _by_island(places)
    if program.mapping.streaming:
        return _on_wafer(program, here, gradients, dtype, contended)
    if islands > 1:
        inner = _on_wafer(program, here, gradients, dtype, contended)
        return _over_islands(program, inner, gradients, places)
    return _on_wafer(program, places, gradients, dtype, contended)


def _through_switches(program: Program, gradients: float) -> GradientSum:
    """Groups of devices at the same place of all replicas; all groups of a stage work at once."""
    hardware, columns = program.hardware, program.mapping.region[1]
    group = switched.Group(program.mapping.dp, columns)
    exchange = switched.all_reduce(hardware, group, gradients)
    return GradientSum(
        seconds=float(exchange.seconds),
        flows=2 * (program.mapping.dp - 1) * program.mapping.dp * columns,
        link_energy_j=columns * float(switched.energy_j(hardware, exchange)),
    )


def _by_island(places: Sequence[Rectangle]) -> tuple[list[Rectangle], int]:
    """The rectangles of the island that has most of them, and how many islands there are."""
    islands: dict[int, list[Rectangle]] = {}
    for place in places:
        islands.setdefault(place.island, []).append(place)
    return max(islands.values(), key=len, default=[]), len(islands)


def _over_islands(
    program: Program, inner: GradientSum, gradients: float, places: Sequence[Rectangle]
) -> GradientSum:
    """The sums of all islands exchanged between them, behind those inside each, while other stages
    exchange theirs over the same links."""
    from . import links

    whole, islands = gradients * program.mesh.devices, {place.island for place in places}
    spans = [{place.island for place in stage.places} for stage in program.stages]
    sharing = sum(min(own) < max(islands) and min(islands) < max(own) for own in spans)
    between = links.all_reduce(program.hardware, whole, len(islands), sharing)
    return replace(
        inner,
        seconds=inner.seconds + float(between.seconds),
        link_energy_j=float(between.energy_j),
    )


def _on_wafer(
    program: Program, places: Sequence[Rectangle], gradients: float, dtype: str, contended: bool
) -> GradientSum:
    """A ring of the replicas on one wafer."""
    hardware, rows, columns = program.hardware, *program.mapping.region
    replicas = len(places) or program.mapping.dp
    if replicas == 1:
        return GradientSum()
    fabric = fabric_of(hardware.wafer)
    if len(places) < replicas:
        places = [Rectangle(0, at * columns, rows, columns) for at in range(replicas)]
        fabric = replace(fabric, columns=max(fabric.columns, replicas * columns))
    part = gradients / replicas
    following = (*places[1:], places[0])
    pairs = [_flows(program, a, b, part) for a, b in zip(places, following, strict=True)]
    if contended:
        step_s = bound_s(fabric, together(pairs))
    else:
        step_s = max(bound_s(fabric, flows) for flows in pairs)
    steps, core = 2 * (replicas - 1), hardware.core
    elements = np.ceil(part / DTYPE_BYTES[dtype])
    adding = map_work(core, compute_dtype(core, dtype), elements, ADD).cycles * (replicas - 1)
    compute_s = float(adding / core.clock_hz)
    software_s = steps * core.software.launch_cycles / core.clock_hz
    return GradientSum(
        seconds=steps * step_s + compute_s + software_s,
        compute_s=compute_s,
        software_s=software_s,
        word_hops=steps * sum(word_hops_of(f, core.router.width_bytes) for f in pairs) / replicas,
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
