"""A trace in the Chrome trace event format, which Perfetto and chrome://tracing open.

A group is a process, a track a thread, a sample a counter; times are microseconds. Format: "Trace
Event Format", Google, sections on complete, counter and metadata events.
"""

import json
from collections.abc import Iterator
from typing import Any

from ..ir.trace import Trace

US = 1e6


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
    for at, group in enumerate(groups):
        yield _metadata("process_name", at, 0, {"name": group})
        yield _metadata("process_sort_index", at, 0, {"sort_index": at})
    for at, (group, track) in enumerate(tracks):
        pid = groups.index(group)
        yield _metadata("thread_name", pid, at + 1, {"name": track})
        yield _metadata("thread_sort_index", pid, at + 1, {"sort_index": at})


def _metadata(name: str, pid: int, tid: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _work(
    trace: Trace, groups: list[str], tracks: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    pids = {group: at for at, group in enumerate(groups)}
    tids = {track: at + 1 for at, track in enumerate(tracks)}
    for each in trace.slices:
        yield {
            "ph": "X",
            "name": each.name,
            "cat": each.track,
            "pid": pids[each.group],
            "tid": tids[each.group, each.track],
            "ts": each.start_s * US,
            "dur": each.seconds * US,
            "args": dict(each.details),
        }
    for sample in trace.samples:
        yield {
            "ph": "C",
            "name": sample.name,
            "pid": pids[sample.group],
            "tid": 0,
            "ts": sample.at_s * US,
            "args": dict(sample.figures),
        }
