"""The scikit-learn face of every model: input, fit, predict, pickle.

How a model is trained is told in ``training``; which model, in ``estimators``.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from .checks import (
    check_consistent_rows,
    check_memory,
    check_regression_target,
    check_sample_weight,
    divergence_cause,
)
from .data import FieldArray
from .encoding import FieldEncoder
from .models.base import FieldModel
from .parameters import HasMethods, Interval, StrOptions, estimator
from .schema import FieldSchema
from .training.batching import make_rows
from .training.fitting import Outcome, Plan, train_gradient, train_lbfgs
from .training.lbfgs import merge_equal_rows
from .training.losses import BinaryLogLoss, Loss, MultinomialLogLoss, SquaredError
from .training.net import DivergenceError, raw_predictions
from .training.optimizers import ROW_RULES
from .training.steppers import StepOptions

try:  # scikit-learn >= 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["BaseFieldEstimator"]

Encoded = FieldArray | sparse.csr_array

# L-BFGS is the choice where a pass over all rows costs a few milliseconds.
_SMALL_ENTRIES = 100_000
_SMALL_ROWS = 5_000
_SMALL_WEIGHTS = 1_000_000
_STOP_EARLY_ROWS = 1_000


@estimator
class BaseFieldEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of all estimators: encode, train, predict.

    Parameters
    ----------
    embedding_dim : int
        Width of the embedding vectors, K.
    solver : {"auto", "adagrad", "adam", "sgd", "lbfgs"}
        How the objective

            sum_i sample_weight_i * loss_i + l2_linear/2 |w|^2 + l2_embedding/2 |V|^2
            + l2_dense/2 |MLP|^2

        is minimized. "lbfgs" takes all rows at once in float64; it is deterministic
        and weighs rows exactly. The others step on mini-batches and update only the rows of
        the tables that occur, by the rule of that name; the shrinking that the
        penalties owe to the other rows is caught up when they occur next, or at the
        end of the epoch. "auto" is "lbfgs" for small data (unless a parameter that only
        mini-batches can honour is set), else "adagrad" for the tables and Adam for the
        dense layers.
    learning_rate : float or None
        Step size for the tables; None for the solver's own: 0.1 for "adagrad",
        0.001 for "adam", 0.1 for "sgd". Not used by "lbfgs".
    learning_rate_schedule : {"constant", "one_cycle", "reduce_on_plateau"}
        "one_cycle" rises to the learning rate and falls to almost 0 over `max_epochs`;
        "reduce_on_plateau" divides by 10 when the validation loss stalls for two epochs.
    batch_size : int
        Rows per step.
    max_epochs : int
        Passes over the data at most; iterations for "lbfgs".
    tol : float
        "lbfgs" stops when no entry of the mean objective's gradient exceeds it.
    l2_linear : float
        Precision of the Gaussian prior on the linear term; LogisticRegression's 1/C,
        Ridge's alpha (for a target scaled to unit variance).
    l2_embedding : float or "auto"
        Precision of the Gaussian prior on the embeddings. "auto" starts from the
        precision 2 * sqrt(n_pairs * embedding_dim), with which the pairwise term of a
        row has a standard deviation of 1/2 a priori, and, when rows are held out
        for validation, halves it whenever the validation loss stalls.
    init_scale : float
        Standard deviation of the embeddings' start values.
    initial_accumulator : float
        Start of the "adagrad" accumulators, in units of squared gradients of a batch;
        the larger, the smaller the first steps of rare categories.
    unknown_dropout : float
        Share of codes that are replaced by their field's unknown in each step, which
        trains the unknown row; not used by "lbfgs".
    gradient_clip : float or None
        Upper limit to the norm of a batch's mean gradient; not used by "lbfgs".
    early_stopping : bool or "auto"
        Whether to hold out rows and keep the weights of the epoch that is best on them.
        "auto" does so for mini-batch solvers and 1,000 rows or more. With an
        `eval_set`, that is watched instead and nothing is held out.
    validation_fraction : float
        Share of the rows to hold out.
    patience : int
        Epochs without a new best before training stops.
    refit : bool
        After early stopping on held-out rows, train anew on all rows for the best
        number of epochs.
    warm_start : bool
        Whether `fit` goes on from the weights of the fit before, with its encoder.
    encoder : FieldEncoder or None
        Cloned and fitted to encode DataFrames and arrays; None for `FieldEncoder()`.
        Not used for input that is encoded: FieldArrays and sparse matrices.
    schema : FieldSchema or None
        Schema of X, where X is an array of codes that lost it on the way.
    device : str
        "auto" for a GPU when there is one, or a torch device such as "cpu", "cuda:1".
    callbacks : list or None
        skorch callbacks, or (name, callback) pairs; mini-batch solvers only.
    verbose : int
        0 for silence, 1 for a line per epoch, 2 for a progress bar.
    random_state : int, RandomState instance or None
        Source of start values, row order, held-out rows and dropout.

    Attributes
    ----------
    module_ : torch.nn.Module
        Trained module, usable without scikit-learn.
    schema_ : FieldSchema
        Fields of the table.
    encoder_ : FieldEncoder or None
        Fitted encoder, if X was not encoded.
    history_ : DataFrame
        One row per epoch: losses, validation metric, seconds, learning rate.
    n_epochs_ : int
        Epochs behind the weights.
    solver_ : str
        Solver that was used.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X had any.
    """

    embedding_dim: int = 16
    solver: str = "auto"
    learning_rate: float | None = None
    learning_rate_schedule: str = "constant"
    batch_size: int = 256
    max_epochs: int = 100
    tol: float = 1e-5
    l2_linear: float = 1.0
    l2_embedding: float | Literal["auto"] = "auto"
    init_scale: float = 0.01
    initial_accumulator: float = 1.0
    unknown_dropout: float = 0.0
    gradient_clip: float | None = None
    early_stopping: bool | Literal["auto"] = "auto"
    validation_fraction: float = 0.1
    patience: int = 3
    refit: bool = True
    warm_start: bool = False
    encoder: Any = None
    schema: FieldSchema | None = None
    device: str = "auto"
    callbacks: list[Any] | None = None
    verbose: int = 0
    random_state: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"auto", "adagrad", "adam", "sgd", "lbfgs"})],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"constant", "one_cycle", "reduce_on_plateau"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "l2_linear": [Interval(Real, 0, None, closed="left")],
        "l2_embedding": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "init_scale": [Interval(Real, 0, None, closed="left")],
        "initial_accumulator": [Interval(Real, 0, None, closed="neither")],
        "unknown_dropout": [Interval(Real, 0, 1, closed="left")],
        "gradient_clip": [None, Interval(Real, 0, None, closed="neither")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "warm_start": ["boolean"],
        "encoder": [None, HasMethods(["fit_transform", "transform"])],
        "schema": [None, FieldSchema],
        "device": [str],
        "callbacks": [None, list],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _module_class: ClassVar[type[FieldModel]]

    # -- fit ---------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None) -> Any:
        """Fit the model.

        Parameters
        ----------
        X : DataFrame, array, FieldArray or sparse matrix of shape (n_rows, n_columns)
            Features. A DataFrame or array is encoded by `encoder`. In a sparse matrix
            each stored entry is one index and its value; the matrix is not encoded.
        y : array-like of shape (n_rows,)
            Target.
        sample_weight : array-like of shape (n_rows,), default=None
            Non-negative weights of the rows.
        eval_set : tuple (X, y) or (X, y, sample_weight), default=None
            Rows to watch for early stopping instead of held-out ones.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If a parameter, X, y, the weights or eval_set are not usable; the estimator
            is then what it was before.
        MemoryError
            If the tables would not fit into memory; found before they are allocated.
        FloatingPointError
            If the loss diverges. The last good weights are kept.
        """
        with self._unchanged_on_error():
            self._validate_params()
            go_on = self.warm_start and hasattr(self, "schema_")
            encoded, target, weight = self._prepare_fit(X, y, sample_weight, go_on=go_on)
            outcome = self._train(encoded, target, weight, eval_set=eval_set, go_on=go_on)
            self._stepper_state = None
        return self._conclude(outcome, encoded, target)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        """One epoch over the rows at hand, from wherever the model stands."""
        with self._unchanged_on_error():
            self._validate_params()
            go_on = hasattr(self, "schema_")
            encoded, target, weight = self._prepare_fit(
                X, y, sample_weight, go_on=go_on, classes=classes
            )
            state = getattr(self, "_stepper_state", None) if go_on else None
            outcome = self._train(
                encoded, target, weight, go_on=go_on, one_pass=True, stepper_state=state
            )
            self._stepper_state = outcome.stepper_state
        return self._conclude(outcome, encoded, target)

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        before = dict(self.__dict__)
        try:
            yield
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _prepare_fit(
        self, X: Any, y: Any, sample_weight: Any, *, go_on: bool, classes: Any = None
    ) -> tuple[Encoded, NDArray[np.float64], NDArray[np.float64]]:
        """Checked and encoded rows with weights; rows of weight 0 are left out."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target "
                "y is None."
            )
        X = self._check_X(X, reset=not go_on)
        check_consistent_rows(X, y)
        weight = check_sample_weight(sample_weight, len(y) if hasattr(y, "__len__") else X.shape[0])
        target, weight = self._encode_target(y, weight, go_on=go_on, classes=classes)
        kept = np.flatnonzero(weight > 0)
        all_count = len(kept) == len(weight)
        if go_on:
            encoded = self._encode(X)
        else:
            encoded = self._fit_encoding(X, weight)
        if not all_count:
            encoded, target, weight = encoded[kept], target[kept], weight[kept]
        return encoded, target, weight

    def _fit_encoding(self, X: Any, weight: NDArray[np.float64]) -> Encoded:
        self.encoder_ = None
        if isinstance(X, FieldArray) and X.schema is not None:
            self.schema_, encoded = X.schema, X
        elif sparse.issparse(X):
            names = getattr(self, "feature_names_in_", None)
            self.schema_, encoded = FieldSchema.from_sizes([1] * X.shape[1], names=names), X
        elif self.schema is not None:
            encoded = FieldArray(np.asarray(X), self.schema)
            self.schema_ = self.schema
        else:
            self.encoder_ = self._make_encoder()
            encoded = self.encoder_.fit_transform(X, sample_weight=weight)
            self.schema_ = encoded.require_schema()
        self._sparse_input = sparse.issparse(encoded)
        return encoded

    def _make_encoder(self) -> FieldEncoder:
        return FieldEncoder() if self.encoder is None else clone(self.encoder)

    def _check_X(self, X: Any, *, reset: bool) -> Any:
        """X in a form that the encoding takes, its columns checked against those of fit."""
        if hasattr(X, "columns") or isinstance(X, FieldArray):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not X.shape[0] or not X.shape[1]:
                what = "sample(s)" if not X.shape[0] else "feature(s)"
                raise ValueError(
                    f"Found array with 0 {what} (shape={tuple(X.shape)}) while a minimum of 1 is "
                    "required."
                )
            return X
        as_sparse = sparse.issparse(X) or (not reset and self._sparse_input)
        X = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr" if self._takes_sparse else False,
            dtype=np.float64 if as_sparse else None,
            ensure_all_finite=as_sparse,
        )
        if not as_sparse:
            return X
        if not reset and not self._sparse_input:
            raise TypeError(
                f"{type(self).__name__} was fitted on a dense table but got a sparse matrix; "
                "pass a table of the same kind as in fit."
            )
        X = sparse.csr_array(X, copy=True)
        X.sum_duplicates()
        X.eliminate_zeros()
        return X

    #: Whether a sparse matrix is a possible X.
    _takes_sparse: ClassVar[bool] = True

    def _encode(self, X: Any) -> Encoded:
        """Encode checked rows as in fit."""
        if self._sparse_input:
            return X
        if isinstance(X, FieldArray) and X.schema is not None:
            if X.schema != self.schema_:
                raise ValueError(
                    "X was encoded with another schema than in fit. Encode all data with one "
                    "fitted FieldEncoder, for instance in a Pipeline."
                )
            return X
        if self.encoder_ is None:
            return FieldArray(np.asarray(X), self.schema_)
        return self.encoder_.transform(X)

    # -- training ----------------------------------------------------------------------

    def _train(
        self,
        encoded: Encoded,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        *,
        go_on: bool,
        eval_set: Any = None,
        one_pass: bool = False,
        stepper_state: dict[str, Any] | None = None,
    ) -> Outcome:
        self.solver_ = self._pick_solver(encoded, one_pass=one_pass)
        full_batch = self.solver_ == "lbfgs"
        if full_batch:
            encoded, target, weight = merge_equal_rows(encoded, target, weight)
        if not go_on:
            self._loss = self._make_loss(target, weight)
        plan = self._make_plan(encoded, weight)
        device = torch.device("cpu") if full_batch else self._resolve_device()
        rng = check_random_state(self.random_state)
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        if go_on:
            module = self.module_
        else:
            module = self._start_module(target, weight, generator, plan)
        dtype = torch.float64 if full_batch else torch.float32
        module = module.to(device, dtype)
        as_rows = {"positional": module.positional, "dtype": dtype, "device": device}
        weight = weight / weight.mean()
        valid = None
        if eval_set is not None:
            valid = make_rows(*self._prepare_eval_set(eval_set), **as_rows)
        split = None
        if valid is None and not one_pass and self._stops_early(len(target), full_batch):
            split = self._split(target, rng)
        if full_batch:
            train = encoded, target, weight
            if split is not None:
                train, held_out = (tuple(part[rows] for part in train) for rows in split)
                valid = make_rows(*held_out, **as_rows)
            outcome = train_lbfgs(
                module, self._loss, make_rows(*train, **as_rows), plan, valid=valid
            )
            if not outcome.converged:
                warnings.warn(
                    f"lbfgs did not converge in max_epochs={self.max_epochs} iterations. Raise "
                    "max_epochs, or tol, or strengthen l2_embedding.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
        else:
            if one_pass:
                plan = _one_pass(plan)
            outcome = train_gradient(
                module,
                self._loss,
                make_rows(encoded, target, weight, **as_rows),
                plan,
                generator,
                split=None
                if split is None
                else tuple(torch.from_numpy(s).to(device) for s in split),
                valid=valid,
                stepper_state=stepper_state,
            )
        module.eval()
        self._module = module
        return outcome

    def _conclude(self, outcome: Outcome, encoded: Encoded, target: NDArray[np.float64]) -> Any:
        """Publish what was learned, then raise what cut the training short."""
        self.history_ = outcome.history
        self.n_epochs_ = outcome.n_epochs
        if isinstance(outcome.stopped_by, DivergenceError):
            cause = divergence_cause(
                encoded,
                target,
                self.schema_,
                self._learning_rate(),
                regression=isinstance(self._loss, SquaredError),
            )
            raise DivergenceError(
                f"The loss became infinite or NaN in epoch {len(outcome.history) + 1}. {cause} "
                "The weights from before are kept."
            ) from None
        if outcome.stopped_by is not None:
            raise outcome.stopped_by
        return self

    def _pick_solver(self, encoded: Encoded, *, one_pass: bool) -> str:
        needs_batches = (
            one_pass
            or self.early_stopping is True
            or bool(self.callbacks)
            or self.gradient_clip is not None
            or self.unknown_dropout > 0
            or self.learning_rate is not None
            or self.learning_rate_schedule != "constant"
            or self._resolve_device().type != "cpu"
            or self._needs_batches()
        )
        if self.solver == "lbfgs":
            if one_pass or self.callbacks:
                raise ValueError(
                    "solver='lbfgs' takes all rows at once, so it has neither partial_fit nor "
                    "callbacks. Use solver='auto' or 'adagrad'."
                )
            return "lbfgs"
        if self.solver != "auto":
            return self.solver
        small = (
            encoded.shape[0] <= _SMALL_ROWS
            and encoded.size <= _SMALL_ENTRIES
            and self.schema_.table_size * self.embedding_dim <= _SMALL_WEIGHTS
        )
        return "lbfgs" if small and not needs_batches else "adagrad"

    def _needs_batches(self) -> bool:
        """Whether parameters of the family rule out full-batch L-BFGS."""
        return False

    def _stops_early(self, n_rows: int, full_batch: bool) -> bool:
        if self.early_stopping == "auto":
            return not full_batch and n_rows >= _STOP_EARLY_ROWS
        return bool(self.early_stopping)

    def _learning_rate(self) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        return ROW_RULES[self.solver_].learning_rate if self.solver_ in ROW_RULES else 0.0

    def _dense_options(self) -> dict[str, Any]:
        """Step options of the dense layers; families with an MLP add parameters."""
        return {}

    def _make_plan(self, encoded: Encoded, weight: NDArray[np.float64]) -> Plan:
        scale = 1 / float(weight.mean())  # weights are trained with mean 1
        l2_embedding = self.l2_embedding
        if l2_embedding == "auto":
            slots = encoded.size / max(encoded.shape[0], 1)
            pairs = max(slots * (slots - 1) / 2, 1.0)
            l2_embedding = 2 * math.sqrt(pairs * self.embedding_dim)
        dense = self._dense_options()
        dense["l2_dense"] = dense.get("l2_dense", 0.0) * scale
        options = StepOptions(
            solver=self.solver_,
            solver_dense="adam" if self.solver == "auto" else self.solver_,
            learning_rate=self._learning_rate(),
            l2_linear=self.l2_linear * scale,
            l2_embedding=l2_embedding * scale,
            initial_accumulator=self.initial_accumulator,
            gradient_clip=self.gradient_clip,
            unknown_dropout=self.unknown_dropout,
            **dense,
        )
        callbacks = [
            c if isinstance(c, tuple) else (type(c).__name__, c) for c in self.callbacks or []
        ]
        return Plan(
            options=options,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            relax_prior=self.l2_embedding == "auto",
            refit=self.refit,
            learning_rate_schedule=self.learning_rate_schedule,
            tolerance=self.tol,
            verbose=int(self.verbose),
            callbacks=callbacks,
        )

    def _split(
        self, target: NDArray[np.float64], rng: np.random.RandomState
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of the rows to train on and to hold out, the latter at random."""
        rows = np.arange(len(target))
        train, held_out = train_test_split(
            rows,
            test_size=self.validation_fraction,
            random_state=rng,
            stratify=self._strata(target),
        )
        return np.sort(train), np.sort(held_out)

    def _prepare_eval_set(self, eval_set: Any) -> tuple[Encoded, NDArray[Any], NDArray[Any]]:
        if isinstance(eval_set, list) and len(eval_set) == 1:
            eval_set = eval_set[0]
        if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
            raise ValueError(
                "eval_set must be a tuple (X, y) or (X, y, sample_weight), got "
                f"{type(eval_set).__name__}."
            )
        X, y, weight = (*eval_set, None)[:3]
        X = self._check_X(X, reset=False)
        check_consistent_rows(X, y)
        weight = check_sample_weight(weight, len(y))
        target, weight = self._encode_target(y, weight, go_on=True)
        return self._encode(X), target, weight

    # -- module ------------------------------------------------------------------------

    @property
    def module_(self) -> FieldModel:
        """Trained torch module, usable without scikit-learn; rebuilt after unpickling."""
        check_is_fitted(self)
        if "_module" not in self.__dict__:
            module = self._build_module(*self._module_spec)
            state = {k: torch.from_numpy(np.array(v)) for k, v in self._module_state.items()}
            module = module.to(state["bias"].dtype)
            module.load_state_dict(state)
            wanted = self._resolve_device(fallback=True)
            self._module = module.eval().to(wanted)
        return self._module

    def _start_module(
        self,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        generator: torch.Generator,
        plan: Plan,
    ) -> FieldModel:
        """Build a module at its start values, the bias at the best constant."""
        accepted = inspect.signature(self._module_class).parameters
        arguments = {name: getattr(self, name) for name in accepted if hasattr(self, name)}
        arguments.pop("schema")  # the parameter of that name may be None
        spec = (self.schema_, self._loss.n_outputs, arguments)
        check_memory(self.schema_, *self._floats_needed(plan))
        module = self._build_module(*spec)
        module.reset_parameters(generator)
        with torch.no_grad():
            module.bias.copy_(torch.from_numpy(self._loss.best_constant(target, weight)))
        self._module_spec = spec
        return module

    def _build_module(
        self, schema: FieldSchema, n_outputs: int, arguments: dict[str, Any]
    ) -> FieldModel:
        with torch.random.fork_rng(devices=[]):  # start values are drawn later, privately
            return self._module_class(schema, n_outputs=n_outputs, **arguments)

    def _floats_needed(self, plan: Plan) -> tuple[float, float]:
        """Numbers per table row and in dense layers: weights, solver, best copy."""
        per_row = self.embedding_dim + self._loss.n_outputs
        factor = {"adagrad": 2, "sgd": 2, "adam": 4, "lbfgs": 2 * 25}[self.solver_]
        sizes = [*getattr(self, "hidden_layer_sizes", ()), self._loss.n_outputs]
        widths = [self.schema_.n_fields * self.embedding_dim, *sizes]
        dense = (
            sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True))
            if len(sizes) > 1
            else 0
        )
        return per_row * factor, 4.0 * dense

    def _resolve_device(self, *, fallback: bool = False) -> torch.device:
        if self.device == "auto":
            if torch.cuda.is_available():
                return torch.device("cuda")
            mps = getattr(torch.backends, "mps", None)
            return torch.device("mps" if mps is not None and mps.is_available() else "cpu")
        device = torch.device(self.device)
        absent = (device.type == "cuda" and not torch.cuda.is_available()) or (
            device.type == "mps" and not torch.backends.mps.is_available()
        )
        if absent and fallback:
            return torch.device("cpu")
        if absent:
            raise ValueError(
                f"device={self.device!r} is not available on this machine; use device='auto'."
            )
        return device

    # -- predict -----------------------------------------------------------------------

    def _raw(self, X: Any) -> NDArray[np.float64]:
        """Raw predictions, (n_rows, C)."""
        check_is_fitted(self)
        encoded = self._encode(self._check_X(X, reset=False))
        module = self.module_
        rows = make_rows(
            encoded,
            positional=module.positional,
            dtype=module.bias.dtype,
            device=module.bias.device,
        )
        return raw_predictions(module, rows).cpu().numpy().astype(np.float64)

    # -- contract ----------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "schema_") and (
            "_module" in vars(self) or "_module_state" in vars(self)
        )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        module = state.pop("_module", None)
        if module is not None:
            arrays = {k: np.array(v.cpu()) for k, v in module.state_dict().items()}
            state["_module_state"] = arrays
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags


def _one_pass(plan: Plan) -> Plan:
    return replace(plan, max_epochs=1, patience=None, relax_prior=False, refit=False)
