"""Every table people have: the same cells, the same answers, the same codes from any container."""

import datetime as dt
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector
from sklearn.model_selection import cross_val_score

from sklearn_fm import FieldEncoder, FMClassifier
from sklearn_fm.encoding.columns import FEW_POLARS_ROWS, FEW_ROWS, read_columns, select_columns
from sklearn_fm.encoding.tables import as_table

N = 120  # more than the few rows for which pandas and polars have ways of their own
SIZES = (1, 2, FEW_ROWS, FEW_ROWS + 1, FEW_POLARS_ROWS + 1)


class Reader(BaseEstimator):
    """What `read_columns` writes the names to."""


def columns_of(X):
    return read_columns(X, Reader(), reset=True)


def objects(cells):
    out = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        out[i] = cell
    return out


def plain(values):
    """Cells as Python objects, those missing as None."""
    cells = objects(list(values))
    missing = pd.isna(cells)
    return [None if missing[i] else as_python(cell) for i, cell in enumerate(cells)]


def as_python(cell):
    if isinstance(cell, pd.Timestamp) and not cell.nanosecond:
        return cell.to_pydatetime(warn=False)
    if isinstance(cell, (np.datetime64, np.timedelta64)):
        return as_python(pd.Timestamp(cell) if cell.dtype.kind == "M" else pd.Timedelta(cell))
    if isinstance(cell, pd.Timedelta):
        return cell.to_pytimedelta()
    return list(cell) if isinstance(cell, np.ndarray) else getattr(cell, "item", lambda: cell)()


# -- tables of all kinds -----------------------------------------------------------------------


def cells():
    """Lists of Python objects, None for missing."""
    rng = np.random.default_rng(0)

    def some(cells, each):
        return [None if i % each == 0 else cell for i, cell in enumerate(cells)]

    return {
        "price": some(rng.exponential(10, N).round(1).tolist(), 9),
        "town": some(rng.choice(["Oslo", "Rome", "", "Ürümqi"], N).tolist(), 7),
        "user": (rng.integers(0, 9, N) + 2**60).tolist(),  # float64 would merge them
        "item": some((rng.integers(0, 9, N) + 2**60).tolist(), 5),
        "flag": some((rng.random(N) < 0.5).tolist(), 8),
        "grade": rng.choice(["b", "a"], N).tolist(),
    }


def frame():
    data = cells()
    dtypes = {"item": "Int64", "flag": "boolean", "grade": "category", "town": "str"}
    return pd.DataFrame({k: pd.Series(v, dtype=dtypes.get(k)) for k, v in data.items()})


def structured():
    data = cells()
    data["price"] = [np.nan if v is None else v for v in data["price"]]
    dtype = [("price", ">f8"), ("town", "O"), ("user", ">i8"), ("item", "O"), ("flag", "O")]
    return np.array(list(zip(*data.values(), strict=True)), dtype=[*dtype, ("grade", "U1")])


def masked():
    data = cells()
    kinds = {"price": "f8", "town": "U8", "user": "i8", "item": "i8", "flag": "?", "grade": "U1"}
    X = np.ma.zeros(N, dtype=list(kinds.items()))
    for name, column in data.items():
        X[name] = np.ma.array(
            [v or 0 if kinds[name] != "U8" else v or "" for v in column],
            mask=[v is None for v in column],
        )
    return X


