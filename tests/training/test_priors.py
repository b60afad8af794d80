"""Priors of full-batch fits: what the penalty is, and that all engines minimize one objective."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM, DeepFM
from sklearn_fm.training import full_batch
from sklearn_fm.training.loading import make_rows
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss
from sklearn_fm.training.priors import Penalty, Priors

ORDERED = FieldSchema(
    names=("city", "age", "income"),
    kinds=("categorical", "binned", "binned"),
    vocabulary_sizes=(4, 8, 5),
    ordered=(0, 6, 4),  # the last code of age is that of missing
)


def test_neighbours_correlate_by_the_power_of_their_distance():
    """The penalty is that of a normal distribution with variance 1/l2 and correlation .9^|i-j|."""
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    precision = np.eye(17) * 2.5
    for first, count in ((5, 6), (13, 4)):
        here = slice(first, first + count)
        precision[here, here] = 2.5 * np.linalg.inv(0.9 ** distance[:count, :count])
    weight = np.random.default_rng(0).normal(size=(17, 3))
    penalty = Penalty(2.5, ORDERED.ordered_rows)
    assert_allclose(penalty.slope(weight), precision @ weight, rtol=1e-12, atol=1e-12)
    assert_allclose(Penalty(2.5).slope(weight), 2.5 * weight)


def test_which_weights_have_which_prior():
    model = DeepFM(ORDERED, 2, hidden_layer_sizes=(3,))
    priors = Priors(1.0, 2.0, 3.0, smooth=("embedding",))
    one = {name: priors.of(p, model) for name, p in model.named_parameters()}
    assert {name for name, penalty in one.items() if penalty is None} == {
        name for name in one if name.endswith("bias")
    }
    row = np.ones((17, 1))
    assert_allclose(one["linear.weight"].slope(row), row)  # alone
    assert one["embedding.weight"].slope(row)[7] < 2 - 1e-3  # not so between neighbours
    assert_allclose(one["mlp.layers.0.weight"].slope(row), 3 * row)
    assert Priors().of(model.linear.weight, model) is None


@pytest.mark.parametrize(
    ("ordered", "message"), [((1, 0, 0), "only a binned field"), ((0, 8, 0), "less than its")]
)
def test_codes_in_order_are_checked(ordered, message):
    with pytest.raises(ValueError, match=message):
        FieldSchema(ORDERED.names, ORDERED.kinds, ORDERED.vocabulary_sizes, ordered=ordered)


@pytest.mark.parametrize("linear", [(True, True, True), (True, False, True)])
def test_engines_agree(linear, monkeypatch):
    """Products of sparse matrices end where autograd does, and so does the linear term alone."""
    rng = np.random.default_rng(0)
    schema = FieldSchema(
        ORDERED.names, ORDERED.kinds, ORDERED.vocabulary_sizes, ordered=(0, 6, 4), linear=linear
    )
    X = FieldArray(np.column_stack([rng.integers(-1, n, 60) for n in (3, 7, 4)]), schema)
    rows = make_rows(X, rng.integers(0, 2, 60), rng.random(60), dtype=torch.float64)
    priors = Priors(0.5, 0.3, 0.0, ("linear", "embedding"))

    def fit(init_scale=0.5, **params):
        model = FM(schema, 3, init_scale=init_scale).double()
        model.reset_parameters(torch.Generator().manual_seed(0))
        model.frozen_rows = torch.tensor([2])
        start = model.embedding.weight.detach().numpy().copy()
        full_batch.minimize_lbfgs(
            model,
            BinaryLogLoss(),
            rows,
            priors,
            max_iter=500,
            tolerance=1e-9,
            report=lambda loss: False,
            **params,
        )
        return {name: value.numpy() for name, value in model.state_dict().items()}, start

    fast, start = fit()
    assert_array_equal(fast["embedding.weight"][2], start[2])
    assert np.abs(fast["embedding.weight"] - start).max() > 0.1
    alone, start = fit(linear_only=True)
    assert_array_equal(alone["embedding.weight"], start)
    monkeypatch.setattr(full_batch, "is_plain_fm", lambda model: False)
    for name, value in fit()[0].items():
        assert_allclose(fast[name], value, atol=1e-5)
    # Without embeddings there is only the linear term.
    assert_allclose(alone["linear.weight"], fit(init_scale=0.0)[0]["linear.weight"], atol=1e-6)


def test_what_the_quick_engine_takes():
    assert full_batch.is_plain_fm(FM(ORDERED, 2))
    assert not full_batch.is_plain_fm(FM(ORDERED, 2, n_outputs=3))
    assert not full_batch.is_plain_fm(DeepFM(ORDERED, 2))
    bag = FieldSchema(("tags",), ("bag",), (5,), (3,))
    assert not full_batch.is_plain_fm(FM(bag, 2))
    assert full_batch.is_plain_fm(FM(bag, 2, pair_slots=True))


def test_linear_predictions_of_several_outputs():
    model = FM(ORDERED, 2, n_outputs=3, init_scale=0.0).double()
    with torch.no_grad():
        model.linear.weight.copy_(torch.randn(17, 3, generator=torch.Generator().manual_seed(0)))
    X = FieldArray(np.array([[0, 1, 2], [-1, 6, 3]]), ORDERED)
    rows = make_rows(X, np.zeros(2), dtype=torch.float64)
    expected = model(*X.to_torch()).detach().numpy()
    assert_allclose(full_batch.linear_predictions(model, rows), expected)
    assert MultinomialLogLoss(3).n_outputs == expected.shape[1]
