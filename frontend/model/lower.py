"""A trace turned into a model graph: one graph for every kind of layer, and the main one.

Which graph a node belongs to follows from the module that it came from; what flows from layer to
layer, from the marks that trace.py set. aten.py says what each operator becomes.
"""

import re
from itertools import groupby
from typing import Any

import sympy
import torch
from torch import fx
from torch.export.graph_signature import InputKind

from ...ir import dims
from ...ir.dims import Dim
from ...ir.errors import UserError, VerificationError
from ...ir.graph import Input, Model, Op, Output, Phase, Role, TensorType
from .aten import RULES, Call, Shown, UnsupportedError
from .builder import GraphBuilder
from .config import ModelConfig
from .trace import Trace

_WRAPPER = "model."
"""What the names of modules and parameters in a trace begin with."""

_MAIN = -1
"""The place of a node that is in no layer, among the numbers of layers."""


def lower(trace: Trace, config: ModelConfig, phase: Phase) -> Model:
    """The model graph of a trace, symbolic in batch, sequence and context.

    Raises UserError naming every operator that the graph has no form for.
    """
    lowering = _Lowering(trace, phase)
    lowering.run()
    if lowering.unsupported:
        found = "; ".join(lowering.unsupported)
        raise UserError(f"{config.name}: operators that are not built yet: {found}")
    graphs = {builder.name: builder.graph() for builder in lowering.builders.values()}
    model = Model(config.name, phase, config.dtype, graphs)
    model.verify()
    return model


class _Lowering:
    """Walks the trace once; `builders` holds a graph for every traced layer and the main one."""

    def __init__(self, trace: Trace, phase: Phase) -> None:
        self.trace = trace
        self.nodes: list[fx.Node] = list(trace.program.graph.nodes)
        self.sources = _sources(trace)
        self.symbols = _symbols(self.nodes, phase)
        self.main = GraphBuilder("main")
        self.builders = {
            layer: GraphBuilder(f"layer{kind}") for kind, layer in enumerate(trace.traced)
        } | {_MAIN: self.main}
        self.shown: dict[fx.Node, Shown] = {}
        self.unsupported: dict[str, None] = {}
        self.entry = ""
        self.entry_at = 0
        self.runs: list[tuple[int, int, str]] = []
        self._in_layer = re.compile(rf"{re.escape(_WRAPPER + trace.layers_path)}\.(\d+)(?:\.|$)")

    def run(self) -> None:
        """Lower every node; what cannot be lowered is collected in `unsupported`."""
        broken: set[fx.Node] = set()
        for node in self.nodes:
            if node.op == "output":
                break
            if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
                continue
            if _operator(node) not in RULES and not _is_mark(node):
                self._refuse(node)
                broken.add(node)
            elif not broken.isdisjoint(node.all_input_nodes):
                broken.add(node)
            else:
                try:
                    self.shown[node] = self._lowered(node)
                except UnsupportedError as reason:
                    self._refuse(node, str(reason))
                    broken.add(node)
        if not self.unsupported:
            self._outputs()
            self._repeats()

    def _refuse(self, node: fx.Node, reason: str = "") -> None:
        text = f"{node.target} in {self._path(node)}"
        self.unsupported[f"{text} ({reason})" if reason else text] = None

    def _lowered(self, node: fx.Node) -> Shown:
        type_ = self._type(node)
        if _is_mark(node):
            return self._enter(node, type_)
        home = self._home(node)
        graph = self.builders[home]
        graph.path = self._path(node)
        name = _operator(node)
        label = graph.path.rpartition(".")[2] if name == "linear.default" else name.split(".")[0]
        call = Call(
            graph,
            [self._argument(argument, home) for argument in node.args],
            {key: self._argument(value, home) for key, value in node.kwargs.items()},
            type_,
            label,
        )
        return Shown(RULES[name](call), type_)

    def _argument(self, argument: Any, home: int) -> Any:
        if isinstance(argument, list | tuple):
            return [self._argument(item, home) for item in argument]
        if not isinstance(argument, fx.Node):
            return argument
        value = argument.meta["val"]
        return self._read(argument, home) if isinstance(value, torch.Tensor) else self._dim(value)

    def _read(self, node: fx.Node, reader: int) -> Shown:
        """A tensor as the graph `reader` sees it, made one of its inputs if it is none of its
        own."""
        type_ = self._type(node)
        if node.op == "placeholder":
            source = self.sources[node.name]
            return Shown(
                self.builders[reader].add_input(source.name, type_, source.role, source.source),
                type_,
            )
        home = self._home(node)
        if home == reader:
            return self.shown[node]
        if home == _MAIN:
            name = self.main.real(self.shown[node].view, type_.shape)
            self.entry_at = len(self.main.ops)
            return Shown(self.builders[reader].add_input(name, type_, "shared", name), type_)
        if reader != _MAIN:
            raise UnsupportedError(f"layer {reader} reads what layer {home} does not hand on")
        self._hand_on(node)
        return Shown(self.main.whole(self.runs[-1][2]), type_)

    def _enter(self, node: fx.Node, type_: TensorType) -> Shown:
        """The mark at the start of a layer: what the layer takes from the one before."""
        given, layer = node.args
        assert isinstance(given, fx.Node)
        assert isinstance(layer, int)
        if self._home(given) == _MAIN:
            self.entry = self.main.real(self._read(given, _MAIN).view, type_.shape)
            self.entry_at = len(self.main.ops)
            for kind, run in groupby(self.trace.kinds):
                name = self.main.new_name("hidden", type_)
                self.runs.append((kind, len([*run]), name))
        else:
            self._hand_on(given)
        return Shown(self.builders[layer].add_input("hidden", type_, "carried", "hidden"), type_)

    def _hand_on(self, node: fx.Node) -> None:
        """Make a node the value that its layer carries out."""
        self._output(node, "carried", "hidden")
        graph = self.builders[self._home(node)]
        if sum(output.role == "carried" for output in graph.outputs) > 1:
            raise VerificationError(f"graph {graph.name} hands on more than one value")

    def _output(self, node: fx.Node, role: Role, source: str) -> None:
        graph = self.builders[self._home(node)]
        output = Output(graph.real(self.shown[node].view, self._type(node).shape), role, source)
        if output not in graph.outputs:
            graph.outputs.append(output)

    def _outputs(self) -> None:
        """Logits, then the new key caches, then the new value caches, of the traced layers."""
        (logits, *caches) = self.nodes[-1].all_input_nodes
        self._output(logits, "data", "logits")
        for at, node in enumerate(caches):
            kind = "key" if at < len(self.trace.traced) else "value"
            self._output(node, "cache", f"cache.*.{kind}")

    def _repeats(self) -> None:
        """Put the runs of equal layers where the main graph enters the first."""
        ops: list[Op] = []
        hidden, first = self.entry, 0
        for kind, count, name in self.runs:
            body = self.builders[self.trace.traced[kind]]
            shared = [value.source for value in body.inputs.values() if value.role == "shared"]
            attributes = {"body": body.name, "first": first, "count": count}
            type_ = self.main.types[name]
            path = f"{self.trace.layers_path}.*"
            ops.append(Op("repeat", (hidden, *shared), (name,), (type_,), attributes, path))
            hidden, first = name, first + count
        self.main.ops[self.entry_at : self.entry_at] = ops

    def _home(self, node: fx.Node) -> int:
        """The traced layer that a node is in, or `_MAIN`."""
        if _is_mark(node):
            return int(str(node.args[1]))
        match = self._in_layer.match(_module(node))
        return int(match[1]) if match else _MAIN

    def _path(self, node: fx.Node) -> str:
        """The module of a node as the model names it, `*` for the number of the layer."""
        path = self._in_layer.sub(rf"{_WRAPPER}{self.trace.layers_path}.*.", _module(node))
        return path.removeprefix(_WRAPPER.rstrip(".")).strip(".")

    def _type(self, node: fx.Node) -> TensorType:
        value = node.meta["val"]
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorType(dtype, tuple(self._dim(size) for size in value.shape))

    def _dim(self, size: Any) -> Dim:
        """A size of the trace in batch, sequence and context."""
        if isinstance(size, torch.SymInt):
            return _polynomial(size.node.expr, self.symbols)
        return size


