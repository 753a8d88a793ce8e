"""The options that say what of a config is compiled: its parts, its dtype, what a prompt holds."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from ..ir.errors import UserError
from ..ir.expert_load import relative_load
from ..ir.graph import Part
from .pins import one_of, whole

DTYPES = ("bfloat16", "float16", "float32")
STORED_DTYPES = ("float8_e4m3fn", "int8", "int4")
"""Dtypes that weights can be kept in while the model computes in its own."""
PARTS = ("text", "all")
MAX_TOKENS = 1 << 24
MAX_PREDICTION_LAYERS = 1 << 10


@dataclass(frozen=True)
class ModelOptions:
    """What of a config is compiled, and how.

    `image_tokens` and `audio_tokens` are how many tokens of each prompt stand for images and for
    audio, with `part` "all" alone; None is one image, or one recording, of the config's own size.
    `prediction_layers` of the config's multi-token-prediction layers stand behind the model.
    `expert_load` is the relative load of every expert, None where it is balanced.
    Raises UserError for a count that is none, or that `part` "text" has no use for.
    """

    dtype: str | None = None
    part: Part = "text"
    image_tokens: int | None = None
    audio_tokens: int | None = None
    prediction_layers: int = 0
    expert_load: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("image_tokens", "audio_tokens"):
            count = getattr(self, name)
            if count is None:
                continue
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise UserError(f"{name}: {count!r} is no whole number from 0")
            if self.part != "all":
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} needs --part all: the text half takes tokens alone")
        layers = self.prediction_layers
        if not isinstance(layers, int) or isinstance(layers, bool) or layers < 0:
            raise UserError(f"prediction_layers: {layers!r} is no whole number from 0")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags of `ModelOptions`."""
    add = parser.add_argument
    add("--dtype", metavar="NAME", help="of weights and activations (the config's)")
    add(
        "--part",
        default="text",
        metavar="PART",
        help="text (default), or all of a multimodal model",
    )
    add(
        "--image-tokens",
        metavar="N",
        help="tokens of each prompt that stand for images, with --part all (one image's)",
    )
    add("--audio-tokens", metavar="N", help="the same for audio")
    add(
        "--prediction-layers",
        default="0",
        metavar="N",
        help="multi-token-prediction layers behind the model (0)",
    )
    add(
        "--expert-load",
        metavar="LIST",
        help="relative load of each expert: 3,1,1,1 or @FILE of a JSON list (balanced)",
    )


def read_model_options(values: argparse.Namespace) -> ModelOptions:
    """The options that the flags spell; raises UserError for a mistake."""
    return ModelOptions(
        dtype=_dtype(values.dtype),
        part="all" if one_of("--part", values.part, PARTS) == "all" else "text",
        image_tokens=_tokens("--image-tokens", values.image_tokens),
        audio_tokens=_tokens("--audio-tokens", values.audio_tokens),
        prediction_layers=whole(
            "--prediction-layers", values.prediction_layers, MAX_PREDICTION_LAYERS, least=0
        ),
        expert_load=_expert_load(values.expert_load),
    )


def _dtype(text: str | None) -> str | None:
    return None if text is None else one_of("--dtype", text, (*DTYPES, *STORED_DTYPES))


def _tokens(flag: str, text: str | None) -> int | None:
    return None if text is None else whole(flag, text, MAX_TOKENS, least=0)


def _expert_load(text: str | None) -> tuple[int, ...] | None:
    """The load that `3,1,1,1`, or `@` and the name of a file with a JSON list, spells."""
    if text is None:
        return None
    if not text.startswith("@"):
        return relative_load([_number(item.strip()) for item in text.split(",")])
    try:
        return relative_load(json.loads(Path(text[1:]).read_text("utf-8-sig")))
    except (OSError, ValueError) as error:
        raise UserError(f"--expert-load: {text[1:]} is no JSON list: {error}") from error


def _number(text: str) -> int | float:
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        raise UserError(f"--expert-load: '{text}' is no number") from None
