"""Text files against scikit-learn's reader, a plain parser, Python's float and round trips."""

import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from sklearn_fm import FieldArray, FieldSchema, FMClassifier
from sklearn_fm.data import lines
from sklearn_fm.data.libsvm import dump_libffm, dump_libsvm, load_libffm, load_libsvm

FOLDER = os.environ.get("SKLEARN_FM_TEST_DATA", "")
needs_data = pytest.mark.skipif(
    not Path(FOLDER, "README.md").is_file() or not FOLDER,
    reason="real data: set SKLEARN_FM_TEST_DATA to their folder",
)
SVM_FILES = ["agaricus_train.txt", "agaricus_test.txt", "heart_scale"]
FFM_FILES = ["xlearn_small_train.ffm", "xlearn_small_test.ffm"]


@pytest.fixture(params=["compiled", "without numba"])
def engine(request, monkeypatch):
    """Both ways to read and write; either must do."""
    if request.param == "compiled":
        assert lines._compiled_parse() is not None
        monkeypatch.setattr(lines, "_print_slowly", None)
    else:
        monkeypatch.setattr(lines, "_compiled_parse", lambda: None)
        monkeypatch.setattr(lines, "_compiled_printing", lambda: None)
    return request.param


@pytest.fixture(params=[lines._BUFFER, 50, 1])
def buffer(request, monkeypatch):
    """Lines that end anywhere in a buffer, or need many."""
    monkeypatch.setattr(lines, "_BUFFER", request.param)


def as_file(text):
    return io.BytesIO(text.encode())


def dumped(dump, X, y, **options):
    file = io.BytesIO()
    dump(X, y, file, **options)
    return file.getvalue().decode()


def bits(numbers):
    return np.asarray(numbers, dtype=np.float64).view(np.uint64)


def assert_same_matrix(X, other):
    assert X.shape == other.shape
    assert X.dtype == other.dtype
    np.testing.assert_array_equal(X.indptr, other.indptr)
    np.testing.assert_array_equal(X.indices, other.indices)
    np.testing.assert_array_equal(bits(X.data), bits(other.data))


def read_plainly(path):
    """Labels and (field, index, value) triples of a libffm file, by the book."""
    labels, rows = [], []
    for line in Path(path).read_text().splitlines():
        label, *entries = line.split()
        labels.append(float(label))
        triples = [entry.split(":") for entry in entries]
        rows.append([(int(f), int(i), float(v)) for f, i, v in triples])
    return labels, rows


def rows_of(X):
    """The same triples from a FieldArray, slot by slot."""
    schema, codes = X.require_schema(), np.asarray(X)
    rows = []
    for r in range(len(X)):
        row = []
        for f, name in enumerate(schema.names):
            first, n_slots = schema.first_columns[f], schema.slots[f]
            for s in range(first, first + n_slots):
                value = codes[r, s + n_slots] if schema.poolings[f] == "weighted" else 1.0
                if codes[r, s] != -2:
                    row.append((int(name), int(codes[r, s]), float(value)))
        rows.append(row)
    return rows


# -- libsvm ------------------------------------------------------------------------------------

TEXT = """# a header
+1 1:0.5 3:2  # the first
   \t
-1\t2:-1.5e-3 \v 7:1. \r
# nothing
2.5
1e1 5:.25 6:+7 1000:1E5#done
"""