def containers():
    """One table as every library holds it; the arrays without names come in `arrays`."""
    X, data = frame(), cells()
    table = pa.table(data)
    grade = table.column("grade").dictionary_encode()
    halves = [table.slice(0, 50), table.slice(50)]
    return {
        "pandas": X,
        "objects": pd.DataFrame({k: objects(v) for k, v in data.items()}, dtype=object),
        "duplicated index": X.set_axis([7] * N, axis=0),
        "numpy_nullable": X.convert_dtypes(dtype_backend="numpy_nullable"),
        "pandas arrow": X.convert_dtypes(dtype_backend="pyarrow"),
        "polars": pl.DataFrame(data),
        "polars enum": pl.DataFrame(data).with_columns(pl.col("grade").cast(pl.Enum(["a", "b"]))),
        "polars category": pl.DataFrame(data).with_columns(pl.col("grade").cast(pl.Categorical)),
        "polars chunks": pl.concat([pl.DataFrame(data)[:50], pl.DataFrame(data)[50:]]),
        "pyarrow": table,
        "pyarrow chunks": pa.concat_tables(halves),
        "pyarrow dictionary": table.set_column(5, "grade", grade),
        "pyarrow view": table.set_column(1, "town", table["town"].cast(pa.string_view())),
        "pyarrow from pandas": pa.Table.from_pandas(X.set_axis(np.arange(N) * 2, axis=0)),
        "record batch": pa.RecordBatch.from_pydict(data),
        "structured": structured(),
        "record": structured().view(np.recarray),
        "masked": masked(),
        "dict of lists": data,
        "dict of tuples": {k: tuple(v) for k, v in data.items()},
        "dict of series": {k: X[k].set_axis(np.arange(N)[::-1]) for k in X},
        "dict of polars": {k: pl.Series(v) for k, v in data.items()},
        "dict of arrow": {k: pa.array(v) for k, v in data.items()},
        "dict of arrays": {k: objects(v) if None in v else np.array(v) for k, v in data.items()},
    }


CONTAINERS = list(containers())


def head(X, n):
    """First rows of any table."""
    if isinstance(X, dict):
        return {name: column[:n] for name, column in X.items()}
    return X.slice(0, n) if isinstance(X, (pa.Table, pa.RecordBatch)) else X[:n]


@pytest.mark.parametrize("name", CONTAINERS)
def test_cells_are_the_same_in_any_container(name):
    X = containers()[name]
    for n in (*SIZES, N):
        columns = columns_of(head(X, n))
        assert columns.names == list(cells())
        assert columns.n_rows == n
        for j, expected in enumerate(cells().values()):
            assert plain(columns.read(j)) == expected[:n]
            rows = np.arange(n)[::-2]
            taken = columns.take(rows)
            assert plain(taken.read(j)) == [expected[i] for i in rows]
            assert taken.is_number(j) == columns.is_number(j)


@pytest.mark.parametrize("name", CONTAINERS)
def test_dtypes_are_understood_in_any_container(name):
    """Objects of a DataFrame are categories, as their dtype says; of a dict what they are."""
    columns = columns_of(containers()[name])
    numbers = [columns.is_number(j) for j in range(6)]
    integers = [columns.is_integer(j) for j in range(6)]
    expected = [True, False, True, True, False, False]
    if name in ("structured", "record", "masked", "dict of arrays"):
        expected[3] = False  # None among integers makes objects of them
    if name in ("objects", "dict of arrays"):
        expected[0] = False
    if name == "objects":
        expected[2:4] = False, False
    assert numbers == expected
    assert integers == [False, False, True, True, False, False]
    assert not any(columns.is_bag(j) or columns.is_date(j) for j in range(6))


ENCODED = {"categorical": ["town", "user", "item", "flag", "grade"], "numeric": ["price"]}


@pytest.mark.parametrize("name", CONTAINERS)
def test_same_codes_from_any_container(name):
    """Fitted on one and applied to the other, either way round."""
    X = containers()[name]
    reference = FieldEncoder(**ENCODED).fit(frame())
    codes = reference.transform(frame())
    encoder = FieldEncoder(**ENCODED)
    assert_array_equal(encoder.fit_transform(X), codes)
    assert encoder.feature_names_in_.tolist() == list(cells())
    assert_array_equal(encoder.transform(frame()), codes)
    for n in SIZES:
        assert_array_equal(reference.transform(head(X, n)), codes[:n])
        assert_array_equal(encoder.transform(frame()[:n]), codes[:n])


