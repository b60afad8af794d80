"""Looking into fitted estimators, by what they publish; nothing here fits or predicts."""

from .trace import TraceDisplay

__all__ = ["TraceDisplay"]
