"""One graph with its weights, activations and caches as they are stored."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase

from ....ir.dims import Dim, Polynomial, ceil_div, product, symbol
from ....ir.graph import Attribute, Graph, Input, Op, Output, TensorType
from ....ir.kinds import indices_of
from ....ir.operators.quantized import Block, dequantize_attributes
from .modules import DOWN, UP, Module, Side, Use, beside
from .schemes import WHOLE, Activations, Scheme, Weights

_SCALAR = TensorType("float32", ())

_LETTERS: Mapping[Side, str] = {"out": "f", "in": "e", "batch": "x"}
"""What dimensions of weights are called where there is one of a kind."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The letters of a value and of its scales, and the blocks that letters of these count."""

    value: str
    scale: str
    shape: tuple[Dim, ...]
    blocks: tuple[Block, ...]


def rewritten(
    graph: Graph, schemes: Mapping[str, Scheme], modules: Sequence[Module], cache: str | None
) -> Graph:
    """A graph in which some modules, by the name of their weight, are stored by a scheme, and
    caches that grow are of the dtype `cache`.

    Weights are dequantized before what reads them. Where a scheme has activations, the products
    take quantized ones and say in `compute` what they multiply.
    """
    low = frozenset(
        (use.op.result, use.at)
        for module in modules
        if (scheme := schemes.get(module.weight.name)) and scheme.activations
        for use in module.uses
    )
    rewriting = _Rewriting(graph, low)
    for module in modules:
        if module.weight.name in schemes:
            rewriting.module(module, schemes[module.weight.name])
    if cache is not None:
        rewriting.caches(cache)
    return rewriting.graph()


