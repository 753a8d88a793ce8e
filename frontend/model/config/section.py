"""A config, or one inside another, and what is wrong with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .document import KeyPath, shown_path
from .schema import ConfigClass

UNREAD = frozenset(
    {
        "_name_or_path",
        "architectures",
        "auto_map",
        "bos_token_id",
        "eos_token_id",
        "initializer_range",
        "model_type",
        "pretraining_tp",
        "quantization_config",
        "transformers_version",
        "use_cache",
    }
)
"""Keys that are read elsewhere or have no bearing on what a forward pass computes."""

QUIET = UNREAD | frozenset(
    {
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "num_hidden_layers",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "per_layer_config",
        "problem_type",
        "return_dict",
        "tie_word_embeddings",
        "torch_dtype",
    }
)
"""Keys that any config may have: no word of them where a class does not know them."""


class ConfigError(Exception):
    """What is wrong with a config, and the key where it shows."""

    def __init__(self, message: str, path: KeyPath = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


@dataclass(frozen=True)
class Section:
    """A config, or one inside another: its class, its values and the keys that lead to it."""

    config_class: ConfigClass
    values: Mapping[str, Any]
    path: KeyPath = ()

    def error(self, message: str, key: str | None = None) -> ConfigError:
        """An error that shows at a key of this section, or at the section."""
        return ConfigError(message, self.path if key is None else (*self.path, key))

    def label(self, key: str) -> str:
        """A key as a message names it."""
        return shown_path((*self.path, key))

    def key_of(self, name: str) -> str | None:
        """The key by which a field is stated, under whatever name it may be."""
        own = self.config_class.own_name(name)
        return next((key for key in self.values if self.config_class.own_name(key) == own), None)

    def has(self, name: str) -> bool:
        """Whether the class has a field of that name, own or standard."""
        return self.config_class.own_name(name) in self.config_class.fields

    def get(self, name: str) -> Any:
        """What a field is: as stated, else what the class takes for it; None where it has none."""
        if (key := self.key_of(name)) is not None:
            return self.values[key]
        field = self.config_class.fields.get(self.config_class.own_name(name))
        return None if field is None else field.default

    def first(self, names: Iterable[str]) -> str | None:
        """The first of some names that the class has a field for."""
        return next((name for name in names if self.has(name)), None)
