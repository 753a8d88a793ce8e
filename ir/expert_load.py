"""The load of the experts of a model: how its tokens spread over them, as a user measured it."""

from collections.abc import Sequence
from dataclasses import replace

from .errors import UserError
from .graph import Graph, Model, Op

_LOADED = ("experts", "experts_grad", "chosen_matmul", "chosen_matmul_grad")
_EXACT = 1 << 53
"""Up to here every whole number is one in floating point too."""
_MOST = 1e300
_STEPS = 10**9
"""The load of the busiest expert where the loads are no whole numbers."""


def relative_load(values: object) -> tuple[int, ...]:
    """A load as whole numbers in the same proportions, to nine digits of the largest.

    Raises UserError unless `values` are numbers, none negative and not all zero.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
        raise UserError(f"expert load: {values!r} is no list of numbers, one an expert")
    numbers: list[int | float] = []
    for at, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise UserError(f"expert load: {value!r}, of expert {at}, is no number")
        if value > _MOST:
            raise UserError(f"expert load: {value!r}, of expert {at}, is more than {_MOST:.0e}")
        if value < 0:
            raise UserError(f"expert load: {value!r}, of expert {at}, is negative")
        numbers.append(value)
    largest = max(numbers)
    if not largest:
        raise UserError("expert load: all are zero, but every token goes to some expert")
    if all(number == int(number) and number < _EXACT for number in numbers):
        return tuple(int(number) for number in numbers)
    return tuple(round(number / largest * _STEPS) for number in numbers)


def with_expert_load(model: Model, load: Sequence[int]) -> Model:
    """The model whose experts have a relative `load`, in all layers the same.

    Raises UserError where it has no experts, or another number of them.
    """
    totals = {
        op.integer("total")
        for graph in model.graphs.values()
        for op in graph.ops
        if op.kind in _LOADED
    }
    if not totals:
        raise UserError(f"expert load: {model.name} has no experts that tokens are routed to")
    if totals != {len(load)}:
        counts = " and ".join(str(total) for total in sorted(totals))
        raise UserError(f"expert load: {len(load)} numbers, but {model.name} has {counts} experts")

    def loaded(op: Op) -> Op:
        if op.kind not in _LOADED:
            return op
        return replace(op, attributes={**op.attributes, "load": tuple(load)})

    def change(graph: Graph) -> Graph:
        return graph.with_ops([loaded(op) for op in graph.ops])

    return model.map(change)


def expert_load_of(model: Model) -> tuple[int, ...] | None:
    """The load that a model's experts have; None where it is balanced or there are none."""
    for graph in model.graphs.values():
        for op in graph.ops:
            if op.kind in _LOADED and op.attributes.get("load") is not None:
                return op.integers("load")
    return None
