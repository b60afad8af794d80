"""Bad input gives one clear error, and leaves a fitted estimator as it was."""

import copy
import functools
import re

import numpy as np
import pandas as pd
import pytest
from public import ESTIMATORS, each_estimator
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_fm import (
    DeepFMRegressor,
    FieldArray,
    FieldEncoder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
)

# One embedding_dim for all, as each has kernels of its own.
SMALL = {
    "max_epochs": 2,
    "batch_size": 16,
    "solver": "adagrad",
    "embedding_dim": 16,
    "random_state": 0,
}
N = 60
RNG = np.random.RandomState(0)
X = pd.DataFrame({"user": RNG.choice(list("abc"), N), "age": RNG.rand(N)})
Y = np.arange(N) % 2
ONES = np.ones(N)


def changed(array, position, value):
    """Copy of an array with one entry replaced."""
    array = np.array(array, dtype=float)
    array[position] = value
    return array


@functools.cache
def fitted(cls):
    """A model fitted once for all tests, which get copies of it."""
    return cls(encoder=FieldEncoder(numeric=["age"]), **SMALL).fit(X, Y)


def unchanged(model, act, error, message):
    """Check that `act` raises a message, and that predictions are the same bits after it."""
    before = model.predict(X)
    with pytest.raises(error, match=message):
        act(model)
    assert np.array_equal(model.predict(X), before)


# what is wrong: arguments of fit, the error, its message
BAD_DATA = {
    "NaN in y": ((X, changed(Y, 7, np.nan)), ValueError, "y contains NaN"),
    "infinity in y": ((X, changed(Y, 7, np.inf)), ValueError, "y contains infinity"),
    "no y": ((X, None), ValueError, "requires y to be passed"),
    "y has two columns": ((X, np.column_stack([Y, Y])), ValueError, "y should be a 1d array"),
    "y too short": ((X, Y[:-1]), ValueError, "\\[60, 59\\].*pass one target per row"),
    "NaN weight": ((X, Y, changed(ONES, 3, np.nan)), ValueError, "sample_weight contains NaN"),
    "infinite weight": (
        (X, Y, changed(ONES, 3, np.inf)),
        ValueError,
        "sample_weight contains infinity",
    ),
    "negative weight": (
        (X, Y, changed(ONES, 3, -0.5)),
        ValueError,
        r"expected weights >= 0, got -0.5 at row 3",
    ),
    "all weights zero": ((X, Y, 0 * ONES), ValueError, "at least one row must count"),
    "weights too short": ((X, Y, ONES[:-1]), ValueError, r"expected \(60,\): one weight per row"),
    "no rows": ((X[:0], Y[:0]), ValueError, r"0 sample\(s\).*minimum of 1 is required"),
    "no columns": ((X[[]], Y), ValueError, r"0 feature\(s\).*minimum of 1 is required"),
    "duplicate columns": (
        (X.set_axis(["user", "user"], axis=1), Y),
        ValueError,
        r"(?s)(must differ|unique).*user",
    ),
    "infinity in a number": (
        (X.assign(age=changed(X.age, 5, np.inf)), Y),
        ValueError,
        "Field 'age' holds infinity in row 5. Numbers must be finite; write NaN",
    ),
    "text in a number": (
        (X.assign(age=["ten", *X.age[1:]]), Y),
        ValueError,
        r"Field 'age' is numeric, but row 0 holds 'ten' \(str\). Turn the column into numbers",
    ),
    "one dimension": ((X.age.to_numpy(), Y), ValueError, "Expected 2D array, got 1D array"),
    "not a table": ((X.age.to_numpy()[None, None], Y), ValueError, "dim 3|must be 2D"),
}


@pytest.mark.parametrize("cls", [FMClassifier, DeepFMRegressor], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(cls, case):
    arguments, error, message = BAD_DATA[case]
    if case == "NaN in y" and cls is FMClassifier:
        message = "Input (y )?contains NaN"
    if case == "infinity in y" and cls is FMClassifier:
        message = "Input (y )?contains infinity"
    model = copy.deepcopy(fitted(cls))
    if case in ("one dimension", "not a table", "no columns"):
        model.set_params(encoder=None)
    unchanged(model, lambda m: m.fit(*arguments), error, message)
    if case not in ("one dimension", "not a table", "no columns", "duplicate columns"):
        unchanged(
            model,
            lambda m: m.partial_fit(
                arguments[0],
                arguments[1],
                **({"sample_weight": arguments[2]} if len(arguments) > 2 else {}),
            ),
            error,
            message,
        )


BAD_CLASSES = {
    "one class": (np.zeros(N), "at least two classes.*one class"),
    "numbers that are no classes": (Y + 0.25 * np.arange(N), "continuous"),
}


@pytest.mark.parametrize("case", BAD_CLASSES)
def test_bad_classes(case):
    y, message = BAD_CLASSES[case]
    model = FMClassifier(**SMALL).fit(X, Y)
    unchanged(model, lambda m: m.fit(X, y), ValueError, message)


def test_one_class_of_positive_weight():
    model = FMClassifier(**SMALL).fit(X, Y)
    unchanged(model, lambda m: m.fit(X, Y, sample_weight=Y), ValueError, "positive weight are of")


def test_classes_in_partial_fit():
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        FMClassifier().partial_fit(X, Y)
    model = FMClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1])
    unchanged(
        model,
        lambda m: m.partial_fit(X, Y + 1),
        ValueError,
        r"classes \[2\], which are not among classes_, \[0, 1\]. Name all classes",
    )
    unchanged(
        model,
        lambda m: m.partial_fit(X, Y, classes=[0, 1, 2]),
        ValueError,
        r"differs from the classes of the first call, \[0, 1\]",
    )


def test_text_as_regression_target():
    model = FMRegressor(**SMALL).fit(X, Y)
    unchanged(model, lambda m: m.fit(X, ["a"] * N), ValueError, "could not convert string")


BAD_PREDICT = {
    "missing column": (X[["user"]], ValueError, r"(?s)missing.*age"),
    "additional column": (X.assign(z=1), ValueError, r"(?s)unseen at fit time.*z"),
    "other order": (X[["age", "user"]], ValueError, "same order"),
    "too wide an array": (np.zeros((2, 3)), ValueError, "3 features.*expecting 2 features"),
    "text in a number": (
        pd.DataFrame({"user": ["a"], "age": ["old"]}),
        ValueError,
        "Field 'age' is numeric, but row 0 holds 'old'",
    ),
    "sparse": (sparse.csr_array((3, 2)), TypeError, "fitted on a dense table but got a sparse"),
    "other encoding": (
        FieldArray([[0, 1]], FieldSchema.from_sizes([9, 9], names=["user", "age"])),
        ValueError,
        "another schema than in fit. Encode all data with one",
    ),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("case", BAD_PREDICT)
def test_bad_table_in_predict(case):
    table, error, message = BAD_PREDICT[case]
    model = FMClassifier(**SMALL).fit(X, Y)
    unchanged(model, lambda m: m.predict(table), error, message)


@pytest.mark.parametrize("cls", [FMRegressor, MFRegressor])
def test_partial_fit_that_is_not_there_says_why(cls):
    """It was "'MFRegressor' has no attribute 'partial_fit'", which did not name the solver."""
    message = f"{cls.__name__} with solver='als' has no partial_fit.*'adagrad'"
    model = cls(solver="als")
    with pytest.raises(AttributeError, match=message):
        model.partial_fit(X, Y)
    assert not hasattr(model, "partial_fit")
    assert hasattr(cls(), "partial_fit")
    ordinal = FMRegressor(loss="ordinal")
    with pytest.raises(AttributeError, match="with loss='ordinal' has no partial_fit"):
        ordinal.partial_fit(X, Y)


def test_names_are_warned_of_once():
    """The encoder within said again what the estimator had said."""
    frame, array = X[["user"]], X[["user"]].to_numpy()
    by_name = FMClassifier(**SMALL).fit(frame, Y)
    by_position = FMClassifier(**SMALL).fit(array, Y)
    for model, table, message in (
        (by_name, array, "X does not have valid feature names"),
        (by_position, frame, "X has feature names"),
    ):
        with pytest.warns(UserWarning, match=message) as said:
            assert np.array_equal(model.predict(table), by_name.predict(frame))
        assert len(said) == 1


def test_strings_where_codes_were_in_fit():
    """Two warnings of feature names stood before the error, and had nothing to do with it."""
    codes = FieldEncoder().fit_transform(X)
    model = FMClassifier(**SMALL).fit(codes, Y)
    before = model.predict(codes)
    for act in (lambda: model.predict(X), lambda: model.fit(codes, Y, eval_set=(X, Y))):
        with pytest.raises(ValueError, match="Transform them by the FieldEncoder used in fit"):
            act()
    assert np.array_equal(model.predict(codes), before)


def test_dense_table_where_a_sparse_one_was_in_fit():
    """Codes were read as columns of the matrix: other rows of the table, without a word."""
    S = sparse.random_array((N, 5), density=0.5, rng=0, format="csr")
    model = FMClassifier(**SMALL).fit(S, Y)
    codes = FieldArray(np.zeros((3, 5), dtype=int), FieldSchema.from_sizes([3] * 5))
    with pytest.raises(TypeError, match="fitted on a sparse matrix"):
        model.predict(codes)
    frame = pd.DataFrame(S.toarray())  # the same numbers
    assert np.array_equal(model.decision_function(frame), model.decision_function(S))


def test_codes_that_lost_their_schema():
    """They were taken for numbers and cut into bins, without a word."""
    codes = FieldEncoder().fit_transform(X)
    lost = codes.copy()
    lost.schema = None
    with pytest.raises(ValueError, match="schema"):
        FMClassifier(**SMALL).fit(lost, Y)
    given = FMClassifier(schema=codes.schema, **SMALL).fit(lost, Y)
    assert given.schema_ == codes.schema


BAD_EVAL_SETS = {
    "no target": ((X,), "must be a tuple"),
    "not a tuple": (X, "must be a tuple .* got DataFrame"),
    "lengths": ((X, Y[:-1]), r"\[60, 59\]"),
    "columns": ((X[["user"]], Y), "(?s)missing.*age"),
    "weights": ((X, Y, -ONES), "expected weights >= 0"),
    "classes": ((X, Y + 1), r"classes \[2\], which are not among"),
}


@pytest.mark.parametrize("case", BAD_EVAL_SETS)
@pytest.mark.parametrize("warm_start", [False, True])
def test_bad_eval_set(case, warm_start):
    """With a warm start the module had been converted to float32 before the error."""
    eval_set, message = BAD_EVAL_SETS[case]
    model = FMClassifier(random_state=0, max_epochs=50).fit(X, Y)
    model.set_params(warm_start=warm_start, solver="adagrad")
    before = model.decision_function(X)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, eval_set=eval_set)
    assert np.array_equal(model.decision_function(X), before)


BAD_ROWS_TO_WATCH = {
    "twice": ({"eval_set": (X, Y), "X_val": X}, "both were passed. Pass one of them"),
    "targets twice": ({"eval_set": (X, Y), "y_val": Y}, "both were passed"),
    "no features": ({"y_val": Y}, "but not X_val: pass both"),
    "weights alone": ({"sample_weight_val": ONES}, "but not X_val: pass both"),
    "no targets": ({"X_val": X}, "given without targets. Pass y_val too"),
    "no targets of a set": ({"eval_set": (X, None)}, "given without targets. Pass y_val too"),
    "lengths": ({"X_val": X, "y_val": Y[:-1]}, r"\[60, 59\]"),
    "weights": ({"X_val": X, "y_val": Y, "sample_weight_val": -ONES}, "expected weights >= 0"),
}


@pytest.mark.parametrize("case", BAD_ROWS_TO_WATCH)
def test_bad_rows_to_watch(case):
    arguments, message = BAD_ROWS_TO_WATCH[case]
    model = copy.deepcopy(fitted(FMClassifier))
    unchanged(model, lambda m: m.fit(X, Y, **arguments), ValueError, message)


@pytest.mark.parametrize(
    "encoder",
    [
        make_pipeline(SimpleImputer(strategy="most_frequent"), FieldEncoder()),
        OneHotEncoder(),
        make_column_transformer((FieldEncoder(), ["user"])),
        FieldEncoder,
    ],
    ids=lambda encoder: getattr(encoder, "__name__", type(encoder).__name__),
)
def test_an_encoder_of_another_kind(encoder):
    """It passed as something that can fit_transform, and failed by an argument it did not take."""
    model = copy.deepcopy(fitted(FMClassifier)).set_params(encoder=encoder)
    message = r"(?s)'encoder' parameter .* must be None or an .*FieldEncoder.* in a Pipeline"
    unchanged(model, lambda m: m.fit(X, Y), ValueError, message)


@pytest.mark.parametrize("solver", ["adagrad", "als"])
def test_too_few_rows_to_hold_out(solver):
    """train_test_split spoke of its own parameters, which the user had not set."""
    model = FMRegressor(solver=solver, early_stopping=True)
    message = r"validation_fraction=0.1 .* none of 1 to learn from.*early_stopping=False.*X_val"
    with pytest.raises(ValueError, match=message):
        model.fit(X[:1], Y[:1])
    model.set_params(validation_fraction=0.99)
    with pytest.raises(ValueError, match=r"validation_fraction=0\.99 .* none of"):
        model.fit(X, Y)


def test_fewer_rows_to_hold_out_than_classes():
    """They cannot hold all classes in equal shares."""
    params = {**SMALL, "early_stopping": True, "validation_fraction": 0.01}
    model = FMClassifier(**params).fit(X, Y)
    assert model.history_["valid_loss"].notna().any()


# parameter, values out of range
BAD_PARAMETERS = {
    "bilinear": ["some", None],
    "reduction": [0, 1.5],
    "n_cross_layers": [0, 2.5],
    "cross_rank": [0, "full"],
    "embedding_dim": [0, 2.5, "4"],
    "solver": ["newton", None],
    "learning_rate": [0, -1.0, "auto", np.nan, np.inf],
    "learning_rate_schedule": ["cosine", None],
    "batch_size": [0, 0.5],
    "max_epochs": [-1, 1.5],
    "tol": [-1e-3],
    "l2_linear": [-1, "none", np.inf],
    "l2_embedding": [-1, "none", np.nan],
    "init_scale": [-0.1],
    "initial_accumulator": [0],
    "unknown_dropout": [-0.1, 1.0],
    "gradient_clip": [0, -1],
    "early_stopping": ["yes", None],
    "pair_slots": ["no", None],
    "pretrained": [[1, 2], "user"],
    "freeze_pretrained": ["no", None],
    "validation_fraction": [0.0, 1.0],
    "patience": [0],
    "refit": ["no"],
    "warm_start": ["no"],
    "encoder": ["bins"],
    "schema": [[3, 4]],
    "device": ["gpu", "cuda:99", 0, "meta"],
    "callbacks": ["all", [3]],
    "l1_linear": [-1, "auto", None],
    "n_jobs": ["all", 1.5, 0],
    "deterministic": ["no", None],
    "verbose": [-1],
    "random_state": [-1, "a"],
    "class_weight": ["even", {0: -1.0, 1: 1.0}],
    "y_range": [(1,), (0, 1, 2), (1, 0), ("a", "b"), 5, (0, np.nan)],
    "hidden_layer_sizes": [(-1,), (0,), ("a",), (2.5,), "ab", 5],
    "activation": ["step"],
    "dropout": [1.0, -0.1],
    "batch_norm": ["no"],
    "l2_dense": [-1],
    "learning_rate_dense": [0],
    "user": [1.5],
    "item": [1.5],
    "n_sweeps": [0, 1.5],
    "n_burn": [-1, "none"],
    "thin": [0, "none"],
    "keep_draws": ["no"],
    "hyperprior": ["normal", None],
    "hyperprior_scale": [0, -1.0],
    "loss": ["huber"],
    "noise_field": [3, [3]],
}


@each_estimator
def test_every_parameter_has_a_bad_value_here(cls):
    assert set(cls().get_params()) <= set(BAD_PARAMETERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_PARAMETERS.items() for value in values],
)
def test_parameters_out_of_range(name, value):
    """The error names the parameter and its value."""
    with_it = [cls for cls in ESTIMATORS if name in cls().get_params()]
    cls = DeepFMRegressor if DeepFMRegressor in with_it else with_it[0]
    model = copy.deepcopy(fitted(cls)).set_params(**{name: value})
    shown = "" if name == "class_weight" else re.escape(str(value))
    with pytest.raises(ValueError, match=f"{name}(?s:.*){shown}"):
        model.fit(X, Y)
    model.set_params(**{name: fitted(cls).get_params()[name]})
    assert np.array_equal(model.predict(X), fitted(cls).predict(X))


@pytest.mark.parametrize(
    ("params", "sizes", "blame"),
    [
        ({}, [5, 10**12, 30], r"Largest fields: 'x1' \(1,000,000,000,000 rows\), 'x2'"),
        ({"embedding_dim": 10**12}, [5, 9], "lower embedding_dim"),
        ({"hidden_layer_sizes": (10**7, 10**7)}, [5, 9], "hidden_layer_sizes"),
    ],
)
@pytest.mark.parametrize("solver", ["adagrad", "lbfgs", "adam"])
def test_memory_is_estimated_before_allocation(params, sizes, blame, solver):
    codes = FieldArray(np.zeros((N, len(sizes)), dtype=np.int64), FieldSchema.from_sizes(sizes))
    model = DeepFMRegressor(**SMALL).fit(X, Y).set_params(solver=solver, **params)
    unchanged(model, lambda m: m.fit(codes, Y), MemoryError, f"GiB.*this machine has.*{blame}")


def test_target_outside_y_range():
    model = FMRegressor(**SMALL).fit(X, Y)
    model.set_params(y_range=(0.5, 5))
    unchanged(
        model,
        lambda m: m.fit(X, Y),
        ValueError,
        r"y holds values from 0 to 1, outside y_range=\(0.5, 5\). Widen the range",
    )


def test_lbfgs_has_neither_callbacks_nor_partial_fit():
    from skorch.callbacks import EpochTimer

    model = FMRegressor(**{**SMALL, "solver": "lbfgs", "max_epochs": 30}, tol=0.1).fit(X, Y)
    message = "no partial_fit, skorch callbacks.*Use solver='auto'"
    unchanged(model, lambda m: m.partial_fit(X, Y), ValueError, message)
    model.set_params(callbacks=[EpochTimer()])
    unchanged(model, lambda m: m.fit(X, Y), ValueError, message)


@pytest.mark.parametrize("gradient_clip", [None, 1e6])  # the compiled step and torch's
@pytest.mark.parametrize("solver", ["adagrad", "ftrl"])
@pytest.mark.parametrize(
    ("params", "weight", "message"),
    [
        ({}, 1e-60, r"l2_linear is 2e\+60 times the mean weight of a row.*multiply the sample w"),
        (
            {"l2_embedding": 1e45},
            1.0,
            r"l2_embedding is 1e\+45 times the mean .*Lower l2_embedding",
        ),
        ({"initial_accumulator": 1e-60}, 1.0, r"initial_accumulator=1e-60.*from 1e-37 to 1e\+37"),
        ({"initial_accumulator": 1e60}, 1.0, r"initial_accumulator=1e\+60.*from 1e-37 to 1e\+37"),
    ],
)
def test_numbers_that_32_bits_cannot_hold(params, weight, message, solver, gradient_clip):
    """They became infinite or 0 in the first step, for which the learning rate was blamed."""
    model = FMRegressor(**{**SMALL, "solver": solver}, gradient_clip=gradient_clip).fit(X, Y)
    model.set_params(**params)
    unchanged(model, lambda m: m.fit(X, Y, sample_weight=weight * ONES), ValueError, message)


def test_device_that_is_absent():
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    model = FMRegressor(**SMALL).fit(X, Y)
    model.set_params(device="cuda")
    unchanged(model, lambda m: m.fit(X, Y), ValueError, "'cuda' is not available.*device='auto'")


# -- MFRegressor's columns -----------------------------------------------------------------------

IDS = X.assign(item=RNG.choice(list("xyz"), N))
BAD_COLUMNS = {
    "absent": (
        IDS,
        {"user": "user", "item": "film"},
        r"item='film' must be columns of X, which has \['user', 'age', 'item'\]",
    ),
    "one only": (IDS, {"user": "user"}, "must be two columns, or None both"),
    "same": (IDS, {"user": "user", "item": "user"}, "must be two columns"),
    "position": (IDS, {"user": 0, "item": 7}, "item=7 must be columns of X"),
    "position in array": (IDS.to_numpy(), {"user": 0, "item": 7}, "item=7 must be columns of X"),
    "name in array": (
        IDS.to_numpy(),
        {"user": "user", "item": "item"},
        "item='item' must be columns of X",
    ),
    "position in codes": (
        FieldEncoder().fit_transform(IDS),
        {"user": 0, "item": 7},
        "item=7 must be columns of X",
    ),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_user_and_item(case):
    table, params, message = BAD_COLUMNS[case]
    model = MFRegressor(user="user", item="item", **SMALL).fit(IDS, Y)
    before = model.predict(IDS)
    model.set_params(**{"user": None, "item": None, **params})
    with pytest.raises(ValueError, match=message):
        model.fit(table, Y)
    model.set_params(user="user", item="item")
    assert np.array_equal(model.predict(IDS), before)


@pytest.mark.parametrize("params", [{}, {"user": 0, "item": 1}])
def test_mf_takes_no_sparse_matrix(params):
    with pytest.raises(TypeError, match="Sparse data was passed"):
        MFRegressor(**params).fit(sparse.csr_array((N, 2)), Y)


# -- damaged sparse matrices -------------------------------------------------------------------


def set_one(array, position, value):
    """A function that changes one number of a matrix's array."""
    return lambda matrix: getattr(matrix, array).__setitem__(position, value)


def replace_by(array, change):
    """A function that puts something else in place of a matrix's array."""
    return lambda matrix: setattr(matrix, array, change(getattr(matrix, array)))


# what is wrong: format, what to do to a matrix of 60 rows, 40 columns and 240 entries, message
DAMAGED = {
    "far out": ("csr", set_one("indices", 5, 10**6), "column index 1000000 in row 1 .entry 5."),
    "one past the end": ("csr", set_one("indices", 239, 40), "index 40 .* has 40 columns, .* 39"),
    "from 1 on": ("csr", replace_by("indices", lambda old: old + 1), "from 1, subtract 1"),
    "negative": ("csr", set_one("indices", 8, -1), r"index -1 in row 2 \(entry 8\)"),
    "wide": (
        "csr",
        replace_by("indices", lambda old: np.where(np.arange(240) == 5, 2**40, old)),
        f"index {2**40}",
    ),
    "no integers": ("csr", replace_by("indices", lambda old: old * 1.0), "of dtype float64"),
    "falls": ("csr", set_one("indptr", 1, 100), "indptr that falls from 100 to 8 at row 1"),
    "ends late": ("csr", set_one("indptr", -1, 10**6), "240 entries, .* 0 to 1000000"),
    "ends early": ("csr", set_one("indptr", -1, 239), "240 entries, .* from 0 to 239"),
    "begins late": ("csr", set_one("indptr", 0, 2), "240 entries, .* from 2 to 240"),
    "begins below 0": ("csr", set_one("indptr", 0, -(10**6)), "from -1000000 to 240"),
    "rows missing": ("csr", replace_by("indptr", lambda old: old[:-1]), "indptr of shape"),
    "few indices": ("csr", replace_by("indices", lambda old: old[:9]), "240 values"),
    "few values": ("csr", replace_by("data", lambda old: old[:9]), "but 9 values"),
    "column-wise": ("csc", set_one("indices", 0, 60), r"row index 60 in column 0 \(entry 0\)"),
    "starts of columns": ("csc", set_one("indptr", 3, 10**6), "falls from 1000000"),
    "blocks": ("bsr", set_one("indices", 3, 99), "column of blocks index 99"),
    "row of a pair": ("coo", lambda m: m.coords[0].__setitem__(7, 60), "row index 60 in entry 7"),
    "column of a pair": ("coo", lambda m: m.coords[1].__setitem__(7, -3), "column index -3"),
    "pairs missing": ("coo", replace_by("data", lambda old: old[:9]), "but 9 values"),
    "list": ("lil", lambda m: m.rows[4].__setitem__(0, 50), "column index 50 in row 4"),
    "long list": ("lil", lambda m: m.data[4].append(1.0), "4 columns but 5 values in row 4"),
    "dict": ("dok", lambda m: m._dict.__setitem__((3, 41), 1.0), r"an entry at \(3, 41\)"),
    "diagonals": ("dia", replace_by("offsets", lambda old: old[:-1]), "offsets of shape"),
}


def regular(n_rows=N, kind="csr"):
    """Four entries in each row of 40 columns, not sorted."""
    rng = np.random.RandomState(0)
    columns = np.concatenate([rng.choice(40, 4, replace=False) for _ in range(n_rows)])
    starts = np.arange(0, len(columns) + 1, 4)
    return sparse.csr_array((rng.rand(len(columns)), columns, starts), (n_rows, 40)).asformat(kind)


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_sparse_matrices(case):
    """Their indices were believed: training wrote into memory that was not its own.

    One far out was a segmentation fault. One past the end trained the bias, which lies behind
    the table, without a word; "als" and "gibbs" fell in scipy's conversion.
    """
    kind, damage, message = DAMAGED[case]
    bad = regular(kind=kind)
    damage(bad)
    good = regular()
    message = f"^The sparse matrix is damaged.*{message}.*Build it anew"
    for solver in ("adagrad", "als"):
        with pytest.raises(ValueError, match=message):
            FMRegressor(solver=solver).fit(bad, ONES)
    model = FMRegressor(**SMALL).fit(good, Y)
    before = model.predict(good)
    for act in (
        model.predict,
        lambda X: model.fit(X, Y),
        lambda X: model.partial_fit(X, Y),
        lambda X: model.fit(good, Y, eval_set=(X, Y)),
    ):
        with pytest.raises(ValueError, match=message):
            act(bad)
    assert np.array_equal(model.predict(good), before)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
def test_whole_sparse_matrices_of_any_format(kind):
    """What is unsorted, has entries twice or rows without any is no damage."""
    matrix = regular(kind=kind)
    model = FMRegressor(**SMALL).fit(matrix, Y)
    assert np.array_equal(model.predict(matrix), model.predict(regular()))
    twice = sparse.coo_array(([1.0, 2.0], ([1, 1], [3, 3])), shape=(3, 40))
    assert np.array_equal(model.predict(twice.asformat(kind)), model.predict(twice.toarray()))


# -- errors in the middle ------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["fit", "partial_fit"])
def test_an_error_within_training_changes_nothing(again):
    """A callback's error under warm_start or partial_fit left a half-trained module."""
    from skorch.callbacks import Callback

    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("broken")

    model = FMRegressor(warm_start=True, **SMALL).fit(X, Y)
    model.set_params(callbacks=[Broken()])
    unchanged(model, lambda m: getattr(m, again)(X, Y), RuntimeError, "broken")
    assert len(model.history_) == 2


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda m, df: m.fit(df, "label"), "label"),
        (lambda m, df: m.partial_fit(df, "label"), "label"),
        (lambda m, df: m.fit(df, Y, sample_weight="w"), "w"),
        (lambda m, df: m.fit(X, Y, X_val=df, y_val="label"), "label"),
        (lambda m, df: m.score(df[["user", "age"]], "label"), "label"),
    ],
    ids=["fit", "partial_fit", "weight", "watched", "score"],
)
def test_a_name_for_a_column_in_memory(act, name):
    """`fit(df, "label")` counted letters: inconsistent numbers of samples, [60, 5]."""
    df = X.assign(label=Y, w=ONES)
    message = rf"{name!r} is a name, which works for tables on disk only(?s:.*)df\[{name!r}\]"
    unchanged(copy.deepcopy(fitted(FMClassifier)), lambda m: act(m, df), ValueError, message)


def test_a_table_on_disk_that_is_not_parquet(tmp_path):
    """It was an ArrowInvalid that spoke of magic bytes."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "my.csv"
    X.assign(y=Y).to_csv(path, index=False)
    for act in (lambda m: m.fit(path, "y"), lambda m: m.predict(path)):
        model = copy.deepcopy(fitted(FMClassifier))
        unchanged(model, act, ValueError, r"my\.csv' is not Parquet(?s:.*)pandas\.read_csv")
