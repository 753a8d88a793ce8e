"""Operators on virtual devices: every device runs them on its own blocks, and only collectives
see more than one device. What is run in which order is in virtual.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .blocks import Block, Device, Devices, Shards, narrowed
from .dims import size
from .errors import VerificationError
from .graph import Op, TensorType
from .interpreter import run_op
from .kinds import Indices, indices_of
from .mapped import MappedGraph, Sharding
from .operators.attention import mask
from .operators.chosen import chosen_matmul, chosen_matmul_grad
from .virtual_experts import EXCHANGES

if TYPE_CHECKING:
    from torch import Tensor


def run_on_devices(
    op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]
) -> list[Shards]:
    """The blocks of an operator's results, from those of its operands; those of all replicas that
    divide experts where these have the operands.

    Raises VerificationError where a device lacks what its block is made of.
    """
    if op.kind in EXCHANGES:
        return EXCHANGES[op.kind](op, mapped, devices, operands)
    if op.kind == "all_reduce":
        return [_all_reduce(op, _where(devices, [shards]), shards) for shards in operands]
    devices = _where(devices, operands)
    match op.kind:
        case "reduce_scatter":
            summed = _all_reduce(op, devices, operands[0])
            return [_narrowed(op, mapped, devices, summed)]
        case "all_gather":
            return [_all_gather(op, mapped, devices, operands[0])]
        case "shard":
            return [_narrowed(op, mapped, devices, operands[0])]
        case "grid_matmul":
            return [_grid_matmul(op, mapped, devices, operands)]
        case _:
            return _local(op, mapped, devices, operands)


def _where(devices: Devices, operands: Sequence[Shards]) -> Devices:
    """The devices that have all operands: of all replicas, or of one."""
    everywhere = {*devices.everywhere}
    if all(everywhere <= shards.keys() for shards in operands):
        return devices.everywhere
    return devices


def run_on_parts(
    op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]
) -> list[Shards]:
    """An operator of the optimizer on parts of flattened blocks, on every device.

    Raises VerificationError unless it does the same to every element by itself.
    """
    indices = indices_of(op)
    letters = {*indices.operands, indices.result, *indices.others}
    if op.kind not in ("update", "elementwise") or not letters <= {indices.result, ""}:
        raise VerificationError(
            f"graph {mapped.graph.name}: {op.kind} %{op.result} cannot be divided among replicas"
        )
    results: list[Shards] = [{} for _ in op.results]
    for device in devices:
        mine = [shards[device] for shards in operands]
        values = run_op(_flat(op, indices, max(part.numel() for part in mine)), mine)
        for shards, value in zip(results, values, strict=True):
            shards[device] = value
    return results


def _flat(op: Op, indices: Indices, count: int) -> Op:
    """An operator that does the same to every element, over a list of so many."""
    made = (indices.result, *indices.others)
    read, results = (
        ",".join("a" if letters else "" for letters in each) for each in (indices.operands, made)
    )
    types = (
        TensorType(type_.dtype, (count,) if letters else ())
        for type_, letters in zip(op.types, made, strict=True)
    )
    attributes = {**op.attributes, "indices": f"{read}->{results}"}
    return dataclasses.replace(op, types=tuple(types), attributes=attributes)


def _axes(op: Op) -> tuple[str, ...]:
    axes = op.attributes["axes"]
    assert isinstance(axes, tuple)
    return tuple(str(axis) for axis in axes)


def _all_reduce(op: Op, devices: Devices, shards: Shards) -> Shards:
    import torch

    result: Shards = {}
    for group in devices.groups(_axes(op)):
        parts = torch.stack([shards[device] for device in group])
        total = parts.amax(0) if op.attributes.get("function") == "max" else parts.sum(0)
        result |= {device: total.clone() for device in group}
    return result


def _all_gather(op: Op, mapped: MappedGraph, devices: Devices, shards: Shards) -> Shards:
    """Every device puts its new block together from what the devices along `axes` hold."""
    import torch

    name = op.operands[0]
    type_, before = mapped.graph.types[name], mapped.shardings[name]
    result: Shards = {}
    for group in devices.groups(_axes(op)):
        whole = torch.zeros([size(dim) for dim in type_.shape], dtype=getattr(torch, type_.dtype))
        known = torch.zeros_like(whole, dtype=torch.bool)
        for device in group:
            held = devices.block(device, type_, before)
            narrowed(whole, held).copy_(shards[device])
            narrowed(known, held).fill_(True)
        for device in group:
            wanted = devices.block(device, type_, mapped.shardings[op.result])
            if not narrowed(known, wanted).all():
                raise VerificationError(f"all_gather %{op.result}: device {device} lacks a part")
            result[device] = narrowed(whole, wanted)
    return result


def _narrowed(op: Op, mapped: MappedGraph, devices: Devices, shards: Shards) -> Shards:
    """Each device keeps the part of its block that the result's sharding gives it."""
    name = op.operands[0]
    type_, before = mapped.graph.types[name], mapped.shardings[name]
    result: Shards = {}
    for device, part in shards.items():
        held = devices.block(device, type_, before)
        kept = devices.block(device, type_, mapped.shardings[op.result])
        for at, (have, want) in enumerate(zip(held, kept, strict=True)):
            if len(want) and not (have.start <= want.start and want.stop <= have.stop):
                raise VerificationError(f"shard %{op.result}: device {device} lacks its part")
            part = part.narrow(at, max(0, want.start - have.start) if len(want) else 0, len(want))
        result[device] = part
    return result


