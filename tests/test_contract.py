"""The estimators keep scikit-learn's contract, and work inside its tools.

What they learn is the business of ``test_fitting`` and ``test_truth``.
"""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate
from public import ESTIMATORS, each_estimator, first_with_solver
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimators_dtypes,
    check_fit_idempotent,
    check_n_features_in,
    check_n_features_in_after_fitting,
    check_param_validation,
    parametrize_with_checks,
)

import sklearn_fm
from sklearn_fm import DeepFMClassifier, DeepFMRegressor, FieldEncoder, FMClassifier, FMRegressor

ROOT = Path(sklearn_fm.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], prefix="sklearn_fm."))
SMALL = {"max_epochs": 3, "batch_size": 32, "solver": "adagrad", "random_state": 0}

WEAK = {"l2_linear": 1.0, "l2_embedding": 2.0, "init_scale": 0.1}


def make_table(n_rows=200, seed=0):
    """Users who like some items, and a number."""
    rng = np.random.RandomState(seed)
    user, item = rng.randint(0, 6, n_rows), rng.randint(0, 5, n_rows)
    X = pd.DataFrame({"user": user.astype(str), "item": item.astype(str), "age": rng.rand(n_rows)})
    raw = (user - 2.5) * (item - 2) + rng.randn(n_rows)
    return X, (raw > 0).astype(int)


X, Y = make_table()
CODES = FieldEncoder().fit_transform(X)


# -- scikit-learn's own checks ---------------------------------------------------------------


