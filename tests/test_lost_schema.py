"""Codes on their way through scikit-learn's tools: they keep their schema, or that is said aloud.

What `FieldArray` itself keeps is the business of ``test_data``.
"""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from sklearn_fm import (
    FieldArray,
    FieldEncoder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
    encode_to_folder,
)

RNG = np.random.RandomState(0)
N = 400
USERS = np.array([f"u{i:02}" for i in range(30)])  # more than the 20 bins of a number
X = pd.DataFrame(
    {
        "who": np.concatenate([USERS, RNG.choice(USERS, N - 30)]),
        "item": np.concatenate([["c", "b", "a"], RNG.choice(list("abc"), N - 3)]),
    }
)
AFFINITY = dict(zip(USERS, np.where(np.arange(30) % 3, 0.1, 0.9), strict=True))
Y = (RNG.rand(N) < X["who"].map(AFFINITY)).astype(int)
KNOWN = X[:40]
UNSEEN = pd.DataFrame({"who": ["u00", "u01", "NEW", "NEW"], "item": ["a", "NEW", "b", "NEW"]})
TESTED = pd.concat([KNOWN, UNSEEN])
BOTH = ["who", "item"]


def make_model(**params):
    """One whose priors are given, as folds would differ wherever rows come in another order."""
    given = {"l2_linear": 2.0, "l2_embedding": 20.0, "random_state": 0}
    return FMClassifier(solver="lbfgs", **given, **params)


DIRECT = make_pipeline(FieldEncoder(), make_model()).fit(X, Y)

# what stands between the encoder and the model, with all fields and rows left as they are
WAYS = {
    "pandas": lambda m: make_pipeline(FieldEncoder(), m).set_output(transform="pandas"),
    "columns": lambda m: make_pipeline(make_column_transformer((FieldEncoder(), BOTH)), m),
    "columns of two": lambda m: make_pipeline(
        make_column_transformer((FieldEncoder(), ["who"]), (FieldEncoder(), ["item"])), m
    ),
    "columns, pandas": lambda m: make_pipeline(
        make_column_transformer((FieldEncoder(), BOTH)), m
    ).set_output(transform="pandas"),
    "columns of two, pandas": lambda m: make_pipeline(
        make_column_transformer((FieldEncoder(), ["who"]), (FieldEncoder(), ["item"])), m
    ).set_output(transform="pandas"),
    "union": lambda m: make_pipeline(make_union(FieldEncoder()), m),
    "all of k best": lambda m: make_pipeline(FieldEncoder(), SelectKBest(k="all"), m),
    "plain": lambda m: make_pipeline(FieldEncoder(), FunctionTransformer(np.asarray), m),
    "pickled": lambda m: make_pipeline(FieldEncoder(), FunctionTransformer(travel), m),
    "bagging": lambda m: make_pipeline(
        FieldEncoder(), BaggingClassifier(m, n_estimators=1, bootstrap=False, random_state=0)
    ),
    "self-training": lambda m: make_pipeline(FieldEncoder(), SelfTrainingClassifier(m)),
}


def prefer_first(X, y):
    return np.array([2.0, 1.0])


def travel(X):
    return pickle.loads(pickle.dumps(np.asarray(X)))[np.arange(len(X))]


@pytest.mark.filterwarnings("ignore:y contains no unlabeled samples")
@pytest.mark.parametrize("way", WAYS)
def test_same_predictions_as_without_the_tool_between(way):
    """Fields became "binned" and an unseen category was read as category 0, without a word."""
    model = WAYS[way](make_model()).fit(X, Y)
    atol = 1e-3 if way == "bagging" else 1e-12  # which takes rows in another order
    for table in (KNOWN, UNSEEN):
        expected = DIRECT.predict_proba(table)
        np.testing.assert_allclose(model.predict_proba(table), expected, atol=atol, rtol=0)


def test_adaboost():
    model = make_pipeline(
        FieldEncoder(), AdaBoostClassifier(make_model(), n_estimators=1, random_state=0)
    ).fit(X, Y)
    member = model[-1].estimators_[0]
    assert member.schema_ == DIRECT[0].schema_
    codes = model[0].transform(TESTED)
    alone = make_model().fit(model[0].transform(X), Y, sample_weight=np.full(N, 1 / N))
    np.testing.assert_allclose(
        member.predict_proba(np.asarray(codes)), alone.predict_proba(codes), atol=1e-3
    )


