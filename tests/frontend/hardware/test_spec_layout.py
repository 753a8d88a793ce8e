"""What stands where: kinds of cores and dies, spares, memory, nodes, systems."""

# ruff: noqa: E501  one mistake a line

from collections.abc import Callable
from dataclasses import replace

import pytest
from wscc.backend.physics import PHYSICS
from wscc.ir.hardware import CorePatch, DiePatch, Hardware
from wscc.ir.tree import parse_tree, print_tree

Bind = Callable[..., Hardware]
Refused = Callable[..., str]

BIG = "core big = pe with { sram.capacity = 40 KiB }\n"


def defects(small: str, lines: str) -> str:
    """The small spec with these defects."""
    return small.replace("joined seam }", f"joined seam; defects {{ {lines} }} }}")


# Places.


def test_another_kind_of_core_is_placed_in_a_die(small: str, bind: Bind):
    text = small.replace("of pe;", "of pe; place 2 x 3 of big at 1, 2;") + BIG
    hardware = bind(text)
    big = replace(hardware.core, name="big", sram=hardware.wafer.die.patches[0].core.sram)
    assert hardware.wafer.die.patches == (CorePatch(big, row=1, column=2, rows=2, columns=3),)
    assert big.sram.capacity_bytes == 40 * 1024
    assert [count for _, count in hardware.wafer.die.kinds] == [14, 6]
    assert hardware.cores == 6 * 20
    assert hardware.sram_bytes == 6 * (14 * 32 + 6 * 40) * 1024
    assert not hardware.wafer.uniform


def test_another_kind_of_die_is_placed_on_a_wafer(small: str, bind: Bind):
    text = small.replace("joined seam }", "joined seam; place 2 x 1 of wide at 0, 2 }")
    text += "die wide { cores = 3 x 2 of pe; size = 1 mm x 1 mm }\n"
    hardware = bind(text)
    (patch,) = hardware.wafer.patches
    assert patch == DiePatch(patch.die, row=0, column=2, rows=2, columns=1)
    assert (patch.die.name, patch.die.rows, patch.die.columns) == ("wide", 3, 2)
    assert hardware.cores == 4 * 20 + 2 * 6


def test_places_follow_parameters_and_touch_without_overlap(
    small: str, bind: Bind, refused: Refused
):
    places = "place 4 x n of big at 0, 0; place 4 x (5 - n) of big at 0, n;"
    text = small.replace("of pe;", f"of pe; {places}") + BIG
    text += "param n = 2 in 1..5 step 1\n"
    assert [p.columns for p in bind(text).wafer.die.patches] == [2, 3]
    assert [p.columns for p in bind(text, n=4).wafer.die.patches] == [4, 1]
    assert (
        refused(text, n=5)
        == "spec.wsc:11:72: error: die tile: place: expected 1 to 10,000,000, got 0"
    )


def test_constraints_may_name_parts_that_are_placed(small: str, bind: Bind):
    text = small.replace("of pe;", "of pe; place 1 x 1 of big at 0, 0;") + BIG
    text += "constraint sram(big) >= 40 KiB\nconstraint sram(pe) >= 32 KiB\n"
    assert [c.left for c in bind(text).constraints if not c.implied] == [40960, 32768]


@pytest.mark.parametrize(("main", "other"), [("tile", "hot"), ("hot", "tile")])
def test_a_core_that_a_placed_copy_changes_is_itself_elsewhere(
    main: str, other: str, small: str, bind: Bind
):
    text = small.replace(
        "of tile joined seam", f"of {main} joined seam; place 1 x 1 of {other} at 0, 0"
    )
    text += "die hot = tile with { pe.clock = 2 GHz }\nconstraint pe.clock >= 1 GHz\n"
    text += "constraint peak(pe) >= 1 flop/s\nconstraint peak(hot) >= peak(tile) * 2\n"
    hardware = bind(text)
    assert {die.core.clock_hz for die, _ in hardware.wafer.kinds} == {1e9, 2e9}
    clock, peak, twice = (c for c in hardware.constraints if not c.implied)
    assert (clock.left, peak.left) == (1e9, 8e9)
    assert twice.left == twice.right


def test_a_core_placed_without_a_size_has_what_its_parts_need(small: str, bind: Bind):
    text = small.replace("size = 200 um x 100 um", "").replace("size = 1 mm x 1 mm", "")
    hardware = bind(text.replace("of pe;", "of pe; place 1 x 1 of big at 0, 0;") + BIG)
    for core, _ in hardware.wafer.die.kinds:
        outline = PHYSICS.core_outline_m(core)
        assert outline is not None
        assert (core.height_m, core.width_m) == pytest.approx(outline)
    kinds = {core.name: core.area_m2 for core, _ in hardware.wafer.die.kinds}
    assert kinds["big"] > kinds["pe"] > 0
    assert "what its parts need" in hardware.assumed["pe.size"]
    assert "what its cores need" in hardware.assumed["tile.size"]


