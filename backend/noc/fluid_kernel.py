"""Messages as trains of flits that share channels, event by event, in compiled code.

A train is what fits into the buffer of a virtual channel. It crosses a channel in one piece: the
channel and the entry behind it are busy for its flits, it may go on as soon as its head has come
(virtual cut-through: Kermani and Kleinrock, Computer Networks 3, 1979), and the place that it
frees is known to the sender a credit's flight later, which gives one packet at most a buffer in
each round trip. Channels serve entries in turn, and the virtual channels of an entry in turn.
Nothing happens cycle by cycle: a channel is looked at when a train, a credit or the channel
itself arrives, so the cost is one step for every train and router.

A train is written packet * 4 + 2 for the tail + 1 for the head, shifted behind its flits.
"""

from typing import NamedTuple

import numpy as np

from .arrays import (
    BEGUN,
    CHANNEL_CYCLES,
    CLASS,
    CLOCK,
    COUNT,
    CROWDED,
    DONE,
    ENTRIES,
    ENTRY_FREE,
    EXIT,
    EXIT_FREE,
    EXIT_ROUTER,
    EXIT_TURN,
    EXIT_VC,
    FEEDER,
    FINISHED,
    FIRST,
    HEAD,
    HOP,
    KIND,
    LAST_VC,
    LATENCY,
    LEFT,
    LEFT_VALUE,
    MESSAGE,
    NEVER,
    NOTHING,
    OCCUPIED,
    OUT_TURN,
    PACKET,
    PERIOD,
    QUEUE,
    RIGHT_VALUE,
    ROUTE,
    RUNNING,
    SENT,
    SINCE,
    SINK,
    STARVED,
    TAIL,
    TAKEN,
    TERMINAL_FREE,
    VC,
    VC_TURN,
    WAITING,
    Ints,
    Ports,
    Timing,
    Traffic,
    start_of,
)
from .compiled import compiled, inlined
from .sources import make_ready, next_due, queue_what_waits_for_nothing, receive, take_packet
from .wheel import schedule, take, wheel_of

TRAIN, INJECTED, RECEIVED, CREDIT, SOURCE_CREDIT, LOOK, LOOK_AT_SOURCE = range(7)

_SIZE_BITS = 16
_SIZE = (1 << _SIZE_BITS) - 1


class FluidState(NamedTuple):
    """All arrays of a simulation: of the network, of the messages, and of events."""

    ports: Ports
    in_vcs: Ints
    trains: Ints
    since: Ints
    out_vcs: Ints
    messages: Ints
    terminals: Ints
    packets: Ints
    heap: Ints
    unreturned: Ints
    look: Ints
    slots: Ints
    events: Ints
    now: Ints


def initial_state(ports: Ports, timing: Timing, traffic: Traffic) -> FluidState:
    """An empty network before cycle 0."""
    ports = ports.copy()
    start = start_of(traffic, len(ports.injection))
    queue_what_waits_for_nothing(start.messages, start.heap, start.now)
    inputs, outputs = ports.entries.shape[1] * timing.vcs, ports.exits.shape[1] * timing.vcs
    period = int(ports.exits[PERIOD, :].max())
    longest = int(ports.exits[LATENCY, :].max()) + sum(timing) + 8
    slots, events = wheel_of(
        longest + (period + 1) * timing.buffer_flits,
        8 * (outputs + inputs + len(ports.injection)) + 4096,
    )
    in_vcs = np.zeros((8, inputs), np.int64)
    in_vcs[[EXIT, EXIT_VC]] = NOTHING
    return FluidState(
        ports=ports,
        in_vcs=in_vcs,
        trains=np.zeros((inputs, timing.buffer_flits), np.int64),
        since=np.zeros((inputs, timing.buffer_flits), np.int64),
        out_vcs=np.zeros((3, outputs), np.int64),
        messages=start.messages,
        terminals=start.terminals,
        packets=start.packets,
        heap=start.heap,
        unreturned=np.zeros(len(ports.injection) * timing.vcs, np.int64),
        look=np.zeros((3, ports.exits.shape[1] + len(ports.injection)), np.int64),
        slots=slots,
        events=events,
        now=start.now,
    )


