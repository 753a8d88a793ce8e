"""What the lists of repeated layers of a model are: which layers are equal, what flows between.

Two layers are equal where their modules are and where they are called alike. A survey calls the
model once: one layer of every kind is run, all others yield what their like has yielded.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .aten import UnsupportedError
from .layers import NOT_CALLED, Layers, Places, Results, Stack, flows


def find_layers(model: nn.Module, within: str = "") -> list[tuple[str, nn.ModuleList]]:
    """The paths and the lists of what may be the repeated layers, the longest first: lists of
    blocks of modules that lie in no other list, and in the module `within`.

    Raises UnsupportedError for a model without one.
    """
    lists = _lists(model.get_submodule(within), within)
    if not lists:
        raise UnsupportedError("a model without a list of layers")
    return sorted(lists.items(), key=lambda item: -len(item[1]))


def find_towers(model: nn.Module, text: str) -> dict[str, nn.ModuleList]:
    """The lists of blocks outside the module `text`, by path: those of a model's towers."""
    inside = f"{text}."
    found = _lists(model, "")
    return {path: modules for path, modules in found.items() if not path.startswith(inside)}


def _lists(module: nn.Module, prefix: str) -> dict[str, nn.ModuleList]:
    """The lists of blocks of modules that lie in no other list."""
    lists: dict[str, nn.ModuleList] = {}
    for path, found in module.named_modules(prefix=prefix):
        inside = any(path.startswith(f"{outer}.") for outer in lists)
        if isinstance(found, nn.ModuleList) and not inside and _holds_blocks(found):
            lists[path] = found
    return lists


