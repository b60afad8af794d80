"""DeepFM estimators by draws: parameters and what a fit tells of both of its parts.

How the parts are fitted and weighed is told in ``solvers.deep_draws`` and ``solvers.blend``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ..models.contract import FieldModel
from .draws import WithDraws
from .parameters import StrOptions, estimator
from .settings import BlockParameters

__all__ = ["BlendParameters", "WithBlend"]


@estimator
class BlendParameters(BlockParameters):
    """A factorization machine with an MLP, of which the former can be drawn.

    Parameters
    ----------
    solver : {"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "gibbs"}
        How the objective

            sum_i sample_weight_i * loss_i + l2_linear/2 |w|^2 + l2_embedding/2 |V|^2
            + l2_dense/2 |MLP|^2

        is minimized. "lbfgs" takes all rows at once in float64; "adagrad", "adam", "sgd" and
        "ftrl" step on mini-batches, by the rule of that name for the tables. "auto" is "ftrl" if
        there is an `l1_linear`, "lbfgs" for small data (unless a parameter that belongs to
        mini-batches is set), else "adagrad" for the tables and Adam for the dense layers.
        "gibbs" fits two models, each with its own embeddings, and adds their raw predictions up: a
        factorization machine by draws from the posterior, as FMClassifier and FMRegressor have it,
        and this model as by "adagrad". Their weights are those of least loss on rows held out
        (`validation_fraction`, or `X_val`); the second is left out if the loss that it saves there
        is not twice its standard error, or if `early_stopping` "auto" holds no rows out as
        there are less than 1,000. Then both are fitted to all rows, unless `refit` is False.
        It takes minutes, and needs neither a learning rate nor penalties.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "gibbs"})],
    }


class WithBlend(WithDraws):
    """Draws, and a deep model beside them.

    Attributes
    ----------
    module_ : torch.nn.Module
        Trained module, usable without scikit-learn. After "gibbs" it is the factorization machine,
        whose raw prediction is the mean over all draws.
    deep_module_ : torch.nn.Module or None
        The deep model beside the draws of "gibbs"; None if there is none.
    blend_ : Series or None
        Weights of both parts in a raw prediction of "gibbs", ``"draws"`` and ``"deep"``, so that it
        is base + draws * (raw_draws - base) + deep * (raw_deep - base), where base is that of a
        model without features: log-odds of the second class, logarithms of the shares of
        several, the mean of numbers. Raw predictions by draws are log-odds (logarithms)
        of the averaged probabilities, or means. ``"gain"`` is by how much the deep model lowers
        the mean loss of a row held out (in regression half the squared error of a target of
        variance 1), ``"standard_error"`` that mean's. None for other solvers, and if no rows
        were held out.
    """

    @property
    def deep_module_(self) -> FieldModel | None:
        """The deep model beside the draws of "gibbs"."""
        check_is_fitted(self)
        blend = self._fitted.model.blend
        return None if blend is None or blend.deep is None else blend.deep.module(self._find_device)

    @property
    def blend_(self) -> pd.Series | None:
        """Weights of the parts of "gibbs", and what the deep one is good for."""
        check_is_fitted(self)
        blend = self._fitted.model.blend
        if blend is None:
            return None
        found = {"draws": blend.of_draws, "deep": blend.of_deep, "gain": blend.gain}
        return pd.Series({**found, "standard_error": blend.standard_error})

    def refit_categories(self, X: Any, y: Any, field: str, sample_weight: Any = None) -> Self:
        """Draw some categories of one field anew, if all weight is on the draws.

        Parameters
        ----------
        X : table, array or FieldArray
            All rows of the categories to draw, as FMClassifier and FMRegressor take them.
        y : array-like of shape (n_rows,)
            Their targets.
        field : str
            Name of the field, which has one category per row and a vocabulary of its own.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights of the rows.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        ValueError
            If there is a deep model beside the draws, and as in FMClassifier and FMRegressor.
        """
        check_is_fitted(self)
        if self.deep_module_ is not None:
            raise ValueError(
                "refit_categories draws embeddings anew, but this model also has an MLP with "
                "embeddings of its own, which it cannot. Fit anew, or use FMClassifier or "
                "FMRegressor with solver='gibbs'."
            )
        return super().refit_categories(X, y, field, sample_weight)
