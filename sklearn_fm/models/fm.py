"""Factorization machine of second order.

Higher orders and field-aware embeddings are other models.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..layers.start_values import draw_normal
from ..schema import FieldSchema
from .contract import FieldModel, Parts

__all__ = ["FM"]


class FM(FieldModel):
    """Factorization machine.

    raw(x) = bias + sum_s w_s x_s + sum_{f<g} <e_f, e_g>,  e_f = sum_{s in f} v_s x_s

    where a field has one slot s unless it is a bag, whose slots are pooled first; with
    `pair_slots` the pairs are those of the slots, sum_{s<t} <v_s, v_t> x_s x_t. With several
    outputs the embeddings are shared: output c has its own linear term and weighs the K
    coordinates of the pairwise sum by its own vector.

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int, default=16
        Width of the vectors, K.
    n_outputs : int, default=1
        Number of raw predictions per row, C.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' start values.
    pair_slots : bool, default=False
        Whether categories of one bag interact too, as in libFM.

    References
    ----------
    Rendle (2010), Factorization machines, ICDM.

    Examples
    --------
    >>> import torch
    >>> from sklearn_fm.schema import FieldSchema
    >>> model = FM(FieldSchema.from_sizes([1000, 500, 1]), embedding_dim=8)
    >>> model(torch.tensor([[7, 1003, 1500]]), torch.tensor([[1.0, 1.0, 0.5]])).shape
    torch.Size([1, 1])
    """

    reads: frozenset[str] = frozenset({"linear", "pairs"})
    fused: str | None = "fm"

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 16,
        *,
        n_outputs: int = 1,
        init_scale: float = 0.01,
        pair_slots: bool = False,
    ) -> None:
        super().__init__(schema, embedding_dim, n_outputs=n_outputs, init_scale=init_scale)
        self.pair_slots = pair_slots
        if n_outputs > 1:
            self.fused = None
            self.pairwise_weight = nn.Parameter(torch.zeros(embedding_dim, n_outputs))
        self.reset_parameters()

    def head(self, parts: Parts) -> Tensor:
        """Linear term plus the pairwise sums' total, or their weighted ones per output, (B, C)."""
        linear, pairs = cast(Tensor, parts.linear), cast(Tensor, parts.pairs)
        if self.n_outputs == 1:
            return linear + pairs.sum(dim=1, keepdim=True)
        return linear + pairs @ self.pairwise_weight

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw start values; per-output weights of the pairwise sum are N(0, 1)."""
        super().reset_parameters(generator)
        if self.n_outputs > 1:
            draw_normal(self.pairwise_weight, 1.0, generator)
