"""What a core does for operators that are neither products of two values nor elementwise maps.

Every function takes the sizes of an operator's letters on the core (numbers, or arrays over many
meshes) and counts vector instructions and products of matrices as core.py does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..ir.expression import Work
from ..ir.graph import Op
from ..ir.hardware import Core
from ..ir.kinds import Indices, indices_of
from ..ir.mapped import EXPERTS
from ..ir.operators.chosen import chosen_letters, forward_equation
from ..ir.operators.differentiated import forward_of
from ..ir.operators.experts import share
from ..ir.operators.load import busiest, experts_touched, load_of
from .core import CoreWork, compute_dtype, map_work, matrix_dtype, product_work
from .extents import Number, Sizes, ceil_div

MOVE = Work(arithmetic=1, functions=0)
INDEXED = Work(arithmetic=2, functions=0)
"""An address is computed, an element moves."""
SCALE = Work(arithmetic=4, functions=1)
"""To quantize: the largest magnitude, a reciprocal, a product, and rounding."""


@dataclass(frozen=True)
class Kernel:
    """One operator on one core: the sizes of its letters there."""

    core: Core
    op: Op
    letters: Mapping[str, Number]
    whole: Mapping[str, int]
    """The sizes of the letters over all cores."""
    taken: Number = 1.0
    """The part of the result that is ever read; only that is made."""
    replicas: Number = 1.0
    """That divide the experts of a product; each has tokens of its own."""

    @property
    def indices(self) -> Indices:
        return indices_of(self.op)

    @property
    def dtype(self) -> str:
        return compute_dtype(self.core, self.op.type.dtype)

    def extent(self, letters: Iterable[str]) -> Number:
        """Elements that some letters span together, each counted once."""
        return prod((self.letters[x] for x in dict.fromkeys(letters)), start=1.0)

    def map(self, elements: Number, each: Work) -> CoreWork:
        return map_work(self.core, self.dtype, elements, each)

    def product(self, m: Number, n: Number, k: Number) -> CoreWork:
        return product_work(self.core, matrix_dtype(self.core, self.op.type.dtype), m, n, k)


def replicas_of(op: Op, sizes: Sizes) -> Number:
    """Replicas that divide the experts of an operator among them."""
    return sizes.get(EXPERTS, 1) if op.attributes.get("spread") else 1


def added(parts: Iterable[CoreWork]) -> CoreWork:
    """One after the other."""
    total = CoreWork()
    for part in parts:
        total = CoreWork(
            total.cycles + part.cycles,
            total.multiply_adds + part.multiply_adds,
            total.vector_operations + part.vector_operations,
            total.sram_read_bytes + part.sram_read_bytes,
            total.sram_write_bytes + part.sram_write_bytes,
            total.memory_bytes + part.memory_bytes,
        )
    return total


def times(part: CoreWork, count: Number) -> CoreWork:
    """The same work several times."""
    return CoreWork(
        part.cycles * count,
        part.multiply_adds * count,
        part.vector_operations * count,
        part.sram_read_bytes * count,
        part.sram_write_bytes * count,
    )


def _moved(kernel: Kernel) -> CoreWork:
    return kernel.map(kernel.extent(kernel.indices.result), MOVE)


def _gathered(kernel: Kernel) -> CoreWork:
    return kernel.map(kernel.extent(kernel.indices.result), INDEXED)


def _scattered(kernel: Kernel) -> CoreWork:
    """Into the first operand where it lies: only what is put somewhere moves."""
    _, index, source = kernel.indices.operands
    rest = kernel.indices.result.replace(kernel.op.text("along"), "")
    put = "".join(x for x in index + source + rest if x != kernel.op.text("along"))
    return kernel.map(kernel.extent(put), INDEXED)


def _chosen(kernel: Kernel) -> CoreWork:
    """A heap of the best so far: a comparison for every element and level of it."""
    new = [x for x in kernel.indices.result if x not in kernel.indices.operands[0]]
    levels = 1 + int(np.ceil(np.log2(max(2, prod(kernel.whole[x] for x in new)))))
    return kernel.map(kernel.extent(kernel.indices.operands[0]), Work(levels, 0))


def _summed_up(kernel: Kernel) -> CoreWork:
    """Running sums by doubling distances."""
    steps = int(np.ceil(np.log2(max(2, kernel.whole[kernel.op.text("over")]))))
    return kernel.map(kernel.extent(kernel.indices.result), Work(steps, 0))


def _dequantized(kernel: Kernel) -> CoreWork:
    """A conversion, and one operation for every scale and zero point."""
    each = Work(len(kernel.op.operands), 0)
    return kernel.map(kernel.extent(kernel.indices.result) * kernel.taken, each)


def _quantized(kernel: Kernel) -> CoreWork:
    return kernel.map(kernel.extent(kernel.indices.operands[0]), SCALE)


def _convolved(kernel: Kernel) -> CoreWork:
    """A multiply-add for every element of the result and weight that it takes."""
    taps = [x for x in kernel.indices.operands[1] if x not in kernel.indices.result]
    each = int(prod(kernel.whole[x] for x in taps))
    return kernel.map(kernel.extent(kernel.indices.result), Work(each, 0))


def _scanned(kernel: Kernel) -> CoreWork:
    """Token by token over the state, or, with `chunk`, in products of matrices over chunks of
    tokens (arXiv 2405.21060, section 6), whichever is faster."""
    op, indices = kernel.op, kernel.indices
    given = dict(zip(op.text("parts").split(), indices.operands, strict=True))
    sequence, delta = op.text("sequence"), op.attributes.get("delta") is True
    state = "".join(x for x in given["value"] + given.get("key", "") if x not in sequence)
    tokens = kernel.extent(sequence)
    steps = 2 + ("query" in given) + 2 * delta
    one = kernel.map(kernel.extent(state), Work(steps, 0))
    decays = given.get("decay", "")
    decayed = kernel.map(kernel.extent(decays), Work(1, int("decay" in given)))
    serial = times(one, tokens)
    chunk = op.attributes.get("chunk")
    if not isinstance(chunk, int) or "query" not in given or not sequence:
        return added((serial, decayed))
    keys = [x for x in given["key"] if x not in indices.result]
    values = [x for x in given["value"] if x not in given["key"]]
    heads = [x for x in state if x not in (*keys, *values)]
    n, p, count = kernel.extent(keys), kernel.extent(values), kernel.extent(heads)
    length = np.minimum(tokens, chunk)
    within = [(length, length, n), (length, p, length), (length, p, n), (n, p, length)]
    if delta:
        within += [(length, length, n), (length, n, length), (length, p, length), (length, p, n)]
    products = added(kernel.product(m, w, k) for m, w, k in within)
    chunked = times(products, count * ceil_div(tokens, length))
    faster = np.asarray(serial.cycles) <= chunked.cycles
    return added((_either(faster, serial, chunked), decayed))


def _either(first: np.ndarray, a: CoreWork, b: CoreWork) -> CoreWork:
    return CoreWork(
        np.where(first, a.cycles, b.cycles),
        np.where(first, a.multiply_adds, b.multiply_adds),
        np.where(first, a.vector_operations, b.vector_operations),
        np.where(first, a.sram_read_bytes, b.sram_read_bytes),
        np.where(first, a.sram_write_bytes, b.sram_write_bytes),
    )


_DIGITS = 9
"""Decimals of a number of tokens that are no rounding error."""


def _touched(kernel: Kernel) -> tuple[Number, Number]:
    """How many of the busiest core's experts a step touches on average, and the tokens of each.

    What falls on that core is spread evenly over its experts, which touches the most of them.
    """
    (_, choice, _), total = kernel.indices.operands, kernel.op.integer("total")
    own = chosen_letters(kernel.op)
    tokens, chosen = kernel.extent(x for x in choice if x not in own), kernel.extent(own)
    tokens = tokens * kernel.replicas
    held = kernel.extent(kernel.op.text("expert"))
    crowded = chosen * _crowding(kernel, held)
    every = np.vectorize(lambda t, k: experts_touched(t, k, total))(tokens, crowded)
    return every * held / total, tokens * crowded / np.maximum(every, 1e-9)


def _crowding(kernel: Kernel, held: Number) -> Number:
    """The tokens of the busiest core's experts over what they are with a balanced load."""
    op, load = kernel.op, load_of(kernel.op)
    if load is None:
        return 1.0
    experts, chosen = int(kernel.whole[op.text("expert")]), _chosen_experts(kernel)
    total = op.integer("total")

    def over(count: float) -> float:
        of_one = min(experts, max(1, int(count)))
        return float(busiest(load, chosen, of_one, experts) * total / of_one)

    return np.vectorize(over)(held)


