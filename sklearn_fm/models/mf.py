"""Matrix factorization with biases, or an MLP in place of its dot product.

Two id fields are the classic case; more let all pairs interact, one is a bias model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch import Tensor

from ..layers.mlp import MLP
from ..schema import FieldSchema
from .contract import Defaults, FieldModel, Parts

__all__ = ["MF"]


class MF(FieldModel):
    """Matrix factorization: global bias, a bias per id, and <p_user, q_item>.

    raw(u, i) = bias + b_u + b_i + <p_u, q_i>,
    or bias + b_u + b_i + MLP(p_u, q_i) with hidden layers.

    Parameters
    ----------
    schema : FieldSchema
        The id fields, two for users and items.
    embedding_dim : int, default=32
        Width of the vectors, K.
    hidden_layer_sizes : sequence of int, default=()
        Widths of the hidden layers of an MLP that replaces the dot product; empty
        for the dot product.
    activation : {"relu", "gelu", "silu", "tanh", "sigmoid"}, default="relu"
        Nonlinearity of the hidden layers.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    batch_norm : bool, default=False
        Whether to normalize the hidden layers over the batch.
    n_outputs : int, default=1
        Number of raw predictions per row, C; the dot product gives one.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' start values.

    Raises
    ------
    ValueError
        If n_outputs > 1 without hidden layers.

    References
    ----------
    Koren, Bell, Volinsky (2009), Matrix factorization techniques for recommender
    systems, IEEE Computer 42(8). The MLP variant: He et al. (2017), Neural
    collaborative filtering, WWW. arXiv:1708.05031
    """

    reads: frozenset[str] = frozenset({"linear", "pairs", "fields"})
    fused: str | None = "fm"

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 32,
        *,
        hidden_layer_sizes: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_outputs: int = 1,
        init_scale: float = 0.01,
    ) -> None:
        super().__init__(schema, embedding_dim, n_outputs=n_outputs, init_scale=init_scale)
        self.mlp: MLP | None = None
        if hidden_layer_sizes:
            self.reads, self.fused = frozenset({"linear", "fields"}), None
            self.mlp = MLP(
                schema.n_fields * embedding_dim,
                hidden_layer_sizes,
                n_outputs,
                activation=activation,
                dropout=dropout,
                batch_norm=batch_norm,
            )
        elif n_outputs > 1:
            raise ValueError("MF with a dot product has one output; give it hidden layers or FM.")
        else:
            self.reads = frozenset({"linear", "pairs"})
        self.reset_parameters()

    @classmethod
    def defaults(cls, schema: FieldSchema, n_slots: float, **own: Any) -> Defaults:
        """Those of a factorization machine, with smaller steps."""
        plain = super().defaults(schema, n_slots, **own)
        return replace(plain, learning_rate=min(0.05, plain.learning_rate))

    def head(self, parts: Parts) -> Tensor:
        """Linear term plus the dot products, or the MLP of the embeddings, (B, C)."""
        linear = cast(Tensor, parts.linear)
        if self.mlp is None:
            return linear + cast(Tensor, parts.pairs).sum(dim=1, keepdim=True)
        return linear + self.mlp(cast(Tensor, parts.fields).flatten(start_dim=1))
