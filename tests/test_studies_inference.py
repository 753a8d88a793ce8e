"""The study of inference: its designs can be built, and its tables are what the tool says."""

import csv
import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from wscc.cli.pipeline import load_hardware

STUDY = Path(__file__).parents[1] / "examples" / "studies" / "inference"
SCRIPTS = ("evaluated", "sweep", "pairs")
DESIGNS = ("fast", "frugal", "array")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The study's scripts, which stand beside each other and not in a package."""
    sys.path.insert(0, str(STUDY))
    kept = {name: sys.modules.pop(name, None) for name in SCRIPTS}
    try:
        yield {name: importlib.import_module(name) for name in SCRIPTS}
    finally:
        sys.path.remove(str(STUDY))
        for name, module in kept.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def rows(name: str) -> list[dict[str, str]]:
    with (STUDY / "results" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", DESIGNS)
def test_a_shipped_design_of_the_study_holds_its_constraints(name: str) -> None:
    design = load_hardware(STUDY / f"{name}.wsc").bind()
    assert len(design.constraints) >= 3
    assert [line.text for line in design.constraints if not line.holds] == []


def test_a_shipped_design_does_what_the_table_says(scripts: dict[str, ModuleType]) -> None:
    (row,) = [
        row for row in rows("arrays") if (row["label"], row["step"]) == ("array", "llama-prefill")
    ]
    again = scripts["evaluated"].evaluated("array", "llama-prefill")
    for figure in ("latency_s", "tokens_per_s", "power_w", "power_nameplate_w", "cost_usd"):
        assert again[figure] == pytest.approx(float(row[figure]), rel=1e-4), figure
    assert again["breaks"] == again["lacks"] == ""


def test_every_point_of_the_sweeps_is_in_its_table_and_can_be_built(
    scripts: dict[str, ModuleType],
) -> None:
    for name, points in scripts["sweep"].SWEEPS.items():
        shown = [(row["label"], row["step"]) for row in rows(name)]
        assert shown == [(point.label, point.step) for point in points()], name
        for point in points():
            scripts["evaluated"].space(point.hardware).bind(**point.values)


def test_a_pair_serves_no_less_than_the_best_design_for_both(
    scripts: dict[str, ModuleType],
) -> None:
    shown = rows("pairs")
    assert len(shown) == len(scripts["pairs"].POOLS) * len(scripts["pairs"].RESOURCES)
    for row in shown:
        again = scripts["pairs"].compared(row["pool"], row["resource"])
        assert again["gain"] >= 1.0
        assert math.isclose(again["gain"], float(row["gain"]), rel_tol=1e-4)
