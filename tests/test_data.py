"""FieldArray: codes that remember their schema, wherever numpy and scikit-learn take them."""

import copy
import io
import pickle
import re

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import KFold, cross_val_predict, train_test_split
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing, resample, shuffle

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.data.marks import mark_of

CODES = FieldSchema.from_sizes([5, 9, 4])
MIXED = FieldSchema(("user", "age", "bin"), ("categorical", "numeric", "binned"), (5, 1, 4))


@pytest.fixture
def X():
    """As many rows as slots, so that a transpose has the right shape for the wrong reason."""
    return FieldArray([[3, -1, 2], [0, 7, -1], [-1, 3, 0]], CODES)


@pytest.fixture
def mixed():
    return FieldArray([[3, 0.5, -1], [-1, np.nan, 2], [0, -2.0, 0]], MIXED)


def keeps(result, schema=CODES):
    return isinstance(result, FieldArray) and result.schema == schema


# -- indices and values ----------------------------------------------------------------


@st.composite
def encoded(draw):
    """Any schema and fitting rows; numbers that float32 holds exactly."""
    kinds = draw(st.lists(st.sampled_from(["categorical", "binned", "numeric"]), max_size=4))
    sizes = [1 if kind == "numeric" else draw(st.integers(1, 6)) for kind in kinds]
    schema = FieldSchema(tuple(f"f{i}" for i in range(len(kinds))), tuple(kinds), tuple(sizes))
    number = st.one_of(st.integers(-8, 8).map(lambda i: i / 4), st.just(float("nan")))
    n_rows = draw(st.integers(0, 5))
    rows = [
        [
            draw(number) if kind == "numeric" else draw(st.integers(-1, size - 2))
            for kind, size in zip(kinds, sizes, strict=True)
        ]
        for _ in range(n_rows)
    ]
    dtype = float if "numeric" in kinds else draw(st.sampled_from(["int8", "int64", "f4", "f8"]))
    return FieldArray(np.array(rows, dtype=dtype).reshape(n_rows, len(kinds)), schema)


@settings(deadline=None)
@given(encoded())
def test_indices_and_values_are_the_definition(X):
    indices, values = X.indices, X.values
    assert indices.dtype == np.int32
    assert values.dtype == np.float32
    assert indices.shape == values.shape == X.shape
    schema = X.schema
    for row in range(len(X)):
        for slot, kind in enumerate(schema.kinds):
            code, offset = np.asarray(X)[row, slot], schema.offsets[slot]
            if kind == "numeric":
                truth = offset, 0.0 if np.isnan(code) else code
            else:
                truth = offset + code + 1, 1.0
            assert (indices[row, slot], values[row, slot]) == truth


def test_values_without_numeric_fields_take_no_memory(X):
    assert X.values.strides == (0, 0)
    assert not X.values.flags.writeable


def test_an_infinite_number_is_refused():
    with pytest.raises(ValueError, match="Field 'b' holds infinity in row 1"):
        FieldArray([[0, 1.0], [0, -np.inf]], FieldSchema.from_sizes([3, 1], names=["a", "b"]))


def test_select_takes_fields_by_name_or_position():
    schema = FieldSchema.from_sizes([3, 1, 4], names=["a", "b", "c"])
    X = FieldArray([[1, 0.5, 2], [-1, np.nan, 0]], schema)
    chosen = X.select(["c", 0])
    assert chosen.schema == FieldSchema.from_sizes([4, 3], names=["c", "a"])
    assert chosen.tolist() == [[2, 1], [0, -1]]
    with pytest.raises(ValueError, match=r"no fields \['d'\]"):
        X.select(["d"])


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint64])
def test_codes_stay_exact_beyond_2_to_24(dtype):
    """Through float32 two ids would become one."""
    schema = FieldSchema.from_sizes([7, 2**31 - 9, 1])
    code = 2**31 - 11  # the last of its field
    X = FieldArray(np.array([[0, code, 2], [0, code - 1, 2], [0, 2**24 + 1, 2]], dtype), schema)
    assert schema.table_size == 2**31 - 1
    assert X.indices.dtype == np.int32
    assert X.indices[:, 1].tolist() == [2**31 - 3, 2**31 - 4, 7 + 2**24 + 2]
    assert X.indices[:, 2].tolist() == [2**31 - 2] * 3
    assert X.to_torch()[0][0, 1].item() == 2**31 - 3


