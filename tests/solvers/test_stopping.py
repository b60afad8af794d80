"""When chains end, and what they warn of, against chains whose errors are known."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.signal import lfilter
from scipy.special import ndtri

from sklearn_fm import FieldArray, FieldSchema, FMClassifier, FMRegressor
from sklearn_fm.solvers.gibbs import chain as gibbs
from sklearn_fm.solvers.gibbs.chain import Schedule, sample
from sklearn_fm.solvers.gibbs.stopping import MOST_SWEEPS, TOLERANCE, UntilSettled, averaging_loss
from sklearn_fm.solvers.gibbs.verdict import find_complaint

NUMBERS = {"bias": np.zeros(1), "noise_precision": np.array([2.0])}


def autoregressive(rho, n, n_rows, seed=0):
    """Chains of mean 0 and variance 1, one per row."""
    noise = np.random.default_rng(seed).normal(size=(n, n_rows)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=0)[:, :, None]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_loss_of_averaging_is_what_averages_cost(rho):
    """Half the precision times the square of how far averages are from 0, where they should be."""
    n = 1_000
    raw = autoregressive(rho, n, 1_000)
    cost = 2.0 / 2 * np.mean(raw.mean(axis=0) ** 2)
    doubt = 1 + 20 / (n * (1 - rho) / (1 + rho))
    assert averaging_loss(raw, NUMBERS) == pytest.approx(cost * doubt, rel=0.2)


def test_the_loss_of_averaging_probabilities():
    """The log loss of an averaged probability beyond that of the right one."""
    p = np.clip(0.3 + 0.05 * autoregressive(0.5, 400, 1_000), 0.01, 0.99)
    average = p.mean(axis=0)
    right = 0.3 * np.log(0.3) + 0.7 * np.log(0.7)
    cost = right - np.mean(0.3 * np.log(average) + 0.7 * np.log(1 - average))
    doubt = 1 + 20 / (400 / 3)
    assert averaging_loss(ndtri(p), {}) == pytest.approx(cost * doubt, rel=0.2)


def test_classes_that_are_two_outputs_are_as_one():
    """Latent targets of two classes differ by a normal number of variance 2."""
    one = autoregressive(0.3, 300, 200)
    two = np.concatenate([one, -one], axis=2) / np.sqrt(2)
    assert averaging_loss(two, {}) == pytest.approx(2 * averaging_loss(one, {}), rel=1e-6)


def test_a_chain_on_its_way_has_not_settled():
    """Its average is off by more than the scatter of its draws tells."""
    n = 200
    still = 0.05 * autoregressive(0.0, n, 300)
    moving = still + np.linspace(-0.5, 0.0, n)[:, None, None]
    assert averaging_loss(still, NUMBERS) < TOLERANCE / 10
    assert averaging_loss(moving, NUMBERS) > 10 * TOLERANCE


def planted(n_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, 12, n_rows), rng.integers(0, 8, n_rows)])
    raw = rng.normal(size=12)[codes[:, 0]] + rng.normal(size=8)[codes[:, 1]]
    return FieldArray(codes, FieldSchema.from_sizes([13, 9])), raw + 0.3 * rng.normal(size=n_rows)


@pytest.mark.parametrize("cls", [FMRegressor, FMClassifier])
def test_a_fit_that_ends_by_itself_is_one_of_so_many_sweeps(cls):
    """No warning, draws from a tenth on, and the reason to read."""
    X, y = planted()
    y = y if cls is FMRegressor else y + np.random.default_rng(1).normal(size=len(y)) > 0
    params = {"solver": "gibbs", "embedding_dim": 2, "random_state": 0}
    model = cls(**params).fit(X, y)
    n = len(model.history_)
    assert 100 <= n < MOST_SWEEPS
    assert model.n_burn_ == n // 10
    assert f"; {n} sweeps were enough" in model.solver_reason_
    seen = model.history_["averaging_loss"]
    n_different = len(np.unique(np.column_stack([X, y]), axis=0))
    assert seen.iloc[-1] <= 1 / n_different
    assert (seen[99:].iloc[:-1] > 1 / n_different).all()
    assert seen[:99].isna().all()
    same = cls(n_sweeps=n, **params).fit(X, y)
    assert_array_equal(same.predict(X), model.predict(X))
    assert "enough" not in same.solver_reason_
    assert "averaging_loss" not in same.history_


def test_what_never_settles_ends_all_the_same(monkeypatch):
    monkeypatch.setattr("sklearn_fm.solvers.gibbs.solver.MOST_SWEEPS", 120)
    monkeypatch.setattr(UntilSettled, "of", lambda n_rows, n_burn: UntilSettled(-1.0, 30))
    X, y = planted(100)
    model = FMRegressor(solver="gibbs", embedding_dim=2, random_state=0).fit(X, y)
    assert len(model.history_) == 120
    assert "; 120 sweeps, after which averaging over" in model.solver_reason_


def test_a_burn_in_that_is_given_does_not_count():
    X, y = planted(100)
    model = FMRegressor(solver="gibbs", embedding_dim=2, n_burn=60, random_state=0).fit(X, y)
    assert len(model.history_) >= 160
    assert model.n_burn_ == 60


def test_a_warm_start_adds_sweeps_until_it_settles_again():
    X, y = planted(100)
    model = FMRegressor(solver="gibbs", embedding_dim=2, warm_start=True, random_state=0).fit(X, y)
    first, burn = len(model.history_), model.n_burn_
    model.fit(X, y)
    assert len(model.history_) >= first + 100
    assert model.n_burn_ == burn


class Counting:
    """A chain whose state is the number of its sweep."""

    def __init__(self):
        self.now, self.block_tables, self.likelihood = 0, [], self
        self.n_rows, self.bias = 1, np.zeros(1)

    def sweep(self, rng):
        self.now += 1

    def raw(self, tables, rows):
        return np.array([[float(self.now % 7)]])

    def values(self):
        return NUMBERS

    def record(self):
        return {"train_loss": 1.0}

    def draw(self):
        return gibbs.Draw(np.float32([self.now]), np.float32([]), {})


@pytest.mark.parametrize("most", [10, 40, 1_000])
def test_draws_of_a_chain_of_unknown_length_are_thinned_to_the_memory(monkeypatch, most):
    """Evenly, from the tenth on, by as little as memory demands."""
    monkeypatch.setattr(gibbs, "DRAWS_MEMORY", 4 * most)
    plan = Schedule(200, n_burn=None, until=UntilSettled(-1.0, 50))
    run = sample(Counting(), plan, np.random.default_rng(0))
    kept = [int(draw.tables[0]) for draw in run.draws]
    (step,) = set(np.diff(kept))
    assert run.n_burn == 20
    assert kept[0] > 20
    assert kept[-1] > 200 - step
    assert 200 / step <= most < 200 / (step / 2) or step == 1


def test_warnings_are_of_chains_that_go_one_way():
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.normal(size=(50, 64))
    walk = np.cumsum(rng.normal(size=(50, 64)), axis=0)
    one_way = noise + np.linspace(0, 5, 50)[:, None]
    assert find_complaint(noise, NUMBERS) is None
    assert find_complaint(walk, NUMBERS) is None
    assert "the chain went one way" in find_complaint(one_way, NUMBERS)
    assert find_complaint(1e-3 * one_way, NUMBERS) is None  # by so little that it costs nothing
    assert "3 sweep(s) after the burn-in are too few" in find_complaint(noise[:3], NUMBERS)
