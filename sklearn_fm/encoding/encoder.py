"""Encodes a table, field by field, into the `FieldArray` that models read.

It does not know how a column is encoded (see ``plan`` for the choice) nor how a container
stores it (see ``columns``).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sklearn_fm.data.array import FieldArray
from sklearn_fm.schema import FieldSchema

from .categories import CategoryEncoder, HashEncoder
from .column_encoder import ColumnEncoder
from .columns import read_columns
from .fields import Field, Scaler
from .plan import check_parameters, make_plan
from .steps import Step, items_of, lay_out, learn, schema_of, settle
from .unknown import unknown_share, warn_of_unknown
from .weights import weighted_rows

__all__ = ["FieldEncoder"]

_LEARNED = {"_steps", "encoders_", "schema_", "n_features_in_", "feature_names_in_"}


class FieldEncoder(TransformerMixin, BaseEstimator):
    """Encode the columns of a table as fields: categories, bins and bags as codes.

    A code is the number of a category or bin within its field; -1 stands for unknown: a
    category not seen in fit, or a rare one. Numbers become codes of quantile bins, or
    what else `scaler` says. Cells that hold several categories become bags, dates are taken
    apart. Missing values are welcome in all columns.

    Columns of a DataFrame are matched by name, as in ColumnTransformer: order does not
    matter and additional columns are ignored. Columns of an array are matched by position.
    Data of the same content get the same codes in any container: pandas of any dtype, polars,
    pyarrow, numpy (also structured), a dict of columns. Categories may be whole numbers in one
    table and their text in the next: 7, 7.0 and "7" (but not "007") are the same, unless a column
    in fit holds both.

    Parameters
    ----------
    categorical, numeric : str, int, list, slice, mask, callable or dtypes, default=None
        Columns to encode as categories and as numbers, as ColumnTransformer takes
        columns, or as dtypes (``"category"``, ``np.number``, ``[int, bool]``). Columns in
        neither, nor in `fields`, are told by what they hold: lists and the like are bags, dates
        are dates, numbers, decimals and durations (in seconds) are numeric, all else is
        categorical. Columns of an object array are numeric if they hold numbers only. Whole
        numbers that are ids, by the column's name or by their values (see Notes), are
        categories.
    fields : dict of str or int to description, default=None
        How to encode single columns, by name or position: `CategoryField`, `BagField`,
        `NumberField` or `DateField`.
    scaler : str, transformer or None, default="bins"
        How to represent numbers.

        - "bins": the code of a quantile bin, and one code for missing if fit saw any.
        - "uniform_bins", "log_bins": likewise, with bins of equal length, or that grow with
          the square of the logarithm.
        - "piecewise": a point between two knots, so that embeddings are piecewise linear.
        - "periodic": sines and cosines of the rank.
        - "log": standardized ``sign(x) * log1p(|x|)``.
        - None: as they are.
        - a scikit-learn transformer: cloned for each numeric column, fitted on and
          applied to the numbers present, as one column; it gets the sample weights if
          its `fit` takes them.

        The last four have one more slot that tells whether the number is missing, if fit saw
        any.
    n_bins : int, default=20
        Upper limit to the number of bins of a column, for "bins", "uniform_bins" and
        "piecewise".
    min_frequency : int or float, default=None
        Categories of a smaller weighted count (int), or of a smaller share of the total
        weight (float), become unknown.
    max_categories : int, default=None
        Upper limit to the categories of a column, the unknown row that takes the less
        frequent ones included, as in OneHotEncoder.
    hash_buckets : int, default=None
        Columns of more categories are encoded by a stable hash into that many codes, without
        a vocabulary.
    handle_unknown : {"unknown", "error"}, default="unknown"
        What `transform` does with what fit did not see: encode it as -1, or raise.
    n_jobs : int, default=None
        Threads, each for columns of its own; None is 1 unless in a `joblib.parallel_config`
        context, -1 all cores.

    Attributes
    ----------
    schema_ : FieldSchema
        Name, kind, vocabulary size and slots of each field.
    encoders_ : dict of str to encoder
        Fitted encoder of each field.
    n_features_in_ : int
        Number of columns seen in fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all of them are strings.

    See Also
    --------
    sklearn.preprocessing.OrdinalEncoder : Codes without a schema, for categories only.

    Notes
    -----
    Whole numbers are ids, and so categories, if the last word of their column's name says so: a
    word for ids (id, sku, zip ...), or whom or what rows of ratings and purchases are about (user,
    customer, item, movie, store ...), in user_id, userId, "User ID". They are numbers if a word is
    of measurements (age, price, time, n_items, distance_to_store). Where the name says nothing,
    integers are ids if there are at least 100 different ones, each in two rows on average, which
    fill a third of their range, and whose neighbours do not resemble each other in frequency (rank
    correlation below 0.85) as those of counts do, but at a quarter of the rows are more unlike than
    chance makes them. If they fill less, or all of it evenly, fit takes them for numbers and warns;
    not if they fill less and have fewer than ten rows each, as prices do. A name that may be that
    of ids (movies, invoice_no, age_category) leaves it to the values, too, but fit warns wherever
    they do not speak for numbers. A different number in nearly every row is a row number, whatever
    its name. `summary` says what was chosen and why; `categorical`, `numeric` and `fields`
    override it.

    Codes keep their schema in a FieldArray and in a pandas DataFrame. Columns of polars have no
    place for one, so fit warns if `set_output` says "polars".

    Threads may encode while another fits: they get the codes of the encoder as it was before or
    as it is after. What fails leaves it as it was.

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

    schema_: FieldSchema
    encoders_: dict[str, ColumnEncoder]
    n_features_in_: int

    def __init__(
        self,
        *,
        categorical: Any = None,
        numeric: Any = None,
        fields: dict[Any, Field] | None = None,
        scaler: Scaler = "bins",
        n_bins: int = 20,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        hash_buckets: int | None = None,
        handle_unknown: Literal["unknown", "error"] = "unknown",
        n_jobs: int | None = None,
    ) -> None:
        self.categorical = categorical
        self.numeric = numeric
        self.fields = fields
        self.scaler = scaler
        self.n_bins = n_bins
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.hash_buckets = hash_buckets
        self.handle_unknown = handle_unknown
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> FieldEncoder:
        """Learn vocabularies, bins and scales.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
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

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, keep_codes: bool = True
    ) -> FieldEncoder:
        """Learn from one more chunk of a table; the first call is a fit.

        After `fit`, which forgets rare categories, these are counted from nought.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
            The chunk.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights, as in `fit`.
        keep_codes : bool, default=True
            Whether all codes keep their meaning: bins and scales stay, new categories get codes
            after those given before, and so do rare ones that have become frequent. Models
            trained on codes can go on with their `partial_fit`. What has no place among them
            stays without: numbers where the first chunk had none are unknown to bins, bags
            longer than those before are too long. False makes the codes up anew from all
            chunks, as a fit on all rows would; quantiles are then approximate. Only then may
            `hash_buckets` turn a column that has grown into a hashed one.

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
        AttributeError
            If `keep_codes` is False and the scaler is a transformer without `partial_fit`.
        """
        new = copy.copy(self)
        if not hasattr(new, "schema_"):
            self._fit(X, sample_weight, forget_rare=False)
            return self
        columns, weight = weighted_rows(read_columns(X, new, reset=False), sample_weight)
        steps = copy.deepcopy(new._steps)
        learn(steps, columns, weight, new.n_jobs)
        settle(steps, keep=keep_codes)
        self._publish(new, steps, forget_rare=False)
        return self

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> FieldArray:
        """Fit and encode in one pass over the table.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
            The table.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights, as in `fit`.

        Returns
        -------
        FieldArray of shape (n_rows, schema_.n_columns)
            Of dtype int32, or float64 if a field is numeric or weighted.

        Raises
        ------
        ValueError
            If a parameter, the table or the weights are not usable.
        TypeError
            If the table is sparse, or a category cannot be hashed.
        """
        return self._fit(X, sample_weight, every_row=True)

    def transform(self, X: Any) -> FieldArray:
        """Encode a table.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
            The table, in the container of fit or another.

        Returns
        -------
        FieldArray of shape (n_rows, schema_.n_columns)
            Of dtype int32, or float64 if a field is numeric or weighted.

        Raises
        ------
        ValueError
            If a column is missing or unusable, or something is unknown and
            ``handle_unknown="error"``.
        TypeError
            If the table is sparse, or a category cannot be hashed.

        Warns
        -----
        UserWarning
            If a field of categories or bags is unknown almost everywhere (see Notes).

        Notes
        -----
        Unknown categories are normal, but a whole column of them is often another column than
        that of fit, or ids of another kind. So an encoder warns, once for a field, when of a
        hundred rows or more 99% are unknown, but at most half were in fit; not for a few new
        categories (fewer than 20, or than fit knows). `unknown_share` counts any.
        """
        return self._encode(X, warn=True)

    def unknown_share(self, X: Any) -> pd.Series:
        """Return how much of a table is unknown, field by field.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
            The table, as for `transform`, which does the same work.

        Returns
        -------
        Series of shape (n_fields,)
            By field, the share of its rows that are unknown: not seen in fit, too rare there, or
            missing where fit saw none missing; for bags the share of the categories in them. 0 for
            numbers that stay numbers.

        Raises
        ------
        ValueError
            If a column is missing or unusable, or something is unknown and
            ``handle_unknown="error"``.
        TypeError
            If the table is sparse, or a category cannot be hashed.
        """
        return unknown_share(self._encode(X, warn=False))

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Turn codes back into what they stand for.

        Parameters
        ----------
        X : array-like of shape (n_rows, schema_.n_columns)
            Codes, as `transform` gives them.

        Returns
        -------
        ndarray of shape (n_rows, n_fields)
            Numbers (float64) if no field is categorical or a bag, else objects: None for an
            unknown category, NaN for missing, a tuple for a bag (of pairs with their
            multipliers if weighted). A bin is represented by its weighted median, a date by
            its part.

        Raises
        ------
        ValueError
            If a code lies outside its field's vocabulary, or a field is hashed.
        AttributeError
            If the scaler has no inverse.
        """
        fitted = copy.copy(self)
        check_is_fitted(fitted)
        schema, first = fitted.schema_, fitted.schema_.first_columns
        codes = np.asarray(FieldArray(X, schema))
        has_objects = {"categorical", "bag"} & set(schema.kinds)
        out = np.empty((len(codes), schema.n_fields), dtype=object if has_objects else np.float64)
        for f, encoder in enumerate(fitted.encoders_.values()):
            out[:, f] = encoder.inverse_transform(codes[:, first[f] : first[f + 1]])
        return out

    def encode_categories(self, field: str, categories: Any) -> NDArray[np.int32]:
        """Return the codes of categories of one field, without a table around them.

        Parameters
        ----------
        field : str
            Name of a field with codes: categorical or a bag.
        categories : array-like of shape (n,)
            Categories as they stand in cells, or in bags.

        Returns
        -------
        ndarray of shape (n,)
            Codes; -1 for unknown.

        Raises
        ------
        ValueError
            If there is no such field, or its categories have no single code: a number, or
            several hashes.
        """
        check_is_fitted(self)
        encoders = self.encoders_
        encoder = items_of(encoders[field]) if field in encoders else None
        if not isinstance(encoder, (CategoryEncoder, HashEncoder)) or encoder.slots > 1:
            coded = [
                name
                for name, other in encoders.items()
                if isinstance(items_of(other), CategoryEncoder)
            ]
            raise ValueError(
                f"{field!r} is no field whose categories have a code each; these are {coded}."
            )
        # Whatever is unknown here is no cell of a table that has to be refused.
        if isinstance(encoder, CategoryEncoder):
            encoder = copy.copy(encoder)
            encoder.handle_unknown = "unknown"
        return encoder.transform(np.asarray(categories))

    def summary(self) -> pd.DataFrame:
        """Return what became of the columns.

        Returns
        -------
        DataFrame
            One row per field, by name: its kind; the columns it is made of; chosen_by, what
            decided on the kind: a parameter ("fields=" and the like), for whole numbers the
            column's "name" or their "values", else the type of the "cells"; how it is encoded;
            the vocabulary's name; vocabulary_size, the rows of the table it reads; slots, and
            how they are pooled; unknown_share, the share of categories in fit too rare for a
            code; missing_share, that of rows with nothing in the cell; mean_length and
            max_length of bags; bytes of memory of the encoder; and a note where the choice
            may surprise.
        """
        check_is_fitted(self)
        rows = {
            step.encoder.name: {
                "kind": step.encoder.kind,
                "columns": ", ".join(step.column_names),
                "chosen_by": step.chosen_by,
                **step.encoder.describe(),
                "note": step.note,
            }
            for step in self._steps
        }
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table.rename_axis("field")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns of codes.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns, needed only to name those of an array.

        Returns
        -------
        ndarray of shape (schema_.n_columns,)
            The field's name, with the number of the slot if it has several.

        Raises
        ------
        ValueError
            If `input_features` contradicts `feature_names_in_` or `n_features_in_`.
        """
        fitted = copy.copy(self)
        check_is_fitted(fitted)
        schema = fitted.schema_
        if input_features is not None:
            given = _check_feature_names_in(fitted, input_features)
            renamed = tuple(
                str(given[step.columns[0]]) + step.encoder.name.removeprefix(f"x{step.columns[0]}")
                if not hasattr(fitted, "feature_names_in_")
                else step.encoder.name
                for step in fitted._steps
            )
            schema = FieldSchema(
                renamed, schema.kinds, schema.vocabulary_sizes, schema.slots, schema.poolings
            )
        return np.asarray(schema.column_names, dtype=object)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        text = super().__repr__(N_CHAR_MAX)
        ids = [step.encoder.name for step in getattr(self, "_steps", []) if step.is_guessed_id]
        return f"{text} <taken for ids: {', '.join(ids)}>" if ids else text

    @property
    def _repr_html_(self) -> Callable[[], str]:
        diagram: Callable[[], str] = super()._repr_html_
        if not hasattr(self, "schema_"):
            return diagram
        return lambda: diagram() + f"<div>{self.summary().to_html()}</div>"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # codes are int32 whatever comes in
        return tags

    # -- implementation ------------------------------------------------------------------

    # Other threads may be encoding. So whatever learns does so on a copy, which `_publish` takes
    # over when all is there, and whatever reads more than one attribute reads those of a copy.

    def _fit(
        self, X: Any, sample_weight: Any, *, forget_rare: bool = True, every_row: bool = False
    ) -> FieldArray:
        """Fit; return the codes of the rows that have a weight, or of every row."""
        new = copy.copy(self)
        check_parameters(new)
        whole = read_columns(X, new, reset=True)
        columns, weight = weighted_rows(whole, sample_weight)
        steps = make_plan(new, X, columns)
        drafts = learn(steps, columns, weight, new.n_jobs)
        void = settle(steps, keep=False)
        rows = whole if every_row else columns

        def encode(k: int) -> NDArray[Any]:
            step = steps[k]
            if k in void or rows is not columns:
                return step.encoder.transform(step.read(rows))
            return step.encoder.encode(drafts[k])

        schema = schema_of(steps)
        codes = lay_out(schema, rows.n_rows, encode, new.n_jobs)
        self._publish(new, steps, forget_rare=forget_rare)
        self._warn_of_polars()
        return FieldArray._wrap(codes, schema)

    def _fit_chunks(self, chunks: Iterable[tuple[Any, Any]]) -> None:
        """Fit to a table that comes in chunks, each with its weights, if any comes."""
        new, steps = copy.copy(self), list[Step]()
        check_parameters(new)
        for X, sample_weight in chunks:
            opened = read_columns(X, new, reset=not steps)
            columns, weight = weighted_rows(opened, sample_weight)
            steps = steps or make_plan(new, X, columns)
            learn(steps, columns, weight, new.n_jobs)
        if steps:
            settle(steps, keep=False)
            self._publish(new, steps, forget_rare=True)

    def _encode(self, X: Any, *, warn: bool = True) -> FieldArray:
        """What `transform` gives, without the container that scikit-learn puts it into."""
        fitted = copy.copy(self)
        check_is_fitted(fitted)
        if getattr(X, "ndim", 2) == 1 and getattr(X.dtype, "names", None) is None:
            raise ValueError(
                f"Expected 2D array, got 1D array instead, of {len(X)} entries. Reshape your data "
                "by reshape(-1, 1) if it is a column, by reshape(1, -1) if it is a row. If it is "
                "the y of an eval_set in a Pipeline, whose transform_input transforms y like X: "
                "pass X_val and y_val to fit, and to the Pipeline transform_input=['X_val']."
            )
        columns = read_columns(X, fitted, reset=False)

        def encode(k: int) -> NDArray[Any]:
            step = fitted._steps[k]
            values = step.read(columns)
            codes = step.encoder.transform(values)
            if warn:
                warn_of_unknown(step.encoder, values, codes)
            return codes

        codes = lay_out(fitted.schema_, columns.n_rows, encode, fitted.n_jobs)
        return FieldArray._wrap(codes, fitted.schema_)

    def _warn_of_polars(self) -> None:
        """Warn of the one container that has no place for the schema, where codes go into it."""
        if _get_output_config("transform", self)["dense"] == "polars":
            warnings.warn(
                "Codes in a polars DataFrame lose their schema: an estimator would read them as "
                "plain numbers. Pass it schema=encoder.schema_ of this FieldEncoder and ignore "
                "this warning, or set_output(transform='pandas'), which keeps the schema, or "
                "'default'.",
                UserWarning,
                stacklevel=2,
            )

    def _publish(self, new: FieldEncoder, steps: list[Step], *, forget_rare: bool) -> None:
        """Take over what a copy has learned, in one assignment; parameters stay."""
        if forget_rare and new.handle_unknown != "error":  # which tells them from unseen ones
            for step in steps:
                step.encoder.forget_rare()
        learned = {name: value for name, value in vars(new).items() if name in _LEARNED}
        learned["_steps"] = steps
        learned["encoders_"] = {step.encoder.name: step.encoder for step in steps}
        learned["schema_"] = schema_of(steps)
        others = {name: value for name, value in vars(self).items() if name not in _LEARNED}
        self.__dict__ = others | learned
