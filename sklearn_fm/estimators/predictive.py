"""What classifiers and regressors make of draws from a posterior: predictive distributions.

How draws come about is told in ``sampling``.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.utils.validation import check_is_fitted

from ..data.array import FieldArray
from ..solvers.gibbs.likelihoods import (
    NOISE_SHAPE,
    Gaussian,
    Likelihood,
    MultinomialProbit,
    OrdinalProbit,
    Probit,
)
from ..solvers.gibbs.posterior import (
    Raw,
    multinomial_probabilities,
    normal_quantiles,
    ordinal_probabilities,
    probit_probabilities,
)
from ..solvers.gibbs.refit import Targets
from ..training.losses import Loss, SquaredError
from .inputs import Encoded
from .parameters import StrOptions, estimator
from .targets import FieldClassifierMixin, FieldRegressorMixin

__all__ = ["SampledClassifierMixin", "SampledRegressorMixin"]

_MOST_LEVELS = 100


@estimator
class SampledClassifierMixin(FieldClassifierMixin):
    """Classification that solver "gibbs" can fit, by a probit link."""

    if TYPE_CHECKING:
        solver_: str
        posterior_: Any

    def _make_likelihood(
        self, target: NDArray[np.float64], weight: NDArray[np.float64], encoded: Encoded
    ) -> Likelihood:
        if len(self.classes_) == 2:
            return Probit(target, weight)
        return MultinomialProbit(target, weight, len(self.classes_))

    def _make_targets(
        self, encoded: Encoded, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Targets:
        """Latent targets on the side of the class."""
        shape = (self.posterior_.n_draws, len(target))
        low = np.broadcast_to(np.where(target > 0, 0.0, -np.inf), shape)
        high = np.broadcast_to(np.where(target > 0, np.inf, 0.0), shape)
        return Targets(low, high, np.broadcast_to(weight, shape))

    def _link_mean(self, raw: Raw) -> NDArray[np.float64]:
        """Log-odds, or logarithms, of the probabilities averaged over draws."""
        tiny = 1e-15
        if raw.mean.shape[2] == 1:
            p = probit_probabilities(raw)
            return logit(np.clip(p, tiny, 1 - tiny))[:, None]
        return np.log(np.maximum(multinomial_probabilities(raw), tiny))


@estimator
class SampledRegressorMixin(FieldRegressorMixin):
    """Regression that solver "gibbs" can fit, with predictive distributions.

    Parameters
    ----------
    loss : {"squared", "ordinal"}
        "ordinal" takes targets for ordered levels (such as ratings), whose distances are learned:
        a normal latent target falls between cut points. Predictions are expected values.
        Solver "gibbs" only.
    noise_field : str or None
        Field of one category per row, such as the user: "gibbs" then gives each of its
        categories a noise of its own.
    y_range : tuple of (float, float) or None
        Interval in which predictions lie: by a sigmoid, which reaches its ends only in the limit,
        so it should be a little wider than the ratings' own range; "als" and "gibbs" cut off
        instead.

    Attributes
    ----------
    levels_ : ndarray of shape (n_levels,)
        Values of an ordinal target; those of a squared loss are not levels, so None.
    """

    loss: str = "squared"
    noise_field: str | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions({"squared", "ordinal"})],
        "noise_field": [None, str],
    }

    if TYPE_CHECKING:
        _predictions: Any
        solver_: str
        posterior_: Any
        schema_: Any

    def _posterior_settings(self) -> dict[str, Any]:
        return super()._posterior_settings() | {"noise_field": self.noise_field, "loss": self.loss}

    def _check_parameters(self, solver: str, encoded: Encoded, *, one_pass: bool) -> None:
        super()._check_parameters(solver, encoded, one_pass=one_pass)
        if self.loss == "ordinal" and self.noise_field is not None:
            raise ValueError(
                "loss='ordinal' fixes the noise of its latent targets, so it takes no noise_field."
            )

    def _check_change(self, before: str) -> None:
        super()._check_change(before)
        if (self.levels_ is None) == (self.loss == "ordinal"):
            raise ValueError(
                f"warm_start cannot go on with loss={self.loss!r}, which another one was before. "
                "Fit anew with warm_start=False."
            )

    def _needs_draws(self) -> bool:
        return self.loss == "ordinal" or self.noise_field is not None

    def _make_loss(self, target: NDArray[np.float64], weight: NDArray[np.float64]) -> Loss:
        loss = super()._make_loss(target, weight)  # checks y_range
        self.levels_ = None
        if self.loss == "ordinal":
            self.levels_ = np.unique(target)
            if not 2 <= len(self.levels_) <= _MOST_LEVELS:
                raise ValueError(
                    f"loss='ordinal' takes 2 to {_MOST_LEVELS} levels, but y has "
                    f"{len(self.levels_)} different values. Use loss='squared', or a classifier."
                )
            return SquaredError()
        if self.solver_ in ("als", "gibbs"):
            return SquaredError.of_target(target, weight)
        return loss

    def _make_likelihood(
        self, target: NDArray[np.float64], weight: NDArray[np.float64], encoded: Encoded
    ) -> Likelihood:
        if self.levels_ is not None:
            return OrdinalProbit(self._level_of(target), weight, len(self.levels_))
        groups = self._noise_groups(encoded)
        y = self._loss.encode(target)
        if groups is None:
            return Gaussian(y, weight)
        f = self.schema_.names.index(self.noise_field)
        self._known_groups = np.unique(groups)
        return Gaussian(y, weight, groups, self.schema_.vocabulary_sizes[f])

    def _make_targets(
        self, encoded: Encoded, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Targets:
        """Targets with each draw's noise, or latent ones between its cut points."""
        values, shape = self.posterior_.values, (self.posterior_.n_draws, len(target))
        if self.levels_ is None:
            given = np.broadcast_to(self._loss.encode(target), shape)
            return Targets(given, given, weight / self._noise_variance(encoded).T)
        level = self._level_of(target).astype(np.intp)
        infinite = np.full((shape[0], 1), np.inf)
        edges = np.concatenate([-infinite, values["cuts"], infinite], axis=1)
        return Targets(edges[:, level], edges[:, level + 1], np.broadcast_to(weight, shape))

    def _level_of(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of targets in `levels_`."""
        levels: Any = self.levels_
        level = np.minimum(np.searchsorted(levels, target), len(levels) - 1)
        found = levels[level]
        if np.any(found != target):
            raise ValueError(
                f"y holds levels that it did not have before, such as "
                f"{target[found != target][0]:g}; levels are {levels.tolist()}."
            )
        return level.astype(np.float64)

    def _noise_groups(self, encoded: Encoded) -> NDArray[np.intp] | None:
        """Group of each row; 0 is the unknown category."""
        if self.noise_field is None:
            return None
        names = list(self.schema_.names) if isinstance(encoded, FieldArray) else []
        if self.noise_field not in names:
            raise ValueError(
                f"noise_field={self.noise_field!r} is no field of X, which has {names[:20]}."
            )
        f = names.index(self.noise_field)
        if self.schema_.slots[f] > 1 or self.schema_.kinds[f] == "numeric":
            raise ValueError(
                f"noise_field={self.noise_field!r} must hold one category per row; it is a "
                f"{self.schema_.kinds[f]} field of {self.schema_.slots[f]} slot(s)."
            )
        codes = np.asarray(encoded)[:, self.schema_.first_columns[f]]
        return codes.astype(np.intp) + 1

    # -- predictive distributions --------------------------------------------------------

    def _link_mean(self, raw: Raw) -> NDArray[np.float64]:
        """Expected target on the scale of the loss."""
        if self.levels_ is not None:
            p = ordinal_probabilities(raw, self.posterior_.values["cuts"])
            return self._cut((p @ self.levels_)[:, None])
        low, high = (-np.inf, np.inf) if self.y_range is None else self.y_range
        encode = self._loss.encode
        return np.clip(raw.mean[:, :, 0], encode(low), encode(high)).mean(axis=1, keepdims=True)

    def _cut(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        return y if self.y_range is None else np.clip(y, *self.y_range)

    def _noise_variance(self, encoded: Encoded) -> NDArray[np.float64]:
        """Variance of the noise of each row by each draw, (n_rows, n_draws)."""
        values = self.posterior_.values
        noise = 1 / values["noise_precision"]  # (n_draws, n_groups)
        groups = self._noise_groups(encoded)
        if groups is None:
            return np.broadcast_to(noise[:, 0], (encoded.shape[0], len(noise)))
        known = np.isin(groups, self._known_groups)
        of_rows = noise[:, np.where(known, groups, 0)].T
        of_rows[~known] = values["tau"][:, 0] * NOISE_SHAPE / (NOISE_SHAPE - 1)
        return of_rows

    def _deviations(self, encoded: Encoded, raw: Raw) -> NDArray[np.float64]:
        """Standard deviation of the target by each draw, (n_rows, n_draws), noise included."""
        return np.sqrt(raw.variance[:, :, 0] + self._noise_variance(encoded))

    def _check_draws(self, what: str) -> None:
        check_is_fitted(self)
        if self.posterior_ is None:
            raise ValueError(
                f"{what} needs the draws of solver='gibbs'; this model was fitted by "
                f"{self.solver_!r}."
            )

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Expected target of each row.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.
        return_std : bool, default=False
            Whether to return standard deviations too; solver "gibbs" only.

        Returns
        -------
        y : ndarray of shape (n_rows,)
            Expected target.
        std : ndarray of shape (n_rows,)
            Standard deviation of the target, its noise included, as in BayesianRidge; only with
            `return_std`. A `y_range` does not cut it.

        Raises
        ------
        ValueError
            If standard deviations are asked for, but another solver was used.
        """
        if not return_std:
            y = super().predict(X)
            return self._cut(y) if self.solver_ in ("als", "gibbs") else y
        self._check_draws("return_std=True")
        means, deviations = [], []
        for encoded, raw in self._predictions(X):
            means.append(self._link_mean(raw)[:, 0])
            if self.levels_ is not None:
                p = ordinal_probabilities(raw, self.posterior_.values["cuts"])
                mean = p @ self.levels_
                deviations.append(np.sqrt(np.maximum(p @ self.levels_**2 - mean**2, 0)))
                continue
            variance = (self._deviations(encoded, raw) ** 2).mean(axis=1)
            variance += raw.mean[:, :, 0].var(axis=1)
            deviations.append(self._loss.scale * np.sqrt(variance))
        y = self._cut(self._loss.predict(np.concatenate(means)[:, None]))
        return y, np.concatenate(deviations)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> NDArray[np.float64]:
        """Interval that holds the target with a given probability, as much on either side out.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.
        coverage : float, default=0.9
            Probability, between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, 2)
            Lower and upper ends: quantiles of the predictive distribution, a mixture of one normal
            distribution per draw; levels with loss "ordinal".

        Raises
        ------
        ValueError
            If the model was not fitted by solver "gibbs", or coverage is no probability.
        """
        self._check_draws("predict_interval")
        if not isinstance(coverage, Real) or not 0 < coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1, got {coverage!r}.")
        tails = (1 - coverage) / 2, (1 + coverage) / 2
        parts = []
        for encoded, raw in self._predictions(X):
            if self.levels_ is not None:
                p = ordinal_probabilities(raw, self.posterior_.values["cuts"])
                below = np.cumsum(p, axis=1)[:, :-1]
                ends = [self.levels_[(below < tail).sum(axis=1)] for tail in tails]
            else:
                deviation = self._deviations(encoded, raw)
                mean = np.ascontiguousarray(raw.mean[:, :, 0])
                ends = [
                    self._loss.predict(normal_quantiles(mean, deviation, tail)[:, None])
                    for tail in tails
                ]
            parts.append(self._cut(np.column_stack(ends)))
        return np.concatenate(parts)

    def predict_level_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the levels of an ordinal target.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_levels)
            In the order of `levels_`.

        Raises
        ------
        ValueError
            If the loss is not "ordinal".
        """
        check_is_fitted(self)
        if self.levels_ is None:
            raise ValueError("Only loss='ordinal' has levels; use predict_interval.")
        cuts = self.posterior_.values["cuts"]
        return np.concatenate([ordinal_probabilities(raw, cuts) for _, raw in self._predictions(X)])
