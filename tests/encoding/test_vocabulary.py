"""Vocabularies: numbers, counts and codes against a dict, in every kind of store."""

import os
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from sklearn_fm.encoding import CategoryEncoder, stores, vocabulary
from sklearn_fm.encoding.cells import read_column
from sklearn_fm.encoding.stores import CellStore, HashedStore, TextStore, WholeStore, make_store
from sklearn_fm.encoding.vocabulary import Vocabulary

ALL_BITS = 2**64 - 1
#: Masks of the hash: all of it, one slot and tag for all, one slot, a few slots, one tag.
MASKS = [ALL_BITS, 0, ALL_BITS << 32 & ALL_BITS, 0b11, 2**32 - 1]


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def twin_of(cell):
    """What `cell` would be as text if it is a whole number, and the other way round."""
    if isinstance(cell, str):
        is_whole = re.fullmatch("-?[1-9][0-9]*|0", cell)
        return int(cell) if is_whole else object()
    is_whole = not isinstance(cell, (bytes, tuple, pd.Timestamp)) and cell == cell // 1
    return str(int(cell)) if is_whole else object()


def number_slowly(known, values):
    """Numbers by a dict, which grows; twins that it had before are the same."""
    before, out = dict(known), []
    for value in values:
        if pd.isna(value):
            out.append(-1)
        elif value not in before and twin_of(value) in before:
            out.append(before[twin_of(value)])
        else:
            out.append(known.setdefault(value, len(known)))
    return out


def random_texts(rng, n_rows, n_texts):
    """Texts of 0 to 99 bytes, of which many are the beginning of others."""
    lengths = rng.integers(0, 100, n_texts)
    pool = [(i % 3 * "é" + 50 * "ab\0c")[:n] + str(i % 50) for i, n in enumerate(lengths.tolist())]
    return [pool[i] for i in rng.integers(0, n_texts, n_rows)]


@pytest.fixture(params=MASKS, ids=hex)
def any_mask(request, monkeypatch):
    """Stores whose hashes tell less and less about a key."""
    monkeypatch.setattr(HashedStore, "hash_mask", np.uint64(request.param))


@pytest.fixture
def no_kernels(monkeypatch):
    """As if numba were not installed."""
    monkeypatch.setattr(stores, "HAS_KERNELS", False)
    monkeypatch.setattr(vocabulary, "HAS_KERNELS", False)


# -- numbers ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("any_mask")
def test_texts_are_numbered_as_a_dict_would():
    """Whatever collides: keys are compared byte by byte."""
    rng = np.random.default_rng(0)
    words, known = Vocabulary(), {}
    for n_texts in (1, 5, 300, 700):
        values = random_texts(rng, 1000, n_texts)
        assert words.add(objects(values)).tolist() == number_slowly(known, values)
    assert isinstance(words._store, TextStore)
    words.assign()
    assert words.categories.tolist() == list(known)
    values = random_texts(rng, 500, 900)
    assert words.look_up(pd.array(values)).tolist() == [known.get(value, -2) for value in values]


@pytest.mark.usefixtures("any_mask")
def test_whole_numbers_are_numbered_as_a_dict_would():
    rng = np.random.default_rng(0)
    numbers, known = Vocabulary(), {}
    for top in (1, 5, 400, 2**62):
        values = rng.integers(-top, top, 600)
        assert numbers.add(values).tolist() == number_slowly(known, values.tolist())
    assert isinstance(numbers._store, WholeStore)
    numbers.assign()
    assert numbers.categories.tolist() == sorted(known)
    values = rng.integers(-900, 900, 600)
    expected = {value: code for code, value in enumerate(sorted(known))}
    assert numbers.look_up(values).tolist() == [expected.get(v, -2) for v in values.tolist()]


def test_a_large_vocabulary_grows_by_chunks():
    words = Vocabulary()
    ids = np.array([f"{i:x}" for i in np.random.default_rng(0).permutation(50_000)], dtype=object)
    for chunk in np.split(ids, 10):
        words.add(pd.array(chunk, dtype="str"))
    assert_array_equal(words.add(ids), np.arange(50_000))
    words.assign()
    assert_array_equal(words.look_up(ids[::-1]), np.arange(50_000)[::-1])


