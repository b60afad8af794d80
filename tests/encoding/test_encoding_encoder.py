"""FieldEncoder: tables, column selection, weights, scikit-learn's contract."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks
from sklearn.utils.metadata_routing import get_routing_for_object

from sklearn_fm.data.array import FieldArray
from sklearn_fm.data.codes import check_codes
from sklearn_fm.encoding import FieldEncoder

ESTIMATORS = [
    FieldEncoder(),
    FieldEncoder(scaler="log"),
    FieldEncoder(scaler=None),
    FieldEncoder(scaler=StandardScaler()),
    FieldEncoder(scaler="piecewise"),
    FieldEncoder(scaler="periodic"),
    FieldEncoder(scaler="log_bins"),
    FieldEncoder(categorical=slice(None)),
    FieldEncoder(categorical=slice(None), hash_buckets=3),
    FieldEncoder(hash_buckets=3),
]


def shop(n=60, seed=0):
    """A table with a column of every kind, missing cells included."""
    rng = np.random.default_rng(seed)
    price = rng.exponential(10, n).round(1)
    price[::9] = np.nan
    town = rng.choice(["Oslo", "Rome", "Bonn", "Ürümqi"], n).astype(object)
    town[::7] = None
    return pd.DataFrame(
        {
            "price": price,
            "town": pd.Series(town, dtype="str"),
            "units": rng.integers(0, 9, n),
            "flag": rng.random(n) < 0.5,
            "grade": pd.Categorical(rng.choice(["b", "a"], n), categories=["a", "b", "c"]),
        }
    )


def containers(X):
    """The same table as others would hold it."""
    cells = {name: [None if pd.isna(v) else v for v in X[name]] for name in X}
    return {
        "pandas": X,
        "objects": X.astype(object),
        "nullable": X.convert_dtypes(dtype_backend="numpy_nullable"),
        "arrow": X.convert_dtypes(dtype_backend="pyarrow"),
        "polars": pl.DataFrame(cells),
        "reversed": X[X.columns[::-1]].assign(extra=1),
    }


# -- scikit-learn's own checks -------------------------------------------------------------


@checks.parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
@pytest.mark.filterwarnings("ignore:Codes in a polars DataFrame")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_set_output_transform_polars",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_readonly_memmap_input",
    ],
)
def test_checks_that_scikit_learn_leaves_out(estimator, name):
    getattr(checks, name)("FieldEncoder", clone(estimator))


def test_columns_by_name_is_the_one_departure_from_column_name_consistency():
    """Like ColumnTransformer, which scikit-learn exempts from this check altogether."""
    with pytest.raises(AssertionError, match="transform did not raise"):
        checks.check_dataframe_column_names_consistency("FieldEncoder", FieldEncoder())

    class OrderMinded(FieldEncoder):
        """What a refusal of permuted columns, in scikit-learn's words, would look like."""

        def partial_fit(self, X, y=None):
            if hasattr(self, "schema_"):
                self.transform(X)
            return super().partial_fit(X)

        def transform(self, X):
            message = "The feature names should match those that were passed during fit.\n"
            names, fitted = list(X.columns), self.feature_names_in_.tolist()
            if sorted(names) == sorted(fitted) and names != fitted:
                raise ValueError(
                    message + "Feature names must be in the same order as they were in fit.\n"
                )
            try:
                return super().transform(X)
            except ValueError as error:
                if "columns are missing" not in str(error):
                    raise
                new = "".join(f"- {name}\n" for name in sorted(set(names) - set(fitted))[:5])
                gone = "".join(f"- {name}\n" for name in sorted(set(fitted) - set(names))[:5])
                parts = f"Feature names unseen at fit time:\n{new}" * bool(new)
                parts += f"Feature names seen at fit time, yet now missing:\n{gone}" * bool(gone)
                raise ValueError(message + parts) from error

    checks.check_dataframe_column_names_consistency("OrderMinded", OrderMinded())


def test_metadata_routing_of_sample_weight():
    with config_context(enable_metadata_routing=True):
        encoder = FieldEncoder(min_frequency=2).set_fit_request(sample_weight=True)
        assert get_routing_for_object(encoder).fit.requests == {"sample_weight": True}
        pipeline = make_pipeline(encoder)
        pipeline.fit(pd.DataFrame({"a": ["x", "y"]}), sample_weight=[2, 1])
        assert pipeline[0].schema_.vocabulary_sizes == (2,)


