"""Models of one operator, so that a kernel compiles and evaluates like a model.

Operands come as hidden states do from a layer before; results stay where they arise. Weights and
caches are resident.
"""

from math import sqrt

from ..ir.graph import Model, Phase
from ..ir.text import parse_model


def matmul_model(dtype: str, k: int, n: int) -> Model:
    """`sequence` x k tokens times resident k x n weights."""
    return parse_model(
        f"""model "matmul" phase=prefill dtype={dtype}
graph main {{
  input %x: {dtype}[sequence, {k}] = carried x
  input %weight: {dtype}[{n}, {k}] = weight weight
  %y: {dtype}[sequence, {n}] = matmul(%x, %weight) {{indices = "sk,nk->sn"}}
  output %y = data y
}}
"""
    )


def attention_model(
    dtype: str,
    phase: Phase,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int | None = None,
) -> Model:
    """Causal attention of `batch` sequences: in prefill all of a prompt of `sequence` tokens, in
    decode one new token over a cache of `context`, to which its key and value are added.

    `window`: how many tokens back a query sees, itself counted; None: all.
    """
    lines = [f'model "attention" phase={phase} dtype={dtype}', "graph main {"]
    tokens = "1" if phase == "decode" else "sequence"
    keys = "context + 1" if phase == "decode" else "sequence"

    def typed(*shape: object) -> str:
        return f"{dtype}[batch, {', '.join(map(str, shape))}]"

    counts = {"query": heads, "key": kv_heads, "value": kv_heads}
    for name, count in counts.items():
        lines.append(f"  input %{name}: {typed(tokens, count * head_dim)} = carried {name}")
    if phase == "decode":
        before = typed(kv_heads, "context", head_dim)
        lines += [f"  input %{name}_cache: {before} = cache cache.0.{name}" for name in _CACHED]
    for name, count in counts.items():
        rows, turned = typed(tokens, count, head_dim), typed(count, tokens, head_dim)
        lines += [
            f"  %{name}.rows: {rows} = reshape(%{name})",
            f"  %{name}.heads: {turned} = transpose(%{name}.rows) {{order = [0, 2, 1, 3]}}",
        ]
    caches = {name: f"{name}.heads" for name in _CACHED}
    if phase == "decode":
        after, along = typed(kv_heads, keys, head_dim), 'indices = "bhsd,bhsd->bhsd", along = "s"'
        for name in _CACHED:
            caches[name] = f"{name}s"
            grown = f"concat(%{name}_cache, %{name}.heads) {{{along}}}"
            lines.append(f"  %{name}s: {after} = {grown}")
    seen = "" if window is None else f", window = {window}"
    operands = ", ".join(f"%{name}" for name in ("query.heads", *caches.values()))
    attributes = f"scale = {1 / sqrt(head_dim)!r}, causal = true{seen}"
    mixed = typed(tokens, heads, head_dim)
    lines.append(f"  %mixed: {mixed} = attention({operands}) {{{attributes}}}")
    lines.append(f"  %joined: {typed(tokens, heads * head_dim)} = reshape(%mixed)")
    lines.append("  output %joined = data y")
    lines += [f"  output %{cache} = cache cache.0.{name}" for name, cache in caches.items()]
    return parse_model("\n".join([*lines, "}", ""]))


_CACHED = ("key", "value")
