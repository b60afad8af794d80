"""Estimators against the truth: planted models, closed forms, other libraries.

Each is a law or a definition; thresholds leave room for another seed.
"""

import numpy as np
import pandas as pd
import pytest
from public import each_estimator
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from sklearn_fm import (
    DeepFMClassifier,
    DeepFMRegressor,
    FieldArray,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)


def planted(n_rows, seed=0, sizes=(30, 20, 10), dim=3):
    """Codes and raw predictions of a random factorization machine."""
    rng = np.random.RandomState(seed)
    codes = np.column_stack([rng.randint(0, size, n_rows) for size in sizes])
    schema = FieldSchema.from_sizes([size + 1 for size in sizes])
    linear = [rng.randn(size) * 0.5 for size in sizes]
    tables = [rng.randn(size, dim) for size in sizes]
    raw = 0.3 + sum(w[c] for w, c in zip(linear, codes.T, strict=True))
    e = np.stack([v[c] for v, c in zip(tables, codes.T, strict=True)], axis=1)
    raw += ((e.sum(axis=1) ** 2 - (e**2).sum(axis=1)) / 2).sum(axis=1)
    return FieldArray(codes, schema), raw


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_planted_regression_is_recovered(solver):
    """Test error is near the noise, and far below that of the linear model."""
    X, raw = planted(6000)
    y = raw + 0.5 * np.random.RandomState(1).randn(len(raw))
    train, test = slice(0, 5000), slice(5000, None)
    model = FMRegressor(
        embedding_dim=3,
        solver=solver,
        l2_linear=0.1,
        l2_embedding=0.1,
        init_scale=0.1,
        max_epochs=300 if solver == "lbfgs" else 40,
        tol=1e-4,
        early_stopping=False,
        random_state=0,
    ).fit(X[train], y[train])
    rmse = np.sqrt(np.mean((model.predict(X[test]) - y[test]) ** 2))
    assert rmse < 0.6  # the oracle has 0.5
    linear = Ridge().fit(X[train].to_csr(), y[train])
    assert np.sqrt(np.mean((linear.predict(X[test].to_csr()) - y[test]) ** 2)) > 1.5


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_planted_classification_is_recovered(solver):
    X, raw = planted(6000)
    y = np.random.RandomState(1).rand(len(raw)) < expit(raw)
    train, test = slice(0, 5000), slice(5000, None)
    model = FMClassifier(
        embedding_dim=3,
        solver=solver,
        l2_linear=1,
        l2_embedding=1,
        init_scale=0.1,
        max_epochs=300 if solver == "lbfgs" else 40,
        tol=1e-4,
        early_stopping=False,
        random_state=0,
    ).fit(X[train], y[train])
    oracle = roc_auc_score(y[test], raw[test])
    assert roc_auc_score(y[test], model.decision_function(X[test])) > oracle - 0.02
    linear = LogisticRegression().fit(X[train].to_csr(), y[train])
    assert roc_auc_score(y[test], linear.decision_function(X[test].to_csr())) < oracle - 0.1


@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier])
@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_xor(cls, solver):
    """The pairwise term solves what no linear model can."""
    X = pd.DataFrame({"a": list("xxyy") * 25, "b": list("xyxy") * 25})
    y = [0, 1, 1, 0] * 25
    model = cls(
        solver=solver,
        l2_embedding=0.1,
        init_scale=0.3,
        max_epochs=200,
        tol=1e-3,
        batch_size=20,
        random_state=0,
    )
    assert model.fit(X, y).score(X, y) == 1
    onehot = OneHotEncoder().fit_transform(X)
    assert LogisticRegression().fit(onehot, y).score(onehot, y) <= 0.75


@each_estimator
@pytest.mark.parametrize("solver", ["lbfgs", "adagrad", "auto"])
def test_no_epochs_give_the_best_constant(cls, solver):
    """bias = log(p / (1 - p)), or the mean; all else is zero without start values."""
    X, raw = planted(50)
    weight = np.random.RandomState(0).rand(50)
    model = cls(max_epochs=0, init_scale=0, solver=solver, random_state=0)
    if "Classifier" in cls.__name__:
        y = (raw > 0).astype(int)
        expected = logit(np.average(y, weights=weight))
        predicted = model.fit(X, y, sample_weight=weight).decision_function(X)
    else:
        expected = np.average(raw, weights=weight)
        predicted = model.fit(X, raw, sample_weight=weight).predict(X)
    assert predicted == pytest.approx(np.full(50, expected), abs=1e-5)
    assert model.n_epochs_ == len(model.history_) == 0
    assert {"epoch", "train_loss", "seconds", "learning_rate"} <= set(model.history_)
    weights = dict(model.module_.named_parameters())
    assert "linear.weight" not in weights or not weights["linear.weight"].any()


