"""The keys of a config.json: which a family reads, what values they may have, what must hold.

Transformers fills in a missing size without a word and takes a misspelt key for an extra one, so
every key that the graph depends on is checked here first. Nothing outside this table reaches
Transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ...ir.errors import nearest

LARGEST_SIZE = 1 << 24
MOST_LAYERS = 1024

ACTIVATIONS = frozenset(
    {
        "gelu",
        "gelu_new",
        "gelu_pytorch_tanh",
        "quick_gelu",
        "relu",
        "sigmoid",
        "silu",
        "swish",
        "tanh",
    }
)
OTHER_ACTIVATIONS = frozenset(
    {
        "gelu_10",
        "gelu_accurate",
        "gelu_fast",
        "gelu_python",
        "gelu_python_tanh",
        "hardswish",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "prelu",
        "relu2",
        "relu6",
        "sqrtsoftplus",
        "xielu",
    }
)
"""What Transformers knows besides."""

ROPE_TYPES: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": ("factor",),
}
"""The rotary embeddings that are built, each with the numbers that it cannot do without."""

OTHER_ROPE_TYPES = frozenset({"axial", "dynamic", "longrope", "mrope", "proportional", "su"})

LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})


class ConfigError(Exception):
    """What is wrong with a config, and the key where it shows (`rope_scaling.factor`)."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.key = key


Check = Callable[[str, Any], None]
"""Raises ConfigError unless a value fits the key of that name."""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def size(key: str, value: Any) -> None:
    """A positive integer."""
    if type(value) is not int:
        raise ConfigError(f"{key} must be an integer, not {_shown(value)}", key)
    most = MOST_LAYERS if key == "num_hidden_layers" else LARGEST_SIZE
    if not 1 <= value <= most:
        raise ConfigError(f"{key} must lie between 1 and {most}, not {_shown(value)}", key)


def count(key: str, value: Any) -> None:
    """An integer from zero on."""
    if type(value) is not int or not 0 <= value <= LARGEST_SIZE:
        raise ConfigError(f"{key} must be an integer from 0 on, not {_shown(value)}", key)


def positive(key: str, value: Any) -> None:
    """A positive number."""
    if type(value) not in (int, float) or not (isfinite(value) and 0 < value < 1e18):
        raise ConfigError(f"{key} must be a positive number, not {_shown(value)}", key)


def flag(key: str, value: Any) -> None:
    """True or false."""
    if type(value) is not bool:
        raise ConfigError(f"{key} must be true or false, not {_shown(value)}", key)


def one_of(what: str, value: Any, known: frozenset[str], unbuilt: frozenset[str], key: str) -> None:
    """A name that is built; one of `unbuilt` is refused as such."""
    if isinstance(value, str) and value in known:
        return
    if isinstance(value, str) and value in unbuilt:
        raise ConfigError(f"{what} '{value}' is not built yet; built are {_listed(known)}", key)
    hint = nearest(value, known | unbuilt) if isinstance(value, str) else ""
    raise ConfigError(
        f"unknown {what} {_shown(value)}{hint or ', known are ' + _listed(known)}", key
    )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def activation(key: str, value: Any) -> None:
    """The name of an activation function."""
    one_of(key, value, ACTIVATIONS, OTHER_ACTIVATIONS, key)


def layer_types(key: str, value: Any) -> None:
    """A list of the kinds of attention, one for every layer."""
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list, not {_shown(value)}", key)
    for item in value:
        one_of("layer type", item, LAYER_TYPES, frozenset(), key)


def rope(key: str, value: Any) -> None:
    """The parameters of a rotary embedding, in the old or the new form."""
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object, not {_shown(value)}", key)
    parameters: dict[str, Any] = value
    if nested := [name for name in LAYER_TYPES if name in parameters]:
        raise ConfigError(f"{key} for a kind of layer ({nested[0]}) are not built yet", key)
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    one_of("rope_type", kind, frozenset(ROPE_TYPES), OTHER_ROPE_TYPES, key)
    missing = [name for name in ROPE_TYPES[kind] if name not in parameters]
    if missing:
        raise ConfigError(f"{key} of type '{kind}' lacks {', '.join(missing)}", key)
    for name, accepts in ROPE_PARAMETERS.items():
        if parameters.get(name) is not None or name in ROPE_TYPES[kind]:
            accepts(f"{key}.{name}", parameters[name])
    if parameters.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise ConfigError(f"{key}.partial_rotary_factor is not built yet", key)


ROPE_PARAMETERS: Mapping[str, Check] = {
    "factor": positive,
    "rope_theta": positive,
    "low_freq_factor": positive,
    "high_freq_factor": positive,
    "original_max_position_embeddings": size,
    "attention_factor": positive,
    "beta_fast": positive,
    "beta_slow": positive,
    "mscale": positive,
    "mscale_all_dim": positive,
    "truncate": flag,
}

REQUIRED: Mapping[str, Check] = {
    "hidden_size": size,
    "intermediate_size": size,
    "num_attention_heads": size,
    "num_hidden_layers": size,
    "vocab_size": size,
}

