"""Every kind of operator, split: on any mesh a layer computes what it computes unsplit."""

from typing import Any

import pytest
from wscc.ir.graph import Model, Phase
from wscc.ir.interpreter import run_model
from wscc.ir.random_state import random_state
from wscc.ir.text import parse_model
from wscc.ir.virtual import run_program
from wscc.passes.decompose import Decompose
from wscc.passes.dimensions import head_groups
from wscc.passes.fold_views import FoldViews
from wscc.passes.pieces import chain_of
from wscc.passes.verify import TOLERANCE, compare

SIZES = {"batch": 2, "sequence": 8, "context": 8}

WAYS: tuple[tuple[Phase, str], ...] = (
    ("prefill", "matmul"),
    ("prefill", "matvec"),
    ("decode", "matvec"),
)

MESHES = ((1, 1, 1), (2, 3, 1), (3, 2, 2), (4, 5, 2))
"""Rows, columns, head groups."""

MODEL = """model "split" phase={phase} dtype=float32
graph layer {{
  input %hidden: float32[batch, S, 24] = carried hidden
  {inputs}
  {lines}
  %out: float32[batch, S, 24] = elementwise(%hidden, %y) {{indices = "bse,bse->bse", expr = "a + b"}}
  output %out = carried hidden
}}
graph main {{
  input %ids: int64[batch, S] = data ids
  input %table: float32[50, 24] = weight table
  %embedding: float32[batch, S, 24] = embedding(%ids, %table) {{indices = "bs,ve->bse", rows = "v"}}
  %hidden: float32[batch, S, 24] = repeat(%embedding) {{body = "layer", first = 0, count = 2}} @layers.*
  %logits: float32[batch, S, 50] = matmul(%hidden, %table) {{indices = "bse,ve->bsv"}}
  output %logits = data logits
}}
"""  # noqa: E501


def sections(text: str) -> dict[str, tuple[str, ...]]:
    """The lines under each `[name]`."""
    found: dict[str, tuple[str, ...]] = {}
    name = ""
    for line in text.strip().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            found[name] = ()
        else:
            found[name] += (line,)
    return found


