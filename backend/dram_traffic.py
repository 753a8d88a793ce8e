"""What the runs of a graph ask of the memory where weights or caches lie, and the pieces of these
that a core holds meanwhile. How fast that memory is, is not known here (dram.py)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from ..ir.dims import size
from ..ir.graph import DTYPE_BYTES, Op
from ..ir.hardware import Core
from ..ir.kinds import indices_of
from ..ir.mapped import MappedGraph
from .blocks import Blocks, rows_of
from .extents import Number, Sizes, block_bytes, ceil_div
from .kernels import Kernel, experts_taken, replicas_of
from .scales import scale_bytes

PIECE_BYTES = 4096.0
"""Of a block that is read bit by bit, what a core holds at a time. Assumed: operands of a few
vector instructions, and more than a core's share of any memory brings within its latency."""

_PASSED_ON = frozenset({"dequantize", "concat", "view", "slice", "all_gather"})
"""Kinds that hand an operand on as it is read."""
_BIT_BY_BIT = frozenset({"matmul", "chosen_matmul", "embedding", "elementwise", "reduce", "update"})
"""Kinds of operators that need no whole block of an operand at once."""


@dataclass(frozen=True)
class Moved:
    """Bytes of one run of a graph: weights and optimizer's states that it reads and writes,
    gradients that it makes, caches that it reads and what it puts into them."""

    read: Number
    written: Number
    gradients: Number
    cache_read: Number
    cache_written: Number
    chosen: Number = 0.0
    """Of what is read: of experts those that some token takes."""
    experts: Number = 0.0
    """All of those experts, taken or not."""

    def read_by(self, replicas: Number) -> Number:
        """What several replicas read between them, each byte once: their tokens take experts
        independently of each other, so that one is missed by all as often as by each."""
        experts = np.maximum(self.experts, 1.0)
        missed = (1.0 - np.minimum(self.chosen / experts, 1.0)) ** replicas
        return self.read - self.chosen + self.experts * (1.0 - missed)


def moved_of(core: Core, mapped: MappedGraph, sizes: Sizes) -> Moved:
    """What the fullest core of a mesh moves in one run of a graph; with meshes of one device, what
    all of them do that read each byte once."""
    graph = mapped.graph
    stored = [i.name for i in graph.inputs if i.role in ("weight", "buffer", "state", "gradient")]
    made = {role: [o.name for o in graph.outputs if o.role == role] for role in _MADE}

    def bytes_of(names: list[str]) -> Number:
        return sum((stored_bytes(mapped, name, sizes) for name in names), start=0.0)

    cached = [value.name for value in graph.inputs if value.role == "cache"]
    fresh = [name for output in made["cache"] for name in _fresh(mapped, output)]
    taken = {name: _taken_bytes(core, mapped, name, sizes) for name in stored}
    experts = [name for name in stored if _kinds_of_readers(mapped, name) == {"chosen_matmul"}]
    return Moved(
        read=sum(taken.values(), start=0.0),
        written=bytes_of(made["weight"]) + bytes_of(made["state"]),
        gradients=bytes_of(made["gradient"]),
        cache_read=bytes_of(cached),
        cache_written=bytes_of(fresh),
        chosen=sum((taken[name] for name in experts), start=0.0),
        experts=bytes_of(experts),
    )


_MADE = ("weight", "state", "gradient", "cache")


def stored_bytes(mapped: MappedGraph, name: str, sizes: Sizes) -> Number:
    """Bytes of a value's block, of scales those that are kept."""
    scales = scale_bytes(mapped, name, sizes)
    if scales is not None:
        return scales
    return block_bytes(mapped.graph.types[name], mapped.shardings[name], sizes)


def weight_piece(mapped: MappedGraph, sizes: Sizes) -> Number:
    """The most bytes of one weight (or state) that a core holds while it is used."""
    roles = ("weight", "state")
    names = (value.name for value in mapped.graph.inputs if value.role in roles)
    return reduce(np.maximum, (_piece(mapped, name, sizes) for name in names), np.asarray(0.0))


def cache_piece(mapped: MappedGraph, sizes: Sizes) -> Number:
    """The most bytes of caches that a core holds while they are read, or, where they are made
    anew, all that are made: attention reads them as they are."""
    graph = mapped.graph
    read = (_piece(mapped, value.name, sizes) for value in graph.inputs if value.role == "cache")
    outputs = [output.name for output in graph.outputs if output.role == "cache"]
    anew = [name for name in outputs if _fresh(mapped, name) == [name]]
    made = sum((stored_bytes(mapped, name, sizes) for name in anew), start=0.0)
    return np.maximum(reduce(np.maximum, read, np.asarray(0.0)), made)


def _fresh(mapped: MappedGraph, output: str) -> list[str]:
    """Of a cache what is put into it: what is appended to the one that was read, or all of it."""
    op = mapped.graph.producers.get(output)
    caches = {value.name for value in mapped.graph.inputs if value.role == "cache"}
    if op is None or op.kind != "concat" or caches.isdisjoint(op.operands):
        return [output]
    return [name for name in op.operands if name not in caches]


def _readers(mapped: MappedGraph, name: str) -> Iterator[Op]:
    """The operators that read a value, or what is made of it as they read it."""
    for op in mapped.graph.consumers[name]:
        if op.kind in _PASSED_ON:
            yield from _readers(mapped, op.result)
        else:
            yield op


def _kinds_of_readers(mapped: MappedGraph, name: str) -> set[str]:
    return {op.kind for op in _readers(mapped, name)}


def _piece(mapped: MappedGraph, name: str, sizes: Sizes) -> Number:
    whole = stored_bytes(mapped, name, sizes)
    if all(op.kind in _BIT_BY_BIT for op in _readers(mapped, name)):
        return np.minimum(whole, PIECE_BYTES)
    return whole


def _taken_bytes(core: Core, mapped: MappedGraph, name: str, sizes: Sizes) -> Number:
    """Bytes of a value that are read: of a table that tokens look up no more rows than there are
    tokens, which fall evenly on all its parts; of experts those that some token takes."""
    whole = stored_bytes(mapped, name, sizes)
    readers = list(_readers(mapped, name))
    kinds = {op.kind for op in readers}
    if not kinds:
        return 0.0
    if kinds == {"embedding"}:
        looked_up = (_looked_up(_kernel(core, mapped, op, sizes)) for op in readers)
        each = DTYPE_BYTES[mapped.graph.types[name].dtype]
        return np.minimum(whole, sum(looked_up, start=0.0) * each)
    if kinds == {"chosen_matmul"}:
        shares = (experts_taken(_kernel(core, mapped, op, sizes)) for op in readers)
        return whole * reduce(np.maximum, shares)
    return whole


def _looked_up(kernel: Kernel) -> Number:
    """Elements of the rows of a table that a core looks up."""
    (tokens, table), row = kernel.indices.operands[:2], kernel.op.text("rows")
    share = np.asarray(kernel.letters[row]) / kernel.whole[row]
    rows = ceil_div(kernel.extent(tokens) * share, 1.0)
    return rows * kernel.extent(x for x in table if x != row)


def _kernel(core: Core, mapped: MappedGraph, op: Op, sizes: Sizes) -> Kernel:
    indices, types = indices_of(op), mapped.graph.types
    whole = {
        letter: size(dim)
        for letters, name in rows_of(op, indices)
        for letter, dim in zip(letters, types[name].shape, strict=True)
    }
    letters = Blocks(mapped, sizes).letters(op, indices)
    return Kernel(core, op, letters, whole, replicas=replicas_of(op, sizes))
