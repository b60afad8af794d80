"""The weights of a factorization machine with the residuals of all rows, updated block by block.

Two engines do the same: compiled kernels on the CPU, and torch on any device. What residuals are
of, and which priors hold, is told from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...kernels import HAS_KERNELS
from .design import ALONE, POOLED, Design

__all__ = ["BlockTable", "CompiledBlockTable", "make_block_table"]

_CHUNK, _MAX_CHUNKS = 8192, 16  # entries, parts


class BlockTable(Protocol):
    """A factorization machine at the rows of a design.

    A *residual* is a row's target less its raw prediction, in which the block_table has no bias.
    """

    design: Design
    embedding_dim: int

    def residuals(self) -> NDArray[np.float64]:
        """Residuals of all rows, (n_rows,)."""

    def set_residuals(
        self, residuals: NDArray[np.float64], precision: NDArray[np.float64] | float
    ) -> None:
        """Move targets so that these are the residuals, and set their precisions."""

    def read(self) -> NDArray[np.float64]:
        """Blocks [v | w], (n_blocks, embedding_dim + 1)."""

    def write(self, blocks: NDArray[np.float64]) -> None:
        """Set all blocks; targets stay, residuals follow."""

    def update(
        self,
        precision: NDArray[np.float64],
        shift: NDArray[np.float64],
        noise: NDArray[np.float64] | None,
    ) -> None:
        """Draw each block in turn from its conditional posterior, or move it to the mean.

        Parameters
        ----------
        precision : ndarray of shape (n_priors, D, D)
            Precisions of the priors, D = embedding_dim + 1.
        shift : ndarray of shape (n_priors, D)
            Precisions times means.
        noise : ndarray of shape (n_blocks, D) or None
            Standard normal numbers; None for the means.
        """

    def move_statistics(
        self, blocks: slice, *, stretches: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Statistics of a step that blocks which share no row take together.

        Parameters
        ----------
        blocks : slice
            Which.
        stretches : bool
            Whether each coordinate is multiplied by a number, rather than added to.

        Returns
        -------
        gram : ndarray of shape (D, D)
            Sum of p x x' over the rows, where x is the derivative by the step.
        product : ndarray of shape (D,)
            Sum of p x residual.
        """

    def move(self, blocks: slice, step: NDArray[np.float64], *, stretches: bool) -> None:
        """Take such a step: add it to blocks, or multiply them by it; residuals follow."""


