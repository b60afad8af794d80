"""Rows that stay on disk: read in groups of blocks, so that memory does not grow with them.

Targets and weights, a few bytes per row, are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..folder import FieldFolder
from .batching import Batch, DenseRows, Rows

__all__ = ["BLOCK_ROWS", "FolderRows"]

#: Rows that lie and stay together; the unit of shuffling and of holding out.
BLOCK_ROWS = 1024
_GROUP_ENTRIES = 2**22  # in memory at a time


class FolderRows(Rows):
    """Rows of a folder.

    An epoch takes the blocks in random order, some at a time, and shuffles the rows of those. The
    units of `subset` are blocks.

    Parameters
    ----------
    folder : FieldFolder
        Where the features are.
    target, weight : Tensor of shape (n_rows,)
        Encoded target and sample weight of all rows of the folder.
    blocks : Tensor of int, default=None
        The blocks that belong to these rows; all when omitted.
    """

    def __init__(
        self, folder: FieldFolder, target: Tensor, weight: Tensor, blocks: Tensor | None = None
    ) -> None:
        if blocks is None:
            blocks = torch.arange(-(-len(folder) // BLOCK_ROWS))
        else:
            positions = _positions(blocks, len(folder)).to(target.device)
            target = target[positions]
            is_constant = weight.stride() == (0,)
            weight = weight[:1].expand(len(target)) if is_constant else weight[positions]
        super().__init__(target, weight)
        self.folder = folder
        self.blocks = blocks
        self._group = max(_GROUP_ENTRIES // (BLOCK_ROWS * max(self.width, 1)), 1)

    @property
    def n_units(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def width(self) -> int:
        """Slots of a row."""
        return self.folder.schema.n_slots

    def subset(self, selection: Tensor) -> Rows:
        """Some of the blocks, by their position among these.

        Only of all rows: `target` and `weight` are in the order of the folder.
        """
        assert len(self.target) == len(self.folder)
        chosen = self.blocks[selection.cpu()]
        return FolderRows(self.folder, self.target, self.weight, chosen)

    def parts(self, generator: torch.Generator) -> Iterator[tuple[Rows, Tensor]]:
        """Groups of blocks picked at random, each with an order of its rows."""
        for chosen in torch.randperm(len(self.blocks), generator=generator).split(self._group):
            part = self._load(chosen)
            yield part, part.shuffled(generator)

    def pieces(self) -> Iterator[Rows]:
        """All rows as they come, some at a time."""
        for chosen in torch.arange(len(self.blocks)).split(self._group):
            yield self._load(chosen)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All rows once, as they come, in batches."""
        for piece in self.pieces():
            yield from piece.in_order(batch_size)

    def head(self, n_rows: int) -> Rows:
        """The first rows of the first block."""
        first = self._load(torch.arange(min(len(self.blocks), 1)))
        return first.head(n_rows)

    def _load(self, chosen: Tensor) -> DenseRows:
        """Rows of some blocks, by their position among these."""
        starts = self.blocks[chosen].numpy() * BLOCK_ROWS
        indices, values = self.folder.read_many(starts, BLOCK_ROWS).to_torch(self.target.device)
        lengths = np.minimum(len(self.folder) - self.blocks.numpy() * BLOCK_ROWS, BLOCK_ROWS)
        firsts = np.cumsum(lengths) - lengths
        at = np.concatenate([np.arange(firsts[c], firsts[c] + lengths[c]) for c in chosen.tolist()])
        rows = torch.from_numpy(at).to(self.target.device)
        return DenseRows(
            indices,
            values.to(self.target.dtype),
            self.target[rows],
            self.weight[rows].contiguous(),
        )


def _positions(blocks: Tensor, n_rows: int) -> Tensor:
    """Rows of blocks, in their order."""
    starts = blocks * BLOCK_ROWS
    rows = (starts[:, None] + torch.arange(BLOCK_ROWS)).flatten()
    return rows[rows < n_rows]
