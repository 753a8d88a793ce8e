"""What a plan takes on a wormhole network, at any fidelity.

A multicast in the network counts every channel of its tree once. Only `bound` knows that: the
routers of the two simulators do not copy flits.
"""

from dataclasses import replace

import numpy as np

from ...ir.errors import UserError
from .collectives_plan import Plan
from .flows import Flows
from .network import Network
from .pieces import numbered
from .simulate import Fidelity, Outcome, simulate


def simulate_plan(plan: Plan, network: Network, flows: Flows, fidelity: Fidelity) -> Outcome:
    """`simulate` for the messages of a plan, which `flows` are.

    With multicasts the makespan counts a channel once a stream; the outcome's `loads` do not.

    Raises UserError for a multicast at another fidelity than `bound`.
    """
    if plan.multicasts and fidelity != "bound":
        raise UserError(
            f"'{fidelity}' has no routers that copy flits on their way, so it cannot run a "
            "multicast: use 'bound', or an algorithm without one ('tree', 'chain')"
        )
    outcome = simulate(network, flows, fidelity)
    if not plan.multicasts:
        return outcome
    return _once(plan, outcome)


def _once(plan: Plan, outcome: Outcome) -> Outcome:
    """The bound of a plan with multicasts: the longest path, or the busiest channel when it has
    carried every stream once since the first of them could be sent."""
    network, flows, routes = outcome.network, outcome.flows, outcome.routes
    message = np.repeat(np.arange(flows.count), routes.hops)
    message = np.concatenate([message, np.arange(flows.count)])
    channel = np.concatenate([routes.channels, network.first_injection + flows.source])
    key = plan.messages.stream[message] * network.channels + channel
    _, first = np.unique(key, return_index=True)
    message, channel = message[first], channel[first]
    used, at = numbered(channel, network.channels)
    load = np.zeros(len(used), np.int64)
    np.add.at(load, at, flows.flits[message])
    begins = np.full(len(used), outcome.finish.max())
    np.minimum.at(begins, at, outcome.ready[message])
    busiest = int((begins + (load - 1) * network.period_of(used)).max())
    return replace(outcome, makespan=max(busiest, int(outcome.finish.max())))
