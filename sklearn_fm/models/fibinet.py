"""FiBiNET: bilinear products of the embeddings, as they are and weighed by field, in an MLP.

The layers are in ``layers``; other ways to combine embeddings are other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..layers.bilinear import BilinearInteraction
from ..layers.excitation import SqueezeExcitation
from ..layers.mlp import MLP
from ..schema import FieldSchema
from .contract import FieldModel, Parts

__all__ = ["FiBiNET"]


class FiBiNET(FieldModel):
    """Feature importance and bilinear interaction network.

    raw(x) = bias + sum_s w_s x_s + MLP([B(e), B(a o e)])

    where e are the embeddings of the fields, a their weights by squeeze-excitation, and B the
    products (e_f W) o e_g of all pairs of fields.

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int, default=16
        Width of the vectors, K.
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Widths of the MLP's hidden layers; empty for a linear map.
    activation : {"relu", "gelu", "silu", "tanh", "sigmoid"}, default="relu"
        Nonlinearity of the hidden layers.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    batch_norm : bool, default=False
        Whether to normalize the hidden layers over the batch.
    bilinear : {"all", "each", "interaction"}, default="interaction"
        Whether W is one for all pairs, one for each left field or one for each pair.
    reduction : int, default=3
        Number of fields over the width of the squeeze.
    n_outputs : int, default=1
        Number of raw predictions per row, C.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' start values.

    Notes
    -----
    Both products share their matrices W, as in the implementations that the published
    figures come from; the paper does not say. The MLP reads F (F - 1) K numbers.

    References
    ----------
    Huang, Zhang, Zhang (2019), FiBiNET: combining feature importance and bilinear feature
    interaction for click-through rate prediction, RecSys. arXiv:1905.09433
    """

    reads: frozenset[str] = frozenset({"linear", "fields"})

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 16,
        *,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        bilinear: str = "interaction",
        reduction: int = 3,
        n_outputs: int = 1,
        init_scale: float = 0.01,
    ) -> None:
        super().__init__(schema, embedding_dim, n_outputs=n_outputs, init_scale=init_scale)
        n_fields = schema.n_fields
        self.excitation = SqueezeExcitation(n_fields, reduction)
        self.bilinear = BilinearInteraction(n_fields, embedding_dim, bilinear)
        self.mlp = MLP(
            n_fields * (n_fields - 1) * embedding_dim,
            hidden_layer_sizes,
            n_outputs,
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
        )
        self.reset_parameters()

    def head(self, parts: Parts) -> Tensor:
        """Linear term plus the MLP of the products, (B, C)."""
        linear, e = cast(Tensor, parts.linear), cast(Tensor, parts.fields)
        products = torch.cat([self.bilinear(e), self.bilinear(self.excitation(e))], dim=1)
        return linear + self.mlp(products.flatten(start_dim=1))  # (B, 2 P, K) to (B, 2 P K)
