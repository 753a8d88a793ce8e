"""Pipelines against closed forms, and against what a schedule promises."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.schedule import (
    Pipeline,
    Schedule,
    Timeline,
    in_flight,
    timeline,
)

SHAPES = [(1, 1, 3), (2, 1, 1), (4, 1, 2), (4, 1, 8), (3, 2, 6), (4, 3, 8), (1, 3, 2), (5, 2, 5)]


def equal(
    stages: int, chunks: int, microbatches: int, forward: float = 1.0, backward: float = 2.0
) -> Pipeline:
    """Equal stages, whose parts share `forward` and `backward`; nothing is passed."""
    each, none = np.ones((stages, chunks)) / chunks, np.zeros((stages, chunks))
    return Pipeline(forward * each, backward * each, none, none, microbatches)


def passing(pipeline: Pipeline, seconds: float) -> Pipeline:
    slow = np.full(pipeline.forward_s.shape, seconds)
    return replace(pipeline, passing_s=slow, returning_s=slow)


@st.composite
def pipelines(draw: st.DrawFn, chunks: int | None = None, inference: bool = False) -> Pipeline:
    stages = draw(st.integers(1, 5))
    chunks = chunks or draw(st.integers(1, 3))
    microbatches = draw(st.integers(1, 3)) * stages if chunks > 1 else draw(st.integers(1, 9))
    shape = (4, stages, chunks)
    spread = draw(st.sampled_from([0.1, 1.0, 3.0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    times = np.exp(random.normal(0.0, spread, shape))
    times[2:] *= draw(st.sampled_from([0.0, 0.1, 2.0]))
    if inference:
        times[[1, 3]] = 0.0
    forward, backward, there, back = times
    return Pipeline(forward, backward, there, back, microbatches)


def chain_s(pipeline: Pipeline) -> float:
    """One micro-batch, with nothing in its way."""
    working = pipeline.forward_s.sum() + pipeline.backward_s.sum()
    if not pipeline.trains:
        return working + pipeline.passing_s.T.ravel()[:-1].sum()
    return working + (pipeline.passing_s + pipeline.returning_s).T.ravel()[:-1].sum()


def pace_s(pipeline: Pipeline) -> float:
    return (pipeline.forward_s + pipeline.backward_s).sum(axis=1).max()


def order(found: Timeline, stage: int) -> str:
    """A stage's tasks as letters: forward or backward, micro-batch, and a prime a chunk."""
    tasks = found.tasks
    rows = zip(tasks.backward[stage], tasks.microbatch[stage], tasks.chunk[stage], strict=True)
    return " ".join(f"{'B' if b else 'F'}{m}{chr(39) * c}" for b, m, c in rows)


def test_every_other_forward_pass_is_followed_by_a_backward_pass() -> None:
    """Figure 4 of arXiv 2104.04473."""
    found = timeline(equal(4, 1, 8))
    assert order(found, 0) == "F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7"
    assert order(found, 2) == "F0 F1 B0 F2 B1 F3 B2 F4 B3 F5 B4 F6 B5 F7 B6 B7"
    assert order(found, 3) == "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7"


def test_as_many_microbatches_as_stages_go_through_a_chunk_before_the_next_chunk() -> None:
    """Megatron-LM's order for 2 stages of 2 chunks and 4 micro-batches."""
    found = timeline(equal(2, 2, 4))
    assert order(found, 0) == "F0 F1 F0' F1' F2 B0' F3 B1' F2' B0 F3' B1 B2' B3' B2 B3"
    assert order(found, 1) == "F0 F1 F0' B0' F1' B1' F2 B0 F3 B1 F2' B2' F3' B3' B2 B3"


def test_gpipe_runs_all_forward_passes_first() -> None:
    found = timeline(equal(2, 1, 3), "gpipe")
    assert order(found, 0) == order(found, 1) == "F0 F1 F2 B0 B1 B2"
    assert found.in_flight.tolist() == [3, 3]


