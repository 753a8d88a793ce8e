"""Memory beside the cores' SRAM that a wafer has nearest: on or beside every die, or behind the
ports of the wafer's edges.

What lies there comes through SRAM: a core works on one piece of it while the next one comes. The
memory of a die serves its cores alone, each with its share of the bandwidth; that of the edges
serves the whole wafer, through the ports and the links round a region. What graphs move is in
dram_traffic.py, what a program does in in_dram.py. GPUs have their memory for their core's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.hardware import Edge, Hardware, Wafer
from ..ir.technology import Memory
from .dram_traffic import Moved
from .extents import Number
from .memory import GraphMemory
from .streaming import edge_ways


@dataclass(frozen=True)
class Mesh:
    """The links between the edges of a wafer and its cores."""

    rows: int
    columns: int
    """Cores of the wafer."""
    die_rows: int
    die_columns: int
    link_bytes_per_s: float
    crossing_share: float
    """Of a link between dies."""
    edges: frozenset[Edge]

    def into(self, rows: Number, columns: Number) -> Number:
        """Bytes a second that links bring to a region of cores, each core as many. They cross its
        border, from all sides or, where it spans the wafer, from the edges with ports; further
        in, from die to die, they cross ever smaller borders with ever less to bring."""
        whole = np.asarray(rows) >= self.rows, np.asarray(columns) >= self.columns
        down = np.where(whole[0], len(self.edges & {"north", "south"}), 2)
        across = np.where(whole[1], len(self.edges & {"west", "east"}), 2)
        shares = [np.where(spans, 1.0, self.crossing_share) for spans in whole]
        lines = down * shares[0] * columns + across * shares[1] * rows
        for depth in range(1, max(self.rows // self.die_rows, self.columns // self.die_columns)):
            inner_rows = np.maximum(rows - depth * down * self.die_rows, 0)
            inner_columns = np.maximum(columns - depth * across * self.die_columns, 0)
            part = inner_rows * inner_columns / (np.asarray(rows) * columns)
            border = self.crossing_share * (down * inner_columns + across * inner_rows)
            with np.errstate(divide="ignore", invalid="ignore"):
                lines = np.where(part > 0, np.minimum(lines, border / part), lines)
        return lines * self.link_bytes_per_s


@dataclass(frozen=True)
class Dram:
    """The memory of one die, or of the edges of one wafer."""

    name: str
    part: str
    """The die or the wafer that it belongs to."""
    on_die: bool
    cores: int
    """That it serves."""
    bytes_per_s: float
    """As programs reach it."""
    duplex: bool
    """Whether what comes and what goes do not slow each other down: where ports alone limit it."""
    latency_s: float
    """Until the first byte is with a core."""
    capacity_bytes: float
    energy_j_per_byte: float
    port_energy_j_per_byte: float = 0.0
    edges: tuple[tuple[Edge, float], ...] = ()
    """Of the edges: the share of the bytes that each brings."""
    side: float = 0.0
    """Of a die's memory that is beside it: hops to a core on average."""
    mesh: Mesh | None = None
    """Of the edges: what takes bytes from there to the cores."""

    @property
    def core_capacity_bytes(self) -> float:
        """A core's share of a die's memory; of the edges any core may have all."""
        return self.capacity_bytes / self.cores if self.on_die else np.inf

    @property
    def where(self) -> str:
        """In words."""
        kind = "on die" if self.on_die else "at the edge of wafer"
        return f"{self.name} {kind} {self.part}"

    def hops(self, wafer: Wafer, row: float, column: float) -> float:
        """Hops of a byte to a core of the wafer, on average: straight in from an edge."""
        ways = {
            "north": row + 1,
            "south": wafer.usable_rows - row,
            "west": column + 1,
            "east": wafer.usable_columns - column,
        }
        return self.side if self.on_die else sum(share * ways[edge] for edge, share in self.edges)

    def into(self, rows: Number, columns: Number) -> Number:
        """Bytes a second that links bring to a region of cores."""
        return np.inf if self.mesh is None else self.mesh.into(rows, columns)

    def seconds(self, read: Number, written: Number) -> Number:
        """To move some bytes of the whole memory."""
        both = np.maximum(read, written) if self.duplex else np.asarray(read) + written
        return both / self.bytes_per_s


@dataclass(frozen=True)
class Use:
    """What lies in the memory; figures of one plan, or arrays over many."""

    weights: Number = 0
    """1 where weights do, and their gradients and the optimizer's states."""
    cache: Number = 0
    microbatches: Number = 1
    parts: tuple[Number, Number] = (1, 1)
    """That replicas keep of weights, and of gradients."""
    copies: Number = 1
    """Replicas of a stage that share a wafer: weights that several take come once."""
    sharing: Number = 1
    """Stages of a wafer that use its edges at the same time."""

    def bytes_of(self, moved: Moved, copies: Number = 1) -> tuple[Number, Number]:
        """Bytes that a run of a graph reads and writes, of so many replicas together. Gradients are
        added to those of the micro-batches before."""
        weights, gradients = (np.asarray(self.weights) / part for part in self.parts)
        before = 1.0 - 1.0 / np.asarray(self.microbatches)
        made = copies * gradients * moved.gradients
        cache = copies * np.asarray(self.cache)
        read = weights * moved.read_by(copies) + before * made + cache * moved.cache_read
        return read, weights * moved.written + made + cache * moved.cache_written


