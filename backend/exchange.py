"""Tokens between the replicas that divide the experts of a layer: how much goes, and how long.

Cores at the same place of all replicas of a group exchange with each other. A token goes once to
each replica that holds an expert of its choice, and what that replica makes of it comes back as
one sum. Cores that hold the same send a part each, which those that need the whole then gather.
"""

from collections import Counter
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..ir.dims import size
from ..ir.floor import floor_of
from ..ir.graph import Graph, Op
from ..ir.hardware import Hardware
from ..ir.kinds import indices_of
from ..ir.mapped import EXPERTS, Direction, Routed
from ..ir.operators.load import choices, load_of
from ..ir.program import Program, Rectangle
from . import collectives, links, switched
from .blocks import MESH_AXES, Blocks
from .collectives import Line
from .core import CoreWork
from .exchange_routes import routes_of
from .extents import Number, block_bytes, copies, extent, reached
from .op_cost import OpCost

Places = tuple[tuple[Rectangle, ...], ...]
"""The rectangles of every replica, stage by stage."""


@dataclass(frozen=True)
class Exchanged:
    """Seconds of a message to all replicas of a group, and what one replica's part of it costs:
    launches, words over its busiest link and ramp, words times hops, joules of other links."""

    seconds: Number
    launches: Number
    link_words: Number
    ramp_words: Number
    word_hops: Number
    link_energy_j: Number


def places_of(program: Program) -> Places:
    """Where the stages of a program lie; empty before placement, or where experts are whole."""
    places = tuple(stage.places for stage in program.stages)
    return places if program.mapping.ep > 1 and all(places) else ()


