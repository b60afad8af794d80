"""Tables larger than memory: encoded into a folder, fitted and predicted from it.

How fast and in how little memory is shown in ``examples/benchmarks/larger_than_memory.py``.
"""

import copy
import errno
import gc
import io
import json
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback

from sklearn_fm import (
    BagField,
    DeepFMClassifier,
    DeepFMRegressor,
    FieldEncoder,
    FieldFolder,
    FMClassifier,
    FMRegressor,
    MFRegressor,
    NumberField,
    encode_to_folder,
)
from sklearn_fm.data import folder as folder_file
from sklearn_fm.data.folder import FolderWriter
from sklearn_fm.training import folder_rows as streaming
from sklearn_fm.training.loading import make_rows

N_ROWS = 3000
QUICK = {"solver": "adagrad", "random_state": 0, "max_epochs": 5}


def make_table(n_rows=N_ROWS, seed=0):
    """Tastes of users for items, a bag, a weighted bag, a number with gaps; target and weights."""
    rng = np.random.RandomState(seed)
    user, item = rng.randint(0, 30, n_rows), rng.randint(0, 20, n_rows)
    tastes = np.random.RandomState(7).randn(2, 30, 2)
    raw = (tastes[0][user] * tastes[1][item]).sum(axis=1)
    age = np.where(rng.rand(n_rows) < 0.1, np.nan, rng.rand(n_rows) * 50)
    return pd.DataFrame(
        {
            "y": raw + 0.3 * rng.randn(n_rows),
            "user": np.char.mod("u%d", user),
            "tags": [list(rng.choice(list("abcd"), k, replace=False)) for k in user % 3],
            "item": item.astype(str),
            "age": age,
            "w": rng.rand(n_rows) + 0.5,
        }
    )


TABLE = make_table()
FEATURES = TABLE.drop(columns=["y", "w"])
ENCODER = FieldEncoder(fields={"tags": BagField(max_length=3), "age": NumberField(scaler="log")})
BINS = FieldEncoder(fields={"tags": BagField(max_length=3)})


@pytest.fixture
def parquet(tmp_path):
    """Folder of three files in several row groups, one without rows."""
    folder = tmp_path / "parquet"
    folder.mkdir()
    for part, (start, stop) in enumerate([(0, 1700), (1700, 1700), (1700, N_ROWS)]):
        rows = pa.Table.from_pandas(TABLE[start:stop], schema=pa.Schema.from_pandas(TABLE))
        pq.write_table(rows, folder / f"{part}.parquet", row_group_size=400)
    return folder


@pytest.fixture
def many_blocks(monkeypatch):
    """Blocks so small that the table has dozens, and a few in memory."""
    monkeypatch.setattr(streaming, "BLOCK_ROWS", 64)
    monkeypatch.setattr(streaming, "_GROUP_ENTRIES", 8000)


