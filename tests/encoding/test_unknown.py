"""What is unknown at predict: counted on request, said once where it is nearly all of a column."""

import pickle
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sklearn_fm import BagField, CategoryField, FieldEncoder, FMRegressor, NumberField

N = 200


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user": rng.permutation(np.arange(N) % 50),
            "town": rng.choice(["Oslo", "Rome", "Bonn"], N),
            "tags": [list(rng.choice(list("abcdefgh"), rng.integers(0, 4))) for _ in range(N)],
            "price": rng.exponential(size=N),
        }
    )


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


# -- counted ---------------------------------------------------------------------------------


def test_shares_are_counted_by_field(table):
    fields = {"price": NumberField(scaler=None), "h": CategoryField(hash_buckets=5)}
    table["h"], table["n"] = "x", 1.5
    table["w"] = [dict.fromkeys(bag, 2.0) for bag in table["tags"]]
    encoder = FieldEncoder(fields=fields).fit(table)
    assert (encoder.unknown_share(table) == 0).all()
    rows = table[:4].copy()
    rows["user"] = [0, 777, 778, 1]
    rows["town"] = ["Oslo", None, "rome", "Bern"]
    rows["tags"] = [["a", "z"], [], ["y"], ["b", "c", "d"]]
    rows["w"] = [{"a": 1.0, "z": 0.0}, {}, {}, {"b": 2.0, "c": 1.0}]
    rows.loc[0, ["h", "n", "price"]] = None
    shares = encoder.unknown_share(rows)
    assert isinstance(shares, pd.Series)
    assert shares.name == "unknown_share"
    expected = {"user": 2, "town": 3, "tags": 4 / 6 * 2, "price": 0, "h": 1, "n": 1, "w": 1}
    assert shares.index.tolist() == list(expected)
    assert_allclose(shares, np.array([*expected.values()]) / 4)
    assert encoder.unknown_share(rows[1:2])["tags"] == 0  # nothing in the bag


def test_rare_categories_are_unknown(table):
    encoder = FieldEncoder(min_frequency=10**6).fit(table)
    assert encoder.unknown_share(table)[["user", "town", "tags"]].tolist() == [1, 1, 1]
    assert warnings_of(lambda: encoder.transform(table)) == []  # as in fit


# -- said --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_column_of_another_vocabulary_is_said_once(table, n_jobs):
    """Ids of another kind made every prediction that of a stranger, without a word."""
    X = pd.concat([table] * 60, ignore_index=True)
    encoder = FieldEncoder(n_jobs=n_jobs).fit(X)
    other = X.assign(user=[f"u{user}" for user in X["user"]])
    (message,) = warnings_of(lambda: encoder.transform(other))
    n = f"{len(X):,}"
    assert message.startswith(f"Field 'user' is unknown in {n} of {n} rows, for instance 'u")
    assert "it was in 0% in fit, which knows 0, 1, 2" in message
    assert "unknown_share" in message
    assert warnings_of(lambda: encoder.transform(other)) == []
    (message,) = warnings_of(lambda: encoder.transform(X.assign(town=X["town"].str.upper())))
    assert "Field 'town'" in message
    tags = X.assign(tags=[[tag + "!" for tag in bag] for bag in X["tags"]])
    (message,) = warnings_of(lambda: encoder.transform(tags))
    assert message.startswith("Field 'tags' is unknown in ")
    assert "values of bags, for instance" in message


