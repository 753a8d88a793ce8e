"""Products of matrices."""

from ....ir.dims import Dim
from ....ir.graph import TensorType
from ..builder import View, letters_for
from .call import Call, Rule, Shown, UnsupportedError, number, spare_letter
from .elementwise import expression


def product(call: Call, left: tuple[Shown, str], right: tuple[Shown, str], result: str) -> View:
    """The sum of products over the letters that the result lacks.

    A dimension along which an operand is broadcast is none of the operator's, unless no operand
    has it otherwise.
    """
    (x, own), (y, other) = left, right
    sizes = _sizes(left, right)
    summed = _without(own + other, result)
    rows = [
        call.lettered(x, own, _common(own, summed), sizes),
        call.lettered(y, other, _common(other, summed), sizes),
    ]
    lacking = summed + _without(result, rows[0][1] + rows[1][1])
    rows = [
        call.lettered(x, own, _common(own, lacking), sizes),
        call.lettered(y, other, _without(_common(other, lacking), _without(own, summed)), sizes),
    ]
    indices = f"{rows[0][1]},{rows[1][1]}->{result}"
    return call.add("matmul", [name for name, _ in rows], call.type, indices=indices)


def _sizes(*operands: tuple[Shown, str]) -> dict[str, Dim]:
    """The size of every letter, to which ones are broadcast."""
    found: dict[str, Dim] = {}
    for shown, letters in operands:
        for letter, size in zip(letters, shown.type.shape, strict=True):
            if found.get(letter, 1) == 1:
                found[letter] = size
    return found


def _without(letters: str, others: str) -> str:
    return "".join(letter for letter in letters if letter not in others)


def _common(letters: str, others: str) -> str:
    return "".join(letter for letter in letters if letter in others)


def _linear(call: Call) -> View:
    x, weight = call.tensor(0), call.tensor(1)
    letters = letters_for(len(x.type.shape))
    new = spare_letter(letters, "f")
    made = product(call, (x, letters), (weight, new + letters[-1]), letters[:-1] + new)
    bias = call.get(2, "bias")
    if bias is None:
        return made
    return call.graph.elementwise("a + b", [made, bias.view], call.type, f"{call.name}.biased")


def _matmul(call: Call) -> View:
    """A product of matrices or vectors, the leading dimensions broadcast; a sum of one is none."""
    left, right = call.tensor(0), call.tensor(1)
    a, b = len(left.type.shape), len(right.type.shape)
    if a > 1 and b > 1 and left.type.shape[-1] == 1:
        return expression(call, "a * b", left, right)
    result = letters_for(call.rank)
    rows, columns = (1 if a > 1 else 0), (1 if b > 1 else 0)
    outer = result[: call.rank - rows - columns]
    row, column = result[len(outer) :][:rows], result[len(outer) + rows :]
    inner = spare_letter(result, "k")
    own = outer[len(outer) - max(a - 2, 0) :] + row + inner
    other = outer[len(outer) - max(b - 2, 0) :] + inner + column
    left, right = _without_ones(call, left), _without_ones(call, right)
    return product(call, (left, own), (right, other), result)


def _without_ones(call: Call, x: Shown) -> Shown:
    """A tensor of matrices whose leading dimensions of size one are none of the value's own."""
    shape = x.type.shape
    ones = [at for at in range(len(shape) - 2) if shape[at] == 1 and x.view.axes[at] is not None]
    if not ones:
        return x
    kept = [at for at in range(len(shape)) if at not in ones]
    view = call.graph.reshape(x.view, shape, tuple(shape[at] for at in kept))
    axes = tuple(view.axes[kept.index(at)] if at in kept else None for at in range(len(shape)))
    return Shown(View(view.name, axes), x.type)


def _added(call: Call) -> View:
    """`beta` times the first argument plus `alpha` times the product of the others."""
    beta, alpha = call.named.get("beta", 1), call.named.get("alpha", 1)
    made = _matmul(call.with_arguments(*call.arguments[1:3]))
    if beta == 0:
        return expression(call, f"a * ({number(alpha)})", Shown(made, call.type))
    left = "a" if beta == 1 else f"a * ({number(beta)})"
    right = "b" if alpha == 1 else f"b * ({number(alpha)})"
    return expression(call, f"{left} + {right}", call.tensor(0), Shown(made, call.type))


