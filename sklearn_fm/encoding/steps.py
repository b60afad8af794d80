"""Learns and encodes the fields of a table side by side, in threads.

It neither chooses how a field is encoded (see ``plan``) nor knows how (see ``column_encoder``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from sklearn_fm.schema import FieldSchema
from sklearn_fm.user_line import keep_warnings, warn_user

from .bags import BagEncoder
from .categories import CategoryEncoder, HashEncoder
from .column_encoder import ColumnEncoder
from .columns import Columns

__all__ = ["Step", "items_of", "lay_out", "learn", "schema_of", "settle"]

_THREADED_ROWS = 10_000  # from which on a second thread pays
_FIELDS_AT_ONCE, _ROWS_AT_ONCE = 8, 4096


@dataclass
class Step:
    """One field.

    Attributes
    ----------
    encoder : ColumnEncoder
        What makes it.
    columns : tuple of int
        Positions of the columns that it is made of.
    column_names : tuple of str
        Their names.
    chosen_by : {"fields=", "categorical=", "numeric=", "name", "values", "cells"}
        What decided on the kind of field: a parameter; for whole numbers the column's name or
        the values; else what the cells are.
    note : str, default=""
        What may surprise about the choice.
    """

    encoder: ColumnEncoder
    columns: tuple[int, ...]
    column_names: tuple[str, ...]
    chosen_by: str
    note: str = ""

    @property
    def is_guessed_id(self) -> bool:
        """Whether whole numbers were taken for ids without being asked for."""
        is_category = isinstance(self.encoder, (CategoryEncoder, HashEncoder))
        return is_category and self.chosen_by in ("name", "values")

    def read(self, columns: Columns) -> Any:
        """The column, or a tuple of several."""
        values = tuple(columns.read(j) for j in self.columns)
        return values if len(values) > 1 else values[0]


def items_of(encoder: ColumnEncoder) -> ColumnEncoder:
    """The encoder of a bag's categories, else the encoder itself.

    Parameters
    ----------
    encoder : ColumnEncoder
        Of a field.

    Returns
    -------
    ColumnEncoder
    """
    return encoder.item_encoder if isinstance(encoder, BagEncoder) else encoder


def learn(
    steps: list[Step],
    columns: Columns,
    weight: NDArray[np.float64] | None,
    n_jobs: int | None,
) -> list[Any]:
    """Learn from the columns of all fields.

    Parameters
    ----------
    steps : list of Step
        The fields; their encoders change.
    columns : Columns
        The table, or a chunk of it.
    weight : ndarray of shape (n_rows,) or None
        Positive weights.
    n_jobs : int or None
        Threads, as joblib counts them.

    Returns
    -------
    list of object
        A draft for each field's encoder to `encode`.

    Raises
    ------
    ValueError, TypeError
        If an encoder cannot use a cell.
    """
    drafts: list[Any] = [None] * len(steps)

    def work(group: Sequence[int]) -> None:
        for k in group:
            drafts[k] = steps[k].encoder.learn(steps[k].read(columns), weight)

    # Fields of one vocabulary learn one after the other.
    groups: dict[str, list[int]] = {}
    for k, step in enumerate(steps):
        groups.setdefault(step.encoder.vocabulary_name, []).append(k)
    _run(work, list(groups.values()), n_jobs, columns.n_rows)
    return drafts


def settle(steps: list[Step], *, keep: bool) -> list[int]:
    """Make up codes from all that was learned.

    Parameters
    ----------
    steps : list of Step
        After `learn`; their encoders change.
    keep : bool
        Whether codes given before keep their meaning. If not, fields whose vocabulary became
        too large are hashed from now on.

    Returns
    -------
    list of int
        Positions of the fields that were not hashed before: their drafts are void.

    Raises
    ------
    AttributeError
        If a scaler cannot learn from a second chunk.
    """
    void = [] if keep else _hash_large(steps)
    for step in steps:
        step.encoder.settle(keep=keep)
    return void


def schema_of(steps: list[Step]) -> FieldSchema:
    """Return the schema of fields whose codes are made up.

    Parameters
    ----------
    steps : list of Step
        After `settle`.

    Returns
    -------
    FieldSchema
    """
    encoders = [step.encoder for step in steps]
    return FieldSchema(
        names=tuple(encoder.name for encoder in encoders),
        kinds=tuple(encoder.kind for encoder in encoders),
        vocabulary_sizes=tuple(encoder.vocabulary_size for encoder in encoders),
        slots=tuple(encoder.slots for encoder in encoders),
        poolings=tuple(encoder.pooling for encoder in encoders),
        vocabularies=tuple(encoder.vocabulary_name for encoder in encoders),
        linear=tuple(encoder.linear for encoder in encoders),
        ordered=tuple(encoder.ordered for encoder in encoders),
    )


def lay_out(
    schema: FieldSchema,
    n_rows: int,
    encode: Callable[[int], NDArray[Any]],
    n_jobs: int | None,
) -> NDArray[Any]:
    """Write the codes of all fields side by side.

    Parameters
    ----------
    schema : FieldSchema
        Of the fields.
    n_rows : int
        Number of rows.
    encode : callable
        ``encode(k)`` gives the codes of field k, of shape (n_rows,) or (n_rows, n_columns).
    n_jobs : int or None
        Threads, as joblib counts them.

    Returns
    -------
    ndarray of shape (n_rows, schema.n_columns)
        Of dtype int32, or float64 if a field is numeric or weighted.
    """
    first = schema.first_columns
    has_numbers = "numeric" in schema.kinds or "weighted" in schema.poolings
    shape = (n_rows, schema.n_columns)
    out = np.empty(shape, dtype=np.float64 if has_numbers else np.int32)

    def work(fields: range) -> None:
        codes = [encode(k) for k in fields]
        # Neighbours of a row lie in one cache line, so several columns are written at once.
        for start in range(0, n_rows, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            for k, column in zip(fields, codes, strict=True):
                part = column[rows]
                out[rows, first[k] : first[k + 1]] = part[:, None] if part.ndim == 1 else part

    n = schema.n_fields
    groups = [range(k, min(k + _FIELDS_AT_ONCE, n)) for k in range(0, n, _FIELDS_AT_ONCE)]
    _run(work, groups, n_jobs, n_rows)
    return out


# -- implementation --------------------------------------------------------------------------


def _hash_large(steps: list[Step]) -> list[int]:
    """Let fields whose vocabulary became too large be hashed instead; return which."""
    changed = []
    for k, step in enumerate(steps):
        items = items_of(step.encoder)
        if not isinstance(items, CategoryEncoder) or not items.is_too_large:
            continue
        hashed = HashEncoder(
            items.name,
            int(items.hash_buckets or 0),
            n_hashes=items.n_hashes,
            vocabulary_name=items.vocabulary_name,
        )
        hashed.n_rows, hashed.n_missing = items.n_rows, items.n_missing
        if isinstance(step.encoder, BagEncoder):
            step.encoder.item_encoder = hashed
        else:
            hashed.linear = items.linear
            step.encoder = hashed
        changed.append(k)
    return changed


def _run(
    work: Callable[[Any], None], tasks: Sequence[Any], n_jobs: int | None, n_rows: int
) -> None:
    """Do the tasks, in threads if they are worth it."""
    n_threads = 1 if n_rows < _THREADED_ROWS else min(effective_n_jobs(n_jobs), len(tasks))
    if n_threads == 1:
        for task in tasks:
            work(task)
        return
    kept: list[str] = []

    def work_silently(task: Any) -> None:
        with keep_warnings(kept):
            work(task)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work_silently, tasks))
    for message in kept:
        warn_user(message)
