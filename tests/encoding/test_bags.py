"""Bags: reading cells of any kind, pooling by definition, lengths, weights, shared vocabularies."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_fm.data.array import FieldArray
from sklearn_fm.encoding import BagField, CategoryField, FieldEncoder
from sklearn_fm.encoding.bags import read_bags
from sklearn_fm.models import FM

LISTS = [["b", "a"], [], ["c"], None, ["a", "c", "b"]]
CODES = [[0, 1, -2], [-2, -2, -2], [2, -2, -2], [-2, -2, -2], [1, 2, 0]]


def objects(values):
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def mapped(make, cells=LISTS):
    return objects([None if cell is None else make(cell) for cell in cells])


def containers_of_lists():
    """The same bags, in order, as others would hold them."""
    arrow = pd.ArrowDtype(pa.list_(pa.string()))
    return {
        "lists": pd.DataFrame({"g": mapped(list)}),
        "tuples": pd.DataFrame({"g": mapped(tuple)}),
        "arrays": pd.DataFrame({"g": mapped(lambda bag: np.array(bag, dtype=object))}),
        "arrow": pd.DataFrame({"g": pd.array(LISTS, dtype=arrow)}),
        "arrow of dictionaries": pd.DataFrame(
            {
                "g": pd.array(
                    LISTS, dtype=pd.ArrowDtype(pa.list_(pa.dictionary(pa.int32(), pa.string())))
                )
            }
        ),
        "pyarrow": pa.table({"g": pa.array(LISTS, type=pa.large_list(pa.string()))}),
        "polars": pl.DataFrame({"g": pl.Series(LISTS, dtype=pl.List(pl.String))}),
        "dict": {"g": LISTS},
    }


def containers_of_text(cells):
    arrow = pa.array(cells, type=pa.string())
    return {
        "objects": objects(cells),
        "str": pd.array(cells, dtype="str"),
        "python": pd.array(cells, dtype=pd.StringDtype("python")),
        "arrow": pd.array(cells, dtype=pd.ArrowDtype(pa.string())),
        "sliced": pd.arrays.ArrowExtensionArray(pa.concat_arrays([arrow, arrow])[len(cells) :]),
        "category": pd.Categorical(cells),
    }


def encode(cells, field=None, **parameters):
    X = pd.DataFrame({"g": objects(cells)})
    return FieldEncoder(fields={"g": field or BagField()}, **parameters).fit_transform(X)


# -- reading cells ---------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", containers_of_lists())
def test_same_bags_same_codes(fitted):
    encoder = FieldEncoder()
    assert_array_equal(encoder.fit_transform(containers_of_lists()[fitted]), CODES)
    assert encoder.schema_.kinds == ("bag",)
    assert encoder.schema_.vocabulary_sizes == (4,)
    for name, other in containers_of_lists().items():
        assert_array_equal(encoder.transform(other), CODES, err_msg=name)


def test_sets_are_put_in_an_order_that_no_hash_seed_changes():
    cells = [{"b", "a", 10, 2}, frozenset({"a", "b", 2, 10}), {None, "a"}]
    codes = encode(cells)
    assert_array_equal(codes[0], codes[1])
    code = (
        "from sklearn_fm.encoding.bags import read_bags; import numpy as np;"
        "cells = np.empty(1, object); cells[0] = {*'zyxwvabc', 3, 1};"
        "print(read_bags(cells, 'g').items.tolist())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert eval(there.stdout) == read_bags(objects([{*"zyxwvabc", 3, 1}]), "g").items.tolist()


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.one_of(st.none(), st.text("ab|é\0 ", max_size=8)), min_size=1, max_size=12),
    separator=st.sampled_from(["|", "a", "||", "aa", "é", "."]),
)
def test_delimited_text_is_split_as_python_does_whatever_the_container(cells, separator):
    bags = [[] if c is None else [i for i in c.split(separator) if i] for c in cells]
    for name, values in containers_of_text(cells).items():
        read = read_bags(values, "g", separator)
        assert read.lengths.tolist() == [len(bag) for bag in bags], name
        assert list(read.items) == [item for bag in bags for item in bag], name


def test_delimited_text_without_pyarrow(monkeypatch):
    cells = objects(["a|b", None, "", "b||c|"])
    expected = read_bags(cells, "g", "|")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    read = read_bags(cells, "g", "|")
    assert isinstance(read.items, np.ndarray)
    assert read.items.tolist() == list(expected.items) == ["a", "b", "b", "c"]
    assert read.lengths.tolist() == expected.lengths.tolist() == [2, 0, 0, 2]


def test_half_of_a_surrogate_pair_in_delimited_text():
    assert read_bags(objects(["a|\ud800"]), "g", "|").items.tolist() == ["a", "\ud800"]


def test_dates_in_arrays_are_dates():
    """`datetime64[ns]` arrays turn into plain integers in ``tolist``."""
    day = pd.Timestamp("2020-01-02")
    codes = encode([np.array([day.to_datetime64()]).astype("M8[ns]"), [day]])
    assert_array_equal(codes, [[0], [0]])


def test_missing_within_a_bag_is_a_category_of_its_own():
    codes = encode([["a", None], [np.nan, "b"], ["b"]])
    assert_array_equal(codes, [[0, 2], [2, 1], [1, -2]])
    encoder = FieldEncoder().fit(pd.DataFrame({"g": [["a"], ["b"]]}))
    with pytest.warns(UserWarning, match="Field 'g' got bags of up to 2 values"):
        assert_array_equal(encoder.transform({"g": [["a", None]]}), [[0]])
    assert_array_equal(encoder.transform({"g": [[None]]}), [[-1]])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a|b", r"Field 'g' is a bag, but row 1 holds 'a\|b' \(str\).*separator="),
        (5, r"Field 'g' is a bag, but row 1 holds 5 \(int\); expected a list, tuple, set"),
        (np.ones((2, 2)), r"Field 'g' is a bag, but row 1 holds array"),
        (pd.Series([1]), r"Field 'g' is a bag, but row 1 holds 0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_cells_that_are_no_bags(cell, message):
    with pytest.raises(ValueError, match=message):
        encode([["a"], cell])


@pytest.mark.parametrize("n_rows", [3, 20])
@pytest.mark.parametrize("field", [BagField(), BagField(hash_buckets=5)])
def test_errors_within_bags_name_the_row_of_the_bag(field, n_rows):
    cells = [["a", "b"], ["c"], ["a", ["x"]]] + [["a"]] * (n_rows - 3)
    with pytest.raises(TypeError, match=r"Field 'g' holds \['x'\] in row 2: "):
        encode(cells, field)
    lists = pd.array([[[1, 2]], [[3]]], dtype=pd.ArrowDtype(pa.list_(pa.list_(pa.int64()))))
    with pytest.raises(TypeError, match=r"Field 'g' holds .*1, *2.* in row 0: "):
        FieldEncoder(fields={"g": field}).fit(pd.DataFrame({"g": lists}))


def test_unseen_categories_in_bags():
    X = pd.DataFrame({"genres": [["a", "b"], ["c"]]})
    encoder = FieldEncoder(handle_unknown="error").fit(X)
    message = r"Field 'genres' holds 'z' in row 1, which was not seen in fit"
    with pytest.raises(ValueError, match=message):
        encoder.transform(pd.DataFrame({"genres": [["a", "b"], ["c", "z"]]}))
    codes = FieldEncoder().fit(X).transform(pd.DataFrame({"genres": [["z", "b"]]}))
    assert_array_equal(codes, [[-1, 1]])


# -- length ------------------------------------------------------------------------------------


def test_too_long_a_bag():
    cells = [["a"], ["b"], [], list(range(45))]
    message = (
        r"^Field 'g' got a bag of 45 values in row 3 but max_length=20\. Raise max_length, or pass "
        r"truncate='first' or 'last'\.$"
    )
    with pytest.raises(ValueError, match=message):
        encode(cells, BagField(max_length=20))
    encoder = FieldEncoder(fields={"g": BagField()}).fit(pd.DataFrame({"g": [["a", "b"]]}))
    with pytest.warns(UserWarning, match="up to 3 values, but the longest in fit had 2: only the"):
        codes = encoder.transform(pd.DataFrame({"g": [["a"], ["b", "a", "a"]]}))
    assert_array_equal(codes, [[0, -2], [1, 0]])


@pytest.mark.parametrize(("truncate", "kept"), [("first", [1, 2]), ("last", [3, 4])])
@pytest.mark.parametrize("arrow", [False, True])
def test_truncation(truncate, kept, arrow):
    cells = [[1, 2, 3, 4], [9], []]
    values = pd.array(cells, dtype=pd.ArrowDtype(pa.list_(pa.int64()))) if arrow else objects(cells)
    encoder = FieldEncoder(fields={"g": BagField(max_length=2, truncate=truncate)})
    codes = encoder.fit_transform(pd.DataFrame({"g": values}))
    back = encoder.inverse_transform(codes)[:, 0].tolist()
    assert back == [tuple(kept), (9,), ()]
    assert encoder.schema_.vocabulary_sizes == (4,)  # what was cut off was never learned


def test_truncation_to_the_longest_of_fit_keeps_the_weights_of_what_is_kept():
    encoder = FieldEncoder(fields={"g": BagField(pooling="sum", truncate="last")})
    encoder.fit(pd.DataFrame({"g": [{"a": 1.0, "b": 2.0}, {"c": 3.0}]}))
    codes = encoder.transform(pd.DataFrame({"g": [{"a": 5.0, "b": 6.0, "c": 7.0}]}))
    assert encoder.inverse_transform(codes)[0, 0] == (("b", 6.0), ("c", 7.0))


@pytest.mark.parametrize("cells", [[[], None, ()], [None, None, None], [[]]])
def test_only_empty_bags(cells):
    codes = encode(cells)
    assert_array_equal(codes, np.full((len(cells), 1), -2))
    assert_array_equal(codes.values, np.zeros((len(cells), 1)))
    table = pd.DataFrame({"g": objects(cells)})
    encoder = FieldEncoder(fields={"g": BagField()}).fit(table)
    assert_array_equal(encoder.transform(pd.DataFrame({"g": [["new"]]})), [[-1]])
    assert encoder.summary().loc["g", "missing_share"] == 1


@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrtn", "max", "weighted"])
def test_a_row_of_empty_bags_has_the_bias_only(pooling):
    cells = [{"a": 1.0}, {}] if pooling == "weighted" else [["a", "b"], []]
    field = BagField() if pooling == "weighted" else BagField(pooling=pooling)
    X = pd.DataFrame({"g": objects(cells), "h": objects(cells)})
    codes = FieldEncoder(fields={"g": field, "h": field}).fit_transform(X)
    model = FM(codes.schema, embedding_dim=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
        raw = model(*codes.to_torch())
        rest = raw - model.bias
    assert float(rest[1]) == 0
    assert abs(float(rest[0])) > 1e-4


# -- pooling -------------------------------------------------------------------------------------


def slow_multipliers(weights, pooling, softmax, n_hashes=1):
    """TensorFlow's definitions, one bag at a time."""
    if softmax:
        top = max(weights, default=0)
        powers = [np.exp(w - top) for w in weights]
        weights = [power / sum(powers) for power in powers]
    repeated = [w for w in weights for _ in range(n_hashes)]
    if pooling == "mean":
        divisor = sum(abs(w) for w in repeated)
    elif pooling == "sqrtn":
        divisor = np.sqrt(sum(w * w for w in repeated))
    else:
        divisor = 1
    return [w / divisor if divisor else 0.0 for w in repeated]