def test_threads_say_it_once(table):
    encoder = FieldEncoder().fit(table)
    other = table.assign(user=table["user"] + 1000)
    start = threading.Barrier(8)

    def serve():
        start.wait()
        for _ in range(5):
            encoder.transform(other)

    def work():
        threads = [threading.Thread(target=serve) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(warnings_of(work)) == 1


@pytest.mark.parametrize("other", [pickle.dumps, FieldEncoder.partial_fit])
def test_another_process_and_a_grown_encoder_say_it_again(table, other):
    """The server that loaded the model was silent, since the notebook that saved it was not."""
    encoder = FieldEncoder().fit(table)
    new = table.assign(user=table["user"] + 1000)
    assert len(warnings_of(lambda: encoder.transform(new))) == 1
    if other is pickle.dumps:
        encoder = pickle.loads(pickle.dumps(encoder))
    else:
        encoder.partial_fit(table[:10])
    assert len(warnings_of(lambda: encoder.transform(new))) == 1


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_an_empty_column_is_said(table, missing):
    """A join that found nothing left every user a stranger, without a word."""
    encoder = FieldEncoder().fit(table)
    empty = table.assign(town=pd.Series([missing] * N, dtype=object))
    (message,) = warnings_of(lambda: encoder.transform(empty))
    assert message.startswith(f"Field 'town' is unknown in {N} of {N} rows, for instance ")
    some = table.assign(town=table["town"].where(np.arange(N) % 2 > 0, None))
    encoder = FieldEncoder().fit(some)
    assert warnings_of(lambda: encoder.transform(empty)) == []  # known to be so


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_warnings_point_at_the_line_of_the_user(table, n_jobs):
    """They pointed into the library, so that Python's "default" filter showed the first only."""
    X = pd.concat([table] * 60, ignore_index=True).drop(columns="price")
    encoder = FieldEncoder(n_jobs=n_jobs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = np.random.default_rng(0).choice(10**6, 50, replace=False)
        encoder.fit(X.assign(visitors=ids[X["user"]]))  # may be ids
        encoder.fit(X).transform(X.assign(user=X["user"] + 1000))  # unknown
        encoder.transform(X.assign(tags=[list("abcdefgh")] * len(X)))  # longer than in fit
    starts = ["Columns ['visitors']", "Field 'user' is unknown", "Field 'tags' got bags"]
    assert len(caught) == 3
    assert all(
        str(warning.message).startswith(start)
        for warning, start in zip(caught, starts, strict=True)
    )
    assert [warning.filename for warning in caught] == [__file__] * 3
    assert caught[0].lineno + 2 == caught[1].lineno + 1 == caught[2].lineno


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("all known", lambda X: X),
        ("few rows", lambda X: X[:99].assign(user=-1 - np.arange(99))),
        ("one new user and all items", lambda X: X.assign(user=1000)),
        ("a few new users", lambda X: X.assign(user=1000 + np.arange(len(X)) % 5)),
        ("a new day", lambda X: X.assign(user=np.where(np.arange(N) % 20, 1000 + np.arange(N), 1))),
        ("another month", lambda X: X.assign(when=pd.Timestamp("2024-02-01"))),
        ("nothing in the bags", lambda X: X.assign(tags=[[] for _ in range(len(X))])),
        ("a constant", lambda X: X.assign(site="other")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_normal_is_not_said(table, what, change):
    """Cold starts and time going on are no mistakes."""
    table["when"], table["site"] = pd.date_range("2024-01-01", periods=N, freq="h"), "only"
    encoder = FieldEncoder().fit(table)
    assert warnings_of(lambda: encoder.transform(change(table))) == []


def test_counting_says_nothing_and_does_not_use_up_the_warning(table):
    encoder = FieldEncoder().fit(table)
    other = table.assign(user=table["user"] + 1000)
    assert warnings_of(lambda: encoder.unknown_share(other)) == []
    assert len(warnings_of(lambda: encoder.transform(other))) == 1


def test_predict_says_it(table):
    encoder = FieldEncoder(fields={"tags": BagField()})
    model = FMRegressor(solver="adagrad", max_epochs=2, random_state=0, encoder=encoder)
    model.fit(table, np.arange(N) % 7)
    other = table.assign(user=table["user"] + 1000)
    with pytest.warns(UserWarning, match="Field 'user' is unknown in 200 of 200 rows"):
        model.predict(other)
    assert warnings_of(lambda: model.predict(other)) == []
    assert model.encoder_.unknown_share(other)["user"] == 1


def test_text_of_numbers_is_no_reason_to_warn(table):
    """Ids of 12 and "12" are the same, through a model as well."""
    model = FMRegressor(solver="adagrad", max_epochs=2, random_state=0)
    model.fit(table, np.arange(N) % 7)
    as_text = table.assign(user=table["user"].astype(str))
    assert (model.encoder_.unknown_share(as_text) == 0).all()
    assert_allclose(model.predict(as_text), model.predict(table))
