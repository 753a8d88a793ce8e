"""A step as a trace: it ends when the step does, and nothing is in two places at once."""

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import wscc
from wscc.backend.evaluate import Evaluation
from wscc.backend.tracks import CORES, NETWORK, trace
from wscc.ir.graph import Phase
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program
from wscc.ir.trace import TASKS, Slice
from wscc.report.trace import print_chrome, to_chrome

SMALL = {
    "model_type": "gpt2",
    "torch_dtype": "float16",
    "vocab_size": 2048,
    "n_embd": 512,
    "n_head": 8,
    "n_layer": 4,
    "n_positions": 256,
    "tie_word_embeddings": True,
}
PINS = (
    "tp=1x1,pp=2,dp=2,microbatch=1,interleave=2,recompute=none,zero=0",
    "tp=1x2,pp=2,dp=1,microbatch=2,interleave=1,recompute=full,zero=0",
    "tp=1x1,pp=1,dp=4,microbatch=1,recompute=none,zero=2",
    "tp=1x2,pp=1,dp=4,microbatch=2,recompute=none,zero=3",
)


@dataclass(frozen=True)
class Programs:
    """Steps of one small model, each compiled once."""

    config: Path
    cluster: Hardware
    wafer: Hardware
    known: dict[tuple[str, int, str], Program]

    def trained(self, pins: str) -> Program:
        """On one node of GPUs."""
        return self._made("train", 8, pins, self.cluster, None)

    def served(self, batch: int, pins: str) -> Program:
        """A prompt, on squares of a wafer's cores."""
        return self._made("prefill", batch, pins, self.wafer, "16x16")

    def _made(
        self, phase: Phase, batch: int, pins: str, hardware: Hardware, region: str | None
    ) -> Program:
        key = (phase, batch, pins)
        if key not in self.known:
            model = wscc.load_model(self.config, phase=phase, batch=batch, sequence=256)
            self.known[key] = wscc.compile(model, hardware, pins, region=region)
        return self.known[key]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, wse2: Hardware) -> Programs:
    path = tmp_path_factory.mktemp("small") / "config.json"
    path.write_text(json.dumps(SMALL))
    return Programs(path, wscc.load_hardware("a100").bind(cluster=1), wse2, {})


def ends(slices: tuple[Slice, ...]) -> float:
    return max(each.start_s + each.seconds for each in slices)


@pytest.mark.parametrize("pins", PINS)
def test_a_training_step_is_as_long_as_its_trace(programs: Programs, pins: str) -> None:
    evaluation = Evaluation(programs.trained(pins), "fluid")
    assert ends(trace(evaluation).slices) == pytest.approx(evaluation.latency_s, rel=1e-9)


@pytest.mark.parametrize(("batch", "pins"), [(1, "pp=1"), (1, "pp=3"), (6, "pp=2,microbatch=1")])
@pytest.mark.parametrize("fidelity", ["bound", "fluid"])
def test_a_prompt_is_as_long_as_its_trace(
    programs: Programs, batch: int, pins: str, fidelity: str
) -> None:
    program = programs.served(batch, pins)
    evaluation = Evaluation(program, "bound" if fidelity == "bound" else "fluid")
    assert ends(trace(evaluation).slices) == pytest.approx(evaluation.latency_s, rel=1e-9)


@pytest.mark.parametrize("pins", PINS)
def test_slices_of_a_track_do_not_overlap(programs: Programs, pins: str) -> None:
    evaluation = Evaluation(programs.trained(pins), "fluid")
    tracks: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for each in trace(evaluation).slices:
        tracks[each.group, each.track].append(each)
    for track in tracks.values():
        track.sort(key=lambda each: each.start_s)
        for before, after in pairwise(track):
            assert before.start_s + before.seconds <= after.start_s + 1e-9 * evaluation.latency_s


def test_every_micro_batch_passes_every_stage_both_ways(programs: Programs) -> None:
    found = trace(Evaluation(programs.trained(PINS[0]), "fluid"))
    tasks = [each for each in found.slices if each.track == TASKS and each.name != "update"]
    passes = [(each.group, each.name) for each in tasks]
    assert len(passes) == len(set(passes)) == 2 * 2 * 2 * 4, "stages, ways, chunks, micro-batches"


def test_operators_lie_within_the_first_task_of_their_stage(programs: Programs) -> None:
    found = trace(Evaluation(programs.served(1, "pp=2"), "fluid"))
    tasks = {each.group: each for each in found.slices if each.track == TASKS}
    inner = [e for e in found.slices if e.track in (CORES, NETWORK)]
    assert any(each.track == NETWORK for each in inner)
    for each in inner:
        task = tasks[each.group]
        assert task.start_s <= each.start_s + 1e-15
        assert each.start_s + each.seconds <= task.start_s + task.seconds + 1e-12


def test_power_over_time_is_the_energy_of_the_stages(programs: Programs) -> None:
    """One stage works from the start to the end: its power times time is the step's energy, but
    for what is passed and for losses."""
    evaluation = Evaluation(programs.served(1, "pp=1"), "fluid")
    found = trace(evaluation)
    watts = [each for each in found.samples if each.group == "system"]
    joules = sum(
        before.figures["power"] * (after.at_s - before.at_s) for before, after in pairwise(watts)
    )
    assert joules == pytest.approx(sum(evaluation.energy.values()), rel=0.02)


def test_saved_activations_come_and_go(programs: Programs) -> None:
    found = trace(Evaluation(programs.trained(PINS[1]), "fluid"))
    groups = {each.group for each in found.samples if "memory" in each.name}
    for group in groups:
        saved = [e.figures["saved"] for e in found.samples if e.group == group]
        assert saved[0] == saved[-1] == 0
        assert max(saved) > 0


def test_the_file_is_what_the_format_asks_for(programs: Programs) -> None:
    found = trace(Evaluation(programs.served(6, "pp=2,microbatch=1"), "fluid"))
    made = json.loads(print_chrome(found, "small"))
    assert made == to_chrome(found, "small")
    events = made["traceEvents"]
    named = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == len(found.slices)
    for event, each in zip(slices, found.slices, strict=True):
        assert (event["pid"], event["tid"]) in threads
        assert named[event["pid"]] == each.group
        assert event["ts"] == pytest.approx(each.start_s * 1e6, abs=1e-3)
        assert event["dur"] >= 0
    counters = [event for event in events if event["ph"] == "C"]
    assert {type(v) for event in counters for v in event["args"].values()} == {float}
