"""Which solver fits a problem, and why: the one place that knows what "auto" means."""

from __future__ import annotations

import math
from typing import NamedTuple

from .als import ALSSolver
from .deep_draws import DeepDrawsSolver
from .fitted import Fitted
from .gibbs.solver import GibbsSolver
from .gibbs.suits import MOST_SECONDS, estimate_seconds, why_no_draws
from .gradient import GradientSolver
from .lbfgs import LBFGSSolver
from .merging import MERGED_ROWS
from .problem import Problem
from .solver import Solver

__all__ = ["SOLVERS", "Choice", "choose"]

# L-BFGS is the choice where a pass over all rows costs a few milliseconds.
_SMALL_ENTRIES = 100_000
_SMALL_WEIGHTS = 1_000_000
_OF_BLOCKS = ("als", "gibbs")


_ALL: tuple[Solver, ...] = (
    LBFGSSolver(),
    *(GradientSolver(name) for name in ("adagrad", "adam", "sgd", "ftrl")),
    ALSSolver(),
    GibbsSolver(),
)
#: All solvers by name.
SOLVERS = {solver.name: solver for solver in _ALL}
_DEEP_DRAWS = DeepDrawsSolver()  # what "gibbs" means for some models


class Choice(NamedTuple):
    """A solver, and why this one."""

    solver: Solver
    reason: str


def choose(problem: Problem, before: Fitted | None = None) -> Choice:
    """Find the solver of a problem.

    Parameters
    ----------
    problem : Problem
        What to fit.
    before : Fitted, default=None
        What to go on from.

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        If the user asks for a solver that cannot fit the problem, or not go on from the fit
        before; the message says why.
    """
    asked, needs_draws = problem.options.solver, problem.task.needs_draws
    if asked != "auto":
        name, reason = asked, f"solver={asked!r} was asked for"
    else:
        name, reason = _automatic(problem, before)
    if needs_draws and name != "gibbs":
        raise ValueError(
            f"loss='ordinal' and noise_field need solver='gibbs' (or 'auto'), got {name!r}."
        )
    solver = SOLVERS[name]
    if name == _DEEP_DRAWS.name and _DEEP_DRAWS.is_for(problem):
        solver = _DEEP_DRAWS
    refusal = (
        _refused_options(problem, name)
        or solver.refuses(problem)
        or _refused_change(problem, solver, before)
    )
    if refusal is not None:
        raise ValueError(refusal)
    return Choice(solver, reason)


def _automatic(problem: Problem, before: Fitted | None) -> tuple[str, str]:
    """What "auto" means for a problem, and why."""
    if problem.task.needs_draws:
        return "gibbs", f"{problem.task.needs_draws} needs draws from the posterior"
    if problem.options.l1_linear:
        return "ftrl", "l1_linear asks for weights of exactly 0"
    needs = _needs_batches(problem)
    if needs:
        return "adagrad", f"{needs} calls for mini-batches"
    no_draws = ""
    can_draw = problem.takes_draws and not _DEEP_DRAWS.is_for(problem)
    if can_draw and (problem.device_is_free or not _is_elsewhere(problem)):
        why = why_no_draws(problem, before)
        if why is None:
            return "gibbs", (
                "draws from the posterior predict best, and take about "
                f"{estimate_seconds(problem):.2g} s on one core, at most {MOST_SECONDS:g} s"
            )
        no_draws = f"; no draws, as {why}"
    if _is_elsewhere(problem):
        return "adagrad", f"device {problem.device.type!r} calls for mini-batches{no_draws}"
    name, reason = _descent(problem)
    return name, reason + no_draws


