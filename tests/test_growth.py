"""New categories in partial_fit and warm_start: what was learned stays, and training goes on.

How the encoder itself grows is told in ``encoding``.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss, roc_auc_score
from skorch.callbacks import Callback

from sklearn_fm import (
    BagField,
    DeepFMClassifier,
    DeepFMRegressor,
    FieldArray,
    FieldEncoder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)
from sklearn_fm.layers.mlp import MLP
from sklearn_fm.models.contract import FieldModel
from sklearn_fm.training import net, prediction

SOLVERS = ["adagrad", "adam", "sgd", "ftrl"]
FAMILIES = [FMClassifier, FMRegressor, DeepFMRegressor, MFRegressor]
# One embedding_dim for all, as each has kernels of its own.
QUICK = {
    "batch_size": 32,
    "embedding_dim": 16,
    "random_state": 0,
    "l2_linear": 0.0,
    "l2_embedding": 0.0,
}


@pytest.fixture(params=["compiled", "torch"])
def engine(request, monkeypatch):
    if request.param == "torch":
        for module in (net, prediction):
            monkeypatch.setattr(module, "HAS_KERNELS", False)
    return request.param


def chunk(users, items, n_rows=160, seed=0):
    """Rows of some users and items."""
    rng = np.random.RandomState(seed)
    X = pd.DataFrame({"user": rng.choice(users, n_rows), "item": rng.choice(items, n_rows)})
    return X, (X.user.map(ord) * 7 + X.item.map(ord) * 3) % 5 + rng.rand(n_rows)


OLD, Y_OLD = chunk(list("abcdef"), list("uvwxyz"))
NEW, Y_NEW = chunk(list("aghij"), list("uvkl"), seed=1)  # b to f and w to z are absent


def target(cls, y):
    return (y > 2.5).astype(int) if "Classifier" in cls.__name__ else y


def learn(model, X, y):
    extra = {"classes": [0, 1]} if "Classifier" in type(model).__name__ else {}
    return model.partial_fit(X, target(type(model), y), **extra)


def rows_of(model, **categories):
    """Linear weights and embeddings of categories, by field."""
    module, found = model.module_, []
    for field, names in categories.items():
        codes = model.encoder_.encode_categories(field, np.array(list(names), dtype=object))
        assert (codes >= 0).all()
        first = model.schema_.offsets[model.schema_.names.index(field)]
        index = torch.from_numpy(first + 1 + codes.astype(np.int64))
        tables = module.linear.weight, module.embedding.weight
        found += [table.detach()[index].numpy().copy() for table in tables]
    return found


def weights_of(model):
    return {name: value.numpy().copy() for name, value in model.module_.state_dict().items()}


def assert_same_weights(a, b):
    theirs = weights_of(b)
    for name, value in weights_of(a).items():
        assert_array_equal(value, theirs[name], err_msg=name)


# -- where rows go ----------------------------------


def test_rows_kept_are_those_of_the_same_field_and_code():
    before = FieldSchema(
        ("user", "seen", "age", "item"),
        ("categorical", "bag", "numeric", "categorical"),
        (3, 5, 2, 5),
        slots=(1, 2, 2, 1),
        vocabularies=("user", "item", "age", "item"),
    )
    now = FieldSchema(
        before.names, before.kinds, (4, 9, 2, 9), before.slots, before.poolings, before.vocabularies
    )
    then = np.arange(before.table_size)
    table = np.full(now.table_size, -1)
    for first, after, n_rows in now.rows_kept(before):
        table[after : after + n_rows] = then[first : first + n_rows]
    for f, size in enumerate(before.vocabulary_sizes):
        for row in range(size):
            assert table[now.offsets[f] + row] == before.offsets[f] + row
    assert (table == -1).sum() == now.table_size - before.table_size == 5
    assert before.rows_kept(now) is None
    assert before.rows_kept(before) == ((0, 0, 3), (3, 3, 5), (8, 8, 2))


@pytest.mark.parametrize(
    "change",
    [
        {"names": ("a", "c")},
        {"kinds": ("categorical", "binned")},
        {"slots": (1, 2), "kinds": ("categorical", "bag")},
        {"vocabulary_sizes": (4, 9)},
        {"vocabularies": ("a", "z")},
    ],
    ids=str,
)
def test_other_changes_than_growth(change):
    parts = {
        "names": ("a", "b"),
        "kinds": ("categorical",) * 2,
        "vocabulary_sizes": (5, 5),
        "vocabularies": ("a", "b"),
    }
    before = FieldSchema(**parts)
    now = FieldSchema(**{**parts, "vocabulary_sizes": (6, 6), **change})
    assert now.rows_kept(before) is None


def test_codes_under_a_smaller_or_larger_schema():
    """New codes become unknown; empty slots, numbers and all else stay."""
    parts = (("a", "b", "c"), ("categorical", "bag", "numeric"))
    small, large = (FieldSchema(*parts, sizes, slots=(1, 2, 1)) for sizes in ((3, 4, 1), (6, 5, 1)))
    codes = FieldArray([[4, 3, -2, 7.5], [1, 2, 0, np.nan], [-1, -2, -2, 9.0]], large)
    seen = codes.under(small)
    assert seen.schema == small
    assert_array_equal(seen, [[-1, -1, -2, 7.5], [1, 2, 0, np.nan], [-1, -2, -2, 9.0]])
    assert codes[0, 0] == 4  # not in place
    back = seen.under(large)
    assert back.schema == large
    assert_array_equal(back, seen)
    with pytest.raises(ValueError, match="differ in more than new categories"):
        codes.under(FieldSchema(*parts, (2, 9, 1), slots=(1, 2, 1)))


# -- what was learned stays ----------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cls", FAMILIES)
def test_rows_that_do_not_occur_keep_every_bit(cls, solver, engine):
    model = learn(cls(solver=solver, **QUICK), OLD, Y_OLD)
    before = rows_of(model, user="bcdef", item="wxyz")
    touched = rows_of(model, user="a", item="uv")
    codes = model.encoder_.transform(OLD)
    learn(model, NEW, Y_NEW)
    assert model.schema_.vocabulary_sizes == (11, 9)
    for was, now in zip(before, rows_of(model, user="bcdef", item="wxyz"), strict=True):
        assert_array_equal(now, was)
    for was, now in zip(touched, rows_of(model, user="a", item="uv"), strict=True):
        assert (now != was).any()
    new = rows_of(model, user="ghij", item="kl")
    assert all((np.abs(part) > 1e-4).any(axis=1).all() for part in new)  # these learned
    assert_array_equal(np.asarray(model.encoder_.transform(OLD)), np.asarray(codes))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_bags_and_shared_vocabularies_grow(n_classes, engine):
    """The vocabulary grows by the history's categories, which the item then knows too."""
    rng = np.random.RandomState(0)

    def rows(items, n_rows=120):
        history = [list(rng.choice(items, 3, replace=False)) for _ in range(n_rows)]
        return pd.DataFrame({"seen": history, "item": rng.choice(items[:3], n_rows)})

    encoder = FieldEncoder(fields={"seen": BagField(vocabulary="item", max_length=3)})
    classes = np.arange(n_classes)
    model = FMClassifier(solver="adagrad", encoder=encoder, **QUICK)
    model.partial_fit(rows(list("abcde")), rng.choice(classes, 120), classes=classes)
    before = rows_of(model, item="abcde")
    model.partial_fit(rows(list("pqrst")), rng.choice(classes, 120))
    assert model.schema_.vocabulary_sizes == (11, 11)
    assert_array_equal(rows_of(model, item="abcde")[1], before[1])
    assert_array_equal(rows_of(model, seen="abcde")[0], before[0])
    assert model.module_.linear.weight.shape == (11, 1 if n_classes == 2 else 3)


