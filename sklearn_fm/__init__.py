"""Factorization machines for scikit-learn.

Public names are resolved lazily, so that importing a part loads no more than that part.
"""

from __future__ import annotations

import importlib
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted([*_HOME, *_load(_ESTIMATORS).__all__])
    if name in _HOME:
        return getattr(_load(_HOME[name]), name)
    if not name.startswith("_") and name in _load(_ESTIMATORS).__all__:
        return getattr(_load(_ESTIMATORS), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__getattr__("__all__")]