class _Rewriting:
    """Collects what is put behind inputs and operators, and what takes whose place.

    `low` are the operands, by operator and place, that are weights of low-precision products.
    """

    def __init__(self, graph: Graph, low: Collection[tuple[str, int]]) -> None:
        self.before = graph
        self.low = low
        self.names = set(graph.types)
        self.inputs: dict[str, list[Input]] = {value.name: [value] for value in graph.inputs}
        self.start: list[Op] = []
        self.behind: dict[str, list[Op]] = {}
        self.ops = {op.result: op for op in graph.ops}
        self.end: list[Op] = []
        self.outputs = list(graph.outputs)
        self.replaced: dict[str, str] = {}
        self.activations: dict[tuple[object, ...], str] = {}

    def graph(self) -> Graph:
        """The graph as it has become. What an input is replaced by takes its place everywhere."""
        ops = list(self.start)
        for before in self.before.ops:
            op = self.ops[before.result]
            operands = tuple(self.replaced.get(name, name) for name in op.operands)
            ops.append(dataclasses.replace(op, operands=operands))
            ops.extend(self.behind.get(before.result, ()))
        inputs = tuple(value for values in self.inputs.values() for value in values)
        outputs = tuple(self.outputs)
        return Graph(self.before.name, inputs, (*ops, *self.end), outputs)

    def _new(self, name: str) -> str:
        made, count = name, 0
        while made in self.names:
            count += 1
            made = f"{name}_{count}"
        self.names.add(made)
        return made

    def _beside(self, value: Input, name: str, type_: TensorType) -> str:
        """An input that belongs to a weight, under the name that it has in the checkpoint."""
        source = beside(value.source, name)
        made = self._new(beside(value.name, name))
        self.inputs[value.name].append(Input(made, type_, "buffer", source))
        return made

    # Weights.

    def module(self, module: Module, scheme: Scheme) -> None:
        """Store a module's weight, and quantize what its products take besides."""
        self._weight(module, scheme.weights)
        if scheme.activations is not None and not any(use.cut for use in module.uses):
            for use in module.uses:
                self._product(module, use, scheme.activations)

    def _weight(self, module: Module, weights: Weights) -> None:
        value = module.weight
        stored = dataclasses.replace(value.type, dtype=weights.dtype)
        self.inputs[value.name][0] = dataclasses.replace(value, type=stored)
        layout = _weight_layout(value.type, module.sides, weights.block)
        scale = TensorType(weights.scale, layout.shape)
        operands = [value.name, self._beside(value, weights.scale_name, scale)]
        spelt = [layout.value, layout.scale]
        if weights.overall is not None:
            batch = _batch(layout.value, value.type, module.sides)
            operands.append(self._beside(value, weights.overall, TensorType("float32", batch[1])))
            spelt.append(batch[0])
        if weights.zero is not None:
            zero = TensorType(weights.zero, layout.shape)
            operands.append(self._beside(value, weights.zero_name, zero))
            spelt.append(layout.scale)
        attributes = dequantize_attributes(
            f"{','.join(spelt)}->{layout.value}",
            weights.dtype,
            layout.blocks,
            weights.zero is not None,
        )
        result = self._new(f"{value.name}.dequantized")
        path = value.source.removesuffix(".weight")
        self.start.append(
            Op("dequantize", tuple(operands), (result,), (value.type,), attributes, path)
        )
        self.replaced[value.name] = result

    # Activations.

    def _product(self, module: Module, use: Use, activations: Activations) -> None:
        """Let a product take quantized activations; experts, before the first of their products,
        and only if both are of low precision."""
        experts = use.op.kind == "experts"
        if experts and (use.at != UP or (use.op.result, DOWN) not in self.low):
            return
        at = 0 if experts else 1 - use.at
        indices, name = indices_of(use.op), use.op.operands[at]
        letters, weight = indices.operands[at], indices.operands[use.at]
        summed = [x for x in letters if x in weight and (experts or x in indices.reduced)]
        layout = _activation_layout(self.before.types[name], letters, summed, activations)
        overall = None
        if activations.static is not None:
            overall = self._beside(module.weight, activations.static, _SCALAR)
        taken = self._activation(name, layout, activations, overall, use.op.path)
        op = self.ops[use.op.result]
        self.ops[use.op.result] = dataclasses.replace(
            op,
            operands=(*op.operands[:at], taken, *op.operands[at + 1 :]),
            attributes={**op.attributes, "compute": activations.dtype},
        )

    def _activation(
        self, name: str, layout: _Layout, activations: Activations, overall: str | None, path: str
    ) -> str:
        """A value quantized and dequantized again; made once for all products that want the
        same."""
        key = (name, layout, activations, overall)
        if key not in self.activations:
            ops = self._quantized(name, layout, activations, overall, path)
            producer = self.before.producers.get(name)
            home = self.start if producer is None else self.behind.setdefault(producer.result, [])
            home.extend(ops)
            self.activations[key] = ops[-1].result
        return self.activations[key]

    def _quantized(
        self, name: str, layout: _Layout, activations: Activations, overall: str | None, path: str
    ) -> tuple[Op, Op]:
        """The operators that quantize a value and dequantize it again."""
        type_, letters = self.before.types[name], layout.value
        results = [self._new(f"{name}.quantized")]
        types = [TensorType(activations.dtype, type_.shape)]
        known, known_letters = ((overall,), ",") if overall else ((), "")
        found = ""
        if not overall or activations.block != WHOLE:
            results.append(self._new(f"{name}.scales"))
            types.append(TensorType(activations.scale, layout.shape))
            found = f",{layout.scale}"
        there: dict[str, Attribute] = {"indices": f"{letters}{known_letters}->{letters}{found}"}
        if layout.blocks:
            there["blocks"] = tuple(str(block) for block in layout.blocks)
        indices = f"{letters}{found}{known_letters}->{letters}"
        back = dequantize_attributes(indices, activations.dtype, layout.blocks)
        result = self._new(f"{name}.dequantized")
        return (
            Op("quantize", (name, *known), tuple(results), tuple(types), there, path),
            Op("dequantize", (*results, *known), (result,), (type_,), back, path),
        )

    # Caches.

    def caches(self, dtype: str) -> None:
        """Keep caches that grow in `dtype`, with a scale for each, and read them dequantized."""
        caches = {value.name: value for value in self.before.inputs if value.role == "cache"}
        for at, output in enumerate(self.before.outputs):
            type_ = self.before.types[output.name]
            if output.role != "cache" or not (_grows(type_) and "float" in type_.dtype):
                continue
            producer = self.before.producers.get(output.name)
            stored = self._new(f"{output.name}.stored")
            scale = self._cache_scale(output, producer)
            self.outputs[at] = dataclasses.replace(output, name=stored)
            read = [name for name in producer.operands if name in caches] if producer else []
            if producer is not None and producer.kind == "concat" and read:
                self._grown(producer, read, stored, scale, dtype)
            else:
                made = TensorType(dtype, type_.shape)
                self.end.append(_scaled("quantize", output.name, stored, scale, type_, made))
                for value in caches.values():
                    if value.source == output.source and value.name not in self.replaced:
                        self._read_cache(value, scale, dtype)

    def _cache_scale(self, output: Output, producer: Op | None) -> str:
        """The input with the scale of a cache."""
        attribute = output.source.rpartition(".")[2]
        short = {"key": "k_scale", "value": "v_scale"}.get(attribute, f"{attribute}_scale")
        path = producer.path if producer and producer.path else output.source.rpartition(".")[0]
        name = self._new(short)
        self.inputs[name] = [Input(name, _SCALAR, "buffer", f"{path}.{short}")]
        return name

    def _grown(self, concat: Op, read: Sequence[str], stored: str, scale: str, dtype: str) -> None:
        """What is new is quantized and joins the cache; what reads the cache dequantizes it."""
        operands: list[str] = []
        ops: list[Op] = []
        for name in concat.operands:
            type_ = self.before.types[name]
            kept = TensorType(dtype, type_.shape)
            if name in read:
                self.inputs[name][0] = dataclasses.replace(self.inputs[name][0], type=kept)
                operands.append(name)
            else:
                operands.append(self._new(f"{name}.stored"))
                ops.append(_scaled("quantize", name, operands[-1], scale, type_, kept, concat.path))
        whole = TensorType(dtype, concat.type.shape)
        ops.append(
            dataclasses.replace(concat, operands=tuple(operands), results=(stored,), types=(whole,))
        )
        ops.append(
            _scaled("dequantize", stored, concat.result, scale, whole, concat.type, concat.path)
        )
        self.ops[concat.result] = ops[0]
        self.behind.setdefault(concat.result, [])[:0] = ops[1:]

    def _read_cache(self, value: Input, scale: str, dtype: str) -> None:
        """Dequantize a cache as soon as it is there."""
        stored = TensorType(dtype, value.type.shape)
        self.inputs[value.name][0] = dataclasses.replace(value, type=stored)
        result = self._new(f"{value.name}.dequantized")
        self.start.append(_scaled("dequantize", value.name, result, scale, stored, value.type))
        self.replaced[value.name] = result


