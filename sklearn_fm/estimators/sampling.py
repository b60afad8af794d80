"""Solvers that update the block of one index at a time: their parameters and fits.

"als" moves each block to its optimum, "gibbs" draws it from its posterior; the arithmetic is in
``solvers``, what predictions come of the draws in ``predictive``.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..data.array import FieldArray
from ..data.folder import FieldFolder
from ..models.contract import FieldModel
from ..solvers.als import Descent, Watched, descend
from ..solvers.blocks.design import Design, make_design
from ..solvers.blocks.table import BlockTable, make_block_table
from ..solvers.gibbs.chain import Chain, Schedule, sample
from ..solvers.gibbs.convergence import effective_size, split_r_hat
from ..solvers.gibbs.hyperprior import FixedPrior, Hyperprior, make_hyperprior
from ..solvers.gibbs.likelihoods import Likelihood, count_copies
from ..solvers.gibbs.posterior import Posterior, Raw
from ..solvers.gibbs.refit import Targets, redraw
from ..training.fitting import Outcome
from ..training.lbfgs import merge_equal_rows
from ..training.prediction import pack_tables
from ..training.threads import count_threads, limit_threads
from .base import BaseFieldEstimator, mean_fields
from .checks import check_consistent_rows, check_memory, check_sample_weight
from .inputs import Encoded, in_chunks
from .parameters import Interval, StrOptions, estimator
from .targets import FieldRegressorMixin

__all__ = ["WithBlockSolvers"]

_BLOCK_SOLVERS = ("als", "gibbs")
_SMALL_ROWS = 5_000
_MOST_R_HAT = 1.1
_MOST_MORE = 10  # times the sweeps so far that a warning asks for


@estimator
class WithBlockSolvers(BaseFieldEstimator):
    """Families whose raw prediction is linear in the weights of any one index.

    Parameters
    ----------
    init_scale : float
        Standard deviation of the embeddings' start values. "gibbs" instead starts where the
        pairwise term of a row has one of 1/2.
    solver : {"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "als", "gibbs"}
        How the model is fitted. All but "gibbs" minimize the objective

            sum_i sample_weight_i * loss_i + l2_linear/2 |w|^2 + l2_embedding/2 |V|^2
            + l2_dense/2 |MLP|^2.

        "lbfgs" takes all rows at once in float64; it is deterministic
        and weighs rows exactly. "adagrad", "adam", "sgd" and "ftrl" step on mini-batches and update
        only the rows of the tables that occur, by the rule of that name; the shrinking that the
        penalties owe to the other rows is caught up when they occur next, or at the
        end of the epoch. "ftrl" is FTRL-proximal for the linear term and the bias and
        Adagrad for the rest. "als" (regression) moves the vector and weight of one index
        after the other to their joint optimum, in closed form. "gibbs" draws from the
        posterior instead and averages predictions over draws, which is the most accurate where
        ids have few rows each, needs no validation rows, learning rate or penalties, and
        gives standard deviations; it takes minutes where "adagrad" takes seconds. "auto" is
        "lbfgs" for small data (unless a parameter that only
        mini-batches can honour is set), "ftrl" if there is an `l1_linear`, "gibbs" for an ordinal
        `loss` or a `noise_field`, else "adagrad" for the tables; dense layers are then trained by
        Adam.
    warm_start : bool
        Whether `fit` goes on from the weights of the fit before, with its encoder. "gibbs" adds
        `n_sweeps` sweeps and their draws if rows, targets and priors are the same as before;
        otherwise it keeps the weights as a start only.
    n_sweeps : int
        Draws of all weights that "gibbs" takes.
    n_burn : int or "auto"
        Sweeps of "gibbs" whose draws are left out of predictions; "auto" for a tenth of them.
    thin : int or "auto"
        "gibbs" keeps the draw of every so many sweeps; "auto" for all that fit into 512 MB, ten
        at least. A draw takes 4 bytes per weight, here, in a pickle, and in each copy.
    hyperprior : {"half-t", "wishart"}
        What "gibbs" takes for the distribution of the embeddings and weights of a vocabulary
        when `l2_linear` and `l2_embedding` are "auto": normal, its mean and covariance drawn
        along. "half-t" lets standard deviations adapt to the data (Huang, Wand 2013),
        "wishart" has a fixed scale (Salakhutdinov, Mnih 2008). With `l2_linear` and `l2_embedding`
        given, weights are independent with mean 0 and these precisions.
    hyperprior_scale : float
        Scale of the hyperprior, in units of the standard deviations with which the pairwise term of
        a row has one of 1/2 and the linear term one of 1. "half-t" has a wide tail, "wishart"
        holds on to its scale.

    Attributes
    ----------
    history_ : DataFrame
        One row per epoch: losses, validation metric, seconds, learning rate. "gibbs": one per
        sweep, with the training error of the draw (root mean squared error, mean log loss, or share
        of wrong classes where there are three or more), the mean precision of the noise and the
        scale of each vocabulary's embeddings.
    n_epochs_ : int
        Epochs behind the weights; sweeps for "als" and "gibbs".
    posterior_ : Posterior or None
        Draws of "gibbs"; `module_` has the weights of the last one.
    n_burn_ : int
        First sweeps that predictions leave out; 0 for other solvers.
    convergence_ : DataFrame or None
        Split R-hat and effective sample size of what "gibbs" watches: the training error, the
        precision of the noise, and the raw predictions of 64 training rows, whose
        least favourable tenth counts. Empty after fewer than four sweeps.
    """

    n_sweeps: int = 500
    n_burn: int | Literal["auto"] = "auto"
    thin: int | Literal["auto"] = "auto"
    hyperprior: str = "half-t"
    hyperprior_scale: float = 1.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "als", "gibbs"})],
        "n_sweeps": [Interval(Integral, 1, None, closed="left")],
        "n_burn": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "thin": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "hyperprior": [StrOptions({"half-t", "wishart"})],
        "hyperprior_scale": [Interval(Real, 0, None, closed="neither")],
    }

    if TYPE_CHECKING:
        _make_likelihood: Callable[..., Likelihood]
        _link_mean: Callable[[Raw], NDArray[np.float64]]
        _make_targets: Callable[..., Targets]
        _chain: dict[str, Any]

    # -- choice ------------------------------------------------------------------------

    def _pick_solver(self, encoded: Encoded, *, one_pass: bool) -> str:
        solver = "gibbs" if self._needs_draws() and self.solver == "auto" else self.solver
        if self._needs_draws() and solver != "gibbs":
            raise ValueError(
                f"loss='ordinal' and noise_field need solver='gibbs' (or 'auto'), got {solver!r}."
            )
        if solver not in _BLOCK_SOLVERS:
            return super()._pick_solver(encoded, one_pass=one_pass)
        self._check_parameters(solver, encoded, one_pass=one_pass)
        return solver

    def _check_parameters(self, solver: str, encoded: Encoded, *, one_pass: bool) -> None:
        """Raise if parameters ask for what solvers of blocks cannot do."""
        n_auto = (self.l2_linear, self.l2_embedding).count("auto")
        samples = solver == "gibbs"
        wrong = {
            "has no partial_fit: it needs all rows at once": one_pass,
            "takes no callbacks of skorch": bool(self.callbacks),
            "takes no pretrained embeddings": bool(self.pretrained),
            "has no l1_linear": self.l1_linear > 0,
            "fits no hidden layers": bool(getattr(self, "hidden_layer_sizes", ())),
            "needs rows that fit into memory": isinstance(encoded, FieldFolder),
            "minimizes squared error, so it fits no classes": not samples
            and not isinstance(self, FieldRegressorMixin),
            "needs no early stopping: leave it at 'auto'": samples and self.early_stopping is True,
            "takes l2_linear and l2_embedding both as numbers, or both as 'auto'": samples
            and n_auto == 1,
            "needs an l2_linear and l2_embedding above 0, or 'auto'": samples
            and 0 in (self.l2_linear, self.l2_embedding),
        }
        for what, is_so in wrong.items():
            if is_so:
                why = "" if solver == self.solver else " (which loss or noise_field ask for)"
                raise ValueError(f"solver={solver!r}{why} {what}.")

    def _needs_draws(self) -> bool:
        """Whether only "gibbs" can fit the loss."""
        return False

    def _burn(self) -> int:
        return self.n_sweeps // 10 if self.n_burn == "auto" else self.n_burn

    # -- fit ---------------------------------------------------------------------------

    def _train(
        self,
        encoded: Encoded,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        scratch: ExitStack,
        *,
        go_on: bool,
        eval_set: Any = None,
        on_epoch: Callable[[FieldModel], bool] | None = None,
        **of_steps: Any,
    ) -> Outcome:
        before = self.solver_ if go_on else None
        self.solver_ = self._pick_solver(encoded, one_pass=of_steps.get("one_pass", False))
        if before is not None:
            self._check_change(before)
        draws_on = before == self.solver_ == "gibbs"
        self.posterior_: Any = self.posterior_ if draws_on else None
        self.n_burn_: int = self.n_burn_ if draws_on else 0
        self.convergence_: pd.DataFrame | None = None
        if self.solver_ not in _BLOCK_SOLVERS:
            return super()._train(
                encoded,
                target,
                weight,
                scratch,
                go_on=go_on,
                eval_set=eval_set,
                on_epoch=on_epoch,
                **of_steps,
            )
        if len(target) <= _SMALL_ROWS:  # where a row of weight 2 is exactly the row twice
            encoded, target, weight = merge_equal_rows(encoded, target, weight)
        else:
            order = _order_of_rows(encoded)
            encoded, target, weight = encoded[order], target[order], weight[order]
        if not go_on:
            self._loss = self._make_loss(target, weight)
        with limit_threads(1):  # of BLAS, whose sums depend on their number
            if self.solver_ == "als":
                return self._descend(
                    encoded,
                    target,
                    weight,
                    scratch,
                    go_on=go_on,
                    eval_set=eval_set,
                    on_epoch=on_epoch,
                )
            if eval_set is not None:
                raise ValueError(
                    "solver='gibbs' needs no rows to watch, so it takes no eval_set. Score the "
                    "fitted model on them."
                )
            return self._sample(encoded, target, weight, before=before, on_epoch=on_epoch)

    def _check_change(self, before: str) -> None:
        """Raise unless the fit before is a start for this one: links and widths must agree."""
        of_blocks = {solver in _BLOCK_SOLVERS for solver in (before, self.solver_)}
        if len(of_blocks) > 1 or (before, self.solver_) == ("gibbs", "als"):
            raise ValueError(
                f"warm_start cannot go on from solver={before!r} with {self.solver_!r}: weights "
                "mean different things to them. Fit anew with warm_start=False; only 'gibbs' goes "
                "on from 'als'."
            )
        width = self._module_spec[2]["embedding_dim"] // self._module_spec[1]
        if self.solver_ in _BLOCK_SOLVERS and width != self.embedding_dim:
            raise ValueError(
                f"warm_start goes on with vectors of width {width}, but embedding_dim is now "
                f"{self.embedding_dim}. Fit anew with warm_start=False."
            )

    def _descend(
        self,
        encoded: Encoded,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        scratch: ExitStack,
        *,
        go_on: bool,
        eval_set: Any,
        on_epoch: Callable[[FieldModel], bool] | None,
    ) -> Outcome:
        """Fit by block coordinate descent, along a path of priors while validation rows gain."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        y = self._loss.encode(target)
        plan = self._make_plan(encoded, weight)
        scale = float(weight.sum() / np.count_nonzero(weight))  # of weights, against their mean
        options = plan.options
        prior = {"linear": options.l2_linear * scale, "embedding": options.l2_embedding * scale}
        bias = np.average(y, weights=weight, keepdims=True)
        module = copy.deepcopy(self._grow_module(seed)) if go_on else None
        module = module or self._start_module(torch.from_numpy(bias), seed)
        start = Descent(float(module.bias.detach()[0]), _read_module(module))

        def table_at(rows: Encoded, y: NDArray[np.float64]) -> BlockTable:
            block_table = self._make_block_table(rows)
            block_table.set_residuals(y - start.bias, np.ones(len(y)))
            return block_table

        def on_sweep(now: Descent) -> bool:
            if self.verbose:
                print(_line(now.records[-1]))
            if on_epoch is None:
                return False
            _write_module(module, now.table[None], [now.bias])
            return on_epoch(module)

        rows: Any = slice(None)
        held_out, watched, can_refit = None, None, False
        if eval_set is not None:
            held_out = self._prepare_eval_set(eval_set, scratch)
        elif self._stops_early(len(y), watched=False):
            parts = train_test_split(
                np.arange(len(y)), test_size=self.validation_fraction, random_state=rng
            )
            rows, out = (np.sort(part) for part in parts)
            held_out, can_refit = (encoded[out], y[out], weight[out]), self.refit
        if held_out is not None:
            watched = Watched(self._make_block_table(held_out[0]), *held_out[1:])
        found = descend(
            table_at(encoded[rows], y[rows]),
            weight[rows],
            start,
            [prior] * self.max_epochs,
            tol=self.tol,
            watched=watched,
            relaxed=plan.relaxed if watched is not None else (),
            patience=self.patience,
            on_sweep=on_sweep,
        )
        history = pd.DataFrame(found.records)
        best = found
        if can_refit and found.best_sweep and found.stopped_by is None:
            repeated = [
                {name: record[f"l2_{name}"] for name in prior}
                for record in found.records[: found.best_sweep]
            ]
            best = descend(table_at(encoded, y), weight, start, repeated)
            again = pd.DataFrame(best.records).assign(phase="refit")
            history = pd.concat([history.assign(phase="search"), again], ignore_index=True)
        elif not found.converged and found.stopped_by is None:
            warnings.warn(
                f"als did not converge in max_epochs={self.max_epochs} sweeps. Raise max_epochs or "
                "tol, or strengthen the priors.",
                ConvergenceWarning,
                stacklevel=5,
            )
        _write_module(module, best.table[None], [best.bias])
        self._module = pack_tables(module.eval())
        return Outcome(history, found.best_sweep, stopped_by=found.stopped_by or best.stopped_by)

    def _make_block_table(self, rows: Encoded | Design) -> BlockTable:
        pair_slots = getattr(self, "pair_slots", False)
        return make_block_table(
            rows if isinstance(rows, Design) else make_design(rows, pair_slots=pair_slots),
            self.embedding_dim,
            n_threads=count_threads(self.n_jobs),
            device=self._resolve_device(),
        )

    def _sample(
        self,
        encoded: Encoded,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        *,
        before: str | None,
        on_epoch: Callable[[FieldModel], bool] | None,
    ) -> Outcome:
        """Draw from the posterior, or go on drawing from where the chain stands."""
        check_memory(self.schema_, *self._floats_needed())
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        generator = np.random.default_rng(seed)
        if before == "gibbs":  # the same numbers again would couple the chain to its past
            generator.bit_generator.state = self._chain["generator"]
        likelihood = self._make_likelihood(target, weight, encoded)
        n_outputs, pair_slots = len(likelihood.bias), getattr(self, "pair_slots", False)
        first = self._make_block_table(encoded)
        design = first.design
        block_tables = [first, *(self._make_block_table(design) for _ in range(n_outputs - 1))]
        scale = _prior_scale(encoded, self.embedding_dim)
        chain = Chain(
            block_tables,
            likelihood,
            [self._make_hyperprior(design, scale) for _ in block_tables],
            unit=getattr(self._loss, "scale", 1.0),
        )
        likelihood.start(block_tables)
        arrays = design.indices, design.starts, design.rows, design.values, target, weight
        digest = joblib.hash((arrays, design.linear_values, pair_slots, self._posterior_settings()))
        if before == "gibbs":
            self._load_chain(chain, generator)
        elif before == "als":
            first.write(_read_module(self._grow_module(seed))[design.indices])
        else:
            for block_table in block_tables:
                blocks = np.zeros((design.n_blocks, self.embedding_dim + 1))
                blocks[:, :-1] = generator.normal(0, scale[:-1], blocks[:, :-1].shape)
                block_table.write(blocks)
        goes_on = before == "gibbs" and self._chain["digest"] == digest

        def on_sweep(record: dict[str, float]) -> bool:
            if self.verbose:
                print(_line(record))
            if on_epoch is None:
                return False
            now = Posterior.of_draws([chain.draw()], design, self.schema_, pair_slots=pair_slots)
            self._publish(now, seed)
            return on_epoch(self._module)

        burn = self._burn()
        if not goes_on and burn >= self.n_sweeps:
            raise ValueError(
                f"n_burn={self.n_burn} must be less than n_sweeps={self.n_sweeps}, or nothing is "
                "left to predict by."
            )
        plan = Schedule(
            self.n_sweeps,
            n_burn=max(self.n_burn_ - len(self.history_), 0) if goes_on else burn,
            thin=None if self.thin == "auto" else self.thin,
            on_sweep=on_sweep,
        )
        run = sample(chain, plan, generator)
        if run.stopped_by is not None and not run.records:
            raise run.stopped_by  # before anything was drawn
        draws = Posterior.of_draws(run.draws, design, self.schema_, pair_slots=pair_slots)
        history, probes = pd.DataFrame(run.records), run.probes
        makeshift = run.makeshift
        if goes_on:
            if not self._chain["makeshift"]:  # real draws stay, and need no makeshift one
                draws = self.posterior_ if makeshift else self.posterior_.extended(draws)
                makeshift = False
            probes = np.concatenate([self._chain["probes"], probes])
            history["sweep"] += len(self.history_)
            history = pd.concat([self.history_, history], ignore_index=True)
        self.posterior_ = draws
        self._publish(draws, seed)
        self._chain = {
            "digest": digest,
            "schema": self.schema_,
            "indices": design.indices,
            "blocks": [block_table.read() for block_table in block_tables],
            "priors": [prior.state() for prior in chain.hyperpriors],
            "values": likelihood.values(),
            "probes": probes,
            "makeshift": makeshift,
            "generator": generator.bit_generator.state,
        }
        self.n_burn_ = self.n_burn_ if goes_on else burn
        self._judge(history, probes)
        return Outcome(history, len(history), stopped_by=run.stopped_by)

    def _make_hyperprior(self, design: Design, scale: NDArray[np.float64]) -> Hyperprior:
        n_priors, dim = len(design.prior_names), self.embedding_dim + 1
        if self.l2_embedding == "auto" or self.l2_linear == "auto":
            return make_hyperprior(self.hyperprior, n_priors, dim, self.hyperprior_scale * scale)
        precision = np.append(np.full(dim - 1, self.l2_embedding), self.l2_linear)
        return FixedPrior(n_priors, precision.astype(np.float64))

    def _posterior_settings(self) -> dict[str, Any]:
        """Parameters that change the posterior: draws under others are of another one."""
        names = ("l2_linear", "l2_embedding", "hyperprior", "hyperprior_scale")
        return {name: getattr(self, name) for name in names}

    def _load_chain(self, chain: Chain, generator: np.random.Generator) -> None:
        """Go on from where a chain stood; blocks that it lacks are drawn from their priors."""
        before = self._chain
        start_bias = chain.likelihood.bias.copy()
        chain.likelihood.load_values(before["values"])
        n_rows = before["schema"].table_size
        now = np.arange(n_rows)
        for first, first_now, count in self.schema_.rows_kept(before["schema"]) or ():
            now[first : first + count] = np.arange(first_now, first_now + count)
        for c, (block_table, prior) in enumerate(
            zip(chain.block_tables, chain.hyperpriors, strict=True)
        ):
            prior.load_state(before["priors"][c])
            design = block_table.design
            covariance = np.linalg.inv(prior.precision)
            normal = generator.standard_normal((design.n_blocks, len(covariance[0]), 1))
            spread = (np.linalg.cholesky(covariance)[design.prior_of] @ normal)[:, :, 0]
            table = np.full((self.schema_.table_size, spread.shape[1]), np.nan)
            table[now[before["indices"]]] = before["blocks"][c]
            known = table[design.indices]
            drawn = prior.mean[design.prior_of] + spread
            step = chain.likelihood.bias[c] - start_bias[c]
            block_table.set_residuals(block_table.residuals() - step, 1.0)
            block_table.write(np.where(np.isnan(known), drawn, known))

    def _publish(self, posterior: Posterior, seed: int) -> None:
        """Make the module of the last draw; each of several outputs has vectors of its own."""
        bias = posterior.values["bias"][-1]
        width = len(bias) * self.embedding_dim
        module = self._start_module(torch.from_numpy(bias.copy()), seed, embedding_dim=width)
        _write_module(module, posterior.tables[-1][:, posterior.positions], bias)
        self._module = pack_tables(module.eval())

    def refit_categories(self, X: Any, y: Any, field: str, sample_weight: Any = None) -> Any:
        """Draw some categories of one field anew, such as a user with new ratings, or a new user.

        All other weights stay as they are in each draw, so the cost is that of the rows given.

        Parameters
        ----------
        X : table, array or FieldArray
            All rows of the categories to draw: those that fit saw, and new ones. A new category
            must be one that the encoder makes: in a Pipeline, by `FieldEncoder.partial_fit` before.
        y : array-like of shape (n_rows,)
            Their targets.
        field : str
            Name of the field, which has one category per row and a vocabulary of its own.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If the model was not fitted by "gibbs", has more than two classes, the field is no
            such field, or rows have no known category of it.
        """
        check_is_fitted(self)
        if self.posterior_ is None or self.posterior_.tables.shape[1] > 1:
            raise ValueError(
                "refit_categories needs the draws of solver='gibbs' for one output; this model was "
                f"fitted by {self.solver_!r}"
                + ("." if self.posterior_ is None else " for more than two classes.")
            )
        with self._unchanged_on_error():
            X = self._check_X(X, reset=False)
            check_consistent_rows(X, y)
            weight = check_sample_weight(sample_weight, len(y))
            target, weight = self._encode_target(y, weight, go_on=True, weigh_as_before=True)
            kept = np.flatnonzero(weight > 0)
            encoded = self._grow_encoding(X, weight)
            schema = self.schema_
            names = schema.names if isinstance(encoded, FieldArray) else ()
            f = names.index(field) if field in names else -1
            if f < 0 or schema.kinds[f] not in ("categorical", "binned") or schema.slots[f] > 1:
                raise ValueError(
                    f"field={field!r} must be a field of one category per row; fields are "
                    f"{list(names)[:20]}."
                )
            if schema.vocabularies.count(schema.vocabularies[f]) > 1:
                raise ValueError(
                    f"Field {field!r} shares its vocabulary with another field, whose rows would "
                    "be needed too. Fit anew with warm_start=True."
                )
            encoded, target, weight = encoded[kept], target[kept], weight[kept]
            posterior = self.posterior_.grown(schema)
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            if "noise_precision" not in posterior.values:  # latent targets: as in fit
                copies = count_copies(weight)
                repeated = np.repeat(np.arange(len(weight)), copies)
                encoded, target = encoded[repeated], target[repeated]
                weight = (weight / copies)[repeated]
            targets = self._make_targets(encoded, target, weight)
            rng = np.random.default_rng(seed)
            posterior = redraw(posterior, encoded, field, targets, rng)
            self.posterior_ = posterior
            self._publish(posterior, seed)
            drawn = np.flatnonzero(posterior.positions < posterior.n_blocks)
            last = posterior.tables[-1, 0, posterior.positions[drawn]].astype(np.float64)
            state = {"digest": None, "schema": schema, "indices": drawn, "blocks": [last]}
            self._chain = self._chain | state
        return self

    def _judge(self, history: pd.DataFrame, probes: NDArray[np.float64]) -> None:
        """Measure convergence, and warn if predictions have not come to rest."""
        start = self.n_burn_
        watched = [c for c in ("train_loss", "noise_precision") if c in history]
        rows = {}
        if len(history) - start >= 4:
            trace = history[watched].to_numpy()[start:]
            for name, r_hat, size in zip(
                watched, split_r_hat(trace), effective_size(trace), strict=True
            ):
                rows[name] = (r_hat, size)
            r_hats, sizes = split_r_hat(probes[start:]), effective_size(probes[start:])
            rows["predictions"] = (np.quantile(r_hats, 0.9), np.quantile(sizes, 0.1))
        self.convergence_ = pd.DataFrame(
            rows.values(), index=list(rows), columns=["r_hat", "effective_size"]
        )
        if not rows:
            warnings.warn(
                f"{len(history) - start} sweep(s) after the burn-in are too few to tell whether "
                "predictions have come to rest; take some hundred.",
                ConvergenceWarning,
                stacklevel=6,
            )
            return
        r_hat = rows["predictions"][0]
        if r_hat > _MOST_R_HAT:
            n_kept = len(history) - start
            ratio = min((r_hat**2 - 1) / (_MOST_R_HAT**2 - 1), _MOST_MORE + 1.0)
            more = max(math.ceil((ratio - 1) * n_kept / 10) * 10, 10)
            warnings.warn(
                f"Predictions by {len(history)} sweeps have not come to rest: their R-hat is "
                f"{r_hat:.2f}, expected at most {_MOST_R_HAT}. They may well be good already; to "
                f"be sure run about {more} sweeps more, by set_params(warm_start=True, n_sweeps="
                f"{more}) and fit again.",
                ConvergenceWarning,
                stacklevel=6,
            )

    # -- predict -----------------------------------------------------------------------

    def _raw(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        if self.posterior_ is None:
            return super()._raw(X)
        return np.concatenate([self._link_mean(raw) for _, raw in self._predictions(X)])

    def _predictions(self, X: Any) -> Iterator[tuple[Encoded, Raw]]:
        """Rows of X, in pieces, with raw predictions by all draws."""
        for part in in_chunks(X, getattr(self, "feature_names_in_", ())):
            encoded = self._encode(self._check_X(part, reset=False))
            for raw in self.posterior_.raw(encoded, count_threads(self.n_jobs)):
                yield encoded[raw.rows], raw

    def _floats_needed(self) -> tuple[float, float]:
        if self.solver_ not in _BLOCK_SOLVERS:
            return super()._floats_needed()
        n_tables = 6 if self.solver_ == "als" else 16  # of float32, the least number of draws
        return (self.embedding_dim + 1) * n_tables * self._loss.n_outputs, 0.0


def _order_of_rows(encoded: Encoded) -> NDArray[np.intp] | slice:
    """Rows sorted by their fields, those of most categories first, so that neighbours share."""
    if not isinstance(encoded, FieldArray):
        return slice(None)
    schema = encoded.require_schema()
    by_size = np.argsort(schema.vocabulary_sizes, kind="stable")
    columns = [np.asarray(encoded)[:, schema.first_columns[f]] for f in by_size]
    return np.lexsort(columns)


def _prior_scale(encoded: Encoded, embedding_dim: int) -> NDArray[np.float64]:
    """Standard deviations of [v | w] that give a row's pairwise term one of 1/2, its linear 1."""
    fields = mean_fields(encoded)
    pairs = max(fields * (fields - 1) / 2, 1.0)
    of_vectors = (0.25 / (pairs * embedding_dim)) ** 0.25
    return np.append(np.full(embedding_dim, of_vectors), fields**-0.5)


def _read_module(module: FieldModel) -> NDArray[np.float64]:
    """Vectors and weights of a module of one output, (table_size, D)."""
    state = {name: value.cpu().double().numpy() for name, value in module.state_dict().items()}
    return np.column_stack([state["embedding.weight"], state["linear.weight"]])


def _write_module(
    module: FieldModel, tables: NDArray[np.float64], bias: NDArray[np.float64] | list[float]
) -> None:
    """Set the weights of a module, from one table per output, (C, table_size, D).

    With several outputs vectors stand side by side, and each output sees its own.
    """
    n_outputs, _, D = tables.shape
    with torch.no_grad():
        module.bias.copy_(torch.as_tensor(np.asarray(bias)))
        module.linear.weight.copy_(torch.from_numpy(tables[:, :, -1].T.copy()))
        vectors = tables[:, :, :-1].transpose(1, 0, 2).reshape(-1, n_outputs * (D - 1))
        module.embedding.weight.copy_(torch.from_numpy(vectors.copy()))
        if n_outputs > 1:
            own = np.repeat(np.eye(n_outputs), D - 1, axis=0)
            cast(torch.Tensor, module.pairwise_weight).copy_(torch.from_numpy(own))


def _line(record: dict[str, float]) -> str:
    """A record of the history in one line."""
    return "  ".join(f"{name} {value:.6g}" for name, value in record.items())
