"""A study mirrored to an Optuna journal, which optuna-dashboard shows: needs wscc[optuna].

Only the top fidelity is there: Optuna knows no other. The store is what is searched and resumed
from; the journal is written and never read but for what it already has.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...dse.objective import Direction, Limit, Objective
from ...dse.trial import ENDED, Trial
from ...ir.errors import Location, UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from ...frontend.hardware.domain import Parameter


class Mirror:
    """An Optuna study in a journal file, opened or begun."""

    def __init__(
        self,
        file: str,
        name: str,
        objectives: Sequence[Objective],
        limits: Sequence[Limit],
        fidelity: str,
        parameters: "Mapping[str, Parameter]",
    ) -> None:
        """Raises UserError without Optuna, and for a file that cannot be used."""
        try:
            import optuna
        except ImportError:
            raise UserError("--optuna-journal needs Optuna: pip install 'wscc[optuna]'") from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._objectives, self._limits = objectives, limits
        self._fidelity, self._parameters = fidelity, parameters
        try:
            Path(file).resolve().parent.mkdir(parents=True, exist_ok=True)
            self._study = optuna.create_study(
                study_name=name,
                storage=JournalStorage(JournalFileBackend(file)),
                directions=[_DIRECTIONS[each.direction] for each in objectives],
                load_if_exists=True,
            )
            known = self._study.get_trials(deepcopy=False)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"is no journal of this study: {error}", Location(file)) from None
        self._shown = {(t.user_attrs.get("trial"), t.user_attrs.get("state")) for t in known}

    def add(self, trials: Sequence[Trial]) -> None:
        """Write trials of the top fidelity that have ended and are not there yet; one that was
        tried again is there twice."""
        for trial in trials:
            if trial.fidelity != self._fidelity or trial.state not in ENDED:
                continue
            if (trial.number, trial.state) not in self._shown:
                self._study.add_trial(self._frozen(trial))
                self._shown.add((trial.number, trial.state))

    def _frozen(self, trial: Trial) -> Any:
        from optuna.trial import TrialState, create_trial

        figures = trial.outcome.figures if trial.outcome else {}
        values = dict(trial.design.values)
        about = {"trial": trial.number, "state": trial.state, "note": trial.note}
        done = trial.state == "done"
        excess = {str(limit): limit.excess(figures) for limit in self._limits} if done else {}
        return create_trial(
            state=TrialState.COMPLETE if done else TrialState.FAIL,
            values=[figures[each.figure] for each in self._objectives] if done else None,
            params=values,
            distributions={name: self._distribution(name, values[name]) for name in values},
            user_attrs=about | dict(figures),
            # optuna-dashboard reads this key of Optuna 4, Optuna 5 itself the argument below.
            system_attrs={"constraints": [*excess.values()]} if excess else None,
            constraints=excess or None,
        )

    def _distribution(self, name: str, value: float | str) -> "BaseDistribution":
        """The values that a parameter may take, as far as Optuna can say it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        from ...frontend.hardware.domain import Choices

        domain = self._parameters[name].domain
        if isinstance(value, str):
            words = domain.values if isinstance(domain, Choices) else (value,)
            return CategoricalDistribution([str(word) for word in words])
        if isinstance(domain, Choices):
            ends = [end for end in domain.values if not isinstance(end, str)]
        else:
            ends = [] if domain is None else [domain.low, domain.high]
        return FloatDistribution(float(min([value, *ends])), float(max([value, *ends])))


_DIRECTIONS: Mapping[Direction, Literal["minimize", "maximize"]] = {
    "min": "minimize",
    "max": "maximize",
}
