"""Values kept in few bits, with scales: to them and back.

A product that runs in low precision takes dequantized operands and says in its attribute `compute`
what it really multiplies: the stored values, the scales being applied to sums. That is the same
number, so the reference needs no more. Elements smaller than a byte, and those of the types in
`TABLES`, are held one a byte when a graph is run: integers by value, the others by their code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ..dims import ceil_div, product
from ..errors import VerificationError
from ..graph import Attribute, Op
from ..kind import Indices, OpKind, Types, letter_sizes, parse_equation
from .tensors import aligned, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_FP4 = (0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12)

TABLES: Mapping[str, tuple[float, ...]] = {
    "float4_e2m1": (*_E2M1, *(-value for value in _E2M1)),
    "fp4": (*_FP4, *(-value for value in _FP4)),
    "nf4": (
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
}
"""What the codes of a type stand for: E2M1 of the OCP Microscaling specification, version 1.0, and
the four-bit float and normal float of bitsandbytes (Dettmers et al., arXiv 2305.14314)."""

HELD: Mapping[str, str] = {
    **dict.fromkeys(TABLES, "uint8"),
    **dict.fromkeys(("uint1", "uint2", "uint3", "uint4"), "uint8"),
    **dict.fromkeys(("int2", "int4"), "int8"),
}
"""The dtypes that torch holds elements in which it cannot compute with."""

LARGEST: Mapping[str, float] = {
    "float8_e4m3fn": 448.0,
    "float8_e5m2": 57344.0,
    "float4_e2m1": 6.0,
    "int8": 127.0,
    "int4": 7.0,
}
"""The largest value of what activations are quantized to; integers are kept symmetric."""


@dataclass(frozen=True)
class Block:
    """A letter that counts blocks of `size` elements of other letters taken together."""

    letter: str
    size: int
    group: str

    def __str__(self) -> str:
        return f"{self.letter} = {self.size} {self.group}"


def blocks_of(op: Op) -> dict[str, Block]:
    """The blocks that an op states, by letter; raises VerificationError."""
    stated = op.attributes.get("blocks", ())
    if not isinstance(stated, tuple):
        raise VerificationError("blocks must be a list")
    found: dict[str, Block] = {}
    for text in stated:
        letter, sign, rest = str(text).partition(" = ")
        size, _, group = rest.partition(" ")
        if not (sign and size.isdigit() and int(size) and group.isalpha() and len(letter) == 1):
            raise VerificationError(f"block {text!r} is not of the form 'F = 128 f'")
        found[letter] = Block(letter, int(size), group)
    return found


def renamed_blocks(op: Op, letters: Mapping[str, str]) -> tuple[str, ...]:
    """The op's blocks where its letters become others, or several, or none."""
    return tuple(
        str(Block(letters[b.letter], b.size, "".join(letters[letter] for letter in b.group)))
        for b in blocks_of(op).values()
        if letters.get(b.letter)
    )


def held_dtype(dtype: str) -> Any:
    """The torch dtype that elements of a stored type are held in."""
    import torch

    return getattr(torch, HELD.get(dtype, dtype))


def decoded(value: "Tensor", dtype: str) -> "Tensor":
    """What stored elements stand for before any scale, in float32."""
    import torch

    if dtype not in TABLES:
        return value.float()
    return torch.tensor(TABLES[dtype])[value.long()]


def encoded(value: "Tensor", dtype: str) -> "Tensor":
    """The stored elements nearest to float32 values, ties to even; beyond the range the largest."""
    import torch

    value = value.clamp(-LARGEST[dtype], LARGEST[dtype])
    if dtype.startswith("int"):
        return value.round().to(held_dtype(dtype))
    if dtype not in TABLES:
        return value.to(held_dtype(dtype))
    positive = torch.tensor(_E2M1)
    middles, size = (positive[1:] + positive[:-1]) / 2, value.abs()
    lower, upper = torch.bucketize(size, middles), torch.bucketize(size, middles, right=True)
    code = torch.where(lower % 2 == 0, lower, upper)
    return (code + 8 * value.signbit()).to(held_dtype(dtype))


