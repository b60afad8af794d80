"""Where warnings of a fit point: at the line of the user who called it.

What they say, and when, is the business of those who warn.
"""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["levels_to_user"]

#: Modules between a warning of ours and the line that the user wrote.
_BETWEEN = ("sklearn_fm.", "sklearn.", "joblib.")


def levels_to_user() -> int:
    """Frames up from the caller to the user's line, as the `stacklevel` of a warning.

    How many there are depends on scikit-learn's version, whose callbacks wrap `fit`, and on what
    calls it, such as a Pipeline.

    Returns
    -------
    int
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    return level