def busy_s(found: Timeline) -> np.ndarray:
    """What each stage works."""
    return (found.ends_s - found.starts_s).sum(axis=1)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 5), (4, 1), (4, 3), (4, 16), (7, 12)])
def test_equal_stages_wait_for_all_others_once(
    stages: int, microbatches: int, schedule: Schedule
) -> None:
    """(m + p - 1) (f + b): arXiv 2104.04473, section 2.2.1."""
    found = timeline(equal(stages, 1, microbatches), schedule)
    assert found.makespan_s == pytest.approx((microbatches + stages - 1) * 3.0)
    idle_s = found.makespan_s - busy_s(found)
    assert idle_s == pytest.approx(np.full(stages, 3.0 * (stages - 1)))


@pytest.mark.parametrize(("stages", "chunks", "microbatches"), [(2, 2, 2), (4, 2, 12), (3, 4, 6)])
def test_chunks_divide_the_bubble(stages: int, chunks: int, microbatches: int) -> None:
    """m (f + b) + (p - 1) (f + b) / v: arXiv 2104.04473, section 2.2.2."""
    found = timeline(equal(stages, chunks, microbatches))
    assert found.makespan_s == pytest.approx(3.0 * (microbatches + (stages - 1) / chunks))


def test_a_microbatch_alone_takes_all_its_passes_and_passings() -> None:
    pipeline = passing(equal(4, 1, 1), 0.5)
    assert timeline(pipeline).makespan_s == pytest.approx(4 * 3.0 + 2 * 3 * 0.5)


def test_stages_work_while_the_next_microbatch_is_passed() -> None:
    alone = equal(2, 1, 6, backward=0.0)
    assert timeline(alone).makespan_s == pytest.approx(7.0)
    assert timeline(passing(alone, 0.25)).makespan_s == pytest.approx(7.25)


def test_in_training_all_wait_for_what_goes_there_and_back() -> None:
    """The first of two stages has one forward pass to do until a backward pass comes."""
    alone = equal(2, 1, 6)
    hidden = timeline(passing(alone, 0.25)).makespan_s - timeline(alone).makespan_s
    assert hidden == pytest.approx(6 / 2 * 2 * 0.25)


def test_a_link_passes_one_microbatch_after_the_other() -> None:
    found = timeline(passing(equal(2, 1, 10, backward=0.0), 4.0))
    assert found.makespan_s == pytest.approx(1.0 + 10 * 4.0 + 1.0)


@pytest.mark.parametrize(("stages", "chunks", "microbatches"), SHAPES)
def test_what_is_in_flight_is_known_without_a_timeline(
    stages: int, chunks: int, microbatches: int
) -> None:
    if microbatches % stages and chunks > 1:
        microbatches = stages
    found = timeline(equal(stages, chunks, microbatches))
    assert (found.in_flight == in_flight(stages, chunks, microbatches)).all()


def test_what_is_in_flight_follows_megatron() -> None:
    assert in_flight(4, 1, 8).tolist() == [4, 3, 2, 1]
    assert in_flight(4, 1, 2).tolist() == [2, 2, 2, 1]
    assert in_flight(4, 2, 8).tolist() == [11, 9, 7, 5]
    assert in_flight(4, 2, 4).tolist() == [8, 8, 7, 5]
    assert in_flight(4, 1, 8, "gpipe").tolist() == [8, 8, 8, 8]


def test_what_chunks_save_adds_up_while_they_wait() -> None:
    """Most when the first stage has ended B0' and begun F3, and the last one B1' and F2."""
    tasks = timeline(equal(2, 2, 4)).tasks
    assert tasks.most_saved(np.array([[10.0, 1.0], [10.0, 1.0]])).tolist() == [41.0, 30.0]


