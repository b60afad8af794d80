"""Draws on their way to what is left of them: one machine for their mean, a few for their spread.

How vectors become few is told in ``narrow``, what is predicted by the few draws in ``links``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..blocks.design import Design
from .narrow import Narrow
from .posterior import Draw, Entries, Posterior, read_entries

__all__ = ["WIDTHS", "Average", "Averaging", "Mean"]

#: Widths that a mean machine may have; each has kernels of its own, so they are few.
WIDTHS = (16, 32, 48, 64, 96, 128)
_MOST_ERROR = 0.02  # of raw predictions, in standard deviations of the noise
_SOME_ROWS = 4096  # by which errors are known
_FEW_DRAWS = (8, 16, 32)
_MOST_DOUBT = 0.005  # square of the spread's share of the variance, per draw
_COLUMNS = 16  # at a time


@dataclass(frozen=True)
class Mean:
    """What is known of the mean machine, besides its weights.

    Attributes
    ----------
    n_draws : int
        Draws that it averages.
    width : int
        Width of its vectors.
    error : float
        Root mean square of its raw predictions' differences from the average over all draws, for
        up to 4,096 training rows, in standard deviations of the noise: 1 for classes and levels;
        where categories have a noise of their own, that of the overall precision, by which the
        least noisy count most. The width is the least of `WIDTHS` whose error is at most .02, or
        the largest.
    priors : ndarray of float32 of shape (n_outputs, n_priors, width + 1)
        Blocks [v | w] of what was not seen in training.
    deviations : ndarray of float32 of shape (n_outputs, n_blocks + n_priors)
        Standard deviations over draws of the linear term's weights.
    counts : ndarray of float32 of shape (n_blocks + n_priors,)
        How much a row of the tables counted where width was to be saved.
    raw : ndarray of shape (2, n_rows, n_outputs)
        Mean and variance over draws of the raw predictions of these training rows.
    """

    n_draws: int
    width: int
    error: float
    priors: NDArray[np.float32]
    deviations: NDArray[np.float32]
    counts: NDArray[np.float32]
    raw: NDArray[np.float64]


class Average(NamedTuple):
    """Draws as they are kept.

    Attributes
    ----------
    posterior : Posterior
        All draws, or some that tell the spread.
    mean : Mean
        Of all draws.
    tables : ndarray of float32 of shape (n_outputs, n_blocks + n_priors, width + 1)
        Blocks [v | w] of the mean machine, then those of what was not seen.
    bias : ndarray of shape (n_outputs,)
        Its biases.
    """

    posterior: Posterior
    mean: Mean
    tables: NDArray[np.float32]
    bias: NDArray[np.float64]


class Averaging:
    """Takes draws one by one; its memory does not grow with their number unless all are kept.

    Parameters
    ----------
    design : Design
        Of the chain's tables of blocks.
    rows : FieldArray or csr_array
        Training rows.
    collect : callable
        Makes a Posterior of a list of draws.
    keep_draws : bool
        Whether to keep all draws, and not some only.
    before : Average, default=None
        Of draws of the same chain before, to go on from.
    """

    def __init__(
        self,
        design: Design,
        rows: Any,
        collect: Callable[[list[Draw]], Posterior],
        *,
        keep_draws: bool,
        before: Average | None = None,
    ) -> None:
        self._collect, self._keep_draws, self._before = collect, keep_draws, before
        n_rows = rows.shape[0]
        some = np.linspace(0, n_rows - 1, min(n_rows, _SOME_ROWS)).astype(np.intp)
        self._rows, self._entries = rows[some], cast(Entries, None)  # by the first draw
        self._counts = _how_often(design)
        self._narrow: list[Narrow] = []
        self._bias, self._linear, self._raw = _Moments(), _Moments(), _Moments()
        self._kept: list[Draw] = []
        self._step = 1  # every so many draws are kept
        if before is not None:
            mean, n = before.mean, before.mean.n_draws
            vectors, linear = before.tables[:, :, :-1], before.tables[:, :, -1]
            self._narrow = [Narrow(self._counts, math.sqrt(n) * v) for v in vectors]
            self._bias = _Moments(n, before.bias)
            self._linear = _Moments(n, linear, mean.deviations.astype(np.float64) ** 2)
            self._raw = _Moments(n, *mean.raw)
            if not keep_draws:
                self._kept = before.posterior.draws()
                self._step = -(-n // len(self._kept))

    def add(self, draw: Draw) -> None:
        """Add a draw.

        Parameters
        ----------
        draw : Draw
            Of the chain.
        """
        if self._entries is None:
            self._entries = self._collect([draw]).entries(self._rows)
        if not self._narrow:
            self._narrow = [Narrow(self._counts) for _ in draw.tables]
        for narrow, table in zip(self._narrow, draw.tables, strict=True):
            narrow.add(table[:, :-1])
        self._bias.add(draw.values["bias"])
        self._linear.add(draw.tables[:, :, -1])
        self._raw.add(self._read(draw))
        if self._keep_draws or (self._bias.n - 1) % self._step == 0:
            self._kept.append(draw)
        if not self._keep_draws and len(self._kept) > 2 * _FEW_DRAWS[-1]:
            self._kept, self._step = self._kept[::2], 2 * self._step

    def finish(self) -> Average:
        """What is left of all draws.

        Returns
        -------
        Average
        """
        posterior = self._collect(self._kept)
        if self._keep_draws and self._before is not None:
            posterior = self._before.posterior.extended(posterior)
        noise = 1.0
        if "noise_precision" in posterior.values:
            noise = math.sqrt(np.mean(1 / posterior.values["noise_precision"]))
        vectors, gap, error = self._choose_width(noise)
        linear, raw = self._linear, self._raw
        tables = np.concatenate([vectors, linear.mean[:, :, None].astype(np.float32)], axis=2)
        n_priors = len(posterior.prior_names)
        mean = Mean(
            n_draws=self._bias.n,
            width=vectors.shape[2],
            error=error / noise,
            priors=tables[:, -n_priors:].copy(),
            deviations=np.sqrt(linear.variance).astype(np.float32),
            counts=self._counts,
            raw=np.stack([raw.mean, raw.variance]),
        )
        if not self._keep_draws:
            share = raw.variance.mean() / (raw.variance.mean() + noise**2)
            wanted = [n for n in _FEW_DRAWS if share**2 / n <= _MOST_DOUBT]
            n_kept = min(wanted[0] if wanted else _FEW_DRAWS[-1], posterior.n_draws)
            some = np.linspace(0, posterior.n_draws - 1, n_kept).astype(int)
            posterior = posterior.only(some).halved()
        return Average(posterior, mean, tables, self._bias.mean + gap)

    def _read(self, draw: Draw) -> NDArray[np.float64]:
        """Raw predictions of some training rows by a draw, (n_rows, n_outputs)."""
        raw = np.empty((len(draw.tables), 2, self._rows.shape[0], 1))
        for c, table in enumerate(draw.tables):
            covariances, bias = draw.covariances[c][None], draw.values["bias"][c : c + 1]
            n_blocks = len(table) - covariances.shape[1]
            read_entries(self._entries, n_blocks, table[None], covariances, bias, *raw[c])
        return raw[:, 0, :, 0].T

    def _choose_width(self, noise: float) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
        """Vectors of the mean machine, (n_outputs, n_rows, width), what they lack, and their error.

        What is cut off is positive on average, if little: the biases make up for it.
        """
        n_draws, n_outputs = self._bias.n, len(self._narrow)
        shape = (n_outputs, len(self._counts), WIDTHS[-1])
        vectors = np.zeros(shape, dtype=np.float32)
        gaps, square = np.zeros((len(WIDTHS), n_outputs)), np.zeros(len(WIDTHS))
        for c, narrow in enumerate(self._narrow):
            columns = narrow.columns()[:, : WIDTHS[-1]] / np.float32(math.sqrt(n_draws))
            vectors[c, :, : columns.shape[1]] = columns
            rest = self._raw.mean[:, c] - self._bias.mean[c]
            rest -= _linear_term(self._entries, self._linear.mean[c])
            pairs = np.cumsum(_pairwise_terms(self._entries, vectors[c]), axis=1)
            apart = rest[:, None] - pairs[:, np.array(WIDTHS) - 1]
            gaps[:, c] = apart.mean(axis=0)
            square += apart.var(axis=0)
        errors = np.sqrt(square / n_outputs)
        enough = np.append(np.flatnonzero(errors <= _MOST_ERROR * noise), len(WIDTHS) - 1)[0]
        return vectors[:, :, : WIDTHS[enough]], gaps[enough], float(errors[enough])


class _Moments:
    """Mean and variance of arrays that come one by one."""

    def __init__(self, n: int = 0, mean: Any = 0.0, variance: Any = 0.0) -> None:
        self.n, self.mean, self._sum = n, np.asarray(mean, dtype=np.float64), n * variance

    def add(self, x: NDArray[np.floating]) -> None:
        self.n += 1
        apart = x - self.mean
        self.mean = self.mean + apart / self.n
        self._sum = self._sum + apart * (x - self.mean)

    @property
    def variance(self) -> NDArray[np.float64]:
        return np.asarray(self._sum) / self.n


def _how_often(design: Design) -> NDArray[np.float32]:
    """How much rows of a draw's tables count: the sum of squared multipliers in training.

    What is unseen occurs in new rows about as often as what was seen once does in these.
    """
    squares = np.append(np.cumsum(design.entry_values**2), 0.0)
    seen = np.diff(np.append(0.0, squares[design.starts[1:] - 1]))
    once = (np.diff(design.starts) == 1).astype(np.float64)
    unseen = np.bincount(design.prior_of, once, minlength=len(design.prior_names))
    return (np.concatenate([seen, unseen]) + 0.5).astype(np.float32)


def _linear_term(entries: Entries, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear terms of rows."""
    n_rows = len(entries.starts) - 1
    row = np.repeat(np.arange(n_rows), np.diff(entries.starts))
    terms = entries.linear_values * weights[entries.positions]
    return np.bincount(row, terms, minlength=n_rows).astype(np.float64)


def _pairwise_terms(entries: Entries, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of each coordinate in the pairwise term of each row, (n_rows, width)."""
    n_rows, n_entries = len(entries.starts) - 1, len(entries.values)
    row = np.repeat(np.arange(n_rows), np.diff(entries.starts))
    is_new = np.ones(n_entries, dtype=bool)
    is_new[1:] = (np.diff(row) > 0) | (np.diff(entries.fields) != 0)
    first = np.flatnonzero(is_new)
    embeddings_of = sparse.csr_array(
        (entries.values, entries.positions, np.append(first, n_entries)),
        shape=(len(first), len(vectors)),
    )
    ends = np.searchsorted(row[first], np.arange(n_rows + 1))
    rows_of = sparse.csr_array(
        (np.ones(len(first)), np.arange(len(first)), ends), shape=(n_rows, len(first))
    )
    terms = np.empty((n_rows, vectors.shape[1]))
    for k in range(0, vectors.shape[1], _COLUMNS):
        embeddings = embeddings_of @ vectors[:, k : k + _COLUMNS].astype(np.float64)
        square = (rows_of @ embeddings) ** 2
        terms[:, k : k + _COLUMNS] = (square - rows_of @ embeddings**2) / 2
    return terms
