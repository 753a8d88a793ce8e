"""`wscc fmt`: what it writes, when it writes nothing, and what it refuses."""

import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from wscc.cli.main import main
from wscc.frontend.hardware.files import MAX_BYTES

LOOSE = "wsc 1\n\n\n\nparam a=1   # µ\nsystem{wafers=1 of w}\n"
NEAT = "wsc 1\n\nparam a = 1  # µ\nsystem { wafers = 1 of w }\n"

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a.wsc"
    path.write_text(LOOSE, encoding="utf-8")
    return path


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_spec_is_laid_out_in_place(spec: Path, capsys: Captured) -> None:
    assert main(["fmt", str(spec)]) == 0
    assert spec.read_text("utf-8") == NEAT
    assert capsys.readouterr().out == f"{spec}: formatted\n"
    assert [path.name for path in spec.parent.iterdir()] == ["a.wsc"]


def test_permissions_are_kept(spec: Path) -> None:
    spec.chmod(0o640)
    assert main(["fmt", str(spec)]) == 0
    assert stat.S_IMODE(spec.stat().st_mode) == 0o640


def test_what_a_link_names_is_laid_out_and_the_link_stays(spec: Path) -> None:
    link = spec.parent / "link.wsc"
    link.symlink_to("a.wsc")
    assert main(["fmt", str(link)]) == 0
    assert link.is_symlink()
    assert spec.read_text("utf-8") == NEAT


def test_a_file_that_is_laid_out_is_not_written(spec: Path, capsys: Captured) -> None:
    spec.write_text(NEAT, encoding="utf-8")
    before = spec.stat()
    assert main(["fmt", str(spec)]) == 0
    assert capsys.readouterr().out == f"{spec}: already formatted\n"
    assert (spec.stat().st_mtime_ns, spec.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_windows_line_ends_and_a_byte_order_mark_go(spec: Path) -> None:
    spec.write_bytes(b"\xef\xbb\xbf" + NEAT.replace("\n", "\r\n").encode())
    assert main(["fmt", str(spec)]) == 0
    assert spec.read_bytes() == NEAT.encode()


def test_check_names_a_file_that_would_change_and_leaves_it(spec: Path, capsys: Captured) -> None:
    assert main(["fmt", str(spec), "--check"]) == 1
    assert capsys.readouterr().out == f"{spec}: would be formatted\n"
    assert spec.read_text("utf-8") == LOOSE
    spec.write_text(NEAT, encoding="utf-8")
    assert main(["fmt", "--check", str(spec)]) == 0
    assert capsys.readouterr().out == f"{spec}: already formatted\n"


def test_standard_input_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    pipe(monkeypatch, LOOSE.encode())
    assert main(["fmt", "-"]) == 0
    assert capsysbinary.readouterr().out == NEAT.encode()


def test_standard_input_is_checked(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    pipe(monkeypatch, LOOSE.encode())
    assert main(["fmt", "-", "--check"]) == 1
    assert capsys.readouterr().out == "<stdin>: would be formatted\n"


@pytest.mark.parametrize(("flags", "written"), [([], True), (["--check"], False)])
def test_fmt_speaks_json(spec: Path, flags: list[str], written: bool, capsys: Captured) -> None:
    assert main(["fmt", str(spec), "--json", *flags]) == (0 if written else 1)
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["file"]) == ("wscc.fmt/1", str(spec))
    assert (report["changed"], report["written"], report["text"]) == (True, written, None)


def test_json_of_standard_input_holds_the_text(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    pipe(monkeypatch, LOOSE.encode())
    assert main(["fmt", "-", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["text"], report["written"]) == (NEAT, False)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"wsc 1\nparam = 3\n", "2:7: error: unexpected '=', expected a name"),
        (b"wsc 1\n# \xc3\xa9\xff\n", "2:4: error: not a text file in UTF-8"),
        (b"#" * (MAX_BYTES + 1), f"1:1: error: a spec has at most {MAX_BYTES:,} bytes"),
    ],
)
def test_what_is_no_spec_is_refused_and_left(
    spec: Path, content: bytes, error: str, capsys: Captured
) -> None:
    spec.write_bytes(content)
    assert main(["fmt", str(spec)]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{spec}:{error}\n")
    assert spec.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nowhere.wsc", "no file 'nowhere.wsc'"),
        ("a\0b", "no file 'a\0b'"),
        ("", "no file ''"),
        (".", "'.' is a folder, expected a .wsc file"),
        ("/dev/null", "no file '/dev/null'"),
    ],
)
def test_what_is_no_file_is_refused(name: str, error: str, capsys: Captured) -> None:
    assert main(["fmt", name]) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_file_that_may_not_be_written_is_refused(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert main(["fmt", str(spec)]) == 2
    assert capsys.readouterr().err == f"{spec}: error: cannot be written: permission denied\n"
    assert spec.read_text("utf-8") == LOOSE


def test_a_closed_standard_input_is_the_users_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["fmt", "-"]) == 2
    assert capsys.readouterr().err == "error: standard input is closed\n"


def test_a_file_is_named(capsys: Captured) -> None:
    assert main(["fmt"]) == 2
    assert capsys.readouterr().err == "error: wscc fmt: FILE is missing\n"
