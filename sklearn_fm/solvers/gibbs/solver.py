"""Solver "gibbs": draws from the posterior, or more draws of a chain that was fitted before.

The sampler itself is in ``chain``; what predictions come of the draws, in ``links``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ...kernels import HAS_KERNELS
from ...schema import FieldSchema
from ...training.threads import limit_threads
from ..blocks.design import Design
from ..blocks.preparing import (
    find_refusal,
    in_order,
    read_module,
    table_of_blocks,
    write_module,
)
from ..blocks.progress import Progress
from ..fitted import Draws, Fitted, Outcome, fitted_module
from ..problem import ModelSpec, Options, Problem, mean_fields
from ..start import StartValues, check_tables
from .averaging import Average, Averaging
from .chain import Chain, Schedule, sample
from .hyperprior import FixedPrior, Hyperprior, make_hyperprior
from .likelihoods import count_copies
from .links import make_link
from .posterior import Draw, Posterior
from .refit import redraw
from .stopping import MOST_SWEEPS, UntilSettled
from .verdict import convergence_table, describe_end, find_complaint

__all__ = ["GibbsSolver", "average_of", "check_draws_fit", "publish", "redraw_categories"]


@dataclass(frozen=True)
class GibbsSolver:
    """Block Gibbs sampling."""

    name: str = "gibbs"

    def refuses(self, problem: Problem) -> str | None:
        """As `Solver.refuses`."""
        options, task = problem.options, problem.task
        l2 = list(options.l2.values())
        others = {
            "needs no early stopping: leave it at 'auto'": options.early_stopping is True,
            "takes l2_linear and l2_embedding both as numbers, or both as 'auto'": l2.count("auto")
            == 1,
            "needs an l2_linear and l2_embedding above 0, or 'auto'": 0 in l2,
        }
        refusal = find_refusal(problem, self.name, others)
        if refusal is None and task.kind == "levels" and task.noise_is_named:
            return (
                "loss='ordinal' fixes the noise of its latent targets, so it takes no noise_field."
            )
        if refusal is None and problem.watch is not None:
            return (
                "solver='gibbs' needs no rows to watch, so it takes no eval_set. Score the "
                "fitted model on them."
            )
        return refusal

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """As `Solver.fit`."""
        if problem.device_is_free and HAS_KERNELS:
            problem = replace(problem, device=torch.device("cpu"))  # whose kernels are quicker
        with limit_threads(1):  # of BLAS, whose sums depend on their number
            return _Sampling(in_order(problem), before, reason).run()


class _Sampling:
    """One fit: a chain at the rows of a problem, and what it goes on from."""

    def __init__(self, problem: Problem, before: Fitted | None, reason: str) -> None:
        self.problem, self.before, self.reason = problem, before, reason
        options, target, weight = problem.options, problem.target, problem.weight
        self.seed = int(problem.rng.randint(2**31 - 1))
        loss = problem.task.make_loss(target, weight, ranged=False)
        self.loss = loss if before is None else before.loss
        self.schema = problem.spec.schema
        check_draws_fit(problem.spec)
        self.generator = np.random.default_rng(self.seed)
        self.past = before.draws if before is not None else None
        if self.past is not None:  # the same numbers again would couple the chain to its past
            self.generator.bit_generator.state = self.past.chain["generator"]
        self.link = make_link(problem.task, self.loss, self.schema).at(problem.rows, weight)
        likelihood = self.link.likelihood(problem.rows, target, weight)
        first = table_of_blocks(problem, problem.rows)
        self.design = design = first.design
        tables = [
            first,
            *(table_of_blocks(problem, design) for _ in range(len(likelihood.bias) - 1)),
        ]
        self.pair_slots = problem.spec.arguments.get("pair_slots", False)
        scale = _prior_scale(problem)
        self.chain = Chain(
            tables,
            likelihood,
            [_make_hyperprior(options, design, scale) for _ in tables],
            unit=getattr(self.loss, "scale", 1.0),
        )
        likelihood.start(tables)
        self.digest = _digest(problem, design, self.pair_slots)
        if self.past is not None:
            _load_chain(self.chain, self.past.chain, self.schema, self.generator)
        elif before is not None:
            spec = before.spec.under(self.schema)
            module = spec.build()
            StartValues(spec, np.zeros(1), self.seed, before=before, device=problem.device)(module)
            first.write(read_module(module)[design.indices])
        else:
            for table in tables:
                blocks = np.zeros((design.n_blocks, len(scale)))
                blocks[:, :-1] = self.generator.normal(0, scale[:-1], blocks[:, :-1].shape)
                table.write(blocks)

    def run(self) -> Outcome:
        """Sample, and collect what came of it."""
        options, past = self.problem.options, self.past
        goes_on = past is not None and past.chain["digest"] == self.digest
        history_before = self.before.history if self.before is not None else pd.DataFrame()
        schedule = self._schedule()
        if goes_on:
            assert past is not None
            schedule = replace(schedule, n_burn=max(past.n_burn - len(history_before), 0))
        elif schedule.n_burn is not None and schedule.n_burn >= schedule.n_sweeps:
            raise ValueError(
                f"n_burn={options.n_burn} must be less than n_sweeps={schedule.n_sweeps}, or "
                "nothing is left to predict by."
            )
        with Progress(options.verbose, schedule.n_sweeps) as self.progress:
            run = sample(self.chain, schedule, self.generator)
        if run.stopped_by is not None and not run.records:
            raise run.stopped_by  # before anything was drawn
        earlier = None
        if goes_on and self.before is not None and past is not None and not past.chain["makeshift"]:
            earlier = average_of(self.before)  # real draws stay, and need no makeshift one
        needs_none = run.makeshift and earlier is not None
        average = self._average([] if needs_none else run.draws, options.keep_draws, earlier)
        history, probes = _history(run.records), run.probes
        burnt = run.n_burn
        if goes_on:
            assert past is not None
            probes = np.concatenate([past.chain["probes"], probes])
            history["epoch"] += len(history_before)
            history = pd.concat([history_before, history], ignore_index=True)
            burnt = past.n_burn
        convergence = convergence_table(history, probes, burnt)
        self.reason += describe_end(run)
        fitted = self._fitted(
            average,
            history,
            convergence=convergence,
            n_burn=burnt,
            is_complete=options.keep_draws,
            chain=self._state(probes, run.makeshift and not needs_none),
        )
        likelihood = self.chain.likelihood
        complaint = find_complaint(probes[burnt:], likelihood.values())
        return Outcome(fitted, run.stopped_by, complaint)

    def _schedule(self) -> Schedule:
        """How long to sample a chain anew."""
        options = self.problem.options
        n_burn = None if options.n_burn == "auto" else options.n_burn
        until = None
        if options.n_sweeps == "auto":
            n_sweeps = MOST_SWEEPS
            until = UntilSettled.of(len(self.problem.target), n_burn or 0)
        else:
            n_sweeps = options.n_sweeps
            n_burn = n_sweeps // 10 if n_burn is None else n_burn
        thin = None if options.thin == "auto" else options.thin
        return Schedule(n_sweeps, n_burn, thin, self._on_sweep, until)

    def _average(
        self, draws: list[Draw], keep_draws: bool, before: Average | None = None
    ) -> Average:
        """What is left of draws, and of those before them."""
        if before is not None and not draws:
            return before

        def collect(draws: list[Draw]) -> Posterior:
            return Posterior.of_draws(draws, self.design, self.schema, pair_slots=self.pair_slots)

        rows = self.problem.rows
        some = Averaging(self.design, rows, collect, keep_draws=keep_draws, before=before)
        for draw in draws:
            some.add(draw)
        return some.finish()

    def _on_sweep(self, record: dict[str, float]) -> bool:
        self.progress.show(record)
        if self.problem.on_epoch is None:
            return False
        draw = self.chain.draw()

        def so_far() -> Fitted:
            nothing = convergence_table(pd.DataFrame(), np.empty((0, 0)), 0)
            found = {"convergence": nothing, "n_burn": 0, "is_complete": True, "chain": {}}
            return self._fitted(self._average([draw], True), _history([record]), **found)

        return self.problem.on_epoch(so_far)

    def _fitted(self, average: Average, history: pd.DataFrame, **found: Any) -> Fitted:
        before, problem = self.before, self.problem
        return publish(
            average,
            problem.spec,
            self.seed,
            draws={"link": self.link, **found},
            task=problem.task,
            loss=self.loss,
            solver="gibbs",
            reason=self.reason,
            history=history,
            n_epochs=len(history),
            first_schema=self.schema if before is None else before.first_schema,
            chosen=problem.spec.arguments,
            seen_weight=float(problem.weight.sum()),
        )

    def _state(self, probes: NDArray[np.float64], makeshift: bool) -> dict[str, Any]:
        """What a later fit needs to go on."""
        chain = self.chain
        return {
            "digest": self.digest,
            "schema": self.schema,
            "indices": self.design.indices,
            "blocks": [table.read().astype(np.float32) for table in chain.block_tables],  # as it is
            "priors": [prior.state() for prior in chain.hyperpriors],
            "values": chain.likelihood.values(),
            "probes": probes,
            "makeshift": makeshift,
            "generator": self.generator.bit_generator.state,
        }


def publish(
    average: Average, spec: ModelSpec, seed: int, *, draws: dict[str, Any], **values: Any
) -> Fitted:
    """Fitted whose module is the mean of the draws.

    Parameters
    ----------
    average : Average
        Draws as they are kept.
    spec : ModelSpec
        Module of one output; that of several has vectors of its own for each.
    seed : int
        Of weights that no draw has.
    draws : dict
        Other attributes of Draws.
    **values
        Other attributes of Fitted.

    Returns
    -------
    Fitted
    """
    posterior, tables, bias = average.posterior, average.tables, average.bias
    arguments = {**spec.arguments, "embedding_dim": tables.shape[2] - 1}
    spec = _wide(ModelSpec(spec.model_class, posterior.schema, len(bias), arguments))
    module = spec.build()
    StartValues(spec, bias, seed)(module)
    write_module(module, tables[:, posterior.positions].astype(np.float64), bias)
    kept = Draws(posterior, average.mean, **draws)
    return fitted_module(module, spec=spec, draws=kept, **values)


def average_of(fitted: Fitted) -> Average:
    """Draws as a fit has kept them.

    Parameters
    ----------
    fitted : Fitted
        By this solver, at its end.

    Returns
    -------
    Average
    """
    draws = fitted.draws
    assert draws is not None
    state = {name: value.cpu().numpy() for name, value in fitted.module().state_dict().items()}
    vectors = state["embedding.weight"][draws.posterior.indices]
    linear = state["linear.weight"][draws.posterior.indices]
    n_blocks, n_outputs = linear.shape
    tables = np.concatenate([vectors.reshape(n_blocks, n_outputs, -1), linear[:, :, None]], axis=2)
    tables = np.concatenate([tables.transpose(1, 0, 2), draws.mean.priors], axis=1)
    return Average(draws.posterior, draws.mean, tables, state["bias"].astype(np.float64))


def check_draws_fit(spec: ModelSpec) -> None:
    """Raise before allocating what cannot fit into memory.

    Parameters
    ----------
    spec : ModelSpec
        Module of which draws are to be taken.

    Raises
    ------
    MemoryError
        Naming the fields with the largest share.
    """
    check_tables(_wide(spec), 16)  # ten draws, the least number, and the chain's own blocks


def _wide(spec: ModelSpec) -> ModelSpec:
    """Module in which each of several outputs has vectors of its own, side by side."""
    width = spec.arguments["embedding_dim"] * spec.n_outputs
    return replace(spec, arguments={**spec.arguments, "embedding_dim": width})


def redraw_categories(
    fitted: Fitted,
    encoded: Any,
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    field: str,
    rng: np.random.RandomState,
) -> Fitted:
    """Draw the blocks of a field's categories anew, all else as it is in each draw.

    Parameters
    ----------
    fitted : Fitted
        By this solver, of one output.
    encoded : FieldArray of shape (n_rows, n_columns)
        All rows of the categories that occur in them, under a schema that may have grown.
    target, weight : ndarray of shape (n_rows,)
        Their targets and weights, all of these above 0.
    field : str
        Field of one category per row.
    rng : numpy.random.RandomState
        Source of randomness.

    Returns
    -------
    Fitted

    Raises
    ------
    ValueError
        If rows have an unknown category.
    """
    draws = fitted.draws
    assert draws is not None
    schema = encoded.require_schema()
    posterior = draws.posterior.grown(schema)
    seed = int(rng.randint(2**31 - 1))
    if "noise_precision" not in posterior.values:  # latent targets: as in fit
        copies = count_copies(weight)
        repeated = np.repeat(np.arange(len(weight)), copies)
        encoded, target = encoded[repeated], target[repeated]
        weight = (weight / copies)[repeated]
    targets = draws.link.targets(posterior, encoded, target, weight)
    average = average_of(fitted)._replace(posterior=posterior)
    average = redraw(average, encoded, field, targets, np.random.default_rng(seed))
    posterior = average.posterior
    drawn = posterior.indices
    last = posterior.tables[-1, 0, : len(drawn)].astype(np.float32)
    state = {"digest": None, "schema": schema, "indices": drawn, "blocks": [last]}
    found = {
        "link": draws.link,
        "n_burn": draws.n_burn,
        "convergence": draws.convergence,
        "is_complete": draws.is_complete,
        "chain": draws.chain | state,
    }
    kept = ("task", "loss", "solver", "reason", "chosen", "history", "n_epochs", "first_schema")
    values = {name: getattr(fitted, name) for name in (*kept, "blend", "seen_weight")}
    return publish(average, fitted.spec, seed, draws=found, **values)


def _make_hyperprior(options: Options, design: Design, scale: NDArray[np.float64]) -> Hyperprior:
    n_priors, dim = len(design.prior_names), len(scale)
    if options.l2_embedding == "auto" or options.l2_linear == "auto":
        return make_hyperprior(options.hyperprior, n_priors, dim, options.hyperprior_scale * scale)
    precision = np.append(np.full(dim - 1, options.l2_embedding), options.l2_linear)
    return FixedPrior(n_priors, precision.astype(np.float64))


def _prior_scale(problem: Problem) -> NDArray[np.float64]:
    """Standard deviations of [v | w] that give a row's pairwise term one of 1/2, its linear 1."""
    embedding_dim = problem.spec.arguments["embedding_dim"]
    fields = mean_fields(problem.rows)
    pairs = max(fields * (fields - 1) / 2, 1.0)
    of_vectors = (0.25 / (pairs * embedding_dim)) ** 0.25
    return np.append(np.full(embedding_dim, of_vectors), fields**-0.5)


