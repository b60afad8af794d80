"""Laws that every model obeys, and each model against its slow twin."""

import inspect

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck
from torch.func import functional_call

import sklearn_fm.models
from sklearn_fm.models import FM, MF, DeepFM
from sklearn_fm.schema import FieldSchema

EXACT = {"rtol": 1e-12, "atol": 1e-12}
SCHEMA = FieldSchema.from_sizes([5, 4, 1, 3])


def make(name, *, schema=SCHEMA, seed=0, dtype=torch.float64, **options):
    """A model with every parameter drawn, biases and unknown rows too."""
    cls = getattr(sklearn_fm.models, name)
    if "activation" in inspect.signature(cls).parameters:
        options.setdefault("activation", "tanh")
    model = cls(schema, 3, **options).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


def all_cases():
    """Every public model, with and without hidden layers, with one and with three outputs."""
    for name in sklearn_fm.models.__all__:
        parameters = inspect.signature(getattr(sklearn_fm.models, name)).parameters
        for hidden in [(), (4,)] if "hidden_layer_sizes" in parameters else [None]:
            for n_outputs in (1, 3):
                if (name, hidden, n_outputs) == ("MF", (), 3):
                    continue  # refused, tested below
                options = {"n_outputs": n_outputs}
                if hidden is not None:
                    options["hidden_layer_sizes"] = hidden
                yield pytest.param(name, options, id=f"{name}-{hidden}-{n_outputs}")


all_models = pytest.mark.parametrize(("name", "options"), list(all_cases()))


def some_rows(B=6, schema=SCHEMA, seed=1):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, schema.vocabulary_sizes, (B, schema.n_slots))
    indices = codes + np.array(schema.offsets, dtype=int)
    return torch.from_numpy(indices), torch.from_numpy(rng.normal(size=indices.shape))


# -- slow twins ------------------------------------------------------------------------


def tables(model):
    parts = [model.bias, model.linear.weight, model.embedding.weight]
    if hasattr(model, "pairwise_weight"):
        parts.append(model.pairwise_weight)
    return [part.tolist() for part in parts]


def layers_of(model):
    linear = [layer for layer in model.mlp.layers if isinstance(layer, torch.nn.Linear)]
    return [(layer.weight.tolist(), layer.bias.tolist()) for layer in linear]


@pytest.mark.parametrize("sizes", [[5], [1, 1], [5, 4, 1, 3]])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_fm_is_its_double_loop(n_outputs, sizes):
    schema = FieldSchema.from_sizes(sizes)
    model = make("FM", schema=schema, n_outputs=n_outputs)
    indices, values = some_rows(schema=schema)
    bias, linear, embedding, *rest = tables(model)
    truth = reference.fm(bias, linear, embedding, indices.tolist(), values.tolist(), *rest)
    assert_allclose(model(indices, values).detach(), truth, **EXACT)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_deepfm_is_its_double_loop(n_outputs):
    model = make("DeepFM", n_outputs=n_outputs, hidden_layer_sizes=(5, 4), activation="relu")
    indices, values = some_rows()
    bias, linear, embedding, *rest = tables(model)
    truth = reference.deepfm(
        bias, linear, embedding, indices.tolist(), values.tolist(), *rest, layers=layers_of(model)
    )
    assert_allclose(model(indices, values).detach(), truth, **EXACT)


def test_mf_is_the_dot_product_and_biases():
    schema = FieldSchema.from_sizes([5, 4])
    model = make("MF", schema=schema)
    indices, values = some_rows(schema=schema)
    truth = reference.mf(*tables(model), indices.tolist(), values.tolist())
    assert_allclose(model(indices, values).detach(), truth, **EXACT)


def test_mf_with_hidden_layers_puts_the_mlp_in_place_of_the_dot_product():
    model = make("MF", hidden_layer_sizes=(4,), n_outputs=3)
    indices, values = (part.tolist() for part in some_rows())
    bias, linear, embedding = tables(model)
    x = reference.embed(embedding, indices, values).reshape(6, -1)
    truth = reference.linear_term(linear, indices, values) + bias
    truth += reference.mlp(layers_of(model), x, "tanh")
    assert_allclose(model(*some_rows()).detach(), truth, **EXACT)


BAGS = FieldSchema(
    names=("user", "seen", "item", "tags"),
    kinds=("categorical", "bag", "categorical", "bag"),
    vocabulary_sizes=(5, 4, 4, 3),
    slots=(1, 3, 1, 2),
    poolings=("sum", "weighted", "sum", "max"),
    vocabularies=("user", "item", "item", "tags"),
    linear=(True, False, True, True),
)