def _scaled(
    kind: str,
    name: str,
    result: str,
    scale: str,
    before: TensorType,
    after: TensorType,
    path: str = "",
) -> Op:
    """A `quantize` or `dequantize` of a value by one scale, from a type to another."""
    letters = _alphabet(before)
    indices = f"{letters},->{letters}"
    attributes: Mapping[str, Attribute] = {"indices": indices}
    if kind == "dequantize":
        attributes = dequantize_attributes(indices, before.dtype)
    return Op(kind, (name, scale), (result,), (after,), attributes, path)


def _alphabet(type_: TensorType) -> str:
    return ascii_lowercase[: len(type_.shape)]


def _grows(type_: TensorType) -> bool:
    """Whether a cache holds more the more tokens there are."""
    return any(isinstance(dim, Polynomial) and dim != symbol("batch") for dim in type_.shape)


def _weight_layout(type_: TensorType, sides: Sequence[Side], block: tuple[int, int]) -> _Layout:
    """Letters for a weight and its scales; a scale holds for one matrix of a batch."""
    alone = len(set(sides)) == len(sides)
    letters = "".join(_LETTERS[side] for side in sides) if alone else _alphabet(type_)
    scale: list[tuple[str, Dim]] = []
    blocks: list[Block] = []
    for at, side in enumerate(sides):
        if side == "batch":
            scale.append((letters[at], type_.shape[at]))
        elif side not in sides[:at]:
            named = zip(letters, type_.shape, sides, strict=True)
            dims = [(letter, size) for letter, size, own in named if own == side]
            scale.extend(_along(dims, block[side == "in"], blocks))
    return _Layout(letters, "".join(x for x, _ in scale), tuple(n for _, n in scale), tuple(blocks))


def _along(
    dims: Sequence[tuple[str, Dim]], block: int, blocks: list[Block]
) -> list[tuple[str, Dim]]:
    """The letters of a scale along some dimensions, of which it has one for each `block`."""
    if block == 1:
        return list(dims)
    whole = product(size for _, size in dims)
    if block == WHOLE or (isinstance(whole, int) and block >= whole):
        return []
    letter = ascii_uppercase[ascii_lowercase.index(dims[0][0])]
    blocks.append(Block(letter, block, "".join(letter for letter, _ in dims)))
    return [(letter, ceil_div(whole, block))]


def _batch(letters: str, type_: TensorType, sides: Sequence[Side]) -> tuple[str, tuple[Dim, ...]]:
    """The letters and sizes of a weight's batch."""
    found = [
        (x, n) for x, n, side in zip(letters, type_.shape, sides, strict=True) if side == "batch"
    ]
    return "".join(x for x, _ in found), tuple(n for _, n in found)


def _activation_layout(
    type_: TensorType, letters: str, summed: Sequence[str], activations: Activations
) -> _Layout:
    """Letters for an activation and its scales: one for each token and block of what is summed."""
    if activations.per_tensor:
        return _Layout(letters, "", (), ())
    sizes = dict(zip(letters, type_.shape, strict=True))
    blocks: list[Block] = []
    kept = [(letter, sizes[letter]) for letter in letters if letter not in summed]
    kept += _along([(letter, sizes[letter]) for letter in summed], activations.block, blocks)
    return _Layout(letters, "".join(x for x, _ in kept), tuple(n for _, n in kept), tuple(blocks))
