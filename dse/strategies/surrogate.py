"""Gaussian processes over figures, and which design of a pool promises most hypervolume.

Gains: S. Ament et al., Unexpected improvements to expected improvement, NeurIPS 2023 (qLogNEHVI),
after S. Daulton, M. Balandat and E. Bakshy, NeurIPS 2021. Priors that scale with the number of
inputs: C. Hvarfner, E. O. Hellsten and L. Nardi, ICML 2024.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..design import Floats
from ..pareto import nondominated, reference_point
from .scaling import Link, Scaling

FIRST_FIT = 4
GROWTH = 1.25
"""Observations at the first fit of hyperparameters, and how many times more at each next one; in
between they stay, and the process is only conditioned on what is new."""

ITERATIONS = 40
"""Of L-BFGS, in one fit; more change nothing that matters."""

SAMPLES = 32
"""Of the posterior, for the expected gain."""

POOL = 256
"""Designs judged by their expected gain: the most promising ones."""

EXACT = 1e-6
"""Spread of what a link leaves below which nothing is to be learned: an area, say."""

_FEASIBLE, _INFEASIBLE = -1.0, 1.0
"""What is learned of whether a design can do the work; above 0 it cannot."""


@dataclass(frozen=True)
class Data:
    """What is known at a fidelity, in the order in which it was told."""

    inputs: Floats
    """(points, inputs), about 0..1."""
    outputs: Floats
    """(points, outputs)"""
    tried: Floats
    """Inputs of all that ended, with those that cannot do the work. (tried, inputs)"""
    feasible: Floats
    """-1 for each that can, 1 for each that cannot. (tried,)"""


def milestones(count: int) -> list[int]:
    """Numbers of observations, up to `count`, at which hyperparameters are fitted."""
    found: list[int] = []
    at = FIRST_FIT
    while at <= count:
        found.append(at)
        at = max(at + 1, round(at * GROWTH))
    return found


class Surrogate:
    """A Gaussian process of one output."""

    def __init__(self, link: Link | None) -> None:
        self._link = link
        self._fitted: dict[int, dict[str, Any]] = {}

    def posterior(self, inputs: Floats, values: Floats) -> "Posterior":
        """From all observations, with hyperparameters of the last milestone: each fit starts from
        the one before, so they follow from the observations alone."""
        state: dict[str, Any] | None = None
        for count in milestones(len(values)) if self._rest(inputs, values).std() > EXACT else []:
            if count not in self._fitted:
                model, _, _ = self._model(inputs[:count], values[:count], state)
                self._fitted[count] = _fit(model)
            state = self._fitted[count]
        model, shift, scale = self._model(inputs, values, state)
        model.eval()
        return Posterior(model, shift, scale)

    def _rest(self, inputs: Floats, values: Floats) -> Floats:
        """What the link does not say."""
        link = self._link
        return values - (0.0 if link is None else link.offset + link.slope * inputs[:, link.column])

    def _model(
        self, inputs: Floats, values: Floats, state: dict[str, Any] | None
    ) -> tuple[Any, float, float]:
        """A process of (value - shift) / scale: scaled by what the link leaves to learn."""
        import torch
        from botorch.models import SingleTaskGP
        from botorch.settings import validate_input_scaling

        link = self._link
        rest = self._rest(inputs, values)
        shift, scale = float(rest.mean()), max(float(rest.std()), EXACT)
        with validate_input_scaling(False):
            model = SingleTaskGP(
                torch.from_numpy(inputs),
                torch.from_numpy((values - shift)[:, None] / scale),
                outcome_transform=None,
                mean_module=None if link is None else linked_mean(link, scale),
            )
        if state is not None:
            model.load_state_dict(state)
        return model, shift, scale


def linked_mean(link: Link, scale: float) -> Any:
    """A mean that follows an input, and a constant to be learned."""
    from gpytorch.means import ConstantMean

    class LinkedMean(ConstantMean):
        def forward(self, input: Any) -> Any:  # noqa: A002 - gpytorch's name
            expected = (link.offset + link.slope * input[..., link.column]) / scale
            return super().forward(input) + expected

    return LinkedMean()


def _fit(model: Any) -> dict[str, Any]:
    """Hyperparameters most likely after the observations; those that were, where the way there
    leads over a covariance that cannot be factored."""
    from botorch.optim.fit import fit_gpytorch_mll_scipy
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.utils.errors import NotPSDError

    model.train()
    before = _state(model)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    try:
        fit_gpytorch_mll_scipy(mll, options={"maxiter": ITERATIONS})
    except NotPSDError:
        return before
    return _state(model)


def _state(model: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@dataclass(frozen=True)
class Posterior:
    """Of one output."""

    model: Any
    """A SingleTaskGP of (value - shift) / scale."""
    shift: float
    scale: float

    def moments(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation: (points,) each."""
        import torch

        with torch.no_grad():
            found = self.model.posterior(torch.from_numpy(inputs))
            mean = found.mean.squeeze(-1).numpy()
            deviation = found.variance.clamp_min(0).sqrt().squeeze(-1).numpy()
        return self.shift + self.scale * mean, self.scale * deviation


