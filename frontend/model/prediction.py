"""Multi-token-prediction layers behind a model (DeepSeek-V3, arXiv 2412.19437, section 2.2).

Layer k takes of every token the hidden state that the model, or layer k - 1, has made of it, and
the embedding of the token k + 1 places on; its own block and the model's head make of both the
logits of the token k + 2 places on. Its tokens are inputs: what is sampled lies outside of the
model. Transformers has these layers as a model of their own, which shares embedding, head and
rotary tables with the main one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel

from ...ir.errors import Location, UserError
from .aten import UnsupportedError
from .config import ModelConfig
from .config.document import read_document
from .prediction_graphs import PredictionLayers

PATH = "mtp"
"""Where the prediction layers lie in the main model once they are attached."""

_FIELDS = r"mtp|nextn"
"""What the keys of a config are called that speak of prediction layers."""

_KINDS = {"layer_types": "mtp_layer_types", "mlp_layer_types": "mtp_mlp_layer_types"}
"""Lists of a config of an entry a layer, and those that prediction layers have instead."""

_WEIGHT = "mtp_loss_scaling_factor"
_USUAL_WEIGHT = 0.3
"""The weight of the prediction loss that DeepSeek-V3 begins with (section 4.2)."""


@dataclass(frozen=True)
class Prediction:
    """Prediction layers that are attached to a model.

    They are called after the main model, whose `decoder` (its path) leaves its last hidden state.
    """

    mtp: Any
    decoder: str
    known: PredictionLayers
    _hidden: list[Tensor] = field(default_factory=list[Tensor])

    @property
    def count(self) -> int:
        return len(self.known.paths)

    @property
    def parameters(self) -> frozenset[str]:
        """The names of their parameters in the model."""
        return frozenset(f"{PATH}.{name}" for name, _ in self.mtp.named_parameters())

    def layers(self) -> list[Any]:
        """Empty cache layers, one a prediction layer."""
        return MtpCache(config=self.mtp.config).layers[: self.count]

    def logits(
        self, next_ids: Sequence[Tensor], position_ids: Tensor | None, cache: Any
    ) -> list[Tensor]:
        """The logits of every prediction layer, after the forward pass of the main model.

        `next_ids[k]` (batch, tokens) holds for every token the one k + 1 places on; the cache is
        that of the main model with `layers` behind its own. Raises UnsupportedError for a model
        that takes no positions.
        """
        if position_ids is None:
            raise UnsupportedError("prediction layers behind a model that takes no positions")
        own = MtpCache(config=self.mtp.config)
        own.layers = cache.layers[self.known.first :]
        hidden = self._hidden.pop()
        found: list[Tensor] = []
        for at, ids in enumerate(next_ids):
            positions = position_ids + (at + 1)
            hidden = self.mtp.forward_layer(at, hidden, positions, own, input_ids=ids)
            found.append(self.mtp._project_to_logits(hidden))
        return found

    def keep(self, _: nn.Module, __: Any, output: Any) -> None:
        """Called with what the decoder yields."""
        self._hidden[:] = [output[0]]


def attach(model: Any, stated: ModelConfig) -> Prediction:
    """The prediction layers that are asked for of a model's config, put into the model.

    Raises UserError where the config has fewer, or Transformers has no code for them.
    """
    config, count = model.config.get_text_config(decoder=True), stated.prediction_layers
    _check(config, stated)
    mtp = MtpModel(model, count).eval()
    _share(mtp, model)
    model.add_module(PATH, mtp)
    renames = tuple(name for at in range(count) for name in _renames(model, at, config))
    known = PredictionLayers(
        paths=tuple(f"{PATH}.layers.{at}" for at in range(count)),
        first=config.num_hidden_layers,
        renames=renames,
        plain=frozenset(new for old, new in renames if old.endswith(".eh_proj")),
        weight=float(getattr(config, _WEIGHT, 0) or _USUAL_WEIGHT),
    )
    decoder = model.get_decoder()
    found = Prediction(mtp, _path(model, decoder), known)
    decoder.register_forward_hook(found.keep)
    return found


def _path(model: nn.Module, wanted: nn.Module) -> str:
    return next(path for path, module in model.named_modules() if module is wanted)


def _share(mtp: nn.Module, model: nn.Module) -> None:
    """Leave what prediction layers have in common with the main model a part of that alone, so
    that every module has one path."""
    theirs = set(model.modules())
    for name, module in [*mtp.named_children()]:
        if module in theirs:
            delattr(mtp, name)
            mtp.__dict__[name] = module


def _check(config: Any, stated: ModelConfig) -> None:
    """Raise UserError unless a config has so many prediction layers that Transformers builds."""
    count, where = stated.prediction_layers, Location(stated.path)
    said = ", ".join(_said(read_document(stated.path).values)) or "nothing of them"
    if not hasattr(config, "num_mtp_layers"):
        raise UserError(
            f"--prediction-layers {count}: Transformers has no prediction layers for "
            f"{config.model_type} (the config says {said})",
            where,
        )
    known = config.num_mtp_layers or 0
    if count > known:
        raise UserError(
            f"--prediction-layers {count}: {config.model_type} has {known} "
            f"(the config says {said})",
            where,
        )
    for key, needed in _KINDS.items():
        if getattr(config, key, None) is not None and getattr(config, needed, None) is None:
            raise UserError(
                f"--prediction-layers {count}: the config does not say of which kinds they are; "
                f"{needed} must list them, as {key} lists those of the model's layers",
                where,
            )


def _said(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """What a config as it stands says that has to do with prediction layers."""
    for key, value in values.items():
        if isinstance(value, Mapping) and not before:
            yield from _said(value, f"{key}.")
        elif re.search(_FIELDS, key) and isinstance(value, int):
            yield f"{before}{key} {json.dumps(value)}"


# Names


_MODULES = ("enorm", "hnorm", "eh_proj", "post_norm")
_BLOCK = "mtp_block"

_BESIDE = {"post_norm": "shared_head.norm"}
"""What a module beside the block is called where prediction layers are numbered like others."""

_ABOVE = {
    "enorm": "pre_fc_norm_embedding",
    "hnorm": "pre_fc_norm_hidden",
    "eh_proj": "fc",
    "post_norm": "norm",
}
"""What it is called where there is one prediction layer, and the block alone is in a list."""


def _renames(model: Any, at: int, config: Any) -> Iterator[tuple[str, str]]:
    """The published names of the modules of a prediction layer, as Transformers' conversions of
    checkpoints read them: behind the layers of the model where it expects them there, else under
    `mtp`, where those of a single layer stand outside its block."""
    own = f"{PATH}.layers.{at}"
    expected = model._keys_to_ignore_on_load_unexpected or ()
    numbered = any(re.search(r"layers\\\.(\d+|\{)", pattern) for pattern in expected)
    if numbered:
        decoder = _path(model, model.get_decoder())
        place = f"{decoder}.layers.{config.num_hidden_layers + at}"
        beside = {module: f"{place}.{_BESIDE.get(module, module)}" for module in _MODULES}
    elif config.num_mtp_layers == 1:
        place = own
        beside = {module: f"{PATH}.{_ABOVE[module]}" for module in _MODULES}
    else:
        place, beside = own, {}
    yield from ((f"{own}.{module}", name) for module, name in beside.items())
    yield f"{own}.{_BLOCK}", place
    yield own, place
