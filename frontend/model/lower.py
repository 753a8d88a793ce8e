"""A trace turned into a model graph: one graph for every kind of layer, and the main one.

Which graph a node belongs to follows from the module that it came from; what flows from layer to
layer, from the marks that layers.py set. aten says what each operator becomes.
"""

import operator
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

import sympy
import torch
from torch import fx
from torch.export.graph_signature import InputKind

from ...ir import dims
from ...ir.dims import Dim
from ...ir.errors import UserError
from ...ir.graph import Graph, Input, Model, Op, Output, Phase, Role, TensorType
from ...ir.summary import COMPUTED
from .aten import RULES, Call, Shown, UnsupportedError
from .attending import attention, is_scored, made_real, masked, masks_of
from .builder import GraphBuilder, View
from .caches import Place
from .config import ModelConfig
from .layers import NOT_CALLED
from .mutation import Joined, interleaved, joined, strided_from
from .sizes import SizesNeededError
from .trace import Trace, module_path

_WRAPPER = "model."
"""What the names of modules and parameters in a trace begin with."""

_MAIN = -1
"""The place of a node that is in no layer, among the numbers of layers."""

_OWN = (
    "attention.default",
    "layer_input.default",
    "layer_output.default",
    "left_out.default",
)
"""Operators that are lowered here."""

_NUMERIC = frozenset(
    {
        "alias.default",
        "clone.default",
        "detach.default",
        "detach_.default",
        "lift_fresh_copy.default",
        "to.device",
        "to.dtype",
        "to.dtype_layout",
    }
)
"""Operators behind which a constant is the same number."""


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
        self.symbols = _symbols(self.nodes)
        self.masks = masks_of(self.nodes)
        self.numbers = _numbers(trace, self.nodes)
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
        self.slots = _slot_dtypes(self.nodes)
        self.slot_types: dict[int, TensorType] = {}
        self._in_layer = re.compile(rf"{re.escape(_WRAPPER + trace.layers_path)}\.(\d+)(?:\.|$)")
        self.caches = self._caches()
        self.sources = _sources(trace, {place: name for place, (_, name) in self.caches.items()})

    def run(self) -> None:
        """Lower every node; what cannot be lowered is collected in `unsupported`."""
        broken: set[fx.Node] = set()
        needed = _needed(self.nodes, {*self.masks, *self.numbers}, self.joined)
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
            if node.op != "call_function" or not _holds_tensors(node):
                continue
            if node not in needed or node in self.joined:
                continue
            if not _is_known(node):
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
        name = _operator(node)
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
        if name == "index.Tensor" and (part := _one_place(call)) is not None:
            return Shown(RULES["slice.Tensor"](part), types)
        made: Any = RULES[_pure(name)](made_real(call))
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
        return self._read(argument, home) if _holds_tensors(argument) else self._scalar(argument)

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
        if home != reader and _passes_on(node):
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
        given, layer, slot = _mark(node)
        type_ = self._type(node.meta["val"])
        carried = self.slot_types[slot] = replace(type_, dtype=self.slots[slot])
        if layer == len(self.trace.kinds):
            name = self.finals[slot] = self.main.new_name("hidden", carried)
            return self._cast(self.main, Shown(self.main.whole(name), carried), type_)
        if layer == self.trace.traced[0]:
            entry = self._cast(self.main, self._read(given, _MAIN), carried)
            self.entries[slot] = self.main.real(entry.view, carried.shape)
            self.entry_at = len(self.main.ops)
        elif self._home(_origin(given)) == _MAIN:
            raise UnsupportedError(f"what the model computes before layer {layer}")
        graph = self.builders[layer]
        return self._cast(graph, Shown(self._carried_input(graph, slot), carried), type_)

    def _leave(self, node: fx.Node) -> Shown:
        """The mark at the end of a layer: what the layer gives to the next one."""
        given, layer, slot = _mark(node)
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
                    source = _repeated(name, self.trace.layers_path)
                    self.builders[layer].add_input(_short(name), type_, "weight", source)
            elif f"weight {name}" not in read:
                self.main.add_input(_short(name), type_, "weight", name)

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
        if _is_mark(node):
            _, layer, _ = _mark(node)
            return _MAIN if layer == len(self.trace.kinds) else layer
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            return self._home(node.args[0])
        match = self._in_layer.match(_module(node))
        return int(match[1]) if match else _MAIN

    def _path(self, node: fx.Node) -> str:
        """The module of a node as the model names it, `*` for the number of the layer."""
        path = self._in_layer.sub(rf"{_WRAPPER}{self.trace.layers_path}.*.", _module(node))
        return path.removeprefix(_WRAPPER.rstrip(".")).strip(".")

    def _type(self, value: Any) -> TensorType:
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorType(dtype, tuple(self._dim(size) for size in value.shape))

    def _dim(self, size: Any) -> Dim:
        """A size of the trace in batch, sequence and context."""
        if isinstance(size, torch.SymInt):
            return _polynomial(size.node.expr, self.symbols)
        return size


