"""Tokens go to the experts that they chose, on whichever replica these lie, and come back.

Products with the experts' matrices, and what is computed between them for every choice of a token,
run where the experts are. How matrices lie there is shard.py's to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import ascii_lowercase

from ..ir import dims
from ..ir.errors import UserError, VerificationError
from ..ir.graph import Attribute, Graph, Op, Output, forward_bodies
from ..ir.kinds import indices_of
from ..ir.mapped import EXPERTS, MappedGraph, Routed
from ..ir.operators.chosen import chosen_letters, forward_equation
from ..ir.pins import Pins
from .pieces import Chain

_PRODUCTS = ("chosen_matmul", "chosen_matmul_grad")

_Place = tuple[str, ...]
"""For each dimension of a value which one of the choice it is: `t` and its number for one that
counts tokens, `k` for one that counts the choices of a token, empty for any other."""


def has_experts(graphs: Iterable[Graph]) -> bool:
    """Whether tokens choose from experts anywhere."""
    return any(op.kind in _PRODUCTS for graph in graphs for op in graph.ops)


def experts_of(graphs: Iterable[MappedGraph]) -> int:
    """The fewest experts that tokens choose from anywhere; 1 where they choose from none."""
    counts = [
        op.integer("experts")
        for mapped in graphs
        for op in mapped.graph.ops
        if op.kind == "dispatch"
    ]
    return min(counts, default=1)


def check_pinned(
    pins: Pins, batch: int, graphs: Iterable[Graph], symbolic: bool, at_edges: bool
) -> None:
    """Raise UserError for a number of replicas that cannot divide the experts of a model;
    `at_edges`: DRAM is behind the ports of a wafer."""
    ep, dp = pins.ep or 1, pins.dp
    if ep == 1:
        return
    where = f"--mapping ep={ep}"
    if not has_experts(graphs):
        raise UserError(f"{where}: the model has no experts that tokens are routed to")
    if not symbolic:
        raise UserError(f"{where}: the graph of this model holds for its batch as a whole")
    if dp is not None and dp % ep:
        raise UserError(
            f"{where} does not divide dp={dp}: ep of the dp replicas divide the experts among them"
        )
    if batch % ep:
        raise UserError(
            f"{where}: a batch of {batch} cannot be divided among a number of replicas that is a "
            f"multiple of {ep}"
        )
    if pins.streaming or pins.weights == "off-wafer":
        raise UserError(f"{where}: weights that are streamed are not divided among replicas")
    if pins.weights == "dram" and at_edges:
        raise UserError(f"{where}: replicas read weights from the DRAM behind the ports together")


@dataclass(frozen=True)
class SpreadExperts:
    """Send tokens to experts and collect what becomes of them.

    A valid chain without views in, one with the same values out. An operator runs at the experts
    if it reads what one made there and leads to another product there, or sums up what it reads.
    What a forward pass keeps of that stays there for the backward pass.
    """

    def run(self, chain: Chain) -> Chain:
        """The chain with every graph changed."""
        bodies = forward_bodies(chain.calls)
        kept: dict[tuple[str, str], _Place] = {}
        graphs = dict(chain.graphs)
        for name in dict.fromkeys(call.text("body") for call in chain.calls):
            graph, body = graphs[name], bodies.get(name, name)
            saved = {
                value.name: kept[value.source, body]
                for value in graph.inputs
                if value.role == "saved" and (value.source, body) in kept
            }
            region = _Region.of(graph, saved)
            graphs[name] = _Rewrite(graph, region).graph()
            for output in graph.outputs:
                if output.role == "saved" and output.name in region.open:
                    kept[output.source, body] = region.places[output.name]
        return replace(chain, graphs=graphs)


# Which operators run at the experts


@dataclass
class _Region:
    """Operators at the experts by their first results, and what they make."""

    choices: dict[str, str] = field(default_factory=dict[str, str])
    """For every operator the choice of experts that it belongs to."""
    places: dict[str, _Place] = field(default_factory=dict[str, _Place])
    open: set[str] = field(default_factory=set[str])
    """Those with an element for every choice of a token; the others are sums over choices."""
    of_choices: dict[str, _Place] = field(default_factory=dict[str, _Place])
    """The dimensions of choices themselves."""
    held: set[str] = field(default_factory=set[str])
    """Values that every replica has: weights, buffers, and what follows from these alone."""

    @staticmethod
    def of(graph: Graph, saved: Mapping[str, _Place]) -> "_Region":
        found = _Region(places=dict(saved), open={*saved})
        found.held = {i.name for i in graph.inputs if i.role in ("weight", "buffer")}
        for op in graph.ops:
            if op.kind in _PRODUCTS:
                found.of_choices[op.operands[1]] = tuple(found.letters(op).values())
        leading = _leading(graph)
        joined: list[set[str]] = []
        for op in graph.ops:
            if found.held.issuperset(op.operands):
                found.held.update(op.results)
            elif op.kind in _PRODUCTS or found.continues(op, leading):
                found.place(op)
                _join(joined, {*op.results, *(n for n in op.operands if n in found.places)})
                found.choices[op.result] = ""
        products = [op for op in graph.ops if op.kind in _PRODUCTS]
        for op in (op for op in graph.ops if op.result in found.choices):
            own = next(names for names in joined if op.result in names)
            of_own = {p.operands[1] for p in products if p.result in own}
            if len(of_own) != 1:
                raise VerificationError(f"{op.kind} %{op.result} follows several choices")
            found.choices[op.result] = of_own.pop()
        return found

    def continues(self, op: Op, leading: set[str]) -> bool:
        """Whether an operator that is no product belongs at the experts."""
        read = [name for name in op.operands if name in self.open]
        leads = not leading.isdisjoint(op.results)
        if read and leads:
            return True
        if read:
            wide = any("" in self.places[name] for name in read)
            return wide and bool(indices_of(op).reduced)
        looked_up = set(op.operands) - self.held
        return op.kind == "gather" and leads and looked_up <= self.of_choices.keys()

    def place(self, op: Op) -> None:
        """Note which dimensions of an operator's results tokens and choices have."""
        letters = self.letters(op)
        own = indices_of(op)
        if op.kind == "chosen_matmul_grad":
            return
        counted = any(part.startswith("k") for part in letters.values())
        for name, result in zip(op.results, (own.result, *own.others), strict=True):
            self.places[name] = tuple(letters.get(letter, "") for letter in result)
            each = any(part.startswith("k") for part in self.places[name])
            last = op.kind == "chosen_matmul" and op.operands[0] in self.open
            if each if counted else not last:
                self.open.add(name)

    def letters(self, op: Op) -> dict[str, str]:
        """What an operator's letters are of the choice."""
        found: dict[str, str] = {}
        operands = [*zip(op.operands, indices_of(op).operands, strict=True)]
        if op.kind in _PRODUCTS:
            chosen = _chosen(op)
            for at, letter in enumerate(operands[1][1]):
                found[letter] = f"{'k' if letter in chosen else 't'}{at}"
            return found
        for name, own in operands:
            place = self.places.get(name)
            if place is None and name in self.of_choices and op.kind == "gather":
                place = self.of_choices[name]
            for letter, part in zip(own, place or (), strict=False):
                found[letter] = found.get(letter) or part
        return found


