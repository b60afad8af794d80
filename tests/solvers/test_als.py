"""Block coordinate descent against the optimum: by definition, by L-BFGS, by ridge regression."""

import functools

import numpy as np
import pandas as pd
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from sklearn_fm import FieldArray, FieldSchema, FMClassifier, FMRegressor, MFRegressor
from sklearn_fm.solvers.als import Descent, Watched, descend
from sklearn_fm.solvers.blocks.design import make_design
from sklearn_fm.solvers.blocks.table import CompiledBlockTable
from sklearn_fm.solvers.blocks.torch_table import TorchBlockTable

K = 2
Wide = functools.partial(CompiledBlockTable, bits=64)  # as the solver takes it
SCHEMA = FieldSchema(
    names=("user", "tags", "price"),
    kinds=("categorical", "bag", "numeric"),
    vocabulary_sizes=(7, 6, 1),
    slots=(1, 3, 1),
    poolings=("sum", "mean", "sum"),
    linear=(True, False, True),
)
PRIOR = {"linear": 0.7, "embedding": 0.4}


def make_rows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.full((n, 5), -2.0)
    codes[:, 0], codes[:, 4] = rng.integers(-1, 5, n), rng.normal(size=n)
    for row in codes:
        m = rng.integers(0, 4)
        row[1 : 1 + m] = rng.choice(5, m, replace=False)
    X = FieldArray(codes, SCHEMA)
    table = rng.normal(size=(SCHEMA.table_size, K + 1))
    y = np.array([reference.raw_of_entries(table, row) for row in reference.entries_of(X)])
    return X, y + 0.5 * rng.normal(size=n), rng.uniform(0.5, 2, n)


def start_at(seed=1, bias=0.2):
    rng = np.random.default_rng(seed)
    return Descent(bias, 0.3 * rng.normal(size=(SCHEMA.table_size, K + 1)))


def run(X, y, weight, n_sweeps=500, engine=Wide, start=None, **options):
    start = start or start_at()
    block_table = engine(make_design(X), K)
    block_table.set_residuals(y - start.bias, weight)
    return descend(block_table, weight, start, [PRIOR] * n_sweeps, **options)


def objective(X, y, weight, bias, table):
    raw = [bias + reference.raw_of_entries(table, row) for row in reference.entries_of(X)]
    square = weight @ (y - np.array(raw)) ** 2
    seen = np.unique([e[0] for row in reference.entries_of(X) for e in row])
    penalty = PRIOR["linear"] * (table[seen, -1] ** 2).sum()
    return (square + penalty + PRIOR["embedding"] * (table[seen, :-1] ** 2).sum()) / 2


@pytest.mark.parametrize("engine", [Wide, TorchBlockTable])
def test_the_gradient_is_zero_at_the_end(engine):
    """By differences, which are exact: the objective is quadratic in each coordinate."""
    X, y, weight = make_rows(40)
    found = run(X, y, weight, 3000, engine, tol=1e-14)
    assert found.converged
    assert found.best_sweep == len(found.records) < 3000

    def at(change_bias=0.0, index=None, j=0, by=0.0):
        table = found.table.copy()
        if index is not None:
            table[index, j] += by
        return objective(X, y, weight, found.bias + change_bias, table)

    assert at(1.0) - at(-1.0) == pytest.approx(0, abs=1e-3)
    for index in make_design(X).indices:
        for j in range(K + 1):
            gradient = (at(index=index, j=j, by=0.5) - at(index=index, j=j, by=-0.5)) / 1.0
            assert gradient == pytest.approx(0, abs=1e-3)


def test_the_objective_never_rises():
    X, y, weight = make_rows()
    objectives = []

    def on_sweep(now):
        objectives.append(objective(X, y, weight, now.bias, now.table))
        assert now.records[-1]["epoch"] == len(objectives)
        return False

    found = run(X, y, weight, 12, on_sweep=on_sweep)
    assert (np.diff(objectives) < 0).all()
    assert objective(X, y, weight, 0.2, start_at().table) > objectives[0]
    entries = reference.entries_of(X)
    raw = np.array([found.bias + reference.raw_of_entries(found.table, row) for row in entries])
    expected = np.average((y - raw) ** 2, weights=weight) / 2
    assert found.records[-1]["train_loss"] == pytest.approx(expected)
    assert not found.converged


def test_the_start_is_left_as_it_is_and_so_are_indices_without_rows():
    X, y, weight = make_rows(5)
    start = start_at()
    kept = start.table.copy()
    found = run(X, y, weight, 3, start=start)
    assert_array_equal(start.table, kept)
    seen = make_design(X).indices
    unseen = np.setdiff1d(np.arange(SCHEMA.table_size), seen)
    assert len(unseen)
    assert_array_equal(found.table[unseen], kept[unseen])
    assert (found.table[seen] != kept[seen]).all()


