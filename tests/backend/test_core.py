"""The core model against cycles counted by hand for the core of the WSE-2.

Four FP16 lanes; two reads of 8 bytes and one write of 8 bytes a cycle; 10 cycles to issue.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.core import (
    compute_dtype,
    expression_work,
    map_work,
    matrix_elements_per_cycle,
    product_work,
    tile_product_work,
    vector_elements_per_cycle,
)
from wscc.ir.expression import Work
from wscc.ir.graph import Op, TensorType
from wscc.ir.hardware import Core, Hardware


@pytest.fixture(scope="module")
def core(make_hardware: Callable[..., Hardware]) -> Core:
    return make_hardware().core


def test_a_product_issues_a_vector_instruction_for_every_row_and_step(core: Core) -> None:
    work = product_work(core, "float16", m=3, n=10, k=5)
    assert work.cycles == 3 * 5 * (10 + 3)
    assert work.multiply_adds == 150
    assert work.sram_read_bytes == 150 * 2 * 2
    assert work.sram_write_bytes == 150 * 2


def test_a_product_takes_the_direction_with_fewer_cycles(core: Core) -> None:
    tall, wide = product_work(core, "float16", 40, 2, 7), product_work(core, "float16", 2, 40, 7)
    assert tall.cycles == wide.cycles == 7 * 2 * (10 + 10)


def test_a_matrix_vector_product_works_along_its_longer_side(core: Core) -> None:
    """A vector of k elements and an n x k block: k instructions of length n, not n of length 1."""
    assert product_work(core, "float16", m=1, n=24, k=10).cycles == 10 * (10 + 6)


def test_of_tiles_that_travel_the_left_one_is_taken_by_columns(core: Core) -> None:
    """A 9 x 5 and a 5 x 30 tile: 150 instructions on 9 rows, though 45 on 30 columns are fewer."""
    work, best = (
        tile_product_work(core, "float16", 9, 30, 5),
        product_work(core, "float16", 9, 30, 5),
    )
    assert work.cycles == 5 * 30 * (10 + 3)
    assert best.cycles == 5 * 9 * (10 + 8)
    assert (work.multiply_adds, work.sram_read_bytes) == (best.multiply_adds, best.sram_read_bytes)


def test_a_matrix_unit_takes_tiles_in_either_direction(
    make_hardware: Callable[..., Hardware],
) -> None:
    core = make_hardware(core={"matrix_flops_per_cycle": {"float16": 512.0}}).core
    for m, n in ((9, 30), (30, 9)):
        assert tile_product_work(core, "float16", m, n, 5) == product_work(core, "float16", m, n, 5)


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99))
def test_a_product_is_never_faster_than_its_lanes(core: Core, m: int, n: int, k: int) -> None:
    assert product_work(core, "float16", m, n, k).cycles >= m * n * k / 4


@pytest.mark.parametrize(
    ("read", "write", "elements"), [(16, 8, 4), (32, 16, 4), (8, 8, 2), (16, 4, 2), (4, 8, 1)]
)
def test_sram_ports_limit_what_the_lanes_can_do(
    make_hardware: Callable[..., Hardware], read: int, write: int, elements: int
) -> None:
    ports = {"read_bytes_per_cycle": read, "write_bytes_per_cycle": write}
    core = make_hardware(sram=ports).core
    assert matrix_elements_per_cycle(core, "float16") == elements
    assert vector_elements_per_cycle(core, "float16") == elements
    assert product_work(core, "float16", 1, 12, 1).cycles == 10 + 12 / elements
    assert map_work(core, "float16", 12, Work(1, 0)).cycles == 10 + 12 / elements


def test_wider_elements_have_fewer_lanes(core: Core) -> None:
    assert matrix_elements_per_cycle(core, "float32") == 1
    assert product_work(core, "float32", 1, 12, 1).cycles == 10 + 12


@pytest.mark.parametrize(("elements", "cycles"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_started_group_of_lanes_takes_a_whole_cycle(
    core: Core, elements: int, cycles: int
) -> None:
    assert map_work(core, "float16", elements, Work(1, 0)).cycles == 10 + cycles
    assert map_work(core, "float16", elements, Work(3, 0)).cycles == 3 * (10 + cycles)


def test_scalar_functions_take_the_faster_of_one_by_one_and_step_by_step(core: Core) -> None:
    steps = core.function_cycles
    few, many = (map_work(core, "float16", n, Work(0, 1)) for n in (2, 1000))
    assert few.cycles == 10 + 2 * steps
    assert many.cycles == steps * (10 + 250)
    mixed = map_work(core, "float16", 2, Work(2, 1))
    assert mixed.cycles == few.cycles + 2 * (10 + 1)


def test_a_map_reads_two_operands_and_writes_one_for_each_node(core: Core) -> None:
    """Two operations and a function on six elements; the function's steps stay in registers."""
    work = map_work(core, "float16", 6, Work(2, 1))
    assert work.vector_operations == 6 * (2 + core.function_cycles)
    assert (work.sram_read_bytes, work.sram_write_bytes) == (2 * 2 * 18, 2 * 18)


def test_nothing_takes_no_time(core: Core) -> None:
    assert map_work(core, "float16", 0, Work(2, 1)).cycles == 0


@given(st.lists(st.tuples(*[st.integers(1, 999)] * 3), min_size=1, max_size=8))
def test_many_sizes_at_once_cost_what_each_costs_alone(
    core: Core, shapes: list[tuple[int, int, int]]
) -> None:
    m, n, k = (np.array(side) for side in zip(*shapes, strict=True))
    products = product_work(core, "float16", m, n, k)
    maps = map_work(core, "float16", m, Work(2, 1))
    for at, (rows, columns, steps) in enumerate(shapes):
        one = product_work(core, "float16", rows, columns, steps)
        assert np.asarray(products.cycles)[at] == one.cycles
        assert np.asarray(products.sram_read_bytes)[at] == one.sram_read_bytes
        assert np.asarray(maps.cycles)[at] == map_work(core, "float16", rows, Work(2, 1)).cycles


def test_integers_and_booleans_go_at_the_rate_of_float32(core: Core) -> None:
    assert {compute_dtype(core, name) for name in ("int64", "int32", "bool")} == {"float32"}
    assert compute_dtype(core, "float16") == "float16"


@pytest.mark.parametrize(
    ("kind", "expr", "work"),
    [
        ("elementwise", "a * b + c", Work(2, 0)),
        ("elementwise", "a", Work(1, 0)),
        ("elementwise", "exp(a - b)", Work(1, 1)),
        ("reduce", "square(a)", Work(2, 0)),
        ("rotary", "", Work(3, 0)),
        ("mask", "", Work(1, 0)),
    ],
)
def test_every_kind_says_what_an_element_costs(kind: str, expr: str, work: Work) -> None:
    op = Op(kind, ("a",), ("r",), (TensorType("float16", (4,)),), {"expr": expr})
    assert expression_work(op) == work
