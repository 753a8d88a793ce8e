"""Training steps that are broken on purpose are caught: among devices, replicas and stages."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from wscc.cli.pipeline import LoadedModel
from wscc.ir.blocks import Devices, Shards
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Op, TensorType
from wscc.ir.mapped import MappedGraph
from wscc.ir.program import Layout, Program, Stage
from wscc.ir.virtual_ops import run_on_parts
from wscc.ir.virtual_replicas import Replicas
from wscc.ir.virtual_training import Trained
from wscc.passes.verify import compare

Make = Callable[..., tuple[LoadedModel, Program]]
Train = Callable[..., Trained]


@dataclass(frozen=True)
class Sound:
    """A training step that is right, and what it leaves."""

    model: LoadedModel
    program: Program
    expected: dict[str, Any]
    train: Train

    def caught(self, program: Program, replicas: Replicas | None = None) -> bool:
        """Whether a broken step is refused or leaves something else."""
        try:
            program.verify()
            left = self.train(self.model, program, replicas)
        except (VerificationError, RuntimeError):
            return True
        compared = compare(self.expected, dict(left.outputs))
        return any(not o.relative_error <= 1e-3 for o in compared)


@pytest.fixture(scope="module")
def sound(make: Make, train: Train) -> Callable[..., Sound]:
    """A step by a strategy."""

    def made(**changes: Any) -> Sound:
        model, program = make("tied", "train", **changes)
        return Sound(model, program, dict(train(model, program).outputs), train)

    return made


class Alone(Replicas):
    """No replica hears of the others' gradients."""

    def average(self, values: list[Shards]) -> list[Shards]:
        return values


class Summed(Replicas):
    """Gradients are summed, and not divided by the number of replicas."""

    def average(self, values: list[Shards]) -> list[Shards]:
        return [
            {d: block * self.count for d, block in own.items()} for own in super().average(values)
        ]

    def average_parts(self, values: list[Shards]) -> list[Shards]:
        parts = super().average_parts(values)
        return [{d: part * self.count for d, part in own.items()} for own in parts]


class WrongPart(Replicas):
    """A reduce-scatter leaves every replica the part of another one."""

    def average_parts(self, values: list[Shards]) -> list[Shards]:
        parts = super().average_parts(values)
        return [*parts[1:], parts[0]]


class FirstPart(Replicas):
    """Every replica keeps, and updates, the first part."""

    def part(self, block: Any, replica: int) -> Any:
        return super().part(block, 0)


class OwnPart(Replicas):
    """Every replica takes its own part for those of all others."""

    def gather(self, parts: list[Shards], shapes: Any) -> list[Shards]:
        return [super(OwnPart, self).gather([own] * self.count, shapes)[0] for own in parts]


class Swapped(Replicas):
    """Parts are put together in another order."""

    def gather(self, parts: list[Shards], shapes: Any) -> list[Shards]:
        return super().gather(parts[::-1], shapes)


@pytest.mark.parametrize(
    ("zero", "broken"),
    [
        (0, Alone),
        (0, Summed),
        (1, Alone),
        (1, FirstPart),
        (1, OwnPart),
        (2, Summed),
        (2, WrongPart),
        (2, Swapped),
        (3, WrongPart),
        (3, FirstPart),
        (3, OwnPart),
        (3, Swapped),
    ],
)
def test_collectives_among_replicas_that_are_broken_are_caught(
    sound: Callable[..., Sound], zero: int, broken: type[Replicas]
) -> None:
    step = sound(region=(1, 2), dp=2, zero=zero)
    assert not step.caught(step.program, Replicas(2))
    assert step.caught(step.program, broken(2))


def test_weights_that_are_not_gathered_cannot_be_read(make: Make, train: Train) -> None:
    class Nothing(Replicas):
        def gather(self, parts: list[Shards], shapes: Any) -> list[Shards]:
            return []

    model, program = make("tied", "train", dp=2, zero=3)
    with pytest.raises((VerificationError, ValueError)):
        train(model, program, Nothing(2))