weighted_bags = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.floats(-8, 8).map(lambda w: round(w, 2))),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(
    bags=weighted_bags,
    pooling=st.sampled_from(["sum", "mean", "sqrtn"]),
    softmax=st.booleans(),
    n_hashes=st.sampled_from([1, 2]),
)
def test_values_of_weighted_bags_are_the_definition(bags, pooling, softmax, n_hashes):
    hashed = {"hash_buckets": 7, "n_hashes": 2} if n_hashes == 2 else {}
    field = BagField(pooling=pooling, softmax=softmax, weights=True, **hashed)
    codes = encode(bags, field)
    values = codes.values
    width = values.shape[1]
    for row, bag in enumerate(bags):
        expected = slow_multipliers(list(bag.values()), pooling, softmax, n_hashes)
        expected += [0.0] * (width - len(expected))
        assert_allclose(values[row], expected, rtol=1e-5, atol=1e-6)
    # three ways to write the same weights
    names, weights = [list(bag) for bag in bags], [list(bag.values()) for bag in bags]
    pairs = [list(bag.items()) for bag in bags]
    assert_array_equal(encode(pairs, field), codes)
    column = BagField(pooling=pooling, softmax=softmax, weights="w", separator="|", **hashed)
    for X in (
        {"g": objects(names), "w": objects(weights)},
        {"g": ["|".join(n) for n in names], "w": ["|".join(map(repr, w)) for w in weights]},
        {"g": objects(names), "w": pd.array(weights, dtype=pd.ArrowDtype(pa.list_(pa.float64())))},
    ):
        encoder = FieldEncoder(fields={"g": column})
        assert_array_equal(encoder.fit_transform(pd.DataFrame(X)), codes)
        assert encoder.schema_.names == ("g",)


