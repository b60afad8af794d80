"""Where a descent starts: module, loss, rows on the device, priors, rows held out.

The same for mini-batches and for full batches. How to go on from there is told in ``gradient`` and
``lbfgs``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..models.contract import FieldModel
from ..training.fitting import Plan, Trained
from ..training.loading import make_rows
from ..training.losses import Loss
from ..training.options import StepOptions
from ..training.prediction import pack_tables
from ..training.rows import Rows
from ..training.rules import ROW_RULES
from .fitted import Fitted, fitted_module
from .gibbs.handover import as_start_of_descent
from .memory import check_memory
from .problem import ModelSpec, Pretrained, Problem, mean_fields

__all__ = ["Start", "StartValues", "check_tables", "learning_rate", "stops_early"]

_STOP_EARLY_ROWS = 1_000
#: Copies of the tables that a solver holds: weights, its state, the best weights.
_COPIES = {"adagrad": 2, "sgd": 2, "ftrl": 3, "adam": 4, "lbfgs": 2 * 25}
_CPU = torch.device("cpu")
_L2_DENSE = 10.0
_DENSE_COPIES = 4  # weights, gradients and two moments


@dataclass(frozen=True)
class StartValues:
    """Sets a module to where training starts, as often as it is called.

    Attributes
    ----------
    spec : ModelSpec
        Which module.
    bias : ndarray of shape (C,)
        Raw prediction of least loss if it must be the same for all rows.
    seed : int
        Of the values drawn.
    find_pretrained : callable or None
        Gives vectors brought along, for what is drawn.
    before : Fitted or None
        Whose weights to start from; rows for categories that are new since are drawn.
    device : torch.device
        Where the module before goes if it is not built yet.
    """

    spec: ModelSpec
    bias: NDArray[np.float64]
    seed: int
    find_pretrained: Callable[[], Pretrained] | None = None
    before: Fitted | None = None
    device: torch.device = _CPU

    def __call__(self, module: FieldModel) -> None:
        """Set all weights.

        Parameters
        ----------
        module : FieldModel
            Of this spec; on any device, of any type.
        """
        if self.before is None:
            self._draw(module, self.bias, self.seed)
            return
        old = self.before.module(lambda: self.device)
        if old.schema == module.schema:
            module.load_state_dict(old.state_dict())
            return
        # With a seed of its own, lest a new row start where another one did.
        bias = old.bias.detach().cpu().numpy()
        self._draw(module, bias, self.seed + old.schema.table_size)
        module.take_over(old)

    def _draw(self, module: FieldModel, bias: NDArray[np.floating], seed: int) -> None:
        if module.bias.device.type != "cpu" or module.bias.dtype != torch.float32:
            drawn = self.spec.build()  # generators are bound to a device, numbers to a type
            self._draw(drawn, bias, seed)
            module.load_state_dict(drawn.state_dict())
            return
        module.reset_parameters(torch.Generator().manual_seed(seed))
        with torch.no_grad():
            module.bias.copy_(torch.from_numpy(np.array(bias)))
            if self.find_pretrained is not None:
                rows, vectors = map(torch.from_numpy, self.find_pretrained())
                weight = module.embedding.weight
                n_times = weight.shape[1] // vectors.shape[1]  # one for each partner field
                weight[rows] = vectors.repeat(1, n_times).to(weight)


@dataclass
class Start:
    """All that a descent needs, besides its own way to take steps.

    Attributes
    ----------
    problem : Problem
        What to fit.
    before : Fitted or None
        What to go on from.
    known : dict
        Attributes of the Fitted to come that are known from the start.
    module : FieldModel
        At its start values; trained in place.
    plan : Plan
        Step sizes, penalties, stopping.
    rows : Rows
        All rows for training.
    generator : torch.Generator
        Source of randomness, on the CPU.
    restart : callable
        Puts the start values back.
    split : tuple of ndarray of int or None
        Positions of the rows to train on and of those held out to stop early.
    valid : Rows or None
        Rows to watch that are no part of `rows`.
    """

    problem: Problem
    before: Fitted | None
    known: dict[str, Any]
    module: FieldModel
    plan: Plan
    rows: Rows
    generator: torch.Generator
    restart: Callable[[], None]
    split: tuple[NDArray[np.intp], NDArray[np.intp]] | None
    valid: Rows | None

    @classmethod
    def of(
        cls,
        problem: Problem,
        before: Fitted | None,
        solver: str,
        reason: str,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Start:
        """Prepare a descent.

        Parameters
        ----------
        problem : Problem
            What to fit.
        before : Fitted or None
            What to go on from.
        solver : str
            Name of the solver.
        reason : str
            Why this one.
        device : torch.device
            Where to train.
        dtype : torch.dtype
            Of weights and values.

        Returns
        -------
        Start
        """
        target, weight, rng = problem.target, problem.weight, problem.rng
        if before is not None and before.draws is not None:
            before = as_start_of_descent(before)
        total = float(weight.sum())
        mean_weight = problem.mean_weight
        loss = problem.task.make_loss(target, weight) if before is None else before.loss
        spec = problem.spec if before is None else before.spec.under(problem.spec.schema)
        seen = total + (before.seen_weight if before is not None and problem.one_pass else 0.0)
        plan = _make_plan(problem, spec, before, solver, mean_weight, seen / total)
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        seed = generator.initial_seed()
        if before is None or before.spec.schema != spec.schema:
            check_tables(spec, _COPIES[solver])
        module = spec.build().to(device, dtype)
        bias, find = loss.best_constant(target, weight), problem.find_pretrained
        fill = StartValues(spec, bias, seed, find, before, problem.device)
        fill(module)
        pack_tables(module, solver)  # for a moment tables are held twice: before rows are, too
        if find is not None and problem.options.freeze_pretrained:
            module.frozen_rows = torch.from_numpy(find().rows).to(device)
        as_rows: dict[str, Any] = {
            "positional": "fields" in module.reads,
            "dtype": dtype,
            "device": device,
        }
        if weight.strides == (0,):
            weight = np.broadcast_to(1.0, weight.shape)
        else:
            weight = weight / mean_weight
        rows = make_rows(problem.rows, loss.encode(target), weight, **as_rows)
        split = valid = None
        if problem.watch is not None:
            watch = problem.watch
            valid = make_rows(watch.rows, loss.encode(watch.target), watch.weight, **as_rows)
        elif plan.patience is not None:
            strata = problem.task.strata(target) if rows.n_units == len(target) else None
            split = problem.hold_out(rows.n_units, rng, strata)

        known = {
            "spec": spec,
            "task": problem.task,
            "loss": loss,
            "solver": solver,
            "reason": reason,
            "first_schema": spec.schema if before is None else before.first_schema,
            "chosen": problem.spec.arguments if before is None else before.chosen,
            "seen_weight": seen,
        }
        start = cls(
            problem,
            before,
            known,
            module,
            plan,
            rows,
            generator,
            restart=lambda: fill(module),
            split=split,
            valid=valid,
        )
        if problem.on_epoch is not None:
            start.plan = replace(plan, on_epoch=start._tell)
        return start

    @property
    def loss(self) -> Loss:
        """What is minimized."""
        return self.known["loss"]

    def _tell(self, module: FieldModel) -> bool:
        """Tell of an epoch; return whether to stop."""
        assert self.problem.on_epoch is not None
        nothing = {"history": pd.DataFrame(), "n_epochs": 0}
        return self.problem.on_epoch(
            lambda: fitted_module(copy.deepcopy(module), **self.known, **nothing)
        )

    def conclude(self, trained: Trained) -> Fitted:
        """What the descent came to.

        Parameters
        ----------
        trained : Trained
            What came of the training; the module is laid out for prediction in place.

        Returns
        -------
        Fitted
        """
        history = trained.history.copy()
        for name in {"l2_linear", "l2_embedding", "l2_dense"} & set(history):
            history[name] *= self.problem.mean_weight  # in the unit of the parameters
        if self.before is not None and self.problem.one_pass:
            more = history.assign(epoch=len(self.before.history) + 1)
            history = pd.concat([self.before.history, more], ignore_index=True)
        return fitted_module(
            self.module,
            **self.known,
            history=history,
            n_epochs=trained.n_epochs,
            priors=self._found_priors(trained),
            state=trained.stepper_state,
        )

    def _found_priors(self, trained: Trained) -> dict[str, float]:
        """Precisions that the training chose, and those found before where it chose none."""
        found = {} if self.before is None else dict(self.before.priors)
        mean = self.problem.mean_weight
        return found | {name: value * mean for name, value in trained.priors.items()}


def stops_early(problem: Problem, solver: str) -> bool:
    """Whether rows are held out, or watched, to stop early.

    Parameters
    ----------
    problem : Problem
        What to fit.
    solver : str
        Name of the solver.

    Returns
    -------
    bool
    """
    if problem.one_pass:
        return False
    if problem.options.early_stopping == "auto":
        enough = solver != "lbfgs" and len(problem.target) >= _STOP_EARLY_ROWS
        return problem.watch is not None or enough
    return bool(problem.options.early_stopping)


def learning_rate(problem: Problem, spec: ModelSpec, solver: str) -> float:
    """Step size of the tables.

    Parameters
    ----------
    problem : Problem
        What to fit.
    spec : ModelSpec
        Which module.
    solver : str
        Name of the solver.

    Returns
    -------
    float
        0 if the solver has none.
    """
    if problem.options.learning_rate is not None:
        return problem.options.learning_rate
    if solver in ("adagrad", "ftrl"):
        return spec.defaults(mean_fields(problem.rows)).learning_rate
    return ROW_RULES[solver].learning_rate if solver in ROW_RULES else 0.0


def check_tables(spec: ModelSpec, copies: int) -> None:
    """Raise before allocating what cannot fit into memory.

    Parameters
    ----------
    spec : ModelSpec
        Which module.
    copies : int
        Numbers that are held per weight of the tables.

    Raises
    ------
    MemoryError
        Naming the fields with the largest share.
    """
    per_row = sum(table.width for table in spec.tables().values())
    module = spec.build("meta")
    tables = sum(table.numel() for table in module.sparse_tables().values())
    dense = sum(weight.numel() for weight in module.parameters()) - tables
    check_memory(spec.schema, copies * per_row, _DENSE_COPIES * dense)


def _make_plan(
    problem: Problem,
    spec: ModelSpec,
    before: Fitted | None,
    solver: str,
    mean_weight: float,
    seen: float,
) -> Plan:
    """Choices of the user as numbers for weights of mean 1."""
    options, scale = problem.options, 1 / mean_weight
    priors = dict(spec.defaults(mean_fields(problem.rows)).priors)
    relaxed = tuple(name for name in priors if options.l2[name] == "auto")
    priors.update({name: float(options.l2[name]) for name in priors if name not in relaxed})
    if problem.one_pass and before is not None:
        # Nothing is held out to relax priors by, so those that `fit` found serve.
        priors.update({name: before.priors[name] for name in relaxed if name in before.priors})
    if options.l2_dense == "auto":
        priors["dense"] = _L2_DENSE
        relaxed = (*relaxed, "dense")
    else:
        priors["dense"] = options.l2_dense
    for_dense = {"auto": "adam", "ftrl": "adagrad"}
    step = StepOptions(
        solver=solver,
        solver_dense=for_dense.get(options.solver, solver),
        learning_rate=learning_rate(problem, spec, solver),
        learning_rate_dense=options.learning_rate_dense,
        l1_linear=options.l1_linear * scale,
        l2_linear=priors.get("linear", 0.0) * scale,
        l2_embedding=priors.get("embedding", 0.0) * scale,
        l2_dense=priors["dense"] * scale,
        initial_accumulator=options.initial_accumulator,
        gradient_clip=options.gradient_clip,
        unknown_dropout=options.unknown_dropout,
        n_threads=problem.n_threads,
        dense_threads=problem.dense_threads,
        deterministic=options.deterministic,
        seen=seen if problem.one_pass else 1.0,
    )
    callbacks = [
        c if isinstance(c, tuple) else (type(c).__name__, c) for c in options.callbacks or []
    ]
    if not all(hasattr(callback, "on_epoch_end") for _, callback in callbacks):
        raise ValueError(
            "callbacks must be skorch callbacks or pairs of a name and a callback, got "
            f"{options.callbacks}."
        )
    return Plan(
        options=step,
        max_epochs=1 if problem.one_pass else options.epochs(solver),
        batch_size=options.batch_size,
        patience=options.patience if stops_early(problem, solver) else None,
        relaxed=() if problem.one_pass else relaxed,
        refit=options.refit and not problem.one_pass,
        learning_rate_schedule=options.learning_rate_schedule,
        tolerance=options.tol,
        verbose=int(options.verbose),
        callbacks=callbacks,
        one_pass=problem.one_pass,
        path=problem.path,
    )