@compiled
def advance(state: FluidState, timing: Timing, traffic: Traffic, until: int) -> int:
    """Run to the end of all messages or the cycle `until`; RUNNING, DONE, STARVED or
    CROWDED."""
    routers, entries, exits, injection = state.ports
    in_vcs, trains, since, out_vcs = state.in_vcs, state.trains, state.since, state.out_vcs
    messages, terminals, packets = state.messages, state.terminals, state.packets
    heap, unreturned, look = state.heap, state.unreturned, state.look
    slots, events, now = state.slots, state.events, state.now
    route, successor = traffic.route, traffic.successor
    packet_flits, in_turn = traffic.packet_flits, traffic.in_turn
    marks, places = look[0], look[1]
    looked = look[2]
    sources = exits.shape[1]
    time = now[CLOCK]
    while now[FINISHED] < messages.shape[1] - 1:
        if now[WAITING] == 0:
            due = next_due(messages, heap, now)
            if due == NEVER:
                return STARVED
            time = max(time, due)
        if time >= until:
            now[CLOCK] = time
            return RUNNING
        if events.shape[1] - now[WAITING] < 5 * sources + 2 * injection.size:
            now[CLOCK] = time
            return CROWDED
        looked[:] = 0
        _arrive(
            timing, time, entries, exits, injection, in_vcs, trains, since, out_vcs, messages,
            packets, heap, unreturned, marks, places, looked, slots, events, now, route, successor,
        )  # fmt: skip
        while next_due(messages, heap, now) <= time:
            terminal = make_ready(messages, heap, now, terminals)
            _note(marks, places, looked, 1, sources, terminal)
        for at in range(looked[1]):
            terminal = places[sources + at]
            marks[sources + terminal] = 0
            if terminals[TERMINAL_FREE, terminal] > time:
                free = terminals[TERMINAL_FREE, terminal]
                schedule(slots, events, now, free, LOOK_AT_SOURCE, terminal, 0)
            elif terminals[PACKET, terminal] != NOTHING or take_packet(
                messages, terminals, packets, now, packet_flits, in_turn, terminal, time
            ):
                _inject(timing, time, terminal, terminals, unreturned, slots, events, now)
        for at in range(looked[0]):
            out = places[at]
            marks[out] = 0
            if exits[EXIT_FREE, out] <= time:
                _serve(
                    timing, time, out, routers, entries, exits, in_vcs, trains, since, out_vcs,
                    messages, packets, route, slots, events, now,
                )  # fmt: skip
        time += 1
    now[CLOCK] = time
    return DONE


@inlined
def _note(marks: Ints, places: Ints, looked: Ints, which: int, base: int, number: int) -> None:
    """Remember that an exit (0) or a terminal (1) is to be looked at in this cycle."""
    if not marks[base + number]:
        marks[base + number] = 1
        places[base + looked[which]] = number
        looked[which] += 1


