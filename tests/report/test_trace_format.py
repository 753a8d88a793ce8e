"""trace.json as the Chrome trace event format has it, and as Perfetto reads it.

The format is "Trace Event Format" (Google). Perfetto's importer of it multiplies microseconds by a
thousand and cuts, in doubles or digit by digit, and keeps a stack of open slices a thread; a slice
that ends after the one it begins in is dropped (trace_processor/importers, json and slice_tracker).
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import pytest
import wscc
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.evaluate import Evaluation
from wscc.backend.tracks import BROUGHT, CORES, LINKS, NETWORK, trace
from wscc.ir.graph import Phase
from wscc.ir.program import Program
from wscc.ir.trace import MEMORY, TASKS, Sample, Slice, Trace
from wscc.report.trace import microseconds, print_chrome

SMALL = {
    "model_type": "gpt2", "torch_dtype": "float16", "vocab_size": 2048, "n_embd": 512,
    "n_head": 8, "n_layer": 4, "n_positions": 256, "tie_word_embeddings": True,
}  # fmt: skip
NUMBER, TEXT, WHOLE = (int, float), (str,), (int,)
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "X": {"name": TEXT, "cat": TEXT, "pid": WHOLE, "tid": WHOLE, "ts": NUMBER, "dur": NUMBER},
    "C": {"name": TEXT, "pid": WHOLE, "ts": NUMBER, "args": (dict,)},
    "M": {"name": TEXT, "pid": WHOLE, "args": (dict,)},
    "s": {"name": TEXT, "cat": TEXT, "id": WHOLE, "pid": WHOLE, "tid": WHOLE, "ts": NUMBER},
    "t": {"name": TEXT, "cat": TEXT, "id": WHOLE, "pid": WHOLE, "tid": WHOLE, "ts": NUMBER},
    "f": {"name": TEXT, "cat": TEXT, "id": WHOLE, "pid": WHOLE, "tid": WHOLE, "ts": NUMBER},
}
"""What an event must have: complete, counter, metadata; begin, step and end of a flow."""
METADATA = {"process_name": "name", "thread_name": "name"} | dict.fromkeys(
    ("process_sort_index", "thread_sort_index"), "sort_index"
)


@dataclass(frozen=True)
class Case:
    """A step, and what its trace must show beside stages."""

    hardware: str
    phase: Phase
    batch: int
    mapping: str
    region: str | None = None
    memory: bool = False
    """Whether it waits for a memory."""


CASES = {
    "decode in three stages": Case("wse2", "decode", 2, "pp=3,streaming=no", "16x16"),
    "prefill, streamed": Case(
        "wse2", "prefill", 4, "pp=2,microbatch=1,streaming=yes", "16x16", True
    ),
    "training": Case("wse2", "train", 8, "pp=2,dp=2,microbatch=1,streaming=no", "48x48"),
    "GPUs": Case("a100", "train", 8, "tp=1x2,pp=2,dp=2,microbatch=1,interleave=2,zero=1"),
    "DRAM": Case("theseus", "decode", 2, "weights=dram,cache=dram", memory=True),
}


@dataclass(frozen=True)
class Written:
    """A step and its trace as it is written."""

    case: Case
    program: Program
    evaluation: Evaluation
    text: str
    events: list[dict[str, Any]]

    def of(self, *phases: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["ph"] in phases]

    def names(self, kind: str) -> dict[Any, str]:
        """Of processes by `pid`, of threads by both numbers."""
        return {
            event["pid"] if kind == "process_name" else (event["pid"], event["tid"]): event["args"][
                "name"
            ]
            for event in self.of("M")
            if event["name"] == kind
        }

    def tracks(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Slices by the names of their process and thread, in the order of the file."""
        groups, threads = self.names("process_name"), self.names("thread_name")
        found = defaultdict[tuple[str, str], list[dict[str, Any]]](list)
        for event in self.of("X"):
            found[groups[event["pid"]], threads[event["pid"], event["tid"]]].append(event)
        return found


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "config.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="module", params=CASES, ids=str)
def written(request: pytest.FixtureRequest, config: Path) -> Written:
    case = CASES[request.param]
    model = wscc.load_model(config, phase=case.phase, batch=case.batch, sequence=128, context=128)
    space = wscc.load_hardware(case.hardware)
    hardware = space.bind(cluster=1) if case.hardware == "a100" else space.bind()
    program = wscc.compile(model, hardware, mapping=case.mapping, region=case.region)
    evaluation = Evaluation(program, "fluid")
    text = print_chrome(trace(evaluation), request.param)
    return Written(case, program, evaluation, text, json.loads(text)["traceEvents"])


