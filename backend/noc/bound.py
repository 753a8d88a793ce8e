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

# Columns of a channel: flits; the earliest cycle of one; the fewest cycles from one to the end;
# cycles of latency, and a flit.
FLITS, EARLIEST, REST, LATENCY, PERIOD = range(5)

ENDS = 3
"""Cycles of a message on its injection and ejection channels beyond the routers' own."""


def bound_of(
    network: Network, flows: Flows, routes: Routes, order: Order
) -> tuple[Ints, Ints, int]:
    """The earliest cycle at which each message is ready and at which it has arrived, and at which
    all have."""
    used, channels, injection = _columns(network, flows, routes)
    columns = np.zeros((len(used), 5), np.int64)
    columns[:, [EARLIEST, REST]] = NEVER
    columns[:, LATENCY] = network.latency_of(used)
    columns[:, PERIOD] = network.period_of(used)
    even = network.latency if network.period == 1 and len(network.special) == 0 else 0
    ready, finish = flows.release.copy(), np.empty(flows.count, np.int64)
    after, between = np.zeros((2, flows.count), np.int64)
    last = _paths(
        network.timing, flows.flits, flows.delay, routes.first, channels, columns, even,
        order.order, order.first, order.successor, ready, finish, after, between,
    )  # fmt: skip
    busiest = _channels(
        network.timing, flows.flits, routes.first, channels, injection, columns, ready, after,
        between,
    )  # fmt: skip
    return ready, finish, max(last, busiest)


def _columns(network: Network, flows: Flows, routes: Routes) -> tuple[Ints, Ints, Ints]:
    """The channels that have a column, and the columns of the routes' and of the injection
    channels; where most are used, every channel has one."""
    injection = network.first_injection + flows.source
    if network.channels <= 65_536 + len(routes.channels):
        return np.arange(network.channels), routes.channels, injection
    crossed = np.concatenate([routes.channels, injection])
    used, column = numbered(crossed, network.channels)
    return used, column[: -flows.count], column[-flows.count :]


@compiled
def _paths(
    timing: Timing, flits: Ints, delay: Ints, first: Ints, channels: Ints, columns: Ints,
    even: int, order: Ints, first_successor: Ints, successor: Ints, ready: Ints, finish: Ints,
    after: Ints, between: Ints,
) -> int:  # fmt: skip
    """Fill in when messages are ready and finish at the earliest, each alone; how long after its
    finish the last of those ends that wait for it; and the latencies of its links.

    Where a channel is slow its flits fall behind the first, and past it they may catch up by what
    a router's stages take for a head and not for the flits that follow one. `even` is the
    latency of every link where none is slow, else 0.
    """
    head_cycles, body_cycles = _head_cycles(timing), 1 + timing.traversal
    last = 0
    for message in order:
        begin, end = first[message], first[message + 1]
        behind, latencies = flits[message] - 1, (end - begin - 1) * even
        if not even:
            for at in range(begin, end - 1):
                latencies += columns[channels[at], LATENCY]
                caught_up = (end - at - 1) * (head_cycles - body_cycles)
                slow = (flits[message] - 1) * columns[channels[at], PERIOD]
                behind = max(behind, slow - caught_up)
        between[message] = latencies
        taken = ENDS + (end - begin) * head_cycles + latencies + behind
        finish[message] = ready[message] + taken
        last = max(last, finish[message])
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
    return int(last)


@compiled
def _head_cycles(timing: Timing) -> int:
    allocation = timing.vc_allocation + timing.switch_allocation
    if timing.speculative:
        allocation = max(timing.vc_allocation, timing.switch_allocation)
    return timing.routing + allocation + timing.traversal


@compiled
def _channels(
    timing: Timing, flits: Ints, first: Ints, channels: Ints, injection: Ints, columns: Ints,
    ready: Ints, after: Ints, between: Ints,
) -> int:  # fmt: skip
    """The latest end that any channel's load forces."""
    head_cycles, body_cycles = _head_cycles(timing), 1 + timing.traversal
    for message in range(first.size - 1):
        begin, end = first[message], first[message + 1]
        earliest = ready[message]
        rest = ENDS + (end - begin) * body_cycles + between[message] + after[message]
        _load(columns, injection[message], flits[message], earliest, rest)
        for at in range(begin, end):
            earliest += head_cycles
            rest -= body_cycles
            _load(columns, channels[at], flits[message], earliest, rest)
            earliest += columns[channels[at], LATENCY]
            rest -= columns[channels[at], LATENCY]
    last = 0
    for column in range(columns.shape[0]):
        if columns[column, FLITS] == 0:
            continue
        busy = (columns[column, FLITS] - 1) * columns[column, PERIOD]
        last = max(last, columns[column, EARLIEST] + busy + columns[column, REST])
    return int(last)


@compiled
def _load(columns: Ints, column: int, flits: int, earliest: int, rest: int) -> None:
    """Add a message to a channel."""
    columns[column, FLITS] += flits
    columns[column, EARLIEST] = min(columns[column, EARLIEST], earliest)
    columns[column, REST] = min(columns[column, REST], rest)
