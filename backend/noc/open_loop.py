"""Steady traffic at a given rate, through the flit simulator: latency and throughput.

Every terminal creates packets at random, independently of what the network takes (an open loop),
with the patterns and the measurements of BookSim2: Dally and Towles, Principles and Practices of
Interconnection Networks, 2004, sections 3.2 and 23.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ir.errors import UserError, nearest
from .arrays import FINISH, NOTHING, Ints
from .flit_kernel import advance, initial_state
from .flows import Flows, flows_of, order_of
from .network import Network, integers
from .routes import routes_of
from .tables import tables_of


@dataclass(frozen=True)
class Steady:
    """What was measured of the packets created after the warm-up.

    latency: mean cycles from creation to the arrival of the tail; of those that arrived
    accepted: flits that arrived in a cycle, by terminal
    packets: how many were measured; lost: how many of them did not arrive before the end
    """

    latency: float
    accepted: float
    packets: int
    lost: int


def _bits(count: int) -> int:
    bits = (count - 1).bit_length()
    if count != 1 << bits:
        raise UserError(f"a pattern of bits needs a power of two of terminals, not {count}")
    return bits


def _shuffle(node: Ints, k: int) -> Ints:
    bits = _bits(k * k)
    return (node << 1 & (k * k - 1)) | node >> (bits - 1)


def _reverse(node: Ints, k: int) -> Ints:
    bits = _bits(k * k)
    return sum(((node >> bit & 1) << (bits - 1 - bit) for bit in range(bits)), node * 0)


def _diagonal(node: Ints, k: int, step: int) -> Ints:
    return (node // k + step) % k * k + (node % k + step) % k


PATTERNS: dict[str, Callable[[Ints, int], Ints]] = {
    "transpose": lambda node, k: node % k * k + node // k,
    "bitcomp": lambda node, k: node ^ ((1 << _bits(k * k)) - 1),
    "bitrev": _reverse,
    "shuffle": _shuffle,
    "neighbor": lambda node, k: _diagonal(node, k, 1),
    "tornado": lambda node, k: _diagonal(node, k, (k + 1) // 2 - 1),
}
"""The destination of each terminal of a k x k network; `uniform` and `hotspot` draw it."""


def packets_of(
    side: int,
    pattern: str,
    rate: float,
    packet_flits: int,
    cycles: int,
    *,
    seed: int,
    hotspots: tuple[int, ...] = (),
) -> Flows:
    """Packets by their creation: each terminal creates one in a cycle with the probability that
    makes `rate` flits a cycle.

    `hotspot` goes to one of `hotspots` at random. Raises UserError for an unknown pattern.
    """
    draw = np.random.default_rng(seed)
    nodes = side * side
    release, source = np.nonzero(draw.random((cycles, nodes)) * packet_flits < rate)
    if pattern == "uniform":
        destination = draw.integers(0, nodes, len(source))
    elif pattern == "hotspot":
        destination = draw.choice(integers(hotspots), len(source))
    elif pattern in PATTERNS:
        destination = PATTERNS[pattern](np.arange(nodes), side)[source]
    else:
        known = ("uniform", "hotspot", *PATTERNS)
        raise UserError(f"there is no pattern '{pattern}'{nearest(pattern, known)}")
    return flows_of(source, destination, packet_flits, packet_flits=packet_flits, release=release)


def steady_state(
    network: Network,
    pattern: str,
    rate: float,
    packet_flits: int,
    *,
    seed: int,
    warm_up: int = 2000,
    measured: int = 10_000,
    hotspots: tuple[int, ...] = (),
) -> Steady:
    """Drive a square network with `rate` flits a cycle and terminal; measure the packets created
    within `measured` cycles after `warm_up`.

    Packets go on being created for as long again, so that the measured ones leave a network in
    the same state. What is accepted is counted over the measured cycles.
    """
    end = warm_up + measured
    flows = packets_of(
        network.width, pattern, rate, packet_flits, end + measured, seed=seed, hotspots=hotspots
    )
    tables = tables_of(network, flows, routes_of(network, flows), order_of(flows))
    state = initial_state(tables.ports, network.timing, tables.traffic)
    chosen = np.flatnonzero((flows.release >= warm_up) & (flows.release < end))
    finish = state.messages[FINISH, :-1]
    until = end
    advance(state, network.timing, tables.traffic, until)
    arrived = int(np.count_nonzero((finish >= warm_up) & (finish < end)))
    while until < end + measured and np.any(finish[chosen] == NOTHING):
        until = min(until + 200, end + measured)
        advance(state, network.timing, tables.traffic, until)
    done = chosen[finish[chosen] != NOTHING]
    return Steady(
        float(np.mean(finish[done] - flows.release[done])) if len(done) else 0.0,
        arrived * packet_flits / (measured * network.terminals),
        len(chosen),
        len(chosen) - len(done),
    )
