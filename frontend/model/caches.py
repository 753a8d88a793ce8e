"""Caches of any layer as plain tensors: taken out of Transformers' cache and put back.

A cache holds an object for every layer, and that object holds tensors under attributes (`keys`)
or in a table by number (`conv_states[0]`). Every such tensor has a place here; nothing is assumed
of which there are.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
)

from .aten import UnsupportedError

_NAMES = {
    "keys": "key",
    "values": "value",
    "conv_states": "conv",
    "recurrent_states": "state",
    "indexer_keys": "index",
}
"""What the tensors under an attribute are called in a source; others keep the attribute's name."""


@dataclass(frozen=True)
class Place:
    """Where a cache holds a tensor: layer, attribute, and number in a table if it is one."""

    layer: int
    attribute: str
    number: int | None = None

    @property
    def source(self) -> str:
        """The tensor's name within its layer: `key`, `conv`, and `conv.1` for a second one."""
        name = _NAMES.get(self.attribute, self.attribute)
        return f"{name}.{self.number}" if self.number else name


class _Growing:
    """Mixed into layers of keys and values: all of them are kept, whatever the window, and the
    first ones are not joined to an empty tensor."""

    def update(self: Any, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        if self.keys is None:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values, self.is_initialized = key_states, value_states, True
        else:
            self.keys = torch.cat([self.keys, key_states], dim=-2)
            self.values = torch.cat([self.values, value_states], dim=-2)
        return self.keys, self.values

    def get_seq_length(self: Any) -> int:
        return 0 if self.keys is None else self.keys.shape[-2]

    def get_mask_sizes(self: Any, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class _Starting:
    """Mixed into layers with an `update` of their own: it begins with no elements of what it gets,
    not with an empty tensor of the code's."""

    def lazy_initialization(self: Any, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[..., :0, :], value_states[..., :0, :]
        self.is_initialized = True


class _Indexing:
    """Mixed into layers with keys of an indexer, as `_Growing` is."""

    def update_indexer(self: Any, indexer_key_states: Tensor) -> Tensor:
        if self.indexer_keys is None:
            self.indexer_keys, self.is_indexer_initialized = indexer_key_states, True
        else:
            self.indexer_keys = torch.cat([self.indexer_keys, indexer_key_states], dim=1)
        return self.indexer_keys


class _Numbered:
    """Mixed into layers that keep the positions of all tokens for an indexer: these are their
    numbers, as no sequence is padded."""

    @property
    def indexer_position_ids(self: Any) -> Tensor | None:
        tokens = self.get_seq_length()
        return torch.arange(tokens).expand(3, self.keys.shape[0], tokens) if tokens else None

    @indexer_position_ids.setter
    def indexer_position_ids(self: Any, positions: Tensor | None) -> None:
        del positions


class _Renewing:
    """Mixed into layers of states: a new state takes the old one's place and is not copied in."""

    def update_conv_state(
        self: Any,
        conv_states: Tensor,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **_: Any,
    ) -> Tensor:
        size = conv_kernel_size or self.conv_kernel_size[state_idx] or conv_states.shape[-1]
        if not self.has_previous_state[state_idx]:
            full = conv_states
            if full.shape[-1] < size:
                full = F.pad(full, (size - full.shape[-1], 0))
            self.has_previous_state[state_idx] = True
        else:
            full = torch.cat([self.conv_states[state_idx], conv_states], dim=-1)
        self.dtype, self.device = full.dtype, full.device
        self.conv_kernel_size[state_idx] = size
        self.conv_states[state_idx] = full[..., -size:]
        self.is_conv_states_initialized[state_idx] = True
        return full

    def update_recurrent_state(
        self: Any, recurrent_states: Tensor, state_idx: int = 0, **_: Any
    ) -> Tensor:
        self.recurrent_states[state_idx] = recurrent_states
        self.is_recurrent_states_initialized[state_idx] = True
        return recurrent_states


_MIXED = (
    (_Growing, "update", (DynamicLayer, DynamicSlidingWindowLayer)),
    (_Starting, "lazy_initialization", (DynamicLayer, DynamicSlidingWindowLayer)),
    (_Indexing, "update_indexer", None),
    (_Numbered, "update_indexer", None),
    (_Renewing, "update_conv_state", (LinearAttentionLayer,)),
)
"""What is mixed into a layer that has a method, if the method is that of one of the classes."""


def new_cache(config: Any, more: Sequence[Any] = ()) -> DynamicCache:
    """An empty cache of a model's config, with `more` layers behind its own, whose layers are fit
    to be traced."""
    cache = DynamicCache(config=config)
    cache.layers = [_adapted_layer(layer) for layer in (*cache.layers, *more)]
    if not cache.layers:
        cache.layer_class_to_replicate = _adapted(DynamicLayer)
    return cache


def _adapted_layer(layer: Any) -> Any:
    kind: Any = _adapted(type(layer))
    made = kind.__new__(kind)
    vars(made).update(vars(layer))
    return made


def _adapted(kind: type) -> type:
    bases = tuple(
        mixin
        for mixin, name, owners in _MIXED
        if (own := getattr(kind, name, None)) is not None
        and (owners is None or any(own is getattr(owner, name) for owner in owners))
    )
    if not bases:
        return kind
    return type(kind.__name__, (*bases, kind), {})


def tensors_of(cache: DynamicCache) -> dict[Place, Tensor]:
    """Every tensor that a cache holds, layer by layer."""
    return {
        place: tensor for layer in range(len(cache.layers)) for place, tensor in _held(cache, layer)
    }


def _held(cache: DynamicCache, layer: int) -> Iterator[tuple[Place, Tensor]]:
    for name, value in vars(cache.layers[layer]).items():
        if isinstance(value, Tensor) and not name.startswith("_"):
            yield Place(layer, name), value
        elif isinstance(value, Mapping):
            for number, item in value.items():
                if isinstance(item, Tensor):
                    yield Place(layer, name, number), item
        elif isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
            raise UnsupportedError(f"a cache with a list of tensors, {name}")


@dataclass(frozen=True)
class Template:
    """A cache that a prompt of `sizes` has filled: what a step finds besides its tensors."""

    cache: DynamicCache
    tensors: Mapping[Place, Tensor]
    sizes: Mapping[str, int]

    @staticmethod
    def of(cache: DynamicCache, sizes: Mapping[str, int]) -> "Template":
        """The template of a filled cache."""
        return Template(cache, tensors_of(cache), sizes)

    def filled(self, tensors: Mapping[Place, Tensor]) -> DynamicCache:
        """The cache with other tensors in the places of its own."""
        made = copy.copy(self.cache)
        made.layers = [_copied(layer) for layer in self.cache.layers]
        for place, tensor in tensors.items():
            layer: Any = made.layers[place.layer]
            if place.number is None:
                setattr(layer, place.attribute, tensor)
            else:
                getattr(layer, place.attribute)[place.number] = tensor
        return made


def _copied(layer: Any) -> Any:
    made = copy.copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            setattr(made, name, dict(value))
    return made


def symbolic(one: Template, two: Template) -> dict[Place, dict[int, str]]:
    """The dimensions of every tensor that are a size (batch, context) and which.

    The templates differ in every size. Raises UnsupportedError where a dimension depends on a
    size in another way than being it, or where anything but a tensor's shape does.
    """
    if one.tensors.keys() != two.tensors.keys():
        raise UnsupportedError("a cache that holds other tensors for a longer prompt")
    names = {(size, two.sizes[name]): name for name, size in one.sizes.items()}
    found: dict[Place, dict[int, str]] = {}
    for place, tensor in one.tensors.items():
        pairs = [*zip(tensor.shape, two.tensors[place].shape, strict=True)]
        changed = {at: pair for at, pair in enumerate(pairs) if pair[0] != pair[1]}
        if any(pair not in names for pair in changed.values()):
            shape = tuple(tensor.shape)
            raise UnsupportedError(f"a cache {place.source} of {shape} after {dict(one.sizes)}")
        found[place] = {at: names[pair] for at, pair in changed.items()}
    for layer, (first, second) in enumerate(zip(one.cache.layers, two.cache.layers, strict=True)):
        _check_counters(layer, vars(first), vars(second))
    return found


def _check_counters(layer: int, one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    for name, value in one.items():
        if isinstance(value, int | float | str | bool) and value != two[name]:
            raise UnsupportedError(f"a cache whose {name} in layer {layer} counts tokens")
