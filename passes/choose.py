"""The best of all strategies: ranked by bound, estimated by runs, placed and evaluated.

Three looks at ever fewer strategies. All are bounded; those that the bound ranks first are
estimated from runs of their graphs, as long as the bound of the next is less than the best
estimate; of these the first few are cut, placed and evaluated, and the fastest is the program.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..backend.bound import GraphBound
from ..backend.dram import dram_of
from ..backend.exchange import places_of
from ..backend.fluid import graph_run
from ..backend.memory import Keeping
from ..backend.timing import Timing
from ..backend.workload import PieceCosts, pieces_of
from ..ir.hardware import Hardware
from ..ir.mapped import MappedGraph, Mesh
from ..ir.pins import Pins
from ..ir.program import Layout, Program, Recompute, Strategy, Tried, Workload
from .bounded import Bounded, kinds_of
from .cut import Cut
from .dimensions import head_groups
from .lay_out import mesh_of
from .manager import PassManager
from .pieces import Chain
from .place import Place
from .plans import Plans
from .regions import Regions, divisors
from .screen import Near, Screen
from .strategy import Candidate, Ranking, Search
from .units import units_of

KEPT = 256
"""Strategies of a layout and a size of micro-batch that are ranked."""
LEAST_EVALUATED, MOST_EVALUATED = 2, 8
"""Strategies that are placed and evaluated; more than the least only while the estimate of the
next one is less than what the best of them takes."""
MOST_ESTIMATED = 24
"""Meshes and sizes of micro-batches whose graphs are run."""
MOST_TIMED = 64
"""Meshes that are run to find what no strategy takes less than; further ones count with bounds."""
MOST_REPORTED = 200

Graphs = Mapping[str, MappedGraph]
Pieces = Mapping[str, PieceCosts]


@dataclass(frozen=True)
class Way:
    """What strategies of one recomputation and layout map: the chain, laid out, and the FLOPs of
    the step as traced."""

    name: str
    flops: int
    chain: Chain
    recompute: Recompute
    layout: Layout
    graphs: Graphs
    symbolic: bool = True
    """Whether the batch can be divided."""
    spread: Graphs = field(default_factory=dict[str, MappedGraph])
    """Graphs for replicas that divide experts among them; empty for a model without experts."""

    def makes(self, strategy: Strategy) -> bool:
        """Whether a strategy is of this way."""
        return (self.recompute, self.layout) == (strategy.recompute, strategy.layout)


@dataclass(frozen=True)
class RunCosts(PieceCosts):
    """The costs of a graph with a run of it in the place of its bound."""

    @cached_property
    def bound(self) -> GraphBound:
        return GraphBound(graph_run(self.mapped, self.costs).cycles, {})


@dataclass
class Chooser:
    """Finds the best strategy of some ways to map a step onto a hardware."""

    hardware: Hardware
    workload: Workload
    ways: Sequence[Way]
    manager: PassManager
    seed: int = 0
    known: dict[tuple[int, ...], Pieces] = field(default_factory=dict[tuple[int, ...], Pieces])
    """Costs of graphs by the way, the mesh and the micro-batch."""

    @property
    def trains(self) -> bool:
        return self.workload.phase == "train"

    def best(self, pins: Pins) -> Program:
        """The fastest program that pins allow, with the table of all that were tried."""
        ranking = self._ranked(pins)
        candidates = ranking.candidates
        able = [at for at, candidate in enumerate(candidates) if candidate.fits]
        estimates = self._estimates(candidates, able)
        order = sorted(estimates, key=lambda at: (estimates[at], at)) or [0]
        programs: dict[int, tuple[float, Program]] = {}
        for count, at in enumerate(order[:MOST_EVALUATED]):
            least = min((seconds for seconds, _ in programs.values()), default=float("inf"))
            if count >= LEAST_EVALUATED and estimates[at] >= least:
                break
            program, pieces = self._program(candidates[at].strategy)
            programs[at] = (Timing(program, "fluid", pieces).latency_s, program)
        best = min(programs, key=lambda at: (programs[at][0], at))
        program = dataclasses.replace(
            programs[best][1],
            tried=_table(candidates, estimates, programs, best),
            dropped=_dropped(ranking),
        )
        if able:
            return program
        free = self._ranked(Pins()).candidates[0]
        return dataclasses.replace(program, advice=_advice(free, program))

    def screened(self, pins: Pins) -> tuple[Program, float]:
        """No strategy takes less than so many seconds, and the strategy that may take least, as a
        program without places. Where none fits, the one that is least short, and its bound.

        The strategy of the least bound is found, and timed by runs of its graphs; then those whose
        bounds are less than that, mesh by mesh. All these times leave out only where stages lie.
        """
        best: Candidate | None = None
        screens = [Screen(*self._asked(way, pins)) for way in self.ways]
        groups = [divisors(head_groups(way.chain.graphs.values())) for way in self.ways]
        for screen, own in zip(screens, groups, strict=True):
            best = screen.better(self.workload.batch, own, best)
        if best is None:
            candidate = self._ranked(pins, 1).candidates[0]
            return self._cut(candidate.strategy), candidate.bound_s
        best = self._run(best)
        near = [
            (screen, each)
            for screen, own in zip(screens, groups, strict=True)
            for each in screen.below(self.workload.batch, own, best.bound_s)
        ]
        return self._nearest(sorted(near, key=lambda one: one[1].first.bound_s), best)

    def _run(self, candidate: Candidate) -> Candidate:
        """A candidate, timed by runs of its graphs."""
        bounded = self.timed([candidate.strategy])
        return dataclasses.replace(candidate, bound_s=float(bounded.least_s[0]))

    def _nearest(
        self, near: Sequence[tuple[Screen, Near]], best: Candidate
    ) -> tuple[Program, float]:
        """The best of some strategies by runs, and what none of all takes less than: those that
        are left out at the end count with their bounds."""
        least_s = np.inf
        for count, (screen, each) in enumerate(near):
            if each.first.bound_s >= best.bound_s:
                break
            if count == MOST_TIMED:
                least_s = each.first.bound_s
                break
            first = each.first.strategy
            bounded = self._timed(first, each.regions, each.plans, screen.pins.pp is not None)
            at = int(bounded.least_s.argmin())
            if bounded.least_s[at] < best.bound_s:
                best = screen.candidate(bounded, at, first.microbatch)
        return self._cut(best.strategy), min(best.bound_s, least_s)

    def _ranked(self, pins: Pins, keep: int = KEPT) -> Ranking:
        """The best strategies of all ways: those that fit, fastest first, then the others by how
        little memory is short."""
        found, batch = Ranking(), self.workload.batch
        searches = [Search(*self._asked(way, pins)) for way in self.ways]
        groups = [divisors(head_groups(way.chain.graphs.values())) for way in self.ways]
        for search, own in zip(searches, groups, strict=True):
            found.add(search.ranked(batch, own, keep))
        if not found.candidates:
            for search, own in zip(searches, groups, strict=True):
                found.candidates.extend(search.short(batch, own))
        ordered = sorted(dict.fromkeys(found.candidates), key=_merit)
        return Ranking(ordered, found.dropped)

    def _asked(
        self, way: Way, pins: Pins
    ) -> tuple[Hardware, Chain, Graphs, Layout, Pins, bool, Recompute, Graphs]:
        """What a search for strategies of a way is told."""
        trains, chain = self.trains, way.chain
        known = (self.hardware, chain, way.graphs, way.layout, pins, trains, way.recompute)
        return *known, way.spread

    def _estimates(self, candidates: Sequence[Candidate], able: Sequence[int]) -> dict[int, float]:
        """Seconds of candidates by runs of their graphs, those of one mesh and micro-batch
        together, as long as a bound is less than the best of them."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for at in able:
            groups.setdefault(_mesh_key(candidates[at].strategy), []).append(at)
        found: dict[int, float] = {}
        for members in list(groups.values())[:MOST_ESTIMATED]:
            if found and candidates[members[0]].bound_s >= min(found.values()):
                break
            strategies = [candidates[at].strategy for at in members]
            seconds = self.timed(strategies).latency_s
            found |= dict(zip(members, map(float, seconds), strict=True))
        return found

    def timed(self, strategies: Sequence[Strategy]) -> Bounded:
        """Strategies of one mesh, timed by runs of its graphs."""
        first = strategies[0]
        rows, columns = first.region
        region = Regions(*(np.array([n]) for n in (rows, columns, first.head_groups)))
        plans = Plans(
            *np.array(
                [
                    (
                        *(s.dp, self._microbatches(s), s.pp, s.interleave, s.zero),
                        *(s.streaming, s.weights == "dram", s.cache == "dram", s.ep),
                    )
                    for s in strategies
                ]
            ).T
        )
        return self._timed(first, region, plans, True)

    def _timed(self, first: Strategy, region: Regions, plans: Plans, fixed_stages: bool) -> Bounded:
        """Plans on one region, timed by runs of the graphs; `first` is one of these strategies."""
        way = self._way(first)
        return Bounded(
            hardware=self.hardware,
            chain=way.chain,
            kinds=kinds_of(units_of(way.chain)),
            pieces=self._pieces(first),
            regions=region,
            layout=first.layout,
            plans=plans,
            trains=self.trains,
            region=np.zeros(len(plans), dtype=np.int64),
            plan=np.arange(len(plans)),
            fixed_stages=fixed_stages,
        )

    def _way(self, strategy: Strategy) -> Way:
        return next(way for way in self.ways if way.makes(strategy))

    def _microbatches(self, strategy: Strategy) -> int:
        return -(-self.workload.batch // (strategy.dp * strategy.microbatch))

    def _sizes(self, strategy: Strategy) -> dict[str, int]:
        return {
            "batch": strategy.microbatch,
            "sequence": self.workload.sequence,
            "context": self.workload.context,
        }

    def _pieces(self, strategy: Strategy) -> Pieces:
        """What the graphs of a strategy cost on its mesh."""
        way = self._way(strategy)
        mesh_key = (*strategy.region, strategy.head_groups, strategy.microbatch)
        key = (self.ways.index(way), *mesh_key, int(strategy.streaming), strategy.ep)
        if key not in self.known:
            mesh = _mesh(strategy)
            graphs = way.graphs if strategy.ep == 1 else way.spread
            mapped = bind_graphs(graphs, self._sizes(strategy))
            streaming = self.trains and strategy.streaming
            pieces = pieces_of(self.hardware, mapped, mesh.sizes, streaming)
            self.known[key] = {
                name: RunCosts(
                    piece.hardware, piece.mapped, piece.sizes, piece.elsewhere, piece.streaming
                )
                for name, piece in pieces.items()
            }
        return self.known[key]

    def _program(self, strategy: Strategy) -> tuple[Program, Pieces]:
        """The program of one strategy, cut into stages and placed, and what its pieces cost."""
        program = self.manager.apply(Place(self.seed), self._cut(strategy))
        pieces, places = self._pieces(strategy), places_of(program)
        if places:
            fields = (program.hardware, program.graphs, program.mesh.sizes, False, places)
            pieces = pieces_of(*fields)
        return program, pieces

    def _cut(self, strategy: Strategy) -> Program:
        """The program of one strategy, cut into stages that have no places yet."""
        way, pieces = self._way(strategy), self._pieces(strategy)
        keeping = Keeping(
            microbatches=self._microbatches(strategy),
            trains=self.trains,
            replicas=strategy.dp,
            zero=strategy.zero,
            streaming=strategy.streaming,
            weights_in_dram=int(strategy.weights == "dram"),
            cache_in_dram=int(strategy.cache == "dram"),
            experts=strategy.ep,
        )
        room, dram = self.hardware.core_bytes, dram_of(self.hardware)
        behind = np.inf if dram is None else dram.core_capacity_bytes
        cut = Cut(pieces, room, strategy.pp, strategy.interleave, keeping, behind)
        return Program(
            model=way.name,
            parameters=way.chain.parameters,
            layers=way.chain.layers,
            flops=way.flops,
            workload=self.workload,
            hardware=self.hardware,
            mapping=strategy,
            mesh=_mesh(strategy),
            graphs={name: piece.mapped for name, piece in pieces.items()},
            stages=tuple(self.manager.apply(cut, way.chain.bind(self._sizes(strategy)))),
            given=way.chain.given,
        )


def bind_graphs(graphs: Graphs, sizes: Mapping[str, int]) -> dict[str, MappedGraph]:
    """Graphs with symbols replaced by numbers."""
    return {n: MappedGraph(g.graph.bind(sizes), g.shardings) for n, g in graphs.items()}


def _merit(candidate: Candidate) -> tuple[bool, float]:
    return not candidate.fits, candidate.bound_s if candidate.fits else candidate.core_bytes


def _mesh_key(strategy: Strategy) -> tuple[object, ...]:
    mesh = (*strategy.region, strategy.head_groups, strategy.layout)
    return (*mesh, strategy.recompute, strategy.microbatch, strategy.streaming, strategy.ep)


def _mesh(strategy: Strategy) -> Mesh:
    shape = (*strategy.region, strategy.head_groups, strategy.layout)
    return mesh_of(*shape, strategy.ep)


def _table(
    candidates: Sequence[Candidate],
    estimates: Mapping[int, float],
    programs: Mapping[int, tuple[float, Program]],
    best: int,
) -> tuple[Tried, ...]:
    """The candidates that were looked at most closely, and what became of them."""
    looked = sorted(programs, key=lambda at: programs[at][0])
    estimated = sorted(estimates.keys() - programs.keys(), key=lambda at: estimates[at])
    others = [at for at in range(len(candidates)) if at not in estimates and at not in programs]
    found: list[Tried] = []
    for at in [*looked, *estimated, *others][:MOST_REPORTED]:
        candidate = candidates[at]
        outcome = _outcome(candidate, at, estimates, programs, best)
        found.append(
            Tried(candidate.strategy, candidate.bound_s, int(candidate.core_bytes), outcome)
        )
    return tuple(found)


def _outcome(
    candidate: Candidate,
    at: int,
    estimates: Mapping[int, float],
    programs: Mapping[int, tuple[float, Program]],
    best: int,
) -> str:
    if at in programs:
        chosen = "chosen, " if at == best else ""
        return f"{chosen}evaluated at {programs[at][0]:.6g} s"
    if at in estimates:
        return f"not among the best, estimated at {estimates[at]:.6g} s"
    return "not among the best by bound" if candidate.fits else "does not fit the memory"


def _dropped(ranking: Ranking) -> dict[str, int]:
    """How many strategies are not in the table, by reason."""
    dropped = dict(ranking.dropped)
    if (rest := len(ranking.candidates) - MOST_REPORTED) > 0:
        dropped["slower by bound"] = dropped.get("slower by bound", 0) + rest
    return dropped


def _advice(free: Candidate, program: Program) -> tuple[str, ...]:
    """What would make a program fit: the best strategy without pins, or more SRAM."""
    strategy = free.strategy
    rows, columns = strategy.region
    pins = f"--region {rows}x{columns} --mapping pp={strategy.pp},dp={strategy.dp}"
    if strategy.weights == "dram" or strategy.cache == "dram":
        pins += f",weights={strategy.weights},cache={strategy.cache}"
    if strategy.ep > 1:
        pins += f",ep={strategy.ep}"
    if free.fits:
        return (f"{pins} (at least {free.bound_s:.4g} s)",)
    others = "more wafers, or a smaller model or context"
    gpu = program.hardware.core.multiprocessors is not None
    if gpu or not all(stage.places for stage in program.stages):
        return (others,)
    held = max(stage.memory.total_bytes for stage in program.stages if stage.memory)
    reserved = program.hardware.core.sram.reserved_bytes
    kib = -(-(held + int(reserved)) // 1024)
    return (f"{kib} KiB of SRAM in each core", others)
