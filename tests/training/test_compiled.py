"""The compiled step against the torch step, and the promises about threads."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM, MF, DeepFM
from sklearn_fm.training import compiled_step as compiled_steps
from sklearn_fm.training.compiled_step import CompiledStepper
from sklearn_fm.training.loading import make_rows
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError
from sklearn_fm.training.options import StepOptions
from sklearn_fm.training.packing import find_packed
from sklearn_fm.training.prediction import raw_predictions
from sklearn_fm.training.rules import ROW_RULES
from sklearn_fm.training.torch_step import TorchStepper

SCHEMA = FieldSchema(
    names=("user", "price", "item", "site"),
    kinds=("categorical", "numeric", "categorical", "categorical"),
    vocabulary_sizes=(30, 1, 12, 5),
)
#: Bags of every pooling that kernels know, one vocabulary shared, a number of two slots.
BAGS = FieldSchema(
    names=("user", "seen", "item", "tags", "mood", "curve"),
    kinds=("categorical", "bag", "categorical", "bag", "bag", "numeric"),
    vocabulary_sizes=(30, 12, 12, 6, 4, 2),
    slots=(1, 4, 1, 3, 2, 2),
    poolings=("sum", "weighted", "sum", "mean", "sqrtn", "sum"),
    vocabularies=("user", "item", "item", "tags", "mood", "curve"),
    linear=(True, False, True, True, True, False),
)
N_ROWS = 90

MODELS = {
    "FM": (lambda schema, K: FM(schema, K, init_scale=0.3), BinaryLogLoss()),
    "FM of slots": (lambda schema, K: _slot_pairs(schema, K), BinaryLogLoss()),
    "FM of 3 classes": (lambda schema, K: FM(schema, K, n_outputs=3), MultinomialLogLoss(3)),
    "MF": (lambda schema, K: MF(schema, K, init_scale=0.3), SquaredError(0.5, 2.0)),
    "MF in a range": (lambda schema, K: MF(schema, K), SquaredError(0.5, 2.0, (-1.0, 3.0))),
    "MF with MLP": (lambda schema, K: MF(schema, K, hidden_layer_sizes=(4,)), SquaredError()),
    "DeepFM": (
        lambda schema, K: DeepFM(schema, K, hidden_layer_sizes=(4, 3), batch_norm=True),
        BinaryLogLoss(),
    ),
    "DeepFM of 3 classes": (
        lambda schema, K: DeepFM(schema, K, hidden_layer_sizes=(4,), n_outputs=3),
        MultinomialLogLoss(3),
    ),
}


def _slot_pairs(schema, K):
    return FM(schema, K, init_scale=0.3, pair_slots=True)


all_models = pytest.mark.parametrize("name", MODELS)
all_solvers = pytest.mark.parametrize("solver", sorted(ROW_RULES))


def encoded_rows(seed=0):
    """Codes in which some values are 0 and most indices occur often."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(-1, 29, N_ROWS), rng.normal(size=N_ROWS).round(1)]
    columns += [rng.integers(-1, 11, N_ROWS), rng.integers(-1, 4, N_ROWS)]
    columns[1][:5] = 0
    return FieldArray(np.column_stack(columns), SCHEMA)


def encoded_bags(seed=0):
    """Codes of fields of several slots, some of them empty or all of them."""
    rng = np.random.default_rng(seed)
    columns = np.zeros((N_ROWS, BAGS.n_columns))
    for f, kind in enumerate(BAGS.kinds):
        first, n = BAGS.first_columns[f], BAGS.slots[f]
        shape = (N_ROWS, n)
        codes = rng.integers(-1, BAGS.vocabulary_sizes[f] - 1, shape)
        if kind == "bag":
            codes[np.arange(n) >= rng.integers(0, n + 1, (N_ROWS, 1))] = -2
        columns[:, first : first + n] = rng.normal(size=shape) if kind == "numeric" else codes
        if BAGS.poolings[f] == "weighted":
            columns[:, first + n : first + 2 * n] = rng.uniform(-1, 1, shape)
    return FieldArray(columns, BAGS)


def make_data(loss, *, as_csr=False, bags=False, seed=0, positional=False):
    """Rows with targets and uneven weights."""
    rng = np.random.default_rng(seed + 100)
    X = encoded_bags(seed) if bags else encoded_rows(seed)
    if as_csr:
        X = X.to_csr()
        X.data[rng.random(len(X.data)) < 0.2] = 0
        X.eliminate_zeros()  # rows of different lengths
    if isinstance(loss, SquaredError):
        target = rng.normal(size=N_ROWS)
    else:
        target = rng.integers(0, max(loss.n_outputs, 2), N_ROWS).astype(float)
    return make_rows(X, target, rng.uniform(0.5, 2, N_ROWS), positional=positional)


