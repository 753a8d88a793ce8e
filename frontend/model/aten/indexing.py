"""Elements taken from, or put to, where an index says."""

from collections.abc import Sequence
from typing import Any

from ....ir import dims
from ....ir.graph import TensorType
from ..builder import View, letters_for
from .call import Call, Rule, Shown, UnsupportedError, letters_of, spare_letter
from .elementwise import cast, expression
from .parts import cut, from_start, replaced
from .shapes import reordered


def _embedding(call: Call) -> View:
    table, ids = call.tensor(0), call.tensor(1)
    result = letters_for(call.rank)
    rows = spare_letter(result, "v")
    name, own = call.lettered(ids, result[:-1], result[:-1])
    source, letters = call.lettered(table, rows + result[-1], rows + result[-1])
    padding = call.get(2, "padding_idx", -1)
    more = {"padding": padding} if padding >= 0 else {}
    indices = f"{own},{letters}->{result}"
    return call.add("embedding", [name, source], call.type, indices=indices, rows=rows, **more)


def _fitted(call: Call, x: Shown, shape: Sequence[Any], but: int) -> Shown:
    """The first elements of a tensor, as many as `shape` has in every dimension but one."""
    for at, size in enumerate(shape):
        if at != but and x.type.shape[at] != size:
            x = cut(call, x, at, 0, size)
    return x


def _gather(call: Call) -> View:
    x, index = call.tensor(0), call.tensor(2)
    if not call.rank:
        raise UnsupportedError("a tensor without dimensions")
    at = call.dim(1, "dim", call.rank)
    x = _fitted(call, x, call.type.shape, at)
    result = letters_for(call.rank)
    along = spare_letter(result, "v")
    letters = result[:at] + along + result[at + 1 :]
    name, own = call.lettered(x, letters, letters)
    where, places = call.lettered(index, result, result[at])
    return call.add(
        "gather", [name, where], call.type, indices=f"{own},{places}->{result}", along=along
    )


def _take_along(call: Call) -> View:
    x, index = call.tensor(0), call.tensor(1)
    if call.get(2, "dim") is None:
        raise UnsupportedError("places in the flattened tensor")
    shape = index.type.shape
    at = call.dim(2, "dim", len(shape))
    if any(
        a != b for place, (a, b) in enumerate(zip(x.type.shape, shape, strict=True)) if place != at
    ):
        raise UnsupportedError("an index that is broadcast")
    return _gather(call.with_arguments(x, at, index))


def _index_select(call: Call) -> View:
    x, index = call.tensor(0), call.tensor(2)
    at = call.dim(1, "dim", call.rank)
    return _taken(call, x, [at], [index])


def _taken(call: Call, x: Shown, places: Sequence[int], indices: Sequence[Shown]) -> View:
    """The elements at indices into some dimensions; the indices are broadcast together.

    Their dimensions take the place of those they index, or come first where those are apart.
    """
    plan = _Plan(call, x, places, indices, call.type)
    return call.add(
        "gather",
        [plan.name, plan.index],
        call.type,
        indices=f"{plan.own},{plan.letters}->{plan.result}",
        along=plan.along,
    )


