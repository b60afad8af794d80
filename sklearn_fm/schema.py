"""What a model must know of its table: the fields, their kinds and how many rows each owns.

It holds no data and no categories; those stay in the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import accumulate
from typing import Any

__all__ = ["FieldSchema"]

KINDS = ("categorical", "binned", "numeric", "bag", "columns")
POOLINGS = ("sum", "mean", "sqrtn", "max", "weighted")


@dataclass(frozen=True)
class FieldSchema:
    """Fields of a row, their slots, and the rows of the shared table that each of them reads.

    A *categorical* field reads one row per known category and, first, one for unknown
    ones; a *binned* field (a number cut into bins) likewise, one row per bin. A
    *numeric* field reads one row per slot, which its number multiplies. A *bag* holds
    any number of categories up to its slots.

    The *columns* of a sparse matrix stand alone, under one name: each of them is a field of one
    row that its number multiplies, but names, kinds, sizes and so on have one entry for all, so
    that there may be hundreds of millions. No `FieldArray` has them.

    The embeddings of a field's slots, times their values, are pooled into one: added, where
    the values are 1 ("sum"), 1/m ("mean") or 1/sqrt(m) ("sqrtn") for m categories, or given
    with the codes ("weighted"); or their maximum is taken ("max"). The weights of the
    linear term are added in the same way, for "max" with value 1.

    Parameters
    ----------
    names : tuple of str
        One name per field, all different.
    kinds : tuple of {"categorical", "binned", "numeric", "bag", "columns"}
        Kind of each field.
    vocabulary_sizes : tuple of int
        Rows of the table read by each field, the unknown row included; for a numeric
        field, and for columns, its slots.
    slots : tuple of int, default=()
        Slots of each field; one each when empty.
    poolings : tuple of {"sum", "mean", "sqrtn", "max", "weighted"}, default=()
        How each field makes one embedding of its slots; "sum" for all when empty.
    vocabularies : tuple of str, default=()
        Name of the vocabulary of each field; fields that name the same one share its rows.
        Every field has its own, of its name, when empty.
    linear : tuple of bool, default=()
        Whether each field takes part in the linear term; all do when empty.
    ordered : tuple of int, default=()
        How many codes of each field, from 0 on, stand in an order, as the bins of a number do but
        for that of missing ones; none when empty.

    Raises
    ------
    ValueError
        If the lengths differ, a name occurs twice, a kind or pooling is unknown, a size does
        not fit its kind, or fields of one vocabulary differ in its size.

    Examples
    --------
    >>> schema = FieldSchema.from_sizes([1000, 500, 1], names=["user", "item", "age"])
    >>> schema.kinds
    ('categorical', 'categorical', 'numeric')
    >>> schema.offsets, schema.table_size
    ((0, 1000, 1500), 1501)
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    vocabulary_sizes: tuple[int, ...]
    slots: tuple[int, ...] = ()
    poolings: tuple[str, ...] = ()
    vocabularies: tuple[str, ...] = ()
    linear: tuple[bool, ...] = ()
    ordered: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n_fields = len(self.names)
        defaults = {
            "slots": (1,) * n_fields,
            "linear": (True,) * n_fields,
            "ordered": (0,) * n_fields,
            "poolings": ("sum",) * n_fields,
            "vocabularies": self.names,
        }
        for name, default in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, default)
        lengths = {
            name: len(getattr(self, name)) for name in ("kinds", "vocabulary_sizes", *defaults)
        }
        if set(lengths.values()) != {n_fields}:
            raise ValueError(
                "names, kinds and vocabulary_sizes, and slots, poolings and vocabularies if "
                f"given, must have one entry per field; got {n_fields} names and {lengths}."
            )
        if len(set(self.names)) < n_fields:
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"Field names must differ, but these occur twice: {twice}.")
        sizes: dict[str, int] = {}
        for f, name in enumerate(self.names):
            self._check_field(f, name)
            size = sizes.setdefault(self.vocabularies[f], self.vocabulary_sizes[f])
            if size != self.vocabulary_sizes[f]:
                raise ValueError(
                    f"Field {name!r} has vocabulary size {self.vocabulary_sizes[f]}, but shares "
                    f"the vocabulary {self.vocabularies[f]!r} of size {size} with another field."
                )

    def _check_field(self, f: int, name: str) -> None:
        kind, pooling = self.kinds[f], self.poolings[f]
        size, slots = self.vocabulary_sizes[f], self.slots[f]
        if kind not in KINDS:
            raise ValueError(f"Field {name!r} has kind {kind!r}, expected one of {KINDS}.")
        if pooling not in POOLINGS:
            raise ValueError(
                f"Field {name!r} is pooled by {pooling!r}, expected one of {POOLINGS}."
            )
        if slots < 1:
            raise ValueError(f"Field {name!r} has {slots} slots, expected at least one.")
        if size < 1 or (kind in ("numeric", "columns") and size != slots):
            raise ValueError(
                f"Field {name!r} has vocabulary size {size}: a numeric field owns exactly "
                "one row of the table per slot, as columns do, any other field at least one."
            )
        if self.ordered[f] and (kind != "binned" or self.ordered[f] >= size):
            raise ValueError(
                f"Field {name!r} has {self.ordered[f]} codes in order: only a binned field has "
                f"any, less than its vocabulary size, {size}."
            )
        if kind == "numeric" and pooling != "sum":
            raise ValueError(f"The numeric field {name!r} is pooled by 'sum', not {pooling!r}.")
        plain = (pooling, self.linear[f], self.vocabularies[f]) == ("sum", True, name)
        if kind == "columns" and (len(self.names) > 1 or not plain):
            raise ValueError(
                f"The columns {name!r} must stand alone, pooled by 'sum', with a vocabulary of "
                f"their own and weights of the linear term; got {len(self.names)} names, pooling "
                f"{pooling!r}, vocabulary {self.vocabularies[f]!r}, linear {self.linear[f]}."
            )

    @classmethod
    def from_sizes(
        cls, vocabulary_sizes: Iterable[int], *, names: Sequence[str] | None = None
    ) -> FieldSchema:
        """Schema from the sizes alone: size 1 is a numeric field, more a categorical one.

        Parameters
        ----------
        vocabulary_sizes : iterable of int
            Rows of the table per field, the unknown row included.
        names : sequence of str, default=None
            Field names; ``x0, x1, ...`` when omitted.

        Returns
        -------
        FieldSchema
        """
        sizes = tuple(int(size) for size in vocabulary_sizes)
        return cls(
            names=tuple(f"x{i}" for i in range(len(sizes))) if names is None else tuple(names),
            kinds=tuple("numeric" if size == 1 else "categorical" for size in sizes),
            vocabulary_sizes=sizes,
        )

    @classmethod
    def of_columns(cls, n: int) -> FieldSchema:
        """Schema of the columns of a sparse matrix, each a field, however many there are.

        It gives a model what ``from_sizes([1] * n)`` does, and takes as much memory for any n.

        Parameters
        ----------
        n : int
            Number of columns.

        Returns
        -------
        FieldSchema

        Examples
        --------
        >>> schema = FieldSchema.of_columns(400_000_000)
        >>> schema.n_fields, schema.table_size, schema.field_name(7)
        (400000000, 400000000, 'x7')
        """
        return cls(("x",), ("columns",), (int(n),), (int(n),))

    @classmethod
    def side_by_side(cls, schemas: Iterable[FieldSchema]) -> FieldSchema:
        """Schema of rows that are put together from rows of several schemas.

        Parameters
        ----------
        schemas : iterable of FieldSchema
            From left to right. If one has a name, of a field or vocabulary, that stands further
            left, all of its names get its position appended: ``user`` becomes ``user_1``.

        Returns
        -------
        FieldSchema
        """
        parts: dict[str, list[Any]] = {field.name: [] for field in fields(cls)}
        for position, schema in enumerate(schemas):
            taken = {*parts["names"], *parts["vocabularies"]}
            ending = ""
            while taken & {name + ending for name in (*schema.names, *schema.vocabularies)}:
                ending += f"_{position}"
            for name, values in parts.items():
                own = getattr(schema, name)
                is_name = name in ("names", "vocabularies")
                values += [value + ending for value in own] if is_name else own
        return cls(**{name: tuple(values) for name, values in parts.items()})

    def select(self, fields: Iterable[int]) -> FieldSchema:
        """Schema of some of the fields; columns are selected as a whole.

        Parameters
        ----------
        fields : iterable of int
            Positions, in the order wanted.

        Returns
        -------
        FieldSchema
        """
        chosen = list(fields)
        parts = {name: tuple(values[f] for f in chosen) for name, values in asdict(self).items()}
        return FieldSchema(**parts)

    def rows_kept(self, before: FieldSchema) -> tuple[tuple[int, int, int], ...] | None:
        """Where the rows of a table went when vocabularies grew.

        Parameters
        ----------
        before : FieldSchema
            Schema from which this one may have come by new categories at the end of
            vocabularies.

        Returns
        -------
        tuple of (int, int, int) or None
            First index before, first index now and number of rows, per vocabulary; None if
            this schema did not come about so.
        """
        same = ("names", "kinds", "slots", "poolings", "vocabularies", "linear")
        if any(getattr(self, name) != getattr(before, name) for name in same):
            return None
        if any(self._sizes[name] < size for name, size in before._sizes.items()):
            return None
        return tuple(
            (before._vocabulary_offsets[name], self._vocabulary_offsets[name], size)
            for name, size in before._sizes.items()
        )

    def __getstate__(self) -> dict[str, Any]:
        # What is derived would outweigh the rest in a pickle.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Of all fields; caches by schema would work it out for each prediction."""
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    @cached_property
    def has_columns(self) -> bool:
        """Whether the fields are the columns of a sparse matrix, under one name."""
        return "columns" in self.kinds

    @property
    def n_fields(self) -> int:
        """Number of fields: embeddings of a row that interact."""
        return self.slots[0] if self.has_columns else len(self.names)

    def field_name(self, f: int) -> str:
        """Name of a field, made up of the common one and the position for a column.

        Parameters
        ----------
        f : int
            Position among the `n_fields` fields.

        Returns
        -------
        str
        """
        return f"{self.names[0]}{f}" if self.has_columns else self.names[f]

    @cached_property
    def n_slots(self) -> int:
        """Number of positions in a row: index/value pairs that a model reads."""
        return sum(self.slots)

    @cached_property
    def slot_fields(self) -> Sequence[int]:
        """Field of each slot."""
        if self.has_columns:
            return range(self.n_slots)
        return tuple(f for f, slots in enumerate(self.slots) for _ in range(slots))

    @cached_property
    def offsets(self) -> Sequence[int]:
        """Index of each field's first row in the table."""
        if self.has_columns:
            return range(self.n_fields)
        return tuple(self._vocabulary_offsets[name] for name in self.vocabularies)

    @cached_property
    def table_size(self) -> int:
        """Number of rows of the table shared by all fields."""
        return sum(self._sizes.values())

    @cached_property
    def numeric_slots(self) -> Sequence[int]:
        """Slots of the numeric fields and columns; all others hold codes."""
        if self.has_columns:
            return range(self.n_slots)
        return tuple(s for s, f in enumerate(self.slot_fields) if self.kinds[f] == "numeric")

    @cached_property
    def unknown_rows(self) -> tuple[int, ...]:
        """Index that stands for unknown at each slot, -1 where there is none; empty for columns."""
        if self.has_columns:
            return ()
        return tuple(
            -1 if self.kinds[f] == "numeric" else self.offsets[f] for f in self.slot_fields
        )

    @cached_property
    def ordered_rows(self) -> tuple[tuple[int, int], ...]:
        """First index and number of rows whose codes stand in an order, for each such field."""
        return tuple(
            (self.offsets[f] + 1, count) for f, count in enumerate(self.ordered) if count > 1
        )

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns that hold a row's codes.

        A field of one slot has one, of its name; a field of several has one per slot. A
        "weighted" field has as many for the values, after those for the codes.
        """
        if self.has_columns:
            return tuple(map(self.field_name, range(self.n_fields)))
        names: list[str] = []
        for name, slots, pooling in zip(self.names, self.slots, self.poolings, strict=True):
            ends = [f"_{s}" for s in range(slots)] if slots > 1 else [""]
            names += [name + end for end in ends]
            if pooling == "weighted":
                names += [f"{name}_value{end}" for end in ends]
        return tuple(names)

    @property
    def n_columns(self) -> int:
        """Number of columns that hold a row's codes."""
        return self.first_columns[-1]

    @cached_property
    def first_columns(self) -> tuple[int, ...]:
        """First column of each field, and the number of columns at the end."""
        widths = (
            slots * (2 if pooling == "weighted" else 1)
            for slots, pooling in zip(self.slots, self.poolings, strict=True)
        )
        return tuple(accumulate(widths, initial=0))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Size of each vocabulary, in the order of the table."""
        return dict(zip(self.vocabularies, self.vocabulary_sizes, strict=True))

    @cached_property
    def _vocabulary_offsets(self) -> dict[str, int]:
        return dict(zip(self._sizes, accumulate(self._sizes.values(), initial=0), strict=False))
