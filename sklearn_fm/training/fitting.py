"""A whole training: validation, early stopping, a second run on all rows, interruptions.

It knows encoded rows and modules, but neither estimators nor columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback

from ..models.contract import FieldModel
from .callbacks import (
    KeepBest,
    PrintTable,
    ProgressBar,
    RelaxPrior,
    Replay,
    StopWhenStale,
    TellEpoch,
    make_scheduler,
)
from .history import history_frame
from .losses import Loss
from .net import DivergenceError, FieldNet
from .options import StepOptions
from .rows import Rows
from .threads import WORTH_THREADS, limit_threads
from .user_callbacks import check_callbacks, tell_apart

_CHEAP_COPY = 2**22  # numbers, 16 MB
_LARGEST = 1e37  # of what numbers of 32 bits hold, with some room; the smallest is its inverse

__all__ = ["Plan", "Trained", "split_rows", "train_gradient"]


@dataclass(frozen=True)
class Plan:
    """How to train; the estimator's parameters of the same names say more."""

    options: StepOptions
    max_epochs: int = 100
    batch_size: int = 256
    patience: int | None = None
    relaxed: tuple[str, ...] = ()
    refit: bool = False
    learning_rate_schedule: str = "constant"
    tolerance: float = 1e-5
    verbose: int = 0
    callbacks: list[tuple[str, Callback]] = field(default_factory=list)
    on_epoch: Callable[[FieldModel], bool] | None = None
    one_pass: bool = False
    path: list[dict[str, Any]] | None = None  # of another training, to repeat


@dataclass
class Trained:
    """What came of a training, beside the model trained in place.

    Attributes
    ----------
    history : DataFrame
        One row per epoch.
    n_epochs : int
        Epochs behind the weights that were kept.
    converged : bool
        False if the solver ran out of epochs before reaching its tolerance.
    stopped_by : BaseException or None
        A `DivergenceError` or the KeyboardInterrupt of a Ctrl-C; weights are the last good.
    stepper_state : dict or None
        What a later training needs to go on with steps of the size that these ended with.
    priors : dict of str to float
        Precisions that the training chose itself, by name.
    path : list of dict
        Priors and learning rates of each epoch up to the one whose weights were kept, for another
        training to repeat.
    """

    history: pd.DataFrame
    n_epochs: int
    converged: bool = True
    stopped_by: BaseException | None = None
    stepper_state: dict[str, Any] | None = None
    priors: dict[str, float] = field(default_factory=dict)
    path: list[dict[str, Any]] = field(default_factory=list)


