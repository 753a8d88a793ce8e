"""Predictions beside measurements, cohort by cohort: what `wscc validate` prints."""

from collections.abc import Iterator
from pathlib import Path

from ...ir.errors import UserError, nearest
from .figure import Cohort, Figure


def cohorts() -> tuple[Cohort, ...]:
    """All kinds of measurements, the quick ones first."""
    from .gpu_operators import operators, prompts
    from .gpu_training import training as gpu_training
    from .others import chips, network
    from .wafer import inference, training

    return (
        Cohort("chips", "chips", chips),
        Cohort("gpu-operators", "GPU operators", operators),
        Cohort("gpu-inference", "GPU inference", prompts),
        Cohort("wafer-inference", "WSE-2 inference", inference),
        Cohort("wafer-training", "CS-2 training", training),
        Cohort("gpu-training", "GPU training", gpu_training),
        Cohort("network", "network", network),
    )


def figures(folder: Path | None, only: str | None = None) -> Iterator[Figure]:
    """Every figure of a folder, or of those carried here, as it is computed.

    Raises UserError for a cohort that does not exist, or a file that is wrong.
    """
    keys = [cohort.key for cohort in cohorts()]
    if only is not None and only not in keys:
        hint = nearest(only, keys) or f", expected one of {', '.join(keys)}"
        raise UserError(f"--cohort: unknown cohort '{only}'{hint}")
    for cohort in cohorts():
        if only in (None, cohort.key):
            yield from cohort.figures(folder)
