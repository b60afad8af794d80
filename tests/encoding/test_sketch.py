"""Quantiles of weighted numbers: any weights, any numbers, any number of chunks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_fm.encoding import FieldEncoder
from sklearn_fm.encoding.bins import BinEncoder
from sklearn_fm.encoding.sketch import Sketch

WEIGHTS = st.sampled_from([1e-300, 1e-30, 1e-17, 1e-9, 0.1, 1.0, 3.0, 7e8, 1e17, 1e30, 2e306])


@given(
    weights=st.lists(WEIGHTS, min_size=1, max_size=60),
    n_bins=st.integers(2, 20),
    seed=st.integers(0, 9),
)
def test_ends_ascend_and_reach_the_last_number(weights, n_bins, seed):
    """Rounding put the end of a bin behind the last number: IndexError in the next line."""
    order = np.random.default_rng(seed).permutation(len(weights))
    sketch = Sketch()
    sketch.add(order.astype(float), np.array(weights))
    ends = sketch.quantiles(n_bins)
    assert (np.diff(ends) > 0).all()
    assert len(ends) <= n_bins
    assert ends[-1] == len(weights) - 1
    encoder = BinEncoder("x", n_bins=n_bins)
    codes = encoder.fit_transform(order.astype(float), np.array(weights))
    assert codes.max() == codes[np.argmax(order)] == len(encoder.upper) - 1
    assert np.isin(encoder.medians, order).all()


@pytest.mark.parametrize("seed", range(20))
def test_weights_over_many_orders_of_magnitude(seed):
    rng = np.random.default_rng(seed)
    numbers, weights = rng.normal(size=3000), 10 ** rng.uniform(-20, 20, 3000)
    sketch = Sketch()
    for chunk in range(3):
        sketch.add(numbers[chunk::3], weights[chunk::3])
    ends = sketch.quantiles(20)
    assert (np.diff(ends) > 0).all()
    assert sketch.numbers[ends[-1]] == numbers.max()


def test_weights_whose_sum_is_infinite_are_refused():
    """Their quantiles were NaN."""
    with pytest.raises(ValueError, match=r"up to 1e\+308 have an infinite sum; expected a finite"):
        FieldEncoder().fit(np.arange(6.0)[:, None], sample_weight=np.full(6, 1e308))
