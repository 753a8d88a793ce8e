"""Who gets a virtual channel and who the switch in a cycle of a router, in compiled code.

Separable allocators: every side that is asked grants the next in its turn, every side that asks
accepts the next grant in its turn, once a cycle (iSLIP with one iteration: McKeown, IEEE/ACM
Trans. Networking 7(2), 1999). flit_kernel.py sends what won.
"""

from .arrays import (
    ACTIVE,
    ALLOCATING,
    CAME,
    CLASS,
    COUNT,
    ENTRIES,
    EXIT,
    EXIT_VC,
    EXITS,
    IN_TURN,
    NOTHING,
    OCCUPIED,
    OUT_TURN,
    OUTPUT_QUEUE_FLITS,
    PERIOD,
    SINCE,
    STAGE,
    TAKEN,
    VC_TURN,
    WENT,
    Ints,
    Timing,
)
from .compiled import compiled


@compiled
def allocate_vcs(
    timing: Timing, time: int, routers: Ints, router: int, in_vcs: Ints, out_vcs: Ints,
    grants: Ints, matches: Ints,
) -> bool:  # fmt: skip
    """Match virtual channels of entries to free ones of exits, into `matches`; False for none.

    Every free channel of an exit grants the next that asks in its turn, and every asking channel
    accepts the next grant in its own.
    """
    vcs, share = timing.vcs, timing.vcs // timing.classes
    first, last = routers[ENTRIES, router] * vcs, routers[ENTRIES, router + 1] * vcs
    base, end = routers[EXITS, router] * vcs, routers[EXITS, router + 1] * vcs
    asking, answers = last - first, end - base
    asked = False
    for channel in range(first, last):
        if in_vcs[STAGE, channel] != ALLOCATING or in_vcs[SINCE, channel] > time:
            continue
        asked = True
        target = in_vcs[EXIT, channel] * vcs + in_vcs[CLASS, channel] * share
        for free in range(target, target + share):
            if out_vcs[TAKEN, free]:
                continue
            rival, turn = grants[free - base], out_vcs[OUT_TURN, free]
            if rival == NOTHING or (channel - first - turn) % asking < (rival - turn) % asking:
                grants[free - base] = channel - first
    if not asked:
        return False
    for channel in range(first, last):
        if in_vcs[STAGE, channel] != ALLOCATING or in_vcs[SINCE, channel] > time:
            continue
        best, nearest = NOTHING, answers
        target = in_vcs[EXIT, channel] * vcs + in_vcs[CLASS, channel] * share
        for free in range(target, target + share):
            distance = (free - base - in_vcs[IN_TURN, channel]) % answers
            if grants[free - base] == channel - first and distance < nearest:
                best, nearest = free, distance
        matches[channel - first] = best
        if best != NOTHING:
            out_vcs[OUT_TURN, best] = (channel - first + 1) % asking
            in_vcs[IN_TURN, channel] = (best - base + 1) % answers
    for place in range(answers):
        grants[place] = NOTHING
    return True


@compiled
def take_vcs(
    timing: Timing, time: int, routers: Ints, router: int, in_vcs: Ints, out_vcs: Ints,
    matches: Ints,
) -> None:  # fmt: skip
    """What was matched is taken at the end of the cycle."""
    first = routers[ENTRIES, router] * timing.vcs
    for channel in range(first, routers[ENTRIES, router + 1] * timing.vcs):
        target = matches[channel - first]
        if target != NOTHING:
            matches[channel - first] = NOTHING
            out_vcs[TAKEN, target] = 1
            in_vcs[STAGE, channel] = ACTIVE
            in_vcs[EXIT_VC, channel] = target
            in_vcs[SINCE, channel] = time + timing.vc_allocation


@compiled
def request_switch(
    timing: Timing, time: int, routers: Ints, router: int, entries: Ints, exits: Ints,
    in_vcs: Ints, out_vcs: Ints, queues: Ints, request: Ints, bids: Ints,
) -> bool:  # fmt: skip
    """For every exit and entry, the virtual channel that asks for the switch; sure ones before
    speculative ones, then in turn. False where none asks."""
    vcs, depth = timing.vcs, timing.buffer_flits
    first_entry, first_exit = routers[ENTRIES, router], routers[EXITS, router]
    asked = False
    for entry in range(first_entry, routers[ENTRIES, router + 1]):
        for vc in range(vcs):
            channel = entry * vcs + vc
            if in_vcs[COUNT, channel] == 0 or in_vcs[SINCE, channel] > time:
                continue
            out, stage = in_vcs[EXIT, channel], in_vcs[STAGE, channel]
            if stage == ACTIVE:
                if out_vcs[OCCUPIED, in_vcs[EXIT_VC, channel]] >= depth:
                    continue
            elif not timing.speculative or not _has_free_vc(
                timing, out_vcs, out * vcs + in_vcs[CLASS, channel] * (vcs // timing.classes)
            ):
                continue
            if exits[PERIOD, out] > 1 and _is_full(queues, out, time):
                continue
            asked = True
            row, column = out - first_exit, entry - first_entry
            bid = stage * vcs - (vc - entries[VC_TURN, entry]) % vcs
            if request[row, column] == NOTHING or bid > bids[row, column]:
                request[row, column] = vc
                bids[row, column] = bid
    return asked


@compiled
def _is_full(queues: Ints, out: int, time: int) -> bool:
    """Whether the queue in front of a slow channel had no room at the end of the last cycle."""
    waiting = 0
    for place in range(WENT - CAME):
        if queues[out, CAME + place] < time <= queues[out, WENT + place]:
            waiting += 1
    return waiting >= OUTPUT_QUEUE_FLITS


@compiled
def _has_free_vc(timing: Timing, out_vcs: Ints, first: int) -> bool:
    """Whether a virtual channel of the class that begins with `first` is free."""
    for free in range(first, first + timing.vcs // timing.classes):
        if not out_vcs[TAKEN, free] and out_vcs[OCCUPIED, free] < timing.buffer_flits:
            return True
    return False


@compiled
def speculated(
    timing: Timing, in_vcs: Ints, out_vcs: Ints, channel: int, matches: Ints, place: int
) -> bool:
    """Whether a channel that has the switch got a virtual channel with a credit as well."""
    target = matches[place]
    if target == NOTHING or out_vcs[OCCUPIED, target] >= timing.buffer_flits:
        return False
    matches[place] = NOTHING
    out_vcs[TAKEN, target] = 1
    in_vcs[STAGE, channel] = ACTIVE
    in_vcs[EXIT_VC, channel] = target
    return True
