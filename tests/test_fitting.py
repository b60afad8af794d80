"""How estimators fit: stopping, weights, randomness, callbacks, pickles, every parameter.

Whether they find the truth is told in ``test_truth``.
"""

import copy
import pickle
import signal

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from public import each_estimator
from scipy import sparse
from sklearn.metrics import log_loss
from skorch.callbacks import Callback, EarlyStopping

from sklearn_fm import (
    BagField,
    CategoryField,
    DeepFMClassifier,
    DeepFMRegressor,
    FieldArray,
    FieldEncoder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)
from sklearn_fm.training import prediction
from sklearn_fm.training.torch_step import TorchStepper

# One embedding_dim for all, as each has kernels of its own.
BATCHED = {
    "solver": "adagrad",
    "batch_size": 32,
    "max_epochs": 5,
    "embedding_dim": 16,
    "random_state": 0,
}
SOLVERS = ["adagrad", "adam", "sgd", "lbfgs"]


def make_table(n_rows=300, seed=0, n_classes=2):
    """Users and items with a taste for each other, and a number that says little."""
    rng = np.random.RandomState(seed)
    user, item = rng.randint(0, 8, n_rows), rng.randint(0, 6, n_rows)
    X = pd.DataFrame({"user": user.astype(str), "item": item.astype(str), "age": rng.rand(n_rows)})
    raw = (user - 3.5) * (item - 2.5) / 2 + rng.randn(n_rows)
    return X, np.digitize(raw, np.quantile(raw, np.arange(1, n_classes) / n_classes)), raw


X, Y, RAW = make_table()
CODES = FieldEncoder(scaler=None).fit_transform(X)
VALID = make_table(150, seed=1)
TWO_SLOTS = FieldEncoder(fields={"user": CategoryField(hash_buckets=5, n_hashes=2)})


def target_of(cls):
    return Y if "Classifier" in cls.__name__ else RAW


def raw_of(model, table=X):
    """The numbers behind the predictions."""
    method = getattr(model, "decision_function", None) or model.predict
    return method(table)


def same(a, b, table=X):
    return np.array_equal(raw_of(a, table), raw_of(b, table))


# -- early stopping ----------------------------------


def test_best_epoch_is_restored():
    """The loss of the final model on the watched rows is the least in the history."""
    model = FMClassifier(
        solver="adagrad",
        l2_linear=0,
        l2_embedding=0,
        learning_rate=0.5,
        max_epochs=60,
        patience=4,
        random_state=0,
    ).fit(X, Y, eval_set=VALID[:2])
    history = model.history_
    loss = log_loss(VALID[1], model.predict_proba(VALID[0]))
    assert loss == pytest.approx(history.valid_loss.min(), rel=1e-4)
    assert model.n_epochs_ == history.epoch[history.valid_loss.idxmin()]
    assert len(history) == model.n_epochs_ + 4


def test_eval_set_weights_count():
    X_valid, y_valid, _ = VALID
    weight = np.random.RandomState(0).rand(len(y_valid)) * (y_valid * 5 + 1)
    model = FMClassifier(**BATCHED).fit(X, Y, eval_set=(X_valid, y_valid, weight))
    loss = log_loss(y_valid, model.predict_proba(X_valid), sample_weight=weight)
    assert loss == pytest.approx(model.history_.valid_loss.min(), rel=1e-4)
    plain = log_loss(y_valid, model.predict_proba(X_valid))
    assert abs(loss - plain) > 1e-3


def test_weights_count_in_the_held_out_rows():
    """A metric that sees only rows of one kind: those whose weight is not tiny."""
    weight = np.where(X.user == "1", 1.0, 1e-9)
    constant = FMRegressor(**BATCHED, early_stopping=True).fit(
        X, np.where(X.user == "1", 2.0, RAW), sample_weight=weight
    )
    assert constant.history_.valid_rmse.max() < 0.05


def test_early_stopping_without_refit():
    model = FMClassifier(**BATCHED, early_stopping=True, refit=False).fit(X, Y)
    assert set(model.history_.phase) == {"fit"}
    assert model.n_epochs_ == model.history_.epoch[model.history_.valid_loss.idxmin()]


def test_refit_trains_all_rows_for_the_best_number_of_epochs():
    params = {**BATCHED, "max_epochs": 40, "l2_linear": 1.0, "l2_embedding": 1.0}
    model = FMClassifier(**params, early_stopping=True).fit(X, Y)
    history = model.history_
    search, refit = (history[history.phase == phase] for phase in ("search", "refit"))
    assert model.n_epochs_ == search.epoch[search.valid_loss.idxmin()] == len(refit)
    assert refit.valid_loss.isna().all()
    plain = FMClassifier(**{**params, "max_epochs": model.n_epochs_}, early_stopping=False)
    plain.fit(X, Y)  # its rows come in another order
    assert np.corrcoef(raw_of(model), raw_of(plain))[0, 1] > 0.95
    assert refit.train_loss.iloc[-1] == pytest.approx(plain.history_.train_loss.iloc[-1], rel=0.1)


def test_early_stopping_is_automatic_for_many_rows_in_batches():
    small = FMClassifier(**BATCHED).fit(X, Y)
    assert small.history_.valid_loss.isna().all()
    X_many, y_many, _ = make_table(1000)
    many = FMClassifier(**BATCHED).fit(X_many, y_many).history_
    assert many[many.phase == "search"].valid_loss.notna().all()
    never = FMClassifier(**BATCHED, early_stopping=False).fit(X_many, y_many)
    assert never.history_.valid_loss.isna().all()


