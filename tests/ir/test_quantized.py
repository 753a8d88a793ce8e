"""Quantized values stand for what the published formulas say."""

import pytest
import torch
from wscc.ir.dims import symbol
from wscc.ir.errors import VerificationError
from wscc.ir.graph import DTYPE_BYTES, Graph, Input, Op, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import indices_of
from wscc.ir.operators.quantized import LARGEST, decoded, dequantize, encoded, renamed_blocks
from wscc.ir.text import parse_graph, parse_op, print_graph


def op(text: str) -> Op:
    return parse_op(text)


def verify(made: Op, *types: TensorType) -> None:
    inputs = tuple(
        Input(name, type_, "weight", name) for name, type_ in zip(made.operands, types, strict=True)
    )
    graph = Graph("main", inputs, (made,), ())
    graph.verify()
    assert parse_graph(print_graph(graph)) == graph


def test_four_bits_are_half_a_byte_rounded_up() -> None:
    assert TensorType("int4", (3, 5)).bytes == 8
    assert TensorType("uint3", (8,)).bytes == 3
    assert TensorType("bfloat16", (3, 5)).bytes == 30
    assert TensorType("nf4", (symbol("batch"), 10)).bytes == symbol("batch") * 5
    assert DTYPE_BYTES["int4"] == 0.5
    assert DTYPE_BYTES["bfloat16"] == 2


def test_blocks_of_fp8_are_those_of_transformers() -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    torch.manual_seed(0)
    weight = torch.randn(256, 384).to(torch.float8_e4m3fn)
    scale = torch.rand(2, 3) + 0.1
    made = op(
        "%y: bfloat16[256, 384] = dequantize(%w, %s) "
        '{indices = "fe,FE->fe", stored = "float8_e4m3fn", '
        'blocks = ["F = 128 f", "E = 128 e"]}'
    )
    verify(made, TensorType("float8_e4m3fn", (256, 384)), TensorType("float32", (2, 3)))
    expected = Fp8Dequantize(None)._dequantize_one(weight, scale, torch.bfloat16)
    assert torch.equal(run_op(made, [weight, scale])[0], expected)


def test_the_last_block_may_be_shorter() -> None:
    from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

    weight, scale = torch.randn(200, 130).to(torch.float8_e4m3fn), torch.rand(2, 2) + 0.1
    made = op(
        "%y: float32[200, 130] = dequantize(%w, %s) "
        '{indices = "fe,FE->fe", stored = "float8_e4m3fn", '
        'blocks = ["F = 128 f", "E = 128 e"]}'
    )
    expected = _dequantize_fp8_weight(weight, scale, [128, 128], torch.float32)
    assert torch.equal(run_op(made, [weight, scale])[0], expected)


def test_experts_in_mxfp4_are_those_of_transformers() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    torch.manual_seed(0)
    experts, out, groups = 3, 10, 2
    packed = torch.randint(0, 256, (experts, out, groups, 16), dtype=torch.uint8)
    exponents = torch.randint(118, 134, (experts, out, groups), dtype=torch.uint8)
    expected = convert_moe_packed_tensors(packed, exponents, dtype=torch.bfloat16)
    codes = torch.stack((packed & 15, packed >> 4), -1).reshape(experts, out, 64)
    scale = exponents.view(torch.float8_e8m0fnu)
    made = op(
        "%y: bfloat16[3, 64, 10] = dequantize(%w, %s) "
        '{indices = "ehf,eHf->ehf", stored = "float4_e2m1", blocks = ["H = 32 h"]}'
    )
    verify(made, TensorType("float4_e2m1", (3, 64, 10)), TensorType("float8_e8m0fnu", (3, 2, 10)))
    operands = [codes.transpose(1, 2), scale.view(torch.uint8).transpose(1, 2).contiguous()]
    operands[1] = operands[1].view(torch.float8_e8m0fnu)
    assert torch.equal(run_op(made, operands)[0], expected)


def test_groups_of_int4_with_zero_points() -> None:
    torch.manual_seed(0)
    codes = torch.randint(0, 16, (6, 32), dtype=torch.uint8)
    scale, zero = torch.rand(6, 4).half(), torch.randint(0, 16, (6, 4), dtype=torch.uint8)
    made = op(
        "%y: float16[6, 32] = dequantize(%w, %s, %z) "
        '{indices = "fe,fE,fE->fe", stored = "uint4", blocks = ["E = 8 e"], zero = true}'
    )
    verify(
        made,
        TensorType("uint4", (6, 32)),
        TensorType("float16", (6, 4)),
        TensorType("uint4", (6, 4)),
    )
    expected = torch.empty(6, 32)
    for row in range(6):
        for column in range(32):
            group = row, column // 8
            shifted = int(codes[row, column]) - int(zero[group])
            expected[row, column] = shifted * float(scale[group])
    assert torch.equal(run_op(made, [codes, scale, zero])[0], expected.half())


