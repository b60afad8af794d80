"""Machines against a slow twin: blocks by dense solves, derivatives by definition."""

import functools

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.preprocessing import OneHotEncoder

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.solvers.blocks import design as designs
from sklearn_fm.solvers.blocks import table as block_tables
from sklearn_fm.solvers.blocks.contract import Step, few_entries
from sklearn_fm.solvers.blocks.design import ALONE, POOLED, TOGETHER, make_design
from sklearn_fm.solvers.blocks.table import CompiledBlockTable, make_block_table
from sklearn_fm.solvers.blocks.torch_table import TorchBlockTable

N_ROWS = 40
KINDS = ["fields", "bags", "slots", "matrix"]
EXACT = {"rtol": 1e-9, "atol": 1e-9}
#: Rows and blocks of float32: errors are some 1e-7 of sums whose terms are of order 10.
SINGLE = {"rtol": 1e-4, "atol": 1e-4}
Wide = functools.partial(CompiledBlockTable, bits=64)

FIELDS = FieldSchema(
    names=("user", "price", "item", "site"),
    kinds=("categorical", "numeric", "categorical", "categorical"),
    vocabulary_sizes=(12, 1, 6, 3),
    linear=(True, True, False, True),
)
#: A vocabulary of two fields, one of them left out of the linear term, and every linear pooling.
BAGS = FieldSchema(
    names=("user", "seen", "item", "tags", "mood", "curve"),
    kinds=("categorical", "bag", "categorical", "bag", "bag", "numeric"),
    vocabulary_sizes=(8, 9, 9, 6, 5, 2),
    slots=(1, 3, 1, 3, 2, 2),
    poolings=("sum", "weighted", "sum", "mean", "sqrtn", "sum"),
    vocabularies=("user", "item", "item", "tags", "mood", "curve"),
    linear=(True, False, True, True, True, True),
)


@functools.cache
def make_X(kind):
    """Codes in which some values are 0, some bags empty and some categories unknown."""
    rng = np.random.default_rng(0)
    if kind == "matrix":
        codes = np.column_stack([rng.integers(0, 7, N_ROWS), rng.integers(0, 4, N_ROWS)])
        onehot = OneHotEncoder().fit_transform(codes)
        numbers = rng.normal(size=(N_ROWS, 2)) * (rng.random((N_ROWS, 2)) < 0.6)
        X = sparse.csr_array(sparse.hstack([onehot, numbers, sparse.csr_array((N_ROWS, 1))]))
        X.eliminate_zeros()
        return X
    if kind == "fields":
        columns = [rng.integers(-1, 10, N_ROWS), rng.normal(size=N_ROWS).round(1)]
        columns += [rng.integers(-1, 5, N_ROWS), rng.integers(-1, 2, N_ROWS)]
        columns[1][:4] = 0
        return FieldArray(np.column_stack(columns), FIELDS)
    codes = np.full((N_ROWS, BAGS.n_columns), -2.0)

    def fill(f, low, high, *, repeats):
        first = BAGS.first_columns[f]
        for row in range(N_ROWS):
            n = rng.integers(0, BAGS.slots[f] + 1) if BAGS.slots[f] > 1 else 1
            some = rng.choice(np.arange(low, high), n, replace=repeats)
            codes[row, first : first + n] = some

    fill(0, -1, 7, repeats=False)
    fill(1, 4, 8, repeats=kind == "bags")  # the same category twice is allowed in one bag
    fill(2, -1, 4, repeats=False)
    fill(3, -1, 5, repeats=kind == "bags")
    fill(4, 0, 4, repeats=False)
    first = BAGS.first_columns
    codes[:, first[1] + 3 : first[1] + 6] = rng.uniform(-1, 1, (N_ROWS, 3))
    codes[:, first[5] : first[5] + 2] = rng.normal(size=(N_ROWS, 2))
    return FieldArray(codes, BAGS)


def make_task(kind, K, seed=0):
    """Rows, design and random numbers of every sort that an update takes."""
    X = make_X(kind)
    design = make_design(X, pair_slots=kind == "slots")
    rng = np.random.default_rng(seed)
    D, n_priors = K + 1, len(design.prior_names)
    root = rng.normal(size=(n_priors, D, D)) / np.sqrt(D)
    return {
        "X": X,
        "design": design,
        "table": rng.normal(size=(table_size(X), D)),
        "y": rng.normal(size=N_ROWS),
        "row_precision": rng.uniform(0.2, 2, N_ROWS),
        "precision": root @ root.transpose(0, 2, 1) + 0.5 * np.eye(D),
        "shift": rng.normal(size=(n_priors, D)),
        "noise": rng.normal(size=(design.n_blocks, D + few_entries(K))).astype(np.float32),
    }