def _leading(graph: Graph) -> set[str]:
    """Values that a product at the experts follows from."""
    found: set[str] = set()
    for op in reversed(graph.ops):
        if op.kind in _PRODUCTS:
            found.update((op.operands[0], op.operands[2]))
        elif not found.isdisjoint(op.results):
            found.update(op.operands)
    return found


def _join(groups: list[set[str]], names: set[str]) -> None:
    """Make one group of those that some names belong to."""
    met = [group for group in groups if not group.isdisjoint(names)]
    groups[:] = [group for group in groups if group not in met]
    groups.append(names.union(*met))


def _chosen(op: Op) -> set[str]:
    """The letters of a product that count the choices of a token."""
    if op.kind == "chosen_matmul":
        return set(chosen_letters(op))
    attributes = {**op.attributes, "indices": forward_equation(op)}
    return set(chosen_letters(replace(op, attributes=attributes)))


# Sending and collecting


@dataclass
class _Rewrite:
    """A graph being rewritten: `there` are the names of values at the experts, `here` those of
    what was made there and collected."""

    old: Graph
    region: _Region
    ops: list[Op] = field(default_factory=list[Op])
    there: dict[str, str] = field(default_factory=dict[str, str])
    here: dict[str, str] = field(default_factory=dict[str, str])

    def graph(self) -> Graph:
        """The graph with tokens sent and collected."""
        made = {value.name for value in self.old.inputs}
        for op in self.old.ops:
            choice = self.region.choices.get(op.result)
            if choice is None:
                self.ops.append(_renamed(op, self.here))
            else:
                self._send(op, choice, made)
                self.ops.append(self._at_experts(op, choice))
                self._collect(op, choice)
            made.update(op.results)
        outputs = tuple(
            o if self._stays(o) else replace(o, name=self.here.get(o.name, o.name))
            for o in self.old.outputs
        )
        return replace(self.old, ops=tuple(self.ops), outputs=outputs)

    def _stays(self, output: Output) -> bool:
        """Whether an output is kept where it was made, at the experts."""
        return output.role == "saved" and output.name in self.region.open

    def _at_experts(self, op: Op, choice: str) -> Op:
        op = _renamed(op, self.there)
        if op.kind in _PRODUCTS:
            return replace(op, attributes={**op.attributes, "spread": True})
        return op

    def _send(self, op: Op, choice: str, made: set[str]) -> None:
        """Send what an operator reads and, in the same message, what others of its choice will."""
        if not self._lacking(op):
            return
        places: dict[str, _Place] = {}
        for other in self.old.ops:
            if self.region.choices.get(other.result) == choice:
                letters = self.region.letters(other)
                rows = dict(zip(other.operands, indices_of(other).operands, strict=True))
                for name in (name for name in self._lacking(other) if name in made):
                    places[name] = tuple(letters.get(letter, "") for letter in rows[name])
        sent = {name: self._unused(f"{name}.sent") for name in places}
        self.ops.append(self._exchange("dispatch", choice, places, list(sent.values())))
        self.there |= sent

    def _lacking(self, op: Op) -> list[str]:
        """What an operator at the experts reads that is not there."""
        there = self.region.places.keys() | self.region.held | self.there.keys()
        return [name for name in op.operands if name not in there]

    def _collect(self, op: Op, choice: str) -> None:
        """Collect those results that are read elsewhere."""
        for name in op.results:
            readers = [o for o in self.old.consumers[name] if o.result not in self.region.choices]
            leaves = any(o.name == name and not self._stays(o) for o in self.old.outputs)
            if name in self.region.places and (readers or leaves):
                self.here[name] = self._unused(f"{name}.collected")
                places = {name: self.region.places[name]}
                self.ops.append(self._exchange("collect", choice, places, [self.here[name]]))

    def _exchange(
        self, kind: str, choice: str, places: Mapping[str, _Place], results: Sequence[str]
    ) -> Op:
        """The operator that sends or collects some values."""
        product = next(
            op for op in self.old.ops if op.kind in _PRODUCTS and op.operands[1] == choice
        )
        chosen = _chosen(product)
        fresh = iter(ascii_lowercase[len(indices_of(product).operands[1]) :])
        named = {
            f"{'k' if x in chosen else 't'}{at}": ascii_lowercase[at]
            for at, x in enumerate(indices_of(product).operands[1])
        }
        own = "".join(named.values())
        spelt = ["".join(named.get(part) or next(fresh) for part in p) for p in places.values()]
        attributes: dict[str, Attribute] = {
            "axes": (EXPERTS,),
            "indices": f"{','.join((own, *spelt))}->{','.join(spelt)}",
            "chosen": "".join(x for part, x in named.items() if part.startswith("k")),
            "experts": _experts(self.old, product),
            **{n: product.attributes[n] for n in ("total", "load") if n in product.attributes},
        }
        types = tuple(self.old.types[name] for name in places)
        return Op(kind, (choice, *places), tuple(results), types, attributes, product.path)

    def _unused(self, name: str) -> str:
        taken = self.old.types.keys() | {n for op in self.ops for n in op.results}
        while name in taken:
            name += "_"
        return name