class _Plan:
    """One `gather` or `scatter` for several indices: those that count along a dimension are its
    letter, and of the others one number is made."""

    def __init__(
        self,
        call: Call,
        x: Shown,
        places: Sequence[int],
        indices: Sequence[Shown],
        type_: TensorType,
    ) -> None:
        rank = len(type_.shape) - len(x.type.shape) + len(places)
        together = [*range(places[0], places[0] + len(places))] == [*places]
        first = places[0] if together else 0
        self.result = letters_of(type_)
        block = self.result[first : first + rank]
        shape = type_.shape[first : first + rank]
        others = iter(self.result[:first] + self.result[first + rank :])
        letters = ["" if at in places else next(others) for at in range(len(x.type.shape))]
        left: list[tuple[int, Shown]] = []
        for at, index in zip(places, indices, strict=True):
            letter = _counting(call, index, x.type.shape[at], block)
            shared = sum(bool(letters[place]) for place in places)
            if letter and letter not in letters and shared + 1 < len(places):
                letters[at] = letter
            else:
                left.append((at, index))
        self.along = spare_letter(self.result, "v")
        x, index = _merged(call, x, left, TensorType("int64", shape))
        merged = [at for at, _ in left]
        rest = [at for at in range(len(letters)) if at not in merged]
        if len(merged) > 1:
            letters = [self.along, *(letters[at] for at in rest)]
        else:
            letters[merged[0]] = self.along
        self.x, self.inside = x, "".join(letters)
        self.name, self.own = call.lettered(x, self.inside, self.inside)
        view = index.view
        wide = View(view.name, (None,) * (rank - len(view.axes)) + view.axes)
        lacking = "".join(letter for letter in block if letter not in self.inside)
        self.index, self.letters = call.lettered(
            Shown(wide, TensorType("int64", shape)), block, lacking
        )
        self.merged = merged


def _counting(call: Call, index: Shown, size: Any, block: str) -> str:
    """The letter of the result along which an index counts all elements of a dimension."""
    made = [op for op in call.graph.ops if op.result == index.view.name and op.kind == "iota"]
    present = [at for at, axis in enumerate(index.view.axes) if axis is not None]
    if len(made) != 1 or len(present) != 1 or made[0].type.shape != (size,):
        return ""
    if (made[0].attributes["start"], made[0].attributes["step"]) != (0, 1):
        return ""
    return block[present[0] - len(index.view.axes)]


def _merged(
    call: Call, x: Shown, indexed: Sequence[tuple[int, Shown]], type_: TensorType
) -> tuple[Shown, Shown]:
    """A tensor whose first dimension is all those that are indexed, and one index into it."""
    if len(indexed) == 1:
        return x, indexed[0][1]
    places = [at for at, _ in indexed]
    order = [*places, *(at for at in range(len(x.type.shape)) if at not in places)]
    shape = tuple(x.type.shape[at] for at in order)
    flat = (dims.product(shape[: len(places)]), *shape[len(places) :])
    view = call.graph.reshape(reordered(x, order), shape, flat)
    expr, operands = "", list[Shown]()
    for at, index in indexed:
        letter, size = "abcdefgh"[len(operands)], x.type.shape[at]
        term = f"{letter} % ({size})"
        expr = f"({expr}) * ({size}) + {term}" if expr else term
        operands.append(index)
    index = expression(call, expr, *operands, type_=type_)
    return Shown(view, TensorType(x.type.dtype, flat)), Shown(index, type_)


def _indices(call: Call, x: Shown, stated: Sequence[Any]) -> tuple[list[int], list[Shown]]:
    found = [(at, index) for at, index in enumerate(stated) if isinstance(index, Shown)]
    if any(index.type.dtype in ("bool", "uint8") for _, index in found):
        raise UnsupportedError("a mask as an index: how much it selects is no size")
    return [at for at, _ in found], [index for _, index in found]


def _index(call: Call) -> View:
    x = call.tensor(0)
    places, indices = _indices(call, x, call.arguments[1])
    if not places:
        return x.view
    return _taken(call, x, places, indices)


def _put(call: Call, x: Shown, at: int, index: Shown, source: Shown, function: str) -> View:
    """Elements put along one dimension where an index of the same rank says."""
    shape = index.type.shape
    if any(
        a != b for place, (a, b) in enumerate(zip(x.type.shape, shape, strict=True)) if place != at
    ):
        raise UnsupportedError("an index smaller than the tensor")
    letters = letters_of(x.type)
    new = spare_letter(letters, "k")
    inside = letters[:at] + new + letters[at + 1 :]
    if len(source.type.shape) == len(shape):
        source = _fitted(call, source, shape, -1)
    return _scattered(
        call, x, letters, letters[at], (index, inside, new), (source, inside), function
    )