@pytest.mark.parametrize("n_hashes", [1, 2, 3])
@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrtn"])
def test_equal_weights_are_no_weights(pooling, n_hashes):
    bags = [["a", "b", "c"], ["d"], []]
    hashed = {"hash_buckets": 50, "n_hashes": n_hashes}
    plain = encode(bags, BagField(pooling=pooling, **hashed))
    ones = [dict.fromkeys(bag, 1.0) for bag in bags]
    weighted = encode(ones, BagField(pooling=pooling, weights=True, **hashed))
    assert_array_equal(plain.indices, weighted.indices)
    assert_allclose(plain.values, weighted.values, rtol=1e-6)


def test_poolings_of_embeddings():
    """What the field contributes, from the definition over the categories' own embeddings."""
    bags, weights = [["a", "b", "c"], ["b"]], [[2.0, -1.0, 0.0], [3.0]]
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 2))
    for pooling in ("sum", "mean", "sqrtn"):
        codes = encode([dict(zip(b, w, strict=True)) for b, w in zip(bags, weights, strict=True)],
                       BagField(pooling=pooling))  # fmt: skip
        for row, bag in enumerate(bags):
            w = np.array(weights[row])
            vectors = table[[1 + "abc".index(item) for item in bag]]
            total = w @ vectors
            size = {"sum": 1, "mean": abs(w).sum(), "sqrtn": np.sqrt((w**2).sum())}[pooling]
            pooled = codes.values[row] @ table[codes.indices[row]]
            assert_allclose(pooled, total / size, rtol=1e-6)


