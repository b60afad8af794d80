"""The table of blocks that updates blocks by batched linear algebra in torch, on any device.

It takes the same numbers as the compiled one and gives the same results, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .contract import Moments, Step, few_entries, have_covariance
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
        self.few = few_entries(embedding_dim)
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

    def residuals(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Residuals of all rows, or of some."""
        found = self._residual if rows is None else self._residual[self._to_device(rows)]
        return np.array(found.cpu().double().numpy())

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

    def moments(self, center: NDArray[np.float64]) -> Moments:
        """Sums over the blocks of each prior."""
        apart = [
            self._table[blocks] - self._to_device(center[prior])
            for prior, blocks in enumerate(self.design.blocks_of_prior)
        ]
        counts = np.array([len(part) for part in apart], dtype=np.float64)
        sums = torch.stack([part.sum(dim=0) for part in apart]).cpu().double().numpy()
        squares = torch.stack([part.T @ part for part in apart]).cpu().double().numpy()
        return Moments(counts, center, sums, squares)

    def draw_noise(self, rng: np.random.Generator) -> NDArray[np.floating]:
        """Standard normal numbers for an update."""
        return rng.standard_normal((self.design.n_blocks, self.embedding_dim + 1 + self.few))

    def update(
        self,
        precision: NDArray[np.float64],
        shift: NDArray[np.float64],
        noise: NDArray[np.floating] | None,
        steps: Sequence[Step] = (),
    ) -> list[NDArray[np.float64]]:
        """Draw each block in turn, or move it to its mean."""
        normal = None if noise is None else self._to_device(np.asarray(noise, dtype=np.float64))
        priors = [self._to_device(precision), self._to_device(shift)]
        if have_covariance(precision):
            priors.append(self._to_device(np.linalg.inv(precision)))
        of_group = {self.design.loose_groups[step.prior]: step for step in steps}
        taken = {}
        for g, group in enumerate(self.design.groups):
            pooled = self._pool(group) if group.meeting == POOLED else None
            apart = group.meeting != ALONE
            for first in range(group.first, group.last) if apart else [group.first]:
                self._update(first, first + 1 if apart else group.last, priors, normal, pooled)
            if (step := of_group.get(g)) is not None:
                taken[step.prior] = self._step(group, step)
        return [np.array(taken[step.prior].cpu().double().numpy()) for step in steps]

    def _update(
        self,
        first: int,
        last: int,
        priors: list[Tensor],
        noise: Tensor | None,
        pooled: Tensor | None,
    ) -> None:
        """Draw blocks that share no row."""
        starts = self.design.starts[first : last + 1]
        few = self.few if len(priors) == 3 else 0
        is_few = np.diff(starts) <= few
        way = self._zeros(last - first, self._table.shape[1])
        normal = None if noise is None else noise[first:last]
        for by_entries in (False, True):
            chosen = np.flatnonzero(is_few == by_entries)
            if len(chosen):
                draw = self._by_entries if by_entries else self._by_precision
                some = None if normal is None else normal[chosen]
                way[chosen] = draw(first + chosen, priors, some, pooled)
        self._move(first, last, way, pooled)

    def _by_precision(
        self,
        blocks: NDArray[np.intp],
        priors: list[Tensor],
        noise: Tensor | None,
        pooled: Tensor | None,
    ) -> Tensor:
        """Ways to draws of blocks, from their precisions."""
        D = self._table.shape[1]
        gram, product = self._zeros(len(blocks), D, D), self._zeros(len(blocks), D)
        for entries, block, _ in self._entries(blocks, max(_CHUNK_NUMBERS // (D * D), 1)):
            rows, slope = self._rows[entries], self._slopes(entries, pooled)
            weighted = slope * self._precision[rows, None]
            gram.index_add_(0, block, weighted[:, :, None] * slope[:, None, :])
            product.index_add_(0, block, weighted * self._residual[rows, None])
        prior, theta = self._prior_of[blocks], self._table[blocks]
        right = priors[1][prior] + product - (priors[0][prior] @ theta[:, :, None])[:, :, 0]
        # from the weight up to the first coordinate, as the compiled engine does
        root = torch.linalg.cholesky((gram + priors[0][prior]).flip(1, 2))
        half = torch.linalg.solve_triangular(root, right.flip(1)[:, :, None], upper=False)
        if noise is not None:
            half = half + noise[:, :D].flip(1)[:, :, None]
        return torch.linalg.solve_triangular(root.mT, half, upper=True)[:, :, 0].flip(1)

    def _by_entries(
        self,
        blocks: NDArray[np.intp],
        priors: list[Tensor],
        noise: Tensor | None,
        pooled: Tensor | None,
    ) -> Tensor:
        """Likewise of blocks of few entries (Bhattacharya, Chakraborty, Mallick 2016)."""
        D = self._table.shape[1]
        A, e = self._zeros(len(blocks), self.few, D), self._zeros(len(blocks), self.few)
        for entries, block, place in self._entries(blocks, _CHUNK_NUMBERS):
            rows = self._rows[entries]
            scale = self._precision[rows].sqrt()
            A[block, place] = self._slopes(entries, pooled) * scale[:, None]
            e[block, place] = self._residual[rows] * scale
        prior, theta, sigma = self._prior_of[blocks], self._table[blocks], priors[2]
        u = (sigma @ priors[1][:, :, None])[:, :, 0][prior]
        eye = torch.eye(self.few, dtype=self.dtype, device=self.device)
        if noise is not None:
            root = torch.linalg.cholesky(sigma.roll((1, 1), (1, 2)))  # the weight comes first
            u = u + (root[prior] @ noise[:, :D, None])[:, :, 0].roll(-1, 1)
            e = e - noise[:, D:]
        beside = A @ sigma[prior]
        rest = e + (A @ (theta - u)[:, :, None])[:, :, 0]
        factor = torch.linalg.solve(beside @ A.mT + eye, rest[:, :, None])
        return u + (beside.mT @ factor)[:, :, 0] - theta

    def _entries(
        self, blocks: NDArray[np.intp], size: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Entries of blocks, which of these they are of, and their number in it; in chunks."""
        counts = np.diff(self.design.starts)[blocks]
        block = np.repeat(np.arange(len(blocks)), counts)
        place = np.arange(len(block)) - (np.cumsum(counts) - counts)[block]
        entries = self.design.starts[blocks][block] + place
        for begin in range(0, len(block), size):
            part = slice(begin, begin + size)
            to_device = self._to_device
            yield to_device(entries[part]), to_device(block[part]), to_device(place[part])

    def _slopes(self, entries: slice | Tensor, pooled: Tensor | None) -> Tensor:
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

    def _step(self, group: Group, step: Step) -> Tensor:
        """Draw a step of all of a group's blocks and take it."""
        D = self._table.shape[1]
        gram, product = self._zeros(D, D), self._zeros(D)
        starts, size = self.design.starts, max(_CHUNK_NUMBERS // D, 1)
        for begin in range(int(starts[group.first]), int(starts[group.last]), size):
            entries = slice(begin, min(begin + size, int(starts[group.last])))
            slope = self._slopes(entries, None)
            if step.stretches:
                slope = slope * self._table[self._block[entries]]
            rows = self._rows[entries]
            weighted = slope * self._precision[rows, None]
            gram += weighted.T @ slope
            product += weighted.T @ self._residual[rows]
        precision, rest = self._to_device(step.precision), self._to_device(step.shift)
        still = torch.full_like(rest, float(step.stretches))
        rest = rest - precision @ still + product
        root = torch.linalg.cholesky((precision + gram).flip(0, 1))
        half = torch.linalg.solve_triangular(root, rest.flip(0)[:, None], upper=False)
        half = half + self._to_device(step.noise).flip(0)[:, None]
        way = torch.linalg.solve_triangular(root.mT, half, upper=True)[:, 0].flip(0)
        blocks = self._table[group.first : group.last]
        moved = way * blocks if step.stretches else way.expand_as(blocks)
        self._move(group.first, group.last, moved, None)
        return still + way

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
