"""Kernels on a GPU: physics that any size must obey, published rows, and single operators."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import wscc
from wscc.backend.gpu.attention import Shape, attention
from wscc.backend.gpu.device import Device, device_of
from wscc.backend.gpu.products import product
from wscc.frontend.hardware import load_hardware
from wscc.ir.errors import UserError
from wscc.ir.hardware import Hardware
from wscc.ir.result import Result

DTYPE = "bfloat16"

GEMM_US = {
    (1, 4096, 4096): 26.2,
    (64, 16384, 16384): 353.8,
    (512, 8192, 1024): 60.1,
    (4096, 5120, 5120): 774.6,
    (8192, 16384, 16384): 16683.8,
}
"""(m, n, k): NVIDIA aiconfigurator, A100, TensorRT-LLM, BF16."""

COMPASS_US = {(8192, 64, 64): 29.6, (1024, 12288, 12288): 1199.0, (8192, 4096, 4096): 1021.0}
"""(m, n, k): LLMCompass' artifact, A100, PyTorch, FP16."""

CONTEXT_US = {
    (1, 128, 64, 8): 24.9,
    (8, 1024, 16, 1): 368.5,
    (4, 4096, 64, 8): 8196.3,
    (1, 16384, 8, 1): 3966.6,
}
"""(batch, tokens, heads, key-value heads): as GEMM_US, head dimension 128."""

GENERATION_US = {
    (1, 8, 32, 8): 10.9,
    (64, 1024, 32, 32): 625.8,
    (16, 2048, 64, 8): 94.7,
    (2048, 2, 64, 8): 1009.2,
}
"""(batch, keys, heads, key-value heads): as CONTEXT_US."""


@pytest.fixture(scope="module")
def a100() -> Hardware:
    return load_hardware("a100").bind()


@pytest.fixture(scope="module")
def device(a100: Hardware) -> Device:
    made = device_of(a100)
    assert made is not None
    return made


Numbers = float | np.ndarray

single: Callable[..., Result] = wscc.op


def product_us(device: Device, m: Numbers, n: Numbers, k: Numbers) -> np.ndarray:
    return np.asarray(product(device, DTYPE, m, n, k).cycles) / device.core.clock_hz * 1e6


def attention_us(device: Device, shape: Shape) -> np.ndarray:
    return np.asarray(attention(device, DTYPE, shape).cycles) / device.core.clock_hz * 1e6


def prefill(batch: Numbers, tokens: Numbers, heads: Numbers, groups: Numbers) -> Shape:
    return Shape(batch, heads, groups, tokens, tokens, 128.0, 128.0)


def decode(batch: Numbers, keys: Numbers, heads: Numbers, groups: Numbers) -> Shape:
    return Shape(batch, heads, groups, np.ones_like(np.asarray(keys, float)), keys, 128.0, 128.0)


def random_sizes(count: int, most: float = 14.0) -> tuple[np.ndarray, ...]:
    """Sizes of products from 1 to 2 ** most, alike on a logarithmic scale."""
    drawn = np.random.default_rng(1).uniform(0, most, (3, count))
    m, n, k = np.floor(2**drawn)
    return m, n, k


@pytest.mark.parametrize("grown", [0, 1, 2])
def test_a_product_never_takes_less_when_a_side_grows(device: Device, grown: int) -> None:
    small = [*random_sizes(2000)]
    large = list(small)
    large[grown] = np.ceil(large[grown] * np.random.default_rng(2).uniform(1, 3, 2000))
    assert np.all(product_us(device, *large) >= product_us(device, *small) * (1 - 1e-12))


def test_a_product_is_never_faster_than_the_roofline(device: Device) -> None:
    m, n, k = random_sizes(4000)
    clock = device.core.clock_hz
    peak = device.core.matrix_flops_per_cycle[DTYPE]
    computing = 2 * m * n * k / peak
    moving = 2 * (m * k + k * n + m * n) / device.memory_bytes_per_cycle
    least = device.launch_cycles + np.maximum(computing, moving)
    assert np.all(product_us(device, m, n, k) * clock / 1e6 >= least)


def test_a_small_product_takes_a_launch_and_the_start_of_a_block(device: Device) -> None:
    floor = device.launch_cycles + device.block_cycles
    cycles = float(np.asarray(product(device, DTYPE, 1.0, 16.0, 16.0).cycles))
    assert floor < cycles < 1.1 * floor


def test_one_tile_too_many_costs_a_wave(device: Device) -> None:
    full = product_us(device, 256.0 * 12, 128.0 * 9, 8192.0)
    more = product_us(device, 256.0 * 12, 128.0 * 9 + 1, 8192.0)
    assert more > 1.1 * full


