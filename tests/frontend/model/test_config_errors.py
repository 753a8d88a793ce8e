"""A mistake in a config is one message: what is wrong, where, and what would be right."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import lower_config, read_config
from wscc.ir.errors import UserError

WriteConfig = Callable[[Mapping[str, Any]], str]

BUILT = "built are llama, mistral, qwen2, qwen3"


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
        ('{"a": NaN}', "config.json: error: not valid JSON: NaN is not a number of JSON"),
        (b"\xff\xfe\x00", "config.json: error: not a text file in UTF-8"),
        ("[" * 100_000, "config.json: error: not a config: nested too deeply"),
        ("[]", "config.json:1:1: error: not a config: a list instead of an object"),
        ('"llama"', "config.json:1:1: error: not a config: a string instead of an object"),
        ("null", "config.json:1:1: error: not a config: null instead of an object"),
        ("3", "config.json:1:1: error: not a config: a number instead of an object"),
        ("true", "config.json:1:1: error: not a config: true instead of an object"),
        ("{}", f"config.json: error: no model_type; {BUILT}"),
        (
            '{\n  "model_type": 3\n}',
            "config.json:2:3: error: model_type must be a string, not 3",
        ),
        (
            '{"model_type": "lama"}',
            "config.json:1:2: error: unknown model_type 'lama', did you mean 'llama'?",
        ),
        (
            '{"model_type": "wafernet"}',
            f"config.json:1:2: error: unknown model_type 'wafernet', {BUILT}",
        ),
        (
            '{"model_type": "mixtral"}',
            f"config.json:1:2: error: model_type 'mixtral' is not built yet; {BUILT}",
        ),
        (
            '{"model_type": "t5"}',
            f"config.json:1:2: error: model_type 't5' is not built yet; {BUILT}",
        ),
        (
            '{"model_type": "wafernet", "auto_map": {"AutoConfig": "c.C"}}',
            "config.json:1:28: error: model_type 'wafernet' needs code that comes with the model "
            f"(auto_map), and such code is never run; {BUILT}",
        ),
        (
            '{"model_type": "llama", "vocab_size": 8}',
            "config.json: error: missing hidden_size, intermediate_size, num_attention_heads, "
            "num_hidden_layers",
        ),
        (
            '{"model_type": "qwen2", "hiden_size": 8, "vocab_size": 8, "intermediate_size": 8, '
            '"num_attention_heads": 2, "num_hidden_layers": 1}',
            "config.json: error: missing hidden_size, num_key_value_heads; hiden_size is given, "
            "did you mean 'hidden_size'?",
        ),
    ],
)
def test_a_text_that_is_no_config_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    assert text_message(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": "4096"}, "5:3: error: hidden_size must be an integer, not '4096'"),
        ({"hidden_size": 24.0}, "5:3: error: hidden_size must be an integer, not 24.0"),
        ({"hidden_size": True}, "5:3: error: hidden_size must be an integer, not True"),
        ({"hidden_size": None}, "5:3: error: hidden_size must be an integer, not None"),
        ({"hidden_size": -8}, "5:3: error: hidden_size must lie between 1 and 16777216, not -8"),
        (
            {"vocab_size": 10**30},
            "4:3: error: vocab_size must lie between 1 and 16777216, not "
            "1000000000000000000000000000000",
        ),
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
        (
            {"rms_norm_eps": 0},
            "11:3: error: rms_norm_eps must be a positive number, not 0",
        ),
        (
            {"tie_word_embeddings": "yes"},
            "13:3: error: tie_word_embeddings must be true or false, not 'yes'",
        ),
        ({"hidden_act": "sillu"}, "14:3: error: unknown hidden_act 'sillu', did you mean 'silu'?"),
        (
            {"hidden_act": "mish"},
            "14:3: error: hidden_act 'mish' is not built yet; built are gelu, gelu_new, "
            "gelu_pytorch_tanh, quick_gelu, relu, sigmoid, silu, swish, tanh",
        ),
        ({"rope_scaling": 8}, "15:3: error: rope_scaling must be an object, not 8"),
        (
            {"rope_scaling": {"rope_type": "lama3"}},
            "15:3: error: unknown rope_type 'lama3', did you mean 'llama3'?",
        ),
        (
            {"rope_scaling": {"rope_type": "longrope"}},
            "15:3: error: rope_type 'longrope' is not built yet; built are default, linear, "
            "llama3, yarn",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8}},
            "15:3: error: rope_scaling of type 'llama3' lacks low_freq_factor, high_freq_factor, "
            "original_max_position_embeddings",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": "8"}},
            "15:3: error: rope_scaling.factor must be a positive number, not '8'",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "15:3: error: rope_parameters.partial_rotary_factor is not built yet",
        ),
        (
            {"rope_parameters": {"full_attention": {}}},
            "15:3: error: rope_parameters for a kind of layer (full_attention) are not built yet",
        ),
        (
            {"rope_parameters": {"factor": 1}, "rope_scaling": {"factor": 1}},
            "18:3: error: rope_parameters and rope_scaling are both given",
        ),
        (
            {"torch_dtype": "bf17", "dtype": None},
            "15:3: error: unknown torch_dtype 'bf17', known are bfloat16, float16, float32",
        ),
        ({"dtype": "bfloat17"}, "3:3: error: unknown dtype 'bfloat17', did you mean 'bfloat16'?"),
        (
            {"dtype": "float8_e4m3fn"},
            "3:3: error: dtype 'float8_e4m3fn' is not built yet; built are bfloat16, float16, "
            "float32",
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            "15:3: error: quantized weights (fp8) are not built yet",
        ),
        (
            {"is_encoder_decoder": True},
            "15:3: error: encoder-decoder models are not built yet",
        ),
        (
            {"rope_thetta": 10000.0, "head_dimm": 6},
            "16:3: error: unknown key 'head_dimm', did you mean 'head_dim'?",
        ),
        (
            {"model_type": "qwen2", "layer_types": ["full_attention"]},
            "15:3: error: layer_types lists 1 layers, but num_hidden_layers is 3",
        ),
        (
            {"model_type": "qwen2", "layer_types": ["full_attention", "full_atention"]},
            "15:3: error: unknown layer type 'full_atention', did you mean 'full_attention'?",
        ),
        (
            {"model_type": "qwen3", "layer_types": "full_attention"},
            "15:3: error: layer_types must be a list, not 'full_attention'",
        ),
        (
            {"model_type": "qwen3", "layer_types": ["sliding_attention"] * 3},
            "15:3: error: layer_types has sliding_attention, but use_sliding_window is not true",
        ),
        (
            {"model_type": "qwen2", "use_sliding_window": True},
            "15:3: error: use_sliding_window is true, but there is no sliding_window and no "
            "max_window_layers",
        ),
        (
            {"model_type": "qwen2", "max_window_layers": -1},
            "15:3: error: max_window_layers must be an integer from 0 on, not -1",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_where_it_stands(
    changes: Mapping[str, Any],
    expected: str,
    message: Callable[[Mapping[str, Any]], str],
) -> None:
    assert message(changes) == f"config.json:{expected}"


def test_a_phase_or_dtype_that_is_not_built_is_refused_by_name(write_config: WriteConfig) -> None:
    import dataclasses

    config = read_config(write_config({}))
    with pytest.raises(UserError) as caught:
        lower_config(config, "train")
    assert str(caught.value) == "error: phase train is not built yet; built are prefill, decode"
    with pytest.raises(UserError) as caught:
        lower_config(dataclasses.replace(config, dtype="int8"), "decode")
    assert str(caught.value) == (
        "error: dtype int8 is not built yet; built are bfloat16, float16, float32"
    )


def test_what_a_config_leaves_out_is_said_in_the_log(
    write_config: WriteConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = write_config({"model_type": "mistral", "dtype": None, "flavour": "mint"})
    assert read_config(path).dtype == "bfloat16"
    assert [record.getMessage() for record in caplog.records] == [
        "key 'flavour' is not used",
        f"{path}: no sliding_window, Transformers takes 4096",
        f"{path}: no dtype, bfloat16 assumed",
    ]


def test_custom_code_of_a_known_type_is_left_aside(write_config: WriteConfig) -> None:
    config = read_config(write_config({"auto_map": {"AutoConfig": "c.C"}}))
    assert "auto_map" not in config.values


def test_a_model_is_called_as_it_says_or_as_its_folder_or_file(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    assert read_config(write_config({"_name_or_path": "maker/tiny-8b"})).name == "tiny-8b"
    path = Path(write_config({}))
    assert read_config(str(path)).name == path.parent.name
    assert read_config(str(path.parent)).name == path.parent.name
    (tmp_path / "own.json").write_text(path.read_text())
    assert read_config(str(tmp_path / "own.json")).name == "own"


def test_null_means_what_it_means_to_transformers(write_config: WriteConfig) -> None:
    changes = {"num_key_value_heads": None, "head_dim": None, "rope_scaling": None}
    values = read_config(write_config({"model_type": "mistral", "sliding_window": None, **changes}))
    assert values.values["num_key_value_heads"] == 4
    assert values.values["sliding_window"] is None
    assert not {"head_dim", "rope_scaling"} & set(values.values)


def test_a_config_is_read_without_torch_or_transformers(write_config: WriteConfig) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from wscc.frontend.model import read_config, trace_key; "
        f"trace_key(read_config({json.dumps(write_config({}))}), 'decode'); "
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
