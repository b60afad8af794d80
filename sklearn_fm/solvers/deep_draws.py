"""Solver "gibbs" of models that add an MLP to a factorization machine: draws, gradients beside.

Draws and descent are those of ``gibbs`` and ``gradient``; how much of each goes into a prediction
is told in ``blend``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.folder import FieldFolder
from ..training.net import DivergenceError
from .blend import Blend, as_raw, find_blend
from .fitted import Fitted, Outcome, fitted_module
from .gibbs.solver import GibbsSolver
from .gradient import GradientSolver
from .problem import ModelSpec, Problem, Watch
from .start import stops_early

__all__ = ["DeepDrawsSolver"]

_DRAWS, _DEEP = GibbsSolver(), GradientSolver("adagrad")
_DIVERGED = (
    "The loss of the MLP beside the draws became infinite or NaN, so training it ended early; "
    "solver_reason_ tells whether what it had learned is of use. Lower learning_rate or "
    "learning_rate_dense tenfold, and scale numbers to about 1."
)


@dataclass(frozen=True)
class DeepDrawsSolver:
    """Draws of the factorization machine, and the whole model by gradients, on own embeddings."""

    name: str = "gibbs"

    def is_for(self, problem: Problem) -> bool:
        """Whether the model adds hidden layers to a factorization machine.

        Parameters
        ----------
        problem : Problem
            What to fit.

        Returns
        -------
        bool
        """
        spec = problem.spec
        return spec.model_class.adds_to is not None and bool(spec.arguments["hidden_layer_sizes"])

    def refuses(self, problem: Problem) -> str | None:
        """As `Solver.refuses`."""
        name = problem.spec.model_class.__name__
        if problem.options.early_stopping is False:
            return (
                f"solver='gibbs' finds the weight of {name}'s MLP on rows held out, so it needs "
                "early_stopping=True or 'auto'. FMClassifier and FMRegressor are draws alone."
            )
        if problem.watch is not None and isinstance(problem.watch.rows, FieldFolder):
            return "solver='gibbs' needs an eval_set that fits into memory."
        return _DRAWS.refuses(_of_draws(problem)) or _DEEP.refuses(problem)

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """As `Solver.fit`."""
        outcome = _Fit(problem, before, reason).run()
        return outcome._replace(fitted=replace(outcome.fitted, chosen=problem.spec.arguments))


class _Fit:
    """One fit: draws of all rows, both models on a part of them, the deep one on all."""

    def __init__(self, problem: Problem, before: Fitted | None, reason: str) -> None:
        self.problem, self.before, self.reason = problem, before, reason
        self.holds_out = stops_early(problem, _DEEP.name)
        self.refits = problem.options.refit or problem.watch is not None or not self.holds_out
        self.asked_to_stop = False

    def run(self) -> Outcome:
        """Fit what is to be fitted; a Ctrl-C leaves what was complete before it."""
        problem, before = self.problem, self.before
        draws = _of_draws(replace(problem, on_epoch=self._listener()))
        if not self.refits:
            self._hold_out()
            draws = draws.at(*self.part)
        drawn = _DRAWS.fit(draws, None if before is None else _draws_alone(before), self.reason)
        so_far = drawn.fitted
        if before is not None and before.blend is not None and _digest(so_far) == _digest(before):
            return drawn._replace(fitted=_together(so_far, before.blend, _rest(before)))
        if drawn.stopped_by is not None or self.asked_to_stop:
            return drawn
        if not self.holds_out:
            few = "; rows are too few to hold some out, so there is no MLP beside the draws"
            return drawn._replace(fitted=replace(so_far, reason=so_far.reason + few))
        if self.refits:  # after the draws, which so are those of this seed without an MLP
            self._hold_out()
        self.so_far, self.warning = so_far, drawn.warning
        stopped_by = None
        try:
            self._add_deep()
        except KeyboardInterrupt as stop:
            stopped_by = stop
        return Outcome(self.so_far, stopped_by, self.warning)

    def _listener(self) -> Callable[[Callable[[], Any]], bool] | None:
        """Tell of the sweeps, as long as nobody wants to stop."""
        on_epoch = self.problem.on_epoch
        if on_epoch is None:
            return None

        def listen(so_far: Callable[[], Any]) -> bool:
            self.asked_to_stop = on_epoch(so_far)
            return self.asked_to_stop

        return listen

    def _hold_out(self) -> None:
        """Set rows to find weights by apart from those that the models learn from meanwhile."""
        problem = self.problem
        if problem.watch is not None:
            self.held_out = problem.watch
            self.part = Watch(problem.rows, problem.target, problem.weight)
            return
        strata = problem.task.strata(problem.target)
        kept, out = problem.hold_out(len(problem.target), problem.rng, strata)
        self.part, self.held_out = (
            Watch(problem.rows[rows], problem.target[rows], problem.weight[rows])
            for rows in (kept, out)
        )

    def _add_deep(self) -> None:
        """Find weights of both models, and fit the deep one to all rows."""
        problem, drawn, held_out = self.problem, self.so_far, self.held_out
        of_part = replace(problem.at(*self.part), watch=held_out, on_epoch=None)
        found, rest = drawn, pd.DataFrame()
        again = self.refits and problem.watch is None  # on all rows
        if again:
            found = self._finished(_DRAWS.fit(_of_draws(of_part))).fitted
            rest = _in_phase(found, "search (draws)")
        seed = int(problem.rng.randint(2**31 - 1))  # of both descents: from one start
        outcome = _DEEP.fit(_of_deep(of_part, seed))
        deep = outcome.fitted
        rest = pd.concat([rest, _in_phase(deep, "search (deep)")], ignore_index=True)
        blend = self._weigh(found, deep)
        if not blend.of_deep:
            self.so_far = _together(drawn, blend, rest)
            self._finished(outcome)
            return
        self.so_far = _together(drawn, replace(blend, deep=_bare(deep)), rest)
        if self._finished(outcome).stopped_by is None and again:
            all_rows = replace(_of_deep(problem, seed), on_epoch=None, path=outcome.path)
            options = replace(all_rows.options, early_stopping=False)
            outcome = self._finished(_DEEP.fit(replace(all_rows, options=options)))
            if outcome.stopped_by is None:
                deep = outcome.fitted
                rest = pd.concat([rest, _in_phase(deep, "refit (deep)")], ignore_index=True)
                self.so_far = _together(drawn, replace(blend, deep=_bare(deep)), rest)

    def _weigh(self, found: Fitted, deep: Fitted) -> Blend:
        """Weights of draws and of a deep model by the rows held out."""
        problem, rows, loss = self.problem, self.held_out.rows, found.loss
        base = np.zeros(1)
        if loss.is_classifier:
            base = loss.best_constant(problem.target, problem.weight)
        drawn = found.raw(rows, problem.n_threads).astype(np.float64)
        raw = deep.raw(rows, problem.n_threads, lambda: problem.device)
        return find_blend(drawn, as_raw(deep, raw, loss), self.held_out, base, loss)

    def _finished(self, outcome: Outcome) -> Outcome:
        """A fit that no Ctrl-C cut short; a descent that diverged is told of in the end."""
        if isinstance(outcome.stopped_by, DivergenceError):
            self.warning = _DIVERGED
        elif outcome.stopped_by is not None:
            raise outcome.stopped_by
        return outcome


def _of_draws(problem: Problem) -> Problem:
    """The problem of the factorization machine alone, which the CPU draws."""
    spec = problem.spec
    model_class = spec.model_class.adds_to
    assert model_class is not None
    names = inspect.signature(model_class).parameters
    arguments = {name: value for name, value in spec.arguments.items() if name in names}
    return replace(
        problem,
        spec=ModelSpec(model_class, spec.schema, spec.n_outputs, arguments),
        options=replace(problem.options, early_stopping="auto"),
        device=torch.device("cpu"),
        watch=None,
    )


def _of_deep(problem: Problem, seed: int) -> Problem:
    """The problem of the whole model by gradients."""
    options = replace(problem.options, solver="auto")  # by which dense layers have Adam
    return replace(problem, options=options, rng=np.random.RandomState(seed))


def _together(drawn: Fitted, blend: Blend, rest: pd.DataFrame) -> Fitted:
    """Draws with what stands beside them."""
    history = pd.concat([drawn.history, rest], ignore_index=True)
    reason = drawn.reason + blend.describe()
    return replace(drawn, history=history, reason=reason, blend=blend)


def _draws_alone(fitted: Fitted) -> Fitted:
    """Draws as their own solver left them, to go on from."""
    history = fitted.history[fitted.history["phase"] == "fit"].dropna(axis=1, how="all")
    return replace(fitted, history=history, blend=None)


def _rest(fitted: Fitted) -> pd.DataFrame:
    """History of all but the draws that predict."""
    return fitted.history[fitted.history["phase"] != "fit"]


def _in_phase(fitted: Fitted, phase: str) -> pd.DataFrame:
    return fitted.history.assign(phase=phase)


def _bare(deep: Fitted) -> Fitted:
    """What predicts, without what a further descent needs."""
    values = {name: value for name, value in vars(deep).items() if not name.startswith("_")}
    del values["weights"]
    values |= {"state": None, "history": deep.history.iloc[:0]}
    return fitted_module(deep.module(), **values)


def _digest(fitted: Fitted) -> Any:
    """Hash of what was drawn."""
    return None if fitted.draws is None else fitted.draws.chain["digest"]
