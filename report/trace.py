"""A trace in the Chrome trace event format, which Perfetto and chrome://tracing open.

A group is a process, a track a thread, a sample a counter, an arrow a flow; times are microseconds.
Format: "Trace Event Format", Google, sections on complete, flow, counter and metadata events.

Perfetto multiplies times by a thousand, cuts them to whole nanoseconds, and drops a slice that then
reaches into the next one. So ends are rounded, not lengths.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

from ..ir.trace import Trace

NS = 1e9

T = TypeVar("T")


def microseconds(nanoseconds: int) -> float:
    """What is cut to these nanoseconds when it is multiplied by a thousand."""
    found = nanoseconds / 1000
    return found if int(found * 1000) == nanoseconds else math.nextafter(found, math.inf)


def to_chrome(trace: Trace, name: str) -> dict[str, Any]:
    """The object of a trace.json; `name` is of the whole run."""
    groups = list(dict.fromkeys([each.group for each in (*trace.slices, *trace.samples)]))
    tracks = list(dict.fromkeys([(each.group, each.track) for each in trace.slices]))
    return {
        "displayTimeUnit": "ns",
        "otherData": {"run": name, "notes": list(trace.notes)},
        "traceEvents": [*_names(groups, tracks), *_work(trace, groups, tracks)],
    }


def print_chrome(trace: Trace, name: str) -> str:
    """The text of a trace.json, an event a line."""
    made = to_chrome(trace, name)
    events = ",\n".join(json.dumps(event, allow_nan=False) for event in made.pop("traceEvents"))
    head = json.dumps(made, allow_nan=False)[:-1]
    return f'{head}, "traceEvents": [\n{events}\n]}}\n'


def _names(groups: list[str], tracks: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    pids = _numbered(groups)
    for group, pid in pids.items():
        yield _metadata("process_name", pid, 0, {"name": group})
        yield _metadata("process_sort_index", pid, 0, {"sort_index": pid})
    for (group, track), tid in _numbered(tracks).items():
        yield _metadata("thread_name", pids[group], tid, {"name": track})
        yield _metadata("thread_sort_index", pids[group], tid, {"sort_index": tid})


def _numbered(names: list[T]) -> dict[T, int]:
    """From one: a process or thread of the number 0 is the system's idle one."""
    return {name: at for at, name in enumerate(names, start=1)}


def _metadata(name: str, pid: int, tid: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _work(
    trace: Trace, groups: list[str], tracks: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    pids, tids = _numbered(groups), _numbered(tracks)
    for each in trace.slices:
        start = round(each.start_s * NS)
        length = round((each.start_s + each.seconds) * NS) - start
        yield {
            "ph": "X",
            "name": each.name,
            "cat": each.track,
            "pid": pids[each.group],
            "tid": tids[each.group, each.track],
            "ts": microseconds(start),
            "dur": microseconds(length),
            "args": dict(each.details),
        }
    for number, arrow in enumerate(trace.arrows):
        phases = ["s", *"t" * (len(arrow.through) - 2), "f"]
        for phase, each in zip(phases, arrow.through, strict=True):
            yield {
                "ph": phase,
                "name": arrow.name,
                "cat": "hand-over",
                "id": number,
                "pid": pids[each.group],
                "tid": tids[each.group, each.track],
                "ts": microseconds(round(each.start_s * NS)),
            } | ({"bp": "e"} if phase == "f" else {})
    for sample in trace.samples:
        yield {
            "ph": "C",
            "name": sample.name,
            "pid": pids[sample.group],
            "tid": 0,
            "ts": microseconds(round(sample.at_s * NS)),
            "args": dict(sample.figures),
        }
