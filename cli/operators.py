"""Single operators: `wscc.op` compiles and evaluates a kernel as if it were a model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..ir.errors import UserError, nearest
from ..ir.graph import DTYPE_BITS
from ..ir.hardware import Hardware
from ..ir.program import Workload
from ..ir.result import Fidelity, Result
from . import pipeline

if TYPE_CHECKING:
    from ..frontend.hardware import HardwareSpace

Sizes = Mapping[str, int | None]

_SIZES: Mapping[str, Sizes] = {
    "matmul": {"m": 1, "k": None, "n": None},
    "attention": {
        "batch": 1,
        "heads": None,
        "kv_heads": None,
        "head_dim": 128,
        "sequence": 2048,
        "context": 2048,
        "window": None,
    },
}
"""The sizes of each operator, and what they are unless given."""
_MAY_LACK = frozenset({"kv_heads", "window"})


def op(
    kind: Literal["matmul", "attention"],
    hardware: "str | Path | HardwareSpace | Hardware",
    dtype: str = "bfloat16",
    phase: Literal["prefill", "decode"] = "prefill",
    mapping: str | None = None,
    region: str | None = None,
    fidelity: Fidelity = "fluid",
    seed: int = 0,
    **sizes: int,
) -> Result:
    """Time, energy and limits of one operator on the best region of a wafer, or on one GPU.

    `matmul`: `m` tokens of `k` features times resident weights of k x `n`. `attention`, causal,
    of `batch` sequences with `heads` heads of `head_dim`, which share `kv_heads` of keys and
    values: in prefill over a prompt of `sequence` tokens; in decode one new token over a cache of
    `context`, which takes up its key and value; with `window`, tokens that a query sees.

        wscc.op("matmul", "wse2", m=1, k=16384, n=16384, dtype="float16").latency_s
        wscc.op("attention", "a100", phase="decode", batch=8, heads=32, kv_heads=8, context=4096)

    `hardware` is a spec's name or file, a space (its defaults), or one design; of a cluster of
    GPUs one GPU is taken. `mapping` and `region` pin parts of the strategy. Raises UserError for
    sizes or pins that are impossible.
    """
    from ..frontend.operators import attention_model, matmul_model

    if dtype not in DTYPE_BITS:
        raise UserError(f"unknown dtype {dtype!r}{nearest(dtype, DTYPE_BITS)}")
    design, given = _design(hardware), _sizes(kind, sizes)
    if kind == "matmul":
        model = matmul_model(dtype, given["k"], given["n"])
        workload = Workload("prefill", 1, given["m"], given["m"], dtype)
    else:
        kv_heads = given.get("kv_heads", given["heads"])
        if given["heads"] % kv_heads:
            raise UserError(f"heads: {given['heads']} is no multiple of kv_heads, {kv_heads}")
        model = attention_model(
            dtype,
            phase,
            given["heads"],
            kv_heads,
            given["head_dim"],
            given.get("window"),
        )
        workload = Workload(phase, given["batch"], given["sequence"], given["context"], dtype)
    loaded = pipeline.LoadedModel(model, workload)
    program = pipeline.compile(loaded, design, mapping, region, seed)
    return pipeline.evaluate(program, fidelity)


def _sizes(kind: str, given: Sizes) -> dict[str, int]:
    """The sizes of an operator, checked; raises UserError."""
    if kind not in _SIZES:
        raise UserError(
            f"unknown operator {kind!r}{nearest(kind, _SIZES)}; known: matmul, attention"
        )
    known = _SIZES[kind]
    for name, size in given.items():
        if name not in known:
            raise UserError(f"{kind} has no size {name!r}{nearest(name, known)}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UserError(f"{name}: {size!r} is no whole number from 1")
    sizes = {name: size for name, size in {**known, **given}.items() if size is not None}
    missing = [name for name in known if name not in sizes and name not in _MAY_LACK]
    if missing:
        raise UserError(f"{kind} needs {', '.join(missing)}")
    return sizes


def _design(hardware: "str | Path | HardwareSpace | Hardware") -> Hardware:
    if isinstance(hardware, str | Path):
        hardware = pipeline.load_hardware(hardware)
    design = hardware if isinstance(hardware, Hardware) else hardware.bind()
    return design if design.core.multiprocessors is None else one_die(design)


def one_die(hardware: Hardware) -> Hardware:
    """One GPU of a cluster as a system of its own, without what joins it to others."""
    die = hardware.wafer.die
    wafer = replace(
        hardware.wafer,
        rows=1,
        columns=1,
        width_m=die.width_m,
        height_m=die.height_m,
        usable_rows=die.rows,
        usable_columns=die.columns,
        cores_in_use=die.rows * die.columns,
        io=(),
        memories=(),
        dead_dies=(),
        dead_cores=(),
        dead_links=(),
        patches=(),
        switch=None,
        board=False,
        cores_needed=None,
        spare_dies=0,
        power_w=0.0,
        cost_usd=0.0,
    )
    name = f"{die.name} of {hardware.name}"
    return replace(hardware, name=name, wafers=1, wafer=wafer, link=None, switch=None)
