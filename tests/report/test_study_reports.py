import csv
import io
import json
from pathlib import Path

import pytest
from wscc.ir.errors import UserError
from wscc.report import study_export, study_plots, study_table
from wscc.report.study_axes import Cloud, Curve
from wscc.report.study_data import (
    Goal,
    StudyHead,
    TrialRow,
    Unit,
    duration,
    figure_text,
)

GOALS = (Goal("tokens_per_s", "max"), Goal("power_w", "min"))
HEAD = StudyHead(
    name="s1",
    hardware="theseus",
    workloads=("llama, decode, batch 8, context 2048",),
    goals=GOALS,
    limits=("power_w <= 15000",),
    fidelities=("bound", "fluid"),
    strategy="mfbo",
    seed=1,
    budget="20",
    parameters=("rows", "capacity", "memory_at", "speed"),
    units={"capacity": Unit("KiB", 1024.0), "speed": Unit("TB/s", 1e12)},
)


def row(number: int, rows: float, tokens: float, power: float, **more: float | str) -> TrialRow:
    values = {"rows": rows, "capacity": 49152.0, "memory_at": "edge"} | more
    figures = {"tokens_per_s": tokens, "power_w": power}
    return TrialRow(number, "fluid", "done", values, figures, 2.5)


FRONT = (row(7, 8, 1500, 9000), row(3, 16, 900, 4500))


def status(**changes: object) -> study_table.StudyStatus:
    known = {
        "head": HEAD,
        "counts": {("bound", "done"): 40, ("fluid", "done"): 7, ("fluid", "failed"): 1},
        "spent_s": {"bound": 8.0, "fluid": 100.0},
        "front": FRONT,
        "hypervolume": 0.5,
        "evaluations": 7.56,
        "running": False,
        "stopped": "the budget is spent",
    }
    return study_table.StudyStatus(**{**known, **changes})


def test_a_status_says_what_was_spent_on_what_and_what_is_best() -> None:
    shown = "\n".join(study_table.status_lines(status()))
    assert "budget       20; spent 1 min 48 s, as 7.56 evaluations at the top" in shown
    assert "bound        40 done; 8.00 s" in shown
    assert "fluid        7 done, 1 failed; 1 min 40 s" in shown
    assert "stopped      the budget is spent" in shown
    assert "    7         1,500  9.00 kW    rows=8" in shown
    assert "all: capacity=48 KiB, memory_at=edge" in shown


def test_a_study_without_a_front_says_so() -> None:
    shown = "\n".join(study_table.status_lines(status(front=(), hypervolume=None)))
    assert "front        none yet" in shown


def test_a_status_is_json() -> None:
    found = json.loads(json.dumps(status().to_json(), allow_nan=False))
    assert found["trials"] == {"bound": {"done": 40}, "fluid": {"done": 7, "failed": 1}}
    assert found["objectives"] == ["max:tokens_per_s", "min:power_w"]
    assert found["front"][0]["design"] == {"rows": 8, "capacity": 49152.0, "memory_at": "edge"}


def test_a_single_design_is_shown_in_full() -> None:
    shown = "\n".join(study_table.front_lines(HEAD, FRONT[:1]))
    assert "rows=8, capacity=48 KiB, memory_at=edge" in shown


def test_a_trial_says_why_it_failed_and_shows_its_log() -> None:
    trial = TrialRow(4, "fluid", "failed", {"rows": 8.0}, reason="killed", attempts=2)
    lines = study_table.trial_lines(HEAD, trial, False, "wscc --hw x", "line 1\nline 2\n")
    shown = "\n".join(lines)
    assert shown.startswith("trial 4: failed at fluid\n  killed\n")
    assert "2 attempts" in shown
    assert "log\n  line 1\n  line 2\n" in shown


def test_a_table_of_trials_has_a_column_for_everything_and_reads_back() -> None:
    trials = [*FRONT, row(9, 8, 10, 10, speed=1e12 / 3)]
    table = study_export.columns(trials, frozenset({7, 3}))
    rows = list(csv.DictReader(io.StringIO(study_export.csv_text(table))))
    assert [found["on_front"] for found in rows] == ["yes", "yes", "no"]
    assert [found["design.speed"] for found in rows[:2]] == ["", ""]
    assert float(rows[2]["design.speed"]) == 1e12 / 3
    assert float(rows[0]["figure.tokens_per_s"]) == 1500


def test_a_table_is_written_as_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs wscc[parquet]")
    table = study_export.columns(FRONT, frozenset({7}))
    study_export.write_parquet(table, tmp_path / "t.parquet")
    found = parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert found["trial"] == [7, 3]
    assert found["design.capacity"] == [49152.0, 49152.0]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("latency_s", 0.0123, "12.3 ms"),
        ("decode/power_w", 14500, "14.5 kW"),
        ("tokens_per_s", 2560, "2,560"),
        ("tokens_per_s_per_w", 0.5, "0.500"),
        ("memory.kv_bytes", 1 << 30, "1.00 GiB"),
        ("hardware.area_mm2", 46225, "46,200 mm2"),
    ],
)
def test_figures_are_shown_in_the_unit_of_their_name(name: str, value: float, text: str) -> None:
    assert figure_text(name, value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500 ms"), (48, "48 s"), (125, "2 min 05 s"), (12000, "3 h 20 min")]
)
def test_times_are_shown_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def figures() -> dict[str, object]:
    trials = [*FRONT, row(9, 8, 10, 10), row(10, 24, 1, 9999)]
    cloud = Cloud("s1", trials, frozenset({7, 3, 9}))
    return {
        "front": study_plots.draw_front(GOALS, [cloud]),
        "single": study_plots.draw_front(GOALS[:1], [cloud]),
        "hypervolume": study_plots.draw_hypervolume([Curve("s1", [0, 1], [0, 0.5])]),
        "parallel": study_plots.draw_parallel(HEAD, cloud),
        "importance": study_plots.draw_importance(GOALS, {"rows": [0.5, 0.2]}),
    }


def test_pictures_are_the_same_bytes_twice(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        study_plots.save_figures(str(tmp_path / folder), figures())  # pyright: ignore[reportArgumentType]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 10
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_front_of_two_figures_is_a_line_through_the_best() -> None:
    (axes,) = study_plots.draw_front(GOALS, [Cloud("s1", FRONT, frozenset({7, 3}))]).axes
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [900, 1500]  # pyright: ignore[reportAttributeAccessIssue]
    assert axes.get_xlabel() == "tokens_per_s (more is better)"


def test_pictures_do_not_replace_a_file_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="expected a folder"):
        study_plots.save_figures(str(tmp_path / "f"), {})


def test_studies_are_compared_at_equal_cost() -> None:
    compared = study_table.Compared(HEAD, 20.0, 0.8, 0.7, 5, 3)
    shown = "\n".join(study_table.compare_lines(GOALS, [compared], 10.0))
    assert "at cost 10.0" in shown
    assert "mfbo, seed 1" in shown
    assert "5, 3 of all" in shown
