"""Tokens between virtual devices that hold different experts: sent there, and collected again.

A replica runs on its own devices; what it makes of its tokens with the experts of others, on
theirs. No device gets a token that did not choose one of its experts, and none gives one back.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from .blocks import Device, Devices, Shards
from .errors import VerificationError
from .graph import Op
from .kinds import indices_of
from .mapped import EXPERTS, MappedGraph

if TYPE_CHECKING:
    from torch import Tensor


def experts_of(op: Op, place: int, places: int) -> range:
    """The experts that the device at one of the places along the axis of replicas holds."""
    count = op.integer("experts")
    length = -(-count // places)
    return range(min(place * length, count), min((place + 1) * length, count))


def dispatch(op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]) -> list[Shards]:
    """Tokens where an expert of their choice is, zeros for the others; where the choice itself is
    sent, other tokens choose an expert that the device does not hold."""
    _check_cuts(op, mapped)
    results: list[Shards] = [{} for _ in op.results]
    for source, target, held in _pairs(op, devices):
        choice = operands[0][source]
        for at, (made, shards) in enumerate(zip(results, operands[1:], strict=True), start=1):
            here = _touched(op, at, choice, held)
            other = held.stop % op.integer("experts") if op.operands[at] == op.operands[0] else 0
            made[target] = shards[source] if here is None else shards[source].where(here, other)
    return results


def collect(op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]) -> list[Shards]:
    """What the experts' devices made of the tokens that were sent to them, summed up."""
    _check_cuts(op, mapped)
    results: list[Shards] = [{} for _ in op.results]
    for source, target, held in _pairs(op, devices):
        choice = operands[0][source]
        for at, (total, shards) in enumerate(zip(results, operands[1:], strict=True), start=1):
            if target not in shards:
                raise VerificationError(f"collect %{op.result}: device {target} made nothing")
            here = _touched(op, at, choice, held)
            part = shards[target] if here is None else shards[target].where(here, 0)
            total[source] = part if source not in total else total[source] + part
    return results


def _pairs(op: Op, devices: Devices) -> Iterator[tuple[Device, Device, range]]:
    """Every device of a replica with those at its place of all replicas, and their experts."""
    names = [axis.name for axis in devices.mesh.axes]
    along, places = names.index(EXPERTS), devices.mesh.sizes[EXPERTS]
    for device in devices:
        for place in range(places):
            target = (*device[:along], place, *device[along + 1 :])
            yield device, target, experts_of(op, place, places)


def _touched(op: Op, at: int, choice: "Tensor", held: range) -> "Tensor | None":
    """Which elements of an operand follow from a choice of some experts, as a mask that can be
    broadcast; None for one that tokens have no part in."""
    indices = indices_of(op)
    letters = indices.operands[0]
    own = indices.operands[at]
    mask = (choice >= held.start) & (choice < held.stop)
    if not set(letters) & set(own):
        return None
    for letter in reversed(letters):
        if letter not in own:
            mask = mask.any(letters.index(letter))
    kept = [letter for letter in letters if letter in own]
    mask = mask.permute([kept.index(letter) for letter in own if letter in kept])
    shape = iter(mask.shape)
    return mask.reshape([next(shape) if letter in kept else 1 for letter in own])


def _check_cuts(op: Op, mapped: MappedGraph) -> None:
    """Raise VerificationError unless devices have the choice of the tokens that they have."""
    indices = indices_of(op)
    rows = [
        *zip(indices.operands, op.operands, strict=True),
        *zip((indices.result, *indices.others), op.results, strict=True),
    ]
    cuts: dict[str, tuple[str, ...]] = {}
    for letters, name in rows:
        for letter, cut in zip(letters, mapped.shardings[name].axes, strict=True):
            if cuts.setdefault(letter, cut) != cut:
                raise VerificationError(f"{op.kind} %{op.result}: {letter} lies in two ways")


EXCHANGES: Mapping[str, Callable[[Op, MappedGraph, Devices, list[Shards]], list[Shards]]] = {
    "dispatch": dispatch,
    "collect": collect,
}
