"""Callbacks of our own: keep the best weights, relax the prior, print progress.

Schedules of the learning rate are torch's, through skorch's LRScheduler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from skorch.callbacks import Callback, LRScheduler
from tqdm.auto import tqdm

from ..models.contract import FieldModel
from .history import epoch_row, print_record

__all__ = [
    "EndTraining",
    "KeepBest",
    "PrintTable",
    "ProgressBar",
    "RelaxPrior",
    "Replay",
    "StopWhenStale",
    "TellEpoch",
    "make_scheduler",
]


class EndTraining(Exception):
    """A callback of ours asks to end the training after this epoch."""


class KeepBest(Callback):
    """Remember which epoch was best, its weights if asked, and when none has been better.

    Without validation rows or without patience the latest epoch counts as the best.

    Parameters
    ----------
    patience : int or None
        Epochs without a new best after which training is stale; None for never.
    copies : bool, default=True
        Whether to copy the weights of the best epoch where a later one may be worse.
    """

    def __init__(self, patience: int | None, copies: bool = True) -> None:
        self.patience = patience
        self.copies = copies

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Forget what was before."""
        self.best_loss_ = math.inf
        self.best_epoch_ = 0
        self.stale_ = False
        self.state_: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Compare with the best."""
        epoch = len(net.history)
        loss = net.history[-1].get("valid_loss")
        if loss is None or self.patience is None:
            self.best_epoch_ = epoch
        elif loss < self.best_loss_:
            self.best_loss_, self.best_epoch_ = loss, epoch
            if self.copies:
                self._save(net)
        else:
            self.stale_ = epoch - self.best_epoch_ >= self.patience

    def restore(self, net: Any) -> None:
        """Put the best weights back, if they were copied."""
        if self.state_:
            net.module_.load_state_dict(self.state_)

    def _save(self, net: Any) -> None:
        current = net.module_.state_dict()
        if self.state_:
            for name, value in current.items():
                self.state_[name].copy_(value)
        else:
            self.state_ = {name: _compact(value) for name, value in current.items()}


def _compact(value: torch.Tensor) -> torch.Tensor:
    return value.clone(memory_format=torch.contiguous_format)


class StopWhenStale(Callback):
    """End the training when the best epoch lies too far back.

    Apart from `KeepBest`, so that the one comes before all other callbacks, any of which may
    end the training, and the other after them.

    Parameters
    ----------
    keep_best : KeepBest
        Which knows.
    """

    def __init__(self, keep_best: KeepBest) -> None:
        self.keep_best = keep_best

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """End it."""
        if self.keep_best.stale_:
            raise EndTraining


class RelaxPrior(Callback):
    """Weaken priors whenever the validation loss stalls.

    Strong priors first, halved step by step: the path of a regularization grid, warm
    started, with early stopping to pick the point on it.

    Parameters
    ----------
    penalties : dict of str to float
        Precision at the start, by the name of the table.
    factor : float, default=2.0
        Divisor of the precisions.
    tolerance : float, default=0.001
        Relative improvement below which an epoch counts as stalled.
    """

    def __init__(
        self, penalties: dict[str, float], factor: float = 2.0, tolerance: float = 1e-3
    ) -> None:
        self.penalties = penalties
        self.factor = factor
        self.tolerance = tolerance

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Start strong."""
        self.best_loss_ = math.inf

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Relax after a stalled epoch."""
        loss = net.history[-1]["valid_loss"]
        stalled = loss > self.best_loss_ * (1 - self.tolerance)
        for name in self.penalties:
            penalty = net.stepper_.penalties[name]
            net.history.record(f"l2_{name}", penalty)
            if stalled:
                net.stepper_.set_penalty(name, penalty / self.factor)
        self.best_loss_ = min(loss, self.best_loss_)


class Replay(Callback):
    """Repeat the priors and learning rates of recorded epochs, without validation.

    Parameters
    ----------
    epochs : list of dict
        One entry per epoch: ``l2_linear`` and ``l2_embedding`` where the prior was
        relaxed, ``event_rates`` for the learning rates unless a schedule sets them.
    """

    def __init__(self, epochs: list[dict[str, Any]]) -> None:
        self.epochs = epochs

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Set what the epoch of this number had."""
        then = self.epochs[len(net.history) - 1]
        if "event_rates" in then:
            net.stepper_.set_learning_rates(*then["event_rates"])
        for name in net.stepper_.penalties:
            if f"l2_{name}" in then:
                net.stepper_.set_penalty(name, then[f"l2_{name}"])
                net.history.record(f"l2_{name}", then[f"l2_{name}"])


def make_scheduler(
    schedule: str, *, rates: list[float], n_steps: int, monitor: str
) -> LRScheduler | None:
    """skorch callback for a schedule of the learning rates.

    Parameters
    ----------
    schedule : {"constant", "one_cycle", "reduce_on_plateau"}
        Name of the schedule.
    rates : list of float
        Learning rate of each parameter group; the top of the cycle.
    n_steps : int
        Steps in a full cycle.
    monitor : {"valid_loss", "train_loss"}
        What must improve, else the rates are divided by 10.

    Returns
    -------
    LRScheduler or None
        None for the constant schedule.

    References
    ----------
    Smith, Topin (2018), Super-convergence. arXiv:1708.07120
    """
    if schedule == "one_cycle":
        return LRScheduler(
            policy=torch.optim.lr_scheduler.OneCycleLR,
            step_every="batch",
            max_lr=rates,
            total_steps=n_steps + 1,  # the scheduler takes its first step at construction
            cycle_momentum=False,
            event_name=None,
        )
    if schedule == "reduce_on_plateau":
        return LRScheduler(
            policy=torch.optim.lr_scheduler.ReduceLROnPlateau,
            monitor=monitor,
            factor=0.1,
            patience=1,
            event_name=None,
        )
    return None


class TellEpoch(Callback):
    """Call a function after each epoch; stop if it says so.

    Parameters
    ----------
    on_epoch : callable
        Takes the module, returns whether to stop.
    """

    def __init__(self, on_epoch: Callable[[FieldModel], bool]) -> None:
        self.on_epoch = on_epoch

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Call it."""
        if self.on_epoch(net.module_):
            raise EndTraining


class PrintTable(Callback):
    """Print one line per epoch.

    Parameters
    ----------
    phase : {"search", "refit", "fit", "partial_fit"}
        Which run over the rows it is.
    """

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the epoch's row of the history."""
        print_record(epoch_row(net.history[-1], net.loss.metric_name, self.phase))


class ProgressBar(Callback):
    """Show a tqdm bar over the epochs.

    Parameters
    ----------
    phase : {"search", "refit", "fit", "partial_fit"}
        Which run over the rows it is.
    """

    def __init__(self, phase: str) -> None:
        self.phase = phase

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch", desc=self.phase)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Advance it and show the losses."""
        self.bar_.update()
        self.bar_.set_postfix({k: v for k, v in net.history[-1].items() if k.endswith("_loss")})

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Close it."""
        self.bar_.close()
