"""What attention and the masks of a trace become in the graph.

A mask is no value as long as it says only who sees whom: it goes into the attributes of the
operator that reads it.
"""

from dataclasses import dataclass, replace

from torch import fx

from ...ir.graph import Attribute, TensorType
from .aten import Call, Shown
from .builder import View, letters_for

_EXTRAS = ("mask", "sinks", "indices")

_SAME = frozenset(
    {
        "alias.default",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "expand.default",
        "select.int",
        "slice.Tensor",
        "squeeze.dim",
        "to.device",
        "to.dtype",
        "to.dtype_layout",
        "unsqueeze.default",
    }
)
"""Operators behind which a mask is the same mask if its queries and keys are still all there."""


@dataclass(frozen=True)
class Mask:
    """A mask that says which keys a query sees; its last two dimensions are queries and keys."""

    causal: bool
    window: int | None
    chunk: int | None
    type: TensorType | None = None

    @property
    def attributes(self) -> dict[str, Attribute]:
        """The rule as the graph states it."""
        found: dict[str, Attribute] = {"causal": self.causal}
        if self.window is not None:
            found["window"] = self.window
        if self.chunk is not None:
            found["chunk"] = self.chunk
        return found


def masks_of(nodes: list[fx.Node]) -> dict[fx.Node, Mask]:
    """The nodes of a trace that are masks, and what they say."""
    found: dict[fx.Node, Mask] = {}
    for node in nodes:
        name = str(node.target)
        if name == "wscc.mask.default":
            causal, window, chunk = node.args[4:7]
            found[node] = Mask(bool(causal), _number(window), _number(chunk))
        elif name.partition(".")[2] in _SAME and node.args and node.args[0] in found:
            (before,) = [node.args[0]]
            assert isinstance(before, fx.Node)
            if node.meta["val"].shape[-2:] == before.meta["val"].shape[-2:]:
                found[node] = found[before]
    return found


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def attention(call: Call) -> View:
    """The call of `wscc::attention` as one operator of the graph."""
    scale, causal, window, softcap = call.arguments[6:10]
    rule = Mask(causal, window, None)
    if isinstance(call.arguments[3], Mask):
        rule = call.arguments[3]
        call = replace(call, arguments=[*call.arguments[:3], None, *call.arguments[4:]])
    extras = [name for at, name in enumerate(_EXTRAS, 3) if call.arguments[at] is not None]
    attributes: dict[str, Attribute] = {"scale": scale, **rule.attributes}
    if softcap is not None:
        attributes["softcap"] = softcap
    operands = [call.real(at) for at in range(3)]
    if extras:
        attributes["extras"] = tuple(extras)
    for at, name in enumerate(_EXTRAS, 3):
        if name == "mask" and name in extras:
            mask = call.tensor(at)
            view = call.solid(mask)
            scores = (*call.tensor(0).type.shape[:3], call.tensor(1).type.shape[2])
            attributes["mask"] = call.graph.letters(view, "bhst", scores)
            operands.append(view.name)
        elif name in extras:
            operands.append(call.real(at))
    return call.graph.add("attention", operands, call.type, attributes, "attention")


def is_scored(call: Call) -> bool:
    """Whether a sum is of scores and a mask of them."""
    scores, mask = call.arguments[:2]
    if isinstance(scores, Mask):
        scores, mask = mask, scores
    return isinstance(mask, Mask) and isinstance(scores, Shown) and scores.type == call.type


def masked(call: Call) -> View:
    """The sum of scores and a mask as the operator that hides scores."""
    scores, rule = call.arguments[:2]
    if isinstance(scores, Mask):
        scores, rule = rule, scores
    return _hidden(call, scores, rule)


def made_real(call: Call) -> Call:
    """A call with its masks as tensors, for an operator that does something else with them."""

    def real(argument: object) -> object:
        if isinstance(argument, list):
            return [real(item) for item in argument]
        return _tensor(call, argument) if isinstance(argument, Mask) else argument

    named = {name: real(value) for name, value in call.named.items()}
    return replace(call, arguments=[real(value) for value in call.arguments], named=named)


def _tensor(call: Call, mask: Mask) -> Shown:
    """A mask as zeros and minus infinities."""
    assert mask.type is not None
    rank = len(mask.type.shape)
    type_ = TensorType(mask.type.dtype, mask.type.shape[-2:])
    zeros = call.graph.whole(call.graph.real(call.constant(0, type_), type_.shape))
    view = _hidden(replace(call, type=type_), Shown(zeros, type_), mask)
    return Shown(View(view.name, (*(None,) * (rank - 2), *view.axes)), mask.type)


def _hidden(call: Call, scores: Shown, rule: Mask) -> View:
    letters = letters_for(len(scores.type.shape))
    view = call.solid(scores)
    own = call.graph.letters(view, letters, scores.type.shape)
    attributes = {"indices": f"{own}->{letters}", "query": letters[-2], "key": letters[-1]}
    return call.graph.add(
        "mask", [view.name], scores.type, {**attributes, **rule.attributes}, "masked"
    )
