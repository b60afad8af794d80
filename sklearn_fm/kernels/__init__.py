"""Compiled twins of the arithmetic on the CPU, by numba; what calls them does without, slowly."""

import importlib.util
import os

__all__ = ["HAS_KERNELS"]

#: Whether the compiled kernels can be used: numba is installed, and its compiler not turned off.
HAS_KERNELS = importlib.util.find_spec("numba") is not None and os.environ.get(
    "NUMBA_DISABLE_JIT", "0"
) in ("", "0")