@pytest.mark.parametrize("numeric", [False, True])
def test_a_table_of_2_to_31_rows_gives_int64(numeric):
    schema = FieldSchema.from_sizes([2**31, 2**31, *([1] * numeric)])
    code = 2**31 - 2
    X = FieldArray(np.array([[code, code, 1][: schema.n_slots]]), schema)
    assert X.indices.dtype == np.int64
    assert X.indices[0, :2].tolist() == [2**31 - 1, 2**32 - 1]
    indices, _ = X.to_torch()
    assert indices.dtype == torch.int64
    assert indices[0, :2].tolist() == [2**31 - 1, 2**32 - 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_float_too_narrow_for_the_vocabulary_is_refused(dtype):
    """float32 is exact up to 2**24, float16 up to 2**11."""
    limit = 2 ** (np.finfo(dtype).nmant + 1)
    fits = FieldSchema.from_sizes([limit + 2])  # its last code is the limit itself
    assert FieldArray(np.array([[limit]], dtype), fits).indices.tolist() == [[limit + 1]]
    with pytest.raises(ValueError, match="cannot hold the codes of a vocabulary"):
        FieldArray(np.array([[1]], dtype), FieldSchema.from_sizes([limit + 3]))


def test_astype_cannot_smuggle_codes_through_float32():
    X = FieldArray([[2**24 + 1]], FieldSchema.from_sizes([2**25]))
    with pytest.raises(ValueError, match=re.escape("Pass int64 or float64")):
        _ = X.astype(np.float32).indices


def test_float32_is_fine_for_numbers_beside_small_vocabularies(mixed):
    narrow = FieldArray(np.asarray(mixed, dtype=np.float32), MIXED)
    assert_array_equal(narrow.indices, mixed.indices)
    assert_array_equal(narrow.values, mixed.values)


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_to_torch(X, mixed, device):
    for array in (X, mixed, X[:0], mixed[:0]):
        indices, values = array.to_torch(device)
        assert (indices.dtype, values.dtype) == (torch.int32, torch.float32)
        assert_array_equal(indices.numpy(), array.indices)
        assert_array_equal(values.numpy(), array.values)


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "schema", "message"),
    [
        ([[1, 2]], CODES, "Expected codes of shape (n_rows, 3) for 3 fields, got shape (1, 2)."),
        ([1, 2, 3], CODES, "Expected codes of shape (n_rows, 3) for 3 fields, got shape (3,)."),
        ([["a", "b", "c"]], CODES, "Codes must be integers or floats, got dtype <U1."),
        ([[True, True, True]], CODES, "Codes must be integers or floats, got dtype bool."),
        (
            [[0, 0, 0], [0, 8, 0]],
            CODES,
            "Field 'x1' takes the integer codes -1 (unknown) to 7, got values from 0 to 8.",
        ),
        ([[0, -2, 0]], CODES, "Field 'x1' takes the integer codes -1 (unknown) to 7, got values"),
        ([[0.5, 0, 0]], CODES, "Field 'x0' takes the integer codes -1 (unknown) to 3, got values"),
        ([[np.nan, 0, 0]], MIXED, "Field 'user' takes the integer codes -1 (unknown) to 3, got"),
        ([[0, 0, np.inf]], MIXED, "Field 'bin' takes the integer codes -1 (unknown) to 2, got"),
        ([[0, 0, 2**63]], CODES, "Field 'x2' takes the integer codes -1 (unknown) to 2, got"),
    ],
)
def test_errors_name_the_field_and_what_came(codes, schema, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FieldArray(codes, schema)


def test_codes_changed_in_place_are_checked_when_read(X):
    X[1, 1] = 8
    with pytest.raises(ValueError, match=r"Field 'x1' takes .* got values from -1 to 8"):
        _ = X.indices


def test_a_lost_schema_is_said_to_be_lost(X):
    with pytest.raises(ValueError, match=re.escape("lost its schema. Wrap it: FieldArray(codes,")):
        X[0].require_schema()
    with pytest.raises(ValueError, match="lost its schema"):
        _ = X[0].indices


# -- numpy: rows keep the schema, columns and numbers lose it -----------------------------


@pytest.mark.parametrize(
    "key",
    [
        slice(1, None),
        slice(None, None, -1),
        np.array([2, 0, 0]),
        [1],
        np.array([True, False, True]),
        np.array([], dtype=int),
        (slice(0, 2), slice(None)),
        (np.array([2, 0]), ...),
        (np.array([True, False, True]), slice(None)),
        ...,
    ],
    ids=str,
)
def test_taking_rows_keeps_the_schema(X, key):
    assert keeps(X[key])
    assert_array_equal(X[key], np.asarray(X)[key])
    assert_array_equal(X[key].indices, X.indices[key])


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), [2, 1, 0]),
        (slice(None), slice(None, None, -1)),
        (slice(None), 1),
        (..., [1, 0, 2]),
        (..., slice(None, None, -1)),
        ([0, 1, 2], [0, 1, 2]),
        (0, None),
        (None, 0),
        None,
        0,
        (0, 1),
        np.eye(3, dtype=bool),
    ],
    ids=str,
)
def test_taking_anything_else_loses_it(X, key):
    result = X[key]
    assert getattr(result, "schema", None) is None
    assert_array_equal(result, np.asarray(X)[key])


