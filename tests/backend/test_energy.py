"""Energy and power against counts by hand and the published figures of the WSE-2."""

from collections.abc import Callable, Mapping

import pytest
from wscc.backend.cost import Costing, OpCost
from wscc.backend.energy import hop_energy_j_per_word, op_energy_j
from wscc.backend.physics.power import COMPONENTS, power, static_power
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Sharding

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
        of_no_operator = {"leakage", "regulator_loss", "stated", "io"}
        assert set(energy) == set(COMPONENTS) - of_no_operator
        assert min(energy.values()) >= 0


def test_no_operator_draws_more_than_the_nameplate(
    make_graph: MakeGraph, make_hardware: Callable[..., Hardware]
) -> None:
    hardware = make_hardware()
    leakage = static_power(hardware.core)
    for cost in costs_of(make_graph, hardware):
        joules = sum(op_energy_j(hardware, cost, devices=6).values())
        watts = joules * hardware.core.clock_hz / float(cost.cycles) / 6
        assert watts + leakage <= power(hardware.core)
