"""New draws for some categories of one field, with all other weights as they are in each draw.

So a user who has rated more films, or is new, is brought up to date without another fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.array import FieldArray
from .averaging import Average
from .likelihoods import between
from .posterior import Posterior

__all__ = ["Targets", "redraw"]

_PASSES = 20  # over latent targets and the block, from where it was
_FARTHEST = 38.0
_NUMBERS = 2**23  # at a time
_RIDGE, _TINY = 1e-6, 1e-12


class Targets:
    """Targets of rows by each draw: numbers with noise, or intervals of latent ones.

    Parameters
    ----------
    low, high : ndarray of shape (n_draws, n_rows)
        Ends of the interval of each latent target; both the target itself if it is given.
    precision : ndarray of shape (n_draws, n_rows)
        Precision of each target.
    """

    def __init__(
        self,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        precision: NDArray[np.float64],
    ) -> None:
        self.low, self.high, self.precision = low, high, precision
        self.are_given = low is high

    def draw(
        self,
        draws: slice,
        rows: NDArray[np.intp],
        raw: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Targets given raw predictions, (n_draws, n_rows)."""
        if self.are_given:
            return self.low[draws][:, rows]
        unit = np.sqrt(self.precision[draws][:, rows])
        ends = [
            np.clip(unit * (end[draws][:, rows] - raw), -_FARTHEST, _FARTHEST)
            for end in (self.low, self.high)
        ]
        return raw + between(rng.random(raw.shape), *ends) / unit


