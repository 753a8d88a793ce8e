"""The pictures of docs/study-inference.md: `python pictures.py [FOLDER]` draws what results/ holds,
as SVG, into docs/pictures or a folder; with `--png` as PNG."""

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluated import HERE, Row
from sweep import CORES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = HERE.parents[2] / "docs" / "pictures"
BLUE, RED, GREEN, PINK, YELLOW, GREY = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#8c8c8c",
)  # fmt: skip
"""Told apart by colour-blind readers (Okabe and Ito, Color Universal Design, 2008)."""
PLACES = {"sram": GREEN, "edge": RED, "stack": BLUE}
STEPS = {
    "llama-prefill": "Llama-3.1-70B, prefill",
    "llama-decode": "Llama-3.1-70B, decode",
    "mixtral-prefill": "Mixtral 8x7B, prefill",
    "mixtral-decode": "Mixtral 8x7B, decode",
}


def table(name: str) -> list[Row]:
    """The rows of results/NAME.csv; numbers where they can be, figures that are not there left
    out."""
    with (HERE / "results" / f"{name}.csv").open(encoding="utf-8") as file:
        return [{k: _number(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def panels(count: int, width: float = 4.4) -> "tuple[Figure, Sequence[Axes]]":
    """Some panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, 3.6), layout="constrained")
    found = figure.subplots(1, count, squeeze=False)[0]
    for panel in found:
        panel.grid(color="#e4e4e4", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, found


def fronts() -> "Figure":
    """Tokens a second against power of all that the searches evaluated."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = panels(2)
    trials, clusters = table("searches"), table("clusters")
    for panel, phase in zip(axes, ("prefill", "decode"), strict=True):
        rate, power = f"{phase}.tokens_per_s", f"{phase}.power_w"
        own = [r for r in trials if r["study"].startswith("llama") and rate in r]
        for place, colour in PLACES.items():
            some = [r for r in own if r.get("design.memory_at", "stack") == place]
            label = {"sram": "SRAM alone", "edge": "memory at the edges", "stack": "stacked DRAM"}
            panel.scatter(
                [r[power] / 1e3 for r in some],
                [r[rate] for r in some],
                s=16,
                color=colour,
                label=label[place],
            )
        _draw_front(panel, [(r[power] / 1e3, r[rate]) for r in own])
        for row in (r for r in clusters if r["step"] == f"llama-{phase}" and "lacks" not in r):
            at = row["power_w"] / 1e3, row["tokens_per_s"]
            panel.plot(*at, marker="*", color="black", markersize=8, linestyle="")
            aside: dict[str, Any] = {"xytext": (5, -9)}
            if row["label"] == "5 WSE-3":
                aside = {"xytext": (-5, -9), "ha": "right"}
            panel.annotate(row["label"], at, textcoords="offset points", size=8, **aside)
        panel.set(xscale="log", yscale="log", title=STEPS[f"llama-{phase}"])
        panel.set(xlabel="average power, kW", ylabel="tokens/s")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:,.10g}")
            axis.set_minor_locator(NullLocator())
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _draw_front(panel: "Axes", points: Iterable[tuple[float, float]]) -> None:
    best: list[tuple[float, float]] = []
    for power, rate in sorted(points):
        if not best or rate > best[-1][1]:
            best.append((power, rate))
    panel.step(*zip(*best, strict=True), where="post", color=GREY, linewidth=1, zorder=1)


def memory() -> "Figure":
    """Tokens a second by where weights and caches lie."""
    figure, axes = panels(2)
    rows = table("memory")
    stacks = [r for r in rows if str(r["label"]).startswith("stack")]
    for step, colour in zip(STEPS, (BLUE, BLUE, RED, RED), strict=True):
        panel = axes[int(step.endswith("decode"))]
        own = [r for r in stacks if r["step"] == step]
        if not own:
            continue
        across = [float(str(r["stack_bandwidth"]).split()[0]) for r in own]
        panel.plot(across, [r["tokens_per_s"] for r in own], "o-", color=colour, label=STEPS[step])
        for row in (r for r in rows if r["step"] == step and r["label"] == "edge"):
            panel.axhline(row["tokens_per_s"], color=colour, linestyle=":", linewidth=1.2)
            panel.annotate(
                "memory at the edges", (4, row["tokens_per_s"]), ha="right", va="bottom", size=8
            )
    for panel in axes:
        panel.set(xscale="log", xlabel="stacked DRAM, TB/s for 100 mm²", ylabel="tokens/s")
        panel.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
        panel.minorticks_off()
        panel.legend(frameon=False, fontsize=8, loc="center right")
        _from_zero(panel)
    return figure


def integration() -> "Figure":
    """Stitched dies and known-good ones on InFO-SoW, by the share of links that crosses."""
    figure, axes = panels(3, 3.8)
    rows = table("integration")
    for step, style in (("llama-prefill", "o--"), ("llama-decode", "o-")):
        for joint, colour in (("stitched", BLUE), ("info_sow", RED)):
            own = [r for r in rows if r["step"] == step and r["joint"] == joint]
            across = [r["ratio"] for r in own]
            name = f"{step.partition('-')[2]}, {joint.replace('info_sow', 'InFO-SoW')}"
            axes[0].plot(across, [r["tokens_per_s"] for r in own], style, color=colour, label=name)
            if step == "llama-decode":
                kilowatts = [r["power_nameplate_w"] / 1e3 for r in own]
                axes[1].plot(across, kilowatts, style, color=colour)
                axes[2].plot(across, [r["cost_usd"] / 1e3 for r in own], style, color=colour)
    axes[0].set(ylabel="tokens/s")
    axes[1].set(ylabel="nameplate power of the wafer, kW")
    axes[2].set(ylabel="silicon of a good wafer, 1,000 USD")
    for panel in axes:
        panel.set(xlabel="share of links that crosses between dies")
        panel.set_xticks([0.25, 0.5, 0.75, 1])
        _from_zero(panel)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def cores() -> "Figure":
    """Tokens a second by the size of a core; hollow where dies are oblong."""
    figure, axes = panels(2)
    rows = [r for r in table("cores") if r["label"] == "fed"]
    sizes = [2 * macs for macs in CORES]
    for step, colour in (("llama-prefill", RED), ("llama-decode", BLUE)):
        for square in (True, False):
            own = [r for r in rows if r["step"] == step and square == (r["rows"] == r["columns"])]
            across = [2 * r["macs"] for r in own]
            each = [r["tokens_per_s"] / r["peak_flops"] * 1e15 for r in own]
            joules = [r["power_w"] / r["tokens_per_s"] for r in own]
            label = STEPS[step] if square else None
            style: dict[str, Any] = {"color": colour, "label": label}
            style |= {} if square else {"markerfacecolor": "white", "linestyle": ""}
            axes[0].plot(across, each, "o-" if square else "o", **style)
            axes[1].plot(across, joules, "o-" if square else "o", **style)
    axes[0].set(ylabel="tokens/s for a PFLOP/s of peak")
    axes[1].set(ylabel="J a token")
    for panel in axes:
        panel.set(xscale="log", xlabel="GFLOP/s of a core")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.legend(frameon=False, fontsize=8, loc="lower left")
        _from_zero(panel)
    return figure


def _from_zero(panel: "Axes") -> None:
    panel.set_ylim(0, 1.08 * panel.get_ylim()[1])


def pairs() -> "Figure":
    """Requests a second of a pair of designs, over those of one design for both phases."""
    figure, axes = panels(1, 7.5)
    rows = table("pairs")
    pools = list(dict.fromkeys(str(r["pool"]) for r in rows))
    resources = list(dict.fromkeys(str(r["resource"]) for r in rows))
    for at, (pool, colour) in enumerate(zip(pools, (BLUE, RED, GREEN), strict=True)):
        gains = [100 * (r["gain"] - 1) for r in rows if r["pool"] == pool]
        places = [number + 0.26 * (at - 1) for number in range(len(gains))]
        axes[0].bar(places, gains, 0.24, color=colour, label=pool)
        for place, gain in zip(places, gains, strict=True):
            axes[0].annotate(f"{gain:.0f}", (place, gain), ha="center", va="bottom", size=8)
    axes[0].set_xticks(range(len(resources)), [f"for a {name}" for name in resources], size=8)
    axes[0].set(ylabel="more requests/s of a pair, %")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


DRAWN: dict[str, Callable[[], Any]] = {
    each.__name__: each for each in (fronts, memory, integration, cores, pairs)
}


def main(arguments: list[str]) -> None:
    """Draw all pictures."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "inference"
    kind = "png" if "--png" in arguments else "svg"
    folders = [each for each in arguments if not each.startswith("-")]
    folder = Path(folders[0]) if folders else PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWN.items():
        options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 110}
        draw().savefig(folder / f"inference-{name}.{kind}", **options)


if __name__ == "__main__":
    main(sys.argv[1:])
