"""Transformers' functions for scans, as operators of ours: the same arguments, the same results.

Each function here stands for the one of the same name in modeling modules of Transformers. One
that writes into the state that it is given hands the new state to a `Keeper` instead.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers.activations import ACT2FN

from ..aten import UnsupportedError
from .operators import scan


class Keeper(Protocol):
    """Where new states go."""

    def renew(self, old: Tensor, new: Tensor | None) -> None:
        """Put a state in the place of another."""
        ...


def mamba_selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    use_mambapy: bool = False,
    use_associative_scan: bool = False,
    **kwargs: Any,
) -> Any:
    """Mamba: x, dt and z (batch, channels, sequence), A (channels, width), B and C (batch, width,
    sequence)."""
    del use_mambapy, use_associative_scan
    check_no_packing(kwargs)
    dt = _time_step(dt, delta_bias[..., None] if delta_bias is not None else None, delta_softplus)
    output, state = scan(
        {
            "query": ("bns", C),
            "key": ("bns", B),
            "value": ("bcs", hidden_states),
            "decay": ("bcs", dt),
            "rate": ("cn", A),
            "beta": ("bcs", dt),
        },
        "bcs",
        "bcn",
        hidden_states.dtype,
        kept=return_last_state,
    )
    output = _gated(output, hidden_states, D[None, :, None] if D is not None else None, z)
    return (output, state) if return_last_state else output


def mamba_selective_state_update(
    keeper: Keeper,
    state: Tensor,
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    z: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """One step of Mamba: x, dt and z (batch, channels), B and C (batch, width)."""
    check_no_packing(kwargs)
    dt = _time_step(dt, dt_bias, dt_softplus)
    output, new = scan(
        {
            "query": ("bn", C),
            "key": ("bn", B),
            "value": ("bc", hidden_states),
            "decay": ("bc", dt),
            "rate": ("cn", A),
            "beta": ("bc", dt),
            "initial": ("bcn", state),
        },
        "bc",
        "bcn",
        hidden_states.dtype,
        kept=True,
    )
    keeper.renew(state, new)
    return _gated(output, hidden_states, D, z).to(hidden_states.dtype)


def mamba2_chunk_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    chunk_size: int,
    D: Tensor | None = None,  # noqa: N803
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    **kwargs: Any,
) -> Any:
    """Mamba-2: x (batch, sequence, heads, width), dt (batch, sequence, heads), A (heads), B and C
    (batch, sequence, groups, state)."""
    check_no_packing(kwargs)
    dt = _time_step(dt, dt_bias, dt_softplus)
    dt = _limited(dt, dt_limit, dt_softplus)
    output, state = _mamba2(
        hidden_states, dt, A, B, C, initial_states, chunk_size, return_final_states
    )
    output = _gated(output, hidden_states, D[:, None] if D is not None else None, None)
    return (output, state) if return_final_states else output


def mamba2_selective_state_update(
    keeper: Keeper,
    state: Tensor,
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    z: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """One step of Mamba-2: x (batch, heads, width), dt the same for the width of a head, A (heads,
    width, state) the same for all of a head, B and C (batch, groups, state)."""
    check_no_packing(kwargs)
    bias = None if dt_bias is None else _first(dt_bias)
    dt = _time_step(_first(dt), bias, dt_softplus)
    x = hidden_states
    output, new = _mamba2(x, dt, _first(_first(A)), B, C, state, None, True)
    keeper.renew(state, new)
    return _gated(output, x, D, z).to(x.dtype)


def torch_chunk_gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The gated delta rule: query and key (batch, sequence, groups, width), value (batch,
    sequence, heads, width), g and beta (batch, sequence, heads)."""
    check_no_packing(kwargs)
    if use_qk_l2norm_in_kernel:
        query, key = _normalized(query), _normalized(key)
    groups, heads = key.shape[2], value.shape[2]
    r = _inner(groups, heads)
    value, g, beta = (_grouped(x, 2, groups) for x in (value, g, beta))
    if initial_state is not None:
        initial_state = _grouped(initial_state, 1, groups)
    output, state = scan(
        {
            "query": ("bsgn", query),
            "key": ("bsgn", key),
            "value": (f"bsg{r}p", value),
            "decay": (f"bsg{r}", g),
            "beta": (f"bsg{r}", beta),
            "initial": (f"bg{r}np", initial_state),
        },
        f"bsg{r}p",
        f"bg{r}np",
        query.dtype,
        kept=output_final_state,
        delta=True,
        scale=query.shape[-1] ** -0.5,
        chunk=chunk_size,
    )
    return _ungrouped(output, 2, heads), _ungrouped(state, 1, heads)