def table_size(X):
    return X.schema.table_size if isinstance(X, FieldArray) else X.shape[1]


def prior_of(X, index):
    """Prior of an index by definition: its vocabulary, in the order of first mention."""
    if not isinstance(X, FieldArray):
        return 0
    names = list(dict.fromkeys(X.schema.vocabularies))
    for f, name in enumerate(X.schema.vocabularies):
        if X.schema.offsets[f] <= index < X.schema.offsets[f] + X.schema.vocabulary_sizes[f]:
            return names.index(name)
    raise AssertionError


@functools.cache
def slow_update(kind, K, noisy):
    """Table and residuals after one update by the twin."""
    task = make_task(kind, K)
    rows = reference.entries_of(task["X"], pair_slots=kind == "slots")
    table = task["table"].copy()
    for block, index in enumerate(task["design"].indices):
        g = prior_of(task["X"], index)
        reference.update_block(
            table,
            rows,
            task["y"],
            task["row_precision"],
            index,
            task["precision"][g],
            task["shift"][g],
            task["noise"][block] if noisy else None,
            few_entries(K),
        )
    raw = [reference.raw_of_entries(table, row) for row in rows]
    return table, task["y"] - raw


def start(engine, task, **options):
    """A table of blocks at the values of a task, whose targets are y."""
    design = task["design"]
    block_table = engine(design, task["table"].shape[1] - 1, **options)
    block_table.set_residuals(task["y"], task["row_precision"])  # weights are 0
    block_table.write(task["table"][design.indices])
    return block_table


def update(block_table, task, *, noisy=True, steps=()):
    noise = task["noise"] if noisy else None
    return block_table.update(task["precision"], task["shift"], noise, steps)


ENGINES = {
    "float32": (CompiledBlockTable, SINGLE),
    "float64": (Wide, EXACT),
    "torch": (TorchBlockTable, EXACT),
}
all_engines = pytest.mark.parametrize(("engine", "close"), ENGINES.values(), ids=ENGINES)
#: Each width compiles kernels of its own; these have 4, 8 and 16 lanes, one panel and several.
WIDTHS = [(name, K) for name in ENGINES for K in (1, 3, 8, 16, 17) if name != "float32" or K > 8]
all_kinds = pytest.mark.parametrize("kind", KINDS)


def test_tasks_hold_what_they_are_meant_to():
    meetings = {k: {g.meeting for g in make_task(k, 1)["design"].groups} for k in KINDS}
    assert meetings == {
        "fields": {ALONE},
        "bags": {ALONE, POOLED},
        "slots": {ALONE, TOGETHER},
        "matrix": {ALONE},
    }
    assert any(len(set(r)) < len(r) for r in make_X("bags").indices[:, 5:8].tolist())
    for kind in KINDS:
        rows = reference.entries_of(make_X(kind), pair_slots=kind == "slots")
        seen = {entry[0] for row in rows for entry in row}
        design = make_task(kind, 1)["design"]
        assert sorted(design.indices) == sorted(seen)
        assert len(seen) < table_size(make_X(kind))  # some have no row


@all_kinds
@pytest.mark.parametrize("noisy", [True, False], ids=["draws", "means"])
@pytest.mark.parametrize(("name", "K"), WIDTHS)
def test_update_is_a_dense_solve_per_block(name, kind, noisy, K):
    engine, close = ENGINES[name]
    task = make_task(kind, K)
    block_table = start(engine, task)
    update(block_table, task, noisy=noisy)
    table, residuals = slow_update(kind, K, noisy)
    assert_allclose(block_table.read(), table[task["design"].indices], **close)
    assert_allclose(block_table.residuals(), residuals, **close)
    rows = np.array([3, 0, 7])
    assert_array_equal(block_table.residuals(rows), block_table.residuals()[rows])


