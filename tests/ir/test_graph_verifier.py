"""The verifier of the model graph: every rule is enforced, and the message names the op."""

import pytest
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Model
from wscc.ir.text import parse_graph, parse_model


def verify(*lines: str) -> None:
    head = (
        "graph g {",
        "input %x: float32[batch, 4] = data x",
        "input %w: float32[6, 4] = weight w",
        "input %i: int64[batch, 3] = data i",
    )
    parse_graph("\n".join((*head, *lines, "}"))).verify()


MATMUL = '%y: float32[batch, 6] = matmul(%x, %w) {indices = "be,fe->bf"}'


def test_a_valid_graph_passes() -> None:
    verify(MATMUL, "output %y = data y")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '%y: float32[batch, 6] = matmul(%x, %v) {indices = "be,fe->bf"}',
            "graph g: matmul %y reads %v, which nothing before it defines",
        ),
        (
            '%w: float32[batch, 6] = matmul(%x, %w) {indices = "be,fe->bf"}',
            "graph g: matmul defines %w a second time",
        ),
        (
            "%y: float32[batch, 6] = matmull(%x, %w)",
            "no operator kind 'matmull', did you mean 'matmul'?",
        ),
        (
            '%y: float32[batch, 6] = matmul(%x) {indices = "be->b"}',
            "graph g: matmul %y: 1 operands, not 2",
        ),
        (
            '%y: float32[batch, 7] = matmul(%x, %w) {indices = "be,fe->bf"}',
            "graph g: matmul %y: index f is 6 and 7 at once",
        ),
        (
            '%y: float32[batch, 6] = matmul(%x, %w) {indices = "be,ef->bf"}',
            "graph g: matmul %y: index e is 4 and 6 at once",
        ),
        (
            '%y: float32[batch, 6] = matmul(%x, %w) {indices = "bse,fe->bsf"}',
            "graph g: matmul %y: indices 'bse' for shape float32[batch, 4]",
        ),
        (
            '%y: float32[batch, 6] = matmul(%x, %w) {indices = "be->b"}',
            "graph g: matmul %y: indices for 1 operands",
        ),
        (
            '%y: float32[batch, 6] = matmul(%x, %w) {indices = "be,fe"}',
            "graph g: matmul %y: 'be,fe' is not of the form 'ab,bc->ac'",
        ),
        (
            '%y: float32[batch, 6, 2] = matmul(%x, %w) {indices = "be,fe->bfz"}',
            "graph g: matmul %y: index z of the result is in no operand",
        ),
        (
            "%y: float32[batch, 6] = matmul(%x, %w)",
            "graph g: matmul %y: no text attribute 'indices'",
        ),
        (
            '%y: float32[batch] = elementwise(%x) {indices = "be->b", expr = "a"}',
            "graph g: elementwise %y: index e is dropped but is not 1",
        ),
        (
            '%y: float32[batch, 4] = elementwise(%x) {indices = "be->be", expr = "a + b"}',
            "graph g: elementwise %y: expression 'a + b' reads b, but there are 1 operands",
        ),
        (
            '%y: float32[batch, 4] = elementwise(%x) {indices = "be->be", expr = "a.T"}',
            "graph g: elementwise %y: 'a.T' holds",
        ),
        (
            '%y: float32[batch] = reduce(%x) {indices = "be->b", function = "sum"}',
            "graph g: reduce %y: no text attribute 'expr'",
        ),
        (
            '%y: float32[batch] = reduce(%x) {indices = "be->b", function = "mean", expr = "a"}',
            "graph g: reduce %y: no function 'mean', only max, sum",
        ),
        (
            "%y: float32[batch, 5] = reshape(%x)",
            "graph g: reshape %y: reshape of float32[batch, 4] to float32[batch, 5]",
        ),
        (
            "%y: float16[4, batch] = transpose(%x) {order = [1, 0]}",
            "graph g: transpose %y: result is float32[4, batch], not float16[4, batch]",
        ),
        (
            "%y: float32[batch, batch] = transpose(%x) {order = [0, 0]}",
            "graph g: transpose %y: order [0, 0] is no permutation of 2 dimensions",
        ),
        (
            "%y: float32[4, batch] = transpose(%x) {order = [1, 2]}",
            "graph g: transpose %y: order [1, 2] is no permutation of 2 dimensions",
        ),
        (
            '%y: float32[batch, 3] = slice(%x) '
            '{indices = "be->be", along = "e", start = 0, stop = 2}',
            "graph g: slice %y: result is float32[batch, 2], not float32[batch, 3]",
        ),
        (
            '%y: float32[batch, 3] = slice(%x) '
            '{indices = "be->be", along = "e", start = 2, stop = 5}',
            "graph g: slice %y: no elements 2 to 5 of 4",
        ),
        (
            '%y: float32[batch, 4] = slice(%x) '
            '{indices = "be->be", along = "f", start = 0, stop = 4}',
            "graph g: slice %y: index 'f' is not one of the operand's, 'be'",
        ),
        (
            '%y: float32[batch - 1, 4] = slice(%x) '
            '{indices = "be->be", along = "b", start = context, stop = batch}',
            "graph g: slice %y: result is float32[batch - 1*context, 4], not float32[batch - 1, 4]",
        ),
        (
            '%y: float32[batch, 7] = pad(%x) '
            '{indices = "be->be", along = "e", before = -1, after = 4, value = 0.0}',
            "graph g: pad %y: no room of -1 and 4 elements",
        ),
        (
            '%y: float32[batch, 7] = pad(%x) '
            '{indices = "be->be", along = "e", before = 1, after = 1, value = 0.0}',
            "graph g: pad %y: result is float32[batch, 6], not float32[batch, 7]",
        ),
        (
            '%y: int64[batch, 2] = iota() {indices = "->b", start = 0, step = 1}',
            "graph g: iota %y: indices 'b' for shape int64[batch, 2]",
        ),
        (
            '%y: int64[batch] = iota() {indices = "->b", start = 0.5, step = 1}',
            "graph g: iota %y: no dimension 'start'",
        ),
        (
            '%y: float32[batch, 2], %z: int32[batch, 2] = topk(%x) '
            '{indices = "be->bk,bk", over = "e", largest = true, sorted = true}',
            "graph g: topk %y: results are float32 and int64",
        ),
        (
            '%y: float32[batch, 4], %z: int64[batch, 4] = topk(%x) '
            '{indices = "be->be,be", over = "e", largest = true, sorted = true}',
            "graph g: topk %y: two results with one new letter in the place of `over`",
        ),
        (
            '%y: float32[batch, 4] = scatter(%x, %i, %x) '
            '{indices = "be,bk,be->be", along = "e", function = "max"}',
            "graph g: scatter %y: no function 'max', only add, set",
        ),
        (
            '%y: float16[batch, 3] = gather(%x, %i) {indices = "be,bk->bk", along = "e"}',
            "graph g: gather %y: result is float32[batch, 3], not float16[batch, 3]",
        ),
        (
            '%y: float32[batch, 4] = slice(%x) '
            '{indices = "be->be", along = "e", start = true, stop = 4}',
            "graph g: slice %y: no dimension 'start'",
        ),
        (
            '%y: float32[batch, 9] = concat(%x, %x) {indices = "be,be->be", along = "e"}',
            "graph g: concat %y: result is float32[batch, 8], not float32[batch, 9]",
        ),
        (
            '%y: float32[batch, 3] = all_reduce(%x) {axes = ["xd"], function = "sum"}',
            "graph g: all_reduce %y: result is float32[batch, 4], not float32[batch, 3]",
        ),
        (
            '%y: float32[batch, 5] = all_gather(%x) {axes = ["xd"]}',
            "graph g: all_gather %y: result is float32[batch, 4], not float32[batch, 5]",
        ),
        ("output %y = data y", "graph g: output %y is not defined"),
    ],
)  # fmt: skip
def test_each_broken_rule_is_named_with_its_op(line: str, message: str) -> None:
    with pytest.raises(VerificationError) as raised:
        verify(line)
    assert str(raised.value).startswith(message)


