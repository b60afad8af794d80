"""Estimators fitted by "gibbs": planted models, calibration, laws, and what they refuse."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import norm
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from sklearn_fm import (
    DCNClassifier,
    FieldArray,
    FieldEncoder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)


def planted(n_rows, seed=0, sizes=(40, 30, 10), dim=2):
    """Codes and raw predictions of a random factorization machine of about unit variance."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, size, n_rows) for size in sizes])
    e = np.stack(
        [rng.normal(size=(s, dim))[c] * 0.6 for s, c in zip(sizes, codes.T, strict=True)], axis=1
    )
    raw = ((e.sum(axis=1) ** 2 - (e**2).sum(axis=1)) / 2).sum(axis=1)
    for size, column in zip(sizes, codes.T, strict=True):
        raw += 0.3 * rng.normal(size=size)[column]
    return FieldArray(codes, FieldSchema.from_sizes([s + 1 for s in sizes])), raw, rng


@pytest.fixture(scope="module")
def regression():
    """Rows, targets of noise .5 in units of 3, and a model fitted to the first 1500."""
    X, raw, rng = planted(4500)
    y = 7 + 3 * (raw + 0.5 * rng.normal(size=len(raw)))
    model = FMRegressor(solver="gibbs", embedding_dim=2, n_sweeps=150, random_state=0)
    return X, y, model.fit(X[:1500], y[:1500])


def rmse(model, X, y):
    return float(np.sqrt(np.mean((model.predict(X) - y) ** 2)))


def test_planted_regression_is_recovered(regression):
    X, y, model = regression
    linear = Ridge().fit(X[:1500].to_csr(), y[:1500])
    by_lines = np.sqrt(np.mean((linear.predict(X[1500:].to_csr()) - y[1500:]) ** 2))
    assert rmse(model, X[1500:], y[1500:]) < 1.2 * 1.5  # the oracle has 1.5
    assert by_lines > 1.5 * 1.5
    assert model.compression_["n_draws"] == 135
    assert model.n_epochs_ == len(model.history_) == 150
    assert list(model.convergence_.columns) == ["r_hat", "effective_size"]


def test_the_noise_is_learned(regression):
    _, y, model = regression
    noise = 1 / np.sqrt(model.posterior_.values["noise_precision"])
    assert noise.mean() * y[:1500].std() == pytest.approx(1.5, rel=0.1)


def test_intervals_hold_what_they_promise(regression):
    X, y, model = regression
    for coverage in (0.5, 0.8, 0.95):
        low, high = model.predict_interval(X[1500:], coverage).T
        assert ((low < y[1500:]) & (y[1500:] < high)).mean() == pytest.approx(coverage, abs=0.03)
    default = model.predict_interval(X[:5])
    assert_array_equal(default, model.predict_interval(X[:5], 0.9))
    with pytest.raises(ValueError, match=r"coverage must lie between 0 and 1, got 1\.5"):
        model.predict_interval(X, 1.5)


def test_standard_deviations_are_those_of_the_errors(regression):
    X, y, model = regression
    mean, std = model.predict(X[1500:], return_std=True)
    assert_array_equal(mean, model.predict(X[1500:]))
    assert np.sqrt(np.mean(((y[1500:] - mean) / std) ** 2)) == pytest.approx(1, abs=0.07)
    low, high = model.predict_interval(X[1500:], 2 * norm.cdf(1) - 1).T
    # not quite: the noise of a rare category is not known exactly, which makes tails long
    assert_allclose((high - low) / 2, std, rtol=0.1)


def test_what_is_unknown_is_uncertain(regression):
    X, _, model = regression
    codes = np.array(X[:50])
    codes[:, 0] = -1
    codes[25:, 1] = -1
    _, known = model.predict(X[:50], return_std=True)
    _, unknown = model.predict(FieldArray(codes, X.schema), return_std=True)
    assert (unknown > known).all()
    assert unknown[25:].mean() > unknown[:25].mean() > 1.1 * known.mean()


def test_planted_classes_are_recovered():
    X, raw, rng = planted(4000, seed=3)
    p = norm.cdf(2 * raw)
    y = np.where(rng.random(len(raw)) < p, "yes", "no")
    model = FMClassifier(solver="gibbs", embedding_dim=2, n_sweeps=120, random_state=0)
    found = model.fit(X[:3000], y[:3000]).predict_proba(X[3000:])
    assert found.sum(axis=1) == pytest.approx(np.ones(1000))
    oracle = log_loss(y[3000:], np.column_stack([1 - p, p])[3000:], labels=["no", "yes"])
    chance = np.log(2)
    assert log_loss(y[3000:], found, labels=model.classes_) < oracle + 0.3 * (chance - oracle)


