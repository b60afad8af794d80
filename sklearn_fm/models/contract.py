"""What a model says of itself, and what all models share: the tables, the bias, start values.

No loss, link, optimizer or device; subclasses say how embeddings interact.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..layers.embedding import FieldEmbedding, LinearTerm
from ..layers.functional import pairwise_sum, pool_slots
from ..layers.randomness import PrivateRandomness
from ..schema import FieldSchema

__all__ = ["Defaults", "FieldModel", "Parts", "Table"]

_PARTS = frozenset({"linear", "pairs", "fields"})


class Parts(NamedTuple):
    """What lies below a model's head; None for what the model does not read."""

    linear: Tensor | None  # (B, C) linear term
    pairs: Tensor | None  # (B, K) sums of products over all pairs of embeddings
    fields: Tensor | None  # (B, F, W) embeddings of the fields


@dataclass(frozen=True)
class Table:
    """A parameter with one row per index.

    Parameters
    ----------
    width : int
        Numbers in a row.
    prior : {"linear", "embedding"}
        Which of the precisions `l2_linear` and `l2_embedding` is that of its prior.
    accumulators : int, default=1
        Accumulators of Adagrad per row: the row's gradient is cut into that many equal
        stretches, each with an accumulator, and so a step size, of its own.

    Raises
    ------
    ValueError
        If the prior is unknown, or the row cannot be cut into that many stretches.
    """

    width: int
    prior: str
    accumulators: int = 1

    def __post_init__(self) -> None:
        if self.prior not in ("linear", "embedding"):
            raise ValueError(f"prior must be 'linear' or 'embedding', got {self.prior!r}.")
        if self.accumulators < 1 or self.width % self.accumulators:
            raise ValueError(
                f"A row of {self.width} numbers cannot be cut into {self.accumulators} equal "
                "stretches. Let width be a multiple of accumulators."
            )


@dataclass(frozen=True)
class Defaults:
    """What a model suggests where the user leaves a choice open.

    Parameters
    ----------
    learning_rate : float
        Step size of the tables for "adagrad" and "ftrl".
    priors : dict of str to float
        Precision that "auto" starts from, by the name of the prior.
    needs_batches : bool, default=False
        Whether training must see random batches, as with dropout or batch
        normalization, which full-batch L-BFGS does not give.
    """

    learning_rate: float
    priors: dict[str, float]
    needs_batches: bool = False


