"""Many points of a space judged at once have the verdicts that each of them has alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.frontend.hardware import HardwareSpace
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware
from wscc.ir.physics import Physics

SpaceOf = Callable[..., HardwareSpace]
Point = dict[str, float | str | None]
"""Values by parameter, None where it does not exist."""

VARIED = """\
use "macros.csv" as macros
param lanes  = 4 in pow2(1, 8)
param cap    = 32 KiB in {16, 24, 32} KiB
param kept   = 2 KiB in 0..32 KiB
param joint  = seam in {seam, bridge}
param gap    = 0.1 mm in 0..0.5 mm
param stack  = off in {off, on}
param height = 1 TB/s in 0.5..4 TB/s step 0.5 TB/s when stack == on
param n      = 4 in 1..6 step 1
param m      = 3 in floor(n / 2)..n step 1
param cut    = 0 in 0..6 step 1
param deep   = 1 in 1..3 step 1 when height > 1 TB/s
let root  = sqrt(n - cut)
let ratio = 6 / (n - 3)
let area  = macros.area(n, m)
link bridge { share = 0.5; latency = 100 ns; energy = 1 pJ/bit; gap = gap }
core big = pe with { sram.capacity = cap * 1.5 }
constraint area(wse) >= area(tile) * 6
constraint ratio <= m
constraint height * deep <= 4 TB/s when deep > 1
constraint root + area >= 8
constraint sram(wse) >= 3.5 MB
constraint power(wse) <= 200 W when joint == bridge
constraint yield(tile) >= 0.999
"""
VALUES: dict[str, list[float | str | None]] = {
    "lanes": [1, 2, 4, 8, 3],
    "cap": [16384, 24576, 32768, 20000],
    "kept": [0, 2048, 16384, 20000, 40000],
    "joint": ["seam", "bridge", "glue"],
    "gap": [0, 1e-4, 3e-4, 6e-4],
    "stack": ["off", "on"],
    "height": [None, 0.5e12, 1e12, 1.5e12, 4e12, 1.2e12],
    "n": [1, 2, 3, 4, 5, 6, 7, 2.5],
    "m": [0, 1, 2, 3, 4, 5, 6],
    "cut": [0, 1, 2, 5, 6],
    "deep": [None, 1, 2, 3, 4],
}
ROWS = [(n, m, n * m) for n in range(1, 7) for m in range(7) if (n + m) % 5]


@pytest.fixture
def varied(space_of: SpaceOf, small: str, write_table: Callable[..., None]) -> HardwareSpace:
    write_table("macros.csv", "n,m,area", ROWS)
    text = small.replace("8 flop/cycle", "lanes * 2 flop/cycle").replace("32 KiB", "cap")
    text = text.replace("capacity = cap;", "capacity = cap; reserved = kept;")
    text = text.replace("joined seam", "joined joint; place 1 x 1 of other at 0, 0")
    text = text.replace(
        "of pe;",
        "of pe; spares = cut * 1 column; place 1 x m of big at 0, 0;\n"
        "  memory top when stack == on { kind = stacked; capacity = 1 MB; bandwidth = height };",
    )
    text += "die other { cores = 4 x 5 of pe; size = 1 mm x 1 mm; power = deep * 1 W }\n"
    text = text.replace("power = deep * 1 W", "power = n * 1 W")
    return space_of(text + VARIED)


def columns_of(points: list[Point]) -> dict[str, np.ndarray]:
    """The points as a batch."""

    def column(name: str) -> np.ndarray:
        values: list[Any] = [point[name] for point in points]
        if any(isinstance(value, str) for value in values):
            return np.array(["" if value is None else value for value in values])
        return np.array([np.nan if value is None else value for value in values], float)

    return {name: column(name) for name in points[0]}


def bound(space: HardwareSpace, point: Point) -> Hardware | None:
    """The design of a point; None where its values make none."""
    try:
        return space.bind({name: value for name, value in point.items() if value is not None})
    except UserError:
        return None


def assert_judged_alike(space: HardwareSpace, points: list[Point]) -> list[Hardware | None]:
    """A batch has the verdicts that its points have one by one; what those are bound to."""
    verdicts = space.judge(columns_of(points))
    designs = [bound(space, point) for point in points]
    assert verdicts.valid.tolist() == [design is not None for design in designs]
    for row, design in enumerate(designs):
        if design is None:
            assert not verdicts.feasible[row]
            continue
        alone = {
            line.text: all(c.holds for c in design.constraints if c.text == line.text)
            for line in design.constraints
        }
        together = {text: bool(holds[row]) for text, holds in verdicts.holds.items()}
        assert alone.items() <= together.items(), points[row]
        assert all(holds for text, holds in together.items() if text not in alone)
        assert verdicts.feasible[row] == all(alone.values())
    return designs


def test_many_points_are_judged_as_each_of_them_alone(varied: HardwareSpace):
    def point_of(values: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[Point]:
        return st.fixed_dictionaries(dict(zip(VALUES, values, strict=True)))

    any_point = point_of([st.sampled_from(values) for values in VALUES.values()])

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(st.lists(any_point, min_size=1, max_size=12))
    def check(points: list[Point]) -> None:
        assert_judged_alike(varied, points)

    check()


def test_points_near_a_design_are_judged_as_each_of_them_alone(varied: HardwareSpace):
    """Of points drawn at random nearly none is a design; of these, one value off, many are."""
    random = np.random.default_rng(5)
    default: Point = {name: varied.parameters[name].default for name in VALUES}
    default |= {"height": None, "deep": None}
    points = [
        default | {"stack": "on", "height": h, "deep": d} for h in (1e12, 2e12) for d in (None, 2)
    ]
    for _ in range(400):
        point = default | {"n": 5, "m": 4}
        for name in random.choice(list(VALUES), size=2):
            point[str(name)] = VALUES[str(name)][random.integers(len(VALUES[str(name)]))]
        points.append(point)
    designs = assert_judged_alike(varied, points)
    made = [design for design in designs if design is not None]
    assert 50 < len(made) < len(points) - 50
    assert 10 < sum(all(line.holds for line in design.constraints) for design in made) < len(made)


@pytest.mark.parametrize(
    "stated",
    [
        "usable = 1 x 2;",
        "spares = 1 row;",
        "cores_in_use = 90;",
        "place 1 x 1 of other at rows - 1, 0;",
    ],
)
def test_a_batch_with_drawn_defects_is_judged_as_each_of_its_points(
    stated: str, small: str, space_of: SpaceOf
):
    lines = "defects { density = density; seed = seed; dead core 0, 0 of die 1, 0 }"
    text = small.replace("joined seam", f"joined seam; {stated} {lines}")
    text = text.replace("2 x 3 of tile", "rows x 3 of tile").replace(
        "of pe;", "of pe; spares = spare * 1 row; area { other = 2 mm2 };"
    )
    text += (
        "param density = 1 defect/cm2 in 0..9000 defect/cm2\nparam seed = 1 in 0..50 step 1\n"
        "param rows = 2 in {1, 2, 3}\nparam spare = 0 in 0..4 step 1\n"
        "die other { cores = 4 x 6 of pe; size = 1 mm x 1 mm }\nconstraint cores(wse) >= 60\n"
    )
    random = np.random.default_rng(2)
    values: dict[str, Any] = {
        "density": [0, 1e6, 1e7, 3e7, 9e7],
        "seed": range(53),
        "rows": [1, 2, 2, 2, 3],
        "spare": [0, 0, 1, 3, 4],
    }
    points: list[Point] = [
        {name: float(random.choice(some)) for name, some in values.items()} for _ in range(150)
    ]
    designs = assert_judged_alike(space_of(text), points)
    assert {design is None for design in designs} == {True, False}
    assert {d.constraints[0].holds for d in designs if d is not None} >= {True}


BOARD = """\
param nodes  = 2 in 1..6 step 1
param across = 4 in 1..8 step 1
param stacks = 2 in 1..5 step 1
param wide   = 4 B/cycle in pow2(1, 64) B/cycle
param rate   = 300 GB/s in 100..600 GB/s
param bonded = 0.99 in 0.9..1
param tested = no in {no, yes}
param kind   = beside in {beside, stacked}
param extra  = 0 in 0..2 step 1
link nvlink { bandwidth = rate; latency = 700 ns; energy = 8 pJ/bit; bonding_yield = bonded
              edge = 500 GB/s/mm; phy_depth = 10 um; known_good = tested; cost = 5 USD }