def _scattered(
    call: Call,
    x: Shown,
    letters: str,
    along: str,
    index: tuple[Shown, str, str],
    source: tuple[Shown, str],
    function: str,
) -> View:
    name, own = call.lettered(x, letters, letters)
    where, places = call.lettered(*index)
    values = Shown(cast(call, source[0]), TensorType(call.type.dtype, source[0].type.shape))
    view = values.view
    spelt = source[1][len(source[1]) - len(view.axes) :]
    value, given = call.lettered(values, spelt)
    return call.add(
        "scatter",
        [name, where, value],
        TensorType(call.type.dtype, x.type.shape),
        indices=f"{own},{places},{given}->{letters}",
        along=along,
        function=function,
    )


def _scatter(function: str) -> Rule:
    def rule(call: Call) -> View:
        source = call.as_tensor(call.get(3, "src", call.named.get("value")), "the source")
        if call.named.get("reduce") is not None:
            raise UnsupportedError(f"reduce = {call.named['reduce']}")
        at = call.dim(1, "dim", call.rank)
        return _put(call, call.tensor(0), at, call.tensor(2), source, function)

    return rule


def _scatter_reduce(call: Call) -> View:
    if call.get(4, "reduce") != "sum" or not call.get(5, "include_self", True):
        raise UnsupportedError(f"reduce = {call.get(4, 'reduce')}")
    at = call.dim(1, "dim", call.rank)
    return _put(call, call.tensor(0), at, call.tensor(2), call.tensor(3), "add")


def _index_put_along(function: str) -> Rule:
    """Slices put where a vector says along one dimension."""

    def rule(call: Call) -> View:
        x, index, source = call.tensor(0), call.tensor(2), call.arguments[3]
        if call.named.get("alpha", 1) != 1:
            raise UnsupportedError(f"alpha = {call.named['alpha']}")
        at = call.dim(1, "dim", call.rank)
        return _put_along(call, x, at, index, call.as_tensor(source, "the source"), function)

    return rule


def _put_along(call: Call, x: Shown, at: int, index: Shown, source: Shown, function: str) -> View:
    letters = letters_of(x.type)
    new = spare_letter(letters, "k")
    inside = letters[:at] + new + letters[at + 1 :]
    return _scattered(call, x, letters, letters[at], (index, new, new), (source, inside), function)


def _slice_scatter(call: Call) -> View:
    x, source = call.tensor(0), call.tensor(1)
    at, step = call.dim(2, "dim", call.rank, 0), call.get(5, "step", 1)
    start = from_start(call.get(3, "start") or 0, x.type.shape[at])
    if step == 1:
        return replaced(call, x, source, at, start)
    count = source.type.shape[at]
    index = Shown(call.positions(count, start, step), TensorType("int64", (count,)))
    return _put_along(call, x, at, index, source, "set")


def _index_put(call: Call) -> View:
    x, source = call.tensor(0), call.tensor(2)
    function = "add" if call.get(3, "accumulate", False) else "set"
    stated = [index for index in call.arguments[1] if isinstance(index, Shown)]
    if len(stated) == 1 and stated[0].type.dtype == "bool":
        return _put_where(call, x, call.arguments[1], source, function)
    places, indices = _indices(call, x, call.arguments[1])
    block = _broadcast([index.type for index in indices])
    together = [*range(places[0], places[0] + len(places))] == [*places]
    rest = [size for at, size in enumerate(x.type.shape) if at not in places]
    first = places[0] if together else 0
    shape = (*rest[:first], *block, *rest[first:])
    return _put_at(call, x, places, indices, source, TensorType(x.type.dtype, shape), function)


