"""Whether draws from the posterior are what "auto" takes: what they cost, what they cannot honour.

Nothing is measured here: the estimate is a formula, the same on every machine, lest the machine
decide which solver it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...data.array import FieldArray
from ...kernels import HAS_KERNELS
from ..fitted import Fitted
from ..merging import MERGED_ROWS, merge_equal_rows
from ..problem import Options, Problem
from .likelihoods import count_copies
from .solver import GibbsSolver, check_draws_fit

__all__ = ["MOST_SECONDS", "estimate_seconds", "why_no_draws"]

#: Seconds on one core that draws may take by the estimate.
MOST_SECONDS = 20.0
_USUAL_SWEEPS = 250  # of those that end by themselves; from 100 to 500
# Seconds of a sweep, as examples/benchmarks/bayes_speed.py --task cost compares them: per row (of
# classes or levels as often as its weight says); per entry and per block, each a + b K^2; per
# vocabulary, whatever its size, a + b K^3 for its matrices; and of the whole.
_ROW = 2.3e-8
_ENTRY = 4e-9, 3e-11
_BLOCK = 2.3e-7, 1e-10
_VOCABULARY = 1e-4, 2e-9
_SWEEP = 3e-4
_COLUMN = 5e-6  # of a sparse matrix, once
_WITHOUT_KERNELS = 30.0
_FEW_ROWS = 500  # from where on draws are better on numbers too
# What only a descent heeds, where it is not at its default.
_OF_DESCENTS = (
    "l2_linear",
    "l2_embedding",
    "tol",
    "batch_size",
    "initial_accumulator",
    "patience",
    "validation_fraction",
    "refit",
    "deterministic",
)


def estimate_seconds(problem: Problem) -> float:
    """Seconds on one core that sampling takes.

    Parameters
    ----------
    problem : Problem
        What to fit.

    Returns
    -------
    float
    """
    rows, schema, options = problem.rows, problem.spec.schema, problem.options
    n_rows = rows.shape[0]
    if isinstance(rows, FieldArray):
        n_entries = n_rows * schema.n_slots
        sizes = dict(zip(schema.vocabularies, schema.vocabulary_sizes, strict=True))
        slots: dict[str, int] = dict.fromkeys(sizes, 0)
        for field in schema.slot_fields:
            slots[schema.vocabularies[field]] += 1
        n_blocks = sum(min(size, n_rows * slots[name]) for name, size in sizes.items())
        n_vocabularies, once = len(sizes), 0.0
    else:
        n_entries, n_blocks, n_vocabularies = rows.nnz, min(rows.shape[1], rows.nnz), 1
        once = _COLUMN * rows.shape[1]
    width = problem.spec.arguments["embedding_dim"]
    square = width**2
    n_targets = (
        n_rows if problem.task.kind == "numbers" else int(count_copies(problem.weight).sum())
    )
    sweep = _SWEEP + problem.task.n_outputs * (
        n_targets * _ROW
        + n_entries * (_ENTRY[0] + _ENTRY[1] * square)
        + n_blocks * (_BLOCK[0] + _BLOCK[1] * square)
        + n_vocabularies * (_VOCABULARY[0] + _VOCABULARY[1] * width * square)
    )
    n_sweeps = _USUAL_SWEEPS if options.n_sweeps == "auto" else options.n_sweeps
    return once + n_sweeps * sweep * (1.0 if HAS_KERNELS else _WITHOUT_KERNELS)


def why_no_draws(problem: Problem, before: Fitted | None = None) -> str | None:
    """Why a problem is not for draws, if nobody asked for them.

    Parameters
    ----------
    problem : Problem
        What to fit, on rows in memory.
    before : Fitted, default=None
        What to go on from.

    Returns
    -------
    str or None
        In the user's words; None if draws are what it should be fitted by.
    """
    options, usual = problem.options, Options()
    steered = [name for name in _OF_DESCENTS if getattr(options, name) != getattr(usual, name)]
    if steered:
        return f"{steered[0]}={getattr(options, steered[0])!r} is for a descent"
    if before is not None and before.draws is None:
        return f"the fit before was by {before.solver!r}"
    if problem.watch is not None:
        return "rows to watch are for a descent"
    if problem.find_pretrained is not None:
        return "pretrained embeddings are for a descent"
    if problem.task.kind == "classes" and np.any(problem.weight % 1 != 0):
        # A label of weight 1.2 has that of two rows with more noise, which makes too sure; one of
        # weight 2 is two rows.
        return "weights of classes are not whole, by which draws are surer than they should be"
    if "binned" in problem.spec.schema.kinds and _count_different(problem) < _FEW_ROWS:
        return (
            f"fewer than {_FEW_ROWS} different rows are too few for bins, of which lbfgs takes "
            "neighbours for alike"
        )
    if GibbsSolver().refuses(problem) is not None or _interacts_with_itself(problem):
        return "raw predictions are not linear in the weights of each category"
    try:
        check_draws_fit(problem.spec)
    except MemoryError:
        return "draws would not fit into memory"
    seconds = estimate_seconds(problem)
    if seconds > MOST_SECONDS:
        return f"draws would take about {seconds:,.0f} s on one core, more than {MOST_SECONDS:g} s"
    return None


def _count_different(problem: Problem) -> int:
    """Rows of different features or targets, where they are few: a weight of 2 is a row twice."""
    if len(problem.target) > MERGED_ROWS:
        return len(problem.target)
    return len(merge_equal_rows(problem.rows, problem.target, problem.weight)[1])


def _interacts_with_itself(problem: Problem) -> bool:
    """Whether some category occurs twice in a row so that raw predictions are quadratic in it."""
    rows, schema = problem.rows, problem.spec.schema
    if not isinstance(rows, FieldArray):
        return False
    if "max" in schema.poolings:
        return True
    pair_slots = problem.spec.arguments.get("pair_slots", False)
    is_shared = len(set(schema.vocabularies)) < schema.n_fields
    if not is_shared and not (pair_slots and schema.n_slots > schema.n_fields):
        return False
    indices, values = rows.indices_and_values()
    indices = np.where(values != 0, indices, -1 - np.arange(schema.n_slots))
    order = np.argsort(indices, axis=1)
    ordered: Any = np.take_along_axis(indices, order, axis=1)
    field = np.array(schema.slot_fields)[order]
    twice = ordered[:, 1:] == ordered[:, :-1]
    return bool(np.any(twice & (pair_slots | (field[:, 1:] != field[:, :-1]))))
