"""One object per loss: it answers link, inverse link, value, best constant and metric.

Penalties are not part of it; they are the solver's, as priors over the whole table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor
from torch.nn import functional as F

from .rows import Batch

__all__ = ["BinaryLogLoss", "Loss", "MultinomialLogLoss", "SquaredError"]


class Loss(Protocol):
    """What training and prediction ask of a loss."""

    @property
    def n_outputs(self) -> int:
        """Raw predictions per row."""

    @property
    def is_classifier(self) -> bool:
        """Whether predictions are probabilities of classes."""

    @property
    def metric_name(self) -> str:
        """Name of `metric` in the history, e.g. ``"auc"``."""

    def encode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """Target as `value` and `metric` take it, computed in float64."""

    def decode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """The inverse of `encode`: in the unit of `predict`, or positions of classes."""

    def value(self, raw: Tensor, batch: Batch) -> Tensor:
        """Loss of each row without its weight, (B, C) to (B,); targets of the batch are encoded."""

    def predict(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Apply the inverse link: raw predictions (n, C) to probabilities or ratings."""

    def best_constant(self, target: NDArray[Any], weight: NDArray[Any]) -> NDArray[np.float64]:
        """Raw prediction (C,) of least weighted loss when it must be the same for all rows."""

    def metric(self, raw: NDArray[Any], target: NDArray[Any], weight: NDArray[Any]) -> float:
        """The usual score of raw predictions, for the history."""