def train(stepper_class, name, solver, *, K=3, n_epochs=2, as_csr=False, bags=False, **options):
    """Weights and losses after some epochs, and the stepper."""
    make, loss = MODELS[name]
    torch.manual_seed(0)
    batch_size = options.pop("batch_size", 16)
    schema = BAGS if bags else SCHEMA
    schema = FieldSchema.from_sizes([1] * schema.table_size) if as_csr else schema
    model = make(schema, K)
    with torch.no_grad():
        model.bias.fill_(0.2)
    rows = make_data(loss, as_csr=as_csr, bags=bags, positional=model.positional)
    defaults = {"l2_linear": 3.0, "l2_embedding": 20.0, "l2_dense": 0.5, "learning_rate": 0.1}
    # Adam would blow up the rounding of gradients that are 0, as of biases before batch norm.
    defaults |= {"solver_dense": "sgd", "learning_rate_dense": 0.05}
    if solver == "ftrl":
        defaults["l1_linear"] = 1.0
    generator = torch.Generator().manual_seed(3)
    total = float(rows.weight.sum())
    settings = StepOptions(solver=solver, **{**defaults, **options})
    stepper = stepper_class(model, loss, settings, total, generator, batch_size)
    model.train()
    losses = []
    for _ in range(n_epochs):
        losses.append(stepper.run(rows, rows.shuffled(generator)))
        stepper.settle()
    return model, np.concatenate(losses), stepper


def weights_of(model):
    """All parameters and buffers by name."""
    return {name: value.clone().numpy() for name, value in model.state_dict().items()}


def assert_same_weights(a, b, **tolerance):
    for name, value in weights_of(a).items():
        assert_allclose(value, weights_of(b)[name], err_msg=name, **tolerance)


@all_solvers
@all_models
def test_compiled_step_is_the_torch_step(name, solver):
    by_torch, torch_losses, _ = train(TorchStepper, name, solver)
    compiled, losses, _ = train(CompiledStepper, name, solver)
    assert_allclose(losses, torch_losses, rtol=1e-4)
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_solvers
@pytest.mark.parametrize("name", ["FM", "FM of 3 classes", "DeepFM"])
def test_rows_of_different_lengths(name, solver):
    by_torch, torch_losses, _ = train(TorchStepper, name, solver, as_csr=True)
    compiled, losses, _ = train(CompiledStepper, name, solver, as_csr=True)
    assert_allclose(losses, torch_losses, rtol=1e-4)
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_solvers
@all_models
def test_bags(name, solver):
    by_torch, torch_losses, _ = train(TorchStepper, name, solver, bags=True)
    compiled, losses, _ = train(CompiledStepper, name, solver, bags=True)
    assert_allclose(losses, torch_losses, rtol=1e-4)
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("K", [1, 4, 5, 8, 11, 16, 20, 33])
def test_any_embedding_dim(K):
    for name in ("FM", "DeepFM"):
        by_torch, _, _ = train(TorchStepper, name, "adagrad", K=K)
        compiled, _, _ = train(CompiledStepper, name, "adagrad", K=K)
        assert compiled.embedding.weight.shape == (SCHEMA.table_size, K)
        assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_solvers
@pytest.mark.parametrize("name", ["FM", "MF in a range", "FM of 3 classes", "DeepFM"])
@pytest.mark.parametrize("table", ["plain", "as_csr", "bags"])
def test_threads_do_not_change_a_bit(name, solver, table, monkeypatch):
    """Also with more threads than there are columns or cores."""
    monkeypatch.setattr(compiled_steps, "_THREAD_NUMBERS", 0)
    if table == "as_csr" and name.startswith("MF"):
        pytest.skip("MF takes no sparse rows")
    options = {} if table == "plain" else {table: True}
    once, losses, _ = train(CompiledStepper, name, solver, **options)
    for n_threads in (1, 2, 7):
        again, losses_again, _ = train(
            CompiledStepper, name, solver, n_threads=n_threads, **options
        )
        assert_array_equal(losses, losses_again)
        for key, value in weights_of(once).items():
            assert_array_equal(value, weights_of(again)[key], err_msg=key)