@pytest.fixture(autouse=True)
def no_scratch_left(monkeypatch, tmp_path):
    """What an estimator writes on the way is gone when it is done."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert not list(scratch.glob("sklearn_fm*"))


def written(path, encoder=ENCODER, table=TABLE, **kwargs):
    return encode_to_folder(
        table, path, encoder=copy.deepcopy(encoder), columns=list(FEATURES), target="y", **kwargs
    )


def raw_of(model, X):
    return getattr(model, "decision_function", model.predict)(X)


# -- encoding ----------------------------------


def sources(parquet):
    file = parquet / "all.parquet"
    TABLE.to_parquet(file)
    yield "file", os.fspath(file)
    file.unlink()
    yield "folder of files", parquet
    yield "dataset", ds.dataset(parquet, format="parquet")
    yield "pandas", TABLE
    yield "polars", pl.from_pandas(TABLE)
    yield "arrow", pa.Table.from_pandas(TABLE)
    yield "dict", TABLE.to_dict("list")
    yield "list", [TABLE[:7], TABLE[:0], pl.from_pandas(TABLE[7:1000]), TABLE[1000:]]


def test_the_same_codes_from_any_source(parquet, tmp_path):
    """Those of fit_transform on the whole table, for the choice of bins up to their quantiles."""
    encoder = clone(ENCODER).set_params(min_frequency=90)
    codes = clone(encoder).fit_transform(FEATURES)
    for name, source in sources(parquet):
        folder = written(tmp_path / "codes", encoder, source, chunk_rows=333)
        assert folder.schema == codes.schema, name
        assert folder.shape == codes.shape == folder.X.shape
        discrete = np.array([not column.startswith("age") for column in codes.schema.column_names])
        assert_array_equal(np.asarray(folder.X)[:, discrete], np.asarray(codes)[:, discrete], name)
        assert_allclose(np.asarray(folder.X)[:, ~discrete], np.asarray(codes)[:, ~discrete])
        assert_array_equal(folder.y, TABLE.y)
        assert folder.sample_weight is None


def test_bins_are_exact_up_to_their_quantiles(tmp_path):
    exact = clone(BINS).fit(FEATURES)
    folder = written(tmp_path, BINS, [TABLE[:900], TABLE[900:]])
    at = folder.schema.column_names.index("age")
    shares = [
        np.bincount(np.asarray(X)[:, at].astype(int) + 1) / N_ROWS
        for X in (folder.X, exact.transform(FEATURES))
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.002


def test_a_generator_is_read_once(tmp_path):
    """Codes by first appearance as ever; bins of numbers are those of the first chunk."""
    read = []

    def chunks():
        for start in range(0, N_ROWS, 500):
            read.append(start)
            yield TABLE[start : start + 500]

    folder = written(tmp_path, BINS, chunks(), sample_weight="w")
    assert read == list(range(0, N_ROWS, 500))
    first = clone(BINS).fit(FEATURES[:500], sample_weight=TABLE.w[:500])
    at = folder.schema.column_names.index("age")
    assert_array_equal(np.asarray(folder.X)[:, at], np.asarray(first.transform(FEATURES))[:, at])
    assert_array_equal(folder.X, folder.encoder.transform(FEATURES))
    assert_array_equal(folder.sample_weight, TABLE.w)


def test_fitted_encoders_keep_their_codes_or_grow(tmp_path):
    few = TABLE[TABLE.item.astype(int) < 10]
    encoder = clone(BINS).fit(few[FEATURES.columns])
    before = encoder.schema_
    folder = encode_to_folder(TABLE, tmp_path, encoder=encoder, target="y")  # w is not of fit
    assert folder.schema == before
    unseen = np.asarray(folder.X)[(TABLE.item.astype(int) >= 10).to_numpy()]
    assert (unseen[:, folder.schema.column_names.index("item")] == -1).all()
    folder = encode_to_folder([TABLE], tmp_path, encoder=encoder, target="y", grow=True)
    assert folder.schema.rows_kept(before) is not None
    assert folder.schema == encoder.schema_ != before
    assert (np.asarray(folder.X)[:, folder.schema.column_names.index("item")] >= 0).all()


def test_chunks_without_weight_teach_nothing(tmp_path):
    table = TABLE.assign(w=np.repeat([0.0, 2.0, 0.0], 1000))
    parts = [table[:1000], table[1000:2000], table[2000:]]
    folder = written(tmp_path, ENCODER, parts, sample_weight="w")
    middle = clone(ENCODER).fit(FEATURES[1000:2000])
    assert_allclose(np.asarray(folder.X), np.asarray(middle.transform(FEATURES)))
    with pytest.raises(ValueError, match="has no rows of positive weight"):
        written(tmp_path, ENCODER, [table[:1000]], sample_weight="w")


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (["b", "a"] * 4, "U"),
        (pd.array(["b", "a"] * 4, dtype="string"), "U"),
        (pd.Categorical(["b", "a"] * 4), "U"),
        ([True, False] * 4, "b"),
        (pd.array([1, 2] * 4, dtype="Int64"), "i"),
        ([1, 2] * 4, "i"),
    ],
)
def test_targets_keep_their_type(column, dtype, tmp_path):
    table = pd.DataFrame({"x": list("aabb") * 2, "y": column})
    for source in (table, [table[:3], table[3:]], pl.from_pandas(table)):
        folder = encode_to_folder(source, tmp_path, target="y")
        assert folder.y.dtype.kind == dtype
        assert folder.y.tolist() == list(column)


def test_hive_folders_have_their_column(tmp_path):
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        TABLE[day::2].to_parquet(tmp_path / f"day={day}" / "part.parquet")
    folder = encode_to_folder(tmp_path, tmp_path.parent / "codes", columns=["user", "day"])
    assert folder.schema.names == ("user", "day")


def rows_of(*columns):
    return TABLE[[*columns]].head(10)


BAD_SOURCES = {
    "no target": (TABLE, {"target": "z"}, ValueError, "no column 'z'; the table has .*'user'"),
    "no weights": (TABLE, {"sample_weight": "z"}, ValueError, "There is no column 'z'"),
    "no such columns": (TABLE, {"columns": ["user", "z"]}, ValueError, "no column 'z'"),
    "absent": ("absent.parquet", {}, FileNotFoundError, "no file or folder 'absent.parquet'"),
    "no rows": (TABLE[:0], {}, ValueError, "has no rows"),
    "no tables": ([], {}, ValueError, "has no rows"),
    "no chunks": (iter([]), {}, ValueError, "has no rows"),
    "array": (np.zeros((3, 3)), {}, TypeError, "a table or an iterable of tables, got ndarray"),
    "number": (5, {}, TypeError, "iterable of tables, got int"),
    "lists": ([[1, 2], [3, 4]], {}, TypeError, "Expected tables with named columns, got list"),
    "missing target": (
        pd.DataFrame({"x": [1, 2], "y": ["a", None]}),
        {"target": "y"},
        ValueError,
        "The target 'y' has missing values",
    ),
    "mixed target": (
        pd.DataFrame({"x": [1, 2], "y": pd.Series(["a", 1], dtype=object)}),
        {"target": "y"},
        ValueError,
        "must hold numbers or texts, but it is 'mixed-integer'",
    ),
    "other columns later": ([rows_of("user", "item"), rows_of("user")], {}, ValueError, "item"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources(case, tmp_path):
    source, kwargs, error, message = BAD_SOURCES[case]
    with pytest.raises(error, match=f"(?s){message}"):
        encode_to_folder(source, tmp_path, **kwargs)
    with pytest.raises(FileNotFoundError, match="holds no encoded rows"):
        FieldFolder(tmp_path)


def test_empty_files(tmp_path):
    TABLE[:0].to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="has no rows"):
        encode_to_folder(tmp_path / "empty.parquet", tmp_path / "codes")
    (tmp_path / "broken.parquet").touch()
    with pytest.raises(ValueError, match="file size is 0 bytes"):
        encode_to_folder(tmp_path / "broken.parquet", tmp_path / "codes")


# -- the folder ----------------------------------


def test_an_interrupted_write_leaves_no_valid_folder(tmp_path):
    def cut_short():
        yield TABLE[:1000]
        raise KeyboardInterrupt

    written(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, ENCODER, cut_short())
    with pytest.raises(FileNotFoundError, match=r"about.json is missing.*encode_to_folder"):
        FieldFolder(tmp_path)
    gc.collect()  # a file left open would warn


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("what", ["codes", "targets", "description"])
def test_a_full_disk_is_named(what, tmp_path, monkeypatch):
    """numpy's "50000 requested and 0 written" named neither the disk nor what to do."""

    def fail(*args, **kwargs):
        raise OSError("50000 requested and 0 written")

    if what == "codes":
        always_full = io.FileIO("/dev/full", "wb")
        monkeypatch.setattr(folder_file, "open", lambda *_, **__: always_full, raising=False)
    elif what == "targets":
        monkeypatch.setattr(np, "save", fail)
    else:
        monkeypatch.setattr(Path, "write_text", fail)
    path = tmp_path / "encoded"
    message = rf"The disk is full: [\d,]+ bytes .* [\d,]+ are free.*TMPDIR.*{path}"
    with pytest.raises(OSError, match=message) as raised:
        written(path)
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="holds no encoded rows"):
        FieldFolder(path)
    assert len(written(path)) == N_ROWS


