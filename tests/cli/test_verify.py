"""`wscc verify`: mapped programs run on virtual devices, what is found, said and refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wscc
from wscc.cli.arguments import read_arguments
from wscc.cli.asked import Job, Verify
from wscc.cli.main import main
from wscc.cli.pipeline import LoadedModel
from wscc.cli.verify import lines, report
from wscc.ir.errors import UserError
from wscc.ir.graph import Op, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph
from wscc.ir.pins import Pins
from wscc.ir.program import Program
from wscc.ir.random_state import random_state
from wscc.passes.verify import Compared, compare

Captured = pytest.CaptureFixture[str]
Load = Callable[..., LoadedModel]

DENSE: dict[str, Any] = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "vocab_size": 53,
    "hidden_size": 28,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 6,
    "max_position_embeddings": 64,
}
"""Sizes that hardly any region divides."""

CONFIGS: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "grouped": DENSE | {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "experts": DENSE | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "positions": {
        "model_type": "gpt2",
        "torch_dtype": "bfloat16",
        "vocab_size": 53,
        "n_embd": 24,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 12,
    },
    "quantized": DENSE
    | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]},
    },
    "large": DENSE | {"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 40},
}

CASES: tuple[tuple[str, str, str, int], ...] = (
    ("dense", "3x5", "pp=1,dp=1", 1),
    ("dense", "2x2", "pp=2,dp=1,microbatch=2", 2),
    ("grouped", "2x3", "dp=2,microbatch=1", 4),
    ("grouped", "5x3", "dp=2,pp=3,microbatch=1", 2),
    ("experts", "3x2", "pp=2,dp=1,microbatch=1", 2),
    ("positions", "2x3", "dp=2", 2),
)
"""Config, region, pins and batch."""


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each of the configs."""
    folder = tmp_path_factory.mktemp("configs")
    for name, values in CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    return wscc.load_hardware("wse2").bind()


@pytest.fixture(scope="module")
def load(configs: Path) -> Load:
    """A step of one of the configs, each traced once."""
    traced: dict[tuple[str, Phase], LoadedModel] = {}

    def make(name: str, phase: Phase, batch: int = 1, layers: int | None = None) -> LoadedModel:
        if (name, phase) not in traced:
            traced[name, phase] = wscc.load_model(configs / name, phase, 1, 8, 8)
        model = traced[name, phase]
        workload = dataclasses.replace(model.workload, batch=batch)
        return dataclasses.replace(model, workload=workload, layers=layers)

    return make


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_kind_of_mapping_computes_what_the_model_does(
    phase: Phase, load: Load, hardware: Hardware
) -> None:
    for name, region, pins, batch in CASES:
        model = load(name, phase, batch)
        program = wscc.compile(model, hardware, pins, region)
        found = wscc.verify(model, program)
        assert found.equal, (name, pins, found)
        assert {"logits", "cache.0.key", "cache.1.value"} <= {o.output for o in found.outputs}
        assert found.steps == batch // program.mapping.microbatch
        stages = len(program.stages)
        assert found.devices == program.mapping.dp * stages * program.mesh.devices
        assert found.collectives["all_reduce"] > 0
        assert ("transfer" in found.collectives) == (stages > 1)


def test_products_whose_tiles_travel_are_run_too(load: Load, hardware: Hardware) -> None:
    model = load("grouped", "prefill")
    long = dataclasses.replace(model.workload, sequence=128)
    model = dataclasses.replace(model, workload=long)
    program = wscc.compile(model, hardware, "pp=1", "5x5")
    assert program.mapping.layout == "matmul"
    found = wscc.verify(model, program, seed=5)
    assert found.equal
    assert found.collectives["grid_matmul"] > 0


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_layers_alone_are_compared_up_to_what_they_hand_on(
    phase: Phase, load: Load, hardware: Hardware
) -> None:
    model = load("grouped", phase, 2, layers=1)
    found = wscc.verify(model, wscc.compile(model, hardware, "microbatch=1", "2x3"))
    assert found.equal
    assert {o.output for o in found.outputs} == {"cache.0.key", "cache.0.value", "hidden"}
    assert all(output.largest_value > 0 for output in found.outputs)


def with_ops(program: Program, change: Callable[[Op], Op]) -> Program:
    """The program with every operator changed."""
    graphs = {
        name: MappedGraph(
            mapped.graph.with_ops([change(op) for op in mapped.graph.ops]), mapped.shardings
        )
        for name, mapped in program.graphs.items()
    }
    return dataclasses.replace(program, graphs=graphs)


def to_maximum(op: Op) -> Op:
    """Where a softmax is split its maximum is one by right; sums become maxima."""
    if op.kind != "all_reduce" or op.attributes.get("function") != "sum":
        return op
    return dataclasses.replace(op, attributes={**op.attributes, "function": "max"})


