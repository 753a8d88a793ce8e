"""Placement on irregular cases against the serpentine layout: a table on standard output.

Unequal stages, dead dies, cores and links, expert traffic, rings of gradients, and ports, on wafers
of 12 x 7 dies of 66 x 154 cores. `serpentine` goes to and fro from the north-west corner along the
rows; `best of 8` is the best one over corners and directions, in even cells or in shelves as high
as their tallest rectangle. Traffic-distances (byte-hops) and their lower bounds are shares of the
serpentine's; `hottest` is what the busiest link carries, as a share of that in the best of 8.

python benchmarks/placement.py [NAME ...]
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from statistics import mean
from time import process_time

import wscc
from wscc.ir.hardware import DeadCore, DeadLink, Wafer
from wscc.passes.placement import Anchor, Exchange, PlacementProblem, hottest, objective, place
from wscc.passes.placement_layouts import layouts

Sizes = tuple[tuple[int, int], ...]


def wafer(dead_dies: int = 0, dead_cores: int = 0, dead_links: int = 0, seed: int = 0) -> Wafer:
    """A WSE-2 with defects at random places."""
    clean: Wafer = wscc.load_hardware("wse2").bind().wafer
    draw = Random(seed)
    dies = [(row, column) for row in range(clean.rows) for column in range(clean.columns)]

    def at() -> tuple[int, int]:
        return draw.randrange(clean.die.rows), draw.randrange(clean.die.columns)

    return replace(
        clean,
        dead_dies=tuple(sorted(draw.sample(dies, dead_dies))),
        dead_cores=tuple(DeadCore(draw.choice(dies), at()) for _ in range(dead_cores)),
        dead_links=tuple(
            DeadLink(draw.choice(dies), at(), draw.choice(("east", "south")))
            for _ in range(dead_links)
        ),
    )


def chain(count: int, weight: float = 1e6, first: int = 0) -> Iterator[Exchange]:
    """Each rectangle sends to the next one."""
    yield from (Exchange(first + at, first + at + 1, weight) for at in range(count - 1))


def pipelines(replicas: int, stages: int, gradient: float) -> tuple[Exchange, ...]:
    """Replicas of a chain, whose stages sum their gradients in rings."""
    chains = (e for r in range(replicas) for e in chain(stages, first=r * stages))
    rings = (
        Exchange(r * stages + s, (r + 1) % replicas * stages + s, gradient)
        for s in range(stages)
        for r in range(replicas if replicas > 2 else 1)
    )
    return (*chains, *rings)


def experts(count: int, skew: float, seed: int, first: int = 0) -> Iterator[Exchange]:
    """Every pair exchanges tokens in proportion to both loads; loads fall as a power law."""
    draw = Random(seed)
    loads = [(rank + 1) ** -skew for rank in range(count)]
    draw.shuffle(loads)
    for a in range(count):
        for b in range(a):
            shared = draw.uniform(0.2, 1.8)
            yield Exchange(first + b, first + a, 1e6 * loads[a] * loads[b] * shared)


def unequal(count: int, low: int, high: int, seed: int) -> Sizes:
    """Rectangles of random rows and columns."""
    draw = Random(seed)
    return tuple((draw.randint(low, high), draw.randint(low, high)) for _ in range(count))


def ports(count: int, bytes_: float) -> tuple[Anchor, ...]:
    """Every rectangle exchanges bytes with the ports in the west."""
    return tuple(Anchor(at, "west", bytes_) for at in range(count))


def skips(count: int) -> tuple[Exchange, ...]:
    """A chain whose first half also sends to the mirrored place of the second."""
    return (*chain(count), *(Exchange(at, count - 1 - at, 5e5) for at in range(count // 2 - 1)))


CASES: dict[str, Callable[[], PlacementProblem]] = {
    "chain, unequal": lambda: PlacementProblem(wafer(), unequal(14, 70, 240, 1), tuple(chain(14))),
    "chain, unequal, 4 dead dies": lambda: PlacementProblem(
        wafer(4, seed=2), unequal(20, 60, 180, 2), tuple(chain(20))
    ),
    "chain, large embedding and head, ports": lambda: PlacementProblem(
        wafer(2, seed=3),
        ((300, 220), *((110, 150),) * 20, (330, 260)),
        tuple(chain(22)),
        (Anchor(0, "west", 1e5), Anchor(21, "west", 4e6)),
    ),
    "chain of 16, 6 dead dies": lambda: PlacementProblem(
        wafer(6, seed=4), ((130, 200),) * 16, tuple(chain(16))
    ),
    "chain of 30, 8 dead dies": lambda: PlacementProblem(
        wafer(8, seed=5), ((90, 150),) * 30, tuple(chain(30))
    ),
    "chain of 20, 80 dead cores": lambda: PlacementProblem(
        wafer(0, 80, seed=6), ((70, 110),) * 20, tuple(chain(20))
    ),
    "chain of 20, 40 dead links": lambda: PlacementProblem(
        wafer(1, 0, 40, seed=7), ((90, 120),) * 20, tuple(chain(20))
    ),
    "ring of 14, 5 dead dies": lambda: PlacementProblem(
        wafer(5, seed=8), ((130, 200),) * 14, (*chain(14), Exchange(0, 13, 1e6))
    ),
    "stream of weights from the ports": lambda: PlacementProblem(
        wafer(3, seed=9), ((140, 210),) * 16, tuple(chain(16, 2e5)), ports(16, 1e6)
    ),
    "16 experts, skewed": lambda: PlacementProblem(
        wafer(2, seed=10), ((150, 220),) * 16, tuple(experts(16, 1.0, 10))
    ),
    "36 experts, skewed, 4 dead dies": lambda: PlacementProblem(
        wafer(4, seed=11), ((100, 140),) * 36, tuple(experts(36, 1.2, 11))
    ),
    "experts of unequal sizes": lambda: PlacementProblem(
        wafer(2, seed=12), unequal(18, 80, 220, 12), tuple(experts(18, 1.0, 12))
    ),
    "attention to 24 experts": lambda: PlacementProblem(
        wafer(3, seed=13),
        ((260, 300), *((100, 150),) * 24),
        tuple(Exchange(0, 1 + at, 1e6 * (1 + at) ** -0.8) for at in range(24)),
    ),
    "4 replicas of 6 stages, rings": lambda: PlacementProblem(
        wafer(3, seed=14), ((110, 170),) * 24, pipelines(4, 6, 3e6)
    ),
    "8 replicas of 4 stages, rings": lambda: PlacementProblem(
        wafer(4, seed=15), ((100, 150),) * 32, pipelines(8, 4, 4e6)
    ),
    "3 replicas of unequal stages, rings": lambda: PlacementProblem(
        wafer(2, seed=16), unequal(6, 60, 190, 16) * 3, pipelines(3, 6, 2e6)
    ),
    "skips, unequal": lambda: PlacementProblem(
        wafer(2, seed=17), unequal(16, 80, 240, 17), skips(16)
    ),
    "84 rectangles, 12 experts a layer": lambda: PlacementProblem(
        wafer(2, seed=18),
        ((66, 100),) * 84,
        tuple(e for layer in range(7) for e in experts(12, 0.8, layer, 12 * layer))
        + tuple(Exchange(at, at + 12, 2e5) for at in range(72)),
    ),
}


def serpentine_objective(problem: PlacementProblem) -> tuple[float, float]:
    """Of the serpentine from the north-west along rows, and of the best one."""
    costs = [objective(problem, way) for way in layouts(problem)]
    return costs[0], min(costs)


def main(names: Sequence[str]) -> None:
    """Prints one line a case, and what they come to."""
    print(f"{'case':40} {'best of 8':>9} {'placed':>7} {'bound':>6} {'hottest':>8} {'CPU s':>6}")
    shares: list[tuple[float, float]] = []
    for name in names or CASES:
        problem = CASES[name]()
        plain, best = serpentine_objective(problem)
        before = min(layouts(problem), key=lambda way: objective(problem, way))
        begin = process_time()
        placed = place(problem)
        spent_s = process_time() - begin
        cooler = hottest(problem, placed.rectangles) / hottest(problem, before)
        shares.append((placed.objective / plain, placed.objective / best))
        print(
            f"{name:40} {best / plain:9.1%} {placed.objective / plain:7.1%} "
            f"{placed.lower_bound / plain:6.1%} {cooler:8.1%} {spent_s:6.2f}"
        )
    of_plain, of_best = (mean(column) for column in zip(*shares, strict=True))
    reached = sum(share <= 0.9 for share, _ in shares), sum(share <= 0.9 for _, share in shares)
    print(
        f"mean: {of_plain:.1%} of the serpentine ({reached[0]} of {len(shares)} at most 90%), "
        f"{of_best:.1%} of the best of 8 ({reached[1]} at most 90%)"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
