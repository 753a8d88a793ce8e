"""What a config that is right is read as: the family, its values, and what is left aside."""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import ModelConfig, lower_config, read_config, trace_key
from wscc.ir.errors import UserError

WriteConfig = Any

SIZES = {
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


VISION = {"model_type": "clip_vision_model", "hidden_size": 32, "num_attention_heads": 4}


def read(folder: Path, values: Mapping[str, Any], part: Any = "text") -> ModelConfig:
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return read_config(str(path), part)


def test_what_a_config_leaves_out_is_said_in_the_log(
    write_config: WriteConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = write_config({"model_type": "mistral", "dtype": None, "flavour": "mint"})
    assert read_config(path).dtype == "bfloat16"
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: no sliding_window, Transformers takes 4096",
        "key 'flavour' is not used",
        f"{path}: no dtype, bfloat16 assumed",
    ]


def test_what_a_text_half_leaves_out_is_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = {key: value for key, value in SIZES.items() if key != "hidden_size"}
    config = read(tmp_path, {"model_type": "llava", "text_config": text})
    assert "hidden_size" not in config.values
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "no text_config.hidden_size, Transformers takes 4096"
    ]


def test_custom_code_of_a_known_type_is_left_aside(write_config: WriteConfig) -> None:
    config = read_config(write_config({"auto_map": {"AutoConfig": "c.C"}}))
    assert "auto_map" not in config.values


def test_a_model_is_called_as_it_says_or_as_its_folder_or_file(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    assert read_config(write_config({"_name_or_path": "maker/tiny-8b"})).name == "tiny-8b"
    assert read_config(write_config({"_name_or_path": "a/\ud800"})).name == "?"
    path = Path(write_config({}))
    assert read_config(str(path)).name == path.parent.name
    assert read_config(str(path.parent)).name == path.parent.name
    (tmp_path / "own.json").write_text(path.read_text())
    assert read_config(str(tmp_path / "own.json")).name == "own"


def test_null_means_what_it_means_to_transformers(write_config: WriteConfig) -> None:
    changes = {"num_key_value_heads": None, "head_dim": None, "rope_scaling": None}
    assert read_config(write_config(changes)).values["num_key_value_heads"] is None
    config = read_config(write_config({"model_type": "mistral", "sliding_window": None}))
    assert config.values["sliding_window"] is None


def test_a_byte_order_mark_and_a_key_given_twice_alike_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    text = json.dumps({"model_type": "llama", **SIZES})
    path.write_text(text.replace('"vocab_size"', '"vocab_size": 64, "vocab_size"'), "utf-8-sig")
    assert read_config(str(path)).values["vocab_size"] == 64


def test_only_keys_that_the_class_knows_are_handed_on(write_config: WriteConfig) -> None:
    changes = {
        "flavour": "mint",
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "float16",
        "use_cache": False,
        "quantization_config": {"quant_method": "fp8"},
        "rms_norm_eps": 1,
    }
    config = read_config(write_config(changes))
    assert config.quantization == {"quant_method": "fp8"}
    assert set(config.values) <= {*SIZES, *config.values} - {*changes} | {"rms_norm_eps"}
    assert type(config.values["rms_norm_eps"]) is float


@pytest.mark.parametrize(
    ("stated", "dtype"),
    [
        ({"dtype": "float16"}, "float16"),
        ({"dtype": None, "torch_dtype": "torch.float32"}, "float32"),
        ({"dtype": "float8_e4m3fn"}, "bfloat16"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"dtype": "auto"}, "bfloat16"),
    ],
)
def test_what_is_computed_with_is_a_floating_point_type(
    stated: Mapping[str, Any], dtype: str, write_config: WriteConfig
) -> None:
    assert read_config(write_config(stated)).dtype == dtype


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({"model_type": "Yi"}, "llama"),
        ({"model_type": "mistral", "layer_types": ["full_attention"] * 3}, "ministral"),
    ],
)
def test_a_published_alias_is_read_as_the_family_that_it_is(
    changes: Mapping[str, Any], family: str, write_config: WriteConfig
) -> None:
    assert read_config(write_config(changes)).family == family


def test_a_key_of_the_same_meaning_is_handed_on_under_the_name_of_the_class(
    write_config: WriteConfig,
) -> None:
    changes = {"model_type": "deepseek_v3", "num_experts": 8, "moe_top_k": 2}
    values = read_config(write_config({**changes, "moe_intermediate_size": 8})).values
    assert (values["n_routed_experts"], values["num_experts_per_tok"]) == (8, 2)
    assert not set(changes) & set(values)


