"""One column of numbers as codes of quantile bins, or as scaled numbers.

It does not parse text, does not impute, and chooses no columns.
"""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

__all__ = ["BinEncoder", "NumberEncoder", "as_numbers"]

UNKNOWN = -1
NUMBER_TYPES = (float, int, type(None), Real, Decimal, np.bool_)  # None is a missing number
PANDAS_MISSING = {type(pd.NA), type(pd.NaT)}


class BinEncoder:
    """Codes of one binned field: the numbers are cut at weighted quantiles.

    Bin b holds the numbers x with ``upper[b - 1] < x <= upper[b]``, where upper[b] is the
    smallest number seen with which the bin holds its share: the weight not yet in a bin
    over the number of bins left. So a heavy number is not split, and what it takes beyond
    its share leaves narrower bins for the others; with at most `n_bins` distinct numbers
    each has a bin of its own. The first and the last bin are open to the outside.
    Missing has the code after the last bin if fit saw it.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    n_bins : int, default=20
        Upper limit to the number of bins.
    handle_unknown : {"unknown", "error"}, default="unknown"
        What to do with a missing number when fit saw none.

    Attributes
    ----------
    upper : ndarray of shape (n_bins,)
        Largest number of each bin.
    medians : ndarray of shape (n_bins,)
        Weighted (lower) median of each bin, its representative in `inverse_transform`.
    vocabulary_size : int
        Rows of the table that the field owns: one for unknown and one per code.
    """

    kind = "binned"

    def __init__(self, name: str, *, n_bins: int = 20, handle_unknown: str = "unknown") -> None:
        self.name = name
        self.n_bins = n_bins
        self.handle_unknown = handle_unknown
        self.upper: NDArray[np.float64] = np.empty(0)
        self.medians: NDArray[np.float64] = np.empty(0)
        self._missing = UNKNOWN

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field owns."""
        return 1 + len(self.upper) + (self._missing >= 0)

    def fit_transform(
        self, values: Any, sample_weight: NDArray[np.float64] | None = None
    ) -> NDArray[np.int32]:
        """Learn the bins and return the codes.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        sample_weight : ndarray of shape (n_rows,), default=None
            Positive weights; integers give the bins of rows repeated as often.

        Returns
        -------
        ndarray of shape (n_rows,)
            Codes.

        Raises
        ------
        ValueError
            If the column holds text or infinity.
        """
        numbers = as_numbers(values, self.name)
        present = ~np.isnan(numbers)
        if sample_weight is not None:
            sample_weight = sample_weight[present]
        distinct, weights = _weighted_distinct(numbers[present], sample_weight)
        cumulative = np.cumsum(weights)
        ends = np.arange(len(distinct))
        if len(distinct) > self.n_bins:
            ends = _quantile_ends(cumulative, self.n_bins)
        reached = cumulative[ends]
        before = np.append(0.0, reached[:-1])[: len(ends)]
        self.upper = distinct[ends]
        self.medians = distinct[np.searchsorted(2 * cumulative, before + reached)]
        self._missing = UNKNOWN if present.all() else len(self.upper)
        return self._encode(numbers)

    def transform(self, values: Any) -> NDArray[np.int32]:
        """Return the codes of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,)
            Codes; -1 for missing numbers when fit saw none.

        Raises
        ------
        ValueError
            If the column holds text or infinity, or something that has no code and
            ``handle_unknown="error"``.
        """
        codes = self._encode(as_numbers(values, self.name))
        if self.handle_unknown == "error" and (codes == UNKNOWN).any():
            row = int(np.argmax(codes == UNKNOWN))
            raise ValueError(
                f"Field {self.name!r} holds {values[row]} in row {row}, but fit saw "
                f"{'only' if self._missing >= 0 else 'no'} missing numbers. "
                "Pass handle_unknown='unknown' to let it share the unknown row."
            )
        return codes

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the representative of each code.

        Parameters
        ----------
        codes : ndarray of shape (n_rows,)
            Codes of this field.

        Returns
        -------
        ndarray of shape (n_rows,)
            Weighted median of the bin; NaN for missing and unknown.
        """
        # The code of missing and -1 for unknown both pick the NaN at the end.
        return np.append(self.medians, np.nan)[codes.astype(np.intp)]

    def _encode(self, numbers: NDArray[np.float64]) -> NDArray[np.int32]:
        if not len(self.upper):
            return np.where(np.isnan(numbers), self._missing, UNKNOWN).astype(np.int32)
        codes = np.searchsorted(self.upper[:-1], numbers).astype(np.int32)
        codes[np.isnan(numbers)] = self._missing
        return codes


