"""One step: its gradients against autograd, its penalties against the objective, its promises."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from model_cases import MODEL_CASES, make_model
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM, MF, DeepFM
from sklearn_fm.training.loading import make_rows
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError
from sklearn_fm.training.options import StepOptions
from sklearn_fm.training.rows import Batch
from sklearn_fm.training.rules import ROW_RULES
from sklearn_fm.training.torch_step import TorchStepper

SCHEMA = FieldSchema.from_sizes([5, 1, 4])
PLAIN = {"solver": "sgd", "solver_dense": "sgd"}

MODELS = {
    "FM": lambda: (FM(SCHEMA, 3), BinaryLogLoss()),
    "FM of 3 classes": lambda: (FM(SCHEMA, 3, n_outputs=3), MultinomialLogLoss(3)),
    "MF": lambda: (MF(SCHEMA, 3), SquaredError(0.5, 2.0)),
    "DeepFM": lambda: (
        DeepFM(SCHEMA, 3, hidden_layer_sizes=(4, 3), batch_norm=True),
        BinaryLogLoss(),
    ),
    "DeepFM of 3 classes": lambda: (
        DeepFM(SCHEMA, 3, hidden_layer_sizes=(4,), n_outputs=3),
        MultinomialLogLoss(3),
    ),
}


def _with_loss(name, options):
    n_outputs = options["n_outputs"]
    loss = BinaryLogLoss() if n_outputs == 1 else MultinomialLogLoss(n_outputs)
    return make_model(name, SCHEMA, **options), loss


MODELS |= {case: partial(_with_loss, *parts) for case, parts in MODEL_CASES.items()}
all_models = pytest.mark.parametrize("name", MODELS)


def make(name="DeepFM"):
    """A model in float64 with every parameter drawn, and its loss."""
    model, loss = MODELS[name]()
    model.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model, loss


def some_batch(B=32, *, n_classes=2, seed=1, weight=None):
    """Rows in which each index occurs many times."""
    rng = np.random.default_rng(seed)
    indices = np.column_stack([rng.integers(0, 4, B), np.full(B, 5), rng.integers(6, 10, B)])
    values = np.ones((B, 3))
    values[:, 1] = rng.normal(size=B)
    weight = rng.uniform(0.5, 2, B) if weight is None else np.full(B, weight)
    arrays = indices.astype(np.int32), values, rng.integers(0, n_classes, B).astype(float), weight
    return Batch(*(torch.from_numpy(a) for a in arrays))


def stepper(model, loss, total_weight=1000.0, batch_size=32, **options):
    model.train()
    generator = torch.Generator().manual_seed(0)
    return TorchStepper(model, loss, StepOptions(**options), total_weight, generator, batch_size)


def copy_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def changes(model, before):
    return {key: (before[key] - p.detach()).numpy() for key, p in model.named_parameters()}


# -- gradients ---------------------------------------------------------------------------


@all_models
@pytest.mark.parametrize("B", [1, 32])
def test_gradients_are_those_of_autograd_through_forward(name, B):
    """Plain descent of rate B subtracts the gradient of the batch's summed weighted loss."""
    model, loss = make(name)
    batch, before = some_batch(B, n_classes=loss.n_outputs), copy_of(model)
    twin = copy.deepcopy(model).train()
    value = (loss.value(twin(batch.indices, batch.values), batch) * batch.weight).sum()
    value.backward()
    rates = {"learning_rate": float(B), "learning_rate_dense": float(B)}
    step = stepper(model, loss, batch_size=B, **PLAIN, **rates)
    assert_allclose(step.step(batch), value.detach(), rtol=1e-12)
    step.settle()
    for (key, parameter), change in zip(
        twin.named_parameters(), changes(model, before).values(), strict=True
    ):
        assert_allclose(change, parameter.grad, rtol=1e-9, atol=1e-11, err_msg=key)