COMPUTATIONS = {
    "add": lambda X: X + 1,
    "radd": lambda X: 1 + X,
    "equal": lambda X: X == X,
    "negative": lambda X: -X,
    "matmul": lambda X: X @ np.eye(3, dtype=int),
    "rmatmul": lambda X: np.eye(3, dtype=int) @ X,
    "method_dot": lambda X: X.dot(np.eye(3, dtype=int)),
    "function_dot": lambda X: np.dot(X, np.eye(3, dtype=int)),
    "out": lambda X: np.add(X, 1, out=np.empty((3, 3), int)),
    "sum": lambda X: X.sum(axis=0),
    "cumsum": lambda X: X.cumsum(axis=0),
    "accumulate": lambda X: np.add.accumulate(X),
    "clip": lambda X: X.clip(0, 1),
    "round": lambda X: (X.astype(float)).round(1),
    "argsort": lambda X: X.argsort(axis=0),
    "argpartition": lambda X: X.argpartition(1, axis=0),
    "function_argsort": lambda X: np.argsort(X, axis=0),
    "T": lambda X: X.T,
    "transpose": lambda X: X.transpose(),
    "function_transpose": np.transpose,
    "mT": lambda X: X.mT,
    "swapaxes": lambda X: X.swapaxes(0, 1),
    "function_swapaxes": lambda X: np.swapaxes(X, 0, 1),
    "take_columns": lambda X: X.take([2, 0, 1], axis=1),
    "function_take_columns": lambda X: np.take(X, [2, 0, 1], axis=1),
    "flip": lambda X: np.flip(X, axis=1),
    "roll": lambda X: np.roll(X, 1, axis=1),
    "sort": lambda X: np.sort(X, axis=1),
    "block": lambda X: np.block([[X], [X]]),
    "c_ of what is no cast": lambda X: np.c_[X.argsort(0).astype(float), X * 1.5],
    "concatenate_flat": lambda X: np.concatenate([X, X], axis=None),
    "stack": lambda X: np.stack([X, X]),
    "where": lambda X: np.where(X > 0, X, 0),
    "unique": lambda X: np.unique(X, axis=0),
    "asarray": np.asarray,
}