# -- containers ----------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", ["bins", "log"])
@pytest.mark.parametrize("fitted", containers(shop()))
def test_same_data_same_codes(fitted, scaler):
    columns = {"categorical": ["town", "units", "flag", "grade"], "numeric": ["price"]}
    X = shop()
    reference = FieldEncoder(scaler=scaler, **columns).fit_transform(X)
    encoder = FieldEncoder(scaler=scaler, **columns).fit(containers(X)[fitted][list(X.columns)])
    for name, other in containers(X).items():
        codes = pd.DataFrame(encoder.transform(other), columns=encoder.get_feature_names_out())
        codes = codes[[*reference.schema.column_names]]
        assert_array_equal(codes, reference, err_msg=name)
        few = encoder.transform(other[:3])
        assert_array_equal(few, encoder.transform(other)[:3], err_msg=name)


def test_arrays_have_the_codes_of_frames():
    X = shop()[["price", "town", "flag"]]
    reference = FieldEncoder().fit_transform(X)
    encoder = FieldEncoder().fit(X.to_numpy(dtype=object))
    assert encoder.schema_.kinds == reference.schema.kinds
    assert encoder.schema_.names == ("x0", "x1", "x2")
    assert_array_equal(encoder.transform(X.to_numpy(dtype=object)), reference)
    assert FieldEncoder().fit([["a", 1], ["b", 2]]).schema_.kinds == ("categorical", "binned")
    assert FieldEncoder().fit(np.array([["a"], ["b"]])).schema_.kinds == ("categorical",)


@pytest.mark.parametrize("scaler", ["bins", "log", None, StandardScaler()])
def test_few_rows_get_the_codes_of_many(scaler):
    """Small frames are read cell by cell, large ones column by column."""
    X = shop(200)
    encoder = FieldEncoder(scaler=scaler, categorical=["units"]).fit(X[:100])
    for frame in containers(X).values():
        many = encoder.transform(frame)
        for start in range(0, 200, 13):
            for size in (1, 2, 8, 9):
                part = encoder.transform(frame[start : start + size])
                assert_array_equal(part, many[start : start + size])


def test_polars_is_not_imported():
    code = "import sys, sklearn_fm.encoding as e; sys.exit('polars' in sys.modules or " + (
        "'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- which column is what --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "categorical"),
    [
        ({}, {"town", "flag", "grade"}),
        ({"categorical": ["units"]}, {"town", "flag", "grade", "units"}),
        ({"categorical": "units"}, {"town", "flag", "grade", "units"}),
        ({"categorical": 2}, {"town", "flag", "grade", "units"}),
        ({"categorical": [-3]}, {"town", "flag", "grade", "units"}),
        ({"categorical": slice(None)}, {"price", "town", "units", "flag", "grade"}),
        ({"categorical": slice("price", "units")}, {"price", "town", "units", "flag", "grade"}),
        ({"categorical": [False, False, True, False, False]}, {"town", "units", "flag", "grade"}),
        ({"categorical": int}, {"town", "units", "flag", "grade"}),
        ({"categorical": np.number}, {"price", "town", "units", "flag", "grade"}),
        ({"categorical": ["category", np.dtype("int64")]}, {"town", "units", "flag", "grade"}),
        ({"categorical": make_column_selector("^u")}, {"town", "units", "flag", "grade"}),
        ({"categorical": lambda X: ["units"]}, {"town", "units", "flag", "grade"}),
        ({"numeric": "bool"}, {"town", "grade"}),
        ({"numeric": []}, {"town", "flag", "grade"}),
    ],
    ids=[  # written out: sets and functions are named differently in each process
        "nothing said",
        "list of names",
        "name",
        "position",
        "negative position",
        "all",
        "slice of names",
        "mask",
        "type",
        "abstract type",
        "list of types",
        "selector",
        "function",
        "numeric by type",
        "no number",
    ],
)
def test_column_specifications(kwargs, categorical):
    schema = FieldEncoder(**kwargs).fit(shop()).schema_
    kinds = dict(zip(schema.names, schema.kinds, strict=True))
    assert {name for name, kind in kinds.items() if kind == "categorical"} == categorical


