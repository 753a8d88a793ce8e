"""How long placement and the network model take on a shipped wafer: a table on standard output.

python benchmarks/placement_and_network.py [wse2]
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import wscc
from wscc.backend.network import Fabric, Flows, bound_s, fabric_of, link_loads
from wscc.backend.network_fluid import fluid
from wscc.ir.hardware import DeadCore, Wafer
from wscc.passes.placement import Exchange, PlacementProblem, count_fitting, place


def timed(call: Callable[..., Any], *arguments: Any, repeat: int = 3) -> tuple[float, Any]:
    """The median wall time in seconds of some calls, and what the last returned."""
    times: list[float] = []
    result = None
    for _ in range(repeat):
        begin = perf_counter()
        result = call(*arguments)
        times.append(perf_counter() - begin)
    return median(times), result


def chain(wafer: Wafer, count: int, rows: int, columns: int) -> PlacementProblem:
    """Stages that each send to the next."""
    exchanges = tuple(Exchange(at, at + 1, 1) for at in range(count - 1))
    return PlacementProblem(wafer, ((rows, columns),) * count, exchanges)


def random_flows(fabric: Fabric, count: int) -> Flows:
    """Flows between random cores, of one to 10,000 words."""
    draw = np.random.default_rng(0).integers
    return Flows(
        draw(0, fabric.rows, count),
        draw(0, fabric.columns, count),
        draw(0, fabric.rows, count),
        draw(0, fabric.columns, count),
        fabric.word_bytes * draw(1, 10_000, count).astype(np.float64),
        np.zeros(count),
    )


def shifted_flows(rows: int, columns: int) -> Flows:
    """Every core of a rectangle sends to its twin in the next one to the east."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    bytes_, release_s = np.full(len(row), 4000.0), np.zeros(len(row))
    return Flows(row, column, row, column + columns, bytes_, release_s)


def main(name: str) -> None:
    """Prints one line a measurement."""
    clean: Wafer = wscc.load_hardware(name).bind().wafer
    mended = replace(
        clean,
        dead_dies=((clean.rows - 1, clean.columns - 1), (clean.rows // 2, clean.columns // 2)),
        dead_cores=(DeadCore((0, 2), (3, 5)),),
    )
    for label, wafer in (("clean", clean), ("two dead dies and a dead core", mended)):
        for size in ((300, 300), (100, 100), (10, 10)):
            time_s, count = timed(count_fitting, wafer, *size, repeat=21)
            print(f"count_fitting {size}, {label}: {count} in {time_s * 1e6:.0f} us")
        for problem in (
            chain(wafer, 4, 300, 300),
            chain(wafer, 8, 180, 240),
            chain(wafer, 16, 150, 200),
            chain(wafer, 32, 100, 140),
            chain(wafer, 84, 66, 100),
        ):
            time_s, placed = timed(place, problem, repeat=1)
            print(
                f"place {len(problem.sizes)} of {problem.sizes[0]}, {label}: "
                f"gap {placed.gap:.1%} in {time_s:.2f} s"
            )
    fabric = fabric_of(clean)
    for label, flows in (
        ("1,000 random flows", random_flows(fabric, 1000)),
        ("3,000 random flows", random_flows(fabric, 3000)),
        ("90,000 flows to the neighbour", shifted_flows(300, 300)),
    ):
        time_s, finish_s = timed(fluid, fabric, flows)
        over = finish_s.max() / bound_s(fabric, flows) - 1
        print(f"fluid, {label}: {over:.1%} over the bound in {time_s * 1e3:.0f} ms")
    many = random_flows(fabric, 1_000_000)
    print(f"link_loads, 1,000,000 flows: {timed(link_loads, fabric, many)[0] * 1e3:.0f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "wse2")