def shares(op: Op, replicas: int) -> tuple[float, ...]:
    """The part of all choices that falls on the experts of each of some replicas, which hold equal
    runs of them."""
    experts, total = op.integer("experts"), op.integer("total")
    length, load = -(-experts // replicas), load_of(op)
    each = [1 / total] * total if load is None else [float(x) for x in choices(load, 1)]
    runs = (each[at * length : min((at + 1) * length, experts)] for at in range(replicas))
    return tuple(sum(run) for run in runs)


def values_of(graph: Graph, op: Op) -> list[tuple[str, int]]:
    """The values that go, each with the choices that one of its elements follows from."""
    indices = indices_of(op)
    sizes = dict(zip(indices.operands[0], graph.types[op.operands[0]].shape, strict=True))
    single = set(op.text("chosen"))
    chosen = prod(size(sizes[letter]) for letter in single)
    letters = (indices.result, *indices.others)
    names = op.operands[1:] if op.kind == "dispatch" else op.results
    return [
        (name, 1 if single <= set(own) and source != op.operands[0] else chosen)
        for name, own, source in zip(names, letters, op.operands[1:], strict=True)
    ]


def sent_bytes(graph: Graph, op: Op, replicas: int) -> list[float]:
    """Bytes that a replica sends to each of those that divide experts, or gets from each."""
    total = op.integer("total")
    return [
        sum(
            reached(share, chosen, total) * size(graph.types[name].bytes)
            for name, chosen in values_of(graph, op)
        )
        for share in shares(op, replicas)
    ]


@dataclass(frozen=True)
class Exchange:
    """The cost of sending tokens and of collecting them, on one mesh or many."""

    hardware: Hardware
    blocks: Blocks
    places: Places = ()

    def cost(self, op: Op, work: CoreWork) -> OpCost:
        """What an operator costs, whose values a core reads and writes as `work` says."""
        found = self.of(op)
        software, clock_hz = self.hardware.core.software, self.hardware.core.clock_hz
        launch, network = found.launches * software.launch_cycles, found.seconds * clock_hz
        return OpCost(
            op=op,
            core_cycles=launch,
            launch_cycles=launch,
            network_cycles=network,
            cycles=launch + network,
            work=work,
            columns_words=np.minimum(found.link_words, network),
            ramp_words=np.minimum(found.ramp_words, network),
            word_hops=found.word_hops,
            link_energy_j=found.link_energy_j,
            host_cycles=np.minimum(found.launches, 1.0) * software.host_cycles,
        )

    def of(self, op: Op) -> Exchanged:
        """What an operator takes; several meshes, or a program that is not placed, as if a group
        lay as compactly as it can."""
        replicas = self.blocks.sizes.get(EXPERTS, 1)
        if floor_of(self.hardware).switched:
            return self._switched(op, replicas)
        if self.places:
            return self._placed(op, int(np.asarray(replicas)))
        return self._compact(op, replicas)

    # What is sent.

    def _holders(self, name: str, along: Direction) -> Number:
        """Cores of a row or column that hold the same of a value."""
        cut = {x for axes in self.blocks.mapped.shardings[name].axes for x in axes}
        return extent((x for x in MESH_AXES[along] if x not in cut), self.blocks.sizes)

    def _own(self, op: Op, name: str) -> Number:
        """Bytes of a core's block of a value, those of its own tokens."""
        mapped = self.blocks.mapped
        sharding = replace(mapped.shardings[name], routed=None)
        return block_bytes(mapped.graph.types[name], sharding, self.blocks.sizes)

    def _sent(self, op: Op) -> Number:
        """Bytes that a core sends to its like of the replica that gets most, where all cores send
        equal parts of what they hold in common."""
        total: Number = 0.0
        for name, chosen in values_of(self.blocks.mapped.graph, op):
            same = self._holders(name, "rows") * self._holders(name, "columns")
            total = total + self._own(op, name) / same * self._most_reached(op, chosen)
        return total

    def _most_reached(self, op: Op, chosen: int) -> Number:
        """The part of tokens that go to the replica that gets most."""

        def most(count: float) -> float:
            each = shares(op, int(count))
            return max(reached(share, chosen, op.integer("total")) for share in each)

        return np.vectorize(most, otypes=[float])(self.blocks.sizes.get(EXPERTS, 1))

    def _gathering(self, op: Op) -> Number:
        """Cycles in which cores that hold the same put the parts together that they have got."""
        cycles: Number = 0.0
        for along in MESH_AXES:
            words: Number = 0.0
            cores: Number = 1
            for name, chosen in values_of(self.blocks.mapped.graph, op):
                same = self._holders(name, along)
                cores = np.maximum(cores, same)
                words = words + self._arrived(op, name, chosen) * (np.asarray(same) > 1)
            die = self.hardware.wafer.die
            line = Line(cores, die.rows if along == "rows" else die.columns)
            found = collectives.all_gather(self.hardware, line, np.ceil(words))
            cycles = cycles + found.cycles + found.launches * self._launch_cycles
        return cycles

    @property
    def _launch_cycles(self) -> float:
        return self.hardware.core.software.launch_cycles

    def _arrived(self, op: Op, name: str, chosen: int) -> Number:
        """Words of a value's block that come to a core, from all replicas of its group."""
        many: Number = 1.0
        if op.kind == "dispatch":
            routed = Routed(chosen, op.integer("total"))
            many = copies(routed, self.blocks.sizes.get(EXPERTS, 1))
        return self._own(op, name) * many / self.hardware.core.router.width_bytes

    # Devices round switches.

    def _switched(self, op: Op, replicas: Number) -> Exchanged:
        """Pairs of devices after each other; holders side by side send a part each, if that is
        faster."""
        columns = extent(MESH_AXES["columns"], self.blocks.sizes)
        group, beside = switched.Group(replicas, columns), switched.Group(columns)
        parts, whole, arrived = self._sent(op), 0.0, 0.0
        for name, chosen in values_of(self.blocks.mapped.graph, op):
            whole = whole + self._own(op, name) * self._most_reached(op, chosen)
            width = self.hardware.core.router.width_bytes
            same = np.asarray(self._holders(name, "columns")) > 1
            arrived = arrived + self._arrived(op, name, chosen) * width * same
        ways = [
            (switched.all_to_all(self.hardware, group, replicas * whole), None),
            (
                switched.all_to_all(self.hardware, group, replicas * parts),
                switched.all_gather(self.hardware, beside, arrived),
            ),
        ]
        (first, _), (second, gathered) = ways
        assert gathered is not None
        apart = np.asarray(second.seconds + gathered.seconds) < first.seconds
        joules = [
            columns * switched.energy_j(self.hardware, sent) / replicas
            + (0.0 if more is None else switched.energy_j(self.hardware, more))
            for sent, more in ways
        ]
        busy = 1.0 * (np.asarray(replicas) > 1)
        seconds = np.where(apart, second.seconds + gathered.seconds, first.seconds)
        transfer_s = np.where(apart, second.transfer_s + gathered.transfer_s, first.transfer_s)
        return Exchanged(
            seconds=seconds * busy,
            launches=busy,
            link_words=transfer_s * busy * self.hardware.core.clock_hz,
            ramp_words=0.0,
            word_hops=0.0,
            link_energy_j=np.where(apart, joules[1], joules[0]) * busy,
        )

    # Rectangles on wafers.

    def _compact(self, op: Op, replicas: Number) -> Exchanged:
        """A group in a square as far as a wafer has room, and on neighbouring wafers beyond that:
        half of it sends to the other half over the border between them, and every core to all."""
        hardware, floor = self.hardware, floor_of(self.hardware)
        rows, columns = (extent(axes, self.blocks.sizes) for axes in MESH_AXES.values())
        room = np.maximum(1, (floor.rows // rows) * (floor.columns // columns))
        near = np.minimum(replicas, room)
        wafers = np.ceil(np.asarray(replicas) / near)
        width, clock_hz = hardware.core.router.width_bytes, hardware.core.clock_hz
        words = np.ceil(self._sent(op) / width)
        over_border = near**1.5 / 4 * np.sqrt(rows * columns) * words
        ramp = (replicas - 1) * words
        hops = np.sqrt(rows * columns * np.maximum(near - 1, 0))
        router = hardware.core.router
        cycles = np.maximum(over_border, ramp) + hops * router.hop_cycles + 2 * router.ramp_cycles
        leaving = near * (replicas - near) * words * width * rows * columns
        passed = _between_wafers(hardware, leaving, wafers)
        busy = np.asarray(replicas) > 1
        seconds = np.maximum(cycles / clock_hz, passed.seconds) + self._gathering(op) / clock_hz
        return Exchanged(
            seconds=seconds * busy,
            launches=(replicas - 1.0) * busy,
            link_words=over_border * busy,
            ramp_words=ramp * busy,
            word_hops=(near - 1) * words * rows * columns * hops * 2 / 3 * busy,
            link_energy_j=passed.energy_j / replicas * busy,
        )

    def _placed(self, op: Op, replicas: int) -> Exchanged:
        """The stage whose groups take longest, all of them at once."""
        total, width = op.integer("total"), self.hardware.core.router.width_bytes
        sent = np.zeros(replicas)
        for name, chosen in values_of(self.blocks.mapped.graph, op):
            same = self._holders(name, "rows") * self._holders(name, "columns")
            parts = np.array([reached(share, chosen, total) for share in shares(op, replicas)])
            sent = sent + parts * float(self._own(op, name) / same)
        rows, columns = (int(extent(axes, self.blocks.sizes)) for axes in MESH_AXES.values())
        message = tuple(float(np.ceil(bytes_ / width)) for bytes_ in sent)
        stages = Counter(_moved(self.hardware, places) for places in self.places)
        found = {
            places: routes_of(self.hardware, places, message, rows, columns) for places in stages
        }
        worst = max(found.values(), key=lambda routes: routes.seconds)
        every = sum(stages.values()) * len(self.places[0])
        return Exchanged(
            seconds=worst.seconds + float(self._gathering(op)) / self.hardware.core.clock_hz,
            launches=replicas - 1.0,
            link_words=worst.link_words,
            ramp_words=max(sum(message) - min(message), (replicas - 1) * max(message)),
            word_hops=sum(found[at].word_hops * many for at, many in stages.items()) / every,
            link_energy_j=sum(found[at].link_energy_j * n for at, n in stages.items()) / every,
        )


def _moved(hardware: Hardware, places: tuple[Rectangle, ...]) -> tuple[Rectangle, ...]:
    """The same rectangles moved by whole dies, if they lie on one wafer, as far as they can be to
    its corner: where groups lie alike, all takes as long."""
    die, first = hardware.wafer.die, places[0].island
    if any(place.island != first for place in places):
        return places
    row = min(place.row for place in places) // die.rows * die.rows
    column = min(place.column for place in places) // die.columns * die.columns
    return tuple(
        replace(place, row=place.row - row, column=place.column - column, island=0)
        for place in places
    )


def _between_wafers(hardware: Hardware, leaving: Number, wafers: Number) -> links.Passage:
    """What each of some neighbouring wafers sends to all others of them."""
    several = np.asarray(wafers) > 1
    if hardware.link is None or not several.any():
        return links.Passage(0.0 * several, 0.0 * several)
    return links.all_to_all(hardware, leaving * several, np.maximum(wafers, 1))
