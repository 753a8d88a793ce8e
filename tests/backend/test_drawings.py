"""What pictures draw of an evaluation: links between dies, and operators below roofs."""

import json

import pytest
import wscc
from wscc.backend.evaluate import Evaluation
from wscc.backend.network import fabric_of
from wscc.backend.roofline import roofline
from wscc.backend.wafer_map import wafer_map
from wscc.ir.program import Program
from wscc.ir.wafer_map import Border

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
SPEC = """
wsc 1
use "n7.wsc" as n7
core pe {
  technology = n7
  clock = 1 GHz
  matrix { fp16 = 8 flop/cycle }
  vector { fp16 = 4 element/cycle }
  sram { capacity = 256 KiB; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 32 bit/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = yes }
}
die tile { cores = 4 x 4 of pe }
link stitched { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
wafer wse { size = 100 mm x 100 mm; dies = 2 x 4 of tile joined stitched }
system { wafers = 1 of wse }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Two stages of 4 x 8 cores on a wafer of 2 x 4 dies of 4 x 4."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "config.json").write_text(json.dumps(TINY))
    (folder / "space.wsc").write_text(SPEC)
    model = wscc.load_model(folder / "config.json", phase="decode", context=64)
    return wscc.compile(model, wscc.load_hardware(folder / "space.wsc").bind(), "pp=2", "4x8")


def borders(program: Program) -> list[Border]:
    return list(wafer_map(Evaluation(program, "fluid")).borders)


def test_collectives_use_the_borders_within_a_stage_as_its_busiest_link(program: Program) -> None:
    """A stage of 4 x 8 cores spans two dies, and one border, of 4 links, lies within it."""
    evaluation = Evaluation(program, "fluid")
    within = [border for border in borders(program) if border.collectives]
    assert [(b.vertical, b.length, b.links) for b in within] == [(True, 4, 4)] * 2
    assert max(b.collectives for b in within) <= evaluation.noc.max_link_utilization


def test_what_stages_hand_over_is_on_the_links_between_them(program: Program) -> None:
    """Stages side by side pass the hidden state over one border, stages one below the other over
    the borders of their two dies; each link carries one core's block, a row each."""
    evaluation = Evaluation(program, "fluid")
    (transfer,) = program.transfers
    first, second = (stage.places[0] for stage in program.stages)
    crossed = [border for border in borders(program) if border.handovers]
    assert {border.vertical for border in crossed} == {first.row == second.row}
    rate = fabric_of(program.hardware.wafer).crossing_bytes_per_s
    for border in crossed:
        assert border.handovers * evaluation.latency_s * rate <= transfer.bytes
    carried = sum(b.links * b.handovers for b in crossed) * evaluation.latency_s * rate
    assert carried >= transfer.bytes / program.mesh.rows


def test_no_operator_is_above_its_roof(program: Program) -> None:
    found = roofline(Evaluation(program, "fluid"))
    assert found.points
    for point in found.points:
        assert 0 < point.attained <= found.roof(point) * (1 + 1e-9)
        assert point.working_s <= point.seconds * (1 + 1e-9)


def test_roofs_are_those_of_the_spec(program: Program) -> None:
    """8 FLOPs and 4 elements a cycle at 1 GHz; 16 bytes read and 8 written a cycle."""
    found = roofline(Evaluation(program, "fluid"))
    assert dict(found.peaks) == {"matrix unit, float16": 8e9, "vector unit, float16": 4e9}
    assert dict(found.bandwidths) == {"SRAM": 24e9}