class FieldModel(nn.Module):
    """Base of the models: raw(x) = bias + head(parts of x).

    A subclass says which parts of a row it reads (`reads`) and what it makes of them
    (`head`). The tables and their state are common to all models, so the training step
    treats them apart from the rest: it computes the parts and takes the derivatives by them.

    Parameters
    ----------
    schema : FieldSchema
        The fields and their share of the table.
    embedding_dim : int, default=16
        Width of the vectors, K.
    n_outputs : int, default=1
        Number of raw predictions per row, C: 1 for binary classification and
        regression, the number of classes for more.
    init_scale : float, default=0.01
        Standard deviation of the embeddings' normal start values.
    **own : dict
        Other arguments of the subclass on which its `tables` depend.

    Raises
    ------
    ValueError
        If `tables` and `reads` do not fit each other or the engines.

    Notes
    -----
    The linear term must enter the head as a summand: the engines add the bias to it beforehand.
    """

    #: Parts that models of this class may read; on an instance, those that it does. One that
    #: reads "fields" gets a slot for every slot of the schema, at its place, also from sparse
    #: rows; one that does not takes rows of any length, padded by slots of value 0.
    reads: frozenset[str] = frozenset()
    #: Name of the kernel that computes the whole raw prediction, if one does. "fm": bias, linear
    #: term and the total of the pairwise sums, of one output.
    fused: str | None = None
    #: Model to whose raw prediction this one adds hidden layers, out of the same arguments.
    adds_to: type[FieldModel] | None = None
    #: Whether pairs are those of all slots, also within a field, rather than of the fields.
    pair_slots = False
    #: Rows of the embeddings that training leaves as they are.
    frozen_rows: Tensor | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "head" in vars(cls) and "fused" not in vars(cls):
            cls.fused = None  # the kernel that was named computes another head

    def __init__(
        self,
        schema: FieldSchema,
        embedding_dim: int = 16,
        *,
        n_outputs: int = 1,
        init_scale: float = 0.01,
        **own: Any,
    ) -> None:
        super().__init__()
        self.schema = schema
        self._largest = [f for f, pooling in enumerate(schema.poolings) if pooling == "max"]
        self.n_outputs = n_outputs
        self.init_scale = init_scale
        own |= {"embedding_dim": embedding_dim, "init_scale": init_scale}
        self.table_specs = self.tables(schema, n_outputs, **own)
        self._check_contract()
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        if "linear" in self.table_specs:
            self.linear = LinearTerm(schema.table_size, n_outputs)
        self.embedding = FieldEmbedding(schema.table_size, self.table_specs["embedding"].width)

    def _check_contract(self) -> None:
        name, specs = type(self).__name__, self.table_specs
        if not {"embedding"} <= set(specs) <= {"embedding", "linear"}:
            raise ValueError(
                f"{name}.tables must give 'embedding', and 'linear' if there is a linear term, "
                f"got {sorted(specs)}."
            )
        if "linear" in specs and specs["linear"] != Table(self.n_outputs, specs["linear"].prior):
            raise ValueError(
                f"The table 'linear' of {name} must have one weight per output and one "
                f"accumulator, Table({self.n_outputs}, ...), got {specs['linear']}."
            )
        if not self.reads <= _PARTS or ("linear" in self.reads) != ("linear" in specs):
            raise ValueError(
                f"{name}.reads must name parts out of {sorted(_PARTS)}, 'linear' if and only if "
                f"there is a table of that name, got {sorted(self.reads)} with the tables "
                f"{sorted(specs)}."
            )

    # -- what a model says of itself -----------------------------------------------------

    @classmethod
    def with_defaults(cls, own: dict[str, Any]) -> dict[str, Any]:
        """Arguments of the constructor, those that are missing at their defaults.

        Parameters
        ----------
        own : dict
            Some of them by name.

        Returns
        -------
        dict
        """
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty} | own

    @classmethod
    def tables(cls, schema: FieldSchema, n_outputs: int, **own: Any) -> dict[str, Table]:
        """Tables with one row per index, by name: "embedding", and "linear" for a linear term.

        By default embeddings of width embedding_dim, and the linear term if models of the class
        read one.

        Parameters
        ----------
        schema : FieldSchema
            The fields.
        n_outputs : int
            Number of raw predictions per row, C.
        **own : dict
            Arguments of the constructor.

        Returns
        -------
        dict of str to Table
        """
        tables = {"embedding": Table(cls.with_defaults(own)["embedding_dim"], "embedding")}
        if "linear" in cls.reads:
            tables = {"linear": Table(n_outputs, "linear"), **tables}
        return tables

    @classmethod
    def defaults(cls, schema: FieldSchema, n_slots: float, **own: Any) -> Defaults:
        """Step size and precisions that suit a factorization machine; an MLP's need of batches.

        At the precisions given, the linear term of a row has a standard deviation of 1 a
        priori, and the pairwise term, a sum of embedding_dim products per pair, one of 1/2.

        Parameters
        ----------
        schema : FieldSchema
            The fields.
        n_slots : float
            Fields of an average row.
        **own : dict
            Arguments of the constructor.

        Returns
        -------
        Defaults
        """
        own = cls.with_defaults(own)
        n_pairs = max(n_slots * (n_slots - 1) / 2, 1.0)
        starts = {
            "linear": n_slots,
            "embedding": 2 * (n_pairs * own["embedding_dim"]) ** 0.5,
        }
        tables = cls.tables(schema, **{"n_outputs": 1, **own})
        used = {table.prior for table in tables.values()}
        priors = {name: start for name, start in starts.items() if name in used}
        is_random = own.get("dropout", 0.0) > 0 or own.get("batch_norm", False)
        needs_batches = bool(own.get("hidden_layer_sizes")) and is_random
        return Defaults(min(0.2, 1.5 / n_slots), priors, needs_batches)

    def head(self, parts: Parts) -> Tensor:
        """Raw prediction without the bias.

        Parameters
        ----------
        parts : Parts
            Those that the model reads; the linear term must be a summand of the result.

        Returns
        -------
        Tensor of shape (B, C)
        """
        raise NotImplementedError

    # -- from rows to raw predictions ----------------------------------------------------

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

    def combine_slots(self, e: Tensor, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Pairwise sums and embeddings of the fields, as far as the model reads them.

        Parameters
        ----------
        e : Tensor of shape (B, S, W)
            Embeddings of the slots, multiplied by their values.
        values : Tensor of shape (B, S)
            The values.

        Returns
        -------
        pairs : Tensor of shape (B, W) or None
            Sums of products over all pairs.
        fields : Tensor of shape (B, F, W) or None
            Pooled embeddings.

        Raises
        ------
        ValueError
            If the model reads fields, and rows have other slots than the schema.
        """
        schema = self.schema
        reads_fields, reads_pairs = "fields" in self.reads, "pairs" in self.reads
        if reads_fields and e.shape[1] != schema.n_slots:
            raise ValueError(
                f"{type(self).__name__} reads each field at its place, so rows must have the "
                f"{schema.n_slots} slots of its schema, got {e.shape[1]}. Spread sparse rows out "
                "to all columns."
            )
        pooled = e
        if schema.n_slots > schema.n_fields and (reads_fields or not self.pair_slots):
            pooled = pool_slots(e, values, schema.slots, self._largest)
        pairs = pairwise_sum(e if self.pair_slots else pooled) if reads_pairs else None
        return pairs, pooled if reads_fields else None

    def from_slots(self, linear: Tensor | None, e: Tensor, values: Tensor) -> Tensor:
        """Raw prediction without the bias, from the embeddings of the slots.

        Parameters
        ----------
        linear : Tensor of shape (B, C) or None
            Linear term, if the model reads it.
        e : Tensor of shape (B, S, W)
            Embeddings of the slots, multiplied by their values.
        values : Tensor of shape (B, S)
            The values.

        Returns
        -------
        Tensor of shape (B, C)
        """
        return self.head(Parts(linear, *self.combine_slots(e, values)))

    def finish(self, start: Tensor, pairs: Tensor | None, fields: Tensor | None) -> Tensor:
        """Raw prediction from parts that an engine has computed.

        Parameters
        ----------
        start : Tensor of shape (B, C)
            Bias, plus the linear term if the model reads it.
        pairs : Tensor of shape (B, W) or None
            Pairwise sums, if the model reads them.
        fields : Tensor of shape (B, F, W) or None
            Embeddings of the fields, if the model reads them.

        Returns
        -------
        Tensor of shape (B, C)
        """
        if "linear" in self.reads:
            return self.head(Parts(start, pairs, fields))
        return start + self.head(Parts(None, pairs, fields))

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
        linear = None
        if "linear" in self.reads:
            linear = self.linear(indices, self.linear_values(values))
        return self.bias + self.from_slots(linear, e, values)

    # -- weights -------------------------------------------------------------------------

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw start values: bias and linear term 0, embeddings N(0, init_scale), layers their own.

        The rows of unknown categories start at 0 and stay there unless rows of the
        training data train them, so an unseen category falls back to what is left of
        the sum without it.

        Parameters
        ----------
        generator : torch.Generator, default=None
            Source of randomness, on the CPU; torch's global one when omitted.
        """
        if self.bias.is_meta:  # which has a shape only
            return
        self.bias.zero_()
        if "linear" in self.table_specs:
            self.linear.weight.zero_()
        # In pieces, so that the numbers drawn do not depend on how the table lies in memory.
        for rows in self.embedding.weight.split(2**14):
            rows.copy_(torch.randn(rows.shape, generator=generator).mul_(self.init_scale))
        self.embedding.weight[[row for row in set(self.schema.unknown_rows) if row >= 0]] = 0
        for part in self.children():
            _reset(part, generator)

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
        """Parameters with one row per index, by the name of the table."""
        return {name: getattr(self, name).weight for name in self.table_specs}


def _reset(part: nn.Module, generator: torch.Generator | None) -> None:
    """Draw start values of a layer, or of those inside it if it has no way to do so itself."""
    reset = getattr(part, "reset_parameters", None)
    if reset is None:
        for inner in part.children():
            _reset(inner, generator)
    elif generator is None:
        reset()
    elif "generator" in inspect.signature(reset).parameters:
        reset(generator)
    else:  # a layer of torch, which knows the global generator only
        with PrivateRandomness(generator):
            reset()
