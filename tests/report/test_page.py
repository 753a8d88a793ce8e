"""The page of a result: it says what the console says, asks nobody for anything, and draws."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wscc
from wscc.backend.evaluate import Evaluation
from wscc.backend.wafer_map import wafer_map
from wscc.ir.result import Infeasibility, Result, TriedFigures
from wscc.ir.roofline import Roofline, RooflinePoint
from wscc.ir.trace import Sample, Slice, Trace
from wscc.ir.wafer_map import Border, Passage, Region, Unit, WaferMap
from wscc.report.console import print_report
from wscc.report.html.page import page
from wscc.report.json_report import Timings, to_json
from wscc.report.lines import headline, rows, shortage
from wscc.report.quantities import percent, si, size, three_digits

TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "dtype": "float16",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TRACE = Trace(
    slices=(
        Slice("stage 0: layer0", "micro-batches", "forward 0", 0.0, 1e-3, {"way": "forward"}),
        Slice("stage 1: layer0", "micro-batches", "forward 0", 1e-3, 1e-3, {"way": "forward"}),
    ),
    samples=(
        Sample("stage 0: layer0", "memory of the fullest core, bytes", 0.0, {"weights": 30000.0}),
    ),
    notes=("the last 7 tasks are not drawn",),
)


def region(stage: int, **changes: int) -> Region:
    made = Region(
        stage=stage,
        replica=0,
        island=0,
        row=0,
        column=10 * stage,
        rows=8,
        columns=10,
        runs="4 x layer0",
        load=0.5,
        links=0.1,
        memory=0.7,
        memory_bytes=30000,
        power_w=12.0,
    )
    return replace(made, **changes)


MAP = WaferMap(
    islands=1,
    rows=16,
    columns=24,
    core_height=1.2,
    kind="wafer",
    dies=tuple(Unit("die", 8 * (at // 2), 12 * (at % 2), 8, 12, at == 3) for at in range(4)),
    edges=(Unit("west: 2 ports", 0, -3, 16, 1),),
    dead_cores=((3, 4), (9, 9)),
    regions=(region(0), region(1)),
    passages=(Passage(0, 1, 0, "forward", 1e-6, 4096, 0.02),),
    borders=(Border(0, 0, 12, 8, True, 8, 0.1, 0.02, "die 0, 0 and 0, 1"),),
)
ROOFS = Roofline(
    peaks={"matrix unit, float16": 8e9, "vector unit, float16": 4e9},
    bandwidths={"SRAM": 24e9},
    points=(RooflinePoint("model.layers.*.mlp", "matmul", "SRAM", 100.0, 300.0, 1e-7, 5e-8),),
)


def test_the_page_says_what_the_console_says(pages: Any, sample_result: Result) -> None:
    short = Infeasibility("SRAM", "stage 0", 2048, 1024, 1024, "bytes", ("--region 9x9",))
    result = replace(sample_result, feasible=False, infeasible=(short,))
    shown = pages.text(page(result, MAP, TRACE))
    for text in (headline(result), shortage(short), "would fit: --region 9x9"):
        assert " ".join(text.split()) in shown
    for label, text in rows(result):
        assert f"{label} {' '.join(text.split())}" in shown
    for note in (*result.limits, *TRACE.notes):
        assert note in shown


def test_names_of_a_user_are_no_markup(sample_result: Result) -> None:
    model = replace(sample_result.model, name="<script>alert(1)</script>")
    html = page(replace(sample_result, model=model), MAP, TRACE)
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_every_strategy_is_a_row_that_sorts_by_its_figures(sample_result: Result) -> None:
    tried = tuple(
        TriedFigures(1, stages, (4, 5), "matvec", 1, 1, 1e-3 / stages, 1000, "evaluated")
        for stages in (1, 2, 3)
    )
    html = page(replace(sample_result, tried=tried), MAP, TRACE)
    keys = re.findall(r'<td data-key="([^"]*)">[\d.]+ [mu]?s</td>', html)
    assert [float(key) for key in keys] == pytest.approx([1e-3, 1e-3 / 2, 1e-3 / 3])


def test_the_page_asks_nobody_for_anything(pages: Any, sample_result: Result) -> None:
    html = page(sample_result, MAP, TRACE)
    assert pages.requests(html) == []
    assert len(html) < 5e6


def test_the_page_of_many_stages_stays_small(pages: Any, sample_result: Result) -> None:
    regions = tuple(
        region(at, island=at // 50, column=at % 50, columns=1, rows=1) for at in range(4000)
    )
    big = replace(MAP, islands=80, rows=994, columns=750, regions=regions)
    html = page(sample_result, big, TRACE)
    assert len(html) < 5e6
    assert "of 80 wafers the first 64 are drawn" in pages.text(html)


def test_a_browser_draws_everything_and_has_nothing_to_say(
    pages: Any, sample_result: Result, tmp_path: Path
) -> None:
    dom, said = pages.opened(page(sample_result, MAP, TRACE), tmp_path)
    assert said == []
    assert dom.count("bk-Figure") >= 5


def test_the_switch_changes_what_colours_mean(
    pages: Any, sample_result: Result, tmp_path: Path
) -> None:
    """What a reader does with the switch, done by a script behind the page's own."""
    press = """models.find(model => model.type == "Select").value = "power";
      setTimeout(() => {
        document.title = models.find(model => model.type == "ColorBar").title;
      }, 500);"""
    dom, said = pages.pressed(page(sample_result, MAP, TRACE), press, tmp_path)
    assert said == []
    assert "<title>watts of a core, on average over the step</title>" in dom