def _chosen_experts(kernel: Kernel) -> int:
    """How many experts a token takes."""
    return int(prod(kernel.whole[x] for x in chosen_letters(kernel.op)))


def experts_taken(kernel: Kernel) -> Number:
    """The part of a core's experts that a step reads; one at least, which sets the pace."""
    held = kernel.extent(kernel.op.text("expert"))
    return np.minimum(1.0, np.maximum(_touched(kernel)[0], 1.0) / held)


def _as_forward(kernel: Kernel) -> Kernel:
    """A product of chosen matrices, or that whose matrices a gradient is of."""
    if kernel.op.kind == "chosen_matmul":
        return kernel
    attributes = {**kernel.op.attributes, "indices": forward_equation(kernel.op)}
    return replace(kernel, op=replace(kernel.op, attributes=attributes))


def chosen_product(kernel: Kernel) -> tuple[Number, Number, Number, Number]:
    """The sizes (m, n, k) of the product of one of the busiest core's experts with its tokens,
    and how many such experts a step touches, one at least. Of gradients of matrices the tokens are
    what is summed."""
    gradient, kernel = kernel.op.kind == "chosen_matmul_grad", _as_forward(kernel)
    (_, _, weights), result = kernel.indices.operands, kernel.indices.result
    touched, batch = _touched(kernel)
    m = np.maximum(1.0, ceil_div(np.round(batch, _DIGITS), 1.0))
    n = kernel.extent(c for c in weights if c in result)
    k = kernel.extent(c for c in weights if c not in result and c != kernel.op.text("expert"))
    count = np.maximum(touched, 1.0)
    return (k, n, m, count) if gradient else (m, n, k, count)


