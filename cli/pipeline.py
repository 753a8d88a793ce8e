"""The stages one after the other: what `wscc.load_model` to `wscc.save` are, and what a run calls.

Each stage is imported when it is first needed, so that reading arguments, printing help and a
run whose program is cached import neither torch nor ortools.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ir.errors import UserError, nearest
from ..ir.graph import Model, Part, Phase
from ..ir.hardware import Hardware
from ..ir.pins import Pins
from ..ir.program import Program, Workload
from ..ir.result import Fidelity, Infeasibility, Result
from .pins import read_pins

if TYPE_CHECKING:
    from ..frontend.hardware import HardwareSpace
    from ..frontend.model import ModelConfig

_LOG = logging.getLogger(__name__)

AfterPass = Callable[[str, str], None]
"""Called with a pass's name and the text of what it made."""


@dataclass(frozen=True)
class LoadedModel:
    """A model graph, symbolic in its sizes, and the step of it that is to run."""

    model: Model
    workload: Workload
    layers: int | None = None
    """Only so many of the repeated layers, no embedding or head."""


def load_model(
    path: str | Path,
    phase: Phase = "prefill",
    batch: int = 1,
    sequence: int = 2048,
    context: int = 2048,
    dtype: str | None = None,
    layers: int | None = None,
    part: Part = "text",
) -> LoadedModel:
    """The model of a Hugging Face config.json (or a folder that holds one), and one step of it.

    `sequence` is the prompt's tokens, `context` the tokens in the cache; `dtype` is the config's
    unless given. Raises UserError for whatever is wrong with the file or the sizes.
    """
    _check_sizes(batch=batch, sequence=sequence, context=context)
    config = read_config(path, dtype, part)
    workload = Workload(phase, batch, sequence, context, config.dtype)
    sizes = {"batch": batch, "sequence": sequence, "context": context}
    return LoadedModel(trace(config, phase, sizes), workload, layers)


def _check_sizes(**sizes: object) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name}: {value!r} is no whole number from 1")


def load_hardware(name: str | Path) -> "HardwareSpace":
    """The hardware space of a `.wsc` file, or of the shipped spec of that name.

    `space.bind(sram_size="64 KiB")` is one design of it. Raises UserError.
    """
    from ..frontend.hardware import load_hardware

    return replace(load_hardware(str(name)), physics={"power": _power_w})


def compile(  # noqa: A001
    model: LoadedModel,
    hardware: Hardware,
    mapping: str | None = None,
    region: str | None = None,
    seed: int = 0,
) -> Program:
    """The model mapped onto the hardware by the best strategy found.

    `mapping` and `region` pin parts of the strategy, as on the command line ("dp=2,pp=4",
    "420x420"). Raises UserError for a pin that is impossible.
    """
    pins = read_pins(mapping, region, model.workload.phase)
    return compile_pinned(model, hardware, pins, seed)


def evaluate(program: Program, fidelity: Fidelity = "fluid") -> Result:
    """Time, energy, power and memory of a program on its hardware at a fidelity."""
    from ..backend.evaluate import evaluate

    return _with_broken_constraints(evaluate(program, fidelity), program.hardware)


def save(result: Result, directory: str | Path, program: Program | None = None) -> None:
    """Write report.json, and program.txt where the program is given, into a folder.

    Raises UserError where `directory` is a file or cannot be written.
    """
    from .. import __version__
    from ..report import files
    from ..report.json_report import Timings, to_json

    text = None if program is None else print_program(program)
    files.save(to_json(result, Timings(), __version__), text, directory)


def read_config(path: str | Path, dtype: str | None, part: Part = "text") -> "ModelConfig":
    """The checked config; `dtype` takes the place of what it says of weights and quantization.

    A dtype that nothing computes in is that of the weights alone.
    """
    from ..frontend.model import read_config
    from ..frontend.model.quantization import STORED_DTYPES, stored_as

    config = read_config(str(path), part)
    if dtype is None:
        return config
    if dtype in STORED_DTYPES:
        return replace(config, quantization=stored_as(dtype))
    return replace(config, dtype=dtype, quantization=None)


def trace(config: "ModelConfig", phase: Phase, sizes: Mapping[str, int]) -> Model:
    """The model graph of a config: symbolic where it can be, else of the given sizes."""
    from ..frontend.model import SizesNeededError, lower_config

    try:
        return lower_config(config, phase)
    except SizesNeededError as reason:
        _LOG.info("%s is traced for its sizes only, %s: %s", config.name, dict(sizes), reason)
        return lower_config(config, phase, sizes)


def clean(model: Model) -> Model:
    """The graph as a person reads it: norms and rotary embeddings whole, nothing unused; in
    training with its loss, backward pass and optimizer."""
    if model.phase == "train":
        from ..passes.canonical import training_form
        from ..passes.manager import PassManager

        return training_form(model, PassManager())
    from ..passes.fuse import Fuse

    return model.map(Fuse().run)


def bind(space: "HardwareSpace", overrides: Mapping[str, Any]) -> Hardware:
    """One design of a space, its constraints judged by the backend's physics.

    Raises UserError for an override of a parameter that the spec does not have.
    """
    for name in overrides:
        if name not in space.parameters:
            raise UserError(f"--set: unknown parameter '{name}'{nearest(name, space.parameters)}")
    return space.bind(overrides)


def _power_w(part: Any) -> float:
    from ..backend.energy import power_w

    return power_w(part)


def compile_pinned(
    model: LoadedModel, hardware: Hardware, pins: Pins, seed: int, after: AfterPass | None = None
) -> Program:
    """`compile` with the pins already read; `after` is called behind every pass."""
    from ..passes.compile import Compiler

    compiler = Compiler(hardware, model.workload, pins, model.layers, seed, after)
    return compiler.compile(model.model)


def print_program(program: Program) -> str:
    """The program as text that `parse_program` reads back."""
    from ..ir.program_text import print_program

    return print_program(program)


def parse_program(text: str) -> Program:
    """Read what `print_program` wrote; raises ValueError."""
    from ..ir.program_text import parse_program

    return parse_program(text)


def _with_broken_constraints(result: Result, hardware: Hardware) -> Result:
    """A design that breaks its own constraints is infeasible, whatever the model."""
    broken = tuple(
        Infeasibility(
            resource="constraint",
            where=line.text,
            demand=line.left,
            limit=line.right,
            gap=abs(line.left - line.right),
            unit="",
            changes=(),
        )
        for line in hardware.constraints
        if not line.holds
    )
    if not broken:
        return result
    return replace(result, feasible=False, infeasible=(*result.infeasible, *broken))