def train_gradient(
    model: FieldModel,
    loss: Loss,
    rows: Rows,
    plan: Plan,
    generator: torch.Generator,
    restart: Callable[[], None],
    *,
    split: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None,
    valid: Rows | None = None,
    stepper_state: dict[str, Any] | None = None,
) -> Trained:
    """Train by steps on mini-batches.

    Parameters
    ----------
    model : FieldModel
        Start values; trained in place.
    loss : Loss
        What is minimized.
    rows : Rows
        All rows for training.
    plan : Plan
        Solver, epochs, stopping.
    generator : torch.Generator
        Source of all randomness, on the CPU.
    restart : callable
        Puts the model's start values back; no copy of them is held in memory.
    split : tuple of ndarray of int, default=None
        Positions of the rows to train on and of those held out to stop early.
    valid : Rows, default=None
        Rows to watch that are no part of `rows`.
    stepper_state : dict, default=None
        State of an earlier training to go on from.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If a callback would be ignored, or a number of the plan is beyond those of 32 bits.
    """
    _check_numbers(plan.options)
    stops_early = plan.patience is not None
    watched = valid is not None or split is not None
    check_callbacks(plan.callbacks, plan.options.solver, watched=watched, stops_early=stops_early)
    train = rows
    if split is not None:
        train, valid = split_rows(rows, split)
    extra: list[tuple[str, Callback]] = []
    if plan.relaxed and valid is not None and plan.patience is not None:
        start_at = {"linear": plan.options.l2_linear, "embedding": plan.options.l2_embedding}
        start_at = {name: start for name, start in start_at.items() if name in plan.relaxed}
        extra = [("relax_prior", RelaxPrior(start_at))]
    if plan.path is not None:
        extra = [("replay", Replay(plan.path))]
    refits = plan.refit and split is not None
    # Before a refit the best weights only serve if it is cut short.
    copies = not refits or sum(p.numel() for p in model.parameters()) <= _CHEAP_COPY

    def run(
        rows: Rows,
        valid: Rows | None,
        plan: Plan,
        epochs: int,
        extra: list[tuple[str, Callback]],
        phase: str,
    ) -> tuple[FieldNet, BaseException | None]:
        generator.manual_seed(generator.initial_seed())
        net = _make_net(model, loss, rows, valid, plan, generator, extra, phase, copies=copies)
        if stepper_state is not None:
            net.stepper_.load_state(stepper_state)
        return net, _run(net, epochs)

    # The user's callbacks see the first run; a second would confuse or stop them.
    alone = replace(plan, callbacks=[], on_epoch=None)

    def run_again(net: FieldNet, rows: Rows, epochs: int) -> tuple[FieldNet, BaseException | None]:
        """Repeat a run from the start, with the priors and rates that it had."""
        restart()
        replay = [("replay", Replay(_path(net, plan)))]
        again, stopped_by = run(rows, None, alone, epochs, replay, "refit")
        _finish(again)
        return again, stopped_by

    metric = loss.metric_name
    phase = "search" if refits else "partial_fit" if plan.one_pass else "fit"
    most = plan.max_epochs if plan.path is None else len(plan.path)
    net, stopped_by = run(train, valid, plan, most, extra, phase)
    first, trained = net, train
    n_epochs = net.keep_best.best_epoch_
    history = history_frame(net.history, metric, phase)
    if refits and stopped_by is None and n_epochs:
        best = net.keep_best.state_
        net, stopped_by = run_again(net, rows, n_epochs)
        if stopped_by is not None and best:
            net.keep_best.state_ = best
            net.keep_best.restore(net)
        again = history_frame(net.history, metric, "refit")
        history, trained = pd.concat([history, again], ignore_index=True), rows
    if isinstance(stopped_by, DivergenceError) and not net.keep_best.state_:
        # Training is reproducible: the way back to the last good weights starts anew.
        net, failed = run_again(net, trained, net.keep_best.best_epoch_)
        if isinstance(failed, DivergenceError):
            restart()
    if stopped_by is None:
        stopped_by = _finish(first)  # its callbacks meet the weights that are kept
    return Trained(
        history,
        n_epochs,
        stopped_by=stopped_by,
        stepper_state=net.stepper_.state(),
        priors=_picked_priors(history, n_epochs, plan),
        path=_path(first, plan)[:n_epochs],
    )


def _picked_priors(history: pd.DataFrame, n_epochs: int, plan: Plan) -> dict[str, float]:
    """Precisions of the epoch that early stopping picked."""
    names = [name for name in plan.relaxed if f"l2_{name}" in history and n_epochs]
    return {name: float(history[f"l2_{name}"].iloc[n_epochs - 1]) for name in names}


def _check_numbers(options: StepOptions) -> None:
    """Raise for what would be infinite or 0 in a step, and look like too large a step size."""
    for name in ("l1_linear", "l2_linear", "l2_embedding", "l2_dense"):
        ratio = getattr(options, name)
        if ratio > _LARGEST:
            raise ValueError(
                f"{name} is {ratio:.3g} times the mean weight of a row, but steps are taken in "
                f"numbers of 32 bits, up to {_LARGEST:g}. Lower {name}, or multiply the sample "
                "weights."
            )
    start = options.initial_accumulator
    if options.solver in ("adagrad", "ftrl") and not 1 / _LARGEST <= start <= _LARGEST:
        raise ValueError(
            f"initial_accumulator={start:g}, but steps are taken in numbers of 32 bits: expected "
            f"one from {1 / _LARGEST:g} to {_LARGEST:g}."
        )