def rows_of_bags(B=6, seed=1):
    rng = np.random.default_rng(seed)
    sizes = [BAGS.vocabulary_sizes[f] for f in BAGS.slot_fields]
    offsets = [BAGS.offsets[f] for f in BAGS.slot_fields]
    indices = rng.integers(0, sizes, (B, BAGS.n_slots)) + offsets
    values = rng.normal(size=indices.shape)
    values[:, 5:] = 1  # of the field of which the maximum is taken
    values[rng.random(indices.shape) < 0.3] = 0
    return torch.from_numpy(indices), torch.from_numpy(values)


def pooled_by_hand(e, values):
    """(B, S, K) to (B, F, K): sums, and the maximum over the slots that are not empty."""
    out = np.zeros((len(e), BAGS.n_fields, e.shape[2]))
    for b in range(len(e)):
        for f in range(BAGS.n_fields):
            slots = [s for s in range(BAGS.n_slots) if BAGS.slot_fields[s] == f]
            if BAGS.poolings[f] == "max":
                slots = [s for s in slots if values[b][s] != 0]
                out[b, f] = e[b, slots].max(axis=0) if slots else 0
            else:
                out[b, f] = e[b, slots].sum(axis=0)
    return out


@pytest.mark.parametrize("pair_slots", [False, True])
def test_fm_pairs_pooled_fields_or_slots(pair_slots):
    model = make("FM", schema=BAGS, pair_slots=pair_slots)
    assert model.embedding.weight.shape == (12, 3)
    indices, values = (part.tolist() for part in rows_of_bags())
    bias, linear, embedding = tables(model)
    e = reference.embed(embedding, indices, values)
    pairs = reference.pairwise_sum(e if pair_slots else pooled_by_hand(e, values))
    in_linear_term = [[0 if s in (1, 2, 3) else x for s, x in enumerate(row)] for row in values]
    truth = reference.linear_term(linear, indices, in_linear_term) + bias
    truth += pairs.sum(axis=1, keepdims=True)
    assert_allclose(model(*rows_of_bags()).detach(), truth, **EXACT)


def test_the_mlp_reads_pooled_fields():
    model = make("DeepFM", schema=BAGS, hidden_layer_sizes=(5,), activation="relu")
    rest = make("FM", schema=BAGS)
    rest.load_state_dict(model.state_dict(), strict=False)
    indices, values = (part.tolist() for part in rows_of_bags())
    e = reference.embed(tables(model)[2], indices, values)
    x = pooled_by_hand(e, values).reshape(6, -1)
    truth = rest(*rows_of_bags()).detach().numpy() + reference.mlp(layers_of(model), x, "relu")
    assert_allclose(model(*rows_of_bags()).detach(), truth, **EXACT)


def test_deepfm_without_hidden_layers_is_fm():
    fm, deep = make("FM", n_outputs=3), make("DeepFM", hidden_layer_sizes=(), n_outputs=3)
    deep.load_state_dict(fm.state_dict())
    assert torch.equal(deep(*some_rows()), fm(*some_rows()))


def test_mf_of_two_fields_is_fm():
    schema = FieldSchema.from_sizes([5, 4])
    fm, mf = make("FM", schema=schema), make("MF", schema=schema)
    mf.load_state_dict(fm.state_dict())
    assert torch.equal(mf(*some_rows(schema=schema)), fm(*some_rows(schema=schema)))


def test_fm_of_one_output_is_fm_of_several_with_weights_one():
    one, three = make("FM"), make("FM", n_outputs=3)
    with torch.no_grad():
        three.pairwise_weight.fill_(1)
        three.bias.copy_(one.bias.expand(3))
        three.linear.weight.copy_(one.linear.weight.expand(-1, 3))
        three.embedding.weight.copy_(one.embedding.weight)
    assert_allclose(three(*some_rows()).detach(), one(*some_rows()).detach().expand(-1, 3), **EXACT)


def test_mf_refuses_several_dot_products():
    with pytest.raises(ValueError, match="one output; give it hidden layers or FM"):
        MF(SCHEMA, 3, n_outputs=3)


# -- laws ------------------------------------------------------------------------------


@all_models
def test_permuting_rows_permutes_the_output(name, options):
    model, (indices, values) = make(name, **options), some_rows()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    permuted = model(indices[order], values[order])
    assert_allclose(permuted.detach(), model(indices, values)[order].detach(), **EXACT)


