"""The three fidelities on small networks: by hand, against each other, and on copies."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.noc import flit_kernel, fluid_kernel, wheel
from wscc.backend.noc import simulate as module
from wscc.backend.noc.arrays import SENT, Timing
from wscc.backend.noc.flows import Flows, flows_of, order_of
from wscc.backend.noc.network import Network, mesh, switch, torus
from wscc.backend.noc.pieces import whole
from wscc.backend.noc.routes import routes_of
from wscc.backend.noc.simulate import FIDELITIES, Fidelity, simulate
from wscc.backend.noc.tables import tables_of
from wscc.ir.errors import UserError

SIMULATED: tuple[Fidelity, ...] = ("fluid", "flit")


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize(
    ("network", "source", "destination", "flits", "cycles"),
    [
        # n * R + latencies of the links + 3 + (F - 1): 4 * 4 + 3 * 1 + 3 + 15
        (mesh(4, 1), 0, 3, 16, 37),
        # 6 * 4 + 5 * 3 + 3 + 0
        (mesh(3, 4, latency=3), 0, 11, 1, 42),
        # speculative, without route computation: 3 * 2 + 2 + 3 + 7
        (mesh(3, 1, Timing(routing=0, speculative=True)), 2, 0, 8, 18),
        # 3 * (2 + 1 + 1 + 1) + 2 + 3 + 7
        (mesh(3, 1, Timing(routing=2)), 0, 2, 8, 27),
        # over the joint: 2 * 4 + 1 + 3 + 3
        (torus(5, 5), 0, 4, 4, 15),
        # one router: 4 + 0 + 3 + 31
        (switch(8), 2, 5, 32, 38),
        # the last link takes 8 cycles a flit: 3 * 4 + 2 + 3 + 15 * 8, less what the tail, which
        # needs no route and no channel of its own, catches up at the last router
        (mesh(3, 1, exceptions=[(1, 2, 1, 8)]), 0, 2, 16, 135),
    ],
)
def test_a_message_alone_takes_its_zero_load_time(
    network: Network, source: int, destination: int, flits: int, cycles: int, fidelity: Fidelity
) -> None:
    flows = flows_of([source], [destination], flits, packet_flits=64, release=5)
    assert simulate(network, flows, fidelity).makespan == 5 + cycles


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_a_message_is_ready_a_delay_after_what_it_waits_for(fidelity: Fidelity) -> None:
    flows = flows_of([0, 3], [3, 0], 16, packet_flits=16, delay=[0, 10], waiting=[1], awaited=[0])
    outcome = simulate(mesh(4, 1), flows, fidelity)
    assert outcome.ready.tolist() == [0, 37 + 1 + 10]
    assert outcome.finish.tolist() == [37, 48 + 37]


def test_a_traversal_of_two_cycles_takes_what_comes_meanwhile_together() -> None:
    """Flits that follow each other over one router: the first is through after 2 cycles, the two
    that came while it was crossing follow 2 cycles later, and leave one after the other."""
    network = mesh(1, 1, Timing(traversal=2))
    ends = [
        simulate(network, flows_of([0], [0], flits, packet_flits=8), "flit").makespan
        for flits in range(1, 6)
    ]
    assert ends == [8, 10, 11, 12, 13]


@pytest.mark.parametrize("fidelity", SIMULATED)
def test_one_virtual_channel_leaves_a_bubble_between_packets(fidelity: Fidelity) -> None:
    """Dally and Towles, section 16.4: with R = 4 a packet of 4 flits holds its channel for 6."""
    network = mesh(4, 1, Timing(vcs=1, buffer_flits=16))
    flows = flows_of([0], [3], 512, packet_flits=4)
    assert 512 / simulate(network, flows, fidelity).makespan == pytest.approx(4 / 6, abs=0.03)


@pytest.mark.parametrize("fidelity", SIMULATED)
def test_the_credit_loop_limits_a_packet(fidelity: Fidelity) -> None:
    """A buffer of 4 flits in each round trip, 0.62 of a channel by BookSim2's measurement."""
    network = mesh(4, 1, Timing(vcs=1, buffer_flits=4))
    flows = flows_of([0], [3], 512, packet_flits=512)
    assert 512 / simulate(network, flows, fidelity).makespan == pytest.approx(0.62, abs=0.06)


def test_a_terminal_sends_in_turn_or_one_message_after_the_other() -> None:
    network = mesh(3, 1)
    after = flows_of([0, 0], [2, 2], 160, packet_flits=16)
    for fidelity in SIMULATED:
        first, second = simulate(network, after, fidelity).finish
        assert second - first > 150
        first, second = simulate(network, replace(after, in_turn=True), fidelity).finish
        assert second - first < 25


