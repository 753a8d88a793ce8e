"""Steady traffic: the patterns, the rate, latency and throughput."""

import numpy as np
import pytest
from wscc.backend.noc.arrays import Timing
from wscc.backend.noc.network import mesh
from wscc.backend.noc.open_loop import PATTERNS, packets_of, steady_state
from wscc.ir.errors import UserError


@pytest.mark.parametrize(
    ("pattern", "node", "destination"),
    [
        # Of a 4 x 4 network, node = 4 y + x; 6 is at x = 2, y = 1, in bits 0110.
        ("transpose", 6, 9),
        ("bitcomp", 6, 9),
        ("bitrev", 1, 8),
        ("bitrev", 6, 6),
        ("shuffle", 6, 12),
        ("shuffle", 9, 3),
        ("neighbor", 6, 11),
        ("neighbor", 15, 0),
        ("tornado", 6, 11),
    ],
)
def test_a_pattern_sends_where_its_definition_says(
    pattern: str, node: int, destination: int
) -> None:
    assert PATTERNS[pattern](np.array([node]), 4).tolist() == [destination]


def test_a_tornado_goes_almost_half_way_round() -> None:
    assert PATTERNS["tornado"](np.array([0]), 8).tolist() == [3 * 8 + 3]


def test_packets_come_at_the_rate_and_are_the_same_for_a_seed() -> None:
    first, again = (packets_of(8, "uniform", 0.2, 4, 5000, seed=3) for _ in range(2))
    assert first.count * 4 / (64 * 5000) == pytest.approx(0.2, rel=0.03)
    assert first.release.tolist() == again.release.tolist()
    assert np.all(np.diff(first.release) >= 0)
    assert packets_of(8, "uniform", 0.2, 4, 5000, seed=4).count != first.count
    spots = packets_of(4, "hotspot", 0.5, 1, 500, seed=0, hotspots=(0, 15))
    assert set(spots.destination.tolist()) == {0, 15}


def test_light_traffic_takes_its_zero_load_time() -> None:
    network = mesh(4, 4, Timing(routing=0))
    found = steady_state(network, "neighbor", 0.02, 4, seed=0)
    side = np.arange(4)
    hops = 1 + 2 * np.abs(side - (side + 1) % 4).mean()
    assert found.lost == 0
    assert found.latency == pytest.approx(hops * 3 + hops - 1 + 3 + 3, rel=0.02)


def test_what_the_bottleneck_takes_is_accepted_and_the_rest_waits() -> None:
    """Four corners of 16 take a flit a cycle each, whatever is offered."""
    spots = (0, 3, 12, 15)
    found = steady_state(
        mesh(4, 4), "hotspot", 0.5, 4, seed=0, warm_up=2000, measured=4000, hotspots=spots
    )
    assert 0.22 < found.accepted <= 0.25
    assert found.lost > 0


@pytest.mark.parametrize(
    ("side", "pattern", "message"),
    [
        (4, "unifrom", "there is no pattern 'unifrom', did you mean 'uniform'?"),
        (3, "bitrev", "a pattern of bits needs a power of two of terminals, not 9"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(side: int, pattern: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        packets_of(side, pattern, 0.1, 1, 10, seed=0)
    assert caught.value.message == message
