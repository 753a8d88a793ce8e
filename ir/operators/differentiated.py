"""Kinds that are the gradient of another, with all its operands and several results.

Such an operator takes what the forward operator takes, then the gradients of those of its results
that `given` numbers, and yields a gradient for each operand. `results` are the letters of the
forward operator's results. Its reference is automatic differentiation of the forward reference.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..graph import Op
from ..kind import Gradient, Indices, Tape, parse_equation
from .tensors import aligned

if TYPE_CHECKING:
    from torch import Tensor


def gradient_as(kind: str) -> Gradient:
    """The gradient that adds one operator of a kind; it has the attributes of the forward one."""

    def gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> Sequence[str | None]:
        given = [at for at, value in enumerate(gradients) if value]
        if not given:
            return [None] * len(op.operands)
        operands, results = parse_equation(op.text("indices"))
        taken = [*operands, *(results[at] for at in given)]
        attributes = {
            **op.attributes,
            "indices": f"{','.join(taken)}->{','.join(operands)}",
            "results": ",".join(results),
            "given": tuple(given),
        }
        return tape.add_several(
            kind,
            [*op.operands, *(value for value in gradients if value)],
            [tape.type_of(name) for name in op.operands],
            attributes,
        )

    return gradient


def forward_of(op: Op) -> Op:
    """The operator that `op` is the gradient of, without its results' names and types."""
    operands, gradients = parse_equation(op.text("indices"))
    taken = operands[: len(gradients)]
    indices = f"{','.join(taken)}->{op.text('results')}"
    return Op("forward", op.operands[: len(taken)], (), (), {**op.attributes, "indices": indices})


def gradient_indices(op: Op, whole: frozenset[str]) -> Indices:
    """A gradient that lacks a letter is the sum over it."""
    operands, gradients = parse_equation(op.text("indices"))
    everywhere = set(gradients[0]).intersection(*gradients)
    summed = {letter for letters in operands for letter in letters} - everywhere - whole
    reduced = dict.fromkeys(sorted(summed), "sum")
    return Indices(operands, gradients[0], reduced, whole=whole, others=gradients[1:])


def differentiated(
    forward: "Callable[[Op, Sequence[Tensor]], Sequence[Tensor]]",
) -> "Callable[[Op, Sequence[Tensor]], tuple[Tensor, ...]]":
    """The reference of a gradient kind from that of the forward kind."""

    def reference(op: Op, operands: "Sequence[Tensor]") -> "tuple[Tensor, ...]":
        import torch

        made = forward_of(op)
        count = len(made.operands)
        with torch.enable_grad():
            inputs = [value.detach().requires_grad_() for value in operands[:count]]
            results = forward(made, inputs)
        outputs = [results[at] for at in op.integers("given")]
        letters, wanted = parse_equation(op.text("indices"))
        made_letters = op.text("results").split(",")
        gradients = [
            aligned(gradient, own, made_letters[at]).to(results[at].dtype)
            for gradient, own, at in zip(
                operands[count:], letters[count:], op.integers("given"), strict=True
            )
        ]
        found = torch.autograd.grad(
            outputs, inputs, gradients, allow_unused=True, materialize_grads=True
        )
        rows = zip(found, letters[:count], wanted, strict=True)
        return tuple(aligned(value, own, target) for value, own, target in rows)

    return reference
