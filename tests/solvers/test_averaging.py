"""What is left of a posterior: its mean as one machine against all draws, and a few of them."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss

from sklearn_fm import BagField, FieldEncoder, FMClassifier, FMRegressor
from sklearn_fm.solvers.gibbs import averaging
from sklearn_fm.solvers.gibbs.narrow import MOST_WIDTH, Narrow

QUICK = {"solver": "gibbs", "embedding_dim": 4, "n_sweeps": 80, "random_state": 0}


def make_table(n_rows=1500, seed=0):
    """Ids, bags of them, and a number, with all of which the target has to do."""
    rng = np.random.default_rng(seed)
    user, film = rng.integers(0, 40, n_rows), rng.integers(0, 30, n_rows)
    tags = [tuple(rng.choice(list("abcde"), rng.integers(0, 4), replace=False)) for _ in user]
    x = rng.normal(size=n_rows)
    taste, kind = rng.normal(size=(40, 2)), rng.normal(size=(30, 2))
    raw = 0.7 * (taste[user] * kind[film]).sum(axis=1) + x * taste[user, 0] * 0.5
    raw += [0.4 * len(t) for t in tags]
    table = pd.DataFrame({"user": user.astype(str), "film": film.astype(str), "tags": tags, "x": x})
    return table, raw + 0.5 * rng.normal(size=n_rows)


def make_encoder():
    return FieldEncoder(numeric=["x"], scaler=None, fields={"tags": BagField(pooling="mean")})


X, Y = make_table()
TRAIN, TEST = slice(0, 1000), slice(1000, 1500)
STRANGERS = X[TEST].copy()
STRANGERS.loc[STRANGERS.index % 3 == 0, "user"] = "a stranger"
TARGETS = {
    "numbers": Y,
    "two": np.where(Y > 0, "yes", "no"),
    "three": np.array(list("abc"))[np.digitize(Y, [-0.5, 1])],
    "levels": np.digitize(Y, [-1, 0, 1]).astype(float),
}


def fit(kind, rows=TRAIN, **params):
    cls = FMRegressor if kind in ("numbers", "levels") else FMClassifier
    more = {"loss": "ordinal"} if kind == "levels" else {}
    model = cls(encoder=make_encoder(), **{**QUICK, **more, **params})
    return model.fit(X[rows], TARGETS[kind][rows])


def raw_of_module(model, table):
    """Raw predictions by the torch module."""
    indices, values = model.encoder_.transform(table).indices_and_values()
    values = torch.from_numpy(np.array(values, dtype=np.float32))
    with torch.no_grad():
        return model.module_(torch.from_numpy(np.array(indices)), values).numpy()


def raw_of_draws(model, table):
    """Raw predictions by all draws, (n_rows, n_draws, n_outputs)."""
    parts = model.posterior_.raw(model.encoder_.transform(table))
    return np.concatenate([part.mean for part in parts])


@pytest.fixture(scope="module")
def both():
    """Fits by the same draws, all of them kept or not."""
    found = {}

    def get(kind, **params):
        key = (kind, *params.items())
        if key not in found:
            found[key] = [fit(kind, keep_draws=keep, **params) for keep in (True, False)]
        return found[key]

    return get


# -- narrow ----------------------------------------------------------------------------


def exact(matrices, weight, width):
    """Best approximation of the sum of V V', by its definition: eigenvectors, rows weighted."""
    root = np.sqrt(weight)[:, None]
    gram = sum((root * V) @ (root * V).T for V in matrices)
    square, vectors = np.linalg.eigh(gram)
    best = (vectors[:, -width:] * square[-width:]) @ vectors[:, -width:].T
    return gram, best


def test_few_columns_are_kept_as_they_are():
    rng = np.random.default_rng(0)
    weight, matrices = rng.uniform(0.5, 9, 50), rng.normal(size=(6, 50, 4))
    narrow = Narrow(weight)
    for V in matrices:
        narrow.add(V)
    N = narrow.columns()
    assert N.shape == (50, 24)
    assert_allclose(N @ N.T, sum(V @ V.T for V in matrices), rtol=1e-4, atol=1e-4)
    assert_array_equal(narrow.columns(), N)
    assert Narrow(weight).columns().shape == (50, 0)


def test_many_columns_are_nearly_the_best_approximation():
    rng = np.random.default_rng(0)
    weight = rng.exponential(size=300) + 0.1
    center = 3 * rng.normal(size=(300, 8))
    matrices = center + rng.normal(size=(60, 300, 8)) * rng.exponential(size=(300, 1))
    narrow, root = Narrow(weight), np.sqrt(weight)[:, None]
    for V in matrices:
        narrow.add(V)
    first = Narrow(weight)
    for V in matrices[:30]:
        first.add(V)
    rest = Narrow(weight, first.columns())
    for V in matrices[30:]:
        rest.add(V)
    for width in (16, MOST_WIDTH):
        gram, best = exact(matrices, weight, width)
        for found in (narrow, rest):
            N = root * found.columns()[:, :width]
            assert np.linalg.norm(gram - N @ N.T) < 1.1 * np.linalg.norm(gram - best)


