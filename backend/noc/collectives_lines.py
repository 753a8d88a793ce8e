"""Collectives among n members in a line or ring: tables of messages for positions 0 to n - 1.

Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH,
IJHPCA 19(1), 2005; Chan, Heimlich, Purkayastha and van de Geijn, Collective communication,
Concurrency and Computation 19(13), 2007; chains and two phases: "Near-Optimal Wafer-Scale
Reduce", arXiv 2404.15888. Which data the blocks are is stated for each.
"""

from typing import Literal

import numpy as np

from ...ir.errors import UserError
from .arrays import Ints
from .collectives_plan import Messages, at_once, messages, one_after_another, renamed


def ring_reduce_scatter(n: int) -> Messages:
    """n - 1 steps to the next member; n blocks, the sum of block i ends in member i."""
    step, member = _steps_and_members(n, n - 1)
    return messages(step, member, (member + 1) % n, (member - step - 1) % n, reduces=True)


def ring_all_gather(n: int) -> Messages:
    """n - 1 steps to the next member; n blocks, block i starts in member i."""
    step, member = _steps_and_members(n, n - 1)
    return messages(step, member, (member + 1) % n, (member - step) % n)


def _steps_and_members(n: int, steps: int) -> tuple[Ints, Ints]:
    return np.arange(steps)[:, np.newaxis], np.arange(n)[np.newaxis, :]


def halving(n: int) -> Messages:
    """Reduce-scatter in log2 n steps, halving data and distance; block i ends in member i."""
    _require_power_of_two(n)
    distances = [n >> level for level in range(1, n.bit_length())]
    member = np.arange(n)
    return one_after_another(
        [messages(0, member, member ^ d, (member ^ d) & -d, d, reduces=True) for d in distances]
    )


def doubling(n: int) -> Messages:
    """All-gather in log2 n steps, doubling data and distance; block i starts in member i."""
    _require_power_of_two(n)
    member = np.arange(n)
    distances = [1 << level for level in range(n.bit_length() - 1)]
    return one_after_another([messages(0, member, member ^ d, member & -d, d) for d in distances])


def halving_doubling(n: int) -> Messages:
    """All-reduce by halving and doubling among the largest power of two, p, of members.

    p blocks. The n - p others give all that they have to a neighbour first and get the result
    from it in the end.
    """
    p = 1 << (n.bit_length() - 1)
    extra = np.arange(n - p)
    given, taking = 2 * extra, 2 * extra + 1
    core = np.concatenate([taking, np.arange(2 * (n - p), n)])[np.newaxis, :]
    fold = messages(0, given, taking, 0, p, reduces=True)
    inner = [renamed(table, core[0]) for table in (halving(p), doubling(p))]
    return one_after_another([fold, *inner, messages(0, taking, given, 0, p)])


def _require_power_of_two(n: int) -> None:
    if n & (n - 1):
        raise UserError(f"halving and doubling need a power of two of members, not {n}")


def tree_reduce(n: int, root: int = 0) -> Messages:
    """A binomial tree, neighbours first; one block, its sum ends in the root."""
    return one_after_another(_tree_levels(n, root, reduces=True))


def tree_broadcast(n: int, root: int = 0) -> Messages:
    """A binomial tree, the farthest first; one block."""
    return one_after_another(_tree_levels(n, root, reduces=False)[::-1])


def _tree_levels(n: int, root: int, reduces: bool) -> list[Messages]:
    found = []
    for level in range(max(1, (n - 1).bit_length())):
        distance = 1 << level
        child = np.arange(distance, n, 2 * distance)
        ends = (child + root) % n, (child - distance + root) % n
        source, destination = ends if reduces else ends[::-1]
        found.append(messages(0, source, destination, reduces=reduces))
    return found


def star_reduce(n: int, root: int = 0) -> Messages:
    """Every member to the root, the nearest first; one block."""
    return messages(0, _others(n, root), root, reduces=True)


def star_broadcast(n: int, root: int = 0) -> Messages:
    """The root to every member, the farthest first; one block."""
    return messages(0, root, _others(n, root)[::-1])


def _others(n: int, root: int) -> Ints:
    """All but the root, the nearest first."""
    others = np.delete(np.arange(n), root)
    return others[np.argsort(abs(others - root), kind="stable")]


def chain_reduce(n: int, root: int = 0) -> Messages:
    """From both ends to the root, neighbour by neighbour; one block.

    The step of a message is such that the last ones of both chains come together.
    """
    member = np.delete(np.arange(n), root)
    away = abs(member - root)
    return messages(away.max(initial=0) - away, member, member - np.sign(member - root),
                    reduces=True)  # fmt: skip


def chain_broadcast(n: int, root: int = 0) -> Messages:
    """From the root to both ends, neighbour by neighbour; one block."""
    member = np.delete(np.arange(n), root)
    away = abs(member - root)
    return messages(away - 1, member - np.sign(member - root), member)


def multicast(n: int, root: int = 0) -> Messages:
    """One message to all others, copied on its way by the network; one block."""
    return messages(0, root, np.delete(np.arange(n), root), multicast=True)


Place = Literal["middle", "first"]


def groups_of(
    n: int, size: int | None = None, place: Place = "middle"
) -> tuple[list[Ints], list[int], int]:
    """Neighbours in groups of about sqrt(n) or `size`; which of each is its root, counted in the
    group; and the group of the last root."""
    size = size or max(1, round(n**0.5))
    groups = [np.arange(begin, min(begin + size, n)) for begin in range(0, n, size)]
    if place == "first":
        return groups, [0] * len(groups), 0
    return groups, [len(group) // 2 for group in groups], len(groups) // 2


def two_phase_root(n: int, size: int | None = None, place: Place = "middle") -> int:
    """Where a two-phase reduction ends."""
    groups, roots, last = groups_of(n, size, place)
    return int(groups[last][roots[last]])


def two_phase_reduce(n: int, size: int | None = None, place: Place = "middle") -> Messages:
    """Chains inside each group to its root, then a chain over the roots; one block.

    With roots in the middle, chains come from both ends, as in WaferLLM's kernels; with the first
    of each as its root, from one, as in arXiv 2404.15888.
    """
    groups, roots, last = groups_of(n, size, place)
    inside = [
        renamed(chain_reduce(len(group), root), group)
        for group, root in zip(groups, roots, strict=True)
    ]
    ends = np.array([group[root] for group, root in zip(groups, roots, strict=True)])
    return one_after_another([at_once(inside), renamed(chain_reduce(len(groups), last), ends)])


def two_phase_broadcast(n: int, size: int | None = None, place: Place = "middle") -> Messages:
    """The same way back without multicast; one block."""
    groups, roots, last = groups_of(n, size, place)
    inside = [
        renamed(chain_broadcast(len(group), root), group)
        for group, root in zip(groups, roots, strict=True)
    ]
    ends = np.array([group[root] for group, root in zip(groups, roots, strict=True)])
    return one_after_another([renamed(chain_broadcast(len(groups), last), ends), at_once(inside)])


def all_to_all(n: int) -> Messages:
    """n - 1 steps, to ever farther members; n * n blocks, block i * n + j from i to j."""
    step, member = _steps_and_members(n, n - 1)
    target = (member + step + 1) % n
    return messages(step, member, target, member * n + target)


def shift(n: int, by: int, wraps: bool = True) -> Messages:
    """Every member to the one `by` positions on; n blocks, block i starts in member i."""
    member = np.arange(n)
    target = member + by
    inside = (target >= 0) & (target < n) if not wraps else np.full(n, by % n != 0)
    return messages(0, member[inside], target[inside] % n, member[inside])
