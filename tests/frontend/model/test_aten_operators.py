"""Operators as torch.export writes them, lowered by the table and run, beside torch itself.

All cases are outputs of one module that is exported once, symbolic in batch, sequence and context,
and run at other sizes than it was exported at.
"""

import operator
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path, tree_leaves
from wscc.frontend.model.aten import RULES, Call, Shown, UnsupportedError, experts, scans
from wscc.frontend.model.builder import GraphBuilder
from wscc.ir import dims
from wscc.ir.dims import Dim
from wscc.ir.graph import Model, Output, TensorType
from wscc.ir.interpreter import run_model

aten = torch.ops.aten

Inputs = Mapping[str, Tensor]
Case = Callable[..., Any]

_GIVEN = run_path(str(Path(__file__).with_name("aten_cases.py")))
inputs: Callable[..., dict[str, Tensor]] = _GIVEN["inputs"]
CASES: dict[str, Case] = _GIVEN["CASES"]
SYMBOLIC: dict[str, str] = _GIVEN["SYMBOLIC"]
"""Letters of the dimensions of inputs that are symbols."""


class Everything(nn.Module):
    """Every case on the inputs that its arguments name."""

    def forward(self, values: dict[str, Tensor]) -> dict[str, Any]:
        return {name: computed(case, values) for name, case in CASES.items()}


def computed(case: Case, values: Inputs) -> Any:
    count = case.__code__.co_argcount
    return case(*(values[name] for name in case.__code__.co_varnames[:count]))


