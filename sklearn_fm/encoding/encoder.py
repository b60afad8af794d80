"""Encodes a table, column by column, into the `FieldArray` that models read.

It does not know how a column is encoded (see ``categories`` and ``numbers``) nor how a
container stores it (see ``columns``).
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted

from sklearn_fm.data import FieldArray
from sklearn_fm.schema import FieldSchema

from .categories import CategoryEncoder
from .columns import Columns, read_columns, select_columns
from .numbers import BinEncoder, NumberEncoder

__all__ = ["FieldEncoder"]


class FieldEncoder(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Encode each column of a table as one field: categories and bins as codes.

    A code is the number of a category or bin within its field; -1 stands for unknown: a
    category not seen in fit, or a rare one. Numbers become codes of quantile bins, or
    stay numbers, as `scaler` says. Missing values are welcome in all columns.

    Columns of a DataFrame are matched by name, as in ColumnTransformer: order does not
    matter and additional columns are ignored. Columns of an array are matched by position.
    Data of the same content get the same codes in any container: numpy, pandas of any
    dtype, polars.

    Parameters
    ----------
    categorical, numeric : str, int, list, slice, mask, callable or dtypes, default=None
        Columns to encode as categories and as numbers, as ColumnTransformer takes
        columns, or as dtypes (``"category"``, ``np.number``, ``[int, bool]``). Columns in
        neither are told by dtype: numbers are numeric; strings, objects, booleans,
        categories, dates and all else categorical. Columns of an object array are numeric
        if they hold numbers only.
    scaler : {"bins", "log"}, transformer or None, default="bins"
        How to represent numbers. "bins": the code of a quantile bin, and one code for
        missing if fit saw any. "log": standardized ``sign(x) * log1p(|x|)``. None: as
        they are. A scikit-learn transformer: cloned for each numeric column, fitted on
        and applied to the numbers present, as one column; it gets the sample weights if
        its `fit` takes them. Except for "bins", missing numbers stay NaN.
    n_bins : int, default=20
        Upper limit to the number of quantile bins of a column, for ``scaler="bins"``.
    min_frequency : int or float, default=None
        Categories of a smaller weighted count (int), or of a smaller share of the total
        weight (float), become unknown.
    max_categories : int, default=None
        Upper limit to the categories of a column, the unknown row that takes the less
        frequent ones included, as in OneHotEncoder.
    handle_unknown : {"unknown", "error"}, default="unknown"
        What `transform` does with what fit did not see: encode it as -1, or raise.

    Attributes
    ----------
    schema_ : FieldSchema
        Name, kind and vocabulary size of each field.
    encoders_ : dict of str to encoder
        Fitted encoder of each field: CategoryEncoder, BinEncoder or NumberEncoder.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all of them are strings.

    See Also
    --------
    sklearn.preprocessing.OrdinalEncoder : Codes without a schema, for categories only.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_fm.encoding import FieldEncoder
    >>> X = pd.DataFrame({"city": ["Oslo", "Rome", "Oslo"], "age": [31.0, 45.0, None]})
    >>> encoder = FieldEncoder().fit(X)
    >>> encoder.transform(pd.DataFrame({"age": [30.0], "city": ["Bonn"]}))
    FieldArray([[-1,  0]], dtype=int32)
    >>> encoder.schema_.kinds, encoder.schema_.vocabulary_sizes
    (('categorical', 'binned'), (3, 4))
    """

    def __init__(
        self,
        *,
        categorical: Any = None,
        numeric: Any = None,
        scaler: Any = "bins",
        n_bins: int = 20,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        handle_unknown: str = "unknown",
    ) -> None:
        self.categorical = categorical
        self.numeric = numeric
        self.scaler = scaler
        self.n_bins = n_bins
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> FieldEncoder:
        """Learn vocabularies, bins and scales.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The table.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights. A row of weight 2 counts as two rows, a row of weight 0
            as absent.

        Returns
        -------
        FieldEncoder
            Itself.

        Raises
        ------
        ValueError
            If a parameter, the table or the weights are not usable.
        TypeError
            If the table is sparse, or a category cannot be hashed.
        """
        self._fit(X, sample_weight)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> FieldArray:
        """Fit and encode in one pass over the table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The table.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights, as in `fit`.

        Returns
        -------
        FieldArray of shape (n_rows, n_columns)
            Of dtype int32, or float64 if a field is numeric.

        Raises
        ------
        ValueError
            If a parameter, the table or the weights are not usable.
        TypeError
            If the table is sparse, or a category cannot be hashed.
        """
        codes = self._fit(X, sample_weight)
        if codes is None:  # rows of weight 0 were left out of fit, but are wanted here
            codes = self._transform(read_columns(X, self, reset=False))
        return FieldArray._wrap(codes, self.schema_)

    def transform(self, X: Any) -> FieldArray:
        """Encode a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The table, in the container of fit or another.

        Returns
        -------
        FieldArray of shape (n_rows, n_columns)
            Of dtype int32, or float64 if a field is numeric.

        Raises
        ------
        ValueError
            If a column is missing or unusable, or something is unknown and
            ``handle_unknown="error"``.
        TypeError
            If the table is sparse, or a category cannot be hashed.
        """
        check_is_fitted(self)
        return FieldArray._wrap(self._transform(read_columns(X, self, reset=False)), self.schema_)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Turn codes back into what they stand for.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_columns)
            Codes, as `transform` gives them.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
            Numbers (float64) if no field is categorical, else objects: None for an unknown
            category, NaN for missing. A bin is represented by its weighted median.

        Raises
        ------
        ValueError
            If a code lies outside its field's vocabulary.
        AttributeError
            If the scaler has no inverse.
        """
        check_is_fitted(self)
        codes = np.asarray(FieldArray(X, self.schema_))
        dtype = object if "categorical" in self.schema_.kinds else np.float64
        out = np.empty(codes.shape, dtype=dtype)
        for j, encoder in enumerate(self.encoders_.values()):
            out[:, j] = encoder.inverse_transform(codes[:, j])
        return out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the fields.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns, needed only to name those of an array.

        Returns
        -------
        ndarray of shape (n_columns,)
            One name per field.

        Raises
        ------
        ValueError
            If `input_features` contradicts `feature_names_in_` or `n_features_in_`.
        """
        check_is_fitted(self)
        if input_features is None:
            return np.asarray(self.schema_.names, dtype=object)
        return super().get_feature_names_out(input_features)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # codes are int32 whatever comes in
        return tags

    # -- implementation ------------------------------------------------------------------

    def _fit(self, X: Any, sample_weight: Any) -> NDArray[Any] | None:
        """Fit; return the codes unless rows were left out because of weight 0."""
        self._check_parameters()
        columns = read_columns(X, self, reset=True)
        weight = _check_weight(sample_weight, columns.n_rows)
        is_whole = weight is None or bool(weight.all())
        if weight is not None and not is_whole:
            rows = np.flatnonzero(weight)
            columns, weight = columns.take(rows), weight[rows]
        encoders = self._choose_encoders(X, columns)
        out = _empty_codes(columns, encoders)
        for j, encoder in enumerate(encoders):
            out[:, j] = encoder.fit_transform(columns.read(j), weight)
        self.encoders_ = {encoder.name: encoder for encoder in encoders}
        self.schema_ = FieldSchema(
            names=tuple(encoder.name for encoder in encoders),
            kinds=tuple(encoder.kind for encoder in encoders),
            vocabulary_sizes=tuple(encoder.vocabulary_size for encoder in encoders),
        )
        return out if is_whole else None

    def _transform(self, columns: Columns) -> NDArray[Any]:
        encoders = list(self.encoders_.values())
        out = _empty_codes(columns, encoders)
        for j, encoder in enumerate(encoders):
            out[:, j] = encoder.transform(columns.read(j))
        return out

    def _choose_encoders(
        self, X: Any, columns: Columns
    ) -> list[CategoryEncoder | BinEncoder | NumberEncoder]:
        names = [str(name) for name in columns.names]
        categorical, numeric = (
            set() if spec is None else select_columns(X, spec, columns)
            for spec in (self.categorical, self.numeric)
        )
        if both := [names[j] for j in sorted(categorical & numeric)]:
            raise ValueError(
                f"Columns selected by both categorical= and numeric=: {both}. Name each in one."
            )
        encoders: list[CategoryEncoder | BinEncoder | NumberEncoder] = []
        for j, name in enumerate(names):
            if j in categorical or (j not in numeric and not columns.is_number(j)):
                encoders.append(
                    CategoryEncoder(
                        name,
                        min_frequency=self.min_frequency,
                        max_categories=self.max_categories,
                        handle_unknown=self.handle_unknown,
                    )
                )
            elif isinstance(self.scaler, str) and self.scaler == "bins":
                encoders.append(
                    BinEncoder(name, n_bins=self.n_bins, handle_unknown=self.handle_unknown)
                )
            else:
                encoders.append(NumberEncoder(name, scaler=self.scaler))
        return encoders

    def _check_parameters(self) -> None:
        """Raise in scikit-learn's words; its own checker is not public."""
        scaler, share, most = self.scaler, self.min_frequency, self.max_categories
        is_transformer = hasattr(scaler, "transform") and not isinstance(scaler, type)
        is_share = isinstance(share, Real) and not isinstance(share, Integral) and 0 < share < 1
        rules = {
            "scaler": (
                is_transformer or scaler is None or _is_one_of(scaler, "bins", "log"),
                "'bins', 'log', a transformer instance or None",
            ),
            "n_bins": (_is_int(self.n_bins, 2), "an int of at least 2"),
            "min_frequency": (
                share is None or _is_int(share, 1) or is_share,
                "an int of at least 1, a float between 0 and 1 (both excluded) or None",
            ),
            "max_categories": (most is None or _is_int(most, 1), "an int of at least 1 or None"),
            "handle_unknown": (
                _is_one_of(self.handle_unknown, "unknown", "error"),
                "'unknown' or 'error'",
            ),
        }
        for name, (is_valid, expected) in rules.items():
            if not is_valid:
                raise ValueError(
                    f"The {name!r} parameter of {type(self).__name__} must be {expected}. "
                    f"Got {getattr(self, name)!r} instead."
                )


def _is_one_of(value: Any, *words: str) -> bool:
    return isinstance(value, str) and value in words


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _empty_codes(columns: Columns, encoders: list[Any]) -> NDArray[Any]:
    is_numeric = any(encoder.kind == "numeric" for encoder in encoders)
    shape = (columns.n_rows, len(encoders))
    return np.empty(shape, dtype=np.float64 if is_numeric else np.int32)


def _check_weight(sample_weight: Any, n_rows: int) -> NDArray[np.float64] | None:
    if sample_weight is None:
        return None
    weight = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weight.shape != (n_rows,):
        raise ValueError(f"sample_weight has shape {weight.shape}, expected ({n_rows},).")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise ValueError(f"sample_weight must not be negative, got {weight[row]} in row {row}.")
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight
