"""Dates: every part against pandas' own, cyclic parts, time zones, age, what is guessed."""

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_fm.encoding import CategoryField, DateField, FieldEncoder
from sklearn_fm.encoding.fields import DATE_PARTS

TIMES = pd.Series(
    pd.to_datetime(
        [
            "2019-12-31 23:59:59",
            "2020-01-01 00:00:00",
            "2020-02-29 12:30:15.25",
            None,
            "2021-01-03 06:00:00",
            "2024-12-30 18:45:30",
            "1969-07-20 20:17:40",
        ],
        format="ISO8601",
    )
)


def by_pandas(dates, part):
    """The part by pandas' documented accessors, NaN for missing."""
    at = dates.dt
    values = {
        "year": lambda: at.year,
        "quarter": lambda: at.quarter,
        "month": lambda: at.month,
        "week": lambda: at.isocalendar().week.astype(float),
        "day": lambda: at.day,
        "day_of_year": lambda: at.day_of_year,
        "weekday": lambda: at.day_of_week,
        "is_weekend": lambda: at.day_of_week.isin([5, 6]).where(dates.notna()),
        "hour": lambda: at.hour,
        "minute": lambda: at.minute,
        "second": lambda: at.second,
        "age": lambda: (dates.max() - dates).dt.total_seconds() / 86400,
    }[part]()
    return values.to_numpy(dtype=float, na_value=np.nan)


@pytest.mark.parametrize("part", DATE_PARTS)
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_parts_are_those_of_pandas(part, zone, unit):
    dates = TIMES.dt.as_unit(unit).dt.tz_localize(zone)
    X = pd.DataFrame({"d": dates})
    encoder = FieldEncoder(fields={"d": DateField(parts=(part,))}, scaler=None)
    codes = encoder.fit_transform(X)
    back = encoder.inverse_transform(codes)[:, 0].astype(float)
    assert_allclose(back, by_pandas(dates, part), rtol=1e-12)
    assert encoder.schema_.names == (f"d_{part}",)
    assert encoder.schema_.kinds == ("numeric" if part in ("year", "age") else "categorical",)
    assert_array_equal(encoder.transform(X[:3]), np.asarray(codes)[:3])


@pytest.mark.parametrize("part", [part for part, cycle in DATE_PARTS.items() if cycle])
def test_cyclic_parts(part):
    """Neighbours are equally far apart all the way round, and the number can be read back."""
    cycle = DATE_PARTS[part]
    days = pd.Series(pd.date_range("2020-01-01", "2020-12-31 23:00", freq="7h13min11s"))
    X = pd.DataFrame({"d": days})
    encoder = FieldEncoder(fields={"d": DateField(parts=(part,), cyclic=True)})
    codes = encoder.fit_transform(X)
    assert codes.schema.kinds == ("numeric",)
    numbers = by_pandas(days, part)
    assert set(numbers) <= set(cycle)
    assert_allclose(encoder.inverse_transform(codes)[:, 0], numbers, atol=1e-6)
    turn = 2 * np.pi * (numbers - numbers[0]) / len(cycle)
    assert_allclose(np.asarray(codes) @ np.asarray(codes)[0], np.cos(turn), atol=1e-9)
    missing = encoder.transform(pd.DataFrame({"d": pd.to_datetime([None])}))
    assert_array_equal(missing.values, [[0, 0]])


def containers_of_dates():
    moments = [None if pd.isna(t) else t.to_pydatetime() for t in TIMES]
    arrow = pa.array(moments, type=pa.timestamp("us"))
    return {
        "pandas": pd.DataFrame({"d": TIMES}),
        "objects": pd.DataFrame({"d": np.array(moments, dtype=object)}),
        "timestamps": pd.DataFrame({"d": TIMES.astype(object)}),
        "numpy": {"d": TIMES.to_numpy()},
        "arrow dtype": pd.DataFrame({"d": pd.array(moments, pd.ArrowDtype(pa.timestamp("ms")))}),
        "polars": pl.DataFrame({"d": moments}),
        "pyarrow": pa.table({"d": arrow}),
    }


@pytest.mark.parametrize("name", containers_of_dates())
def test_dates_of_all_containers(name):
    field = DateField(parts=("month", "weekday", "hour", "age"))
    encoder = FieldEncoder(fields={"d": field})
    expected = encoder.fit_transform(pd.DataFrame({"d": TIMES}))
    table = containers_of_dates()[name]
    assert_array_equal(encoder.transform(table), expected)
    assert_array_equal(FieldEncoder(fields={"d": field}).fit_transform(table), expected)
    guessed = FieldEncoder().fit(table).schema_
    assert guessed == FieldEncoder().fit(pd.DataFrame({"d": TIMES})).schema_


