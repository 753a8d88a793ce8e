"""Parameters, their domains, copies, conditions, and the files behind a spec."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from wscc.frontend.hardware import HardwareSpace, load_hardware, source_files, summary
from wscc.frontend.hardware.files import SHIPPED
from wscc.ir.errors import UserError
from wscc.ir.hardware import Core, Die, Hardware, Wafer
from wscc.ir.physics import NoPhysics

SPEC = """\
wsc 1
use "n7.wsc" as n7
param cap    = 48 KiB in {32, 48, 64} KiB  from "a table"
param lanes  = 4 in pow2(4, 64)
param wide   = 20 in 10..20 step 5
param speed  = 1 GHz in 0.5..2 GHz
param share  = 0.5
param joint  = seam in {seam, bridge}
param stack  = off in {off, on}
param height = 2 TB/s in 1..4 TB/s when stack == on
param double = 2 * lanes
link seam { share = 1.0; latency = 2 cycle; energy = 0.2 pJ/bit }
link bridge { share = share; latency = 100 ns; energy = 1 pJ/bit; gap = 0.1 mm }
software csl { issue = 10 cycle; launch = 200 cycle }
core pe {
  technology = n7.n7
  software = csl
  size = 200 um x 100 um
  clock = speed
  matrix { fp16 = lanes * 2 flop/cycle; fp32 = matrix.fp16 / 4 }
  vector { fp16 = double * 1 element/cycle }
  function = 30 cycle
  sram { capacity = cap; reserved = capacity / 24; read = 128 bit/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 4 B/cycle; hop = 1 cycle; ramp = 2 ns; multicast = yes }
  control = 0 pJ/cycle
}
die tile {
  cores = 10 x wide of pe
  spares = 1 column
  memory dram when stack == on { kind = stacked; capacity = 16 GiB; bandwidth = height }
}
wafer wse {
  size = 12 mm x 12 mm
  dies = 4 x 5 of tile joined joint
  io west { ports = 12; bandwidth = 12.5 GB/s }
  memory host { kind = external; via = west; capacity = 1.5 TB }
  defects { dead core 3, 5 of die 0, 2; dead die 3, 4; dead core 0, 0 of die 3, 4 }
}
wafer fast = wse with { tile.pe.clock = speed * 2; tile.pe.sram.read = 32 B/cycle; west.ports = 24 }
wafer faster = fast with { tile.pe.clock = pe.clock * 3; size = 13 mm x 13 mm }
system { wafers = 1 of wse }
constraint area(tile) <= 60 mm2   from "a reticle"
constraint power(faster) / area(wse) > 0.5 W/mm2
"""


SpaceOf = Callable[..., HardwareSpace]
Bind = Callable[..., Hardware]
Refused = Callable[..., str]


@pytest.fixture
def physics(physics_of: Callable[..., NoPhysics]) -> NoPhysics:
    return physics_of(lambda _: 36.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wafer.wsc").write_text(SPEC)
    return tmp_path


def test_a_space_lists_its_parameters_with_defaults_in_si(folder: Path):
    space = load_hardware(str(folder / "wafer.wsc"))
    assert space.name == "wafer"
    assert {name: p.default for name, p in space.parameters.items()} == {
        "cap": 49152.0,
        "lanes": 4.0,
        "wide": 20.0,
        "speed": 1e9,
        "share": 0.5,
        "joint": "seam",
        "stack": "off",
        "height": 2e12,
        "double": 8.0,
    }
    cap, height = space.parameters["cap"], space.parameters["height"]
    assert (cap.dimension, cap.source, cap.when) == ("bytes", "a table", None)
    assert cap.domain is not None
    assert cap.domain.text == "{32, 48, 64} KiB"
    assert cap.domain.holds(65536.0)
    assert not cap.domain.holds(50000.0)
    assert height.when == "stack == on"
    assert space.constraints == ("area(tile) <= 60 mm2", "power(faster) / area(wse) > 0.5 W/mm2")


def test_binding_without_values_takes_the_defaults(bind: Bind):
    hardware = bind(SPEC)
    core = hardware.core
    assert hardware.wafers == 1
    assert (hardware.wafer.die.rows, hardware.wafer.die.columns) == (10, 19)
    assert core.sram.capacity_bytes == 49152
    assert core.sram.reserved_bytes == 2048
    assert core.sram.read_bytes_per_cycle == 16
    assert core.matrix_flops_per_cycle == {"float16": 8.0, "float32": 2.0}
    assert core.router.ramp_cycles == pytest.approx(2.0)
    assert hardware.wafer.link.latency_s == pytest.approx(2e-9)
    assert "height" not in hardware.parameters
    assert hardware.parameters["joint"] == "seam"


@pytest.mark.parametrize("size", ["64 KiB", "64KiB", " 64 KiB ", "65536 B", 65536, 65536.0])
def test_a_value_is_a_text_with_a_unit_or_a_number_in_si(bind: Bind, size: str | float):
    assert bind(SPEC, cap=size).core.sram.capacity_bytes == 65536


def test_a_field_never_means_itself(small: str, bind: Bind):
    text = small.replace("4 x 5 of pe", "cores x columns of pe").replace("of tile", "of place")
    text = text.replace("clock = 1 GHz", "clock = clock * 2").replace("die tile", "die place")
    text = text.replace("size = 1 mm x 1 mm", "size = size x size")
    text += "param cores = 2\nparam columns = 3\nparam clock = 1 GHz\nparam size = 2 mm\n"
    die = bind(text, cores=3, clock=2e9).wafer.die
    assert (die.rows, die.columns, die.height_m, die.core.clock_hz) == (3, 3, 2e-3, 4e9)


def test_other_defaults_follow_a_chosen_value(bind: Bind):
    hardware = bind(SPEC, lanes="16", speed="2 GHz", joint="bridge")
    assert hardware.core.matrix_flops_per_cycle["float16"] == 32
    assert hardware.core.vector_elements_per_cycle == {"float16": 32.0, "float32": 16.0}
    assert hardware.parameters["double"] == 32
    assert hardware.wafer.link.name == "bridge"
    assert hardware.wafer.link.share == 0.5
    assert hardware.wafer.link.latency_s == pytest.approx(100e-9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"cap": "50 KiB"}, "parameter cap: 50 KiB is not in {32, 48, 64} KiB"),
        ({"cap": "48 ns"}, "parameter cap: expected bytes, got seconds"),
        ({"cap": "48"}, "parameter cap: expected bytes, got a plain number"),
        ({"cap": "much"}, "parameter cap: expected bytes, got 'much'"),
        ({"cap": "48 KIB"}, "parameter cap: unknown unit 'KIB', did you mean 'KiB'?"),
        ({"cap": float("nan")}, "parameter cap: expected a finite number, got nan"),
        ({"cap": "1e999 KiB"}, "parameter cap: the number is too large"),
        ({"lanes": 6}, "parameter lanes: 6 is not in pow2(4, 64)"),
        ({"lanes": 128}, "parameter lanes: 128 is not in pow2(4, 64)"),
        ({"wide": 12}, "parameter wide: 12 is not in 10..20 step 5"),
        ({"speed": "3 GHz"}, "parameter speed: 3 GHz is not in 0.5..2 GHz"),
        ({"joint": "sean"}, "parameter joint: sean is not in {seam, bridge}, did you mean 'seam'?"),
        ({"joint": 1}, "parameter joint: expected a word, got 1"),
        ({"height": "1 TB/s"}, "parameter height exists only when stack == on"),
        ({"caps": 1}, "unknown parameter 'caps', did you mean 'cap'?"),
        ({"self": 1}, "unknown parameter 'self'"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_the_domain(
    refused: Refused, values: dict[str, str | float], expected: str
):
    assert refused(SPEC, **values) == f"error: {expected}"


def test_a_block_exists_only_when_its_condition_holds(bind: Bind):
    assert bind(SPEC).wafer.die.memories == ()
    (dram,) = bind(SPEC, stack="on", height="3 TB/s").wafer.die.memories
    assert (dram.capacity_bytes, dram.bandwidth_bytes_per_s) == (16 * 2**30, 3e12)


def test_what_was_bound_before_changes_nothing(space_of: SpaceOf):
    shared = space_of(SPEC)
    points: list[dict[str, str | float]] = [
        {},
        {"stack": "on"},
        {"joint": "bridge", "share": 0.25},
        {"stack": "on", "height": 2e12, "cap": "32 KiB"},
        {"wide": 10, "speed": "2 GHz", "lanes": 64},
    ]
    for point in (*points, *reversed(points)):
        assert shared.bind(point) == space_of(SPEC).bind(point)


def test_a_mistake_in_a_part_that_is_not_used_is_refused_too(refused: Refused):
    unused = SPEC + "die other { cores = 2 x 2 of pe; memory dram { kind = stacked } }\n"
    assert refused(unused).endswith("die other: memory dram: field capacity is missing")


def test_dead_cores_and_dies_are_left_out(bind: Bind):
    hardware = bind(SPEC)
    assert hardware.wafer.dead_dies == ((3, 4),)
    assert [(dead.die, dead.core) for dead in hardware.wafer.dead_cores] == [((0, 2), (3, 5))]
    assert hardware.wafer.cores_in_use == 19 * 10 * 19 - 1
    assert hardware.dies == 19


def test_a_copy_changes_fields_of_its_parts_and_leaves_the_original(bind: Bind):
    original = bind(SPEC).wafer
    fast = bind(SPEC.replace("1 of wse", "1 of fast")).wafer
    assert fast.name == "fast"
    assert fast.die.core.clock_hz == 2 * original.die.core.clock_hz
    assert fast.die.core.sram.read_bytes_per_cycle == 32
    assert fast.io[0].ports == 24
    assert fast.link.latency_s == pytest.approx(original.link.latency_s / 2)
    assert original.die.core.sram.read_bytes_per_cycle == 16


def test_a_copy_of_a_copy_keeps_the_changes_of_both(bind: Bind):
    faster = bind(SPEC.replace("1 of wse", "1 of faster")).wafer
    assert faster.name == "faster"
    assert faster.die.core.clock_hz == pytest.approx(3e9)
    assert faster.io[0].ports == 24
    assert faster.width_m == pytest.approx(13e-3)


def test_a_change_from_outside_wins_over_that_of_an_inner_copy(bind: Bind):
    text = SPEC.replace("10 x wide of pe", "10 x wide of quick").replace("1 of wse", "1 of last")
    text = "".join(line for line in text.splitlines(True) if "fast" not in line)
    text += (
        "core quick = pe with { clock = 2 GHz; function = 7 cycle }\n"
        "wafer last = wse with { tile.quick.clock = 3 GHz }\n"
    )
    core = bind(text).core
    assert (core.name, core.clock_hz, core.function_cycles) == ("quick", 3e9, 7)


def test_a_copy_may_be_of_a_wafer_in_another_file(folder: Path):
    (folder / "study.wsc").write_text(
        'wsc 1\nuse "wafer.wsc" as base\nparam speed = 1.5 GHz\n'
        "wafer mine = base.wse with { tile.pe.clock = speed }\n"
        "system { wafers = 1 of mine }\nconstraint base.pe.clock <= speed\n"
    )
    hardware = load_hardware(folder / "study.wsc").bind(speed="2 GHz")
    assert hardware.core.clock_hz == 2e9
    assert hardware.constraints[0].left == 1e9
    assert hardware.constraints[0].right == 2e9


def test_a_file_with_one_wafer_needs_no_system(bind: Bind):
    text = SPEC.replace("system { wafers = 1 of wse }\n", "")
    text = "".join(line for line in text.splitlines(True) if "fast" not in line)
    assert bind(text).wafers == 1


def test_constraints_are_evaluated_and_not_enforced(bind: Bind):
    tile, power = bind(SPEC).constraints
    assert tile.text == "area(tile) <= 60 mm2"
    assert tile.left == pytest.approx(4e-6)
    assert tile.holds
    assert power.left == pytest.approx(36 / 144e-6)
    assert power.right == pytest.approx(0.5e6)
    assert not power.holds


def test_physics_is_asked_about_the_part_that_is_named(
    folder: Path, physics_of: Callable[..., NoPhysics]
):
    seen: list[object] = []

    def power(part: object) -> float:
        seen.append(part)
        return 1.0

    text = SPEC + "constraint power(pe) + power(tile) >= 0 W\n"
    (folder / "wafer.wsc").write_text(text)
    replace(load_hardware(folder / "wafer.wsc"), physics=physics_of(power)).bind()
    assert [type(part) for part in seen] == [Wafer, Core, Die]


def test_the_summary_gives_figures_in_si_and_in_words(bind: Bind):
    hardware = bind(SPEC)
    facts = {fact.key: fact for fact in summary(hardware)}
    assert facts["cores"].text == "3,609 (10 x 19 of pe a die, 40 x 95 usable)"
    assert facts["peak_flops.float16"].value == hardware.peak_flops("float16")
    assert facts["peak_flops.float16"].text == "28.9 TFLOP/s"
    assert facts["sram_bytes"].text == "177 MB"
    assert facts["area_m2.wafer"].text == "12 mm x 12 mm, 144 mm2"
    broken = "power(faster) / area(wse) > 0.5 W/mm2"
    assert facts[broken].value is False
    assert facts[broken].text == f"{broken}: broken, 250 kW/m2 is 0.5 times 500 kW/m2"


def test_sources_of_figures_are_kept(folder: Path):
    found = [
        (source.part, source.figure, source.source)
        for source in load_hardware(folder / "wafer.wsc").sources()
        if source.file == str(folder / "wafer.wsc")
    ]
    assert found == [
        ("", "param cap", "a table"),
        ("", "constraint area(tile) <= 60 mm2", "a reticle"),
    ]


def test_source_files_follow_use_without_parsing(folder: Path):
    (folder / "mid.wsc").write_text('use "../x/wafer.wsc" as w\nnot a spec (\nuse "no.wsc" as n')
    (folder / "top.wsc").write_text('use "mid.wsc" as mid\n  use "top.wsc" as top\n')
    names = [path.name for path in source_files(folder / "top.wsc")]
    assert names == ["top.wsc", "mid.wsc"]
    (folder / "mid.wsc").write_text(f'use "../{folder.name}/wafer.wsc" as w')
    names = [path.name for path in source_files(folder / "top.wsc")]
    assert names == ["top.wsc", "mid.wsc", "wafer.wsc", "n7.wsc", "n16.wsc"]


def test_files_that_use_each_other_are_refused_with_the_chain(tmp_path: Path):
    (tmp_path / "a.wsc").write_text('wsc 1\nuse "b.wsc" as b\n')
    (tmp_path / "b.wsc").write_text('wsc 1\nuse "a.wsc" as a\n')
    with pytest.raises(UserError) as caught:
        load_hardware(tmp_path / "a.wsc")
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "b.wsc:2:1: error: files use each other in a cycle: a.wsc -> b.wsc -> a.wsc"
    )
    assert [path.name for path in source_files(tmp_path / "a.wsc")] == ["a.wsc", "b.wsc"]


def test_a_path_that_exists_wins_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert load_hardware("wse2").bind().wafer.die.columns == 154
    (tmp_path / "wse2").write_text(SPEC.replace("power(faster)", "area(faster) * 1 W/mm2"))
    assert load_hardware("wse2").bind().wafer.die.columns == 19


NAMES = sorted(path.stem for path in SHIPPED.glob("*.wsc"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "wse4",
            f"no file 'wse4', and no shipped spec of that name ({', '.join(NAMES)}), "
            "did you mean 'wse3'?",
        ),
        (".", "'.' is a folder, expected a .wsc file"),
    ],
)
def test_a_spec_that_is_not_there_is_refused(name: str, expected: str):
    for read in (load_hardware, source_files):
        with pytest.raises(UserError) as caught:
            read(name)
        assert caught.value.message == expected


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "a.wsc").write_bytes(b"wsc 1\n\xff\xfe")
    with pytest.raises(UserError, match=r"a\.wsc:2:1: error: not a text file in UTF-8"):
        load_hardware(tmp_path / "a.wsc")


def test_names_that_no_file_can_have_are_refused():
    for name in ("x" * 5000, "a\0b", ""):
        with pytest.raises(UserError):
            load_hardware(name)


def test_windows_line_ends_and_a_byte_order_mark_are_read(folder: Path):
    text = SPEC.replace("power(faster)", "area(faster) * 1 W/mm2")
    (folder / "wafer.wsc").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    hardware = load_hardware(folder / "wafer.wsc").bind()
    (folder / "wafer.wsc").write_text(text)
    assert hardware == load_hardware(folder / "wafer.wsc").bind()


def test_neither_lark_nor_pint_is_imported_before_a_spec_is_parsed():
    code = (
        "import sys; from wscc.frontend import hardware; hardware.source_files('wse2'); "
        "print([m for m in ('lark', 'pint') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
