"""What all tests share: where reference data lies, golden files, a cache folder of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wscc.ir.result import (
    Bottleneck,
    HardwareFigures,
    MappingFigures,
    MemoryFigures,
    ModelFigures,
    NocFigures,
    OperatorFigures,
    Result,
    TriedFigures,
    WorkloadFigures,
)

Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reference", metavar="DIR", help="folder of the full reference data")
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    """Compiled code is kept between sessions: making it takes longer than most tests."""
    os.environ.setdefault("NUMBA_CACHE_DIR", str(config.rootpath / ".pytest_cache" / "numba"))


@pytest.fixture(scope="session")
def reference(request: pytest.FixtureRequest) -> Path:
    """The folder of the full reference data; skips the test where there is none."""
    named = request.config.getoption("--reference")
    if named is None:
        pytest.skip("needs the full reference data: --reference DIR")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.fail(f"--reference {named}: no such folder")
    return folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(name, text)` asserts that `text` is the file golden/`name` beside the test."""
    folder = request.path.parent / "golden"
    update = bool(request.config.getoption("--update-golden"))

    def check(name: str, text: str) -> None:
        path = folder / name
        if update:
            folder.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not path.exists():
            pytest.fail(f"no golden file {path}; make it with: pytest --update-golden")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder that the session's tests share, apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("WSCC_CACHE")
    os.environ["WSCC_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["WSCC_CACHE"]
    else:
        os.environ["WSCC_CACHE"] = before


@pytest.fixture(scope="session")
def sample_result() -> Result:
    """A made-up result of a decode step with a value of its own in every field."""
    return Result(
        fidelity="fluid",
        feasible=True,
        infeasible=(),
        model=ModelFigures("llama-8b", 8_030_261_248, 32, 16_060_000_000),
        hardware=HardwareFigures("wse2", 1, 84, 850_000, 46_225.0, 7.48e15, 4.178e10, 1.5e12),
        workload=WorkloadFigures("decode", 8, 1, 4096, "bfloat16"),
        mapping=MappingFigures(
            dp=1, tp=176_400, pp=4, ep=1, microbatch=2, interleave=1, recompute="none", zero=0,
            streaming=False, region=(420, 420), stages=4, objective=1.5e9, gap=0.25,
            layout="matvec", head_groups=8,
        ),
        latency_s=0.004,
        tokens_per_s=2000.0,
        power_w=14_500.0,
        power_peak_w=16_250.0,
        power_nameplate_w=22_900.0,
        energy_j=58.0,
        mfu=0.00429,
        breakdown={"compute_s": 0.0008, "noc_s": 0.0022, "memory_s": 0.0004, "bubble_s": 0.0006},
        energy={"sram": 30.0, "matrix": 6.0, "router": 2.0, "leakage": 20.0},
        bottleneck=Bottleneck("noc", "columns of stage 2", 0.55),
        memory=MemoryFigures(16_060_522_496, 4_294_967_296, 1_048_576, 0, 40_960, 47_104),
        noc=NocFigures(0.35, 0.0125, 3204),
        cycles_per_layer=137_500.0,
        operators=(OperatorFigures("matmul", "matmul", "model.layers.*.mlp", 900.0, 0.5),),
        tried=(
            TriedFigures(
                1, 4, (420, 420), "matvec", 8, 2, 0.003, 40_000, "chosen, evaluated at 0.004 s"
            ),
            TriedFigures(1, 2, (660, 660), "matvec", 8, 2, 0.005, 60_000, "does not fit"),
        ),
        dropped={"slower by bound": 1200, "memory does not suffice": 300},
        limits=("no contention between stages",),
    )  # fmt: skip
