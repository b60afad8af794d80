"""The compiled step against the torch step, and the promises about threads."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from model_cases import MODEL_CASES, make_model
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.kernels.sgd.layout import RULES, Layout
from sklearn_fm.models import FM, MF, DeepFM
from sklearn_fm.models.contract import FieldModel, Table
from sklearn_fm.training import compiled_step as compiled_steps
from sklearn_fm.training.compiled_step import CompiledStepper
from sklearn_fm.training.loading import make_rows
from sklearn_fm.training.losses import BinaryLogLoss, MultinomialLogLoss, SquaredError
from sklearn_fm.training.options import StepOptions
from sklearn_fm.training.packing import find_packed, pack
from sklearn_fm.training.prediction import predict_encoded, raw_predictions
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


def _public(name, options):
    """A public model of so many outputs, its start values large enough to matter."""
    n_outputs = options["n_outputs"]
    loss = BinaryLogLoss() if n_outputs == 1 else MultinomialLogLoss(n_outputs)
    return partial(_make_public, name, options), loss


def _make_public(name, options, schema, K):
    return make_model(name, schema, K, init_scale=0.3, **options)


class FieldsOnly(FieldModel):
    """From outside of the package: a linear map of the fields, in a table without a linear term."""

    reads = frozenset({"fields"})

    def __init__(self, schema, embedding_dim=16, **options):
        super().__init__(schema, embedding_dim, **options)
        weight = torch.linspace(-1, 1, schema.n_fields * embedding_dim)
        self.weight = torch.nn.Parameter(weight.unsqueeze(1))
        self.reset_parameters()

    def head(self, parts):
        return parts.fields.flatten(start_dim=1) @ self.weight


class PairsOnly(FieldModel):
    """The pairwise sums alone, which take rows of any length."""

    reads = frozenset({"pairs"})

    def __init__(self, schema, embedding_dim=16, **options):
        super().__init__(schema, embedding_dim, **options)
        self.reset_parameters()

    def head(self, parts):
        return parts.pairs.sum(dim=1, keepdim=True).sin()


class LinearOnly(FieldModel):
    """Logistic regression, whose embeddings nobody reads."""

    reads = frozenset({"linear"})

    def head(self, parts):
        return parts.linear


def _batch_normed(schema, K):
    return DeepFM(schema, K, hidden_layer_sizes=(4, 3), batch_norm=True, init_scale=0.3)


MODELS = {
    "FM": (lambda schema, K: FM(schema, K, init_scale=0.3), BinaryLogLoss()),
    "FM of slots": (lambda schema, K: _slot_pairs(schema, K), BinaryLogLoss()),
    "FM of 3 classes": (lambda schema, K: FM(schema, K, n_outputs=3), MultinomialLogLoss(3)),
    "MF": (lambda schema, K: MF(schema, K, init_scale=0.3), SquaredError(0.5, 2.0)),
    "MF in a range": (lambda schema, K: MF(schema, K), SquaredError(0.5, 2.0, (-1.0, 3.0))),
    "DeepFM": (_batch_normed, BinaryLogLoss()),
    "fields only": (lambda schema, K: FieldsOnly(schema, K, init_scale=0.3), BinaryLogLoss()),
    "pairs only": (lambda schema, K: PairsOnly(schema, K, init_scale=0.3), BinaryLogLoss()),
    "linear only": (lambda schema, K: LinearOnly(schema, K, init_scale=0.3), BinaryLogLoss()),
    **{case: _public(*parts) for case, parts in MODEL_CASES.items()},
}


def _slot_pairs(schema, K):
    return FM(schema, K, init_scale=0.3, pair_slots=True)


all_models = pytest.mark.parametrize("name", MODELS)
all_solvers = pytest.mark.parametrize("solver", sorted(ROW_RULES))

#: Models that a rule can meet in kernels of another shape; each is compiled for each rule.
OF_EVERY_SHAPE = ("FM", "FM of slots", "FM of 3 classes", "linear only", "pairs only", "DeepFM")
#: All models with one rule, and all rules with a model of each shape.
STEPS = [
    (name, solver)
    for name in MODELS
    for solver in sorted(ROW_RULES)
    if solver == "adagrad" or name in (*OF_EVERY_SHAPE, "FFM-None-3")
]
all_steps = pytest.mark.parametrize(("name", "solver"), STEPS)


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


def train(stepper_class, name, solver, *, K=12, n_epochs=2, as_csr=False, bags=False, **options):
    """Weights and losses after some epochs, and the stepper."""
    make, loss = MODELS[name]
    torch.manual_seed(0)
    batch_size = options.pop("batch_size", 16)
    schema = BAGS if bags else SCHEMA
    schema = FieldSchema.from_sizes([1] * schema.table_size) if as_csr else schema
    model = make(schema, K)
    with torch.no_grad():
        model.bias.fill_(0.2)
    rows = make_data(loss, as_csr=as_csr, bags=bags, positional="fields" in model.reads)
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


@all_steps
def test_compiled_step_is_the_torch_step(name, solver):
    by_torch, torch_losses, _ = train(TorchStepper, name, solver)
    compiled, losses, _ = train(CompiledStepper, name, solver)
    assert_allclose(losses, torch_losses, rtol=1e-4)
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_steps
def test_rows_of_different_lengths(name, solver):
    by_torch, torch_losses, _ = train(TorchStepper, name, solver, as_csr=True)
    compiled, losses, _ = train(CompiledStepper, name, solver, as_csr=True)
    assert_allclose(losses, torch_losses, rtol=1e-4)
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_steps
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


@pytest.mark.parametrize(
    ("K", "solver"), [(1, "adagrad"), (4, "adagrad"), (6, "adagrad"), (16, "adagrad"), (4, "ftrl")]
)
def test_a_step_size_for_each_vector_of_a_row(K, solver):
    """However wide the vectors that share an accumulator: an odd number fills no register."""
    by_torch, _, _ = train(TorchStepper, "FFM-None-1", solver, K=K)
    compiled, _, stepper = train(CompiledStepper, "FFM-None-1", solver, K=K)
    assert stepper.layout.stretches == SCHEMA.n_fields
    assert compiled.embedding.weight.shape == (SCHEMA.table_size, SCHEMA.n_fields * K)
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)
    accumulators = stepper.table_state()["embedding.accumulator"]
    assert accumulators.shape == (SCHEMA.table_size, SCHEMA.n_fields)
    seen = (accumulators > 0.1001).any(dim=1)
    assert (accumulators[seen].std(dim=1) > 0).all()


@pytest.mark.parametrize("accumulators", [1, 4])
@pytest.mark.parametrize("solver", sorted(RULES))
@pytest.mark.parametrize("width", [4, 12, 20, 64])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_each_number_of_a_row_has_a_place_of_its_own(n_outputs, width, solver, accumulators):
    layout = Layout(width, n_outputs, solver, accumulators)
    assert layout.K % layout.lanes == 0
    assert layout.stretch * layout.stretches == layout.K
    if layout.stretches > 1:
        assert width == layout.K
    if accumulators == 1:
        assert layout.compiled.compiled == layout.compiled
    for part in ("K", "lanes", "stretch", "own", "own_w", "width"):
        if accumulators == 1:  # else kernels are told at run time
            assert getattr(layout.compiled, part) == getattr(layout, part), part
        assert (part in layout.sizes) == (accumulators > 1 and part != "lanes")
    places = [*range(layout.K), *range(layout.K, layout.K + n_outputs)]
    places += range(layout.scale_v, layout.scale_v + layout.stretches)
    places += [layout.scale_w, layout.clock, layout.mark]
    assert places == list(range(layout.own))
    assert layout.width % 8 == 0
    assert layout.width >= (layout.own if solver != "none" else layout.K + n_outputs)
    if solver in ("adagrad", "ftrl"):
        assert layout.own_w - layout.own == accumulators
        assert layout.width > layout.own_w


class SwappedPriors(FM):
    """A factorization machine whose embeddings have the prior of the linear term."""

    accumulators = 1

    @classmethod
    def tables(cls, schema, n_outputs, **own):
        tables = super().tables(schema, n_outputs, **own)
        embedding = Table(tables["embedding"].width, "linear", cls.accumulators)
        return {"linear": Table(n_outputs, "embedding"), "embedding": embedding}


@all_solvers
def test_penalties_go_by_the_prior_of_a_table(solver, monkeypatch):
    """Not by its name; a kernel that computes it all knows accumulators, too."""
    if solver == "adagrad":
        monkeypatch.setattr(SwappedPriors, "accumulators", 3)
    swapped = (lambda schema, K: SwappedPriors(schema, K, init_scale=0.3), BinaryLogLoss())
    monkeypatch.setitem(MODELS, "swapped", swapped)
    by_torch, _, step = train(TorchStepper, "swapped", solver, n_epochs=1)
    compiled, _, other = train(CompiledStepper, "swapped", solver, n_epochs=1)
    assert compiled.fused == "fm"
    assert step.penalties == other.penalties == {"linear": 3, "embedding": 20}
    assert {name: rule.penalty for name, rule in step.rules.items()} == {
        "linear": 20,
        "embedding": 3,
        "bias": 0,
    }
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)
    for each in (step, other):
        each.set_penalty("linear", 50.0)
        rows = make_data(BinaryLogLoss())
        each.run(rows, torch.arange(N_ROWS))
        each.settle()
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_models
def test_no_work_for_parts_that_nobody_reads(name):
    """Pairwise sums were computed for all models and thrown away by some."""
    model, _, stepper = train(CompiledStepper, name, "adagrad", n_epochs=1)
    scratch, layout = stepper._scratch[0], stepper.layout
    for room in (scratch.push, scratch.pull):
        assert len(room) == (stepper.batch_size if "pairs" in model.reads else 0)
    if "linear" not in model.table_specs:
        weights = stepper.table[:-1, layout.K : layout.K + layout.C]
        assert (weights == 0).all()
        assert not any(key.startswith("linear.") for key in stepper.table_state())


# -- what kernels take on trust ----------------------------------------------------------


@pytest.mark.parametrize("stepper_class", [TorchStepper, CompiledStepper])
def test_padded_rows_are_refused_where_fields_are_read(stepper_class):
    """A model of fields that was not marked as positional killed the process on sparse rows.

    The kernel wrote embeddings of fields that padded rows do not have through an empty buffer.
    """
    model = FieldsOnly(FieldSchema.from_sizes([1] * SCHEMA.table_size), 12)
    rows = make_data(BinaryLogLoss(), as_csr=True, positional=False)
    step = stepper_class(model, BinaryLogLoss(), StepOptions(), 90.0, torch.Generator(), 16)
    with pytest.raises(ValueError, match=r"FieldsOnly reads each field at its place.*positional"):
        step.run(rows, torch.arange(16))
    with pytest.raises(ValueError, match=r"FieldsOnly reads each field at its place.*positional"):
        raw_predictions(model, rows)


def rows_with(position, index, *, as_csr, positional):
    """Rows of which one index is another, without a look at it."""
    rows = make_data(BinaryLogLoss(), as_csr=as_csr, positional=positional)
    flat = rows.columns if as_csr else rows.indices.view(-1)
    flat[position] = index
    return rows


@pytest.mark.parametrize("index", [-1, SCHEMA.table_size, 2**30])
@pytest.mark.parametrize("as_csr", [False, True])
@pytest.mark.parametrize("name", ["FM", "DeepFM", "pairs only"])
def test_no_kernel_reaches_beyond_the_table(name, as_csr, index):
    """Training and prediction looked up whatever they were given, and wrote there too."""
    make, loss = MODELS[name]
    schema = FieldSchema.from_sizes([1] * SCHEMA.table_size) if as_csr else SCHEMA
    model = make(schema, 12)
    positional = "fields" in model.reads
    rows = rows_with(50, index, as_csr=as_csr, positional=positional)
    message = rf"Indices from .*{'-1' if index < 0 else index}.* do not fit the 48 rows"
    for stepper_class in (TorchStepper, CompiledStepper):
        before = weights_of(model)
        step = stepper_class(model, loss, StepOptions(), 90.0, torch.Generator(), 16)
        with pytest.raises(IndexError, match=message):
            step.run(rows, torch.arange(16))
        for key, value in weights_of(model).items():
            assert_array_equal(value, before[key])
    assert find_packed(model) is not None
    with pytest.raises(IndexError, match=message):
        raw_predictions(model, rows)
    with pytest.raises(IndexError, match=message):
        raw_predictions(model, rows.subset(torch.arange(3)))


def test_predictions_of_encoded_rows_do_not_reach_beyond_the_table():
    """Rows encoded for a larger table than the model's."""
    model = FM(SCHEMA, 12)
    pack(model)
    larger = FieldSchema.from_sizes([30, 1, 12, 500])
    with pytest.raises(IndexError, match=r"Indices from 0 to 542 do not fit the 48 rows"):
        predict_encoded(model, FieldArray([[-1.0, 0.5, -1.0, 498.0]], larger))
    shorter = FieldSchema.from_sizes([30, 1, 12])
    with pytest.raises(ValueError, match="schema has 4 slots, but rows have 3"):
        predict_encoded(model, FieldArray([[-1.0, 0.5, -1.0]], shorter))


