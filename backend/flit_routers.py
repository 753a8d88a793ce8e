"""A wafer's routers as the cycle-level simulator (noc/) has them.

The simulator's shortest router and link take three of its cycles, and a core's hop may take one.
So a quarter of the core's cycle is a cycle of the simulator, and a word goes in four pieces: a
message alone on the network then takes exactly what `network.zero_load_s` says.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import Hardware
from .collectives import crossing_cycles
from .noc.arrays import Timing
from .noc.flows import Flows
from .noc.network import Network, mesh
from .noc.simulate import simulate

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

PIECES = 4
"""Of a word, and of a cycle of the core."""
ROUTER = 2
"""Cycles of the simulator for a head through a router whose allocations are made together."""


@dataclass(frozen=True)
class Borders:
    """Where dies meet along rows and columns: every so many cores, the first one after `offset`
    cores less. 0 cores: nowhere."""

    rows: int
    """Cores between two borders along a column."""
    columns: int
    """Cores between two borders along a row."""
    row_offset: int = 0
    column_offset: int = 0

    def crossed(self, width: int, source: Integers, target: Integers) -> Integers:
        """How many borders lie between routers of a mesh so many wide."""
        found = np.zeros(len(source), np.int64)
        for die, offset, places in (
            (self.rows, self.row_offset, (source // width, target // width)),
            (self.columns, self.column_offset, (source % width, target % width)),
        ):
            if die:
                here, there = ((place + offset) // die for place in places)
                found += abs(here - there)
        return found


NO_BORDERS = Borders(0, 0)


@dataclass(frozen=True)
class Routers:
    """What the simulator must know of a wafer's network. Cycles and words are the core's."""

    hop_cycles: float
    ramp_cycles: float
    channels: int
    """Virtual ones of a port."""
    buffer_words: int
    border_cycles: float
    """That a hop between dies takes longer than one inside. It is added to what the simulator says:
    the two ends of such a link are taken to have buffers for its latency."""
    border_period: float
    """Cycles of a word over a link between dies."""

    @staticmethod
    def of(hardware: Hardware) -> "Routers":
        """The routers of a system's wafers."""
        router = hardware.core.router
        return Routers(
            hop_cycles=router.hop_cycles,
            ramp_cycles=router.ramp_cycles,
            channels=router.virtual_channels,
            buffer_words=router.buffer_flits,
            border_cycles=crossing_cycles(hardware),
            border_period=1.0 / min(1.0, hardware.wafer.crossing_share),
        )

    @cached_property
    def _timing(self) -> Timing:
        return Timing(
            vcs=self.channels,
            buffer_flits=PIECES * self.buffer_words,
            routing=0,
            speculative=True,
        )

    @cached_property
    def _ramps(self) -> int:
        """Cycles of the simulator that a message takes longer than the simulator has it, for the
        way into the first router and out of the last."""
        return round(2 * PIECES * self.ramp_cycles) - (ROUTER + PIECES + 2)

    @property
    def packet(self) -> int:
        """Pieces of the packets of what no core passes on: as many as fit a virtual channel."""
        return PIECES * self.buffer_words

    def relayed(self, flows: Flows, crossed: Integers) -> Flows:
        """Messages that wait for others, `crossed` borders each: a core takes a cycle to add a word
        or to copy it, and what crosses a border comes later."""
        late = np.zeros(flows.count, np.int64)
        np.maximum.at(late, flows.waiting, crossed[flows.awaited])
        ready = max(0, PIECES - 1 + self._ramps) + late * round(PIECES * self.border_cycles)
        return Flows(
            flows.source, flows.destination, flows.flits, flows.release, flows.packet_flits,
            flows.in_turn, flows.waiting, flows.awaited, ready,
        )  # fmt: skip

    def arrivals(
        self, flows: Flows, width: int, height: int, borders: Borders, period: int
    ) -> Floats:
        """Cycles of the core after which each message has arrived: (messages,).

        Sources and destinations are routers of a mesh; `period` is that of links between dies.
        """
        network = self._mesh(width, height, borders, period)
        outcome = simulate(network, flows, "flit", budget=np.iinfo(np.int64).max)
        crossed = borders.crossed(width, flows.source, flows.destination)
        return (outcome.finish + self._ramps) / PIECES + crossed * self.border_cycles

    def _mesh(self, width: int, height: int, borders: Borders, period: int) -> Network:
        latency = max(1, round(PIECES * self.hop_cycles) - ROUTER)
        node = np.arange(width * height)
        pairs = [
            (node[:-1], node[1:], (node % width < width - 1)[:-1]),
            (node[:-width], node[width:], np.ones(max(0, len(node) - width), bool)),
        ]
        rows: list[Integers] = []
        for a, b, joined in pairs:
            slow = joined & (borders.crossed(width, a, b) > 0)
            if period > 1 and slow.any():
                ends = np.stack([a[slow], b[slow]], axis=1)
                both = np.concatenate([ends, ends[:, ::-1]])
                speed = np.broadcast_to((latency, period), both.shape)
                rows.append(np.concatenate([both, speed], axis=1))
        exceptions = np.concatenate(rows) if rows else ()
        return mesh(width, height, self._timing, latency=latency, exceptions=exceptions)


def pieces_of_words(words: float) -> int:
    """Pieces that the simulator sends for a message; a flit is a whole word."""
    return PIECES * ceil(words - 1e-9)
