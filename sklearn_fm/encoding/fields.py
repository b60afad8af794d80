"""How single columns shall be encoded, where `FieldEncoder`'s choice for all will not do.

Descriptions only: they hold what a user writes into ``FieldEncoder(fields={...})``, and check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, Protocol, TypeAlias, get_args

__all__ = [
    "DATE_PARTS",
    "SCALERS",
    "BagField",
    "CategoryField",
    "DateField",
    "Field",
    "NumberField",
    "Scaler",
    "check_rules",
]

ScalerWord: TypeAlias = Literal["bins", "uniform_bins", "log_bins", "piecewise", "periodic", "log"]
DatePart: TypeAlias = Literal[
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "day_of_year",
    "weekday",
    "is_weekend",
    "hour",
    "minute",
    "second",
    "age",
]


class Transformer(Protocol):
    """What scales numbers: scikit-learn's transformers have no hints that could say it."""

    def fit(self, X: Any, /) -> Any:
        """Learn from a column."""

    def transform(self, X: Any, /) -> Any:
        """Scale a column."""


Scaler: TypeAlias = ScalerWord | Transformer | None

#: Words for `scaler`.
SCALERS = get_args(ScalerWord)
#: Parts of a date, with the numbers that those run through that come round.
DATE_PARTS: dict[str, range | None] = {
    "year": None,
    "quarter": range(1, 5),
    "month": range(1, 13),
    "week": range(1, 54),
    "day": range(1, 32),
    "day_of_year": range(1, 367),
    "weekday": range(7),
    "is_weekend": range(2),
    "hour": range(24),
    "minute": range(60),
    "second": range(60),
    "age": None,
}


