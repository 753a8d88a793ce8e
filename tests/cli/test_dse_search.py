"""A search of a tiny space, from the command line to the files that it leaves."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wscc import load_hardware
from wscc.cli.dse.main import main
from wscc.dse.store import Store

SPEC = """
wsc 1
use "n7.wsc" as n7
param lanes     = 4         in pow2(1, 16)          # of a core
param rows      = 4         in 2..6 step 2
param sram_size = 32 KiB    in {1, 32, 64} KiB
param joint     = stitched  in {stitched, separate}
core pe {
  technology = n7
  clock = 1 GHz
  matrix { fp32 = lanes * 2 flop/cycle }
  vector { fp32 = lanes * 1 element/cycle }
  sram { capacity = sram_size; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 32 bit/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = yes }
}
die tile { cores = rows x 4 of pe }
link stitched { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
link separate { share = 0.5; latency = 100 ns; energy = 1.25 pJ/bit; gap = 0.8 mm }
wafer wse { size = 100 mm x 100 mm; dies = 2 x 2 of tile joined joint }
system { wafers = 1 of wse }
constraint lanes * rows <= 64
"""
CONFIG = {
    "model_type": "llama", "torch_dtype": "float32", "vocab_size": 64, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
BUDGET = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec and a config, and a study of them by random search."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "space.wsc").write_text(SPEC)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    assert main(command(folder, "study")) == 0
    return folder


@pytest.fixture
def study(folder: Path) -> str:
    return str(folder / "study")


def command(folder: Path, study: str, *flags: str) -> list[str]:
    return [
        *("--hw", str(folder / "space.wsc"), "--model", str(folder / "config.json")),
        *("--phase", "decode", "--context", "16", "--strategy", "random", "--workers", "0"),
        *("--budget", f"{BUDGET}", "--seed", "3", "--quiet", "--study", str(folder / study)),
        *flags,
    ]


def spoken(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints with --json."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def designs(study: str) -> Iterator[str]:
    with Store.open(study) as store:
        for trial in store.trials():
            yield str(trial.design)


def test_a_search_spends_its_budget_and_finds_a_front(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = spoken(capsys, "status", study)
    assert status["schema"] == "wscc-dse.status/1"
    assert sum(status["trials"]["fluid"].values()) == BUDGET
    assert status["evaluations"] == pytest.approx(BUDGET)
    assert status["stopped"] == "the budget is spent"
    assert not status["running"]
    front = spoken(capsys, "pareto", study)["front"]
    assert front == status["front"]
    speeds = [trial["figures"]["tokens_per_s"] for trial in front]
    powers = [trial["figures"]["power_nameplate_w"] for trial in front]
    assert speeds == sorted(speeds, reverse=True)
    assert powers == sorted(powers, reverse=True)


def test_the_same_command_again_has_nothing_left_to_do(
    folder: Path, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(designs(study))
    report = spoken(capsys, *command(folder, "study"))
    assert (report["schema"], report["reason"]) == ("wscc-dse.search/1", "budget")
    assert list(designs(study)) == before


def test_a_larger_budget_goes_on_and_ends_where_one_run_would(folder: Path) -> None:
    flags = ("--strategy", "nsga2")
    assert main(command(folder, "parts", *flags, "--budget", "4")) == 0
    assert main(command(folder, "parts", *flags, "--budget", "9")) == 0
    assert main(command(folder, "whole", *flags, "--budget", "9")) == 0
    assert list(designs(str(folder / "parts"))) == list(designs(str(folder / "whole")))


def test_another_search_in_the_same_folder_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "study", "--seed", "4")) == 2
    assert "seed: 3, not 4" in capsys.readouterr().err


def test_a_trial_is_shown_with_the_command_that_repeats_it(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    best = spoken(capsys, "pareto", study)["front"][0]
    shown = spoken(capsys, "show", study, f"{best['trial']}")
    assert shown["on_front"]
    assert shown["figures"] == best["figures"]
    assert "--set" in shown["command"]
    assert main(["show", study, "99999"]) == 2
    assert "no trial 99999, they end at" in capsys.readouterr().err


def test_the_best_designs_are_specs_that_are_those_designs(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken(capsys, "export", study, "--wsc", str(tmp_path))
    for best in spoken(capsys, "pareto", study)["front"]:
        path = tmp_path / f"space-{best['trial']}.wsc"
        assert "# of a core" in path.read_text()
        assert dict(load_hardware(path).bind().parameters) == best["design"]
        same = spoken(capsys, "enqueue", study, str(path))
        assert (same["trial"], same["state"]) == (best["trial"], "done")


def test_every_trial_is_a_row_of_the_table(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken(capsys, "export", study, "--csv", str(tmp_path / "t.csv"))
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(rows) >= BUDGET
    best = {trial["trial"] for trial in spoken(capsys, "pareto", study)["front"]}
    assert {int(row["trial"]) for row in rows if row["on_front"] == "yes"} == best


def test_a_study_is_drawn(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = spoken(capsys, "plot", study, "-o", str(tmp_path))
    names = {Path(path).name for path in report["written"]}
    assert {"front.svg", "hypervolume.png", "parallel.svg", "importance.svg"} <= names
    shares = report["importance"]["parameters"]
    assert all(0 <= share <= 1 for both in shares.values() for share in both)


def test_the_page_of_a_study_holds_the_specs_that_export_writes(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (written,) = spoken(capsys, "report", study, "-o", str(tmp_path / "page"))["written"]
    html = Path(written).read_text()
    kept = json.loads(html.partition('id="specs">')[2].partition("</script>")[0])
    files = {
        name: "\n".join(kept["lines"][at] for at in lines) for name, lines in kept["files"].items()
    }
    spoken(capsys, "export", study, "--wsc", str(tmp_path / "specs"))
    assert files == {path.name: path.read_text() for path in (tmp_path / "specs").iterdir()}


def test_a_study_is_as_good_as_itself(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = spoken(capsys, "compare", study, study)["studies"]
    assert first == second
    assert first["front_of_all"] == first["front"]


def test_a_design_of_ones_own_waits_until_the_search_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "mine", "--budget", "2")) == 0
    queued = spoken(capsys, "enqueue", str(folder / "mine"), "lanes=1", "sram_size=64KiB")
    assert queued["state"] == "queued"
    assert queued["design"]["sram_size"] == 65536.0
    assert queued["design"]["rows"] == 4
    assert main(command(folder, "mine", "--budget", "2")) == 0
    shown = spoken(capsys, "show", str(folder / "mine"), f"{queued['trial']}")
    assert (shown["state"], shown["note"]) == ("done", "enqueued")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["lane=1"], "parameter 'lane' is not searched, did you mean 'lanes'?"),
        (["lanes=3"], "lanes: 3 is not in"),
        (["lanes=16", "rows=6"], "cannot be built: lanes * rows <= 64"),
        (["lanes=1", "--fidelity", "flit"], "flit is none of bound, fluid"),
    ],
)
def test_a_design_that_is_none_is_refused(
    study: str, values: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["enqueue", study, *values]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--objective", "min:memory.kv_byte"], "did you mean 'memory.kv_bytes'?"),
        (["--constraint", "powr_w <= 3"], "--constraint powr_w <= 3: the report has no figure"),
        (["--set", "lane=3"], "--set: unknown parameter 'lane', did you mean 'lanes'?"),
        (["--budget", "soon"], "--budget soon: expected a time"),
        (["--strategy", "certified", "--objective", "power_w"], "energy_j or power_nameplate_w"),
    ],
)
def test_a_mistake_is_found_before_a_study_is_made(
    folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, "none", *flags)) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "none").exists()


def test_a_spec_that_leaves_nothing_open_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["lanes=2", "rows=4", "sram_size=32KiB", "joint=stitched"]
    flags = [word for value in fixed for word in ("--set", value)]
    assert main(command(folder, "none", *flags)) == 2
    assert "leaves no parameter open" in capsys.readouterr().err


def test_limits_that_nothing_holds_leave_no_front_and_exit_with_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--budget", "2", "--constraint", "power_w <= 0")
    report = spoken(capsys, *command(folder, "hard", *flags), code=1)
    assert report["front"] == []
    assert main(["pareto", str(folder / "hard")]) == 1
    assert main(["plot", str(folder / "hard"), "-o", str(folder / "pictures")]) == 2
    assert main(["report", str(folder / "hard"), "-o", str(folder / "pictures")]) == 0
    assert "there is nothing to draw" in (folder / "pictures" / "study.html").read_text()


def test_several_workloads_are_objectives_of_their_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        *("--workload", "chat: batch=2", "--workload", "read: phase=prefill, sequence=8"),
        *("--objective", "latency_s", "--objective", "cost_usd", "--budget", "2"),
    ]
    report = spoken(capsys, *command(folder, "several", *flags))
    assert report["objectives"] == ["min:chat/latency_s", "min:read/latency_s", "min:cost_usd"]
    assert report["workloads"][0].startswith("chat: ")


def test_a_study_is_mirrored_to_an_optuna_journal(folder: Path, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs wscc[optuna]")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = str(tmp_path / "journal")
    flags = ("--optuna-journal", journal, "--constraint", "power_w <= 1e9")
    assert main(command(folder, "seen", *flags, "--budget", "3")) == 0
    assert main(command(folder, "seen", *flags, "--budget", "5")) == 0
    loaded = optuna.load_study(
        study_name="seen", storage=JournalStorage(JournalFileBackend(journal))
    )
    assert [trial.user_attrs["trial"] for trial in loaded.trials] == [0, 1, 2, 3, 4]
    done = [trial for trial in loaded.trials if trial.state.name == "COMPLETE"]
    assert all(trial.system_attrs["constraints"][0] <= 0 for trial in done)
    with Store.open(folder / "seen") as store:
        best = {trial.number for trial in store.front()}
    assert {trial.user_attrs["trial"] for trial in loaded.best_trials} == best


def test_what_is_no_study_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no study there" in capsys.readouterr().err


def test_the_page_of_a_study_imports_no_torch(study: str, tmp_path: Path) -> None:
    heavy = ("torch", "botorch", "transformers", "matplotlib", "ortools", "numba")
    code = (
        "import sys; from wscc.cli.dse.main import main; "
        f"main(['report', {study!r}, '-o', {str(tmp_path)!r}]); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_reading_a_study_imports_no_torch_and_no_spec(study: str) -> None:
    heavy = ("torch", "botorch", "transformers", "lark", "pint", "matplotlib", "ortools", "numba")
    verbs = (["status", study], ["pareto", study], ["show", study, "0"])
    code = (
        f"import sys; from wscc.cli.dse.main import main; print([main(verb) for verb in {verbs}]); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["[0, 0, 0]", "[]"], done.stderr
