"""A graph run on its mesh: cores issue in order, messages in flight share the links.

All cores of a mesh run the same program, so one core stands for all. It starts an operator when
its operands are there and the core is free; a message leaves the core free after its launches.
Messages in flight at the same time share the links along rows, those along columns and the ramp
max-min fairly: each slows down until no resource carries more than a word a cycle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..ir.program import MappedGraph
from .bound import GraphBound
from .cost import OpCost

EPSILON = 1e-9


@dataclass(frozen=True)
class Span:
    """One operator in a run: when it started, when its result was there, and how many cycles of
    the run were spent on it alone (arithmetic, launches, waiting for its message)."""

    start: float
    end: float
    compute: float
    software: float
    network: float


@dataclass(frozen=True)
class GraphRun:
    """A run of a graph: its cycles, and the span of every operator in order."""

    cycles: float
    spans: tuple[Span, ...]


@dataclass
class _Message:
    """A message in flight: the share that is left of it, and what it asks of each resource."""

    left: float
    cycles: float
    words: Mapping[str, float]
    end: float | None = None

    def demand(self, resource: str) -> float:
        """Words a cycle at full speed."""
        return self.words[resource] / self.cycles


@dataclass
class _Network:
    now: float = 0.0
    flying: list[_Message] = field(default_factory=list[_Message])

    def send(self, at: float, message: _Message) -> None:
        self.advance(at)
        self.flying.append(message)

    def advance(self, until: float) -> None:
        """Let time pass, ending messages on the way."""
        while self.flying and self.now < until:
            speeds = _shared_speeds(self.flying)
            step = min(m.left * m.cycles / s for m, s in zip(self.flying, speeds, strict=True))
            step = min(step, until - self.now)
            for message, speed in zip(self.flying, speeds, strict=True):
                message.left -= step * speed / message.cycles
            self.now += step
            for message in self.flying:
                if message.left <= EPSILON:
                    message.end = self.now
            self.flying = [message for message in self.flying if message.end is None]
        self.now = max(self.now, until)

    def wait(self, message: _Message) -> float:
        """The time at which a message has arrived."""
        while message.end is None:
            speeds = _shared_speeds(self.flying)
            pairs = zip(self.flying, speeds, strict=True)
            self.advance(self.now + min(m.left * m.cycles / s for m, s in pairs))
        return message.end


def _shared_speeds(messages: Sequence[_Message]) -> list[float]:
    """Max-min fair speeds, 1 being a message's own pace: all rise together, and those on a
    resource stop when it is full."""
    speeds = [1.0] * len(messages)
    rising = set(range(len(messages)))
    level = 0.0
    while rising:
        limits: dict[str, float] = {}
        for resource in messages[0].words:
            fixed = sum(
                m.demand(resource) * speeds[i] for i, m in enumerate(messages) if i not in rising
            )
            growing = sum(messages[i].demand(resource) for i in rising)
            if growing > EPSILON:
                limits[resource] = max(level, (1.0 - fixed) / growing)
        full = min(limits, key=lambda resource: limits[resource], default=None)
        level = 1.0 if full is None else min(1.0, limits[full])
        stopped = {
            i for i in rising if level >= 1.0 or (full and messages[i].demand(full) > EPSILON)
        }
        for i in rising:
            speeds[i] = max(level, EPSILON)
        rising -= stopped
    return speeds


def graph_run(mapped: MappedGraph, costs: Sequence[OpCost]) -> GraphRun:
    """Run a graph once from the scalar costs of its operators."""
    network = _Network()
    ready: dict[str, float] = {value.name: 0.0 for value in mapped.graph.inputs}
    pending: dict[str, _Message] = {}
    spans: list[Span] = []
    core = 0.0
    for cost in costs:
        began = core
        for name in cost.op.operands:
            if name in pending:
                ready[name] = network.wait(pending.pop(name))
        start = max([core, *(ready[name] for name in cost.op.operands)])
        if float(cost.network_cycles) > 0 and cost.work.cycles == 0:
            core = start + float(cost.launch_cycles)
            message = _message(cost)
            network.send(core, message)
            pending |= dict.fromkeys(cost.op.results, message)
            end = core + float(cost.network_cycles)
        else:
            core = end = start + float(cost.cycles)
            ready |= dict.fromkeys(cost.op.results, end)
        spans.append(_span(cost, began, start, core, end))
    ends = [network.wait(message) for message in pending.values()]
    return GraphRun(max([core, *ends]), tuple(_with_tail(spans, core, max([core, *ends]))))


def _message(cost: OpCost) -> _Message:
    words = {
        "columns": float(cost.columns_words),
        "rows": float(cost.rows_words),
        "ramp": float(cost.ramp_words) / 2,
    }
    return _Message(1.0, float(cost.network_cycles), words)


def _span(cost: OpCost, began: float, start: float, core: float, end: float) -> Span:
    """Cycles between the core's last instruction and this one are waits for messages; those of a
    stepped product that are neither arithmetic nor launches are waits for its tiles."""
    software = float(cost.launch_cycles)
    compute = float(cost.work.cycles)
    stalled = core - start - software - compute
    return Span(start, end, compute, software, start - began + max(0.0, stalled))


def _with_tail(spans: list[Span], core: float, end: float) -> list[Span]:
    """The wait for the last messages goes to the last operator."""
    if not spans or end <= core:
        return spans
    last = spans[-1]
    tail = Span(last.start, end, last.compute, last.software, last.network + end - core)
    return [*spans[:-1], tail]


def bounded_run(mapped: MappedGraph, costs: Sequence[OpCost], bound: GraphBound) -> GraphRun:
    """The lower bound of a graph as a run: the operators of its longest chain, or, where a
    resource is busier than that, what keeps that resource busy."""
    cycles = float(bound.cycles)
    if float(bound.path) >= cycles:
        chain = _longest_chain(mapped, costs)
        return GraphRun(cycles, tuple(_chain_span(c, c.op.result in chain) for c in costs))
    busiest = max(bound.busy, key=lambda resource: float(bound.busy[resource]))
    return GraphRun(cycles, tuple(_busy_span(cost, busiest) for cost in costs))


def _longest_chain(mapped: MappedGraph, costs: Sequence[OpCost]) -> set[str]:
    """First results of the operators on the longest chain of dependencies."""
    producers = mapped.graph.producers
    finish: dict[str, float] = {value.name: 0.0 for value in mapped.graph.inputs}
    before: dict[str, str | None] = {}
    for cost in costs:
        latest = max(cost.op.operands, key=lambda name: finish[name], default=None)
        start = 0.0 if latest is None else finish[latest]
        before[cost.op.result] = producers[latest].result if latest in producers else None
        finish |= dict.fromkeys(cost.op.results, start + float(cost.cycles))
    at: str | None = max(before, key=lambda name: finish[name], default=None)
    chain: set[str] = set()
    while at is not None:
        chain.add(at)
        at = before[at]
    return chain


def _chain_span(cost: OpCost, on_chain: bool) -> Span:
    if not on_chain:
        return Span(0.0, 0.0, 0.0, 0.0, 0.0)
    compute, software = float(cost.work.cycles), float(cost.launch_cycles)
    rest = max(0.0, float(cost.cycles) - compute - software)
    return Span(0.0, 0.0, compute, software, rest)


def _busy_span(cost: OpCost, resource: str) -> Span:
    if resource == "core":
        return Span(0.0, 0.0, float(cost.work.cycles), float(cost.launch_cycles), 0.0)
    words = {"columns": cost.columns_words, "rows": cost.rows_words, "ramp": cost.ramp_words}
    share = 0.5 if resource == "ramp" else 1.0
    return Span(0.0, 0.0, 0.0, 0.0, share * float(words[resource]))
