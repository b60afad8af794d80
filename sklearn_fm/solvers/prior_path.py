"""How strong the priors of a full-batch fit shall be: validated along a path of strengths.

One prior after the other, from strong to weak. The minimization itself is in
``training.full_batch``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.contract import FieldModel
from ..training.fitting import Plan
from ..training.full_batch import is_plain_fm, linear_predictions, minimize_lbfgs
from ..training.history import epoch_row, print_record
from ..training.losses import Loss, SquaredError
from ..training.prediction import raw_predictions, weighted_loss
from ..training.priors import Priors
from ..training.rows import Rows

__all__ = ["MAX_ITER_DEEP", "PriorPath", "make_folds"]

#: Strengths tried, in units of the start, from strong to weak.
_OF_LINEAR = (4.0, 1.0, 1 / 4, 1 / 16, 1 / 64, 1 / 256)
_OF_PAIRS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
_OF_DEEP = (1.0, 1 / 4, 1 / 16, 1 / 64)
_OF_DEEP_ALONE = (1.0, 1 / 2, 1 / 4)  # where there is no linear term
# Strength of the linear term's prior a priori: log-normal around this one, with this standard
# deviation of the logarithm. With few rows, the validation loss of a few of them decides nothing.
_LIKELY, _SPREAD = 1 / 4, math.log(2)
# Iterations of a fit that is validated: of a convex or quick one, and of one by autograd.
_MAX_ITER, MAX_ITER_DEEP = 100, 30
# The last fit may take as many times the iterations of those that converged: one that takes far
# more leaves their kind of optimum for another, of which nothing was validated.
_WAIT = 2
_DEEP_ROWS = 500  # to validate on, with which one fold must do for fits by autograd, else two


def make_folds(
    group: NDArray[np.intp],
    target: NDArray[np.float64],
    n_folds: int,
    rng: np.random.RandomState,
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Divide rows for cross-validation, so that all parts have all targets in equal shares.

    Parameters
    ----------
    group : ndarray of shape (n_rows,)
        Rows of one number, 0, 1, ..., stay together.
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
    mean = np.bincount(group, weights=target) / np.bincount(group)
    order = np.lexsort((rng.random_sample(len(mean)), mean))
    fold_of_group = np.empty(len(mean), dtype=np.intp)
    fold_of_group[order] = np.arange(len(mean)) % n_folds
    fold = fold_of_group[group]
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
    Embeddings, and the dense layers on them, are then added to it, their priors weakened together.
    They start at their start values for each strength, as under a strong prior they end at 0, from
    where no gradient leads away. A weaker prior of what is added to a linear term must gain more
    than the standard error of its gain, and a path ends where it loses as much. Where a fit takes
    autograd, one or two of the folds must do.

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
        #: Iterations that the last fit shall take: at most those that were validated.
        self.max_iter = plan.max_epochs
        #: Bias and linear term of the folds' fits, on average: where the last fit may start.
        self.linear: dict[str, torch.Tensor] = {}
        self._limit = min(plan.max_epochs, _MAX_ITER)
        #: One per pair of strengths, as `history_frame` takes them: means over the folds.
        self.records: list[dict[str, float]] = []

    def search(self) -> Priors:
        """The strengths of least validation loss.

        Returns
        -------
        Priors
        """
        priors = self.start
        others: list[str] = [name for name in ("embedding", "dense") if name in self.plan.relaxed]
        if "linear" in self.plan.relaxed:
            priors = self._walk(["linear"], _OF_LINEAR, priors, linear_only=bool(others))
            of_folds = [fold.linear for fold in self.folds]
            self.linear = {
                name: torch.stack([linear[name] for linear in of_folds]).mean(dim=0)
                for name in of_folds[0]
            }
        if others and is_plain_fm(self.model):
            priors = self._walk(others, _OF_PAIRS, priors)
        elif others:
            n_folds = 2 if len(self.folds[0].valid) < _DEEP_ROWS else 1
            self.folds, self._limit = self.folds[:n_folds], min(self._limit, MAX_ITER_DEEP)
            has_linear = "linear" in self.model.table_specs
            strengths = _OF_DEEP if has_linear else _OF_DEEP_ALONE
            stronger = (4.0,) if self.loss.n_outputs > 1 else ()  # more weights for as many rows
            priors = self._walk(others, (*stronger, *strengths), priors)
        return priors

    def _walk(
        self,
        names: list[str],
        strengths: tuple[float, ...],
        priors: Priors,
        *,
        linear_only: bool = False,
    ) -> Priors:
        """Weaken priors, until that no longer pays."""
        deep = not (linear_only or is_plain_fm(self.model))
        needs_evidence = "linear" in self.model.table_specs and not linear_only
        best, best_losses, best_surprise = priors, np.full(1, np.inf), 0.0
        kept, most = [fold.linear for fold in self.folds], self.plan.max_epochs
        for strength in strengths:
            weaker = {name: getattr(self.start, name) * strength for name in names}
            tried = replace(priors, **weaker)
            losses = self._validate(tried, linear_only=linear_only)
            surprise = 0.0
            if "linear" in names:
                surprise = (math.log(strength / _LIKELY) / _SPREAD) ** 2 / 2
            gain, error = self._gain(best_losses, losses)
            gain += best_surprise - surprise
            if gain > (error if needs_evidence else 0.0):
                best, best_losses, best_surprise = tried, losses, surprise
                self.max_iter = min(self._limit if self._cut_short else _WAIT * self._longest, most)
                kept = [fold.linear for fold in self.folds]
            elif gain < -error and not deep:  # whose fits may be stuck at one strength
                break
        for fold, linear in zip(self.folds, kept, strict=True):
            fold.linear = linear
        return best

    def _validate(self, priors: Priors, *, linear_only: bool) -> NDArray[np.float64]:
        """Fit all folds; return the weighted losses of all their validation rows."""
        began = time.perf_counter()
        of_rows: list[NDArray[Any]] = []
        train_loss = valid_loss = metric = total = 0.0
        self._cut_short, self._longest = False, 1
        for fold in self.folds:
            self.restart()
            self.model.load_state_dict(fold.linear, strict=False)
            losses: list[float] = []

            def note(loss: float, losses: list[float] = losses) -> bool:
                losses.append(loss)
                return False

            result = minimize_lbfgs(
                self.model,
                self.loss,
                fold.train,
                priors,
                max_iter=self._limit,
                tolerance=self.plan.tolerance,
                report=note,
                linear_only=linear_only,
            )
            self._cut_short |= result.status == 1  # out of iterations
            self._longest = max(self._longest, result.nit)
            if linear_only:
                state = self.model.state_dict()
                fold.linear = {name: state[name].clone() for name in ("bias", "linear.weight")}
            raw = self._raw(fold.valid, linear_only)
            batch = fold.valid.take(slice(None))
            of_rows.append((self.loss.value(torch.from_numpy(raw), batch) * batch.weight).numpy())
            weight = float(batch.weight.sum())
            valid_loss += of_rows[-1].sum()
            metric += weight * self.loss.metric(raw, batch.target.numpy(), batch.weight.numpy())
            train_loss += weight * (
                losses[-1] if losses else self._loss_of(fold.train, linear_only)
            )
            total += weight
        record = {
            "epoch": len(self.records) + 1,
            "train_loss": train_loss / total,
            "valid_loss": valid_loss / total,
            f"valid_{self.loss.metric_name}": metric / total,
            "dur": time.perf_counter() - began,
            "learning_rate": math.nan,
            **priors.record(self.plan.relaxed),
        }
        if linear_only:
            record["l2_embedding"] = math.inf
        self.records.append(record)
        if self.plan.verbose == 1:
            print_record(epoch_row(record, self.loss.metric_name, "search"))
        return np.concatenate(of_rows)

    def _raw(self, rows: Rows, linear_only: bool) -> NDArray[Any]:
        return (linear_predictions if linear_only else raw_predictions)(self.model, rows)

    def _loss_of(self, rows: Rows, linear_only: bool) -> float:
        return weighted_loss(self.loss, self._raw(rows, linear_only), rows)

    def _gain(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
        """What rows gain in log-likelihood, and the standard error of that."""
        if not np.isfinite(after).all():
            return -math.inf, 0.0
        if not np.isfinite(before).all():
            return math.inf, 0.0
        # Half a squared error is a log-likelihood in units of the variance of the noise.
        unit = 1.0
        if isinstance(self.loss, SquaredError):
            unit = max(2 * min(before.mean(), after.mean()), np.finfo(float).tiny)
        difference = (before - after) / unit
        return float(difference.sum()), float(difference.std() * math.sqrt(len(difference)))
