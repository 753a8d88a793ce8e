"""A model and a hardware become a program: every pass in order, strategies searched in between.

Canonical form (fuse, decompose, fold_views), layouts (shard), strategies ranked by bound; then
the best few are cut into stages, placed and evaluated, and the fastest is the program.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..backend.dram import dram_of
from ..ir.dims import Polynomial
from ..ir.errors import UserError
from ..ir.floor import floor_of
from ..ir.graph import Model
from ..ir.hardware import Hardware
from ..ir.kinds import kind_of
from ..ir.mapped import MappedGraph
from ..ir.pins import Pins
from ..ir.program import Layout, Phase, Program, Workload
from ..ir.program import Recompute as RecomputeKind
from .canonical import canonical_form, canonical_training_form, training_form
from .choose import Chooser, Way, bind_graphs
from .lay_out import LayOut
from .manager import AfterPass, PassManager
from .mappable import check_mappable
from .pieces import Chain, chain_of
from .plans import check_places
from .recompute import Recompute
from .shard import described
from .spread_experts import SpreadExperts, check_pinned, has_experts
from .units import units_of
from .widen import Widen

RECOMPUTATIONS: tuple[RecomputeKind, ...] = ("none", "full")

LAYOUTS: Mapping[Phase, tuple[Layout, ...]] = {
    "decode": ("matvec",),
    "prefill": ("matmul", "matvec"),
    "train": ("matmul",),
}
SWITCHED_LAYOUTS: Mapping[Phase, tuple[Layout, ...]] = {
    "decode": ("matvec",),
    "prefill": ("matvec", "sequence"),
}
"""Where places in a row mean no distance. Training splits tokens unless it computes whole layers
anew: Megatron-LM before and after arXiv 2205.05198."""

TRAINING_PASSES = ("differentiate", "optimize", "recompute", "decompose_gradients", "share")
PASSES = (
    "widen", "fuse", "split_scores", *TRAINING_PASSES[:4], "decompose", *TRAINING_PASSES[4:],
    "fold_views", "shard", "cut", "place",
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
        manager = PassManager(self.after)
        ways = self.ways(model, manager)
        return self.chooser(ways, manager).best(self.pins_of(ways))

    def ways(self, model: Model, manager: PassManager) -> list[Way]:
        """The model in canonical form in every layout that strategies may have; raises UserError.

        Another hardware of the same `kind` has the same ways.
        """
        self._check(model)
        widened = manager.apply(Widen(self.kind[0]), model)
        forms = self._forms(widened, manager)
        for form in forms:
            check_operators(form.canonical)
        ways = [way for form in forms for way in self._laid_out(form, manager)]
        self._check_stages(ways[0].chain)
        graphs, symbolic = ways[0].chain.graphs.values(), all(way.symbolic for way in ways)
        dram = dram_of(self.hardware)
        shared = dram is not None and not dram.on_die
        check_pinned(self.pins, self.workload.batch, graphs, symbolic, shared)
        return ways

    @property
    def kind(self) -> tuple[frozenset[str], bool, bool]:
        """All of the hardware that ways rest on: the dtypes that are multiplied, whether attention
        is one kernel, and whether places in a row mean no distance."""
        rates = frozenset(self.hardware.core.matrix_flops_per_cycle)
        return rates, self._kernels, floor_of(self.hardware).switched

    def chooser(self, ways: Sequence[Way], manager: PassManager) -> Chooser:
        """What finds the best strategy of some ways."""
        return Chooser(self.hardware, self.workload, ways, manager, self.seed)

    def pins_of(self, ways: Sequence[Way]) -> Pins:
        """The pins, with those that the model asks for."""
        return self.pins if all(way.symbolic for way in ways) else self._whole_batch()

    def _forms(self, widened: Model, manager: PassManager) -> list["_Form"]:
        """The model in canonical form, in training for every kind of recomputation that may be
        chosen."""
        if not self._trains:
            traced = canonical_form(widened, manager, self._kernels)
            return [_Form(traced, traced, "none")]
        traced = training_form(widened, manager)
        check_trainable(traced)
        found: list[_Form] = []
        pinned = self.pins.recompute
        for recompute in (pinned,) if pinned else RECOMPUTATIONS:
            again = Recompute(whole=self._kernels)
            kept = manager.apply(again, traced) if recompute == "full" else traced
            found.append(_Form(traced, canonical_training_form(kept, manager), recompute))
        return found

    def _laid_out(self, form: "_Form", manager: PassManager) -> list[Way]:
        """A form in every layout that the hardware may have it in."""
        chain = self._chain(form.canonical)
        sizes = {"sequence": self.workload.sequence, "context": self.workload.context}
        spread = self._spread(chain, form)
        flops = self._chain(form.traced).bind({**sizes, "batch": self.workload.batch}).flops
        return [
            Way(
                form.canonical.name,
                flops,
                chain,
                form.recompute,
                layout,
                bind_graphs(manager.apply(LayOut(layout), chain), sizes),
                _symbolic(form.canonical),
                bind_graphs(manager.apply(LayOut(layout), spread), sizes) if spread else {},
            )
            for layout in self._layouts(form.recompute)
        ]

    def _spread(self, chain: Chain, form: "_Form") -> Chain | None:
        """The chain for replicas that divide experts among them, where any may."""
        asked = self.pins.ep != 1 and self.pins.dp != 1 and self.workload.batch > 1
        if not (asked and _symbolic(form.canonical) and has_experts(chain.graphs.values())):
            return None
        return SpreadExperts().run(chain)

    def _layouts(self, recompute: str) -> tuple[Layout, ...]:
        phase = self.workload.phase
        if not floor_of(self.hardware).switched:
            return LAYOUTS[phase]
        if phase != "train":
            return SWITCHED_LAYOUTS[phase]
        return ("matvec",) if recompute == "full" else ("sequence",)

    @property
    def _trains(self) -> bool:
        return self.workload.phase == "train"

    def _chain(self, model: Model) -> Chain:
        """The pieces of a model that are mapped."""
        chain = chain_of(model, with_head=self.layers is None)
        return chain if self.layers is None else chain.first_layers(self.layers)

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
        self.pins.check_batch(self.workload.batch)
        check_places(self.hardware, self.pins)
        region, floor = self.pins.region, floor_of(self.hardware)
        of_what = f"{self.hardware.wafers} nodes" if floor.switched else f"wafer {wafer.name}"
        if region and (region[0] > floor.rows or region[1] > floor.columns):
            raise UserError(
                f"--region {region[0]}x{region[1]} is larger than the {floor.rows}x"
                f"{floor.columns} cores of {of_what} that programs can use"
            )

    def _check_stages(self, chain: Chain) -> None:
        units = len(units_of(chain))
        wanted = (self.pins.pp or 1) * (self.pins.interleave or 1)
        if wanted > units:
            raise UserError(
                f"--mapping pp={self.pins.pp or 1}"
                + (f",interleave={self.pins.interleave}" if self.pins.interleave else "")
                + f": the model has only {units} pieces to put into stages (its layers, and what "
                "comes before and after them)"
            )


@dataclass(frozen=True)
class _Form:
    """A model as traced and in canonical form, with what its backward pass computes once more."""

    traced: Model
    canonical: Model
    recompute: RecomputeKind


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


def check_trainable(model: Model) -> None:
    """Raise UserError for weights that several layers have in common, whose gradients go from layer
    to layer."""
    made = {name for op in model.main.ops if op.kind == "repeat" for name in op.results}
    common = [o.source for o in model.main.outputs if o.role == "gradient" and o.name in made]
    if common:
        raise UserError(
            f"training of weights that layers have in common cannot be mapped yet: {common[0]}"
            + (f" and {len(common) - 1} others" if len(common) > 1 else "")
        )


def _symbolic(model: Model) -> bool:
    types = (type_ for graph in model.graphs.values() for type_ in graph.types.values())
    return any(isinstance(dim, Polynomial) for type_ in types for dim in type_.shape)
