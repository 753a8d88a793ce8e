"""Which channels every message crosses.

Dimension-ordered: along the row first, then along the column; on a torus the shorter way round.
Pairs of terminals with a detour take that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.errors import UserError
from .arrays import NOTHING, Ints
from .compiled import compiled
from .flows import Flows
from .network import DIRECTIONS, EAST, NORTH, SOUTH, WEST, Network, integers


@dataclass(frozen=True, eq=False)
class Routes:
    """The links and the ejection channel of message m are `channels[first[m]:first[m + 1]]`.

    classes: of every entry of `channels`: 1 past the joint of a torus' ring, else 0
    """

    first: Ints
    channels: Ints
    classes: Ints

    @property
    def hops(self) -> Ints:
        """Routers on the way of each message."""
        return np.diff(self.first)

    def flits_by_channel(self, network: Network, flows: Flows) -> tuple[Ints, Ints]:
        """The channels that any flit crosses, ascending and with the injection channels, and how
        many do."""
        crossed = np.concatenate([self.channels, network.first_injection + flows.source])
        flits = np.concatenate([np.repeat(flows.flits, self.hops), flows.flits])
        used, at = np.unique(crossed, return_inverse=True)
        total = np.zeros(len(used), np.int64)
        np.add.at(total, at, flits)
        return used, total


def routes_of(network: Network, flows: Flows) -> Routes:
    """Raises UserError where a route crosses what is dead or missing."""
    start, end = network.router_of(flows.source), network.router_of(flows.destination)
    steps = np.abs(end // network.width - start // network.width)
    across = np.abs(end % network.width - start % network.width)
    if network.wraps:
        steps = np.minimum(steps, network.height - steps)
        across = np.minimum(across, network.width - across)
    steps = steps + across + 1
    detour, detour_first, detour_channels = _detours(network, flows)
    taken = np.flatnonzero(detour != NOTHING)
    steps[taken] = np.diff(detour_first)[detour[taken]]
    first = np.zeros(flows.count + 1, np.int64)
    np.cumsum(steps, out=first[1:])
    channels = np.empty(first[-1], np.int64)
    classes = np.zeros(first[-1] if network.timing.classes > 1 else 0, np.int64)
    _fill(
        network.width, network.height, network.wraps, start, end,
        network.first_ejection + flows.destination, detour, detour_first, detour_channels,
        first, channels, classes,
    )  # fmt: skip
    routes = Routes(first, channels, classes if classes.size else np.broadcast_to(0, first[-1]))
    _check_dead(network, flows, routes)
    return routes


@compiled
def _fill(
    width: int, height: int, wraps: bool, start: Ints, end: Ints, ejection: Ints, detour: Ints,
    detour_first: Ints, detour_channels: Ints, first: Ints, channels: Ints, classes: Ints,
) -> None:  # fmt: skip
    """Write every message's route into `channels` and `classes`."""
    for message in range(start.size):
        at = first[message]
        if detour[message] >= 0:
            begin = detour_first[detour[message]]
            for place in range(first[message + 1] - at):
                channels[at + place] = detour_channels[begin + place]
            continue
        (y, x), (to_y, to_x) = divmod(start[message], width), divmod(end[message], width)
        at = _walk(channels, classes, at, start[message], x, to_x, width, 1, EAST, WEST, wraps)
        at = _walk(
            channels, classes, at, y * width + to_x, y, to_y, height, width, SOUTH, NORTH, wraps
        )
        channels[at] = ejection[message]


@compiled
def _walk(
    channels: Ints, classes: Ints, at: int, router: int, position: int, target: int, length: int,
    stride: int, forward: int, backward: int, wraps: bool,
) -> int:  # fmt: skip
    """Write the links from a position to another of a row or column from `at` on; the place
    behind them."""
    distance, step = abs(target - position), 1 if target > position else -1
    if wraps and 2 * distance > length - (target < position):
        distance, step = length - distance, -step
    link = DIRECTIONS * router + (forward if step > 0 else backward)
    past = 0
    for place in range(at, at + distance):
        channels[place] = link
        position += step
        link += DIRECTIONS * stride * step
        if position < 0 or position >= length:
            position -= length * step
            link -= DIRECTIONS * stride * step * length
            past = 1
        if wraps and classes.size:
            classes[place] = past
    return at + distance


def _detours(network: Network, flows: Flows) -> tuple[Ints, Ints, Ints]:
    """The detour of every message or NOTHING, and the channels of all detours."""
    none = np.full(flows.count, NOTHING, np.int64)
    if not network.detours:
        return none, np.zeros(1, np.int64), np.zeros(1, np.int64)
    pairs = sorted(network.detours)
    lists = [_links_of(network, pair, network.detours[pair]) for pair in pairs]
    first = np.zeros(len(pairs) + 1, np.int64)
    np.cumsum([len(each) for each in lists], out=first[1:])
    keys = np.array([source * network.terminals + end for source, end in pairs], np.int64)
    wanted = flows.source * network.terminals + flows.destination
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, none), first, np.concatenate(lists)


def _links_of(network: Network, pair: tuple[int, int], path: Sequence[int]) -> Ints:
    """The channels of a detour along the routers `path`."""
    routers = integers(path)
    ends = network.router_of(integers(pair))
    what = f"the route from {pair[0]} to {pair[1]}"
    if len(routers) == 0 or routers[0] != ends[0] or routers[-1] != ends[1]:
        raise UserError(f"{what} does not begin at router {ends[0]} and end at {ends[1]}")
    if routers.min() < 0 or routers.max() >= network.routers:
        raise UserError(f"{what} names a router that does not exist")
    if len(np.unique(routers)) < len(routers):
        raise UserError(f"{what} passes a router twice")
    links = network.links_between(routers[:-1], routers[1:])
    wrong = np.flatnonzero(links == NOTHING)
    if len(wrong):
        at = wrong[0]
        raise UserError(f"{what}: there is no link from {routers[at]} to {routers[at + 1]}")
    return np.append(links, network.first_ejection + pair[1])


def _check_dead(network: Network, flows: Flows, routes: Routes) -> None:
    """Raises UserError for the first message whose route crosses a dead link or core."""
    for dead, per_place, what in (
        (network.dead_links, 1, "the dead link"),
        (network.dead_cores, DIRECTIONS, "a link of the dead core"),
    ):
        if len(dead) == 0:
            continue
        links = routes.channels
        is_dead = np.isin(links // per_place, dead) & (links < network.first_ejection)
        crossed = np.flatnonzero(is_dead)
        if len(crossed):
            message = int(np.searchsorted(routes.first, crossed[0], side="right")) - 1
            raise UserError(
                f"message {message}: its route from {flows.source[message]} to "
                f"{flows.destination[message]} crosses {what} "
                f"{network.name_of(int(links[crossed[0]]))}; give that pair a route of its own"
            )