def test_extreme_weights():
    huge = encode([{"a": 1e300, "b": -1e300}, {"a": 1e-300}], BagField(pooling="sqrtn"))
    assert_allclose(huge.values, [[0.5**0.5, -(0.5**0.5)], [1, 0]], rtol=1e-6)
    soft = encode([{"a": 1e308, "b": -1e308}], BagField(softmax=True))
    assert_allclose(soft.values, [[1, 0]])
    with pytest.raises(ValueError, match="Field 'g' holds infinity in row 0"):
        encode([{"a": 1e300}], BagField(pooling="sum")).indices_and_values()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([{"a": np.nan}], r"Field 'g' has the weight nan in row 0; expected finite numbers"),
        ([{"a": 1}, {"b": np.inf}], "Field 'g' has the weight inf in row 1"),
        ([{"a": "1.5", "b": "x"}], "Field 'g' has the weight 'x' in row 0"),
        ([{"a": 1, "b": None}], "Field 'g' has the weight None in row 0"),
        ([{"a": 10**400}], "Field 'g' has the weight 1000"),
        ([{"a": 1}, ["a"]], "Field 'g' holds 'a' in row 1, expected a pair of a category and its"),
        ([{"a": 1}, [("a", 1, 2)]], r"Field 'g' holds \('a', 1, 2\) in row 1, expected a pair"),
    ],
    ids=str,
)
def test_bad_weights(cells, message):
    with pytest.raises(ValueError, match=message):
        encode(cells)


