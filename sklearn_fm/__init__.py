"""Factorization machines for scikit-learn.

Public names are resolved lazily, so that importing a part loads no more than that part.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # checkers of types and editors do not run `__getattr__`
    from .data.array import FieldArray as FieldArray
    from .data.folder import FieldFolder as FieldFolder
    from .data.libsvm import dump_libffm as dump_libffm
    from .data.libsvm import dump_libsvm as dump_libsvm
    from .data.libsvm import load_libffm as load_libffm
    from .data.libsvm import load_libsvm as load_libsvm
    from .encoding import BagField as BagField
    from .encoding import CategoryField as CategoryField
    from .encoding import DateField as DateField
    from .encoding import FieldEncoder as FieldEncoder
    from .encoding import NumberField as NumberField
    from .encoding import encode_to_folder as encode_to_folder
    from .estimators.families import *  # noqa: F403
    from .schema import FieldSchema as FieldSchema

__version__ = "0.1.0"

_HOME = {
    "BagField": "encoding",
    "CategoryField": "encoding",
    "DateField": "encoding",
    "FieldArray": "data.array",
    "FieldEncoder": "encoding",
    "FieldFolder": "data.folder",
    "FieldSchema": "schema",
    "NumberField": "encoding",
    "dump_libffm": "data.libsvm",
    "dump_libsvm": "data.libsvm",
    "encode_to_folder": "encoding",
    "load_libffm": "data.libsvm",
    "load_libsvm": "data.libsvm",
}
_ESTIMATORS = "estimators.families"  # whose public names are the package's


def _load(home: str) -> Any:
    return importlib.import_module(f".{home}", __name__)


def _find(name: str) -> Any:
    if name == "__all__":
        return sorted([*_HOME, *_load(_ESTIMATORS).__all__])
    if name in _HOME:
        return getattr(_load(_HOME[name]), name)
    if not name.startswith("_") and name in _load(_ESTIMATORS).__all__:
        return getattr(_load(_ESTIMATORS), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_find("__all__")]


if not TYPE_CHECKING:  # to a checker, a module with `__getattr__` has every name
    __getattr__ = _find
