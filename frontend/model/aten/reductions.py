"""Operators along one or a few dimensions: sums, norms, softmax, running sums, order."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ....ir import dims
from ....ir.graph import TensorType
from ..builder import View
from .call import Call, Rule, Shown, UnsupportedError, letters_of, number, spare_letter
from .elementwise import cast, expression
from .parts import with_size, without

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from one to the next number."""


def _places(x: Shown, stated: Any) -> set[int]:
    """The dimensions that an argument names; all of them where it names none."""
    rank = len(x.type.shape)
    if stated is None or stated == []:
        return set(range(rank))
    return {at % max(rank, 1) for at in ([stated] if isinstance(stated, int) else stated)}


def kept(view: View, places: Iterable[int], rank: int) -> View:
    """A view of what is left by a reduction, with reduced dimensions as ones."""
    gone = set(places)
    axes = iter(view.axes)
    return View(view.name, tuple(None if at in gone else next(axes) for at in range(rank)))


def reduced(
    call: Call, x: Shown, over: set[int], function: str, dtype: str, expr: str = "a"
) -> Shown:
    """A tensor reduced over dimensions, which are gone."""
    letters = letters_of(x.type)
    name, own = call.lettered(x, letters, letters)
    result = "".join(letter for at, letter in enumerate(letters) if at not in over)
    shape = tuple(size for at, size in enumerate(x.type.shape) if at not in over)
    type_ = TensorType(dtype, shape)
    attributes = {"indices": f"{own}->{result}", "function": function, "expr": expr}
    return Shown(call.graph.add("reduce", [name], type_, attributes, function), type_)


def _finished(call: Call, made: Shown, x: Shown, over: set[int], keep: bool) -> View:
    view = cast(call, made)
    return kept(view, over, len(x.type.shape)) if keep else view


def _sum(call: Call) -> View:
    x = call.tensor(0)
    over = _places(x, call.get(1, "dim"))
    made = reduced(call, x, over, "sum", call.type.dtype)
    return _finished(call, made, x, over, call.get(2, "keepdim", False))


def _mean(call: Call) -> View:
    """The sum over its number of elements; a reduced dimension that is kept is one of the view."""
    x = call.tensor(0)
    over = _places(x, call.get(1, "dim"))
    made = averaged(call, x, over, 0)
    return _finished(call, made, x, over, call.get(2, "keepdim", False))


def averaged(call: Call, x: Shown, over: set[int], correction: float, expr: str = "a") -> Shown:
    """The mean over some dimensions, of `count` elements less a `correction`."""
    count = dims.product(x.type.shape[at] for at in over)
    total = reduced(call, x, over, "sum", call.type.dtype, expr)
    fewer = f" - {number(correction)}" if correction else ""
    divisor = count if isinstance(count, int) and not fewer else f"({count}{fewer})"
    return call.elementwise(f"a / {divisor}", total.view, type_=total.type)


def _extreme(function: str) -> Rule:
    """The greatest, or the negative of the greatest negative; of booleans, any or all."""

    def rule(call: Call) -> View:
        x = call.tensor(0)
        over = _places(x, call.get(1, "dim"))
        least = function in ("min", "all")
        if function in ("any", "all"):
            x = Shown(cast(call, x, "bool"), TensorType("bool", x.type.shape))
        dtype = x.type.dtype
        negated = "not a" if dtype == "bool" else "-a"
        made = reduced(call, x, over, "max", dtype, negated if least else "a")
        if least:
            made = call.elementwise(negated, made.view, type_=made.type)
        return _finished(call, made, x, over, call.get(2, "keepdim", False))

    return rule


def _variance(root: bool) -> Rule:
    def rule(call: Call) -> View:
        return _spread(call, root)[1]

    return rule


def _spread(call: Call, root: bool) -> tuple[View, View]:
    """The mean and the variance (or its square root) that a call asks for."""
    x, stated = call.tensor(0), call.get(1, "dim")
    type_ = call.types[0]
    call = replace(call, type=type_)
    correction = call.named.get("correction", 1)
    if isinstance(stated, bool):
        correction, stated = float(stated), None
    elif len(call.arguments) > 2:
        correction = float(call.arguments[2])
    over, keep = _places(x, stated), call.get(3, "keepdim", False)
    correction = 1 if correction is None else correction
    mean = averaged(call, x, over, 0)
    centre = kept(mean.view, over, len(x.type.shape))
    away = call.elementwise("a - b", x.view, centre, type_=x.type)
    spread = averaged(call, away, over, correction, "square(a)")
    if root:
        spread = call.elementwise("sqrt(a)", spread.view, type_=spread.type)
    return _finished(call, mean, x, over, keep), _finished(call, spread, x, over, keep)


def _both(root: bool) -> Rule:
    def rule(call: Call) -> tuple[View, View]:
        mean, spread = _spread(call, root)
        return spread, mean

    return rule


