"""Solvers that step along gradients of mini-batches: "adagrad", "adam", "sgd", "ftrl".

Steps, rules and epochs are told in ``training``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..training.fitting import train_gradient
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
        trained = train_gradient(
            start.module,
            start.loss,
            start.rows,
            start.plan,
            start.generator,
            start.restart,
            split=start.split,
            valid=start.valid,
            stepper_state=state,
        )
        return Outcome(start.conclude(trained), trained.stopped_by)
