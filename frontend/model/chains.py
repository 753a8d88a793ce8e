"""A list of repeated layers while its trace is lowered: what it carries, and where it is called.

The graph of every kind of layer carries the same slots, in the same order. Every run of layers is
called where the main graph has all that the run takes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from torch import fx

from ...ir.graph import Graph, Op, Output, TensorType
from .aten import Shown, UnsupportedError
from .builder import GraphBuilder, View
from .layers import NOT_CALLED, Stack

Home = tuple[int, int]
"""The graph that a node belongs to: the number of the stack, and the layer that is traced."""

MAIN: Home = (-1, -1)


def cast(graph: GraphBuilder, shown: Shown, type_: TensorType) -> Shown:
    """A value as it is carried, or as a layer reads it: carried are the widest of all."""
    if shown.type.dtype == type_.dtype:
        return shown
    graph.path = ""
    return Shown(graph.elementwise("a", [shown.view], type_, "cast"), type_)


@dataclass
class Run:
    """A run of layers: by slot what it takes of the main graph, and what that takes of the run.

    `at` is the operator of the main graph that it is called before.
    """

    first: int
    last: int
    entries: dict[int, str] = field(default_factory=dict[int, str])
    finals: dict[int, str] = field(default_factory=dict[int, str])
    at: int = 0


@dataclass
class Chain:
    """The layers of a stack: `builders` holds the graph of every traced one, `dtypes` those of the
    slots, `types` what is known of them so far, and `carried` what each layer gives."""

    number: int
    stack: Stack
    main: GraphBuilder
    dtypes: dict[int, str]
    builders: dict[int, GraphBuilder]
    types: dict[int, TensorType] = field(default_factory=dict[int, TensorType])
    carried: dict[int, dict[int, fx.Node]] = field(default_factory=dict[int, dict[int, fx.Node]])
    runs: list[Run] = field(default_factory=list[Run])

    @staticmethod
    def of(number: int, stack: Stack, main: GraphBuilder, dtypes: dict[int, str]) -> "Chain":
        """A chain with an empty graph for every layer that is traced."""
        builders = {layer: GraphBuilder(f"layer{kind}") for kind, layer in enumerate(stack.traced)}
        chain = Chain(number, stack, main, dtypes, builders)
        chain.carried = {layer: {} for layer in stack.traced}
        chain.runs = [Run(first, last) for first, last in stack.runs]
        return chain

    def run_of(self, layer: int) -> Run:
        """The run that a layer is in."""
        return self.runs[self.stack.run_of(layer)]

    def carried_input(self, layer: int, slot: int) -> View:
        """A slot as the graph of a layer takes it."""
        name, source = ("carried", f"hidden.{slot}") if slot else ("hidden", "hidden")
        return self.builders[layer].add_input(name, self.types[slot], "carried", source)

    def enter(self, layer: int, slot: int, given: Shown) -> Shown:
        """What the run that begins with a layer takes of the main graph."""
        run, type_ = self.run_of(layer), self._carried_type(slot, given.type)
        entry = cast(self.main, given, type_)
        run.entries[slot] = self.main.real(entry.view, type_.shape)
        run.at = len(self.main.ops)
        return entry

    def take(self, layer: int, slot: int, type_: TensorType) -> Shown:
        """What a traced layer takes of the one before."""
        carried = self._carried_type(slot, type_)
        graph = self.builders[layer]
        return cast(graph, Shown(self.carried_input(layer, slot), carried), type_)

    def give(self, layer: int, slot: int, node: fx.Node, type_: TensorType) -> None:
        """Note what a traced layer gives to the next one."""
        self.carried[layer][slot] = node
        self._carried_type(slot, type_)

    def leave(self, layer: int, slot: int, type_: TensorType) -> Shown:
        """What the main graph takes of the run that ends with a layer."""
        carried = self._carried_type(slot, type_)
        name = self.run_of(layer).finals[slot] = self.main.new_name("hidden", carried)
        return cast(self.main, Shown(self.main.whole(name), carried), type_)

    def _carried_type(self, slot: int, type_: TensorType) -> TensorType:
        found = replace(type_, dtype=self.dtypes[slot])
        if self.types.setdefault(slot, found) != found:
            raise UnsupportedError(f"layers of {self.stack.path} that change what flows in shape")
        return found

    def handed_down(self, node: fx.Node, layer: int, stored: TensorType) -> int:
        """The slot of a value of a layer that later ones, or the model, read."""
        found = (slot for slot, given in self.carried[layer].items() if given is node)
        slot = next(found, max(self.types, default=-1) + 1)
        if slot not in self.types:
            self.types[slot] = stored
            self.carried[layer][slot] = node
        return slot

    def final(self, slot: int) -> View:
        """A slot as the main graph reads it behind all layers."""
        finals = self.runs[-1].finals
        if slot not in finals:
            finals[slot] = self.main.new_name("hidden", self.types[slot])
        return self.main.whole(finals[slot])

    def live(self) -> list[int]:
        """The slots that any layer, or the rest of the model, reads."""
        return [slot for slot in sorted(self.types) if self._is_live(slot)]

    def _is_live(self, slot: int) -> bool:
        finals = {run.finals[slot] for run in self.runs if slot in run.finals}
        if any(not finals.isdisjoint(op.operands) for op in self.main.ops):
            return True
        for graph in self.builders.values():
            key = f"carried hidden.{slot}" if slot else "carried hidden"
            name = graph.inputs[key].name if key in graph.inputs else None
            if any(name in op.operands for op in graph.ops):
                return True
        return False

    def carry(self, layer: int, live: Sequence[int], shown: dict[fx.Node, Shown]) -> None:
        """Give a layer's graph the carried inputs and outputs of all live slots, in their order.

        What a layer does not give it passes on.
        """
        graph = self.builders[layer]
        views = {slot: self.carried_input(layer, slot) for slot in live}
        taken = {key: value for key, value in graph.inputs.items() if value.role == "carried"}
        for key in taken:
            del graph.inputs[key]
        for slot, view in views.items():
            source = f"hidden.{slot}" if slot else "hidden"
            graph.inputs[f"carried {source}"] = taken[f"carried {source}"]
            name = view.name
            if slot in self.carried[layer]:
                given = shown[self.carried[layer][slot]]
                if given.stored.dtype != self.types[slot].dtype:
                    given = cast(graph, given, self.types[slot])
                name = graph.real(given.view, given.stored.shape)
            graph.outputs.append(Output(name, "carried", source))

    def bodies(
        self, names: Iterator[str], live: Sequence[int]
    ) -> tuple[list[Graph], list[list[Op]]]:
        """The graphs of the layers, those that are equal once, by the `names`; and the operators
        that call every run."""
        bodies: list[Graph] = []
        same: dict[int, int] = {NOT_CALLED: NOT_CALLED}
        for kind, layer in enumerate(self.stack.traced):
            built = replace(self.builders[layer].graph(), name="")
            if built not in bodies:
                bodies.append(built)
            same[kind] = bodies.index(built)
        bodies = [replace(body, name=next(names)) for body in bodies]
        kinds = [same[kind] for kind in self.stack.kinds]
        return bodies, self._calls(bodies, kinds, live)

    def _calls(
        self, bodies: Sequence[Graph], kinds: Sequence[int], live: Sequence[int]
    ) -> list[list[Op]]:
        calls: list[list[Op]] = []
        before: dict[int, str] = {}
        for run in self.runs:
            ops, carried = self._entered(run, live, before)
            layers = [at for at in range(run.first, run.last + 1) if kinds[at] != NOT_CALLED]
            groups = [(kind, [*group]) for kind, group in groupby(layers, lambda at: kinds[at])]
            for kind, group in groups:
                finals = run.finals if group is groups[-1][1] else {}
                names = [
                    finals.get(slot) or self.main.new_name("hidden", self.types[slot])
                    for slot in live
                ]
                ops.append(self._call(bodies[kind], group, (carried, names), live))
                carried = names
            before = dict(zip(live, carried, strict=True))
            calls.append(ops)
        return calls

    def _call(
        self,
        body: Graph,
        layers: Sequence[int],
        carried: tuple[Sequence[str], Sequence[str]],
        live: Sequence[int],
    ) -> Op:
        given, results = carried
        shared = (value.source for value in body.inputs if value.role == "shared")
        types = tuple(self.types[slot] for slot in live)
        attributes = {"body": body.name, "first": layers[0], "count": len(layers)}
        path = f"{self.stack.path}.*"
        return Op("repeat", (*given, *shared), tuple(results), types, attributes, path)

    def _entered(
        self, run: Run, live: Sequence[int], before: dict[int, str]
    ) -> tuple[list[Op], list[str]]:
        """What a run carries in: of the main graph, else what the run before carries out, and else
        zeros, which are the operators returned."""
        start = len(self.main.ops)
        self.main.path = ""
        names: list[str] = []
        for slot in live:
            name = run.entries.get(slot) or before.get(slot)
            if name is None:
                type_ = self.types[slot]
                view = self.main.elementwise("0", [], type_, "nothing")
                name = self.main.real(view, type_.shape)
            names.append(name)
        made = self.main.ops[start:]
        del self.main.ops[start:]
        return made, names


def inserted(ops: list[Op], calls: Iterable[tuple[int, list[Op]]]) -> list[Op]:
    """The operators with others put before those of the given numbers, in order."""
    found: list[Op] = []
    start = 0
    for at, call in sorted(calls, key=lambda pair: pair[0]):
        found += [*ops[start:at], *call]
        start = at
    return found + ops[start:]
