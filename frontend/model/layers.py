"""The repeated layers of a model, and their stubs.

`cut` puts stubs in the place of all layers but one of a kind, and marks what flows between layers.
survey.py finds out which layers are equal and what flows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .attention import layer_input, layer_output, left_out, run_input, run_output

NOT_CALLED = -1

Places = tuple[int | None, ...]


@dataclass(frozen=True)
class Stack:
    """The list of repeated layers at `path`: layer `i` is of kind `kinds[i]`, and layer
    `traced[k]` stands for kind `k`. A layer that is never called has the kind NOT_CALLED.

    `runs` are the first and the last layer of every run: of called layers between which the rest
    of the model neither reads nor changes what flows.
    """

    path: str
    kinds: tuple[int, ...]
    traced: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]

    def run_of(self, layer: int) -> int:
        """The number of the run that a layer is in."""
        return next(at for at, (_, last) in enumerate(self.runs) if layer <= last)


@dataclass(frozen=True)
class Results:
    """What a kind of layer returns: its structure, and which leaves are tensors."""

    spec: Any
    leaves: tuple[Any, ...]


@dataclass(frozen=True)
class Layers:
    """A stack, the stack's number, and its modules.

    A slot is a value that flows from layer to layer. `taken[i]` are the places of all slots among
    the arguments of layer `i`, and `given[i]` those among its results; None where it has none.
    """

    number: int
    stack: Stack
    modules: nn.ModuleList
    taken: Mapping[int, Places]
    given: Mapping[int, Places]
    results: tuple[Results, ...]

    def begins(self, layer: int) -> bool:
        """Whether a layer is the first of a run."""
        return any(layer == first for first, _ in self.stack.runs)

    def ends(self, layer: int) -> bool:
        """Whether a layer is the last of a run."""
        return any(layer == last for _, last in self.stack.runs)


def flows(value: Any) -> bool:
    """Whether a value can flow from layer to layer."""
    return isinstance(value, Tensor)


class _Stub(nn.Module):
    """Stands for a layer that is not traced: hands on what it takes.

    What it yields but does not take is of the shape that its like has yielded. The attributes of
    the layer are those that it had, and so is who is told of its results.
    """

    def __init__(self, layers: Layers, at: int, seen: Mapping[int, list[Any]]) -> None:
        super().__init__()
        self._forward_hooks = layers.modules[at]._forward_hooks
        self.__dict__["_original"] = layers.modules[at]
        self.__dict__["_passed_on"] = partial(_passed_on, layers, at, seen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        arguments, _ = pytree.tree_flatten((args, kwargs))
        return self.__dict__["_passed_on"](arguments)


def _passed_on(layers: Layers, at: int, seen: Mapping[int, list[Any]], arguments: list[Any]) -> Any:
    kind = layers.stack.kinds[at]
    arguments = _marked_first(layers, at, arguments)
    taken = {
        place: arguments[source]
        for place, source in zip(layers.given[at], layers.taken[at], strict=True)
        if place is not None and source is not None
    }
    results = [
        taken[place] if place in taken else left_out(leaf, at) if flows(leaf) else leaf
        for place, leaf in enumerate(seen[kind])
    ]
    return pytree.tree_unflatten(_marked_last(layers, at, results), layers.results[kind].spec)


def cut(layers: Layers) -> None:
    """Put stubs in the place of all layers but the traced ones, and marks around those."""
    seen: dict[int, list[Any]] = {}
    for at, module in enumerate(layers.modules):
        if at in layers.stack.traced:
            module.forward = _marked(layers, at, module.forward, seen)
        elif layers.stack.kinds[at] != NOT_CALLED:
            layers.modules[at] = _Stub(layers, at, seen)


def _marked(
    layers: Layers, at: int, forward: Callable[..., Any], seen: dict[int, list[Any]]
) -> Callable[..., Any]:
    """The forward pass of a layer, with marks at the values that it takes and gives."""

    def run(*args: Any, **kwargs: Any) -> Any:
        arguments, spec = pytree.tree_flatten((args, kwargs))
        arguments = _marked_first(layers, at, arguments)
        for slot, place in enumerate(layers.taken[at]):
            if place is not None:
                arguments[place] = layer_input(arguments[place], layers.number, at, slot)
        args, kwargs = pytree.tree_unflatten(arguments, spec)
        results, out = pytree.tree_flatten(forward(*args, **kwargs))
        for slot, place in enumerate(layers.given[at]):
            if place is not None:
                results[place] = layer_output(results[place], layers.number, at, slot)
        seen[layers.stack.kinds[at]] = results
        return pytree.tree_unflatten(_marked_last(layers, at, results), out)

    return run


def _marked_first(layers: Layers, at: int, arguments: list[Any]) -> list[Any]:
    """The arguments of a layer; those of the first of a run are marked as what the run takes."""
    if not layers.begins(at):
        return arguments
    marked = list(arguments)
    for slot, place in enumerate(layers.taken[at]):
        if place is not None:
            marked[place] = run_input(marked[place], layers.number, at, slot)
    return marked


def _marked_last(layers: Layers, at: int, results: list[Any]) -> list[Any]:
    """The results of a layer; those of the last of a run are marked as what the rest of the model
    takes."""
    if not layers.ends(at):
        return results
    marked = list(results)
    for slot, place in enumerate(layers.given[at]):
        if place is not None:
            marked[place] = run_output(marked[place], layers.number, at, slot)
    return marked
