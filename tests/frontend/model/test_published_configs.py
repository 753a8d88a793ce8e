"""Configs as they were published are read, every one; and the table of families is up to date."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from wscc.frontend.model import read_config
from wscc.frontend.model.config.schema import TABLE, class_of_type, config_class, schema
from wscc.ir.errors import UserError

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("published_configs.json").read_text()
)

PARTS = {
    "gemma-3-4b": "gemma3_text",
    "kimi-k2.5": "deepseek_v3",
    "llava-1.5-7b": "llama",
    "ministral-8b": "ministral",
    "mistral-small-3.1": "mistral",
    "qwen2.5-omni-7b": "qwen2_5_omni_thinker",
    "yi-6b-early": "llama",
}
"""Families that are not the stated model type."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(PUBLISHED[name]))
    config = read_config(str(path))
    assert config.family == PARTS.get(name, PUBLISHED[name]["model_type"])
    known = class_of_type(config.family).known
    assert set(config.values) <= known
    stated = next(
        (
            PUBLISHED[name][key]
            for key in ("n_layer", "n_layers", "num_hidden_layers")
            if key in PUBLISHED[name]
        ),
        config.layers,
    )
    assert config.layers == stated
    assert read_config(str(path), "all").layers == stated


def test_every_reference_config_is_read_but_the_one_that_needs_code(reference: Path) -> None:
    refused: dict[str, str] = {}
    for path in sorted((reference / "model_configs").glob("*.json")):
        try:
            assert read_config(str(path)).layers > 0
        except UserError as error:
            refused[path.stem] = error.message
    assert refused == {
        "MiMo-7B-Base": "unknown model_type 'mimo': Transformers 5.23.0 does not have it; "
        "the nearest model_type that is built is 'mimo_v2_flash'"
    }


def test_every_class_of_the_table_is_whole() -> None:
    for name in schema().types.values():
        found = config_class(name)
        assert set(found.standard.values()) <= found.native | {"dtype"} | {*found.standard.values()}
        assert all(config_class(part.config_class) for part in found.parts.values())
    assert schema().built <= set(schema().types)
    assert not schema().built & set(schema().others)


@pytest.mark.parametrize(
    "name", ["bloom", "deepseek_v3", "gemma3", "llama", "nemotron", "qwen2_vl"]
)
def test_the_table_of_families_is_what_transformers_says(name: str) -> None:
    from wscc.frontend.model.config.make_schema import line

    if version("transformers") != schema().transformers:
        pytest.skip("the table was made with another version of Transformers")
    assert line(name) in TABLE.read_text()