def row_gathers(width: int, height: int, flits: int) -> Flows:
    """Every core sends to all others of its row."""
    row, source, destination = (part.reshape(-1) for part in np.mgrid[0:height, 0:width, 0:width])
    other = source != destination
    return flows_of(
        (row * width + source)[other], (row * width + destination)[other], flits, packet_flits=16
    )


@pytest.mark.parametrize("fidelity", SIMULATED)
def test_equal_rows_are_simulated_once_and_copied(
    monkeypatch: pytest.MonkeyPatch, fidelity: Fidelity
) -> None:
    network, flows = mesh(6, 7), row_gathers(6, 7, 24)
    copied = simulate(network, flows, fidelity)
    monkeypatch.setattr(module, "pieces_of", lambda network, flows, routes: whole(flows))
    every = simulate(network, flows, fidelity)
    assert (copied.pieces, copied.distinct, every.pieces) == (7, 1, 1)
    assert copied.steps * 7 == every.steps
    for row in ("ready", "start", "finish"):
        assert getattr(copied, row).tolist() == getattr(every, row).tolist()


@pytest.mark.parametrize(
    ("network", "distinct"),
    [
        (mesh(6, 4), 1),
        (mesh(6, 4, exceptions=[(7, 8, 3, 2)]), 2),
        (torus(6, 4), 1),
    ],
)
def test_rows_that_differ_are_simulated_each(network: Network, distinct: int) -> None:
    outcome = simulate(network, row_gathers(6, 4, 8), "fluid")
    assert (outcome.pieces, outcome.distinct) == (4, distinct)


def test_a_release_or_a_dependency_of_its_own_makes_a_piece_of_its_own() -> None:
    flows = row_gathers(4, 4, 8)
    release = flows.release.copy()
    release[-1] = 3
    assert simulate(mesh(4, 4), replace(flows, release=release), "fluid").distinct == 2
    joined = replace(flows, waiting=np.array([0]), awaited=np.array([flows.count - 1]))
    outcome = simulate(mesh(4, 4), joined, "fluid")
    assert (outcome.pieces, outcome.distinct) == (3, 2)


def random_case(seed: int) -> tuple[Network, Flows]:
    """A small network with slow links and terminals, and messages with dependencies."""
    draw = np.random.default_rng(seed)
    width, height = (int(size) for size in draw.integers(3, 6, 2))
    speculative = bool(draw.integers(2))
    timing = Timing(
        vcs=int(draw.integers(2, 5)),
        buffer_flits=int(draw.integers(2, 12)),
        routing=int(draw.integers(0, 3)),
        vc_allocation=1 if speculative else int(draw.integers(1, 3)),
        traversal=int(draw.integers(1, 3)),
        credit=int(draw.integers(0, 3)),
        speculative=speculative,
    )
    attached = draw.integers(0, width * height, 3)
    latency = int(draw.integers(1, 4))
    if draw.integers(3) == 0:
        network = torus(width, height, timing, latency=latency, attached=attached)
    else:
        slow = [(0, 1, 2, 3), (1, 0, 2, 3), (1, 2, 1, 8), (width, 0, 4, 2)]
        network = mesh(width, height, timing, latency=latency, attached=attached, exceptions=slow)
    count = int(draw.integers(1, 40))
    high = draw.integers(0, count, count // 2)
    low = (draw.random(count // 2) * high).astype(int)
    pairs = np.unique(np.stack([high, low], axis=1)[low < high], axis=0)
    return network, flows_of(
        draw.integers(0, network.terminals, count),
        draw.integers(0, network.terminals, count),
        draw.integers(1, 60, count),
        packet_flits=int(draw.integers(1, 20)),
        release=draw.integers(0, 50, count),
        in_turn=bool(draw.integers(2)),
        delay=draw.integers(0, 5, count),
        waiting=pairs[:, 0],
        awaited=pairs[:, 1],
    )


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 1 << 32))
def test_no_simulation_is_faster_than_the_bound(seed: int) -> None:
    network, flows = random_case(seed)
    bound, flit = simulate(network, flows, "bound"), simulate(network, flows, "flit")
    assert bound.makespan <= flit.makespan
    assert np.all(bound.finish <= flit.finish)
    assert np.all(bound.ready <= flit.ready)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32))
def test_a_simulation_is_the_same_every_time_and_loses_nothing(seed: int) -> None:
    network, flows = random_case(seed)
    for fidelity in SIMULATED:
        first, again = (simulate(network, flows, fidelity) for _ in range(2))
        assert first.finish.tolist() == again.finish.tolist()
        assert np.all(first.ready <= first.start)
        assert np.all(first.start + flows.flits < first.finish)
        channels, flits = first.loads
        ejected = flits[(channels >= network.first_ejection) & (channels < network.first_injection)]
        assert ejected.sum() == flows.flits.sum()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1 << 32))
