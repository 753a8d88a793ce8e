"""What a step asks of any hardware, whatever the strategy: the sums that the design bound reads.

Taken from the mapped graphs of one layout, with one sequence in the batch: what every operator
works on a mesh of one core, and which sides of a mesh divide it. How long that takes at least on
some hardware is in design_bound.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np

from ..ir.dims import size
from ..ir.graph import DTYPE_BYTES, Op
from ..ir.hardware import Hardware
from ..ir.kinds import indices_of, kind_of
from ..ir.mapped import EXPERTS, MappedGraph
from .blocks import MESH_AXES, Blocks, axes_of, rows_of
from .core import compute_dtype, expression_work, matrix_dtype
from .cost import Costing, OpCost
from .memory import held_elsewhere

Unit = Literal["matrix", "vector"]
Sides = tuple[bool, bool]
"""Whether the rows of a mesh divide something, and whether its columns do."""

AXES = (*MESH_AXES["rows"], *MESH_AXES["columns"])
ONE: Mapping[str, int] = {**dict.fromkeys(AXES, 1), EXPERTS: 1}
HALVED = 0.75
"""Of an operator's work: it is divided by an axis if two devices along it leave it less."""
REFERENCE_SIDE = 16
"""Of the mesh on which the longest chain of a graph is looked for. Any chain gives a bound."""


@dataclass(frozen=True)
class Product:
    """An (m, k) by (k, n) product, and which sides divide each of the three."""

    dtype: str
    m: float
    n: float
    k: float
    m_sides: Sides
    n_sides: Sides
    k_sides: Sides


@dataclass(frozen=True)
class Collective:
    """An all-reduce, reduce-scatter or all-gather over a whole side of the mesh."""

    kind: str
    rows: bool
    """Over a column of cores: its line is as long as the mesh has rows."""
    bytes_: float
    sides: Sides


@dataclass(frozen=True)
class Tally:
    """Work of some operators, each counted as often as it runs for one sequence."""

    linear: Mapping[tuple[Unit, str, Sides], float]
    """Multiply-adds, and element operations of vectors, by unit, dtype and what divides them."""
    products: Sequence[tuple[Product, float]]
    """Those that are no part of a stepped product."""
    collectives: Sequence[tuple[Collective, float]]
    instructions: float
    """Vector instructions that are issued whatever the mesh."""
    launches: float


@dataclass(frozen=True)
class Demand:
    """What one step asks for at least, in one layout."""

    sequences: int
    """Of the step: figures are of one of them, but for weights."""
    trains: bool
    busy: Tally
    """All operators of a micro-batch."""
    chain: Tally
    """Operators of which each waits for the one before."""
    update: Tally
    """The optimizer, once a step."""
    energy: Mapping[str, tuple[float, float]]
    """Multiply-adds and vector operations of the step by dtype, for least energy."""
    sram_bytes: tuple[float, float]
    """Read and written by those."""
    weight_bytes: float
    read_bytes: float
    """Of weights that every sequence reads whole."""
    state_bytes: float
    cache_bytes: float
    """Of all sequences."""


def demand_of(
    hardware: Hardware,
    graphs: Mapping[str, MappedGraph],
    runs: Iterable[tuple[str, int]],
    updates: Iterable[tuple[str, int]],
    sequences: int,
) -> Demand:
    """The demand of a step whose micro-batch runs some graphs so many times, in one stage's order.

    `graphs` are bound to one sequence, of `sequences`; of a model that cannot be divided to all of
    them, which then count as one. `hardware` is any design of the space: rates are not used, dtypes
    are, and the longest chain is looked for on it.
    """
    core = replace(hardware.core, function_cycles=1.0)
    wafer = replace(hardware.wafer, die=replace(hardware.wafer.die, core=core))
    plain = replace(hardware, wafer=wafer)
    own = {name: _Graph(plain, mapped) for name, mapped in graphs.items()}
    runs, updates = [*runs], [*updates]
    elsewhere = held_elsewhere({name: mapped.graph for name, mapped in graphs.items()})
    kept = {name: own[name].kept(elsewhere[name]) for name in graphs}
    energy, sram = _energy(own, runs, updates, sequences)
    return Demand(
        sequences=sequences,
        trains=bool(updates),
        busy=_added((own[name].tally(own[name].all), n) for name, n in runs),
        chain=_added((own[name].tally(own[name].longest), n) for name, n in runs),
        update=_added((own[name].tally(own[name].all), n) for name, n in updates),
        energy=energy,
        sram_bytes=sram,
        weight_bytes=sum(kept[name][0] * n for name, n in runs),
        read_bytes=sum(kept[name][1] * n for name, n in runs),
        state_bytes=sum(kept[name][2] * n for name, n in updates),
        cache_bytes=sum(kept[name][3] * n for name, n in runs) * sequences,
    )