def torch_recurrent_gated_delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The same token by token: what a single step takes."""
    return torch_chunk_gated_delta_rule(
        query,
        key,
        value,
        g,
        beta,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        **kwargs,
    )


def chunk_kimi_delta_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Kimi delta attention: the gated delta rule with a decay for every channel of the keys, g
    (batch, sequence, heads, width)."""
    check_no_packing(kwargs)
    if use_qk_l2norm_in_kernel:
        query, key = _normalized(query), _normalized(key)
    return scan(
        {
            "query": ("bshn", query),
            "key": ("bshn", key),
            "value": ("bshp", value),
            "decay": ("bshn", g),
            "beta": ("bsh", beta),
            "initial": ("bhnp", initial_state),
        },
        "bshp",
        "bhnp",
        query.dtype,
        kept=output_final_state,
        delta=True,
        scale=query.shape[-1] ** -0.5,
        chunk=chunk_size,
    )


def recurrent_kimi_delta_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The same token by token: what a single step takes."""
    return chunk_kimi_delta_attention(
        query,
        key,
        value,
        g,
        beta,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        **kwargs,
    )


def no_fused_kernel(*args: Any, **kwargs: Any) -> None:
    """For whole layers in one kernel, which Transformers does without if it gets None."""
    del args, kwargs


def activated(value: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """(batch, channels, sequence) with a bias, then an activation by Transformers' name for it."""
    if bias is not None:
        value = value + bias[:, None]
    return value if activation is None else ACT2FN[activation](value)


def _mamba2(
    x: Tensor,
    dt: Tensor,
    rate: Tensor,
    key: Tensor,
    query: Tensor,
    initial: Tensor | None,
    chunk: int | None,
    kept: bool,
) -> tuple[Tensor, Tensor | None]:
    """Whole sequences or, where tensors lack that dimension, a single step."""
    s = "s" if len(x.shape) == 4 else ""
    at = 1 + len(s)
    groups, heads = key.shape[at], x.shape[at]
    r = _inner(groups, heads)
    value, dt, rate = _grouped(x, at, groups), _grouped(dt, at, groups), _grouped(rate, 0, groups)
    output, state = scan(
        {
            "query": (f"b{s}gn", query),
            "key": (f"b{s}gn", key),
            "value": (f"b{s}g{r}p", value),
            "decay": (f"b{s}g{r}", dt),
            "rate": (f"g{r}", rate),
            "beta": (f"b{s}g{r}", dt),
            "initial": (
                f"bg{r}pn",
                None if initial is None else _grouped(initial, 1, groups),
            ),
        },
        f"b{s}g{r}p",
        f"bg{r}pn",
        x.dtype,
        kept=kept,
        chunk=chunk,
    )
    return _ungrouped(output, at, heads), _ungrouped(state, 1, heads)


def _inner(groups: int, heads: int) -> str:
    """The letter of a head within its group, if there is more than one."""
    return "" if groups == heads else "r"


def _grouped(value: Tensor, at: int, groups: int) -> Tensor:
    """Heads, the dimension `at`, as groups and heads of a group."""
    heads = value.shape[at]
    if heads == groups:
        return value
    return value.reshape(*value.shape[:at], groups, heads // groups, *value.shape[at + 1 :])


def _ungrouped(value: Any, at: int, heads: int) -> Any:
    """The other way; None stays None."""
    if value is None or value.shape[at] == heads:
        return value
    return value.reshape(*value.shape[:at], heads, *value.shape[at + 2 :])


def _time_step(dt: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    if bias is not None:
        dt = dt + bias.to(dt.dtype)
    return F.softplus(dt) if softplus else dt


def _limited(dt: Tensor, limit: tuple[float, float], positive: bool) -> Tensor:
    """Clamped, where that can change anything."""
    low, high = limit
    if low > 0 or not positive:
        dt = torch.clamp(dt, min=low)
    return dt if high == float("inf") else torch.clamp(dt, max=high)


def _gated(output: Tensor, x: Tensor, skip: Tensor | None, gate: Tensor | None) -> Tensor:
    if skip is not None:
        output = output + x * skip
    return output if gate is None else output * F.silu(gate)


def _normalized(value: Tensor) -> Tensor:
    """Of length one along the last dimension, computed in float32."""
    wide = value.float()
    length = (wide * wide).sum(dim=-1, keepdim=True)
    return (wide * torch.rsqrt(length + 1e-6)).to(value.dtype)


def _first(value: Tensor) -> Tensor:
    """Without the last dimension, along which all values are the same."""
    if value.shape[-1] != 1 and value.stride(-1) != 0:
        raise UnsupportedError("a step of Mamba-2 that differs within a head")
    return value[..., 0]


def check_no_packing(kwargs: Mapping[str, Any]) -> None:
    """Raise UnsupportedError where several sequences stand in one row."""
    packed = [name for name in ("cu_seqlens", "seq_idx") if kwargs.get(name) is not None]
    if packed:
        raise UnsupportedError(f"sequences packed by {packed[0]}")