def test_other_errors_of_writing_are_left_as_they_are(tmp_path, monkeypatch):
    """A stopped disk is no full one."""

    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match=r"^\[Errno 5\] Input/output error$"):
        written(tmp_path / "encoded")


def test_broken_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent holds no encoded rows"):
        FieldFolder(tmp_path / "absent")
    folder = written(tmp_path, sample_weight="w")
    np.save(tmp_path / "weight.npy", TABLE.w[:10])
    with pytest.raises(
        ValueError, match=r"shape \(10,\), expected \(3000,\). Write the folder again"
    ):
        _ = folder.sample_weight
    codes = tmp_path / "codes.bin"
    whole = codes.read_bytes()
    codes.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"expected 3000 rows of .* Write the folder again"):
        FieldFolder(tmp_path)
    with pytest.raises(OSError, match="ended while it was read"):
        folder.read(0, N_ROWS)
    codes.unlink()
    with pytest.raises(ValueError, match="has 0 bytes, expected 3000 rows"):
        FieldFolder(tmp_path)


def about(path, **changes):
    """Change what a folder says of itself; a key of the schema is written schema__key."""
    told = json.loads((path / "about.json").read_text())
    for name, value in changes.items():
        part, _, key = name.rpartition("__")
        (told[part] if part else told)[key] = value
        if value is None:
            del (told[part] if part else told)[key]
    (path / "about.json").write_text(json.dumps(told))


def overwrite(text):
    return lambda path: (path / "about.json").write_bytes(text)


class Alarm:
    """Unpickling it leaves a mark."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


# what is wrong: what to do to a folder of 50 rows, the message
DAMAGED_ABOUT = {
    "empty": (overwrite(b""), "it is no JSON"),
    "half": (overwrite(b'{"schema": {"names": ["a"'), "it is no JSON"),
    "no text": (overwrite(b"\xff\xfe\x00"), "it is no JSON"),
    "deep": (overwrite(b"[" * 10**6), "it is no JSON"),
    "long number": (overwrite(b'{"n_rows": ' + b"9" * 10**5 + b"}"), "it is no JSON"),
    "huge": (lambda path: os.truncate(path / "about.json", 2**36), "more than 268435456 bytes"),
    "a list": (overwrite(b"[1, 2]"), "expected a dict that holds a dict 'schema'"),
    "no schema": (lambda path: about(path, schema=None), "expected a dict"),
    "schema of another type": (lambda path: about(path, schema=[1]), "expected a dict"),
    "no rows": (lambda path: about(path, n_rows=None), "n_rows is None"),
    "rows as text": (lambda path: about(path, n_rows="50"), "n_rows is '50', expected a positive"),
    "rows as float": (lambda path: about(path, n_rows=50.0), "n_rows is 50.0"),
    "rows below 0": (lambda path: about(path, n_rows=-50), "n_rows is -50"),
    "zero rows": (lambda path: about(path, n_rows=0), "n_rows is 0"),
    "many rows": (lambda path: about(path, n_rows=10**30), "n_rows is 1000"),
    "more rows": (lambda path: about(path, n_rows=10**15), "expected 1000000000000000 rows"),
    "dtype missing": (lambda path: about(path, dtype=None), "dtype is None, expected integers"),
    "objects": (lambda path: about(path, dtype="|O"), "dtype is '|O', expected integers"),
    "fields of a dtype": (lambda path: about(path, dtype=[["a", "<i4"]]), "dtype is [['a'"),
    "wide texts": (lambda path: about(path, dtype="<U100000000"), "dtype is '<U1000"),
    "names missing": (lambda path: about(path, schema__names=None), "expected ['names', "),
    "stranger": (lambda path: about(path, schema__colour=["red"]), "expected ['names', "),
    "names are numbers": (
        lambda path: about(path, schema__names=[1, 2]),
        "names of the schema must be a list of str",
    ),
    "names are a text": (
        lambda path: about(path, schema__names="ab"),
        "names of the schema must be a list of str",
    ),
    "sizes are texts": (
        lambda path: about(path, schema__vocabulary_sizes=["3", "4"]),
        "vocabulary_sizes of the schema must be a list of int",
    ),
    "sizes are flags": (
        lambda path: about(path, schema__vocabulary_sizes=[True, True]),
        "vocabulary_sizes of the schema must be a list of int",
    ),
    "a name less": (
        lambda path: about(path, schema__names=["user"]),
        "must have one entry per field; got 1 names",
    ),
    "sizes below 0": (
        lambda path: about(path, schema__vocabulary_sizes=[-3, 4]),
        "has vocabulary size -3",
    ),
    "sizes beyond int64": (
        lambda path: about(path, schema__vocabulary_sizes=[10**30, 4]),
        "add up to more than 2**63",
    ),
    "many slots": (
        lambda path: about(path, schema__kinds=["bag", "bag"], schema__slots=[10**15, 1]),
        "expected 50 rows of",
    ),
    "columns": (
        lambda path: about(
            path,
            schema={
                "names": ["x"],
                "kinds": ["columns"],
                "vocabulary_sizes": [2],
                "slots": [2],
            },
        ),
        "the schema is that of a sparse matrix's columns",
    ),
    "slots beyond int64": (
        lambda path: about(path, schema__kinds=["bag", "bag"], schema__slots=[10**30, 1]),
        "add up to more than 2**63",
    ),
}


@pytest.mark.parametrize("case", DAMAGED_ABOUT)
def test_damaged_descriptions(case, tmp_path):
    """They gave a KeyError, TypeError or RecursionError of whatever line met them first.

    A bag of 10**15 slots had as many names made up for its columns.
    """
    damage, message = DAMAGED_ABOUT[case]
    encode_to_folder(TABLE[["user", "item"]][:50], tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=r"Write the folder again\.$") as caught:
        FieldFolder(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def npy(header, body=b""):
    """Bytes of an npy file whose header is any text."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


