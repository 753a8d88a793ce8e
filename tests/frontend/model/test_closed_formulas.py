"""Parameters and FLOPs of published models against what their dimensions say, in every phase.

2 FLOPs for every weight of a matrix product and token that passes it, and for attention 2 FLOPs
for every pair of a query and a key and every element of both the key and the value; in training
three times that. The logits of every position are counted, as the models compute them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from wscc.cli import pipeline
from wscc.ir.graph import Model, Phase
from wscc.ir.summary import summarize

EXAMPLES = Path(__file__).parents[3] / "examples"
POINTS = ((1, 2048, 2048), (8, 512, 4096), (64, 128, 32_768))
PHASES: tuple[Phase, ...] = ("prefill", "decode", "train")


@dataclass(frozen=True)
class Dimensions:
    """What the formula needs: weights that a token passes, and attention's heads and widths.

    `widths` are those of a key and a value, `absorbed` those in decode.
    """

    parameters: int
    active: int
    heads: int
    layers: int
    widths: tuple[int, int]
    absorbed: tuple[int, int] | None = None


def gated(hidden: int, inner: int) -> int:
    return 3 * hidden * inner


def llama(hidden: int, inner: int, layers: int, heads: int, vocabulary: int) -> Dimensions:
    """Eight key-value heads of width 128, an untied head, two norms a layer."""
    layer = hidden * 128 * (2 * heads + 2 * 8) + gated(hidden, inner)
    active = layers * layer + hidden * vocabulary
    norms = (2 * layers + 1) * hidden
    return Dimensions(active + hidden * vocabulary + norms, active, heads, layers, (128, 128))


def gpt3() -> Dimensions:
    """Brown et al., arXiv 2005.14165, table 2.1: biases everywhere, tied and learned embeddings."""
    hidden, layers, vocabulary = 12_288, 96, 50_257
    layer = 12 * hidden * hidden
    small = layers * 13 * hidden + 2 * hidden + 2048 * hidden
    active = layers * layer + hidden * vocabulary
    return Dimensions(active + small, active, 96, layers, (128, 128))


def mixtral() -> Dimensions:
    """Jiang et al., arXiv 2401.04088, table 1."""
    hidden, layers, vocabulary = 4096, 32, 32_000
    shared = hidden * 128 * (2 * 32 + 2 * 8) + hidden * 8
    expert = gated(hidden, 14_336)
    head, norms = hidden * vocabulary, (2 * layers + 1) * hidden
    active = layers * (shared + 2 * expert) + head
    return Dimensions(
        layers * (shared + 8 * expert) + 2 * head + norms, active, 32, layers, (128, 128)
    )


def deepseek_v3() -> Dimensions:
    """DeepSeek-V3, arXiv 2412.19437, section 4.2, without its second token's layer."""
    hidden, layers, dense, heads, vocabulary = 7168, 61, 3, 128, 129_280
    latent = hidden * 1536 + 1536 * heads * 192 + hidden * 576 + 512 * heads * 256
    attention = latent + heads * 128 * hidden
    expert = gated(hidden, 2048)
    router = hidden * 256
    head = hidden * vocabulary
    norms = layers * (2 * hidden + 1536 + 512) + hidden
    fixed = layers * attention + dense * gated(hidden, 18_432) + (layers - dense) * router + head
    active = fixed + (layers - dense) * 9 * expert
    parameters = fixed + (layers - dense) * 257 * expert + head + norms
    return Dimensions(parameters, active, heads, layers, (192, 128), absorbed=(576, 512))


MODELS: Mapping[str, Dimensions] = {
    "llama-3.1-8b": llama(4096, 14_336, 32, 32, 128_256),
    "llama-3.1-70b": llama(8192, 28_672, 80, 64, 128_256),
    "llama-3.1-405b": llama(16_384, 53_248, 126, 128, 128_256),
    "gpt-3-175b": gpt3(),
    "mixtral-8x7b": mixtral(),
    "deepseek-v3": deepseek_v3(),
}
PUBLISHED_BILLIONS = {
    "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.55,
    "llama-3.1-405b": 405.85,
    "gpt-3-175b": 174.6,
    "mixtral-8x7b": 46.7,
    "deepseek-v3": 671.03,
}


def expected_flops(d: Dimensions, phase: Phase, batch: int, sequence: int, context: int) -> int:
    queries, keys = (1, context + 1) if phase == "decode" else (sequence, sequence)
    widths = sum(d.absorbed if d.absorbed and phase == "decode" else d.widths)
    forward = (
        2 * d.active * batch * queries + 2 * batch * d.layers * d.heads * queries * keys * widths
    )
    return forward * (3 if phase == "train" else 1)


@pytest.fixture(scope="module", params=[(n, p) for n in MODELS for p in PHASES], ids="-".join)
def traced(request: pytest.FixtureRequest) -> tuple[str, Phase, Model]:
    name, phase = request.param
    config = pipeline.read_config(EXAMPLES / name, None)
    return name, phase, pipeline.clean(pipeline.trace(config, phase, {}))


def test_parameters_are_those_of_the_published_dimensions(
    traced: tuple[str, Phase, Model],
) -> None:
    name, _, model = traced
    assert MODELS[name].parameters / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=1e-3)
    batch, sequence, context = POINTS[0]
    bound = model.bind({"batch": batch, "sequence": sequence, "context": context})
    assert summarize(bound).parameters == MODELS[name].parameters == model.parameters


@pytest.mark.parametrize("point", POINTS)
def test_flops_are_those_of_the_closed_formula(
    traced: tuple[str, Phase, Model], point: tuple[int, int, int]
) -> None:
    name, phase, model = traced
    batch, sequence, context = point
    bound = model.bind({"batch": batch, "sequence": sequence, "context": context})
    flops = summarize(bound).flops
    assert flops == pytest.approx(expected_flops(MODELS[name], phase, *point), rel=1e-3)
