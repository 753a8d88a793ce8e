"""The search as a whole, on a small cluster: no strategy that can be pinned is faster."""

import json
from itertools import product
from pathlib import Path

import pytest
import wscc
from wscc.cli.pipeline import LoadedModel
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program

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
BATCH = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("small") / "config.json"
    path.write_text(json.dumps(SMALL))
    return wscc.load_model(path, phase="train", batch=BATCH, sequence=256)


@pytest.fixture(scope="module")
def cluster() -> Hardware:
    """Two nodes of eight GPUs."""
    return wscc.load_hardware("a100").bind(cluster=2)


@pytest.fixture(scope="module")
def found(model: LoadedModel, cluster: Hardware) -> Program:
    return wscc.compile(model, cluster)


def test_no_pinned_strategy_is_faster(
    model: LoadedModel, cluster: Hardware, found: Program
) -> None:
    """Every fifth of all ways to divide sixteen GPUs and eight sequences."""
    least = wscc.evaluate(found).latency_s
    ways = [
        (tp, pp, dp, size, recompute)
        for tp, pp, dp, size in product((1, 2, 4, 8), (1, 2, 4), (1, 2, 4, 8), (1, 2, 4))
        for recompute in ("none", "full")
        if tp * pp * dp <= 16 and BATCH % (dp * size) == 0
    ]
    for tp, pp, dp, size, recompute in ways[::5]:
        pins = f"tp=1x{tp},pp={pp},dp={dp},microbatch={size},recompute={recompute}"
        pinned = wscc.evaluate(wscc.compile(model, cluster, pins))
        assert least <= pinned.latency_s * (1 + 1e-9), pins


def test_the_table_says_what_became_of_each(found: Program) -> None:
    assert sum(tried.outcome.startswith("chosen, evaluated") for tried in found.tried) == 1
    assert found.tried[0].mapping == found.mapping
    assert all(tried.outcome for tried in found.tried)
    assert sum(found.dropped.values()) > len(found.tried)


def test_a_tied_table_is_summed_once_a_step(model: LoadedModel, cluster: Hardware) -> None:
    """The head's part of its gradient goes to the stage of the embedding, not with each
    micro-batch."""
    program = wscc.compile(model, cluster, "tp=1x1,pp=2,dp=1,microbatch=2,interleave=1")
    once = [t for t in program.transfers if t.way == "update" and t.bytes > 1000]
    assert [(t.source, t.target) for t in once] == [(1, 0)]
    assert once[0].bytes == 2 * SMALL["vocab_size"] * SMALL["n_embd"]
    for way, pair in (("forward", (0, 1)), ("backward", (1, 0))):
        (passed,) = [t for t in program.transfers if t.way == way]
        assert (passed.source, passed.target) == pair
        assert passed.bytes == 2 * 2 * 256 * SMALL["n_embd"]


def test_chunks_go_round_the_stages(model: LoadedModel, cluster: Hardware) -> None:
    program = wscc.compile(model, cluster, "tp=1x1,pp=2,dp=1,microbatch=1,interleave=2")
    order = [(visit.stage, visit.way) for visit in program.visits if visit.way != "update"]
    there = [(0, "forward"), (1, "forward"), (0, "forward"), (1, "forward")]
    back = [(1, "backward"), (0, "backward"), (1, "backward"), (0, "backward")]
    assert order == there + back


def test_chunks_that_do_not_go_round_are_refused(model: LoadedModel, cluster: Hardware) -> None:
    with pytest.raises(UserError, match="multiple of its stages"):
        wscc.compile(model, cluster, "tp=1x1,pp=2,interleave=2,dp=8,microbatch=1")


def test_replicas_that_divide_states_hold_their_part(model: LoadedModel, cluster: Hardware) -> None:
    pins = "tp=1x1,pp=1,dp=4,microbatch=1,recompute=none,zero="
    held = {}
    for zero in range(4):
        (stage,) = wscc.compile(model, cluster, f"{pins}{zero}").stages
        assert stage.memory is not None
        held[zero] = stage.memory
    whole = held[0]
    for zero in range(4):
        share = {name: 4 if zero >= level else 1 for name, level in LEVELS.items()}
        for name, parts in share.items():
            assert getattr(held[zero], name) == pytest.approx(getattr(whole, name) / parts, abs=4)


LEVELS = {"optimizer_bytes": 1, "gradient_bytes": 2, "weights_bytes": 3}


def test_a_report_names_nodes_and_gpus(found: Program, tmp_path: Path) -> None:
    wscc.save(wscc.evaluate(found), tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["hardware"]["wafers"], report["hardware"]["unit"]) == (2, "node")
    assert (report["hardware"]["cores"], report["hardware"]["device"]) == (16, "GPU")
