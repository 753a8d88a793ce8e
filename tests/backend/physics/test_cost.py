"""Costs against Chiplet Actuary's and CSET's, counts by hand, and what a spec may lack."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from wscc.backend.physics.cost import (
    cost,
    economics,
    good_die_usd,
    gross_dies,
    usd_per_million_tokens,
)
from wscc.backend.physics.report import physics_facts
from wscc.backend.physics.yields import die_yield, yield_of
from wscc.cli.main import main
from wscc.cli.pipeline import load_hardware
from wscc.ir.errors import UserError
from wscc.ir.hardware import Core, Die, Economy, Hardware, Wafer
from wscc.ir.technology import Defects, Link, Memory, Switch

YEAR_S = 365 * 86400.0
N7_USD, N5_USD = 9346.0, 16988.0

ACTUARY = (
    (300, 7, 178.406, 0.766118),
    (300, 5, 178.406, 0.722764),
    (800, 7, 58.7930, 0.498944),
    (800, 5, 58.7930, 0.430240),
)
"""Area in mm2, node, gross dies and yield by Chiplet Actuary's chip.py and parameter.ini."""


def priced(core: Core, node: int = 7, **changes: Any) -> Core:
    usd, per_m2 = (N7_USD, 900.0) if node == 7 else (N5_USD, 1100.0)
    technology = replace(
        core.technology,
        wafer_cost_usd=usd,
        defects=Defects(per_m2, "negative_binomial", 10.0),
        multiply_add_energy_j={"float16": 0.5e-12},
    )
    return replace(core, technology=technology, **changes)


def square_die(core: Core, area_mm2: float, node: int = 7) -> Die:
    side = area_mm2**0.5 * 1e-3
    return Die("d", priced(core, node, width_m=side, height_m=side), 1, 1, side, side)


@pytest.mark.parametrize(("area_mm2", "node", "gross", "works"), ACTUARY)
def test_good_dies_cost_what_chiplet_actuary_says(
    core: Core, area_mm2: float, node: int, gross: float, works: float
) -> None:
    die = square_die(core, area_mm2, node)
    assert gross_dies(die.height_m, die.width_m) == pytest.approx(gross, rel=1e-5)
    usd = N7_USD if node == 7 else N5_USD
    assert cost(die) == pytest.approx(usd / gross / works, rel=1e-5)


def test_a_raw_die_of_5_nm_is_within_a_sixth_of_csets() -> None:
    """238 USD of 610 mm2, 71.4 a wafer of 16,988 USD: CSET leaves more of a rim."""
    side = 610**0.5 * 1e-3
    assert N5_USD / gross_dies(side, side) == pytest.approx(238, rel=1 / 6)


def test_a_die_that_no_wafer_holds_costs_without_bound(core: Core) -> None:
    assert gross_dies(0.3, 0.3) == 0.0
    assert good_die_usd(square_die(core, 90_000), 0.5) == float("inf")


def test_a_stitched_wafer_costs_a_wafer_over_its_yield(wse: Wafer, core: Core) -> None:
    stack = Memory("dram", "stacked", 1e9, cost_usd=10.0)
    die = replace(wse.die, core=priced(core), memories=(stack,))
    host = Memory("host", "external", 1e12, cost_usd=500.0)
    wafer = replace(wse, die=die, memories=(host,), cost_usd=2000.0, cores_needed=850_000)
    assert yield_of(wafer) == pytest.approx(1.0)
    assert cost(wafer) == pytest.approx(N7_USD + 84 * 10.0 + 500.0 + 2000.0)
    fragile = replace(wafer, cores_needed=853_740)
    assert 0.01 < yield_of(fragile) < 0.99
    assert cost(fragile) == pytest.approx(N7_USD / yield_of(fragile) + 840.0 + 2500.0)


def test_known_good_dies_cost_what_good_ones_do_and_their_joining(wse: Wafer, core: Core) -> None:
    """25 dies of 645 mm2 with a stack each, 30 USD to join one, 99% of which succeed."""
    die = replace(square_die(core, 645), memories=(Memory("hbm", "beside", 1e9, cost_usd=80.0),))
    link = Link("sow", 1.0, 1e-7, 1e-12, known_good=True, bonding_yield=0.99, cost_usd=30.0)
    tile = replace(wse, die=die, rows=5, columns=5, link=link, cost_usd=1000.0)
    silicon = N7_USD / gross_dies(die.height_m, die.width_m) / die_yield(die)
    assert cost(tile) == pytest.approx(25 * (silicon + 80.0 + 30.0) / 0.99**25 + 1000.0)


