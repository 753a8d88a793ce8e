"""Cases as files: a network, messages on it, and where it was measured what became of them.

The format is JSON and is described in docs/network.md. Every mistake in a file is a UserError
with its place; what a case does not need is ignored, and said so in the log.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import Location, UserError
from .arrays import Ints, Timing
from .flows import Flows, check_flows, flows_of, order_of
from .network import Network, mesh
from .routes import routes_of

logger = logging.getLogger(__name__)

_KNOWN = (
    *("id", "kind", "family", "info", "mesh", "die", "link_default", "link_exceptions"),
    *("dead_links", "dead_cores", "extra_nodes", "routing", "route_overrides", "router"),
    *("flit_bytes", "max_packet_flits", "nic_policy", "message_columns", "messages", "deps"),
    "result",
)
_COLUMNS = ["src", "dst", "flits", "release"]

_MOST_ROUTERS = 1 << 30
_MOST_CYCLES = 1 << 40
_MOST_FLITS = 1 << 31
_MOST_LATENCY = 4096
_MOST_VCS = 256


@dataclass(frozen=True, eq=False)
class Measured:
    """What a reference simulator found: cycles by message, and its CPU seconds (0: unknown)."""

    ready: Ints
    finish: Ints
    makespan: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Case:
    """A case as it was read; `nodes` are the file's names of the terminals."""

    id: str
    family: str
    kind: str
    network: Network
    flows: Flows
    nodes: Ints
    measured: Measured | None


