"""Solver "lbfgs": all rows at once in float64, to the optimum, with priors chosen by validation.

Deterministic; the order of rows matters only in so far as codes depend on it. The minimization
itself is in ``training.full_batch``, the choice of priors in ``prior_path``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ..models.contract import FieldModel
from ..training.fitting import Plan, Trained, split_rows
from ..training.full_batch import is_plain_fm, minimize_lbfgs
from ..training.history import epoch_row, history_frame, print_record
from ..training.losses import Loss
from ..training.net import DivergenceError
from ..training.prediction import raw_predictions, weighted_loss
from ..training.priors import Priors
from ..training.rows import Rows
from .fitted import Fitted, Outcome
from .merging import group_equal_features, merge_equal_rows
from .prior_path import MAX_ITER_DEEP, PriorPath, make_folds
from .problem import Problem
from .start import Start

__all__ = ["LBFGSSolver", "train_lbfgs"]

_Record = dict[str, float]

_CPU = torch.device("cpu")
_N_FOLDS = 5
_NOTHING = 0.01  # a weight smaller than this one
_FEWEST_ROWS = 100  # of different features; with fewer, folds say little, and the priors stay


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
        start = Start.of(problem, before, self.name, reason, device=_CPU, dtype=torch.float64)
        folds, plan, rows = _folds(start), start.plan, start.rows
        if folds:
            # Strengths are looked for around those for weights of mean 1, whatever their unit.
            options = plan.options
            anew = {f"l2_{name}": getattr(options, f"l2_{name}") for name in plan.relaxed}
            anew = {name: value * problem.mean_weight for name, value in anew.items()}
            plan = replace(plan, options=replace(options, **anew))
        if start.split is not None and not plan.refit:
            rows = folds[0][0]
        max_iter = plan.max_epochs
        if _too_few_to_validate(start, folds) and not is_plain_fm(start.module):
            max_iter = MAX_ITER_DEEP  # what a choice by validation would take
        trained = train_lbfgs(
            start.module, start.loss, rows, plan, folds, start.restart, max_iter, valid=start.valid
        )
        if "dense" in trained.priors and _no_dense_weights(start.module):
            start.known["reason"] += (
                "; the prior that suits rows to validate on leaves the weights of dense layers at 0"
            )
        warning = None
        if not trained.converged and trained.stopped_by is None:
            warning = (
                f"lbfgs did not converge in max_epochs={start.plan.max_epochs} iterations. "
                "Raise max_epochs or tol, or strengthen the priors."
            )
        return Outcome(start.conclude(trained), trained.stopped_by, warning)


def _no_dense_weights(model: FieldModel) -> bool:
    """Whether the weights outside the tables do nothing."""
    tables = {id(table) for table in model.sparse_tables().values()}
    dense = [p for p in model.parameters() if id(p) not in tables and p.ndim > 1 and p.numel()]
    return bool(dense) and all(float(p.detach().abs().max()) < _NOTHING for p in dense)


def _folds(start: Start) -> list[tuple[Rows, Rows]]:
    """Rows to train on and to validate on, to choose priors by; none where they stay."""
    problem, rows = start.problem, start.rows
    if problem.options.early_stopping is False:
        return []
    if start.valid is not None:
        return [(rows, start.valid)]
    if start.split is not None:
        return [split_rows(rows, start.split)]
    # Merged rows of equal features but another target would give each other away, the wrong way
    # round; together they also keep a weight of 2 and a row twice the same.
    group = group_equal_features(problem.rows)
    if group.max() + 1 < _FEWEST_ROWS:
        return []
    # The same whatever random_state, lest that decides which prior wins.
    folds = make_folds(group, problem.target, _N_FOLDS, np.random.RandomState(0))
    return [split_rows(rows, fold) for fold in folds]


def _too_few_to_validate(start: Start, folds: list[tuple[Rows, Rows]]) -> bool:
    """Whether all is left to the library, but rows to validate on are too few."""
    options = start.problem.options
    is_open = options.max_epochs == "auto" and options.early_stopping is not False
    return is_open and bool(start.plan.relaxed) and not folds


def train_lbfgs(
    model: FieldModel,
    loss: Loss,
    rows: Rows,
    plan: Plan,
    folds: list[tuple[Rows, Rows]],
    restart: Callable[[], None],
    max_iter: int,
    *,
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
        Penalties, which of them to choose, tolerance; an epoch is an iteration.
    folds : list of (Rows, Rows)
        Rows to train on and rows to validate on, for the choice of penalties; without any, they
        stay.
    restart : callable
        Puts the model's start values back.
    max_iter : int
        Iterations at most, if the path of strengths does not end them sooner. Where they are fewer
        than the plan's, an end by them is one on purpose.
    valid : Rows, default=None
        Rows to watch that are no part of `rows`.

    Returns
    -------
    Trained
    """
    options = plan.options
    # A precision that is given means what LogisticRegression's does; one that is left to us
    # takes neighbouring bins for alike.
    priors = Priors(options.l2_linear, options.l2_embedding, options.l2_dense, plan.relaxed)
    search, phase = [], "fit"
    if folds and plan.relaxed and plan.max_epochs:
        path = PriorPath(model, loss, folds, priors, plan, restart)
        search, phase = path.records, "refit"
        try:
            priors = path.search()
        except KeyboardInterrupt as stop:
            return Trained(_history(search, [], loss, phase), 0, stopped_by=stop)
        restart()
        model.load_state_dict(path.linear, strict=False)
        max_iter = path.max_iter
    descent = _Descent(model, loss, rows, priors, plan, valid, phase)
    descent.run(max_iter)
    return Trained(
        _history(search, descent.records, loss, phase),
        len(descent.records),
        converged=descent.converged or max_iter < plan.max_epochs,
        stopped_by=descent.stopped_by,
        priors={name: float(getattr(priors, name)) for name in plan.relaxed},
    )