def test_specifications_for_arrays_and_polars():
    X = np.ones((3, 3))
    for spec in ([0], slice(0, 1), [True, False, False], lambda X: [0]):
        kinds = FieldEncoder(categorical=spec).fit(X).schema_.kinds
        assert kinds == ("categorical", "binned", "binned")
    table = pl.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 0.1]})
    assert FieldEncoder(categorical=int).fit(table).schema_.kinds[0] == "categorical"
    assert FieldEncoder(categorical=["c"]).fit(table).schema_.kinds == (
        "binned",
        "categorical",
        "categorical",
    )


def test_column_name_wins_over_dtype_name():
    X = pd.DataFrame({"category": [1.0, 2.0], "int": [1, 2]})
    assert FieldEncoder(categorical="category").fit(X).schema_.kinds == ("categorical", "binned")


# -- weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", ["bins", "log", None])
def test_weights_are_repetition_and_zero_is_absence(scaler):
    X = shop(120)
    X.loc[5, "town"] = "Atlantis"
    weights = np.random.default_rng(3).integers(0, 3, len(X))
    weights[5] = 0
    encoder = FieldEncoder(scaler=scaler, min_frequency=3)
    codes = encoder.fit_transform(X, sample_weight=weights)
    repeated = X.loc[X.index.repeat(weights)]
    other = FieldEncoder(scaler=scaler, min_frequency=3).fit(repeated)
    assert encoder.schema_ == other.schema_
    np.testing.assert_allclose(codes, other.transform(X), rtol=1e-12)
    assert "Atlantis" not in encoder.encoders_["town"].vocabulary
    assert codes[5, encoder.schema_.column_names.index("town")] == -1


