"""Building blocks of the models: torch only, no fields' names, no training."""

from .embedding import FieldEmbedding, LinearTerm
from .functional import pairwise_sum, pool_slots
from .mlp import MLP

__all__ = ["MLP", "FieldEmbedding", "LinearTerm", "pairwise_sum", "pool_slots"]
