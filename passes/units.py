"""What of a chain stays together in one stage: a layer with its backward pass and its update.

A piece of the main graph goes with the piece that makes the gradients of its weights, and with
their update. In inference a unit is a single layer or piece.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ir.graph import Graph, Op
from ..ir.program import Way
from .pieces import Chain


@dataclass(frozen=True)
class Unit:
    """Calls of one layer or piece each, by what they are to a step."""

    forward: tuple[Op, ...] = ()
    backward: tuple[Op, ...] = ()
    update: tuple[Op, ...] = ()

    @property
    def calls(self) -> tuple[Op, ...]:
        """All calls, in the order in which they run."""
        return (*self.forward, *self.backward, *self.update)


def way_of(graph: Graph) -> Way:
    """Whether a graph is of the forward pass, the backward pass (or the loss), or the optimizer."""
    roles = {output.role for output in graph.outputs}
    if roles & {"weight", "state"}:
        return "update"
    return "backward" if "gradient" in roles else "forward"


def units_of(chain: Chain) -> tuple[Unit, ...]:
    """The units of a chain, in the order of the forward pass."""
    gathered = _Gathered(chain)
    for call in chain.calls:
        for single in singles(chain, call):
            gathered.add(single)
    return tuple(
        Unit(tuple(own["forward"]), tuple(own["backward"]), tuple(own["update"]))
        for own in gathered.units
    )


@dataclass
class _Gathered:
    """Units so far, and what tells which of them a call belongs to."""

    chain: Chain
    units: list[dict[Way, list[Op]]] = field(default_factory=list[dict[Way, list[Op]]])
    holders: dict[str, int] = field(default_factory=dict[str, int])
    """Of every weight the unit that reads it first."""
    makers: dict[str, int] = field(default_factory=dict[str, int])
    """Of every value the unit that makes it."""
    latest: int = 0

    def add(self, call: Op) -> None:
        """Put a call into the unit that it belongs to, or into one of its own."""
        graph = self.chain.graphs[call.text("body")]
        way = way_of(graph)
        home = self._home(call, graph, way)
        if home is None:
            home = len(self.units)
            self.units.append({"forward": [], "backward": [], "update": []})
        self.units[home][way].append(call)
        for source in _sources(graph, call):
            self.holders.setdefault(source, home)
        self.makers |= dict.fromkeys(call.results, home)
        self.latest = home

    def _home(self, call: Op, graph: Graph, way: Way) -> int | None:
        """The unit that holds the weights which a call is about; without such weights the one
        whose values it reads, unless it belongs to the forward pass."""
        known = [self.holders[s] for s in _trained(graph, call) if s in self.holders]
        if way != "forward" and known:
            return min(known)
        if self._follows_gradients(call):
            read = [self.makers[name] for name in call.operands if name in self.makers]
            return min([*read, self.latest])
        return None

    def _follows_gradients(self, call: Op) -> bool:
        """Whether something before was of the backward pass, so that no new unit may begin."""
        return any(own["backward"] or own["update"] for own in self.units)


def _trained(graph: Graph, call: Op) -> Iterator[str]:
    """The weights whose gradients a graph makes or reads, of the call's layer."""
    values = [*graph.outputs, *graph.inputs]
    for value in values:
        if value.role == "gradient":
            yield _of_layer(value.source, call)


def _sources(graph: Graph, call: Op) -> Iterator[str]:
    """The weights that a graph reads, of the call's layer."""
    for value in graph.inputs:
        if value.role == "weight":
            yield _of_layer(value.source, call)


def _of_layer(source: str, call: Op) -> str:
    return source.replace("*", str(call.integer("first")))


def singles(chain: Chain, call: Op) -> list[Op]:
    """A run of layers as calls of one layer each, values passing from one to the next."""
    count, first = call.integer("count"), call.integer("first")
    if count == 1:
        return [call]
    inputs = chain.graphs[call.text("body")].inputs
    roles = [value.role for value in inputs if value.role in ("carried", "shared")]
    carried = [at for at, role in enumerate(roles) if role == "carried"]
    found: list[Op] = []
    before = list(call.operands)
    layers = range(first, first + count)
    layers = layers[::-1] if call.attributes.get("reverse") else layers
    for layer in layers:
        last = layer == layers[-1]
        after = call.results if last else tuple(f"{name}.{layer}" for name in call.results)
        attributes = {**call.attributes, "first": layer, "count": 1}
        found.append(replace(call, operands=tuple(before), results=after, attributes=attributes))
        for at, name in zip(carried, after, strict=True):
            before[at] = name
    return found


def joined(items: Sequence[Op]) -> list[Op]:
    """Neighbouring calls of one kind of layer as a run again."""
    calls: list[Op] = []
    for item in items:
        last = calls[-1] if calls else None
        if last is not None and _follows(last, item):
            count = last.integer("count") + 1
            first = min(last.integer("first"), item.integer("first"))
            attributes: Mapping[str, object] = {**last.attributes, "first": first, "count": count}
            calls[-1] = replace(last, results=item.results, attributes=attributes)
        else:
            calls.append(item)
    return calls


def _follows(last: Op, item: Op) -> bool:
    if last.text("body") != item.text("body"):
        return False
    if last.attributes.get("reverse"):
        return last.integer("first") - 1 == item.integer("first")
    return last.integer("first") + last.integer("count") == item.integer("first")
