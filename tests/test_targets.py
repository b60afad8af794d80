"""What y becomes: its scale, what of it is public, the weights that classes add.

Which losses compare it with predictions is tested in ``training/test_losses``.
"""

import numpy as np
import pytest
import torch
from public import ESTIMATORS, takes_solver
from scipy.special import expit
from sklearn.base import is_regressor
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from sklearn_fm import FieldArray, FieldSchema, FMClassifier, FMRegressor

SCHEMA = FieldSchema.from_sizes([12, 9])
RNG = np.random.RandomState(0)
X = FieldArray(np.column_stack([RNG.randint(0, 11, 300), RNG.randint(0, 8, 300)]), SCHEMA)
TARGET = RNG.randn(11)[X[:, 0]] + RNG.randn(8)[X[:, 1]] + 0.1 * RNG.randn(300) + 3
PARAMS = {"solver": "adagrad", "max_epochs": 6, "batch_size": 32, "random_state": 0}
REGRESSORS = [cls for cls in ESTIMATORS if is_regressor(cls())]


def settings(solver, **params):
    few = {"n_sweeps": 10} if solver == "gibbs" else {}
    return {**PARAMS, "solver": solver, "tol": 0.1, **few, **params}


# -- scale -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("power", [-240, -45, 300])
@pytest.mark.parametrize("y_range", [None, (-3.0, 9.0)])
@pytest.mark.parametrize("solver", ["adagrad", "lbfgs", "als", "gibbs"])
def test_targets_times_a_power_of_two(solver, y_range, power):
    """Below a standard deviation of 1e-12 a target was taken for constant: predictions were noise.

    A power of two rounds nothing, so predictions are multiplied by it to the last bit.
    """
    unit = 2.0**power

    def predicted(times):
        ends = None if y_range is None else tuple(end * times for end in y_range)
        model = FMRegressor(**settings(solver, y_range=ends))
        held_out = X[200:], TARGET[200:] * times
        if solver == "gibbs":
            return model.fit(X, TARGET * times).predict(X)
        return model.fit(X[:200], TARGET[:200] * times, eval_set=held_out).predict(X)

    if solver == "als" and y_range is not None:
        pytest.skip("als has no y_range")
    assert np.array_equal(predicted(unit), predicted(1.0) * unit)


@pytest.mark.parametrize(("center", "spread"), [(0.0, 1e-90), (1e9, 1e-4), (-1.0, 1e-13)])
def test_a_small_spread_is_a_spread(center, spread):
    """As long as float64 holds the differences, they are learned."""
    y = center + spread * (TARGET - 3)
    model = FMRegressor(**{**PARAMS, "max_epochs": 60}, early_stopping=False).fit(X, y)
    assert np.corrcoef(model.predict(X) - center, TARGET)[0, 1] > 0.97


@pytest.mark.parametrize("constant", [0.0, 5.0, -1e9, 1e-90])
@pytest.mark.parametrize("solver", ["adagrad", "lbfgs"])
def test_a_constant_target(solver, constant):
    """Its spread is the rounding error of a mean, which is no scale."""
    y = np.full(300, constant)
    model = FMRegressor(**settings(solver, max_epochs=60)).fit(X, y)
    assert model.predict(X) == pytest.approx(y, rel=1e-3, abs=1e-2 * (constant == 0))


def test_a_target_much_narrower_than_its_range():
    """Numbers of 32 bits tell no millionth parts of a range, so they are no unit in it."""
    y = 3 + 1e-9 * TARGET
    model = FMRegressor(**{**PARAMS, "max_epochs": 60}, y_range=(0, 6)).fit(X, y)
    assert model.predict(X) == pytest.approx(y, abs=0.05)


@pytest.mark.parametrize("scale", [1e-200, 1e-320, 1e200])
def test_targets_whose_squares_float64_cannot_hold(scale):
    with pytest.raises(ValueError, match=r"expected that to be from 1e-100 to 1e100.*Rescale"):
        FMRegressor(**PARAMS).fit(X, TARGET * scale)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("y_range", [None, (-3.0, 9.0)])