@all_solvers
@pytest.mark.parametrize("name", ["FM", "pairs only"])
def test_sparse_rows_have_no_field_to_drop(name, solver):
    """With unknown_dropout they were taken for rows of fields, which they are not."""
    plain, losses, _ = train(CompiledStepper, name, solver, as_csr=True)
    dropped, same_losses, _ = train(CompiledStepper, name, solver, as_csr=True, unknown_dropout=0.5)
    assert_array_equal(losses, same_losses)
    for key, value in weights_of(plain).items():
        assert_array_equal(value, weights_of(dropped)[key], err_msg=key)


# -- rows that stay, rows that come ------------------------------------------------------


@all_steps
def test_frozen_rows_stay_to_the_last_bit(name, solver, monkeypatch):
    """Under either engine, while the others move alike."""
    make, loss = MODELS[name]
    frozen = torch.tensor([0, 3, 30, 31, 40])

    def freezing(schema, K):
        model = make(schema, K)
        model.frozen_rows = frozen
        return model

    monkeypatch.setitem(MODELS, name, (freezing, loss))
    torch.manual_seed(0)
    before = weights_of(make(SCHEMA, 12))["embedding.weight"]
    by_torch, _, _ = train(TorchStepper, name, solver)
    compiled, _, _ = train(CompiledStepper, name, solver)
    for model in (by_torch, compiled):
        assert_array_equal(model.embedding.weight.detach()[frozen], before[frozen])
    assert_same_weights(compiled, by_torch, rtol=2e-3, atol=2e-5)