def test_weights_in_a_column_of_their_own_must_fit():
    X = pd.DataFrame({"g": objects([["a", "b"], ["c"]]), "w": objects([[1.0, 2.0], None])})
    encoder = FieldEncoder(fields={"g": BagField(weights="w")})
    message = "Field 'g' has 1 categories in row 1 but 'w' has 0 weights there"
    with pytest.raises(ValueError, match=message):
        encoder.fit(X)
    with pytest.raises(ValueError, match=r"Field 'w' is a bag, but row 0 holds '1;2' \(str\)"):
        encoder.fit(X.assign(w=["1;2", "3"]))
    with pytest.raises(ValueError, match=r"has its weights in the column 'w', which is not one of"):
        encoder.fit(X[["g"]])
    with pytest.raises(ValueError, match=r"in the column 'g', which"):
        FieldEncoder(fields={"g": BagField(weights="g")}).fit(X)
    with pytest.raises(ValueError, match=r"both fields= and weights=: \['w'\]"):
        FieldEncoder(fields={"g": BagField(weights="w"), "w": BagField()}).fit(X)
    good = X.assign(w=objects([[1.0, 2.0], [3.0]]))
    encoder.fit(good)
    with pytest.raises(ValueError, match=r"columns are missing: \['w'\]"):
        encoder.transform(good[["g"]])


def test_two_bags_may_have_the_same_weights():
    X = pd.DataFrame({"a": objects([["x", "y"]]), "b": objects([["y", "z"]]), "w": [[1.0, 3.0]]})
    field = BagField(weights="w", vocabulary="all")
    codes = FieldEncoder(fields={"a": field, "b": field}).fit_transform(X)
    assert codes.schema.names == ("a", "b")
    assert_allclose(codes.values, [[0.25, 0.75, 0.25, 0.75]])
    assert_array_equal(codes.indices, [[1, 2, 2, 3]])


def test_weights_come_and_go_only_with_an_error():
    """Dicts make a field weighted; lists after that had weight 1 without a word."""
    plain, weighted = pd.DataFrame({"g": [["a", "b"]]}), pd.DataFrame({"g": [{"a": 1.0, "b": 2.0}]})
    with pytest.raises(ValueError, match="Field 'g' holds weights, but the bags in fit had none"):
        FieldEncoder().fit(plain).transform(weighted)
    with pytest.raises(ValueError, match="Field 'g' holds weights, but the bags in fit had none"):
        FieldEncoder().partial_fit(plain).partial_fit(weighted)
    with pytest.raises(ValueError, match="Field 'g' holds 'a' in row 0, expected a pair"):
        FieldEncoder().fit(weighted).transform(plain)
    empty = FieldEncoder().fit(weighted).transform(pd.DataFrame({"g": objects([[], None])}))
    assert_array_equal(empty, [[-2, -2, 0, 0]] * 2)
    with pytest.raises(ValueError, match="'g' holds weights, which pooling='max' cannot use"):
        FieldEncoder(fields={"g": BagField(pooling="max")}).fit(weighted)
    with pytest.raises(ValueError, match="'g' has softmax=True, but its bags hold no weights"):
        FieldEncoder(fields={"g": BagField(softmax=True)}).fit(plain)


