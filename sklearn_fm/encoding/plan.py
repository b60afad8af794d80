"""Which encoder makes a field of which columns: from what a user said, else from the cells.

It encodes nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

from sklearn_fm.user_line import warn_user

from .bags import BagEncoder
from .bins import BinEncoder, KnotEncoder
from .categories import CategoryEncoder, HashEncoder
from .column_encoder import ColumnEncoder
from .columns import Columns, select_columns
from .dates import CycleEncoder, DateEncoder, as_dates, part_of
from .fields import (
    DATE_PARTS,
    BagField,
    CategoryField,
    DateField,
    Field,
    NumberField,
    check_rules,
    frequency_rule,
    is_count,
    is_one_of,
    scaler_rule,
)
from .numbers import NumberEncoder, WaveEncoder
from .recognition import recognise
from .steps import Step, items_of
from .vocabulary import Vocabulary

__all__ = ["check_parameters", "make_plan"]

_BINS = {"bins": "quantile", "uniform_bins": "uniform", "log_bins": "log"}
_TEXT_OF_DATES = "text that looks like dates; pandas.to_datetime makes dates of it"
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([ T]|$)")


def check_parameters(encoder: Any) -> None:
    """Raise in scikit-learn's words, whose own checker is not public.

    Parameters
    ----------
    encoder : FieldEncoder
        Whose parameters are checked, those that a table is needed for excepted.

    Raises
    ------
    ValueError
        If one is not valid.
    """
    is_dict = isinstance(encoder.fields, dict)
    rules = {
        "fields": (
            encoder.fields is None
            or (is_dict and all(isinstance(f, Field) for f in encoder.fields.values())),
            "a dict of column names to CategoryField, BagField, NumberField or DateField",
        ),
        "scaler": scaler_rule(encoder.scaler),
        "n_bins": (is_count(encoder.n_bins, 2), "an int of at least 2"),
        "min_frequency": frequency_rule(encoder.min_frequency),
        "max_categories": (
            encoder.max_categories is None or is_count(encoder.max_categories, 1),
            "an int of at least 1 or None",
        ),
        "hash_buckets": (
            encoder.hash_buckets is None or is_count(encoder.hash_buckets, 1),
            "an int of at least 1 or None",
        ),
        "handle_unknown": (
            is_one_of(encoder.handle_unknown, "unknown", "error"),
            "'unknown' or 'error'",
        ),
    }
    check_rules(type(encoder).__name__, vars(encoder), rules)


def make_plan(encoder: Any, X: Any, columns: Columns) -> list[Step]:
    """Choose the fields of a table.

    Parameters
    ----------
    encoder : FieldEncoder
        Its parameters say what the user wants.
    X : table of shape (n_rows, n_columns)
        For specifications of columns to look at.
    columns : Columns
        The columns of `X`.

    Returns
    -------
    list of Step
        In the order of the columns.

    Raises
    ------
    ValueError
        If a column does not exist or has two roles, fields of one vocabulary differ in how
        they are encoded or are not all of categories, or two fields would have the same name.

    Warns
    -----
    UserWarning
        If whole numbers may be ids; once for all such columns.
    """
    names = [str(name) for name in columns.names]
    roles = _assign_roles(encoder, X, columns, names)
    fields = {j: choice.field for j, choice in roles.items()}
    weights = {field.weights: j for j, field in fields.items() if _has_weight_column(field)}
    planner = _Planner(encoder)
    steps: list[Step] = []
    doubtful: list[Any] = []
    for j, name in enumerate(names):
        if name in weights:
            continue
        choice = roles[j] if j in roles else _guess(encoder, columns, j, name)
        if choice.is_doubtful:
            doubtful.append(columns.names[j] if isinstance(columns.names[j], str) else j)
        field = choice.field
        of = (j, names.index(str(field.weights))) if _has_weight_column(field) else (j,)
        of_names = tuple(names[k] for k in of)
        steps += [
            Step(made, of, of_names, choice.chosen_by, choice.note)
            for made in planner.make(name, field)
        ]
    if doubtful:
        warn_user(
            f"Columns {doubtful} hold whole numbers that may be ids, and were taken for numbers. "
            f"Pass FieldEncoder(categorical={doubtful}) if they are ids, else "
            f"FieldEncoder(numeric={doubtful}); estimators take one as encoder=."
        )
    _check_vocabularies(steps)
    _check_sharing(fields, steps)
    made_names = [step.encoder.name for step in steps]
    if twice := sorted({name for name in made_names if made_names.count(name) > 1}):
        raise ValueError(f"Columns and parts of dates make several fields named {twice}; rename.")
    return steps


# -- roles -----------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """The field of a column, and what decided on it."""

    field: Field
    chosen_by: str
    note: str = ""
    is_doubtful: bool = False


def _assign_roles(encoder: Any, X: Any, columns: Columns, names: list[str]) -> dict[int, _Choice]:
    """What the user said of columns, by position; each in one way."""
    described: dict[int, Field] = {}
    for key, field in (encoder.fields or {}).items():
        if key in columns.names:
            j = columns.names.index(key)
        elif isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(names):
            j = key
        else:
            raise ValueError(f"fields= names the column {key!r}; the table has {columns.names}.")
        if j in described:
            raise ValueError(f"fields= describes the column {names[j]!r} twice.")
        described[j] = field
    roles: dict[str, set[int]] = {"fields": set(described)}
    for spec in ("categorical", "numeric"):
        wanted = getattr(encoder, spec)
        roles[spec] = set() if wanted is None else select_columns(X, wanted, columns)
    weights = set()
    for j, field in described.items():
        if _has_weight_column(field):
            if field.weights not in names or names.index(field.weights) == j:
                raise ValueError(
                    f"Field {names[j]!r} has its weights in the column {field.weights!r}, which "
                    f"is not one of {names}."
                )
            weights.add(names.index(field.weights))
    roles["weights"] = weights
    kinds = list(roles)
    for i, first in enumerate(kinds):
        for second in kinds[i + 1 :]:
            if both := [names[j] for j in sorted(roles[first] & roles[second])]:
                raise ValueError(
                    f"Columns selected by both {first}= and {second}=: {both}. Name each in one."
                )
    return {
        **{j: _Choice(field, "fields=") for j, field in described.items()},
        **{j: _Choice(CategoryField(), "categorical=") for j in roles["categorical"]},
        **{j: _Choice(_number_field(encoder), "numeric=") for j in roles["numeric"]},
    }


def _guess(encoder: Any, columns: Columns, j: int, name: str) -> _Choice:
    """What a column seems to be."""
    if columns.is_bag(j):
        return _Choice(BagField(), "cells")
    if columns.is_date(j):
        return _Choice(_guess_parts(columns.read(j), name), "cells")
    if not columns.is_number(j):
        cell = next((cell for cell in columns.read(j) if isinstance(cell, str)), "")
        return _Choice(CategoryField(), "cells", _TEXT_OF_DATES if _DATE.match(cell) else "")
    verdict = recognise(name, columns.read(j), by_values=columns.is_integer(j))
    field = CategoryField() if verdict.are_ids else _number_field(encoder)
    return _Choice(field, verdict.chosen_by, verdict.note, verdict.is_doubtful)


def _number_field(encoder: Any) -> NumberField:
    return NumberField(scaler=encoder.scaler, n_bins=encoder.n_bins)


def _guess_parts(values: Any, name: str) -> DateField:
    """The usual parts of a date that differ between rows."""
    field = DateField()
    dates = as_dates(values, name)
    parts = tuple(
        part
        for part in field.parts
        if (dates if part == "age" else part_of(dates, part)).nunique() > 1
    )
    return replace(field, parts=parts or ("age",))


def _has_weight_column(field: Field) -> TypeGuard[BagField]:
    return isinstance(field, BagField) and isinstance(field.weights, str)


def _check_sharing(fields: dict[int, Field], steps: list[Step]) -> None:
    """Raise if a field names a vocabulary that no other field has."""
    known = [step.encoder.vocabulary_name for step in steps]
    named = [(step, getattr(fields.get(step.columns[0]), "vocabulary", None)) for step in steps]
    for step, name in named:
        if name is not None and known.count(name) == 1:
            raise ValueError(
                f"Field {step.encoder.name!r} names the vocabulary {name!r}, but no other field "
                f"has or names it; vocabularies are {sorted(set(known))}."
            )


def _check_vocabularies(steps: list[Step]) -> None:
    """Raise if a field names a vocabulary that is not one of categories."""
    own = {
        step.encoder.vocabulary_name: step.encoder.name
        for step in steps
        if not isinstance(items_of(step.encoder), (CategoryEncoder, HashEncoder))
    }
    for step in steps:
        name = step.encoder.vocabulary_name
        if step.encoder.name != own.get(name, step.encoder.name):
            raise ValueError(
                f"Field {step.encoder.name!r} names the vocabulary {name!r}, but that is what the "
                f"field {own[name]!r} is called, which holds no categories to share."
            )


# -- encoders ----------------------------------------------------------------------------------


class _Planner:
    """Makes encoders; those of one vocabulary name get the same one."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self._shared: dict[str, tuple[Vocabulary, tuple[Any, ...], str]] = {}

    def make(self, name: str, field: Field) -> list[ColumnEncoder]:
        """Encoders of the fields that one column makes."""
        if isinstance(field, CategoryField):
            items = self._categories(name, field)
            encoder = BagEncoder(items, field) if isinstance(field, BagField) else items
            encoder.linear = field.linear
            return [encoder]
        if isinstance(field, NumberField):
            return [self._number(name, field.scaler, field.n_bins)]
        assert isinstance(field, DateField)
        return [
            DateEncoder(part, self._part(f"{name}_{part}", part, field)) for part in field.parts
        ]

    def _categories(self, name: str, field: CategoryField) -> CategoryEncoder | HashEncoder:
        encoder = self.encoder
        buckets = encoder.hash_buckets if field.hash_buckets is None else field.hash_buckets
        min_frequency = (
            encoder.min_frequency if field.min_frequency is None else field.min_frequency
        )
        most = encoder.max_categories if field.max_categories is None else field.max_categories
        shared_name = field.vocabulary or name
        always_hashed = bool(field.hash_buckets)
        settings = (buckets, always_hashed, field.n_hashes, min_frequency, most)
        vocabulary, expected, first = self._shared.setdefault(
            shared_name, (Vocabulary(), settings, name)
        )
        if settings != expected:
            raise ValueError(
                f"Fields {first!r} and {name!r} share the vocabulary {shared_name!r}, so their "
                "hash_buckets, n_hashes, min_frequency and max_categories must be equal."
            )
        if always_hashed:
            return HashEncoder(name, buckets, n_hashes=field.n_hashes, vocabulary_name=shared_name)
        return CategoryEncoder(
            name,
            min_frequency=min_frequency,
            max_categories=most,
            handle_unknown=encoder.handle_unknown,
            hash_buckets=buckets,
            n_hashes=field.n_hashes,
            vocabulary=vocabulary,
            vocabulary_name=shared_name,
        )

    def _number(self, name: str, scaler: Any, n_bins: int | None) -> ColumnEncoder:
        n_bins = self.encoder.n_bins if n_bins is None else n_bins
        handle_unknown = self.encoder.handle_unknown
        if isinstance(scaler, str) and scaler in _BINS:
            strategy = _BINS[scaler]
            return BinEncoder(name, n_bins=n_bins, strategy=strategy, handle_unknown=handle_unknown)
        if isinstance(scaler, str) and scaler == "piecewise":
            return KnotEncoder(name, n_bins=n_bins, handle_unknown=handle_unknown)
        if isinstance(scaler, str) and scaler == "periodic":
            return WaveEncoder(name)
        return NumberEncoder(name, scaler=scaler)

    def _part(self, name: str, part: str, field: DateField) -> ColumnEncoder:
        cycle = DATE_PARTS[part]
        if cycle is None:
            return self._number(name, self.encoder.scaler, None)
        if field.cyclic:
            return CycleEncoder(name, cycle)
        return CategoryEncoder(name, handle_unknown=self.encoder.handle_unknown)
