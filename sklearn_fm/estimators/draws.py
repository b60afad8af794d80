"""Estimators that solver "gibbs" can fit: draws, predictive distributions, new categories.

How draws come about, and what predictions come of them, is told in ``solvers.gibbs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..data.array import FieldArray
from ..encoding.weights import check_sample_weight
from ..solvers.gibbs.links import OrdinalLink
from ..solvers.gibbs.posterior import Posterior, Raw
from ..solvers.gibbs.solver import redraw_categories
from ..solvers.problem import Task
from ..training.threads import count_threads
from .base import BaseFieldEstimator, Learned
from .checks import check_consistent_rows
from .parameters import StrOptions, estimator
from .regressor import FieldRegressor

__all__ = ["DrawsRegressor", "WithDraws"]

_MOST_LEVELS = 100


class WithDraws(BaseFieldEstimator):
    """What classifiers and regressors by draws share.

    Attributes
    ----------
    history_ : DataFrame
        {inherited} "gibbs": one per sweep, with the training error of the draw (root mean squared
        error, mean log loss, or share of wrong classes where there are three or more; of 4,096 rows
        evenly spread if there are more), the overall precision of the noise and the scale of each
        vocabulary's embeddings.
    n_epochs_ : int
        {inherited} Sweeps for "als" and "gibbs".
    module_ : torch.nn.Module
        {inherited} After "gibbs" its raw prediction is the mean over all draws; the probability of
        class 1 is the mean of Phi(z) over raw predictions z that spread around it.
    posterior_ : Posterior or None
        Draws of "gibbs": all of them with ``keep_draws=True``, when predictions are by these alone;
        otherwise some, which tell how raw predictions spread around those of `module_`, as float16.
    compression_ : Series or None
        What became of the draws of "gibbs": their number ``n_draws``, that which `posterior_` has
        (``n_kept``), the ``width`` of `module_`'s vectors (for each output), and the root mean
        square ``error`` of its raw predictions, for up to 4,096 training rows against the mean over
        all draws, in standard deviations of the noise (1 for classes and levels; of the overall
        precision where categories have noises of their own). The width is the least of 16, 32, 48,
        64, 96 and 128 whose error is at most .02, else 128.
    linear_std_ : ndarray of shape (table_size, n_outputs) or None
        Standard deviations in the posterior of the weights of the linear term, whose means
        `module_` has; of what training did not see, that of any such category. By name:
        `sklearn_fm.inspection.linear_weights`.
    n_burn_ : int
        First sweeps that predictions leave out; 0 for other solvers.
    convergence_ : DataFrame or None
        Split R-hat and effective sample size of what "gibbs" watches: the training error, the
        precision of the noise, and the raw predictions of 64 training rows, whose
        least favourable tenth counts. Empty after fewer than four sweeps.
    """

    @property
    def posterior_(self) -> Posterior | None:
        """Draws of "gibbs"."""
        check_is_fitted(self)
        draws = self._fitted.model.draws
        return None if draws is None else draws.posterior

    @property
    def compression_(self) -> pd.Series | None:
        """What became of the draws of "gibbs"."""
        check_is_fitted(self)
        draws = self._fitted.model.draws
        if draws is None:
            return None
        mean = draws.mean
        found = {"n_draws": mean.n_draws, "n_kept": draws.posterior.n_draws, "width": mean.width}
        return pd.Series({**found, "error": mean.error}, dtype=object)

    @property
    def linear_std_(self) -> NDArray[np.float32] | None:
        """Standard deviations of the weights of the linear term."""
        check_is_fitted(self)
        draws = self._fitted.model.draws
        return None if draws is None else draws.linear_deviations()

    @property
    def n_burn_(self) -> int:
        """First sweeps that predictions leave out."""
        check_is_fitted(self)
        draws = self._fitted.model.draws
        return 0 if draws is None else draws.n_burn

    @property
    def convergence_(self) -> pd.DataFrame | None:
        """Split R-hat and effective sample size of what "gibbs" watches."""
        check_is_fitted(self)
        draws = self._fitted.model.draws
        return None if draws is None else draws.convergence

    def refit_categories(self, X: Any, y: Any, field: str, sample_weight: Any = None) -> Self:
        """Draw some categories of one field anew, such as a user with new ratings, or a new user.

        All other weights stay as they are in each draw, so the cost is that of the rows given. The
        noise stays, too: a category's own if fit gave it one (`noise_field`), else that of rare
        ones.

        Parameters
        ----------
        X : table, array or FieldArray
            All rows of the categories to draw: those that fit saw, and new ones. A new category
            must be one that the encoder makes: in a Pipeline, by `FieldEncoder.partial_fit` before.
        y : array-like of shape (n_rows,)
            Their targets.
        field : str
            Name of the field, which has one category per row and a vocabulary of its own.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If the model was not fitted by "gibbs", has more than two classes, the field is no
            such field, or rows have no known category of it.
        """
        check_is_fitted(self)
        fitted = self._fitted
        model, encoding = fitted.model, fitted.encoding
        if model.draws is None or model.loss.n_outputs > 1:
            raise ValueError(
                "refit_categories needs the draws of solver='gibbs' for one output; this model was "
                f"fitted by {model.solver!r}"
                + ("." if model.draws is None else " for more than two classes.")
            )
        X = self._check(self._as_of(fitted.columns), X, encoding)
        check_consistent_rows(X, y)
        weight = check_sample_weight(sample_weight, len(y))
        target, weight = self._encode_target(y, weight, fitted.coding)
        kept = np.flatnonzero(weight > 0)
        encoding, encoded = encoding.grown(X, weight)
        schema = encoding.schema
        names = schema.names if isinstance(encoded, FieldArray) else ()
        f = names.index(field) if field in names else -1
        if f < 0 or schema.kinds[f] not in ("categorical", "binned") or schema.slots[f] > 1:
            raise ValueError(
                f"field={field!r} must be a field of one category per row; fields are "
                f"{list(names)[:20]}."
            )
        if schema.vocabularies.count(schema.vocabularies[f]) > 1:
            raise ValueError(
                f"Field {field!r} shares its vocabulary with another field, whose rows would "
                "be needed too. Fit anew with warm_start=True."
            )
        rng = check_random_state(self.random_state)
        model = redraw_categories(model, encoded[kept], target[kept], weight[kept], field, rng)
        self._fitted = replace(fitted, encoding=encoding, model=model)
        return self


@estimator
class DrawsRegressor(WithDraws, FieldRegressor):
    """Regression that solver "gibbs" can fit, with predictive distributions.

    Parameters
    ----------
    loss : {"squared", "ordinal"}
        "ordinal" takes targets for ordered levels (such as ratings), whose distances are learned:
        a normal latent target falls between cut points. Predictions are expected values.
        Solver "gibbs" only.
    noise_field : str, list of str, "auto" or None
        Fields of one category per row, such as the user and the item: "gibbs" then gives each of
        their categories of twenty rows or more a noise of its own, as far as the data say that they
        differ; "auto" for all of kind "categorical", None for one noise. A row's precision is
        the product of those of its categories.
    y_range : tuple of (float, float) or None
        Interval in which predictions lie: by a sigmoid, which reaches its ends only in the limit,
        so it should be a little wider than the ratings' own range; "als" and "gibbs" cut off
        instead.

    Attributes
    ----------
    levels_ : ndarray of shape (n_levels,)
        Values of an ordinal target; those of a squared loss are not levels, so None.
    noise_fields_ : tuple of str
        Fields whose categories have a noise of their own by "gibbs". How much these differ, columns
        "noise_shape_..." of `history_` tell: the inverse variance of their precisions.
    """

    loss: Literal["squared", "ordinal"] = "squared"
    noise_field: str | list[str] | None = "auto"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions({"squared", "ordinal"})],
        "noise_field": [None, str, list, tuple],
    }

    @property
    def levels_(self) -> NDArray[np.float64] | None:
        """Values of an ordinal target."""
        check_is_fitted(self)
        return self._fitted.coding.task.levels

    @property
    def noise_fields_(self) -> tuple[str, ...]:
        """Fields whose categories have a noise of their own."""
        check_is_fitted(self)
        draws = self._fitted.model.draws
        return () if draws is None else tuple(getattr(draws.link, "noise_groups", ()))

    def _make_task(self, target: NDArray[np.float64]) -> Task:
        task = super()._make_task(target)  # checks y_range
        if self.loss == "squared":
            return replace(task, noise_field=self._noise_field())
        levels = np.unique(target)
        if not 2 <= len(levels) <= _MOST_LEVELS:
            raise ValueError(
                f"loss='ordinal' takes 2 to {_MOST_LEVELS} levels, but y has "
                f"{len(levels)} different values. Use loss='squared', or a classifier."
            )
        return replace(task, kind="levels", noise_field=self._noise_field(), levels=levels)

    def _same_task(self, before: Task, target: NDArray[np.float64]) -> Task:
        if (before.kind == "levels") != (self.loss == "ordinal"):
            raise ValueError(
                f"warm_start cannot go on with loss={self.loss!r}, which another one was before. "
                "Fit anew with warm_start=False."
            )
        return replace(super()._same_task(before, target), noise_field=self._noise_field())

    def _noise_field(self) -> tuple[str, ...] | Literal["auto"] | None:
        """Fields with a noise of their own, as solvers take them."""
        if self.noise_field is None:
            return None
        if self.noise_field == "auto":
            return "auto"
        names = [self.noise_field] if isinstance(self.noise_field, str) else self.noise_field
        if not all(isinstance(name, str) for name in names):
            raise ValueError(
                "noise_field must be the name of a field, a list of names, 'auto' or None, got "
                f"{self.noise_field!r}."
            )
        return tuple(dict.fromkeys(names)) or None

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> NDArray[np.float64]: ...

    @overload
    def predict(
        self, X: Any, return_std: Literal[True]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    @overload
    def predict(
        self, X: Any, return_std: bool
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def predict(
        self, X: Any, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
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
            combined, fitted = self._raw(X)
            return _cut(fitted.model.loss.predict(combined), fitted)
        fitted, link = self._need_draws("return_std=True")
        means, deviations = [], []
        for encoded, raw in self._by_draws(X, fitted):
            means.append(link.mean(raw))
            deviations.append(link.deviation(encoded, raw))
        y = _cut(fitted.model.loss.predict(np.concatenate(means)), fitted)
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
            distribution per draw that is left; levels with loss "ordinal".

        Raises
        ------
        ValueError
            If the model was not fitted by solver "gibbs", or coverage is no probability.
        """
        fitted, link = self._need_draws("predict_interval")
        if not isinstance(coverage, Real) or not 0 < coverage < 1:
            raise ValueError(f"coverage must lie between 0 and 1, got {coverage!r}.")
        tails = (1 - float(coverage)) / 2, (1 + float(coverage)) / 2
        parts = []
        for encoded, raw in self._by_draws(X, fitted):
            ends = [link.quantile(encoded, raw, tail) for tail in tails]
            parts.append(_cut(np.column_stack(ends), fitted))
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
        fitted = self._fitted
        link = None if fitted.model.draws is None else fitted.model.draws.link
        if not isinstance(link, OrdinalLink):
            raise ValueError("Only loss='ordinal' has levels; use predict_interval.")
        return np.concatenate([link.probabilities(raw) for _, raw in self._by_draws(X, fitted)])

    def _need_draws(self, what: str) -> tuple[Learned, Any]:
        """What was learned, and the link of its draws."""
        check_is_fitted(self)
        model = self._fitted.model
        if model.draws is None:
            raise ValueError(
                f"{what} needs the draws of solver='gibbs'; this model was fitted by "
                f"{model.solver!r}."
            )
        return self._fitted, model.draws.link

    def _by_draws(self, X: Any, fitted: Learned) -> Iterator[tuple[Any, Raw]]:
        """Rows of X, in pieces, with raw predictions by all draws."""
        for encoded in self._encoded(X, fitted):
            n_threads = count_threads(self.n_jobs)
            yield from fitted.model.raw_by_draws(encoded, n_threads, self._find_device)


def _cut(y: Any, fitted: Learned) -> Any:
    """Predictions within the range, where no sigmoid keeps them there."""
    y_range = fitted.coding.task.y_range
    if y_range is None or getattr(fitted.model.loss, "y_range", None) is not None:
        return y
    return np.clip(y, *y_range)
