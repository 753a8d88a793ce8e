"""Values that are known while a model is traced: the sizes of images, where a prompt's tokens stand
for them, positions.

A model that takes images computes with such values, and what it does depends on them. `Known`
computes them with real numbers and lets the trace see a constant where one meets a value that is
not known: a tensor of the model, or of the prompt.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from .aten import UnsupportedError

_OPERATORS = torch.library.Library("wscc", "FRAGMENT")
_OPERATORS.define("constant(int number, int[] shape, ScalarType dtype) -> Tensor")


@torch.library.register_fake("wscc::constant", lib=_OPERATORS)
def _constant_shape(number: int, shape: list[int], dtype: torch.dtype) -> Tensor:
    del number
    return torch.empty(shape, dtype=dtype)


_VALUE, _TOKENS = "_wscc_value", "_wscc_tokens"
"""Attributes of a traced tensor: the numbers that it holds; the numbers of a prompt's tokens."""

TEXT = -1
"""Stands for a token of which nothing is known but that it is text."""

_MADE = frozenset({"arange", "as_tensor", "eye", "linspace", "tensor"})
_FILLED = frozenset({"full", "ones", "zeros"})
"""Functions that make tensors of nothing; the second group counts where they make integers."""

_COMPARED: Mapping[str, Callable[..., Tensor]] = {
    "eq": torch.eq,
    "__eq__": torch.eq,
    "ne": torch.ne,
    "__ne__": torch.ne,
    "isin": torch.isin,
}
_KEPT = frozenset({"clone", "contiguous", "detach", "to"})
_LIKE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "expand_as": lambda value, like: value.expand(like.shape),
    "reshape_as": lambda value, like: value.reshape(like.shape),
    "type_as": lambda value, like: value.to(like.dtype),
    "view_as": lambda value, like: value.reshape(like.shape),
}
"""Functions that take of their second tensor only what is known of any."""

_SIZED = frozenset(
    {
        "arange",
        "expand",
        "narrow",
        "repeat",
        "reshape",
        "select",
        "split",
        "split_with_sizes",
        "tile",
        "unflatten",
        "view",
    }
)
"""Functions to which an integer in a tensor is a size or a place."""


_FULL = "_wscc_full"
"""Attribute of a traced tensor no number of which is zero."""

_RESHAPED = frozenset({"contiguous", "float", "reshape", "to", "type", "view"})


def note_full(tensor: Tensor) -> None:
    """Say that no number of a tensor is zero: an image that is there, and no padding."""
    setattr(tensor, _FULL, True)


def note_tokens(ids: Tensor, tokens: Tensor) -> None:
    """Say what is known of a prompt: the numbers of its tokens, TEXT for any of text."""
    setattr(ids, _TOKENS, tokens)


