"""DeepFM: a factorization machine and an MLP over the same embeddings.

The MLP is `layers.MLP`; other ways to combine embeddings are other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from ..layers.mlp import MLP
from ..schema import FieldSchema
from .contract import FieldModel, Parts
from .fm import FM

__all__ = ["DeepFM"]


class DeepFM(FM):
    """Factorization machine plus a multilayer perceptron.

    raw(x) = FM(x) + MLP(concatenation of the fields' embeddings e_1 ... e_F)

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int, default=16
        Width of the vectors, K.
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Widths of the MLP's hidden layers; empty leaves the plain FM.
    activation : {"relu", "gelu", "silu", "tanh", "sigmoid"}, default="relu"
        Nonlinearity of the hidden layers.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    batch_norm : bool, default=False
        Whether to normalize the hidden layers over the batch.
    n_outputs : int, default=1
        Number of raw predictions per row, C.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' start values.
    pair_slots : bool, default=False
        Whether categories of one bag interact too in the factorization machine.

    References
    ----------
    Guo et al. (2017), DeepFM: a factorization-machine based neural network for CTR
    prediction, IJCAI. arXiv:1703.04247
    """

    reads: frozenset[str] = frozenset({"linear", "pairs", "fields"})
    fused: str | None = "fm"
    adds_to: type[FieldModel] | None = FM

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 16,
        *,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_outputs: int = 1,
        init_scale: float = 0.01,
        pair_slots: bool = False,
    ) -> None:
        super().__init__(
            schema,
            embedding_dim,
            n_outputs=n_outputs,
            init_scale=init_scale,
            pair_slots=pair_slots,
        )
        self.mlp: MLP | None = None
        if hidden_layer_sizes:
            self.fused = None
            self.mlp = MLP(
                schema.n_fields * embedding_dim,
                hidden_layer_sizes,
                n_outputs,
                activation=activation,
                dropout=dropout,
                batch_norm=batch_norm,
            )
        else:
            self.reads = FM.reads

    def head(self, parts: Parts) -> Tensor:
        """That of the factorization machine plus the MLP of the fields' embeddings, (B, C)."""
        plain = super().head(parts)
        if self.mlp is None:
            return plain
        return plain + self.mlp(cast(Tensor, parts.fields).flatten(start_dim=1))
