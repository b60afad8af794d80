"""Tables larger than memory: read in chunks, encoded into a folder.

How single columns are encoded is the encoder's business; how a model is trained on the folder,
that of ``training``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_fm.data.folder import FieldFolder, FolderWriter

from .encoder import FieldEncoder
from .tables import as_table, is_polars

__all__ = ["encode_to_folder", "is_table_on_disk", "read_chunks"]

CHUNK_ROWS = 2**17

#: By the kind of Python objects in a column.
_TARGET_TYPES: dict[str, type] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "floating": float,
    "decimal": float,
    "mixed-integer-float": float,
}

_Part: TypeAlias = tuple[Any, NDArray[Any] | None, NDArray[np.float64] | None]


def encode_to_folder(
    source: Any,
    path: str | os.PathLike[str],
    *,
    encoder: FieldEncoder | None = None,
    columns: Sequence[str] | None = None,
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
        A Parquet file, or a folder of them; ``day=7/`` in a path is a column of its rows.
    path : path-like
        Folder to write into, apart from the source; encoded rows that it holds are replaced.
    encoder : FieldEncoder, default=None
        Fitted, or else fitted here in place; ``FieldEncoder()`` when omitted.
    columns : sequence of str, default=None
        Names of the columns to encode; those that the encoder was fitted on, or all, when omitted.
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
        If the source has no rows, lacks a column or cannot be encoded, or if it and the folder
        lie within each other.
    FileNotFoundError
        If a path does not exist.
    OSError
        If the disk is full.
    """
    if is_table_on_disk(source):
        _check_apart(source, Path(path))
    encoder = FieldEncoder() if encoder is None else encoder
    fitted = hasattr(encoder, "schema_")
    once = not is_table_on_disk(source) and isinstance(source, Iterator)
    grow = grow or (once and not fitted)
    if columns is None and fitted:
        columns = list(getattr(encoder, "feature_names_in_", ())) or None

    def parts() -> Iterator[_Part]:
        return _parts(source, columns, target, sample_weight, chunk_rows)

    if not fitted and not once:
        encoder._fit_chunks((X, w) for X, _, w in parts() if w is None or w.any())
        if not hasattr(encoder, "schema_"):
            raise ValueError(f"{source!r:.200} has no rows of positive weight; expected some.")
    with FolderWriter(path) as writer:
        for X, y, weight in parts():
            if grow and (weight is None or weight.any() or not hasattr(encoder, "schema_")):
                encoder.partial_fit(X, sample_weight=weight)
            writer.append(encoder._encode(X), y, weight)
        if not writer.n_rows:
            raise ValueError(f"{source!r:.200} has no rows; expected at least one.")
        folder = writer.finish(encoder.schema_)
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
    ValueError
        If it holds another format than Parquet.
    TypeError
        If the source is none of these.
    """
    if is_table_on_disk(source):
        yield from _read_dataset(source, chunk_rows, columns)
        return
    table = as_table(source)
    if _is_frame(table):
        yield table
        return
    if isinstance(source, Iterable) and not isinstance(source, np.ndarray):
        for chunk in map(as_table, source):
            if not _is_frame(chunk):
                raise TypeError(f"Expected tables with named columns, got {type(chunk).__name__}.")
            yield chunk
        return
    raise TypeError(
        "Expected the path of a Parquet file or folder, a pyarrow Dataset, a table or an "
        f"iterable of tables, got {type(source).__name__}."
    )


def _open_dataset(source: Any) -> Any:
    """Open a path as a pyarrow Dataset; one that is given is passed on."""
    try:
        import pyarrow.dataset as ds
    except ImportError as error:
        raise ImportError("Tables on disk are read by pyarrow: pip install pyarrow") from error

    if _is_dataset(source):
        return source
    if not os.path.exists(source):
        raise FileNotFoundError(f"There is no file or folder {os.fspath(source)!r}.")
    try:
        return ds.dataset(source, format="parquet", partitioning="hive")
    except ValueError as error:
        raise ValueError(
            f"{os.fspath(source)!r} is not Parquet, the only format in which tables are read from "
            "disk. Read another into memory, CSV by pandas.read_csv(path), and pass the DataFrame; "
            f"or write it once by DataFrame.to_parquet. ({error})"
        ) from error


def _check_apart(source: Any, path: Path) -> None:
    """Raise if rows are to be written where they are read from."""
    folders = {Path(file).resolve().parent for file in _local_files(_open_dataset(source))}
    parts = [(folder, path) for folder in folders]
    if not _is_dataset(source):
        # Files in the source are read as Parquet, so the codes must not lie there either.
        parts += [(Path(source), path), (path, Path(source))]
    if any(_is_within(inner, outer) for inner, outer in parts):
        what = "a file of the Dataset" if _is_dataset(source) else repr(os.fspath(source))
        raise ValueError(
            f"Expected a folder apart from the source, but {os.fspath(path)!r} and {what} lie "
            "within each other: writing would break what is read. Choose another folder."
        )


def _local_files(dataset: Any) -> Iterator[str]:
    """Files of a Dataset as far as they lie on this machine."""
    for fragment in dataset.get_fragments():
        file: str = getattr(fragment, "path", "")
        system: Any = getattr(fragment, "filesystem", None)
        while getattr(system, "type_name", "") == "subtree":
            file, system = os.path.join(system.base_path, file), system.base_fs
        if file and getattr(system, "type_name", "") == "local":
            yield file


def _is_within(inner: Path, outer: Path) -> bool:
    """Whether a path is another one or leads into it; links and letters' case do not hide it."""
    if not outer.exists():
        return False
    inner = inner.resolve()
    return any(place.exists() and place.samefile(outer) for place in (inner, *inner.parents))


def _read_dataset(source: Any, chunk_rows: int, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    dataset = _open_dataset(source)
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
    source: Any,
    columns: Sequence[str] | None,
    target: str | None,
    sample_weight: str | None,
    chunk_rows: int,
) -> Iterator[_Part]:
    """Chunks as features, target and weights."""
    apart = [name for name in (target, sample_weight) if name is not None]
    for table in read_chunks(source, chunk_rows, columns=[*columns, *apart] if columns else ()):
        names = list(table.columns)
        wanted = [name for name in names if name not in apart] if columns is None else columns
        if missing := [name for name in (*wanted, *apart) if name not in names]:
            raise ValueError(f"There is no column {missing[0]!r}; the table has {names}.")
        if not len(table):
            continue
        y = None if target is None else _read_target(table[target], target)
        weight = None
        if sample_weight is not None:
            weight = np.array(table[sample_weight], dtype=np.float64)
        yield table[list(wanted)], y, weight


def _read_target(column: Any, name: str) -> NDArray[Any]:
    """Copy of a column (a view would keep the whole chunk in memory), without Python objects."""
    y = np.array(column)
    if y.dtype != object:
        return y
    if pd.isna(y).any():
        raise ValueError(f"The target {name!r} has missing values. Leave their rows out.")
    kind = pd.api.types.infer_dtype(y, skipna=False)
    if kind not in _TARGET_TYPES:
        raise ValueError(f"The target {name!r} must hold numbers or texts, but it is {kind!r}.")
    return y.astype(_TARGET_TYPES[kind])


def _is_frame(table: Any) -> bool:
    return isinstance(table, pd.DataFrame) or is_polars(table)


def _is_dataset(source: Any) -> bool:
    return (
        type(source).__module__.startswith("pyarrow.")
        and hasattr(source, "to_batches")
        and hasattr(source, "get_fragments")
    )
