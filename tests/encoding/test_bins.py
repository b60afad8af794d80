"""Numbers as bins, knots and waves, and the sketch they are made from, against definitions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler

from sklearn_fm.encoding import FieldEncoder, NumberField
from sklearn_fm.encoding.bins import BinEncoder, KnotEncoder
from sklearn_fm.encoding.numbers import NumberEncoder, WaveEncoder
from sklearn_fm.encoding.sketch import Sketch

SCALERS = ["bins", "uniform_bins", "log_bins", "piecewise", "periodic", "log", None]
MAKERS = {
    "bins": lambda: BinEncoder("x", n_bins=5),
    "uniform_bins": lambda: BinEncoder("x", n_bins=5, strategy="uniform"),
    "log_bins": lambda: BinEncoder("x", strategy="log"),
    "piecewise": lambda: KnotEncoder("x", n_bins=5),
    "periodic": lambda: WaveEncoder("x"),
    "log": lambda: NumberEncoder("x", scaler="log"),
    "standard": lambda: NumberEncoder("x", scaler=StandardScaler()),
}
numbers_lists = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)
wild_numbers = st.lists(
    st.one_of(st.floats(allow_infinity=False), st.integers(-3, 3).map(float)),
    min_size=1,
    max_size=25,
)


def columns_of(codes):
    return codes.reshape(len(codes), -1)


# -- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS)
@settings(max_examples=50, deadline=None)
@given(numbers=wild_numbers)
def test_any_numbers_are_encoded_alike_in_fit_and_transform(maker, numbers):
    numbers = np.array(numbers)
    if maker == "standard":
        numbers = np.clip(numbers, -1e100, 1e100)  # whose squares are finite
    encoder = MAKERS[maker]()
    codes = encoder.fit_transform(numbers)
    assert_array_equal(encoder.transform(numbers), codes)
    for i in (0, len(numbers) - 1):
        assert_array_equal(encoder.transform(numbers[i : i + 1])[0], codes[i])
    assert columns_of(codes).shape[1] == encoder.n_columns
    if encoder.kind == "binned":
        slots = columns_of(codes)[:, : encoder.slots]
        assert slots.min() >= 0
        assert slots.max() <= encoder.vocabulary_size - 2
    back = encoder.inverse_transform(columns_of(codes))
    assert_array_equal(np.isnan(back), np.isnan(numbers))


@pytest.mark.parametrize("maker", MAKERS)
def test_weights_are_repetition(maker):
    rng = np.random.default_rng(0)
    numbers = rng.exponential(5, 60).round(1)
    numbers[::8] = np.nan
    weights = rng.integers(1, 4, 60).astype(float)
    weighted, repeated = MAKERS[maker](), MAKERS[maker]()
    codes = weighted.fit_transform(numbers, weights)
    repeated.fit_transform(np.repeat(numbers, weights.astype(int)))
    assert_allclose(repeated.transform(numbers), codes, rtol=1e-9, atol=1e-12)
    assert weighted.describe()["missing_share"] == repeated.describe()["missing_share"]


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("column", [[7.0, 7.0, 7.0], [7.0], [np.nan, np.nan], [np.nan]], ids=str)
def test_columns_of_one_number_or_none(scaler, column):
    X = pd.DataFrame({"x": column})
    encoder = FieldEncoder(scaler=scaler)
    codes = encoder.fit_transform(X)
    assert_array_equal(encoder.transform(X), codes)
    values = codes.values
    assert np.isfinite(values).all()
    assert_allclose(encoder.inverse_transform(codes)[:, 0], column)
    other = encoder.transform(pd.DataFrame({"x": [3.0, np.nan, 99.0]}))
    assert np.isfinite(other.indices_and_values()[1]).all()


@pytest.mark.parametrize("scaler", SCALERS)
def test_missing_has_a_place_of_its_own_only_if_fit_saw_it(scaler):
    """A code after the others, or a slot that is 1 for missing and 0 else."""
    X = pd.DataFrame({"x": [1.0, 2.0, np.nan, 4.0]})
    encoder = FieldEncoder(scaler=scaler)
    codes = encoder.fit_transform(X)
    schema, entries = encoder.schema_, codes.indices_and_values()
    bare = FieldEncoder(scaler=scaler).fit(X.dropna())
    assert schema.table_size == bare.schema_.table_size + 1
    last = schema.table_size - 1
    of_last = np.where(entries[0] == last, entries[1], 0).sum(axis=1)
    assert_array_equal(of_last, [0, 0, 1, 0])
    others = np.where(entries[0] == last, 0, entries[1])
    assert_array_equal(others[2], np.zeros(schema.n_slots))
    # seen in transform only: the unknown row, or nothing at all
    indices, values = bare.transform(X).indices_and_values()
    if schema.kinds == ("binned",):
        assert (indices[2][values[2] != 0] == 0).all()
        assert values[2].sum() == 1
    else:
        assert_array_equal(values[2], np.zeros(bare.schema_.n_slots))


@pytest.mark.parametrize("scaler", ["bins", "uniform_bins", "log_bins", "piecewise"])
def test_missing_that_fit_did_not_see_can_be_an_error(scaler):
    encoder = FieldEncoder(scaler=scaler, handle_unknown="error").fit([[1.0], [2.0]])
    with pytest.raises(ValueError, match="Field 'x0' holds nan in row 1, but fit saw no missing"):
        encoder.transform([[1.0], [np.nan]])


@pytest.mark.parametrize("scaler", [*SCALERS, StandardScaler()])
def test_numbers_beyond_float64_are_refused_by_name(scaler):
    cells = np.array([[1], [10**400]], dtype=object)
    message = "Field 'x0' holds a number in row 1 that float64 cannot hold"
    with pytest.raises(ValueError, match=message):
        FieldEncoder(numeric=[0], scaler=scaler).fit(cells)


# -- bins -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(numbers=numbers_lists, n_bins=st.integers(2, 9))
def test_uniform_bins_have_equal_length(numbers, n_bins):
    numbers = np.array(numbers)
    encoder = BinEncoder("x", n_bins=n_bins, strategy="uniform")
    codes = encoder.fit_transform(numbers)
    edges = np.linspace(numbers.min(), numbers.max(), n_bins + 1)
    assert encoder.vocabulary_size == n_bins + 1
    for number, code in zip(numbers, codes, strict=True):
        assert edges[code] <= number <= edges[code + 1]
    assert_array_equal(encoder.transform(numbers - 1e9), 0)
    assert_array_equal(encoder.transform(numbers + 1e9), n_bins - 1)


def test_bins_without_numbers_are_represented_by_their_end():
    """Their median was that of the last bin with numbers before them."""
    encoder = BinEncoder("x", n_bins=4, strategy="uniform")
    encoder.fit_transform(np.array([0.0, 8.0]))
    assert_array_equal(encoder.inverse_transform(np.arange(4)[:, None]), [0, 4, 6, 8])
    assert_array_equal(encoder.transform(np.array([0.0, 4, 6, 8])), np.arange(4))


def criteo(x):
    """The winners' rule: ``int(log(x) ** 2)`` above 2, the number itself as a word below."""
    if abs(x) <= 2:
        return f"whole {int(x)}"
    return f"{'-' if x < 0 else ''}log {int(np.log(abs(x)) ** 2)}"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=60))
