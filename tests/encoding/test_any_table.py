"""Any table either makes a round trip or is refused by an error that names the field."""

import contextlib
import datetime
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_fm.data.array import FieldArray
from sklearn_fm.encoding import BagField, CategoryField, FieldEncoder, NumberField

MISSING = [None, np.nan, pd.NA, pd.NaT, Decimal("NaN")]
text = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["", " ", "nan", "None", "\0", "\ud800", "1", "é", "e\u0301"]),
)
whole = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), 10**400]),
)
real = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 0.5, 2.0**53, 1e308, 5e-324]))
moment = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
scalar = st.one_of(
    st.sampled_from(MISSING),
    text,
    whole,
    real,
    st.booleans(),
    st.decimals(allow_nan=False),  # pandas cannot so much as print a NaN that signals
    st.fractions(),
    st.binary(max_size=3),
    moment,
    moment.map(lambda d: pd.Timestamp(d, tz="UTC")),
    moment.map(lambda d: d.date()),
    st.timedeltas(),
    st.sampled_from([np.int8(1), np.float32(0.1), np.str_("a"), np.True_, np.datetime64("2020")]),
)
item = st.one_of(scalar, st.tuples(text, whole))
bag = st.one_of(
    st.lists(item, max_size=4),
    st.tuples(item, item),
    st.frozensets(st.one_of(text, whole), max_size=3),
    st.dictionaries(text, st.one_of(st.floats(-5, 5), st.sampled_from([None, "x"])), max_size=3),
    st.lists(text, max_size=3).map(lambda bag: np.array(bag, dtype=object)),
    st.sampled_from([[["nested"]], [{}], np.ones((2, 2))]),
)


def objects(cells):
    out = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        out[i] = cell
    return out


def as_series(cells, dtype=object):
    return pd.Series(
        objects(cells) if dtype is object else pd.array(cells, dtype=dtype), dtype=dtype
    )


def column_of(n):
    """Columns of n cells: of one kind, or of all."""

    def some(cell, missing=True):
        cell = st.one_of(st.sampled_from(MISSING), cell) if missing else cell
        return st.lists(cell, min_size=n, max_size=n)

    none = st.none()
    clean = st.text(st.characters(codec="utf-8"), max_size=4)
    small = st.integers(-(2**63), 2**63 - 1)
    return st.one_of(
        some(scalar).map(as_series),
        some(bag).map(as_series),
        some(st.one_of(scalar, bag)).map(as_series),
        *(some(kind).map(as_series) for kind in (text, whole, real, st.booleans(), moment)),
        *(
            some(st.one_of(none, kind), missing=False).map(
                lambda cells, dtype=dtype: as_series(cells, dtype)
            )
            for kind, dtype in [
                (clean, "str"),
                (clean, "string"),
                (clean, pd.ArrowDtype(pa.string())),
                (small, "Int64"),
                (st.integers(0, 2**64 - 1), "UInt64"),
                (st.floats(allow_nan=False), "Float64"),
                (st.booleans(), "boolean"),
                (st.lists(clean, max_size=3), pd.ArrowDtype(pa.list_(pa.string()))),
                (st.lists(st.one_of(none, small), max_size=3), pd.ArrowDtype(pa.list_(pa.int64()))),
                (moment, pd.ArrowDtype(pa.timestamp("us"))),
            ]
        ),
        some(real, missing=False).map(lambda cells: pd.Series(cells, dtype=float)),
        some(small, missing=False).map(lambda cells: pd.Series(cells, dtype=np.int64)),
        some(st.one_of(none, moment), missing=False).map(
            lambda cells: pd.Series(pd.to_datetime(cells)).dt.tz_localize("UTC")
        ),
        some(st.one_of(none, st.sampled_from(["a", "b"])), missing=False).map(
            lambda cells: pd.Series(pd.Categorical(cells, categories=["unused", "b", "a"]))
        ),
    )


@st.composite
def tables(draw):
    n = draw(st.integers(1, 12))
    columns = draw(st.lists(column_of(n), min_size=1, max_size=3))
    X = pd.DataFrame({f"c{j}": column for j, column in enumerate(columns)})
    return X.set_index(np.zeros(n))


def is_missing(cell):
    return pd.api.types.is_scalar(cell) and bool(pd.isna(cell))


def same(a, b):
    return (is_missing(a) and is_missing(b)) or (type(a) is type(b) and a is b) or bool(a == b)


def is_same_category(a, b, *, is_shared):
    """In a vocabulary of several columns a whole number and its text are one category."""
    if same(a, b):
        return True
    text, number = (a, b) if isinstance(a, str) else (b, a)
    return is_shared and bool(re.fullmatch("-?[0-9]+", str(text))) and number == int(text)