TEXTS = ["b", None, "é", "", "b", "a" * 40]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, type=pa.large_string()),
        pa.array(TEXTS, type=pa.string_view()),
        pa.array(["cut", None, *TEXTS, "cut"]).slice(2, 6),
        pa.chunked_array([TEXTS[:3], [], TEXTS[3:]]),
        pa.array(TEXTS).dictionary_encode(),
        pa.chunked_array([pa.array(t).dictionary_encode() for t in (TEXTS[:2], TEXTS[2:])]),
        pd.Series(TEXTS, dtype="str"),
        pd.Series(TEXTS, dtype="category"),
        pd.Index(TEXTS),
        TEXTS,
        tuple(TEXTS),
        objects(TEXTS * 20)[:6],
        pd.array(TEXTS * 20, dtype=pd.StringDtype("python"))[:6],
    ],
    ids=lambda column: getattr(column, "type", type(column).__name__),
)
def test_texts_of_every_container(column):
    expected = [0, -1, 1, 2, 0, 3]
    words = Vocabulary()
    assert words.add(column).tolist() == expected
    assert isinstance(words._store, TextStore)
    words.assign()
    assert words.look_up(TEXTS).tolist() == [0, 4, 1, 2, 0, 3]
    assert words.look_up(column).tolist() == [0, 4, 1, 2, 0, 3]
    long = words.look_up(pa.concat_arrays([pa.array(TEXTS)] * 20))
    assert_array_equal(long, words.look_up(objects(TEXTS * 20)))


def test_numpy_texts():
    words = Vocabulary()
    assert words.add(np.array(["b", "a", "b"])).tolist() == [0, 1, 0]
    assert words.add(np.array(["c", "a"], dtype=np.dtypes.StringDType())).tolist() == [2, 1]


@pytest.mark.parametrize(
    "column",
    [
        np.array([3, 1, 3], dtype=np.uint8),
        np.array([3, 1, 3], dtype=">i4"),
        np.array([3.0, 1.0, 3.0], dtype=np.float32),
        np.array([3, 0, 1, 0, 3, 0])[::2],
        objects([3, 1.0, np.int8(3)]),
        pd.arrays.SparseArray([3, 1, 3]),
        pd.array([3, 1, 3], dtype=pd.ArrowDtype(pa.uint16())),
        pd.Categorical([3, 1, 3]),
        pa.array([3.0, 1.0, 3.0]),
    ],
    ids=lambda column: str(column.dtype if hasattr(column, "dtype") else column.type),
)
def test_whole_numbers_of_every_container(column):
    numbers = Vocabulary()
    assert numbers.add(column).tolist() == [0, 1, 0]
    assert numbers.add(np.array([1, 2])).tolist() == [1, 2]
    numbers.assign()
    assert numbers.look_up(column).tolist() == [2, 0, 2]


# -- kinds of store --------------------------------------------------------------------------

