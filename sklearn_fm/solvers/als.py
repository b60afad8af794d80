"""Block coordinate descent for squared loss: each index's vector and weight in closed form.

The objective is that of the gradient solvers, sum_i w_i e_i^2 / 2 + l2_linear/2 |w|^2 +
l2_embedding/2 |V|^2.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .blocks.table import BlockTable

__all__ = ["Descent", "Watched", "descend"]


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
