"""What the references share: tensors aligned by their letters, and torch's names for dtypes."""

from typing import TYPE_CHECKING, Any

from ..graph import Op
from ..kind import parse_indices

if TYPE_CHECKING:
    from torch import Tensor


def letters_of(op: Op) -> tuple[tuple[str, ...], str]:
    """The letters of the operands and of the first result, as the op states them."""
    operands, result = parse_indices(op.text("indices"))
    return operands or ("",) * len(op.operands), result


def torch_dtype(op: Op) -> Any:
    """The dtype of the first result."""
    import torch

    return getattr(torch, op.type.dtype)


def aligned(value: "Tensor", letters: str, target: str) -> "Tensor":
    """`value` permuted and unsqueezed to the letters of `target`; a letter that `target` lacks
    must have size one."""
    for at in reversed(range(len(letters))):
        if letters[at] not in target:
            value = value.squeeze(at)
            letters = letters[:at] + letters[at + 1 :]
    value = value.permute([letters.index(letter) for letter in target if letter in letters])
    for at, letter in enumerate(target):
        if letter not in letters:
            value = value.unsqueeze(at)
    return value
