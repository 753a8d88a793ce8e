"""A graph run on its mesh: cores issue in order, messages in flight share the links.

All cores of a mesh run the same program, so one core stands for all. It starts an operator when
its operands are there and the core is free; a message leaves the core free after its launches.
Messages in flight at the same time share the links along rows, those along columns and the ramp
max-min fairly: each slows down until no resource carries more than a word a cycle. A product whose
tiles travel has the links to itself: it starts when no message is in flight. Where a host launches
what the core runs, one after the other, nothing starts before it is launched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ir.mapped import MappedGraph
from .bound import GraphBound
from .cost import OpCost

EPSILON = 1e-9
RESOLUTION = 1e-12
"""Cycles that are less than this part of the time that has passed are none."""


@dataclass(frozen=True)
class Span:
    """One operator in a run: when it started, when it was done with, and the cycles of the run
    that are laid to it: arithmetic, launches, and the core's wait for its message."""

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
                if message.left * message.cycles <= max(EPSILON, RESOLUTION * self.now):
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


@dataclass
class _Core:
    """A core that issues operators in order, and what the run has come to so far."""

    network: _Network = field(default_factory=_Network)
    now: float = 0.0
    launched: float = 0.0
    """When the host was done with its latest launch; it waits for nothing."""
    ready: dict[str, float] = field(default_factory=dict[str, float])
    flying: dict[str, tuple[int, _Message]] = field(default_factory=dict[str, tuple[int, _Message]])
    spans: list[Span] = field(default_factory=list[Span])

    def wait_for(self, names: Sequence[str]) -> None:
        """Stand still until some values are there; the wait is laid to the latest message."""
        latest: int | None = None
        until = self.now
        for name in names:
            if name in self.flying:
                at, message = self.flying.pop(name)
                self.ready[name] = self.network.wait(message)
                if self.ready[name] > until:
                    latest, until = at, self.ready[name]
            until = max(until, self.ready[name])
        if latest is not None:
            span = self.spans[latest]
            wait = span.network + until - self.now
            self.spans[latest] = replace(span, network=wait, end=until)
        self.now = until

    def issue(self, cost: OpCost) -> None:
        """Start an operator whose operands are there."""
        sends = float(cost.network_cycles) > 0
        if sends and cost.stepped:
            self.wait_for(tuple(self.flying))
        self.launched += float(cost.host_cycles)
        start, software = self.now, float(cost.launch_cycles)
        if cost.host_cycles and self.launched > self.now:
            software += self.launched - self.now
        if sends and not cost.stepped:
            self.now += software
            message = _message(cost)
            self.network.send(self.now, message)
            self.flying |= dict.fromkeys(cost.op.results, (len(self.spans), message))
            self.spans.append(Span(start, self.now, 0.0, software, 0.0))
            return
        compute = float(cost.work.cycles)
        self.now += float(cost.cycles) + software - float(cost.launch_cycles)
        self.ready |= dict.fromkeys(cost.op.results, self.now)
        stalled = max(0.0, self.now - start - software - compute)
        self.spans.append(Span(start, self.now, compute, software, stalled))


def graph_run(mapped: MappedGraph, costs: Sequence[OpCost]) -> GraphRun:
    """Run a graph once from the scalar costs of its operators."""
    core = _Core(ready={value.name: 0.0 for value in mapped.graph.inputs})
    for cost in costs:
        core.wait_for(cost.op.operands)
        core.issue(cost)
    core.wait_for(tuple(core.flying))
    return GraphRun(core.now, tuple(core.spans))


def _message(cost: OpCost) -> _Message:
    words = {
        "columns": float(cost.columns_words),
        "rows": float(cost.rows_words),
        "ramp": float(cost.ramp_words),
    }
    return _Message(1.0, float(cost.network_cycles), words)


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
    if resource == "host":
        return Span(0.0, 0.0, 0.0, float(cost.host_cycles), 0.0)
    if resource == "core":
        return Span(0.0, 0.0, float(cost.work.cycles), float(cost.launch_cycles), 0.0)
    words = {"columns": cost.columns_words, "rows": cost.rows_words, "ramp": cost.ramp_words}
    return Span(0.0, 0.0, 0.0, 0.0, float(words[resource]))
