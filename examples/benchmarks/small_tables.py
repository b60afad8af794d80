"""Untuned quality on a few hundred or thousand rows, beside logistic regression.

    python examples/benchmarks/small_tables.py --data ../shared/data --draws 5

Every estimator has its defaults. Each draw takes other rows to train on: 300, 1,000 and 3,000 of
adult, 3,617 of bank; 10,000 other rows of adult, or the rest of bank, test. LogisticRegressionCV
chooses C by cross-validation, on one-hot categories and either 20 quantile bins per number or
scaled numbers. Differences of log loss to the better of both are paired by draw. --data names a
folder that holds adult/adult.parquet and bank/bank-uci.csv.gz.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

import sklearn_fm
import sklearn_fm.training.priors

Draw = tuple[pd.DataFrame, np.ndarray, pd.DataFrame, np.ndarray]


def tables(folder: Path, draws: int) -> Iterator[tuple[str, list[Draw]]]:
    """Rows to train on and to test on, drawn several times."""
    adult = pd.read_parquet(folder / "adult/adult.parquet")
    over = (adult.pop("income") == ">50K").to_numpy(int)
    bank = pd.read_csv(folder / "bank/bank-uci.csv.gz")
    label = bank.columns[-1]
    yes = bank.pop(label).astype(str).isin(["yes", "1", "True"]).to_numpy(int)
    for n_rows in (300, 1_000, 3_000):
        yield f"adult {n_rows:,}", [drawn(adult, over, n_rows, 10_000, d) for d in range(draws)]
    yield "bank 3,617", [drawn(bank, yes, 3_617, len(bank) - 3_617, d) for d in range(draws)]


def drawn(X: pd.DataFrame, y: np.ndarray, n_train: int, n_test: int, seed: int) -> Draw:
    """Rows of a random order: the first to train on, the last to test on."""
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = order[:n_train], order[len(X) - n_test :]
    return X.iloc[train], y[train], X.iloc[test], y[test]


def logistic_regression(numbers: Any) -> Any:
    """One-hot categories beside numbers that are prepared somehow."""
    return make_pipeline(
        make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (
                OneHotEncoder(handle_unknown="ignore"),
                make_column_selector(dtype_exclude="number"),
            ),
        ),
        LogisticRegressionCV(
            scoring="neg_log_loss", max_iter=2_000, l1_ratios=(0,), use_legacy_attributes=False
        ),
    )


def contestants() -> dict[str, Callable[[int], Any]]:
    """Makers of models by name."""
    bins = KBinsDiscretizer(20, quantile_method="averaged_inverted_cdf")
    makers: dict[str, Callable[[int], Any]] = {
        "LR, scaled": lambda seed: logistic_regression(StandardScaler()),
        "LR, bins": lambda seed: logistic_regression(bins),
    }
    for name in sklearn_fm.__all__:
        if name.endswith("Classifier"):
            maker = getattr(sklearn_fm, name)
            makers[name] = lambda seed, maker=maker: maker(random_state=seed)
    try:
        from lightgbm import LGBMClassifier
    except ImportError:
        return makers

    def boosting(seed: int) -> Any:
        return make_pipeline(Categories(), LGBMClassifier(random_state=seed, verbose=-1))

    return makers | {"LightGBM": boosting}


class Categories:
    """Texts as pandas categories, the same in fit and predict."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Categories:
        self.types_ = {
            name: pd.CategoricalDtype(X[name].dropna().unique())
            for name in X.select_dtypes(exclude="number")
        }
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.astype(self.types_)

    def fit_transform(self, X: pd.DataFrame, y: Any = None) -> pd.DataFrame:
        return self.fit(X).transform(X)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--models", nargs="*", help="names of the table below; all by default")
    parser.add_argument(
        "--correlation",
        type=float,
        help="of weights of neighbouring bins a priori, in place of the library's (a study)",
    )
    arguments = parser.parse_args()
    if arguments.correlation is not None:
        sklearn_fm.training.priors._CORRELATION = arguments.correlation
    makers = contestants()
    chosen = [name for name in makers if arguments.models is None or name in arguments.models]
    warnings.filterwarnings("ignore", message="Bins whose width are too small")
    print("mean +- standard deviation over draws")
    for title, draws in tables(arguments.data, arguments.draws):
        loss, lines = {}, {}
        for name in chosen:
            scores = []
            for seed, (X, y, X_test, y_test) in enumerate(draws):
                began = time.perf_counter()
                model = makers[name](seed).fit(X, y)
                seconds = time.perf_counter() - began
                p = model.predict_proba(X_test)[:, 1]
                scores.append((roc_auc_score(y_test, p), log_loss(y_test, p), seconds))
            auc, loss[name], seconds = np.array(scores).T
            lines[name] = (
                f"{title:12} {name:18} AUC {auc.mean():.4f} +- {auc.std():.4f}  "
                f"log loss {loss[name].mean():.4f} +- {loss[name].std():.4f}  "
                f"{np.median(seconds):5.1f} s"
            )
            print(lines[name] + against(name, loss), flush=True)


def against(name: str, loss: dict[str, np.ndarray]) -> str:
    """Paired differences to the better logistic regression so far."""
    peers = [loss[peer] for peer in loss if peer.startswith("LR")]
    if name.startswith("LR") or not peers:
        return ""
    difference = loss[name] - min(peers, key=np.mean)
    return f"  to LR {difference.mean():+.4f} +- {difference.std():.4f}"


if __name__ == "__main__":
    main()
