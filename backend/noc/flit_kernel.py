"""Wormhole routers cycle by cycle, in compiled code.

Input-queued routers with virtual channels, credits and separable allocators that go round robin
on both sides (iSLIP with one iteration: McKeown, IEEE/ACM Trans. Networking 7(2), 1999). Only
routers that hold a flit are looked at, and cycles in which nothing can happen are skipped.

A flit is its packet's number times four, plus two for the tail, plus one for the head.
"""

from typing import NamedTuple

import numpy as np

from .allocators import allocate_vcs, request_switch, speculated, take_vcs
from .arrays import (
    ALLOCATING,
    BEGUN,
    CAME,
    CHANNEL_CYCLES,
    CLASS,
    CLOCK,
    COUNT,
    DONE,
    ENTRIES,
    ENTRY_ROUTER,
    ENTRY_TURN,
    EXIT,
    EXIT_FREE,
    EXIT_TURN,
    EXIT_VC,
    EXITS,
    FEEDER,
    FINISHED,
    FIRST,
    HEAD,
    HELD,
    HOP,
    IDLE,
    KIND,
    LAST_VC,
    LATENCY,
    LEFT,
    LEFT_VALUE,
    LISTED,
    MESSAGE,
    MOVED,
    NEVER,
    NOTHING,
    OCCUPIED,
    OUTPUT_QUEUE_FLITS,
    PACKET,
    PASSED,
    PERIOD,
    RIGHT_VALUE,
    ROUTE,
    ROUTED,
    ROUTERS,
    RUNNING,
    SENDING,
    SENT,
    SINCE,
    SINK,
    STAGE,
    STARVED,
    STUCK,
    TAIL,
    TAKEN,
    TERMINALS,
    TRAVERSED,
    VC,
    VC_TURN,
    WAITING,
    WENT,
    Ints,
    Ports,
    Timing,
    Traffic,
    start_of,
)
from .compiled import compiled
from .sources import make_ready, next_due, queue_what_waits_for_nothing, receive, take_packet
from .wheel import schedule, take, wheel_of

FLIT, INJECTED, CREDIT, SOURCE_CREDIT = range(4)

_PATIENCE = 64
"""Cycles without any movement, nothing being on a channel, after which it is a deadlock."""


class FlitState(NamedTuple):
    """All arrays of a simulation: of the network, of the messages, and of events."""

    ports: Ports
    in_vcs: Ints
    flits: Ints
    out_vcs: Ints
    queues: Ints
    messages: Ints
    terminals: Ints
    packets: Ints
    heap: Ints
    unreturned: Ints
    active: Ints
    sending: Ints
    slots: Ints
    events: Ints
    now: Ints
    request: Ints
    bids: Ints
    grants: Ints
    matches: Ints


def initial_state(ports: Ports, timing: Timing, traffic: Traffic) -> FlitState:
    """An empty network before cycle 0."""
    ports = ports.copy()
    start = start_of(traffic, len(ports.injection))
    queue_what_waits_for_nothing(start.messages, start.heap, start.now)
    inputs, outputs = ports.entries.shape[1] * timing.vcs, ports.exits.shape[1] * timing.vcs
    widest = int(np.diff(ports.routers[[ENTRIES, EXITS]]).max())
    queues = np.zeros((ports.exits.shape[1], PASSED + 1), np.int64)
    queues[:, :PASSED] = -NEVER
    period = ports.exits[PERIOD, :]
    queued = np.where(period > 1, period * (OUTPUT_QUEUE_FLITS + 2), 0)
    flight = ports.exits[LATENCY, :] + 3 * timing.traversal + timing.credit + queued + 3
    slots, events = wheel_of(int(flight.max()), 2 * int(flight.sum()) + 8 * len(ports.injection))
    return FlitState(
        ports=ports,
        in_vcs=np.zeros((8, inputs), np.int64),
        flits=np.zeros((inputs, timing.buffer_flits), np.int64),
        out_vcs=np.zeros((3, outputs), np.int64),
        queues=queues,
        messages=start.messages,
        terminals=start.terminals,
        packets=start.packets,
        heap=start.heap,
        unreturned=np.zeros(len(ports.injection) * timing.vcs, np.int64),
        active=np.zeros(ports.routers.shape[1], np.int64),
        sending=np.zeros(len(ports.injection), np.int64),
        slots=slots,
        events=events,
        now=start.now,
        request=np.full((widest, widest), NOTHING, np.int64),
        bids=np.zeros((widest, widest), np.int64),
        grants=np.full(widest * timing.vcs, NOTHING, np.int64),
        matches=np.full(widest * timing.vcs, NOTHING, np.int64),
    )