class Learner:
    """All outputs at one fidelity."""

    def __init__(self, scaling: Scaling, links: Sequence[Link | None]) -> None:
        self.scaling = scaling
        self._surrogates = [Surrogate(link) for link in links]
        self._feasibility = Surrogate(None)

    def learn(self, data: Data) -> "Knowledge":
        posteriors = [
            surrogate.posterior(data.inputs, values)
            for surrogate, values in zip(self._surrogates, data.outputs.T, strict=True)
        ]
        if (data.feasible > 0).any():
            posteriors.append(self._feasibility.posterior(data.tried, data.feasible))
        return Knowledge(self.scaling, data, posteriors)


@dataclass(frozen=True)
class Knowledge:
    """What is believed at a fidelity."""

    scaling: Scaling
    data: Data
    posteriors: Sequence[Posterior]
    """One an output, and one more of feasibility where something was not."""

    def moments(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations of the outputs: (points, outputs) each."""
        found = [one.moments(inputs) for one in self.posteriors[: len(self.scaling.figures)]]
        return np.array([m for m, _ in found]).T, np.array([s for _, s in found]).T

    def best(self, pool: Floats, running: Floats, seed: int) -> tuple[int, float]:
        """Which of a pool of designs promises the largest gain of hypervolume, and how large: of
        the box between the best figures and the reference point.

        Args:
            pool: (designs, inputs)
            running: What is being evaluated: its outcome is averaged over. (running, inputs)
            seed: Of the samples.
        """
        import torch
        from botorch.utils.sampling import manual_seed

        mean, deviation = self.moments(pool)
        rows = self.scaling.promising(self.scaling.lucky(mean, deviation), POOL)
        with torch.no_grad(), manual_seed(seed):
            gains = self._acquisition(mean, running, seed)(torch.from_numpy(pool[rows, None, :]))
        at = int(gains.argmax())
        return rows[at], float(gains[at].exp())

    def _acquisition(self, expected: Floats, running: Floats, seed: int) -> Any:
        """The expected gain, where the pool is expected to have these outputs."""
        import torch
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.acquisition.multi_objective.logei import (
            qLogNoisyExpectedHypervolumeImprovement,
        )
        from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
        from botorch.acquisition.objective import GenericMCObjective
        from botorch.models import ModelListGP
        from botorch.sampling.normal import SobolQMCNormalSampler

        shift = torch.tensor([one.shift for one in self.posteriors], dtype=torch.float64)
        scale = torch.tensor([one.scale for one in self.posteriors], dtype=torch.float64)
        best, worst = self._range(expected)
        width = torch.from_numpy(worst - best)

        def gained(samples: Any, X: Any = None) -> Any:  # noqa: N803 - botorch's name
            found = torch.stack(self.scaling.losses(samples * scale + shift), dim=-1)
            return (torch.from_numpy(worst) - found) / width

        constraints: list[Callable[[Any], Any]] = [
            lambda samples, at=at: self.scaling.excess(samples * scale + shift)[at]
            for at in range(len(self.scaling.limits))
        ]
        if len(self.posteriors) > len(self.scaling.figures):
            constraints.append(lambda samples: samples[..., -1] * scale[-1] + shift[-1])
        common: dict[str, Any] = {
            "model": ModelListGP(*(one.model for one in self.posteriors)),
            "X_baseline": torch.from_numpy(self.data.inputs),
            "sampler": SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed),
            "constraints": constraints or None,
            "X_pending": torch.from_numpy(running) if len(running) else None,
            "prune_baseline": True,
        }
        if len(best) == 1:
            objective = GenericMCObjective(lambda samples, X=None: gained(samples)[..., 0])  # noqa: N803
            return qLogNoisyExpectedImprovement(objective=objective, **common)
        return qLogNoisyExpectedHypervolumeImprovement(
            ref_point=[0.0] * len(best), objective=GenericMCMultiOutputObjective(gained), **common
        )

    def _range(self, expected: Floats) -> tuple[Floats, Floats]:
        """The best losses and the reference point of what is known and what is expected."""
        outputs = np.concatenate([self.data.outputs, expected])
        losses = np.array(self.scaling.losses(outputs)).T
        front = losses[nondominated(losses)]
        return front.min(axis=0), reference_point(front)
