"""Solver "als": block coordinate descent for squared loss, each index's block in closed form.

The objective is that of the gradient solvers, sum_i w_i e_i^2 / 2 + l2_linear/2 |w|^2 +
l2_embedding/2 |V|^2.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..models.contract import FieldModel
from ..training.history import in_phase
from ..training.threads import limit_threads
from .blocks.contract import BlockTable
from .blocks.preparing import (
    find_refusal,
    in_order,
    read_module,
    table_of_blocks,
    write_module,
)
from .blocks.progress import Progress
from .fitted import Fitted, Outcome, fitted_module
from .problem import Problem, mean_fields
from .start import StartValues, check_tables, stops_early

__all__ = ["ALSSolver", "Descent", "Watched", "descend"]


class Watched:
    """Rows to validate on.

    Parameters
    ----------
    block_table : BlockTable
        At these rows.
    target, weight : ndarray of shape (n_rows,)
        Their targets and sample weights.
    """

    def __init__(
        self, block_table: BlockTable, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> None:
        self.block_table, self.weight = block_table, weight
        block_table.write(np.zeros((block_table.design.n_blocks, block_table.embedding_dim + 1)))
        block_table.set_residuals(target, weight)

    def loss(self, table: NDArray[np.float64], bias: float) -> float:
        """Mean of half the squared errors of all indices' blocks and a bias."""
        self.block_table.write(table[self.block_table.design.indices])
        return float(
            np.average((self.block_table.residuals() - bias) ** 2, weights=self.weight) / 2
        )


@dataclass
class Descent:
    """What came of block coordinate descent.

    Attributes
    ----------
    bias : float
        Constant part of the raw predictions.
    table : ndarray of shape (table_size, D)
        Blocks [v | w] of all indices; those that no row has are as they were.
    records : list of dict
        One per sweep.
    best_sweep : int
        Sweep whose weights these are.
    converged : bool
        Whether the tolerance, or the end of patience, was reached.
    stopped_by : BaseException or None
        The KeyboardInterrupt of a Ctrl-C.
    """

    bias: float
    table: NDArray[np.float64]
    records: list[dict[str, float]] = field(default_factory=list)
    best_sweep: int = 0
    converged: bool = False
    stopped_by: BaseException | None = None


def descend(
    block_table: BlockTable,
    weight: NDArray[np.float64],
    start: Descent,
    priors: list[dict[str, float]],
    *,
    tol: float = 0.0,
    watched: Watched | None = None,
    relaxed: tuple[str, ...] = (),
    patience: int = 1,
    on_sweep: Callable[[Descent], bool] | None = None,
) -> Descent:
    """Update all blocks, sweep after sweep.

    Parameters
    ----------
    block_table : BlockTable
        Residuals are targets less the bias of `start`, while weights are 0; moved in place.
    weight : ndarray of shape (n_rows,)
        Sample weights.
    start : Descent
        Bias and table to start from, left as they are.
    priors : list of dict
        ``"linear"`` and ``"embedding"``: precisions in each sweep, whose number is that of the
        sweeps at most.
    tol : float, default=0.0
        Stop when a sweep lowers the objective by no more than this share of it; not used when
        rows are watched.
    watched : Watched, default=None
        Rows by whose loss to stop, and to go back to the best sweep.
    relaxed : tuple of str, default=()
        Priors to halve whenever the loss of the rows watched stalls.
    patience : int, default=1
        Sweeps without a new best loss before stopping.
    on_sweep : callable, default=None
        Told the state, the last of whose records is new; returning True stops.

    Returns
    -------
    Descent

    Raises
    ------
    FloatingPointError
        If numbers become infinite or NaN.
    """
    indices = block_table.design.indices
    now = Descent(start.bias, start.table.copy())
    best = Descent(start.bias, start.table)
    block_table.write(start.table[indices])
    n_priors, D = len(block_table.design.prior_names), block_table.embedding_dim + 1
    least_loss, before, factor = np.inf, np.inf, 1.0
    started = time.perf_counter()
    try:
        for sweep, given in enumerate(priors, start=1):
            prior = {k: v * (factor if k in relaxed else 1.0) for k, v in given.items()}
            residual = block_table.residuals()
            step = float(weight @ residual / weight.sum())
            block_table.set_residuals(residual - step, weight)
            precision = np.append(np.full(D - 1, prior["embedding"]), prior["linear"])
            of_all = np.tile(np.diag(precision), (n_priors, 1, 1))
            block_table.update(of_all, np.zeros((n_priors, D)), None)
            now.bias += step
            now.table[indices] = blocks = block_table.read()
            square = float(weight @ block_table.residuals() ** 2)
            objective = (square + float(precision @ (blocks**2).sum(axis=0))) / 2
            if not np.isfinite(objective):
                raise FloatingPointError(
                    "als became infinite or NaN. Scale numbers that are very large, or pass "
                    "l2_linear and l2_embedding above 0. Nothing was changed."
                )
            record = {"epoch": sweep, "train_loss": square / 2 / float(weight.sum())}
            if watched is not None:
                record["valid_loss"] = watched.loss(now.table, now.bias)
            record |= {f"l2_{name}": value for name, value in prior.items()}
            record["seconds"] = time.perf_counter() - started
            started = time.perf_counter()
            now.records.append(record)
            now.best_sweep = sweep
            stop = on_sweep is not None and on_sweep(now)
            if watched is None:
                now.converged = before - objective <= tol * abs(objective)
            elif record["valid_loss"] < least_loss * (1 - 1e-5):
                least_loss = record["valid_loss"]
                best = Descent(now.bias, now.table.copy(), best_sweep=sweep)
            else:
                factor /= 2
                now.converged = sweep - best.best_sweep >= patience
            before = objective
            if stop or now.converged:
                break
    except KeyboardInterrupt as interrupt:
        now.stopped_by = interrupt
    if watched is None:
        return now
    return replace(now, bias=best.bias, table=best.table, best_sweep=best.best_sweep)


