"""One column of numbers as codes of bins, or as a point between two knots.

Numbers that stay numbers are the business of ``numbers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import HAS_KERNELS
from .column_encoder import UNKNOWN, ColumnEncoder
from .exact import as_distances, find_origin
from .numbers import as_numbers
from .sketch import Sketch

__all__ = ["BinEncoder", "KnotEncoder"]


class _CutEncoder(ColumnEncoder):
    """What encoders share that cut the range of a column's numbers.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    n_bins : int
        Upper limit to the number of pieces.
    handle_unknown : {"unknown", "error"}
        What to do with a missing number when fit saw none.

    Attributes
    ----------
    origin : int
        What numbers are counted from: 0, or the least of whole numbers too large for float64.
    """

    kind = "binned"
    _counts_from_origin = True

    def __init__(self, name: str, n_bins: int, handle_unknown: str) -> None:
        super().__init__(name)
        self.n_bins = n_bins
        self.handle_unknown = handle_unknown
        self._n_codes = 0  # without that of missing
        self._missing = UNKNOWN
        self._is_cut = False
        self._sketch = Sketch()
        self.origin = 0

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field owns: one for unknown and one per code."""
        return 1 + self._n_codes + (self._missing >= 0)

    @property
    def ordered(self) -> int:  # type: ignore[override]
        """Codes of the pieces, which follow one another; that of missing comes after them."""
        return self._n_codes

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Take note of the numbers of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        weight : ndarray of shape (n_rows,), default=None
            Positive weights; integers give the bins of rows repeated as often.

        Returns
        -------
        ndarray of shape (n_rows,)
            The numbers, counted from `origin`.

        Raises
        ------
        ValueError
            If the column holds text or infinity.
        """
        if not self.n_rows and self._counts_from_origin:
            self.origin = find_origin(values)
        numbers = as_distances(values, as_numbers(values, self.name), self.origin)
        missing = np.isnan(numbers)
        self._count(missing, weight)
        self._sketch.add(numbers[~missing], None if weight is None else weight[~missing])
        return numbers

    def settle(self, *, keep: bool = False) -> None:
        """Cut, unless cuts made before are to be kept; missing comes after all pieces."""
        if not (keep and self._is_cut):
            self._n_codes = self._cut(self._sketch)
            self._missing = UNKNOWN
            self._is_cut = True
        if self.n_missing:
            self._missing = self._n_codes
        self._sketch.shorten()

    def _cut(self, sketch: Sketch) -> int:
        """Choose where to cut; return the number of codes."""
        raise NotImplementedError

    def transform(self, values: Any) -> NDArray[Any]:
        """Return the codes of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_columns)
            Codes; -1 for missing numbers when fit saw none.

        Raises
        ------
        ValueError
            If the column holds text or infinity, or something that has no code and
            ``handle_unknown="error"``.
        """
        numbers = as_distances(values, as_numbers(values, self.name), self.origin)
        if self.handle_unknown == "error":
            is_missing = np.isnan(numbers)
            bad = ~is_missing if not self._n_codes else is_missing & (self._missing < 0)
            if bad.any():
                row = int(np.argmax(bad))
                raise ValueError(
                    f"Field {self.name!r} holds {values[row]} in row {row}, but fit saw "
                    f"{'only' if self._missing >= 0 else 'no'} missing numbers. "
                    "Pass handle_unknown='unknown' to let it share the unknown row."
                )
        return self.encode(numbers)


class BinEncoder(_CutEncoder):
    """Codes of one binned field.

    Bin b holds the numbers x with ``upper[b - 1] < x <= upper[b]``; the first and the last are
    open to the outside. Missing has the code after the last bin if fit saw it.

    With the strategy "quantile", upper[b] is the smallest number seen with which the bin
    holds its share: the weight not yet in a bin over the number of bins left. So a heavy
    number is not split, and what it takes beyond its share leaves narrower bins for the
    others; with at most `n_bins` distinct numbers each has a bin of its own. "uniform" cuts
    the range into pieces of equal length. "log" gives a bin to each whole number up to 2 and
    beyond to each value of floor(log(x)^2), and likewise below 0, without a limit to their
    number.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    n_bins : int, default=20
        Upper limit to the number of bins.
    strategy : {"quantile", "uniform", "log"}, default="quantile"
        Where to cut.
    handle_unknown : {"unknown", "error"}, default="unknown"
        What to do with a missing number when fit saw none.

    Attributes
    ----------
    upper : ndarray of shape (n_bins,)
        Largest number of each bin, counted from `origin`; its floor(log(x)^2) for "log".
    medians : ndarray of shape (n_bins,)
        Likewise, weighted (lower) median of each bin, its representative in
        `inverse_transform`; the largest number of a "uniform" bin that is empty.
    origin : int
        0, or the least number where float64 would make different whole numbers one.
    vocabulary_size : int
        Rows of the table that the field owns: one for unknown and one per code.

    References
    ----------
    "log": Juan, Zhuang, Chin (2014), 3 idiots' approach for the display advertising challenge.
    """

    def __init__(
        self,
        name: str,
        *,
        n_bins: int = 20,
        strategy: str = "quantile",
        handle_unknown: str = "unknown",
    ) -> None:
        super().__init__(name, n_bins, handle_unknown)
        self.strategy = strategy
        self._counts_from_origin = strategy != "log"
        self.upper: NDArray[np.float64] = np.empty(0)
        self.medians: NDArray[np.float64] = np.empty(0)

    def _cut(self, sketch: Sketch) -> int:
        numbers, cumulative = sketch.numbers, np.cumsum(sketch.weights)
        places = _log_bin(numbers) if self.strategy == "log" else numbers
        if self.strategy == "quantile" or not len(numbers):
            upper = numbers[sketch.quantiles(self.n_bins)]
        elif self.strategy == "log":
            upper = np.unique(places)
        else:
            least, most = numbers[0], numbers[-1]
            upper = 2 * np.linspace(least / 2, most / 2, self.n_bins + 1)[1:]  # without overflow
            upper = np.append(np.clip(upper[:-1], least, most), most)
        ends = np.searchsorted(places, upper, side="right") - 1
        self.upper = upper
        reached = cumulative[ends]
        before = np.append(0.0, reached[:-1])[: len(ends)]
        medians = numbers[np.searchsorted(cumulative, before / 2 + reached / 2)]
        self.medians = np.where(reached > before, medians, upper)
        return len(upper)

    def encode(self, draft: NDArray[np.float64]) -> NDArray[np.int32]:
        """Codes of numbers."""
        if not len(self.upper):
            return np.where(np.isnan(draft), self._missing, UNKNOWN).astype(np.int32)
        places = _log_bin(draft) if self.strategy == "log" else draft
        if HAS_KERNELS:
            from ..kernels.cells.bins import place

            codes = np.empty(len(draft), dtype=np.int32)
            place(places, self.upper, self._missing, codes)
            return codes
        codes = np.searchsorted(self.upper[:-1], places).astype(np.int32)
        codes[np.isnan(draft)] = self._missing
        return codes

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the representative of each code.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, 1)
            Codes of this field.

        Returns
        -------
        ndarray of shape (n_rows,)
            Weighted median of the bin; NaN for missing and unknown.
        """
        # The code of missing and -1 for unknown both pick the NaN at the end.
        return self.origin + np.append(self.medians, np.nan)[codes.ravel().astype(np.intp)]

    def _describe(self) -> dict[str, Any]:
        how = f"{len(self.upper)} {self.strategy} bins"
        return {"encoding": how, "bytes": self._sketch.nbytes}


