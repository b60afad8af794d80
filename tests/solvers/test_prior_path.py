"""L-BFGS chooses the strength of its priors by validation, and always converges."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_fm import DeepFMClassifier, FieldEncoder, FMClassifier, FMRegressor
from sklearn_fm.solvers.merging import group_equal_features
from sklearn_fm.solvers.prior_path import make_folds


def planted(n_rows, seed, n_ways=0):
    """Steps of a number and a category; or the parity of `n_ways` categories, which FM lacks."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({name: rng.choice(list("abcd"), n_rows) for name in "uvwz"})
    X["age"] = rng.random(n_rows)
    if n_ways:
        bits = sum(X[name].isin(["a", "b"]).astype(int) for name in "uvw"[:n_ways])
        share = np.where(bits % 2, 0.95, 0.05)
    else:
        share = 1 / (1 + np.exp(-(6 * X["age"] - 3 + (X["u"] == "a"))))
    return X, (rng.random(n_rows) < share).astype(int)


# -- folds -------------------------------------------------------------------------------------


def test_folds_divide_rows_and_keep_groups_together():
    rng = np.random.RandomState(0)
    group = rng.randint(0, 60, 200)
    group = np.unique(group, return_inverse=True)[1]
    target = (group % 4 == 0).astype(float)
    folds = make_folds(group, target, 5, rng)
    assert_array_equal(np.sort(np.concatenate([held for _, held in folds])), np.arange(200))
    for train, held in folds:
        assert not set(group[train]) & set(group[held])
        assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(200))
        shares = target[np.unique(group, return_index=True)[1]][np.unique(group[held])]
        assert abs(shares.mean() - 0.25) < 0.1


def test_rows_of_equal_features_are_found_whatever_their_target():
    X = FieldEncoder().fit_transform(pd.DataFrame({"a": list("xyxzy"), "b": list("ppppp")}))
    assert_array_equal(group_equal_features(X), [0, 1, 0, 2, 1])
    assert_array_equal(group_equal_features(X.to_csr()), [0, 1, 0, 2, 1])


# -- choice ------------------------------------------------------------------------------------


def test_a_weak_prior_for_a_strong_effect_and_the_reverse():
    """Priors stayed at their start up to 5,000 rows, whatever the data said."""
    X, y = planted(600, 0, n_ways=2)
    noise = np.random.RandomState(1).randint(0, 2, 600)
    found, lost = (
        FMClassifier(solver="lbfgs", random_state=0).fit(X, target) for target in (y, noise)
    )
    last = found.history_.iloc[-1]
    assert last.l2_embedding < lost.history_.iloc[-1].l2_embedding / 2
    X_test, y_test = planted(1000, 2, n_ways=2)
    assert roc_auc_score(y_test, found.predict_proba(X_test)[:, 1]) > 0.93
    p = lost.predict_proba(X_test)[:, 1]
    assert np.abs(p - noise.mean()).mean() < 0.1


def test_hidden_layers_are_used_where_they_are_needed():
    """A hidden layer was accepted and left at zero on small data: DeepFM was FM to four digits."""
    X, y = planted(1000, 0, n_ways=3)
    X_test, y_test = planted(1000, 1, n_ways=3)
    X, X_test = X.drop(columns="age"), X_test.drop(columns="age")
    plain = FMClassifier(random_state=0).fit(X, y)
    deep = DeepFMClassifier(random_state=0).fit(X, y)
    assert deep.solver_ == "lbfgs"
    assert roc_auc_score(y_test, plain.predict_proba(X_test)[:, 1]) < 0.6
    assert roc_auc_score(y_test, deep.predict_proba(X_test)[:, 1]) > 0.9
    assert "dense" not in deep.solver_reason_


def test_hidden_layers_that_gain_nothing_are_told():
    X, y = planted(300, 0)
    deep = DeepFMClassifier(random_state=0).fit(X, y)
    plain = FMClassifier(random_state=0).fit(X, y)
    assert "leaves the weights of dense layers at 0" in deep.solver_reason_
    assert np.abs(deep.predict_proba(X) - plain.predict_proba(X)).max() < 0.05


def test_bins_resemble_their_neighbours():
    """Twenty bins of three hundred rows were noise; a straight line through scaled numbers won."""
    X, y = planted(300, 0)
    grid = pd.DataFrame({name: ["b"] * 200 for name in "uvwz"} | {"age": np.linspace(0, 1, 200)})
    truth = 1 / (1 + np.exp(-(6 * grid["age"] - 3)))
    smooth = FMClassifier(random_state=0).fit(X, y)
    rough = FMClassifier(random_state=0, l2_linear=1.0, l2_embedding=1e6).fit(X, y)
    error = [np.abs(model.predict_proba(grid)[:, 1] - truth).mean() for model in (smooth, rough)]
    assert error[0] < 0.75 * error[1]