def _needed(
    nodes: list[fx.Node], given: set[fx.Node], joined: Mapping[fx.Node, Joined]
) -> set[fx.Node]:
    """The nodes that the results depend on, those that are `given` and before aside."""
    needed: set[fx.Node] = set()
    lasts = {made.last: empty for empty, made in joined.items()}
    for node in reversed(nodes):
        if node in lasts and lasts[node] in needed:
            needed.update(joined[lasts[node]].parts)
        elif node.op == "output" or _is_mark(node):
            needed.update((node, *node.all_input_nodes))
        elif node in needed and node not in given and node not in joined:
            needed.update(node.all_input_nodes)
    return needed - given


def _operator(node: fx.Node) -> str:
    """The name of a node's operator without its library: `mul.Tensor`."""
    return str(node.target).partition(".")[2]


def _holds_tensors(node: fx.Node) -> bool:
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        return any(isinstance(item, torch.Tensor) for item in value)
    return isinstance(value, torch.Tensor)


def _is_known(node: fx.Node) -> bool:
    """Whether there is a rule for a node's operator."""
    name = _operator(node)
    return node.target is operator.getitem or _pure(name) in RULES or name in _OWN


def _passes_on(node: fx.Node) -> bool:
    """Whether a node is the very tensor that it is given, as `x.to(device)` mostly is.

    The trace calls that tensor by the node from then on, in whatever module.
    """
    if _operator(node) not in _NUMERIC:
        return False
    given, made = node.all_input_nodes[0].meta.get("val"), node.meta["val"]
    return isinstance(given, torch.Tensor) and given.dtype == made.dtype


def _one_place(call: Call) -> Call | None:
    """The slice that `x[..., [-2], :]` is: an index of one constant number."""
    x, indices = call.arguments[:2]
    given = [at for at, index in enumerate(indices) if index is not None]
    if len(given) != 1 or not isinstance(index := indices[given[0]], int):
        return None
    (at,) = given
    size = x.type.shape[at]
    if len(x.type.shape) != len(call.type.shape) or not isinstance(size, int):
        return None
    start = index % size
    return replace(call, arguments=[x, at, start, start + 1], named={})


def _pure(name: str) -> str:
    """The operator that yields what one in place (`div_.Tensor`) leaves: `div.Tensor`."""
    stem, _, overload = name.partition(".")
    pure = f"{stem.removesuffix('_')}.{overload}"
    return pure if name not in RULES and not stem.startswith("__") else name


def _is_mark(node: fx.Node) -> bool:
    return str(node.target) in ("wscc.layer_input.default", "wscc.layer_output.default")


def _mark(node: fx.Node) -> tuple[fx.Node, int, int]:
    """The value that is marked, the layer, and the slot."""
    given, layer, slot = node.args
    assert isinstance(given, fx.Node)
    assert isinstance(layer, int)
    assert isinstance(slot, int)
    return given, layer, slot


def _origin(node: fx.Node) -> fx.Node:
    """The node that a tensor, or one of which it is a view of all, was first called by."""
    while _passes_on(node) or _is_all(node):
        node = node.all_input_nodes[0]
    return node


def _is_all(node: fx.Node) -> bool:
    """Whether a node is `x[:]`."""
    if _operator(node) != "slice.Tensor" or len(node.args) > 4:
        return False
    return node.meta["val"].shape == node.all_input_nodes[0].meta["val"].shape


def _slot_dtypes(nodes: list[fx.Node]) -> dict[int, str]:
    """The widest dtype of every slot, to which all others can be cast without a loss."""
    found: dict[int, torch.dtype] = {}
    for node in nodes:
        if _is_mark(node):
            _, _, slot = _mark(node)
            dtype: torch.dtype = node.meta["val"].dtype
            found[slot] = torch.promote_types(found.get(slot, dtype), dtype)
    return {slot: str(dtype).removeprefix("torch.") for slot, dtype in found.items()}


def _module(node: fx.Node) -> str:
    """The path of the innermost module that a node came from, with the wrapper's name."""
    path = module_path(node)
    return path if path.startswith(_WRAPPER.rstrip(".")) else ""