class KnotEncoder(_CutEncoder):
    """A number as a point between two knots, so that its embedding is piecewise linear in it.

    Knots are the least number and the weighted quantiles; x between the knots a < b gets
    the codes of both with values (b - x) / (b - a) and (x - a) / (b - a), and beyond the
    outermost knots the code of that knot. Missing has the code after the last knot.

    This spans the functions of the piecewise linear encoding of the paper, in a basis that has
    two entries per number instead of one per bin; the prior is on the embeddings at the
    knots rather than on their differences.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    n_bins : int, default=20
        Upper limit to the number of pieces.
    handle_unknown : {"unknown", "error"}, default="unknown"
        What to do with a missing number when fit saw none.

    Attributes
    ----------
    knots : ndarray of shape (n_knots,)
        Ascending, counted from `origin`.
    origin : int
        0, or the least number where float64 would make different whole numbers one.

    References
    ----------
    Gorishniy, Rubachev, Babenko (2022), On embeddings for numerical features in tabular deep
    learning, NeurIPS. arXiv:2203.05556
    """

    slots = 2
    pooling = "weighted"

    def __init__(self, name: str, *, n_bins: int = 20, handle_unknown: str = "unknown") -> None:
        super().__init__(name, n_bins, handle_unknown)
        self.knots: NDArray[np.float64] = np.empty(0)

    def _cut(self, sketch: Sketch) -> int:
        ends = sketch.quantiles(self.n_bins)
        self.knots = np.unique(np.append(sketch.numbers[:1], sketch.numbers[ends]))
        return len(self.knots)

    def encode(self, draft: NDArray[np.float64]) -> NDArray[np.float64]:
        """Codes of both knots and their values, (n_rows, 4)."""
        out = np.zeros((len(draft), 4))
        missing = np.isnan(draft)
        out[missing, :2], out[missing, 2] = self._missing, 1
        if not len(self.knots):
            out[~missing, :2], out[~missing, 2] = UNKNOWN, 1
            return out
        numbers = draft[~missing]
        above = np.clip(np.searchsorted(self.knots, numbers), 1, max(len(self.knots) - 1, 1))
        above = np.minimum(above, len(self.knots) - 1)
        below = np.maximum(above - 1, 0)
        half = self.knots / 2  # whose differences do not overflow
        width = half[above] - half[below]
        with np.errstate(over="ignore"):  # between knots of subnormal distance
            share = np.clip((numbers / 2 - half[below]) / np.where(width > 0, width, np.inf), 0, 1)
        out[~missing] = np.column_stack([below, above, 1 - share, share])
        return out

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the number between the knots; NaN for missing and unknown."""
        knots = np.append(self.knots, np.nan)  # for missing and -1
        at = codes[:, :2].astype(np.intp)
        low, high, share = knots[at[:, 0]], knots[at[:, 1]], codes[:, 3]
        return self.origin + (1 - share) * low + share * high

    def _describe(self) -> dict[str, Any]:
        how = f"piecewise linear, {len(self.knots)} knots"
        return {"encoding": how, "bytes": self._sketch.nbytes}


def _log_bin(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole number that grows with x: x itself rounded down up to 2, then floor(log(x)^2) + 3."""
    size = np.abs(numbers)
    with np.errstate(invalid="ignore", divide="ignore"):
        bin_of_size = np.where(size <= 2, np.floor(size), np.floor(np.log(size) ** 2) + 3)
    return np.copysign(bin_of_size, numbers) + 0.0
