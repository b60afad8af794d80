"""One column of categories as integer codes, by a vocabulary learned from data.

It does not choose columns and checks no parameters; `FieldEncoder` does both.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["CategoryEncoder"]

UNKNOWN = -1
UNSEEN = -2  # never leaves this file: unknown because it was not in the data of fit


class CategoryEncoder:
    """Codes of one categorical field.

    Categories are equal when Python says so (``1 == 1.0 == True``), whatever container
    they come in. Numbers are coded in ascending order, anything else in order of first
    appearance; missing (None, NaN, NA, NaT) is one more category, the last.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    min_frequency : int or float, default=None
        Categories of a smaller weighted count (int), or share of the total (float), are
        rare: they have no code of their own.
    max_categories : int, default=None
        Keep at most ``max_categories - 1`` categories, the most frequent ones, when there
        are more; the unknown row that takes the others is counted, as in scikit-learn's
        OneHotEncoder.
    handle_unknown : {"unknown", "error"}, default="unknown"
        What to do with a category not seen in fit.

    Attributes
    ----------
    vocabulary : ndarray of shape (n_categories,)
        Category of each code: bool, int64, float64 or object.
    vocabulary_size : int
        Rows of the table that the field owns: one for unknown and one per code.
    """

    kind = "categorical"

    def __init__(
        self,
        name: str,
        *,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        handle_unknown: str = "unknown",
    ) -> None:
        self.name = name
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.vocabulary: NDArray[Any] = np.empty(0, dtype=object)
        self._rare: NDArray[Any] = self.vocabulary
        self._missing = UNSEEN
        self._codes: dict[Any, int] | None = None

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field owns."""
        return 1 + len(self.vocabulary) + (self._missing >= 0)

    def fit_transform(
        self, values: Any, sample_weight: NDArray[np.float64] | None = None
    ) -> NDArray[np.int32]:
        """Learn the vocabulary and return the codes.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        sample_weight : ndarray of shape (n_rows,), default=None
            Positive weights, for the counts.

        Returns
        -------
        ndarray of shape (n_rows,)
            Codes; -1 for a rare category.

        Raises
        ------
        TypeError
            If a cell cannot be hashed.
        """
        slots, found = self._factorize(values)
        n_found = len(found)
        counts = np.bincount(slots, weights=sample_weight, minlength=n_found + 1)
        order = np.argsort(found) if _is_numbers(found) else np.arange(n_found)
        if counts[n_found]:
            order = np.append(order, n_found)  # missing comes last
        rare = self._is_rare(counts[order])

        table = np.full(n_found + 1, UNKNOWN, dtype=np.int32)
        table[order[~rare]] = np.arange(len(order) - rare.sum())
        self._missing = int(table[n_found]) if counts[n_found] else UNSEEN
        order, rare = order[order < n_found], rare[:n_found]
        self.vocabulary = found[order[~rare]]
        # Rare ones need telling from unseen ones only where the latter are an error.
        self._rare = found[order[rare]] if self.handle_unknown == "error" else found[:0]
        self._codes = None
        return table[slots]

    def transform(self, values: Any) -> NDArray[np.int32]:
        """Return the codes of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,)
            Codes; -1 for unknown.

        Raises
        ------
        ValueError
            If a category was not seen in fit and ``handle_unknown="error"``.
        TypeError
            If a cell cannot be hashed.
        """
        if values.dtype == object:  # each cell is a hash look-up anyway, so no need to factorize
            codes = self._look_up(values)
            if len(unseen := np.flatnonzero(codes == UNSEEN)):
                codes[unseen[pd.isna(values[unseen])]] = self._missing
        else:
            slots, found = self._factorize(values)
            codes = np.append(self._look_up(found), np.int32(self._missing))[slots]
        if self.handle_unknown == "error" and (codes == UNSEEN).any():
            row = int(np.argmax(codes == UNSEEN))
            value = values[row]
            shown = str(value) if isinstance(value, np.generic) else repr(value)
            raise ValueError(
                f"Field {self.name!r} holds {shown} in row {row}, which was not seen in fit. "
                "Pass handle_unknown='unknown' to let it share the unknown row."
            )
        return np.maximum(codes, UNKNOWN, out=codes)

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.object_]:
        """Return the category of each code.

        Parameters
        ----------
        codes : ndarray of shape (n_rows,)
            Codes of this field.

        Returns
        -------
        ndarray of shape (n_rows,)
            Categories; None for unknown, NaN for missing.
        """
        # The code -1 picks the last entry.
        tail: list[Any] = [np.nan, None] if self._missing >= 0 else [None]
        table = np.empty(len(self.vocabulary) + len(tail), dtype=object)
        table[: len(self.vocabulary)] = self.vocabulary
        table[len(self.vocabulary) :] = tail
        return table[codes.astype(np.intp)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_codes": None}

    # -- implementation ------------------------------------------------------------------

    def _factorize(self, values: Any) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Number the distinct categories; missing gets the number after the last."""
        try:
            slots, found = pd.factorize(values)
        except TypeError:
            _check_hashable(values, self.name)
            raise
        found = _canonical(found)
        slots[slots < 0] = len(found)
        if found.dtype.kind == "f" and np.isnan(found).any():  # Float64 may hold NaN beside NA
            slot = int(np.argmax(np.isnan(found)))
            found = np.delete(found, slot)
            slots[slots == slot] = len(found) + 1
            slots[slots > slot] -= 1
        return slots, found

    def _is_rare(self, counts: NDArray[Any]) -> NDArray[np.bool_]:
        rare = np.zeros(len(counts), dtype=bool)
        if self.min_frequency is not None:
            share = isinstance(self.min_frequency, (float, np.floating))
            rare = counts < self.min_frequency * (counts.sum() if share else 1)
        n_rows = len(counts) - rare.sum() + 1  # with the unknown row
        if self.max_categories is not None and n_rows > self.max_categories:
            by_count = np.argsort(counts, kind="stable")
            rare[by_count[: len(counts) - self.max_categories + 1]] = True
        return rare

    def _look_up(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Code of each value by a hash table, built when first needed and never pickled."""
        if self._codes is None:
            codes = dict(zip(self.vocabulary.tolist(), range(len(self.vocabulary)), strict=True))
            codes.update(dict.fromkeys(self._rare.tolist(), UNKNOWN))
            self._codes = codes
        found = map(self._codes.get, values.tolist(), repeat(UNSEEN))
        try:
            return np.fromiter(found, dtype=np.int32, count=len(values))
        except TypeError:
            _check_hashable(values, self.name)
            raise


def _canonical(found: Any) -> NDArray[Any]:
    """Distinct categories as an array that is the same for every container.

    Numbers become bool, int64 (also whole floats) or float64 where that loses nothing;
    anything else becomes Python objects.
    """
    if isinstance(found, (pd.Categorical, pd.CategoricalIndex)):
        found = found.astype(found.categories.dtype)
    array = np.asarray(found)
    if array.dtype == object:
        array = _numbers_or_objects(array)
    if array.dtype.kind in "mM":
        return np.asarray(pd.Index(array).astype(object))
    if array.dtype.kind == "u" and array.size and array.max() >= 2**63:
        return array.astype(object)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        whole = (np.abs(array) < 2**63).all() and (array == np.trunc(array)).all()
        return array.astype(np.int64) if whole else array
    return array if array.dtype == bool else array.astype(object)


def _numbers_or_objects(array: NDArray[np.object_]) -> NDArray[Any]:
    """Objects as an array of numbers if all are numbers and stay exact."""
    if not _is_numbers(array):
        return array
    kind = pd.api.types.infer_dtype(array, skipna=False)
    dtype: type = {"boolean": bool, "integer": np.int64}.get(kind, np.float64)
    try:
        numbers: NDArray[Any] = array.astype(dtype)
    except OverflowError:
        return array
    return numbers if (numbers.astype(object) == array).all() else array


def _is_numbers(array: NDArray[Any]) -> bool:
    if array.dtype != object:
        return True
    kind = pd.api.types.infer_dtype(array, skipna=False)
    return kind in ("boolean", "integer", "floating", "mixed-integer-float")


def _check_hashable(values: Any, name: str) -> None:
    for row, value in enumerate(values):
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"Field {name!r} holds {value!r} in row {row}: as a category the argument must be "
                f"a string, a number or another hashable value, not {type(value).__name__}."
            ) from None