def test_log_bins_part_numbers_as_criteo_s_winners_did(numbers):
    codes = BinEncoder("x", strategy="log").fit_transform(np.array(numbers, dtype=float))
    words = [criteo(x) for x in numbers]
    pairs = set(zip(words, codes.tolist(), strict=True))
    assert len(pairs) == len(set(words)) == len(set(codes.tolist()))
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()


def test_log_bins_of_unseen_numbers_are_in_order():
    encoder = BinEncoder("x", strategy="log")
    encoder.fit_transform(np.array([0.0, 1, 5, 1000, -30]))
    grid = np.linspace(-1e4, 1e4, 5001)
    assert (np.diff(encoder.transform(grid)) >= 0).all()


@pytest.mark.parametrize("strategy", ["quantile", "uniform", "log"])
def test_the_representative_of_a_bin_lies_in_it(strategy):
    rng = np.random.default_rng(1)
    numbers = np.append(rng.normal(0, 3, 300), rng.exponential(1e4, 20))
    encoder = BinEncoder("x", n_bins=12, strategy=strategy)
    codes = encoder.fit_transform(numbers)
    every = np.arange(encoder.vocabulary_size - 1)
    assert_array_equal(encoder.transform(encoder.inverse_transform(every[:, None])), every)
    for code in set(codes):
        inside = np.sort(numbers[codes == code])
        assert encoder.medians[code] == inside[(len(inside) - 1) // 2]


# -- knots ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(numbers=numbers_lists, asked=numbers_lists, seed=st.integers(0, 99))
@example(numbers=[0.0, 1.1125369292536007e-308], asked=[2.0], seed=0)
def test_embeddings_at_knots_are_interpolated(numbers, asked, seed):
    encoder = KnotEncoder("x", n_bins=4)
    encoder.fit_transform(np.array(numbers))
    codes = encoder.transform(np.array(asked))
    at, values = codes[:, :2].astype(int), codes[:, 2:]
    assert_allclose(values.sum(axis=1), 1)
    assert (values >= 0).all()
    heights = np.random.default_rng(seed).normal(size=len(encoder.knots))
    curve = (values * heights[at]).sum(axis=1)
    assert_allclose(curve, np.interp(asked, encoder.knots, heights), atol=1e-9)
    inside = np.clip(asked, encoder.knots[0], encoder.knots[-1])
    assert_allclose(encoder.inverse_transform(codes), inside, rtol=1e-9, atol=1e-6)


def test_knots_are_the_least_number_and_the_ends_of_quantile_bins():
    numbers = np.random.default_rng(2).exponential(3, 500)
    knots, bins = KnotEncoder("x", n_bins=7), BinEncoder("x", n_bins=7)
    knots.fit_transform(numbers)
    bins.fit_transform(numbers)
    assert_array_equal(knots.knots, [numbers.min(), *bins.upper])
    exact = knots.transform(knots.knots)
    assert_array_equal(knots.inverse_transform(exact), knots.knots)


# -- waves ----------------------------------------------------------------------------------------


def test_waves_are_sines_and_cosines_of_the_rank():
    numbers = np.array([5.0, 1.0, 3.0, 3.0, np.nan])
    encoder = WaveEncoder("x", n_waves=3)
    codes = encoder.fit_transform(numbers)
    for row, number in enumerate(numbers[:4]):
        present = numbers[:4]
        rank = np.mean((present < number) + (present == number) / 2)
        angles = np.pi * rank * np.array([1, 2, 3])
        assert_allclose(codes[row], [*np.sin(angles), *np.cos(angles), 0], atol=1e-12)
    assert_array_equal(codes[4], [0] * 6 + [1])
    assert_allclose(encoder.inverse_transform(codes), numbers)
    outside = encoder.inverse_transform(encoder.transform(np.array([-100.0, 100.0])))
    assert_allclose(outside, [1.0, 5.0])


def test_waves_of_many_numbers_know_ranks_to_half_a_percent():
    numbers = np.random.default_rng(3).exponential(1, 5000)
    codes = WaveEncoder("x", n_waves=1).fit_transform(numbers)
    ranks = np.arctan2(codes[:, 0], codes[:, 1]) / np.pi
    true = (np.argsort(np.argsort(numbers)) + 0.5) / 5000
    assert np.abs(ranks - true).max() < 0.005


# -- scalers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), MinMaxScaler(), QuantileTransformer(n_quantiles=10), "log"]
)
def test_number_field_beside_the_encoder_s_choice(scaler):
    X = pd.DataFrame({"x": np.arange(30.0) ** 2, "z": np.arange(30.0)})
    encoder = FieldEncoder(fields={"x": NumberField(scaler=scaler)}, scaler="uniform_bins")
    codes = encoder.fit_transform(X)
    alone = FieldEncoder(scaler=scaler).fit_transform(X[["x"]])
    assert_array_equal(np.asarray(codes)[:, :1], alone)
    assert codes.schema.kinds == ("numeric", "binned")
    assert_allclose(encoder.inverse_transform(codes)[:, 0], X["x"], atol=1e-9)


