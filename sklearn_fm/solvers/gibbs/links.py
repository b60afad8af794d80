"""From targets to what is drawn, and from draws to predictions: one link per kind of task.

How draws come about is told in ``chain``, how raw predictions by them in ``posterior``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, ndtri

from ...data.array import FieldArray
from ...schema import FieldSchema
from ...training.losses import Loss
from ..problem import Task
from .likelihoods import (
    NOISE_SHAPE,
    Gaussian,
    Likelihood,
    MultinomialProbit,
    OrdinalProbit,
    Probit,
)
from .posterior import Posterior, Raw
from .predictive import (
    multinomial_probabilities,
    normal_quantiles,
    ordinal_probabilities,
    probit_probabilities,
)
from .refit import Targets

__all__ = ["GaussianLink", "Link", "OrdinalLink", "make_link"]

_TINY = 1e-15


class Link(Protocol):
    """What the draws of a task have to do with its targets."""

    @property
    def is_linear(self) -> bool:
        """Whether a mean of raw predictions says all that a mean of predictions does."""

    def likelihood(
        self, encoded: Any, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Likelihood:
        """What to draw, for training rows."""

    def after(self, encoded: Any) -> Link:
        """The link that has seen these training rows."""

    def targets(
        self,
        posterior: Posterior,
        encoded: Any,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> Targets:
        """Targets of other rows by each draw."""

    def mean(self, raw: Raw) -> NDArray[np.float64]:
        """Averages over draws, (n_rows, C), as raw predictions of the loss."""


@dataclass(frozen=True)
class ProbitLink:
    """Two classes: the sign of a latent target."""

    is_linear: ClassVar[bool] = False

    def likelihood(
        self, encoded: Any, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Likelihood:
        """What to draw, for training rows."""
        return Probit(target, weight)

    def after(self, encoded: Any) -> Link:
        """The same."""
        return self

    def targets(
        self,
        posterior: Posterior,
        encoded: Any,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> Targets:
        """Latent targets on the side of the class."""
        shape = (posterior.n_draws, len(target))
        low = np.broadcast_to(np.where(target > 0, 0.0, -np.inf), shape)
        high = np.broadcast_to(np.where(target > 0, np.inf, 0.0), shape)
        return Targets(low, high, np.broadcast_to(weight, shape))

    def mean(self, raw: Raw) -> NDArray[np.float64]:
        """Log-odds of the probabilities averaged over draws."""
        return logit(np.clip(probit_probabilities(raw), _TINY, 1 - _TINY))[:, None]


@dataclass(frozen=True)
class MultinomialLink(ProbitLink):
    """Several classes: the largest of their latent targets.

    Attributes
    ----------
    n_classes : int
        Number of classes.
    """

    n_classes: int

    def likelihood(
        self, encoded: Any, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Likelihood:
        """What to draw, for training rows."""
        return MultinomialProbit(target, weight, self.n_classes)

    def mean(self, raw: Raw) -> NDArray[np.float64]:
        """Logarithms of the probabilities averaged over draws."""
        return np.log(np.maximum(multinomial_probabilities(raw), _TINY))


@dataclass(frozen=True)
class OrdinalLink:
    """Ordered levels: where a latent target falls between cut points.

    Attributes
    ----------
    levels : ndarray of shape (n_levels,)
        Values of the levels, ascending.
    """

    levels: NDArray[np.float64]
    is_linear: ClassVar[bool] = False

    def likelihood(
        self, encoded: Any, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Likelihood:
        """What to draw, for training rows."""
        return OrdinalProbit(self.position(target), weight, len(self.levels))

    def after(self, encoded: Any) -> Link:
        """The same."""
        return self

    def targets(
        self,
        posterior: Posterior,
        encoded: Any,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> Targets:
        """Latent targets between the cut points of each draw."""
        shape, cuts = (posterior.n_draws, len(target)), posterior.values["cuts"]
        level = self.position(target).astype(np.intp)
        infinite = np.full((shape[0], 1), np.inf)
        edges = np.concatenate([-infinite, cuts, infinite], axis=1)
        return Targets(edges[:, level], edges[:, level + 1], np.broadcast_to(weight, shape))

    def mean(self, raw: Raw) -> NDArray[np.float64]:
        """Expected level."""
        return (self.probabilities(raw) @ self.levels)[:, None]

    def probabilities(self, raw: Raw) -> NDArray[np.float64]:
        """Probabilities of the levels, (n_rows, n_levels)."""
        return ordinal_probabilities(raw, raw.values["cuts"])

    def deviation(self, encoded: Any, raw: Raw) -> NDArray[np.float64]:
        """Standard deviation of the level."""
        p = self.probabilities(raw)
        mean = p @ self.levels
        return np.sqrt(np.maximum(p @ self.levels**2 - mean**2, 0))

    def quantile(self, encoded: Any, raw: Raw, level: float) -> NDArray[np.float64]:
        """Least level at which the probability of this or a lower one reaches a number."""
        below = np.cumsum(self.probabilities(raw), axis=1)[:, :-1]
        return self.levels[(below < level).sum(axis=1)]

    def position(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of targets among the levels."""
        position = np.minimum(np.searchsorted(self.levels, target), len(self.levels) - 1)
        found = self.levels[position]
        if np.any(found != target):
            raise ValueError(
                f"y holds levels that it did not have before, such as "
                f"{target[found != target][0]:g}; levels are {self.levels.tolist()}."
            )
        return position.astype(np.float64)


