"""Latent attention in its absorbed form.

A model with latent attention caches a latent vector for every token and expands it to keys and
values of every head. With one query that is most of the work: the weights that expand may as well
be applied to the query and to the result, and attention runs over the latent vectors themselves
(DeepSeek-V2, arXiv 2405.04434, section 2.1.2 and appendix B).

What is expanded from what is read off the flow of data, element by element, on small sizes.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...ir import dims
from ...ir.graph import Attribute, Graph, Op, TensorType
from ...ir.interpreter import run_op
from ...ir.kind import parse_indices
from ...ir.kinds import graph_flops

if TYPE_CHECKING:
    from torch import Tensor

_LOG = logging.getLogger(__name__)

_PROBE = {"batch": 2, "sequence": 3, "context": 3}
"""Sizes at which the flow of data is read."""

_USUAL = {"batch": 1, "sequence": 4096, "context": 4096}
"""Sizes at which both forms are compared."""

_LIMIT = 1 << 26
"""Elements of keys beyond which the flow of data is not read: 512 MiB of their numbers."""

_MOVES = ("reshape", "transpose", "slice", "concat")


def absorb(graph: Graph) -> Graph:
    """The graph with every attention over expanded latents absorbed that then costs fewer FLOPs.

    A valid graph in, a valid graph with the same values out (other roundings).
    """
    for op in graph.ops:
        if op.kind == "attention" and (changed := _absorbed(graph, op)) is not None:
            before, after = (dims.bind(graph_flops(g), _USUAL) for g in (graph, changed))
            if dims.size(after) < dims.size(before):
                graph = changed
    return graph


@dataclass(frozen=True)
class _Expanded:
    """A range of a head's width that is a product of the latents: the head's rows of a weight
    start at `base` of its `stride` rows."""

    start: int
    stop: int
    product: Op
    latent: str
    weight: str
    rows_first: bool
    stride: int
    base: int


@dataclass(frozen=True)
class _Shared:
    """A range of a head's width that is the same for all heads: elements of a value from `base`."""

    start: int
    stop: int
    name: str
    base: int


_Segment = _Expanded | _Shared


def _absorbed(graph: Graph, op: Op) -> Graph | None:
    """The graph with one attention absorbed; None where it is not over expanded latents."""
    query, key, value = op.operands[:3]
    heads, groups = graph.types[query].shape[1], graph.types[key].shape[1]
    if not isinstance(heads, int) or heads == 1 or heads != groups:
        return None
    bound = graph.bind(_PROBE)
    widest = max((key, value), key=lambda name: dims.size(bound.types[name].elements))
    if dims.size(bound.types[widest].elements) > _LIMIT:
        _LOG.warning("%s: keys of %s are too many to absorb", op.path, bound.types[widest])
        return None
    segments = _segments(bound, key)
    values = _segments(bound, value)
    if segments is None or values is None or len(values) != 1:
        return None
    expanded = [part for part in (*segments, *values) if isinstance(part, _Expanded)]
    if not isinstance(values[0], _Expanded) or len(expanded) < 2:
        return None
    if len({part.latent for part in expanded}) != 1:
        return None
    return _without_dead(_replaced(graph, op, _Absorption(graph, op).ops(segments, values[0])))


def _replaced(graph: Graph, old: Op, new: Sequence[Op]) -> Graph:
    ops = [part for op in graph.ops for part in (new if op is old else [op])]
    return graph.with_ops(ops)


def _without_dead(graph: Graph) -> Graph:
    needed = set(graph.output_names)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if needed & set(op.results):
            kept.append(op)
            needed |= set(op.operands)
    return graph.with_ops(kept[::-1])


def _segments(bound: Graph, name: str) -> list[_Segment] | None:
    """What each range of the width of keys or values comes from; None where it is neither an
    expanded latent nor the same for all heads."""
    flow = _Flow(bound)
    ids = flow.ids(name)
    alike: list[bool] = (ids == ids[:, :1]).flatten(0, 2).all(0).tolist()
    roots = [None if same else flow.root(int(ids[0, 0, 0, d])) for d, same in enumerate(alike)]
    edges = [0, *(d for d in range(1, len(roots)) if roots[d] != roots[d - 1]), len(roots)]
    found: list[_Segment] = []
    for start, stop in pairwise(edges):
        part, root = ids[..., start:stop], roots[start]
        if root is None:
            segment = _shared(bound, flow, part[:, :1], start)
        else:
            segment = _expanded(bound, root, part - flow.firsts[root], start)
        if segment is None:
            return None
        found.append(segment)
    return found


