"""The page of a study: one file that draws any study, with its best designs to download."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wscc.report.html.study_page import StudyPage, packed, study_page
from wscc.report.study_axes import Cloud, Curve
from wscc.report.study_data import Goal, StudyHead, TrialRow, Unit, figure_text
from wscc.report.study_table import StudyStatus, status_lines

GOALS = (Goal("tokens_per_s", "max"), Goal("power_w", "min"), Goal("cost_usd", "min"))
HEAD = StudyHead(
    name="s1",
    hardware="theseus",
    workloads=("llama, decode, batch 8, context 2048",),
    goals=GOALS[:2],
    limits=("power_w <= 15000",),
    fidelities=("bound", "fluid"),
    strategy="mfbo",
    seed=1,
    budget="20",
    parameters=("rows", "capacity", "memory_at"),
    units={"capacity": Unit("KiB", 1024.0)},
)
SPECS = {
    "theseus-7.wsc": "wsc 1\nparam rows = 8 # <b>\n",
    "theseus-3.wsc": "wsc 1\nparam rows = 16 # <b>\n",
    "own.wsc": "wsc 1\n",
}


def row(number: int, rows: float, *figures: float) -> TrialRow:
    values = {"rows": rows, "capacity": 49152.0, "memory_at": "edge"}
    named = dict(zip((goal.figure for goal in GOALS), figures, strict=False))
    return TrialRow(number, "fluid", "done", values, named, 2.5)


def study(trials: list[TrialRow], best: list[int], goals: int = 2) -> StudyPage:
    """A page of a study whose front are the trials of these numbers."""
    front = tuple(trial for trial in trials if trial.number in best)
    return StudyPage(
        status=StudyStatus(
            head=replace(HEAD, goals=GOALS[:goals]),
            counts={("bound", "done"): 40, ("fluid", "done"): len(trials)},
            spent_s={"bound": 8.0, "fluid": 100.0},
            front=front,
            hypervolume=0.5 if front else None,
            evaluations=7.56,
            running=False,
            stopped="the budget is spent",
        ),
        fidelity="fluid",
        cloud=Cloud("s1", trials, frozenset(best)),
        front=front,
        curve=Curve("s1", [0.0, 2.0, 7.56], [0.0, 0.3, 0.5]),
        second=2.5,
        importance={"rows": [0.5] * goals, "capacity": [0.1] * goals},
        importance_at="bound",
    )


TRIALS = [
    row(7, 8, 1500, 9000, 3),
    row(3, 16, 900, 4500, 2),
    row(9, 8, 10, 10_000, 9),
    row(11, 24, 20, 9999, 8),
]
SHOWN = replace(
    study(TRIALS, [7, 3]), specs=SPECS, spec_of={7: "theseus-7.wsc", 3: "theseus-3.wsc"}
)


def test_the_page_says_what_the_console_says(pages: Any) -> None:
    shown = pages.text(study_page(SHOWN))
    title, *lines = list(status_lines(SHOWN.status))
    assert title in shown
    for line in lines[: lines.index("")]:
        assert " ".join(line.split()) in shown
    for trial in SHOWN.front:
        for goal in HEAD.goals:
            assert figure_text(goal.figure, trial.figures[goal.figure]) in shown
    assert "All of them have capacity=48 KiB, memory_at=edge." in shown


def test_the_page_asks_nobody_for_anything(pages: Any) -> None:
    assert pages.requests(study_page(SHOWN)) == []


def test_names_of_a_user_are_no_markup() -> None:
    head = replace(HEAD, name="<script>alert(1)</script>", parameters=("<i>x", "rows"))
    html = study_page(replace(SHOWN, status=replace(SHOWN.status, head=head)))
    assert "<script>alert(1)" not in html
    assert "<i>x" not in html


def test_files_in_the_page_are_the_texts_whole(pages: Any) -> None:
    html = study_page(SHOWN)
    (found,) = re.findall(r'(?s)<script type="application/json" id="specs">(.*?)</script>', html)
    kept = json.loads(found)
    assert {
        name: "\n".join(kept["lines"][at] for at in lines) for name, lines in kept["files"].items()
    } == SPECS
    assert "Files that these use, to lie beside them: own.wsc" in pages.text(html)


def test_texts_that_differ_little_take_little() -> None:
    lines = [f"line {at}" for at in range(1000)]
    texts = {str(at): "\n".join([*lines, str(at)]) for at in range(100)}
    assert len(packed(texts)) < sum(map(len, texts.values())) / 2


@pytest.mark.parametrize("goals", [1, 2, 3])
def test_any_number_of_objectives_is_drawn(goals: int) -> None:
    html = study_page(study(TRIALS, [7, 3], goals))
    panels = {1: 1, 2: 1, 3: 3}[goals]
    # Beside the panels: parallel coordinates, progress, importance.
    assert html.count('"name":"Figure"') == panels + 3


def test_a_study_without_any_figures_says_so_and_why(pages: Any) -> None:
    nothing = replace(
        study([], []),
        importance={},
        unjudged={("bound", "infeasible"): {"core memory": 3, "SRAM": 1}},
    )
    shown = pages.text(study_page(nothing))
    assert "No design has figures and holds every limit: there is nothing to draw." in shown
    assert "bound infeasible 4 core memory (75%); SRAM (25%)" in shown


def test_a_front_of_a_lower_fidelity_is_no_result(pages: Any) -> None:
    shown = study(TRIALS, [7, 3])
    unfinished = replace(shown, status=replace(shown.status, front=()), fidelity="bound")
    assert "what is drawn is of bound, which is no result of the study" in pages.text(
        study_page(unfinished)
    )


def test_a_hundred_thousand_trials_are_sampled_and_it_is_said(pages: Any) -> None:
    many = [row(at, at % 50, 1 + at, 1 + 7919 * at % 100_003, 5) for at in range(100_000)]
    html = study_page(study(many, [99_999], 3))
    assert len(html) < 5e6
    assert "of 99,999 designs that others better, 2,500 are drawn" in pages.text(html)


def test_a_browser_draws_it_and_a_row_of_the_table_chooses_its_design(
    pages: Any, tmp_path: Path
) -> None:
    """Trial 3 is the second row of the table, and the first in the source: it is sorted by none."""
    press = """document.querySelectorAll("#best tbody tr")[1].click();
      const designs = models.find(model => model.name == "designs");
      document.title = designs.selected.indices.map(at => designs.data.trial[at]).join();"""
    dom, said = pages.pressed(study_page(SHOWN), press, tmp_path)
    assert said == []
    assert "<title>3</title>" in dom
    assert dom.count("bk-Figure") >= 4


def test_a_click_on_a_file_gives_its_text(pages: Any, tmp_path: Path) -> None:
    press = """const make = URL.createObjectURL;
      URL.createObjectURL = blob => {
        blob.text().then(text => { document.title = btoa(text); });
        return make.call(URL, blob);
      };
      document.querySelector("a[data-file='theseus-7.wsc']").click();"""
    dom, said = pages.pressed(study_page(SHOWN), press, tmp_path)
    assert said == []
    (title,) = re.findall("<title>(.*?)</title>", dom)
    assert base64.b64decode(title).decode() == SPECS["theseus-7.wsc"]


def test_a_page_without_plots_has_no_error(pages: Any, tmp_path: Path) -> None:
    _, said = pages.opened(study_page(replace(study([], []), importance={})), tmp_path)
    assert said == []
