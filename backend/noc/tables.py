"""From a network and its messages to the tables that the compiled simulators work on.

Only routers, channels and terminals that some route uses get a column. What is left out never
asks and is never asked, and takes part in the arbiters' turns only by being skipped, so that this
changes nothing.
"""

from dataclasses import dataclass

import numpy as np

from .arrays import (
    DELAY,
    ENTRIES,
    ENTRY_ROUTER,
    EXIT_ROUTER,
    EXITS,
    FEEDER,
    FLITS,
    LATENCY,
    NOTHING,
    PERIOD,
    RELEASE,
    ROUTE,
    SINK,
    SOURCE,
    SUCCESSORS,
    WAITS,
    Ints,
    Ports,
    Traffic,
)
from .flows import Flows, Order
from .network import DIRECTIONS, Network
from .routes import Routes


@dataclass(frozen=True, eq=False)
class Tables:
    """What a simulator takes, and the names of its columns.

    routers: the network's number of every router's column
    """

    ports: Ports
    traffic: Traffic
    routers: Ints


def tables_of(network: Network, flows: Flows, routes: Routes, order: Order) -> Tables:
    """The used part of a network, and the messages on it.

    Ports of a router are in this order: terminals, then neighbours by ascending number, as in
    BookSim2; the arbiters begin with the first.
    """
    used, column = np.unique(routes.channels, return_inverse=True)
    links = used[used < network.first_ejection]
    ejections = used[len(links) :] - network.first_ejection
    sources = np.unique(flows.source)
    terminals = np.union1d(sources, ejections)

    leaving = np.concatenate([links // DIRECTIONS, network.router_of(ejections)])
    rank = np.concatenate([network.terminals + links % DIRECTIONS, ejections])
    by_exit = np.lexsort((rank, leaving))
    exit_of = _inverse(by_exit)

    entering = np.concatenate([network.end_of(links), network.router_of(sources)])
    opposite = DIRECTIONS - 1 - links % DIRECTIONS
    rank = np.concatenate([network.terminals + opposite, sources])
    by_entry = np.lexsort((rank, entering))
    entry_of = _inverse(by_entry)

    routers = np.union1d(leaving, entering)
    table = np.zeros((6, len(routers) + 1), np.int64)
    table[ENTRIES, :-1] = np.searchsorted(entering[by_entry], routers)
    table[EXITS, :-1] = np.searchsorted(leaving[by_exit], routers)
    table[[ENTRIES, EXITS], -1] = len(by_entry), len(by_exit)

    entries = np.zeros((5, len(by_entry)), np.int64)
    feeder = np.concatenate([exit_of[: len(links)], ~np.searchsorted(terminals, sources)])
    entries[FEEDER] = feeder[by_entry]
    entries[ENTRY_ROUTER] = np.searchsorted(routers, entering[by_entry])

    exits = np.zeros((7, len(by_exit)), np.int64)
    sink = np.concatenate([entry_of[: len(links)], ~np.searchsorted(terminals, ejections)])
    exits[SINK] = sink[by_exit]
    exits[LATENCY] = network.latency_of(used)[by_exit]
    exits[PERIOD] = network.period_of(used)[by_exit]
    exits[EXIT_ROUTER] = np.searchsorted(routers, leaving[by_exit])

    injection = np.full(len(terminals), NOTHING, np.int64)
    injection[np.searchsorted(terminals, sources)] = entry_of[len(links) :]
    messages = _messages(flows, routes, order)
    messages[SOURCE, :-1] = np.searchsorted(terminals, flows.source)
    route = exit_of[column] * network.timing.classes + routes.classes
    traffic = Traffic(messages, route, order.successor, flows.packet_flits, flows.in_turn)
    return Tables(Ports(table, entries, exits, injection), traffic, routers)


def _messages(flows: Flows, routes: Routes, order: Order) -> Ints:
    messages = np.zeros((14, flows.count + 1), np.int64)
    for row, values in (
        (FLITS, flows.flits),
        (RELEASE, flows.release),
        (DELAY, flows.delay),
        (WAITS, order.awaits),
    ):
        messages[row, :-1] = values
    messages[ROUTE] = routes.first
    messages[SUCCESSORS] = order.first
    return messages


def _inverse(order: Ints) -> Ints:
    found = np.empty_like(order)
    found[order] = np.arange(len(order))
    return found