@pytest.mark.parametrize(
    "days",
    [
        lambda days: pd.DataFrame({"d": np.array([d and d.date() for d in days], dtype=object)}),
        lambda days: pl.DataFrame({"d": [d and d.date() for d in days]}),
        lambda days: pa.table({"d": pa.array([d and d.date() for d in days], type=pa.date32())}),
    ],
)
def test_days_without_a_time(days):
    moments = [None if pd.isna(t) else t.to_pydatetime() for t in TIMES]
    table = days(moments)
    encoder = FieldEncoder()
    codes = encoder.fit_transform(table)
    assert codes.schema.names == ("d_month", "d_weekday", "d_age")  # there are no hours
    months = encoder.inverse_transform(codes)[:, 0].astype(float)
    assert_array_equal(months, by_pandas(TIMES, "month"))


def test_dates_and_datetimes_may_be_mixed():
    cells = [datetime.date(2020, 5, 1), datetime.datetime(2020, 6, 1, 7), None]
    X = pd.DataFrame({"d": np.array(cells, dtype=object)})
    encoder = FieldEncoder(fields={"d": DateField(parts=("month",))})
    back = encoder.inverse_transform(encoder.fit_transform(X))[:, 0]
    assert_array_equal(back.astype(float), [5, 6, np.nan])


# -- age ---------------------------------------------------------------------------------------


def test_age_counts_back_from_the_latest_date_of_fit():
    X = pd.DataFrame({"d": pd.to_datetime(["2020-01-01 00:00", "2020-01-11 12:00", None])})
    encoder = FieldEncoder(fields={"d": DateField(parts=("age",))}, scaler=None)
    ages = encoder.fit_transform(X)
    assert_array_equal(np.asarray(ages)[:, 0], [10.5, 0, np.nan])
    later = pd.DataFrame({"d": pd.to_datetime(["2020-01-13"])})
    assert np.asarray(encoder.transform(later))[0, 0] == -1.5
    for keep_codes in (True, False):
        encoder.partial_fit(later, keep_codes=keep_codes)
        assert np.asarray(encoder.transform(later))[0, 0] == -1.5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.datetimes()), min_size=1, max_size=10),
    st.sampled_from([None, "Europe/Oslo"]),
)
def test_any_date_of_python_has_an_age(dates, zone):
    """Years 1 and 9999 do not fit into the nanoseconds that a column may otherwise be in."""
    if zone:
        dates = [
            None
            if d is None
            else d.replace(
                tzinfo=ZoneInfo(zone), year=max(d.year, 1900) % 2100 + 1, day=min(d.day, 28)
            )
            for d in dates
        ]
    cells = np.array(dates, dtype=object)
    encoder = FieldEncoder(fields={0: DateField(parts=("age",))}, scaler=None)
    ages = np.asarray(encoder.fit_transform(cells[:, None]))[:, 0]
    present = [d for d in dates if d is not None]
    expected = [
        np.nan if d is None else (max(present) - d) / datetime.timedelta(days=1) for d in dates
    ]
    assert_allclose(ages, expected, atol=0.1 if zone else 1e-9)
    near = pd.DataFrame({"x": pd.date_range("2020-01-01", periods=2, tz=zone).as_unit("ns")})
    if present:
        assert np.isfinite(np.asarray(encoder.transform(near.to_numpy(dtype=object)))[:, 0]).all()


def test_dates_first_seen_in_a_later_chunk():
    """An age that was never given has no codes to keep."""
    encoder = FieldEncoder(fields={"d": DateField(parts=("age",))}, scaler=None)
    encoder.partial_fit(pd.DataFrame({"d": pd.to_datetime([None, None])}))
    chunk = pd.DataFrame({"d": pd.to_datetime(["2020-01-01", "2020-01-03"])})
    encoder.partial_fit(chunk)
    assert_array_equal(np.asarray(encoder.transform(chunk))[:, 0], [2, 0])


# -- what is guessed -----------------------------------------------------------------------------


