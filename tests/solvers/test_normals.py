"""Compiled normal numbers against their distribution."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats
from scipy.special import log_ndtr

from sklearn_fm.kernels.blocks.normals import CHUNK, fill_above, fill_normals

N = 64 * CHUNK


def normals(key, n=N):
    out = np.empty(n, dtype=np.float32)
    fill_normals(key, 0, -(-n // CHUNK), out)
    return out


def test_normal_numbers_are_normal():
    z = normals(5).astype(float)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert (z**power).mean() == pytest.approx(moment, abs=4 * np.sqrt(variance / N))
    for c in (3.0, 4.0, -3.0, -4.0):  # tails, whose counts are Poisson
        expected = N * stats.norm.sf(abs(c))
        assert abs(np.sum(z * np.sign(c) > abs(c)) - expected) < 4 * np.sqrt(expected) + 1
    many = np.concatenate([normals(key) for key in range(4)])
    assert stats.kstest(many, "norm").pvalue > 1e-3


def test_normal_numbers_are_independent():
    z = normals(6).astype(float)
    for lag in (1, 4, 16, 64, CHUNK):
        for a, b in ((z[:-lag], z[lag:]), (z[:-lag] ** 2, z[lag:] ** 2)):
            assert abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(N) < 4.5
    assert abs(np.corrcoef(z, normals(7))[0, 1]) * np.sqrt(N) < 4.5


def test_numbers_depend_on_key_and_place_only():
    whole, parts = normals(3), np.empty(N, dtype=np.float32)
    for first, last in ((40, 64), (0, 1), (1, 40)):
        fill_normals(3, first, last, parts)
    assert_array_equal(parts, whole)
    assert_array_equal(normals(3, 48), whole[:48])
    assert not np.any(normals(4, 48) == whole[:48])


@pytest.mark.parametrize("low", [-np.inf, -3.0, 0.0, 0.49, 0.51, 2.0, 8.0])
def test_numbers_above_a_limit(low):
    found = np.empty(20_000)
    fill_above(1, np.full(len(found), low), found)
    assert (found > low).all()
    assert stats.kstest(found, stats.truncnorm(low, np.inf).cdf).pvalue > 1e-3


def test_numbers_above_extreme_limits():
    found = np.empty(20_000)
    fill_above(1, np.full(len(found), 300.0), found)
    share = np.exp(log_ndtr(-found) - log_ndtr(-300.0))
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    odd = np.empty(3)
    fill_above(1, np.array([np.nan, np.inf, 1e8]), odd)
    assert np.isnan(odd[0])
    assert odd[2] == pytest.approx(1e8)
