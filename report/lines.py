"""A result in words: what the console and the page both say of it."""

from collections.abc import Iterator, Mapping

from ..ir.result import Infeasibility, Result
from .quantities import count, in_unit, percent, si, size, three_digits

_COMPONENTS = {
    "noc": "network",
    "memory": "memory access",
    "bubble": "pipeline bubbles",
    "gradients": "sums of gradients over replicas",
}
"""What a reader calls a key of the breakdown, where that is not the key."""

_REMEDIES = {
    "compute": "more cores a stage (a larger --region), a faster or wider core",
    "noc": "fewer hops (a smaller --region), faster or wider links",
    "memory": "more ports or bandwidth of the memory",
    "bubble": "more micro-batches (a larger --batch), fewer stages",
    "gradients": "fewer replicas (dp), or a larger batch for each",
}
_SHARE_SHOWN = 0.005


def headline(result: Result) -> str:
    """What was run on what."""
    workload, hardware = result.workload, result.hardware
    tokens = (
        f"context {count(workload.context)}"
        if workload.phase == "decode"
        else f"sequence {count(workload.sequence)}"
    )
    return (
        f"{result.model.name}, {workload.phase}, batch {workload.batch}, {tokens}, "
        f"{workload.dtype}, on {hardware.name} ({many(hardware.wafers, hardware.unit)}, "
        f"{many(hardware.cores, hardware.device)})"
    )


def many(number: int, what: str) -> str:
    """`1 stage`, `3 stages`."""
    return f"{count(number)} {what}" + ("" if number == 1 else "s")


def shortage(short: Infeasibility) -> str:
    """What does not fit, or holds."""
    demand, limit, gap = (in_unit(x, short.unit) for x in (short.demand, short.limit, short.gap))
    if short.resource == "constraint":
        return f"constraint broken: {short.where}: {demand} against {limit} in SI units"
    missing = f", {gap} short" if short.gap else ""
    return f"does not fit: {short.resource} of {short.where}: {demand} of {limit}{missing}"


def rows(result: Result) -> Iterator[tuple[str, str]]:
    """Labels, and what there is to say: what was mapped where, time, power, memory, what limits."""
    step = {"decode": "token", "train": "step"}.get(result.workload.phase, "prompt")
    short = any(line.resource != "constraint" for line in result.infeasible)
    if_it_fit = ", if it fitted" if short else ""
    yield "Mapped", _mapped(result)
    yield "Search", _search(result)
    yield (
        "Latency",
        f"{si(result.latency_s, 's')} a {step}{if_it_fit} ({result.fidelity}); "
        f"{count(result.cycles_per_layer)} cycles a layer",
    )
    yield (
        "Throughput",
        f"{three_digits(result.tokens_per_s)} tokens/s; MFU {percent(result.mfu)} of "
        f"{si(result.hardware.peak_flops, 'FLOP/s')}",
    )
    yield "Time goes to", _shares(result.breakdown, result.latency_s)
    yield (
        "Power",
        f"{si(result.power_w, 'W')} average, {si(result.power_peak_w, 'W')} peak, "
        f"{si(result.power_nameplate_w, 'W')} nameplate",
    )
    yield (
        "Energy",
        f"{si(result.energy_j, 'J')} a step: {_shares(result.energy, result.energy_j, most=4)}",
    )
    if result.cost_usd is not None:
        yield "Cost", _cost(result.cost_usd, result.usd_per_million_tokens)
    yield "Memory", _memory(result)
    noc = result.noc
    yield (
        "Network",
        f"busiest link {percent(noc.max_link_utilization)} of the time, "
        f"mean {percent(noc.mean_link_utilization)}; {count(noc.flows)} flows",
    )
    limit = result.bottleneck
    yield (
        "Limited by",
        f"{_COMPONENTS.get(limit.kind, limit.kind)}: {limit.where}, "
        f"busy {percent(limit.utilization)} of the time",
    )
    yield "Would help", _help(result)


