"""The main graph becomes a chain of calls: what comes before, between and after the layers.

Values that every layer shares and that follow from the model's inputs alone (the rotary tables)
become a piece of their own, `shared`, so that each stage makes them where it needs them instead of
receiving them.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..ir import dims
from ..ir.graph import Graph, Input, Model, Op, Output, Role
from ..ir.kinds import graph_flops

SHARED = "shared"


@dataclass(frozen=True)
class Chain:
    """Graphs by name and the calls (`repeat` operators) that run them in order.

    `shared` is the call that makes the shared values, or None; `calls` are all the others.
    """

    graphs: Mapping[str, Graph]
    calls: tuple[Op, ...]
    shared: Op | None

    def bind(self, sizes: Mapping[str, int]) -> "Chain":
        """The chain with symbols replaced by numbers, in graphs and calls."""

        def bound(call: Op) -> Op:
            return dataclasses.replace(call, types=tuple(t.bind(sizes) for t in call.types))

        return Chain(
            {name: graph.bind(sizes) for name, graph in self.graphs.items()},
            tuple(bound(call) for call in self.calls),
            None if self.shared is None else bound(self.shared),
        )

    def first_layers(self, count: int) -> "Chain":
        """Only the first layers, forward, backward and updated, and the graphs that they need."""
        taken: dict[int, int] = {}
        for call in self._forward:
            taken[call.integer("first")] = min(call.integer("count"), count)
            count -= taken[call.integer("first")]
        calls: list[Op] = []
        for call in self.calls:
            number = taken.get(call.integer("first"), 0)
            if number:
                attributes = {**call.attributes, "count": number}
                calls.append(dataclasses.replace(call, attributes=attributes))
        used = {call.text("body") for call in calls} | ({SHARED} if self.shared else set())
        graphs = {name: graph for name, graph in self.graphs.items() if name in used}
        return Chain(graphs, tuple(calls), self.shared)

    @property
    def given(self) -> tuple[str, ...]:
        """Values that come from outside the chain."""
        made = set(() if self.shared is None else self.shared.results)
        read: dict[str, None] = {}
        for call in self.calls:
            read |= dict.fromkeys(name for name in call.operands if name not in made)
            made.update(call.results)
        return tuple(read)

    @property
    def pieces(self) -> int:
        """Pieces that may go to different stages."""
        return sum(call.integer("count") for call in self.calls)

    @property
    def _forward(self) -> list[Op]:
        """The calls of layers in the forward pass, and not those of pieces of the main graph."""
        layers = (call for call in self.calls if not call.text("body").startswith("main."))
        return [call for call in layers if call.results and not call.attributes.get("reverse")]

    @property
    def layers(self) -> int:
        """Repeated layers."""
        return sum(call.integer("count") for call in self._forward)

    @property
    def flops(self) -> int:
        """FLOPs of a bound chain, every layer counted."""
        total = sum(
            dims.size(graph_flops(self.graphs[call.text("body")])) * call.integer("count")
            for call in self.calls
        )
        shared = 0 if self.shared is None else dims.size(graph_flops(self.graphs[SHARED]))
        return total + shared

    @property
    def parameters(self) -> int:
        """Parameters of all calls; a weight used twice counts once."""
        weights: dict[str, int] = {}
        for call in self.calls:
            first, count = call.integer("first"), call.integer("count")
            for value in self.graphs[call.text("body")].inputs:
                if value.role == "weight":
                    elements = dims.size(value.type.elements)
                    names = (value.source.replace("*", str(n)) for n in range(first, first + count))
                    weights |= dict.fromkeys(names, elements)
        return sum(weights.values())


def chain_of(model: Model, with_head: bool = True) -> Chain:
    """Cut a model's main graph at its layers.

    Without the head only the layers (and what they share) are kept: the hidden states come from
    outside, as in measurements of single layers.
    """
    main = _without_saved(model.main)
    read = _read_by_layers(model)
    made_anew = _made_anew(main, read)
    graphs = {name: graph for name, graph in model.graphs.items() if name != "main"}
    shared = None
    if made_anew:
        piece = _piece(main, SHARED, _slice(main.ops, made_anew), made_anew, made_anew)
        graphs[SHARED] = piece
        shared = _call(piece)
    calls: list[Op] = []
    needed = set(main.output_names)
    for at, ops in reversed([*enumerate(_segments(main))]):
        if ops[0].kind == "repeat":
            calls.append(ops[0])
            needed.update(ops[0].operands)
            continue
        own = _slice(ops, needed - set(made_anew), made_anew)
        if own and with_head:
            outputs = [name for op in own for name in op.results if name in needed]
            pieces = _apart(main, f"main.{at}", own, outputs, read)
            graphs |= {piece.name: piece for piece in pieces}
            calls.extend(_call(piece) for piece in reversed(pieces))
        needed.update(name for op in own for name in op.operands)
    return Chain(graphs, tuple(reversed(calls)), shared)


def _apart(
    main: Graph, name: str, ops: Sequence[Op], outputs: Sequence[str], shared: Sequence[str]
) -> list[Graph]:
    """A run of operators as a graph; updates as one for the weights of each other piece, so that
    stages may update what they hold. What all updates read is made with the first."""
    holders = _holders(main)
    sources = {output.name: output.source for output in main.outputs}
    groups: dict[int, list[str]] = {}
    for output in outputs:
        weight = next((w for w in holders if sources.get(output, "").startswith(w)), None)
        groups.setdefault(-1 if weight is None else holders[weight], []).append(output)
    if not any(op.kind == "update" for op in ops) or len(groups) < 2:
        return [_piece(main, name, ops, outputs, shared)]
    common = groups.pop(-1, [])
    first, *others = (groups[at] for at in sorted(groups))
    known = {n for op in _slice(ops, common) for n in op.results}
    found = [_piece(main, name, _slice(ops, [*common, *first]), [*common, *first], shared)]
    for at, own in enumerate(others, start=1):
        found.append(_piece(main, f"{name}.{at}", _slice(ops, own, known), own, [*shared, *common]))
    return found


def _holders(main: Graph) -> dict[str, int]:
    """Of every weight of the main graph the segment that reads it first; longer names come
    first, so that no name is taken for another that it begins with."""
    weights = {value.name: value.source for value in main.inputs if value.role == "weight"}
    found: dict[str, int] = {}
    for at, ops in enumerate(_segments(main)):
        for name in (name for op in ops for name in op.operands if name in weights):
            found.setdefault(weights[name], at)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _segments(main: Graph) -> list[list[Op]]:
    """Runs of ordinary operators, and the repeats one by one; what an optimizer does is apart."""
    states = {value.name for value in main.inputs if value.role == "state"}
    segments: list[list[Op]] = []
    updating = False
    for op in main.ops:
        begins = not updating and (op.kind == "update" or not states.isdisjoint(op.operands))
        updating = updating or begins
        alone = op.kind == "repeat" or not segments or segments[-1][-1].kind == "repeat"
        if alone or begins:
            segments.append([op])
        else:
            segments[-1].append(op)
    return segments


def _read_by_layers(model: Model) -> tuple[str, ...]:
    """Operands of the layers that are not carried."""
    found: dict[str, None] = {}
    for op in model.main.ops:
        if op.kind == "repeat":
            body = model.graphs[op.text("body")]
            roles = [i.role for i in body.inputs if i.role in ("carried", "shared")]
            pairs = zip(op.operands, roles, strict=True)
            found |= dict.fromkeys(name for name, role in pairs if role == "shared")
    return tuple(found)


def _made_anew(main: Graph, values: Sequence[str]) -> tuple[str, ...]:
    """Of some values those that every stage can make itself: from the model's inputs and buffers,
    without a layer before and without weights, which every stage would have to hold."""
    late = {value.name for value in main.inputs if value.role not in ("data", "buffer")}
    for op in main.ops:
        if op.kind == "repeat" or late & set(op.operands):
            late.update(op.results)
    made = {name for op in main.ops for name in op.results}
    return tuple(name for name in values if name in made - late)


def _slice(ops: Sequence[Op], values: Collection[str], known: Collection[str] = ()) -> list[Op]:
    """The operators that some values follow from, in order; `known` values need none."""
    wanted = set(values)
    found: list[Op] = []
    for op in reversed(ops):
        if wanted & set(op.results):
            found.append(op)
            wanted |= set(op.operands) - set(known)
    return found[::-1]


def _without_saved(main: Graph) -> Graph:
    """The main graph without what it says it saves for itself."""
    outputs = tuple(output for output in main.outputs if output.role != "saved")
    return dataclasses.replace(main, outputs=outputs)


def _piece(
    main: Graph, name: str, ops: Sequence[Op], outputs: Sequence[str], shared: Sequence[str]
) -> Graph:
    """A run of operators as a graph. Gradients stay where they are made and are read there; of
    what else the model yields a later piece or layer may be passed a copy."""
    made = {result for op in ops for result in op.results}
    read = dict.fromkeys(n for op in ops for n in op.operands if n not in made)
    known = {value.name: value for value in main.inputs}
    final = {output.name: output for output in main.outputs}
    inside = {op.result for op in ops}
    later = {n for op in main.ops if op.result not in inside for n in op.operands}

    def passed(n: str) -> Role:
        return "shared" if n in shared else "carried"

    inputs: list[Input] = []
    for n in read:
        stays = n in final and final[n].role == "gradient"
        role, source = ("gradient", final[n].source) if stays else (passed(n), n)
        inputs.append(known.get(n) or Input(n, main.types[n], role, source))
    results: list[Output] = []
    for n in outputs:
        if n in final:
            results.append(final[n])
        if n not in final or (n in later and final[n].role != "gradient"):
            results.append(Output(n, passed(n), n))
    return Graph(name, tuple(inputs), tuple(ops), tuple(results))


def _call(piece: Graph) -> Op:
    """The call that runs a piece once."""
    operands = tuple(i.name for i in piece.inputs if i.role in ("carried", "shared"))
    results = tuple(o.name for o in piece.outputs if o.role in ("carried", "shared"))
    types = tuple(piece.types[name] for name in results)
    attributes = {"body": piece.name, "first": 0, "count": 1}
    return Op("repeat", operands, results, types, attributes)