def _operator(node: fx.Node) -> str:
    """The name of a node's operator without its library: `mul.Tensor`."""
    return str(node.target).partition(".")[2]


def _is_mark(node: fx.Node) -> bool:
    return str(node.target) == "wscc.layer_input.default"


def _module(node: fx.Node) -> str:
    """The path of the innermost module that a node came from, with the wrapper's name."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(next(reversed(stack.values()))[0]) if stack else ""
    return path if path.startswith(_WRAPPER.rstrip(".")) else ""


def _sources(trace: Trace) -> dict[str, Input]:
    """What every placeholder of the trace stands for; the types are left to the reader."""
    found: dict[str, Input] = {}
    layer = re.compile(rf"^({re.escape(trace.layers_path)})\.\d+\.")
    unknown = TensorType("float32", ())
    for spec in trace.program.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind == InputKind.USER_INPUT:
            if name.startswith(("keys_", "values_")):
                cache = name.rpartition("_")[0].removesuffix("s")
                found[name] = Input(f"{cache}_cache", unknown, "cache", f"cache.*.{cache}")
            else:
                found[name] = Input(name, unknown, "data", name)
        elif spec.target is not None:
            target = spec.target.removeprefix(_WRAPPER)
            target = trace.tied.get(target, target)
            role: Role = "weight" if spec.kind == InputKind.PARAMETER else "buffer"
            short = ".".join(target.split(".")[-2:])
            found[name] = Input(short, unknown, role, layer.sub(r"\1.*.", target))
    return found


def _symbols(nodes: list[fx.Node], phase: Phase) -> dict[sympy.Basic, str]:
    """The trace's symbols by what they measure, read off the shapes of the model's inputs."""
    meaning = {
        "input_ids": ("batch", "sequence"),
        "position_ids": ("batch", "sequence"),
        "keys_0": ("batch", "", "context", ""),
    }
    found: dict[sympy.Basic, str] = {}
    for node in nodes:
        if node.op == "placeholder" and node.name in meaning:
            for size, name in zip(node.meta["val"].shape, meaning[node.name], strict=True):
                if isinstance(size, torch.SymInt):
                    found[size.node.expr] = name
    return found


def _polynomial(expr: sympy.Basic, symbols: dict[sympy.Basic, str]) -> Dim:
    """A symbolic size as a polynomial; raises UnsupportedError for anything else."""
    if isinstance(expr, sympy.Integer):
        return int(expr)
    if expr in symbols:
        return dims.symbol(symbols[expr])
    parts = [_polynomial(part, symbols) for part in expr.args]
    if isinstance(expr, sympy.Add):
        return sum(parts, start=0)
    if isinstance(expr, sympy.Mul):
        return dims.product(parts)
    raise UnsupportedError(f"the size {expr}")
