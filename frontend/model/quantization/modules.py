"""Which weights of a graph are those of linear layers and experts, and how their dimensions lie."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ....ir.graph import Graph, Input, Op
from ....ir.kinds import indices_of, kind_of
from ....ir.operators.experts import parts_of
from .schemes import ModuleKind

Side = Literal["out", "in", "batch"]
"""What a dimension of a weight counts: outputs, inputs, or matrices such as experts."""

_VIEWS = ("reshape", "slice", "transpose")

UP, DOWN = 3, 4
"""Which operands of `experts` are its weights."""


@dataclass(frozen=True)
class Use:
    """A product that reads a weight: which operand it is, and whether a view lies between that
    does more than group dimensions."""

    op: Op
    at: int
    cut: bool = False


@dataclass(frozen=True)
class Module:
    """A weight that may be quantized, its dimensions and the products that read it."""

    weight: Input
    kind: ModuleKind
    sides: tuple[Side, ...]
    uses: tuple[Use, ...]

    def names(self, layer: int) -> tuple[str, ...]:
        """What the module of one layer is called. Experts, which Transformers joins, also go by
        the names of the linear layers that checkpoints hold."""
        source = self.weight.source.replace("*", str(layer))
        path, _, last = source.rpartition(".")
        if self.kind != "experts":
            return (path,) if last == "weight" else (path, source)
        inner = _EXPERT_LAYERS[last.startswith("down")]
        return (path, source, *(f"{path}.0.{name}" for name in inner))


_EXPERT_LAYERS = (("gate_proj", "up_proj", "w1", "w3"), ("down_proj", "w2"))


def modules_of(graph: Graph) -> Iterator[Module]:
    """The modules of a graph in the order of its inputs.

    What an `embedding` or an elementwise operator reads is none, a router neither: Transformers
    has the product that a choice is made from as no linear layer.
    """
    for value in graph.inputs:
        if value.role == "weight" and len(value.type.shape) > 1:
            uses = _uses(graph, value.name)
            kind = _kind(graph, value, uses) if uses else None
            if uses and kind:
                yield Module(value, kind, _sides(value, uses[0]), uses)


def _uses(graph: Graph, name: str, cut: bool = False) -> tuple[Use, ...]:
    """The products that read a value; none where anything else does."""
    found: list[Use] = []
    for op in graph.consumers[name]:
        if op.kind in ("matmul", "experts"):
            at = op.operands.index(name)
            if op.kind == "experts" and at not in (UP, DOWN):
                return ()
            found.append(Use(op, at, cut))
        elif op.kind in _VIEWS:
            inner = _uses(graph, op.result, cut or op.kind != "reshape")
            if not inner:
                return ()
            found.extend(inner)
        else:
            return ()
    return tuple(found)


def _kind(graph: Graph, value: Input, uses: tuple[Use, ...]) -> ModuleKind | None:
    """What kind of module a weight is of; None for a router."""
    if any(use.op.kind == "experts" for use in uses) or ".experts." in value.source:
        return "experts"
    reached = {kind for use in uses for kind in _reached(graph, use.op)}
    if "topk" in reached:
        return None
    return "output" if "logits" in reached else "linear"


def _reached(graph: Graph, op: Op) -> set[str]:
    """The kinds of operators and the names of outputs that a product leads to before the next."""
    outputs = {output.name: output.source for output in graph.outputs}
    found: set[str] = set()
    seen, waiting = {op.result}, [op.result]
    while waiting:
        name = waiting.pop()
        if name in outputs:
            found.add(outputs[name])
        for reader in graph.consumers[name]:
            found.add(reader.kind)
            if kind_of(reader).flops(reader, graph.operand_types(reader)) == 0:
                new = [result for result in reader.results if result not in seen]
                seen.update(new)
                waiting.extend(new)
    return found


def _sides(value: Input, use: Use) -> tuple[Side, ...]:
    """What each dimension of a weight counts.

    Read off the letters of the product; behind a view that groups dimensions, off their order; and
    else as Transformers' linear layers have them, outputs first.
    """
    rank = len(value.type.shape)
    by_letter = _letter_sides(use)
    if len(by_letter) == rank and not use.cut:
        return by_letter
    merged: tuple[Side, ...] = tuple(dict.fromkeys(by_letter))
    if len(merged) == rank and not use.cut:
        return merged
    batch: tuple[Side, ...] = ("batch",) * (rank - 2)
    return (*batch, "out", "in")


def _letter_sides(use: Use) -> tuple[Side, ...]:
    """What each letter of a product's weight counts."""
    indices = indices_of(use.op)
    letters = indices.operands[use.at]
    if use.op.kind == "experts":
        parts = parts_of(use.op)
        summed, batch = (parts.width if use.at == UP else parts.inner), parts.expert
    else:
        others = "".join(own for at, own in enumerate(indices.operands) if at != use.at)
        summed = "".join(letter for letter in letters if letter in indices.reduced)
        batch = "".join(x for x in letters if x in others and x not in summed)
    sides: dict[str, Side] = dict.fromkeys(letters, "out")
    sides |= dict.fromkeys(batch, "batch")
    sides |= dict.fromkeys(summed, "in")
    return tuple(sides[letter] for letter in letters)


def beside(source: str, name: str) -> str:
    """The source of a tensor that belongs to a weight: `q_proj.weight_scale` beside
    `q_proj.weight`, `gate_up_proj_scale` beside `gate_up_proj`."""
    if source.endswith(".weight"):
        return f"{source.removesuffix('.weight')}.{name}"
    return f"{source}_{re.sub(r'^weight[._]', '', name)}"