def test_planted_classes_of_three():
    X, raw, rng = planted(2500, seed=4)
    _, other, _ = planted(2500, seed=4)
    z = np.column_stack([2 * raw, -2 * other, np.zeros(2500)]) + rng.normal(size=(2500, 3))
    y = np.array(["a", "b", "c"])[z.argmax(axis=1)]
    model = FMClassifier(solver="gibbs", embedding_dim=2, n_sweeps=60, random_state=0)
    p = model.fit(X[:2000], y[:2000]).predict_proba(X[2000:])
    assert p.shape == (500, 3)
    assert p.sum(axis=1) == pytest.approx(np.ones(500))
    oracle = np.array(["a", "b", "c"])[
        np.column_stack([2 * raw, -2 * other, np.zeros(2500)])[2000:].argmax(axis=1)
    ]
    assert model.score(X[2000:], y[2000:]) > np.mean(oracle == y[2000:]) - 0.1
    assert_array_equal(model.predict(X[:9]), model.classes_[model.predict_proba(X[:9]).argmax(1)])


# -- ordered levels --------------------------------------------------------------------


@pytest.fixture(scope="module")
def stars():
    """Ratings of uneven distances, as a table, and a model of their levels."""
    X, raw, rng = planted(1500, seed=5, sizes=(30, 20))
    z = raw + 0.4 * rng.normal(size=len(raw))
    y = np.array([1.0, 2.0, 2.5, 5.0])[np.digitize(z, [-1, 0.2, 0.5])]
    table = pd.DataFrame(np.asarray(X).astype(int), columns=["user", "item"])
    model = MFRegressor(loss="ordinal", embedding_dim=2, n_sweeps=100, random_state=0)
    return table, y, model.fit(table[:1200], y[:1200])


def test_levels(stars):
    X, y, model = stars
    assert model.solver_ == "gibbs"
    assert model.levels_.tolist() == [1, 2, 2.5, 5]
    p = model.predict_level_proba(X[1200:])
    assert p.sum(axis=1) == pytest.approx(np.ones(300))
    mean, std = model.predict(X[1200:], return_std=True)
    assert_allclose(mean, p @ model.levels_)
    assert_allclose(std, np.sqrt(p @ model.levels_**2 - mean**2))
    levels = np.searchsorted(model.levels_, y[1200:])
    shares = np.bincount(np.searchsorted(model.levels_, y[:1200])) / 1200
    assert -np.log(p[np.arange(300), levels]).mean() < 0.8 * -np.log(shares[levels]).mean()
    assert p.mean(axis=0) == pytest.approx(np.bincount(levels) / 300, abs=0.06)
    interval = model.predict_interval(X[1200:], 0.8)
    assert np.isin(interval, model.levels_).all()
    assert ((interval[:, 0] <= y[1200:]) & (y[1200:] <= interval[:, 1])).mean() > 0.75


def test_a_level_that_is_new_is_refused(stars):
    X, y, model = stars
    again = pickle.loads(pickle.dumps(model)).set_params(warm_start=True, n_sweeps=20)
    with pytest.raises(ValueError, match=r"levels that it did not have before, such as 3;"):
        again.fit(X[:200], np.where(y[:200] == 2, 3, y[:200]))
    assert_array_equal(again.predict(X), model.predict(X))  # it is what it was


def test_probabilities_are_those_of_levels_only(regression):
    with pytest.raises(ValueError, match="Only loss='ordinal' has levels"):
        regression[2].predict_level_proba(regression[0])
    X = pd.DataFrame({"user": range(200), "item": range(200)})
    with pytest.raises(ValueError, match=r"takes \d to 100 levels, but y has 200 different values"):
        MFRegressor(loss="ordinal").fit(X, np.arange(200.0))
    with pytest.raises(ValueError, match=r"loss='ordinal'.* needs? solver='gibbs'"):
        MFRegressor(loss="ordinal", solver="als").fit(X, np.arange(200.0) % 5)


# -- noise -----------------------------------------------------------------------------