def test_early_stopping_false_only_watches_the_eval_set():
    model = FMClassifier(
        **{**BATCHED, "max_epochs": 15, "learning_rate": 1.0, "patience": 1},
        l2_linear=0,
        l2_embedding=0,
        early_stopping=False,
    )
    model.fit(X, Y, eval_set=VALID[:2])
    assert len(model.history_) == model.n_epochs_ == 15
    assert model.history_.valid_loss.idxmin() < 14


def test_priors_relax_only_where_they_are_automatic():
    params = {**BATCHED, "max_epochs": 30, "early_stopping": True, "refit": False}
    auto = FMClassifier(**params).fit(X, Y).history_
    assert auto.l2_linear.iloc[-1] < auto.l2_linear.iloc[0] == 3
    assert auto.l2_embedding.iloc[0] == pytest.approx(2 * np.sqrt(3 * 16))
    fixed = FMClassifier(**params, l2_linear=2.0, l2_embedding=2.0).fit(X, Y).history_
    assert "l2_linear" not in fixed
    assert "l2_embedding" not in fixed


@pytest.mark.parametrize("patience", [1, 3])
def test_patience(patience):
    model = FMClassifier(
        **{**BATCHED, "max_epochs": 100, "learning_rate": 0.5},
        l2_linear=0,
        l2_embedding=0,
        patience=patience,
    )
    history = model.fit(X, Y, eval_set=VALID[:2]).history_
    assert len(history) - history.epoch[history.valid_loss.idxmin()] == patience


# -- history and progress ----------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_history(solver):
    """One row per epoch, with the same columns whatever the solver."""
    model = FMRegressor(**{**BATCHED, "solver": solver}, patience=50, tol=1e-3)
    if solver == "lbfgs":
        model.set_params(max_epochs=300)
    history = model.fit(X, RAW, eval_set=(VALID[0], VALID[2])).history_
    history = history[history.phase != "search"]
    assert isinstance(history, pd.DataFrame)
    wanted = ["epoch", "train_loss", "valid_loss", "valid_rmse", "seconds", "learning_rate"]
    assert [name for name in history if name != "phase"][: len(wanted)] == wanted
    assert history.epoch.dtype.kind == "i"
    assert all(history[name].dtype.kind == "f" for name in wanted[1:])
    assert history.epoch.tolist() == list(range(1, len(history) + 1))
    assert (history.seconds > 0).all()
    if solver != "lbfgs":
        assert len(history) == 5
        rmse = np.sqrt(np.mean((model.predict(VALID[0]) - VALID[2]) ** 2))
        assert rmse == pytest.approx(history.valid_rmse[history.valid_loss.idxmin()], rel=1e-4)


@pytest.mark.parametrize("solver", ["adagrad", "lbfgs", "als", "gibbs"])
def test_verbose(solver, capsys):
    """ "als" and "gibbs" had no bar, whatever the number, and wrote lines of their own."""
    tol = 1e-3 if solver == "lbfgs" else 1e-2
    params = {**BATCHED, "solver": solver, "tol": tol, "max_epochs": 40, "n_sweeps": 10}
    FMRegressor(**params).fit(X, RAW)
    assert capsys.readouterr() == ("", "")
    model = FMRegressor(**params, verbose=1).fit(X, RAW)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "epoch"
    assert "train_loss" in lines[0].split()
    assert len(lines) == len(model.history_) + 1
    assert lines[-1].split()[0] == str(model.history_.epoch.iloc[-1])
    FMRegressor(**params, verbose=2).fit(X, RAW)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "epoch/s" in printed.err or "epoch" in printed.err
    assert "train_loss" in printed.err


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["adagrad", "als"])
def test_the_same_columns_whatever_the_way(solver):
    """There was a phase after a refit only, and columns of validation only where rows were watched.

    Code that reads `history_` had to ask first how it came about.
    """
    if solver == "als":
        model = FMRegressor(solver="als", max_epochs=3, tol=1.0, l2_linear=1.0, l2_embedding=1.0)
    else:
        model = FMRegressor(**BATCHED, l2_linear=1.0, l2_embedding=1.0)
    eval_set = VALID[0], VALID[2]
    plain = model.set_params(early_stopping=False).fit(X, RAW).history_
    watched = model.fit(X, RAW, eval_set=eval_set).history_
    refit = model.set_params(early_stopping=True).fit(X, RAW).history_
    kept = model.set_params(refit=False).fit(X, RAW).history_
    assert list(watched) == list(kept) == list(refit)
    assert set(refit.phase) == {"search", "refit"}
    assert all(set(h.phase) == {"fit"} for h in (plain, watched, kept))
    if solver == "adagrad":
        assert list(plain) == list(watched)
        model.partial_fit(X, RAW)
        assert list(model.history_) == list(kept)
        assert model.history_.phase.tolist() == ["fit"] * len(kept) + ["partial_fit"]
        empty = FMRegressor(**{**BATCHED, "max_epochs": 0}).fit(X, RAW).history_
        assert list(empty) == list(plain)
        assert len(empty) == 0


def test_the_refit_is_printed_under_the_same_header(capsys):
    """Its lines had no name, began at epoch 1 under a second header, and had other columns."""
    model = FMRegressor(**BATCHED, early_stopping=True, verbose=1).fit(X, RAW)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["epoch", "phase", "train_loss"]
    assert len(lines) == 1 + len(model.history_)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [line[1] for line in lines[1:]] == model.history_.phase.tolist()


# -- going on ----------------------------------