def _renamed(op: Op, names: Mapping[str, str]) -> Op:
    return replace(op, operands=tuple(names.get(name, name) for name in op.operands))


def _experts(graph: Graph, product: Op) -> int:
    """How many experts have matrices in a product."""
    indices, table = indices_of(product), product.operands[2:]
    name, letters = (
        (product.result, indices.result)
        if product.kind == "chosen_matmul_grad"
        else (table[0], indices.operands[2])
    )
    return dims.size(graph.types[name].shape[letters.index(product.text("expert"))])


# Where values lie


def routed(graphs: Mapping[str, MappedGraph], bodies: Mapping[str, str]) -> dict[str, MappedGraph]:
    """Mapped graphs, forward ones first, in which what is at the experts says so."""
    kept: dict[tuple[str, str], Routed] = {}
    found: dict[str, MappedGraph] = {}
    for name, mapped in graphs.items():
        body = bodies.get(name, name)
        there = {
            value.name: kept[value.source, body]
            for value in mapped.graph.inputs
            if value.role == "saved" and (value.source, body) in kept
        }
        for op in mapped.graph.ops:
            there |= _routed_results(mapped.graph, op, there)
        for output in mapped.graph.outputs:
            if output.role == "saved" and output.name in there:
                kept[output.source, body] = there[output.name]
        shardings = {
            n: replace(s, routed=there[n]) if n in there else s for n, s in mapped.shardings.items()
        }
        found[name] = MappedGraph(mapped.graph, shardings)
    return found


