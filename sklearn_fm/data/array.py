"""Encoded rows that remember their schema wherever scikit-learn takes them.

It does not encode (see ``encoding``) and knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..schema import FieldSchema
from .codes import Slots, check_codes, write_entries
from .joining import of_two_axes, plain_numbers, schema_below, schema_beside
from .marks import marked, unmarked
from .one_hot import codes_of_one_hot

if TYPE_CHECKING:
    import torch

__all__ = ["FieldArray"]

#: Functions that join arrays, and the axis along which they do if none is said.
_JOINS = {np.concatenate: 0, np.vstack: 0, np.hstack: 1, np.column_stack: 1}


class FieldArray(np.ndarray):
    """Array of codes, one column per slot, that carries its `FieldSchema`.

    Categorical and binned fields and bags hold codes ``0 .. vocabulary_size - 2``, or -1 for
    unknown; an empty slot of a bag holds -2. Numeric fields hold numbers, NaN for missing. A
    field pooled as "weighted" holds its codes and then, in as many columns, their
    values. It is an ndarray, so slicing rows, cross-validation, joblib and pickle keep
    it whole. ``np.hstack``, ``np.column_stack`` and ``np.c_`` of several have the fields of all;
    numbers beside codes, in an array or a DataFrame, are numeric fields. Whatever changes columns
    or numbers (arithmetic, ``X[:, 1]``, a transpose) gives a plain ndarray. What only drops the
    class (``np.asarray``, scikit-learn's `check_array`, a DataFrame made of it) leaves the schema
    in the dtype, where estimators find it.

    Parameters
    ----------
    codes : array-like of shape (n_rows, n_columns)
        Integers when no field is numeric or weighted, else floats. float32 is refused for
        codes beyond 2**24, which it cannot hold.
    schema : FieldSchema
        The fields that the columns stand for.

    Raises
    ------
    ValueError
        If the shape does not fit the schema, a code lies outside its field's vocabulary or
        is not an integer, or the schema is that of a sparse matrix's columns.

    Examples
    --------
    >>> X = FieldArray([[3, -1], [0, 7]], FieldSchema.from_sizes([5, 9]))
    >>> X.indices
    array([[ 4,  5],
           [ 1, 13]], dtype=int32)
    >>> X[:1].schema == X.schema
    True
    """

    schema: FieldSchema | None
    _cast_of: FieldArray | None  # what numpy has perhaps changed in nothing but dtype

    def __new__(cls, codes: Any, schema: FieldSchema) -> FieldArray:
        if schema.has_columns:
            raise ValueError(
                f"The schema is that of the {schema.n_fields} columns of a sparse matrix, which "
                "have no codes. Pass the matrix, or FieldSchema.from_sizes([1] * n_columns)."
            )
        array = np.asarray(codes)
        if array.ndim != 2 or array.shape[1] != schema.n_columns:
            raise ValueError(
                f"Expected codes of shape (n_rows, {schema.n_columns}) for {schema.n_fields} "
                f"fields, got shape {array.shape}."
            )
        if array.dtype.kind not in "iuf":
            raise ValueError(f"Codes must be integers or floats, got dtype {array.dtype}.")
        check_codes(array, schema)
        return cls._wrap(array, schema)

    @classmethod
    def _wrap(cls, codes: NDArray[Any], schema: FieldSchema) -> FieldArray:
        """View trusted codes as a FieldArray, without checking or copying them."""
        array = codes.view(marked(codes.dtype, schema), cls)
        array.schema = schema
        return array

    # -- numpy protocol: who keeps the schema ------------------------------------------

    def __array_finalize__(self, obj: Any) -> None:
        self.schema = None  # only what keeps rows whole hands it on, below
        is_cast = isinstance(obj, FieldArray) and obj.shape == self.shape
        self._cast_of = obj if is_cast and obj.dtype != self.dtype else None

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else unmarked(array)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Compute on plain arrays: changed numbers are no codes."""
        plain = [unmarked(x) if isinstance(x, FieldArray) else x for x in inputs]
        if kwargs.get("out"):
            kwargs["out"] = _strip(kwargs["out"])
        return getattr(ufunc, method)(*plain, **kwargs)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if func in _JOINS and (func is np.concatenate or len(args) == 1):
            parts = [_recast(part) for part in args[0]]
            if func is np.column_stack:
                parts = [of_two_axes(part) for part in parts]
            axis = args[1] if len(args) > 1 else kwargs.get("axis", _JOINS[func])
            schema = None
            if axis in (0, -2):
                schema = schema_below(parts)
            elif axis in (1, -1):
                schema = schema_beside(parts)
            if schema is not None:
                joined = func([plain_numbers(part) for part in parts], *args[1:], **kwargs)
                return _rebuild(joined, schema)
        plain = _strip(args), _strip(kwargs)
        return func(*plain[0], **plain[1])

    def __getitem__(self, key: Any) -> Any:
        result = super().__getitem__(key)
        if not isinstance(result, FieldArray):
            return result
        if not _selects_rows(key):
            return unmarked(result)
        if result.ndim == 2:
            result.schema = self.schema
        return result

    def copy(self, order: Any = "C") -> Any:
        """Copy with the schema."""
        return _rebuild(np.asarray(self).copy(order), self.schema)

    def __copy__(self) -> Any:
        return self.copy("K")

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy("K")

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        """Give codes in another dtype, with the schema; checked when they are read."""
        return _rebuild(np.asarray(self).astype(*args, **kwargs), self.schema)

    def transpose(self, *axes: Any) -> Any:
        """Transpose as a plain ndarray: its columns are no slots."""
        return unmarked(self).transpose(*axes)

    def take(self, *args: Any, **kwargs: Any) -> Any:
        """Take rows, columns or cells as a plain ndarray, as ``np.take`` does."""
        return unmarked(self).take(*args, **kwargs)

    def swapaxes(self, *axes: Any) -> Any:
        """Swap axes, as a plain ndarray."""
        return unmarked(self).swapaxes(*axes)

    @property
    def T(self) -> Any:
        """Transpose as a plain ndarray."""
        return self.transpose()

    @property
    def mT(self) -> Any:
        """Transpose as a plain ndarray."""
        return self.transpose()

    def __reduce__(self) -> Any:
        # The plain array travels by itself, so that joblib can memory-map it.
        return _rebuild, (unmarked(self), self.schema)

    # -- what a model reads ------------------------------------------------------------

    def require_schema(self) -> FieldSchema:
        """Return the schema, or raise if it was lost on the way.

        Returns
        -------
        FieldSchema

        Raises
        ------
        ValueError
            If an operation on columns dropped the schema.
        """
        if self.schema is None:
            raise ValueError("This FieldArray lost its schema. Wrap it: FieldArray(codes, schema).")
        return self.schema

    def select(self, fields: Sequence[str | int]) -> FieldArray:
        """Some of the fields, in the order given.

        Parameters
        ----------
        fields : sequence of str or int
            Names or positions.

        Returns
        -------
        FieldArray of shape (n_rows, n_columns)

        Raises
        ------
        ValueError
            If there is no field of that name.
        """
        schema = self.require_schema()
        missing = [f for f in fields if isinstance(f, str) and f not in schema.names]
        if missing:
            raise ValueError(f"There are no fields {missing}; fields are {list(schema.names)}.")
        chosen = [schema.names.index(f) if isinstance(f, str) else int(f) for f in fields]
        first = schema.first_columns
        columns = [column for f in chosen for column in range(first[f], first[f + 1])]
        return FieldArray._wrap(np.asarray(self)[:, columns], schema.select(chosen))

    def under(self, schema: FieldSchema) -> FieldArray:
        """The same rows under a schema whose vocabularies have grown, or had not yet grown.

        Parameters
        ----------
        schema : FieldSchema
            Of the same fields; with more categories, or fewer: codes that it lacks become
            unknown.

        Returns
        -------
        FieldArray of shape (n_rows, n_columns)

        Raises
        ------
        ValueError
            If the schemas differ in anything else.
        """
        own = self.require_schema()
        if schema == own or schema.rows_kept(own) is not None:
            return FieldArray._wrap(np.asarray(self), schema)
        if own.rows_kept(schema) is None:
            raise ValueError("The schemas differ in more than new categories.")
        slots = Slots.of(schema)
        codes = np.array(self)
        for s in np.flatnonzero(~slots.numeric):
            column = codes[:, slots.column[s]]
            column[column > slots.top[s]] = -1
        return FieldArray._wrap(codes, schema)

    @property
    def indices(self) -> NDArray[Any]:
        """Rows of the shared table, int32 of shape (n_rows, n_slots), int64 for huge tables.

        Raises
        ------
        ValueError
            If a code lies outside its field's vocabulary.
        """
        return self.indices_and_values()[0]

    @property
    def values(self) -> NDArray[np.float32]:
        """Multipliers, float32 of shape (n_rows, n_slots).

        1 for a code, the number itself in a numeric field and 0 where it is missing or the
        slot is empty; in a bag of m categories 1, 1/m, 1/sqrt(m) or what came with the
        code. A read-only view of a single 1 if it can be nothing else.
        """
        return self.indices_and_values()[1]

    def indices_and_values(self) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return both in one pass over the codes.

        Returns
        -------
        indices : ndarray of shape (n_rows, n_slots)
            As the attribute.
        values : ndarray of shape (n_rows, n_slots)
            As the attribute.
        """
        schema, codes = self.require_schema(), np.ascontiguousarray(self)
        dtype: type[Any] = np.int32 if schema.table_size < 2**31 else np.int64
        slots = Slots.of(schema)
        shape = (len(codes), schema.n_slots)
        indices = np.empty(shape, dtype=dtype)
        values = np.broadcast_to(np.float32(1), shape)
        room = np.empty((0, 0), dtype=np.float32)
        if slots.have_values:
            values = room = np.empty(shape, dtype=np.float32)
        write_entries(codes, schema, indices, room)
        return indices, values

    def to_torch(
        self, device: torch.device | str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return indices and values as tensors, ready for a module's ``forward``.

        Parameters
        ----------
        device : torch.device or str, default=None
            Where the tensors shall live; CPU when omitted.

        Returns
        -------
        indices : Tensor of shape (n_rows, n_slots)
            Of int32, or int64 for tables of 2**31 rows and more.
        values : Tensor of shape (n_rows, n_slots)
            Of float32.
        """
        import torch

        as_arrays = self.indices_and_values()
        indices = torch.from_numpy(as_arrays[0]).to(device)
        if Slots.of(self.require_schema()).have_values:
            return indices, torch.from_numpy(as_arrays[1]).to(device)
        return indices, torch.ones((), device=device).expand(indices.shape)

    # -- sparse ------------------------------------------------------------------------

    def to_csr(self) -> sparse.csr_array:
        """One-hot form: entry ``[row, index] = value``.

        Returns
        -------
        csr_array of shape (n_rows, table_size)
            An unknown category is a 1 in the field's unknown row; a number that is zero
            or missing is not stored. Slots of one index are added up.
        """
        shape = (len(self), self.require_schema().table_size)
        indices, values = self.indices_and_values()
        starts = np.arange(len(self) + 1) * indices.shape[1]
        matrix = sparse.csr_array((values.flatten(), indices.ravel(), starts), shape=shape)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    @classmethod
    def from_csr(cls, matrix: Any, schema: FieldSchema) -> FieldArray:
        """Read the one-hot form back.

        Parameters
        ----------
        matrix : sparse matrix or array of shape (n_rows, table_size)
            At most one stored entry per row and field; 1 for a code. A field without an
            entry is unknown, a number without one is 0.
        schema : FieldSchema
            The fields that own the columns.

        Returns
        -------
        FieldArray of shape (n_rows, n_slots)

        Raises
        ------
        ValueError
            If the width is not ``table_size``, a row holds two entries of one field, a
            code's entry is not 1, or fields have several slots or share a vocabulary, so
            that entries do not tell where they came from.
        """
        return cls._wrap(codes_of_one_hot(matrix, schema), schema)


def _selects_rows(key: Any) -> bool:
    """Whether ``X[key]`` takes whole rows, so that its columns still are the slots."""
    if not isinstance(key, tuple):
        # a boolean mask of X's own shape picks cells; its result is one-dimensional anyway
        return key is not None
    rest = key[1:]
    return all(k is Ellipsis or (isinstance(k, slice) and k == slice(None)) for k in rest)


def _recast(part: Any) -> Any:
    """Codes with the schema that they had before a cast, such as that within ``np.c_``."""
    source = part._cast_of if isinstance(part, FieldArray) and part.schema is None else None
    if source is None or not np.array_equal(np.asarray(part), np.asarray(source), equal_nan=True):
        return part
    return _rebuild(np.asarray(part), source.schema)


def _strip(value: Any) -> Any:
    """FieldArrays within nested arguments as plain arrays."""
    if isinstance(value, FieldArray):
        return unmarked(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_strip(v) for v in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {key: _strip(v) for key, v in value.items()}
    return value


def _rebuild(codes: NDArray[Any], schema: FieldSchema | None) -> Any:
    return codes.view(FieldArray) if schema is None else FieldArray._wrap(codes, schema)