def read_case(path: Path) -> Case:
    """Read a case and check all of it. Raises UserError."""
    where = str(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", Location(where)) from None
    except UnicodeDecodeError:
        raise UserError("is not UTF-8 text", Location(where)) from None
    except RecursionError:
        raise UserError("is nested too deeply", Location(where)) from None
    except json.JSONDecodeError as error:
        place = Location(where, error.lineno, error.colno)
        raise UserError(f"is not JSON: {error.msg}", place) from None
    except ValueError:
        raise UserError("holds a number that is too long", Location(where)) from None
    try:
        return case_of(found, path.stem)
    except UserError as error:
        raise UserError(error.message, Location(where)) from None


def case_of(found: Any, name: str) -> Case:
    """A case from JSON's values; `name` stands for an `id` that is missing. Raises UserError."""
    case = _object(found, "the case")
    for key in sorted(set(case) - set(_KNOWN)):
        logger.info("%s: the field '%s' is not known and is ignored", name, key)
    routing = _text(case, "routing", "xy")
    if routing != "xy":
        raise UserError(f"routing: '{routing}' is not known, expected 'xy'")
    size = _object(_needed(case, "mesh"), "mesh")
    width = _whole(_needed(size, "w", "mesh"), "mesh.w", 1, _MOST_ROUTERS)
    height = _whole(_needed(size, "h", "mesh"), "mesh.h", 1, _MOST_ROUTERS)
    if width * height > _MOST_ROUTERS:
        raise UserError(f"mesh: {width} x {height} routers are more than {_MOST_ROUTERS}")
    nodes, attached = _nodes(case, width * height)
    terminal = {int(node): number for number, node in enumerate(nodes.tolist())}
    flows = _flows(case, terminal, width * height)
    network = _network(case, width, height, attached, terminal)
    check_flows(network, flows)
    order_of(flows)
    routes_of(network, flows)
    return Case(
        _text(case, "id", name),
        _text(case, "family", "-"),
        _text(case, "kind", "-"),
        network,
        flows,
        np.concatenate([np.arange(width * height), nodes]),
        _measured(case, flows),
    )


def _nodes(case: Mapping[str, Any], cores: int) -> tuple[Ints, list[int]]:
    """The names and the routers of the terminals beyond the cores."""
    nodes, routers = [], []
    for at, row in enumerate(_rows(case, "extra_nodes", 2)):
        what = f"extra_nodes[{at}]"
        node = _whole(row[0], f"{what}: the node", cores, _MOST_CYCLES)
        if node in nodes:
            raise UserError(f"{what}: the node {node} is repeated")
        nodes.append(node)
        routers.append(_whole(row[1], f"{what}: the router", 0, cores - 1))
    return np.array(nodes, np.int64), routers


def _network(
    case: Mapping[str, Any],
    width: int,
    height: int,
    attached: Sequence[int],
    terminal: Mapping[int, int],
) -> Network:
    cores = width * height
    link = _object(case.get("link_default", {}), "link_default")
    exceptions = [
        (
            _whole(row[0], f"link_exceptions[{at}]: from", 0, cores - 1),
            _whole(row[1], f"link_exceptions[{at}]: to", 0, cores - 1),
            _whole(row[2], f"link_exceptions[{at}]: the latency", 1, _MOST_LATENCY),
            _whole(row[3], f"link_exceptions[{at}]: cycles_per_flit", 1, _MOST_LATENCY),
        )
        for at, row in enumerate(_rows(case, "link_exceptions", 4))
    ]
    _refuse_repeats("link_exceptions", [row[:2] for row in exceptions])
    dead_links = [
        [_whole(end, f"dead_links[{at}]: a router", 0, cores - 1) for end in row]
        for at, row in enumerate(_rows(case, "dead_links", 2))
    ]
    dead_cores = [
        _whole(core, f"dead_cores[{at}]", 0, cores - 1)
        for at, core in enumerate(_list(case.get("dead_cores", []), "dead_cores"))
    ]
    detours: dict[tuple[int, int], tuple[int, ...]] = {}
    for at, row in enumerate(_rows(case, "route_overrides", 3)):
        what = f"route_overrides[{at}]"
        pair = tuple(_terminal(row[i], terminal, cores, what) for i in range(2))
        if pair in detours:
            raise UserError(f"{what}: the pair {row[0]}, {row[1]} is repeated")
        path = _list(row[2], f"{what}: the path")
        detours[pair[0], pair[1]] = tuple(
            _whole(router, f"{what}: a router of the path", 0, cores - 1) for router in path
        )
    return mesh(
        width,
        height,
        _timing(case),
        latency=_whole(link.get("latency", 1), "link_default.latency", 1, _MOST_LATENCY),
        period=_whole(
            link.get("cycles_per_flit", 1), "link_default.cycles_per_flit", 1, _MOST_LATENCY
        ),
        attached=attached,
        exceptions=exceptions,
        dead_links=dead_links,
        dead_cores=dead_cores,
        detours=detours,
    )


def _timing(case: Mapping[str, Any]) -> Timing:
    router = _object(_needed(case, "router"), "router")

    def value(key: str, least: int, most: int = _MOST_LATENCY) -> int:
        return _whole(_needed(router, key, "router"), f"router.{key}", least, most)

    speculative = router.get("speculative", 0)
    if speculative not in (0, 1):
        raise UserError(f"router.speculative: {_shown(speculative)} is neither 0 nor 1")
    return Timing(
        vcs=value("num_vcs", 1, _MOST_VCS),
        buffer_flits=value("vc_buf_size", 1),
        routing=value("routing_delay", 0),
        vc_allocation=value("vc_alloc_delay", 1),
        switch_allocation=value("sw_alloc_delay", 1),
        traversal=value("st_final_delay", 1),
        credit=value("credit_delay", 0),
        speculative=bool(speculative),
    )


def _flows(case: Mapping[str, Any], terminal: Mapping[int, int], cores: int) -> Flows:
    columns = case.get("message_columns", _COLUMNS)
    if not isinstance(columns, list) or columns[: len(_COLUMNS)] != _COLUMNS:
        raise UserError(f"message_columns: expected {', '.join(_COLUMNS)} first")
    policy = _text(case, "nic_policy", "fifo")
    if policy not in ("fifo", "rr"):
        raise UserError(f"nic_policy: '{policy}' is neither 'fifo' nor 'rr'")
    _needed(case, "messages")
    rows = np.array(
        [
            (
                _terminal(row[0], terminal, cores, f"messages[{at}]"),
                _terminal(row[1], terminal, cores, f"messages[{at}]"),
                _whole(row[2], f"messages[{at}]: flits", 1, _MOST_FLITS),
                _whole(row[3], f"messages[{at}]: release", 0, _MOST_CYCLES),
            )
            for at, row in enumerate(_rows(case, "messages", len(_COLUMNS), or_more=True))
        ],
        np.int64,
    ).reshape(-1, len(_COLUMNS))
    waiting, awaited, delay = _dependencies(case, len(rows))
    return flows_of(
        rows[:, 0],
        rows[:, 1],
        rows[:, 2],
        packet_flits=_whole(_needed(case, "max_packet_flits"), "max_packet_flits", 1, _MOST_FLITS),
        release=rows[:, 3],
        in_turn=policy == "rr",
        waiting=waiting,
        awaited=awaited,
        delay=delay,
    )


def _dependencies(case: Mapping[str, Any], count: int) -> tuple[list[int], list[int], list[int]]:
    waiting: list[int] = []
    awaited: list[int] = []
    delay = [0] * count
    seen: set[int] = set()
    for at, row in enumerate(_rows(case, "deps", 3)):
        what = f"deps[{at}]"
        message = _whole(row[0], f"{what}: the message", 0, count - 1)
        if message in seen:
            raise UserError(f"{what}: the message {message} is repeated")
        seen.add(message)
        before = [
            _whole(each, f"{what}: a message that is waited for", 0, count - 1)
            for each in _list(row[1], f"{what}: the messages that are waited for")
        ]
        if len(set(before)) < len(before):
            raise UserError(f"{what}: a message that is waited for is repeated")
        delay[message] = _whole(row[2], f"{what}: the delay", 0, _MOST_CYCLES)
        waiting += [message] * len(before)
        awaited += before
    return waiting, awaited, delay


def _measured(case: Mapping[str, Any], flows: Flows) -> Measured | None:
    if case.get("result") is None:
        return None
    result = _object(case["result"], "result")
    finish = _cycles(_needed(result, "finish", "result"), "result.finish", flows.count)
    ready = flows.release
    if "ready" in result:
        ready = _cycles(result["ready"], "result.ready", flows.count)
    makespan = _whole(_needed(result, "makespan", "result"), "result.makespan", 1, 1 << 60)
    seconds = result.get("booksim_cpu_s", 0.0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise UserError(f"result.booksim_cpu_s: {_shown(seconds)} is no time")
    return Measured(ready, finish, makespan, float(seconds))


def _cycles(values: Any, what: str, count: int) -> Ints:
    """A cycle for every message."""
    cycles = [
        _whole(cycle, f"{what}[{at}]", 0, 1 << 60) for at, cycle in enumerate(_list(values, what))
    ]
    if len(cycles) != count:
        raise UserError(f"{what}: {len(cycles)} entries for {count} messages")
    return np.array(cycles, np.int64)


def _terminal(value: Any, terminal: Mapping[int, int], cores: int, what: str) -> int:
    """The number of the terminal that a file calls by a node id."""
    if type(value) is int:
        if 0 <= value < cores:
            return value
        if value in terminal:
            return cores + terminal[value]
    raise UserError(f"{what}: there is no node {_shown(value)}")


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what}: {_shown(value)} is no object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{what}: {_shown(value)} is no list")
    return value


def _needed(found: Mapping[str, Any], key: str, where: str = "") -> Any:
    if key not in found:
        raise UserError(f"{where + ': ' if where else ''}the field '{key}' is missing")
    return found[key]


def _text(case: Mapping[str, Any], key: str, default: str) -> str:
    value = case.get(key, default)
    if not isinstance(value, str):
        raise UserError(f"{key}: {_shown(value)} is no text")
    return value


def _rows(
    case: Mapping[str, Any], key: str, columns: int, or_more: bool = False
) -> list[list[Any]]:
    """A list of lists of so many entries; empty where the field is missing."""
    rows = _list(case.get(key, []), key)
    for at, row in enumerate(rows):
        size = len(_list(row, f"{key}[{at}]"))
        if size < columns or (size > columns and not or_more):
            raise UserError(f"{key}[{at}]: {size} entries, expected {columns}")
    return rows


def _whole(value: Any, what: str, least: int, most: int) -> int:
    if type(value) is not int:
        raise UserError(f"{what}: {_shown(value)} is no whole number")
    if not least <= value <= most:
        raise UserError(f"{what}: {_shown(value)} is not between {least} and {most}")
    return value


def _refuse_repeats(what: str, keys: Sequence[tuple[int, ...]]) -> None:
    seen: set[tuple[int, ...]] = set()
    for at, key in enumerate(keys):
        if key in seen:
            raise UserError(f"{what}[{at}]: {', '.join(map(str, key))} is repeated")
        seen.add(key)


def _shown(value: Any) -> str:
    """A value as JSON writes it, cut short."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
