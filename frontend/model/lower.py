"""A trace turned into a model graph: one graph for every kind of layer, and the main one.

Which graph a node belongs to follows from the module that it came from; what flows from layer to
layer, from the marks that layers.py set. aten says what each operator becomes.
"""

import operator
import re
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import fx

from ...ir.dims import Dim
from ...ir.errors import UserError
from ...ir.graph import Graph, Model, Op, Output, Phase, Role, TensorType
from .aten import RULES, Call, Shown, UnsupportedError
from .attending import attention, is_scored, made_real, masked, masks_of
from .builder import GraphBuilder, View
from .caches import Place
from .config import ModelConfig
from .known import numbers_of, polynomial, repeated, short, sources_of, symbols_of
from .layers import NOT_CALLED
from .mutation import interleaved, joined, strided_from
from .nodes import (
    WRAPPER,
    holds_tensors,
    is_known,
    is_mark,
    mark_of,
    module_of,
    needed_for_results,
    one_place,
    operator_of,
    origin_of,
    passes_on,
    pure,
    slot_dtypes,
)
from .sizes import SizesNeededError
from .trace import Trace

_MAIN = -1
"""The place of a node that is in no layer, among the numbers of layers."""


def lower(trace: Trace, config: ModelConfig, phase: Phase) -> Model:
    """The model graph of a trace, symbolic in batch, sequence and context where the trace is.

    Raises UserError naming every operator that the graph has no form for, and SizesNeededError
    instead where the trace is symbolic: with numbers for the sizes there may be a form.
    """
    lowering = _Lowering(trace)
    try:
        lowering.run()
    except UnsupportedError as error:
        lowering.unsupported[str(error)] = None
    if lowering.unsupported:
        found = "; ".join(lowering.unsupported)
        if trace.symbolic and not lowering.unknown:
            raise SizesNeededError(found)
        raise UserError(f"{config.name}: operators that are not built yet: {found}")
    model = Model(config.name, phase, config.dtype, lowering.graphs())
    model.verify()
    return model