@inlined
def _arrive(
    timing: Timing, time: int, entries: Ints, exits: Ints, injection: Ints, in_vcs: Ints,
    trains: Ints, since: Ints, out_vcs: Ints, messages: Ints, packets: Ints, heap: Ints,
    unreturned: Ints, marks: Ints, places: Ints, looked: Ints, slots: Ints, events: Ints, now: Ints,
    route: Ints, successor: Ints,
) -> None:  # fmt: skip
    """Everything that happens in a cycle before channels are served."""
    vcs, sources = timing.vcs, exits.shape[1]
    while True:
        event = take(slots, events, now, time)
        if event == NOTHING:
            return
        kind = events[KIND, event]
        left, right = events[LEFT_VALUE, event], events[RIGHT_VALUE, event]
        if kind == LOOK:
            _note(marks, places, looked, 0, 0, left)
        elif kind == LOOK_AT_SOURCE:
            _note(marks, places, looked, 1, sources, left)
        elif kind == CREDIT:
            out_vcs[OCCUPIED, left] -= right
            _note(marks, places, looked, 0, 0, left // vcs)
        elif kind == SOURCE_CREDIT:
            unreturned[left] -= right
            _note(marks, places, looked, 1, sources, left // vcs)
        elif kind == RECEIVED:
            receive(messages, successor, heap, now, left, right, time)
        else:
            if kind == TRAIN:
                channel = exits[SINK, left // vcs] * vcs + left % vcs
                period = exits[PERIOD, left // vcs]
                packets[HOP, right >> (_SIZE_BITS + 2)] += (right >> _SIZE_BITS) & HEAD
            else:
                channel, period = injection[left // vcs] * vcs + left % vcs, 1
            out = _buffer(
                timing, time, channel, period, right, exits, in_vcs, trains, since, messages,
                packets, slots, events, now, route,
            )  # fmt: skip
            if out != NOTHING:
                _note(marks, places, looked, 0, 0, out)


@inlined
def _buffer(
    timing: Timing, time: int, channel: int, period: int, train: int, exits: Ints, in_vcs: Ints,
    trains: Ints, since: Ints, messages: Ints, packets: Ints, slots: Ints, events: Ints, now: Ints,
    route: Ints,
) -> int:  # fmt: skip
    """Put a train into the buffer of an entry's virtual channel; the exit to look at now."""
    count = in_vcs[COUNT, channel]
    place = (in_vcs[FIRST, channel] + count) % timing.buffer_flits
    ready = time
    if (train >> _SIZE_BITS) & HEAD:
        ready += timing.routing + (0 if timing.speculative else timing.vc_allocation)
        if count == 0:
            _turn(timing, in_vcs, messages, packets, route, channel, train)
    next_period = exits[PERIOD, in_vcs[EXIT, channel]] if count == 0 else 1
    ready += ((train & _SIZE) - 1) * max(period - next_period, 0)
    trains[channel, place] = train
    since[channel, place] = ready
    in_vcs[COUNT, channel] = count + 1
    if count:
        return NOTHING
    ready = max(ready, in_vcs[SINCE, channel])
    if ready <= time:
        return in_vcs[EXIT, channel]
    schedule(slots, events, now, ready, LOOK, in_vcs[EXIT, channel], 0)
    return NOTHING


@inlined
def _turn(
    timing: Timing, in_vcs: Ints, messages: Ints, packets: Ints, route: Ints, channel: int,
    train: int,
) -> None:  # fmt: skip
    """The head of a packet is in front: its channel turns to the packet's next exit."""
    packet = train >> (_SIZE_BITS + 2)
    step = route[messages[ROUTE, packets[MESSAGE, packet]] + packets[HOP, packet]]
    in_vcs[EXIT, channel] = step // timing.classes
    in_vcs[CLASS, channel] = step % timing.classes
    in_vcs[EXIT_VC, channel] = NOTHING


@inlined
def _inject(
    timing: Timing, time: int, terminal: int, terminals: Ints, unreturned: Ints, slots: Ints,
    events: Ints, now: Ints,
) -> None:  # fmt: skip
    """A terminal with a packet sends a train of it where it has the credits."""
    vcs, depth = timing.vcs, timing.buffer_flits
    size = min(depth, terminals[LEFT, terminal])
    if terminals[VC, terminal] == NOTHING:
        for turn in range(1, vcs + 1):
            vc = (terminals[LAST_VC, terminal] + turn) % vcs
            if unreturned[terminal * vcs + vc] + size <= depth:
                terminals[VC, terminal] = vc
                break
    vc = terminals[VC, terminal]
    if vc == NOTHING or unreturned[terminal * vcs + vc] + size > depth:
        return
    flags = 0
    if not terminals[BEGUN, terminal]:
        flags |= HEAD
        terminals[BEGUN, terminal] = 1
        terminals[LAST_VC, terminal] = vc
    packet = terminals[PACKET, terminal]
    terminals[LEFT, terminal] -= size
    if terminals[LEFT, terminal] == 0:
        flags |= TAIL
        terminals[PACKET, terminal] = NOTHING
    unreturned[terminal * vcs + vc] += size
    terminals[TERMINAL_FREE, terminal] = time + size
    train = ((packet * 4 + flags) << _SIZE_BITS) | size
    arrives = time + CHANNEL_CYCLES + 1
    schedule(slots, events, now, arrives, INJECTED, terminal * vcs + vc, train)
    if terminals[PACKET, terminal] != NOTHING or terminals[QUEUE, terminal] != NOTHING:
        schedule(slots, events, now, time + size, LOOK_AT_SOURCE, terminal, 0)


@inlined
def _serve(
    timing: Timing, time: int, out: int, routers: Ints, entries: Ints, exits: Ints, in_vcs: Ints,
    trains: Ints, since: Ints, out_vcs: Ints, messages: Ints, packets: Ints, route: Ints,
    slots: Ints, events: Ints, now: Ints,
) -> None:  # fmt: skip
    """An idle channel takes a train from the next entry, in turn, that has one it can take; where
    something not yet free is in the way, it looks again when that is free."""
    vcs = timing.vcs
    router = exits[EXIT_ROUTER, out]
    first = routers[ENTRIES, router]
    asking = routers[ENTRIES, router + 1] - first
    again = NEVER
    for turn in range(asking):
        column = exits[EXIT_TURN, out] + turn
        entry = first + (column if column < asking else column - asking)
        busy_until = entries[ENTRY_FREE, entry]
        for vc_turn in range(vcs):
            vc = entries[VC_TURN, entry] + vc_turn
            channel = entry * vcs + (vc if vc < vcs else vc - vcs)
            if in_vcs[COUNT, channel] == 0 or in_vcs[EXIT, channel] != out:
                continue
            place = in_vcs[FIRST, channel]
            if max(since[channel, place], in_vcs[SINCE, channel]) > time:
                continue
            if busy_until > time:
                again = min(again, busy_until)
                continue
            size = int(trains[channel, place]) & _SIZE
            target = in_vcs[EXIT_VC, channel]
            if target == NOTHING:
                lane = in_vcs[CLASS, channel]
                target, free = _free_vc(timing, time, out_vcs, out, lane, size)
                again = min(again, free)
                if target == NOTHING:
                    continue
                in_vcs[EXIT_VC, channel] = target
                out_vcs[TAKEN, target] = NEVER
                out_vcs[OUT_TURN, out * vcs] = (target + 1) % vcs
            elif out_vcs[OCCUPIED, target] + size > timing.buffer_flits:
                continue
            exits[EXIT_TURN, out] = (entry - first + 1) % asking
            entries[VC_TURN, entry] = (channel + 1) % vcs
            _send(
                timing, time, channel, out, entries, exits, in_vcs, trains, since, out_vcs,
                messages, packets, route, slots, events, now,
            )  # fmt: skip
            return
    if again != NEVER:
        schedule(slots, events, now, max(again, time + 1), LOOK, out, 0)


@inlined
def _free_vc(
    timing: Timing, time: int, out_vcs: Ints, out: int, lane: int, size: int
) -> tuple[int, int]:
    """A free virtual channel of a class with room, in turn, or NOTHING and when one will be
    free."""
    share, free = timing.vcs // timing.classes, NEVER
    base = out * timing.vcs
    for turn in range(share):
        target = base + lane * share + (out_vcs[OUT_TURN, base] + turn) % share
        if out_vcs[TAKEN, target] > time:
            free = min(free, out_vcs[TAKEN, target])
        elif out_vcs[OCCUPIED, target] + size <= timing.buffer_flits:
            return target, NEVER
    return NOTHING, free


@inlined
def _send(
    timing: Timing, time: int, channel: int, out: int, entries: Ints, exits: Ints, in_vcs: Ints,
    trains: Ints, since: Ints, out_vcs: Ints, messages: Ints, packets: Ints, route: Ints,
    slots: Ints, events: Ints, now: Ints,
) -> None:  # fmt: skip
    """The train in front of an entry's virtual channel leaves over a channel."""
    vcs, entry = timing.vcs, channel // timing.vcs
    train = trains[channel, in_vcs[FIRST, channel]]
    size, flags = train & _SIZE, (train >> _SIZE_BITS) & 3
    target = in_vcs[EXIT_VC, channel]
    period, latency = exits[PERIOD, out], exits[LATENCY, out]
    busy = size * period
    in_vcs[FIRST, channel] = (in_vcs[FIRST, channel] + 1) % timing.buffer_flits
    in_vcs[COUNT, channel] -= 1
    in_vcs[SINCE, channel] = time + busy
    out_vcs[OCCUPIED, target] += size
    exits[SENT, out] += size
    exits[EXIT_FREE, out] = time + busy
    entries[ENTRY_FREE, entry] = time + size
    freed = time + (size - 1) * (period - 1)
    feeder = entries[FEEDER, entry]
    if feeder < 0:
        back, source = freed + CHANNEL_CYCLES + 1, ~feeder * vcs + channel % vcs
        schedule(slots, events, now, back, SOURCE_CREDIT, source, size)
    else:
        back = freed + exits[LATENCY, feeder] + 1 + timing.credit
        schedule(slots, events, now, back, CREDIT, feeder * vcs + channel % vcs, size)
    arrives = time + timing.traversal + latency + 1
    if exits[SINK, out] < 0:
        message = packets[MESSAGE, train >> (_SIZE_BITS + 2)]
        schedule(slots, events, now, arrives + busy - period, RECEIVED, message, size)
        back = arrives + CHANNEL_CYCLES + 1 + timing.credit
        schedule(slots, events, now, back, CREDIT, target, size)
    else:
        schedule(slots, events, now, arrives, TRAIN, target, train)
    schedule(slots, events, now, time + busy, LOOK, out, 0)
    if flags & TAIL:
        allocation = 0 if timing.speculative else timing.vc_allocation
        out_vcs[TAKEN, target] = time + busy + allocation
        in_vcs[EXIT_VC, channel] = NOTHING
        in_vcs[SINCE, channel] = time + busy + timing.routing + allocation
    if in_vcs[COUNT, channel]:
        if flags & TAIL:
            following = trains[channel, in_vcs[FIRST, channel]]
            _turn(timing, in_vcs, messages, packets, route, channel, following)
        ready = max(in_vcs[SINCE, channel], since[channel, in_vcs[FIRST, channel]])
        if ready > time + busy or in_vcs[EXIT, channel] != out:
            schedule(slots, events, now, ready, LOOK, in_vcs[EXIT, channel], 0)