def test_both_engines_take_the_same_way():
    X, y, weight = make_rows()
    a, b = (run(X, y, weight, 5, engine) for engine in (Wide, TorchBlockTable))
    assert_allclose(a.table, b.table, rtol=1e-9, atol=1e-10)
    assert a.bias == pytest.approx(b.bias)


def test_tolerance_is_a_share_of_the_objective():
    X, y, weight = make_rows()
    objectives = []
    found = run(
        X,
        y,
        weight,
        tol=1e-3,
        on_sweep=lambda now: objectives.append(objective(X, y, weight, now.bias, now.table)),
    )
    gains = -np.diff(objectives) / np.array(objectives[1:])
    assert found.converged
    assert gains[-1] <= 1e-3 < gains[:-1].min()


def test_watched_rows_choose_the_sweep():
    """The best sweep's weights come back, priors are halved at each stall."""
    X, y, weight = make_rows(80)
    seen, out = slice(0, 25), slice(25, None)
    watched = Watched(Wide(make_design(X[out]), K), y[out], weight[out])
    losses, tables = [], []
    found = run(
        X[seen],
        y[seen],
        weight[seen],
        watched=watched,
        relaxed=("embedding",),
        patience=3,
        on_sweep=lambda now: tables.append((now.bias, now.table.copy())),
    )
    for bias, table in tables:
        rows = reference.entries_of(X[out])
        raw = np.array([bias + reference.raw_of_entries(table, row) for row in rows])
        losses.append(np.average((y[out] - raw) ** 2, weights=weight[out]) / 2)
    assert_allclose([record["valid_loss"] for record in found.records], losses)
    best, least, factor, penalties = 0, np.inf, 1.0, []
    for sweep, loss in enumerate(losses, start=1):
        penalties.append(PRIOR["embedding"] * factor)
        if loss < least * (1 - 1e-5):
            best, least = sweep, loss
        else:
            factor /= 2
    assert factor <= 0.5**3
    assert found.best_sweep == best == len(losses) - 3
    assert found.converged
    assert found.bias == tables[best - 1][0]
    assert_array_equal(found.table, tables[best - 1][1])
    assert_allclose([record["l2_embedding"] for record in found.records], penalties)
    assert {record["l2_linear"] for record in found.records} == {PRIOR["linear"]}


def test_ctrl_c_keeps_what_there_is():
    X, y, weight = make_rows()

    def interrupt(now):
        if len(now.records) == 3:
            raise KeyboardInterrupt

    found = run(X, y, weight, on_sweep=interrupt)
    assert isinstance(found.stopped_by, KeyboardInterrupt)
    assert_array_equal(found.table, run(X, y, weight, 3).table)


# -- the estimator ---------------------------------------------------------------------


def ratings(n=200, seed=0):
    rng = np.random.RandomState(seed)
    X = pd.DataFrame({"user": rng.randint(100, 112, n), "item": rng.randint(0, 9, n)})
    p, q = rng.randn(200, 2), rng.randn(9, 2)
    y = 3 + 0.3 * q[X["item"], 0] + (p[X["user"]] * q[X["item"]]).sum(axis=1)
    return X, y + 0.1 * rng.randn(n)


def test_without_embeddings_it_is_ridge():
    X, y = ratings()
    weight = np.random.RandomState(1).rand(len(y)) + 0.2
    model = MFRegressor(
        solver="als",
        l2_linear=2.0,
        l2_embedding=1e12,
        init_scale=0,
        tol=1e-12,
        max_epochs=2000,
        early_stopping=False,
    ).fit(X, y, sample_weight=weight)
    codes = model.encoder_.transform(X).to_csr()
    ridge = Ridge(alpha=2.0, tol=1e-12, solver="cholesky").fit(codes.toarray(), y, weight)
    assert model.predict(X) == pytest.approx(ridge.predict(codes.toarray()), abs=1e-4)


def test_it_reaches_what_lbfgs_reaches():
    """From the same start values; the objective is the same one."""
    X, y = ratings()
    common = {"embedding_dim": 2, "l2_linear": 1.0, "l2_embedding": 3.0, "tol": 1e-10}
    common |= {"max_epochs": 3000, "early_stopping": False, "random_state": 0}
    als = MFRegressor(solver="als", **common).fit(X, y)
    lbfgs = MFRegressor(solver="lbfgs", **common).fit(X, y)
    assert als.predict(X) == pytest.approx(lbfgs.predict(X), abs=1e-3)
    again = MFRegressor(solver="als", **common | {"random_state": 5}).fit(X, y)
    assert again.predict(X) == pytest.approx(als.predict(X), abs=1e-3)


