"""The public estimators: which module, and the parameters that only it has.

Fitting and predicting are told in ``base``, ``classifier``, ``regressor`` and ``draws``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import Tags

from ..data.array import FieldArray
from ..data.folder import FieldFolder
from ..encoding import FieldEncoder
from ..models.dcn import DCN
from ..models.deepfm import DeepFM
from ..models.ffm import FFM
from ..models.fibinet import FiBiNET
from ..models.fm import FM
from ..models.mf import MF
from ..solvers.problem import Task
from .classifier import FieldClassifier
from .draws import DrawsRegressor, WithDraws
from .parameters import Interval, StrOptions, estimator
from .regressor import FieldRegressor
from .settings import BlockParameters, MLPParameters, PairParameters
from .with_blend import BlendParameters, WithBlend

__all__ = [
    "DCNClassifier",
    "DCNRegressor",
    "DeepFMClassifier",
    "DeepFMRegressor",
    "FFMClassifier",
    "FFMRegressor",
    "FMClassifier",
    "FMRegressor",
    "FiBiNETClassifier",
    "FiBiNETRegressor",
    "MFRegressor",
]


@estimator
class UserItemParameters:
    """Tables of which two columns hold users and items.

    Parameters
    ----------
    user : str, int or None
        Name or position of the users' column when X has columns besides ids; None
        (and `item` None) to use all columns of X.
    item : str, int or None
        Name or position of the items' column, likewise.
    """

    user: str | int | None = None
    item: str | int | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "user": [None, str, Integral],
        "item": [None, str, Integral],
    }


@estimator
class BilinearParameters:
    """Models of bilinear interactions.

    Parameters
    ----------
    bilinear : {"all", "each", "interaction"}
        Whether the matrix of a product is one for all pairs of fields, one for each left field or
        one for each pair.
    reduction : int
        Number of fields over the width of the squeeze.
    """

    bilinear: Literal["all", "each", "interaction"] = "interaction"
    reduction: int = 3

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "bilinear": [StrOptions({"all", "each", "interaction"})],
        "reduction": [Interval(Integral, 1, None, closed="left")],
    }


@estimator
class CrossParameters:
    """Models with a cross network.

    Parameters
    ----------
    n_cross_layers : int
        Layers of the cross network.
    cross_rank : int or None
        Rank of its matrices; None for full matrices.
    """

    n_cross_layers: int = 3
    cross_rank: int | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_cross_layers": [Interval(Integral, 1, None, closed="left")],
        "cross_rank": [None, Interval(Integral, 1, None, closed="left")],
    }


@estimator
class FMClassifier(PairParameters, BlockParameters, WithDraws, FieldClassifier):
    """Factorization machine for classification.

    raw(x) = bias + sum_s w_s x_s + sum_{f<g} <e_f, e_g>, where e_f = sum_{s in f} v_s x_s is the
    embedding of field f, which has one slot s unless it is a bag; probability = sigmoid(raw),
    or softmax over one raw prediction per class when there are more than two.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Rendle (2010), Factorization machines, ICDM.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_fm import FMClassifier
    >>> X = pd.DataFrame({"user": ["ann", "bob", "ann", "bob"] * 9, "item": list("xxyy") * 9})
    >>> y = [1, 0, 0, 1] * 9
    >>> model = FMClassifier(l2_embedding=0.1, random_state=0).fit(X, y)
    >>> model.predict(X[:4])
    array([1, 0, 0, 1])
    """

    _model = FM


@estimator
class FMRegressor(PairParameters, BlockParameters, DrawsRegressor):
    """Factorization machine for regression.

    raw(x) = bias + sum_s w_s x_s + sum_{f<g} <e_f, e_g>, where e_f = sum_{s in f} v_s x_s is the
    embedding of field f, which has one slot s unless it is a bag; for the target scaled to
    mean 0 and variance 1; least squares.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Rendle (2010), Factorization machines, ICDM.
    """

    _model = FM


@estimator
class DeepFMClassifier(PairParameters, MLPParameters, BlendParameters, WithBlend, FieldClassifier):
    """Factorization machine plus a multilayer perceptron, for classification.

    raw(x) = bias + sum_f w_f x_f + sum_{f<g} <e_f, e_g> + mlp(e_1 ... e_F); probability =
    sigmoid(raw), or softmax over one raw prediction per class when there are more than two.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Guo et al. (2017), DeepFM: a factorization-machine based neural network for CTR
    prediction, IJCAI. arXiv:1703.04247
    """

    _model = DeepFM


@estimator
class DeepFMRegressor(PairParameters, MLPParameters, BlendParameters, WithBlend, FieldRegressor):
    """Factorization machine plus a multilayer perceptron, for regression.

    raw(x) = bias + sum_f w_f x_f + sum_{f<g} <e_f, e_g> + mlp(e_1 ... e_F), for the target
    scaled to mean 0 and variance 1; least squares.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Guo et al. (2017), DeepFM: a factorization-machine based neural network for CTR
    prediction, IJCAI. arXiv:1703.04247
    """

    _model = DeepFM

    def _make_task(self, target: NDArray[np.float64]) -> Task:
        return replace(super()._make_task(target), noise_field="auto")


@estimator
class MFRegressor(MLPParameters, BlockParameters, UserItemParameters, DrawsRegressor):
    """Matrix factorization with biases, for ratings.

    raw(u, i) = bias + b_u + b_i + <p_u, q_i>, or an MLP of (p_u, q_i) in place of the dot
    product when there are hidden layers. Every column is an id, whatever its dtype: two
    columns are users and items, with more all pairs interact, one column makes a bias
    model. An id that fit did not see adds nothing, so the prediction falls back to the
    biases of the others; with solver "gibbs" it counts as an average one.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Koren, Bell, Volinsky (2009), Matrix factorization techniques for recommender systems,
    IEEE Computer 42(8). With hidden layers: He et al. (2017), Neural collaborative
    filtering, WWW. arXiv:1708.05031
    """

    _model = MF
    _takes_sparse = False
    _chooses = ("user", "item")

    embedding_dim: int = 32
    init_scale: float = 0.1
    hidden_layer_sizes: Sequence[int] = ()

    def _default_encoder(self) -> FieldEncoder:
        return FieldEncoder(categorical=slice(None))

    def _select_columns(self, X: Any) -> Any:
        chosen: list[Any] = [self.user, self.item]
        if chosen == [None, None] or sparse.issparse(X):  # which is refused later
            return X
        if None in chosen or self.user == self.item:
            raise ValueError(
                f"user={self.user!r} and item={self.item!r} must be two columns, or None both. "
                "For a model of one column's biases pass X with that column only."
            )
        if isinstance(X, FieldFolder):
            if list(X.schema.names) != chosen:
                raise ValueError(
                    f"The folder has the fields {list(X.schema.names)[:20]}, but "
                    f"user={self.user!r} and item={self.item!r}. Write one with "
                    "encode_to_folder(..., columns=[user, item])."
                )
            return X
        if isinstance(X, FieldArray):
            columns: list[Any] = list(X.require_schema().names)
        else:
            X = X if hasattr(X, "columns") else np.asarray(X)
            columns = list(X.columns) if hasattr(X, "columns") else list(range(np.shape(X)[-1]))
        try:
            names = [columns[c] if isinstance(c, Integral) else c for c in chosen]
            slots = [columns.index(name) for name in names]
        except (IndexError, ValueError):
            raise ValueError(
                f"user={self.user!r} and item={self.item!r} must be columns of X, which has "
                f"{columns[:20]}."
            ) from None
        if isinstance(X, FieldArray):
            return X.select(slots)
        return X[names] if hasattr(X, "columns") else X[:, slots]

    def _columns_on_disk(self) -> list[str] | None:
        chosen = [self.user, self.item]
        if chosen == [None, None]:
            return None
        names = [name for name in chosen if isinstance(name, str)]
        if len(names) < 2:
            raise ValueError(
                "With a table on disk as X, user and item must be names of columns, or None both; "
                f"got user={self.user!r}, item={self.item!r}."
            )
        return names

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if tags.regressor_tags is not None:
            # Numbers are ids here: nothing is to be learned from a continuous column.
            tags.regressor_tags.poor_score = True
        return tags


@estimator
class FFMClassifier(FieldClassifier):
    """Field-aware factorization machine, for classification.

    raw(x) = bias + sum_s w_s x_s + sum_{f<g} <e_fg, e_gf>, where e_fg = sum_{s in f} v_sg x_s is
    the embedding of field f for partners of field g.

    Probability = sigmoid(raw), or softmax over one raw prediction per class when there are
    more than two.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Juan et al. (2016), Field-aware factorization machines for CTR prediction, RecSys.
    """

    _model = FFM

    embedding_dim: int = 4


@estimator
class FFMRegressor(FieldRegressor):
    """Field-aware factorization machine, for regression.

    raw(x) = bias + sum_s w_s x_s + sum_{f<g} <e_fg, e_gf>, where e_fg = sum_{s in f} v_sg x_s is
    the embedding of field f for partners of field g.

    The target is scaled to mean 0 and variance 1; least squares.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Juan et al. (2016), Field-aware factorization machines for CTR prediction, RecSys.
    """

    _model = FFM

    embedding_dim: int = 4


@estimator
class FiBiNETClassifier(MLPParameters, BilinearParameters, FieldClassifier):
    """Feature importance and bilinear interaction network, for classification.

    raw(x) = bias + sum_s w_s x_s + MLP([B(e), B(a o e)]), where e are the embeddings of the fields,
    a their weights by squeeze-excitation, and B the products (e_f W) o e_g of all pairs.

    Probability = sigmoid(raw), or softmax over one raw prediction per class when there are
    more than two.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Huang, Zhang, Zhang (2019), FiBiNET: combining feature importance and bilinear feature
    interaction for click-through rate prediction, RecSys. arXiv:1905.09433
    """

    _model = FiBiNET


@estimator
class FiBiNETRegressor(MLPParameters, BilinearParameters, FieldRegressor):
    """Feature importance and bilinear interaction network, for regression.

    raw(x) = bias + sum_s w_s x_s + MLP([B(e), B(a o e)]), where e are the embeddings of the fields,
    a their weights by squeeze-excitation, and B the products (e_f W) o e_g of all pairs.

    The target is scaled to mean 0 and variance 1; least squares.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Huang, Zhang, Zhang (2019), FiBiNET: combining feature importance and bilinear feature
    interaction for click-through rate prediction, RecSys. arXiv:1905.09433
    """

    _model = FiBiNET


@estimator
class DCNClassifier(MLPParameters, CrossParameters, FieldClassifier):
    """Deep and cross network of the second version, for classification.

    raw(x) = bias + u' x_L + MLP(x_0), x_{l+1} = x_0 o (W_l x_l + b_l) + x_l, where x_0 are the
    embeddings of the fields side by side. There is no linear term.

    Probability = sigmoid(raw), or softmax over one raw prediction per class when there are
    more than two.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Wang et al. (2021), DCN V2: improved deep & cross network and practical lessons for web-scale
    learning to rank systems, WWW. arXiv:2008.13535
    """

    _model = DCN


@estimator
class DCNRegressor(MLPParameters, CrossParameters, FieldRegressor):
    """Deep and cross network of the second version, for regression.

    raw(x) = bias + u' x_L + MLP(x_0), x_{l+1} = x_0 o (W_l x_l + b_l) + x_l, where x_0 are the
    embeddings of the fields side by side. There is no linear term.

    The target is scaled to mean 0 and variance 1; least squares.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    References
    ----------
    Wang et al. (2021), DCN V2: improved deep & cross network and practical lessons for web-scale
    learning to rank systems, WWW. arXiv:2008.13535
    """

    _model = DCN
