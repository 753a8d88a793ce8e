"""Scans and causal convolutions as operators in a trace: they have shapes and no kernels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_OPERATORS = torch.library.Library("wscc", "FRAGMENT")
_SCAN = (
    "(Tensor[] operands, str parts, str indices, str sequence, bool delta, float? scale,"
    " int? chunk, ScalarType dtype) -> "
)
_OPERATORS.define(f"scan{_SCAN} Tensor")
_OPERATORS.define(f"scan_kept{_SCAN} (Tensor, Tensor)")
_OPERATORS.define("convolve(Tensor x, Tensor weight) -> Tensor")
_OPERATORS.define(
    "convolve_kept(Tensor x, Tensor weight, Tensor? initial, int window) -> (Tensor, Tensor)"
)


@torch.library.register_fake("wscc::scan_kept", lib=_OPERATORS)
def _scan_shapes(
    operands: Sequence[Tensor], parts: str, indices: str, *rest: Any
) -> tuple[Tensor, Tensor]:
    """The output in `dtype`, the state in float32."""
    output, state = _shapes(operands, indices)
    like = operands[0]
    return like.new_empty(output, dtype=rest[-1]), like.new_empty(state, dtype=torch.float32)


@torch.library.register_fake("wscc::scan", lib=_OPERATORS)
def _scan_shape(operands: Sequence[Tensor], parts: str, indices: str, *rest: Any) -> Tensor:
    (output,) = _shapes(operands, indices)
    return operands[0].new_empty(output, dtype=rest[-1])


def _shapes(operands: Sequence[Tensor], indices: str) -> list[list[int]]:
    left, _, right = indices.partition("->")
    sizes = {
        letter: size
        for letters, operand in zip(left.split(","), operands, strict=True)
        for letter, size in zip(letters, operand.shape, strict=True)
    }
    return [[sizes[letter] for letter in letters] for letters in right.split(",")]


@torch.library.register_fake("wscc::convolve_kept", lib=_OPERATORS)
def _convolve_shapes(
    x: Tensor, weight: Tensor, initial: Tensor | None, window: int
) -> tuple[Tensor, Tensor]:
    """(batch, channels, sequence), and (batch, channels, window)."""
    del weight, initial
    return torch.empty_like(x), x.new_empty((*x.shape[:-1], window))


@torch.library.register_fake("wscc::convolve", lib=_OPERATORS)
def _convolve_shape(x: Tensor, weight: Tensor) -> Tensor:
    del weight
    return torch.empty_like(x)


def scan(
    operands: Mapping[str, tuple[str, Tensor | None]],
    output: str,
    state: str,
    dtype: torch.dtype,
    *,
    kept: bool,
    delta: bool = False,
    scale: float | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """A scan (ir/operators/scan.py) of tensors by part, each with its letters.

    Absent tensors are left out; `s` is the letter of the sequence, if the output has it. Yields
    the output in `dtype` and, if it is to be `kept`, the state after the last token in float32.
    """
    given = {part: pair for part, pair in operands.items() if pair[1] is not None}
    letters = ",".join(own for own, _ in given.values())
    results = f"{output},{state}" if kept else output
    operator = torch.ops.wscc.scan_kept if kept else torch.ops.wscc.scan
    made = operator(
        [tensor for _, tensor in given.values()],
        " ".join(given),
        f"{letters}->{results}",
        "s" if "s" in output else "",
        delta,
        scale,
        chunk,
        dtype,
    )
    return made if kept else (made, None)


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """A causal convolution of each channel: x (batch, channels, sequence), weight (channels,
    kernel)."""
    return torch.ops.wscc.convolve(x, weight)


def convolve_kept(
    x: Tensor, weight: Tensor, initial: Tensor | None, window: int
) -> tuple[Tensor, Tensor]:
    """The same after inputs `initial` (batch, channels, any), and the last `window` inputs."""
    return torch.ops.wscc.convolve_kept(x, weight, initial, window)