def moving_s(dram: Dram, core: Moved, whole: Moved, use: Use, into: Number) -> Number:
    """Seconds in which the memory moves what one run of a graph asks for: the bytes of the fullest
    core at its share of a die's bandwidth, or the `whole` bytes through the ports of the edges and
    over links that bring them `into` a region at so many bytes a second, whichever is longer."""
    if dram.on_die:
        return dram.seconds(*use.bytes_of(core)) * dram.cores
    ports = use.sharing * dram.seconds(*use.bytes_of(whole, use.copies))
    return np.maximum(ports, np.maximum(*use.bytes_of(whole)) / into)


def first_pieces(memories: Iterable[GraphMemory]) -> tuple[Number, Number]:
    """Of graphs in the order in which they run: the piece of a weight, and of a cache, that the
    first to have any begins with."""
    weights: Number = 0.0
    cache: Number = 0.0
    for memory in memories:
        weights = weights if np.any(weights) else memory.weight_piece
        cache = cache if np.any(cache) else memory.cache_piece
    return weights, cache


def first_s(dram: Dram, piece_bytes: Number, devices: Number) -> Number:
    """Seconds that nothing hides, once a step: until every core of a region has a first piece."""
    served = np.where(dram.on_die, dram.cores, devices)
    return dram.latency_s + np.asarray(piece_bytes) * served / dram.bytes_per_s


def dram_of(hardware: Hardware) -> Dram | None:
    """The nearest memory beside SRAM that a wafer has and that a spec says enough of; None where
    it has none, or none but that which its cores' tensors lie in."""
    if hardware.core.multiprocessors is not None:
        return None
    return _of_die(hardware) or _of_edges(hardware)


def _of_die(hardware: Hardware) -> Dram | None:
    """All memories of a die, each with the share of the bytes that its bandwidth is of all."""
    die, core = hardware.wafer.die, hardware.core
    memories = [memory for memory in die.memories if memory.bandwidth_bytes_per_s]
    if not memories:
        return None
    rates = [m.sustained * (m.bandwidth_bytes_per_s or 0.0) for m in memories]
    beside = any(memory.kind == "beside" for memory in memories)
    links = max(die.rows, die.columns) * core.router.width_bytes * core.clock_hz
    hops = max(die.rows, die.columns) / 2 if beside else 0.0
    latency_s = max(memory.latency_s for memory in memories)
    shares = [rate / sum(rates) for rate in rates]
    joules = sum(s * m.energy_j_per_byte for s, m in zip(shares, memories, strict=True))
    return Dram(
        name=_names(memories),
        part=die.name,
        on_die=True,
        cores=die.rows * die.columns,
        bytes_per_s=min(sum(rates), links) if beside else sum(rates),
        duplex=False,
        latency_s=latency_s + hops * core.router.hop_cycles / core.clock_hz,
        capacity_bytes=sum(memory.capacity_bytes for memory in memories),
        energy_j_per_byte=joules,
        side=hops,
    )


def _of_edges(hardware: Hardware) -> Dram | None:
    """Memories behind the ports of edges, each of which brings as much of every byte as it is fast;
    from the edge to a core it is half of the wafer on average."""
    wafer, core, ways = hardware.wafer, hardware.core, edge_ways(hardware.wafer)
    memories = [memory for memory in wafer.memories if memory.kind == "external"]
    if not ways or not memories or wafer.switch is not None:
        return None
    rate = sum(way.bytes_per_s for way in ways)
    shares: dict[Edge, float] = {way.edge: way.bytes_per_s / rate for way in ways}
    across = sum(share for edge, share in shares.items() if edge in ("west", "east"))
    hops = (across * wafer.usable_columns + (1 - across) * wafer.usable_rows) / 2
    crossed = (across * wafer.columns + (1 - across) * wafer.rows) / 2
    way_s = hops * core.router.hop_cycles / core.clock_hz + crossed * wafer.link.latency_s
    return Dram(
        name=_names(memories),
        part=wafer.name,
        on_die=False,
        cores=wafer.usable_rows * wafer.usable_columns,
        bytes_per_s=rate,
        duplex=all(memory.bandwidth_bytes_per_s is None for memory in memories),
        latency_s=max(memory.latency_s for memory in memories) + way_s,
        capacity_bytes=sum(memory.capacity_bytes for memory in memories),
        energy_j_per_byte=sum(shares[w.edge] * w.memory_energy_j_per_byte for w in ways),
        port_energy_j_per_byte=sum(shares[w.edge] * w.port_energy_j_per_byte for w in ways),
        edges=tuple(shares.items()),
        mesh=Mesh(
            *(wafer.usable_rows, wafer.usable_columns, wafer.die.rows, wafer.die.columns),
            core.router.width_bytes * core.clock_hz,
            min(1.0, wafer.crossing_share),
            frozenset(shares),
        ),
    )


def _names(memories: Sequence[Memory]) -> str:
    return " and ".join(dict.fromkeys(memory.name for memory in memories))
