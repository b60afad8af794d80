"""Buckets of cells: XXH64 as published, equal cells together, the same everywhere."""

import datetime
import os
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from sklearn_fm.encoding import hashing
from sklearn_fm.encoding.hashing import hash_codes, xxh64

MANY = 2**31 - 1  # buckets, so that two hashes that differ rarely share one
# From the tests of other implementations of XXH64; the last has every kind of piece.
PUBLISHED = {
    "": 0xEF46DB3751D8E999,
    "a": 0xD24EC4F1A98C6E5B,
    "as": 0x1C330FB2D66BE179,
    "asd": 0x631C37CE72A97393,
    "asdf": 0x415872F599CEA71E,
    "abc": 0x44BC2CF5AD770999,
    "Call me Ishmael. Some years ago--never mind how long precisely-": 0x02A2E85470D6FD96,
}


def objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_hashes(text):
    assert xxh64(text.encode()) == PUBLISHED[text]
    for kind in (pa.string(), pa.large_string()):
        codes = hash_codes(pa.array([text], type=kind), MANY)
        assert codes.tolist() == [PUBLISHED[text] % MANY]


def test_xxhash_agrees_for_all_lengths_and_seeds():
    xxhash = pytest.importorskip("xxhash")
    rng = np.random.default_rng(0)
    for length in range(130):
        data, seed = rng.bytes(length), int(rng.integers(2**64, dtype=np.uint64))
        assert xxh64(data, seed) == xxhash.xxh64(data, seed=seed).intdigest()


def test_kernels_agree_with_plain_python():
    rng = np.random.default_rng(1)
    texts = ["é" * int(n) + "ab" * int(m) for n, m in rng.integers(0, 40, (200, 2))]
    expected = [xxh64(text.encode(), 7) % 1000 for text in texts]
    assert hash_codes(texts, 1000, seed=7).tolist() == expected
    numbers = rng.integers(-(2**63), 2**63 - 1, 200) // 10 ** rng.integers(0, 19, 200)
    numbers = np.append(numbers, [0, 9, 10, -1, -(2**63), 2**63 - 1])
    expected = [xxh64(str(i).encode(), 7) for i in numbers]
    assert hash_codes(numbers, 1000, seed=7).tolist() == [h % 1000 for h in expected]


CELLS = [
    "5", "a" * 50, "é", "", b"5", 5, 5.5, True, 2**70, Decimal("0.1"), Fraction(1, 2), -3, None,
    float("inf"), np.nan, datetime.date(2020, 2, 3), pd.Timestamp("2020-02-03 04", tz="UTC"),
]  # fmt: skip


def test_no_numba_gives_the_same_buckets(monkeypatch):
    columns = [
        objects(CELLS),
        objects(["a", "b", None, "a"]),
        pd.array(["x", None, "é"], dtype="str"),
        pd.Categorical(["b", "a", None], categories=["c", "b", "a"]),
        np.array([1.0, np.nan, 2.5]),
        pd.array([1, None, -(2**63)], dtype="Int64"),
        np.array([True, False]),
    ]
    expected = [hash_codes(column, MANY, seed=3) for column in columns]
    monkeypatch.setattr(hashing, "HAS_KERNELS", False)
    for column, codes in zip(columns, expected, strict=True):
        assert_array_equal(hash_codes(column, MANY, seed=3), codes)


EQUAL = [
    [5, 5.0, np.int8(5), np.float32(5), Decimal("5.00"), Fraction(5), "5"],
    [1, True, np.True_, 1.0, "1"],
    [0, -0.0, False, "0"],
    [-12, "-12"],
    [0.5, Fraction(1, 2), Decimal("0.5"), np.float16(0.5)],
    [Fraction(1, 10), Decimal("0.1")],
    [2**70, 2.0**70, Decimal(2**70), str(2**70)],
    [2**64 - 1, np.uint64(2**64 - 1), str(2**64 - 1)],
    [2**400, 2.0**400],
    [float("inf"), Decimal("Infinity")],
    ["a", np.str_("a")],
    [b"a", np.bytes_(b"a")],
    [
        datetime.date(2020, 2, 3),
        datetime.datetime(2020, 2, 3),
        pd.Timestamp(2020, 2, 3),
        np.datetime64("2020-02-03"),
        np.datetime64("2020-02-03T00:00:00.000000000"),
    ],
    [
        pd.Timestamp("2020-02-03 04:00", tz="UTC"),
        pd.Timestamp("2020-02-03 05:00", tz="Europe/Berlin").to_pydatetime(),
    ],
]