STEPS = {
    "texts, then mixed": [["a", "b"], ["b", 1, None], [1.0, "c"]],
    "numbers, then texts": [[1, 2], ["1", "02", "3"], [True, 2.0, 3]],
    "numbers, then their texts": [[7, 12], ["12", None, "3"], [3.0, Decimal(7)]],
    "texts, then numbers": [["7", "007"], [7, 12], ["12", "7", None], [12.0, 2**70]],
    "both in a column": [[7, "7", "x"], ["7"], [7.0], [8], ["8"]],
    "whole, then broken": [np.array([1.0, 2.0]), np.array([2.5, 1.0, np.nan])],
    "flags, then numbers": [np.array([True, False]), np.array([2, 1, 0])],
    "too large": [[1, 2], [2**63, 1], [2**70]],
    "half of a pair": [["a"], ["\ud83d", "a"]],
    "texts, then bytes": [["a"], [b"a", "a"]],
    "dates": [["a"], np.array(["2020-01-01"], dtype="M8[D]"), [pd.Timestamp(2020, 1, 1), "a"]],
    "missing first": [[None, np.nan], np.array([np.nan]), ["a", None]],
    "kinds of number": [[3, True, 3.0], [Decimal(3), 1, 2.5], [Decimal("2.5")]],
    "tuples": [[(1, "a")], [(1.0, "a"), (2, "a")]],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_equality_is_that_of_python_across_columns(steps):
    columns = [step if isinstance(step, np.ndarray) else objects(step) for step in steps]
    cells, known = Vocabulary(), {}
    for step, column in zip(steps, columns, strict=True):
        assert cells.add(column).tolist() == number_slowly(known, pd.Series(step, dtype=object))
    cells.assign()
    for step, column in zip(steps, columns, strict=True):
        back = cells.categories_of(cells.look_up(column))
        for cell, same in zip(pd.Series(step, dtype=object), back, strict=True):
            if pd.isna(cell):
                assert np.isnan(same)
            else:
                assert same in (cell, twin_of(cell))


KINDS = [
    lambda ids: np.array(ids),
    lambda ids: np.array(ids, dtype=np.uint64),
    lambda ids: np.array(ids, dtype=float),
    lambda ids: objects(ids),
    lambda ids: objects(list(map(Decimal, ids))),
    lambda ids: pd.array(ids, dtype="Int64"),
    lambda ids: pd.Categorical(ids),
    lambda ids: pa.array(ids),
    lambda ids: objects(list(map(str, ids))),
    lambda ids: pd.array(list(map(str, ids)), dtype="str"),
    lambda ids: pd.Categorical(list(map(str, ids))),
    lambda ids: pa.array(list(map(str, ids))).dictionary_encode(),
]


@pytest.mark.parametrize("has_kernels", [True, False])
@pytest.mark.parametrize("learned", KINDS)
def test_ids_are_the_same_as_numbers_and_as_text(learned, has_kernels, monkeypatch):
    """A model fitted on ids read from CSV as text took all of the database's for unknown."""
    monkeypatch.setattr(stores, "HAS_KERNELS", has_kernels)
    monkeypatch.setattr(vocabulary, "HAS_KERNELS", has_kernels)
    ids = [3, 12, 0, 2**53 + 2]
    cells = Vocabulary()
    cells.add(learned(ids))
    cells.assign()
    first = cells.look_up(learned(ids)).tolist()
    assert sorted(first) == [0, 1, 2, 3]
    for asked in KINDS:
        assert cells.look_up(asked(ids)).tolist() == first
        assert cells.look_up(asked([*ids[:1], 4])).tolist() == [first[0], -2]
    for other in ("03", "+3", "3.0", " 3", "3 ", "٣", "-0", "3e0", "", 3.5, -3, 2**60):
        assert cells.look_up(objects([other])).tolist() == [-2]
    for more in KINDS:  # nor does growing tell them apart
        numbers = cells.add(more([*ids, 7]))
        assert (numbers[-1], cells.n_distinct) == (4, 5)


def test_a_number_and_its_text_in_one_column_differ():
    cells = Vocabulary()
    assert cells.add(objects(["7", 7, "007"])).tolist() == [0, 1, 2]
    cells.assign()
    assert cells.look_up(objects([7, "7", "007", "07"])).tolist() == [1, 0, 2, -2]
    assert cells.look_up(np.array([7])).tolist() == [1]
    assert cells.look_up(["7"]).tolist() == [0]


def test_look_up_of_another_kind_of_column():
    words, numbers = Vocabulary(), Vocabulary()
    words.add(["5", "a", None])
    words.assign()
    assert words.look_up(np.array([5, 6])).tolist() == [0, -2]
    assert words.look_up(np.array([5.0, np.nan])).tolist() == [0, 2]
    mixed = objects([5, "a", "\ud83d", None, b"a", ("a",), pd.NaT, Decimal("NaN")])
    assert words.look_up(mixed).tolist() == [0, 1, -2, 2, -2, -2, 2, 2]
    numbers.add([5, 7])
    numbers.assign()
    assert numbers.look_up(["5", None]).tolist() == [0, -2]
    mixed = objects(["5", 7.0, Decimal(5), 5.5, float("inf"), 2**80, None, np.True_])
    assert numbers.look_up(mixed).tolist() == [0, 1, 0, -2, -2, -2, -2, -2]
    assert numbers.look_up(np.array([7.0, 7.5, np.inf])).tolist() == [1, -2, -2]


def test_columns_of_nothing_but_missing_say_nothing_about_the_kind():
    words = Vocabulary()
    for column in (np.array([np.nan]), [None], pd.array([None], dtype="str"), []):
        assert (words.add(column) == -1).all()
    words.add(["a"])
    assert isinstance(words._store, TextStore)
    words.add(np.array([np.nan]))
    words.add(np.array(["NaT"], dtype="M8[s]"))
    assert isinstance(words._store, TextStore)
    words.assign()
    assert words.categories.tolist() == ["a"]
    assert words.counts.tolist() == [1, 5]


def test_an_empty_vocabulary_has_seen_nothing():
    empty = Vocabulary()
    for column in (["a", None], np.array([1, 2]), np.array([0.5, np.nan])):
        assert empty.look_up(column).tolist() == [-2, -2]
    empty.assign()
    assert (empty.n_codes, empty.n_distinct, empty.missing_code) == (0, 0, -2)
    assert empty.categories_of(np.array([-1])).tolist() == [None]


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("name", [*STEPS, "container"])
def test_no_numba_changes_nothing(name):
    if name == "container":
        words = Vocabulary()
        columns = [pa.array(TEXTS), pd.Categorical(TEXTS), pa.array(TEXTS).dictionary_encode()]
        for column in columns:
            assert words.add(column).tolist() == [0, -1, 1, 2, 0, 3]
        assert isinstance(words._store, CellStore)
        words.assign()
        assert words.look_up(columns[0]).tolist() == [0, 4, 1, 2, 0, 3]
    else:
        test_equality_is_that_of_python_across_columns(STEPS[name])


def test_no_pyarrow_changes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    values = objects([*TEXTS * 20, None, np.nan])
    words = Vocabulary()
    assert words.add(values).tolist() == [*[0, -1, 1, 2, 0, 3] * 20, -1, -1]
    assert isinstance(words._store, TextStore)


# -- codes -----------------------------------------------------------------------------------


def test_codes_given_once_stay():
    """New ones are appended: also those that were rare, and missing."""
    fruit = Vocabulary()
    fruit.add(["pear", "pear", "fig", "kiwi", "kiwi"])
    fruit.assign(min_frequency=2)
    assert fruit.categories.tolist() == ["pear", "kiwi"]
    numbers = fruit.add(["fig", "plum", "plum", None, None, "lime"])
    assert fruit.codes_of(numbers).tolist() == [-1] * 6
    assert fruit.look_up(["fig", "plum", None, "never"]).tolist() == [-1, -1, -1, -2]
    fruit.assign(min_frequency=2, keep=True)
    assert fruit.codes_of(numbers).tolist() == [2, 3, 3, 4, 4, -1]
    assert fruit.missing_code == 4
    fruit.add(["lime", "kiwi"])
    fruit.assign(min_frequency=2, keep=True)
    assert fruit.look_up(["pear", "kiwi", "fig", "plum", None, "lime"]).tolist() == [*range(6)]
    assert fruit.categories.tolist() == ["pear", "kiwi", "fig", "plum", "lime"]
    back = fruit.categories_of(np.array([5, 4, 0, -1]))
    assert back[[0, 2, 3]].tolist() == ["lime", "pear", None]
    assert np.isnan(back[1])
    assert fruit.counts.tolist() == [2, 3, 2, 2, 2, 2]
    assert (fruit.n_codes, fruit.n_distinct) == (6, 6)


def test_codes_can_be_given_anew():
    numbers = Vocabulary()
    numbers.add([9, 3])
    numbers.assign()
    numbers.add([5, None])
    numbers.assign(keep=True)
    assert numbers.look_up([3, 9, 5, None]).tolist() == [0, 1, 2, 3]
    numbers.assign()
    assert numbers.look_up([3, 5, 9, None]).tolist() == [0, 1, 2, 3]


def test_a_share_may_shrink_but_its_code_stays():
    letters = Vocabulary()
    letters.add(["a", "b"])
    letters.assign(min_frequency=0.4)
    letters.add(["c"] * 8)
    letters.assign(min_frequency=0.4, keep=True)
    assert letters.categories.tolist() == ["a", "b", "c"]
    letters.assign(min_frequency=0.4)
    assert letters.categories.tolist() == ["c"]


def test_max_categories_leaves_room_for_the_most_frequent():
    letters = Vocabulary()
    letters.add(list("aaabbbc"))
    letters.assign(max_categories=3)
    assert letters.categories.tolist() == ["a", "b"]
    letters.add(list("ddddddee"))
    letters.assign(max_categories=4, keep=True)
    assert letters.categories.tolist() == ["a", "b", "d"]
    letters.assign(max_categories=4, keep=True)
    assert letters.categories.tolist() == ["a", "b", "d"]


@pytest.mark.parametrize(
    "column",
    [["a", "a", "é", None, "c", "c"], [7, 7, 5, None, 3, 3], ["a", "a", 5, None, 3, 3]],
    ids=["texts", "numbers", "mixed"],
)
def test_rare_categories_can_be_forgotten(column):
    cells = Vocabulary()
    cells.add(objects(column))
    cells.assign(min_frequency=2)
    expected = cells.categories.tolist()
    assert cells.look_up(objects(column[2:4])).tolist() == [-1, -1]
    cells.drop_rare()
    assert cells.categories.tolist() == expected
    assert cells.counts.tolist() == [2, 2]
    assert cells.total == 6
    assert cells.look_up(objects([*expected, column[2], None])).tolist() == [0, 1, -2, -1]
    cells.add(objects([*column[2:4], *column[2:4]]))
    cells.assign(min_frequency=2, keep=True)
    assert cells.look_up(objects([*expected, column[2], None])).tolist() == [0, 1, 2, 3]
    assert cells.total == 10


def test_weights_are_counts():
    letters = Vocabulary()
    letters.add(["a", "b", None], np.array([0.5, 2.0, 1.5]))
    letters.add(["a", "c"], np.array([1.0, 3.0]))
    letters.assign()
    assert letters.counts.tolist() == [1.5, 2.0, 3.0, 1.5]


@pytest.mark.parametrize(
    ("column", "dtype", "categories"),
    [
        ([True, False], bool, [False, True]),
        (np.array([True, False]), bool, [False, True]),
        ([2, 1], np.int64, [1, 2]),
        ([2.0, 1.0], np.int64, [1, 2]),
        ([2.5, 1.0], np.float64, [1, 2.5]),
        (["b", "a"], object, ["b", "a"]),
        ([2**63, 1], object, [1, 2**63]),
        ([2.5, True], object, [2.5, True]),
    ],
)
def test_dtype_and_order_of_the_categories(column, dtype, categories):
    cells = Vocabulary()
    cells.add(column)
    cells.assign()
    assert cells.categories.dtype == dtype
    assert cells.categories.tolist() == categories


def test_unhashable_cells_leave_all_as_it_was():
    cells = Vocabulary()
    cells.add(["a"])
    with pytest.raises(TypeError, match="unhashable"):
        cells.add(objects(["b", ["c"]]))
    cells.assign()
    assert cells.categories.tolist() == ["a"]
    assert cells.counts.tolist() == [1]


# -- pickles, threads, sharing ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "n_bytes"),
    [
        (np.array([f"{i:08x}" for i in range(10_000)], dtype=object), 8 + 1 + 8 + 4),
        (np.arange(10_000) * 7, 8 + 8 + 4),
        (objects([*range(5000), *map(str, range(5000))]), 30),
    ],
    ids=["texts", "numbers", "mixed"],
)
@pytest.mark.parametrize("has_kernels", [True, False])
def test_pickles_are_compact(column, n_bytes, has_kernels, monkeypatch):
    cells = Vocabulary()
    cells.add(column)
    cells.assign()
    assert cells.categories_of(np.array([3]))[0] in column
    pickled = pickle.dumps(cells)
    assert len(pickled) < n_bytes * 10_000 + 2000
    monkeypatch.setattr(stores, "HAS_KERNELS", has_kernels)
    monkeypatch.setattr(vocabulary, "HAS_KERNELS", has_kernels)
    again = pickle.loads(pickled)
    assert isinstance(again._store, CellStore) or has_kernels
    assert_array_equal(again.look_up(column[::-1]), np.arange(10_000)[::-1])
    assert_array_equal(again.add(column[5:]), np.arange(5, 10_000))
    assert again.add(objects(["new"])).tolist() == [10_000]
    assert again.nbytes > 8 * 10_000


