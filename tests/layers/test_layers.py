"""Each layer against its slow twin, its derivative, and its edge shapes."""

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose
from torch.autograd import gradcheck
from torch.func import functional_call

from sklearn_fm.layers import MLP, FieldEmbedding, LinearTerm, pairwise_sum, pool_slots
from sklearn_fm.layers.mlp import ACTIVATIONS

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def normal(*shape, seed=0, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return draw.requires_grad_(requires_grad)


def some_rows(B, S, table_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(table_size, (B, S), generator=generator)
    return indices, normal(B, S, seed=seed + 1)


def fill(module, seed=3):
    """Move to float64 and draw every parameter, biases too."""
    module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


SHAPES = [(0, 3), (1, 1), (1, 4), (5, 1), (6, 4), (4, 0)]


@pytest.mark.parametrize(("B", "F"), SHAPES)
def test_pairwise_sum_is_the_double_loop(B, F):
    e = normal(B, F, 3)
    out = pairwise_sum(e)
    assert out.shape == (B, 3)
    assert_allclose(out, reference.pairwise_sum(e.numpy()), **EXACT)


def test_pairwise_sum_of_one_field_is_exactly_zero():
    """The difference of squares rounds; with a single field there is nothing to round."""
    e = torch.full((2, 1, 2), 1e6 / 3, dtype=torch.float32, requires_grad=True)
    out = pairwise_sum(e)
    assert (out == 0).all()
    out.sum().backward()
    assert (e.grad == 0).all()


@pytest.mark.parametrize("F", [1, 2, 5])
def test_pairwise_sum_gradcheck(F):
    assert gradcheck(pairwise_sum, normal(3, F, 2, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(("B", "S"), SHAPES)
def test_field_embedding_is_a_scaled_lookup(B, S, dtype):
    layer = fill(FieldEmbedding(7, 3))
    indices, values = some_rows(B, S, 7)
    out = layer(indices.to(dtype), values)
    assert out.shape == (B, S, 3)
    truth = reference.embed(layer.weight.tolist(), indices.tolist(), values.tolist())
    assert_allclose(out.detach(), truth.reshape(B, S, 3), **EXACT)


@pytest.mark.parametrize("C", [1, 3])
@pytest.mark.parametrize(("B", "S"), SHAPES)
def test_linear_term_is_the_weighted_sum(B, S, C):
    layer = fill(LinearTerm(7, C))
    indices, values = some_rows(B, S, 7)
    out = layer(indices, values)
    assert out.shape == (B, C)
    truth = reference.linear_term(layer.weight.tolist(), indices.tolist(), values.tolist())
    assert_allclose(out.detach(), truth, **EXACT)


@pytest.mark.parametrize("make", [FieldEmbedding, LinearTerm])
def test_table_layers_gradcheck(make):
    """In the table and in the values, with an index that occurs several times."""
    layer = make(4, 2)
    indices = torch.tensor([[0, 1, 1], [3, 1, 0]])

    def apply(weight, values):
        return functional_call(layer, {"weight": weight}, (indices, values))

    arguments = normal(4, 2, requires_grad=True), normal(2, 3, seed=1, requires_grad=True)
    assert gradcheck(apply, arguments)


def linear_layers(mlp):
    linear = [layer for layer in mlp.layers if isinstance(layer, torch.nn.Linear)]
    return [(layer.weight.tolist(), layer.bias.tolist()) for layer in linear]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("sizes", [(), (4,), (5, 3)])
def test_mlp_is_the_loop_over_units(activation, sizes):
    mlp = fill(MLP(3, sizes, 2, activation=activation))
    x = normal(6, 3)
    truth = reference.mlp(linear_layers(mlp), x.tolist(), activation)
    assert_allclose(mlp(x).detach(), truth, **EXACT)


@pytest.mark.parametrize("B", [0, 1])
def test_mlp_edge_shapes(B):
    assert fill(MLP(3, (4,), 2))(normal(B, 3)).shape == (B, 2)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_mlp_gradcheck(batch_norm):
    mlp = fill(MLP(3, (4, 3), 2, activation="tanh", batch_norm=batch_norm))
    names = [name for name, _ in mlp.named_parameters()]

    def apply(x, *weights):
        return functional_call(mlp, dict(zip(names, weights, strict=True)), x)

    weights = [p.detach().clone().requires_grad_() for p in mlp.parameters()]
    assert gradcheck(apply, (normal(5, 3, requires_grad=True), *weights))


def test_mlp_normalizes_over_the_batch():
    """Each hidden unit minus its batch mean, over its batch deviation, before the activation."""
    mlp = fill(MLP(3, (4,), 1, activation="tanh", batch_norm=True)).train()
    first, norm, _, last = mlp.layers
    x = normal(7, 3)
    h = (x @ first.weight.T + first.bias).detach().numpy()
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + norm.eps)
    h = np.tanh(h * norm.weight.detach().numpy() + norm.bias.detach().numpy())
    truth = h @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    assert_allclose(mlp(x).detach(), truth, rtol=1e-10, atol=1e-10)


def test_batch_norm_takes_one_row_in_training():
    """A last batch of one row has no variance; running statistics serve, and stay as they are."""
    mlp = fill(MLP(3, (4,), 1, batch_norm=True))
    mlp.train()
    mlp(normal(8, 3))
    before = {name: b.clone() for name, b in mlp.named_buffers()}
    row = normal(1, 3, seed=9)
    out = mlp(row)
    out.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mlp.parameters())
    for name, buffer in mlp.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert_allclose(out.detach(), mlp.eval()(row).detach(), **EXACT)


def test_dropout_only_in_training():
    mlp = fill(MLP(3, (64,), 1, dropout=0.5))
    x = normal(2, 3)
    with torch.random.fork_rng():
        assert not torch.equal(mlp.train()(x), mlp(x))
    assert torch.equal(mlp.eval()(x), mlp(x))


def test_mlp_reset_parameters_is_reproducible_and_private():
    """Same generator, same weights; torch's global state is neither read nor moved."""
    mlp = fill(MLP(30, (50,), 2, batch_norm=True)).train()
    mlp(normal(8, 30))  # moves the running statistics
    draws = []
    for global_seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            state = torch.get_rng_state()
            mlp.reset_parameters(torch.Generator().manual_seed(5))
            assert torch.equal(torch.get_rng_state(), state)
        draws.append({name: value.clone() for name, value in mlp.state_dict().items()})
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in draws[0])
    first = mlp.layers[0]
    bound = (6 / 30) ** 0.5
    assert 0.95 * bound < first.weight.abs().max() <= bound
    assert (first.bias == 0).all()
    assert (mlp.layers[1].running_mean == 0).all()
    assert (mlp.layers[1].weight == 1).all()


def test_pool_slots_is_its_definition():
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(5, 7, 3, generator=generator, dtype=torch.float64)
    values = torch.ones(5, 7)
    values[0, 4:6] = 0  # all slots of the third field
    values[1, 4] = 0
    pooled = pool_slots(e * values.unsqueeze(-1), values, (1, 3, 2, 1), largest=[2])
    assert pooled.shape == (5, 4, 3)
    assert_allclose(pooled[:, 0], e[:, 0])
    assert_allclose(pooled[:, 1], e[:, 1] + e[:, 2] + e[:, 3])
    assert_allclose(pooled[2:, 2], torch.maximum(e[2:, 4], e[2:, 5]))
    assert_allclose(pooled[0, 2], torch.zeros(3))
    assert_allclose(pooled[1, 2], e[1, 5])
    assert_allclose(pooled[:, 3], e[:, 6])
    e.requires_grad_()
    assert gradcheck(lambda e: pool_slots(e, values, (1, 3, 2, 1), [2]), e)
    assert_allclose(pool_slots(e.detach(), values, (7,))[:, 0], e.detach().sum(dim=1))