def test_warm_start_goes_on():
    cold = FMRegressor(**BATCHED).fit(X, RAW)
    warm = FMRegressor(**BATCHED, warm_start=True).fit(X, RAW)
    assert same(cold, warm)
    first = warm.history_.train_loss
    codes = warm.encoder_.transform(X)
    warm.fit(X, RAW)
    assert np.array_equal(warm.encoder_.transform(X), codes)
    assert warm.history_.train_loss.iloc[0] < first.iloc[0]
    assert not same(cold, warm)
    assert same(cold.fit(X, RAW), FMRegressor(**BATCHED).fit(X, RAW))  # a cold fit starts anew


@pytest.mark.parametrize("solver", ["adagrad", "adam", "sgd"])
@pytest.mark.parametrize("cls", [FMClassifier, DeepFMRegressor, MFRegressor])
def test_partial_fit_goes_on_as_if_never_interrupted(cls, solver):
    """Optimizer state is kept: pickling between the calls changes no bit."""
    y = target_of(cls)
    first = {"classes": [0, 1]} if cls is FMClassifier else {}
    a = cls(**{**BATCHED, "solver": solver}).partial_fit(X, y, **first)
    assert len(a.history_) == a.n_epochs_ == 1
    after_one = raw_of(a)
    b = pickle.loads(pickle.dumps(a))
    a.partial_fit(X, y).partial_fit(X[:100], y[:100])
    b.partial_fit(X, y)
    b = pickle.loads(pickle.dumps(b)).partial_fit(X[:100], y[:100])
    assert same(a, b)
    assert not np.array_equal(raw_of(a), after_one)


def test_partial_fit_of_one_pass_is_an_epoch_of_fit():
    params = {**BATCHED, "max_epochs": 1, "early_stopping": False}
    once = FMRegressor(**params).fit(X, RAW)
    assert same(once, FMRegressor(**params).partial_fit(X, RAW))


def test_partial_fit_learns_and_new_categories_get_rows():
    model = FMClassifier(**BATCHED, l2_embedding=1.0)
    model.partial_fit(X[:100], Y[:100], classes=[0, 1, 2])
    sizes = model.schema_.vocabulary_sizes
    before = log_loss(VALID[1], model.predict_proba(VALID[0]), labels=[0, 1, 2])
    for _ in range(4):
        model.partial_fit(X.replace({"user": {"1": "new"}}), Y)
    user, *others = model.schema_.vocabulary_sizes
    assert (user - 1, *others) == sizes
    assert model.classes_.tolist() == [0, 1, 2]
    assert log_loss(VALID[1], model.predict_proba(VALID[0]), labels=[0, 1, 2]) < before


def test_partial_fit_after_fit():
    for solver, max_epochs in [("auto", 300), ("adagrad", 5)]:
        model = FMRegressor(**{**BATCHED, "solver": solver, "max_epochs": max_epochs}, tol=1e-3)
        model.fit(X, RAW)
        before = np.mean((model.predict(X) - RAW) ** 2)
        model.partial_fit(X, RAW)
        assert np.mean((model.predict(X) - RAW) ** 2) < before * 2


def test_settings_may_change_between_calls_of_partial_fit():
    """A kept optimizer state must not bring back the old learning rate."""
    model = DeepFMRegressor(**BATCHED).partial_fit(X, RAW)
    before = model.predict(X)
    model.set_params(learning_rate=1e-9, learning_rate_dense=1e-9, l2_linear=0, l2_embedding=0)
    model.partial_fit(X, RAW)
    assert np.abs(model.predict(X) - before).max() < 1e-4
    model.set_params(solver="adam", learning_rate=None).partial_fit(X, RAW)
    assert model.solver_ == "adam"