@needs_data
@pytest.mark.parametrize("name", SVM_FILES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_real_files_as_scikit_learn_reads_them(name, dtype, engine):
    path = Path(FOLDER, "libsvm", name)
    X, y = load_libsvm(path, dtype=dtype)
    theirs = load_svmlight_file(path, dtype=dtype)
    assert_same_matrix(X, theirs[0])
    np.testing.assert_array_equal(y, theirs[1])


@needs_data
@pytest.mark.parametrize("name", ["titanic_train.txt", "titanic_test.txt"])
def test_a_table_without_indices_is_refused(name, engine):
    path = Path(FOLDER, "libsvm", name)
    with pytest.raises(ValueError, match=f"{name}, line 1: expected index:value"):
        load_libsvm(path)


@pytest.mark.parametrize("zero_based", [True, False, "auto"])
@pytest.mark.parametrize("n_features", [None, 2000])
def test_text_as_scikit_learn_reads_it(zero_based, n_features, engine, buffer):
    options = {"zero_based": zero_based, "n_features": n_features}
    X, y = load_libsvm(as_file(TEXT), **options)
    theirs = load_svmlight_file(as_file(TEXT), **options)
    assert_same_matrix(X, theirs[0])
    np.testing.assert_array_equal(y, theirs[1])
    assert y.dtype == np.float64


def test_a_zero_in_any_stretch_of_the_file_makes_it_zero_based(buffer):
    for text in ("1 0:1\n1 3:1\n", "1 3:1\n1 0:1\n"):
        assert load_libsvm(as_file(text))[0].shape == (2, 4)
    assert load_libsvm(as_file("1 1:1\n1 3:1\n"))[0].shape == (2, 3)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n# end", " "])
def test_any_end_of_a_file(end, engine, buffer):
    X, y = load_libsvm(as_file("1 1:2\n0 2:3" + end))
    np.testing.assert_array_equal(X.toarray(), [[2, 0], [0, 3]])
    np.testing.assert_array_equal(y, [1, 0])


def test_a_stored_zero_stays(engine):
    X, _ = load_libsvm(as_file("1 1:0 2:-0.0\n"))
    assert X.nnz == 2
    assert np.signbit(X.data).tolist() == [False, True]


@pytest.mark.parametrize("as_path", [str, Path, os.fsencode])
def test_paths_and_gzip(as_path, tmp_path, engine):
    X, y = load_libsvm(as_file(TEXT))
    for name in ("rows.svm", "rows.svm.gz"):
        path = as_path(tmp_path / name)
        dump_libsvm(X, y, path)
        again = load_libsvm(path)
        assert_same_matrix(again[0], X)
        np.testing.assert_array_equal(again[1], y)
    packed = (tmp_path / "rows.svm.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "rows.svm").read_bytes()


def test_a_file_is_left_open():
    file = as_file(TEXT)
    load_libsvm(file)
    assert not file.closed
    with gzip.open(io.BytesIO(gzip.compress(TEXT.encode()))) as packed:
        assert_same_matrix(load_libsvm(packed)[0], load_libsvm(as_file(TEXT))[0])


def test_narrow_indices():
    X, _ = load_libsvm(as_file("1 1:2\n"))
    assert X.indices.dtype == X.indptr.dtype == np.int32
    X, _ = load_libsvm(as_file(f"1 {2**40}:2\n"))
    assert X.indices.tolist() == [2**40 - 1]


# -- numbers -----------------------------------------------------------------------------------

NUMBERS = [
    "+1",
    "-1",
    "1.",
    ".5",
    "-.5",
    "1e5",
    "1E+5",
    "1e-5",
    "0",
    "-0",
    "0.0",
    "00012",
    "1.50000",
    "3.14159265358979323846",
    "0.1",
    "0.3651",
    "1e22",
    "1e23",
    "9007199254740993",
    "9007199254740992.5",
    "9007199254740993.0000000000000000000000001",
    "1e-300",
    "5e-324",
    "2.2250738585072011e-308",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "123456789012345678",
    "12345678901234567890123",
    "0.000000000000000000000000000000000001",
    "1e-400",
    "0e999999",
    "0.1e-5",
    "-1.5e00003",
    "8.5e-22",
    "1090544144181609348835077142190",
    "1.00000000000000011102230246251565404236316680908203125",
    "1.00000000000000011102230246251565404236316680908203124",
    "18446744073709551615",
    "18446744073709551616",
    "9999999999999999999",
    "99999999999999999999",
    "4503599627370497.5",
    "4503599627370496.5",
]


def read_numbers(tokens, **options):
    text = "0 " + " ".join(f"{i}:{token}" for i, token in enumerate(tokens)) + "\n"
    return load_libsvm(as_file(text), **options)[0].data


def test_numbers_are_those_of_python(engine):
    np.testing.assert_array_equal(bits(read_numbers(NUMBERS)), bits(list(map(float, NUMBERS))))
    for number in NUMBERS:  # the labels too
        _, y = load_libsvm(as_file(number))
        assert bits(y) == bits(float(number))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_any_number_is_that_of_python(numbers):
    for form in (repr, "{:.17e}".format, "{:.3e}".format, "{:.25f}".format):
        tokens = [form(number) for number in numbers if abs(number) < 1e300]
        np.testing.assert_array_equal(bits(read_numbers(tokens)), bits(list(map(float, tokens))))


@pytest.mark.parametrize("seed", range(3))
def test_many_numbers_are_those_of_python(seed):
    """All lengths and exponents, and halves between two doubles, where rounding is hardest."""
    random = np.random.default_rng(seed)
    n = 20_000
    digits = random.integers(1, 2**63, n) >> random.integers(0, 62, n)
    tokens = [f"{d}e{e}" for d, e in zip(digits, random.integers(-345, 290, n), strict=True)]
    doubles = random.integers(0, 2**64, n, dtype=np.uint64).view(np.float64)
    tokens += [repr(x) for x in doubles[np.isfinite(doubles)].tolist()]
    halves = 2**53 + 1 + 2 * random.integers(0, 2**52, n)
    tokens += [f"{int(h) * 5**q}e-{q}" for q in range(4) for h in halves[: n // 4]]
    tokens += [f"{h}e{e}" for e in (0, 1, 2) for h in halves[: n // 4]]
    np.testing.assert_array_equal(bits(read_numbers(tokens)), bits(list(map(float, tokens))))


def test_few_numbers_need_python():
    """Of those written by repr; else the parser would be slow on them."""
    numbers = np.random.default_rng(0).standard_normal(10_000).tolist()
    text = ("0 " + " ".join(f"{i}:{x!r}" for i, x in enumerate(numbers)) + "\n").encode()
    room = lines._enough(None, len(text))
    parse = lines._compiled_parse()
    n_rows, n_entries, n_long = parse(np.frombuffer(text, np.uint8), False, 1, *room)
    assert (n_rows, n_entries) == (1, 10_000)
    assert n_long < 100


@pytest.mark.parametrize(
    "token",
    [
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1e999",
        "1_0",
        "0x1",
        "1e",
        "1e+",
        ".",
        "+",
        "-.",
        "1.2.3",
        "1..",
        "+-1",
        "1f",
        "1,5",
        "e5",
        "\u0661",
        "\0",
        "1\x1f",
    ],
)
def test_what_is_no_finite_decimal_number_is_refused(token, engine):
    with pytest.raises(ValueError, match="line 2: expected index:value, whole numbers"):
        load_libsvm(as_file(f"1 1:2\n1 1:{token} 2:1\n"))
    with pytest.raises(ValueError, match="line 1: expected a label, which is one finite number"):
        load_libsvm(as_file(f"{token} 1:1\n"))


def test_numbers_beyond_the_dtype_are_refused(engine):
    text = "1 1:1e39\n"
    assert load_libsvm(as_file(text))[0].data == [1e39]
    with pytest.raises(
        ValueError, match=r"line 1: .* a finite number up to 3.4e\+38, got '1:1e39'"
    ):
        load_libsvm(as_file(text), dtype=np.float32)
    with pytest.raises(ValueError, match=r"line 1: .* a finite number up to 3.4e\+38, got '0:1:1e"):
        load_libffm(as_file("1 0:1:1e39\n"))


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 5", r"expected index:value, whole numbers .*, got '5'\."),
        ("1 3:", "got '3:'"),
        ("1 :3", "got ':3'"),
        ("1 3 :4", "got '3'"),
        ("1 -3:4", "got '-3:4'"),
        ("1 +3:4", r"got '\+3:4'"),
        ("1 a:4", "got 'a:4'"),
        ("1 1234567890123456789:4", "got '1234567890123456789:4'"),
        ("1 1:4;2:5", "got '1:4;2:5'"),
        ("1 1:" + "9" * 90 + "x", "got '1:9{58}...'"),
        ("1 1:\xe9", "got '1:\xe9'"),
        ("1 qid:3 1:4", "got 'qid:3'. Queries are not read; scikit-learn's load_svmlight_file"),
        ("1 1:2:3", "got '1:2:3'. load_libffm reads entries with fields"),
        ("1:2 2:3", "expected a label, which is one finite number, got '1:2'"),
        ("1,2 2:3", "expected a label, which is one finite number, got '1,2'"),
        ("yes 2:3", "got 'yes'"),
        ("\ufeff1 2:3", r"got '\\ufeff1'"),
        ("1 2:3 2:4", "expected ascending indices, got 2 after 2"),
        ("1 1:1 5:3 2:4", "expected ascending indices, got 2 after 5"),
    ],
)
def test_errors_name_file_line_and_token(line, message, engine, buffer, tmp_path):
    path = tmp_path / "bad.svm"
    path.write_text(f"# header\n\n1 1:1\n{line}\n0 1:1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"bad.svm, line 4: .*{message}"):
        load_libsvm(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1:2", "expected field:index:value, .* got '1:2'. load_libsvm reads entries without"),
        ("1 1:2:", "got '1:2:'"),
        ("1 1::2", "got '1::2'"),
        ("1 -1:1:2", "got '-1:1:2'"),
        ("1 1:1.5:2", "got '1:1.5:2'"),
        ("1 1:2:3:4", "got '1:2:3:4'"),
        ("nan 1:2:3", "expected a label"),
    ],
)
def test_errors_of_libffm(line, message, engine, tmp_path):
    path = tmp_path / "bad.ffm"
    path.write_text(f"1 0:1:1\n{line}\n")
    with pytest.raises(ValueError, match=f"bad.ffm, line 2: .*{message}"):
        load_libffm(path)


@pytest.mark.parametrize("load", [load_libsvm, load_libffm])
def test_an_empty_file_is_refused(load, engine, tmp_path):
    path = tmp_path / "empty"
    path.write_text("")
    with pytest.raises(ValueError, match="empty holds no rows, but 0 blank lines or comments"):
        load(path)
    with pytest.raises(ValueError, match="file holds no rows, but 3 blank lines or comments"):
        load(as_file("# one\n\n  # two\n"))


def test_indices_beyond_n_features_are_refused(engine, buffer):
    text = "1 1:1\n\n0 2:1 4:1\n0 9:1\n"
    with pytest.raises(
        ValueError, match="line 3: index 4, but with n_features=3 the last one is 3"
    ):
        load_libsvm(as_file(text), n_features=3)
    with pytest.raises(
        ValueError, match="line 3: index 4, but with n_features=4 the last one is 3"
    ):
        load_libsvm(as_file(text), n_features=4, zero_based=True)
    with pytest.raises(
        ValueError, match="line 1: index 5, but with n_features=5 the last one is 4"
    ):
        load_libffm(as_file("1 0:5:1"), n_features=5)
    with pytest.raises(ValueError, match="line 2: index 0, but with zero_based=False the first"):
        load_libsvm(as_file("1 1:1\n0 0:1\n"), zero_based=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 0}, "n_features must be a positive integer or None, got 0"),
        ({"n_features": 2.5}, "n_features must be a positive integer or None, got 2.5"),
        ({"n_features": True}, "n_features must be a positive integer or None, got True"),
        ({"zero_based": "yes"}, "zero_based must be True, False or 'auto', got 'yes'"),
        ({"dtype": np.int64}, "dtype must be float32 or float64, got int64"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        load_libsvm(as_file(TEXT), **options)


def test_a_file_of_text_is_refused():
    with pytest.raises(TypeError, match="file gives str; open it for reading bytes"):
        load_libsvm(io.StringIO(TEXT))
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        load_libsvm(3)


# -- writing -----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False)
        | st.decimals(-1000, 1000, places=3).map(float)
        | st.integers(-(2**60), 2**60).map(float),
        min_size=1,
    )
)
@example([-0.0])
def test_numbers_survive_the_round_trip(numbers):
    X = sparse.csr_array((np.array(numbers), np.arange(len(numbers)), [0, len(numbers)]))
    again, y = load_libsvm(as_file(dumped(dump_libsvm, X, numbers[:1])))
    np.testing.assert_array_equal(bits(again.data), bits(numbers))
    np.testing.assert_array_equal(bits(y), bits(numbers[:1]))


def test_numbers_take_the_fewest_digits(engine):
    numbers = [1.0, -2.0, 0.1, 0.3651, 1e-5, 1e22, 1 / 3, 2.0**53, 123456.789, -0.001]
    text = dumped(dump_libsvm, [numbers], [0.5])
    values = [entry.split(":")[1] for entry in text.split()[1:]]
    assert values == [repr(number).removesuffix(".0") for number in numbers]
    narrow = np.array([[0.1, 1 / 3, -1234, 1e-20]], dtype=np.float32)
    assert dumped(dump_libsvm, narrow, [1]) == "1 1:0.1 2:0.33333334 3:-1234 4:1e-20\n"


def test_whole_numbers_are_written_whole(engine):
    large = sparse.csr_array([[2**60 + 1, -(2**60) - 1, 3]])
    assert dumped(dump_libsvm, large, [2**60 + 1]).split() == [
        "1152921504606846977",
        "1:1152921504606846977",
        "2:-1152921504606846977",
        "3:3",
    ]


def test_float32_survives_the_round_trip(engine):
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    numbers = np.concatenate([numbers[np.isfinite(numbers)], random.random(9, dtype=np.float32)])
    X = sparse.csr_array(numbers[None])
    again, _ = load_libsvm(as_file(dumped(dump_libsvm, X, [0])), dtype=np.float32)
    np.testing.assert_array_equal(again.data.view(np.uint32), X.data.view(np.uint32))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("zero_based", [False, True])
def test_libsvm_round_trip(dtype, zero_based, engine, monkeypatch):
    monkeypatch.setattr("sklearn_fm.data.libsvm._BLOCK", 7)
    dense = np.random.default_rng(0).integers(0, 3, (50, 9)).astype(dtype)
    dense[3] = 0
    dense[0, -1] = dense[0, 0] = 1
    X, y = sparse.csr_array(dense), np.arange(50)
    text = dumped(dump_libsvm, X, y, zero_based=zero_based)
    again = load_libsvm(as_file(text))
    np.testing.assert_array_equal(again[0].toarray(), dense)
    np.testing.assert_array_equal(again[1], y)
    theirs = io.BytesIO()
    dump_svmlight_file(X.astype(np.float64), y, theirs, zero_based=zero_based)
    lines_of_both = zip(text.split("\n"), theirs.getvalue().decode().split("\n"), strict=True)
    assert all(ours.rstrip() == line.rstrip() for ours, line in lines_of_both)


def test_a_damaged_matrix_is_not_written(tmp_path):
    """Writing read beyond the arrays, and left half a file."""
    matrix = sparse.random_array((9, 5), density=0.5, rng=0, format="csr")
    matrix.indptr[3] = 10**6
    with pytest.raises(ValueError, match="sparse matrix is damaged"):
        dump_libsvm(matrix, np.ones(9), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_empty_first_column_comes_back():
    X = sparse.csr_array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert_same_matrix(load_libsvm(as_file(dumped(dump_libsvm, X, [0, 1])))[0], X)


def test_unsorted_and_repeated_indices_are_summed_before(engine):
    X = sparse.csr_array((np.array([1.0, 2.0, 4.0]), np.array([3, 0, 3]), np.array([0, 3])))
    assert dumped(dump_libsvm, X, [1]) == "1 1:2 4:5\n"
    assert X.nnz == 3  # the caller's is as it was


def test_a_field_array_is_written_in_its_one_hot_form(engine):
    X = FieldArray([[3, 0.5], [-1, np.nan]], FieldSchema.from_sizes([5, 1]))
    text = dumped(dump_libsvm, X, [1, 0])
    assert text == "1 5:1 6:0.5\n0 1:1\n"
    again, _ = load_libsvm(as_file(text), n_features=X.schema.table_size)
    np.testing.assert_array_equal(again.toarray(), X.to_csr().toarray())


@pytest.mark.parametrize("dump", [dump_libsvm, dump_libffm])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1], r"Expected one label for each of 2 rows, got shape \(1,\)"),
        ([[1], [0]], r"Expected one label for each of 2 rows, got shape \(2, 1\)"),
        (["a", "b"], "Labels must be numbers, got dtype <U1"),
        ([0, np.nan], "The label of row 1 is nan; expected finite numbers"),
        ([0, np.inf], "The label of row 1 is inf; expected finite numbers"),
    ],
)
def test_bad_labels_leave_no_file(dump, y, message, tmp_path):
    X = FieldArray([[3], [-1]], FieldSchema.from_sizes([5]))
    with pytest.raises(ValueError, match=message):
        dump(X, y, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_files_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="X holds NaN or infinity in row 2"):
        dump_libsvm([[1.0], [0.0], [np.nan]], [1, 1, 1], tmp_path / "out")
    with pytest.raises(ValueError, match="X must be numeric, got dtype complex128"):
        dump_libsvm([[1j]], [1], tmp_path / "out")
    with pytest.raises(TypeError, match=r"X must be a FieldArray, .* got ndarray\. Encode it"):
        dump_libffm(np.eye(2), [1, 1], tmp_path / "out")
    X = FieldArray([[0.5], [1.0]], FieldSchema.from_sizes([1]))
    X[1] = np.inf
    with pytest.raises(ValueError, match="holds infinity in row 1"):
        dump_libffm(X, [1, 1], tmp_path / "out")
    assert not list(tmp_path.iterdir())


