"""Where warnings point: at the line of the user who called fit or predict.

What they say, and when, is the business of those who warn.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

__all__ = ["keep_warnings", "levels_to_user", "warn_user"]

#: Modules between a warning of ours and the line that the user wrote.
_BETWEEN = ("sklearn_fm.", "sklearn.", "joblib.")

_kept: ContextVar[list[str] | None] = ContextVar("_kept", default=None)


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


def warn_user(message: str) -> None:
    """Warn at the user's line, or leave that to `keep_warnings`.

    Parameters
    ----------
    message : str
        What to say.

    Warns
    -----
    UserWarning
        The message.
    """
    kept = _kept.get()
    if kept is None:
        warnings.warn(message, UserWarning, stacklevel=levels_to_user())
    else:
        kept.append(message)


@contextmanager
def keep_warnings(kept: list[str]) -> Iterator[None]:
    """Keep messages of `warn_user`: a thread of ours does not know the user's line.

    Parameters
    ----------
    kept : list of str
        Receives what this thread says, for `warn_user` in that of the user.
    """
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