def test_a_padding_token_outside_the_vocabulary_is_none(write_config: WriteConfig) -> None:
    assert read_config(write_config({"pad_token_id": 10**9})).values["pad_token_id"] is None
    assert read_config(write_config({"pad_token_id": 3})).values["pad_token_id"] == 3


def test_infinity_is_read_in_both_spellings(tmp_path: Path) -> None:
    values = {"model_type": "mamba2", "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1}
    for infinity in (float("inf"), {"__float__": "Infinity"}):
        config = read(tmp_path, {**values, "num_heads": 2, "time_step_limit": [0.0, infinity]})
        assert config.values["time_step_limit"] == [0.0, float("inf")]


def test_the_text_half_of_a_multimodal_model_is_a_model_of_its_own_where_it_can_be(
    tmp_path: Path,
) -> None:
    text = {**SIZES, "model_type": "llama", "torch_dtype": "float16"}
    llava = {"model_type": "llava", "text_config": text, "vision_config": VISION}
    config = read(tmp_path, llava)
    assert (config.family, config.dtype, config.layers) == ("llama", "float16", 3)
    assert config.values == {**SIZES, "tie_word_embeddings": False}
    whole = read(tmp_path, llava, "all")
    assert (whole.family, whole.layers) == ("llava", 3)
    assert whole.values["text_config"] == {**SIZES, "model_type": "llama"}
    assert whole.values["vision_config"] == VISION
    assert trace_key(config, "decode") != trace_key(whole, "decode")


def test_a_text_half_that_is_no_model_of_its_own_stays_in_the_whole(tmp_path: Path) -> None:
    config = read(tmp_path, {"model_type": "qwen3_vl", "text_config": {**SIZES, "head_dim": 8}})
    assert config.family == "qwen3_vl"
    assert config.values["text_config"]["head_dim"] == 8


def test_text_keys_beside_the_others_are_the_text_half(tmp_path: Path) -> None:
    config = read(tmp_path, {"model_type": "qwen2_vl", **SIZES, "image_token_id": 5})
    assert config.values["text_config"] == SIZES
    assert config.values["image_token_id"] == 5


@pytest.mark.parametrize(("outer", "inner"), [({"tie_word_embeddings": True}, {}), ({}, {})])
def test_the_outer_config_decides_whether_the_head_is_tied(
    outer: Mapping[str, Any], inner: Mapping[str, Any], tmp_path: Path
) -> None:
    text = {**SIZES, "model_type": "llama", **inner}
    config = read(tmp_path, {"model_type": "llava", "text_config": text, **outer})
    assert config.values["tie_word_embeddings"] is bool(outer)


def test_weights_quantized_in_the_text_half_are_those_of_the_model(tmp_path: Path) -> None:
    stated = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    text = {**SIZES, "model_type": "llama", "quantization_config": stated}
    config = read(tmp_path, {"model_type": "llava", "text_config": text})
    assert config.quantization == stated
    assert "quantization_config" not in config.values


def test_a_config_is_read_without_torch_or_transformers(write_config: WriteConfig) -> None:
    code = (
        "import sys; from wscc.frontend.model import read_config, trace_key; "
        f"trace_key(read_config({json.dumps(write_config({}))}), 'decode'); "
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("model_type", "given"),
    [("glmasr", {"rms_norm_eps": 1e-5}), ("voxtral", {"head_dim": 128, "rms_norm_eps": 1e-5})],
)
def test_what_a_class_gives_its_text_half_stands_where_the_config_says_nothing(
    model_type: str, given: dict[str, Any], tmp_path: Path
) -> None:
    text = {"model_type": "llama", **SIZES}
    values = read(tmp_path, {"model_type": model_type, "text_config": text}).values
    assert given.items() <= values.items()
    stated = {"rms_norm_eps": 1e-3, "head_dim": 16}
    values = read(tmp_path, {"model_type": model_type, "text_config": {**text, **stated}}).values
    assert stated.items() <= values.items()


def test_towers_that_a_config_does_not_state_are_missing_only_where_they_are_asked_for(
    tmp_path: Path,
) -> None:
    values = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **SIZES}}
    assert read(tmp_path, values).family == "gemma3_text"
    with pytest.raises(UserError, match="missing vision_config, which --part all takes"):
        lower_config(read(tmp_path, values, "all"), "prefill")