@all_steps
def test_state_grows_with_the_vocabularies(name, solver):
    """Rows keep weights and state, new ones have those of the start; both engines go on alike."""
    make, loss = MODELS[name]
    sizes = (34, 1, 12, 9)
    larger = FieldSchema(SCHEMA.names, SCHEMA.kinds, sizes)
    kept = larger.rows_kept(SCHEMA)
    ends = []
    for stepper_class in (TorchStepper, CompiledStepper):
        model, _, before = train(stepper_class, name, solver)
        state = copy.deepcopy(before.state())
        torch.manual_seed(1)
        grown = make(larger, 12)
        start = weights_of(grown)
        grown.take_over(model)
        rows = make_data(loss, positional="fields" in grown.reads)
        generator = torch.Generator().manual_seed(9)
        total = float(rows.weight.sum())
        step = stepper_class(grown, loss, before.options, total, generator, 16)
        fresh = {key: value.clone() for key, value in step.table_state().items()}
        step.load_state(state)
        new = torch.ones(larger.table_size, dtype=torch.bool)
        for first, now, n in kept:
            new[now : now + n] = False
            for key, value in step.table_state().items():
                if len(value) == larger.table_size:
                    assert_array_equal(value[now : now + n], state["tables"][key][first:][:n])
            for key in grown.sparse_tables():
                then = weights_of(model)[f"{key}.weight"][first : first + n]
                assert_array_equal(weights_of(grown)[f"{key}.weight"][now : now + n], then)
        for key, value in step.table_state().items():
            if len(value) == larger.table_size and "sums" not in key:
                assert_array_equal(value[new], fresh[key][new], err_msg=key)
        step.settle()
        if solver != "ftrl":
            for key in grown.sparse_tables():
                now = weights_of(grown)[f"{key}.weight"]
                assert_array_equal(now[new], start[f"{key}.weight"][new], err_msg=key)
        step.run(rows, rows.shuffled(generator))
        step.settle()
        ends.append(grown)
    assert_same_weights(*ends, rtol=5e-3, atol=5e-5)


