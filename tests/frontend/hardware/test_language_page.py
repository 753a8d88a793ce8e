"""The page that explains the language: its pieces load, its mistakes are refused."""

import re
from pathlib import Path

import pytest
import wscc
from wscc.frontend.hardware import load_hardware
from wscc.ir.errors import UserError

PAGE = (Path(wscc.__path__[0]) / "docs" / "language.md").read_text()
SPEC = "".join(re.findall(r"```wsc\n(.*?)```", PAGE, re.DOTALL))
REFUSED = re.findall(r"```refused\n(.*?)\n# error: (.*?)\n```", PAGE, re.DOTALL)


def bind(text: str, folder: Path):
    path = folder / "page.wsc"
    path.write_text(text)
    return load_hardware(str(path)).bind(physics={"power": lambda _: 1.0})


def test_the_pieces_of_the_page_are_one_spec(tmp_path: Path):
    hardware = bind(SPEC, tmp_path)
    assert hardware.wafer.die.columns == 153
    assert hardware.wafer.dead_dies == ((11, 6),)
    assert [constraint.holds for constraint in hardware.constraints] == [True, True]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_the_mistakes_of_the_page_are_refused_in_its_words(text: str, message: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        bind(SPEC + text, tmp_path)
    assert caught.value.message == message


def test_the_page_shows_mistakes():
    assert len(REFUSED) == 3