def test_two_encoders_of_the_same_columns():
    """Their fields stand side by side, told apart by name."""
    coarse = FieldEncoder(min_frequency=20)
    union = make_union(FieldEncoder(), coarse)
    model = make_pipeline(union, make_model()).fit(X, Y)
    assert model[-1].schema_.names == ("who", "item", "who_1", "item_1")
    framed = make_pipeline(clone(union), make_model()).set_output(transform="pandas").fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(TESTED), framed.predict_proba(TESTED))
    parts = [FieldEncoder().fit(X), FieldEncoder(min_frequency=20).fit(X)]
    by_hand = [np.asarray(part.transform(TESTED)) for part in parts]
    np.testing.assert_array_equal(model[:-1].transform(TESTED), np.hstack(by_hand))


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_numbers_beside_codes_are_numeric_fields(output):
    table, later = X.assign(age=RNG.rand(N)), TESTED.assign(age=0.5)
    columns = make_column_transformer((FieldEncoder(), BOTH), (StandardScaler(), ["age"]))
    pipeline = make_pipeline(columns, make_model()).set_output(transform=output).fit(table, Y)
    assert pipeline[-1].schema_.kinds == ("categorical", "categorical", "numeric")
    age = StandardScaler().fit(table[["age"]])
    encoder = FieldEncoder().fit(X)

    def by_hand(table):
        codes = np.hstack([encoder.transform(table[BOTH]), age.transform(table[["age"]])])
        return FieldArray(codes, pipeline[-1].schema_)

    expected = make_model().fit(by_hand(table), Y).predict_proba(by_hand(later))
    np.testing.assert_allclose(pipeline.predict_proba(later), expected, atol=1e-12)


WITH_AGE, LATER = X.assign(age=RNG.rand(N)), TESTED.assign(age=0.5)
AGE = ["age"]
ENCODER = FieldEncoder().fit(X)


def beside(join):
    """Codes and a number beside them, put together by hand."""
    return FunctionTransformer(lambda table: join(ENCODER.transform(table[BOTH]), table[AGE]))


BESIDE = {
    "passthrough": make_column_transformer((FieldEncoder(), BOTH), remainder="passthrough"),
    "union": make_union(
        make_column_transformer((FieldEncoder(), BOTH)),
        FunctionTransformer(lambda table: table[AGE]),
    ),
    "hstack of a frame": beside(lambda codes, age: np.hstack([codes, age])),
    "of pandas' own numbers": beside(lambda codes, age: np.hstack([codes, age.astype("Float64")])),
    "column_stack": beside(lambda codes, age: np.column_stack([codes, age["age"]])),
    "c_": beside(lambda codes, age: np.c_[codes, age["age"].to_numpy()]),
    "last axis": beside(lambda codes, age: np.concatenate([codes, age], axis=-1)),
    "second argument": beside(lambda codes, age: np.concatenate([codes, age], 1)),
}


@pytest.mark.parametrize("way", BESIDE)
def test_numbers_passed_beside_codes(way):
    """A DataFrame beside codes was an AttributeError, other joins lost the schema silently."""
    pipeline = make_pipeline(BESIDE[way], make_model()).fit(WITH_AGE, Y)
    schema = pipeline[-1].schema_
    assert schema.kinds == ("categorical", "categorical", "numeric")
    assert schema.names[2] in ("age", "x2")
    by_hand = [
        FieldArray(np.hstack([np.asarray(ENCODER.transform(t[BOTH])), t[AGE]]), schema)
        for t in (WITH_AGE, LATER)
    ]
    expected = make_model().fit(by_hand[0], Y).predict_proba(by_hand[1])
    np.testing.assert_allclose(pipeline.predict_proba(LATER), expected, atol=1e-12)