def _put_at(
    call: Call,
    x: Shown,
    places: Sequence[int],
    indices: Sequence[Shown],
    source: Shown,
    type_: TensorType,
    function: str,
) -> View:
    plan = _Plan(call, x, places, indices, type_)
    first = len(type_.shape) - len(source.type.shape)
    values = Shown(cast(call, source), TensorType(x.type.dtype, type_.shape[first:]))
    spelt = plan.result[first:]
    value, given = call.lettered(values, spelt)
    made = call.add(
        "scatter",
        [plan.name, plan.index, value],
        plan.x.type,
        indices=f"{plan.own},{plan.letters},{given}->{plan.inside}",
        along=plan.along,
        function=function,
    )
    return _unmerged(call, made, plan, x)


def _unmerged(call: Call, made: View, plan: _Plan, x: Shown) -> View:
    """The tensor with its indexed dimensions apart and in their order again."""
    if len(plan.merged) == 1:
        return made
    order = [*plan.merged, *(at for at in range(len(x.type.shape)) if at not in plan.merged)]
    shape = tuple(x.type.shape[at] for at in order)
    view = call.graph.reshape(made, call.graph.types[made.name].shape, shape)
    return View(view.name, tuple(view.axes[order.index(at)] for at in range(len(order))))


def _broadcast(types: Sequence[TensorType]) -> tuple[Any, ...]:
    rank = max(len(type_.shape) for type_ in types)
    padded = [(1,) * (rank - len(type_.shape)) + type_.shape for type_ in types]
    return tuple(
        next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True)
    )


def _put_where(call: Call, x: Shown, stated: Sequence[Any], source: Shown, function: str) -> View:
    """One number put wherever a mask over the first dimensions says."""
    mask = stated[0]
    if function == "add" or not isinstance(mask, Shown) or source.type.elements != 1:
        raise UnsupportedError("a mask as an index: how much it selects is no size")
    added = len(x.type.shape) - len(mask.type.shape)
    wide = View(mask.view.name, (*mask.view.axes, *(None,) * added))
    number = View(source.view.name, tuple(axis for axis in source.view.axes if axis is not None))
    if number.axes:
        number = call.graph.reshape(source.view, source.type.shape, ())
    return call.elementwise("where(b, c, a)", x.view, wide, number).view


def _masked_scatter(call: Call) -> View:
    """The n-th place of the mask gets the n-th element of the source."""
    x, mask, source = (call.tensor(at) for at in range(3))
    count, held = call.type.elements, source.type.elements
    wide = View(mask.view.name, (None,) * (call.rank - len(mask.view.axes)) + mask.view.axes)
    flat = TensorType("int64", (count,))
    seen = call.graph.reshape(wide, call.type.shape, (count,))
    chosen = call.elementwise("a", seen, type_=flat)
    attributes = {"indices": "s->s", "over": "s"}
    order = call.graph.add("cumsum", [chosen.view.name], flat, attributes, call.name)
    place = call.elementwise("maximum(a - 1, 0)", order, type_=flat)
    values = call.graph.reshape(source.view, source.type.shape, (held,))
    type_ = TensorType(source.type.dtype, (count,))
    taken = call.graph.add(
        "gather",
        [values.name, place.view.name],
        type_,
        {"indices": "v,s->s", "along": "v"},
        call.name,
    )
    shaped = call.graph.reshape(taken, (count,), call.type.shape)
    return call.elementwise("where(b, c, a)", x.view, wide, shaped).view


RULES: dict[str, Rule] = {
    "embedding.default": _embedding,
    "gather.default": _gather,
    "index.Tensor": _index,
    "index_add.default": _index_put_along("add"),
    "index_copy.default": _index_put_along("set"),
    "index_fill.int_Scalar": _index_put_along("set"),
    "index_put.default": _index_put,
    "index_select.default": _index_select,
    "masked_scatter.default": _masked_scatter,
    "scatter.src": _scatter("set"),
    "scatter.value": _scatter("set"),
    "scatter_add.default": _scatter("add"),
    "scatter_reduce.two": _scatter_reduce,
    "slice_scatter.default": _slice_scatter,
    "take_along_dim.default": _take_along,
}
