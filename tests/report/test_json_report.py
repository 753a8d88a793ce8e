import dataclasses
import json

import pytest
from wscc.ir.result import Result
from wscc.report.json_report import SCHEMA, Timings, print_json, to_json

STABLE_KEYS = {
    "schema": None,
    "wscc_version": None,
    "fidelity": None,
    "feasible": None,
    "infeasible": None,
    "model": ["name", "parameters", "layers", "flops"],
    "hardware": [
        "name", "wafers", "dies", "cores", "area_mm2", "peak_flops", "sram_bytes", "dram_bytes",
    ],
    "workload": ["phase", "batch", "sequence", "context", "dtype"],
    "mapping": [
        "dp", "tp", "pp", "ep", "microbatch", "interleave", "recompute", "zero", "streaming",
        "region", "stages", "objective", "gap",
    ],
    "latency_s": None,
    "tokens_per_s": None,
    "power_w": None,
    "power_peak_w": None,
    "power_nameplate_w": None,
    "energy_j": None,
    "mfu": None,
    "breakdown": ["compute_s", "noc_s", "memory_s", "bubble_s"],
    "bottleneck": ["kind", "where", "utilization"],
    "memory": [
        "weights_bytes", "kv_bytes", "activation_bytes", "optimizer_bytes", "peak_core_bytes",
        "core_capacity_bytes",
    ],
    "noc": ["max_link_utilization", "mean_link_utilization", "flows"],
    "cycles_per_layer": None,
    "timings_s": ["trace", "compile", "evaluate", "total"],
}  # fmt: skip

TIMINGS = Timings(trace=None, compile=0.5, evaluate=0.25, total=1.0)


def test_the_stable_keys_come_first_and_in_order(sample_result: Result) -> None:
    report = to_json(sample_result, TIMINGS, "0.1.0")
    assert list(report)[: len(STABLE_KEYS)] == list(STABLE_KEYS)
    for key, inner in STABLE_KEYS.items():
        if inner is not None:
            assert list(report[key])[: len(inner)] == inner


def test_every_field_of_a_result_is_in_the_report(sample_result: Result) -> None:
    report = to_json(sample_result, TIMINGS, "0.1.0")
    for field in dataclasses.fields(sample_result):
        assert field.name in report


def test_the_report_says_what_it_is(sample_result: Result) -> None:
    report = to_json(sample_result, TIMINGS, "1.2.3")
    assert report["schema"] == SCHEMA == "wscc.report/1"
    assert report["wscc_version"] == "1.2.3"


def test_a_region_is_rows_then_columns(sample_result: Result) -> None:
    assert to_json(sample_result, TIMINGS, "0")["mapping"]["region"] == [420, 420]


def test_what_was_not_computed_is_null(sample_result: Result) -> None:
    text = print_json(to_json(sample_result, TIMINGS, "0"))
    assert json.loads(text)["timings_s"]["trace"] is None


def test_floats_survive_printing_exactly(sample_result: Result) -> None:
    latency_s = 0.1 + 0.2
    result = dataclasses.replace(sample_result, latency_s=latency_s)
    assert json.loads(print_json(to_json(result, TIMINGS, "0")))["latency_s"] == latency_s


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_a_number_never_appears(sample_result: Result, wrong: float) -> None:
    bottleneck = dataclasses.replace(sample_result.bottleneck, utilization=wrong)
    result = dataclasses.replace(sample_result, bottleneck=bottleneck)
    with pytest.raises(ValueError, match=rf"the report's bottleneck\.utilization is {wrong}"):
        to_json(result, TIMINGS, "0")


def test_the_text_is_one_line_terminated_ascii_object(sample_result: Result) -> None:
    model = dataclasses.replace(sample_result.model, name="\N{GREEK SMALL LETTER ALPHA}")
    text = print_json(to_json(dataclasses.replace(sample_result, model=model), TIMINGS, "0"))
    assert text.isascii()
    assert text.endswith("}\n")
    assert json.loads(text)["model"]["name"] == model.name
