"""Every value gets a place on the mesh, and collectives appear where places differ.

Two layouts are known. `matvec` keeps tokens whole and cuts features over the rows and the columns
in turn, so that every product with a weight ends in one all-reduce (WaferLLM's decode, arXiv
2502.04563). `matmul` cuts tokens over the rows and features over the columns, and tiles travel
(its prefill, after Cannon and SUMMA). Mesh axes are named here, not sized: a layout holds for any
region. Heads are cut over the outer axis of a direction, each head's width over the inner one.

Products and look-ups in tables choose their places (products.py). Every other operator keeps those
of its operands: letters that may be cut keep their cut, what must be whole is gathered, what is
reduced gives partial results. What follows from weights, caches and model inputs alone waits until
something wants it, and lies as that wants.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..ir import dims
from ..ir.dims import Polynomial
from ..ir.errors import UserError, VerificationError
from ..ir.graph import Attribute, Graph, Input, Op, Output, TensorType
from ..ir.kinds import Indices, indices_of
from ..ir.mapped import MappedGraph, Sharding, replicated
from ..ir.program import Layout
from . import products
from .axes import COLUMNS, ROWS, Axes, Placed, axes_of, clash, without_clashes
from .dimensions import Part, Roles, roles_of
from .moves import Values

__all__ = ["COLUMNS", "ROWS", "Layout", "Shard"]

Places = Mapping[str, Sharding]
"""Where some values lie or must end, by name."""


@dataclass(frozen=True)
class Shard:
    """Place every value of a graph and insert the collectives that this needs.

    A valid graph without views in, a mapped graph with the same values out. Partial results are
    summed where they arise. Weights, caches and model inputs lie where their first use wants
    them; `given` says where some inputs lie already, `wanted` where some outputs must end. Raises
    UserError for an operator that no rule can split.
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
        aims = _aims(graph, wanted)
        return _Sharder(self.layout, graph, wanted, given or {}, aims, values, roles).mapped()


def carried_sharding(layout: Layout, type_: TensorType) -> Sharding:
    """Where a value lies that passes between graphs: hidden states are cut along the dimension of
    most elements (the last of equals), in `matmul` the sequence over the rows."""
    axes: list[Axes] = [()] * len(type_.shape)
    if layout == "matmul":
        tokens = [at for at, dim in enumerate(type_.shape) if dim == dims.symbol("sequence")]
        for at in tokens[:1]:
            axes[at] = ROWS
    sizes = {at: dim for at, dim in enumerate(type_.shape) if isinstance(dim, int)}
    if sizes:
        features = max(sizes, key=lambda at: (sizes[at], at))
        axes[features] = ROWS if layout == "matvec" else COLUMNS
    return Sharding(tuple(axes))


def _aims(graph: Graph, wanted: Places) -> dict[str, Sharding]:
    """Where values had best lie: outputs as wanted, and what they are the sum of likewise."""
    aims = dict(wanted)
    for op in reversed(graph.ops):
        aim = aims.get(op.result)
        if op.kind == "elementwise" and aim is not None:
            indices = indices_of(op)
            alike = zip(op.operands, indices.operands, strict=True)
            for name in (name for name, letters in alike if letters == indices.result):
                aims.setdefault(name, aim)
    return aims


