"""Learning from tables in chunks: codes that stay, and codes that are those of one fit."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import MaxAbsScaler, QuantileTransformer, StandardScaler

from sklearn_fm.data.array import FieldArray
from sklearn_fm.encoding import BagField, CategoryField, DateField, FieldEncoder, NumberField

FIELDS = {
    "item": CategoryField(vocabulary="items"),
    "history": BagField(vocabulary="items", max_length=4, truncate="last"),
    "site": CategoryField(hash_buckets=50, n_hashes=2),
    "knots": NumberField(scaler="piecewise", n_bins=4),
    "waves": NumberField(scaler="periodic"),
    "log": NumberField(scaler="log"),
    "standard": NumberField(scaler=StandardScaler()),
    "day": DateField(parts=("weekday", "age", "year")),
    "turn": DateField(parts=("hour",), cyclic=True),
}


def day_of_logs(day, n=60):
    """A day's log; ids are new every day, numbers drift."""
    rng = np.random.default_rng(day)
    numbers = rng.normal(day, 1 + day, (n, 6))
    if day:
        numbers[::7] = np.nan
    ids = rng.integers(5 * day, 5 * day + 12, (n, 4))
    hours = pd.to_timedelta(rng.integers(24 * day, 24 * day + 24, n), "h")
    when = pd.Series(pd.Timestamp("2024-01-01") + hours)
    return pd.DataFrame(
        {
            "item": [f"i{i}" for i in ids[:, 0]],
            "history": [[f"i{i}" for i in row[: rng.integers(0, 4)]] for row in ids],
            "site": [f"s{i}" for i in ids[:, 1]],
            "user": ids[:, 2],
            "bins": numbers[:, 0],
            "knots": numbers[:, 1],
            "waves": numbers[:, 2],
            "log": numbers[:, 3],
            "standard": numbers[:, 4],
            "day": when,
            "turn": when,
        }
    )


def make(**parameters):
    return FieldEncoder(fields=FIELDS, categorical=["user"], **parameters)


def test_first_call_is_a_fit():
    X = day_of_logs(0)
    weights = np.arange(60) % 3
    for weight in (None, weights):
        fitted = make(min_frequency=3).fit(X, sample_weight=weight)
        partial = make(min_frequency=3).partial_fit(X, sample_weight=weight)
        assert fitted.schema_ == partial.schema_
        for table in (X, day_of_logs(1)):
            assert_array_equal(fitted.transform(table), partial.transform(table))


def test_codes_are_kept():
    """What had a code keeps it, what had none gets one at the end."""
    encoder = make()
    X = day_of_logs(0)
    encoder.partial_fit(X)
    for day in range(1, 5):
        before, schema = np.asarray(encoder.transform(X)), encoder.schema_
        encoder.partial_fit(day_of_logs(day))
        assert_array_equal(encoder.transform(X), before)
        assert encoder.schema_.rows_kept(schema) is not None
        new = encoder.transform(day_of_logs(day))
        FieldArray(np.asarray(new), encoder.schema_)
        for name in ("item", "history", "user"):
            assert (np.asarray(new.select([name])) != -1).all()
        X = pd.concat([X, day_of_logs(day)], ignore_index=True)


def test_codes_made_up_anew_are_those_of_one_fit():
    days = [day_of_logs(day) for day in range(4)]
    encoder = make(min_frequency=4, max_categories=20)
    for chunk in days:
        encoder.partial_fit(chunk, keep_codes=False)
    X = pd.concat(days, ignore_index=True)
    whole = make(min_frequency=4, max_categories=20).fit(X)
    assert encoder.schema_ == whole.schema_
    for name in whole.schema_.names:
        if name == "day_age":  # counts from the latest date of the first chunk
            shifted = encoder.transform(X).select([name])
            assert_array_equal(shifted, whole.transform(X).select([name]))
            continue
        assert_allclose(
            encoder.transform(X).select([name]),
            whole.transform(X).select([name]),
            rtol=1e-9,
            atol=1e-9,
            err_msg=name,
        )
    columns = ["missing_share", "unknown_share", "mean_length", "vocabulary_size", "max_length"]
    assert_allclose(
        encoder.summary()[columns].astype(float), whole.summary()[columns].astype(float)
    )


