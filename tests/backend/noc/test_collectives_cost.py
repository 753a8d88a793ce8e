"""Bytes and times of collectives: textbook amounts, alpha-beta forms, fluid against flit."""

import numpy as np
import pytest
from wscc.backend.noc.arrays import Timing
from wscc.backend.noc.collectives import (
    all_gather,
    all_reduce,
    all_to_all,
    broadcast,
    reduce,
    reduce_scatter,
    shift,
)
from wscc.backend.noc.collectives_cost import simulate_plan
from wscc.backend.noc.collectives_plan import Plan
from wscc.backend.noc.collectives_rings import Rectangle, ring_in
from wscc.backend.noc.network import Network, mesh, switch, torus
from wscc.backend.noc.simulate import FIDELITIES, Fidelity
from wscc.ir.errors import UserError

FLIT_BYTES = 4
ALPHA = Timing().cycles + 3
"""Through one router, FORMAT.md: n R + 3 + (F - 1), and the cycle before what waits for it."""


def cycles(plan: Plan, network: Network, fidelity: Fidelity = "bound") -> int:
    flows = plan.flows(FLIT_BYTES, packet_flits=16)
    return simulate_plan(plan, network, flows, fidelity).makespan


def received_bytes(plan: Plan) -> np.ndarray:
    """(n,) bytes that come to each member."""
    received = np.zeros(len(plan.members), np.int64)
    np.add.at(received, plan.messages.destination, plan.bytes)
    return received


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_members_send_the_bytes_of_the_textbook(n: int) -> None:
    """Thakur et al., 2005, sections 4 and 5; Chan et al., 2007, tables II and III."""
    size, row = 48 * n, np.arange(n)
    share = (n - 1) * size // n
    assert (all_reduce(row, size, "ring").sent_bytes() == 2 * share).all()
    assert (all_reduce(row, size, "halving_doubling").sent_bytes() == 2 * share).all()
    for plan in (reduce_scatter(row, size), reduce_scatter(row, size, "halving")):
        assert (plan.sent_bytes() == share).all()
    for plan in (all_gather(row, size), all_gather(row, size, "doubling")):
        assert (received_bytes(plan) == share).all()
    assert (all_to_all(row, size).sent_bytes() == share).all()
    assert broadcast(row, size, "tree").sent_bytes().max() == size * (n.bit_length() - 1)
    assert broadcast(row, size, "multicast").sent_bytes().sum() == size
    assert received_bytes(reduce(row, size, "tree"))[0] == size * (n.bit_length() - 1)
    assert (shift(row, size).sent_bytes() == size).all()


def test_a_two_dimensional_all_reduce_sends_no_more_than_a_ring() -> None:
    plan = all_reduce(np.arange(12).reshape(3, 4), 480, "two_dimensional")
    assert (plan.sent_bytes() == 2 * 11 * 480 // 12).all()


@pytest.mark.parametrize("n", [4, 8, 16])
def test_the_bound_on_a_switch_is_the_alpha_beta_form(n: int) -> None:
    """A message takes alpha and a cycle a flit; Chan et al., 2007, tables II and III."""
    row, flits, levels = np.arange(n), 48 * n, n.bit_length() - 1
    size, part = flits * FLIT_BYTES, flits // n
    forms = {
        "ring": (all_reduce(row, size), 2 * (n - 1) * (ALPHA + part)),
        "halving_doubling": (
            all_reduce(row, size, "halving_doubling"),
            2 * levels * ALPHA + 2 * (n - 1) * part,
        ),
        "tree": (all_reduce(row, size, "tree"), 2 * levels * (ALPHA + flits)),
        "reduce_scatter": (reduce_scatter(row, size), (n - 1) * (ALPHA + part)),
        "halving": (reduce_scatter(row, size, "halving"), levels * ALPHA + (n - 1) * part),
        "all_gather": (all_gather(row, size), (n - 1) * (ALPHA + part)),
        "chain": (broadcast(row, size, "chain"), (n - 1) * (ALPHA + flits)),
        "pipelined_chain": (
            broadcast(row, size, "chain", chunks=8),
            (n - 1) * (ALPHA + flits // 8) + 7 * flits // 8,
        ),
        "all_to_all": (all_to_all(row, size), ALPHA + (n - 1) * part),
        "shift": (shift(row, size), ALPHA + flits),
    }
    found = {name: cycles(plan, switch(n)) for name, (plan, _) in forms.items()}
    assert found == {name: form - 1 for name, (_, form) in forms.items()}


def test_a_multicast_takes_each_channel_of_its_tree_once() -> None:
    """64 flits to 16 cores: one injection, not 15; the last core is 7 routers away."""
    network, timing = mesh(4, 4), Timing()
    plan = broadcast(np.arange(16), 256, "multicast")
    assert cycles(plan, network) == 7 * timing.cycles + 6 + 3 + 63
    unicasts = broadcast(np.arange(16), 256, "star")
    assert cycles(unicasts, network) > 15 * 64


def test_many_multicasts_over_a_link_add_up() -> None:
    """All-gather of 8 cores in a row: every end core receives 7 parts of 64 flits."""
    time = cycles(all_gather(np.arange(8), 8 * 256, "multicast"), mesh(8, 1))
    assert 7 * 64 - 1 <= time < 7 * 64 + 8 * Timing().cycles


@pytest.mark.parametrize("fidelity", ["fluid", "flit"])
def test_a_multicast_is_refused_where_routers_cannot_copy(fidelity: Fidelity) -> None:
    with pytest.raises(UserError, match="cannot run a multicast: use 'bound', or an algorithm"):
        cycles(broadcast(np.arange(4), 64, "multicast"), mesh(4, 1), fidelity)


def small_cases() -> list[tuple[Plan, Network]]:
    plans = [
        plan
        for size in (64, 1024)
        for members in (np.arange(16), ring_in(Rectangle(4, 4, 4)).members)
        for plan in (
            all_reduce(members, size),
            all_reduce(members, size, "halving_doubling"),
            all_reduce(members, size, "tree", 2),
            all_reduce(members, size, "two_phase"),
            all_to_all(members, 4 * size),
            broadcast(members, size, "chain", 4),
            broadcast(members, size, "scatter_all_gather"),
        )
    ]
    plans.append(all_reduce(np.arange(16).reshape(4, 4), 1024, "two_dimensional"))
    return [(plan, net) for plan in plans for net in (mesh(4, 4), torus(4, 4), switch(16))]


def test_fluid_is_near_flit_and_bound_is_below_both() -> None:
    errors = []
    for plan, network in small_cases():
        bound, fluid, flit = (cycles(plan, network, f) for f in FIDELITIES)
        assert bound <= min(fluid, flit)
        errors.append(abs(fluid / flit - 1))
    assert np.mean(errors) < 0.02
    assert np.percentile(errors, 95) < 0.1
