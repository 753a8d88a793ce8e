"""Collectives on a circuit-like network: streams of words on static routes, one event a stream.

A stream holds the channels of its route, one word a cycle, from the first word to the last; a
multicast holds each channel of its tree once. A core sends words on as they come (`relays`) or
when it has the whole message, and never holds up what comes to it: it has memory. Streams take
channels in the order of their steps, as a static schedule gives them. The terms are those of
"Near-Optimal Wafer-Scale Reduce", arXiv 2404.15888. Colours are in circuit_colours.py.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .arrays import NOTHING, Ints
from .circuit_colours import colours_of
from .collectives_plan import Bools, Plan
from .flows import flows_of
from .network import Network
from .routes import routes_of


@dataclass(frozen=True)
class Circuits:
    """What a circuit-like network does besides its links; the values are WSE-2's."""

    ramp_cycles: int = 2
    """T_R, between a core and its router, each way."""
    work_cycles: int = 1
    """Of a word in a core, from the ramp to the ramp: one addition or copy."""
    turn_cycles: int = 5
    """Between the last word of one step and the first of another at a core's ramp: 2 T_R + 1, as
    the tree's closed form has it for each of log2 P steps however long the messages are."""
    word_bytes: int = 4
    colours: int = 24
    """Routes that a router can tell apart."""


@dataclass(frozen=True)
class Streams:
    """S streams of a plan in the order of their service, and what each message is of them.

    words: words; period: cycles a word on the slowest channel; step: of the plan; all (S,)
    channel, offset: what stream s holds, and how many cycles after its first word leaves the
        core that word comes there, are `[first[s]:first[s + 1]]`
    stream, travel: of every message: its stream, and cycles of a word from core into core
    """

    words: Ints
    period: Ints
    step: Ints
    first: Ints
    channel: Ints
    offset: Ints
    stream: Ints
    travel: Ints


@dataclass(frozen=True)
class CircuitOutcome:
    """When everything happened, and how much of the network it took.

    begin, finish: cycle of each message's first word leaving, and its last one being worked on
    busiest: words through the busiest channel, ramps included
    word_hops: words over links, all in all
    colours: routes that must be told apart at some router; more than `colour_limit` cannot be had
    """

    begin: Ints
    finish: Ints
    busiest: int
    word_hops: int
    colours: int
    colour_limit: int

    @property
    def makespan(self) -> int:
        """Cycles until all is done."""
        return int(self.finish.max(initial=0))

    @cached_property
    def fits(self) -> bool:
        """Whether there are enough colours."""
        return self.colours <= self.colour_limit


def simulate_circuits(
    plan: Plan,
    network: Network,
    circuits: Circuits | None = None,
    relays: bool = True,
    release: Ints | None = None,
) -> CircuitOutcome:
    """Run a plan on static routes; of `network` counts its shape and its links.

    Only a message with the same blocks as the one it waits for can relay it word by word; others
    wait for all of it. `release`: (n,) the cycle from which each member may send.
    """
    circuits = circuits or Circuits()
    streams = _streams_of(plan, network, circuits)
    links = streams.channel < network.first_ejection
    into_core = ~links & (streams.channel < network.first_injection)
    turns = np.where(into_core, circuits.turn_cycles, 0)
    earliest = np.zeros(len(streams.words), np.int64)
    if release is not None:
        earliest[streams.stream] = release[plan.messages.source]
    begin, end = _served(streams, earliest, turns, plan.waits, _relayed(plan, relays))
    words = np.repeat(streams.words, np.diff(streams.first))
    used, at = np.unique(streams.channel, return_inverse=True)
    loads = np.zeros(len(used), np.int64)
    np.add.at(loads, at, words)
    return CircuitOutcome(
        begin=begin[streams.stream],
        finish=end[streams.stream] + streams.travel,
        busiest=int(loads.max(initial=0)),
        word_hops=int(words[links].sum()),
        colours=colours_of(network, streams.first, streams.channel),
        colour_limit=circuits.colours,
    )


