"""What it takes to pass hidden states on, counted by hand in cycles.

A launch is 100 cycles, a ramp 2, a hop 1, a word 4 bytes.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from wscc.backend.handover import Handover, handovers, least_cycles
from wscc.backend.workload import pieces_of
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program

MakeStages = Callable[..., Program]
LAUNCH, RAMPS, RELAY = 100, 4, 5


@pytest.fixture(scope="module")
def hardware(make_hardware: Callable[..., Hardware]) -> Hardware:
    return make_hardware()


def passed(program: Program, contended: bool) -> list[Handover]:
    pieces = pieces_of(program.hardware, program.graphs, program.mesh.sizes)
    return handovers(program, pieces, contended)


def cycles(handover: Handover) -> float:
    return handover.seconds * 1.1e9


SPREAD = 2 + 3 + RELAY
"""Two words to the four cores of a row."""


def test_rows_side_by_side_pass_over_the_edge_between_them(
    make_stages: MakeStages, hardware: Hardware
) -> None:
    """16 features over 4 rows are 2 words a row, over one hop; then along the row."""
    program = make_stages(hardware, "matvec", (4, 4), [[(0, 0)], [(0, 4)]], features=16)
    (handover,) = passed(program, contended=False)
    assert cycles(handover) == pytest.approx(2 * LAUNCH + RAMPS + 1 + 1 + SPREAD)
    assert handover.software_s * 1.1e9 == pytest.approx(2 * LAUNCH)
    assert handover.flows == 4
    assert handover.word_hops == 4 * 2 * 1
    assert handover.seconds == handover.alone_s


def test_rows_stacked_take_a_column_each(make_stages: MakeStages, hardware: Hardware) -> None:
    program = make_stages(hardware, "matvec", (4, 4), [[(0, 0)], [(4, 0)]], features=16)
    (handover,) = passed(program, contended=False)
    assert cycles(handover) == pytest.approx(2 * LAUNCH + RAMPS + 4 + 1 + SPREAD)
    assert handover.word_hops == 4 * 2 * 4


def test_it_does_not_matter_which_side_the_next_stage_is_on(
    make_stages: MakeStages, hardware: Hardware
) -> None:
    east, west = (
        passed(make_stages(hardware, "matvec", (4, 4), places, features=16), False)[0]
        for places in ([[(0, 0)], [(0, 4)]], [[(0, 4)], [(0, 0)]])
    )
    assert east.seconds == pytest.approx(west.seconds)


def test_tiles_side_by_side_share_the_links_between_the_rectangles(
    make_stages: MakeStages, hardware: Hardware
) -> None:
    """Every core sends 16 words; the 4 of a row go over one link and then on to their places."""
    program = make_stages(hardware, "matmul", (2, 4), [[(0, 0)], [(0, 4)]], features=128, tokens=2)
    (alone,) = passed(program, contended=False)
    (shared,) = passed(program, contended=True)
    assert cycles(alone) == pytest.approx(LAUNCH + 4 * 16)
    assert cycles(shared) == pytest.approx(LAUNCH + 4 * 16 + RAMPS + 4 - 1)
    assert alone.flows == 8
    assert alone.word_hops == 8 * 16 * 4


def test_more_words_and_hops_take_longer(make_stages: MakeStages, hardware: Hardware) -> None:
    near = [[(0, 0)], [(0, 4)]]
    few, many = (
        passed(make_stages(hardware, "matvec", (4, 4), near, features), False)[0]
        for features in (16, 160)
    )
    assert cycles(many) - cycles(few) == pytest.approx(18 + 18)
    far = passed(make_stages(hardware, "matvec", (4, 4), [[(0, 0)], [(0, 24)]], 16), False)[0]
    assert cycles(far) - cycles(few) == pytest.approx(20)


PATHS = (
    [[(0, 0)], [(0, 4)], [(4, 4)], [(4, 0)]],
    [[(0, 0)], [(8, 8)], [(0, 4)], [(4, 0)]],
    [[(0, 0), (20, 0)], [(0, 8), (20, 8)], [(0, 4), (20, 4)]],
)


@pytest.mark.parametrize("layout", ["matvec", "matmul"])
@pytest.mark.parametrize("places", PATHS)
def test_passing_in_company_is_never_faster_than_alone(
    make_stages: MakeStages, hardware: Hardware, layout: str, places: list[list[tuple[int, int]]]
) -> None:
    program = make_stages(hardware, layout, (4, 4), places, features=640, tokens=4)
    alone, together = passed(program, False), passed(program, True)
    assert len(alone) == len(places) - 1
    for one, other in zip(alone, together, strict=True):
        assert one.seconds == one.alone_s == other.alone_s
        assert other.seconds >= one.seconds * (1 - 1e-12)


def test_crossing_paths_slow_each_other_down(make_stages: MakeStages, hardware: Hardware) -> None:
    """The second and the third hand-over both go west over the same links."""
    places = [[(0, 0)], [(0, 12)], [(0, 4)], [(0, 8)], [(0, 0)]]
    program = make_stages(hardware, "matmul", (4, 4), places[:4], features=6400, tokens=4)
    alone, together = passed(program, False), passed(program, True)
    assert together[0].seconds > 1.5 * alone[0].seconds


def test_paths_on_different_wafers_do_not_meet(make_stages: MakeStages, hardware: Hardware) -> None:
    def make(places: list[list[tuple[int, int]]]) -> Program:
        return make_stages(hardware, "matmul", (4, 4), places, features=6400, tokens=4)

    on_one = make([[(0, 0), (0, 4)], [(0, 8), (0, 12)]])
    stages = tuple(
        replace(
            stage,
            places=tuple(replace(place, island=at) for at, place in enumerate(stage.places)),
        )
        for stage in on_one.stages
    )
    on_two = replace(on_one, hardware=replace(hardware, wafers=2), stages=stages)
    alone = passed(make([[(0, 0)], [(0, 8)]]), True)[0].seconds
    assert passed(on_one, True)[0].seconds > 1.5 * alone
    assert passed(on_two, True)[0].seconds == pytest.approx(alone)


def test_one_stage_passes_nothing(make_stages: MakeStages, hardware: Hardware) -> None:
    assert passed(make_stages(hardware, "matvec", (4, 4), [[(0, 0)]], 16), True) == []


@pytest.mark.parametrize("layout", ["matvec", "matmul"])
@pytest.mark.parametrize("target", [(0, 6), (4, 0)])
def test_what_the_search_reckons_with_is_a_bound(
    make_stages: MakeStages, hardware: Hardware, layout: str, target: tuple[int, int]
) -> None:
    """The nearest rectangle is one hop away for rows, and its shorter side for tiles."""
    program = make_stages(hardware, layout, (4, 6), [[(0, 0)], [target]], features=96, tokens=4)
    (handover,) = passed(program, False)
    piece = pieces_of(hardware, program.graphs, program.mesh.sizes)["main"]
    hops = 1 if layout == "matvec" else 4
    least = least_cycles(hardware, piece.carried_bytes, hops, 6, program.mapping.layout)
    assert float(least) <= cycles(handover) * (1 + 1e-12)


def test_stages_without_places_pass_to_a_rectangle_beside_them(
    make_stages: MakeStages, hardware: Hardware
) -> None:
    for layout in ("matvec", "matmul"):
        placed = make_stages(hardware, layout, (4, 4), [[(0, 0)], [(0, 4)]], 64, tokens=4)
        unplaced = make_stages(hardware, layout, (4, 4), [[], []], 64, tokens=4)
        assert passed(unplaced, False) == passed(placed, False)


def test_stages_without_places_may_be_as_large_as_the_wafer(
    make_stages: MakeStages, hardware: Hardware
) -> None:
    wafer = hardware.wafer
    region = (wafer.usable_rows, wafer.usable_columns)
    program = make_stages(hardware, "matvec", region, [[], []], 640)
    assert passed(program, True)[0].seconds > 0