@pytest.mark.parametrize("compute", COMPUTATIONS.values(), ids=COMPUTATIONS)
def test_changing_columns_or_numbers_loses_the_schema(X, compute):
    """On a square array, whose shape alone would not tell; the numbers are those of an ndarray."""
    if compute is COMPUTATIONS["mT"] and not hasattr(np.ndarray, "mT"):
        pytest.skip("numpy 2 only")
    result = compute(X)
    assert_array_equal(result, compute(np.asarray(X)))
    assert getattr(result, "schema", None) is None


def test_plain_results_are_plain(X):
    for name in ("add", "equal", "matmul", "cumsum", "T", "take_columns", "asarray"):
        compute = COMPUTATIONS[name]
        assert getattr(compute(X), "schema", None) is None
    assert type(X + 1) is type(X[:, 1]) is type(X.T) is type(X[:, [0, 1]]) is np.ndarray


def test_in_place_arithmetic_gives_up_the_schema():
    X = FieldArray([[0], [1]], FieldSchema.from_sizes([9]))
    X += 1
    assert getattr(X, "schema", None) is None
    assert X.tolist() == [[1], [2]]


def test_scalars_come_out_as_scalars(X):
    assert X.max() == 7
    assert isinstance(X.max(), np.integer)
    assert isinstance(X.mean(), np.floating)
    assert np.nansum(X) == np.asarray(X).sum()


@pytest.mark.parametrize("stack", [np.concatenate, np.vstack])
def test_stacking_rows_of_one_schema_keeps_it(X, stack):
    twin = FieldArray([[1, 1, 1]], FieldSchema.from_sizes([5, 9, 4]))  # equal, not identical
    result = stack([X, twin])
    assert keeps(result)
    assert_array_equal(result, [*np.asarray(X).tolist(), [1, 1, 1]])
    assert keeps(stack((X,)))


@pytest.mark.parametrize("stack", [np.concatenate, np.vstack])
def test_stacking_rows_of_different_schemas_gives_a_plain_array(X, stack):
    other = FieldArray([[1, 1, 1]], FieldSchema.from_sizes([5, 9, 5]))
    for parts in ([X, other], [other, X], [X, np.ones((1, 3), int)], [np.ones((1, 3), int), X]):
        assert type(stack(parts)) is np.ndarray
        assert len(stack(parts)) == 4


@pytest.mark.parametrize("stack", [np.hstack, lambda parts: np.concatenate(parts, axis=1)])
def test_columns_side_by_side(X, mixed, stack):
    """Fields of all parts, and plain numbers as numeric fields; texts are refused."""
    numbers = np.array([[0.5, np.nan], [1.0, 2.0], [-1.0, 0.0]])
    result = stack([numbers, X, np.asarray(mixed)])
    names = FieldSchema.from_sizes([1, 1], names=["x0", "x1"])
    assert keeps(result, FieldSchema.side_by_side([names, CODES, MIXED]))
    assert_array_equal(result, np.hstack([numbers, np.asarray(X), np.asarray(mixed)]))
    expected = np.hstack([np.nan_to_num(numbers), X.values, mixed.values])
    assert_array_equal(result.values, expected.astype(np.float32))
    with pytest.raises(ValueError, match="Column 'x3' of dtype <U"):
        stack([X, X[:, :1].astype(str)])
    for other in (X.view(), X[:, :2].view(np.asarray(X).dtype)):
        assert type(stack([X, other])) is np.ndarray
    assert getattr(np.hstack([X[0], X[1]]), "schema", None) is None


