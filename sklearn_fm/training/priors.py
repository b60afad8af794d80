"""Gaussian priors on the weights of a model: the quadratic part of the objective.

For solvers that take all rows at once; mini-batches shrink single rows of the tables instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..models.contract import FieldModel

__all__ = ["Penalty", "Priors"]

_CORRELATION = 0.9  # of the weights of two neighbours


@dataclass(frozen=True)
class Priors:
    """Precisions of the weights, and which of them resemble each other.

    Parameters
    ----------
    linear, embedding, dense : float
        Precisions of the linear term, the embeddings, and the weights outside the tables;
        biases have no prior.
    smooth : tuple of str, default=()
        Those of "linear" and "embedding" by which the weights of ordered codes resemble those of
        their neighbours.
    """

    linear: float = 0.0
    embedding: float = 0.0
    dense: float = 0.0
    smooth: tuple[str, ...] = ()

    def record(self, chosen: tuple[str, ...]) -> dict[str, float]:
        """Precisions as an epoch's record holds them.

        Parameters
        ----------
        chosen : tuple of str
            Names of those that the fit chooses; without any there is nothing to record.

        Returns
        -------
        dict of str to float
        """
        names = ("linear", "embedding", *(name for name in chosen if name == "dense"))
        return {f"l2_{name}": getattr(self, name) for name in names if chosen}

    def of(self, parameter: nn.Parameter, model: FieldModel) -> Penalty | None:
        """Penalty on a parameter.

        Parameters
        ----------
        parameter : Parameter
            One of the model's.
        model : FieldModel
            The model.

        Returns
        -------
        Penalty or None
            None if it has no prior.
        """
        tables = {id(table): name for name, table in model.sparse_tables().items()}
        if id(parameter) not in tables:
            return Penalty(self.dense) if self.dense and parameter.ndim > 1 else None
        prior = model.table_specs[tables[id(parameter)]].prior
        precision = {"linear": self.linear, "embedding": self.embedding}[prior]
        if not precision:
            return None
        ordered = model.schema.ordered_rows if prior in self.smooth else ()
        return Penalty(precision, ordered)


class Penalty:
    """A quadratic form of one parameter.

    A weight w_i alone has the penalty l2/2 w_i^2. Along the ordered codes of a field, weights are a
    stationary autoregressive process of first order, of the same variance 1/l2: the correlation of
    w_i and w_j is r^|i - j|, r = 0.9. Its inverse covariance is tridiagonal, so that

        penalty = l2/2 (sum_i w_i^2 + sum_i (r^2 (w_i^2 + w_{i+1}^2) - 2 r w_i w_{i+1}) / (1 - r^2))

    with the second sum over neighbours.

    Parameters
    ----------
    precision : float
        l2.
    ordered : sequence of (int, int), default=()
        First row and number of rows of each run of ordered codes.

    References
    ----------
    Rue, Held (2005), Gaussian Markov random fields, section 1.1.
    """

    def __init__(self, precision: float, ordered: tuple[tuple[int, int], ...] = ()) -> None:
        self.precision = precision
        pairs = [np.arange(first, first + count - 1) for first, count in ordered]
        self._left = np.concatenate(pairs) if pairs else np.empty(0, dtype=np.intp)

    def slope(self, weight: NDArray[Any]) -> NDArray[Any]:
        """Gradient of the penalty, which is half the product of weight and slope.

        Parameters
        ----------
        weight : ndarray
            The parameter; its first axis counts codes.

        Returns
        -------
        ndarray of the same shape
        """
        slope, left = weight.copy(), self._left
        if len(left):
            r = _CORRELATION
            low, high = weight[left], weight[left + 1]
            # Each row is the lower one of at most one pair, and the upper one of at most one.
            slope[left] += (r * r * low - r * high) / (1 - r * r)
            slope[left + 1] += (r * r * high - r * low) / (1 - r * r)
        slope *= self.precision
        return slope