def _streams_of(plan: Plan, network: Network, circuits: Circuits) -> Streams:
    table = plan.messages
    _, lead, stream = np.unique(table.stream, return_index=True, return_inverse=True)
    order = np.argsort(lead)
    lead, stream = lead[order], np.argsort(order)[stream]
    source = plan.members[table.source]
    flows = flows_of(source, plan.members[table.destination], 1, packet_flits=1)
    routes = routes_of(network, flows)
    latency = network.latency_of(routes.channels)
    latency[routes.first[1:] - 1] = circuits.ramp_cycles
    come = np.concatenate([[0], np.cumsum(latency)])
    message = np.repeat(np.arange(len(plan)), routes.hops)
    offset = circuits.ramp_cycles + come[:-1] - come[routes.first[:-1]][message]
    travel = circuits.ramp_cycles + np.diff(come[routes.first]) + circuits.work_cycles
    held = np.concatenate([routes.channels, network.first_injection + source[lead]])
    key = np.concatenate([stream[message], np.arange(len(lead))]) * network.channels + held
    _, once = np.unique(key, return_index=True)
    of_stream = np.concatenate([stream[message], np.arange(len(lead))])[once]
    period = np.ones(len(lead), np.int64)
    np.maximum.at(period, of_stream, network.period_of(held[once]))
    return Streams(
        words=-(-plan.bytes[lead] // circuits.word_bytes),
        period=period,
        step=table.step[lead],
        first=np.searchsorted(of_stream, np.arange(len(lead) + 1)),
        channel=held[once],
        offset=np.concatenate([offset, np.zeros(len(lead), np.int64)])[once],
        stream=stream,
        travel=travel,
    )


def _relayed(plan: Plan, relays: bool) -> Bools:
    """(w,) which dependencies are met word by word."""
    waiting, awaited = plan.waits
    table = plan.messages
    same = (table.first[waiting] == table.first[awaited]) & (
        table.count[waiting] == table.count[awaited]
    )
    return same & relays


def _served(
    streams: Streams, earliest: Ints, turns: Ints, waits: Ints, relayed: Bools
) -> tuple[Ints, Ints]:
    """(S,) cycle of each stream's first word at its source, and the one after its last.

    `earliest` is when each may begin, `turns` how long each held channel takes to go over to
    another step.
    """
    order = np.argsort(streams.stream[waits[0]], kind="stable")
    waiting, awaited, relayed = streams.stream[waits[0]][order], waits[1][order], relayed[order]
    from_stream, travel = streams.stream[awaited], streams.travel[awaited]
    count = len(streams.words)
    edges = np.searchsorted(waiting, np.arange(count + 1))
    begin, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    channels, local = np.unique(streams.channel, return_inverse=True)
    free, served_in = np.zeros(len(channels), np.int64), np.full(len(channels), NOTHING)
    holds = streams.words * streams.period
    for low, high in _batches(streams):
        pairs = slice(edges[low], edges[high])
        mine = waiting[pairs] - low
        done = end[from_stream[pairs]] + travel[pairs]
        opened = np.where(relayed[pairs], begin[from_stream[pairs]] + travel[pairs], done)
        start, last = earliest[low:high].copy(), np.zeros(high - low, np.int64)
        np.maximum.at(start, mine, opened)
        np.maximum.at(last, mine, done)
        rows = slice(streams.first[low], streams.first[high])
        bounds = streams.first[low:high] - streams.first[low]
        held, step = local[rows], streams.step[low]
        turned = (served_in[held] != step) & (served_in[held] != NOTHING)
        clear = free[held] + turns[rows] * turned - streams.offset[rows]
        start = np.maximum(start, np.maximum.reduceat(clear, bounds))
        last = np.maximum(last, start + holds[low:high])
        begin[low:high], end[low:high] = start, last
        lengths = np.diff(streams.first[low : high + 1])
        free[held] = np.repeat(last, lengths) + streams.offset[rows]
        served_in[held] = step
    return begin, end


def _batches(streams: Streams) -> list[tuple[int, int]]:
    """Streams that can be served together: those of a step, or one by one where they meet."""
    edges = np.flatnonzero(np.diff(streams.step, prepend=-1, append=-1))
    found = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        held = streams.channel[streams.first[low] : streams.first[high]]
        if high - low == 1 or len(np.unique(held)) == len(held):
            found.append((low, high))
        else:
            found.extend((one, one + 1) for one in range(low, high))
    return found
