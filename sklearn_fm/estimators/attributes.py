"""Attributes of estimators that are there under a condition: after a fit, or with some solvers.

What they give is told where they are declared.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, TypeVar, cast

from sklearn.utils.validation import check_is_fitted

__all__ = ["learned", "needs_steps"]

M = TypeVar("M")


def learned(path: str, doc: str) -> Any:
    """Attribute of a fitted estimator, read from what its fit learned.

    Parameters
    ----------
    path : str
        Where, below `Learned`.
    doc : str
        Its documentation.

    Returns
    -------
    property
        Read-only; NotFittedError before fit.
    """
    get = attrgetter(path)

    def read(self: Any) -> Any:
        check_is_fitted(self)
        return get(self._fitted)

    return property(read, doc=doc)


def needs_steps(method: M) -> M:
    """Method that is there if the solver can go on with the rows at hand alone.

    As scikit-learn's `available_if`, but what the user reads is why it is absent.

    Parameters
    ----------
    method : function
        Of an estimator.

    Returns
    -------
    descriptor
        AttributeError where an instance lacks the method.
    """
    return cast(M, _NeedsSteps(method))


class _NeedsSteps:
    def __init__(self, method: Any) -> None:
        self.method = method

    def __get__(self, model: Any, owner: type) -> Any:
        if model is None:
            return self.method
        name, loss = self.method.__name__, getattr(model, "loss", "squared")
        if model.solver in ("als", "gibbs") or loss == "ordinal":
            cause = "loss='ordinal'" if loss == "ordinal" else f"solver={model.solver!r}"
            raise AttributeError(
                f"{type(model).__name__} with {cause} has no {name}, since it needs all rows at "
                "once: use warm_start, refit_categories, or a solver that takes steps, such as "
                "'adagrad'.",
                name=name,
                obj=model,
            )
        return self.method.__get__(model, owner)