@dataclass(frozen=True)
class ALSSolver:
    """Alternating least squares, along a path of priors while validation rows gain."""

    name: str = "als"

    def refuses(self, problem: Problem) -> str | None:
        """As `Solver.refuses`."""
        is_class = problem.task.kind == "classes"
        return find_refusal(
            problem, self.name, {"minimizes squared error, so it fits no classes": is_class}
        )

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """As `Solver.fit`."""
        with limit_threads(1):  # of BLAS, whose sums depend on their number
            return self._fit(in_order(problem), before, reason)

    def _fit(self, problem: Problem, before: Fitted | None, reason: str) -> Outcome:
        options, rng, weight = problem.options, problem.rng, problem.weight
        loss = problem.task.make_loss(problem.target, weight, ranged=False)
        loss = loss if before is None else before.loss
        spec = problem.spec if before is None else before.spec.under(problem.spec.schema)
        seed = int(rng.randint(2**31 - 1))
        y = loss.encode(problem.target)
        check_tables(spec, 6)
        module = spec.build()
        bias = np.average(y, weights=weight, keepdims=True)
        StartValues(spec, bias, seed, before=before, device=problem.device)(module)
        start = Descent(float(module.bias.detach()[0]), read_module(module))
        given = spec.defaults(mean_fields(problem.rows)).priors
        relaxed = tuple(name for name in given if options.l2[name] == "auto")
        prior = {
            name: value if name in relaxed else float(options.l2[name])
            for name, value in given.items()
        }

        def conclude(
            now: Descent, module: FieldModel, history: pd.DataFrame, n_epochs: int
        ) -> Fitted:
            write_module(module, now.table[None], [now.bias])
            return fitted_module(
                module,
                spec=spec,
                task=problem.task,
                loss=loss,
                solver=self.name,
                reason=reason,
                history=history,
                n_epochs=n_epochs,
                first_schema=spec.schema if before is None else before.first_schema,
                chosen=problem.spec.arguments if before is None else before.chosen,
            )

        def table_at(rows: object, y: NDArray[np.float64]) -> BlockTable:
            block_table = table_of_blocks(problem, rows, bits=64)
            block_table.set_residuals(y - start.bias, np.ones(len(y)))
            return block_table

        def on_sweep(now: Descent) -> bool:
            progress.show(now.records[-1])
            if problem.on_epoch is None:
                return False
            history = pd.DataFrame(now.records)
            return problem.on_epoch(
                lambda: conclude(now, copy.deepcopy(module), history, now.best_sweep)
            )

        rows: slice | NDArray[np.intp] = slice(None)
        held_out, watched, can_refit = None, None, False
        if problem.watch is not None:
            watch = problem.watch
            held_out = watch.rows, loss.encode(watch.target), watch.weight
        elif stops_early(problem, self.name):
            rows, out = problem.hold_out(len(y), rng)
            held_out, can_refit = (problem.rows[out], y[out], weight[out]), options.refit
        if held_out is not None:
            out_of_fit = table_of_blocks(problem, held_out[0], bits=64)
            watched = Watched(out_of_fit, *held_out[1:])
        n_sweeps = options.epochs("als")
        phase = "search" if can_refit else "fit"
        with Progress(options.verbose, n_sweeps, phase) as progress:
            found = descend(
                table_at(problem.rows[rows], y[rows]),
                weight[rows],
                start,
                [prior] * n_sweeps,
                tol=options.tol,
                watched=watched,
                relaxed=relaxed if watched is not None else (),
                patience=options.patience,
                on_sweep=on_sweep,
            )
        history = pd.DataFrame(found.records)
        best, warning = found, None
        if can_refit and found.best_sweep and found.stopped_by is None:
            repeated = [
                {name: record[f"l2_{name}"] for name in prior}
                for record in found.records[: found.best_sweep]
            ]
            best = descend(table_at(problem.rows, y), weight, start, repeated)
            again = in_phase(pd.DataFrame(best.records), "refit")
            history = pd.concat([in_phase(history, "search"), again], ignore_index=True)
        else:
            history = in_phase(history, "fit")
        if best is found and not found.converged and found.stopped_by is None:
            warning = (
                f"als did not converge in max_epochs={n_sweeps} sweeps. Raise "
                "max_epochs or tol, or strengthen the priors."
            )
        fitted = conclude(best, module, history, found.best_sweep)
        return Outcome(fitted, found.stopped_by or best.stopped_by, warning)