def test_a_product_of_few_tiles_is_cut_along_k(device: Device) -> None:
    long = product_us(device, 64.0, 64.0, 2.0**20)
    one_multiprocessor_us = 2.0**20 * 128 * 2 / device.parts.load_bytes_per_cycle / 1410
    assert long < one_multiprocessor_us / 8


def test_half_the_multiprocessors_take_twice_as_long_for_what_computes(device: Device) -> None:
    half = replace(device, parts=replace(device.parts, count=device.count // 2))
    core = {d: f / 2 for d, f in device.core.matrix_flops_per_cycle.items()}
    half = replace(half, core=replace(device.core, matrix_flops_per_cycle=core))
    sides = (8192.0, 8192.0, 8192.0)
    ratio = float(product_us(half, *sides) / product_us(device, *sides))
    assert ratio == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    "grown",
    [
        prefill(2.0, 700.0, 16.0, 4.0),
        prefill(1.0, 900.0, 16.0, 4.0),
        prefill(1.0, 700.0, 24.0, 4.0),
    ],
)
def test_prefill_takes_longer_with_batch_tokens_and_heads(device: Device, grown: Shape) -> None:
    assert attention_us(device, grown) > attention_us(device, prefill(1.0, 700.0, 16.0, 4.0))


def test_long_prefill_grows_with_the_square_of_its_tokens(device: Device) -> None:
    once = attention_us(device, prefill(1.0, 16384.0, 32.0, 8.0))
    twice = attention_us(device, prefill(1.0, 32768.0, 32.0, 8.0))
    assert float(twice / once) == pytest.approx(4, rel=0.05)


def test_a_window_spares_prefill_what_it_hides(device: Device) -> None:
    full = prefill(1.0, 16384.0, 32.0, 8.0)
    assert attention_us(device, replace(full, window=1024.0)) < attention_us(device, full) / 5
    assert attention_us(device, replace(full, window=16384.0)) == attention_us(device, full)


def test_prefill_is_never_faster_than_its_products(device: Device) -> None:
    tokens = np.floor(2 ** np.random.default_rng(3).uniform(4, 15, 500))
    pairs = tokens * (tokens + 1) / 2
    least = 4 * 128 * 16 * pairs / device.core.matrix_flops_per_cycle[DTYPE]
    took = attention_us(device, prefill(1.0, tokens, 16.0, 4.0)) * device.core.clock_hz / 1e6
    assert np.all(took >= least)


def test_decode_is_never_faster_than_its_cache_is_read(device: Device) -> None:
    rng = np.random.default_rng(4)
    batch, keys = np.floor(2 ** rng.uniform(0, 8, 500)), np.floor(2 ** rng.uniform(0, 16, 500))
    least = 2 * 2 * 128 * 8 * batch * keys / device.memory_bytes_per_cycle
    took = attention_us(device, decode(batch, keys, 32.0, 8.0)) * device.core.clock_hz / 1e6
    assert np.all(took >= least)


@pytest.mark.parametrize("groups", [1.0, 8.0, 32.0])
def test_decode_hardly_ever_takes_less_for_more_keys(device: Device, groups: float) -> None:
    keys = np.arange(1.0, 20000.0, 37.0)
    took = attention_us(device, decode(1.0, keys, 32.0, groups))
    assert np.all(took[1:] >= 0.9 * np.maximum.accumulate(took)[:-1])


def test_one_long_sequence_is_cut_into_parts(device: Device) -> None:
    """One head's keys alone would keep one multiprocessor busy and leave the others idle."""
    took_us = attention_us(device, decode(1.0, 131072.0, 8.0, 1.0))
    alone_us = 131072 * 512 / device.parts.load_bytes_per_cycle / 1410
    assert took_us < alone_us / 10


def test_many_cases_at_once_are_the_cases_one_by_one(device: Device) -> None:
    m, n, k = random_sizes(40)
    together = product_us(device, m, n, k)
    alone = [float(product_us(device, *sides)) for sides in zip(m, n, k, strict=True)]
    assert together == pytest.approx(alone)
    tokens = np.array([1.0, 100.0, 4096.0])
    shapes = Shape(2.0, 16.0, 4.0, tokens, np.array([512.0, 100.0, 4096.0]), 128.0, 128.0)
    apart = [
        float(attention_us(device, replace(shapes, queries=q, keys=t)))
        for q, t in zip((1.0, 100.0, 4096.0), (512.0, 100.0, 4096.0), strict=True)
    ]
    assert attention_us(device, shapes) == pytest.approx(apart)


@pytest.mark.parametrize(
    ("published", "predict", "stack"),
    [
        (GEMM_US, product_us, "tensorrt"),
        (COMPASS_US, product_us, "pytorch"),
        (CONTEXT_US, lambda d, *s: attention_us(d, prefill(*s)), "tensorrt"),
        (GENERATION_US, lambda d, *s: attention_us(d, decode(*s)), "tensorrt"),
    ],
    ids=["products", "products of LLMCompass", "prefill", "decode"],
)
def test_published_rows_come_out(
    published: dict[tuple[int, ...], float], predict: Callable[..., np.ndarray], stack: str
) -> None:
    device = device_of(load_hardware("a100").bind({"stack": stack}))
    assert device is not None
    for sizes, measured_us in published.items():
        predicted_us = float(predict(device, *map(float, sizes)))
        assert predicted_us == pytest.approx(measured_us, rel=0.2), sizes


def test_a_single_operator_on_a_gpu_is_its_kernel(a100: Hardware, device: Device) -> None:
    result = single("matmul", a100, m=1, k=16384, n=16384)
    assert result.latency_s * 1e6 == pytest.approx(float(product_us(device, 1.0, 16384.0, 16384.0)))
    assert result.feasible
    assert result.hardware.dies == 1
    assert result.latency_s == pytest.approx(336e-6, rel=0.1), "WaferLLM, arXiv 2502.04563, A100"


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("heads", "kv_heads"), [(32, 8), (8, 8), (8, 1), (1, 1)])
def test_attention_on_a_gpu_is_one_kernel(
    a100: Hardware, device: Device, phase: str, batch: int, heads: int, kv_heads: int
) -> None:
    sizes = {"batch": batch, "heads": heads, "kv_heads": kv_heads}
    result = single("attention", a100, phase=phase, sequence=1024, context=1023, **sizes)
    build = prefill if phase == "prefill" else decode
    alone_us = float(attention_us(device, build(batch, 1024.0, heads, kv_heads)))
    assert result.latency_s * 1e6 == pytest.approx(alone_us, rel=0.01)
    assert sum(op.cycles > 10 for op in result.operators) == 1
    assert result.energy["memory"] > 0


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_window_reaches_the_kernel(a100: Hardware, phase: str) -> None:
    sizes = {"batch": 8, "heads": 32, "kv_heads": 32, "sequence": 8192, "context": 8192}
    full = single("attention", a100, phase=phase, **sizes)
    windowed = single("attention", a100, phase=phase, window=512, **sizes)
    assert windowed.latency_s < full.latency_s / 3


