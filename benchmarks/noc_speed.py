"""How long the three fidelities take on traffic of given sizes.

pytest benchmarks/noc_speed.py

Single thread, with the compiled code loaded before the clock starts.
"""

from typing import Any

import numpy as np
import pytest
from wscc.backend.noc.bound import bound_of
from wscc.backend.noc.compare import warm_up
from wscc.backend.noc.flows import Flows, flows_of, order_of
from wscc.backend.noc.network import mesh
from wscc.backend.noc.routes import routes_of
from wscc.backend.noc.simulate import FIDELITIES, Fidelity, simulate

Benchmark = Any


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Everything compiled or loaded."""
    for fidelity in FIDELITIES:
        warm_up(fidelity)


def random_flows(side: int, count: int) -> Flows:
    """Messages of up to 100 flits between random cores."""
    draw = np.random.default_rng(0)
    ends = draw.integers(0, side * side, (2, count))
    return flows_of(ends[0], ends[1], draw.integers(1, 100, count), packet_flits=16)


def shifted_flows(side: int) -> Flows:
    """Every core sends to its neighbour below."""
    core = np.arange(side * (side - 1))
    return flows_of(core, core + side, 64, packet_flits=16)


def test_bound_of_routed_flows(benchmark: Benchmark) -> None:
    """10,000 messages on 32 x 32 routers, from their routes to the bound."""
    network, flows = mesh(32, 32), random_flows(32, 10_000)
    routes, order = routes_of(network, flows), order_of(flows)
    benchmark(bound_of, network, flows, routes, order)


def test_bound_of_flows(benchmark: Benchmark) -> None:
    """The same from the messages: checks, order, routes and bound."""
    benchmark(simulate, mesh(32, 32), random_flows(32, 10_000), "bound")


@pytest.mark.parametrize("fidelity", ["fluid", "flit"])
def test_random_traffic(benchmark: Benchmark, fidelity: Fidelity) -> None:
    """1,000 messages on 16 x 16 routers."""
    network, flows = mesh(16, 16), random_flows(16, 1000)
    benchmark.pedantic(simulate, (network, flows, fidelity), rounds=3)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_a_shift_over_a_million_cores(benchmark: Benchmark, fidelity: Fidelity) -> None:
    """One message a core; equal columns are simulated once."""
    network, flows = mesh(1000, 1000), shifted_flows(1000)
    benchmark.pedantic(simulate, (network, flows, fidelity), rounds=1)
