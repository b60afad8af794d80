"""skorch drives epochs, callbacks and history; a stepper does the arithmetic.

The only file that subclasses skorch's net. It is private: users meet it in callbacks only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, r2_score
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer
from skorch.dataset import Dataset

from ..kernels import HAS_KERNELS
from ..models.contract import FieldModel
from .callbacks import EndTraining, KeepBest
from .losses import Loss
from .options import StepOptions
from .prediction import raw_predictions, weighted_loss
from .rows import Rows
from .stepper import Stepper
from .torch_step import TorchStepper
from .user_callbacks import reads_batches, stopped_by_skorch

__all__ = ["DivergenceError", "FieldNet"]


#: Batches between two looks at what else happens, such as a Ctrl-C.
_BLOCK = 64


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
            lr=options.learning_rate,
            verbose=1,  # callbacks that were asked to speak do
        )
        self.use_caching = False  # no batch of predictions is kept for scores
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
        self.stepper_ = _make_stepper(
            self.module_,
            self.loss,
            self.options,
            float(self.train.weight.sum()) * self.options.seen,
            self.generator,
            max(min(self.batch_size, len(self.train)), 1),
        )
        self.optimizer_ = self.stepper_.optimizer
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """The rows given at construction; splitting is the estimator's business."""
        valid = None if self.valid is None else _Scored(self.valid, self.loss)
        return _Scored(self.train, self.loss), valid

    def get_iterator(self, dataset: Dataset, training: bool = False) -> Any:
        """Rows iterate by themselves."""
        return dataset.X

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """One pass over the rows, to learn or to score."""
        if iterator is None:
            return
        if training:
            self._train_epoch(iterator)
        else:
            raw = raw_predictions(self.module_, iterator, self.options.n_threads)
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
        except EndTraining:
            pass
        except KeyboardInterrupt as stop:
            if not stopped_by_skorch(stop.__traceback__):
                raise
        finally:
            self.stepper_.settle()

    def finish(self) -> None:
        """Tell callbacks that the weights are final."""
        self.notify("on_train_end", X=self.train, y=None)

    # -- what scores ask of an estimator ---------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if self.loss.is_classifier else "regressor"
        return tags

    @property
    def classes_(self) -> NDArray[np.intp]:
        """Positions of the labels in the order of the estimator's `classes_`."""
        return np.arange(max(self.loss.n_outputs, 2))

    def predict_proba(self, X: Rows) -> NDArray[np.float64]:
        """Probabilities of the classes, (n_rows, n_classes)."""
        return self.loss.predict(raw_predictions(self.module_, X, self.options.n_threads))

    def predict(self, X: Rows) -> NDArray[Any]:
        """Most probable class, or number, of each row."""
        predicted = self.predict_proba(X)
        return predicted.argmax(axis=1) if self.loss.is_classifier else predicted

    def score(self, X: Rows, y: NDArray[Any]) -> float:
        """Accuracy or R^2, as of scikit-learn's estimators."""
        measure = accuracy_score if self.loss.is_classifier else r2_score
        return float(measure(y, self.predict(X)))

    # -- an epoch --------------------------------------------------------------------------

    def _train_epoch(self, rows: Rows) -> None:
        self.module_.train()
        watched = any(reads_batches(callback) for _, callback in self.callbacks_)
        total = 0.0
        batches_at_once = 1 if watched else _BLOCK
        if not watched:
            self.history.new_batch()  # that names of files may refer to
        for part, order in rows.parts(self.generator):
            for chosen in order.split(self.batch_size * batches_at_once):
                if watched:
                    batch = part.take(chosen)
                    self.history.new_batch()
                    self.notify("on_batch_begin", batch=batch, training=True)
                losses = self.stepper_.run(part, chosen)
                if not np.isfinite(losses).all():
                    raise DivergenceError
                total += losses.sum()
                if watched:
                    mean = torch.tensor(losses[0]) / batch.weight.sum().clamp(min=1e-12)
                    self.history.record_batch("train_loss", float(mean))
                    self.history.record_batch("train_batch_size", len(chosen))
                    self.notify("on_batch_end", batch=batch, training=True, loss=mean, y_pred=None)
        self.stepper_.settle()
        # The last steps of the epoch had no loss after them to tell of an overflow.
        if not np.isfinite(raw_predictions(self.module_, rows.head(256))).all():
            raise DivergenceError
        self._record_loss("train_loss", total / float(rows.weight.sum()))
        self.history.record("learning_rate", self.stepper_.learning_rate)
        self.history.record("event_rates", self.stepper_.learning_rates)

    def _record(self, prefix: str, rows: Rows, raw: NDArray[np.floating]) -> None:
        value = weighted_loss(self.loss, raw, rows)
        if not math.isfinite(value):
            raise DivergenceError
        self._record_loss(f"{prefix}_loss", value)
        metric = self.loss.metric(raw, *(t.cpu().numpy() for t in (rows.target, rows.weight)))
        self.history.record(f"{prefix}_{self.loss.metric_name}", metric)

    def _record_loss(self, name: str, value: float) -> None:
        """Record a loss, and for checkpoints whether it is the best so far."""
        before = (record[name] for record in self.history[:-1])
        self.history.record(name, value)
        self.history.record(f"{name}_best", bool(value < min(before, default=math.inf)))


class _Scored(Dataset):
    """Rows, and their targets as scores compare them with predictions, once they are asked for."""

    def __init__(self, rows: Rows, loss: Loss) -> None:
        self.X, self.loss = rows, loss

    def __len__(self) -> int:
        return len(self.X)

    @property
    def y(self) -> NDArray[np.float64]:
        """Numbers in the unit of the predictions, or positions of classes."""
        return self.loss.decode(self.X.target.cpu().numpy())


def _make_stepper(model: FieldModel, loss: Loss, options: StepOptions, *rest: Any) -> Stepper:
    """Compiled steps where they can be taken, torch's elsewhere."""
    if HAS_KERNELS and options.gradient_clip is None:
        from .compiled_step import CompiledStepper
        from .packing import can_pack

        if can_pack(model):
            return CompiledStepper(model, loss, options, *rest)
    return TorchStepper(model, loss, options, *rest)