def _local(op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]) -> list[Shards]:
    """An operator without communication, on every device's own blocks."""
    types, shardings = mapped.graph.types, mapped.shardings
    results: list[Shards] = [{} for _ in op.results]
    for device in devices:
        mine = [shards[device] for shards in operands]
        match op.kind:
            case "mask":
                values: Sequence[Tensor] = [_mask(op, mapped, devices, device, mine[0])]
            case "embedding":
                block = devices.block(device, types[op.operands[1]], shardings[op.operands[1]])
                values = [_embedding(op, block, mine)]
            case "embedding_grad":
                block = devices.block(device, op.type, shardings[op.result])
                values = [_embedding_grad(_part_of(op, mapped, devices, device), block, mine)]
            case "iota":
                block = devices.block(device, op.type, shardings[op.result])
                values = [narrowed(run_op(op, mine)[0], block)]
            case "concat":
                values = [_append(op, mapped, devices, device, mine)]
            case "dequantize":
                values = [_in_place(op, mapped, devices, device, mine)]
            case "chosen_matmul":
                part = _part_of(op, mapped, devices, device)
                first = _first_expert(op, op.operands[2], mapped, devices, device)
                values = [chosen_matmul(part, mine, first)]
            case "chosen_matmul_grad":
                part = _part_of(op, mapped, devices, device)
                first = _first_expert(op, op.result, mapped, devices, device)
                values = [chosen_matmul_grad(part, mine, first)]
            case _:
                values = _run_part(_part_of(op, mapped, devices, device), mine)
        for shards, value in zip(results, values, strict=False):
            shards[device] = value
    return results


def _part_of(op: Op, mapped: MappedGraph, devices: Devices, device: Device) -> Op:
    """The operator as it makes a device's blocks of its results."""
    blocks = (
        devices.block(device, type_, mapped.shardings[name])
        for name, type_ in zip(op.results, op.types, strict=True)
    )
    types = tuple(
        TensorType(type_.dtype, tuple(len(places) for places in block))
        for type_, block in zip(op.types, blocks, strict=True)
    )
    return dataclasses.replace(op, types=types)


def _run_part(op: Op, operands: "Sequence[Tensor]") -> "Sequence[Tensor]":
    """What a device makes of its blocks; a device with nothing to make computes nothing."""
    import torch

    shapes = [[size(dim) for dim in type_.shape] for type_ in op.types]
    if any(0 not in shape for shape in shapes):
        return run_op(op, operands)
    return [
        torch.empty(shape, dtype=getattr(torch, type_.dtype))
        for shape, type_ in zip(shapes, op.types, strict=True)
    ]