# -- the mean --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETS)
def test_the_module_is_the_mean_of_all_draws(kind, both):
    """Within the error that is told; for rows with strangers too, whose vectors are means."""
    for model in both(kind):
        told, noise = model.compression_, 1.0
        assert told["n_draws"] == 72
        assert told["error"] <= 0.02 or told["width"] == MOST_WIDTH
        if kind == "numbers":
            noise = np.sqrt(np.mean(1 / model.posterior_.values["noise_precision"]))
        for table, more in ((X[TRAIN], 1.05), (X[TEST], 2), (STRANGERS, 3)):
            expected = raw_of_draws(both(kind)[0], table).mean(axis=1)
            apart = raw_of_module(model, table) - expected
            assert np.sqrt(np.mean(apart**2)) <= more * told["error"] * noise + 1e-5
            assert expected.std() > 0.3


def test_slots_that_pair(both):
    for model in both("numbers", pair_slots=True):
        expected = raw_of_draws(both("numbers", pair_slots=True)[0], X).mean(axis=1)
        assert np.sqrt(np.mean((raw_of_module(model, X) - expected) ** 2)) < 0.02


def test_the_width_is_the_least_that_will_do(both, monkeypatch):
    monkeypatch.setattr(averaging, "_MOST_ERROR", 1e-9)
    wide = fit("numbers")
    assert wide.compression_["width"] == MOST_WIDTH
    monkeypatch.setattr(averaging, "_MOST_ERROR", 1.0)
    thin = fit("numbers")
    assert thin.compression_["width"] == 16
    assert wide.compression_["error"] < both("numbers")[1].compression_["error"] + 1e-9
    assert wide.compression_["error"] < thin.compression_["error"]


def test_raw_predictions_are_those_of_the_module(both):
    """So what is added up there adds up to the prediction."""
    model = both("numbers")[1]
    raw = model.target_mean_ + model.target_scale_ * raw_of_module(model, X[TEST])[:, 0]
    assert_allclose(model.predict(X[TEST]), raw, rtol=1e-5, atol=1e-5)


def test_all_draws_predict_where_they_are_kept(both):
    model = both("numbers")[0]
    assert model.posterior_.n_draws == 72
    mean = raw_of_draws(model, STRANGERS).mean(axis=(1, 2))
    expected = model.target_mean_ + model.target_scale_ * mean
    assert_allclose(model.predict(STRANGERS), expected, rtol=1e-6)


# -- the spread ------------------------------------------------------------------------


@pytest.mark.parametrize("table", [X[TEST], STRANGERS], ids=["known", "strangers"])
@pytest.mark.parametrize("kind", ["two", "three", "levels"])
def test_probabilities_are_nearly_those_of_all_draws(kind, table, both):
    predict = "predict_level_proba" if kind == "levels" else "predict_proba"
    every, few = (getattr(model, predict)(table) for model in both(kind))
    assert_allclose(few.sum(axis=1), 1)
    assert np.abs(few - every).mean() < 0.01
    y = TARGETS[kind][TEST]
    losses = [log_loss(y, p, labels=np.unique(y)) for p in (every, few)]
    assert losses[1] == pytest.approx(losses[0], abs=0.005)
    assert_array_equal(both(kind)[1].predict(table)[:5], both(kind)[1].predict(table[:5]))


def test_standard_deviations_are_nearly_those_of_all_draws(both):
    for table in (X[TEST], STRANGERS):
        (_, every), (_, few) = (m.predict(table, return_std=True) for m in both("numbers"))
        assert_allclose(few.mean(), every.mean(), rtol=0.03)
        assert np.abs(few / every - 1).mean() < 0.06
    new = STRANGERS.user.str.startswith("a ").to_numpy()
    assert few[new].mean() > 1.2 * few[~new].mean()


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_hold_what_they_promise(coverage, both):
    for model in both("numbers"):
        low, high = model.predict_interval(X[TEST], coverage).T
        assert ((low < Y[TEST]) & (Y[TEST] < high)).mean() == pytest.approx(coverage, abs=0.06)


def test_predictions_cut_off_are_averages_of_what_was_cut(both):
    """Not averages cut off, which come nearer to the ends."""
    ends = (-0.5, 0.5)
    y = np.clip(Y, *ends)
    params = {**QUICK, "y_range": ends, "encoder": make_encoder()}
    every, few = (
        FMRegressor(**params, keep_draws=keep).fit(X[TRAIN], y[TRAIN]).predict(X[TEST])
        for keep in (True, False)
    )
    assert np.abs(few - every).mean() < 0.01
    assert np.abs(few).max() <= 0.5


def test_how_many_draws_are_left_depends_on_what_they_decide(both):
    assert both("numbers")[1].posterior_.n_draws == 8
    uncertain = fit("two", slice(0, 60))
    assert uncertain.posterior_.n_draws == 32


