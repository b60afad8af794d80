"""Factorization machine whose fields have a vector of their own for each partner.

Weights of pairs, and matrices between shared vectors, are other models.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..layers.functional import field_aware_sum
from ..layers.start_values import draw_normal
from ..schema import FieldSchema
from .contract import FieldModel, Parts, Table

__all__ = ["FFM"]


class FFM(FieldModel):
    """Field-aware factorization machine.

    raw(x) = bias + sum_s w_s x_s + sum_{f<g} <e_fg, e_gf>,  e_fg = sum_{s in f} v_sg x_s

    A row of the table holds the F vectors of an index one after the other, the g-th for partners
    of field g. As a field knows each partner by other weights, few numbers per vector are enough.
    With several outputs the vectors are shared: output c has its own linear term and
    weighs the K coordinates of the pairwise sum by its own vector.

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int, default=4
        Width of the vectors, K; a row of the table has F K numbers.
    n_outputs : int, default=1
        Number of raw predictions per row, C.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' start values.

    Notes
    -----
    The vector of an index for its own field takes part in nothing, though it has its place in
    the table. The paper leaves the linear term out; its code has none.

    References
    ----------
    Juan et al. (2016), Field-aware factorization machines for CTR prediction, RecSys.
    """

    reads: frozenset[str] = frozenset({"linear", "fields"})

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 4,
        *,
        n_outputs: int = 1,
        init_scale: float = 0.01,
    ) -> None:
        super().__init__(schema, embedding_dim, n_outputs=n_outputs, init_scale=init_scale)
        if n_outputs > 1:
            self.pairwise_weight = nn.Parameter(torch.zeros(embedding_dim, n_outputs))
        self.reset_parameters()

    @classmethod
    def tables(cls, schema: FieldSchema, n_outputs: int, **own: Any) -> dict[str, Table]:
        """A vector per partner field, each with a step size of its own as in the paper."""
        width = schema.n_fields * cls.with_defaults(own)["embedding_dim"]
        return {
            "linear": Table(n_outputs, "linear"),
            "embedding": Table(width, "embedding", accumulators=max(schema.n_fields, 1)),
        }

    def head(self, parts: Parts) -> Tensor:
        """Linear term plus the pairwise sums' total, or their weighted ones per output, (B, C)."""
        linear, fields = cast(Tensor, parts.linear), cast(Tensor, parts.fields)
        n_fields = self.schema.n_fields
        width = fields.shape[2] // max(n_fields, 1)
        pairs = field_aware_sum(fields.unflatten(2, (n_fields, width)))  # (B, K)
        if self.n_outputs == 1:
            return linear + pairs.sum(dim=1, keepdim=True)
        return linear + pairs @ self.pairwise_weight

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw start values; per-output weights of the pairwise sum are N(0, 1)."""
        super().reset_parameters(generator)
        if self.n_outputs > 1:
            draw_normal(self.pairwise_weight, 1.0, generator)
