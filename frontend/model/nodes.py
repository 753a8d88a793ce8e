"""What the nodes of a trace are: their operators, the modules they came from, and the marks."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import fx

from .aten import RULES, Call
from .mutation import Joined
from .trace import module_path

WRAPPER = "model."
"""What the names of modules and parameters in a trace begin with."""

_MARKS = frozenset(
    {"layer_input.default", "layer_output.default", "run_input.default", "run_output.default"}
)

_OWN = _MARKS | {"attention.default", "constant.default", "left_out.default"}
"""Operators that are lowered here."""

SAME_NUMBER = frozenset(
    {
        "alias.default",
        "clone.default",
        "detach.default",
        "detach_.default",
        "lift_fresh_copy.default",
        "to.device",
        "to.dtype",
        "to.dtype_layout",
    }
)
"""Operators behind which a constant is the same number."""


def operator_of(node: fx.Node) -> str:
    """The name of a node's operator without its library: `mul.Tensor`."""
    return str(node.target).partition(".")[2]


def holds_tensors(node: fx.Node) -> bool:
    """Whether a node yields a tensor, or several values of which one is."""
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        return any(isinstance(item, torch.Tensor) for item in value)
    return isinstance(value, torch.Tensor)


def is_known(node: fx.Node) -> bool:
    """Whether there is a rule for a node's operator."""
    name = operator_of(node)
    return node.target is operator.getitem or pure(name) in RULES or name in _OWN


def passes_on(node: fx.Node) -> bool:
    """Whether a node is the very tensor that it is given, as `x.to(device)` mostly is.

    The trace calls that tensor by the node from then on, in whatever module.
    """
    if operator_of(node) not in SAME_NUMBER:
        return False
    given, made = node.all_input_nodes[0].meta.get("val"), node.meta["val"]
    return isinstance(given, torch.Tensor) and given.dtype == made.dtype


def one_place(call: Call) -> Call | None:
    """The slice that `x[..., [-2], :]` is: an index of one constant number."""
    x, indices = call.arguments[:2]
    given = [at for at, index in enumerate(indices) if index is not None]
    if len(given) != 1 or not isinstance(index := indices[given[0]], int):
        return None
    (at,) = given
    size = x.type.shape[at]
    if len(x.type.shape) != len(call.type.shape) or not isinstance(size, int):
        return None
    start = index % size
    return replace(call, arguments=[x, at, start, start + 1], named={})


def pure(name: str) -> str:
    """The operator that yields what one in place (`div_.Tensor`) leaves: `div.Tensor`."""
    stem, _, overload = name.partition(".")
    pure = f"{stem.removesuffix('_')}.{overload}"
    return pure if name not in RULES and not stem.startswith("__") else name


def is_mark(node: fx.Node) -> bool:
    """Whether a node marks what a layer takes or gives."""
    return str(node.target).startswith("wscc.") and operator_of(node) in _MARKS


@dataclass(frozen=True)
class Mark:
    """The value that is marked, the number of its stack, the layer, and the slot."""

    value: fx.Node
    stack: int
    layer: int
    slot: int


def mark_of(node: fx.Node) -> Mark:
    """What a node marks."""
    given, *numbers = node.args
    assert isinstance(given, fx.Node)
    stack, layer, slot = (number for number in numbers if isinstance(number, int))
    return Mark(given, stack, layer, slot)


def slot_dtypes(nodes: list[fx.Node], stack: int) -> dict[int, str]:
    """The widest dtype of every slot of a stack, to which all others can be cast without a loss."""
    found: dict[int, torch.dtype] = {}
    for node in nodes:
        if is_mark(node) and (mark := mark_of(node)).stack == stack:
            dtype: torch.dtype = node.meta["val"].dtype
            found[mark.slot] = torch.promote_types(found.get(mark.slot, dtype), dtype)
    return {slot: str(dtype).removeprefix("torch.") for slot, dtype in found.items()}


def module_of(node: fx.Node) -> str:
    """The path of the innermost module that a node came from, with the wrapper's name."""
    path = module_path(node)
    return path if path.startswith(WRAPPER.rstrip(".")) else ""


def needed_for_results(
    nodes: list[fx.Node], given: set[fx.Node], joined: Mapping[fx.Node, Joined]
) -> set[fx.Node]:
    """The nodes that the results depend on, those that are `given` and before aside."""
    needed: set[fx.Node] = set()
    lasts = {made.last: empty for empty, made in joined.items()}
    for node in reversed(nodes):
        if node in lasts and lasts[node] in needed:
            needed.update(joined[lasts[node]].parts)
        elif node.op == "output" or is_mark(node):
            needed.update((node, *node.all_input_nodes))
        elif node in needed and node not in given and node not in joined:
            needed.update(node.all_input_nodes)
    return needed - given
