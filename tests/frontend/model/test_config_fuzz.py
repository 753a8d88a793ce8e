"""Whatever a config says, reading it ends in a config or in a message."""

import json
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.frontend.model import ModelConfig, lower_config, read_config, trace_key
from wscc.ir.errors import UserError

WriteConfig = Callable[[Mapping[str, Any]], str]

BASE: dict[str, Any] = {
    "model_type": "qwen3",
    "dtype": "bfloat16",
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "use_sliding_window": True,
    "sliding_window": 8,
    "max_window_layers": 1,
    "layer_types": ["full_attention", "sliding_attention"],
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "architectures": ["Qwen3ForCausalLM"],
    "quantization_config": None,
}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["silu", "llama", "mistral", "qwen2", "4096", "float32", "sliding_attention"])
    | st.text(max_size=8)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=8), SCALARS)
KEYS = st.sampled_from(sorted(BASE)) | st.text(max_size=12)
ROPE = st.fixed_dictionaries(
    {},
    optional={
        "rope_type": st.sampled_from(["default", "linear", "llama3", "yarn", "dynamic"]),
        "type": SCALARS,
        "factor": SCALARS,
        "original_max_position_embeddings": SCALARS,
        "truncate": SCALARS,
    },
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A good config with keys dropped, retyped, renamed and added."""
    values = dict(BASE)
    for key in draw(st.lists(KEYS, max_size=3)):
        match draw(st.sampled_from(["drop", "set", "rename"])):
            case "drop":
                values.pop(key, None)
            case "set":
                values[key] = draw(ROPE if key == "rope_scaling" else VALUES)
            case _:
                values[key[:-1]] = values.pop(key, 1)
    return values


def read_or_message(path: Path, text: str) -> ModelConfig | str:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        return read_config(str(path))
    except UserError as error:
        return str(error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=configs())
def test_a_mutated_config_is_read_or_refused_with_one_line(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    found = read_or_message(path, json.dumps(values))
    if isinstance(found, ModelConfig):
        assert found.layers == values["num_hidden_layers"]
        assert len(trace_key(found, "decode")) == 64
    else:
        assert len(found.splitlines()) == 1


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 400), added=st.text(max_size=3), removed=st.integers(0, 3))
def test_a_damaged_text_is_read_or_refused_with_one_line(
    at: int, added: str, removed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(BASE, indent=1)
    damaged = text[:at] + added + text[at + removed :]
    found = read_or_message(tmp_path_factory.getbasetemp() / "damaged.json", damaged)
    assert isinstance(found, ModelConfig) or len(found.splitlines()) == 1


def test_mutated_configs_of_all_families_are_read_or_refused_with_one_line(tmp_path: Path) -> None:
    fuzz = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "fuzz_configs.py"))
    kinds = {one.kind for one in fuzz["outcomes"](200, 1, tmp_path)}
    assert kinds == {"read", "refused"}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": None, "head_dim": None},
        {"model_type": "llama", "attention_bias": True, "rope_parameters": {"rope_theta": 7}},
        {"model_type": "mistral", "rope_scaling": {"rope_type": "yarn", "factor": 1}},
        {"model_type": "qwen2", "num_hidden_layers": 1, "head_dim": 14},
        {"bos_token_id": "x", "pad_token_id": 10**9, "id2label": 3, "use_cache": "maybe"},
        {"hidden_size": 2, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 1},
    ],
)
def test_odd_configs_that_are_read_are_traced_too(
    changes: Mapping[str, Any], write_config: WriteConfig
) -> None:
    lower_config(read_config(write_config(changes)), "decode").verify()


def test_the_key_of_a_trace_changes_with_all_that_the_trace_depends_on(
    write_config: WriteConfig,
) -> None:
    changes = ({}, {"hidden_size": 32}, {"dtype": "float16"}, {"_name_or_path": "other"})
    configs = [read_config(write_config({"_name_or_path": "one", **c})) for c in changes]
    keys = {trace_key(config, phase) for config in configs for phase in ("prefill", "decode")}
    assert len(keys) == 2 * len(changes)
    again = read_config(write_config({"_name_or_path": "one", "use_cache": False}))
    assert trace_key(again, "decode") == trace_key(configs[0], "decode")