# -- life ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numbers", "three"])
def test_pickles_are_small_and_predict_the_same(kind, both):
    every, few = both(kind)
    few.predict(X[:3])  # what is made for speed is no part of a pickle
    sizes = [len(pickle.dumps(model.posterior_)) for model in (every, few)]
    assert sizes[1] < sizes[0] * 1.3 * few.posterior_.n_draws / 72
    again = pickle.loads(pickle.dumps(few))
    predict = "predict" if kind == "numbers" else "predict_proba"
    assert_array_equal(getattr(again, predict)(STRANGERS), getattr(few, predict)(STRANGERS))


@pytest.mark.parametrize("part", ["Fitted.loss", "Draws.mean", "GaussianLink.loss", "Mean.raw"])
def test_pickles_of_another_version_are_refused_in_words(part, both):
    """Not by an AttributeError when rows are predicted."""
    model = pickle.loads(pickle.dumps(both("numbers")[1]))
    fitted = model._fitted.model
    draws = fitted.draws
    owner, name = part.split(".")
    owners = {type(o).__name__: o for o in (fitted, draws, draws.mean, draws.link)}
    del vars(owners[owner])[name]
    text = pickle.dumps(model)
    with pytest.raises(ValueError, match=rf"version 0\..*lacks {part}\. Load it with"):
        pickle.loads(text)


@pytest.mark.parametrize("kind", ["numbers", "three"])
def test_a_chain_that_goes_on_is_averaged_as_if_it_had_not_stopped(kind):
    every, few = (
        fit(kind, keep_draws=keep, warm_start=True, n_sweeps=50) for keep in (True, False)
    )
    for n_sweeps in (40, 30):
        for model in (every, few):
            model.set_params(n_sweeps=n_sweeps).fit(X[TRAIN], TARGETS[kind][TRAIN])
    assert few.compression_["n_draws"] == every.posterior_.n_draws == 45 + 40 + 30
    expected = raw_of_draws(every, X[TEST]).mean(axis=1)
    for model in (every, few):
        assert np.sqrt(np.mean((raw_of_module(model, X[TEST]) - expected) ** 2)) < 0.03
    seen = few.posterior_.indices
    expected = every.posterior_.tables[:, :, : len(seen), -1].std(axis=0).T
    assert_allclose(few.linear_std_[seen], expected, rtol=1e-3, atol=1e-5)


def test_keeping_draws_or_not_is_another_posterior():
    """There would be nothing to go on from."""
    model = fit("numbers", warm_start=True, n_sweeps=30)
    model.set_params(keep_draws=True).fit(X[TRAIN], Y[TRAIN])
    assert model.posterior_.n_draws == 27
    model.set_params(keep_draws=False).fit(X[TRAIN], Y[TRAIN])
    assert model.compression_["n_draws"] == 27


@pytest.mark.parametrize("kind", ["numbers", "two"])
def test_a_category_drawn_anew_is_the_same_with_few_draws_as_with_all(kind):
    """A newcomer, by a third of the rows: the mean machine's vector says what draws say."""
    own = (X.user == "7").to_numpy()
    target = TARGETS[kind]
    models = [fit(kind, ~own, keep_draws=keep) for keep in (True, False)]
    known = np.flatnonzero(own)[::3]
    for model in models:
        model.refit_categories(X.iloc[known], target[known], "user")
    every, few = models
    rows = X[own]
    raw = raw_of_draws(every, rows)
    unit = raw.std(axis=1).mean()  # the draws' own means are known to an eighth of it
    for model, most in ((every, 0.25), (few, 0.5)):
        apart = raw_of_module(model, rows) - raw.mean(axis=1)
        assert np.sqrt(np.mean(apart**2)) < most * unit
    others = X[~own]
    assert_allclose(raw_of_module(few, others[:200]), raw_of_module(every, others[:200]), atol=0.1)


def test_means_and_deviations_of_weights_are_those_of_draws(both):
    every, few = both("three")
    draws = every.posterior_
    seen = draws.indices
    for model in (every, few):
        mean = model.module_.linear.weight.detach().numpy()[seen]
        assert_allclose(mean, draws.tables[:, :, : draws.n_blocks, -1].mean(axis=0).T, atol=1e-5)
        std = draws.tables[:, :, : draws.n_blocks, -1].std(axis=0).T
        assert_allclose(model.linear_std_[seen], std, rtol=1e-3, atol=1e-5)
    assert few.schema_.names[0] == draws.prior_names[0] == "user"
    assert 0 not in seen  # the unknown user
    of_mean = draws.tables[:, :, draws.n_blocks, -1].var(axis=0)
    expected = np.sqrt(of_mean + draws.covariances[:, :, 0, -1, -1].mean(axis=0))
    assert_allclose(every.linear_std_[0], expected, rtol=1e-3)
    assert FMRegressor(solver="lbfgs").fit(X[["user"]], Y).linear_std_ is None


def test_other_solvers_have_nothing_to_keep():
    model = FMRegressor(solver="lbfgs", keep_draws=True).fit(X[["user", "film"]], Y)
    assert model.posterior_ is None
    assert model.compression_ is None