def test_nvfp4_has_scales_on_two_levels() -> None:
    torch.manual_seed(0)
    codes = torch.randint(0, 16, (4, 32), dtype=torch.uint8)
    scale, overall = torch.rand(4, 2).to(torch.float8_e4m3fn), torch.tensor(0.03)
    made = op(
        "%y: float32[4, 32] = dequantize(%w, %s, %g) "
        '{indices = "fe,fE,->fe", stored = "float4_e2m1", blocks = ["E = 16 e"]}'
    )
    verify(
        made,
        TensorType("float4_e2m1", (4, 32)),
        TensorType("float8_e4m3fn", (4, 2)),
        TensorType("float32", ()),
    )
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = table[(codes & 7).long()] * torch.where(codes < 8, 1, -1)
    expected = (values.reshape(4, 2, 16) * scale.float()[..., None] * 0.03).reshape(4, 32)
    torch.testing.assert_close(run_op(made, [codes, scale, overall])[0], expected)


def test_blocks_may_run_over_several_letters() -> None:
    weight, scale = torch.randn(2, 3, 4).to(torch.float8_e4m3fn), torch.rand(2)
    made = op(
        "%y: float32[2, 3, 4] = dequantize(%w, %s) "
        '{indices = "hde,F->hde", stored = "float8_e4m3fn", blocks = ["F = 4 hd"]}'
    )
    expected = weight.float().reshape(6, 4) * scale.repeat_interleave(4)[:6, None]
    assert torch.equal(run_op(made, [weight, scale])[0], expected.reshape(2, 3, 4))


def test_a_part_of_a_value_finds_its_scales_by_its_place_in_the_whole() -> None:
    weight, scale, rows = torch.randn(10, 12).to(torch.float8_e4m3fn), torch.rand(10, 3), (3, 8)
    made = op(
        "%y: float32[10, 12] = dequantize(%w, %s) "
        '{indices = "fe,fE->fe", stored = "float8_e4m3fn", blocks = ["E = 4 e"]}'
    )
    (whole,) = run_op(made, [weight, scale])
    held = [weight[slice(*rows), 5:11], scale[slice(*rows)]]
    part = {"f": (range(*rows), 10), "e": (range(5, 11), 12)}
    assert torch.equal(dequantize(made, held, part), whole[slice(*rows), 5:11])


