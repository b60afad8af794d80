"""Which column becomes which field: roles, refusals, ids, hashing, and how it is shown."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_fm.encoding import BagField, CategoryField, DateField, FieldEncoder, NumberField
from sklearn_fm.encoding.hashing import xxh64


def visits(n=400, seed=0):
    """A table with a column of every kind."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": rng.permutation(np.r_[np.arange(100), rng.integers(0, 100, n - 100)]),
            "city": rng.choice(["Oslo", "Rome", "Bonn"], n),
            "price": rng.exponential(10, n),
            "genres": [list(rng.choice(list("abcd"), rng.integers(0, 4))) for _ in range(n)],
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "h"),
            "scores": [dict.fromkeys(rng.choice(list("xyz"), 2), 0.5) for _ in range(n)],
        }
    )


# -- roles -----------------------------------------------------------------------------------


def test_every_kind_of_column_finds_its_field():
    encoder = FieldEncoder().fit(visits())
    assert dict(zip(encoder.schema_.names, encoder.schema_.kinds, strict=True)) == {
        "user": "categorical",
        "city": "categorical",
        "price": "binned",
        "genres": "bag",
        "when_month": "categorical",
        "when_weekday": "categorical",
        "when_hour": "categorical",
        "when_age": "binned",
        "scores": "bag",
    }
    assert encoder.schema_.poolings[3] == "mean"
    assert encoder.schema_.poolings[8] == "weighted"


def test_fields_by_name_and_by_position():
    X = visits()
    by_name = FieldEncoder(fields={"price": NumberField(scaler="log"), "city": CategoryField()})
    by_place = FieldEncoder(fields={2: NumberField(scaler="log"), 1: CategoryField()})
    assert_array_equal(by_name.fit_transform(X), by_place.fit_transform(X))
    array = X[["city", "price"]].to_numpy(dtype=object)
    for key in (1, "x1"):
        encoder = FieldEncoder(fields={key: CategoryField()}).fit(array)
        assert encoder.schema_.kinds == ("categorical", "categorical")
    # a name that is an integer wins over a position
    named = pd.DataFrame({1: ["a", "b"], 0: [1.0, 2.0]})
    encoder = FieldEncoder(fields={0: NumberField(scaler=None)}).fit(named)
    assert encoder.schema_.kinds == ("categorical", "numeric")
    assert encoder.summary()["columns"].tolist() == ["1", "0"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fields": {"town": CategoryField()}}, "fields= names the column 'town'; the table has"),
        ({"fields": {9: CategoryField()}}, "fields= names the column 9; the table has"),
        ({"fields": {-1: CategoryField()}}, "fields= names the column -1"),
        (
            {"fields": {"city": CategoryField(), 1: CategoryField()}},
            "fields= describes the column 'city' twice",
        ),
        (
            {"fields": {"city": CategoryField()}, "categorical": ["city"]},
            r"both fields= and categorical=: \['city'\]. Name each in one",
        ),
        (
            {"fields": {"price": NumberField()}, "numeric": ["price"]},
            r"both fields= and numeric=: \['price'\]",
        ),
        (
            {"categorical": ["city", "price"], "numeric": ["price"]},
            r"both categorical= and numeric=: \['price'\]",
        ),
        ({"categorical": ["town"]}, r"columns are missing: \['town'\]; the table has"),
        ({"fields": {"city": "category"}}, "The 'fields' parameter of FieldEncoder must be a dict"),
        ({"fields": ["city"]}, "The 'fields' parameter of FieldEncoder must be a dict"),
        (
            {"hash_buckets": 0},
            "'hash_buckets' parameter of FieldEncoder must be an int of at least",
        ),
        (
            {
                "fields": {
                    "city": CategoryField(vocabulary="v", hash_buckets=9),
                    "user": CategoryField(vocabulary="v"),
                }
            },
            "Fields 'user' and 'city' share the vocabulary 'v', so their hash_buckets",
        ),
    ],
    ids=str,
)
def test_refusals(parameters, message):
    with pytest.raises(ValueError, match=message):
        FieldEncoder(**parameters).fit(visits())


