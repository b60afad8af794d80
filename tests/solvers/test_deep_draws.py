"""DeepFM by solver "gibbs": planted truth, the sum of its parts, and what it refuses."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_softmax, logit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

from sklearn_fm import (
    DeepFMClassifier,
    DeepFMRegressor,
    FieldArray,
    FieldEncoder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
)
from sklearn_fm.inspection import TraceDisplay
from sklearn_fm.solvers import deep_draws

DRAWS = {"solver": "gibbs", "n_sweeps": 20, "random_state": 0}
DEEP = {
    "hidden_layer_sizes": (16,),
    "learning_rate_dense": 0.02,
    "init_scale": 0.3,
    "max_epochs": 20,
    "l2_dense": 0.0,
}
BOTH = {**DRAWS, **DEEP}
TRAIN, TEST = slice(0, 1500), slice(1500, 3000)


def planted(seed=0, third=0.0, sizes=(6, 6, 6), n_rows=3000):
    """Rows of a factorization machine, and a product of three signs that none can see."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, size, n_rows) for size in sizes])
    raw = third * np.where(codes[:, -3:] < np.array(sizes[-3:]) // 2, 1, -1).prod(axis=1)
    e = np.stack([rng.normal(0, 0.7, (k, 2))[c] for k, c in zip(sizes, codes.T, strict=True)], 1)
    raw = raw + (e.sum(axis=1) ** 2 - (e**2).sum(axis=1)).sum(axis=1) / 2
    X = FieldArray(codes, FieldSchema.from_sizes([size + 1 for size in sizes]))
    return X, raw, rng


def two_classes(**options):
    X, raw, rng = planted(**options)
    return X, (rng.random(len(raw)) < expit(raw)).astype(int)


@pytest.fixture(scope="module")
def deep():
    """A model with weight on both parts, and its rows."""
    X, y = two_classes(third=2.0)
    return DeepFMClassifier(**BOTH).fit(X[TRAIN], y[TRAIN]), X, y


def raw_of(module, X):
    with torch.no_grad():
        values = torch.from_numpy(X.values.copy()).to(module.bias.dtype)
        return module(torch.from_numpy(X.indices.copy()), values).double().numpy()


# -- planted truth -----------------------------------------------------------------------------


def test_no_mlp_where_a_factorization_machine_is_the_truth():
    """Then it is what FMClassifier draws by the same seed, to the last bit."""
    X, y = two_classes()
    model = DeepFMClassifier(**BOTH).fit(X[TRAIN], y[TRAIN])
    plain = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    assert model.blend_["deep"] == 0
    assert model.blend_["draws"] == 1
    assert model.deep_module_ is None
    assert "left out" in model.solver_reason_
    assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert_array_equal(model.posterior_.tables, plain.posterior_.tables)
    assert "refit (deep)" not in set(model.history_["phase"])  # that would be in vain
    rows = pd.DataFrame(np.asarray(X)[:20], columns=X.schema.names)
    assert model.refit_categories(X[:20], y[:20], rows.columns[0]).blend_["deep"] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_third_order_takes_both(seed):
    """Better than either alone on other rows: many ids call for draws, three signs for an MLP."""
    X, y = two_classes(seed=seed, third=1.0, sizes=(400, 400, 4, 4, 4), n_rows=9000)
    train, test = slice(0, 6000), slice(6000, 9000)
    both = DeepFMClassifier(**BOTH | {"n_sweeps": 60, "validation_fraction": 0.2})
    both.fit(X[train], y[train])
    alone = [
        FMClassifier(**DRAWS | {"n_sweeps": 60}).fit(X[train], y[train]),
        DeepFMClassifier(**DEEP, random_state=0).fit(X[train], y[train]),
    ]
    losses = [log_loss(y[test], model.predict_proba(X[test])) for model in (both, *alone)]
    assert losses[0] < min(losses[1:])
    assert both.blend_["deep"] > 0.1
    assert both.blend_["draws"] > 0.1
    assert both.blend_["gain"] > 2 * both.blend_["standard_error"]


# -- the sum of the parts ----------------------------------------------------------------------


def test_prediction_is_the_weighted_sum(deep):
    model, X, y = deep
    drawn = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    base = logit(y[TRAIN].mean())
    expected = base + model.blend_["draws"] * (drawn.decision_function(X) - base)
    expected += model.blend_["deep"] * (raw_of(model.deep_module_, X)[:, 0] - base)
    assert model.blend_["deep"] > 0
    assert_allclose(model.decision_function(X), expected, rtol=1e-5, atol=1e-5)
    assert_allclose(model.predict_proba(X)[:, 1], expit(expected), rtol=1e-5)
    assert_array_equal(model.predict(X), expected > 0)
    assert type(model.deep_module_).__name__ == "DeepFM"
    assert type(model.module_).__name__ == "FM"
    assert_allclose(raw_of(model.module_, X), raw_of(drawn.module_, X))


def test_numbers_are_what_both_modules_say():
    X, raw, rng = planted(third=2.0)
    y = 100 + 10 * (raw + rng.normal(0, 0.5, len(raw)))
    model = DeepFMRegressor(**BOTH).fit(X[TRAIN], y[TRAIN])
    plain = FMRegressor(**DRAWS).fit(X[TRAIN], y[TRAIN])
    assert model.blend_["deep"] > 0
    deep = raw_of(model.deep_module_, X)
    parts = model.blend_["draws"] * raw_of(model.module_, X) + model.blend_["deep"] * deep
    expected = model.target_mean_ + model.target_scale_ * parts[:, 0]
    assert_allclose(model.predict(X), expected, rtol=1e-4)
    assert_array_equal(model.posterior_.tables, plain.posterior_.tables)
    assert model.score(X[TEST], y[TEST]) > plain.score(X[TEST], y[TEST]) + 0.1


def test_numbers_in_a_range():
    X, raw, rng = planted(third=2.0)
    y = np.clip(raw + rng.normal(0, 0.3, len(raw)), -1.5, 1.5)
    model = DeepFMRegressor(**BOTH, y_range=(-1.5, 1.5)).fit(X[TRAIN], y[TRAIN])
    plain = FMRegressor(**DRAWS, y_range=(-1.5, 1.5)).fit(X[TRAIN], y[TRAIN])
    assert model.blend_["deep"] > 0
    assert np.abs(model.predict(X)).max() <= 1.5
    assert model.score(X[TEST], y[TEST]) > plain.score(X[TEST], y[TEST])


def test_several_classes():
    X, raw, rng = planted(third=2.0)
    y = np.array(["low", "mid", "up"])[np.digitize(raw + rng.logistic(size=len(raw)), [-1, 1])]
    model = DeepFMClassifier(**BOTH).fit(X[TRAIN], y[TRAIN])
    plain = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    assert model.blend_["deep"] > 0
    base = np.log(np.unique(y[TRAIN], return_counts=True)[1] / 1500)
    raw = base + model.blend_["draws"] * (np.log(plain.predict_proba(X)) - base)
    raw += model.blend_["deep"] * (raw_of(model.deep_module_, X) - base)
    assert_allclose(model.decision_function(X), log_softmax(raw, axis=1), rtol=1e-4, atol=1e-4)
    losses = [log_loss(y[TEST], m.predict_proba(X[TEST])) for m in (model, plain)]
    assert losses[0] < losses[1] - 0.02


# -- the life of an estimator ------------------------------------------------------------------


def test_pickle_clone_and_threads(deep):
    model, X, y = deep
    packed = pickle.dumps(model)
    again = pickle.loads(packed)
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    pd.testing.assert_frame_equal(again.history_, model.history_)
    numbers = sum(p.numel() for p in model.deep_module_.parameters())
    drawn = pickle.dumps(FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN]))
    assert len(packed) < len(drawn) + 4 * numbers + 20_000  # weights, and nothing to go on from
    other = clone(model).set_params(n_jobs=2).fit(X[TRAIN], y[TRAIN])
    assert_array_equal(other.predict_proba(X), model.predict_proba(X))


