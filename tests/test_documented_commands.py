"""Every command and every piece of Python that a document shows is run, in order, in a folder that
holds what they name.

What would take long is run smaller, by the rules of SMALLER; the models in the folder are tiny ones
of the same names. A block that is nothing to run stands in SHOWN with the reason, or a test fails.
"""

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from wscc.cli.arguments import read_arguments
from wscc.cli.dse.arguments import read_arguments as read_search
from wscc.cli.dse.main import main as wscc_dse
from wscc.cli.main import main as wscc
from wscc.cli.validation import cohorts

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {"wscc": wscc, "wscc-dse": wscc_dse}

NOT_RUN = {
    "make": "it makes an environment; which targets there are is compared with the Makefile",
    "python3.11": "it makes an environment",
    ".venv/bin/pip": "it installs",
    "python": "a benchmark takes minutes; that the script is there is looked up",
}
"""Programs of commands that are not run, and why."""

SMALLER = (
    (r"\[|\]", "", "what a synopsis lets one leave out is given"),
    (r"\bbound\|fluid\|flit\b", "fluid", "one of several that a synopsis names"),
    (r"--budget N\b", "--budget 100000", "a number that a synopsis leaves open"),
    (r"--cohort NAME\b", "--cohort network", "that of the cases in the folder"),
    (r"^(wscc validate)$", r"\1 --cohort chips", "all cohorts take minutes"),
    (r"--cohort (?!network|chips)\S+", "--cohort chips", "it compiles whole models"),
    (r"-o DIR\b", "-o OUT", "not over the cases"),
    (r"show first 7", "show first 1", "of so few designs"),
    (r"--region 720x720", "--region 72x72", "a tiny model does not fill it"),
    (r"^(wscc-dse --hw .*)$", r"\1 --budget 3 --workers 0", "a few designs, in this process"),
    (
        r"^(wscc-dse --hw (?!.*--strategy).*)$",
        r"\1 --strategy random",
        "no screening of hundreds before the first",
    ),
)
"""Patterns in a command, what takes their place, and why that is enough."""

SHOWN = {
    ("README.md", "llama-3.1-8b, decode"): "what the demo prints: compared below",
    ("docs/memory.md", "max(compute and network"): "a formula",
    ("docs/network.md", '{"cases": [{"id"'): "the keys of an object",
    ("docs/quantization.md", "%q_proj.weight: float8"): "a graph, shortened",
    ("docs/search.md", "first: mfbo on theseus"): "what a search of its size printed once",
    ("docs/system.md", "config.json --frontend"): "a drawing",
    ("docs/verify.md", "tiny on wse2, prefill"): "what the command prints: compared below",
    ("docs/verify.md", 'schema "wscc.verify/1"'): "the keys of an object",
}
"""Blocks that are nothing to run, by document and first words, and why."""

ELSEWHERE = {
    ("docs/language.md", "wsc"): "tests/frontend/hardware/test_language_page.py",
    ("docs/language.md", "csv"): "tests/frontend/hardware/test_language_page.py",
    ("docs/language.md", "refused"): "tests/frontend/hardware/test_language_page.py",
}
"""Labels of blocks that another test reads, all of a document."""

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
    "vocab_size": 256, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