LAYERS = sections("""
[softmax]
%y: float32[batch, S, 24] = softmax(%hidden) {indices = "bse->bse", over = "e"}
[norms]
bias: float32[24]
%n: float32[batch, S, 24] = norm(%hidden) {indices = "bse->bse", function = "rms", over = "e", epsilon = 1e-05}
%y: float32[batch, S, 24] = norm(%n, %bias, %bias) {indices = "bse,e,e->bse", function = "layer", over = "e", epsilon = 1e-05}
[router]
gate: float32[6, 24]
each: float32[6, 24]
%l: float32[batch, S, 6] = matmul(%hidden, %gate) {indices = "bse,xe->bsx"}
%best: float32[batch, S, 2], %which: int64[batch, S, 2] = topk(%l) {indices = "bsx->bsk,bsk", over = "x", largest = true, sorted = true}
%share: float32[batch, S, 2] = softmax(%best) {indices = "bsk->bsk", over = "k"}
%zero: float32[batch, S, 6] = elementwise() {indices = "->bsx", expr = "0"}
%dense: float32[batch, S, 6] = scatter(%zero, %which, %share) {indices = "bsx,bsk,bsk->bsx", along = "x", function = "add"}
%again: float32[batch, S, 2] = gather(%dense, %which) {indices = "bsx,bsk->bsk", along = "x"}
%total: float32[batch, S] = reduce(%again) {indices = "bsk->bs", function = "sum", expr = "a"}
%mixed: float32[batch, S, 24] = matmul(%dense, %each) {indices = "bsx,xe->bse"}
%y: float32[batch, S, 24] = elementwise(%mixed, %total) {indices = "bse,bs->bse", expr = "a * b"}
[features along]
%c: float32[batch, S, 24] = cumsum(%hidden) {indices = "bse->bse", over = "e"}
%a: float32[batch, S, 10] = slice(%c) {indices = "bse->bse", along = "e", start = 3, stop = 13}
%p: float32[batch, S, 24] = pad(%a) {indices = "bse->bse", along = "e", before = 5, after = 9, value = 0.5}
%y: float32[batch, S, 24] = flip(%p) {indices = "bse->bse", along = "e"}
[fused product]
w: float32[72, 24]
o: float32[24, 24]
%f: float32[batch, S, 72] = matmul(%hidden, %w) {indices = "bse,fe->bsf"}
%a: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 0, stop = 24}
%b: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 24, stop = 48}
%c: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 48, stop = 72}
%m: float32[batch, S, 24] = elementwise(%a, %b, %c) {indices = "bse,bse,bse->bse", expr = "silu(a) * b + c"}
%y: float32[batch, S, 24] = matmul(%m, %o) {indices = "bse,fe->bsf"}
[attention]
w: float32[48, 24]
o: float32[24, 24]
sinks: float32[4]
%f: float32[batch, S, 48] = matmul(%hidden, %w) {indices = "bse,fe->bsf"}
%q.flat: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 0, stop = 24}
%k.flat: float32[batch, S, 12] = slice(%f) {indices = "bsf->bsf", along = "f", start = 24, stop = 36}
%v.flat: float32[batch, S, 12] = slice(%f) {indices = "bsf->bsf", along = "f", start = 36, stop = 48}
%q.heads: float32[batch, S, 4, 6] = reshape(%q.flat)
%k.heads: float32[batch, S, 2, 6] = reshape(%k.flat)
%v.heads: float32[batch, S, 2, 6] = reshape(%v.flat)
%q: float32[batch, 4, S, 6] = transpose(%q.heads) {order = [0, 2, 1, 3]}
%k: float32[batch, 2, S, 6] = transpose(%k.heads) {order = [0, 2, 1, 3]}
%v: float32[batch, 2, S, 6] = transpose(%v.heads) {order = [0, 2, 1, 3]}
%bias: float32[batch, S] = reduce(%hidden) {indices = "bse->bs", function = "max", expr = "a"}
%mix: float32[batch, S, 4, 6] = attention(%q, %k, %v, %bias, %sinks) {scale = 0.4, causal = true, softcap = 3.0, window = 3, extras = ["mask", "sinks"], mask = "bt"}
%joined: float32[batch, S, 24] = reshape(%mix)
%y: float32[batch, S, 24] = matmul(%joined, %o) {indices = "bse,fe->bsf"}
[experts]
gate: float32[6, 24]
up: float32[6, 2, 10, 24]
down: float32[6, 10, 24]
upb: float32[6, 2, 10]
downb: float32[6, 24]
%l: float32[batch, S, 6] = matmul(%hidden, %gate) {indices = "bse,xe->bsx"}
%best: float32[batch, S, 2], %which: int64[batch, S, 2] = topk(%l) {indices = "bsx->bsk,bsk", over = "x", largest = true, sorted = true}
%y: float32[batch, S, 24] = experts(%hidden, %which, %best, %up, %down, %upb, %downb) {indices = "bsh,bsk,bsk,xcfh,xfo,xcf,xo->bso", expert = "x", pair = "c", expr = "silu(a) * b", extras = ["up_bias", "down_bias"], total = 6, inner = 10}
[many experts]
gate: float32[33, 24]
up: float32[33, 10, 24]
down: float32[33, 10, 24]
%l: float32[batch, S, 33] = matmul(%hidden, %gate) {indices = "bse,xe->bsx"}
%best: float32[batch, S, 2], %which: int64[batch, S, 2] = topk(%l) {indices = "bsx->bsk,bsk", over = "x", largest = true, sorted = true}
%y: float32[batch, S, 24] = experts(%hidden, %which, %best, %up, %down) {indices = "bsh,bsk,bsk,xfh,xfo->bso", expert = "x", pair = "", expr = "relu(a)", total = 33, inner = 10}
[dequantized weights]
w: int8[24, 24]
scales: float32[3, 2]
%full: float32[24, 24] = dequantize(%w, %scales) {indices = "fe,FE->fe", stored = "int8", blocks = ["F = 10 f", "E = 16 e"]}
%y: float32[batch, S, 24] = matmul(%hidden, %full) {indices = "bse,fe->bsf"}
[positions]
%at: int64[24] = iota() {indices = "->e", start = 2, step = 3}
%y: float32[batch, S, 24] = elementwise(%hidden, %at) {indices = "bse,e->bse", expr = "a * b * 0.01 + context"}
""")  # noqa: E501

