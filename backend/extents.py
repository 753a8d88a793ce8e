"""How large a value's block is on the fullest device, for one mesh or for many at once.

Sizes of mesh axes are integers or equally long integer arrays, one entry a candidate mesh; every
figure of the backend follows them, so that a thousand regions cost one evaluation.
"""

from collections.abc import Iterable, Mapping
from math import ceil, prod
from typing import Any

import numpy as np

from ..ir.dims import size
from ..ir.graph import DTYPE_BYTES, TensorType
from ..ir.mapped import EXPERTS, Routed, Sharding

Number = float | np.ndarray
Sizes = Mapping[str, int | np.ndarray]


def ceil_div(a: Number, b: Number) -> Number:
    """a / b rounded up, for integers held in floats or arrays."""
    if isinstance(a, float | int) and isinstance(b, float | int):
        return float(ceil(a / b))
    return np.ceil(np.asarray(a) / b)


def either(holds: Any, a: Number, b: Number) -> Number:
    """Where a condition holds the one number, else the other; plain numbers stay plain."""
    if isinstance(holds, bool | np.bool_):
        return a if holds else b
    return np.where(holds, a, b)


def extent(axes: Iterable[str], sizes: Sizes) -> Number:
    """Devices along some axes together."""
    return prod((sizes[name] for name in axes), start=1)


def block_shape(type_: TensorType, sharding: Sharding, sizes: Sizes) -> list[Number]:
    """The dimensions of the largest block."""
    return [
        ceil_div(size(dim) + sharding.room_in(at), extent(axes, sizes))
        if axes
        else float(size(dim))
        for at, (dim, axes) in enumerate(zip(type_.shape, sharding.axes, strict=True))
    ]


def block_elements(type_: TensorType, sharding: Sharding, sizes: Sizes) -> Number:
    """Elements of the largest block; of tokens that are with the experts, what a device has of all
    replicas' tokens."""
    own = prod(block_shape(type_, sharding, sizes), start=1.0)
    return own if sharding.routed is None else own * copies(sharding.routed, sizes[EXPERTS])


def reached(share: float, chosen: int, total: int) -> float:
    """The part of all tokens of which an expert of a device is chosen that gets a `share` of all
    choices: a token takes `chosen` different ones of `total`, drawn without putting back."""
    missed = (max(0.0, 1 - share * total / (total - drawn)) for drawn in range(chosen))
    return 1 - prod(missed)


def copies(routed: Routed, replicas: Number) -> Number:
    """How many tokens a replica has at its experts for each one of its own, where loads are even
    and it divides the experts with some others."""

    def of(count: float) -> float:
        return count * reached(1 / count, routed.chosen, routed.total) if count > 1 else 1.0

    return np.vectorize(of, otypes=[float])(replicas)


def block_bytes(type_: TensorType, sharding: Sharding, sizes: Sizes) -> Number:
    """Bytes of the largest block."""
    return block_elements(type_, sharding, sizes) * DTYPE_BYTES[type_.dtype]