class Known(TorchFunctionMode):
    """Inside, what follows from known values alone is computed, and constants where it ends.

    `constants` are the values that the trace has taken as constants, by their numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.constants: list[Tensor] = []
        self._numbers: dict[str, int] = {}

    def known(self, value: Tensor) -> Tensor:
        """A real tensor as the model may take it."""
        handle: Any = self._constant(value)
        setattr(handle, _VALUE, value)
        handle.tolist = partial(_listed, value)  # that of fake tensors goes by their elements
        return handle

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        named = kwargs or {}
        name = getattr(func, "__name__", "")
        tensors = [*_tensors((args, named))]
        values = [value_of(tensor) for tensor in tensors]
        if tensors and all(value is not None for value in values):
            return self._computed(func, args, named, tensors)
        if not tensors and _makes(name, named):
            return self._computed(func, args, named, tensors)
        if tensors and (tokens := getattr(tensors[0], _TOKENS, None)) is not None:
            if name in _COMPARED:
                return self._compared(name, tokens, args)
            if name in _KEPT:
                result = func(*args, **named)
                setattr(result, _TOKENS, tokens)
                return result
        if tensors and getattr(tensors[0], _FULL, False):
            if name in ("eq", "__eq__") and args[1] == 0:
                with _really():
                    nowhere = torch.zeros(tuple(tensors[0].shape), dtype=torch.bool)
                return self.known(nowhere)
            if name in _RESHAPED:
                result = func(*args, **named)
                note_full(result)
                return result
        if not any(value is not None for value in values):
            return func(*args, **named)
        return self._mixed(func, name, args, named)

    def _computed(self, func: Any, args: Any, named: Any, tensors: list[Tensor]) -> Any:
        """The result of a function of known values."""
        handles = {id(value_of(tensor)): tensor for tensor in tensors}
        with _really():
            args, named = _mapped((args, named), _real)
            result = func(*args, **named)
            if getattr(func, "__name__", "") == "__iter__":
                result = list(result)

        def shown(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return handles.get(id(value)) if id(value) in handles else self.known(value)

        made = pytree.tree_map(shown, result)
        return iter(made) if getattr(func, "__name__", "") == "__iter__" else made

    def _compared(self, name: str, tokens: Tensor, args: Any) -> Tensor:
        with _really():
            (others,) = _mapped(args[1:], _real)
            return_value = _COMPARED[name](tokens, others)
        return self.known(return_value)

    def _mixed(self, func: Any, name: str, args: Any, named: Any) -> Any:
        """The result of a function of known values and others."""
        first: Any = args[0] if args else None
        if name in _LIKE and value_of(first) is not None:
            with _really():
                made = _LIKE[name](_real(first), args[1])
            return self.known(made)
        if _changes(name) and value_of(first) is not None:
            self._forget(first)
        if name == "masked_scatter":
            return self._scattered(*args, **named)
        if name in ("__getitem__", "__setitem__") and _masks(args[1]):
            return self._masked(func, args)
        sized = name in _SIZED

        def met(value: Any, place: bool = False) -> Any:
            real = value_of(value)
            if real is None:
                return value
            if (sized or place) and real.numel() == 1 and not real.dtype.is_floating_point:
                with _really():
                    return int(real)
            return self._constant(real)

        return func(*_mapped(args, met), **_mapped(named, met))

    def _forget(self, handle: Tensor) -> None:
        """A known value that something unknown goes into is not known any more."""
        value = _real(handle)
        delattr(handle, _VALUE)
        del handle.tolist
        handle.copy_(self._constant(value))

    def _scattered(self, into: Tensor, mask: Tensor, source: Tensor) -> Tensor:
        """`into`, with `source` where the mask says, which must be the same places of every row."""
        found = value_of(mask)
        if found is None or found.dim() != into.dim():
            raise UnsupportedError("features that are put where the values of tensors say")
        start, stop = _span(_rows(found))
        shape = (into.shape[0], stop - start, *into.shape[2:])
        parts = [into[:, :start], source.reshape(shape).to(into.dtype), into[:, stop:]]
        return torch.cat([part for part in parts if part.shape[1]], dim=1)

    def _masked(self, func: Any, args: Any) -> Any:
        """An access to the elements that a known mask says."""
        tensor, index, *rest = args
        mask, *more = index if isinstance(index, tuple) else (index,)
        value = _real(mask)
        span = _span_of(value)
        if span is not None and value.dim() == 1:
            return func(tensor, (slice(*span), *more), *rest)
        if span is not None and not (value.dim() > 2 and rest):
            start, stop = span
            part = tensor[:, start:stop]
            if not rest:
                return part.flatten(0, value.dim() - 1)[(slice(None), *more)]
            (given,) = rest
            if isinstance(given, Tensor) and given.dim() == tensor.dim() - 1:
                given = given.reshape(part.shape)
            tensor[:, start:stop] = given
            return None
        with _really():
            places = value.nonzero(as_tuple=True)
        found = tuple(self._constant(place) for place in places)
        return func(tensor, (*found, *more), *rest)

    def _constant(self, value: Tensor) -> Tensor:
        """The operator that stands for a value in the trace."""
        with _really():
            kept = value.detach().clone().contiguous()
            row = kept.reshape(-1).as_strided((kept.numel(),), (1,))
            data = bytes(row.view(torch.uint8).numpy().data) if kept.numel() else b""
        digest = hashlib.sha256(f"{kept.dtype} {tuple(kept.shape)}".encode() + data).hexdigest()
        number = self._numbers.setdefault(digest, len(self.constants))
        if number == len(self.constants):
            self.constants.append(kept)
        return torch.ops.wscc.constant(number, list(kept.shape), kept.dtype)


@contextmanager
def _really() -> Iterator[None]:
    """Inside, functions compute with numbers: nothing is traced."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


