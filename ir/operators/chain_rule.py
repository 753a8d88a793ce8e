"""Gradients of maps over elements and of their reductions, from the derivative of `expr`."""

from collections.abc import Sequence

from .. import expression
from ..derivative import pull_back
from ..dims import Dim
from ..graph import Op, TensorType
from ..kind import Tape
from .flow import flow, is_floating
from .tensors import letters_of


def elementwise_gradient(
    op: Op, tape: Tape, gradients: Sequence[str | None]
) -> tuple[str | None, ...]:
    """The derivative times the gradient, summed over the letters that an operand lacks."""
    (given,) = gradients
    if given is None:
        return (None,) * len(op.operands)
    return _pulled_back(op, tape, (given, letters_of(op)[1]))


def reduce_gradient(op: Op, tape: Tape, gradients: Sequence[str | None]) -> tuple[str | None, ...]:
    """As of a map, from the gradient of what was reduced: the same for every element of a sum;
    of a maximum only for those that equal it, an equal share each."""
    (given,) = gradients
    if given is None:
        return (None,) * len(op.operands)
    letters, result = letters_of(op)
    if op.text("function") == "max":
        return _pulled_back(op, tape, _shares_of_maximum(op, tape, given))
    every, type_ = _before_reduction(op, tape)
    if all(set(every) <= {*own, *result} for own in letters):
        return _pulled_back(op, tape, (given, result))
    return _pulled_back(op, tape, (flow(tape, [(given, result)], "a", every, type_), every))


def _pulled_back(op: Op, tape: Tape, given: tuple[str, str]) -> tuple[str | None, ...]:
    """What flows to each operand from the gradient of `expr`, a name and its letters."""
    operands = [*zip(op.operands, letters_of(op)[0], strict=True)]
    pulled = pull_back(op.text("expr"))
    found: list[str | None] = []
    for letter, (name, own) in zip(expression.LETTERS, operands, strict=False):
        type_, back = tape.type_of(name), pulled.get(letter)
        if back is None or not is_floating(type_) or not tape.wants(name):
            found.append(None)
        else:
            read = [given, *(operands[at] for at in back.reads)]
            found.append(flow(tape, read, back.expr, own, type_))
    return tuple(found)


def _before_reduction(op: Op, tape: Tape) -> tuple[str, TensorType]:
    """The letters and the type of what an operator reduces."""
    letters, result = letters_of(op)
    sizes: dict[str, Dim] = {}
    for name, own in zip((op.result, *op.operands), (result, *letters), strict=True):
        sizes |= zip(own, tape.type_of(name).shape, strict=True)
    return "".join(sizes), TensorType(op.type.dtype, tuple(sizes.values()))


def _shares_of_maximum(op: Op, tape: Tape, given: str) -> tuple[str, str]:
    """The gradient of the elements of which `op` is the maximum, and their letters."""
    letters, result = letters_of(op)
    every, type_ = _before_reduction(op, tape)
    operands = [(op.result, result), *zip(op.operands, letters, strict=True)]
    one_later = dict(zip(expression.LETTERS, expression.LETTERS[1 : len(operands)], strict=False))
    equal = f"{expression.substitute(op.text('expr'), one_later)} == a"
    count = flow(tape, operands, f"where({equal}, 1, 0)", result, op.type)
    of, by = expression.LETTERS[len(operands) : len(operands) + 2]
    operands += [(given, result), (count, result)]
    return flow(tape, operands, f"where({equal}, {of} / {by}, 0)", every, type_), every
