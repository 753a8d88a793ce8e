"""Scales that a core keeps, against the blocks that every device of a row really meets."""

from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.scales import scale_bytes
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.text import parse_graph

TEXT = """graph layer {{
  input %w: float8_e4m3fn[{outer}, {inner}] = weight w
  input %s: float32[{blocks}] = buffer s
  %v: float32[{outer}, {inner}] = dequantize(%w, %s) {{indices = "oi,F->oi", stored = "float8_e4m3fn", blocks = ["F = {size} oi"]}}
  output %v = carried v
}}"""  # noqa: E501


def mapped(outer: int, inner: int, size: int, along: str) -> MappedGraph:
    text = TEXT.format(outer=outer, inner=inner, blocks=-(-outer * inner // size), size=size)
    axes = (("xd",), ()) if along == "outer" else ((), ("xd",))
    graph = parse_graph(text)
    return MappedGraph(graph, {"w": Sharding(axes), "v": Sharding(axes), "s": Sharding(((),))})


def met(outer: int, inner: int, size: int, along: str, devices: int) -> int:
    """The blocks of the device that meets most."""
    extent = outer if along == "outer" else inner
    part = -(-extent // devices)
    most = 0
    for device in range(devices):
        own = range(min(device * part, extent), min((device + 1) * part, extent))
        rows, columns = (own, range(inner)) if along == "outer" else (range(outer), own)
        most = max(most, len({(r * inner + c) // size for r in rows for c in columns}))
    return most


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 24), st.integers(1, 12), st.sampled_from(["outer", "inner"]),
    st.integers(1, 9),
)  # fmt: skip
def test_no_device_meets_more_blocks_than_are_counted(
    outer: int, inner: int, size: int, along: str, devices: int
) -> None:
    sizes = {"yh": 1, "yd": 1, "xh": 1, "xd": devices}
    bytes_ = scale_bytes(mapped(outer, inner, size, along), "s", sizes)
    assert bytes_ is not None
    assert 4 * met(outer, inner, size, along, devices) <= float(bytes_)
    assert float(bytes_) <= 4 * -(-outer * inner // size)


def test_parts_that_begin_with_their_blocks_meet_no_other() -> None:
    """Of 4 x 64 elements in blocks of 16, a sixteenth of the columns lies in one block a row."""
    sizes = {"yh": 1, "yd": 1, "xh": 1, "xd": 16}
    assert scale_bytes(mapped(4, 64, 16, "inner"), "s", sizes) == 4 * 4
    assert scale_bytes(mapped(4, 64, 16, "inner"), "w", sizes) is None
