"""Weights that come from off the wafer for every pass over a layer (weight streaming).

A layer's weights come in for each pass of a micro-batch over it, forward and backward; its
gradients leave behind each backward pass and are summed in the memory off the wafer, where the
optimizer runs (Lie, "Cerebras Architecture Deep Dive", IEEE Micro 43(3), 2023; arXiv 2409.00287).
While a piece of the model runs, the next one's weights come in and the last one's gradients leave.
Which bytes the pieces of a program have is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.hardware import Edge, Hardware, Wafer
from ..ir.technology import Memory
from .extents import Number


@dataclass(frozen=True)
class OffWafer:
    """The way between a wafer and the memory off it."""

    bytes_per_s: float
    """In one direction; the other one is not slowed down by it."""
    latency_s: float
    energy_j_per_byte: float
    capacity_bytes: float
    """Infinite where nothing is said of what is behind the ports."""


@dataclass(frozen=True)
class EdgeWay:
    """The ports of one edge of a wafer, and the external memories behind them if any are stated."""

    edge: Edge
    bytes_per_s: float
    """No faster than the ports, nor than the memories."""
    port_energy_j_per_byte: float
    memory_energy_j_per_byte: float


def edge_ways(wafer: Wafer) -> list[EdgeWay]:
    """Every edge with ports and external memories behind them, all edges with ports where no such
    memory is stated."""
    memories = [memory for memory in wafer.memories if memory.kind == "external"]
    edges = {memory.via for memory in memories} or {io.edge for io in wafer.io}
    found: list[EdgeWay] = []
    known: list[Edge] = [io.edge for io in wafer.io if io.edge in edges]
    for edge in dict.fromkeys(known):
        ports = [io for io in wafer.io if io.edge == edge]
        behind = [memory for memory in memories if memory.via == edge]
        through = sum(io.ports * io.bandwidth_bytes_per_s for io in ports)
        rate = min(through, _sustained_bytes_per_s(behind))
        if rate > 0:
            each = sum(io.ports * io.bandwidth_bytes_per_s * io.energy_j_per_byte for io in ports)
            found.append(EdgeWay(edge, rate, each / through, _energy_j_per_byte(behind)))
    return found


def off_wafer(hardware: Hardware) -> OffWafer | None:
    """All ways over the edges of a wafer together; None without ports."""
    ways = edge_ways(hardware.wafer)
    memories = [memory for memory in hardware.wafer.memories if memory.kind == "external"]
    bytes_per_s = sum(way.bytes_per_s for way in ways)
    if bytes_per_s == 0:
        return None
    joules_per_s = sum(
        way.bytes_per_s * (way.port_energy_j_per_byte + way.memory_energy_j_per_byte)
        for way in ways
    )
    return OffWafer(
        bytes_per_s=bytes_per_s,
        latency_s=max((memory.latency_s for memory in memories), default=0.0),
        energy_j_per_byte=joules_per_s / bytes_per_s,
        capacity_bytes=sum(memory.capacity_bytes for memory in memories) or np.inf,
    )


def _sustained_bytes_per_s(memories: Sequence[Memory]) -> float:
    """Of all memories behind an edge; without bound where one keeps up with any ports."""
    rates = [memory.bandwidth_bytes_per_s for memory in memories]
    if not rates or None in rates:
        return np.inf
    return sum(memory.sustained * (memory.bandwidth_bytes_per_s or 0.0) for memory in memories)


def _energy_j_per_byte(memories: Sequence[Memory]) -> float:
    """Of memories that share the bytes as they share the capacity."""
    capacity = sum(memory.capacity_bytes for memory in memories)
    joules = sum(memory.capacity_bytes * memory.energy_j_per_byte for memory in memories)
    return joules / capacity if capacity else 0.0


def piece_s(
    way: OffWafer,
    working_s: Number,
    coming_bytes: Number,
    leaving_bytes: Number = 0.0,
    sharing: Number = 1,
) -> Number:
    """Seconds of a piece that takes `working_s` by itself: those, or what it takes to bring in its
    weights or to send off its gradients, which others hide, if that is more.

    `sharing`: how many stages of a wafer stream at a time. Numbers, or arrays over pieces.
    """
    moving_bytes = np.maximum(coming_bytes, leaving_bytes)
    return np.maximum(working_s, sharing * moving_bytes / way.bytes_per_s)


def ends_s(
    way: OffWafer, first_bytes: Number, last_bytes: Number = 0.0, sharing: Number = 1
) -> Number:
    """Seconds that nothing hides, once a step: the first weights come, the last gradients leave."""
    latency_s = way.latency_s * (1.0 + (np.asarray(last_bytes) > 0))
    return latency_s + sharing * (first_bytes + last_bytes) / way.bytes_per_s