SEQUENCES = sections("""
[sequence along]
%c: float32[batch, S, 24] = cumsum(%hidden) {indices = "bse->bse", over = "s"}
%a: float32[batch, sequence - 2, 24] = slice(%c) {indices = "bse->bse", along = "s", start = 2, stop = sequence}
%y: float32[batch, S, 24] = pad(%a) {indices = "bse->bse", along = "s", before = 1, after = 1, value = 0.0}
[last token]
%last: float32[batch, 1, 24] = slice(%hidden) {indices = "bse->bse", along = "s", start = sequence - 1, stop = sequence}
%y: float32[batch, S, 24] = elementwise(%hidden, %last) {indices = "bse,bte->bse", expr = "a * b"}
[convolution and scan]
w: float32[72, 24]
kernel: float32[24, 4]
rate: float32[2]
o: float32[24, 24]
%f: float32[batch, S, 72] = matmul(%hidden, %w) {indices = "bse,fe->bsf"}
%x: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 0, stop = 24}
%b: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 24, stop = 48}
%c: float32[batch, S, 24] = slice(%f) {indices = "bsf->bsf", along = "f", start = 48, stop = 72}
%short: float32[batch, S, 24] = convolve(%x, %kernel) {indices = "bse,ek->bte", positions = "s", kernel = "k", outputs = "t", stride = [1], dilation = [1], before = [3], after = [0]}
%v: float32[batch, S, 2, 12] = reshape(%short)
%k: float32[batch, S, 2, 12] = reshape(%b)
%q: float32[batch, S, 2, 12] = reshape(%c)
%read: float32[batch, S, 2, 12], %state: float32[batch, 2, 12, 12] = scan(%q, %k, %v, %rate) {indices = "bshn,bshn,bshp,h->bshp,bhnp", parts = "query key value decay", sequence = "s"}
%joined: float32[batch, S, 24] = reshape(%read)
%y: float32[batch, S, 24] = matmul(%joined, %o) {indices = "bse,fe->bsf"}
output %state = cache cache.*.state
""")  # noqa: E501


def model_of(lines: tuple[str, ...], phase: Phase) -> Model:
    """A model of two layers that compute `lines`; what is no assignment is an input or output."""
    inputs = [line for line in lines if not line.startswith(("%", "output"))]
    outputs = [line for line in lines if line.startswith("output")]
    text = MODEL.format(
        phase=phase,
        inputs="\n  ".join(
            f"input %{line} = weight layers.*.{line.partition(':')[0]}" for line in inputs
        ),
        lines="\n  ".join(line for line in lines if line.startswith("%")),
    )
    text = text.replace("  output %out", "\n".join(f"  {x}" for x in (*outputs, "output %out")))
    text = "".join(f"{line}\n" for line in text.splitlines() if line.strip())
    tokens = "1" if phase == "decode" else "sequence"
    model = parse_model(text.replace(" S,", f" {tokens},").replace(" S]", f" {tokens}]"))
    model.verify()
    return model


def assert_equal(model: Model, layout: str, make_split: Any, make_program: Any) -> None:
    state = random_state(model, SIZES)
    expected = run_model(model.bind(SIZES), state)
    folded = FoldViews().run(model.map(Decompose().run))
    groups = head_groups(chain_of(folded).graphs.values())
    for rows, columns, wanted in MESHES:
        split = make_split(layout, rows, columns, wanted if groups % wanted == 0 else 1)
        program = make_program(folded, split, SIZES["batch"])
        for output in compare(expected, run_program(program, state)):
            assert output.relative_error < TOLERANCE, (output, split)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_a_layer_computes_the_same_on_every_mesh(
    name: str, phase: Phase, layout: str, make_split: Any, make_program: Any
) -> None:
    assert_equal(model_of(LAYERS[name], phase), layout, make_split, make_program)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("layout", ["matmul", "matvec"])
def test_what_goes_along_the_sequence_is_the_same_on_every_mesh(
    name: str, layout: str, make_split: Any, make_program: Any
) -> None:
    assert_equal(model_of(SEQUENCES[name], "prefill"), layout, make_split, make_program)