@dataclass(frozen=True)
class _Graph:
    """One mapped graph on a mesh of one core, and on meshes of two along each axis."""

    hardware: Hardware
    mapped: MappedGraph

    @property
    def costs(self) -> list[OpCost]:
        """Figures are of one core, and then of two along each axis in turn."""
        sizes = {axis: np.array([1, *(1 + (axis == other) for other in AXES)]) for axis in AXES}
        sizes[EXPERTS] = np.ones(1 + len(AXES), np.int64)
        return Costing(self.hardware, self.mapped, sizes).costs()

    @property
    def all(self) -> list[int]:
        """The numbers of all operators."""
        return list(range(len(self.mapped.graph.ops)))

    @property
    def longest(self) -> list[int]:
        """The numbers of the operators on the longest chain, on a mesh of a usual size."""
        sides = {"yh": 1, "yd": REFERENCE_SIDE, "xh": 1, "xd": REFERENCE_SIDE, EXPERTS: 1}
        costs = Costing(self.hardware, self.mapped, sides).costs()
        ends: dict[str, tuple[float, int]] = {}
        before: list[int] = []
        for at, cost in enumerate(costs):
            start, last = max(
                (ends.get(name, (0.0, -1)) for name in cost.op.operands), default=(0.0, -1)
            )
            before.append(last)
            ends |= dict.fromkeys(cost.op.results, (start + float(cost.cycles), at))
        _, at = max(ends.values(), default=(0.0, -1))
        chain: list[int] = []
        while at >= 0:
            chain.append(at)
            at = before[at]
        return chain[::-1]

    def tally(self, which: Sequence[int]) -> Tally:
        """The work of some operators, by number."""
        linear: dict[tuple[Unit, str, Sides], float] = {}
        products: list[tuple[Product, float]] = []
        collectives: list[tuple[Collective, float]] = []
        instructions = launches = 0.0
        costs = self.costs
        for cost in (costs[at] for at in which):
            op = cost.op
            if kind_of(op).collective and op.kind != "grid_matmul":
                collectives += [(found, 1.0) for found in self._collective(op)]
                continue
            work = [
                np.broadcast_to(each, 1 + len(AXES)).astype(float)
                for each in (cost.work.multiply_adds, cost.work.vector_operations)
            ]
            for unit, each in zip(("matrix", "vector"), work, strict=True):
                if each[0] > 0:
                    key = unit, self._dtype(op, unit), _sides(each, op.kind == "grid_matmul")
                    linear[key] = linear.get(key, 0.0) + each[0]
            launches += float(work[0][0] + work[1][0] > 0)
            if op.kind == "matmul":
                products.append((self._product(op), 1.0))
            elif op.kind in ("elementwise", "reduce", "rotary") and work[1][0] > 0:
                instructions += expression_work(op).arithmetic
        return Tally(linear, products, collectives, instructions, launches)

    def _dtype(self, op: Op, unit: str) -> str:
        core = self.hardware.core
        if unit == "vector":
            return compute_dtype(core, op.type.dtype)
        stated = op.attributes.get("compute")
        known = isinstance(stated, str) and stated in core.matrix_flops_per_cycle
        return str(stated) if known else matrix_dtype(core, op.type.dtype)

    def _product(self, op: Op) -> Product:
        indices = indices_of(op)
        sizes = Blocks(self.mapped, ONE).letters(op, indices)
        axes: dict[str, set[str]] = {letter: set() for letter in sizes}
        for letters, name in rows_of(op, indices):
            for letter, own in zip(letters, self.mapped.shardings[name].axes, strict=True):
                axes[letter] |= {*own}
        left, right = indices.operands
        groups = {
            "m": [x for x in sizes if x not in right],
            "n": [x for x in sizes if x not in left],
            "k": [x for x in sizes if x in left and x in right],
        }
        m, n, k = (float(prod(float(sizes[x]) for x in groups[name])) for name in "mnk")
        of_m, of_n, of_k = (
            _along(axis for x in groups[name] for axis in axes[x]) for name in "mnk"
        )
        return Product(self._dtype(op, "matrix"), m, n, k, of_m, of_n, of_k)

    def _collective(self, op: Op) -> Iterable[Collective]:
        """The collective, if it is over a whole side of the mesh."""
        if op.kind not in ("all_reduce", "reduce_scatter", "all_gather"):
            return
        axes = {*axes_of(op)}
        for rows, side in ((True, MESH_AXES["rows"]), (False, MESH_AXES["columns"])):
            if axes == {*side}:
                names = op.results if op.kind == "all_gather" else op.operands
                for name in names[:1]:
                    type_, lying = self.mapped.graph.types[name], self.mapped.shardings[name]
                    elements = float(prod(size(dim) for dim in type_.shape))
                    bytes_ = elements * DTYPE_BYTES[type_.dtype]
                    sides = _along(axis for own in lying.axes for axis in own)
                    yield Collective(op.kind, rows, bytes_, sides)

    def kept(self, elsewhere: frozenset[str]) -> tuple[float, float, float, float]:
        """Bytes of the graph's own weights, of those that products read whole, of the states of the
        optimizer, and of caches."""
        graph = self.mapped.graph
        read = {
            name for op in graph.ops if op.kind in ("matmul", "grid_matmul") for name in op.operands
        }
        own = [value for value in graph.inputs if value.name not in elsewhere]
        weights = [value for value in own if value.role == "weight"]
        made = [graph.types[output.name] for output in graph.outputs if output.role == "cache"]
        return (
            float(sum(size(value.type.bytes) for value in weights)),
            float(sum(size(value.type.bytes) for value in weights if value.name in read)),
            float(sum(size(value.type.bytes) for value in own if value.role == "state")),
            float(sum(size(type_.bytes) for type_ in made)),
        )


