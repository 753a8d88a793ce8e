"""The stages one after the other: what `wscc.load_model` to `wscc.save` are, and what a run calls.

Each stage is imported when it is first needed, so that reading arguments, printing help and a
run whose program is cached import neither torch nor ortools.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ir.errors import UserError, nearest
from ..ir.expert_load import relative_load, with_expert_load
from ..ir.graph import Model, Part, Phase
from ..ir.hardware import Hardware
from ..ir.pins import Pins
from ..ir.program import Program, Workload
from ..ir.result import FLIT_BUDGET_S, Fidelity, Infeasibility, Result
from .model_options import ModelOptions
from .pins import read_pins

if TYPE_CHECKING:
    from ..frontend.hardware import HardwareSpace
    from ..frontend.model import ModelConfig
    from ..passes.verify import Verification

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
    image_tokens: int | None = None,
    audio_tokens: int | None = None,
    prediction_layers: int = 0,
    expert_load: Sequence[float] | None = None,
) -> LoadedModel:
    """The model of a Hugging Face config.json (or a folder that holds one), and one step of it.

    `sequence` is the prompt's tokens, `context` the tokens in the cache; `dtype` is the config's
    unless given. With `part` "all", `image_tokens` and `audio_tokens` of a prompt stand for images
    and audio (default: one image, or recording, of the config's own size). `prediction_layers` of
    the config's multi-token-prediction layers stand behind the model. `expert_load` is the
    relative load of every expert (default: balanced). Raises UserError for whatever is wrong with
    the file or the sizes.
    """
    _check_sizes(batch=batch, sequence=sequence, context=context)
    load = None if expert_load is None else relative_load(expert_load)
    options = ModelOptions(dtype, part, image_tokens, audio_tokens, prediction_layers, load)
    config = read_config(path, options)
    workload = Workload(phase, batch, sequence, context, config.dtype)
    sizes = {"batch": batch, "sequence": sequence, "context": context}
    return LoadedModel(with_load(trace(config, phase, sizes), options), workload, layers)


def _check_sizes(**sizes: object) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name}: {value!r} is no whole number from 1")


def load_hardware(name: str | Path) -> "HardwareSpace":
    """The hardware space of a `.wsc` file, or of the shipped spec of that name.

    `space.bind(sram_size="64 KiB")` is one design of it. Raises UserError.
    """
    from ..backend.physics import PHYSICS
    from ..frontend.hardware import load_hardware

    return replace(load_hardware(str(name)), physics=PHYSICS)


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


def evaluate(
    program: Program, fidelity: Fidelity = "fluid", flit_budget_s: float = FLIT_BUDGET_S
) -> Result:
    """Time, energy, power and memory of a program on its hardware at a fidelity.

    Raises UserError where simulating the network at `flit` would take longer than its budget, in
    seconds of one processor.
    """
    from ..backend.evaluate import evaluate

    return _with_broken_constraints(evaluate(program, fidelity, flit_budget_s), program.hardware)


def verify(
    model: LoadedModel, program: Program, seed: int = 0, tolerance: float = 1e-5
) -> "Verification":
    """Run a program on virtual devices, and the model that it was compiled from without them, on
    the same random values in float32: every output compared.

    `program` is what `compile` made of `model`. Raises UserError for one that is too large, or
    for a quantized model.
    """
    from ..passes.verify import verify
    from ..passes.verify_size import check_model, check_program

    step = model.workload
    sizes = {"batch": step.batch, "sequence": step.sequence, "context": step.context}
    check_model(model.model.bind(sizes), model.layers)
    check_program(program)
    return verify(model.model, program, seed, tolerance)


def save(result: Result, directory: str | Path, program: Program | None = None) -> None:
    """Write report.json into a folder, and, where the program is given, program.txt, trace.json and
    report.html.

    Raises UserError where `directory` is a file or cannot be written.
    """
    from .. import __version__
    from ..report import files
    from ..report.json_report import Timings, to_json

    others: dict[str, str] = {}
    if program is not None:
        others = {"program.txt": print_program(program), **drawings(program, result)}
    files.save(to_json(result, Timings(), __version__), others, directory)


def drawings(program: Program, result: Result, claims: Sequence[str] = ()) -> dict[str, str]:
    """By file name, what shows a result: report.html, with what was claimed of it, and trace.json.

    What happens within the step is drawn at `bound` where the result is, else at `fluid`.
    """
    from ..backend.evaluate import Evaluation
    from ..backend.roofline import roofline
    from ..backend.tracks import trace
    from ..backend.wafer_map import wafer_map
    from ..report.html.page import page
    from ..report.lines import headline
    from ..report.trace import print_chrome

    drawn = Evaluation(program, "bound" if result.fidelity == "bound" else "fluid")
    steps = trace(drawn)
    return {
        "report.html": page(result, wafer_map(drawn), steps, claims, roofline(drawn)),
        "trace.json": print_chrome(steps, headline(result)),
    }


def read_config(path: str | Path, options: ModelOptions | None = None) -> "ModelConfig":
    """The checked config; a `dtype` takes the place of what it says of weights and quantization.

    A dtype that nothing computes in is that of the weights alone.
    """
    from ..frontend.model import read_config
    from ..frontend.model.quantization import STORED_DTYPES, stored_as

    options = options or ModelOptions()
    config = read_config(str(path), options.part)
    config = replace(
        config,
        image_tokens=options.image_tokens,
        audio_tokens=options.audio_tokens,
        prediction_layers=options.prediction_layers,
    )
    if options.dtype is None:
        return config
    if options.dtype in STORED_DTYPES:
        return replace(config, quantization=stored_as(options.dtype))
    return replace(config, dtype=options.dtype, quantization=None)


def trace(config: "ModelConfig", phase: Phase, sizes: Mapping[str, int]) -> Model:
    """The model graph of a config: symbolic where it can be, else of the given sizes."""
    from ..frontend.model import traces

    return traces.trace(config, phase, sizes)


def with_load(model: Model, options: ModelOptions) -> Model:
    """The model with the load of its experts that the options state; raises UserError."""
    return model if options.expert_load is None else with_expert_load(model, options.expert_load)


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
