"""Draws from the posterior beside gradients, and beside what a user would take instead.

    python examples/benchmarks/bayes.py --data ../shared/data --seeds 5

Test scores with defaults (for ratings y_range=(lowest, highest)), mean and standard deviation over
seeds; myFM, Surprise and LightGBM where they are installed, with their own defaults (myFM: 512
sweeps, as in its manual, of the same rank and with grouped columns). Settings were chosen by
bayes_study.py, which reads no test row.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import adult, boosting, criteo, frappe, logistic_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from sklearn_fm import (
    DeepFMClassifier,
    DeepFMRegressor,
    FieldEncoder,
    FMClassifier,
    FMRegressor,
)

Split = tuple[pd.DataFrame, np.ndarray, pd.DataFrame, np.ndarray]


# -- data ----------------------------------------------------------------------------------------


def _ratings(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", names=["user", "item", "rating", "time"])


def _cut(train: pd.DataFrame, test: pd.DataFrame) -> Split:
    columns = [name for name in train if name not in ("rating", "time")]
    y, y_test = (part["rating"].to_numpy(float) for part in (train, test))
    return train[columns], y, test[columns], y_test


def movielens_u1(data: Path, seed: int) -> Iterator[Split]:
    """Official split u1."""
    folder = data / "movielens-100k"
    yield _cut(_ratings(folder / "u1.base"), _ratings(folder / "u1.test"))


def movielens_official(data: Path, seed: int) -> Iterator[Split]:
    """Official splits u1 to u5."""
    folder = data / "movielens-100k"
    for k in range(1, 6):
        yield _cut(_ratings(folder / f"u{k}.base"), _ratings(folder / f"u{k}.test"))


def movielens_random(data: Path, seed: int) -> Iterator[Split]:
    """Nine tenths of the ratings train."""
    table = _ratings(data / "movielens-100k/u.data")
    yield _cut(*train_test_split(table, test_size=0.1, random_state=seed))


def movielens_side(data: Path, seed: int) -> Iterator[Split]:
    """The same with age, gender and occupation, genres and year."""
    folder = data / "movielens-100k"
    names = ["user", "age", "gender", "occupation", "zip"]
    users = pd.read_csv(folder / "u.user", sep="|", names=names).drop(columns="zip")
    items = pd.read_csv(folder / "u.item", sep="|", encoding="latin-1", header=None)
    genres = [
        "|".join(str(g) for g, has in enumerate(row) if has) for row in items.iloc[:, 5:].to_numpy()
    ]
    year = items[2].str[-4:].fillna("")
    items = pd.DataFrame({"item": items[0], "genres": genres, "year": year})
    table = _ratings(folder / "u.data").merge(users, on="user").merge(items, on="item")
    yield _cut(*train_test_split(table, test_size=0.1, random_state=seed))


def kmrd(data: Path, seed: int) -> Iterator[Split]:
    """Korean film ratings from 1 to 10; nine tenths train."""
    table = pd.read_parquet(data / "kmrd/rates.parquet").rename(
        columns={"movie": "item", "rate": "rating"}
    )
    yield _cut(*train_test_split(table, test_size=0.1, random_state=seed))


# -- contestants ---------------------------------------------------------------------------------


class Gibbs:
    """This library's posterior draws."""

    def __init__(self, seed: int, *, deep: bool = False, **params: Any) -> None:
        self.deep = deep
        self.params = {"solver": "gibbs", "random_state": seed, **params}

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Gibbs:
        """Fit what suits the target."""
        encoder, params = make_encoder(X, y), dict(self.params)
        if len(np.unique(y)) > 2:
            cls = DeepFMRegressor if self.deep else FMRegressor
            if params["solver"] == "gibbs" or (params["solver"] == "auto" and not self.deep):
                params["y_range"] = (y.min(), y.max())
        else:
            cls = DeepFMClassifier if self.deep else FMClassifier
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model = cls(encoder=encoder, **params).fit(X, y)
        if self.deep and self.model.blend_ is not None:
            print(self.model.blend_.round(4).to_dict(), flush=True)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Ratings or probabilities."""
        if hasattr(self.model, "classes_"):
            return self.model.predict_proba(X)[:, 1]
        return self.model.predict(X)


class MyFM:
    """Gibbs sampling one coordinate at a time, on one-hot columns grouped by field."""

    def __init__(self, seed: int, rank: int = 16, sweeps: int = 512) -> None:
        self.seed, self.rank, self.sweeps = seed, rank, sweeps

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> MyFM:
        """Encode by FieldEncoder, fit."""
        import myfm

        self.encoder = make_encoder(X, y).fit(X)
        rows = self.encoder.transform(X).to_csr()
        self.rates = len(np.unique(y)) > 2
        kind = myfm.MyFMRegressor if self.rates else myfm.MyFMClassifier
        self.model = kind(rank=self.rank, random_seed=self.seed)
        sizes = self.encoder.schema_.vocabulary_sizes
        started = time.perf_counter()
        self.model.fit(rows, y, n_iter=self.sweeps, group_shapes=list(sizes))
        self.seconds = time.perf_counter() - started
        self.ends = y.min(), y.max()
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Ratings, cut off at the ends, or probabilities."""
        rows = self.encoder.transform(X).to_csr()
        if self.rates:
            return self.model.predict(rows).clip(*self.ends)
        return self.model.predict_proba(rows)


