"""Pure torch modules, one paper a file: indices and values in, raw predictions out."""

from .deepfm import DeepFM
from .fm import FM
from .mf import MF

__all__ = ["FM", "MF", "DeepFM"]
