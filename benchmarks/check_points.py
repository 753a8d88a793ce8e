"""How fast points of a hardware space are checked: one by one, in batches, and all of them.

    python benchmarks/check_points.py [--spec theseus] [--points 1000] [--reference DIR]

With the folder of reference data, the design space of Theseus is counted by its own tables and
rules (theseus_tables.wsc, beside this file): 24,193 architectures, 8,949,748 points.
"""

import argparse
import resource
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import wscc
from wscc.frontend.hardware import HardwareSpace
from wscc.frontend.hardware.binding import InvalidPointError
from wscc.frontend.hardware.count import count

TABLES = Path(__file__).with_name("theseus_tables.wsc")
ARCHITECTURE = ("capacity", "bandwidth", "macs", "width", "rows", "columns")


def sample(space: HardwareSpace, points: int, seed: int) -> dict[str, np.ndarray]:
    """Points drawn from the first batch of a space's list."""
    batch = next(iter(space.points()))
    size = len(next(iter(batch.values())))
    rows = np.random.default_rng(seed).choice(size, size=points)
    return {name: column[rows] for name, column in batch.items()}


def one_by_one(space: HardwareSpace, points: dict[str, np.ndarray]) -> tuple[float, int]:
    """Seconds a point, and how many meet all constraints; the first point is not timed."""
    rows = [
        {
            name: value
            for name, value in zip(points, row, strict=True)
            if value == value and value != ""
        }
        for row in zip(*(column.tolist() for column in points.values()), strict=True)
    ]
    feasible = 0
    space.bind(rows[0])
    started = perf_counter()
    for row in rows:
        try:
            feasible += all(line.holds for line in space.bind(row).constraints)
        except InvalidPointError:
            continue
    return (perf_counter() - started) / len(rows), feasible


def theseus(reference: Path) -> None:
    """Count and filter the space of Theseus by its own tables."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("theseus_sram_macros.csv", "theseus_routers.csv"):
            shutil.copy(reference / name, folder)
        space = wscc.load_hardware(shutil.copy(TABLES, folder))
        started = perf_counter()
        architectures = set[tuple[float, ...]]()
        for batch in space.points():
            columns = np.stack([batch[name] for name in ARCHITECTURE], axis=1)
            new = np.any(columns[1:] != columns[:-1], axis=1)
            architectures |= {*map(tuple, columns[[True, *new.tolist()]].tolist())}
        spent_s = perf_counter() - started
        print(f"{len(architectures):,} architectures, listed in {spent_s:.1f} s")
        started = perf_counter()
        counted = count(space)
        spent_s = perf_counter() - started
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{counted.points:,} points, {counted.feasible:,} feasible: counted and filtered in "
        f"{spent_s:.1f} s, {memory_gb:.2f} GB at most"
    )


def main() -> None:
    """Time what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", default="theseus")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=Path)
    options = parser.parse_args()
    started = perf_counter()
    space = wscc.load_hardware(options.spec)
    space.bind()
    if not any(known.domain for known in space.parameters.values()):
        parser.error(f"{options.spec} is one design: no parameter of it has a domain")
    print(f"{options.spec}: first point in {perf_counter() - started:.3f} s")
    points = sample(space, options.points, options.seed)
    each_s, feasible = one_by_one(space, points)
    print(f"one by one: {each_s * 1e3:.3f} ms a point, {feasible} of {options.points} feasible")
    started = perf_counter()
    verdicts = space.judge(points)
    spent_s = perf_counter() - started
    same = int(verdicts.feasible.sum())
    print(f"in a batch: {spent_s / options.points * 1e6:.1f} us a point, {same} feasible")
    if options.reference is not None:
        theseus(options.reference)


if __name__ == "__main__":
    main()
