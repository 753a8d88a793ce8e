"""Figures of several workloads together."""

import numpy as np
import pytest
from wscc.dse.workloads import Task, together
from wscc.frontend.model import ModelConfig

CONFIG = ModelConfig("config.json", "m", "llama", "float16", 2, {})
PREFILL = Task("prefill", CONFIG, "prefill", batch=1, sequence=100, weight=1.0)
DECODE = Task("decode", CONFIG, "decode", batch=2, context=100, weight=50.0)


def figures(task: Task, latency_s: float, power_w: float) -> dict[str, float]:
    return {
        "latency_s": latency_s,
        "tokens_per_s": task.tokens / latency_s,
        "power_w": power_w,
        "energy_j": power_w * latency_s,
        "memory.peak_core_bytes": 1000 * latency_s,
        "cost_usd": 7.0,
    }


FAST, SLOW = figures(DECODE, 0.01, 900.0), figures(PREFILL, 0.5, 300.0)


def test_one_workload_has_plain_names() -> None:
    assert together([PREFILL], [SLOW], "weighted") == SLOW


@pytest.mark.parametrize("how", ["separate", "weighted", "worst"])
def test_figures_of_each_are_there_by_name(how: str) -> None:
    found = together([PREFILL, DECODE], [SLOW, FAST], how)  # type: ignore[arg-type]
    assert found["prefill/latency_s"] == 0.5
    assert found["decode/power_w"] == 900.0
    assert found["cost_usd"] == 7.0


def test_apart_nothing_is_said_of_both_but_what_they_have_in_common() -> None:
    found = together([PREFILL, DECODE], [SLOW, FAST], "separate")
    assert "latency_s" not in found


def test_a_mix_is_what_its_steps_take_one_after_the_other() -> None:
    found = together([PREFILL, DECODE], [SLOW, FAST], "weighted")
    time_s = 0.5 + 50 * 0.01
    energy_j = 0.5 * 300 + 50 * 0.01 * 900
    tokens = 100 + 50 * 2
    assert found["latency_s"] == pytest.approx(time_s / 51)
    assert found["energy_j"] == pytest.approx(energy_j / 51)
    assert found["tokens_per_s"] == pytest.approx(tokens / time_s)
    assert found["power_w"] == pytest.approx(energy_j / time_s)
    assert found["tokens_per_j"] == pytest.approx(tokens / energy_j)
    assert found["memory.peak_core_bytes"] == 500.0


def test_the_worst_of_a_rate_is_the_least() -> None:
    found = together([PREFILL, DECODE], [SLOW, FAST], "worst")
    assert found["latency_s"] == 0.5
    assert found["tokens_per_s"] == 200.0
    assert found["power_w"] == 900.0


@pytest.mark.parametrize("how", ["weighted", "worst"])
def test_figures_of_many_designs_are_those_of_each(how: str) -> None:
    many = [
        {name: np.array([value, 2 * value]) for name, value in each.items()}
        for each in (SLOW, FAST)
    ]
    found = together([PREFILL, DECODE], many, how)  # type: ignore[arg-type]
    alone = together([PREFILL, DECODE], [SLOW, FAST], how)  # type: ignore[arg-type]
    assert {name: value[0] for name, value in found.items()} == pytest.approx(alone)


def test_tasks_that_differ_in_a_size_have_different_keys() -> None:
    other = Task("decode", CONFIG, "decode", batch=2, context=101, weight=50.0)
    assert other.key != DECODE.key
    assert Task("same", CONFIG, "decode", batch=2, context=100).key == DECODE.key
