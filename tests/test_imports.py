"""Imports point down only, and a part loads no more than that part."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sklearn_fm

ROOT = Path(sklearn_fm.__file__).parent
# What a file or folder may import beside the standard library and itself.
MAY_IMPORT = {
    "__init__": "estimators encoding data schema",  # for checkers of types; lazily at run time
    "schema": "",
    "user_line": "",
    "kernels": "schema numpy numba llvmlite",
    "data": "kernels schema numpy scipy torch",
    "layers": "schema torch",
    "models": "layers schema torch",
    "encoding": "data kernels schema user_line numpy scipy pandas pyarrow joblib sklearn",
    "training": "data kernels schema models layers numpy scipy pandas torch skorch joblib "
    "threadpoolctl tqdm sklearn.metrics",
    "solvers": "training data kernels schema models __version__ torch numpy scipy pandas joblib "
    "tqdm sklearn.model_selection",
    "estimators": "solvers training encoding data models layers schema user_line numpy pandas "
    "scipy torch joblib sklearn",
    "inspection": "numpy pandas matplotlib sklearn",
}
FILES = sorted(ROOT.rglob("*.py"))


def imported(path):
    """Names that a file imports, parts of sklearn_fm without that prefix."""
    package = ["sklearn_fm", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*up, *([node.module] if node.module else [])])
            yield from (
                f"{module}.{alias.name}".removeprefix("sklearn_fm.") for alias in node.names
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in MAY_IMPORT, f"Say in MAY_IMPORT what {part} may import."
    allowed = [*MAY_IMPORT[part].split(), part]
    for name in imported(path):
        inside = any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)
        assert inside or name.split(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("sklearn_fm", "torch numpy sklearn skorch pandas"),
        ("sklearn_fm.schema", "torch numpy sklearn skorch pandas"),
        ("sklearn_fm.data", "torch sklearn skorch pandas"),
        ("sklearn_fm.data.array", "torch sklearn skorch pandas"),
        ("sklearn_fm.models.fm", "sklearn skorch pandas"),
        ("sklearn_fm.encoding", "torch skorch"),
        ("sklearn_fm.kernels.sgd.step", "torch sklearn skorch pandas"),
        ("sklearn_fm.estimators", "numba"),  # does without it, slowly
    ],
)
def test_a_part_loads_no_more_than_that_part(module, absent):
    code = f"import sys, {module}; print(*set({absent.split()}) & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_public_names_are_there():
    """Those of ``dir`` and ``__all__`` resolve; any other name says that it is missing."""
    assert set(sklearn_fm.__all__) <= set(dir(sklearn_fm))
    assert all(getattr(sklearn_fm, name).__name__ == name for name in sklearn_fm.__all__)
    with pytest.raises(AttributeError, match="module 'sklearn_fm' has no attribute 'FFN'"):
        _ = sklearn_fm.FFN


def run_python(code, *options, **variables):
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent), **variables}
    return subprocess.run(
        [sys.executable, *options, "-c", code], env=env, capture_output=True, text=True, check=False
    )


FIT_ALL_WAYS = """
import numpy as np, pandas as pd
from sklearn_fm import FMClassifier, FMRegressor
X = pd.DataFrame({"user": list("abcd") * 20, "age": np.arange(80.0)})
y = np.arange(80) % 2
for model in (
    FMClassifier(solver="adagrad", max_epochs=2, random_state=0),
    FMRegressor(random_state=0),
    FMRegressor(solver="als", random_state=0),
):
    print(*model.fit(X, y).predict(X)[:5].round(3))
"""


def test_numba_whose_compiler_is_turned_off():
    """NUMBA_DISABLE_JIT=1, which coverage needs: "intrinsic pointer is not usable in pure-python".

    All works as it does without numba.
    """
    without, with_it = (run_python(FIT_ALL_WAYS, NUMBA_DISABLE_JIT=flag) for flag in "10")
    assert without.returncode == with_it.returncode == 0, without.stderr
    assert without.stdout == with_it.stdout


def test_python_without_docstrings():
    """With -OO skorch cannot be imported: its error was "'NoneType' has no attribute 'split'".

    Our own code copes: the decorator of estimators has no docstring to fill in then.
    """
    code = """
from sklearn_fm import FieldEncoder
from sklearn_fm.estimators.parameters import estimator

print(*FieldEncoder().fit_transform([["a"], ["b"]]).ravel())

@estimator
class Made:
    "Some estimator. {parameters}"
    size: int = 3

print(Made(size=4).size)
try:
    from sklearn_fm import FMClassifier
except ImportError as error:
    assert "skorch reads its own docstrings" in str(error)
"""
    done = run_python(code, "-OO")
    assert (done.stdout.split(), done.stderr) == (["0", "1", "4"], "")