@pytest.mark.parametrize("engine", [Wide, TorchBlockTable])
@pytest.mark.parametrize("n_entries", [1, 2, 4, 5, 9])
def test_draws_of_a_block_have_its_posterior(engine, n_entries):
    """A draw is linear in the noise: its mean and covariance follow exactly, entry by entry."""
    K, rng = 3, np.random.default_rng(n_entries)
    D, n_rows = K + 1, 12
    first = np.where(np.arange(n_rows) < n_entries, 1, 0)
    codes = np.column_stack([rng.integers(0, 3, n_rows), first])
    X = FieldArray(codes, FieldSchema.from_sizes([4, 3]))
    design = make_design(X)
    block = design.indices.tolist().index(4 + 2)  # of the last group: others do not follow
    root = rng.normal(size=(2, D, D))
    task = {
        "design": design,
        "table": rng.normal(size=(7, D)),
        "y": rng.normal(size=n_rows),
        "row_precision": rng.uniform(0.2, 2, n_rows),
        "precision": root @ root.transpose(0, 2, 1) + 0.5 * np.eye(D),
        "shift": rng.normal(size=(2, D)),
        "noise": np.zeros((design.n_blocks, D + few_entries(K))),
    }
    assert design.starts[block + 1] - design.starts[block] == n_entries

    def draw(noise, *, noisy=True):
        task["noise"][block] = noise
        block_table = start(engine, task)
        update(block_table, task, noisy=noisy)
        return block_table.read()

    blocks = draw(0.0)
    users = blocks[[design.indices.tolist().index(1 + code) for code in codes[:, 0]]]
    rows = first == 1
    slope = np.column_stack([users[rows, :-1], np.ones(n_entries)])
    rest = task["y"][rows] - users[rows, -1]
    p = task["row_precision"][rows]
    precision = task["precision"][1] + slope.T @ (p[:, None] * slope)
    mean = np.linalg.solve(precision, task["shift"][1] + slope.T @ (p * rest))
    assert_allclose(blocks[block], mean, **EXACT)
    assert_allclose(draw(0.0, noisy=False)[block], mean, **EXACT)
    ways = [draw(unit)[block] - mean for unit in np.eye(D + few_entries(K))]
    assert_allclose(np.transpose(ways) @ ways, np.linalg.inv(precision), **EXACT)


@all_engines
def test_a_flat_prior_is_no_prior(engine, close):
    """Precision 0 of a weight: no covariance is at hand, and blocks come from their precision."""
    task = make_task("matrix", 1)
    task |= {"precision": np.diag([2.0, 0.0])[None], "shift": np.zeros((1, 2))}
    block_table = start(engine, task)
    update(block_table, task, noisy=False)
    rows, table = reference.entries_of(task["X"]), task["table"].copy()
    prior = np.diag([2.0, 0.0]), np.zeros(2), None
    for index in task["design"].indices:
        reference.update_block(table, rows, task["y"], task["row_precision"], index, *prior)
    assert_allclose(block_table.read(), table[task["design"].indices], **close)


@all_kinds
@pytest.mark.parametrize("n_threads", [1, 2])
def test_lists_of_entries_in_pieces(kind, n_threads, monkeypatch):
    """Statistics of a long list are summed piece by piece; here all lists are long."""
    monkeypatch.setattr(designs, "_PIECE", few_entries(3) + 1)
    monkeypatch.setattr(designs, "_MOST_CHUNKS", 1000)
    task = make_task(kind, 3)
    chunks = task["design"].chunks[0]
    assert (np.diff(chunks[:, 0]) == 0).sum() >= (kind != "slots")
    block_table = start(Wide, task, n_threads=n_threads)
    update(block_table, task)
    table, residuals = slow_update(kind, 3, True)
    assert_allclose(block_table.read(), table[task["design"].indices], **EXACT)
    assert_allclose(block_table.residuals(), residuals, **EXACT)


@all_engines
@all_kinds
def test_residuals_follow_what_is_written(engine, close, kind):
    task = make_task(kind, 3)
    block_table = start(engine, task)
    rows = reference.entries_of(task["X"], pair_slots=kind == "slots")
    rng = np.random.default_rng(5)
    for _ in range(2):
        table = rng.normal(size=task["table"].shape)
        blocks = table[task["design"].indices]
        block_table.write(blocks)
        raw = [reference.raw_of_entries(table, row) for row in rows]
        assert_allclose(block_table.residuals(), task["y"] - raw, **close)
        assert_allclose(block_table.read(), blocks, rtol=1e-6)
    block_table.set_residuals(np.arange(N_ROWS), 2.0)
    assert_array_equal(block_table.residuals(), np.arange(N_ROWS))
    assert_allclose(block_table.read(), blocks, rtol=1e-6)