@all_models
@pytest.mark.parametrize("slot", range(4))
def test_a_slot_of_value_zero_changes_nothing(name, options, slot):
    """Whatever its index."""
    model, (indices, values) = make(name, **options), some_rows()
    values[:, slot] = 0
    other = indices.clone()
    other[:, slot] = torch.arange(6)
    assert torch.equal(model(other, values), model(indices, values))


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize(
    "name",
    [n for n in sklearn_fm.models.__all__ if not getattr(sklearn_fm.models, n).positional],
)
def test_empty_slots_may_be_appended_unless_positional(name, n_outputs):
    """Rows of a sparse matrix are padded to equal length this way."""
    model, (indices, values) = make(name, n_outputs=n_outputs), some_rows()
    longer = torch.nn.functional.pad(indices, (0, 2)), torch.nn.functional.pad(values, (0, 2))
    assert_allclose(model(*longer).detach(), model(indices, values).detach(), **EXACT)


@all_models
def test_forward_is_the_bias_and_what_combine_makes_of_the_parts_that_are_used(name, options):
    """Steppers and kernels compute the parts by themselves, and only those."""
    model, (indices, values) = make(name, **options), some_rows()
    linear, e = model.linear(indices, values), model.embedding(indices, values)
    pairs = torch.from_numpy(reference.pairwise_sum(e.detach().numpy()))
    truth = linear
    if model.uses_pairs:
        truth = truth + model.from_pairs(pairs)
    if model.uses_embeddings:
        truth = truth + model.from_embeddings(e)
    used = pairs if model.uses_pairs else None, e if model.uses_embeddings else None
    combined = model.combine(linear, *used)
    assert_allclose(combined.detach(), truth.detach(), **EXACT)
    assert_allclose((model.bias + combined).detach(), model(indices, values).detach(), **EXACT)


@all_models
def test_which_parts_are_used(name, options):
    model, hidden = make(name, **options), options.get("hidden_layer_sizes", ())
    assert bool(model.uses_embeddings) == bool(hidden)
    assert bool(model.uses_pairs) == (name != "MF" or not hidden)


@pytest.mark.parametrize("name", sklearn_fm.models.__all__)
def test_pairs_of_one_output_count_by_their_total(name):
    """Compiled kernels add them up without asking the model."""
    model = make(name)
    pairs = torch.randn(6, 3, generator=torch.Generator().manual_seed(3)).double()
    assert torch.equal(model.from_pairs(pairs), pairs.sum(dim=1, keepdim=True))


@all_models
def test_relabelling_indices_with_table_rows_changes_nothing(name, options):
    model, (indices, values) = make(name, **options), some_rows()
    before = model(indices, values).detach()
    label = torch.randperm(SCHEMA.table_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for table in model.sparse_tables().values():
            table[label] = table.clone()
    assert torch.equal(model(label[indices], values), before)


@pytest.mark.parametrize("name", ["FM", "MF"])
def test_permuting_fields_changes_nothing(name):
    model, (indices, values) = make(name), some_rows()
    order = [2, 0, 3, 1]
    permuted = model(indices[:, order], values[:, order])
    assert_allclose(permuted.detach(), model(indices, values).detach(), **EXACT)


@all_models
def test_every_parameter_gets_a_gradient(name, options):
    """And rows of the tables that do not occur get none."""
    model, (indices, values) = make(name, **options), some_rows()
    raw = model(indices, values)
    raw.backward(torch.randn(raw.shape, generator=torch.Generator().manual_seed(2)).double())
    occurs = torch.zeros(SCHEMA.table_size, dtype=torch.bool)
    occurs[indices] = True
    table_ids = {id(table) for table in model.sparse_tables().values()}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        if id(parameter) in table_ids:
            assert torch.equal(parameter.grad.ne(0).any(dim=1), occurs), key
        else:
            assert (parameter.grad != 0).any(), key


@all_models
def test_gradcheck_of_the_whole_model(name, options):
    model, (indices, values) = make(name, **options), some_rows(3)
    names = [key for key, _ in model.named_parameters()]

    def apply(values, *weights):
        return functional_call(model, dict(zip(names, weights, strict=True)), (indices, values))

    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert gradcheck(apply, (values.requires_grad_(), *weights), fast_mode=True)


@all_models
@pytest.mark.parametrize("B", [0, 1])
def test_small_batches(name, options, B):
    model, (indices, values) = make(name, **options), some_rows()
    out = model(indices[:B], values[:B])
    assert out.shape == (B, options["n_outputs"])
    assert_allclose(out.detach(), model(indices, values)[:B].detach(), **EXACT)


@all_models
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_of_weights_is_dtype_of_output(name, options, dtype):
    model, (indices, values) = make(name, **options), some_rows()
    truth = model(indices, values).detach()
    out = model.to(dtype)(indices, values.to(dtype))
    assert out.dtype == dtype
    assert_allclose(out.detach(), truth, rtol=1e-4, atol=1e-4)


@all_models
def test_state_dict_round_trip(name, options):
    model, other = make(name, **options), make(name, seed=1, **options)
    assert not torch.equal(other(*some_rows()), model(*some_rows()))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(*some_rows()), model(*some_rows()))