class Surprise:
    """Surprise's SVD: matrix factorization with biases by SGD."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Surprise:
        """Fit on users and items."""
        import surprise

        table = X[["user", "item"]].assign(rating=y)
        reader = surprise.Reader(rating_scale=(y.min(), y.max()))
        rows = surprise.Dataset.load_from_df(table, reader).build_full_trainset()
        self.model = surprise.SVD(random_state=self.seed).fit(rows)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Ratings."""
        pairs = X[["user", "item"]].itertuples(index=False)
        return np.array([self.model.predict(user, item).est for user, item in pairs])


class LightGBM:
    """LightGBM with categorical columns."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> LightGBM:
        """Take the categories of the training rows."""
        import lightgbm

        self.dtypes = {
            name: pd.CategoricalDtype(X[name].dropna().unique())
            for name in X
            if len(np.unique(y)) > 2 or not pd.api.types.is_numeric_dtype(X[name])
        }
        rates = len(np.unique(y)) > 2
        kind = lightgbm.LGBMRegressor if rates else lightgbm.LGBMClassifier
        self.model = kind(random_state=self.seed, verbose=-1).fit(X.astype(self.dtypes), y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Ratings or probabilities."""
        X = X.astype(self.dtypes)
        if hasattr(self.model, "classes_"):
            return self.model.predict_proba(X)[:, 1]
        return self.model.predict(X)


class Scikit:
    """A scikit-learn classifier."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Scikit:
        """Fit."""
        self.model.fit(X, y)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities."""
        return self.model.predict_proba(X)[:, 1]


def bank(data: Path, seed: int) -> Iterator[Split]:
    """A random fifth of the bank's calls tests."""
    X = pd.read_csv(data / "bank/bank-uci.csv.gz")
    y = X.pop(X.columns[-1]).astype(str).isin(["yes", "1", "True"]).to_numpy(int)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=seed)
    yield X, y, X_test, y_test


def few_of_adult(n_rows: int) -> Callable[[Path, int], Iterator[Split]]:
    """Some of adult's training rows, and all of its test rows."""

    def split(data: Path, seed: int) -> Iterator[Split]:
        for X, y, X_test, y_test in adult(data, seed):
            yield X[:n_rows], y[:n_rows], X_test, y_test

    return split


def make_encoder(X: pd.DataFrame, y: np.ndarray) -> FieldEncoder:
    """Ids are ids where ratings are predicted; otherwise the encoder sees for itself."""
    ids = [name for name in ("user", "item") if name in X] if len(np.unique(y)) > 2 else None
    return FieldEncoder(categorical=ids)