def _routed_results(graph: Graph, op: Op, there: Mapping[str, Routed]) -> dict[str, Routed]:
    """Which results of an operator are at the experts, and how many choices they follow from."""
    if op.kind == "dispatch":
        indices, count = indices_of(op), _choices(graph, op)
        single = set(op.text("chosen"))
        rows = zip(op.results, op.operands[1:], (indices.result, *indices.others), strict=True)
        return {
            name: Routed(
                1 if single <= set(letters) and source != op.operands[0] else count,
                op.integer("total"),
            )
            for name, source, letters in rows
        }
    if op.kind == "all_reduce":
        pairs = zip(op.operands, op.results, strict=True)
        return {result: there[name] for name, result in pairs if name in there}
    read = [there[name] for name in op.operands if name in there]
    if op.kind in ("collect", "chosen_matmul_grad") or not read:
        return {}
    if op.kind == "chosen_matmul":
        total, chosen = read[0].total, _chosen(op)
        count = _size(graph, op.operands[1], indices_of(op).operands[1], chosen)
        per_choice = chosen <= set(indices_of(op).result)
        return {op.result: Routed(1 if per_choice else count, total)}
    least = min(read, key=lambda each: each.chosen)
    return dict.fromkeys(op.results, least)


def _choices(graph: Graph, op: Op) -> int:
    """How many experts a token chooses."""
    return _size(graph, op.operands[0], indices_of(op).operands[0], set(op.text("chosen")))


def _size(graph: Graph, name: str, letters: str, wanted: set[str]) -> int:
    total = 1
    for letter, dim in zip(letters, graph.types[name].shape, strict=True):
        total *= dims.size(dim) if letter in wanted else 1
    return total