def test_two_levels_of_noise_are_learned():
    X, raw, rng = planted(1500, seed=6, sizes=(2, 30, 20))
    noise = np.array([0.1, 1.0])[np.asarray(X)[:, 0].astype(int)]
    y = 10 * (raw + noise * rng.normal(size=1500))
    model = FMRegressor(
        solver="gibbs", noise_field="x0", embedding_dim=2, n_sweeps=100, random_state=0
    ).fit(X, y)
    values = model.posterior_.values
    found = y.std() / np.sqrt((values["noise_precision"] * values["noise_factor_x0"]).mean(axis=0))
    assert found[1:] == pytest.approx([1, 10], rel=0.25)
    assert model.noise_fields_ == ("x0",)
    assert "noise_shape_x0" in model.history_
    _, std = model.predict(X, return_std=True)
    quiet = np.asarray(X)[:, 0] == 0
    assert std[~quiet].mean() > 3 * std[quiet].mean()
    unknown = np.array(X[:20])
    unknown[:, 0] = -1
    _, std_unknown = model.predict(FieldArray(unknown, X.schema), return_std=True)
    assert (std_unknown > std[quiet].max()).all()
    low, high = model.predict_interval(X, 0.8).T
    assert ((low < y) & (y < high))[quiet].mean() == pytest.approx(0.8, abs=0.08)


def test_by_default_noise_is_as_different_as_the_data_say():
    """Users of different noise are told apart and predicted better; others no worse."""
    X, raw, rng = planted(4000, seed=7)
    users = np.asarray(X)[:, 0].astype(int)
    of_users = 1 / np.sqrt(rng.gamma(2.5, 1 / 2.5, 40))
    errors = {}
    for kind, deviation in (("users", 2 * of_users[users]), ("one", np.full(4000, 1.0))):
        y = raw + deviation * rng.normal(size=4000)
        for noise_field in ("auto", None):
            model = FMRegressor(**{**QUICK, "n_sweeps": 80}, noise_field=noise_field)
            model.fit(X[:3000], y[:3000])
            errors[kind, noise_field] = rmse(model, X[3000:], raw[3000:])
            assert model.noise_fields_ == (("x0", "x1", "x2") if noise_field else ())
            if noise_field is None:
                continue
            shape = model.history_["noise_shape_x0"][20:].median()
            assert shape < 8 if kind == "users" else shape > 20
            if kind == "users":
                _, std = model.predict(X[3000:], return_std=True)
                assert np.corrcoef(std, deviation[3000:])[0, 1] > 0.9
    assert errors["users", "auto"] < 0.9 * errors["users", None]
    assert errors["one", "auto"] < 1.05 * errors["one", None]


def test_categories_of_few_rows_have_the_noise_of_unknown_ones():
    X, raw, rng = planted(600, seed=8, sizes=(5, 6, 4))
    codes = np.array(X)
    codes[:15, 0] = 0  # has 15 rows, less than twenty
    codes[15:, 0] = np.maximum(codes[15:, 0], 1)
    X = FieldArray(codes, X.schema)
    model = FMRegressor(**QUICK, noise_field=["x0"]).fit(X, raw + rng.normal(size=600))
    assert model.posterior_.values["noise_factor_x0"].shape[1] == 5
    link, values = model._fitted.model.draws.link, model.posterior_.values
    unknown = codes[:2].copy()
    unknown[1, 0] = -1
    rare, new = link.noise_variance(FieldArray(unknown, X.schema), values)
    assert_array_equal(rare, new)
    frequent = link.noise_variance(X[20:21], values)
    assert not np.array_equal(frequent, rare[None])


def test_where_there_is_one_noise():
    """Columns of a sparse matrix are no fields, levels have none, other solvers know none."""
    X, raw, _ = planted(300)
    assert FMRegressor(**QUICK).fit(X.to_csr(), raw).noise_fields_ == ()
    assert FMRegressor(**QUICK, loss="ordinal").fit(X, raw.round()).noise_fields_ == ()
    assert FMRegressor(solver="als").fit(X, raw).noise_fields_ == ()
    assert FMRegressor(**QUICK, noise_field=[]).fit(X, raw).noise_fields_ == ()


