"""A trace turned into a model graph: one graph for every kind of layer, and the main one.

Which graph a node belongs to follows from the module that it came from; what flows from layer to
layer, from the marks that layers.py set. aten says what each operator becomes.
"""

import operator
import re
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import fx

from ...ir.dims import Dim
from ...ir.errors import UserError
from ...ir.graph import Graph, Model, Op, Output, Phase, Role, TensorType
from ...ir.summary import COMPUTED
from .aten import RULES, Call, Shown, UnsupportedError, stored_type
from .attending import attention, is_scored, made_real, masked, masks_of
from .builder import GraphBuilder
from .caches import Place
from .chains import MAIN, Chain, Home, inserted
from .config import ModelConfig
from .known import is_constant, numbers_of, polynomial, repeated, short, sources_of, symbols_of
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
    passes_on,
    pure,
    slot_dtypes,
)
from .prediction_graphs import PREDICTED, with_prediction_layers
from .sizes import SizesNeededError
from .trace import Trace


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
    return model if trace.prediction is None else with_prediction_layers(model, trace.prediction)


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
        self.chains = [
            Chain.of(number, stack, self.main, slot_dtypes(self.nodes, number))
            for number, stack in enumerate(trace.stacks)
        ]
        self.builders: dict[Home, GraphBuilder] = {MAIN: self.main} | {
            (chain.number, layer): graph
            for chain in self.chains
            for layer, graph in chain.builders.items()
        }
        self.shown: dict[fx.Node, Any] = {}
        self.unsupported: dict[str, None] = {}
        self.unknown = False
        self._in_layer = [
            re.compile(rf"{re.escape(WRAPPER + stack.path)}\.(\d+)(?:\.|$)")
            for stack in trace.stacks
        ]
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
        if is_mark(node):
            return self._marked(node)
        if is_constant(node):
            return None
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

    def _argument(self, argument: Any, home: Home) -> Any:
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

    def _read(self, node: fx.Node, reader: Home) -> Any:
        """A tensor as the graph `reader` sees it, made one of its inputs if it is none of its
        own."""
        if node.op == "placeholder":
            source = self.sources.get(node.name)
            if source is None:
                raise UnsupportedError("a constant tensor in the model's code")
            type_ = self._type(node.meta["val"])
            held = stored_type(type_)
            view = self.builders[reader].add_input(source.name, held, source.role, source.source)
            return Shown(view, type_)
        if is_constant(node):
            type_ = self._type(node.meta["val"])
            source = f"{COMPUTED}constant.{node.args[0]}"
            view = self.builders[reader].add_input("constant", type_, "buffer", source)
            return Shown(view, type_)
        home = self._home(node)
        if home != reader and passes_on(node):
            return self._read(node.all_input_nodes[0], reader)
        if home == reader:
            return self.shown[node]
        if home == MAIN:
            return self._shared(self.shown[node], reader)
        stack, layer = home
        kinds = self.trace.stacks[stack].kinds
        if kinds.count(kinds[layer]) > 1 or reader[0] not in (stack, MAIN[0]):
            whom = "the model" if reader == MAIN else f"layer {reader[1]}"
            raise UnsupportedError(f"{whom} reads what layer {layer} does not hand on")
        return self._handed_down(node, home, reader)

    def _handed_down(self, node: fx.Node, home: Home, reader: Home) -> Any:
        """A tensor of a layer that a later one reads, in a slot of its own."""
        shown, (number, layer) = self.shown[node], home
        if isinstance(shown, tuple):
            raise UnsupportedError(f"several values of layer {layer} that another reads at once")
        chain = self.chains[number]
        slot = chain.handed_down(node, layer, shown.stored)
        if reader != MAIN:
            return Shown(chain.carried_input(reader[1], slot), shown.type)
        return Shown(chain.final(slot), shown.type)

    def _shared(self, shown: Any, reader: Home) -> Any:
        """A value of the main graph in the graph of a layer, which takes it as an input."""
        if isinstance(shown, tuple):
            return tuple(self._shared(item, reader) for item in shown)
        assert isinstance(shown, Shown)
        name = self.main.real(shown.view, shown.stored.shape)
        number, layer = reader
        self.chains[number].run_of(layer).at = len(self.main.ops)
        view = self.builders[reader].add_input(name, shown.stored, "shared", name)
        return Shown(view, shown.type)

    def _marked(self, node: fx.Node) -> Shown:
        """What a mark stands for: the value as its reader sees it."""
        mark = mark_of(node)
        chain, type_ = self.chains[mark.stack], self._type(node.meta["val"])
        match operator_of(node).partition(".")[0]:
            case "run_input":
                return chain.enter(mark.layer, mark.slot, self._read(mark.value, MAIN))
            case "run_output":
                return chain.leave(mark.layer, mark.slot, type_)
            case "layer_input":
                return chain.take(mark.layer, mark.slot, type_)
            case _:
                chain.give(mark.layer, mark.slot, node, type_)
                return self._read(mark.value, (mark.stack, mark.layer))

    def _output(self, node: fx.Node, role: Role, source: str) -> None:
        home = self._home(node)
        shown = self._read(node, home) if node.op == "placeholder" else self.shown[node]
        graph = self.builders[home]
        graph.outputs.append(Output(graph.real(shown.view, shown.type.shape), role, source))

    def _outputs(self) -> None:
        """What every layer carries out, the logits, and the new caches of the traced layers."""
        self.live = [chain.live() for chain in self.chains]
        for chain, live in zip(self.chains, self.live, strict=True):
            for layer in chain.stack.traced:
                chain.carry(layer, live, self.shown)
        results: Any = self.nodes[-1].args[0]
        logits, *more = results
        caches = more[: len(self.trace.new_caches)]
        self._output(logits, "data", "logits")
        for at, node in enumerate(more[len(caches) :]):
            self._output(node, "data", f"{PREDICTED}.{at}")
        numbered = any(place.layer != home for place, (home, _) in self.caches.items())
        for place, node in zip(self.trace.new_caches, caches, strict=True):
            if place in self.caches:
                self._output(node, "cache", f"cache.*.{self.caches[place][1]}")
            elif place.layer in self.trace.stacks[0].traced and not numbered:
                raise UnsupportedError(f"the cache {place.source} of layer {place.layer}")
            elif place.layer >= len(self.trace.stacks[0].kinds):
                self._output(node, "cache", f"cache.{place.layer}.{place.source}")

    def _caches(self) -> dict[Place, tuple[int, str]]:
        """The layer and the name of every cache that a traced layer makes.

        A layer with several attentions has as many caches in a row; all but the first of them
        have a number. Caches that lie otherwise have no place here.
        """
        results: Any = self.nodes[-1].args[0]
        pairs = zip(self.trace.new_caches, results[1:], strict=False)
        homes = {place: self._home(node)[1] for place, node in pairs}
        found: dict[Place, tuple[int, str]] = {}
        for home in {*homes.values()} - {MAIN[1]}:
            own = sorted({place.layer for place, layer in homes.items() if layer == home})
            if own != [*range(len(own) * home, len(own) * (home + 1))]:
                continue
            for place in (place for place, layer in homes.items() if layer == home):
                at = place.layer - own[0]
                first = f"{place.source}.0" if place.number == 0 else place.source
                found[place] = home, f"{first}.{at}" if at else place.source
        return found

    def _unread_parameters(self) -> None:
        """Weights that nothing reads belong to their layer, or to the model, all the same."""
        read = {key for graph in self.builders.values() for key in graph.inputs}
        for name, type_ in self.trace.parameters.items():
            found = self._layer_of(WRAPPER + name)
            if found != MAIN and name not in self.trace.everywhere:
                stack = self.trace.stacks[found[0]]
                if stack.kinds[found[1]] != NOT_CALLED:
                    if found[1] in stack.traced:
                        source = repeated(name, stack.path)
                        self.builders[found].add_input(short(name), type_, "weight", source)
                    continue
            if f"weight {name}" not in read:
                self.main.add_input(short(name), type_, "weight", name)

    def graphs(self) -> dict[str, Graph]:
        """What has been built; layers whose graphs are equal are of one kind.

        The language model's are called `layer0` and so on, those of all towers `tower0`.
        """
        bodies: list[Graph] = []
        calls: list[tuple[int, list[Op]]] = []
        towers = count()
        for chain, live in zip(self.chains, self.live, strict=True):
            name, numbers = ("tower", towers) if chain.number else ("layer", count())
            made, runs = chain.bodies((f"{name}{n}" for n in numbers), live)
            bodies += made
            calls += zip((run.at for run in chain.runs), runs, strict=True)
        self.main.ops = inserted(self.main.ops, calls)
        return {graph.name: graph for graph in (self.main.graph(), *bodies)}

    def _home(self, node: fx.Node) -> Home:
        """The traced layer that a node is in, or `MAIN`."""
        if is_mark(node):
            mark = mark_of(node)
            return MAIN if operator_of(node).startswith("run_") else (mark.stack, mark.layer)
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            return self._home(node.args[0])
        return self._layer_of(module_of(node))

    def _layer_of(self, path: str) -> Home:
        """The layer that a module or a parameter of the trace is in, or `MAIN`."""
        for number, inside in enumerate(self._in_layer):
            if match := inside.match(path):
                return number, int(match[1])
        return MAIN

    def _path(self, node: fx.Node) -> str:
        """The module of a node as the model names it, `*` for the number of the layer."""
        path = module_of(node)
        for inside, stack in zip(self._in_layer, self.trace.stacks, strict=True):
            path = inside.sub(rf"{WRAPPER}{stack.path}.*.", path)
        return path.removeprefix(WRAPPER.rstrip(".")).strip(".")

    def _type(self, value: Any) -> TensorType:
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorType(dtype, tuple(self._dim(size) for size in value.shape))

    def _dim(self, size: Any) -> Dim:
        """A size of the trace in batch, sequence and context."""
        if isinstance(size, torch.SymInt):
            return polynomial(size.node.expr, self.symbols)
        return size
