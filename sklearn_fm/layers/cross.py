"""Layers that multiply a flat row with linear maps of itself.

They know nothing of fields: a flat vector comes in, one of the same width comes out.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .start_values import draw_uniform

__all__ = ["CrossNetwork"]


class CrossNetwork(nn.Module):
    """Cross network of the second version.

    x_{l+1} = x_0 o (W_l x_l + b_l) + x_l,  W_l = U_l V_l' with a rank

    so that after L layers x_L holds products of up to L + 1 coordinates of x_0.

    Parameters
    ----------
    width : int
        Width of a row, D.
    n_layers : int
        Number of layers, L.
    rank : int, default=None
        Columns of U and V; W is a full matrix when omitted.

    Raises
    ------
    ValueError
        If the number of layers is negative, or the rank less than 1.

    References
    ----------
    Wang et al. (2021), DCN V2, WWW. arXiv:2008.13535
    """

    def __init__(self, width: int, n_layers: int, rank: int | None = None) -> None:
        super().__init__()
        if n_layers < 0 or (rank is not None and rank < 1):
            raise ValueError(
                "A cross network needs n_cross_layers >= 0 and cross_rank None or >= 1, got "
                f"{n_layers} and {rank}."
            )
        self.layers = nn.ModuleList(_CrossLayer(width, rank) for _ in range(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers.

        Parameters
        ----------
        x : Tensor of shape (B, D)
            Rows.

        Returns
        -------
        Tensor of shape (B, D)
        """
        start = x
        for layer in self.layers:
            x = layer(x, start)
        return x

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the matrices anew, uniformly so that a row keeps its variance; biases 0.

        Parameters
        ----------
        generator : torch.Generator, default=None
            Source of randomness, on the CPU; torch's global one when omitted.
        """
        for layer in self.layers:
            cast(_CrossLayer, layer).reset_parameters(generator)


class _CrossLayer(nn.Module):
    """One layer: x_0 o (W x + b) + x, with the matrices that multiply a row from the right."""

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width if rank is None else rank))
        self.back = None if rank is None else nn.Parameter(torch.zeros(rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.reset_parameters()

    def forward(self, x: Tensor, start: Tensor) -> Tensor:
        """Apply it to rows and those before the first layer, both (B, D)."""
        turned = x @ self.weight
        if self.back is not None:
            turned = turned @ self.back
        return start * (turned + self.bias) + x

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the matrices, zero the bias."""
        for matrix in (self.weight, self.back):
            if matrix is not None:
                bound = (3 / len(matrix)) ** 0.5 if len(matrix) else 0.0
                draw_uniform(matrix, bound, generator)
        self.bias.zero_()
