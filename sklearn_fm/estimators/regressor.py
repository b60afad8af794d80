"""Regressors: numbers by least squares, perhaps within a range.

They know nothing of features or training.
"""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..solvers.problem import Task
from .attributes import learned, needs_steps
from .base import BaseFieldEstimator, Coding
from .bases import RegressorMixin
from .parameters import estimator
from .sources import Source, read_target
from .targets import check_regression_target

__all__ = ["FieldRegressor"]


@estimator
class FieldRegressor(RegressorMixin, BaseFieldEstimator):
    """Regression by least squares.

    Parameters
    ----------
    y_range : tuple of (float, float) or None
        Open interval in which all predictions lie, by a sigmoid; a little wider than
        the ratings' own range, since its ends are reached only in the limit.

    Attributes
    ----------
    target_mean_ : float
        Weighted mean of the first training target. A raw prediction of `module_` is in units of
        `target_scale_` from here: the prediction is target_mean_ + target_scale_ * raw. With a
        `y_range` it is low + (high - low) / (1 + exp(-raw)) instead, or, by solvers "als" and
        "gibbs", the former cut off at the ends, which "gibbs" averages over draws. Levels of
        ``loss="ordinal"`` have neither mean nor scale (0 and 1).
    target_scale_ : float
        Weighted standard deviation of the first training target.
    """

    y_range: tuple[float, float] | None = None

    target_mean_: ClassVar[float] = learned(
        "model.loss.center", "Mean of the first training target."
    )
    target_scale_: ClassVar[float] = learned(
        "model.loss.scale", "Standard deviation of the first training target."
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"y_range": [None, tuple, list]}

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.y_range is not None:
            numbers = [end for end in self.y_range if isinstance(end, Real)]
            if len(self.y_range) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
                raise ValueError(
                    f"y_range must be two numbers (low, high) with low < high, got {self.y_range}."
                )

    def _learn_coding(
        self,
        y: Any,
        weight: NDArray[np.float64],
        before: Coding | None,
        *,
        classes: Any = None,
    ) -> tuple[Coding, NDArray[np.float64], NDArray[np.float64]]:
        """Target as float64, and what it is."""
        target = check_regression_target(y)
        if before is not None:
            return Coding(self._same_task(before.task, target[weight > 0])), target, weight
        return Coding(self._make_task(target[weight > 0])), target, weight

    def _same_task(self, before: Task, target: NDArray[np.float64]) -> Task:
        """The task of a fit that goes on, given the target of rows that count."""
        return replace(before, y_range=self._checked_range(target))

    def _make_task(self, target: NDArray[np.float64]) -> Task:
        """What is predicted, given the target of rows that count."""
        return Task("numbers", y_range=self._checked_range(target))

    def _checked_range(self, target: NDArray[np.float64]) -> tuple[float, float] | None:
        if self.y_range is None:
            return None
        low, high = self.y_range
        if target.min(initial=high) < low or target.max(initial=low) > high:
            raise ValueError(
                f"y holds values from {target.min():g} to {target.max():g}, outside "
                f"y_range={self.y_range}. Widen the range."
            )
        return float(low), float(high)

    def _encode_target(
        self, y: Any, weight: NDArray[np.float64], coding: Coding
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Targets and weights of further rows, encoded as in fit."""
        target = check_regression_target(y)
        self._checked_range(target[weight > 0])
        return target, weight

    @needs_steps
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take one pass over the rows at hand, from wherever the model stands.

        The first call fits the encoder and fixes bins and scales, that of the target too.
        Later, new categories get rows of the table, which leaves the rows of others as they
        are. X that a FieldEncoder has encoded may come with the schema of its own
        `partial_fit`.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features, as in `fit`.
        y : array-like of shape (n_rows,) or str, default=None
            Target; as in `fit`.
        sample_weight : array-like of shape (n_rows,) or str, default=None
            Non-negative weights of the rows; as in `fit`.

        Returns
        -------
        Self
            Itself.
        """
        self._fit(Source(X, y, sample_weight), vars(self).get("_fitted"), one_pass=True)
        return self

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Coefficient of determination, as RegressorMixin; columns may be named, as in `fit`.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.
        y : array-like of shape (n_rows,) or str, default=None
            Target; may be omitted for a FieldFolder that holds it.
        sample_weight : array-like of shape (n_rows,) or str, default=None
            Non-negative weights of the rows.

        Returns
        -------
        float
        """
        return float(super().score(X, *read_target(X, y, sample_weight)))

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Expected target of each row.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        raw, fitted = self._raw(X)
        return fitted.model.loss.predict(raw)
