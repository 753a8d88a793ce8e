"""Energy and power against counts by hand and the published figures of the WSE-2."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from wscc.backend.cost import Costing, OpCost
from wscc.backend.energy import (
    COMPONENTS,
    hop_energy_j_per_word,
    leakage_w,
    nameplate_w,
    op_energy_j,
    power_w,
)
from wscc.ir.hardware import Hardware
from wscc.ir.program import MappedGraph, Sharding

SIZES = {"yh": 1, "yd": 2, "xh": 1, "xd": 3}
MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]

STEP = """
  input %x: float16[4, 12] = carried x
  input %w: float16[12, 8] = weight w
  %p: float16[4, 8] = matmul(%x, %w) {indices = "ab,bc->ac"}
  %m: float16[4, 8] = elementwise(%p) {indices = "ab->ab", expr = "a * 2.0"}
  %r: float16[4, 8] = all_reduce(%m) {axes = ["xh", "xd"], function = "sum"}
  output %r = carried x
"""


def costs_of(make_graph: MakeGraph, hardware: Hardware) -> list[OpCost]:
    return Costing(hardware, make_graph(STEP, {}), SIZES).costs()


def test_the_nameplate_of_the_wse2_is_what_is_published(wse2: Hardware) -> None:
    """23 kW peak, and 30 mW a core at 1.1 GHz."""
    assert power_w(wse2) == pytest.approx(23e3, rel=0.15)
    assert nameplate_w(wse2.core) == pytest.approx(30e-3, rel=0.01)


def test_power_of_a_part_is_that_of_its_cores(wse2: Hardware) -> None:
    core, die = wse2.core, wse2.wafer.die
    assert power_w(core) == nameplate_w(core)
    assert power_w(die) == pytest.approx(66 * 154 * nameplate_w(core))
    assert power_w(wse2.wafer) == pytest.approx(850_000 * nameplate_w(core))
    two = replace(wse2, wafers=2)
    assert power_w(two) == pytest.approx(2 * power_w(wse2))
    with pytest.raises(TypeError, match="no power of float"):
        power_w(1.0)


def test_leakage_is_the_cores_area_times_a_density(wse2: Hardware) -> None:
    """0.05 W/mm2 over 850,000 cores of 228 x 170 um: 1.6 kW."""
    by_hand = 850_000 * 0.228 * 0.170 * 0.05
    assert leakage_w(wse2) == pytest.approx(by_hand)


def test_a_product_costs_its_multiply_adds_and_its_sram(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    product, _, _ = costs_of(make_graph, hardware)
    energy = op_energy_j(hardware, product, devices=6)
    count = 6 * 4 * 12 * 8
    assert energy["matrix"] == pytest.approx(count * 0.5e-12)
    assert energy["sram"] == pytest.approx(count * (3 * 2) * 7.5e-12 / 8)
    assert energy["control"] == pytest.approx(
        6 * float(product.cycles) * hardware.core.control_energy_j_per_cycle
    )
    assert energy["vector"] == energy["router"] == energy["wire"] == 0


def test_a_map_costs_vector_operations(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    _, doubled, _ = costs_of(make_graph, hardware)
    energy = op_energy_j(hardware, doubled, devices=1)
    assert energy["vector"] == pytest.approx(4 * 8 * 0.5e-12)
    assert energy["matrix"] == 0


def test_a_collective_costs_its_words_times_hops(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    """16 words over the 2 links of each of 2 rows, in and back; a word is 32 bits."""
    hardware = make_hardware()
    _, _, message = costs_of(make_graph, hardware)
    assert message.word_hops == 2 * (16 * 2) * 2
    energy = op_energy_j(hardware, message, devices=6)
    assert energy["router"] == pytest.approx(float(message.word_hops) * 32 * 0.01e-12)
    assert energy["wire"] == pytest.approx(
        float(message.word_hops) * 32 * 0.1e-12 * (0.228 + 0.170) / 2
    )
    assert energy["matrix"] == 0


def test_a_sum_over_a_line_reads_adds_and_writes_each_block_once(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    _, _, message = costs_of(make_graph, hardware)
    words = 16
    assert message.work.sram_read_bytes == message.work.sram_write_bytes == 4 * words
    assert message.work.vector_operations == 2 * words
    assert message.work.cycles == 0


def test_a_hop_pays_for_the_die_boundary_that_it_may_cross(wse2: Hardware) -> None:
    """One link in 66 north-south and one in 154 east-west is stitched: 0.2 pJ/bit."""
    hop = hop_energy_j_per_word(wse2)
    assert hop["die_to_die"] == pytest.approx(32 * 0.2e-12 * (1 / 66 + 1 / 154) / 2)


def test_twice_the_devices_take_twice_the_energy(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    for cost in costs_of(make_graph, hardware)[:2]:
        one, two = (op_energy_j(hardware, cost, devices) for devices in (6, 12))
        assert two == pytest.approx({name: 2 * joules for name, joules in one.items()})


def test_components_are_known_and_none_is_negative(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    for cost in costs_of(make_graph, hardware):
        energy = op_energy_j(hardware, cost, devices=6)
        assert set(energy) == set(COMPONENTS) - {"leakage"}
        assert min(energy.values()) >= 0


def test_no_operator_draws_more_than_the_nameplate(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    leakage = hardware.core.area_m2 * hardware.core.technology.leakage_w_per_m2
    for cost in costs_of(make_graph, hardware):
        joules = sum(op_energy_j(hardware, cost, devices=6).values())
        watts = joules * hardware.core.clock_hz / float(cost.cycles) / 6
        assert watts + leakage <= nameplate_w(hardware.core)
