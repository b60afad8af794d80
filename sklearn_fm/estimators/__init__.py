"""The scikit-learn face of the models."""

from .families import (
    DeepFMClassifier,
    DeepFMRegressor,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)

__all__ = [
    "DeepFMClassifier",
    "DeepFMRegressor",
    "FMClassifier",
    "FMRegressor",
    "MFRegressor",
]
