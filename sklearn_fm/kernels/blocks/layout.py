"""How a block lies in memory: the vector and the weight of one index, updated at once."""

from __future__ import annotations

from dataclasses import dataclass

from numba import types

from ..compile import as_layout

__all__ = ["BlockLayout"]


@as_layout
@dataclass(frozen=True)
class BlockLayout:
    """Where the parts of a block stand: the vector and the weight of one index, updated at once.

    A row of the table is [ v_1 .. v_K, padding | w ], a row of the statistics of a block [ v | w,
    residual, padding ], all in float64.

    Parameters
    ----------
    embedding_dim : int
        Width of a vector.
    """

    embedding_dim: int

    sizes = ()  # all are constants

    @property
    def number(self) -> types.Float:
        """Type of the numbers."""
        return types.float64

    @property
    def lanes(self) -> int:
        """Numbers that a kernel takes at once."""
        return 4 if self.embedding_dim <= 4 else 8

    @property
    def K(self) -> int:
        """Room for a vector: `embedding_dim` rounded up to whole registers."""
        return self.embedding_dim + -self.embedding_dim % self.lanes

    @property
    def width(self) -> int:
        """Room for a vector, a weight and a residual."""
        return self.K + self.lanes

    @property
    def compiled(self) -> BlockLayout:
        """The layout that stands for all of its room."""
        return BlockLayout(self.K)