@settings(max_examples=40, deadline=None)
@given(
    chunks=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["a", "b", "c", None, 1, 2.5]), st.integers(1, 3)),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
        max_size=4,
    ),
    min_frequency=st.sampled_from([None, 2, 0.2]),
    max_categories=st.sampled_from([None, 3]),
)
def test_any_chunks(chunks, min_frequency, max_categories):
    parameters = {"min_frequency": min_frequency, "max_categories": max_categories}
    encoder, kept = (FieldEncoder(categorical=["x"], **parameters) for _ in range(2))
    seen = {}
    for chunk in chunks:
        cells, weights = map(list, zip(*chunk, strict=True))
        X = pd.DataFrame({"x": np.array(cells, dtype=object)})
        encoder.partial_fit(X, sample_weight=weights, keep_codes=False)
        kept.partial_fit(X, sample_weight=weights)
        for cell, code in zip(cells, np.asarray(kept.transform(X))[:, 0], strict=True):
            assert seen.get(cell, -1) in (-1, code)
            seen[cell] = code
    cells, weights = map(list, zip(*[pair for chunk in chunks for pair in chunk], strict=True))
    X = pd.DataFrame({"x": np.array(cells, dtype=object)})
    whole = FieldEncoder(categorical=["x"], **parameters).fit(X, sample_weight=weights)
    assert_array_equal(encoder.transform(X), whole.transform(X))


def test_rare_categories_are_promoted():
    encoder = FieldEncoder(min_frequency=3)
    chunk = pd.DataFrame({"x": ["a", "a", "a", "b", "b"]})
    encoder.partial_fit(chunk)
    assert_array_equal(np.asarray(encoder.transform(chunk))[:, 0], [0, 0, 0, -1, -1])
    encoder.partial_fit(pd.DataFrame({"x": ["b", "c"]}))
    assert encoder.transform(pd.DataFrame({"x": ["a", "b", "c"]})).ravel().tolist() == [0, 1, -1]


def test_missing_that_appears_later():
    first = pd.DataFrame({"c": ["a", "b"], "n": [1.0, 2.0], "k": [1.0, 2.0], "l": [1.0, 2.0]})
    later = pd.DataFrame({"c": ["z", None], "n": [3.0, np.nan], "k": [3.0, None], "l": [3.0, None]})
    fields = {"k": NumberField(scaler="piecewise"), "l": NumberField(scaler="log")}
    encoder = FieldEncoder(fields=fields).partial_fit(first)
    before = np.asarray(encoder.transform(first))
    assert_array_equal(np.asarray(encoder.transform(later))[:, 0], [-1, -1])
    encoder.partial_fit(later)
    codes = encoder.transform(later)
    assert np.asarray(codes)[:, 0].tolist() == [2, 3]
    assert np.asarray(codes)[:, 1].tolist() == [1, 2]
    assert np.asarray(codes)[1, 2:6].tolist() == [2, 2, 1, 0]
    assert codes.values[1, -1] == 0
    assert_array_equal(encoder.transform(first), before)


@pytest.mark.parametrize(
    "scaler", ["bins", "uniform_bins", "log_bins", "piecewise", "periodic", "log"]
)
def test_codes_of_a_column_that_was_all_missing_at_first(scaler):
    """The code of missing became that of the first bin, when numbers came."""
    missing, numbers = pd.DataFrame({"x": [np.nan, np.nan]}), pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    encoder = FieldEncoder(scaler=scaler).partial_fit(missing)
    before = np.asarray(encoder.transform(missing))
    encoder.partial_fit(numbers)
    assert_array_equal(encoder.transform(missing), before)
    assert encoder.transform(numbers).indices_and_values()[1].shape[0] == 3
    encoder.partial_fit(numbers, keep_codes=False)
    back = encoder.inverse_transform(encoder.transform(numbers))
    assert_allclose(back, numbers)