@pytest.mark.parametrize("cls", FAMILIES)
def test_predictions_hardly_change_where_learning_is_slow(cls, engine):
    model = learn(cls(solver="sgd", **QUICK), OLD, Y_OLD)
    method = "decision_function" if hasattr(model, "classes_") else "predict"
    before = getattr(model, method)(OLD)
    rates = {"learning_rate", "learning_rate_dense"} & set(model.get_params())
    model.set_params(**dict.fromkeys(rates, 1e-12))
    learn(model, NEW, Y_NEW)
    assert_allclose(getattr(model, method)(OLD), before, atol=1e-5)


def test_rows_of_weight_0_bring_no_categories():
    model = learn(FMRegressor(solver="sgd", **QUICK), OLD, Y_OLD)
    sizes = model.schema_.vocabulary_sizes
    both, y = pd.concat([NEW, OLD]), np.append(Y_NEW, Y_OLD)
    model.partial_fit(both, y, sample_weight=np.repeat([0.0, 1.0], 160))
    assert model.schema_.vocabulary_sizes == sizes
    with pytest.raises(ValueError, match="All sample weights are zero"):
        model.partial_fit(NEW, Y_NEW, sample_weight=np.zeros(160))


# -- training goes on ----------------------------------


@pytest.fixture
def fixed_start(monkeypatch):
    """Start values that depend on field and code alone, not on how large the table is."""

    @torch.no_grad()
    def reset(self, generator=None):
        self.bias.zero_()
        self.linear.weight.zero_()
        schema = self.schema
        for f, size in enumerate(schema.vocabulary_sizes):
            rows = np.random.RandomState(f).randn(100, self.embedding.weight.shape[1])[:size] / 10
            first = schema.offsets[f]
            self.embedding.weight[first : first + size] = torch.from_numpy(rows).float()
        for part in self.children():
            if isinstance(part, MLP):
                part.reset_parameters(torch.Generator().manual_seed(0))

    monkeypatch.setattr(FieldModel, "reset_parameters", reset)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cls", [*FAMILIES, "several classes"])