@dataclass
class _Sharder:
    layout: Layout
    graph: Graph
    wanted: Places
    given: Places
    aims: Places
    values: Values
    roles: Roles
    waiting: dict[str, Op] = field(default_factory=dict[str, Op])
    """Operators by result whose operands may all still lie anywhere."""

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
        if output.role == "carried":
            return self._moved(name, carried_sharding(self.layout, self.values.types[name]))
        if output.role == "cache":
            return self._moved(name, self._cache(output))
        if name in self.waiting:
            return self._moved(name, replicated(len(self.values.types[name].shape)))
        return self.values.whole(name)

    def _cache(self, output: Output) -> Sharding:
        """A new cache lies as it lay before; one that is made here has its tokens cut over the
        rows, the rest as it came."""
        type_ = self.values.types[output.name]
        for value in self.graph.inputs:
            before = self.values.shardings.get(value.name)
            same = value.source == output.source and len(value.type.shape) == len(type_.shape)
            if before is not None and same:
                return Sharding(before.axes)
        now = self.values.shardings.get(output.name, replicated(len(type_.shape)))
        tokens = {
            str(at): ROWS
            for at, dim in enumerate(type_.shape)
            if isinstance(dim, Polynomial) and dim != dims.symbol("batch")
        }
        placed = {str(at): axes for at, axes in enumerate(now.axes)} | tokens
        cut = without_clashes(placed, tokens)
        return Sharding(tuple(cut[str(at)] for at in range(len(type_.shape))))

    # Operators.

    def _op(self, op: Op) -> None:
        if self._waits(op):
            self.waiting |= dict.fromkeys(op.results, op)
            return
        operands = tuple(
            self.values.whole(name) if name in self.values.shardings else name
            for name in op.operands
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
        else:
            self._map(op, indices_of(op))

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
                    due = (letter in indices.reduced) == reduced and not axes.get(letter)
                    if cut and due and not clash(axes, letter, cut):
                        axes[letter] = cut
        axes |= dict.fromkeys(indices.whole | indices.uneven, ())
        rooms: list[tuple[int, ...]] = [()] * len(op.operands)
        if self.layout == "matvec" and self._grows_cache(op, indices):
            axes = without_clashes({**axes, op.text("along"): ROWS}, op.text("along"))
            axes |= self._heads(op, indices) if not set(axes_of(axes, axes)) & set(COLUMNS) else {}
            rooms = [self._room(op, letters) for letters in indices.operands]
        operands = [
            self._demand(name, letters, axes, room)
            for name, letters, room in zip(op.operands, indices.operands, rooms, strict=True)
        ]
        self._result(op, operands, indices, axes)

    def _heads(self, op: Op, indices: Indices) -> Placed:
        """A cache whose tokens come whole: its heads and their width over the columns."""
        name, letters = op.operands[0], indices.operands[0]
        parts: dict[str, Part] = {x: self.roles.part(name, at) for at, x in enumerate(letters)}
        return products.by_heads(letters, parts)

    def _grows_cache(self, op: Op, indices: Indices) -> bool:
        """Whether a cache of tokens is given more of them, one an operand."""
        if op.kind != "concat":
            return False
        along = op.text("along")
        grown, *fresh = zip(op.operands, indices.operands, strict=True)
        return (
            any(value.name == grown[0] and value.role == "cache" for value in self.graph.inputs)
            and along in grown[1]
            and isinstance(op.type.shape[indices.result.index(along)], Polynomial)
            and not any(along in letters for _, letters in fresh)
        )

    @staticmethod
    def _room(op: Op, letters: str) -> tuple[int, ...]:
        """Room in a cache for the tokens that the other operands bring, one each."""
        along = op.text("along")
        if along not in letters:
            return ()
        return tuple(len(op.operands) - 1 if letter == along else 0 for letter in letters)

    def _embedding(self, op: Op, indices: Indices) -> None:
        """Rows of the table lie over one direction, its features over the other."""
        rows, features = (COLUMNS, ROWS) if self.layout == "matvec" else (ROWS, COLUMNS)
        ids, table = indices.operands
        row = op.text("rows")
        new = [letter for letter in table if letter != row and letter not in ids]
        axes: Placed = {row: rows}
        if new:
            axes[self._right(op, indices).largest(new)] = features
        operands = (
            self._demand(op.operands[0], ids, {}),
            self._demand(op.operands[1], table, axes),
        )
        self._result(op, operands, indices, axes)

    def _embedding_grad(self, op: Op, indices: Indices) -> None:
        """The table's gradient lies as the table; every core sees all tokens of its features."""
        given, ids = indices.operands
        row = op.text("rows")
        new = [letter for letter in given if letter not in ids]
        aim = self.aims.get(op.result)
        if aim is not None:
            axes: Placed = dict(zip(indices.result, aim.axes, strict=True))
        else:
            axes = {row: ROWS, **dict.fromkeys(new[-1:], COLUMNS)}
        operands = (
            self._demand(op.operands[0], given, axes),
            self._demand(op.operands[1], ids, {}),
        )
        self._result(op, operands, indices, axes)

    def _chosen(self, op: Op, indices: Indices) -> None:
        """Matrices of experts, all alike: in `matvec` as other weights; in `matmul` each row of
        cores has its tokens, and all matrices come along from the other rows."""
        (x, choice, weights), result = indices.operands, indices.result
        sizes = dict(zip(weights, self.values.types[op.operands[2]].shape, strict=True))
        contracted = [letter for letter in x if letter in weights and letter not in result]
        new = [letter for letter in weights if letter in result and letter not in x]
        summed, made = (
            max(letters, key=lambda letter: dims.size(sizes[letter]))
            for letters in (contracted, new)
        )
        axes = dict(self._placed(op.operands[0], x) or {})
        if self.layout == "matvec":
            used = axes_of(axes, contracted)
            if not used:
                axes[summed] = used = ROWS
            axes[made] = COLUMNS if set(used) & set(ROWS) else ROWS
            axes = without_clashes(axes, contracted)
        else:
            first = set(choice) <= set(result)
            cut = tuple(axis for axis in COLUMNS if axis not in axes_of(axes, set(x) & set(result)))
            axes |= dict.fromkeys(contracted, ()) | {made if first else summed: cut}
            if op.operands[2] not in self.values.shardings:
                self._demand(op.operands[2], weights, {**axes, (summed if first else made): ROWS})
        operands = [
            self._demand(name, letters, axes)
            for name, letters in zip(op.operands, indices.operands, strict=True)
        ]
        self._result(op, operands, indices, axes)

    # Products.

    def _matmul(self, op: Op, indices: Indices) -> None:
        op, indices = self._activation_first(op, indices)
        letters = products.Letters.of(indices)
        left, right = op.operands
        a = self._placed(left, indices.operands[0])
        b = self._placed(right, indices.operands[1])
        sizes = self._right(op, indices)
        if a is None:
            a = self._tokens_over_rows(left, indices.operands[0])
            used = axes_of(a, a)
            new = [x for x in letters.right if x not in indices.operands[0]]
            features = {sizes.largest(new): COLUMNS} if new and not set(used) & set(COLUMNS) else {}
            a, b = products.localized(letters, a, features)
        elif b is None and self._follows(right, "weight"):
            a, b = products.weight_axes(self.layout, letters, a, sizes)
        else:
            a, b = products.activation_axes(self.layout, letters, a, b, sizes)
        form = products.form_of(self.layout, letters, a, b)
        if form is None:
            a, b = products.localized(letters, a, b)
            form = "local"
        operands = (
            self._demand(left, indices.operands[0], a),
            self._demand(right, indices.operands[1], b),
        )
        if form == "local":
            self._result(op, operands, indices, {**b, **a})
            return
        free = {x: a.get(x, ()) or b.get(x, ()) for x in indices.result}
        if form == "reduce":
            free, turned = self._reduced(op, letters, a, b)
            op, operands = (_turned(op, indices), operands[::-1]) if turned else (op, operands)
        attributes: dict[str, Attribute] = {**op.attributes, "form": form}
        grid = dataclasses.replace(op, kind="grid_matmul", operands=operands, attributes=attributes)
        cut = tuple(free[letter] for letter in indices.result)
        self.values.append(grid, Sharding(cut))

    def _reduced(
        self, op: Op, letters: products.Letters, a: Placed, b: Placed
    ) -> tuple[Placed, bool]:
        """Where the result of a `reduce` product lies, and whether its operands change places for
        that: so that it lies as it is wanted, else so that tokens lie over the rows."""
        straight = products.reduced_axes(letters, a, b)
        turned = products.reduced_axes(letters.turned, b, a)
        if straight is None or turned is None:
            found = straight if turned is None else turned
            assert found is not None
            return found, straight is None
        swap = self._misfit(op, turned) < self._misfit(op, straight)
        return (turned if swap else straight), swap

    def _misfit(self, op: Op, axes: Placed) -> int:
        """How many dimensions of a result that lies so lie otherwise than they should."""
        cut = [axes[letter] for letter in indices_of(op).result]
        aim = self.aims.get(op.result)
        if aim is not None:
            return sum(own != wanted for own, wanted in zip(cut, aim.axes, strict=True))
        pairs = zip(cut, op.type.shape, strict=True)
        return sum(not set(own) <= set(ROWS) for own, dim in pairs if isinstance(dim, Polynomial))

    def _activation_first(self, op: Op, indices: Indices) -> tuple[Op, Indices]:
        """The product with its operands swapped where only the right one has a place."""
        left, right = op.operands
        if left in self.values.shardings or right not in self.values.shardings:
            return op, indices
        op = dataclasses.replace(_turned(op, indices), operands=(right, left))
        return op, indices_of(op)

    def _tokens_over_rows(self, name: str, letters: str) -> Placed:
        """A cache that a product reads before anything else does: its tokens over the rows."""
        shape = self.values.types[name].shape
        tokens = (
            letter
            for letter, dim in zip(letters, shape, strict=True)
            if isinstance(dim, Polynomial) and dim != dims.symbol("batch")
        )
        return dict.fromkeys([*tokens][:1], ROWS)

    def _right(self, op: Op, indices: Indices) -> products.Right:
        """What is known of the right operand's letters."""
        name, letters = op.operands[1], indices.operands[1]
        shape = self.values.types[name].shape
        return products.Right(
            {x: self.roles.part(name, at) for at, x in enumerate(letters)},
            {
                x: dim if isinstance(dim, int) else None
                for x, dim in zip(letters, shape, strict=True)
            },
        )


def _turned(op: Op, indices: Indices) -> Op:
    """A product whose operands will be given in the other order."""
    first, second = indices.operands
    attributes = {**op.attributes, "indices": f"{second},{first}->{indices.result}"}
    return dataclasses.replace(op, attributes=attributes)


def described(op: Op) -> str:
    """An operator as a user knows it: its kind, and the module that it came from, if it has one."""
    return f"operator {op.kind} in {op.path}" if op.path else f"operator {op.kind} %{op.result}"
