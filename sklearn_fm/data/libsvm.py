"""Rows from and to libsvm and libffm text files, plain or gzip.

Nothing is encoded: an index in a file is already the number of a feature. How text becomes
numbers is the business of ``lines``.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy import sparse

from ..schema import FieldSchema
from .array import FieldArray
from .codes import check_codes
from .csr import check_csr
from .lines import Lines, narrow, opened, read_rows, write_rows

__all__ = ["dump_libffm", "dump_libsvm", "load_libffm", "load_libsvm"]

_BLOCK = 2**11  # rows written at a time; their entries fit a cache
_NO_FIELDS = np.zeros(0, dtype=np.int64)
_LARGEST = {np.dtype(t): float(np.finfo(t).max) for t in (np.float32, np.float64)}
_VOCABULARY = "features"


# -- libsvm ------------------------------------------------------------------------------------


def load_libsvm(
    source: Any,
    *,
    n_features: int | None = None,
    zero_based: bool | str = "auto",
    dtype: DTypeLike = np.float64,
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Read ``label index:value ...`` lines as a sparse matrix and a target.

    The same as scikit-learn's ``load_svmlight_file``, several times as fast. It is stricter:
    what is no finite decimal number is refused, and so is ``qid``.

    Parameters
    ----------
    source : str, path-like or file
        Path, of a gzip file if it ends in ``.gz``; or a file open for reading bytes.
    n_features : int, default=None
        Number of columns; one more than the largest index when omitted. Pass that of the
        training data to read a test file.
    zero_based : bool or "auto", default="auto"
        Whether the first column has index 0 or 1. "auto": 1 if index 0 does not occur.
    dtype : {float32, float64}, default=float64
        Type of the values.

    Returns
    -------
    X : csr_array of shape (n_rows, n_features)
        The values; a zero that is written is stored.
    y : ndarray of shape (n_rows,)
        The labels.

    Raises
    ------
    ValueError
        Naming file and line, if a label or entry is malformed or not finite, indices of a
        row do not ascend, an index is beyond `n_features`, or there are no rows.

    See Also
    --------
    sklearn.datasets.load_svmlight_file : Reads multiple labels and ``qid`` too.

    Examples
    --------
    >>> import io
    >>> X, y = load_libsvm(io.BytesIO(b"1 1:0.5 3:2  # the first\\n-1 2:1\\n"))
    >>> X.toarray()
    array([[0.5, 0. , 2. ],
           [0. , 1. , 0. ]])
    >>> y
    array([ 1., -1.])
    """
    if np.dtype(dtype) not in _LARGEST:
        raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}.")
    if zero_based not in (True, False, "auto"):
        raise ValueError(f"zero_based must be True, False or 'auto', got {zero_based!r}.")
    parts = read_rows(source, has_fields=False, dtype=dtype, largest=_LARGEST[np.dtype(dtype)])
    first = _first_index(parts, zero_based)
    n_features = _check_n_features(parts, n_features, first)
    starts = narrow(np.concatenate([[0], *(part.counts for part in parts)]).cumsum())
    indices = np.concatenate([part.indices for part in parts])
    indices -= indices.dtype.type(first)
    values = np.concatenate([part.values for part in parts])
    y = np.concatenate([part.y for part in parts])
    return sparse.csr_array((values, indices, starts), (len(y), n_features)), y


def _first_index(parts: list[Lines], zero_based: bool | str) -> int:
    """Index of the first column."""
    with_zero = next((part for part in parts if (part.indices == 0).any()), None)
    if zero_based == "auto":
        return int(with_zero is None)
    if with_zero is not None and not zero_based:
        entry = int(with_zero.indices.argmin())
        with_zero.fail(entry, "index 0, but with zero_based=False the first one is 1")
    return int(not zero_based)


