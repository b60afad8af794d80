"""Turns columns into codes and numbers: the way from a DataFrame to a `FieldArray`.

It knows no model and never imports torch.
"""

from .categories import CategoryEncoder
from .encoder import FieldEncoder
from .numbers import BinEncoder, NumberEncoder

__all__ = ["BinEncoder", "CategoryEncoder", "FieldEncoder", "NumberEncoder"]