memory hbm { kind = kind; capacity = 16 GB; bandwidth = rate; edge = 0.2 mm; phy_area = 0.01 mm2
             cost = 100 USD; power = 1 W }
switch nv { ports = 8; bandwidth = rate / 6; latency = 100 ns; count = stacks; power = 50 W }
die gpu { cores = 4 x across of pe; spares = extra * 1 row; memories = stacks of hbm }
wafer row { size = 9 mm x 9 mm; dies = 2 x across of gpu joined nvlink; regulator = bonded }
node box { dies = 2 x across of gpu joined nvlink; switch = nv; cost = 900 USD
           power = rate / 1 TB * 1 J }
system { nodes = nodes of box joined nvlink; switch = nv }
"""
BOARD_VALUES: dict[str, list[float | str | None]] = {
    "nodes": [1, 2, 3, 6],
    "across": [1, 2, 4, 8],
    "stacks": [1, 2, 5],
    "wide": [1, 4, 64],
    "rate": [1e11, 3e11, 6e11],
    "bonded": [0.9, 0.99, 1],
    "tested": ["no", "yes"],
    "kind": ["beside", "stacked"],
    "extra": [0, 1, 2],
}


def test_all_physics_is_the_same_of_a_batch_as_of_its_points(
    small: str, space_of: SpaceOf, physics: Physics
):
    text = small.replace("width = 4 B/cycle", "width = wide") + BOARD
    named = {"core": ["pe"], "die": ["gpu"], "wafer": ["row", "box"], "system": ["system"]}
    calls = {
        f"{function.name}({part})": function.unit or ""
        for function in physics.functions.values()
        for kind in function.of
        for part in named[kind]
    }
    figures = space_of(text + "".join(f"constraint {call} >= {call}\n" for call in calls)).bind()
    for (call, unit), line in zip(calls.items(), figures.constraints, strict=False):
        text += f"constraint {call} >= {1.0001 * line.left:.12e} {unit}\n"
    random = np.random.default_rng(11)
    points: list[Point] = [
        {name: some[random.integers(len(some))] for name, some in BOARD_VALUES.items()}
        for _ in range(100)
    ]
    designs = assert_judged_alike(space_of(text), points)
    lines = [[line.holds for line in d.constraints] for d in designs if d is not None]
    held = np.mean([line[: len(calls)] for line in lines], axis=0)
    assert len(lines) == len(points)
    assert np.mean((held > 0) & (held < 1)) > 0.6


def test_a_batch_with_named_defects_is_judged_as_each_of_its_points(small: str, space_of: SpaceOf):
    text = small.replace("joined seam", "joined seam; usable = high x 5; defects { DEAD }")
    text = text.replace("DEAD", "dead die 0, 0; dead core 0, 1 of die 1, 0")
    text += "param high = 8 in 1..9 step 1\nparam lanes = 1 in 1..4 step 1\n"
    points: list[Point] = [{"high": high, "lanes": 3} for high in range(1, 10)]
    designs = assert_judged_alike(space_of(text), points)
    assert [design is not None for design in designs] == [False] * 4 + [True] * 4 + [False]


def test_an_unknown_parameter_of_a_batch_is_refused(small: str, space_of: SpaceOf):
    space = space_of(small + "param lanes = 3\n")
    with pytest.raises(UserError, match="unknown parameter 'lane', did you mean 'lanes'"):
        space.judge({"lane": np.array([1.0])})


def test_a_constraint_that_two_parts_share_holds_where_both_hold_it(small: str, space_of: SpaceOf):
    places = "place 1 x 1 of hot at 0, 0; place 1 x 1 of cold at 1, 1"
    text = small.replace("joined seam", f"joined seam; {places}")
    text = text.replace("16 B/cycle", "wide") + (
        "param wide = 16 B/cycle in {16, 32, 4000} B/cycle\n"
        "die hot = tile with { pe.sram.capacity = big }\nparam big = 16 KiB in {16, 96} KiB\n"
        "die cold = hot with { pe.sram.capacity = 2 KiB }\n"
    )
    points: list[Point] = [
        {"big": big, "wide": wide} for big in (16384, 98304) for wide in (16, 32, 4000)
    ]
    designs = assert_judged_alike(space_of(text), points)
    fits = [all(c.holds for c in design.constraints) for design in designs if design is not None]
    assert fits == [True, True, False, False, False, False]
