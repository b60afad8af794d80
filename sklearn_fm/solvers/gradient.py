"""Solvers that step along gradients of mini-batches: "adagrad", "adam", "sgd", "ftrl".

Steps, rules and epochs are told in ``training``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from ..models.contract import FieldModel
from ..training.fitting import Trained, train_gradient
from .fitted import Fitted, Outcome
from .problem import Problem
from .start import Start

__all__ = ["GradientSolver"]


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
        """Why the problem is not for this solver.

        Parameters
        ----------
        problem : Problem
            What to fit.

        Returns
        -------
        str or None
            A sentence for the user; None if it can be fitted.
        """
        options = problem.options
        if options.l1_linear and self.name != "ftrl":
            return (
                f"l1_linear={options.l1_linear} needs solver='ftrl' (or 'auto'), which alone has "
                f"exact zeros; got solver={self.name!r}."
            )
        if self.name == "ftrl" and options.learning_rate_schedule != "constant":
            return (
                "solver='ftrl' weighs the gradients of all steps by one learning rate, so "
                "learning_rate_schedule must be 'constant', got "
                f"{options.learning_rate_schedule!r}."
            )
        return None

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """Fit the problem.

        Parameters
        ----------
        problem : Problem
            What to fit.
        before : Fitted, default=None
            What to go on from; left as it is.
        reason : str, default=""
            Why this solver was chosen.

        Returns
        -------
        Outcome
        """
        start = Start.of(problem, before, self.name, device=problem.device, dtype=torch.float32)
        common: dict[str, Any] = {"solver": self.name, "reason": reason}

        def on_epoch(module: FieldModel) -> bool:
            def so_far() -> Fitted:
                module_now = copy.deepcopy(module)
                return start.fitted(
                    module_now, problem, before, history=pd.DataFrame(), n_epochs=0, **common
                )

            return problem.on_epoch is not None and problem.on_epoch(so_far)

        state = before.state if before is not None and problem.one_pass else None
        if state and state["solver"] != self.name:
            state = None  # the new solver starts from the weights alone
        plan = replace(start.plan, on_epoch=None if problem.on_epoch is None else on_epoch)
        trained = train_gradient(
            start.module,
            start.loss,
            start.rows,
            plan,
            start.generator,
            start.restart,
            split=start.split,
            valid=start.valid,
            stepper_state=state,
        )
        history = trained.history
        if before is not None and problem.one_pass:
            more = history.assign(epoch=len(before.history) + 1)
            history = pd.concat([before.history, more], ignore_index=True)
        fitted = start.fitted(
            start.module,
            problem,
            before,
            history=history,
            n_epochs=trained.n_epochs,
            priors=found_priors(trained, start, before),
            state=trained.stepper_state,
            **common,
        )
        return Outcome(fitted, trained.stopped_by)


def found_priors(trained: Trained, start: Start, before: Fitted | None) -> dict[str, float]:
    """Precisions that early stopping picked on the path of relaxed priors.

    Parameters
    ----------
    trained : Trained
        What came of the training.
    start : Start
        Where it started.
    before : Fitted or None
        What was gone on from, whose precisions stay where none were found.

    Returns
    -------
    dict of float
        By the name of the prior, for weights as the user gave them.
    """
    found = {} if before is None else dict(before.priors)
    relaxed, history = start.plan.relaxed, trained.history
    names = [name for name in relaxed if f"l2_{name}" in history]
    if names and trained.n_epochs:
        last = history.iloc[trained.n_epochs - 1]
        found.update({name: float(last[f"l2_{name}"]) * start.mean_weight for name in names})
    return found
