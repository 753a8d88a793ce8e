"""A config traced: the Hugging Face model is built without weights and exported to ATen.

The trace is symbolic in batch, sequence and context, or of given sizes. Of every kind of repeated
layer only the first is traced (layers.py). lower.py turns what comes out into a graph of ours.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from inspect import getsource
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ...ir.errors import Location, UserError
from ...ir.graph import Phase, TensorType
from .aten import UnsupportedError
from .attention import masks_as_operators
from .build import Built, build, first_line, unexpected
from .caches import Place, Template, new_cache, symbolic, tensors_of
from .config import ModelConfig
from .layers import Layers, cut, survey
from .mutation import functional
from .sizes import SizesNeededError

_SIZES = {"batch": 3, "sequence": 29, "context": 31}
_OTHER_SIZES = {"batch": 5, "sequence": 37, "context": 41}
"""Sizes that the trace is made at: any from two on would do, as all three are symbols in it."""

_SYMBOLS = {
    "batch": torch.export.Dim("batch", min=2, max=1 << 20),
    "sequence": torch.export.Dim("sequence", min=2, max=1 << 30),
    "context": torch.export.Dim("context", min=2, max=1 << 30),
}


@dataclass(frozen=True)
class Trace:
    """An exported program and what is known of its layers.

    `layers_path` is the module that lists them (`model.layers`), `kinds[i]` the kind of layer
    `i` (NOT_CALLED for none), `traced[k]` the layer that stands for kind `k`; `slots` values flow
    from layer to layer. `tied` gives for every parameter the first name under which the model
    holds it, `everywhere` are those that several layers use, and `parameters` are the names of
    all that the language model has, each once, with their types. `persistent` are the buffers
    that a checkpoint holds.

    The program takes `input_ids`, `position_ids` and, in decode, the `caches` of the traced
    layers; it yields logits, then, but in training, the `new_caches`. `symbolic` is whether the
    sizes are symbols.
    """

    program: torch.export.ExportedProgram
    layers_path: str
    kinds: tuple[int, ...]
    traced: tuple[int, ...]
    slots: int
    caches: tuple[Place, ...]
    new_caches: tuple[Place, ...]
    tied: Mapping[str, str]
    everywhere: frozenset[str]
    parameters: Mapping[str, TensorType]
    persistent: frozenset[str]
    symbolic: bool


class _Noted:
    """What a traced step leaves behind besides its program: where its new caches lie."""

    places: tuple[Place, ...] = ()


class _Step(nn.Module):
    """One forward pass with its caches as plain tensors, for the layers that are traced."""

    def __init__(self, built: Built, phase: Phase, template: Template | None) -> None:
        super().__init__()
        self.model = built.model
        self.built = built
        self.phase = phase
        self.template = template
        self.noted = _Noted()

    def forward(
        self, input_ids: Tensor, position_ids: Tensor | None, caches: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        if self.template is None:
            cache = new_cache(self.built.config) if self.built.cache else None
        else:
            cache = self.template.filled(dict(zip(self.template.tensors, caches, strict=True)))
        logits = _call(self.built, input_ids, position_ids, cache)
        if self.phase == "train" or cache is None:
            return logits, []
        new = tensors_of(cache)
        self.noted.places = tuple(new)
        return logits, list(new.values())


def trace(
    config: ModelConfig, phase: Phase, whole: bool = False, sizes: Mapping[str, int] | None = None
) -> Trace:
    """Trace one phase of a model; `whole` traces every layer as if no two were equal.

    Symbolic in its sizes unless `sizes` (batch, sequence, context) are given. Raises
    SizesNeededError where it cannot be, and UserError for a model that cannot be traced at all.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    built = build(config, mode)
    try:
        with torch.no_grad(), masks_as_operators():
            return _traced(built, phase, whole, sizes, mode)
    except UnsupportedError as error:
        raise UserError(f"{config.name}: not built yet: {error}", Location(config.path)) from error
    except (UserError, SizesNeededError):
        raise
    except Exception as error:
        broken = f"{config.family} cannot be traced: {first_line(error)}"
        raise unexpected(broken, config, error) from error