def test_columns_are_found_by_name():
    names = list(cells())
    reference = FieldEncoder(**ENCODED).fit(frame())
    codes = reference.transform(frame())
    for X in (
        {"extra": [0] * N, **dict(reversed(cells().items()))},
        pa.table(cells()).select(names[::-1]),
        structured()[names[::-1]],
        pl.DataFrame(cells()).select([*names[::-1]]),
    ):
        assert_array_equal(reference.transform(X), codes)
    with pytest.raises(ValueError, match=r"columns are missing: \['town'\]"):
        reference.transform(pa.table(cells()).drop_columns(["town"]))


def test_object_arrays_have_the_codes_of_frames():
    X = np.column_stack([objects(v) for v in cells().values()])
    codes = FieldEncoder(**ENCODED).fit_transform(frame())
    encoder = FieldEncoder(categorical=[1, 2, 3, 4, 5], numeric=[0])
    assert_array_equal(encoder.fit_transform(X), codes)
    assert not hasattr(encoder, "feature_names_in_")
    assert [columns_of(X).is_number(j) for j in range(6)] == [True, False, True, True, False, False]
    few = columns_of(np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]))
    assert plain(few.read(1)) == [None, 4]
    assert plain(columns_of(np.ma.array([[1.0]], mask=[[True]])).read(0)) == [None]


# -- estimators --------------------------------------------------------------------------------

SMALL = {"max_epochs": 2, "solver": "adagrad", "random_state": 0}
Y = np.arange(N) % 2


@pytest.mark.parametrize("name", CONTAINERS)
def test_estimators_take_any_container(name):
    X, encoder = containers()[name], FieldEncoder(**ENCODED)
    reference = FMClassifier(encoder=encoder, **SMALL).fit(frame(), Y, eval_set=(frame(), Y))
    model = FMClassifier(encoder=encoder, **SMALL).fit(X, Y, eval_set=(X, Y))
    assert model.feature_names_in_.tolist() == list(cells())
    assert model.n_features_in_ == 6
    expected = reference.predict_proba(frame())
    assert_array_equal(model.predict_proba(X), expected)
    assert_array_equal(model.predict_proba(head(X, 3)), reference.predict_proba(frame()[:3]))
    assert_array_equal(model.predict_proba(frame()), expected)
    assert_array_equal(reference.predict_proba(X), expected)
    expected = reference.partial_fit(frame(), Y).predict_proba(frame())
    assert_array_equal(model.partial_fit(X, Y).predict_proba(X), expected)


@pytest.mark.parametrize("name", ["pandas", "polars", "pyarrow", "structured"])
def test_cross_validation(name):
    X = containers()[name]
    model = FMClassifier(encoder=FieldEncoder(**ENCODED), **SMALL)
    assert_array_equal(cross_val_score(model, X, Y), cross_val_score(model, frame(), Y))


def test_codes_in_any_container_with_a_schema():
    codes = FieldEncoder(**ENCODED).fit_transform(frame())
    model = FMClassifier(schema=codes.schema, **SMALL).fit(np.asarray(codes), Y)
    expected = model.predict_proba(np.asarray(codes))
    columns = {name: np.asarray(codes)[:, j] for j, name in enumerate(codes.schema.names)}
    for X in (pl.DataFrame(columns), pa.table(columns), columns, pd.DataFrame(columns)):
        named = FMClassifier(schema=codes.schema, **SMALL).fit(X, Y)
        assert_array_equal(named.predict_proba(X), expected)


def test_numbers_of_a_list_with_text_stay_numbers():
    """The estimator had numpy turn them into text before the encoder saw them."""
    rows = [[i % 3, "ab"[i % 2]] for i in range(20)]
    model = FMClassifier(**SMALL).fit(rows, Y[:20])
    assert model.schema_.kinds == FieldEncoder().fit(rows).schema_.kinds
    X = np.array(rows, dtype=object)
    assert_array_equal(model.predict_proba(rows), model.predict_proba(X))


