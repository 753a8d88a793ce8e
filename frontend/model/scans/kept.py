"""What a layer keeps from call to call, while its forward pass runs: new states replace old ones.

Transformers copies a new state into the tensor of the old one, and joins inputs to those that a
convolution kept. Here a new tensor takes the old one's place, and the joining is left to the
convolution itself.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..aten import UnsupportedError

Table = Literal["conv_states", "recurrent_states"]


@dataclass(frozen=True)
class Place:
    """Where a cached layer keeps a state: in one of its tables, under a number."""

    layer: Any
    table: Table
    number: int

    def held(self) -> Tensor | None:
        """What is kept from an earlier call, if anything."""
        kept = self.layer.has_previous_state.get(self.number, False)
        return getattr(self.layer, self.table).get(self.number) if kept else None

    def put(self, value: Tensor) -> None:
        getattr(self.layer, self.table)[self.number] = value
        getattr(self.layer, f"is_{self.table}_initialized")[self.number] = True

    def begin(self, value: Tensor) -> None:
        """Put a value that tells the layer that it has seen tokens."""
        self.layer.dtype, self.layer.device = value.dtype, value.device
        self.layer.has_previous_state[self.number] = True
        self.put(value)


@dataclass(frozen=True)
class Window:
    """Inputs that a convolution is to keep: `size` of them, after those that it `kept` before."""

    inputs: Tensor
    place: Place
    kept: Tensor | None
    size: int | None

    def put(self, value: Tensor) -> None:
        self.place.layer.conv_kernel_size[self.place.number] = value.shape[-1]
        self.place.begin(value)


@dataclass
class Kept:
    """Stands for the cache of a model in one layer's forward pass."""

    cache: Any
    _states: list[tuple[Tensor, Place]] = field(default_factory=list[tuple[Tensor, Place]])
    _windows: list[Window] = field(default_factory=list[Window])
    _parts: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple[Tensor, Tensor]])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self._got("conv_states", layer_idx, state_idx)

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self._got("recurrent_states", layer_idx, state_idx)

    def _got(self, table: Table, layer_idx: int, state_idx: int) -> Tensor | None:
        name = "get_conv_state" if table == "conv_states" else "get_recurrent_state"
        state = getattr(self.cache, name)(layer_idx, state_idx=state_idx)
        if state is not None:
            place = Place(self.cache.layers[layer_idx], table, state_idx)
            self._states.append((state, place))
        return state

    def update_conv_state(
        self,
        conv_states: Tensor,
        layer_idx: int,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
    ) -> Tensor:
        """The inputs as they are; what is kept of them follows when they are convolved."""
        kept = self.cache.get_conv_state(layer_idx, state_idx=state_idx)
        place = Place(self.cache.layers[layer_idx], "conv_states", state_idx)
        self._windows.append(Window(conv_states, place, kept, conv_kernel_size))
        return conv_states

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0
    ) -> Tensor:
        Place(self.cache.layers[layer_idx], "recurrent_states", state_idx).put(recurrent_states)
        return recurrent_states

    def window_of(self, inputs: Tensor) -> Window | None:
        """What is to be kept of the inputs of a convolution, if anything; asked for once."""
        for at, window in enumerate(self._windows):
            if window.inputs is inputs:
                return self._windows.pop(at)
        return None

    def renew(self, old: Tensor, new: Tensor) -> None:
        """Put a state in the place of another, or of a part of another."""
        for state, place in self._states:
            if state is old:
                place.put(new.to(old.dtype))
                return
        self._parts.append((old, new.to(old.dtype)))

    def finish(self) -> None:
        """Join states that were renewed head by head.

        Raises UnsupportedError where a layer keeps anything in a way that is not known.
        """
        if self._windows:
            raise UnsupportedError("a layer that keeps the inputs of another convolution")
        if not self._parts:
            return
        recurrent = [
            (state, place) for state, place in self._states if place.table == "recurrent_states"
        ]
        offsets = [old.storage_offset() for old, _ in self._parts]
        joined = torch.stack([new for _, new in self._parts], dim=1)
        if (
            len(recurrent) != 1
            or recurrent[0][0].shape != joined.shape
            or offsets != sorted(set(offsets))
        ):
            raise UnsupportedError("a layer that keeps its state in other parts than heads")
        recurrent[0][1].put(joined)