def _listed(value: Tensor) -> Any:
    with _really():
        return value.tolist()


def _makes(name: str, named: Mapping[str, Any]) -> bool:
    """Whether a function of that name makes known values of nothing."""
    if name in _MADE:
        return True
    dtype = named.get("dtype")
    if isinstance(dtype, torch.dtype):
        return name in _FILLED and not dtype.is_floating_point
    return name in _FILLED and dtype in (int, bool)


def _changes(name: str) -> bool:
    """Whether a function changes its first argument."""
    if name.startswith("__"):
        return name in ("__setitem__", "__iadd__", "__isub__", "__imul__", "__iand__", "__ior__")
    return name.endswith("_")


def _masks(index: Any) -> bool:
    """Whether an index begins with a known mask."""
    first = index[0] if isinstance(index, tuple) and index else index
    value = value_of(first)
    return value is not None and value.dtype == torch.bool and value.dim() > 0


def _span_of(mask: Tensor) -> tuple[int, int] | None:
    """The places that a mask has in every row, None where it says more than those."""
    try:
        return _span(_rows(mask))
    except UnsupportedError:
        return None


def _rows(mask: Tensor) -> Tensor:
    """A mask (rows, places, ...) without the dimensions behind, along which it must not change; one
    of places alone as a single row."""
    with _really():
        if mask.dim() == 1:
            return mask[None]
        seen = mask.reshape(*mask.shape[:2], -1)
        if not bool((seen == seen[..., :1]).all()):
            raise UnsupportedError("features that take a part of a token's embedding")
        return seen[..., 0]


def _span(mask: Tensor) -> tuple[int, int]:
    """The places, from the first to behind the last, that a mask (rows, places) has in every row.

    Raises UnsupportedError where they differ or do not lie one behind the other.
    """
    with _really():
        row = mask[0]
        places = row.nonzero()[:, 0]
        if not len(places) or not bool((mask == row).all()):
            raise UnsupportedError("prompts of which one has images where another has none")
        start, stop = int(places[0]), int(places[-1]) + 1
    if stop - start != len(places):
        raise UnsupportedError("features that lie apart in the prompt")
    return start, stop


def value_of(value: Any) -> Tensor | None:
    """The numbers that a tensor is known to hold, None for any other."""
    return getattr(value, _VALUE, None) if isinstance(value, Tensor) else None


def _real(value: Any, place: bool = False) -> Any:
    del place
    known = value_of(value)
    return value if known is None else known


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in arguments, those in slices too."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors([*values.values()])
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, slice):
        yield from _tensors([values.start, values.stop, values.step])


def _mapped(values: Any, change: Callable[..., Any], place: bool = False) -> Any:
    """Arguments with every tensor changed; `change` is told of those in slices."""
    if isinstance(values, Tensor):
        return change(values, place)
    if isinstance(values, Mapping):
        return {key: _mapped(value, change, place) for key, value in values.items()}
    if isinstance(values, list | tuple) and not hasattr(values, "_fields"):
        made = [_mapped(value, change, place) for value in values]
        return made if isinstance(values, list) else tuple(made)
    if isinstance(values, slice):
        ends = (values.start, values.stop, values.step)
        return slice(*(_mapped(end, change, True) for end in ends))
    return values
