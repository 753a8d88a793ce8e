"""`wscc check`: a spec validated, summarized, set beside what is published; its points counted."""

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..ir.hardware import Constraint, Hardware
from ..report.json_report import print_json
from . import pipeline
from .asked import Check

if TYPE_CHECKING:
    from ..backend.physics.report import PhysicsFact
    from ..frontend.hardware import Fact, HardwareSpace
    from ..frontend.hardware.count import Counted
    from ..frontend.hardware.published import Compared

_LOG = logging.getLogger(__name__)


def check(command: Check) -> int:
    """Validate a spec and summarize its design; 1 where a constraint is broken.

    With `--count`, count the points of its space instead; 1 where none is feasible. Raises
    UserError.
    """
    space = pipeline.load_hardware(command.hardware)
    if command.count:
        return _count(space, command)
    hardware = pipeline.bind(space, dict(command.overrides))
    facts, compared = _facts(space, hardware), _beside_published(space.file.path, hardware)
    broken = [line for line in hardware.constraints if not line.holds]
    if command.talk.json:
        sys.stdout.write(print_json(report(space, hardware)))
    else:
        sys.stdout.write("\n".join(_lines(space.name, broken, facts, compared)) + "\n")
    return 1 if broken else 0


def _facts(space: "HardwareSpace", hardware: Hardware) -> "tuple[Fact | PhysicsFact, ...]":
    from ..backend.physics.report import physics_facts
    from ..frontend.hardware import summary
    from ..frontend.hardware.units import unit_name

    units = {
        name: "" if isinstance(parameter.like, str) else unit_name(parameter.like)
        for name, parameter in space.parameters.items()
    }
    return (*summary(hardware, units), *physics_facts(hardware))


def _beside_published(spec: Path, hardware: Hardware) -> "tuple[Compared, ...]":
    """The figures of a shipped spec that are published of its chip; none of another file."""
    from ..backend.physics.headline import headlines
    from ..frontend.hardware.published import compare, published_figures

    published = published_figures(spec)
    if not published:
        return ()
    computed = {key: (line.value, line.stated) for key, line in headlines(hardware).items()}
    return compare(published, computed)


def report(space: "HardwareSpace", hardware: Hardware) -> dict[str, Any]:
    """The object of schema `wscc.check/1` of a design of a space."""
    facts, compared = _facts(space, hardware), _beside_published(space.file.path, hardware)
    return {
        "schema": "wscc.check/1",
        "wscc_version": __version__,
        "name": space.name,
        "feasible": all(line.holds for line in hardware.constraints),
        "facts": {fact.key: fact.value for fact in facts if fact.label != "constraint"},
        "constraints": [asdict(line) | {"holds": line.holds} for line in hardware.constraints],
        "published": [
            asdict(line.published)
            | {
                "computed": line.computed,
                "difference": line.difference,
                "stated_share": line.stated,
            }
            for line in compared
        ],
    }


def _lines(
    name: str,
    broken: list[Constraint],
    facts: "tuple[Fact | PhysicsFact, ...]",
    compared: "tuple[Compared, ...]",
) -> list[str]:
    verdict = "valid, but it cannot be built as it is" if broken else "valid"
    width = max(len(fact.label) for fact in facts)
    lines = [f"{name}: {verdict}", *(f"  {fact.label:<{width}}  {fact.text}" for fact in facts)]
    if compared:
        width = max(len(line.published.figure) for line in compared)
        lines.append("beside what is published of it:")
        lines += [f"  {line.published.figure:<{width}}  {line.text}" for line in compared]
    return lines


def _count(space: "HardwareSpace", command: Check) -> int:
    from ..frontend.hardware.count import count

    started = perf_counter()
    shown = sys.stderr.isatty() and not command.talk.quiet and not command.talk.json

    def progress(points: int) -> None:
        if shown:
            sys.stderr.write(f"\r{points:,} points")
            sys.stderr.flush()

    counted = count(space, dict(command.overrides), progress)
    if shown:
        sys.stderr.write("\r\033[K")
    spent_s = perf_counter() - started
    _LOG.info("%s: counted in %.1f s", space.name, spent_s)
    if command.talk.json:
        heading = {"schema": "wscc.count/1", "wscc_version": __version__, "name": space.name}
        report = heading | asdict(counted) | {"timings_s": {"total": spent_s}}
        sys.stdout.write(print_json(report))
    else:
        sys.stdout.write("\n".join(_counted_lines(space.name, counted)) + "\n")
    return 0 if counted.feasible else 1


def _counted_lines(name: str, counted: "Counted") -> list[str]:
    share = counted.feasible / counted.points if counted.points else 0.0
    lines = [
        f"{name}: {counted.points:,} points, {counted.designs:,} of them designs, "
        f"{counted.feasible:,} feasible ({share:.1%})"
    ]
    return lines + [
        f"  {broken:>{len(f'{counted.points:,}')},} break {text}"
        for text, broken in counted.broken.items()
        if broken
    ]