@all_models
def test_int32_and_int64_indices_agree(name, options):
    model, (indices, values) = make(name, **options), some_rows()
    assert torch.equal(model(indices.int(), values), model(indices.long(), values))


@all_models
def test_cuda_placement(name, options):
    """On fake tensors: an operand left on the CPU would raise, whether or not a GPU is here."""
    model = make(name, dtype=torch.float32, **options)
    with torch.no_grad(), FakeTensorMode():  # autograd of CUDA needs a CUDA build
        for part in model.modules():
            for key, weight in list(part.named_parameters(recurse=False)):
                setattr(part, key, torch.nn.Parameter(torch.empty(weight.shape, device="cuda")))
            for key, buffer in list(part.named_buffers(recurse=False)):
                setattr(part, key, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
        indices = torch.zeros(6, 4, dtype=torch.int32, device="cuda")
        values = torch.ones(6, 4, device="cuda")
        out = model(indices, values)
        assert out.device.type == "cuda"
        assert out.shape == (6, options["n_outputs"])
        with pytest.raises(RuntimeError, match=r"two.* devices"):
            model(indices, torch.ones(6, 4))


@all_models
def test_module_is_pure(name, options):
    """The same rows give the same output, whatever came before, in evaluation."""
    model = make(name, **options).eval()
    first = model(*some_rows())
    model(*some_rows(seed=8))
    assert torch.equal(model(*some_rows()), first)


# -- start values ----------------------------------------------------------------------


@all_models
def test_start_values(name, options):
    """Zero: bias, linear term and unknown rows; embeddings have the asked spread."""
    schema = FieldSchema(
        ("a", "n", "b", "c"),
        ("categorical", "numeric", "binned", "categorical"),
        (3000, 1, 3000, 1),
    )
    model = getattr(sklearn_fm.models, name)(schema, 4, init_scale=0.3, **options)
    model.reset_parameters(torch.Generator().manual_seed(0))
    weight = model.embedding.weight.detach()
    unknown = [0, 3001, 6001]
    zero = (weight == 0).all(dim=1)
    assert zero.nonzero().flatten().tolist() == unknown
    assert_allclose(weight[~zero].std(), 0.3, rtol=0.05)
    assert (model.bias == 0).all()
    assert (model.linear.weight == 0).all()


@all_models
def test_reset_parameters_is_reproducible_and_private(name, options):
    """Every parameter comes from the generator; the global state is neither read nor moved."""
    draws = []
    for global_seed in (0, 1):
        model = make(name, seed=global_seed, **options)
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            state = torch.get_rng_state()
            model.reset_parameters(torch.Generator().manual_seed(5))
            assert torch.equal(torch.get_rng_state(), state)
        draws.append(model.state_dict())
    for key in draws[0]:
        assert torch.equal(draws[0][key], draws[1][key]), key


@all_models
def test_all_fields_numeric_has_no_unknown_row(name, options):
    schema = FieldSchema.from_sizes([1, 1])
    model = getattr(sklearn_fm.models, name)(schema, 4, **options)
    model.reset_parameters(torch.Generator().manual_seed(0))
    assert (model.embedding.weight != 0).all()


@all_models
def test_sparse_tables_are_the_parameters_with_a_row_per_index(name, options):
    """The stepper relies on it: tables apart, everything else dense."""
    model = make(name, **options)
    named = {key: id(parameter) for key, parameter in model.named_parameters()}
    for key, table in model.sparse_tables().items():
        assert named[f"{key}.weight"] == id(table)
        assert len(table) == SCHEMA.table_size


def test_xor_is_solved_by_the_pairwise_term_alone():
    """Signs of two fields multiply: zero linear term, embeddings of opposite sign."""
    schema = FieldSchema.from_sizes([3, 3])
    model = FM(schema, 1).double()
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor([0, 1, -1, 0, 1, -1.0]).unsqueeze(1))
    indices = torch.tensor([[1, 4], [1, 5], [2, 4], [2, 5]])
    raw = model(indices, torch.ones(4, 2, dtype=torch.float64))
    assert raw.flatten().tolist() == [1, -1, -1, 1]


def test_deepfm_is_an_fm():
    """So that what is written for FM (recommendation, contributions) meets its tables."""
    assert issubclass(DeepFM, FM)
