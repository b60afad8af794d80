"""Tells whether a column of whole numbers holds ids or numbers, by its name and by its values.

It reads no table and makes no field; where it is in doubt it says so, and the user decides.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .cells import Wholes, read_column

__all__ = ["LIKE_COUNTS", "Verdict", "likeness", "look_like_ids", "named_like_ids", "recognise"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words that say of themselves that a column tells one thing from another.
_KEYS = _words(
    "id ident identifier uid uuid guid key code hash token sku asin isbn ean upc gtin zip zipcode "
    "postcode postal"
)
#: Whom or what the rows of tables of ratings, clicks and purchases are about.
_THINGS = _words(
    "user customer client member subscriber visitor guest person patient student employee driver "
    "player author artist actor director seller buyer merchant vendor supplier advertiser "
    "publisher item product article movie film book song track album video game app device ad "
    "creative account category brand genre store shop restaurant hotel city country county "
    "district region station airport flight"
)
#: Words that number a thing when they follow its name: item_index, account number.
_NUMBERS = _words("number num no nr index idx")
#: Words for amounts: the "user" of "n_user" is no user.
_COUNTS = _NUMBERS | _words("n count total sum mean avg average min max per of")
#: Words for what is measured or counted, or is a point in time.
_MEASURES = _COUNTS | _words(
    "age year month week weekday day hour minute second time timestamp date duration delay "
    "elapsed distance length width height depth weight size area volume speed price cost fee "
    "amount value balance income salary revenue budget discount tax quantity qty stock rate ratio "
    "share percent percentage score rating rank position level temperature pressure humidity "
    "population capacity seat latitude longitude lat lon gain loss"
)
_WORD = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: Likeness of the frequencies of neighbours from which on they are those of counts.
LIKE_COUNTS = 0.85
_LARGEST_MEASUREMENT = 2**53  # none has that many digits
_NANOSECONDS = (5 * 10**17, 3 * 10**18)  # 1985 to 2065


class Verdict(NamedTuple):
    """What a column of whole numbers is taken for, and why."""

    are_ids: bool
    chosen_by: str
    note: str = ""
    is_doubtful: bool = False


def recognise(name: str, values: Any, *, by_values: bool = True) -> Verdict:
    """Tell ids from numbers.

    Parameters
    ----------
    name : str
        Name of the column.
    values : ndarray or pandas extension array of shape (n_rows,)
        The column, of numbers.
    by_values : bool, default=True
        Whether the values may decide where the name does not. Those of floats may not: pandas
        makes floats of ids some of which are missing, but most floats are none.

    Returns
    -------
    Verdict

    Notes
    -----
    The name decides if it has a word for ids or for what is measured (see `named_like_ids`),
    else the values do (see `look_like_ids`). A different number in nearly every row, of a
    hundred or more, is a row number, whatever its name: as a category it would tell nothing of
    other rows.
    """
    numbers = _whole_numbers(values)
    if numbers is None or not len(numbers):
        return Verdict(False, "cells")
    by_name = named_like_ids(name, numbers)
    if by_name is False or (by_name is None and not by_values):
        return Verdict(False, "cells" if by_name is None else "name")
    if by_name:
        n = len(pd.unique(numbers))
        if n >= 100 and n > 0.9 * len(numbers):
            return Verdict(False, "values", "row numbers: one in nearly every row")
        return Verdict(True, "name", "named like ids, taken for ids; numeric= overrides it")
    are_ids = look_like_ids(numbers)
    if are_ids is None:
        return Verdict(False, "values", "perhaps ids; categorical= makes them so", True)
    note = "look like ids, taken for ids; numeric= overrides it" if are_ids else ""
    return Verdict(are_ids, "values", note)


def named_like_ids(name: str, numbers: NDArray[Any]) -> bool | None:
    """Whether a column is named like ids, True, or like numbers, False.

    Parameters
    ----------
    name : str
        Words in snake_case, camelCase, kebab-case or with spaces, singular or plural.
    numbers : ndarray of shape (n_rows,)
        Whole numbers, none missing.

    Returns
    -------
    bool or None
        The last word tells what something is: "id", "code" and the like (`_KEYS`), or whom or what
        the row is about (`_THINGS`), unless a word for an amount comes before, as in "n_users".
        A plural may be such an amount, too, so "items" whose frequencies fall evenly, as those of
        counts do, are none. Any other word for a measurement makes numbers. None if there is
        no word that tells.
    """
    words = [_singular(word.lower()) for word in _WORD.findall(name)]
    if not words:
        return None
    head, before = words[-1], words[:-1]
    if head in _NUMBERS and before and before[-1] in _THINGS:
        return True
    if not _COUNTS.intersection(before):
        if head in _KEYS or _is_joined(head):
            return True
        if head in _THINGS:
            is_plural = _WORD.findall(name)[-1].lower() != head
            counts = np.unique(numbers, return_counts=True)[1]
            return not (is_plural and likeness(counts) >= LIKE_COUNTS)
    return False if _MEASURES.intersection(words) else None


def look_like_ids(numbers: NDArray[Any]) -> bool | None:
    """Whether whole numbers tell things apart rather than measure or count, by themselves.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows,)
        Whole numbers, none missing.

    Returns
    -------
    bool or None
        None where it may be so.

    Notes
    -----
    Measurements and counts have neighbours of similar frequency, ids do not: where they leave
    gaps, a quarter of the rows must be at neighbours that chance alone does not make so unlike.
    Nor do ids favour multiples of 5, as people do who measure. A hundred different ones with
    two rows each are asked for. Ids of which two thirds of the range are missing look like prices
    or distances of which a few occur often: that is the doubt, if there are ten rows for each.
    """
    if len(numbers) < 200 or numbers.min() < 0:
        return False
    distinct, counts = np.unique(numbers, return_counts=True)
    n, n_rows = len(distinct), len(numbers)
    if n < 100 or n > n_rows / 2:
        return False
    alike = likeness(counts)
    if alike >= LIKE_COUNTS or _are_rounded(distinct, counts) or _are_moments(distinct):
        return False
    least, most = int(distinct[0]), int(distinct[-1])
    filled = n / (most - least + 1)
    if filled >= 0.95 or most >= _LARGEST_MEASUREMENT:
        return True
    if counts.max() >= n_rows / 10:
        return False
    if filled > 1 / 3:
        return _jumps(counts) >= 0.25
    return None if alike < 0.4 and n < n_rows / 10 else False


def likeness(counts: NDArray[np.intp]) -> float:
    """Rank correlation of the frequencies of neighbours; 0 if all are the same.

    Parameters
    ----------
    counts : ndarray of shape (n_distinct,)
        How often each number occurs, in the order of the numbers.

    Returns
    -------
    float
    """
    before, after = counts[:-1], counts[1:]
    if len(counts) < 3 or np.ptp(before) == 0 or np.ptp(after) == 0:
        return 0.0
    return float(np.corrcoef(_ranks(before), _ranks(after))[0, 1])


# -- implementation ----------------------------------------------------------------------------


def _whole_numbers(values: Any) -> NDArray[Any] | None:
    """Numbers that are present, exact; None unless all are whole."""
    column = read_column(values)
    if isinstance(column, Wholes):
        return column.numbers[~column.missing] if len(column.missing) else column.numbers
    cells = values if values.dtype.kind == "u" else np.asarray(values, dtype=object)
    present = np.asarray(cells[~np.asarray(pd.isna(cells))])
    if present.dtype.kind == "u":
        return present
    kind = pd.api.types.infer_dtype(present)
    if kind == "decimal" and all(cell == cell // 1 for cell in present):
        return np.array([int(cell) for cell in present])
    return present if kind == "integer" else None


def _singular(word: str) -> str:
    """The word of the lists that a word is the plural of, else the word."""
    forms = (word, word.removesuffix("s"), word.removesuffix("ies") + "y")
    return next((form for form in forms if form in _KEYS | _THINGS | _MEASURES), word)


def _is_joined(word: str) -> bool:
    """Whether a word is of two without a mark between, as userid and zipcode."""
    return any(word.endswith(key) and word[: -len(key)] in _THINGS for key in ("id", "key", "code"))


def _are_rounded(distinct: NDArray[Any], counts: NDArray[np.intp]) -> bool:
    """Whether multiples of 5 are more frequent than a single frequent id makes them."""
    fives = np.asarray(distinct % 5 == 0, dtype=bool)
    if fives.all() or not fives.any():
        return bool(fives.all())
    is_much = counts[fives].sum() > 0.4 * counts.sum()
    return bool(is_much and np.median(counts[fives]) > 2 * np.median(counts[~fives]))


def _are_moments(distinct: NDArray[Any]) -> bool:
    """Whether numbers are days written as 20240131, or nanoseconds since 1970."""
    least, most = int(distinct[0]), int(distinct[-1])
    if _NANOSECONDS[0] <= least and most <= _NANOSECONDS[1]:
        return bool((distinct % 1000 == 0).all())  # clocks are not that fine, ids are
    if least < 19000000 or most > 21001231:
        return False
    month, day = distinct // 100 % 100, distinct % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _jumps(counts: NDArray[np.intp]) -> float:
    """Share of the rows at neighbours whose counts differ by over two standard deviations.

    Of Poisson counts with equal means, whose difference has their sum as its variance, these are
    5%.
    """
    both = counts[:-1] + counts[1:]
    return float(both[np.diff(counts) ** 2 > 4 * both].sum() / both.sum())


def _ranks(counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Ranks, equal ones sharing their mean."""
    _, inverse, n = np.unique(counts, return_inverse=True, return_counts=True)
    return (np.cumsum(n) - (n - 1) / 2)[inverse]
