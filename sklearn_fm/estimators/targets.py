"""What classifiers and regressors add to the base: the target, the loss, the predictions.

They know nothing of features or training.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from ..training.losses import BinaryLogLoss, Loss, MultinomialLogLoss, SquaredError
from .checks import check_regression_target
from .inputs import read_target
from .parameters import StrOptions, estimator

__all__ = ["FieldClassifierMixin", "FieldRegressorMixin"]


def _takes_steps(self: Any) -> bool:
    """Whether the solver can go on with the rows at hand alone; MLPClassifier hides it likewise."""
    if self.solver in ("als", "gibbs") or getattr(self, "loss", "squared") == "ordinal":
        raise AttributeError(
            "partial_fit is only available for solvers that take steps; 'als' and 'gibbs' (which "
            "loss='ordinal' takes) need all rows at once. Use warm_start, or refit_categories."
        )
    return True


@estimator
class FieldClassifierMixin(ClassifierMixin):
    """Classification of two or more classes.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Weights of the classes, multiplied with the sample weights.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    """

    class_weight: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "class_weight": [dict, StrOptions({"balanced"}), None]
    }

    @available_if(_takes_steps)
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Any:
        """Take one pass over the rows at hand, from wherever the model stands.

        The first call fits the encoder and fixes classes, bins and scales. Later, new
        categories get rows of the table, which leaves the rows of others as they are; new
        classes are an error. X that a FieldEncoder has encoded may come with the schema of its
        own `partial_fit`. Each call counts as rows not seen before: the priors are shared
        out over the rows of all calls.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features, as in `fit`.
        y : array-like of shape (n_rows,) or str, default=None
            Labels; as in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes that will ever occur; needed in the first call.
        sample_weight : array-like of shape (n_rows,) or str, default=None
            Non-negative weights of the rows; as in `fit`.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If the first call lacks `classes`, or y holds a class not among them.
        """
        self._validate_params()
        if classes is None and not hasattr(self, "classes_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._partial_fit(X, y, sample_weight, classes)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Raw predictions.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_classes)
            Log-odds of ``classes_[1]`` for two classes, else one number per class.
        """
        raw = self._raw(X)
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of `classes_`.
        """
        raw = self._raw(X)
        return self._loss.predict(raw)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy, as ClassifierMixin; y and the weights may be named for a table on disk.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.
        y : array-like of shape (n_rows,) or str, default=None
            Labels; may be omitted for a FieldFolder that holds them.
        sample_weight : array-like of shape (n_rows,) or str, default=None
            Non-negative weights of the rows.

        Returns
        -------
        float
        """
        return float(super().score(X, *read_target(X, y, sample_weight)))

    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable class of each row.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features as in `fit`.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        raw = self._raw(X)
        best = (raw[:, 0] > 0).astype(np.intp) if raw.shape[1] == 1 else raw.argmax(axis=1)
        return self.classes_[best]

    def _encode_target(
        self,
        y: Any,
        weight: NDArray[np.float64],
        *,
        go_on: bool,
        classes: Any = None,
        weigh_as_before: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions of the labels in `classes_`, and weights times class weights."""
        y = column_or_1d(y, warn=True)
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        if not go_on:
            self.classes_ = np.unique(y[weight > 0] if classes is None else classes)
            if len(self.classes_) < 2:
                raise ValueError(
                    "Expected at least two classes, but all rows of positive weight are of one "
                    f"class, {self.classes_.tolist()}."
                )
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={list(classes)} differs from the classes of the first call, "
                f"{self.classes_.tolist()}."
            )
        known = np.isin(y, self.classes_)
        if not np.all(known | (weight == 0)):
            unseen = np.unique(y[~known]).tolist()
            raise ValueError(
                f"y holds the classes {unseen}, which are not among classes_, "
                f"{self.classes_.tolist()}. Name all classes in the first call of partial_fit."
            )
        position = np.searchsorted(self.classes_, np.where(known, y, self.classes_[0]))
        if isinstance(self.class_weight, dict):
            bad = {k: v for k, v in self.class_weight.items() if not 0 <= v < np.inf}
            if bad:
                raise ValueError(f"class_weight must hold finite weights >= 0, got {bad}.")
        counted = weight > 0
        if weigh_as_before:
            before: NDArray[np.float64] = self._class_weights
            return position.astype(np.float64), weight * before[position]
        self._class_weights: NDArray[np.float64] = np.ones(len(self.classes_))
        if self.class_weight is not None and counted.any():
            present = np.unique(position[counted])
            by_class = np.ones(len(self.classes_))
            by_class[present] = compute_class_weight(
                self.class_weight,
                classes=self.classes_[present],
                y=self.classes_[position[counted]],
                sample_weight=weight[counted],
            )
            weight = weight * by_class[position]
            self._class_weights = by_class
        return position.astype(np.float64), weight

    def _make_loss(self, target: NDArray[np.float64], weight: NDArray[np.float64]) -> Loss:
        n_classes = len(self.classes_)
        return BinaryLogLoss() if n_classes == 2 else MultinomialLogLoss(n_classes)

    def _strata(self, target: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Classes to hold out in equal shares, if every class can be divided."""
        counts = np.unique(target, return_counts=True)[1]
        return target if counts.min() >= 2 and len(target) >= 20 * len(counts) else None


@estimator
class FieldRegressorMixin(RegressorMixin):
    """Regression by least squares.

    Parameters
    ----------
    y_range : tuple of (float, float) or None
        Open interval in which all predictions lie, by a sigmoid; a little wider than
        the ratings' own range, since its ends are reached only in the limit.
    """

    y_range: tuple[float, float] | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"y_range": [None, tuple, list]}

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.y_range is not None:
            numbers = [end for end in self.y_range if isinstance(end, Real)]
            if len(self.y_range) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
                raise ValueError(
                    f"y_range must be two numbers (low, high) with low < high, got {self.y_range}."
                )

    @available_if(_takes_steps)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
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
        object
            Itself.
        """
        return self._partial_fit(X, y, sample_weight)

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
        raw = self._raw(X)
        return self._loss.predict(raw)

    def _encode_target(
        self,
        y: Any,
        weight: NDArray[np.float64],
        *,
        go_on: bool,
        classes: Any = None,
        weigh_as_before: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Target as float64."""
        return check_regression_target(y), weight

    def _make_loss(self, target: NDArray[np.float64], weight: NDArray[np.float64]) -> Loss:
        if self.y_range is None:
            return SquaredError.of_target(target, weight)
        low, high = (float(end) for end in self.y_range)
        if target.min() < low or target.max() > high:
            raise ValueError(
                f"y holds values from {target.min():g} to {target.max():g}, outside "
                f"y_range={self.y_range}. Widen the range."
            )
        return SquaredError.of_target(target, weight, (low, high))

    def _strata(self, target: NDArray[np.float64]) -> None:
        return None
