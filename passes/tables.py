"""Where tables lie that tokens choose from: embeddings, and the matrices of experts."""

from collections.abc import Mapping

from ..ir import dims
from ..ir.dims import Dim
from ..ir.graph import Op
from ..ir.kinds import Indices
from ..ir.mapped import EXPERTS
from ..ir.program import Layout
from .axes import COLUMNS, ROWS, Placed, axes_of, without_clashes
from .products import Known


def embedding_axes(layout: Layout, op: Op, indices: Indices, known: Known) -> Placed:
    """Rows of the table lie over one direction, its features over the other."""
    rows, features = (ROWS, COLUMNS) if layout == "matmul" else (COLUMNS, ROWS)
    ids, table = indices.operands
    row = op.text("rows")
    new = [letter for letter in table if letter != row and letter not in ids]
    return {row: rows} | ({known.largest(new): features} if new else {})


def embedding_grad_axes(layout: Layout, op: Op, indices: Indices) -> Placed:
    """The gradient of a table that lies nowhere yet."""
    rows, features = (ROWS, COLUMNS) if layout == "matmul" else (COLUMNS, ROWS)
    given, ids = indices.operands
    new = [letter for letter in given if letter not in ids]
    return {op.text("rows"): rows, **dict.fromkeys(new[-1:], features)}


def chosen_grad_axes(layout: Layout, indices: Indices, tokens: Placed, aim: Placed) -> Placed:
    """Axes of the gradient of the matrices of experts, which lie as `aim` says: in `matmul` each
    row of cores adds up what its own tokens give; else every core has all tokens."""
    summed = {x: tokens.get(x, ()) for x in indices.reduced} if layout == "matmul" else {}
    return without_clashes(aim | summed, summed)


def spread(op: Op) -> Placed:
    """Where the matrices of a product lie by expert: on replicas that divide them, if that is
    asked for."""
    return {op.text("expert"): (EXPERTS,)} if op.attributes.get("spread") else {}


def chosen_axes(
    layout: Layout, indices: Indices, sizes: Mapping[str, Dim], placed: Placed
) -> tuple[Placed, Placed]:
    """Axes of the tokens and their choices, and those in which the matrices of experts had best
    lie: in `matmul` each row of cores has its tokens, and all matrices come along from the other
    rows; else matrices lie as other weights do."""
    (x, choice, weights), result = indices.operands, indices.result
    contracted = [letter for letter in x if letter in weights and letter not in result]
    new = [letter for letter in weights if letter in result and letter not in x]
    summed, made = (
        max(letters, key=lambda letter: dims.size(sizes[letter])) for letters in (contracted, new)
    )
    axes = dict(placed)
    if layout == "matmul":
        first = set(choice) <= set(result)
        cut = tuple(axis for axis in COLUMNS if axis not in axes_of(axes, set(x) & set(result)))
        axes |= dict.fromkeys(contracted, ()) | {made if first else summed: cut}
        return axes, {**axes, (summed if first else made): ROWS}
    used = axes_of(axes, contracted)
    if not used:
        axes[summed] = used = ROWS
    axes[made] = COLUMNS if set(used) & set(ROWS) else ROWS
    axes = without_clashes(axes, [*contracted, made])
    return axes, axes