# What is spare.


def test_spares_of_cores_are_made_and_not_counted(small: str, bind: Bind):
    die = bind(small.replace("of pe;", "of pe; spares = 1 column;")).wafer.die
    assert (die.rows, die.columns, die.spare_rows, die.spare_columns) == (4, 4, 0, 1)
    die = bind(small.replace("of pe;", "of pe; spares = 2 row;")).wafer.die
    assert (die.rows, die.columns, die.spare_rows, die.spare_columns) == (2, 5, 2, 0)


def test_spares_of_dies_are_not_used(small: str, bind: Bind):
    wafer = bind(small.replace("joined seam", "joined seam; spares = 1 column")).wafer
    assert (wafer.columns, wafer.spare_dies) == (3, 2)
    assert (wafer.usable_rows, wafer.usable_columns, wafer.cores_in_use) == (8, 10, 80)
    dead = defects(small, "dead die 0, 2; dead die 1, 1").replace(
        "defects", "spares = 1 row; defects"
    )
    assert bind(dead).wafer.cores_in_use == 60


# Memory, networks, links.


def test_memories_of_a_die_stand_on_it_and_beside_it(small: str, bind: Bind):
    text = small.replace(
        "of pe;",
        "of pe; memories = 3 of hbm; memory top { kind = stacked; capacity = 1 GiB; "
        "bandwidth = 2 TB/s };",
    )
    text += (
        "memory hbm { kind = beside; capacity = 16 GiB; bandwidth = 400 GB/s; latency = 100 ns\n"
        "  energy = 4 pJ/bit; edge = 10 um; phy_area = 100 um2; power = 1 W; cost = 200 USD }\n"
    )
    hardware = bind(text)
    top, hbm = hardware.wafer.die.memories
    assert (top.name, top.kind, top.count, top.capacity_bytes) == ("top", "stacked", 1, 2**30)
    assert (hbm.name, hbm.kind, hbm.count) == ("hbm", "beside", 3)
    assert hbm.capacity_bytes == 48 * 2**30
    assert hbm.bandwidth_bytes_per_s == 1.2e12
    assert (hbm.latency_s, hbm.energy_j_per_byte) == pytest.approx((1e-7, 32e-12))
    assert (hbm.edge_m, hbm.phy_area_m2) == pytest.approx((30e-6, 3e-10))
    assert (hbm.power_w, hbm.cost_usd) == (3, 600)
    assert hardware.dram_bytes == 6 * 49 * 2**30


def test_external_memory_stands_behind_an_edge(small: str, bind: Bind):
    text = small.replace(
        "joined seam",
        "joined seam; io west { ports = 12; bandwidth = 12.5 GB/s; energy = 5 pJ/bit }\n"
        "  memory host { kind = external; via = west; capacity = 1.5 TB }",
    )
    wafer = bind(text).wafer
    assert (wafer.io[0].edge, wafer.io[0].ports) == ("west", 12)
    assert wafer.io[0].energy_j_per_byte == pytest.approx(40e-12)
    assert (wafer.memories[0].via, wafer.memories[0].bandwidth_bytes_per_s) == ("west", None)
    assert bind(text).dram_bytes == 1.5e12


def test_a_network_is_the_router_of_the_cores_that_name_it(small: str, bind: Bind):
    block = "router { kind = circuit; width = 4 B/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = yes }"
    text = small.replace(block, "router = mesh").replace("of pe;", "of big;") + BIG
    text += (
        "network mesh { kind = wormhole; width = 64 B/cycle; hop = 3 ns; ramp = 1 cycle\n"
        "  multicast = no; virtual_channels = 4; buffer = 8 }\n"
    )
    router = bind(text).core.router
    assert (router.kind, router.width_bytes, router.multicast) == ("wormhole", 64, False)
    assert router.hop_cycles == pytest.approx(3)
    assert (router.virtual_channels, router.buffer_flits) == (4, 8)


def test_a_core_without_a_router_says_so(small: str, bind: Bind):
    lines = [line for line in small.splitlines(True) if "router {" not in line]
    hardware = bind("".join(lines))
    assert hardware.assumed["pe.router"] == "core pe: no network between cores"


def test_a_link_gives_a_bandwidth_in_place_of_a_share(small: str, bind: Bind):
    text = small.replace(
        "share = 1.0;",
        "bandwidth = 10 GB/s; edge = 224 GB/s/mm; phy_depth = 0.01 mm; known_good = yes\n"
        "  bonding_yield = 0.99; cost = 5 USD;",
    )
    wafer = bind(text).wafer
    link = wafer.link
    assert (link.share, link.bandwidth_bytes_per_s) == (None, 10e9)
    assert link.edge_bytes_per_s_per_m == 224e12
    assert (link.phy_depth_m, link.known_good) == (1e-5, True)
    assert (link.bonding_yield, link.cost_usd) == (0.99, 5)
    assert wafer.crossing_share == pytest.approx(10e9 / (5 * 4e9))


