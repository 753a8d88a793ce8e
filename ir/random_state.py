"""Random values for all that a model reads, so that it can be run without a checkpoint.

Weights are scaled by what is summed over, so that values neither grow nor vanish from layer to
layer. What equals what on them is decided in passes/verify.py.
"""

from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING

from .dims import size
from .graph import Graph, Model, Op, Role, TensorType
from .kinds import indices_of

if TYPE_CHECKING:
    from torch import Generator, Tensor

ROLES: tuple[Role, ...] = ("data", "buffer", "weight", "cache", "state")
"""Roles of inputs that come from outside a model."""

POSITIONS = "position_ids"

MASTER, SECOND_MOMENT = ".master", ".moment2"
"""Ends of the names of states of a weight: its wide copy, and what Adam takes the root of."""

_MOMENT = 0.01
"""What moments are about as large as: gradients are no larger, and tell in what becomes of them."""

_MOST_STEPS = 100
"""Of an optimizer so far."""

_MOST_CODE = 100
"""The largest number that weights kept as integers are drawn as."""

_MOVED = ("reshape", "transpose", "view", "slice", "concat", "pad", "flip")
"""Operators that hand the numbers of their operands on as they are."""


def random_state(model: Model, sizes: Mapping[str, int], seed: int = 0) -> "dict[str, Tensor]":
    """A value for every source of a model at some sizes; the same for the same seed.

    Integers that choose rows of a table or are labels are below its length, positions count from
    behind the cache, masks hide nothing. Of an optimizer's states the second moments are squares,
    and the copy of a weight is equal to it.
    """
    import torch

    bound = model.bind(sizes)
    limits = _limits(bound)
    behind = sizes["context"] if model.phase == "decode" else 0
    generator = torch.Generator().manual_seed(seed)
    found = {
        source: _positions(type_, behind, limits.get(source))
        if source == POSITIONS
        else _values(type_, role, limits.get(source), generator)
        for role in ROLES
        for source, type_ in bound.sources(role).items()
    }
    for source in bound.sources("state"):
        if source.endswith(SECOND_MOMENT):
            found[source] = found[source].square()
        elif source.endswith(MASTER):
            found[source] = found[source.removesuffix(MASTER)].to(found[source].dtype)
    return found


def _values(type_: TensorType, role: Role, below: int | None, generator: "Generator") -> "Tensor":
    import torch

    shape, dtype = [size(dim) for dim in type_.shape], getattr(torch, type_.dtype)
    if dtype == torch.bool:
        return torch.ones(shape, dtype=dtype)
    if not dtype.is_floating_point and not shape:
        return torch.randint(1, _MOST_STEPS, shape, generator=generator).to(dtype)
    if not dtype.is_floating_point:
        least = max(torch.iinfo(dtype).min, -_MOST_CODE) if role == "weight" else 0
        above = below or (_MOST_CODE if role == "weight" else 2)
        return torch.randint(least, above, shape, generator=generator).to(dtype)
    drawn = torch.randn(shape, generator=generator)
    if role == "state":
        return (drawn * _MOMENT).to(dtype)
    if role in ("weight", "buffer") and len(shape) <= 1:
        return (drawn * 0.3 + 0.5).to(dtype)
    return (drawn / sqrt(max(1, shape[-1])) if role == "weight" else drawn).to(dtype)


def _positions(type_: TensorType, first: int, below: int | None) -> "Tensor":
    import torch

    shape = [size(dim) for dim in type_.shape]
    places = torch.arange(first, first + shape[-1], dtype=getattr(torch, type_.dtype))
    return (places if below is None else places % below).expand(shape)


def _limits(model: Model) -> dict[str, int]:
    """For every source whose numbers choose rows the length of the shortest table, as far as
    they are read as they are."""
    bodies = {name: _read_below(graph, {}) for name, graph in model.graphs.items()}
    known = {name: list(_passed(graph, bodies[name])) for name, graph in model.graphs.items()}
    main = _read_below(model.main, known)
    found: dict[str, int] = {}
    for graph, first, count in ((model.main, 0, 1), *model.runs()):
        below = main if graph is model.main else bodies[graph.name]
        for value in graph.inputs:
            for layer in range(first, first + count) if value.name in below else ():
                source = value.source.replace("*", str(layer))
                found[source] = min(below[value.name], found.get(source, below[value.name]))
    return found


def _passed(graph: Graph, below: Mapping[str, int]) -> "list[int | None]":
    return [below.get(i.name) for i in graph.inputs if i.role in ("carried", "shared")]


def _read_below(graph: Graph, bodies: "Mapping[str, list[int | None]]") -> dict[str, int]:
    """What the values of a graph that choose rows must be below."""
    found: dict[str, int] = {}
    for op in reversed(graph.ops):
        limits = _operand_limits(op, graph, found, bodies)
        for operand, limit in zip(op.operands, limits, strict=False):
            if limit is not None:
                found[operand] = min(limit, found.get(operand, limit))
    return found


def _operand_limits(
    op: Op, graph: Graph, found: Mapping[str, int], bodies: "Mapping[str, list[int | None]]"
) -> "list[int | None]":
    match op.kind:
        case "embedding":
            return [_length(op, graph, 1, "rows"), None]
        case "cross_entropy":
            return [None, _length(op, graph, 0, "classes")]
        case "gather" | "scatter":
            return [found.get(op.result), _length(op, graph, 0, "along")]
        case "repeat":
            return bodies.get(op.text("body"), [])
        case kind if kind in _MOVED or op.attributes.get("expr") == "a":
            return [found.get(op.result)] * len(op.operands)
        case _:
            return []


def _length(op: Op, graph: Graph, operand: int, letter: str) -> int:
    at = indices_of(op).operands[operand].index(op.text(letter))
    return size(graph.types[op.operands[operand]].shape[at])