def _log_sum(call: Call) -> View:
    """The greatest element, plus the logarithm of the sum of what the others are beside it."""
    x = call.tensor(0)
    over = _places(x, call.get(1, "dim"))
    most = reduced(call, x, over, "max", x.type.dtype)
    rank = len(x.type.shape)
    near = call.elementwise("exp(a - b)", x.view, kept(most.view, over, rank), type_=x.type)
    total = reduced(call, near, over, "sum", x.type.dtype)
    made = call.elementwise("log(a) + b", total.view, most.view, type_=total.type)
    return _finished(call, made, x, over, call.get(2, "keepdim", False))


def _length(call: Call) -> View:
    """A vector norm of order one, two, or infinity."""
    x, order = call.tensor(0), call.get(1, "ord", 2)
    order = 2 if order is None else order
    over, keep = _places(x, call.get(2, "dim")), call.get(3, "keepdim", False)
    function, inside, outside = {
        1: ("sum", "abs(a)", "a"),
        2: ("sum", "square(a)", "sqrt(a)"),
        float("inf"): ("max", "abs(a)", "a"),
    }.get(order, ("", "", ""))
    if not function:
        raise UnsupportedError(f"a norm of order {order}")
    made = reduced(call, x, over, function, call.type.dtype, inside)
    if outside != "a":
        made = call.elementwise(outside, made.view, type_=made.type)
    return _finished(call, made, x, over, keep)


def _softmax(log: bool) -> Rule:
    def rule(call: Call) -> View:
        x = call.tensor(0)
        if not call.rank:
            raise UnsupportedError("a tensor without dimensions")
        letters = letters_of(x.type)
        name, own = call.lettered(x, letters, letters)
        over = letters[call.dim(1, "dim", call.rank)]
        logarithm: dict[str, bool] = {"log": True} if log else {}
        return call.add(
            "softmax", [name], call.type, indices=f"{own}->{letters}", over=over, **logarithm
        )

    return rule


def _cumsum(call: Call) -> View:
    x = call.tensor(0)
    letters = letters_of(x.type)
    name, own = call.lettered(x, letters, letters)
    over = letters[call.dim(1, "dim", call.rank)]
    return call.add("cumsum", [name], call.type, indices=f"{own}->{letters}", over=over)


def chosen(
    call: Call, x: Shown, at: int, count: Any, largest: bool, ordered: bool
) -> tuple[Shown, Shown]:
    """The greatest or least elements along a dimension, and where they are."""
    letters = letters_of(x.type)
    name, own = call.lettered(x, letters, letters)
    new = spare_letter(letters, "k")
    result = letters[:at] + new + letters[at + 1 :]
    values = with_size(x.type, at, count)
    types = values, replace(values, dtype="int64")
    attributes = {
        "indices": f"{own}->{result},{result}",
        "over": letters[at],
        "largest": largest,
        "sorted": ordered,
    }
    views = call.graph.add_several("topk", [name], types, attributes, call.name)
    return Shown(views[0], types[0]), Shown(views[1], types[1])


def _topk(call: Call) -> tuple[View, View]:
    x = call.tensor(0)
    at = call.dim(2, "dim", len(x.type.shape), -1)
    largest, ordered = call.get(3, "largest", True), call.get(4, "sorted", True)
    values, places = chosen(call, x, at, call.arguments[1], largest, ordered)
    return values.view, places.view


def _sorted(call: Call) -> tuple[View, View]:
    x = call.tensor(0)
    rest = [argument for argument in call.arguments[1:] if not isinstance(argument, bool)]
    flags = [argument for argument in call.arguments[1:] if isinstance(argument, bool)]
    at = (rest[0] if rest else call.named.get("dim", -1)) % len(x.type.shape)
    descending = flags[-1] if flags else call.named.get("descending", False)
    values, places = chosen(call, x, at, x.type.shape[at], descending, ordered=True)
    return values.view, places.view


def _argsort(call: Call) -> View:
    return _sorted(call)[1]


def _best(largest: bool) -> Rule:
    """The greatest or least element along a dimension and its place."""

    def rule(call: Call) -> tuple[View, ...]:
        x = call.tensor(0)
        at = call.dim(1, "dim", len(x.type.shape))
        found = chosen(call, x, at, 1, largest, ordered=True)
        keep = call.get(2, "keepdim", False)
        return tuple(part.view if keep else _dropped(call, part, at) for part in found)

    return rule


def _dropped(call: Call, part: Shown, at: int) -> View:
    return call.graph.reshape(part.view, part.type.shape, without(part.type, at).shape)


