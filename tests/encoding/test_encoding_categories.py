"""One categorical column: canonical codes whatever the container, rarity, errors."""

import datetime
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from sklearn.preprocessing import OneHotEncoder

from sklearn_fm.encoding.categories import CategoryEncoder

TEXT = ["pear", "apple", None, "fig", "apple", "pear", "pear", "é", ""]
TEXT_CODES = [0, 1, 5, 2, 1, 0, 0, 3, 4]  # first appearance, missing last
NUMBERS = [30, 7, None, 2**40, 7, 30]
NUMBER_CODES = [1, 0, 3, 2, 0, 1]  # ascending, missing last


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def containers_of_text(values):
    return {
        "numpy object": objects(values),
        "pandas object": pd.Series(values, dtype=object).to_numpy(),
        "nan for None": objects([np.nan if v is None else v for v in values]),
        "NA for None": objects([pd.NA if v is None else v for v in values]),
        "str": pd.array(values, dtype="str"),
        "string": pd.array(values, dtype="string"),
        "python string": pd.array(values, dtype=pd.StringDtype("python")),
        "arrow string": pd.array(values, dtype=pd.ArrowDtype(pa.string())),
        "category": pd.Categorical(values, categories=["zzz", *sorted({v for v in values if v})])
        if "" not in values
        else pd.Categorical(values),
        "polars": pl.Series(values, dtype=pl.String).to_numpy(),
        "polars category": pl.Series(values, dtype=pl.Categorical).to_numpy(),
    }


def containers_of_numbers(values):
    return {
        "object": objects(values),
        "float": np.array(values, dtype=float),
        "float objects": objects([None if v is None else float(v) for v in values]),
        "Int64": pd.array(values, dtype="Int64"),
        "Float64": pd.array(values, dtype="Float64"),
        "arrow int": pd.array(values, dtype=pd.ArrowDtype(pa.int64())),
        "category": pd.Categorical(values),
        "polars": pl.Series(values, dtype=pl.Int64).to_numpy(),
    }


@pytest.mark.parametrize("container", containers_of_text(TEXT))
def test_text_has_the_same_codes_in_every_container(container):
    values = containers_of_text(TEXT)[container]
    encoder = CategoryEncoder("fruit")
    assert_array_equal(encoder.fit_transform(values), TEXT_CODES)
    assert encoder.vocabulary.tolist() == ["pear", "apple", "fig", "é", ""]
    assert encoder.vocabulary_size == 7
    for other in containers_of_text(TEXT).values():
        assert_array_equal(encoder.transform(other), TEXT_CODES)
    for other in containers_of_text(["plum", None, "fig"]).values():
        assert_array_equal(encoder.transform(other), [-1, 5, 2])


@pytest.mark.parametrize("container", containers_of_numbers(NUMBERS))
def test_numbers_have_the_same_codes_in_every_container(container):
    values = containers_of_numbers(NUMBERS)[container]
    encoder = CategoryEncoder("id")
    assert_array_equal(encoder.fit_transform(values), NUMBER_CODES)
    assert encoder.vocabulary.dtype == np.int64
    for other in containers_of_numbers(NUMBERS).values():
        assert_array_equal(encoder.transform(other), NUMBER_CODES)
    assert_array_equal(encoder.transform(np.array([7, 8])), [0, -1])
    assert_array_equal(encoder.transform(np.array([7.0, 7.5])), [0, -1])
    assert_array_equal(encoder.transform(objects([7, "7", 7.0, np.int8(7)])), [0, 0, 0, 0])
    assert_array_equal(encoder.transform(objects(["07", "7.0", 7, " 7"])), [-1, -1, 0, -1])


def test_only_categories_that_occur_count():
    values = pd.Categorical(["b", "b", "a"], categories=["never", "a", "b"])
    encoder = CategoryEncoder("x")
    assert_array_equal(encoder.fit_transform(values), [0, 0, 1])
    assert encoder.vocabulary.tolist() == ["b", "a"]


def test_booleans_are_categories_equal_to_zero_and_one():
    encoder = CategoryEncoder("flag")
    assert_array_equal(encoder.fit_transform(np.array([True, False, True])), [1, 0, 1])
    assert encoder.vocabulary.tolist() == [False, True]
    for same in (pd.array([True, None], dtype="boolean"), objects([1, None]), np.array([1.0, 2.0])):
        assert_array_equal(encoder.transform(same), [1, -1])


def test_large_integers_stay_apart():
    """2**53 and 2**53 + 1 are one number in float64, two ids in a vocabulary."""
    ids = [2**53, 2**53 + 1, None, 2**63 + 5]
    for values in (objects(ids), pd.array(ids, dtype="UInt64")):
        encoder = CategoryEncoder("id")
        assert_array_equal(encoder.fit_transform(values), [0, 1, 3, 2])
        assert_array_equal(encoder.transform(objects(ids)), [0, 1, 3, 2])
        assert_array_equal(encoder.transform(np.array([2**53 + 1, 2**63 + 5], "u8")), [1, 2])


def test_nan_beside_na_is_one_missing():
    values = pd.array([2.5, None, 1.0], dtype="Float64")
    values = values / pd.array([1.0, 1.0, 1.0], dtype="Float64")
    values = pd.arrays.FloatingArray(
        np.array([2.5, np.nan, 9.0, 1.0]), np.array([0, 0, 1, 0], bool)
    )
    assert_array_equal(CategoryEncoder("x").fit_transform(values), [1, 2, 2, 0])