@pytest.mark.usefixtures("fixed_start")
def test_growing_is_having_had_the_rows_all_along(cls, solver, engine):
    """The solver's state and the prior's share go along; a row that never occurred has none."""
    several = cls == "several classes"
    cls = FMClassifier if several else cls
    encoder = FieldEncoder(categorical=slice(None)).fit(OLD)
    small = encoder.transform(OLD)
    encoder.partial_fit(NEW)
    large = encoder.transform(NEW)
    model = cls(solver=solver, **{**QUICK, "l2_linear": 3.0, "l1_linear": 0.3})
    if solver != "ftrl":
        model.set_params(l1_linear=0.0)
    y_old, y_new = ((y.astype(int) % 3, target(cls, y))[not several] for y in (Y_OLD, Y_NEW))
    extra = {"classes": np.unique(y_old)} if "Classifier" in cls.__name__ else {}
    grown = pickle.loads(pickle.dumps(model)).partial_fit(small, y_old, **extra)
    grown.partial_fit(large, y_new).partial_fit(small, y_old)
    whole = model.partial_fit(small.under(large.schema), y_old, **extra)
    whole.partial_fit(large, y_new).partial_fit(small.under(large.schema), y_old)
    assert_same_weights(grown, whole)
    assert np.abs(weights_of(grown)["linear.weight"]).max() > 1e-3


def test_the_prior_is_paid_about_once():
    """Ten chunks of equal weight owe 1 + 1/2 + ... + 1/10 of what a pass over all owes."""
    rng = np.random.RandomState(0)
    schema = FieldSchema.from_sizes([12, 12])
    first = FieldArray(rng.randint(0, 11, (64, 2)), schema)
    later = FieldArray(rng.randint(0, 5, (64, 2)), schema)
    model = FMRegressor(
        solver="sgd", learning_rate=0.5, batch_size=8, l2_embedding=3.0, init_scale=1.0
    )
    model.partial_fit(first, rng.randn(64))
    absent = np.r_[7:12]  # codes 6 to 10 of the first field
    before = model.module_.embedding.weight.detach()[absent].numpy().copy()
    for _ in range(9):
        model.partial_fit(later, rng.randn(64))
    paid = sum(1 / t for t in range(2, 11))
    after = model.module_.embedding.weight.detach()[absent].numpy()
    assert_allclose(after, before * np.exp(-0.5 * 3.0 / 8 * paid), rtol=1e-5)


