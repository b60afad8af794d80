"""Solvers that step along gradients of mini-batches: "adagrad", "adam", "sgd", "ftrl".

Steps, rules and epochs are told in ``training``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..training.fitting import Plan, Trained, train_gradient
from ..training.losses import SquaredError
from ..training.prediction import raw_predictions, weighted_loss
from ..training.rows import Rows
from .fitted import Fitted, Outcome
from .problem import Problem, mean_fields
from .start import Start

__all__ = ["GradientSolver"]

_SOME_ROWS = 1000  # that tell the curvature of a loss
_LEAST_SQUARE = 1e-6  # of residuals, in variances of the target


@dataclass(frozen=True)
class GradientSolver:
    """Mini-batch training by one rule for the rows of the tables.

    Attributes
    ----------
    name : {"adagrad", "adam", "sgd", "ftrl"}
        The rule.
    """

    name: str

    def refuses(self, problem: Problem) -> str | None:
        """As `Solver.refuses`."""
        options = problem.options
        if self.name == "ftrl" and options.learning_rate_schedule != "constant":
            return (
                "solver='ftrl' weighs the gradients of all steps by one learning rate, so "
                "learning_rate_schedule must be 'constant', got "
                f"{options.learning_rate_schedule!r}."
            )
        return None

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """As `Solver.fit`."""
        start = Start.of(
            problem, before, self.name, reason, device=problem.device, dtype=torch.float32
        )
        state = before.state if before is not None and problem.one_pass else None
        if state and state["solver"] != self.name:
            state = None  # the new solver starts from the weights alone
        if state is None and before is not None and problem.one_pass and self.name == "adagrad":
            state = _as_if_trained(start, before)
        trained = _train(start, start.rows, start.plan, state)
        return Outcome(start.conclude(trained), trained.stopped_by, path=trained.path)


def _train(start: Start, rows: Rows, plan: Plan, state: dict[str, Any] | None) -> Trained:
    return train_gradient(
        start.module,
        start.loss,
        rows,
        plan,
        start.generator,
        start.restart,
        split=start.split,
        valid=start.valid,
        stepper_state=state,
    )


def _as_if_trained(start: Start, before: Fitted) -> dict[str, Any]:
    """State of "adagrad" as if it had trained what another solver did, on rows like these.

    Steps begin large, which would undo what is known. With a sum of squares of (learning rate h)^2
    a step is the gradient over h, as Newton's is for a curvature h: that of all rows before, by the
    squared gradients of some of these (their Fisher information), and of the priors. It is
    multiplied by the number of weights of a row, which all step at once.
    """
    rows, plan = start.rows, start.plan
    if rows.n_units == len(rows):
        some = np.linspace(0, len(rows) - 1, min(len(rows), _SOME_ROWS)).astype(np.intp)
        rows = rows.subset(torch.from_numpy(some).to(rows.target.device))
    else:
        rows = rows.head(_SOME_ROWS)
    still = replace(plan.options, learning_rate=0.0, learning_rate_dense=0.0)
    quiet = replace(plan, options=still, batch_size=1, callbacks=[], on_epoch=None, verbose=0)
    state = _train(start, rows, quiet, None).stepper_state
    start.restart()
    assert state is not None
    options, first = plan.options, plan.options.initial_accumulator
    priors = {"embedding": options.l2_embedding, "linear": options.l2_linear}
    times = before.seen_weight / float(rows.weight.sum())
    if isinstance(start.loss, SquaredError):  # whose curvature is 1, whatever the residuals
        square = 2 * weighted_loss(start.loss, raw_predictions(start.module, rows), rows)
        times /= max(square, _LEAST_SQUARE)
    at_once = 2 * mean_fields(start.problem.rows) + 1
    schema = start.module.schema
    is_new = np.ones(schema.table_size, dtype=bool)
    for _, now, n_rows in schema.rows_kept(before.spec.schema) or ():
        is_new[now : now + n_rows] = False
    tables = {**start.module.sparse_tables(), "bias": start.module.bias[None]}
    for name, values in state["tables"].items():
        table = name.split(".")[0]
        width = tables[table].shape[1] / values.shape[1]
        curvature = at_once * (width * (values - first) * times + priors.get(table, 0.0))
        values[...] = first + (options.learning_rate * curvature) ** 2
        if table != "bias":
            values[is_new] = first
    return state