def test_numbers_of_a_frame_keep_their_names_if_free():
    codes = ENCODER.transform(X)
    assert np.hstack([codes, WITH_AGE[AGE]]).schema.names == ("who", "item", "age")
    named_alike = WITH_AGE[AGE].set_axis(["who"], axis=1)
    assert np.hstack([codes, named_alike]).schema.names == ("who", "item", "who_1")
    pl = pytest.importorskip("polars")
    polars = pl.DataFrame({"age": WITH_AGE["age"].to_numpy(), "old": [True] * N})
    assert np.hstack([codes, polars]).schema.names == ("who", "item", "age", "old")
    gaps = pd.DataFrame({"n": pd.array([1, None] * (N // 2), dtype="Int64")})
    np.testing.assert_array_equal(np.hstack([codes, gaps])[:2, 2], [1, np.nan])


def test_text_beside_codes_is_refused():
    """A number is a field as it is, a text is not."""
    half = make_column_transformer((FieldEncoder(), ["who"]), remainder="passthrough")
    with pytest.raises(ValueError, match=r"Column 'item' of dtype (?s:.*)Encode it too"):
        make_pipeline(half, make_model()).fit(X, Y)
    with pytest.raises(ValueError, match="Column 'x2' of dtype object"):
        np.column_stack([ENCODER.transform(X), X["item"].to_numpy(dtype=object)])


def test_stacking_with_passthrough():
    """Codes pass beside the probabilities of other models, which are numbers."""
    members = [("lr", LogisticRegression())]
    stack = StackingClassifier(members, make_model(), cv=2, passthrough=True)
    model = make_pipeline(FieldEncoder(), stack).fit(X, Y)
    assert model[-1].final_estimator_.schema_.kinds == ("numeric", "categorical", "categorical")
    alone = FieldEncoder().fit(X).transform(UNSEEN[2:3])
    unknown = model[-1].transform(alone)
    assert unknown.indices[0, 1] == unknown.schema.offsets[1]  # the unknown row, not category 0


def test_columns_chosen_by_name():
    """In a DataFrame a selection of fields is one; in an array it cannot be told, and that is said.

    The same for a bag, whose columns only mean something together.
    """
    only_user = make_pipeline(FieldEncoder(), make_model()).fit(X[["who"]], Y)
    best = make_pipeline(FieldEncoder(), SelectKBest(prefer_first, k=1), make_model())
    model = clone(best).set_output(transform="pandas").fit(X, Y)
    assert model[-1].schema_.names == ("who",)
    np.testing.assert_array_equal(model.predict_proba(TESTED), only_user.predict_proba(TESTED))
    with pytest.raises(ValueError, match=r"fields are not known(?s:.*)schema=encoder\.schema_"):
        clone(best).fit(X, Y)
    told = clone(best).set_params(fmclassifier__schema=only_user[0].schema_).fit(X, Y)
    np.testing.assert_array_equal(told.predict_proba(TESTED), only_user.predict_proba(TESTED))

    bags = pd.DataFrame({"bag": [["a", "b"], ["b"]] * 20, "id": ["x", "y"] * 20})
    codes = FieldEncoder().set_output(transform="pandas").fit_transform(bags)
    y = np.arange(40) % 2
    assert list(codes.columns) == ["bag_0", "bag_1", "id"]
    turned = make_model().fit(codes[["id", "bag_0", "bag_1"]], y)
    assert turned.schema_.kinds == ("categorical", "bag")
    for columns in (["bag_0", "id"], ["bag_1", "bag_0"], ["bag_1", "id"]):
        with pytest.raises(ValueError, match="fields are not known"):
            make_model().fit(codes[columns], y)
    for beside in (codes.assign(name="a"), codes.rename(columns=str.upper)):
        with pytest.raises(ValueError, match="fields are not known"):
            make_model().fit(beside, y)


def test_users_and_items_in_codes_without_class():
    """MFRegressor finds its columns in an array that was a FieldArray."""
    codes = FieldEncoder().fit_transform(X.assign(other="a"))
    params = {"user": 0, "item": 1, "solver": "als", "max_epochs": 100, "random_state": 0}
    direct = MFRegressor(**params).fit(codes, Y)
    plain = MFRegressor(**params).fit(np.asarray(codes), Y)
    np.testing.assert_array_equal(plain.predict(np.asarray(codes)), direct.predict(codes))


def test_changed_numbers_are_no_codes():
    """numpy leaves the mark on what is computed from a marked array; codes are checked."""
    codes = np.asarray(FieldEncoder().fit_transform(X))
    for changed in (codes * 100, codes - 5):
        with pytest.raises(ValueError, match=r"Field 'who' takes"):
            make_model().fit(changed, Y)


# -- where nothing can be found -------------------------------------------------------------------

CHAIN = Pipeline([("encode", FieldEncoder()), ("chain", ClassifierChain(make_model()))])
POLARS = make_pipeline(FieldEncoder(), make_model()).set_output(transform="polars")


def test_polars_says_that_the_schema_is_lost():
    """Few categories have a bin each, so that nothing was said, and unseen ones were category 0."""
    pytest.importorskip("polars")
    with pytest.warns(UserWarning, match=r"Codes in a polars DataFrame lose their schema"):
        clone(POLARS).fit(X[["item"]], Y)


@pytest.mark.filterwarnings("ignore:Codes in a polars DataFrame")
def test_polars_says_that_ids_are_merged():
    """polars has no place for a schema. 30 users became 18 bins, and unseen ones user 0."""
    pytest.importorskip("polars")
    with pytest.warns(UserWarning, match=r"'who'.* 30 values share 18 bins.*schema=encoder"):
        lost = clone(POLARS).fit(X, Y)
    with pytest.warns(UserWarning, match=r"Column 'who' holds -1.*read as 0.*schema=encoder"):
        lost.predict(UNSEEN)
    lost.predict(KNOWN)
    told = clone(POLARS).set_params(fmclassifier__schema=DIRECT[0].schema_).fit(X, Y)
    np.testing.assert_allclose(told.predict_proba(TESTED), DIRECT.predict_proba(TESTED))


def test_classifier_chain_says_that_ids_are_merged():
    """It puts targets beside a copy of the codes, so that no schema fits."""
    targets = np.column_stack([Y, 1 - Y])
    with pytest.warns(UserWarning, match=r"30 values share 18 bins.*schema=encoder"):
        chain = clone(CHAIN).fit(X, targets)
    with pytest.warns(UserWarning, match=r"Column 0 holds -1.*schema=encoder"):
        chain.predict(UNSEEN)
    as_told = FieldEncoder(categorical=[0, 1])
    chain.set_params(chain__estimator=make_model(encoder=as_told)).fit(X, targets)
    p = chain.predict_proba(TESTED)[:, 0]
    np.testing.assert_allclose(p, DIRECT.predict_proba(TESTED)[:, 1], atol=1e-12)


def test_codes_of_another_library():
    """-1 for unseen is OrdinalEncoder's word too, where it is told so."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(encoder, make_model()).fit(X[["item"]], Y)
    with pytest.warns(UserWarning, match="Column 0 holds -1"):
        model.predict(UNSEEN[["item"]])


LOSING = {
    "objects": lambda codes: np.asarray(codes).astype(object),
    "lists": lambda codes: np.array(codes.tolist()),
    "append": lambda codes: np.append(codes, codes[:, 1:] + 0.5, axis=1),
}


@pytest.mark.parametrize("way", LOSING)
def test_one_column_of_numbers_does_not_silence(way):
    """The warning came only if all columns looked like codes: not beside "sal" on a log scale."""
    encoder = FieldEncoder(scaler="log")
    lost = make_pipeline(encoder, FunctionTransformer(LOSING[way]), make_model())
    with pytest.warns(UserWarning, match=r"Column 0 .* 30 values share 1\d bins.*schema=encoder"):
        lost.fit(X.assign(sal=RNG.rand(N)), Y)


def test_a_column_of_several_fields_does_not_silence():
    """A date is four fields, so that columns and fields were not one to one."""
    table = pd.DataFrame({"x": everything_below(60), "day": pd.Timestamp("2024-01-01")})
    table["day"] += pd.to_timedelta(np.arange(N), "D")
    for column in (table["x"], table["x"].astype("Int64")):
        with pytest.warns(UserWarning, match=r"Column 'x' .* 60 values share"):
            model = make_model().fit(table.assign(x=column), Y)
        with pytest.warns(UserWarning, match="Column 'x' holds -1"):
            model.predict(table.assign(x=-1))
    gaps = [None, np.nan, *range(30)] * (N // 32) + [None] * (N % 32)
    make_model().fit(np.array(gaps, dtype=object).reshape(-1, 1), Y)


def test_codes_as_objects():
    """They had the class and schema still, and ended in a TypeError of numpy."""
    as_objects = FunctionTransformer(lambda codes: codes.astype(object))
    model = make_pipeline(FieldEncoder(), as_objects, make_model()).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(TESTED), DIRECT.predict_proba(TESTED))


def everything_below(top):
    return np.concatenate([np.arange(top), RNG.randint(0, top, N - top)])


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"answer": RNG.randint(0, 5, N), "children": RNG.randint(0, 9, N)}),
        np.eye(3, dtype=int)[RNG.randint(0, 3, N)],
        RNG.randint(17, 90, (N, 2)),
        RNG.rand(N, 2),
        pd.DataFrame({"age": RNG.randint(0, 90, N), "height": RNG.rand(N)}),
        pd.DataFrame({"age": everything_below(60)}),
        pd.DataFrame({"hour": everything_below(24), "minute": everything_below(60)}),
        pd.DataFrame({"hour": everything_below(24), "user": everything_below(60)}),
        np.sort(RNG.geometric(0.1, N) - 1).reshape(-1, 1).clip(0, 25),
    ],
    ids=["answers", "one-hot", "ages", "floats", "mixed", "age", "times", "user", "counts"],
)
def test_numbers_are_no_codes(table):
    """A warning that always comes is worth nothing."""
    model = make_model().fit(table, Y)
    model.predict(table)


def test_nothing_is_said_where_columns_were_named():
    table = pd.DataFrame({"x": everything_below(60)})
    with pytest.warns(UserWarning, match=r"encoder=FieldEncoder\(numeric=\['x'\]\) for num"):
        make_model().fit(table, Y)
    told = make_model(encoder=FieldEncoder(numeric=["x"])).fit(table, Y)
    told.predict(pd.DataFrame({"x": [-1]}))


# -- the encoder within, whatever scikit-learn's settings -----------------------------------------


@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("cls", [FMClassifier, FMRegressor, MFRegressor])
def test_global_output_does_not_reach_the_encoder_within(cls, output):
    """`set_config(transform_output=...)` broke every estimator: no attribute require_schema."""
    pytest.importorskip(output)
    params = {"solver": "lbfgs", "max_epochs": 100, "random_state": 0}
    expected = cls(**params).fit(X, Y).predict(TESTED)
    with sklearn.config_context(transform_output=output):
        model = cls(**params).fit(X, Y)
        np.testing.assert_array_equal(model.predict(TESTED), expected)
    own = cls(**params, encoder=model.encoder_.set_output(transform=output)).fit(X, Y)
    np.testing.assert_array_equal(own.predict(TESTED), expected)
    with sklearn.config_context(transform_output=output):
        stepped = cls(solver="adagrad", random_state=0)
        stepped.partial_fit(X, Y, **({"classes": [0, 1]} if cls is FMClassifier else {}))
        assert stepped.predict(TESTED).shape == (len(TESTED),)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_tables_on_disk_under_global_output(tmp_path, output):
    """Chunks are encoded by the same encoder."""
    pytest.importorskip("pyarrow")
    pytest.importorskip(output)
    path = tmp_path / "table.parquet"
    X.assign(y=Y).to_parquet(path)
    with sklearn.config_context(transform_output=output), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=sklearn.exceptions.ConvergenceWarning)
        model = FMClassifier(solver="adagrad", max_epochs=2, random_state=0)
        model.fit(path, "y")
        folder = encode_to_folder(path, tmp_path / "encoded", target="y")
    np.testing.assert_array_equal(folder.X, DIRECT[0].transform(X))
    assert model.schema_ == DIRECT[0].schema_


def test_schemas_side_by_side():
    """Vocabularies shared within a schema stay shared, those of two schemas stay apart."""
    shared = FieldSchema(
        ("film", "seen"), ("categorical", "bag"), (5, 5), slots=(1, 3), vocabularies=("film",) * 2
    )
    both = FieldSchema.side_by_side([shared, FieldSchema.from_sizes([1], names=["age"]), shared])
    assert both.names == ("film", "seen", "age", "film_2", "seen_2")
    assert both.vocabularies == ("film", "film", "age", "film_2", "film_2")
    assert both.table_size == 5 + 1 + 5
    assert FieldSchema.side_by_side([shared]) == shared