def to_other_sum(op: Op) -> Op:
    if op.attributes.get("expr") != "a + b":
        return op
    return dataclasses.replace(op, attributes={**op.attributes, "expr": "a + b * 1.0001"})


def test_a_program_with_broken_collectives_is_not_equal(load: Load, hardware: Hardware) -> None:
    model = load("grouped", "decode")
    program = wscc.compile(model, hardware, None, "2x3")
    found = wscc.verify(model, with_ops(program, to_maximum))
    assert not found.equal
    assert found.fault is not None
    assert "does not complete" in found.fault
    assert "  the program is broken: " in "\n".join(lines(program, found))


def test_a_program_that_computes_something_else_names_the_outputs_that_differ(
    load: Load, hardware: Hardware
) -> None:
    model = load("grouped", "decode")
    program = wscc.compile(model, hardware, None, "2x3")
    found = wscc.verify(model, with_ops(program, to_other_sum))
    assert not found.equal
    assert "logits" in {o.output for o in found.different}
    assert "cache.0.key" not in {o.output for o in found.different}
    shown = "\n".join(lines(program, found))
    assert f"{len(found.different)} of 5 outputs differ by more than 1e-05" in shown
    assert "  logits         differs" in shown
    assert "cache.0.key" not in shown
    written = report(program, found)
    assert written["equal"] is False
    assert [o["output"] for o in written["outputs"] if not o["equal"]] == [
        o.output for o in found.different
    ]


def test_what_is_not_a_number_on_one_side_is_infinitely_wrong() -> None:
    import torch

    sound = {"a": torch.tensor([1.0, float("-inf"), 0.0])}
    assert compare(sound, sound)[0].relative_error == 0
    for broken in ([1.0, float("nan"), 0.0], [1.0, float("inf"), 0.0], [1.0, 0.0, 0.0]):
        assert compare(sound, {"a": torch.tensor(broken)})[0].relative_error == float("inf")
    nothing = {"a": torch.full((3,), float("nan"))}
    assert compare(nothing, nothing)[0].relative_error == float("inf")
    zeros = {"a": torch.zeros(3)}
    assert compare(zeros, zeros)[0].relative_error == 0
    assert compare(zeros, {"a": torch.tensor([0.0, 1e-9, 0.0])})[0].relative_error == 1


def test_values_are_the_same_for_the_same_seed_alone(load: Load) -> None:
    model, sizes = load("positions", "decode").model, {"batch": 2, "sequence": 8, "context": 8}
    first, again, other = (random_state(model, sizes, seed) for seed in (1, 1, 2))
    assert all(bool((first[name] == again[name]).all()) for name in first)
    assert any(bool((first[name] != other[name]).any()) for name in first)
    assert int(first["input_ids"].max()) < 53
    assert first["position_ids"].tolist() == [[8], [8]]


def verify(configs: Path, name: str, *flags: str) -> int:
    return main(["verify", "--model", str(configs / name), "--hw", "wse2", *flags])


def test_the_command_says_what_was_run_and_compared(configs: Path, capsys: Captured) -> None:
    assert verify(configs, "grouped", "--region", "2x3", "--mapping", "pp=2", "--batch", "2") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "grouped on wse2, prefill, batch 2, sequence 16, context 16: 5 outputs equal within 1e-05\n"
    )
    assert "pp=2, 2 x 3 cores" in shown
    assert " transfer" in shown
    assert "  cache.*.key    2 layers" in shown


