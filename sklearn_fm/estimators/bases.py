"""scikit-learn's base classes with type hints, which scikit-learn itself does not have.

At run time they are scikit-learn's own. Without hints a base is `Any`, and a checker of types lets
every misspelt parameter, method and attribute of an estimator pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

__all__ = [
    "BaseEstimator",
    "CallbackSupportMixin",
    "ClassifierMixin",
    "RegressorMixin",
    "with_callbacks",
]

M = TypeVar("M")

if TYPE_CHECKING:
    from typing import Self

    from sklearn.utils import Tags

    class BaseEstimator:
        """What every estimator has."""

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def get_metadata_routing(self) -> Any: ...
        def set_fit_request(self, **requests: bool | str | None) -> Self: ...
        def set_partial_fit_request(self, **requests: bool | str | None) -> Self: ...
        def set_score_request(self, **requests: bool | str | None) -> Self: ...
        def set_predict_request(self, **requests: bool | str | None) -> Self: ...
        def _validate_params(self) -> None: ...
        def __sklearn_tags__(self) -> Tags: ...
        def __sklearn_clone__(self) -> Self: ...

    class CallbackSupportMixin:
        """What every estimator has from scikit-learn 1.9 on."""

        def set_callbacks(self, *callbacks: Any) -> Self: ...

    def with_callbacks(method: M) -> M:
        """Let a method end what callbacks began."""
        return method

    class _Scored:
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    class ClassifierMixin(_Scored):
        """What every classifier has."""

    class RegressorMixin(_Scored):
        """What every regressor has."""

else:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    try:
        from sklearn.callback import CallbackSupportMixin, with_callbacks
    except ImportError:  # scikit-learn < 1.9 has no callbacks

        class CallbackSupportMixin:
            """Stand-in without any callbacks."""

        def with_callbacks(method: M) -> M:
            """Return the method as it is."""
            return method
