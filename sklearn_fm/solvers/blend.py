"""One prediction of two: draws of a factorization machine, and a deep model beside it.

How each of them is fitted is told in ``gibbs`` and ``gradient``, in which order in ``deep_draws``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from ..training.losses import Loss
from ..training.rows import Batch
from .problem import Task, Watch

if TYPE_CHECKING:
    from .fitted import Fitted

__all__ = ["Blend", "as_raw", "find_blend"]

_FOLDS = 5
_STANDARD_ERRORS = 2  # one is not enough: the deep model's best epoch was picked on the same rows


@dataclass(frozen=True)
class Blend:
    """Weights of both, as they were found on rows that neither had learned from.

    raw(x) = base + of_draws * (raw_draws(x) - base) + of_deep * (raw_deep(x) - base)

    Attributes
    ----------
    of_draws, of_deep : float
        Weights; 1 and 0 where the deep model adds nothing.
    base : ndarray of shape (C,)
        Raw prediction of least loss if it must be the same for all rows.
    gain : float
        By how much the deep model lowers the mean loss of a row that was held out.
    standard_error : float
        Of that mean.
    n_held_out : int
        Rows that were held out.
    deep : Fitted or None
        The deep model, unless its weight is 0.
    """

    of_draws: float
    of_deep: float
    base: NDArray[np.float64]
    gain: float
    standard_error: float
    n_held_out: int
    deep: Fitted | None = None

    def mix(
        self, draws: NDArray[np.floating], deep: NDArray[np.floating], loss: Loss, task: Task
    ) -> NDArray[np.float64]:
        """Raw predictions of both together.

        Parameters
        ----------
        draws : ndarray of shape (n_rows, C)
            Raw predictions by draws.
        deep : ndarray of shape (n_rows, C)
            Those of the deep model, as `as_raw` gives them.
        loss : Loss
            That of the draws.
        task : Task
            What is predicted.

        Returns
        -------
        ndarray of shape (n_rows, C)
            Logarithms of probabilities for three or more classes.
        """
        base = self.base
        raw = base + self.of_draws * (draws - base) + self.of_deep * (deep - base)
        if task.y_range is not None:
            low, high = loss.encode(np.array(task.y_range))
            return np.clip(raw, low, high)
        return log_softmax(raw, axis=1) if raw.shape[1] > 1 else raw

    def describe(self) -> str:
        """Weights and gain in words, as a part of the reason for a solver."""
        found = (
            f"; on {self.n_held_out:,} rows held out the MLP beside the draws saves "
            f"{self.gain:.2g} +- {self.standard_error:.1g} of the loss per row"
        )
        if self.of_deep:
            return f"{found}, at weights {self.of_draws:.2f} (draws) and {self.of_deep:.2f} (deep)"
        return f"{found}, no more than two standard errors, so it is left out"


def as_raw(deep: Fitted, raw: NDArray[np.floating], loss: Loss) -> NDArray[np.float64]:
    """Raw predictions of a deep model in the unit of those by draws.

    Parameters
    ----------
    deep : Fitted
        Whose link may be another one, if predictions have a range, and its scale.
    raw : ndarray of shape (n_rows, C)
        Its raw predictions.
    loss : Loss
        That of the draws.

    Returns
    -------
    ndarray of shape (n_rows, C)
    """
    if loss.is_classifier:
        return raw.astype(np.float64)
    return loss.encode(deep.loss.predict(raw))[:, None]


def find_blend(
    draws: NDArray[np.floating],
    deep: NDArray[np.floating],
    held_out: Watch,
    base: NDArray[np.float64],
    loss: Loss,
) -> Blend:
    """Weights of two predictions by the loss on rows held out.

    The deep model has a weight if it lowers the mean loss by more than twice that mean's standard
    error, both by weights found on other rows (five folds of them). What it is compared to are
    draws with the best weight that they can have alone, so a gain that a mere change of the
    predictions' spread brings is none of the deep model's.

    Parameters
    ----------
    draws, deep : ndarray of shape (n_rows, C)
        Raw predictions of these rows, in one unit.
    held_out : Watch
        Targets and weights.
    base : ndarray of shape (C,)
        Raw prediction if it must be the same for all rows.
    loss : Loss
        That of the draws.

    Returns
    -------
    Blend
        Without the deep model.
    """
    parts = np.stack([draws - base, deep - base])  # (2, n_rows, C)
    target, weight = loss.encode(held_out.target), held_out.weight / held_out.weight.sum()
    n_rows = len(target)
    fold = np.arange(n_rows) % min(_FOLDS, n_rows)
    lower = np.zeros(n_rows)
    for k in range(fold.max() + 1):
        out, kept = fold == k, fold != k
        if not kept.any():
            kept = out
        losses = []
        for n in (1, 2):
            best = _best_weights(parts[:n, kept], base, target[kept], weight[kept], loss)
            losses.append(_losses(best, parts[:n, out], base, target[out], loss)[0])
        lower[out] = losses[0] - losses[1]
    gain = float(weight @ lower)
    error = math.sqrt(np.square(weight * (lower - gain)).sum())
    weights = np.array([1.0, 0.0])
    if gain > _STANDARD_ERRORS * error:
        best = _best_weights(parts, base, target, weight, loss)
        weights = best if best[1] > 0 else weights
    return Blend(float(weights[0]), float(weights[1]), base, gain, error, n_rows)


def _best_weights(
    parts: NDArray[np.float64],
    base: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    loss: Loss,
) -> NDArray[np.float64]:
    """Weights of least loss, none of them below 0: a convex problem of one or two numbers."""
    share = weight / weight.sum()

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        losses, slopes = _losses(x, parts, base, target, loss)
        return float(share @ losses), slopes @ share

    start = np.full(len(parts), 1 / len(parts))
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(parts)
    )
    return np.asarray(found.x, dtype=np.float64)


def _losses(
    weights: NDArray[np.float64],
    parts: NDArray[np.float64],
    base: NDArray[np.float64],
    target: NDArray[np.float64],
    loss: Loss,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss of each row, and its derivatives by the weights, (n_parts, n_rows)."""
    raw = torch.from_numpy(base + np.tensordot(weights, parts, axes=1)).requires_grad_()
    nothing = torch.empty(0)
    value = loss.value(raw, Batch(nothing, nothing, torch.from_numpy(target), nothing))
    (slope,) = torch.autograd.grad(value.sum(), raw)
    return value.detach().numpy(), (parts * slope.numpy()).sum(axis=2)
