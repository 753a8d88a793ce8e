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
from ...ir.graph import Input, Model, Op, Output, Phase, Role, TensorType
from .aten import RULES, Call, Shown, UnsupportedError
from .attending import attention, is_scored, made_real, masked, masks_of
from .builder import GraphBuilder
from .config import ModelConfig
from .mutation import Joined, joined
from .sizes import SizesNeededError
from .trace import Trace, module_path

_WRAPPER = "model."
"""What the names of modules and parameters in a trace begin with."""

_MAIN = -1
"""The place of a node that is in no layer, among the numbers of layers."""

_OWN = ("attention.default", "layer_input.default", "left_out.default")
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
    graphs = {builder.name: builder.graph() for builder in lowering.builders.values()}
    model = Model(config.name, phase, config.dtype, graphs)
    model.verify()
    return model


class _Lowering:
    """Walks the trace once; `builders` holds a graph for every traced layer and the main one."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.nodes: list[fx.Node] = list(trace.program.graph.nodes)
        self.sources = _sources(trace)
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
        self.runs = [(kind, len([*run])) for kind, run in groupby(trace.kinds)]
        self.results: list[dict[int, str]] = [{} for _ in self.runs]
        self._in_layer = re.compile(rf"{re.escape(_WRAPPER + trace.layers_path)}\.(\d+)(?:\.|$)")

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
            self._repeats()

    def _refuse(self, node: fx.Node, reason: str) -> None:
        text = f"{node.target} in {self._path(node) or 'the model'}"
        self.unsupported[f"{text} ({reason})" if reason else text] = None

    def _lowered(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self._picked(node)
        if _is_mark(node):
            return self._enter(node)
        name = _operator(node)
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
        if reader == _MAIN:
            raise UnsupportedError(f"the model reads what layer {home} does not hand on")
        raise UnsupportedError(f"layer {reader} reads what layer {home} does not hand on")

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
        given, layer, slot = node.args
        assert isinstance(given, fx.Node)
        assert isinstance(layer, int)
        assert isinstance(slot, int)
        type_ = self._type(node.meta["val"])
        home = self._home(given)
        if layer == 0:
            self.entries[slot] = self.main.real(self._read(given, _MAIN).view, type_.shape)
            self.entry_at = len(self.main.ops)
        elif home == _MAIN:
            raise UnsupportedError(f"what the model computes before layer {layer}")
        else:
            self._hand_on(given, home, slot)
        if layer == len(self.trace.kinds):
            return Shown(self.main.whole(self._result(len(self.runs) - 1, slot, type_)), type_)
        name = "carried" if slot else "hidden"
        source = f"hidden.{slot}" if slot else "hidden"
        return Shown(self.builders[layer].add_input(name, type_, "carried", source), type_)

    def _hand_on(self, node: fx.Node, home: int, slot: int) -> None:
        """Make a node the value that its layer carries out."""
        if self.carried[home].setdefault(slot, node) is not node:
            raise UnsupportedError(f"layer {home} hands on different values to different layers")

    def _result(self, run: int, slot: int, type_: TensorType) -> str:
        """The value in the main graph that a run of layers carries out."""
        if slot not in self.results[run]:
            self.results[run][slot] = self.main.new_name("hidden", type_)
        return self.results[run][slot]

    def _output(self, node: fx.Node, role: Role, source: str) -> None:
        home = self._home(node)
        shown = self._read(node, home) if node.op == "placeholder" else self.shown[node]
        graph = self.builders[home]
        graph.outputs.append(Output(graph.real(shown.view, shown.type.shape), role, source))

    def _outputs(self) -> None:
        """What every layer carries out, the logits, and the new caches of the traced layers."""
        for slots in self.carried.values():
            for slot, node in sorted(slots.items()):
                self._output(node, "carried", f"hidden.{slot}" if slot else "hidden")
        results: Any = self.nodes[-1].args[0]
        logits, *caches = results
        self._output(logits, "data", "logits")
        for place, node in zip(self.trace.new_caches, caches, strict=True):
            if self._home(node) != place.layer:
                raise UnsupportedError(f"the cache {place.source} of layer {place.layer}")
            self._output(node, "cache", f"cache.*.{place.source}")

    def _repeats(self) -> None:
        """Put the runs of equal layers where the main graph enters the first."""
        ops: list[Op] = []
        carried, first = self.entries, 0
        path = f"{self.trace.layers_path}.*"
        for at, (kind, count) in enumerate(self.runs):
            layer = self.trace.traced[kind]
            body = self.builders[layer]
            shared = [value.source for value in body.inputs.values() if value.role == "shared"]
            types = [value.type for value in body.inputs.values() if value.role == "carried"]
            if not (len(types) == len(carried) == len(self.carried[layer])):
                raise UnsupportedError(f"layer {layer} does not carry what the others do")
            names = [self._result(at, slot, type_) for slot, type_ in enumerate(types)]
            attributes = {"body": body.name, "first": first, "count": count}
            operands = (*(carried[slot] for slot in sorted(carried)), *shared)
            ops.append(Op("repeat", operands, tuple(names), tuple(types), attributes, path))
            carried, first = dict(enumerate(names)), first + count
        self.main.ops[self.entry_at : self.entry_at] = ops

    def _home(self, node: fx.Node) -> int:
        """The traced layer that a node is in, or `_MAIN`."""
        if _is_mark(node):
            layer = int(str(node.args[1]))
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
        elif node.op == "output" or (node in needed and node not in given and node not in joined):
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
    return str(node.target) == "wscc.layer_input.default"


def _module(node: fx.Node) -> str:
    """The path of the innermost module that a node came from, with the wrapper's name."""
    path = module_path(node)
    return path if path.startswith(_WRAPPER.rstrip(".")) else ""


def _sources(trace: Trace) -> dict[str, Input]:
    """What every placeholder of the trace stands for; the types are left to the reader."""
    found: dict[str, Input] = {}
    layer = re.compile(rf"^({re.escape(trace.layers_path)})\.\d+\.")
    unknown = TensorType("float32", ())
    for spec in trace.program.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind == InputKind.USER_INPUT and name.startswith("caches_"):
            place = trace.caches[int(name.rpartition("_")[2])]
            cache = place.source
            found[name] = Input(f"{cache}_cache", unknown, "cache", f"cache.*.{cache}")
        elif spec.kind == InputKind.USER_INPUT:
            found[name] = Input(name, unknown, "data", name)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            target = spec.target.removeprefix(_WRAPPER)
            target = trace.tied.get(target, target)
            role: Role = "weight" if spec.kind == InputKind.PARAMETER else "buffer"
            short = ".".join(target.split(".")[-2:])
            source = target if target in trace.everywhere else layer.sub(r"\1.*.", target)
            found[name] = Input(short, unknown, role, source)
    return found


def _numbers(trace: Trace, nodes: list[fx.Node]) -> dict[fx.Node, float | int | bool]:
    """The nodes that are a number: constants of one element in the model's code."""
    targets = {
        spec.arg.name: trace.program.constants[spec.target]
        for spec in trace.program.graph_signature.input_specs
        if spec.kind == InputKind.CONSTANT_TENSOR and spec.target is not None
    }
    found: dict[fx.Node, float | int | bool] = {}
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
    return found


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