def _along(axes: Iterable[str]) -> Sides:
    found = {*axes}
    return bool(found & {*MESH_AXES["rows"]}), bool(found & {*MESH_AXES["columns"]})


def _sides(work: np.ndarray, stepped: bool) -> Sides:
    """What divides an operator, from its work on one core and on two along each axis; the tiles of
    a stepped product are divided by both."""
    if stepped:
        return True, True
    halved = {axis for axis, each in zip(AXES, work[1:], strict=True) if each < HALVED * work[0]}
    return _along(halved)


def _added(parts: Iterable[tuple[Tally, int]]) -> Tally:
    linear: dict[tuple[Unit, str, Sides], float] = {}
    products: dict[Product, float] = {}
    collectives: dict[Collective, float] = {}
    instructions = launches = 0.0
    for tally, count in parts:
        for key, amount in tally.linear.items():
            linear[key] = linear.get(key, 0.0) + count * amount
        for product, n in tally.products:
            products[product] = products.get(product, 0.0) + count * n
        for collective, n in tally.collectives:
            collectives[collective] = collectives.get(collective, 0.0) + count * n
        instructions += count * tally.instructions
        launches += count * tally.launches
    return Tally(linear, [*products.items()], [*collectives.items()], instructions, launches)


def _energy(
    own: Mapping[str, _Graph],
    runs: Sequence[tuple[str, int]],
    updates: Sequence[tuple[str, int]],
    sequences: int,
) -> tuple[Mapping[str, tuple[float, float]], tuple[float, float]]:
    """Multiply-adds and vector operations of a step by dtype, and bytes of SRAM read and written:
    no mesh does less."""
    counts: dict[str, tuple[float, float]] = {}
    read = written = 0.0
    repeats = [(name, n * sequences) for name, n in runs] + [*updates]
    for name, count in repeats:
        for cost in own[name].costs:
            if kind_of(cost.op).collective and cost.op.kind != "grid_matmul":
                continue
            work = cost.work
            first = [
                float(np.ravel(each)[0]) * count
                for each in (
                    *(work.multiply_adds, work.vector_operations),
                    *(work.sram_read_bytes, work.sram_write_bytes),
                )
            ]
            dtype = compute_dtype(own[name].hardware.core, cost.op.type.dtype)
            before = counts.get(dtype, (0.0, 0.0))
            counts[dtype] = before[0] + first[0], before[1] + first[1]
            read, written = read + first[2], written + first[3]
    return counts, (read, written)
