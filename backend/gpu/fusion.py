"""Which operators of a graph one kernel of a GPU computes together.

A kernel takes a module's maps and reductions along rows (a layer norm, a softmax with its scale and
mask), and maps behind them or behind each other (a bias, an activation, a residual sum); of values
that only it reads nothing is written. All that it reads is there when it starts. An optimizer
updates all weights of a graph in one kernel. (As the kernels of Megatron-LM, arXiv 2104.04473,
section 4.2, and of NVIDIA Apex.)
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from ...ir.graph import Graph, Op
from ...ir.kinds import indices_of

MAPS = frozenset({"elementwise", "mask", "rotary", "reduce", "update"})


@dataclass(frozen=True)
class Fused:
    """Operators of one kernel in order, and what it reads from memory and writes there."""

    ops: tuple[Op, ...]
    read: tuple[str, ...]
    written: tuple[str, ...]


def kernels_of(graph: Graph, idle: Collection[str]) -> Mapping[str, Fused]:
    """The kernels of all maps of a graph, by the first result of the operator in whose place each
    runs; the results of `idle` operators are their operands."""
    graph = _without(graph, idle)
    joined = _Joined(graph)
    for at, op in enumerate(graph.ops):
        joined.add(at, op)
    return {kernel.anchor.result: _fused(graph, kernel.ops) for kernel in joined.kernels}


def _without(graph: Graph, idle: Collection[str]) -> Graph:
    same: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = replace(op, operands=tuple(same.get(name, name) for name in op.operands))
        if op.result in idle:
            same |= zip(op.results, op.operands, strict=True)
        else:
            ops.append(op)
    outputs = (replace(output, name=same.get(output.name, output.name)) for output in graph.outputs)
    return replace(graph, ops=tuple(ops), outputs=tuple(outputs))


@dataclass
class _Kernel:
    """Operators of one kernel so far."""

    ops: list[Op] = field(default_factory=list[Op])
    anchor: Op = field(init=False)
    """The first of its operators behind which all that the kernel reads is made."""
    read: set[str] = field(default_factory=set[str])
    due: float = inf
    """The place of the first other operator that reads a result."""


@dataclass
class _Joined:
    """Operators dealt out to kernels so far."""

    graph: Graph
    kernels: list[_Kernel] = field(default_factory=list[_Kernel])
    places: dict[str, int] = field(default_factory=dict[str, int])
    """Of every value the place of the operator that makes it."""
    homes: dict[str, _Kernel] = field(default_factory=dict[str, _Kernel])
    """Of every value of a kernel which one that is."""

    def add(self, at: int, op: Op) -> None:
        """Give an operator to a kernel, one of its own if need be; others than maps have none."""
        self.places |= dict.fromkeys(op.results, at)
        home = None
        if op.kind in MAPS and "kernel" not in op.attributes:
            home = next((home for home in self._near(op) if self._joins(op, home)), _Kernel())
            self._join(op, home)
        for name in op.operands:
            other = self.homes.get(name)
            if other is not None and other is not home:
                other.due = min(other.due, at)

    def _join(self, op: Op, home: _Kernel) -> None:
        if not home.ops:
            self.kernels.append(home)
        home.ops.append(op)
        home.read.update(name for name in op.operands if self.homes.get(name) is not home)
        home.anchor = self._anchor(home.ops, home.read)
        self.homes |= dict.fromkeys(op.results, home)

    def _near(self, op: Op) -> Iterator[_Kernel]:
        """Kernels that an operator reads from, those of its module that read what it reads, and for
        an update that of the one before."""
        yield from {id(home): home for n in op.operands if (home := self.homes.get(n))}.values()
        for home in reversed(self.kernels):
            alike = op.path == home.ops[-1].path and not home.read.isdisjoint(op.operands)
            if alike or op.kind == home.ops[0].kind == "update":
                yield home

    def _joins(self, op: Op, home: _Kernel) -> bool:
        if _down_columns(self.graph, op) != _down_columns(self.graph, home.ops[0]):
            return False
        if op.kind == "reduce" and op.path != home.ops[-1].path:
            return False
        more = {name for name in op.operands if self.homes.get(name) is not home}
        return self.places[self._anchor([*home.ops, op], home.read | more).result] < home.due

    def _anchor(self, ops: Sequence[Op], read: Collection[str]) -> Op:
        latest = max((self.places.get(name, -1) for name in read), default=-1)
        return next(op for op in ops if self.places[op.result] > latest)


def _down_columns(graph: Graph, op: Op) -> bool:
    """Whether an operator reduces something else than the last dimensions of what it reads."""
    if op.kind != "reduce":
        return False
    indices = indices_of(op)
    longest = max(indices.operands, key=len)
    return bool(longest) and longest[-1] in indices.result


def _fused(graph: Graph, ops: Sequence[Op]) -> Fused:
    inside = {name for op in ops for name in op.results}
    read = dict.fromkeys(name for op in ops for name in op.operands if name not in inside)
    own = {op.result for op in ops}
    outside = {n for op in graph.ops if op.result not in own for n in op.operands}
    outside.update(graph.output_names)
    return Fused(tuple(ops), tuple(read), tuple(name for name in inside if name in outside))
