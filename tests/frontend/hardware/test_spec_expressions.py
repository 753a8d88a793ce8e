"""Lets, functions and tables: what an expression is worth, and which are refused."""

# ruff: noqa: E501  one mistake a line

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from wscc.frontend.hardware import HardwareSpace, source_files
from wscc.ir.hardware import Hardware

SpaceOf = Callable[..., HardwareSpace]
Bind = Callable[..., Hardware]
Refused = Callable[..., str]

TABLE = "capacity,ports,area_um2,delay\n32,1,5000,0.3\n32,2,7000,0.4\n64,1,9000,0.5\n"


@pytest.fixture
def worth(bind: Bind, small: str) -> Callable[..., float]:
    """`worth("2 mm + 1 um")` is what an expression gives, in SI."""

    def of(expression: str, before: str = "", **values: float) -> float:
        text = f"{small}{before}\nconstraint {expression} >= {expression}\n"
        return bind(text, **values).constraints[0].left

    return of


# Lets.


def test_a_let_is_a_value_that_follows_the_parameters(small: str, bind: Bind):
    text = small.replace("8 flop/cycle", "lanes * 2 flop/cycle")
    text += "param lanes = 4\nlet wide = lanes * 4 B\nconstraint wide <= 100 B\n"
    assert bind(text).constraints[0].left == 16
    assert bind(text, lanes=8).constraints[0].left == 32
    assert bind(text, lanes=8).core.matrix_flops_per_cycle["float16"] == 16


def test_a_let_is_no_parameter_and_is_not_chosen(small: str, space_of: SpaceOf, refused: Refused):
    text = small + "param lanes = 4\nlet wide = lanes * 4 B\n"
    assert list(space_of(text).parameters) == ["lanes"]
    assert refused(text, wide=3) == "error: unknown parameter 'wide'"


def test_a_let_may_name_other_lets_parts_and_words(small: str, bind: Bind):
    text = small.replace("joined seam", "joined chosen") + (
        "let twice = 2 * once\nlet once = pe.sram.capacity\nlet chosen = seam\n"
        "constraint twice >= 0 B\n"
    )
    hardware = bind(text)
    assert hardware.constraints[0].left == 2 * 32 * 1024
    assert hardware.wafer.link.name == "seam"


def test_a_let_may_ask_the_physics_where_constraints_name_it(small: str, bind: Bind):
    text = small + "let outline = area(wse) / area(tile)\nconstraint outline <= 100\n"
    assert bind(text).constraints[0].left == pytest.approx(16)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("let a = b * 2", "13:9: error: unknown name 'b'"),
        ("let a = 1 mm + 1 s", "13:16: error: cannot add seconds to metres"),
        ("let a = area(tiel)", "13:14: error: unknown part 'tiel', did you mean 'tile'?"),
        ("let a = a + 1", "13:9: error: a depends on itself: a -> a"),
        ("let pe = 3", "13:5: error: the name 'pe' is repeated, first given on line 4"),
        ("let a = 1\nconstraint a.b <= 3", "14:12: error: the value a has no fields"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_let_is_refused_used_or_not(
    line: str, message: str, small: str, refused: Refused
):
    assert refused(f"{small}{line}\n") == f"spec.wsc:{message}"


def test_a_let_of_a_parameter_that_does_not_exist_does_not_exist_either(small: str, bind: Bind):
    text = small + (
        "param stack = off in {off, on}\nparam height = 2 in 1..4 step 1 when stack == on\n"
        "let double = height * 2\nconstraint double <= 8 when stack == on\n"
        "constraint double <= 6 when double > 6\n"
    )
    assert [c.text for c in bind(text).constraints if not c.implied] == []
    assert [c.left for c in bind(text, stack="on").constraints if not c.implied] == [4]
    assert [c.left for c in bind(text, stack="on", height=4).constraints[:2]] == [8, 8]


# Functions.


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("max(1 mm, 20 um, 0.5 mm)", 1e-3),
        ("min(1 mm, 20 um)", 20e-6),
        ("max(3)", 3),
        ("sqrt(4 mm2)", 2e-3),
        ("sqrt(2)", math.sqrt(2)),
        ("floor(7 / 2)", 3),
        ("ceil(7 / 2)", 4),
        ("round(3.4)", 3),
        ("log2(4096)", 12),
        ("floor(0.3 / 0.1)", 3),
        ("ceil(1.1 / 0.1)", 11),
        ("floor(215 mm / (17 mm + 0.8 mm))", 12),
        ("-3 + 2 * (1 + 1)", 1),
        ("2 - 1 - 1", 0),
        ("8 / 2 / 2", 2),
        ("1 year / 1 hour", 8766),
        ("0.08 USD/kWh * 3.6e6 J", 0.08),
    ],
)
def test_functions_and_operators_give_numbers_with_units(
    expression: str, expected: float, worth: Callable[..., float]
):
    assert worth(expression) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("expression", "column", "message"),
    [
        ("floor(3 B)", 12, "floor() takes a plain number, got bytes: divide by a unit, as in 'floor(size / 1 mm)'"),
        ("log2(8 mm)", 12, "log2() takes a plain number, got metres: divide by a unit, as in 'log2(size / 1 mm)'"),
        ("max(1 mm, 1 s)", 12, "the two sides differ: metres and seconds"),
        ("sqrt(2, 3)", 12, "sqrt() takes one number, got 2"),
        ("floor(1, 2, 3)", 12, "floor() takes one number, got 3"),
        ("sqrt(0 - 4)", 12, "sqrt() takes a number of zero or more"),
        ("log2(0)", 12, "log2() takes a number of more than zero"),
        ("3 / (2 - 2)", 17, "division by zero"),
        ("flor(3)", 12, "unknown function 'flor', did you mean 'floor'?"),
        ("max(seam)", 16, "expected a number, got link seam"),
        ("max(yes)", 16, "unknown name 'yes'"),
        ("1e200 * 1e200", 20, "the number is too large"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_where_it_stands(
    expression: str, column: int, message: str, small: str, refused: Refused
):
    line = f"constraint {expression} >= 0\n"
    assert refused(small + line) == f"spec.wsc:13:{column}: error: {message}"


def test_the_root_of_a_length_fits_no_field(small: str, refused: Refused):
    text = small.replace("200 um x", "sqrt(40 um) x")
    assert refused(text) == (
        "spec.wsc:5:42: error: core pe: size: expected metres, as in '228 um', got metre0.5"
    )


# Tables.


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "macros.csv").write_text(TABLE)
    return tmp_path / "macros.csv"


USE = 'use "macros.csv" as macros'


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("macros.area_um2(32, 2)", 7000),
        ("macros.area_um2(64) * 1 um2", 9000e-12),
        ("macros.delay(32, 1, 5000)", 0.3),
        ("macros.area_um2(0.1 * 320 / 1, 1 + 1)", 7000),
        ("macros.ports(64)", 1),
    ],
)
def test_a_table_gives_the_figure_of_the_row_with_these_keys(
    expression: str, expected: float, table: Path, worth: Callable[..., float]
):
    if "(64)" in expression:
        table.write_text(TABLE.replace("32,2,7000,0.4\n", "").replace("32,1", "16,1"))
    assert worth(expression, USE) == pytest.approx(expected)


