"""Laws that every model obeys, and each model against its slow twin."""

import inspect

import numpy as np
import pytest
import reference
import torch
from model_cases import MODEL_CASES, make_model
from numpy.testing import assert_allclose
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck
from torch.func import functional_call

import sklearn_fm.models
from sklearn_fm.layers import MLP
from sklearn_fm.layers.bilinear import BILINEAR_KINDS
from sklearn_fm.models import DCN, FM, MF, DeepFM
from sklearn_fm.models.contract import FieldModel, Parts, Table
from sklearn_fm.schema import FieldSchema

EXACT = {"rtol": 1e-12, "atol": 1e-12}
SCHEMA = FieldSchema.from_sizes([5, 4, 1, 3])


def make(name, *, schema=SCHEMA, seed=0, dtype=torch.float64, **options):
    """A model with every parameter drawn, biases and unknown rows too."""
    cls = getattr(sklearn_fm.models, name)
    if "activation" in inspect.signature(cls).parameters:
        options.setdefault("activation", "tanh")
    model = make_model(name, schema, **options).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


all_models = pytest.mark.parametrize(("name", "options"), MODEL_CASES.values(), ids=MODEL_CASES)


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


@pytest.mark.parametrize("sizes", [[5], [1, 1], [5, 4, 1, 3]])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_ffm_is_its_double_loop(n_outputs, sizes):
    schema = FieldSchema.from_sizes(sizes)
    model = make("FFM", schema=schema, n_outputs=n_outputs)
    assert model.embedding.weight.shape == (schema.table_size, 3 * len(sizes))
    indices, values = some_rows(schema=schema)
    bias, linear, embedding, *rest = tables(model)
    truth = reference.ffm(bias, linear, embedding, indices.tolist(), values.tolist(), *rest)
    assert_allclose(model(indices, values).detach(), truth, **EXACT)


def embeddings_of(model, indices, values):
    return reference.embed(model.embedding.weight.tolist(), indices.tolist(), values.tolist())


@pytest.mark.parametrize("hidden", [(), (5, 4)])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("kind", BILINEAR_KINDS)
def test_fibinet_is_its_loops(kind, n_outputs, hidden):
    model = make(
        "FiBiNET", n_outputs=n_outputs, hidden_layer_sizes=hidden, bilinear=kind, reduction=2
    )
    indices, values = some_rows()
    bias, linear, _ = tables(model)
    truth = reference.fibinet(
        bias,
        linear,
        embeddings_of(model, indices, values),
        indices.tolist(),
        values.tolist(),
        squeeze=model.excitation.squeeze.tolist(),
        excite=model.excitation.excite.tolist(),
        matrices=model.bilinear.weight.tolist(),
        kind=kind,
        layers=layers_of(model),
    )
    assert_allclose(model(indices, values).detach(), truth, **EXACT)


@pytest.mark.parametrize("hidden", [(), (5, 4)])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize(("n_layers", "rank"), [(0, None), (1, None), (3, None), (2, 1)])
def test_dcn_is_its_loops(n_layers, rank, n_outputs, hidden):
    model = make(
        "DCN",
        n_outputs=n_outputs,
        hidden_layer_sizes=hidden,
        n_cross_layers=n_layers,
        cross_rank=rank,
    )
    indices, values = some_rows()
    cross_layers = []
    for layer in model.cross.layers:
        W = layer.weight if rank is None else layer.weight @ layer.back
        cross_layers.append((W.tolist(), layer.bias.tolist()))
    truth = reference.dcn(
        model.bias.tolist(),
        embeddings_of(model, indices, values),
        cross_layers=cross_layers,
        cross_weight=model.cross_weight.tolist(),
        layers=layers_of(model) if hidden else None,
    )
    # Products of four layers of normal numbers reach thousands.
    assert_allclose(model(indices, values).detach(), truth, rtol=1e-12, atol=1e-9)


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