def _holds_blocks(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and all(next(block.children(), None) for block in modules)


_CARRIED, _INDEX = "carried", "index"
"""What stands for an argument of a layer that the layer before yields, or that is its number."""


@dataclass(frozen=True)
class _Called:
    """A call of a layer: its arguments by path, which of them are slots (and as which of the
    results of the layer before they come), and what tells it from other calls.

    `begins` says that the model makes what the layer takes, if only of what the one before yields.
    """

    layer: int
    paths: tuple[str, ...]
    arguments: tuple[Any, ...]
    carried: Mapping[str, int]
    begins: bool
    signature: Hashable

    def key(self, carried: Set[str]) -> Hashable:
        """Equal for layers that do the same; arguments under the paths `carried` flow."""
        described = (
            _described(value, self.layer, path in carried)
            for path, value in zip(self.paths, self.arguments, strict=True)
        )
        return self.signature, self.paths, tuple(described)

    def takes(self, path: str, value: Any) -> bool:
        """Whether it is called with that very tensor under a path."""
        return path in self.paths and self.arguments[self.paths.index(path)] is value


def _described(value: Any, layer: int, carried: bool) -> Hashable:
    """An argument, such that layers that are called alike have equal ones."""
    if isinstance(value, Tensor):
        return (_CARRIED, value.dtype, tuple(value.shape)) if carried else ("tensor", id(value))
    if isinstance(value, int) and not isinstance(value, bool) and value == layer:
        return _INDEX
    if isinstance(value, str | int | float | bool | None):
        return type(value).__name__, value
    return "object", id(value)


@dataclass
class _Survey:
    """Watches one forward pass through all layers of a list.

    `read` are the calls whose results the model reads, and `refused` says why the list's layers
    cannot be told from the rest of the model.
    """

    signatures: Sequence[Hashable]
    whole: bool
    calls: list[_Called] = field(default_factory=list[_Called])
    kinds: list[int] = field(default_factory=list[int])
    results: dict[int, Results] = field(default_factory=dict[int, Results])
    read: set[int] = field(default_factory=set[int])
    refused: str = ""
    running: bool = False
    _keys: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    _yielded: list[Any] = field(default_factory=list[Any])
    _kept: list[Any] = field(default_factory=list[Any])
    _owners: dict[StorageWeakRef, int] = field(default_factory=dict[StorageWeakRef, int])

    def call(self, layer: int, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands for the forward pass of a layer."""
        if self.calls and layer <= self.calls[-1].layer:
            self.refused = f"layers called again: layer {layer} after layer {self.calls[-1].layer}"
        if self.refused:
            return forward(*args, **kwargs)
        self.calls.append(self._called(layer, args, kwargs))
        if len(self.calls) == 2:
            self._settle_first()
        kind = self._kind(self.calls[-1])
        self.kinds.append(kind)
        if kind not in self.results:
            self.running = True
            leaves, out = pytree.tree_flatten(forward(*args, **kwargs))
            self.running = False
            self.results[kind] = Results(out, tuple(leaves))
        self._yielded = [
            torch.empty_like(leaf) if isinstance(leaf, Tensor) else leaf
            for leaf in self.results[kind].leaves
        ]
        self._kept += self._yielded
        for storage in _storages(self._yielded):
            self._owners[storage] = len(self.calls) - 1
        return pytree.tree_unflatten(self._yielded, self.results[kind].spec)

    def note(self, storages: Set[StorageWeakRef]) -> None:
        """The model reads tensors."""
        self.read.update(self._owners[storage] for storage in storages & self._owners.keys())

    def _called(self, layer: int, args: Any, kwargs: Any) -> _Called:
        found, _ = pytree.tree_flatten_with_path((args, kwargs))
        paths = tuple(pytree.keystr(path) for path, _ in found)
        arguments = tuple(value for _, value in found)
        carried = {
            path: at
            for path, value in zip(paths, arguments, strict=True)
            for at, given in enumerate(self._yielded)
            if flows(value) and flows(given) and _is_same(value, given)
        }
        made = self._made(dict(zip(paths, arguments, strict=True)), carried)
        return _Called(layer, paths, arguments, carried | made, bool(made), self.signatures[layer])

    def _made(self, arguments: Mapping[str, Any], carried: Mapping[str, int]) -> dict[str, int]:
        """The slots of a layer that the model fills with something else than what the layer
        before has yielded: what earlier layers take so, or the first tensor that is like a result
        and was not given to the layer before."""
        if not self.calls:
            return {}
        before = self.calls[-1]
        known = {path: at for call in self.calls for path, at in call.carried.items()}
        fresh = {
            path: value
            for path, value in arguments.items()
            if flows(value) and path not in carried and not before.takes(path, value)
        }
        found = {path: known[path] for path in fresh if path in known}
        if carried or found:
            return found
        at = next((at for at, leaf in enumerate(self._yielded) if flows(leaf)), None)
        if at is None:
            return {}
        like = self._yielded[at]
        alike = (p for p, x in fresh.items() if (x.shape, x.dtype) == (like.shape, like.dtype))
        return dict.fromkeys([*alike][:1], at)

    def _settle_first(self) -> None:
        """The first layer takes from the embedding what the second takes from the first."""
        self._keys = {self.calls[0].key(self.calls[1].carried.keys()): 0}

    def _kind(self, call: _Called) -> int:
        key = call.layer if self.whole else call.key(call.carried.keys())
        return self._keys.setdefault(key, len(self._keys))

    def slots(self) -> tuple[list[str], dict[int, Places], dict[int, Places]]:
        """The paths of all slots, and where every called layer takes and gives them.

        Raises UnsupportedError where layers do not chain.
        """
        if self.refused:
            raise UnsupportedError(self.refused)
        if not self.calls:
            raise UnsupportedError("layers that are not called")
        if len(self.calls) == 1:
            results = self._only_slot(self.calls[0])
        else:
            results = {path: at for call in self.calls for path, at in call.carried.items()}
        if not results:
            raise UnsupportedError("layers of which none takes what the one before yields")
        first = self.calls[0]
        taken, given = dict[int, Places](), dict[int, Places]()
        for call, kind in zip(self.calls, self.kinds, strict=True):
            carried = results.keys() if call is first else call.carried.keys()
            taken[call.layer] = tuple(_place(call, path, carried) for path in results)
            leaves = self.results[kind].leaves
            given[call.layer] = tuple(
                at if at < len(leaves) and flows(leaves[at]) else None for at in results.values()
            )
        return [*results], taken, given

    def _only_slot(self, call: _Called) -> dict[str, int]:
        """The slot of a single layer: the first tensor, if the first result is like it."""
        tensors = [(p, x) for p, x in zip(call.paths, call.arguments, strict=True) if flows(x)]
        leaf: Any = next(iter(self.results[0].leaves), None)
        if not tensors or not flows(leaf) or tensors[0][1].shape != leaf.shape:
            return {}
        return {tensors[0][0]: 0}

    def runs(self) -> tuple[tuple[int, int], ...]:
        """The first and the last layer of every run: of layers between which the model does
        nothing."""
        found: list[tuple[int, int]] = []
        for at, call in enumerate(self.calls):
            if not found or call.begins or at - 1 in self.read:
                found.append((call.layer, call.layer))
            found[-1] = found[-1][0], call.layer
        return tuple(found)


class _Reading(TorchFunctionMode):
    """Tells surveys which results of layers are read outside of the layers.

    Views of a result do not count, but what reads them does.
    """

    def __init__(self, watches: Sequence[_Survey]) -> None:
        super().__init__()
        self.watches = watches

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        made = _storages(result)
        read = _storages((args, kwargs)) - made
        if read and (result is None or made):
            for watch in self.watches:
                if not watch.running:
                    watch.note(read)
        return result


def _storages(values: Any) -> set[StorageWeakRef]:
    return {
        StorageWeakRef(leaf.untyped_storage())
        for leaf in pytree.tree_leaves(values)
        if isinstance(leaf, Tensor)
    }


def _is_same(value: Tensor, other: Tensor) -> bool:
    """Whether a tensor is another one, or a view of all of it."""
    if value is other:
        return True
    alike = value.shape == other.shape and value.stride() == other.stride()
    storages = StorageWeakRef(value.untyped_storage()), StorageWeakRef(other.untyped_storage())
    return alike and value.dtype == other.dtype and storages[0] == storages[1]


def _place(call: _Called, path: str, carried: Set[str]) -> int | None:
    """Where a layer takes a slot; None if it does not."""
    if path not in call.paths:
        return None
    at = call.paths.index(path)
    if not flows(call.arguments[at]):
        return None
    if path not in carried:
        raise UnsupportedError(f"layer {call.layer} takes {path} from another than the one before")
    return at


def survey(
    model: nn.Module,
    within: str,
    forward: Callable[[], Any],
    per_layer: Callable[[int], Hashable],
    whole: bool,
    towers: bool = False,
) -> tuple[Layers, ...]:
    """The layers in the module `within` of a model, those of its longest list that a `forward`
    pass calls, and with `towers` those of every other list of layers that are called once and in
    order.

    `per_layer(i)` is what else tells layer `i` from another; `whole` takes no two for equal.
    """
    *longer, last = find_layers(model, within)
    for text in longer:
        found = _surveyed(text, model, within, forward, per_layer, whole, towers)
        if found is not None:
            return found
    found = _surveyed(last, model, within, forward, per_layer, whole, towers)
    if found is None:
        raise UnsupportedError("layers that are not called")
    return found


def _surveyed(
    text: tuple[str, nn.ModuleList],
    model: nn.Module,
    within: str,
    forward: Callable[[], Any],
    per_layer: Callable[[int], Hashable],
    whole: bool,
    towers: bool,
) -> tuple[Layers, ...] | None:
    """What `survey` yields if the layers are those of the list `text`; None if none is called."""
    lists = [text, *(find_towers(model, within) if towers else {}).items()]
    watches = [
        _Survey(_signatures(modules, per_layer if path == text[0] else _nothing), whole)
        for path, modules in lists
    ]
    with _watching(lists, watches), _Reading(watches):
        forward()
    if not watches[0].calls:
        return None
    found = [_layers(0, *text, watches[0])]
    for (path, modules), watch in zip(lists[1:], watches[1:], strict=True):
        try:
            found.append(_layers(len(found), path, modules, watch))
        except UnsupportedError:
            continue
    return tuple(found)


def _nothing(layer: int) -> Hashable:
    del layer
    return None


@contextmanager
def _watching(lists: Sequence[tuple[str, nn.ModuleList]], watches: Sequence[_Survey]) -> Any:
    """Inside, calls of the layers in `lists` go to the survey of their list."""
    for (_, modules), watch in zip(lists, watches, strict=True):
        for at, module in enumerate(modules):
            module.forward = partial(_watched, watch, at, module.forward)
    try:
        yield
    finally:
        for _, modules in lists:
            for module in modules:
                del module.forward


def _watched(
    watch: _Survey, at: int, forward: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    return watch.call(at, forward, args, kwargs)


def _layers(number: int, path: str, modules: nn.ModuleList, watch: _Survey) -> Layers:
    """What a survey has found of a list; raises UnsupportedError where its layers do not chain."""
    _, taken, given = watch.slots()
    kinds = [NOT_CALLED] * len(modules)
    for call, kind in zip(watch.calls, watch.kinds, strict=True):
        kinds[call.layer] = kind
    traced = tuple(kinds.index(kind) for kind in range(max(kinds) + 1))
    results = tuple(watch.results[kind] for kind in range(max(kinds) + 1))
    stack = Stack(path, tuple(kinds), traced, watch.runs())
    return Layers(number, stack, modules, taken, given, results)


def _signatures(modules: nn.ModuleList, per_layer: Callable[[int], Hashable]) -> list[Hashable]:
    shared = _shared_parameters(modules)
    return [
        (_signature(module, shared), per_layer(at), _choice(module, at, shared))
        for at, module in enumerate(modules)
    ]


def _shared_parameters(modules: nn.ModuleList) -> dict[int, str]:
    """Parameters that several layers hold, and the first name of each in the list."""
    first: dict[int, str] = {}
    shared: dict[int, str] = {}
    for at, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            found = first.setdefault(id(parameter), f"{at}.{name}")
            if found.partition(".")[0] != str(at):
                shared[id(parameter)] = found
    return shared


def _choice(layer: nn.Module, at: int, shared: Mapping[int, str]) -> int | None:
    """The number of a layer that shares parameters: by it the layer may choose among them."""
    return at if any(id(parameter) in shared for parameter in layer.parameters()) else None


def _signature(layer: nn.Module, shared: Mapping[int, str]) -> Hashable:
    """All that a layer's computation may depend on: classes, plain attributes, shapes."""
    modules = tuple(
        (path, type(module).__qualname__, _plain_attributes(module))
        for path, module in layer.named_modules()
    )
    tensors = tuple(
        (name, tuple(tensor.shape), str(tensor.dtype), shared.get(id(tensor)))
        for name, tensor in (*layer.named_parameters(), *layer.named_buffers())
    )
    return modules, tensors


def _plain_attributes(module: nn.Module) -> Hashable:
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in sorted(vars(module).items())
        if _is_plain(value) and not name.startswith("_") and name not in _NUMBERS
    )


_NUMBERS = ("layer_idx", "layer_id", "layer_index", "idx", "block_idx", "training")
"""Attributes that say which layer it is, and not what it does."""


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return isinstance(value, str | int | float | bool | None)
