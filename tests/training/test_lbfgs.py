"""Full-batch L-BFGS: equals scikit-learn where it must, and is blind to the order of rows."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM, DeepFM
from sklearn_fm.solvers.merging import merge_equal_rows
from sklearn_fm.training.full_batch import minimize_lbfgs
from sklearn_fm.training.loading import make_rows
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError
from sklearn_fm.training.priors import Priors

CODES = FieldSchema.from_sizes([4, 3])
MIXED = FieldSchema.from_sizes([4, 1, 3])


def some_rows(n=80, seed=0):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(-1, 3, n), rng.integers(-4, 5, n) / 4, rng.integers(-1, 2, n)]
    X = FieldArray(np.column_stack(codes), MIXED)
    target = codes[1] + (codes[0] > 0) + rng.normal(size=n)
    return X, target, rng.integers(1, 4, n).astype(float)


def fit(model, loss, X, target, weight=None, report=lambda record: False, **options):
    rows = make_rows(X, target, weight, positional="fields" in model.reads, dtype=torch.float64)
    priors = Priors(
        **{name.removeprefix("l2_"): options.pop(name) for name in list(options) if "l2_" in name}
    )
    settings = {"max_iter": 1000, "tolerance": 1e-9, **options}
    return minimize_lbfgs(model, loss, rows, priors, report=report, **settings)


def probabilities(model, loss, X):
    with torch.no_grad():
        return loss.predict(model(*X.to_torch()).numpy())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_zero_embeddings_give_logistic_regression(n_classes, weighted):
    X, target, weight = some_rows()
    target = np.digitize(target, [0.5] if n_classes == 2 else [0, 1])
    weight = weight if weighted else None
    loss = BinaryLogLoss() if n_classes == 2 else MultinomialLogLoss(3)
    model = FM(MIXED, 2, n_outputs=loss.n_outputs, init_scale=0).double()
    assert fit(model, loss, X, target, weight, l2_linear=0.5).success
    one_hot = X.to_csr().astype(float)
    truth = LogisticRegression(C=2, tol=1e-10, max_iter=5000).fit(one_hot, target, weight)
    assert_allclose(probabilities(model, loss, X), truth.predict_proba(one_hot), atol=1e-5)
    if n_classes == 2:
        assert_allclose(model.linear.weight.detach().T, truth.coef_, atol=1e-5)
        assert_allclose(model.bias.detach(), truth.intercept_, atol=1e-5)


def test_zero_embeddings_give_ridge():
    X, target, weight = some_rows()
    model = FM(MIXED, 2, init_scale=0).double()
    fit(model, SquaredError(), X, target, weight, l2_linear=0.5)
    one_hot = X.to_csr().toarray().astype(float)
    truth = Ridge(alpha=0.5).fit(one_hot, target, weight)
    assert_allclose(probabilities(model, SquaredError(), X), truth.predict(one_hot), atol=1e-5)


@pytest.mark.parametrize("name", ["FM", "DeepFM"])
def test_it_ends_where_the_gradient_of_the_objective_is_zero(name):
    """sum w l plus the priors over the whole table and the dense weights; biases have none."""
    X, target, weight = some_rows()
    if name == "FM":
        model = FM(MIXED, 2, n_outputs=3, init_scale=0.5)
        loss = MultinomialLogLoss(3)
    else:
        model = DeepFM(MIXED, 2, hidden_layer_sizes=(3,), activation="tanh", init_scale=0.5)
        loss = BinaryLogLoss()
    target = np.digitize(target, [0, 1] if name == "FM" else [0.5])
    model.double().reset_parameters(torch.Generator().manual_seed(0))
    penalties = {"l2_linear": 0.5, "l2_embedding": 1.0, "l2_dense": 2.0}
    assert fit(model, loss, X, target, weight, **penalties).success
    rows = make_rows(X, target, weight, dtype=torch.float64).take(slice(None))
    model.zero_grad()
    raw = model(rows.indices, rows.values)
    objective = (loss.value(raw, rows) * rows.weight).sum()
    for key, p in model.named_parameters():
        part = key.split(".")[0]
        part = part if part in ("linear", "embedding") else "dense"
        if p.ndim > 1:
            objective = objective + penalties[f"l2_{part}"] / 2 * p.square().sum()
    objective.backward()
    for key, p in model.named_parameters():
        assert_allclose(p.grad, 0, atol=1e-4, err_msg=key)
    assert model.embedding.weight.abs().max() > 1e-3  # not the saddle at zero


def test_report_sees_each_iteration_and_may_stop():
    X, target, _ = some_rows()
    model = FM(MIXED, 2).double()
    model.reset_parameters(torch.Generator().manual_seed(0))
    seen = []

    def report(train_loss):
        seen.append(train_loss)
        rows = make_rows(X, target, dtype=torch.float64).take(slice(None))
        with torch.no_grad():
            now = SquaredError().value(model(rows.indices, rows.values), rows).mean()
        assert_allclose(train_loss, now, rtol=1e-10)  # the model is up to date
        return len(seen) == 3

    fit(model, SquaredError(), X, target, report=report, l2_linear=1.0)
    assert len(seen) == 3
    assert seen == sorted(seen, reverse=True)


def test_max_iter_is_told_by_the_status():
    X, target, _ = some_rows()
    result = fit(FM(MIXED, 2).double(), SquaredError(), X, target, max_iter=2)
    assert (result.status, result.nit) == (1, 2)


def test_threads_are_given_back():
    torch.set_num_threads(2)
    X, target, _ = some_rows()
    fit(FM(MIXED, 2).double(), SquaredError(), X, target, max_iter=2)
    assert torch.get_num_threads() == 2


# -- equal rows --------------------------------------------------------------------------


def integer_rows():
    rng = np.random.default_rng(1)
    X = FieldArray(rng.integers(-1, 2, (40, 2)), CODES)
    return X, rng.integers(0, 2, 40).astype(float), rng.integers(1, 4, 40).astype(float)


def csr_rows():
    X, target, weight = some_rows(40)
    X = FieldArray(np.round(np.asarray(X)), MIXED)
    return sparse.csr_array(X.to_csr().astype(float)), np.sign(target), weight


def mixed_rows():
    X, target, weight = some_rows(40)
    values = np.round(np.asarray(X))
    values[::7, 1] = np.nan
    values[1::7, 1] = -0.0
    return FieldArray(values, MIXED), np.sign(target), weight


MAKERS = {"codes": integer_rows, "numbers": mixed_rows, "csr": csr_rows}
all_makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def assert_bits_equal(a, b):
    for x, y in zip(a, b, strict=True):
        if sparse.issparse(x):
            for part in ("indptr", "indices", "data"):
                assert_array_equal(getattr(x, part), getattr(y, part))
        else:
            assert_array_equal(x, y)
            assert getattr(x, "schema", None) == getattr(y, "schema", None)


@all_makers
def test_merged_rows_are_distinct_and_keep_all_weight(make):
    X, target, weight = make()
    merged, y, w = merge_equal_rows(X, target, weight)
    assert len(y) == len(w) == merged.shape[0] < len(target)
    assert w.sum() == weight.sum()

    def totals(X, target, weight):
        dense = np.nan_to_num(X.toarray() if sparse.issparse(X) else np.asarray(X), nan=99)
        found = {}
        for row, t, v in zip(dense + 0.0, target, weight, strict=True):
            key = (*row.tolist(), t)
            found[key] = found.get(key, 0) + v
        return found

    assert totals(merged, y, w) == totals(X, target, weight)
    assert len(totals(merged, y, w)) == len(y)


@all_makers
def test_weights_and_repeated_rows_in_any_order_give_the_same_bits(make):
    X, target, weight = make()
    merged = merge_equal_rows(X, target, weight)
    rows = np.repeat(np.arange(len(target)), weight.astype(int))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(rows)
        repeated = merge_equal_rows(X[order], target[order], np.ones(len(order)))
        assert_bits_equal(repeated, merged)


@all_makers
def test_merging_fractional_weights_is_blind_to_the_order_of_rows(make):
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in their last bit."""
    X, target, weight = make()
    weight = weight / 10
    merged = merge_equal_rows(X, target, weight)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(target))
        assert_bits_equal(merge_equal_rows(X[order], target[order], weight[order]), merged)


def test_equal_rows_of_different_targets_stay_apart():
    X = FieldArray([[1, 1], [1, 1], [1, 1]], CODES)
    merged, target, weight = merge_equal_rows(X, np.array([0.0, 1.0, 0.0]), np.array([1.0, 2, 3]))
    assert merged.schema == CODES
    assert merged.tolist() == [[1, 1], [1, 1]]
    assert dict(zip(target, weight, strict=True)) == {0.0: 4, 1.0: 2}


def test_a_fit_on_weights_is_bit_equal_to_a_fit_on_repeats():
    X, target, weight = integer_rows()
    start = FM(CODES, 2).double()
    start.reset_parameters(torch.Generator().manual_seed(0))
    order = np.random.default_rng(0).permutation(
        np.repeat(np.arange(len(target)), weight.astype(int))
    )
    fitted = []
    for rows in ((X, target, weight), (X[order], target[order], np.ones(len(order)))):
        model = copy.deepcopy(start)
        fit(model, BinaryLogLoss(), *merge_equal_rows(*rows), l2_linear=1.0, l2_embedding=1.0)
        fitted.append(model.state_dict())
    assert all(torch.equal(fitted[0][key], fitted[1][key]) for key in fitted[0])
