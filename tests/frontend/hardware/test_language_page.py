"""The page that explains the language: its pieces load, its mistakes are refused, and it has an
example of everything."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import wscc
from wscc.backend.physics import PHYSICS
from wscc.frontend.hardware import HardwareSpace, load_hardware, syntax
from wscc.frontend.hardware.expressions import COMPARISONS
from wscc.frontend.hardware.fields import DTYPES, PARTS, SYSTEM, BlockSpec
from wscc.frontend.hardware.parse import parse
from wscc.frontend.hardware.units import FUNCTIONS
from wscc.ir.errors import UserError

PAGE = (Path(wscc.__path__[0]) / "docs" / "language.md").read_text()
SPEC = "".join(re.findall(r"```wsc\n(.*?)```", PAGE, re.DOTALL))
OTHER_FILES = dict(re.findall(r'```\w+ title="(\S+)"\n(.*?)```', PAGE, re.DOTALL))
REFUSED = re.findall(r"```refused\n(.*?)\n# error: (.*?)\n```", PAGE, re.DOTALL)
FUNCTION_ROWS = re.findall(r"^\| `(\w+)\(x\)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)

SpaceOf = Callable[..., HardwareSpace]


@pytest.fixture
def page_space(tmp_path: Path) -> SpaceOf:
    """The space of the page's file, with more lines at its end."""

    def of(more: str = "") -> HardwareSpace:
        for name, text in {**OTHER_FILES, "page.wsc": SPEC + more}.items():
            (tmp_path / name).write_text(text)
        return replace(load_hardware(tmp_path / "page.wsc"), physics=PHYSICS)

    return of


def test_the_pieces_of_the_page_are_one_design(page_space: SpaceOf):
    hardware = page_space().bind()
    assert [constraint.text for constraint in hardware.constraints if not constraint.holds] == []
    assert sum(not constraint.implied for constraint in hardware.constraints) == 4
    assert hardware.wafer.die.columns == 153
    assert (11, 6) in hardware.wafer.dead_dies
    assert [patch.die.name for patch in hardware.wafer.patches] == ["decode"]
    assert hardware.wafers == 4


@pytest.mark.parametrize(
    "values",
    [
        {"joint": "info_sow"},
        {"stack": "off"},
        {"sram_size": "64 KiB", "clock": "1.3 GHz"},
        {"stack_bandwidth": "2 TB/s", "prefill": 70},
    ],
)
def test_the_parameters_of_the_page_may_be_chosen(
    values: dict[str, str | float], page_space: SpaceOf
):
    hardware = page_space().bind(values)
    assert values.keys() <= hardware.parameters.keys()


def test_the_node_of_the_page_is_a_design_too(page_space: SpaceOf):
    text = SPEC.replace("wafers = 4 of wse joined fabric  ", "nodes = 16 of dgx joined fabric #")
    assert text != SPEC
    space = page_space()
    (space.file.path).write_text(text)
    hardware = replace(load_hardware(space.file.path), physics=PHYSICS).bind()
    assert hardware.wafer.board
    assert [c.text for c in hardware.constraints if c.implied and not c.holds] == []


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_the_mistakes_of_the_page_are_refused_in_its_words(
    text: str, message: str, page_space: SpaceOf
):
    with pytest.raises(UserError) as caught:
        page_space(text).bind()
    assert caught.value.message == message
    assert caught.value.location is not None


def test_the_page_shows_mistakes_and_other_files():
    assert len(REFUSED) == PAGE.count("```refused") > 5
    assert set(OTHER_FILES) == {"macros.csv"}


# An example of everything.


def shown() -> set[tuple[str, ...]]:
    """The fields that the page's examples give, by kind of part, block and name."""
    return {path for statement in parse(SPEC, "page") for path in fields_of(statement)}


def fields_of(item: object) -> Iterator[tuple[str, ...]]:
    match item:
        case syntax.Block(kind=kind, items=items):
            yield (kind,)
            yield from ((kind, *path) for inner in items for path in fields_of(inner))
        case syntax.Field():
            yield (item.name,)
        case _:
            pass


def known(kind: str, spec: BlockSpec) -> Iterator[tuple[str, ...]]:
    """The fields that parts of a kind may have."""
    yield (kind,)
    yield from ((kind, name) for name in spec.fields)
    for inner, block in spec.blocks.items():
        yield from ((kind, *path) for path in known(inner, block))


def alike(path: tuple[str, ...]) -> tuple[str, ...]:
    """Parts and blocks of the same fields as one: a node is like a wafer, a router like a network,
    a block of memory like a part."""
    if "memory" in path:
        return path[path.index("memory") :]
    if path[:2] == ("core", "router"):
        return ("network", *path[2:])
    return ("wafer", *path[1:]) if path[0] == "node" else path


def test_the_page_shows_every_field_of_every_part():
    fields = {path for kind, spec in PARTS.items() for path in known(kind, spec)}
    fields |= set(known("system", SYSTEM))
    wanted = {alike(path) for path in fields if path[-1] not in DTYPES}
    assert wanted - {alike(path) for path in shown()} == {("system", "nodes")}
    assert "nodes = 16 of dgx joined fabric" in PAGE
    assert all(dtype in PAGE for dtype in DTYPES)


def test_the_page_names_every_function_with_the_parts_that_it_takes():
    named = {name: of.split(", ") for name, _, of in FUNCTION_ROWS}
    assert named == {name: [*function.of] for name, function in PHYSICS.functions.items()}
    assert all(re.search(rf"\b{name}\b", PAGE) for name in FUNCTIONS)
    assert f"`{' '.join(COMPARISONS)}`" in PAGE


def test_the_page_says_what_the_functions_give():
    for name, gives, _ in FUNCTION_ROWS:
        unit = PHYSICS.functions[name].unit
        word = {"B": "bytes", "B/s": "bytes/s", None: ""}.get(unit, unit)
        assert gives.startswith(word), (name, gives, unit)


def test_the_page_lists_every_unit():
    rows = PAGE[PAGE.index("| measures |") :].split("\n\n")[0]
    listed = {unit for text in re.findall("`(.*?)`", rows) for unit in text.split()}
    units = (Path(wscc.__path__[0]) / "frontend" / "hardware" / "units.txt").read_text()
    for line in units.splitlines():
        if line and not line.startswith("#"):
            names = {name.strip() for name in re.split("=", line)} - {"_"}
            assert names & listed, line


def test_the_page_shows_every_statement_and_every_domain():
    kinds = {type(statement) for statement in parse(SPEC, "page")}
    assert kinds >= {syntax.Use, syntax.ParameterSyntax, syntax.Let, syntax.ConstraintSyntax}
    assert syntax.Copy in kinds
    parameters = [s for s in parse(SPEC, "page") if isinstance(s, syntax.ParameterSyntax)]
    domains = {type(parameter.domain) for parameter in parameters}
    assert domains == {syntax.Choices, syntax.Powers, syntax.Interval, type(None)}
