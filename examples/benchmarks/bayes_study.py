"""How the defaults of solver="gibbs" were chosen: one setting at a time, on validation rows.

    python examples/benchmarks/bayes_study.py --data ../shared/data --seeds 2

No test row is read: every set is cut into rows to fit and rows to score before anything else. What
500 sweeps would have been as fewer, or with a longer burn-in, is read off their draws.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from sklearn_fm import FMClassifier, FMRegressor, MFRegressor

Split = tuple[pd.DataFrame, pd.DataFrame, np.ndarray, np.ndarray]

SETTINGS: dict[str, dict[str, object]] = {
    "default": {},
    "half-t, scale .1": {"hyperprior_scale": 0.1},
    "half-t, scale 10": {"hyperprior_scale": 10.0},
    "wishart, scale .2": {"hyperprior": "wishart", "hyperprior_scale": 0.2},
    "wishart, scale 1": {"hyperprior": "wishart"},
    "embedding_dim 8": {"embedding_dim": 8},
    "embedding_dim 32": {"embedding_dim": 32},
    "start from als": {"start": "als"},
}


def movielens(data: Path, seed: int) -> Split:
    """Ratings of split u1's training file."""
    names = ["user", "item", "rating", "time"]
    table = pd.read_csv(data / "movielens-100k/u1.base", sep="\t", names=names)
    y = table["rating"].to_numpy(float)
    return train_test_split(table[["user", "item"]], y, test_size=0.1, random_state=seed)


def kmrd(data: Path, seed: int) -> Split:
    """Nine tenths of the Korean movie ratings; the last tenth is for tests."""
    table = pd.read_parquet(data / "kmrd/rates.parquet").sample(frac=0.9, random_state=0)
    y = table["rate"].to_numpy(float)
    return train_test_split(table[["user", "movie"]], y, test_size=0.1, random_state=seed)


def frappe(data: Path, seed: int) -> Split:
    """Training file of the published split."""
    table = pd.read_parquet(data / "frappe/train.parquet").astype(str)
    y = (table["label"] == "1").to_numpy(int)
    return train_test_split(table.drop(columns="label"), y, test_size=0.1, random_state=seed)


def criteo(data: Path, seed: int) -> Split:
    """First 56,000 rows to fit and the next 8,000 to score."""
    table = pd.read_parquet(data / "criteo/criteo_80k.parquet")
    X, y = table.drop(columns="label"), table["label"].to_numpy()
    return X[:56_000], X[56_000:64_000], y[:56_000], y[56_000:64_000]


def adult(data: Path, seed: int) -> Split:
    """Four fifths of the census; the rest is for tests."""
    table = pd.read_parquet(data / "adult/adult.parquet").sample(frac=0.8, random_state=0)
    X, y = table.iloc[:, :-1], (table.iloc[:, -1].astype(str).str.contains(">50K")).to_numpy(int)
    return train_test_split(X, y, test_size=0.2, random_state=seed)


def planted_ratings(data: Path, seed: int) -> Split:
    """Biases, three factors and noise: 30 ratings for each of 1,000 users."""
    return _planted(seed, sizes=(1000, 500), n_rows=30_000, rank=3, noise=0.7)


def planted_clicks(data: Path, seed: int) -> Split:
    """Six fields, two factors, logistic noise."""
    X, Xv, y, yv = _planted(seed, (2000, 500, 50, 20, 10, 5), 60_000, rank=2, noise=1.0)
    return X, Xv, (y > y.mean()).astype(int), (yv > y.mean()).astype(int)