OPTIONAL: Mapping[str, Check] = {
    "head_dim": size,
    "hidden_act": activation,
    "max_position_embeddings": size,
    "num_key_value_heads": size,
    "rms_norm_eps": positive,
    "rope_parameters": rope,
    "rope_scaling": rope,
    "rope_theta": positive,
    "tie_word_embeddings": flag,
}

NULLABLE = frozenset(
    {
        "head_dim",
        "layer_types",
        "num_key_value_heads",
        "rope_parameters",
        "rope_scaling",
        "sliding_window",
    }
)

_SLIDING: Mapping[str, Check] = {
    "layer_types": layer_types,
    "max_window_layers": count,
    "sliding_window": size,
    "use_sliding_window": flag,
}


@dataclass(frozen=True)
class Family:
    """A model type that is built: the keys of its own, and what Transformers would fill in.

    `required` are keys that Transformers gives a number of its own where they are missing;
    `filled` are those where that number is well known, and a log line is enough.
    `heads_divide_hidden` holds where Transformers insists on it though `head_dim` is given.
    """

    keys: Mapping[str, Check]
    required: tuple[str, ...] = ()
    filled: Mapping[str, Any] | None = None
    heads_divide_hidden: bool = False

    @property
    def checks(self) -> Mapping[str, Check]:
        """The check of every key that the family reads."""
        return {**REQUIRED, **OPTIONAL, **self.keys}


FAMILIES: Mapping[str, Family] = {
    "llama": Family({"attention_bias": flag, "mlp_bias": flag}, heads_divide_hidden=True),
    "mistral": Family({"sliding_window": size}, ("num_key_value_heads",), {"sliding_window": 4096}),
    "qwen2": Family(_SLIDING, ("num_key_value_heads",)),
    "qwen3": Family(
        {**_SLIDING, "attention_bias": flag}, ("num_key_value_heads",), {"head_dim": 128}
    ),
}

_ROPES = ("rope_parameters", "rope_scaling")

SILENT = frozenset(
    {
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "model_type",
        "pad_token_id",
        "pretraining_tp",
        "quantization_config",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Keys that are read elsewhere or have no bearing on what a forward pass computes."""


def check(family: Family, values: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first thing that is wrong with a config's values."""
    missing = [key for key in (*REQUIRED, *family.required) if key not in values]
    if missing:
        hints = "".join(
            f"; {key} is given{hint}"
            for key in values
            if key not in family.checks and key not in SILENT and (hint := nearest(key, missing))
        )
        raise ConfigError(f"missing {', '.join(missing)}{hints}")
    for key, accepts in family.checks.items():
        if key in values and not (values[key] is None and key in NULLABLE):
            accepts(key, values[key])
    _check_heads(family, values)
    if "layer_types" in family.keys:
        _check_windows(values)
    if values.get("rope_parameters") and values.get("rope_scaling"):
        raise ConfigError("rope_parameters and rope_scaling are both given", "rope_scaling")


def _check_heads(family: Family, values: Mapping[str, Any]) -> None:
    heads, hidden = values["num_attention_heads"], values["hidden_size"]
    groups = values.get("num_key_value_heads") or heads
    width = values.get("head_dim") or (family.filled or {}).get("head_dim")
    if (width is None or family.heads_divide_hidden) and hidden % heads:
        raise ConfigError(
            f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}",
            "num_attention_heads",
        )
    if heads % groups:
        raise ConfigError(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {groups}",
            "num_key_value_heads",
        )
    width = width or hidden // heads
    if width % 2:
        raise ConfigError(
            f"a head is {width} wide, but rotary embeddings need an even width",
            "head_dim" if values.get("head_dim") else "num_attention_heads",
        )


def _check_windows(values: Mapping[str, Any]) -> None:
    layers, types = values["num_hidden_layers"], values.get("layer_types")
    if values.get("use_sliding_window"):
        needed = ("sliding_window",) if types else ("sliding_window", "max_window_layers")
        if missing := [key for key in needed if values.get(key) is None]:
            raise ConfigError(
                f"use_sliding_window is true, but there is no {' and no '.join(missing)}",
                "use_sliding_window",
            )
    elif "sliding_attention" in (types or ()):
        raise ConfigError(
            "layer_types has sliding_attention, but use_sliding_window is not true", "layer_types"
        )
    if types is not None and len(types) != layers:
        raise ConfigError(
            f"layer_types lists {len(types)} layers, but num_hidden_layers is {layers}",
            "layer_types",
        )


def normalized(family: Family, values: Mapping[str, Any]) -> dict[str, Any]:
    """Checked values as Transformers takes them: only what the family reads, and null only where
    it is a value of its own."""
    kept = {
        key: _rope_parameters(values[key]) if key in _ROPES else values[key]
        for key in family.checks
        if values.get(key) is not None or (key == "sliding_window" and key in values)
    }
    if "num_key_value_heads" in values:
        kept.setdefault("num_key_value_heads", values["num_attention_heads"])
    return kept


def _rope_parameters(stated: Mapping[str, Any]) -> dict[str, Any]:
    known = (*ROPE_PARAMETERS, "rope_type", "type")
    return {name: stated[name] for name in known if stated.get(name) is not None}