def test_multiclass_constant_is_the_shares():
    X, _ = planted(60)
    y = np.repeat([0, 1, 2], [10, 20, 30])
    p = FMClassifier(max_epochs=0, init_scale=0, solver="adagrad").fit(X, y).predict_proba(X)
    assert p == pytest.approx(np.tile([1 / 6, 2 / 6, 3 / 6], (60, 1)), abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("l2", [0.3, 5.0])
def test_without_embeddings_it_is_logistic_regression(n_classes, l2):
    """l2_linear is 1/C, whatever the number of rows; sample weights included."""
    X, raw = planted(400)
    y = np.digitize(raw, np.quantile(raw, np.arange(1, n_classes) / n_classes))
    weight = np.random.RandomState(0).rand(len(y)) * 3
    model = FMClassifier(
        solver="lbfgs", l2_linear=l2, l2_embedding=1e12, init_scale=0, tol=1e-10, max_epochs=2000
    ).fit(X, y, sample_weight=weight)
    logistic = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=5000)
    logistic.fit(X.to_csr(), y, sample_weight=weight)
    assert model.predict_proba(X) == pytest.approx(logistic.predict_proba(X.to_csr()), abs=1e-3)


def test_without_embeddings_it_is_ridge():
    """l2_linear is Ridge's alpha for a target of unit variance."""
    X, raw = planted(400)
    y = 5 + 3 * (raw - raw.mean()) / raw.std()
    model = FMRegressor(
        solver="lbfgs", l2_linear=2.0, l2_embedding=1e12, init_scale=0, tol=1e-10, max_epochs=2000
    ).fit(X, y)
    ridge = Ridge(alpha=2.0).fit(X.to_csr(), y)
    assert model.predict(X) == pytest.approx(ridge.predict(X.to_csr()), abs=1e-3)


def make_ratings(n_rows=300, seed=0):
    rng = np.random.RandomState(seed)
    X = pd.DataFrame({"user": rng.randint(100, 112, n_rows), "item": rng.randint(0, 9, n_rows)})
    p, q = rng.randn(200, 2), rng.randn(9, 2)
    y = 3 + 0.3 * q[X["item"], 0] + (p[X["user"]] * q[X["item"]]).sum(axis=1)
    return X, y + 0.1 * rng.randn(n_rows)


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_unknown_ids_fall_back_to_the_biases(solver):
    """Exactly: bias + b_item for a new user, bias alone when both are new."""
    X, y = make_ratings()
    model = MFRegressor(
        solver=solver, max_epochs=300 if solver == "lbfgs" else 10, tol=1e-3, random_state=0
    ).fit(X, y)
    module, schema = model.module_, model.schema_
    linear = module.linear.weight.detach().numpy()[:, 0].astype(float)
    bias = float(module.bias.detach())
    center, scale = model._fitted.model.loss.center, model._fitted.model.loss.scale
    codes = model.encoder_.transform(pd.DataFrame({"user": [-7, -7], "item": [4, 77]}))
    assert codes.tolist() == [[-1, codes[0, 1]], [-1, -1]]
    b_item = linear[schema.offsets[1] + 1 + codes[0, 1]]
    assert b_item != 0
    expected = center + scale * np.array([bias + b_item, bias])
    predicted = model.predict(pd.DataFrame({"user": [-7, -7], "item": [4, 77]}))
    assert predicted == pytest.approx(expected, rel=1e-6)


def test_every_column_of_mf_is_an_id():
    """Numbers are ids too: relabelling them changes nothing."""
    X, y = make_ratings()
    model = MFRegressor(solver="adagrad", max_epochs=3, random_state=0)
    a = model.fit(X, y).predict(X)
    assert model.schema_.kinds == ("categorical", "categorical")
    b = model.fit(X.astype(float), y).predict(X.astype(float))
    c = model.fit(X.to_numpy(), y).predict(X.to_numpy())
    assert np.array_equal(a, b)
    assert np.array_equal(a, c)
    wide = X.assign(time=np.arange(len(X)))[["time", "item", "user"]]
    d = MFRegressor(user="user", item="item", solver="adagrad", max_epochs=3, random_state=0)
    assert np.array_equal(d.fit(wide, y).predict(wide), a)
    assert d.schema_.names == ("user", "item")