# -- libffm ------------------------------------------------------------------------------------

FFM = """1 0:4:1 7:0:1 7:2:1 3:5:0.5
0 7:2:1 0:3:1
# no entry of 7
1 0:3:1.0 3:9:2 3:5:1
"""


@needs_data
@pytest.mark.parametrize("name", FFM_FILES)
def test_real_files_as_a_plain_parser_reads_them(name, engine, buffer):
    path = Path(FOLDER, "criteo", name)
    X, y = load_libffm(path)
    labels, rows = read_plainly(path)
    assert y.tolist() == labels
    for found, row in zip(rows_of(X), rows, strict=True):
        assert found == sorted(row, key=lambda triple: triple[0])
    fields = {f for row in rows for f, _, _ in row}
    assert X.schema.names == tuple(map(str, sorted(fields)))
    for f, name_of_field in enumerate(X.schema.names):
        n_each = [sum(g == int(name_of_field) for g, _, _ in row) for row in rows]
        assert X.schema.slots[f] == max(n_each)


@needs_data
def test_real_test_file_by_the_schema_of_training(engine):
    train, test = (Path(FOLDER, "criteo", name) for name in FFM_FILES)
    schema = load_libffm(train)[0].schema
    labels, rows = read_plainly(test)
    ids = {int(name) for name in schema.names}
    most = [max(sum(f == g for g, _, _ in row) for row in rows) for f in map(int, schema.names)]
    assert {f for row in rows for f, _, _ in row} <= ids
    wide = replace(schema, slots=tuple(map(max, schema.slots, most)))
    X, y = load_libffm(test, schema=wide)
    assert y.tolist() == labels
    top = schema.vocabulary_sizes[0] - 1
    known = [[(f, i if i < top else -1, v) for f, i, v in row] for row in rows]
    assert rows_of(X) == [sorted(row, key=lambda triple: triple[0]) for row in known]


