from dataclasses import replace
from pathlib import Path

import pytest
from wscc.cli.arguments import read_arguments
from wscc.cli.asked import Cache, Check, Help, Job, Run, Show, Talk
from wscc.cli.model_options import ModelOptions
from wscc.cli.pins import Pins, read_pins
from wscc.ir.errors import UserError

FILES = ("--hw", "wse2", "--model", "llama.json")


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        read_arguments(arguments)
    return str(caught.value)


def job(*arguments: str) -> Job:
    command = read_arguments((*FILES, *arguments))
    assert isinstance(command, Run)
    return command.job


def test_a_run_needs_no_flags_but_a_wafer_and_a_model() -> None:
    assert read_arguments(FILES) == Run(Job("wse2", "llama.json"), Talk())


def test_every_flag_of_a_run_is_read() -> None:
    line = (
        "--phase decode --batch 8 --sequence 1024 --context 4096 --dtype float16 --fidelity bound "
        "--part all --image-tokens 64 "
        "--region 420x660 --mapping dp=2,pp=3,microbatch=4 --layers 1 --set a=1 --set b=64KiB "
        "--seed 7 --json -o out -vv --no-cache --print-after place --dump-ir ir"
    )
    assert read_arguments((*FILES, *line.split())) == Run(
        Job(
            hardware="wse2",
            model="llama.json",
            phase="decode",
            batch=8,
            sequence=1024,
            context=4096,
            options=ModelOptions(dtype="float16", part="all", image_tokens=64),
            fidelity="bound",
            pins=Pins(dp=2, pp=3, region=(420, 660), microbatch=4),
            layers=1,
            overrides=(("a", "1"), ("b", "64KiB")),
            seed=7,
        ),
        Talk(json=True, verbosity=2),
        directory="out",
        cache=False,
        print_after="place",
        dump_ir="ir",
    )


def test_the_cycle_level_has_a_budget_of_its_own() -> None:
    asked = job("--fidelity", "flit")
    assert asked == Job("wse2", "llama.json", fidelity="flit", flit_budget_s=60.0)
    longer = job("--fidelity", "flit", "--flit-budget", "600")
    assert longer == replace(asked, flit_budget_s=600.0)


