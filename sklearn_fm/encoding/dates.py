"""One part of a column of dates as a field: its month, its hour, its age.

The part itself is encoded as a category or number by the other encoders.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .column_encoder import ColumnEncoder

__all__ = ["CycleEncoder", "DateEncoder", "as_dates", "part_of"]

_DAY = pd.Timedelta(days=1)


class DateEncoder(ColumnEncoder):
    """One part of a date, encoded by another encoder.

    Parameters
    ----------
    part : str
        One of `fields.DATE_PARTS`. "weekday" counts from Monday, 0; "age" is in days before the
        latest date of the first chunk with any, so that it means the same in all of them.
    encoder : ColumnEncoder
        What encodes the part; also names the field.
    """

    def __init__(self, part: str, encoder: ColumnEncoder) -> None:
        super().__init__(encoder.name)
        self.part = part
        self.encoder = encoder
        self._latest: Any = None

    kind = property(lambda self: self.encoder.kind)
    slots = property(lambda self: self.encoder.slots)
    pooling = property(lambda self: self.encoder.pooling)
    ordered = property(lambda self: self.encoder.ordered)

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field reads."""
        return self.encoder.vocabulary_size

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> Any:
        """Take note of the dates of a column.

        Raises
        ------
        ValueError
            If a cell is no date, or time zones are mixed.
        """
        dates = as_dates(values, self.name)
        if self.part == "age" and self._latest is None and dates.notna().any():
            self._latest = dates.max()
        self._count(dates.isna().to_numpy(), weight)
        return self.encoder.learn(self._take_part(dates), weight)

    def settle(self, *, keep: bool = False) -> None:
        """Make up codes of the part."""
        self.encoder.settle(keep=keep)

    def encode(self, draft: Any) -> NDArray[Any]:
        """Codes of a draft."""
        return self.encoder.encode(draft)

    def transform(self, values: Any) -> NDArray[Any]:
        """Return the codes of a column of dates.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_columns)

        Raises
        ------
        ValueError
            If a cell is no date, or time zones are mixed.
        """
        return self.encoder.transform(self._take_part(as_dates(values, self.name)))

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return the part, such as the month."""
        return self.encoder.inverse_transform(codes)

    def forget_rare(self) -> None:
        """Drop the categories without a code."""
        self.encoder.forget_rare()

    def _describe(self) -> dict[str, Any]:
        return {
            **self.encoder._describe(),
            "encoding": f"{self.part}: {self.encoder.describe()['encoding']}",
        }

    def _take_part(self, dates: pd.Series) -> NDArray[np.float64]:
        """The part as a number, NaN where missing."""
        if self.part != "age":
            return part_of(dates, self.part).to_numpy(dtype=np.float64, na_value=np.nan)
        # Dates that are all missing are of no time zone, whatever their dtype.
        if self._latest is None or dates.isna().all():
            return np.full(len(dates), np.nan)
        try:
            return ((self._latest - dates) / _DAY).to_numpy(dtype=np.float64)
        except TypeError:
            raise ValueError(
                f"Field {self.name!r} was fitted on dates {_zone(self._latest)}, got dates "
                f"{_zone(dates.dt)}. Convert them with .dt.tz_convert or .dt.tz_localize."
            ) from None


class CycleEncoder(ColumnEncoder):
    """A number that comes round, such as an hour, as its sine and cosine; NaN for missing.

    Parameters
    ----------
    name : str
        Name of the field.
    cycle : range
        The numbers that it runs through.
    """

    kind = "numeric"
    slots = 2
    vocabulary_size = 2

    def __init__(self, name: str, cycle: range) -> None:
        super().__init__(name)
        self.cycle = cycle

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Take note of missing numbers."""
        self._count(np.isnan(values), weight)
        return values

    def settle(self, *, keep: bool = False) -> None:
        """There is nothing to make up."""

    def _describe(self) -> dict[str, Any]:
        return {"encoding": f"sine and cosine of period {len(self.cycle)}"}

    def encode(self, draft: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sine and cosine, (n_rows, 2)."""
        angle = 2 * np.pi * (draft - self.cycle.start) / len(self.cycle)
        return np.column_stack([np.sin(angle), np.cos(angle)])

    def transform(self, values: Any) -> NDArray[np.float64]:
        """Sine and cosine, (n_rows, 2)."""
        return self.encode(values)

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the number, between whole ones if the waves are."""
        period = len(self.cycle)
        steps = np.arctan2(codes[:, 0], codes[:, 1]) * period / (2 * np.pi)
        return np.round(steps, 9) % period + self.cycle.start


def part_of(dates: pd.Series, part: str) -> pd.Series:
    """One part of dates.

    Parameters
    ----------
    dates : Series
        Datetimes.
    part : str
        One of `fields.DATE_PARTS` but "age".

    Returns
    -------
    Series
        Numbers, missing where the date is.
    """
    if part == "is_weekend":
        return (dates.dt.day_of_week >= 5).astype(np.float64).where(dates.notna())
    if part == "week":
        return dates.dt.isocalendar().week
    numbers: pd.Series = getattr(dates.dt, "day_of_week" if part == "weekday" else part)
    return numbers


def as_dates(values: Any, name: str) -> pd.Series:
    """Column as a Series of datetimes, NaT for missing.

    Parameters
    ----------
    values : ndarray or pandas extension array of shape (n_rows,)
        Datetimes of any unit and time zone, or objects that are dates.
    name : str
        Name of the field, for error messages.

    Returns
    -------
    Series
        To the microsecond.

    Raises
    ------
    ValueError
        If a cell is text, a number or anything else but a date, or time zones are mixed.
    """
    try:
        column = pd.Series(values)
    except UnicodeEncodeError:  # half a surrogate pair, which pandas' type of texts cannot hold
        column = pd.Series(values, dtype=object)
    if isinstance(column.dtype, pd.ArrowDtype):
        column = pd.Series(np.asarray(column, dtype=object))
    if column.dtype.kind != "M":
        for row, cell in column[column.notna()].items():
            if not isinstance(cell, (date, np.datetime64)):
                raise ValueError(
                    f"Field {name!r} is made of dates, but row {row} holds {cell!r} "
                    f"({type(cell).__name__}). Turn the column into dates with pandas.to_datetime, "
                    "which needs unit='s' for seconds since 1970."
                )
    try:
        return pd.to_datetime(column).dt.as_unit("us")
    except (TypeError, ValueError) as error:
        raise ValueError(f"Field {name!r} holds dates that cannot be compared: {error}") from None


def _zone(date: Any) -> str:
    return f"in time zone {date.tz}" if date.tz is not None else "without a time zone"
