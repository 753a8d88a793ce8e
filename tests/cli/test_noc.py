"""`wscc noc`: what it prints of one case and of a folder, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from wscc.cli.main import main

ROUTER = {
    "num_vcs": 4, "vc_buf_size": 8, "routing_delay": 1, "vc_alloc_delay": 1, "sw_alloc_delay": 1,
    "st_final_delay": 1, "speculative": 0, "credit_delay": 1,
}  # fmt: skip


def case(name: str, **fields: Any) -> dict[str, Any]:
    """Two equal rows; a message takes 4 * 4 + 3 + 3 + 15 cycles."""
    return {
        "id": name,
        "family": "ring",
        "kind": "plain",
        "mesh": {"w": 4, "h": 2},
        "router": ROUTER,
        "max_packet_flits": 16,
        "messages": [[0, 3, 16, 0], [4, 7, 16, 0]],
        "result": {"makespan": 40, "finish": [40, 40], "booksim_cpu_s": 2.0},
    } | fields


def write(folder: Path, *cases: dict[str, Any]) -> Path:
    for each in cases:
        (folder / f"{each['id']}.json").write_text(json.dumps(each))
    return folder


def test_a_case_is_one_object_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, case("one")) / "one.json"
    assert main(["noc", str(path), "--fidelity", "flit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["id"], found["fidelity"]) == ("wscc.noc/1", "one", "flit")
    assert (found["makespan"], found["reference"]) == (37, 40)
    assert found["error"] == pytest.approx(-0.075)
    assert (found["pieces"], found["distinct_pieces"]) == (2, 1)
    assert found["finish"] == [37, 37]
    assert found["hottest"][0] == {"channel": "0 -> 1", "flits": 16, "busy": 16 / 37}


def test_a_case_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, case("one")) / "one.json"
    assert main(["noc", str(path), "--fidelity", "fluid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one: 4 x 2 routers, 2 messages, 32 flits"
    assert lines[1] == "  makespan   37 cycles at 'fluid', -7.50% against the recorded result"
    assert lines[2] == "  finish     first 37, median 37, 95th percentile 37"
    assert lines[3] == ("  simulated  1 of 2 independent pieces; the others are copies of them")
    assert lines[5] == "  hottest    0 -> 1                  16 flits, busy  43.2%"


def test_a_folder_is_compared_case_by_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = case("two", family="other", result={"makespan": 37, "finish": [37, 37]})
    write(tmp_path, case("one"), exact)
    assert main(["noc", "--compare", str(tmp_path), "--fidelity", "flit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["cases", "mape_makespan", "p95_makespan", "mape_finish"]
    keys = ["id", "family", "kind", "makespan", "reference", "error", "seconds"]
    assert [list(each) for each in found["cases"]] == [keys, keys]
    assert [each["id"] for each in found["cases"]] == ["one", "two"]
    assert [each["error"] for each in found["cases"]] == pytest.approx([-0.075, 0])
    assert found["mape_makespan"] == pytest.approx(0.0375)
    assert found["p95_makespan"] == pytest.approx(0.075 * 0.95)
    assert found["mape_finish"] == pytest.approx(0.0375)


def test_a_comparison_is_a_table_by_kind_and_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, case("one"), case("two", family="other", kind="dead"))
    assert main(["noc", "--compare", str(tmp_path), "--fidelity", "bound"]) == 0
    text = capsys.readouterr().out
    for line in (
        "all cases                2   7.50%   7.50%   7.50%   7.50%",
        "kind dead                1   7.50%   7.50%   7.50%   7.50%",
        "family ring              1   7.50%   7.50%   7.50%   7.50%",
        "worst  one                                     37 for        40 cycles, -7.50%",
    ):
        assert line in text
    assert "recorded for the reference 4.00 s" in text
    assert "to load or compile the simulator" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("noc", "error: wscc noc: CASE.json or --compare DIR is missing"),
        (
            "noc a.json --compare b",
            "error: wscc noc: CASE.json and --compare exclude each other",
        ),
        (
            "noc a.json --fidelity flits",
            "error: --fidelity: 'flits' is not one of bound, fluid, flit, did you mean 'flit'?",
        ),
        ("noc a.json --budget 0", "error: --budget: '0' is no whole number from 1 to"),
        ("noc nothing.json", "nothing.json: error: cannot be read: No such file or directory"),
        ("noc --compare nothing", "error: --compare: nothing cannot be read: No such file"),
    ],
)
def test_what_cannot_be_run_is_one_message(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert capsys.readouterr().err.startswith(message)


def test_mistakes_in_a_folder_name_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["noc", "--compare", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: --compare: there is no case (*.json) in {tmp_path}\n"
    write(tmp_path, case("one", result=None))
    assert main(["noc", "--compare", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err == f"{tmp_path}/one.json: error: has no result to compare with\n"


def test_a_case_beyond_its_budget_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, case("one")) / "one.json"
    assert main(["noc", str(path), "--fidelity", "flit", "--budget", "10"]) == 2
    assert capsys.readouterr().err.startswith(
        f"{path}: error: simulating 64 flits through routers would take about 0 s, "
        "and the budget is 10"
    )
