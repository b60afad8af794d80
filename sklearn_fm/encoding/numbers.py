"""One column of numbers as numbers: scaled, or as waves over their ranks.

It does not parse text, does not impute, and chooses no columns.
"""

from __future__ import annotations

import copy
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from .column_encoder import ColumnEncoder
from .exact import as_distances, find_origin
from .sketch import Sketch

__all__ = ["NumberEncoder", "WaveEncoder", "as_numbers"]

NUMBER_TYPES = (float, int, type(None), Real, Decimal, np.bool_)  # None is a missing number
PANDAS_MISSING = {type(pd.NA), type(pd.NaT)}

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LARGEST_LOG = np.log(np.finfo(np.float64).max)


class NumberEncoder(ColumnEncoder):
    """One numeric field: the number itself, scaled if so wished; missing stays NaN.

    If fit saw missing numbers, a second slot says whether the number is missing (1 or 0).

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    scaler : {"log"}, scikit-learn transformer or None, default=None
        "log" standardizes ``sign(x) * log1p(|x|)``. A transformer is cloned, and fitted on
        and applied to the numbers that are present, as one column. None changes nothing.
    missing_indicator : bool, default=True
        Whether to have the second slot.

    Attributes
    ----------
    scaler_ : transformer or None
        The fitted scaler; None without one, or when fit saw no number at all, in which
        case every number becomes NaN.
    vocabulary_size : int
        Its slots: a numeric field owns one row of the table for each.
    """

    kind = "numeric"

    def __init__(self, name: str, *, scaler: Any = None, missing_indicator: bool = True) -> None:
        super().__init__(name)
        self.scaler = scaler
        self.missing_indicator = missing_indicator
        self.scaler_: Any = None
        self._newest: Any = None  # fitted to all chunks
        self._is_behind = False  # or not to all, because it cannot

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field owns."""
        return self.slots

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Fit the scaler, or fit it further, to the numbers of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        weight : ndarray of shape (n_rows,), default=None
            Positive weights, for a scaler whose `fit` takes them.

        Returns
        -------
        ndarray of shape (n_rows,)
            The numbers.

        Raises
        ------
        ValueError
            If the column holds text or infinity.
        """
        numbers = as_numbers(values, self.name)
        present = ~np.isnan(numbers)
        self._count(~present, weight)
        if self.scaler is None or not present.any():
            return numbers
        is_first = self._newest is None
        if is_first:
            self._newest = StandardScaler() if self._is_log else clone(self.scaler)
        elif not hasattr(self._newest, "partial_fit"):
            self._is_behind = True
            return numbers
        elif self._newest is self.scaler_:  # which may be kept
            self._newest = copy.deepcopy(self.scaler_)
        options = {}
        if weight is not None and has_fit_parameter(self._newest, "sample_weight"):
            options["sample_weight"] = weight[present]
        fit = self._newest.fit if is_first else self._newest.partial_fit
        fit(self._before(numbers[present, None]), **options)
        return numbers

    def settle(self, *, keep: bool = False) -> None:
        """Take the scaler, unless one is to be kept, and decide on a slot for missing.

        Raises
        ------
        AttributeError
            If the scaler is to know a second chunk, but has no `partial_fit`.
        """
        if not (keep and self.scaler_ is not None):
            if self._is_behind:
                raise AttributeError(
                    f"The scaler {self.scaler!r} of field {self.name!r} has no partial_fit, so it "
                    "can be fitted to one chunk only, which keep_codes=True leaves at that."
                )
            self.scaler_ = self._newest
        if not keep:
            self.slots = 2 if self.n_missing and self.missing_indicator else 1

    def encode(self, draft: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled numbers, and whether they are missing if there is a slot for it.

        Raises
        ------
        ValueError
            If the scaler does not give one finite number for each.
        """
        scaled = self._scale(draft)
        return scaled if self.slots == 1 else np.column_stack([scaled, np.isnan(draft)])

    def transform(self, values: Any) -> NDArray[np.float64]:
        """Return the scaled numbers of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, 2)
            Scaled numbers, NaN where missing.

        Raises
        ------
        ValueError
            If the column holds text or infinity, or the scaler does not give one finite
            number for each.
        """
        return self.encode(as_numbers(values, self.name))

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the numbers before scaling.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, n_columns)
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
        numbers = np.array(codes.reshape(len(codes), -1)[:, 0], dtype=np.float64)
        present = ~np.isnan(numbers)
        if self.scaler_ is not None and present.any():
            column = np.asarray(self.scaler_.inverse_transform(numbers[present, None]))[:, 0]
            if self._is_log:
                column = np.sign(column) * np.expm1(np.minimum(np.abs(column), _LARGEST_LOG))
            numbers[present] = column
        return numbers

    # -- implementation ------------------------------------------------------------------

    def _describe(self) -> dict[str, Any]:
        how = "as it is" if self.scaler is None else f"scaled by {self.scaler!r}"
        return {"encoding": how + ", missing or not" * (self.slots > 1)}

    @property
    def _is_log(self) -> bool:
        return isinstance(self.scaler, str)

    def _before(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sign(column) * np.log1p(np.abs(column)) if self._is_log else column

    def _scale(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
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


class WaveEncoder(ColumnEncoder):
    """A number as sines and cosines of its rank, so that its embedding is a smooth curve.

    With u in [0, 1] the share of the numbers in fit that are smaller, or equal for a half,
    slots hold sin(pi j u) and cos(pi j u) for j = 1 .. n_waves. The paper trains frequencies on
    standardized numbers; these are fixed, and ranks need no scale. If fit saw missing
    numbers a last slot says whether the number is missing, in which case the others are 0.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    n_waves : int, default=4
        Number of frequencies.

    Attributes
    ----------
    origin : int
        What numbers are counted from: 0, or the least of whole numbers too large for float64.

    References
    ----------
    Gorishniy, Rubachev, Babenko (2022), On embeddings for numerical features in tabular deep
    learning, NeurIPS. arXiv:2203.05556
    """

    kind = "numeric"

    def __init__(self, name: str, *, n_waves: int = 4) -> None:
        super().__init__(name)
        self.n_waves = n_waves
        self.knots: NDArray[np.float64] = np.empty(0)
        self.ranks: NDArray[np.float64] = np.empty(0)
        self._sketch = Sketch()
        self.origin = 0

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field owns."""
        return self.slots

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Take note of the numbers of a column."""
        if not self.n_rows:
            self.origin = find_origin(values)
        numbers = self._read(values)
        missing = np.isnan(numbers)
        self._count(missing, weight)
        self._sketch.add(numbers[~missing], None if weight is None else weight[~missing])
        return numbers

    def settle(self, *, keep: bool = False) -> None:
        """Summarize the ranks, and decide whether there is a slot for missing."""
        if not (keep and len(self.knots)):
            ends = self._sketch.quantiles(256)
            self.knots = self._sketch.numbers[ends]
            reached = np.cumsum(self._sketch.weights)[ends]
            middle = reached - np.diff(reached, prepend=0.0) / 2
            self.ranks = middle / (reached[-1] if len(reached) else 1.0)
            self.slots = 2 * self.n_waves + bool(self.n_missing)
        self._sketch.shorten()

    def encode(self, draft: NDArray[np.float64]) -> NDArray[np.float64]:
        """Waves of (n_rows, n_slots)."""
        missing = np.isnan(draft)
        out = np.zeros((len(draft), self.slots))
        if len(self.knots):
            rank = np.interp(draft[~missing], self.knots, self.ranks)
            angle = np.pi * rank[:, None] * np.arange(1, self.n_waves + 1)
            waves = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
            out[~missing, : 2 * self.n_waves] = waves
        if self.slots > 2 * self.n_waves:
            out[:, -1] = missing
        return out

    def transform(self, values: Any) -> NDArray[np.float64]:
        """Return the waves of a column."""
        return self.encode(self._read(values))

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the numbers, as far as their rank tells; NaN where missing."""
        sine, cosine = codes[:, 0], codes[:, self.n_waves]
        rank = np.arctan2(sine, cosine) / np.pi
        numbers = np.interp(rank, self.ranks, self.knots) if len(self.knots) else rank * np.nan
        return self.origin + np.where((sine == 0) & (cosine == 0), np.nan, numbers)

    def _read(self, values: Any) -> NDArray[np.float64]:
        return as_distances(values, as_numbers(values, self.name), self.origin)

    def _describe(self) -> dict[str, Any]:
        how = f"{self.n_waves} sines and cosines of the rank"
        return {"encoding": how, "bytes": self._sketch.nbytes}