@dataclass(frozen=True)
class BinaryLogLoss:
    """Negative log-likelihood of two classes; target 0 or 1, probability = sigmoid(raw)."""

    is_classifier: ClassVar[bool] = True
    n_outputs: int = 1
    metric_name: str = "auc"

    def encode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """The target as it is."""
        return target

    def decode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """The target as it is."""
        return target

    def value(self, raw: Tensor, batch: Batch) -> Tensor:
        """log(1 + exp(raw)) - target * raw."""
        raw = raw[:, 0]
        return F.softplus(raw) - batch.target * raw

    def predict(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of both classes, (n, 1) to (n, 2)."""
        raw = raw[:, 0].astype(np.float64)
        return np.column_stack([expit(-raw), expit(raw)])

    def best_constant(self, target: NDArray[Any], weight: NDArray[Any]) -> NDArray[np.float64]:
        """log(p / (1 - p)) for the weighted share p of class 1, kept finite."""
        share = float(np.average(target, weights=weight))
        floor = 1e-6
        share = min(max(share, floor), 1 - floor)
        return np.array([math.log(share / (1 - share))])

    def metric(self, raw: NDArray[Any], target: NDArray[Any], weight: NDArray[Any]) -> float:
        """Weighted area under the ROC curve; NaN when one class is absent."""
        from sklearn.metrics import roc_auc_score

        if target.min() == target.max():
            return math.nan
        return float(roc_auc_score(target, raw[:, 0], sample_weight=weight))


@dataclass(frozen=True)
class MultinomialLogLoss:
    """Negative log-likelihood of C classes; target 0..C-1, probabilities = softmax(raw).

    Parameters
    ----------
    n_outputs : int
        Number of classes.
    """

    is_classifier: ClassVar[bool] = True
    n_outputs: int
    metric_name: str = "accuracy"

    def encode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """The target as it is."""
        return target

    def decode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """The target as it is."""
        return target

    def value(self, raw: Tensor, batch: Batch) -> Tensor:
        """log(sum_c exp(raw_c)) - raw_target."""
        return F.cross_entropy(raw, batch.target.long(), reduction="none")

    def predict(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of the classes, (n, C) to (n, C)."""
        return softmax(raw.astype(np.float64), axis=1)

    def best_constant(self, target: NDArray[Any], weight: NDArray[Any]) -> NDArray[np.float64]:
        """Logarithms of the weighted class shares."""
        mass = np.bincount(target.astype(np.intp), weights=weight, minlength=self.n_outputs)
        return np.log(np.maximum(mass / mass.sum(), 1e-6))

    def metric(self, raw: NDArray[Any], target: NDArray[Any], weight: NDArray[Any]) -> float:
        """Weighted share of rows whose largest raw prediction is the target's."""
        return float(np.average(raw.argmax(axis=1) == target, weights=weight))


@dataclass(frozen=True)
class SquaredError:
    """Half the squared error of a standardized target.

    prediction = center + scale * raw, or low + (high - low) * sigmoid(raw) with a range;
    value = ((prediction - target) / scale)^2 / 2. Dividing by the target's spread makes
    step sizes and penalties mean the same whatever the unit of the target.

    Parameters
    ----------
    center, scale : float, default=0.0, 1.0
        Mean and standard deviation of the training target, or what stands for it where there is
        next to none.
    y_range : tuple of (float, float), default=None
        Open interval in which all predictions lie.
    """

    is_classifier: ClassVar[bool] = False
    center: float = 0.0
    scale: float = 1.0
    y_range: tuple[float, float] | None = None
    n_outputs: int = field(default=1, init=False)
    metric_name: str = field(default="rmse", init=False)

    @classmethod
    def of_target(
        cls,
        target: NDArray[Any],
        weight: NDArray[Any],
        y_range: tuple[float, float] | None = None,
    ) -> SquaredError:
        """Loss standardized by the weighted mean and spread of a target.

        Parameters
        ----------
        target, weight : ndarray of shape (n,)
            Training target and sample weights.
        y_range : tuple of (float, float), default=None
            Open interval in which all predictions lie.

        Returns
        -------
        SquaredError
        """
        # In a unit by which squares neither overflow nor vanish, and which rounds nothing.
        _, exponent = np.frexp(np.abs(target).max())
        unit = float(np.ldexp(1.0, exponent))
        target = target / unit
        center = float(np.average(target, weights=weight))
        spread = math.sqrt(np.average((target - center) ** 2, weights=weight))
        counted = target[weight > 0]
        if counted.min() == counted.max():  # rounding leaves noise for a spread; that is no scale
            center = float(counted[0])
            # Start values hardly show, and other targets, by partial_fit, are not far.
            spread = min(abs(center) / 16, 1 / unit) or 1 / unit
        if y_range is not None:  # of which float32 tells no smaller parts
            spread = max(spread, (y_range[1] / unit - y_range[0] / unit) / 1024)
        return cls(center * unit, spread * unit, y_range)

    @property
    def encoded_range(self) -> tuple[float, float]:
        """Ends of the range on the scale of the encoded target; both 0 without one."""
        if self.y_range is None:
            return 0.0, 0.0
        low, high = self.y_range
        return (low - self.center) / self.scale, (high - self.center) / self.scale

    def encode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """(target - center) / scale; float32 would lose small differences of large targets."""
        return (target - self.center) / self.scale

    def decode(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """center + scale * target."""
        return self.center + self.scale * target.astype(np.float64)

    def value(self, raw: Tensor, batch: Batch) -> Tensor:
        """Half the squared error of the standardized target."""
        predicted = raw[:, 0]
        if self.y_range is not None:
            low, high = self.encoded_range
            predicted = low + (high - low) * torch.sigmoid(predicted)
        return (predicted - batch.target).square() / 2

    def predict(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Predictions in the unit of the target, (n, 1) to (n,)."""
        raw = raw[:, 0].astype(np.float64)
        if self.y_range is None:
            return self.center + self.scale * raw
        low, high = self.y_range
        return low + (high - low) * expit(raw)

    def best_constant(self, target: NDArray[Any], weight: NDArray[Any]) -> NDArray[np.float64]:
        """Link of the weighted mean."""
        mean = float(np.average(target, weights=weight))
        if self.y_range is None:
            return np.array([(mean - self.center) / self.scale])
        low, high = self.y_range
        share = min(max((mean - low) / (high - low), 1e-6), 1 - 1e-6)
        return np.array([math.log(share / (1 - share))])

    def metric(self, raw: NDArray[Any], target: NDArray[Any], weight: NDArray[Any]) -> float:
        """Weighted root mean squared error in the unit of the target as it was."""
        error = self.encode(self.predict(raw)) - target
        return self.scale * math.sqrt(np.average(error**2, weights=weight))
