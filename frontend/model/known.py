"""What is known of a trace before it is lowered: what its inputs stand for, which nodes are plain
numbers, and which of its symbols is the batch, the sequence or the context."""

import operator
import re
from collections.abc import Mapping
from typing import Any

import sympy
import torch
from torch import fx
from torch.export.graph_signature import InputKind

from ...ir import dims
from ...ir.dims import Dim
from ...ir.graph import Input, Role, TensorType
from ...ir.summary import COMPUTED
from .aten import UnsupportedError
from .caches import Place
from .nodes import SAME_NUMBER, WRAPPER, operator_of
from .trace import Trace


def sources_of(trace: Trace, caches: Mapping[Place, str]) -> dict[str, Input]:
    """What every placeholder of the trace stands for; the types are left to the reader."""
    found: dict[str, Input] = {}
    unknown = TensorType("float32", ())
    for spec in trace.program.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind == InputKind.USER_INPUT and name.startswith("caches_"):
            place = trace.caches[int(name.rpartition("_")[2])]
            cache = caches.get(place, place.source)
            layer = "*" if place.layer < len(trace.stacks[0].kinds) else place.layer
            found[name] = Input(f"{cache}_cache", unknown, "cache", f"cache.{layer}.{cache}")
        elif spec.kind == InputKind.USER_INPUT:
            source = name.removeprefix("features_")
            found[name] = Input(source, unknown, "data", source)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target is not None:
            target = spec.target.removeprefix(WRAPPER)
            target = trace.tied.get(target, target)
            role: Role = "weight" if spec.kind == InputKind.PARAMETER else "buffer"
            inside = target not in trace.everywhere
            source = target
            for stack in trace.stacks if inside else ():
                source = repeated(source, stack.path)
            if role == "buffer" and target not in trace.persistent:
                source = COMPUTED + source
            found[name] = Input(short(target), unknown, role, source)
    return found


def short(name: str) -> str:
    """A parameter's name without the modules far out: `q_proj.weight`."""
    return ".".join(name.split(".")[-2:])


def repeated(name: str, layers_path: str) -> str:
    """A parameter's name with `*` for the number of its layer."""
    return re.sub(rf"^({re.escape(layers_path)})\.\d+\.", r"\1.*.", name)


def numbers_of(trace: Trace, nodes: list[fx.Node]) -> dict[fx.Node, Any]:
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
        elif is_constant(node):
            constant = constant_of(trace, node)
            if constant.numel() == 1:
                found[node] = constant.item()
        elif node.op == "call_function" and operator_of(node) in SAME_NUMBER:
            given = node.args[0]
            if isinstance(given, fx.Node) and given in found:
                found[node] = found[given]
        elif _is_of_numbers(node, found):
            found[node] = _computed(node, found)
    return found


def is_constant(node: fx.Node) -> bool:
    """Whether a node stands for a value that was known when the model was traced."""
    return str(node.target) == "wscc.constant.default"


def constant_of(trace: Trace, node: fx.Node) -> torch.Tensor:
    """The value of such a node."""
    number = node.args[0]
    assert isinstance(number, int)
    return trace.constants[number]


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


def symbols_of(nodes: list[fx.Node]) -> dict[sympy.Basic, str]:
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


def polynomial(expr: sympy.Basic, symbols: dict[sympy.Basic, str]) -> Dim:
    """A symbolic size as a polynomial; raises UnsupportedError for anything else."""
    if isinstance(expr, sympy.Integer):
        return int(expr)
    if expr in symbols:
        return dims.symbol(symbols[expr])
    if isinstance(expr, sympy.Pow) and isinstance(expr.exp, sympy.Integer) and expr.exp > 0:
        return dims.product([polynomial(expr.base, symbols)] * int(expr.exp))
    if isinstance(expr, sympy.Add | sympy.Mul):
        parts = [polynomial(part, symbols) for part in expr.args]
        return sum(parts, start=0) if isinstance(expr, sympy.Add) else dims.product(parts)
    raise UnsupportedError(f"the size {expr}")
