"""From what a user passes as X to encoded rows, the same way in fit and in predict.

Tables on disk are opened by ``sources``, columns encoded by ``encoding``; targets are the business
of ``targets``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import validate_data

from ..data.array import FieldArray
from ..data.folder import FieldFolder
from ..encoding.columns import check_array_table, check_frame
from ..encoding.tables import is_polars
from ..schema import FieldSchema
from .codes import numbered_columns, warn_of_merged, warn_of_unseen

__all__ = ["Encoded", "Encoding", "check_X"]

Encoded: TypeAlias = Any  # FieldArray, FieldFolder or csr_array


# -- checks ----------------------------------------------------------------------------------


def check_X(
    estimator: Any, X: Any, encoding: Encoding | None = None, *, takes_sparse: bool = True
) -> Any:
    """X in a form that the encoding takes, its columns checked against those of fit.

    Parameters
    ----------
    estimator : estimator
        Who asks; without an encoding, its `n_features_in_` and `feature_names_in_` are set.
    X : table, array, FieldArray, sparse matrix or FieldFolder
        What a user passes, as `as_table` gives it.
    encoding : Encoding, default=None
        That of fit; None in fit.
    takes_sparse : bool, default=True
        Whether a sparse matrix is a possible X.

    Returns
    -------
    DataFrame, ndarray, FieldArray, csr_array or FieldFolder

    Raises
    ------
    ValueError
        If X is empty or differs in its columns from that of fit.
    TypeError
        If X is of another kind than in fit.
    """
    name, reset = type(estimator).__name__, encoding is None
    if isinstance(X, FieldFolder):
        if reset:
            _take_names(estimator, X)
        return X
    was_sparse = encoding is not None and encoding.is_sparse
    if isinstance(X, FieldArray) and was_sparse:
        raise TypeError(
            f"{name} was fitted on a sparse matrix but got a FieldArray; pass "
            "a table of the same kind as in fit."
        )
    as_sparse = sparse.issparse(X) or was_sparse
    is_frame = isinstance(X, pd.DataFrame) or is_polars(X)
    if is_frame:
        check_frame(X, estimator)
    if (is_frame and not as_sparse) or isinstance(X, FieldArray):
        # Encoded rows show their fields by their schema, not by the features of fit; what is not
        # encoded and should be is told by `Encoding.encode`, whatever its columns are called.
        if reset or (encoding is not None and encoding.encoder is not None and is_frame):
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        if not X.shape[0] or not X.shape[1]:
            what = "sample(s)" if not X.shape[0] else "feature(s)"
            raise ValueError(
                f"Found array with 0 {what} (shape={tuple(X.shape)}) while a minimum of 1 is "
                "required."
            )
        return X
    if not as_sparse:
        return check_array_table(X, estimator, reset=reset)
    X = validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr" if takes_sparse else False,
        dtype=np.float64,
    )
    if not reset and not was_sparse:
        raise TypeError(
            f"{name} was fitted on a dense table but got a sparse matrix; "
            "pass a table of the same kind as in fit."
        )
    X = sparse.csr_array(X, copy=True)
    X.sum_duplicates()
    X.eliminate_zeros()
    return X


def _take_names(estimator: Any, folder: FieldFolder) -> None:
    """Features of a folder's rows: those that its encoder saw, else the columns of codes."""
    encoder = folder.encoder
    estimator.n_features_in_ = folder.shape[1] if encoder is None else encoder.n_features_in_
    vars(estimator).pop("feature_names_in_", None)
    if hasattr(encoder, "feature_names_in_"):
        estimator.feature_names_in_ = encoder.feature_names_in_


def _named_as_in_fit(X: Any, encoder: Any) -> Any:
    """A table with or without names as its encoder saw; that they differ has been said before."""
    names = getattr(encoder, "feature_names_in_", None)
    if names is not None and isinstance(X, np.ndarray):
        return pd.DataFrame(X, columns=names)
    if names is None and isinstance(X, pd.DataFrame):
        return X.set_axis(range(X.shape[1]), axis=1)
    return X