def test_the_schema_of_a_small_file(engine, buffer):
    X, y = load_libffm(as_file(FFM))
    assert X.schema == FieldSchema(
        names=("0", "3", "7"),
        kinds=("categorical", "bag", "bag"),
        vocabulary_sizes=(11, 11, 11),
        slots=(1, 2, 2),
        poolings=("sum", "weighted", "sum"),
        vocabularies=("features",) * 3,
    )
    expected = [[4, 5, -2, 0.5, 0, 0, 2], [3, -2, -2, 0, 0, 2, -2], [3, 9, 5, 2, 1, -2, -2]]
    np.testing.assert_array_equal(np.asarray(X), expected)
    assert X.dtype == np.float64
    np.testing.assert_array_equal(y, [1, 0, 1])
    np.testing.assert_array_equal(X.values, [[1, 0.5, 0, 1, 1], [1, 0, 0, 1, 0], [1, 2, 1, 0, 0]])
    np.testing.assert_array_equal(X.indices[0, [0, 1, 3, 4]], [5, 6, 1, 3])
    check = FieldArray(np.asarray(X), X.schema)  # codes and values are what a FieldArray takes
    np.testing.assert_array_equal(np.asarray(check), np.asarray(X))


def test_codes_alone_are_narrow_integers(engine):
    X, _ = load_libffm(as_file("1 0:4:1\n0 0:2:1 0:3:1\n"), n_features=100)
    assert X.dtype == np.int32
    assert X.schema.vocabulary_sizes == (101,)
    np.testing.assert_array_equal(np.asarray(X), [[4, -2], [2, 3]])
    X, _ = load_libffm(as_file(f"1 0:{2**40}:1\n"))
    assert X.tolist() == [[2**40]]
    with pytest.raises(ValueError, match="float64 cannot hold the codes"):
        load_libffm(as_file(f"1 0:{2**58}:0.5\n"))


