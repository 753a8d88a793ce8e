"""Values on their way: where each lies, and the collectives that bring it elsewhere."""

import dataclasses
from dataclasses import dataclass, field

from ..ir.expression import LETTERS, is_sum
from ..ir.graph import Attribute, Op, TensorType
from ..ir.kinds import indices_of
from ..ir.mapped import Sharding
from .axes import by_direction


@dataclass
class Values:
    """The values of a graph that is being sharded, and the operators written so far.

    A value without a sharding may still lie anywhere: the first that wants it somewhere decides.
    """

    types: dict[str, TensorType]
    shardings: dict[str, Sharding] = field(default_factory=dict[str, Sharding])
    ops: list[Op] = field(default_factory=list[Op])
    known: dict[tuple[str, Sharding], str] = field(default_factory=dict[tuple[str, Sharding], str])
    """The names under which values lie in other places too."""
    origins: dict[str, str] = field(default_factory=dict[str, str])
    """Of values that were moved the names that the graph has for them."""

    def moved(self, name: str, target: Sharding, anew: bool = False) -> str:
        """The name under which `name` lies as `target` says, moving it if it does not; `anew` for
        a reader that keeps nothing for others of what comes."""
        now = self.shardings.get(name)
        if now is None:
            self.shardings[name] = target
            return name
        if now == target:
            return name
        if anew:
            return self._move(name, now, target)
        if (name, target) not in self.known:
            self.known[name, target] = self._move(name, now, target)
        return self.known[name, target]

    def _move(self, name: str, now: Sharding, target: Sharding) -> str:
        if now.partial:
            name = self._summed(name, now, target)
            now = self.shardings[name]
        kept = tuple(
            axes if axes == wanted[: len(axes)] and now.room_in(at) == target.room_in(at) else ()
            for at, (axes, wanted) in enumerate(zip(now.axes, target.axes, strict=True))
        )
        if kept != now.axes:
            name = self._gathered(name, now, Sharding(kept))
        if self.shardings[name] != target:
            name = self._emit("shard", name, target)
        return name

    def _gathered(self, name: str, now: Sharding, target: Sharding) -> str:
        """A value with some dimensions no longer cut, gathered along one direction at a time."""
        pairs = zip(now.axes, target.axes, strict=True)
        lost = tuple(axis for axes, left in pairs if not left for axis in axes)
        for part in by_direction(lost):
            cut = tuple(
                tuple(axis for axis in axes if axis not in part)
                for axes in self.shardings[name].axes
            )
            name = self._emit("all_gather", name, Sharding(cut), axes=part)
        return name

    def _summed(self, name: str, now: Sharding, target: Sharding) -> str:
        """Partial results added up; scattered at once where the target is cut over their axes."""
        directions = by_direction(now.partial)
        scattered = now.function == "sum" and set(now.partial) <= target.used
        if not scattered or len(directions) > 1:
            left = now.partial
            for part in directions:
                left = tuple(axis for axis in left if axis not in part)
                sharding = Sharding(now.axes, left, now.function if left else "sum")
                more = {"axes": part, "function": now.function}
                name = self._emit("all_reduce", name, sharding, **more)
            return name
        cut = tuple(
            own or (wanted if set(wanted) <= set(now.partial) else ())
            for own, wanted in zip(now.axes, target.axes, strict=True)
        )
        return self._emit("reduce_scatter", name, Sharding(cut), axes=now.partial)

    def _emit(self, kind: str, name: str, sharding: Sharding, **attributes: Attribute) -> str:
        result = f"{name}.{kind}"
        while result in self.types:
            result += "_"
        self.origins[result] = self.origins.get(name, name)
        self.append(Op(kind, (name,), (result,), (self.types[name],), attributes), sharding)
        return result

    def append(self, op: Op, *shardings: Sharding) -> None:
        """Add an operator whose results lie so."""
        self.ops.append(op)
        self.types.update(zip(op.results, op.types, strict=True))
        self.shardings.update(zip(op.results, shardings, strict=True))

    def whole(self, name: str) -> str:
        """A value that is no partial result."""
        now = self.shardings[name]
        return self.moved(name, dataclasses.replace(now, partial=(), function="sum"))


def add_parts(op: Op, values: Values) -> Op | None:
    """What is left to do of an operator when, if it is a sum, partial results that lie alike have
    been added before they are completed; None where that was all of it."""
    alike = _alike(op, values)
    if len(alike) < 2:
        return op
    first = values.shardings[op.operands[alike[0]]]
    letters = indices_of(op).operands
    axes = dict(zip(letters[alike[0]], first.axes, strict=True))
    result = indices_of(op).result
    sharding = dataclasses.replace(first, axes=tuple(axes[letter] for letter in result))
    if len(alike) == len(op.operands):
        values.append(op, sharding)
        return None
    name = f"{op.result}.parts"
    values.origins[name] = op.result
    parts = [(op.operands[at], letters[at]) for at in alike]
    values.append(dataclasses.replace(_sum(op, parts), results=(name,)), sharding)
    rest = [(op.operands[at], letters[at]) for at in range(len(letters)) if at not in alike]
    return _sum(op, [(name, result), *rest])


def _alike(op: Op, values: Values) -> list[int]:
    """The places of operands of a sum that are partial results and lie as the first such does."""
    if op.kind != "elementwise" or not is_sum(op.text("expr"), len(op.operands)):
        return []
    indices = indices_of(op)
    found: dict[int, tuple[dict[str, tuple[str, ...]], frozenset[str]]] = {}
    for at, (name, letters) in enumerate(zip(op.operands, indices.operands, strict=True)):
        now = values.shardings.get(name)
        same = sorted(letters) == sorted(indices.result)
        if now is None or not now.partial or now.function != "sum" or not same:
            continue
        if values.types[name].dtype == op.type.dtype:
            found[at] = dict(zip(letters, now.axes, strict=True)), frozenset(now.partial)
    first = next(iter(found.values()), None)
    return [at for at, place in found.items() if place == first]


def _sum(op: Op, parts: list[tuple[str, str]]) -> Op:
    """The sum of some values, each with its letters."""
    attributes: dict[str, Attribute] = {
        **op.attributes,
        "indices": f"{','.join(letters for _, letters in parts)}->{indices_of(op).result}",
        "expr": " + ".join(LETTERS[: len(parts)]),
    }
    operands = tuple(name for name, _ in parts)
    return dataclasses.replace(op, operands=operands, attributes=attributes)
