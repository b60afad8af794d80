"""From targets to what is drawn, and from draws to predictions: one link per kind of task.

How draws come about is told in ``chain``, how raw predictions by them in ``posterior``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from ...data.array import FieldArray
from ...schema import FieldSchema
from ...training.losses import Loss
from ..problem import Task
from .likelihoods import (
    Gaussian,
    Likelihood,
    MultinomialProbit,
    OrdinalProbit,
    Probit,
)
from .noise import Noise, group_categories, noise_floor, noise_precision
from .posterior import Posterior, Raw
from .predictive import (
    clipped_means,
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

    def at(self, encoded: Any, weight: NDArray[np.float64]) -> Link:
        """The link for these training rows."""

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

    def at(self, encoded: Any, weight: NDArray[np.float64]) -> Link:
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

    def at(self, encoded: Any, weight: NDArray[np.float64]) -> Link:
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
    """Numbers with a normal noise, whose variance may belong to the categories of fields.

    Attributes
    ----------
    loss : SquaredError
        Scale of the target.
    schema : FieldSchema
        Fields of the training rows.
    y_range : tuple of (float, float) or None
        Interval of all predictions.
    noise_fields : tuple of str, "auto" or None
        Fields whose categories have a noise of their own.
    noise_groups : dict of str to ndarray of int of shape (vocabulary_size,)
        For training rows: groups of the categories of these fields, each with a noise.
    noise_unseen : frozenset of str
        Of these fields, those whose first group had no training rows: all categories were frequent.
    """

    loss: Any
    schema: FieldSchema
    y_range: tuple[float, float] | None = None
    noise_fields: tuple[str, ...] | Literal["auto"] | None = None
    noise_groups: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    noise_unseen: frozenset[str] = frozenset()

    @property
    def is_linear(self) -> bool:
        """Whether nothing is cut off."""
        return self.y_range is None

    def likelihood(
        self, encoded: Any, target: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> Likelihood:
        """What to draw, for training rows."""
        y = self.loss.encode(target)
        groups = self._groups(encoded)
        if not groups:
            return Gaussian(y, Noise(weight))
        sizes = {name: int(of.max()) + 1 for name, of in self.noise_groups.items()}
        return Gaussian(y, Noise(weight, groups, sizes, floor=noise_floor(y)))

    def at(self, encoded: Any, weight: NDArray[np.float64]) -> Link:
        """The link whose categories of enough rows have a noise of their own."""
        schema, found, unseen = self.schema, {}, set()
        for name in self._noise_fields(encoded):
            f = schema.names.index(name)
            category = _categories(encoded, schema, f)
            groups = group_categories(category, weight, schema.vocabulary_sizes[f])
            if self.noise_fields != "auto" or groups.max() > 1:
                found[name] = groups
                if groups[category].all():
                    unseen.add(name)
        return replace(self, noise_groups=found, noise_unseen=frozenset(unseen))

    def targets(
        self,
        posterior: Posterior,
        encoded: Any,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> Targets:
        """Targets with each draw's noise."""
        given = np.broadcast_to(self.loss.encode(target), (posterior.n_draws, len(target)))
        return Targets(given, given, weight / self.noise_variance(encoded, posterior.values).T)

    def mean(self, raw: Raw) -> NDArray[np.float64]:
        """Expected target on the scale of the loss."""
        if self.y_range is not None:
            return clipped_means(raw, *self.loss.encode(np.array(self.y_range)))[:, None]
        return raw.mean.mean(axis=1) if raw.center is None else raw.center

    def deviation(self, encoded: Any, raw: Raw) -> NDArray[np.float64]:
        """Standard deviation of the target, its noise included."""
        variance = (self._deviations(encoded, raw) ** 2).mean(axis=1)
        variance += raw.stretched().mean[:, :, 0].var(axis=1)
        return self.loss.scale * np.sqrt(variance)

    def quantile(self, encoded: Any, raw: Raw, level: float) -> NDArray[np.float64]:
        """Quantile of the target: of a mixture of one normal distribution per draw."""
        mean = np.ascontiguousarray(raw.stretched().mean[:, :, 0])
        quantiles = normal_quantiles(mean, self._deviations(encoded, raw), level)
        return self.loss.predict(quantiles[:, None])

    def _deviations(self, encoded: Any, raw: Raw) -> NDArray[np.float64]:
        """Standard deviation of the target by each draw, (n_rows, n_draws), noise included."""
        return np.sqrt(raw.variance[:, :, 0] + self.noise_variance(encoded, raw.values))

    def noise_variance(
        self, encoded: Any, values: dict[str, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Variance of the noise of each row by each draw.

        Parameters
        ----------
        encoded : FieldArray of shape (n_rows, n_columns) or csr_array
            Encoded rows.
        values : dict of str to ndarray of shape (n_draws, ...)
            The likelihood's part of each draw.

        Returns
        -------
        ndarray of shape (n_rows, n_draws)
            In units of the loss.
        """
        groups, n_rows = self._groups(encoded), encoded.shape[0]
        return 1 / noise_precision(values, groups, n_rows, self.noise_unseen)

    def _groups(self, encoded: Any) -> dict[str, NDArray[np.intp]]:
        """Group of each row by field; categories that fit did not know are in the first."""
        found = {}
        for name, groups in self.noise_groups.items():
            category = _categories(encoded, self.schema, self.schema.names.index(name))
            found[name] = groups[np.where(category < len(groups), category, 0)].astype(np.intp)
        return found

    def _noise_fields(self, encoded: Any) -> list[str]:
        """Names of the fields asked for; by "auto" those of one category per row."""
        schema = self.schema
        names = list(schema.names) if isinstance(encoded, FieldArray) else []
        if self.noise_fields == "auto":
            kinds = zip(names, schema.kinds, schema.slots, strict=False)
            return [name for name, kind, slots in kinds if kind == "categorical" and slots == 1]
        for name in self.noise_fields or ():
            if name not in names:
                raise ValueError(f"noise_field={name!r} is no field of X, which has {names[:20]}.")
            f = names.index(name)
            if schema.slots[f] > 1 or schema.kinds[f] == "numeric":
                raise ValueError(
                    f"noise_field={name!r} must hold one category per row; it is a "
                    f"{schema.kinds[f]} field of {schema.slots[f]} slot(s)."
                )
        return list(self.noise_fields or ())


def _categories(encoded: Any, schema: FieldSchema, f: int) -> NDArray[np.intp]:
    """Category of each row in a field; 0 is the unknown one."""
    return np.asarray(encoded)[:, schema.first_columns[f]].astype(np.intp) + 1


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