class _Lowering:
    """Walks the trace once; `builders` holds a graph for every traced layer and the main one."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.nodes: list[fx.Node] = list(trace.program.graph.nodes)
        self.symbols = symbols_of(self.nodes)
        self.masks = masks_of(self.nodes)
        self.numbers = numbers_of(trace, self.nodes)
        self.joined = joined(self.nodes)
        self.main = GraphBuilder("main")
        self.builders = {
            layer: GraphBuilder(f"layer{kind}") for kind, layer in enumerate(trace.traced)
        } | {_MAIN: self.main}
        self.shown: dict[fx.Node, Any] = {}
        self.unsupported: dict[str, None] = {}
        self.unknown = False
        self.entries: dict[int, str] = {}
        self.entry_at = 0
        self.carried: dict[int, dict[int, fx.Node]] = {layer: {} for layer in trace.traced}
        self.finals: dict[int, str] = {}
        self.slots = slot_dtypes(self.nodes)
        self.slot_types: dict[int, TensorType] = {}
        self._in_layer = re.compile(rf"{re.escape(WRAPPER + trace.layers_path)}\.(\d+)(?:\.|$)")
        self.caches = self._caches()
        self.sources = sources_of(trace, {place: name for place, (_, name) in self.caches.items()})

    def run(self) -> None:
        """Lower every node; what cannot be lowered is collected in `unsupported`."""
        broken: set[fx.Node] = set()
        needed = needed_for_results(self.nodes, {*self.masks, *self.numbers}, self.joined)
        lasts = {made.last: empty for empty, made in self.joined.items()}
        for node in self.nodes:
            if node in lasts and lasts[node] in needed:
                empty = lasts[node]
                if broken.isdisjoint(self.joined[empty].parts):
                    self._join(empty)
                else:
                    broken.add(empty)
            if node.op == "output":
                break
            if node.op != "call_function" or not holds_tensors(node):
                continue
            if node not in needed or node in self.joined:
                continue
            if not is_known(node):
                self.unknown = True
                self._refuse(node, "")
                broken.add(node)
                continue
            if not broken.isdisjoint(node.all_input_nodes):
                broken.add(node)
                continue
            try:
                self.shown[node] = self._lowered(node)
            except UnsupportedError as reason:
                self._refuse(node, str(reason))
                broken.add(node)
        if not self.unsupported:
            self._outputs()
            self._unread_parameters()

    def _refuse(self, node: fx.Node, reason: str) -> None:
        text = f"{node.target} in {self._path(node) or 'the model'}"
        self.unsupported[f"{text} ({reason})" if reason else text] = None

    def _lowered(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self._picked(node)
        name = operator_of(node)
        if name == "layer_input.default":
            return self._enter(node)
        if name == "layer_output.default":
            return self._leave(node)
        if name == "left_out.default":
            raise UnsupportedError("the model reads of a layer what the next does not take")
        home = self._home(node)
        graph = self.builders[home]
        graph.path = self._path(node)
        arguments = [self._argument(argument, home) for argument in node.args]
        named = {key: self._argument(value, home) for key, value in node.kwargs.items()}
        label = graph.path.rpartition(".")[2] if name == "linear.default" else name.split(".")[0]
        value: Any = node.meta["val"]
        several = not isinstance(value, torch.Tensor)
        types: Any = tuple(self._type(item) for item in value) if several else self._type(value)
        call = Call(graph, arguments, named, types, label)
        if name == "attention.default":
            return Shown(attention(call), types)
        if (strided := strided_from(node)) is not None:
            return Shown(interleaved(call, self._read(strided, home)), types)
        if name == "add.Tensor" and is_scored(call):
            return Shown(masked(call), types)
        if name == "index.Tensor" and (part := one_place(call)) is not None:
            return Shown(RULES["slice.Tensor"](part), types)
        made: Any = RULES[pure(name)](made_real(call))
        if not several:
            return Shown(made, types)
        return tuple(Shown(view, type_) for view, type_ in zip(made, types, strict=True))

    def _join(self, empty: fx.Node) -> None:
        """What an empty tensor has become when all its parts are filled."""
        made, home = self.joined[empty], self._home(empty)
        type_ = self._type(empty.meta["val"])
        parts = [self._read(part, home) for part in made.parts]
        call = Call(self.builders[home], [parts, made.dim], {}, type_, "joined")
        self.shown[empty] = Shown(RULES["cat.default"](call), type_)

    def _picked(self, node: fx.Node) -> Any:
        several, at = node.args
        assert isinstance(several, fx.Node)
        assert isinstance(at, int)
        return self._read(several, self._home(several))[at]

    def _argument(self, argument: Any, home: int) -> Any:
        if isinstance(argument, list | tuple):
            return [self._argument(item, home) for item in argument]
        if not isinstance(argument, fx.Node):
            return argument
        if argument in self.masks:
            return replace(self.masks[argument], type=self._type(argument.meta["val"]))
        if argument in self.numbers:
            return self.numbers[argument]
        return self._read(argument, home) if holds_tensors(argument) else self._scalar(argument)

    def _scalar(self, node: fx.Node) -> Any:
        value = node.meta["val"]
        return self._dim(value)

    def _read(self, node: fx.Node, reader: int) -> Any:
        """A tensor as the graph `reader` sees it, made one of its inputs if it is none of its
        own."""
        if node.op == "placeholder":
            source = self.sources.get(node.name)
            if source is None:
                raise UnsupportedError("a constant tensor in the model's code")
            type_ = self._type(node.meta["val"])
            view = self.builders[reader].add_input(source.name, type_, source.role, source.source)
            return Shown(view, type_)
        home = self._home(node)
        if home != reader and passes_on(node):
            return self._read(node.all_input_nodes[0], reader)
        if home == reader:
            return self.shown[node]
        if home == _MAIN:
            return self._shared(self.shown[node], reader)
        if self.trace.kinds.count(self.trace.kinds[home]) > 1:
            whom = "the model" if reader == _MAIN else f"layer {reader}"
            raise UnsupportedError(f"{whom} reads what layer {home} does not hand on")
        return self._handed_down(node, home, reader)

    def _handed_down(self, node: fx.Node, home: int, reader: int) -> Any:
        """A tensor of a layer that a later one reads, in a slot of its own."""
        shown = self.shown[node]
        if isinstance(shown, tuple):
            raise UnsupportedError(f"several values of layer {home} that another reads at once")
        found = (slot for slot, given in self.carried[home].items() if given is node)
        slot = next(found, max(self.slot_types, default=-1) + 1)
        if slot not in self.slot_types:
            self.slot_types[slot] = shown.stored
            self.carried[home][slot] = node
        if reader != _MAIN:
            return Shown(self._carried_input(self.builders[reader], slot), shown.type)
        if slot not in self.finals:
            self.finals[slot] = self.main.new_name("hidden", shown.stored)
        return Shown(self.main.whole(self.finals[slot]), shown.type)

    def _shared(self, shown: Any, reader: int) -> Any:
        """A value of the main graph in the graph of a layer, which takes it as an input."""
        if isinstance(shown, tuple):
            return tuple(self._shared(item, reader) for item in shown)
        assert isinstance(shown, Shown)
        name = self.main.real(shown.view, shown.stored.shape)
        self.entry_at = len(self.main.ops)
        view = self.builders[reader].add_input(name, shown.stored, "shared", name)
        return Shown(view, shown.type)

    def _enter(self, node: fx.Node) -> Shown:
        """The mark at the start of a layer: what the layer takes from the one before."""
        given, layer, slot = mark_of(node)
        type_ = self._type(node.meta["val"])
        carried = self.slot_types[slot] = replace(type_, dtype=self.slots[slot])
        if layer == len(self.trace.kinds):
            name = self.finals[slot] = self.main.new_name("hidden", carried)
            return self._cast(self.main, Shown(self.main.whole(name), carried), type_)
        if layer == self.trace.traced[0]:
            entry = self._cast(self.main, self._read(given, _MAIN), carried)
            self.entries[slot] = self.main.real(entry.view, carried.shape)
            self.entry_at = len(self.main.ops)
        elif self._home(origin_of(given)) == _MAIN:
            raise UnsupportedError(f"what the model computes before layer {layer}")
        graph = self.builders[layer]
        return self._cast(graph, Shown(self._carried_input(graph, slot), carried), type_)

    def _leave(self, node: fx.Node) -> Shown:
        """The mark at the end of a layer: what the layer gives to the next one."""
        given, layer, slot = mark_of(node)
        self.carried[layer][slot] = node
        self.slot_types[slot] = replace(self._type(node.meta["val"]), dtype=self.slots[slot])
        return self._read(given, layer)

    def _carried_input(self, graph: GraphBuilder, slot: int) -> View:
        name, source = ("carried", f"hidden.{slot}") if slot else ("hidden", "hidden")
        return graph.add_input(name, self.slot_types[slot], "carried", source)

    def _cast(self, graph: GraphBuilder, shown: Shown, type_: TensorType) -> Shown:
        """A value as it is carried, or as a layer reads it: carried are the widest of all."""
        if shown.type.dtype == type_.dtype:
            return shown
        graph.path = ""
        return Shown(graph.elementwise("a", [shown.view], type_, "cast"), type_)

    def _output(self, node: fx.Node, role: Role, source: str) -> None:
        home = self._home(node)
        shown = self._read(node, home) if node.op == "placeholder" else self.shown[node]
        graph = self.builders[home]
        graph.outputs.append(Output(graph.real(shown.view, shown.type.shape), role, source))

    def _outputs(self) -> None:
        """What every layer carries out, the logits, and the new caches of the traced layers."""
        live = [slot for slot in sorted(self.slot_types) if self._is_live(slot)]
        for layer in self.trace.traced:
            self._carry(layer, live)
        results: Any = self.nodes[-1].args[0]
        logits, *caches = results
        self._output(logits, "data", "logits")
        numbered = any(place.layer != home for place, (home, _) in self.caches.items())
        for place, node in zip(self.trace.new_caches, caches, strict=True):
            if place in self.caches:
                self._output(node, "cache", f"cache.*.{self.caches[place][1]}")
            elif place.layer in self.trace.traced and not numbered:
                raise UnsupportedError(f"the cache {place.source} of layer {place.layer}")
        self.live = live

    def _caches(self) -> dict[Place, tuple[int, str]]:
        """The layer and the name of every cache that a traced layer makes.

        A layer with several attentions has as many caches in a row; all but the first of them
        have a number. Caches that lie otherwise have no place here.
        """
        results: Any = self.nodes[-1].args[0]
        pairs = zip(self.trace.new_caches, results[1:], strict=True)
        homes = {place: self._home(node) for place, node in pairs}
        found: dict[Place, tuple[int, str]] = {}
        for home in {*homes.values()} - {_MAIN}:
            own = sorted({place.layer for place, layer in homes.items() if layer == home})
            if own != [*range(len(own) * home, len(own) * (home + 1))]:
                continue
            for place in (place for place, layer in homes.items() if layer == home):
                at = place.layer - own[0]
                first = f"{place.source}.0" if place.number == 0 else place.source
                found[place] = home, f"{first}.{at}" if at else place.source
        return found

    def _is_live(self, slot: int) -> bool:
        """Whether any layer, or the model behind them, reads what flows in a slot."""
        final = self.finals.get(slot)
        if any(final in op.operands for op in self.main.ops):
            return True
        for layer in self.trace.traced:
            graph = self.builders[layer]
            key = f"carried hidden.{slot}" if slot else "carried hidden"
            name = graph.inputs[key].name if key in graph.inputs else None
            if any(name in op.operands for op in graph.ops):
                return True
        return False

    def _carry(self, layer: int, live: list[int]) -> None:
        """Give a layer's graph the carried inputs and outputs of all live slots, in their order.

        What a layer does not give it passes on.
        """
        graph = self.builders[layer]
        views = {slot: self._carried_input(graph, slot) for slot in live}
        taken = {key: value for key, value in graph.inputs.items() if value.role == "carried"}
        for key in taken:
            del graph.inputs[key]
        for slot, view in views.items():
            source = f"hidden.{slot}" if slot else "hidden"
            graph.inputs[f"carried {source}"] = taken[f"carried {source}"]
            name = view.name
            if slot in self.carried[layer]:
                shown = self.shown[self.carried[layer][slot]]
                if shown.stored.dtype != self.slot_types[slot].dtype:
                    shown = self._cast(graph, shown, self.slot_types[slot])
                name = graph.real(shown.view, shown.stored.shape)
            graph.outputs.append(Output(name, "carried", source))

    def _unread_parameters(self) -> None:
        """Weights that nothing reads belong to their layer, or to the model, all the same."""
        read = {key for graph in self.builders.values() for key in graph.inputs}
        inside = re.compile(rf"{re.escape(self.trace.layers_path)}\.(\d+)\.")
        for name, type_ in self.trace.parameters.items():
            match = inside.match(name)
            layer = int(match[1]) if match and name not in self.trace.everywhere else _MAIN
            if layer != _MAIN and self.trace.kinds[layer] != NOT_CALLED:
                if layer in self.trace.traced:
                    source = repeated(name, self.trace.layers_path)
                    self.builders[layer].add_input(short(name), type_, "weight", source)
            elif f"weight {name}" not in read:
                self.main.add_input(short(name), type_, "weight", name)

    def graphs(self) -> dict[str, Graph]:
        """What has been built; layers whose graphs are equal are of one kind."""
        bodies: list[Graph] = []
        same: dict[int, int] = {NOT_CALLED: NOT_CALLED}
        for kind, layer in enumerate(self.trace.traced):
            built = replace(self.builders[layer].graph(), name="")
            if built not in bodies:
                bodies.append(built)
            same[kind] = bodies.index(built)
        bodies = [replace(body, name=f"layer{at}") for at, body in enumerate(bodies)]
        self._repeats(bodies, [same[kind] for kind in self.trace.kinds])
        return {graph.name: graph for graph in (self.main.graph(), *bodies)}

    def _repeats(self, bodies: list[Graph], kinds: list[int]) -> None:
        """Put the runs of equal layers where the main graph enters the first."""
        path = f"{self.trace.layers_path}.*"
        types = [self.slot_types[slot] for slot in self.live]
        ops, carried = self._entered()
        runs = [(kind, [*run]) for kind, run in groupby(range(len(kinds)), lambda at: kinds[at])]
        runs = [(kind, run) for kind, run in runs if kind != NOT_CALLED]
        for kind, run in runs:
            body = bodies[kind]
            shared = [value.source for value in body.inputs if value.role == "shared"]
            names = [self.finals.get(slot, "") if run is runs[-1][1] else "" for slot in self.live]
            names = [
                name or self.main.new_name("hidden", type_)
                for name, type_ in zip(names, types, strict=True)
            ]
            attributes = {"body": body.name, "first": run[0], "count": len(run)}
            operands = (*carried, *shared)
            ops.append(Op("repeat", operands, tuple(names), tuple(types), attributes, path))
            carried = names
        self.main.ops[self.entry_at : self.entry_at] = ops

    def _entered(self) -> tuple[list[Op], list[str]]:
        """What the first layer carries in: zeros where it takes nothing, and they are the
        operators returned."""
        before = len(self.main.ops)
        self.main.path = ""
        names: list[str] = []
        for slot in self.live:
            if slot in self.entries:
                names.append(self.entries[slot])
                continue
            type_ = self.slot_types[slot]
            view = self.main.elementwise("0", [], type_, "nothing")
            names.append(self.main.real(view, type_.shape))
        made = self.main.ops[before:]
        del self.main.ops[before:]
        return made, names

    def _home(self, node: fx.Node) -> int:
        """The traced layer that a node is in, or `_MAIN`."""
        if is_mark(node):
            _, layer, _ = mark_of(node)
            return _MAIN if layer == len(self.trace.kinds) else layer
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            return self._home(node.args[0])
        match = self._in_layer.match(module_of(node))
        return int(match[1]) if match else _MAIN

    def _path(self, node: fx.Node) -> str:
        """The module of a node as the model names it, `*` for the number of the layer."""
        path = self._in_layer.sub(rf"{WRAPPER}{self.trace.layers_path}.*.", module_of(node))
        return path.removeprefix(WRAPPER.rstrip(".")).strip(".")

    def _type(self, value: Any) -> TensorType:
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorType(dtype, tuple(self._dim(size) for size in value.shape))

    def _dim(self, size: Any) -> Dim:
        """A size of the trace in batch, sequence and context."""
        if isinstance(size, torch.SymInt):
            return polynomial(size.node.expr, self.symbols)
        return size
