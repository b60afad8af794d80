"""Classifiers: labels, class weights, probabilities.

They know nothing of features or training.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..solvers.problem import Task
from .attributes import learned, needs_steps
from .base import BaseFieldEstimator, Coding
from .bases import ClassifierMixin
from .parameters import StrOptions, estimator
from .sources import Source, read_target
from .targets import Classes, check_labels

__all__ = ["FieldClassifier"]


@estimator
class FieldClassifier(ClassifierMixin, BaseFieldEstimator):
    """Classification of two or more classes.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Weights of the classes, multiplied with the sample weights; "balanced" for those that give
        each class of the training data the same. An `eval_set` is weighted by them too.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    """

    class_weight: dict[Any, float] | Literal["balanced"] | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "class_weight": [dict, StrOptions({"balanced"}), None]
    }

    classes_: ClassVar[NDArray[Any]] = learned("coding.labels.labels", "Labels.")

    def _learn_coding(
        self,
        y: Any,
        weight: NDArray[np.float64],
        before: Coding | None,
        *,
        classes: Any = None,
    ) -> tuple[Coding, NDArray[np.float64], NDArray[np.float64]]:
        """Labels, their positions, and weights times class weights."""
        y = check_labels(y)
        if before is None:
            labels = Classes.learn(y, weight, classes)
        else:
            labels = before.labels
            labels.check_same(classes)
        position = labels.encode(y, weight)
        labels = labels.weighed(position, weight, self.class_weight)
        if self.class_weight is not None:
            weight = weight * labels.weights[position.astype(np.intp)]
        task = Task("classes", n_classes=len(labels.labels))
        return Coding(task, labels), position, weight

    def _encode_target(
        self, y: Any, weight: NDArray[np.float64], coding: Coding
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Targets and weights of further rows, encoded as in fit."""
        labels = coding.labels
        position = labels.encode(check_labels(y), weight)
        return position, weight * labels.weights[position.astype(np.intp)]

    @needs_steps
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
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
        Self
            Itself.

        Raises
        ------
        ValueError
            If the first call lacks `classes`, y holds a class not among them, or `class_weight`
            is "balanced", which takes the labels of all rows.
        """
        before = vars(self).get("_fitted")
        self._validate_params()
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' takes the labels of all rows, and partial_fit has those "
                "of one call. Work the weights out where all labels y are known, as weights = "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, "
                "y=y), and pass class_weight=dict(zip(classes, weights))."
            )
        if classes is None and before is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        self._fit(Source(X, y, sample_weight), before, classes=classes, one_pass=True)
        return self

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
        raw, _ = self._raw(X)
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
        raw, fitted = self._raw(X)
        return fitted.model.loss.predict(raw)

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
        raw, fitted = self._raw(X)
        best = (raw[:, 0] > 0).astype(np.intp) if raw.shape[1] == 1 else raw.argmax(axis=1)
        return fitted.coding.labels.labels[best]
