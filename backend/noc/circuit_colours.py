"""How many routes the routers of a circuit-like network must tell apart.

A colour is a setting of all routers: whatever comes with it leaves each by the same outputs. Two
routes may share one if they leave every router that both pass by the same outputs; their words
then follow each other. Colours are kept for the whole plan, none is set anew on the way.
"""

import numpy as np

from .arrays import Ints
from .network import DIRECTIONS, Network

_INTO_CORE = 1 << DIRECTIONS


def colours_of(network: Network, first: Ints, channel: Ints) -> int:
    """Colours for routes, greedily, the first along the network first.

    What route r holds is `channel[first[r]:first[r + 1]]`. On a line, where routes are intervals,
    this is the least number; elsewhere it may be more than needed.
    """
    route = np.repeat(np.arange(len(first) - 1), np.diff(first))
    leaving = channel < network.first_injection
    route, channel = route[leaving], channel[leaving]
    link = channel < network.first_ejection
    core = np.where(link, 0, channel - network.first_ejection)
    router = np.where(link, channel // DIRECTIONS, network.router_of(core))
    outputs = np.where(link, 1 << (channel % DIRECTIONS), _INTO_CORE)
    key = route * network.routers + router
    order = np.argsort(key, kind="stable")
    begins = np.flatnonzero(np.diff(key[order], prepend=-1))
    if len(begins) == 0:
        return 0
    outputs = np.bitwise_or.reduceat(outputs[order], begins)
    route, router = np.divmod(key[order][begins], network.routers)
    edges = np.searchsorted(route, np.arange(len(first)))
    return _greedy(network.routers, _different(edges, router, outputs))


def _different(edges: Ints, router: Ints, outputs: Ints) -> list[tuple[Ints, Ints]]:
    """The routers and outputs of every route, each route once, by its first router."""
    found = {}
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        route = router[low:high], outputs[low:high]
        found[route[0].tobytes(), route[1].tobytes()] = route
    return sorted(found.values(), key=lambda route: int(route[0][0]))


def _greedy(routers: int, routes: list[tuple[Ints, Ints]]) -> int:
    taken = np.zeros((8, routers), np.int64)
    most = 0
    for router, outputs in routes:
        there = taken[:, router]
        free = np.flatnonzero(((there == 0) | (there == outputs)).all(axis=1))
        if len(free) == 0:
            free = np.array([len(taken)])
            taken = np.concatenate([taken, np.zeros_like(taken)])
        taken[free[0], router] = outputs
        most = max(most, int(free[0]) + 1)
    return most