DAMAGED_TARGETS = {
    "empty": b"",
    "no npy": b"x" * 1000,
    "half a header": npy(b"{'descr': '<f8', 'fortran_order': False")[:-9],
    "no header": npy(b"[" * 5000),
    "another header": npy(b"{'descr': [()], 'fortran_order': False, 'shape': (50,)}"),
    "truncated": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (50,)}", bytes(392)),
    "huge": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", bytes(99)),
    "below 0": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-50,)}", bytes(400)),
    "a table": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (25, 2)}", bytes(400)),
    "a number": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': ()}", bytes(400)),
}


@pytest.mark.parametrize("case", [*DAMAGED_TARGETS, "objects", "pickle", "archive"])
def test_damaged_targets(case, tmp_path, monkeypatch):
    """Room was made for what the header says; some gave no ValueError, or none that says what."""
    monkeypatch.chdir(tmp_path)
    folder = encode_to_folder(TABLE[["user", "item", "y"]][:50], tmp_path, target="y")
    file = tmp_path / "target.npy"
    if case == "objects":
        np.save(file, np.array([Alarm()] * 50, dtype=object), allow_pickle=True)
    elif case == "pickle":
        file.write_bytes(pickle.dumps(Alarm()))
    elif case == "archive":
        with open(file, "wb") as archive:
            np.savez(archive, y=np.zeros(50))
    else:
        file.write_bytes(DAMAGED_TARGETS[case])
    for act in (lambda: folder.y, lambda: FMRegressor(**QUICK).fit(folder)):
        with pytest.raises(ValueError, match=r"target\.npy (is|has) .*Write the folder again\.$"):
            act()
    assert not (tmp_path / "unpickled").exists()


def places(base, parquet):
    """Sources, and folders that overlap with them."""
    (base / "link").symlink_to(parquet, target_is_directory=True)
    mixed = base / "mixed"
    mixed.mkdir()
    (mixed / "rows.parquet").symlink_to(parquet / "0.parquet")
    dataset = ds.dataset(parquet, format="parquet")
    yield "same", parquet, parquet
    yield "same, as text", os.fspath(parquet), f"{parquet}/../{parquet.name}/"
    yield "child", parquet, parquet / "codes"
    yield "grandchild", parquet, parquet / "new" / "codes"
    yield "parent", parquet, parquet.parent
    yield "link to it", parquet, base / "link"
    yield "within a link", parquet, base / "link" / "codes"
    yield "from a link", base / "link", parquet / "codes"
    yield "a file's folder", parquet / "0.parquet", parquet
    yield "the file", parquet / "0.parquet", parquet / "0.parquet"
    yield "file linked from elsewhere", mixed, parquet
    yield "dataset", dataset, parquet
    yield "above a dataset", dataset, parquet.parent
    yield "union", ds.dataset([dataset, dataset]), parquet
    yield (
        "subtree",
        ds.dataset(
            parquet.name,
            format="parquet",
            filesystem=pafs.SubTreeFileSystem(os.fspath(parquet.parent), pafs.LocalFileSystem()),
        ),
        parquet,
    )