# -- special columns ---------------------------------------------------------------------------

DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 1)
ZONED = NOON.replace(tzinfo=dt.UTC)

# cells, and the dtype that polars and Arrow give them
SPECIAL = {
    "dates": ([DAY, None, dt.date(1800, 1, 1)], pl.Date, pa.date32()),
    "days": ([DAY, None], pl.Date, pa.date64()),
    "moments": ([NOON, None], pl.Datetime("us"), pa.timestamp("us")),
    "milliseconds": ([NOON.replace(microsecond=0), None], pl.Datetime("ms"), pa.timestamp("s")),
    "zoned": (
        [ZONED, None],
        pl.Datetime("us", "Asia/Kolkata"),
        pa.timestamp("us", tz="Asia/Kolkata"),
    ),
    "durations": ([dt.timedelta(days=1, microseconds=1), None], pl.Duration, pa.duration("us")),
    "times": ([dt.time(1, 2, 3), None], pl.Time, pa.time64("us")),
    "decimals": ([Decimal("1.25"), None], pl.Decimal(20, 2), pa.decimal128(20, 2)),
    "bytes": ([b"a\0", None], pl.Binary, pa.binary()),
    "large": ([2**63 + 1, None, 2**64 - 1, 0], pl.UInt64, pa.uint64()),
    "lists": ([["a", "b"], None, []], pl.List(pl.String), pa.list_(pa.string())),
    "large lists": ([[1, 2**60 + 1], None, []], pl.List(pl.Int64), pa.large_list(pa.int64())),
    "arrays": ([[1, 2], [3, 4]], pl.Array(pl.Int8, 2), pa.list_(pa.int8(), 2)),
    "coded lists": (
        [["a", "b"], None, []],
        pl.List(pl.Categorical),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
    ),
    "coded arrays": (
        [["a", "b"]],
        pl.Array(pl.Enum(["b", "a"]), 2),
        pa.list_(pa.string(), 2),
    ),
    "nothing": ([None, None], pl.Null, pa.null()),
    "floats": ([0.5, None], pl.Float32, pa.float16()),
}


BAGS = [name for name in SPECIAL if name.endswith(("lists", "arrays"))]
NO_BAGS = [name for name in SPECIAL if name not in BAGS]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_columns(name, n):
    """The cells are exact, and known as what they are, in every container and number."""
    some, of_polars, of_arrow = SPECIAL[name]
    expected = (some * n)[:n]
    arrow = pa.array(expected, of_arrow)
    tables = {
        "polars": pl.DataFrame({"a": expected}, schema={"a": of_polars}),
        "pyarrow": pa.table({"a": arrow}),
        "pandas arrow": pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(arrow)}),
        "dict": {"a": expected},
        "objects": pd.DataFrame({"a": objects(expected)}),
        "array": objects(expected)[:, None],
    }
    is_date = name in ("dates", "days", "moments", "milliseconds", "zoned")
    is_bag = name in BAGS
    for container, X in tables.items():
        columns = columns_of(X)
        assert plain(columns.read(0)) == expected, container
        present = any(cell is not None for cell in expected)
        assert columns.is_date(0) == (is_date and present), container
        assert columns.is_bag(0) == (is_bag and present), container
        if container in ("polars", "pyarrow", "pandas arrow"):
            assert columns.is_number(0) == (
                name in ("large", "floats") or (name in ("decimals", "durations") and present)
            )
            assert columns.is_integer(0) == (name == "large")


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", [*NO_BAGS, "huge", "nanoseconds"])
def test_special_categories_have_the_same_codes(name, n):
    """What is no bag can be a category; known from one container, it is so from the others."""
    some, of_polars, of_arrow = SPECIAL.get(name, (None, None, None))
    if name == "huge":
        some, of_polars, of_arrow = [2**70, None, -1], pl.Int128, None
    if name == "nanoseconds":
        moment = pd.Timestamp("2024-02-29 12:00:00.000000001")
        some, of_polars, of_arrow = [moment, moment.floor("us")], None, pa.timestamp("ns")
    full, expected = (some * N)[:N], (some * n)[:n]

    def tables(column):
        yield {"a": objects(column)}
        if of_polars is not None:
            yield pl.DataFrame({"a": pl.Series(column, dtype=of_polars)})
        if of_arrow is not None:
            arrow = pa.array(column, of_arrow)
            if of_polars is None:
                yield pl.DataFrame({"a": pl.Series(arrow)})
            yield pa.table({"a": arrow})
            yield pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(arrow)})

    codes = FieldEncoder(categorical=["a"]).fit_transform({"a": objects(full)})
    for fitted in tables(full):
        encoder = FieldEncoder(categorical=["a"]).fit(fitted)
        for other in tables(expected):
            assert_array_equal(encoder.transform(other), codes[:n])


