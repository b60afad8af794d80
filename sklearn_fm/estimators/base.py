"""The scikit-learn face of every model: input, fit, predict, pickle.

How a model is trained is told in ``training``; which model, in ``estimators``.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from ..data.array import FieldArray
from ..data.folder import FieldFolder
from ..models.contract import FieldModel
from ..schema import FieldSchema
from ..training.fitting import Outcome, Plan, train_gradient
from ..training.folder_rows import fits_in_memory
from ..training.full_batch import train_lbfgs
from ..training.lbfgs import merge_equal_rows
from ..training.loading import make_rows
from ..training.losses import Loss, SquaredError
from ..training.net import DivergenceError
from ..training.options import StepOptions
from ..training.prediction import pack_tables, predict_encoded
from ..training.rows import Rows
from ..training.rules import ROW_RULES
from ..training.threads import count_threads
from .checks import check_consistent_rows, check_memory, check_sample_weight, divergence_cause
from .epoch_events import CallbackSupportMixin, EpochEvents, with_callbacks
from .inputs import Encoded, FieldInputMixin, in_chunks
from .parameters import estimator
from .pretrained import find_pretrained
from .settings import SharedParameters

__all__ = ["BaseFieldEstimator", "mean_fields"]

# L-BFGS is the choice where a pass over all rows costs a few milliseconds.
_SMALL_ENTRIES = 100_000
_SMALL_ROWS = 5_000
_SMALL_WEIGHTS = 1_000_000
_STOP_EARLY_ROWS = 1_000


@estimator
class BaseFieldEstimator(FieldInputMixin, CallbackSupportMixin, SharedParameters):
    """Base of all estimators: encode, train, predict.

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

    _module_class: ClassVar[type[FieldModel]]
    #: Upper limit to the default learning rate of "adagrad".
    _top_rate: ClassVar[float] = 0.2

    if TYPE_CHECKING:  # annotations seen at run time would be parameters
        _loss: Loss
        # What a classifier or regressor supplies (see ``targets``).
        _encode_target: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]
        _make_loss: Callable[[NDArray[np.float64], NDArray[np.float64]], Loss]
        _strata: Callable[[NDArray[np.float64]], NDArray[np.float64] | None]

    # -- fit ---------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, eval_set: Any = None) -> Any:
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
        events = EpochEvents(self, X, y, sample_weight)
        with contextlib.ExitStack() as scratch:
            with self._unchanged_on_error():
                self._validate_params()
                go_on = self.warm_start and hasattr(self, "schema_")
                encoded, target, weight = self._prepare_fit(
                    X, y, sample_weight, scratch, go_on=go_on
                )
                outcome = self._train(
                    encoded,
                    target,
                    weight,
                    scratch,
                    eval_set=eval_set,
                    go_on=go_on,
                    on_epoch=events.on_epoch,
                )
                self._stepper_state: dict[str, Any] | None = None
            self._conclude(outcome, encoded, target)
        events.finish()
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        """One epoch over the rows at hand, from wherever the model stands."""
        with contextlib.ExitStack() as scratch:
            with self._unchanged_on_error():
                self._validate_params()
                go_on = hasattr(self, "schema_")
                encoded, target, weight = self._prepare_fit(
                    X, y, sample_weight, scratch, go_on=go_on, classes=classes
                )
                state = getattr(self, "_stepper_state", None) if go_on else None
                if state and state["solver"] != self._pick_solver(encoded, one_pass=True):
                    state = None  # the new solver starts from the weights alone
                outcome = self._train(
                    encoded,
                    target,
                    weight,
                    scratch,
                    go_on=go_on,
                    one_pass=True,
                    stepper_state=state,
                )
                self._stepper_state = outcome.stepper_state
            if go_on:
                parts = [self.history_, outcome.history.assign(epoch=len(self.history_) + 1)]
                outcome.history = pd.concat(parts, ignore_index=True)
            self._conclude(outcome, encoded, target)
        return self

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:  # a Ctrl-C in training itself is an outcome, not an exception
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _prepare_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        scratch: contextlib.ExitStack,
        *,
        go_on: bool,
        classes: Any = None,
    ) -> tuple[Encoded, NDArray[np.float64], NDArray[np.float64]]:
        """Checked and encoded rows with weights; rows of weight 0 are left out."""
        X, y, sample_weight = self._open_source(
            X, y, sample_weight, scratch, go_on=go_on, grow=go_on
        )
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target "
                "y is None."
            )
        X = self._check_X(X, reset=not go_on)
        check_consistent_rows(X, y)
        weight = check_sample_weight(sample_weight, len(y) if hasattr(y, "__len__") else X.shape[0])
        if isinstance(X, FieldFolder) and sample_weight is None:
            weight = np.broadcast_to(1.0, weight.shape)  # takes no memory
        target, weight = self._encode_target(y, weight, go_on=go_on, classes=classes)
        counted = weight > 0
        encoded = self._grow_encoding(X, weight) if go_on else self._fit_encoding(X, weight)
        if isinstance(encoded, FieldFolder) and fits_in_memory(encoded):
            encoded = encoded.read(0, len(encoded))
        if not isinstance(encoded, FieldFolder) and not counted.all():
            kept = np.flatnonzero(counted)
            encoded, target, weight = encoded[kept], target[kept], weight[kept]
        return encoded, target, weight

    # -- training ----------------------------------------------------------------------

    def _train(
        self,
        encoded: Encoded,
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        scratch: contextlib.ExitStack,
        *,
        go_on: bool,
        eval_set: Any = None,
        one_pass: bool = False,
        stepper_state: dict[str, Any] | None = None,
        on_epoch: Callable[[FieldModel], bool] | None = None,
    ) -> Outcome:
        self.solver_ = self._pick_solver(encoded, one_pass=one_pass)
        full_batch = self.solver_ == "lbfgs"
        if full_batch:
            encoded, target, weight = merge_equal_rows(encoded, target, weight)
        if not go_on:
            self._loss = self._make_loss(target, weight)
        plan = self._make_plan(encoded, weight, one_pass=one_pass)
        seen = getattr(self, "_seen_weight", 0.0) if go_on and one_pass else 0.0
        self._seen_weight = seen + float(weight.sum())
        if one_pass:
            # The prior is one for all rows ever seen, so these ones owe their share of it.
            options = replace(plan.options, seen=self._seen_weight / float(weight.sum()))
            plan = replace(
                plan, max_epochs=1, relaxed=(), refit=False, keep_state=True, options=options
            )
        elif self._stops_early(len(target), watched=eval_set is not None):
            plan = replace(plan, patience=self.patience)
        plan = replace(plan, on_epoch=on_epoch)
        device = torch.device("cpu") if full_batch else self._resolve_device()
        rng = check_random_state(self.random_state)
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        constant = torch.from_numpy(self._loss.best_constant(target, weight))
        if go_on:  # on a copy: what fails must leave the fitted model as it is
            before = self._grow_module(generator.initial_seed())
            module = copy.deepcopy(before)
        else:
            module = self._start_module(constant, generator.initial_seed())
        dtype = torch.float64 if full_batch else torch.float32
        module = module.to(device, dtype)
        module.frozen_rows = None
        if self.freeze_pretrained and self.pretrained:
            module.frozen_rows = torch.from_numpy(self._find_pretrained()[0]).to(device)
        module = pack_tables(module, self.solver_)
        as_rows: dict[str, Any] = {
            "positional": "fields" in module.reads,
            "dtype": dtype,
            "device": device,
        }
        mean_weight = _mean(weight)
        constant_weight = weight.strides == (0,)
        weight = np.broadcast_to(1.0, weight.shape) if constant_weight else weight / mean_weight
        rows = make_rows(encoded, self._loss.encode(target), weight, **as_rows)
        valid = split = None
        if eval_set is not None:
            valid = make_rows(*self._prepare_eval_set(eval_set, scratch), **as_rows)
        elif plan.patience is not None:
            split = self._split(rows, target, rng)

        def restart() -> None:
            if go_on:
                module.load_state_dict(before.state_dict())
            else:
                self._draw(module, constant, generator.initial_seed())

        if full_batch:
            outcome = train_lbfgs(module, self._loss, rows, plan, split=split, valid=valid)
            if not outcome.converged and outcome.stopped_by is None:
                warnings.warn(
                    f"lbfgs did not converge in max_epochs={self.max_epochs} iterations. Raise "
                    "max_epochs or tol, or strengthen the priors.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        else:
            outcome = train_gradient(
                module,
                self._loss,
                rows,
                plan,
                generator,
                restart,
                split=split,
                valid=valid,
                stepper_state=stepper_state,
            )
        self._module = pack_tables(module.eval())
        if plan.relaxed and "l2_linear" in outcome.history and outcome.n_epochs:
            last = outcome.history.iloc[outcome.n_epochs - 1]
            self._found_priors = {
                name: float(last[f"l2_{name}"]) * mean_weight for name in plan.relaxed
            }
        return outcome

    def _conclude(self, outcome: Outcome, encoded: Encoded, target: NDArray[np.float64]) -> None:
        """Publish what was learned, then raise what cut the training short."""
        self.history_ = outcome.history
        self.n_epochs_ = outcome.n_epochs
        if isinstance(outcome.stopped_by, DivergenceError):
            some = (
                encoded.read(0, _STOP_EARLY_ROWS) if isinstance(encoded, FieldFolder) else encoded
            )
            cause = divergence_cause(
                some,
                target,
                self.schema_,
                self._learning_rate(mean_fields(encoded)),
                regression=isinstance(self._loss, SquaredError),
            )
            raise DivergenceError(
                f"The loss became infinite or NaN in epoch {len(outcome.history) + 1}. {cause} "
                "The weights from before are kept."
            ) from None
        if outcome.stopped_by is not None:
            raise outcome.stopped_by

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
        if self.l1_linear and self.solver not in ("auto", "ftrl"):
            raise ValueError(
                f"l1_linear={self.l1_linear} needs solver='ftrl' (or 'auto'), which alone has "
                f"exact zeros; got solver={self.solver!r}."
            )
        if self.solver == "ftrl" and self.learning_rate_schedule != "constant":
            raise ValueError(
                "solver='ftrl' weighs the gradients of all steps by one learning rate, so "
                f"learning_rate_schedule must be 'constant', got {self.learning_rate_schedule!r}."
            )
        if self.solver == "lbfgs":
            if one_pass or self.callbacks or self._needs_batches():
                raise ValueError(
                    "solver='lbfgs' minimizes one fixed objective over all rows, so it has no "
                    "partial_fit, skorch callbacks, dropout or batch_norm. Use solver='auto' or "
                    "'adagrad'."
                )
            if isinstance(encoded, FieldFolder):
                raise ValueError(
                    "solver='lbfgs' takes all rows at once, but those of the folder are too many "
                    "to be in memory. Use solver='auto' or 'adagrad', or pass its X."
                )
            return "lbfgs"
        if self.l1_linear:
            return "ftrl"
        if self.solver != "auto":
            return self.solver
        # For a model that reads fields the rows of a sparse matrix are spread out to all columns.
        spread = "fields" in self._module_class.reads
        entries = math.prod(encoded.shape) if spread else encoded.size
        needs_batches = needs_batches or isinstance(encoded, FieldFolder)
        small = (
            encoded.shape[0] <= _SMALL_ROWS
            and entries <= _SMALL_ENTRIES
            and self.schema_.table_size * self.embedding_dim <= _SMALL_WEIGHTS
        )
        return "lbfgs" if small and not needs_batches else "adagrad"

    def _needs_batches(self) -> bool:
        """Whether parameters of the family rule out full-batch L-BFGS."""
        return False

    def _stops_early(self, n_rows: int, *, watched: bool) -> bool:
        if self.early_stopping == "auto":
            return watched or (self.solver_ != "lbfgs" and n_rows >= _STOP_EARLY_ROWS)
        return bool(self.early_stopping)

    def _learning_rate(self, slots: float) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        if self.solver_ in ("adagrad", "ftrl"):
            return min(self._top_rate, 1.5 / slots)
        return ROW_RULES[self.solver_].learning_rate if self.solver_ in ROW_RULES else 0.0

    def _dense_options(self) -> dict[str, Any]:
        """Step options of the dense layers; families with an MLP add parameters."""
        return {}

    def _make_plan(
        self, encoded: Encoded, weight: NDArray[np.float64], *, one_pass: bool = False
    ) -> Plan:
        scale = 1 / _mean(weight)  # weights are trained with mean 1
        slots = mean_fields(encoded)
        pairs = max(slots * (slots - 1) / 2, 1.0)
        priors: dict[str, Any] = {
            "linear": slots,
            "embedding": 2 * math.sqrt(pairs * self.embedding_dim),
        }
        given = {"linear": self.l2_linear, "embedding": self.l2_embedding}
        relaxed = tuple(name for name in priors if given[name] == "auto")
        priors.update({name: given[name] for name in priors if name not in relaxed})
        if one_pass:  # nothing is held out to relax priors by, so those that `fit` found serve
            found = getattr(self, "_found_priors", {})
            priors.update({name: found[name] for name in relaxed if name in found})
        dense = self._dense_options()
        dense["l2_dense"] = dense.get("l2_dense", 0.0) * scale
        for_dense = {"auto": "adam", "ftrl": "adagrad"}
        options = StepOptions(
            solver=self.solver_,
            solver_dense=for_dense.get(self.solver, self.solver_),
            learning_rate=self._learning_rate(slots),
            l2_linear=priors["linear"] * scale,
            l2_embedding=priors["embedding"] * scale,
            initial_accumulator=self.initial_accumulator,
            gradient_clip=self.gradient_clip,
            unknown_dropout=self.unknown_dropout,
            n_threads=count_threads(self.n_jobs),
            dense_threads=None if self.n_jobs is None else count_threads(self.n_jobs),
            deterministic=self.deterministic,
            l1_linear=self.l1_linear * scale,
            **dense,
        )
        callbacks = [
            c if isinstance(c, tuple) else (type(c).__name__, c) for c in self.callbacks or []
        ]
        if not all(hasattr(callback, "on_epoch_end") for _, callback in callbacks):
            raise ValueError(
                "callbacks must be skorch callbacks or pairs of a name and a callback, got "
                f"{self.callbacks}."
            )
        return Plan(
            options=options,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            relaxed=relaxed,
            refit=self.refit,
            learning_rate_schedule=self.learning_rate_schedule,
            tolerance=self.tol,
            verbose=int(self.verbose),
            callbacks=callbacks,
        )

    def _split(
        self, rows: Rows, target: NDArray[np.float64], rng: np.random.RandomState
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of the rows (or blocks) to train on and to hold out, the latter at random."""
        train, held_out = train_test_split(
            np.arange(rows.n_units),
            test_size=self.validation_fraction,
            random_state=rng,
            stratify=self._strata(target) if rows.n_units == len(target) else None,
        )
        return np.sort(train), np.sort(held_out)

    def _prepare_eval_set(
        self, eval_set: Any, scratch: contextlib.ExitStack
    ) -> tuple[Encoded, NDArray[Any], NDArray[Any]]:
        if isinstance(eval_set, list) and len(eval_set) == 1:
            eval_set = eval_set[0]
        if not isinstance(eval_set, tuple) or len(eval_set) not in (2, 3):
            raise ValueError(
                "eval_set must be a tuple (X, y) or (X, y, sample_weight), got "
                f"{type(eval_set).__name__}."
            )
        X, y, weight = (*eval_set, None)[:3]
        X, y, weight = self._open_source(X, y, weight, scratch, go_on=True, grow=False)
        X = self._check_X(X, reset=False)
        check_consistent_rows(X, y)
        weight = check_sample_weight(weight, len(y))
        target, weight = self._encode_target(y, weight, go_on=True)
        return self._encode(X), self._loss.encode(target), weight

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
            self._module = pack_tables(module.eval().to(wanted))
        return self._module

    def _start_module(self, constant: torch.Tensor, seed: int, **others: Any) -> FieldModel:
        """Build a module at its start values, the bias at the best constant.

        Its arguments are the parameters of the same names, unless others are given.
        """
        accepted = inspect.signature(self._module_class).parameters
        arguments = {name: getattr(self, name) for name in accepted if hasattr(self, name)}
        arguments.pop("schema")  # the parameter of that name may be None
        arguments |= others
        spec = (self.schema_, self._loss.n_outputs, arguments)
        self._first_schema = self.schema_
        check_memory(self.schema_, *self._floats_needed())
        module = self._build_module(*spec)
        self._draw(module, constant, seed)
        self._module_spec = spec
        return module

    def _draw(self, module: FieldModel, constant: torch.Tensor, seed: int) -> None:
        """Set a module to its start values, the bias to the best constant."""
        module.reset_parameters(torch.Generator().manual_seed(seed))
        with torch.no_grad():
            module.bias.copy_(constant)
            if self.pretrained:
                rows, vectors = (torch.from_numpy(part) for part in self._find_pretrained())
                weight = module.embedding.weight
                weight[rows.to(weight.device)] = vectors.to(weight)

    def _find_pretrained(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return find_pretrained(
            self.pretrained or {},
            self.schema_,
            self.encoder_,
            self.embedding_dim,
            self._first_schema,
        )

    def _grow_module(self, seed: int) -> FieldModel:
        """The fitted module, with rows for categories that are new since; those at start values."""
        module = self.module_
        if module.schema == self.schema_:
            return module
        _, n_outputs, arguments = self._module_spec
        self._module_spec = (self.schema_, n_outputs, arguments)
        check_memory(self.schema_, *self._floats_needed())
        grown = self._build_module(*self._module_spec)
        # With a seed of its own, lest a new row start where another one did.
        self._draw(grown, grown.bias.detach().clone(), seed + module.schema.table_size)
        grown.to(module.bias.device, module.bias.dtype).take_over(module)
        return grown

    def _build_module(
        self, schema: FieldSchema, n_outputs: int, arguments: dict[str, Any]
    ) -> FieldModel:
        with torch.random.fork_rng(devices=[]):  # start values are drawn later, privately
            return self._module_class(schema, n_outputs=n_outputs, **arguments)

    def _floats_needed(self) -> tuple[float, float]:
        """Numbers per table row and in dense layers: weights, solver, best copy."""
        per_row = self.embedding_dim + self._loss.n_outputs
        factor = {"adagrad": 2, "sgd": 2, "ftrl": 3, "adam": 4, "lbfgs": 2 * 25}[self.solver_]
        hidden = tuple(getattr(self, "hidden_layer_sizes", ()))
        if not hidden:
            return per_row * factor, 0.0
        widths = [self.schema_.n_fields * self.embedding_dim, *hidden, self._loss.n_outputs]
        return per_row * factor, 4.0 * sum(a * b for a, b in pairwise(widths))

    def _resolve_device(self, *, fallback: bool = False) -> torch.device:
        if self.device == "auto":
            if torch.cuda.is_available():
                return torch.device("cuda")
            mps = getattr(torch.backends, "mps", None)
            return torch.device("mps" if mps is not None and mps.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            if device.type == "meta":
                raise RuntimeError
        except RuntimeError:
            raise ValueError(
                f"device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got "
                f"{self.device!r}."
            ) from None
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
        n_threads = count_threads(self.n_jobs)
        parts = [
            predict_encoded(self.module_, self._encode(self._check_X(part, reset=False)), n_threads)
            for part in in_chunks(X, getattr(self, "feature_names_in_", ()))
        ]
        return np.concatenate(parts).astype(np.float64)

    # -- contract ----------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "schema_") and (
            "_module" in vars(self) or "_module_state" in vars(self)
        )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        module = state.pop("_module", None)
        if module is not None:
            arrays = {k: np.array(v.cpu().numpy()) for k, v in module.state_dict().items()}
            state["_module_state"] = arrays
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags


def _mean(weight: NDArray[np.float64]) -> float:
    """Mean weight of the rows that have one."""
    return float(weight.sum() / np.count_nonzero(weight))


def mean_fields(encoded: Encoded) -> float:
    """Fields of an average row: entries of a sparse matrix, 1 where it stores fewer.

    Parameters
    ----------
    encoded : FieldArray, FieldFolder or csr_array
        Encoded rows.

    Returns
    -------
    float
    """
    if isinstance(encoded, (FieldArray, FieldFolder)):
        schema = encoded.schema
        return float(schema.n_fields if schema is not None else encoded.shape[1])
    return max(encoded.size / encoded.shape[0], 1.0)
