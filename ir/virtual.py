"""The mapped program, run on virtual devices: how the compiler is known to be right.

Every device of a stage's mesh holds only its own blocks, all devices run the same operators on
them (virtual_ops.py), and only collectives see more than one device. Blocks are exact (the last
may be short or empty), so nothing depends on what padding would hold.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .program import Program
from .virtual_passage import Passage, loaded
from .virtual_replicas import Held
from .virtual_training import run_training

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]


def run_program(program: Program, state: "State", replica: int = 0) -> dict[str, "Tensor"]:
    """The outputs of a program by source, as `interpreter.run_model` gives them, for one replica
    and one micro-batch; a training step of several is run by `run_training`.

    What other replicas hold of the experts is there too, and runs for this one's tokens. Stages
    are visited in the order of `program.visits` and pass whole values to each other. Raises
    VerificationError where a device reads what it does not hold.
    """
    if program.workload.phase == "train":
        trained = run_training(program, [state])
        return {**trained.microbatches[0], **trained.outputs}
    homes = range(program.mapping.ep) if program.mapping.ep > 1 else (None,)
    group = [Held(blocks=loaded(program, state, home)) for home in homes]
    own = replica % program.mapping.ep
    passage = Passage(program, state, group[own], home=homes[own], group=group)
    for visit in program.visits:
        passage.visit(visit)
    return passage.outputs
