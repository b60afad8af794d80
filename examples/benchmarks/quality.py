"""Untuned quality on real data, beside what a user would take instead.

    python examples/benchmarks/quality.py --data ../shared/data --seeds 5

Every estimator has its defaults; FM and MF are fitted by gradients, too. The data sets are not part
of the project; --data names a folder that holds them (movielens-100k/u.data, frappe/*.parquet,
criteo/criteo_80k.parquet, adult/adult.parquet). Test rows are scored once per seed and never
looked at in training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, OrdinalEncoder

from sklearn_fm import DeepFMClassifier, FMClassifier, MFRegressor

Split = tuple[pd.DataFrame, np.ndarray, pd.DataFrame, np.ndarray]


def movielens_folds(folder: Path, seed: int) -> Iterator[Split]:
    """Five random folds; each is an 80/20 split."""
    names = ["user", "item", "rating", "time"]
    data = pd.read_csv(folder / "movielens-100k/u.data", sep="\t", names=names)
    X, y = data[["user", "item"]], data["rating"].to_numpy(float)
    for train, test in KFold(5, shuffle=True, random_state=seed).split(X):
        yield X.iloc[train], y[train], X.iloc[test], y[test]


def frappe(folder: Path, seed: int) -> Iterator[Split]:
    """The published split; all columns are ids."""
    train = pd.read_parquet(folder / "frappe/train.parquet").astype(str)
    test = pd.read_parquet(folder / "frappe/valid.parquet").astype(str)
    yield (
        train.drop(columns="label"),
        (train["label"] == "1").to_numpy(int),
        test.drop(columns="label"),
        (test["label"] == "1").to_numpy(int),
    )


def criteo(folder: Path, seed: int) -> Iterator[Split]:
    """Chronological: the first 64,000 rows train, the rest tests."""
    data = pd.read_parquet(folder / "criteo/criteo_80k.parquet")
    X, y = data.drop(columns="label"), data["label"].to_numpy()
    yield X.iloc[:64_000], y[:64_000], X.iloc[64_000:], y[64_000:]


def adult(folder: Path, seed: int) -> Iterator[Split]:
    """A random fifth tests."""
    data = pd.read_parquet(folder / "adult/adult.parquet")
    X, y = data.iloc[:, :-1], data.iloc[:, -1].astype(str).str.contains(">50K").to_numpy(int)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=seed)
    yield X_train, y_train, X_test, y_test


def logistic_regression(seed: int) -> object:
    """20 quantile bins per number, one-hot, rare categories pooled, C=0.1."""
    numbers = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-5),
        KBinsDiscretizer(20, strategy="quantile", quantile_method="averaged_inverted_cdf"),
    )
    categories = make_pipeline(
        SimpleImputer(missing_values=None, strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", min_frequency=5),
    )
    encode = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(_Objects(), encode, LogisticRegression(C=0.1, max_iter=1000))


def boosting(seed: int) -> object:
    """Histogram gradient boosting with its defaults on ordinal codes."""
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = make_column_transformer(
        (codes, make_column_selector(dtype_exclude="number")), remainder="passthrough"
    )
    return make_pipeline(_Objects(), encode, HistGradientBoostingClassifier(random_state=seed))


class _Objects:
    """Text columns as plain objects with None for missing."""

    def fit(self, X: pd.DataFrame, y: object = None) -> _Objects:
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        text = X.select_dtypes(exclude="number").astype(object)
        return X.assign(**text.where(text.notna(), None))


def biases(seed: int) -> object:
    """Ridge on one-hot users and items: a bias for each."""
    return make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge(alpha=3.0))


CONTESTS: dict[str, tuple[Callable, dict[str, Callable]]] = {
    "movielens-100k": (
        movielens_folds,
        {
            "biases only": biases,
            "MFRegressor": lambda s: MFRegressor(random_state=s),
            "MFRegressor, gradients": lambda s: MFRegressor(solver="adagrad", random_state=s),
        },
    ),
    "frappe": (
        frappe,
        {
            "LogisticRegression": logistic_regression,
            "FMClassifier": lambda s: FMClassifier(random_state=s),
            "FMClassifier, gradients": lambda s: FMClassifier(solver="adagrad", random_state=s),
            "DeepFMClassifier": lambda s: DeepFMClassifier(random_state=s),
        },
    ),
    "criteo": (
        criteo,
        {
            "LogisticRegression": logistic_regression,
            "FMClassifier": lambda s: FMClassifier(random_state=s),
            "FMClassifier, gradients": lambda s: FMClassifier(solver="adagrad", random_state=s),
            "DeepFMClassifier": lambda s: DeepFMClassifier(random_state=s),
        },
    ),
    "adult": (
        adult,
        {
            "LogisticRegression": logistic_regression,
            "HistGradientBoosting": boosting,
            "FMClassifier": lambda s: FMClassifier(random_state=s),
            "FMClassifier, gradients": lambda s: FMClassifier(solver="adagrad", random_state=s),
            "DeepFMClassifier": lambda s: DeepFMClassifier(random_state=s),
        },
    ),
}


def score(model: object, X: pd.DataFrame, y: np.ndarray) -> dict[str, float]:
    """AUC and log loss of a classifier, RMSE of a regressor."""
    if not hasattr(model, "predict_proba"):
        return {"RMSE": root_mean_squared_error(y, model.predict(X))}
    probability = model.predict_proba(X)[:, 1]
    return {"AUC": roc_auc_score(y, probability), "log loss": log_loss(y, probability)}


def main() -> None:
    """Print mean and standard deviation over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(CONTESTS), default=list(CONTESTS))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for name in options.sets:
        split, entrants = CONTESTS[name]
        print(f"\n{name}, {options.seeds} seed(s)")
        for label, make in entrants.items():
            scores, seconds = [], []
            for seed in range(options.seeds):
                for X_train, y_train, X_test, y_test in split(options.data, seed):
                    started = time.perf_counter()
                    model = make(seed).fit(X_train, y_train)
                    seconds.append(time.perf_counter() - started)
                    scores.append(score(model, X_test, y_test))
            table = pd.DataFrame(scores)
            figures = "   ".join(
                f"{column} {table[column].mean():.4f} +- {table[column].std(ddof=0):.4f}"
                for column in table
            )
            print(f"  {label:<24}{figures}   fit {np.median(seconds):6.1f} s", flush=True)


if __name__ == "__main__":
    main()