@cache
def program() -> torch.export.ExportedProgram:
    symbols = {
        letter: torch.export.Dim(name, min=2, max=1024)
        for letter, name in (("b", "batch"), ("s", "sequence"), ("c", "context"))
    }
    shapes = {
        name: {at: symbols[x] for at, x in enumerate(SYMBOLIC.get(name, "")) if x != "."}
        for name in inputs(2, 2, 2)
    }
    with torch.no_grad():
        return torch.export.export(
            Everything().eval(),
            (inputs(3, 5, 7),),
            dynamic_shapes=(shapes,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


class Lowering:
    """The program as one graph, node by node; `refused` says why a node has no value."""

    def __init__(self, exported: torch.export.ExportedProgram) -> None:
        self.graph = GraphBuilder("main")
        self.shown: dict[Any, Any] = {}
        self.refused: dict[Any, str] = {}
        self.names: set[str] = set()
        self.symbols: dict[Any, str] = {}
        self.constants: dict[str, Any] = dict(exported.constants)
        for node in exported.graph.nodes:
            if node.op == "placeholder":
                self.input(node)
            elif node.op == "call_function":
                self.call(node)

    def input(self, node: Any) -> None:
        name = node.name.removeprefix("values_").removeprefix("c_")
        value = node.meta["val"]
        if not isinstance(value, Tensor):
            return
        meaning = {"b": "batch", "s": "sequence", "c": "context"}
        sizes: Any = value.shape
        for size, letter in zip(sizes, SYMBOLIC.get(name, ""), strict=False):
            if letter != ".":
                self.symbols[size.node.expr] = meaning[letter]
        type_ = self.type(value)
        self.shown[node] = Shown(self.graph.add_input(name, type_, "data", name), type_)

    def call(self, node: Any) -> None:
        name = str(node.target).partition(".")[2]
        value = node.meta.get("val")
        broken = [self.refused[n] for n in node.all_input_nodes if n in self.refused]
        if broken:
            self.refused[node] = broken[0]
        elif node.target is operator.getitem:
            self.shown[node] = self.shown[node.args[0]][node.args[1]]
        elif isinstance(value, Tensor | list | tuple):
            self.names.add(name)
            try:
                self.shown[node] = self.lowered(node, name, value)
            except (UnsupportedError, KeyError) as reason:
                self.refused[node] = f"{name}: {reason!r}"

    def lowered(self, node: Any, name: str, value: Any) -> Any:
        types: Any = self.type(value) if isinstance(value, Tensor) else tuple(map(self.type, value))
        arguments, named = self.argument(node.args), self.argument(dict(node.kwargs))
        made = RULES[name](Call(self.graph, arguments, named, types, name.partition(".")[0]))
        if isinstance(value, Tensor):
            return Shown(made, types)
        return tuple(Shown(*pair) for pair in zip(made, types, strict=True))

    def argument(self, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return [self.argument(item) for item in given]
        if isinstance(given, dict):
            return {key: self.argument(item) for key, item in given.items()}
        if not isinstance(given, torch.fx.Node):
            return given
        return self.shown[given] if given in self.shown else self.dim(given.meta["val"])

    def type(self, value: Tensor) -> TensorType:
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorType(dtype, tuple(self.dim(size) for size in value.shape))

    def dim(self, size: Any) -> Dim:
        return self.polynomial(size.node.expr) if isinstance(size, torch.SymInt) else int(size)

    def polynomial(self, expr: Any) -> Dim:
        if expr.is_Integer:
            return int(expr)
        if expr in self.symbols:
            return dims.symbol(self.symbols[expr])
        if not (expr.is_Add or expr.is_Mul or expr.is_Pow):
            raise UnsupportedError(f"the size {expr}")
        if expr.is_Pow:
            return dims.product([self.polynomial(expr.base)] * int(expr.exp))
        parts = [self.polynomial(part) for part in expr.args]
        return sum(parts, start=0) if expr.is_Add else dims.product(parts)


@cache
def lowering() -> Lowering:
    return Lowering(program())


@cache
def values(batch: int, sequence: int, context: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The outputs of the lowered program, and why others are missing."""
    return run(program(), lowering(), {"batch": batch, "sequence": sequence, "context": context})


def run(
    exported: torch.export.ExportedProgram, lowered: Lowering, sizes: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    results: Any = exported.graph.output_node().args[0]
    missing: dict[str, str] = {}
    names = [spec.arg.name for spec in exported.graph_signature.output_specs]
    outputs: list[Output] = []
    for name, node in zip(names, results, strict=True):
        if node in lowered.refused:
            missing[name] = lowered.refused[node]
        else:
            shown = lowered.shown[node]
            real = lowered.graph.real(shown.view, shown.stored.shape)
            outputs.append(Output(real, "data", name))
    lowered.graph.outputs[:] = outputs
    model = Model("m", "prefill", "float32", {"main": lowered.graph.graph()})
    model.verify()
    found = run_model(model.bind(sizes), {**inputs(**sizes), **lowered.constants})
    return found, missing


def outputs_of(case: str) -> list[str]:
    """The names of a case's outputs in the program, in order."""
    leaves: Any = tree_flatten_with_path(computed_all())[0]
    names = [spec.arg.name for spec in program().graph_signature.output_specs]
    return [name for (path, _), name in zip(leaves, names, strict=True) if path[0].key == case]


@cache
def computed_all(batch: int = 3, sequence: int = 5, context: int = 7) -> dict[str, Any]:
    with torch.no_grad():
        return Everything()(inputs(batch, sequence, context))


@pytest.mark.parametrize("case", CASES)
def test_an_aten_operator_computes_what_torch_computes(case: str) -> None:
    sizes = (2, 6, 9)
    found, missing = values(*sizes)
    names = outputs_of(case)
    assert not [missing[name] for name in names if name in missing]
    expected = tree_leaves(computed_all(*sizes)[case])
    for name, tensor in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], tensor, equal_nan=True)


class Changing(nn.Module):
    """What changes tensors in their places, as models do."""

    def forward(self, values: dict[str, Tensor]) -> dict[str, Any]:
        x, y, ids = values["x"] * 1, values["y"], values["ids"]
        x /= x.sum(-1, keepdim=True)
        x.add_(y, alpha=2).mul_(0.5)
        x[..., :3] = y[..., 3:6]
        x[:, 0] = 1.5
        x[:, :, 4].add_(1)
        chosen = torch.zeros_like(x).scatter_(-1, y.topk(2).indices, 1.0)
        joined = x.new_empty(x.shape[0], x.shape[1], 14)
        joined[..., :12] = x
        joined[..., 12:] = chosen[..., :2].masked_fill_(y[..., :2] > 0, 7.0)
        rows = torch.zeros(5, 12)
        rows.index_add_(0, ids.flatten(), y.reshape(-1, 12))
        rows.clamp_(min=0).copy_(rows + 1)
        bias = torch.zeros(4)
        bias[torch.tensor([1, 3])] = 2.0
        return {"x": x, "chosen": chosen, "joined": joined, "rows": rows, "bias": bias}


def test_a_program_made_functional_says_what_changes_in_place() -> None:
    symbols = [torch.export.Dim(name, min=2, max=1024) for name in ("batch", "sequence")]
    shape = dict(enumerate(symbols))
    given = {name: inputs(3, 5, 7)[name] for name in ("x", "y", "ids")}
    with torch.no_grad():
        exported = torch.export.export(
            Changing(),
            (given,),
            dynamic_shapes=(dict.fromkeys(given, shape),),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        ).run_decompositions({})
    lowered = Lowering(exported)
    sizes = {"batch": 2, "sequence": 6, "context": 9}
    found, missing = run(exported, lowered, sizes)
    assert not missing
    expected = Changing()(inputs(**sizes))
    names = [spec.arg.name for spec in exported.graph_signature.output_specs]
    for name, value in zip(names, expected.values(), strict=True):
        torch.testing.assert_close(found[name], value)


OURS = {name for group in (experts, scans) for name in group.RULES}
"""Rules for operators of our own."""


@pytest.mark.parametrize("name", sorted(set(RULES) - OURS))
def test_a_rule_is_for_an_operator_that_pytorch_has(name: str) -> None:
    operation, overload = name.split(".")
    assert hasattr(getattr(aten, operation), overload)