class _Flow:
    """Where the elements of values come from: each has the number of the element that it is a
    copy of. `firsts` are the values that are no copies, each with its first number."""

    def __init__(self, bound: Graph) -> None:
        self.bound = bound
        self.firsts: dict[str, int] = {}
        self.known: dict[str, Tensor] = {}
        self._used = 0

    def ids(self, name: str) -> "Tensor":
        """The numbers of a value's elements."""
        if name not in self.known:
            op = self.bound.producers.get(name)
            moved = op is not None and _moves(self.bound, op)
            self.known[name] = self._moved(op) if op is not None and moved else self._new(name)
        return self.known[name]

    def _moved(self, op: Op) -> "Tensor":
        types = tuple(TensorType("int64", type_.shape) for type_ in op.types)
        operands = [self.ids(operand) for operand in op.operands]
        return run_op(dataclasses.replace(op, types=types), operands)[0]

    def _new(self, name: str) -> "Tensor":
        import torch

        shape = torch.Size([dims.size(dim) for dim in self.bound.types[name].shape])
        self.firsts[name] = self._used
        self._used += shape.numel()
        return torch.arange(self.firsts[name], self._used).reshape(shape)

    def root(self, number: int) -> str:
        """The value that an element of a number belongs to."""
        return max(
            (name for name, first in self.firsts.items() if first <= number),
            key=lambda name: self.firsts[name],
        )


def _moves(graph: Graph, op: Op) -> bool:
    """Whether an operator only puts elements elsewhere."""
    if op.kind == "elementwise" and op.attributes.get("expr") == "a":
        return graph.types[op.operands[0]].dtype == op.type.dtype
    return op.kind in _MOVES


def _shared(bound: Graph, flow: _Flow, ids: "Tensor", start: int) -> _Shared | None:
    """Elements (batch, 1, keys, width) of a value that is (tokens, width) under any shape."""
    import torch

    count = ids.shape[-1]
    tokens = ids.numel() // count
    flat = ids.reshape(tokens, count)
    for name in bound.types:
        known = flow.known.get(name)
        if known is None or not known.dim() or known.numel() != tokens * known.shape[-1]:
            continue
        rows = known.reshape(tokens, -1)
        for base in (rows[0] == flat[0, 0]).nonzero().flatten().tolist():
            if torch.equal(rows[:, base : base + count], flat):
                return _Shared(start, start + count, name, base)
    return None


def _expanded(bound: Graph, root: str, places: "Tensor", start: int) -> _Expanded | None:
    """Elements of a product of a weight with one vector a token, the rows of each head together."""
    import torch

    product = bound.producers.get(root)
    if product is None or product.kind != "matmul":
        return None
    (left, right), result = parse_indices(product.text("indices"))
    sides = ((0, left, right), (1, right, left))
    batch, heads, keys, count = places.shape
    tokens = torch.arange(batch * keys).reshape(batch, 1, keys, 1).expand_as(places)
    coordinates = dict(
        zip(result, torch.unravel_index(places, [*map(dims.size, product.type.shape)]), strict=True)
    )
    for at, latent, weight in sides:
        inner = [letter for letter in latent if letter not in result]
        rows = [letter for letter in weight if letter not in inner]
        if len(inner) != 1 or latent[-1] != inner[0] or set(rows) & set(latent):
            continue
        if weight[0] != inner[0] and weight[-1] != inner[0]:
            continue
        sizes = dict(zip(result, map(dims.size, product.type.shape), strict=True))
        token = _flat([coordinates[x] for x in latent[:-1]], [sizes[x] for x in latent[:-1]])
        row = _flat([coordinates[x] for x in rows], [sizes[x] for x in rows])
        total = _flat([torch.tensor(sizes[x] - 1) for x in rows], [sizes[x] for x in rows]) + 1
        stride = int(total) // heads
        base = int(row[0, 0, 0, 0])
        expected = torch.arange(heads).reshape(heads, 1, 1) * stride + torch.arange(
            base, base + count
        )
        if stride * heads != int(total) or base + count > stride:
            continue
        if torch.equal(token, tokens) and torch.equal(row, expected.expand_as(row)):
            names = product.operands[at], product.operands[1 - at]
            rows_first = weight[-1] == inner[0]
            return _Expanded(start, start + count, product, *names, rows_first, stride, base)
    return None


def _flat(coordinates: "Sequence[Tensor]", sizes: Sequence[int]) -> "Tensor":
    """The row-major number of a place in dimensions of `sizes`."""
    import torch

    number = torch.zeros((), dtype=torch.int64)
    for coordinate, size in zip(coordinates, sizes, strict=True):
        number = number * size + coordinate
    return number