def test_the_kernels_send_over_each_channel_what_the_routes_say(seed: int) -> None:
    network, flows = random_case(seed)
    routes = routes_of(network, flows)
    tables = tables_of(network, flows, routes, order_of(flows))
    expected = np.bincount(
        tables.traffic.route // network.timing.classes, np.repeat(flows.flits, routes.hops)
    )
    for kernel in (fluid_kernel, flit_kernel):
        state = kernel.initial_state(tables.ports, network.timing, tables.traffic)
        kernel.advance(state, network.timing, tables.traffic, 1 << 40)
        assert state.ports.exits[SENT].tolist() == expected.tolist()


@pytest.mark.parametrize("fidelity", SIMULATED)
def test_a_ring_with_one_virtual_channel_deadlocks_and_says_where(fidelity: Fidelity) -> None:
    node = np.arange(8)
    flows = flows_of(node, (node + 3) % 8, 200, packet_flits=100)
    with pytest.raises(UserError, match=r"deadlock: the messages 0, 1, .* at the routers 0, 1, "):
        simulate(torus(8, 1, Timing(vcs=1)), flows, fidelity)
    assert simulate(torus(8, 1, Timing(vcs=2)), flows, fidelity).makespan > 600


@pytest.mark.parametrize("fidelity", SIMULATED)
def test_a_loaded_torus_does_not_deadlock(fidelity: Fidelity) -> None:
    source, destination = (part.reshape(-1) for part in np.mgrid[0:25, 0:25])
    flows = flows_of(source, destination, 30, packet_flits=30, in_turn=True)
    outcome = simulate(torus(5, 5, Timing(vcs=2, buffer_flits=4)), flows, fidelity)
    assert outcome.makespan > simulate(torus(5, 5), flows, "bound").makespan


def test_a_simulation_beyond_its_budget_is_refused_with_an_estimate() -> None:
    flows = flows_of([0], [3], 1_000_000_000, packet_flits=16)
    with pytest.raises(UserError) as caught:
        simulate(mesh(4, 1), flows, "flit")
    assert caught.value.message.startswith(
        "simulating 4e+09 flits through routers would take about"
    )
    assert caught.value.message.endswith(
        "and the budget is 2e+09: raise the budget, or use 'fluid' or 'bound'"
    )
    with pytest.raises(UserError, match=r"trains of flits .* or use 'bound'"):
        simulate(mesh(4, 1), flows, "fluid", budget=1000)


def test_progress_is_told_and_an_interrupt_gets_through() -> None:
    flows = flows_of([0, 1], [3, 2], 20_000, packet_flits=16)
    told: list[tuple[int, int]] = []
    simulate(mesh(4, 1), flows, "flit", progress=lambda done, count: told.append((done, count)))
    assert len(told) > 1
    assert told[-1] == (2, 2)

    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(mesh(4, 1), flows, "flit", progress=interrupt)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_no_messages_take_no_time(fidelity: Fidelity) -> None:
    outcome = simulate(mesh(3, 3), flows_of([], [], [], packet_flits=4), fidelity)
    assert (outcome.makespan, outcome.hottest(3)) == (0, [])


def test_a_million_cores_cost_what_their_traffic_does() -> None:
    network = mesh(1000, 1000, dead_links=[(5, 6)])
    core = np.arange(0, 1_000_000, 1009)
    flows = flows_of(core, (core + 7 * 1000) % 1_000_000, 16, packet_flits=16)
    outcome = simulate(network, flows, "flit")
    assert outcome.pieces > outcome.distinct
    assert outcome.makespan >= simulate(network, flows, "bound").makespan


def test_the_hottest_channels_are_those_that_are_busy_longest() -> None:
    network = mesh(3, 1, exceptions=[(1, 2, 1, 4)])
    flows = flows_of([0, 1], [2, 0], [20, 60], packet_flits=20)
    outcome = simulate(network, flows, "bound")
    names = [(name, flits) for name, flits, _ in outcome.hottest(2)]
    assert names == [("1 -> 2", 20), ("1 -> 0", 60)]
    assert outcome.hottest(1)[0][2] == pytest.approx(80 / outcome.makespan)


def test_a_simulation_that_runs_out_of_events_gets_more(monkeypatch: pytest.MonkeyPatch) -> None:
    network, flows = random_case(7)
    expected = simulate(network, flows, "fluid").finish.tolist()
    monkeypatch.setattr(
        fluid_kernel, "wheel_of", lambda longest, capacity: wheel.wheel_of(longest, 1)
    )
    assert simulate(network, flows, "fluid").finish.tolist() == expected


def test_an_unknown_fidelity_is_refused() -> None:
    with pytest.raises(UserError, match="there is no fidelity 'flits', did you mean 'flit'"):
        simulate(mesh(2, 1), flows_of([0], [1], 1, packet_flits=1), "flits")  # pyright: ignore
