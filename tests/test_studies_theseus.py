"""The study of Theseus' question: its workloads are those published, and its results still hold."""

import csv
import json
from pathlib import Path

import pytest
import wscc
from wscc.dse.design import Design
from wscc.dse.mapped import MappedEvaluator
from wscc.dse.spec_texts import SpecTexts
from wscc.dse.workloads import Task
from wscc.frontend.model import read_config

STUDY = Path(wscc.__path__[0]) / "examples" / "studies" / "theseus"
PUBLISHED = (1.7e9, 3.6e9, 7.5e9, 18.4e9, 39.1e9, 76.1e9, 145.6e9, 310.1e9, 529.6e9, 1008e9)
"""Parameters of Theseus' workloads 0 to 9 (arXiv 2407.02079), to one digit after the point."""
BATCHES = (512, 512, 512, 1024, 1536, 1792, 2304, 2160, 2520, 3072)
GPUS = (32, 64, 128, 256, 512, 1024, 1536, 1920, 2520, 3072)
SPECS = sorted((STUDY / "designs").glob("*.wsc"))


def lines(name: str) -> list[dict[str, str]]:
    with (STUDY / name).open() as file:
        return list(csv.DictReader(file))


def parameters(config: dict[str, int]) -> int:
    """Of a GPT whose head shares the embedding: weights, biases and norms."""
    hidden, layers = config["n_embd"], config["n_layer"]
    layer = 12 * hidden**2 + 13 * hidden
    return layers * layer + (config["vocab_size"] + config["n_positions"] + 2) * hidden


@pytest.mark.parametrize("row", range(10))
def test_a_row_has_the_parameters_published(row: int) -> None:
    config = json.loads((STUDY / f"gpt-{row}.json").read_text())
    assert parameters(config) == pytest.approx(PUBLISHED[row], rel=0.02, abs=0.05e9)
    assert (config["vocab_size"], config["n_positions"]) == (51200, 2048)


def test_batches_and_gpus_are_those_published() -> None:
    rows = lines("workloads.csv")
    assert tuple(int(row["batch"]) for row in rows) == BATCHES
    assert tuple(int(row["gpus"]) for row in rows) == GPUS


@pytest.mark.parametrize("name", ["cs2_cluster", "cs3_cluster", "dojo_cluster"])
def test_wafers_are_as_few_as_give_the_peak_of_the_gpus(name: str) -> None:
    space = wscc.load_hardware(str(STUDY / f"{name}.wsc"))
    for gpus in (GPUS[0], GPUS[-1]):
        hardware = space.bind(gpus=gpus)
        peak, wanted = hardware.peak_flops("bfloat16"), gpus * 312e12
        assert wanted <= peak < wanted + peak / hardware.wafers


def test_an_array_takes_less_of_dojos_sram_and_changes_nothing_else() -> None:
    space = wscc.load_hardware(str(STUDY / "dojo_cluster.wsc"))
    shipped = wscc.load_hardware("dojo").bind().wafer
    for array in (0, 1):
        wafer = space.bind(array=array).wafer
        assert wafer.area_m2 == shipped.area_m2
        assert wafer.power_w == pytest.approx(shipped.power_w)


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_a_shipped_design_can_be_built_and_has_the_peak_of_its_gpus(spec: Path) -> None:
    hardware = wscc.load_hardware(str(spec)).bind()
    assert all(line.holds for line in hardware.constraints)
    gpus = GPUS[int(spec.stem.split("-")[1])]
    assert 1 <= hardware.peak_flops("bfloat16") / (gpus * 312e12) <= 1.1


def test_there_are_designs_of_the_first_the_middle_and_the_last_row() -> None:
    assert {spec.stem.split("-")[1] for spec in SPECS} == {"0", "4", "9"}


def test_a_result_of_the_first_row_is_found_again() -> None:
    found = lines("results/designs.csv")
    (known,) = (x for x in found if (x["row"], x["array"], x["aim"]) == ("0", "0", "fast-a100"))
    config = read_config(str(STUDY / "gpt-0.json"))
    task = Task("training", config, "train", batch=BATCHES[0], sequence=2048)
    spec = SpecTexts.of(str(STUDY / "designs" / "row-0-array-0-fast.wsc"))
    outcome = MappedEvaluator(spec, (task,)).evaluate(Design(()), "fluid")
    assert outcome.state == "done"
    assert outcome.figures["model.parameters"] == parameters(dict(config.values))
    for figure in ("tokens_per_s", "power_w"):
        assert outcome.figures[figure] == pytest.approx(float(known[figure]), rel=1e-3)