def test_a_load_of_experts_is_a_list_or_a_file_of_one(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    file.write_text("[0.5, 0.25, 0, 1]")
    assert job("--expert-load", "3, 1,0").options.expert_load == (3, 1, 0)
    assert job("--expert-load", f"@{file}").options.expert_load == (5 * 10**8, 25 * 10**7, 0, 10**9)
    assert job().options.expert_load is None
    file.write_text("[1, ")
    assert "load.json is no JSON list" in refused(*FILES, "--expert-load", f"@{file}")
    assert "no such" in refused(*FILES, "--expert-load", f"@{file}x").lower()
    assert "'x' is no number" in refused(*FILES, "--expert-load", "1,x")
    assert "'' is no number" in refused(*FILES, "--expert-load", "1,,2")
    assert "negative" in refused(*FILES, "--expert-load", "1,-2")
    assert "all are zero" in refused(*FILES, "--expert-load", "0,0")


def test_prediction_layers_are_counted_from_zero() -> None:
    assert job("--prediction-layers", "2").options.prediction_layers == 2
    assert job().options.prediction_layers == 0
    assert "no whole number from 0" in refused(*FILES, "--prediction-layers", "-1")
    with pytest.raises(UserError, match="no whole number from 0"):
        ModelOptions(prediction_layers=-1)


def test_the_verbs_are_read() -> None:
    assert read_arguments(["check", "a.wsc", "--set", "x=2", "--json"]) == Check(
        "a.wsc", (("x", "2"),), Talk(json=True)
    )
    assert read_arguments(["show", "--model", "m", "--phase", "decode", "--quiet"]) == Show(
        "m", Talk(quiet=True), "decode"
    )
    assert read_arguments(["cache"]) == Cache(False, Talk())
    assert read_arguments(["cache", "clear", "-v"]) == Cache(True, Talk(verbosity=1))


def test_no_arguments_at_all_are_answered_with_help_and_exit_code_two() -> None:
    command = read_arguments([])
    assert isinstance(command, Help)
    assert command.code == 2
    assert command.text.startswith("usage: wscc --hw FILE --model CONFIG [flags]\n")


@pytest.mark.parametrize("verb", [[], ["check"], ["show"], ["cache"]])
def test_every_command_has_help(verb: list[str]) -> None:
    command = read_arguments([*verb, "--help"])
    assert isinstance(command, Help)
    assert command.code == 0
    assert command.text.startswith(" ".join(["usage: wscc", *verb]))


def test_version_is_asked_for_by_flag() -> None:
    command = read_arguments(["--version"])
    assert isinstance(command, Help)
    assert (command.text, command.code) == ("wscc 0.1.0\n", 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--hw x", "error: --model CONFIG is missing"),
        ("--model x", "error: --hw FILE is missing"),
        ("--hw", "error: --hw: expected one argument"),
        ("--modle x", "error: unknown flag '--modle', did you mean '--model'?"),
        (
            "--hw x --model y --contxt 3",
            "error: unknown flag '--contxt', did you mean '--context'?",
        ),
        ("--hw x --model y --con 3", "error: unknown flag '--con', did you mean '--context'?"),
        (
            "--hw x --model y --contxt=3",
            "error: unknown flag '--contxt', did you mean '--context'?",
        ),
        ("--hw x --model y z", "error: unexpected argument 'z'"),
        ("--hw x --model y -q", "error: unknown flag '-q'"),
        ("--hw x --model y --quiet -v", "error: --quiet and -v contradict each other"),
        ("chek a.wsc", "error: unknown command 'chek', did you mean 'check'?"),
        ("check", "error: wscc check: FILE is missing"),
        ("check a.wsc b.wsc", "error: unexpected argument 'b.wsc'"),
        ("show", "error: wscc show: --model CONFIG is missing"),
        ("cache claer", "error: wscc cache: unknown action 'claer', did you mean 'clear'?"),
    ],
)
def test_what_cannot_be_read_is_one_message(line: str, message: str) -> None:
    assert refused(*line.split()) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--phase decod",
            "error: --phase: 'decod' is not one of prefill, decode, train, did you mean 'decode'?",
        ),
        ("--fidelity exact", "error: --fidelity: 'exact' is not one of bound, fluid, flit"),
        (
            "--fidelity flit --flit-budget 0",
            "error: --flit-budget: '0' is no whole number from 1 to 10000000",
        ),
        ("--flit-budget 5", "error: --flit-budget has no meaning at fidelity fluid"),
        ("--part vision", "error: --part: 'vision' is not one of text, all"),
        (
            "--dtype float61",
            "error: --dtype: 'float61' is not one of bfloat16, float16, float32, float8_e4m3fn, "
            "int8, int4, did you mean 'float16'?",
        ),
        ("--batch 0", "error: --batch: '0' is no whole number from 1 to 1048576"),
        ("--batch -3", "error: --batch: '-3' is no whole number from 1 to 1048576"),
        ("--batch 1.5", "error: --batch: '1.5' is no whole number from 1 to 1048576"),
        ("--batch 9999999", "error: --batch: '9999999' is no whole number from 1 to 1048576"),
        ("--sequence 1e3", "error: --sequence: '1e3' is no whole number from 1 to 16777216"),
        (
            "--context 99999999999999999999",
            "error: --context: '99999999999999999999' is no whole number from 1 to 16777216",
        ),
        ("--layers 0", "error: --layers: '0' is no whole number from 1 to 65536"),
        ("--seed -1", "error: --seed: '-1' is no whole number from 0 to 2147483647"),
        ("--region 420", "error: --region: '420' is no rectangle of cores, expected ROWSxCOLUMNS"),
        ("--region 0x3", "error: --region: '0' is no whole number from 1 to 1048576"),
        ("--set sram", "error: --set: 'sram' is no parameter, expected name=value"),
        ("--set =3", "error: --set: '=3' is no parameter, expected name=value"),
        ("--set a=1 --set a=2", "error: --set: the parameter 'a' is repeated"),
    ],
)
def test_a_flag_with_a_value_that_it_cannot_have_is_one_message(line: str, message: str) -> None:
    assert refused(*FILES, *line.split()) == message


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ("", "'' is no pin, expected name=value"),
        ("dp", "'dp' is no pin, expected name=value"),
        ("dp=", "'dp=' is no pin, expected name=value"),
        (
            "stream=yes",
            "unknown pin 'stream', did you mean 'streaming'? (known: dp, tp, pp, ep, microbatch, "
            "interleave, recompute, zero, streaming, weights, cache)",
        ),
        ("dp=2,dp=2", "the pin 'dp' is repeated"),
        ("dp=2", "dp=2 with microbatch=1 does not divide a batch of 1"),
        ("microbatch=4", "dp=1 with microbatch=4 does not divide a batch of 1"),
    ],
)
def test_pins_that_are_wrong_are_one_message(pins: str, message: str) -> None:
    assert refused(*FILES, "--mapping", pins) == f"error: --mapping: {message}"


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ("dp=two", "dp: 'two' is no whole number from 1 to 1048576"),
        ("tp=4", "tp: '4' is no rectangle of cores, expected ROWSxCOLUMNS"),
        ("zero=4", "zero: '4' is not one of 0, 1, 2, 3"),
        ("zero=1", "zero=1 has no meaning in prefill: no optimizer"),
        (
            "recompute=ful",
            "recompute: 'ful' is not one of none, selective, full, did you mean 'full'?",
        ),
        ("recompute=full", "recompute=full has no meaning in prefill: no backward pass"),
        (
            "interleave=2",
            "interleave=2 has no meaning in prefill: chunks of layers go round the stages for the "
            "backward pass's sake",
        ),
        (
            "dp=3,ep=2",
            "ep=2 does not divide dp=3: ep of the dp replicas divide the experts among them",
        ),
        ("streaming=on", "streaming: 'on' is not one of yes, no"),
        ("weights=hbm", "weights: 'hbm' is not one of sram, dram, off-wafer"),
        (
            "weights=sram,streaming=yes",
            "weights=sram,streaming=yes exclude each other: streamed weights are off-wafer, and no "
            "others are",
        ),
        (
            "weights=off-wafer,cache=dram",
            "cache=dram cannot be had with streamed weights, whose way it would share: "
            "weights=dram has both in DRAM",
        ),
    ],
)
def test_a_pin_that_cannot_be_is_one_message(pin: str, message: str) -> None:
    assert refused(*FILES, "--mapping", pin) == f"error: --mapping {message}"


