"""Recurrences on a state along the sequence: state-space layers and linear attention."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import dims
from ..dims import Dim
from ..errors import VerificationError
from ..graph import Op
from ..kind import Indices, OpKind, Types, parse_equation
from .differentiated import differentiated, forward_of, gradient_as, gradient_indices
from .tensors import aligned

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("query", "key", "value", "decay", "factor", "rate", "beta", "initial")
"""What the operands of a scan may be."""

_TOGETHER = (("query", "key"), ("key", "query"), ("rate", "decay"))
"""Parts that are not given without another."""


@dataclass(frozen=True)
class _Form:
    """A scan's letters: of every part that is given, of the output, of the state that it yields,
    and the letter of the sequence, empty where the scan is one step."""

    letters: Mapping[str, str]
    output: str
    yielded: str
    sequence: str
    delta: bool

    @property
    def state(self) -> str:
        """The letters of the state: those of values, then those of keys that values lack."""
        merged = self.letters["value"] + self.letters.get("key", "")
        return "".join(dict.fromkeys(merged.replace(self.sequence, "")))

    @property
    def contracted(self) -> str:
        """The letters of the state that the output lacks: the width of the keys."""
        return "".join(letter for letter in self.state if letter not in self.output)


def _form(op: Op) -> _Form:
    """Raises VerificationError for parts or letters that do not fit each other."""
    operands, (output, *others) = parse_equation(op.text("indices"))
    parts = op.text("parts").split()
    if not len(set(parts)) == len(parts) == len(operands) or len(others) > 1:
        raise VerificationError(f"parts {op.text('parts')!r} for {op.text('indices')!r}")
    delta = op.attributes.get("delta") is True
    _check_parts(parts, delta)
    given = dict(zip(parts, operands, strict=True))
    form = _Form(given, output, "".join(others), op.text("sequence"), delta)
    _check_letters(form)
    return form


def _check_parts(parts: Collection[str], delta: bool) -> None:
    for part in parts:
        if part not in PARTS:
            raise VerificationError(f"no part {part!r}, only {', '.join(PARTS)}")
    needed = ["value", *(("key", "beta") if delta else ())]
    needed += [other for part, other in _TOGETHER if part in parts]
    for part in needed:
        if part not in parts:
            raise VerificationError(f"a scan without {part}")
    if "decay" in parts and "factor" in parts:
        raise VerificationError("a scan with both decay and factor")


def _check_letters(form: _Form) -> None:
    inside = {*form.state, *form.sequence}
    strange = {*"".join(form.letters.values())} - inside
    if strange:
        raise VerificationError(f"index {min(strange)} is in neither keys nor values")
    read = set(form.letters.get("query", ""))
    kept = inside - {*form.contracted}
    if not {*form.contracted} <= read or {*form.output} != kept:
        raise VerificationError(f"an output {form.output!r} of a state {form.state!r}")
    for letters in (form.yielded, form.letters.get("initial", "")):
        if letters and {*letters} != {*form.state}:
            raise VerificationError(f"a state {letters!r}, not {form.state!r}")


def _indices(op: Op) -> Indices:
    form = _form(op)
    operands, (result, *others) = parse_equation(op.text("indices"))
    whole = form.sequence + (form.contracted if form.delta else "")
    reduced = {letter: "sum" for letter in form.contracted if not form.delta}
    return Indices(operands, result, reduced, whole=frozenset(whole), others=tuple(others))


def _scan(op: Op, operands: Sequence["Tensor"]) -> "tuple[Tensor, ...]":
    """One token after the other, in float32, or in float64 if an operand is of that."""
    import torch

    outputs, state = _recurrence(op, operands)
    values = (outputs, state)[: len(op.types)]
    return tuple(
        value.to(getattr(torch, type_.dtype)) for value, type_ in zip(values, op.types, strict=True)
    )


def _recurrence(op: Op, operands: Sequence["Tensor"]) -> "tuple[Tensor, Tensor]":
    """The output, and the state after the last token."""
    import torch

    form = _form(op)
    double = any(value.dtype == torch.float64 for value in operands)
    dtype = torch.float64 if double else torch.float32
    given = {
        part: aligned(value.to(dtype), letters, form.sequence + form.state)
        for (part, letters), value in zip(form.letters.items(), operands, strict=True)
    }
    if not form.sequence:
        given = {part: value[None] for part, value in given.items()}
    shape = torch.broadcast_shapes(*(value.shape for value in given.values()))
    state = given.pop("initial", torch.zeros(shape, dtype=dtype))[0]
    steps = [value.expand(shape[0], *value.shape[1:]) for value in given.values()]
    over = [form.state.index(letter) for letter in form.contracted]
    scale = op.number("scale") if "scale" in op.attributes else 1
    outputs: list[Tensor] = []
    for values in zip(*steps, strict=True):
        now = dict(zip(given, values, strict=True))
        state = _written(state, now, over, form.delta)
        read = (state * now["query"]).sum(over) if "query" in now else state
        outputs.append(read * scale)
    kept = "".join(letter for letter in form.state if letter in form.output)
    output = torch.stack(outputs) if form.sequence else outputs[0]
    output = aligned(output, form.sequence + kept, form.output)
    return output, aligned(state, form.state, form.yielded or form.state)


def _written(
    state: "Tensor", now: Mapping[str, "Tensor"], over: Sequence[int], delta: bool
) -> "Tensor":
    """The state after one token: decayed, then written to."""
    if "decay" in now:
        state = state * (now["decay"] * now.get("rate", 1)).exp()
    elif "factor" in now:
        state = state * now["factor"]
    value = now["value"]
    if delta:
        value = value - (state * now["key"]).sum(tuple(over), keepdim=True)
    return state + now.get("key", 1) * value * now.get("beta", 1)


def _flops(op: Op, types: Types) -> Dim:
    form = _form(op)
    part = form.letters
    sizes = {
        letter: dim
        for letters, type_ in zip(part.values(), types, strict=True)
        for letter, dim in zip(letters, type_.shape, strict=True)
    }

    def products(*letters: str) -> Dim:
        return dims.product(sizes[x] for x in dict.fromkeys("".join(letters)))

    each = products(form.sequence, form.state)
    chunk = op.attributes.get("chunk")
    if not form.sequence or sizes[form.sequence] == 1 or not isinstance(chunk, int):
        return each * (1 + ("query" in part) + form.delta) * 2
    within = products(part["query"], part["key"]) + products(form.output)
    if form.delta:
        within += products(part["key"], part["beta"]) + products(part["value"], part["beta"])
        within += products(part["key"])
    return (within * chunk + each * (2 + form.delta)) * 2


def _grad_indices(op: Op) -> Indices:
    return gradient_indices(op, _indices(forward_of(op)).whole)


def _grad_flops(op: Op, types: Types) -> Dim:
    return _flops(forward_of(op), types[: len(op.types)]) * 2


KINDS = (
    OpKind(
        name="scan",
        doc="""A state S carried from token to token. `parts` names the operands; each has letters:

            S <- a S                           a = exp(decay rate), or factor, or 1
            S <- S + beta key (value - S key)  if `delta`, else S + beta key value
            output = scale query S             summed over the letters that the output lacks

        The state has the letters of values and keys but for `sequence`, the letter along which it
        goes token by token; without one it is a single step. What is not given is 1, `initial`
        is 0. Letters that a part lacks are broadcast: a decay for every head (Mamba-2,
        arXiv 2405.21060; lightning attention, 2401.04658; with `delta` the gated delta rule,
        2412.06464), for every channel of the keys (Kimi delta attention, 2510.26692), for every
        element of the state as a step times a rate (Mamba, 2312.00752), or for a state of
        values alone (the RG-LRU of Griffin, 2402.19427). The second result, if there is one, is
        the state after the last token.

        FLOPs are those of products: 2 for every element of the state and token for each of
        writing, reading, and with `delta` comparing. A sequence in chunks of `chunk` tokens C
        takes products of matrices instead (Mamba-2, section 6; WY form of the delta rule,
        arXiv 2406.06484): for keys of width n and values of width p and every token 2 C n for
        scores, 2 C p for the weighted values, 2 n p each to write and to read the state, and
        with `delta` 2 C n for keys against keys, 2 C (n + p) to solve for keys and values, and
        2 n p to compare; of these, what heads share counts once. The inverse of the triangular
        system and the passing of states between chunks are left out.""",
        operands=None,
        indices=_indices,
        flops=_flops,
        gradient=gradient_as("scan_grad"),
        reference=_scan,
    ),
    OpKind(
        name="scan_grad",
        doc="""The gradients of a scan for all its operands, which come first, from those of its
        results that are `given` (0 is the output, 1 the state). FLOPs are twice the scan's.""",
        operands=None,
        indices=_grad_indices,
        flops=_grad_flops,
        reference=differentiated(_recurrence),
    ),
)
