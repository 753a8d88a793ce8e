"""The evaluator of a study: every design compiled for each workload, and judged at a fidelity.

`bound` is the search for a strategy without places (passes/choose.py): what no strategy that fits
takes less than at `fluid`. `fluid` and `flit` are what `wscc` says of a design. What rests on
the model only is made once a process: its graph, from the cache where it is there, and its
canonical form in every layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, Literal

from ..frontend.hardware import HardwareSpace
from ..frontend.hardware.binding import InvalidPointError
from ..ir.errors import UserError
from ..ir.graph import Model
from ..ir.hardware import Hardware
from ..ir.result import Infeasibility, Result
from ..ir.store import Store, digest
from ..ir.versions import code_version
from .design import Design
from .evaluator import PROVEN, Rung
from .spec_texts import SpecTexts
from .trial import Outcome
from .workloads import EFFICIENCIES, Combine, Figures, Task, efficiencies, together

if TYPE_CHECKING:
    from ..passes.choose import Way
    from ..passes.compile import Compiler
    from .asked import Asked

Fidelity = Literal["bound", "fluid", "flit"]
LADDER: tuple[Fidelity, ...] = ("bound", "fluid", "flit")
COSTS: Mapping[Fidelity, float] = {"bound": 0.1, "fluid": 1.0, "flit": 20.0}
"""What evaluations take, relative to each other, until a study has measured it
(benchmarks/design_bound.py)."""
BOUNDED = ("latency_s", "tokens_per_s", "mfu")
"""What a bound on the time bounds."""
ENERGIES = ("energy_j", "usd_per_million_tokens", *EFFICIENCIES)
"""What bounds on time and energy bound together."""
LEFT_OUT = ("tried", "operators", "infeasible", "limits", "dropped")
"""Of a result: lists, which are no figures of a design."""


@dataclass(frozen=True)
class MappedEvaluator:
    """Evaluates designs of a spec; small to send, and loads what it needs where it runs."""

    spec: SpecTexts
    tasks: tuple[Task, ...]
    fixed: tuple[tuple[str, str | float], ...] = ()
    """Parameters that are no part of designs."""
    combine: Combine = "separate"
    top: Fidelity = "fluid"
    seed: int = 0
    """Of the placement's search."""
    cache: bool = True
    """Whether graphs of models come from the cache, and go there."""

    @property
    def version(self) -> str:
        """Of everything but the design that figures rest on."""
        own = (Path(__file__).with_name(name) for name in ("mapped.py", "workloads.py"))
        return digest(
            code_version(),
            *(path.read_text("utf-8") for path in own),
            self.spec.digest,
            *(part for task in self.tasks for part in (task.name, task.key, repr(task.weight))),
            repr((sorted(self.fixed), self.combine, self.seed)),
        )

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The fidelities up to the top."""
        ladder = LADDER[: LADDER.index(self.top) + 1]
        proven = {"bound": self._proven} if self.top == "fluid" else {}
        costs = COSTS[self.top]
        return tuple(Rung(name, COSTS[name] / costs, proven.get(name, ())) for name in ladder)

    @property
    def _proven(self) -> tuple[str, ...]:
        """Figures of `bound` that no strategy betters at `fluid`."""
        if len(self.tasks) == 1:
            return (*BOUNDED, *ENERGIES)
        named = (f"{task.name}/{name}" for task in self.tasks for name in (*BOUNDED, *ENERGIES))
        return (*named, *(() if self.combine == "separate" else BOUNDED))

    def check(self) -> None:
        """Map the spec's defaults, and so find mistakes that every design would show: raises
        UserError, for a dtype that no core multiplies for instance."""
        hardware = self._space.bind(dict(self.fixed))
        for task in self.tasks:
            self.ways(task, self.compiler(task, hardware))

    def evaluate(self, design: Design, fidelity: str) -> Outcome:
        """The figures of a design; raises ValueError for a fidelity that it has not, and nothing
        for a design that cannot be built or cannot do the work."""
        if fidelity not in (rung.name for rung in self.rungs):
            raise ValueError(f"no fidelity {fidelity!r}")
        started = process_time()

        def outcome(reason: str, figures: Figures | None = None) -> Outcome:
            state = "infeasible" if reason else "done"
            return Outcome(state, figures or {}, process_time() - started, reason)

        try:
            hardware = self._space.bind({**dict(self.fixed), **dict(design.values)})
        except InvalidPointError as error:
            return outcome(error.message)
        if broken := [line.text for line in hardware.constraints if not line.holds]:
            return outcome(f"constraints do not hold: {'; '.join(broken)}")
        try:
            results = [self._result(task, hardware, fidelity) for task in self.tasks]
            each = [figures_of(result) for result in results]
            if fidelity == "bound":
                for task, own in zip(self.tasks, each, strict=True):
                    own |= self._least(task, hardware, own["latency_s"])
        except UserError as error:
            return outcome(str(error))
        figures = together(self.tasks, each, self.combine)
        short = [_shown(each) for result in results for each in result.infeasible]
        return outcome("; ".join(short), figures)

    def _result(self, task: Task, hardware: Hardware, fidelity: str) -> Result:
        compiler = self.compiler(task, hardware)
        ways = self.ways(task, compiler)
        return _screened(compiler, ways) if fidelity == "bound" else _run(compiler, ways, fidelity)

    def _least(self, task: Task, hardware: Hardware, latency_s: float) -> Figures:
        """What no strategy betters of figures that rest on energy, when none is faster."""
        from ..backend.physics.cost import economics

        asked = self.asked(task, self.compiler(task, hardware))
        joules = float(asked.least_energy_j(hardware, latency_s))
        money = economics(hardware, joules / latency_s, task.tokens / latency_s)
        least = {"energy_j": joules, "usd_per_million_tokens": money.usd_per_million_tokens}
        least |= dict.fromkeys(EFFICIENCIES, task.tokens / joules)
        return {PROVEN + name: value for name, value in least.items() if value is not None}

    def compiler(self, task: Task, hardware: Hardware) -> "Compiler":
        """What maps a task onto a hardware."""
        from ..passes.compile import Compiler

        return Compiler(hardware, task.workload, seed=self.seed)

    def ways(self, task: Task, compiler: "Compiler") -> "list[Way]":
        """The model in every layout that this kind of hardware may have it in."""
        from ..passes.manager import PassManager

        key = task.key, compiler.kind
        if key not in _WAYS:
            _WAYS[key] = compiler.ways(self.model(task), PassManager())
        return _WAYS[key]

    def asked(self, task: Task, compiler: "Compiler") -> "Asked":
        """What a task asks of this kind of hardware."""
        from .asked import asked_of

        key = task.key, compiler.kind
        if key not in _ASKED:
            _ASKED[key] = asked_of(compiler.hardware, self.ways(task, compiler), task)
        return _ASKED[key]

    def model(self, task: Task) -> Model:
        """The graph of a task's model."""
        if task.key not in _MODELS:
            from ..frontend.model.traces import load_graph

            sizes = {"batch": task.batch, "sequence": task.sequence, "context": task.context}
            store = Store() if self.cache else None
            _MODELS[task.key] = load_graph(task.config, task.phase, sizes, store)
        return _MODELS[task.key]

    @property
    def _space(self) -> HardwareSpace:
        return _loaded(self.spec)