def test_codes_as_a_plain_array_bear_their_schema_in_the_dtype(X, recwarn):
    """What is computed from a FieldArray does not; saving one to a file is no reason to warn."""
    plain = np.asarray(X)
    for kept in (plain, plain[1:], plain[[0, 2]], pickle.loads(pickle.dumps(plain))):
        assert mark_of(kept.dtype) == CODES
    assert plain.dtype == np.asarray(plain.tolist()).dtype
    assert repr(X) == repr(FieldArray(plain, CODES))
    for name, compute in COMPUTATIONS.items():
        is_same = name in ("asarray", "round")  # which leaves codes as they are
        assert (mark_of(compute(X).dtype) is not None) == is_same, name
    np.save(io.BytesIO(), X)
    assert not recwarn.list


# -- copies and travel -------------------------------------------------------------------


@pytest.mark.parametrize(
    "travel",
    [
        lambda X: pickle.loads(pickle.dumps(X)),
        lambda X: pickle.loads(pickle.dumps(X, protocol=5)),
        copy.copy,
        copy.deepcopy,
        lambda X: X.copy(),
    ],
    ids=["pickle", "pickle5", "copy", "deepcopy", "method"],
)
def test_copies_are_whole_and_independent(X, mixed, travel):
    for array, schema in ((X, CODES), (mixed, MIXED)):
        result = travel(array)
        assert keeps(result, schema)
        assert result.dtype == array.dtype
        assert_array_equal(result, array)
        result[0, 0] = -1
        assert array[0, 0] == 3


def test_an_array_without_schema_travels_too(X):
    row = pickle.loads(pickle.dumps(X[0]))
    assert row.tolist() == [3, -1, 2]
    assert row.schema is None


def test_joblib_memory_maps_the_codes(X, tmp_path):
    """Nothing is read from disk until rows are taken."""
    path = tmp_path / "codes.joblib"
    joblib.dump(X, path)
    mapped = joblib.load(path, mmap_mode="r")
    assert keeps(mapped)
    owner = mapped
    while owner is not None and not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner, np.memmap)
    assert not mapped.flags.writeable
    assert keeps(mapped[1:])
    assert_array_equal(mapped.indices, X.indices)
    indices, values = mapped.to_torch()
    assert_array_equal(indices, X.indices)
    assert values.shape == X.shape
    assert keeps(joblib.load(path))


def test_joblib_sends_large_arrays_to_processes():
    """Beyond 1 MB joblib maps arrays into the workers' memory instead of copying them."""
    schema = FieldSchema.from_sizes([1000, 50])
    X = FieldArray(np.tile(np.arange(48), (80_000, 1))[:, :2].astype(np.int64), schema)
    assert X.nbytes > 2**20

    def look(X, rows):
        part = X[rows]
        return type(X).__name__, part.schema, int(part.indices.sum()), X.flags.writeable

    halves = [slice(0, 30_000), slice(30_000, None)]
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(look)(X, rows) for rows in halves)
    for rows, (name, found, total, writeable) in zip(halves, results, strict=True):
        assert (name, found) == ("FieldArray", schema)
        assert total == X[rows].indices.sum()
        assert not writeable  # mapped


# -- sparse ----------------------------------------------------------------------------


def one_hot(X):
    """Entry [row, index] = value, by the definition."""
    dense = np.zeros((len(X), X.schema.table_size))
    for row in range(len(X)):
        for index, value in zip(X.indices[row], X.values[row], strict=True):
            dense[row, index] = value
    return dense


@settings(deadline=None)
@given(encoded())
def test_csr_round_trip(X):
    matrix = X.to_csr()
    assert matrix.shape == (len(X), X.schema.table_size)
    assert matrix.has_canonical_format
    assert (matrix.data != 0).all()
    assert_array_equal(matrix.toarray(), one_hot(X))
    kinds = {sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix}
    for kind in kinds:
        back = FieldArray.from_csr(kind(matrix), X.schema)
        assert back.schema == X.schema
        assert_array_equal(np.asarray(back), np.nan_to_num(np.asarray(X)))  # missing is 0
        assert back.dtype == (np.float64 if X.schema.numeric_slots else np.int64)