# -- floods ----------------------------------------------------------------------------------

P1, P2, P3, P4, P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)


def turned(x, bits):
    """Bits of uint64 rotated to the left."""
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


def inverse(prime):
    return np.uint64(pow(int(prime), -1, 2**64))


def unmixed(h, shift):
    """The x with ``h = x ^ (x >> shift)``."""
    x = h
    for _ in range(64 // shift):
        x = h ^ (x >> np.uint64(shift))
    return x


def before_the_end(h):
    """State of XXH64 before its last mixing, which gave h."""
    return unmixed(unmixed(unmixed(h, 32) * inverse(P3), 29) * inverse(P2), 33)


def word_between(before, after):
    """The 8 bytes that take XXH64 from one state to another."""
    mixed = turned((after - P4) * inverse(P1), 64 - 27) ^ before
    return turned(mixed * inverse(P1), 64 - 31) * inverse(P2)


def colliding_numbers(n):
    """Whole numbers whose XXH64 without a seed differs in its upper half alone."""
    hashes = np.arange(n, dtype=np.uint64) << np.uint64(32)
    return word_between(P5 + np.uint64(8), before_the_end(hashes)).astype(np.int64)


def colliding_texts(n):
    """Texts of 12 ASCII characters, likewise: for many ends, the beginnings that are ASCII."""
    texts, tried = [], np.arange(8 * n, dtype=np.uint64)
    for part, end in enumerate(range(0x20202020, 0x7F7F7F7F, 0x00010101)):
        hashes = tried + np.uint64(part * len(tried)) << np.uint64(32)
        state = turned((before_the_end(hashes) - P3) * inverse(P2), 64 - 23)
        state ^= np.uint64((end & 0x7F7F7F7F) * int(P1) % 2**64)
        words = word_between(P5 + np.uint64(12), state)
        words = words[(words & np.uint64(0x8080808080808080)) == 0]
        tail = (end & 0x7F7F7F7F).to_bytes(4, "little")
        texts += [(word.to_bytes(8, "little") + tail).decode() for word in words.tolist()]
        if len(texts) >= n:
            return objects(texts[:n])
    raise AssertionError("too few texts")


N_FLOOD = 30_000
FLOODS = {
    "numbers": (
        lambda: colliding_numbers(N_FLOOD),
        lambda rng: rng.integers(-(2**63), 2**63 - 1, N_FLOOD),
    ),
    "texts": (
        lambda: colliding_texts(N_FLOOD),
        lambda rng: objects([f"{i:012x}" for i in rng.integers(0, 2**48, N_FLOOD).tolist()]),
    ),
}


def test_the_floods_are_floods():
    """They are what they say: under XXH64 without a seed all fall into one of 2**31 buckets."""
    from sklearn_fm.encoding.hashing import xxh64

    numbers = [int(i).to_bytes(8, "little", signed=True) for i in colliding_numbers(50)]
    texts = [text.encode() for text in colliding_texts(50)]
    assert {len(text) for text in texts} == {12}
    for keys in (numbers, texts):
        hashes = {xxh64(key) for key in keys}
        assert len(hashes) == 50
        assert {h % 2**32 for h in hashes} == {0}


@pytest.mark.parametrize("kind", FLOODS)
def test_no_ids_are_slower_than_random_ones(kind):
    """100,000 ids chosen to collide under a hash without a secret took 30 s, random ones .02."""
    flood, others = FLOODS[kind]

    def seconds(ids):
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            words = Vocabulary()
            words.add(ids)
            words.assign()
            assert_array_equal(words.look_up(ids[::-1])[::-1], words.look_up(ids))
            taken.append(time.perf_counter() - start)
        assert len(words._store) == N_FLOOD
        return min(taken)

    random_ids = others(np.random.default_rng(0))
    seconds(random_ids)  # compiles
    assert seconds(flood()) < 20 * seconds(random_ids)


@pytest.mark.parametrize("store", [TextStore, WholeStore])
def test_the_secret_is_nowhere_to_be_seen(store):
    """Numbers and pickles are the same under any secret; each table draws its own."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 900, 3000)
    values = objects([f"u{i}" for i in ids]) if store is TextStore else ids
    first, second = Vocabulary(), Vocabulary()
    assert_array_equal(first.add(values), second.add(values))
    assert type(first._store) is store
    assert (first._store._secret != second._store._secret).any()
    again = pickle.loads(pickle.dumps(first))
    assert (first._store._secret != again._store._secret).any()
    assert pickle.dumps(first) == pickle.dumps(second)
    more = objects(["new", *values]) if store is TextStore else np.append(1000, values)
    assert_array_equal(first.add(more), again.add(more))


HASHES = """
import sys
print(*(hash(bytes(range(1, n + 1))) for n in range(60)))
print(*(hash((i**9).to_bytes(8, "little", signed=True)) for i in range(-60, 60)))
"""


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="Python has another hash")
def test_the_hash_is_that_of_python():
    """SipHash-1-3 with a secret of zeros is what Python makes of bytes under PYTHONHASHSEED=0."""
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", HASHES], env=env, capture_output=True, text=True, check=True
    )
    lines = [[int(h) % 2**64 >> 32 for h in line.split()] for line in done.stdout.splitlines()]
    texts = objects([bytes(range(1, n + 1)).decode() for n in range(60)])
    numbers = np.array([i**9 for i in range(-60, 60)])
    for values, expected in ((texts, lines[0]), (numbers, lines[1])):
        column = read_column(values)
        store = make_store(column)
        store._secret = np.zeros(2, dtype=np.uint64)
        store.add(column)
        slots = store._slots[store._slots > 0]
        upper = slots[np.argsort(slots & np.uint64(2**32 - 1))] >> np.uint64(32)
        known = slice(1, None) if values is texts else slice(None)  # Python gives 0 for b""
        assert upper.tolist()[known] == expected[known]


def test_two_threads_look_up_in_one_vocabulary():
    ids = np.array([f"{i:x}" for i in range(20_000)], dtype=object)
    words = Vocabulary()
    words.add(ids)
    words.assign()
    with ThreadPoolExecutor(2) as pool:
        for codes in pool.map(words.look_up, [ids] * 20):
            assert_array_equal(codes, np.arange(20_000))


def test_columns_share_a_vocabulary():
    """Counts are those of both; in a pickle it is still one."""
    teams = Vocabulary()
    home, away = (
        CategoryEncoder(name, vocabulary=teams, min_frequency=2) for name in ("home", "away")
    )
    drafts = home.learn(objects(["Ajax", "PSV"])), away.learn(objects(["PSV", "Twente"]))
    home.settle()
    assert home.encode(drafts[0]).tolist() == [-1, 0]
    assert away.encode(drafts[1]).tolist() == [0, -1]
    assert away.learn(objects(["Ajax", None, None])).tolist() == [0, -1, -1]
    away.settle(keep=True)
    assert home.transform(objects(["PSV", "Ajax", None, "NEC"])).tolist() == [0, 1, 2, -1]
    assert home.vocabulary_size == away.vocabulary_size == 4
    again = pickle.loads(pickle.dumps([home, away]))
    assert again[0].known is again[1].known
