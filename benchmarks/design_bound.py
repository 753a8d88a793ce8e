"""How tight the design bound is and how fast, and what the rungs of an evaluator cost.

    python benchmarks/design_bound.py [--spec theseus] [--designs 20] [--fluid] [--all]

For each workload, random designs: the design bound over the program bound (the least of all
strategies) and, with --fluid, over what the design takes; seconds of each. Then designs bounded a
second, and programs a second. With --all every point of the spec is filtered and bounded.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import numpy as np
import wscc
from wscc.backend.evaluate import evaluate
from wscc.backend.timing import Timing
from wscc.dse.design import columns_of
from wscc.dse.hardware_space import HardwareDesigns
from wscc.dse.mapped import MappedEvaluator
from wscc.dse.objective import read_objective
from wscc.dse.optimist import DesignOptimist
from wscc.dse.spec_texts import SpecTexts
from wscc.dse.trial import Outcome
from wscc.dse.workloads import Task
from wscc.frontend.model import read_config

EXAMPLES = Path(wscc.__path__[0]) / "examples"
GPT = {
    "model_type": "gpt2", "n_embd": 2304, "n_head": 24, "n_layer": 24, "vocab_size": 51200,
    "n_positions": 2048, "torch_dtype": "bfloat16",
}  # fmt: skip
"""Row 0 of Theseus' workloads (arXiv 2407.02079): 1.7 billion parameters, a batch of 512."""
LATENCY = read_objective("latency_s")


def tasks(gpt: str) -> list[Task]:
    """Decode and prefill of Llama-3.1-8B, training of a GPT."""
    llama = read_config(str(EXAMPLES / "llama-3.1-8b"))
    return [
        Task("decode", llama, "decode", batch=8, context=2048),
        Task("prefill", llama, "prefill", batch=4, sequence=2048),
        Task("training", read_config(gpt), "train", batch=512, sequence=2048),
    ]


def tightness(optimist: DesignOptimist, designs: int, fluid: bool) -> None:
    """Print shares of the design bound, least, median and most, and seconds of an evaluation."""
    evaluator, names = optimist.evaluator, optimist.designs.names
    drawn = optimist.designs.sample(designs, np.random.default_rng(0))
    least = optimist.optimistic(columns_of(drawn, names), [LATENCY])[:, 0]
    evaluator.evaluate(drawn[0], "bound")
    for rung in ("bound", "fluid")[: 1 + fluid]:
        outcomes = [evaluator.evaluate(design, rung) for design in drawn]
        print(f"  {rung:<6} {shares(least, outcomes)}")


def shares(least: np.ndarray, outcomes: Sequence[Outcome]) -> str:
    """In words, of the designs that can do the work."""
    found = [
        low / outcome.figures["latency_s"]
        for low, outcome in zip(least, outcomes, strict=True)
        if outcome.state == "done"
    ]
    seconds = float(np.mean([outcome.seconds for outcome in outcomes]))
    low, middle, high = np.quantile(found, [0, 0.5, 1])
    return (
        f"{len(found)} of {len(outcomes)} can do it; design bound {low:.2f}, {middle:.2f}, "
        f"{high:.2f} of it; {seconds:.2f} s"
    )


def speed(optimist: DesignOptimist) -> None:
    """Print how many designs are bounded a second of one core, and programs evaluated."""
    drawn = optimist.designs.sample(4000, np.random.default_rng(1))
    columns = columns_of(drawn, optimist.designs.names)
    started = process_time()
    optimist.optimistic(columns, [LATENCY])
    print(f"  {len(drawn) / (process_time() - started):,.0f} designs bounded a second")
    evaluator, task = optimist.evaluator, optimist.evaluator.tasks[0]
    hardware = optimist.designs.bind(drawn[0])
    compiler = evaluator.compiler(task, hardware)
    program = compiler.compile(evaluator.model(task))
    evaluate(program, "bound")
    runs: dict[str, Callable[[], object]] = {
        "bounded": lambda: Timing(program, "bound").latency_s,
        "reported at bound": lambda: evaluate(program, "bound"),
    }
    for what, run in runs.items():
        started = process_time()
        for _ in range(50):
            run()
        print(f"  {50 / (process_time() - started):,.0f} programs {what} a second")


def everything(optimist: DesignOptimist) -> None:
    """Filter and bound every point of the space."""
    started = process_time()
    points = legal = hopeful = 0
    for columns in optimist.designs.space.points(optimist.designs.fixed):
        allowed = optimist.designs.legal(columns)
        points, legal = points + len(allowed), legal + int(allowed.sum())
        some = {name: columns[name][allowed] for name in optimist.designs.names}
        if allowed.any():
            hopeful += int(np.isfinite(optimist.optimistic(some, [LATENCY])).sum())
    spent = process_time() - started
    print(f"  {points:,} points, {legal:,} legal, {hopeful:,} that may do the work: {spent:.0f} s")


def main() -> None:
    """Time what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", default="theseus")
    parser.add_argument("--designs", type=int, default=20)
    parser.add_argument("--fluid", action="store_true")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    spec = SpecTexts.of(options.spec)
    designs = HardwareDesigns(spec.load())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(GPT))
        for task in tasks(folder):
            print(f"{options.spec}, {task.name} of {task.config.name}")
            optimist = DesignOptimist(designs, MappedEvaluator(spec, (task,)))
            tightness(optimist, options.designs, options.fluid)
            speed(optimist)
            if options.all:
                everything(optimist)


if __name__ == "__main__":
    main()
