"""Whole numbers beyond 2**53: what float64 makes one stays apart in bins, at knots and on waves."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from sklearn_fm import FieldEncoder
from sklearn_fm.encoding.exact import as_distances, find_origin
from sklearn_fm.encoding.numbers import as_numbers

STARTS = [2**60, 2**63 + 10, -(2**63), 2**64 - 200, -(2**60)]


def tables(numbers):
    dtype = np.int64 if numbers[-1] < 2**63 else np.uint64
    array = np.array(numbers, dtype=dtype)
    yield pd.DataFrame({"x": array})
    yield pl.DataFrame({"x": array})
    yield pa.table({"x": array})
    yield {"x": numbers}
    yield pd.DataFrame({"x": pd.array(array, dtype=str(pd.Series(array).convert_dtypes().dtype))})
    yield pd.DataFrame({"x": np.array(numbers, dtype=object)})


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("scaler", ["bins", "uniform_bins", "piecewise", "periodic"])
def test_neighbours_stay_apart(start, scaler):
    """A hundred numbers near 2**60 fell into two bins."""
    steps = np.random.default_rng(0).permutation(100)
    numbers = [start + int(step) for step in steps]
    small = FieldEncoder(numeric=["x"], scaler=scaler).fit(pd.DataFrame({"x": steps}))
    codes = small.transform(pd.DataFrame({"x": steps}))
    for X in tables(numbers):
        encoder = FieldEncoder(numeric=["x"], scaler=scaler)
        assert_array_equal(encoder.fit_transform(X), codes)
        for other in tables(numbers):
            assert_array_equal(encoder.transform(other), codes)
        few = encoder.transform({"x": numbers[:3]})
        assert_array_equal(few, codes[:3])
        back = encoder.inverse_transform(codes).ravel()
        assert np.abs(back - float(start)).max() < 2048


def test_chunks_count_from_the_first_s_origin():
    numbers = 2**60 + np.arange(100)
    encoder = FieldEncoder(numeric=["x"])
    for chunk in (numbers[50:], numbers[:50]):
        encoder.partial_fit(pd.DataFrame({"x": chunk}), keep_codes=False)
    whole = FieldEncoder(numeric=["x"]).fit(pd.DataFrame({"x": numbers}))
    table = pd.DataFrame({"x": numbers})
    assert_array_equal(encoder.transform(table), whole.transform(table))
    far = pd.DataFrame({"x": [0, -(2**63), 2**63 - 1]})
    assert encoder.transform(far).ravel().tolist() == [0, 0, 19]


def test_what_float64_holds_counts_from_nought():
    for values in (np.arange(9), np.array([2.0**60, 1.0]), np.array(["a"], dtype=object)):
        assert find_origin(values) == 0
    assert find_origin(pd.array([None, None], dtype="Int64")) == 0
    assert find_origin(pd.array([2**60, None], dtype="Int64")) == 2**60
    cells = np.array([2**60 + 1, None, 2**60 + 2, 2**70], dtype=object)
    assert_array_equal(
        as_distances(cells, as_numbers(cells, "x"), 2**60), [1, np.nan, 2, float(2**70 - 2**60)]
    )
    mixed = np.array([2**60, 1.5, Decimal(2**60), None], dtype=object)
    assert_array_equal(
        as_distances(mixed, as_numbers(mixed, "x"), 2**60), [0, 1.5 - 2.0**60, 0, np.nan]
    )
