"""`wscc validate`: predictions beside the measurements that are carried, or that a folder holds."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from wscc.cli.main import main
from wscc.cli.validation import cohorts, tables
from wscc.cli.validation.figure import Figure, errors
from wscc.cli.validation.gpu_operators import KINDS, fitted_half
from wscc.cli.validation.gpu_training import Step, fitted_steps, steps


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["validate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def figure(predicted: float, fitted: bool = False) -> Figure:
    return Figure("test", "one", "s", 2.0, predicted, fitted, "nowhere")


def test_errors_are_shares_of_what_was_measured() -> None:
    found = errors([figure(2.2), figure(1.0), figure(2.0)])
    assert (found.mean, found.median) == pytest.approx((0.2, 0.1))
    assert found.worst == pytest.approx(-0.5)


def test_chips_are_set_beside_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "--cohort", "chips")
    (cohort,) = made["cohorts"]
    assert cohort["all"]["figures"] == len(made["figures"]) > 40
    (cores,) = [each for each in made["figures"] if each["name"] == "wse2 cores"]
    assert (cores["measured"], cores["predicted"], cores["error"]) == (850000, 850000, 0)


def test_a_folder_takes_the_place_of_what_is_carried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice the carried latency: what was 20% too much is 40% too little."""
    rows, _ = tables.carried("a100_gemm_slice_ms.csv")
    path = tmp_path / "measured" / "a100_gemm_slice_ms.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("m", "n", "k", "latency"))
        writer.writerows((r["m"], r["n"], r["k"], 2 * float(r["latency"])) for r in rows)
    made = run(capsys, "--data", str(tmp_path))
    usual = run(capsys, "--cohort", "gpu-operators")
    before = {each["name"]: each for each in usual["figures"]}
    assert len(made["figures"]) == len(rows)
    for each in made["figures"]:
        assert each["measured"] == pytest.approx(2 * before[each["name"]]["measured"])
        assert each["predicted"] == before[each["name"]]["predicted"]
        assert not each["fitted"], "no constant was fitted on another file"


def test_half_of_a_file_is_never_used_for_a_constant() -> None:
    for kind in KINDS:
        assert fitted_half(kind, kind.calibrated).sum() == kind.calibrated // 2
        assert not fitted_half(kind, kind.calibrated + 1).any()
    every = steps(None)
    for table in dict.fromkeys(step.table for step in every):
        own = [step for step in every if step.table == table]
        assert len([step for step in own if step in fitted_steps()]) == len(own) // 2


def test_steps_are_read_from_the_tables_as_published(tmp_path: Path) -> None:
    (tmp_path / "a100_selective_recompute.csv").write_text(
        "model,n_A100,TP,PP,interleave_m,batch,microbatch,iter_s_full_recompute,"
        "iter_s_seqpar_selective\n22B h6144 L48 a64,8,8,1,1,4,4,1.42,1.1\n"
    )
    full, selective = steps(tmp_path)
    assert full == Step(full.table, 6144, 64, 48, 4, 8, 1, 1, 4, 1, "full", 1.42)
    assert (selective.recompute, selective.measured_s) == ("selective", 1.1)
    assert {full, selective} <= {*steps(None)}, "both are carried"


def test_every_cohort_says_where_its_figures_come_from() -> None:
    for cohort in cohorts():
        if cohort.key in ("chips", "gpu-operators"):
            for each in cohort.figures(None):
                assert each.source
                assert each.measured > 0


def test_the_parity_plot_and_the_figures_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    made = run(capsys, "--cohort", "chips", "-o", str(tmp_path))
    assert json.loads((tmp_path / "validation.json").read_text()) == made
    assert "chips" in (tmp_path / "parity.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cohort", "gpu-oprators"), "did you mean 'gpu-operators'?"),
        (("--cohort", "zebra"), "expected one of chips,"),
        (("--data", "nowhere"), "no such folder"),
        (("--cohort", "network"), "give --data DIR"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m,n,latency\n1,1,1\n", "expected a column 'k'"),
        ("m,n,k,latency\n1,1,-3,1\n", "k: expected a number above zero, got '-3'"),
    ],
)
def test_a_wrong_file_is_one_message(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a100_gemm_slice_ms.csv").write_text(text)
    assert main(["validate", "--data", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
