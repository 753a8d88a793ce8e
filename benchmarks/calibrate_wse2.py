"""The two software constants of `specs/wse2.wsc`, and how well they predict.

Fits `issue` and `launch` of the software part so that the two published prefill rows come out,
then predicts the decode rows, which nothing was fitted on. Run it to see where the constants in
the spec come from:

    python benchmarks/calibrate_wse2.py
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import wscc
from scipy.optimize import root
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program

EXAMPLES = Path(__file__).parents[1] / "examples" / "waferllm"

CLOCK_HZ = 1.1e9
LAYERS = 32
PREFILL = {480: 20320.6, 720: 27686.5}
"""Mesh side: prompt tokens a second for 4096 tokens of LLaMA3-8B (WaferLLM, arXiv 2502.04563)."""
DECODE = {420: 2699.9, 660: 2243.3}
"""Mesh side: tokens a second at a context of 4096 (same source)."""
PADDED_TOKENS = {480: 4320, 720: 4320, 420: 4200, 660: 4620}
"""Prompt or context as the kernels pad it to the mesh."""


def measured_cycles(side: int) -> float:
    """Published cycles of one layer: the step's time over the layers."""
    if side in PREFILL:
        return 4096 / PREFILL[side] * CLOCK_HZ / LAYERS
    return CLOCK_HZ / DECODE[side] / LAYERS


def program(side: int, hardware: Hardware) -> Program:
    """One layer of the padded model on a square region."""
    phase = "prefill" if side in PREFILL else "decode"
    tokens = PADDED_TOKENS[side]
    model = wscc.load_model(
        EXAMPLES / f"llama3-8b-{side}.json",
        phase=phase,
        sequence=tokens,
        context=tokens,
        layers=1,
    )
    return wscc.compile(model, hardware, region=f"{side}x{side}")


def predicted_cycles(mapped: Program, issue: float, launch: float) -> float:
    """Cycles of the layer with other software constants."""
    hardware = mapped.hardware
    core = hardware.core
    software = dataclasses.replace(core.software, issue_cycles=issue, launch_cycles=launch)
    core = dataclasses.replace(core, software=software)
    die = dataclasses.replace(hardware.wafer.die, core=core)
    wafer = dataclasses.replace(hardware.wafer, die=die)
    changed = dataclasses.replace(hardware, wafer=wafer)
    return wscc.evaluate(dataclasses.replace(mapped, hardware=changed)).cycles_per_layer


def main() -> None:
    """Print the fitted constants and every row, predicted against measured."""
    hardware = wscc.load_hardware("wse2").bind()
    programs = {side: program(side, hardware) for side in (*PREFILL, *DECODE)}

    def errors(constants: Sequence[float]) -> list[float]:
        return [
            predicted_cycles(programs[side], *constants) / measured_cycles(side) - 1
            for side in PREFILL
        ]

    issue, launch = (float(x) for x in root(errors, (10.0, 200.0)).x)
    software = hardware.core.software
    print(f"fitted on prefill: issue {issue:.2f} cycles, launch {launch:.1f} cycles")
    print(f"in the spec:       issue {software.issue_cycles}, launch {software.launch_cycles}")
    print(f"{'side':>6} {'phase':>8} {'measured':>10} {'predicted':>10} {'error':>7}")
    for side, mapped in programs.items():
        cycles = predicted_cycles(mapped, software.issue_cycles, software.launch_cycles)
        phase = mapped.workload.phase
        error = cycles / measured_cycles(side) - 1
        print(f"{side:>6} {phase:>8} {measured_cycles(side):>10.0f} {cycles:>10.0f} {error:>+7.1%}")
    large, small = (wscc.evaluate(programs[side]).cycles_per_layer for side in (660, 420))
    measured = measured_cycles(660) / measured_cycles(420)
    print(f"660 over 420: measured {measured:.3f}, predicted {large / small:.3f}")


if __name__ == "__main__":
    main()