def test_noise_fields_that_are_refused():
    X, raw, _ = planted(60)
    with pytest.raises(ValueError, match="noise_field='user' is no field of X"):
        FMRegressor(solver="gibbs", noise_field="user").fit(X, raw)
    with pytest.raises(ValueError, match="noise_field='user' is no field of X"):
        FMRegressor(solver="gibbs", noise_field="user").fit(X.to_csr(), raw)
    numbers = FieldArray(np.asarray(X)[:, :2], FieldSchema.from_sizes([41, 1]))
    with pytest.raises(ValueError, match=r"must hold one category per row; it is a numeric"):
        FMRegressor(solver="gibbs", noise_field="x1").fit(numbers, raw)


# -- laws ------------------------------------------------------------------------------

QUICK = {"solver": "gibbs", "embedding_dim": 2, "n_sweeps": 30, "random_state": 0}


def test_warm_start_adds_sweeps():
    X, raw, _ = planted(200)
    model = FMRegressor(**QUICK, warm_start=True, keep_draws=True).fit(X, raw)
    first = model.posterior_
    model.set_params(n_sweeps=20).fit(X, raw)
    assert model.posterior_.n_draws == 27 + 20  # the burn-in is not paid again
    assert_array_equal(model.posterior_.tables[:27], first.tables)
    assert model.history_["epoch"].tolist() == list(range(1, 51))
    other = X[50:], raw[50:]  # draws of other rows' posterior start anew
    model.fit(*other)
    assert model.posterior_.n_draws == 18
    assert len(model.history_) == 20


