"""Solver "lbfgs": all rows at once in float64, with validation, early stopping, a second run.

Deterministic and blind to the order of rows. The minimization itself is in ``training.full_batch``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..models.contract import FieldModel
from ..training.fitting import Plan, Trained, split_rows
from ..training.full_batch import minimize_lbfgs
from ..training.history import print_record
from ..training.losses import Loss
from ..training.net import DivergenceError
from ..training.prediction import raw_predictions, weighted_loss
from ..training.rows import Rows
from .fitted import Fitted, Outcome
from .merging import merge_equal_rows
from .problem import Problem
from .start import Start

__all__ = ["LBFGSSolver", "train_lbfgs"]


@dataclass(frozen=True)
class LBFGSSolver:
    """Full-batch L-BFGS."""

    name: str = "lbfgs"

    def refuses(self, problem: Problem) -> str | None:
        """As `Solver.refuses`."""
        options = problem.options
        if problem.one_pass or options.callbacks or problem.spec.defaults(1.0).needs_batches:
            return (
                "solver='lbfgs' minimizes one fixed objective over all rows, so it has no "
                "partial_fit, skorch callbacks, dropout or batch_norm. Use solver='auto' or "
                "'adagrad'."
            )
        if problem.is_on_disk:
            return (
                "solver='lbfgs' takes all rows at once, but those of the folder are too many "
                "to be in memory. Use solver='auto' or 'adagrad', or pass its X."
            )
        return None

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """As `Solver.fit`."""
        problem = problem.at(*merge_equal_rows(problem.rows, problem.target, problem.weight))
        device = torch.device("cpu")
        start = Start.of(problem, before, self.name, reason, device=device, dtype=torch.float64)
        trained = train_lbfgs(
            start.module, start.loss, start.rows, start.plan, split=start.split, valid=start.valid
        )
        warning = None
        if not trained.converged and trained.stopped_by is None:
            warning = (
                f"lbfgs did not converge in max_epochs={problem.options.max_epochs} iterations. "
                "Raise max_epochs or tol, or strengthen the priors."
            )
        return Outcome(start.conclude(trained), trained.stopped_by, warning)


def train_lbfgs(
    model: FieldModel,
    loss: Loss,
    rows: Rows,
    plan: Plan,
    *,
    split: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None,
    valid: Rows | None = None,
) -> Trained:
    """Train by full-batch L-BFGS.

    Parameters
    ----------
    model : FieldModel
        Start values, in float64; trained in place.
    loss : Loss
        What is minimized.
    rows : Rows
        All rows for training, in float64.
    plan : Plan
        Penalties and stopping; an epoch is an iteration.
    split : tuple of ndarray of int, default=None
        Positions of the rows to train on and of those held out to stop early.
    valid : Rows, default=None
        Rows to watch that are no part of `rows`.

    Returns
    -------
    Trained
    """
    start = {name: value.clone() for name, value in model.state_dict().items()}
    train = rows
    if split is not None:
        train, valid = split_rows(rows, split)
    search = _Descent(model, loss, train, plan, valid)
    search.run(plan.max_epochs)
    if not (plan.refit and split is not None and search.n_epochs and search.stopped_by is None):
        return search.outcome()
    best = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(start)
    again = _Descent(model, loss, rows, plan, None)
    again.run(search.n_epochs)
    if again.stopped_by is not None:
        model.load_state_dict(best)
    outcome = again.outcome()
    outcome.n_epochs = search.n_epochs
    outcome.converged = True  # it was not meant to go to the end
    phases = [
        search.outcome().history.assign(phase="search"),
        outcome.history.assign(phase="refit"),
    ]
    outcome.history = pd.concat(phases, ignore_index=True)
    return outcome


class _Descent:
    """One run of L-BFGS with its record and the best weights so far."""

    def __init__(
        self, model: FieldModel, loss: Loss, rows: Rows, plan: Plan, valid: Rows | None
    ) -> None:
        self.model, self.loss, self.rows, self.plan, self.valid = model, loss, rows, plan, valid
        self.records: list[dict[str, float]] = []
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best_state: dict[str, torch.Tensor] = {}
        self.converged = True
        self.stopped_by: BaseException | None = None
        self._clock = time.perf_counter()

    @property
    def n_epochs(self) -> int:
        """Iterations behind the weights that are kept."""
        return self.best_epoch if self.best_state else len(self.records)

    def run(self, max_epochs: int) -> None:
        """Minimize, and leave the model at the best weights."""
        if not max_epochs:
            return
        start = {name: value.clone() for name, value in self.model.state_dict().items()}
        constant = self._constant_loss()
        self._bar = tqdm(total=max_epochs, unit="epoch", disable=self.plan.verbose < 2)
        try:
            result = minimize_lbfgs(
                self.model,
                self.loss,
                self.rows,
                l2_linear=self.plan.options.l2_linear,
                l2_embedding=self.plan.options.l2_embedding,
                l2_dense=self.plan.options.l2_dense,
                max_iter=max_epochs,
                tolerance=self.plan.tolerance,
                report=self._report,
            )
            self.converged = result.status != 1  # 1: out of iterations
            reached = weighted_loss(self.loss, raw_predictions(self.model, self.rows), self.rows)
            # Where the line search failed (2), or far from any sense, it is worse than the bias
            # alone; a run that is merely short may be, too.
            failed = result.status == 2 and reached > constant * (1 + 1e-6) + 1e-9
            if failed or not reached <= 1e6 * constant + 1e6:
                self.model.load_state_dict(start)
                self.stopped_by = DivergenceError()
        except KeyboardInterrupt as stop:
            self.stopped_by = stop
        finally:
            self._bar.close()
        if self.best_state:
            self.model.load_state_dict(self.best_state)

    def outcome(self) -> Trained:
        """What the run came to."""
        columns = None if self.records else ["epoch", "train_loss", "seconds"]
        history = pd.DataFrame(self.records, columns=columns).assign(learning_rate=math.nan)
        return Trained(history, self.n_epochs, converged=self.converged, stopped_by=self.stopped_by)

    def _constant_loss(self) -> float:
        raw = self.model.bias.detach().expand(len(self.rows), -1).numpy()
        return weighted_loss(self.loss, raw, self.rows)

    def _report(self, train_loss: float) -> bool:
        """Take note of an iteration; whether to stop."""
        now = time.perf_counter()
        record: dict[str, float] = {"epoch": len(self.records) + 1, "train_loss": train_loss}
        if self.valid is not None:
            raw = raw_predictions(self.model, self.valid)
            target, weight = self.valid.target.numpy(), self.valid.weight.numpy()
            record["valid_loss"] = weighted_loss(self.loss, raw, self.valid)
            metric = self.loss.metric(raw, target, weight)
            record[f"valid_{self.loss.metric_name}"] = metric
            self.model.train()
        record["seconds"], self._clock = now - self._clock, now
        self.records.append(record)
        self._bar.update()
        self._bar.set_postfix({k: v for k, v in record.items() if k.endswith("_loss")})
        if self.plan.verbose == 1:
            print_record(record)
        stop = self.plan.on_epoch is not None and self.plan.on_epoch(self.model)
        if self.valid is None or self.plan.patience is None:
            return stop
        if record["valid_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = record["valid_loss"], len(self.records)
            state = self.model.state_dict()
            self.best_state = {name: value.clone() for name, value in state.items()}
        return stop or len(self.records) - self.best_epoch >= self.plan.patience