# -- randomness ----------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cls", [FMClassifier, DeepFMRegressor])
def test_random_state(cls, solver):
    """The same seed gives the same bits; the global states are not touched."""
    params = {**BATCHED, "solver": solver}
    if solver == "lbfgs":
        params |= {"max_epochs": 300, "tol": 1e-2}
    elif cls is DeepFMRegressor:
        params |= {"dropout": 0.2, "unknown_dropout": 0.1, "early_stopping": True}
    y = target_of(cls)
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    a, b = (cls(**params).fit(X, y) for _ in range(2))
    a.predict(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert same(a, b)
    assert not same(a, cls(**{**params, "random_state": 1}).fit(X, y))
    instance = {**params, "random_state": np.random.RandomState(0)}
    assert same(a, cls(**instance).fit(X, y))


# -- each parameter ----------------------------------


# parameter: other settings of both models, one value, another one
DEEP = {"hidden_layer_sizes": (8,)}
DRAWN = {"solver": "gibbs", "n_sweeps": 20}
VECTORS = {"user": {"1": [2.0] * 16}}
MATTERS = {
    "embedding_dim": ({}, 16, 12),
    "pair_slots": ({"encoder": TWO_SLOTS, "init_scale": 0.3}, False, True),
    "solver": ({}, "adagrad", "adam"),
    "learning_rate": ({}, 0.1, 0.2),
    "learning_rate_schedule": ({}, "constant", "one_cycle"),
    "batch_size": ({}, 32, 64),
    "max_epochs": ({}, 2, 3),
    "tol": ({"solver": "lbfgs", "max_epochs": 500}, 1e-1, 1e-2),
    "l1_linear": ({"solver": "ftrl"}, 0.0, 5.0),
    "l2_linear": ({}, 0.0, 5.0),
    "l2_embedding": ({"init_scale": 0.3}, 0.0, 50.0),
    "init_scale": ({}, 0.01, 0.3),
    "initial_accumulator": ({}, 0.1, 10.0),
    "unknown_dropout": ({}, 0.0, 0.3),
    "gradient_clip": ({}, None, 1e-3),
    "early_stopping": ({"refit": False}, False, True),
    "validation_fraction": ({"early_stopping": True, "refit": False}, 0.1, 0.4),
    "patience": ({"early_stopping": True, "refit": False, "max_epochs": 30}, 1, 6),
    "refit": ({"early_stopping": True}, True, False),
    "pretrained": ({}, None, VECTORS),
    "freeze_pretrained": ({"pretrained": VECTORS}, False, True),
    "encoder": ({}, FieldEncoder(), FieldEncoder(numeric=[], max_categories=4)),
    "random_state": ({}, 0, 1),
    "class_weight": ({}, None, {0: 1, 1: 9}),
    "y_range": ({}, None, (-100, 100)),
    "hidden_layer_sizes": ({}, (8,), (4,)),
    "activation": (DEEP, "relu", "tanh"),
    "dropout": (DEEP, 0.0, 0.5),
    "batch_norm": (DEEP, False, True),
    "l2_dense": (DEEP, 0.0, 100.0),
    "learning_rate_dense": (DEEP, 0.001, 0.1),
    "bilinear": ({"learning_rate_dense": 0.1}, "all", "interaction"),
    "reduction": ({"learning_rate_dense": 0.1}, 1, 3),
    "n_cross_layers": ({"learning_rate_dense": 0.1}, 1, 2),
    "cross_rank": ({"learning_rate_dense": 0.1}, None, 1),
    "user": ({"item": "item"}, "user", "age"),
    "item": ({"user": "user"}, "item", "age"),
    "n_sweeps": (DRAWN, 20, 30),
    "n_burn": (DRAWN, "auto", 6),
    "thin": (DRAWN, "auto", 3),
    "keep_draws": (DRAWN, False, True),
    "hyperprior": (DRAWN, "half-t", "wishart"),
    "hyperprior_scale": (DRAWN, 1.0, 0.2),
    "loss": (DRAWN, "squared", "ordinal"),
    "noise_field": (DRAWN, None, "user"),
}
# parameters whose tests stand elsewhere, for they do not change what is predicted
ELSEWHERE = {
    "warm_start",
    "schema",
    "device",
    "callbacks",
    "verbose",
    "n_jobs",
    "deterministic",
}


@each_estimator
def test_no_parameter_is_accepted_and_ignored(cls):
    """Two values of any parameter give two models."""
    y, models = target_of(cls).round(), {}

    def fitted(params):
        """A model of these parameters, the same one when they come again."""
        key = repr(cls(**params).get_params(deep=False))
        if key not in models:
            models[key] = cls(**params).fit(X, y)
        return models[key]

    for name in cls().get_params(deep=False):
        if name in ELSEWHERE:
            continue
        others, one, other = MATTERS[name]
        base = {**BATCHED, "max_epochs": 3, **others}
        if name in ("l1_linear", "l2_linear") and "linear" not in cls._model.reads:
            with pytest.raises(ValueError, match=f"has no linear term for {name}"):
                fitted({**base, name: other})
            continue
        a, b = (fitted({**base, name: value}) for value in (one, other))
        differ = not same(a, b) or len(a.history_) != len(b.history_)
        assert differ, f"{cls.__name__}: {name} changes nothing"


@pytest.mark.parametrize("cls", [FMRegressor, DeepFMRegressor])
@pytest.mark.parametrize("solver", ["adagrad", "lbfgs"])
@pytest.mark.parametrize("pair_slots", [False, True])
def test_pair_slots(cls, solver, pair_slots, monkeypatch):
    """Categories of one bag are added up before pairing, or pair with each other, too."""
    rng = np.random.RandomState(0)
    table = pd.DataFrame({"tags": [list("abcd")[: i % 5] for i in range(80)], "age": rng.rand(80)})
    encoder = FieldEncoder(scaler=None, fields={"tags": BagField(pooling="sum")})
    params = {**BATCHED, "solver": solver, "max_epochs": 40, "tol": 0.1, "init_scale": 0.5}
    if cls is DeepFMRegressor:
        params["hidden_layer_sizes"] = ()
    model = cls(**params, encoder=encoder, pair_slots=pair_slots, y_range=(-9, 9))
    y = table.tags.map(len) * (1 + table.age)
    model.fit(table, y)
    codes = model.encoder_.transform(table)
    module, (indices, values) = model.module_, codes.indices_and_values()
    weight = module.embedding.weight.detach().numpy().astype(float)
    linear = module.linear.weight.detach().numpy().astype(float)[:, 0]
    raw = np.full(len(table), float(module.bias.detach()[0]))
    for r, (row, x) in enumerate(zip(indices, values, strict=True)):
        raw[r] += linear[row] @ x
        parts = [weight[i] * v for i, v in zip(row, x, strict=True)]
        if not pair_slots:
            parts = [sum(parts[:-1]), parts[-1]]  # the bag and the number
        raw[r] += sum(parts[a] @ parts[b] for b in range(len(parts)) for a in range(b))
    expected = model._fitted.model.loss.predict(raw[:, None])
    np.testing.assert_allclose(model.predict(table), expected, rtol=1e-4, atol=1e-4)
    assert same(pickle.loads(pickle.dumps(model)), model, table)
    monkeypatch.setattr(prediction, "HAS_KERNELS", False)
    again = pickle.loads(pickle.dumps(model)).predict(table)
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-4)
    if pair_slots and cls is FMRegressor:  # what a sparse row means, and libFM
        plain = FMRegressor(**params, y_range=(-9, 9)).fit(codes.to_csr(), y)
        assert plain.module_.embedding.weight.shape == module.embedding.weight.shape
        plain.module_.load_state_dict(module.state_dict())
        np.testing.assert_allclose(plain.predict(codes.to_csr()), expected, rtol=1e-4, atol=1e-4)


