"""Text form of graphs and models, and the parser that reads it back: parse(print(x)) == x.

One line an input, operator or output:

    %6: bfloat16[batch, 8, 128] = matmul(%x, %w) {indices = "be,gde->bgd"} @model.layers.*.q_proj
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping

from .dims import Dim, Polynomial, parse_dim
from .graph import ROLES, Attribute, Graph, Input, Model, Op, Output, TensorType

Annotate = Callable[[str], str]
"""What to print behind a value's type, for example its sharding."""


def print_graph(graph: Graph, annotate: Annotate = lambda name: "") -> str:
    """A graph as text; `annotate` adds to the type of a value."""
    return "\n".join(_graph_lines(graph, annotate)) + "\n"


def _graph_lines(graph: Graph, annotate: Annotate) -> Iterator[str]:
    yield f"graph {graph.name} {{"
    for value in graph.inputs:
        typed = f"%{value.name}: {value.type}{annotate(value.name)}"
        yield f"  input {typed} = {value.role} {value.source}"
    for op in graph.ops:
        yield f"  {print_op(op, annotate)}"
    for output in graph.outputs:
        yield f"  output %{output.name} = {output.role} {output.source}"
    yield "}"


def print_op(op: Op, annotate: Annotate = lambda name: "") -> str:
    """One operator as a line."""
    results = ", ".join(
        f"%{name}: {type_}{annotate(name)}"
        for name, type_ in zip(op.results, op.types, strict=True)
    )
    operands = ", ".join(f"%{name}" for name in op.operands)
    attributes = ", ".join(f"{key} = {_literal(v)}" for key, v in op.attributes.items())
    braces = f" {{{attributes}}}" if attributes else ""
    path = f" @{op.path}" if op.path else ""
    head = f"{results} = " if results else ""
    return f"{head}{op.kind}({operands}){braces}{path}"


def _literal(value: Attribute) -> str:
    if isinstance(value, Polynomial):
        return str(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def print_model(model: Model) -> str:
    """A model as text: a head line, then its graphs, the main one last."""
    head = f"model {json.dumps(model.name)} phase={model.phase} dtype={model.dtype}\n"
    bodies = [print_graph(graph) for name, graph in model.graphs.items() if name != "main"]
    return head + "".join(bodies) + print_graph(model.main)


def parse_model(text: str) -> Model:
    """Read what `print_model` wrote, behind lines that begin with `#`; raises ValueError with the
    line that does not fit."""
    while text.startswith("#"):
        text = text.partition("\n")[2]
    head, _, rest = text.partition("\n")
    match = re.fullmatch(r"model (\".*\") phase=(prefill|decode|train) dtype=(\w+)", head)
    if match is None:
        raise ValueError(f"not the first line of a model: {head!r}")
    blocks = rest.removesuffix("\n}\n").split("\n}\n")
    graphs = [parse_graph(block + "\n}\n") for block in blocks]
    main = {graph.name: graph for graph in graphs[-1:]}
    return Model(
        name=json.loads(match[1]),
        phase=match[2],  # pyright: ignore[reportArgumentType]
        dtype=match[3],
        graphs=main | {graph.name: graph for graph in graphs[:-1]},
    )


_VALUE = r"%([\w.]+): (\w+)\[([^\]]*)\]"
_INPUT = re.compile(rf"input {_VALUE}(.*?) = ({'|'.join(ROLES)}) (\S+)")
_OUTPUT = re.compile(rf"output %([\w.]+) = ({'|'.join(ROLES)}) (\S+)")
_RESULT = re.compile(_VALUE + r"(.*?)(?:, (?=%)|$)")
_OP = re.compile(r"(?:(.*?) = )?(\w+)\(([^)]*)\)(?: \{(.*)\})?(?: @(\S+))?")


def parse_graph(text: str, notes: dict[str, str] | None = None) -> Graph:
    """Read what `print_graph` wrote; annotations are collected in `notes` by value."""
    lines = [line.strip() for line in text.strip().split("\n")]
    match = re.fullmatch(r"graph ([\w.]+) \{", lines[0])
    if match is None or lines[-1] != "}":
        raise ValueError(f"not a graph: {lines[0]!r} to {lines[-1]!r}")
    inputs: list[Input] = []
    ops: list[Op] = []
    outputs: list[Output] = []
    notes = {} if notes is None else notes
    for line in lines[1:-1]:
        if found := _INPUT.fullmatch(line):
            notes[found[1]] = found[4]
            type_ = _type(found[2], found[3])
            inputs.append(Input(found[1], type_, found[5], found[6]))  # pyright: ignore[reportArgumentType]
        elif found := _OUTPUT.fullmatch(line):
            outputs.append(Output(found[1], found[2], found[3]))  # pyright: ignore[reportArgumentType]
        else:
            ops.append(parse_op(line, notes))
    return Graph(match[1], tuple(inputs), tuple(ops), tuple(outputs))


def parse_op(line: str, notes: dict[str, str] | None = None) -> Op:
    """Read what `print_op` wrote; annotations are collected in `notes` by value."""
    notes = {} if notes is None else notes
    match = _OP.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of a graph: {line!r}")
    results = _all(_RESULT, match[1] or "")
    notes.update((found[1], found[4]) for found in results)
    return Op(
        kind=match[2],
        operands=tuple(name.lstrip("%") for name in match[3].split(", ") if name),
        results=tuple(found[1] for found in results),
        types=tuple(_type(found[2], found[3]) for found in results),
        attributes=_attributes(match[4] or ""),
        path=match[5] or "",
    )


def _type(dtype: str, shape: str) -> TensorType:
    return TensorType(dtype, tuple(_dim(part) for part in shape.split(",") if part))


def _dim(text: str) -> Dim:
    stripped = text.strip()
    return int(stripped) if stripped.isdigit() else parse_dim(stripped)


_STRING = r"\"(?:[^\"\\]|\\.)*\""
_ATTRIBUTE = re.compile(rf"(\w+) = ({_STRING}|\[(?:{_STRING}|[^\]\"])*\]|[^,\"\[]+)(?:, |$)")


def _attributes(text: str) -> Mapping[str, Attribute]:
    return {found[1]: _value(found[2]) for found in _all(_ATTRIBUTE, text)}


def _value(text: str) -> Attribute:
    try:
        value = json.loads(text)
    except ValueError:
        return parse_dim(text)
    return tuple(value) if isinstance(value, list) else value


def _all(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The matches that make up a text; raises ValueError where something is left over."""
    found = [*pattern.finditer(text)]
    if "".join(match[0] for match in found) != text:
        raise ValueError(f"not understood: {text!r}")
    return found