@pytest.mark.parametrize("l2", [1.0, "auto"])
def test_a_weight_of_two_is_the_row_twice(l2):
    X, y = ratings(80)
    twice = np.arange(80) % 3 == 0
    common = {"solver": "als", "embedding_dim": 2, "l2_linear": l2, "l2_embedding": l2}
    common |= {"early_stopping": False, "max_epochs": 300, "tol": 1e-9, "random_state": 0}
    a = MFRegressor(**common).fit(X, y, sample_weight=1.0 + twice)
    b = MFRegressor(**common).fit(pd.concat([X, X[twice]]), np.append(y, y[twice]))
    assert a.predict(X) == pytest.approx(b.predict(X), abs=1e-3)


def test_early_stopping_and_refit():
    X, y = ratings(300)
    model = MFRegressor(solver="als", embedding_dim=4, early_stopping=True, random_state=0)
    model.fit(X, y)
    history = model.history_
    search = history[history["phase"] == "search"]
    refit = history[history["phase"] == "refit"]
    assert len(refit) == model.n_epochs_ == search["valid_loss"].argmin() + 1
    assert_allclose(refit["l2_embedding"], search["l2_embedding"][: len(refit)])
    assert model.score(X, y) > 0.8
    kept = MFRegressor(
        solver="als", embedding_dim=4, early_stopping=True, refit=False, random_state=0
    ).fit(X, y)
    assert kept.n_epochs_ == model.n_epochs_
    assert set(kept.history_.phase) == {"fit"}
    assert list(kept.history_) == list(history)
    assert not np.array_equal(kept.predict(X), model.predict(X))


def test_an_eval_set_is_watched():
    X, y = ratings(300)
    held_out = X[200:], y[200:], np.linspace(0.5, 2, 100)
    priors = {"l2_linear": 1.0, "l2_embedding": 1.0}
    model = MFRegressor(solver="als", embedding_dim=4, max_epochs=2000, random_state=0, **priors)
    model.fit(X[:200], y[:200], eval_set=held_out)
    error = np.average((model.predict(X[200:]) - y[200:]) ** 2, weights=held_out[2])
    expected = error / np.var(y[:200]) / 2
    assert model.history_["valid_loss"].min() == pytest.approx(expected, rel=1e-4)


def test_too_few_sweeps_warn():
    X, y = ratings()
    model = MFRegressor(
        solver="als", embedding_dim=2, max_epochs=2, tol=1e-9, early_stopping=False, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="als did not converge in max_epochs=2 sweeps"):
        model.fit(X, y)
    assert model.n_epochs_ == 2


def test_warm_start_goes_on():
    X, y = ratings()
    common = {"solver": "als", "embedding_dim": 2, "l2_linear": 1.0, "l2_embedding": 1.0}
    common |= {"tol": 1e-15, "early_stopping": False, "random_state": 0}
    model = MFRegressor(max_epochs=3, warm_start=True, **common)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y).fit(X, y)
    with pytest.warns(ConvergenceWarning):
        at_once = MFRegressor(max_epochs=6, **common).fit(X, y)
    assert model.predict(X) == pytest.approx(at_once.predict(X), abs=1e-4)


def test_predictions_are_cut_to_the_range():
    X, y = ratings()
    y = np.clip(y, 1, 5)
    model = MFRegressor(
        solver="als",
        l2_linear=0.1,
        l2_embedding=0.1,
        max_epochs=1000,
        y_range=(1, 5),
        embedding_dim=3,
        early_stopping=False,
        tol=1e-3,
        random_state=0,
    )
    everyone = pd.DataFrame({"user": np.repeat(range(98, 114), 11), "item": list(range(11)) * 16})
    predicted = model.fit(X, y).predict(everyone)
    assert predicted.min() == 1
    assert predicted.max() == 5
    assert ((predicted > 1) & (predicted < 5)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": [("name", object())]}, "takes no callbacks of skorch"),
        ({"pretrained": {"user": {}}}, "takes no pretrained embeddings"),
        ({"l1_linear": 1.0}, "solver='als' has no l1_linear"),
        ({"hidden_layer_sizes": (8,)}, "solver='als' fits no hidden layers"),
    ],
)
def test_refused_combinations(options, message):
    X, y = ratings(50)
    with pytest.raises(ValueError, match=message):
        MFRegressor(solver="als", **options).fit(X, y)


def test_classes_are_refused():
    X, y = ratings(50)
    with pytest.raises(ValueError, match="minimizes squared error, so it fits no classes"):
        FMClassifier(solver="als").fit(X, y > 3)
    assert not hasattr(FMRegressor(solver="als"), "partial_fit")