def test_schema_parameter():
    plain = np.asarray(CODES)
    model = FMRegressor(schema=CODES.schema, **BATCHED).fit(plain, RAW)
    assert model.encoder_ is None
    assert same(model, FMRegressor(**BATCHED).fit(CODES, RAW), CODES)
    assert np.array_equal(model.predict(plain), model.predict(CODES))


def test_device():
    model = FMRegressor(device="cpu", **BATCHED).fit(X, RAW)
    assert {p.device.type for p in model.module_.parameters()} == {"cpu"}
    away = copy.deepcopy(model).set_params(device="cuda:0")
    if not torch.cuda.is_available():  # a pickle from a machine with a GPU
        assert same(pickle.loads(pickle.dumps(away)), model)


# -- learning rates ----------------------------------


def test_one_cycle_rises_and_falls():
    history = (
        FMRegressor(
            **{**BATCHED, "max_epochs": 20}, learning_rate=0.3, learning_rate_schedule="one_cycle"
        )
        .fit(X, RAW)
        .history_
    )
    rate = history.learning_rate.to_numpy()
    top = rate.argmax()
    assert 0 < top < 10
    assert rate[top] == pytest.approx(0.3, rel=0.1)
    assert (np.diff(rate[: top + 1]) > 0).all()
    assert (np.diff(rate[top:]) < 0).all()
    assert rate[-1] < 0.01


def test_plateau_reduces_the_rate():
    model = FMRegressor(
        **{**BATCHED, "max_epochs": 60, "patience": 8},
        learning_rate=0.5,
        l2_linear=0,
        l2_embedding=0,
        learning_rate_schedule="reduce_on_plateau",
    ).fit(X, RAW, eval_set=(VALID[0], VALID[2]))
    rate = model.history_.learning_rate
    assert rate.iloc[0] == 0.5
    assert rate.iloc[-1] <= 0.05 * 1.01
    assert set(np.round(np.log10(rate / 0.5), 6)) <= {0, -1, -2, -3, -4, -5}


def test_refit_repeats_the_rates_of_the_search():
    model = FMRegressor(
        **{**BATCHED, "max_epochs": 60, "patience": 8},
        learning_rate=0.5,
        early_stopping=True,
        l2_linear=0.1,
        l2_embedding=0.1,
        learning_rate_schedule="reduce_on_plateau",
    ).fit(X, RAW)
    history = model.history_
    search, refit = (history[history.phase == phase] for phase in ("search", "refit"))
    assert search.learning_rate[: len(refit)].tolist() == pytest.approx(
        refit.learning_rate.tolist()
    )


def test_gradient_clip_bounds_the_step():
    """With plain gradient descent a step is at most rate times limit."""
    params = {**BATCHED, "solver": "sgd", "learning_rate": 1.0, "batch_size": 300, "max_epochs": 1}
    model = FMRegressor(**params, gradient_clip=0.01, l2_linear=0, l2_embedding=0)
    moved = model.fit(X, RAW).module_.linear.weight.detach().norm()
    assert 0 < moved <= 0.0100001


# -- classes ----------------------------------


def test_class_weight_is_a_sample_weight():
    weights = {0: 1.0, 1: 3.0}
    a = FMClassifier(class_weight=weights, random_state=0).fit(X, Y)
    b = FMClassifier(random_state=0).fit(X, Y, sample_weight=np.where(Y == 1, 3.0, 1.0))
    assert same(a, b)


def test_balanced_classes_with_weights():
    """Rows of weight 0 were counted as members of their class."""
    weight = np.where((Y == 1) & (np.arange(len(Y)) % 2 == 0), 0.0, 1.0)
    kept = weight > 0
    model = FMClassifier(class_weight="balanced", random_state=0)
    a = copy.deepcopy(model).fit(X, Y, sample_weight=weight)
    b = copy.deepcopy(model).fit(X[kept], Y[kept])
    assert np.allclose(raw_of(a), raw_of(b), atol=1e-10)
    assert model.set_params(max_epochs=0, solver="adagrad", init_scale=0).fit(X, Y).predict_proba(
        X[:1]
    )[0, 1] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier])
@pytest.mark.parametrize("solver", ["auto", "adagrad"])
def test_multiclass(cls, solver):
    X_many, y_many, _ = make_table(600, n_classes=3)
    names = np.array(["low", "mid", "top"])
    model = cls(solver=solver, max_epochs=60, tol=1e-2, batch_size=64, random_state=0)
    model.set_params(l2_embedding=2.0, init_scale=0.1)
    model.fit(X_many[:500], names[y_many[:500]])
    p = model.predict_proba(X_many)
    assert p.shape == (600, 3)
    assert np.allclose(p.sum(axis=1), 1)
    assert model.decision_function(X_many).shape == (600, 3)
    assert model.classes_.tolist() == names.tolist()
    assert np.array_equal(model.predict(X_many), names[p.argmax(axis=1)])
    assert model.score(X_many[500:], names[y_many[500:]]) > 0.55


# -- solvers and unknown ids ----------------------------------


