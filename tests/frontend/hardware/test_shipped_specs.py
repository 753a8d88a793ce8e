"""The shipped specs agree with what is published of the chips."""

import subprocess
import sys
from pathlib import Path

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.frontend.hardware.files import SHIPPED
from wscc.ir.hardware import Core, Hardware
from wscc.ir.tree import parse_tree, print_tree


@pytest.fixture(scope="module")
def wse2() -> Hardware:
    return load_hardware("wse2").bind()


@pytest.fixture(scope="module")
def wse3() -> Hardware:
    return load_hardware("wse3").bind()


def published_load_w(core: Core) -> float:
    """The load at which powers are published, as the comment in wse2.wsc adds it up."""
    technology, pitch_m = core.technology, core.area_m2**0.5
    per_cycle_j = (
        core.matrix_flops_per_cycle["float16"] / 2 * technology.multiply_add_energy_j["float16"]
        + core.sram.read_bytes_per_cycle * technology.sram_read_energy_j_per_byte
        + core.sram.write_bytes_per_cycle * technology.sram_write_energy_j_per_byte
        + core.router.width_bytes * technology.router_energy_j_per_byte
        + core.router.width_bytes * technology.wire_energy_j_per_byte_m * pitch_m
        + core.control_energy_j_per_cycle
    )
    return per_cycle_j * core.clock_hz + technology.leakage_w_per_m2 * core.area_m2


def test_wse2_has_the_published_figures(wse2: Hardware):
    assert (wse2.dies, wse2.cores) == (84, 850_000)
    assert wse2.wafer.core_rows * wse2.wafer.core_columns == 853_776
    assert (wse2.wafer.usable_rows, wse2.wafer.usable_columns) == (750, 994)
    assert wse2.peak_flops("float16") == pytest.approx(7.5e15, rel=0.01)
    assert wse2.sram_bytes == pytest.approx(41.8e9, rel=0.01)
    assert wse2.wafer.area_m2 == pytest.approx(46_225e-6)
    sram_bytes_per_s = wse2.cores * wse2.core.sram.read_bytes_per_cycle * wse2.core.clock_hz
    assert sram_bytes_per_s == pytest.approx(20e15, rel=0.3)
    assert sum(io.ports * io.bandwidth_bytes_per_s for io in wse2.wafer.io) == 150e9


def test_wse3_has_the_published_figures(wse3: Hardware):
    assert (wse3.dies, wse3.cores) == (84, 900_000)
    assert wse3.wafer.core_rows * wse3.wafer.core_columns == pytest.approx(970_000, rel=1e-3)
    assert wse3.peak_flops("float16") == pytest.approx(15.8e15, rel=0.01)
    assert wse3.sram_bytes == pytest.approx(44e9, rel=0.01)
    assert wse3.core.area_m2 == pytest.approx(0.05e-6, rel=0.15)


def test_a_wse2_core_at_full_load_takes_the_published_30_mw(wse2: Hardware):
    assert published_load_w(wse2.core) == pytest.approx(30e-3, rel=0.005)


def test_wse2_at_full_load_takes_the_published_23_kw_within_15_percent(wse2: Hardware):
    assert wse2.cores * published_load_w(wse2.core) == pytest.approx(23e3, rel=0.15)


def test_wse3_at_full_load_takes_the_published_15_to_23_kw(wse3: Hardware):
    assert 15e3 <= wse3.cores * published_load_w(wse3.core) <= 23e3 * 1.15


@pytest.mark.parametrize("name", ["wse2", "wse3"])
def test_a_shipped_design_has_no_open_parameter_and_holds_its_constraints(name: str):
    space = load_hardware(name)
    assert space.parameters == {}
    assert all(constraint.holds for constraint in space.bind().constraints)


@pytest.mark.parametrize("name", ["wse2", "wse3"])
def test_a_shipped_design_is_read_back_from_its_text(name: str):
    hardware = load_hardware(name).bind()
    assert parse_tree(Hardware, print_tree(hardware)) == hardware


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.wsc")), ids=lambda path: path.stem)
def test_every_figure_of_a_shipped_spec_has_a_source(path: Path):
    structure = ("technology =", "software ", "kind     = external", "via ")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.strip()
        if code.startswith(("#", "use", "system")) or " = " not in code:
            continue
        if not code.startswith(structure):
            assert ' from "' in code, f"{path.name}:{number}: {code}"


def test_parsing_and_binding_wse2_takes_about_half_a_second():
    """Imports of lark and pint included; processor time, as other processes run beside."""
    code = (
        "import time; from wscc.frontend.hardware import load_hardware as load; "
        "load('wse2').bind(); print(time.process_time())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 2 * 0.5, "twice: processors differ"
