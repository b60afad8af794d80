"""Type hints tell a user's checker what is right and what is not, through the lazy imports too.

The package's own code is checked by mypy alone, with the settings of pyproject.toml.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_fm
import sklearn_fm.models

ROOT = Path(sklearn_fm.__file__).parent

# What every user has to write: scikit-learn has no hints. torch is left out to save half a minute.
# The package is read, not checked: that is what a checker does with an installed one.
SETTINGS = """
[mypy]
strict = true
[mypy-sklearn.*]
ignore_missing_imports = true
[mypy-torch.*]
follow_imports = skip
[mypy-sklearn_fm.*]
follow_imports = silent
"""

SCRIPT = """
from typing import assert_type

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_fm import (
    BagField,
    CategoryField,
    DateField,
    DeepFMClassifier,
    FieldArray,
    FieldEncoder,
    FieldFolder,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    MFRegressor,
    NumberField,
    encode_to_folder,
)
from sklearn_fm.estimators.families import DCNRegressor
from sklearn_fm.models import FM, DeepFM

X = pd.DataFrame({"user": ["ann", "bob"] * 20, "tags": ["a|b", "b"] * 20})
y = np.arange(40) % 2
encoder = FieldEncoder(
    fields={
        "tags": BagField(separator="|"),
        "user": CategoryField(min_frequency=2),
        "when": DateField(),
        "age": NumberField(scaler="log"),
    },
    n_bins=10,
)
codes: FieldArray = encoder.fit_transform(X)
schema: FieldSchema = encoder.schema_
size: int = schema.table_size
indices: NDArray[np.int32] = codes[:10].indices
model = FMClassifier(solver="adagrad", embedding_dim=8, max_epochs=2, encoder=encoder)
p: NDArray[np.float64] = model.fit(X, y).predict_proba(X)
again: FMClassifier = model.partial_fit(X, y, classes=[0, 1]).set_params(n_jobs=2)
deep = DeepFMClassifier(hidden_layer_sizes=[8, 4], activation="relu", dropout=0.1, schema=schema)
deep.set_fit_request(X_val=True, y_val=True).fit(codes, y, X_val=codes, y_val=y)
deep.fit(X, y, None, (X, y))
rated = MFRegressor(solver="gibbs", n_sweeps=20, y_range=(0.0, 1.0), user="user", item=1)
mean, std = rated.fit(X, y).predict(X, return_std=True)
cross = DCNRegressor(l2_linear="auto", l2_embedding=0.5, early_stopping="auto", random_state=0)
accuracy: float = model.score(X, y)
epochs = [model.n_epochs_, cross.fit(X, y).history_, model.classes_, rated.module_]
folder: FieldFolder = encode_to_folder("clicks/", "encoded/", target="label")
pipeline = make_pipeline(FieldEncoder(), FMRegressor(loss="ordinal"))
module = FM(FieldSchema.from_sizes([1000, 500, 1]), embedding_dim=16)
scaled = FieldEncoder(scaler=StandardScaler(), fields={"age": NumberField(scaler=None)})
assert_type(encoder.schema_, FieldSchema)
assert_type(model.schema_, FieldSchema)
assert_type(model.encoder_, FieldEncoder | None)
assert_type(model.history_, pd.DataFrame)
assert_type(model.solver_reason_, str)
assert_type(model.predict_proba(X), NDArray[np.float64])
assert_type(cross.predict(X), NDArray[np.float64])
assert_type(rated.predict(X), NDArray[np.float64])
assert_type(rated.predict(X, return_std=True), tuple[NDArray[np.float64], NDArray[np.float64]])
best: NDArray[np.str_] = model.classes_[model.predict_proba(X).argmax(axis=1)]
"""

# A mistake a line, and what a checker must say of it.
MISTAKES = {
    "from sklearn_fm import FMClasifier": "no attribute",
    "FMClassifier(solver='gibs')": "gibs",
    "DCNRegressor(solver='gibs')": "gibs",
    "FMClassifier(embeding_dim=8)": "embeding_dim",
    "FMClassifier(embedding_dim='8')": "embedding_dim",
    "FMClassifier(8)": "positional",
    "FMClassifier(y_range=(0, 1))": "y_range",
    "DCNRegressor(n_sweeps=9)": "n_sweeps",
    "DeepFMClassifier(hidden_layer_sizes=8)": "hidden_layer_sizes",
    "DeepFMClassifier(activation='step')": "step",
    "FMRegressor(loss='huber')": "huber",
    "FMClassifier(encoder='bins')": "FieldEncoder",
    "MFRegressor(user=1.5)": "user",
    "FieldEncoder(bins=3)": "bins",
    "BagField(sep='|')": "sep",
    "FMRegressor().predict_proba(X)": "predict_proba",
    "FMClassifier().fit()": "Missing positional",
    "FMClassifier().fit(X, y).predict_probba(X)": "predict_probba",
    "FMClassifier().fit(X, y, X_vall=X)": "X_vall",
    "FMClassifier().set_params(solver='als').fitt(X, y)": "fitt",
    "FieldEncoder().fit_transform(X).indises": "indises",
    "name: str = schema.table_size": "Incompatible types",
    "FM(schema, embedding_dim='16')": "embedding_dim",
    "DeepFM(schema, 2, 3, bogus=3)": "DeepFM",
    "from sklearn_fm.models import FMM": "no attribute",
    "FieldEncoder(scaler='bin')": "bin",
    "FieldEncoder(scaler=3)": "scaler",
    "FieldEncoder(handle_unknown='err')": "err",
    "NumberField(scaler='lin')": "lin",
    "BagField(pooling='avg')": "avg",
    "BagField(truncate='middle')": "middle",
    "DateField(parts=('mont',))": "parts",
    "FMClassifier().schema_.table_sise": "table_sise",
    "FMRegressor().predict(X).shap": "shap",
    "FMClassifier().n_epochs_.lower()": "lower",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What mypy says of each line of the script and of the mistakes after it."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("typed")
    (folder / "mypy.ini").write_text(SETTINGS)
    (folder / "script.py").write_text("\n".join([SCRIPT, *MISTAKES]))
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "script.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line for line in errors if not line.startswith("script.py:")] == []
    lines = [line.split(":", 3) for line in errors]
    return {int(number): message for _, number, _, message in lines}


def test_what_is_right_passes(found):
    """Names from the package were `Any`, those from their module lacked arguments."""
    n_lines = SCRIPT.count("\n") + 1
    assert {line: text for line, text in found.items() if line <= n_lines} == {}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_is_found(found, mistake):
    line = SCRIPT.count("\n") + 2 + list(MISTAKES).index(mistake)
    assert MISTAKES[mistake] in found.get(line, "")


def seen_by_checkers(file):
    """Names that a file imports for checkers alone; None for all of a module, by a star."""
    (block,) = [
        node
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name)
    ]
    return {alias.asname for node in block.body for alias in node.names}


def test_checkers_see_the_names_of_the_package():
    """Those imported for them alone are those that are found when they are asked for."""
    assert seen_by_checkers(ROOT / "__init__.py") == {*sklearn_fm._HOME, None}
    assert (ROOT / "py.typed").is_file()


def test_checkers_see_the_models():
    """Models are found at run time. A new one is told to checkers in models/__init__.py."""
    assert seen_by_checkers(ROOT / "models" / "__init__.py") == set(sklearn_fm.models.__all__)
