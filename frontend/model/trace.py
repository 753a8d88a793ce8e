"""A config traced: the Hugging Face model is built without weights and exported to ATen.

The trace is symbolic in batch, sequence and context, or of given sizes. Of every kind of repeated
layer only the first is traced (layers.py). lower.py turns what comes out into a graph of ours.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from inspect import getsource
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from transformers import DynamicCache

from ...ir.errors import Location, UserError
from ...ir.graph import Phase, TensorType
from .aten import UnsupportedError
from .attention import masks_as_operators
from .build import Built, build, first_line, unexpected
from .caches import Place, Template, new_cache, symbolic, tensors_of
from .concrete import Known, note_tokens
from .config import ModelConfig
from .features import Features, features_of
from .layers import Layers, Stack, cut
from .mutation import functional
from .prediction_graphs import PredictionLayers
from .sizes import SizesNeededError
from .survey import survey

# An operator that fails is in the error that the user sees, not in a traceback before it.
logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)

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

    `stacks` are its lists of layers, the language model's first. `tied` gives for every parameter
    the first name under which the model holds it, `everywhere` are those that several layers use,
    and `parameters` are the names of all that the language model has, each once, with their types.
    `persistent` are the buffers that a checkpoint holds, and `constants` the values that operators
    `wscc::constant` stand for.

    The program takes `input_ids`, `position_ids`, in decode the `caches` of the traced layers, and
    with towers their `features`; it yields logits, then, but in training, the `new_caches`, then
    the logits of the `prediction` layers, of which layer k takes `next_ids[k]`. `symbolic` is
    whether the sizes are symbols.
    """

    program: torch.export.ExportedProgram
    stacks: tuple[Stack, ...]
    caches: tuple[Place, ...]
    new_caches: tuple[Place, ...]
    tied: Mapping[str, str]
    everywhere: frozenset[str]
    parameters: Mapping[str, TensorType]
    persistent: frozenset[str]
    constants: tuple[Tensor, ...]
    symbolic: bool
    prediction: PredictionLayers | None


class _Noted:
    """What a traced step leaves behind besides its program: where its new caches lie."""

    places: tuple[Place, ...] = ()


class _Step(nn.Module):
    """One forward pass with its caches as plain tensors, for the layers that are traced."""

    def __init__(
        self, built: Built, phase: Phase, template: Template | None, features: Features
    ) -> None:
        super().__init__()
        self.model = built.model
        self.built = built
        self.phase = phase
        self.features = features
        self.known = Known()
        self.template = template
        self.noted = _Noted()

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None,
        caches: list[Tensor],
        features: dict[str, Tensor],
        next_ids: list[Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        if self.template is None:
            cache = _new_cache(self.built) if self.built.cache else None
        else:
            cache = self.template.filled(dict(zip(self.template.tensors, caches, strict=True)))
        predicted: list[Tensor] = []
        if self.built.towers:
            logits = _call_whole(self.built, input_ids, cache, self.features, features, self.known)
        else:
            logits, *predicted = _call(self.built, input_ids, position_ids, cache, next_ids)
        if self.phase == "train" or cache is None:
            return logits, [], predicted
        new = tensors_of(cache)
        self.noted.places = tuple(new)
        return logits, list(new.values()), predicted


def trace(
    config: ModelConfig, phase: Phase, whole: bool = False, sizes: Mapping[str, int] | None = None
) -> Trace:
    """Trace one phase of a model; `whole` traces every layer as if no two were equal.

    Symbolic in its sizes unless `sizes` (batch, sequence, context) are given. Raises
    SizesNeededError where it cannot be, and UserError for a model that cannot be traced at all.
    """
    if config.towers and sizes is None:
        raise SizesNeededError("what its towers do depends on the images")
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    built = build(config, mode)
    try:
        with torch.no_grad(), masks_as_operators(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of attributes that a model leaves behind
            features = Features()
            if config.towers and sizes is not None:
                wanted = config.image_tokens, config.audio_tokens
                features = features_of(built.model, sizes, wanted, mode)
            return _traced(built, phase, whole, sizes, mode, features)
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
    features: Features,
) -> Trace:
    if phase == "decode" and built.cache is None:
        raise UnsupportedError(
            "decode of a model that keeps no cache: each step is a prefill of all tokens so far"
        )
    tied = _tied(built.model)
    everywhere = frozenset(_used_everywhere(built.model))
    parameters = _types(built)
    persistent = frozenset(built.model.state_dict(keep_vars=True)) - tied.keys()
    layers, template = _surveyed(built, phase, sizes or _SIZES, whole, mode, features)
    for found in layers:
        cut(found)
    decode = phase == "decode"
    step = _Step(built, phase, template if decode else None, features)
    inputs = _inputs(built, phase, sizes or _SIZES, step.template, mode, features)
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
        tuple(found.stack for found in layers),
        tuple(step.template.tensors) if step.template else (),
        step.noted.places,
        tied,
        everywhere,
        parameters,
        persistent,
        tuple(step.known.constants),
        sizes is None,
        built.prediction.known if built.prediction else None,
    )


