import numpy as np
import pytest
from wscc.dse import analysis
from wscc.dse.design import Design
from wscc.dse.objective import read_limit, read_objective
from wscc.dse.trial import Outcome, State, Trial

SPEED, POWER = read_objective("tokens_per_s"), read_objective("power_w")


def trial(
    number: int, speed: float, power: float, fidelity: str = "fluid", state: State = "done"
) -> Trial:
    outcome = Outcome("done", {"tokens_per_s": speed, "power_w": power}, seconds=2.0)
    return Trial(number, Design.of({"cores": number}), fidelity, state, outcome)


def test_what_is_infeasible_broken_or_of_another_fidelity_is_not_judged() -> None:
    trials = [
        trial(0, 10, 5),
        trial(1, 9, 6),
        trial(2, 20, 50),
        trial(3, 99, 1, fidelity="bound"),
        trial(4, 99, 1, state="infeasible"),
        trial(5, 10, 5),
    ]
    limits = [read_limit("power_w <= 40")]
    found = analysis.judged(trials, [SPEED, POWER], limits, "fluid")
    assert [each.number for each in found] == [0, 1, 5]


def test_growth_counts_the_cost_of_every_fidelity() -> None:
    trials = [
        trial(0, 1, 1),
        trial(1, 5, 5, fidelity="bound"),
        trial(2, 2, 2),
        trial(3, 1, 2),
    ]
    grown = analysis.growth(trials, [SPEED, POWER], [], "fluid", np.array([0.0, 3.0]))
    assert grown.seconds.tolist() == [0, 2, 6, 8]
    assert grown.evaluations.tolist() == [0, 1, 3, 4]
    assert grown.hypervolume.tolist() == [0, 2, 3, 3]


def test_a_parameter_that_decides_a_figure_is_all_important_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 400), rng.random(400)
    words = np.array(["x", "y"])[rng.integers(0, 2, 400)]
    designs = [
        Design.of({"a": float(p), "b": float(q), "w": str(r)})
        for p, q, r in zip(a, b, words, strict=True)
    ]
    worth = np.array([a * 10.0, 1e9 * b**3], dtype=np.float64).T
    found = analysis.importance(designs, worth, ["a", "b", "w"])
    assert found["a"][0] == pytest.approx(1, abs=0.01)
    assert found["b"][1] > 0.95
    assert max(found["b"][0], found["a"][1], *found["w"]) < 0.05


def test_importance_adds_up_to_one_where_two_parameters_add_up() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, (2000, 2)).astype(float)
    designs = [Design.of({"a": p, "b": q}) for p, q in values]
    worth = values.sum(axis=1, keepdims=True)
    shares = analysis.importance(designs, worth, ["a", "b"])
    assert sum(float(share[0]) for share in shares.values()) == pytest.approx(1, abs=0.05)


def test_few_designs_say_nothing_of_importance() -> None:
    designs = [Design.of({"a": float(number)}) for number in range(5)]
    assert analysis.importance(designs, np.arange(5.0)[:, None], ["a"]) == {}