@pytest.mark.parametrize("verbose", [1, 2])
def test_what_is_printed_is_bounded(verbose, capsys):
    """With 60 fields a line had 63 numbers: one for the scale of each."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (60, 60)).astype(str)
    model = FMRegressor(**QUICK, verbose=verbose).fit(X, rng.normal(size=60))
    printed = capsys.readouterr()
    assert max(map(len, printed.out.splitlines()), default=0) < 100
    assert "scale" not in printed.out + printed.err
    assert len(model.history_.filter(like="scale_").columns) == 60


@pytest.mark.parametrize("solver", ["adagrad", "als", "gibbs"])
def test_histories_of_all_solvers_begin_alike(solver):
    """The column of "gibbs" was called sweep, and its seconds came after the scales."""
    X, raw, _ = planted(200)
    params = {"early_stopping": False, "max_epochs": 50, "tol": 1.0}
    history = FMRegressor(**{**QUICK, **params, "solver": solver}).fit(X, raw).history_
    shared = [name for name in history if name in ("epoch", "phase", "train_loss", "seconds")]
    assert shared[0] == "epoch"
    assert [name for name in shared if name != "phase"] == ["epoch", "train_loss", "seconds"]
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))


@pytest.mark.parametrize("change", [{"hyperprior": "wishart"}, {"l2_linear": 1, "l2_embedding": 1}])
def test_a_warm_start_with_another_prior(change):
    X, raw, _ = planted(200)
    model = FMRegressor(**QUICK, warm_start=True).fit(X, raw)
    model.set_params(**change).fit(X, raw)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(
    "change",
    [{"noise_field": "x0"}, {"hyperprior": "wishart"}, {"l2_linear": 1.0, "l2_embedding": 3.0}],
    ids=["noise", "hyperprior", "penalties"],
)
def test_a_warm_start_with_another_posterior_keeps_no_draws(change):
    """Draws of two posteriors stood side by side, or failed to."""
    X, raw, _ = planted(200)
    model = FMRegressor(**QUICK, warm_start=True).fit(X, raw)
    n_sweeps, n_draws = len(model.history_), model.compression_["n_draws"]
    model.fit(X, raw)
    assert len(model.history_) == 2 * n_sweeps
    model.set_params(**change).fit(X, raw)
    assert len(model.history_) == n_sweeps
    assert model.compression_["n_draws"] == n_draws
    assert np.isfinite(model.predict(X, return_std=True)[1]).all()


def test_a_warm_start_with_vectors_of_another_width_is_refused():
    X, raw, _ = planted(200)
    model = FMRegressor(**QUICK, warm_start=True).fit(X, raw)
    before = model.predict(X)
    width = model.embedding_dim
    with pytest.raises(ValueError, match=rf"embedding_dim={width}, but embedding_dim is now 9"):
        model.set_params(embedding_dim=9).fit(X, raw)
    assert np.array_equal(model.predict(X), before)


def test_als_is_a_start_for_gibbs_and_no_other_solver_is():
    X, raw, _ = planted(200)
    model = FMRegressor(**{**QUICK, "solver": "als"}, warm_start=True).fit(X, raw)
    sampled = model.set_params(solver="gibbs").fit(X, raw)
    assert sampled.posterior_ is not None
    assert sampled.score(X, raw) > 0.3
    with pytest.raises(ValueError, match="cannot go on from solver='gibbs' with 'adagrad'"):
        sampled.set_params(solver="adagrad").fit(X, raw)


@pytest.mark.parametrize("labels", ["numbers", "two", "three", "ordinal"])
def test_round_trips_and_threads_do_not_change_a_bit(labels):
    X, raw, _ = planted(150)
    if labels in ("numbers", "ordinal"):
        y = raw if labels == "numbers" else np.digitize(raw, [-1, 0, 1]).astype(float)
        loss = "squared" if labels == "numbers" else "ordinal"
        model, names = FMRegressor(loss=loss, **QUICK), ["predict", "predict_interval"]
    else:
        y = np.digitize(raw, [0] if labels == "two" else [-0.5, 0.5])
        model, names = FMClassifier(**QUICK), ["predict_proba", "decision_function"]
    model.fit(X, y)
    again = [
        pickle.loads(pickle.dumps(model)),
        clone(model).fit(X, y),
        clone(model).set_params(n_jobs=2).fit(X, y),
    ]
    for other in again:
        for name in names:
            assert_array_equal(getattr(model, name)(X), getattr(other, name)(X))
    assert not np.array_equal(
        model.predict(X) if names[0] == "predict" else model.predict_proba(X),
        getattr(clone(model).set_params(random_state=1).fit(X, y), names[0])(X),
    )


def test_a_weight_of_two_is_about_the_row_twice():
    X, raw, rng = planted(300, sizes=(10, 8))
    y = raw + 0.3 * rng.normal(size=300)
    twice = np.arange(300) % 3 == 0
    rows = np.repeat(np.arange(300), 1 + twice)
    params = {**QUICK, "n_sweeps": 300}
    a = FMRegressor(**params).fit(X, y, sample_weight=1.0 + twice)
    b = FMRegressor(**params).fit(X[rows], y[rows])
    plain = FMRegressor(**params).fit(X, y)
    apart = np.abs(a.predict(X) - b.predict(X)).mean()
    assert apart < 0.03
    assert np.abs(plain.predict(X) - b.predict(X)).mean() > 1.3 * apart
    labels = y > 0
    c = FMClassifier(**params).fit(X, labels, sample_weight=1.0 + twice)
    d = FMClassifier(**params).fit(X[rows], labels[rows])
    assert np.abs(c.predict_proba(X) - d.predict_proba(X)).mean() < 0.03


def test_class_weight_moves_probabilities():
    X, raw, rng = planted(300, sizes=(10, 8))
    y = raw + rng.normal(size=300) > 1
    plain = FMClassifier(**QUICK).fit(X, y).predict_proba(X)[:, 1].mean()
    balanced = FMClassifier(**QUICK, class_weight="balanced").fit(X, y).predict_proba(X)[:, 1]
    assert plain == pytest.approx(y.mean(), abs=0.05)
    assert balanced.mean() > plain + 0.08


def test_predictions_are_cut_to_the_range():
    X, raw, _ = planted(200, sizes=(10, 8))
    y = np.clip(raw, -0.4, 0.4)
    model = FMRegressor(**QUICK, y_range=(-0.4, 0.4)).fit(X, y)
    mean, _ = model.predict(X, return_std=True)
    assert (np.abs(mean) <= 0.4 + 1e-12).all()
    assert np.abs(mean).max() > 0.3
    assert_array_equal(mean, model.predict(X))
    interval = model.predict_interval(X, 0.99)
    assert interval.min() == -0.4
    assert interval.max() == 0.4


@pytest.mark.parametrize("kind", ["table", "csr"])
def test_containers(kind):
    X, raw, _ = planted(200)
    X = (
        pd.DataFrame(np.asarray(X).astype(int), columns=list("abc"))
        if kind == "table"
        else X.to_csr()
    )
    X = X.astype(str) if kind == "table" else X
    model = FMRegressor(**QUICK).fit(X, raw)
    assert model.score(X, raw) > 0.5
    assert model.predict_interval(X).shape == (200, 2)


def test_in_pipelines_and_searches():
    X, raw, _ = planted(150, sizes=(10, 8))
    table = pd.DataFrame(np.asarray(X), columns=["a", "b"]).astype(str)
    pipe = make_pipeline(FieldEncoder(), FMRegressor(**QUICK)).fit(table, raw)
    _, std = pipe.predict(table, return_std=True)
    assert (std > 0).all()
    search = GridSearchCV(
        FMRegressor(**QUICK), {"hyperprior": ["half-t", "wishart"]}, cv=2, n_jobs=2
    ).fit(table, raw)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(table).shape == (150,)
    out = cross_val_predict(FMClassifier(**QUICK), table, raw > 0, cv=2, method="predict_proba")
    assert out.shape == (150, 2)


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (8,)}, "solver='gibbs' fits no hidden layers"),
        ({"l1_linear": 1.0}, "solver='gibbs' has no l1_linear"),
        ({"early_stopping": True}, "solver='gibbs' needs no early stopping"),
        ({"l2_linear": 1.0}, "takes l2_linear and l2_embedding both as numbers"),
        ({"n_burn": 30}, "n_burn=30 must be less than n_sweeps=30"),
        ({"solver": "als", "noise_field": "user"}, "gibbs"),
    ],
)
def test_refused_combinations(options, message):
    X = pd.DataFrame({"user": np.arange(60) % 7, "item": np.arange(60) % 5})
    with pytest.raises(ValueError, match=message):
        MFRegressor(**{**QUICK, **options}).fit(X, np.arange(60.0))


def test_refused_by_parameter_validation():
    X, raw, _ = planted(60)
    with pytest.raises(ValueError, match="The 'solver' parameter of DCNClassifier must be"):
        DCNClassifier(solver="gibbs").fit(X, raw > 0)
    for options in ({"n_sweeps": 0}, {"thin": 0}, {"hyperprior": "t"}, {"hyperprior_scale": 0}):
        with pytest.raises(ValueError, match=f"The '{next(iter(options))}' parameter"):
            FMRegressor(**{**QUICK, **options}).fit(X, raw)


def test_rows_to_watch_are_refused():
    X, raw, _ = planted(60)
    with pytest.raises(ValueError, match=r"solver='gibbs' needs no rows to watch.*no eval_set"):
        FMRegressor(**QUICK).fit(X, raw, eval_set=(X, raw))


def test_other_solvers_have_no_distribution():
    X, raw, _ = planted(60)
    model = FMRegressor(solver="lbfgs", random_state=0).fit(X, raw)
    for ask in (lambda: model.predict(X, return_std=True), lambda: model.predict_interval(X)):
        with pytest.raises(ValueError, match=r"needs the draws of solver='gibbs'.*by 'lbfgs'"):
            ask()
    assert model.posterior_ is None


def test_a_chain_of_next_to_nothing_warns():
    X, raw, _ = planted(500)
    model = FMRegressor(**{**QUICK, "n_sweeps": 6})
    model.fit(X, raw)  # no reason yet to think that anything is wrong
    with pytest.warns(UserWarning, match=r"3 sweep\(s\) after the burn-in are too few"):
        model.set_params(n_sweeps=3).fit(X, raw)


def test_warm_starts_draw_new_numbers():
    """With an integer random_state each one repeated the numbers of the one before."""
    X, raw, rng = planted(300)
    raw += rng.normal(size=300)  # without noise its precision climbs in all runs
    model = FMRegressor(**QUICK, warm_start=True, keep_draws=True).fit(X, raw)
    runs = []
    for _ in range(2):
        before = model.posterior_.n_draws
        model.fit(X, raw)
        runs.append(model.posterior_.values["noise_precision"][before:, 0])
    assert abs(np.corrcoef(*np.diff(runs))[0, 1]) < 0.6  # of steps: runs may drift alike
    again = FMRegressor(**QUICK, warm_start=True, keep_draws=True)
    for _ in range(3):
        again.fit(X, raw)
    assert np.array_equal(again.predict(X), model.predict(X))


def test_a_warm_start_with_another_loss_is_refused():
    X, raw, _ = planted(200)
    model = FMRegressor(**QUICK, warm_start=True).fit(X, raw.round())
    with pytest.raises(ValueError, match="cannot go on with loss='ordinal'"):
        model.set_params(loss="ordinal").fit(X, raw.round())
    with pytest.raises(ValueError, match="takes no noise_field"):
        FMRegressor(loss="ordinal", noise_field="x0", **QUICK).fit(X, raw.round())


def test_a_short_warm_start_needs_no_burn_in():
    """It failed where n_burn was larger than the sweeps asked for."""
    X, raw, _ = planted(200)
    model = FMRegressor(**{**QUICK, "n_burn": 20}, warm_start=True).fit(X, raw)
    model.set_params(n_sweeps=10).fit(X, raw)
    assert len(model.history_) == 40
    assert model.compression_["n_draws"] == 20


def test_a_ctrl_c_while_burning_in_keeps_no_makeshift_draw(monkeypatch):
    """Draws of the burn-in counted once the chain went on."""
    from sklearn_fm.solvers.gibbs import chain as gibbs

    X, raw, _ = planted(200)
    sweep, calls = gibbs.Chain.sweep, []

    def interrupted(chain, rng):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        sweep(chain, rng)

    monkeypatch.setattr(gibbs.Chain, "sweep", interrupted)
    at = 1
    model = FMRegressor(**{**QUICK, "n_burn": 20}, warm_start=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, raw)
    assert not hasattr(model, "posterior_")  # nothing was drawn, nothing is published
    calls.clear()
    at = 11
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, raw)
    assert len(model.history_) == 10
    assert np.isfinite(model.predict(X)).all()
    at = 0
    model.fit(X, raw)  # 30 more
    assert len(model.history_) == 40
    assert model.compression_["n_draws"] == 20
    calls.clear()
    at = 1
    before = model.predict(X)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, raw)
    assert np.array_equal(model.predict(X), before)


@pytest.mark.parametrize(
    ("solver", "params"),
    [
        ("gibbs", {"hyperprior_scale": 1e9}),
        ("als", {"l2_linear": 0.0, "l2_embedding": 0.0, "embedding_dim": 16}),
    ],
)
def test_numbers_that_run_away_are_an_error(solver, params):
    X, raw, _ = planted(30)
    huge = {"gibbs": 1e150, "als": 1.0}[solver]
    X = np.column_stack([huge * np.arange(30.0), np.zeros(30), np.ones(30)])
    matrix = sparse.csr_array(X)
    model = FMRegressor(**{**QUICK, "solver": solver, **params})
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="infinite or NaN"):
        model.fit(matrix, raw[:30] * 0 + np.arange(30) % 2)


@pytest.mark.parametrize("weights", ["tiny", "one huge"])
def test_weights_that_run_away_are_an_error(weights):
    """Not NaN in what was fitted, nor numpy's own error."""
    X, raw, _ = planted(90)
    weight = np.full(90, 1e-300)
    cls, y = FMClassifier, np.digitize(raw, [-0.5, 0.5])
    if weights == "one huge":
        weight, cls, y = np.r_[1e12, np.ones(89)], FMRegressor, raw
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="sample weights"):
        cls(**QUICK).fit(X, y, sample_weight=weight)