# Solvers by blocks, once for each kind of target: the classes of a kind share all of that code.
SOLVERS = [
    first_with_solver("als", classifier=False)(solver="als"),
    first_with_solver("gibbs", classifier=True)(solver="gibbs", n_sweeps=40),
    first_with_solver("gibbs", classifier=False)(solver="gibbs", n_sweeps=40),
    DeepFMClassifier(solver="gibbs", n_sweeps=40),  # by another solver of this name
    DeepFMRegressor(solver="gibbs", n_sweeps=40),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([*(cls() for cls in ESTIMATORS), *SOLVERS])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@each_estimator
@pytest.mark.parametrize(
    "check",
    [
        check_param_validation,
        check_dataframe_column_names_consistency,
        check_n_features_in,
        check_n_features_in_after_fitting,
    ],
    ids=lambda check: check.__name__,
)
def test_checks_that_check_estimator_leaves_out(cls, check):
    check(cls.__name__, cls())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize(
    "check",
    [check_dataframe_column_names_consistency, check_estimators_dtypes, check_fit_idempotent],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("cls", [FMClassifier, FMRegressor], ids=lambda cls: cls.__name__)
def test_checks_under_transform_output(cls, check, output):
    """The encoder within gave DataFrames: no estimator could be fitted. These are quick checks.

    `check_estimator` as a whole passes for all estimators but in check_classifiers_train and
    check_regressors_train, where scikit-learn's own estimators fail too: the checks scale their X,
    which is a DataFrame then, and ask it for `tolist`.
    """
    pytest.importorskip(output)
    with sklearn.config_context(transform_output=output):
        check(cls.__name__, cls())


# -- parameters, tags, routing ---------------------------------------------------------------


@each_estimator
def test_tags(cls):
    """What they say of themselves; a sparse matrix is taken by those that say so only."""
    tags = get_tags(cls())
    if tags.input_tags.sparse:
        assert cls(**SMALL).fit(CODES.to_csr(), Y).n_features_in_ == CODES.schema.table_size
    else:
        with pytest.raises(TypeError, match="Sparse data was passed"):
            cls(**SMALL).fit(CODES.to_csr(), Y)
    assert tags.input_tags.categorical
    assert tags.input_tags.string
    assert tags.input_tags.allow_nan
    assert tags.target_tags.required
    assert not tags.no_validation
    assert not tags.non_deterministic
    if hasattr(cls, "predict_proba"):
        assert is_classifier(cls())
        assert tags.classifier_tags.multi_class
    else:
        assert is_regressor(cls())


@each_estimator
def test_parameters_travel(cls):
    """get_params, set_params and clone agree; repr shows what is not the default."""
    model = cls(embedding_dim=5, random_state=3)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(batch_size=7) is model
    assert model.get_params()["batch_size"] == 7
    assert repr(model) == f"{cls.__name__}(batch_size=7, embedding_dim=5, random_state=3)"
    with pytest.raises(ValueError, match="Invalid parameter 'lr'"):
        model.set_params(lr=1)
    with pytest.raises(TypeError):
        cls(5)
    nested = cls(encoder=FieldEncoder())
    assert nested.set_params(encoder__n_bins=3).encoder.n_bins == 3


@each_estimator
def test_fit_leaves_parameters_alone(cls):
    encoder = FieldEncoder(min_frequency=2)
    model = cls(encoder=encoder, **SMALL)
    before = model.get_params()
    model.fit(X, Y)
    assert model.get_params() == before
    assert model.encoder is encoder
    assert not hasattr(encoder, "schema_")
    assert model.encoder_.min_frequency == 2


def test_metadata_routing():
    """Weights reach fit, partial_fit and score when they are asked for, through a Pipeline too."""
    weight = np.where(np.arange(len(Y)) % 3, 1.0, 5.0)
    plain = FMClassifier(**SMALL).fit(CODES, Y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        model = FMClassifier(**SMALL)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        model.set_partial_fit_request(sample_weight=True)
        for method in ("fit", "partial_fit", "score"):
            requests = getattr(model.get_metadata_routing(), method).requests
            assert requests["sample_weight"] is True
        encoder = FieldEncoder().set_fit_request(sample_weight=False)
        pipeline = Pipeline([("encode", encoder), ("fm", model)])
        pipeline.fit(X, Y, sample_weight=weight)
        assert np.array_equal(pipeline.predict_proba(X), plain.predict_proba(CODES))
        weighted = pipeline.score(X, Y, sample_weight=weight)
        assert weighted == plain.score(CODES, Y, sample_weight=weight)
        result = cross_validate(
            pipeline, X, Y, cv=2, params={"sample_weight": weight}, error_score="raise"
        )
        assert np.isfinite(result["test_score"]).all()
        model.set_fit_request(sample_weight=None)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            pipeline.fit(X, Y, sample_weight=weight)


def test_rows_to_watch_one_by_one_or_in_one():
    """X_val, y_val and sample_weight_val are the words of HistGradientBoosting."""
    weight = np.where(np.arange(50) % 3, 1.0, 5.0)
    names = ("X_val", "y_val", "sample_weight_val")
    for watched in ((X[:50], Y[:50]), (X[:50], Y[:50], weight)):
        one = FMClassifier(**SMALL).fit(X[50:], Y[50:], eval_set=watched)
        other = FMClassifier(**SMALL).fit(X[50:], Y[50:], **dict(zip(names, watched, strict=False)))
        pd.testing.assert_frame_equal(
            one.history_.drop(columns="seconds"), other.history_.drop(columns="seconds")
        )
        assert one.history_["valid_loss"].notna().all()
        assert np.array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_a_pipeline_encodes_the_rows_to_watch(output):
    """There was no way: eval_set went past the encoder, and was refused."""
    weight = np.linspace(0.5, 2, 50)
    encoder = FieldEncoder().fit(X[50:])
    direct = FMClassifier(**SMALL).fit(
        encoder.transform(X[50:]), Y[50:], eval_set=(encoder.transform(X[:50]), Y[:50], weight)
    )
    with sklearn.config_context(enable_metadata_routing=True, transform_output=output):
        model = FMClassifier(**SMALL)
        model.set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        steps = [("encode", FieldEncoder()), ("fm", model)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        pipeline.fit(X[50:], Y[50:], X_val=X[:50], y_val=Y[:50], sample_weight_val=weight)
        loss = pipeline[-1].history_["valid_loss"]
        assert np.array_equal(loss, direct.history_["valid_loss"])
        assert np.array_equal(pipeline.predict_proba(X), direct.predict_proba(encoder.transform(X)))
        model.set_fit_request(eval_set=True)
        pipeline = Pipeline(steps, transform_input=["eval_set"])
        with pytest.raises(ValueError, match=r"y of an eval_set.*transform_input=\['X_val'\]"):
            pipeline.fit(X[50:], Y[50:], eval_set=(X[:50], Y[:50]))


class StopAt:
    """scikit-learn callback that counts epochs and stops at one of them."""

    def __init__(self, epoch):
        self.epoch = epoch
        self.seen = []
        self.predictions = []
        self.fits = 0

    def setup(self, estimator, context):
        self.fits += 1

    def teardown(self, estimator, context):
        self.fits -= 1

    def on_fit_task_begin(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        pass

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        if context.task_name != "epoch":
            return False
        self.seen.append(context.task_id)
        self.predictions.append(fitted_estimator.predict(X))
        return len(self.seen) >= self.epoch


@pytest.mark.parametrize("solver", ["lbfgs", "adagrad"])
def test_sklearn_callbacks(solver):
    """They hear of each epoch, get an estimator that predicts, and stop the fit."""
    pytest.importorskip("sklearn.callback")
    callback = StopAt(3)
    model = FMRegressor(solver=solver, early_stopping=False, random_state=0)
    model.set_callbacks(callback).fit(X, Y)
    assert len(callback.seen) == 3
    assert callback.fits == 0
    assert len(model.history_) == model.n_epochs_ == 3
    assert np.array_equal(callback.predictions[-1], model.predict(X))
    assert not np.array_equal(callback.predictions[0], callback.predictions[-1])
    clone(model).set_callbacks().fit(X, Y)
    assert len(callback.seen) == 3


def test_sklearn_callback_that_stops_the_search_does_not_stop_the_refit():
    """A callback that goes on asking to stop left a model refitted for one epoch only."""
    pytest.importorskip("sklearn.callback")
    params = {**SMALL, **WEAK, "early_stopping": True}
    silent = FMRegressor(**params).fit(X, Y)  # for 3 epochs
    stopped = FMRegressor(**{**params, "max_epochs": 100}).set_callbacks(StopAt(3)).fit(X, Y)
    assert silent.n_epochs_ > 1
    assert silent.n_epochs_ == stopped.n_epochs_
    assert np.array_equal(silent.predict(X), stopped.predict(X))


def test_a_warning_of_fit_points_at_the_line_of_the_user():
    """It pointed into scikit-learn's file of callbacks, or of pipelines, or one frame too far."""

    class Mine(FMRegressor):
        def fit(self, X, y, **kwargs):
            return super().fit(X, y, **kwargs)

    model = FMRegressor(solver="lbfgs", max_epochs=1, tol=0, random_state=0)
    undecorated = getattr(FMRegressor.fit, "__wrapped__", FMRegressor.fit)  # scikit-learn < 1.9
    for fit in (model.fit, make_pipeline(model).fit, lambda X, y: undecorated(model, X, y)):
        with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
            fit(X, Y)
        assert caught[0].filename == __file__
    for cls in (FMClassifier, FMRegressor):
        with pytest.warns(DataConversionWarning, match="column-vector") as caught:
            cls(**SMALL).fit(X, Y[:, None])
        assert caught[0].filename == __file__
    own = inspect.getsourcelines(Mine.fit)[1] + 1
    with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
        Mine(**model.get_params()).fit(X, Y)
    assert (caught[0].filename, caught[0].lineno) == (__file__, own)


# -- inside scikit-learn's tools ---------------------------------------------------------------


@each_estimator
def test_pipeline_equals_encoder_within(cls):
    inside = cls(encoder=FieldEncoder(), **SMALL).fit(X, Y)
    pipeline = make_pipeline(FieldEncoder(), cls(**SMALL)).fit(X, Y)
    assert np.array_equal(inside.predict(X), pipeline.predict(X))
    assert pipeline[-1].encoder_ is None
    assert inside.schema_ == pipeline[-1].schema_


def test_pipeline_takes_columns_by_name():
    pipeline = make_pipeline(FieldEncoder(), FMClassifier(**SMALL)).fit(X, Y)
    permuted = X[["age", "item", "user"]].assign(other=1)
    assert np.array_equal(pipeline.predict_proba(permuted), pipeline.predict_proba(X))
    with pytest.raises(ValueError, match=r"columns are missing.*item"):
        pipeline.predict(X.drop(columns="item"))


def test_grid_search_in_two_processes():
    pipeline = Pipeline([("encode", FieldEncoder()), ("fm", FMClassifier(**SMALL))])
    grid = {"encode__n_bins": [2, 5], "fm__embedding_dim": [2, 4]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 4
    assert search.predict(X).shape == (len(X),)
    again = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    key = "mean_test_score"
    assert np.array_equal(search.cv_results_[key], again.cv_results_[key])


@pytest.mark.parametrize("table", [X, CODES, CODES.to_csr()], ids=["frame", "codes", "sparse"])
def test_cross_val_predict(table):
    model = FMClassifier(**SMALL)
    p = cross_val_predict(model, table, Y, cv=2, method="predict_proba")
    assert p.shape == (len(Y), 2)
    assert np.allclose(p.sum(axis=1), 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: StackingClassifier([("fm", model)], LogisticRegression(), cv=2),
        lambda model: CalibratedClassifierCV(model, cv=2),
        lambda model: BaggingClassifier(model, n_estimators=2, random_state=0),
    ],
    ids=["stacking", "calibrated", "bagging"],
)
def test_meta_estimators_on_codes(make):
    """Where they strip the schema, `schema=` brings it back."""
    model = FMClassifier(schema=CODES.schema, **{**SMALL, "max_epochs": 40}, **WEAK)
    fitted = make(model).fit(CODES, Y)
    assert fitted.predict_proba(CODES).shape == (len(Y), 2)
    assert fitted.score(CODES, Y) > 0.6


def test_permutation_importance_on_codes():
    model = FMClassifier(**{**SMALL, "max_epochs": 40}, **WEAK).fit(CODES, Y)
    importance = permutation_importance(model, CODES, Y, n_repeats=3, random_state=0)
    assert importance.importances_mean.argmin() == 2  # the age says nothing
    assert importance.importances_mean[:2].min() > 0.05


# -- documentation -----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [*ESTIMATORS, FieldEncoder], ids=lambda cls: cls.__name__)
def test_docstring_lists_the_signature_with_its_defaults(cls):
    signature = inspect.signature(cls).parameters
    documented = ClassDoc(cls)["Parameters"]
    # "a, b : type, default=x" stands for both
    entries = [(name, entry) for entry in documented for name in entry.name.split(", ")]
    assert [name for name, _ in entries] == list(signature)
    for name, entry in entries:
        default = signature[name].default
        shown = f'"{default}"' if isinstance(default, str) else repr(default)
        assert re.search(rf"default={re.escape(shown)}$", entry.type), (name, entry.type)
        assert " ".join(entry.desc).strip().endswith("."), name


@each_estimator
def test_signature_is_the_dataclass(cls):
    """Annotations meant for a type checker must not become parameters."""
    assert [f.name for f in dataclasses.fields(cls)] == list(inspect.signature(cls).parameters)
    assert set(cls._parameter_constraints) == set(inspect.signature(cls).parameters)


@each_estimator
def test_documented_attributes_exist(cls):
    model = cls(**SMALL).fit(X, Y)
    for attribute in ClassDoc(cls)["Attributes"]:
        assert hasattr(model, attribute.name), attribute.name


def documented_objects():
    """Dotted names for numpydoc: public estimators and data with their methods, all functions.

    Within the package the parts of a class may say in one line what its base says at length.
    """
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if getattr(thing, "__module__", None) != module_name:
                continue
            if inspect.isfunction(thing):
                yield f"{module_name}.{name}"
            elif inspect.isclass(thing) and (
                name in sklearn_fm.__all__ or module_name.startswith("sklearn_fm.inspection.")
            ):
                yield f"{module_name}.{name}"
                methods = inspect.getmembers(thing, inspect.isfunction)
                for method, function in methods:
                    ours = function.__module__.startswith("sklearn_fm.")
                    if ours and not method.startswith("_") and not hasattr(np.ndarray, method):
                        yield f"{module_name}.{name}.{method}"


@pytest.mark.parametrize("name", list(documented_objects()))
def test_numpydoc(name):
    with open(ROOT.parent / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)["tool"]["numpydoc_validation"]
    assert settings["checks"][0] == "all"
    left_out = {*settings["checks"][1:], "SS05"}  # which takes plurals for verbs
    if name.endswith((".as_layout", ".estimator", ".make_scheduler")):
        # numpydoc takes a decorator's argument cls for that of a class method; skorch is a name
        left_out |= {"PR02", "SS02"}
    errors = [error for error in validate(name)["errors"] if error[0] not in left_out]
    assert errors == []


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__ or not getattr(module, "__all__", ())
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) != name or not hasattr(thing, "__name__"):
            continue
        if thing.__name__.startswith("_"):
            continue
        members = vars(thing).values() if inspect.isclass(thing) else ()
        for part in [thing, *filter(inspect.isfunction, members)]:
            if not part.__name__.startswith("_"):
                assert part.__doc__, part.__qualname__


@pytest.mark.parametrize("module_name", MODULES)
def test_docstring_examples(module_name):
    result = doctest.testmod(importlib.import_module(module_name))
    assert result.failed == 0
