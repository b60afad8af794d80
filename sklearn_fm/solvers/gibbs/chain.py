"""Draws from the posterior of a factorization machine, by Gibbs sampling in blocks.

A sweep draws, each given all the rest: latent targets and noise, biases, the priors' means and
covariances, the blocks of all indices one after the other, and steps that all blocks of a prior
take together. Draws that are kept go to a `Posterior`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..blocks.contract import BlockTable, Step
from .hyperprior import Hyperprior
from .likelihoods import Likelihood
from .posterior import DRAWS_MEMORY, Draw
from .stopping import UntilSettled, averaging_loss

__all__ = ["Chain", "Run", "Schedule", "sample"]

_PROBES = 64  # rows whose raw predictions are kept
_WATCHED = 2_000  # raw predictions that tell when to end
_LOSS_ROWS = 4096  # that the training loss is of
_LEAST_DRAWS = 10
_DIVERGED = (
    "Draws became infinite or NaN. Scale numbers and sample weights that are very large or very "
    "small, and leave hyperprior_scale near 1. Nothing was changed."
)


@dataclass(frozen=True)
class Schedule:
    """How long to sample.

    Attributes
    ----------
    n_sweeps : int
        Sweeps to take, at most where a rule may end them.
    n_burn : int or None
        Sweeps whose draws are not kept; None for a tenth of those taken.
    thin : int or None
        Keep the draw of every so many sweeps; None for as few as memory allows.
    on_sweep : callable or None
        Told each record of the history; returning True stops.
    until : UntilSettled or None
        Rule that ends sampling.
    """

    n_sweeps: int
    n_burn: int | None = 0
    thin: int | None = None
    on_sweep: Callable[[dict[str, float]], bool] | None = None
    until: UntilSettled | None = None


@dataclass
class Chain:
    """A Markov chain: weights, priors and likelihood, which `sample` moves on.

    Attributes
    ----------
    block_tables : sequence of BlockTable
        Weights, one table of blocks per raw prediction of a row.
    likelihood : Likelihood
        Targets.
    hyperpriors : sequence of Hyperprior
        Priors of each table of blocks.
    n_sweeps : int
        Sweeps so far.
    unit : float
        Standard deviation of the target that the likelihood's unit is.
    """

    block_tables: Sequence[BlockTable]
    likelihood: Likelihood
    hyperpriors: Sequence[Hyperprior]
    n_sweeps: int = 0
    unit: float = 1.0

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.block_tables[0].design.n_rows

    def sweep(self, rng: np.random.Generator) -> None:
        """Draw everything once."""
        self.likelihood.draw(self.block_tables, rng)
        for block_table, prior in zip(self.block_tables, self.hyperpriors, strict=True):
            prior.draw(block_table.moments(prior.mean), rng)
            shift = (prior.precision @ prior.mean[:, :, None])[:, :, 0]
            noise = block_table.draw_noise(rng)
            steps = [
                step
                for g in block_table.design.loose_priors
                if (step := self._step(prior, g, rng)) is not None
            ]
            taken = block_table.update(prior.precision, shift, noise, steps)
            for step, way in zip(steps, taken, strict=True):
                (prior.stretch if step.stretches else prior.shift)(step.prior, way)
        self.n_sweeps += 1

    def _step(self, prior: Hyperprior, g: int, rng: np.random.Generator) -> Step | None:
        """A step that all blocks of a prior take together: one of these two, by turns.

        Blocks held back by their prior, and a prior held back by its blocks, move together at once.
        """
        stretches = (self.n_sweeps + g) % 2 == 0
        known = prior.of_stretch(g) if stretches else prior.of_shift(g)
        if known is None:
            return None
        noise = rng.standard_normal(prior.mean[g].shape)
        return Step(g, stretches, *known, noise=noise)

    def draw(self) -> Draw:
        """What predictions need of the state as it is."""
        first = self.block_tables[0]
        n_blocks, n_priors = first.design.n_blocks, len(first.design.prior_names)
        shape = len(self.block_tables), n_blocks + n_priors, first.embedding_dim + 1
        tables, covariances = np.empty(shape, dtype=np.float32), []
        pairs = zip(self.block_tables, self.hyperpriors, strict=True)
        for table, (block_table, prior) in zip(tables, pairs, strict=True):
            table[:n_blocks], table[n_blocks:] = block_table.read(), prior.mean
            covariances.append(np.linalg.inv(prior.precision))
        return Draw(tables, np.stack(covariances).astype(np.float32), self.likelihood.values())

    def record(self) -> dict[str, float]:
        """Numbers that tell how far the chain has come; the loss is that of some rows."""
        rows = _spread(self.n_rows, _LOSS_ROWS) if self.n_rows > _LOSS_ROWS else None
        record = {"train_loss": self.likelihood.loss(self.block_tables, rows)}
        values = self.likelihood.values()
        if "noise_precision" in values:
            record["train_loss"] *= self.unit
            record["noise_precision"] = float(values["noise_precision"][0]) / self.unit**2
            record |= {k: float(v[0]) for k, v in values.items() if k.startswith("noise_shape_")}
        names = self.block_tables[0].design.prior_names
        spread = np.mean([_scales(prior) for prior in self.hyperpriors], axis=0)
        return record | {f"scale_{name}": float(s) for name, s in zip(names, spread, strict=True)}


@dataclass
class Run:
    """What came of sampling.

    Attributes
    ----------
    draws : list of Draw
        Those kept.
    records : list of dict
        One per sweep.
    probes : ndarray of shape (n_sweeps, n_probes)
        Raw predictions of some rows in each sweep.
    n_burn : int
        First sweeps whose draws were not kept.
    makeshift : bool
        Whether the only draw is the state at the end, since none was due.
    averaging_loss : float
        What the rule that may end sampling saw last; NaN without one.
    settled : bool
        Whether that rule ended it.
    stopped_by : BaseException or None
        The KeyboardInterrupt of a Ctrl-C.
    """

    draws: list[Draw] = field(default_factory=list)
    records: list[dict[str, float]] = field(default_factory=list)
    probes: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    n_burn: int = 0
    makeshift: bool = False
    averaging_loss: float = math.nan
    settled: bool = False
    stopped_by: BaseException | None = None


def sample(chain: Chain, plan: Schedule, rng: np.random.Generator) -> Run:
    """Move a chain on and keep draws.

    Parameters
    ----------
    chain : Chain
        Moved in place.
    plan : Schedule
        How long.
    rng : numpy.random.Generator
        Source of all randomness.

    Returns
    -------
    Run

    Raises
    ------
    FloatingPointError
        If numbers become infinite or NaN.
    """
    run = Run()
    kept = _Kept(plan, chain.draw().nbytes)
    n_outputs = len(chain.likelihood.bias)
    n_watched = max(_WATCHED // n_outputs, _PROBES) if plan.until is not None else _PROBES
    rows = _spread(chain.n_rows, n_watched)
    watched = np.empty((plan.n_sweeps, len(rows), n_outputs))
    look = 0 if plan.until is None else plan.until.next_look(0)
    try:
        for sweep in range(plan.n_sweeps):
            started = time.perf_counter()
            try:
                chain.sweep(rng)
                record = {"epoch": sweep + 1, **chain.record()}
            except np.linalg.LinAlgError:
                raise FloatingPointError(_DIVERGED) from None
            if not np.isfinite(record["train_loss"]):
                raise FloatingPointError(_DIVERGED)
            watched[sweep] = chain.likelihood.raw(chain.block_tables, rows)
            kept.take(sweep, chain)
            if plan.until is not None:
                if sweep + 1 == look:
                    look = plan.until.next_look(look)
                    after = watched[_burnt(plan, sweep + 1) : sweep + 1]
                    run.averaging_loss = averaging_loss(after, chain.likelihood.values())
                record["averaging_loss"] = run.averaging_loss
                run.settled = run.averaging_loss <= plan.until.tolerance
            record["seconds"] = time.perf_counter() - started
            run.records.append(record)
            if (plan.on_sweep is not None and plan.on_sweep(record)) or run.settled:
                break
    except KeyboardInterrupt as stop:
        run.stopped_by = stop
    n_sweeps = len(run.records)
    run.n_burn = _burnt(plan, n_sweeps)
    probes = np.linspace(0, len(rows) - 1, min(len(rows), _PROBES)).astype(np.intp)
    run.probes = watched[:n_sweeps, probes].reshape(n_sweeps, len(probes) * n_outputs)
    run.draws = [draw for sweep, draw in kept.draws if sweep >= run.n_burn]
    run.makeshift = not run.draws  # cut short, or thin is large
    if run.makeshift:
        run.draws.append(chain.draw())
    return run


def _burnt(plan: Schedule, n_sweeps: int) -> int:
    """Sweeps to leave out of so many."""
    return n_sweeps // 10 if plan.n_burn is None else plan.n_burn


class _Kept:
    """Draws, with their sweeps: of every so many sweeps, so that memory suffices.

    Parameters
    ----------
    plan : Schedule
        How many sweeps there will be, at most.
    size : int
        Bytes of a draw.
    """

    def __init__(self, plan: Schedule, size: int) -> None:
        self.draws: list[tuple[int, Draw]] = []
        self.most = max(DRAWS_MEMORY // size, _LEAST_DRAWS)
        self.first = plan.n_burn or 0
        self.is_fixed = plan.thin is not None or plan.until is None
        known = 1 if plan.until is not None else -(-(plan.n_sweeps - self.first) // self.most)
        self.thin = plan.thin or max(known, 1)

    def take(self, sweep: int, chain: Chain) -> None:
        """Keep the state after a sweep if it is due."""
        if sweep < self.first or not self._is_due(sweep):
            return
        self.draws.append((sweep, chain.draw()))
        if len(self.draws) > self.most and not self.is_fixed:  # nobody knows how many will come
            self.thin *= 2
            self.draws = [(s, draw) for s, draw in self.draws if self._is_due(s)]

    def _is_due(self, sweep: int) -> bool:
        return (sweep - self.first) % self.thin == self.thin - 1


def _spread(n_rows: int, n: int) -> NDArray[np.intp]:
    """At most n rows, evenly spread."""
    return np.linspace(0, n_rows - 1, min(n_rows, n)).astype(np.intp)


def _scales(prior: Hyperprior) -> NDArray[np.float64]:
    """Root mean square of the standard deviations of the vectors' coordinates, per prior."""
    variance = np.diagonal(np.linalg.inv(prior.precision), axis1=1, axis2=2)[:, :-1]
    return np.sqrt(variance.mean(axis=1))
