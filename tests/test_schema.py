"""FieldSchema: what a model must know of its table."""

import copy
import dataclasses
import pickle
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_fm import FieldSchema

FIELD = st.one_of(
    st.just(("numeric", 1)),
    st.tuples(st.sampled_from(["categorical", "binned"]), st.integers(1, 10**10)),
)


@given(st.lists(FIELD, max_size=8))
def test_offsets_share_out_the_table_without_gap_or_overlap(fields):
    kinds, sizes = zip(*fields, strict=True) if fields else ((), ())
    names = tuple(f"f{i}" for i in range(len(fields)))
    schema = FieldSchema(names, kinds, sizes)
    assert schema.n_fields == schema.n_slots == len(fields) == len(schema.offsets)
    end = 0
    for offset, size in zip(schema.offsets, sizes, strict=True):
        assert offset == end
        end += size
    assert schema.table_size == end
    assert [kinds[i] for i in schema.numeric_slots] == ["numeric"] * kinds.count("numeric")


def test_from_sizes_reads_size_one_as_numeric():
    schema = FieldSchema.from_sizes(iter([3, 1, 2]))
    assert schema == FieldSchema(
        ("x0", "x1", "x2"), ("categorical", "numeric", "categorical"), (3, 1, 2)
    )
    assert FieldSchema.from_sizes([3, 1], names=["user", "age"]).names == ("user", "age")


def test_from_sizes_takes_numpy_integers_and_stores_primitives():
    np = pytest.importorskip("numpy")
    schema = FieldSchema.from_sizes(np.array([3, 1]))
    assert [type(size) for size in schema.vocabulary_sizes] == [int, int]
    assert schema == FieldSchema.from_sizes([3, 1])


def test_no_fields():
    schema = FieldSchema.from_sizes([])
    assert (schema.n_fields, schema.offsets, schema.table_size) == (0, (), 0)
    assert schema.numeric_slots == ()


