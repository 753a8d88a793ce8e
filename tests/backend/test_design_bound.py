"""The design bound in closed form, on demands written by hand. That no program betters it is
tested where programs are made (tests/dse/test_optimist.py)."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from wscc.backend.design_bound import energy_j, latency_s, memory_s
from wscc.backend.design_demand import Collective, Demand, Product, Sides, Tally
from wscc.ir.hardware import Hardware

MakeHardware = Callable[..., Hardware]
BOTH: Sides = (True, True)
NONE = Tally({}, [], [], 0.0, 0.0)


def demand(chain: Tally, sequences: int = 1, weights: float = 0.0, **more: float) -> Demand:
    return Demand(
        sequences=sequences,
        trains=False,
        busy=chain,
        chain=chain,
        update=NONE,
        energy={"float16": (1e9, 0.0)},
        sram_bytes=(0.0, 0.0),
        weight_bytes=weights,
        read_bytes=weights,
        state_bytes=0.0,
        cache_bytes=more.get("cache", 0.0),
    )


def products(multiply_adds: float) -> Tally:
    return Tally({("matrix", "float16", BOTH): multiply_adds}, [], [], 0.0, 0.0)


def seconds(wanted: Demand, hardware: Hardware) -> float:
    (found,) = latency_s(wanted, hardware, 1)
    return float(found)


def cores(hardware: Hardware) -> int:
    wafer = hardware.wafer
    return hardware.wafers * wafer.usable_rows * wafer.usable_columns


def rate(hardware: Hardware) -> float:
    """Multiply-adds a second of a core, bound by its unit and by two reads and a write each."""
    sram, flops = hardware.core.sram, hardware.core.matrix_flops_per_cycle["float16"]
    ports = min(sram.read_bytes_per_cycle / 2, sram.write_bytes_per_cycle) / 2
    return min(flops / 2, ports) * hardware.core.clock_hz


def test_work_alone_takes_all_cores(make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    found = seconds(demand(products(1e15)), hardware)
    assert found == pytest.approx(1e15 / (cores(hardware) * rate(hardware)))


def test_many_sequences_take_as_long_as_their_work(make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    one, ten = (seconds(demand(products(1e15), n), hardware) for n in (1, 10))
    assert ten == pytest.approx(10 * one)


def test_hops_make_more_cores_slower_than_fewer(make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    sums = [(Collective("all_reduce", True, 2.0, (False, True)), 1000.0)]
    work = products(1e10)
    apart = seconds(demand(work), hardware)
    joined = seconds(demand(replace(work, collectives=sums)), hardware)
    whole_column_s = 1000 * hardware.wafer.usable_rows / 2 / hardware.core.clock_hz
    assert apart < joined < apart + whole_column_s


def test_an_instruction_takes_a_cycle_however_short_its_vector(make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    issue = hardware.core.software.issue_cycles
    none: Sides = (False, False)
    product = Product("float16", 1.0, 1.0, 5000.0, none, none, none)
    tally = Tally({}, [(product, 3.0)], [], 7.0, 2.0)
    launches = 2 * hardware.core.software.launch_cycles
    expected = ((3 * 5000 + 7) * (1 + issue) + launches) / hardware.core.clock_hz
    assert seconds(demand(tally), hardware) == pytest.approx(expected)


def test_stages_that_hold_the_weights_pass_every_sequence_on(make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    sums = [(Collective("all_reduce", True, 2.0, (False, True)), 1000.0)]
    work = replace(products(1e12), collectives=sums)
    sram = cores(hardware) * hardware.core.usable_bytes
    light, heavy = (seconds(demand(work, 16, share * sram), hardware) for share in (0.0, 0.9))
    assert heavy >= light


def test_weights_beyond_all_memory_are_hopeless_and_those_in_dram_come_in(
    make_hardware: MakeHardware,
) -> None:
    hardware = make_hardware(wafer={"io": (), "memories": ()})
    sram = cores(hardware) * hardware.core.usable_bytes
    assert memory_s(demand(NONE, weights=0.9 * sram), hardware) == 0.0
    assert memory_s(demand(NONE, weights=0.6 * sram, cache=0.6 * sram), hardware) == np.inf
    from wscc.ir.technology import Memory

    memory = Memory("dram", "stacked", capacity_bytes=sram, bandwidth_bytes_per_s=1e9)
    dies = hardware.wafer.rows * hardware.wafer.columns
    stacked = make_hardware(wafer={"io": (), "memories": ()}, die={"memories": (memory,)})
    found = float(memory_s(demand(NONE, weights=1.2 * sram), stacked))
    assert found == pytest.approx(1.2 * sram / (dies * 1e9))


def test_energy_is_arithmetic_and_what_is_always_drawn(make_hardware: MakeHardware) -> None:
    hardware = make_hardware()
    soon, late = (float(energy_j(demand(NONE), hardware, np.array(t))) for t in (0.0, 1.0))
    each = hardware.core.technology.multiply_add_energy_j["float16"]
    assert soon == pytest.approx(1e9 * each / hardware.wafer.regulator_efficiency)
    assert late > soon
