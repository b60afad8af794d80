"""Encoded rows in a folder on disk, of which only a few need to be in memory.

How they come there is told in ``encoding.streaming``.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..schema import FieldSchema
from .array import FieldArray
from .marks import unmarked

__all__ = ["FieldFolder", "FolderWriter"]

_CODES, _TARGET, _WEIGHT, _ABOUT = "codes.bin", "target.npy", "weight.npy", "about.json"
_DRAFT = f"{_ABOUT}.part"
_LARGEST_ABOUT = 2**28  # bytes; a field takes about 100
_NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_DTYPES = [order + number for order in "<>|" for number in _NUMBERS]
_ENTRIES: dict[str, type] = {
    "names": str,
    "kinds": str,
    "vocabulary_sizes": int,
    "slots": int,
    "poolings": str,
    "vocabularies": str,
    "linear": bool,
    "ordered": int,
}


class FieldFolder:
    """Encoded rows, with targets and weights if they were stored, in a folder.

    Estimators fit it in bounded memory, rows shuffled within blocks picked at random, and
    predict it chunk by chunk. For everything else there is `X`, which maps all rows into memory.

    Parameters
    ----------
    path : path-like
        The folder, written by `encode_to_folder`.

    Attributes
    ----------
    schema : FieldSchema
        The fields.
    shape : tuple of int
        Rows, and columns of codes.
    encoder : FieldEncoder or None
        What encoded the rows, if they were written in this process.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no rows in it.
    ValueError
        If the files do not belong together.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not (self.path / _ABOUT).is_file():
            raise FileNotFoundError(
                f"{self.path} holds no encoded rows ({_ABOUT} is missing). Write them with "
                "encode_to_folder."
            )
        try:
            self.schema, self.dtype, n_rows = _read_about(self.path / _ABOUT)
        except ValueError as error:
            raise ValueError(
                f"{self.path / _ABOUT} is damaged: {error} Write the folder again."
            ) from error
        self._written = self.schema
        self.shape = (n_rows, self.schema.n_columns)
        self.encoder: Any = None
        codes = self.path / _CODES
        size = codes.stat().st_size if codes.is_file() else 0
        if size != self.shape[0] * self._row_bytes:
            raise ValueError(
                f"{codes} has {size} bytes, expected {self.shape[0]} rows of {self._row_bytes}. "
                "Write the folder again."
            )

    @property
    def _row_bytes(self) -> int:
        return self.shape[1] * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Number of codes."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"FieldFolder({str(self.path)!r}) of {len(self)} rows, {self.schema.n_fields} fields"

    @property
    def X(self) -> FieldArray:
        """All rows, mapped into memory, read-only."""
        codes = np.memmap(self.path / _CODES, dtype=self.dtype, mode="r", shape=self.shape)
        return self._as_rows(np.asarray(codes))

    @property
    def y(self) -> NDArray[Any] | None:
        """Targets, read into memory; None if there are none."""
        return self._load(_TARGET)

    @property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """Weights, read into memory; None if there are none."""
        return self._load(_WEIGHT)

    def under(self, schema: FieldSchema) -> FieldFolder:
        """The same rows under a schema whose vocabularies have grown, or had not yet grown.

        Parameters
        ----------
        schema : FieldSchema
            As `FieldArray.under` takes it.

        Returns
        -------
        FieldFolder

        Raises
        ------
        ValueError
            If the schemas differ in anything but new categories.
        """
        other = copy.copy(self)
        other.schema = schema
        other.read(0, 0)  # raises
        return other

    def read(self, start: int, stop: int) -> FieldArray:
        """Some consecutive rows.

        Parameters
        ----------
        start, stop : int
            First row, and the one after the last.

        Returns
        -------
        FieldArray of shape (stop - start, n_columns)
        """
        return self.read_many(np.array([start]), stop - start)

    def read_many(self, starts: NDArray[np.integer], n_rows: int) -> FieldArray:
        """Blocks of rows one after the other; one that reaches beyond the end is cut.

        Parameters
        ----------
        starts : ndarray of shape (n_blocks,)
            First row of each.
        n_rows : int
            Rows of each.

        Returns
        -------
        FieldArray
        """
        ends = np.minimum(starts + n_rows, len(self))
        codes = np.empty((int(np.maximum(ends - starts, 0).sum()), self.shape[1]), self.dtype)
        filled = 0
        with open(self.path / _CODES, "rb", buffering=0) as file:
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                if end <= start:
                    continue
                part = codes[filled : filled + end - start]
                file.seek(start * self._row_bytes)
                if file.readinto(memoryview(part).cast("B")) != part.nbytes:
                    raise OSError(f"{self.path / _CODES} ended while it was read.")
                filled += end - start
        return self._as_rows(codes)

    def chunks(self, n_rows: int = 2**17) -> Iterator[FieldArray]:
        """All rows in order, some at a time.

        Parameters
        ----------
        n_rows : int, default=131072
            Rows at a time.

        Yields
        ------
        FieldArray
        """
        for start in range(0, len(self), n_rows):
            yield self.read(start, min(start + n_rows, len(self)))

    def _as_rows(self, codes: NDArray[Any]) -> FieldArray:
        return FieldArray._wrap(codes, self._written).under(self.schema)

    def _load(self, name: str) -> NDArray[Any] | None:
        """One number or label per row, if they were stored."""
        path = self.path / name
        if not path.is_file():
            return None
        try:
            # Mapped, so that no more is allocated than the file holds, and nothing unpickled.
            mapped = np.lib.format.open_memmap(path, mode="r")
        except OSError:
            raise
        except Exception as error:  # numpy's parser of the header raises what it stumbles upon
            raise ValueError(f"{path} is damaged: {error} Write the folder again.") from error
        if mapped.shape != (len(self),):
            raise ValueError(
                f"{path} has entries of shape {mapped.shape}, expected {(len(self),)}. Write the "
                "folder again."
            )
        return np.array(mapped)


