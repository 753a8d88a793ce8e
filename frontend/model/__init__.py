"""A Hugging Face config in, a model graph out.

config.py reads and checks the file with nothing but json; trace.py and lower.py need torch and
transformers and are imported only when a graph is really made.
"""

import logging
import os
from collections.abc import Mapping

from ...ir.errors import Location, UserError
from ...ir.graph import Model, Phase
from .config import DTYPES, ModelConfig, read_config, trace_key
from .config.schema import class_of_type
from .sizes import SizesNeededError

__all__ = [
    "ModelConfig",
    "SizesNeededError",
    "load_model",
    "lower_config",
    "read_config",
    "trace_key",
]

_LOG = logging.getLogger(__name__)

PHASES: tuple[Phase, ...] = ("prefill", "decode", "train")


def lower_config(
    config: ModelConfig, phase: Phase, sizes: Mapping[str, int] | None = None
) -> Model:
    """The graph of a checked config, symbolic in batch, sequence and context, or of given `sizes`.

    In training it is the forward pass with the logits of all positions and no caches, unquantized.
    In decode latent attention is in its absorbed form. Prediction layers have graphs of their
    own, and in training yield their loss. Raises
    SizesNeededError where there is no symbolic graph, and UserError for a phase, a dtype or an
    operator that is not built yet.
    """
    if phase not in PHASES:
        raise UserError(f"phase {phase} is not built yet; built are {', '.join(PHASES)}")
    if config.dtype not in DTYPES:
        raise UserError(f"dtype {config.dtype} is not built yet; built are {', '.join(DTYPES)}")
    if config.towers and phase != "prefill":
        raise UserError(
            f"--part all: the towers of {config.family} run in prefill; --phase {phase} takes "
            "--part text",
            Location(config.path),
        )
    if config.towers:
        _check_towers(config)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from .absorb import absorb
    from .lower import lower
    from .quantization import quantize, read_quantization
    from .trace import trace

    traced = trace(config, phase, sizes=sizes)
    model = lower(traced, config, phase)
    if phase == "train":
        if config.quantization is not None:
            _LOG.info("%s: training runs in %s, unquantized", config.name, config.dtype)
        return model
    if phase == "decode":
        model = model.map(absorb)
    plain = traced.prediction.plain if traced.prediction else frozenset[str]()
    return quantize(model, read_quantization(config.quantization), plain)


def _check_towers(config: ModelConfig) -> None:
    """Raise UserError where a config states neither of its towers: the defaults of its class would
    be taken, which are of no published model."""
    known = class_of_type(config.family).parts
    towers = [key for key in ("vision_config", "audio_config") if key in known]
    if towers and not any(key in config.values for key in towers):
        raise UserError(
            f"missing {' or '.join(towers)}, which --part all takes", Location(config.path)
        )


def load_model(path: str, phase: Phase) -> tuple[ModelConfig, Model]:
    """The config at `path` (a config.json or a folder that holds one) and its graph for a phase.

    Raises UserError for whatever is wrong with the file.
    """
    config = read_config(path)
    return config, lower_config(config, phase)
