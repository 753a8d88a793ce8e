"""Predictions beside measurements, of the object that `wscc validate --json` prints: as a table on
the console or in Markdown, and as a plot in which every figure that is right lies on the diagonal.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

WORST = 5
HALVES = {"all": "all", "fitted": "fitted", "predicted": "not fitted"}
COLUMNS = ("figures", "mean", "median", "95%", "worst")


def table(made: Mapping[str, Any]) -> str:
    """Errors by cohort, and the figures that are furthest off."""
    return "\n".join(_lines(made)) + "\n"


def _lines(made: Mapping[str, Any]) -> Iterator[str]:
    rows = list(_rows(made))
    width = max(len(name) for name, _ in rows) + 2
    yield f"{'':<{width}}{'':<12}" + "".join(f"{name:>9}" for name in COLUMNS)
    for name, (half, *cells) in rows:
        yield f"{name:<{width}}{half:<12}" + "".join(f"{cell:>9}" for cell in cells)
    yield ""
    for cohort in made["cohorts"]:
        own = [figure for figure in made["figures"] if figure["cohort"] == cohort["name"]]
        for figure in sorted(own, key=lambda each: -abs(each["error"]))[:WORST]:
            mark = ", fitted" if figure["fitted"] else ""
            yield (
                f"{cohort['name']}: {figure['name']}: {figure['predicted']:.6g} {figure['unit']} "
                f"for {figure['measured']:.6g} measured, {figure['error']:+.1%}{mark}"
            )


def _rows(made: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Of what errors are, and which half of it and the cells of COLUMNS. Kinds stand below their
    cohort; what has figures of both sorts, all and each by itself, is named once."""
    for cohort in made["cohorts"]:
        parts = {cohort["name"]: cohort} | {f"  {k}": of for k, of in cohort["kinds"].items()}
        for name, halves in parts.items():
            found = [half for half in HALVES if halves[half] is not None]
            for at, half in enumerate(found if len(found) == len(HALVES) else found[1:]):
                yield "" if at else name, [HALVES[half], *_cells(halves[half])]


def _cells(errors: Mapping[str, Any]) -> Iterator[str]:
    yield str(errors["figures"])
    yield from (f"{errors[key]:.1%}" for key in ("mean", "median", "p95"))
    yield f"{errors['worst']:+.1%}"


def errors_markdown(made: Mapping[str, Any]) -> str:
    """The errors of `table` as Markdown."""
    rows = ([name.replace("  ", "&nbsp; "), *cells] for name, cells in _rows(made))
    return _markdown(("", "", *COLUMNS), rows)


def figures_markdown(made: Mapping[str, Any], cohort: str) -> str:
    """Every figure of a cohort as Markdown, and whether it may have fixed a constant."""
    return _markdown(
        ("figure", "measured", "predicted", "unit", "error", ""),
        (
            [
                figure["name"],
                _figure(figure["measured"]),
                _figure(figure["predicted"]),
                figure["unit"],
                f"{figure['error']:+.1%}",
                "fitted" if figure["fitted"] else "not fitted",
            ]
            for figure in made["figures"]
            if figure["cohort"] == cohort
        ),
    )


def _figure(value: float) -> str:
    """In full from a hundred, else four digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def _markdown(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(names), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def parity_svg(made: Mapping[str, Any]) -> str:
    """One panel a cohort, predicted over measured, both logarithmic; figures that may have fixed
    constants are hollow. The lines beside the diagonal are 20% off it."""
    from matplotlib import rc_context
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
    with rc_context({"svg.hashsalt": "wscc"}):
        drawn.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _panel(panel: Any, name: str, figures: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import NullFormatter

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
                label=HALVES["fitted" if fitted else "predicted"],
            )
    units = sorted({each["unit"] for each in figures})
    panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=name, aspect="equal")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(f"measured, {units[0] if len(units) == 1 else 'in its unit'}")
    panel.set_ylabel("predicted")
    panel.legend(loc="upper left", frameon=False)