def check_round_trip(encoder, X):
    """Codes are valid, those of fit and transform agree, and mean what the cells say."""
    codes = encoder.fit_transform(X)
    assert_array_equal(encoder.transform(X), codes)
    for start in {0, len(X) // 2, len(X) - 1}:  # small tables are read in another way
        assert_array_equal(encoder.transform(X[start : start + 1]), codes[start : start + 1])
    schema = encoder.schema_
    FieldArray(np.asarray(codes), schema)
    indices, values = codes.indices_and_values()
    assert np.isfinite(values).all()
    assert indices.min() >= 0
    assert indices.max() < schema.table_size
    encoder.summary()
    if any("hash" in how for how in encoder.summary()["encoding"]):
        return
    back = encoder.inverse_transform(codes)
    for f, name in enumerate(schema.names):
        if name not in X or schema.kinds[f] not in ("categorical", "bag"):
            continue
        for cell, found in zip(X[name], back[:, f], strict=True):
            if schema.kinds[f] == "categorical":
                is_shared = schema.vocabularies[f] != name
                assert is_same_category(cell, found, is_shared=is_shared), (cell, found)
            else:
                check_bag(cell, found, is_weighted=schema.poolings[f] == "weighted")
        if schema.kinds[f] == "categorical":
            check_categories(X[name], np.asarray(codes)[:, schema.first_columns[f]])


def check_categories(cells, codes):
    """One code, one category."""
    groups = {}
    for cell, code in zip(cells, codes, strict=True):
        first = groups.setdefault(code, cell)
        assert same(first, cell), (first, cell)
    present = {cell for cell in cells if not is_missing(cell)}
    assert len(groups) == len(present) + any(map(is_missing, cells))


def check_bag(cell, found, *, is_weighted):
    if is_missing(cell):
        assert found == ()
        return
    items = [pair[0] for pair in found] if is_weighted else list(found)
    expected = [pair[0] for pair in cell] if is_weighted and not isinstance(cell, dict) else cell
    expected = (
        [part for part in cell.split(" ") if part] if isinstance(cell, str) else list(expected)
    )
    assert len(items) == len(expected)
    if isinstance(cell, (set, frozenset)):
        assert set(items) == set(cell)
    else:
        assert all(map(same, items, expected)), (items, expected)


def check_or_refuse(encoder, X):
    with refusal_names_a_column(X):
        check_round_trip(encoder, X)


@contextlib.contextmanager
def refusal_names_a_column(X):
    try:
        yield
    except (ValueError, TypeError) as error:
        if not any(f"'{name}" in str(error) for name in X.columns):
            raise AssertionError("The error names no field.") from error


EVERY = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@EVERY
@given(X=tables(), scaler=st.sampled_from(["bins", "piecewise", "periodic", "log", None]))
def test_whatever_is_guessed(X, scaler):
    check_or_refuse(FieldEncoder(scaler=scaler), X)


@EVERY
@given(X=tables(), buckets=st.sampled_from([None, 2]))
def test_all_as_categories(X, buckets):
    check_or_refuse(FieldEncoder(categorical=list(X.columns), hash_buckets=buckets), X)


@EVERY
@given(
    X=tables(),
    field=st.sampled_from(
        [
            NumberField(),
            NumberField(scaler="uniform_bins"),
            NumberField(scaler="log_bins"),
            NumberField(scaler="piecewise"),
            NumberField(scaler=None),
            BagField(),
            BagField(separator=" ", max_length=2),
            BagField(weights=True, pooling="sqrtn"),
            BagField(hash_buckets=3, n_hashes=2),
            CategoryField(vocabulary="all"),
            CategoryField(hash_buckets=5, n_hashes=2),
        ]
    ),
)
@example(  # a whole number and its text in columns of one vocabulary
    X=pd.DataFrame({"c0": [0], "c1": pd.Series(["0"], dtype=object)}),
    field=CategoryField(vocabulary="all"),
)
def test_whatever_a_column_is_said_to_be(X, field):
    check_or_refuse(FieldEncoder(fields=dict.fromkeys(X.columns, field)), X)


@EVERY
@given(X=tables(), scaler=st.sampled_from(["bins", "log_bins", "periodic"]))
def test_object_arrays(X, scaler):
    array = X.to_numpy(dtype=object)
    encoder = FieldEncoder(scaler=scaler)
    with refusal_names_a_column(X.set_axis([f"x{j}" for j in range(X.shape[1])], axis=1)):
        codes = encoder.fit_transform(array)
        assert_array_equal(encoder.transform(array), codes)
        assert_array_equal(encoder.transform(array[-1:]), codes[-1:])
        FieldArray(np.asarray(codes), encoder.schema_).indices_and_values()


@pytest.mark.filterwarnings("ignore:Field .* got bags of up to:UserWarning")
@EVERY
@given(X=tables(), more=tables())
@example(  # found once in some thousand tables: what is all missing has no time zone to keep to
    X=pd.DataFrame({"c0": pd.to_datetime([None, None])}),
    more=pd.DataFrame({"c0": pd.to_datetime(["2000-01-01", None]).tz_localize("UTC")}),
)
def test_later_chunks(X, more):
    """Codes given before stay, whatever comes or fails to come later."""
    more = more.reindex(columns=X.columns)
    encoder = FieldEncoder()
    with refusal_names_a_column(X):
        encoder.partial_fit(X)
        before = np.asarray(encoder.transform(X))
    if not hasattr(encoder, "schema_"):
        return
    with refusal_names_a_column(X):
        encoder.partial_fit(more)
    assert_array_equal(encoder.transform(X), before)
    with refusal_names_a_column(X):
        FieldArray(np.asarray(encoder.transform(more)), encoder.schema_)