@pytest.mark.parametrize("scaler", ["log", StandardScaler(), MaxAbsScaler()])
def test_scales_stay_unless_codes_are_made_up_anew(scaler):
    """Each chunk used to shift the scale, codes kept or not."""
    first, later = pd.DataFrame({"x": [1.0, 2.0, 4.0]}), pd.DataFrame({"x": [100.0, -50.0]})
    encoder = FieldEncoder(scaler=scaler).partial_fit(first)
    before = np.asarray(encoder.transform(first))
    encoder.partial_fit(later)
    assert_array_equal(encoder.transform(first), before)
    encoder.partial_fit(later, keep_codes=False)
    whole = FieldEncoder(scaler=scaler).fit(pd.concat([first, later, later]))
    assert_allclose(encoder.transform(first), whole.transform(first))


def test_scaler_that_knows_one_chunk_only():
    scaler = QuantileTransformer(n_quantiles=3)
    first, later = pd.DataFrame({"x": [1.0, 2.0, 4.0]}), pd.DataFrame({"x": [100.0, -50.0]})
    encoder = FieldEncoder(scaler=scaler).partial_fit(first)
    before = np.asarray(encoder.transform(first))
    encoder.partial_fit(later)
    assert_array_equal(encoder.transform(first), before)
    with pytest.raises(AttributeError, match="of field 'x' has no partial_fit"):
        encoder.partial_fit(later, keep_codes=False)
    assert_array_equal(encoder.transform(first), before)


def test_quantiles_of_many_chunks_are_those_of_all_but_for_the_sketch():
    rng = np.random.default_rng(0)
    numbers = rng.lognormal(size=60_000)
    encoder = FieldEncoder(n_bins=10)
    for chunk in np.array_split(numbers, 6):
        encoder.partial_fit(pd.DataFrame({"x": chunk}), keep_codes=False)
    shares = np.bincount(np.asarray(encoder.transform(pd.DataFrame({"x": numbers})))[:, 0]) / 60_000
    assert np.abs(np.cumsum(shares) - np.arange(1, 11) / 10).max() < 6 / 2**13 + 1e-3


def test_longer_bags_in_a_later_chunk():
    first, later = pd.DataFrame({"g": [["a", "b"]]}), pd.DataFrame({"g": [["a", "c", "d"]]})
    encoder = FieldEncoder().partial_fit(first).partial_fit(later)
    assert_array_equal(encoder.transform(first), [[0, 1]])
    assert_array_equal(encoder.transform(pd.DataFrame({"g": [["c", "d"]]})), [[2, 3]])
    with pytest.warns(UserWarning, match="Field 'g' got bags of up to 3 values, but the longest"):
        assert_array_equal(encoder.transform(later), [[0, 2]])
    encoder.partial_fit(first, keep_codes=False)
    assert_array_equal(encoder.transform(later), [[0, 2, 3]])
    truncated = FieldEncoder(fields={"g": BagField(truncate="last")}).partial_fit(first)
    assert_array_equal(truncated.partial_fit(later).transform(later), [[2, 3]])


