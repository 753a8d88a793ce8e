"""A result as the JSON object of schema `wscc.report/1`: stable keys in a stable order.

What was not computed is null. The keys behind `timings_s` are additions of this version.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..ir.result import Result

SCHEMA = "wscc.report/1"


@dataclass(frozen=True)
class Timings:
    """Wall-clock seconds that each step of a run took; None: it was not needed."""

    trace: float | None = None
    compile: float | None = None
    evaluate: float | None = None
    total: float | None = None


def to_json(result: Result, timings: Timings, version: str) -> dict[str, Any]:
    """The report of a run; `version` is that of wscc. Raises ValueError for a nan or infinity."""
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "wscc_version": version,
        "fidelity": result.fidelity,
        "feasible": result.feasible,
        "infeasible": [_plain(short) for short in result.infeasible],
        "model": _plain(result.model),
        "hardware": _plain(result.hardware),
        "workload": _plain(result.workload),
        "mapping": _plain(result.mapping),
        "latency_s": result.latency_s,
        "tokens_per_s": result.tokens_per_s,
        "power_w": result.power_w,
        "power_peak_w": result.power_peak_w,
        "power_nameplate_w": result.power_nameplate_w,
        "energy_j": result.energy_j,
        "mfu": result.mfu,
        "breakdown": _plain(result.breakdown),
        "bottleneck": _plain(result.bottleneck),
        "memory": _plain(result.memory),
        "noc": _plain(result.noc),
        "cycles_per_layer": result.cycles_per_layer,
        "timings_s": _plain(timings),
        "energy": _plain(result.energy),
        "operators": [_plain(operator) for operator in result.operators],
        "tried": [_plain(tried) for tried in result.tried],
        "dropped": dict(result.dropped),
        "limits": list(result.limits),
        "cost_usd": result.cost_usd,
        "usd_per_million_tokens": result.usd_per_million_tokens,
    }
    _check_finite(report, "")
    return report


def print_json(value: Mapping[str, Any]) -> str:
    """One JSON object as text that ends in a newline; raises ValueError for a nan or infinity."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists, in the order they declare."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def _check_finite(value: Any, key: str) -> None:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"the report's {key} is {value}")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_finite(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            _check_finite(inner, f"{key}[{at}]")