def test_hogwild_learns():
    """Two threads without waiting: every batch is taken, and the loss falls as with one."""
    _, losses, _ = train(CompiledStepper, "FM", "adagrad", n_epochs=30, batch_size=8)
    by_two, racing, _ = train(
        CompiledStepper,
        "FM",
        "adagrad",
        n_epochs=30,
        batch_size=8,
        n_threads=2,
        deterministic=False,
    )
    assert len(losses) == len(racing)
    per_epoch = -(-N_ROWS // 8)
    first, last = losses[:per_epoch].sum(), losses[-per_epoch:].sum()
    assert last < 0.9 * first
    assert racing[-per_epoch:].sum() == pytest.approx(last, rel=0.1)
    assert np.isfinite(weights_of(by_two)["embedding.weight"]).all()


@all_solvers
@all_models
def test_state_travels_between_the_engines(name, solver):
    """What one engine leaves, the other goes on from."""
    loss = MODELS[name][1]
    results = []
    for first, second in [(CompiledStepper, TorchStepper), (TorchStepper, CompiledStepper)]:
        model, _, stepper = train(first, name, solver)
        state = copy.deepcopy(stepper.state())
        other = copy.deepcopy(model)
        rows = make_data(loss, positional=other.positional)
        generator = torch.Generator().manual_seed(9)
        total = float(rows.weight.sum())
        go_on = second(other, loss, stepper.options, total, generator, 16)
        go_on.load_state(state)
        go_on.run(rows, rows.shuffled(generator))
        go_on.settle()
        results.append(other)
    assert_same_weights(*results, rtol=5e-3, atol=5e-5)


def test_parameters_are_views_of_the_packed_array():
    model, _, stepper = train(CompiledStepper, "FM", "adagrad")
    layout, table = find_packed(model)
    assert table is stepper.table
    assert table.ctypes.data % 64 == 0
    table[7, 0] = 5
    table[-1, layout.K] = -3
    assert model.embedding.weight[7, 0] == 5
    assert model.bias[0] == -3
    assert find_packed(copy.deepcopy(model)) is None
    assert find_packed(model.double()) is None


@all_models
@pytest.mark.parametrize("table", ["plain", "as_csr", "bags"])
def test_packed_predictions_are_the_modules(name, table):
    if table == "as_csr" and name.startswith("MF"):
        pytest.skip("MF takes no sparse rows")
    options = {} if table == "plain" else {table: True}
    model, _, _ = train(CompiledStepper, name, "adagrad", **options)
    rows = make_data(MODELS[name][1], seed=4, positional=model.positional, **options)
    some = rows.subset(torch.arange(5, 60))
    compiled = raw_predictions(model, some, 2)
    model.eval()
    by_module = [model(b.indices, b.values).detach() for b in some.in_order(16)]
    assert_allclose(compiled, torch.cat(by_module), rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_before_its_step():
    make, loss = MODELS["FM"]
    model = make(SCHEMA, 3)
    rows = make_data(loss)
    rows.target[40] = float("nan")
    options = StepOptions(learning_rate=0.1, n_threads=2)
    stepper = CompiledStepper(model, loss, options, 90.0, torch.Generator(), 16)
    losses = stepper.run(rows, torch.arange(N_ROWS))
    assert len(losses) == 3
    assert np.isfinite(losses[:2]).all()
    assert np.isnan(losses[2])
    assert all(np.isfinite(value).all() for value in weights_of(model).values())


def test_one_index_in_several_entries_of_a_row():
    """As an unknown hash collision would do; their gradients are summed."""
    X = sparse.csr_array(([1.0, 2.0, 0.5], [3, 3, 1], [0, 3]), shape=(1, 10))
    assert X.nnz == 3
    models = []
    for stepper_class in (TorchStepper, CompiledStepper):
        torch.manual_seed(0)
        model = FM(FieldSchema.from_sizes([1] * 10), 3, init_scale=0.5)
        rows = make_rows(X, np.ones(1), np.ones(1))
        stepper = stepper_class(
            model, BinaryLogLoss(), StepOptions(learning_rate=0.1), 1.0, torch.Generator(), 1
        )
        stepper.run(rows, torch.arange(1))
        stepper.settle()
        models.append(model)
    assert_same_weights(*models, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stepper_class", [TorchStepper, CompiledStepper])
def test_another_learning_rate_leaves_the_weights_of_ftrl(stepper_class):
    """The sums of gradients depend on the rate; weights jumped when partial_fit changed it."""
    model, _, stepper = train(stepper_class, "FM", "ftrl")
    before, state = weights_of(model), stepper.state()
    loss, rows = MODELS["FM"][1], make_data(MODELS["FM"][1])
    options = StepOptions(solver="ftrl", learning_rate=0.01, l1_linear=1.0, l2_linear=3.0)
    slower = stepper_class(model, loss, options, float(rows.weight.sum()), torch.Generator(), 16)
    slower.load_state(state)
    slower.settle()
    for name, value in weights_of(model).items():
        assert_allclose(value, before[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_stored_zero_is_no_occurrence():
    X = sparse.csr_array(([0.0, 1.0], [3, 5], [0, 2]), shape=(1, 10))
    model = FM(FieldSchema.from_sizes([1] * 10), 3)
    rows = make_rows(X, np.ones(1), np.ones(1))
    options = StepOptions(solver="adam")
    stepper = CompiledStepper(model, BinaryLogLoss(), options, 1.0, torch.Generator(), 1)
    stepper.run(rows, torch.arange(1))
    assert stepper.table_state()["linear.count"][[3, 5], 0].tolist() == [0, 1]
