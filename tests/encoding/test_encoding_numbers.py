"""One column of numbers: exact weighted bins, scalers, refusals."""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    QuantileTransformer,
    StandardScaler,
)

from sklearn_fm.encoding import FieldEncoder
from sklearn_fm.encoding.bins import BinEncoder
from sklearn_fm.encoding.numbers import NumberEncoder, as_numbers


def slow_bins(numbers, n_bins):
    """Fill one bin after the other until it holds its share of what is left."""
    rest = sorted(numbers[~np.isnan(numbers)])
    if len(set(rest)) <= n_bins:
        return sorted(set(rest))
    upper = []
    for left in range(n_bins, 0, -1):
        share, inside = Fraction(len(rest), left), 0
        while rest and (inside < share or rest[0] == upper[-1]):
            if inside == 0:
                upper.append(rest[0])
            upper[-1] = rest.pop(0)
            inside += 1
    return upper


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


columns = st.lists(
    st.tuples(st.one_of(st.integers(-8, 8).map(float), st.just(np.nan)), st.integers(1, 5)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(rows=columns, n_bins=st.integers(2, 8), seed=st.integers(0, 9))
def test_bins_are_the_definition_with_weights_as_repetition(rows, n_bins, seed):
    numbers, weights = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    repeated = np.repeat(numbers, weights.astype(int))
    order = np.random.default_rng(seed).permutation(len(numbers))
    encoder, plain, shuffled = (BinEncoder("x", n_bins=n_bins) for _ in range(3))
    codes = encoder.fit_transform(numbers, weights)
    plain.fit_transform(repeated)
    shuffled.fit_transform(numbers[order], weights[order])

    assert encoder.upper.tolist() == slow_bins(repeated, n_bins)
    for other in (plain, shuffled):
        assert_array_equal(encoder.upper, other.upper)
        assert_array_equal(encoder.medians, other.medians)
        assert_array_equal(other.transform(numbers), codes)
    # no bin is empty, and the representative of a bin lies within it
    assert sorted(set(codes)) == list(range(encoder.vocabulary_size - 1))
    present = ~np.isnan(numbers)
    back = encoder.inverse_transform(codes)
    assert_array_equal(np.isnan(back), ~present)
    assert_array_equal(encoder.transform(back), codes)
    for code in set(codes[present]):
        inside = np.sort(repeated[encoder.transform(repeated) == code])
        assert encoder.medians[code] == inside[(len(inside) - 1) // 2]


def test_row_order_is_nothing_to_fractional_weights():
    rng = np.random.default_rng(0)
    numbers, weights = rng.integers(0, 300, 3000) * 1.0, rng.random(3000)
    first, second = BinEncoder("x"), BinEncoder("x")
    first.fit_transform(numbers, weights)
    second.fit_transform(numbers[::-1], weights[::-1])
    assert_array_equal(first.upper, second.upper)
    assert_array_equal(first.medians, second.medians)


def test_heavy_number_keeps_one_bin_and_leaves_the_others_to_the_rest():
    numbers = np.append(np.zeros(900), np.arange(1.0, 101.0))
    encoder = BinEncoder("x", n_bins=10)
    codes = encoder.fit_transform(numbers)
    assert (codes[:900] == 0).all()
    assert set(np.bincount(codes[900:])[1:]) == {11, 12}  # nine bins share 100 numbers


def test_outside_and_missing():
    encoder = BinEncoder("x", n_bins=4)
    encoder.fit_transform(np.arange(100.0))
    codes = encoder.transform(np.array([-1e300, 0.0, 99.0, 1e300, np.nan]))
    assert_array_equal(codes, [0, 0, 3, 3, -1])
    strict = BinEncoder("age", n_bins=4, handle_unknown="error")
    strict.fit_transform(np.arange(100.0))
    with pytest.raises(ValueError, match="Field 'age' holds nan in row 1, but fit saw no missing"):
        strict.transform(np.array([1.0, np.nan]))


def test_column_without_numbers():
    for encoder in (BinEncoder("x"), NumberEncoder("x", scaler="log")):
        encoder.fit_transform(np.full(3, np.nan))
    encoder = BinEncoder("x")
    assert_array_equal(encoder.fit_transform(objects([None, None])), [0, 0])
    assert_array_equal(encoder.transform(np.array([np.nan, 1.0])), [0, -1])
    scaled = NumberEncoder("x", scaler=StandardScaler())
    scaled.fit_transform(np.full(3, np.nan))
    assert_array_equal(scaled.transform(np.array([1.0])), [[np.nan, 0]])


def test_log_is_standardized():
    rng = np.random.default_rng(1)
    numbers = rng.normal(0, 100, 500)
    numbers[::7] = np.nan
    encoder = NumberEncoder("x", scaler="log", missing_indicator=False)
    scaled = encoder.fit_transform(numbers)
    assert_allclose([np.nanmean(scaled), np.nanstd(scaled)], [0, 1], atol=1e-12)
    assert_array_equal(np.argsort(scaled), np.argsort(numbers))
    assert_allclose(encoder.inverse_transform(scaled), numbers)
    assert_array_equal(encoder.transform(numbers), scaled)


@pytest.mark.parametrize("scaler", ["log", StandardScaler()])
def test_scaler_takes_weights(scaler):
    numbers, weights = np.array([1.0, np.nan, 5.0, -3.0]), np.array([2.0, 1.0, 1.0, 3.0])
    weighted = NumberEncoder("x", scaler=scaler).fit_transform(numbers, weights)
    repeated = NumberEncoder("x", scaler=scaler)
    repeated.fit_transform(np.repeat(numbers, weights.astype(int)))
    assert_allclose(weighted, repeated.transform(numbers))


def test_transformer_sees_the_present_numbers_only():
    numbers = np.array([3.0, np.nan, 1.0, 2.0])
    scaler = QuantileTransformer(n_quantiles=3)
    encoder = NumberEncoder("x", scaler=scaler)
    scaled = [[1.0, 0], [np.nan, 1], [0.0, 0], [0.5, 0]]
    assert_allclose(encoder.fit_transform(numbers), scaled)
    assert_allclose(encoder.inverse_transform(np.array([0.5, np.nan])), [2.0, np.nan])
    assert not hasattr(scaler, "quantiles_")  # a clone was fitted
    bins = NumberEncoder(
        "x", scaler=KBinsDiscretizer(2, encode="ordinal", quantile_method="linear")
    )
    assert_array_equal(bins.fit_transform(numbers)[:, 0], [1.0, np.nan, 0.0, 1.0])


def test_scaler_must_give_one_finite_column():
    numbers = np.array([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"one column for field 'x', .* shape \(3, 3\)"):
        NumberEncoder("x", scaler=OneHotEncoder(sparse_output=False)).fit_transform(numbers)
    with (
        pytest.raises(ValueError, match=r"made 0.0 infinite in field 'x'"),
        np.errstate(all="ignore"),
    ):
        NumberEncoder("x", scaler=FunctionTransformer(np.log)).fit_transform(numbers)


@pytest.mark.parametrize(
    "values",
    [
        objects([1, 2.5, None, True]),
        objects([1, np.float32(2.5), pd.NA, np.True_]),
        objects([Decimal(1), 2.5, np.nan, np.int8(1)]),
        pd.array([1, 2.5, None, 1], dtype="Float64"),
        pd.array([1, 2.5, None, 1], dtype=pd.ArrowDtype(pa.float32())),
        pd.Categorical([1, 2.5, None, 1]),
        pl.Series([1.0, 2.5, None, 1.0]).to_numpy(),
        pd.arrays.SparseArray([1, 2.5, np.nan, 1]),
    ],
)
def test_numbers_of_all_containers(values):
    assert_array_equal(as_numbers(values, "x"), [1.0, 2.5, np.nan, 1.0])


@pytest.mark.parametrize("make", [objects, lambda v: pd.array(v, dtype="str")])
def test_text_is_never_parsed(make):
    message = (
        r"Field 'price' is numeric, but row 1 holds '12' \(str\). Turn the column into numbers"
    )
    with pytest.raises(ValueError, match=message):
        as_numbers(make([None, "12"]), "price")


def test_dates_infinity_and_complex_are_refused():
    with pytest.raises(ValueError, match="'day' is numeric, but row 0 holds Timestamp"):
        as_numbers(pd.array(["2020-01-01"], dtype="datetime64[ns]"), "day")
    with pytest.raises(
        ValueError, match=r"Field 'x' holds infinity in row 1. Numbers must be finite"
    ):
        as_numbers(np.array([1.0, -np.inf]), "x")
    with pytest.raises(ValueError, match="Complex data not supported: field 'x'"):
        as_numbers(np.array([1j]), "x")


# -- durations and decimals --------------------------------------------------------------------

SPANS = [datetime.timedelta(microseconds=37 * i**3 - 10**8) for i in range(60)] + [None]
PRICES = [Decimal(7 * i * i - 300) / 4 for i in range(60)] + [None]


def tables_of(cells, arrow, of_polars, name="x0"):
    """The same column in containers of every kind."""
    column = objects(cells)
    yield "objects", pd.DataFrame({name: pd.Series(column, dtype=object)})
    yield "dict", {name: cells}
    yield "pyarrow", pa.table({name: pa.array(cells, arrow)})
    yield "pandas arrow", pd.DataFrame({name: pd.array(cells, dtype=pd.ArrowDtype(arrow))})
    yield "polars", pl.DataFrame({name: cells}, schema={name: of_polars})
    if name == "x0":
        yield "array", column[:, None]
    if pa.types.is_duration(arrow):
        spans = np.array(cells, dtype="m8[us]")
        yield "microseconds", spans[:, None]
        yield "nanoseconds", pd.DataFrame({name: spans.astype("m8[ns]")})


@pytest.mark.parametrize("what", ["durations", "decimals"])
@pytest.mark.parametrize("scaler", ["bins", "piecewise", None])
def test_durations_and_decimals_are_numbers_in_all_frames(what, scaler):
    """They were a category for each different cell in some frames, bins in others."""
    if what == "durations":
        cells, kinds = SPANS, (pa.duration("us"), pl.Duration("us"))
        numbers = [np.nan if cell is None else cell.total_seconds() for cell in cells]
    else:
        cells, kinds = PRICES, (pa.decimal128(12, 2), pl.Decimal(12, 2))
        numbers = [np.nan if cell is None else float(cell) for cell in cells]
    tables = dict(tables_of(cells, *kinds))
    reference = FieldEncoder(scaler=scaler).fit(pd.DataFrame({"x0": numbers}))
    codes = np.asarray(reference.transform(pd.DataFrame({"x0": numbers})))
    for container, X in tables.items():
        encoder = FieldEncoder(scaler=scaler).fit(X)
        assert encoder.schema_.kinds == reference.schema_.kinds, container
        few = dict(tables_of(cells[:3], *kinds))
        for name, other in tables.items():
            if isinstance(other, np.ndarray) == isinstance(X, np.ndarray):
                assert_allclose(encoder.transform(other), codes, rtol=1e-15)
                assert_allclose(encoder.transform(few[name]), codes[:3], rtol=1e-15)
        assert FieldEncoder(categorical=["x0"]).fit(X).schema_.kinds == ("categorical",)


def test_durations_are_seconds_whatever_their_unit():
    for unit, n in (("D", 1 / 86400), ("h", 1 / 3600), ("s", 1), ("ms", 10**3), ("ns", 10**9)):
        spans = np.array([round(86400 * 3 * n), "NaT"], dtype=f"m8[{unit}]")
        assert_array_equal(as_numbers(spans, "x"), [3 * 86400, np.nan])
    negative = as_numbers(np.array([-1500, 1, -1], dtype="m8[ms]"), "x")
    assert_array_equal(negative, [-1.5, 0.001, -0.001])


def test_ids_may_come_as_decimals():
    """As a database has NUMERIC keys."""
    ids = [Decimal(7 * i % 31) for i in range(100)]
    for name, kind in (("user_id", "categorical"), ("x0", "binned")):
        for _, X in tables_of(ids, pa.decimal128(12, 0), pl.Decimal(12, 0), name):
            assert FieldEncoder().fit(X).schema_.kinds == (kind,)