def test_weights_share_the_prior_out():
    """A chunk of 3 times the weight owes 3/4 of the prior, however its weights are scaled."""
    rng = np.random.RandomState(0)
    schema = FieldSchema.from_sizes([12, 12])
    model = FMRegressor(solver="sgd", learning_rate=0.5, batch_size=8, l2_embedding=3.0)
    first, later = (FieldArray(rng.randint(0, top, (64, 2)), schema) for top in (11, 5))
    model.partial_fit(first, rng.randn(64))
    before = model.module_.embedding.weight.detach()[7:12].numpy().copy()
    model.partial_fit(later, rng.randn(64), sample_weight=np.full(64, 3.0))
    after = model.module_.embedding.weight.detach()[7:12].numpy()
    # The penalty is 3.0 / 3 for weights of mean 1.
    assert_allclose(after, before * np.exp(-0.5 * 1.0 / 8 * 3 / 4), rtol=1e-5)


def test_adam_keeps_rows_that_saw_no_gradient(engine):
    """One whose partner is 0 has gradient 0: it was shrunk at a rate of 1e8, that is, erased."""
    schema = FieldSchema.from_sizes([3, 3])
    model = FMRegressor(solver="adam", batch_size=4, l2_embedding=1.0, random_state=0)
    model.partial_fit(FieldArray([[-1, 0], [-1, 1]] * 8, schema), np.arange(16.0))
    assert (model.module_.embedding.weight.detach()[4:6].abs() > 1e-4).any(dim=1).all()


# -- ways to pass new categories ----------------------------------


@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier, MFRegressor])
def test_the_own_encoder_or_one_outside(cls):
    inside = learn(learn(cls(solver="adagrad", **QUICK), OLD, Y_OLD), NEW, Y_NEW)
    encoder = FieldEncoder(categorical=slice(None)) if cls is MFRegressor else FieldEncoder()
    outside = cls(solver="adagrad", **QUICK)
    for X, y in ((OLD, Y_OLD), (NEW, Y_NEW)):
        encoder.partial_fit(X)
        learn(outside, encoder.transform(X), y)
    assert_same_weights(inside, outside)


def test_predict_of_codes_older_and_newer_than_the_model():
    encoder = FieldEncoder().fit(OLD)
    old = encoder.transform(OLD)
    grown = FieldEncoder().fit(OLD).partial_fit(NEW)
    model = FMRegressor(solver="adagrad", **QUICK).partial_fit(old, Y_OLD)
    unknown = model.predict(encoder.transform(NEW))
    assert_array_equal(model.predict(grown.transform(NEW)), unknown)
    model.partial_fit(grown.transform(NEW), Y_NEW)
    assert_array_equal(model.predict(old), model.predict(grown.transform(OLD)))
    assert (model.predict(grown.transform(NEW)) != unknown).any()


def test_fewer_categories_than_ever_are_another_encoder_s():
    """Codes of an encoder fitted on the test set looked like those of an earlier day."""
    model = FMRegressor(solver="adagrad", **QUICK).fit(FieldEncoder().fit_transform(OLD), Y_OLD)
    few = FieldEncoder().fit_transform(OLD[:3])
    for act in (model.predict, lambda X: model.partial_fit(X, Y_OLD[:3])):
        with pytest.raises(
            ValueError, match=r"another schema than in fit\. Encode all data with one"
        ):
            act(few)


def test_an_encoder_ahead_of_its_model():
    """Codes of categories that the model has no rows for shifted all later fields."""
    model = learn(FMRegressor(solver="adagrad", **QUICK), OLD, Y_OLD)
    before = model.predict(OLD), model.predict(NEW)
    model.encoder_.partial_fit(NEW)
    assert_array_equal(model.predict(OLD), before[0])
    assert_array_equal(model.predict(NEW), before[1])
    same = learn(learn(FMRegressor(solver="adagrad", **QUICK), OLD, Y_OLD), NEW, Y_NEW)
    assert_same_weights(learn(model, NEW, Y_NEW), same)