def test_inference_saves_nothing() -> None:
    assert timeline(equal(3, 1, 4, backward=0.0)).in_flight.tolist() == [0, 0, 0]


def test_inference_may_leave_a_round_of_chunks_unfilled() -> None:
    found = timeline(equal(4, 2, 1, backward=0.0))
    assert found.makespan_s == pytest.approx(4.0)
    assert timeline(equal(2, 2, 3, backward=0.0)).tasks.chunk.shape == (2, 6)


def test_what_cannot_be_interleaved_is_refused() -> None:
    with pytest.raises(ValueError, match="6 micro-batches cannot be interleaved on 4 stages"):
        timeline(equal(4, 2, 6))
    with pytest.raises(ValueError, match="6 micro-batches cannot be interleaved on 4 stages"):
        in_flight(4, 2, 6)
    with pytest.raises(ValueError, match="GPipe does not interleave"):
        timeline(equal(4, 2, 8), "gpipe")


@given(pipeline=pipelines())
def test_every_task_runs_once_and_behind_what_it_reads(pipeline: Pipeline) -> None:
    found = timeline(pipeline)
    tasks, (stages, chunks) = found.tasks, pipeline.forward_s.shape
    ends, starts = {}, {}
    for stage in range(stages):
        assert (found.starts_s[stage, 1:] >= found.ends_s[stage, :-1]).all()
        rows = (tasks.backward, tasks.chunk, tasks.microbatch, found.starts_s, found.ends_s)
        for backward, chunk, of, start, end in zip(*(row[stage] for row in rows), strict=True):
            key = bool(backward), int(chunk) * stages + stage, int(of)
            assert key not in ends
            ends[key], starts[key] = end, start
    assert len(ends) == 2 * stages * chunks * pipeline.microbatches
    passing_s, returning_s = (x.T.ravel() for x in (pipeline.passing_s, pipeline.returning_s))
    last = stages * chunks - 1
    for (backward, part, of), start in starts.items():
        if not backward and part > 0:
            assert start >= ends[False, part - 1, of] + passing_s[part - 1]
        if backward and part < last:
            assert start >= ends[True, part + 1, of] + returning_s[part]
        if backward:
            assert start >= ends[False, part, of]


@given(pipeline=pipelines(), schedule=st.sampled_from(["1f1b", "gpipe"]))
def test_no_pipeline_is_shorter_than_a_stage_or_a_microbatch(
    pipeline: Pipeline, schedule: Schedule
) -> None:
    if schedule == "gpipe" and pipeline.forward_s.shape[1] > 1:
        return
    found = timeline(pipeline, schedule)
    slack = 1 + 1e-9
    assert found.makespan_s * slack >= pipeline.microbatches * pace_s(pipeline)
    assert found.makespan_s * slack >= chain_s(pipeline)
    assert found.makespan_s * slack >= busy_s(found).max()


@given(pipeline=pipelines(), data=st.data())
def test_nothing_that_takes_longer_makes_a_pipeline_shorter(
    pipeline: Pipeline, data: st.DataObject
) -> None:
    which = data.draw(st.sampled_from(["forward_s", "backward_s", "passing_s", "returning_s"]))
    times = getattr(pipeline, which).copy()
    times.flat[data.draw(st.integers(0, times.size - 1))] *= 3.0
    longer = timeline(replace(pipeline, **{which: times}))
    assert longer.makespan_s >= timeline(pipeline).makespan_s * (1 - 1e-12)


@given(pipeline=pipelines(chunks=1, inference=True))
def test_inference_is_a_flow_shop_of_equal_jobs(pipeline: Pipeline) -> None:
    """All of one job, and the slowest stage or link once for each other job."""
    slowest = max(pipeline.forward_s.max(), *pipeline.passing_s[:-1, 0], 0.0)
    expected = chain_s(pipeline) + (pipeline.microbatches - 1) * slowest
    assert timeline(pipeline).makespan_s == pytest.approx(expected)
