"""The rules for experts: one operator of a trace, one of the graph."""

from ....ir.graph import Attribute
from ..builder import View
from .call import Call, Rule, Shown, fixed

_RESULT = "to"


def _experts(call: Call) -> View:
    """Weights and biases in which gate and value get a dimension of their own."""
    up_bias, down_bias = call.get(5, "up_bias"), call.get(6, "down_bias")
    expr, up, down = (
        str(call.get(at, name))
        for at, name in ((7, "expr"), (8, "up_letters"), (9, "down_letters"))
    )
    biases = {"up_bias": up_bias, "down_bias": down_bias}
    given = {name: shown for name, shown in biases.items() if shown is not None}
    spelt = {"up_bias": up.replace("h", ""), "down_bias": "eo"}
    letters = ["th", "tk", "tk", up, down, *(spelt[name] for name in given)]
    values = [*(call.tensor(at) for at in range(5)), *given.values()]
    second = call.tensor(4).type.shape
    attributes: dict[str, Attribute] = {
        "indices": f"{','.join(letters)}->{_RESULT}",
        "expr": expr,
        "expert": "e",
        "pair": "c" if "c" in up else "",
        "total": call.get(10, "total"),
        "inner": int(str(second[down.index("f")])),
    }
    if given:
        attributes["extras"] = tuple(given)
    operands = [
        _paired(call, shown, own) if "c" in own else call.graph.real(shown.view, shown.type.shape)
        for shown, own in zip(values, letters, strict=True)
    ]
    return call.graph.add("experts", operands, call.type, attributes, "experts")


def _paired(call: Call, shown: Shown, letters: str) -> str:
    """A value viewed with a dimension of two for the letter `c`."""
    shape = shown.type.shape
    at = min(letters.index("c"), letters.index("f"))
    half = int(str(shape[at])) // 2
    pair = (2, half) if letters[at] == "c" else (half, 2)
    return call.graph.reshape(shown.view, shape, (*shape[:at], *pair, *shape[at + 1 :])).name


def _chosen(call: Call) -> View:
    """Products with matrices that every token chooses."""
    indices = str(call.get(3, "indices"))
    at = indices.partition("->")[0].split(",")[2].index("e")
    total = fixed(call.tensor(2).type.shape[at], "a number of experts")
    operands = [call.real(place) for place in range(3)]
    return call.add("chosen_matmul", operands, call.type, indices=indices, expert="e", total=total)


RULES: dict[str, Rule] = {"chosen.default": _chosen, "experts.default": _experts}
