"""Looking into fitted estimators, by what they publish; nothing here fits or predicts."""

from .trace import TraceDisplay
from .weights import linear_weights

__all__ = ["TraceDisplay", "linear_weights"]
