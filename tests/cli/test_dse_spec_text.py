from pathlib import Path

import pytest
from wscc import load_hardware
from wscc.cli.dse.spec_text import number_text, units_of, value_text, with_defaults
from wscc.ir.errors import UserError
from wscc.report.study_data import Unit

SPACE = """\
wsc 1
use "wse2.wsc" as base
# What a core holds.
param capacity = 48 KiB in {32, 48, 64} KiB from "a guess"  # kept
param clock    = 2 * 0.5 GHz in 0.5..2 GHz
param joint    = sewn in {sewn, glued}
param gap      = 1 mm in {1, 9} mm when joint == glued
link sewn { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
link glued { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit; gap = gap }
core pe = base.pe with { clock = clock; sram.capacity = capacity }
die tile { cores = 66 x 154 of pe }
wafer w { size = 215 mm x 215 mm; dies = 12 x 7 of tile joined joint }
system { wafers = 1 of w }
"""


def test_a_spec_keeps_all_but_the_defaults_that_are_replaced(tmp_path: Path) -> None:
    text = with_defaults(SPACE, "s.wsc", {"capacity": "64 KiB", "joint": "glued"})
    path = tmp_path / "s.wsc"
    path.write_text(text)
    space = load_hardware(path)
    assert space.parameters["capacity"].default == 64 * 1024
    assert space.parameters["joint"].default == "glued"
    assert space.parameters["clock"].default == 1e9
    assert 'in {32, 48, 64} KiB from "a guess"' in text
    assert "# What a core holds." in text
    assert "# kept" in text
    assert text.count("\n") == SPACE.count("\n")


def test_a_default_that_is_an_expression_is_replaced_whole() -> None:
    text = with_defaults(SPACE, "s.wsc", {"clock": "1.7 GHz"})
    assert "clock    = 1.7 GHz     in 0.5..2 GHz" in text or "= 1.7 GHz in 0.5..2 GHz" in text
    assert "2 * 0.5" not in text


def test_what_is_no_spec_is_refused() -> None:
    with pytest.raises(UserError):
        with_defaults("param x =", "s.wsc", {})


def test_parameters_are_written_in_the_units_of_their_spec(tmp_path: Path) -> None:
    path = tmp_path / "s.wsc"
    path.write_text(SPACE)
    units = units_of(load_hardware(path))
    assert units == {
        "capacity": Unit("KiB", 1024.0),
        "clock": Unit("GHz", 1e9),
        "gap": Unit("mm", 1e-3),
    }
    assert value_text(65536.0, units["capacity"]) == "64 KiB"
    assert value_text("glued", Unit()) == "glued"


@pytest.mark.parametrize("value", [0.1, 1 / 3, 123456789.0, 3e-9, 1.1e9 / 3])
def test_numbers_are_written_with_the_digits_that_bring_them_back(value: float) -> None:
    assert float(number_text(value, Unit())) == value


def test_short_numbers_stay_short() -> None:
    assert number_text(0.3e9, Unit("GHz", 1e9)) == "0.3 GHz"
