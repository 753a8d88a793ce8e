"""A set of messages as pieces that have nothing to do with each other, and which are alike.

Messages that share no channel and do not wait for each other, not even through others, cannot
disturb each other. Pieces that are the same but for their place in the network take the same
time: it is enough to simulate one of them.
"""

from dataclasses import dataclass

import numpy as np

from .arrays import NOTHING, Ints
from .compiled import compiled
from .flows import Flows
from .network import DIRECTIONS, Network
from .routes import Routes


@dataclass(frozen=True, eq=False)
class Pieces:
    """count: independent pieces; distinct: how many of them differ
    simulated: the messages of the distinct ones, ascending
    twin: of every message, the place in `simulated` of the one that stands for it
    """

    count: int
    distinct: int
    simulated: Ints
    twin: Ints


def numbered(values: Ints, bound: int) -> tuple[Ints, Ints]:
    """The different values below `bound`, ascending, and the place of each value among them."""
    if bound > 16 * len(values) + 65_536:
        return np.unique(values, return_inverse=True)
    present = np.zeros(bound, np.bool_)
    present[values] = True
    place = np.cumsum(present) - 1
    return np.flatnonzero(present), place[values]


def whole(flows: Flows) -> Pieces:
    """Everything as one piece."""
    every = np.arange(flows.count)
    return Pieces(1, 1, every, every)


def pieces_of(network: Network, flows: Flows, routes: Routes) -> Pieces:
    """The finest pieces, and the classes of those that a translation carries onto each other."""
    piece = _connected(network, flows, routes)
    count = int(piece.max()) + 1
    if count == 1:
        return whole(flows)
    order = np.argsort(piece, kind="stable")
    layout = _Layout(network, flows, routes, piece, order, count)
    model = layout.models()
    simulated = np.flatnonzero(model[piece] == piece)
    place = np.empty(flows.count, np.int64)
    place[simulated] = np.arange(len(simulated))
    rank = np.arange(flows.count) - layout.first_message[piece[order]]
    twin = np.empty(flows.count, np.int64)
    twin[order] = place[order[layout.first_message[model[piece[order]]] + rank]]
    return Pieces(count, len(np.unique(model)), simulated, twin)


def _connected(network: Network, flows: Flows, routes: Routes) -> Ints:
    """The piece of every message, numbered by their first messages."""
    crossed = np.concatenate([routes.channels, network.first_injection + flows.source])
    used, column = numbered(crossed, network.channels)
    parent = np.arange(flows.count + len(used))
    _unite(parent, routes.first, flows.count + column, flows.waiting, flows.awaited)
    root = parent[: flows.count]
    _, first, piece = np.unique(root, return_index=True, return_inverse=True)
    return _ranks(first)[piece]


@compiled
def _unite(parent: Ints, first: Ints, channel: Ints, waiting: Ints, awaited: Ints) -> None:
    """Union-find (Tarjan, JACM 22(2), 1975) over messages and channels, into `parent`."""
    messages = first.size - 1
    for message in range(messages):
        _join(parent, message, int(channel[first[messages] + message]))
        for at in range(first[message], first[message + 1]):
            _join(parent, message, int(channel[at]))
    for at in range(waiting.size):
        _join(parent, int(waiting[at]), int(awaited[at]))
    for message in range(messages):
        parent[message] = _root(parent, message)


@compiled
def _join(parent: Ints, a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    parent[max(a, b)] = min(a, b)


@compiled
def _root(parent: Ints, at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


def _ranks(values: Ints) -> Ints:
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values)] = np.arange(len(values))
    return ranks


class _Layout:
    """Messages, hops and dependencies sorted by piece, each described as seen from the piece."""

    def __init__(
        self,
        network: Network,
        flows: Flows,
        routes: Routes,
        piece: Ints,
        order: Ints,
        count: int,
    ) -> None:
        self.first_message = np.searchsorted(piece[order], np.arange(count + 1))
        hops = routes.hops[order]
        hop_first = np.zeros(flows.count + 1, np.int64)
        np.cumsum(hops, out=hop_first[1:])
        self.first_hop = hop_first[self.first_message]
        owner = piece[flows.waiting]
        by_piece = np.argsort(owner, kind="stable")
        self.first_wait = np.searchsorted(owner[by_piece], np.arange(count + 1))

        origin = network.router_of(flows.source[order[self.first_message[:-1]]])
        local = _local_numbers(network)
        start = _seen_from(
            network, origin[piece[order]], network.router_of(flows.source[order]),
            local[flows.source[order]], int(local.max()),
        )  # fmt: skip
        self.messages = np.stack(
            [flows.flits[order], flows.release[order], flows.delay[order], hops, start], axis=1
        )
        along = np.repeat(routes.first[order] - hop_first[:-1], hops) + np.arange(hop_first[-1])
        channels = routes.channels[along]
        router, port = channels // DIRECTIONS, channels % DIRECTIONS
        ejects = channels >= network.first_ejection
        terminal = channels[ejects] - network.first_ejection
        router[ejects], port[ejects] = network.router_of(terminal), local[terminal]
        seen = _seen_from(
            network, np.repeat(origin[piece[order]], hops), router, port, int(local.max())
        )
        self.hops = np.stack(
            [
                seen,
                network.latency_of(channels),
                network.period_of(channels),
                routes.classes[along],
            ],
            axis=1,
        )
        rank = np.empty(flows.count, np.int64)
        rank[order] = np.arange(flows.count) - self.first_message[piece[order]]
        self.waits = np.stack(
            [rank[flows.waiting[by_piece]], rank[flows.awaited[by_piece]]], axis=1
        )

    def models(self) -> Ints:
        """Of every piece the first that is like it."""
        tables = (
            (self.first_message, self.messages),
            (self.first_hop, self.hops),
            (self.first_wait, self.waits),
        )
        sizes = np.stack([np.diff(first) for first, _ in tables], axis=1)
        model = np.full(len(sizes), NOTHING, np.int64)
        for same in _groups(_first_equal(sizes)):
            rows = np.concatenate(
                [
                    table[first[same][:, None] + np.arange(size)].reshape(len(same), -1)
                    for (first, table), size in zip(tables, sizes[same[0]], strict=True)
                ],
                axis=1,
            )
            model[same] = same[_first_equal(rows)]
        return model


def _first_equal(rows: Ints) -> list[int]:
    """Of every row the first that equals it."""
    first: dict[bytes, int] = {}
    return [first.setdefault(row.tobytes(), number) for number, row in enumerate(rows)]


def _groups(keys: list[int]) -> list[Ints]:
    """The places of each different key, by key."""
    order = np.argsort(keys, kind="stable")
    _, first = np.unique(np.asarray(keys)[order], return_index=True)
    return np.split(order, first[1:])


def _local_numbers(network: Network) -> Ints:
    """Which of its router's ports every terminal is on, links being the first."""
    local = np.full(network.terminals, DIRECTIONS, np.int64)
    if len(network.attached):
        order = np.argsort(network.attached, kind="stable")
        on = network.attached[order]
        local[network.routers + order] += 1 + np.arange(len(on)) - np.searchsorted(on, on)
    return local


def _seen_from(network: Network, origin: Ints, router: Ints, port: Ints, last_port: int) -> Ints:
    """A port of a router as a number that tells where it is from the router `origin`."""
    down = router // network.width - origin // network.width
    right = router % network.width - origin % network.width
    if network.wraps:
        down, right = down % network.height, right % network.width
    return (down * (2 * network.width + 1) + right) * (last_port + 1) + port
