"""Encoded rows as blocks: for each index the entries where it occurs, in an order to visit them.

It knows neither weights nor targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ...data.array import FieldArray
from ...schema import FieldSchema

__all__ = ["ALONE", "POOLED", "TOGETHER", "Design", "Group", "make_design"]

#: How the blocks of a group meet: never in a row; as slots of one field; as fields of their own.
ALONE, POOLED, TOGETHER = range(3)

_PIECE, _MOST_CHUNKS = 4096, 32  # entries, parts of a group
_BLOCK = 16  # entries that drawing a block is worth
_LOOSE = 1000  # entries per block


@dataclass(frozen=True)
class Group:
    """Blocks next to each other that are updated together.

    Attributes
    ----------
    first, last : int
        First block, and the one behind the last.
    meeting : int
        `ALONE` if no two of them occur in one row, so that their updates are independent; `POOLED`
        if they may, as slots of fields; `TOGETHER` if they may, each being a field of its own.
    """

    first: int
    last: int
    meeting: int


@dataclass(frozen=True)
class Design:
    """Entries by index, for the indices that occur.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    indices : ndarray of int64 of shape (n_blocks,)
        Index in the table of each block.
    starts : ndarray of int64 of shape (n_blocks + 1,)
        First entry of each block.
    rows : ndarray of int32 of shape (n_entries,)
        Row of each entry, ascending within a block.
    values : ndarray of float64 of shape (n_entries,) or (0,)
        Multipliers; empty if all are 1.
    linear_values : ndarray of float64 of shape (n_entries,) or (0,)
        Multipliers of the weights of the linear term; empty if these are the `values`.
    pools : ndarray of int64 of shape (n_entries,) or (0,)
        Which embedding of a field each entry is part of, numbered within its group; empty if
        no group is `POOLED`.
    n_pools : int
        One more than the largest of them.
    prior_of : ndarray of int32 of shape (n_blocks,)
        Prior of each block.
    prior_names : tuple of str
        Vocabulary that each prior belongs to.
    groups : tuple of Group
        All blocks, in the order of their updates.
    """

    n_rows: int
    indices: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.float64]
    linear_values: NDArray[np.float64]
    pools: NDArray[np.int64]
    n_pools: int
    prior_of: NDArray[np.int32]
    prior_names: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def n_blocks(self) -> int:
        """Number of indices that occur."""
        return len(self.indices)

    @cached_property
    def block_of_entry(self) -> NDArray[np.int64]:
        """Block of each entry."""
        return np.repeat(np.arange(self.n_blocks), np.diff(self.starts))

    @cached_property
    def entry_values(self) -> NDArray[np.float64]:
        """Multipliers of all entries."""
        return self.values if len(self.values) else np.ones(len(self.rows))

    @cached_property
    def blocks_of_prior(self) -> tuple[NDArray[np.intp] | slice, ...]:
        """Blocks that each prior is for."""
        found: list[NDArray[np.intp] | slice] = []
        for prior in range(len(self.prior_names)):
            blocks = np.flatnonzero(self.prior_of == prior)
            dense = len(blocks) and blocks[-1] - blocks[0] + 1 == len(blocks)
            found.append(slice(blocks[0], blocks[-1] + 1) if dense else blocks)
        return tuple(found)

    @cached_property
    def loose_groups(self) -> dict[int, int]:
        """Priors whose blocks never meet in a row and have few entries each; which group each is.

        They move slowly as a whole when blocks move one by one, each held back by the prior; so it
        pays to move them all together. Blocks of many entries go where these say anyway.
        """
        alone = {(g.first, g.last): i for i, g in enumerate(self.groups) if g.meeting == ALONE}
        loose = {}
        for prior, blocks in enumerate(self.blocks_of_prior):
            if isinstance(blocks, slice) and (blocks.start, blocks.stop) in alone:
                n_entries = self.starts[blocks.stop] - self.starts[blocks.start]
                if n_entries <= _LOOSE * (blocks.stop - blocks.start):
                    loose[prior] = alone[blocks.start, blocks.stop]
        return loose

    @property
    def loose_priors(self) -> tuple[int, ...]:
        """The priors among them, ascending."""
        return tuple(self.loose_groups)

    @cached_property
    def before(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The entry of its row that each entry comes after, and the last one of each row.

        -1 where there is none, or where it is one of a `POOLED` group: that has done with its rows.
        """
        n_entries = len(self.rows)
        order = np.argsort(self.rows, kind="stable").astype(np.int32)  # entries by row
        done = np.zeros(n_entries + 1, dtype=bool)
        for group in self.groups:
            if group.meeting == POOLED:
                done[self.starts[group.first] : self.starts[group.last]] = True
        rows = self.rows[order]
        begins = np.diff(rows, prepend=-1) > 0
        before = np.empty(n_entries, dtype=np.int32)
        before[order] = np.where(begins, -1, np.roll(order, 1))
        last = np.full(self.n_rows, -1, dtype=np.int32)
        ends = np.diff(rows, append=self.n_rows) > 0
        last[rows[ends]] = order[ends]
        before[done[before]] = last[done[last]] = -1
        return before, last

    @cached_property
    def chunks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Parts of the groups to be worked on at the same time, the same for any number of threads.

        Returns
        -------
        chunks : ndarray of shape (n_chunks, 4)
            First block, last block + 1, first entry, last entry + 1; a long list of entries makes
            several, one behind the other.
        groups : ndarray of shape (n_groups, 2)
            First chunk, last chunk + 1 of each group.
        """
        chunks: list[tuple[int, int, int, int]] = []
        groups = []
        for group in self.groups:
            begin = len(chunks)
            ends = self.starts[group.first : group.last + 1]
            if group.meeting != ALONE:
                chunks.append((group.first, group.last, int(ends[0]), int(ends[-1])))
                groups.append((begin, len(chunks)))
                continue
            lengths = np.diff(ends)
            size = max(_PIECE, -(-int(ends[-1] - ends[0]) // _MOST_CHUNKS))
            is_long = lengths > size
            # a block is worth some entries besides its own
            work = np.where(is_long, 0, np.minimum(lengths, size) + _BLOCK)
            part = (np.cumsum(work) - work) // size
            new = np.append(True, (part[1:] != part[:-1]) | is_long[1:] | is_long[:-1])
            firsts = np.flatnonzero(new)
            for first, last in zip(firsts, [*firsts[1:], len(lengths)], strict=True):
                step = size if is_long[first] else int(ends[last] - ends[first])
                cuts = [*range(int(ends[first]), int(ends[last]), step), int(ends[last])]
                blocks = group.first + int(first), group.first + int(last)
                chunks += [(*blocks, a, b) for a, b in pairwise(cuts)]
            groups.append((begin, len(chunks)))
        return (
            np.array(chunks, dtype=np.int64).reshape(-1, 4),
            np.array(groups, dtype=np.int64).reshape(-1, 2),
        )


def make_design(X: FieldArray | sparse.csr_array, *, pair_slots: bool = False) -> Design:
    """Sort the entries of encoded rows by index.

    Parameters
    ----------
    X : FieldArray of shape (n_rows, n_columns) or csr_array of shape (n_rows, table_size)
        Encoded rows. Each column of a matrix is a field of its own, under one prior.
    pair_slots : bool, default=False
        Whether the slots of a field interact with each other.

    Returns
    -------
    Design

    Raises
    ------
    ValueError
        If an index occurs twice in a row in such a way that it interacts with itself, or a field
        is pooled by its maximum.
    """
    if isinstance(X, FieldArray):
        return _of_fields(X, X.require_schema(), pair_slots)
    matrix = sparse.csc_array(X)
    matrix.sort_indices()
    color = _color(matrix)
    order = np.argsort(color, kind="stable")
    order = order[np.diff(matrix.indptr)[order] > 0]
    matrix = matrix[:, order]
    ends = np.flatnonzero(np.diff(color[order], append=-1)) + 1
    ones = bool((matrix.data == 1).all())
    n_blocks = len(order)
    return Design(
        n_rows=X.shape[0],
        indices=order.astype(np.int64),
        starts=matrix.indptr.astype(np.int64),
        rows=matrix.indices.astype(np.int32),
        values=np.empty(0) if ones else matrix.data.astype(np.float64),
        linear_values=np.empty(0),
        pools=np.empty(0, dtype=np.int64),
        n_pools=0,
        prior_of=np.zeros(n_blocks, dtype=np.int32),
        prior_names=("all",),
        groups=tuple(Group(int(a), int(b), ALONE) for a, b in pairwise([0, *ends])),
    )


def _of_fields(X: FieldArray, schema: FieldSchema, pair_slots: bool) -> Design:
    if "max" in schema.poolings:
        raise ValueError(
            "A field is pooled by its maximum, which is not linear in its embeddings, as solvers "
            "'als' and 'gibbs' need it. Pool it by sum, mean or sqrtn, or take another solver."
        )
    indices, multipliers = X.indices_and_values()
    slot_fields = np.array(schema.slot_fields)
    names = tuple(dict.fromkeys(schema.vocabularies))
    parts: list[dict[str, Any]] = []
    for prior, name in enumerate(names):
        fields = [f for f, other in enumerate(schema.vocabularies) if other == name]
        slots = np.flatnonzero(np.isin(slot_fields, fields))
        parts.append(_of_vocabulary(indices, multipliers, slots, schema, pair_slots))
        parts[-1]["prior_of"] = np.full(len(parts[-1]["indices"]), prior, dtype=np.int32)
    groups = []
    starts, first = [np.zeros(1, dtype=np.int64)], 0
    for part in parts:
        last = first + len(part["indices"])
        if last > first:
            groups.append(Group(first, last, part["meeting"]))
        starts.append(part["starts"][1:] + starts[-1][-1])
        first = last
    joined = {
        key: np.concatenate([part[key] for part in parts])
        for key in ("indices", "rows", "values", "pools", "prior_of", "linear_values")
    }
    if np.array_equal(joined["linear_values"], joined["values"]):
        joined["linear_values"] = np.empty(0)
    if (joined["values"] == 1).all():
        joined["values"] = np.empty(0)
    if not any(group.meeting == POOLED for group in groups):
        joined["pools"] = np.empty(0, dtype=np.int64)
    return Design(
        n_rows=len(X),
        starts=np.concatenate(starts),
        n_pools=int(joined["pools"].max(initial=-1)) + 1,
        prior_names=names,
        groups=tuple(groups),
        **joined,
    )


def _of_vocabulary(
    indices: NDArray[Any],
    multipliers: NDArray[Any],
    slots: NDArray[np.intp],
    schema: FieldSchema,
    pair_slots: bool,
) -> dict[str, Any]:
    """Entries of one vocabulary by index, and how these meet in a row."""
    n_rows, slot_fields = len(indices), np.array(schema.slot_fields)
    index = indices[:, slots].ravel()
    value = np.asarray(multipliers[:, slots], dtype=np.float64).ravel()
    row = np.repeat(np.arange(n_rows), len(slots))
    slot = np.tile(slots, n_rows)
    kept = value != 0
    if not kept.all():
        index, value, row, slot = index[kept], value[kept], row[kept], slot[kept]
    field = slot_fields[slot]
    order = np.argsort(index, kind="stable")
    index, value, row, field = index[order], value[order], row[order], field[order]
    twice = (index[1:] == index[:-1]) & (row[1:] == row[:-1])
    if twice.any():
        at = np.flatnonzero(twice)
        if pair_slots or np.any(field[at] != field[at + 1]):
            name = schema.vocabularies[field[at[0]]]
            remedy = "Remove what occurs twice, or leave pair_slots at False"
            if np.any(field[at] != field[at + 1]):
                remedy = "Give the fields vocabularies of their own"
            raise ValueError(
                f"A category of the vocabulary {name!r} occurs twice in a row (its index is "
                f"{index[at[0]]}), so that it interacts with itself, which solvers 'als' and "
                f"'gibbs' cannot take. {remedy}, or take another solver."
            )
        first = np.flatnonzero(np.concatenate([[True], ~twice]))
        value = np.add.reduceat(value, first)
        index, row, field = index[first], row[first], field[first]
    blocks, starts = np.unique(index, return_index=True)
    fields = np.unique(field)
    meeting = ALONE
    if len(slots) > 1 and len(np.unique(row)) < len(row):
        meeting = TOGETHER if pair_slots else POOLED
    linear = value * np.array(schema.linear)[field]
    return {
        "indices": blocks.astype(np.int64),
        "starts": np.append(starts, len(index)).astype(np.int64),
        "rows": row.astype(np.int32),
        "values": value,
        "pools": row * len(fields) + np.searchsorted(fields, field),
        "linear_values": linear,
        "meeting": meeting,
    }


def _color(matrix: sparse.csc_array) -> NDArray[np.int64]:
    """Colors of columns such that columns of one color share no row, greedily.

    Columns that are the categories of one variable get one color.
    """
    n_rows, n_columns = matrix.shape
    color = np.zeros(n_columns, dtype=np.int64)
    taken = np.zeros((n_rows, 1), dtype=np.uint64)  # colors seen in a row, one bit each
    for column in range(n_columns):
        rows = matrix.indices[matrix.indptr[column] : matrix.indptr[column + 1]]
        if not len(rows):
            continue
        union = np.bitwise_or.reduce(taken[rows], axis=0)
        free = [word for word, bits in enumerate(union) if bits != np.uint64(2**64 - 1)]
        if not free:
            taken = np.column_stack([taken, np.zeros(n_rows, dtype=np.uint64)])
            free, union = [taken.shape[1] - 1], np.append(union, np.uint64(0))
        bits = int(union[free[0]])
        bit = (~bits & (bits + 1)).bit_length() - 1
        color[column] = 64 * free[0] + bit
        taken[rows, free[0]] |= np.uint64(1 << bit)
    return color
