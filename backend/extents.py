"""How large a value's block is on the fullest device, for one mesh or for many at once.

Sizes of mesh axes are integers or equally long integer arrays, one entry a candidate mesh; every
figure of the backend follows them, so that a thousand regions cost one evaluation.
"""

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from ..ir.dims import size
from ..ir.graph import DTYPE_BYTES, TensorType
from ..ir.mapped import Sharding

Number = float | np.ndarray
Sizes = Mapping[str, int | np.ndarray]


def ceil_div(a: Number, b: Number) -> Number:
    """a / b rounded up, for integers held in floats or arrays."""
    return np.ceil(np.asarray(a) / b)


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
    """Elements of the largest block."""
    return prod(block_shape(type_, sharding, sizes), start=1.0)


def block_bytes(type_: TensorType, sharding: Sharding, sizes: Sizes) -> Number:
    """Bytes of the largest block."""
    return block_elements(type_, sharding, sizes) * DTYPE_BYTES[type_.dtype]