def _sources(trace: Trace, caches: Mapping[Place, str]) -> dict[str, Input]:
    """What every placeholder of the trace stands for; the types are left to the reader."""
    found: dict[str, Input] = {}
    unknown = TensorType("float32", ())
    for spec in trace.program.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind == InputKind.USER_INPUT and name.startswith("caches_"):
            place = trace.caches[int(name.rpartition("_")[2])]
            cache = caches.get(place, place.source)
            found[name] = Input(f"{cache}_cache", unknown, "cache", f"cache.*.{cache}")
        elif spec.kind == InputKind.USER_INPUT:
            found[name] = Input(name, unknown, "data", name)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            target = spec.target.removeprefix(_WRAPPER)
            target = trace.tied.get(target, target)
            role: Role = "weight" if spec.kind == InputKind.PARAMETER else "buffer"
            inside = target not in trace.everywhere
            source = _repeated(target, trace.layers_path) if inside else target
            if role == "buffer" and target not in trace.persistent:
                source = COMPUTED + source
            found[name] = Input(_short(target), unknown, role, source)
    return found


def _short(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _repeated(name: str, layers_path: str) -> str:
    """A parameter's name with `*` for the number of its layer."""
    return re.sub(rf"^({re.escape(layers_path)})\.\d+\.", r"\1.*.", name)


def _numbers(trace: Trace, nodes: list[fx.Node]) -> dict[fx.Node, Any]:
    """The nodes that are a number: constants of one element in the model's code, and what is
    computed of nothing else."""
    targets = {
        spec.arg.name: trace.program.constants[spec.target]
        for spec in trace.program.graph_signature.input_specs
        if spec.kind == InputKind.CONSTANT_TENSOR and spec.target is not None
    }
    found: dict[fx.Node, Any] = {}
    for node in nodes:
        if node.op == "placeholder" and node.name in targets:
            constant: Any = targets[node.name]
            constant = getattr(constant, "constant", None) if _is_fake(constant) else constant
            if isinstance(constant, torch.Tensor) and constant.numel() == 1:
                found[node] = constant.item()
        elif node.op == "call_function" and _operator(node) in _NUMERIC:
            given = node.args[0]
            if isinstance(given, fx.Node) and given in found:
                found[node] = found[given]
        elif _is_of_numbers(node, found):
            found[node] = _computed(node, found)
    return found


def _is_of_numbers(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> bool:
    """Whether a node computes numbers, or picks one of them, of nothing but numbers."""
    given, value = node.all_input_nodes, node.meta.get("val")
    if not given or any(argument not in numbers for argument in given):
        return False
    schema: Any = getattr(node.target, "_schema", None)
    plain = schema is not None and schema.name.startswith("aten::") and not schema.is_mutable
    values = value if isinstance(value, list | tuple) else [value]
    return (plain or node.target is operator.getitem) and all(
        isinstance(item, torch.Tensor) and item.shape == () for item in values
    )


def _computed(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> Any:
    """What a node of numbers yields: a number, or a list of them."""

    def tensor(argument: fx.Node) -> Any:
        value, number = argument.meta["val"], numbers[argument]
        if isinstance(value, list | tuple):
            return number
        return torch.tensor(number, dtype=value.dtype)

    made: Any = node.target
    args, named = fx.map_arg((node.args, dict(node.kwargs)), tensor)
    found = made(*args, **named)
    if isinstance(found, list | tuple):
        return [item.item() for item in found]
    return found.item() if isinstance(found, torch.Tensor) else found


def _is_fake(value: Any) -> bool:
    return type(value).__name__ == "FakeTensor"


def _symbols(nodes: list[fx.Node]) -> dict[sympy.Basic, str]:
    """The trace's symbols by what they measure: by the names that the export gave them."""
    found: dict[sympy.Basic, str] = {}
    for node in nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, torch.Tensor):
            for at, size in enumerate(value.shape):
                if isinstance(size, torch.SymInt):
                    expr = size.node.expr
                    if node.name in ("input_ids", "position_ids"):
                        found.setdefault(expr, ("batch", "sequence")[at])
                    elif expr not in found:
                        found[expr] = "batch" if at == 0 else "context"
    return found


def _polynomial(expr: sympy.Basic, symbols: dict[sympy.Basic, str]) -> Dim:
    """A symbolic size as a polynomial; raises UnsupportedError for anything else."""
    if isinstance(expr, sympy.Integer):
        return int(expr)
    if expr in symbols:
        return dims.symbol(symbols[expr])
    if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Integer) and expr.exp > 0:
        return dims.product([_polynomial(expr.base, symbols)] * int(expr.exp))
    if isinstance(expr, sympy.Add | sympy.Mul):
        parts = [_polynomial(part, symbols) for part in expr.args]
        return sum(parts, start=0) if isinstance(expr, sympy.Add) else dims.product(parts)
    raise UnsupportedError(f"the size {expr}")
