"""Rows that stay on disk: read in groups of blocks, so that memory does not grow with them.

Targets and weights, a few bytes per row, are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.folder import FieldFolder
from .rows import Batch, DenseRows, Rows

__all__ = ["FolderRows", "fits_in_memory"]

BLOCK_ROWS = 1024
_GROUP_ENTRIES = 2**22  # in memory at a time
_GROUP_BLOCKS = 16  # at least, for rows to meet different ones in each epoch


def fits_in_memory(folder: FieldFolder) -> bool:
    """Whether a folder has no more rows than are in memory anyway.

    Parameters
    ----------
    folder : FieldFolder
        Encoded rows.

    Returns
    -------
    bool
    """
    return len(folder) * folder.schema.n_slots <= _GROUP_ENTRIES


class FolderRows(Rows):
    """Rows of a folder.

    Rows that lie together are a block; blocks are the units of `subset`. An epoch takes the blocks
    in random order, some at a time, and shuffles the rows of those.

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
        self.folder = folder
        width = max(self.width, 1)
        self.block_rows = max(min(_GROUP_ENTRIES // (_GROUP_BLOCKS * width), BLOCK_ROWS), 1)
        self._group = max(_GROUP_ENTRIES // (self.block_rows * width), 1)
        all_blocks = torch.arange(-(-len(folder) // self.block_rows))
        self.blocks = all_blocks if blocks is None else blocks
        self._starts = self.blocks.numpy() * self.block_rows  # in the folder
        self._lengths = np.minimum(len(folder) - self._starts, self.block_rows)
        self._firsts = np.cumsum(self._lengths) - self._lengths  # among these rows
        if blocks is not None:
            target = self._pick(target)
            is_constant = weight.stride() == (0,)
            weight = weight[:1].expand(len(target)) if is_constant else self._pick(weight)
        super().__init__(target, weight)

    def _pick(self, numbers: Tensor) -> Tensor:
        """Those of the blocks; positions would take more memory than they do."""
        ends = self._starts + self._lengths
        parts = [numbers[a:b] for a, b in zip(self._starts, ends, strict=True)]
        return torch.cat(parts) if parts else numbers[:0]

    @property
    def n_units(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def width(self) -> int:
        """Slots of a row."""
        return self.folder.schema.n_slots

    def n_batches(self, batch_size: int) -> int:
        """Batches of an epoch if all blocks were full: each group ends with a short batch."""
        n_groups, n_rest = divmod(len(self.blocks), self._group)
        per_group, rest = (-(-n * self.block_rows // batch_size) for n in (self._group, n_rest))
        return n_groups * per_group + rest

    def subset(self, selection: Tensor) -> Rows:
        """Some of the blocks, by their position among these.

        Only of all rows: `target` and `weight` are in the order of the folder.
        """
        assert len(self.target) == len(self.folder)
        chosen = self.blocks[selection.cpu()]
        return FolderRows(self.folder, self.target, self.weight, chosen)

    def parts(self, generator: torch.Generator) -> Iterator[tuple[Rows, Tensor]]:
        """Groups of blocks picked at random, each with an order of its rows that have a weight."""
        for chosen in torch.randperm(len(self.blocks), generator=generator).split(self._group):
            part = self._load(chosen)
            order = part.shuffled(generator)
            yield part, order[part.weight[order] > 0]

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
        return self._load(torch.arange(1)).head(n_rows)

    def _load(self, chosen: Tensor) -> DenseRows:
        """Rows of some blocks, by their position among these."""
        device, at = self.target.device, chosen.numpy()
        codes = self.folder.read_many(self._starts[at], self.block_rows)
        indices, values = codes.to_torch(device)
        values = values.to(self.target.dtype)
        rows = _spread(self._firsts[at], self._lengths[at]).to(device)
        return DenseRows(indices, values, self.target[rows], self.weight[rows].contiguous())


def _spread(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
    """Positions start, start + 1 ... of stretches one after the other."""
    before = np.cumsum(lengths) - lengths
    return torch.from_numpy(np.repeat(starts - before, lengths) + np.arange(lengths.sum()))