@pytest.mark.parametrize("cells", EQUAL, ids=lambda cells: repr(cells[0]))
def test_equal_cells_share_a_bucket(cells):
    alone = [hash_codes(objects([cell]), MANY)[0] for cell in cells]
    mixed = [hash_codes(objects(["other", cell]), MANY)[1] for cell in cells]
    assert len({*alone, *mixed}) == 1


def test_different_cells_differ():
    cells = [
        "5", "05", "5.0", b"5", 0.1, Decimal("0.1"), "", 0, "\x05\0\0\0\0\0\0\0", 2**70, 2**70 + 1,
        pd.Timestamp(5), pd.Timestamp(5, tz="UTC"), "1/2", 0.5, Decimal("0.30"), "True", 1,
    ]  # fmt: skip
    assert len(set(hash_codes(objects(cells), MANY).tolist())) == len(cells)


def test_containers_agree():
    texts = ["b", None, "é", "b"]
    expected = hash_codes(objects(texts), 50, seed=1)
    assert expected[1] == -1
    for column in (
        pd.array(texts, dtype="str"),
        pd.Series(texts, dtype="string"),
        pd.array(texts, dtype=pd.StringDtype("python")),
        pd.Categorical(texts, categories=["never", "é", "b"]),
        pa.chunked_array([texts[:1], texts[1:]]),
        pa.array(["cut", *texts]).slice(1),
        pa.array(texts).dictionary_encode(),
        pl.Series(texts).to_numpy(),
    ):
        assert_array_equal(hash_codes(column, 50, seed=1), expected)
    numbers = [7, None, 2**40]
    expected = hash_codes(objects(numbers), 50)
    for column in (
        np.array([7, np.nan, 2**40]),
        pd.array(numbers, dtype="Int64"),
        pd.array(numbers, dtype="Float64"),
        pd.array(numbers, dtype="UInt64"),
        pd.Categorical(numbers),
        pa.array(numbers),
    ):
        assert_array_equal(hash_codes(column, 50), expected)
    days = ["2020-02-03", None, "1700-01-01"]
    expected = hash_codes(np.array(days, dtype="datetime64[D]"), 50)
    for unit in ("s", "ms", "us", "ns"):
        column = np.array(days, dtype=f"datetime64[{unit}]")
        assert_array_equal(hash_codes(column, 50), expected)
        assert_array_equal(hash_codes(pd.array(column), 50), expected)
    dates = pa.array([datetime.date(2020, 2, 3), None, datetime.date(1700, 1, 1)])
    assert_array_equal(hash_codes(dates, 50), expected)
    assert_array_equal(hash_codes(dates.to_numpy(zero_copy_only=False), 50), expected)


def test_buckets_are_about_equally_full():
    ids = [f"{i:08x}" for i in range(20_000)]
    counts = np.bincount(hash_codes(ids, 100), minlength=100)
    # 200 each; the standard deviation of a multinomial count is 14.
    assert counts.min() > 200 - 5 * 14
    assert counts.max() < 200 + 5 * 14
    assert np.mean(hash_codes(ids, 100) == hash_codes(ids, 100, seed=1)) < 0.02


def test_another_hash_seed_of_python_changes_nothing():
    code = (
        "from sklearn_fm.encoding.hashing import hash_codes; import numpy as np;"
        "print(hash_codes(np.array(['a', 5, 'é', None, 2.5], dtype=object), 10**6).tolist())"
    )
    expected = hash_codes(objects(["a", 5, "é", None, 2.5]), 10**6).tolist()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [((1, 2), "tuple"), (["x"], "list"), (1j, "complex"), (datetime.timedelta(1), "timedelta")],
)
def test_a_cell_that_has_no_bytes_is_named(cell, kind):
    with pytest.raises(TypeError) as error:
        hash_codes(objects(["a", None, cell]), 10, name="tags")
    assert str(error.value) == (
        f"Field 'tags' holds {cell!r} in row 2: to be hashed it must be a string, a number, "
        f"a date or bytes, not {kind}."
    )


def test_half_of_a_surrogate_pair_has_a_bucket():
    codes = hash_codes(objects(["\ud83d", "a"]), MANY)
    assert codes[1] == hash_codes(["a"], MANY)[0]
    assert codes[0] == xxh64(b"\xed\xa0\xbd") % MANY


@pytest.mark.parametrize("empty", [[], objects([]), np.empty(0), pd.array([], dtype="str")])
def test_no_rows(empty):
    assert hash_codes(empty, 5).shape == (0,)