def test_an_encoder_behind_its_model():
    model = learn(FMRegressor(solver="adagrad", **QUICK), OLD, Y_OLD)
    model.partial_fit(FieldEncoder().fit(OLD).partial_fit(NEW).transform(NEW), Y_NEW)
    before = model.predict(OLD)
    with pytest.raises(ValueError, match="encoder_ lacks categories that came with encoded rows"):
        model.partial_fit(NEW, Y_NEW)
    assert_array_equal(model.predict(OLD), before)


def test_a_schema_that_did_not_grow_is_an_error():
    model = learn(FMRegressor(solver="adagrad", **QUICK), FieldEncoder().fit_transform(OLD), Y_OLD)
    before = weights_of(model)
    others = [
        FieldEncoder().fit_transform(NEW.rename(columns={"item": "thing"})),
        FieldEncoder().fit_transform(NEW),  # fewer items
        FieldEncoder().fit_transform(NEW.assign(age=1.0)),
    ]
    for codes in others:
        with pytest.raises(ValueError, match="another schema than in fit"):
            model.partial_fit(codes, Y_NEW)
    for name, value in weights_of(model).items():
        assert_array_equal(value, before[name])


# -- pickles, failures, going on by fit ----------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cls", [FMRegressor, DeepFMClassifier])
def test_pickling_between_calls_changes_no_bit(cls, solver, engine):
    plain, pickled = (cls(solver=solver, **QUICK) for _ in range(2))
    for X, y in ((OLD, Y_OLD), (NEW, Y_NEW), (OLD, Y_OLD)):
        learn(plain, X, y)
        pickled = pickle.loads(pickle.dumps(learn(pickled, X, y)))
    assert_same_weights(plain, pickled)


def test_the_state_may_change_engines(monkeypatch):
    """Trained where numba is, gone on where it is not."""
    model = learn(DeepFMRegressor(solver="adam", **QUICK), OLD, Y_OLD)
    moved = pickle.loads(pickle.dumps(model))
    learn(model, NEW, Y_NEW)
    for module in (net, prediction):
        monkeypatch.setattr(module, "HAS_KERNELS", False)
    learn(moved, NEW, Y_NEW)
    assert_allclose(moved.predict(NEW), model.predict(NEW), rtol=1e-3, atol=1e-4)


def test_failure_leaves_the_estimator_as_it_was():
    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("broken")

    model, spared = (learn(FMRegressor(solver="adam", **QUICK), OLD, Y_OLD) for _ in range(2))
    model.set_params(callbacks=[Broken()])
    with pytest.raises(RuntimeError, match="broken"):
        learn(model, NEW, Y_NEW)
    assert model.schema_ == spared.schema_ == model.encoder_.schema_
    assert_same_weights(model, spared)
    model.set_params(callbacks=None)
    assert_same_weights(learn(model, NEW, Y_NEW), learn(spared, NEW, Y_NEW))


def test_another_solver_starts_from_the_weights():
    """Found by "auto" itself, too, when an L1 penalty is set between calls."""
    model = learn(FMRegressor(**QUICK), OLD, Y_OLD)
    assert model.solver_ == "adagrad"
    learn(model.set_params(l1_linear=0.1), NEW, Y_NEW)
    assert model.solver_ == "ftrl"
    assert model.schema_.vocabulary_sizes == (11, 9)


@pytest.mark.parametrize("solver", ["adagrad", "lbfgs"])
def test_warm_start_grows(solver):
    model = FMRegressor(solver=solver, warm_start=True, max_epochs=30, **QUICK).fit(OLD, Y_OLD)
    codes = model.encoder_.transform(OLD)
    before = rows_of(model, user="bcdef")
    model.fit(NEW, Y_NEW)
    assert model.schema_.vocabulary_sizes == (11, 9)
    assert_array_equal(model.encoder_.transform(OLD).under(codes.schema), codes)
    for was, now in zip(before, rows_of(model, user="bcdef"), strict=True):
        assert_array_equal(now, was)  # no prior, no row
    flat = np.var(Y_NEW)
    assert np.mean((model.predict(NEW) - Y_NEW) ** 2) < flat / 2
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(NEW), model.predict(NEW))


