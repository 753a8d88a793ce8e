"""Every value gets a place on the mesh, and collectives appear where places differ.

Two layouts are known. `matvec` keeps tokens whole and cuts features over the rows and the columns
in turn, so that every product with a weight ends in one all-reduce (WaferLLM's decode, arXiv
2502.04563). `matmul` cuts tokens over the rows and features over the columns, and tiles travel
(its prefill, after Cannon and SUMMA). Mesh axes are named here, not sized: a layout holds for any
region. Heads are cut over the outer axis of a direction, each head's width over the inner one.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..ir import dims
from ..ir.errors import VerificationError
from ..ir.graph import Attribute, Graph, Input, Op
from ..ir.kinds import Indices, indices_of
from ..ir.program import Layout, MappedGraph, Sharding, replicated
from .dimensions import Roles, roles_of
from .moves import Values

ROWS = ("yh", "yd")
COLUMNS = ("xh", "xd")
_MIRROR: dict[str, str] = dict(zip((*ROWS, *COLUMNS), (*COLUMNS, *ROWS), strict=True))

Axes = tuple[str, ...]
Placed = dict[str, Axes]
"""The axes of every letter of an operator."""


@dataclass(frozen=True)
class Shard:
    """Place every value of a graph and insert the collectives that this needs.

    A valid graph without views in, a mapped graph with the same values out. Partial results are
    summed where they arise. Weights, caches and model inputs lie where their first use wants
    them; `wanted` fixes where outputs must end, by name.
    """

    layout: Layout
    name: str = "shard"

    def run(self, graph: Graph, wanted: Mapping[str, Sharding] | None = None) -> MappedGraph:
        """The graph with a sharding for every value."""
        if not any(isinstance(d, dims.Polynomial) for i in graph.inputs for d in i.type.shape):
            raise VerificationError(f"graph {graph.name}: shard wants sizes that are symbolic")
        values = Values(dict(graph.types))
        return _Sharder(self.layout, graph, wanted or {}, values, roles_of(graph)).mapped()


@dataclass
class _Sharder:
    layout: Layout
    graph: Graph
    wanted: Mapping[str, Sharding]
    values: Values
    roles: Roles

    def mapped(self) -> MappedGraph:
        for value in self.graph.inputs:
            self._place_input(value)
        for op in self.graph.ops:
            self._op(op)
        outputs = tuple(
            dataclasses.replace(output, name=self._output(output.name, output.role))
            for output in self.graph.outputs
        )
        self._place_unused()
        graph = dataclasses.replace(self.graph, ops=tuple(self.values.ops), outputs=outputs)
        return MappedGraph(graph, self.values.shardings)

    # Where values from outside lie.

    def _place_input(self, value: Input) -> None:
        """Activations have their place from the layout; the rest lies where it is first used."""
        if value.role == "carried":
            self.values.shardings[value.name] = self._activation(value.name)
        elif value.role in ("data", "buffer") and self.wanted:
            self.values.shardings[value.name] = self._as_outputs_want(value.name)

    def _activation(self, name: str) -> Sharding:
        """Hidden states: features last; in `matmul` the sequence is cut over the rows."""
        shape = self.values.types[name].shape
        if self.layout == "matvec":
            return Sharding((*((),) * (len(shape) - 1), ROWS))
        tokens = tuple(ROWS if self._is_sequence(dim) else () for dim in shape[:-1])
        return Sharding((*tokens, COLUMNS))

    def _is_sequence(self, dim: dims.Dim) -> bool:
        return dim == dims.symbol("sequence")

    def _as_outputs_want(self, name: str) -> Sharding:
        """An input cut in the way that the outputs' equal dimensions are to be."""
        by_class: dict[int, Axes] = {}
        for output, sharding in self.wanted.items():
            for at, axes in enumerate(sharding.axes):
                by_class.setdefault(self.roles.of(output, at), axes)
        rank = len(self.values.types[name].shape)
        axes = tuple(by_class.get(self.roles.of(name, at), ()) for at in range(rank))
        return Sharding(axes)

    def _place_unused(self) -> None:
        for name, type_ in self.values.types.items():
            self.values.shardings.setdefault(name, replicated(len(type_.shape)))

    def _output(self, name: str, role: str) -> str:
        if name in self.wanted:
            return self.values.moved(name, self.wanted[name])
        if role == "carried":
            return self.values.moved(name, self._activation(name))
        if role == "cache":
            return self.values.moved(name, self._cache(name))
        return self.values.whole(name)

    def _cache(self, name: str) -> Sharding:
        """A new cache: its tokens cut over the rows, heads and width as they came."""
        now = self.values.shardings[name]
        tokens = (
            ROWS if isinstance(dim, dims.Polynomial) and dim != dims.symbol("batch") else axes
            for dim, axes in zip(self.values.types[name].shape, now.axes, strict=True)
        )
        return dataclasses.replace(now, axes=tuple(tokens), partial=())

    # Operators.

    def _op(self, op: Op) -> None:
        operands = tuple(
            self.values.whole(name) if name in self.values.shardings else name
            for name in op.operands
        )
        op = dataclasses.replace(op, operands=operands)
        if op.kind == "matmul":
            self._matmul(op, indices_of(op))
        elif op.kind == "embedding":
            self._embedding(op, indices_of(op))
        else:
            self._map(op, indices_of(op))

    def _placed(self, name: str, letters: str) -> Placed | None:
        """The axes of a value's letters, or None while it may still lie anywhere."""
        sharding = self.values.shardings.get(name)
        return None if sharding is None else dict(zip(letters, sharding.axes, strict=True))

    def _demand(
        self, name: str, letters: str, axes: Mapping[str, Axes], room: tuple[int, ...] = ()
    ) -> str:
        cut = tuple(axes.get(letter, ()) for letter in letters)
        return self.values.moved(name, Sharding(cut, room=room))

    def _result(
        self,
        op: Op,
        operands: Iterable[str],
        letters: str,
        axes: Mapping[str, Axes],
        partial: Axes = (),
        function: str = "sum",
    ) -> None:
        cut = tuple(axes.get(letter, ()) for letter in letters)
        sharding = Sharding(cut, partial, function if partial else "sum")
        self.values.append(dataclasses.replace(op, operands=tuple(operands)), sharding)

    def _map(self, op: Op, indices: Indices) -> None:
        """Operators that work letter by letter: operands are brought to one common cut."""
        axes: Placed = {}
        for name, letters in zip(op.operands, indices.operands, strict=True):
            for letter, cut in (self._placed(name, letters) or {}).items():
                if cut and not axes.get(letter) and not _clash(axes, letter, cut):
                    axes[letter] = cut
        for letter in indices.whole - indices.uneven:
            axes[letter] = ()
        grows = self.layout == "matvec" and self._grows_cache(op)
        if grows:
            axes[op.text("along")] = ROWS
        operands = [
            self._demand(name, letters, axes, self._room(op, letters) if grows else ())
            for name, letters in zip(op.operands, indices.operands, strict=True)
        ]
        partial = tuple(a for letter in sorted(indices.reduced) for a in axes.get(letter, ()))
        function = op.text("function") if partial else "sum"
        self._result(op, operands, indices.result, axes, partial, function)

    def _grows_cache(self, op: Op) -> bool:
        caches = {value.name for value in self.graph.inputs if value.role == "cache"}
        return op.kind == "concat" and bool(caches & set(op.operands))

    @staticmethod
    def _room(op: Op, letters: str) -> tuple[int, ...]:
        """Room in a cache for the tokens that the other operands bring, one each."""
        along = op.text("along")
        if along not in letters:
            return ()
        fresh = sum(along not in own for own in indices_of(op).operands)
        return tuple(fresh if letter == along else 0 for letter in letters)

    def _embedding(self, op: Op, indices: Indices) -> None:
        """Rows of the table lie over one direction, its features over the other."""
        rows, features = (COLUMNS, ROWS) if self.layout == "matvec" else (ROWS, COLUMNS)
        ids, table = indices.operands
        (row,) = op.text("rows")
        (feature,) = table.replace(row, "")
        axes = {row: rows, feature: features}
        operands = (
            self._demand(op.operands[0], ids, {}),
            self._demand(op.operands[1], table, axes),
        )
        self._result(op, operands, indices.result, {feature: features}, partial=rows)

    def _matmul(self, op: Op, indices: Indices) -> None:
        left, right = op.operands
        a = self._placed(left, indices.operands[0])
        b = self._placed(right, indices.operands[1])
        if a is None:
            raise VerificationError(f"matmul %{op.result}: the left operand must be an activation")
        contracted = [x for x in indices.operands[0] if x in indices.reduced]
        if b is None and self._is_weight(right):
            a, b = self._place_weight(op, indices, a, contracted)
        else:
            a, b = self._place_activations(right, indices, a, b, contracted)
        left = self._demand(left, indices.operands[0], a)
        right = self._demand(right, indices.operands[1], b)
        self._product(op, (left, right), indices, a, b, contracted)

    def _is_weight(self, name: str) -> bool:
        return any(value.name == name and value.role == "weight" for value in self.graph.inputs)

    def _place_weight(
        self, op: Op, indices: Indices, a: Placed, contracted: Sequence[str]
    ) -> tuple[Placed, Placed]:
        """In `matvec` the weight is cut where the vector is, and across; in `matmul` it is cut
        over the rows where the activations are cut over the columns."""
        a = dict(a)
        used = [axis for letter in contracted for axis in a[letter]]
        if not used:
            a[contracted[-1]] = used_axes = ROWS if self.layout == "matvec" else COLUMNS
            used = list(used_axes)
        across = COLUMNS if used[0] in ROWS or self.layout == "matmul" else ROWS
        b = self._cut_features(op, indices, across)
        for letter in contracted:
            cut = a[letter]
            b[letter] = cut if self.layout == "matvec" else tuple(_MIRROR[x] for x in cut)
        return a, b

    def _cut_features(self, op: Op, indices: Indices, over: Axes) -> Placed:
        """The new letters of a weight, cut over a direction: heads outside, widths inside."""
        new = [x for x in indices.operands[1] if x not in indices.operands[0]]
        parts = {x: self.roles.part(op.operands[1], indices.operands[1].index(x)) for x in new}
        heads = [x for x in new if parts[x] == "head"]
        widths = [x for x in new if parts[x] == "width"]
        if heads or widths:
            return dict.fromkeys(heads[:1], over[:1]) | dict.fromkeys(widths[-1:], over[1:])
        largest = max(new, key=lambda x: self._extent(op.operands[1], indices.operands[1], x))
        return {largest: over}

    def _extent(self, name: str, letters: str, letter: str) -> int:
        return dims.size(self.values.types[name].shape[letters.index(letter)])

    def _place_activations(
        self, right: str, indices: Indices, a: Placed, b: Placed | None, contracted: Sequence[str]
    ) -> tuple[Placed, Placed]:
        """Two activations: heads lie alike on both sides. In `matvec` what is summed does too, and
        keys lie over the rows; in `matmul` both are already cut over the rows."""
        a, b = dict(a), dict(b or {})
        letters = indices.operands[1]
        b |= {x: a[x] for x in letters if x in a and x in indices.result}
        if self.layout == "matmul":
            return a, b
        for letter in contracted:
            a[letter] = b[letter] = b.get(letter) or a[letter]
        for at, letter in enumerate(letters):
            keys = letter not in a and isinstance(
                self.values.types[right].shape[at], dims.Polynomial
            )
            if keys and not _clash(b, letter, ROWS):
                b[letter] = ROWS
        return a, b

    def _product(
        self,
        op: Op,
        operands: tuple[str, str],
        indices: Indices,
        a: Placed,
        b: Placed,
        contracted: Sequence[str],
    ) -> None:
        """A local product with partial sums, or one whose tiles travel over the mesh."""
        cut_a = tuple(x for letter in contracted for x in a.get(letter, ()))
        cut_b = tuple(x for letter in contracted for x in b.get(letter, ()))
        free_a = {k: v for k, v in a.items() if k in indices.result}
        free_b = {k: v for k, v in b.items() if k in indices.result and k not in free_a}
        clash = {x for v in free_a.values() for x in v} & {x for v in free_b.values() for x in v}
        if cut_a == cut_b and not clash:
            self._result(op, operands, indices.result, free_a | free_b, partial=cut_a)
        elif cut_a == cut_b:
            keys = [letter for letter, cut in free_b.items() if set(cut) & clash]
            result = free_a | free_b | {keys[0]: cut_a}
            self._grid(op, "reduce", operands, indices, result)
        else:
            self._grid(op, "rotate", operands, indices, free_a | free_b)

    def _grid(
        self, op: Op, form: str, operands: tuple[str, str], indices: Indices, axes: Placed
    ) -> None:
        attributes: dict[str, Attribute] = {**op.attributes, "form": form}
        grid = dataclasses.replace(op, kind="grid_matmul", attributes=attributes)
        self._result(grid, operands, indices.result, axes)


def _clash(axes: Placed, letter: str, cut: Axes) -> bool:
    """Whether another letter already lies on one of these axes."""
    return any(set(cut) & set(own) for other, own in axes.items() if other != letter)
