"""Which class of Transformers is the language model of a config, and where in a model it lies."""

from collections.abc import Iterator
from typing import Any

from transformers import GenerationMixin, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
)


def language_model(whole: Any) -> tuple[Any, Any] | None:
    """The class of a config's language model and the config that it is made of.

    That is the text half's own class, else that of the smallest part of the whole that holds the
    text half and speaks; None where Transformers has no such class.
    """
    text = whole.get_text_config(decoder=True)
    causal = ((MODEL_FOR_CAUSAL_LM_MAPPING, made) for made in (text, whole))
    multimodal = ((MODEL_FOR_MULTIMODAL_LM_MAPPING, made) for made in _holding(whole, text))
    for mapping, made in (*causal, *multimodal):
        if type(made) in mapping:
            kind: Any = mapping[type(made)]
            return kind, text if kind.config_class is type(text) else made
    return None


def whole_model(whole: Any) -> tuple[Any, Any] | None:
    """The class of a multimodal model with all its towers, and its config; None without one."""
    kind: Any = MODEL_FOR_MULTIMODAL_LM_MAPPING.get(type(whole), None)
    return None if kind is None else (kind, whole)


def _holding(config: Any, text: Any) -> Iterator[Any]:
    """The configs that hold the text half's, the innermost first, `config` last."""
    for name in getattr(config, "sub_configs", {}):
        inner = getattr(config, name, None)
        if isinstance(inner, PreTrainedConfig) and inner is not text:
            found = [*_holding(inner, text)]
            if found and inner.get_text_config(decoder=True) is text:
                yield from found
    yield config


def speaking(model: Any) -> Any:
    """The module of a multimodal model that is a language model with a head of its own, which
    needs no image; the model itself where there is none."""
    text = model.config.get_text_config(decoder=True)
    for module in model.modules():
        if module is not model and isinstance(module, GenerationMixin):
            inner: Any = module
            if inner.config is text:
                return inner
    return model
