"""Pure torch modules, one paper a file: indices and values in, raw predictions out.

A file in this folder is all that it takes to add one; its public models are found here.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from .contract import FieldModel

if TYPE_CHECKING:  # checkers of types and editors do not run `_find_models`
    from .dcn import DCN as DCN
    from .deepfm import DeepFM as DeepFM
    from .ffm import FFM as FFM
    from .fibinet import FiBiNET as FiBiNET
    from .fm import FM as FM
    from .mf import MF as MF

__all__: list[str] = []  # filled below


def _find_models() -> None:
    """Make the public models of every file of this folder names of the package."""
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type) and issubclass(thing, FieldModel) and thing != FieldModel:
                globals()[name] = thing
                __all__.append(name)
    __all__.sort()


_find_models()