def test_history_has_both_parts(deep):
    model, _, _ = deep
    phases = model.history_["phase"]
    assert list(phases.unique()) == ["fit", "search (draws)", "search (deep)", "refit (deep)"]
    assert (phases == "fit").sum() == model.n_epochs_ == 20
    assert model.n_burn_ == 2
    assert "of the loss per row, at weights" in model.solver_reason_
    pytest.importorskip("matplotlib").use("agg")
    display = TraceDisplay.from_estimator(model)
    labels = [line.get_label() for line in display.lines_["train_loss"]]
    assert labels == [
        "training",
        "training, rows to learn from, draws",
        "training, rows to learn from, MLP",
        "training, all rows, MLP",
    ]


def test_weights_of_rows_and_classes():
    """Weights of classes are those of rows, and a row of weight 0 is none."""
    X, y = two_classes(third=2.0)
    X, y = X[TRAIN], y[TRAIN]
    by_class = DeepFMClassifier(**BOTH, class_weight={0: 1.0, 1: 3.0}).fit(X, y)
    by_row = DeepFMClassifier(**BOTH).fit(X, y, np.where(y == 1, 3.0, 1.0))
    assert by_class.blend_["deep"] > 0
    assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    two = np.concatenate([np.arange(1500), np.arange(100)])
    weight = np.repeat([1.0, 0.0], [1500, 100])
    padded = DeepFMClassifier(**BOTH).fit(X[two], y[two], weight)
    plain = DeepFMClassifier(**BOTH).fit(X, y)
    assert_array_equal(padded.predict_proba(X), plain.predict_proba(X))