def test_links_are_lines_in_the_colours_of_their_use(
    pages: Any, sample_result: Result, tmp_path: Path
) -> None:
    """The scale then ends at the busiest: the border of two dies, in all 12% of the step."""
    press = """models.find(model => model.type == "Select").value = "links";
      setTimeout(() => {
        const lines = models.filter(model => model.type == "GlyphRenderer"
          && model.data_source.data.between);
        const top = models.find(model => model.type == "ColorBar").color_mapper.high;
        const all = lines.every(line => line.visible);
        document.title = [lines.length, all, top.toFixed(2)].join(" ");
      }, 500);"""
    dom, said = pages.pressed(page(sample_result, MAP, TRACE), press, tmp_path)
    assert said == []
    assert "<title>2 true 0.12</title>" in dom


def test_operators_stand_below_their_roof(pages: Any, sample_result: Result) -> None:
    html = page(sample_result, MAP, TRACE, roofline=ROOFS)
    assert "Operators against the roofline" in pages.text(html)
    # 100 FLOPs in 0.1 us, where 24 GB/s and a third of a FLOP a byte allow 8 GFLOP/s.
    for text in ("1.00 GFLOP/s", "12%", "0.333"):
        assert f'"{text}"' in html


def test_what_all_strategies_have_in_common_is_said_once(pages: Any, sample_result: Result) -> None:
    tried = tuple(
        TriedFigures(1, 2, (4, columns), "matvec", 1, 1, 1e-3, 1000, "evaluated")
        for columns in (5, 6)
    )
    shown = pages.text(page(replace(sample_result, tried=tried), MAP, TRACE))
    assert "All of these have replicas 1, stages 2, experts over 1, layout matvec" in shown
    assert "region outcome 4 x 5 evaluated 4 x 6 evaluated" in shown


def test_figures_of_the_page_are_those_of_the_json(pages: Any, sample_result: Result) -> None:
    report = to_json(sample_result, Timings(), "1")
    shown = pages.text(page(sample_result, MAP, TRACE))
    console = io.StringIO()
    print_report(sample_result, console)
    printed = " ".join(console.getvalue().split())
    for text in (
        si(report["latency_s"], "s"),
        f"{three_digits(report['tokens_per_s'])} tokens/s",
        si(report["power_w"], "W"),
        si(report["power_nameplate_w"], "W"),
        si(report["energy_j"], "J"),
        size(report["memory"]["peak_core_bytes"]),
        percent(report["mfu"]),
        report["bottleneck"]["where"],
    ):
        assert text in shown
        assert text in printed


def test_a_run_is_drawn_from_its_program(pages: Any, tmp_path: Path) -> None:
    wse2 = wscc.load_hardware("wse2").bind()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    model = wscc.load_model(path, phase="decode", context=64)
    program = wscc.compile(model, wse2, "pp=2", region="8x8")
    result = wscc.evaluate(program)
    wscc.save(result, tmp_path / "out", program)
    html = (tmp_path / "out" / "report.html").read_text()
    for label, text in rows(result):
        assert f"{label} {' '.join(text.split())}" in pages.text(html)
    trace = json.loads((tmp_path / "out" / "trace.json").read_text())
    assert trace["otherData"]["run"] == headline(result)
    drawn = wafer_map(Evaluation(program, "fluid"))
    assert [(r.stage, r.rows, r.columns) for r in drawn.regions] == [(0, 8, 8), (1, 8, 8)]
    assert len(drawn.dies) == wse2.wafer.rows * wse2.wafer.columns
    assert sum(die.rows * die.columns for die in drawn.dies) >= wse2.wafer.cores_in_use
