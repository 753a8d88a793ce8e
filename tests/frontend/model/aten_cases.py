"""What test_aten_operators.py computes: inputs by name, and cases that name those they take."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

aten = torch.ops.aten


def inputs(batch: int, sequence: int, context: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(batch)

    def floats(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    def integers(limit: int, *shape: int) -> Tensor:
        return torch.randint(0, limit, shape, generator=random)

    return {
        "x": floats(batch, sequence, 12),
        "y": floats(batch, sequence, 12),
        "p": floats(batch, sequence, 12).abs() + 0.5,
        "half": floats(batch, sequence, 12).bfloat16(),
        "ids": integers(5, batch, sequence),
        "places": integers(12, batch, sequence, 3),
        "mask": integers(2, batch, sequence, 12).bool(),
        "other": integers(2, batch, sequence, 12).bool(),
        "q": floats(batch, 4, sequence, 6),
        "k": floats(batch, 2, context, 6),
        "scores": floats(batch, 4, sequence, sequence),
        "w": floats(7, 12),
        "v": floats(12),
        "u": floats(12),
        "table": floats(5, 6),
        "rows": integers(4, 3),
    }


SYMBOLIC = {
    **dict.fromkeys(("x", "y", "p", "half", "ids", "places", "mask", "other"), "bs"),
    "q": "b.s",
    "k": "b.c",
    "scores": "b.ss",
}

Case = Callable[..., Any]

CASES: dict[str, Case] = {
    # Elements by themselves.
    "add.Scalar": lambda x: aten.add.Scalar(x, 2.5),
    "add.Tensor with alpha": lambda x, y: torch.add(x, y, alpha=-0.5),
    "addcmul": lambda x, y, p: torch.addcmul(x, y, p, value=0.5) + torch.addcdiv(x, y, p),
    "bits of booleans": lambda mask, other: (mask & other) | ~(mask ^ other),
    "clamp": lambda x: (x.clamp(-0.5, 1) + x.clamp(min=0.1)) * x.clamp(max=0.2),
    "clamp by a tensor": lambda x, y: torch.clamp(x, min=y),
    "clamp_min, clamp_max": lambda x, y: torch.clamp_min(x, -1) + torch.clamp_max(y, 1),
    "clamp_min.Tensor": lambda x, y: aten.clamp_max.Tensor(aten.clamp_min.Tensor(x, y), y + 1),
    "comparisons": lambda x, y: (x < y, x <= 0, x > y, x >= 0, x == y, x != 0),
    "comparisons of numbers": lambda ids: ((ids == 2) | (ids != 3), (ids < 2) & (ids >= 1)),
    "other comparisons": lambda x, y: (
        (aten.lt.Scalar(x, 0), aten.le.Tensor(x, y), aten.gt.Scalar(x, 0.5), aten.ge.Tensor(x, y)),
        aten.ne.Tensor(x, y),
    ),
    "div.Scalar": lambda x: aten.div.Scalar(x, 3),
    "div with a rounding mode": lambda x, p: (
        torch.div(x, p, rounding_mode="floor"),
        torch.div(x, 0.3, rounding_mode="trunc"),
    ),
    "elu, celu, selu": lambda x: F.elu(x, 0.7) + F.selu(x) + F.celu(x, 0.3),
    "erf, atan, tan": lambda x: torch.erf(x) + torch.atan(x) + torch.tan(x * 0.1),
    "exponentials": lambda x: torch.exp(x) + torch.exp2(x) + torch.expm1(x),
    "floor_divide": lambda ids, p: (ids // 2, torch.floor_divide(p, 0.3)),
    "functions of positive numbers": lambda p: (
        torch.rsqrt(p) + p.sqrt() + p.reciprocal() + p.log() + p.log1p() + p.log2() + p.log10()
    ),
    "functions of any number": lambda x: x.abs() + x.cos() + x.sin() + x.tanh() + x.square() - x,
    "gates": lambda x: x.sigmoid() + F.silu(x) + F.gelu(x) + F.gelu(x, approximate="tanh"),
    "hard gates": lambda x: F.hardswish(x) + F.hardsigmoid(x) + F.hardtanh(x) + F.relu6(x),
    "isnan, isinf, isfinite": lambda x: (torch.isnan(x), torch.isinf(1 / F.relu(x)), x.isfinite()),
    "leaky_relu, relu, mish": lambda x: (
        F.leaky_relu(x, 0.2) + F.relu(x) + F.mish(x)
    ),
    "lerp": lambda x, y, p: torch.lerp(x, y, 0.3) + torch.lerp(x, y, p),
    "logical": lambda mask, other: (
        torch.logical_and(mask, other),
        torch.logical_or(mask, other),
        torch.logical_xor(mask, torch.logical_not(other)),
    ),
    "log_sigmoid": lambda x: aten.log_sigmoid.default(x),
    "masked_fill": lambda x, mask: x.masked_fill(mask, -torch.inf),
    "masked_fill by a tensor": lambda x, mask, v: x.masked_fill(mask, v[0]),
    "masked_fill of what is broadcast": lambda x, v: x.masked_fill(v > 0, torch.finfo(x.dtype).min),
    "maximum, minimum": lambda x, y: torch.maximum(x, y) + torch.minimum(x, -y),
    "max.other": lambda x, y: torch.max(x, y) + torch.min(x, -y),
    "neg, sign": lambda x: -x + x.sign(),
    "powers": lambda x, p: (x**2 + x**3 + p**-0.5, 2**x, torch.pow(p, x), (-2.0) ** 3 * x),
    "prelu": lambda q, v: F.prelu(q, v[:4]),
    "remainder": lambda x, p, ids: (x % 0.7, torch.remainder(x, p), torch.fmod(x, 0.7), ids % 3),
    "rounding": lambda x: (x.floor() + x.ceil(), x.round(), x.trunc() + x.frac()),
    "rsub": lambda x: 1 - x,
    "rsub.Scalar": lambda x: aten.rsub.Scalar(x, 2.0, 3),
    "softplus": lambda x: F.softplus(x) + F.softplus(x, beta=2.0),
    "sub.Tensor with alpha": lambda x, y: torch.sub(x, y, alpha=2) + aten.sub.Scalar(x, 2),
    "threshold": lambda x: F.threshold(x, 0.1, 2.0),
    "where": lambda x, y, mask: torch.where(mask, x, y) + torch.where(mask, 0.0, y),
    "where of numbers": lambda x, mask: torch.where(mask, x, 1.0) * torch.where(mask, 2.0, 3.0),
    "where of what is broadcast": lambda x, v: torch.where(v[None] > 0, x, v),
    "other names": lambda x, y: (
        torch.multiply(x, y) + torch.subtract(x, y) - torch.true_divide(x, 2).negative().absolute(),
        (torch.greater(x, y), torch.less_equal(x, 0.1), torch.not_equal(x, y)),
    ),
    # Other dtypes.
    "casts": lambda x, half, mask: (
        x.bfloat16() + half,
        half.float() * x,
        (mask.to(x.dtype) + mask.int(), (x * 3).long(), x.to(torch.bool), half.type_as(x)),
    ),
    "booleans added up": lambda mask, ids: mask.sum(-1) + ids,
    # Made of sizes and numbers.
    "arange": lambda x: torch.arange(x.shape[1]),
    "arange.start_step": lambda x: torch.arange(1, 2 * x.shape[1] + 1, 2),
    "arange of floats": lambda x: torch.arange(0, 1, 0.25) + torch.arange(4.0),
    "positions after a context": lambda ids, k: (
        torch.arange(k.shape[2], k.shape[2] + ids.shape[1]) + ids
    ),
    "sizes as numbers": lambda x, k: x * x.shape[1] + (k.shape[2] + 1),
    "eye": lambda q: torch.eye(6) @ q.transpose(2, 3),
    "filled": lambda x: (
        torch.zeros(x.shape[0], 2) + torch.ones(2),
        torch.full((x.shape[1],), 2.5),
        (x.new_zeros(x.shape[0], 1) + torch.ones_like(x[0]).sum(), x.new_ones(3)),
        (torch.full_like(x, 3), x.new_full((2,), 1.5), torch.zeros_like(x) + x),
    ),
    "linspace": lambda: torch.linspace(0, 1, 5),
    "one_hot": lambda ids: F.one_hot(ids, 5),
    "scalar_tensor": lambda x: aten.scalar_tensor.default(2.5) * x,
    "triangles": lambda scores: torch.tril(scores) + torch.triu(scores, 1) * 2,
    "a causal mask from positions": lambda x, scores: scores.masked_fill(
        torch.arange(x.shape[1])[:, None] < torch.arange(x.shape[1]), -torch.inf
    ),
    "full with a triangle": lambda x: torch.triu(torch.full((x.shape[1], x.shape[1]), -1e4), 1),
    # Shapes.
    "broadcast_to": lambda v, x: torch.broadcast_to(v, x.shape) + v.expand_as(x),
    "broadcast_tensors": lambda x, v: torch.broadcast_tensors(x, v)[1] * 2,
    "expand after a reduction": lambda x: x.mean(-1, keepdim=True).expand(-1, -1, 5) * 2,
    "flatten, unflatten": lambda x: x.flatten(1).unflatten(1, (-1, 3, 4)),
    "movedim": lambda q: q.movedim(1, 2) + q.movedim((1, 2), (2, 1)),
    "numpy_T, t, mT": lambda w, q: (w.T @ w, w.t() * 2, q.mT),
    "permute, transpose": lambda q: q.permute(0, 2, 3, 1).transpose(-1, 1),
    "repeat": lambda x, v: (x.repeat(1, 2, 3), v.repeat(x.shape[1], 1), v[:, None].repeat(1, 2)),
    "repeat_interleave": lambda k: k.repeat_interleave(3, dim=1),
    "repeat_interleave of a view": lambda q: q.transpose(1, 2).repeat_interleave(2, -1),
    "key heads repeated": lambda k: (
        k[:, :, None].expand(k.shape[0], 2, 3, k.shape[2], 6).reshape(k.shape[0], 6, k.shape[2], 6)
    ),
    "squeeze": lambda x: (
        x[:, :, :1].squeeze(-1) + x.sum(-1, keepdim=True).squeeze(2),
        x[:1, :1].squeeze(),
    ),
    "swapaxes": lambda q: q.swapaxes(1, 2).swapdims(0, 1),
    "tile": lambda x: x.tile(2),
    "views": lambda x: x.view(x.shape[0], -1, 3, 4).reshape(-1, 12),
    # Parts.
    "cat": lambda x, half: torch.cat([x, half, x[..., :1]], -1),
    "cat along the sequence": lambda k, q: torch.cat([k, q[:, :2]], dim=2),
    "cat with nothing": lambda x: torch.cat([torch.zeros(0), x.flatten()]),
    "chunk": lambda x: x.chunk(3, dim=-1)[1] * x.mT.chunk(2, 1)[0].mT[..., :4],
    "constant_pad_nd": lambda x: F.pad(x, (1, 2, 0, 1), value=2.0),
    "pad cuts": lambda x: F.pad(x, (-1, 2)),
    "pad of the sequence": lambda x: F.pad(x, (0, 0, 1, 0))[:, :-1],
    "diagonal": lambda scores: scores.diagonal(dim1=-2, dim2=-1),
    "diff": lambda x, mask: (x.diff(dim=-1), mask.diff(dim=1), x.diff(prepend=x[..., :1] - 1)),
    "flip": lambda q: q.transpose(1, 2).flip((-1, 2)),
    "glu": lambda x: F.glu(x),
    "narrow": lambda x: x.narrow(2, 3, 4),
    "roll": lambda x: x.roll((2, -1), (-1, 1)),
    "select": lambda q: q[:, 1] + q.transpose(1, 2)[:, :, -1],
    "the last position": lambda x: x[:, -1],
    "slices": lambda x: x[:, 1:, 2:-3] * x[:, :-1, -7:],
    "slices in steps": lambda x: x[..., ::2] - x[..., 1::2],
    "slices in uneven steps": lambda x: (x[..., ::5], x[..., 1::3], x[..., 2:9:3]),
    "a slice of a broadcast": lambda x, v: v.expand_as(x)[:, 1:] * 2,
    "split": lambda x: x.split(5, -1)[2],
    "split_with_sizes": lambda q: q.transpose(1, 3).split([1, 3, 2], 1)[1],
    "stack": lambda x, y, half: torch.stack([x, -y, half], dim=-1).flatten(-2),
    "stack of rows": lambda v, u: torch.stack([v, u]),
    "unfold": lambda x, q: (x.unfold(-1, 4, 1), q.unfold(-1, 2, 2), q.mT.unfold(2, 3, 1)),
    "unbind": lambda q: q.unbind(1)[2] * q.transpose(1, 2).unbind(-1)[0].sum(),
    "the rotated half": lambda q: torch.cat([-q[..., 3:], q[..., :3]], -1),
    "the rotated pairs": lambda q: torch.stack([-q[..., 1::2], q[..., ::2]], -1).flatten(-2),
    # Reductions.
    "any, all": lambda mask: (mask.any(-1), mask.all(1, keepdim=True), mask.any(), mask.all()),
    "any of numbers": lambda ids: ids.any(-1),
    "amax, amin": lambda x: (x.amax(-1), x.amin((1, 2), keepdim=True), x.max() - x.min()),
    "argmax": lambda x: (x.argmax(-1), x.argmax(1, keepdim=True), x.argmin(-1), x.argmax()),
    "argmax of booleans is the first": lambda mask: mask.int().argmax(-1),
    "argsort, sort": lambda x: (x.argsort(-1), x.sort(descending=True)[0], x.sort(dim=1)[1]),
    "stable sort": lambda ids: (ids.sort(dim=-1, stable=True), ids.argsort(stable=True)),
    "cumsum": lambda x, mask: (x.cumsum(1), mask.cumsum(-1), x.transpose(1, 2).cumsum(-1)),
    "group_norm": lambda q, v: F.group_norm(q, 2, v[:4], v[4:8]),
    "layer_norm": lambda x, v, u: F.layer_norm(x, (12,), v, u, 1e-3),
    "layer_norm without weights": lambda q: F.layer_norm(q.transpose(1, 2), (6,)),
    "layer_norm with a bias": lambda x, u: aten.layer_norm.default(x, [12], None, u),
    "logsumexp": lambda x: x.logsumexp(-1) + torch.logsumexp(x, (1, 2), keepdim=True).squeeze(-1),
    "max.dim": lambda x: (x.max(-1).values, x.min(1, keepdim=True).indices, x.max(dim=-1).indices),
    "mean": lambda x: x.mean((0, 2)) * x.mean() + x.mean(1).sum(),
    "norm": lambda x: (x.norm(dim=-1), torch.linalg.vector_norm(x, 1, -1), F.normalize(x, dim=-1)),
    "rms_norm": lambda x, v: F.rms_norm(x, (12,), v, 1e-3) + F.rms_norm(x, (12,)),
    "softmax": lambda x, scores: (x.softmax(1), scores.transpose(1, 2).softmax(-1), x.softmax(-1)),
    "softmax in float32": lambda half: half.softmax(-1, dtype=torch.float32),
    "log_softmax": lambda x: x.log_softmax(-1) + F.log_softmax(x, 1),
    "sum": lambda x, ids: (x.sum(-1, keepdim=True), x.sum((0, 1)), ids.sum(), x.sum(-1) / 3),
    "topk": lambda x: x.topk(3),
    "topk of a router": lambda x: (
        torch.topk(x.softmax(-1).view(-1, 12), 2, dim=-1, sorted=False)[0].sum(-1)
    ),
    "the least": lambda q: torch.topk(q, 2, dim=1, largest=False),
    "var, std": lambda x: (x.var(-1), x.std(1, correction=0), x.var(), torch.var_mean(x, -1)),
    "std_mean": lambda x: torch.std_mean(x, dim=-1, keepdim=True),
    # Products.
    "addmm": lambda x, w, u: torch.addmm(u[:7], x.reshape(-1, 12), w.T, beta=0.5, alpha=2),
    "baddbmm": lambda q, k: torch.baddbmm(
        torch.ones(1), q.flatten(0, 1), q.flatten(0, 1).transpose(1, 2), beta=2.0, alpha=0.1
    ),
    "bmm": lambda x, y: torch.bmm(x, y.transpose(1, 2)),
    "einsum": lambda q, k: torch.einsum("bhsd,bgtd->bhgst", q, k),
    "einsum of three": lambda x, y, w: torch.einsum("bse,bse,fe->bsf", x, y, w),
    "einsum of one": lambda q: torch.einsum("bhsd->bsh", q) + torch.einsum("...d->...", q).mT,
    "einsum without a sum": lambda x, v: torch.einsum("BSE,E->BES", x, v),
    "einsum with an ellipsis": lambda q, w: torch.einsum("...d,fd->...f", q, w[:, :6]),
    "einsum without a result": lambda x, w: torch.einsum("bse,fe", x, w),
    "linear": lambda x, w, u: F.linear(x, w, u[:7]),
    "linear of a view": lambda q, w: F.linear(q.transpose(1, 2).flatten(2), w.repeat(1, 2)),
    "linear of what is broadcast": lambda v, w, x: F.linear(v.expand(x.shape), w),
    "matmul": lambda q, k: q @ k.repeat_interleave(2, 1).transpose(2, 3),
    "matmul broadcasts": lambda q, w: q @ w[:, :6].T + (w[:, :6] @ q.transpose(2, 3)).mT,
    "matmul with a dimension of one": lambda q, k: q @ k[:, :1].mT,
    "index_put with a row": lambda x, rows: aten.index_put.default(
        x, [None, None, rows], x[:, :1, :1], True
    ),
    "matmul of what is expanded": lambda x, v: v.expand(x.shape[0], 1, 12) @ x.mT,
    "matmul with vectors": lambda x, v, u: (x @ v, v @ x.transpose(1, 2), v @ u),
    "matmul of column and row": lambda x: x[:, :, None, :1].transpose(1, 2) @ x[:, None, :1],
    "mm, mv, dot, outer": lambda w, v, u: (w @ w.T, torch.mv(w, v), torch.outer(v, u)),
    "attention": lambda q: F.scaled_dot_product_attention(q, q * 2, q - 1),
    "causal attention": lambda q: F.scaled_dot_product_attention(
        q, q * 2, q - 1, is_causal=True, scale=0.3
    ),
    "attention of groups": lambda q, k: F.scaled_dot_product_attention(
        q, k, k + 1, enable_gqa=True
    ),
    "attention with a mask": lambda q, scores: F.scaled_dot_product_attention(
        q, q, q, attn_mask=scores[:, :1] > scores[:, :1].mT - 1e9
    ) + F.scaled_dot_product_attention(q, q, q, attn_mask=scores),
    # Indices.
    "embedding": lambda ids, table: F.embedding(ids, table),
    "embedding of positions": lambda x, w: F.embedding(torch.arange(x.shape[1]) % 7, w)[None] + x,
    "gather": lambda x, places: x.gather(-1, places) + x.gather(2, places[:, :, :1]),
    "gather of fewer rows": lambda x, places: x.gather(-1, places[:, 1:]),
    "gather with one index for all": lambda x, ids: x.gather(
        1, (ids % 2)[:, :, None].expand(-1, -1, 12)
    ),
    "take_along_dim": lambda w: torch.take_along_dim(w, w.argsort(-1), -1),
    "index by one": lambda x, rows: x[:, :, rows] + x[..., rows - 4],
    "index by many": lambda table, ids: table[ids],
    "index by two": lambda w, ids: w[ids, ids + 2],
    "index by two apart": lambda q, rows: q[:, rows, :, rows],
    "index a diagonal": lambda w: w[torch.arange(7), torch.arange(7)] + w[torch.arange(7), -1],
    "index_put in step": lambda x, ids: aten.index_put.default(
        x, [torch.arange(x.shape[0]), ids[:, 0] % 2], x[:, 1] * 2
    ),
    "index the batch in step": lambda x, ids: x[torch.arange(x.shape[0])[:, None], ids % 2],
    "index the last token": lambda x, ids: x[torch.arange(x.shape[0]), ids[:, 0] % 2],
    "index_select": lambda x, rows: x.index_select(-1, rows),
    "index_add": lambda x, y, rows: x.index_add(-1, rows, y[..., :3]),
    "index_copy": lambda x, y: x.index_copy(-1, torch.arange(3, 5), y[..., :2]),
    "index_fill": lambda x, rows: x.index_fill(-1, rows, 2.0),
    "index_put": lambda x, rows: aten.index_put.default(
        x, [None, None, rows], x[..., :3].abs() * 0
    ),
    "index_put adds": lambda x, ids: aten.index_put.default(
        x.new_zeros(5, 12), [ids.flatten()], x.reshape(-1, 12), True
    ),
    "index_put of two": lambda w, rows: aten.index_put.default(w, [rows, rows + 2], w[0, 0], True),
    "index_put by a mask": lambda x, mask: aten.index_put.default(x, [mask], torch.tensor(2.0)),
    "masked_scatter": lambda x, y, mask: x.masked_scatter(mask, y),
    "scatter": lambda x, places: x.scatter(-1, places[..., :1], places[..., :1] * 1.0),
    "scatter of a number": lambda x, places: torch.zeros_like(x).scatter(-1, places, 1.0),
    "scatter_add": lambda x, places: x.scatter_add(-1, places, places * 0.5),
    "scatter_reduce": lambda x, places: x.scatter_reduce(-1, places, places * 0.5, "sum"),
    "select_scatter": lambda x, y: x.select_scatter(y[:, :, 0], -1, 3),
    "slice_scatter": lambda x, y: x.slice_scatter(y[..., 2:5], -1, 4, 7),
    "slice_scatter in steps": lambda x, y: x.slice_scatter(y[..., 1:8:3], -1, 1, 8, 3),
    # Complex numbers.
    "rotary by complex numbers": lambda q, p: torch.view_as_real(
        torch.view_as_complex(q.transpose(1, 2).reshape(q.shape[0], -1, 4, 3, 2))
        * torch.polar(torch.ones_like(p[..., :3]), p[..., :3])[:, :, None, :]
    ).flatten(3),
    "parts of complex numbers": lambda x, y: (
        torch.complex(x, y).conj().imag + torch.complex(x, y).real,
        (torch.complex(x, y) * 2).abs(),
        torch.view_as_real(torch.complex(x, y).unsqueeze(1).transpose(-1, 2)[:, 0]),
    ),
    # Nothing at all.
    "no computation": lambda x: F.dropout(x.contiguous().clone().detach(), 0.5, training=False),
}  # fmt: skip
