"""The compiled step against the torch step, and the promises about threads."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM, MF, DeepFM
from sklearn_fm.training.batching import make_rows
from sklearn_fm.training.compiled import CompiledStepper
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError
from sklearn_fm.training.optimizers import ROW_RULES, StepOptions
from sklearn_fm.training.steppers import TorchStepper

SCHEMA = FieldSchema(
    names=("user", "price", "item", "site"),
    kinds=("categorical", "numeric", "categorical", "categorical"),
    vocabulary_sizes=(30, 1, 12, 5),
)
N_ROWS = 90

MODELS = {
    "FM": (lambda schema, K: FM(schema, K, init_scale=0.3), BinaryLogLoss()),
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
all_models = pytest.mark.parametrize("name", MODELS)
all_solvers = pytest.mark.parametrize("solver", sorted(ROW_RULES))


def encoded_rows(seed=0):
    """Codes in which some values are 0 and most indices occur often."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(-1, 29, N_ROWS), rng.normal(size=N_ROWS).round(1)]
    columns += [rng.integers(-1, 11, N_ROWS), rng.integers(-1, 4, N_ROWS)]
    columns[1][:5] = 0
    return FieldArray(np.column_stack(columns), SCHEMA)


def make_data(loss, *, as_csr=False, seed=0, positional=False):
    """Rows with targets and uneven weights."""
    rng = np.random.default_rng(seed + 100)
    X = encoded_rows(seed)
    if as_csr:
        X = X.to_csr()
        X.data[rng.random(len(X.data)) < 0.2] = 0
        X.eliminate_zeros()  # rows of different lengths
    if isinstance(loss, SquaredError):
        target = rng.normal(size=N_ROWS)
    else:
        target = rng.integers(0, max(loss.n_outputs, 2), N_ROWS).astype(float)
    return make_rows(X, target, rng.uniform(0.5, 2, N_ROWS), positional=positional)


def train(stepper_class, name, solver, *, K=3, n_epochs=2, batch_size=16, as_csr=False, **options):
    """Weights and losses after some epochs, and the stepper."""
    make, loss = MODELS[name]
    torch.manual_seed(0)
    schema = FieldSchema.from_sizes([1] * SCHEMA.table_size) if as_csr else SCHEMA
    model = make(schema, K)
    with torch.no_grad():
        model.bias.fill_(0.2)
    rows = make_data(loss, as_csr=as_csr, positional=model.positional)
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


@pytest.mark.parametrize("K", [1, 4, 5, 8, 11, 16, 20, 33])
def test_any_embedding_dim(K):
    for name in ("FM", "DeepFM"):
        by_torch, _, _ = train(TorchStepper, name, "adagrad", K=K)
        compiled, _, _ = train(CompiledStepper, name, "adagrad", K=K)
        assert compiled.embedding.weight.shape == (SCHEMA.table_size, K)
        assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)
