"""Hundreds of factorization machines as one narrow machine that says what they say on average.

It knows vectors only; what they are multiplied with, and how large an error may be, is told in
``averaging``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_WIDTH", "Narrow"]

MOST_WIDTH = 128  # of what comes out
_ROOM = 32  # columns more on the way, so that what is cut off then counts for little now
_TINY = 1e-7  # share of the largest eigenvalue below which float32 knows nothing


class Narrow:
    """Sum of V V' over matrices of vectors V, as N N' with few columns.

    The mean over D draws of <v_i, v_j> is the product of rows i and j of [V_1 ... V_D] / sqrt(D).
    Of all machines with R columns that of its R leading right singular vectors is nearest, rows
    weighted by how often they occur. Draws come one after the other, and whenever enough are
    there, [N, V_1 ... V_m] is cut down to its leading directions by the eigenvectors of its Gram
    matrix: exact as long as the columns so far are no more than there is room for.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        How much an error of a row counts, above 0.
    columns : ndarray of float32 of shape (n_rows, R), default=none
        N to go on from.

    References
    ----------
    Ross, Lim, Lin, Yang (2008), Incremental learning for robust visual tracking, IJCV 77.
    """

    def __init__(
        self, weight: NDArray[np.floating], columns: NDArray[np.float32] | None = None
    ) -> None:
        self._root = np.sqrt(weight).astype(np.float32)[:, None]
        self._parts = [] if columns is None else [columns * self._root]
        self._n_waiting = 0

    def add(self, vectors: NDArray[np.floating]) -> None:
        """Add V V'.

        Parameters
        ----------
        vectors : ndarray of shape (n_rows, K)
            V.
        """
        self._parts.append(np.asarray(vectors, dtype=np.float32) * self._root)
        self._n_waiting += vectors.shape[1]
        if self._n_waiting >= MOST_WIDTH + _ROOM:
            self._merge()

    def columns(self) -> NDArray[np.float32]:
        """N, the columns that count most first.

        Returns
        -------
        ndarray of float32 of shape (n_rows, R)
            R is at most that of all that was added.
        """
        if self._n_waiting:
            self._merge()
        if self._parts:
            return self._parts[0] / self._root
        return np.zeros((len(self._root), 0), dtype=np.float32)

    def _merge(self) -> None:
        wide = np.concatenate(self._parts, axis=1)
        square, directions = np.linalg.eigh((wide.T @ wide).astype(np.float64))
        kept = np.flatnonzero(square > _TINY * square[-1])[::-1][: MOST_WIDTH + _ROOM]
        self._parts = [wide @ directions[:, kept].astype(np.float32)]
        self._n_waiting = 0
