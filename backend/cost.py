"""What every operator of a mapped graph costs on its mesh, before anything overlaps.

All figures follow the sizes of the mesh axes, which may be arrays (extents.py). Times are cycles
of the core's clock.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod

import numpy as np

from ..ir.dims import size
from ..ir.floor import floor_of
from ..ir.graph import DTYPE_BYTES, Op
from ..ir.hardware import Hardware
from ..ir.kinds import Indices, indices_of, kind_of
from ..ir.mapped import Direction, MappedGraph
from . import collectives
from .blocks import MESH_AXES, Blocks, axes_of, rows_of
from .collectives import Line, Traffic
from .core import (
    CoreWork,
    compute_dtype,
    expression_work,
    map_work,
    matrix_dtype,
    product_work,
    tile_product_work,
)
from .exchange import Exchange, Places
from .extents import Number, Sizes, ceil_div, either, extent
from .gpu.device import device_of, in_registers
from .gpu.kernels import GraphKernels
from .gpu.operators import PRODUCTS
from .kernels import KERNELS, Kernel, added, chosen_product, experts_taken, replicas_of, times
from .op_cost import OpCost
from .query_blocks import QUERIES, QueryBlocks, scores_room
from .streamed import LAUNCHES, Features, Flow, streamed_product
from .switched import SWITCHED, Group, energy_j


@dataclass(frozen=True)
class Costing:
    """The costs of a mapped graph's operators for one mesh or many."""

    hardware: Hardware
    mapped: MappedGraph
    sizes: Sizes
    streaming: bool = False
    """Whether weights come from off the wafer as they are read, and gradients leave it."""
    places: Places = ()
    """Where the replicas that divide experts lie, if that is known."""

    def costs(self) -> list[OpCost]:
        """One entry an operator, in the graph's order."""
        return [self._cost(op) for op in self.mapped.graph.ops]

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.mapped, self.sizes)

    @cached_property
    def _devices(self) -> Number:
        """Of the mesh."""
        return prod((extent(axes, self.sizes) for axes in MESH_AXES.values()), start=1)

    @cached_property
    def _gpu(self) -> GraphKernels | None:
        device = device_of(self.hardware)
        if device is None:
            return None
        lanes = dataclasses.replace(self, hardware=in_registers(self.hardware))
        return GraphKernels(
            device,
            self._blocks,
            self._rate,
            lambda op: lanes._on_core(op).work,
            lambda op: chosen_product(self._kernel(op)),
        )

    @cached_property
    def _attention(self) -> QueryBlocks:
        return QueryBlocks(self.mapped, self.sizes, scores_room(self.hardware))

    def _cost(self, op: Op) -> OpCost:
        runs = self._attention.runs(op)
        if runs is not None:
            mapped, sizes = self._attention.of(op)
            return dataclasses.replace(self, mapped=mapped, sizes=sizes)._on_core(op).times(runs)
        alone = kind_of(op).collective and op.kind not in PRODUCTS
        return self._on_core(op) if self._gpu is None or alone else self._on_gpu(op, self._gpu)

    def _on_gpu(self, op: Op, gpu: GraphKernels) -> OpCost:
        kernels = gpu.of(op)
        launch = sum((each.launch_cycles for each in kernels), start=0.0)
        cycles = sum((each.cycles for each in kernels), start=0.0)
        calls = sum((np.minimum(each.count, 1.0) for each in kernels), start=0.0)
        host = calls * self.hardware.core.software.host_cycles
        work = added(each.work for each in kernels)
        return OpCost(op, cycles, launch, 0.0, cycles, work, host_cycles=host)

    def _on_core(self, op: Op) -> OpCost:
        special = _COSTS.get(op.kind)
        if special is not None:
            return special(self, op)
        kernel = KERNELS.get(op.kind)
        return self._map(op) if kernel is None else self._local(op, kernel(self._kernel(op)))

    # Blocks.

    def _shape(self, name: str) -> list[Number]:
        return self._blocks.shape(name)

    def _bytes(self, name: str) -> Number:
        return self._blocks.bytes(name)

    def _words(self, names: Iterable[str]) -> Number:
        """Words of some values' blocks as one message."""
        total = sum((self._bytes(name) for name in names), start=0.0)
        return ceil_div(total, self.hardware.core.router.width_bytes)

    def _kernel(self, op: Op) -> Kernel:
        indices, types = indices_of(op), self.mapped.graph.types
        whole = {
            letter: size(dim)
            for letters, name in rows_of(op, indices)
            for letter, dim in zip(letters, types[name].shape, strict=True)
        }
        letters = self._blocks.letters(op, indices)
        replicas = replicas_of(op, self.sizes)
        return Kernel(self.hardware.core, op, letters, whole, self._taken(op), replicas)

    def _taken(self, op: Op) -> Number:
        """The part of an operator's result that is read: of dequantized experts those touched."""
        readers = self.mapped.graph.consumers[op.result]
        if op.kind != "dequantize" or {reader.kind for reader in readers} != {"chosen_matmul"}:
            return 1.0
        return reduce(np.maximum, (experts_taken(self._kernel(reader)) for reader in readers))

    def line(self, axes: tuple[str, ...]) -> tuple[Line, Number]:
        """The cores that a collective over some axes of one direction joins, and how many such
        collectives share them: where other axes lie in between, the collectives of all their
        places run over the same links, as one of all cores with so many times the words."""
        along: Direction = "rows" if axes[0] in MESH_AXES["rows"] else "columns"
        mesh = MESH_AXES[along]
        spanned = mesh[min(mesh.index(axis) for axis in axes) :]
        between = extent((axis for axis in spanned if axis not in axes), self.sizes)
        die = self.hardware.wafer.die
        cores = die.rows if along == "rows" else die.columns
        joined = extent(axes, self.sizes)
        return Line(either(joined > 1, joined * between, 1), cores, between), between

    # Local operators.

    def _local(self, op: Op, work: CoreWork) -> OpCost:
        """An operator that is launched once."""
        launch = self.hardware.core.software.launch_cycles * (np.asarray(work.cycles) > 0)
        cycles = work.cycles + launch
        return OpCost(op, cycles, launch, 0.0, cycles, work)

    def _map(self, op: Op) -> OpCost:
        """An instruction for every node of the expression over the largest block it touches."""
        touched = op.operands if op.kind == "reduce" else op.results
        elements = reduce(np.maximum, (prod(self._shape(n), start=1.0) for n in touched))
        dtype = compute_dtype(self.hardware.core, op.type.dtype)
        return self._local(op, map_work(self.hardware.core, dtype, elements, expression_work(op)))

    def _append(self, op: Op) -> OpCost:
        """Only what is new is copied; a cache stays where it is."""
        caches = {value.name for value in self.mapped.graph.inputs if value.role == "cache"}
        fresh = [prod(self._shape(name), start=1.0) for name in op.operands if name not in caches]
        elements = sum(fresh, start=0.0)
        dtype = compute_dtype(self.hardware.core, op.type.dtype)
        return self._local(op, map_work(self.hardware.core, dtype, elements, expression_work(op)))

    def _free(self, op: Op) -> OpCost:
        return self._local(op, CoreWork())

    def _matmul(self, op: Op) -> OpCost:
        indices = indices_of(op)
        m, n, k = self._product_shape(indices, self._blocks.letters(op, indices))
        return self._local(op, product_work(self.hardware.core, self._rate(op), m, n, k))

    def _rate(self, op: Op) -> str:
        """The dtype at whose rate a product runs: that which it says it multiplies, if the core
        multiplies that."""
        core, stated = self.hardware.core, op.attributes.get("compute")
        if isinstance(stated, str) and stated in core.matrix_flops_per_cycle:
            return stated
        return matrix_dtype(core, op.type.dtype)

    @staticmethod
    def _product_shape(indices: Indices, sizes: dict[str, Number]) -> tuple[Number, Number, Number]:
        """(m, n, k) of a block's product; letters of both operands and the result count in k."""
        left, right = indices.operands
        m = prod((n for x, n in sizes.items() if x not in right), start=1.0)
        n = prod((n for x, n in sizes.items() if x not in left), start=1.0)
        k = prod((n for x, n in sizes.items() if x in left and x in right), start=1.0)
        return m, n, k

    # Collectives.

    def _collective(
        self,
        op: Op,
        collective: Callable[[Hardware, Line, Number], Traffic],
        values: Iterable[str],
    ) -> OpCost:
        """One message of some values' blocks over the cores that the op's axes join."""
        if self._switched:
            return self._through_switches(op, values)
        axes = axes_of(op)
        line, sharing = self.line(axes)
        traffic = collective(self.hardware, line, self._words(values) * sharing)
        launch = traffic.launches * self.hardware.core.software.launch_cycles
        rows = axes[0] in MESH_AXES["rows"]
        lines = self._devices / line.cores
        return OpCost(
            op=op,
            core_cycles=launch,
            launch_cycles=launch,
            network_cycles=traffic.cycles,
            cycles=launch + traffic.cycles,
            work=self._exchanged(op),
            columns_words=0.0 if rows else traffic.link_words,
            rows_words=traffic.link_words if rows else 0.0,
            ramp_words=traffic.ramp_words,
            word_hops=traffic.word_hops * lines,
        )

    @cached_property
    def _switched(self) -> bool:
        return floor_of(self.hardware).switched

    def _through_switches(self, op: Op, values: Iterable[str]) -> OpCost:
        """The collective of devices in a row, all of a kind at the same time; words are cycles
        that the slowest link is busy."""
        axes, hardware = axes_of(op), self.hardware
        members, stride = extent(axes, self.sizes), self.stride(axes)
        bytes_ = sum((self._bytes(name) for name in values), start=0.0)
        found = SWITCHED[op.kind](hardware, Group(members, stride), bytes_)
        software, clock = hardware.core.software, hardware.core.clock_hz
        launches = 1.0 * (np.asarray(members) > 1)
        launch = launches * software.launch_cycles
        groups = self._devices / members
        return OpCost(
            op=op,
            core_cycles=launch,
            launch_cycles=launch,
            network_cycles=found.seconds * clock,
            cycles=launch + found.seconds * clock,
            work=self._exchanged(op),
            columns_words=found.transfer_s * clock,
            link_energy_j=groups * energy_j(hardware, found),
            host_cycles=launches * software.host_cycles,
        )

    def stride(self, axes: tuple[str, ...]) -> Number:
        """Places in the row of devices between members of a collective over some axes."""
        mesh = MESH_AXES["columns"]
        behind = mesh[max((mesh.index(axis) for axis in axes if axis in mesh), default=1) + 1 :]
        return extent(behind, self.sizes)

    def _exchanged(self, op: Op) -> CoreWork:
        """What a collective makes of a core besides time: its block is read, what comes is
        written, and a sum or maximum adds the block once."""
        sent = sum((self._bytes(name) for name in op.operands), start=0.0)
        received = sum((self._bytes(name) for name in op.results), start=0.0)
        shapes = [self._shape(name) for name in op.operands if op.kind != "all_gather"]
        added = sum((prod(shape, start=1.0) for shape in shapes), start=0.0)
        return CoreWork(vector_operations=added, sram_read_bytes=sent, sram_write_bytes=received)

    def _all_reduce(self, op: Op) -> OpCost:
        return self._collective(op, collectives.all_reduce, op.operands)

    def _reduce_scatter(self, op: Op) -> OpCost:
        return self._collective(op, collectives.reduce_scatter, op.operands)

    def _all_gather(self, op: Op) -> OpCost:
        return self._collective(op, collectives.all_gather, op.results)

    def _exchange(self, op: Op) -> OpCost:
        """Tokens to the replicas that hold their experts, or back."""
        return Exchange(self.hardware, self._blocks, self.places).cost(op, self._exchanged(op))

    def _grid_matmul(self, op: Op) -> OpCost:
        if self.streaming and self._flow.concerns(op):
            return self._streamed(op)
        return (self._rotated if op.text("form") == "rotate" else self._reduced)(op)

    @cached_property
    def _flow(self) -> Flow:
        return Flow.of(self.mapped.graph)

    def _streamed(self, op: Op) -> OpCost:
        """A product whose weights, or whose gradient, no core holds."""
        block, flow = self._blocks.letters(op, indices_of(op)), self._flow
        sizes = Features.of(op, self.mapped.graph, block, flow)
        rows, columns = (extent(axes, self.sizes) for axes in MESH_AXES.values())
        made = op.result in flow.gradients
        found = streamed_product(self.hardware, self._rate(op), sizes, rows, columns, made)
        launch = LAUNCHES * self.hardware.core.software.launch_cycles
        cycles = launch + found.work.cycles
        return OpCost(
            op=op,
            core_cycles=cycles,
            launch_cycles=launch,
            network_cycles=found.filling_cycles,
            cycles=cycles + found.filling_cycles,
            work=found.work,
            columns_words=found.row_words,
            rows_words=found.column_words,
            ramp_words=found.row_words + found.column_words,
            word_hops=(found.row_words + found.column_words) * rows * columns,
        )

    def _rotated(self, op: Op) -> OpCost:
        """Both operands' tiles travel; the contraction is cut into as many steps as the longer
        side of the mesh has devices."""
        indices = indices_of(op)
        left, right = (self._travels(op, at, indices, frozenset(indices.reduced)) for at in (0, 1))
        steps = np.maximum(left, right)
        sizes = self._blocks.letters(op, indices)
        whole = self._whole_contraction(op, indices)
        sizes = {x: n for x, n in sizes.items() if x not in indices.reduced}
        m, n, k = self._product_shape(indices, sizes)
        width = self.hardware.core.router.width_bytes
        step = collectives.shift_step(
            self.hardware,
            self._bytes(op.operands[0]) * left / steps / width,
            self._bytes(op.operands[1]) * right / steps / width,
            self._periods,
        )
        inner = ceil_div(whole, steps)
        product = tile_product_work(self.hardware.core, self._rate(op), m, n, k * inner)
        turns = collectives.aligning_turns(steps) * self._aligns(op)
        return self._stepped(op, steps, product, step, 0.0, np.asarray(steps) > 1, turns)

    def _aligns(self, op: Op) -> bool:
        """Whether no product before this one has aligned the tiles of its left operand."""
        left = op.operands[0]
        readers = (r for r in self.mapped.graph.consumers[left] if r.kind == "grid_matmul")
        rotated = (r for r in readers if r.operands[0] == left and r.text("form") == "rotate")
        return next(rotated) == op

    def _reduced(self, op: Op) -> OpCost:
        """The right operand's tiles travel down the columns and sums run along the rows, or, where
        the contraction is cut over the rows, the other way round."""
        indices = indices_of(op)
        keys = frozenset(x for x in indices.operands[1] if x not in indices.operands[0])
        steps = self._travels(op, 1, indices, keys)
        summing = self._travels(op, 0, indices, frozenset(indices.reduced))
        sizes = self._blocks.tile_letters(op, indices)
        m, n, k = self._product_shape(indices, sizes)
        product = product_work(self.hardware.core, self._rate(op), m, n, k)
        shared = prod(
            (
                n
                for x, n in sizes.items()
                if x in indices.result and x in indices.operands[0] and x in indices.operands[1]
            ),
            start=1.0,
        )
        width = self.hardware.core.router.width_bytes
        bytes_ = self._bytes(op.operands[1]) / width
        element = self.mapped.graph.types[op.operands[0]]
        sums = m * n * shared * DTYPE_BYTES[element.dtype] / width
        moves, adds = np.asarray(steps) > 1, np.asarray(summing) > 1
        down = set(self._axes(op, 0, indices, frozenset(indices.reduced))) & set(MESH_AXES["rows"])
        periods = (self._periods[1], self._periods[0]) if down else self._periods
        step = collectives.reduce_step(self.hardware, bytes_ * moves, sums * adds, periods)
        if down:
            words = {"row_words": step.column_words, "column_words": step.row_words}
            step = dataclasses.replace(step, **words)
        chain = (2 * self.hardware.core.router.ramp_cycles + 2) * (summing - 1)
        return self._stepped(op, steps, product, step, chain, moves | adds)

    @cached_property
    def _periods(self) -> collectives.Periods:
        rows, columns = (extent(axes, self.sizes) for axes in MESH_AXES.values())
        return collectives.step_periods(self.hardware, rows, columns)

    def _travels(self, op: Op, at: int, indices: Indices, letters: frozenset[str]) -> Number:
        """Over how many devices one operand is cut along some letters."""
        return extent(self._axes(op, at, indices, letters), self.sizes)

    def _axes(self, op: Op, at: int, indices: Indices, letters: frozenset[str]) -> tuple[str, ...]:
        """The axes that one operand is cut over along some letters."""
        sharding = self.mapped.shardings[op.operands[at]]
        pairs = zip(indices.operands[at], sharding.axes, strict=True)
        axes = (axis for x, axes in pairs if x in letters for axis in axes)
        return tuple(axis for axis in axes if axis != QUERIES)

    def _whole_contraction(self, op: Op, indices: Indices) -> Number:
        shape = self.mapped.graph.types[op.operands[0]].shape
        pairs = zip(indices.operands[0], shape, strict=True)
        return prod((size(dim) for x, dim in pairs if x in indices.reduced), start=1)

    def _stepped(
        self,
        op: Op,
        steps: Number,
        product: CoreWork,
        step: collectives.Rotation,
        last: Number,
        sends: Number,
        turns: Number = 0.0,
    ) -> OpCost:
        """Steps whose transfers overlap the product of the step before (double buffers); `sends`
        where there are other devices to exchange with. Every step launches a product too. Before
        the first the left operand's tiles make some `turns` on their own."""
        launches = steps + (steps * step.launches + turns) * sends
        launch = launches * self.hardware.core.software.launch_cycles
        turn = collectives.shift_step(self.hardware, step.row_words, 0.0, self._periods)
        exchange, aligning = step.cycles * sends, turns * turn.cycles * sends
        core = steps * product.cycles + launch
        row_words = (steps + turns) * step.row_words * sends
        column_words = steps * step.column_words * sends
        devices = self._devices
        return OpCost(
            op=op,
            core_cycles=core,
            launch_cycles=launch,
            network_cycles=steps * exchange + aligning,
            cycles=launch + aligning + steps * np.maximum(product.cycles, exchange) + last * sends,
            work=times(product, steps),
            columns_words=row_words,
            rows_words=column_words,
            ramp_words=row_words + column_words,
            word_hops=2 * (row_words + column_words) * devices,
        )


_COSTS: dict[str, Callable[[Costing, Op], OpCost]] = {
    "matmul": Costing._matmul,
    "concat": Costing._append,
    "shard": Costing._free,
    "slice": Costing._free,
    "view": Costing._free,
    "all_reduce": Costing._all_reduce,
    "reduce_scatter": Costing._reduce_scatter,
    "all_gather": Costing._all_gather,
    "dispatch": Costing._exchange,
    "collect": Costing._exchange,
    "grid_matmul": Costing._grid_matmul,
}
