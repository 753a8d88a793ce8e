"""Whether a mapped program computes what its model does: both are run on the same random values.

The program runs on virtual devices (ir/virtual.py), the model on none (ir/interpreter.py), both in
float32 whatever the dtype that they are compiled for (verify_layers.py). What is too large for
that is said in verify_size.py.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from ..ir.errors import UserError, VerificationError
from ..ir.graph import Model
from ..ir.interpreter import run_model
from ..ir.kinds import kind_of
from ..ir.program import Program
from ..ir.random_state import random_state
from ..ir.virtual import run_program
from ..ir.virtual_replicas import Replicas
from ..ir.virtual_training import run_training
from .canonical import training_form
from .manager import PassManager
from .verify_batches import Batches
from .verify_layers import float32_program, in_float32, in_float64, layers_of, yielding

if TYPE_CHECKING:
    from torch import Tensor

    Values = Mapping[str, Tensor]

TOLERANCE = 1e-5
"""Of the largest error to the largest value of an output, in float32."""

ROUNDINGS = 10.0
"""How often the error that float32 makes in the model it may make in the program, where the order
of sums is another one."""

MOST_ROUNDING = 1e-4
"""Relative to a value that means something: more would hide a fault."""


@dataclass(frozen=True)
class Compared:
    """One output, as the program and as the model yields it.

    `relative_error` is the largest error over the largest value: single elements near zero say
    nothing. Infinite where an element is finite on one side alone, or none is.

    `rounding` is the error of the model itself in float32 beside float64, relative too; it is
    asked for only where a tolerance that float32 should keep is not kept.
    """

    output: str
    shape: tuple[int, ...]
    largest_value: float
    absolute_error: float
    relative_error: float
    rounding: float = 0.0

    def within(self, tolerance: float) -> bool:
        """Whether the two are equal as far as float32 can tell: by the tolerance, or else by what
        rounding does to the model itself, where that is little or all that there is: a value that
        is zero in exact numbers, such as the gradient of a bias of keys."""
        nothing_else = abs(self.rounding - 1) <= MOST_ROUNDING
        known = self.rounding if self.rounding <= MOST_ROUNDING or nothing_else else 0.0
        return self.relative_error <= max(tolerance, ROUNDINGS * known)


@dataclass(frozen=True)
class Verification:
    """What was run and compared; `fault` says why the program could not be run to its end."""

    tolerance: float
    seed: int
    outputs: tuple[Compared, ...]
    fault: str | None
    devices: int
    """Of all stages and replicas."""
    steps: int
    """Micro-batches of all replicas: the program runs once for each."""
    operators: int
    """Run in all stages and steps, each on all devices of its stage."""
    collectives: Mapping[str, int]
    """Those that see several devices, by kind, and transfers between stages, in all steps; in
    training also those among replicas."""
    unsplit_s: float
    devices_s: float

    @property
    def different(self) -> tuple[Compared, ...]:
        """Outputs that differ by more than the tolerance, or than rounding where that is more."""
        return tuple(o for o in self.outputs if not o.within(self.tolerance))

    @property
    def equal(self) -> bool:
        """Whether all outputs are there and equal within the tolerance."""
        return self.fault is None and bool(self.outputs) and not self.different


def verify(
    model: Model, program: Program, seed: int = 0, tolerance: float = TOLERANCE
) -> Verification:
    """Run a program and the model that it was compiled from, and compare every output.

    A program of the first layers alone is compared with those; the hidden states that they are
    given are drawn too, and those that they yield compared. Of training the loss, the gradient of
    every weight, and what weights and optimizer states become are. Raises UserError for a
    quantized model, whose rounding tells faults from noise no more, and for one that cannot be
    run on random values.
    """
    _check_kinds(model)
    if program.workload.phase == "train":
        model = training_form(model, PassManager())
    unsplit, split = in_float32(model), float32_program(program)
    if program.given:
        unsplit, split = layers_of(unsplit, program), yielding(split)
    batches = Batches(unsplit, program.workload, program.mapping.microbatch)
    state = random_state(unsplit, batches.sizes, seed)
    started = perf_counter()
    expected = _run_unsplit(unsplit.bind(batches.sizes), state)
    unsplit_s = perf_counter() - started
    fault, outputs = None, ()
    replicas = Replicas(program.mapping.dp)
    try:
        outputs = compare(expected, run_batches(split, batches, state, replicas))
    except (VerificationError, RuntimeError) as error:
        fault = str(error)
    devices_s = perf_counter() - started - unsplit_s
    if tolerance >= TOLERANCE and not all(output.within(tolerance) for output in outputs):
        exact = _run_unsplit(in_float64(unsplit).bind(batches.sizes), _doubled(state))
        outputs = tuple(_with_rounding(o, expected[o.output], exact[o.output]) for o in outputs)
    return Verification(
        tolerance=tolerance,
        seed=seed,
        outputs=outputs,
        fault=fault,
        devices=program.mesh.devices * len(program.stages) * program.mapping.dp,
        steps=batches.count,
        operators=sum(_operators(program, batches.count).values()),
        collectives={**_collectives(program, batches.count), **replicas.ran},
        unsplit_s=unsplit_s,
        devices_s=devices_s,
    )


def _check_kinds(model: Model) -> None:
    kinds = {op.kind for graph in model.graphs.values() for op in graph.ops}
    if kinds & {"quantize", "dequantize"}:
        raise UserError(f"{model.name} is quantized: load it with a dtype to verify it")


def compare(expected: "Values", found: "Values") -> tuple[Compared, ...]:
    """Every output of a model beside that of its program, which may differ in shape by a view.

    Raises VerificationError where one has outputs that the other has not.
    """
    if expected.keys() != found.keys():
        odd = sorted(expected.keys() ^ found.keys())
        raise VerificationError(f"only one of program and model yields {', '.join(odd)}")
    return tuple(_compared(name, value, found[name]) for name, value in expected.items())


def _compared(name: str, expected: "Tensor", found: "Tensor") -> Compared:
    import torch

    shape, found = tuple(expected.shape), found.reshape(expected.shape).double()
    expected = expected.double()
    finite = expected.isfinite()
    largest = float(expected[finite].abs().max()) if finite.any() else 0.0
    alike = torch.equal(finite, found.isfinite()) and torch.allclose(
        expected[~finite], found[~finite], equal_nan=True
    )
    if not alike or (expected.numel() and not finite.any()):
        return Compared(name, shape, largest, float("inf"), float("inf"))
    error = float((expected - found)[finite].abs().max()) if finite.any() else 0.0
    scale = largest if largest or not error else error
    return Compared(name, shape, largest, error, error / (scale or 1.0))


def _with_rounding(output: Compared, expected: "Tensor", exact: "Tensor") -> Compared:
    error = _compared(output.output, expected, exact).relative_error
    return replace(output, rounding=error)


def _doubled(state: "Values") -> "Values":
    return {n: v.double() if v.is_floating_point() else v for n, v in state.items()}


# Running both


def run_batches(
    program: Program, batches: Batches, state: "Values", replicas: Replicas
) -> "Values":
    """The outputs of a whole step: the program run once for each of its micro-batches.

    Raises VerificationError for a program that breaks its own rules, before or while it runs.
    """
    program.verify()
    states = [batches.part(state, at) for at in range(batches.count)]
    if program.workload.phase == "train":
        trained = run_training(program, states, replicas)
        return {**batches.joined(trained.microbatches), **trained.outputs}
    of_one = program.microbatches
    return batches.joined([run_program(program, s, at // of_one) for at, s in enumerate(states)])


def _run_unsplit(model: Model, state: "Values") -> "Values":
    try:
        return run_model(model, state)
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{model.name} cannot be run on random values: {error}") from error


def _operators(program: Program, steps: int) -> Counter[str]:
    """Operators that all micro-batches run, and in training each replica's optimizer, by kind."""
    found: Counter[str] = Counter()
    for stage in program.stages:
        for call in stage.calls:
            times = program.mapping.dp if program.way(call) == "update" else steps
            for op in program.graphs[call.text("body")].graph.ops:
                found[op.kind] += call.integer("count") * times
    return found


def _collectives(program: Program, steps: int) -> dict[str, int]:
    several = {
        op.kind
        for mapped in program.graphs.values()
        for op in mapped.graph.ops
        if kind_of(op).collective
    }
    run = _operators(program, steps)
    found = {kind: run[kind] for kind in sorted(several)}
    sent = sum(
        len(transfer.values) * (program.mapping.dp if transfer.way == "update" else steps)
        for transfer in program.transfers
    )
    return found | ({"transfer": sent} if sent else {})
