"""A model graph with weights, activations and caches as a config states them.

Layers of one kind that are not stored alike become graphs of their own. What is rewritten in a
graph is in rewrite.py, what a module is in modules.py.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from ....ir.graph import Graph, Model, Op
from .modules import Module, modules_of
from .rewrite import rewritten
from .schemes import Quantization, Scheme

_LOG = logging.getLogger(__name__)

_Choice = tuple[Scheme | None, ...]
"""The schemes of a graph's modules, in their order."""


def quantize(
    model: Model, quantization: Quantization | None, plain: frozenset[str] = frozenset()
) -> Model:
    """The model with every module stored by the scheme that holds for it, but the `plain` ones.

    Weights keep their source and logical shape; scales and zero points are buffers beside them, so
    that parameters are counted as before. Training keeps weights as they are computed with. Logs
    at info level the patterns of the config that select nothing.
    """
    if quantization is None or model.phase == "train":
        return model
    return _Quantizing(model, quantization, plain).quantized()


class _Quantizing:
    def __init__(self, model: Model, quantization: Quantization, plain: frozenset[str]) -> None:
        self.model = model
        self.quantization = quantization
        self.plain = plain
        self.modules: dict[str, tuple[Module, ...]] = {
            name: tuple(modules_of(graph)) for name, graph in model.graphs.items()
        }
        self.variants: dict[tuple[str, _Choice], Graph] = {}

    def quantized(self) -> Model:
        main = self._variant("main", self._choice("main", 0))
        ops: list[Op] = []
        for op in main.ops:
            ops.extend(self._runs(op) if op.kind == "repeat" else [op])
        graphs = {graph.name: graph for graph in self.variants.values()}
        self._log_unmatched()
        made = dataclasses.replace(
            self.model, graphs={**graphs, "main": dataclasses.replace(main, ops=tuple(ops))}
        )
        made.verify()
        return made

    def _choice(self, graph: str, layer: int) -> _Choice:
        return tuple(self._scheme(module, layer) for module in self.modules[graph])

    def _scheme(self, module: Module, layer: int) -> Scheme | None:
        names = module.names(layer)
        if not self.plain.isdisjoint(names):
            return None
        return self.quantization.scheme(module.kind, names)

    def _variant(self, name: str, choice: _Choice) -> Graph:
        """A graph under one choice; the first keeps the graph's name."""
        key = name, choice
        if key not in self.variants:
            modules = self.modules[name]
            schemes: Mapping[str, Scheme] = {
                module.weight.name: scheme
                for module, scheme in zip(modules, choice, strict=True)
                if scheme is not None
            }
            graph = rewritten(self.model.graphs[name], schemes, modules, self.quantization.cache)
            self.variants[key] = dataclasses.replace(graph, name=self._free(name))
        return self.variants[key]

    def _free(self, name: str) -> str:
        taken = {graph.name for graph in self.variants.values()}
        others = set(self.model.graphs) - {name}
        candidates = (name, *(f"{name}_{count}" for count in range(1, len(taken) + 2)))
        return next(n for n in candidates if n not in taken | others)

    def _runs(self, op: Op) -> Iterator[Op]:
        """A run of layers, cut where they are stored otherwise."""
        body, first = op.text("body"), op.integer("first")
        layers = range(first, first + op.integer("count"))
        by_choice = groupby(layers, lambda layer: self._choice(body, layer))
        runs = [(choice, list(run)) for choice, run in by_choice]
        operands = op.operands
        for at, (choice, run) in enumerate(runs):
            last = at == len(runs) - 1
            results = op.results if last else tuple(f"{name}.{run[-1]}" for name in op.results)
            graph = self._variant(body, choice)
            attributes = {**op.attributes, "body": graph.name, "first": run[0], "count": len(run)}
            yield dataclasses.replace(op, operands=operands, results=results, attributes=attributes)
            operands = _handed_on(graph, operands, results)

    def _log_unmatched(self) -> None:
        names = [
            module.names(layer)
            for graph, layers in self._layers()
            for module in self.modules[graph]
            for layer in layers
        ]
        for pattern in self.quantization.patterns:
            if not any(pattern.matches(own) for own in names):
                _LOG.info("quantization_config: '%s' selects no weight", pattern.text)

    def _layers(self) -> Iterator[tuple[str, Sequence[int]]]:
        yield "main", (0,)
        for body, first, count in self.model.runs():
            yield body.name, range(first, first + count)


def _handed_on(body: Graph, operands: Sequence[str], results: Sequence[str]) -> tuple[str, ...]:
    """The operands of the next run: what one carries out takes the place of what it carried in."""
    roles = [value.role for value in body.inputs if value.role in ("carried", "shared")]
    carried = iter(results)
    return tuple(
        next(carried) if role == "carried" else name
        for role, name in zip(roles, operands, strict=True)
    )