def test_scores_of_a_long_prompt_never_lie_in_memory(a100: Hardware) -> None:
    """They alone would be 1 TiB."""
    result = single("attention", a100, heads=32, kv_heads=8, sequence=131072)
    assert result.feasible
    assert result.memory.peak_core_bytes < 8e9


def test_a_gpu_holds_its_tensors_in_memory_not_in_cache(a100: Hardware) -> None:
    assert single("matmul", a100, m=1, k=65536, n=65536).feasible
    too_large = single("matmul", a100, m=1, k=262144, n=262144)
    assert [short.resource for short in too_large.infeasible] == ["core memory"]


def test_a_wafer_takes_its_best_region_unless_one_is_pinned() -> None:
    sizes = {"m": 1, "k": 16384, "n": 16384}
    best = single("matmul", "wse2", dtype="float16", **sizes)
    pinned = single("matmul", "wse2", dtype="float16", region="200x200", **sizes)
    assert pinned.mapping.region == (200, 200)
    assert best.latency_s < pinned.latency_s
    assert best.latency_s < 10e-6


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_attention_runs_on_a_wafer(phase: str) -> None:
    sizes = {"heads": 32, "kv_heads": 8, "sequence": 512, "context": 512}
    result = single("attention", "wse2", dtype="float16", phase=phase, **sizes)
    assert result.feasible
    assert any(op.kind in ("matmul", "grid_matmul") for op in result.operators)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"k": 8}, "matmul needs n"),
        ({"k": 8, "n": 0}, "n: 0 is no whole number from 1"),
        ({"k": 8, "n": 8, "heads": 8}, "matmul has no size 'heads'"),
    ],
)
def test_wrong_sizes_are_named(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        single("matmul", "wse2", **sizes)


def test_heads_must_share_keys_evenly() -> None:
    with pytest.raises(UserError, match="heads: 10 is no multiple of kv_heads, 4"):
        single("attention", "wse2", heads=10, kv_heads=4)
