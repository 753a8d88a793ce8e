"""Where values lie, not what they are: on whole values these are the identity."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Op
from ..kind import OpKind, Types
from .pointwise import check_function

if TYPE_CHECKING:
    from torch import Tensor


def _identity(op: Op, operands: Sequence["Tensor"]) -> Sequence["Tensor"]:
    return operands


def _same(op: Op, types: Types) -> Types:
    return types


def _check_all_reduce(op: Op, types: Types) -> None:
    del types
    check_function(op)


KINDS = (
    OpKind(
        name="shard",
        doc="Each device keeps its part of a value that it holds whole; nothing moves.",
        operands=1,
        types=_same,
        reference=_identity,
    ),
    OpKind(
        name="all_reduce",
        doc="""Every device along `axes` ends with the sum or maximum (`function`) of all
        devices' values; several operands go as one message.""",
        operands=None,
        reference=_identity,
        types=_same,
        check=_check_all_reduce,
        collective=True,
    ),
    OpKind(
        name="reduce_scatter",
        doc="""The sum over `axes` of all devices' values, of which each device keeps the part
        that the result's sharding gives it.""",
        operands=1,
        types=_same,
        reference=_identity,
        collective=True,
    ),
    OpKind(
        name="all_gather",
        doc="Every device along `axes` ends with the whole value that was split over them.",
        operands=1,
        types=_same,
        reference=_identity,
        collective=True,
    ),
)