def _mapped(result: Result) -> str:
    mapping = result.mapping
    rows, columns = mapping.region
    parts = [
        f"{many(mapping.dp, 'replica')} of {many(mapping.stages, 'stage')} of {rows} x {columns} "
        f"{result.hardware.device}s",
        f"{mapping.layout} layout",
        many(mapping.head_groups, "head group"),
        f"micro-batches of {mapping.microbatch}",
    ]
    if mapping.ep > 1:
        parts.append(f"experts over {mapping.ep} replicas")
    if mapping.interleave > 1:
        parts.append(f"{mapping.interleave} chunks of layers a stage")
    if mapping.recompute != "none":
        parts.append(f"{mapping.recompute} recomputation")
    if mapping.zero:
        parts.append(f"ZeRO {mapping.zero}")
    if mapping.streaming:
        parts.append("weights streamed")
    if result.hardware.device == "core":
        held = {"weights": mapping.weights_in, "KV cache": mapping.cache_in}
        inside = [name for name, place in held.items() if place == "dram"]
        parts += [f"{' and '.join(inside)} in DRAM"] * bool(inside)
    return ", ".join(parts)


def _search(result: Result) -> str:
    """How many strategies were looked at, and what became of them."""
    looked, dropped = len(result.tried), dict(result.dropped)
    evaluated = sum("evaluated" in tried.outcome for tried in result.tried)
    text = f"{_strategies(looked + sum(dropped.values()))}, {count(evaluated)} evaluated"
    reasons = (f"{count(number)} {reason}" for reason, number in dropped.items())
    return "; ".join([text, *reasons])


def _strategies(number: int) -> str:
    return "1 strategy" if number == 1 else f"{count(number)} strategies"


def _shares(parts: Mapping[str, float], whole: float, most: int | None = None) -> str:
    """The largest parts of a whole with their shares, the largest first."""
    ordered = sorted(parts.items(), key=lambda part: -part[1])[:most]
    shown = [(plain_name(name), part / whole) for name, part in ordered if whole > 0]
    return ", ".join(f"{name} {percent(s)}" for name, s in shown if s >= _SHARE_SHOWN) or "-"


def plain_name(component: str) -> str:
    """What a reader calls a key of a breakdown."""
    key = component.removesuffix("_s").removesuffix("_j")
    return _COMPONENTS.get(key, key.replace("_", " "))


def _cost(system_usd: float, tokens_usd: float | None) -> str:
    system = f"{three_digits(system_usd)} USD of silicon and priced parts"
    if tokens_usd is None:
        return system
    return f"{system}; {three_digits(tokens_usd)} USD a million tokens with power"


def _memory(result: Result) -> str:
    memory = result.memory
    share = memory.peak_core_bytes / memory.core_capacity_bytes
    kept = f"KV cache {size(memory.kv_bytes)}"
    if result.workload.phase == "train":
        kept = f"gradients {size(memory.gradient_bytes)}, optimizer {size(memory.optimizer_bytes)}"
    return (
        f"fullest core {size(memory.peak_core_bytes)} of {size(memory.core_capacity_bytes)} "
        f"({percent(share)}); in all weights {size(memory.weights_bytes)}, {kept}, "
        f"activations {size(memory.activation_bytes)}"
    )


def _help(result: Result) -> str:
    """What the largest part of the time asks for, and the most that it could bring."""
    name, part = max(result.breakdown.items(), key=lambda item: item[1], default=("", 0.0))
    key, rest = name.removesuffix("_s"), result.latency_s - part
    if part <= 0:
        return "-"
    most = f"at most {result.latency_s / rest:.1f}x faster" if rest > 0.01 * part else "all of it"
    remedy = _REMEDIES.get(key, f"less time in {plain_name(name)}")
    return f"{remedy}; {most} without {plain_name(name)} time"
