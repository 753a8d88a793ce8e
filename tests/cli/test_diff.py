"""`wscc diff`: two reports, two specs, and runs of one model on two specs."""

import json
from pathlib import Path
from typing import Any

import pytest
import wscc
from wscc.cli.main import main
from wscc.report.difference import difference, table

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float16",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
REPORT = {
    "schema": "wscc.report/1",
    "feasible": True,
    "hardware": {"name": "a", "cores": 1000},
    "mapping": {"region": [2, 3], "dp": 1},
    "latency_s": 0.002,
    "energy_j": 0.0,
    "infeasible": [],
    "bottleneck": {"kind": "noc", "where": "rows"},
    "timings_s": {"total": 1.0},
}


def saved(folder: Path, **changes: Any) -> str:
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(REPORT | changes))
    return str(folder)


def test_what_changed_is_told_from_what_it_did() -> None:
    after = REPORT | {"hardware": {"name": "a", "cores": 1500}, "latency_s": 0.001}
    made = difference(REPORT, after)
    (cores,) = made["changed"]
    assert cores == {"key": "hardware.cores", "before": 1000, "after": 1500, "ratio": 1.5}
    figures = {pair["key"]: pair for pair in made["figures"]}
    assert figures["latency_s"]["ratio"] == 0.5
    assert figures["energy_j"]["ratio"] is None, "nothing is a multiple of zero"
    assert not any(key.startswith("timings_s") for key in figures)


def test_the_table_leaves_out_what_is_equal() -> None:
    after = REPORT | {
        "mapping": {"region": [4, 3], "dp": 1},
        "latency_s": 0.05,
        "bottleneck": {"kind": "compute", "where": "rows"},
        "infeasible": [{"resource": "memory", "where": "core", "demand": 3.0}],
    }
    assert table(difference(REPORT, after), ("a", "b")).splitlines() == [
        "a -> b",
        "what changed:",
        "  mapping.region  2 x 3  4 x 3",
        "what it did:",
        "  latency_s        2.00 ms      50.0 ms  x 25.0",
        "  infeasible             -  memory core",
        "  bottleneck.kind      noc      compute",
    ]
    assert table(difference(REPORT, REPORT), ("a", "a")) == "a -> a\nno difference\n"


def test_reports_are_found_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = saved(tmp_path / "a"), saved(tmp_path / "b", latency_s=0.003)
    assert main(["diff", a, f"{b}/report.json", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    (latency,) = [pair for pair in made["figures"] if pair["key"] == "latency_s"]
    assert (made["schema"], latency["ratio"]) == ("wscc.diff/1", pytest.approx(1.5))


def test_specs_are_compared_by_their_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "wse2", "wse3", "--json"]) == 0
    figures = {p["key"]: p for p in json.loads(capsys.readouterr().out)["figures"]}
    assert (figures["facts.cores"]["before"], figures["facts.cores"]["after"]) == (850000, 900000)


def test_a_model_is_run_on_both_specs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    flags = ["--model", str(path), "--phase", "decode", "--context", "8", "--region", "4x4"]
    assert main(["diff", "wse2", "wse3", *flags, "--quiet", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    found = {pair["key"]: pair for pair in made["figures"]}
    for at, name in (("before", "wse2"), ("after", "wse3")):
        assert main(["--hw", name, *flags, "--quiet", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert found["latency_s"][at] == report["latency_s"]
    assert "hardware.cores" in {pair["key"] for pair in made["changed"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wse2",), "expected two reports or specs"),
        (("wse2", "wse4"), "did you mean"),
        (("{report}", "wse2"), "expected two of a kind"),
        (("{other}", "wse2"), "expected the schema wscc.report/1"),
        (("{broken}", "wse2"), "is no JSON"),
        (("{none}", "wse2"), "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_one_message(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"report": saved(tmp_path / "a"), "none": str(tmp_path / "none.json")}
    for name, text in (("other", "{}"), ("broken", "{")):
        (tmp_path / f"{name}.json").write_text(text)
        places[name] = str(tmp_path / f"{name}.json")
    assert main(["diff", *(each.format(**places) for each in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_of_two_specs_the_parts_that_differ_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = (Path(wscc.__path__[0]) / "specs" / "wse2.wsc").read_text()
    faster = spec.replace("1.1 GHz", "1.3 GHz")
    assert faster != spec
    for name, text in {"slow.wsc": spec, "fast.wsc": faster}.items():
        (tmp_path / name).write_text(text)
    assert main(["diff", str(tmp_path / "slow.wsc"), str(tmp_path / "fast.wsc")]) == 0
    lines = capsys.readouterr().out.splitlines()
    changed = lines[lines.index("what changed:") : lines.index("what it did:")]
    (clock,) = [line.split() for line in changed if "core.clock_hz" in line]
    assert clock[1:] == ["1.10", "GHz", "1.30", "GHz", "+18%"]
    assert not [line for line in changed if "sram" in line], "only what differs"
    (peak,) = [line for line in lines if "peak_flops.float16" in line]
    assert "PFLOP/s" in peak


def test_figures_are_in_their_units() -> None:
    before = REPORT | {"mfu": 0.25, "model": {"flops": 2e9}, "energy": {"sram": 0.5}}
    after = REPORT | {"mfu": 0.125, "model": {"flops": 4e9}, "energy": {"sram": 0.25}}
    shown = table(difference(before, after), ("a", "b"))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "model.flops 2.00 GFLOP 4.00 GFLOP +100%" in lines
    assert "mfu 25% 12% -50%" in lines
    assert "energy.sram 500 mJ 250 mJ -50%" in lines
