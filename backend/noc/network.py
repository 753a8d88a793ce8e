"""A network of routers: a mesh, a torus or one switch, with what is slow, dead or attached.

Nothing is stored of what follows from the shape, so that a mesh of a million cores costs what its
exceptions do. Routes are in routes.py, simulation in simulate.py.

Routers are numbered row by row, `y * width + x`. Terminals are what sends and receives: terminal
`i` is the core on router `i`, and the further ones (memory ports, GPUs of a switch) come after
the cores. A channel is a number too: `4 * router + direction` for a link, then come one ejection
channel and one injection channel for every terminal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ...ir.errors import UserError
from .arrays import CHANNEL_CYCLES, NOTHING, Ints, Timing

NORTH, WEST, EAST, SOUTH = range(4)
"""In ascending order of the neighbour's number on a mesh; the opposite of d is 3 - d."""

DIRECTIONS = 4

Detours = Mapping[tuple[int, int], Sequence[int]]
"""The routers of the path, by source and destination terminal."""


def integers(values: npt.ArrayLike) -> Ints:
    """A flat array of 64-bit integers of its own, laid out as compiled code expects."""
    return np.array(values, np.int64, order="C").reshape(-1)


def _no_integers() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Network:
    """Routers, terminals and channels.

    width, height: routers in each direction
    wraps: whether the ends of rows and columns are joined (a torus)
    timing: of every router
    latency, period: cycles of a link, and cycles a flit takes of it
    attached: the router of every terminal beyond the cores
    special: links with a latency and period of their own, ascending; `special_latency` and
        `special_period` are theirs
    dead_links: links that are missing, ascending
    dead_cores: routers that neither send, receive nor route, ascending
    detours: the routes of pairs of terminals that do not take the regular one
    """

    width: int
    height: int
    wraps: bool = False
    timing: Timing = field(default_factory=Timing)
    latency: int = 1
    period: int = 1
    attached: Ints = field(default_factory=_no_integers)
    special: Ints = field(default_factory=_no_integers)
    special_latency: Ints = field(default_factory=_no_integers)
    special_period: Ints = field(default_factory=_no_integers)
    dead_links: Ints = field(default_factory=_no_integers)
    dead_cores: Ints = field(default_factory=_no_integers)
    detours: Detours = field(default_factory=dict)

    @property
    def routers(self) -> int:
        """How many there are; as many cores."""
        return self.width * self.height

    @property
    def terminals(self) -> int:
        """How many there are, cores and others."""
        return self.routers + len(self.attached)

    @property
    def first_ejection(self) -> int:
        """The channel that ends at terminal 0."""
        return DIRECTIONS * self.routers

    @property
    def first_injection(self) -> int:
        """The channel that begins at terminal 0."""
        return self.first_ejection + self.terminals

    @property
    def channels(self) -> int:
        """One more than the last channel's number."""
        return self.first_injection + self.terminals

    def router_of(self, terminals: Ints) -> Ints:
        """The router that each terminal is on."""
        if len(self.attached) == 0:
            return terminals
        further = np.maximum(terminals - self.routers, 0)
        return np.where(terminals < self.routers, terminals, self.attached[further])

    def links_between(self, start: npt.ArrayLike, end: npt.ArrayLike) -> Ints:
        """The link from each router to another; NOTHING where they are no neighbours."""
        start, end = integers(start), integers(end)
        down = end // self.width - start // self.width
        right = end % self.width - start % self.width
        if self.wraps:
            down = _shorter(down, self.height)
            right = _shorter(right, self.width)
        direction = np.full(len(start), NOTHING, np.int64)
        for number, step in ((NORTH, (-1, 0)), (WEST, (0, -1)), (EAST, (0, 1)), (SOUTH, (1, 0))):
            direction[(down == step[0]) & (right == step[1])] = number
        return np.where(direction == NOTHING, NOTHING, DIRECTIONS * start + direction)

    def end_of(self, links: Ints) -> Ints:
        """The router that each link leads to."""
        router, direction = np.divmod(links, DIRECTIONS)
        y, x = np.divmod(router, self.width)
        x = (x + (direction == EAST) - (direction == WEST)) % self.width
        y = (y + (direction == SOUTH) - (direction == NORTH)) % self.height
        return y * self.width + x

    def latency_of(self, channels: Ints) -> Ints:
        """Cycles that a flit is on each channel."""
        usual = np.where(channels < self.first_ejection, self.latency, CHANNEL_CYCLES)
        return self._with_special(channels, usual, self.special_latency)

    def period_of(self, channels: Ints) -> Ints:
        """Cycles between flits on each channel."""
        usual = np.where(channels < self.first_ejection, self.period, 1)
        return self._with_special(channels, usual, self.special_period)

    def _with_special(self, channels: Ints, usual: Ints, values: Ints) -> Ints:
        if len(self.special) == 0:
            return usual
        at = np.minimum(np.searchsorted(self.special, channels), len(self.special) - 1)
        return np.where(self.special[at] == channels, values[at], usual)

    def name_of(self, channel: int) -> str:
        """A channel in words."""
        if channel >= self.first_injection:
            return f"injection of {channel - self.first_injection}"
        if channel >= self.first_ejection:
            return f"ejection of {channel - self.first_ejection}"
        end = int(self.end_of(integers([channel]))[0])
        return f"{channel // DIRECTIONS} -> {end}"


