"""Vectors that a user brings along: where they go, and that frozen ones never move."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_fm import (
    BagField,
    CategoryField,
    DeepFMClassifier,
    DeepFMRegressor,
    FieldEncoder,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)
from sklearn_fm.training import net, prediction

K = 16
RNG = np.random.RandomState(0)
USERS, ITEMS = list("abcdef"), [3, 5, 7, 11]
X = pd.DataFrame({"user": RNG.choice(USERS, 200), "item": RNG.choice(ITEMS, 200)})
Y = RNG.rand(200) + (X.user.map(ord) * X.item) % 7
LABEL = Y.gt(Y.median()).astype(int)
VECTORS = pd.DataFrame(RNG.randn(8, K), index=[*"abcd", "y", "z", "e", "f"])
VECTORS.loc["c"] = np.nan
KNOWN = list("abdef")
NO_EPOCH = {"max_epochs": 0, "solver": "adagrad", "embedding_dim": K, "random_state": 0}
FEW_EPOCHS = {**NO_EPOCH, "max_epochs": 3, "batch_size": 32}
ENCODER = FieldEncoder(categorical=["user", "item"])


@pytest.fixture(params=["compiled", "torch"])
def engine(request, monkeypatch):
    if request.param == "torch":
        for module in (net, prediction):
            monkeypatch.setattr(module, "HAS_KERNELS", False)


def rows_of(model, field, names, table="embedding"):
    """Rows of categories."""
    codes = model.encoder_.encode_categories(field, np.array(names, dtype=object))
    assert (codes >= 0).all()
    index = model.schema_.offsets[model.schema_.names.index(field)] + 1 + codes.astype(int)
    return getattr(model.module_, table).weight.detach().numpy()[index].copy()


def given(names, vectors=VECTORS):
    return vectors.loc[names].to_numpy(np.float32)


def fitted(cls=FMRegressor, encoder=ENCODER, **params):
    y = LABEL if "Classifier" in cls.__name__ else Y
    return cls(**{"encoder": encoder, **params}).fit(X, y)


# -- start values ----------------------------------


def by_code():
    """The same vectors in the order of the codes, after a row for unknown."""
    encoder = clone(ENCODER).fit(X)
    table = np.full((7, K), np.nan)
    codes = encoder.encode_categories("user", np.array(KNOWN, dtype=object))
    table[codes + 1] = VECTORS.loc[KNOWN]
    return table


@pytest.mark.parametrize(
    "vectors",
    [
        VECTORS,
        VECTORS.T.to_dict("list"),
        {name: torch.tensor(row) for name, row in VECTORS.T.items()},
        by_code(),
    ],
    ids=["DataFrame", "dict of lists", "dict of tensors", "array by code"],
)
def test_training_starts_from_the_vectors(vectors):
    model = fitted(**NO_EPOCH, pretrained={"user": vectors})
    assert_array_equal(rows_of(model, "user", KNOWN), given(KNOWN))
    plain = fitted(**NO_EPOCH)  # what has no vector starts at random as ever
    assert_array_equal(rows_of(model, "user", ["c"]), rows_of(plain, "user", ["c"]))
    assert_array_equal(rows_of(model, "item", ITEMS), rows_of(plain, "item", ITEMS))
    unknown = model.module_.embedding.weight[model.schema_.offsets[0]]
    assert not unknown.any()


def test_array_holds_the_unknown_row_too():
    table = RNG.randn(7, K)
    codes = clone(ENCODER).fit_transform(X)
    model = FMRegressor(**NO_EPOCH, pretrained={"user": table}).fit(codes, Y)
    first = model.schema_.offsets[0]
    weight = model.module_.embedding.weight.detach().numpy()
    assert_array_equal(weight[first : first + 7], table.astype(np.float32))


def test_keys_are_categories_as_they_stand_in_cells():
    """Numbers, pairs and missing; equal is what Python calls equal."""
    pairs = [(1, 2), (3, 4), (5, 6)]
    table = pd.DataFrame({"number": [7, 9, None, 9] * 9, "pair": [pairs[i % 3] for i in range(36)]})
    encoder = FieldEncoder(categorical=["number", "pair"])
    vectors = np.eye(K)
    model = FMRegressor(
        **NO_EPOCH,
        encoder=encoder,
        pretrained={
            "number": {9.0: vectors[0], None: vectors[1], "nine": vectors[2]},
            "pair": {(3, 4): vectors[3], (1, 2): vectors[4]},
        },
    ).fit(table, np.arange(36.0))
    assert_array_equal(rows_of(model, "number", [9, np.nan]), vectors[:2])
    pair = np.fromiter([(3, 4), (1, 2)], dtype=object, count=2)
    codes = model.encoder_.encode_categories("pair", pair)
    weight = model.module_.embedding.weight.detach().numpy()
    assert_array_equal(weight[model.schema_.offsets[1] + 1 + codes], vectors[3:5])


@pytest.mark.filterwarnings("ignore:lbfgs did not converge")
@pytest.mark.parametrize("solver", ["adagrad", "lbfgs"])
def test_a_refit_starts_from_the_vectors_again(solver):
    """Vectors that say it all, at a rate too small to learn anything else."""
    params = {"solver": solver, "max_epochs": 2, "early_stopping": True}
    if solver == "adagrad":
        params["learning_rate"] = 1e-6
    model = fitted(**{**FEW_EPOCHS, **params}, l2_embedding=0.0, pretrained={"user": VECTORS})
    if solver == "adagrad":
        assert set(model.history_.phase) == {"search", "refit"}
        assert np.abs(rows_of(model, "user", KNOWN) - given(KNOWN)).max() < 1e-3
    else:
        assert "refit" in set(model.history_.get("phase", ["refit"]))


BAD = {
    "no such field": ({"users": VECTORS}, r"vectors for 'users'; expected .* \['user', 'item'"),
    "a number": ({"age": VECTORS}, "vectors for 'age'; expected a field with codes"),
    "width": (
        {"user": VECTORS.iloc[:, :3]},
        "vectors of 3 numbers for 'user', but embedding_dim=16",
    ),
    "infinite": ({"user": VECTORS.fillna(np.inf)}, "infinite numbers for 'user'"),
    "beyond float32": ({"user": VECTORS * 1e300}, "infinite numbers for 'user'"),
    "no match": ({"item": VECTORS}, "no vector for any category of 'item'. Its keys must be"),
    "nothing": ({"user": {}}, "no vector for any category of 'user'"),
    "lengths": ({"user": {"a": [1.0], "b": [1.0, 2.0]}}, "vectors of different lengths for 'user'"),
    "text": ({"user": {"a": ["x"] * K}}, "or other things than numbers"),
    "twice": ({"user": pd.concat([VECTORS, VECTORS])}, "several vectors for '.' of 'user'"),
    "rows": ({"user": np.zeros((6, K))}, r"shape \(6, 16\).*expected numbers of shape \(7, embed"),
    "dimensions": ({"user": np.zeros(7)}, r"shape \(7,\) and dtype float64 for 'user'"),
    "objects": ({"user": np.full((7, K), "x")}, "dtype <U1 for 'user'"),
    "a list": ({"user": [1, 2]}, "has a list for 'user', expected a DataFrame of pandas, a dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_vectors(case):
    """One clear error, and an estimator that was fitted before stays as it was."""
    pretrained, message = BAD[case]
    table = X.assign(age=RNG.rand(200))
    encoder = FieldEncoder(categorical=["user", "item"], scaler=None)
    model = FMRegressor(**NO_EPOCH, encoder=encoder).fit(table, Y)
    before = model.predict(table)
    model.set_params(pretrained=pretrained)
    with pytest.raises(ValueError, match=message):
        model.fit(table, Y)
    assert_array_equal(model.predict(table), before)


def test_vectors_by_category_need_categories():
    codes = clone(ENCODER).fit_transform(X)
    model = FMRegressor(**NO_EPOCH, pretrained={"user": VECTORS})
    with pytest.raises(
        ValueError, match=r"encoded before, so categories are not known.*\(7, embed"
    ):
        model.fit(codes, Y)


def test_hashed_fields_have_no_categories():
    encoder = FieldEncoder(fields={"user": CategoryField(hash_buckets=3, n_hashes=2)})
    with pytest.raises(ValueError, match="no field whose categories have a code each"):
        fitted(encoder=encoder, **NO_EPOCH, pretrained={"user": VECTORS})


# -- frozen rows ----------------------------------


@pytest.mark.parametrize("solver", ["adagrad", "adam", "sgd", "ftrl", "lbfgs"])
@pytest.mark.parametrize("cls", [FMClassifier, FMRegressor, DeepFMRegressor, MFRegressor])
def test_frozen_vectors_keep_every_bit(cls, solver, engine):
    """Strong priors pull at them, gradients push; the linear term of theirs learns."""
    model = fitted(
        cls,
        **{**FEW_EPOCHS, "solver": solver, "max_epochs": 100 if solver == "lbfgs" else 5},
        tol=0.01,
        l2_embedding=50.0,
        pretrained={"user": VECTORS},
        freeze_pretrained=True,
    )
    assert_array_equal(rows_of(model, "user", KNOWN), given(KNOWN))
    assert (rows_of(model, "user", KNOWN, "linear") != 0).all()
    start = fitted(cls, **NO_EPOCH)
    assert (rows_of(model, "item", ITEMS) != rows_of(start, "item", ITEMS)).all()
    if solver != "lbfgs":
        assert (rows_of(model, "user", ["c"]) != rows_of(start, "user", ["c"])).all()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_frozen_vectors_under_early_stopping_schedules_and_threads(n_jobs):
    params = {**FEW_EPOCHS, "early_stopping": True, "n_jobs": n_jobs, "unknown_dropout": 0.1}
    for schedule, deterministic in (("one_cycle", True), ("reduce_on_plateau", False)):
        model = fitted(
            FMClassifier,
            **{**params, "unknown_dropout": 0.1 if deterministic else 0.0},
            learning_rate_schedule=schedule,
            deterministic=deterministic,
            pretrained={"user": VECTORS},
            freeze_pretrained=True,
        )
        assert_array_equal(rows_of(model, "user", KNOWN), given(KNOWN))


@pytest.mark.parametrize("solver", ["adagrad", "adam", "sgd", "ftrl"])
def test_frozen_vectors_after_growth_and_pickles(solver, engine):
    """Categories that come later get their vectors, too, and those stay as well."""
    params = {**FEW_EPOCHS, "solver": solver, "l2_embedding": 5.0}
    model = DeepFMClassifier(
        **params, encoder=ENCODER, pretrained={"user": VECTORS}, freeze_pretrained=True
    )
    model.partial_fit(X, LABEL, classes=[0, 1])
    later = X.replace({"user": {"b": "y", "c": "z"}, "item": {3: 4}})
    for table in (later, X, later):
        model = pickle.loads(pickle.dumps(model)).partial_fit(table, LABEL)
    names = [*KNOWN, "y", "z"]
    assert_array_equal(rows_of(model, "user", names), given(names))
    assert (rows_of(model, "user", ["y", "z"], "linear") != 0).all()
    assert model.schema_.vocabulary_sizes == (9, 6)


@pytest.mark.parametrize("frozen", [True, False])
def test_vectors_by_code_when_the_vocabulary_grows(frozen):
    """The array is that of the first schema; later categories start at random."""
    encoder = clone(ENCODER).fit(X)
    table = RNG.randn(7, K)
    model = FMRegressor(**FEW_EPOCHS, pretrained={"user": table}, freeze_pretrained=frozen)
    model.partial_fit(encoder.transform(X), Y)
    later = X.replace({"user": {"b": "y"}})
    model.partial_fit(encoder.partial_fit(later).transform(later), Y)
    rows = model.module_.embedding.weight.detach().numpy()[:8]
    assert (rows[:7] == table.astype(np.float32)).all() == frozen
    assert 0 < np.abs(rows[7]).max() < 1


@pytest.mark.parametrize("solver", ["adagrad", "adam", "sgd", "ftrl"])
def test_vectors_may_thaw(solver, engine):
    """First the rest around them, then all: no row is stuck, and none jumps."""
    model = FMRegressor(**{**FEW_EPOCHS, "solver": solver}, encoder=ENCODER, l2_embedding=0.1)
    model.set_params(pretrained={"user": VECTORS}, freeze_pretrained=True)
    for _ in range(5):
        model.partial_fit(X, Y)
    model.set_params(freeze_pretrained=False).partial_fit(X, Y)
    moved = np.abs(rows_of(model, "user", KNOWN) - given(KNOWN))
    assert (moved.max(axis=1) > 0).all()
    assert moved.max() < 2


def test_bags_and_their_items_share_the_vectors(engine):
    table = X.assign(seen=[list(RNG.choice(ITEMS, 2, replace=False)) for _ in range(200)])
    encoder = FieldEncoder(
        categorical=["user", "item"], fields={"seen": BagField(vocabulary="item")}
    )
    vectors = {item: RNG.randn(K) for item in ITEMS}
    for field in ("item", "seen"):
        model = FMRegressor(
            **FEW_EPOCHS, encoder=encoder, pretrained={field: vectors}, freeze_pretrained=True
        ).fit(table, Y)
        for name in ("item", "seen"):
            expected = np.array(list(vectors.values()), dtype=np.float32)
            assert_array_equal(rows_of(model, name, ITEMS), expected)


def test_ids_of_matrix_factorization_may_be_chosen_columns():
    table = X.assign(noise=RNG.rand(200))
    model = MFRegressor(
        **FEW_EPOCHS, user="user", item="item", pretrained={"user": VECTORS}, freeze_pretrained=True
    ).fit(table, Y)
    assert_array_equal(rows_of(model, "user", KNOWN), given(KNOWN))


def test_good_vectors_help_where_data_are_few():
    """Planted: tastes known from elsewhere predict from the first rows on."""
    rng = np.random.RandomState(0)
    users, items = rng.randn(40, K) / 2, rng.randn(30, K) / 2
    ids = rng.randint(0, 40, 3000), rng.randint(0, 30, 3000)
    table = pd.DataFrame({"user": ids[0].astype(str), "item": ids[1].astype(str)})
    y = (users[ids[0]] * items[ids[1]]).sum(axis=1)
    vectors = {"user": pd.DataFrame(users, index=np.arange(40).astype(str))}
    settings = {**FEW_EPOCHS, "max_epochs": 30, "l2_embedding": 0.1, "l2_linear": 10.0}
    train, test = slice(0, 600), slice(600, None)

    def r2(**params):
        model = FMRegressor(**settings, **params).fit(table[train], y[train])
        return model.score(table[test], y[test])

    frozen = r2(pretrained=vectors, freeze_pretrained=True)
    assert frozen > 0.8
    assert r2() < frozen - 0.3


def test_clone_and_grid_search():
    model = FMRegressor(**FEW_EPOCHS, encoder=ENCODER, pretrained={"user": VECTORS})
    copied = clone(model)
    assert_array_equal(copied.pretrained["user"], VECTORS)
    assert_array_equal(copied.fit(X, Y).predict(X), model.fit(X, Y).predict(X))
    assert "pretrained" in repr(model)
    search = GridSearchCV(model, {"freeze_pretrained": [False, True]}, cv=3).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = pickle.loads(pickle.dumps(search)).best_estimator_
    assert_array_equal(best.predict(X), search.predict(X))
