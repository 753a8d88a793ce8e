"""What a multimodal model is given besides tokens: images and recordings that make as many tokens
of a prompt as are asked for.

How an image becomes tokens is a matter of each model's preprocessing, which no config states. Six
ways are known, told apart by what a model's forward pass takes; each is one function here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from itertools import count, product
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ...ir.errors import UserError
from .aten import UnsupportedError
from .concrete import TEXT, Known, note_full

_WIDEST = 200
"""The largest ratio of an image's sides: the preprocessing of Qwen's models refuses any other."""

_GRID = 16
"""Tokens of an image's side where a config has no size of its own: 448 pixels of Qwen2-VL."""

_SOFT_TOKENS = 280
"""Tokens of an image where a config does not say: `max_soft_tokens` of Gemma 4's preprocessing."""

_FRAMES = 3000
"""Frames of a recording of 30 s, what Whisper's encoder takes: 10 ms each."""

_IMAGE_TYPE, _AUDIO_TYPE = 1, 3
"""What `mm_token_type_ids` of Transformers' processors are; text is 0."""


@dataclass(frozen=True)
class Features:
    """What the images and recordings of a step are: `data` are the shapes of tensors of numbers,
    `known` the tensors that say how to read those, by their names in the forward pass.

    `images` and `audio` are the tokens of each prompt that stand for them, `prompts` the tokens of
    all prompts (batch, sequence): images first, then recordings, then text.
    """

    data: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    known: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    images: int = 0
    audio: int = 0
    prompts: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens of each prompt that are no text."""
        return self.images + self.audio

    def arguments(self, tensors: Mapping[str, Tensor], known: Known) -> dict[str, Tensor]:
        """The arguments of the forward pass, `tensors` being those of `data`."""
        for tensor in tensors.values():
            note_full(tensor)
        return {**tensors, **{name: known.known(value) for name, value in self.known.items()}}

    def of_prompts(self, config: Any, batch: int, sequence: int) -> Tensor:
        """The prompts, with the tokens that a config has for images and audio."""
        row = [_token(config, "image")] * self.images if self.images else []
        row += [_token(config, "audio")] * self.audio if self.audio else []
        row += [TEXT] * (sequence - len(row))
        return torch.tensor([row] * batch)

    def types(self, batch: int, sequence: int) -> Tensor:
        """What each token of the prompts stands for, as processors say it."""
        row = [_IMAGE_TYPE] * self.images + [_AUDIO_TYPE] * self.audio
        row += [0] * (sequence - len(row))
        return torch.tensor([row] * batch)


def features_of(
    model: nn.Module,
    sizes: Mapping[str, int],
    wanted: tuple[int | None, int | None],
    mode: Any,
) -> Features:
    """The images and recordings of prompts, `wanted` being how many tokens are to stand for them.

    Raises UserError for a number of tokens that no image makes, and UnsupportedError for a model
    whose images or recordings are of no known kind.
    """
    images, audio = Features(), Features()
    batch, sequence = sizes["batch"], sizes["sequence"]
    maker = _Maker(model, batch, mode)
    if "pixel_values" in maker.taken and maker.has("vision_config", "image_config"):
        if wanted[0] != 0:
            images = _image_maker(maker.taken)(maker, wanted[0])
    elif wanted[0]:
        raise UserError(f"--image-tokens {wanted[0]}: {maker.name} takes no images")
    if "input_features" in maker.taken and maker.has("audio_config"):
        if wanted[1] != 0:
            audio = _recordings(maker, wanted[1])
    elif wanted[1]:
        raise UserError(f"--audio-tokens {wanted[1]}: {maker.name} takes no audio")
    made = Features(
        {**images.data, **audio.data},
        {**images.known, **audio.known},
        images.images,
        audio.audio,
    )
    if made.tokens > sequence:
        raise UserError(
            f"a prompt of {sequence} tokens is shorter than the {made.tokens} of its images and "
            "audio: --sequence, --image-tokens and --audio-tokens say how many there are"
        )
    known = dict(made.known)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in maker.taken:
            known[name] = made.types(batch, sequence)
    if "cross_attention_mask" in maker.taken and "pixel_values" in images.data:
        tiles = images.data["pixel_values"][2]
        known["cross_attention_mask"] = torch.ones((batch, sequence, 1, tiles), dtype=torch.int64)
    prompts = made.of_prompts(maker.config, batch, sequence)
    return Features(made.data, known, made.images, made.audio, prompts)


def _token(config: Any, modality: str) -> int:
    for name in (f"{modality}_token_id", f"{modality}_token_index"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    raise UnsupportedError(f"a model without a token that stands for {modality}")


@dataclass(frozen=True)
class _Maker:
    """What the ways of making features know of a model."""

    model: Any
    batch: int
    mode: Any

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def name(self) -> str:
        return self.config.model_type

    @property
    def vision(self) -> Any:
        return getattr(self.config, "vision_config", None) or self.config.image_config

    @property
    def taken(self) -> Mapping[str, Any]:
        return signature(self.model.forward).parameters

    def has(self, *names: str) -> bool:
        """Whether the config has one of several parts."""
        return any(getattr(self.config, name, None) is not None for name in names)

    @property
    def channels(self) -> int:
        names = ("in_channels", "in_chans", "num_channels")
        return next((n for name in names if (n := getattr(self.vision, name, None))), 3)

    @property
    def side(self) -> tuple[int, int]:
        """The height and the width of an image in pixels."""
        size = getattr(self.vision, "image_size", None) or getattr(self.config, "image_size", None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple) and len(size) == 2:
            return int(size[0]), int(size[1])
        raise UnsupportedError(f"images of {self.name}, whose config has no size of them")

    @property
    def patch(self) -> int:
        size = self.vision.patch_size
        return size if isinstance(size, int) else int(size[0])

    def count(self, features: Features, modality: str = "image") -> int:
        """How many tokens features make, by making the model's own."""
        make = self._method(f"get_{modality}_features")
        known = Known()
        with torch.no_grad(), self.mode, known:
            tensors = {
                name: torch.ones(shape, dtype=self.model.dtype)
                for name, shape in features.data.items()
            }
            arguments = features.arguments(tensors, known)
            taken = signature(make).parameters
            made = make(**{name: x for name, x in arguments.items() if name in taken})
        if getattr(made, "pooler_output", None) is not None:
            made = made.pooler_output
        else:
            made = getattr(made, "last_hidden_state", made)
        parts = made if isinstance(made, list | tuple) else [made]
        return sum(part.numel() // part.shape[-1] for part in parts)

    def _method(self, name: str) -> Callable[..., Any]:
        """A method of the model, or of the part of it that does the work."""
        owner = getattr(self.model, self.model.base_model_prefix or "model", self.model)
        for holder in (owner, getattr(self.model, "model", self.model), self.model):
            found = getattr(holder, name, None)
            if found is not None:
                kinds = {p.kind for p in signature(found).parameters.values()}
                if Parameter.VAR_POSITIONAL not in kinds:
                    return found
        raise UnsupportedError(f"{self.name} without {name}")


def _image_maker(taken: Mapping[str, Any]) -> Callable[[_Maker, int | None], Features]:
    for name, make in _IMAGES.items():
        if name in taken:
            return make
    raise UnsupportedError("images of an unknown kind")


def _grids(maker: _Maker, tokens: int | None) -> Features:
    """Patches of an image of any size in a row, and how many there are along its sides.

    Qwen2-VL and what follows it: tokens are blocks of `spatial_merge_size` squared patches.
    """
    vision = maker.vision
    merge = vision.spatial_merge_size
    if tokens is None:
        places = getattr(vision, "num_position_embeddings", None)
        side = isqrt(places) // merge if places else _GRID
        rows, columns = side, side
    else:
        rows, columns = _rectangle(tokens, maker.name)
    depth = getattr(vision, "temporal_patch_size", 1)
    patches = rows * columns * merge**2
    width = maker.channels * depth * maker.patch**2
    grid = torch.tensor([[1, rows * merge, columns * merge]] * maker.batch)
    data = {"pixel_values": (maker.batch * patches, width)}
    return Features(data, {"image_grid_thw": grid}, images=rows * columns)


def _positions(maker: _Maker, tokens: int | None) -> Features:
    """Patches of an image of any size, and where each lies.

    Gemma 4: tokens are blocks of `pooling_kernel_size` squared patches.
    """
    pool = maker.vision.pooling_kernel_size
    count = _SOFT_TOKENS if tokens is None else tokens
    rows, columns = _rectangle(count, maker.name)
    places = [[x, y] for y, x in product(range(rows * pool), range(columns * pool))]
    patches = rows * columns * pool**2
    shape = (maker.batch, patches, maker.channels * maker.patch**2)
    where = torch.tensor([places] * maker.batch)
    return Features({"pixel_values": shape}, {"image_position_ids": where}, images=count)


def _sized(maker: _Maker, tokens: int | None) -> Features:
    """Images and their sizes.

    Pixtral and Mistral 3 take any size: tokens are blocks of patches. LLaVA-NeXT cuts an image
    into tiles by its size, which is one of `image_grid_pinpoints`.
    """
    if getattr(maker.config, "image_grid_pinpoints", None):
        return _tiled(maker, tokens)
    merge = getattr(maker.config, "spatial_merge_size", 1)
    tower = getattr(getattr(maker.model, "model", maker.model), "vision_tower", maker.model)
    if "image_sizes" not in signature(tower.forward).parameters:
        return _fixed(maker, tokens)
    block = maker.patch * merge
    if tokens is None:
        rows, columns = maker.side[0] // block, maker.side[1] // block
    else:
        rows, columns = _rectangle(tokens, maker.name, maker.side[0] // block)
    shape = (maker.batch, maker.channels, rows * block, columns * block)
    sizes = torch.tensor([[rows * block, columns * block]] * maker.batch)
    return Features({"pixel_values": shape}, {"image_sizes": sizes}, images=rows * columns)


def _tiled(maker: _Maker, tokens: int | None) -> Features:
    """An image as a whole and in tiles, its size one of those that the config lists."""
    height, width = maker.side
    found: dict[int, Features] = {}
    for rows, columns in maker.config.image_grid_pinpoints:
        tiles = 1 + (rows // height) * (columns // width)
        shape = (maker.batch, tiles, maker.channels, height, width)
        sizes = torch.tensor([[rows, columns]] * maker.batch)
        made = Features({"pixel_values": shape}, {"image_sizes": sizes})
        each = maker.count(made) // maker.batch
        made = Features(made.data, made.known, images=each)
        if tokens in (None, each):
            return made
        found[each] = made
    raise _impossible("image", tokens or 0, maker.name, iter(sorted(found)))


def _fixed(maker: _Maker, tokens: int | None) -> Features:
    """Images of one size, each as many tokens as any other."""
    stacked = "pixel_attention_mask" in maker.taken
    height, width = maker.side

    def made(images: int) -> Features:
        shape = (maker.channels, height, width)
        first = (maker.batch, images) if stacked else (maker.batch * images,)
        return Features({"pixel_values": (*first, *shape)})

    each = maker.count(made(1)) // maker.batch
    images = 1 if tokens is None else tokens // each
    if tokens is not None and (tokens % each or not images):
        raise _impossible("image", tokens, maker.name, count(each, each))
    return Features(made(images).data, images=images * each)


def _crossed(maker: _Maker, tokens: int | None) -> Features:
    """One image of a prompt in tiles, which layers attend to beside the prompt.

    Llama 3.2: its tokens are the patches of all tiles, with a class token each.
    """
    vision = maker.vision
    tiles = vision.max_num_tiles
    height, width = maker.side
    each = (height // maker.patch) * (width // maker.patch) + 1
    if tokens not in (None, tiles * each):
        raise _impossible("image", tokens or 0, maker.name, iter([tiles * each]))
    shape = (maker.batch, 1, tiles, maker.channels, height, width)
    ratios = vision.supported_aspect_ratios
    whole = next(at for at, (a, b) in enumerate(ratios) if a * b == tiles)
    known = {
        "aspect_ratio_ids": torch.full((maker.batch, 1), whole + 1),
        "aspect_ratio_mask": torch.ones((maker.batch, 1, tiles), dtype=torch.int64),
    }
    return Features({"pixel_values": shape}, known, images=0)


_IMAGES: Mapping[str, Callable[[_Maker, int | None], Features]] = {
    "image_grid_thw": _grids,
    "image_position_ids": _positions,
    "aspect_ratio_ids": _crossed,
    "image_sizes": _sized,
    "pixel_values": _fixed,
}
"""The ways in which models take images, by an argument of the forward pass that tells each."""


def _recordings(maker: _Maker, tokens: int | None) -> Features:
    """Recordings of 30 s as spectra, each as many tokens as any other."""
    audio = maker.config.audio_config
    bands = next(
        n
        for name in ("num_mel_bins", "input_feat_size", "n_mels")
        if (n := getattr(audio, name, None))
    )
    masks = [name for name in maker.taken if name in _MASKS]

    def made(recordings: int) -> Features:
        frames = 2 * getattr(audio, "max_source_positions", _FRAMES // 2)
        number = maker.batch * recordings
        shape = (number, bands, frames)
        if "input_features_mask" in masks:
            shape = (number, frames, bands)
        known = {name: torch.ones((number, frames), dtype=_MASKS[name]) for name in masks}
        return Features({"input_features": shape}, known)

    each = _recording_tokens(maker, made(1))
    recordings = 1 if tokens is None else tokens // each
    if tokens is not None and (tokens % each or not recordings):
        raise _impossible("audio", tokens, maker.name, count(each, each))
    found = made(recordings)
    return Features(found.data, found.known, audio=recordings * each)


_MASKS = {"feature_attention_mask": torch.int64, "input_features_mask": torch.bool}
"""Arguments that say which frames of a recording there are, and their dtypes."""


def _recording_tokens(maker: _Maker, made: Features) -> int:
    """Tokens of one recording: what the encoder says of its length, else what it makes."""
    owner = getattr(maker.model, "model", maker.model)
    lengths = getattr(getattr(owner, "audio_tower", None), "_get_feat_extract_output_lengths", None)
    if "feature_attention_mask" in made.known and lengths is not None:
        _, found = lengths(torch.tensor(made.data["input_features"][-1]))
        return int(found)
    return maker.count(made, "audio") // maker.batch


def _rectangle(tokens: int, name: str, longest: int = 1 << 24) -> tuple[int, int]:
    """The rows and columns of so many tokens, as near to a square as can be."""
    if (found := _sides(tokens, longest)) is not None:
        return found
    possible = (n for n in count(1) if _sides(n, longest) is not None)
    raise _impossible("image", tokens, name, possible)


def _sides(tokens: int, longest: int) -> tuple[int, int] | None:
    for rows in range(isqrt(tokens), 0, -1):
        columns, rest = divmod(tokens, rows)
        if not rest:
            return (rows, columns) if columns <= min(longest, _WIDEST * rows) else None
    return None


def _impossible(what: str, tokens: int, name: str, possible: Iterator[int]) -> UserError:
    """The error for a number of tokens that is not one of the `possible` ones, which ascend."""
    below: int | None = None
    above: int | None = None
    for found in possible:
        if found > tokens:
            above = found
            break
        below = found
    near = " and ".join(str(found) for found in (below, above) if found is not None)
    return UserError(
        f"--{what}-tokens {tokens}: {name} makes no such number of tokens, nearest are {near}"
    )