def test_a_value_may_not_be_read_before_it_is_made() -> None:
    later = '%z: float32[batch, 6] = elementwise(%y) {indices = "be->be", expr = "-a"}'
    with pytest.raises(VerificationError, match="elementwise %z reads %y, which nothing before"):
        verify(later, MATMUL)


def test_two_inputs_may_not_share_a_name() -> None:
    with pytest.raises(VerificationError, match="input defines %x a second time"):
        verify("input %x: float32[4] = data x")


BODY = """graph body {
  input %h: float32[batch, 4] = carried h
  input %t: float32[4] = shared t
  %y: float32[batch, 4] = elementwise(%h, %t) {indices = "be,e->be", expr = "a * b"}
  output %y = carried h
}
"""


def model(repeat: str, body: str = BODY) -> Model:
    main = f"""graph main {{
  input %x: float32[batch, 4] = data x
  input %t: float32[4] = weight t
  {repeat}
  output %y = data y
}}
"""
    return parse_model('model "m" phase=prefill dtype=float32\n' + body + main)


def test_a_repeat_that_fits_its_body_passes() -> None:
    model('%y: float32[batch, 4] = repeat(%x, %t) {body = "body", first = 0, count = 2}').verify()


@pytest.mark.parametrize(
    ("repeat", "message"),
    [
        (
            '%y: float32[batch, 4] = repeat(%x, %t) {body = "bdy", first = 0, count = 2}',
            "repeat %y: no graph called bdy",
        ),
        (
            '%y: float32[batch, 4] = repeat(%x) {body = "body", first = 0, count = 2}',
            "repeat %y: operands do not fit graph body",
        ),
        (
            '%y: float32[batch, 4] = repeat(%t, %x) {body = "body", first = 0, count = 2}',
            "repeat %y: operands do not fit graph body",
        ),
        (
            '%y: float32[batch, 5] = repeat(%x, %t) {body = "body", first = 0, count = 2}',
            "repeat %y: what graph body carries in, carries out and yields differs",
        ),
    ],
)
def test_a_repeat_that_does_not_fit_its_body_is_refused(repeat: str, message: str) -> None:
    with pytest.raises(VerificationError) as raised:
        model(repeat).verify()
    assert str(raised.value) == message


def test_a_body_must_carry_out_what_it_carries_in() -> None:
    narrower = BODY.replace("output %y = carried h", "output %t = carried h")
    repeat = '%y: float32[batch, 4] = repeat(%x, %t) {body = "body", first = 0, count = 2}'
    with pytest.raises(VerificationError, match="carries in, carries out and yields differs"):
        model(repeat, narrower).verify()


def test_a_graph_is_filed_under_its_own_name() -> None:
    whole = model('%y: float32[batch, 4] = repeat(%x, %t) {body = "body", first = 0, count = 2}')
    wrong = {"main": whole.main, "other": whole.graphs["body"]}
    with pytest.raises(VerificationError, match="graph body is filed under other"):
        Model(whole.name, whole.phase, whole.dtype, wrong).verify()


def test_the_graph_as_networkx_has_an_edge_for_every_use() -> None:
    inputs = "input %x: float32[batch, 4] = data x\ninput %w: float32[6, 4] = weight w"
    dag = parse_graph(f"graph g {{\n{inputs}\n{MATMUL}\n}}").dag
    assert sorted(dag.edges) == [("w", "y"), ("x", "y")]