def test_entries_in_any_order_and_large_fields(engine):
    text = "1 99999999999:1:1 2:7:1 99999999999:0:1\n"
    X, _ = load_libffm(as_file(text))
    assert X.schema.names == ("2", "99999999999")
    assert X.tolist() == [[7, 1, 0]]


def test_rows_by_the_schema_of_training(engine, buffer):
    schema = load_libffm(as_file(FFM))[0].schema
    X, y = load_libffm(as_file("5 3:5:1 7:10:1 0:99:1\n6\n"), schema=schema)
    assert X.schema is schema
    np.testing.assert_array_equal(
        np.asarray(X), [[-1, 5, -2, 1, 0, -1, -2], [-1] + 2 * [-2] + [0, 0, -2, -2]]
    )
    assert y.tolist() == [5, 6]
    means = replace(schema, poolings=("sum", "weighted", "mean"))
    X, _ = load_libffm(as_file("1 7:1:1 7:2:1 0:0:1\n"), schema=means)
    np.testing.assert_array_equal(X.values, [[1, 0, 0, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0:1:1 5:1:1", "line 3: field 5, but the fields of the schema are 0, 3, 7"),
        ("1 0:1:1 8:1:1", "line 3: field 8, but the fields of the schema are 0, 3, 7"),
        ("1 0:1:1 0:2:1", "line 3: more than 1 entries of field 0, which has as many slots"),
        ("1 7:1:1 7:2:1 7:3:1", "line 3: more than 2 entries of field 7"),
        ("1 7:1:0.5", "line 3: value 0.5 in field 7, whose values are all 1 in the schema"),
        ("1 0:1:0", "line 3: value 0 in field 0, whose values are all 1 in the schema"),
    ],
)
def test_rows_that_the_schema_cannot_hold(line, message, engine, buffer):
    schema = load_libffm(as_file(FFM))[0].schema
    with pytest.raises(ValueError, match=message):
        load_libffm(as_file(f"1 0:1:1\n\n{line}\n"), schema=schema)


def test_schemas_that_are_no_files():
    for schema in (
        FieldSchema.from_sizes([5, 5]),
        FieldSchema.from_sizes([5, 5], names=["0", "1"]),
        FieldSchema(("0",), ("numeric",), (1,), vocabularies=("features",)),
        FieldSchema(("a",), ("bag",), (5,), vocabularies=("features",)),
    ):
        with pytest.raises(ValueError, match="schema must be that of rows read by load_libffm"):
            load_libffm(as_file(FFM), schema=schema)
    schema = load_libffm(as_file(FFM))[0].schema
    with pytest.raises(ValueError, match="Pass schema or n_features, not both"):
        load_libffm(as_file(FFM), schema=schema, n_features=11)


def test_labels_alone(engine):
    X, y = load_libffm(as_file("1\n0\n"))
    assert X.shape == (2, 0)
    assert dumped(dump_libffm, X, y) == "1\n0\n"
    assert load_libsvm(as_file("1\n0\n"))[0].shape == (2, 0)
    with pytest.raises(ValueError, match="line 1: field 0, but the schema has no fields"):
        load_libffm(as_file("1 0:0:1\n"), schema=X.schema)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 20), st.sampled_from([1, 0, 0.5, 1e-7])),
            max_size=8,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_libffm_round_trip(rows):
    text = "".join(f"{len(row)} {' '.join(f'{f}:{i}:{v}' for f, i, v in row)}\n" for row in rows)
    X, y = load_libffm(as_file(text))
    assert rows_of(X) == [sorted(row, key=lambda triple: triple[0]) for row in rows]
    written = dumped(dump_libffm, X, y)
    again, labels = load_libffm(as_file(written))
    assert again.schema == X.schema
    np.testing.assert_array_equal(np.asarray(again), np.asarray(X))
    np.testing.assert_array_equal(labels, y)
    assert dumped(dump_libffm, again, labels) == written


