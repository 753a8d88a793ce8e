"""A mistake in a config is one message: what is wrong, where, and what would be right."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import lower_config, read_config
from wscc.ir.errors import UserError

WriteConfig = Callable[[Mapping[str, Any]], str]


def message_of(path: str | Path) -> str:
    """The error for a path, without the folder in front."""
    with pytest.raises(UserError) as caught:
        read_config(str(path))
    return str(caught.value).removeprefix(str(Path(path).parent)).lstrip("/")


def text_message(folder: Path, text: str | bytes) -> str:
    path = folder / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return message_of(path)


@pytest.fixture
def message(write_config: WriteConfig) -> Callable[[Mapping[str, Any]], str]:
    """The error for the tiny Llama with some values changed."""
    return lambda changes: message_of(write_config(changes))


def test_a_path_without_a_config_says_so(tmp_path: Path) -> None:
    assert message_of(tmp_path / "absent.json") == "absent.json: error: no such file"
    (tmp_path / "empty").mkdir()
    assert message_of(tmp_path / "empty") == "empty: error: no config.json in this folder"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "config.json:1:1: error: not valid JSON: Expecting value"),
        (
            '{\n  "a": 1,\n  "b" 2\n}',
            "config.json:3:7: error: not valid JSON: Expecting ':' delimiter",
        ),
        (b"\xff\xfe\x00", "config.json: error: not a text file in UTF-8"),
        ("[" * 100_000, "config.json: error: not a config: nested too deeply"),
        (
            '{"a":' * 100 + "1" + "}" * 100,
            "config.json: error: not a config: nested too deeply",
        ),
        (
            '{"a": "' + "x" * (5 << 20) + '"}',
            "config.json: error: not a config: 5 MiB, and none is over 4 MiB",
        ),
        ("[]", "config.json:1:1: error: not a config: a list instead of an object"),
        ('"llama"', "config.json:1:1: error: not a config: a string instead of an object"),
        ("null", "config.json:1:1: error: not a config: null instead of an object"),
        ("3", "config.json:1:1: error: not a config: a number instead of an object"),
        ("true", "config.json:1:1: error: not a config: true instead of an object"),
        (
            '{"vocab_size": 8,\n "rope": {"factor": 1,\n  "factor": 2}}',
            "config.json:3:3: error: rope.factor is given twice, with different values",
        ),
        (
            "{}",
            "config.json: error: no model_type, so it cannot be told which model this is",
        ),
        (
            '{\n  "model_type": 3\n}',
            "config.json:2:3: error: model_type must be a string, not 3",
        ),
        (
            '{"model_type": "lama"}',
            "config.json:1:2: error: unknown model_type 'lama', did you mean 'llama'?",
        ),
        (
            '{"model_type": "\\ud800\\n"}',
            "config.json:1:2: error: unknown model_type '\\ud800\\n': Transformers 5.23.0 does not "
            "have it",
        ),
        (
            '{"model_type": "mimo"}',
            "config.json:1:2: error: unknown model_type 'mimo': Transformers 5.23.0 does not have "
            "it; the nearest model_type that is built is 'mimo_v2_flash'",
        ),
        (
            '{"model_type": "t5"}',
            "config.json:1:2: error: model_type 't5' is an encoder-decoder model; built are "
            "decoders",
        ),
        (
            '{"model_type": "bart"}',
            "config.json:1:2: error: model_type 'bart' is an encoder-decoder model; built are "
            "decoders",
        ),
        (
            '{"model_type": "vit"}',
            "config.json:1:2: error: model_type 'vit' is not a causal language model",
        ),
        (
            '{"model_type": "qwen3_vl_text"}',
            "config.json:1:2: error: model_type 'qwen3_vl_text' is a part of a model, and none by "
            "itself",
        ),
        (
            '{"model_type": "bert"}',
            "config.json:1:2: error: model_type 'bert' is an encoder: only with is_decoder true "
            "is it a causal language model",
        ),
        (
            '{"model_type": "bert", "is_decoder": false}',
            "config.json:1:24: error: model_type 'bert' is an encoder: only with is_decoder true "
            "is it a causal language model",
        ),
        (
            '{"model_type": "internlm2", "auto_map": {"AutoConfig": "c.C"}}',
            "config.json:1:29: error: model_type 'internlm2' needs code that comes with the model "
            "(auto_map), and such code is never run; the nearest model_type that is built is "
            "'internlm3'",
        ),
        (
            '{"model_type": "llama", "vocab_size": 8}',
            "config.json: error: missing hidden_size, num_hidden_layers, num_attention_heads, "
            "intermediate_size",
        ),
        (
            '{"model_type": "gpt2", "vocab_size": 8}',
            "config.json: error: missing n_embd, n_layer, n_head",
        ),
        (
            '{"model_type": "qwen2", "hiden_size": 8, "vocab_size": 8, "intermediate_size": 8, '
            '"num_attention_heads": 2, "num_hidden_layers": 1}',
            "config.json: error: missing hidden_size, num_key_value_heads; hiden_size is given, "
            "did you mean 'hidden_size'?",
        ),
        ('{"model_type": "llava"}', "config.json: error: missing text_config"),
        (
            '{"model_type": "llava",\n "text_config": []}',
            "config.json:2:2: error: text_config must be an object, not []",
        ),
        (
            '{"model_type": "llava",\n "text_config":\n  {"model_type": "lama"}}',
            "config.json:3:4: error: unknown text_config.model_type 'lama', did you mean 'llama'?",
        ),
        (
            '{"model_type": "gemma3", "text_config": {\n  "hidden_size": 8,\n  "head_dim": "8"}}',
            "config.json:3:3: error: text_config.head_dim must be an integer, not '8'",
        ),
        (
            '{"model_type": "llava", "text_config": {"hidden_size": 24,\n'
            '  "num_attention_heads": 5}}',
            "config.json:2:3: error: text_config.hidden_size 24 is not a multiple of "
            "num_attention_heads 5",
        ),
        (
            '{"model_type": "gemma3", "text_config": {},\n'
            ' "vision_config": {"num_hidden_layers": 0}}',
            "config.json:2:20: error: vision_config.num_hidden_layers must lie between 1 and 1024, "
            "not 0",
        ),
    ],
)
def test_a_text_that_is_no_config_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    assert text_message(tmp_path, text) == expected


EXPERTS = {
    "model_type": "deepseek_v3",
    "n_routed_experts": 8,
    "moe_intermediate_size": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": "4096"}, "5:3: error: hidden_size must be an integer, not '4096'"),
        ({"hidden_size": 24.0}, "5:3: error: hidden_size must be an integer, not 24.0"),
        ({"hidden_size": True}, "5:3: error: hidden_size must be an integer, not true"),
        ({"hidden_size": None}, "5:3: error: hidden_size must be an integer, not null"),
        ({"hidden_size": -8}, "5:3: error: hidden_size must lie between 1 and 16777216, not -8"),
        (
            {"vocab_size": 10**30},
            "4:3: error: vocab_size must lie between 1 and 16777216, not "
            "1000000000000000000000000000000",
        ),
        ({"vocab_size": 10**450}, "4:3: error: vocab_size must be a finite number"),
        (
            {"num_hidden_layers": 0},
            "7:3: error: num_hidden_layers must lie between 1 and 1024, not 0",
        ),
        (
            {"num_attention_heads": 5},
            "8:3: error: hidden_size 24 is not a multiple of num_attention_heads 5",
        ),
        (
            {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 8},
            "8:3: error: hidden_size 24 is not a multiple of num_attention_heads 5",
        ),
        (
            {"num_key_value_heads": 3},
            "9:3: error: num_attention_heads 4 is not a multiple of num_key_value_heads 3",
        ),
        (
            {"head_dim": 7},
            "15:3: error: a head is 7 wide, but rotary embeddings need an even width",
        ),
        (
            {"num_attention_heads": 8},
            "8:3: error: a head is 3 wide, but rotary embeddings need an even width",
        ),
        ({"rms_norm_eps": 0}, "11:3: error: rms_norm_eps must be a positive number, not 0"),
        ({"rms_norm_eps": float("nan")}, "11:3: error: rms_norm_eps must be a finite number"),
        ({"rope_theta": -1.0}, "12:3: error: rope_theta must be a positive number, not -1.0"),
        (
            {"attention_dropout": 2.0},
            "15:3: error: attention_dropout must lie between 0 and 1, not 2.0",
        ),
        (
            {"tie_word_embeddings": "yes"},
            "13:3: error: tie_word_embeddings must be true or false, not 'yes'",
        ),
        ({"hidden_act": "sillu"}, "14:3: error: unknown hidden_act 'sillu', did you mean 'silu'?"),
        (
            {"hidden_act": "wobble"},
            "14:3: error: unknown hidden_act 'wobble', known are gelu, gelu_10, "
            "gelu_accurate, gelu_fast, gelu_new, gelu_python, gelu_python_tanh, "
            "gelu_pytorch_tanh, hardswish, laplace, leaky_relu, linear, mish, prelu, "
            "quick_gelu, relu, relu2, relu6, sigmoid, silu, sqrtsoftplus, swish, tanh, "
            "xielu",
        ),
        ({"rope_scaling": 8}, "15:3: error: rope_scaling must be an object, not 8"),
        (
            {"rope_scaling": {"rope_type": "lama3"}},
            "15:3: error: unknown rope_type 'lama3' in rope_scaling, did you mean 'llama3'?",
        ),
        (
            {"rope_scaling": {"rope_type": "spiral"}},
            "15:3: error: unknown rope_type 'spiral' in rope_scaling, known are axial, "
            "default, dynamic, linear, llama3, longrope, proportional, yarn",
        ),
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 3}},
            "15:3: error: rope_scaling of type 'longrope' lacks long_factor",
        ),
        (
            {
                "rope_scaling": {
                    "rope_type": "longrope",
                    "short_factor": [1.0],
                    "long_factor": [1.0, 2.0],
                }
            },
            "15:3: error: rope_scaling has 1 short_factor and 2 long_factor numbers",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8}},
            "15:3: error: rope_scaling of type 'llama3' lacks low_freq_factor, high_freq_factor",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": "8"}},
            "17:5: error: rope_scaling.factor must be a positive number, not '8'",
        ),
        (
            {"rope_parameters": {"full_attention": {}}},
            "15:3: error: rope_parameters is for a kind of layer (full_attention), but all "
            "layers of 'llama' are of one kind",
        ),
        (
            {"model_type": "qwen3", "rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "16:5: error: rope_parameters.full_attention of type 'yarn' lacks factor",
        ),
        (
            {"model_type": "qwen3", "rope_parameters": {"full_attention": 8}},
            "16:5: error: rope_parameters.full_attention must be an object, not 8",
        ),
        (
            {"rope_parameters": {"factor": 1}, "rope_scaling": {"factor": 2}},
            "18:3: error: rope_parameters and rope_scaling are both given",
        ),
        (
            {"torch_dtype": "bf17", "dtype": None},
            "15:3: error: unknown torch_dtype 'bf17', known are bfloat16, float16, float32",
        ),
        ({"dtype": "bfloat17"}, "3:3: error: unknown dtype 'bfloat17', did you mean 'bfloat16'?"),
        (
            {"dtype": "float64"},
            "3:3: error: dtype 'float64' is not built yet; built are bfloat16, float16, float32",
        ),
        ({"dtype": 16}, "3:3: error: unknown dtype 16, known are bfloat16, float16, float32"),
        (
            {"quantization_config": "fp8"},
            "15:3: error: quantization_config must be an object, not 'fp8'",
        ),
        (
            {"is_encoder_decoder": True},
            "15:3: error: is_encoder_decoder is true; built are decoders",
        ),
        ({"is_encoder_decoder": 1}, "15:3: error: is_encoder_decoder must be true or false, not 1"),
        (
            {"rope_thetta": 10000.0, "head_dimm": 6},
            "16:3: error: unknown key 'head_dimm', did you mean 'head_dim'?",
        ),
        (
            {"model_type": "qwen2", "layer_types": ["full_attention"]},
            "15:3: error: layer_types lists 1 layers, but num_hidden_layers is 3",
        ),
        ({"model_type": "qwen2", "layer_types": []}, "15:3: error: layer_types lists no layers"),
        (
            {"model_type": "qwen2", "layer_types": ["full_attention", "full_atention"]},
            "15:3: error: unknown layer type 'full_atention' in layer_types, did you mean "
            "'full_attention'?",
        ),
        (
            {"model_type": "qwen3", "layer_types": "full_attention"},
            "15:3: error: layer_types must be a list of strings, not 'full_attention'",
        ),
        (
            {"model_type": "qwen3", "layer_types": ["sliding_attention"] * 3},
            "15:3: error: layer_types has sliding_attention, but use_sliding_window is not true",
        ),
        (
            {
                "model_type": "ministral",
                "layer_types": ["sliding_attention"] * 3,
                "sliding_window": None,
            },
            "15:3: error: layer_types has sliding_attention, but there is no sliding_window",
        ),
        (
            {"model_type": "qwen2", "max_window_layers": -1},
            "15:3: error: max_window_layers must lie between 0 and 1024, not -1",
        ),
        (
            {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3},
            "16:3: error: num_experts_per_tok 3 is more than num_local_experts 2",
        ),
        (
            {"model_type": "mixtral", "num_local_experts": 10**6, "num_experts_per_tok": 3},
            "15:3: error: num_local_experts must lie between 0 and 8192, not 1000000",
        ),
        ({"model_type": "mixtral", "num_experts": 4}, " error: missing num_experts_per_tok"),
        (
            {**EXPERTS, "n_group": 3},
            "18:3: error: n_routed_experts 8 is not a multiple of n_group 3",
        ),
        (
            {**EXPERTS, "topk_group": 5},
            "19:3: error: topk_group must lie between 1 and n_group 4, not 5",
        ),
        (
            {**EXPERTS, "topk_group": 1, "num_experts_per_tok": 3},
            "19:3: error: topk_group 1 groups of 2 experts are fewer than the 3 chosen for a token",
        ),
        (
            {"model_type": "phi3", "partial_rotary_factor": 0},
            "15:3: error: partial_rotary_factor must be a positive number, not 0",
        ),
        (
            {"model_type": "gemma2", "query_pre_attn_scalar": 10**40},
            "15:3: error: query_pre_attn_scalar must lie between -1099511627776 and "
            "1099511627776, not 1000000000000000000000000000000000000...",
        ),
        (
            {
                "model_type": "deepseek_v3",
                "num_local_experts": 8,
                "n_routed_experts": 4,
                "moe_intermediate_size": 8,
                "num_experts_per_tok": 1,
            },
            "16:3: error: num_local_experts 8 and n_routed_experts 4 are the same size, but differ",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_where_it_stands(
    changes: Mapping[str, Any],
    expected: str,
    message: Callable[[Mapping[str, Any]], str],
) -> None:
    assert message(changes) == f"config.json:{expected}"


def test_a_dtype_that_is_not_built_is_refused_by_name(write_config: WriteConfig) -> None:
    config = dataclasses.replace(read_config(write_config({})), dtype="int8")
    with pytest.raises(UserError) as caught:
        lower_config(config, "decode")
    assert str(caught.value) == (
        "error: dtype int8 is not built yet; built are bfloat16, float16, float32"
    )


def test_what_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    assert message_of("x" * 5000).endswith("x: error: cannot be read: File name too long")
    assert message_of("/dev/null").endswith("null: error: not a file")
    locked = tmp_path / "locked.json"
    locked.write_text("{}")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):
        assert message_of(locked) == "locked.json: error: cannot be read: Permission denied"


def test_a_type_that_a_newer_transformers_knows_is_said_to_be_too_new(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer = ("9.0", frozenset({"wafernet"}))
    monkeypatch.setattr("wscc.frontend.model.config.families.installed_types", lambda: newer)
    assert text_message(tmp_path, '{"model_type": "wafernet"}') == (
        "config.json:1:2: error: model_type 'wafernet' is known to Transformers 9.0, which is "
        "installed, but not to 5.23.0, which wscc was made for"
    )