@all_engines
@all_kinds
@pytest.mark.parametrize("stretches", [False, True], ids=["shift", "stretch"])
@pytest.mark.parametrize("piece", [4096, 6], ids=["", "in pieces"])
def test_steps_that_blocks_take_together(engine, close, kind, stretches, piece, monkeypatch):
    """Raw predictions are linear in the step: derivatives are differences, exactly.

    All blocks of a prior have taken their step before those of the next are drawn.
    """
    monkeypatch.setattr(designs, "_PIECE", piece)
    monkeypatch.setattr(designs, "_MOST_CHUNKS", 1000)
    task, D = make_task(kind, 3), 4
    design, rows = task["design"], reference.entries_of(task["X"], pair_slots=kind == "slots")
    rng = np.random.default_rng(1)
    priors = design.loose_priors
    assert len(priors) >= (kind != "matrix")
    root = rng.normal(size=(len(priors), D, D))
    steps = [
        Step(g, stretches, r @ r.T + np.eye(D), rng.normal(size=D), rng.normal(size=D))
        for g, r in zip(priors, root, strict=True)
    ]
    block_table = start(engine, task)
    taken = update(block_table, task, steps=steps)

    def raw(table):
        return np.array([reference.raw_of_entries(table, row) for row in rows])

    table, expected = task["table"].copy(), {}
    p, y = task["row_precision"], task["y"]
    for g in range(len(design.prior_names)):
        blocks = design.indices[design.blocks_of_prior[g]]
        for block in np.flatnonzero(design.prior_of == g):
            reference.update_block(
                table,
                rows,
                y,
                p,
                design.indices[block],
                task["precision"][g],
                task["shift"][g],
                task["noise"][block],
                few_entries(3),
            )
        if g not in priors:
            continue

        def moved(step, table=table, blocks=blocks):
            new = table.copy()
            new[blocks] = new[blocks] * step if stretches else new[blocks] + step
            return new

        step, still = steps[priors.index(g)], np.full(D, float(stretches))
        slope = np.column_stack([raw(moved(still + unit)) - raw(table) for unit in np.eye(D)])
        precision = step.precision + slope.T @ (p[:, None] * slope)
        rest = y - raw(table) + slope @ still
        mean = np.linalg.solve(precision, step.shift + slope.T @ (p * rest))
        upper = np.linalg.cholesky(precision[::-1, ::-1]).T[::-1, ::-1]
        expected[g] = mean + np.linalg.solve(upper, step.noise)
        table = moved(expected[g])
    for g, step in zip(priors, taken, strict=True):
        assert_allclose(step, expected[g], **close)
    assert_allclose(block_table.read(), table[design.indices], **close)
    assert_allclose(block_table.residuals(), y - raw(table), **close)


@all_engines
@all_kinds
def test_moments_of_blocks(engine, close, kind):
    task = make_task(kind, 17)
    design, block_table = task["design"], start(engine, task)
    center = np.random.default_rng(0).normal(size=(len(design.prior_names), 18))
    moments = block_table.moments(center)
    assert_array_equal(moments.center, center)
    for g, c in enumerate(center):
        apart = task["table"][design.indices[design.prior_of == g]] - c
        assert moments.counts[g] == len(apart)
        assert_allclose(moments.sums[g], apart.sum(axis=0), **close)
        assert_allclose(moments.squares[g], apart.T @ apart, **close)


def test_rounding_does_not_add_up(monkeypatch):
    """Sums and residuals in float32 are made anew from time to time."""
    task = make_task("bags", 3)
    block_table = start(CompiledBlockTable, task)
    rows = reference.entries_of(task["X"])
    rng, table = np.random.default_rng(0), task["table"].copy()
    for _ in range(150):
        block_table.set_residuals(block_table.residuals() + rng.normal(size=N_ROWS), 1.0)
        target = block_table.residuals() + raw_of(block_table, table, rows)
        update(block_table, task)
    assert_allclose(block_table.residuals(), target - raw_of(block_table, table, rows), **SINGLE)
    monkeypatch.setattr(block_tables, "_REBUILD", 1)
    before = block_table.residuals()
    block_table._state.sums[:] = 7.0
    block_table._state.residuals[:, 0] = 7.0
    block_table._sweeps = 1
    update(block_table, task | {"precision": 1e12 * task["precision"]}, noisy=False)
    assert np.abs(block_table.residuals()).max() < 100 * np.abs(before).max()


