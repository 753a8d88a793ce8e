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
    assert shown.startswith("small: valid, but it cannot be built as it is\n")
    assert "area(tile) <= 400 mm2: broken" in shown


def test_check_speaks_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(spec), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["name"]) == ("wscc.check/1", "small")
    assert report["facts"]["cores"] == 850_000
    (constraint,) = [line for line in report["constraints"] if not line["implied"]]
    assert constraint["holds"] is False
    assert constraint["unit"] == "m2"
    assert constraint["left"] == pytest.approx(510e-6)


SPACE = """\
wsc 1
use "wse2.wsc" as base
param columns = 154 in 138..170 step 16
param joint = sewn in {sewn, glued}
param gap = 1 mm in {1, 9} mm when joint == glued
link sewn { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
link glued { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit; gap = gap }
die tile { cores = 66 x columns of base.pe }
wafer w { size = 215 mm x 215 mm; dies = 12 x 7 of tile joined joint }
system { wafers = 1 of w }
constraint power(w) <= 26 kW
"""


def test_check_counts_the_points_of_a_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "space.wsc"
    path.write_text(SPACE)
    assert main(["check", str(path), "--count", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["points"], report["designs"]) == ("wscc.count/1", 9, 9)
    assert report["broken"]["power(w) <= 26 kW"] == 3
    assert report["broken"]["wafer w: the height of its dies and gaps"] == 3
    assert report["feasible"] == 4
    assert main(["check", str(path), "--count", "--set", "joint=sewn"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "space: 3 points, 3 of them designs, 2 feasible (66.7%)",
        "  1 break power(w) <= 26 kW",
    ]


def test_a_space_of_which_nothing_can_be_built_is_exit_code_one(tmp_path: Path) -> None:
    path = tmp_path / "space.wsc"
    path.write_text(SPACE.replace("26 kW", "1 kW"))
    assert main(["check", str(path), "--count", "--json"]) == 1


def test_wafers_that_nothing_joins_are_checked_and_not_mapped_onto(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pair.wsc"
    path.write_text(SPACE.replace("1 of w ", "2 of w "))
    assert main(["check", str(path)]) == 0
    capsys.readouterr()
    config = Path(__file__).parents[2] / "examples" / "llama-3.1-8b"
    assert main(["--hw", str(path), "--model", str(config)]) == 2
    assert capsys.readouterr().err == (
        "error: pair can be checked, but models are not mapped onto it: nothing joins its 2 wafers "
        "or nodes\n"
    )


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
    lines = wscc.load_hardware(path).bind().constraints
    assert [line.holds for line in lines if not line.implied] == [True, False]


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