def as_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """Column as float64 numbers, durations in seconds, NaN for missing.

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
        If a cell is text, a date, a complex number, infinite or too large.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = np.asarray(values)
    if values.dtype.kind == "m":
        numbers = _seconds(np.asarray(values))
    elif not pd.api.types.is_numeric_dtype(values.dtype):  # bool counts as numeric
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
    if pd.api.types.infer_dtype(values, skipna=True) == "timedelta":
        return _seconds(pd.to_timedelta(values).to_numpy())
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
    try:
        return values.astype(np.float64)  # None becomes NaN
    except (OverflowError, ValueError):  # an int beyond 1e308, or a NaN that signals
        row = next(row for row, value in enumerate(values) if not _is_float(value))
        raise ValueError(
            f"Field {name!r} holds a number in row {row} that float64 cannot hold."
        ) from None


def _seconds(durations: NDArray[np.timedelta64]) -> NDArray[np.float64]:
    """Durations in seconds, the same from any unit."""
    unit = np.datetime_data(durations.dtype)[0]
    if unit not in _PER_SECOND:
        durations, unit = durations.astype("m8[s]"), "s"
    ticks, per_second = durations.astype(np.int64), _PER_SECOND[unit]
    rest = np.fmod(ticks, per_second)  # of the sign of ticks
    return np.where(np.isnat(durations), np.nan, (ticks - rest) // per_second + rest / per_second)


def _is_float(value: Any) -> bool:
    try:
        return value is None or isinstance(float(value), float)
    except (OverflowError, ValueError):
        return False
