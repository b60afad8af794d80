"""Solvers that step along gradients of mini-batches: "adagrad", "adam", "sgd", "ftrl".

Steps, rules and epochs are told in ``training``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..training.fitting import Plan, Trained, train_gradient
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
        if state is None and before is not None and problem.one_pass and self.name == "adagrad":
            state = _as_if_trained(start, before)
        trained = _train(start, start.plan, state)
        return Outcome(start.conclude(trained), trained.stopped_by, path=trained.path)


def _train(start: Start, plan: Plan, state: dict[str, Any] | None) -> Trained:
    return train_gradient(
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


def _as_if_trained(start: Start, before: Fitted) -> dict[str, Any]:
    """State of "adagrad" as if it had trained what another solver did, on rows like these.

    Steps begin large, which would undo what is known. So the rows are passed over once without a
    step, and their squared gradients count for those of all rows before. The priors count, too: a
    sum of squares of (learning rate * precision)^2 makes a step no longer than Newton's would be
    if there were the prior alone, as is nearly so for vectors that hardly matter.
    """
    still = replace(start.plan.options, learning_rate=0.0, learning_rate_dense=0.0)
    quiet = replace(start.plan, options=still, callbacks=[], on_epoch=None, verbose=0)
    trained = _train(start, quiet, None)
    start.restart()
    state = trained.stepper_state
    assert state is not None
    options = start.plan.options
    first = options.initial_accumulator
    priors = {"embedding": options.l2_embedding, "linear": options.l2_linear}
    times = before.seen_weight / (start.known["seen_weight"] - before.seen_weight)
    for name, values in state["tables"].items():
        prior = options.learning_rate * priors.get(name.split(".")[0], 0.0)
        values[...] = first + (values - first) * times + prior**2
    return state