def dump_libsvm(X: Any, y: ArrayLike, path: Any, *, zero_based: bool = False) -> None:
    """Write rows as ``label index:value ...`` lines.

    Numbers are written by the fewest digits that tell them apart in their type, so that
    `load_libsvm` with that dtype gives the same bits.

    Parameters
    ----------
    X : FieldArray, sparse matrix or array-like of shape (n_rows, n_features)
        Rows; a FieldArray is written in its one-hot form. Zeros are not written unless a sparse
        matrix stores them.
    y : array-like of shape (n_rows,)
        Numeric labels.
    path : str, path-like or file
        Path, of a gzip file if it ends in ``.gz``; or a file open for writing bytes.
    zero_based : bool, default=False
        Whether the first column has index 0 rather than 1, as in scikit-learn. From 1 on, as
        libsvm has it, a file says for itself where its indices begin.

    Raises
    ------
    ValueError
        If lengths differ or a number is not finite.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> dump_libsvm([[0.5, 0.0, 2.0], [0.0, 0.1, 0.0]], [1, -1], file)
    >>> file.getvalue()
    b'1 1:0.5 3:2\\n-1 2:0.1\\n'
    """
    check_csr(X)
    matrix = sparse.csr_array(X.to_csr() if isinstance(X, FieldArray) else X)
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"X must be numeric, got dtype {matrix.dtype}.")
    labels = _check_labels(y, matrix.shape[0])
    if not np.isfinite(matrix.data).all():
        row = int(np.argmax(~np.isfinite(matrix.data)))
        row = int(np.searchsorted(matrix.indptr, row, side="right")) - 1
        raise ValueError(f"X holds NaN or infinity in row {row}; these files take finite numbers.")
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    first = int(not zero_based)
    with opened(path, "wb") as file:
        for start in range(0, len(labels), _BLOCK):
            starts = matrix.indptr[start : start + _BLOCK + 1].astype(np.int64)
            entries = slice(starts[0], starts[-1])
            indices = matrix.indices[entries].astype(np.int64) + first
            rows = starts - starts[0], _NO_FIELDS, indices, matrix.data[entries]
            write_rows(file, labels[start : start + _BLOCK], *rows)


# -- libffm ------------------------------------------------------------------------------------


def load_libffm(
    source: Any, *, schema: FieldSchema | None = None, n_features: int | None = None
) -> tuple[FieldArray, NDArray[np.float64]]:
    """Read ``label field:index:value ...`` lines as encoded rows and a target.

    An index is the number of a feature whatever its field, so all fields share one
    vocabulary, and the code of a feature is its index. A field with one entry of value 1 in
    every row is categorical, any other a bag with as many slots as a row has entries of
    it at most; the bag is "weighted" unless all its values are 1.

    Parameters
    ----------
    source : str, path-like or file
        Path, of a gzip file if it ends in ``.gz``; or a file open for reading bytes.
    schema : FieldSchema, default=None
        That of the training data, when reading others: indices that it does not know become
        unknown (-1), and so does a categorical field without an entry. Slots and
        poolings may have been changed by ``dataclasses.replace``.
    n_features : int, default=None
        Size of the vocabulary without the unknown; one more than the largest index when
        omitted. Not together with `schema`, which says it.

    Returns
    -------
    X : FieldArray of shape (n_rows, n_columns)
        Codes, and the values of weighted bags. The fields are named by their numbers. Of
        dtype int32 (int64 for indices beyond), or float64 if a bag is weighted.
    y : ndarray of shape (n_rows,)
        The labels.

    Raises
    ------
    ValueError
        Naming file and line, if a label or entry is malformed or not finite, an index is
        beyond `n_features`, the schema lacks a field, a row has more entries than slots,
        or a value other than 1 where the schema takes none; or if there are no rows.

    Examples
    --------
    >>> import io
    >>> X, y = load_libffm(io.BytesIO(b"1 0:4:1 1:0:1 1:2:1\\n0 0:3:1 1:2:1\\n"))
    >>> X
    FieldArray([[ 4,  0,  2],
                [ 3,  2, -2]], dtype=int32)
    >>> X.schema.kinds, X.schema.slots, X.schema.vocabulary_sizes
    (('categorical', 'bag'), (1, 2), (6, 6))
    """
    if schema is not None and n_features is not None:
        raise ValueError("Pass schema or n_features, not both: the schema says n_features.")
    ids = None if schema is None else _field_ids(schema)
    largest = _LARGEST[np.dtype(np.float32)]  # the type of the values that a model reads
    parts = read_rows(source, has_fields=True, dtype=np.float64, largest=largest)
    if ids is None:
        ids = np.unique(np.concatenate([np.unique(part.fields) for part in parts]))
    if schema is None:
        n_features = _check_n_features(parts, n_features, 0)
        schema = _schema_of(parts, ids, n_features)
    else:
        for part in parts:
            _check_fit(part, ids, schema)
    X = _lay_out(parts, ids, schema)
    return X, np.concatenate([part.y for part in parts])


