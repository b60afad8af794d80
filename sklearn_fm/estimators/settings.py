"""Parameters in groups, from which estimators inherit, each declared, bounded and documented once.

What they do is told in ``solvers``, ``training`` and ``models``.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np

from ..encoding import FieldEncoder
from ..layers.mlp import ACTIVATIONS
from ..schema import FieldSchema
from .bases import BaseEstimator
from .parameters import Interval, StrOptions, estimator

__all__ = ["BlockParameters", "MLPParameters", "PairParameters", "SharedParameters"]


@estimator
class SharedParameters(BaseEstimator):
    """Parameters of every estimator.

    Parameters
    ----------
    embedding_dim : int
        Width of the embedding vectors, K.
    solver : {"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs"}
        How the objective

            sum_i sample_weight_i * loss_i + l2_linear/2 |w|^2 + l2_embedding/2 |V|^2
            + l2_dense/2 |MLP|^2

        is minimized. "lbfgs" takes all rows at once in float64; it is deterministic
        and weighs rows exactly. The others step on mini-batches and update only the rows of
        the tables that occur, by the rule of that name; the shrinking that the
        penalties owe to the other rows is caught up when they occur next, or at the
        end of the epoch. "ftrl" is FTRL-proximal for the linear term and the bias and
        Adagrad for the rest. "auto" is "ftrl" if there is an `l1_linear`, "lbfgs" for small
        data (unless a parameter that belongs to mini-batches is set), else "adagrad" for the
        tables; the dense layers are then trained by Adam.
    learning_rate : float or None
        Step size for the tables; None for the solver's own: 1.5 / n_fields, 0.2 at most
        (0.05 for MFRegressor), for "adagrad" and "ftrl", 0.001 for "adam", 0.1 for "sgd".
        Mini-batch solvers only.
    learning_rate_schedule : {"constant", "one_cycle", "reduce_on_plateau"}
        "one_cycle" rises to the learning rate and falls to almost 0 over `max_epochs`;
        "reduce_on_plateau" divides by 10 when the validation loss stalls for two epochs.
        "ftrl" takes "constant" only.
    batch_size : int
        Rows per step.
    max_epochs : int or "auto"
        Passes over the data at most; iterations for "lbfgs", sweeps for "als". "auto" is 100, and
        1,000 for "lbfgs" (30 where a deep model has priors "auto"). A number is one of
        passes: with it, `solver` "auto" is never "lbfgs".
    tol : float
        "lbfgs" stops when no entry of the mean objective's gradient exceeds it, "als" (without
        rows to validate on) when a sweep lowers the objective by no more than this share.
    l2_linear : float or "auto"
        Precision of the Gaussian prior on the linear term; LogisticRegression's 1/C,
        Ridge's alpha (for a target scaled to unit variance). "auto" starts at the number of
        fields of a row, with which the linear term has a standard deviation of 1 a
        priori. Mini-batch solvers halve it whenever the loss of rows to validate on stalls.
        "lbfgs" chooses among multiples, from 4 down to 1/256, by the loss of `X_val`, of
        rows held out, or else of 5 folds, unless `early_stopping` is False or less than 100 rows
        differ; and to it the weights of neighbouring bins of a number resemble each other, with a
        correlation of 0.9 a priori. `partial_fit` goes on with what a `fit` before came to.
    l2_embedding : float or "auto"
        Precision of the Gaussian prior on the embeddings. "auto" is 2 * sqrt(n_pairs *
        embedding_dim), with which the pairwise term of a row has a standard deviation
        of 1/2 a priori, and is chosen as `l2_linear` is: by "lbfgs" from 1 down to 1/32, for
        models with dense layers together with `l2_dense` in other steps, down to 1/64 (1/4 without
        a linear term), on one or two of the folds.
    l1_linear : float
        Strength of the Laplace prior on the linear term, l1_linear * |w|_1 in the objective;
        solver "ftrl" only, which then sets weights to exactly 0.
    init_scale : float
        Standard deviation of the embeddings' start values.
    pretrained : dict or None
        Start values for embeddings, by the name of the field: a DataFrame with categories as
        index, a dict of categories to vectors, or an array of shape (vocabulary_size,
        embedding_dim) by code, row 0 for unknown. Categories without one start at random.
    freeze_pretrained : bool
        Whether these embeddings stay as they are, only their linear term is trained.
    initial_accumulator : float
        Start of the "adagrad" and "ftrl" accumulators, in units of squared gradients of a batch;
        the larger, the smaller the first steps of rare categories.
    unknown_dropout : float
        Share of codes that are replaced by their field's unknown in each step, which
        trains the unknown row; mini-batch solvers only.
    gradient_clip : float or None
        Upper limit to the norm of a batch's mean gradient; mini-batch solvers only. Takes
        torch's step, which is slower than the compiled one.
    early_stopping : bool or "auto"
        Whether to hold out rows and keep the weights of the epoch that is best on them.
        "auto" does so for mini-batch solvers and 1,000 rows or more. "lbfgs" always converges, and
        uses these rows to choose the strength of priors. With `X_val` in
        `fit`, that is watched instead and nothing is held out: pass the latest
        rows where rows are ordered in time, for held-out rows are drawn at random.
    validation_fraction : float
        Share of the rows to hold out.
    patience : int
        Epochs without a new best before training stops; mini-batch solvers and "als" only.
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
        Callbacks of skorch, or (name, callback) pairs; mini-batch solvers only. They see the run
        that has rows to watch, not the `refit`, which repeats its learning rates epoch by epoch,
        and in the end the weights that are kept. For scores such as EpochScoring("roc_auc")
        classes are 0, 1, ... Those that work on gradients or start values are refused.
    n_jobs : int or None
        Threads in fit and predict; None is 1 unless in a `joblib.parallel_config` context,
        -1 all cores. The dense layers of deep models take torch's own number of threads
        when it is None.
    deterministic : bool
        Whether the same seed gives the same weights to the last bit, whatever `n_jobs`. False
        lets the threads of a factorization machine take steps on batches of their own
        without waiting for each other (Hogwild), which is faster; other models and one
        thread are deterministic anyway.
    verbose : int
        0 for silence, 1 for a line per epoch, 2 for a progress bar.
    random_state : int, RandomState instance or None
        Source of start values, row order, held-out rows and dropout.
    """

    embedding_dim: int = 16
    #: All that some estimator takes: a checker of types lets no class widen what its base says.
    solver: Literal["auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "als", "gibbs"] = "auto"
    learning_rate: float | None = None
    learning_rate_schedule: Literal["constant", "one_cycle", "reduce_on_plateau"] = "constant"
    batch_size: int = 256
    max_epochs: int | Literal["auto"] = "auto"
    tol: float = 1e-4
    l2_linear: float | Literal["auto"] = "auto"
    l2_embedding: float | Literal["auto"] = "auto"
    l1_linear: float = 0.0
    init_scale: float = 0.01
    pretrained: dict[str, Any] | None = None
    freeze_pretrained: bool = False
    initial_accumulator: float = 0.1
    unknown_dropout: float = 0.0
    gradient_clip: float | None = None
    early_stopping: bool | Literal["auto"] = "auto"
    validation_fraction: float = 0.1
    patience: int = 3
    refit: bool = True
    warm_start: bool = False
    encoder: FieldEncoder | None = None
    schema: FieldSchema | None = None
    device: str = "auto"
    callbacks: list[Any] | None = None
    n_jobs: int | None = None
    deterministic: bool = True
    verbose: int = 0
    random_state: int | np.random.RandomState | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs"})],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"constant", "one_cycle", "reduce_on_plateau"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "l2_linear": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "l2_embedding": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "l1_linear": [Interval(Real, 0, None, closed="left")],
        "init_scale": [Interval(Real, 0, None, closed="left")],
        "pretrained": [None, dict],
        "freeze_pretrained": ["boolean"],
        "initial_accumulator": [Interval(Real, 0, None, closed="neither")],
        "unknown_dropout": [Interval(Real, 0, 1, closed="left")],
        "gradient_clip": [None, Interval(Real, 0, None, closed="neither")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "warm_start": ["boolean"],
        "encoder": [None, FieldEncoder],
        "schema": [None, FieldSchema],
        "device": [str],
        "callbacks": [None, list],
        "n_jobs": [None, Integral],
        "deterministic": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }


@estimator
class PairParameters:
    """Models with the pairwise term of a factorization machine.

    Parameters
    ----------
    pair_slots : bool
        Whether the categories of one bag interact with each other too, as in libFM. By
        default a bag is pooled into one embedding, which interacts with those of the
        other fields.
    """

    pair_slots: bool = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"pair_slots": ["boolean"]}


@estimator
class MLPParameters:
    """Models with an MLP.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the MLP's hidden layers; empty for none.
    activation : {"relu", "gelu", "silu", "tanh", "sigmoid"}
        Nonlinearity of the hidden layers.
    dropout : float
        Share of hidden units dropped in training.
    batch_norm : bool
        Whether to normalize the hidden layers over the batch.
    l2_dense : float or "auto"
        Precision of the Gaussian prior on the weights outside the tables. "auto" is 10, from where
        "lbfgs" weakens it where rows to validate on profit; otherwise few rows leave the
        hidden layers at 0, which `solver_reason_` then says.
    learning_rate_dense : float
        Step size for the MLP and other weights outside the tables; not used by "lbfgs".
    """

    hidden_layer_sizes: Sequence[int] = (128, 128)
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid"] = "relu"
    dropout: float = 0.0
    batch_norm: bool = False
    l2_dense: float | Literal["auto"] = "auto"
    learning_rate_dense: float = 0.001

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
        "l2_dense": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "learning_rate_dense": [Interval(Real, 0, None, closed="neither")],
    }


@estimator
class BlockParameters:
    """Models whose raw prediction is linear in the weights of any one index.

    Parameters
    ----------
    init_scale : float
        {inherited} "gibbs" instead starts where the pairwise term of a row has one of 1/2.
    solver : {"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "als", "gibbs"}
        {inherited} "als" (regression) moves the vector and weight of one index after the other to
        their joint optimum, in closed form. "gibbs" does not minimize: it draws from the
        posterior and averages predictions over draws, which is the most accurate where
        ids have few rows each, and on small tables, needs no validation rows, learning rate or
        penalties, and gives standard deviations. "auto" takes it for an ordinal `loss` or a
        `noise_field`, and wherever sampling takes no more than twenty seconds on one core by an
        estimate from the numbers of rows, fields and categories and `embedding_dim`, unless
        something asks for a descent: `partial_fit`, rows to watch, callbacks, a table on
        disk, a device that is named, a penalty, `tol`, or any parameter of mini-batches.
        `solver_reason_` tells. `partial_fit` after a fit by "gibbs" goes on from the mean of its
        draws by "adagrad" then, and has no draws any more.
    warm_start : bool
        {inherited} "gibbs" adds `n_sweeps` sweeps and their draws if rows, targets and priors
        are the same as before; otherwise it keeps the weights as a start only.
    n_sweeps : int or "auto"
        Draws of all weights that "gibbs" takes. "auto" ends as soon as averaging over no more
        draws costs a row .0005 of loss, or .05% of a root mean squared error, or all rows together
        1, by the Monte Carlo error of 2,000 training rows' predictions: after 100 draws at the
        least, 500 at most. `solver_reason_` tells why it ended, `history_` what it saw.
    n_burn : int or "auto"
        Sweeps of "gibbs" whose draws are left out of predictions; "auto" for a tenth of them.
    thin : int or "auto"
        "gibbs" averages over the draw of every so many sweeps; "auto" for all that would fit into
        512 MB, ten at least. A draw takes 4 bytes per weight.
    keep_draws : bool
        Whether "gibbs" keeps all of these draws. By default `module_` becomes one machine that says
        what they say on average, within an error that `compression_` tells, and `posterior_` has
        some of them, 8 to 32, which tell how sure that is: predictions are quicker, and pickles
        smaller. With all draws, predictions are by each of them, and `module_` is their mean
        all the same. A warm start goes on with the draws before if this is as it was.
    hyperprior : {"half-t", "wishart"}
        What "gibbs" takes for the distribution of the embeddings and weights of a vocabulary
        when `l2_linear` and `l2_embedding` are "auto": normal, its mean and covariance drawn
        along. "half-t" lets standard deviations adapt to the data (Huang, Wand 2013),
        "wishart" has a fixed scale (Salakhutdinov, Mnih 2008). With `l2_linear` and `l2_embedding`
        given, weights are independent with mean 0 and these precisions.
    hyperprior_scale : float
        Scale of the hyperprior, in units of the standard deviations with which the pairwise term of
        a row has one of 1/2 and the linear term one of 1. "half-t" has a wide tail, "wishart"
        holds on to its scale.
    """

    n_sweeps: int | Literal["auto"] = "auto"
    n_burn: int | Literal["auto"] = "auto"
    thin: int | Literal["auto"] = "auto"
    keep_draws: bool = False
    hyperprior: Literal["half-t", "wishart"] = "half-t"
    hyperprior_scale: float = 1.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"auto", "adagrad", "adam", "sgd", "ftrl", "lbfgs", "als", "gibbs"})],
        "n_sweeps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_burn": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "thin": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "keep_draws": ["boolean"],
        "hyperprior": [StrOptions({"half-t", "wishart"})],
        "hyperprior_scale": [Interval(Real, 0, None, closed="neither")],
    }
