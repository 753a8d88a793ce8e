"""Indexers that select the tokens which attention sees, kept symbolic in a trace.

Transformers takes `min(index_topk, keys)` of the keys. Where the number of keys is a symbol that
would fix which of the two is smaller; the graph says `index_topk`, and its operators take fewer
where there are fewer (arXiv 2512.02556, section 2.1).
"""

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from . import block_indexer

_OPERATORS = torch.library.Library("wscc", "FRAGMENT")
_OPERATORS.define("topk(Tensor self, int k, int dim) -> (Tensor, Tensor)")


@torch.library.register_fake("wscc::topk", lib=_OPERATORS)
def _topk_shape(value: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    """Values and places of k elements, as if there were so many."""
    shape = [*value.shape]
    shape[dim] = k
    return value.new_empty(shape), value.new_empty(shape, dtype=torch.int64)


_SELECTING: ContextVar[bool] = ContextVar("selecting", default=False)


def _least(*values: Any, **named: Any) -> Any:
    """`min`, but inside an indexer a number is less than a symbol."""
    if _SELECTING.get() and len(values) == 2 and not named:
        numbers = [value for value in values if not isinstance(value, torch.SymInt)]
        if len(numbers) == 1:
            return numbers[0]
    return builtins.min(*values, **named)


class _Selection(TorchFunctionMode):
    """Inside, top-k of a symbolic number of elements is an operator that does not ask whether
    there are as many."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in (torch.topk, Tensor.topk):
            value, k, *rest = (*args, *(named.pop(name) for name in ("k",) if name in named))
            dim = rest[0] if rest else named.get("dim", -1)
            if isinstance(k, int) and isinstance(value.shape[dim], torch.SymInt):
                return torch.return_types.topk(torch.ops.wscc.topk(value, k, dim))
        return func(*args, **(kwargs or {}))


@contextmanager
def _selecting() -> Iterator[None]:
    token = _SELECTING.set(True)
    try:
        with _Selection():
            yield
    finally:
        _SELECTING.reset(token)


def _selected(forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    with _selecting():
        return forward(*args, **named)


def install(model: nn.Module) -> None:
    """Keep the selection of every indexer of a model, a module that states its `index_topk`,
    symbolic in the number of keys; those that select blocks lose their loops."""
    block_indexer.install(model)
    for module in model.modules():
        if isinstance(getattr(module, "index_topk", None), int):
            code: Any = sys.modules[type(module).__module__]
            code.min = _least
            module.forward = partial(_selected, module.forward)