def _first_expert(
    op: Op, weights: str, mapped: MappedGraph, devices: Devices, device: Device
) -> int:
    """The number of the first expert whose weights, or their gradient, a device holds."""
    indices = indices_of(op)
    letters = indices.result if weights == op.result else indices.operands[2]
    block = devices.block(device, mapped.graph.types[weights], mapped.shardings[weights])
    return block[letters.index(op.text("expert"))].start


def _in_place(
    op: Op, mapped: MappedGraph, devices: Devices, device: Device, mine: list["Tensor"]
) -> "Tensor":
    """A device's block of the result, where elements are known by their place in the whole."""
    types, shardings = mapped.graph.types, mapped.shardings
    wholes: list[Tensor] = []
    for name, part in zip(op.operands, mine, strict=True):
        whole = part.new_zeros([size(dim) for dim in types[name].shape])
        narrowed(whole, devices.block(device, types[name], shardings[name])).copy_(part)
        wholes.append(whole)
    block = devices.block(device, op.type, shardings[op.result])
    return narrowed(run_op(op, wholes)[0], block)


def _mask(
    op: Op, mapped: MappedGraph, devices: Devices, device: Device, mine: "Tensor"
) -> "Tensor":
    name, (letters,) = op.operands[0], indices_of(op).operands
    type_ = mapped.graph.types[name]
    block = devices.block(device, type_, mapped.shardings[name])
    first: dict[str, int] = {
        letter: places.start for letter, places in zip(letters, block, strict=True)
    }
    sizes = {letter: size(dim) for letter, dim in zip(letters, type_.shape, strict=True)}
    query, key = op.text("query"), op.text("key")
    return mask(op, [mine], (first.get(query, 0), first[key]), sizes[key] - sizes.get(query, 1))


def _embedding(op: Op, block: Block, mine: list["Tensor"]) -> "Tensor":
    """Rows that this device holds; zero for the others."""
    ids, table = mine
    letters = indices_of(op).operands
    at = letters[1].index(op.text("rows"))
    held = block[at]
    here = (ids >= held.start) & (ids < held.stop)
    if not len(held):
        table = table.new_zeros([1 if i == at else n for i, n in enumerate(table.shape)])
    found = run_op(op, [(ids - held.start).clamp(0, max(0, len(held) - 1)), table])[0]
    result = indices_of(op).result
    mask_shape = [
        ids.shape[letters[0].index(letter)] if letter in letters[0] else 1 for letter in result
    ]
    order = sorted(range(len(letters[0])), key=lambda i: result.index(letters[0][i]))
    return found * here.permute(order).reshape(mask_shape)


def _embedding_grad(op: Op, block: Block, mine: list["Tensor"]) -> "Tensor":
    """The sums of the rows that this device holds; those of other rows fall on one more."""
    import torch

    given, ids = mine
    at = indices_of(op).result.index(op.text("rows"))
    held = block[at]
    dropped = ids == op.integer("padding") if "padding" in op.attributes else torch.zeros(())
    here = (ids >= held.start) & (ids < held.stop) & ~dropped.bool()
    shape = [n + 1 if i == at else n for i, n in enumerate(op.type.shape)]
    roomy = dataclasses.replace(
        op,
        types=(TensorType(op.type.dtype, tuple(shape)),),
        attributes={name: value for name, value in op.attributes.items() if name != "padding"},
    )
    (total,) = run_op(roomy, [given, torch.where(here, ids - held.start, len(held))])
    return total.narrow(at, 0, len(held))