def test_a_cluster_costs_its_nodes_their_links_and_switches(wse: Wafer, core: Core) -> None:
    die = square_die(core, 800)
    link = Link("nvlink", None, 1e-6, 1e-12, bandwidth_bytes_per_s=3e11, cost_usd=100.0)
    switch = Switch("nvswitch", 8, 5e10, 1e-7, count=6, cost_usd=200.0)
    node = replace(
        wse, die=die, rows=1, columns=8, link=link, switch=switch, board=True, cost_usd=5000.0
    )
    assert cost(node) == pytest.approx(8 * (cost(die) + 100.0) + 6 * 200.0 + 5000.0)
    fabric = Link("ib", None, 1e-6, 1e-11, bandwidth_bytes_per_s=2e11, cost_usd=1500.0)
    spine = Switch("quantum", 64, 2e11, 1e-6, cost_usd=20_000.0)
    cluster = Hardware("c", 16, node, link=fabric, switch=spine)
    assert cost(cluster) == pytest.approx(16 * (cost(node) + 1500.0) + 20_000.0)


def test_what_a_cost_lacks_is_named(wse: Wafer, core: Core) -> None:
    with pytest.raises(UserError, match="wafer_cost of technology round"):
        cost(wse)
    technology = replace(core.technology, wafer_cost_usd=1.0)
    unknown = replace(wse.die, core=replace(core, technology=technology))
    with pytest.raises(UserError, match="defect_density of technology round"):
        cost(unknown)


def test_a_batch_has_the_costs_of_its_points(wse: Wafer, core: Core) -> None:
    sides = np.linspace(5e-3, 30e-3, 20)

    def of(side: Any) -> Hardware:
        die = Die("d", priced(core, width_m=side, height_m=side), 1, 1, side, side)
        link = Link("sow", 1.0, 1e-7, 1e-12, known_good=True, bonding_yield=0.99)
        return Hardware("s", 2, replace(wse, die=die, rows=3, columns=3, link=link))

    assert cost(of(sides)) == pytest.approx([float(cost(of(side))) for side in sides])


# Tokens.


def test_tokens_cost_capital_over_the_life_and_electricity() -> None:
    """1 MUSD over 4 years at 60%, 20 kW at 0.08 USD/kWh, 1000 tokens/s."""
    per_s = 1e6 / (4 * YEAR_S * 0.6) + 20 * 0.08 / 3600
    found = usd_per_million_tokens(1e6, 4 * YEAR_S, 0.6, 20e3, 0.08 / 3.6e6, 1000.0)
    assert found == pytest.approx(per_s * 1000)
    assert found == pytest.approx(13.66, rel=1e-3)
    both = usd_per_million_tokens(1e6, 4 * YEAR_S, 0.6, 20e3, 0.08 / 3.6e6, np.array([1e3, 2e3]))
    assert both == pytest.approx([found, found / 2])


def test_economics_say_only_what_the_spec_supports(wse: Wafer, core: Core) -> None:
    system = Hardware("s", 1, wse)
    assert economics(system, 1e4, 1e3).cost_usd is None
    wafer = replace(wse, die=replace(wse.die, core=priced(core)), cores_needed=850_000)
    priced_system = replace(system, wafer=wafer)
    known = economics(priced_system, 1e4, 1e3)
    assert (known.cost_usd, known.usd_per_million_tokens) == (pytest.approx(N7_USD), None)
    economy = Economy(4 * YEAR_S, 0.08 / 3.6e6, 0.5)
    whole = economics(replace(priced_system, economy=economy), 1e4, 1e3)
    assert whole.usd_per_million_tokens == pytest.approx(
        usd_per_million_tokens(N7_USD, 4 * YEAR_S, 0.5, 1e4, 0.08 / 3.6e6, 1e3)
    )
    hopeless = replace(wafer, cores_needed=853_776, die=replace(wafer.die, spare_rows=0))
    dense = replace(hopeless.die.core.technology, defects=Defects(1e9))
    lost = replace(hopeless, die=replace(hopeless.die, core=replace(core, technology=dense)))
    assert economics(replace(priced_system, wafer=lost), 1e4, 1e3).cost_usd is None


# Facts.


def test_check_shows_power_yields_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wse2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    hardware = load_hardware("wse2").bind()
    said = {fact.key: fact.value for fact in physics_facts(hardware)}
    assert said.items() <= facts.items()
    parts = [value for key, value in facts.items() if key.startswith("power_w.")]
    assert sum(parts) == pytest.approx(facts["power_nameplate_w"])
    assert facts["yield.wafer"] == pytest.approx(1.0)
    assert facts["cost_usd.system"] == pytest.approx(float(cost(hardware)))


def test_facts_name_what_is_lacking_and_what_is_stated(wse: Wafer, core: Core) -> None:
    stated = replace(wse, die=replace(wse.die, core=core), power_w=100.0)
    facts = {fact.key: fact for fact in physics_facts(Hardware("s", 1, stated))}
    for key in ("power_nameplate_w", "yield.wafer", "cost_usd.system"):
        assert facts[key].value is None
        assert "technology round" in facts[key].text
    hungry = replace(stated, die=replace(wse.die, core=priced(core)))
    facts = {fact.key: fact for fact in physics_facts(Hardware("s", 1, hungry))}
    assert facts["power_w.stated"].basis == "stated"
    assert facts["power_w.stated"].text.endswith("as stated")
    assert facts["power_w.sram"].basis == "computed"
