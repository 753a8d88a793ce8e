"""Cases as files: what is read, and every mistake with its place."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.noc.case import case_of, read_case
from wscc.backend.noc.simulate import simulate
from wscc.ir.errors import UserError

CASE: dict[str, Any] = {
    "id": "small",
    "family": "hand",
    "kind": "plain",
    "mesh": {"w": 3, "h": 2},
    "link_default": {"latency": 1, "cycles_per_flit": 1},
    "link_exceptions": [[0, 1, 2, 4]],
    "dead_links": [[1, 4]],
    "dead_cores": [],
    "extra_nodes": [[10, 2]],
    "routing": "xy",
    "route_overrides": [[1, 4, [1, 0, 3, 4]]],
    "router": {
        "num_vcs": 4,
        "vc_buf_size": 8,
        "routing_delay": 1,
        "vc_alloc_delay": 1,
        "sw_alloc_delay": 1,
        "st_final_delay": 1,
        "speculative": 0,
        "credit_delay": 1,
    },
    "flit_bytes": 16,
    "max_packet_flits": 16,
    "nic_policy": "fifo",
    "message_columns": ["src", "dst", "flits", "release", "bytes"],
    "messages": [[1, 4, 16, 0, 256], [10, 3, 8, 100, 128], [3, 5, 4, 0, 64]],
    "deps": [[2, [0, 1], 7]],
    "result": {"makespan": 50, "finish": [10, 20, 50], "booksim_cpu_s": 0.5},
}


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    case = copy.deepcopy(CASE)
    at: Any = case
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return case


def refused(case: Any) -> str:
    with pytest.raises(UserError) as caught:
        case_of(case, "case")
    return caught.value.message


def test_a_case_is_read_with_all_that_it_says() -> None:
    case = case_of(CASE, "-")
    assert (case.id, case.family, case.kind) == ("small", "hand", "plain")
    assert case.flows.source.tolist() == [1, 6, 3]
    assert case.nodes.tolist() == [0, 1, 2, 3, 4, 5, 10]
    assert case.measured is not None
    assert case.measured.finish.tolist() == [10, 20, 50]
    outcome = simulate(case.network, case.flows, "flit")
    # The detour has 4 routers; the node 10 is on router 2, 4 routers from 3.
    assert outcome.finish[0] == 4 * 4 + 3 + 3 + 15
    assert outcome.finish[1] == 100 + 4 * 4 + 3 + 3 + 7
    assert outcome.ready[2] == outcome.finish[1] + 1 + 7


def test_what_a_case_need_not_say_has_a_default() -> None:
    needed = ("mesh", "router", "max_packet_flits", "messages")
    case = case_of({key: CASE[key] for key in needed} | {"messages": [[0, 1, 4, 0]]}, "name")
    assert (case.id, case.family, case.measured, case.network.latency) == ("name", "-", None, 1)


def test_an_unknown_field_is_told_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="wscc.backend.noc.case"):
        case_of(CASE | {"colour": "red"}, "case")
    assert caplog.messages == ["case: the field 'colour' is not known and is ignored"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ([], "the case: [] is no object"),
        ({}, "the field 'mesh' is missing"),
        (changed("mesh", value=7), "mesh: 7 is no object"),
        (changed("mesh", value={"w": 3}), "mesh: the field 'h' is missing"),
        (changed("mesh", "w", value=0), "mesh.w: 0 is not between 1 and 1073741824"),
        (changed("mesh", "w", value=2.0), "mesh.w: 2.0 is no whole number"),
        (changed("mesh", "w", value=True), "mesh.w: true is no whole number"),
        (
            changed("mesh", value={"w": 1 << 20, "h": 1 << 20}),
            "mesh: 1048576 x 1048576 routers are more than 1073741824",
        ),
        (changed("routing", value="yx"), "routing: 'yx' is not known, expected 'xy'"),
        (changed("nic_policy", value="lifo"), "nic_policy: 'lifo' is neither 'fifo' nor 'rr'"),
        (changed("router", value={}), "router: the field 'num_vcs' is missing"),
        (changed("router", "num_vcs", value=0), "router.num_vcs: 0 is not between 1 and 256"),
        (changed("router", "speculative", value=2), "router.speculative: 2 is neither 0 nor 1"),
        (
            changed("router", "sw_alloc_delay", value=2),
            "routers whose switch allocation, or speculative allocation of virtual channels, "
            "takes more than one cycle are not modelled",
        ),
        (
            changed("link_default", "latency", value=0),
            "link_default.latency: 0 is not between 1 and 4096",
        ),
        (changed("link_exceptions", 0, value=[0, 1]), "link_exceptions[0]: 2 entries, expected 4"),
        (
            changed("link_exceptions", value=[[0, 4, 1, 1]]),
            "a link of its own speed: there is no link from 0 to 4",
        ),
        (
            changed("link_exceptions", value=[[0, 1, 1, 1], [0, 1, 2, 2]]),
            "link_exceptions[1]: 0, 1 is repeated",
        ),
        (
            changed("dead_links", value=[[0, 6]]),
            "dead_links[0]: a router: 6 is not between 0 and 5",
        ),
        (
            changed("dead_cores", value=[3]),
            "message 2 is sent by terminal 3, whose core is dead",
        ),
        (changed("dead_cores", value=3), "dead_cores: 3 is no list"),
        (
            changed("extra_nodes", value=[[10, 2], [10, 1]]),
            "extra_nodes[1]: the node 10 is repeated",
        ),
        (
            changed("extra_nodes", 0, 0, value=5),
            "extra_nodes[0]: the node: 5 is not between 6 and 1099511627776",
        ),
        (changed("messages", value={}), "messages: {} is no list"),
        (changed("messages", 1, value=[0, 1, 4]), "messages[1]: 3 entries, expected 4"),
        (changed("messages", 1, 0, value=6), "messages[1]: there is no node 6"),
        (changed("messages", 1, 1, value=-1), "messages[1]: there is no node -1"),
        (changed("messages", 1, 1, value="a"), 'messages[1]: there is no node "a"'),
        (
            changed("messages", 2, 2, value=0),
            "messages[2]: flits: 0 is not between 1 and 2147483648",
        ),
        (
            changed("messages", 2, 3, value=-4),
            "messages[2]: release: -4 is not between 0 and 1099511627776",
        ),
        (
            changed("message_columns", value=["dst", "src", "flits", "release"]),
            "message_columns: expected src, dst, flits, release first",
        ),
        (
            changed("max_packet_flits", value=0),
            "max_packet_flits: 0 is not between 1 and 2147483648",
        ),
        (changed("deps", 0, 0, value=3), "deps[0]: the message: 3 is not between 0 and 2"),
        (
            changed("deps", 0, 1, value=[0, 0]),
            "deps[0]: a message that is waited for is repeated",
        ),
        (
            changed("deps", value=[[2, [0], 1], [2, [1], 1]]),
            "deps[1]: the message 2 is repeated",
        ),
        (
            changed("deps", value=[[2, [0], 1], [0, [2], 1]]),
            "messages wait for each other in a circle: 2 for 0 for 2",
        ),
        (
            changed("route_overrides", value=[]),
            "message 0: its route from 1 to 4 crosses the dead link 1 -> 4; "
            "give that pair a route of its own",
        ),
        (
            changed("route_overrides", value=[[1, 4, [1, 4]], [1, 4, [1, 4]]]),
            "route_overrides[1]: the pair 1, 4 is repeated",
        ),
        (
            changed("route_overrides", 0, 2, value=[1, 3, 4]),
            "the route from 1 to 4: there is no link from 1 to 3",
        ),
        (changed("result", "finish", value=[1]), "result.finish: 1 entries for 3 messages"),
        (changed("result", "makespan", value=None), "result.makespan: null is no whole number"),
        (changed("result", "booksim_cpu_s", value="x"), 'result.booksim_cpu_s: "x" is no time'),
    ],
)
def test_a_mistake_is_named_with_its_place(case: Any, message: str) -> None:
    assert refused(case) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"mesh": ', ":1:10: error: is not JSON: Expecting value"),
        ("[" * 100_000, ": error: is nested too deeply"),
        ('{"mesh": ' + "9" * 5000 + "}", ": error: holds a number that is too long"),
        ("{}", ": error: the field 'mesh' is missing"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "case.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_case(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.json: error: cannot be read: No such file"):
        read_case(tmp_path / "nothing.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_case(tmp_path / "bytes.json")


WRONG = st.sampled_from(
    [None, True, -1, 0, 1, 5, 6, 1 << 70, 0.5, "", "x", [], {}, [0], [0, 1], [[0, 1]], {"w": 1}]
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@settings(deadline=None, max_examples=400)
@given(place=st.sampled_from(places(CASE)[1:]), value=WRONG)
def test_whatever_stands_in_a_field_is_read_or_refused(
    place: tuple[str | int, ...], value: Any
) -> None:
    case = changed(*place, value=value)
    json.dumps(case)
    try:
        read = case_of(case, "case")
    except UserError:
        return
    simulate(read.network, read.flows, "bound")
