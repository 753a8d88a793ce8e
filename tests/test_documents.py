"""The documents say what is so: links lead somewhere, keys and flags are the tool's own."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from wscc.cli.arguments import read_arguments
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


def test_every_flag_in_the_readme_is_one_of_the_tool() -> None:
    command = read_arguments(["--help"])
    assert isinstance(command, Help)
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "wscc --" in line]
    flags = {flag for line in lines for flag in re.findall(r"(?<!-)--?[a-z][\w-]*", line)}
    assert "--hw" in flags
    assert [flag for flag in sorted(flags) if f" {flag}" not in command.text] == []


def commands(document: Path, program: str) -> list[list[str]]:
    """The arguments of each command of a program in a document's blocks, comments left out."""
    blocks = re.findall(r"^```\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]
    return [line[1:] for line in words]


def test_every_command_of_the_search_in_a_document_is_read() -> None:
    found = [command for document in DOCUMENTS for command in commands(document, "wscc-dse")]
    assert len(found) > 10
    for command in found:
        assert not isinstance(dse.read_arguments(command), Help)


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