def kept(slices: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The slices of one thread, in nanoseconds, that Perfetto does not drop."""
    open_: list[tuple[int, int]] = []
    for start, length in sorted(slices, key=lambda each: each[0]):
        while open_ and (
            open_[-1][0] + open_[-1][1] < start
            or (open_[-1][0] + open_[-1][1] == start and (open_[-1][1] or length))
        ):
            open_.pop()
        if open_ and start < sum(open_[-1]) < start + length:
            continue
        open_.append((start, length))
        yield start, length


def cut(value: float) -> int:
    """Microseconds as nanoseconds, as a double and digit by digit."""
    digits = int((Decimal(repr(value)) * 1000).to_integral_value(ROUND_FLOOR))
    assert digits == int(value * 1000)
    return digits


def test_every_event_has_the_fields_of_its_phase(written: Written) -> None:
    for event in written.events:
        for name, types in FIELDS[event["ph"]].items():
            assert isinstance(event[name], types), (event, name)
            assert not isinstance(event[name], bool)
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0
        assert math.isfinite(event["ts"] + event.get("dur", 0))


def test_the_file_is_plain_json(written: Written) -> None:
    made = json.loads(written.text, parse_constant=pytest.fail)
    assert made["displayTimeUnit"] in ("ms", "ns")
    assert written.text.isascii()
    assert "\\u" not in written.text, "Perfetto's reader of keys takes no such escapes"


def test_every_process_and_thread_is_named_once(written: Written) -> None:
    metadata = written.of("M")
    for event in metadata:
        assert set(event["args"]) == {METADATA[event["name"]]}
    keys = Counter((event["name"], event["pid"], event["tid"]) for event in metadata)
    assert set(keys.values()) == {1}
    processes, threads = written.names("process_name"), written.names("thread_name")
    assert len({*processes.values()}) == len(processes)
    assert {event["pid"] for event in written.events} == {*processes}
    assert {(event["pid"], event["tid"]) for event in written.of("X", "s", "t", "f")} == {*threads}
    assert 0 not in processes, "the number of the system's idle process"
    assert len({tid for _, tid in threads}) == len(threads), "threads are looked up alone"


def test_perfetto_drops_no_slice(written: Written) -> None:
    for track, events in written.tracks().items():
        slices = [(cut(event["ts"]), cut(event["dur"])) for event in events]
        assert len(list(kept(slices))) == len(slices), track


def test_no_slice_of_a_track_reaches_into_the_next(written: Written) -> None:
    for track, events in written.tracks().items():
        ends = 0
        for event in sorted(events, key=lambda each: (each["ts"], each["dur"])):
            assert cut(event["ts"]) >= ends, (track, event)
            ends = cut(event["ts"]) + cut(event["dur"])


def test_the_trace_ends_with_the_step(written: Written) -> None:
    ends = max(cut(event["ts"]) + cut(event["dur"]) for event in written.of("X"))
    assert ends == pytest.approx(written.evaluation.latency_s * 1e9, abs=2)


def test_there_is_a_track_for_every_stage_and_component(written: Written) -> None:
    tracks = written.tracks()
    for at in range(len(written.program.stages)):
        own = {track for group, track in tracks if group.startswith(f"stage {at}:")}
        wanted = {TASKS, CORES, NETWORK} | ({BROUGHT} if written.case.memory else set())
        assert own >= wanted


def test_every_hand_over_is_drawn(written: Written) -> None:
    program, training = written.program, written.case.phase == "train"
    passages = len(program.stages) * program.mapping.interleave - 1
    wanted = passages * program.microbatches * (2 if training else 1)
    drawn = [own for (group, _), own in written.tracks().items() if group == LINKS]
    assert sum(map(len, drawn)) == wanted
    assert len(written.of("s")) == wanted


def test_arrows_lead_from_slice_to_slice(written: Written) -> None:
    """Each begins once and ends once, later; every place is the beginning of a slice, and comes
    after it in the file, so that the slice is open when it is read."""
    beginnings = {
        (event["pid"], event["tid"], event["ts"]): at
        for at, event in enumerate(written.events)
        if event["ph"] == "X"
    }
    flows = defaultdict[int, list[dict[str, Any]]](list)
    for at, event in enumerate(written.events):
        if event["ph"] in "stf":
            assert beginnings[event["pid"], event["tid"], event["ts"]] < at
            flows[event["id"]].append(event)
    for events in flows.values():
        assert [event["ph"] for event in events] == ["s", "t", "f"]
        assert events[-1]["bp"] == "e", "bound to the slice that it is in, not to the next"
        assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
        assert len({(event["pid"], event["tid"]) for event in events}) == 3


def test_collectives_say_what_they_send_over_which_links(written: Written) -> None:
    found = [e for e in written.of("X") if re.match("all_reduce|all_gather|reduce_sc", e["name"])]
    assert found
    for event in found:
        args = event["args"]
        assert args["bytes of a member"] > 0
        ways = [way for way in ("rows", "columns") if f"members along {way}" in args]
        assert ways
        for way in ways:
            assert args[f"links along {way}"] == args[f"members along {way}"] - 1 > 0
        assert any(args.get(f"bytes over the busiest link along {way}", 0) > 0 for way in ways)


def test_power_and_memory_are_counters(written: Written) -> None:
    groups = written.names("process_name")
    series = defaultdict[tuple[str, str], list[float]](list)
    for event in written.of("C"):
        assert event["args"]
        for value in event["args"].values():
            assert isinstance(value, int | float)
            assert math.isfinite(value)
            assert value >= 0
        series[groups[event["pid"]], event["name"]].append(event["ts"])
    assert ("system", "power, W") in series
    stages = [group for group in groups.values() if group.startswith("stage ")]
    assert len(stages) == len(written.program.stages)
    assert all((stage, MEMORY) in series for stage in stages)
    assert all(times == sorted(times) for times in series.values())


@given(st.integers(0, 10**15))
def test_a_time_is_cut_to_the_nanoseconds_that_were_meant(nanoseconds: int) -> None:
    assert cut(microseconds(nanoseconds)) == nanoseconds


@given(st.lists(st.floats(1e-11, 1e-3), min_size=1, max_size=50))
def test_slices_that_touch_do_not_overlap_when_they_are_cut(lengths: list[float]) -> None:
    slices, at = [], 0.0
    for seconds in lengths:
        slices.append(Slice("stage", "cores", "work", at, seconds))
        at += seconds
    made = json.loads(print_chrome(Trace(tuple(slices), (Sample("stage", "p", 0.0, {}),)), "any"))
    found = [(cut(e["ts"]), cut(e["dur"])) for e in made["traceEvents"] if e["ph"] == "X"]
    assert len(list(kept(found))) == len(lengths)
    assert sum(found[-1]) == pytest.approx(at * 1e9, abs=1)


def test_a_slice_that_reaches_into_the_next_would_be_found() -> None:
    assert list(kept([(0, 10), (9, 5)])) == [(0, 10)]
    assert list(kept([(0, 10), (10, 5), (11, 2)])) == [(0, 10), (10, 5), (11, 2)]