def test_one_column_is_a_bias_model():
    """Its optimum is a ridge regression on the one-hot column: a shrunken mean per id."""
    X, y = make_ratings()
    X, l2 = X[["item"]], 4.0
    model = MFRegressor(solver="lbfgs", l2_linear=l2, l2_embedding=1, tol=1e-10, max_epochs=500)
    predicted = model.fit(X, y).predict(X)
    ridge = Ridge(alpha=l2).fit(OneHotEncoder().fit_transform(X), y)
    assert predicted == pytest.approx(ridge.predict(OneHotEncoder().fit_transform(X)), abs=1e-5)


def test_mf_is_at_a_fixed_point_of_alternating_least_squares():
    """Given the items' vectors, each user's is a ridge regression, solved in closed form."""
    X, y = make_ratings(150)
    lam, mu = 1.5, 2.0
    model = MFRegressor(
        embedding_dim=2,
        solver="lbfgs",
        l2_linear=lam,
        l2_embedding=mu,
        tol=1e-9,
        max_epochs=3000,
        random_state=0,
    ).fit(X, y)
    codes = model.encoder_.transform(X)
    indices = codes.indices
    z = (y - y.mean()) / y.std()
    linear = model.module_.linear.weight.detach().numpy()[:, 0]
    V = model.module_.embedding.weight.detach().numpy()
    bias = float(model.module_.bias.detach())
    rest = z - bias - linear[indices].sum(axis=1)
    for user in np.unique(indices[:, 0]):
        rows = indices[:, 0] == user
        Q = V[indices[rows, 1]]
        p = np.linalg.solve(Q.T @ Q + mu * np.eye(2), Q.T @ rest[rows])
        assert V[user] == pytest.approx(p, abs=1e-4)
        without = (rest[rows] + linear[user] - Q @ V[user]).sum() / (rows.sum() + lam)
        assert linear[user] == pytest.approx(without, abs=1e-4)


def test_mf_is_fm_on_two_fields():
    X, y = make_ratings()
    params = {
        "solver": "adagrad",
        "embedding_dim": 4,
        "init_scale": 0.1,
        "learning_rate": 0.1,
        "max_epochs": 4,
        "random_state": 0,
    }
    codes = MFRegressor(**params).fit(X, y).encoder_.transform(X)
    a, b = MFRegressor(**params).fit(codes, y), FMRegressor(**params).fit(codes, y)
    assert np.allclose(a.predict(codes), b.predict(codes), atol=1e-5)


def test_deepfm_without_hidden_layers_is_fm():
    X, raw = planted(200)
    params = {"solver": "adagrad", "max_epochs": 4, "random_state": 0}
    a = DeepFMRegressor(hidden_layer_sizes=(), **params).fit(X, raw)
    b = FMRegressor(**params).fit(X, raw)
    assert np.allclose(a.predict(X), b.predict(X), atol=1e-6)


@pytest.mark.parametrize("cls", [FMRegressor, DeepFMRegressor, MFRegressor])
def test_predictions_lie_within_y_range(cls):
    X, y = make_ratings()
    y = np.clip(np.round(y), 1, 5)
    model = cls(
        y_range=(0.9, 5.1),
        solver="adagrad",
        learning_rate=0.3,
        max_epochs=30,
        l2_linear=0,
        l2_embedding=0,
        random_state=0,
    ).fit(X, y)
    everyone = pd.DataFrame({"user": np.repeat(range(98, 114), 11), "item": list(range(11)) * 16})
    predicted = model.predict(everyone)
    assert predicted.min() > 0.9
    assert predicted.max() < 5.1
    assert np.ptp(predicted) > 1
    flat = cls(y_range=(0.9, 5.1), max_epochs=0, init_scale=0)
    if cls is DeepFMRegressor:
        flat.set_params(hidden_layer_sizes=())
    assert flat.fit(X, y).predict(X) == pytest.approx(np.full(len(X), y.mean()), abs=1e-5)
