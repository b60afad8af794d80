"""Tables larger than memory: read in chunks, encoded into a folder.

How single columns are encoded is the encoder's business; how a model is trained on the folder,
that of ``training``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from sklearn_fm.folder import FieldFolder, FolderWriter

from .encoder import FieldEncoder
from .tables import as_table, is_polars

__all__ = ["encode_to_folder", "is_table_on_disk", "read_chunks"]

CHUNK_ROWS = 2**17


def encode_to_folder(
    source: Any,
    path: str | os.PathLike[str],
    *,
    encoder: FieldEncoder | None = None,
    target: str | None = None,
    sample_weight: str | None = None,
    chunk_rows: int = CHUNK_ROWS,
    grow: bool = False,
) -> FieldFolder:
    """Encode a table chunk by chunk into a folder that estimators can fit.

    An encoder that is not fitted is fitted first, in a pass of its own: vocabularies and
    counts are exact, quantiles are off by at most a share of 1/8192 per chunk. A source that
    can be read only once, such as a generator, is encoded while it is learned from: bins and
    scales are then those of the first chunk, and `min_frequency` counts rows so far.

    Parameters
    ----------
    source : path-like, pyarrow Dataset, table or iterable of tables
        A Parquet file, or a folder of them.
    path : path-like
        Folder to write into; encoded rows that it holds are replaced.
    encoder : FieldEncoder, default=None
        Fitted, or else fitted here in place; ``FieldEncoder()`` when omitted.
    target : str, default=None
        Name of the target's column, which is no field.
    sample_weight : str, default=None
        Name of the weights' column, likewise.
    chunk_rows : int, default=131072
        Rows of a path's or Dataset's chunk.
    grow : bool, default=False
        Whether categories that are new to a fitted encoder get codes, by its `partial_fit`.

    Returns
    -------
    FieldFolder
        With the encoder as its attribute.

    Raises
    ------
    ValueError
        If the source has no rows, lacks a column or cannot be encoded.
    FileNotFoundError
        If a path does not exist.
    """
    encoder = FieldEncoder() if encoder is None else encoder
    names = target, sample_weight
    fitted = hasattr(encoder, "schema_")
    once = not is_table_on_disk(source) and isinstance(source, Iterator)
    grow = grow or (once and not fitted)
    if not fitted and not once:
        learned = clone(encoder)
        for X, _, weight in _parts(source, names, chunk_rows):
            learned._learn_more(X, weight)
        if not hasattr(learned, "_steps"):
            raise ValueError(f"{source!r} has no rows; expected at least one.")
        learned._settle()
        vars(encoder).update(vars(learned))
    writer = FolderWriter(path)
    n_rows = 0
    for X, y, weight in _parts(source, names, chunk_rows):
        if grow:
            encoder.partial_fit(X, sample_weight=weight)
        codes = encoder.transform(X)
        writer.append(codes, y, weight)
        n_rows += len(codes)
    if not n_rows:
        raise ValueError(f"{source!r} has no rows; expected at least one.")
    folder = writer.close(encoder.schema_)
    folder.encoder = encoder
    return folder


def is_table_on_disk(source: Any) -> bool:
    """Whether a source is a path or a pyarrow Dataset.

    Parameters
    ----------
    source : object
        Anything.

    Returns
    -------
    bool
    """
    return isinstance(source, (str, os.PathLike)) or _is_dataset(source)


def read_chunks(
    source: Any, chunk_rows: int = CHUNK_ROWS, *, columns: Sequence[str] = ()
) -> Iterator[Any]:
    """Tables that make up a source.

    Parameters
    ----------
    source : path-like, pyarrow Dataset, table or iterable of tables
        As `encode_to_folder` takes it.
    chunk_rows : int, default=131072
        Rows of a path's or Dataset's chunk.
    columns : sequence of str, default=()
        The columns of a path or Dataset to read, as far as there are such; all when empty.

    Yields
    ------
    table
        DataFrame of pandas or polars.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    TypeError
        If the source is none of these.
    """
    if is_table_on_disk(source):
        yield from _read_dataset(source, chunk_rows, columns)
        return
    table = as_table(source)
    if isinstance(table, pd.DataFrame) or is_polars(table):
        yield table
    elif isinstance(source, Iterable) and not isinstance(source, np.ndarray):
        yield from map(as_table, source)
    else:
        raise TypeError(
            "Expected the path of a Parquet file or folder, a pyarrow Dataset, a table or an "
            f"iterable of tables, got {type(source).__name__}."
        )


def _read_dataset(source: Any, chunk_rows: int, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    import pyarrow.dataset as ds

    dataset = source
    if not _is_dataset(source):
        if not os.path.exists(source):
            raise FileNotFoundError(f"There is no file or folder {os.fspath(source)!r}.")
        dataset = ds.dataset(source, format="parquet")
    # Without reading ahead, no more than a chunk and what it is cut from are in memory.
    batches = dataset.to_batches(
        columns=[name for name in columns if name in dataset.schema.names] or None,
        batch_size=chunk_rows,
        batch_readahead=0,
        fragment_readahead=0,
        use_threads=False,
    )
    for batch in batches:
        if batch.num_rows:
            yield as_table(batch)


def _parts(
    source: Any, names: tuple[str | None, str | None], chunk_rows: int
) -> Iterator[tuple[Any, NDArray[Any] | None, NDArray[Any] | None]]:
    """Chunks as features, target and weights."""
    for table in read_chunks(source, chunk_rows):
        columns = list(table.columns)
        for name in names:
            if name is not None and name not in columns:
                raise ValueError(f"There is no column {name!r}; the table has {columns}.")
        # Copies: a view of a column would keep the whole chunk in memory.
        y, weight = (None if name is None else np.array(table[name]) for name in names)
        yield table[[c for c in columns if c not in names]], y, weight


def _is_dataset(source: Any) -> bool:
    return (
        type(source).__module__.startswith("pyarrow.")
        and hasattr(source, "to_batches")
        and (hasattr(source, "get_fragments"))
    )