@compiled
def advance(state: FlitState, timing: Timing, traffic: Traffic, until: int) -> int:
    """Run to the end of all messages or the cycle `until`; RUNNING, DONE, STUCK or STARVED."""
    routers, entries, exits, injection = state.ports
    in_vcs, flits, out_vcs, queues = state.in_vcs, state.flits, state.out_vcs, state.queues
    messages, terminals, packets = state.messages, state.terminals, state.packets
    heap, unreturned, active, sending = state.heap, state.unreturned, state.active, state.sending
    slots, events, now = state.slots, state.events, state.now
    route, successor = traffic.route, traffic.successor
    packet_flits, in_turn = traffic.packet_flits, traffic.in_turn
    request, bids, grants, matches = state.request, state.bids, state.grants, state.matches
    time = now[CLOCK]
    while now[FINISHED] < messages.shape[1] - 1:
        if now[WAITING] == 0 and now[ROUTERS] == 0 and now[TERMINALS] == 0:
            due = next_due(messages, heap, now)
            if due == NEVER:
                return STARVED
            time = max(time, due)
            now[MOVED] = time
        if time >= until:
            now[CLOCK] = time
            return RUNNING
        if now[WAITING] == 0 and time - now[MOVED] > _PATIENCE:
            return STUCK
        _arrive(
            timing, time, routers, entries, exits, in_vcs, flits, out_vcs, messages, packets,
            heap, unreturned, active, slots, events, now, route, successor,
        )  # fmt: skip
        while next_due(messages, heap, now) <= time:
            terminal = make_ready(messages, heap, now, terminals)
            if not terminals[SENDING, terminal]:
                terminals[SENDING, terminal] = 1
                sending[now[TERMINALS]] = terminal
                now[TERMINALS] += 1
        listed = 0
        while listed < now[TERMINALS]:
            terminal = sending[listed]
            if terminals[PACKET, terminal] == NOTHING and not take_packet(
                messages, terminals, packets, now, packet_flits, in_turn, terminal, time
            ):
                terminals[SENDING, terminal] = 0
                now[TERMINALS] -= 1
                sending[listed] = sending[now[TERMINALS]]
                continue
            listed += 1
            _inject(timing, time, terminal, injection, terminals, unreturned, slots, events, now)
        listed = 0
        while listed < now[ROUTERS]:
            router = active[listed]
            if routers[HELD, router] == 0:
                routers[LISTED, router] = 0
                now[ROUTERS] -= 1
                active[listed] = active[now[ROUTERS]]
                continue
            listed += 1
            asked = allocate_vcs(timing, time, routers, router, in_vcs, out_vcs, grants, matches)
            if request_switch(
                timing, time, routers, router, entries, exits, in_vcs, out_vcs, queues, request,
                bids,
            ):  # fmt: skip
                _allocate_switch(
                    timing, time, routers, router, entries, exits, in_vcs, flits, out_vcs, queues,
                    messages, packets, route, request, grants, matches, slots, events, now,
                )  # fmt: skip
            if asked:
                take_vcs(timing, time, routers, router, in_vcs, out_vcs, matches)
        time += 1
    now[CLOCK] = time
    return DONE