@pytest.mark.parametrize(("first", "then"), [("adagrad", "als"), ("als", "adagrad")])
def test_a_warm_start_does_not_change_what_y_range_means(first, then):
    """A sigmoid was put on what als had fitted without, or left away from what needs it."""
    X, raw, _ = planted(200)
    ends = (raw.min() - 1, raw.max() + 1)
    model = FMRegressor(solver=first, y_range=ends, max_epochs=20, warm_start=True).fit(X, raw)
    before = model.predict(X)
    with pytest.raises(ValueError, match=f"cannot go on from solver='{first}' with '{then}'"):
        model.set_params(solver=then).fit(X, raw)
    assert np.array_equal(model.predict(X), before)


def test_a_warm_start_too_short_for_a_draw_keeps_those_before():
    """The state at its end counted as a draw, and then all draws were taken for makeshift."""
    X, raw, _ = planted(200)
    model = FMRegressor(**{**QUICK, "thin": 3}, warm_start=True).fit(X, raw)
    n_draws = model.compression_["n_draws"]
    for _ in range(2):
        model.set_params(n_sweeps=1).fit(X, raw)
        assert model.compression_["n_draws"] == n_draws
    model.set_params(n_sweeps=3).fit(X, raw)
    assert model.compression_["n_draws"] == n_draws + 1
