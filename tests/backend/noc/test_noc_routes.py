"""Networks, the routes on them, and what cannot be built or routed."""

from collections.abc import Callable

import numpy as np
import pytest
from wscc.backend.noc.arrays import Timing
from wscc.backend.noc.flows import Flows, flows_of, order_of
from wscc.backend.noc.network import Network, mesh, switch, torus
from wscc.backend.noc.routes import routes_of
from wscc.backend.noc.simulate import simulate
from wscc.ir.errors import UserError


def path(network: Network, source: int, destination: int) -> list[int]:
    """The routers of a route, from its channels."""
    flows = flows_of([source], [destination], 1, packet_flits=1)
    routes = routes_of(network, flows)
    links = routes.channels[:-1]
    assert int(routes.channels[-1]) == network.first_ejection + destination
    first = int(network.router_of(np.array([source]))[0])
    starts = (links // 4).tolist()
    ends = network.end_of(links).tolist()
    assert starts == [first, *ends][:-1]
    return [first, *ends]


def refused(network: Network, flows: Flows) -> str:
    with pytest.raises(UserError) as caught:
        simulate(network, flows, "bound")
    return caught.value.message


def test_a_route_on_a_mesh_goes_along_the_row_first() -> None:
    assert path(mesh(4, 3), 1, 11) == [1, 2, 3, 7, 11]
    assert path(mesh(4, 3), 11, 1) == [11, 10, 9, 5, 1]
    assert path(mesh(4, 3), 6, 6) == [6]


def test_a_route_on_a_torus_takes_the_shorter_way_round_and_forward_where_both_are_equal() -> None:
    assert path(torus(5, 4), 0, 4) == [0, 4]
    assert path(torus(5, 4), 0, 3) == [0, 4, 3]
    assert path(torus(5, 4), 0, 2) == [0, 1, 2]
    assert path(torus(4, 4), 0, 2) == [0, 1, 2]
    assert path(torus(4, 4), 2, 0) == [2, 3, 0]
    assert path(torus(4, 4), 0, 12) == [0, 12]


def test_packets_change_their_class_of_channels_past_the_joint_of_a_ring() -> None:
    flows = flows_of([3], [9], 1, packet_flits=1)
    routes = routes_of(torus(5, 5), flows)
    # One step east and one south, over no joint.
    assert routes.classes.tolist() == [0, 0, 0]
    flows = flows_of([4], [21], 1, packet_flits=1)
    # East over the joint to 0 and on to 1, then north over the joint to row 4.
    assert routes_of(torus(5, 5), flows).classes.tolist() == [1, 1, 1, 0]
    assert torus(5, 5).timing.classes == 2
    assert torus(5, 5, Timing(vcs=1)).timing.classes == 1


def test_attached_terminals_send_from_their_router() -> None:
    network = mesh(3, 2, attached=[5, 5])
    assert path(network, 6, 1) == [5, 4, 1]
    assert path(network, 0, 7) == [0, 1, 2, 5]
    assert network.terminals == 8


def test_a_switch_is_one_router_with_all_terminals() -> None:
    network = switch(8)
    assert (network.routers, network.terminals) == (1, 8)
    assert path(network, 3, 6) == [0]


def test_a_detour_replaces_the_route_of_its_pair_only() -> None:
    network = mesh(3, 3, dead_links=[(0, 1)], detours={(0, 2): [0, 3, 4, 1, 2]})
    assert path(network, 0, 2) == [0, 3, 4, 1, 2]
    assert path(network, 3, 5) == [3, 4, 5]


def test_channels_have_the_latency_and_period_of_their_direction() -> None:
    network = mesh(3, 1, latency=2, exceptions=[(0, 1, 7, 4)])
    east, west = network.links_between([0, 1], [1, 0])
    assert network.latency_of(np.array([east, west])).tolist() == [7, 2]
    assert network.period_of(np.array([east, west])).tolist() == [4, 1]
    ejection = np.array([network.first_ejection])
    assert network.latency_of(ejection).tolist() == [1]


@pytest.mark.parametrize(
    ("network", "flows", "message"),
    [
        (
            mesh(3, 1, dead_links=[(2, 1)]),
            flows_of([1, 0], [0, 2], 4, packet_flits=4),
            "message 1: its route from 0 to 2 crosses the dead link 1 -> 2; "
            "give that pair a route of its own",
        ),
        (
            mesh(3, 1, dead_cores=[1]),
            flows_of([0], [2], 4, packet_flits=4),
            "message 0: its route from 0 to 2 crosses a link of the dead core 1 -> 2; "
            "give that pair a route of its own",
        ),
        (
            mesh(3, 1, dead_cores=[1]),
            flows_of([0, 1], [0, 2], 4, packet_flits=4),
            "message 1 is sent by terminal 1, whose core is dead",
        ),
        (
            mesh(3, 1),
            flows_of([0], [3], 4, packet_flits=4),
            "message 0 goes to terminal 3, but the last one is 2",
        ),
        (
            mesh(3, 1),
            flows_of([0, 0], [2, 2], [4, 0], packet_flits=4),
            "message 1 has 0 flits, expected at least 1",
        ),
        (
            mesh(3, 1, detours={(0, 2): [0, 2]}),
            flows_of([0], [2], 4, packet_flits=4),
            "the route from 0 to 2: there is no link from 0 to 2",
        ),
        (
            mesh(3, 1, detours={(0, 2): [0, 1]}),
            flows_of([0], [2], 4, packet_flits=4),
            "the route from 0 to 2 does not begin at router 0 and end at 2",
        ),
        (
            mesh(3, 1, detours={(0, 2): [0, 1, 0, 1, 2]}),
            flows_of([0], [2], 4, packet_flits=4),
            "the route from 0 to 2 passes a router twice",
        ),
    ],
)
def test_what_cannot_be_routed_is_named(network: Network, flows: Flows, message: str) -> None:
    assert refused(network, flows) == message


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mesh(0, 3), "a network of 0 x 3 routers is empty"),
        (lambda: torus(2, 5), "a torus of two routers in a direction is a mesh; use that"),
        (lambda: mesh(3, 3, dead_links=[(0, 4)]), "a dead link: there is no link from 0 to 4"),
        (lambda: mesh(3, 3, attached=[9]), "an attached terminal: there is no router 9"),
        (
            lambda: mesh(3, 3, exceptions=[(0, 1, 0, 1)]),
            "a link's latency and period must be at least 1",
        ),
        (
            lambda: mesh(3, 3, Timing(switch_allocation=2)),
            "routers whose switch allocation, or speculative allocation of virtual channels, "
            "takes more than one cycle are not modelled",
        ),
    ],
)
def test_what_cannot_be_built_is_one_message(build: Callable[[], Network], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build()
    assert caught.value.message == message


def test_messages_that_wait_in_a_circle_are_named() -> None:
    flows = flows_of(
        [0] * 4, [1] * 4, 1, packet_flits=1, waiting=[1, 2, 3, 1], awaited=[0, 1, 2, 3]
    )
    with pytest.raises(UserError, match="in a circle: 2 for 1 for 3 for 2"):
        order_of(flows)


def test_an_order_puts_every_message_behind_those_it_waits_for() -> None:
    draw = np.random.default_rng(3)
    high = draw.integers(1, 200, 600)
    low = (draw.random(600) * high).astype(int)
    shuffled = draw.permutation(200)
    flows = flows_of(
        [0] * 200, [1] * 200, 1, packet_flits=1, waiting=shuffled[high], awaited=shuffled[low]
    )
    place = np.empty(200, int)
    place[order_of(flows).order] = np.arange(200)
    assert np.all(place[flows.waiting] > place[flows.awaited])