def raw_of(block_table, table, rows):
    table[block_table.design.indices] = block_table.read()
    return np.array([reference.raw_of_entries(table, row) for row in rows])


def steps_for(task):
    """A stretch and a shift by turns."""
    rng = np.random.default_rng(2)
    D, priors = task["table"].shape[1], task["design"].loose_priors
    return [Step(g, g % 2 == 0, 2 * np.eye(D), *rng.normal(size=(2, D))) for g in priors]


def run_all(block_table, task):
    """Everything that a table of blocks does, and what comes of it."""
    taken = update(block_table, task, steps=steps_for(task))
    update(block_table, task, noisy=False)
    moments = block_table.moments(np.zeros_like(task["shift"]))
    return [block_table.read(), block_table.residuals(), moments.sums, moments.squares, *taken]


@pytest.mark.parametrize("kind", ["fields", "bags", "slots"])
@pytest.mark.parametrize("bits", [32, 64])
def test_threads_do_not_change_a_bit(kind, bits, monkeypatch):
    monkeypatch.setattr(designs, "_PIECE", 5)
    monkeypatch.setattr(designs, "_MOST_CHUNKS", 1000)
    monkeypatch.setattr(block_tables, "_CHUNK", 3)
    task = make_task(kind, 3)
    assert len(steps_for(task))
    once = run_all(start(CompiledBlockTable, task, n_threads=1, bits=bits), task)
    for n_threads in (2, 3):
        again = run_all(start(CompiledBlockTable, task, n_threads=n_threads, bits=bits), task)
        for a, b in zip(once, again, strict=True):
            assert_array_equal(a, b)


def test_a_category_of_many_rows():
    """More entries than a piece holds, in one block of two: as torch, and on any threads."""
    rng = np.random.default_rng(0)
    n = 30_000
    codes = np.column_stack([rng.random(n) < 0.05, rng.integers(0, 3, n)])
    X = FieldArray(codes.astype(np.int64), FieldSchema.from_sizes([3, 4]))
    design = make_design(X)
    assert (np.diff(design.chunks[0][:, 0]) == 0).sum() > 5
    D = 4
    task = {
        "design": design,
        "table": rng.normal(size=(7, D)),
        "y": rng.normal(size=n),
        "row_precision": rng.uniform(0.5, 2, n),
        "precision": np.tile(np.eye(D), (2, 1, 1)),
        "shift": rng.normal(size=(2, D)),
        "noise": rng.normal(size=(design.n_blocks, D + few_entries(D - 1))).astype(np.float32),
    }
    by_torch = run_all(start(TorchBlockTable, task), task)
    once = run_all(start(Wide, task), task)
    twice = run_all(start(Wide, task, n_threads=2), task)
    for a, b, c in zip(once, twice, by_torch, strict=True):
        assert_array_equal(a, b)
        assert_allclose(a, c, rtol=1e-7, atol=1e-8)


def test_torch_takes_outer_products_in_chunks(monkeypatch):
    task = make_task("fields", 3)
    once = run_all(start(TorchBlockTable, task), task)
    monkeypatch.setattr("sklearn_fm.solvers.blocks.torch_table._CHUNK_NUMBERS", 64)
    again = run_all(start(TorchBlockTable, task), task)
    for a, b in zip(once, again, strict=True):
        assert_allclose(a, b, **EXACT)


def test_rows_without_any_entry():
    """An empty matrix row, and a design of no blocks at all."""
    X = sparse.csr_array(np.array([[0, 0], [2.0, 1.0], [0, 0]]))
    for engine in (CompiledBlockTable, Wide, TorchBlockTable):
        block_table = engine(make_design(X), 2)
        block_table.set_residuals(np.ones(3), 1.0)
        block_table.write(np.ones((2, 3)))
        assert_allclose(block_table.residuals(), [1, 1 - 3 - 4, 1])
        block_table.update(np.eye(3)[None], np.zeros((1, 3)), None)
        assert_array_equal(block_table.residuals()[[0, 2]], [1, 1])
        nothing = engine(make_design(sparse.csr_array((3, 2))), 2)
        nothing.set_residuals(np.ones(3), 1.0)
        nothing.write(np.empty((0, 3)))
        nothing.update(np.eye(3)[None], np.zeros((1, 3)), None)
        assert_array_equal(nothing.residuals(), np.ones(3))


