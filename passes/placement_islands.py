"""Which wafer of a system each rectangle lies on: the first of placement's two levels.

The rectangles of one wafer become a problem of their own for placement.py. What crosses to another
wafer leaves by the edge with ports, so that it weighs there as what the wafer sends outside does.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

from ..ir.hardware import Hardware
from ..ir.program import Rectangle
from ..ir.result import Infeasibility
from .placement import Anchor, Exchange, PlacementError, PlacementProblem, place
from .placement_shelves import count_fitting
from .placement_traffic import anchor, port_edges


@dataclass(frozen=True)
class Pipelines:
    """Replicas of a pipeline on a system: stage s of replica r is rectangle r * stages + s.

    All rectangles are of one `size`, rows and columns.
    """

    hardware: Hardware
    replicas: int
    stages: int
    size: tuple[int, int]
    exchanges: tuple[Exchange, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    seed: int = 0

    @property
    def count(self) -> int:
        return self.replicas * self.stages


@dataclass(frozen=True)
class Settled:
    """Rectangles of all islands; objective and bound in byte-hops, for which a link between two
    wafers is one hop, and bytes over the busiest link inside a wafer. The bound holds for this
    choice of wafers."""

    rectangles: tuple[Rectangle, ...]
    objective: float
    lower_bound: float
    hottest_bytes: float


def settle(pipelines: Pipelines) -> Settled:
    """Every rectangle on a wafer, and in its place there; wafers of equal content look alike.

    Raises PlacementError if they do not fit, or would have to share what nothing joins.
    """
    islands = allot(pipelines)
    if islands is None:
        raise PlacementError(_shortage(pipelines))
    members: dict[int, list[int]] = defaultdict(list)
    for index, island in enumerate(islands):
        members[island].append(index)
    problems = {at: _local(pipelines, islands, which) for at, which in members.items()}
    distinct = {_content(problem): problem for problem in problems.values()}
    solved = {key: place(problem, 1 / len(distinct)) for key, problem in distinct.items()}
    places: dict[int, Rectangle] = {}
    objective = least = _crossing(pipelines, islands)
    for island, problem in problems.items():
        found = solved[_content(problem)]
        objective, least = objective + found.objective, least + found.lower_bound
        for index, at in zip(members[island], found.rectangles, strict=True):
            places[index] = replace(at, island=island)
    rectangles = tuple(places[index] for index in range(pipelines.count))
    heat = max((found.hottest_bytes for found in solved.values()), default=0.0)
    return Settled(rectangles, objective, least, heat)


_Content = tuple[tuple[Exchange, ...], tuple[Anchor, ...], int]


def _content(problem: PlacementProblem) -> _Content:
    """What tells the problems of two wafers apart."""
    return problem.exchanges, problem.anchors, len(problem.sizes)


def allot(pipelines: Pipelines) -> list[int] | None:
    """The wafer of every rectangle, with the fewest bytes times links between wafers of a few
    orderly ways; None if there is none.

    A wafer holds whole replicas, or a run of stages of one or of all replicas, if that is possible;
    otherwise rectangles fill one wafer after the other.
    """
    room = count_fitting(pipelines.hardware.wafer, *pipelines.size)
    if room == 0 or pipelines.count > room * pipelines.hardware.wafers:
        return None
    ways = [
        way for way in _ways(pipelines, room) if max(way, default=0) < pipelines.hardware.wafers
    ]
    best = min(ways, key=lambda way: _crossing(pipelines, way))
    return None if _crossing(pipelines, best) == inf else best


def _ways(pipelines: Pipelines, room: int) -> Iterator[list[int]]:
    """Wafers of all rectangles, in several ways; some may ask for more wafers than there are."""
    replicas, stages = range(pipelines.replicas), range(pipelines.stages)
    many, long = len(replicas), len(stages)
    if long <= room:
        each = -(-many // -(-many // min(room // long, many)))
        yield [r // each for r in replicas for _ in stages]
    else:
        runs = _runs(pipelines, room)
        yield [r * (runs[-1] + 1) + runs[s] for r in replicas for s in stages]
        yield [runs[s] * many + r for r in replicas for s in stages]
    if many <= room:
        runs = _runs(pipelines, room // many)
        yield [runs[s] for _ in replicas for s in stages]
    yield [(r * long + s) // room for r in replicas for s in stages]
    yield [(s * many + r) // room for r in replicas for s in stages]


def _runs(pipelines: Pipelines, longest: int) -> list[int]:
    """The run of every stage, for the fewest runs of at most `longest` stages: cut where the least
    passes, and evenly where that is all the same. Dynamic programming over the cuts."""
    stages = pipelines.stages
    passing = _passing(pipelines)
    count = -(-stages // longest)
    best: list[dict[int, tuple[float, int, int]]] = [{0: (0.0, 0, 0)}]
    for number in range(1, count + 1):
        row: dict[int, tuple[float, int, int]] = {}
        for end in range(max(1, stages - (count - number) * longest), stages + 1):
            ways = [
                (before[0] + passing[end], before[1] + (end - begin) ** 2, begin)
                for begin in range(max(0, end - longest), end)
                if (before := best[-1].get(begin)) is not None
            ]
            if ways:
                row[end] = min(ways)
        best.append(row)
    runs: list[int] = []
    end = stages
    for number in range(count, 0, -1):
        begin = best[number][end][2]
        runs = [number - 1] * (end - begin) + runs
        end = begin
    return runs


def _passing(pipelines: Pipelines) -> list[float]:
    """Bytes of one replica that pass from the stages before each place to those behind it."""
    stages = pipelines.stages
    change = [0.0] * (stages + 1)
    for exchange in pipelines.exchanges:
        first, last = sorted((exchange.first, exchange.second))
        if last < stages:
            change[first + 1] += exchange.weight_bytes
            change[last + 1] -= exchange.weight_bytes
    passing, now = [], 0.0
    for step in change:
        now += step
        passing.append(now)
    return [*passing[:-1], 0.0]


def _crossing(pipelines: Pipelines, islands: Sequence[int]) -> float:
    """Bytes times links between wafers."""
    hardware = pipelines.hardware
    return sum(
        exchange.weight_bytes * links(hardware, islands[exchange.first], islands[exchange.second])
        for exchange in pipelines.exchanges
        if exchange.weight_bytes and islands[exchange.first] != islands[exchange.second]
    )


def links(hardware: Hardware, first: int, second: int) -> float:
    """Links from one wafer to another: around the ring, or one step through the switch; infinite
    where nothing joins them."""
    if first == second:
        return 0
    if hardware.switch is not None:
        return 1
    around = abs(first - second)
    return inf if hardware.link is None else min(around, hardware.wafers - around)


def _local(
    pipelines: Pipelines, islands: Sequence[int], members: Sequence[int]
) -> PlacementProblem:
    """What is to be placed on one wafer; rectangles are numbered as they come."""
    wafer = pipelines.hardware.wafer
    number = {index: at for at, index in enumerate(members)}
    inside: list[Exchange] = []
    leaving = dict.fromkeys(range(len(members)), 0.0)
    for exchange in pipelines.exchanges:
        first, second = number.get(exchange.first), number.get(exchange.second)
        if first is not None and second is not None:
            inside.append(Exchange(first, second, exchange.weight_bytes))
        elif (end := second if first is None else first) is not None:
            leaving[end] += exchange.weight_bytes
    edges = port_edges(wafer)
    outside = [anchor(at, edges, bytes_) for at, bytes_ in leaving.items() if bytes_ and edges]
    anchors = [
        replace(each, rectangle=number[each.rectangle])
        for each in pipelines.anchors
        if each.rectangle in number
    ]
    return PlacementProblem(
        wafer,
        (pipelines.size,) * len(members),
        tuple(inside),
        (*anchors, *outside),
        pipelines.seed,
    )


def _shortage(pipelines: Pipelines) -> Infeasibility:
    hardware, (rows, columns) = pipelines.hardware, pipelines.size
    count = pipelines.count
    fit = hardware.wafers * count_fitting(hardware.wafer, rows, columns)
    if count > fit:
        return Infeasibility(
            resource="cores",
            where=f"{hardware.wafers} wafers {hardware.wafer.name}",
            demand=count,
            limit=fit,
            gap=count - fit,
            unit=f"rectangles of {rows} x {columns} cores",
            changes=(f"place at most {fit}", "make the rectangles smaller", "take more wafers"),
        )
    return Infeasibility(
        resource="links",
        where=f"system {hardware.name}",
        demand=1,
        limit=0,
        gap=1,
        unit="links between wafers",
        changes=("join the wafers by a link", "place what exchanges bytes on one wafer"),
    )
