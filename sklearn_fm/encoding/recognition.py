"""Tells whether a column of whole numbers holds ids or numbers, by its name and by its values.

It reads no table and makes no field; where it is in doubt it says so, and the user decides.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .cells import Wholes, is_whole, read_column

__all__ = [
    "LIKE_COUNTS",
    "Verdict",
    "likeness",
    "look_like_ids",
    "recognise",
    "what_name_says",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words that make an id of whatever stands before them.
_IDS = _words(
    "id ident identifier uid uuid guid sku asin isbn ean upc gtin zip zipcode postcode postal"
)
#: Whom or what the rows of tables of ratings, clicks and purchases are about, or what names it.
_THINGS = _words(
    "key code hash token user customer client member subscriber visitor guest person patient "
    "student employee driver player author artist actor director seller buyer merchant vendor "
    "supplier advertiser publisher company team school item product article movie film video book "
    "song track album game course recipe app device sensor ad creative query account category "
    "brand genre store shop restaurant hotel city country county district region station airport "
    "flight"
)
#: Things of which one person has a first, a second and so on: such a number is no id.
_COUNTED = _words("order session campaign")
#: Words that number a thing when they follow its name: item_index, account number.
_NUMBERS = _words("number num no nr index idx")
#: Words for amounts: the "user" of "n_user" is no user.
_COUNTS = _NUMBERS | _words("n count total sum mean avg average min max per")
#: Words for what is measured or counted, or is a point in time.
_MEASURES = _COUNTS | _words(
    "age year month week weekday day hour minute second time timestamp date duration delay since "
    "elapsed distance length width height depth weight size area volume speed price cost fee "
    "amount value balance income salary revenue budget discount tax quantity qty stock rate ratio "
    "share percent percentage score rating rank position level temperature pressure humidity "
    "population capacity seat latitude longitude lat lon gain loss"
)
#: Words before which a name says what it is about: distance_to_store is a distance.
_PREPOSITIONS = _words("to in at for from by of")
_KNOWN = _IDS | _THINGS | _COUNTED | _MEASURES
_WORD = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: Likeness of the frequencies of neighbours from which on they are those of counts.
LIKE_COUNTS = 0.85
_LARGEST_MEASUREMENT = 2**53  # none has that many digits
_NEARLY_ALL = 0.9  # share of rows with a number of their own that makes row numbers
_FEW = 20  # of so few numbers each has a bin of its own: ids or not, it makes no difference
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
    The name decides if it says clearly what the numbers are (see `what_name_says`), else the
    values do (see `look_like_ids`). A different number in nearly every row, of a hundred or more,
    is a row number, whatever its name: as a category it would tell nothing of other rows.
    """
    numbers = _whole_numbers(values)
    said = what_name_says(name)
    if numbers is None or not len(numbers) or (said is None and not by_values):
        return Verdict(False, "cells")
    if said == "numbers":
        return Verdict(False, "name")
    if said == "ids":
        n = len(pd.unique(numbers))
        if n >= 100 and n > _NEARLY_ALL * len(numbers):
            return Verdict(False, "values", "row numbers: one in nearly every row")
        return Verdict(True, "name", "named like ids, taken for ids; numeric= overrides it")
    are_ids = look_like_ids(numbers, are_named=said == "perhaps ids")
    if are_ids is None:
        return Verdict(False, "values", "perhaps ids; categorical= makes them so", True)
    note = "look like ids, taken for ids; numeric= overrides it" if are_ids else ""
    return Verdict(are_ids, "values", note)


def what_name_says(name: str) -> Literal["ids", "perhaps ids", "numbers"] | None:
    """What a column is by its name.

    Parameters
    ----------
    name : str
        Words in snake_case, camelCase, kebab-case or with spaces, singular or plural.

    Returns
    -------
    {"ids", "perhaps ids", "numbers"} or None
        The last word tells what something is. "id" and the like (`_IDS`) are ids, and so is whom
        or what the row is about (`_THINGS`), but only perhaps if it is a plural, which may count
        ("visitors"), or follows a measurement ("age_category") or a preposition
        ("wait_for_driver"). A word like "number" makes ids of a thing, else perhaps ids
        ("invoice_no", "body_mass_index"). Any other word for an amount or a measurement makes
        numbers, also one before a preposition ("distance_to_store"). None if there is no word that
        tells.
    """
    written = [word.lower() for word in _WORD.findall(name)]
    words = [_singular(word) for word in written]
    if not words:
        return None
    head, before = words[-1], words[:-1]
    if _COUNTS.intersection(before):
        return "numbers"
    if head in _IDS or _is_joined(head):
        return "ids"
    relation = next((j for j, word in enumerate(before) if j and word in _PREPOSITIONS), 0)
    if head in _MEASURES - _NUMBERS or _MEASURES.intersection(before[:relation]):
        return "numbers"
    is_measured = bool(_MEASURES.intersection(before))
    if head in _NUMBERS and before and not is_measured:
        return "ids" if before[-1] in _THINGS and not relation else "perhaps ids"
    if head in _THINGS | _COUNTED:
        is_clear = head in _THINGS and head == written[-1] and not relation and not is_measured
        return "ids" if is_clear else "perhaps ids"
    return "numbers" if is_measured else None


def look_like_ids(numbers: NDArray[Any], *, are_named: bool = False) -> bool | None:
    """Whether whole numbers tell things apart rather than measure or count, by themselves.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows,)
        Whole numbers, none missing.
    are_named : bool, default=False
        Whether their name makes ids of them, perhaps: then there is doubt wherever nothing speaks
        against it.

    Returns
    -------
    bool or None
        None where it may be so.

    Notes
    -----
    Measurements and counts have neighbours of similar frequency, ids do not: a quarter of the rows
    must be at neighbours that chance alone does not make so unlike. Nor do ids favour multiples of
    5, as people do who measure. A hundred different ones with two rows each are asked for.

    Without such neighbours there is doubt about numbers that leave no gaps, as random ids and
    random measurements look the same. So do ids of which two thirds of the range are missing, and
    prices or distances of which a few occur often: that is a doubt if there are ten rows for each.
    With fewer they are taken for numbers, and if their name says nothing, without a word.
    """
    distinct, counts = np.unique(numbers, return_counts=True)
    n, n_rows = len(distinct), len(numbers)
    alike = likeness(counts)
    if distinct[0] < 0 or alike >= LIKE_COUNTS or _are_rounded(distinct, counts):
        return False
    if _are_moments(distinct):
        return False
    unclear = None if are_named and _FEW < n <= _NEARLY_ALL * n_rows else False
    if n_rows < 200 or n < 100 or n > n_rows / 2:
        return unclear
    least, most = int(distinct[0]), int(distinct[-1])
    filled = n / (most - least + 1)
    if most >= _LARGEST_MEASUREMENT:
        return True
    if filled >= 0.95:
        return True if _jumps(counts) >= 0.25 else None
    if counts.max() >= n_rows / 10:
        return unclear
    if filled > 1 / 3:
        return True if _jumps(counts) >= 0.25 else unclear
    return None if alike < 0.4 and n < n_rows / 10 else unclear


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
    if kind == "decimal" and all(map(is_whole, present)):
        return np.array([int(cell) for cell in present])
    return present if kind == "integer" else None


def _singular(word: str) -> str:
    """The word of the lists that a word is the plural of, else the word."""
    forms = (word, word.removesuffix("s"), word.removesuffix("ies") + "y")
    return next((form for form in forms if form in _KNOWN), word)


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