def test_constant_parts_are_left_out():
    hours = pd.date_range("2020-03-04", periods=20, freq="h")
    assert FieldEncoder().fit(pd.DataFrame({"d": hours})).schema_.names == ("d_hour", "d_age")
    days = pd.date_range("2020-03-04", periods=20, freq="D")
    assert FieldEncoder().fit(pd.DataFrame({"d": days})).schema_.names == ("d_weekday", "d_age")
    for constant in (pd.to_datetime(["2020-01-01"] * 3), pd.to_datetime([None] * 3)):
        X = pd.DataFrame({"d": constant})
        encoder = FieldEncoder()
        codes = encoder.fit_transform(X)
        assert codes.schema.names == ("d_age",)
        assert len(set(np.asarray(codes)[:, 0].tolist())) == 1


def test_a_date_may_be_a_category():
    X = pd.DataFrame({"d": TIMES})
    encoder = FieldEncoder(fields={"d": CategoryField()})
    back = encoder.inverse_transform(encoder.fit_transform(X))[:, 0]
    assert all(a == b or (pd.isna(a) and pd.isna(b)) for a, b in zip(back, TIMES, strict=True))


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["2020-01-01"], r"Field 'd_month' is made of dates, but row 1 holds '2020-01-01' \(str\)"),
        ([5], r"row 1 holds 5 \(int\). Turn the column into dates with pandas.to_datetime"),
        (
            [pd.Timestamp("2020-01-01", tz="UTC"), pd.Timestamp("2020")],
            "'d_month' holds dates that",
        ),
    ],
    ids=str,
)
def test_what_is_no_date(cells, message):
    X = pd.DataFrame({"d": np.array([None, *cells], dtype=object)})
    with pytest.raises(ValueError, match=message):
        FieldEncoder(fields={"d": DateField()}).fit(X)


def test_text_that_utf_8_cannot_hold():
    """Half a surrogate pair in a column of dates: pandas' UnicodeEncodeError named no field."""
    encoder = FieldEncoder().fit(pd.DataFrame({"d": [pd.NaT]}))
    X = pd.DataFrame({"d": np.array(["\ud800"], dtype=object)}, dtype=object)
    for act in (encoder.transform, encoder.partial_fit):
        with pytest.raises(ValueError, match=r"Field 'd_age' is made of dates, but row 0 holds"):
            act(X)


def test_text_is_never_parsed_as_dates():
    X = pd.DataFrame({"d": ["2020-01-01", "2020-01-02"]})
    assert FieldEncoder().fit(X).schema_.kinds == ("categorical",)
    with pytest.raises(ValueError, match=r"pandas\.to_datetime"):
        FieldEncoder(fields={"d": DateField()}).fit(X)


def test_time_zone_that_fit_did_not_have():
    X = pd.DataFrame({"d": TIMES})
    encoder = FieldEncoder(fields={"d": DateField(parts=("age",))}).fit(X)
    message = "Field 'd_age' was fitted on dates without a time zone, got dates in time zone UTC"
    with pytest.raises(ValueError, match=message):
        encoder.transform(pd.DataFrame({"d": TIMES.dt.tz_localize("UTC")}))
    aware = FieldEncoder(fields={"d": DateField(parts=("age",))}).fit(
        pd.DataFrame({"d": TIMES.dt.tz_localize("UTC")})
    )
    with pytest.raises(ValueError, match="in time zone UTC, got dates without a time zone"):
        aware.transform(X)
    elsewhere = pd.DataFrame({"d": TIMES.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")})
    there = aware.transform(elsewhere)  # the same moments
    assert_array_equal(there, aware.transform(pd.DataFrame({"d": TIMES.dt.tz_localize("UTC")})))


@pytest.mark.parametrize("zone", ["UTC", None])
def test_dates_that_are_all_missing_are_of_any_zone(zone):
    """A chunk without dates could no longer be encoded once dates in a time zone came later.

    Nothing tells a column of missing dates that it was meant to be in a time zone.
    """
    other = None if zone else "UTC"
    none = pd.DataFrame(
        {"d": pd.Series([None, None], dtype="datetime64[us]").dt.tz_localize(other)}
    )
    some = pd.DataFrame({"d": pd.to_datetime(["2000-01-01", None]).tz_localize(zone)})
    encoder = FieldEncoder(fields={"d": DateField(parts=["age", "month"])})
    encoder.partial_fit(none)
    before = np.asarray(encoder.transform(none))
    encoder.partial_fit(some)
    assert_array_equal(encoder.transform(none), before)
    assert (np.asarray(encoder.transform(some))[1] == before[1]).all()
    with pytest.raises(ValueError, match="Field 'd_age' was fitted on dates"):
        encoder.transform(pd.DataFrame({"d": some.d.dt.tz_localize(None).dt.tz_localize(other)}))
