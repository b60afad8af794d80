"""scikit-learn's own callbacks (1.9 and later), told of each epoch.

skorch's callbacks are another matter: they are run by ``training``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ..models.contract import FieldModel
from ..training.prediction import pack_tables

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9 has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without any callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "EpochEvents", "with_callbacks"]


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

    @property
    def on_epoch(self) -> Callable[[FieldModel], bool] | None:
        """Function to call after each epoch; None when nobody listens."""
        listening = self.context is not None and getattr(
            self.arguments["estimator"], "_skl_callbacks", []
        )
        return self._epoch if listening else None

    def _epoch(self, module: FieldModel) -> bool:
        """Report one epoch; whether a callback asks to stop."""
        task = self.context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(**self.arguments)
        return task.call_on_fit_task_end(
            **self.arguments,
            reconstruction_attributes=lambda: {
                "_module": pack_tables(copy.deepcopy(module).eval())
            },
        )

    def finish(self) -> None:
        """Report the end of the fit."""
        if self.context is not None:
            self.context.call_on_fit_task_end(**self.arguments, reconstruction_attributes={})
