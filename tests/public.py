"""Public estimators as the package lists them, so that a new one needs no edit in a test.

What is tested is the business of the test modules.
"""

import pytest
from sklearn.base import is_classifier

import sklearn_fm

__all__ = ["ESTIMATORS", "each_estimator", "first_with_solver", "takes_solver"]

_PUBLIC = [getattr(sklearn_fm, name) for name in sklearn_fm.__all__]
#: Classes that fit and predict, by name.
ESTIMATORS = [thing for thing in _PUBLIC if hasattr(thing, "fit") and hasattr(thing, "predict")]

each_estimator = pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)


def takes_solver(cls, solver):
    """Whether a class takes a name as its parameter ``solver``."""
    (options,) = cls._parameter_constraints["solver"]
    return solver in options.options


def first_with_solver(solver, *, classifier):
    """The first classifier or regressor that takes a solver, for what all of them share."""
    return next(
        cls
        for cls in ESTIMATORS
        if is_classifier(cls()) == classifier and takes_solver(cls, solver)
    )