def _traced(
    built: Built,
    phase: Phase,
    whole: bool,
    sizes: Mapping[str, int] | None,
    mode: FakeTensorMode,
) -> Trace:
    if phase == "decode" and built.cache is None:
        raise UnsupportedError("a model that keeps no cache")
    tied = _tied(built.model)
    everywhere = frozenset(_used_everywhere(built.model))
    parameters = _types(built)
    persistent = frozenset(built.model.state_dict(keep_vars=True)) - tied.keys()
    layers, template = _surveyed(built, phase, sizes or _SIZES, whole, mode)
    cut(layers)
    decode = phase == "decode"
    step = _Step(built, phase, template if decode else None)
    inputs = _inputs(built, phase, sizes or _SIZES, step.template, mode)
    shapes = None
    if sizes is None:
        shapes = _dynamic_shapes(built, phase, step.template, mode)
    calls = _attending(built.model) if built.operators else Counter[str]()
    try:
        program = torch.export.export(
            step,
            inputs,
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = functional(program)
    except UnsupportedError:
        raise
    except Exception as error:
        if sizes is None:
            raise SizesNeededError(first_line(error)) from error
        raise
    _check_attention(calls, program)
    return Trace(
        program,
        layers.path,
        layers.kinds,
        layers.traced,
        layers.slots,
        tuple(step.template.tensors) if step.template else (),
        step.noted.places,
        tied,
        everywhere,
        parameters,
        persistent,
        sizes is None,
    )


def _call(built: Built, input_ids: Tensor, position_ids: Tensor | None, cache: Any) -> Tensor:
    """The logits of one forward pass of a model."""
    named: dict[str, Any] = {"input_ids": input_ids}
    if built.positions:
        named["position_ids"] = position_ids
    if built.cache is not None:
        named |= {built.cache: cache, "use_cache": True}
    return built.model(**named).logits


def _surveyed(
    built: Built, phase: Phase, sizes: Mapping[str, int], whole: bool, mode: FakeTensorMode
) -> tuple[Layers, Template]:
    """The layers, and the cache that a prompt as long as the context leaves."""
    tokens = sizes["context" if phase == "decode" else "sequence"]
    cache = new_cache(built.config) if built.cache else None

    def forward() -> None:
        _prompt(built, cache, sizes["batch"], tokens, mode)

    layers = survey(
        built.model, built.text, forward, lambda at: _per_layer(built.config, at), whole
    )
    return layers, Template.of(cache or new_cache(built.config), sizes)


def _prompt(built: Built, cache: Any, batch: int, tokens: int, mode: FakeTensorMode) -> None:
    """Fill a cache with a fake prompt."""
    with mode:
        ids = torch.zeros((batch, tokens), dtype=torch.int64)
        positions = torch.arange(tokens).expand(batch, tokens)
        _call(built, ids, positions, cache)


def _per_layer(config: Any, layer: int) -> Hashable:
    """What the lists of a config that have an entry for every layer say of one.

    A list of all layers' numbers says nothing.
    """
    found: list[Hashable] = []
    count = config.num_hidden_layers
    for name, value in sorted(config.to_dict().items()):
        if isinstance(value, list) and len(value) == count and value != [*range(count)]:
            found.append((name, str(value[layer]) if layer < count else None))
    return tuple(found)


def _inputs(
    built: Built,
    phase: Phase,
    sizes: Mapping[str, int],
    template: Template | None,
    mode: FakeTensorMode,
) -> tuple[Any, ...]:
    """Example inputs of a phase."""
    tokens = sizes["batch"], 1 if phase == "decode" else sizes["sequence"]
    with mode:
        ids = torch.zeros(tokens, dtype=torch.int64)
        positions = torch.zeros(tokens, dtype=torch.int64) if built.positions else None
        caches = [
            torch.zeros(tuple(tensor.shape), dtype=tensor.dtype)
            for tensor in (template.tensors.values() if template else ())
        ]
    return ids, positions, caches


def _dynamic_shapes(
    built: Built, phase: Phase, template: Template | None, mode: FakeTensorMode
) -> tuple[Any, ...]:
    """Which dimensions of the inputs are symbols."""
    tokens = {0: _SYMBOLS["batch"]}
    if phase != "decode":
        tokens[1] = _SYMBOLS["sequence"]
    caches: list[Any] = []
    if template is not None:
        cache = new_cache(built.config)
        _prompt(built, cache, _OTHER_SIZES["batch"], _OTHER_SIZES["context"], mode)
        try:
            found = symbolic(template, Template.of(cache, _OTHER_SIZES))
        except UnsupportedError as error:
            raise SizesNeededError(str(error)) from error
        caches = [{at: _SYMBOLS[name] for at, name in places.items()} for places in found.values()]
    return tokens, tokens if built.positions else None, caches


def _attending(model: nn.Module) -> Counter[str]:
    """Counts, from now on, the calls of every module whose code calls attention, by its path."""
    calls: Counter[str] = Counter()
    for path, module in model.named_modules():
        if "ALL_ATTENTION_FUNCTIONS" in _code(type(module)):
            module.register_forward_pre_hook(partial(_count, calls, path))
    return calls


def _count(calls: Counter[str], path: str, *_: Any) -> None:
    calls[path] += 1


@cache
def _code(kind: type[nn.Module]) -> str:
    return getsource(kind) if kind.__module__.startswith("transformers.models.") else ""


def _check_attention(calls: Counter[str], program: torch.export.ExportedProgram) -> None:
    """Raise UnsupportedError unless every call of such a module yielded the operator."""
    made = Counter(
        module_path(node).removeprefix("model.")
        for node in program.graph.nodes
        if str(node.target) == "wscc.attention.default"
    )
    for path, count in calls.items():
        if made[path] < count:
            raise UnsupportedError(f"attention in {path} that is not an operator")


def module_path(node: fx.Node) -> str:
    """The path of the innermost module that a node came from."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def _types(built: Built) -> dict[str, TensorType]:
    """The types of the language model's parameters, each by its first name."""
    return {
        name: TensorType(str(parameter.dtype).removeprefix("torch."), tuple(parameter.shape))
        for name, parameter in built.model.named_parameters()
        if name in built.parameters
    }


def _tied(model: nn.Module) -> dict[str, str]:
    """For every parameter the first name under which the model holds it."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(parameter), name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def _used_everywhere(model: nn.Module) -> list[str]:
    """The first names of parameters that the model holds under several."""
    first: dict[int, str] = {}
    again: list[str] = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            again.append(first[id(parameter)])
    return again