def test_who_makes_machines(monkeypatch):
    design = make_task("fields", 1)["design"]
    assert isinstance(make_block_table(design, 1), CompiledBlockTable)
    assert isinstance(make_block_table(design, 1, device="meta"), TorchBlockTable)
    monkeypatch.setattr(block_tables, "HAS_KERNELS", False)
    assert isinstance(make_block_table(design, 1), TorchBlockTable)


@all_kinds
def test_placement(kind):
    """On the meta device: an operand left on the CPU would raise. No numbers come of it."""
    task = make_task(kind, 3)
    block_table = TorchBlockTable(task["design"], 3, "meta")
    block_table.set_residuals(task["y"], task["row_precision"])
    block_table.write(task["table"][task["design"].indices])
    update(block_table, task)
    update(block_table, task, noisy=False)
    design = task["design"]
    for step in steps_for(task):
        block_table._step(design.groups[design.loose_groups[step.prior]], step)
    state = [block_table._table, block_table._residual, block_table._sums, block_table._precision]
    assert {tensor.device.type for tensor in state} == {"meta"}
    block_table._precision = torch.ones(N_ROWS)
    with pytest.raises(RuntimeError, match=r"device"):
        update(block_table, task)


# -- designs ---------------------------------------------------------------------------


def test_the_maximum_is_refused():
    schema = FieldSchema(("a", "b"), ("categorical", "bag"), (3, 4), (1, 2), ("sum", "max"))
    X = FieldArray(np.zeros((2, 3), dtype=np.int64), schema)
    with pytest.raises(ValueError, match=r"pooled by its maximum.*Pool it by sum, mean or sqrtn"):
        make_design(X)


def test_an_index_that_meets_itself_is_refused():
    schema = FieldSchema(
        ("likes", "item"), ("bag", "categorical"), (5, 5), (2, 1), vocabularies=("item", "item")
    )
    fine = FieldArray(np.array([[0, 1, 2], [3, 3, 1]]), schema)
    assert make_design(fine).n_blocks == 4
    wrong = FieldArray(np.array([[0, 1, 2], [3, 1, 1]]), schema)
    with pytest.raises(ValueError, match=r"vocabulary 'item' occurs twice in a row.*of their own"):
        make_design(wrong)
    with pytest.raises(ValueError, match=r"occurs twice in a row.*pair_slots at False"):
        make_design(fine, pair_slots=True)


def test_a_one_hot_matrix_has_a_group_per_variable():
    """Also when columns come in any order, and with more variables than a word has bits."""
    rng = np.random.default_rng(0)
    n_variables = 70
    codes = rng.integers(0, 4, (200, n_variables))
    X = sparse.csr_array(OneHotEncoder().fit_transform(codes))
    variable = np.repeat(np.arange(n_variables), 4)
    design = make_design(X)
    found = [design.indices[g.first : g.last].tolist() for g in design.groups]
    assert found == [np.flatnonzero(variable == v).tolist() for v in range(n_variables)]
    assert {g.meeting for g in design.groups} == {ALONE}
    assert not len(design.values)
    order = rng.permutation(12)
    shuffled = make_design(X[:, order])
    groups = [set(variable[order][shuffled.indices[g.first : g.last]]) for g in shuffled.groups]
    assert sorted(map(len, groups)) == [1, 1, 1]


def test_columns_of_one_group_share_no_row():
    X = sparse.csr_array(sparse.random(50, 30, 0.1, random_state=2))
    design = make_design(X)
    assert 1 < len(design.groups) < 20
    for g in design.groups:
        rows = design.rows[design.starts[g.first] : design.starts[g.last]]
        assert len(np.unique(rows)) == len(rows)


def test_loose_priors_are_those_of_few_entries_per_block(monkeypatch):
    task = make_task("bags", 1)
    design = task["design"]
    assert [design.prior_names[g] for g in design.loose_priors] == ["user"]
    monkeypatch.setattr(designs, "_LOOSE", 0)
    assert make_design(task["X"]).loose_priors == ()
