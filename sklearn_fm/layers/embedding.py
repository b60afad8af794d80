"""The two tables that all fields share: one vector and one scalar weight per index.

Lookup only; how the tables are trained is the business of ``training``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FieldEmbedding", "LinearTerm"]


class FieldEmbedding(nn.Module):
    """Vectors of the indices of a row, multiplied by their values.

    e[b, s] = values[b, s] * weight[indices[b, s]]

    Parameters
    ----------
    table_size : int
        Number of rows of the table.
    embedding_dim : int
        Width of a vector.
    """

    def __init__(self, table_size: int, embedding_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(table_size, embedding_dim))

    def forward(self, indices: Tensor, values: Tensor) -> Tensor:
        """Look up and scale.

        Parameters
        ----------
        indices : Tensor of shape (B, S)
            Rows of the table; int32 or int64.
        values : Tensor of shape (B, S)
            Multipliers.

        Returns
        -------
        Tensor of shape (B, S, K)
        """
        return F.embedding(indices, self.weight) * values.unsqueeze(-1)


class LinearTerm(nn.Module):
    """Sum of the scalar weights of a row, each multiplied by its value.

    out[b, c] = sum_s values[b, s] * weight[indices[b, s], c]

    Parameters
    ----------
    table_size : int
        Number of rows of the table.
    n_outputs : int
        Number of weights per index, C.
    """

    def __init__(self, table_size: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(table_size, n_outputs))

    def forward(self, indices: Tensor, values: Tensor) -> Tensor:
        """Look up, scale and add.

        Parameters
        ----------
        indices : Tensor of shape (B, S)
            Rows of the table; int32 or int64.
        values : Tensor of shape (B, S)
            Multipliers.

        Returns
        -------
        Tensor of shape (B, C)
        """
        return (F.embedding(indices, self.weight) * values.unsqueeze(-1)).sum(dim=1)
