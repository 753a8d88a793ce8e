"""A search: a study begun in its folder, or gone on with, until its budget is spent."""

import warnings
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...dse.budget import read_budget
from ...dse.coordinator import Coordinator, Progress, Stopped
from ...dse.engines import make_engine
from ...dse.evaluator import Optimist
from ...dse.objective import Objective
from ...dse.store import Store
from ...dse.strategies import DEFAULT, make
from ...dse.strategy import Problem
from ...dse.study import StudyInfo
from ...ir.errors import UserError, nearest
from ...report.study_data import Unit
from ...report.study_table import status_lines
from .. import pipeline
from ..model_options import ModelOptions
from .asked import Search, Work
from .described import workloads_of
from .live import preparing, watching
from .mirror import Mirror
from .opened import Opened
from .reading import say, status_of
from .spec_text import units_of

if TYPE_CHECKING:
    from ...dse.hardware_space import HardwareDesigns
    from ...dse.mapped import MappedEvaluator
    from ...dse.workloads import Task


def search(asked: Search) -> int:
    """Carry out `wscc-dse --hw FILE --model CONFIG`: 1 where no design ended with figures within
    every limit, or evaluations kept failing. Raises UserError."""
    with warnings.catch_warnings():
        if asked.talk.verbosity < 2:
            warnings.simplefilter("ignore")  # Of libraries, about what no user can change.
        return _search(asked)


def _search(asked: Search) -> int:
    budget = read_budget(asked.budget)
    with preparing(asked.talk):
        designs, evaluator = _subject(asked)
        problem = Problem(
            space=designs,
            objectives=_apart(asked, evaluator.tasks),
            limits=asked.limits,
            rungs=evaluator.rungs,
            budget=budget.evaluations,
            optimist=_optimist(designs, evaluator),
        )
        _check_figures(evaluator, designs, problem)
        options: dict[str, Any] = {} if asked.epsilon is None else {"epsilon": asked.epsilon}
        strategy = make(asked.strategy or DEFAULT, problem, asked.seed, **options)
        info = _info(asked, designs, evaluator, problem, options)
    engine = make_engine(asked.engine, asked.workers, asked.timeout_s, asked.address)
    with closing(engine), Store.create(asked.study, info) as store:
        study = Opened.of(asked.study, store)
        mirror = _mirror(asked, study, designs)
        with watching(study, asked.talk) as show:

            def on_change(progress: Progress) -> None:
                if mirror is not None and progress.trial is not None:
                    mirror.add([progress.trial])
                show(progress)

            stopped = Coordinator(
                store,
                strategy,
                evaluator,
                problem,
                engine,
                budget,
                retries=asked.retries,
                on_change=on_change,
            ).run()
        return _end(study, asked, stopped)


def _end(study: Opened, asked: Search, stopped: Stopped) -> int:
    status = status_of(study)
    report = status.to_json() | {"reason": stopped.reason}
    say(asked.talk, "search", report, status_lines(status))
    return 0 if status.front and stopped.reason != "failures" else 1


def _subject(asked: Search) -> "tuple[HardwareDesigns, MappedEvaluator]":
    """The designs of a search, and what judges them; raises UserError for mistakes in either."""
    from ...dse.hardware_space import HardwareDesigns
    from ...dse.mapped import MappedEvaluator
    from ...dse.spec_texts import SpecTexts

    spec = SpecTexts.of(asked.hardware)
    space = spec.load()
    pipeline.bind(space, dict(asked.overrides))
    designs = HardwareDesigns(space, dict(asked.overrides))
    if not designs.names:
        raise UserError(
            f"{asked.hardware}: leaves no parameter open, there is nothing to search; give one "
            "more than one value, as in 'param rows = 8 in 4..32 step 4'"
        )
    tasks = tuple(_task(work) for work in asked.workloads)
    evaluator = MappedEvaluator(spec, tasks, asked.overrides, asked.combine, asked.fidelity)
    evaluator.check()
    return designs, evaluator


def _optimist(designs: "HardwareDesigns", evaluator: "MappedEvaluator") -> Optimist:
    from ...dse.optimist import DesignOptimist

    return DesignOptimist(designs, evaluator)


def _task(work: Work) -> "Task":
    from ...dse.workloads import Task

    config = pipeline.read_config(work.model, ModelOptions(dtype=work.dtype))
    sizes = work.batch, work.sequence, work.context
    return Task(work.name, config, work.phase, *sizes, weight=work.weight)


def _apart(asked: Search, tasks: "Sequence[Task]") -> tuple[Objective, ...]:
    """The objectives, a plain one of workloads that stay apart being one of each."""
    from ...dse.workloads import shared

    if len(tasks) == 1 or asked.combine != "separate":
        return asked.objectives
    return tuple(
        Objective(figure, each.direction)
        for each in asked.objectives
        for figure in (
            (each.figure,)
            if "/" in each.figure or shared(each.figure)
            else (f"{task.name}/{each.figure}" for task in tasks)
        )
    )


def _check_figures(
    evaluator: "MappedEvaluator", designs: "HardwareDesigns", problem: Problem
) -> None:
    """Judge the spec's defaults at the cheapest fidelity, and raise UserError for an objective or
    a limit whose figure is not among theirs; says nothing where they cannot do the work."""
    from ...dse.design import Design

    chosen = designs.bind(Design(())).parameters
    default = Design.of({name: chosen[name] for name in designs.names if name in chosen})
    known = evaluator.evaluate(default, evaluator.rungs[0].name).figures
    for each in (*problem.objectives, *problem.limits):
        if known and each.figure not in known:
            flag = "--objective" if isinstance(each, Objective) else "--constraint"
            raise UserError(
                f"{flag} {each}: the report has no figure '{each.figure}'"
                f"{nearest(each.figure, known)}"
            )


def _info(
    asked: Search,
    designs: "HardwareDesigns",
    evaluator: "MappedEvaluator",
    problem: Problem,
    options: dict[str, Any],
) -> StudyInfo:
    units = units_of(designs.space)
    written = {name: units.get(name, Unit()) for name in designs.names}
    return StudyInfo(
        hardware=evaluator.spec.main,
        files=dict(evaluator.spec.files),
        shipped=dict(evaluator.spec.shipped),
        workloads=workloads_of(asked.workloads, evaluator.tasks),
        objectives=[str(each) for each in problem.objectives],
        limits=[str(each) for each in problem.limits],
        rungs=[rung.name for rung in problem.rungs],
        strategy=asked.strategy or DEFAULT,
        options=options,
        parameters={name: (unit.name, unit.one) for name, unit in written.items()},
        seed=asked.seed,
        budget=asked.budget,
        evaluator_version=evaluator.version,
        wscc_version=__version__,
        overrides=dict(asked.overrides),
        combine=asked.combine,
        engine=asked.engine,
    )


def _mirror(asked: Search, study: Opened, designs: "HardwareDesigns") -> Mirror | None:
    """The Optuna journal that is asked for, with what the study holds already."""
    if asked.journal is None:
        return None
    parameters = designs.space.parameters
    wanted = study.objectives, study.limits
    mirror = Mirror(asked.journal, study.name, *wanted, study.top, parameters)
    mirror.add(study.store.trials(fidelity=study.top))
    return mirror
