"""How a run is put together, with stand-ins for the stages that are slow."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from wscc.cli import pipeline
from wscc.cli.main import main
from wscc.ir.dims import symbol
from wscc.ir.errors import UserError
from wscc.ir.graph import Graph, Input, Model, TensorType
from wscc.ir.result import Infeasibility, Result

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 256,
    "torch_dtype": "bfloat16",
}


TOKENS = Input("tokens", TensorType("int64", (symbol("batch"),)), "data", "input_ids")


class Stages:
    """Stand-ins that count their calls; `result` is what an evaluation gives."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.calls: Counter[str] = Counter()
        self.during_compile: Callable[[], None] = lambda: None
        self.text = "the program\n"

    def trace(self, config: Any, phase: Any, sizes: Any) -> Model:
        self.calls["trace"] += 1
        return Model(config.name, phase, config.dtype, {"main": Graph("main", (TOKENS,), (), ())})

    def compile_pinned(self, model: Any, hardware: Any, pins: Any, seed: int, after: Any) -> Any:
        self.calls["compile"] += 1
        self.during_compile()
        for name in ("shard", "place") if after else ():
            after(name, f"program after {name}\n")
        return SimpleNamespace(hardware=hardware)

    def evaluate(self, program: Any, fidelity: Any, flit_budget_s: Any) -> Result:
        self.calls["evaluate"] += 1
        return dataclasses.replace(self.result, fidelity=fidelity)

    def print_program(self, program: Any) -> str:
        return self.text

    def drawings(self, program: Any, result: Result, claims: Any) -> dict[str, str]:
        return {"report.html": f"drawn at {result.fidelity}"}

    def parse_program(self, text: str) -> Any:
        if text != "the program\n":
            raise ValueError(text)
        return SimpleNamespace()


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample_result: Result) -> Stages:
    made = Stages(sample_result)
    replaced = ("trace", "compile_pinned", "evaluate", "parse_program")
    for name in (*replaced, "print_program", "drawings"):
        monkeypatch.setattr(pipeline, name, getattr(made, name))
    monkeypatch.setenv("WSCC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return made


def run(*flags: str) -> int:
    return main(["--hw", "wse2", "--model", "config.json", *flags])


def test_a_run_prints_the_report(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("llama-8b, decode, batch 8")
    assert shown.err == ""
    assert stages.calls == {"trace": 1, "compile": 1, "evaluate": 1}


def test_json_is_one_object_and_nothing_else(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "-vv") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "wscc.report/1"
    assert None not in report["timings_s"].values()


def test_a_second_run_neither_traces_nor_compiles(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    first = capsys.readouterr().out
    assert run() == 0
    assert capsys.readouterr().out == first
    assert stages.calls == {"trace": 1, "compile": 1, "evaluate": 2}


def test_steps_that_the_cache_spared_have_no_time(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    capsys.readouterr()
    run("--json")
    timings = json.loads(capsys.readouterr().out)["timings_s"]
    assert (timings["trace"], timings["compile"]) == (None, None)
    assert timings["total"] >= timings["evaluate"] > 0


def test_without_the_cache_everything_is_done_again_and_nothing_kept(
    stages: Stages, tmp_path: Path
) -> None:
    run("--no-cache")
    run("--no-cache")
    assert stages.calls == {"trace": 2, "compile": 2, "evaluate": 2}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--batch", "2"),
        ("--sequence", "128"),
        ("--context", "128"),
        ("--layers", "1"),
        ("--seed", "1"),
        ("--region", "10x10"),
        ("--mapping", "pp=2"),
    ],
)
def test_another_size_or_pin_is_compiled_from_the_same_trace(
    stages: Stages, flags: tuple[str, ...]
) -> None:
    run()
    run(*flags)
    assert stages.calls == {"trace": 1, "compile": 2, "evaluate": 2}


@pytest.mark.parametrize("flags", [("--phase", "decode"), ("--dtype", "float16")])
def test_another_phase_or_dtype_is_traced_again(stages: Stages, flags: tuple[str, ...]) -> None:
    run()
    run(*flags)
    assert stages.calls == {"trace": 2, "compile": 2, "evaluate": 2}


def test_another_fidelity_uses_the_same_program(stages: Stages) -> None:
    run()
    run("--fidelity", "bound")
    assert stages.calls == {"trace": 1, "compile": 1, "evaluate": 2}


def test_the_cache_sees_a_changed_config_and_not_a_reformatted_one(
    stages: Stages, tmp_path: Path
) -> None:
    run()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG, indent=4, sort_keys=True))
    run()
    assert stages.calls["compile"] == 1
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": 512}))
    run()
    assert (stages.calls["trace"], stages.calls["compile"]) == (2, 2)