@pytest.mark.parametrize("keep_codes", [True, False])
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"standard": "text"}, "Field 'standard' is numeric"),
        ({"bins": np.inf}, "Field 'bins' holds infinity"),
        ({"history": 5}, "Field 'history' is a bag"),
        ({"turn": "noon"}, "Field 'turn_hour' is made of dates"),
        ({"user": [[["x"]]] * 60}, "Field 'user' holds"),
        ({"site": [[["x"]]] * 60}, "Field 'site' holds"),
    ],
    ids=str,
)
def test_what_fails_leaves_the_encoder_as_it_is(change, error, keep_codes):
    X = day_of_logs(0)
    encoder = make().partial_fit(X)
    before, state = encoder.transform(X), pickle.dumps(encoder)
    (name, cell), *_ = change.items()
    cells = np.empty(60, dtype=object)
    cells[:] = [cell] * 60 if not isinstance(cell, list) else cell
    broken = day_of_logs(1).assign(**{name: cells})
    with pytest.raises((ValueError, TypeError), match=error):
        encoder.partial_fit(broken, keep_codes=keep_codes)
    assert pickle.dumps(encoder) == state
    assert_array_equal(encoder.transform(X), before)


@pytest.mark.parametrize("keep_codes", [True, False])
def test_no_vocabulary_sketch_or_scaler_changes_that_another_thread_may_read(keep_codes):
    """Of each kind of encoder, and each kind of store: texts, whole numbers, any objects."""
    mixed = np.array(["a", 1.5, (2, 3)] * 20, dtype=object)
    X = day_of_logs(0).assign(mixed=mixed)
    encoder = make(hash_buckets=40).partial_fit(X)
    read = copy.copy(encoder)  # as `transform` does
    before, state = read.transform(X), pickle.dumps(read)
    for day in range(1, 5):
        later = day_of_logs(day).assign(mixed=[*mixed[1:], (day,)])
        encoder.partial_fit(later, keep_codes=keep_codes)
        assert encoder.schema_ != read.schema_
        assert pickle.dumps(read) == state
        assert_array_equal(read.transform(X), before)


def test_hash_buckets_are_looked_at_when_codes_are_made_up():
    chunk = pd.DataFrame({"x": ["a", "b"], "g": [["p"], ["q", "r", "s"]]})
    later = pd.DataFrame({"x": ["c", "d", None], "g": [["t"], [], ["p"]]})
    encoder = FieldEncoder(hash_buckets=4).partial_fit(chunk)
    kept = copy.deepcopy(encoder).partial_fit(later)
    assert kept.schema_.vocabulary_sizes == (6, 6)
    assert_array_equal(kept.transform(chunk), encoder.transform(chunk))
    encoder.partial_fit(later, keep_codes=False)
    whole = FieldEncoder(hash_buckets=4).fit(pd.concat([chunk, later], ignore_index=True))
    assert encoder.schema_ == whole.schema_
    assert encoder.schema_.vocabulary_sizes == (5, 5)
    for table in (chunk, later):
        assert_array_equal(encoder.transform(table), whole.transform(table))
    columns = ["missing_share", "mean_length", "max_length", "slots"]
    assert_allclose(
        encoder.summary()[columns].astype(float), whole.summary()[columns].astype(float)
    )


def test_columns_are_found_by_name_and_checked_in_every_chunk():
    X = day_of_logs(0)
    encoder = make().partial_fit(X)
    shuffled = make().partial_fit(X).partial_fit(day_of_logs(1)[X.columns[::-1]])
    encoder.partial_fit(day_of_logs(1))
    assert_array_equal(encoder.transform(X), shuffled.transform(X))
    with pytest.raises(ValueError, match=r"columns are missing: \['item'\]"):
        encoder.partial_fit(X.drop(columns="item"))
    with pytest.raises(ValueError, match="weights are zero"):
        encoder.partial_fit(X, sample_weight=np.zeros(60))


def test_pickled_encoders_go_on():
    encoder = make(min_frequency=3).partial_fit(day_of_logs(0))
    again = pickle.loads(pickle.dumps(encoder))
    for each in (encoder, again):
        each.partial_fit(day_of_logs(1)).partial_fit(day_of_logs(2), keep_codes=False)
    assert_array_equal(encoder.transform(day_of_logs(2)), again.transform(day_of_logs(2)))
