"""A lower bound on the time of a set of messages, in one pass over their routes.

The larger of two things, never their sum:

- the longest path of dependencies, every message by itself in the network;
- for every channel: when a flit can be on it at the earliest, one period a flit, and what the
  last of them has still before it at the least. Injection and ejection are channels as well. A
  cut needs no term of its own: with fixed routes its load is the sum over its channels, so that
  one of those is at least as busy as the cut.

Wormhole routers keep neither from being reached, so that no simulation is faster.
"""

import numpy as np

from .arrays import NEVER, Ints, Timing
from .compiled import compiled
from .flows import Flows, Order
from .network import Network
from .pieces import numbered
from .routes import Routes

ENDS = 3
"""Cycles of a message on its injection and ejection channels beyond the routers' own."""


def bound_of(
    network: Network, flows: Flows, routes: Routes, order: Order
) -> tuple[Ints, Ints, int]:
    """The earliest cycle at which each message is ready and at which it has arrived, and at which
    all have."""
    crossed = np.concatenate([routes.channels, network.first_injection + flows.source])
    used, column = numbered(crossed, network.channels)
    ready, finish = flows.release.astype(np.int64), np.zeros(flows.count, np.int64)
    after = np.zeros(flows.count, np.int64)
    load = np.zeros((3, len(used)), np.int64)
    load[1] = NEVER
    load[2] = NEVER
    latency, period = network.latency_of(used), network.period_of(used)
    last = _paths(
        network.timing, flows.flits, flows.packet_flits, flows.delay, routes.first, column,
        latency, period, order.order, order.first, order.successor, ready, finish, after,
    )  # fmt: skip
    busiest = _channels(
        network.timing, flows.flits, routes.first, column, latency, period, ready, after, load
    )
    return ready, finish, max(last, busiest)


@compiled
def _paths(
    timing: Timing, flits: Ints, packet_flits: int, delay: Ints, first: Ints, column: Ints,
    latency: Ints, period: Ints, order: Ints, first_successor: Ints, successor: Ints,
    ready: Ints, finish: Ints, after: Ints,
) -> int:  # fmt: skip
    """Fill in when messages are ready and finish at the earliest, each alone; and how long after
    its finish the last of those ends that wait for it."""
    last = 0
    for message in order:
        taken = _alone(
            timing, int(flits[message]), packet_flits, first, column, latency, period, message
        )
        finish[message] = ready[message] + taken
        last = max(last, int(finish[message]))
        for at in range(first_successor[message], first_successor[message + 1]):
            waiting = successor[at]
            earliest = finish[message] + 1 + delay[waiting]
            ready[waiting] = max(ready[waiting], earliest)
    for place in range(order.size - 1, -1, -1):
        message = order[place]
        for at in range(first_successor[message], first_successor[message + 1]):
            waiting = successor[at]
            taken = finish[waiting] - ready[waiting]
            after[message] = max(after[message], 1 + delay[waiting] + taken + after[waiting])
    return last


@compiled
def _alone(
    timing: Timing, flits: int, packet_flits: int, first: Ints, column: Ints, latency: Ints,
    period: Ints, message: int,
) -> int:  # fmt: skip
    """Cycles of a message that has the network to itself, at the least.

    Where a channel is slow its flits fall behind the first; past it the last packet's head takes
    all stages of a router, but the flits that follow a head only the switch.
    """
    begin, end = first[message], first[message + 1]
    head_cycles, body_cycles = _head_cycles(timing), 1 + timing.traversal
    routers = end - begin
    total = ENDS + routers * head_cycles
    for at in range(begin, end - 1):
        total += latency[column[at]]
    last_packet = flits - (flits - 1) // packet_flits * packet_flits
    worst = flits - 1
    for at in range(begin, end):
        slow = period[column[at]]
        if slow > 1:
            behind = (flits - last_packet) * slow + last_packet - 1
            caught_up = (end - at - 1) * (head_cycles - body_cycles)
            worst = max(worst, behind, (flits - 1) * slow - caught_up)
    return total + worst


@compiled
def _head_cycles(timing: Timing) -> int:
    allocation = timing.vc_allocation + timing.switch_allocation
    if timing.speculative:
        allocation = max(timing.vc_allocation, timing.switch_allocation)
    return timing.routing + allocation + timing.traversal


@compiled
def _channels(
    timing: Timing, flits: Ints, first: Ints, column: Ints, latency: Ints, period: Ints,
    ready: Ints, after: Ints, load: Ints,
) -> int:  # fmt: skip
    """The latest end that any channel's load forces. The rows of `load`: flits, the earliest
    cycle of one, the fewest cycles from it to the end."""
    head_cycles, body_cycles = _head_cycles(timing), 1 + timing.traversal
    messages = first.size - 1
    for message in range(messages):
        begin, end = first[message], first[message + 1]
        rest = ENDS + (end - begin) * body_cycles + after[message]
        for at in range(begin, end - 1):
            rest += latency[column[at]]
        _load(load, int(column[first[messages] + message]), flits[message], ready[message], rest)
        earliest = ready[message]
        for at in range(begin, end):
            earliest += head_cycles
            rest -= body_cycles
            _load(load, int(column[at]), flits[message], earliest, rest)
            earliest += latency[column[at]]
            rest -= latency[column[at]]
    last = 0
    for channel in range(load.shape[1]):
        busy = (load[0, channel] - 1) * period[channel]
        last = max(last, int(load[1, channel] + busy + load[2, channel]))
    return last


@compiled
def _load(load: Ints, channel: int, flits: int, earliest: int, rest: int) -> None:
    """Add a message to a channel."""
    load[0, channel] += flits
    load[1, channel] = min(load[1, channel], earliest)
    load[2, channel] = min(load[2, channel], rest)
