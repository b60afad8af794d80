"""One column of categories as integer codes, by a vocabulary learned from data or by a hash.

It does not choose columns and checks no parameters; ``plan`` and ``fields`` do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .column_encoder import UNKNOWN, ColumnEncoder
from .hashing import hash_codes
from .vocabulary import UNSEEN, Vocabulary

__all__ = ["CategoryEncoder", "HashEncoder"]


class CategoryEncoder(ColumnEncoder):
    """Codes of one categorical field.

    Categories are equal when Python says so (``1 == 1.0 == True``), whatever container
    they come in, and so are a whole number and its text (see `Vocabulary`). Numbers are coded
    in ascending order, anything else in order of first appearance; missing (None, NaN, NA,
    NaT) is one more category, the last.

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
    hash_buckets : int, default=None
        Number of categories beyond which a hash should take the place of this encoder, which
        only says so.
    n_hashes : int, default=1
        What that hash should do.
    vocabulary : Vocabulary, default=None
        Vocabulary to share with other fields; its own when omitted.
    vocabulary_name : str, default=None
        Its name; that of the field when omitted.

    Attributes
    ----------
    known : Vocabulary
        The categories with their counts.
    vocabulary : ndarray of shape (n_categories,)
        Categories in the order of their codes, without missing: bool, int64, float64 or object.
    vocabulary_size : int
        Rows of the table that the field owns: one for unknown and one per code.
    rare_share : float
        Share of the weight in fit whose categories are too rare for a code.
    has_warned : bool
        Whether `warn_of_unknown` has warned of its columns; copies have not.
    """

    def __init__(
        self,
        name: str,
        *,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        handle_unknown: str = "unknown",
        hash_buckets: int | None = None,
        n_hashes: int = 1,
        vocabulary: Vocabulary | None = None,
        vocabulary_name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.hash_buckets = hash_buckets
        self.n_hashes = n_hashes
        self.known = Vocabulary() if vocabulary is None else vocabulary
        self._vocabulary_name = vocabulary_name or name
        self.rare_share = 0.0
        self.has_warned = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "has_warned": False}

    @property
    def vocabulary_name(self) -> str:
        """Name of the vocabulary."""
        return self._vocabulary_name

    @property
    def is_too_large(self) -> bool:
        """Whether there are more categories than wanted."""
        return bool(self.hash_buckets) and self.known.n_distinct > int(self.hash_buckets or 0)

    @property
    def vocabulary(self) -> NDArray[Any]:
        """Categories in the order of their codes, without missing."""
        return self.known.categories

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field owns."""
        return 1 + self.known.n_codes

    def learn(
        self,
        values: Any,
        weight: NDArray[np.float64] | None = None,
        rows: NDArray[np.intp] | None = None,
    ) -> NDArray[np.int32]:
        """Count the categories of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        weight : ndarray of shape (n_rows,), default=None
            Positive weights, for the counts.
        rows : ndarray of shape (n_rows,), default=None
            Numbers of the rows in error messages; from 0 when omitted.

        Returns
        -------
        ndarray of shape (n_rows,)
            Numbers of the vocabulary.

        Raises
        ------
        TypeError
            If a cell cannot be hashed.
        """
        try:
            numbers = self.known.add(values, weight)
        except TypeError:
            _check_hashable(values, self.name, rows)
            raise
        self._count(numbers < 0, weight)
        return numbers

    def settle(self, *, keep: bool = False) -> None:
        """Give codes to the categories that are not rare."""
        self.known.assign(self.min_frequency, self.max_categories, keep=keep)
        total = self.known.total
        self.rare_share = max(1 - float(self.known.counts.sum()) / total, 0.0) if total else 0.0

    def encode(self, draft: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes of numbers of the vocabulary; -1 for a rare category."""
        return self.known.codes_of(draft)

    def forget_rare(self) -> None:
        """Drop the categories without a code."""
        self.known.drop_rare()

    def transform(self, values: Any, rows: NDArray[np.intp] | None = None) -> NDArray[np.int32]:
        """Return the codes of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.
        rows : ndarray of shape (n_rows,), default=None
            Numbers of the rows in error messages; from 0 when omitted.

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
        try:
            codes = self.known.look_up(values)
        except TypeError:
            _check_hashable(values, self.name, rows)
            raise
        if self.handle_unknown == "error" and (codes == UNSEEN).any():
            at = int(np.argmax(codes == UNSEEN))
            row, value = at if rows is None else rows[at], values[at]
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
        codes : ndarray of shape (n_rows, 1)
            Codes of this field.

        Returns
        -------
        ndarray of shape (n_rows,)
            Categories; None for unknown, NaN for missing.
        """
        return self.known.categories_of(codes.ravel())

    def _describe(self) -> dict[str, Any]:
        known = "numbers" if self.vocabulary.dtype != object else "categories"
        return {
            "encoding": f"{len(self.vocabulary)} {known}",
            "unknown_share": self.rare_share,
            "bytes": self.known.nbytes,
        }


class HashEncoder(ColumnEncoder):
    """Codes of one categorical field by a stable 64-bit hash; it learns nothing.

    Missing is unknown, -1; nothing else is. The same category gets the same code in any
    process, on any platform.

    Parameters
    ----------
    name : str
        Name of the field, for error messages.
    n_buckets : int
        Number of codes.
    n_hashes : int, default=1
        Hashes of each category, each in its slot.
    vocabulary_name : str, default=None
        Name under which fields share rows of the table; that of the field when omitted.
    """

    def __init__(
        self, name: str, n_buckets: int, *, n_hashes: int = 1, vocabulary_name: str | None = None
    ) -> None:
        super().__init__(name)
        self.n_buckets = n_buckets
        self.slots = n_hashes
        self._vocabulary_name = vocabulary_name or name

    @property
    def vocabulary_name(self) -> str:
        """Name under which fields share rows of the table."""
        return self._vocabulary_name

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field reads."""
        return 1 + self.n_buckets

    def learn(
        self,
        values: Any,
        weight: NDArray[np.float64] | None = None,
        rows: NDArray[np.intp] | None = None,
    ) -> NDArray[np.int32]:
        """Take note of missing cells; return the codes.

        Raises
        ------
        TypeError
            If a cell is nothing that can be hashed stably.
        """
        codes = self.transform(values, rows)
        self._count((codes if codes.ndim == 1 else codes[:, 0]) < 0, weight)
        return codes

    def settle(self, *, keep: bool = False) -> None:
        """There is nothing to make up."""

    def encode(self, draft: NDArray[np.int32]) -> NDArray[np.int32]:
        """Codes, as they are."""
        return draft

    def transform(self, values: Any, rows: NDArray[np.intp] | None = None) -> NDArray[np.int32]:
        """Return the codes of a column.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column, in any container.
        rows : ndarray of shape (n_rows,), default=None
            Numbers of the rows in error messages; from 0 when omitted.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_hashes)
            Codes; -1 for missing.

        Raises
        ------
        TypeError
            If a cell is nothing that can be hashed stably.
        """
        codes = [
            hash_codes(values, self.n_buckets, seed=seed, name=self.name, rows=rows)
            for seed in range(self.slots)
        ]
        return codes[0] if self.slots == 1 else np.column_stack(codes)

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[np.object_]:
        """Raise: a hash has no inverse.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            f"Field {self.name!r} is hashed, so its codes cannot be turned back into categories."
        )

    def _describe(self) -> dict[str, Any]:
        hashes = f"{self.slots} hashes" if self.slots > 1 else "hash"
        return {"encoding": f"{hashes} into {self.n_buckets}"}


def _check_hashable(values: Any, name: str, rows: NDArray[np.intp] | None) -> None:
    for row, value in zip(range(len(values)) if rows is None else rows, values, strict=True):
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"Field {name!r} holds {value!r} in row {row}: as a category the argument must be "
                f"a string, a number or another hashable value, not {type(value).__name__}."
            ) from None
