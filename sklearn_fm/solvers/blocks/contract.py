"""What a table of blocks is: a factorization machine whose weights move block by block.

Engines that do it are in ``table`` and ``torch_table``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .design import Design

__all__ = ["BlockTable", "Moments", "Step", "few_entries", "have_covariance"]

_LEAST_FEW, _MOST_FEW = 4, 16


@dataclass(frozen=True)
class Step:
    """A step that all blocks of a prior are to take together, as soon as each has been drawn.

    Attributes
    ----------
    prior : int
        Which: one of the design's `loose_priors`.
    stretches : bool
        Whether each coordinate is multiplied by a number, rather than added to.
    precision : ndarray of shape (D, D)
        Precision of the step before the data are seen.
    shift : ndarray of shape (D,)
        Precision times mean of it.
    noise : ndarray of shape (D,)
        Standard normal numbers.
    """

    prior: int
    stretches: bool
    precision: NDArray[np.float64]
    shift: NDArray[np.float64]
    noise: NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over the blocks of each prior, around a center.

    Attributes
    ----------
    counts : ndarray of shape (n_priors,)
        Number of blocks.
    center : ndarray of shape (n_priors, D)
        c.
    sums : ndarray of shape (n_priors, D)
        Sum of theta - c.
    squares : ndarray of shape (n_priors, D, D)
        Sum of (theta - c) (theta - c)'.
    """

    counts: NDArray[np.float64]
    center: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]


class BlockTable(Protocol):
    """A factorization machine at the rows of a design.

    A *residual* is a row's target less its raw prediction, in which the block_table has no bias.

    Attributes
    ----------
    design : Design
        Entries by index.
    embedding_dim : int
        Width of the vectors.
    few : int
        Up to so many entries a block is drawn by way of these, if no prior is flat.
    """

    design: Design
    embedding_dim: int
    few: int

    def residuals(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Residuals of all rows, or of some."""

    def set_residuals(
        self, residuals: NDArray[np.float64], precision: NDArray[np.float64] | float
    ) -> None:
        """Move targets so that these are the residuals, and set their precisions."""

    def read(self) -> NDArray[np.float64]:
        """Blocks [v | w], (n_blocks, embedding_dim + 1)."""

    def write(self, blocks: NDArray[np.float64]) -> None:
        """Set all blocks; targets stay, residuals follow."""

    def moments(self, center: NDArray[np.float64]) -> Moments:
        """Sums over the blocks of each prior, around its center, (n_priors, D)."""

    def draw_noise(self, rng: np.random.Generator) -> NDArray[np.floating]:
        """Standard normal numbers for an update, good until they are drawn again.

        Returns
        -------
        ndarray of shape (n_blocks, D + few)
            As many as `update` takes.
        """

    def update(
        self,
        precision: NDArray[np.float64],
        shift: NDArray[np.float64],
        noise: NDArray[np.floating] | None,
        steps: Sequence[Step] = (),
    ) -> list[NDArray[np.float64]]:
        """Draw each block in turn from its conditional posterior, or move it to the mean.

        Parameters
        ----------
        precision : ndarray of shape (n_priors, D, D)
            Precisions of the priors, D = embedding_dim + 1.
        shift : ndarray of shape (n_priors, D)
            Precisions times means.
        noise : ndarray of shape (n_blocks, D + few) or None
            Standard normal numbers; None for the means.
        steps : sequence of Step
            Steps of all blocks of some priors.

        Returns
        -------
        list of ndarray of shape (D,)
            The steps, as drawn.
        """


def few_entries(embedding_dim: int) -> int:
    """Up to how many entries a block is drawn by way of these, rather than of its precision.

    Parameters
    ----------
    embedding_dim : int
        Width of the vectors.

    Returns
    -------
    int
    """
    return min(max(embedding_dim // 4, _LEAST_FEW), _MOST_FEW)


def have_covariance(precision: NDArray[np.float64]) -> bool:
    """Whether no coordinate has a flat prior, so that blocks may be drawn by their entries.

    Parameters
    ----------
    precision : ndarray of shape (n_priors, D, D)
        Precisions.

    Returns
    -------
    bool
    """
    return bool((np.diagonal(precision, axis1=1, axis2=2) > 0).all())
