"""Building blocks of the models: torch only, no fields' names, no training."""

from .bilinear import BilinearInteraction
from .cross import CrossNetwork
from .embedding import FieldEmbedding, LinearTerm
from .excitation import SqueezeExcitation
from .functional import field_aware_sum, pairwise_sum, pool_slots
from .mlp import MLP

__all__ = [
    "MLP",
    "BilinearInteraction",
    "CrossNetwork",
    "FieldEmbedding",
    "LinearTerm",
    "SqueezeExcitation",
    "field_aware_sum",
    "pairwise_sum",
    "pool_slots",
]
