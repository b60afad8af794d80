"""Draws from a posterior, and raw predictions by each of them.

Memory is bounded: by the draws kept while sampling, and by predicting rows in pieces. What
distributions raw predictions make is told in ``predictive``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data.array import FieldArray
from ...kernels import HAS_KERNELS
from ...schema import FieldSchema
from ..blocks.design import Design

__all__ = ["DRAWS_MEMORY", "Draw", "Entries", "Posterior", "Raw", "prior_of_index", "read_entries"]

DRAWS_MEMORY = 2**29  # bytes for the draws of a fit
_FEW = 64  # draws that may stand side by side
_HALF_ERROR = 2.0**-11  # of a number in float16, as a share of it
_PIECE_NUMBERS = 2**22  # raw predictions, or entries of rows, at a time


class Draw(NamedTuple):
    """What one state of a chain leaves for predictions.

    Attributes
    ----------
    tables : ndarray of float32 of shape (n_outputs, n_blocks + n_priors, D)
        Blocks [v | w], then the priors' means.
    covariances : ndarray of float32 of shape (n_outputs, n_priors, D, D)
        The priors' covariances.
    values : dict of ndarray
        Bias, noise precision, cut points.
    """

    tables: NDArray[np.float32]
    covariances: NDArray[np.float32]
    values: dict[str, NDArray[np.float64]]

    @property
    def nbytes(self) -> int:
        """Memory."""
        values = sum(value.nbytes for value in self.values.values())
        return self.tables.nbytes + self.covariances.nbytes + values


class Raw(NamedTuple):
    """Raw predictions of some rows by every draw.

    Attributes
    ----------
    rows : slice
        Which rows.
    mean, variance : ndarray of shape (n_rows, n_draws, n_outputs)
        Moments given the draw: a variance is that of weights which no training row touched.
    values : dict of ndarray of shape (n_draws, ...)
        What the draws have besides weights, as in the posterior.
    center : ndarray of shape (n_rows, n_outputs) or None
        What the means are around, if that is known better than by these draws.
    """

    rows: slice
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]] = {}
    center: NDArray[np.float64] | None = None

    def around(self, center: NDArray[np.floating]) -> Raw:
        """The same spread around means that are known better than by these draws.

        Parameters
        ----------
        center : ndarray of shape (n_rows, n_outputs)
            Means over very many draws, of which these are some.

        Returns
        -------
        Raw
            Means over its draws are the center.
        """
        deviation = self.mean - self.mean.mean(axis=1, keepdims=True)
        exact = np.asarray(center, dtype=np.float64)
        return self._replace(mean=deviation + exact[:, None], center=exact)

    def stretched(self) -> Raw:
        """As wide as all draws are on average, of which few spread less: eight by an eighth.

        Right for variances. Probabilities are better without: those by few draws are off by chance,
        and the more so the wider draws spread.

        Returns
        -------
        Raw
            Itself if its draws are all.
        """
        n = self.mean.shape[1]
        if self.center is None or n == 1:
            return self
        center = self.center[:, None]
        return self._replace(mean=center + math.sqrt(n / (n - 1)) * (self.mean - center))


class Entries(NamedTuple):
    """Entries of some rows, as `kernels.draws.read_draws` takes them.

    Attributes
    ----------
    starts : ndarray of int64 of shape (n_rows + 1,)
        First entry of each row.
    positions : ndarray of int32 of shape (n_entries,)
        Row of a draw's tables of each entry.
    values, linear_values : ndarray of float64 of shape (n_entries,)
        Multipliers of vectors and of weights.
    fields : ndarray of int32 of shape (n_entries,)
        What does not interact within itself: a field, or a slot.
    """

    starts: NDArray[np.int64]
    positions: NDArray[np.int32]
    values: NDArray[np.float64]
    linear_values: NDArray[np.float64]
    fields: NDArray[np.int32]


@dataclass(frozen=True)
class Posterior:
    """Draws of weights, with the map from the table's indices to them.

    Attributes
    ----------
    tables : ndarray of shape (n_draws, n_outputs, n_blocks + n_priors, D)
        Blocks [v | w] of the indices that occurred in training, then the priors' means; of float32,
        or of float16 (`halved`).
    covariances : ndarray of float32 of shape (n_draws, n_outputs, n_priors, D, D)
        The priors' covariances.
    values : dict of ndarray of shape (n_draws, ...)
        ``"bias"``, and what the likelihood has besides.
    positions : ndarray of int32 of shape (table_size,)
        Row of the tables of each index; a prior's mean for an index that did not occur.
    prior_names : tuple of str
        Vocabulary that each prior belongs to.
    schema : FieldSchema
        Fields.
    pair_slots : bool
        Whether the slots of a field interact with each other.
    """

    tables: NDArray[np.floating]
    covariances: NDArray[np.float32]
    values: dict[str, NDArray[np.float64]]
    positions: NDArray[np.int32]
    prior_names: tuple[str, ...]
    schema: FieldSchema
    pair_slots: bool

    @classmethod
    def of_draws(
        cls, draws: list[Draw], design: Design, schema: FieldSchema, *, pair_slots: bool
    ) -> Posterior:
        """Collect the draws of a chain.

        Parameters
        ----------
        draws : list of Draw
            At least one.
        design : Design
            Of the chain's tables of blocks.
        schema : FieldSchema
            Fields of the rows that the design was made of.
        pair_slots : bool
            Whether the slots of a field interact.

        Returns
        -------
        Posterior
        """
        positions = prior_of_index(schema, design.prior_names) + design.n_blocks
        positions[design.indices] = np.arange(design.n_blocks)
        return cls(
            tables=np.stack([draw.tables for draw in draws]),
            covariances=np.stack([draw.covariances for draw in draws]),
            values={k: np.stack([draw.values[k] for draw in draws]) for k in draws[0].values},
            positions=positions.astype(np.int32),
            prior_names=design.prior_names,
            schema=schema,
            pair_slots=pair_slots,
        )

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(self.tables)

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors."""
        return self.tables.shape[3] - 1

    @property
    def n_blocks(self) -> int:
        """Number of indices that were drawn."""
        return self.tables.shape[2] - len(self.prior_names)

    @property
    def indices(self) -> NDArray[np.intp]:
        """Indices that were drawn, (n_blocks,), in the tables' order."""
        drawn = np.flatnonzero(self.positions < self.n_blocks)
        return drawn[np.argsort(self.positions[drawn])]

    def grown(self, schema: FieldSchema) -> Posterior:
        """The same draws under a schema whose vocabularies have grown; new indices were not drawn.

        Parameters
        ----------
        schema : FieldSchema
            The larger one.

        Returns
        -------
        Posterior
        """
        if schema == self.schema:
            return self
        kept = schema.rows_kept(self.schema)
        assert kept is not None
        positions = (prior_of_index(schema, self.prior_names) + self.n_blocks).astype(np.int32)
        for before, now, n_rows in kept:
            positions[now : now + n_rows] = self.positions[before : before + n_rows]
        return replace(self, schema=schema, positions=positions)

    def draws(self) -> list[Draw]:
        """The draws one by one.

        Returns
        -------
        list of Draw
        """
        return [
            Draw(table, covariance, {name: value[d] for name, value in self.values.items()})
            for d, (table, covariance) in enumerate(zip(self.tables, self.covariances, strict=True))
        ]

    def only(self, draws: slice | NDArray[np.intp]) -> Posterior:
        """Return some of the draws.

        Parameters
        ----------
        draws : slice or ndarray of int
            Which.

        Returns
        -------
        Posterior
        """
        return replace(
            self,
            tables=self.tables[draws],
            covariances=self.covariances[draws],
            values={name: value[draws] for name, value in self.values.items()},
        )

    def halved(self) -> Posterior:
        """The same draws in half the memory, unless there are blocks that float16 cannot tell.

        Its numbers have eleven bits, a hundredth of what draws differ by, but end at 65,504, and
        below .00006 have fewer bits: blocks of very large or very small multipliers need more.

        Returns
        -------
        Posterior
        """
        with np.errstate(over="ignore", invalid="ignore"):
            half = self.tables.astype(np.float16)
            apart = np.abs(half - self.tables).max(axis=-1)
        exact = (apart <= _HALF_ERROR * np.abs(self.tables).max(axis=-1)).all()
        return replace(self, tables=half) if exact else self

    def extended(self, more: Posterior) -> Posterior:
        """These draws and more of the same chain; every other if memory demands it.

        Parameters
        ----------
        more : Posterior
            Draws at the same rows.

        Returns
        -------
        Posterior
        """
        step = 1 if self.tables.nbytes + more.tables.nbytes <= DRAWS_MEMORY else 2
        values = {k: np.concatenate([v, more.values[k]])[::step] for k, v in self.values.items()}
        return replace(
            self,
            tables=np.concatenate([self.tables, more.tables])[::step],
            covariances=np.concatenate([self.covariances, more.covariances])[::step],
            values=values,
        )

    def raw(self, encoded: Any, n_threads: int = 1) -> Iterator[Raw]:
        """Raw predictions of encoded rows, piece by piece.

        Parameters
        ----------
        encoded : FieldArray of shape (n_rows, n_columns) or csr_array of (n_rows, table_size)
            Encoded rows.
        n_threads : int, default=1
            Threads.

        Yields
        ------
        Raw
        """
        n_draws, n_outputs = self.tables.shape[:2]
        n_rows = encoded.shape[0]
        entries = n_rows * self.schema.n_slots if isinstance(encoded, FieldArray) else encoded.nnz
        per_row = max(n_draws * n_outputs, entries // max(n_rows, 1))
        size = max(_PIECE_NUMBERS // per_row, 1)
        workers = _workers(n_threads, n_rows * n_draws)
        for first in range(0, n_rows, size):
            rows = slice(first, min(first + size, n_rows))
            some = self.entries(encoded if size >= n_rows else encoded[rows])
            shape = (n_outputs, rows.stop - rows.start, n_draws)
            mean, variance = np.empty(shape), np.empty(shape)
            for c in range(n_outputs):
                threads, biases = (workers, n_threads), self.values["bias"][:, c]
                if HAS_KERNELS and n_draws <= _FEW:
                    sides = self._side_by_side[c]
                    _read_few(some, self.n_blocks, *sides, biases, mean[c], variance[c], *threads)
                else:
                    tables = self.tables[:, c].astype(np.float32, copy=False)
                    args = tables, self.covariances[:, c], biases
                    read_entries(some, self.n_blocks, *args, mean[c], variance[c], *threads)
            yield Raw(rows, np.moveaxis(mean, 0, 2), np.moveaxis(variance, 0, 2), self.values)

    @cached_property
    def _side_by_side(self) -> list[tuple[Any, Any, Any]]:
        """What the kernel for few draws wants of each output."""
        found = []
        for tables, covariances in zip(
            np.moveaxis(self.tables, 1, 0), np.moveaxis(self.covariances, 1, 0), strict=True
        ):
            n_rows = tables.shape[1]
            vectors = tables[:, :, :-1].transpose(1, 0, 2).reshape(n_rows, -1)
            blocks = np.concatenate([vectors, tables[:, :, -1].T], axis=1, dtype=np.float32)
            of_vectors = covariances[:, :, :-1, :-1].astype(np.float64)
            traces = np.einsum("dgac,dhac->dgh", of_vectors, of_vectors)
            found.append((blocks, np.ascontiguousarray(covariances), traces))
        return found

    @cached_property
    def _slots(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Field of each slot, or what else does not interact within itself; linear or not."""
        slot_fields = np.array(self.schema.slot_fields, dtype=np.int32)
        groups = np.arange(len(slot_fields), dtype=np.int32) if self.pair_slots else slot_fields
        return groups, np.array(self.schema.linear)[slot_fields]

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # not what is cached

    def entries(self, encoded: Any) -> Entries:
        """Where the entries of encoded rows find their blocks.

        Parameters
        ----------
        encoded : FieldArray of shape (n_rows, n_columns) or csr_array of (n_rows, table_size)
            Encoded rows.

        Returns
        -------
        Entries
        """
        n_rows = encoded.shape[0]
        if not isinstance(encoded, FieldArray):
            values = np.asarray(encoded.data, dtype=np.float64)
            return Entries(
                encoded.indptr.astype(np.int64),
                self.positions[encoded.indices],
                values,
                values,
                np.arange(len(values), dtype=np.int32),
            )
        indices, multipliers = encoded.indices_and_values()
        values = np.array(multipliers, dtype=np.float64)
        groups, has_linear = self._slots
        linear = values if has_linear.all() else values * has_linear
        return Entries(
            np.arange(n_rows + 1, dtype=np.int64) * indices.shape[1],
            self.positions[indices].ravel(),
            values.ravel(),
            linear.ravel(),
            np.tile(groups, n_rows),
        )


def prior_of_index(schema: FieldSchema, prior_names: tuple[str, ...]) -> NDArray[np.int64]:
    """Number of the prior of each index, (table_size,).

    Parameters
    ----------
    schema : FieldSchema
        Fields.
    prior_names : tuple of str
        Vocabularies that have priors of their own; a single ``"all"`` for one prior.

    Returns
    -------
    ndarray of int64 of shape (table_size,)
    """
    if prior_names == ("all",) and schema.vocabularies != ("all",):
        return np.zeros(schema.table_size, dtype=np.int64)
    sizes = dict(zip(schema.vocabularies, schema.vocabulary_sizes, strict=True))
    return np.repeat(np.arange(len(prior_names)), [sizes[name] for name in prior_names])


def _workers(n_threads: int, work: int) -> Any:
    """Threads for so many raw predictions, if they are worth them."""
    if not HAS_KERNELS or n_threads == 1 or work < 2**17:
        return None
    from ...kernels.threads import Workers

    return Workers(n_threads)


def _read_few(
    entries: Entries,
    n_blocks: int,
    blocks: NDArray[np.float32],
    covariances: NDArray[np.float32],
    traces: NDArray[np.float64],
    biases: NDArray[np.float64],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    workers: Any,
    n_threads: int,
) -> None:
    """As `read_entries`, of draws that stand side by side."""
    from ...kernels.blocks.few_draws import read_few_draws

    tables = n_blocks, blocks, covariances, traces, np.ascontiguousarray(biases)

    def read(first: int, last: int) -> None:
        read_few_draws(*entries, *tables, first, last, mean, variance)

    _in_parts(read, len(mean), workers, n_threads)


def read_entries(
    entries: Entries,
    n_blocks: int,
    tables: NDArray[np.float32],
    covariances: NDArray[np.float32],
    biases: NDArray[np.float64],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    workers: Any = None,
    n_threads: int = 1,
) -> None:
    """Write means and variances of raw predictions of one output.

    Parameters
    ----------
    entries : Entries
        Of the rows.
    n_blocks : int
        Rows of the tables that were drawn.
    tables : ndarray of float32 of shape (n_draws, n_blocks + n_priors, D)
        Blocks and the priors' means.
    covariances : ndarray of float32 of shape (n_draws, n_priors, D, D)
        The priors' covariances.
    biases : ndarray of shape (n_draws,)
        Biases.
    mean, variance : ndarray of shape (n_rows, n_draws)
        Receive both.
    workers : Workers, default=None
        Threads to share the rows out to.
    n_threads : int, default=1
        How many, if there are any.
    """
    if not HAS_KERNELS:
        _read_slowly(entries, n_blocks, tables, covariances, biases, mean, variance)
        return
    from ...kernels.blocks.draws import read_draws

    def read(first: int, last: int) -> None:
        read_draws(*entries, n_blocks, tables, covariances, biases, first, last, mean, variance)

    _in_parts(read, len(mean), workers, n_threads)


def _in_parts(read: Callable[[int, int], None], n_rows: int, workers: Any, n_threads: int) -> None:
    """Call for all rows, or for a part of them in each thread."""
    from ...kernels.threads import make_sync, run_parts

    n_parts = n_threads if workers is not None else 1
    cuts = [n_rows * part // n_parts for part in range(n_parts + 1)]
    run_parts(workers, n_parts, lambda part: read(cuts[part], cuts[part + 1]), make_sync())


def _read_slowly(
    entries: Entries,
    n_blocks: int,
    tables: NDArray[np.float32],
    covariances: NDArray[np.float32],
    biases: NDArray[np.float64],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    """The same without compiled kernels, row by row and for all draws at once."""
    x, x_linear = entries.values, entries.linear_values
    for row in range(len(mean)):
        own = slice(entries.starts[row], entries.starts[row + 1])
        where, fields = entries.positions[own], entries.fields[own]
        blocks = tables[:, where].astype(np.float64)  # (n_draws, S, D)
        vectors = blocks[:, :, :-1] * x[own, None]
        pooled = np.stack([vectors[:, fields == f].sum(axis=1) for f in fields], axis=1)
        total = vectors.sum(axis=1)
        inside = np.einsum("dsk,dsk->d", vectors, pooled)
        mean[row] = biases + blocks[:, :, -1] @ x_linear[own]
        mean[row] += ((total**2).sum(axis=1) - inside) / 2
        variance[row] = 0
        unknown = np.flatnonzero((where >= n_blocks) & (x[own] != 0))
        for i in unknown:
            others = x[own][i] * (total - pooled[:, i])
            slope = np.column_stack([others, np.full(len(others), x_linear[own][i])])
            of_i = covariances[:, where[i] - n_blocks].astype(np.float64)
            variance[row] += np.einsum("da,dac,dc->d", slope, of_i, slope)
            for j in unknown[(unknown > i) & (fields[unknown] != fields[i])]:
                of_j = covariances[:, where[j] - n_blocks].astype(np.float64)
                trace = (of_i[:, :-1, :-1] * of_j[:, :-1, :-1]).sum(axis=(1, 2))
                variance[row] += (x[own][i] * x[own][j]) ** 2 * trace
