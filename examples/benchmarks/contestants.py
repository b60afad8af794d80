"""What compare_peers.py asks of a model, and our own estimators in that form.

A contestant turns encoded rows into the form it takes, fits for a number of epochs, finds its
best epoch on rows to validate with, and predicts. It measures nothing but the time of training.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

import sklearn_fm
from sklearn_fm import FieldArray, FieldSchema

# Epochs to try by a model that cannot be watched while it trains.
EPOCH_GRID = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
DEEP_TASK, RATING_TASK = "deepfm", "mf"


@dataclass(frozen=True)
class Settings:
    """What is the same for all contestants of a run, and what one line of the table sets."""

    task: str
    embedding_dim: int
    hidden: tuple[int, ...]
    torch_batch_size: int
    max_epochs: int
    patience: int
    sweeps: int
    threads: int
    seed: int
    folder: str
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def rates(self) -> bool:
        """Whether the target is a rating, else a click."""
        return self.task == RATING_TASK


@dataclass(frozen=True)
class Found:
    """The best epoch on the rows to validate with."""

    seconds: float
    epochs: int
    prediction: np.ndarray  # of the test rows


def validation_loss(settings: Settings, y: np.ndarray, prediction: np.ndarray) -> float:
    """RMSE of ratings, log loss of clicks."""
    return list(scores(settings, y, prediction).values())[-1]


def scores(settings: Settings, y: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """RMSE of ratings; AUC and log loss of clicks."""
    if settings.rates:
        return {"RMSE": root_mean_squared_error(y, prediction)}
    return {"AUC": roc_auc_score(y, prediction), "log loss": log_loss(y, prediction)}


def seconds_of(work: Callable[[], Any]) -> float:
    """Duration of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Contestant(ABC):
    """A model in the form that the benchmark measures.

    As it is, the best epoch is found by whole fits of growing length, of which only the best
    one's time counts.
    """

    #: Epochs of the fit whose speed is measured; None for the benchmark's --epochs.
    speed_epochs: ClassVar[int | None] = None
    #: Shown beside the figures.
    note: ClassVar[str] = ""

    def __init__(self, schema: FieldSchema, settings: Settings) -> None:
        self.schema = schema
        self.settings = settings
        self.model: Any = None

    @abstractmethod
    def form(self, X: FieldArray, y: np.ndarray) -> Any:
        """Rows as the model takes them; not timed."""

    @abstractmethod
    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Train anew and return the number of epochs that were made."""

    @abstractmethod
    def predict(self, rows: Any) -> np.ndarray:
        """Probability of a click, or the rating."""

    def seconds_per_epoch(self) -> float | None:
        """Time of the last fit's epochs alone, if the model tells."""
        return None

    def search(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> Found:
        """Fit for more and more epochs until that brings nothing."""
        best, best_loss, stale = None, np.inf, 0
        for epochs in EPOCH_GRID:
            if epochs > self.settings.max_epochs or stale == 2:
                break
            seconds = seconds_of(lambda: self.fit(rows["train"], y["train"], epochs))  # noqa: B023
            loss = validation_loss(self.settings, y["valid"], self.predict(rows["valid"]))
            stale += 1
            if loss < best_loss:
                best, best_loss, stale = (seconds, epochs, self.predict(rows["test"])), loss, 0
        return found(best)


class SteppingContestant(Contestant):
    """A model that trains epoch by epoch, and can be watched in between."""

    @abstractmethod
    def step(self, rows: Any, y: np.ndarray) -> None:
        """Train for an epoch; the first one builds the model."""

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Train anew."""
        self.model = None
        for _ in range(epochs):
            self.step(rows, y)
        return epochs

    def search(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> Found:
        """Validate after each epoch, until it is no longer better."""
        self.model = None
        best, best_loss, best_epoch, seconds = None, np.inf, 0, 0.0
        for epoch in range(1, self.settings.max_epochs + 1):
            seconds += seconds_of(lambda: self.step(rows["train"], y["train"]))
            loss = validation_loss(self.settings, y["valid"], self.predict(rows["valid"]))
            if loss < best_loss:
                best, best_loss, best_epoch = (
                    (seconds, epoch, self.predict(rows["test"])),
                    loss,
                    epoch,
                )
            if epoch - best_epoch >= self.settings.patience:
                break
        return found(best)


def found(best: tuple[float, int, np.ndarray] | None) -> Found:
    """The best epoch, if any had a finite loss."""
    if best is None:
        raise RuntimeError("no epoch had a finite validation loss")
    return Found(*best)


class Ours(Contestant):
    """An estimator of sklearn_fm with its defaults, on encoded rows."""

    names: ClassVar[dict[str, str]] = {
        "fm": "FMClassifier",
        DEEP_TASK: "DeepFMClassifier",
        RATING_TASK: "MFRegressor",
    }

    def make(self, **params: Any) -> Any:
        """A new estimator; the caller adds parameters."""
        settings = self.settings
        if settings.task == DEEP_TASK:
            params["hidden_layer_sizes"] = settings.hidden
        return getattr(sklearn_fm, self.names[settings.task])(
            embedding_dim=settings.embedding_dim,
            random_state=settings.seed,
            **settings.params,
            **params,
        )

    def form(self, X: FieldArray, y: np.ndarray) -> Any:
        """A FieldArray, as FieldEncoder makes it."""
        return X

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Mini-batches for a given number of epochs, nothing held out."""
        self.model = self.make(max_epochs=epochs, early_stopping=False)
        self.model.fit(rows, y)
        return epochs

    def seconds_per_epoch(self) -> float | None:
        """Median over the epochs of the last fit."""
        return float(np.median(self.model.history_["seconds"]))

    def predict(self, rows: Any) -> np.ndarray:
        """Second class's probability, or the rating."""
        if self.settings.rates:
            return self.model.predict(rows)
        return self.model.predict_proba(rows)[:, 1]

    def search(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> Found:
        """One fit with early stopping; time up to the best epoch, set-up and validation in it."""
        settings = self.settings
        self.model = self.make(max_epochs=settings.max_epochs, patience=settings.patience)
        eval_set = (rows["valid"], y["valid"])
        total = seconds_of(lambda: self.model.fit(rows["train"], y["train"], eval_set=eval_set))
        history = self.model.history_
        after = history["seconds"].to_numpy()[self.model.n_epochs_ :].sum()
        return Found(total - after, self.model.n_epochs_, self.predict(rows["test"]))
