"""Predictions beside measurements, of the object that `wscc validate --json` prints: as a table,
and as a plot in which every figure that is right lies on the diagonal."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

WORST = 5
HALVES = {"all": "all", "fitted": "fitted", "predicted": "not fitted"}


def table(made: Mapping[str, Any]) -> str:
    """Errors by cohort, and the figures that are furthest off."""
    return "\n".join(_lines(made)) + "\n"


def _lines(made: Mapping[str, Any]) -> Iterator[str]:
    names = ("figures", "mean", "median", "95%", "worst")
    yield f"{'':<18}{'':<12}" + "".join(f"{name:>9}" for name in names)
    for cohort in made["cohorts"]:
        for half, shown in HALVES.items():
            found = cohort[half]
            if found is None or (half == "fitted" and cohort["predicted"] is None):
                continue
            if half == "predicted" and cohort["fitted"] is None:
                continue
            name = cohort["name"] if half == "all" else ""
            shares = "".join(f"{found[key]:>9.1%}" for key in ("mean", "median", "p95"))
            yield f"{name:<18}{shown:<12}{found['figures']:>9}{shares}{found['worst']:>+9.1%}"
    yield ""
    for cohort in made["cohorts"]:
        own = [figure for figure in made["figures"] if figure["cohort"] == cohort["name"]]
        for figure in sorted(own, key=lambda each: -abs(each["error"]))[:WORST]:
            mark = ", fitted" if figure["fitted"] else ""
            yield (
                f"{cohort['name']}: {figure['name']}: {figure['predicted']:.6g} {figure['unit']} "
                f"for {figure['measured']:.6g} measured, {figure['error']:+.1%}{mark}"
            )


def parity_svg(made: Mapping[str, Any]) -> str:
    """One panel a cohort, predicted over measured, both logarithmic; figures that may have fixed
    constants are hollow. The lines beside the diagonal are 20% off it."""
    from matplotlib.figure import Figure

    cohorts = [cohort["name"] for cohort in made["cohorts"]]
    columns = min(3, len(cohorts))
    rows = -(-len(cohorts) // columns)
    drawn = Figure(figsize=(4 * columns, 4 * rows), layout="constrained")
    panels = drawn.subplots(rows, columns, squeeze=False).ravel()
    for panel, name in zip(panels, cohorts, strict=False):
        _panel(panel, name, [each for each in made["figures"] if each["cohort"] == name])
    for panel in panels[len(cohorts) :]:
        panel.set_axis_off()
    text = io.StringIO()
    drawn.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(panel: Any, name: str, figures: list[dict[str, Any]]) -> None:
    both = [each[key] for each in figures for key in ("measured", "predicted")]
    ends = [min(both) / 1.5, max(both) * 1.5]
    panel.plot(ends, ends, color="black", linewidth=0.8)
    for share in (0.8, 1.2):
        panel.plot(ends, [share * end for end in ends], color="grey", linewidth=0.5, linestyle=":")
    for fitted, face in ((True, "none"), (False, "tab:blue")):
        chosen = [each for each in figures if each["fitted"] == fitted]
        if chosen:
            panel.scatter(
                [each["measured"] for each in chosen],
                [each["predicted"] for each in chosen],
                s=14,
                facecolors=face,
                edgecolors="tab:blue",
                linewidths=0.7,
                label="fitted" if fitted else "predicted",
            )
    units = sorted({each["unit"] for each in figures})
    panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=name, aspect="equal")
    panel.set_xlabel(f"measured, {units[0] if len(units) == 1 else 'in its unit'}")
    panel.set_ylabel("predicted")
    panel.legend(loc="upper left", frameon=False)
