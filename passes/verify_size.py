"""What can be verified on this machine: models and programs beyond stated limits are refused."""

from collections.abc import Iterator
from math import prod

from ..ir.dims import size
from ..ir.errors import UserError
from ..ir.graph import Graph, Model, Op
from ..ir.kinds import graph_flops
from ..ir.mapped import MappedGraph
from ..ir.program import Program

GIB = 2**30
MOST_STATE_BYTES = 2 * GIB
MOST_DEVICE_BYTES = 4 * GIB
MOST_OPERATOR_RUNS = 2_000_000
"""At some 80 microseconds each."""
MOST_FLOPS = 10**12

_FLOAT32_BYTES = 4
_TRAINED = 4
"""A weight, its gradient and two moments."""
_TRAINED_FLOPS = 3
"""A forward pass, and a backward pass of twice its work."""


def check_model(model: Model, layers: int | None = None) -> None:
    """Raise UserError for a bound model whose weights and caches, or whose work, are too large.

    `layers`: only so many of the repeated ones are verified.
    """
    held = _state_bytes(model, layers)
    if held > MOST_STATE_BYTES:
        fitting = (n for n in range(layers or model.layers, 0, -1) if _fits(model, n))
        most = next(fitting, None)
        cut = "" if most is None else f", or --layers {most}"
        remedy = f"a config with fewer or smaller layers, or a smaller vocabulary{cut}"
        kind = "weights, gradients and moments" if model.phase == "train" else "weights and caches"
        wanted = f"{_gib(held)} of {kind} in float32"
        _refuse(model.name, wanted, _gib(MOST_STATE_BYTES), remedy)
    flops = sum(size(graph_flops(graph)) * count for graph, _, count in _parts(model, layers))
    flops *= _TRAINED_FLOPS if model.phase == "train" else 1
    if flops > MOST_FLOPS:
        remedy = "a smaller config, --batch or --sequence"
        _refuse(model.name, f"{flops:.2g} FLOPs", f"{MOST_FLOPS:.2g}", remedy)


def check_program(program: Program) -> None:
    """Raise UserError for a program with too many devices for what each does."""
    remedy = "a smaller --region, --batch or --sequence"
    held = max(_device_bytes(mapped, program) for mapped in program.graphs.values())
    where = f"{program.mesh.devices:,} devices of a stage"
    if held > MOST_DEVICE_BYTES:
        wanted = f"{_gib(held)} of values on {where}"
        _refuse(program.model, wanted, _gib(MOST_DEVICE_BYTES), remedy)
    runs = sum(_runs(program)) * program.mapping.dp * program.microbatches
    if runs > MOST_OPERATOR_RUNS:
        wanted = f"{runs:,} runs of operators on {where}"
        _refuse(program.model, wanted, f"{MOST_OPERATOR_RUNS:,}", remedy)


def _parts(model: Model, layers: int | None) -> Iterator[tuple[Graph, int, int]]:
    """The graphs of a model, or of its first layers alone: with their first layer and number."""
    if layers is None:
        yield model.main, 0, 1
    left = model.layers if layers is None else layers
    for body, first, count in model.runs():
        yield body, first, min(count, left)
        left -= min(count, left)


def _state_bytes(model: Model, layers: int | None) -> int:
    """Bytes of weights and caches, each once; in training also of what belongs to weights."""
    held = {
        value.source.replace("*", str(layer)): size(value.type.elements) * _FLOAT32_BYTES
        for graph, first, count in _parts(model, layers)
        for value in graph.inputs
        if value.role in ("weight", "cache")
        for layer in range(first, first + count)
    }
    return sum(held.values()) * (_TRAINED if model.phase == "train" else 1)


def _fits(model: Model, layers: int) -> bool:
    return _state_bytes(model, layers) <= MOST_STATE_BYTES


def _refuse(name: str, wanted: str, limit: str, remedy: str) -> None:
    raise UserError(
        f"{name} is too large to be run on virtual devices: {wanted}, the limit is {limit}; "
        f"take {remedy}"
    )


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _device_bytes(mapped: MappedGraph, program: Program) -> int:
    """Bytes of all that the operators of one graph make, on all devices together."""
    inputs = {value.name for value in mapped.graph.inputs}
    total = 0
    for name, type_ in mapped.graph.types.items():
        if name not in inputs:
            sharding = mapped.shardings[name]
            parts = [program.mesh.extent(axes) for axes in sharding.axes]
            held = prod(-(-size(d) // n) for d, n in zip(type_.shape, parts, strict=True))
            total += held * program.mesh.devices * _FLOAT32_BYTES
    return total


def _runs(program: Program) -> Iterator[int]:
    """Operators of one micro-batch times the devices that run them."""
    for stage in program.stages:
        for call in stage.calls:
            for op in program.graphs[call.text("body")].graph.ops:
                yield call.integer("count") * _device_runs(op, program.mesh.devices)


def _device_runs(op: Op, devices: int) -> int:
    """Every device of a product whose tiles travel looks at the tiles of its row and column."""
    return devices * devices if op.kind == "grid_matmul" else devices