def test_auto_solver():
    """Draws, or L-BFGS for a few rows of numbers, unless a parameter asks for batches."""
    assert FMRegressor(random_state=0).fit(X, RAW).solver_ == "lbfgs"
    assert FMRegressor(random_state=0).fit(X[["user", "item"]], RAW).solver_ == "gibbs"
    assert DeepFMRegressor(random_state=0, hidden_layer_sizes=(4,)).fit(X, RAW).solver_ == "lbfgs"
    for params in (
        {"max_epochs": 3},
        {"learning_rate": 0.1},
        {"early_stopping": True},
        {"gradient_clip": 1.0},
        {"unknown_dropout": 0.1},
        {"learning_rate_schedule": "one_cycle"},
        {"callbacks": [Callback()]},
    ):
        model = FMRegressor(**{"max_epochs": 1, **params}).fit(X, RAW)
        assert model.solver_ == "adagrad", params
    deep = DeepFMRegressor(max_epochs=1, dropout=0.1).fit(X, RAW)
    assert deep.solver_ == "adagrad"
    many = np.zeros((5001, 1), dtype=int)
    codes = FieldArray(many, FieldSchema.from_sizes([2]))
    big = FMRegressor(max_epochs=1, batch_size=5001).fit(codes, np.arange(5001.0))
    assert big.solver_ == "adagrad"


@pytest.mark.parametrize("solver", ["adagrad", "adam", "sgd"])
def test_batches_find_the_optimum_of_lbfgs(solver):
    """Same objective, another way: predictions agree when the rates fall to zero."""
    exact = FMRegressor(solver="lbfgs", max_epochs=2000, tol=1e-8, l2_linear=3.0, l2_embedding=1e6)
    exact.fit(CODES, RAW)
    rate = {"adagrad": 0.3, "adam": 0.05, "sgd": 0.5}[solver]
    model = FMRegressor(
        solver=solver,
        max_epochs=150,
        batch_size=300,
        learning_rate=rate,
        l2_linear=3.0,
        l2_embedding=1e6 if solver != "sgd" else 1.0,
        init_scale=0,
        learning_rate_schedule="constant",
    ).fit(CODES, RAW)
    error = np.abs(model.predict(CODES) - exact.predict(CODES)).max()
    assert error < 0.1 * RAW.std()


def unknown_rows(model):
    """Linear weight and length of the embedding of each field's unknown row."""
    rows = [
        o
        for o, k in zip(model.schema_.offsets, model.schema_.kinds, strict=True)
        if k == "categorical"
    ]
    module = model.module_
    linear = module.linear.weight.detach()[rows].abs().sum()
    return float(linear), float(module.embedding.weight.detach()[rows].abs().sum())


def test_what_trains_the_unknown_row():
    """Nothing does by itself; dropped ids or rare categories do."""
    assert unknown_rows(FMRegressor(**BATCHED).fit(X, RAW)) == (0, 0)
    linear, embedding = unknown_rows(FMRegressor(**BATCHED, unknown_dropout=0.2).fit(X, RAW))
    assert linear > 0
    assert embedding > 0
    rare = X.assign(user=[f"u{i % 7 if i > 20 else i}" for i in range(len(X))])
    encoder = FieldEncoder(min_frequency=5)
    for solver in ("adagrad", "lbfgs"):
        model = FMRegressor(
            **{**BATCHED, "solver": solver, "max_epochs": 300}, tol=1e-3, encoder=encoder
        )
        linear, _ = unknown_rows(model.fit(rare, RAW - 20 * (np.arange(len(X)) <= 20)))
        assert linear > 0


# -- callbacks, interruptions, divergence ----------------------------------


class Recorder(Callback):
    """Counts what skorch tells it."""

    def __init__(self):
        self.batches, self.epochs, self.trained, self.losses = 0, 0, 0, []

    def on_batch_end(self, net, batch=None, training=None, loss=None, **kwargs):
        self.batches += 1
        self.losses.append(float(loss))

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.epochs += 1
        assert net.history[-1, "train_loss"] > 0

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.trained += 1


@pytest.mark.parametrize("named", [False, True])
def test_skorch_callbacks(named):
    recorder = Recorder()
    model = FMRegressor(**BATCHED, callbacks=[("mine", recorder) if named else recorder])
    model.fit(X, RAW)
    assert recorder.epochs == 5
    assert recorder.batches == 5 * 10
    assert recorder.trained == 1
    assert np.isfinite(recorder.losses).all()
    assert same(model, FMRegressor(**BATCHED).fit(X, RAW))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_skorch_early_stopping(early_stopping):
    """It ends the search without an error; in the refit there is no valid_loss to monitor."""
    monitor = "valid_loss" if early_stopping else "train_loss"
    stop = EarlyStopping(monitor=monitor, patience=2, threshold=0.5, sink=lambda *args: None)
    params = {**BATCHED, "max_epochs": 50, "patience": 40}
    model = FMRegressor(**params, callbacks=[stop], early_stopping=early_stopping).fit(X, RAW)
    history = model.history_
    search = history[history.phase == "search"] if early_stopping else history
    assert len(search) < 50
    if not early_stopping:  # the epoch that ends the training counts as well
        assert model.n_epochs_ == len(history)
    assert np.isfinite(model.predict(X)).all()


def interrupt_at(monkeypatch, step, how):
    """Press Ctrl-C in the middle of a step; returns how many steps were begun."""
    steps = []
    original = TorchStepper.step

    def step_and_stop(self, batch):
        steps.append(len(batch.target))
        if len(steps) == step:
            how()
        return original(self, batch)

    monkeypatch.setattr(TorchStepper, "step", step_and_stop)
    return steps


# Clipping takes torch's step, which can be interrupted within an epoch of few rows.
STEPWISE = {**BATCHED, "gradient_clip": 1e6}


