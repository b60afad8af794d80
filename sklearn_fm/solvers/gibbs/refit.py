"""New draws for some categories of one field, with all other weights as they are in each draw.

So a user who has rated more films, or is new, is brought up to date without another fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.array import FieldArray
from .likelihoods import between
from .posterior import Posterior

__all__ = ["Targets", "redraw"]

_PASSES = 20  # over latent targets and the block, from where it was
_FARTHEST = 38.0
_NUMBERS = 2**23  # at a time


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
    posterior: Posterior, X: FieldArray, field: str, targets: Targets, rng: np.random.Generator
) -> Posterior:
    """Draw the blocks of a field's categories anew, given all of their rows.

    Parameters
    ----------
    posterior : Posterior
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
    Posterior
        The same but for these blocks; categories that were not drawn before now are.

    Raises
    ------
    ValueError
        If rows have an unknown category.
    """
    schema = X.require_schema()
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
    for index in np.unique(indices[:, slot]):
        rows = np.flatnonzero(indices[:, slot] == index)
        size = max(_NUMBERS // (len(rows) * indices.shape[1] * posterior.tables.shape[3]), 1)
        parts = [slice(a, a + size) for a in range(0, posterior.n_draws, size)]
        found[int(index)] = np.concatenate(
            [
                _draw_block(posterior.only(part), indices, values, rows, slot, targets, part, rng)
                for part in parts
            ]
        )
    return _with_blocks(posterior, found)


def _draw_block(
    posterior: Posterior,
    indices: Any,
    values: Any,
    rows: NDArray[np.intp],
    slot: int,
    targets: Targets,
    draws: slice,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Block of the index that some rows have at a slot, by each draw, (n_draws, D)."""
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
    shift = (precision @ mean[:, :, None])[:, :, 0]
    for _ in range(1 if targets.are_given else _PASSES):
        now = raw + (slope @ theta[:, :, None])[:, :, 0]
        target = targets.draw(draws, rows, now, rng)
        right = shift + (np.swapaxes(weighted, 1, 2) @ (target - raw)[:, :, None])[:, :, 0]
        half = np.linalg.solve(root, right[:, :, None])
        half += rng.standard_normal(half.shape)
        theta = np.linalg.solve(np.swapaxes(root, 1, 2), half)[:, :, 0]
    return theta


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
    shape = (*posterior.tables.shape[:2], len(new), posterior.tables.shape[3])
    blocks, priors = posterior.tables[:, :, :n_blocks], posterior.tables[:, :, n_blocks:]
    tables = np.concatenate([blocks, np.empty(shape, dtype=np.float32), priors], axis=2)
    positions[positions >= n_blocks] += len(new)
    positions[new] = n_blocks + np.arange(len(new))
    for index, theta in found.items():
        tables[:, 0, positions[index]] = theta
    return replace(posterior, tables=tables, positions=positions)