def _planted(seed: int, sizes: tuple[int, ...], n_rows: int, rank: int, noise: float) -> Split:
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, size, n_rows) for size in sizes])
    vectors = [rng.normal(0, 0.7 / len(sizes) ** 0.5, (size, rank)) for size in sizes]
    weights = [rng.normal(0, 0.4, size) for size in sizes]
    e = np.stack([v[c] for v, c in zip(vectors, codes.T, strict=True)], axis=1)
    y = sum(w[c] for w, c in zip(weights, codes.T, strict=True))
    y = y + ((e.sum(axis=1) ** 2 - (e**2).sum(axis=1)).sum(axis=1)) / 2
    y = y + rng.normal(0, noise, n_rows)
    X = pd.DataFrame(codes, columns=[f"f{i}" for i in range(len(sizes))]).astype(str)
    return train_test_split(X, y, test_size=0.2, random_state=seed)


SETS: dict[str, tuple[Callable[[Path, int], Split], type]] = {
    "movielens": (movielens, MFRegressor),
    "kmrd": (kmrd, MFRegressor),
    "planted ratings": (planted_ratings, FMRegressor),
    "planted clicks": (planted_clicks, FMClassifier),
    "adult": (adult, FMClassifier),
    "frappe": (frappe, FMClassifier),
    "criteo": (criteo, FMClassifier),
}


def score(model: object, X: pd.DataFrame, y: np.ndarray) -> tuple[float, ...]:
    """AUC and log loss of a classifier, RMSE of a regressor."""
    if not hasattr(model, "classes_"):
        return (root_mean_squared_error(y, model.predict(X)),)
    p = model.predict_proba(X)[:, 1]
    return roc_auc_score(y, p), log_loss(y, p)


def with_draws(model: object, draws: slice) -> object:
    """The model with some of its draws only."""
    learned = model._fitted
    kept = replace(learned.model.draws, posterior=model.posterior_.only(draws))
    other = copy.copy(model)
    other._fitted = replace(learned, model=replace(learned.model, draws=kept))
    return other


def study(name: str, data: Path, settings: list[str], seeds: int, n_sweeps: int) -> None:
    """Print a line per setting, and per length of the default."""
    split, estimator = SETS[name]
    print(f"\n{name}, {seeds} seed(s), {n_sweeps} sweeps", flush=True)
    for setting in settings:
        results: dict[str, list[tuple[float, ...]]] = {}
        seconds = []
        for seed in range(seeds):
            X, X_valid, y, y_valid = split(data, seed)
            params = dict(SETTINGS[setting])
            start = params.pop("start", None)
            if start is not None and estimator is FMClassifier:
                return
            if estimator is not FMClassifier:
                params["y_range"] = (float(y.min()), float(y.max()))
            model = estimator(solver="gibbs", n_sweeps=n_sweeps, keep_draws=True, random_state=seed)
            model.set_params(**{"embedding_dim": 16, "n_burn": 10, **params})
            started = time.perf_counter()
            if start is not None:
                model.set_params(solver=start).fit(X, y).set_params(solver="gibbs", warm_start=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(X, y)
            seconds.append(time.perf_counter() - started)
            lengths = (
                (n_sweeps // 4, n_sweeps // 2, n_sweeps) if setting == "default" else [n_sweeps]
            )
            for length in lengths:
                for share in (0.05, 0.1, 0.25, 0.5) if setting == "default" else (0.1,):
                    first = max(round(share * length), 10)
                    thin = (n_sweeps - 10) // model.posterior_.n_draws
                    kept = slice((first - 10) // thin, (length - 10) // thin)
                    key = f"{setting}, {length} sweeps, burn {first}"
                    results.setdefault(key, []).append(
                        score(with_draws(model, kept), X_valid, y_valid)
                    )
        for key, values in results.items():
            table = np.array(values)
            figures = "   ".join(
                f"{m:.4f} +- {s:.4f}" for m, s in zip(table.mean(0), table.std(0), strict=True)
            )
            print(f"  {key:<44}{figures}   fit {np.median(seconds):6.1f} s", flush=True)


def main() -> None:
    """Run the settings asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sweeps", type=int, default=500)
    options = parser.parse_args()
    for name in options.sets:
        study(name, options.data, options.settings, options.seeds, options.sweeps)


if __name__ == "__main__":
    main()
