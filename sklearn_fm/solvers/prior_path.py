"""How strong the priors of a full-batch fit shall be: validated along a path of strengths.

One prior after the other, from strong to weak. The minimization itself is in
``training.full_batch``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..models.contract import FieldModel
from ..training.callbacks import print_record
from ..training.fitting import Plan
from ..training.full_batch import linear_predictions, minimize_lbfgs
from ..training.losses import Loss
from ..training.prediction import raw_predictions, weighted_loss
from ..training.priors import Priors
from ..training.rows import Rows

__all__ = ["PriorPath", "make_folds"]

#: Strengths tried, in units of the start.
_STRENGTHS = {
    "linear": (4.0, 1.0, 1 / 4, 1 / 16, 1 / 64, 1 / 256),
    "embedding": (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32),
}
_WORSE = 2  # strengths in a row without a gain that end a path
# Strength a priori: log-normal around this one, with this standard deviation of the logarithm.
_LIKELY, _SPREAD = 1 / 4, math.log(2)
_GAIN = 0.1  # in log-likelihood, that a weaker prior must bring


def make_folds(
    target: NDArray[np.float64], n_folds: int, rng: np.random.RandomState
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Divide rows for cross-validation, so that all parts have all targets in equal shares.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        Numbers or classes.
    n_folds : int
        Number of parts.
    rng : RandomState
        Draws them.

    Returns
    -------
    list of tuple of ndarray of int
        Positions of the rows to train on and of those to validate on, ascending.
    """
    order = np.lexsort((rng.random_sample(len(target)), target))
    fold = np.empty(len(target), dtype=np.intp)
    fold[order] = np.arange(len(target)) % n_folds
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(n_folds)]


@dataclass
class _Fold:
    """Rows to train on, rows to validate on, and the linear weights that fit the former so far."""

    train: Rows
    valid: Rows
    linear: dict[str, torch.Tensor] = field(default_factory=dict)


class PriorPath:
    """Search of the strengths with the least loss on validation rows.

    The linear term comes first, alone, if the strength of its prior is open: a convex problem.
    Embeddings, and what stands on them, are then added to it. They start at their start values for
    each strength, as under a strong prior they end at 0, from where no gradient leads away.

    Parameters
    ----------
    model : FieldModel
        In float64; used for all fits and left at the weights of one of them.
    loss : Loss
        What is minimized.
    folds : list of (Rows, Rows)
        Rows to train on, and to validate on.
    priors : Priors
        Where strengths start.
    plan : Plan
        Names of the priors to choose, tolerance and iterations at most.
    restart : callable
        Puts the model's start values back.
    """

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        folds: list[tuple[Rows, Rows]],
        priors: Priors,
        plan: Plan,
        restart: Callable[[], None],
    ) -> None:
        self.model, self.loss, self.plan, self.restart = model, loss, plan, restart
        self.folds = [_Fold(*fold) for fold in folds]
        self.start = priors
        self.records: list[dict[str, float]] = []

    @property
    def history(self) -> pd.DataFrame:
        """One row per pair of strengths: mean losses over the folds, iterations, seconds."""
        return pd.DataFrame(self.records)

    def search(self) -> Priors:
        """The strengths of least validation loss.

        Returns
        -------
        Priors
        """
        priors = self.start
        names = [name for name in ("linear", "embedding") if name in self.plan.relaxed]
        for name in names:
            alone = name == "linear" and "embedding" in names
            priors = self._walk(name, priors, linear_only=alone)
        return priors

    def _walk(self, name: str, priors: Priors, *, linear_only: bool) -> Priors:
        """Weaken one prior, until that no longer pays."""
        best, best_score, n_worse = priors, -np.inf, 0
        for strength in _STRENGTHS[name]:
            tried = replace(priors, **{name: getattr(self.start, name) * strength})
            score = -self._validate(tried, linear_only=linear_only)
            if name == "linear":
                score -= (math.log(strength / _LIKELY) / _SPREAD) ** 2 / 2
            if score > best_score + _GAIN:
                best, best_score, n_worse = tried, score, 0
                kept = [dict(fold.linear) for fold in self.folds]
            elif score < best_score - _GAIN:
                n_worse += 1
                if n_worse == _WORSE:
                    break
        if linear_only:
            for fold, linear in zip(self.folds, kept, strict=True):
                fold.linear = linear
        return best

    def _validate(self, priors: Priors, *, linear_only: bool) -> float:
        """Fit all folds; return the mean loss of their validation rows."""
        began = time.perf_counter()
        train_loss = valid_loss = metric = total = n_iterations = 0.0
        for fold in self.folds:
            self.restart()
            self.model.load_state_dict(fold.linear, strict=False)
            losses: list[float] = []
            minimize_lbfgs(
                self.model,
                self.loss,
                fold.train,
                priors,
                max_iter=self.plan.max_epochs,
                tolerance=self.plan.tolerance,
                report=lambda loss, losses=losses: losses.append(loss),
                linear_only=linear_only,
            )
            if linear_only:
                names = ("bias", "linear.weight")
                state = self.model.state_dict()
                fold.linear = {name: state[name].clone() for name in names}
                raw = linear_predictions(self.model, fold.valid)
            else:
                raw = raw_predictions(self.model, fold.valid)
            weight = float(fold.valid.weight.sum())
            value = weighted_loss(self.loss, raw, fold.valid)
            valid_loss += weight * value
            score = self.loss.metric(
                raw, fold.valid.target.numpy(), fold.valid.weight.numpy()
            )
            metric += weight * score
            train_loss += weight * (losses[-1] if losses else np.nan)
            n_iterations += len(losses)
            total += weight
        record = {
            "epoch": n_iterations,
            "train_loss": train_loss / total,
            "valid_loss": valid_loss / total,
            f"valid_{self.loss.metric_name}": metric / total,
            "seconds": time.perf_counter() - began,
            "l2_linear": priors.linear,
            "l2_embedding": np.inf if linear_only else priors.embedding,
        }
        self.records.append(record)
        if self.plan.verbose == 1:
            print_record(record)
        return valid_loss
