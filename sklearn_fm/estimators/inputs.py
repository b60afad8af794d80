"""From what a user passes as X to encoded rows, the same way in fit and in predict.

The columns themselves are encoded by ``encoding``; targets are the business of ``targets``.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from ..data.array import FieldArray
from ..data.csr import check_csr
from ..data.folder import FieldFolder
from ..encoding import FieldEncoder
from ..encoding.columns import check_array_table, check_frame
from ..encoding.streaming import encode_to_folder, is_table_on_disk, read_chunks
from ..encoding.tables import as_table, is_polars
from ..schema import FieldSchema

__all__ = ["Encoded", "FieldInputMixin", "in_chunks", "read_target"]

Encoded: TypeAlias = Any  # FieldArray, FieldFolder or csr_array


def in_chunks(X: Any, names: Sequence[str]) -> Iterator[Any]:
    """Tables that make up X; X itself unless it is on disk.

    Parameters
    ----------
    X : object
        What a user passes to predict.
    names : sequence of str
        Columns of interest; others of a table on disk, such as the target, are not read.

    Yields
    ------
    object
        What `_check_X` takes.
    """
    if isinstance(X, FieldFolder):
        yield from X.chunks()
    elif is_table_on_disk(X):
        yield from read_chunks(X, columns=names)
    else:
        yield X


def read_target(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Target and weights of a table on disk or a folder as arrays; others as they are.

    Parameters
    ----------
    X : object
        What a user passes as features.
    y : array-like or str
        Target, or the name of its column.
    sample_weight : array-like, str or None
        Weights, or the name of their column.

    Returns
    -------
    y, sample_weight
    """
    if isinstance(X, FieldFolder):
        y = X.y if y is None else y
        sample_weight = X.sample_weight if sample_weight is None else sample_weight
    if not is_table_on_disk(X):
        return y, sample_weight
    named = [name for name in (y, sample_weight) if isinstance(name, str)]
    parts = [[np.array(t[name]) for name in named] for t in read_chunks(X, columns=named)]
    columns = dict(zip(named, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    return tuple(columns[name] if isinstance(name, str) else name for name in (y, sample_weight))  # type: ignore[return-value]


class FieldInputMixin:
    """Checks and encodes X: any table, array, FieldArray or sparse matrix.

    Attributes
    ----------
    schema_ : FieldSchema
        Fields of the table.
    encoder_ : FieldEncoder or None
        Fitted encoder, if X was not encoded.
    """

    encoder: Any
    schema: FieldSchema | None
    if TYPE_CHECKING:  # an annotation seen at run time would be a parameter
        n_features_in_: int
    #: Whether a sparse matrix is a possible X.
    _takes_sparse: ClassVar[bool] = True

    def _fit_encoding(self, X: Any, weight: NDArray[np.float64]) -> Encoded:
        encoded: Encoded
        self.encoder_ = None
        if isinstance(X, FieldFolder):
            self.schema_, self.encoder_, encoded = X.schema, X.encoder, X
        elif isinstance(X, FieldArray) and (X.schema is not None or self.schema is None):
            self.schema_, encoded = X.require_schema(), X
        elif sparse.issparse(X):
            names = getattr(self, "feature_names_in_", None)
            schema = FieldSchema.of_columns(X.shape[1])
            if names is not None:
                schema = FieldSchema.from_sizes([1] * X.shape[1], names=names)
            self.schema_, encoded = schema, X
        elif self.schema is not None:
            encoded = FieldArray(np.asarray(X), self.schema)
            self.schema_ = self.schema
        else:
            self.encoder_ = self._make_encoder()
            encoded = self.encoder_.fit_transform(X, sample_weight=weight)
            self.schema_ = encoded.require_schema()
        self._sparse_input = sparse.issparse(encoded)
        self._past_sizes = {self.schema_.vocabulary_sizes}
        return encoded

    def _make_encoder(self) -> FieldEncoder:
        return FieldEncoder() if self.encoder is None else clone(self.encoder)

    def _check_X(self, X: Any, *, reset: bool) -> Any:
        """X in a form that the encoding takes, its columns checked against those of fit."""
        check_csr(X)
        X = self._select_columns(as_table(X))
        if isinstance(X, FieldFolder):
            if reset:
                self._take_names(X)
            return X
        if isinstance(X, FieldArray) and not reset and self._sparse_input:
            raise TypeError(
                f"{type(self).__name__} was fitted on a sparse matrix but got a FieldArray; pass "
                "a table of the same kind as in fit."
            )
        as_sparse = sparse.issparse(X) or (not reset and self._sparse_input)
        is_frame = isinstance(X, pd.DataFrame) or is_polars(X)
        if is_frame:
            check_frame(X, self)
        if (is_frame and not as_sparse) or isinstance(X, FieldArray):
            # Encoded rows show their fields by their schema, not by the features of fit.
            if reset or not isinstance(X, FieldArray) or X.schema is None:
                validate_data(self, X, reset=reset, skip_check_array=True)
            if not X.shape[0] or not X.shape[1]:
                what = "sample(s)" if not X.shape[0] else "feature(s)"
                raise ValueError(
                    f"Found array with 0 {what} (shape={tuple(X.shape)}) while a minimum of 1 is "
                    "required."
                )
            return X
        if not as_sparse:
            return check_array_table(X, self, reset=reset)
        X = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr" if self._takes_sparse else False,
            dtype=np.float64,
        )
        if not reset and not self._sparse_input:
            raise TypeError(
                f"{type(self).__name__} was fitted on a dense table but got a sparse matrix; "
                "pass a table of the same kind as in fit."
            )
        X = sparse.csr_array(X, copy=True)
        X.sum_duplicates()
        X.eliminate_zeros()
        return X

    def _take_names(self, folder: FieldFolder) -> None:
        """Features of a folder's rows: those that its encoder saw, else the columns of codes."""
        encoder = folder.encoder
        self.n_features_in_ = folder.shape[1] if encoder is None else encoder.n_features_in_
        vars(self).pop("feature_names_in_", None)
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_

    def _open_source(
        self, X: Any, y: Any, sample_weight: Any, scratch: ExitStack, *, go_on: bool, grow: bool
    ) -> tuple[Any, Any, Any]:
        """A folder with its target and weights in place of a table on disk.

        For a table on disk, y and sample_weight name columns; for a folder they may be omitted.
        What is written to disk vanishes with `scratch`.
        """
        if is_table_on_disk(X):
            if not isinstance(y, str) or not isinstance(sample_weight, (str, type(None))):
                raise ValueError(
                    f"X={str(X)!r:.60} is taken for a table on disk, so y must be the name of the "
                    "target's column, and sample_weight that of the weights' or None; got "
                    f"y={str(y)!r:.60}."
                )
            if go_on and self.encoder_ is None:
                raise ValueError(
                    f"{type(self).__name__} was fitted on encoded rows, so a table on disk cannot "
                    "be encoded alike. Use encode_to_folder with the FieldEncoder of then."
                )
            X = encode_to_folder(
                X,
                scratch.enter_context(_temporary_folder()),
                encoder=copy.copy(self.encoder_) if go_on else self._make_encoder(),
                columns=None if go_on else self._columns_on_disk(),
                target=y,
                sample_weight=sample_weight,
                grow=grow,
            )
            y = sample_weight = None
        if isinstance(X, FieldFolder):
            y = X.y if y is None else y
            sample_weight = X.sample_weight if sample_weight is None else sample_weight
        return X, y, sample_weight

    def _columns_on_disk(self) -> list[str] | None:
        """Columns of a table on disk to read; None for all but target and weights."""
        return None

    def _select_columns(self, X: Any) -> Any:
        """The columns of X to use; all unless a family knows better."""
        return X

    def _grow_encoding(self, X: Any, weight: NDArray[np.float64]) -> Encoded:
        """Encode checked rows to go on with; categories new to a vocabulary get codes."""
        if isinstance(X, (FieldArray, FieldFolder)) and X.schema is not None:
            if X.schema.rows_kept(self.schema_) is not None:
                self._grow_to(X.schema)
                self.encoder_ = getattr(X, "encoder", None) or self.encoder_
        elif self.encoder_ is not None and hasattr(self.encoder_, "partial_fit"):
            if self.encoder_.schema_.rows_kept(self.schema_) is None:
                raise ValueError(
                    "encoder_ lacks categories that came with encoded rows since. Let it learn "
                    "them by its partial_fit, or go on with rows of the encoder that has them."
                )
            self.encoder_ = copy.copy(self.encoder_)  # what fails must leave the fitted one
            self.encoder_.partial_fit(X, sample_weight=weight)
            self._grow_to(self.encoder_.schema_)
        return self._encode(X)

    def _grow_to(self, schema: FieldSchema) -> None:
        self.schema_ = schema
        self._past_sizes = self._past_sizes | {schema.vocabulary_sizes}

    def _encode(self, X: Any) -> Encoded:
        """Encode checked rows as in fit."""
        if self._sparse_input and not isinstance(X, FieldFolder):
            return X
        if isinstance(X, (FieldArray, FieldFolder)) and X.schema is not None:
            self._check_schema(X.schema)
            return X.under(self.schema_)
        if self.encoder_ is not None:
            return self.encoder_.transform(X).under(self.schema_)
        try:
            return FieldArray(np.asarray(X), self.schema_)
        except ValueError as error:
            raise ValueError(
                f"{type(self).__name__} was fitted on encoded rows, and these are not rows of "
                "that encoding. Transform them by the FieldEncoder used in fit (a Pipeline does "
                f"so, except for an eval_set). {error}"
            ) from error

    def _check_schema(self, schema: FieldSchema) -> None:
        """Raise unless rows of the schema can be read: of now, of before, or grown since.

        A smaller one that never was the own one is of an encoder fitted apart.
        """
        if schema == self.schema_ or schema.rows_kept(self.schema_) is not None:
            return
        past = schema.vocabulary_sizes in self._past_sizes
        if not past or self.schema_.rows_kept(schema) is None:
            raise ValueError(
                "X was encoded with another schema than in fit. Encode all data with one "
                "FieldEncoder, for instance in a Pipeline; new categories may come by its "
                "partial_fit."
            )


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sklearn_fm", ignore_cleanup_errors=True)