def _read_about(path: Path) -> tuple[FieldSchema, np.dtype[Any], int]:
    """Schema, dtype of the codes and number of rows that a folder says it has.

    Raises
    ------
    ValueError
        Saying what was expected, in a sentence.
    """
    if path.stat().st_size > _LARGEST_ABOUT:
        raise ValueError(f"it has more than {_LARGEST_ABOUT} bytes.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error}).") from error
    if not isinstance(about, dict) or not isinstance(about.get("schema"), dict):
        raise ValueError("expected a dict that holds a dict 'schema'.")
    if about.get("dtype") not in _DTYPES:
        raise ValueError(f"dtype is {about.get('dtype')!r:.60}, expected integers or floats.")
    n_rows = about.get("n_rows")
    if type(n_rows) is not int or not 0 < n_rows < 2**63:
        raise ValueError(f"n_rows is {n_rows!r:.60}, expected a positive integer.")
    fields = about["schema"]
    if not {"names", "kinds", "vocabulary_sizes"} <= set(fields) <= set(_ENTRIES):
        raise ValueError(f"the schema has {sorted(fields)!r:.200}, expected {list(_ENTRIES)}.")
    for name, values in fields.items():
        kind = _ENTRIES[name]
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise ValueError(f"{name} of the schema must be a list of {kind.__name__}.")
    schema = FieldSchema(**{name: tuple(values) for name, values in fields.items()})
    if schema.has_columns:
        raise ValueError("the schema is that of a sparse matrix's columns.")
    if max(schema.table_size, schema.n_columns) >= 2**63:
        raise ValueError("the sizes or slots of the schema add up to more than 2**63.")
    return schema, np.dtype(about["dtype"]), n_rows


@contextmanager
def _told_of_full_disk(path: Path, n_bytes: int) -> Iterator[None]:
    """Say which disk is full; numpy says how many numbers it could not write, and no errno."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            errno.ENOSPC,
            f"The disk is full: {n_bytes:,} bytes were to be written, and "
            f"{shutil.disk_usage(path.parent).free:,} are free. Free some, or choose another "
            "folder; that of temporary files is named by the environment variable TMPDIR",
            str(path),
        ) from error


class FolderWriter:
    """Writes encoded rows into a folder, chunk by chunk; a context that closes the file.

    The folder is valid once finished, and what an interruption leaves is not.

    Parameters
    ----------
    path : path-like
        The folder; made if need be. Rows that it holds are replaced.

    Attributes
    ----------
    n_rows : int
        Rows written so far.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        # Gone rather than overwritten: who has mapped the old codes still reads them, and what a
        # link leads to stays as it is.
        for name in (_ABOUT, _TARGET, _WEIGHT, _CODES, _DRAFT):
            (self.path / name).unlink(missing_ok=True)
        self._file = open(  # noqa: SIM115 (closed in __exit__)
            self.path / _CODES, "wb", buffering=0
        )
        self._dtype: np.dtype[Any] | None = None
        self.n_rows = 0
        self._targets: list[NDArray[Any]] = []
        self._weights: list[NDArray[Any]] = []

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(
        self, X: FieldArray, target: NDArray[Any] | None, weight: NDArray[Any] | None
    ) -> None:
        """Add rows.

        Parameters
        ----------
        X : FieldArray of shape (n_rows, n_columns)
            Codes; their schema may have grown since the last call.
        target, weight : ndarray of shape (n_rows,) or None
            Of the rows, in all calls or in none.

        Raises
        ------
        OSError
            If the disk is full.
        """
        codes = np.ascontiguousarray(unmarked(X))
        self._dtype = self._dtype or codes.dtype
        rest = codes.astype(self._dtype, copy=False).reshape(-1).view(np.uint8)
        with _told_of_full_disk(self.path / _CODES, rest.nbytes):
            while rest.size:
                rest = rest[self._file.write(rest) :]
        self.n_rows += len(codes)
        if target is not None:
            self._targets.append(target)
        if weight is not None:
            self._weights.append(weight)

    def finish(self, schema: FieldSchema) -> FieldFolder:
        """Finish the folder.

        Parameters
        ----------
        schema : FieldSchema
            Of the last rows.

        Returns
        -------
        FieldFolder

        Raises
        ------
        OSError
            If the disk is full.
        """
        assert self._dtype is not None  # there are rows
        self._file.close()
        for name, parts in ((_TARGET, self._targets), (_WEIGHT, self._weights)):
            if parts:
                values = np.concatenate(parts)
                parts.clear()
                with _told_of_full_disk(self.path / name, values.nbytes):
                    np.save(self.path / name, values)
        about = {"schema": asdict(schema), "dtype": self._dtype.str, "n_rows": self.n_rows}
        draft = self.path / _DRAFT
        text = json.dumps(about)
        with _told_of_full_disk(draft, len(text)):
            draft.write_text(text, encoding="utf-8")
        draft.replace(self.path / _ABOUT)
        return FieldFolder(self.path)