def test_codes_are_not_written_into_their_source(parquet, tmp_path):
    """The second pass over the source, and all later ones, found codes.bin among its files."""
    before = sorted(file.name for file in parquet.iterdir())
    cases = list(places(tmp_path, parquet))
    for name, source, path in cases:
        with pytest.raises(ValueError, match=r"Expected a folder apart .*Choose another"):
            encode_to_folder(source, path, encoder=copy.deepcopy(ENCODER), target="y")
        assert sorted(file.name for file in parquet.iterdir()) == before, name
    beside = parquet.parent / f"{parquet.name}2"  # begins alike, but is another
    assert len(encode_to_folder(parquet, beside, target="y")) == N_ROWS


def test_written_codes_do_not_go_through_links(tmp_path):
    """A link named codes.bin led to another file, which was overwritten."""
    target = tmp_path / "precious"
    target.write_bytes(b"do not touch")
    for name in ("codes.bin", "about.json", "about.json.part", "target.npy"):
        (tmp_path / "codes").mkdir(exist_ok=True)
        (tmp_path / "codes" / name).symlink_to(target)
    folder = encode_to_folder(TABLE[["user", "item", "y"]], tmp_path / "codes", target="y")
    assert target.read_bytes() == b"do not touch"
    old = folder.X
    codes = old.copy()
    encode_to_folder(TABLE[["user", "item"]][:9], tmp_path / "codes")
    assert_array_equal(old, codes)  # who has mapped them reads what was there


def test_a_folder_written_again_forgets_what_it_held(tmp_path):
    written(tmp_path, sample_weight="w")
    folder = encode_to_folder(FEATURES[:50], tmp_path, encoder=FieldEncoder())
    assert len(FieldFolder(tmp_path)) == len(folder) == 50
    assert folder.y is None
    assert folder.sample_weight is None


def test_reading(tmp_path):
    folder = written(tmp_path)
    X = np.asarray(folder.X)
    assert_array_equal(folder.read(5, 9), X[5:9])
    assert_array_equal(
        folder.read_many(np.array([2990, 10, 4000]), 20), np.concatenate([X[2990:], X[10:30]])
    )
    chunks = list(folder.chunks(700))
    assert [len(chunk) for chunk in chunks] == [700] * 4 + [200]
    assert_array_equal(np.concatenate(chunks), X)
    assert chunks[0].schema == folder.X.schema == folder.schema
    assert not folder.X.flags.writeable
    assert "3000 rows, 4 fields" in repr(folder)
    assert folder.size == X.size


def test_another_process_reads_the_same(tmp_path):
    folder = written(tmp_path)
    for again in (FieldFolder(os.fspath(tmp_path)), pickle.loads(pickle.dumps(folder))):
        assert again.schema == folder.schema
        assert_array_equal(again.X, folder.X)
    assert FieldFolder(tmp_path).encoder is None
    assert_array_equal(pickle.loads(pickle.dumps(folder)).encoder.transform(FEATURES), folder.X)
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["n_rows"] == N_ROWS


def test_under_another_schema(tmp_path):
    """Read as FieldArray.under would."""
    encoder = clone(BINS).fit(FEATURES[TABLE.item.astype(int) < 10])
    small = encoder.schema_
    folder = encode_to_folder(TABLE, tmp_path, encoder=encoder, target="y", grow=True)
    seen = folder.under(small)
    assert seen.schema == seen.read(0, 5).schema == small
    assert_array_equal(seen.X, folder.X.under(small))
    assert_array_equal(seen.read(100, 200), folder.X[100:200].under(small))
    assert folder.schema != small
    with pytest.raises(ValueError, match="differ in more than new categories"):
        folder.under(FieldEncoder().fit(FEATURES[["user"]]).schema_)


def test_rows_under_a_writer_of_floats(tmp_path):
    codes = clone(BINS).fit_transform(FEATURES)
    with FolderWriter(tmp_path) as writer:
        writer.append(codes[:10].astype(np.float64), None, None)
        writer.append(codes[10:], None, None)
        folder = writer.finish(codes.schema)
    assert folder.dtype == np.float64
    assert_array_equal(folder.X, codes)


# -- batches ----------------------------------


