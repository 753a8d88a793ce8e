"""The repeated layers of a model: which are equal, what flows between them, and their stubs.

Two layers are equal where their modules are and where they are called alike. A survey calls the
model once: one layer of every kind is run, all others yield what their like has yielded. After it,
`cut` puts stubs in the place of all layers but one of a kind, and marks what flows between layers.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from .aten import UnsupportedError
from .attention import layer_input, layer_output, left_out

NOT_CALLED = -1

Places = tuple[int | None, ...]


@dataclass(frozen=True)
class Layers:
    """The list of repeated layers at `path`: layer `i` is of kind `kinds[i]`, and layer
    `traced[k]` stands for kind `k`. A layer that is never called has the kind NOT_CALLED.

    A slot is a value that flows from layer to layer. `taken[i]` are the places of all slots among
    the arguments of layer `i`, and `given[i]` those among its results; None where it has none.
    """

    path: str
    modules: nn.ModuleList
    kinds: tuple[int, ...]
    traced: tuple[int, ...]
    taken: Mapping[int, Places]
    given: Mapping[int, Places]
    results: tuple["Results", ...]

    @property
    def slots(self) -> int:
        return len(next(iter(self.taken.values())))

    @property
    def called(self) -> tuple[int, ...]:
        """The layers that are called, in order."""
        return tuple(at for at, kind in enumerate(self.kinds) if kind != NOT_CALLED)


@dataclass(frozen=True)
class Results:
    """What a kind of layer returns: its structure, and which leaves are tensors."""

    spec: Any
    leaves: tuple[Any, ...]


def find_layers(model: nn.Module, within: str = "") -> tuple[str, nn.ModuleList]:
    """The path and the list of the repeated layers: the longest list of blocks of modules that
    lies in no other list, and in the module `within`.

    Raises UnsupportedError for a model without one.
    """
    lists: dict[str, nn.ModuleList] = {}
    for path, module in model.get_submodule(within).named_modules(prefix=within):
        inside = any(path.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not inside and _holds_blocks(module):
            lists[path] = module
    if not lists:
        raise UnsupportedError("a model without a list of layers")
    path = max(lists, key=lambda name: len(lists[name]))
    return path, lists[path]


def _holds_blocks(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and all(next(block.children(), None) for block in modules)


_CARRIED, _INDEX = "carried", "index"
"""What stands for an argument of a layer that the layer before yields, or that is its number."""


@dataclass(frozen=True)
class _Called:
    """A call of a layer: its arguments by path, which of them the layer before yields (and as
    which of its results), and what tells it from other calls."""

    layer: int
    paths: tuple[str, ...]
    arguments: tuple[Any, ...]
    carried: Mapping[str, int]
    signature: Hashable

    def key(self, carried: Set[str]) -> Hashable:
        """Equal for layers that do the same; arguments under the paths `carried` flow."""
        described = (
            _described(value, self.layer, path in carried)
            for path, value in zip(self.paths, self.arguments, strict=True)
        )
        return self.signature, self.paths, tuple(described)


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
    """Watches one forward pass through all layers."""

    signatures: Sequence[Hashable]
    whole: bool
    calls: list[_Called] = field(default_factory=list[_Called])
    kinds: list[int] = field(default_factory=list[int])
    results: dict[int, Results] = field(default_factory=dict[int, Results])
    _keys: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    _yielded: list[Any] = field(default_factory=list[Any])

    def call(self, layer: int, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Stands for the forward pass of a layer."""
        if self.calls and layer <= self.calls[-1].layer:
            raise UnsupportedError(f"layer {layer} is called after layer {self.calls[-1].layer}")
        self.calls.append(self._called(layer, args, kwargs))
        if len(self.calls) == 2:
            self._settle_first()
        kind = self._kind(self.calls[-1])
        self.kinds.append(kind)
        if kind not in self.results:
            leaves, out = pytree.tree_flatten(forward(*args, **kwargs))
            self.results[kind] = Results(out, tuple(leaves))
        self._yielded = [
            torch.empty_like(leaf) if isinstance(leaf, Tensor) else leaf
            for leaf in self.results[kind].leaves
        ]
        return pytree.tree_unflatten(self._yielded, self.results[kind].spec)

    def _called(self, layer: int, args: Any, kwargs: Any) -> _Called:
        found, _ = pytree.tree_flatten_with_path((args, kwargs))
        paths = tuple(pytree.keystr(path) for path, _ in found)
        arguments = tuple(value for _, value in found)
        carried = {
            path: at
            for path, value in zip(paths, arguments, strict=True)
            for at, given in enumerate(self._yielded)
            if _flows(value) and _flows(given) and _is_same(value, given)
        }
        return _Called(layer, paths, arguments, carried, self.signatures[layer])

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
        if not self.calls:
            raise UnsupportedError("layers that are not called")
        if len(self.calls) == 1:
            (call,) = self.calls
            tensors = [p for p, x in zip(call.paths, call.arguments, strict=True) if _flows(x)]
            results = dict.fromkeys(tensors[:1], 0)
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
                at if at < len(leaves) and _flows(leaves[at]) else None for at in results.values()
            )
        return [*results], taken, given