def _place_of_best(largest: bool) -> Rule:
    def rule(call: Call) -> View:
        x, stated = call.tensor(0), call.get(1, "dim")
        if stated is None:
            flat = TensorType(x.type.dtype, (x.type.elements,))
            x = Shown(call.graph.reshape(x.view, x.type.shape, flat.shape), flat)
        at = (stated or 0) % len(x.type.shape)
        places = chosen(call, x, at, 1, largest, ordered=True)[1]
        if stated is None or not call.get(2, "keepdim", False):
            return _dropped(call, places, at)
        return places.view

    return rule


def _norm(call: Call, function: str, weights: list[Any], epsilon: float) -> View:
    """A normalization of the last dimension, times a weight, plus a bias."""
    x = call.tensor(0)
    if len(call.arguments[1]) != 1:
        raise UnsupportedError("a normalization over several dimensions")
    letters = letters_of(x.type)
    name, own = call.lettered(x, letters, letters)
    given = [weight for weight in weights if isinstance(weight, Shown)]
    inside = given if isinstance(weights[0], Shown) else []
    rows = [(name, own), *(call.lettered(weight, letters[-1], letters[-1]) for weight in inside)]
    made = call.graph.add(
        "norm",
        [name for name, _ in rows],
        call.type,
        {
            "indices": f"{','.join(own for _, own in rows)}->{letters}",
            "function": function,
            "over": letters[-1],
            "epsilon": epsilon,
        },
        call.name,
    )
    if given and not inside:
        return expression(call, "a + b", Shown(made, call.type), given[0])
    return made


def _layer_norm(call: Call) -> View:
    weights = [call.get(2, "weight"), call.get(3, "bias")]
    return _norm(call, "layer", weights, call.get(4, "eps", 1e-5))


def _rms_norm(call: Call) -> View:
    epsilon = call.get(3, "eps")
    if epsilon is None:
        epsilon = _EPSILON[call.type.dtype]
    return _norm(call, "rms", [call.get(2, "weight")], epsilon)


def _group_norm(call: Call) -> View:
    """Each group of channels, with all that follows them, normalized as a layer."""
    x, groups = call.tensor(0), call.arguments[1]
    batch, channels, *rest = x.type.shape
    inside = dims.product([channels // groups, *rest])
    shape = TensorType(x.type.dtype, (batch, groups, inside))
    view = call.graph.reshape(x.view, x.type.shape, shape.shape)
    letters = letters_of(shape)
    normal = call.graph.add(
        "norm",
        [view.name],
        shape,
        {
            "indices": f"{letters}->{letters}",
            "function": "layer",
            "over": letters[-1],
            "epsilon": call.get(4, "eps", 1e-5),
        },
        call.name,
    )
    made = Shown(call.graph.reshape(normal, shape.shape, x.type.shape), call.type)
    for expr, weight in (("a * b", call.get(2, "weight")), ("a + b", call.get(3, "bias"))):
        if isinstance(weight, Shown):
            wide = View(weight.view.name, (*weight.view.axes, *(None,) * len(rest)))
            made = call.elementwise(expr, made.view, wide)
    return made.view


RULES: dict[str, Rule] = {
    "_log_softmax.default": _softmax(log=True),
    "_softmax.default": _softmax(log=False),
    "all.default": _extreme("all"),
    "all.dim": _extreme("all"),
    "all.dims": _extreme("all"),
    "amax.default": _extreme("max"),
    "amin.default": _extreme("min"),
    "any.default": _extreme("any"),
    "any.dim": _extreme("any"),
    "any.dims": _extreme("any"),
    "argmax.default": _place_of_best(largest=True),
    "argmin.default": _place_of_best(largest=False),
    "argsort.default": _argsort,
    "argsort.stable": _argsort,
    "cumsum.default": _cumsum,
    "group_norm.default": _group_norm,
    "layer_norm.default": _layer_norm,
    "linalg_vector_norm.default": _length,
    "log_softmax.int": _softmax(log=True),
    "logsumexp.default": _log_sum,
    "max.default": _extreme("max"),
    "max.dim": _best(largest=True),
    "mean.default": _mean,
    "mean.dim": _mean,
    "min.default": _extreme("min"),
    "min.dim": _best(largest=False),
    "norm.ScalarOpt_dim": _length,
    "rms_norm.default": _rms_norm,
    "softmax.int": _softmax(log=False),
    "sort.default": _sorted,
    "sort.stable": _sorted,
    "std.correction": _variance(root=True),
    "std.default": _variance(root=True),
    "std.dim": _variance(root=True),
    "std_mean.correction": _both(root=True),
    "std_mean.dim": _both(root=True),
    "sum.default": _sum,
    "sum.dim_IntList": _sum,
    "topk.default": _topk,
    "var.correction": _variance(root=False),
    "var.default": _variance(root=False),
    "var.dim": _variance(root=False),
    "var_mean.correction": _both(root=False),
    "var_mean.dim": _both(root=False),
}
