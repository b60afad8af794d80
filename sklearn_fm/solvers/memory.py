"""Whether the tables of a model fit into memory, found out before they are allocated."""

from __future__ import annotations

from ..estimators.checks import check_memory

__all__ = ["check_memory"]