_MODELS: dict[str, Model] = {}
"""Of this process, by the key of their tasks: a study has a few."""
_WAYS: "dict[tuple[object, ...], list[Way]]" = {}
_ASKED: "dict[tuple[object, ...], Asked]" = {}


@lru_cache(maxsize=4)
def _loaded(spec: SpecTexts) -> HardwareSpace:
    return spec.load()


def _run(compiler: "Compiler", ways: "list[Way]", fidelity: str) -> Result:
    """What `wscc` says of the best program."""
    from ..backend.evaluate import evaluate
    from ..passes.manager import PassManager

    program = compiler.chooser(ways, PassManager()).best(compiler.pins_of(ways))
    return evaluate(program, "flit" if fidelity == "flit" else "fluid")


def _screened(compiler: "Compiler", ways: "list[Way]") -> Result:
    """The least bound of all strategies, with the other figures of that strategy's program."""
    from ..backend.evaluate import Evaluation
    from ..passes.manager import PassManager

    program, bound_s = compiler.chooser(ways, PassManager()).screened(compiler.pins_of(ways))
    evaluation = Evaluation(program, "bound")
    result = evaluation.result()
    short = tuple(each for each in result.infeasible if each.resource != "cores")
    result = replace(result, feasible=not short, infeasible=short)
    always_w = sum(evaluation.standby_w.values())
    return result if short else _within(result, program.hardware, always_w, bound_s)


def _within(result: Result, hardware: Hardware, always_w: float, latency_s: float) -> Result:
    """A result as if the step took another time; `always_w` are watts that are drawn all of it."""
    from ..backend.physics.cost import economics

    energy_j = result.energy_j - always_w * (result.latency_s - latency_s)
    tokens_per_s = result.tokens_per_s * result.latency_s / latency_s
    power_w = energy_j / latency_s
    money = economics(hardware, power_w, tokens_per_s)
    return replace(
        result,
        latency_s=latency_s,
        tokens_per_s=tokens_per_s,
        energy_j=energy_j,
        power_w=power_w,
        mfu=result.mfu * result.latency_s / latency_s,
        usd_per_million_tokens=money.usd_per_million_tokens,
    )


def figures_of(result: Result) -> dict[str, float]:
    """Every number of a report by the path of its key ("memory.kv_bytes"), and `tokens_per_j`."""
    found: dict[str, float] = {}
    for field in fields(result):
        if field.name not in LEFT_OUT:
            _flatten(field.name, getattr(result, field.name), found)
    return found | efficiencies(found)


def _flatten(name: str, value: Any, found: dict[str, float]) -> None:
    if isinstance(value, bool | int | float):
        found[name] = float(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, found)
    elif is_dataclass(value):
        for field in fields(value):
            _flatten(f"{name}.{field.name}", getattr(value, field.name), found)


def _shown(short: Infeasibility) -> str:
    return (
        f"{short.resource} of {short.where}: {short.demand:g} {short.unit} wanted, "
        f"{short.limit:g} there"
    )