def test_parts_of_dates_may_not_take_the_name_of_a_column():
    X = pd.DataFrame({"d": pd.date_range("2020", periods=3), "d_age": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match=r"several fields named \['d_age'\]; rename"):
        FieldEncoder().fit(X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: CategoryField(vocabulary=3),
            "'vocabulary' parameter of CategoryField must be a str",
        ),
        (lambda: CategoryField(hash_buckets=-1), "'hash_buckets' parameter of CategoryField"),
        (lambda: CategoryField(n_hashes=0), "'n_hashes' parameter of CategoryField"),
        (lambda: BagField(min_frequency=1.0), "'min_frequency' parameter of BagField must be"),
        (lambda: BagField(max_categories=True), "'max_categories' parameter of BagField"),
        (lambda: BagField(separator=""), "'separator' parameter of BagField must be a str of at"),
        (
            lambda: BagField(pooling="median"),
            "'pooling' parameter of BagField must be 'sum', 'mean'",
        ),
        (lambda: BagField(pooling="max", weights=True), "or, without weights, 'max'. Got 'max'"),
        (lambda: BagField(weights=3), "'weights' parameter of BagField must be a column's name"),
        (lambda: BagField(separator="|", weights=True), "'weights' parameter of BagField"),
        (lambda: BagField(max_length=0), "'max_length' parameter of BagField must be an int of"),
        (
            lambda: BagField(truncate=True),
            "'truncate' parameter of BagField must be 'first', 'last'",
        ),
        (lambda: NumberField(scaler="bin"), "'scaler' parameter of NumberField must be 'bins'"),
        (lambda: NumberField(n_bins=1), "'n_bins' parameter of NumberField must be an int of at"),
        (lambda: DateField(parts=()), "'parts' parameter of DateField must be some of"),
        (lambda: DateField(parts="month"), "'parts' parameter of DateField must be some of"),
        (lambda: DateField(parts=("month", "month")), "'parts' parameter of DateField"),
        (lambda: DateField(cyclic=1), "'cyclic' parameter of DateField must be True or False"),
    ],
)
def test_descriptions_check_themselves(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_descriptions_show_what_differs_from_the_defaults():
    assert repr(BagField()) == "BagField()"
    field = BagField(separator="|", pooling="sum", max_length=5)
    assert eval(repr(field)) == field
    encoder = FieldEncoder(fields={"genres": field})
    assert "BagField(separator='|', pooling='sum', max_length=5)" in repr(encoder)
    assert clone(encoder).fields == encoder.fields


# -- summary --------------------------------------------------------------------------------------


def test_summary_counts():
    X = pd.DataFrame(
        {
            "city": ["a", "a", "a", "b", None],
            "n": [1.0, 2.0, np.nan, np.nan, 5.0],
            "bag": [["x", "y"], [], ["x"], None, ["x", "z", "y"]],
            "w": [[1.0, 2.0], [], [1.0], None, [1.0, 1.0, 1.0]],
        }
    )
    fields = {"bag": BagField(weights="w", min_frequency=2), "city": CategoryField(min_frequency=2)}
    encoder = FieldEncoder(fields=fields).fit(X)
    table = encoder.summary()
    assert table.index.tolist() == ["city", "n", "bag"]
    assert table["kind"].tolist() == list(encoder.schema_.kinds)
    assert table["columns"].tolist() == ["city", "n", "bag, w"]
    assert table["vocabulary_size"].tolist() == list(encoder.schema_.vocabulary_sizes)
    assert table["slots"].tolist() == [1, 1, 3]
    assert_allclose(table["missing_share"], [1 / 5, 2 / 5, 2 / 5])
    assert_allclose(table["unknown_share"], [2 / 5, 0, 1 / 6])  # b and missing; z of six items
    assert_allclose(table["mean_length"], [1, 1, 6 / 5])
    assert table["max_length"].tolist() == [1, 1, 3]
    assert (table["bytes"] > 0).all()
    weighted = FieldEncoder(fields=fields).fit(X, sample_weight=[3, 1, 2, 1, 1])
    repeated = FieldEncoder(fields=fields).fit(X.loc[np.repeat(range(5), [3, 1, 2, 1, 1])])
    columns = ["missing_share", "unknown_share", "mean_length"]
    assert_allclose(
        weighted.summary()[columns].astype(float), repeated.summary()[columns].astype(float)
    )


def test_html():
    X = pd.DataFrame({"<b>": ["x", "y"], "n": [1.0, 2.0]})
    encoder = FieldEncoder()
    assert "<table" not in encoder._repr_html_()[-200:]
    html = encoder.fit(X)._repr_html_()
    assert "&lt;b&gt;" in html
    assert "vocabulary_size" in html
    bundle = encoder._repr_mimebundle_()
    assert "text/plain" in bundle


# -- hashing --------------------------------------------------------------------------------------


def test_only_columns_of_more_categories_are_hashed():
    n = 30
    X = pd.DataFrame(
        {
            "many": [f"m{i}" for i in range(n)],
            "few": [f"f{i % 3}" for i in range(n)],
            "exact": [f"e{i % 5}" for i in range(n)],
            "bag": [[f"b{i}", f"b{i + 1}"] for i in range(n)],
            "kept": [f"k{i}" for i in range(n)],
            "number": np.arange(n) / 2,
        }
    )
    fields = {"kept": CategoryField(hash_buckets=0), "few": CategoryField(n_hashes=2)}
    encoder = FieldEncoder(hash_buckets=5, fields=fields)
    codes = encoder.fit_transform(X)
    sizes = dict(zip(encoder.schema_.names, encoder.schema_.vocabulary_sizes, strict=True))
    assert sizes == {"many": 6, "few": 4, "exact": 6, "bag": 6, "kept": n + 1, "number": 21}
    assert_array_equal(encoder.transform(X), codes)
    many, bag = np.asarray(codes.select(["many"])), np.asarray(codes.select(["bag"]))
    assert_array_equal(many[:, 0], [xxh64(text.encode()) % 5 for text in X["many"]])
    assert_array_equal(bag, [[xxh64(text.encode()) % 5 for text in cell] for cell in X["bag"]])
    for name in ("many", "bag"):
        assert "hash into 5" in encoder.summary().loc[name, "encoding"]
        with pytest.raises(ValueError, match=f"Field '{name}' is hashed, so its codes cannot be"):
            FieldEncoder(hash_buckets=5).fit(X[[name]]).inverse_transform(
                FieldEncoder(hash_buckets=5).fit_transform(X[[name]])
            )
    assert_allclose(encoder.summary()["mean_length"].to_numpy(float), [1, 1, 1, 2, 1, 1])


def test_hashed_missing_is_unknown_and_hashes_differ():
    X = pd.DataFrame({"x": ["a", None, "b", "c"]})
    encoder = FieldEncoder(fields={"x": CategoryField(hash_buckets=1000, n_hashes=3)})
    codes = encoder.fit_transform(X)
    assert_array_equal(codes[1], [-1, -1, -1])
    for row, text in zip(np.asarray(codes)[[0, 2, 3]], "abc", strict=True):
        assert row.tolist() == [xxh64(text.encode(), seed) % 1000 for seed in range(3)]
    assert encoder.summary().loc["x", "missing_share"] == 0.25
    assert encoder.get_feature_names_out().tolist() == ["x_0", "x_1", "x_2"]


def test_hashes_are_those_of_another_process():
    X = {"x": ["a", "é", "", "longer than it was"], "g": [[1, "b"], [2.5, "c", "d"], [], []]}
    code = (
        "import numpy as np; from sklearn_fm.encoding import FieldEncoder;"
        f"print(np.asarray(FieldEncoder(hash_buckets=3).fit_transform({X})).tolist())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    encoder = FieldEncoder(hash_buckets=3)
    assert eval(there.stdout) == encoder.fit_transform(X).tolist()
    assert encoder.summary()["encoding"].tolist() == ["hash into 3"] * 2


def test_shared_vocabularies_become_too_large_together():
    X = pd.DataFrame({"a": list("abcd"), "b": list("efgh")})
    field = CategoryField(vocabulary="both")
    for buckets, size in ((7, 8), (8, 9)):
        encoder = FieldEncoder(hash_buckets=buckets, fields={"a": field, "b": field})
        codes = encoder.fit_transform(X)
        assert encoder.schema_.vocabulary_sizes == (size, size)
        assert ("hash" in encoder.summary().loc["a", "encoding"]) == (buckets == 7)
        assert_array_equal(encoder.transform(X), codes)


# -- threads --------------------------------------------------------------------------------------


def test_threads_give_the_same_codes():
    X = visits(12_000)
    fields = {
        "genres": BagField(vocabulary="v"),
        "city": CategoryField(vocabulary="v"),
        "price": NumberField(scaler="piecewise"),
    }
    alone = FieldEncoder(fields=fields)
    together = FieldEncoder(fields=fields, n_jobs=2)
    assert_array_equal(together.fit_transform(X), alone.fit_transform(X))
    assert together.schema_ == alone.schema_
    assert_array_equal(together.transform(X[::-1]), alone.transform(X[::-1]))
    with pytest.raises(ValueError, match="Field 'price' is numeric, but row 0 holds 'dear'"):
        together.transform(X.assign(price="dear"))


def test_a_vocabulary_that_no_other_field_has_is_a_slip():
    X = pd.DataFrame({"film": ["a", "b"], "seen": [["a"], ["b"]]})
    with pytest.raises(ValueError, match="names the vocabulary 'flm', but no other field has"):
        FieldEncoder(fields={"seen": BagField(vocabulary="flm")}).fit(X)
    both = {
        name: field(vocabulary="v") for name, field in [("film", CategoryField), ("seen", BagField)]
    }
    assert FieldEncoder(fields=both).fit(X).schema_.vocabularies == ("v", "v")


def test_text_that_looks_like_dates_is_remarked_upon():
    X = pd.DataFrame({"when": ["2024-01-05", "2024-02-07 12:00"], "code": ["2024-x", "7"]})
    notes = FieldEncoder().fit(X).summary()["note"]
    assert "pandas.to_datetime" in notes["when"]
    assert notes["code"] == ""
