"""scikit-learn's own callbacks (1.9 and later), told of each epoch.

skorch's callbacks are another matter: they are run by ``training``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..solvers.fitted import Fitted

__all__ = ["EpochEvents"]


class EpochEvents:
    """Reports a fit and its epochs to the callbacks set on an estimator.

    Parameters
    ----------
    estimator : estimator
        The one being fitted.
    X, y : array-like
        Its training data.
    sample_weight : array-like or None
        Its weights.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self.arguments: dict[str, Any] = {"estimator": estimator, "X": X, "y": y}
        self.context: Any = None
        if hasattr(estimator, "_init_callback_context"):
            if sample_weight is not None:
                self.arguments["metadata"] = {"sample_weight": sample_weight}
            # early stopping and refit leave the number of epochs open
            self.context = estimator._init_callback_context(max_subtasks=None)
            self.context.call_on_fit_task_begin(**self.arguments)

    def listener(
        self, publish: Callable[[Fitted], dict[str, Any]]
    ) -> Callable[[Callable[[], Fitted]], bool] | None:
        """Function to call after each epoch; None when nobody listens.

        Parameters
        ----------
        publish : callable
            Gives the attributes of an estimator that has been fitted.

        Returns
        -------
        callable or None
            Takes what makes the fit so far, returns whether a callback asks to stop.
        """
        if self.context is None or not getattr(self.arguments["estimator"], "_skl_callbacks", []):
            return None

        def on_epoch(so_far: Callable[[], Fitted]) -> bool:
            task = self.context.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(**self.arguments)
            return task.call_on_fit_task_end(
                **self.arguments, reconstruction_attributes=lambda: publish(so_far())
            )

        return on_epoch

    def finish(self) -> None:
        """Report the end of the fit."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.arguments, reconstruction_attributes={})