OURS: dict[str, Callable[[int], Any]] = {
    "defaults": lambda seed: Gibbs(seed, solver="auto"),
    'solver="gibbs"': lambda seed: Gibbs(seed),
    'solver="adagrad"': lambda seed: Gibbs(seed, solver="adagrad"),
}
DEEP: dict[str, Callable[[int], Any]] = {
    'DeepFM, solver="gibbs"': lambda seed: Gibbs(seed, deep=True),
    "DeepFM (gradients)": lambda seed: Gibbs(seed, deep=True, solver="auto"),
}
PEERS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "myFM": ("myfm", MyFM),
    "LightGBM": ("lightgbm", LightGBM),
    "Surprise SVD": ("surprise", Surprise),
    "LogisticRegression, one-hot": ("sklearn", lambda s: Scikit(logistic_regression(s))),
    "HistGradientBoosting": ("sklearn", lambda s: Scikit(boosting(s))),
}
NOISE = {'solver="gibbs", noise_field=None': lambda seed: Gibbs(seed, noise_field=None)}
CLICKED = ["frappe", "criteo", "adult"]
NOISY = ["movielens-u1", "movielens-90/10", "movielens-90/10 + side", "kmrd"]
RATES, CLICKS = ["myFM", "Surprise SVD"], ["myFM", "LightGBM", "LogisticRegression, one-hot"]
SETS: dict[str, tuple[Callable[[Path, int], Iterator[Split]], list[str]]] = {
    "frappe": (frappe, CLICKS),
    "criteo": (criteo, CLICKS),
    "movielens-u1": (movielens_u1, RATES),
    "movielens-u1..u5": (movielens_official, RATES),
    "movielens-90/10": (movielens_random, RATES),
    "movielens-90/10 + side": (movielens_side, ["myFM", "LightGBM"]),
    "kmrd": (kmrd, RATES),
    "adult": (adult, [*CLICKS, "HistGradientBoosting"]),
    "bank": (bank, [*CLICKS, "HistGradientBoosting"]),
} | {
    f"adult, {n:,} rows": (few_of_adult(n), [*CLICKS, "HistGradientBoosting"])
    for n in (300, 1_000, 3_000)
}


def compare(options: argparse.Namespace) -> None:
    """Print scores and seconds of every contestant on every set."""
    ours = OURS | NOISE | DEEP
    for name in options.sets:
        split, peers = SETS[name]
        entrants = OURS | (NOISE if name in NOISY else {}) | (DEEP if name in CLICKED else {})
        for peer in peers:
            module, make = PEERS[peer]
            if importlib.util.find_spec(module) is not None:
                entrants[peer] = make
        if options.entrants:
            entrants = {label: entrants[label] for label in options.entrants if label in entrants}
        print(f"\n| {name}, {options.seeds} seed(s) | score | | fit, seconds | predict |")
        print("|---|---|---|---|---|")
        for label, make in entrants.items():
            scores, fits, predicts = [], [], []
            for seed in range(options.seeds if label in ours else options.peer_seeds):
                for X, y, X_test, y_test in split(options.data, seed):
                    started = time.perf_counter()
                    model = make(seed).fit(X, y)
                    fits.append(time.perf_counter() - started)
                    started = time.perf_counter()
                    p = model.predict(X_test)
                    predicts.append(time.perf_counter() - started)
                    scores.append(_score(y_test, p))
            table = pd.DataFrame(scores)
            cells = [f"{c} {table[c].mean():.4f} +- {table[c].std(ddof=0):.4f}" for c in table] + [
                ""
            ] * (2 - table.shape[1])
            times = f"{np.median(fits):.1f} | {np.median(predicts):.1f}"
            print(f"| {label} | {' | '.join(cells)} | {times} |", flush=True)


def _score(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    if len(np.unique(y)) > 2:
        return {"RMSE": root_mean_squared_error(y, p)}
    return {"AUC": roc_auc_score(y, p), "log loss": log_loss(y, p)}


def main() -> None:
    """Run the sets asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer-seeds", type=int, default=1, help="seeds for the others")
    everyone = [*OURS, *NOISE, *DEEP, *PEERS]
    parser.add_argument("--entrants", nargs="+", choices=everyone, help="some of them only")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