def _spread(
    factor: "Tensor", own: str, target: str, blocks: Mapping[str, Block], sizes: Mapping[str, int]
) -> "Tensor":
    """A scale or zero point for every element of `target`: each of a block has that of the
    block."""
    factor, letters = factor.float(), own
    for letter in own:
        block = blocks.get(letter)
        if block is not None:
            at, group = letters.index(letter), [sizes[x] for x in block.group]
            factor = factor.repeat_interleave(block.size, at).narrow(at, 0, prod(group))
            factor = factor.unflatten(at, group)
            letters = letters.replace(letter, block.group)
    return aligned(factor, letters, target)


def dequantize(
    op: Op, operands: Sequence["Tensor"], part: Mapping[str, tuple[range, int]] | None = None
) -> "Tensor":
    """The value times its scales.

    Where only a part of the value is held, `part` says of each of its letters which places these
    are and how many there are in all. Scales are then whole along the letters that count blocks,
    and along others held as the value is.
    """
    (letters, *own), (result,) = parse_equation(op.text("indices"))
    value, blocks = decoded(operands[0], op.text("stored")), blocks_of(op)
    shape = dict(zip(letters, value.shape, strict=True))
    part = part or {letter: (range(held), held) for letter, held in shape.items()}
    factors: list[Tensor] = []
    for factor, spelt in zip(operands[1:], own, strict=True):
        counted = {x for letter in spelt if letter in blocks for x in blocks[letter].group}
        sizes = {x: part[x][1] if x in counted else held for x, held in shape.items()}
        spread = _spread(factor, spelt, letters, blocks, sizes)
        for at, letter in enumerate(letters):
            if letter in counted:
                spread = spread.narrow(at, part[letter][0].start, len(part[letter][0]))
        factors.append(spread)
    if op.attributes.get("zero"):
        value = value - factors.pop()
    for factor in factors:
        value = value * factor
    return aligned(value, letters, result).to(torch_dtype(op))


def _quantize(op: Op, operands: Sequence["Tensor"]) -> "tuple[Tensor, ...]":
    (letters, *given), (result, *scale) = parse_equation(op.text("indices"))
    value, blocks = operands[0].float(), blocks_of(op)
    sizes = dict(zip(letters, value.shape, strict=True))
    for factor, own in zip(operands[1:], given, strict=True):
        value = value / _spread(factor, own, letters, blocks, sizes)
    dtype = op.type.dtype
    if not scale:
        return (aligned(encoded(value, dtype), letters, result),)
    largest = _largest(value.abs(), letters, scale[0], blocks)
    scales = _as_scale(largest / LARGEST[dtype], op.types[1].dtype)
    value = value / _spread(scales, scale[0], letters, blocks, sizes)
    return aligned(encoded(value, dtype), letters, result), scales


def _largest(value: "Tensor", letters: str, scale: str, blocks: Mapping[str, Block]) -> "Tensor":
    """The largest element that each scale holds for."""
    import torch.nn.functional as F  # noqa: N812

    groups = [blocks[letter].group if letter in blocks else letter for letter in scale]
    rest = "".join(letter for letter in letters if letter not in "".join(groups))
    sizes = dict(zip(letters, value.shape, strict=True))
    value = value.permute([letters.index(letter) for letter in (*"".join(groups), *rest)])
    value = value.reshape([prod(sizes[x] for x in group) for group in (*groups, rest)]).amax(-1)
    for at, letter in enumerate(scale):
        if letter in blocks:
            size = blocks[letter].size
            value = value.movedim(at, -1)
            value = F.pad(value, (0, -value.shape[-1] % size)).unflatten(-1, (-1, size)).amax(-1)
            value = value.movedim(-1, at)
    return value


