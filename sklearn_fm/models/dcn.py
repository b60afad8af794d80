"""DCN v2: a cross network and an MLP side by side over the same embeddings.

There is no linear term, whose part the cross network plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..layers.cross import CrossNetwork
from ..layers.mlp import MLP
from ..layers.start_values import draw_uniform
from ..schema import FieldSchema
from .contract import FieldModel, Parts

__all__ = ["DCN"]


class DCN(FieldModel):
    """Deep and cross network of the second version, its two parts in parallel.

    raw(x) = bias + u' x_L + MLP(x_0),  x_{l+1} = x_0 o (W_l x_l + b_l) + x_l

    where x_0 are the fields' embeddings e_1 ... e_F side by side.

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int, default=16
        Width of the vectors, K.
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Widths of the MLP's hidden layers; empty for the cross network alone.
    activation : {"relu", "gelu", "silu", "tanh", "sigmoid"}, default="relu"
        Nonlinearity of the hidden layers.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    batch_norm : bool, default=False
        Whether to normalize the hidden layers over the batch.
    n_cross_layers : int, default=3
        Layers of the cross network, L.
    cross_rank : int, default=None
        Rank of its matrices W; full when omitted.
    n_outputs : int, default=1
        Number of raw predictions per row, C.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' start values.

    Notes
    -----
    The last layer of the paper is one linear map of [x_L, hidden units]; it is the sum of u' x_L
    and the MLP's own last layer.

    References
    ----------
    Wang et al. (2021), DCN V2: improved deep & cross network and practical lessons for web-scale
    learning to rank systems, WWW. arXiv:2008.13535
    """

    reads: frozenset[str] = frozenset({"fields"})

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 16,
        *,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_cross_layers: int = 3,
        cross_rank: int | None = None,
        n_outputs: int = 1,
        init_scale: float = 0.01,
    ) -> None:
        super().__init__(schema, embedding_dim, n_outputs=n_outputs, init_scale=init_scale)
        width = schema.n_fields * embedding_dim
        self.cross = CrossNetwork(width, n_cross_layers, cross_rank)
        self.cross_weight = nn.Parameter(torch.zeros(width, n_outputs))
        self.mlp: MLP | None = None
        if hidden_layer_sizes:
            self.mlp = MLP(
                width,
                hidden_layer_sizes,
                n_outputs,
                activation=activation,
                dropout=dropout,
                batch_norm=batch_norm,
            )
        self.reset_parameters()

    def head(self, parts: Parts) -> Tensor:
        """Weighted end of the cross network plus the MLP, (B, C)."""
        x = cast(Tensor, parts.fields).flatten(start_dim=1)
        raw = self.cross(x) @ self.cross_weight
        return raw if self.mlp is None else raw + self.mlp(x)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw start values; the weights of the cross network's end keep its variance."""
        super().reset_parameters(generator)
        width = len(self.cross_weight)
        draw_uniform(self.cross_weight, (3 / width) ** 0.5 if width else 0.0, generator)
