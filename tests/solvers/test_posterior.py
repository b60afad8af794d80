"""Predictions by draws: the kernel, its slow twin, the module, and brute force."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from reference import largest_normal
from scipy import sparse
from scipy.special import ndtr

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM
from sklearn_fm.solvers.blocks.design import make_design
from sklearn_fm.solvers.gibbs import posterior as posteriors
from sklearn_fm.solvers.gibbs import predictive
from sklearn_fm.solvers.gibbs.chain import Draw
from sklearn_fm.solvers.gibbs.posterior import Posterior, Raw, prior_of_index
from sklearn_fm.solvers.gibbs.predictive import (
    clipped_means,
    multinomial_probabilities,
    normal_quantiles,
    ordinal_probabilities,
    probit_probabilities,
)

K = 3
SCHEMA = FieldSchema(
    names=("user", "item", "seen", "tags", "price"),
    kinds=("categorical", "categorical", "bag", "bag", "numeric"),
    vocabulary_sizes=(8, 9, 9, 6, 1),
    slots=(1, 1, 2, 3, 1),
    poolings=("sum", "sum", "weighted", "mean", "sum"),
    vocabularies=("user", "item", "item", "tags", "price"),
    linear=(True, True, False, True, True),
)


def make_X(n, high, seed=0):
    """Codes below `high` (and the vocabularies' ends), some bags empty, in the columns' order."""
    rng = np.random.default_rng(seed)
    first = SCHEMA.first_columns
    codes = np.full((n, SCHEMA.n_columns), -2.0)
    for row in codes:
        row[first[0]] = rng.integers(-1 if high > 3 else 0, min(high, 7))
        item, *seen = rng.choice(min(high, 8), 3, replace=False)
        row[first[1]] = item
        m = rng.integers(0, 3)
        row[first[2] : first[2] + m] = seen[:m]
        row[first[2] + 2 : first[2] + 4] = rng.uniform(-1, 1, 2)
        m = rng.integers(0, 4)
        row[first[3] : first[3] + m] = rng.choice(min(high, 5), m, replace=False)
        row[first[4]] = rng.normal()
    return FieldArray(codes, SCHEMA)


def make_posterior(X, n_draws=4, n_outputs=1, seed=0, pair_slots=False):
    """Random draws for a design of these rows."""
    rng = np.random.default_rng(seed)
    design = make_design(X, pair_slots=pair_slots)
    n_priors, D = len(design.prior_names), K + 1
    draws = []
    for _ in range(n_draws):
        tables = rng.normal(size=(n_outputs, design.n_blocks + n_priors, D)).astype(np.float32)
        root = rng.normal(size=(n_outputs, n_priors, D, D)) / 2
        covariances = (root @ root.swapaxes(2, 3)).astype(np.float32)
        values = {"bias": rng.normal(size=n_outputs), "noise_precision": rng.uniform(1, 2, 1)}
        draws.append(Draw(tables, covariances, values))
    schema = X.schema if isinstance(X, FieldArray) else FieldSchema.from_sizes([1] * X.shape[1])
    return Posterior.of_draws(draws, design, schema, pair_slots=pair_slots)


def read_all(posterior, X, n_threads=1):
    """Means and variances of all rows, (n_rows, n_draws, n_outputs)."""
    parts = list(posterior.raw(X, n_threads))
    assert [part.rows.start for part in parts[1:]] == [part.rows.stop for part in parts[:-1]]
    return (
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.variance for part in parts]),
    )


TRAIN, TEST = make_X(40, high=3), make_X(30, high=99, seed=1)


def tables_of_all(posterior, draw, c=0):
    """Table of all indices in one draw, the priors' means where nothing was drawn."""
    return posterior.tables[draw, c][posterior.positions]


@pytest.mark.parametrize("pair_slots", [False, True])
def test_a_draw_predicts_as_the_module_does(pair_slots):
    posterior = make_posterior(TRAIN, n_outputs=2, pair_slots=pair_slots)
    mean, _ = read_all(posterior, TEST)
    assert mean.shape == (30, 4, 2)
    indices, values = TEST.indices_and_values()
    module = FM(SCHEMA, K, pair_slots=pair_slots).double()
    for draw in range(4):
        for c in range(2):
            table = torch.from_numpy(tables_of_all(posterior, draw, c).astype(np.float64))
            with torch.no_grad():
                module.embedding.weight.copy_(table[:, :K])
                module.linear.weight.copy_(table[:, K:])
                module.bias.fill_(float(posterior.values["bias"][draw, c]))
                raw = module(torch.from_numpy(indices), torch.from_numpy(values).double())
            assert_allclose(mean[:, draw, c], raw[:, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("few", [0, 64])
@pytest.mark.parametrize("kind", ["fields", "slots", "matrix"])
def test_the_kernels_are_their_slow_twin(kind, few, monkeypatch):
    """One takes draw by draw in float64, the other few draws side by side in float32."""
    monkeypatch.setattr(posteriors, "_FEW", few)
    if kind == "matrix":
        train = sparse.csr_array(sparse.random(30, 12, 0.2, random_state=0))
        test = sparse.csr_array(sparse.random(20, 12, 0.4, random_state=1))
        train = train[:, :12] * (np.arange(12) < 8)
        train = sparse.csr_array(train)
        train.eliminate_zeros()
    else:
        train, test = TRAIN, TEST
    posterior = make_posterior(train, pair_slots=kind == "slots")
    mean, variance = read_all(posterior, test)
    assert (variance > 0).any()
    monkeypatch.setattr(posteriors, "HAS_KERNELS", False)
    slow_mean, slow_variance = read_all(posterior, test)
    tolerance = 1e-5 if few else 1e-9
    assert_allclose(mean, slow_mean, rtol=tolerance, atol=tolerance)
    assert_allclose(variance, slow_variance, rtol=1e-5 if few else 1e-6)  # products of float32


def test_rows_come_in_pieces_and_by_threads(monkeypatch):
    posterior = make_posterior(TRAIN)
    mean, variance = read_all(posterior, TEST)
    monkeypatch.setattr(posteriors, "_PIECE_NUMBERS", 8 * 7)
    assert len(list(posterior.raw(TEST))) == 5
    pieces = read_all(posterior, TEST)
    assert_array_equal(pieces[0], mean)
    assert_array_equal(pieces[1], variance)
    many = TEST[np.tile(np.arange(30), 1200)]
    monkeypatch.setattr(posteriors, "_PIECE_NUMBERS", 2**22)
    for a, b in zip(read_all(posterior, many), read_all(posterior, many, 2), strict=True):
        assert_array_equal(a, b)
    assert read_all(posterior, TEST[:1], 2)[0].shape == (1, 4, 1)
    assert list(posterior.raw(TEST[:0])) == []


@pytest.mark.parametrize("kind", ["fields", "matrix"])
def test_memory_is_bounded_for_wide_rows(kind, monkeypatch):
    """Pieces were sized by draws alone: with 2 draws of 100 slots a million rows, which have some
    30 bytes a slot, went by at once."""
    monkeypatch.setattr(posteriors, "_PIECE_NUMBERS", 2**14)
    n_slots, n_rows = 64, 4_000
    X = FieldArray(np.zeros((n_rows, n_slots)), FieldSchema.from_sizes([3] * n_slots))
    X = X.to_csr() if kind == "matrix" else X
    posterior = make_posterior(X[:10], n_draws=2)
    for _ in posterior.raw(X[:300]):  # compiles
        pass
    tracemalloc.start()
    for _ in posterior.raw(X):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**14 < 30 * n_slots * n_rows


def simulate_raw(posterior, row, n, rng):
    """Raw predictions of one row with every unknown entry's block drawn from its prior."""
    entries = posterior.entries(row)
    own = [j for j in range(len(entries.values)) if entries.values[j] != 0]
    blocks = {}
    for j in own:
        at = entries.positions[j]
        mean = posterior.tables[0, 0, at].astype(float)
        if at >= posterior.n_blocks:
            cov = posterior.covariances[0, 0, at - posterior.n_blocks].astype(float)
            blocks[j] = rng.multivariate_normal(mean, cov, n, method="svd")
        else:
            blocks[j] = np.tile(mean, (n, 1))
    raw = np.full(n, posterior.values["bias"][0, 0])
    embeddings = {}
    for j in own:
        raw += entries.linear_values[j] * blocks[j][:, -1]
        f = entries.fields[j]
        embeddings[f] = embeddings.get(f, 0) + entries.values[j] * blocks[j][:, :-1]
    fields = list(embeddings)
    for g in range(len(fields)):
        for f in range(g):
            raw += (embeddings[fields[f]] * embeddings[fields[g]]).sum(axis=1)
    return raw, sum(entries.positions[j] >= posterior.n_blocks for j in own)


ROWS = {
    "all known": ([0, 1, 2, -2, 0.5, 0, 0, 1, -2, 1.3], 0),
    "a user": ([6, 1, 2, -2, 0.5, 0, 0, 1, -2, 1.3], 1),
    "a user and an item": ([6, 7, 2, -2, 0.5, 0, 0, 1, -2, 1.3], 2),
    "in a bag": ([0, 1, 2, -2, 0.5, 0, 0, 4, -2, 1.3], 1),
    "two in a bag": ([0, 1, 2, -2, 0.5, 0, 3, 4, 1, 1.3], 2),
    "without a linear term": ([0, 1, 7, -2, 0.5, 0, 0, 1, -2, 1.3], 1),
    "everywhere": ([6, 7, 6, 5, 0.5, -1, 3, 4, 1, 1.3], 6),
}


@pytest.mark.parametrize("pair_slots", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_variance_of_unknown_blocks_by_brute_force(name, pair_slots):
    codes, n_unknown = ROWS[name]
    row = FieldArray(np.array([codes], dtype=float), SCHEMA)
    posterior = make_posterior(TRAIN, n_draws=1, pair_slots=pair_slots)
    mean, variance = read_all(posterior, row)
    n = 40_000
    raw, found = simulate_raw(posterior, row, n, np.random.default_rng(0))
    assert found == n_unknown
    deviation = raw.std()
    assert mean[0, 0, 0] == pytest.approx(raw.mean(), abs=5 * deviation / np.sqrt(n) + 1e-6)
    error = np.sqrt(((raw - raw.mean()) ** 2).var() / n)
    assert variance[0, 0, 0] == pytest.approx(deviation**2, abs=5 * error + 1e-9)


# -- distributions ---------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 8])
def test_few_draws_spread_as_all_do_on_average(n):
    """The variance over few of many numbers is too small, as every textbook says."""
    rng = np.random.default_rng(0)
    mean, center = rng.normal(size=(40_000, n, 2)) * [1, 3], rng.normal(size=(40_000, 2))
    few = Raw(slice(0, 40_000), mean, np.zeros_like(mean)).around(center).stretched().mean
    assert_allclose(few.mean(axis=1), center, atol=1e-12)
    assert_allclose(few.var(axis=1).mean(axis=0), [1, 9], rtol=0.02)


def test_all_draws_and_one_draw_are_not_stretched():
    mean = np.random.default_rng(0).normal(size=(9, 4, 1))
    every = Raw(slice(0, 9), mean, np.zeros_like(mean))
    assert every.stretched() is every
    one = Raw(slice(0, 9), mean[:, :1], np.zeros((9, 1, 1))).around(mean[:, 1])
    assert_array_equal(one.stretched().mean[:, 0], mean[:, 1])


def some_raw(n_outputs, n_draws=6, n_rows=5, seed=0):
    rng = np.random.default_rng(seed)
    shape = (n_rows, n_draws, n_outputs)
    return Raw(slice(0, n_rows), 1.5 * rng.normal(size=shape), rng.uniform(0, 2, shape))


def latent_targets(raw, n, seed=0):
    """Latent targets of the first row, all draws alike likely, (n_draws, n, n_outputs)."""
    noise = np.random.default_rng(seed).normal(size=(raw.mean.shape[1], n, raw.mean.shape[2]))
    return raw.mean[0][:, None] + noise * np.sqrt(1 + raw.variance[0])[:, None]


def test_probit_probabilities():
    raw = some_raw(1)
    simulated = (latent_targets(raw, 50_000) > 0).mean()
    assert probit_probabilities(raw)[0] == pytest.approx(simulated, abs=0.004)
    sure = Raw(raw.rows, raw.mean, np.zeros_like(raw.variance))
    assert_allclose(probit_probabilities(sure), ndtr(raw.mean[:, :, 0]).mean(axis=1))


@pytest.mark.parametrize("n_classes", [3, 5])
def test_multinomial_probabilities(n_classes):
    raw = some_raw(n_classes)
    p = multinomial_probabilities(raw)
    assert_allclose(p.sum(axis=1), 1)
    label = latent_targets(raw, 50_000).argmax(axis=2)
    simulated = np.bincount(label.ravel(), minlength=n_classes) / label.size
    assert_allclose(p[0], simulated, atol=0.006)


def test_two_classes_of_a_multinomial_are_a_probit():
    """P(z_1 > z_0) = Phi((raw_1 - raw_0) / sqrt(s_0^2 + s_1^2))."""
    raw = some_raw(2)
    scale = np.sqrt(2 + raw.variance.sum(axis=2))
    expected = ndtr((raw.mean[:, :, 1] - raw.mean[:, :, 0]) / scale).mean(axis=1)
    assert_allclose(multinomial_probabilities(raw)[:, 1], expected, atol=1e-9)


CLASSES = {  # number of classes, spread of their means, spread of their variances
    "three": (3, 1.0, 2.0),
    "a known and an unknown class": (2, 3.0, 1e3),
    "scales of all sizes": (5, 5.0, 1e3),
    "many alike": (15, 0.1, 0.0),
    "far from each other": (8, 30.0, 1.0),
}


@pytest.mark.parametrize("has_kernels", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_probabilities_of_many_classes(name, has_kernels, monkeypatch):
    """They cost the square of the number of classes (42 s for 200 rows of 100) and were wrong by
    up to .003 where the variances of classes differed. By their definition now, to 1e-7."""
    monkeypatch.setattr(predictive, "HAS_KERNELS", has_kernels)
    n_classes, spread, of_variances = CLASSES[name]
    rng = np.random.default_rng(0)
    shape = (1, 2, n_classes)
    mean, variance = spread * rng.normal(size=shape), of_variances * rng.exponential(size=shape)
    p = multinomial_probabilities(Raw(slice(0, 1), mean + 1e6, variance))
    of_draws = [largest_normal(mean[0, d], np.sqrt(1 + variance[0, d])) for d in range(2)]
    assert_allclose(p[0], np.mean(of_draws, axis=0), atol=1e-7)


def test_a_thousand_classes():
    """Alike they are as probable as each other, and one that stands out has the rest of 1."""
    mean = np.zeros((2, 1, 1000))
    mean[1, 0, 7] = 40.0
    p = multinomial_probabilities(Raw(slice(0, 2), mean, np.zeros_like(mean)))
    assert_allclose(p[0], 1e-3, rtol=1e-12)
    assert_allclose(p[1], np.arange(1000) == 7, atol=1e-12)


@pytest.mark.parametrize("has_kernels", [True, False])
def test_what_is_beyond_numbers_has_no_probabilities(has_kernels, monkeypatch):
    """NaN or infinity, as of a matrix that holds 1e308, must not become an index of a table; what
    is merely large is no trouble."""
    monkeypatch.setattr(predictive, "HAS_KERNELS", has_kernels)
    raw = some_raw(3)
    expected = multinomial_probabilities(raw)
    raw.mean[1, 0, 2], raw.variance[3, 1, 0], raw.mean[4] = np.nan, np.inf, -np.inf
    raw.mean[2, :, 1], raw.variance[2, :, 0] = 1e200, 1e300
    p = multinomial_probabilities(raw)
    assert_array_equal(np.isnan(p).all(axis=1), [False, True, False, True, True])
    assert_array_equal(p[0], expected[0])
    assert_allclose(p[2], [0, 1, 0], atol=1e-12)


def test_ordinal_probabilities():
    raw = some_raw(1)
    cuts = np.cumsum(np.random.default_rng(1).uniform(0, 1, (6, 3)), axis=1)
    p = ordinal_probabilities(raw, cuts)
    assert p.shape == (5, 4)
    assert_allclose(p.sum(axis=1), 1)
    z = latent_targets(raw, 50_000)[:, :, 0]
    level = (z[:, :, None] > cuts[:, None]).sum(axis=2)
    assert_allclose(p[0], np.bincount(level.ravel(), minlength=4) / level.size, atol=0.004)


def test_means_of_what_is_cut_off():
    """By Monte Carlo; exactly where no weight is unknown; within the ends, however far."""
    raw = some_raw(1)
    known = raw._replace(variance=np.zeros_like(raw.variance))
    exact = np.clip(raw.mean[:, :, 0], -0.5, 0.7).mean(axis=1)
    assert_allclose(clipped_means(known, -0.5, 0.7), exact, rtol=1e-12)
    u = np.random.default_rng(0).normal(size=200_000)
    x = raw.mean + np.sqrt(raw.variance) * u
    expected = np.clip(x, -0.5, 0.7).mean(axis=(1, 2))
    assert np.abs(expected - exact).max() > 0.02
    assert_allclose(clipped_means(raw, -0.5, 0.7), expected, atol=0.005)
    far = raw._replace(mean=np.array([-1e9, 1e9]).reshape(2, 1, 1), variance=np.ones((2, 1, 1)))
    assert_allclose(clipped_means(far, -0.5, 0.7), [-0.5, 0.7], rtol=1e-12)


@pytest.mark.parametrize("has_kernels", [True, False])
@pytest.mark.parametrize("level", [0.001, 0.05, 0.5, 0.9, 0.999])
def test_quantiles_of_mixtures(level, has_kernels, monkeypatch):
    """Against a dense grid; one of the mixtures has two far peaks."""
    monkeypatch.setattr(predictive, "HAS_KERNELS", has_kernels)
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=(3, 7)), rng.uniform(0.2, 2, (3, 7))
    mean[1], deviation[1] = [-50, -50, -50, 50, 50, 50, 50], 0.01
    mean[2], deviation[2] = 3.0, 1e-4
    found = normal_quantiles(mean, deviation, level)
    for row in range(3):
        grid = np.linspace(mean[row].min() - 9, mean[row].max() + 9, 200_001)
        if row:
            ends = found[row] - 0.1, found[row] + 0.1
            grid = np.linspace(*ends, 200_001)
        below = ndtr((grid[:, None] - mean[row]) / deviation[row]).mean(axis=1)
        expected = grid[np.searchsorted(below, level)]
        assert found[row] == pytest.approx(expected, abs=1.5 * (grid[1] - grid[0]))


# -- growing ---------------------------------------------------------------------------


def test_more_draws_are_appended():
    a, b = make_posterior(TRAIN, 4), make_posterior(TRAIN, 2, seed=7)
    both = a.extended(b)
    assert both.n_draws == 6
    assert_array_equal(both.tables, np.concatenate([a.tables, b.tables]))
    assert_array_equal(both.covariances, np.concatenate([a.covariances, b.covariances]))
    assert_array_equal(both.values["bias"], np.concatenate([a.values["bias"], b.values["bias"]]))
    mean, _ = read_all(both, TEST)
    assert_array_equal(mean[:, :4], read_all(a, TEST)[0])
    assert_array_equal(mean[:, 4:], read_all(b, TEST)[0])


def test_more_draws_than_memory_are_thinned(monkeypatch):
    a, b = make_posterior(TRAIN, 4), make_posterior(TRAIN, 4, seed=7)
    monkeypatch.setattr(posteriors, "DRAWS_MEMORY", a.tables.nbytes - 1)
    both = a.extended(b)
    assert both.n_draws == len(both.values["bias"]) == len(both.covariances) == 4
    assert_array_equal(both.tables[2:], b.tables[::2])


@pytest.mark.parametrize("has_kernels", [True, False])
def test_draws_in_half_the_memory(has_kernels, monkeypatch):
    monkeypatch.setattr(posteriors, "HAS_KERNELS", has_kernels)
    posterior = make_posterior(TRAIN)
    half = posterior.halved()
    assert half.tables.dtype == np.float16
    rounded = replace(posterior, tables=half.tables.astype(np.float32))
    for found, expected in zip(read_all(half, TEST), read_all(rounded, TEST), strict=True):
        assert_array_equal(found, expected)
    assert_allclose(read_all(half, TEST)[0], read_all(posterior, TEST)[0], atol=0.02)


@pytest.mark.parametrize("factor", [1e5, 1e-5, np.nan])
def test_blocks_that_half_the_memory_cannot_hold(factor):
    """Of one index whose multipliers are very small or very large."""
    posterior = make_posterior(TRAIN)
    posterior.tables[:, :, 3] *= factor
    assert posterior.halved() is posterior


def test_growing_vocabularies_change_no_prediction():
    posterior = make_posterior(TRAIN)
    assert posterior.grown(SCHEMA) is posterior
    grown = replace(SCHEMA, vocabulary_sizes=(11, 12, 12, 6, 1))
    larger = posterior.grown(grown)
    a, b = read_all(posterior, TEST), read_all(larger, FieldArray(np.asarray(TEST), grown))
    assert_array_equal(a[0], b[0])
    assert_array_equal(a[1], b[1])
    new = np.array(TEST[:1])
    new[0, 0] = 9  # a user whom only the grown vocabulary has
    mean, variance = read_all(larger, FieldArray(new, grown))
    old = np.array(TEST[:1])
    old[0, 0] = 6
    expected = read_all(posterior, FieldArray(old, SCHEMA))
    assert_array_equal(mean, expected[0])
    assert_array_equal(variance, expected[1])


def test_priors_of_indices():
    names = ("user", "item", "tags", "price")
    expected = np.repeat([0, 1, 2, 3], [8, 9, 6, 1])
    assert_array_equal(prior_of_index(SCHEMA, names), expected)
    matrix = FieldSchema.from_sizes([1] * 5)
    assert_array_equal(prior_of_index(matrix, ("all",)), np.zeros(5))
    lone = FieldSchema(("all",), ("categorical",), (4,))
    assert_array_equal(prior_of_index(lone, ("all",)), np.zeros(4))
