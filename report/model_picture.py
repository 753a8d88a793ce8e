"""A picture of a model's graphs as SVG: operators in layers, data flowing down.

The layered drawing of Sugiyama, Tagawa and Toda (IEEE Trans. SMC 11(2), 1981): a rank for every
operator by its longest path from the inputs, long edges bent at every rank that they pass, and
the order within a rank by the mean place of the neighbours above and below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ..ir.graph import Graph, Model, Op

_BOX_HEIGHT, _ROW_GAP, _COLUMN_GAP, _MARGIN, _TITLE = 40, 34, 22, 24, 40
_LETTER = 7.4
_LONGEST = 34
_BEND = 6
_SWEEPS = 12

_COLOURS = {
    "matmul": "#7aa6da",
    "experts": "#5f8fd0",
    "attention": "#e3a857",
    "scan": "#d98c5f",
    "convolve": "#d98c5f",
    "norm": "#9cc69b",
    "softmax": "#9cc69b",
    "repeat": "#c9a6d8",
}
_STYLE = """
text { font: 12px ui-monospace, monospace; fill: #1c1c1c; text-anchor: middle }
.title { font-weight: bold; text-anchor: start }
.small { font-size: 10px; fill: #444 }
.box { stroke: #555; fill: #e4e4e4 }
.edge { stroke: #888; fill: none; stroke-width: 1.2 }
@media (prefers-color-scheme: dark) {
  svg { background: #1b1b1d } .title { fill: #eee } .edge { stroke: #999 }
}
"""


@dataclass(frozen=True)
class _Node:
    """A box with up to two lines, or a bend of a long edge where there are none."""

    lines: tuple[str, ...]
    colour: str = ""

    @property
    def width(self) -> float:
        return max((len(line) * _LETTER + 16 for line in self.lines), default=_BEND)


@dataclass
class _Drawing:
    """Nodes by rank, in order within each, and edges between neighbouring ranks."""

    nodes: list[_Node]
    ranks: list[list[int]]
    edges: list[tuple[int, int]]


def model_svg(model: Model) -> str:
    """All graphs of a model one below the other, as the text of a self-contained SVG file."""
    parts: list[str] = []
    top, right = 0.0, 0.0
    for name, graph in model.graphs.items():
        drawing = _drawing(graph)
        _order(drawing)
        lines, width, height = _drawn(drawing, f"{model.name}, {model.phase}: {name}", top)
        parts.extend(lines)
        top, right = top + height, max(right, width)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right:.0f}" height="{top:.0f}" '
        f'viewBox="0 0 {right:.0f} {top:.0f}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"


def _drawing(graph: Graph) -> _Drawing:
    """Operators and the inputs that are no weights; weights are named inside their operators."""
    given = {i.name: i for i in graph.inputs if i.role not in ("weight", "buffer")}
    places: dict[str, int] = {}
    nodes: list[_Node] = []
    rank_of: list[int] = []
    edges: list[tuple[int, int]] = []

    def add(node: _Node, rank: int) -> int:
        nodes.append(node)
        rank_of.append(rank)
        return len(nodes) - 1

    for value in given.values():
        if graph.consumers[value.name]:
            places[value.name] = add(_Node((value.name, str(value.type)), "#ffffff"), 0)
    for op in graph.ops:
        above = list(dict.fromkeys(places[name] for name in op.operands if name in places))
        rank = 1 + max((rank_of[at] for at in above), default=0)
        at = add(_box(graph, op), rank)
        places.update(dict.fromkeys(op.results, at))
        edges += [(source, at) for source in above]
    for output in graph.outputs:
        if output.name in places:
            source = places[output.name]
            edges.append(
                (source, add(_Node((output.source, output.role), "#ffffff"), 1 + rank_of[source]))
            )
    bent: list[tuple[int, int]] = []
    for source, target in edges:
        for rank in range(rank_of[source] + 1, rank_of[target]):
            bend = add(_Node(()), rank)
            bent.append((source, bend))
            source = bend
        bent.append((source, target))
    ranks: list[list[int]] = [[] for _ in range(1 + max(rank_of, default=0))]
    for at, rank in enumerate(rank_of):
        ranks[rank].append(at)
    return _Drawing(nodes, ranks, bent)


def _box(graph: Graph, op: Op) -> _Node:
    weights = {i.name for i in graph.inputs if i.role == "weight"}
    label = op.path.rpartition(".")[2] if weights & set(op.operands) else ""
    kind = f"{op.kind} x {op.integer('count')}" if op.kind == "repeat" else op.kind
    if op.kind == "elementwise":
        kind = op.text("expr")
    text = f"{kind} {label}".rstrip()
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return _Node(
        (shown, str(op.type) if op.types else ""),
        _COLOURS.get(op.kind.removesuffix("_grad"), "#e4e4e4"),
    )


def _order(drawing: _Drawing) -> None:
    """Bring neighbours above one another, sweeping down and up."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for source, target in drawing.edges:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        ranks = drawing.ranks[1:] if down else drawing.ranks[-2::-1]
        place = {at: float(x) for rank in drawing.ranks for x, at in enumerate(rank)}
        for rank in ranks:
            near = above if down else below
            key = {
                at: sum(place[n] for n in near[at]) / len(near[at]) if at in near else place[at]
                for at in rank
            }
            rank.sort(key=key.__getitem__)
            place.update({at: float(x) for x, at in enumerate(rank)})


def _drawn(drawing: _Drawing, title: str, top: float) -> tuple[list[str], float, float]:
    """The SVG elements of one drawing below `top`, and its width and height."""
    widths = [
        sum(drawing.nodes[at].width for at in rank) + _COLUMN_GAP * (len(rank) - 1)
        for rank in drawing.ranks
    ]
    width = max([*widths, len(title) * 8.0]) + 2 * _MARGIN
    centre: dict[int, tuple[float, float]] = {}
    for row, (rank, used) in enumerate(zip(drawing.ranks, widths, strict=True)):
        x = (width - used) / 2
        y = top + _TITLE + row * (_BOX_HEIGHT + _ROW_GAP) + _BOX_HEIGHT / 2
        for at in rank:
            centre[at] = (x + drawing.nodes[at].width / 2, y)
            x += drawing.nodes[at].width + _COLUMN_GAP
    height = _TITLE + len(drawing.ranks) * (_BOX_HEIGHT + _ROW_GAP)
    lines = [f'<text class="title" x="{_MARGIN}" y="{top + 22:.0f}">{escape(title)}</text>']
    lines += [_curve(drawing.nodes, centre, edge) for edge in drawing.edges]
    for at, (x, y) in centre.items():
        lines.extend(_shapes(drawing.nodes[at], x, y))
    return lines, width, height


def _curve(
    nodes: Sequence[_Node], centre: dict[int, tuple[float, float]], edge: tuple[int, int]
) -> str:
    (x0, y0), (x1, y1) = (centre[at] for at in edge)
    start, end = (_BOX_HEIGHT / 2 if nodes[at].lines else 0.0 for at in edge)
    y0, y1 = y0 + start, y1 - end
    middle = (y0 + y1) / 2
    return (
        f'<path class="edge" d="M{x0:.0f} {y0:.0f} C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} '
        f'{x1:.0f} {y1:.0f}"/>'
    )


def _shapes(node: _Node, x: float, y: float) -> Iterator[str]:
    if not node.lines:
        return
    left, top = x - node.width / 2, y - _BOX_HEIGHT / 2
    yield (
        f'<rect class="box" x="{left:.0f}" y="{top:.0f}" width="{node.width:.0f}" '
        f'height="{_BOX_HEIGHT}" rx="5" style="fill:{node.colour}"/>'
    )
    for line, dy, kind in zip(node.lines, (-3, 13), ("", ' class="small"'), strict=False):
        yield f'<text{kind} x="{x:.0f}" y="{y + dy:.0f}">{escape(line)}</text>'
