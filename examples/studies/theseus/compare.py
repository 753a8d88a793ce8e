"""The searched wafers beside the existing systems, at equal peak FLOP/s.

    python compare.py [--pictures FOLDER]

Reads the references, designs and fronts of results/; writes results/comparison.csv, prints the
tables of docs/study-theseus.md and draws its pictures. Every system is scaled from the peak that
whole wafers or nodes give to that of the row's A100s: tokens a second and watts by one factor.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
A100 = 312e12
"""FLOP/s, dense, bfloat16 (NVIDIA A100 whitepaper)."""
AGAINST = ("a100", "h100", "cs2", "cs3", "dojo", "dojo-array")
COLOURS = {
    "a100": "#7a7a7a", "h100": "#222222", "cs2": "#b5651d", "cs3": "#e0a030", "dojo": "#b03060",
    "dojo-array": "#d88aa8", "0": "#1f5fa8", "1": "#2a9d5c",
}  # fmt: skip
NAMES = {
    "a100": "A100", "h100": "H100", "cs2": "WSE-2", "cs3": "WSE-3", "dojo": "Dojo",
    "dojo-array": "Dojo, arrays", "0": "searched wafers", "1": "searched wafers, with arrays",
}  # fmt: skip
PUBLISHED = {"faster": (0.628, 0.737), "saved": (0.386, 0.424)}
"""Theseus' maxima over GPU clusters and over existing wafers (arXiv 2407.02079, abstract)."""


@dataclass(frozen=True)
class Point:
    """A system on a row, at the peak of the row's A100s."""

    name: str
    tokens_per_s: float
    power_w: float
    surplus: float
    """Its own peak over that."""
    units: int
    mfu: float
    fits: bool = True

    @classmethod
    def of(cls, name: str, line: dict[str, str], gpus: int) -> "Point":
        surplus = float(line["peak_flops"]) / (gpus * A100)
        return cls(
            name,
            float(line["tokens_per_s"]) / surplus,
            float(line["power_w"]) / surplus,
            surplus,
            int(float(line.get("units") or line["wafers"])),
            float(line["mfu"]),
            line.get("feasible", "True") == "True",
        )


def table(name: str) -> list[dict[str, str]]:
    """The lines of a CSV file beside this script."""
    with (HERE / name).open() as file:
        return list(csv.DictReader(file))


def points(name: str) -> dict[int, list[Point]]:
    """Every line of a file of results, by row."""
    gpus = {line["row"]: int(line["gpus"]) for line in table("workloads.csv")}
    found: dict[int, list[Point]] = {int(row): [] for row in gpus}
    for line in table(f"results/{name}.csv"):
        point = Point.of(line.get("system") or line["array"], line, gpus[line["row"]])
        found[int(line["row"])].append(point)
    return found


def faster(designs: list[Point], than: Point) -> float | None:
    """How much faster the best design that draws no more is."""
    within = [d.tokens_per_s for d in designs if d.fits and d.power_w <= than.power_w]
    return max(within) / than.tokens_per_s - 1 if within else None


def saved(designs: list[Point], than: Point) -> float | None:
    """How much less the most frugal design that is no slower draws."""
    enough = [d.power_w for d in designs if d.fits and d.tokens_per_s >= than.tokens_per_s]
    return 1 - min(enough) / than.power_w if enough else None


def front(designs: list[Point]) -> list[Point]:
    """Those that no other betters, by their power."""
    kept: list[Point] = []
    for design in sorted(designs, key=lambda d: (d.power_w, -d.tokens_per_s)):
        if not kept or design.tokens_per_s > kept[-1].tokens_per_s:
            kept.append(design)
    return kept


def comparison(every: dict[int, list[Point]]) -> list[dict[str, object]]:
    """A line for each row, kind of core and system."""
    lines: list[dict[str, object]] = []
    for row, found in every.items():
        for array in "01":
            designs = [p for p in found if p.name == array]
            for than in (p for p in found if p.name in AGAINST and designs):
                lines.append(
                    {
                        "row": row,
                        "array": array,
                        "against": than.name,
                        "fits": than.fits,
                        "faster": faster(designs, than),
                        "saved": saved(designs, than),
                    }
                )
    return lines


def ratios(line: dict[str, object]) -> str:
    """Speed at no more power and power at no less speed, the system's being 1; nothing where that
    does not fit."""
    if not line["fits"]:
        return ""
    gain, less = line["faster"], line["saved"]
    speed = f"{1 + gain:.2f}" if isinstance(gain, float) else "-"
    return f"{speed}, {1 - less:.2f}" if isinstance(less, float) else f"{speed}, -"