def test_frames_in_a_pipeline():
    X, y = two_classes(third=2.0)
    table = pd.DataFrame(np.asarray(X), columns=list("abc")).astype(str)
    model = DeepFMClassifier(**BOTH).fit(table[TRAIN], y[TRAIN])
    piped = make_pipeline(FieldEncoder(), clone(model)).fit(table[TRAIN], y[TRAIN])
    assert_array_equal(piped.predict_proba(table), model.predict_proba(table))


def test_few_rows_are_drawn_alone():
    X, y = two_classes()
    model = DeepFMClassifier(**BOTH).fit(X[:300], y[:300])
    plain = FMClassifier(**DRAWS).fit(X[:300], y[:300])
    assert model.blend_ is None
    assert model.deep_module_ is None
    assert "too few to hold some out" in model.solver_reason_
    assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    tried = DeepFMClassifier(**BOTH, early_stopping=True).fit(X[:300], y[:300])
    assert tried.blend_ is not None


def test_rows_to_watch_are_those_that_weights_are_found_by():
    """Then nothing is held out, and nothing is fitted twice."""
    X, y = two_classes(third=2.0)
    model = DeepFMClassifier(**BOTH).fit(X[TRAIN], y[TRAIN], eval_set=(X[1500:2200], y[1500:2200]))
    assert list(model.history_["phase"].unique()) == ["fit", "search (deep)"]
    assert "700 rows held out" in model.solver_reason_
    assert model.blend_["deep"] > 0
    losses = [log_loss(y[2200:], model.predict_proba(X[2200:]))]
    losses.append(log_loss(y[2200:], FMClassifier(**DRAWS).fit(X, y).predict_proba(X[2200:])))
    assert losses[0] < losses[1]


def test_without_a_refit_both_are_of_the_part():
    X, y = two_classes(third=2.0)
    model = DeepFMClassifier(**BOTH, refit=False).fit(X[TRAIN], y[TRAIN])
    assert list(model.history_["phase"].unique()) == ["fit", "search (deep)"]
    assert model.blend_["deep"] > 0
    assert "150 rows held out" in model.solver_reason_


def test_a_warm_start_adds_draws_and_leaves_the_mlp():
    X, y = two_classes(third=2.0)
    model = DeepFMClassifier(**BOTH, warm_start=True).fit(X[TRAIN], y[TRAIN])
    before = raw_of(model.deep_module_, X), dict(model.blend_)
    plain = FMClassifier(**DRAWS, warm_start=True).fit(X[TRAIN], y[TRAIN])
    for _ in range(2):
        model.fit(X[TRAIN], y[TRAIN])
        plain.fit(X[TRAIN], y[TRAIN])
    assert model.n_epochs_ == plain.n_epochs_ == 60
    assert_array_equal(raw_of(model.module_, X), raw_of(plain.module_, X))
    assert_array_equal(raw_of(model.deep_module_, X), before[0])
    assert dict(model.blend_) == before[1]
    assert model.solver_reason_.count("held out") == 1
    assert (model.history_["phase"] == "fit").sum() == 60
    model.fit(X[TEST], y[TEST])  # other rows: draws start where they stood, the MLP anew
    assert not np.array_equal(raw_of(model.deep_module_, X), before[0])
    with pytest.raises(ValueError, match="hidden_layer_sizes is now"):
        model.set_params(hidden_layer_sizes=(8,)).fit(X[TEST], y[TEST])


class Stopping:
    """A solver whose fits get a Ctrl-C, from one of them on."""

    def __init__(self, solver, first):
        self.solver, self.first, self.n_fits = solver, first, 0

    def fit(self, *args):
        self.n_fits += 1
        if self.n_fits >= self.first:
            raise KeyboardInterrupt
        return self.solver.fit(*args)

    def __getattr__(self, name):
        return getattr(self.solver, name)