SEEING = {
    "model_type": "qwen3_vl",
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "text_config": {
        "model_type": "qwen3_vl_text", "dtype": "bfloat16", "vocab_size": 64, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1],
        },
    },
    "vision_config": {
        "depth": 2, "hidden_size": 24, "num_heads": 3, "intermediate_size": 40, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
        "out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [1],
    },
    "image_token_id": 60,
    "video_token_id": 61,
}  # fmt: skip
CASE = {
    "id": "two-rows", "family": "ring", "kind": "plain", "mesh": {"w": 4, "h": 2},
    "router": {
        "num_vcs": 4, "vc_buf_size": 8, "routing_delay": 1, "vc_alloc_delay": 1,
        "sw_alloc_delay": 1, "st_final_delay": 1, "speculative": 0, "credit_delay": 1,
    },
    "max_packet_flits": 16,
    "messages": [[0, 3, 16, 0], [4, 7, 16, 0]],
    "result": {"makespan": 40, "finish": [40, 40], "booksim_cpu_s": 2.0},
}  # fmt: skip
MODELS = ("llama.json", "tiny.json", "tiny/config.json")
"""Configs of a reader's own that documents name."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    label: str
    title: str
    text: str

    @property
    def where(self) -> str:
        """As a key of SHOWN begins."""
        return str(self.document.relative_to(ROOT))

    @property
    def place(self) -> str:
        return f"{self.where}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its commands, without comments; none where it is something else."""
        if self.label not in ("", "sh", "console"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        bare = [" ".join(line.split(" #")[0].split()) for line in lines if line.strip()]
        programs = {line.split()[0] for line in bare if line}
        return bare if programs <= {*PROGRAMS, *NOT_RUN} else []

    @property
    def shown(self) -> str | None:
        """Why it is nothing to run, where SHOWN says so."""
        found = (why for (doc, text), why in SHOWN.items() if self._is(doc, text))
        return next(found, None)

    def _is(self, document: str, text: str) -> bool:
        return self.where == document and self.text.startswith(text)

    @property
    def kind(self) -> str | None:
        """What a test does with it; None where it would be skipped in silence."""
        if self.title:
            return "written"
        if (self.where, self.label) in ELSEWHERE:
            return "read by another test"
        if self.commands or self.label == "python":
            return "run"
        return None if self.shown is None else "shown"


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text()
    for found in re.finditer(r"^```(.*)\n((?s:.*?))^```$", text, re.MULTILINE):
        label, _, options = found[1].partition(" ")
        title = re.fullmatch(r'title="(.+)"', options)
        assert title or not options, f"{document.name}: a block of '{found[1]}'"
        line = text.count("\n", 0, found.start()) + 1
        yield Block(document, line, label, title[1] if title else "", found[2])


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


def smaller(command: str) -> str:
    for pattern, instead, _ in SMALLER:
        command = re.sub(pattern, instead, command)
    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What documents name: specs, examples with tiny models, files of a reader's own."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs", ignore=shutil.ignore_patterns("*.py*"))
    for path in (ROOT / "examples").rglob("*"):
        copy = tmp_path / path.relative_to(ROOT)
        if path.is_file() and path.suffix in (".json", ".wsc") and path.stat().st_size < 100_000:
            copy.parent.mkdir(parents=True, exist_ok=True)
            config = path.suffix == ".json" and "model_type" in path.read_text()
            copy.write_text(json.dumps(TINY) if config else path.read_text())
    (tmp_path / "tiny").mkdir()
    (tmp_path / "DIR").mkdir()
    for name in MODELS:
        (tmp_path / name).write_text(json.dumps(TINY))
    (tmp_path / "qwen-vl.json").write_text(json.dumps(SEEING))
    for name in ("case.json", "CASE.json", "DIR/case.json"):
        (tmp_path / name).write_text(json.dumps(CASE))
    (wafer,) = [block.text for block in BLOCKS if block.title == "my.wsc"]
    (tmp_path / "my-wafer.wsc").write_text(wafer)
    shutil.copy(ROOT / "specs" / "theseus.wsc", tmp_path / "mine.wsc")
    return tmp_path


def run(block: Block, command: str, folder: Path) -> None:
    """One command, smaller where a rule says so; what it names must be there as it is written."""
    program, *words = shlex.split(command)
    if program in NOT_RUN:
        check_not_run(program, words)
        return
    if not re.search(r"[|\[]", command):
        (read_arguments if program == "wscc" else read_search)(words)
    arguments = shlex.split(smaller(command))[1:]
    if program == "wscc-dse" and words[0] == "compare":
        for study in words[1:3]:
            if not (folder / study).exists():
                shutil.copytree(folder / "first", folder / study)
    code = PROGRAMS[program](arguments)
    assert code == 0, f"{block.place}: {program} {shlex.join(arguments)}: exit code {code}"


def check_not_run(program: str, words: list[str]) -> None:
    if program == "make":
        assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text()
    if program == "python":
        assert (ROOT / words[0]).is_file()


def carry_out(block: Block, folder: Path) -> None:
    """Whatever is to be done with a block that is not only shown."""
    if block.title:
        path = folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    elif block.label == "python":
        exec(compile(block.text, block.place, "exec"), {"__name__": "documented"})
    for command in block.commands:
        run(block, command, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [each for each in DOCUMENTS if any(b.kind == "run" for b in BLOCKS if b.document == each)],
    ids=lambda path: path.name,
)
def test_every_command_of_a_document_does_what_it_is_there_for(
    document: Path, folder: Path
) -> None:
    with contextlib.chdir(folder):
        for block in blocks(document):
            carry_out(block, folder)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_no_block_is_skipped_in_silence(block: Block) -> None:
    assert block.kind is not None, (
        f"{block.place}: neither a command, Python, a file with a title nor listed in SHOWN"
    )


def test_every_rule_and_reason_is_still_needed() -> None:
    commands = [command for block in BLOCKS for command in block.commands]
    programs = {command.split()[0] for command in commands}
    assert {*NOT_RUN} <= programs
    for (document, text), _ in SHOWN.items():
        assert [b for b in BLOCKS if b.where == document and b.text.startswith(text)], text
    for key in ELSEWHERE:
        assert key in {(block.where, block.label) for block in BLOCKS}
    for pattern, _, _ in SMALLER:
        assert any(re.search(pattern, command) for command in commands), pattern


def test_every_model_that_a_document_names_is_there() -> None:
    named = {
        model
        for block in BLOCKS
        for command in block.commands
        for model in re.findall(r"--model (\S+)", command)
    }
    own = {*MODELS, "tiny/", "qwen-vl.json"}
    assert [name for name in sorted(named - own) if not (ROOT / name).exists()] == []


def test_every_cohort_that_a_document_names_is_one() -> None:
    named = {name for d in DOCUMENTS for name in re.findall(r"--cohort ([a-z-]+)", d.read_text())}
    assert named
    assert named <= {cohort.key for cohort in cohorts()}


# What is shown beside a command.


def output_of(document: str, first: str) -> tuple[str, str]:
    """The command before a block of output, and the output."""
    own = [block for block in BLOCKS if block.where == document]
    (at,) = [at for at, block in enumerate(own) if block.text.startswith(first)]
    return own[at - 1].commands[-1], own[at].text


@pytest.mark.slow
def test_the_readme_shows_what_the_demo_prints(capsys: pytest.CaptureFixture[str]) -> None:
    command, shown = output_of("README.md", "llama-3.1-8b, decode")
    with contextlib.chdir(ROOT):
        assert wscc([*shlex.split(command)[1:], "--quiet"]) == 0
    assert capsys.readouterr().out == shown


def test_the_proof_that_is_shown_is_what_the_command_prints(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the time and for what rounding leaves, which differ from machine to machine."""
    command, shown = output_of("docs/verify.md", "tiny on wse2, prefill")
    with contextlib.chdir(folder):
        for block in blocks(ROOT / "docs" / "verify.md"):
            if block.title:
                carry_out(block, folder)
        capsys.readouterr()
        assert wscc([*shlex.split(command)[1:], "--quiet"]) == 0

    def lasting(text: str) -> list[str]:
        lines = [line for line in text.splitlines() if not line.startswith("  time ")]
        return [re.sub(r" +\S+e-\S+ +\S+e-\S+$", "", line) for line in lines]

    assert lasting(capsys.readouterr().out) == lasting(shown)
