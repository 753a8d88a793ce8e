"""Traces that are kept: the model graph of a config, from the cache where it is there."""

import logging
from collections.abc import Callable, Mapping

from ...ir.errors import VerificationError
from ...ir.graph import Model, Phase
from ...ir.store import Store, digest
from ...ir.text import parse_model, print_model
from ...ir.versions import code_version
from . import SizesNeededError, lower_config
from .config import ModelConfig, trace_key

logger = logging.getLogger(__name__)


def trace(config: ModelConfig, phase: Phase, sizes: Mapping[str, int]) -> Model:
    """The model graph of a config: symbolic where it can be, else of the given sizes."""
    try:
        return lower_config(config, phase)
    except SizesNeededError as reason:
        logger.info("%s is traced for its sizes only, %s: %s", config.name, dict(sizes), reason)
        return lower_config(config, phase, sizes)


def load_graph(
    config: ModelConfig,
    phase: Phase,
    sizes: Mapping[str, int],
    store: Store | None,
    trace: Callable[[ModelConfig, Phase, Mapping[str, int]], Model] = trace,
) -> Model:
    """The model graph of a config, from the cache where it is there.

    One that is symbolic in its sizes is kept without them.
    """
    keys = [digest(code_version(), trace_key(config, phase, used)) for used in (None, sizes)]
    for key in keys:
        text = None if store is None else store.get("trace", key)
        model = None if text is None else _parsed(text)
        if model is not None:
            logger.info("the trace is cached (%s)", key)
            return model
    model = trace(config, phase, sizes)
    if store is not None:
        store.put("trace", keys[0 if model.symbolic else 1], print_model(model))
    return model


def _parsed(text: str) -> Model | None:
    """What a cached text says; None, a miss, where it cannot be read."""
    try:
        return parse_model(text)
    except (ValueError, KeyError, IndexError, VerificationError) as error:
        logger.info("a cache entry cannot be parsed: %s", error)
        return None
