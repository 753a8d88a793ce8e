"""A table of designs: as a space, as a file."""

from pathlib import Path

import numpy as np
import pytest
from wscc.dse.design import Design
from wscc.dse.evaluator import Rung
from wscc.dse.objective import read_objective
from wscc.dse.table import Table, TableSpace, read_table
from wscc.ir.errors import UserError

COLUMNS = {
    "cores": np.array([4.0, 8.0, 4.0, 4.0, 8.0]),
    "dram": np.array(["none", "none", "stacked", "stacked", "stacked"]),
    "layers": np.array([np.nan, np.nan, 2.0, 4.0, 4.0]),
}
SPACE = TableSpace(tuple(COLUMNS), COLUMNS)


def table() -> Table:
    latency = np.array([1.0, 0.1 + 0.2, 3.0, np.nan, 5.0])
    rungs = (Rung("bound", 0.001, ("latency_s",)), Rung("fluid", 1.0))
    figures = {"bound": {"latency_s": latency / 2}, "fluid": {"latency_s": latency}}
    return Table(SPACE, rungs, figures, {"latency_s": latency / 4})


def test_a_parameter_that_does_not_exist_is_left_out() -> None:
    assert SPACE.designs[0] == Design.of({"cores": 4, "dram": "none"})


def test_the_middle_of_a_design_stands_for_it() -> None:
    assert SPACE.from_unit(SPACE.to_unit(SPACE.designs)) == SPACE.designs


def test_an_axis_that_does_not_exist_is_ignored() -> None:
    found = SPACE.from_unit(np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.99]]))
    assert found == [SPACE.designs[1], SPACE.designs[1]]


def test_a_point_that_stands_for_no_row_is_none() -> None:
    assert SPACE.from_unit(np.array([[0.9, 0.9, 0.1]])) == [None]


def test_features_lie_within_0_and_1() -> None:
    features = SPACE.features(SPACE.designs)
    assert features.shape == (5, 4)
    assert (features >= 0).all()
    assert (features <= 1).all()


def test_the_nearest_neighbour_differs_in_one_parameter() -> None:
    rng = np.random.default_rng(0)
    (near,) = SPACE.neighbours(SPACE.designs[3], 1, rng)
    assert near in (SPACE.designs[2], SPACE.designs[4])


def test_a_row_without_figures_is_infeasible() -> None:
    outcome = table().evaluator.evaluate(SPACE.designs[3], "fluid")
    assert outcome.state == "infeasible"
    assert table().optimist.optimistic(
        {name: column[3:4] for name, column in COLUMNS.items()}, [read_objective("latency_s")]
    ) == np.array([[np.inf]])


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    table().write(tmp_path / "table.csv.gz")
    again = read_table(tmp_path / "table.csv.gz")
    assert again.rungs == table().rungs
    assert again.space.designs == SPACE.designs
    assert again.evaluator.version == table().evaluator.version
    assert np.array_equal(
        again.optimistic["latency_s"], table().optimistic["latency_s"], equal_nan=True
    )


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_text("hello")
    with pytest.raises(UserError, match=r"x.csv.gz: not a table of designs"):
        read_table(tmp_path / "x.csv.gz")