def mesh(
    width: int,
    height: int,
    timing: Timing | None = None,
    *,
    latency: int = 1,
    period: int = 1,
    attached: npt.ArrayLike = (),
    exceptions: npt.ArrayLike = (),
    dead_links: npt.ArrayLike = (),
    dead_cores: npt.ArrayLike = (),
    detours: Detours | None = None,
) -> Network:
    """A mesh of `width` by `height` routers, each with a core.

    attached: routers of the terminals beyond the cores
    exceptions: rows of (from, to, latency, period), one direction each
    dead_links: rows of (a, b), missing in both directions
    detours: routes of their own, by (source, destination) terminal

    Example:
        >>> network = mesh(4, 3, dead_links=[(0, 1)], detours={(0, 1): (0, 4, 5, 1)})
        >>> network.terminals
        12

    Raises UserError where there is no such router or link.
    """
    plain = Network(width, height, False, timing or Timing(), latency, period)
    return _with_parts(plain, attached, exceptions, dead_links, dead_cores, detours)


def torus(
    width: int,
    height: int,
    timing: Timing | None = None,
    *,
    latency: int = 1,
    period: int = 1,
    attached: npt.ArrayLike = (),
    exceptions: npt.ArrayLike = (),
) -> Network:
    """A mesh with the ends of its rows and columns joined; each side is 1 or at least 3 long.

    Packets go the shorter way round and, past the joint of a row or column, change to the upper
    half of the virtual channels, so that they cannot wait for each other in a circle (Dally and
    Seitz, IEEE Trans. Computers 36(5), 1987). With a single virtual channel they can.
    """
    if 2 in (width, height):
        raise UserError("a torus of two routers in a direction is a mesh; use that")
    timing = timing or Timing()
    timing = timing._replace(classes=2 if timing.vcs > 1 else 1)
    plain = Network(width, height, True, timing, latency, period)
    return _with_parts(plain, attached, exceptions, (), (), None)


def switch(terminals: int, timing: Timing | None = None) -> Network:
    """One router that all terminals are on."""
    return mesh(1, 1, timing, attached=np.zeros(terminals - 1, np.int64))


def _with_parts(
    network: Network,
    attached: npt.ArrayLike,
    exceptions: npt.ArrayLike,
    dead_links: npt.ArrayLike,
    dead_cores: npt.ArrayLike,
    detours: Detours | None,
) -> Network:
    _check_sizes(network)
    rows = np.asarray(exceptions, np.int64).reshape(-1, 4)
    special = _links(network, rows[:, 0], rows[:, 1], "a link of its own speed")
    if rows.size and rows[:, 2:].min() < 1:
        raise UserError("a link's latency and period must be at least 1")
    special, first = np.unique(special, return_index=True)
    pairs = np.asarray(dead_links, np.int64).reshape(-1, 2)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return replace(
        network,
        attached=_routers(network, attached, "an attached terminal"),
        special=special,
        special_latency=rows[first, 2],
        special_period=rows[first, 3],
        dead_links=np.unique(_links(network, both[:, 0], both[:, 1], "a dead link")),
        dead_cores=np.unique(_routers(network, dead_cores, "a dead core")),
        detours=dict(detours or {}),
    )


def _check_sizes(network: Network) -> None:
    timing = network.timing
    if network.width < 1 or network.height < 1:
        raise UserError(f"a network of {network.width} x {network.height} routers is empty")
    if network.latency < 1 or network.period < 1:
        raise UserError("a link's latency and period must be at least 1")
    if timing.vcs < 1 or timing.buffer_flits < 1:
        raise UserError("a router needs a virtual channel and room for a flit")
    if min(timing.routing, timing.credit) < 0 or min(timing.vc_allocation, timing.traversal) < 1:
        raise UserError("a router's delay is negative, or a stage of it takes no cycle")
    if timing.switch_allocation != 1 or (timing.speculative and timing.vc_allocation != 1):
        raise UserError(
            "routers whose switch allocation, or speculative allocation of virtual channels, "
            "takes more than one cycle are not modelled"
        )


def _routers(network: Network, values: npt.ArrayLike, what: str) -> Ints:
    routers = integers(values)
    wrong = routers[(routers < 0) | (routers >= network.routers)]
    if len(wrong):
        raise UserError(f"{what}: there is no router {wrong[0]}")
    return routers


def _links(network: Network, start: Ints, end: Ints, what: str) -> Ints:
    links = network.links_between(_routers(network, start, what), _routers(network, end, what))
    wrong = np.flatnonzero(links == NOTHING)
    if len(wrong):
        at = wrong[0]
        raise UserError(f"{what}: there is no link from {start[at]} to {end[at]}")
    return links


def _shorter(difference: Ints, length: int) -> Ints:
    """A difference of positions on a ring as the shorter way; halfway is forward."""
    half = (length - 1) // 2
    return (difference + half) % length - half