def test_given_precisions_are_kept():
    X, y = planted(300, 0)
    model = FMClassifier(random_state=0, l2_linear=2.0, l2_embedding=50.0).fit(X, y)
    assert set(model.history_.phase) == {"fit"}
    half = FMClassifier(random_state=0, l2_linear=2.0).fit(X, y)
    search = half.history_[half.history_.phase == "search"]
    assert len(search) > 1
    assert "l2_linear" not in search or (search.l2_linear == search.l2_linear.iloc[0]).all()


@pytest.mark.parametrize("params", [{"early_stopping": False}, {}])
def test_few_rows_or_no_validation_keep_the_start(params):
    X, y = planted(300 if params else 40, 0)
    model = FMClassifier(random_state=0, **params).fit(X, y)
    assert set(model.history_.phase) == {"fit"}


def test_rows_held_out_choose():
    X, y = planted(400, 0)
    model = FMClassifier(solver="lbfgs", early_stopping=True, random_state=0).fit(X, y)
    assert model.history_.phase.iloc[-1] == "refit"
    assert model.history_.phase.iloc[0] == "search"


def test_rows_to_watch_do_not_cut_the_fit_short():
    """Patience counted iterations: with an eval_set, 1 of 4 was kept; AUC .706 where .748 was due.

    The rows watched choose the priors instead, and the fit converges at each strength.
    """
    X, y = planted(400, 0)
    valid, test = planted(200, 1), planted(2000, 2)
    watched = FMClassifier(random_state=0).fit(X, y, eval_set=valid)
    plain = FMClassifier(random_state=0).fit(X, y)
    losses = [log_loss(test[1], model.predict_proba(test[0])) for model in (watched, plain)]
    assert losses[0] < losses[1] + 0.01
    given = {"l2_linear": 1.0, "l2_embedding": 20.0, "random_state": 0}
    a = FMClassifier(**given).fit(X, y, eval_set=valid)
    b = FMClassifier(**given).fit(X, y)
    assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    assert a.history_.valid_loss.notna().all()


def test_max_epochs_means_passes_whatever_the_number_of_rows():
    """3 epochs became 3 iterations of L-BFGS on a small table: log loss 1.0958."""
    X, y = planted(300, 0)
    model = FMClassifier(max_epochs=3, random_state=0).fit(X, y)
    assert model.solver_ == "adagrad"
    assert model.solver_reason_ == "max_epochs calls for mini-batches"
    assert log_loss(y, model.predict_proba(X)) < 0.69