# -- threads -----------------------------------------------------------------------------


@all_solvers
@pytest.mark.parametrize(
    "name", ["FM", "MF in a range", "FM of 3 classes", "DeepFM", "FFM-None-1", "fields only"]
)
@pytest.mark.parametrize("table", ["plain", "as_csr", "bags"])
def test_threads_do_not_change_a_bit(name, solver, table, monkeypatch):
    """Also with more threads than there are columns or cores."""
    monkeypatch.setattr(compiled_steps, "_THREAD_NUMBERS", 0)
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


@all_steps
def test_state_travels_between_the_engines(name, solver):
    """What one engine leaves, the other goes on from."""
    loss = MODELS[name][1]
    results = []
    for first, second in [(CompiledStepper, TorchStepper), (TorchStepper, CompiledStepper)]:
        model, _, stepper = train(first, name, solver)
        state = copy.deepcopy(stepper.state())
        other = copy.deepcopy(model)
        rows = make_data(loss, positional="fields" in other.reads)
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
    options = {} if table == "plain" else {table: True}
    model, _, _ = train(CompiledStepper, name, "adagrad", **options)
    rows = make_data(MODELS[name][1], seed=4, positional="fields" in model.reads, **options)
    some = rows.subset(torch.arange(5, 60))
    compiled = raw_predictions(model, some, 2)
    model.eval()
    by_module = [model(b.indices, b.values).detach() for b in some.in_order(16)]
    assert_allclose(compiled, torch.cat(by_module), rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_before_its_step():
    make, loss = MODELS["FM"]
    model = make(SCHEMA, 12)
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
        model = FM(FieldSchema.from_sizes([1] * 10), 12, init_scale=0.5)
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
    model = FM(FieldSchema.from_sizes([1] * 10), 12)
    rows = make_rows(X, np.ones(1), np.ones(1))
    options = StepOptions(solver="adam")
    stepper = CompiledStepper(model, BinaryLogLoss(), options, 1.0, torch.Generator(), 1)
    stepper.run(rows, torch.arange(1))
    assert stepper.table_state()["linear.count"][[3, 5], 0].tolist() == [0, 1]
