"""The table of blocks that updates blocks by batched linear algebra in torch, on any device.

It takes the same numbers as the compiled one and gives the same results, to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .design import ALONE, POOLED, Design, Group

__all__ = ["TorchBlockTable"]

_CHUNK_NUMBERS = 2**24  # of outer products at a time


class TorchBlockTable:
    """A table of blocks run by torch; interface as in `table.BlockTable`.

    Blocks of a group that meet in a row are updated one after the other, which is slow: bags of
    many categories are the compiled block_table's business.

    Parameters
    ----------
    design : Design
        Entries by index.
    embedding_dim : int
        Width of the vectors.
    device : torch.device or str, default="cpu"
        Where to compute.
    """

    def __init__(
        self, design: Design, embedding_dim: int, device: torch.device | str = "cpu"
    ) -> None:
        self.design = design
        self.embedding_dim = embedding_dim
        # Apple's devices have no float64.
        self.dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.device = torch.device(device)
        self._rows = self._to_device(design.rows.astype(np.int64))
        self._block = self._to_device(design.block_of_entry)
        self._x = self._to_device(design.entry_values)
        same = not len(design.linear_values)
        self._x_linear = self._x if same else self._to_device(design.linear_values)
        self._pools = self._to_device(design.pools)
        self._prior_of = self._to_device(design.prior_of.astype(np.int64))
        self._table = self._zeros(design.n_blocks, embedding_dim + 1)
        self._sums = self._zeros(design.n_rows, embedding_dim)
        self._residual = self._zeros(design.n_rows)
        self._precision = self._zeros(design.n_rows) + 1

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(array, order="C")).to(self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=self.dtype, device=self.device)

    def residuals(self) -> NDArray[np.float64]:
        """Residuals of all rows."""
        return np.array(self._residual.cpu().double().numpy())

    def set_residuals(
        self, residuals: NDArray[np.float64], precision: NDArray[np.float64] | float
    ) -> None:
        """Move targets so that these are the residuals, and set their precisions."""
        self._residual = self._to_device(np.asarray(residuals, dtype=np.float64))
        self._precision = self._to_device(np.zeros(self.design.n_rows) + precision)

    def read(self) -> NDArray[np.float64]:
        """Blocks [v | w]."""
        return np.array(self._table.cpu().double().numpy())

    def write(self, blocks: NDArray[np.float64]) -> None:
        """Set all blocks; targets stay, residuals follow."""
        before = self._raw()
        self._table = self._to_device(np.asarray(blocks, dtype=np.float64))
        self._residual = self._residual + before - self._raw()

    def update(
        self,
        precision: NDArray[np.float64],
        shift: NDArray[np.float64],
        noise: NDArray[np.float64] | None,
    ) -> None:
        """Draw each block in turn, or move it to its mean."""
        priors = self._to_device(precision), self._to_device(shift)
        normal = None if noise is None else self._to_device(noise)
        for group in self.design.groups:
            pooled = self._pool(group) if group.meeting == POOLED else None
            apart = group.meeting != ALONE
            steps = range(group.first, group.last) if apart else [group.first]
            for first in steps:
                self._update(first, first + 1 if apart else group.last, *priors, normal, pooled)

    def _update(
        self,
        first: int,
        last: int,
        precision: Tensor,
        shift: Tensor,
        noise: Tensor | None,
        pooled: Tensor | None,
    ) -> None:
        """Draw blocks that share no row."""
        starts = self.design.starts
        prior = self._prior_of[first:last]
        table = self._table[first:last]
        D = table.shape[1]
        gram = self._zeros(last - first, D, D)
        product = self._zeros(last - first, D)
        size = max(_CHUNK_NUMBERS // (D * D), 1)
        for begin in range(int(starts[first]), int(starts[last]), size):
            entries = slice(begin, min(begin + size, int(starts[last])))
            rows, block = self._rows[entries], self._block[entries] - first
            slope = self._slopes(entries, pooled)
            weighted = slope * self._precision[rows, None]
            gram.index_add_(0, block, weighted[:, :, None] * slope[:, None, :])
            product.index_add_(0, block, weighted * self._residual[rows, None])
        right = shift[prior] + product + (gram @ table[:, :, None])[:, :, 0]
        root = torch.linalg.cholesky(gram + precision[prior])
        half = torch.linalg.solve_triangular(root, right[:, :, None], upper=False)
        if noise is not None:
            half = half + noise[first:last, :, None]
        new = torch.linalg.solve_triangular(root.mT, half, upper=True)[:, :, 0]
        self._move(first, last, new - table, pooled)

    def _slopes(self, entries: slice, pooled: Tensor | None) -> Tensor:
        """Derivatives of raw predictions by the blocks of entries, (n_entries, D)."""
        x = self._x[entries, None]
        if pooled is None:
            own = x * self._table[self._block[entries], :-1]
        else:
            own = pooled[self._pools[entries]]
        vectors = x * (self._sums[self._rows[entries]] - own)
        return torch.cat([vectors, self._x_linear[entries, None]], dim=1)

    def _move(self, first: int, last: int, step: Tensor, pooled: Tensor | None) -> None:
        """Add to blocks that share no row; residuals follow."""
        starts = self.design.starts
        entries = slice(int(starts[first]), int(starts[last]))
        rows = self._rows[entries]
        of_entry = step[self._block[entries] - first]
        change = (self._slopes(entries, pooled) * of_entry).sum(dim=1)
        vectors = self._x[entries, None] * of_entry[:, :-1]
        self._residual.index_add_(0, rows, -change)
        self._sums.index_add_(0, rows, vectors)
        if pooled is not None:
            pooled.index_add_(0, self._pools[entries], vectors)
        self._table[first:last] += step

    def move_statistics(
        self, blocks: slice, *, stretches: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Statistics of a step that blocks take together."""
        D = self._table.shape[1]
        gram, product = self._zeros(D, D), self._zeros(D)
        starts, size = self.design.starts, max(_CHUNK_NUMBERS // D, 1)
        for begin in range(int(starts[blocks.start]), int(starts[blocks.stop]), size):
            entries = slice(begin, min(begin + size, int(starts[blocks.stop])))
            slope = self._slopes(entries, None)
            if stretches:
                slope = slope * self._table[self._block[entries]]
            rows = self._rows[entries]
            weighted = slope * self._precision[rows, None]
            gram += weighted.T @ slope
            product += weighted.T @ self._residual[rows]
        return gram.cpu().double().numpy(), product.cpu().double().numpy()

    def move(self, blocks: slice, step: NDArray[np.float64], *, stretches: bool) -> None:
        """Take a step with all of some blocks."""
        taken = self._to_device(step).expand(blocks.stop - blocks.start, -1)
        if stretches:
            taken = (taken - 1) * self._table[blocks]
        self._move(blocks.start, blocks.stop, taken, None)

    def _pool(self, group: Group) -> Tensor:
        """Embeddings of the fields that a group's blocks add up to."""
        starts = self.design.starts
        entries = slice(int(starts[group.first]), int(starts[group.last]))
        pooled = self._zeros(self.design.n_pools, self.embedding_dim)
        vectors = self._x[entries, None] * self._table[self._block[entries], :-1]
        return pooled.index_add_(0, self._pools[entries], vectors)

    def _raw(self) -> Tensor:
        """Raw predictions without the bias; sums of embeddings are made anew."""
        blocks = self._table[self._block]
        vectors = self._x[:, None] * blocks[:, :-1]
        zeros = self._zeros(self.design.n_rows)
        self._sums = self._zeros(*self._sums.shape).index_add_(0, self._rows, vectors)
        raw = zeros.index_add(0, self._rows, self._x_linear * blocks[:, -1])
        inside = zeros.clone()
        for group in self.design.groups:
            starts = self.design.starts
            entries = slice(int(starts[group.first]), int(starts[group.last]))
            own = self._pool(group)[self._pools[entries]] if group.meeting == POOLED else None
            part = vectors[entries]
            inside.index_add_(
                0, self._rows[entries], (part * (part if own is None else own)).sum(dim=1)
            )
        return raw + (self._sums.square().sum(dim=1) - inside) / 2