def _chosen_products(kernel: Kernel) -> CoreWork:
    """The tokens of every local expert that is touched, as one batch through its matrix.

    A core that holds few experts is touched in some steps and not in others; those that are set
    the pace, so time counts one expert at least, of the busiest core, while energy counts the
    average of all cores.
    """
    *shape, touched = chosen_product(kernel)
    one = kernel.product(*shape)
    tokens = shape[2] if kernel.op.kind == "chosen_matmul_grad" else shape[0]
    kernel = _as_forward(kernel)
    op, choice = kernel.op, kernel.indices.operands[1]
    experts = int(kernel.whole[op.text("expert")])
    part = float(share(op, experts, _chosen_experts(kernel)) / experts)
    rows = kernel.extent(choice) * kernel.replicas * kernel.extent(op.text("expert")) * part
    return replace(times(one, rows / tokens), cycles=one.cycles * touched)


def _backward(kind: str, forward: Callable[[Kernel], CoreWork]) -> Callable[[Kernel], CoreWork]:
    """The gradient of a kind: its forward work once more, and twice that for its operands."""

    def work(kernel: Kernel) -> CoreWork:
        op = replace(forward_of(kernel.op), kind=kind, results=("",), types=kernel.op.types[:1])
        return times(forward(replace(kernel, op=op)), 3)

    return work


_UPDATES = {"adam": Work(12, 3), "sgd": Work(3, 0)}
"""Operations of an optimizer for one weight: Adam's moments take five, the weight seven, and a
square root and two divisions (Kingma and Ba, arXiv 1412.6980, algorithm 1)."""


def _updated(kernel: Kernel) -> CoreWork:
    return kernel.map(kernel.extent(kernel.indices.result), _UPDATES[kernel.op.text("rule")])


def _added_up(kernel: Kernel) -> CoreWork:
    """Every token's row is looked at; those of rows that the core holds, its share of all, are
    added."""
    given, ids = kernel.indices.operands
    row = kernel.op.text("rows")
    share = kernel.letters[row] / kernel.whole[row]
    tokens = kernel.extent(ids)
    rows = kernel.map(tokens * share * kernel.extent(x for x in given if x not in ids), INDEXED)
    return added((kernel.map(tokens, Work(1, 0)), rows))


KERNELS: Mapping[str, Callable[[Kernel], CoreWork]] = {
    "pad": _moved,
    "flip": _moved,
    "iota": _moved,
    "gather": _gathered,
    "scatter": _scattered,
    "topk": _chosen,
    "cumsum": _summed_up,
    "dequantize": _dequantized,
    "quantize": _quantized,
    "convolve": _convolved,
    "scan": _scanned,
    "chosen_matmul": _chosen_products,
    "chosen_matmul_grad": _chosen_products,
    "scan_grad": _backward("scan", _scanned),
    "convolve_grad": _backward("convolve", _convolved),
    "update": _updated,
    "embedding_grad": _added_up,
}
