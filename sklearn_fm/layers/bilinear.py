"""Products of all pairs of field embeddings, one of each pair turned by a matrix first.

It sums nothing up; what becomes of the products is the model's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .start_values import draw_uniform

__all__ = ["BILINEAR_KINDS", "BilinearInteraction"]

BILINEAR_KINDS = ("all", "each", "interaction")


class BilinearInteraction(nn.Module):
    """Bilinear interaction of all pairs of fields.

    out[b, p] = (e_f W_p) o e_g for the p-th pair f < g, in the order (0, 1), (0, 2) ... (F-2, F-1),

    with one W for all pairs, one for each left field f, or one for each pair.

    Parameters
    ----------
    n_fields : int
        Number of fields, F.
    embedding_dim : int
        Width of the vectors, K.
    kind : {"all", "each", "interaction"}, default="interaction"
        What pairs share their W.

    Raises
    ------
    ValueError
        If the kind is unknown.

    References
    ----------
    Huang, Zhang, Zhang (2019), FiBiNET, RecSys. arXiv:1905.09433
    """

    def __init__(self, n_fields: int, embedding_dim: int, kind: str = "interaction") -> None:
        super().__init__()
        if kind not in BILINEAR_KINDS:
            raise ValueError(f"bilinear must be one of {BILINEAR_KINDS}, got {kind!r}.")
        self.kind = kind
        # The last field is never the left one of a pair.
        n_pairs = n_fields * (n_fields - 1) // 2
        n_matrices = {"all": 1, "each": n_fields - 1, "interaction": n_pairs}[kind]
        self.weight = nn.Parameter(torch.zeros(n_matrices, embedding_dim, embedding_dim))
        self.reset_parameters()

    def forward(self, e: Tensor) -> Tensor:
        """Turn and multiply.

        Parameters
        ----------
        e : Tensor of shape (B, F, K)
            Field embeddings already multiplied by their values.

        Returns
        -------
        Tensor of shape (B, P, K)
        """
        F = e.shape[1]
        f, g = torch.triu_indices(F, F, offset=1, device=e.device)  # (P,) each
        right = e.index_select(1, g)
        if self.kind == "interaction":
            turned = torch.einsum("bpk,pkl->bpl", e.index_select(1, f), self.weight)
        elif self.kind == "each":
            turned = torch.einsum("bfk,fkl->bfl", e[:, : F - 1], self.weight).index_select(1, f)
        else:
            turned = (e @ self.weight[0]).index_select(1, f)
        return turned * right

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the matrices anew, uniformly and such that they keep the variance of vectors.

        Parameters
        ----------
        generator : torch.Generator, default=None
            Source of randomness, on the CPU; torch's global one when omitted.
        """
        draw_uniform(self.weight, (3 / self.weight.shape[1]) ** 0.5, generator)