def test_the_cache_sees_a_changed_spec(stages: Stages, tmp_path: Path) -> None:
    shipped = pipeline.load_hardware("wse2").file.path
    spec = tmp_path / "mine.wsc"
    spec.write_text(shipped.read_text())
    main(["--hw", "mine.wsc", "--model", "config.json"])
    spec.write_text(shipped.read_text().replace("1.1 GHz", "1.2 GHz"))
    main(["--hw", "mine.wsc", "--model", "config.json"])
    assert (stages.calls["trace"], stages.calls["compile"]) == (1, 2)


def test_a_cached_text_that_cannot_be_parsed_is_a_miss(stages: Stages) -> None:
    stages.text = "something else\n"
    run()
    assert run() == 0
    assert stages.calls["compile"] == 2


def test_a_cache_that_cannot_be_written_is_a_warning(
    stages: Stages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WSCC_CACHE", str(tmp_path / "config.json"))
    assert run() == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: nothing is cached: ")


def test_files_are_written_where_they_are_asked_for(stages: Stages, tmp_path: Path) -> None:
    run("-o", "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["feasible"] is True
    assert (tmp_path / "out" / "program.txt").read_text() == "the program\n"
    assert (tmp_path / "out" / "report.html").read_text() == "drawn at fluid"


def test_a_folder_that_is_a_file_is_refused_before_anything_is_done(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-o", "config.json") == 2
    assert capsys.readouterr().err == "config.json: error: is a file, expected a folder\n"
    assert stages.calls == {}


def test_what_does_not_fit_is_exit_code_one_with_the_full_report(
    stages: Stages, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    short = Infeasibility("SRAM", "stage 0", 2048, 1024, 1024, "bytes", ("--region 9x9",))
    stages.result = dataclasses.replace(stages.result, feasible=False, infeasible=(short,))
    assert run("--json", "-o", "out") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["infeasible"][0]["changes"] == ["--region 9x9"]
    assert report["latency_s"] == stages.result.latency_s
    assert (tmp_path / "out" / "report.json").exists()


def test_the_program_is_printed_after_a_pass(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    capsys.readouterr()
    run("--print-after", "place", "--json")
    shown = capsys.readouterr()
    assert shown.err == "program after place\n"
    json.loads(shown.out)


def test_the_program_is_dumped_after_every_pass(stages: Stages, tmp_path: Path) -> None:
    run("--dump-ir", "ir")
    found = {path.name: path.read_text() for path in (tmp_path / "ir").iterdir()}
    assert found == {
        "01-shard.txt": "program after shard\n",
        "02-place.txt": "program after place\n",
    }


def test_an_interrupted_run_says_so_and_leaves_no_file(
    stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stages.during_compile = interrupt
    assert run("-o", "out") == 130
    assert capsys.readouterr().err == "wscc: interrupted\n"
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".part"]


def test_an_interrupt_that_an_import_renamed_is_still_one(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    def import_interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ModuleNotFoundError("could not import") from error

    stages.during_compile = import_interrupted
    assert run() == 130
    assert capsys.readouterr().err == "wscc: interrupted\n"


def fail() -> None:
    raise ZeroDivisionError("division by zero")


def test_a_fault_of_ours_is_exit_code_three_without_a_traceback(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.during_compile = fail
    assert run() == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "wscc: internal error: ZeroDivisionError: division by zero\n"
        "This is a fault of wscc, not of its input. Please report it with the command, its input "
        "files and what the same command prints with -vv.\n"
    )


def test_the_traceback_of_a_fault_is_shown_when_asked_for(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    stages.during_compile = fail
    assert run("-vv") == 3
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_mistake_found_by_a_stage_is_its_own_message(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise UserError("--region 9x9 is larger than the wafer")

    stages.during_compile = refuse
    assert run() == 2
    assert capsys.readouterr().err == "error: --region 9x9 is larger than the wafer\n"


@pytest.mark.parametrize("name", ["sram_sise", "physics", "self"])
def test_an_unknown_parameter_is_the_users_mistake(
    stages: Stages, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--set", f"{name}=1") == 2
    assert capsys.readouterr().err == f"error: --set: unknown parameter '{name}'\n"


def test_the_key_of_a_program_is_made_without_any_heavy_import(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    code = (
        "import sys\n"
        "from wscc.cli import pipeline, run\n"
        "from wscc.cli.asked import Job\n"
        f"job = Job('wse2', {str(path)!r})\n"
        "run._program_key(job, pipeline.read_config(job.model, job.options))\n"
        "heavy = ('torch', 'transformers', 'ortools', 'pint', 'lark', 'numpy', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