@pytest.mark.parametrize("n", [1, FEW_ROWS, FEW_ROWS + 1])
def test_columns_of_pandas_alone(n):
    """Periods and intervals are categories, time spans numbers; the other byte order is read.

    pandas hashed moments in the other byte order by their bytes: wrong moments, no error.
    """
    spans = pd.to_timedelta(np.arange(n), unit="D")
    moments = np.array(["2024-01-01"] * n, dtype=">M8[us]")
    X = pd.DataFrame(
        {
            "period": pd.period_range("2024-01", periods=n, freq="M"),
            "interval": pd.interval_range(0, n),
            "span": spans,
            "swapped": np.arange(n).astype(">i8"),
            "sparse": pd.arrays.SparseArray(np.arange(n) % 3, fill_value=0),
            "hollow": pd.arrays.SparseArray([1.5] + [np.nan] * (n - 1)),
        }
    )
    columns = columns_of(X)
    for j, name in enumerate(["period", "interval", "span", "swapped", "sparse"]):
        assert plain(columns.read(j)) == plain(X[name])
    assert plain(columns.read(5)) == [1.5] + [None] * (n - 1)
    assert [columns.is_number(j) for j in range(6)] == [False] * 2 + [True] * 4
    assert [columns.is_integer(j) for j in range(6)] == [False] * 3 + [True] * 2 + [False]
    encoder = FieldEncoder(categorical=["period", "interval", "span", "swapped", "sparse"])
    codes = encoder.fit_transform(X)
    assert_array_equal(codes[:, :4], np.repeat(np.arange(n)[:, None], 4, axis=1))
    assert_array_equal(encoder.transform(X.astype(object)), codes)
    array = columns_of(np.column_stack([moments, moments]))
    assert array.read(0).dtype.isnative
    assert plain(array.read(0)) == [dt.datetime(2024, 1, 1)] * n
    assert array.is_date(1)


def test_arrow_dictionaries_that_are_no_categories():
    """A category may occur twice in Arrow, or be null; pandas refuses both."""
    for dictionary, expected in ((["a", "a"], ["a", "a", None]), (["a", None], ["a", None, None])):
        codes = pa.array([0, 1, None], pa.int8())
        column = pa.DictionaryArray.from_arrays(codes, pa.array(dictionary))
        for X in (
            pa.table({"a": pa.chunked_array([column] * 5)}),
            pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(pa.chunked_array([column] * 5))}),
        ):
            assert plain(columns_of(X).read(0)) == expected * 5


def test_arrow_extension_types():
    X = pd.DataFrame({"month": pd.period_range("2024-01", periods=20, freq="M")})
    column = columns_of(pa.Table.from_pandas(X)).read(0)
    assert plain(column) == plain(X["month"])