@pytest.mark.parametrize("held_out", [None, [0, 3, 46]])
@pytest.mark.usefixtures("many_blocks")
def test_an_epoch_is_all_rows_once(tmp_path, held_out):
    """Each with its own target and weight; rows of weight 0 are not trained on."""
    folder = written(tmp_path)
    weight = np.arange(N_ROWS) % 5.0
    rows = make_rows(folder, np.arange(N_ROWS), weight)
    assert rows.n_units == 47
    expected = np.arange(N_ROWS)
    if held_out is not None:
        rows = rows.subset(torch.tensor(held_out))
        expected = np.concatenate([np.arange(64 * b, min(64 * b + 64, N_ROWS)) for b in held_out])
    indices, values = folder.X.indices_and_values()
    generator = torch.Generator().manual_seed(0)
    orders = []
    for _ in range(2):
        seen = []
        for part, order in rows.parts(generator):
            batch = part.take(order)
            numbers = batch.target.numpy().astype(int)
            assert_array_equal(batch.indices, indices[numbers])
            assert_array_equal(batch.values, values[numbers])
            assert_array_equal(batch.weight, weight[numbers])
            assert len(part) * rows.width <= 8000
            seen.append(numbers)
        orders.append(np.concatenate(seen))
        assert_array_equal(np.sort(orders[-1]), expected[weight[expected] > 0])
    assert (orders[0] != orders[1]).any()
    in_order = torch.cat([batch.target for batch in rows.in_order(50)])
    assert_array_equal(in_order, expected)
    assert_array_equal(in_order, rows.target)
    assert_array_equal(rows.head(7).target, expected[:7])
    n_batches = sum(-(-len(part) // 50) for part in rows.pieces())
    assert n_batches <= rows.n_batches(50) <= n_batches + 1


@pytest.mark.parametrize(("width", "n_rows"), [(10, 10_000), (5000, 1000), (10**7, 20)])
def test_wide_rows_have_small_blocks(width, n_rows):
    """A thousand rows of thousands of slots were one block, of which nothing could be held out."""

    class Folder:
        class schema:
            n_slots = width

        def __len__(self):
            return n_rows

    rows = streaming.FolderRows(Folder(), torch.zeros(n_rows), torch.ones(1).expand(n_rows))
    assert rows.block_rows * width * 16 <= 2**22 or rows.block_rows == 1
    if not streaming.fits_in_memory(Folder()):
        assert rows.n_units >= 16


# -- fitting ----------------------------------


@pytest.mark.parametrize("cls", [FMRegressor, DeepFMRegressor])
@pytest.mark.parametrize("weights", [None, "w"])
def test_few_rows_are_fitted_as_in_memory(cls, weights, tmp_path):
    """To the last bit, by any solver; rows of weight 0 are left out in both."""
    table = TABLE.assign(w=np.where(np.arange(N_ROWS) % 7, TABLE.w, 0.0))
    folder = written(tmp_path, ENCODER, table, sample_weight=weights)
    weight = table.w if weights else None
    for solver in ("adagrad", "lbfgs"):
        params = {
            **QUICK,
            "solver": solver,
            "tol": 0.1,
            "max_epochs": 60 if solver == "lbfgs" else 3,
        }
        in_memory = cls(**params).fit(folder.X, table.y, weight)
        model = cls(**params).fit(folder)
        assert_array_equal(model.predict(folder), in_memory.predict(folder.X))


@pytest.mark.parametrize("cls", [FMRegressor, DeepFMRegressor, MFRegressor])
@pytest.mark.usefixtures("many_blocks")
def test_the_truth_is_found_from_many_blocks(cls, parquet):
    """Planted tastes: with early stopping and refit, about as well as in memory."""
    train, test = make_table(12_000, seed=1), make_table(2000, seed=2)
    train.to_parquet(parquet / "train.parquet")
    path = parquet / "train.parquet"
    params = {"random_state": 0, "max_epochs": 30}
    if cls is MFRegressor:
        params |= {"user": "user", "item": "item"}
    else:
        params["encoder"] = ENCODER
    X_train, X_test = (t.drop(columns=["y", "w"]) for t in (train, test))
    in_memory = cls(**params).fit(X_train, train.y, train.w)
    model = cls(**params).fit(path, "y", sample_weight="w")
    assert set(model.history_.phase) == {"search", "refit"}
    assert model.score(X_test, test.y) > 0.9
    assert model.score(X_test, test.y) > in_memory.score(X_test, test.y) - 0.02


@pytest.mark.parametrize("labels", [["no", "yes"], ["high", "low", "middle"]])
@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier])
@pytest.mark.usefixtures("many_blocks")
def test_classifiers_with_texts_as_labels(cls, labels, tmp_path):
    edges = np.quantile(TABLE.y, np.arange(1, len(labels)) / len(labels))
    table = FEATURES.assign(y=np.array(labels)[np.digitize(TABLE.y, edges)])
    table.to_parquet(tmp_path / "table.parquet")
    path = tmp_path / "table.parquet"
    model = cls(**{**QUICK, "max_epochs": 25}, encoder=ENCODER, class_weight="balanced")
    model.fit(path, "y")
    assert model.classes_.tolist() == labels
    assert model.score(path, table.y) > 0.75
    folder = written(tmp_path / "codes", model.encoder_, table)
    for method in ("predict", "predict_proba", "decision_function"):
        expected = getattr(model, method)(FEATURES)
        for X in (path, folder, folder.X, ds.dataset(path)):
            assert_array_equal(getattr(model, method)(X), expected)
    again = cls(**{**QUICK, "max_epochs": 25}, class_weight="balanced").fit(folder)
    assert again.score(folder, folder.y) > 0.75
    assert again.classes_.tolist() == labels


@pytest.mark.parametrize("cls", [FMRegressor, DeepFMClassifier])
@pytest.mark.usefixtures("many_blocks")
def test_the_same_bits_again_and_with_threads(cls, tmp_path):
    target = (TABLE.y > 0).astype(int) if cls is DeepFMClassifier else TABLE.y
    folder = written(tmp_path, ENCODER, TABLE.assign(y=target))
    first = raw_of(cls(**QUICK).fit(folder), folder)
    assert_array_equal(raw_of(cls(**QUICK).fit(folder), folder), first)
    assert_array_equal(raw_of(cls(**QUICK, n_jobs=2).fit(folder), folder), first)
    assert (raw_of(cls(**{**QUICK, "random_state": 1}).fit(folder), folder) != first).any()