class CompiledBlockTable:
    """A table of blocks run by compiled kernels.

    Parameters
    ----------
    design : Design
        Entries by index.
    embedding_dim : int
        Width of the vectors.
    n_threads : int, default=1
        Threads; results do not depend on it.
    """

    def __init__(self, design: Design, embedding_dim: int, n_threads: int = 1) -> None:
        from ...kernels.blocks.layout import BlockLayout
        from ...kernels.blocks.sweep import Blocks, work_size
        from ...kernels.threads import Workers

        self.design = design
        self.embedding_dim = embedding_dim
        self.layout = layout = BlockLayout(embedding_dim)
        K, width = layout.K, layout.width
        self._table = np.zeros((design.n_blocks, K + 1))
        self._state = np.zeros((design.n_rows, K + 2))
        self._state[:, K + 1] = 1
        self._pooled = np.zeros((design.n_pools, K))
        self._workers = Workers(n_threads) if n_threads > 1 else None
        self._work = np.zeros((n_threads, work_size(K, width)))
        self._pieces = np.zeros((len(design.pieces), (K + 2) * width))
        groups = [
            (g.first, g.last, *np.searchsorted(design.pieces[:, 0], (g.first, g.last)))
            for g in design.groups
        ]
        self._blocks = Blocks(
            starts=design.starts,
            rows=design.rows,
            values=design.values,
            linear_values=design.linear_values,
            pools=design.pools,
            prior_of=design.prior_of,
            groups=np.array(groups, dtype=np.int64).reshape(-1, 4),
            pooled=np.array([g.meeting == POOLED for g in design.groups], dtype=bool),
            pieces=design.pieces,
            cuts=np.array(
                [self._share_out(g, n_threads) for g in design.groups], dtype=np.int64
            ).reshape(-1, n_threads + 1),
        )

    def _share_out(self, group: Any, n_parts: int) -> list[int]:
        """Blocks at which to cut a group into parts of like work."""
        if group.meeting != ALONE:
            return [group.first] + [group.last] * n_parts
        lengths = np.diff(self.design.starts[group.first : group.last + 1]).astype(float)
        lengths[np.isin(np.arange(group.first, group.last), self.design.pieces[:, 0])] = 0
        work = np.cumsum(lengths + self.embedding_dim)  # solving is worth some entries
        inner = np.searchsorted(work, work[-1] * np.arange(1, n_parts) / n_parts)
        return [group.first, *(group.first + inner).tolist(), group.last]

    def residuals(self) -> NDArray[np.float64]:
        """Residuals of all rows."""
        return self._state[:, self.layout.K].copy()

    def set_residuals(
        self, residuals: NDArray[np.float64], precision: NDArray[np.float64] | float
    ) -> None:
        """Move targets so that these are the residuals, and set their precisions."""
        self._state[:, self.layout.K] = residuals
        self._state[:, self.layout.K + 1] = precision

    def read(self) -> NDArray[np.float64]:
        """Blocks [v | w]."""
        return np.delete(self._table, np.s_[self.embedding_dim : self.layout.K], axis=1)

    def write(self, blocks: NDArray[np.float64]) -> None:
        """Set all blocks; targets stay, residuals follow."""
        K = self.layout.K
        before = self._raw()
        self._table[:, : self.embedding_dim] = blocks[:, :-1]
        self._table[:, K] = blocks[:, -1]
        self._state[:, K] += before - self._raw()

    def update(
        self,
        precision: NDArray[np.float64],
        shift: NDArray[np.float64],
        noise: NDArray[np.float64] | None,
    ) -> None:
        """Draw each block in turn, or move it to its mean."""
        from ...kernels.blocks.sweep import sweep
        from ...kernels.threads import make_sync, run_parts

        layout, k = self.layout, self.embedding_dim
        K = layout.K
        prior = np.zeros((len(precision), K + 1, layout.width))
        moved = np.zeros((len(precision), layout.width))
        prior[:, :k, :k], prior[:, K, :k] = precision[:, :k, :k], precision[:, k, :k]
        prior[:, :k, K], prior[:, K, K] = precision[:, :k, k], precision[:, k, k]
        moved[:, :k], moved[:, K] = shift[:, :k], shift[:, k]
        noise = np.empty((0, k + 1)) if noise is None else noise
        sync, n_parts = make_sync(), len(self._work)

        def work(part: int) -> None:
            sweep(
                layout,
                k,
                self._blocks,
                self._table,
                self._state,
                self._pooled,
                prior,
                moved,
                noise,
                self._work,
                self._pieces,
                part,
                n_parts,
                sync,
            )

        run_parts(self._workers, n_parts, work, sync)

    def move_statistics(
        self, blocks: slice, *, stretches: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Statistics of a step that blocks take together."""
        from ...kernels.blocks.moves import add_moves

        layout = self.layout
        chunks = self._chunks(blocks)
        found = np.empty((len(chunks), layout.K + 2, layout.width))

        def work(chunk: int, part: int) -> None:
            add_moves(
                layout,
                self._blocks,
                self._table,
                self._state,
                stretches,
                *chunks[chunk],
                found[chunk],
                self._work[part],
            )

        self._for_chunks(len(chunks), work)
        P = found.sum(axis=0)
        kept = [*range(self.embedding_dim), layout.K]
        lower = np.tril(P[np.ix_(kept, kept)])
        return lower + np.tril(lower, -1).T, P[layout.K + 1, kept]

    def move(self, blocks: slice, step: NDArray[np.float64], *, stretches: bool) -> None:
        """Take a step with all of some blocks."""
        from ...kernels.blocks.moves import move_all

        layout = self.layout
        placed = np.full(layout.width, float(stretches))
        placed[: self.embedding_dim], placed[layout.K] = step[:-1], step[-1]
        chunks = self._chunks(blocks)

        def work(chunk: int, part: int) -> None:
            move_all(
                layout,
                self._blocks,
                self._table,
                self._state,
                stretches,
                placed,
                *chunks[chunk],
                self._work[part],
            )

        self._for_chunks(len(chunks), work)

    def _chunks(self, blocks: slice) -> list[tuple[int, int]]:
        """Parts of like work, the same for any number of threads."""
        starts = self.design.starts[blocks.start : blocks.stop + 1]
        n_chunks = min(max(int(starts[-1] - starts[0]) // _CHUNK, 1), _MAX_CHUNKS)
        wanted = starts[0] + (starts[-1] - starts[0]) * np.arange(1, n_chunks) // n_chunks
        inner = (blocks.start + np.searchsorted(starts, wanted)).tolist()
        return list(pairwise([blocks.start, *inner, blocks.stop]))

    def _for_chunks(self, n_chunks: int, work: Callable[[int, int], None]) -> None:
        from ...kernels.threads import make_sync, run_parts

        n_parts = min(len(self._work), n_chunks)

        def work_part(part: int) -> None:
            for chunk in range(part, n_chunks, n_parts):
                work(chunk, part)

        run_parts(self._workers, n_parts, work_part, make_sync())

    def _raw(self) -> NDArray[np.float64]:
        """Raw predictions without the bias; the sums in the row states are made anew."""
        from ...kernels.blocks.moves import sum_up

        raw = np.zeros(self.design.n_rows)
        sum_up(self.layout, self._blocks, self._table, self._state, self._pooled, raw)
        return raw


def make_block_table(
    design: Design, embedding_dim: int, *, n_threads: int = 1, device: Any = "cpu"
) -> BlockTable:
    """Return the table of blocks that suits a device.

    Parameters
    ----------
    design : Design
        Entries by index.
    embedding_dim : int
        Width of the vectors.
    n_threads : int, default=1
        Threads of the compiled engine.
    device : torch.device or str, default="cpu"
        Where to compute.

    Returns
    -------
    BlockTable
    """
    if HAS_KERNELS and str(device) == "cpu":
        return CompiledBlockTable(design, embedding_dim, n_threads)
    from .torch_table import TorchBlockTable

    return TorchBlockTable(design, embedding_dim, device)