@dataclass(frozen=True)
class GaussianLink:
    """Numbers with a normal noise, one for all rows or one per category of a field.

    Attributes
    ----------
    loss : SquaredError
        Scale of the target.
    schema : FieldSchema
        Fields of the training rows.
    y_range : tuple of (float, float) or None
        Interval of all predictions.
    noise_field : str or None
        Field whose categories have a noise of their own.
    known : ndarray of int or None
        Categories that training rows have, 0 for unknown.
    """

    loss: Any
    schema: FieldSchema
    y_range: tuple[float, float] | None = None
    noise_field: str | None = None
    known: NDArray[np.intp] | None = None

    @property
    def is_linear(self) -> bool:
        """Whether nothing is cut off."""
        return self.y_range is None

    def likelihood(
        self, encoded: Any, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Likelihood:
        """What to draw, for training rows."""
        groups = self._groups(encoded)
        y = self.loss.encode(target)
        if groups is None:
            return Gaussian(y, weight)
        f = self.schema.names.index(str(self.noise_field))
        return Gaussian(y, weight, groups, self.schema.vocabulary_sizes[f])

    def after(self, encoded: Any) -> Link:
        """The link that knows which categories have a noise."""
        groups = self._groups(encoded)
        return replace(self, known=None if groups is None else np.unique(groups))

    def targets(
        self,
        posterior: Posterior,
        encoded: Any,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> Targets:
        """Targets with each draw's noise."""
        given = np.broadcast_to(self.loss.encode(target), (posterior.n_draws, len(target)))
        return Targets(given, given, weight / self._noise_variance(encoded, posterior.values).T)

    def mean(self, raw: Raw) -> NDArray[np.float64]:
        """Expected target on the scale of the loss."""
        if self.is_linear and raw.center is not None:
            return raw.center
        low, high = (-np.inf, np.inf) if self.y_range is None else self.y_range
        encode = self.loss.encode
        return np.clip(raw.mean[:, :, 0], encode(low), encode(high)).mean(axis=1, keepdims=True)

    def deviation(self, encoded: Any, raw: Raw) -> NDArray[np.float64]:
        """Standard deviation of the target, its noise included."""
        variance = (self._deviations(encoded, raw) ** 2).mean(axis=1)
        variance += raw.mean[:, :, 0].var(axis=1)
        return self.loss.scale * np.sqrt(variance)

    def quantile(self, encoded: Any, raw: Raw, level: float) -> NDArray[np.float64]:
        """Quantile of the target: of a mixture of one normal distribution per draw.

        Of few draws that tell the spread only, of one normal distribution.
        """
        if raw.center is not None:
            center = self.loss.predict(raw.center)
            return center + ndtri(level) * self.deviation(encoded, raw)
        mean = np.ascontiguousarray(raw.mean[:, :, 0])
        quantiles = normal_quantiles(mean, self._deviations(encoded, raw), level)
        return self.loss.predict(quantiles[:, None])

    def _deviations(self, encoded: Any, raw: Raw) -> NDArray[np.float64]:
        """Standard deviation of the target by each draw, (n_rows, n_draws), noise included."""
        return np.sqrt(raw.variance[:, :, 0] + self._noise_variance(encoded, raw.values))

    def _noise_variance(
        self, encoded: Any, values: dict[str, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Variance of the noise of each row by each draw, (n_rows, n_draws)."""
        noise = 1 / values["noise_precision"]  # (n_draws, n_groups)
        groups = self._groups(encoded)
        if groups is None:
            return np.broadcast_to(noise[:, 0], (encoded.shape[0], len(noise)))
        assert self.known is not None
        known = np.isin(groups, self.known)
        of_rows = noise[:, np.where(known, groups, 0)].T
        of_rows[~known] = values["tau"][:, 0] * NOISE_SHAPE / (NOISE_SHAPE - 1)
        return of_rows

    def _groups(self, encoded: Any) -> NDArray[np.intp] | None:
        """Group of each row; 0 is the unknown category."""
        if self.noise_field is None:
            return None
        schema = self.schema
        names = list(schema.names) if isinstance(encoded, FieldArray) else []
        if self.noise_field not in names:
            raise ValueError(
                f"noise_field={self.noise_field!r} is no field of X, which has {names[:20]}."
            )
        f = names.index(self.noise_field)
        if schema.slots[f] > 1 or schema.kinds[f] == "numeric":
            raise ValueError(
                f"noise_field={self.noise_field!r} must hold one category per row; it is a "
                f"{schema.kinds[f]} field of {schema.slots[f]} slot(s)."
            )
        codes = np.asarray(encoded)[:, schema.first_columns[f]]
        return codes.astype(np.intp) + 1


def make_link(task: Task, loss: Loss, schema: FieldSchema) -> Link:
    """Link of a task.

    Parameters
    ----------
    task : Task
        What is predicted.
    loss : Loss
        Scale of the target.
    schema : FieldSchema
        Fields of the training rows.

    Returns
    -------
    Link
    """
    if task.kind == "classes":
        return ProbitLink() if task.n_classes == 2 else MultinomialLink(task.n_classes)
    if task.levels is not None:
        return OrdinalLink(task.levels)
    return GaussianLink(loss, schema, task.y_range, task.noise_field)
