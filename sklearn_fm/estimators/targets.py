"""From y to numbers that a solver takes, with the weights that classes add.

Which loss compares them with predictions is the business of ``solvers.problem``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from sklearn_fm.user_line import levels_to_user

__all__ = ["Classes", "check_labels", "check_regression_target"]


@dataclass(frozen=True)
class Classes:
    """Labels and their weights.

    Attributes
    ----------
    labels : ndarray of shape (n_classes,)
        Distinct labels, sorted.
    weights : ndarray of shape (n_classes,)
        What multiplied the sample weights of each class in the last fit.
    """

    labels: NDArray[Any]
    weights: NDArray[np.float64]

    @classmethod
    def learn(cls, y: NDArray[Any], weight: NDArray[np.float64], classes: Any = None) -> Classes:
        """Find the labels that occur.

        Parameters
        ----------
        y : ndarray of shape (n_rows,)
            Labels.
        weight : ndarray of shape (n_rows,)
            Sample weights; a label without any is left out.
        classes : array-like, default=None
            All labels that will ever occur, if they are known.

        Returns
        -------
        Classes

        Raises
        ------
        ValueError
            If there are fewer than two.
        """
        labels = np.unique(y[weight > 0] if classes is None else classes)
        if len(labels) < 2:
            raise ValueError(
                "Expected at least two classes, but all rows of positive weight are of one "
                f"class, {labels.tolist()}."
            )
        return cls(labels, np.ones(len(labels)))

    def check_same(self, classes: Any) -> None:
        """Raise unless classes that a later call names are these.

        Parameters
        ----------
        classes : array-like or None
            What the call names.

        Raises
        ------
        ValueError
            If they differ.
        """
        if classes is not None and not np.array_equal(np.unique(classes), self.labels):
            raise ValueError(
                f"classes={list(classes)} differs from the classes of the first call, "
                f"{self.labels.tolist()}."
            )

    def encode(self, y: NDArray[Any], weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of labels.

        Parameters
        ----------
        y : ndarray of shape (n_rows,)
            Labels.
        weight : ndarray of shape (n_rows,)
            Sample weights; rows without any may have other labels.

        Returns
        -------
        ndarray of shape (n_rows,)

        Raises
        ------
        ValueError
            If y holds labels that are not among these.
        """
        known = np.isin(y, self.labels)
        if not np.all(known | (weight == 0)):
            unseen = np.unique(y[~known]).tolist()
            raise ValueError(
                f"y holds the classes {unseen}, which are not among classes_, "
                f"{self.labels.tolist()}. Name all classes in the first call of partial_fit."
            )
        position = np.searchsorted(self.labels, np.where(known, y, self.labels[0]))
        return position.astype(np.float64)

    def weighed(
        self, position: NDArray[np.float64], weight: NDArray[np.float64], class_weight: Any
    ) -> Classes:
        """The same labels with the weights that a parameter means for some rows.

        Parameters
        ----------
        position : ndarray of shape (n_rows,)
            Positions of the rows' labels.
        weight : ndarray of shape (n_rows,)
            Sample weights.
        class_weight : dict, "balanced" or None
            As scikit-learn's classifiers take it.

        Returns
        -------
        Classes

        Raises
        ------
        ValueError
            If a weight is negative or not finite.
        """
        if isinstance(class_weight, dict):
            bad = {k: v for k, v in class_weight.items() if not 0 <= v < np.inf}
            if bad:
                raise ValueError(f"class_weight must hold finite weights >= 0, got {bad}.")
        weights, counted = np.ones(len(self.labels)), weight > 0
        if isinstance(class_weight, dict):  # also for classes that these rows lack
            weights = np.array([class_weight.get(label, 1.0) for label in self.labels.tolist()])
        if class_weight is not None and counted.any():
            codes = position[counted].astype(np.intp)
            present = np.unique(codes)
            weights[present] = compute_class_weight(
                class_weight,
                classes=self.labels[present],
                y=self.labels[codes],
                sample_weight=weight[counted],
            )
        return replace(self, weights=weights)


def check_labels(y: Any) -> NDArray[Any]:
    """Return labels as an array, or raise.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Labels; a column is taken with scikit-learn's usual warning.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If they are not one-dimensional, not finite, or numbers as of a regression.
    """
    y = _as_1d(y)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    return y


def check_regression_target(y: Any) -> NDArray[np.float64]:
    """Return a numeric target as float64, or raise.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Target; a column is taken with scikit-learn's usual warning.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If the target is not one-dimensional, not numeric, holds NaN or infinity, or numbers whose
        squares float64 cannot hold.
    """
    y = _as_1d(y)
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", ensure_min_samples=0)
    size = np.abs(y)
    row = int(np.argmax(size)) if len(y) else 0
    if len(y) and (size[row] > 1e100 or 0 < size[row] < 1e-100):
        raise ValueError(
            f"y holds {y[row]:g} at row {row}, the farthest from 0; expected that to be from "
            "1e-100 to 1e100, whose squares can be summed. Rescale the target."
        )
    return y


def _as_1d(y: Any) -> NDArray[Any]:
    """Targets as one dimension; scikit-learn's own warning of a column would point in here."""
    shape: tuple[int, ...] = getattr(y, "shape", ())
    is_column = len(shape) == 2 and shape[1] == 1
    if is_column:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of "
            "y to (n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=levels_to_user(),
        )
    return column_or_1d(y, warn=not is_column)