def _flows(value: Any) -> bool:
    return isinstance(value, Tensor)


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
    if not _flows(call.arguments[at]):
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
) -> Layers:
    """The layers in the module `within` of a model, seen in one `forward` pass of it.

    `per_layer(i)` is what else tells layer `i` from another; `whole` takes no two for equal.
    """
    path, modules = find_layers(model, within)
    shared = _shared_parameters(modules)
    signatures = [
        (_signature(module, shared), per_layer(at), _choice(module, at, shared))
        for at, module in enumerate(modules)
    ]
    watch = _Survey(signatures, whole)
    for at, module in enumerate(modules):
        module.forward = _watched(watch, at, module.forward)
    try:
        forward()
    finally:
        for module in modules:
            del module.forward
    _, taken, given = watch.slots()
    kinds = [NOT_CALLED] * len(modules)
    for call, kind in zip(watch.calls, watch.kinds, strict=True):
        kinds[call.layer] = kind
    return Layers(
        path,
        modules,
        tuple(kinds),
        tuple(kinds.index(kind) for kind in range(max(kinds) + 1)),
        taken,
        given,
        tuple(watch.results[kind] for kind in range(max(kinds) + 1)),
    )


def _watched(watch: _Survey, at: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: watch.call(at, forward, args, kwargs)


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


class _Stub(nn.Module):
    """Stands for a layer that is not traced: hands on what it takes.

    What it yields but does not take is of the shape that its like has yielded. The attributes of
    the layer are those that it had.
    """

    def __init__(self, layers: Layers, at: int, seen: Mapping[int, list[Any]]) -> None:
        super().__init__()
        self.__dict__["_original"] = layers.modules[at]
        self.__dict__["_passed_on"] = partial(_passed_on, layers, at, seen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        arguments, _ = pytree.tree_flatten((args, kwargs))
        return self.__dict__["_passed_on"](arguments)


def _passed_on(layers: Layers, at: int, seen: Mapping[int, list[Any]], arguments: list[Any]) -> Any:
    kind = layers.kinds[at]
    taken = {
        place: arguments[source]
        for place, source in zip(layers.given[at], layers.taken[at], strict=True)
        if place is not None and source is not None
    }
    results = [
        taken[place] if place in taken else left_out(leaf, at) if _flows(leaf) else leaf
        for place, leaf in enumerate(seen[kind])
    ]
    return pytree.tree_unflatten(_marked_last(layers, at, results), layers.results[kind].spec)


def cut(layers: Layers) -> None:
    """Put stubs in the place of all layers but the traced ones, and marks around those."""
    seen: dict[int, list[Any]] = {}
    for at, module in enumerate(layers.modules):
        if at in layers.traced:
            module.forward = _marked(layers, at, module.forward, seen)
        elif layers.kinds[at] != NOT_CALLED:
            layers.modules[at] = _Stub(layers, at, seen)


def _marked(
    layers: Layers, at: int, forward: Callable[..., Any], seen: dict[int, list[Any]]
) -> Callable[..., Any]:
    """The forward pass of a layer, with marks at the values that it takes and gives."""

    def run(*args: Any, **kwargs: Any) -> Any:
        arguments, spec = pytree.tree_flatten((args, kwargs))
        for slot, place in enumerate(layers.taken[at]):
            if place is not None:
                arguments[place] = layer_input(arguments[place], at, slot)
        args, kwargs = pytree.tree_unflatten(arguments, spec)
        results, out = pytree.tree_flatten(forward(*args, **kwargs))
        for slot, place in enumerate(layers.given[at]):
            if place is not None:
                results[place] = layer_output(results[place], at, slot)
        seen[layers.kinds[at]] = results
        return pytree.tree_unflatten(_marked_last(layers, at, results), out)

    return run


def _marked_last(layers: Layers, at: int, results: list[Any]) -> list[Any]:
    """The results of a layer; those of the last are marked as what the rest of the model takes."""
    if at != layers.called[-1]:
        return results
    marked = list(results)
    for slot, place in enumerate(layers.given[at]):
        if place is not None:
            marked[place] = layer_input(marked[place], len(layers.kinds), slot)
    return marked
