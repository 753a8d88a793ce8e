import xml.etree.ElementTree as ElementTree

from wscc.ir.text import parse_model
from wscc.report.model_picture import model_svg

TEXT = """\
model "a & b" phase=decode dtype=bfloat16
graph main {
  input %x: float32[batch, 4] = data x
  input %unused: float32[4] = data unused
  input %w: float32[4, 4] = weight up.weight
  %a: float32[batch, 4] = matmul(%x, %w) {indices = "be,fe->bf"} @block.up
  %b: float32[batch, 4] = elementwise(%a) {indices = "be->be", expr = "a <= 2.0"}
  %c: float32[batch, 4] = elementwise(%b, %x) {indices = "be,be->be", expr = "a + b"}
  output %c = data y
}
"""

SVG = "{http://www.w3.org/2000/svg}"


def test_every_operator_is_a_box_with_its_weight_or_expression() -> None:
    root = ElementTree.fromstring(model_svg(parse_model(TEXT)))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts[0] == "a & b, decode: main"
    assert {"matmul up", "a <= 2.0", "a + b", "x", "y"} <= set(texts)
    assert "unused" not in texts


def test_boxes_lie_inside_the_picture_and_do_not_overlap() -> None:
    root = ElementTree.fromstring(model_svg(parse_model(TEXT)))
    boxes = [
        tuple(float(element.attrib[key]) for key in ("x", "y", "width", "height"))
        for element in root.iter(f"{SVG}rect")
    ]
    assert len(boxes) == 5
    for at, (x, y, width, height) in enumerate(boxes):
        assert x >= 0
        assert x + width <= float(root.attrib["width"])
        assert y + height <= float(root.attrib["height"])
        for other_x, other_y, other_width, _ in boxes[:at]:
            assert y != other_y or x >= other_x + other_width or other_x >= x + width


def test_an_edge_that_passes_ranks_is_bent_at_each() -> None:
    root = ElementTree.fromstring(model_svg(parse_model(TEXT)))
    assert len([*root.iter(f"{SVG}path")]) == 4 + 3