def test_rows_of_weight_zero_do_not_decide_the_kind():
    X = np.array([[1.0], ["text"], [2.0]], dtype=object)
    encoder = FieldEncoder().fit(X, sample_weight=[1, 0, 1])
    assert encoder.schema_.kinds == ("binned",)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, -1], r"expected weights >= 0, got -1.0 at row 1"),
        ([1, np.nan], "sample_weight contains NaN"),
        ([0, 0], "weights are zero"),
        ([1, 1, 1], r"sample_weight.shape == \(3,\), expected \(2,\)"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        FieldEncoder().fit([[1.0], [2.0]], sample_weight=weight)


# -- output ----------------------------------------------------------------------------------


def test_output_knows_its_schema():
    codes = FieldEncoder().fit_transform(shop())
    assert isinstance(codes, FieldArray)
    assert codes.dtype == np.int32
    check_codes(np.asarray(codes), codes.schema)
    assert codes.schema.kinds == ("binned", "categorical", "binned", "categorical", "categorical")
    assert FieldEncoder(scaler="log").fit_transform(shop()).dtype == np.float64
    assert FieldEncoder(scaler="log").fit_transform(shop()[["town"]]).dtype == np.int32


def test_inverse_transform_round_trip():
    X = shop()
    encoder = FieldEncoder(scaler=None)
    back = encoder.inverse_transform(encoder.fit_transform(X))
    assert back.dtype == object
    expected = X.astype(object).where(X.notna(), np.nan)
    pd.testing.assert_frame_equal(
        pd.DataFrame(back, columns=X.columns, dtype=object), expected, check_exact=True
    )
    numbers = FieldEncoder(scaler="log")
    restored = numbers.inverse_transform(numbers.fit_transform(X[["price"]]))
    np.testing.assert_allclose(restored, X[["price"]], atol=1e-12)
    with pytest.raises(ValueError, match="'town' takes the integer codes -1"):
        encoder.inverse_transform([[1.0, 0, 99, 0, 0, 0]])


def test_set_output():
    X = shop().set_index(np.arange(60) + 5)
    codes = FieldEncoder().fit_transform(X)
    frame = FieldEncoder().set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == list(X.columns)
    assert frame.index.equals(X.index)
    assert_array_equal(frame, codes)
    weighted = FieldEncoder().set_output(transform="polars")
    with pytest.warns(UserWarning, match=r"polars DataFrame lose .*schema=encoder\.schema_"):
        table = weighted.fit_transform(X, sample_weight=[0] + [1] * 59)
    assert weighted.transform(X).shape == table.shape  # said once, in fit
    assert isinstance(table, pl.DataFrame)
    assert table.columns == list(X.columns)


def test_names():
    encoder = FieldEncoder().fit(pd.DataFrame({3: [1], 7: ["a"]}))
    assert encoder.schema_.names == ("3", "7")
    assert not hasattr(encoder, "feature_names_in_")
    assert encoder.get_feature_names_out().tolist() == ["3", "7"]


def test_pickle_and_clone():
    X = shop()
    encoder = FieldEncoder(scaler=StandardScaler()).fit(X)
    codes = encoder.transform(X)
    again = pickle.loads(pickle.dumps(encoder))
    assert again.schema_ == encoder.schema_
    assert_array_equal(again.transform(X), codes)
    assert_array_equal(clone(encoder).set_params(scaler__with_mean=True).fit_transform(X), codes)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"n_bins": 1}, "an int of at least 2"),
        ({"n_bins": 2.5}, "an int of at least 2"),
        ({"min_frequency": 0}, "an int of at least 1, a float between 0 and 1"),
        ({"min_frequency": 1.0}, "an int of at least 1, a float between 0 and 1"),
        ({"max_categories": True}, "an int of at least 1 or None"),
        ({"handle_unknown": "ignore"}, "'unknown' or 'error'"),
        (
            {"scaler": "minmax"},
            "'bins', 'uniform_bins', 'log_bins', 'piecewise', 'periodic', 'log', ",
        ),
        (
            {"scaler": StandardScaler},
            "'bins', 'uniform_bins', 'log_bins', 'piecewise', 'periodic', 'log', ",
        ),
        ({"scaler": 3}, "'bins', 'uniform_bins', 'log_bins', 'piecewise', 'periodic', 'log', "),
    ],
    ids=str,
)
def test_bad_parameters(parameters, expected):
    (name, value), *_ = parameters.items()
    message = f"The '{name}' parameter of FieldEncoder must be {expected}"
    for method in ("fit", "fit_transform"):
        with pytest.raises(ValueError, match=message) as caught:
            getattr(FieldEncoder(**parameters), method)([[1.0], [2.0]])
        assert str(caught.value).endswith(f"Got {value!r} instead.")


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (sparse.csr_array(np.eye(2)), TypeError, "Sparse data was passed"),
        (np.ones(3), ValueError, "Expected 2D array, got 1D array instead"),
        (pd.Series([1, 2]), ValueError, "Expected a 2-dimensional container"),
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (pd.DataFrame(index=[1, 2]), ValueError, r"0 feature\(s\) \(shape=\(2, 0\)\)"),
        (pd.DataFrame([[1, 2, 3]], columns=list("aba")), ValueError, r"occur twice: \['a'\]"),
        (pd.DataFrame({"a": [1.0, np.inf]}), ValueError, "'a' holds infinity in row 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bad_tables(X, error, message):
    with pytest.raises(error, match=message):
        FieldEncoder().fit(X)


def test_columns_at_transform():
    X = shop()
    encoder = FieldEncoder().fit(X)
    with pytest.raises(ValueError, match=re.escape("columns are missing: ['town', 'flag']")):
        encoder.transform(X.drop(columns=["town", "flag"]))
    with pytest.raises(ValueError, match=re.escape("occur twice: ['price']")):
        encoder.transform(pd.concat([X, X[["price"]]], axis=1))
    with pytest.raises(ValueError, match="X has 4 features, but FieldEncoder is expecting 5"):
        FieldEncoder().fit(X.to_numpy()).transform(X.to_numpy()[:, 1:])


@pytest.mark.parametrize("n_rows", [2, 30])
def test_fields_are_named_in_errors(n_rows):
    X = pd.DataFrame({"a": ["x"] * n_rows, "b": [1.0] * n_rows})
    with pytest.raises(ValueError, match=r"Field 'a' is numeric, but row 0 holds 'x' \(str\)"):
        FieldEncoder(numeric=["a"]).fit(X)
    with pytest.raises(ValueError, match=r"both categorical= and numeric=: \['b'\]"):
        FieldEncoder(numeric=["b"], categorical=slice(None)).fit(X)
    with pytest.raises(ValueError, match=r"columns are missing: \['z'\]"):
        FieldEncoder(numeric=["z"]).fit(X)
    strict = FieldEncoder(handle_unknown="error").fit(X)
    with pytest.raises(ValueError, match="Field 'a' holds 'y' in row 1"):
        strict.transform(X.assign(a=["x", "y"] + ["x"] * (n_rows - 2)))
    with pytest.raises(ValueError, match="Field 'b' holds nan in row 0, but fit saw no missing"):
        strict.transform(X.assign(b=np.nan))