def _append(
    op: Op, mapped: MappedGraph, devices: Devices, device: Device, mine: list["Tensor"]
) -> "Tensor":
    """A cache grows by what comes last: only the device that has room for it takes it."""
    import torch

    indices, along = indices_of(op), op.text("along")
    at = indices.result.index(along)
    target = devices.block(device, op.type, mapped.shardings[op.result])[at]
    pieces: list[Tensor] = []
    start = 0
    rows = zip(op.operands, indices.operands, mine, strict=True)
    for name, letters, part in rows:
        type_, sharding = mapped.graph.types[name], mapped.shardings[name]
        if along in letters:
            place = letters.index(along)
            held = devices.block(device, type_, sharding)[place]
            held = range(held.start + start, held.stop + start)
            start += size(type_.shape[place])
            part = part.permute([letters.index(letter) for letter in indices.result])
        else:
            held = range(start, start + 1)
            start += 1
            rest = [letter for letter in indices.result if letter != along]
            part = part.permute([letters.index(letter) for letter in rest]).unsqueeze(at)
        first, last = max(held.start, target.start), min(held.stop, target.stop)
        if first < last:
            pieces.append(part.narrow(at, first - held.start, last - first))
    if sum(piece.shape[at] for piece in pieces) != len(target):
        raise VerificationError(f"concat %{op.result}: device {device} lacks part of its block")
    block = devices.block(device, op.type, mapped.shardings[op.result])
    nothing = mine[0].new_empty([0 if i == at else len(places) for i, places in enumerate(block)])
    return torch.cat([nothing, *pieces], dim=at)


def _grid_matmul(op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]) -> Shards:
    """The product of tiles that travel. A device multiplies only tiles that reach it.

    `rotate`: left tiles of its own row and right tiles of its own column. `reduce`: every column
    of a row multiplies its left tile with the right tiles of its own column, and the device keeps
    the sum over those columns of the part that is its own.
    """
    import torch

    types, shardings = mapped.graph.types, mapped.shardings
    indices = indices_of(op)
    left, right = op.operands
    blocks = [
        {device: devices.block(device, types[name], shardings[name]) for device in devices}
        for name in (left, right)
    ]
    along_left = _axes_of(indices.operands[0], shardings[left], set(indices.reduced))
    travels = set(indices.reduced) if op.text("form") == "rotate" else set(indices.operands[1])
    along_right = _axes_of(indices.operands[1], shardings[right], travels)
    if op.text("form") == "reduce":
        along_right = tuple(axis for axis in along_right if axis not in along_left)
    rows = _neighbours(devices, along_left)
    columns = _neighbours(devices, along_right)
    result: Shards = {}
    for device in devices:
        mine = devices.block(device, op.type, shardings[op.result])
        total = torch.zeros([len(places) for places in mine], dtype=getattr(torch, op.type.dtype))
        for a in rows[device]:
            for b in columns[device if op.text("form") == "rotate" else a]:
                tiles = (operands[0][a], operands[1][b])
                _add_product(total, mine, indices, tiles, (blocks[0][a], blocks[1][b]))
        result[device] = total
    return result


def _axes_of(letters: str, sharding: Sharding, wanted: set[str]) -> tuple[str, ...]:
    pairs = zip(letters, sharding.axes, strict=True)
    return tuple(axis for letter, axes in pairs if letter in wanted for axis in axes)


def _neighbours(devices: Devices, axes: tuple[str, ...]) -> dict[Device, list[Device]]:
    """For every device those that differ from it only along `axes`."""
    return {device: group for group in devices.groups(axes) for device in group}


def _add_product(
    total: "Tensor",
    mine: Block,
    indices: Indices,
    tiles: tuple["Tensor", "Tensor"],
    blocks: tuple[Block, Block],
) -> None:
    """Add to `total` what two tiles have in common with each other and with the block `mine`."""
    import torch

    common: dict[str, range] = dict(zip(indices.result, mine, strict=True))
    for letters, block in zip(indices.operands, blocks, strict=True):
        for letter, places in zip(letters, block, strict=True):
            other = common.get(letter, places)
            start, stop = max(places.start, other.start), min(places.stop, other.stop)
            common[letter] = range(start, max(start, stop))
    if not all(len(places) for places in common.values()):
        return
    parts = [
        _part(tile, letters, block, common)
        for tile, letters, block in zip(tiles, indices.operands, blocks, strict=True)
    ]
    _part(total, indices.result, mine, common).add_(torch.einsum(indices.equation, *parts))


def _part(tile: "Tensor", letters: str, block: Block, common: Mapping[str, range]) -> "Tensor":
    for at, (letter, held) in enumerate(zip(letters, block, strict=True)):
        want = common[letter]
        if want != held:
            tile = tile.narrow(at, want.start - held.start, len(want))
    return tile