def test_an_activation_in_blocks_is_that_of_deepseek() -> None:
    """act_quant of DeepSeek-V3's inference code: x / s with s = max |x| / 448 in 128 elements."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 256) * 5
    made = op(
        "%q: float8_e4m3fn[2, 3, 256], %s: float32[2, 3, 2] = quantize(%x) "
        '{indices = "bse->bse,bsE", blocks = ["E = 128 e"]}'
    )
    verify(made, TensorType("bfloat16", (2, 3, 256)))
    stored, scale = run_op(made, [x])
    blocks = x.reshape(2, 3, 2, 128)
    expected = blocks.abs().amax(-1) / 448
    assert torch.equal(scale, expected)
    quantized = (blocks / expected[..., None]).to(torch.float8_e4m3fn).reshape(2, 3, 256)
    assert torch.equal(stored.float(), quantized.float())


def test_a_token_or_a_tensor_may_have_one_scale() -> None:
    x = torch.randn(2, 3, 8)
    token = op('%q: int8[2, 3, 8], %s: float32[2, 3] = quantize(%x) {indices = "bse->bse,bs"}')
    stored, scale = run_op(token, [x])
    assert torch.equal(scale, x.abs().amax(-1) / 127)
    assert torch.equal(stored, (x / scale[..., None]).round().to(torch.int8))
    assert indices_of(token).whole == {"e"}
    tensor = op('%q: int8[2, 3, 8], %s: float32[] = quantize(%x) {indices = "bse->bse,"}')
    assert torch.equal(run_op(tensor, [x])[1], x.abs().max() / 127)
    fixed = op('%q: float8_e4m3fn[2, 3, 8] = quantize(%x, %s) {indices = "bse,->bse"}')
    verify(fixed, TensorType("float32", (2, 3, 8)), TensorType("float32", ()))
    (stored,) = run_op(fixed, [x, torch.tensor(0.5)])
    assert torch.equal(stored.float(), (x / 0.5).to(torch.float8_e4m3fn).float())


def test_zeros_and_what_is_too_large_are_quantized_too() -> None:
    fixed = op('%q: float8_e4m3fn[3] = quantize(%x, %s) {indices = "e,->e"}')
    (stored,) = run_op(fixed, [torch.tensor([1e6, -1e6, 0.0]), torch.tensor(1.0)])
    assert stored.float().tolist() == [448, -448, 0]
    found = op('%q: int8[3], %s: float32[] = quantize(%x) {indices = "e->e,"}')
    stored, scale = run_op(found, [torch.zeros(3)])
    assert stored.tolist() == [0, 0, 0]
    assert scale == 1


def test_scales_that_are_powers_of_two_are_rounded_up() -> None:
    made = op('%q: float8_e4m3fn[3], %s: float8_e8m0fnu[] = quantize(%x) {indices = "e->e,"}')
    stored, scale = run_op(made, [torch.tensor([449.0, 2.0, 0.0])])
    assert scale.float() == 2
    assert stored.float().tolist() == [224, 1, 0]


def test_float4_is_rounded_to_the_nearest_code_and_ties_to_even() -> None:
    values = torch.tensor([0.0, 0.25, 0.26, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 5.1, 9.0, -2.9])
    rounded = decoded(encoded(values, "float4_e2m1"), "float4_e2m1")
    assert rounded.tolist() == [0, 0, 0.5, 1, 1, 2, 2, 4, 4, 6, 6, -3]


@pytest.mark.parametrize("dtype", LARGEST)
def test_what_is_encoded_is_decoded_again(dtype: str) -> None:
    exact = torch.tensor([0.0, 1.0, -2.0, 6.0, LARGEST[dtype]])
    assert torch.equal(decoded(encoded(exact, dtype), dtype), exact)


def test_letters_that_a_view_splits_are_split_in_the_blocks() -> None:
    made = op(
        "%y: float32[8, 4] = dequantize(%w, %s) "
        '{indices = "fe,FE->fe", stored = "int8", blocks = ["F = 4 f", "E = 4 e"]}'
    )
    assert renamed_blocks(made, {"f": "hd", "e": "e", "F": "F", "E": ""}) == ("F = 4 hd",)


@pytest.mark.parametrize(
    ("text", "types", "message"),
    [
        (
            "%y: float32[8, 4] = dequantize(%w, %s) "
            '{indices = "fe,FE->fe", stored = "int8", blocks = ["F = 3 f", "E = 4 e"]}',
            [TensorType("int8", (8, 4)), TensorType("float32", (2, 1))],
            "graph main: dequantize %y: block F = 3 f: index F is 2 for 8 elements",
        ),
        (
            '%y: float32[8] = dequantize(%w, %s) {indices = "f,F->f", stored = "int8"}',
            [TensorType("int8", (8,)), TensorType("float32", (2,))],
            "graph main: dequantize %y: index F of a scale is neither the value's nor a block",
        ),
        (
            '%y: float32[8] = dequantize(%w) {indices = "f->f", stored = "int8"}',
            [TensorType("int8", (8,))],
            "graph main: dequantize %y: no scale",
        ),
        (
            '%y: float32[8] = dequantize(%w, %s) {indices = "f,->f", stored = "int4"}',
            [TensorType("int8", (8,)), TensorType("float32", ())],
            "graph main: dequantize %y: stored says int4, the operand is int8",
        ),
        (
            '%y: float32[8] = dequantize(%w, %s) {indices = "f,F->f", stored = "int8", '
            'blocks = ["F: 128"]}',
            [TensorType("int8", (8,)), TensorType("float32", (1,))],
            "graph main: dequantize %y: block 'F: 128' is not of the form 'F = 128 f'",
        ),
        (
            '%y: int8[8] = quantize(%x) {indices = "f->f"}',
            [TensorType("float32", (8,))],
            "graph main: quantize %y: no scale is given and none results",
        ),
        (
            '%y: nf4[8] = quantize(%x, %s) {indices = "f,->f"}',
            [TensorType("float32", (8,)), TensorType("float32", ())],
            "graph main: quantize %y: activations cannot be nf4, only float8_e4m3fn, float8_e5m2, "
            "float4_e2m1, int8, int4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(text: str, types: list[TensorType], message: str) -> None:
    with pytest.raises(VerificationError) as refused:
        verify(op(text), *types)
    assert str(refused.value) == message
