"""A spec may be short: what it leaves out has a documented default, which is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from wscc.frontend.hardware import load_hardware, summary
from wscc.ir.hardware import Hardware
from wscc.ir.physics import NoPhysics
from wscc.ir.tree import parse_tree, print_tree

SHORT = """\
wsc 1
use "n7.wsc" as process
param bytes = 32 KiB in {32, 64} KiB
param width = 8 in pow2(2, 32)
param across = 20 in 10..20 step 5
param seam = sewn in {sewn, bridged}
param tower = no in {no, yes}
param speed = 1 TB/s in 1..3 TB/s step 1 TB/s when tower == yes
link sewn { share = 1.0; latency = 2 cycle; energy = 0.2 pJ/bit }
link bridged { share = 0.25; latency = 50 ns; energy = 1 pJ/bit; gap = 0.5 mm }
core unit {
  technology = process
  clock = 1 GHz
  matrix { fp16 = width * 2 flop/cycle }
  sram { capacity = bytes; read = 32 B/cycle; write = 16 B/cycle }
  router { kind = circuit; width = 4 B/cycle; hop = 1 cycle; ramp = 1 cycle; multicast = no }
}
die chip {
  cores = 40 x across of unit
  spares = 1 column
  memory pile when tower == yes { kind = stacked; capacity = 8 GiB; bandwidth = speed }
}
wafer plate {
  size = 100 mm x 120 mm
  dies = 5 x 4 of chip joined seam
  io east { ports = 2; bandwidth = 10 GB/s }
  memory outside { kind = external; via = east; capacity = 1 TB }
  defects { dead die 4, 3; dead core 39, 8 of die 0, 0 }
}
wafer hot = plate with { chip.unit.clock = 1.5 GHz }
system { wafers = 1 of plate }
constraint area(chip) <= 858 mm2
constraint area(unit) * 800 <= area(chip)
constraint power(plate) / area(plate) <= 0.5 W/mm2
constraint process.defect_density <= 0.1 defect/cm2
"""


Bind = Callable[..., Hardware]
Refused = Callable[..., str]


@pytest.fixture
def physics(physics_of: Callable[..., NoPhysics]) -> NoPhysics:
    return physics_of(lambda _: 36.0)


def assumed(hardware: Hardware) -> list[str]:
    return [fact.text for fact in summary(hardware) if fact.label == "assumed"]


def test_what_a_core_leaves_out_has_its_default(bind: Bind):
    core = bind(SHORT).core
    assert core.matrix_flops_per_cycle == {"float16": 16.0}
    assert core.vector_elements_per_cycle == {"float16": 8.0, "float32": 4.0}
    assert core.function_cycles == 12
    assert (core.software.issue_cycles, core.software.launch_cycles) == (0, 0)
    assert core.control_energy_j_per_cycle == 0
    assert core.sram.reserved_bytes == 0


def test_sizes_that_are_left_out_are_equal_shares(bind: Bind):
    hardware = bind(SHORT)
    die, core = hardware.wafer.die, hardware.core
    assert (die.height_m, die.width_m) == pytest.approx((20e-3, 30e-3))
    assert (core.height_m, core.width_m) == pytest.approx((0.5e-3, 1.5e-3))
    assert die.columns == 19


def test_the_share_of_a_die_is_less_the_gaps_and_follows_the_parameters(bind: Bind):
    hardware = bind(SHORT, seam="bridged", across=10)
    die, core = hardware.wafer.die, hardware.core
    assert (die.height_m, die.width_m) == pytest.approx((19.6e-3, 29.625e-3))
    assert (core.height_m, core.width_m) == pytest.approx((0.49e-3, 2.9625e-3))
    assert hardware.wafer.link.name == "bridged"


def test_a_die_without_a_size_has_what_cores_of_a_size_need(bind: Bind):
    text = SHORT.replace("clock = 1 GHz", "clock = 1 GHz; size = 0.4 mm x 1 mm")
    hardware = bind(text)
    die = hardware.wafer.die
    assert (die.height_m, die.width_m) == pytest.approx((16e-3, 20e-3))
    assert "die chip: 16 mm x 20 mm, what its cores need" in assumed(hardware)


def test_a_core_without_a_size_shares_a_die_of_a_size(bind: Bind):
    hardware = bind(SHORT.replace("  spares", "  size = 10 mm x 10 mm\n  spares"))
    assert (hardware.core.height_m, hardware.core.width_m) == pytest.approx((0.25e-3, 0.5e-3))


def test_all_that_is_assumed_is_said(bind: Bind):
    assert assumed(bind(SHORT)) == [
        "core unit: no overhead of software",
        "core unit: 12 steps a scalar function",
        "core unit: no energy of clock and control",
        "core unit: vector unit as wide as the multiply-add unit",
        "core unit: vector unit at 4 fp32 element/cycle, as many bytes as of fp16",
        "core unit: no SRAM reserved",
        "core unit: 0.5 mm x 1.5 mm, an equal share of its die",
        "die chip: 20 mm x 30 mm, an equal share of its wafer",
    ]


def test_what_is_given_is_not_assumed(bind: Bind):
    given = (
        "clock = 1 GHz; size = 0.5 mm x 1.5 mm; software = none; function = 9 cycle\n"
        "  control = 0 pJ/cycle; vector { fp16 = 2 element/cycle; fp32 = 1 element/cycle }"
    )
    text = SHORT.replace("clock = 1 GHz", given).replace("bytes;", "bytes; reserved = 0 B;")
    text = text.replace("  spares", "  size = 20 mm x 30 mm\n  spares")
    text += "software none { issue = 0 cycle; launch = 0 cycle }\n"
    hardware = bind(text)
    assert assumed(hardware) == []
    assert hardware.core.function_cycles == 9
    assert assumed(load_hardware("wse2").bind()) == []


def test_only_what_the_system_uses_is_said_and_a_copy_by_its_own_name(bind: Bind):
    other = "core idle = unit with { clock = 2 GHz }\ndie spare_part { cores = 2 x 2 of idle }\n"
    assert assumed(bind(SHORT + other)) == assumed(bind(SHORT))
    hot = bind(SHORT.replace("1 of plate", "1 of hot"))
    assert hot.core.clock_hz == 1.5e9
    assert assumed(hot) == assumed(bind(SHORT))


@pytest.mark.parametrize(
    ("matrix", "vector", "expected"),
    [
        ("fp16 = 16", None, {"float16": 8, "float32": 4}),
        ("bf16 = 16", None, {"bfloat16": 8, "float32": 4}),
        ("fp16 = 16; fp32 = 4", None, {"float16": 8, "float32": 2}),
        ("fp16 = 16", "fp16 = 6", {"float16": 6, "float32": 3}),
        ("fp16 = 16; bf16 = 16", "fp16 = 6", {"float16": 6, "bfloat16": 6, "float32": 3}),
        ("fp16 = 16; int8 = 32", "fp32 = 2", {"float32": 2, "float16": 4, "int8": 8}),
    ],
)
def test_every_dtype_of_the_matrix_unit_and_fp32_have_a_vector_rate(
    matrix: str, vector: str | None, expected: dict[str, float], bind: Bind
):
    blocks = f"matrix {{ {matrix.replace(';', ' flop/cycle;')} flop/cycle }}"
    blocks += f"\n  vector {{ {vector} element/cycle }}" if vector else ""
    core = bind(SHORT.replace("matrix { fp16 = width * 2 flop/cycle }", blocks)).core
    assert core.vector_elements_per_cycle == expected
    assert set(core.matrix_flops_per_cycle) <= set(expected)


def test_a_technology_without_fp32_is_refused_with_the_reason(refused: Refused):
    technology = (
        "technology old { multiply_add { fp16 = 1 pJ }; sram { read = 1 pJ/B; write = 1 pJ/B }\n"
        "  router = 0 pJ/bit; wire = 0.1 pJ/bit/mm; leakage = 0.1 W/mm2 }\n"
    )
    text = SHORT.replace("technology = process", "technology = old") + technology
    assert refused(text) == (
        "spec.wsc:11:1: error: core unit: technology old gives no multiply_add energy for fp32, "
        "in which norms and softmax are computed"
    )


def test_constraints_see_the_sizes_that_the_parts_have_in_their_wafer(bind: Bind):
    hardware = bind(SHORT)
    chip, cores, density, defects = hardware.constraints
    assert chip.left == pytest.approx(600e-6)
    assert cores.left == pytest.approx(cores.right)
    assert density.left == pytest.approx(36 / 12e-3)
    assert defects.left == pytest.approx(900)
    small = "wafer small = plate with { size = 50 mm x 60 mm }\n"
    text = SHORT.replace("1 of plate", "1 of small") + small
    assert bind(text).constraints[0].left == pytest.approx(150e-6)


def test_constraints_see_the_sizes_of_parts_of_another_file(bind: Bind, tmp_path: Path):
    bind(SHORT)
    text = (
        'wsc 1\nuse "spec.wsc" as base\nwafer mine = base.plate with { size = 50 mm x 60 mm }\n'
        "system { wafers = 1 of mine }\nconstraint area(base.chip) <= area(base.unit) * 1000\n"
    )
    (tmp_path / "study.wsc").write_text(text)
    constraint = load_hardware(tmp_path / "study.wsc").bind().constraints[0]
    assert constraint.left == pytest.approx(150e-6)
    assert constraint.right == pytest.approx(150e-6 * 1000 / 800)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (
            "loose",
            "field size is missing, its technology gives no densities, and no wafer gives it",
        ),
        ("idle", "field size is missing, and no die gives it"),
    ],
)
def test_a_size_that_nothing_gives_is_missing_only_where_it_is_asked_for(
    part: str, why: str, bind: Bind, refused: Refused
):
    text = SHORT + "core idle = unit with { clock = 2 GHz }\ndie loose { cores = 2 x 2 of idle }\n"
    assert bind(text).wafer == bind(SHORT).wafer
    message = refused(text + f"constraint area({part}) <= 1 mm2\n")
    assert message == f"spec.wsc:11:1: error: core idle: {why} a share"


def test_gaps_that_leave_nothing_for_the_dies_are_refused(refused: Refused):
    text = SHORT.replace("gap = 0.5 mm", "gap = 25 mm")
    assert refused(text, seam="bridged") == (
        "spec.wsc:11:1: error: core unit: the gaps between the dies of its wafer leave nothing for "
        "it"
    )


def test_the_dead_are_left_out_of_a_short_spec_too(bind: Bind):
    hardware = bind(SHORT)
    assert hardware.wafer.dead_dies == ((4, 3),)
    assert hardware.dies == 19
    assert hardware.cores == 19 * 40 * 19 - 1


def test_a_short_design_is_read_back_from_its_text(bind: Bind):
    hardware = bind(SHORT)
    assert parse_tree(Hardware, print_tree(hardware)) == hardware
