"""Verbs that give a study work: `enqueue` a design, `retry` what failed. A search takes it up at
once where one is running, else the next one does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...dse.design import Design, columns_of
from ...dse.trial import Suggestion
from ...ir.errors import UserError, nearest
from .asked import Enqueue, Retry
from .described import row_of, spec_of
from .opened import Opened, opened
from .reading import say

if TYPE_CHECKING:
    from ...dse.hardware_space import HardwareDesigns


def carry_out(asked: Enqueue | Retry) -> int:
    """Carry out a verb that gives work: the exit code. Raises UserError."""
    with opened(asked.study, write=True) as study:
        return _enqueue(study, asked) if isinstance(asked, Enqueue) else _retry(study, asked)


def _retry(study: Opened, asked: Retry) -> int:
    numbers = study.store.retry(asked.trials or None)
    what = ", ".join(str(number) for number in numbers) or "none: nothing failed"
    say(asked.talk, "retry", {"trials": numbers}, [f"to be tried again: {what}"])
    return 0


def _enqueue(study: Opened, asked: Enqueue) -> int:
    fidelity = study.fidelity(asked.fidelity)
    designs = designs_in(study)
    design = _design(
        designs, dict(asked.values) if asked.file is None else _in_file(designs, asked)
    )
    if not designs.legal(columns_of([design], designs.names))[0]:
        hardware = designs.bind(design)
        broken = [line.text for line in hardware.constraints if not line.holds]
        raise UserError(f"this design cannot be built: {'; '.join(broken)}")
    trial = study.store.enqueue(Suggestion(design, fidelity, "enqueued"))
    row = row_of(trial)
    report = {"trial": row.number, "state": row.state, "design": dict(row.values)}
    lines = [f"trial {row.number} at {fidelity}, {row.state}: {study.head.design(row.values)}"]
    say(asked.talk, "enqueue", report, lines)
    return 0


def designs_in(study: Opened) -> "HardwareDesigns":
    """The space that a study searches, from the texts that it keeps."""
    from ...dse.hardware_space import HardwareDesigns

    info = study.store.info
    return HardwareDesigns(spec_of(info).load(), dict(info.overrides))


def _in_file(designs: "HardwareDesigns", asked: Enqueue) -> dict[str, str | float]:
    """The defaults of a spec for the parameters of the space; raises UserError without one."""
    from ..pipeline import load_hardware

    chosen = load_hardware(asked.file or "").bind().parameters
    for name in designs.names:
        if name not in chosen and designs.space.parameters[name].when is None:
            raise UserError(f"{asked.file}: has no parameter '{name}', which the study searches")
    return {name: chosen[name] for name in designs.names if name in chosen}


def _design(designs: "HardwareDesigns", given: Mapping[str, str | float]) -> Design:
    """The design with these values, the others at the space's defaults; raises UserError."""
    for name in given:
        if name not in designs.names:
            fixed = "is held fixed by the study" if name in designs.fixed else "is not searched"
            raise UserError(f"parameter '{name}' {fixed}{nearest(name, designs.names)}")
    chosen = designs.space.bind({**designs.fixed, **given}).parameters
    return Design.of({name: chosen[name] for name in designs.names if name in chosen})