def _field_ids(schema: FieldSchema) -> NDArray[np.int64]:
    """Numbers of the fields in a file, or raise if the schema is not that of a file."""
    if (
        not set(schema.vocabularies) <= {_VOCABULARY}
        or not all(_is_id(name) for name in schema.names)
        or not {"categorical", "bag"}.issuperset(schema.kinds)
    ):
        raise ValueError(
            "schema must be that of rows read by load_libffm: fields named by their numbers, "
            f"categorical or bags, that share the vocabulary {_VOCABULARY!r}. Got the fields "
            f"{schema.names} of kinds {schema.kinds} and vocabularies {schema.vocabularies}."
        )
    return np.array([int(name) for name in schema.names], dtype=np.int64)


def _place(rows: Lines, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Position of each entry's field, and how many entries of row and field come before."""
    if not len(rows.fields):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if not len(ids):
        rows.fail(0, f"field {rows.fields[0]}, but the schema has no fields")
    order = np.argsort(ids)
    nearest = np.minimum(np.searchsorted(ids[order], rows.fields), len(ids) - 1)
    positions = order[nearest]
    strange = ids[positions] != rows.fields
    if strange.any():
        entry = int(strange.argmax())
        known = ", ".join(map(str, ids[:20])) + (", ..." if len(ids) > 20 else "")
        rows.fail(entry, f"field {rows.fields[entry]}, but the fields of the schema are {known}")
    return positions, _count_before(rows.row_of_entry * len(ids) + positions)


def _count_before(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each number occurred before."""
    order = None
    if (cells[1:] < cells[:-1]).any():
        order = np.argsort(cells, kind="stable")
        cells = cells[order]
    place = np.arange(len(cells))
    is_first = np.ones(len(cells), dtype=bool)
    is_first[1:] = cells[1:] != cells[:-1]
    counts = place - np.maximum.accumulate(np.where(is_first, place, 0))
    if order is not None:
        counts[order] = counts.copy()
    return counts


def _schema_of(parts: list[Lines], ids: NDArray[np.int64], n_features: int) -> FieldSchema:
    """Schema of the training data."""
    n_fields = len(ids)
    n_slots, n_entries, n_other = np.zeros((3, n_fields), dtype=np.int64)
    for part in parts:
        positions, slots = _place(part, ids)
        np.maximum.at(n_slots, positions, slots + 1)
        n_entries += np.bincount(positions, minlength=n_fields)
        n_other += np.bincount(positions[part.values != 1], minlength=n_fields)
    n_rows = sum(len(part.y) for part in parts)
    categorical = (n_slots == 1) & (n_entries == n_rows) & (n_other == 0)
    return FieldSchema(
        names=tuple(str(number) for number in ids.tolist()),
        kinds=tuple("categorical" if one else "bag" for one in categorical),
        vocabulary_sizes=(n_features + 1,) * n_fields,
        slots=tuple(n_slots.tolist()),
        poolings=tuple("weighted" if one else "sum" for one in n_other),
        vocabularies=(_VOCABULARY,) * n_fields,
    )


def _check_fit(rows: Lines, ids: NDArray[np.int64], schema: FieldSchema) -> None:
    """Raise unless the slots and poolings of a given schema can hold the rows."""
    positions, slots = _place(rows, ids)
    excess = slots >= np.array(schema.slots, dtype=np.int64)[positions]
    if excess.any():
        entry = int(excess.argmax())
        f = positions[entry]
        rows.fail(
            entry,
            f"more than {schema.slots[f]} entries of field {schema.names[f]}, which has as many "
            "slots. Raise its slots in the schema of the training data by dataclasses.replace",
        )
    lost = (rows.values != 1) & ~_takes_values(schema)[positions]
    if lost.any():
        entry = int(lost.argmax())
        rows.fail(
            entry,
            f"value {rows.values[entry]:g} in field {schema.names[positions[entry]]}, whose "
            "values are all 1 in the schema. Make it a 'weighted' bag there",
        )


def _takes_values(schema: FieldSchema) -> NDArray[np.bool_]:
    """Which fields hold values beside their codes."""
    return np.array([pooling == "weighted" for pooling in schema.poolings], dtype=bool)


def _lay_out(parts: list[Lines], ids: NDArray[np.int64], schema: FieldSchema) -> FieldArray:
    """Put each entry into its row and slot."""
    size = max(schema.vocabulary_sizes, default=1)
    takes_values, n_slots = _takes_values(schema), np.array(schema.slots, dtype=np.int64)
    dtype: type[Any] = np.int32 if size < 2**31 else np.int64
    if takes_values.any():
        dtype = np.float64
    out = np.empty((sum(len(part.y) for part in parts), schema.n_columns), dtype=dtype)
    first_columns = np.array(schema.first_columns, dtype=np.int64)
    empty = _empty_row(schema)
    start = 0
    for part in parts:
        block = out[start : start + len(part.y)]
        start += len(part.y)
        block[:] = empty
        positions, slots = _place(part, ids)
        cells = part.row_of_entry * schema.n_columns + first_columns[positions] + slots
        block.reshape(-1)[cells] = np.where(part.indices < size - 1, part.indices, -1)
        if takes_values.any():
            valued = takes_values[positions]
            cells = cells[valued] + n_slots[positions[valued]]
            block.reshape(-1)[cells] = part.values[valued]
    # What was put there fits, unless float64 cannot hold the codes: let the constructor say so.
    return FieldArray(out, schema) if size > 2**53 else FieldArray._wrap(out, schema)


def _empty_row(schema: FieldSchema) -> NDArray[np.int64]:
    """Columns of a row without entries."""
    row = np.zeros(schema.n_columns, dtype=np.int64)
    for f, kind in enumerate(schema.kinds):
        first = schema.first_columns[f]
        row[first : first + schema.slots[f]] = -2 if kind == "bag" else -1
    return row


def dump_libffm(X: FieldArray, y: ArrayLike, path: Any) -> None:
    """Write encoded rows as ``label field:index:value ...`` lines.

    Every slot that is not empty gives an entry; a number that is zero or missing gives none.
    Fields go by their names if these are numbers, as those of `load_libffm` are, else
    by their positions. The index is the row of the table; but where all fields share
    one vocabulary it is the code, and the size of the vocabulary stands for unknown, so that
    `load_libffm` with the schema of X gives X again.

    Parameters
    ----------
    X : FieldArray of shape (n_rows, n_columns)
        Encoded rows.
    y : array-like of shape (n_rows,)
        Numeric labels.
    path : str, path-like or file
        Path, of a gzip file if it ends in ``.gz``; or a file open for writing bytes.

    Raises
    ------
    TypeError
        If X is no FieldArray.
    ValueError
        If lengths differ or a number is not finite.

    Examples
    --------
    >>> import io
    >>> X = FieldArray([[3, 0.5], [-1, 2]], FieldSchema.from_sizes([5, 1]))
    >>> file = io.BytesIO()
    >>> dump_libffm(X, [1, 0], file)
    >>> file.getvalue()
    b'1 0:4:1 1:5:0.5\\n0 0:0:1 1:5:2\\n'
    """
    if not isinstance(X, FieldArray):
        raise TypeError(
            f"X must be a FieldArray, whose schema tells the fields apart, got {type(X).__name__}. "
            "Encode it by a FieldEncoder, or use dump_libsvm."
        )
    schema = X.require_schema()
    labels = _check_labels(y, len(X))
    ids = list(range(schema.n_fields))
    if all(_is_id(name) for name in schema.names):
        by_name = [int(name) for name in schema.names]
        ids = by_name if len(set(by_name)) == len(by_name) else ids
    fields = np.repeat(np.array(ids, dtype=np.int64), schema.slots)
    check_codes(np.asarray(X), schema)
    with opened(path, "wb") as file:
        for start in range(0, len(labels), _BLOCK):
            block = X[start : start + _BLOCK]
            filled, indices, values = _entries(block, schema)
            starts = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
            own_fields = np.broadcast_to(fields, filled.shape)[filled]
            rows = starts, own_fields, indices[filled].astype(np.int64), values[filled]
            write_rows(file, labels[start : start + _BLOCK], *rows)


def _is_id(name: str) -> bool:
    """Whether a field is named by a number, as in a file."""
    return name.isascii() and name.isdigit() and len(name) <= 18


def _entries(
    X: FieldArray, schema: FieldSchema
) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64]]:
    """Which slots are to be written, with which index and value; all of shape (n_rows, n_slots)."""
    codes = np.asarray(X)
    column, value_column = _columns(schema)
    indices, as_read = X.indices_and_values()
    has_column = value_column >= 0
    exact = has_column & (codes.dtype.itemsize > 4)  # has more digits than a model reads
    poolings = np.array(schema.poolings)[list(schema.slot_fields)]
    others = (has_column & ~exact) | np.isin(poolings, ("mean", "sqrtn"))
    values = np.ones(as_read.shape)
    values[:, exact] = codes[:, value_column[exact]]
    values[:, others] = _in_decimals(as_read[:, others])
    is_number = has_column & (value_column == column)
    filled = np.where(is_number, as_read != 0, codes[:, column] != -2)
    if len(set(schema.vocabularies)) == 1 and not is_number.any():
        indices = np.where(indices == 0, schema.table_size, indices) - 1
    return filled, indices, values


def _columns(schema: FieldSchema) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns of each slot's code and value, -1 where the pooling says the value."""
    column: list[int] = []
    value_column: list[int] = []
    for f, n_slots in enumerate(schema.slots):
        first = schema.first_columns[f]
        own = list(range(first, first + n_slots))
        column += own
        if schema.kinds[f] == "numeric":
            value_column += own
        elif schema.poolings[f] == "weighted":
            value_column += [c + n_slots for c in own]
        else:
            value_column += [-1] * n_slots
    return np.array(column, dtype=np.int64), np.array(value_column, dtype=np.int64)


def _in_decimals(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same to float32, of as few decimal digits as possible."""
    distinct, which = np.unique(numbers, return_inverse=True)
    decimals = np.array([float(str(number)) for number in distinct])
    return decimals[which].reshape(numbers.shape)


# -- both --------------------------------------------------------------------------------------


def _check_n_features(parts: list[Lines], n_features: int | None, first: int) -> int:
    """Number of features, the given one if no index is beyond it."""
    if n_features is not None and (
        not isinstance(n_features, Integral) or isinstance(n_features, bool) or n_features < 1
    ):
        raise ValueError(f"n_features must be a positive integer or None, got {n_features!r}.")
    largest = [int(part.indices.max(initial=first - 1)) for part in parts]
    if n_features is None:
        return max(largest) + 1 - first
    last = int(n_features) - 1 + first
    if max(largest) > last:
        part = parts[int(np.argmax(np.array(largest) > last))]
        entry = int(np.argmax(part.indices > last))
        part.fail(
            entry,
            f"index {part.indices[entry]}, but with n_features={n_features} the last one is {last}",
        )
    return int(n_features)


def _check_labels(y: ArrayLike, n_rows: int) -> NDArray[Any]:
    """Labels as an array that a file can hold."""
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise ValueError(f"Expected one label for each of {n_rows} rows, got shape {labels.shape}.")
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"Labels must be numbers, got dtype {labels.dtype}. Encode them.")
    bad = ~np.isfinite(labels)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"The label of row {row} is {labels[row]}; expected finite numbers.")
    return labels
