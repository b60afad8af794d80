"""What all ways to fit a problem have in common: a name, what they refuse, and a fit."""

from __future__ import annotations

from typing import Protocol

from .fitted import Fitted, Outcome
from .problem import Problem

__all__ = ["Solver"]


class Solver(Protocol):
    """A way to fit a problem; it holds no state."""

    @property
    def name(self) -> str:
        """What the parameter `solver` calls it."""

    def refuses(self, problem: Problem) -> str | None:
        """Why a problem is not for this solver.

        Parameters
        ----------
        problem : Problem
            What to fit.

        Returns
        -------
        str or None
            A sentence for the user; None if it can be fitted.
        """

    def fit(self, problem: Problem, before: Fitted | None = None, reason: str = "") -> Outcome:
        """Fit a problem that it does not refuse.

        Parameters
        ----------
        problem : Problem
            What to fit.
        before : Fitted, default=None
            What to go on from; left as it is.
        reason : str, default=""
            Why this solver was chosen.

        Returns
        -------
        Outcome

        Raises
        ------
        ValueError
            If choices of the user do not fit each other.
        FloatingPointError
            If numbers become infinite or NaN and nothing can be kept.
        """