@pytest.mark.usefixtures("many_blocks")
def test_rows_of_weight_0_change_nothing(tmp_path):
    """Whatever their target is; not even the moments of Adam."""
    weight = np.where(np.arange(N_ROWS) % 3, 2.0, 0.0)
    predictions = []
    for noise in (0, 1e3):
        y = np.where(weight > 0, TABLE.y, noise)
        folder = written(tmp_path, ENCODER, TABLE.assign(y=y, w=weight), sample_weight="w")
        model = FMRegressor(**{**QUICK, "solver": "adam", "early_stopping": True}).fit(folder)
        predictions.append(model.predict(folder))
    assert_allclose(*predictions, rtol=1e-5)


@pytest.mark.usefixtures("many_blocks")
def test_weights_have_the_meaning_they_have_in_memory(tmp_path):
    """The objective's, whatever their scale: twice all weights is half the prior."""
    folder = written(tmp_path)
    params = {**QUICK, "early_stopping": False}
    a = FMRegressor(**params, l2_linear=1.0, l2_embedding=4.0).fit(folder)
    double = np.full(N_ROWS, 2.0)
    b = FMRegressor(**params, l2_linear=2.0, l2_embedding=8.0).fit(folder, sample_weight=double)
    assert_allclose(a.predict(folder), b.predict(folder), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("many_blocks")
def test_targets_far_from_0(tmp_path):
    """A float32 cannot hold 1e9 + 1; the scaled target can."""
    folder = written(tmp_path, ENCODER, TABLE.assign(y=TABLE.y + 1e9))
    model = FMRegressor(**{**QUICK, "max_epochs": 20}).fit(folder)
    assert model.score(folder, folder.y) > 0.9


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize("schedule", ["one_cycle", "reduce_on_plateau"])
def test_schedules_and_callbacks(schedule, tmp_path):
    """Each group ends with a short batch, of which one cycle must know."""

    class Count(Callback):
        n_batches, n_epochs = 0, 0

        def on_batch_end(self, net, **kwargs):
            self.n_batches += 1

        def on_epoch_end(self, net, **kwargs):
            self.n_epochs += 1

    count = Count()
    folder = written(tmp_path)
    model = FMRegressor(
        **QUICK, learning_rate_schedule=schedule, early_stopping=False, callbacks=[count]
    ).fit(folder)
    assert count.n_epochs == 5
    assert 5 * N_ROWS / 256 < count.n_batches < 5 * (N_ROWS / 256 + 60)
    if schedule == "one_cycle":
        assert model.history_.learning_rate.iloc[-1] < 0.01
    assert model.score(folder, TABLE.y) > 0.5


@pytest.mark.usefixtures("many_blocks")
def test_eval_sets_of_any_kind(tmp_path, parquet):
    """Categories that only they have are unknown; they teach the encoder nothing."""
    valid = make_table(500, seed=3)
    valid.loc[::5, "item"] = "never seen"
    valid.to_parquet(tmp_path / "valid.parquet")
    folder = written(tmp_path / "codes")
    encoder, X = folder.encoder, valid[FEATURES.columns]
    kinds = {
        "path": (tmp_path / "valid.parquet", "y"),
        "path with weights": (tmp_path / "valid.parquet", "y", "w"),
        "folder": (encode_to_folder(valid, tmp_path / "v", encoder=encoder, target="y"), None),
        "codes": (encoder.transform(X), valid.y),
        "table": (X, valid.y),
    }
    losses = {}
    for kind, eval_set in kinds.items():
        model = FMRegressor(**QUICK).fit(folder, eval_set=eval_set)
        losses[kind] = model.history_.valid_loss.to_numpy()
        assert model.schema_ == folder.schema
        assert set(model.history_.phase) == {"fit"}
    for kind in kinds:
        same = np.allclose(losses[kind], losses["codes"], rtol=1e-5)
        assert same != (kind == "path with weights"), kind


def test_partial_fit_and_warm_start_from_disk(parquet, tmp_path):
    """Later files bring categories of their own."""
    later = make_table(800, seed=4)
    later["item"] = "new" + later["item"]
    later.to_parquet(tmp_path / "later.parquet")
    both = pd.concat([TABLE, later])[FEATURES.columns]
    model = FMRegressor(**QUICK, encoder=BINS).partial_fit(parquet, "y", sample_weight="w")
    assert model.schema_.names == ("user", "tags", "item", "age")
    before = model.schema_
    model.partial_fit(tmp_path / "later.parquet", "y", sample_weight="w")
    assert model.schema_.rows_kept(before)
    assert model.schema_.vocabulary_sizes[2] == before.vocabulary_sizes[2] + 20
    in_memory, codes_of = FMRegressor(**QUICK), model.encoder_.transform
    for table in (TABLE, later):
        in_memory.partial_fit(codes_of(table[FEATURES.columns]), table.y, table.w)
    assert np.corrcoef(model.predict(both), in_memory.predict(codes_of(both)))[0, 1] > 0.9
    # The folder of an earlier day, and of a later one.
    old = written(tmp_path / "old", encoder=model.encoder_)
    model.partial_fit(old)
    model.set_params(warm_start=True).fit(parquet, "y")
    assert model.score(FEATURES, TABLE.y) > 0.5
    with pytest.raises(ValueError, match="another schema than in fit"):
        model.partial_fit(written(tmp_path / "other"))


@pytest.mark.usefixtures("many_blocks")
def test_growth_from_many_blocks(tmp_path):
    encoder = clone(BINS).fit(FEATURES[TABLE.item.astype(int) < 10])
    old = encode_to_folder(TABLE, tmp_path / "old", encoder=encoder, target="y")
    new = encode_to_folder(TABLE, tmp_path / "new", encoder=encoder, target="y", grow=True)
    model = FMRegressor(**QUICK).partial_fit(old).partial_fit(new)
    assert model.schema_ == new.schema
    model.partial_fit(old)  # what was unknown then is so still
    assert_array_equal(model.predict(old), model.predict(old.X))


# -- using the fitted model ----------------------------------


@pytest.mark.parametrize("cls", [FMRegressor, MFRegressor])
def test_a_model_fitted_on_a_path_stands_alone(cls, parquet):
    """Its temporary folder is gone; pickled, it predicts any table."""
    params = {"encoder": ENCODER}
    if cls is MFRegressor:
        params = {"user": "user", "item": "item"}
    model = cls(**QUICK, **params).fit(parquet, "y", sample_weight="w")
    for file in parquet.iterdir():
        file.unlink()
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(TABLE[FEATURES.columns]), model.predict(FEATURES))
    assert model.feature_names_in_.tolist() == (
        ["user", "item"] if cls is MFRegressor else list(FEATURES)
    )


