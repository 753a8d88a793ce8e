"""A step that a collective does again and again, as a ring does: from one simulation of it."""

import numpy as np

from .arrays import Ints


def repeated(
    source: Ints,
    destination: Ints,
    ready: Ints,
    taken: Ints,
    service: Ints,
    wait: Ints | int,
    repeats: int,
    last: Ints | None = None,
) -> Ints:
    """(m,) when each message of a step arrives for the last time.

    source, destination: (m,) members, each the destination of one message; ready: (n,) when each
    member may begin; taken: (m,) cycles of a message; service: (m,) the least between two arrivals
    of the same message; wait: between what came to a member and what it sends next; last: (m,) when
    each message arrived for the last time in an earlier phase
    """
    ready = ready.copy()
    arrive = ready[source] + taken
    if last is not None:
        np.maximum(arrive, last + service, out=arrive)
    for _ in range(repeats - 1):
        ready[destination] = arrive + wait
        np.maximum(ready[source] + taken, arrive + service, out=arrive)
    return arrive