def test_it_is_a_frozen_value():
    """Equal by content, hashable, immutable; what it has derived does not count."""
    schema, twin = FieldSchema.from_sizes([3, 1]), FieldSchema.from_sizes([3, 1])
    assert schema.table_size == 4  # derived in one of the two
    assert schema == twin
    assert hash(schema) == hash(twin)
    assert schema != FieldSchema.from_sizes([3, 2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        schema.names = ("a", "b")
    for other in (pickle.loads(pickle.dumps(schema)), copy.deepcopy(schema), copy.copy(schema)):
        assert other == schema
        assert other.offsets == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (("x",), ("columns",), (3,), (2,)),
            "Field 'x' has vocabulary size 3: a numeric field owns exactly one row of the table "
            "per slot, as columns do",
        ),
        (
            (("x", "user"), ("columns", "categorical"), (3, 5), (3, 1)),
            "The columns 'x' must stand alone, pooled by 'sum', with a vocabulary of their own and "
            "weights of the linear term; got 2 names",
        ),
        ((("x",), ("columns",), (3,), (3,), ("max",)), "must stand alone, pooled by 'sum'"),
        ((("x",), ("columns",), (3,), (3,), (), (), (False,)), "must stand alone"),
        ((("x",), ("columns",), (3,), (3,), (), ("y",)), "must stand alone"),
        (
            (("a",), ("numeric",), (1, 1)),
            "must have one entry per field; got 1 names and",
        ),
        (
            (("b", "a", "b", "a"), ("numeric",) * 4, (1,) * 4),
            "Field names must differ, but these occur twice: ['a', 'b'].",
        ),
        (
            (("a",), ("set",), (3,)),
            "Field 'a' has kind 'set', expected one of ('categorical',",
        ),
        ((("a",), ("numeric",), (2,)), "Field 'a' has vocabulary size 2: a numeric field owns"),
        ((("a",), ("categorical",), (0,)), "Field 'a' has vocabulary size 0: a numeric field owns"),
        ((("a",), ("bag",), (3,), (0,)), "Field 'a' has 0 slots, expected at least one."),
        ((("a",), ("bag",), (3,), (2,), ("min",)), "Field 'a' is pooled by 'min', expected"),
        ((("a",), ("numeric",), (3,), (3,), ("mean",)), "'a' is pooled by 'sum', not 'mean'."),
        (
            (("a", "b"), ("bag",) * 2, (3, 4), (2, 1), ("sum",) * 2, ("v", "v")),
            "Field 'b' has vocabulary size 4, but shares the vocabulary 'v' of size 3",
        ),
    ],
)
def test_errors_name_the_field_and_the_rule(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FieldSchema(*arguments)


def test_fields_of_one_vocabulary_share_its_rows():
    schema = FieldSchema(
        names=("user", "history", "movie", "curve"),
        kinds=("categorical", "bag", "categorical", "numeric"),
        vocabulary_sizes=(4, 6, 6, 2),
        slots=(1, 3, 1, 2),
        poolings=("sum", "weighted", "sum", "sum"),
        vocabularies=("user", "movie", "movie", "curve"),
    )
    assert schema.offsets == (0, 4, 4, 10)
    assert schema.table_size == 12
    assert schema.slot_fields == (0, 1, 1, 1, 2, 3, 3)
    assert schema.unknown_rows == (0, 4, 4, 4, 4, -1, -1)
    assert schema.numeric_slots == (5, 6)
    assert schema.column_names == (
        *("user", "history_0", "history_1", "history_2"),
        *("history_value_0", "history_value_1", "history_value_2"),
        *("movie", "curve_0", "curve_1"),
    )
    assert schema.first_columns == (0, 1, 7, 8, 10)
    assert schema.select([2, 0]).offsets == (0, 6)


@given(st.integers(1, 9))
def test_columns_are_so_many_numeric_fields(n):
    """All that is derived is that of one numeric field per column."""
    schema, fields = FieldSchema.of_columns(n), FieldSchema.from_sizes([1] * n)
    assert schema != fields
    for name in ("n_fields", "n_slots", "n_columns", "table_size", "column_names"):
        assert getattr(schema, name) == getattr(fields, name), name
    for name in ("slot_fields", "offsets", "numeric_slots"):
        assert tuple(getattr(schema, name)) == getattr(fields, name), name
    assert [schema.field_name(f) for f in range(n)] == list(fields.names)
    assert set(schema.unknown_rows) <= set(fields.unknown_rows) == {-1}
    assert schema.select([0]) == schema


def test_four_hundred_million_columns():
    """A line ``1 400000000:1`` of a libsvm file made up as many names, of 8.5 GB."""
    tracemalloc.start()
    n = 400_000_000
    schema, twin = FieldSchema.of_columns(n), FieldSchema.of_columns(n)
    assert schema == twin != FieldSchema.of_columns(n - 1)
    assert hash(schema) == hash(twin)
    assert schema.n_fields == schema.n_slots == schema.table_size == schema.n_columns == n
    assert schema.slot_fields[-1] == schema.offsets[-1] == schema.numeric_slots[-1] == n - 1
    assert schema.unknown_rows == ()
    assert schema.rows_kept(twin) == ((0, 0, n),)
    assert schema.rows_kept(FieldSchema.of_columns(n - 1)) is None
    assert pickle.loads(pickle.dumps(schema)) == copy.deepcopy(schema) == schema
    assert len(pickle.dumps(schema)) < 1000
    assert len(repr(schema)) < 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_pickles_hold_nothing_derived():
    """A schema that had been used weighed several times as much as a new one."""
    schema = FieldSchema.from_sizes([3] * 1000)
    new = pickle.dumps(schema)
    assert len(schema.column_names) == len(schema.offsets) == len(schema.unknown_rows)
    assert len(pickle.dumps(schema)) == len(new)
    assert pickle.loads(new).offsets == schema.offsets