def test_a_field_without_an_entry_is_unknown_and_a_number_without_one_is_zero():
    X = FieldArray.from_csr(sparse.csr_array((2, MIXED.table_size)), MIXED)
    assert X.tolist() == [[-1, 0, -1]] * 2


def test_one_cell_to_csr():
    """A broadcast 1 of one cell is contiguous, so that ravel gave scipy a read-only view."""
    X = FieldArray([[1]], FieldSchema.from_sizes([3]))
    assert X.to_csr().toarray().tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        ([[0, 1]], "Expected 10 columns (schema.table_size), got 2."),
        (
            [[1, 1] + [0] * 8],
            "A row holds two entries of one field; a field has one slot.",
        ),
        ([[2] + [0] * 9], "The entry of a categorical or binned field must be 1."),
    ],
)
def test_from_csr_refuses_what_is_no_encoding(dense, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FieldArray.from_csr(sparse.csr_array(np.array(dense)), MIXED)


# -- scikit-learn ------------------------------------------------------------------------


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return FieldArray(rng.integers(-1, 3, (12, 3)), CODES)


class Watcher(DummyClassifier):
    """Notes what its methods are given."""

    seen = []

    def fit(self, X, y):
        Watcher.seen.append(X)
        return super().fit(X, y)

    def predict(self, X):
        Watcher.seen.append(X)
        return super().predict(X)


def test_cross_validation_hands_on_the_schema(table):
    Watcher.seen = []
    pipeline = make_pipeline(FunctionTransformer(), Watcher())
    cross_val_predict(pipeline, table, np.arange(12) % 2, cv=3)
    assert len(Watcher.seen) == 6
    assert all(keeps(part) for part in Watcher.seen)
    assert [len(part) for part in Watcher.seen] == [8, 4] * 3


@pytest.mark.parametrize("rows", [[0, 5], np.array([7, 7]), slice(2, 4), np.arange(12) > 9])
def test_safe_indexing_of_rows_keeps_the_schema(table, rows):
    part = _safe_indexing(table, rows)
    assert keeps(part)
    assert_array_equal(part, np.asarray(table)[rows])


@pytest.mark.parametrize("columns", [[2, 1, 0], slice(0, 2)])
def test_safe_indexing_of_columns_loses_it(table, columns):
    part = _safe_indexing(table, columns, axis=1)
    assert type(part) is np.ndarray
    assert_array_equal(part, np.asarray(table)[:, columns])


def test_splitters_keep_the_schema(table):
    for part in (
        *train_test_split(table, random_state=0),
        *train_test_split(table, shuffle=False),
        shuffle(table, random_state=0),
        resample(table, random_state=0),
        *(table[rows] for split in KFold(3).split(table) for rows in split),
    ):
        assert keeps(part)
        assert len(part.indices)


def test_feature_union_puts_fields_side_by_side(table):
    """Twice the columns are not this schema's; each half has fields of its own."""
    union = FeatureUnion([("a", FunctionTransformer()), ("b", FunctionTransformer())])
    result = union.fit_transform(table)
    assert keeps(result, FieldSchema.side_by_side([table.schema, table.schema]))
    assert_array_equal(result, np.hstack([np.asarray(table)] * 2))
    offset = table.schema.table_size
    assert_array_equal(result.indices, np.hstack([table.indices, table.indices + offset]))


# -- bags ------------------------------------------------------------------------------

BAGS = FieldSchema(
    names=("user", "seen", "item", "tags", "mood", "best", "curve"),
    kinds=("categorical", "bag", "categorical", "bag", "bag", "bag", "numeric"),
    vocabulary_sizes=(4, 6, 6, 3, 3, 3, 2),
    slots=(1, 2, 1, 2, 2, 2, 2),
    poolings=("sum", "weighted", "sum", "mean", "sqrtn", "max", "sum"),
    vocabularies=("user", "item", "item", "tags", "mood", "best", "curve"),
)
# user | seen, values | item | tags | mood | best | curve
BAG_ROWS = [
    [0, 1, -1, 0.5, 2.0, 3, 0, 1, 0, 1, 0, 1, 0.5, np.nan],
    [2, 4, -2, 0.5, 2.0, -1, 0, -2, 0, -2, -1, -2, 0.0, 7.0],
    [-1, -2, -2, 0.0, 0.0, 0, -2, -2, -2, -2, -2, -2, -1.0, 1.0],
]


@pytest.mark.parametrize("compiled", [True, False])
def test_slots_of_bags_by_hand(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr("sklearn_fm.data.codes._compiled_to_entries", lambda: None)
    X = FieldArray(BAG_ROWS, BAGS)
    half = 0.5**0.5
    assert_array_equal(
        X.indices,
        [
            [1, 6, 4, 8, 11, 12, 14, 15, 17, 18, 19, 20],
            [3, 9, 4, 4, 11, 10, 14, 13, 16, 16, 19, 20],
            [0, 4, 4, 5, 10, 10, 13, 13, 16, 16, 19, 20],
        ],
    )
    assert_allclose(
        X.values,
        [
            [1, 0.5, 2, 1, 0.5, 0.5, half, half, 1, 1, 0.5, 0],
            [1, 0.5, 0, 1, 1, 0, 1, 0, 1, 0, 0, 7],
            [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, -1, 1],
        ],
        rtol=1e-6,
    )
    assert X.indices.dtype == np.int32
    row = X.to_csr()[[0]].toarray()[0]
    assert_allclose(row[[4, 6, 8, 11]], [2, 0.5, 1, 0.5])


def test_fields_of_several_columns_are_selected_whole():
    X = FieldArray(BAG_ROWS, BAGS)
    some = X.select(["tags", "seen"])
    assert_array_equal(some, np.asarray(X)[:, [6, 7, 1, 2, 3, 4]])
    assert some.schema.names == ("tags", "seen")
    assert some.schema.offsets == (0, 3)


@pytest.mark.parametrize(
    ("column", "code", "message"),
    [
        (1, -3, "Field 'seen' takes the integer codes -2 (empty), -1 (unknown) to 4, got"),
        (0, -2, "Field 'user' takes the integer codes -1 (unknown) to 2, got values from -2"),
        (6, 2, "Field 'tags' takes the integer codes -2 (empty), -1 (unknown) to 1"),
        (3, np.nan, "Field 'seen' holds NaN as a value in row 0"),
        (4, np.inf, "Field 'seen' holds infinity in row 0"),
        (12, 1e39, "Field 'curve' holds infinity in row 0; expected finite numbers of float32"),
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_codes_of_bags_are_checked(column, code, message, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr("sklearn_fm.data.codes._compiled_to_entries", lambda: None)
    rows = np.array(BAG_ROWS)
    rows[0, column] = code
    with pytest.raises(ValueError, match=re.escape(message)):
        FieldArray(rows, BAGS)
    with pytest.raises(ValueError, match=re.escape(message)):
        FieldArray._wrap(rows, BAGS).indices_and_values()


def test_one_hot_form_of_bags_is_a_one_way_street():
    matrix = FieldArray(BAG_ROWS, BAGS).to_csr()
    with pytest.raises(ValueError, match="does not tell slots of one field"):
        FieldArray.from_csr(matrix, BAGS)


def test_damaged_one_hot_form():
    """scipy believed the indices and wrote beyond its arrays."""
    schema = FieldSchema.from_sizes([3, 4])
    matrix = FieldArray([[1, 2], [0, -1]], schema).to_csr()
    matrix.indptr[1] = 10**6
    with pytest.raises(ValueError, match="sparse matrix is damaged"):
        FieldArray.from_csr(matrix, schema)


def test_columns_of_a_matrix_have_no_codes():
    with pytest.raises(ValueError, match="that of the 3 columns of a sparse matrix, which have no"):
        FieldArray(np.zeros((2, 3)), FieldSchema.of_columns(3))