def test_an_index_twice_in_one_row_sums_its_gradients():
    """As in rows of a sparse matrix with several entries of one column, and in padded ones."""
    model, loss = make("FM")
    indices = torch.tensor([[1, 1, 5, 0], [1, 7, 7, 1]])
    values = torch.tensor([[1.0, 0.5, 2.0, 0.0], [1.0, -1.0, 3.0, 0.25]]).double()
    batch = Batch(indices, values, torch.tensor([0.0, 1.0]).double(), torch.ones(2).double())
    twin, before = copy.deepcopy(model), copy_of(model)
    loss.value(twin(indices, values), batch).sum().backward()
    rates = {"learning_rate": 2.0, "learning_rate_dense": 2.0}
    stepper(model, loss, batch_size=2, **PLAIN, **rates).step(batch)
    for (key, p), change in zip(
        twin.named_parameters(), changes(model, before).values(), strict=True
    ):
        assert_allclose(change, p.grad, rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("l2", [0.0, 2.0])
@all_models
def test_a_short_batch_counts_for_less(name, l2):
    """A row pulls as hard in the last batch of an epoch as in a full one, penalties too."""

    def move(batch_size):
        model, loss = make(name)
        batch, before = some_batch(n_classes=loss.n_outputs), copy_of(model)
        rates = {"learning_rate": 1e-6, "learning_rate_dense": 1e-6}
        penalties = {"l2_linear": l2, "l2_embedding": l2, "l2_dense": l2}
        step = stepper(model, loss, batch_size=batch_size, **PLAIN, **rates, **penalties)
        step.step(batch)
        step.settle()
        return changes(model, before)

    full, short = move(32), move(128)
    for key, change in full.items():
        assert_allclose(short[key], change / 4, rtol=1e-4, atol=1e-13, err_msg=key)


@pytest.mark.parametrize("solver", ["adagrad", "adam", "ftrl"])
def test_adaptive_rules_of_the_tables_see_summed_gradients(solver):
    """So that an index moves alike whatever the size of the batch it occurs in."""
    ends = []
    for batch_size in (32, 128):
        model, loss = make("FM")
        step = stepper(model, loss, batch_size=batch_size, solver=solver, l2_linear=2.0)
        step.step(some_batch())
        step.settle()
        ends.append(copy_of(model))
    for key in ends[0]:
        assert torch.equal(*(end[key] for end in ends)), key


@pytest.mark.parametrize("name", ["FM", "FM of 3 classes", "DeepFM"])
@pytest.mark.parametrize("solver", sorted(ROW_RULES))
def test_the_bias_is_trained_by_the_rule_of_the_tables(solver, name):
    """As one more row, with the tables' learning rate."""
    model, loss = make(name)
    batch, before = some_batch(n_classes=loss.n_outputs), copy_of(model)
    twin = copy.deepcopy(model).train()
    value = (loss.value(twin(batch.indices, batch.values), batch) * batch.weight).sum()
    g = torch.autograd.grad(value, twin.bias)[0].numpy()
    step = stepper(model, loss, solver=solver, learning_rate=0.2, learning_rate_dense=0.0)
    assert set(step.rules) == {"linear", "embedding", "bias"}
    optimized = [p for group in step.optimizer.param_groups for p in group["params"]]
    assert all(p is not model.bias for p in [*step.dense, *optimized])
    step.step(batch)
    direction = {
        "sgd": g / 32,
        "adam": np.sign(g),
        "adagrad": g / np.sqrt(0.1 + (g**2).mean()),
        "ftrl": g / np.sqrt(0.1 + g**2),
    }
    assert_allclose(changes(model, before)["bias"], 0.2 * direction[solver], rtol=1e-6)


@pytest.mark.parametrize("name", ["FM", "DeepFM"])
@pytest.mark.parametrize("solver", sorted(ROW_RULES))
def test_a_slot_of_value_zero_is_no_occurrence_of_its_index(solver, name):
    """Nothing is noted of the index, whether the slot is padding or a number that is 0."""
    model, loss = make(name)
    step = stepper(model, loss, solver=solver, l2_linear=1.0, l2_embedding=1.0)
    batch = some_batch()
    empty, seen = batch.indices[:, 0] == 3, batch.indices[:, 2] == 7
    assert empty.any()
    assert seen.sum() > 1
    batch.values[empty, 0] = 0.0
    batch.values[:, 1] = 0.0
    batch.values[seen.nonzero()[0], 2] = 0.0  # once without, else with a value
    before = copy_of(model)
    state = {key: value.clone() for key, value in step.table_state().items()}
    step.step(batch)
    moved = (model.linear.weight != before["linear.weight"]).any(dim=1)
    expected = set(batch.indices[batch.values != 0].tolist())
    assert expected & {3, 5, 7} == {7}
    assert set(moved.nonzero().flatten().tolist()) == expected
    for key, value in step.table_state().items():
        if len(value) == SCHEMA.table_size:
            noted = (value != state[key]).any(dim=1)
            assert set(noted.nonzero().flatten().tolist()) == expected, key
    if solver == "adam":
        for table in ("linear", "embedding"):
            count = step.rules[table].count.flatten()
            assert count[[3, 5]].tolist() == [0, 0]
            assert count[7] == 1


@pytest.mark.parametrize("solver", sorted(ROW_RULES))
@pytest.mark.parametrize("n_slots", [0, 2])
def test_rows_without_a_value_train_the_bias_alone(solver, n_slots):
    """Empty rows of a sparse matrix, padded to the longest of their batch or not at all."""
    model, loss = make("FM")
    indices = torch.zeros(4, n_slots, dtype=torch.int32)
    values = torch.zeros(4, n_slots, dtype=torch.float64)
    ones = torch.ones(4, dtype=torch.float64)
    before = copy_of(model)
    stepper(model, loss, solver=solver).step(Batch(indices, values, ones, ones))
    moved = {key for key, change in changes(model, before).items() if change.any()}
    assert moved == {"bias"}


@all_models
@pytest.mark.parametrize("solver", sorted(ROW_RULES))
@pytest.mark.parametrize("solver_dense", ["adam", "adagrad", "sgd"])
def test_every_solver_lowers_the_loss(name, solver, solver_dense):
    model, loss = make(name)
    batch = some_batch(n_classes=loss.n_outputs)
    step = stepper(model, loss, solver=solver, solver_dense=solver_dense, learning_rate_dense=0.02)
    losses = [float(step.step(batch)) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


# -- penalties ---------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1.0, 3.0, None])
@pytest.mark.parametrize("name", ["FM of 3 classes", "DeepFM", "DeepFM of 3 classes"])
def test_a_step_descends_the_weighted_objective(name, weight):
    """sum w l + l2_linear/2 |w|^2 + l2_embedding/2 |V|^2 + l2_dense/2 |dense weights|^2.

    On all rows in one batch, plain descent moves every parameter along this gradient over
    B, whatever the mean sample weight; the catch-up is of second order in the rate.
    """
    model, loss = make(name)
    batch, before = some_batch(n_classes=loss.n_outputs, weight=weight), copy_of(model)
    penalties = {"l2_linear": 20.0, "l2_embedding": 30.0, "l2_dense": 40.0}
    twin = copy.deepcopy(model).train()
    value = (loss.value(twin(batch.indices, batch.values), batch) * batch.weight).sum()
    for key, p in twin.named_parameters():
        part = key.split(".")[0]
        if part in ("linear", "embedding"):
            value = value + penalties[f"l2_{part}"] / 2 * p.square().sum()
        elif p.ndim > 1:  # biases and scales have no prior
            value = value + penalties["l2_dense"] / 2 * p.square().sum()
    value.backward()
    rate = 1e-6
    step = stepper(
        model,
        loss,
        float(batch.weight.sum()),
        **PLAIN,
        **penalties,
        learning_rate=rate,
        learning_rate_dense=rate,
    )
    step.step(batch)
    step.settle()
    for (key, p), change in zip(
        twin.named_parameters(), changes(model, before).values(), strict=True
    ):
        assert_allclose(change * 32 / rate, p.grad, rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("l2_linear", [0.5, 5.0])
@pytest.mark.parametrize("task", ["binary", "regression", "multinomial"])
def test_descent_ends_at_the_linear_model_of_scikit_learn(task, l2_linear):
    """Embeddings at 0 stay there; l2_linear is LogisticRegression's 1/C and Ridge's alpha."""
    rng = np.random.default_rng(0)
    X = FieldArray(
        np.column_stack([rng.integers(-1, 4, 64), rng.integers(-4, 5, 64) / 4]),
        FieldSchema.from_sizes([5, 1]),
    )
    target = X[:, 1] + (X[:, 0] > 1) + rng.normal(size=64)
    one_hot = X.to_csr().astype(float)
    if task == "regression":
        loss, truth = SquaredError(), Ridge(alpha=l2_linear, tol=1e-12)
        truth.fit(one_hot.toarray(), target)
    else:
        loss = BinaryLogLoss() if task == "binary" else MultinomialLogLoss(3)
        target = np.digitize(target, [0.5] if task == "binary" else [0, 1]).astype(float)
        truth = LogisticRegression(C=1 / l2_linear, tol=1e-10, max_iter=1000)
        truth.fit(one_hot, target)
    model = FM(X.schema, 2, n_outputs=loss.n_outputs, init_scale=0).double()
    rows = make_rows(X, target, dtype=torch.float64)
    rate = 0.25
    step = stepper(model, loss, 64, 64, **PLAIN, learning_rate=rate, l2_linear=l2_linear)
    batch = rows.take(slice(None))
    for _ in range(900):
        step.step(batch)
    step.settle()
    assert (model.embedding.weight == 0).all()
    # exp(-x) for 1 - x shrinks by a factor of 1 - rate * l2 / (2 * 64) too little
    tolerance = 1e-4 + rate * l2_linear / 64
    with torch.no_grad():
        raw = model(*X.to_torch()).numpy()
    if task == "regression":
        assert_allclose(raw[:, 0], truth.predict(one_hot.toarray()), atol=tolerance)
    else:
        assert_allclose(loss.predict(raw), truth.predict_proba(one_hot), atol=tolerance)


@pytest.mark.parametrize("batch_size", [64, 16])
@pytest.mark.parametrize("l2_linear", [0.0, 2.0])
def test_ftrl_ends_at_the_elastic_net_of_scikit_learn(l2_linear, batch_size):
    """The bias has no prior, no more than scikit-learn's intercept."""
    rng = np.random.default_rng(0)
    X = FieldArray(
        np.column_stack([rng.integers(-1, 4, 64), rng.integers(-4, 5, 64) / 4]),
        FieldSchema.from_sizes([5, 1]),
    )
    target = 3 + X[:, 1] + (X[:, 0] > 2) + 0.5 * rng.normal(size=64)
    one_hot, l1_linear = X.to_csr().astype(float).toarray(), 3.0
    strength = l1_linear + l2_linear
    truth = ElasticNet(strength / 64, l1_ratio=l1_linear / strength, tol=1e-12, max_iter=10**5)
    truth.fit(one_hot, target)
    model = FM(X.schema, 2, init_scale=0).double()
    rows = make_rows(X, target, dtype=torch.float64)
    penalties = {"l1_linear": l1_linear, "l2_linear": l2_linear}
    step = stepper(
        model, SquaredError(), 64, batch_size, solver="ftrl", learning_rate=0.5, **penalties
    )
    for _ in range(500 if batch_size == 64 else 200):
        step.run(rows, rows.shuffled(step.generator))
        step.settle()
    w = model.linear.weight.detach().flatten().numpy()
    tolerance = 1e-3 if batch_size == 64 else 1e-2
    assert_allclose(w, truth.coef_, atol=tolerance)
    assert_allclose(model.bias.detach(), truth.intercept_, atol=tolerance)
    assert_array_equal(w == 0, truth.coef_ == 0)
    assert 0 < (w == 0).sum() < len(w)


@pytest.mark.parametrize("solver", sorted(ROW_RULES))
def test_penalties_may_change_between_steps(solver):
    """Where all has been paid, a stepper goes on as if it had been made with the new ones."""
    options = {"solver": solver, "l2_linear": 1.0, "l2_embedding": 2.0}
    step = stepper(*make("FM"), **options)
    assert step.penalties == {"linear": 1, "embedding": 2}
    step.step(some_batch())
    step.settle()
    new = {**options, "l2_linear": 7.0, "l2_embedding": 8.0}
    other = stepper(copy.deepcopy(step.model), step.loss, **new)
    other.load_state(step.state())
    step.set_penalty("linear", 7.0)
    step.set_penalty("embedding", 8.0)
    assert step.penalties == other.penalties == {"linear": 7, "embedding": 8}
    now = {name: rule.penalty for name, rule in step.rules.items()}
    assert now == {"linear": 7, "embedding": 8, "bias": 0}
    ends = [go_on(each, [some_batch(seed=5), some_batch(seed=6)]) for each in (step, other)]
    for key in ends[0]:
        assert torch.equal(*(end[key] for end in ends)), key


# -- runs over many rows -----------------------------------------------------------------


def some_rows(n=40):
    batch = some_batch(n)
    codes = batch.indices.numpy() - np.array([[0, 5, 6]])
    X = FieldArray(np.column_stack([codes[:, 0] - 1, batch.values[:, 1], codes[:, 2] - 1]), SCHEMA)
    return make_rows(X, batch.target.numpy(), batch.weight.numpy(), dtype=torch.float64)


@pytest.mark.parametrize("name", ["FM", "DeepFM"])
@pytest.mark.parametrize("subset", [False, True])
def test_a_run_is_its_steps(name, subset):
    """On consecutive batches of the order given, the last of them short."""
    rows = some_rows()
    if subset:
        rows = rows.subset(torch.arange(40).flip(0)[:37])
    order = rows.shuffled(torch.Generator().manual_seed(0))[:35]
    options = {"batch_size": 16, "unknown_dropout": 0.2, "l2_linear": 1.0, "l2_embedding": 2.0}
    step, other = (stepper(*make(name), **options) for _ in range(2))
    losses = step.run(rows, order)
    expected = [other.step(rows.take(order[a:b])) for a, b in ((0, 16), (16, 32), (32, 35))]
    assert isinstance(losses, np.ndarray)
    assert_array_equal(losses, torch.stack(expected).numpy())
    for each in (step, other):
        each.settle()
    for key, value in copy_of(step.model).items():
        assert torch.equal(value, other.model.state_dict()[key]), key


def test_a_run_ends_at_the_first_loss_that_is_not_finite():
    rows = some_rows()
    rows.target[20] = float("nan")
    step, other = (stepper(*make("DeepFM"), batch_size=8) for _ in range(2))
    losses = step.run(rows, torch.arange(40))
    assert np.isfinite(losses).tolist() == [True, True, False]
    other.run(rows, torch.arange(16))
    for key, value in copy_of(step.model).items():
        assert torch.equal(value, other.model.state_dict()[key]), key
    assert_trees_equal(step.state(), other.state())


# -- promises ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", sorted(ROW_RULES))
@pytest.mark.parametrize("name", ["FM", "DeepFM"])
@pytest.mark.parametrize("fault", ["target", "weight", "values"])
def test_a_loss_that_is_not_finite_updates_nothing(name, solver, fault):
    """Neither weights nor the solver's state; the loss comes back for the caller to see."""
    model, loss = make(name)
    step = stepper(model, loss, solver=solver, l2_linear=1.0, l2_embedding=1.0)
    step.step(some_batch())
    bad = some_batch(seed=2)
    getattr(bad, fault).reshape(-1)[1] = float("nan")
    before, state = copy_of(model), copy.deepcopy(step.state())
    value = step.step(bad)
    assert not torch.isfinite(value)
    assert not value.requires_grad
    assert_trees_equal(step.state(), state)
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, before[key]), key


def test_a_loss_that_is_not_finite_leaves_running_statistics():
    """Batch normalization notes a batch while predicting; a NaN there would stay for good."""
    model, loss = make("DeepFM")
    step = stepper(model, loss)
    step.step(some_batch())
    bad = some_batch(seed=2)
    bad.values[1, 1] = float("nan")
    before = copy_of(model)
    assert not torch.isfinite(step.step(bad))
    for key, buffer in model.named_buffers():
        assert torch.equal(buffer, before[key]), key


def test_unknown_dropout_trains_unknown_rows_with_the_asked_share():
    """With raw predictions 0 and targets 1, a row's gradient counts its occurrences."""
    schema = FieldSchema(("a", "n", "b"), ("categorical", "numeric", "binned"), (3, 1, 4))
    model, B = FM(schema, 2, init_scale=0).double(), 20_000
    indices = torch.tensor([[1, 3, 6]], dtype=torch.int32).expand(B, -1)
    one = torch.ones(B, dtype=torch.float64)
    batch = Batch(indices, torch.ones(B, 3, dtype=torch.float64), one, one)
    options = {"learning_rate": 1.0, "unknown_dropout": 0.3}
    step = stepper(model, SquaredError(), batch_size=B, **PLAIN, **options)
    step.step(batch)
    occurrence = model.linear.weight.detach().flatten().numpy()  # shares of the batch
    assert_allclose(occurrence[[0, 4]], 0.3, atol=0.015)  # 4 to 5 standard deviations
    assert_allclose(occurrence[[1, 6]], 1 - occurrence[[0, 4]], rtol=1e-12)
    assert_allclose(occurrence[3], 1, rtol=1e-12)  # the numeric slot
    assert (occurrence[[2, 5]] == 0).all()
    assert occurrence[0] != occurrence[4]  # fields are dropped independently
    assert (indices == torch.tensor([1, 3, 6])).all()  # the caller's batch is left alone


def test_unknown_dropout_of_zero_and_one():
    model, loss = make("FM")
    batch = some_batch()
    batch.indices[:, [0, 2]] = torch.tensor([2, 8], dtype=torch.int32)
    for share, touched in ((0.0, [2, 5, 8]), (1.0, [0, 5, 6])):
        before = copy_of(model)
        stepper(model, loss, **PLAIN, unknown_dropout=share).step(batch)
        moved = np.flatnonzero(changes(model, before)["linear.weight"])
        assert moved.tolist() == touched


@pytest.mark.parametrize("l2_dense", [0.0, 50.0])
@all_models
def test_gradient_clip_limits_the_norm_of_the_mean_gradient(name, l2_dense):
    """Over all parameters together, keeping the direction."""

    def move(clip):
        model, loss = make(name)
        batch, before = some_batch(n_classes=loss.n_outputs), copy_of(model)
        rates = {"learning_rate": 1.0, "learning_rate_dense": 1.0}
        step = stepper(model, loss, **PLAIN, **rates, gradient_clip=clip, l2_dense=l2_dense)
        step.step(batch)
        return np.concatenate([change.ravel() for change in changes(model, before).values()])

    free = move(None)
    norm = np.linalg.norm(free)
    assert_allclose(move(norm * 2), free, rtol=1e-12)
    assert_allclose(move(norm / 3), free / 3, rtol=1e-9, atol=1e-12)


def test_learning_rates_of_both_groups():
    step = stepper(*make(), learning_rate=0.4, learning_rate_dense=0.02)
    assert step.learning_rates == (0.02, 0.4)
    step.set_learning_rates(0.01, 0.3)
    assert step.learning_rate == 0.3
    assert [group["lr"] for group in step.optimizer.param_groups] == [0.01, 0.3]


# -- state -------------------------------------------------------------------------------


def assert_trees_equal(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_trees_equal(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_trees_equal(x, y)
    else:
        assert np.array_equal(a, b)


SOLVERS = list(itertools.product(sorted(ROW_RULES), ["adam", "adagrad", "sgd"]))


def halfway(solver, solver_dense):
    """A stepper after a settled epoch, and the batches of the next one."""
    model, loss = make()
    options = {"solver": solver, "solver_dense": solver_dense}
    options |= {"l1_linear": 0.5, "l2_linear": 1.0, "l2_embedding": 2.0, "l2_dense": 3.0}
    step = stepper(model, loss, **options)
    for seed in range(3):
        step.step(some_batch(seed=seed))
    step.settle()
    return step, options, [some_batch(seed=seed) for seed in range(5, 9)]


def go_on(step, batches):
    for batch in batches:
        step.step(batch)
    step.settle()
    return copy_of(step.model)


@pytest.mark.parametrize(("solver", "solver_dense"), SOLVERS)
def test_training_goes_on_from_its_state_bit_by_bit(solver, solver_dense):
    step, options, batches = halfway(solver, solver_dense)
    other = stepper(copy.deepcopy(step.model), step.loss, **options)
    other.load_state(copy.deepcopy(step.state()))
    truth, resumed = go_on(step, batches), go_on(other, batches)
    for key in truth:
        assert torch.equal(resumed[key], truth[key]), key
    assert_trees_equal(other.state(), step.state())


@pytest.mark.parametrize(("solver", "solver_dense"), SOLVERS)
def test_state_is_a_copy(solver, solver_dense):
    """Steps after taking it, or after loading it, must not change it: it may be loaded again."""
    step, options, batches = halfway(solver, solver_dense)
    state = step.state()
    model = copy.deepcopy(step.model)
    kept = copy.deepcopy(state)
    go_on(step, batches)
    assert_trees_equal(state, kept)
    other = stepper(model, step.loss, **options)
    other.load_state(state)
    go_on(other, batches)
    assert_trees_equal(state, kept)


def test_state_is_numpy_and_plain():
    def leaves(tree):
        if isinstance(tree, (dict, list)):
            for part in tree.values() if isinstance(tree, dict) else tree:
                yield from leaves(part)
        else:
            yield tree

    step, _, _ = halfway("adam", "adam")
    kinds = {type(leaf) for leaf in leaves(step.state())}
    assert np.ndarray in kinds
    assert kinds <= {np.ndarray, int, float, bool, str, tuple, type(None), FieldSchema}


def test_steps_leave_the_global_generators_alone():
    model, loss = make()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    step = stepper(model, loss, unknown_dropout=0.5)
    for _ in range(3):
        step.step(some_batch())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