def _history(search: list[_Record], last: list[_Record], loss: Loss, phase: str) -> pd.DataFrame:
    tables = [
        history_frame(search, loss.metric_name, "search"),
        history_frame(last, loss.metric_name, phase),
    ]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


class _Descent:
    """One run of L-BFGS on all rows, with its record."""

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        rows: Rows,
        priors: Priors,
        plan: Plan,
        valid: Rows | None,
        phase: str,
    ) -> None:
        self.model, self.loss, self.rows, self.priors = model, loss, rows, priors
        self.plan, self.valid, self.phase = plan, valid, phase
        self.records: list[_Record] = []
        self.converged = True
        self.stopped_by: BaseException | None = None
        self._clock = time.perf_counter()

    def run(self, max_iter: int) -> None:
        """Minimize."""
        if not max_iter:
            return
        start = {name: value.clone() for name, value in self.model.state_dict().items()}
        constant = self._constant_loss()
        self._bar = tqdm(total=max_iter, unit="epoch", disable=self.plan.verbose < 2)
        try:
            result = minimize_lbfgs(
                self.model,
                self.loss,
                self.rows,
                self.priors,
                max_iter=max_iter,
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

    def _constant_loss(self) -> float:
        raw = self.model.bias.detach().expand(len(self.rows), -1).numpy()
        return weighted_loss(self.loss, raw, self.rows)

    def _report(self, train_loss: float) -> bool:
        """Take note of an iteration; whether to stop."""
        now = time.perf_counter()
        record: _Record = {"epoch": len(self.records) + 1, "train_loss": train_loss}
        if self.valid is not None:
            raw = raw_predictions(self.model, self.valid)
            target, weight = self.valid.target.numpy(), self.valid.weight.numpy()
            record["valid_loss"] = weighted_loss(self.loss, raw, self.valid)
            metric = self.loss.metric(raw, target, weight)
            record[f"valid_{self.loss.metric_name}"] = metric
            self.model.train()
        record |= {"dur": now - self._clock, "learning_rate": math.nan}
        record |= self.priors.record(self.plan.relaxed)
        self._clock = now
        self.records.append(record)
        self._bar.update()
        self._bar.set_postfix({k: v for k, v in record.items() if k.endswith("_loss")})
        if self.plan.verbose == 1:
            print_record(epoch_row(record, self.loss.metric_name, self.phase))
        return self.plan.on_epoch is not None and self.plan.on_epoch(self.model)
