"""A mixture of experts after its router: every token through the experts that it chose.

The router itself is plain operators. What a device costs that holds some of the experts follows
from its share of them, or of a histogram of the tokens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod
from typing import TYPE_CHECKING

from .. import dims, expression
from ..dims import Dim
from ..errors import VerificationError
from ..graph import Attribute, Op, TensorType
from ..kind import Indices, OpKind, Tape, Types, letter_sizes, parse_equation
from .load import check_load, choices, load_of
from .tensors import letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

BIASES = ("up_bias", "down_bias")
"""Operands that experts may have after the two weights, in this order."""


@dataclass(frozen=True)
class Parts:
    """Which letters of a mixture of experts play which part; `pair` is "" without a gate."""

    tokens: str
    chosen: str
    width: str
    expert: str
    pair: str
    inner: str
    out: str

    @property
    def up(self) -> tuple[str, str, str, str]:
        """The dimensions of the first weight, in the order that the reference works in."""
        return self.expert, self.pair, self.inner, self.width

    @property
    def hidden(self) -> tuple[str, str, str, str]:
        """The dimensions of what stands before the activation."""
        return self.tokens, self.chosen, self.pair, self.inner

    @property
    def down(self) -> tuple[str, str, str]:
        """The dimensions of the second weight, in the order that the reference works in."""
        return self.expert, self.inner, self.out


def parts_of(op: Op) -> Parts:
    """The parts that letters play, read off who shares them; raises VerificationError."""
    (x, index, _, up, down, *_), result = _forward_letters(op)
    expert, pair = op.text("expert"), op.text("pair")
    tokens = "".join(letter for letter in result if letter in x)
    parts = Parts(
        tokens=tokens,
        chosen="".join(letter for letter in index if letter not in tokens),
        width="".join(letter for letter in x if letter not in tokens),
        expert=expert,
        pair=pair,
        inner="".join(letter for letter in down if letter in up and letter not in expert),
        out="".join(letter for letter in result if letter not in tokens),
    )
    if sorted(up) != sorted("".join(parts.up)) or sorted(down) != sorted("".join(parts.down)):
        raise VerificationError(f"weights {up!r} and {down!r} are not those of experts {expert!r}")
    return parts


def _forward_letters(op: Op) -> tuple[tuple[str, ...], str]:
    """The letters of the tokens, the choice, the weights and the result, of either kind."""
    letters, result = letters_of(op)
    if op.kind == "experts":
        return letters, result
    return letters[1 + bool(op.attributes.get("hidden")) :], letters[0]


def extras_of(op: Op) -> tuple[str, ...]:
    """The names of the operands after the weights; raises VerificationError for unknown ones."""
    stated = op.attributes.get("extras", ())
    if not isinstance(stated, tuple) or list(stated) != [x for x in BIASES if x in stated]:
        raise VerificationError(f"extras must be some of {', '.join(BIASES)} in this order")
    return tuple(str(name) for name in stated)


def experts(op: Op, operands: Sequence["Tensor"], first: int = 0) -> "tuple[Tensor, ...]":
    """The experts' result and, if the op yields it, what stands before their activation.

    `first` is the number of the first expert that the weights hold; a choice of one that they do
    not hold adds nothing, so that parts of the experts give parts of the sum.
    """
    import torch

    parts, made = parts_of(op), _Held.of(op, operands, first)
    out = torch.zeros(
        (made.x.shape[0], made.down.shape[-1]),
        dtype=torch.promote_types(made.x.dtype, made.weight.dtype),
    )
    hidden = made.x.new_zeros((*made.index.shape, *made.up.shape[1:3]))
    for expert, token, choice in made.chosen():
        before = made.before(expert, made.x[token])
        hidden[token, choice] = before
        after = _activated(op, before) @ made.down[expert] + made.down_bias[expert]
        out.index_add_(0, token, (after * made.weight[token, choice, None]).to(out.dtype))
    results = (out.to(torch_dtype(op)), hidden)
    return _results(op, results, ((parts.tokens, parts.out), parts.hidden), operands)


@dataclass(frozen=True)
class _Held:
    """Operands as the reference works on them: x (tokens, width), index and weight (tokens,
    chosen), up (experts, 2 or 1, inner, width), down (experts, inner, out), biases likewise.

    `part` of the inner width is held: so much of the second bias is added.
    """

    x: "Tensor"
    index: "Tensor"
    weight: "Tensor"
    up: "Tensor"
    down: "Tensor"
    up_bias: "Tensor"
    down_bias: "Tensor"
    part: float

    @staticmethod
    def of(op: Op, operands: Sequence["Tensor"], first: int) -> "_Held":
        parts, letters = parts_of(op), _forward_letters(op)[0]
        routed = (parts.tokens, parts.chosen)
        layouts = [(parts.tokens, parts.width), routed, routed, parts.up, parts.down]
        x, index, weight, up, down = (
            _gathered(value, own, groups)
            for value, own, groups in zip(operands, letters, layouts, strict=False)
        )
        biases = dict(zip(extras_of(op), zip(operands[5:], letters[5:], strict=True), strict=True))
        up_bias = up.new_zeros(up.shape[:3])
        if "up_bias" in biases:
            up_bias = _gathered(*biases["up_bias"], parts.up[:3])
        down_bias = down.new_zeros((down.shape[0], down.shape[2]))
        part = down.shape[1] / op.integer("inner")
        if "down_bias" in biases:
            down_bias = _gathered(*biases["down_bias"], (parts.expert, parts.out)) * part
        return _Held(x, index - first, weight, up, down, up_bias, down_bias, part)

    def chosen(self) -> "Iterator[tuple[int, Tensor, Tensor]]":
        """Every expert that is held and chosen, with the tokens and their choices of it."""
        for expert in range(self.up.shape[0]):
            token, choice = (self.index == expert).nonzero(as_tuple=True)
            if len(token):
                yield expert, token, choice

    def before(self, expert: int, x: "Tensor") -> "Tensor":
        """What an expert has before its activation: (tokens, 2 or 1, inner)."""
        import torch

        return torch.einsum("th,cfh->tcf", x, self.up[expert]) + self.up_bias[expert]


def _activated(op: Op, before: "Tensor") -> "Tensor":
    return expression.evaluate(op.text("expr"), before.unbind(1))


def _gathered(value: "Tensor", letters: str, groups: Sequence[str]) -> "Tensor":
    """`value` with a dimension for each group of letters; one of one element for no letter."""
    sizes = dict(zip(letters, value.shape, strict=True))
    value = value.permute([letters.index(letter) for letter in "".join(groups)])
    return value.reshape([prod(sizes[letter] for letter in group) for group in groups])


def _spread(
    value: "Tensor", groups: Sequence[str], letters: str, sizes: Mapping[str, int]
) -> "Tensor":
    """The opposite of `_gathered`: the dimensions of `letters` in their order."""
    inside = "".join(groups)
    value = value.reshape([sizes[letter] for letter in inside])
    return value.permute([inside.index(letter) for letter in letters])


def _results(
    op: Op,
    values: Iterable["Tensor"],
    layouts: Iterable[Sequence[str]],
    operands: Sequence["Tensor"],
) -> "tuple[Tensor, ...]":
    """The values that the op yields, each in the letters that it states for it."""
    indices = _indices(op)
    sizes = {
        letter: size
        for own, value in zip(indices.operands, operands, strict=True)
        for letter, size in zip(own, value.shape, strict=True)
    }
    return tuple(
        _spread(value, groups, own, sizes)
        for value, groups, own in zip(
            values, layouts, (indices.result, *indices.others), strict=False
        )
    )


def _indices(op: Op) -> Indices:
    operands, (result, *others) = parse_equation(op.text("indices"))
    parts = parts_of(op)
    summed = (*parts.expert, *parts.inner)
    if op.kind == "experts_grad":
        summed = (*parts.tokens, *parts.expert, *parts.inner, *parts.out)
    return Indices(
        operands,
        result,
        dict.fromkeys(summed, "sum"),
        whole=frozenset(parts.width + parts.chosen + parts.pair),
        others=tuple(others),
    )


def _check(op: Op, types: Types) -> None:
    parts, wanted = parts_of(op), 5 + len(extras_of(op))
    if len(_forward_letters(op)[0]) != wanted:
        raise VerificationError(f"{len(_forward_letters(op)[0])} operands of experts, not {wanted}")
    text = op.text("expr")
    letters = expression.operands_of(text)
    pair = _letter_size(op, types, parts.pair)
    if not set(letters) <= set(expression.LETTERS[:pair]):
        raise VerificationError(f"expression {text!r} reads more than {pair} values")
    check_load(op)


def _letter_size(op: Op, types: Types, letters: str) -> int:
    sizes = letter_sizes(op, _indices(op), types)
    return prod(dims.size(sizes[letter]) for letter in letters)


def share(op: Op, held: int, chosen: int) -> Fraction:
    """The part of all choices that falls on the first `held` experts: 1 on all of them, less
    where some of the `total` have no weights."""
    load = load_of(op)
    if load is None:
        return Fraction(held, op.integer("total"))
    return sum(choices(load, chosen)[:held], Fraction(0))


def _products(op: Op, types: Types) -> tuple[Dim, Dim]:
    """FLOPs of the products with the first and the second weight, by the share of the experts that
    are held."""
    parts, sizes = parts_of(op), letter_sizes(op, _indices(op), types)
    held, chosen = (
        prod(dims.size(sizes[letter]) for letter in letters)
        for letters in (parts.expert, parts.chosen)
    )

    def flops(letters: str) -> Dim:
        all_choices = dims.product(sizes[x] for x in parts.tokens + parts.chosen + letters) * 2
        return fraction_of(all_choices, share(op, held, chosen))

    return flops(parts.pair + parts.inner + parts.width), flops(parts.inner + parts.out)


def fraction_of(dim: Dim, part: Fraction) -> Dim:
    """`dim` times `part`, every coefficient rounded up."""
    if isinstance(dim, int):
        return ceil(dim * part)
    scaled = [
        dims.product(dims.symbol(name) for name in monomial) * ceil(factor * part)
        for monomial, factor in dim.terms
    ]
    return sum(scaled, start=0)


def _flops(op: Op, types: Types) -> Dim:
    up, down = _products(op, types)
    return up + down


def _grad_flops(op: Op, types: Types) -> Dim:
    """Each product becomes two; without the hidden layer its product is done once more."""
    up, down = _products(op, types)
    return (up + down) * 2 + (0 if op.attributes.get("hidden") else up)


def saving(op: Op, types: Types) -> Op:
    """The op with its hidden layer as a second result, which the backward pass then reads.

    Its name is that of the result and `.hidden`; `types` are those of the operands.
    """
    parts, sizes = parts_of(op), letter_sizes(op, _indices(op), types)
    letters = "".join(parts.hidden)
    hidden = TensorType(types[0].dtype, tuple(sizes[letter] for letter in letters))
    return Op(
        op.kind,
        op.operands,
        (op.result, f"{op.result}.hidden"),
        (op.type, hidden),
        {**op.attributes, "indices": f"{op.text('indices')},{letters}"},
        op.path,
    )


def _gradient(op: Op, tape: Tape, given: Sequence[str | None]) -> Sequence[str | None]:
    """One operator with the gradients of all operands but the choice."""
    if given[0] is None:
        return [None] * len(op.operands)
    letters, result = letters_of(op)
    wanted = [at for at in range(len(op.operands)) if at != 1]
    kept, spelt = op.results[1:], _indices(op).others
    attributes: dict[str, Attribute] = {
        **op.attributes,
        "indices": f"{','.join((result, *spelt, *letters))}->"
        + ",".join(letters[at] for at in wanted),
        "hidden": bool(kept),
    }
    types = [tape.type_of(op.operands[at]) for at in wanted]
    operands = [given[0], *kept, *op.operands]
    made = tape.add_several("experts_grad", operands, types, attributes)
    found: list[str | None] = [None] * len(op.operands)
    for at, name in zip(wanted, made, strict=True):
        found[at] = name
    return found


def _experts_grad(op: Op, operands: Sequence["Tensor"]) -> "tuple[Tensor, ...]":
    import torch

    parts, letters = parts_of(op), letters_of(op)[0]
    kept = bool(op.attributes.get("hidden"))
    given = _gathered(operands[0], letters[0], (parts.tokens, parts.out))
    held = _Held.of(op, operands[1 + kept :], 0)
    grads = {
        name: torch.zeros_like(getattr(held, name))
        for name in ("x", "weight", "up", "down", *extras_of(op))
    }
    for expert, token, choice in held.chosen():
        x, scale, dy = held.x[token], held.weight[token, choice, None], given[token]
        if kept:
            before = _gathered(operands[1], letters[1], parts.hidden)[token, choice]
        else:
            before = held.before(expert, x)
        with torch.enable_grad():
            before = before.detach().requires_grad_()
            after = _activated(op, before)
            back = dy @ held.down[expert].T
            (inward,) = torch.autograd.grad(after, before, back * scale)
        after = after.detach()
        gain = (back * after).sum(-1) + dy @ held.down_bias[expert]
        grads["weight"][token, choice] = gain.to(held.weight.dtype)
        grads["x"].index_add_(0, token, torch.einsum("tcf,cfh->th", inward, held.up[expert]))
        grads["up"][expert] = torch.einsum("tcf,th->cfh", inward, x)
        grads["down"][expert] = after.T @ (dy * scale)
        if "up_bias" in grads:
            grads["up_bias"][expert] = inward.sum(0)
        if "down_bias" in grads:
            grads["down_bias"][expert] = (dy * scale).sum(0) * held.part
    layouts = {
        "x": (parts.tokens, parts.width),
        "weight": (parts.tokens, parts.chosen),
        "up": parts.up,
        "down": parts.down,
        "up_bias": parts.up[:3],
        "down_bias": (parts.expert, parts.out),
    }
    return _results(op, grads.values(), (layouts[name] for name in grads), operands)


KINDS = (
    OpKind(
        name="experts",
        doc="""Every token through the experts that it chose: the sum over its choices of weight
        times down(expr(up(x))). Operands are x, the choice (`index`) and its weights, up and
        down, then the biases that `extras` names. The letter `expert` counts the experts that
        are held, of `total`; `pair` (size 2, or "" without a gate) holds gate and value, which
        `expr` calls a and b; one expert is `inner` wide. `load` is the relative number of tokens
        of each of the `total` experts, for the cost of a device that holds some; None is
        balanced. A second result, if there is one, is what stands before the activation, for
        the backward pass. Shazeer et al., arXiv 1701.06538.""",
        operands=None,
        indices=_indices,
        check=_check,
        flops=_flops,
        reference=experts,
        gradient=_gradient,
        saving=saving,
    ),
    OpKind(
        name="experts_grad",
        doc="""The gradients of `experts` for x, weights, up, down and the biases, from that of
        its result. The second operand is the hidden layer if `hidden`, else it is computed once
        more; then come the operands of `experts`.""",
        operands=None,
        indices=_indices,
        check=_check,
        flops=_grad_flops,
        reference=_experts_grad,
    ),
)
