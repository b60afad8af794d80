"""How a block lies in memory: the vector and the weight of one index, updated at once.

Nothing is computed here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from numba import types

from ..compile import as_layout
from ..simd import registers

__all__ = ["BlockLayout"]

_MOST_FEW = 16
_AROUND = 3  # cost of a tile besides its rows, in multiply-adds


@functools.cache
def _best_tile(K: int, panel: int) -> int:
    most = registers()[0] * 3 // 4

    def cost(n: int) -> int:
        return sum(-(-(K + 2 - c) // n) * (n + _AROUND) for c in range(0, K, panel))

    return min(range(most, 0, -1), key=cost)


@as_layout
@dataclass(frozen=True)
class BlockLayout:
    """Where the parts of a block stand: the vector and the weight of one index, updated at once.

    Vectors and sums of vectors are `number`, with padding up to whole registers; what an entry
    tells of a block is a *feature row* [ x_1 .. x_K | x_w, residual, padding ] of `row` numbers;
    statistics and precisions of a block are rows [ v_1 .. v_K | w, padding ] of `width` float64.

    Parameters
    ----------
    embedding_dim : int
        Width of a vector.
    bits : {32, 64}, default=32
        Size of the numbers of rows and blocks; solutions are of 64 bits anyway.
    """

    embedding_dim: int
    bits: int = 32

    sizes = ()  # all are constants

    @property
    def number(self) -> types.Float:
        """Type of the numbers."""
        return types.float32 if self.bits == 32 else types.float64

    @property
    def lanes(self) -> int:
        """Numbers that a kernel takes at once: as many as pad a vector least."""
        if self.embedding_dim <= 4:
            return 4
        half = -(-self.embedding_dim // 8)
        return 16 if self.bits == 32 and half % 2 == 0 else 8

    @property
    def K(self) -> int:
        """Room for a vector: `embedding_dim` rounded up to whole registers."""
        return self.embedding_dim + -self.embedding_dim % self.lanes

    @property
    def wide(self) -> BlockLayout:
        """The same in float64, for statistics."""
        return BlockLayout(self.K, 64)

    @property
    def width(self) -> int:
        """Room for a vector and a weight in float64."""
        return self.K + self.wide.lanes

    @property
    def panel(self) -> int:
        """Columns of a tile of the statistics: a register."""
        return min(self.lanes, max(registers()[1] // self.bits, 1))

    @property
    def tile(self) -> int:
        """Rows of a tile: as suits all of them best, while a tile stays in registers."""
        return _best_tile(self.K, self.panel)

    @property
    def tall(self) -> int:
        """Rows of the statistics: K + 2, and room for whole tiles."""
        n = self.tile
        return max(c + -(-(self.K + 2 - c) // n) * n for c in range(0, self.K, self.panel))

    @property
    def row(self) -> int:
        """Room for a feature row."""
        return self.tall + -self.tall % self.lanes

    @property
    def few(self) -> int:
        """Up to so many entries a block is drawn by way of these rather than of its precision."""
        return min(max(4, self.K // 4), _MOST_FEW)

    @property
    def compiled(self) -> BlockLayout:
        """The layout that stands for all of its room."""
        return BlockLayout(self.K, self.bits)
