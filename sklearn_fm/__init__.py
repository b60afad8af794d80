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
    "DeepFMClassifier": "estimators",
    "DeepFMRegressor": "estimators",
    "FMClassifier": "estimators",
    "FMRegressor": "estimators",
    "FieldArray": "data.array",
    "FieldEncoder": "encoding",
    "FieldFolder": "data.folder",
    "FieldSchema": "schema",
    "MFRegressor": "estimators",
    "NumberField": "encoding",
    "dump_libffm": "data.libsvm",
    "dump_libsvm": "data.libsvm",
    "encode_to_folder": "encoding",
    "load_libffm": "data.libsvm",
    "load_libsvm": "data.libsvm",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
