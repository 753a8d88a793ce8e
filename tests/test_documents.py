"""The documents say what is so: links lead somewhere, keys and flags are all named."""

import dataclasses
import re
from pathlib import Path

import pytest
from wscc.cli.asked import Help
from wscc.cli.dse import arguments as dse
from wscc.dse.strategies import DEFAULT
from wscc.ir.result import Result

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_key_of_the_report_is_documented() -> None:
    text = (ROOT / "docs" / "report.md").read_text()
    missing = [f.name for f in dataclasses.fields(Result) if f"`{f.name}`" not in text]
    assert missing == []


def test_every_flag_strategy_and_verb_of_the_search_is_documented() -> None:
    text = (ROOT / "docs" / "search.md").read_text()
    help_ = dse.read_arguments(["--help"])
    assert isinstance(help_, Help)
    flags = set(re.findall(r"^  (--[a-z-]+)", help_.text, re.MULTILINE))
    known = flags - {"--quiet", "--version"} | set(dse.STRATEGIES) | set(dse.VERBS)
    assert sorted(name for name in known if f"`{name}" not in text) == []


def test_the_default_strategy_is_documented_as_such() -> None:
    lines = (ROOT / "docs" / "search.md").read_text().splitlines()
    (default,) = [line for line in lines if line.startswith("| `") and "the default |" in line]
    assert default.startswith(f"| `{DEFAULT}` |")