@pytest.mark.parametrize("layout", ["matvec", "sequence"])
def test_every_collective_of_the_backward_pass_that_is_dropped_is_caught(
    sound: Callable[..., Sound], layout: Layout
) -> None:
    step = sound(layout=layout, region=(1, 2), head_groups=2)
    kinds = ("all_reduce", "reduce_scatter", "all_gather")
    dropped = [
        (name, op)
        for name, mapped in step.program.graphs.items()
        if any(output.role == "gradient" for output in mapped.graph.outputs)
        for op in mapped.graph.ops
        if op.kind in kinds
    ]
    assert len(dropped) > 5
    missed = [
        (name, op.kind, op.result)
        for name, op in dropped
        if not step.caught(without(step.program, name, op))
    ]
    assert not missed


def without(program: Program, name: str, dropped: Op) -> Program:
    """The program without a collective: what reads its results reads its operands, and nothing
    says that those are parts of a sum."""
    mapped = program.graphs[name]
    before = dict(zip(dropped.results, dropped.operands, strict=True))
    ops = [
        dataclasses.replace(op, operands=tuple(before.get(n, n) for n in op.operands))
        for op in mapped.graph.ops
        if op is not dropped
    ]
    outputs = [
        dataclasses.replace(o, name=before.get(o.name, o.name)) for o in mapped.graph.outputs
    ]
    graph = dataclasses.replace(mapped.graph, ops=tuple(ops), outputs=tuple(outputs))
    return dataclasses.replace(
        program, graphs={**program.graphs, name: MappedGraph(graph, mapped.shardings)}
    )


PIPELINE: dict[str, Any] = {"ends": (1, 2, 3), "interleave": 2}


def test_chunks_in_the_wrong_order_are_caught(sound: Callable[..., Sound]) -> None:
    step = sound(**PIPELINE)
    first, second = step.program.stages
    moved = [
        Stage((*stage.calls[1:2], stage.calls[0], *stage.calls[2:])) for stage in (first, second)
    ]
    assert step.caught(step.program.with_stages([moved[0], second]))
    assert step.caught(step.program.with_stages([first, moved[1]]))
    assert step.caught(step.program.with_stages([renumbered(first), renumbered(second)]))


def renumbered(stage: Stage) -> Stage:
    """The stage running the other one of two layers forward."""
    calls = [
        dataclasses.replace(
            call, attributes={**call.attributes, "first": 1 - call.integer("first")}
        )
        if call.text("body") == "layer0"
        else call
        for call in stage.calls
    ]
    return Stage(tuple(calls))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("layer0.backward", "nothing saves saved"),
        ("layer0.update", "which its devices do not hold"),
    ],
)
def test_what_lies_on_another_stage_cannot_be_read(
    sound: Callable[..., Sound], body: str, message: str
) -> None:
    step = sound(ends=(2,))
    first, second = step.program.stages
    moved = [call for call in first.calls if call.text("body") == body]
    left = [call for call in first.calls if call not in moved]
    at = next(at for at, call in enumerate(second.calls) if call.text("body") == body)
    more = (*second.calls[: at + 1], *moved, *second.calls[at + 1 :])
    broken = step.program.with_stages([Stage(tuple(left)), Stage(more)])
    with pytest.raises(VerificationError, match=message):
        step.train(step.model, broken)


def test_an_optimizer_that_looks_at_other_elements_cannot_be_divided(make: Make) -> None:
    program = make("tied", "train")[1]
    type_ = TensorType("float32", (4,))
    sums = Op("reduce", ("a",), ("b",), (type_,), {"indices": "ab->a", "function": "sum"})
    with pytest.raises(VerificationError, match="reduce %b cannot be divided among replicas"):
        run_on_parts(sums, program.graphs["layer0.update"], Devices(program.mesh), [{}])
