"""A page from its template: Bokeh's scripts in it, and nothing that a browser would fetch."""

from typing import Any

PACKAGE = "wscc.report.html"
BOKEH = ("bokeh", "bokeh-widgets")
"""Of its scripts, those that the plots need."""


def rendered(template: str, plots: dict[str, Any], **values: Any) -> str:
    """A template with plots and values in it. Values are escaped; plots are Bokeh's own markup."""
    script, drawn = _drawn(plots) if plots else ("", {})
    found = _environment().get_template(template)
    return found.render(script=script, plots=drawn, scripts=_scripts(), **values)


def _drawn(plots: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Plots of one document, which is put together once and not again with every plot."""
    from bokeh.document import Document
    from bokeh.embed import components

    document = Document()
    with document.models.freeze():
        for each in plots.values():
            document.add_root(each)
    return components(plots)


def _scripts() -> list[str]:
    """Bokeh's own, whole, without the line that has it announce itself on the console."""
    from bokeh.resources import Resources

    raw = Resources(mode="inline", components=list(BOKEH)).js_raw
    return [script for script in raw if not script.startswith("Bokeh.set_log_level")]


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    found = Environment(
        loader=PackageLoader(PACKAGE, "."),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )
    found.filters["trusted"] = _trusted
    return found


def _trusted(text: str) -> Any:
    """Of Bokeh: markup that is not escaped."""
    from markupsafe import Markup

    return Markup(text)
