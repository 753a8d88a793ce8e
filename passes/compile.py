"""A model and a hardware become a program: every pass in order, strategies searched in between.

Canonical form (fuse, decompose, fold_views), layouts (shard), strategies ranked by bound; then
the best few are cut into stages, placed and evaluated, and the fastest is the program.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..backend.evaluate import evaluate
from ..backend.workload import pieces_of
from ..ir.dims import Polynomial
from ..ir.errors import UserError
from ..ir.graph import Model
from ..ir.hardware import Hardware
from ..ir.kinds import kind_of
from ..ir.mapped import MappedGraph
from ..ir.pins import Pins
from ..ir.program import Layout, Phase, Program, Strategy, Tried, Workload
from .canonical import canonical_form, canonical_training_form, training_form
from .cut import Cut
from .dimensions import head_groups
from .lay_out import LayOut, mesh_of
from .manager import AfterPass, PassManager
from .mappable import check_mappable
from .pieces import Chain, chain_of
from .place import Place
from .recompute import Recompute
from .shard import described
from .strategy import Candidate, Search, divisors
from .widen import Widen

KEEP = 3
"""Strategies that are placed and evaluated, of those that the bound ranks first."""

LAYOUTS: Mapping[Phase, tuple[Layout, ...]] = {
    "decode": ("matvec",),
    "prefill": ("matmul", "matvec"),
    "train": ("matmul",),
}

TRAINING_PASSES = ("differentiate", "optimize", "recompute", "decompose_gradients", "share")
PASSES = (
    "widen", "fuse", *TRAINING_PASSES[:4], "decompose", *TRAINING_PASSES[4:], "fold_views",
    "shard", "cut", "place",
)  # fmt: skip
"""Names that `--print-after` knows."""

Graphs = Mapping[str, MappedGraph]


@dataclass(frozen=True)
class Compiler:
    """Maps one step of a model onto a hardware, as far as pins leave a choice."""

    hardware: Hardware
    workload: Workload
    pins: Pins = field(default_factory=Pins)
    layers: int | None = None
    """Only so many of the repeated layers, no embedding or head."""
    seed: int = 0
    """Of the placement's search."""
    after: AfterPass | None = None

    def compile(self, model: Model) -> Program:
        """The program of the best strategy found.

        Raises UserError for a pin that is impossible on this model or hardware. A program that
        does not fit the memory is returned all the same; its evaluation says what is short.
        """
        self._check(model)
        manager = PassManager(self.after)
        rates = frozenset(self.hardware.core.matrix_flops_per_cycle)
        widened = manager.apply(Widen(rates), model)
        if self._trains:
            traced = training_form(widened, manager)
            check_trainable(traced)
            again = self.pins.recompute == "full"
            kept = manager.apply(Recompute(), traced) if again else traced
            canonical = canonical_training_form(kept, manager)
        else:
            traced = canonical = canonical_form(widened, manager, self._kernels)
        check_operators(canonical)
        chain = self._chain(canonical)
        self._check_stages(chain)
        sizes = {"sequence": self.workload.sequence, "context": self.workload.context}
        laid_out: dict[Layout, Graphs] = {
            layout: _bound(manager.apply(LayOut(layout), chain), sizes)
            for layout in LAYOUTS[self.workload.phase]
        }
        pins = self._built(self.pins if _symbolic(canonical) else self._whole_batch())
        candidates = self._candidates(chain, laid_out, pins)
        flops = self._chain(traced).bind({**sizes, "batch": self.workload.batch}).flops
        step = _Step(model.name, flops, chain, laid_out)
        program = self._best(step, candidates, manager)
        if not candidates[0].fits:
            free = self._candidates(chain, laid_out, self._built(Pins()))[0]
            program = dataclasses.replace(program, advice=_advice(free, program))
        return program

    @property
    def _trains(self) -> bool:
        return self.workload.phase == "train"

    def _chain(self, model: Model) -> Chain:
        """The pieces of a model that are mapped."""
        chain = chain_of(model, with_head=self.layers is None)
        return chain if self.layers is None else chain.first_layers(self.layers)

    def _built(self, pins: Pins) -> Pins:
        """Pins as they hold in the phase: a replica that trains is one stage so far."""
        return dataclasses.replace(pins, pp=1) if self._trains else pins

    @property
    def _kernels(self) -> bool:
        """Whether the hardware runs attention as one kernel."""
        return self.hardware.core.multiprocessors is not None

    def _whole_batch(self) -> Pins:
        """Pins for a graph of fixed sizes, which cannot be divided into micro-batches."""
        batch = self.workload.batch
        if self.pins.dp not in (None, 1) or self.pins.microbatch not in (None, batch):
            raise UserError(
                "--mapping dp, microbatch: the graph of this model holds for its batch as a whole"
            )
        return dataclasses.replace(self.pins, dp=1, microbatch=batch)

    def _check(self, model: Model) -> None:
        """Refuse what no strategy could satisfy."""
        check_mappable(self.hardware)
        core, wafer = self.hardware.core, self.hardware.wafer
        if self.workload.phase not in LAYOUTS:
            raise UserError(f"phase {self.workload.phase} cannot be mapped yet")
        dtype = self.workload.dtype
        if dtype not in core.matrix_flops_per_cycle:
            known = ", ".join(sorted(core.matrix_flops_per_cycle))
            raise UserError(f"core {core.name} has no rate for {dtype}, it has {known}")
        if self.layers is not None and self.layers > model.layers:
            raise UserError(f"--layers {self.layers}: the model has {model.layers} layers")
        if self._trains:
            self._check_training()
        self.pins.check_batch(self.workload.batch)
        region = self.pins.region
        if region and (region[0] > wafer.usable_rows or region[1] > wafer.usable_columns):
            raise UserError(
                f"--region {region[0]}x{region[1]} is larger than the {wafer.usable_rows}x"
                f"{wafer.usable_columns} cores of wafer {wafer.name} that programs can use"
            )

    def _check_training(self) -> None:
        if self.hardware.core.multiprocessors is not None:
            raise UserError("--phase train is mapped onto wafers only so far")
        if self.pins.pp not in (None, 1):
            raise UserError(
                f"--mapping pp={self.pins.pp} is not built yet in training: each replica is one "
                "stage"
            )

    def _check_stages(self, chain: Chain) -> None:
        if self.pins.pp is not None and self.pins.pp > chain.pieces:
            raise UserError(
                f"--mapping pp={self.pins.pp}: the model has only {chain.pieces} pieces to put "
                "into stages (its layers, and what comes before and after them)"
            )

    def _candidates(
        self, chain: Chain, laid_out: Mapping[Layout, Graphs], pins: Pins
    ) -> list[Candidate]:
        """The best strategies of all layouts: those that fit, fastest first, then the others by
        how little memory is short."""
        groups = divisors(head_groups(chain.graphs.values()))
        found: list[Candidate] = []
        for layout, graphs in laid_out.items():
            search = Search(self.hardware, chain, graphs, layout, pins)
            found.extend(search.ranked(self.workload.batch, groups, KEEP))
        distinct = dict.fromkeys(found)
        return sorted(distinct, key=lambda c: (not c.fits, c.bound_s if c.fits else c.core_bytes))

    def _best(
        self, step: "_Step", candidates: Sequence[Candidate], manager: PassManager
    ) -> Program:
        """The fastest program of the best candidates, with the table of all that were tried."""
        chosen = [c for c in candidates if c.fits][:KEEP] or candidates[:1]
        programs: dict[int, tuple[float, Program]] = {}
        for candidate in chosen:
            program = self._program(step, candidate.strategy, manager)
            at = candidates.index(candidate)
            programs[at] = (evaluate(program, "fluid").latency_s, program)
        best = min(programs, key=lambda at: (programs[at][0], at))
        tried = tuple(
            Tried(c.strategy, c.bound_s, int(c.core_bytes), _outcome(c, at, programs, best))
            for at, c in enumerate(candidates)
        )
        return dataclasses.replace(programs[best][1], tried=tried)

    def _program(self, step: "_Step", strategy: Strategy, manager: PassManager) -> Program:
        """The program of one strategy, cut into stages and placed."""
        mesh = mesh_of(*strategy.region, strategy.head_groups, strategy.layout)
        sizes = {
            "batch": strategy.microbatch,
            "sequence": self.workload.sequence,
            "context": self.workload.context,
        }
        chain, mapped = step.chain, _bound(step.laid_out[strategy.layout], sizes)
        pieces = pieces_of(self.hardware, mapped, mesh.sizes)
        microbatches = -(-self.workload.batch // (strategy.dp * strategy.microbatch))
        cut = Cut(pieces, self.hardware.core_bytes, strategy.pp, microbatches)
        program = Program(
            model=step.name,
            parameters=chain.parameters,
            layers=chain.layers,
            flops=step.flops,
            workload=self.workload,
            hardware=self.hardware,
            mapping=strategy,
            mesh=mesh,
            graphs=mapped,
            stages=tuple(manager.apply(cut, chain.bind(sizes))),
            given=chain.given,
        )
        return manager.apply(Place(self.seed), program)


@dataclass(frozen=True)
class _Step:
    """What every strategy maps: the chain, laid out in every layout, and its FLOPs as traced."""

    name: str
    flops: int
    chain: Chain
    laid_out: Mapping[Layout, Graphs]


def check_operators(model: Model) -> None:
    """Raise UserError, naming all operators of a canonical model that cannot be split."""
    found: dict[str, None] = {}
    for graph in model.graphs.values():
        for op in graph.ops:
            alone = graph.name == "main" and op.kind == "repeat"
            if not alone and kind_of(op).indices is None:
                found[described(op)] = None
    if found:
        raise UserError(f"cannot be split over cores yet: {', '.join(found)}")


_UNSPLIT = ("experts_grad",)
"""Gradients that no rule splits, and that have no parts that one does."""


def check_trainable(model: Model) -> None:
    """Raise UserError, naming all operators of a training step that cannot be split, or weights
    that several layers have in common, whose gradients go from layer to layer."""
    made = {name for op in model.main.ops if op.kind == "repeat" for name in op.results}
    common = [o.source for o in model.main.outputs if o.role == "gradient" and o.name in made]
    if common:
        raise UserError(
            f"training of weights that layers have in common cannot be mapped yet: {common[0]}"
            + (f" and {len(common) - 1} others" if len(common) > 1 else "")
        )
    ops = (op for graph in model.graphs.values() for op in graph.ops)
    found = dict.fromkeys(described(op) for op in ops if op.kind in _UNSPLIT)
    if found:
        raise UserError(f"cannot be split over cores yet: {', '.join(found)}")


def _symbolic(model: Model) -> bool:
    types = (type_ for graph in model.graphs.values() for type_ in graph.types.values())
    return any(isinstance(dim, Polynomial) for type_ in types for dim in type_.shape)


def _bound(graphs: Graphs, sizes: Mapping[str, int]) -> dict[str, MappedGraph]:
    return {n: MappedGraph(g.graph.bind(sizes), g.shardings) for n, g in graphs.items()}


def _outcome(
    candidate: Candidate, at: int, programs: Mapping[int, tuple[float, Program]], best: int
) -> str:
    if at in programs:
        chosen = "chosen, " if at == best else ""
        return f"{chosen}evaluated at {programs[at][0]:.6g} s"
    return "not among the best by bound" if candidate.fits else "does not fit the memory"


def _advice(free: Candidate, program: Program) -> tuple[str, ...]:
    """What would make a program fit: the best strategy without pins, or more SRAM."""
    strategy = free.strategy
    rows, columns = strategy.region
    pins = f"--region {rows}x{columns} --mapping pp={strategy.pp},dp={strategy.dp}"
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