def _as_scale(scale: "Tensor", dtype: str) -> "Tensor":
    """Scales in their own dtype; one for zeros alone is 1, powers of two are rounded up."""
    import torch

    scale = torch.where(scale > 0, scale, 1.0)
    if dtype == "float8_e8m0fnu":
        scale = scale.log2().ceil().exp2()
    elif dtype in LARGEST:
        scale = scale.clamp(max=LARGEST[dtype])
    return scale.to(held_dtype(dtype))


def _dequantize_indices(op: Op) -> Indices:
    operands, (result, *_) = parse_equation(op.text("indices"))
    return Indices(operands, result, whole=frozenset(blocks_of(op)))


def _quantize_indices(op: Op) -> Indices:
    """What a scale is found over may not be cut: it would take a maximum over devices."""
    operands, (result, *scale) = parse_equation(op.text("indices"))
    blocks = blocks_of(op)
    whole = {*blocks, *"".join(block.group for block in blocks.values())}
    if scale:
        whole |= set(operands[0]) - set(scale[0])
    return Indices(operands, result, whole=frozenset(whole), others=tuple(scale))


def _check_blocks(op: Op, types: Types, indices: Indices) -> None:
    """Every letter of a scale must be one of the value, or count blocks of such letters."""
    sizes, blocks = letter_sizes(op, indices, types), blocks_of(op)
    value = indices.operands[0]
    for letters in (*indices.operands[1:], *indices.others):
        for letter in letters:
            block = blocks.get(letter)
            if block is None and letter not in value:
                raise VerificationError(
                    f"index {letter} of a scale is neither the value's nor a block"
                )
            if block is not None:
                if missing := set(block.group) - set(value):
                    raise VerificationError(f"block {block}: the value has no index {min(missing)}")
                whole = product(sizes[x] for x in block.group)
                if sizes[letter] != ceil_div(whole, block.size):
                    raise VerificationError(
                        f"block {block}: index {letter} is {sizes[letter]} for {whole} elements"
                    )


def _check_dequantize(op: Op, types: Types) -> None:
    if op.text("stored") != types[0].dtype:
        raise VerificationError(f"stored says {op.text('stored')}, the operand is {types[0].dtype}")
    if len(types) < 2 + bool(op.attributes.get("zero")):
        raise VerificationError("no scale")
    _check_blocks(op, types, _dequantize_indices(op))


def _check_quantize(op: Op, types: Types) -> None:
    if op.type.dtype not in LARGEST:
        raise VerificationError(f"activations cannot be {op.type.dtype}, only {', '.join(LARGEST)}")
    if len(op.types) + len(types) < 3:
        raise VerificationError("no scale is given and none results")
    _check_blocks(op, types, _quantize_indices(op))


def dequantize_attributes(
    indices: str, stored: str, blocks: Sequence[Block] = (), zero: bool = False
) -> dict[str, Attribute]:
    """The attributes of a `dequantize` op, without those that say nothing."""
    attributes: dict[str, Attribute] = {"indices": indices, "stored": stored}
    if blocks:
        attributes["blocks"] = tuple(str(block) for block in blocks)
    if zero:
        attributes["zero"] = True
    return attributes


KINDS = (
    OpKind(
        name="dequantize",
        doc="""Stored values, times every scale, in the result's dtype. A scale's letter is one of
        the value's, or counts blocks: with `blocks` ["F = 128 f"] the letter F stands for 128
        elements of f, the last block being as long as what is left. With `zero` the last operand
        is subtracted first. `stored` repeats the first operand's dtype. A letter that counts
        blocks may not be cut: a device that holds a part of the value reads the scales by their
        place in the whole.""",
        operands=None,
        indices=_dequantize_indices,
        check=_check_dequantize,
        reference=dequantize,
    ),
    OpKind(
        name="quantize",
        doc="""A value divided by its scale and rounded to the result's dtype. The second result
        is a scale found from the value: the largest element that it holds for over the largest
        number of the dtype. Operands after the value are scales that are known beforehand.""",
        operands=None,
        indices=_quantize_indices,
        check=_check_quantize,
        creates=True,
        reference=_quantize,
    ),
)
