"""What the compiled simulators work on: a few tables, and what their rows mean.

A table has a column for every router, port, virtual channel, terminal, message or packet, and a
row for everything that is known of one. Compiled functions take the tables that they touch; the
numbers of the rows are constants to the compiler.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NOTHING = -1
NEVER = 1 << 60

CHANNEL_CYCLES = 1
"""Latency of an injection or ejection channel."""

HEAD, TAIL = 1, 2
"""Marks of a packet's first and last flit."""

OUTPUT_QUEUE_FLITS = 4
"""Room in front of a channel that takes more than a cycle a flit."""


class Timing(NamedTuple):
    """A router: virtual channels an input port, flits of buffer a channel, cycles of each stage.

    The stages of a head flit are route computation, allocation of a virtual channel, allocation
    of the switch, and traversal; where `speculative`, both allocations are tried together. Dally
    and Towles, Principles and Practices of Interconnection Networks, 2004, chapter 16.
    """

    vcs: int = 4
    buffer_flits: int = 8
    routing: int = 1
    vc_allocation: int = 1
    switch_allocation: int = 1
    traversal: int = 1
    credit: int = 1
    speculative: bool = False
    classes: int = 1
    """Equal shares of the virtual channels of a link; a packet's route says which it may take."""

    @property
    def cycles(self) -> int:
        """Of a head flit through an idle router."""
        allocation = self.vc_allocation + self.switch_allocation
        if self.speculative:
            allocation = max(self.vc_allocation, self.switch_allocation)
        return self.routing + allocation + self.traversal


# Routers: where their entries and exits begin, flits held, whether on the list of active ones,
# when the last heads began route computation and the last flits traversal. The column behind the
# last router ends the last one's ports.
ENTRIES, EXITS, HELD, LISTED, ROUTED, TRAVERSED = range(6)

# Entries (input ports): the exit that feeds it, or ~terminal; its router; whose turn it is at
# the exits; whose turn it is among its virtual channels; when it is free again.
FEEDER, ENTRY_ROUTER, ENTRY_TURN, VC_TURN, ENTRY_FREE = range(5)

# Exits (output ports): the entry behind it, or ~terminal; cycles of latency and cycles a flit of
# its channel; its router; whose turn it is among the entries; flits sent; when it is free again.
SINK, LATENCY, PERIOD, EXIT_ROUTER, EXIT_TURN, SENT, EXIT_FREE = range(7)

# Virtual channels of entries: first and number of the flits in its ring, stage, the cycle from
# which it may ask, the exit, the class and the virtual channel that the packet goes to, its turn.
FIRST, COUNT, STAGE, SINCE, EXIT, CLASS, EXIT_VC, IN_TURN = range(8)

# Virtual channels of exits: whether a packet has it (or from when one may), flits in the buffer
# behind it, whose turn it is.
TAKEN, OCCUPIED, OUT_TURN = range(3)

# Stages of an entry's virtual channel: without a packet; asking for a channel; having one.
IDLE, ALLOCATING, ACTIVE = range(3)

# Columns of an output queue: when its last flits came, and went, and how many there were.
CAME, WENT, PASSED = 0, 8, 16

# Terminals: first and last message of its queue; the packet in hand, its flits still to send,
# whether its head has gone, its virtual channel; the channel before; whether on the list; when
# it is free again.
QUEUE, QUEUE_END, PACKET, LEFT, BEGUN, VC, LAST_VC, SENDING, TERMINAL_FREE = range(9)

# Messages: source, flits, release, delay after what it waits for, where its route and those that
# wait for it begin; when it was ready, started and finished; flits not sent and not received;
# messages it still waits for, when it is due, the next in its source's queue. The column behind the
# last message ends the last one's route.
(
    SOURCE, FLITS, RELEASE, DELAY, ROUTE, SUCCESSORS, READY, START, FINISH, UNSENT, UNRECEIVED,
    WAITS, DUE, FOLLOWING,
) = range(14)  # fmt: skip

# Packets: its message, and how many routers its head has entered beyond the first.
MESSAGE, HOP = range(2)

# Counters: the next cycle, that of the last movement, active routers and
# terminals, messages that are due, finished messages, packets made, the first free event, events
# that are waiting.
CLOCK, MOVED, ROUTERS, TERMINALS, DUES, FINISHED, PACKETS, FREE, WAITING = range(9)

RUNNING, DONE, STUCK, STARVED, CROWDED = range(5)
"""How far a simulation is: at the cycle asked for; at its end; no flit can move; no message can
become ready; the wheel has too little room for what one cycle may add."""

# Events of the wheel: the next in its slot, its kind, two numbers.
NEXT, KIND, LEFT_VALUE, RIGHT_VALUE = range(4)


class Ports(NamedTuple):
    """A network's routers, entries and exits, and the entry of every terminal."""

    routers: Ints
    entries: Ints
    exits: Ints
    injection: Ints

    def copy(self) -> "Ports":
        """The same network for another simulation: some rows change while one runs."""
        return Ports(*(array.copy() for array in self))


class Traffic(NamedTuple):
    """Messages, their routes, and the messages that wait for each.

    An entry of a route is an exit times the classes of virtual channels, plus the class there.
    """

    messages: Ints
    route: Ints
    successor: Ints
    packet_flits: int
    in_turn: bool


class Start(NamedTuple):
    """What the sources of a simulation begin with."""

    messages: Ints
    terminals: Ints
    packets: Ints
    heap: Ints
    now: Ints


def start_of(traffic: Traffic, terminals: int) -> Start:
    """Everything before the first cycle, but that nothing is due yet."""
    messages = traffic.messages.copy()
    messages[[READY, START, FINISH, FOLLOWING]] = NOTHING
    messages[[UNSENT, UNRECEIVED]] = messages[FLITS]
    messages[DUE] = messages[RELEASE]
    at = np.zeros((9, terminals), np.int64)
    at[[QUEUE, QUEUE_END, PACKET, VC, LAST_VC]] = NOTHING
    packets = int(np.sum(-(-messages[FLITS, :-1] // traffic.packet_flits)))
    return Start(
        messages=messages,
        terminals=at,
        packets=np.zeros((2, packets), np.int64),
        heap=np.zeros(messages.shape[1], np.int64),
        now=np.zeros(9, np.int64),
    )
