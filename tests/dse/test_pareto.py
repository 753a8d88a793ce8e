"""The front and its hypervolume, against definitions, moocore and closed forms."""

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from wscc.dse.design import Floats
from wscc.dse.pareto import hypervolume, nondominated, reference_point

POINTS = st.tuples(st.integers(0, 16), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)


@given(POINTS)
@settings(deadline=None)
def test_a_point_is_on_the_front_unless_another_betters_it(points: Floats) -> None:
    bettered = [
        any((other <= one).all() and (other < one).any() for other in points) for one in points
    ]
    assert nondominated(points).tolist() == [not each for each in bettered]


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_the_front_of_many_points_is_that_of_moocore(objectives: int) -> None:
    points = np.random.default_rng(objectives).random((5000, objectives)).round(2)
    assert (nondominated(points) == moocore.is_nondominated(points, keep_weakly=True)).all()


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_hypervolume_is_that_of_moocore(points: Floats) -> None:
    reference = np.full(points.shape[1], 2.5)
    expected = moocore.hypervolume(points, ref=reference) if points.shape[1] > 1 else None
    if expected is None:
        expected = max(0.0, 2.5 - points.min()) if len(points) else 0.0
    assert hypervolume(points, reference) == pytest.approx(expected)


def test_hypervolume_of_a_sphere_comes_near_its_octant() -> None:
    points = np.abs(np.random.default_rng(0).normal(size=(1500, 3)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert hypervolume(-points, np.zeros(3)) == pytest.approx(np.pi / 6, rel=0.06)


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_every_point_of_the_front_adds_to_the_hypervolume_at_the_reference_point(
    points: Floats,
) -> None:
    if not len(points):
        return
    front = np.unique(points[nondominated(points)], axis=0)
    reference = reference_point(points)
    whole = hypervolume(points, reference)
    for row in range(len(front)):
        assert hypervolume(np.delete(front, row, axis=0), reference) < whole
