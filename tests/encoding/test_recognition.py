"""Ids or numbers: what a column's name says, what its values say, and what is said in doubt."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from sklearn_fm import FieldEncoder, FMRegressor, MFRegressor, NumberField
from sklearn_fm.encoding.recognition import look_like_ids, recognise, what_name_says

IDS_WITH_GAPS = np.random.default_rng(0).permutation(np.repeat(np.arange(50) ** 2, 4))


def kind_of(values, name="x0"):
    """Kind of the only field."""
    return FieldEncoder().fit(pd.DataFrame({name: values})).schema_.kinds[0]


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("user", "item", "movie", "film", "product", "customer", "client", "sku", "zip"),
        *("postcode", "code", "key", "uuid", "id", "USER", "IDs", "token", "school", "sensor"),
        *("user_id", "movieId", "userID", "userIDs", "ITEM-ID", "item id", "User Id", "ids"),
        *("product_code", "zipCode", "zipcode", "country-code", "HTTPKey", "id_user", "userid"),
        *("account_number", "item no", "flight", "flight_num", "user_idx", "itemIndex", "item_1"),
        *("date_id", "orderId", "from_station_id", "to_station", "in_reply_to_user_id"),
    ],
)
def test_names_of_ids(name):
    """`user` and `item` of MovieLens were numbers, cut into 20 bins: RMSE 1.016 for .851."""
    assert what_name_says(name) == "ids"
    assert kind_of(IDS_WITH_GAPS, name) == "categorical"


@pytest.mark.parametrize(
    "name",
    [
        *("age", "hours-per-week", "capital-gain", "dep_time", "distance", "week number"),
        *("air_time", "day", "month", "year", "hour", "timestamp", "user_age", "itemPrice"),
        *("n_users", "num_items", "item_count", "numberOfCustomers", "items_per_user", "max_item"),
        *("product weight", "no_of_codes", "customer_since_days", "user_rating", "age_group"),
        *("distance_to_store", "time_in_hotel", "customer_since", "check_in_date", "token_length"),
    ],
)
def test_names_of_numbers(name):
    """`distance_to_store` was an id: the last word won, though it is what is measured to."""
    assert what_name_says(name) == "numbers"
    assert kind_of(IDS_WITH_GAPS, name) == "binned"


HALF_SAID = [
    *("users", "Movies", "cities", "tokens", "customers", "visitors", "employees", "flights"),
    *("price_category", "age_category", "rating_key", "wait_for_driver", "area_code"),
    *("invoice_no", "order_number", "card_number", "session_idx", "phone number", "ticket_num"),
    *("Kunden-Nr", "body_mass_index", "educational-num", "order", "campaign"),
]


@pytest.mark.parametrize("name", HALF_SAID)
def test_names_that_may_be_those_of_ids_leave_it_to_the_values(name):
    """Daily `customers` were ids without a word, and random `invoice_no` numbers without one."""
    rng = np.random.default_rng(0)
    n = 3000
    sparse = rng.choice(rng.choice(10**6, 500, replace=False), n)
    users = np.unique(numbers_that("user ids", rng), return_inverse=True)[1]
    assert what_name_says(name) == "perhaps ids"
    assert recognise(name, users)[:2] == (True, "values")
    for doubtful in (sparse, sparse[:300], IDS_WITH_GAPS, rng.lognormal(6, 1, n).round()):
        verdict = recognise(name, doubtful, by_values=False)
        assert (verdict.are_ids, verdict.is_doubtful) == (False, True)
    for clear in (
        *(rng.poisson(3, n), rng.geometric(0.05, n), rng.normal(45, 15, n).round()),
        *(rng.integers(1, 20, n), -sparse, np.arange(n)),
    ):
        verdict = recognise(name, clear)
        assert (verdict.are_ids, verdict.is_doubtful) == (False, False)


@pytest.mark.parametrize(
    "name", ["paid", "humid", "width", "fnlwgt", "C14", "x0", "使用者", "", "1"]
)
def test_names_that_say_nothing(name):
    """Parts of words are no words."""
    assert what_name_says(name) in (None, "numbers")
    assert kind_of(IDS_WITH_GAPS, name or "x") == "binned"


def test_a_plural_may_be_a_count():
    """How many items an order has is no item."""
    rng = np.random.default_rng(0)
    counts = rng.geometric(0.1, 5000)
    assert kind_of(counts, "items") == "binned"
    assert kind_of(rng.permutation(200)[rng.geometric(0.03, 5000) % 200], "items") == "categorical"


def test_floats_named_like_ids_are_ids():
    """Pandas makes floats of integers as soon as one is missing."""
    with_missing = np.append(IDS_WITH_GAPS.astype(float), np.nan)
    assert kind_of(with_missing, "user_id") == "categorical"
    assert kind_of(with_missing) == "binned"
    assert kind_of(with_missing + 0.5, "user_id") == "binned"


def test_row_numbers_are_no_ids():
    """A category in each row would tell nothing of other rows."""
    rows = np.arange(200) * 3
    for numbers in (rows, np.append(rows, rows[:10])):
        verdict = recognise("id", numbers)
        assert (verdict.are_ids, verdict.chosen_by) == (False, "values")
        assert "row numbers" in verdict.note
    assert recognise("id", np.append(rows, rows[:50])).are_ids
    assert recognise("user", np.array([3, 1, 2])).are_ids  # too few rows to tell


# -- values --------------------------------------------------------------------------------------


def numbers_that(kind, rng):
    n = 3000
    if kind == "user ids":
        return rng.choice(500, n, p=rng.dirichlet(np.full(500, 0.5)))
    if kind == "shuffled zipf":
        weights = rng.permutation(1 / np.arange(1, 301))
        return rng.choice(300, n, p=weights / weights.sum())
    if kind == "ids with gaps":
        ids = rng.choice(600, 300, replace=False)
        return ids[rng.choice(300, 10 * n, p=rng.dirichlet(np.full(300, 2.0)))]
    if kind == "ids with gaps, popular first":  # as MovieLens' items are
        ids = np.sort(rng.choice(600, 300, replace=False))
        popularity = np.exp(-np.arange(300) / 100 + rng.normal(0, 0.7, 300))
        return ids[rng.choice(300, 10 * n, p=popularity / popularity.sum())]
    if kind == "ids with gaps, few rows":
        users = np.sort(rng.choice(1500, 1300, replace=False))
        return users[rng.choice(1300, n, p=rng.dirichlet(np.full(1300, 0.5)))]
    if kind == "ages":
        return np.clip(rng.normal(45, 20, 20 * n), 0, 110).round()
    if kind == "counts":
        return rng.geometric(0.01, n)
    if kind == "row numbers":
        return np.arange(n)
    if kind == "dense, uniform":
        return rng.integers(0, 150, n)
    if kind == "few values":
        return rng.integers(0, 50, n)
    if kind == "lengths":
        return rng.normal(500, 100, n).round()
    if kind == "prices in cents":
        return rng.lognormal(6, 1, n).round()
    if kind == "times of day, rounded":
        minutes = rng.integers(0, 1440, 10 * n)
        return np.where(rng.random(10 * n) < 0.7, minutes // 5 * 5, minutes)
    if kind == "days":
        days = pd.date_range("2023-01-01", periods=366).strftime("%Y%m%d").astype(int).to_numpy()
        return days[rng.choice(366, 10 * n, p=rng.dirichlet(np.full(366, 2.0)))]
    if kind == "nanoseconds since 1970":
        return 1_700_000_000_000_000_000 + 10**9 * rng.choice(10**6, 1000)[rng.integers(0, 1000, n)]
    assert kind == "below zero"
    return rng.integers(-200, 200, n)


@pytest.mark.parametrize(
    ("kind", "are_ids"),
    [
        ("user ids", True),
        ("shuffled zipf", True),
        ("ids with gaps", True),
        ("ids with gaps, popular first", True),
        ("ids with gaps, few rows", True),
        ("ages", False),
        ("counts", False),
        ("row numbers", False),
        ("few values", False),
        ("lengths", False),
        ("prices in cents", False),
        ("times of day, rounded", False),
        ("days", False),
        ("nanoseconds since 1970", False),
        ("below zero", False),
        ("dense, uniform", None),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_ids_are_told_from_measures(kind, are_ids, seed):
    numbers = numbers_that(kind, np.random.default_rng(seed)).astype(np.int64)
    if are_ids and "gaps" not in kind:
        numbers = np.unique(numbers, return_inverse=True)[1]
    assert look_like_ids(numbers) is are_ids
    with_missing = pd.array(numbers, dtype="Int64").insert(0, pd.NA)
    assert recognise("x", with_missing).are_ids is bool(are_ids)
    assert recognise("x", with_missing).is_doubtful is (are_ids is None)


def test_ids_of_64_bits_are_compared_exactly():
    """Through float64, a thousand ids near 2**60 were the 8 numbers of 3 bins."""
    rng = np.random.default_rng(0)
    which = rng.choice(1000, 5000, p=rng.dirichlet(np.full(1000, 0.5)))
    dense, hashes = np.arange(1000), rng.integers(2**63, 2**64, 1000, dtype=np.uint64)
    for ids in (2**60 + dense, np.uint64(2**63 + 5) + dense.astype(np.uint64), hashes):
        encoder = FieldEncoder().fit(ids[which][:, None])
        assert encoder.schema_.kinds == ("categorical",)
        assert encoder.schema_.vocabulary_sizes == (1 + len(np.unique(which)),)
        frame = pd.DataFrame(
            {
                "x": pd.array(
                    ids[which], dtype=ids.dtype.name.replace("int", "Int").replace("uI", "UI")
                )
            }
        )
        assert FieldEncoder().fit(frame).schema_.kinds == ("categorical",)


@pytest.mark.parametrize("other", ["1e30", "Infinity", "-Infinity", "0.5", "NaN"])
def test_decimals_of_any_size_are_read(other):
    """1e28 raised InvalidOperation and infinity OverflowError, from deep inside."""
    cells = [Decimal(str(i)) for i in IDS_WITH_GAPS]
    X = pd.DataFrame({"user": [*cells, Decimal(other)]})
    if "Infinity" in other:
        with pytest.raises(ValueError, match="'user' holds infinity"):
            FieldEncoder().fit(X)
        return
    is_whole = other in ("1e30", "NaN")
    assert recognise("user", X["user"].to_numpy()).are_ids is is_whole
    assert FieldEncoder().fit(X).schema_.kinds == ("categorical" if is_whole else "binned",)


# -- what is said ----------------------------------------------------------------------------------


def test_doubt_is_said_once_with_what_to_write():
    rng = np.random.default_rng(0)
    ids = rng.choice(10**6, 200, replace=False)
    X = pd.DataFrame({name: ids[rng.integers(0, 200, 5000)] for name in ("a", "b")})
    X["price"] = X["a"]
    with pytest.warns(UserWarning, match="whole numbers that may be ids") as caught:
        encoder = FieldEncoder().fit(X)
    (warning,) = caught
    assert "['a', 'b']" in str(warning.message)
    assert "were taken for numbers" in str(warning.message)
    assert encoder.schema_.kinds == ("binned",) * 3
    for choice in ("categorical", "numeric"):
        assert f"FieldEncoder({choice}=['a', 'b'])" in str(warning.message)
        FieldEncoder(**{choice: ["a", "b"]}).fit(X)
    array = X[["a"]].to_numpy()
    with pytest.warns(UserWarning, match=r"categorical=\['x0'\]"):
        FieldEncoder().fit(array)
    assert FieldEncoder(categorical=["x0"]).fit(array).schema_.kinds == ("categorical",)


def test_what_decided_is_said_and_can_be_overridden():
    rng = np.random.default_rng(0)
    ids = numbers_that("user ids", rng)
    X = pd.DataFrame(
        {"user": ids, "u": np.unique(ids, return_inverse=True)[1], "age": ids, "t": "a"}
    )
    encoder = FieldEncoder().fit(X)
    table = encoder.summary()
    assert table["chosen_by"].tolist() == ["name", "values", "name", "cells"]
    assert "taken for ids: user, u>" in repr(encoder)
    for name, why in (("user", "named like ids"), ("u", "look like ids")):
        assert table.loc[name, "note"] == f"{why}, taken for ids; numeric= overrides it"
    for parameters in (
        {"numeric": ["user", "u"]},
        {"fields": {"user": NumberField(), 1: NumberField()}},
    ):
        other = FieldEncoder(**parameters).fit(X)
        assert other.schema_.kinds[:2] == ("binned", "binned")
        assert other.summary()["chosen_by"].tolist()[0] == f"{next(iter(parameters))}="
        assert "taken for ids" not in repr(other)
    assert (
        FieldEncoder(categorical=["age"]).fit(X).summary().loc["age", "chosen_by"] == "categorical="
    )
    assert "taken for ids" not in repr(FieldEncoder())


def test_user_and_item_of_integers_are_those_of_a_factorization():
    """RMSE 1.016 where MFRegressor had .851: the items, whose ids have gaps, were numbers."""
    rng = np.random.default_rng(0)
    n, ids = 6000, np.sort(rng.choice(4000, 300, replace=False))
    user, item = rng.integers(0, 150, n), rng.integers(0, 300, n)
    effect = rng.normal(0, 1, 300)
    X = pd.DataFrame({"user": 7 * user, "item": ids[item]})
    y = rng.normal(0, 0.5, 150)[user] + effect[item] + rng.normal(0, 0.3, n)
    train, test = slice(5000), slice(5000, None)
    errors = []
    for model in (FMRegressor(random_state=0), MFRegressor(random_state=0)):
        model.fit(X[train], y[train])
        errors.append(np.sqrt(np.mean((model.predict(X[test]) - y[test]) ** 2)))
    assert errors[0] < 0.4
    assert abs(errors[0] - errors[1]) < 0.03
