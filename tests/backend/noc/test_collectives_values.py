"""What collectives compute, against numpy and under adverse orders, and what the check finds."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from wscc.backend.noc.collectives import (
    AllReduce,
    Broadcast,
    Gather,
    Line,
    Reduce,
    Scatter,
    all_gather,
    all_reduce,
    all_to_all,
    broadcast,
    reduce,
    reduce_scatter,
    send_receive,
    shift,
)
from wscc.backend.noc.collectives_plan import Plan, shares
from wscc.backend.noc.collectives_rings import Rectangle, ring_in
from wscc.backend.noc.values import carried_out, first_mismatch, initial_values
from wscc.ir.errors import UserError, VerificationError

SIZES = (1, 2, 3, 5, 8)
SIZE = 13


def parts(n: int, size: int) -> list[slice]:
    edges = np.concatenate([[0], np.cumsum(shares(size, n))])
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


def run(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    values = initial_values(plan, 3)
    return values, carried_out(plan, values, 5)


ALL_REDUCES = ("ring", "halving_doubling", "tree", "chain", "star", "two_phase", "two_phase_first")


@pytest.mark.parametrize("algorithm", ALL_REDUCES)
def test_an_all_reduce_leaves_the_sum_everywhere(algorithm: AllReduce) -> None:
    for n in SIZES:
        values, after = run(all_reduce(np.arange(n), SIZE, algorithm))
        assert (after == values.sum(axis=0)).all()


@pytest.mark.parametrize("line", ["ring", "tree", "chain", "star", "two_phase"])
def test_an_all_reduce_over_rows_then_columns_leaves_the_sum_everywhere(line: Line) -> None:
    for rows, columns in ((1, 4), (3, 1), (2, 3), (4, 3)):
        members = np.arange(rows * columns).reshape(rows, columns)
        values, after = run(all_reduce(members, SIZE, "two_dimensional", line=line))
        assert (after == values.sum(axis=0)).all()


def test_a_reduce_scatter_leaves_each_member_its_part_of_the_sum() -> None:
    for n in SIZES:
        algorithms: tuple[Scatter, ...] = ("ring", "halving")
        for algorithm in algorithms if n & (n - 1) == 0 else algorithms[:1]:
            values, after = run(reduce_scatter(np.arange(n), SIZE, algorithm))
            for member, part in enumerate(parts(n, SIZE)):
                assert (after[member, part] == values.sum(axis=0)[part]).all()


def test_a_two_dimensional_reduce_scatter_counts_parts_down_the_columns() -> None:
    values, after = run(reduce_scatter(np.arange(6).reshape(2, 3), 12, "two_dimensional"))
    for row in range(2):
        for column in range(3):
            part = parts(6, 12)[column * 2 + row]
            assert (after[row * 3 + column, part] == values.sum(axis=0)[part]).all()


def test_an_all_gather_leaves_every_member_all_parts() -> None:
    for n in SIZES:
        algorithms: tuple[Gather, ...] = ("ring", "multicast", "doubling")
        for algorithm in algorithms if n & (n - 1) == 0 else algorithms[:2]:
            values, after = run(all_gather(np.arange(n), SIZE, algorithm))
            whole = np.concatenate([values[i, part] for i, part in enumerate(parts(n, SIZE))])
            assert (after == whole).all()


@pytest.mark.parametrize("algorithm", ["multicast", "tree", "chain", "star", "scatter_all_gather"])
def test_a_broadcast_leaves_every_member_the_vector_of_the_root(algorithm: Broadcast) -> None:
    for n in SIZES:
        values, after = run(broadcast(np.arange(n), SIZE, algorithm, root=n // 2))
        assert (after == values[n // 2]).all()


@pytest.mark.parametrize("algorithm", ["tree", "chain", "star"])
def test_a_reduction_leaves_the_sum_in_its_root(algorithm: Reduce) -> None:
    for n in SIZES:
        values, after = run(reduce(np.arange(n), SIZE, algorithm, root=n // 2))
        assert (after[n // 2] == values.sum(axis=0)).all()


def test_an_all_to_all_transposes_members_and_parts() -> None:
    for n in SIZES:
        plan = all_to_all(np.arange(n), 3 * n)
        values, after = run(plan)
        for member in range(n):
            sent = values[member].reshape(n, n, 3)[member]
            for target in range(n):
                received = after[target].reshape(n, n, 3)[member, target]
                assert (received == sent[target]).all()


def test_a_shift_moves_every_vector_on() -> None:
    values, after = run(shift(np.arange(5), 4, by=2))
    own = np.stack([values[i].reshape(5, 4)[i] for i in range(5)])
    for member in range(5):
        source = (member - 2) % 5
        assert (after[member].reshape(5, 4)[source] == own[source]).all()
    assert len(shift(np.arange(5), 4, by=2, wraps=False)) == 3


def test_send_and_receive_deliver_each_vector_to_its_member() -> None:
    values, after = run(send_receive([7, 8, 9], 4, [(0, 2), (2, 0), (0, 1)]))
    for number, (source, target) in enumerate([(0, 2), (2, 0), (0, 1)]):
        part = slice(4 * number, 4 * number + 4)
        assert (after[target, part] == values[source, part]).all()


PLANS = {
    "ring": all_reduce(np.arange(4), 12),
    "halving_doubling": all_reduce(np.arange(6), 12, "halving_doubling"),
    "chunked_tree": all_reduce(np.arange(5), 4, "tree", 2),
    "two_phase": all_reduce(np.arange(9), 2, "two_phase"),
    "two_dimensional": all_reduce(np.arange(6).reshape(2, 3), 12, "two_dimensional"),
    "scatter_all_gather": broadcast(np.arange(4), 8, "scatter_all_gather"),
    "chunked_chain": broadcast(np.arange(4), 6, "chain", 3),
    "multicast": all_reduce(np.arange(4), 2, "chain", multicast=True),
    "all_to_all": all_to_all(np.arange(3), 6),
    "doubling": all_gather(np.arange(8), 8, "doubling"),
}


@pytest.mark.parametrize("name", PLANS)
def test_no_order_of_arrivals_spoils_a_collective(name: str) -> None:
    assert first_mismatch(PLANS[name]) is None


def test_parts_of_unequal_sizes_and_empty_parts_arrive_too() -> None:
    for size in (1, 3, 7):
        for chunks in (1, 2):
            assert first_mismatch(all_reduce(np.arange(5), size, "ring", chunks), 1) is None
            plan = all_reduce(np.arange(6), size, "halving_doubling", chunks)
            assert first_mismatch(plan, 1) is None


def without(plan: Plan, message: int) -> Plan:
    kept = np.delete(np.arange(len(plan)), message)
    number = np.zeros(len(plan), np.int64)
    number[kept] = np.arange(len(kept))
    waits = plan.waits[:, (plan.waits != message).all(axis=0)]
    table = plan.messages.at(kept)
    return replace(plan, messages=table, waits=number[waits])


@pytest.mark.parametrize("name", PLANS)
def test_a_message_that_is_left_out_is_found(name: str) -> None:
    plan = PLANS[name]
    for message in range(len(plan)):
        assert first_mismatch(without(plan, message), 1) is not None


@pytest.mark.parametrize("name", PLANS)
def test_a_message_with_the_wrong_blocks_is_found(name: str) -> None:
    plan = PLANS[name]
    table, blocks = plan.messages, len(plan.block_bytes)
    for message in range(len(plan)):
        places = blocks - int(table.count[message]) + 1
        if places == 1:
            continue
        first = table.first.copy()
        first[message] = (first[message] + 1) % places
        wrong = replace(plan, messages=replace(table, first=first))
        assert first_mismatch(wrong, 1) is not None


def implied(waits: np.ndarray, pair: int) -> bool:
    """Whether a dependency follows from the others."""
    waiting, awaited = waits[:, pair]
    others = np.delete(waits, pair, axis=1)
    reached = {int(waiting)}
    while True:
        more = set(others[1, np.isin(others[0], list(reached))].tolist()) - reached
        if not more:
            return int(awaited) in reached
        reached |= more


@pytest.mark.parametrize("name", PLANS)
def test_a_dependency_that_is_left_out_is_found_unless_others_imply_it(name: str) -> None:
    plan = PLANS[name]
    for pair in range(plan.waits.shape[1]):
        lacking = replace(plan, waits=np.delete(plan.waits, pair, axis=1))
        assert (first_mismatch(lacking, 1) is None) == implied(plan.waits, pair)


def test_messages_that_wait_for_each_other_are_refused() -> None:
    plan = PLANS["ring"]
    both = np.concatenate([plan.waits, plan.waits[::-1]], axis=1)
    with pytest.raises(VerificationError, match="wait for each other"):
        carried_out(replace(plan, waits=both), initial_values(plan, 0))
    with pytest.raises(VerificationError, match="of its own or of a later step"):
        replace(plan, waits=both).verify()


def test_rings_in_rectangles_have_hops_of_one_link_wherever_a_mesh_has_such_a_ring() -> None:
    for rows in range(1, 7):
        for columns in range(1, 7):
            ring = ring_in(Rectangle(rows, columns, width=9, top=1, left=2))
            y, x = np.divmod(ring.members, 9)
            hop = abs(y - np.roll(y, -1)) + abs(x - np.roll(x, -1))
            assert sorted(ring.members) == sorted(Rectangle(rows, columns, 9, 1, 2).nodes.ravel())
            assert hop.max() <= ring.longest_hop
            if min(rows, columns) > 1:
                assert (hop == 2).sum() == rows * columns % 2


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="power of two of members, not 6"):
        reduce_scatter(np.arange(6), 12, "halving")
    with pytest.raises(UserError, match="named twice"):
        all_reduce([0, 1, 1], 12)
    with pytest.raises(UserError, match="rows and columns of members"):
        all_reduce(np.arange(6), 12, "two_dimensional")
    with pytest.raises(UserError, match="sends to itself"):
        send_receive([0, 1], 4, [(1, 1)])