# -- encoding --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoding:
    """How checked tables become encoded rows: what fit found out about them.

    Attributes
    ----------
    owner : str
        Name of the estimator, for messages.
    schema : FieldSchema
        Fields of the table.
    encoder : FieldEncoder or None
        Fitted encoder, if X was not encoded.
    is_sparse : bool
        Whether X was a sparse matrix.
    past_sizes : frozenset
        Vocabulary sizes that the schema has had.
    numbered : dict of int to int
        Columns of X that look like codes without a schema, unless it was said what they are.
    """

    owner: str
    schema: FieldSchema
    encoder: Any = None
    is_sparse: bool = False
    past_sizes: frozenset[tuple[int, ...]] = field(default_factory=frozenset)
    numbered: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = self.past_sizes | {self.schema.vocabulary_sizes}
        object.__setattr__(self, "past_sizes", sizes)

    @classmethod
    def learn(
        cls,
        owner: str,
        X: Any,
        weight: NDArray[np.float64],
        *,
        schema: FieldSchema | None,
        make_encoder: Callable[[], Any],
        says_nothing: bool = False,
        names: Any = None,
    ) -> tuple[Encoding, Encoded]:
        """Find out how to encode checked rows, and encode them.

        Parameters
        ----------
        owner : str
            Name of the estimator.
        X : table, array, FieldArray, csr_array or FieldFolder
            Checked rows.
        weight : ndarray of shape (n_rows,)
            Sample weights.
        schema : FieldSchema or None
            Schema of codes that lost theirs.
        make_encoder : callable
            Gives an encoder to fit.
        says_nothing : bool, default=False
            Whether that encoder was told nothing about columns.
        names : sequence of str, default=None
            Names of the columns of a sparse matrix.

        Returns
        -------
        Encoding
        FieldArray, csr_array or FieldFolder
        """
        if isinstance(X, FieldFolder):
            return cls(owner, X.schema, X.encoder), X
        if isinstance(X, FieldArray) and (X.schema is not None or schema is None):
            return cls(owner, X.require_schema()), X
        if sparse.issparse(X):
            own = FieldSchema.of_columns(X.shape[1])
            if names is not None:
                own = FieldSchema.from_sizes([1] * X.shape[1], names=names)
            return cls(owner, own, is_sparse=True), X
        if schema is not None:
            return cls(owner, schema), FieldArray(np.asarray(X), schema)
        encoder = make_encoder()
        encoded = encoder.fit_transform(X, sample_weight=weight)
        numbered = numbered_columns(X) if says_nothing else {}
        warn_of_merged(encoder, numbered, X)
        return cls(owner, encoder.schema_, encoder, numbered=numbered), encoded

    def grown(self, X: Any, weight: NDArray[np.float64]) -> tuple[Encoding, Encoded]:
        """Encode checked rows to go on with; categories new to a vocabulary get codes.

        Parameters
        ----------
        X : table, array, FieldArray, csr_array or FieldFolder
            Checked rows.
        weight : ndarray of shape (n_rows,)
            Sample weights.

        Returns
        -------
        Encoding
            The one that knows them.
        FieldArray, csr_array or FieldFolder

        Raises
        ------
        ValueError
            If the encoder lacks categories that the schema has.
        """
        now = self
        if isinstance(X, (FieldArray, FieldFolder)) and X.schema is not None:
            if X.schema.rows_kept(self.schema) is not None:
                encoder = getattr(X, "encoder", None) or self.encoder
                now = replace(self, schema=X.schema, encoder=encoder)
        elif self.encoder is not None and hasattr(self.encoder, "partial_fit"):
            if self.encoder.schema_.rows_kept(self.schema) is None:
                raise ValueError(
                    "encoder_ lacks categories that came with encoded rows since. Let it learn "
                    "them by its partial_fit, or go on with rows of the encoder that has them."
                )
            encoder = copy.copy(self.encoder)  # what fails must leave the fitted one
            encoder.partial_fit(X, sample_weight=weight)
            now = replace(self, schema=encoder.schema_, encoder=encoder)
        return now, now.encode(X)

    def encode(self, X: Any) -> Encoded:
        """Encode checked rows as in fit.

        Parameters
        ----------
        X : table, array, FieldArray, csr_array or FieldFolder
            Checked rows.

        Returns
        -------
        FieldArray, csr_array or FieldFolder

        Raises
        ------
        ValueError
            If they are of another encoding.
        """
        if self.is_sparse and not isinstance(X, FieldFolder):
            return X
        if isinstance(X, (FieldArray, FieldFolder)) and X.schema is not None:
            self._check_schema(X.schema)
            return X.under(self.schema)
        if self.encoder is not None:
            X = _named_as_in_fit(X, self.encoder)
            warn_of_unseen(self.encoder, self.numbered, X)
            return self.encoder.transform(X).under(self.schema)
        try:
            return FieldArray(np.asarray(X), self.schema)
        except ValueError as error:
            raise ValueError(
                f"{self.owner} was fitted on encoded rows, and these are not rows of "
                "that encoding. Transform them by the FieldEncoder used in fit (a Pipeline does "
                f"so, with X_val if its transform_input=['X_val']). {error}"
            ) from error

    def _check_schema(self, schema: FieldSchema) -> None:
        """Raise unless rows of the schema can be read: of now, of before, or grown since.

        A smaller one that never was the own one is of an encoder fitted apart.
        """
        if schema == self.schema or schema.rows_kept(self.schema) is not None:
            return
        past = schema.vocabulary_sizes in self.past_sizes
        if not past or self.schema.rows_kept(schema) is None:
            raise ValueError(
                "X was encoded with another schema than in fit. Encode all data with one "
                "FieldEncoder, for instance in a Pipeline; new categories may come by its "
                "partial_fit."
            )
