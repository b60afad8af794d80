"""What all models share: bias, linear term, embeddings, and a sum of the parts.

No loss, link, optimizer or device; subclasses say how embeddings interact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..layers.embedding import FieldEmbedding, LinearTerm
from ..layers.functional import pairwise_sum, pool_slots
from ..layers.mlp import MLP
from ..schema import FieldSchema

__all__ = ["Defaults", "FieldModel", "Table"]


@dataclass(frozen=True)
class Table:
    """SHIM"""

    width: int
    prior: str
    accumulators: int = 1


@dataclass(frozen=True)
class Defaults:
    """SHIM"""

    learning_rate: float
    priors: dict[str, float]
    dense_floats: float = 0.0
    needs_batches: bool = False


class FieldModel(nn.Module):
    """Base of the models: raw(x) = bias + linear term + interactions of the embeddings.

    A subclass says which of two things it uses, and implements what it makes of them: the
    pairwise sums of a row (`from_pairs`) and its embeddings (`from_embeddings`). Everything
    below (lookup, table gradients, the state of the optimizer) is common to all
    models, so the training step can treat the tables apart from the rest.

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int
        Width of the vectors, K.
    n_outputs : int, default=1
        Number of raw predictions per row, C: 1 for binary classification and
        regression, the number of classes for more.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' normal start values.
    """

    #: Whether the sums of products over all pairs of embeddings are part of the model.
    uses_pairs = False
    #: Whether the embeddings themselves are.
    uses_embeddings = False
    #: Whether pairs are those of all slots, also within a field, rather than of the fields.
    pair_slots = False
    #: Rows of the embeddings that training leaves as they are.
    frozen_rows: Tensor | None = None
    #: True if `from_embeddings` needs field f at position f. A model that treats all slots
    #: alike also takes rows of different lengths, padded by slots of value 0.
    positional = False

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int,
        *,
        n_outputs: int = 1,
        init_scale: float = 0.01,
    ) -> None:
        super().__init__()
        self.schema = schema
        self._largest = [f for f, pooling in enumerate(schema.poolings) if pooling == "max"]
        self.n_outputs = n_outputs
        self.init_scale = init_scale
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        self.linear = LinearTerm(schema.table_size, n_outputs)
        self.embedding = FieldEmbedding(schema.table_size, embedding_dim)

    top_rate: ClassVar[float] = 0.2

    @classmethod
    def tables(cls, schema: FieldSchema, n_outputs: int, **own: Any) -> dict[str, Table]:
        return {
            "linear": Table(n_outputs, "linear"),
            "embedding": Table(own.get("embedding_dim", 16), "embedding"),
        }

    @classmethod
    def defaults(cls, schema: FieldSchema, n_slots: float, **own: Any) -> Defaults:
        K, hidden = own.get("embedding_dim", 16), tuple(own.get("hidden_layer_sizes", ()))
        pairs = max(n_slots * (n_slots - 1) / 2, 1.0)
        widths = [schema.n_fields * K, *hidden, own.get("n_outputs", 1)]
        return Defaults(
            min(cls.top_rate, 1.5 / n_slots),
            {"linear": n_slots, "embedding": 2 * math.sqrt(pairs * K)},
            float(sum(a * b for a, b in pairwise(widths))) if hidden else 0.0,
            bool(own.get("dropout", 0) > 0 or own.get("batch_norm", False)),
        )

    def from_pairs(self, pairs: Tensor) -> Tensor:
        """Contribution of the pairwise sums to the raw prediction.

        With one output it is their total, which compiled kernels rely on.

        Parameters
        ----------
        pairs : Tensor of shape (B, K)
            What `layers.functional.pairwise_sum` makes of the embeddings.

        Returns
        -------
        Tensor of shape (B, C)
        """
        return pairs.sum(dim=1, keepdim=True)

    def from_embeddings(self, e: Tensor) -> Tensor:
        """Contribution of the embeddings to the raw prediction.

        Parameters
        ----------
        e : Tensor of shape (B, F, K)
            Embeddings of the fields: those of the slots times their values, pooled.

        Returns
        -------
        Tensor of shape (B, C)
        """
        raise NotImplementedError

    def combine(self, linear: Tensor, pairs: Tensor | None, e: Tensor | None) -> Tensor:
        """Raw prediction without the bias.

        Parameters
        ----------
        linear : Tensor of shape (B, C)
            Linear term.
        pairs : Tensor of shape (B, K) or None
            Pairwise sums, if the model uses them.
        e : Tensor of shape (B, F, K) or None
            Embeddings, if the model uses them.

        Returns
        -------
        Tensor of shape (B, C)
        """
        raw = linear
        if self.uses_pairs:
            raw = raw + self.from_pairs(cast(Tensor, pairs))
        if self.uses_embeddings:
            raw = raw + self.from_embeddings(cast(Tensor, e))
        return raw

    def linear_values(self, values: Tensor) -> Tensor:
        """Values that multiply the weights of the linear term: 0 for fields that have none.

        Parameters
        ----------
        values : Tensor of shape (B, S)
            Multipliers.

        Returns
        -------
        Tensor of shape (B, S)
        """
        schema = self.schema
        if all(schema.linear):
            return values
        mask = [schema.linear[f] for f in schema.slot_fields]
        return values * torch.tensor(mask, dtype=values.dtype, device=values.device)

    def from_slots(self, linear: Tensor, e: Tensor, values: Tensor) -> Tensor:
        """Raw prediction without the bias, from the embeddings of the slots.

        Parameters
        ----------
        linear : Tensor of shape (B, C)
            Linear term.
        e : Tensor of shape (B, S, K)
            Embeddings of the slots, multiplied by their values.
        values : Tensor of shape (B, S)
            The values.

        Returns
        -------
        Tensor of shape (B, C)
        """
        pooled = e
        if self.schema.n_slots > self.schema.n_fields:
            pooled = pool_slots(e, values, self.schema.slots, self._largest)
        pairs = pairwise_sum(e if self.pair_slots else pooled) if self.uses_pairs else None
        return self.combine(linear, pairs, pooled)

    def forward(self, indices: Tensor, values: Tensor) -> Tensor:
        """Raw predictions of encoded rows.

        Parameters
        ----------
        indices : Tensor of shape (B, S)
            Rows of the shared table; int32 or int64.
        values : Tensor of shape (B, S)
            Multipliers; a slot of value 0 changes nothing.

        Returns
        -------
        Tensor of shape (B, C)
        """
        e = self.embedding(indices, values)
        linear = self.linear(indices, self.linear_values(values))
        return self.bias + self.from_slots(linear, e, values)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw start values: bias and linear term 0, embeddings N(0, init_scale), MLP as it says.

        The rows of unknown categories start at 0 and stay there unless rows of the
        training data train them, so an unseen category falls back to what is left of
        the sum without it.

        Parameters
        ----------
        generator : torch.Generator, default=None
            Source of randomness; torch's global one when omitted.
        """
        self.bias.zero_()
        self.linear.weight.zero_()
        # In pieces, so that the numbers drawn do not depend on how the table lies in memory.
        for rows in self.embedding.weight.split(2**14):
            rows.copy_(torch.randn(rows.shape, generator=generator).mul_(self.init_scale))
        self.embedding.weight[[row for row in set(self.schema.unknown_rows) if row >= 0]] = 0
        for part in self.children():
            if isinstance(part, MLP):
                part.reset_parameters(generator)

    @torch.no_grad()
    def take_over(self, before: FieldModel) -> None:
        """Copy the weights of a model whose vocabularies have grown into this one.

        Parameters
        ----------
        before : FieldModel
            Of the same kind; its rows keep their weights to the last bit, while new ones
            have those of this model.

        Raises
        ------
        ValueError
            If the schema of this model is no grown one of the other's.
        """
        kept = self.schema.rows_kept(before.schema)
        if kept is None:
            raise ValueError("The schemas differ in more than new categories.")
        theirs = before.state_dict()
        tables = {id(table) for table in self.sparse_tables().values()}
        of_table = {name for name, value in self.named_parameters() if id(value) in tables}
        for name, value in self.state_dict().items():
            if name not in of_table:
                value.copy_(theirs[name])
                continue
            for first, now, n_rows in kept:
                value[now : now + n_rows] = theirs[name][first : first + n_rows]

    def sparse_tables(self) -> dict[str, nn.Parameter]:
        """Parameters with one row per index, by the name of the part that owns them."""
        return {"linear": self.linear.weight, "embedding": self.embedding.weight}
