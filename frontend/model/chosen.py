"""Projections of which every token chooses some (mixtures of attention heads), as one operator in
a trace: each choice is one product, without an activation behind it.

Known by what its modules hold, and compared with the module's own code on a small instance.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import _disable_current_modes

from .aten import UnsupportedError

_OPERATORS = torch.library.Library("wscc", "FRAGMENT")
_OPERATORS.define("chosen(Tensor x, Tensor index, Tensor weight, str indices) -> Tensor")


@torch.library.register_fake("wscc::chosen", lib=_OPERATORS)
def _chosen_shape(x: Tensor, index: Tensor, weight: Tensor, indices: str) -> Tensor:
    left, _, result = indices.partition("->")
    given = zip(left.split(","), (x, index, weight), strict=True)
    sizes = {letter: n for own, value in given for letter, n in zip(own, value.shape, strict=True)}
    return x.new_empty([sizes[letter] for letter in result])


Product = Callable[[Tensor, Tensor, Tensor, str], Tensor]
"""What carries out the operator: `torch.ops.wscc.chosen`, or `_computed` for values."""

_INTO, _OUT_OF = "th,tk,efh->tkf", "tkf,tk,eof->to"


def _computed(x: Tensor, index: Tensor, weight: Tensor, indices: str) -> Tensor:
    left, _, result = indices.partition("->")
    tokens, choice, matrix = left.split(",")
    return torch.einsum(f"{tokens},{choice}{matrix[1:]}->{result}", x, weight[index])


def _routed(module: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits = module.router.layer(x).float()
    top, index = logits.topk(module.top_k, dim=1)
    return index, torch.softmax(top, dim=1).type_as(x), logits


def _map(module: Any, product: Product, layer_input: Tensor) -> tuple[Tensor, Tensor, Any]:
    """The queries of the chosen projections (batch, sequence, chosen, width), the router's logits,
    and the choice with its weights."""
    batch, tokens, width = layer_input.shape
    x = layer_input.reshape(-1, width)
    index, gate, logits = _routed(module, x)
    queries = product(x, index, module.input_linear.weight, _INTO)
    return queries.view(batch, tokens, module.top_k, -1), logits, (index, gate)


def _reduce(module: Any, product: Product, layer_input: Tensor, topo_info: Any) -> Tensor:
    """The weighted sum of what the chosen projections make of the heads' results."""
    batch, tokens, chosen, width = layer_input.shape
    index, gate = topo_info
    scaled = layer_input.reshape(-1, chosen, width) * gate.unsqueeze(-1)
    out = product(scaled, index, module.output_linear.weight, _OUT_OF)
    return out.view(batch, tokens, -1) + module.bias


_HELD = ("input_linear", "output_linear", "router", "top_k", "map", "reduce", "bias")


def install(model: nn.Module) -> None:
    """Give every mixture of attention heads methods that are one operator for each projection.

    Raises UnsupportedError where such a mixture does not compute what it is known for.
    """
    checked: set[type] = set()
    config: Any = model.config
    for found in model.modules():
        module: Any = found
        if not all(hasattr(module, name) for name in _HELD):
            continue
        if type(module) not in checked:
            _check(type(module), config.get_text_config(decoder=True))
            checked.add(type(module))
        module.map = partial(_map, module, torch.ops.wscc.chosen)
        module.reduce = partial(_reduce, module, torch.ops.wscc.chosen)


_SMALL = {"num_local_experts": 4, "num_experts_per_tok": 2, "hidden_size": 8, "kv_channels": 2}


def _check(kind: type, config: Any) -> None:
    """Raise UnsupportedError unless our methods give on a small instance what the own ones give."""
    made = copy.deepcopy(config)
    for key, value in (_SMALL | {"num_key_value_heads": 3}).items():
        setattr(made, key, value)
    generator = torch.Generator().manual_seed(0)
    with _disable_current_modes(), torch.no_grad():
        small: Any = kind(made).float().eval()
        for parameter in small.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = torch.randn((2, 5, _SMALL["hidden_size"]), generator=generator)
        theirs, _, info = small.map(x)
        mine, _, own_info = _map(small, _computed, x)
        heads = F.silu(theirs)
        pairs = (
            (theirs, mine),
            (small.reduce(heads, info), _reduce(small, _computed, heads, own_info)),
        )
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs):
        raise UnsupportedError(f"{kind.__name__}, which computes something unknown")