def split_rows(rows: Rows, split: tuple[NDArray[np.intp], NDArray[np.intp]]) -> tuple[Rows, Rows]:
    """Rows to train on and rows to watch, sharing the storage of all.

    Parameters
    ----------
    rows : Rows
        All rows.
    split : tuple of ndarray of int
        Positions of both parts.

    Returns
    -------
    tuple of Rows
    """
    train, watch = (rows.subset(torch.from_numpy(part).to(rows.target.device)) for part in split)
    return train, watch


def _make_net(
    model: FieldModel,
    loss: Loss,
    train: Rows,
    valid: Rows | None,
    plan: Plan,
    generator: torch.Generator,
    extra: list[tuple[str, Callback]],
    phase: str,
    *,
    copies: bool,
) -> FieldNet:
    replays = [name for name, _ in extra] == ["replay"]
    keep_best = KeepBest(plan.patience if valid is not None else None, copies)
    callbacks = [*extra, ("keep_best", keep_best), *plan.callbacks]
    scheduler = make_scheduler(
        plan.learning_rate_schedule,
        rates=[plan.options.learning_rate_dense, plan.options.learning_rate],
        n_steps=train.n_batches(plan.batch_size) * plan.max_epochs,
        monitor="train_loss" if valid is None else "valid_loss",
    )
    if scheduler is not None and not (replays and scheduler.step_every == "epoch"):
        callbacks.append(("scheduler", scheduler))
    if plan.on_epoch is not None:
        callbacks.append(("events", TellEpoch(plan.on_epoch)))
    if plan.verbose:
        callbacks.append(("progress", (PrintTable if plan.verbose == 1 else ProgressBar)(phase)))
    callbacks.append(("stop_when_stale", StopWhenStale(keep_best)))
    net = FieldNet(
        model,
        loss,
        plan.options,
        train=train,
        valid=valid,
        batch_size=plan.batch_size,
        generator=generator,
        callbacks=tell_apart(callbacks),
        keep_best=keep_best,
    )
    return net.initialize()


def _run(net: FieldNet, epochs: int) -> BaseException | None:
    """Train and keep the best weights; return what cut the training short, if anything."""
    stopped_by: BaseException | None = None
    device = net.module_.bias.device
    # Multiply-adds of the dense layers in a step; the tables gain nothing from threads.
    work = net.batch_size * sum(p.numel() for p in net.stepper_.dense)
    small = device.type == "cpu" and work < WORTH_THREADS
    with limit_threads(1 if small else net.options.dense_threads):
        try:
            net.run(epochs)
        except (DivergenceError, KeyboardInterrupt) as stop:
            stopped_by = stop
    if net.valid is not None or isinstance(stopped_by, DivergenceError):
        net.keep_best.restore(net)
    return stopped_by


def _finish(net: FieldNet) -> BaseException | None:
    """Tell a run's callbacks that it is over; return the Ctrl-C that came then, if any."""
    try:
        net.finish()
    except KeyboardInterrupt as stop:
        return stop
    return None


def _path(net: FieldNet, plan: Plan) -> list[dict[str, Any]]:
    """Priors and learning rates of the epochs of a training, for `Replay`."""
    epochs = []
    for record in net.history:
        if "learning_rate" not in record:  # an epoch that was cut short
            break
        keys = ["l2_linear", "l2_embedding"]
        if plan.learning_rate_schedule != "one_cycle":  # which repeats by itself
            keys.append("event_rates")
        epochs.append({key: record[key] for key in keys if key in record})
    return epochs