def test_interrupted_search(monkeypatch):
    """A Ctrl-C while strengths are tried leaves a model that can predict."""
    from sklearn_fm.solvers import prior_path

    X, y = planted(300, 0)
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return minimize(*args, **kwargs)

    minimize = prior_path.minimize_lbfgs
    monkeypatch.setattr(prior_path, "minimize_lbfgs", interrupted)
    model = FMClassifier(random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert roc_auc_score(y, model.predict_proba(X)[:, 1]) > 0.7
    assert model.n_epochs_ == 0
    assert len(model.history_) == 1


def test_priors_found_serve_partial_fit():
    X, y = planted(600, 0)
    model = FMRegressor(solver="lbfgs", random_state=0).fit(X, y).set_params(solver="auto")
    found = model._fitted.model.priors
    assert found["linear"] == pytest.approx(model.history_.l2_linear.iloc[-1], rel=1e-6)
    model.partial_fit(X, y)
    assert model._fitted.model.priors == found


def test_little_noise_lets_weak_priors_win():
    """Half squared errors were added to nats: with noise .05 the RMSE was twice that of RidgeCV."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 20, (2500, 4))
    X = pd.DataFrame(codes.astype(str), columns=list("abcd"))
    y = rng.normal(size=(4, 20))[np.arange(4), codes].sum(axis=1) + 0.05 * rng.normal(size=2500)
    ids = OneHotEncoder(handle_unknown="ignore").fit(X[:500])
    ridge = RidgeCV(np.logspace(-6, 3, 19)).fit(ids.transform(X[:500]), y[:500])
    model = FMRegressor(random_state=0).fit(X[:500], y[:500])
    error = root_mean_squared_error(y[500:], model.predict(X[500:]))
    assert error < 1.05 * root_mean_squared_error(y[500:], ridge.predict(ids.transform(X[500:])))


@pytest.mark.parametrize("unit", [2.0**-10, 2.0**17])
def test_unit_of_the_weights(unit):
    """Strengths were looked for around a start divided by the mean weight: noise at 1e3."""
    X, y = planted(300, 0)
    plain = FMClassifier(random_state=0).fit(X, y)
    other = FMClassifier(random_state=0).fit(X, y, sample_weight=np.full(300, unit))
    assert np.abs(plain.predict_proba(X) - other.predict_proba(X)).max() < 1e-6


def test_the_seed_does_not_decide_which_prior_wins():
    """Folds were drawn by random_state, so probabilities differed by up to .19 between seeds."""
    X, y = planted(600, 0)
    a, b = (FMClassifier(solver="lbfgs", random_state=seed).fit(X, y) for seed in (0, 1))
    assert np.abs(a.predict_proba(X) - b.predict_proba(X)).max() < 0.02


def test_refit_is_honoured():
    X, y = planted(300, 0)
    params = {"solver": "lbfgs", "early_stopping": True, "validation_fraction": 0.5}
    once = FMClassifier(**params, refit=False, random_state=0).fit(X, y)
    again = FMClassifier(**params, refit=True, random_state=0).fit(X, y)
    assert np.abs(once.predict_proba(X) - again.predict_proba(X)).max() > 0.02


def test_rows_to_watch_choose_nothing_without_early_stopping():
    X, y = planted(300, 0)
    model = FMClassifier(early_stopping=False, solver="lbfgs", random_state=0)
    model.fit(X, y, eval_set=planted(100, 1))
    assert set(model.history_.phase) == {"fit"}
    assert model.history_.valid_loss.notna().all()


def test_precisions_stand_in_their_columns(capsys):
    """With one precision given, refit lines printed the other one in its column."""
    X, y = planted(300, 0)
    model = DeepFMClassifier(l2_linear=2.0, hidden_layer_sizes=(4,), verbose=1, random_state=0)
    history = model.fit(X, y).history_
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(history)
    assert all(len(line.split()) == len(lines[0].split()) for line in lines)
    assert (history.l2_linear == 2.0).all()
    assert history.l2_dense.notna().all()


# -- real data ---------------------------------------------------------------------------------

FOLDER = os.environ.get("SKLEARN_FM_TEST_DATA", "")


@pytest.mark.skipif(
    not Path(FOLDER, "README.md").is_file() or not FOLDER,
    reason="real data: set SKLEARN_FM_TEST_DATA to their folder",
)
def test_small_tables_are_no_worse_than_logistic_regression():
    """1,000 rows of adult: FM .8862/.3552, logistic regression .8953/.3385."""
    table = pd.read_parquet(Path(FOLDER) / "adult" / "adult.parquet")
    y = (table.pop("income").astype(str).str.strip() == ">50K").to_numpy()
    rows = np.random.default_rng(0).permutation(len(table))
    train, test = rows[:1000], rows[-10000:]
    scaled = make_pipeline(
        make_column_transformer(
            (StandardScaler(), make_column_selector(dtype_include="number")),
            (
                OneHotEncoder(handle_unknown="ignore"),
                make_column_selector(dtype_exclude="number"),
            ),
        ),
        LogisticRegressionCV(
            scoring="neg_log_loss", max_iter=2000, l1_ratios=(0,), use_legacy_attributes=False
        ),
    )
    loss = {}
    for name, model in {"FM": FMClassifier(random_state=0), "LR": scaled}.items():
        p = model.fit(table.iloc[train], y[train]).predict_proba(table.iloc[test])[:, 1]
        loss[name] = log_loss(y[test], p)
    assert loss["FM"] < loss["LR"] + 0.002


def test_the_last_fit_stays_with_the_optimum_that_was_validated():
    """Of three classes it went on for 1,000 iterations to another one: log loss .96 became 2.02."""
    rng = np.random.default_rng(0)
    (X, y), (X_test, y_test) = (_three_classes(n_rows, rng) for n_rows in (600, 2000))
    model = FMClassifier(solver="lbfgs", random_state=0).fit(X[:300], y[:300])
    shares = np.tile(np.bincount(y[:300]) / 300, (2000, 1))
    loss = log_loss(y_test, model.predict_proba(X_test))
    assert loss < log_loss(y_test, shares) - 0.05


def _three_classes(n_rows, rng):
    columns = {
        "city": rng.choice(np.array(["rome", "oslo", "bonn", "lima", None], dtype=object), n_rows),
        "job": rng.choice(list("abcdefgh"), n_rows),
        "age": np.where(rng.random(n_rows) < 0.1, np.nan, rng.normal(40, 10, n_rows)),
        "income": rng.lognormal(3, 1, n_rows),
    }
    X = pd.DataFrame(columns)
    raw = [2.0 * (X["city"] == "rome") + (X["job"] < "c"), (X["age"].fillna(40) - 40) / 8]
    raw = np.stack([*raw, 1.5 * (X["income"] > 20)], axis=1)
    label = (raw + rng.gumbel(size=raw.shape)).argmax(axis=1)
    return X, np.array([1, 0, 2])[label]