def test_warm_start_with_early_stopping_restarts_from_the_grown_table():
    """The refit begins where the search began: with rows for what is new."""
    rng = np.random.RandomState(0)
    model = FMRegressor(solver="adagrad", warm_start=True, max_epochs=4, **QUICK)
    model.set_params(early_stopping=True).fit(OLD, Y_OLD)
    model.fit(NEW, Y_NEW)
    assert set(model.history_.phase) == {"search", "refit"}
    assert len(model.module_.linear.weight) == 20
    assert np.isfinite(model.predict(chunk(list("abgh"), list("ku"), seed=rng.randint(9))[0])).all()


def test_daily_chunks_are_about_as_good_as_one_fit():
    """Planted tastes; each day brings new users and items."""
    rng = np.random.RandomState(0)
    tastes = rng.randn(2, 200, 2) * 1.5

    def day(t, n_rows=4000):
        ids = rng.randint(0, 50 + 10 * t, (n_rows, 2))
        raw = (tastes[0][ids[:, 0]] * tastes[1][ids[:, 1]]).sum(axis=1)
        y = (rng.rand(n_rows) < 1 / (1 + np.exp(-raw))).astype(int)
        return pd.DataFrame({"user": ids[:, 0].astype(str), "item": ids[:, 1].astype(str)}), y

    days = [day(t) for t in range(10)]
    X_test, y_test = day(9, 10_000)
    X, y = pd.concat([X for X, _ in days]), np.concatenate([y for _, y in days])
    settings = {"solver": "adagrad", "random_state": 0, "l2_linear": 2.0, "l2_embedding": 2.0}
    whole = FMClassifier(max_epochs=1, early_stopping=False, **settings).fit(X, y)
    daily = FMClassifier(**settings)
    for X, y in days:
        daily.partial_fit(X, y, classes=[0, 1])

    auc = [roc_auc_score(y_test, m.predict_proba(X_test)[:, 1]) for m in (whole, daily)]
    assert auc[0] > 0.7
    assert abs(auc[1] - auc[0]) < 0.01


# -- after fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier])
def test_a_few_rows_after_fit_do_not_undo_it(cls, solver):
    """Steps began at full size again: 1,000 rows after 20,000 of adult took .301 to .494."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame({name: rng.randint(0, 30, 6000).astype(str) for name in "abcd"})
    effects = rng.randn(4, 30)
    raw = sum(effects[i][X[name].astype(int)] for i, name in enumerate("abcd"))
    y = (rng.rand(6000) < 1 / (1 + np.exp(-raw))).astype(int)
    model = cls(solver=solver, random_state=0, max_epochs=20).fit(X[:4000], y[:4000])
    before = log_loss(y[5000:], model.predict_proba(X[5000:]))
    model.partial_fit(X[4000:4300], y[4000:4300])
    assert log_loss(y[5000:], model.predict_proba(X[5000:])) < before + 0.01


@pytest.mark.parametrize("solver", ["lbfgs", "gibbs"])
def test_a_few_rows_after_lbfgs_or_draws_do_not_undo_it(solver):
    """Adagrad knew nothing of the rows before: 100 rows after 1,000 of adult took .338 to .425."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame({name: rng.randint(0, 10, 3000).astype(str) for name in "abcd"})
    raw = sum(rng.randn(10)[X[name].astype(int)] for name in "abcd")
    y = (rng.rand(3000) < 1 / (1 + np.exp(-raw))).astype(int)
    model = FMClassifier(random_state=0, tol=1e-3 if solver == "lbfgs" else 1e-4)
    assert model.fit(X[:1000], y[:1000]).solver_ == solver
    before = log_loss(y[2000:], model.predict_proba(X[2000:]))
    model.partial_fit(X[1000:1100], y[1000:1100])
    assert log_loss(y[2000:], model.predict_proba(X[2000:])) < before + 0.02
