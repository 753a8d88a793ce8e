"""How the tokens fall on the experts of a mixture: how many experts some tokens touch, and how much
of an uneven load the busiest device bears.
"""

from fractions import Fraction
from functools import lru_cache

from ..errors import VerificationError
from ..graph import Op


def experts_touched(tokens: float, chosen: float, experts: int) -> float:
    """The expected number of distinct experts that some tokens choose, whose weights are read.

    Each token takes `chosen` of the `experts`, all equally likely and independently of the other
    tokens: a token misses an expert with probability 1 - k/E, so T tokens touch
    E (1 - (1 - k/E)^T).
    """
    return experts * (1 - (1 - min(1.0, chosen / experts)) ** tokens)


@lru_cache(maxsize=256)
def choices(load: tuple[int, ...], chosen: int) -> tuple[Fraction, ...]:
    """The part of all choices that falls on each expert under a relative `load`; they sum to 1.

    A token takes `chosen` different experts, so that none gets more than 1 / chosen of all
    choices: what a load gives one beyond that goes to the others in proportion to theirs, evenly
    where they have none.
    """
    most = Fraction(1, min(chosen, len(load)))
    parts = dict.fromkeys(range(len(load)), most)
    left, free = Fraction(1), dict(enumerate(load))
    while free:
        if not any(free.values()):
            free = dict.fromkeys(free, 1)
        scale = left / sum(free.values())
        full = [expert for expert, tokens in free.items() if tokens * scale > most]
        if not full:
            parts |= {expert: tokens * scale for expert, tokens in free.items()}
            break
        left -= most * len(full)
        for expert in full:
            del free[expert]
    return tuple(parts[expert] for expert in range(len(load)))


@lru_cache(maxsize=4096)
def busiest(load: tuple[int, ...], chosen: int, held: int, experts: int) -> Fraction:
    """The largest part of all choices that falls on a device, where each holds `held` neighbours
    of the first `experts` (those that have weights), the last one what is left.

    It is at least what an even load of these experts puts on a device with `held` of them.
    """
    parts = choices(load, chosen)[:experts]
    even = sum(parts, Fraction(0)) * min(held, experts) / experts
    return max(even, *(sum(parts[at : at + held], Fraction(0)) for at in range(0, experts, held)))


def load_of(op: Op) -> tuple[int, ...] | None:
    """The relative load of an operator's experts, None where it is balanced."""
    return None if op.attributes.get("load") is None else op.integers("load")


def check_load(op: Op) -> None:
    """Raise VerificationError for a load that is none of the operator's experts."""
    load, total = load_of(op), op.integer("total")
    if load is None:
        return
    if len(load) != total:
        raise VerificationError(f"a load of {len(load)} experts, not {total}")
    if min(load) < 0 or not any(load):
        raise VerificationError(f"the load {list(load)}, which is no histogram")
