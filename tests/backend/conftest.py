"""Hardware with round numbers, mapped graphs written by hand, and a small model to compile.

Fixtures yield them because test modules cannot import each other.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.frontend.model import load_model
from wscc.ir.graph import Model, Op, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Sharding, replicated
from wscc.ir.pins import Pins
from wscc.ir.program import Layout, Program, Rectangle, Stage, Strategy, Workload
from wscc.ir.text import parse_model
from wscc.passes.compile import Compiler
from wscc.passes.lay_out import mesh_of

MakeHardware = Callable[..., Hardware]
MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]
Compile = Callable[..., Program]


@pytest.fixture(scope="session")
def wse2() -> Hardware:
    """The shipped spec."""
    return load_hardware("wse2").bind()


@pytest.fixture(scope="session")
def make_hardware(wse2: Hardware) -> MakeHardware:
    """The WSE-2 with 10 cycles to issue and 100 to launch, and fields of its parts changed:
    `make_hardware(router={"multicast": False}, die={"columns": 8})`."""

    def make(**changes: Mapping[str, Any]) -> Hardware:
        def changed(part: str, old: Any, **more: Any) -> Any:
            return replace(old, **more, **changes.get(part, {}))

        wafer, core = wse2.wafer, wse2.core
        software = replace(core.software, issue_cycles=10.0, launch_cycles=100.0)
        core = changed(
            "core",
            core,
            sram=changed("sram", core.sram),
            router=changed("router", core.router),
            software=changed("software", software),
            technology=changed("technology", core.technology),
        )
        die = changed("die", wafer.die, core=core)
        link = changed("link", wafer.link)
        return replace(wse2, wafer=changed("wafer", wafer, die=die, link=link))

    return make


@pytest.fixture(scope="session")
def make_graph() -> MakeGraph:
    """A mapped graph from its text; values that are not named lie whole on every device."""

    def make(text: str, shardings: Mapping[str, Sharding]) -> MappedGraph:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        head = 'model "m" phase=decode dtype=float16\ngraph main {'
        model = parse_model("\n".join((head, *(f"  {line}" for line in lines), "}\n")))
        graph = model.main
        graph.verify()
        lying = {
            name: shardings.get(name, replicated(len(type_.shape)))
            for name, type_ in graph.types.items()
        }
        return MappedGraph(graph, lying)

    return make


PASS_ON = """
  input %h: float16[{tokens}, {features}] = carried h
  %o: float16[{tokens}, {features}] = elementwise(%h) {{indices = "sf->sf", expr = "a * 2.0"}}
  output %o = carried h
"""


@pytest.fixture(scope="session")
def make_stages(make_graph: MakeGraph) -> Callable[..., Program]:
    """A program whose stages double what they are given and pass it on.

    `places` has for every stage the corners of its rectangles, one a replica.
    """

    def make(
        hardware: Hardware,
        layout: Layout,
        region: tuple[int, int],
        places: list[list[tuple[int, int]]],
        features: int,
        tokens: int = 1,
        batch: int = 1,
    ) -> Program:
        text = PASS_ON.format(tokens=tokens, features=features)
        rows, columns = ("yh", "yd"), ("xh", "xd")
        lying = Sharding(((), rows) if layout == "matvec" else (rows, columns))
        mapped = make_graph(text, {"h": lying, "o": lying})
        type_ = mapped.graph.types["o"]
        stages = tuple(
            Stage(
                calls=(
                    Op("repeat", (f"v{at}",), (f"v{at + 1}",), (type_,),
                       {"body": "main", "first": at, "count": 1}),
                ),
                places=tuple(Rectangle(*corner, *region) for corner in corners),
            )
            for at, corners in enumerate(places)
        )  # fmt: skip
        return Program(
            model="doubling",
            parameters=0,
            layers=len(places),
            flops=0,
            workload=Workload("decode", batch, 1, 1, "float16"),
            hardware=hardware,
            mapping=Strategy(max(1, len(places[0])), len(places), region, layout, 1, 1),
            mesh=mesh_of(*region, 1, layout),
            graphs={"main": mapped},
            stages=stages,
            given=("v0",),
        )

    return make


SMALL: dict[str, Any] = {
    "model_type": "llama",
    "dtype": "float16",
    "vocab_size": 2000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Phase], Model]:
    """A small Llama, traced once a phase."""
    path = tmp_path_factory.mktemp("small") / "config.json"
    path.write_text(json.dumps(SMALL))
    traced: dict[Phase, Model] = {}

    def make(phase: Phase) -> Model:
        if phase not in traced:
            traced[phase] = load_model(str(path), phase)[1]
        return traced[phase]

    return make


@pytest.fixture(scope="session")
def compile_small(small_model: Callable[[Phase], Model], make_hardware: MakeHardware) -> Compile:
    """The small model as a program; pins by name, hardware and sizes as keywords."""
    usual = make_hardware()

    def compile_(
        phase: Phase = "decode",
        hardware: Hardware | None = None,
        batch: int = 1,
        sequence: int = 64,
        context: int = 255,
        layers: int | None = None,
        **pins: Any,
    ) -> Program:
        workload = Workload(phase, batch, sequence, context, "float16")
        compiler = Compiler(hardware or usual, workload, Pins(**pins), layers)
        return compiler.compile(small_model(phase))

    return compile_
