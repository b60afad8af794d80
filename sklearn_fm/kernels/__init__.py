"""Compiled twins of the arithmetic on the CPU, by numba; what calls them does without, slowly."""

import importlib.util

__all__ = ["HAS_KERNELS"]

#: Whether the compiled kernels can be used.
HAS_KERNELS = importlib.util.find_spec("numba") is not None