@pytest.mark.parametrize("name", sklearn_fm.models.__all__)
def test_fields_and_pairs_are_pooled_before_the_head(name):
    """Categories of a bag, its numbers and maxima, whatever the model."""
    model, (indices, values) = make(name, schema=BAGS), rows_of_bags()
    e = embeddings_of(model, indices, values)
    pooled = torch.from_numpy(pooled_by_hand(e, values.tolist()))
    linear = None
    if "linear" in model.reads:
        masked = values.clone()
        masked[:, 1:4] = 0
        linear = model.linear(indices, masked)
    pairs = torch.from_numpy(reference.pairwise_sum(pooled.numpy()))
    parts = Parts(
        linear,
        pairs if "pairs" in model.reads else None,
        pooled if "fields" in model.reads else None,
    )
    truth = model.bias + model.head(parts)
    assert_allclose(model(indices, values).detach(), truth.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_ffm_of_equal_vectors_for_all_partners_is_fm(n_outputs):
    fm, ffm = make("FM", n_outputs=n_outputs), make("FFM", n_outputs=n_outputs)
    weights = fm.state_dict()
    weights["embedding.weight"] = fm.embedding.weight.detach().repeat(1, SCHEMA.n_fields)
    ffm.load_state_dict(weights)
    assert_allclose(ffm(*some_rows()).detach(), fm(*some_rows()).detach(), **EXACT)


def test_dcn_of_one_layer_with_zero_weights_is_a_linear_model_of_the_embeddings():
    model, (indices, values) = make("DCN", n_cross_layers=1, hidden_layer_sizes=()), some_rows()
    with torch.no_grad():
        model.cross.layers[0].weight.zero_()
        model.cross.layers[0].bias.zero_()
    x = model.embedding(indices, values).flatten(start_dim=1)
    truth = model.bias + x @ model.cross_weight
    assert_allclose(model(indices, values).detach(), truth.detach(), **EXACT)


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


@all_models
def test_empty_slots_may_be_appended_unless_fields_are_read(name, options):
    """Rows of a sparse matrix are padded to equal length this way."""
    model, (indices, values) = make(name, **options), some_rows()
    longer = torch.nn.functional.pad(indices, (0, 2)), torch.nn.functional.pad(values, (0, 2))
    if "fields" in model.reads:
        with pytest.raises(ValueError, match=r"must have the 4 slots of its schema, got 6"):
            model(*longer)
        return
    assert_allclose(model(*longer).detach(), model(indices, values).detach(), **EXACT)


def parts_of(model, indices, values):
    """What the model reads, by the slow twins where there is one."""
    e = model.embedding(indices, values)
    pairs = torch.from_numpy(reference.pairwise_sum(e.detach().numpy()))
    return Parts(
        model.linear(indices, values) if "linear" in model.reads else None,
        pairs if "pairs" in model.reads else None,
        e if "fields" in model.reads else None,
    )


@all_models
def test_forward_is_the_bias_and_the_head_of_the_parts_that_are_read(name, options):
    """Engines compute the parts by themselves, and only those."""
    model, (indices, values) = make(name, **options), some_rows()
    parts = parts_of(model, indices, values)
    head = model.head(parts)
    assert head.shape == (6, options["n_outputs"])
    truth = model(indices, values).detach()
    assert_allclose((model.bias + head).detach(), truth, **EXACT)
    start = model.bias + (0 if parts.linear is None else parts.linear)
    start = start.expand(6, -1)
    finished = model.finish(start, parts.pairs, parts.fields)
    assert_allclose(finished.detach(), truth, **EXACT)


@all_models
def test_the_linear_term_is_a_summand_of_the_head(name, options):
    """The engines add the bias to it beforehand."""
    model = make(name, **options)
    parts = parts_of(model, *some_rows())
    if parts.linear is None:
        pytest.skip("no linear term")
    more = torch.randn(parts.linear.shape, generator=torch.Generator().manual_seed(2)).double()
    added = model.head(parts._replace(linear=parts.linear + more))
    assert_allclose(added.detach(), (model.head(parts) + more).detach(), rtol=1e-10, atol=1e-10)


@all_models
def test_each_part_that_is_read_matters(name, options):
    """And is among those that its class says it may read."""
    model = make(name, **options)
    assert model.reads
    assert model.reads <= type(model).reads
    parts = [
        None if part is None else part.detach().requires_grad_()
        for part in parts_of(model, *some_rows())
    ]
    head = model.head(Parts(*parts))
    head.backward(torch.randn(head.shape, generator=torch.Generator().manual_seed(2)).double())
    for part in parts:
        assert part is None or (part.grad != 0).any()


@all_models
def test_a_model_that_names_a_kernel_is_what_the_kernel_computes(name, options):
    """The kernel "fm" adds bias, linear term and pairs up without asking the model."""
    model = make(name, **options)
    assert model.fused in (None, "fm")
    if model.fused is None:
        pytest.skip("no kernel computes it all")
    assert options["n_outputs"] == 1
    assert model.reads == {"linear", "pairs"}
    linear, pairs, _ = parts_of(model, *some_rows())
    assert torch.equal(
        model.head(Parts(linear, pairs, None)), linear + pairs.sum(dim=1, keepdim=True)
    )


def test_another_head_is_not_what_the_kernel_computes():
    """A subclass of FM with a head of its own trained and predicted as a plain FM."""

    class Halved(FM):
        def head(self, parts):
            return parts.linear + parts.pairs.sum(dim=1, keepdim=True) / 2

    class Same(FM):
        pass

    assert Halved(SCHEMA).fused is None
    assert Same(SCHEMA).fused == "fm"


@all_models
def test_relabelling_indices_with_table_rows_changes_nothing(name, options):
    model, (indices, values) = make(name, **options), some_rows()
    before = model(indices, values).detach()
    label = torch.randperm(SCHEMA.table_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for table in model.sparse_tables().values():
            table[label] = table.clone()
    assert torch.equal(model(label[indices], values), before)


@all_models
def test_permuting_fields_changes_nothing_unless_fields_are_read(name, options):
    model, (indices, values) = make(name, **options), some_rows()
    if "fields" in model.reads:
        pytest.skip("reads each field at its place")
    order = [2, 0, 3, 1]
    permuted = model(indices[:, order], values[:, order])
    assert_allclose(permuted.detach(), model(indices, values).detach(), **EXACT)


@all_models
def test_every_parameter_gets_a_gradient(name, options):
    """In one of a few draws, as units may be off in one; rows that do not occur get none."""
    indices, values = some_rows()
    occurs = torch.zeros(SCHEMA.table_size, dtype=torch.bool)
    occurs[indices] = True
    trained = {}
    for seed in range(4):
        model = make(name, seed=seed, **options)
        raw = model(indices, values)
        raw.backward(torch.randn(raw.shape, generator=torch.Generator().manual_seed(2)).double())
        table_ids = {id(table) for table in model.sparse_tables().values()}
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            if id(parameter) in table_ids:
                assert torch.equal(parameter.grad.ne(0).any(dim=1), occurs), key
            trained[key] = trained.get(key, False) | bool((parameter.grad != 0).any())
    assert all(trained.values()), trained


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
    if "linear" in model.table_specs:
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
def test_tables_are_what_the_class_says(name, options):
    """The stepper relies on it: tables apart, everything else dense."""
    model = make(name, **options)
    own = {**options, "embedding_dim": 3, "init_scale": 0.01}
    n_outputs = own.pop("n_outputs")
    assert type(model).tables(SCHEMA, n_outputs, **own) == model.table_specs
    named = {key: id(parameter) for key, parameter in model.named_parameters()}
    tables = model.sparse_tables()
    assert tables.keys() == model.table_specs.keys()
    for key, table in tables.items():
        assert named[f"{key}.weight"] == id(table)
        assert table.shape == (SCHEMA.table_size, model.table_specs[key].width)


@all_models
def test_defaults_are_for_the_priors_of_the_tables(name, options):
    model = make(name, **options)
    defaults = type(model).defaults(SCHEMA, 4.0, embedding_dim=3, **options)
    assert defaults.priors.keys() == {table.prior for table in model.table_specs.values()}
    assert 0 < defaults.learning_rate <= 0.2


@pytest.mark.parametrize("name", sklearn_fm.models.__all__)
def test_defaults_are_those_of_the_constructor(name):
    """What is left out is at its default there too."""
    cls = getattr(sklearn_fm.models, name)
    model = cls(SCHEMA)
    assert cls.tables(SCHEMA, 1) == model.table_specs
    signature = inspect.signature(cls).parameters.values()
    own = {p.name: p.default for p in signature if p.default is not p.empty}
    assert cls.defaults(SCHEMA, 4.0) == cls.defaults(SCHEMA, 4.0, **own)
    for option in ("dropout", "batch_norm"):
        if option in own and own["hidden_layer_sizes"]:
            assert not cls.defaults(SCHEMA, 4.0).needs_batches
            assert cls.defaults(SCHEMA, 4.0, **{option: 0.5}).needs_batches


@pytest.mark.parametrize("n_slots", [1.0, 4.0, 39.0, 2.5])
@pytest.mark.parametrize("name", ["FM", "FFM", "DeepFM"])
def test_priors_give_the_terms_of_a_row_their_spread(name, n_slots):
    """1 for the linear term and 1/2 for a pairwise one of n (n - 1) / 2 pairs of K products."""
    defaults = getattr(sklearn_fm.models, name).defaults(SCHEMA, n_slots, embedding_dim=8)
    assert_allclose(n_slots / defaults.priors["linear"], 1)
    n_pairs = max(n_slots * (n_slots - 1) / 2, 1)
    assert_allclose(n_pairs * 8 / defaults.priors["embedding"] ** 2, 1 / 4)
    assert defaults.learning_rate == min(0.2, 1.5 / n_slots)


class Odd(FieldModel):
    """A model from outside of the package: layers of torch, and some inside a list."""

    reads = frozenset({"fields"})

    def __init__(self, schema, embedding_dim=16, **options):
        super().__init__(schema, embedding_dim, **options)
        self.first = torch.nn.Linear(schema.n_fields * embedding_dim, 4)
        self.rest = torch.nn.ModuleList([MLP(4, (3,), self.n_outputs)])

    def head(self, parts):
        return self.rest[0](self.first(parts.fields.flatten(start_dim=1)))


def test_start_values_reach_layers_of_torch_and_inner_ones():
    """Only children of type MLP were drawn anew; all others started where they were."""
    draws = []
    for global_seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            model, state = Odd(SCHEMA, 3), torch.get_rng_state()
            model.reset_parameters(torch.Generator().manual_seed(5))
            assert torch.equal(torch.get_rng_state(), state)
        draws.append(model.state_dict())
    for key in draws[0]:
        assert torch.equal(draws[0][key], draws[1][key]), key
    other = Odd(SCHEMA, 3)
    other.reset_parameters(torch.Generator().manual_seed(6))
    assert not torch.equal(other.first.weight, draws[0]["first.weight"])
    other.reset_parameters()  # from torch's own generator


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"tables": {"linear": Table(1, "linear")}}, "must give 'embedding'"),
        (
            {"tables": {"linear": Table(2, "linear"), "embedding": Table(3, "embedding")}},
            r"one weight per output.*Table\(1, \.\.\.\), got Table\(width=2",
        ),
        ({"reads": frozenset({"slots"})}, r"must name parts out of.*got \['slots'\]"),
        ({"tables": {"embedding": Table(3, "embedding")}}, r"'linear' if and only if"),
    ],
)
def test_contradictions_are_told_at_once(said, message):
    class Wrong(FieldModel):
        reads = said.get("reads", frozenset({"linear", "pairs"}))

        @classmethod
        def tables(cls, schema, n_outputs, **own):
            return said.get("tables") or super().tables(schema, n_outputs, **own)

    with pytest.raises(ValueError, match=message):
        Wrong(SCHEMA, 3)


def test_a_table_is_cut_into_equal_stretches():
    with pytest.raises(ValueError, match=r"7 numbers cannot be cut into 3 equal stretches"):
        Table(7, "embedding", 3)
    with pytest.raises(ValueError, match=r"prior must be 'linear' or 'embedding', got 'dense'"):
        Table(7, "dense")


def test_dcn_has_no_linear_table():
    assert set(DCN(SCHEMA).state_dict()) >= {"bias", "embedding.weight"}
    assert "linear.weight" not in DCN(SCHEMA).state_dict()


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
