"""The scikit-learn face of every model: input, fit, predict, pickle.

What is learned lives in one place, published when all of it is there. How a model is trained is
told in ``solvers``; which model, in ``families``.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_fm.user_line import levels_to_user

from ..data.csr import check_csr
from ..data.folder import FieldFolder
from ..encoding import FieldEncoder
from ..encoding.tables import as_table
from ..encoding.weights import check_sample_weight
from ..models.contract import FieldModel
from ..schema import FieldSchema
from ..solvers.choice import choose
from ..solvers.fitted import Fitted
from ..solvers.problem import ModelSpec, Options, Pretrained, Problem, Task, Watch
from ..solvers.start import learning_rate
from ..training.folder_rows import fits_in_memory
from ..training.net import DivergenceError
from ..training.threads import count_threads
from .attributes import learned
from .bases import CallbackSupportMixin, with_callbacks
from .checks import check_consistent_rows, check_validation_rows, divergence_cause
from .codes import find_codes
from .devices import resolve_device
from .epoch_events import EpochEvents
from .inputs import Encoded, Encoding, check_X
from .parameters import estimator
from .pretrained import find_pretrained
from .settings import SharedParameters
from .sources import Source, in_chunks, open_source

__all__ = ["BaseFieldEstimator", "Coding", "Learned"]

_SOME_ROWS = 1_000  # that tell why a loss diverged


@dataclass(frozen=True)
class Coding:
    """What a classifier or regressor made of y.

    Attributes
    ----------
    task : Task
        What is predicted.
    labels : object
        What else it needs to encode more targets, such as `Classes`; None for numbers.
    """

    task: Task
    labels: Any = None


@dataclass(frozen=True)
class Learned:
    """All that a fit learned; replaced as a whole, never changed.

    Attributes
    ----------
    encoding : Encoding
        From X to encoded rows.
    coding : Coding
        From y to numbers, and what is predicted.
    model : Fitted
        What the solver found.
    columns : dict
        n_features_in_, feature_names_in_ if X had any, and the parameters that chose them.
    """

    encoding: Encoding
    coding: Coding
    model: Fitted
    columns: dict[str, Any]


@dataclass
class _Prepared:
    """Training data, checked and encoded, on its way to a problem."""

    encoding: Encoding
    coding: Coding
    encoded: Encoded
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    columns: dict[str, Any]  # n_features_in_, feature_names_in_, parameters that chose them

    def publish(self, fitted: Fitted) -> dict[str, Any]:
        """Attributes of an estimator that was fitted on them."""
        return {
            **{name: value for name, value in self.columns.items() if name.endswith("_")},
            "_fitted": Learned(self.encoding, self.coding, fitted, self.columns),
        }


@estimator
class BaseFieldEstimator(CallbackSupportMixin, SharedParameters):
    """Base of all estimators: encode, choose a solver, let it fit, predict.

    Attributes
    ----------
    module_ : torch.nn.Module
        Trained module, usable without scikit-learn.
    schema_ : FieldSchema
        Fields of the table.
    encoder_ : FieldEncoder or None
        Fitted encoder, if X was not encoded.
    history_ : DataFrame
        One row per epoch: losses, validation metric, seconds, learning rate, and the phase: "fit",
        or "search" and "refit" where rows were held out, or "partial_fit".
    n_epochs_ : int
        Epochs behind the weights.
    solver_ : str
        Solver that was used.
    solver_reason_ : str
        Why this one.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X had any.
    """

    #: The module's class.
    _model: ClassVar[type[FieldModel]]
    #: Whether a sparse matrix is a possible X.
    _takes_sparse: ClassVar[bool] = True
    #: Parameters that choose columns of X; predictions take them as they were in fit.
    _chooses: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        _fitted = cast(Learned, None)  # an annotation would make it a parameter

    # Of an instance, but only what is said to be of the class is no parameter.
    schema_: ClassVar[FieldSchema] = learned("encoding.schema", "Fields of the table.")
    encoder_: ClassVar[FieldEncoder | None] = learned(
        "encoding.encoder", "Fitted encoder, if X was not encoded."
    )
    history_: ClassVar[pd.DataFrame] = learned("model.history", "One row per epoch.")
    n_epochs_: ClassVar[int] = learned("model.n_epochs", "Epochs behind the weights.")
    solver_: ClassVar[str] = learned("model.solver", "Solver that was used.")
    solver_reason_: ClassVar[str] = learned("model.reason", "Why this solver.")

    @property
    def module_(self) -> FieldModel:
        """Trained torch module, usable without scikit-learn."""
        check_is_fitted(self)
        return self._fitted.model.module(self._find_device)

    # -- what a classifier, a regressor or a family says ----------------------------------

    def _learn_coding(
        self,
        y: Any,
        weight: NDArray[np.float64],
        before: Coding | None,
        *,
        classes: Any = None,
    ) -> tuple[Coding, NDArray[np.float64], NDArray[np.float64]]:
        """What y is, y as numbers, and weights."""
        raise NotImplementedError

    def _encode_target(
        self, y: Any, weight: NDArray[np.float64], coding: Coding
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Targets and weights of further rows, encoded as in fit."""
        raise NotImplementedError

    def _make_encoder(self) -> FieldEncoder:
        """Encoder of tables, to be fitted."""
        encoder = self._default_encoder() if self.encoder is None else clone(self.encoder)
        return encoder.set_output(transform="default")  # codes, whatever scikit-learn's settings

    def _default_encoder(self) -> FieldEncoder:
        """Encoder of tables where none is given."""
        return FieldEncoder()

    def _select_columns(self, X: Any) -> Any:
        """The columns of X to use; all unless a family knows better."""
        return X

    def _columns_on_disk(self) -> list[str] | None:
        """Columns of a table on disk to read; None for all but target and weights."""
        return None

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except ValueError as error:
            if not str(error).startswith("The 'encoder' parameter"):
                raise
            raise type(error)(
                f"{error} Put other transformers before the estimator, in a Pipeline; what changes "
                "single numbers can be FieldEncoder(scaler=...)."
            ) from None
        sizes = getattr(self, "hidden_layer_sizes", ())
        if not all(isinstance(size, Integral) and int(size) >= 1 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be positive integers, got {sizes}.")

    # -- fit ---------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        eval_set: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : table, array, FieldArray, sparse matrix, FieldFolder, path or pyarrow Dataset
            Features, of shape (n_rows, n_columns). A table or array is encoded by `encoder`. In
            a sparse matrix each stored entry is one index and its value; the matrix is not
            encoded. A FieldFolder, and a Parquet file or folder, may be larger than memory.
        y : array-like of shape (n_rows,) or str, default=None
            Target; for a table on disk the name of its column. None only for a FieldFolder
            that holds it.
        sample_weight : array-like of shape (n_rows,) or str, default=None
            Non-negative weights of the rows; for a table on disk the name of their column.
        eval_set : tuple (X, y) or (X, y, sample_weight), default=None
            Short for `X_val`, `y_val` and `sample_weight_val`.
        X_val : table, array, FieldArray, sparse matrix, FieldFolder or path, default=None
            Features of rows to watch for early stopping instead of held-out ones. In a Pipeline
            with metadata routing ``transform_input=["X_val"]`` encodes them like X.
        y_val : array-like of shape (n_val,) or str, default=None
            Their targets, as `y`.
        sample_weight_val : array-like of shape (n_val,) or str, default=None
            Their weights, as `sample_weight`.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        ValueError
            If a parameter, X, y, the weights or the rows to watch are not usable; the
            estimator is then what it was before.
        MemoryError
            If the tables would not fit into memory; found before they are allocated.
        FloatingPointError
            If the loss diverges. The last good weights are kept.
        """
        events = EpochEvents(self, X, y, sample_weight)
        before = vars(self).get("_fitted") if self.warm_start else None
        watched = check_validation_rows(eval_set, X_val, y_val, sample_weight_val)
        self._fit(Source(X, y, sample_weight), before, watched=watched, events=events)
        events.finish()
        return self

    def _fit(
        self,
        source: Source,
        before: Learned | None,
        *,
        watched: tuple[Any, Any, Any] | None = None,
        classes: Any = None,
        one_pass: bool = False,
        events: EpochEvents | None = None,
    ) -> None:
        """Fit, from what was learned before or from the start, and publish what was learned."""
        self._validate_params()
        with ExitStack() as scratch:
            rows = self._prepare(source, before, scratch, classes)
            watch = None
            if watched is not None:
                watch = self._prepare_watch(Source(*watched), rows, scratch)
            on_epoch = None if events is None else events.listener(rows.publish)
            problem = self._make_problem(rows, before, watch, one_pass=one_pass, on_epoch=on_epoch)
            start = None if before is None else before.model
            solver, reason = choose(problem, start)
            outcome = solver.fit(problem, start, reason)
            fitted, stopped_by, warning = outcome.fitted, outcome.stopped_by, outcome.warning
            cause = ""
            if isinstance(stopped_by, DivergenceError):
                cause = _divergence_cause(problem, fitted)
        if "feature_names_in_" not in rows.columns:
            self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(rows.publish(fitted))  # all at once: others may be predicting
        if warning is not None and stopped_by is None:
            warnings.warn(warning, ConvergenceWarning, stacklevel=levels_to_user())
        if isinstance(stopped_by, DivergenceError):
            raise DivergenceError(
                f"The loss became infinite or NaN in epoch {len(fitted.history) + 1}. {cause} "
                "The weights from before are kept."
            ) from None
        if stopped_by is not None:
            raise stopped_by

    def _prepare(
        self, source: Source, before: Learned | None, scratch: ExitStack, classes: Any
    ) -> _Prepared:
        """Checked and encoded rows with weights; rows of weight 0 are left out."""
        name, known = type(self).__name__, None if before is None else before.encoding
        X, y, sample_weight = self._open(source, known, scratch, grow=True)
        if y is None:
            raise ValueError(
                f"This {name} estimator requires y to be passed, but the target y is None."
            )
        checked = copy.copy(self)  # what is found out about columns stays there until published
        X = self._check(checked, X, known)
        check_consistent_rows(X, y)
        weight = check_sample_weight(sample_weight, len(y) if hasattr(y, "__len__") else X.shape[0])
        if isinstance(X, FieldFolder) and sample_weight is None:
            weight = np.broadcast_to(1.0, weight.shape)  # takes no memory
        coding, target, weight = self._learn_coding(
            y, weight, None if before is None else before.coding, classes=classes
        )
        counted = weight > 0
        if known is not None:
            encoding, encoded = known.grown(X, weight)
        else:
            encoding, encoded = Encoding.learn(
                name,
                X,
                weight,
                schema=self.schema,
                make_encoder=self._make_encoder,
                says_nothing=self.encoder is None,
                names=getattr(checked, "feature_names_in_", None),
            )
        if isinstance(encoded, FieldFolder) and fits_in_memory(encoded):
            encoded = encoded.read(0, len(encoded))
        if not isinstance(encoded, FieldFolder) and not counted.all():
            kept = np.flatnonzero(counted)
            encoded, target, weight = encoded[kept], target[kept], weight[kept]
        names = ("n_features_in_", "feature_names_in_", *self._chooses)
        columns = {name: vars(checked)[name] for name in names if name in vars(checked)}
        return _Prepared(encoding, coding, encoded, target, weight, columns)

    def _prepare_watch(self, source: Source, rows: _Prepared, scratch: ExitStack) -> Watch:
        """Rows to watch, checked and encoded like those to learn from."""
        X, y, weight = self._open(source, rows.encoding, scratch, grow=False)
        if y is None:
            raise ValueError("X_val (of eval_set) is given without targets. Pass y_val too.")
        X = self._check(self._as_of(rows.columns), X, rows.encoding)
        check_consistent_rows(X, y)
        weight = check_sample_weight(weight, len(y))
        target, weight = self._encode_target(y, weight, rows.coding)
        encoded = rows.encoding.encode(X)
        if isinstance(encoded, FieldFolder) and fits_in_memory(encoded):
            encoded = encoded.read(0, len(encoded))
        return Watch(encoded, target, weight)

    def _as_of(self, columns: dict[str, Any]) -> Any:
        """This estimator with the columns of a fit, whatever another thread has published since."""
        other = object.__new__(type(self))
        other.__dict__.update(vars(self))
        other.__dict__.pop("feature_names_in_", None)
        other.__dict__.update(columns)
        return other

    def _open(
        self, source: Source, encoding: Encoding | None, scratch: ExitStack, *, grow: bool
    ) -> Source:
        known = encoding is not None
        return open_source(
            source,
            scratch,
            name=type(self).__name__,
            encoder=(lambda: copy.copy(encoding.encoder)) if encoding else self._make_encoder,
            columns=(lambda: None) if known else self._columns_on_disk,
            grow=grow and known,
        )

    def _check(self, checked: Any, X: Any, encoding: Encoding | None) -> Any:
        check_csr(X)
        expected = self.schema
        if encoding is not None:
            expected = encoding.schema if encoding.encoder is None else None
        X = checked._select_columns(find_codes(as_table(X), expected))
        return check_X(checked, X, encoding, takes_sparse=self._takes_sparse)

    def _make_problem(
        self,
        rows: _Prepared,
        before: Learned | None,
        watch: Watch | None,
        *,
        one_pass: bool,
        on_epoch: Callable[[Callable[[], Fitted]], bool] | None,
    ) -> Problem:
        """Everything that a solver needs to know; parameters reach options and module by name."""
        named = {f.name for f in dataclasses.fields(Options)}
        options = Options(**{k: v for k, v in self.get_params(deep=False).items() if k in named})
        accepted = inspect.signature(self._model).parameters
        arguments = {k: getattr(self, k) for k in accepted if hasattr(self, k) and k != "schema"}
        if "hidden_layer_sizes" in arguments:
            arguments["hidden_layer_sizes"] = tuple(map(int, arguments["hidden_layer_sizes"]))
        schema = rows.encoding.schema
        first = schema if before is None else before.model.first_schema

        def find() -> Pretrained:
            given, encoder = self.pretrained or {}, rows.encoding.encoder
            found = find_pretrained(given, schema, encoder, self.embedding_dim, first)
            return Pretrained(*found)

        n_threads = count_threads(self.n_jobs)
        return Problem(
            rows=rows.encoded,
            target=rows.target,
            weight=rows.weight,
            task=rows.coding.task,
            spec=ModelSpec(self._model, schema, rows.coding.task.n_outputs, arguments),
            options=options,
            rng=check_random_state(self.random_state),
            device=resolve_device(self.device),
            device_is_free=self.device == "auto",
            takes_draws="gibbs" in self._parameter_constraints["solver"][0].options,
            n_threads=n_threads,
            dense_threads=None if self.n_jobs is None else n_threads,
            watch=watch,
            find_pretrained=find if self.pretrained else None,
            one_pass=one_pass,
            on_epoch=on_epoch,
        )

    # -- predict -----------------------------------------------------------------------

    def _encoded(self, X: Any, fitted: Learned) -> Any:
        """Rows of X, in pieces, encoded as in fit."""
        checked = self._as_of(fitted.columns)
        for part in in_chunks(X, fitted.columns.get("feature_names_in_", ())):
            yield fitted.encoding.encode(self._check(checked, part, fitted.encoding))

    def _raw(self, X: Any) -> tuple[NDArray[np.float64], Learned]:
        """Raw predictions, (n_rows, C), and what they were made with."""
        check_is_fitted(self)
        fitted, n_threads = self._fitted, count_threads(self.n_jobs)
        parts = [
            fitted.model.raw(encoded, n_threads, self._find_device)
            for encoded in self._encoded(X, fitted)
        ]
        return np.concatenate(parts).astype(np.float64), fitted

    def _find_device(self) -> torch.device:
        """Where a module goes that is not built yet."""
        return resolve_device(self.device, fallback=True)

    # -- contract ----------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # scikit-learn's callbacks come and go as attributes in each fit, and a dict that changes
        # its size is an error to the pickler of another thread: a copy does not.
        return dict(cast(dict[str, Any], super().__getstate__()))

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags


def _divergence_cause(problem: Problem, fitted: Fitted) -> str:
    """Why a loss diverged, and what to change."""
    rows = problem.rows
    return divergence_cause(
        rows.read(0, _SOME_ROWS) if isinstance(rows, FieldFolder) else rows,
        problem.target,
        problem.spec.schema,
        learning_rate(problem, fitted.spec, fitted.solver),
        regression=problem.task.kind == "numbers",
    )