def _outer(call: Call) -> View:
    x, y = call.tensor(0), call.tensor(1)
    column = Shown(
        View(x.view.name, (*x.view.axes, None)), TensorType(x.type.dtype, (*x.type.shape, 1))
    )
    return expression(call, "a * b", column, y)


def _einsum(call: Call) -> View:
    """Operands are multiplied from left to right; letters that nothing later has are summed."""
    equation, tensors = (
        call.arguments[0],
        [call.as_tensor(x, "an operand") for x in call.arguments[1]],
    )
    operands, result = _equation(equation, [len(x.type.shape) for x in tensors])
    if any(len(set(own)) < len(own) for own in operands):
        raise UnsupportedError(f"a diagonal, {equation}")
    sizes = _sizes(*zip(tensors, operands, strict=True))
    left = tensors[0], operands[0]
    for at in range(1, len(tensors)):
        later = result + "".join(operands[at + 1 :])
        both = dict.fromkeys(left[1] + operands[at])
        kept = result if at == len(tensors) - 1 else "".join(x for x in both if x in later)
        type_ = TensorType(call.type.dtype, tuple(sizes[letter] for letter in kept))
        step = call.with_arguments(type_=type_)
        left = Shown(_multiplied(step, left, (tensors[at], operands[at]), kept), type_), kept
    return left[0].view if len(tensors) > 1 else _alone(call, left, result)


def _multiplied(call: Call, left: tuple[Shown, str], right: tuple[Shown, str], result: str) -> View:
    if set(left[1] + right[1]) - set(result):
        return product(call, left, right, result)
    views = [_placed(shown.view, own, result) for shown, own in (left, right)]
    return call.elementwise("a * b", *views).view


def _placed(view: View, own: str, result: str) -> View:
    """A view with its dimensions where `result` has their letters."""
    axes = dict(zip(own, view.axes, strict=True))
    return View(view.name, tuple(axes.get(letter) for letter in result))


def _alone(call: Call, only: tuple[Shown, str], result: str) -> View:
    x, own = only
    if len(own) == len(result):
        return _placed(x.view, own, result)
    name, letters = call.lettered(x, own, own)
    return call.add(
        "reduce", [name], call.type, indices=f"{letters}->{result}", function="sum", expr="a"
    )


def _equation(text: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of the operands and of the result, an ellipsis spelt out, all small letters."""
    left, arrow, right = text.replace(" ", "").partition("->")
    operands = left.split(",")
    named = [operand.replace("...", "") for operand in operands]
    free = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in text.lower()]
    count = max((rank - len(own) for rank, own in zip(ranks, named, strict=True)), default=0)
    dots = "".join(free[:count])
    if not arrow:
        joined = "".join(named)
        right = "..." * ("..." in left) + "".join(
            sorted(x for x in set(joined) if joined.count(x) == 1)
        )
    small = {
        x: (x.lower() if x.lower() not in text else free[count:][at])
        for at, x in enumerate(sorted({x for x in text if x.isupper()}))
    }
    table = str.maketrans(small)
    spelt = [
        operand.replace("...", dots[len(dots) - (rank - len(own)) :] if rank > len(own) else "")
        for operand, own, rank in zip(operands, named, ranks, strict=True)
    ]
    return [own.translate(table) for own in spelt], right.replace("...", dots).translate(table)


RULES: dict[str, Rule] = {
    "addmm.default": _added,
    "addmv.default": _added,
    "baddbmm.default": _added,
    "bmm.default": _matmul,
    "dot.default": _matmul,
    "einsum.default": _einsum,
    "linear.default": _linear,
    "matmul.default": _matmul,
    "mm.default": _matmul,
    "mv.default": _matmul,
    "outer.default": _outer,
}
