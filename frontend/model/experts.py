"""Mixtures of experts as one operator in a trace.

Transformers calls `mix` where a model is built with `experts_implementation="wscc"`. Experts that
do not use its interface get a forward pass of ours by `install`: each kind is known by what its
modules hold, and compared with the module's own code on a small instance.
"""

import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import _disable_current_modes
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from ...ir.graph import Op, TensorType
from ...ir.operators.experts import experts
from . import chosen
from .aten import UnsupportedError
from .gates import gate_of, recorded

IMPLEMENTATION = "wscc"

_LOG = logging.getLogger(__name__)

_OPERATORS = torch.library.Library("wscc", "FRAGMENT")
_OPERATORS.define(
    "experts(Tensor x, Tensor index, Tensor weight, Tensor up, Tensor down, Tensor? up_bias,"
    " Tensor? down_bias, str expr, str up_letters, str down_letters, int total) -> Tensor"
)


@torch.library.register_fake("wscc::experts", lib=_OPERATORS)
def _experts_shape(x: Tensor, index: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    """(tokens, width) to (tokens, out)."""
    del index, weight
    down, letters = rest[1], rest[6]
    return x.new_empty((*x.shape[:-1], down.shape[letters.index("o")]))


Run = Callable[..., Tensor]
"""What carries out the operator: `torch.ops.wscc.experts`, or `compute` where values are wanted."""


def compute(
    x: Tensor,
    index: Tensor,
    weight: Tensor,
    up: Tensor,
    down: Tensor,
    up_bias: Tensor | None,
    down_bias: Tensor | None,
    expr: str,
    up_letters: str,
    down_letters: str,
    total: int,
) -> Tensor:
    """The value of `wscc::experts`, by the reference of the graph's operator."""
    biases = {"up_bias": up_bias, "down_bias": down_bias}
    given = {name: bias for name, bias in biases.items() if bias is not None}
    pair = "c" if "c" in up_letters else ""
    if pair:
        up = _paired(up, up_letters)
        given = {
            k: _paired(v, _bias(up_letters)) if k == "up_bias" else v for k, v in given.items()
        }
    letters = ["th", "tk", "tk", up_letters, down_letters]
    letters += [_bias(up_letters) if name == "up_bias" else "eo" for name in given]
    values = [x, index, weight, up, down, *given.values()]
    attributes = {
        "indices": f"{','.join(letters)}->to",
        "expr": expr,
        "expert": "e",
        "pair": pair,
        "total": total,
        "inner": down.shape[down_letters.index("f")],
        "extras": tuple(given),
    }
    dtype = str(x.dtype).removeprefix("torch.")
    type_ = TensorType(dtype, (x.shape[0], down.shape[down_letters.index("o")]))
    names = tuple(f"operand{at}" for at in range(len(values)))
    return experts(Op("experts", names, ("result",), (type_,), attributes), values)[0]


def _bias(up_letters: str) -> str:
    return up_letters.replace("h", "")


def _paired(value: Tensor, letters: str) -> Tensor:
    """A weight or bias with its pairs in a dimension of their own."""
    first = min(letters.index("c"), letters.index("f"))
    sizes = (2, -1) if letters[first] == "c" else (-1, 2)
    return value.unflatten(first, sizes)


def letters_of(gated: bool, interleaved: bool, transposed: bool) -> tuple[str, str]:
    """The dimensions of both weights: `c` the pair, `f` the inner width, `h` that of a token."""
    inner = ("fc" if interleaved else "cf") if gated else "f"
    return (f"eh{inner}", "efo") if transposed else (f"e{inner}h", "eof")


def mix(
    module: nn.Module,
    hidden_states: Tensor,
    top_k_index: Tensor,
    top_k_weights: Tensor,
    run: Run | None = None,
) -> Tensor:
    """Experts as Transformers calls them: x (tokens, width), the choice and its weights (tokens,
    chosen), result (tokens, width).

    Raises UnsupportedError for an activation that is no expression.
    """
    experts: Any = module
    gated = bool(experts.has_gate)
    gate = gate_of(module, gated)
    names = ("gate_up_proj" if gated else "up_proj", "down_proj")
    weights = [getattr(experts, name) for name in names]
    biases = [getattr(experts, f"{n}_bias") if experts.has_bias else None for n in names]
    letters = letters_of(gated, gate.interleaved, bool(experts.is_transposed))
    call = partial(
        run or torch.ops.wscc.experts,
        up=weights[0],
        down=weights[1],
        up_bias=biases[0],
        down_bias=biases[1],
        expr=gate.expr,
        up_letters=letters[0],
        down_letters=letters[1],
        total=experts.num_experts,
    )
    if not experts.has_post_expert_norm:
        return call(hidden_states, top_k_index, top_k_weights)
    tokens = hidden_states.unsqueeze(1).expand(-1, top_k_index.shape[-1], -1)
    out = _apart(tokens, top_k_index, call)
    return (experts.post_expert_norm(out) * top_k_weights.unsqueeze(-1)).sum(1).to(out.dtype)


def _apart(x: Tensor, index: Tensor, call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Every choice by itself: x (tokens, chosen, width), index (tokens, chosen), result (tokens,
    chosen, out)."""
    chosen = index.reshape(-1, 1)
    out = call(x.reshape(-1, x.shape[-1]), chosen, torch.ones_like(chosen, dtype=x.dtype))
    return out.reshape(*index.shape, -1)


def _concatenated(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, run: Run
) -> Tensor:
    """Weights as the interface has them, gate and value in halves (Step 3.7)."""
    gate = recorded(_gate_function(module), 2, type(module).__name__)
    up_letters, down_letters = letters_of(True, gate.interleaved, False)
    return run(
        hidden_states,
        top_k_index,
        top_k_weights,
        module.gate_up_proj,
        module.down_proj,
        None,
        None,
        gate.expr,
        up_letters,
        down_letters,
        module.num_experts,
    )


def _gate_function(module: Any) -> Callable[[Tensor], Tensor]:
    def halves(value: Tensor) -> Tensor:
        gate, up = value.chunk(2, dim=-1)
        return module.act_fn(gate) * up

    return getattr(module, "_apply_gate", halves)


def _with_identities(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, run: Run
) -> Tensor:
    """Experts of which the last ones return what they are given (LongCat-Flash): these are no
    weights, and a choice of them costs no product."""
    real, total = module.num_routed_experts, module.total_experts
    weights = top_k_weights.to(hidden_states.dtype)
    idle = (weights * (top_k_index >= real)).sum(-1, keepdim=True)
    unchanged = hidden_states * idle.to(hidden_states.dtype)
    if not real:
        return unchanged
    gate = recorded(_gate_function(module), 2, type(module).__name__)
    up_letters, down_letters = letters_of(True, gate.interleaved, False)
    out = run(
        hidden_states,
        top_k_index,
        top_k_weights,
        module.gate_up_proj[:real],
        module.down_proj,
        None,
        None,
        gate.expr,
        up_letters,
        down_letters,
        total,
    )
    return out + unchanged


def _three_weights(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, run: Run
) -> Tensor:
    """Gate, value and second weight apart, all (experts times inner, width) (DBRX)."""
    mlp = module.mlp
    shape = (module.num_experts, module.ffn_hidden_size, module.hidden_size)
    up = torch.stack([mlp.w1.view(shape), mlp.v1.view(shape)], dim=1).flatten(1, 2)

    def halves(value: Tensor) -> Tensor:
        gate, up = value.chunk(2, dim=-1)
        return mlp.activation_fn(gate) * up

    gate = recorded(halves, 2, type(module).__name__)
    out = run(
        hidden_states.reshape(-1, module.hidden_size),
        top_k_index,
        top_k_weights,
        up,
        mlp.w2.view(shape),
        None,
        None,
        gate.expr,
        "ecfh",
        "efo",
        module.num_experts,
    )
    return out.view(hidden_states.shape[0], -1, module.hidden_size)


def _sorted_tokens(module: Any, layer_input: Tensor, run: Run) -> Tensor:
    """A whole block with its router, whose tokens are sorted by expert (JetMoE)."""
    batch, tokens, width = layer_input.shape
    x = layer_input.reshape(-1, width)
    values, index = module.router.layer(x).float().topk(module.router.top_k, dim=1)

    def halves(value: Tensor) -> Tensor:
        gate, up = value.chunk(2, dim=-1)
        return module.activation(gate) * up

    gate = recorded(halves, 2, type(module).__name__)
    up_letters, down_letters = letters_of(True, gate.interleaved, False)
    out = run(
        x,
        index,
        torch.softmax(values, dim=1).type_as(x),
        module.input_linear.weight,
        module.output_linear.weight,
        None,
        None,
        gate.expr,
        up_letters,
        down_letters,
        module.router.num_experts,
    )
    return out.view(batch, tokens, width) + module.bias


def _scaled_tokens(module: Any, hidden_states: Tensor, run: Run) -> tuple[Tensor, Tensor]:
    """A whole block that scales what goes into an expert, and runs every token through every
    expert, most of them scaled by zero (Llama 4): only the chosen ones are run."""
    experts = module.experts
    x = hidden_states.reshape(-1, module.hidden_dim)
    logits = F.linear(x, module.router.weight, module.router.bias)
    values, index = torch.topk(logits, module.top_k, dim=1)
    scores = torch.sigmoid(values.float()).to(x.dtype)

    def halves(value: Tensor) -> Tensor:
        gate, up = value.chunk(2, dim=-1)
        return up * experts.act_fn(gate)

    gate = recorded(halves, 2, type(module).__name__)
    call = partial(
        run,
        up=experts.gate_up_proj,
        down=experts.down_proj,
        up_bias=None,
        down_bias=None,
        expr=gate.expr,
        up_letters="ehcf",
        down_letters="efo",
        total=module.num_experts,
    )
    routed = _apart(x.unsqueeze(1) * scores.unsqueeze(-1), index, call).sum(1)
    return module.shared_expert(x) + routed, logits


@dataclass(frozen=True)
class _Variant:
    """Experts outside the interface, known by what their modules hold.

    `parameters` are those of the module's own forward pass, in whose place `forward` is put, and
    `sizes` the sizes of a small instance, by the keys of its config.
    """

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    forward: Callable[..., Any]
    sizes: Mapping[str, int]

    def matches(self, module: nn.Module) -> bool:
        """Whether a module holds all names, outside the interface, and is called as expected."""
        return (
            not hasattr(module, "has_gate")
            and all(_held(module, name) is not None for name in self.names)
            and tuple(inspect.signature(type(module).forward).parameters)[1:] == self.parameters
        )

    def check(self, module: nn.Module, config: Any) -> None:
        """Raise UnsupportedError unless `forward` gives on a small instance what the module's
        own code gives."""
        generator = torch.Generator().manual_seed(0)
        with _disable_current_modes(), torch.no_grad():
            small: Any = type(module)(_shrunk(config, self.sizes)).float().eval()
            for parameter in small.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            given = _example(self, generator)
            theirs = small(*given)
            mine = self.forward(small, *given, run=compute)
            pairs = (
                [(theirs, mine)] if isinstance(mine, Tensor) else [*zip(theirs, mine, strict=True)]
            )
            if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs):
                raise UnsupportedError(f"{type(module).__name__}, which computes something unknown")


_TOKENS, _EXPERTS, _CHOSEN, _WIDTH, _WIDE = 5, 4, 2, 8, 6
_ROUTED = ("hidden_states", "top_k_index", "top_k_weights")

_VARIANTS = (
    _Variant(
        ("gate_up_proj", "down_proj", "act_fn", "num_experts"),
        _ROUTED,
        _concatenated,
        {"num_local_experts": _EXPERTS, "hidden_size": _WIDTH, "moe_intermediate_size": _WIDE},
    ),
    _Variant(
        ("gate_up_proj", "down_proj", "act_fn", "identity_expert", "num_routed_experts"),
        _ROUTED,
        _with_identities,
        {
            "n_routed_experts": _EXPERTS - 1,
            "zero_expert_num": 1,
            "hidden_size": _WIDTH,
            "expert_ffn_hidden_size": _WIDE,
        },
    ),
    _Variant(
        ("mlp.w1", "mlp.v1", "mlp.w2", "mlp.activation_fn", "ffn_hidden_size"),
        _ROUTED,
        _three_weights,
        {"moe_num_experts": _EXPERTS, "hidden_size": _WIDTH, "ffn_hidden_size": _WIDE},
    ),
    _Variant(
        ("input_linear.weight", "output_linear.weight", "router.layer", "activation", "bias"),
        ("layer_input",),
        _sorted_tokens,
        {
            "num_local_experts": _EXPERTS,
            "num_experts_per_tok": _CHOSEN,
            "hidden_size": _WIDTH,
            "intermediate_size": _WIDE,
        },
    ),
    _Variant(
        ("experts.gate_up_proj", "experts.down_proj", "router.weight", "shared_expert", "top_k"),
        ("hidden_states",),
        _scaled_tokens,
        {
            "num_local_experts": _EXPERTS,
            "num_experts_per_tok": _CHOSEN,
            "hidden_size": _WIDTH,
            "intermediate_size": _WIDE,
        },
    ),
)


def _held(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _shrunk(config: Any, sizes: Mapping[str, int]) -> Any:
    """A copy of the config, or of the part of it, that has all keys, with other sizes."""
    parts = [config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))]
    found = next((part for part in parts if all(hasattr(part, key) for key in sizes)), None)
    if found is None:
        raise UnsupportedError(f"experts whose config lacks one of {', '.join(sizes)}")
    made = copy.deepcopy(found)
    for key, value in sizes.items():
        setattr(made, key, value)
    return made


def _example(variant: _Variant, generator: torch.Generator) -> tuple[Tensor, ...]:
    x = torch.randn((_TOKENS, _WIDTH), generator=generator)
    if variant.parameters != _ROUTED:
        return (x.unsqueeze(0),)
    scores = torch.rand((_TOKENS, _EXPERTS), generator=generator)
    weight, index = scores.topk(_CHOSEN, dim=-1)
    return x, index, weight


def install(model: nn.Module) -> None:
    """Give experts outside the interface a forward pass that is one operator.

    Raises UnsupportedError where such experts do not compute what they are known for. Experts of
    an unknown kind are left as they are, with a warning: each may be run for every token.
    """
    chosen.install(model)
    checked: dict[type, _Variant | None] = {}
    config: Any = model.config
    inside: set[nn.Module] = set()
    for module in model.modules():
        kind = type(module)
        if kind not in checked:
            checked[kind] = next((each for each in _VARIANTS if each.matches(module)), None)
            if (known := checked[kind]) is not None:
                known.check(module, config.get_text_config(decoder=True))
            elif _is_unknown(module) and module not in inside:
                _LOG.warning("%s is no mixture of experts that is known", kind.__name__)
        variant = checked[kind]
        if variant is not None:
            inside.update(module.modules())
            module.forward = partial(variant.forward, module, run=torch.ops.wscc.experts)


def _is_unknown(module: nn.Module) -> bool:
    """Whether a module holds weights of experts and neither the interface nor `install` runs it."""
    named = "Experts" in type(module).__name__ and not hasattr(module, "has_gate")
    return named and any(p.dim() == 3 for p in module.parameters(recurse=False))


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, mix)
