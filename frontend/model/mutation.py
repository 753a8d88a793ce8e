"""Changes in place in a traced program.

From such an operator on, a trace calls the changed tensor by the operator's result, so that it
reads like an operator that yields a new tensor. That holds for the tensor itself but not for what
shares its memory: programs that change such memory are made functional by torch first.
"""

from dataclasses import dataclass
from typing import Any

from torch import fx
from torch.export import ExportedProgram

from .aten import Call, Shown, UnsupportedError
from .builder import View

_EMPTY = ("aten.new_empty.default", "aten.empty.memory_format", "aten.empty_like.default")


@dataclass(frozen=True)
class Joined:
    """A tensor made empty and filled part by part: `parts` lie one after the other along `dim`.

    `last` is the operator that fills the last part to be filled.
    """

    parts: tuple[fx.Node, ...]
    dim: int
    last: fx.Node


def joined(nodes: list[fx.Node]) -> dict[fx.Node, Joined]:
    """The empty tensors of a trace that are filled by copies into slices, all of them, and only
    then read."""
    order = {node: at for at, node in enumerate(nodes)}
    found: dict[fx.Node, Joined] = {}
    for node in nodes:
        if str(node.target) in _EMPTY and (made := _filled(node, order)) is not None:
            found[node] = made
    return found


def _filled(empty: fx.Node, order: dict[fx.Node, int]) -> Joined | None:
    copies: dict[tuple[int, int], fx.Node] = {}
    slices: list[fx.Node] = []
    dims: set[int] = set()
    rank = len(empty.meta["val"].shape)
    for user in empty.users:
        if str(user.target) == "aten.slice.Tensor" and len(user.users) == 1:
            (copy,) = user.users
            if str(copy.target) == "aten.copy_.default" and copy.args[0] is user:
                _, dim, start, stop, *_ = (*user.args, 0, 0, 1 << 62)
                if not isinstance(dim, int) or not isinstance(start, int):
                    return None
                size = empty.meta["val"].shape[dim]
                if not isinstance(size, int) or not isinstance(stop, int) or len(user.args) > 4:
                    return None
                dims.add(dim % rank)
                slices.append(user)
                copies[start, min(stop, size)] = copy
    if len(dims) != 1:
        return None
    (dim,) = dims
    bounds = sorted(copies)
    chain = [0, *(stop for _, stop in bounds)]
    if [start for start, _ in bounds] != chain[:-1] or chain[-1] != empty.meta["val"].shape[dim]:
        return None
    last = max(copies.values(), key=lambda copy: order[copy])
    if any(order[user] < order[last] for user in empty.users if user not in slices):
        return None
    parts: list[fx.Node] = []
    for at in bounds:
        slice_, source = copies[at].args[:2]
        if not (isinstance(slice_, fx.Node) and isinstance(source, fx.Node)):
            return None
        if slice_.meta["val"].shape != source.meta["val"].shape:
            return None
        parts.append(source)
    return Joined(tuple(parts), dim, last)


def strided_from(node: fx.Node) -> fx.Node | None:
    """The tensor y where a node is `x` after `x[..., a:b:c] = y[..., a:b:c]`, x and y alike."""
    if str(node.target) != "aten.slice_scatter.default" or len(node.args) < 6:
        return None
    into, part, *places = node.args
    if isinstance(part, fx.Node) and str(part.target) == "aten.copy.default":
        part = part.args[1]
    if not isinstance(part, fx.Node) or str(part.target) != "aten.slice.Tensor":
        return None
    source, *found = part.args
    if not isinstance(into, fx.Node) or not isinstance(source, fx.Node):
        return None
    alike = into.meta["val"].shape == source.meta["val"].shape
    rank = len(into.meta["val"].shape)
    whole = all(isinstance(place, int) for place in (*places, *found))
    if not alike or not whole or len(found) != len(places):
        return None
    same = found[1:] == places[1:] and int(str(found[0])) % rank == int(str(places[0])) % rank
    return source if same else None


def interleaved(call: Call, source: Shown) -> View:
    """The tensor that `strided_from` speaks of: every so many elements are another's."""
    x = call.tensor(0)
    at = call.dim(2, "dim", call.rank)
    start, end, step = (int(call.arguments[place]) for place in (3, 4, 5))
    size = x.type.shape[at]
    if not isinstance(size, int) or start < 0 or end < 0:
        raise UnsupportedError("steps along a dimension of unknown size")
    place = call.positions(size)
    along = View(place.name, (0, *(None,) * (call.rank - 1 - at)))
    taken = f"c >= {start} and c < {min(end, size)} and (c - {start}) % {step} == 0"
    return call.elementwise(f"where({taken}, b, a)", x.view, source.view, along).view


def functional(program: ExportedProgram) -> ExportedProgram:
    """The program, without changes in place of memory that has several names, but for `joined`."""
    nodes = list(program.graph.nodes)
    known = {user for empty in joined(nodes) for part in empty.users for user in part.users}
    if any(node not in known and _changes_shared(node) for node in nodes):
        return program.run_decompositions({})
    return program


def _changes_shared(node: fx.Node) -> bool:
    """Whether an operator changes a tensor that is a view, or of which there are views."""
    schema: Any = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return False
    changed = node.args[0]
    if not isinstance(changed, fx.Node) or any(
        user is not node and _is_view(user) for user in changed.users
    ):
        return True
    while _is_view(changed):
        changed = changed.all_input_nodes[0]
        if len(changed.users) > 1:
            return True
    return False


def _is_view(node: fx.Node) -> bool:
    schema: Any = getattr(node.target, "_schema", None)
    return schema is not None and any(
        given.alias_info is not None and not given.alias_info.is_write for given in schema.returns
    )