def test_unknowns_survive_the_round_trip_with_the_schema(engine, tmp_path):
    schema = load_libffm(as_file(FFM))[0].schema
    X, y = load_libffm(as_file("5 3:5:1 7:10:1 0:99:1 3:70:3\n6\n"), schema=schema)
    dump_libffm(X, y, tmp_path / "rows.ffm.gz")
    again, labels = load_libffm(tmp_path / "rows.ffm.gz", schema=schema)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(X))
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_encoded_rows_as_libffm(dtype, engine, monkeypatch):
    """Fields by position, rows of the table as indices, values as a model reads them."""
    monkeypatch.setattr("sklearn_fm.data.libsvm._BLOCK", 2)
    schema = FieldSchema(
        names=("user", "tags", "age", "seen"),
        kinds=("categorical", "bag", "numeric", "bag"),
        vocabulary_sizes=(4, 6, 1, 6),
        slots=(1, 3, 1, 2),
        poolings=("sum", "mean", "sum", "weighted"),
        vocabularies=("user", "tag", "age", "tag"),
    )
    codes = [
        [2, 4, -2, 0, 0.1, 3, -1, 0.25, 0],
        [-1, -2, -2, -2, np.nan, -2, -2, 0, 0],
        [0, 1, 1, 1, -3, -2, 4, 0, 1 / 3],
    ]
    X = FieldArray(np.array(codes, dtype=dtype), schema)
    text = dumped(dump_libffm, X, [1, 0, 1])
    third = "0.3333333333333333" if dtype is np.float64 else "0.33333334"
    assert text.splitlines() == [
        "1 0:3:1 1:9:0.5 1:5:0.5 2:10:0.1 3:8:0.25 3:4:0",
        "0 0:0:1",
        f"1 0:1:1 1:6:0.33333334 1:6:0.33333334 1:6:0.33333334 2:10:-3 3:9:{third}",
    ]
    rows, _ = load_libffm(as_file(text), n_features=schema.table_size)
    np.testing.assert_allclose(
        np.sort(np.where(rows.values != 0, rows.indices - 1, 0), axis=1),
        np.sort(np.where(X.values != 0, X.indices, 0), axis=1),
    )
    assert sorted(rows.values[rows.values != 0]) == sorted(X.values[X.values != 0])


@needs_data
def test_a_model_learns_from_a_libffm_file():
    X, y = load_libffm(Path(FOLDER, "criteo", FFM_FILES[0]))
    model = FMClassifier(embedding_dim=2, max_epochs=500, random_state=0).fit(X, y)
    assert model.score(X, y) >= max(y.mean(), 1 - y.mean())