def test_pins_that_say_what_is_so_anyway_are_taken() -> None:
    text = "ep=1, interleave=1, recompute=none, zero=0, streaming=no"
    neutral = Pins(ep=1, interleave=1, zero=0, streaming=False)
    assert read_pins(text, None, "decode") == neutral


def test_weights_off_the_wafer_are_streamed() -> None:
    found = read_pins("weights=off-wafer", None, "decode")
    assert (found.weights, found.streaming) == ("off-wafer", True)
    assert read_pins("weights=dram,cache=dram", None, "decode") == Pins(
        weights="dram", cache="dram"
    )
    with pytest.raises(UserError, match="cache=dram has no meaning in train"):
        read_pins("cache=dram", None, "train")


def test_the_tensor_parallel_pin_is_the_region() -> None:
    assert read_pins("tp=420x660", None, "decode").region == (420, 660)
    assert read_pins("tp=420x660", "420x660", "decode").region == (420, 660)


def test_two_different_regions_contradict_each_other() -> None:
    message = "--region 660x660 and --mapping tp=420x420 are the same pin and differ"
    with pytest.raises(UserError, match=message):
        read_pins("tp=420x420", "660x660", "decode")


def test_pins_of_training_have_a_meaning_in_training_alone() -> None:
    command = read_arguments([*FILES, "--phase", "train", "--mapping", "recompute=full,dp=1"])
    assert isinstance(command, Run)
    assert (command.job.phase, command.job.pins.recompute) == ("train", "full")
    train = (*FILES, "--phase", "train", "--mapping")
    for pin in ("zero=1", "recompute=selective", "pp=2,interleave=2"):
        assert isinstance(read_arguments([*train, pin]), Run)
    assert refused(*train, "pp=1,interleave=2") == (
        "error: --mapping interleave=2 has no meaning with pp=1: there are no other stages for "
        "chunks of layers to go round"
    )
