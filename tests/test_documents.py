"""The documents say what is so: links lead somewhere, keys and flags are the tool's own."""

import dataclasses
import re
from pathlib import Path

import pytest
from wscc.cli.arguments import read_arguments
from wscc.cli.asked import Help
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


def test_every_flag_in_the_readme_is_one_of_the_tool() -> None:
    command = read_arguments(["--help"])
    assert isinstance(command, Help)
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "wscc --" in line]
    flags = {flag for line in lines for flag in re.findall(r"(?<!-)--?[a-z][\w-]*", line)}
    assert "--hw" in flags
    assert [flag for flag in sorted(flags) if f" {flag}" not in command.text] == []
