import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wscc.cli.main import main
from wscc.ir.errors import UserError
from wscc.ir.store import Store, digest

WSCC = Path(sys.executable).parent / "wscc"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The shipped WSE-2 with a limit on its die that does not hold."""
    shipped = Path(__file__).parents[2] / "specs" / "wse2.wsc"
    path = tmp_path / "small.wsc"
    path.write_text(shipped.read_text().replace("858 mm2", "400 mm2"))
    return path


def test_a_spec_is_checked_and_summarized(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wse2"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("wse2: valid\n")
    assert "850,000" in shown
    assert "area(tile) <= 858 mm2: holds" in shown


def test_a_broken_constraint_is_exit_code_one(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(spec)]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("small: valid, but a constraint is broken\n")
    assert "area(tile) <= 400 mm2: broken" in shown


def test_check_speaks_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(spec), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["name"]) == ("wscc.check/1", "small")
    assert report["facts"]["cores"] == 850_000
    (constraint,) = report["constraints"]
    assert constraint["holds"] is False
    assert constraint["left"] == pytest.approx(510e-6)


def test_a_spec_that_is_not_there_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wse22"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: no file 'wse22', and no shipped spec of that name")
    assert shown.err.count("\n") == 1


def test_a_config_that_is_not_there_is_the_users_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "--model", "nowhere.json"]) == 2
    assert capsys.readouterr().err == "nowhere.json: error: no such file\n"


def test_the_cache_is_listed_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WSCC_CACHE", str(tmp_path))
    key = digest("key")
    Store().put("program", key, "text")
    size = Store().entries()[0].bytes
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path}: 1 entries, {size} B\n  program  {key[:12]}  {size} B\n"
    )
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: 1 entries removed\n"
    assert Store().entries() == ()


def test_the_cache_speaks_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WSCC_CACHE", str(tmp_path))
    Store().put("trace", digest("key"), "text")
    assert main(["cache", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["folder"]) == ("wscc.cache/1", str(tmp_path))
    assert report["entries"] == [{"kind": "trace", "key": digest("key"), "bytes": report["bytes"]}]


def test_the_command_alone_prints_help_and_fails() -> None:
    done = subprocess.run([WSCC], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: wscc --hw FILE --model CONFIG [flags]\n")


def test_a_mistake_is_one_line_on_standard_error() -> None:
    done = subprocess.run([WSCC, "--hww", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown flag '--hww', did you mean '--hw'?\n"


def test_a_reader_who_leaves_early_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [WSCC, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_standard_output_that_is_closed_is_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{WSCC}' check wse2 >&-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_standard_output_that_is_full_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [WSCC, "check", "wse2"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_the_package_reexports_the_stages_lazily() -> None:
    import wscc

    assert {"load_model", "load_hardware", "compile", "evaluate", "save"} <= set(dir(wscc))
    assert wscc.load_hardware("wse2").bind().cores == 850_000
    with pytest.raises(AttributeError, match="module 'wscc' has no attribute 'lode'"):
        _ = wscc.lode


def test_constraints_on_power_hold_in_python_too(tmp_path: Path) -> None:
    import wscc

    shipped = Path(__file__).parents[2] / "specs" / "wse2.wsc"
    path = tmp_path / "hot.wsc"
    path.write_text(shipped.read_text() + "constraint power(wse) <= 1 kW\n")
    assert [line.holds for line in wscc.load_hardware(path).bind().constraints] == [True, False]


def test_sizes_that_are_no_counts_are_refused_in_python_too() -> None:
    import wscc

    with pytest.raises(UserError, match="batch: 0 is no whole number from 1"):
        wscc.load_model("config.json", batch=0)
    with pytest.raises(UserError, match="context: -5 is no whole number from 1"):
        wscc.load_model("config.json", context=-5)


def test_a_command_leaves_the_callers_logger_as_it_was() -> None:
    logger = logging.getLogger("wscc")
    before = (logger.level, list(logger.handlers))
    assert main(["check", "wse2", "--quiet"]) == 0
    assert main(["check", "no-such-wafer"]) == 2
    assert (logger.level, list(logger.handlers)) == before
