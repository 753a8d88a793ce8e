"""What an experts module does between its two products, as an expression of ours.

The module's own code is run on small tensors and recorded; what comes out is checked on random
numbers against the code itself.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import _disable_current_modes

from ...ir import expression
from .aten import UnsupportedError

_INNER = 6
"""The width at which a gate is recorded; even, and not that of a pair."""

_SAME = ("_to_copy", "clone", "detach", "alias", "lift_fresh_copy", "view", "contiguous")

_FORMS = {
    "abs": "abs({0})",
    "add": "{0} + {1}",
    "div": "{0} / {1}",
    "erf": "erf({0})",
    "exp": "exp({0})",
    "log": "log({0})",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
    "mul": "{0} * {1}",
    "neg": "-{0}",
    "pow": "{0} ** {1}",
    "reciprocal": "reciprocal({0})",
    "relu": "relu({0})",
    "rsub": "{1} - {0}",
    "sigmoid": "sigmoid({0})",
    "silu": "silu({0})",
    "softplus": "softplus({0})",
    "sqrt": "sqrt({0})",
    "square": "square({0})",
    "sub": "{0} - {1}",
    "tanh": "tanh({0})",
}


@dataclass(frozen=True)
class Gate:
    """`expr` over gate a and value b, or over a alone; `interleaved` is whether they take turns
    along the dimension that holds them, rather than being its halves."""

    expr: str
    interleaved: bool


def gate_of(module: nn.Module, gated: bool) -> Gate:
    """What `_apply_gate`, or without a gate `act_fn`, of an experts module computes.

    Raises UnsupportedError for a module that does anything but arithmetic on each pair.
    """
    function: Any = module._apply_gate if gated else module.act_fn
    return recorded(function, 2 if gated else 1, type(module).__name__)


def recorded(function: Callable[[Tensor], Tensor], parts: int, name: str) -> Gate:
    """The gate that a function of (tokens, `parts` times width) is; `name` is for the message."""
    with _disable_current_modes(), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        numbers = torch.randn((64, parts * _INNER), generator=generator) * 5
        try:
            graph = make_fx(lambda value: function(value))(numbers).graph
            gate = _expression(graph, parts)
            mine = expression.evaluate(gate.expr, _apart(numbers, parts, gate.interleaved))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UnsupportedError(f"the activation of {name}: {reason}") from error
        theirs = function(numbers)
        if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6):
            raise UnsupportedError(f"the activation of {name}, which is not {gate.expr}")
    return gate


def _apart(numbers: Tensor, parts: int, interleaved: bool) -> Sequence[Tensor]:
    if interleaved:
        return numbers.unflatten(-1, (-1, parts)).unbind(-1)
    return numbers.chunk(parts, dim=-1)


def _expression(graph: fx.Graph, parts: int) -> Gate:
    """The expression of a recorded function; each node is one, or the operand, or its halves."""
    known: dict[fx.Node, Any] = {}
    layouts: set[bool] = set()
    whole = object()
    for node in graph.nodes:
        if node.op == "placeholder":
            known[node] = whole if parts > 1 else "a"
        elif node.op == "output":
            result = known.get(node.all_input_nodes[0])
            if not isinstance(result, str):
                raise UnsupportedError("it returns no elementwise result")
            return Gate(result, layouts == {True})
        elif node.target is operator.getitem:
            source, at = node.args
            known[node] = known[source][at]
        elif known.get(node.args[0]) is whole:
            known[node], interleaved = _taken(node, parts)
            layouts.add(interleaved)
            if len(layouts) > 1:
                raise UnsupportedError("halves and turns at once")
        else:
            known[node] = _formed(node, known)
    raise UnsupportedError("it returns nothing")


def _taken(node: fx.Node, parts: int) -> tuple[Any, bool]:
    """The part of the operand that a node takes, and whether parts take turns."""
    name, arguments = _name(node), [*node.args[1:]]
    size = {"split": _INNER, "chunk": parts}.get(name)
    if size is not None and arguments[0] == size and _value(node, "dim", 2, 0) in (-1, 1):
        return "ab"[:parts], False
    if name == "slice" and _value(node, "dim", 1, 0) in (-1, 1):
        start, stop, step = (
            _value(node, key, at, default)
            for key, at, default in (("start", 2, 0), ("end", 3, parts * _INNER), ("step", 4, 1))
        )
        if step == parts and start < parts and stop >= parts * (_INNER - 1) + start + 1:
            return "ab"[start], True
        if step == 1 and start % _INNER == 0 and min(stop, parts * _INNER) == start + _INNER:
            return "ab"[start // _INNER], False
    raise UnsupportedError(f"it reads its operand by {node.target}{tuple(arguments)}")


def _formed(node: fx.Node, known: Mapping[fx.Node, Any]) -> str:
    name = _name(node)

    def text(value: Any) -> str:
        found = known.get(value) if isinstance(value, fx.Node) else value
        if isinstance(found, str):
            return found if found in ("a", "b") or _is_call(found) else f"({found})"
        if isinstance(found, int | float) and isfinite(found):
            return repr(found) if found >= 0 else f"({found!r})"
        raise UnsupportedError(f"it holds {found if found is not None else value}")

    if node.op != "call_function":
        raise UnsupportedError(f"it holds the tensor {node.target}")
    special = (*_SAME, "clamp", "clamp_max", "clamp_min", "gelu")
    if name not in special and (name not in _FORMS or node.kwargs):
        raise UnsupportedError(f"it uses {node.target}")
    first = text(node.args[0])
    match name:
        case "clamp":
            return _clamped(first, _value(node, "min", 1, None), _value(node, "max", 2, None))
        case "clamp_max":
            return _clamped(first, None, node.args[1])
        case "clamp_min":
            return _clamped(first, node.args[1], None)
        case "gelu":
            tanh = _value(node, "approximate", 1, "none") == "tanh"
            return f"gelu_tanh({first})" if tanh else f"gelu({first})"
        case "pow" if node.args[1] == 2:
            return f"square({first})"
        case _ if name in _SAME:
            return first
        case _:
            pass
    arguments = [text(argument) for argument in node.args]
    if len(arguments) != 1 + ("{1}" in _FORMS[name]):
        raise UnsupportedError(f"it uses {node.target} with {len(arguments)} arguments")
    return _FORMS[name].format(*arguments)


def _clamped(value: str, low: Any, high: Any) -> str:
    """A bound of infinity is none."""
    if low is not None and isfinite(low):
        value = f"maximum({value}, {low!r})"
    return f"minimum({value}, {high!r})" if high is not None and isfinite(high) else value


def _is_call(text: str) -> bool:
    """Whether an expression is one call, so that it needs no parentheses."""
    return isinstance(expression.parse(text), ast.Call)


def _name(node: fx.Node) -> str:
    """The operator of a node without library and overload: `mul`."""
    return str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)


def _value(node: fx.Node, name: str, at: int, default: Any) -> Any:
    return node.args[at] if at < len(node.args) else node.kwargs.get(name, default)