def test_arrow_types_that_pandas_does_not_know():
    whole = pa.array([1, 1, None, 2**60 + 1] * 50)
    lists = [["a"], None] * 100
    X = {"a": pc.run_end_encode(whole), "b": pa.array(lists, pa.list_view(pa.string()))}
    columns = columns_of(pa.table(X))
    assert plain(columns.read(0)) == whole.to_pylist()
    assert plain(columns.read(1)) == lists
    assert columns.is_integer(0)
    assert columns.is_bag(1)


@pytest.mark.parametrize("n", SIZES)
def test_maps_are_dicts_of_weights(n):
    """A map came as a list of pairs, each of which was taken for a category without weight."""
    some = ([{"a": 1.0, "b": 0.5}, None, {}] * n)[:n]
    pairs = [None if cell is None else list(cell.items()) for cell in some]
    arrow = pa.array(pairs, pa.map_(pa.string(), pa.float64()))
    codes = FieldEncoder().fit_transform({"a": objects(some)})
    frame = pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(arrow)})
    for X in (pa.table({"a": arrow}), frame, {"a": arrow}):
        columns = columns_of(X)
        assert columns.is_bag(0)
        assert plain(columns.read(0)) == some
        assert_array_equal(FieldEncoder().fit_transform(X), codes)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", [*BAGS, "dates", "days", "moments", "milliseconds", "zoned"])
def test_special_columns_have_the_same_codes(name, n):
    """The fields that the encoder makes of bags and dates by itself."""
    some, of_polars, of_arrow = SPECIAL[name]
    cells = (some * n)[:n]
    arrow = pa.array(cells, of_arrow)
    codes = FieldEncoder().fit_transform({"a": objects(cells)})
    for X in (
        pl.DataFrame({"a": cells}, schema={"a": of_polars}),
        pa.table({"a": arrow}),
        pd.DataFrame({"a": pd.arrays.ArrowExtensionArray(arrow)}),
        objects(cells)[:, None],
    ):
        encoder = FieldEncoder()
        assert_array_equal(encoder.fit_transform(X), codes)
        assert_array_equal(encoder.transform(X), codes)


def test_structs_are_neither_bags_nor_categories():
    """polars and Arrow give each row all keys, so dicts of values and weights get lost in them."""
    for n in (2, 200):
        for X in (pl.DataFrame({"a": [{"b": 1}] * n}), pa.table({"a": [{"b": 1}] * n})):
            assert not columns_of(X).is_bag(0)
            with pytest.raises(TypeError, match=r"'a' holds \{'b': 1\} in row 0"):
                FieldEncoder().fit(X)


def test_other_libraries_by_their_arrow_stream():
    """narwhals, duckdb, ibis and others show their results to Arrow."""

    class Result:
        columns = list(cells())

        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table(cells()).__arrow_c_stream__(requested_schema)

    assert [plain(columns_of(Result()).read(j)) for j in range(6)] == list(cells().values())


# -- what the cells of objects are ---------------------------------------------------------------

