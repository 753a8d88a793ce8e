"""Messages on their way from waiting to sent to received, in compiled code.

A message becomes ready when it is released and all that it depends on has arrived; a terminal
sends its ready messages packet by packet, one message completely before the next or in turn.
Both simulators share this.
"""

from .arrays import (
    BEGUN,
    DELAY,
    DUE,
    DUES,
    FINISH,
    FINISHED,
    FOLLOWING,
    LEFT,
    MESSAGE,
    NEVER,
    NOTHING,
    PACKET,
    PACKETS,
    QUEUE,
    QUEUE_END,
    READY,
    SOURCE,
    START,
    SUCCESSORS,
    UNRECEIVED,
    UNSENT,
    VC,
    WAITS,
    Ints,
)
from .compiled import compiled


@compiled
def queue_what_waits_for_nothing(messages: Ints, heap: Ints, now: Ints) -> None:
    """Make every message without dependencies due at its release."""
    for message in range(messages.shape[1] - 1):
        if messages[WAITS, message] == 0:
            _push(messages, heap, now, message)


@compiled
def _before(messages: Ints, a: int, b: int) -> bool:
    """Whether message `a` is due before `b`; of two that are due together the first counts."""
    if messages[DUE, a] != messages[DUE, b]:
        return messages[DUE, a] < messages[DUE, b]
    return a < b


@compiled
def _push(messages: Ints, heap: Ints, now: Ints, message: int) -> None:
    at = now[DUES]
    now[DUES] += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not _before(messages, message, int(heap[parent])):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = message


@compiled
def _pop(messages: Ints, heap: Ints, now: Ints) -> int:
    found = heap[0]
    now[DUES] -= 1
    size = now[DUES]
    moved = int(heap[size])
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(messages, heap[child + 1], heap[child]):
            child += 1
        if _before(messages, moved, int(heap[child])):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = moved
    return found


@compiled
def next_due(messages: Ints, heap: Ints, now: Ints) -> int:
    """The cycle at which the next message becomes ready; NEVER for none."""
    return messages[DUE, heap[0]] if now[DUES] else NEVER


@compiled
def make_ready(messages: Ints, heap: Ints, now: Ints, terminals: Ints) -> int:
    """Put the message that is due first into its terminal's queue; that terminal."""
    message = _pop(messages, heap, now)
    messages[READY, message] = messages[DUE, message]
    terminal = messages[SOURCE, message]
    _append(messages, terminals, terminal, message)
    return terminal


@compiled
def _append(messages: Ints, terminals: Ints, terminal: int, message: int) -> None:
    messages[FOLLOWING, message] = NOTHING
    if terminals[QUEUE, terminal] == NOTHING:
        terminals[QUEUE, terminal] = message
    else:
        messages[FOLLOWING, terminals[QUEUE_END, terminal]] = message
    terminals[QUEUE_END, terminal] = message


@compiled
def _remove_first(messages: Ints, terminals: Ints, terminal: int) -> None:
    terminals[QUEUE, terminal] = messages[FOLLOWING, terminals[QUEUE, terminal]]
    if terminals[QUEUE, terminal] == NOTHING:
        terminals[QUEUE_END, terminal] = NOTHING


@compiled
def take_packet(
    messages: Ints,
    terminals: Ints,
    packets: Ints,
    now: Ints,
    packet_flits: int,
    in_turn: bool,
    terminal: int,
    time: int,
) -> bool:
    """Give a terminal without a packet the next one of its queue; False where that is empty."""
    message = terminals[QUEUE, terminal]
    if message == NOTHING:
        return False
    if messages[START, message] == NOTHING:
        messages[START, message] = time
    size = min(packet_flits, messages[UNSENT, message])
    messages[UNSENT, message] -= size
    packet = now[PACKETS]
    now[PACKETS] += 1
    packets[MESSAGE, packet] = message
    terminals[PACKET, terminal] = packet
    terminals[LEFT, terminal] = size
    terminals[BEGUN, terminal] = 0
    terminals[VC, terminal] = NOTHING
    if messages[UNSENT, message] == 0:
        _remove_first(messages, terminals, terminal)
    elif in_turn and messages[FOLLOWING, message] != NOTHING:
        _remove_first(messages, terminals, terminal)
        _append(messages, terminals, terminal, message)
    return True


@compiled
def receive(
    messages: Ints, successor: Ints, heap: Ints, now: Ints, message: int, flits: int, time: int
) -> None:
    """Flits of a message arrive; with the last one whatever waited for the message may be due."""
    messages[UNRECEIVED, message] -= flits
    if messages[UNRECEIVED, message] > 0:
        return
    messages[FINISH, message] = time
    now[FINISHED] += 1
    for at in range(messages[SUCCESSORS, message], messages[SUCCESSORS, message + 1]):
        waiting = successor[at]
        earliest = time + 1 + messages[DELAY, waiting]
        messages[DUE, waiting] = max(messages[DUE, waiting], earliest)
        messages[WAITS, waiting] -= 1
        if messages[WAITS, waiting] == 0:
            _push(messages, heap, now, waiting)