@pytest.mark.usefixtures("many_blocks")
def test_failure_leaves_no_scratch(parquet):
    """See the fixture; the estimator is as it was."""

    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("broken")

    model = FMRegressor(**QUICK, callbacks=[Broken()], encoder=ENCODER)
    with pytest.raises(RuntimeError, match="broken"):
        model.fit(parquet, "y", eval_set=(parquet, "y"))
    assert not hasattr(model, "schema_")
    with pytest.raises(FloatingPointError, match=r"learning_rate=1e.10 is too large"):
        FMRegressor(solver="sgd", learning_rate=1e10, encoder=BINS).fit(parquet, "y")


def test_cross_validation_takes_the_mapped_rows(tmp_path):
    folder = written(tmp_path)
    scores = cross_val_score(FMRegressor(**{**QUICK, "max_epochs": 20}), folder.X, folder.y, cv=3)
    assert scores.min() > 0.8


@pytest.mark.filterwarnings("ignore:X has feature names")
def test_errors_of_fitting_from_disk(parquet, tmp_path):
    model = FMRegressor(**QUICK)
    with pytest.raises(ValueError, match="taken for a table on disk, so y must be the name"):
        model.fit(parquet)
    with pytest.raises(ValueError, match="sample_weight that of the weights' or None"):
        model.fit(parquet, "y", sample_weight=TABLE.w)
    with pytest.raises(ValueError, match="There is no column 'target'"):
        model.fit(parquet, "target")
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        model.fit(parquet / "absent", "y")
    folder = encode_to_folder(FEATURES, tmp_path / "codes")
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        model.fit(folder)
    with pytest.raises(ValueError, match="pass one target per row"):
        model.fit(folder, TABLE.y[:10])
    assert not hasattr(model, "schema_")
    model.fit(FieldFolder(tmp_path / "codes"), TABLE.y)
    with pytest.raises(ValueError, match=r"fitted on encoded rows.*got shape \(3000, 4\)"):
        model.predict(FEATURES)
    with pytest.raises(ValueError, match="fitted on encoded rows, so a table on disk cannot be"):
        model.partial_fit(parquet, "y")
    with pytest.raises(ValueError, match="another schema than in fit"):
        model.predict(encode_to_folder(FEATURES[:9], tmp_path / "few"))
    matrix = MFRegressor(**QUICK, user="user", item="item")
    with pytest.raises(ValueError, match=r"The folder has the fields .*encode_to_folder"):
        matrix.fit(folder, TABLE.y)
    with pytest.raises(ValueError, match="user and item must be names of columns"):
        matrix.set_params(user=0, item=1).fit(parquet, "y")


@pytest.mark.usefixtures("many_blocks")
def test_lbfgs_needs_all_rows_at_once(tmp_path):
    with pytest.raises(ValueError, match="solver='lbfgs' takes all rows at once"):
        FMRegressor(solver="lbfgs").fit(written(tmp_path))


def test_a_table_in_parquet_with_columns_of_no_interest(tmp_path, parquet):
    """Predicting reads the features alone; the target may be absent."""
    model = FMRegressor(**QUICK, encoder=ENCODER).fit(FEATURES, TABLE.y)
    assert_array_equal(model.predict(parquet), model.predict(FEATURES))
    FEATURES.to_parquet(tmp_path / "features.parquet")
    assert_array_equal(model.predict(tmp_path / "features.parquet"), model.predict(FEATURES))
    FEATURES[["user"]].to_parquet(tmp_path / "too_few.parquet")
    with pytest.raises(ValueError, match="tags"):
        model.predict(tmp_path / "too_few.parquet")


def test_score_of_tables_on_disk(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.integers(0, 9, 300).astype(str), "w": rng.integers(1, 4, 300)})
    X["y"] = (X["user"].astype(int) > 4).astype(int)
    X.to_parquet(tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    for cls in (FMClassifier, FMRegressor):
        model = cls(random_state=0).fit(X[["user"]], X["y"])
        expected = model.score(X[["user"]], X["y"], X["w"])
        assert model.score(path, "y", "w") == pytest.approx(expected)
        folder = encode_to_folder(
            path, tmp_path / cls.__name__, encoder=model.encoder_, target="y", sample_weight="w"
        )
        assert model.score(folder) == pytest.approx(expected)