@pytest.mark.parametrize(
    ("part", "first", "kept"), [("_DRAWS", 2, 0), ("_DEEP", 1, 0), ("_DEEP", 2, 1)]
)
def test_ctrl_c_leaves_what_was_complete(part, first, kept, monkeypatch):
    """Draws of all rows, with the MLP of the part of them once its weight is known."""
    X, y = two_classes(third=2.0)
    plain = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    monkeypatch.setattr(deep_draws, part, Stopping(getattr(deep_draws, part), first))
    model = DeepFMClassifier(**BOTH)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[TRAIN], y[TRAIN])
    assert (model.deep_module_ is not None) == bool(kept)
    assert_array_equal(raw_of(model.module_, X), raw_of(plain.module_, X))
    if not kept:
        assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    monkeypatch.undo()
    model.set_params(warm_start=True).fit(X[TRAIN], y[TRAIN])  # goes on, and finds the rest
    assert model.n_epochs_ == 40
    assert model.blend_["deep"] > 0


def test_a_diverging_descent_leaves_the_draws():
    X, y = two_classes()
    model = DeepFMClassifier(**BOTH | {"learning_rate_dense": 1e25})
    with pytest.warns(ConvergenceWarning, match="MLP beside the draws became infinite or NaN"):
        model.fit(X[TRAIN], y[TRAIN])
    plain = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert model.blend_["deep"] == 0


def test_interrupted_epochs_leave_the_best_of_them(monkeypatch):
    """A Ctrl-C while the MLP searches: its epochs so far are weighed like those of any other."""
    X, y = two_classes(third=2.0)
    real = deep_draws.GradientSolver.fit

    def fit(self, problem, *args):
        found = real(self, problem, *args)
        return found._replace(stopped_by=KeyboardInterrupt())

    monkeypatch.setattr(deep_draws.GradientSolver, "fit", fit)
    model = DeepFMClassifier(**BOTH)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[TRAIN], y[TRAIN])
    assert model.blend_["deep"] > 0
    assert "refit (deep)" not in set(model.history_["phase"])
    plain = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    losses = [log_loss(y[TEST], m.predict_proba(X[TEST])) for m in (model, plain)]
    assert losses[0] < losses[1]


# -- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"n_sweeps": 25},
        {"n_burn": 5},
        {"hyperprior_scale": 0.3},
        {"learning_rate": 0.1},
        {"learning_rate_schedule": "one_cycle"},
        {"batch_size": 64},
        {"dropout": 0.2},
        {"hidden_layer_sizes": (12,)},
        {"l2_embedding": 3.0, "l2_linear": 3.0},
        {"validation_fraction": 0.2},
    ],
    ids=lambda other: next(iter(other)),
)
def test_parameters_of_both_parts_matter(deep, other):
    model, X, y = deep
    changed = DeepFMClassifier(**BOTH | other).fit(X[TRAIN], y[TRAIN])
    assert not np.array_equal(changed.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"early_stopping": False}, "finds the weight of DeepFM's MLP on rows held out"),
        ({"l1_linear": 1.0}, "l1_linear"),
        ({"l2_linear": 1.0}, "both as numbers, or both as 'auto'"),
        ({"callbacks": [object()]}, "takes no callbacks of skorch"),
        ({"pretrained": {"f0": {"1": [0.0] * 16}}}, "takes no pretrained embeddings"),
        ({"n_burn": 20}, "n_burn=20 must be less than n_sweeps=20"),
        ({"solver": "als"}, "'solver' parameter"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refusals(params, message):
    X, y = two_classes()
    with pytest.raises(ValueError, match=message):
        DeepFMClassifier(**BOTH | params).fit(X[TRAIN], y[TRAIN])


def test_what_needs_steps_or_draws_alone_is_refused(deep):
    model, X, y = deep
    with pytest.raises(AttributeError, match="has no partial_fit"):
        _ = model.partial_fit
    with pytest.raises(ValueError, match="an MLP with embeddings of its own"):
        model.refit_categories(X[:20], y[:20], X.schema.names[0])
    other = pickle.loads(pickle.dumps(model)).set_params(warm_start=True, solver="adagrad")
    with pytest.raises(ValueError, match="warm_start cannot go on from solver='gibbs'"):
        other.fit(X[TRAIN], y[TRAIN])
    with pytest.raises(ValueError, match="cannot go on from draws with an MLP of"):
        other.set_params(solver="auto").fit(X[TRAIN], y[TRAIN])
    with pytest.raises(ValueError, match=r"'gibbs' and hidden_layer_sizes=\(\)"):
        other.set_params(solver="gibbs", hidden_layer_sizes=()).fit(X[TRAIN], y[TRAIN])


def test_without_hidden_layers_it_is_the_factorization_machine():
    X, y = two_classes()
    model = DeepFMClassifier(**DRAWS, hidden_layer_sizes=()).fit(X[TRAIN], y[TRAIN])
    plain = FMClassifier(**DRAWS).fit(X[TRAIN], y[TRAIN])
    assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert model.blend_ is None