def _digest(problem: Problem, design: Design, pair_slots: bool) -> str:
    """Hash of all that makes the posterior what it is; draws under another are of another one."""
    options, task = problem.options, problem.task
    arrays = design.indices, design.starts, design.rows, design.values
    settings = (
        options.l2_linear,
        options.l2_embedding,
        options.hyperprior,
        options.hyperprior_scale,
        task.noise_field,
        task.kind,
        options.keep_draws,
    )
    everything = arrays, problem.target, problem.weight, design.linear_values, pair_slots, settings
    return str(joblib.hash(everything))


def _load_chain(
    chain: Chain, before: dict[str, Any], schema: FieldSchema, generator: np.random.Generator
) -> None:
    """Go on from where a chain stood; blocks that it lacks are drawn from their priors."""
    start_bias = chain.likelihood.bias.copy()
    chain.likelihood.load_values(before["values"])
    n_rows = before["schema"].table_size
    now = np.arange(n_rows)
    for first, first_now, count in schema.rows_kept(before["schema"]) or ():
        now[first : first + count] = np.arange(first_now, first_now + count)
    pairs = zip(chain.block_tables, chain.hyperpriors, strict=True)
    for c, (block_table, prior) in enumerate(pairs):
        prior.load_state(before["priors"][c])
        design = block_table.design
        covariance = np.linalg.inv(prior.precision)
        normal = generator.standard_normal((design.n_blocks, len(covariance[0]), 1))
        spread = (np.linalg.cholesky(covariance)[design.prior_of] @ normal)[:, :, 0]
        table = np.full((schema.table_size, spread.shape[1]), np.nan)
        table[now[before["indices"]]] = before["blocks"][c]
        known = table[design.indices]
        drawn = prior.mean[design.prior_of] + spread
        step = chain.likelihood.bias[c] - start_bias[c]
        block_table.set_residuals(block_table.residuals() - step, 1.0)
        block_table.write(np.where(np.isnan(known), drawn, known))


def _history(records: list[dict[str, float]]) -> pd.DataFrame:
    """Rows of the history, columns in the order that all solvers have, the scales after them."""
    history = pd.DataFrame(records)
    history.insert(1, "phase", "fit")
    return history[sorted(history, key=lambda name: str(name).startswith("scale_"))]