def _new_cache(built: Built) -> DynamicCache:
    """An empty cache of a model and of the prediction layers behind it."""
    return new_cache(built.config, built.prediction.layers() if built.prediction else ())


def _call(
    built: Built,
    input_ids: Tensor,
    position_ids: Tensor | None,
    cache: Any,
    next_ids: Sequence[Tensor],
) -> list[Tensor]:
    """The logits of one forward pass of a model, and those of its prediction layers."""
    named: dict[str, Any] = {"input_ids": input_ids}
    if built.positions:
        named["position_ids"] = position_ids
    if built.cache is not None:
        named |= {built.cache: cache, "use_cache": True}
    logits = built.model(**named).logits
    if built.prediction is None:
        return [logits]
    return [logits, *built.prediction.logits(next_ids, position_ids, cache)]


def _call_whole(
    built: Built,
    input_ids: Tensor,
    cache: Any,
    features: Features,
    tensors: Mapping[str, Tensor],
    known: Known,
) -> Tensor:
    """The logits of one forward pass of a model with its towers."""
    named: dict[str, Any] = {} if built.cache is None else {built.cache: cache, "use_cache": True}
    assert features.prompts is not None
    with known:
        note_tokens(input_ids, features.prompts)
        named |= features.arguments(tensors, known)
        return built.model(input_ids=input_ids, **named).logits


def _surveyed(
    built: Built,
    phase: Phase,
    sizes: Mapping[str, int],
    whole: bool,
    mode: FakeTensorMode,
    features: Features,
) -> tuple[tuple[Layers, ...], Template]:
    """The lists of layers, and the cache that a prompt as long as the context leaves."""
    tokens = sizes["context" if phase == "decode" else "sequence"]
    cache = None

    def forward() -> None:
        nonlocal cache
        cache = _new_cache(built) if built.cache else None
        if built.towers:
            ids, _, _, tensors, _ = _inputs(built, phase, sizes, None, mode, features)
            with mode:
                _call_whole(built, ids, cache, features, tensors, Known())
        else:
            _prompt(built, cache, sizes["batch"], tokens, mode)

    layers = survey(
        built.model,
        built.text,
        forward,
        lambda at: _per_layer(built.config, at),
        whole,
        built.towers,
    )
    return layers, Template.of(cache or _new_cache(built), sizes)


def _prompt(built: Built, cache: Any, batch: int, tokens: int, mode: FakeTensorMode) -> None:
    """Fill a cache with a fake prompt."""
    with mode:
        ids = torch.zeros((batch, tokens), dtype=torch.int64)
        positions = torch.arange(tokens).repeat(batch, 1)
        _call(built, ids, positions, cache, [ids] * built.predicted)


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
    features: Features,
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
        tensors = {
            name: torch.zeros(shape, dtype=next(built.model.parameters()).dtype)
            for name, shape in features.data.items()
        }
        next_ids = [torch.zeros(tokens, dtype=torch.int64) for _ in range(built.predicted)]
    return ids, positions, caches, tensors, next_ids


def _dynamic_shapes(
    built: Built, phase: Phase, template: Template | None, mode: FakeTensorMode
) -> tuple[Any, ...]:
    """Which dimensions of the inputs are symbols."""
    tokens = {0: _SYMBOLS["batch"]}
    if phase != "decode":
        tokens[1] = _SYMBOLS["sequence"]
    caches: list[Any] = []
    if template is not None:
        cache = _new_cache(built)
        _prompt(built, cache, _OTHER_SIZES["batch"], _OTHER_SIZES["context"], mode)
        try:
            found = symbolic(template, Template.of(cache, _OTHER_SIZES))
        except UnsupportedError as error:
            raise SizesNeededError(str(error)) from error
        caches = [{at: _SYMBOLS[name] for at, name in places.items()} for places in found.values()]
    return tokens, tokens if built.positions else None, caches, {}, [tokens] * built.predicted


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