@pytest.mark.parametrize("solver", ["adagrad", "lbfgs", "als"])
@pytest.mark.parametrize("cls", REGRESSORS, ids=lambda cls: cls.__name__)
def test_predictions_from_the_module(cls, solver, y_range):
    """It gives numbers in units of the target's spread, of which nothing public told."""
    if not takes_solver(cls, solver) or (solver == "als" and y_range):
        pytest.skip(f"{cls.__name__} has no {solver} with y_range={y_range}")
    model = cls(**settings(solver), y_range=y_range).fit(X, TARGET)
    codes = torch.from_numpy(X.indices.copy()), torch.from_numpy(X.values.copy())
    with torch.no_grad():
        raw = model.module_(codes[0], codes[1].to(model.module_.bias.dtype))[:, 0].double().numpy()
    if y_range is None:
        expected = model.target_mean_ + model.target_scale_ * raw
    else:
        expected = y_range[0] + (y_range[1] - y_range[0]) * expit(raw)
    assert model.predict(X) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert model.target_mean_ == pytest.approx(TARGET.mean())
    assert model.target_scale_ == pytest.approx(TARGET.std())


# -- weights of classes ------------------------------------------------------------------------

LABELS = np.where(np.quantile(TARGET, 0.8) < TARGET, "rare", "usual")


def test_balanced_weights_are_not_worked_out_from_a_part_of_the_rows():
    """Each call of partial_fit balanced its own rows: with sorted days the mean was .29 for .41.

    scikit-learn refuses it likewise, and the weights can be given.
    """
    classes = np.unique(LABELS)
    model = FMClassifier(**PARAMS, class_weight="balanced")
    with pytest.raises(ValueError, match=r"compute_class_weight\(.*class_weight=dict"):
        model.partial_fit(X, LABELS, classes=classes)
    with pytest.raises(ValueError, match="compute_class_weight"):
        model.fit(X, LABELS).partial_fit(X, LABELS)
    with pytest.raises(ValueError, match="compute_class_weight"):
        SGDClassifier(class_weight="balanced").partial_fit(X, LABELS, classes=classes)
    weights = compute_class_weight("balanced", classes=classes, y=LABELS)
    model = FMClassifier(**PARAMS, class_weight=dict(zip(classes, weights, strict=True)))
    by_weight = FMClassifier(**PARAMS)
    for rows in (LABELS == "rare", LABELS == "usual"):
        model.partial_fit(X[rows], LABELS[rows], classes=classes)
        each = compute_sample_weight("balanced", LABELS)[rows]
        by_weight.partial_fit(X[rows], LABELS[rows], classes=classes, sample_weight=each)
    assert np.array_equal(model.predict_proba(X), by_weight.predict_proba(X))


def test_an_eval_set_is_weighted_by_the_classes_of_the_training_data():
    """It was balanced by its own labels, so the loss that stops the training was another one."""
    rare = np.flatnonzero(LABELS == "rare")
    watched = np.concatenate([rare[:30], np.flatnonzero(LABELS == "usual")[:10]])
    train = np.setdiff1d(np.arange(300), watched)
    model = FMClassifier(**PARAMS, class_weight="balanced", early_stopping=False)
    model.fit(X[train], LABELS[train], eval_set=(X[watched], LABELS[watched]))
    weights = compute_class_weight("balanced", classes=model.classes_, y=LABELS[train])
    each = weights[np.searchsorted(model.classes_, LABELS[watched])]
    proba = model.predict_proba(X[watched])
    loss = log_loss(LABELS[watched], proba, sample_weight=each)
    assert model.history_.valid_loss.iloc[-1] == pytest.approx(loss, rel=1e-5)
    own = compute_sample_weight("balanced", LABELS[watched])
    assert log_loss(LABELS[watched], proba, sample_weight=own) != pytest.approx(loss, rel=0.05)


def test_an_eval_set_outside_the_range_is_refused():
    model = FMRegressor(**PARAMS, y_range=(-5, 9))
    with pytest.raises(ValueError, match="outside"):
        model.fit(X, TARGET, eval_set=(X, TARGET + 20))
