"""docs/accuracy.md has the figures of `wscc validate`, and those that are quick are predicted anew.

When predictions change: `wscc validate -o docs/validation` (some minutes), then this file with
`--update-golden`, and `--reference DIR` for the table of the whole files.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wscc.cli.validate import to_json
from wscc.cli.validation import cohorts
from wscc.cli.validation.figure import Figure
from wscc.cli.validation.gpu_training import predicted, steps
from wscc.report.validation import errors_markdown, figures_markdown, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
RECORDED = json.loads((ROOT / "docs" / "validation" / "validation.json").read_text())
CLOSE = 1e-3
"""Of figures that are predicted anew."""
REFRESH = "wscc validate -o docs/validation, then pytest --update-golden tests/cli"
EVERY = 20
"""Of so many training steps on GPUs one is predicted anew."""

Update = Callable[[str, str], None]


@pytest.fixture
def section(request: pytest.FixtureRequest) -> Update:
    """Asserts that a marked section of the page is a text, or makes it that."""
    update = bool(request.config.getoption("--update-golden"))

    def check(name: str, text: str) -> None:
        page = PAGE.read_text()
        found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
        assert found is not None, name
        if update:
            PAGE.write_text(page[: found.start(1)] + text + page[found.end(1) :])
        else:
            assert found[1] == text, REFRESH

    return check


def key(figure: dict[str, Any]) -> tuple[str, str]:
    return figure["cohort"], figure["name"]


def compare(found: Iterator[Figure]) -> set[tuple[str, str]]:
    """Figures that are predicted anew are the recorded ones; which they are."""
    known = {key(figure): figure for figure in RECORDED["figures"]}
    assert len(known) == len(RECORDED["figures"])
    made = to_json(list(found))["figures"]
    for figure in made:
        before = known[key(figure)]
        assert figure["predicted"] == pytest.approx(before["predicted"], rel=CLOSE), REFRESH
        same = ("measured", "unit", "fitted", "source", "kind")
        assert {name: figure[name] for name in same} == {name: before[name] for name in same}
    return {key(figure) for figure in made}


def test_the_page_has_the_table_that_is_printed(section: Update) -> None:
    text = errors_markdown(RECORDED)
    section("validate: errors", text)
    cells = [re.sub(r"&nbsp;|\|", " ", line).split() for line in text.splitlines()[2:]]
    assert cells == [line.split() for line in table(RECORDED).split("\n\n")[0].splitlines()[1:]]


@pytest.mark.parametrize("cohort", ["WSE-2 inference", "CS-2 training", "GPU inference"])
def test_the_page_has_every_figure_of_small_cohorts(cohort: str, section: Update) -> None:
    section(f"validate: {cohort}", figures_markdown(RECORDED, cohort))


def test_every_cohort_but_that_of_given_files_is_recorded() -> None:
    names = [cohort.name for cohort in cohorts()]
    assert [cohort["name"] for cohort in RECORDED["cohorts"]] == names[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chips", "gpu-operators", "gpu-inference", "wafer-inference"])
def test_quick_cohorts_are_predicted_as_recorded(name: str) -> None:
    (cohort,) = [each for each in cohorts() if each.key == name]
    own = {key(figure) for figure in RECORDED["figures"] if figure["cohort"] == cohort.name}
    assert compare(cohort.figures(None)) == own


@pytest.mark.slow
def test_some_training_steps_are_predicted_as_recorded() -> None:
    chosen = steps(None)[::EVERY]
    assert len(chosen) > 3
    assert len(compare(predicted(step) for step in chosen)) == len(chosen)
    (wafer,) = [each for each in cohorts() if each.key == "wafer-training"]
    assert compare(iter([next(iter(wafer.figures(None)))]))


@pytest.mark.slow
def test_the_page_has_the_errors_of_the_whole_files(reference: Path, section: Update) -> None:
    wanted = ("gpu-operators", "network")
    chosen = [cohort for cohort in cohorts() if cohort.key in wanted]
    found = [figure for cohort in chosen for figure in cohort.figures(reference)]
    section("validate --data: errors", errors_markdown(to_json(found)))