def show(every: dict[int, list[Point]], lines: list[dict[str, object]]) -> None:
    """Print the tables as Markdown."""
    systems = [name for name in AGAINST if any(p.name == name for f in every.values() for p in f)]
    measured = {
        int(row["row"]): int(row["batch"]) * 2048 / float(row["measured_s"])
        for row in table("workloads.csv")
        if row["measured_s"]
    }
    _print("row", "measured", *(NAMES[name] for name in systems))
    for row, found in every.items():
        cells = {p.name: _cell(p) for p in found}
        known = f"{measured[row] / 1e3:.0f} k" if row in measured else ""
        _print(row, known, *(cells.get(name, "") for name in systems), first=False)
    for array in "01":
        print()
        _print("row", "judged", "fastest", *(NAMES[name] for name in AGAINST))
        for row, found in every.items():
            designs = [p for p in found if p.name == array]
            of_row = {x["against"]: x for x in lines if (x["row"], x["array"]) == (row, array)}
            cells = [ratios(of_row[name]) if name in of_row else "" for name in AGAINST]
            (a100,) = (p for p in found if p.name == "a100")
            within = [p for p in designs if p.fits and p.power_w <= a100.power_w]
            best = max(within, key=lambda p: p.tokens_per_s, default=None)
            _print(row, len(designs), _cell(best) if best else "-", *cells, first=False)


def _print(*cells: object, first: bool = True) -> None:
    """A line of a table, the first with the rule under it."""
    print("| " + " | ".join(map(str, cells)) + " |" + ("\n" + "|---" * len(cells) + "|") * first)


def _cell(point: Point) -> str:
    what = f"{point.tokens_per_s / 1e3:,.3g} k, {point.power_w / 1e3:,.3g} kW"
    return what if point.fits else f"({what})"


def pictures(every: dict[int, list[Point]], lines: list[dict[str, object]], folder: Path) -> None:
    """theseus-fronts.svg and theseus-gains.svg."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "theseus"
    _fronts(every, points("fronts"), folder / "theseus-fronts.svg")
    _gains(lines, folder / "theseus-gains.svg")


def _fronts(every: dict[int, list[Point]], fronts: dict[int, list[Point]], path: Path) -> None:
    """Throughput over power of every row, those of the A100s being 1."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(13, 5.6), sharex=True, sharey=True)
    for (row, found), axis in zip(every.items(), axes.flat, strict=True):
        (unit,) = (p for p in found if p.name == "a100")
        for name, colour in COLOURS.items():
            some = [p for p in found if p.name == name]
            axis.plot(
                [p.power_w / unit.power_w for p in some],
                [p.tokens_per_s / unit.tokens_per_s for p in some],
                marker="o" if name in "01" else "s",
                ls="",
                markersize=5,
                color=colour,
                label=NAMES[name],
                fillstyle="full" if all(p.fits for p in some) else "none",
            )
            bounds = front([p for p in fronts[row] if p.name == name])
            axis.plot(
                [p.power_w / unit.power_w for p in bounds],
                [p.tokens_per_s / unit.tokens_per_s for p in bounds],
                lw=1,
                color=colour,
            )
        axis.set(xscale="log", title=f"row {row}", xticks=[0.25, 0.5, 1, 2, 4])
        axis.set_xticklabels(["¼", "½", "1", "2", "4"])
        axis.minorticks_off()
        axis.axhline(1, color="#cccccc", lw=0.6, zorder=0)
        axis.axvline(1, color="#cccccc", lw=0.6, zorder=0)
    axes[0, 0].set(xlim=(0.18, 7), ylim=(0, None))
    figure.supxlabel("average power, that of the A100s = 1")
    figure.supylabel("tokens a second, those of the A100s = 1")
    labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(*labels, loc="upper center", ncol=8, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _gains(lines: list[dict[str, object]], path: Path) -> None:
    """By row, how many times as fast and how much less power, beside what Theseus published."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, sharey="row")
    for column, array in enumerate("01"):
        for at, what in enumerate(("faster", "saved")):
            axis = axes[at, column]
            for name in AGAINST[:4]:
                some = [x for x in lines if (x["array"], x["against"]) == (array, name)]
                some = [x for x in some if x["fits"] and isinstance(x[what], float)]
                axis.plot(
                    [x["row"] for x in some],
                    [float(str(x[what])) * (-1) ** at + 1 for x in some],
                    marker="o",
                    markersize=4,
                    lw=1,
                    color=COLOURS[name],
                    label=NAMES[name],
                )
            for most, style in zip(PUBLISHED[what], ("--", ":"), strict=True):
                axis.axhline(1 + most * (-1) ** at, color="#888888", lw=0.9, ls=style)
            axis.axhline(1, color="#cccccc", lw=0.8)
            axis.set_xticks(range(10))
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter("{x:g}")
        axes[0, column].set_title(NAMES[array])
        axes[1, column].set_xlabel("row")
    axes[0, 0].set_ylabel("speed over that of each system,\nat no more power")
    axes[1, 0].set_ylabel("power over that of each system,\nat no less speed")
    axes[0, 1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="a folder to draw in")
    options = parser.parse_args()
    every, designs = points("references"), points("designs")
    every = {row: [*some, *designs[row]] for row, some in every.items()}
    lines = comparison(every)
    with (HERE / "results" / "comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    show(every, lines)
    if options.pictures:
        pictures(every, lines, options.pictures)


if __name__ == "__main__":
    main()
