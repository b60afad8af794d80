"""The distinct categories of one or several columns: counted, numbered and given codes.

It never looks at a table or a schema, and says nothing about what unknown categories become.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import HAS_KERNELS
from .cells import Cells, Coded, Column, factorize, read_cells, read_column
from .stores import ABSENT, MISSING, CellStore, Store, make_store

__all__ = ["UNKNOWN", "UNSEEN", "Vocabulary"]

UNKNOWN = -1
UNSEEN = -2  # unknown because it was never added


class Vocabulary:
    """Categories by code, in columns that may come in pieces.

    Categories are equal when Python says so (``1 == 1.0 == True``), whatever container
    they come in. So are a whole number and its text, 7 and "7" (not "007"), unless one column that
    is added holds both. Missing (None, NaN, NA, NaT) is one category, beside the others.

    Attributes
    ----------
    n_codes : int
        Number of categories with a code, the missing one included.

    See Also
    --------
    CategoryEncoder : One column as codes, with a say on unknown categories.

    Notes
    -----
    Texts and whole numbers are kept in compiled hash tables, anything else and mixtures in a
    dict; a vocabulary turns to the latter for good when a column calls for it. Look-ups may
    run in several threads at the same time, as long as none adds.
    """

    def __init__(self) -> None:
        self._store: Store = CellStore()
        self._counts = np.zeros(0)  # by number
        self._missing_count = 0.0
        self._total = 0.0
        # Code by number, then that of an absent and of a missing cell.
        self._codes = np.full(2, UNSEEN, dtype=np.int32)
        self.n_codes = 0
        self._categories: NDArray[Any] | None = None

    # -- growing -------------------------------------------------------------------------

    def add(
        self, values: Any, sample_weight: NDArray[np.float64] | None = None
    ) -> NDArray[np.int32]:
        """Count the categories of a column; new ones have no code yet.

        Parameters
        ----------
        values : array-like of shape (n_rows,)
            The column, or a piece of it, in any container.
        sample_weight : ndarray of shape (n_rows,), default=None
            Positive weights, for the counts.

        Returns
        -------
        ndarray of shape (n_rows,)
            Number of each category by first appearance in all that was added; -1 for
            missing.

        Raises
        ------
        TypeError
            If a cell cannot be hashed.
        """
        numbers = self._number(values)
        n_new = len(self._store) - len(self._counts)
        counts = np.bincount(numbers + 1, weights=sample_weight, minlength=len(self._store) + 1)
        self._counts = np.append(self._counts, np.zeros(n_new)) + counts[1:]
        self._missing_count += float(counts[0])
        self._total += float(counts.sum())
        if n_new:
            new = np.full(n_new, UNKNOWN, dtype=np.int32)
            self._codes = np.concatenate([self._codes[:ABSENT], new, self._codes[ABSENT:]])
        if counts[0]:
            self._codes[MISSING] = max(self._codes[MISSING], UNKNOWN)
        return numbers

    def assign(
        self,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Give codes to the categories that are not rare.

        Numbers get theirs in ascending order, anything else in order of first appearance,
        and missing the last.

        Parameters
        ----------
        min_frequency : int or float, default=None
            Categories of a smaller weighted count (int), or share of the total (float), are
            rare.
        max_categories : int, default=None
            Give at most ``max_categories - 1`` codes, to the most frequent categories.
        keep : bool, default=False
            Leave the codes given before, and append those of categories that are new or not
            rare any more.
        """
        n = len(self._store)
        order = self._store.order()
        if self._missing_count:
            order = np.append(order, n)
        codes = np.append(self._codes[:ABSENT], self._codes[MISSING])
        if not keep:
            self.n_codes = 0
            codes[:n] = UNKNOWN
            codes[n] = UNKNOWN if self._missing_count else UNSEEN
        counts, has_code = np.append(self._counts, self._missing_count), codes[order] >= 0
        if isinstance(min_frequency, (float, np.floating)):
            min_frequency = min_frequency * self._total
        rare = _are_rare(counts[order], has_code, min_frequency, max_categories)
        new = order[~rare & ~has_code]
        codes[new] = np.arange(self.n_codes, self.n_codes + len(new))
        self.n_codes += len(new)
        self._codes = np.insert(codes, n, np.int32(UNSEEN))
        self._categories = None

    def drop_rare(self) -> None:
        """Forget the categories without a code, to save memory: they become unseen.

        Numbers that `add` returned before mean nothing any more.
        """
        numbers = self._numbers_by_code()
        numbers = numbers[numbers != MISSING]
        self._store = self._store.take(numbers)
        self._counts = self._counts[numbers]
        self._codes = self._codes[np.append(numbers, [ABSENT, MISSING])]

    # -- codes ---------------------------------------------------------------------------

    def codes_of(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the codes of numbers from `add`.

        Parameters
        ----------
        numbers : ndarray of shape (n_rows,)
            Numbers of this vocabulary.

        Returns
        -------
        ndarray of shape (n_rows,)
            Codes; -1 for a rare category.
        """
        return self._codes[numbers]

    def look_up(self, values: Any) -> NDArray[np.int32]:
        """Return the codes of a column.

        Parameters
        ----------
        values : array-like of shape (n_rows,)
            The column, in any container.

        Returns
        -------
        ndarray of shape (n_rows,)
            Codes; -1 for a rare category, -2 for one that was never added.

        Raises
        ------
        TypeError
            If a cell cannot be hashed.
        """
        store, codes, column = self._store, self._codes, self._read(values)
        if isinstance(column, Coded):
            used, categories = column.used()
            table = np.full(len(column.categories) + 1, codes[MISSING])
            table[used] = self.look_up(categories)
            return table[column.codes]
        if isinstance(column, store.holds):
            return store.look_up(column, codes)
        rows, cells = factorize(read_cells(values))
        return np.append(store.find(cells, codes), codes[MISSING])[rows]

    def categories_of(self, codes: NDArray[Any]) -> NDArray[np.object_]:
        """Return the category of each code.

        Parameters
        ----------
        codes : ndarray of shape (n_rows,)
            Codes of this vocabulary.

        Returns
        -------
        ndarray of shape (n_rows,)
            Categories; None for -1, NaN for missing.
        """
        table = np.empty(self.n_codes + 1, dtype=object)  # the code -1 picks the last entry
        is_category = np.ones(len(table), dtype=bool)
        is_category[-1] = False
        if self.missing_code >= 0:
            table[self.missing_code] = np.nan
            is_category[self.missing_code] = False
        table[is_category] = self.categories
        return table[codes.astype(np.intp)]

    def first_categories(self, n: int) -> list[Any]:
        """Return the categories of the first codes, missing left out, without making all."""
        numbers = self._numbers_by_code()
        return self._store.keys(numbers[numbers != MISSING][:n]).tolist()

    # -- contents ------------------------------------------------------------------------

    @property
    def categories(self) -> NDArray[Any]:
        """Categories in the order of their codes, without missing: bool, int64, float64, object."""
        if self._categories is None:
            numbers = self._numbers_by_code()
            self._categories = self._store.keys(numbers[numbers != MISSING])
        return self._categories

    @property
    def counts(self) -> NDArray[np.float64]:
        """Weighted count of each code."""
        return np.append(self._counts, self._missing_count)[self._numbers_by_code()]

    @property
    def total(self) -> float:
        """Weight of all cells added, those of rare categories that were dropped too."""
        return self._total

    @property
    def missing_code(self) -> int:
        """Code of missing: -1 where it is rare, -2 where none was added."""
        return int(self._codes[MISSING])

    @property
    def n_distinct(self) -> int:
        """Number of categories added, rare ones and missing included."""
        return len(self._store) + bool(self._missing_count)

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use, apart from `categories`."""
        return self._store.nbytes + self._counts.nbytes + self._codes.nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_categories": None}

    # -- implementation ------------------------------------------------------------------

    def _number(self, values: Any) -> NDArray[np.int32]:
        """Number the rows, in a store that can hold them."""
        column = self._read(values)
        if isinstance(column, Coded):
            used, categories = column.used()
            table = np.full(len(column.categories) + 1, MISSING, dtype=np.int32)
            table[used] = self._number(categories)
            return table[column.codes]
        if not isinstance(column, Cells) and column.is_all_missing:  # says nothing about a kind
            return np.full(column.n_rows, MISSING, dtype=np.int32)
        if isinstance(column, self._store.holds):
            return self._store.add(column)
        if not len(self._store):
            self._store = make_store(column)
            return self._store.add(column)
        rows, cells = factorize(read_cells(values))
        if not cells:
            return np.full(len(rows), MISSING, dtype=np.int32)
        own = self._store.as_own(cells)
        if own is None:
            self._store = CellStore(self._store.keys().tolist())
            return self._store.add(Cells(read_cells(values)))
        return np.append(self._store.add(own), np.int32(MISSING))[rows]

    def _read(self, values: Any) -> Column:
        """Find out what a column holds, if that matters to the store."""
        is_general = isinstance(self._store, CellStore) and len(self._store)
        return Cells(read_cells(values)) if is_general or not HAS_KERNELS else read_column(values)

    def _numbers_by_code(self) -> NDArray[np.intp]:
        numbers = np.full(self.n_codes, MISSING, dtype=np.intp)
        with_code = np.flatnonzero(self._codes[:ABSENT] >= 0)
        numbers[self._codes[with_code]] = with_code
        return numbers


def _are_rare(
    counts: NDArray[Any],
    has_code: NDArray[np.bool_],
    min_frequency: float | None,
    max_categories: int | None,
) -> NDArray[np.bool_]:
    """Which categories are rare; none that has a code."""
    rare = np.zeros(len(counts), dtype=bool)
    if min_frequency is not None:
        rare = counts < min_frequency
    rare &= ~has_code
    n_rows = len(counts) - rare.sum() + 1  # with the unknown row
    if max_categories is not None and n_rows > max_categories:
        by_count = np.argsort(np.where(has_code, np.inf, counts), kind="stable")
        rare[by_count[: len(counts) - max_categories + 1]] = True
        rare &= ~has_code
    return rare
