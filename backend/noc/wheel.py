"""A timing wheel: events by the cycle at which they happen, in compiled code.

Varghese and Lauck, SOSP 1987. The wheel is longer than the longest delay, so that a slot never
holds events of two different cycles. An event is a kind and two numbers; waiting ones are linked
from their slot, the others form a list of free ones.
"""

import numpy as np

from .arrays import FREE, KIND, LEFT_VALUE, NEXT, NOTHING, RIGHT_VALUE, WAITING, Ints
from .compiled import compiled


def wheel_of(longest_delay: int, capacity: int) -> tuple[Ints, Ints]:
    """The slots and the events of an empty wheel, for so many events at a time."""
    slots = np.full(1 << (longest_delay + 1).bit_length(), NOTHING, np.int64)
    events = np.zeros((4, capacity), np.int64)
    events[NEXT, :] = np.arange(1, capacity + 1)
    return slots, events


def widened(events: Ints) -> Ints:
    """The same events and as many free ones again: the list of free ones ends with the number
    behind the last event, which is the first of the new."""
    more = np.zeros_like(events)
    more[NEXT] = np.arange(1, events.shape[1] + 1) + events.shape[1]
    return np.concatenate([events, more], axis=1)


@compiled
def schedule(
    slots: Ints, events: Ints, now: Ints, time: int, kind: int, left: int, right: int
) -> None:
    """Add an event for the cycle `time`, which lies ahead by less than the wheel is long."""
    event = now[FREE]
    now[FREE] = events[NEXT, event]
    now[WAITING] += 1
    slot = time & (slots.size - 1)
    events[NEXT, event] = slots[slot]
    events[KIND, event] = kind
    events[LEFT_VALUE, event] = left
    events[RIGHT_VALUE, event] = right
    slots[slot] = event


@compiled
def take(slots: Ints, events: Ints, now: Ints, time: int) -> int:
    """Remove an event of the cycle `time`, or NOTHING; its numbers stay readable until the next
    `schedule`."""
    slot = time & (slots.size - 1)
    event = slots[slot]
    if event != NOTHING:
        slots[slot] = events[NEXT, event]
        events[NEXT, event] = now[FREE]
        now[FREE] = event
        now[WAITING] -= 1
    return event