# -- vocabularies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bag_first", [True, False])
@pytest.mark.parametrize("hashed", [{}, {"hash_buckets": 1000}])
def test_a_bag_and_a_category_share_codes(bag_first, hashed):
    names = ["history", "item"] if bag_first else ["item", "history"]
    X = pd.DataFrame(
        {"history": objects([["a", "b"], [], ["c"]]), "item": ["c", "d", "a"]}, columns=names
    )
    described = {
        "history": BagField(vocabulary="items", **hashed),
        "item": CategoryField(vocabulary="items", **hashed),
    }
    encoder = FieldEncoder(fields=described)
    codes = encoder.fit_transform(X)
    history, item = np.asarray(codes.select(["history"])), np.asarray(codes.select(["item"]))
    assert item[0, 0] == history[2, 0]
    assert item[2, 0] == history[0, 0]
    size = encoder.schema_.table_size
    assert encoder.schema_.vocabulary_sizes == (size, size)
    one = [["item", "history"].index(name) for name in names]
    each = encoder.transform(pd.DataFrame({"item": list("abcd"), "history": [[v] for v in "abcd"]}))
    indices = each.indices
    assert_array_equal(indices[:, 0], indices[:, 1 if one[0] == 0 else 2])
    before = np.asarray(codes)
    encoder.partial_fit(
        pd.DataFrame({"history": [["e", "a"]], "item": ["f"]}, columns=["history", "item"])
    )
    assert_array_equal(encoder.transform(X), before)
    grown = encoder.transform(pd.DataFrame({"item": ["e", "f"], "history": [["e"], ["f"]]}))
    assert (np.asarray(grown) != -1).all()
    columns = grown.schema.first_columns
    assert_array_equal(
        np.asarray(grown)[:, columns[0]], np.asarray(grown)[:, columns[1]]
    )  # same codes


def test_a_bag_may_name_the_vocabulary_of_a_column():
    X = pd.DataFrame({"item": ["a", "b"], "history": [["b"], ["c"]]})
    codes = FieldEncoder(fields={"history": BagField(vocabulary="item")}).fit_transform(X)
    assert_array_equal(codes.indices, [[1, 2], [2, 3]])
    others = {"n": [1.0, 2.0], "d": pd.to_datetime(["2020-01-01", "2020-02-01"])}
    for vocabulary in ("n", "d_month"):
        encoder = FieldEncoder(fields={"history": BagField(vocabulary=vocabulary)})
        with pytest.raises(ValueError, match=f"'history' names the vocabulary '{vocabulary}'"):
            encoder.fit(X.assign(**others))


def test_rare_categories_in_bags_are_counted_over_items():
    cells = [["a", "b"], ["a", "c"], ["b", "a", "d"]]
    codes = encode(cells, min_frequency=2)
    assert_array_equal(codes, [[0, 1, -2], [0, -1, -2], [1, 0, -1]])
    weights = [1, 2, 1]
    encoder = FieldEncoder(min_frequency=2)
    weighted = encoder.fit_transform(pd.DataFrame({"g": cells}), sample_weight=weights)
    repeated = FieldEncoder(min_frequency=2).fit(
        pd.DataFrame({"g": [c for c, n in zip(cells, weights, strict=True) for _ in range(n)]})
    )
    assert_array_equal(weighted, repeated.transform(pd.DataFrame({"g": cells})))
    assert_allclose(
        encoder.summary()[["unknown_share", "mean_length"]].to_numpy(dtype=float),
        repeated.summary()[["unknown_share", "mean_length"]].to_numpy(dtype=float),
    )


def test_hashes_of_an_item_lie_side_by_side():
    field = BagField(hash_buckets=100, n_hashes=2)
    codes = encode([["a", "b"], ["b"], [], [None]], field)
    single = FieldEncoder(fields={"x": CategoryField(hash_buckets=100, n_hashes=2)})
    a, b = np.asarray(single.fit_transform(pd.DataFrame({"x": ["a", "b"]})))
    assert_array_equal(codes, [[*a, *b], [*b, -2, -2], [-2] * 4, [-1, -1, -2, -2]])
    FieldArray(np.asarray(codes), codes.schema)


# -- back --------------------------------------------------------------------------------------


def test_inverse_transform():
    cells = [["a", None], [], [("t", 1), 2.5]]
    encoder = FieldEncoder(fields={"g": BagField()})
    codes = encoder.fit_transform(pd.DataFrame({"g": objects(cells)}))
    back = encoder.inverse_transform(codes)[:, 0]
    assert back[0][0] == "a"
    assert np.isnan(back[0][1])
    assert back[1] == ()
    assert back[2] == (("t", 1), 2.5)
    hashed = FieldEncoder(fields={"g": BagField(hash_buckets=4)})
    codes = hashed.fit_transform(pd.DataFrame({"g": objects(cells[:2])}))
    with pytest.raises(ValueError, match="Field 'g' is hashed"):
        hashed.inverse_transform(codes)
