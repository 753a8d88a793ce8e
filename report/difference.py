"""Two reports, or the facts of two specs, side by side: what is not the same, and what that did."""

from collections.abc import Iterator, Mapping
from typing import Any

from .quantities import in_unit, percent, three_digits

SCHEMA = "wscc.diff/1"
CAUSES = ("model", "hardware", "workload", "mapping", "fidelity")
"""Parts of a report that say what was run; the others say what came of it."""
LEFT_OUT = (
    "schema",
    "wscc_version",
    "timings_s",
    "operators",
    "tried",
    "dropped",
    "limits",
    "published",
)
UNITS = {"bytes": "bytes", "s": "s", "w": "W", "j": "J", "hz": "Hz", "flops": "FLOP"}
"""What a key is in, by its last word; parts of a figure are in what the figure is in."""
RATES = {"peak_flops": "FLOP/s", "energy": "J"}
"""What a key is in that no last word says."""
SHARES = ("mfu", "utilization", "yield")
"""Figures of nothing, shown as per cent."""


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The object of schema `wscc.diff/1` of two objects of one schema.

    `changed` is what was run otherwise, `figures` every number of what came of it, changed or not;
    `ratio` is after over before, None where that says nothing.
    """
    old, new = dict(_leaves(before)), dict(_leaves(after))
    keys = [*old, *(key for key in new if key not in old)]
    pairs = [_pair(key, old.get(key), new.get(key)) for key in keys]
    return {
        "schema": SCHEMA,
        "changed": [p for p in pairs if _is_cause(p["key"]) and p["before"] != p["after"]],
        "figures": [p for p in pairs if not _is_cause(p["key"])],
    }


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that is no object, by its path; lists of objects as how many they are."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if path or key not in LEFT_OUT:
                yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        yield path, [_named(each) for each in value]
    else:
        yield path, value


def _named(entry: Mapping[str, Any]) -> str:
    """What tells an entry of a list from the others: what is short and where, or a constraint."""
    words = [entry.get(key) for key in ("resource", "where", "text")]
    return " ".join(str(word) for word in words if word)


def _is_cause(key: str) -> bool:
    return key.partition(".")[0] in CAUSES


def _pair(key: str, before: Any, after: Any) -> dict[str, Any]:
    numbers = all(isinstance(each, int | float) and each is not True for each in (before, after))
    ratio = after / before if numbers and before else None
    return {"key": key, "before": before, "after": after, "ratio": ratio}


def table(made: Mapping[str, Any], names: tuple[str, str]) -> str:
    """As text: what changed, then what it did; equal figures are left out."""
    return "\n".join(_lines(made, names)) + "\n"


def _lines(made: Mapping[str, Any], names: tuple[str, str]) -> Iterator[str]:
    different = [p for p in made["figures"] if p["before"] != p["after"]]
    yield f"{names[0]} -> {names[1]}"
    for title, pairs in (("what changed", made["changed"]), ("what it did", different)):
        if not pairs:
            continue
        yield f"{title}:"
        width = max(len(pair["key"]) for pair in pairs)
        rows = [_row(pair) for pair in pairs]
        first, second = (max(len(row[at]) for row in rows) for at in (1, 2))
        for key, before, after, change in rows:
            yield f"  {key:<{width}}  {before:>{first}}  {after:>{second}}  {change}".rstrip()
    if not made["changed"] and not different:
        yield "no difference"


def _row(pair: Mapping[str, Any]) -> tuple[str, str, str, str]:
    key = pair["key"]
    unit = _unit(key)
    return key, _shown(pair["before"], unit), _shown(pair["after"], unit), _change(pair)


def _unit(key: str) -> str:
    """Of a key, or of the nearest that it is a part of."""
    for part in reversed(key.split(".")):
        words = part.split("_")
        if part in RATES:
            return RATES[part]
        if words[-1] in SHARES:
            return "%"
        if words[-1] in UNITS and "per" not in words:
            return UNITS[words[-1]]
    return ""


def _shown(value: Any, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool) and unit:
        return percent(value) if unit == "%" else in_unit(value, unit)
    if isinstance(value, float):
        return three_digits(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return " x ".join(map(str, value)) if _is_size(value) else "; ".join(map(str, value)) or "-"
    return str(value)


def _is_size(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(each, int) for each in value)


def _change(pair: Mapping[str, Any]) -> str:
    ratio = pair["ratio"]
    if ratio is None or ratio <= 0:
        return ""
    if not 0.1 < ratio < 10:
        return f"x {three_digits(ratio)}"
    return f"{'+' if ratio > 1 else '-'}{percent(abs(ratio - 1))}" if ratio != 1 else ""
