"""Single categories drawn anew: by the formula, and as a user of the estimator sees it."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_fm import FieldEncoder, FMClassifier, FMRegressor, MFRegressor
from sklearn_fm.solvers.gibbs.refit import Targets, redraw
from sklearn_fm.solvers.gibbs.solver import average_of

FAST = {"solver": "gibbs", "embedding_dim": 3, "n_sweeps": 60, "random_state": 0}


class NoNoise:
    """Draws the mean."""

    def standard_normal(self, shape):
        return np.zeros(shape)


def ratings(n_rows=6000, seed=0):
    rng = np.random.default_rng(seed)
    user, film, day = (rng.integers(0, size, n_rows) for size in (60, 40, 7))
    taste, kind = rng.normal(size=(60, 2)), rng.normal(size=(40, 2))
    y = (taste[user] * kind[film]).sum(axis=1) + 0.1 * day + rng.normal(0, 0.5, n_rows)
    X = pd.DataFrame({"user": user, "film": film, "day": day}).astype(str)
    return X, y


def test_blocks_are_the_conditional_mean_of_each_draw():
    """Written out: the rows of a user as a regression on all that the other fields are."""
    X, y = ratings()
    model = FMRegressor(**FAST, keep_draws=True).fit(X, y)
    posterior = model.posterior_
    rows = np.flatnonzero(X["user"] == "7")
    codes = model.encoder_.transform(X.iloc[rows])
    z = model._fitted.model.loss.encode(y[rows])
    alpha = posterior.values["noise_precision"][:, 0]
    shape = (posterior.n_draws, len(rows))
    given = np.broadcast_to(z, shape)
    targets = Targets(given, given, np.broadcast_to(alpha[:, None], shape))
    average = average_of(model._fitted.model)
    again = redraw(average, codes, "user", targets, NoNoise()).posterior
    index = codes.indices[0, 0]
    prior = posterior.prior_names.index("user")
    for draw in (0, posterior.n_draws - 1):
        table = posterior.tables[draw, 0].astype(float)
        others = table[posterior.positions[codes.indices[:, 1:]]]  # (n_rows, 2, D)
        sums = others[:, :, :-1].sum(axis=1)
        slope = np.column_stack([sums, np.ones(len(rows))])
        rest = posterior.values["bias"][draw, 0] + others[:, :, -1].sum(axis=1)
        rest += (others[:, 0, :-1] * others[:, 1, :-1]).sum(axis=1)
        inverse = np.linalg.inv(posterior.covariances[draw, 0, prior].astype(float))
        mean = table[posterior.n_blocks + prior]
        left = alpha[draw] * slope.T @ slope + inverse
        expected = np.linalg.solve(left, alpha[draw] * slope.T @ (z - rest) + inverse @ mean)
        found = again.tables[draw, 0, again.positions[index]]
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    untouched = np.delete(np.arange(posterior.n_blocks), posterior.positions[index])
    assert_array_equal(again.tables[:, :, untouched], posterior.tables[:, :, untouched])


@pytest.mark.parametrize(
    "model",
    [
        FMRegressor(**FAST),
        MFRegressor(user="user", item="film", noise_field="user", **FAST),
        FMRegressor(loss="ordinal", **FAST),
        FMClassifier(**FAST),
    ],
    ids=["squared", "noise by user", "ordinal", "classes"],
)
def test_a_newcomer_is_known_by_ratings(model):
    """A user left out of fit, then given by half of the ratings, is predicted nearly as others."""
    X, y = ratings()
    if isinstance(model, FMClassifier):
        y = (y > y.mean()).astype(int)
    elif model.loss == "ordinal":
        y = np.clip(y.round(), -2, 2)
    new = (X["user"] == "7").to_numpy()
    model.fit(X[~new], y[~new])
    before = model.score(X[new], y[new])
    others = model.predict(X[~new])
    half = np.flatnonzero(new)[::2]
    rest = np.flatnonzero(new)[1::2]
    assert model.refit_categories(X.iloc[half], y[half], "user") is model
    assert model.score(X.iloc[rest], y[rest]) > before + 0.1
    assert_array_equal(model.predict(X[~new]), others)
    if hasattr(model, "predict_interval") and model.loss == "squared":
        _, known = model.predict(X.iloc[rest], return_std=True)
        _, stranger = model.predict(X.iloc[rest].assign(user="nobody"), return_std=True)
        assert known.mean() < 0.8 * stranger.mean()
    model.set_params(warm_start=True, n_sweeps=5).fit(X, y)  # goes on from the larger table
    assert model.score(X.iloc[rest], y[rest]) > before + 0.1


def test_all_rows_again_change_little():
    """Drawn from the same conditional distribution as in fit, predictions stay what they were."""
    X, y = ratings()
    model = FMRegressor(**{**FAST, "n_sweeps": 200}).fit(X, y)
    rows = (X["user"] == "3").to_numpy()
    before = model.predict(X[rows])
    model.refit_categories(X[rows], y[rows], "user")
    after = model.predict(X[rows])
    assert not np.array_equal(before, after)
    assert np.sqrt(np.mean((before - after) ** 2)) < 0.05


def test_draws_stay_half_as_large_unless_a_newcomer_is_too_wild():
    X, y = ratings(1500)
    model = FMRegressor(**FAST).fit(X, y)
    assert model.posterior_.tables.dtype == np.float16
    seen = model._fitted.model.seen_weight
    for value, dtype in ((3.0, np.float16), (1e7, np.float32)):
        known = model.posterior_
        newcomer = X[:5].assign(user=f"gives {value}")
        model.refit_categories(newcomer, np.full(5, value), "user")
        found = model.posterior_.tables
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        assert_array_equal(found[:, :, : known.n_blocks], known.tables[:, :, : known.n_blocks])
    assert model._fitted.model.seen_weight == seen


def test_what_is_refused():
    X, y = ratings(500)
    model = FMRegressor(**FAST).fit(X, y)
    with pytest.raises(ValueError, match=r"field='price' must be a field.*\['user', 'film'"):
        model.refit_categories(X, y, "price")
    schema = model.schema_
    with pytest.raises(ValueError, match="inconsistent"):
        model.refit_categories(X, y[:-1], "user")
    assert model.schema_ == schema
    by_gradients = FMRegressor(solver="lbfgs").fit(X, y)
    with pytest.raises(ValueError, match=r"needs the draws of solver=.gibbs.*fitted by .lbfgs."):
        by_gradients.refit_categories(X, y, "user")
    shared = FieldEncoder(fields={"film": _shared()}).fit(X.assign(user=X["film"]))
    codes = shared.transform(X.assign(user=X["film"].to_numpy()[::-1]))
    apart = codes[np.asarray(codes)[:, 0] != np.asarray(codes)[:, 1]]
    model = FMRegressor(**FAST).fit(apart, np.arange(len(apart)))
    with pytest.raises(ValueError, match="shares its vocabulary with another field"):
        model.refit_categories(apart, np.arange(len(apart)), "user")


def _shared():
    from sklearn_fm import CategoryField

    return CategoryField(vocabulary="user")
