"""What a solver is asked to do: encoded rows, a task, a model, and the choices of the user.

Plain values and arrays; nothing here computes. What came of it is in ``fitted``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ..data.array import FieldArray
from ..data.folder import FieldFolder
from ..models.contract import Defaults, FieldModel, Table
from ..schema import FieldSchema
from ..training.losses import BinaryLogLoss, Loss, MultinomialLogLoss, SquaredError

__all__ = ["ModelSpec", "Options", "Pretrained", "Problem", "Task", "Watch", "mean_fields"]


@dataclass(frozen=True)
class ModelSpec:
    """Which module, over which fields.

    Attributes
    ----------
    model_class : type
        Which FieldModel; pickled by its name.
    schema : FieldSchema
        The fields and their share of the table.
    n_outputs : int
        Raw predictions per row, C.
    arguments : dict
        Other arguments of the constructor, by name.
    """

    model_class: type[FieldModel]
    schema: FieldSchema
    n_outputs: int
    arguments: dict[str, Any]

    def tables(self) -> dict[str, Table]:
        """Tables with a row per index."""
        return self.model_class.tables(self.schema, self.n_outputs, **self.arguments)

    def defaults(self, n_slots: float) -> Defaults:
        """Settings that the model suggests for rows of so many fields."""
        own = {**self.arguments, "n_outputs": self.n_outputs}
        return self.model_class.defaults(self.schema, n_slots, **own)

    def build(self, device: str = "cpu") -> FieldModel:
        """Module of this spec, its weights not set; on device "meta" it takes no memory."""
        with torch.device("meta"):  # start values are drawn later, from a generator of ours
            module = self.model_class(self.schema, n_outputs=self.n_outputs, **self.arguments)
        return module if device == "meta" else module.to_empty(device=device)

    def under(self, schema: FieldSchema) -> ModelSpec:
        """The same module over a schema whose vocabularies have grown."""
        return replace(self, schema=schema)


@dataclass(frozen=True)
class Task:
    """What is predicted, and on which scale.

    Attributes
    ----------
    kind : {"classes", "numbers", "levels"}
        Classes are positions 0, 1, ..., levels numbers of which only the order counts.
    n_classes : int
        Number of classes.
    y_range : tuple of (float, float) or None
        Interval of all predictions of numbers.
    noise_field : tuple of str, "auto" or None
        Fields whose categories have a noise of their own.
    levels : ndarray of shape (n_levels,) or None
        Values of the levels, ascending.
    """

    kind: Literal["classes", "numbers", "levels"]
    n_classes: int = 0
    y_range: tuple[float, float] | None = None
    noise_field: tuple[str, ...] | Literal["auto"] | None = None
    levels: NDArray[np.float64] | None = None

    @property
    def n_outputs(self) -> int:
        """Raw predictions per row."""
        return self.n_classes if self.n_classes > 2 else 1

    @property
    def needs_draws(self) -> str | None:
        """What only draws from a posterior can fit, in the user's words."""
        if self.kind == "levels":
            return "loss='ordinal'"
        return "noise_field" if self.noise_is_named else None

    @property
    def noise_is_named(self) -> bool:
        """Whether the user names fields with a noise of their own."""
        return self.noise_field not in (None, "auto")

    def make_loss(
        self, target: NDArray[np.float64], weight: NDArray[np.float64], *, ranged: bool = True
    ) -> Loss:
        """Loss at the scale of a training target.

        Parameters
        ----------
        target, weight : ndarray of shape (n_rows,)
            Targets and sample weights.
        ranged : bool, default=True
            Whether a sigmoid keeps predictions in `y_range`; else they are to be cut off.

        Returns
        -------
        Loss
        """
        if self.kind == "classes":
            return BinaryLogLoss() if self.n_classes == 2 else MultinomialLogLoss(self.n_classes)
        if self.kind == "levels":
            return SquaredError()
        return SquaredError.of_target(target, weight, self.y_range if ranged else None)

    def strata(self, target: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Classes to hold out in equal shares, if every class can be divided."""
        if self.kind != "classes":
            return None
        counts = np.unique(target, return_counts=True)[1]
        return target if counts.min() >= 2 and len(target) >= 20 * len(counts) else None


@dataclass(frozen=True)
class Options:
    """Choices of the user; the estimators' parameters of the same names say more."""

    solver: str = "auto"
    learning_rate: float | None = None
    learning_rate_schedule: str = "constant"
    batch_size: int = 256
    max_epochs: int | Literal["auto"] = "auto"
    tol: float = 1e-4
    l2_linear: float | Literal["auto"] = "auto"
    l2_embedding: float | Literal["auto"] = "auto"
    l1_linear: float = 0.0
    l2_dense: float | Literal["auto"] = 0.0
    learning_rate_dense: float = 0.001
    freeze_pretrained: bool = False
    initial_accumulator: float = 0.1
    unknown_dropout: float = 0.0
    gradient_clip: float | None = None
    early_stopping: bool | Literal["auto"] = "auto"
    validation_fraction: float = 0.1
    patience: int = 3
    refit: bool = True
    callbacks: list[Any] | None = None
    deterministic: bool = True
    verbose: int = 0
    n_sweeps: int | Literal["auto"] = "auto"
    n_burn: int | Literal["auto"] = "auto"
    thin: int | Literal["auto"] = "auto"
    keep_draws: bool = False
    hyperprior: str = "half-t"
    hyperprior_scale: float = 1.0

    def epochs(self, solver: str) -> int:
        """Passes over the rows at most; for "lbfgs", iterations, which end by themselves."""
        if self.max_epochs == "auto":
            return 1_000 if solver == "lbfgs" else 100
        return self.max_epochs

    @property
    def l2(self) -> dict[str, float | Literal["auto"]]:
        """Precision of each prior that tables can have."""
        return {"linear": self.l2_linear, "embedding": self.l2_embedding}


class Watch(NamedTuple):
    """Rows to watch for early stopping, none of which are learned from."""

    rows: Any
    target: NDArray[np.float64]
    weight: NDArray[np.float64]


class Pretrained(NamedTuple):
    """Vectors brought along."""

    rows: NDArray[np.int64]  # indices that have one
    vectors: NDArray[np.float32]  # (n, embedding_dim)


@dataclass(frozen=True)
class Problem:
    """Everything that a solver needs to know.

    Attributes
    ----------
    rows : FieldArray, FieldFolder or csr_array
        Encoded rows of positive weight; those of a folder may have a weight of 0.
    target, weight : ndarray of shape (n_rows,)
        Numbers, or positions of classes; sample weights times class weights.
    task : Task
        What is predicted.
    spec : ModelSpec
        Which module.
    options : Options
        Choices of the user.
    rng : numpy.random.RandomState
        Source of all randomness.
    device : torch.device
        Where to train, if the solver is not bound to the CPU.
    device_is_free : bool
        Whether the solver may choose the CPU instead.
    takes_draws : bool
        Whether draws are possible for whoever asks, so that "auto" may take them.
    n_threads : int
        Threads for compiled kernels.
    dense_threads : int or None
        Threads for dense layers; None for torch's own number.
    watch : Watch or None
        Rows to watch.
    find_pretrained : callable or None
        Gives the vectors brought along, if there are any.
    one_pass : bool
        Whether to take a single pass over the rows, as `partial_fit` does.
    on_epoch : callable or None
        Told after each epoch how to make what is fitted so far; returns whether to stop.
    path : list of dict or None
        Priors and learning rates of each epoch of another training, to repeat.
    """

    rows: Any
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    task: Task
    spec: ModelSpec
    options: Options
    rng: np.random.RandomState
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    device_is_free: bool = False
    takes_draws: bool = False
    n_threads: int = 1
    dense_threads: int | None = None
    watch: Watch | None = None
    find_pretrained: Callable[[], Pretrained] | None = None
    one_pass: bool = False
    on_epoch: Callable[[Callable[[], Any]], bool] | None = None
    path: list[dict[str, Any]] | None = None

    @property
    def mean_weight(self) -> float:
        """Mean weight of the rows that have one."""
        return float(self.weight.sum()) / np.count_nonzero(self.weight)

    def hold_out(
        self, n: int, rng: np.random.RandomState, strata: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Positions of rows, or blocks of rows, to learn from, and of others to watch, in order.

        Parameters
        ----------
        n : int
            How many there are.
        rng : RandomState
            Draws those to watch.
        strata : ndarray of shape (n,), default=None
            Classes, held out in equal shares where there is room for all.

        Returns
        -------
        rows, held_out : ndarray of int

        Raises
        ------
        ValueError
            If none would be left to learn from.
        """
        fraction = self.options.validation_fraction
        n_out = math.ceil(n * fraction)
        if n_out >= n:
            raise ValueError(
                f"early_stopping holds out validation_fraction={fraction:g} of the rows, which "
                f"leaves none of {n} to learn from. Use early_stopping=False, or pass rows to "
                "watch as X_val and y_val."
            )
        if strata is not None and len(np.unique(strata)) > min(n_out, n - n_out):
            strata = None
        rows, out = train_test_split(
            np.arange(n), test_size=n_out, random_state=rng, stratify=strata
        )
        return np.sort(rows), np.sort(out)

    @property
    def is_on_disk(self) -> bool:
        """Whether the rows are too many to be in memory."""
        return isinstance(self.rows, FieldFolder)

    def at(self, rows: Any, target: Any, weight: Any) -> Problem:
        """The same problem with other rows."""
        return replace(self, rows=rows, target=target, weight=weight)


def mean_fields(encoded: Any) -> float:
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
