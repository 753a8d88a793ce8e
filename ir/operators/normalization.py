"""Normalizations along one dimension."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Op, TensorType
from ..kind import OpKind, Tape, stated
from .flow import flow
from .tensors import aligned, letters_of, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor


def _norm(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = letters_of(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    x, _ = _normalized(op, values[0], result.index(op.text("over")))
    for at, value in enumerate(values[1:]):
        x = x * value if at == 0 else x + value
    return x.to(torch_dtype(op))


def _normalized(op: Op, x: "Tensor", over: int) -> "tuple[Tensor, Tensor]":
    """x normalized, in float32 or wider, and the factor that it was scaled by."""
    import torch

    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if op.text("function") == "layer":
        x = x - x.mean(over, keepdim=True)
    scale = (x.square().mean(over, keepdim=True) + op.number("epsilon")).rsqrt()
    return x * scale, scale


def _norm_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """`norm_grad` for x; for the weight a sum of products with x normalized once more, which is
    cheaper than to keep it; for the bias a sum."""
    (given,) = gradients
    if given is None:
        return (None,) * len(op.operands)
    (own, *others), result = letters_of(op)
    x, *parameters = op.operands
    attributes = {name: op.attributes[name] for name in ("function", "over", "epsilon")}
    read = ",".join((result, own, *others[:1]))
    found: list[str | None] = [
        tape.add(
            "norm_grad",
            [given, x, *parameters[:1]],
            tape.type_of(x),
            {"indices": f"{read}->{own}", **attributes},
        )
    ]
    if parameters:
        indices = {"indices": f"{own}->{result}"}
        normalized = tape.add("norm", [x], op.type, {**indices, **attributes})
        operands = [(given, result), (normalized, result)]
        found.append(flow(tape, operands, "a * b", others[0], tape.type_of(parameters[0])))
    if len(parameters) > 1:
        found.append(flow(tape, [(given, result)], "a", others[1], tape.type_of(parameters[1])))
    return tuple(found)


def _norm_grad(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    letters, result = letters_of(op)
    values = [aligned(v, own, result) for v, own in zip(operands, letters, strict=True)]
    given, x, *weight = values
    over = result.index(op.text("over"))
    x, scale = _normalized(op, x, over)
    given = given.to(x.dtype) * (weight[0] if weight else 1)
    centered = given - x * (given * x).mean(over, keepdim=True)
    if op.text("function") == "layer":
        centered = centered - given.mean(over, keepdim=True)
    return (centered * scale).to(torch_dtype(op))


def _softmax(op: Op, operands: Sequence["Tensor"]) -> "Tensor":
    (letters,), result = letters_of(op)
    x = aligned(operands[0], letters, result).to(torch_dtype(op))
    over = result.index(op.text("over"))
    return x.log_softmax(over) if op.attributes.get("log") else x.softmax(over)


def _softmax_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    """y (g - sum(y g)) for a softmax y, and g - exp(y) sum(g) for its logarithm."""
    (given,) = gradients
    if given is None:
        return (None,)
    (letters,), result = letters_of(op)
    log, rest = bool(op.attributes.get("log")), result.replace(op.text("over"), "")
    sizes = dict(zip(result, op.type.shape, strict=True))
    total = tape.add(
        "reduce",
        [given] if log else [given, op.result],
        TensorType(op.type.dtype, tuple(sizes[letter] for letter in rest)),
        {
            "indices": f"{result}->{rest}" if log else f"{result},{result}->{rest}",
            "function": "sum",
            "expr": "a" if log else "a * b",
        },
    )
    gradient = tape.add(
        "elementwise",
        [given, op.result, total],
        tape.type_of(op.operands[0]),
        {
            "indices": f"{result},{result},{rest}->{letters}",
            "expr": "a - exp(b) * c" if log else "b * (a - c)",
        },
    )
    return (gradient,)


KINDS = (
    OpKind(
        name="norm",
        doc="""`rms` or `layer` normalization along the letter `over`, times a weight, plus a
        bias, where given. Zhang and Sennrich, NeurIPS 2019; Ba et al., arXiv 1607.06450.""",
        operands=None,
        indices=stated(whole="over"),
        reference=_norm,
        gradient=_norm_gradient,
    ),
    OpKind(
        name="norm_grad",
        doc="""The gradient of the first operand of `norm`, from that of its result, that operand
        and, where given, the weight: for y = w n with n = x / rms(x) it is
        (w g - n mean(w g n)) / rms(x), less the mean for a `layer` norm.""",
        operands=None,
        indices=stated(whole="over"),
        reference=_norm_grad,
    ),
    OpKind(
        name="softmax",
        doc="""Exponentials along the letter `over`, divided by their sum, computed in the
        result's dtype; their logarithm if `log`.""",
        operands=1,
        indices=stated(whole="over"),
        reference=_softmax,
        gradient=_softmax_gradient,
    ),
)