OBJECTS = {
    "lists": ([["a"], None, []], "bag"),
    "tuples": ([("a",), None], "bag"),
    "sets": ([{"a"}, np.nan], "bag"),
    "frozen sets": ([frozenset("a"), pd.NA], "bag"),
    "arrays": ([np.array([1, 2]), np.array([])], "bag"),
    "dicts": ([{"a": 0.5}, {}], "bag"),
    "lists and text": ([["a"], "b"], None),
    "tuples and text": ([("a", "b"), "b"], ""),
    "text": (["a", None], ""),
    "integers": ([1, None, 2**70], "integer"),
    "whole numbers": ([1, 2.0, np.nan], "integer"),
    "whole decimals": ([Decimal(3), None], "integer"),
    "whole floats": ([1.0, np.nan, 2.0], "integer"),
    "numbers": ([1, 2.5], ""),
    "infinity": ([1.0, np.inf], ""),
    "booleans": ([True, False], ""),
    "numbers and text": ([1, "a"], ""),
    "dates": ([DAY, None], "date"),
    "moments": ([pd.Timestamp(NOON), NOON, pd.NaT], "date"),
    "moments of numpy": ([np.datetime64("2024-01-01"), np.datetime64("NaT")], "date"),
    "dates and moments": ([DAY, NOON], "date"),
    "dates and text": ([DAY, "2024"], ""),
    "nothing": ([None, np.nan], ""),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("times", [1, 200])
def test_objects_are_told_by_their_cells(name, times):
    some, kind = OBJECTS[name]
    column = objects(some * times)
    with np.errstate(invalid="ignore"):
        for X in (column[:, None], pd.DataFrame({"a": pd.Series(column, dtype=object)})):
            columns = columns_of(X)
            answers = {k: getattr(columns, f"is_{k}")(0) for k in ("bag", "integer", "date")}
            assert answers == {k: k == kind for k in ("bag", "integer", "date")}
            few = columns.take(np.arange(len(some)))
            assert getattr(few, f"is_{kind or 'bag'}")(0) == bool(kind)


def test_bags_are_found_behind_missing_cells():
    cells = objects([None] * 50_000 + [["a"]] + [None] * 50_000)
    assert columns_of(cells[:, None]).is_bag(0)


def test_polars_objects_are_told_by_their_cells():
    X = pl.DataFrame({"a": pl.Series([{1}, {2, 3}], dtype=pl.Object)})
    assert columns_of(X).is_bag(0)
    assert plain(columns_of(X).read(0)) == [{1}, {2, 3}]


# -- without copies, without pyarrow -------------------------------------------------------------


def test_numbers_are_not_copied():
    numbers, wholes = np.arange(200.0), np.arange(200)
    record = np.zeros(200, dtype=[("a", "f8"), ("b", "i8")])
    for X, owner in (
        (pd.DataFrame({"a": numbers, "b": wholes}, copy=False), numbers),
        ({"a": numbers, "b": wholes}, numbers),
        ({"a": pa.array(numbers), "b": wholes}, numbers),
        (pa.table({"a": numbers, "b": wholes}), numbers),
        (record, record),
        (pl.DataFrame({"a": numbers, "b": wholes}), None),
    ):
        owner = X.get_column("a").to_numpy(allow_copy=False) if owner is None else owner
        column = columns_of(X).read(0)
        assert isinstance(column, np.ndarray)
        assert np.shares_memory(column, owner)


def test_text_of_polars_and_arrow_comes_in_arrow():
    text = ["a", None] * FEW_POLARS_ROWS
    for X in (pl.DataFrame({"a": text}), pa.table({"a": text})):
        assert columns_of(X).read(0).dtype == pd.StringDtype("pyarrow", na_value=np.nan)
    encoded = pl.DataFrame({"a": text}, schema={"a": pl.Categorical})
    assert isinstance(columns_of(encoded).read(0), pd.Categorical)


@pytest.mark.parametrize("name", [name for name in SPECIAL if name != "coded arrays"])
def test_polars_without_pyarrow(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    some, of_polars, _ = SPECIAL[name]
    expected = some * (FEW_POLARS_ROWS + 1)
    X = pl.DataFrame({"a": expected}, schema={"a": of_polars})
    assert plain(columns_of(X).read(0)) == expected


# -- which column is what ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["polars category", "pyarrow dictionary"])
@pytest.mark.parametrize("n", [2, N])
def test_columns_by_dtype(name, n):
    """In the words of pandas, however many rows there are."""
    X = head(containers()[name], n)
    columns = columns_of(X)
    for spec, expected in (
        ("number", {0, 2, 3}),
        (int, {2, 3}),
        (float, {0}),
        ("str", {1}),
        ("category", {5}),
        (bool, {4}),
        (make_column_selector("^u"), {2}),
        (make_column_selector(dtype_include="category"), {5}),
        (lambda X: ["user"], {2}),
    ):
        assert select_columns(X, spec, columns) == expected


# -- refusals ----------------------------------------------------------------------------------

TWO = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
REFUSED = {
    "lazy frame": (pl.LazyFrame({"a": [1]}), TypeError, r"holds no rows yet; pass X.collect\(\)"),
    "lengths": (
        {"a": [1, 2], "b": [1], "c": [1, 2], "d": []},
        ValueError,
        "equal length, but 'a' has 2 rows and 'b' has 1, 'd' has 0",
    ),
    "text in dict": (
        {"a": "xyz"},
        ValueError,
        "but 'a' is a single str. A single row is a",
    ),
    "number in dict": ({"a": 1, "b": 2}, ValueError, "but 'a' is a single int"),
    "set in dict": ({"a": {1}}, ValueError, "but 'a' is a single set"),
    "table in dict": ({"a": np.eye(2)}, ValueError, r"but 'a' is of shape \(2, 2\)"),
    "wide field": (
        np.zeros(2, dtype=[("a", "f8", (3,))]),
        ValueError,
        r"Field 'a' of the structured array holds several values per row \(.*\(3,\)\)\)",
    ),
    "nested field": (np.zeros(2, dtype=[("a", [("b", "i4")])]), ValueError, "Field 'a' of the"),
    "structured rows and columns": (
        np.zeros((2, 3), dtype=[("a", "f8")]),
        ValueError,
        r"must be one-dimensional, but X has shape \(2, 3\). Pass X.ravel\(\)",
    ),
    "levels": (
        TWO.set_axis(pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]), axis=1),
        ValueError,
        r"several levels, as \('a', 'x'\). Join them: X.columns =",
    ),
    "twice": (pa.table([[1], [2]], names=["a", "a"]), ValueError, r"occur twice: \['a'\]"),
    "mixed names": ({"a": [1], 2: [3]}, TypeError, "must convert them all to strings"),
    "complex": (pd.DataFrame({"a": [1j] * 2}), ValueError, "Complex data not supported: .*'a'"),
    "complex array": (np.array([[1j]]), ValueError, "Complex data not supported"),
    "no columns": ({}, ValueError, "Found array with 0"),
    "no rows": ({"a": []}, ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
    "no rows in Arrow": (pa.table({"a": pa.array([], pa.int8())}), ValueError, r"0 sample\(s\)"),
    "no rows in polars": (pl.DataFrame({"a": []}), ValueError, r"0 sample\(s\)"),
    "no rows in fields": (np.zeros(0, dtype=[("a", "f8")]), ValueError, r"0 sample\(s\)"),
    "polars series": (pl.Series([1]), ValueError, "Expected 2D array, got 1D array"),
    "pandas series": (pd.Series([1]), ValueError, "Expected a 2-dimensional container"),
    "arrow array": (pa.array([1]), ValueError, "Expected 2D array, got 1D array"),
    "chunked array": (pa.chunked_array([[1]]), ValueError, "Expected 2D array, got 1D array"),
    "list": ([1, 2], ValueError, "Expected 2D array, got 1D array"),
    "scalar": (3, ValueError, "Expected 2D array, got scalar array"),
    "text": ("abc", ValueError, "Expected 2D array, got scalar array"),
    "one record": (np.zeros(1, dtype=[("a", "f8")])[0], ValueError, "got scalar array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    X, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        FieldEncoder().fit(X)
    if isinstance(X, str):  # which estimators take for a path
        message = "X='abc' is taken for a table on disk, so y must be the name of the"
    with pytest.raises(error, match=message):
        FMClassifier(**SMALL).fit(X, [0, 1])


def test_a_lazy_frame_is_refused_in_predict():
    model = FMClassifier(**SMALL).fit(TWO, [0, 1])
    with pytest.raises(TypeError, match="collect"):
        model.predict(pl.LazyFrame({"a": [1], "b": ["x"]}))


def test_other_tables_are_left_as_they_are():
    for X in (TWO, pl.DataFrame({"a": [1]}), np.eye(2), [[1]], None, 3):
        assert as_table(X) is X
