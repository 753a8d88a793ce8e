"""The shipped specs: each is a citation list, holds its constraints, and agrees with what is
published of its chip."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from wscc.backend.physics import PHYSICS
from wscc.backend.physics.headline import headlines
from wscc.cli.main import main
from wscc.frontend.hardware import HardwareSpace, load_hardware
from wscc.frontend.hardware.files import SHIPPED
from wscc.frontend.hardware.published import (
    Compared,
    Published,
    compare,
    published_figures,
    spelt,
)
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware
from wscc.ir.tree import parse_tree, print_tree

PAGE = Path(__file__).parents[3] / "docs" / "specs.md"
PROCESSES = ("n16", "n7", "n5", "n3")
SPECS = tuple(p.stem for p in sorted(SHIPPED.glob("*.wsc")) if p.stem not in PROCESSES)
OPEN = ("a100", "h100", "theseus")
"""With parameters: the number of nodes, and a design space."""
CHIPS = ("wse1", "wse2", "wse3", "dojo", "fred", "a100", "h100")
"""Of which something is published."""


@pytest.fixture(scope="module")
def space() -> Callable[[str], HardwareSpace]:
    """A shipped spec by name, read once, judged by the physics."""
    read: dict[str, HardwareSpace] = {}

    def of(name: str) -> HardwareSpace:
        if name not in read:
            read[name] = replace(load_hardware(name), physics=PHYSICS)
        return read[name]

    return of


@pytest.fixture(scope="module")
def compared(space: Callable[[str], HardwareSpace]) -> Callable[[str], Mapping[str, Compared]]:
    """Published figures beside computed ones, by key."""

    def of(name: str) -> Mapping[str, Compared]:
        computed = headlines(space(name).bind())
        figures = {key: (line.value, line.stated) for key, line in computed.items()}
        lines = compare(published_figures(SHIPPED / f"{name}.wsc"), figures)
        return {line.published.figure: line for line in lines}

    return of


@pytest.mark.parametrize("name", SPECS)
def test_a_shipped_spec_holds_its_constraints_and_all_limits_of_geometry(
    name: str, space: Callable[[str], HardwareSpace]
) -> None:
    broken = [line.text for line in space(name).bind().constraints if not line.holds]
    assert broken == []


@pytest.mark.parametrize("name", SPECS)
def test_only_clusters_and_the_space_of_theseus_have_open_parameters(
    name: str, space: Callable[[str], HardwareSpace]
) -> None:
    assert bool(space(name).parameters) == (name in OPEN)


@pytest.mark.parametrize("name", SPECS)
def test_a_shipped_design_is_read_back_from_its_text(
    name: str, space: Callable[[str], HardwareSpace]
) -> None:
    hardware = space(name).bind()
    assert parse_tree(Hardware, print_tree(hardware)) == hardware


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.wsc")), ids=lambda path: path.stem)
def test_every_figure_of_a_shipped_spec_has_a_source(path: Path) -> None:
    structure = ("technology ", "software ", "via ", "wafers ", "nodes ", "switch ")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.strip()
        if code.startswith(("#", "use", "system", *structure)) or " = " not in code:
            continue
        if " with {" in code or code.replace(" ", "") == "kind=external":
            continue
        if code.replace(" ", "") in ("kind=beside", "kind=stacked"):
            continue
        source = code.partition(' from "')[2]
        assert len(source.rstrip('"')) > 3, f"{path.name}:{number}: {code}"


@pytest.mark.parametrize("name", ["wse2", "wse3", "dojo"])
def test_cores_and_peak_are_those_published_to_the_digit(
    name: str, compared: Callable[[str], Mapping[str, Compared]]
) -> None:
    lines = compared(name)
    peak = "peak.bfloat16" if name == "dojo" else "peak.float16"
    assert lines["cores"].computed == lines["cores"].published.value
    assert lines["cores"].agrees
    assert lines[peak].agrees
    if name == "dojo":
        assert lines["die_peak.bfloat16"].agrees
        assert lines["die_cores"].agrees


@pytest.mark.parametrize("name", ["wse2", "wse3", "dojo"])
def test_sram_is_within_5_percent_of_the_published(
    name: str, compared: Callable[[str], Mapping[str, Compared]]
) -> None:
    assert abs(compared(name)["sram"].difference) < 0.05


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("wse1", "wafer_area"),
        ("wse2", "core_area"),
        ("wse2", "die_area"),
        ("wse2", "wafer_area"),
        ("wse3", "wafer_area"),
        ("dojo", "die_area"),
        ("a100", "die_area"),
        ("h100", "die_area"),
    ],
)
def test_areas_add_up_to_within_10_percent_of_the_published(
    name: str, figure: str, compared: Callable[[str], Mapping[str, Compared]]
) -> None:
    assert abs(compared(name)[figure].difference) < 0.1


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("wse1", "wafer_power"),
        ("wse2", "wafer_power"),
        ("wse3", "wafer_power"),
        ("dojo", "die_power"),
        ("dojo", "wafer_power"),
        ("a100", "wafer_power"),
        ("h100", "wafer_power"),
    ],
)
def test_nameplate_power_is_within_20_percent_of_the_published(
    name: str, figure: str, compared: Callable[[str], Mapping[str, Compared]]
) -> None:
    assert abs(compared(name)[figure].difference) < 0.2


def test_a_wse2_core_at_full_load_takes_the_published_30_mw(
    compared: Callable[[str], Mapping[str, Compared]],
) -> None:
    assert compared("wse2")["core_power"].computed == pytest.approx(30, rel=0.005)


@pytest.mark.parametrize("name", CHIPS)
def test_every_published_figure_is_computed_and_has_a_unit_and_a_source(
    name: str, compared: Callable[[str], Mapping[str, Compared]]
) -> None:
    published = published_figures(SHIPPED / f"{name}.wsc")
    assert [line.figure for line in published] == list(compared(name))
    for line in published:
        assert line.source
        assert min(line.value, line.scale) > 0


def test_published_figures_are_of_shipped_specs_only(tmp_path: Path) -> None:
    lines = (SHIPPED / "published.jsonl").read_text().splitlines()
    assert {json.loads(line)["spec"] for line in lines} == set(CHIPS)
    assert published_figures(tmp_path / "wse2.wsc") == ()
    assert published_figures(SHIPPED / "theseus.wsc") == ()


def test_a_figure_agrees_where_it_rounds_to_the_published_digits() -> None:
    petaflops = Published("x", "peak", 7.5, "PFLOP/s", "a talk")
    assert petaflops.scale == 1e15
    assert Compared(petaflops, 7.48).agrees
    assert not Compared(petaflops, 7.56).agrees
    assert Compared(Published("x", "cores", 850000, "", "a talk"), 850_000.4).agrees
    assert not Compared(Published("x", "sram", 40, "GB", "a talk"), 41.8).agrees
    text = Compared(Published("x", "sram", 40, "GB", "a talk", "why"), 41.8, 0.5).text
    assert text == "41.8 GB, published 40 GB: +4.5% (50% of it stated; a talk; why)"


def test_wse2_works_with_850_000_good_cores_and_hardly_ever_with_all(
    space: Callable[[str], HardwareSpace],
) -> None:
    yields, wafer = PHYSICS.functions["yield"].compute, space("wse2").bind().wafer
    assert yields(wafer) > 0.999
    assert yields(replace(wafer, cores_needed=853_776)) < 1e-6


def test_edges_and_grids_of_wse2_are_the_published(space: Callable[[str], HardwareSpace]) -> None:
    wafer = space("wse2").bind().wafer
    assert (wafer.core_rows, wafer.core_columns) == (12 * 66, 7 * 154)
    assert (wafer.usable_rows, wafer.usable_columns) == (750, 994)
    assert sum(io.ports * io.bandwidth_bytes_per_s for io in wafer.io) == 150e9


def test_the_design_of_theseus_is_the_default_of_its_space(
    space: Callable[[str], HardwareSpace],
) -> None:
    design, default = (space(name).bind() for name in ("theseus_design", "theseus"))
    assert default.wafers == design.wafers == 1
    for name in ("area", "power", "yield", "cost", "peak", "sram", "dram", "bisection"):
        figure = PHYSICS.functions[name].compute
        assert figure(default.wafer) == pytest.approx(figure(design.wafer), rel=1e-9), name


@pytest.mark.parametrize(
    "chosen",
    [
        {"joint": "stitched"},
        {"memory_at": "stack", "stack_bandwidth": "2 TB/s"},
        {"capacity": "48 KiB", "macs": 16, "link_width": "64 bit/cycle", "rows": 64, "columns": 64},
    ],
    ids=["stitched", "stacked", "fine"],
)
def test_the_space_of_theseus_has_designs_of_other_kinds(
    chosen: dict[str, str | float], space: Callable[[str], HardwareSpace]
) -> None:
    design = space("theseus").bind(chosen)
    kinds = [memory.kind for memory in design.wafer.die.memories]
    assert kinds == (["stacked"] if "memory_at" in chosen else [])
    assert len(design.wafer.io) == (0 if kinds else 4)
    assert design.wafer.link.name == chosen.get("joint", "info_sow")


def test_reticles_of_theseus_are_half_of_what_fits_a_side_to_all_of_it(
    space: Callable[[str], HardwareSpace],
) -> None:
    """What fits is reckoned in the spec's own lines, and in the physics: they agree."""
    theseus = space("theseus")
    side = theseus.bind(joint="stitched").wafer.die.height_m
    fits = int(0.215 // (side + 0.8e-3))
    for rows in (fits // 2, fits):
        design = theseus.bind(joint="stitched", die_rows=rows)
        assert design.wafer.rows == rows
        assert [line.text for line in design.constraints if line.implied and not line.holds] == []
    for rows in (fits // 2 - 1, fits + 1):
        with pytest.raises(UserError, match="die_rows"):
            theseus.bind(joint="stitched", die_rows=rows)


def test_a_cluster_has_as_many_nodes_as_it_is_told(space: Callable[[str], HardwareSpace]) -> None:
    cluster = space("a100").bind(cluster=4)
    assert (cluster.dies, cluster.wafer.board) == (32, True)
    assert cluster.peak_flops("bfloat16") == pytest.approx(32 * 312e12, rel=1e-3)


def test_check_prints_computed_figures_beside_the_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "dojo"]) == 0
    text = capsys.readouterr().out
    assert "362.5 TFLOP/s, published 362 TFLOP/s: as published (Tesla AI Day 2021)" in text
    assert main(["check", "dojo", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["published"]
    power = next(line for line in lines if line["figure"] == "wafer_power")
    assert (power["value"], power["unit"]) == (15, "kW")
    assert power["difference"] == pytest.approx(power["computed"] / 15 - 1)


def table(name: str, lines: Mapping[str, Compared]) -> str:
    """The table of one spec on the page of the docs."""

    def row(line: Compared) -> str:
        of, unit = line.published, f" {line.published.unit}".rstrip()
        stated = f"{100 * line.stated:.0f}%" if line.stated else ""
        note = f"; {of.note}" if of.note else ""
        cells = (of.figure, f"{spelt(of.value)}{unit}", f"{spelt(line.computed)}{unit}")
        return f"| {' | '.join((*cells, line.verdict, stated, of.source + note))} |"

    head = "| figure | published | computed | difference | stated | source and remark |"
    rows = "\n".join(row(line) for line in lines.values())
    return f"\n## {name}\n\n{head}\n|---|---|---|---|---|---|\n{rows}\n"


def test_the_page_of_the_docs_has_today_s_figures(
    compared: Callable[[str], Mapping[str, Compared]], request: pytest.FixtureRequest
) -> None:
    page, marker, _ = PAGE.read_text(encoding="utf-8").partition("<!-- figures -->\n")
    page += marker + "".join(table(name, compared(name)) for name in CHIPS)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "rewrite it with: pytest --update-golden"
    for name in SPECS:
        assert f"`{name}`" in page


def test_parsing_and_binding_wse2_takes_about_half_a_second() -> None:
    """Imports of lark and pint included; processor time, as other processes run beside."""
    code = (
        "import time; from wscc.frontend.hardware import load_hardware as load; "
        "load('wse2').bind(); print(time.process_time())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 2 * 0.5, "twice: processors differ"