def _descent(problem: Problem) -> tuple[str, str]:
    """Which descent suits a problem on the CPU, and why."""
    n_rows, n_columns = problem.rows.shape
    # A model that reads fields spreads the rows of a sparse matrix out to all columns.
    spread = "fields" in problem.spec.model_class.reads
    n_entries = math.prod((n_rows, n_columns)) if spread else problem.rows.size
    width = problem.spec.tables()["embedding"].width
    n_weights = problem.spec.schema.table_size * width
    sizes = {
        "rows": (n_rows, MERGED_ROWS),
        "entries": (n_entries, _SMALL_ENTRIES),
        "embedding weights": (n_weights, _SMALL_WEIGHTS),
    }
    for what, (size, limit) in sizes.items():
        if size > limit:
            return "adagrad", f"{size:,} {what} are more than {limit:,}, up to which lbfgs is quick"
    few = ", ".join(f"{size:,} {what}" for what, (size, _) in sizes.items())
    return "lbfgs", f"{few} are few enough to take all rows at once"


def _is_elsewhere(problem: Problem) -> bool:
    """Whether the device is not the CPU."""
    return problem.device.type != "cpu"


def _refused_options(problem: Problem, name: str) -> str | None:
    """Why the model or the solver has no use for a choice of the user."""
    options, model = problem.options, problem.spec.model_class.__name__
    if options.l1_linear and name not in ("ftrl", *_OF_BLOCKS):
        return (
            f"l1_linear={options.l1_linear} needs solver='ftrl' (or 'auto'), which alone has "
            f"exact zeros; got solver={name!r}."
        )
    if "linear" in problem.spec.tables():
        return None
    given = {"l2_linear": options.l2_linear != "auto", "l1_linear": options.l1_linear > 0}
    return next(
        (
            f"{model} has no linear term for {name} to act on; leave it at its default."
            for name, is_given in given.items()
            if is_given
        ),
        None,
    )


def _refused_change(problem: Problem, solver: Solver, before: Fitted | None) -> str | None:
    """Why the fit before is no start for this one: links and widths must agree."""
    if before is None:
        return None
    name = solver.name
    of_blocks = {known in _OF_BLOCKS for known in (before.solver, name)}
    if before.draws is not None and problem.options.solver == "auto":
        of_blocks = set()  # a descent knows how to go on from draws; by name it is meant otherwise
    if len(of_blocks) > 1 or (before.solver, name) == ("gibbs", "als"):
        return (
            f"warm_start cannot go on from solver={before.solver!r} with {name!r}: weights "
            "mean different things to them. Fit anew with warm_start=False; only 'gibbs' goes "
            "on from 'als'."
        )
    if before.spec.model_class is not problem.spec.model_class and solver is not _DEEP_DRAWS:
        return (
            "warm_start cannot go on from draws with an MLP of embeddings of its own beside them, "
            f"as solver='gibbs' has fitted, with {name!r} and hidden_layer_sizes="
            f"{problem.spec.arguments['hidden_layer_sizes']}. Fit anew with warm_start=False."
        )
    then, now = dict(before.chosen), dict(problem.spec.arguments)
    if name not in _OF_BLOCKS:  # which cut predictions off, and so may cut elsewhere now
        then["y_range"], now["y_range"] = before.task.y_range, problem.task.y_range
    for parameter in now.keys() - {"init_scale"}:
        if then[parameter] != now[parameter]:
            return (
                f"A fit that goes on keeps its module, of {parameter}={then[parameter]!r}, but "
                f"{parameter} is now {now[parameter]!r}. Set it back, or fit anew with "
                "warm_start=False."
            )
    return None


def _needs_batches(problem: Problem) -> str | None:
    """What only mini-batches can honour, in the user's words."""
    options = problem.options
    wanted = {
        "partial_fit": problem.one_pass,
        "max_epochs": options.max_epochs != "auto",
        "early_stopping=True": options.early_stopping is True,
        "callbacks": bool(options.callbacks),
        "gradient_clip": options.gradient_clip is not None,
        "unknown_dropout": options.unknown_dropout > 0,
        "learning_rate": options.learning_rate is not None,
        "learning_rate_schedule": options.learning_rate_schedule != "constant",
        "dropout or batch_norm": problem.spec.defaults(1.0).needs_batches,
        "a table on disk": problem.is_on_disk,
    }
    return next((name for name, is_so in wanted.items() if is_so), None)