@pytest.fixture
def press():
    """Press Ctrl-C. Python leaves it ignored where the shell did, as for ``nohup`` and ``&``."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("step", [1, 25])
def test_ctrl_c(monkeypatch, press, step):
    """It goes on to the caller, and leaves an estimator that predicts and trains on."""
    interrupt_at(monkeypatch, step, press)
    model = FMRegressor(**STEPWISE)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, RAW)
    monkeypatch.undo()
    assert np.isfinite(model.predict(X)).all()
    assert len(model.history_) == model.n_epochs_ == step // 10
    if step == 25:
        assert np.mean((model.predict(X) - RAW) ** 2) < RAW.var()
    assert np.isfinite(pickle.loads(pickle.dumps(model)).predict(X)).all()
    assert same(model.fit(X, RAW), FMRegressor(**STEPWISE).fit(X, RAW))


def test_ctrl_c_keeps_the_best_weights(monkeypatch, press):
    """In the search: those of the best epoch so far."""
    interrupt_at(monkeypatch, 9 * 10 + 3, press)
    model = FMRegressor(
        **{**STEPWISE, "max_epochs": 50, "learning_rate": 0.5, "patience": 40},
        l2_linear=0,
        l2_embedding=0,
    )
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, RAW, eval_set=(VALID[0], VALID[2]))
    history = model.history_
    assert len(history) == 9
    assert model.n_epochs_ == history.epoch[history.valid_loss.idxmin()]
    rmse = np.sqrt(np.mean((model.predict(VALID[0]) - VALID[2]) ** 2))
    assert rmse == pytest.approx(history.valid_rmse[history.valid_loss.idxmin()], rel=1e-4)


def test_ctrl_c_in_the_refit_keeps_what_the_search_found(monkeypatch, press):
    """It left the first steps of the refit, much worse than what was at hand."""
    params = {**STEPWISE, "max_epochs": 8, "early_stopping": True}
    searched = FMRegressor(**params, refit=False).fit(X, RAW)
    # 270 rows in search, 300 in refit
    n_steps = 9 * len(searched.history_)
    interrupt_at(monkeypatch, n_steps + 2, press)
    model = FMRegressor(**params)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, RAW)
    assert same(model, searched)


def test_ctrl_c_in_lbfgs(monkeypatch, press):
    from sklearn_fm.models import FM

    calls = []
    original = FM.head

    def head(self, parts):
        calls.append(len(parts.linear))
        if len(calls) == 15:
            press()
        return original(self, parts)

    monkeypatch.setattr(FM, "head", head)
    model = FMRegressor(solver="lbfgs", max_epochs=300, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, RAW)
    monkeypatch.undo()
    assert len(model.history_) > 3
    assert np.mean((model.predict(X) - RAW) ** 2) < RAW.var()


def test_ctrl_c_while_encoding_changes_nothing(monkeypatch):
    model = FMRegressor(**BATCHED).fit(X, RAW)
    before = model.predict(X)

    def fit_transform(self, X, y=None, sample_weight=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(FieldEncoder, "fit_transform", fit_transform)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X.assign(more=1), RAW)
    monkeypatch.undo()
    assert np.array_equal(model.predict(X), before)


WILD = X.assign(age=X.age * 1e18)
FREE = {"l2_linear": 0, "l2_embedding": 0}  # a prior would shrink what blows up to nothing
FAR = np.where(np.arange(len(X)) == 7, 1e30, RAW)


@pytest.mark.parametrize("solver", ["sgd", "adam", "adagrad"])
@pytest.mark.parametrize("max_epochs", [1, 20])
def test_divergence_by_the_learning_rate(solver, max_epochs):
    """Also when only the last step of all went wrong, after which there is no loss to look at."""
    model = FMRegressor(
        **{**BATCHED, "solver": solver, "max_epochs": max_epochs},
        learning_rate=1e25,
        init_scale=0.1,
        **FREE,
    )
    with pytest.raises(FloatingPointError, match=r"learning_rate=1e\+25 is too large.*Lower it"):
        model.fit(X, RAW)
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(pickle.loads(pickle.dumps(model)).predict(X)).all()


def test_divergence_in_partial_fit():
    model = FMRegressor(**BATCHED, **FREE).partial_fit(X, RAW)
    before = model.predict(X)
    model.set_params(solver="sgd", learning_rate=1e25, batch_size=300)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        model.partial_fit(X, RAW)
    assert np.array_equal(model.predict(X), before)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_divergence_by_an_unscaled_column(solver):
    model = FMRegressor(
        **{**BATCHED, "solver": solver}, encoder=FieldEncoder(scaler=None), learning_rate=0.1
    )
    with pytest.raises(FloatingPointError, match=r"Field 'age' is not scaled.*reach 9\.\d+e\+17"):
        model.fit(WILD, RAW)
    assert np.isfinite(model.predict(X)).all()
    codes = FieldEncoder(scaler=None).fit_transform(WILD)
    with pytest.raises(FloatingPointError, match="Field 'age' is not scaled"):
        model.fit(codes, RAW)


def test_divergence_names_an_extreme_target():
    model = FMRegressor(**{**BATCHED, "solver": "sgd"}, **FREE, learning_rate=1e25, init_scale=0.1)
    with pytest.raises(FloatingPointError, match=r"extreme value, 1e\+30 at row 7"):
        model.fit(X, FAR)
    assert np.isfinite(model.predict(X)).all()


# -- weights ----------------------------------


@pytest.mark.parametrize("cls", [FMClassifier, FMRegressor, MFRegressor])
@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_weight_zero_is_absent(cls, solver):
    y = target_of(cls)
    weight = (np.arange(len(y)) % 4 > 0).astype(float)
    kept = weight > 0
    model = cls(**{**BATCHED, "solver": solver, "max_epochs": 400 if solver == "lbfgs" else 5})
    wild = np.where(kept, y, 1 - y)
    a = copy.deepcopy(model).fit(X, wild, sample_weight=weight)
    b = copy.deepcopy(model).fit(X[kept], y[kept])
    assert same(a, b)


@pytest.mark.parametrize("cls", [FMClassifier, FMRegressor])
def test_weight_two_is_the_row_twice(cls):
    """To the bit, for L-BFGS merges equal rows."""
    y = target_of(cls)
    weight = np.random.RandomState(0).randint(0, 4, len(y))
    model = cls(solver="lbfgs", max_epochs=400, tol=1e-4, random_state=0)
    a = copy.deepcopy(model).fit(X, y, sample_weight=weight)
    b = copy.deepcopy(model).fit(X.loc[np.repeat(X.index, weight)], np.repeat(y, weight))
    assert same(a, b)
    # The encoder numbers categories as they appear; the order of encoded rows is all one.
    shuffled = np.random.RandomState(1).permutation(len(y))
    c = copy.deepcopy(model).fit(CODES, y, sample_weight=weight)
    d = copy.deepcopy(model).fit(CODES[shuffled], y[shuffled], sample_weight=weight[shuffled])
    assert same(c, d, CODES)


@pytest.mark.parametrize("solver", SOLVERS)
def test_scale_of_weights_and_priors_cancels(solver):
    """sum w l + l2/2 |.|^2: with both three times as large, the same model."""
    weight = np.random.RandomState(0).rand(len(Y)) + 0.5
    params = {**BATCHED, "solver": solver}
    if solver == "lbfgs":
        params |= {"max_epochs": 500, "tol": 1e-6}
    a = FMClassifier(l2_linear=1.0, l2_embedding=2.0, **params).fit(X, Y, sample_weight=weight)
    b = FMClassifier(l2_linear=4.0, l2_embedding=8.0, **params).fit(X, Y, sample_weight=4 * weight)
    assert np.allclose(raw_of(a), raw_of(b), atol=1e-3 if solver == "lbfgs" else 1e-5)
    free = {"l2_linear": 0, "l2_embedding": 0}
    if solver != "lbfgs":
        a = FMClassifier(**params, **free).fit(X, Y, sample_weight=weight)
        b = FMClassifier(**params, **free).fit(X, Y, sample_weight=3.7 * weight)
        assert np.allclose(raw_of(a), raw_of(b), atol=1e-5)


@pytest.mark.parametrize("solver", ["adagrad", "lbfgs"])
def test_offset_of_the_target(solver):
    """float32 cannot tell 1e9 from 1e9 + 1, so the target is centred before."""
    params = {**BATCHED, "solver": solver}
    if solver == "lbfgs":
        params.update(max_epochs=1000, tol=1e-6)
    a, b = FMRegressor(**params).fit(X, RAW), FMRegressor(**params).fit(X, RAW + 1e9)
    assert np.abs(a.predict(X) - (b.predict(X) - 1e9)).max() < 1e-3


# -- sparse ----------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
@pytest.mark.parametrize("cls", [FMClassifier, FMRegressor, DeepFMRegressor])
def test_sparse_rows_equal_numeric_fields(cls, solver):
    """A column of the matrix is a numeric field, rows of any length; also when predicting."""
    S = sparse.random_array((200, 6), density=0.4, rng=0, format="csr")
    assert (np.diff(S.indptr) == 0).any()
    y = target_of(cls)[:200]
    fields = FieldArray(S.toarray(), FieldSchema.from_sizes([1] * 6))
    params = {**BATCHED, "solver": solver, "l2_linear": 1, "l2_embedding": 2, "learning_rate": 0.1}
    if solver == "lbfgs":
        params |= {"max_epochs": 500, "tol": 1e-7, "early_stopping": False}
    a, b = cls(**params).fit(S, y), cls(**params).fit(fields, y)
    assert np.allclose(raw_of(a, S), raw_of(b, fields), atol=1e-4)
    assert np.allclose(raw_of(a, sparse.coo_matrix(S)), raw_of(a, S), atol=1e-6)
    assert np.allclose(raw_of(a, S.toarray()), raw_of(a, S), atol=1e-6)
    assert raw_of(a, S[:1]).shape == (1,)


# -- pickle ----------------------------------


def leaves(tree):
    """Everything within nested containers and objects' states."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


@each_estimator
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_pickle_holds_numpy_only(cls, solver, tmp_path):
    model = cls(**{**BATCHED, "solver": solver, "max_epochs": 300 if solver == "lbfgs" else 3})
    model.set_params(tol=1e-2)
    model.fit(X, target_of(cls))
    if solver == "adam":
        extra = {"classes": [0, 1]} if "Classifier" in cls.__name__ else {}
        model.partial_fit(X, target_of(cls), **extra)
    state = model.__getstate__()
    assert not any(isinstance(x, torch.Tensor | torch.nn.Module) for x in leaves(state))
    data = pickle.dumps(model)
    assert b"torch" not in data
    joblib.dump(model, tmp_path / "model.joblib")
    for loaded in (
        pickle.loads(data),
        joblib.load(tmp_path / "model.joblib"),
        joblib.load(tmp_path / "model.joblib", mmap_mode="r"),
        copy.deepcopy(model),
    ):
        assert same(loaded, model)
        assert loaded.module_ is loaded.module_
        assert loaded.module_ is not model.module_
        assert not loaded.module_.training
        assert loaded.history_.equals(model.history_)
    twice = pickle.loads(pickle.dumps(pickle.loads(data)))  # before module_ was rebuilt
    assert same(twice, model)
