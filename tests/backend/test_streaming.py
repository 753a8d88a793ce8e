"""Weights streamed from off the wafer, against closed forms and a run of the buffers by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from wscc.backend.streaming import OffWafer, ends_s, off_wafer, piece_s
from wscc.ir.hardware import EdgeIO, Hardware
from wscc.ir.technology import Memory

MakeHardware = Callable[..., Hardware]
WAY = OffWafer(bytes_per_s=10.0, latency_s=0.0, energy_j_per_byte=0.0, capacity_bytes=np.inf)


def external(via: str) -> Memory:
    return Memory("host", "external", 1000.0, via=via)


def test_the_ports_of_a_cs_2_carry_150_gigabytes_a_second(wse2: Hardware) -> None:
    way = off_wafer(wse2)
    assert way is not None
    assert way.bytes_per_s == pytest.approx(150e9)
    assert way.capacity_bytes == pytest.approx(1.5e12)


def test_memory_is_no_faster_than_its_ports_and_they_no_faster_than_it(
    make_hardware: MakeHardware,
) -> None:
    west, east = EdgeIO("west", 4, 10.0, 2.0), EdgeIO("east", 1, 20.0, 3.0)

    def way(*memories: Memory) -> OffWafer:
        found = off_wafer(make_hardware(wafer={"io": (west, east), "memories": memories}))
        assert found is not None
        return found

    assert way().bytes_per_s == 60.0
    assert way().capacity_bytes == np.inf
    assert way(external("west")).bytes_per_s == 40.0
    slow = replace(
        external("west"), bandwidth_bytes_per_s=25.0, sustained=0.8, energy_j_per_byte=7.0
    )
    assert way(slow).bytes_per_s == pytest.approx(20.0)
    assert way(slow).energy_j_per_byte == pytest.approx(2.0 + 7.0)
    both = way(slow, external("east"))
    assert both.bytes_per_s == pytest.approx(20.0 + 20.0)
    assert both.energy_j_per_byte == pytest.approx((2.0 + 7.0 + 3.0) / 2)
    assert both.capacity_bytes == 2000.0


def test_nothing_streams_without_ports(make_hardware: MakeHardware) -> None:
    stacked = Memory("dram", "stacked", 1000.0, bandwidth_bytes_per_s=100.0)
    assert off_wafer(make_hardware(wafer={"io": (), "memories": (stacked,)})) is None


def test_a_piece_takes_what_takes_longest_of_it() -> None:
    found = piece_s(
        WAY, np.array([5.0, 1.0, 1.0]), np.array([20.0, 20.0, 20.0]), np.array([0, 0, 80])
    )
    assert found == pytest.approx([5.0, 2.0, 8.0])
    assert piece_s(WAY, 5.0, 20.0, sharing=4) == pytest.approx(8.0)


def test_the_first_weights_and_the_last_gradients_are_waited_for() -> None:
    far = replace(WAY, latency_s=0.5)
    assert ends_s(far, 20.0) == pytest.approx(0.5 + 2.0)
    assert ends_s(far, 20.0, 30.0) == pytest.approx(1.0 + 5.0)


def by_hand(working_s: list[float], coming: list[float], leaving: list[float]) -> float:
    """A core with two buffers for weights and two for gradients, piece after piece."""
    loaded, worked, stored = [0.0], [0.0, 0.0], [0.0, 0.0]
    for work, load, store in zip(working_s, coming, leaving, strict=True):
        loaded.append(max(loaded[-1], worked[-2]) + load / WAY.bytes_per_s)
        worked.append(max(worked[-1], loaded[-1], stored[-2]) + work)
        stored.append(max(stored[-1], worked[-1]) + store / WAY.bytes_per_s)
    return stored[-1]


@pytest.mark.parametrize(
    ("parameters", "samples_per_s", "sequences"), [(0.59e9, 199.398, 4), (6.7e9, 22.669, 5)]
)
def test_a_cs_2_computes_longer_than_it_streams(
    wse2: Hardware, parameters: float, samples_per_s: float, sequences: int
) -> None:
    """Steps of 128 sequences, arXiv 2409.00287: weights in FP16 twice in and gradients once out
    are hidden behind the step once a pass over the layers is of some sequences."""
    way = off_wafer(wse2)
    assert way is not None
    step = 128 / samples_per_s
    streamed = 2 * 2 * parameters / way.bytes_per_s
    assert streamed < 0.04 * step
    assert 128 / sequences * streamed < step < 128 / (sequences - 1) * streamed
