"""Where rows come from: memory, a folder of encoded rows, or a table on disk.

What comes in is checked and encoded by ``inputs``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from ..data.folder import FieldFolder
from ..encoding.streaming import encode_to_folder, is_table_on_disk, read_chunks

__all__ = ["Source", "in_chunks", "open_source", "read_target"]


class Source(NamedTuple):
    """Features, target and weights as they are to be checked."""

    X: Any
    y: Any
    sample_weight: Any


def in_chunks(X: Any, names: Sequence[str]) -> Iterator[Any]:
    """Tables that make up X; X itself unless it is on disk.

    Parameters
    ----------
    X : object
        What a user passes to predict.
    names : sequence of str
        Columns of interest; others of a table on disk, such as the target, are not read.

    Yields
    ------
    object
        What `check_X` takes.
    """
    if isinstance(X, FieldFolder):
        yield from X.chunks()
    elif is_table_on_disk(X):
        yield from read_chunks(X, columns=names)
    else:
        yield X


def read_target(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Target and weights of a table on disk or a folder as arrays; others as they are.

    Parameters
    ----------
    X : object
        What a user passes as features.
    y : array-like or str
        Target, or the name of its column.
    sample_weight : array-like, str or None
        Weights, or the name of their column.

    Returns
    -------
    y, sample_weight

    Raises
    ------
    ValueError
        If columns of another X are named.
    """
    if isinstance(X, FieldFolder):
        y = X.y if y is None else y
        sample_weight = X.sample_weight if sample_weight is None else sample_weight
    if not is_table_on_disk(X):
        _check_not_named(X, y, sample_weight)
        return y, sample_weight
    named = [name for name in (y, sample_weight) if isinstance(name, str)]
    parts = [[np.array(t[name]) for name in named] for t in read_chunks(X, columns=named)]
    columns = dict(zip(named, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    return tuple(columns[name] if isinstance(name, str) else name for name in (y, sample_weight))  # type: ignore[return-value]


def open_source(
    source: Source,
    scratch: ExitStack,
    *,
    name: str,
    encoder: Callable[[], Any],
    columns: Callable[[], list[str] | None],
    grow: bool = False,
) -> Source:
    """A folder with its target and weights in place of a table on disk.

    Parameters
    ----------
    source : Source
        What a user passes. For a table on disk, y and sample_weight name columns; for a folder they
        may be omitted.
    scratch : ExitStack
        With which everything that is written to disk vanishes.
    name : str
        Who asks, for messages.
    encoder : callable
        Gives what encodes a table on disk; None if the estimator was fitted on encoded rows.
    columns : callable
        Gives the columns of a table on disk to read; None for all but target and weights.
    grow : bool, default=False
        Whether the encoder learns categories that are new to it.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If columns on disk are not named, others are, or there is no encoder.
    """
    X, y, sample_weight = source
    if is_table_on_disk(X):
        if not isinstance(y, str) or not isinstance(sample_weight, (str, type(None))):
            raise ValueError(
                f"X={str(X)!r:.60} is taken for a table on disk, so y must be the name of the "
                "target's column, and sample_weight that of the weights' or None; got "
                f"y={str(y)!r:.60}."
            )
        encode_by = encoder()
        if encode_by is None:
            raise ValueError(
                f"{name} was fitted on encoded rows, so a table on disk cannot "
                "be encoded alike. Use encode_to_folder with the FieldEncoder of then."
            )
        folder = tempfile.TemporaryDirectory(prefix="sklearn_fm", ignore_cleanup_errors=True)
        X = encode_to_folder(
            X,
            scratch.enter_context(folder),
            encoder=encode_by,
            columns=columns(),
            target=y,
            sample_weight=sample_weight,
            grow=grow,
        )
        y = sample_weight = None
    else:
        _check_not_named(X, y, sample_weight)
    if isinstance(X, FieldFolder):
        y = X.y if y is None else y
        sample_weight = X.sample_weight if sample_weight is None else sample_weight
    return Source(X, y, sample_weight)


def _check_not_named(X: Any, y: Any, sample_weight: Any) -> None:
    """Raise where a table in memory comes with names, whose letters would be taken for rows."""
    for what, value in (("y", y), ("sample_weight", sample_weight)):
        if isinstance(value, str):
            raise ValueError(
                f"{what}={value!r} is a name, which works for tables on disk only, and X is a "
                f"{type(X).__name__}. Pass the column: {what}=df[{value!r}], and as X the table "
                f"without it, df.drop(columns=[{value!r}])."
            )
