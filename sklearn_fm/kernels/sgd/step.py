"""Training steps: the part of any model below its embeddings, and the whole of an FM.

As in the torch step: the distinct indices of a batch are fetched with their penalties
paid; sums and derivatives are computed by rows; gradients are summed per distinct index,
which then takes its step. Threads share the indices in the first and last phase and the rows in
the second. The sum of an index is taken by one thread in the order of the rows, so the
result does not depend on how many threads there are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ..compile import COMPILE, INLINE
from ..simd import as_int32, fill, load, pointer, prefetch, store, total
from ..threads import barrier
from .rules import StepNumbers, fetch, take_step

__all__ = [
    "LOSSES",
    "Entries",
    "Fields",
    "RowLoss",
    "Scratch",
    "Team",
    "gather",
    "linear_value",
    "row_pointers",
    "scatter",
    "start_of",
    "train_fm",
]

_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_LINE = 16  # numbers in a cache line
_AHEAD = 12  # rows for which memory is asked in advance

LOSSES = {"binary": 0, "squared": 1, "ranged": 2}


class Fields(NamedTuple):
    """How the slots of rectangular rows make up fields.

    Pairs are taken over fields, whose slots are added up first, unless all slots count as
    fields there: then no field is among the `pooled`.
    """

    n_fields: int
    starts: Any  # (n_fields + 1,) int64, first slot of each field
    of_slot: Any  # (width,) int64, field of each slot
    pooled: Any  # (n_fields,) int64, number among the pooled fields or -1
    n_pooled: int
    linear: Any  # (width,) float32, 1 for slots that take part in the linear term, else 0
    all_linear: int  # whether all do; rows of different lengths have all or none
    by_index: int  # whether threads share the work by index rather than by slot


class Entries(NamedTuple):
    """Encoded rows; entry e is index columns[e] and value data[e * stride].

    Rectangular rows have `width` entries each; else, with width 0, row r has those from
    starts[r] to starts[r + 1], each of them a field.
    """

    width: int
    starts: Any  # (n_rows + 1,) int64
    columns: Any  # (n_entries,) int32 or int64
    data: Any  # (n_entries,) float32, or (1,) with stride 0 if all values are the same
    stride: int
    fields: Fields


class RowLoss(NamedTuple):
    """Which loss of one output, and what it compares with."""

    kind: int  # of LOSSES
    low: np.float32  # ends of the range, on the scale of the target
    high: np.float32
    target: Any  # (n_rows,) float32
    weight: Any  # (n_rows,) float32


class Scratch(NamedTuple):
    """Room for one batch.

    A row writes its linear term to `slope`, the sum of its vectors to `push` and its
    pairwise sums to `pull`, the latter two if the model reads pairs. What comes back are
    derivatives of the loss: by the linear term in `slope`, by the pairwise sums in `pull`,
    and in `push` the latter times the sum of the vectors. An entry of value x then has the
    gradient x * (push - pull * e) by its vector v, where e is the embedding of its field:
    x * v, or the sum over the slots of a pooled one.
    The last row of the work stands for entries of value 0; its v and w stay 0.
    """

    first_entry: Any  # (B + 1,) int64, of each row in `place`
    place: Any  # (n_entries,) int32, row of the work that holds the entry's index
    distinct: Any  # (n_work,) index of a row of the work
    work: Any  # (n_work + 1, L.work_width) [v | w | gradient of v | gradient of w]
    push: Any  # (B, K), or (0, K) for a model without pairs
    pull: Any  # likewise
    slope: Any  # (B, C)
    loss: Any  # (B,)
    pooled: Any  # (B, n_pooled * K) sums of the vectors of pooled fields
    capacity: int  # rows of the work, n_work


class Team(NamedTuple):
    """The part of this thread in a step, and the steps that its team takes."""

    part: int
    n_parts: int
    sync: Any
    first_batch: int = 0
    every: int = 1  # of which batch, counted from the first


@njit(**INLINE)
def row_pointers(rows: Entries) -> Entries:
    """The same rows, arrays replaced by their addresses."""
    f = rows.fields
    return Entries(
        rows.width,
        pointer(rows.starts),
        pointer(rows.columns),
        pointer(rows.data),
        rows.stride,
        Fields(
            f.n_fields,
            pointer(f.starts),
            pointer(f.of_slot),
            pointer(f.pooled),
            f.n_pooled,
            pointer(f.linear),
            f.all_linear,
            f.by_index,
        ),
    )


@njit(**INLINE)
def start_of(rows: Entries, r: int) -> int:
    """First entry of row r."""
    return r * rows.width if rows.width > 0 else rows.starts[r]


@njit(**INLINE)
def linear_value(rows: Entries, x: np.float32, j: int) -> np.float32:
    """Value in the linear term of the j-th entry of a row, of value x."""
    if rows.fields.all_linear:
        return x
    return x * rows.fields.linear[j] if rows.width > 0 else _ZERO


@njit(**INLINE)
def _scratch_pointers(s: Scratch) -> Scratch:
    return Scratch(
        pointer(s.first_entry),
        pointer(s.place),
        pointer(s.distinct),
        pointer(s.work),
        pointer(s.push),
        pointer(s.pull),
        pointer(s.slope),
        pointer(s.loss),
        pointer(s.pooled),
        s.capacity,
    )


@njit(**INLINE)
def _columns_of(rows: Entries, team: Team) -> tuple[int, int]:
    """Columns of rectangular rows that hold indices of this thread."""
    S = rows.width
    if rows.fields.by_index:
        return 0, S
    return S * team.part // team.n_parts, S * (team.part + 1) // team.n_parts


@njit(**INLINE)
def _owns(part: int, n_parts: int, i: int) -> bool:
    """Whether an index that may stand in any column belongs to this thread."""
    return n_parts == 1 or (i * 2654435761 & 0xFFFFFFFF) * n_parts >> 32 == part


@njit(**INLINE)
def _first_work(scratch: Scratch, team: Team) -> int:
    """First row of this thread's share of the work."""
    return (scratch.capacity // team.n_parts) * team.part


@njit(**INLINE)
def _find(
    L: Any, table: Any, i: int, scratch: Scratch, first: int, count: int, step: StepNumbers
) -> int:
    """Row of the work that holds index i; `count`, with the index fetched, if there is none.

    The mark of a table row is only a guess: what another batch left there is told apart by
    looking whether the work at that place has this index.
    """
    marks = as_int32(table)
    t = i * L.width
    q = int(marks[t + L.mark])
    if q < first or q >= count or scratch.distinct[q] != i:
        q = count
        scratch.distinct[q] = i
        marks[t + L.mark] = np.int32(q)
        fetch(L, table, t, scratch.work, q * L.work_width, step)
    return q


@njit(**INLINE)
def _collect(
    L: Any, table: Any, rows: Entries, order: Any, m: int, s: Scratch, step: StepNumbers, team: Team
) -> int:
    """Fetch this thread's distinct indices of a batch; return where its work ends."""
    first = _first_work(s, team)
    count = first
    if rows.width > 0:
        j0, j1 = _columns_of(rows, team)
        for j in range(j0, j1):
            for b in range(m):
                if b + _AHEAD < m:
                    ahead = np.int64(rows.columns[order[b + _AHEAD] * rows.width + j])
                    for k in range(0, L.own, _LINE):
                        prefetch(table, ahead * L.width + k)
                entry = order[b] * rows.width + j
                q = s.capacity
                if rows.data[entry * rows.stride] != _ZERO:
                    i = np.int64(rows.columns[entry])
                    if rows.fields.by_index and not _owns(team.part, team.n_parts, i):
                        continue
                    q = _find(L, table, i, s, first, count, step)
                    count += q == count
                elif rows.fields.by_index and team.part > 0:
                    continue
                s.place[b * rows.width + j] = np.int32(q)
        return count
    entry = 0
    for b in range(m):
        s.first_entry[b] = entry
        for e in range(rows.starts[order[b]], rows.starts[order[b] + 1]):
            i = np.int64(rows.columns[e])
            if rows.data[e * rows.stride] == _ZERO:
                s.place[entry] = np.int32(s.capacity)
            elif _owns(team.part, team.n_parts, i):
                q = _find(L, table, i, s, first, count, step)
                count += q == count
                s.place[entry] = np.int32(q)
            entry += 1
    s.first_entry[m] = entry
    return count


@njit(**INLINE)
def _sum_row(
    L: Any, rows: Entries, r: int, b: int, s: Scratch, has_pairs: bool, e: Any, has_e: bool
) -> None:
    """Linear term and, if asked for, sum of vectors with pairwise sums, and embeddings of row r.

    It is b-th in the batch. Embeddings have a place for each field, which only rectangular rows do.
    """
    start = start_of(rows, r)
    length = start_of(rows, r + 1) - start
    p0 = b * rows.width if rows.width > 0 else s.first_entry[b]
    for c in range(L.C):
        linear = _ZERO
        for j in range(length):
            x = linear_value(rows, rows.data[(start + j) * rows.stride], j)
            linear += x * s.work[s.place[p0 + j] * L.work_width + L.K + c]
        s.slope[b * L.C + c] = linear
    if not has_pairs:
        if has_e:
            _pool_fields(L, rows, start, b, s, e)
        return
    if rows.fields.n_fields < rows.width:
        _sum_fields(L, rows, start, b, s, e, has_e)
        return
    for k in range(0, L.K, L.lanes):
        sums = fill(L, _ZERO)
        squares = fill(L, _ZERO)
        for j in range(length):
            x = fill(L, rows.data[(start + j) * rows.stride])
            xv = x * load(L, s.work, s.place[p0 + j] * L.work_width + k)
            sums = sums + xv
            squares = squares + xv * xv
            if has_e:
                store(e, (b * rows.width + j) * L.K + k, xv)
        store(s.push, b * L.K + k, sums)
        store(s.pull, b * L.K + k, fill(L, _HALF) * (sums * sums - squares))


@njit(**INLINE)
def _sum_fields(L: Any, rows: Entries, start: int, b: int, s: Scratch, e: Any, has_e: bool) -> None:
    """Sum of vectors and pairwise sums of rectangular rows whose fields may have many slots."""
    fields = rows.fields
    for k in range(0, L.K, L.lanes):
        sums = fill(L, _ZERO)
        squares = fill(L, _ZERO)
        for f in range(fields.n_fields):
            field = fill(L, _ZERO)
            own_squares = fill(L, _ZERO)
            for j in range(fields.starts[f], fields.starts[f + 1]):
                x = fill(L, rows.data[(start + j) * rows.stride])
                xv = x * load(L, s.work, s.place[b * rows.width + j] * L.work_width + k)
                field = field + xv
                own_squares = own_squares + xv * xv
            p = fields.pooled[f]
            if p >= 0:
                own_squares = field * field
                store(s.pooled, (b * fields.n_pooled + p) * L.K + k, field)
            sums = sums + field
            squares = squares + own_squares
            if has_e:
                store(e, (b * fields.n_fields + f) * L.K + k, field)
        store(s.push, b * L.K + k, sums)
        store(s.pull, b * L.K + k, fill(L, _HALF) * (sums * sums - squares))


@njit(**INLINE)
def _pool_fields(L: Any, rows: Entries, start: int, b: int, s: Scratch, e: Any) -> None:
    """Embeddings of the fields of a rectangular row, each written from its first to last number."""
    fields = rows.fields
    for f in range(fields.n_fields):
        for k in range(0, L.K, L.lanes):
            field = fill(L, _ZERO)
            for j in range(fields.starts[f], fields.starts[f + 1]):
                x = fill(L, rows.data[(start + j) * rows.stride])
                field = field + x * load(L, s.work, s.place[b * rows.width + j] * L.work_width + k)
            store(e, (b * fields.n_fields + f) * L.K + k, field)


@njit(**INLINE)
def _add_gradient(
    L: Any,
    b: int,
    x: np.float32,
    x_linear: np.float32,
    q: int,
    s: Scratch,
    has_pairs: bool,
    pooled: int,
    de: Any,
    d: int,
    has_de: bool,
) -> None:
    """Add the gradient of an entry of row b to that of its index.

    The value x_linear is that in the linear term; `pooled` is the place of its field's sum, or
    -1 if its field is no more than itself.
    """
    gv = L.K + L.C
    xs = fill(L, x)
    if has_pairs:
        for k in range(0, L.K, L.lanes):
            pull = load(L, s.pull, b * L.K + k)
            own = load(L, s.pooled, pooled + k) if pooled >= 0 else xs * load(L, s.work, q + k)
            change = load(L, s.push, b * L.K + k) - pull * own
            if has_de:
                change = change + load(L, de, d + k)
            store(s.work, q + gv + k, load(L, s.work, q + gv + k) + xs * change)
    elif has_de:
        for k in range(0, L.K, L.lanes):
            change = load(L, de, d + k)
            store(s.work, q + gv + k, load(L, s.work, q + gv + k) + xs * change)
    for c in range(L.C):
        s.work[q + gv + L.K + c] += x_linear * s.slope[b * L.C + c]


@njit(**INLINE)
def _update(
    L: Any,
    table: Any,
    rows: Entries,
    order: Any,
    m: int,
    count: int,
    s: Scratch,
    has_pairs: bool,
    de: Any,
    has_de: bool,
    step: StepNumbers,
    team: Team,
) -> None:
    """Sum the gradients of this thread's distinct indices and step."""
    width, fields = rows.width, rows.fields
    if width > 0:
        j0, j1 = _columns_of(rows, team)
        for j in range(j0, j1):
            f = fields.of_slot[j]
            p = fields.pooled[f]
            for b in range(m):
                entry = order[b] * width + j
                x = rows.data[entry * rows.stride]
                if x == _ZERO:
                    continue
                if fields.by_index and not _owns(
                    team.part, team.n_parts, np.int64(rows.columns[entry])
                ):
                    continue
                q = s.place[b * width + j] * L.work_width
                pooled = (b * fields.n_pooled + p) * L.K if p >= 0 else -1
                x1 = linear_value(rows, x, j)
                d = (b * fields.n_fields + f) * L.K
                _add_gradient(L, b, x, x1, q, s, has_pairs, pooled, de, d, has_de)
    else:
        for b in range(m):
            p0 = s.first_entry[b] - rows.starts[order[b]]
            for e in range(rows.starts[order[b]], rows.starts[order[b] + 1]):
                x = rows.data[e * rows.stride]
                if x != _ZERO and _owns(team.part, team.n_parts, np.int64(rows.columns[e])):
                    q = s.place[p0 + e] * L.work_width
                    x1 = linear_value(rows, x, 0)
                    _add_gradient(L, b, x, x1, q, s, has_pairs, -1, de, 0, False)
    for q in range(_first_work(s, team), count):
        take_step(L, table, s.distinct[q] * L.width, s.work, q * L.work_width, step)


@njit(**INLINE)
def _update_bias(L: Any, table: Any, t: int, m: int, s: Scratch, step: StepNumbers) -> None:
    """Step in the row at t, which has no vector and no prior."""
    q = s.capacity * L.work_width
    for k in range(0, L.K, L.lanes):
        store(s.work, q + L.K + L.C + k, fill(L, _ZERO))
    for c in range(L.C):
        slope = _ZERO
        for b in range(m):
            slope += s.slope[b * L.C + c]
        s.work[q + 2 * L.K + L.C + c] = slope
    free = StepNumbers(step.stretch, step.learning_rate, _ZERO, _ZERO, step.clock, _ZERO, _ZERO)
    take_step(L, table, t, s.work, q, free)


@njit(**INLINE)
def _loss(
    kind: int, low: np.float32, high: np.float32, y: np.float32, z: np.float32
) -> tuple[np.float32, np.float32]:
    """Loss of raw prediction z for target y, and its derivative."""
    if kind == 1:
        return _HALF * (z - y) * (z - y), z - y
    small = np.float32(math.exp(-abs(z)))
    sigmoid = (_ONE if z >= _ZERO else small) / (_ONE + small)
    if kind == 0:
        return max(z, _ZERO) + np.float32(math.log1p(small)) - y * z, sigmoid - y
    error = low + (high - low) * sigmoid - y
    return _HALF * error * error, error * (high - low) * sigmoid * (_ONE - sigmoid)


@njit(**COMPILE)
def train_fm(
    L: Any,
    table: Any,
    rows: Entries,
    order: Any,
    batch_size: int,
    loss: RowLoss,
    step: StepNumbers,
    paid: Any,
    scratch: Scratch,
    losses: Any,
    team: Team,
) -> None:
    """Train a factorization machine of one output on consecutive batches.

    Parameters
    ----------
    L : Layout
        Of the table.
    table : ndarray of shape (table_size + 1, L.width)
        Updated in place; the last row is the bias.
    rows : Entries
        All rows.
    order : ndarray of int64
        The rows to visit, in order.
    batch_size : int
        Rows per step.
    loss : RowLoss
        For all rows.
    step : StepNumbers
        Its last three numbers are replaced by those of `paid`.
    paid : ndarray of shape (n_batches, 3)
        clock, l1_paid and l2_paid at each batch.
    scratch : Scratch
        Shared by the team.
    losses : ndarray of shape (n_batches,)
        Receives the summed loss of each batch. Training ends where one is not finite.
    team : Team
        The part of this thread.
    """
    weights, bias_at = pointer(table), (len(table) - 1) * L.width
    entries, s = row_pointers(rows), _scratch_pointers(scratch)
    target, weight = pointer(loss.target), pointer(loss.weight)
    part, n_parts = team.part, team.n_parts
    for batch in range(team.first_batch, len(paid), team.every):
        chosen = pointer(order[batch * batch_size :])
        m = min(batch_size, len(order) - batch * batch_size)
        now = StepNumbers(
            step.stretch,
            step.learning_rate,
            step.l2_linear,
            step.l2_embedding,
            paid[batch, 0],
            paid[batch, 1],
            paid[batch, 2],
        )
        count = _collect(L, weights, entries, chosen, m, s, now, team)
        barrier(team.sync, n_parts)

        bias = weights[bias_at + L.K]
        for b in range(m * part // n_parts, m * (part + 1) // n_parts):
            r = chosen[b]
            _sum_row(L, entries, r, b, s, True, s.work, False)
            z = bias + s.slope[b]
            for k in range(0, L.K, L.lanes):
                z += total(load(L, s.pull, b * L.K + k))
            value, slope = _loss(loss.kind, loss.low, loss.high, target[r], z)
            slope *= weight[r]
            s.loss[b] = value * weight[r]
            s.slope[b] = slope
            for k in range(0, L.K, L.lanes):
                store(s.pull, b * L.K + k, fill(L, slope))
                store(s.push, b * L.K + k, fill(L, slope) * load(L, s.push, b * L.K + k))
        barrier(team.sync, n_parts)

        summed = 0.0
        for b in range(m):
            summed += s.loss[b]
        losses[batch] = summed
        if not math.isfinite(summed):
            return
        _update(L, weights, entries, chosen, m, count, s, True, s.work, False, now, team)
        if part == 0:
            _update_bias(L, weights, bias_at, m, s, now)
        barrier(team.sync, n_parts)


@njit(**COMPILE)
def gather(
    L: Any,
    table: Any,
    rows: Entries,
    order: Any,
    step: StepNumbers,
    scratch: Scratch,
    has_pairs: bool,
    e: Any,
    team: Team,
) -> int:
    """Write what a model needs of a batch to the scratch, and all embeddings to e.

    Parameters
    ----------
    L, table, rows, order, step, scratch, team
        As in `train_fm`; `order` holds one batch.
    has_pairs : bool
        Whether the model reads the pairwise sums.
    e : ndarray of shape (B, F * L.K) or (0, 0)
        Receives the embeddings of the fields, if it has room; rows must then be rectangular.

    Returns
    -------
    int
        For `scatter`.
    """
    weights, chosen, m = pointer(table), pointer(order), len(order)
    entries, s = row_pointers(rows), _scratch_pointers(scratch)
    count = _collect(L, weights, entries, chosen, m, s, step, team)
    barrier(team.sync, team.n_parts)
    for b in range(m * team.part // team.n_parts, m * (team.part + 1) // team.n_parts):
        _sum_row(L, entries, chosen[b], b, s, has_pairs, pointer(e), len(e) > 0)
    return count


@njit(**COMPILE)
def scatter(
    L: Any,
    table: Any,
    rows: Entries,
    order: Any,
    count: int,
    step: StepNumbers,
    scratch: Scratch,
    has_pairs: bool,
    de: Any,
    team: Team,
) -> None:
    """Step along the derivatives that the scratch and de hold by now.

    Parameters
    ----------
    L, table, rows, order, step, scratch, team
        As in `gather`.
    count : int
        What `gather` returned for this part.
    has_pairs : bool
        Whether the loss depends on the pairwise sums.
    de : ndarray of shape (B, F * L.K) or (0, 0)
        Derivative of the loss by the embeddings, beside that through their pairwise sums.
    """
    weights, chosen, m = pointer(table), pointer(order), len(order)
    entries, s = row_pointers(rows), _scratch_pointers(scratch)
    has_de = len(de) > 0
    _update(L, weights, entries, chosen, m, count, s, has_pairs, pointer(de), has_de, step, team)
    if team.part == 0:
        _update_bias(L, weights, (len(table) - 1) * L.width, m, s, step)
