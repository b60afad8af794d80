"""Weights of the fields of a row that depend on all of its embeddings.

What is made of the weighted embeddings is the model's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .start_values import draw_uniform

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """Squeeze-excitation of field embeddings.

    out[b, f] = a_f e_f,  a = relu(U relu(V z)),  z_f = mean_k e[b, f, k]

    Parameters
    ----------
    n_fields : int
        Number of fields, F.
    reduction : int, default=3
        F over the width in the middle, H, which is at least 1.

    Raises
    ------
    ValueError
        If reduction is less than 1.

    References
    ----------
    Huang, Zhang, Zhang (2019), FiBiNET, RecSys. arXiv:1905.09433
    """

    def __init__(self, n_fields: int, reduction: int = 3) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}.")
        n_hidden = max(n_fields // reduction, 1)
        self.squeeze = nn.Parameter(torch.zeros(n_fields, n_hidden))  # V'
        self.excite = nn.Parameter(torch.zeros(n_hidden, n_fields))  # U'
        self.reset_parameters()

    def forward(self, e: Tensor) -> Tensor:
        """Weigh the fields.

        Parameters
        ----------
        e : Tensor of shape (B, F, K)
            Field embeddings already multiplied by their values.

        Returns
        -------
        Tensor of shape (B, F, K)
        """
        squeezed = torch.relu(e.mean(dim=2) @ self.squeeze)  # (B, H)
        return e * torch.relu(squeezed @ self.excite).unsqueeze(-1)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew from He's uniform range.

        Parameters
        ----------
        generator : torch.Generator, default=None
            Source of randomness, on the CPU; torch's global one when omitted.
        """
        for weight in (self.squeeze, self.excite):
            draw_uniform(weight, (6 / weight.shape[0]) ** 0.5, generator)
