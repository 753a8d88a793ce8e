"""What gradients share: an expression of several values, summed into the letters of an operand."""

from collections.abc import Sequence

from ..graph import Attribute, TensorType
from ..kind import Tape


def is_floating(type_: TensorType) -> bool:
    """Whether values of this type can have a gradient."""
    return "float" in type_.dtype


def flow(
    tape: Tape,
    operands: Sequence[tuple[str, str]],
    expr: str,
    letters: str,
    type_: TensorType,
) -> str:
    """The name of `expr` over `operands` (each a name and its letters) as a value of `letters`.

    Letters that only the operands have are summed over, letters that they lack are broadcast. One
    operator, two where both happen, none where the value is an operand itself.
    """
    first, own = operands[0]
    inside = dict.fromkeys(letter for _, given in operands for letter in given)
    names = [name for name, _ in operands]
    indices = ",".join(given for _, given in operands)
    if expr == "a" and tape.type_of(first).dtype == type_.dtype:
        if own == letters:
            return first
        if sorted(own) == sorted(letters):
            order = tuple(own.index(letter) for letter in letters)
            return tape.add("transpose", [first], type_, {"order": order})
    kept = "".join(letter for letter in letters if letter in inside)
    if all(letter in letters for letter in inside):
        attributes: dict[str, Attribute] = {"indices": f"{indices}->{letters}", "expr": expr}
        return tape.add("elementwise", names, type_, attributes)
    sizes = dict(zip(letters, type_.shape, strict=True))
    total = tape.add(
        "reduce",
        names,
        TensorType(type_.dtype, tuple(sizes[letter] for letter in kept)),
        {"indices": f"{indices}->{kept}", "function": "sum", "expr": expr},
    )
    return flow(tape, [(total, kept)], "a", letters, type_)