def test_a_key_that_was_computed_finds_its_row(table: Path, worth: Callable[..., float]):
    table.write_text("x,y\n0.1,1\n0.3,2\n0.30000001,3\n")
    assert 0.1 * 3 != 0.3
    assert worth("macros.y(0.1 * 3)", USE) == 2
    assert worth("macros.y(0.30000001)", USE) == 3


def test_a_table_is_asked_for_many_points_at_once(table: Path, small: str, space_of: SpaceOf):
    text = f"{small}{USE}\nparam a = 32 in {{16, 32, 64}}\nparam b = 1 in {{1, 2}}\n"
    text += "let area = macros.area_um2(a, b)\nconstraint area <= 7000\n"
    points = {"a": np.array([16, 32, 32, 64, 64.0]), "b": np.array([1, 1, 2, 1, 2.0])}
    verdicts = space_of(text).judge(points)
    assert verdicts.valid.tolist() == [False, True, True, True, False]
    assert verdicts.feasible.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("expression", "column", "message"),
    [
        ("macros.area_um2(48, 1)", 12, "table macros.csv has no row capacity = 48, ports = 1"),
        ("macros.area_um2(32)", 12, "table macros.csv: several rows have the same capacity"),
        ("macros.aera_um2(32, 1)", 12, "table macros.csv has no column 'aera_um2', did you mean 'area_um2'?"),
        ("macros.area_um2(32 KiB, 1)", 28, "a key of a table is a plain number, got bytes"),
        ("macros.area_um2(1, 2, 3, 4, 5)", 12, "table macros.csv has 4 columns, got 5 keys"),
        ("macos.area_um2(32, 1)", 12, "unknown table 'macos', did you mean 'macros'?"),
        ("macros.area_um2(32, seam)", 32, "expected a number, got link seam"),
        ("macros.area_um2", 12, "a figure of table macros needs its keys, as in 'macros.delay(..)'"),
    ],
)  # fmt: skip
def test_a_lookup_that_finds_no_single_figure_is_refused(
    expression: str, column: int, message: str, table: Path, small: str, refused: Refused
):
    line = f"{USE}\nconstraint {expression} >= 0\n"
    assert refused(small + line) == f"spec.wsc:14:{column}: error: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a table: a line of names, then lines of numbers"),
        ("a,b\n", "the table has no rows"),
        ("a,b\n1\n", "expected 2 numbers in the row '1'"),
        ("a,b\n1,x\n", "expected 2 numbers in the row '1,x'"),
        ("a,b\n1,inf\n", "expected 2 numbers in the row '1,inf'"),
        ("a,a\n1,2\n", "'a' cannot name a column, or is repeated"),
        ("a,b c\n1,2\n", "'b c' cannot name a column, or is repeated"),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    content: str, message: str, table: Path, small: str, refused: Refused
):
    table.write_text(content)
    error = refused(f"{small}{USE}\n")
    assert error.startswith("macros.csv:")
    assert error.endswith(f"error: {message}")


def test_a_large_table_is_among_the_files_of_a_spec(tmp_path: Path, table: Path, small: str):
    table.write_text("a,b\n" + "".join(f"{n},{n}\n" for n in range(40_000)))
    (tmp_path / "spec.wsc").write_text(f"{small}{USE}\n")
    assert table in source_files(tmp_path / "spec.wsc")