class NumberEncoder:
    """One numeric field: the number itself, scaled if so wished; missing stays NaN.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    scaler : {"log"}, scikit-learn transformer or None, default=None
        "log" standardizes ``sign(x) * log1p(|x|)``. A transformer is cloned, and fitted on
        and applied to the numbers that are present, as one column. None changes nothing.

    Attributes
    ----------
    scaler_ : transformer or None
        The fitted scaler; None without one, or when fit saw no number at all, in which
        case every number becomes NaN.
    vocabulary_size : int
        Always 1: a numeric field owns one row of the table.
    """

    kind = "numeric"
    vocabulary_size = 1

    def __init__(self, name: str, *, scaler: Any = None) -> None:
        self.name = name
        self.scaler = scaler
        self.scaler_: Any = None

    def fit_transform(
        self, values: Any, sample_weight: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Fit the scaler and return the scaled numbers.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        sample_weight : ndarray of shape (n_rows,), default=None
            Positive weights, for a scaler whose `fit` takes them.

        Returns
        -------
        ndarray of shape (n_rows,)
            Scaled numbers, NaN where missing.

        Raises
        ------
        ValueError
            If the column holds text or infinity, or the scaler does not give one finite
            number for each.
        """
        numbers = as_numbers(values, self.name)
        present = ~np.isnan(numbers)
        self.scaler_ = None
        if self.scaler is not None and present.any():
            scaler = StandardScaler() if self.scaler == "log" else clone(self.scaler)
            column = numbers[present, None]
            if sample_weight is not None and has_fit_parameter(scaler, "sample_weight"):
                scaler.fit(self._before(column), sample_weight=sample_weight[present])
            else:
                scaler.fit(self._before(column))
            self.scaler_ = scaler
        return self._encode(numbers)

    def transform(self, values: Any) -> NDArray[np.float64]:
        """Return the scaled numbers of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,)
            Scaled numbers, NaN where missing.

        Raises
        ------
        ValueError
            If the column holds text or infinity, or the scaler does not give one finite
            number for each.
        """
        return self._encode(as_numbers(values, self.name))

    def inverse_transform(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """Return the numbers before scaling.

        Parameters
        ----------
        scaled : ndarray of shape (n_rows,)
            Numbers of this field.

        Returns
        -------
        ndarray of shape (n_rows,)
            Numbers, NaN where missing.

        Raises
        ------
        AttributeError
            If the scaler has no inverse.
        """
        numbers = np.array(scaled, dtype=np.float64)
        present = ~np.isnan(numbers)
        if self.scaler_ is not None and present.any():
            column = np.asarray(self.scaler_.inverse_transform(numbers[present, None]))[:, 0]
            if self._is_log:
                column = np.sign(column) * np.expm1(np.abs(column))
            numbers[present] = column
        return numbers

    # -- implementation ------------------------------------------------------------------

    @property
    def _is_log(self) -> bool:
        return isinstance(self.scaler, str)

    def _before(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(column) * np.log1p(np.abs(column)) if self._is_log else column

    def _encode(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scaler is None:
            return numbers
        if self.scaler_ is None:
            return np.full_like(numbers, np.nan)
        if self._is_log:  # by hand, because StandardScaler.transform is slow on a single row
            return (self._before(numbers) - self.scaler_.mean_) / self.scaler_.scale_
        present = ~np.isnan(numbers)
        scaled = np.full_like(numbers, np.nan)
        if not present.any():
            return scaled
        column = np.asarray(self.scaler_.transform(numbers[present, None]))
        if column.shape != (present.sum(), 1):
            raise ValueError(
                f"The scaler {self.scaler_!r} must give one column for field {self.name!r}, "
                f"an array of shape ({present.sum()}, 1), but it gave shape {column.shape}."
            )
        scaled[present] = column[:, 0]
        if np.isinf(scaled).any():
            raise ValueError(
                f"The scaler {self.scaler_!r} made {numbers[np.argmax(np.isinf(scaled))]} "
                f"infinite in field {self.name!r}. Choose one that keeps it finite."
            )
        return scaled


def as_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """Column as float64 numbers, NaN for missing.

    Parameters
    ----------
    values : ndarray or pandas extension array of shape (n_rows,)
        The column.
    name : str
        Name of the field, for error messages.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If a cell is text, a date, a complex number or infinite.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = np.asarray(values)
    if not pd.api.types.is_numeric_dtype(values.dtype):  # bool counts as numeric
        numbers = _objects_as_numbers(np.asarray(values, dtype=object), name)
    elif values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: field {name!r} has dtype {values.dtype}.")
    elif isinstance(values, np.ndarray):
        numbers = values.astype(np.float64)
    else:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        row = int(np.argmax(np.isinf(numbers)))
        raise ValueError(
            f"Field {name!r} holds infinity in row {row}. Numbers must be finite; write NaN for "
            "a missing one."
        )
    return numbers


def _objects_as_numbers(values: NDArray[np.object_], name: str) -> NDArray[np.float64]:
    """Objects that all are numbers or missing as floats: text is never parsed."""
    types = set(map(type, values.tolist()))
    if not types.isdisjoint(PANDAS_MISSING):
        values = np.where(pd.isna(values), np.nan, values)
        types -= PANDAS_MISSING
    text = {kind for kind in types if not issubclass(kind, NUMBER_TYPES)}
    for row, value in enumerate(values if text else ()):
        if type(value) in text:
            raise ValueError(
                f"Field {name!r} is numeric, but row {row} holds {value!r} "
                f"({type(value).__name__}). Turn the column into numbers, or list it under "
                "categorical=."
            )
    return values.astype(np.float64)  # None becomes NaN


def _quantile_ends(cumulative: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    """Positions of the last distinct number of each bin, from their cumulative weights."""
    ends: list[int] = []
    filled = 0.0
    for left in range(n_bins, 0, -1):
        # cumulative >= filled + (total - filled) / left, multiplied out: exact for integers.
        goal = filled * (left - 1) + cumulative[-1]
        ends.append(int(np.searchsorted(cumulative * left, goal)))
        filled = cumulative[ends[-1]]
        if ends[-1] == len(cumulative) - 1:
            break
    return np.array(ends)


def _weighted_distinct(
    numbers: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distinct numbers in ascending order, with the sum of each one's weights."""
    numbers = numbers + 0.0  # -0.0 becomes 0.0
    if weights is None:
        distinct, counts = np.unique(numbers, return_counts=True)
        return distinct, counts.astype(np.float64)
    # Equal numbers are sorted by weight too: sums do not depend on the order of rows.
    order = np.lexsort((weights, numbers))
    numbers = numbers[order]
    is_first = np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)]
    starts = np.flatnonzero(is_first)
    return numbers[starts], np.add.reduceat(weights[order], starts)
