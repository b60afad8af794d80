"""Noise by groups against densities on grids, planted values and definitions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import digamma, gammaln

from sklearn_fm.solvers.gibbs.convergence import effective_size
from sklearn_fm.solvers.gibbs.noise import (
    Noise,
    draw_by_slice,
    group_categories,
    noise_floor,
    noise_precision,
)


def test_slices_leave_a_density_as_it_is():
    """Two humps, cut off at the ends, from widths that are too small and too large."""
    grid = np.linspace(-1, 4, 20_001)

    def density(x):
        return 5 * np.exp(-((x / 0.4) ** 2) / 2) + np.exp(-((x - 2.5) ** 2) / 2)

    below = np.cumsum(density(grid)) / density(grid).sum()
    for width in (0.3, 20.0):
        rng, x, found = np.random.default_rng(0), 0.0, []
        for _ in range(4000):
            x = draw_by_slice(lambda x: np.log(density(x)), x, rng, width=width, ends=(-1.0, 4.0))
            found.append(x)
        uniform = np.interp(found, grid, below)
        moments = np.column_stack([uniform, uniform**2, (uniform - 0.5) ** 2])
        error = moments.std(axis=0) / np.sqrt(effective_size(moments))
        assert (np.abs(moments.mean(axis=0) - [1 / 2, 1 / 3, 1 / 12]) < 4 * error).all()


def test_slices_end_where_there_is_no_density():
    """Infinite residuals kept them searching for ever; now the chain can say what is wrong."""
    noise = Noise(np.ones(4), {"user": np.array([0, 0, 1, 1])}, {"user": 2})
    with np.errstate(invalid="ignore"):
        for _ in range(3):
            noise.draw(np.array([1.0, np.inf, 1.0, np.nan]), np.random.default_rng(0))


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_the_posterior_of_groups_given_residuals(floor):
    """Precision and shape on a grid, the factors integrated out by hand."""
    rng = np.random.default_rng(0)
    group = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 4])
    e = rng.normal(size=10) * np.array([0.3, 1.0, 3.0, 1.0, 1.0])[group]
    w = rng.uniform(0.5, 2, 10)
    noise = Noise(w, {"user": group}, {"user": 5}, shape=2.0, rate=1.0, floor=floor)
    draws = []
    for _ in range(4000):
        precision = noise.draw(e, rng)
        factors = noise.factors["user"]
        assert_allclose(precision, w * noise.precision * factors[group])
        draws.append([np.log(noise.precision), 1 / noise.shapes["user"], *np.log(factors)])
    draws = np.array(draws[100:])
    log_alpha, v = np.linspace(-5, 4, 300)[:, None, None], np.linspace(0.001, 0.499, 250)[:, None]
    a, rows = 1 / v, np.bincount(group, w, 5)
    s = np.exp(log_alpha) * np.bincount(group, w * (e**2 + floor), 5) / 2
    log_p = a * np.log(a) - gammaln(a) + gammaln(a + rows / 2) - (a + rows / 2) * np.log(a + s)
    log_p = log_p.sum(axis=2) + ((2 + rows.sum() / 2) * log_alpha - np.exp(log_alpha))[:, :, 0]
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    of_factors = digamma(a + rows / 2) - np.log(a + s)
    expected = [
        (p * log_alpha[:, :, 0]).sum(),
        (p * v[:, 0]).sum(),
        *(p[:, :, None] * of_factors).sum(axis=(0, 1)),
    ]
    error = draws.std(axis=0) / np.sqrt(effective_size(draws))
    assert (np.abs(draws.mean(axis=0) - expected) < 4 * error + 1e-3).all()
    assert effective_size(draws).min() > 500


def planted(shape, n_groups=300, n_rows=30, seed=0):
    """Residuals of groups whose precisions have a gamma distribution of a shape; None for one."""
    rng = np.random.default_rng(seed)
    factors = np.ones(n_groups) if shape is None else rng.gamma(shape, 1 / shape, n_groups)
    group = np.repeat(np.arange(n_groups), n_rows)
    e = rng.normal(size=len(group)) * 0.5 / np.sqrt(factors[group])
    return group, e, factors, rng


def test_planted_shapes_are_recovered():
    for shape in (2.5, 5.0):
        group, e, factors, rng = planted(shape)
        noise = Noise(np.ones(len(e)), {"user": group}, {"user": 300})
        draws = []
        for _ in range(150):
            noise.draw(e, rng)
            draws.append([noise.shapes["user"], noise.precision, *noise.factors["user"]])
        found = np.mean(draws[30:], axis=0)
        assert found[0] == pytest.approx(shape, rel=0.25)
        assert found[1] == pytest.approx(4, rel=0.15)
        assert np.corrcoef(np.log(found[2:]), np.log(factors))[0, 1] > 0.85


def test_groups_that_are_alike_become_one():
    """Their precisions are then known as well as one for all would be."""
    group, e, _, rng = planted(None)
    noise = Noise(np.ones(len(e)), {"user": group}, {"user": 300})
    spread = []
    for _ in range(200):
        precision = noise.draw(e, rng)
        spread.append(np.log(precision).std())
    assert np.mean(spread[100:]) < 0.06  # each group alone: sqrt(2 / 30) = 0.26


def test_two_fields_share_the_noise():
    rng = np.random.default_rng(1)
    users, items = rng.integers(0, 100, 8000), rng.integers(0, 60, 8000)
    of_users, of_items = rng.gamma(3, 1 / 3, 100), rng.gamma(6, 1 / 6, 60)
    e = rng.normal(size=8000) / np.sqrt(of_users[users] * of_items[items])
    noise = Noise(np.ones(8000), {"user": users, "item": items}, {"user": 100, "item": 60})
    precision = np.mean([noise.draw(e, rng).copy() for _ in range(120)][20:], axis=0)
    ratio = np.log(precision) - np.log(of_users[users] * of_items[items])
    assert ratio.mean() == pytest.approx(0, abs=0.06)
    assert ratio.std() < 0.25
    assert noise.shapes["user"] < noise.shapes["item"]


def test_a_whole_weight_is_that_many_rows():
    group, e, _, _ = planted(3.0, n_groups=20, n_rows=6)
    w = np.random.default_rng(1).integers(1, 4, len(e))
    found = []
    for weight, copies in ((w.astype(float), 1), (np.ones(w.sum()), w)):
        own, rng = np.repeat(group, copies), np.random.default_rng(2)
        noise = Noise(weight, {"user": own}, {"user": 20}, floor=0.01)
        for _ in range(5):
            noise.draw(np.repeat(e, copies), rng)
        found.append(np.concatenate([noise.factors["user"], [noise.precision]]))
    assert_allclose(*found)


def test_groups_without_any_spread_have_an_end():
    """Users who give one rating to all were given precisions of 10**5, and so was alpha."""
    group, e, _, rng = planted(None, n_groups=200)
    e[group < 60] = 0
    alphas = []
    for floor in (0.0, 0.02):
        noise = Noise(np.ones(len(e)), {"user": group}, {"user": 200}, floor=floor)
        for _ in range(200):
            precision = noise.draw(e, rng)
        alphas.append(noise.precision)
    assert alphas[0] > 1000
    assert alphas[1] < 100
    assert np.median(precision[group < 60]) == pytest.approx(1 / 0.02, rel=0.5)
    assert np.median(precision[group >= 60]) == pytest.approx(4, rel=0.15)


def test_the_floor_of_a_target():
    levels = np.arange(5.0)
    ratings = np.repeat(levels, [1, 2, 4, 6, 3])
    y = (ratings - ratings.mean()) / ratings.std()
    assert noise_floor(y) == pytest.approx(1 / ratings.std() ** 2 / 48)
    assert noise_floor(np.random.default_rng(0).normal(size=1000)) == 1e-4
    assert noise_floor(np.array([-1.0, 1, 1, -1])) == 0.02
    assert noise_floor(np.zeros(3)) == 1e-4


def test_categories_of_few_rows_share_a_group():
    """The unknown category, 0, is never alone, though rows may have it."""
    category = np.repeat([0, 1, 2, 3, 5], [30, 25, 4, 15, 40])
    weight = np.where(category == 3, 2.0, 1.0)
    assert group_categories(category, weight, 7).tolist() == [0, 1, 0, 2, 0, 3, 0]
    assert group_categories(category, np.ones(114), 7).tolist() == [0, 1, 0, 0, 0, 2, 0]


def test_precisions_of_new_rows():
    rng = np.random.default_rng(0)
    groups = {"user": np.array([0, 1, 2, 1]), "item": np.array([1, 1, 0, 0])}
    noise = Noise(np.ones(4), groups, {"user": 3, "item": 2})
    precisions, rows = [], []
    for _ in range(5):
        precisions.append(noise.draw(rng.normal(size=4), rng).copy())
        rows.append(noise.values())
    values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    assert_allclose(noise_precision(values, groups, 4), np.transpose(precisions))
    assert noise_precision(values, {}, 4).shape == (4, 5)


def test_the_noise_of_unseen_categories_is_spread_over_few_draws():
    """Eight draws have its variance, and nearly its quantiles, at all."""
    values = {
        "noise_precision": np.full((8, 1), 2.0),
        "noise_shape_user": np.full((8, 1), 3.0),
        "noise_factor_user": np.ones((8, 2)),
    }
    groups = {"user": np.array([0, 1])}
    new, known = noise_precision(values, groups, 2, frozenset({"user"}))
    assert_array_equal(known, np.full(8, 2.0))
    assert (1 / new).mean() == pytest.approx(3 / 2 / 2)
    quantiles = stats.gamma(3, scale=1 / 3).ppf((np.arange(8) + 0.5) / 8)
    assert_allclose(np.sort(new) / 2, quantiles, rtol=0.1)
    assert not np.array_equal(np.sort(new), new)
    assert_array_equal(noise_precision(values, groups, 2)[0], known)


def test_values_are_taken_over():
    rng = np.random.default_rng(0)
    group = np.array([0, 1, 1])
    known = Noise(np.ones(3), {"user": group}, {"user": 2})
    known.draw(rng.normal(size=3), rng)
    same = Noise(np.ones(3), {"user": group}, {"user": 2})
    same.load_values(known.values())
    assert_array_equal(same.factors["user"], known.factors["user"])
    assert (same.precision, same.shapes) == (known.precision, known.shapes)
    other = Noise(np.ones(3), {"user": group, "item": group}, {"user": 4, "item": 2})
    other.load_values(known.values())
    assert other.factors["user"].tolist() == [1.0] * 4
    assert other.shapes["user"] == known.shapes["user"]
