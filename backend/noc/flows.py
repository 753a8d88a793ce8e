"""Messages between the terminals of a network, and what waits for what.

A message of so many flits goes from a terminal to another in packets; it may be sent from its
release on, and not before all that it waits for has arrived.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...ir.errors import UserError
from .arrays import NOTHING, Ints
from .compiled import compiled
from .network import Network, integers


@dataclass(frozen=True, eq=False)
class Flows:
    """M messages with D dependencies.

    source, destination: terminals; flits: at least 1; release: cycles; all of M entries
    packet_flits: the most flits of a packet
    in_turn: a terminal sends its ready messages packet by packet in turn; otherwise one
        completely before the next, first the one that was ready first
    waiting, awaited: of D entries; message `waiting[i]` waits for message `awaited[i]`
    delay: of M entries; a message that waits is ready `1 + delay` cycles after the last arrival

    Example:
        >>> flows_of([0, 1], [5, 5], [64, 64], packet_flits=16).count
        2
    """

    source: Ints
    destination: Ints
    flits: Ints
    release: Ints
    packet_flits: int
    in_turn: bool
    waiting: Ints
    awaited: Ints
    delay: Ints

    @property
    def count(self) -> int:
        """How many messages there are."""
        return len(self.source)


def flows_of(
    source: npt.ArrayLike,
    destination: npt.ArrayLike,
    flits: npt.ArrayLike,
    *,
    packet_flits: int,
    release: npt.ArrayLike = 0,
    in_turn: bool = False,
    waiting: npt.ArrayLike = (),
    awaited: npt.ArrayLike = (),
    delay: npt.ArrayLike = 0,
) -> Flows:
    """Flows of what may be lists, or one number for all messages."""
    source = integers(source)

    def of_all(values: npt.ArrayLike) -> Ints:
        return integers(np.broadcast_to(np.asarray(values, np.int64), source.shape))

    return Flows(
        source,
        of_all(destination),
        of_all(flits),
        of_all(release),
        packet_flits,
        in_turn,
        integers(waiting),
        integers(awaited),
        of_all(delay),
    )


def check_flows(network: Network, flows: Flows) -> None:
    """Raises UserError for a message that the network cannot carry or that has no size."""
    if flows.packet_flits < 1:
        raise UserError(f"packets of {flows.packet_flits} flits, expected at least 1")
    for ends, verb in ((flows.source, "is sent by"), (flows.destination, "goes to")):
        wrong = np.flatnonzero((ends < 0) | (ends >= network.terminals))
        if len(wrong):
            raise UserError(
                f"message {wrong[0]} {verb} terminal {ends[wrong[0]]}, but the last one is "
                f"{network.terminals - 1}"
            )
        if len(network.dead_cores):
            dead = np.flatnonzero(np.isin(network.router_of(ends), network.dead_cores))
            if len(dead):
                at = dead[0]
                raise UserError(f"message {at} {verb} terminal {ends[at]}, whose core is dead")
    for values, least, what in (
        (flows.flits, 1, "flits"),
        (flows.release, 0, "as its release"),
        (flows.delay, 0, "cycles of delay"),
    ):
        wrong = np.flatnonzero(values < least)
        if len(wrong):
            raise UserError(
                f"message {wrong[0]} has {values[wrong[0]]} {what}, expected at least {least}"
            )
    for name, ends in (("waiting", flows.waiting), ("awaited", flows.awaited)):
        wrong = np.flatnonzero((ends < 0) | (ends >= flows.count))
        if len(wrong):
            raise UserError(f"dependency {wrong[0]}: no message {ends[wrong[0]]} is {name}")


@dataclass(frozen=True, eq=False)
class Order:
    """An order in which every message comes after those that it waits for.

    order: M messages; first, successor: the messages that wait for message m are
    `successor[first[m]:first[m + 1]]`; awaits: how many each waits for
    """

    order: Ints
    first: Ints
    successor: Ints
    awaits: Ints


def order_of(flows: Flows) -> Order:
    """Raises UserError where messages wait for each other in a circle."""
    count = flows.count
    awaits = np.bincount(flows.waiting, minlength=count).astype(np.int64)
    first = np.zeros(count + 1, np.int64)
    if len(flows.waiting) == 0:
        return Order(np.arange(count), first, np.zeros(1, np.int64), awaits)
    np.cumsum(np.bincount(flows.awaited, minlength=count), out=first[1:])
    successor = flows.waiting[np.argsort(flows.awaited, kind="stable")]
    order, left = np.zeros(count, np.int64), awaits.copy()
    done = _sort(first, successor, left, order)
    if done < count:
        raise UserError(f"messages wait for each other in a circle: {_circle(flows, left)}")
    return Order(order, first, successor, awaits)


@compiled
def _sort(first: Ints, successor: Ints, left: Ints, order: Ints) -> int:
    """Kahn's algorithm (CACM 5(11), 1962); how many messages could be ordered."""
    ready = 0
    for message in range(left.size):
        if left[message] == 0:
            order[ready] = message
            ready += 1
    done = 0
    while done < ready:
        message = order[done]
        done += 1
        for at in range(first[message], first[message + 1]):
            left[successor[at]] -= 1
            if left[successor[at]] == 0:
                order[ready] = successor[at]
                ready += 1
    return done


def _circle(flows: Flows, left: Ints) -> str:
    """One of the circles among messages that still wait, `3 for 5 for 3`."""
    among = (left[flows.waiting] > 0) & (left[flows.awaited] > 0)
    awaited = np.full(flows.count, NOTHING, np.int64)
    awaited[flows.waiting[among]] = flows.awaited[among]
    seen: list[int] = []
    message = int(flows.waiting[among][0])
    while message not in seen:
        seen.append(message)
        message = int(awaited[message])
    circle = [*seen[seen.index(message) :], message]
    shown = circle if len(circle) <= 8 else [*circle[:4], "...", *circle[-2:]]
    return " for ".join(str(each) for each in shown)