class Field:
    """Base of the descriptions: checks itself when it is made."""

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        check_rules(type(self).__name__, values, self._rules())

    def __repr__(self) -> str:
        """What differs from the defaults, as scikit-learn shows estimators."""
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _rules(self) -> dict[str, tuple[bool, str]]:
        """Whether each attribute is valid, and what it must be."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, repr=False)
class CategoryField(Field):
    """One category per cell.

    Parameters
    ----------
    vocabulary : str, default=None
        Name of a vocabulary. Fields that name the same one share categories, codes and rows
        of the table; None gives the field its own.
    hash_buckets : int, default=None
        Encode by a stable 64-bit hash into that many codes, keeping no vocabulary. None for
        the encoder's `hash_buckets`, 0 for a vocabulary whatever that says.
    n_hashes : int, default=1
        Hashes per category, each in a slot of its own; two categories then hardly ever
        agree in all of them.
    min_frequency : int or float, default=None
        As in FieldEncoder, whose value is taken for None.
    max_categories : int, default=None
        Likewise.
    linear : bool, default=True
        Whether the field takes part in the linear term. Fields of one vocabulary share its
        weights too, which misleads where they mean different things: a film seen before
        says something else than the film in question.

    Raises
    ------
    ValueError
        If a value is not usable.
    """

    vocabulary: str | None = None
    hash_buckets: int | None = None
    n_hashes: int = 1
    min_frequency: float | None = None
    max_categories: int | None = None
    linear: bool = True

    def _rules(self) -> dict[str, tuple[bool, str]]:
        return {
            "vocabulary": (self.vocabulary is None or isinstance(self.vocabulary, str), "a str"),
            "hash_buckets": (
                self.hash_buckets is None or is_count(self.hash_buckets, 0),
                "an int of at least 1, 0 or None",
            ),
            "n_hashes": (is_count(self.n_hashes, 1), "an int of at least 1"),
            "linear": (isinstance(self.linear, bool), "True or False"),
            "min_frequency": frequency_rule(self.min_frequency),
            "max_categories": (
                self.max_categories is None or is_count(self.max_categories, 1),
                "an int of at least 1 or None",
            ),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class BagField(CategoryField):
    """Any number of categories per cell: a list, tuple, set, array or delimited string.

    A missing cell is an empty bag. An empty bag adds nothing to a prediction.

    Parameters
    ----------
    vocabulary : str, default=None
        As in `CategoryField`, for the categories within the bags.
    hash_buckets : int, default=None
        Likewise.
    n_hashes : int, default=1
        Likewise; to the pooling each hash counts as a category.
    min_frequency : int or float, default=None
        Likewise.
    max_categories : int, default=None
        Likewise.
    linear : bool, default=True
        Likewise.
    separator : str, default=None
        What stands between the categories where cells are strings.
    pooling : {"sum", "mean", "sqrtn", "max"}, default="mean"
        How embeddings become one: their sum; that divided by the number of categories,
        or by its square root; their maximum. With weights: the weighted sum; that divided by
        the sum of the weights' absolute values, or by the root of their sum of squares.
    weights : bool or str, default=False
        Whether cells hold (category, weight) pairs; a dict does in any case. A string names
        the column that holds the weights, in as many numbers as the bag has categories.
    softmax : bool, default=False
        Whether to replace the weights of a bag by their softmax first.
    max_length : int, default=None
        Most categories of a bag; None for the length of the longest bag in fit. `partial_fit`
        leaves it as long as codes are kept, so a later bag may be too long for `transform`.
    truncate : {"first", "last"}, default=None
        Which part of a longer bag to keep. None raises an error if there is a `max_length`,
        else keeps the first part and warns.

    Raises
    ------
    ValueError
        If a value is not usable.
    """

    separator: str | None = None
    pooling: Literal["sum", "mean", "sqrtn", "max"] = "mean"
    weights: bool | str = False
    softmax: bool = False
    max_length: int | None = None
    truncate: Literal["first", "last"] | None = None

    def _rules(self) -> dict[str, tuple[bool, str]]:
        is_weighted = self.weights is not False
        return {
            **super()._rules(),
            "separator": (
                self.separator is None
                or (isinstance(self.separator, str) and self.separator != ""),
                "a str of at least one character or None",
            ),
            "pooling": (
                is_one_of(self.pooling, "sum", "mean", "sqrtn", *([] if is_weighted else ["max"])),
                "'sum', 'mean', 'sqrtn', or, without weights, 'max'",
            ),
            "weights": (
                isinstance(self.weights, str)
                or self.weights is False
                or (self.weights is True and self.separator is None),
                "a column's name, False or, where cells are no strings, True",
            ),
            "softmax": (isinstance(self.softmax, bool), "True or False"),
            "max_length": (
                self.max_length is None or is_count(self.max_length, 1),
                "an int of at least 1 or None",
            ),
            "truncate": (
                self.truncate is None or is_one_of(self.truncate, "first", "last"),
                "'first', 'last' or None",
            ),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class NumberField(Field):
    """One number per cell.

    Parameters
    ----------
    scaler : str, transformer or None, default="bins"
        As in FieldEncoder.
    n_bins : int, default=None
        As in FieldEncoder, whose value is taken for None.
    """

    scaler: Scaler = "bins"
    n_bins: int | None = None

    def _rules(self) -> dict[str, tuple[bool, str]]:
        return {
            "scaler": scaler_rule(self.scaler),
            "n_bins": (self.n_bins is None or is_count(self.n_bins, 2), "an int of at least 2"),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class DateField(Field):
    """Dates and times, taken apart; each part becomes a field of its own, named column_part.

    Parameters
    ----------
    parts : tuple of str, default=("month", "weekday", "hour", "age")
        Any of "year", "quarter", "month", "week", "day", "day_of_year", "weekday" (Monday
        is 0), "is_weekend", "hour", "minute", "second" and "age", the days before the latest
        date in fit, or in its first chunk. A year and an age are numbers,
        encoded as the encoder's `scaler` says; the rest are categories.
    cyclic : bool, default=False
        Whether parts that come round are encoded as sine and cosine instead of categories.
    """

    parts: tuple[DatePart, ...] = ("month", "weekday", "hour", "age")
    cyclic: bool = False

    def _rules(self) -> dict[str, tuple[bool, str]]:
        parts = self.parts
        is_valid = isinstance(parts, (tuple, list)) and bool(parts) and len({*parts}) == len(parts)
        return {
            "parts": (
                is_valid and all(is_one_of(part, *DATE_PARTS) for part in parts),
                f"some of {list(DATE_PARTS)}, each once",
            ),
            "cyclic": (isinstance(self.cyclic, bool), "True or False"),
        }


# -- rules -----------------------------------------------------------------------------------


def check_rules(owner: str, values: Mapping[str, Any], rules: dict[str, tuple[bool, str]]) -> None:
    """Raise for the first value that breaks its rule, in scikit-learn's words.

    Parameters
    ----------
    owner : str
        Whose parameters they are.
    values : dict of str to object
        The parameters.
    rules : dict of str to (bool, str)
        Whether each is valid, and what it must be.

    Raises
    ------
    ValueError
        If one is not.
    """
    for name, (is_valid, expected) in rules.items():
        if not is_valid:
            raise ValueError(
                f"The {name!r} parameter of {owner} must be {expected}. Got {values[name]!r} "
                "instead."
            )


def is_one_of(value: Any, *words: str) -> bool:
    """Whether a value is one of some words."""
    return isinstance(value, str) and value in words


def is_count(value: Any, least: int) -> bool:
    """Whether a value is an integer, no bool, and large enough."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def frequency_rule(value: Any) -> tuple[bool, str]:
    """Rule of `min_frequency`."""
    is_share = isinstance(value, Real) and not isinstance(value, Integral) and 0 < float(value) < 1
    return (
        value is None or is_count(value, 1) or is_share,
        "an int of at least 1, a float between 0 and 1 (both excluded) or None",
    )


def scaler_rule(value: Any) -> tuple[bool, str]:
    """Rule of `scaler`."""
    is_transformer = hasattr(value, "transform") and not isinstance(value, type)
    words = ", ".join(repr(word) for word in SCALERS)
    return (
        is_transformer or value is None or is_one_of(value, *SCALERS),
        f"{words}, a transformer instance or None",
    )
