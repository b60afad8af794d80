"""Fits by draws that a descent goes on from: they predict as before, and learn."""

import numpy as np
import pandas as pd
import pytest

from sklearn_fm import FMClassifier, MFRegressor
from sklearn_fm.solvers.gibbs.handover import as_start_of_descent


def make_table(n_rows=400):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({name: rng.integers(0, 12, n_rows).astype(str) for name in ("u", "i")})
    raw = rng.normal(size=12)[X["u"].astype(int)] + rng.normal(size=12)[X["i"].astype(int)]
    return X, raw + 0.5 * rng.normal(size=n_rows)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_those_by_draws(n_classes):
    """A probit's raw predictions, as log-odds, give the same probabilities but for a little."""
    X, raw = make_table()
    y = np.digitize(raw, [0.0] if n_classes == 2 else [-0.7, 0.7])
    model = FMClassifier(random_state=0, embedding_dim=16).fit(X, y)
    assert model.solver_ == "gibbs"
    start = as_start_of_descent(model._fitted.model)
    encoded = model._fitted.encoding.encode(X)
    found = start.loss.predict(start.raw(encoded))
    assert np.abs(found - model.predict_proba(X)).mean() < 0.05
    assert start.draws is None
    assert set(start.priors) == {"linear", "embedding"}
    model.partial_fit(X[:40], y[:40])
    assert model.solver_ == "adagrad"
    assert np.abs(found - model.predict_proba(X)).mean() < 0.1
    model.partial_fit(X[:40], y[:40])  # and so on


def test_ratings_stay_in_their_range():
    """A sigmoid keeps those of a descent there from the start; after draws they are cut off."""
    X, raw = make_table()
    y = np.clip(raw, -1, 1)
    model = MFRegressor(random_state=0, embedding_dim=16, y_range=(-1, 1)).fit(X, y)
    before = model.predict(X)
    newcomer = pd.DataFrame({"u": ["new"], "i": ["3"]})
    model.partial_fit(pd.concat([X[:40], newcomer]), np.append(y[:40], 1.0))
    after = model.predict(pd.concat([X, newcomer]))
    assert after.min() >= -1
    assert after.max() <= 1
    assert np.abs(after[:-1] - before).mean() < 0.1
