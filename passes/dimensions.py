"""Which dimensions of a graph are the same, and what part they play in attention.

Letters tie the dimensions of an operator together; over a graph they form classes. A product of
two activations is attention: what both sides share are heads, what is summed or comes from the
values is a head's width. Queries of many tokens that share a head's keys are its members.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Literal

from ..ir.dims import Polynomial, symbol
from ..ir.graph import Graph, Op, TensorType
from ..ir.kinds import indices_of

Part = Literal["head", "width", "member", "whole", "other"]


@dataclass(frozen=True)
class Roles:
    """The class of every dimension of every value, and the part that each class plays."""

    classes: dict[tuple[str, int], int]
    parts: dict[int, Part]

    def part(self, name: str, at: int) -> Part:
        """The part of a dimension; other for a value that the graph does not have."""
        return self.parts.get(self.classes.get((name, at), -1), "other")


def roles_of(graph: Graph) -> Roles:
    """Classes and parts of a graph without views, its sizes still symbolic."""
    classes = _classes(graph)
    parts: dict[int, Part] = {}
    members: dict[int, Part] = {}
    weights = weights_of(graph)
    for op in graph.ops:
        of_weights = weights & {*op.operands, *op.results}
        if op.kind == "matmul" and not of_weights and not sums_tokens(op, graph.types):
            parts |= _attention_parts(graph, op, classes)
            members |= _member_parts(graph, op, classes)
    parts |= {class_: part for class_, part in members.items() if parts.get(class_) != "head"}
    for op in graph.ops:
        if op.kind != "concat":
            whole = indices_of(op).whole
            parts |= {classes[key]: "whole" for letter, key in _letters(op) if letter in whole}
    return Roles(classes, parts)


def head_groups(graphs: Iterable[Graph]) -> int:
    """The number of parts that all layers' heads can be cut into: key-value heads, or 1."""
    sizes: set[int] = set()
    for graph in graphs:
        roles = roles_of(graph)
        for (name, at), class_ in roles.classes.items():
            size = graph.types[name].shape[at]
            if roles.parts.get(class_) == "head" and isinstance(size, int):
                sizes.add(size)
    return gcd(*sizes) or 1


def weights_of(graph: Graph) -> frozenset[str]:
    """Weights, and what follows from weights and buffers alone (scales of quantized weights)."""
    found = {value.name for value in graph.inputs if value.role == "weight"}
    buffers = {value.name for value in graph.inputs if value.role == "buffer"}
    for op in graph.ops:
        own = set(op.operands)
        if own & found and own <= found | buffers:
            found.update(op.results)
    return frozenset(found)


def sums_tokens(op: Op, types: Mapping[str, TensorType]) -> bool:
    """Whether a product sums over the sequences of a batch: it is the gradient of a weight."""
    indices = indices_of(op)
    pairs = zip(indices.operands[0], types[op.operands[0]].shape, strict=True)
    return any(letter in indices.reduced and dim == symbol("batch") for letter, dim in pairs)


def _attention_parts(graph: Graph, op: Op, classes: dict[tuple[str, int], int]) -> dict[int, Part]:
    indices = indices_of(op)
    parts: dict[int, Part] = {}
    for at, letter in enumerate(indices.operands[1]):
        if isinstance(graph.types[op.operands[1]].shape[at], Polynomial):
            continue
        shared = letter in indices.operands[0] and letter in indices.result
        parts[classes[op.operands[1], at]] = "head" if shared else "width"
    return parts


def _member_parts(graph: Graph, op: Op, classes: dict[tuple[str, int], int]) -> dict[int, Part]:
    """Members, from a product that scores the tokens of queries against those of keys."""
    indices = indices_of(op)
    scored = [
        dim for dim in op.type.shape if isinstance(dim, Polynomial) and dim != symbol("batch")
    ]
    left = graph.types[op.operands[0]].shape
    sizes = dict(zip(indices.operands[0], left, strict=True))
    if len(scored) < 2 or not all(isinstance(sizes[x], int) for x in indices.reduced):
        return {}
    return {
        classes[name, at]: "member"
        for letters, name in zip(indices.operands, op.operands, strict=True)
        for at, letter in enumerate(letters)
        if isinstance(graph.types[name].shape[at], int)
        and letter in indices.result
        and sum(letter in own for own in indices.operands) == 1
    }


def _letters(op: Op) -> list[tuple[str, tuple[str, int]]]:
    indices = indices_of(op)
    letters = (*indices.operands, indices.result, *indices.others)
    rows = zip(letters, (*op.operands, *op.results), strict=True)
    return [(letter, (name, at)) for own, name in rows for at, letter in enumerate(own)]


def _classes(graph: Graph) -> dict[tuple[str, int], int]:
    keys = [(name, at) for name, type_ in graph.types.items() for at in range(len(type_.shape))]
    parents = {key: key for key in keys}

    def root(key: tuple[str, int]) -> tuple[str, int]:
        while parents[key] != key:
            key = parents[key]
        return key

    for op in graph.ops:
        first: dict[str, tuple[str, int]] = {}
        for letter, key in _letters(op):
            if letter not in indices_of(op).uneven:
                parents[root(key)] = root(first.setdefault(letter, key))
    numbers = {key: at for at, key in enumerate(dict.fromkeys(root(key) for key in keys))}
    return {key: numbers[root(key)] for key in keys}
