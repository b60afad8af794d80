"""What a model must know of its table: the fields, their kinds and how many rows each owns.

It holds no data and no categories; those stay in the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

__all__ = ["FieldSchema"]

KINDS = ("categorical", "binned", "numeric")


@dataclass(frozen=True)
class FieldSchema:
    """Fields of a row and the rows of the shared table that each of them owns.

    A *categorical* field owns one row per known category and, first, one for unknown
    ones; a *binned* field (a number cut into bins) likewise, one row per bin. A
    *numeric* field owns a single row, which its number multiplies.

    Parameters
    ----------
    names : tuple of str
        One name per field, all different.
    kinds : tuple of {"categorical", "binned", "numeric"}
        Kind of each field.
    vocabulary_sizes : tuple of int
        Rows of the table owned by each field, the unknown row included; 1 for a
        numeric field.

    Raises
    ------
    ValueError
        If the lengths differ, a name occurs twice, a kind is unknown or a size does
        not fit its kind.

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

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.kinds) == len(self.vocabulary_sizes):
            raise ValueError(
                "names, kinds and vocabulary_sizes must have one entry per field, got "
                f"{len(self.names)}, {len(self.kinds)} and {len(self.vocabulary_sizes)}."
            )
        if len(set(self.names)) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"Field names must differ, but these occur twice: {twice}.")
        for name, kind, size in zip(self.names, self.kinds, self.vocabulary_sizes, strict=True):
            if kind not in KINDS:
                raise ValueError(f"Field {name!r} has kind {kind!r}, expected one of {KINDS}.")
            if size < 1 or (kind == "numeric" and size != 1):
                raise ValueError(
                    f"Field {name!r} has vocabulary size {size}: a numeric field owns exactly "
                    "one row of the table, any other field at least one."
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

    @property
    def n_fields(self) -> int:
        """Number of fields."""
        return len(self.names)

    @property
    def n_slots(self) -> int:
        """Number of positions in a row; one per field."""
        return len(self.names)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of each field's first row in the table."""
        return tuple(accumulate(self.vocabulary_sizes, initial=0))[:-1]

    @cached_property
    def table_size(self) -> int:
        """Number of rows of the table shared by all fields."""
        return sum(self.vocabulary_sizes)

    @cached_property
    def numeric_slots(self) -> tuple[int, ...]:
        """Positions of the numeric fields; all others hold codes."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind == "numeric")