@compiled
def _arrive(
    timing: Timing, time: int, routers: Ints, entries: Ints, exits: Ints, in_vcs: Ints,
    flits: Ints, out_vcs: Ints, messages: Ints, packets: Ints, heap: Ints, unreturned: Ints,
    active: Ints, slots: Ints, events: Ints, now: Ints, route: Ints, successor: Ints,
) -> None:  # fmt: skip
    """Flits and credits come off their channels."""
    vcs = timing.vcs
    while True:
        event = take(slots, events, now, time)
        if event == NOTHING:
            return
        kind = events[KIND, event]
        left, right = events[LEFT_VALUE, event], events[RIGHT_VALUE, event]
        if kind == CREDIT:
            out_vcs[OCCUPIED, left] -= 1
            continue
        if kind == SOURCE_CREDIT:
            unreturned[left] -= 1
            continue
        channel = left
        if kind == FLIT:
            sink = exits[SINK, left // vcs]
            if sink < 0:
                now[MOVED] = time
                receive(messages, successor, heap, now, packets[MESSAGE, right >> 2], 1, time)
                back = time + CHANNEL_CYCLES + 1 + timing.credit
                schedule(slots, events, now, back, CREDIT, left, 0)
                continue
            packets[HOP, right >> 2] += right & HEAD
            channel = sink * vcs + left % vcs
        _buffer(
            timing, time, channel, right, routers, entries, in_vcs, flits, messages, packets,
            active, now, route,
        )  # fmt: skip


@compiled
def _buffer(
    timing: Timing, time: int, channel: int, flit: int, routers: Ints, entries: Ints,
    in_vcs: Ints, flits: Ints, messages: Ints, packets: Ints, active: Ints, now: Ints, route: Ints,
) -> None:  # fmt: skip
    """Put a flit into the buffer of an entry's virtual channel."""
    count = in_vcs[COUNT, channel]
    flits[channel, (in_vcs[FIRST, channel] + count) % timing.buffer_flits] = flit
    in_vcs[COUNT, channel] = count + 1
    router = entries[ENTRY_ROUTER, channel // timing.vcs]
    routers[HELD, router] += 1
    if not routers[LISTED, router]:
        routers[LISTED, router] = 1
        active[now[ROUTERS]] = router
        now[ROUTERS] += 1
    if in_vcs[STAGE, channel] == IDLE:
        since = time + timing.routing
        if timing.routing > 1:
            since = _begin(routers, ROUTED, router, timing.routing, time) + timing.routing
        _ask(timing, in_vcs, messages, packets, route, channel, flit >> 2, since)
    elif count == 0:
        in_vcs[SINCE, channel] = time


@compiled
def _ask(
    timing: Timing, in_vcs: Ints, messages: Ints, packets: Ints, route: Ints, channel: int,
    packet: int, since: int,
) -> None:  # fmt: skip
    """The head of a packet is in front: its channel asks for a virtual channel of its exit."""
    step = route[messages[ROUTE, packets[MESSAGE, packet]] + packets[HOP, packet]]
    in_vcs[EXIT, channel] = step // timing.classes
    in_vcs[CLASS, channel] = step % timing.classes
    in_vcs[STAGE, channel] = ALLOCATING
    in_vcs[SINCE, channel] = since


@compiled
def _inject(
    timing: Timing, time: int, terminal: int, injection: Ints, terminals: Ints, unreturned: Ints,
    slots: Ints, events: Ints, now: Ints,
) -> None:  # fmt: skip
    """A terminal with a packet sends a flit of it where it has a credit."""
    vcs, depth = timing.vcs, timing.buffer_flits
    if terminals[VC, terminal] == NOTHING:
        for turn in range(1, vcs + 1):
            vc = (terminals[LAST_VC, terminal] + turn) % vcs
            if unreturned[terminal * vcs + vc] < depth:
                terminals[VC, terminal] = vc
                break
    vc = terminals[VC, terminal]
    if vc == NOTHING or unreturned[terminal * vcs + vc] >= depth:
        return
    flit = terminals[PACKET, terminal] * 4
    if not terminals[BEGUN, terminal]:
        flit |= HEAD
        terminals[BEGUN, terminal] = 1
        terminals[LAST_VC, terminal] = vc
    terminals[LEFT, terminal] -= 1
    if terminals[LEFT, terminal] == 0:
        flit |= TAIL
        terminals[PACKET, terminal] = NOTHING
    unreturned[terminal * vcs + vc] += 1
    now[MOVED] = time
    channel = injection[terminal] * vcs + vc
    schedule(slots, events, now, time + CHANNEL_CYCLES + 1, INJECTED, channel, flit)


@compiled
def _allocate_switch(
    timing: Timing, time: int, routers: Ints, router: int, entries: Ints, exits: Ints,
    in_vcs: Ints, flits: Ints, out_vcs: Ints, queues: Ints, messages: Ints, packets: Ints,
    route: Ints, request: Ints, grants: Ints, matches: Ints, slots: Ints, events: Ints, now: Ints,
) -> None:  # fmt: skip
    """Match entries and exits, as virtual channels are matched, and send what won."""
    first_entry, first_exit = routers[ENTRIES, router], routers[EXITS, router]
    asking = routers[ENTRIES, router + 1] - first_entry
    answers = routers[EXITS, router + 1] - first_exit
    for row in range(answers):
        best, nearest = NOTHING, asking
        for column in range(asking):
            distance = (column - exits[EXIT_TURN, first_exit + row]) % asking
            if request[row, column] != NOTHING and distance < nearest:
                best, nearest = column, distance
        grants[row] = best
    for column in range(asking):
        entry = first_entry + column
        best, nearest = NOTHING, answers
        for row in range(answers):
            distance = (row - entries[ENTRY_TURN, entry]) % answers
            if grants[row] == column and distance < nearest:
                best, nearest = row, distance
        if best == NOTHING:
            continue
        vc = request[best, column]
        exits[EXIT_TURN, first_exit + best] = (column + 1) % asking
        entries[ENTRY_TURN, entry] = (best + 1) % answers
        entries[VC_TURN, entry] = (vc + 1) % timing.vcs
        channel = entry * timing.vcs + vc
        if in_vcs[STAGE, channel] == ALLOCATING and not speculated(
            timing, in_vcs, out_vcs, channel, matches, channel - first_entry * timing.vcs
        ):
            continue
        routers[HELD, router] -= 1
        now[MOVED] = time
        _send(
            timing, time, routers, router, channel, first_exit + best, entries, exits, in_vcs,
            flits, out_vcs, queues, messages, packets, route, slots, events, now,
        )  # fmt: skip
    for row in range(answers):
        grants[row] = NOTHING
        for column in range(asking):
            request[row, column] = NOTHING


@compiled
def _send(
    timing: Timing, time: int, routers: Ints, router: int, channel: int, out: int, entries: Ints,
    exits: Ints, in_vcs: Ints, flits: Ints, out_vcs: Ints, queues: Ints, messages: Ints,
    packets: Ints, route: Ints, slots: Ints, events: Ints, now: Ints,
) -> None:  # fmt: skip
    """The flit in front of an entry's virtual channel leaves; its place goes back as a credit."""
    vcs = timing.vcs
    target = in_vcs[EXIT_VC, channel]
    flit = flits[channel, in_vcs[FIRST, channel]]
    in_vcs[FIRST, channel] = (in_vcs[FIRST, channel] + 1) % timing.buffer_flits
    in_vcs[COUNT, channel] -= 1
    exits[SENT, out] += 1
    out_vcs[OCCUPIED, target] += 1
    leaves = time + timing.traversal
    if timing.traversal > 1:
        began = _begin(routers, TRAVERSED, router, timing.traversal, time + 1)
        leaves = max(began + timing.traversal - 1, exits[EXIT_FREE, out])
        exits[EXIT_FREE, out] = leaves + 1
    if exits[PERIOD, out] > 1:
        leaves = _enqueue(exits, queues, out, leaves)
    schedule(slots, events, now, leaves + exits[LATENCY, out] + 1, FLIT, target, flit)
    feeder = entries[FEEDER, channel // vcs]
    if feeder < 0:
        back = time + CHANNEL_CYCLES + 1
        schedule(slots, events, now, back, SOURCE_CREDIT, ~feeder * vcs + channel % vcs, 0)
    else:
        back = time + exits[LATENCY, feeder] + 1 + timing.credit
        schedule(slots, events, now, back, CREDIT, feeder * vcs + channel % vcs, 0)
    if not flit & TAIL:
        in_vcs[SINCE, channel] = time + timing.switch_allocation
        return
    out_vcs[TAKEN, target] = 0
    in_vcs[STAGE, channel] = IDLE
    if in_vcs[COUNT, channel]:
        following = flits[channel, in_vcs[FIRST, channel]] >> 2
        since = time + 1 + timing.routing
        if timing.routing > 1:
            since = _begin(routers, ROUTED, router, timing.routing, time + 1) + timing.routing
        _ask(timing, in_vcs, messages, packets, route, channel, following, since)


@compiled
def _begin(routers: Ints, stage: int, router: int, cycles: int, asked: int) -> int:
    """When a router's stage of more than a cycle begins with what asks for it.

    As in BookSim2 it does not overlap: what comes while the stage is at work begins together,
    when that is done.
    """
    began = routers[stage, router]
    if asked >= began + cycles:
        began = asked
    elif asked > began:
        began += cycles
    routers[stage, router] = began
    return began


@compiled
def _enqueue(exits: Ints, queues: Ints, out: int, came: int) -> int:
    """The cycle at which a flit leaves the queue in front of a slow channel."""
    passed, size = queues[out, PASSED], WENT - CAME
    went = max(came, queues[out, WENT + (passed - 1) % size] + exits[PERIOD, out])
    queues[out, CAME + passed % size] = came
    queues[out, WENT + passed % size] = went
    queues[out, PASSED] = passed + 1
    return went