def redraw(
    average: Average, X: FieldArray, field: str, targets: Targets, rng: np.random.Generator
) -> Average:
    """Draw the blocks of a field's categories anew, given all of their rows.

    Parameters
    ----------
    average : Average
        Draws of one raw prediction, under the schema of X.
    X : FieldArray of shape (n_rows, n_columns)
        All rows of the categories that occur in them.
    field : str
        Field of one category per row.
    targets : Targets
        Targets of the rows.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Average
        The same but for these blocks; categories that were not drawn before now are.

    Raises
    ------
    ValueError
        If rows have an unknown category.
    """
    schema, posterior = X.require_schema(), average.posterior
    f = schema.names.index(field)
    slot = schema.slot_fields.index(f)
    indices, values = X.indices_and_values()
    if np.any(indices[:, slot] == schema.offsets[f]):
        raise ValueError(
            f"Some rows have no category of field {field!r} that the encoder knows: it is missing, "
            "too rare for min_frequency, or new to a FieldEncoder outside of the estimator, whose "
            "partial_fit must come first. Leave such rows out."
        )
    found: dict[int, NDArray[np.float64]] = {}
    expected: dict[int, NDArray[np.float64]] = {}
    for index in np.unique(indices[:, slot]):
        rows = np.flatnonzero(indices[:, slot] == index)
        size = max(_NUMBERS // (len(rows) * indices.shape[1] * posterior.tables.shape[3]), 1)
        parts = [slice(a, a + size) for a in range(0, posterior.n_draws, size)]
        of_parts = [
            _draw_block(posterior.only(part), indices, values, rows, slot, targets, part, rng)
            for part in parts
        ]
        found[int(index)], expected[int(index)] = map(np.concatenate, zip(*of_parts, strict=True))
    return _average_with(average, X, slot, found, expected)


def _draw_block(
    posterior: Posterior,
    indices: Any,
    values: Any,
    rows: NDArray[np.intp],
    slot: int,
    targets: Targets,
    draws: slice,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Block of the index that some rows have at a slot, by each draw, and what was to be expected.

    Both are of shape (n_draws, D). With latent targets the expectation is over later passes.
    """
    schema, index = posterior.schema, indices[rows[0], slot]
    name = schema.vocabularies[schema.slot_fields[slot]]
    prior = posterior.prior_names.index(name)
    tables = posterior.tables[:, 0]
    mean = tables[:, posterior.n_blocks + prior].astype(np.float64)
    precision = np.linalg.inv(posterior.covariances[:, 0, prior].astype(np.float64))
    raw, slope = _without(posterior, schema, indices[rows], values[rows], slot)
    theta = tables[:, posterior.positions[index]].astype(np.float64)
    weighted = slope * targets.precision[draws][:, rows, None]
    root = np.linalg.cholesky(np.swapaxes(weighted, 1, 2) @ slope + precision)
    across = np.swapaxes(root, 1, 2)
    shift = (precision @ mean[:, :, None])[:, :, 0]
    n_passes = 1 if targets.are_given else _PASSES
    expected = np.zeros_like(theta)
    for i in range(n_passes):
        now = raw + (slope @ theta[:, :, None])[:, :, 0]
        target = targets.draw(draws, rows, now, rng)
        right = shift + (np.swapaxes(weighted, 1, 2) @ (target - raw)[:, :, None])[:, :, 0]
        half = np.linalg.solve(root, right[:, :, None])
        if i >= n_passes // 2:
            expected += np.linalg.solve(across, half)[:, :, 0] / (n_passes - n_passes // 2)
        half += rng.standard_normal(half.shape)
        theta = np.linalg.solve(across, half)[:, :, 0]
    return theta, expected


def _without(
    posterior: Posterior, schema: Any, indices: Any, values: Any, slot: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raw predictions without a slot, (n_draws, n_rows), and derivatives by its block."""
    x = np.array(values, dtype=np.float64)
    fields = np.array(schema.slot_fields)
    x_linear = x * np.array(schema.linear)[fields]
    own, own_linear = x[:, slot].copy(), x_linear[:, slot].copy()
    x[:, slot] = x_linear[:, slot] = 0
    blocks = posterior.tables[:, 0][:, posterior.positions[indices]].astype(np.float64)
    vectors = blocks[..., :-1] * x[:, :, None]  # (n_draws, n_rows, S, K)
    sums = vectors.sum(axis=2)
    raw = posterior.values["bias"][:, :1] + (blocks[..., -1] * x_linear).sum(axis=2)
    groups = np.arange(len(fields)) if posterior.pair_slots else fields
    inside = sum(
        (vectors[:, :, groups == g].sum(axis=2) ** 2).sum(axis=2) for g in np.unique(groups)
    )
    raw += ((sums**2).sum(axis=2) - inside) / 2
    linear = np.broadcast_to(own_linear[:, None], (*sums.shape[:2], 1))
    return raw, np.concatenate([own[:, None] * sums, linear], axis=2)


def _with_blocks(posterior: Posterior, found: dict[int, NDArray[np.float64]]) -> Posterior:
    """Draws with blocks replaced or added, (n_draws, D) by index."""
    n_blocks, positions = posterior.n_blocks, posterior.positions.copy()
    new = [index for index in found if positions[index] >= n_blocks]
    positions[positions >= n_blocks] += len(new)
    positions[new] = n_blocks + np.arange(len(new))
    tables = _with_room(posterior.tables.astype(np.float32), n_blocks, len(new), axis=2)
    for index, theta in found.items():
        tables[:, 0, positions[index]] = theta
    return replace(posterior, tables=tables, positions=positions)


def _with_room(array: NDArray[Any], n_blocks: int, n_new: int, axis: int) -> NDArray[Any]:
    """The array with zeros for new blocks before the priors."""
    zeros = np.zeros_like(array.take([0] * n_new, axis))
    return np.insert(array, [n_blocks] * n_new, zeros, axis=axis) if n_new else array.copy()


def _average_with(
    average: Average,
    X: FieldArray,
    slot: int,
    found: dict[int, NDArray[np.float64]],
    expected: dict[int, NDArray[np.float64]],
) -> Average:
    """Average with blocks replaced or added, (n_draws, D) by index.

    The mean machine gets vectors u whose products with those of all other fields are nearest to
    the mean products by the draws, and weights by which the raw predictions of the rows agree on
    average. Both are of the blocks to be expected, about which the drawn ones only spread.
    """
    before, mean = average.posterior, average.mean
    posterior = _with_blocks(before, found)
    n_new = posterior.n_blocks - before.n_blocks
    tables = _with_room(average.tables, before.n_blocks, n_new, axis=1)
    counts = _with_room(mean.counts, before.n_blocks, n_new, axis=0)
    deviations = _with_room(mean.deviations, before.n_blocks, n_new, axis=1)
    schema = posterior.schema
    own = schema.vocabularies[schema.slot_fields[slot]]
    is_own = np.repeat([name == own for name in schema.vocabularies], schema.vocabulary_sizes)
    others = np.delete(np.arange(tables.shape[1]), np.unique(posterior.positions[is_own]))
    narrow = tables[0, others, :-1].astype(np.float64)
    weighted = (narrow * counts[others, None]).T
    products = weighted @ posterior.tables[:, 0, others, :-1]  # (n_draws, width, K)
    gram = weighted @ narrow
    gram[np.diag_indices(len(gram))] += _RIDGE * np.trace(gram) + _TINY
    category = X.indices_and_values()[0][:, slot]
    for index, theta in expected.items():
        at = posterior.positions[index]
        right = (products @ theta[:, :-1, None]).mean(axis=0)[:, 0]
        tables[0, at, :-1] = np.linalg.solve(gram, right)
        tables[0, at, -1] = theta[:, -1].mean()
        counts[at] = np.count_nonzero(category == index)
        deviations[0, at] = found[index][:, -1].std()
    by_draws, machine = _with_blocks(before, expected), _as_draw(average, posterior, tables)
    for index in expected:
        rows = X[category == index]
        tables[0, posterior.positions[index], -1] += _mean_raw(by_draws, rows) - _mean_raw(
            machine, rows
        )
    mean = replace(mean, counts=counts, deviations=deviations)
    if before.tables.dtype == np.float16:
        posterior = posterior.halved()
    return Average(posterior, mean, tables, average.bias)


def _as_draw(average: Average, posterior: Posterior, tables: NDArray[np.float32]) -> Posterior:
    """The mean machine as if it were the only draw."""
    n_priors, D = len(posterior.prior_names), tables.shape[2]
    return replace(
        posterior,
        tables=tables[None],
        covariances=np.zeros((1, 1, n_priors, D, D), dtype=np.float32),
        values={"bias": average.bias[None]},
    )


def _mean_raw(posterior: Posterior, rows: FieldArray) -> float:
    """Mean raw prediction over rows and draws."""
    return float(np.concatenate([part.mean[:, :, 0] for part in posterior.raw(rows)]).mean())