def test_n_bins_of_a_field():
    X = pd.DataFrame({"x": np.arange(50.0), "z": np.arange(50.0)})
    encoder = FieldEncoder(fields={"x": NumberField(n_bins=3)}, n_bins=7).fit(X)
    assert encoder.schema_.vocabulary_sizes == (4, 8)


# -- sketch ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(1, 9)), min_size=1, max_size=60),
    n_bins=st.integers(1, 9),
)
def test_sketch_of_one_chunk_is_exact(rows, n_bins):
    numbers, weights = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    sketch = Sketch()
    sketch.add(numbers, weights)
    repeated = np.repeat(numbers + 0.0, weights.astype(int))
    distinct, counts = np.unique(repeated, return_counts=True)
    assert_array_equal(sketch.numbers, distinct)
    assert_array_equal(sketch.weights, counts)
    assert sketch.quantiles(n_bins)[-1] == len(distinct) - 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_ranks_of_many_chunks_are_off_by_the_bound_at_most(weighted, is_sorted):
    rng = np.random.default_rng(4)
    numbers = rng.lognormal(0, 3, 120_000)
    numbers = np.sort(numbers) if is_sorted else numbers
    weights = rng.integers(1, 5, len(numbers)).astype(float) if weighted else None
    sketch, n_chunks = Sketch(), 12
    for rows in np.array_split(np.arange(len(numbers)), n_chunks):
        sketch.add(numbers[rows], None if weights is None else weights[rows])
        sketch.shorten()
    assert len(sketch.numbers) <= 2**13
    true = np.ones(len(numbers)) if weights is None else weights
    order = np.argsort(numbers)
    cumulative = np.cumsum(true[order])
    assert_allclose(sketch.weights.sum(), cumulative[-1])
    rank = np.searchsorted(numbers[order], sketch.numbers, side="right") - 1
    off = np.abs(np.cumsum(sketch.weights) - cumulative[rank]) / cumulative[-1]
    assert off.max() <= n_chunks / 2**13 + 1e-4
    assert sketch.numbers[0] == numbers.min()  # the range is exact
    assert sketch.numbers[-1] == numbers.max()
