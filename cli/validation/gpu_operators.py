"""Kernels of an A100: products and attention of TensorRT-LLM (NVIDIA aiconfigurator), products run
from PyTorch (LLMCompass artifact), and prompts of whole models (TensorRT-LLM 0.5 documentation)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...backend.gpu.attention import Shape, attention
from ...backend.gpu.device import Device, Kernels, device_of
from ...backend.gpu.products import product
from .. import pipeline
from ..operators import one_die
from .figure import Figure
from .models import llama, loaded
from .tables import carried, given, number, whole

HEAD = 128.0
SEED = 0
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """Kernels of one kind: their file, the software that ran them, how they are predicted."""

    name: str
    file: str
    stack: str
    numbers: tuple[str, ...]
    """Columns that tell a kernel from another; `latency` is one more."""
    kernels: Callable[[Device, Columns], Kernels]
    calibrated: int
    """Rows of the file that constants were fitted on half of, drawn with seed 0; another file of
    this kind is all prediction."""
    unit_s: float = 1e-3


def _product(device: Device, row: Columns) -> Kernels:
    return product(device, "bfloat16", row["m"], row["n"], row["k"])


def _attended(device: Device, row: Columns, queries: np.ndarray, keys: np.ndarray) -> Kernels:
    heads, groups = row["num_heads"], row["num_key_value_heads"]
    shape = Shape(row["batch_size"], heads, groups, queries, keys, HEAD, HEAD)
    return attention(device, "bfloat16", shape)


def _context(device: Device, row: Columns) -> Kernels:
    return _attended(device, row, row["isl"], row["isl"])


def _generation(device: Device, row: Columns) -> Kernels:
    keys = row["isl"] + row["step"]
    return _attended(device, row, np.ones_like(keys), keys)


_HEADS = ("num_heads", "num_key_value_heads")
KINDS = (
    Kind("product", "a100_gemm_slice_ms.csv", "tensorrt", ("m", "n", "k"), _product, 784),
    Kind("product, PyTorch", "a100_gemm_llmcompass.csv", "pytorch", ("m", "n", "k"), _product, 20),
    Kind(
        "prefill attention",
        "a100_context_attention_hd128_ms.csv",
        "tensorrt",
        ("batch_size", "isl", *_HEADS),
        _context,
        2560,
    ),
    Kind(
        "decode attention",
        "a100_generation_attention_hd128_ms.csv",
        "tensorrt",
        ("batch_size", "isl", "step", *_HEADS),
        _generation,
        2791,
    ),
)


def a100(stack: str) -> Device:
    """The shipped spec with one of its software stacks."""
    device = device_of(pipeline.load_hardware("a100").bind({"stack": stack}))
    assert device is not None
    return device


def measured(kind: Kind, folder: Path | None) -> tuple[Columns, np.ndarray]:
    """Columns of numbers, the latency in seconds, and which rows may have fixed constants."""
    names = (*kind.numbers, "latency")
    rows = carried(kind.file)[0] if folder is None else given(folder, kind.file, names)
    columns = {n: np.array([number(row, n, kind.file) for row in rows]) for n in names}
    columns["latency"] = columns["latency"] * kind.unit_s
    if folder is None:
        return columns, np.array([row["fitted"] == "yes" for row in rows], dtype=bool)
    return columns, fitted_half(kind, len(rows))


def fitted_half(kind: Kind, count: int) -> np.ndarray:
    """Which rows of a file may have fixed constants."""
    chosen = np.zeros(count, dtype=bool)
    if count == kind.calibrated:
        chosen[np.random.default_rng(SEED).permutation(count)[: count // 2]] = True
    return chosen


def predicted_s(kind: Kind, device: Device, columns: Columns) -> np.ndarray:
    """Seconds of every row."""
    return np.asarray(kind.kernels(device, columns).cycles) / device.core.clock_hz


def operators(folder: Path | None) -> Iterator[Figure]:
    """Milliseconds of a kernel."""
    for kind in KINDS:
        columns, fitted = measured(kind, folder)
        if not len(fitted):
            continue
        found = predicted_s(kind, a100(kind.stack), columns)
        shapes = np.stack([columns[name] for name in kind.numbers], axis=1).astype(int).tolist()
        source = carried(kind.file)[1].partition(";")[0]
        for shape, seconds, latency, one in zip(
            shapes, found.tolist(), columns["latency"].tolist(), fitted.tolist(), strict=True
        ):
            name = f"{kind.name} {' x '.join(map(str, shape))}"
            both = latency * 1e3, seconds * 1e3
            yield Figure("GPU operators", name, "ms", *both, one, source, kind.name)


PROMPTS = "a100_trtllm_first_token.csv"


def prompts(folder: Path | None) -> Iterator[Figure]:
    """Milliseconds to the first token of a LLaMA 7B on one GPU."""
    columns = ("gpu", "precision", "model", "batch", "TP", "input_len", "first_token_ms")
    rows = carried(PROMPTS)[0] if folder is None else given(folder, PROMPTS, columns)
    config = llama(4096, 11008, 32, 32, 128, vocabulary=32000)
    for row in rows:
        asked = (row["gpu"], row["precision"], row["model"], row["TP"])
        if asked != ("A100", "FP16", "LLaMA 7B", "1"):
            continue
        tokens, batch = whole(row, "input_len", PROMPTS), whole(row, "batch", PROMPTS)
        model = loaded(config, "prefill", tokens, batch)
        node = pipeline.load_hardware("a100").bind({"stack": "tensorrt"})
        result = pipeline.evaluate(pipeline.compile(model, one_die(node)))
        yield Figure(
            "GPU inference",
            f"{row['model']}, batch {batch}, prompt of {tokens}",
            "ms",
            number(row, "first_token_ms", PROMPTS),
            result.latency_s * 1e3,
            False,
            carried(PROMPTS)[1],
        )
