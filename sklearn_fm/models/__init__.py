"""Pure torch modules, one paper a file: indices and values in, raw predictions out."""

from .dcn import DCN
from .deepfm import DeepFM
from .ffm import FFM
from .fibinet import FiBiNET
from .fm import FM
from .mf import MF

__all__ = ["DCN", "FFM", "FM", "MF", "DeepFM", "FiBiNET"]
