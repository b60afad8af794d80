"""Each layer against its slow twin, its derivative, and its edge shapes."""

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose
from torch.autograd import gradcheck
from torch.func import functional_call

from sklearn_fm.layers import (
    MLP,
    BilinearInteraction,
    CrossNetwork,
    FieldEmbedding,
    LinearTerm,
    SqueezeExcitation,
    field_aware_sum,
    pairwise_sum,
    pool_slots,
)
from sklearn_fm.layers.bilinear import BILINEAR_KINDS
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


@pytest.mark.parametrize(("B", "F"), SHAPES)
def test_field_aware_sum_is_the_double_loop(B, F):
    e = normal(B, F, F, 3)
    out = field_aware_sum(e)
    assert out.shape == (B, 3)
    assert_allclose(out, reference.field_aware_sum(e.numpy()), **EXACT)


@pytest.mark.parametrize("F", [1, 2, 4])
def test_field_aware_sum_gradcheck(F):
    """The vector of a field for itself has no part in it."""
    e = normal(3, F, F, 2, requires_grad=True)
    assert gradcheck(field_aware_sum, e)
    field_aware_sum(e).sum().backward()
    own = torch.eye(F, dtype=torch.bool)
    assert (e.grad[:, own] == 0).all()
    assert (e.grad[:, ~own] != 0).all()


@pytest.mark.parametrize("kind", BILINEAR_KINDS)
@pytest.mark.parametrize(("B", "F"), [(0, 3), (1, 1), (1, 4), (5, 1), (6, 4), (3, 2)])
def test_bilinear_interaction_is_the_loop_over_pairs(B, F, kind):
    layer = fill(BilinearInteraction(F, 3, kind))
    e = normal(B, F, 3)
    out = layer(e)
    assert out.shape == (B, F * (F - 1) // 2, 3)
    truth = reference.bilinear(e.numpy(), layer.weight.tolist(), kind)
    assert_allclose(out.detach(), truth, **EXACT)


def test_bilinear_interaction_of_an_identity_is_the_products_of_the_fields():
    layer, e = fill(BilinearInteraction(4, 3, "all")), normal(5, 4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3).unsqueeze(0))
    assert_allclose(layer(e).sum(dim=1).detach(), pairwise_sum(e), **EXACT)


def test_bilinear_interaction_refuses_another_kind():
    with pytest.raises(ValueError, match=r"bilinear must be one of .*got 'every'"):
        BilinearInteraction(3, 2, "every")


@pytest.mark.parametrize("reduction", [1, 2, 3, 9])
@pytest.mark.parametrize(("B", "F"), [(0, 3), (1, 1), (6, 4)])
def test_squeeze_excitation_is_its_loop(B, F, reduction):
    layer = fill(SqueezeExcitation(F, reduction))
    assert layer.squeeze.shape == (F, max(F // reduction, 1))
    e = normal(B, F, 3)
    truth = reference.squeeze_excitation(e.numpy(), layer.squeeze.tolist(), layer.excite.tolist())
    assert_allclose(layer(e).detach(), truth, **EXACT)


def test_squeeze_excitation_refuses_a_reduction_below_one():
    with pytest.raises(ValueError, match="reduction must be at least 1, got 0"):
        SqueezeExcitation(3, 0)


def cross_layers(network):
    """(W, b) of each layer, W full."""
    for layer in network.layers:
        W = layer.weight if layer.back is None else layer.weight @ layer.back
        yield W.tolist(), layer.bias.tolist()


@pytest.mark.parametrize("rank", [None, 1, 2])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("B", [0, 1, 5])
def test_cross_network_is_its_recursion(B, n_layers, rank):
    network, x = fill(CrossNetwork(4, n_layers, rank)), normal(B, 4)
    assert_allclose(
        network(x).detach(), reference.cross(x.numpy(), list(cross_layers(network))), **EXACT
    )


@pytest.mark.parametrize("options", [(-1,), (2, 0)])
def test_cross_network_refuses_what_has_no_meaning(options):
    with pytest.raises(ValueError, match=r"n_cross_layers >= 0 and cross_rank None or >= 1, got"):
        CrossNetwork(4, *options)


#: Layers of random matrices, with a row of input.
LAYERS = {
    **{
        f"bilinear {kind}": (lambda kind=kind: BilinearInteraction(4, 3, kind), (4, 3))
        for kind in BILINEAR_KINDS
    },
    "excitation": (lambda: SqueezeExcitation(4, 2), (4, 3)),
    "cross": (lambda: CrossNetwork(4, 2), (4,)),
    "cross of rank 2": (lambda: CrossNetwork(4, 2, 2), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_gradcheck(name):
    make, shape = LAYERS[name]
    layer = fill(make())
    names = [key for key, _ in layer.named_parameters()]

    def apply(x, *weights):
        return functional_call(layer, dict(zip(names, weights, strict=True)), x)

    weights = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert gradcheck(apply, (normal(5, *shape, requires_grad=True), *weights))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_reset_parameters_is_reproducible_and_private(name):
    """Same generator, same weights, as variance asks; the global state is left alone."""
    make, _ = LAYERS[name]
    draws = []
    for global_seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            layer = fill(make(), seed=global_seed)
            state = torch.get_rng_state()
            layer.reset_parameters(torch.Generator().manual_seed(5))
            assert torch.equal(torch.get_rng_state(), state)
        draws.append(dict(layer.state_dict()))
    for key, value in draws[0].items():
        assert torch.equal(value, draws[1][key]), key
        assert (value != 0).all() if value.ndim > 1 else (value == 0).all(), key


@pytest.mark.parametrize("make", [lambda: BilinearInteraction(8, 30), lambda: CrossNetwork(90, 3)])
def test_start_values_of_matrices_keep_the_variance(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = make()
    for weight in (p for p in layer.parameters() if p.ndim > 1):
        assert_allclose(weight.detach().square().mean() * weight.shape[-2], 1, rtol=0.05)


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
