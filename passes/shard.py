"""Every value gets a place on the mesh, and collectives appear where places differ.

Three layouts are known. `matvec` keeps tokens whole and cuts features over the rows and the columns
in turn, so that every product with a weight ends in one all-reduce (WaferLLM's decode, arXiv
2502.04563; on one row of devices Megatron's tensor parallelism, arXiv 1909.08053). `sequence` does
too, but cuts tokens over the columns between the products (arXiv 2205.05198). `matmul` cuts tokens
over the rows and features over the columns, and tiles travel (WaferLLM's prefill, after Cannon and
SUMMA). Mesh axes are named here, not sized: a layout holds for any region. Heads are cut over the
outer axis of a direction, over the inner one each head's width or the queries that share its keys.

Products and look-ups in tables choose their places (products.py, tables.py). Every other operator
keeps those of its operands: letters that may be cut keep their cut, what must be whole is gathered,
what is reduced gives partial results. What follows from weights, caches and model inputs alone
waits until something wants it, and lies as that wants.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..ir import dims
from ..ir.dims import Dim
from ..ir.errors import UserError, VerificationError
from ..ir.graph import Attribute, Graph, Input, Op, Output
from ..ir.kinds import Indices, indices_of
from ..ir.mapped import MappedGraph, Sharding, replicated
from ..ir.program import Layout
from . import caches, products, tables
from .aims import carried_sharding, summands, weights_of_gradients
from .axes import COLUMNS, ROWS, Axes, Placed, axes_of, clash, without_clashes
from .dimensions import Part, Roles, roles_of, sums_tokens, weights_of
from .moves import Values, add_parts

__all__ = ["COLUMNS", "ROWS", "Layout", "Shard"]

Places = Mapping[str, Sharding]
"""Where some values lie or must end, by name."""


@dataclass(frozen=True)
class Shard:
    """Place every value of a graph and insert the collectives that this needs.

    A valid graph without views in, a mapped graph with the same values out. Partial results are
    completed where anything but their sum is wanted. Weights, caches and model inputs lie where
    their first use wants them; `given` says where some inputs lie already, `wanted` where some
    outputs must end; a gradient ends where its weight lies. Raises UserError for an operator that
    no rule can split.
    """

    layout: Layout
    name: str = "shard"

    def run(
        self, graph: Graph, wanted: Places | None = None, given: Places | None = None
    ) -> MappedGraph:
        """The graph with a sharding for every value."""
        values = Values(dict(graph.types))
        roles = roles_of(graph)
        wanted = wanted or {}
        aims = summands(graph, wanted)
        weights = weights_of(graph)
        return _Sharder(
            self.layout, graph, wanted, given or {}, aims, values, roles, weights
        ).mapped()


@dataclass
class _Sharder:
    layout: Layout
    graph: Graph
    wanted: Places
    given: Places
    aims: Places
    values: Values
    roles: Roles
    weights: frozenset[str]
    waiting: dict[str, Op] = field(default_factory=dict[str, Op])
    """Operators by result whose operands may all still lie anywhere."""

    def __post_init__(self) -> None:
        self.trained = weights_of_gradients(self.graph)

    def mapped(self) -> MappedGraph:
        for value in self.graph.inputs:
            self._place_input(value)
        for op in self.graph.ops:
            try:
                self._op(op)
            except VerificationError as error:
                raise UserError(
                    f"{described(op)} cannot be split over cores yet: {error}"
                ) from error
        outputs = tuple(
            dataclasses.replace(output, name=self._output(output)) for output in self.graph.outputs
        )
        self._place_unused()
        graph = dataclasses.replace(self.graph, ops=tuple(self.values.ops), outputs=outputs)
        return MappedGraph(graph, {name: self.values.shardings[name] for name in graph.types})

    # Where values from outside lie.

    def _place_input(self, value: Input) -> None:
        """Activations have their place from the layout; the rest lies where it is first used."""
        if value.name in self.given:
            self.values.shardings[value.name] = self.given[value.name]
        elif value.role == "carried":
            self.values.shardings[value.name] = carried_sharding(self.layout, value.type)

    def _place_unused(self) -> None:
        """Inputs that nothing reads lie anywhere."""
        for name, type_ in self.graph.types.items():
            if name not in self.waiting:
                self.values.shardings.setdefault(name, replicated(len(type_.shape)))

    def _output(self, output: Output) -> str:
        name = output.name
        if name in self.wanted:
            return self._moved(name, self.wanted[name])
        if output.role == "gradient" and (aim := self._aim(name)) is not None:
            return self._moved(name, aim)
        if output.role == "carried":
            return self._moved(name, carried_sharding(self.layout, self.values.types[name]))
        if output.role == "cache":
            return self._moved(name, self._cache(output))
        if name in self.waiting:
            return self._moved(name, replicated(len(self.values.types[name].shape)))
        return self.values.whole(name)

    def _cache(self, output: Output) -> Sharding:
        """A new cache lies as it lay before; one that is made here as it came."""
        type_ = self.values.types[output.name]
        for value in self.graph.inputs:
            before = self.values.shardings.get(value.name)
            same = value.source == output.source and len(value.type.shape) == len(type_.shape)
            if before is not None and same:
                return Sharding(before.axes)
        now = self.values.shardings.get(output.name, replicated(len(type_.shape)))
        return caches.made(type_, now)

    # Operators.

    def _op(self, op: Op) -> None:
        if self._waits(op):
            self.waiting |= dict.fromkeys(op.results, op)
            return
        left = add_parts(op, self.values)
        if left is None:
            return
        op = left
        operands = tuple(
            self._whole(name) if name in self.values.shardings else name for name in op.operands
        )
        op = dataclasses.replace(op, operands=operands)
        if op.kind == "matmul":
            self._matmul(op, indices_of(op))
        elif op.kind == "embedding":
            self._embedding(op, indices_of(op))
        elif op.kind == "embedding_grad":
            self._embedding_grad(op, indices_of(op))
        elif op.kind == "chosen_matmul":
            self._chosen(op, indices_of(op))
        elif op.kind == "chosen_matmul_grad":
            self._chosen_grad(op, indices_of(op))
        else:
            self._map(op, indices_of(op))

    def _whole(self, name: str) -> str:
        """A value that is no partial result; hidden states that were one are cut over the columns:
        their tokens in `sequence`, their features in `matmul`."""
        now, type_ = self.values.shardings[name], self.values.types[name]
        tokens = [at for at, dim in enumerate(type_.shape) if dim == dims.symbol("sequence")]
        hidden = len(tokens) == 1 and any(isinstance(dim, int) for dim in type_.shape)
        summed = now.function == "sum" and set(now.partial) == set(COLUMNS)
        if self.layout == "matvec" or not hidden or not summed:
            return self.values.whole(name)
        if self.layout == "matmul":
            aim = carried_sharding(self.layout, type_).axes
            if any(own not in ((), wanted) for own, wanted in zip(now.axes, aim, strict=True)):
                return self.values.whole(name)
            return self.values.moved(name, Sharding(aim))
        cut = [own or (COLUMNS if at in tokens else ()) for at, own in enumerate(now.axes)]
        return self.values.moved(name, Sharding(tuple(cut)))

    def _waits(self, op: Op) -> bool:
        """Whether nothing says yet where an operator's operands lie. Products with caches have
        places of their own, and tables lie as look-ups want them."""
        if op.kind in ("embedding", "chosen_matmul") or any(
            name in self.values.shardings for name in op.operands
        ):
            return False
        return op.kind != "matmul" or not any(self._follows(n, "cache") for n in op.operands)

    def _follows(self, name: str, role: str) -> bool:
        """Whether a value that has no place yet is, or follows from, an input of some role."""
        if name in self.waiting:
            return any(self._follows(operand, role) for operand in self.waiting[name].operands)
        return any(value.name == name and value.role == role for value in self.graph.inputs)

    def _moved(self, name: str, target: Sharding) -> str:
        """The name under which a value lies as `target` says; made now if it waited for that."""
        op = self.waiting.get(name)
        if op is not None:
            for result in op.results:
                del self.waiting[result]
            indices = indices_of(op)
            letters = dict(zip(op.results, (indices.result, *indices.others), strict=True))[name]
            self._made(op, indices, dict(zip(letters, target.axes, strict=True)))
        return self.values.moved(name, target)

    def _made(self, op: Op, indices: Indices, axes: Placed) -> None:
        """An operator that waited, its letters cut as far as its kind allows."""
        fixed = indices.whole | indices.uneven | set(indices.reduced)
        axes = {letter: () if letter in fixed else cut for letter, cut in axes.items()}
        operands = [
            self._demand(name, letters, axes)
            for name, letters in zip(op.operands, indices.operands, strict=True)
        ]
        self._result(op, operands, indices, axes)

    def _placed(self, name: str, letters: str) -> Placed | None:
        """The axes of a value's letters, or None while it may still lie anywhere."""
        sharding = self.values.shardings.get(name)
        return None if sharding is None else dict(zip(letters, sharding.axes, strict=True))

    def _demand(
        self, name: str, letters: str, axes: Mapping[str, Axes], room: tuple[int, ...] = ()
    ) -> str:
        cut = tuple(axes.get(letter, ()) for letter in letters)
        return self._moved(name, Sharding(cut, room=room))

    def _result(self, op: Op, operands: Iterable[str], indices: Indices, axes: Placed) -> None:
        """Add an operator whose letters lie so; each result is partial over the axes of those
        reduced letters that it lacks."""
        shardings: list[Sharding] = []
        for letters in (indices.result, *indices.others):
            gone = [letter for letter in sorted(indices.reduced) if letter not in letters]
            partial = axes_of(axes, gone)
            function = next((indices.reduced[x] for x in gone if axes.get(x)), "sum")
            cut = tuple(axes.get(letter, ()) for letter in letters)
            shardings.append(Sharding(cut, partial, function))
        self.values.append(dataclasses.replace(op, operands=tuple(operands)), *shardings)

    def _map(self, op: Op, indices: Indices) -> None:
        """Operators that work letter by letter: operands are brought to one common cut, as far as
        possible that of the results' letters."""
        axes: Placed = {}
        for reduced in (False, True):
            for name, letters in zip(op.operands, indices.operands, strict=True):
                for letter, cut in (self._placed(name, letters) or {}).items():
                    due = (letter in indices.reduced) == reduced
                    more = not axes.get(letter) or set(axes[letter]) < set(cut)
                    if cut and due and more and not clash(axes, letter, cut):
                        axes[letter] = cut
        axes |= dict.fromkeys(indices.whole | indices.uneven, ())
        rooms: list[tuple[int, ...]] = [()] * len(op.operands)
        if self.layout == "matvec" and caches.grows(self.graph, op, indices):
            axes = without_clashes({**axes, op.text("along"): ROWS}, op.text("along"))
            axes |= self._heads(op, indices) if not set(axes_of(axes, axes)) & set(COLUMNS) else {}
            rooms = [caches.room(op, letters) for letters in indices.operands]
        operands = [
            self._demand(name, letters, axes, room)
            for name, letters, room in zip(op.operands, indices.operands, rooms, strict=True)
        ]
        self._result(op, operands, indices, axes)

    def _heads(self, op: Op, indices: Indices) -> Placed:
        """A cache whose tokens come whole: its heads and their width over the columns."""
        name, letters = op.operands[0], indices.operands[0]
        parts: dict[str, Part] = {x: self._part(name, at) for at, x in enumerate(letters)}
        return products.by_heads(letters, parts)

    def _embedding(self, op: Op, indices: Indices) -> None:
        axes = tables.embedding_axes(self.layout, op, indices, self._known(op, indices))
        operands = [
            self._demand(name, letters, axes if at else {})
            for at, (name, letters) in enumerate(zip(op.operands, indices.operands, strict=True))
        ]
        self._result(op, operands, indices, axes)

    def _embedding_grad(self, op: Op, indices: Indices) -> None:
        """The table's gradient lies as the table; every core sees all tokens of its features."""
        axes = self._aimed(op, indices)
        if axes is None:
            axes = tables.embedding_grad_axes(self.layout, op, indices)
        operands = [
            self._demand(name, letters, {} if at else axes)
            for at, (name, letters) in enumerate(zip(op.operands, indices.operands, strict=True))
        ]
        self._result(op, operands, indices, axes)

    def _chosen(self, op: Op, indices: Indices) -> None:
        placed = self._placed(op.operands[0], indices.operands[0]) or {}
        weights = op.operands[2]
        sizes = dict(zip(indices.operands[2], self.values.types[weights].shape, strict=True))
        axes, best = tables.chosen_axes(self.layout, indices, sizes, placed)
        axes, best = axes | tables.spread(op), best | tables.spread(op)
        if weights not in self.values.shardings:
            self._demand(weights, indices.operands[2], best)
        operands = [
            self._taken(name, letters, axes)
            for name, letters in zip(op.operands, indices.operands, strict=True)
        ]
        self._result(op, operands, indices, axes | dict.fromkeys(tables.spread(op), ()))

    def _chosen_grad(self, op: Op, indices: Indices) -> None:
        tokens = self._placed(op.operands[2], indices.operands[2]) or {}
        aim = self._aimed(op, indices) or {}
        axes = tables.chosen_grad_axes(self.layout, indices, tokens, aim | tables.spread(op))
        operands = [
            self._taken(name, letters, axes)
            for name, letters in zip(op.operands, indices.operands, strict=True)
        ]
        self._result(op, operands, indices, axes)

    def _taken(self, name: str, letters: str, axes: Placed) -> str:
        """An operand that is taken part by part as it comes: where tiles travel nothing of it is
        kept for others."""
        if self.layout != "matmul" or name not in self.values.shardings:
            return self._demand(name, letters, axes)
        cut = tuple(axes.get(letter, ()) for letter in letters)
        return self.values.moved(name, Sharding(cut), anew=True)

    # Products.

    def _matmul(self, op: Op, indices: Indices) -> None:
        op, indices = self._activation_first(op, indices)
        letters = products.Letters.of(indices)
        a, b = self._operand_axes(op, indices, letters)
        form = products.form_of(self.layout, letters, a, b)
        if form is None:
            a, b = products.localized(letters, a, b)
            form = "local"
        operands = (
            self._demand(op.operands[0], indices.operands[0], a),
            self._demand(op.operands[1], indices.operands[1], b),
        )
        if form == "local":
            self._result(op, operands, indices, {**b, **a})
            return
        free = {x: a.get(x, ()) or b.get(x, ()) for x in indices.result}
        if form == "reduce":
            free, swap = products.reduced(op, letters, a, b, self._aim(op.result))
            op, operands = (_turned(op, indices), operands[::-1]) if swap else (op, operands)
        attributes: dict[str, Attribute] = {**op.attributes, "form": form}
        grid = dataclasses.replace(op, kind="grid_matmul", operands=operands, attributes=attributes)
        cut = tuple(free[letter] for letter in indices.result)
        self.values.append(grid, Sharding(cut))

    def _operand_axes(
        self, op: Op, indices: Indices, letters: products.Letters
    ) -> tuple[Placed, Placed]:
        """Where the operands of a product had best lie."""
        left, right = op.operands
        a = self._placed(left, indices.operands[0])
        b = self._placed(right, indices.operands[1])
        known = self._known(op, indices)
        if a is None:
            tokens = [x for x in indices.operands[0] if x in known.cached][:1]
            return products.cache_axes(letters, dict.fromkeys(tokens, ROWS), known)
        if b is None and self._follows(right, "weight"):
            return products.weight_axes(self.layout, letters, a, known)
        if self.layout != "matmul" and b is not None:
            if right in self.weights:
                return products.beside_weight(letters, a, b)
            if sums_tokens(op, self.values.types):
                return products.gradient_axes(letters, a, b, self._aimed(op, indices))
        fixed = right in self.weights
        return products.activation_axes(self.layout, letters, a, b, known, fixed)

    def _aim(self, name: str) -> Sharding | None:
        """Where a value had best lie, if that is known."""
        return self.aims.get(name) or self.values.shardings.get(self.trained.get(name, ""))

    def _aimed(self, op: Op, indices: Indices) -> Placed | None:
        """The same for the letters of an operator's result."""
        aim = self._aim(op.result)
        return None if aim is None else dict(zip(indices.result, aim.axes, strict=True))

    def _activation_first(self, op: Op, indices: Indices) -> tuple[Op, Indices]:
        """The product with its operands swapped where only the right one has a place."""
        left, right = op.operands
        if left in self.values.shardings or right not in self.values.shardings:
            return op, indices
        op = dataclasses.replace(_turned(op, indices), operands=(right, left))
        return op, indices_of(op)

    def _part(self, name: str, at: int) -> Part:
        """The part that a dimension of a value plays, wherever that was moved."""
        return self.roles.part(self.values.origins.get(name, name), at)

    def _known(self, op: Op, indices: Indices) -> products.Known:
        """What is known of the letters of two operands."""
        found: list[tuple[str, Part, Dim]] = [
            (letter, self._part(name, at), dim)
            for letters, name in zip(indices.operands, op.operands, strict=True)
            for at, (letter, dim) in enumerate(
                zip(letters, self.values.types[name].shape, strict=True)
            )
        ]
        return products.Known.of(found)


def _turned(op: Op, indices: Indices) -> Op:
    """A product whose operands will be given in the other order."""
    first, second = indices.operands
    attributes = {**op.attributes, "indices": f"{second},{first}->{indices.result}"}
    return dataclasses.replace(op, attributes=attributes)


def described(op: Op) -> str:
    """An operator as a user knows it: its kind, and the module that it came from, if it has one."""
    return f"operator {op.kind} in {op.path}" if op.path else f"operator {op.kind} %{op.result}"