# Nodes, switches, systems.

NODE = """\
link nvlink { bandwidth = 300 GB/s; latency = 700 ns; energy = 8 pJ/bit }
link fabric { bandwidth = 25 GB/s; latency = 2 us; energy = 15 pJ/bit }
switch nv { ports = 8; bandwidth = 50 GB/s; latency = 100 ns; power = 100 W; count = 6; cost = 1 USD }
switch ib { ports = 40; bandwidth = 25 GB/s; latency = 130 ns; energy = 5 pJ/bit }
node box { dies = 1 x 8 of tile joined nvlink; switch = nv; power = 1 kW; cost = 900 USD }
"""


def test_a_node_is_a_board_of_dies_that_meet_in_switches(small: str, bind: Bind):
    hardware = bind(small + NODE + "system { nodes = 16 of box joined fabric; switch = ib }\n")
    board = hardware.wafer
    assert (hardware.wafers, hardware.dies, board.board) == (16, 128, True)
    assert (board.height_m, board.width_m) == pytest.approx((1e-3, 8e-3))
    assert board.switch is not None
    assert (board.switch.ports, board.switch.count, board.switch.power_w) == (8, 6, 100)
    assert (board.power_w, board.cost_usd) == (1000, 900)
    assert hardware.switch is not None
    assert hardware.link is not None
    assert (hardware.switch.name, hardware.link.bandwidth_bytes_per_s) == ("ib", 25e9)
    assert hardware.cores == 16 * 8 * 20


def test_a_file_with_one_node_needs_no_system(small: str, bind: Bind):
    text = "".join(line for line in small.splitlines(True) if not line.startswith("wafer"))
    assert bind(text + NODE).wafer.name == "box"


def test_wafers_are_joined_by_a_link_with_a_bandwidth(small: str, bind: Bind):
    text = small + NODE + "system { wafers = 4 of wse joined fabric }\n"
    hardware = bind(text)
    assert hardware.link is not None
    assert (hardware.wafers, hardware.link.name, hardware.switch) == (4, "fabric", None)
    assert hardware.cores == 4 * 120
    assert bind(text.replace(" joined fabric", "")).link is None


def test_a_system_says_what_its_time_costs(small: str, bind: Bind):
    text = small + (
        "system { wafers = 1 of wse; lifetime = 4 year; electricity = 0.08 USD/kWh\n"
        "  utilization = 0.6 }\n"
    )
    economy = bind(text).economy
    assert economy is not None
    assert economy.lifetime_s == 4 * 31557600
    assert economy.electricity_usd_per_j == pytest.approx(0.08 / 3.6e6)
    assert economy.utilization == 0.6
    assert bind(small).economy is None


def test_a_wafer_states_its_regulators_its_power_and_its_cost(small: str, bind: Bind):
    text = small.replace("joined seam", "joined seam; regulator = 0.9; power = 2 kW; cost = 9 USD")
    wafer = bind(text).wafer
    assert (wafer.regulator_efficiency, wafer.power_w, wafer.cost_usd) == (0.9, 2000, 9)


def test_a_constraint_may_be_conditional(small: str, bind: Bind):
    text = small + (
        "param cooled = no in {no, yes}\n"
        "constraint area(wse) <= 1 mm2 when cooled == yes\nconstraint area(wse) <= 20 mm2\n"
    )
    stated = [c for c in bind(text).constraints if not c.implied]
    assert [(c.text, c.holds) for c in stated] == [("area(wse) <= 20 mm2", True)]
    stated = [c for c in bind(text, cooled="yes").constraints if not c.implied]
    assert [(c.text, c.holds) for c in stated] == [
        ("area(wse) <= 1 mm2", False),
        ("area(wse) <= 20 mm2", True),
    ]


def test_a_whole_design_is_read_back_from_its_text(small: str, bind: Bind):
    text = defects(small, "density = 200 defect/cm2; seed = 1; dead link 0, 1 east").replace(
        "of pe;", "of pe; place 1 x 1 of big at 0, 0; memories = 2 of hbm;"
    )
    text += BIG + NODE + "memory hbm { kind = stacked; capacity = 1 kB; bandwidth = 1 GB/s }\n"
    text += (
        "system { wafers = 2 of wse joined fabric; switch = ib; lifetime = 4 year; "
        "electricity = 0 USD/J }\n"
    )
    hardware = bind(text)
    assert parse_tree(Hardware, print_tree(hardware)) == hardware
