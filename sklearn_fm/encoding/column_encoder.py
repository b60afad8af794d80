"""What every encoder of one field has in common: learn, settle, encode.

Only the contract; what is learned is told in ``categories``, ``bags``, ``bins``, ``numbers``,
and ``dates``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNKNOWN", "ColumnEncoder"]

UNKNOWN = -1


class ColumnEncoder:
    """From cells to the codes of one field.

    Fitting has three steps, so that fields can share a vocabulary and tables can come in
    chunks: `learn` takes note of cells and returns a draft of them, `settle` makes up codes
    from all that was learned, `encode` turns drafts into codes.

    Parameters
    ----------
    name : str
        Name of the field.

    Attributes
    ----------
    kind, slots, pooling, linear, ordered, vocabulary_name, vocabulary_size
        The field's entries in `FieldSchema`.
    n_rows, n_missing : float
        Weight of the rows learned from, and of those among them with nothing in the cell.
    """

    kind = "categorical"
    slots = 1
    pooling = "sum"
    linear = True
    ordered = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_rows = 0.0
        self.n_missing = 0.0

    @property
    def vocabulary_name(self) -> str:
        """Vocabulary of the field; fields of one name share rows of the table."""
        return self.name

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table that the field reads."""
        raise NotImplementedError

    @property
    def n_columns(self) -> int:
        """Columns of its codes."""
        return self.slots * (2 if self.pooling == "weighted" else 1)

    def learn(self, values: Any, weight: NDArray[np.float64] | None = None) -> Any:
        """Take note of cells.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        weight : ndarray of shape (n_rows,), default=None
            Positive weights.

        Returns
        -------
        object
            Draft for `encode`.
        """
        raise NotImplementedError

    def settle(self, *, keep: bool = False) -> None:
        """Make up codes from all that was learned.

        Parameters
        ----------
        keep : bool, default=False
            Whether codes given before keep their meaning.
        """
        raise NotImplementedError

    def encode(self, draft: Any) -> NDArray[Any]:
        """Codes of a draft, of shape (n_rows,) or (n_rows, n_columns)."""
        raise NotImplementedError

    def transform(self, values: Any) -> NDArray[Any]:
        """Codes of cells, of shape (n_rows,) or (n_rows, n_columns)."""
        raise NotImplementedError

    def inverse_transform(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Cells of codes of shape (n_rows, n_columns)."""
        raise NotImplementedError

    def fit_transform(
        self, values: Any, sample_weight: NDArray[np.float64] | None = None
    ) -> NDArray[Any]:
        """Learn from a column and return its codes.

        Parameters
        ----------
        values : ndarray or pandas extension array of shape (n_rows,)
            The column.
        sample_weight : ndarray of shape (n_rows,), default=None
            Positive weights.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_columns)
        """
        draft = self.learn(values, sample_weight)
        self.settle()
        return self.encode(draft)

    def forget_rare(self) -> None:
        """Free the memory of what only `settle` would need."""

    def describe(self) -> dict[str, Any]:
        """What became of the field, for `FieldEncoder.summary`."""
        return {
            "encoding": "",
            "vocabulary": self.vocabulary_name,
            "vocabulary_size": self.vocabulary_size,
            "slots": self.slots,
            "pooling": self.pooling,
            "unknown_share": 0.0,
            "missing_share": self.n_missing / self.n_rows if self.n_rows else 0.0,
            "mean_length": 1.0,
            "max_length": 1,
            "bytes": 0,
            **self._describe(),
        }

    def _describe(self) -> dict[str, Any]:
        """Where an encoder differs from what is usual."""
        raise NotImplementedError

    def _count(self, missing: NDArray[np.bool_], weight: NDArray[np.float64] | None) -> None:
        if weight is None:
            self.n_rows += len(missing)
            self.n_missing += float(missing.sum())
        else:
            self.n_rows += float(weight.sum())
            self.n_missing += float(weight[missing].sum())
