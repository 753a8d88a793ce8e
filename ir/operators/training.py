"""What only training has: the loss, and what an optimizer makes of gradients."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import VerificationError
from ..graph import Op
from ..kind import Indices, OpKind, Tape, Types, stated
from .tensors import aligned, letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor


def _shifted(op: Op, labels: "Tensor", letters: str) -> "Tensor":
    """The labels `shift` places on along `along`; none behind the last."""
    at, shift = letters.index(op.text("along")), op.integer("shift")
    moved = labels.roll(-shift, at)
    moved.narrow(at, max(labels.shape[at] - shift, 0), min(shift, labels.shape[at])).fill_(
        op.integer("ignore")
    )
    return moved


def _logits_and_labels(
    op: Op, logits: tuple["Tensor", str], labels: tuple["Tensor", str]
) -> "tuple[Tensor, Tensor]":
    """Logits (tokens, classes) in float32 or wider, and for each token the label it is to say."""
    import torch

    (values, letters), (ids, own) = logits, labels
    values = aligned(values, letters, own + op.text("classes")).flatten(0, len(own) - 1)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return wide, _shifted(op, ids, own).flatten()


def _cross_entropy(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    import torch

    letters, _ = letters_of(op)
    pairs = zip(operands, letters, strict=True)
    logits, labels = _logits_and_labels(op, *pairs)
    ignore = op.integer("ignore")
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=ignore)
    return loss.to(torch_dtype(op))


def _cross_entropy_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    (given,) = gradients
    if given is None:
        return (None, None)
    (logits, labels), result = letters_of(op)
    attributes = {**op.attributes, "indices": f"{result},{logits},{labels}->{logits}"}
    type_ = tape.type_of(op.operands[0])
    return (tape.add("cross_entropy_grad", [given, *op.operands], type_, attributes), None)


def _cross_entropy_grad(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (_, letters, own), result = letters_of(op)
    given, logits, labels = operands
    wide, flat = _logits_and_labels(op, (logits, letters), (labels, own))
    counted = flat != op.integer("ignore")
    gradient = wide.softmax(-1)
    gradient[counted, flat[counted]] -= 1
    gradient = gradient * counted[:, None] * (given / counted.sum())
    order = own + op.text("classes")
    shape = [logits.shape[letters.index(letter)] for letter in order]
    return aligned(gradient.reshape(shape), order, result).to(torch_dtype(op))


_LOSS = stated(reduced="sum", whole="classes")


def _check_loss(op: Op, types: Types) -> None:
    del types
    shift = op.integer("shift")
    op.integer("ignore")
    if shift < 0:
        raise VerificationError(f"labels cannot be shifted by {shift}")


def _update_indices(op: Op) -> Indices:
    """All operands alike but the last of Adam, the number of the step."""
    operands, result = letters_of(op)
    return Indices(operands, result, others=(result,) * (len(op.results) - 1))


_COUNTS = {"adam": (5, 3), "sgd": (2, 1)}
"""Operands and results of each rule."""

_NUMBERS = {"adam": ("rate", "beta1", "beta2", "epsilon", "decay"), "sgd": ("rate", "decay")}


def _check_update(op: Op, types: Types) -> None:
    rule = op.text("rule")
    if rule not in _COUNTS:
        raise VerificationError(f"no rule {rule!r}, only {', '.join(_COUNTS)}")
    if (len(types), len(op.types)) != _COUNTS[rule]:
        operands, results = _COUNTS[rule]
        raise VerificationError(f"{rule} takes {operands} operands and yields {results}")
    for name in _NUMBERS[rule]:
        op.number(name)


def _update(op: Op, operands: Sequence["Tensor"]) -> "Sequence[Tensor]":
    gradient, weight, *moments = operands
    gradient = gradient.to(weight.dtype)
    rate, decay = op.number("rate"), op.number("decay")
    if op.text("rule") == "sgd":
        return (weight - rate * (gradient + decay * weight),)
    first, second, step = moments
    beta1, beta2 = op.number("beta1"), op.number("beta2")
    first = first * beta1 + gradient * (1 - beta1)
    second = second * beta2 + gradient.square() * (1 - beta2)
    scale = (second / (1 - beta2**step)).sqrt() + op.number("epsilon")
    weight = weight * (1 - rate * decay) - rate * (first / (1 - beta1**step)) / scale
    return weight, first, second


KINDS = (
    OpKind(
        name="cross_entropy",
        doc="""The mean over tokens of minus the logarithm of the softmax over the letter
        `classes` at the token's label. The label of a token is the one `shift` places on along
        the letter `along`; labels equal to `ignore`, and tokens without a label, do not count.
        Computed in float32 or wider.""",
        operands=2,
        indices=_LOSS,
        check=_check_loss,
        reference=_cross_entropy,
        gradient=_cross_entropy_gradient,
    ),
    OpKind(
        name="cross_entropy_grad",
        doc="""The gradient of the logits of `cross_entropy`, from that of the loss, the logits
        and the labels: softmax less one at the label, over the number of tokens that count.""",
        operands=3,
        indices=_LOSS,
        check=_check_loss,
        reference=_cross_entropy_grad,
    ),
    OpKind(
        name="update",
        doc="""What an optimizer makes of a weight. By `rule`: `adam` takes the gradient, the
        weight, its first and second moment and the number of the step, and yields the new weight
        and moments (Kingma and Ba, arXiv 1412.6980, with bias correction and decoupled weight
        `decay`, Loshchilov and Hutter, arXiv 1711.05101); `sgd` takes the gradient and the weight
        and yields the new weight. Computed in the dtype of the weight.""",
        operands=None,
        indices=_update_indices,
        check=_check_update,
        reference=_update,
    ),
)