def test_dates_agree_between_containers():
    days = [datetime.datetime(2020, 5, 1), None, datetime.datetime(2019, 1, 1, 3)]
    codes = [0, 2, 1]
    containers = [
        pd.array(days, dtype="datetime64[ns]"),
        np.array(days, dtype="datetime64[s]"),
        pl.Series(days).to_numpy(),
        objects(days),
    ]
    for values in containers:
        encoder = CategoryEncoder("day")
        assert_array_equal(encoder.fit_transform(values), codes)
        for other in containers:
            assert_array_equal(encoder.transform(other), codes)


cells = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.floats(-2, 2, width=16),
    st.booleans(),
    st.text("ab", max_size=2),
    st.tuples(st.integers(0, 1), st.text("c", max_size=1)),
)


@settings(max_examples=60, deadline=None)
@given(fitted=st.lists(cells, min_size=1, max_size=25), other=st.lists(cells, max_size=25))
def test_codes_follow_python_equality(fitted, other):
    """Equal cells, and only those, share a code; what was never seen is unknown."""
    encoder = CategoryEncoder("x")
    codes = encoder.fit_transform(objects(fitted))
    assert_array_equal(codes, encoder.transform(objects(fitted)))
    expected = {}
    for value, code in zip(fitted, codes.tolist(), strict=True):
        assert expected.setdefault(value, code) == code
    assert sorted(expected.values()) == list(range(encoder.vocabulary_size - 1))
    assert encoder.transform(objects(other)).tolist() == [expected.get(v, -1) for v in other]


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-5, 5, width=16)))
def test_numbers_come_back_from_their_codes(values):
    encoder = CategoryEncoder("x")
    codes = encoder.fit_transform(values)
    assert_array_equal(encoder.inverse_transform(codes).astype(float), values)
    assert (np.diff(encoder.vocabulary) > 0).all()


def test_inverse_tells_unknown_from_missing():
    encoder = CategoryEncoder("x")
    encoder.fit_transform(objects(["a", None]))
    known, missing, unknown = encoder.inverse_transform(np.array([0, 1, -1]))
    assert known == "a"
    assert np.isnan(missing)
    assert unknown is None


def test_missing_not_seen_in_fit_is_unknown():
    encoder = CategoryEncoder("x")
    encoder.fit_transform(pd.array(["a", "b"], dtype="str"))
    assert encoder.vocabulary_size == 3
    assert_array_equal(encoder.transform(pd.array([None, "b"], dtype="str")), [-1, 1])
    assert_array_equal(encoder.transform(objects([None, "b", np.nan])), [-1, 1, -1])


@pytest.mark.parametrize(
    "limits",
    [
        {"min_frequency": 3},
        {"min_frequency": 0.2},
        {"max_categories": 3},
        {"max_categories": 1},
        {"min_frequency": 2, "max_categories": 4},
    ],
)
def test_rare_categories_are_those_of_one_hot_encoder(limits):
    values = np.repeat([5.0, 1.0, 4.0, np.nan, 2.0, 3.0], [7, 3, 1, 4, 2, 3])
    peer = OneHotEncoder(handle_unknown="infrequent_if_exist", **limits).fit(values[:, None])
    encoder = CategoryEncoder("x", **limits)
    codes = encoder.fit_transform(values)
    rare = peer.infrequent_categories_[0]
    assert_array_equal(np.unique(values[codes == -1]), np.unique(rare))
    assert encoder.vocabulary_size == len(peer.get_feature_names_out()) or rare is None


def test_weighted_counts_are_repeated_rows():
    values = objects(["a", "b", None, "a", "c"])
    weights = np.array([1.0, 4.0, 2.0, 2.0, 1.0])
    weighted = CategoryEncoder("x", min_frequency=3)
    weighted.fit_transform(values, weights)
    repeated = CategoryEncoder("x", min_frequency=3)
    repeated.fit_transform(np.repeat(values, weights.astype(int)))
    assert weighted.vocabulary.tolist() == repeated.vocabulary.tolist() == ["a", "b"]
    assert_array_equal(weighted.transform(values), repeated.transform(values))


def test_error_on_unseen_but_not_on_rare():
    encoder = CategoryEncoder("city", min_frequency=2, handle_unknown="error")
    assert_array_equal(encoder.fit_transform(objects(["a", "a", "b"])), [0, 0, -1])
    assert_array_equal(encoder.transform(objects(["b", "a"])), [-1, 0])
    message = r"Field 'city' holds 'c' in row 1, which was not seen in fit. Pass handle_unknown="
    for container in (objects, lambda v: pd.array(v, dtype="str")):
        with pytest.raises(ValueError, match=message):
            encoder.transform(container(["a", "c"]))
        with pytest.raises(ValueError, match=r"Field 'city' holds .* in row 0, which was not seen"):
            encoder.transform(container([None, "a"]))


def test_unhashable_cell_is_named():
    encoder = CategoryEncoder("tags")
    message = r"Field 'tags' holds \['x'\] in row 1: as a category .* not list"
    with pytest.raises(TypeError, match=message):
        encoder.fit_transform(objects(["a", ["x"]]))
    encoder.fit_transform(objects(["a", "b"]))
    with pytest.raises(TypeError, match=message):
        encoder.transform(objects(["a", ["x"]]))


def test_pickle_leaves_the_hash_table_behind():
    values = objects([f"{i:08x}" for i in range(2000)])
    encoder = CategoryEncoder("x")
    encoder.fit_transform(values)
    size = len(pickle.dumps(encoder))
    encoder.transform(values)
    assert len(pickle.dumps(encoder)) == size
    again = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(again.transform(values), np.arange(2000))
