"""skorch drives epochs, callbacks and history; a stepper does the arithmetic.

The only file that subclasses skorch's net. It is private: users meet it in callbacks only.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer

from ..models.base import FieldModel
from .batching import Rows
from .callbacks import KeepBest
from .losses import Loss
from .steppers import StepOptions, TorchStepper

__all__ = ["DivergenceError", "FieldNet", "raw_predictions", "weighted_loss"]


class DivergenceError(FloatingPointError):
    """The loss of a batch was infinite or NaN, so no step was taken on it."""


class FieldNet(NeuralNet):
    """A skorch net over whole tensors of rows.

    An epoch is one shuffled pass of the stepper; the tables' gradients and their
    optimizer state never pass through skorch. `optimizer_` holds two parameter groups, the
    dense layers and the tables, so that torch's and skorch's schedulers reach both
    learning rates.

    Parameters
    ----------
    model : FieldModel
        Trained in place, on the device of its parameters.
    loss : Loss
        What is minimized.
    options : StepOptions
        Solver, step sizes, penalties.
    train : Rows
        Rows to learn from.
    valid : Rows, default=None
        Rows to watch.
    batch_size : int
        Rows per step.
    generator : torch.Generator
        Order of rows, dropout of ids; on the CPU.
    callbacks : list of (str, skorch callback)
        Called at the usual events.
    keep_best : KeepBest
        The one among them that holds the best weights.
    """

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        options: StepOptions,
        *,
        train: Rows,
        valid: Rows | None = None,
        batch_size: int,
        generator: torch.Generator,
        callbacks: list[tuple[str, Callback]],
        keep_best: KeepBest,
    ) -> None:
        super().__init__(
            model,
            criterion=torch.nn.Identity,
            train_split=None,
            batch_size=batch_size,
            callbacks=callbacks,
            device=str(model.bias.device),
            verbose=0,
        )
        self.loss = loss
        self.options = options
        self.train = train
        self.valid = valid
        self.generator = generator
        self.keep_best = keep_best

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [("epoch_timer", EpochTimer())]

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> FieldNet:
        """Build the stepper; its optimizer is what schedulers see."""
        self.stepper_ = TorchStepper(
            self.module_,
            self.loss,
            self.options,
            total_weight=float(self.train.weight.sum()),
            generator=self.generator,
        )
        self.optimizer_ = self.stepper_.optimizer
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """The rows given at construction; splitting is the estimator's business."""
        return self.train, self.valid

    def get_iterator(self, dataset: Rows, training: bool = False) -> Any:
        """Rows iterate by themselves."""
        return dataset

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """One pass over the rows, to learn or to score."""
        if iterator is None:
            return
        if training:
            self._train_epoch(iterator)
        else:
            raw = raw_predictions(self.module_, iterator)
            self._record(prefix, iterator, raw)

    def run(self, epochs: int) -> None:
        """Train, until a callback asks to stop.

        Parameters
        ----------
        epochs : int
            Number of passes at most.
        """
        if not self.initialized_:
            self.initialize()
        self.max_epochs = epochs
        self.notify("on_train_begin", X=self.train, y=None)
        try:
            self.fit_loop(self.train, epochs=epochs)
        except KeyboardInterrupt:
            if not _raised_by_callback():
                raise
        finally:
            self.stepper_.settle()
        self.notify("on_train_end", X=self.train, y=None)

    def _train_epoch(self, rows: Rows) -> None:
        self.module_.train()
        watched = self._watches_batches()
        total = torch.zeros((), dtype=torch.float64)
        for batch in rows.shuffled(self.batch_size, self.generator):
            if watched:
                self.notify("on_batch_begin", batch=batch, training=True)
            loss = self.stepper_.step(batch)
            if not torch.isfinite(loss):
                raise DivergenceError
            total += loss.cpu()
            if watched:
                mean = loss / batch.weight.sum().clamp(min=1e-12)
                self.notify("on_batch_end", batch=batch, training=True, loss=mean, y_pred=None)
        self.stepper_.settle()
        # The last steps of the epoch had no loss after them to tell of an overflow.
        some = rows.subset(torch.arange(min(len(rows), 256), device=rows.target.device))
        if not torch.isfinite(raw_predictions(self.module_, some)).all():
            raise DivergenceError
        self.history.record("train_loss", float(total) / self.stepper_.total_weight)
        self.history.record("learning_rate", self.stepper_.learning_rate)

    def _watches_batches(self) -> bool:
        """Whether any callback has something to do at a batch."""
        return any(
            getattr(type(callback), event, None) is not getattr(Callback, event)
            for _, callback in self.callbacks_
            for event in ("on_batch_begin", "on_batch_end")
        )

    def _record(self, prefix: str, rows: Rows, raw: torch.Tensor) -> None:
        value = weighted_loss(self.loss, raw, rows)
        if not math.isfinite(value):
            raise DivergenceError
        self.history.record(f"{prefix}_loss", value)
        metric = self.loss.metric(*(t.cpu().numpy() for t in (raw, rows.target, rows.weight)))
        self.history.record(f"{prefix}_{self.loss.metric_name}", metric)


# Numbers in the embeddings of a batch: 128 MB of float32.
_BATCH_NUMBERS = 2**25


def raw_predictions(model: FieldModel, rows: Rows) -> torch.Tensor:
    """Raw predictions of all rows, without gradients.

    Parameters
    ----------
    model : FieldModel
        Set to evaluation mode.
    rows : Rows
        On the model's device.

    Returns
    -------
    Tensor of shape (n_rows, C)
    """
    model.eval()
    numbers_per_row = max(rows.width * model.embedding.weight.shape[1], 1)
    batch_size = min(max(_BATCH_NUMBERS // numbers_per_row, 1), 8192)
    with torch.inference_mode():
        parts = [model(batch.indices, batch.values) for batch in rows.in_order(batch_size)]
    return torch.cat(parts) if parts else model.bias.detach().new_zeros(0, model.n_outputs)


def weighted_loss(loss: Loss, raw: torch.Tensor, rows: Rows) -> float:
    """Weighted mean loss of raw predictions.

    Parameters
    ----------
    loss : Loss
        What is measured.
    raw : Tensor of shape (n_rows, C)
        Raw predictions.
    rows : Rows
        Their targets and weights.

    Returns
    -------
    float
    """
    value = loss.value(raw, rows.target).cpu().double()  # not every device has float64
    weight = rows.weight.cpu().double()
    return float((value * weight).sum() / weight.sum())


def _raised_by_callback() -> bool:
    """Whether the KeyboardInterrupt at hand is skorch's way to stop, not a Ctrl-C.

    skorch's EarlyStopping raises KeyboardInterrupt itself; the last frame tells.
    """
    traceback = sys.exc_info()[2]
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_name.startswith("on_")