def test_json_is_one_object_with_every_output(configs: Path, capsys: Captured) -> None:
    assert verify(configs, "grouped", "--region", "2x3", "--seed", "3", "--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert written["schema"] == "wscc.verify/1"
    assert (written["equal"], written["seed"], written["tolerance"]) == (True, 3, 1e-5)
    assert written["mapping"]["region"] == [2, 3]
    names = [output["output"] for output in written["outputs"]]
    assert sorted(names) == [
        "cache.0.key",
        "cache.0.value",
        "cache.1.key",
        "cache.1.value",
        "logits",
    ]
    assert all(output["absolute_error"] < 1e-4 for output in written["outputs"])
    assert {"trace", "compile", "unsplit", "devices", "total"} <= written["timings_s"].keys()


def test_a_training_step_is_run_and_told_by_kind(configs: Path, capsys: Captured) -> None:
    flags = ("--phase", "train", "--batch", "4", "--sequence", "6", "--region", "1x2")
    pins = "dp=2,pp=2,microbatch=1,zero=2,recompute=none"
    assert verify(configs, "positions", *flags, "--mapping", pins) == 0
    shown = capsys.readouterr().out
    assert "positions on wse2, train, batch 4, sequence 6" in shown
    assert "zero=2" in shown
    assert "replicas.reduce_scatter" in shown
    kinds = ("loss", "gradients", "first moments", "second moments", "copies of weights", "weights")
    assert [kind for kind in kinds if f"\n  {kind} " not in shown] == []


def test_layers_alone_are_trained_from_gradients_that_are_given(
    load: Load, hardware: Hardware
) -> None:
    model = load("grouped", "train", 4, layers=2)
    pins = "dp=2,pp=2,interleave=1,microbatch=1,recompute=none"
    found = wscc.verify(model, wscc.compile(model, hardware, pins, "1x2"))
    assert found.equal, (found.fault, found.different)
    names = {output.output for output in found.outputs}
    assert {"hidden", "hidden.1", "model.layers.1.mlp.up_proj.weight.gradient"} <= names


def test_what_is_rounding_in_the_model_itself_is_equal() -> None:
    sound = Compared("a", (2,), 1.0, 3e-5, 3e-5)
    assert not sound.within(1e-5)
    assert dataclasses.replace(sound, rounding=1e-5).within(1e-5)
    assert not dataclasses.replace(sound, rounding=1e-6).within(1e-5)
    nothing = Compared("a", (2,), 1e-9, 2e-9, 2.0, rounding=1.0)
    assert nothing.within(1e-5)
    assert not dataclasses.replace(nothing, relative_error=1e3).within(1e-5)
    assert not dataclasses.replace(nothing, rounding=0.3).within(1e-5)


def test_a_tolerance_below_rounding_is_exit_code_one(configs: Path, capsys: Captured) -> None:
    assert verify(configs, "grouped", "--region", "2x3", "--tolerance", "1e-12") == 1
    assert "differ by more than 1e-12" in capsys.readouterr().out


def test_a_quantized_model_is_verified_unquantized(configs: Path, capsys: Captured) -> None:
    assert verify(configs, "quantized", "--region", "2x3", "--phase", "decode") == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("warning: quantized is verified unquantized")
    assert "outputs equal" in shown.out


def test_a_quantized_graph_is_refused(load: Load, hardware: Hardware) -> None:
    model = load("quantized", "decode")
    program = wscc.compile(model, hardware, None, "2x3")
    with pytest.raises(UserError, match="is quantized: load it with a dtype"):
        wscc.verify(model, program)


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        (
            "large",
            "",
            "large is too large to be run on virtual devices: 30.1 GiB of weights and caches in "
            "float32, the limit is 2.0 GiB; take a config with fewer or smaller layers, or a "
            "smaller vocabulary, or --layers 2",
        ),
        (
            "grouped",
            "--region 500x500",
            " runs of operators on 250,000 devices of a stage, the limit is 2,000,000; take a "
            "smaller --region, --batch or --sequence",
        ),
        (
            "grouped",
            "--region 2x2 --sequence 16777216",
            "the limit is 1e+12; take a smaller config, --batch or --sequence",
        ),
    ],
)
def test_what_is_too_large_is_refused_with_what_would_do(
    name: str, flags: str, message: str, configs: Path, capsys: Captured
) -> None:
    assert verify(configs, name, *flags.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--hw wse2", "error: wscc verify: --model CONFIG is missing"),
        ("--model x", "error: wscc verify: --hw FILE is missing"),
        (
            "--hw wse2 --model x --phase learn",
            "error: --phase: 'learn' is not one of prefill, decode, train",
        ),
        ("--hw wse2 --model x --tolerance -1", "error: --tolerance: '-1' is no number from 0 to 1"),
        ("--hw wse2 --model x --tolerance a", "error: --tolerance: 'a' is no number from 0 to 1"),
        (
            "--hw wse2 --model x --tolerance nan",
            "error: --tolerance: 'nan' is no number from 0 to 1",
        ),
        (
            "--hw wse2 --model x --fidelity fluid",
            "error: unknown flag '--fidelity'",
        ),
        (
            "--hw wse2 --model x --mapping dp=2",
            "error: --mapping: dp=2 with microbatch=1 does not divide a batch of 1",
        ),
    ],
)
def test_a_mistake_in_the_arguments_is_one_message(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_arguments(["verify", *line.split()])
    assert str(caught.value) == message


def test_every_flag_is_read() -> None:
    line = "--hw wse2 --model x --region 2x3 --mapping pp=2 --seed 4 --tolerance 1e-4 --no-cache"
    job = Job("wse2", "x", sequence=16, context=16, pins=Pins(pp=2, region=(2, 3)), seed=4)
    command = read_arguments(["verify", *line.split()])
    assert isinstance(command, Verify)
    assert (command.job, command.tolerance, command.cache) == (job, 1e-4, False)


def test_a_region_beyond_the_wafer_is_the_users_mistake(configs: Path, capsys: Captured) -> None:
    assert verify(configs, "grouped", "--region", "5000x2") == 2
    assert capsys.readouterr().err.startswith("error: --region 5000x2 is larger than the ")
