"""Turns columns into codes and numbers: the way from a DataFrame to a `FieldArray`.

It knows no model and never imports torch.
"""

from .bins import BinEncoder
from .categories import CategoryEncoder
from .encoder import FieldEncoder
from .fields import BagField, CategoryField, DateField, NumberField
from .numbers import NumberEncoder
from .streaming import encode_to_folder

__all__ = [
    "BagField",
    "BinEncoder",
    "CategoryEncoder",
    "CategoryField",
    "DateField",
    "FieldEncoder",
    "NumberEncoder",
    "NumberField",
    "encode_to_folder",
]