class _Absorption:
    """Makes the operators that one attention becomes; its last one yields the same result."""

    def __init__(self, graph: Graph, op: Op) -> None:
        self.graph, self.attention = graph, op
        self.types = dict(graph.types)
        self.made: list[Op] = []

    def ops(self, segments: Sequence[_Segment], value: _Expanded) -> list[Op]:
        """Queries against latents and what all heads share, and their result expanded."""
        batch, heads, queries, _ = self.types[self.attention.operands[0]].shape
        latent = self._tokens(value.latent)
        whole = len(segments) == 1
        asked = [self._asked(part, whole) for part in segments]
        seen = [latent if isinstance(p, _Expanded) else self._common(p) for p in segments]
        operands = (self._joined("query", asked), self._joined("key", seen), latent)
        width = self.types[latent].shape[-1]
        mixed = TensorType(self.attention.type.dtype, (batch, queries, heads, width))
        name = self._name("mixed")
        self._append(
            dataclasses.replace(
                self.attention,
                operands=(*operands, *self.attention.operands[3:]),
                results=(name,),
                types=(mixed,),
            )
        )
        rows = "hel" if value.rows_first else "lhe"
        self._append(
            Op(
                "matmul",
                (name, self._weight(value)),
                self.attention.results,
                self.attention.types,
                {"indices": f"bshl,{rows}->bshe"},
                value.product.path,
            )
        )
        return self.made

    def _asked(self, part: _Segment, whole: bool) -> str:
        """The queries' share of a range, against latents by way of the weight."""
        query = self.attention.operands[0]
        if not whole:
            query = self._slice("asked", query, "bhsd", "d", part.start, part.stop)
        if isinstance(part, _Shared):
            return query
        batch, heads, queries, _ = self.types[query].shape
        type_ = TensorType(
            self.types[query].dtype, (batch, heads, queries, self.types[part.latent].shape[-1])
        )
        rows = "hdl" if part.rows_first else "lhd"
        indices = f"bhsd,{rows}->bhsl"
        name = self._add("matmul", "asked", (query, self._weight(part)), type_, indices=indices)
        self.made[-1] = dataclasses.replace(self.made[-1], path=part.product.path)
        return name

    def _weight(self, part: _Expanded) -> str:
        """The rows of a range: (heads, rows, latent), or the latent first."""
        type_ = self.types[part.weight]
        heads = dims.size(self.types[self.attention.operands[0]].shape[1])
        latent = self.types[part.latent].shape[-1]
        shape = (heads, part.stride, latent) if part.rows_first else (latent, heads, part.stride)
        name = self._reshape("weight", part.weight, TensorType(type_.dtype, shape))
        count = part.stop - part.start
        if count == part.stride:
            return name
        letters = "hrl" if part.rows_first else "lhr"
        return self._slice("rows", name, letters, "r", part.base, part.base + count)

    def _common(self, part: _Shared) -> str:
        name = self._tokens(part.name)
        count = part.stop - part.start
        if count == self.types[name].shape[-1]:
            return name
        return self._slice("common", name, "bgtd", "d", part.base, part.base + count)

    def _tokens(self, name: str) -> str:
        """A value as one head for all: (batch, 1, keys, width)."""
        batch, _, keys, _ = self.types[self.attention.operands[1]].shape
        width = self.types[name].shape[-1]
        shape = (batch, 1, keys, width)
        return self._reshape("tokens", name, TensorType(self.types[name].dtype, shape))

    def _joined(self, label: str, parts: Sequence[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        width = sum((self.types[part].shape[-1] for part in parts), start=0)
        first = self.types[parts[0]]
        type_ = TensorType(first.dtype, (*first.shape[:-1], width))
        indices = f"{','.join('bhsd' for _ in parts)}->bhsd"
        return self._add("concat", label, parts, type_, indices=indices, along="d")

    def _slice(self, label: str, name: str, letters: str, along: str, start: int, stop: int) -> str:
        type_ = self.types[name]
        shape = [
            stop - start if letter == along else dim
            for letter, dim in zip(letters, type_.shape, strict=True)
        ]
        bounds: dict[str, Attribute] = {"along": along, "start": start, "stop": stop}
        narrow = TensorType(type_.dtype, tuple(shape))
        return self._add("slice", label, (name,), narrow, indices=f"{letters}->{letters}", **bounds)

    def _reshape(self, label: str, name: str, type_: TensorType) -> str:
        if self.types[name] == type_:
            return name
        return self._add("reshape", label, (name,), type_)

    def _add(
        self, kind: str, label: str, operands: Sequence[str], type_: TensorType, **more: Attribute
    ) -> str:
        name = self._name(label)
        self._append(Op(kind, tuple(operands), (name,), (type_,), more, self.attention.path))
        return name

    def _append(self, op: Op) -> None:
        self.made.append(op)
        self.types[op.result] = op.type

    def _name(self, label: str) -> str:
        base = name = f"{self.attention.result}.{label}"
        count = 0
        while name in self.types:
            count += 1
            name = f"{base}_{count}"
        return name
