"""How the defaults were chosen: one setting changed at a time, on six data sets.

    python examples/benchmarks/study.py --data ../shared/data --seeds 3

Each figure is the mean log loss (RMSE for ratings) over seeds on rows held out of the *training*
rows; test rows of the sets are never read. Two sets are planted, with the loss of the true
model as a floor. A setting is a default if no other is better on several sets at once.
--data names a folder with the real sets (see quality.py); sets that are absent are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import adult, criteo, frappe, movielens_folds
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import train_test_split

from sklearn_fm import FieldArray, FieldEncoder, FieldSchema, FMClassifier, MFRegressor

Data = tuple[Any, np.ndarray, Any, np.ndarray]  # encoded rows and target, to train and to judge

# By what differs from the estimators' defaults. Learning rates are factors.
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "learning_rate / 4": {"learning_rate": 0.25},
    "learning_rate / 2": {"learning_rate": 0.5},
    "learning_rate * 2": {"learning_rate": 2.0},
    "batch_size 32": {"batch_size": 32},
    "batch_size 64": {"batch_size": 64},
    "batch_size 1024": {"batch_size": 1024},
    "batch_size 4096": {"batch_size": 4096},
    "initial_accumulator .01": {"initial_accumulator": 0.01},
    "initial_accumulator 1": {"initial_accumulator": 1.0},
    "initial_accumulator 10": {"initial_accumulator": 10.0},
    "init_scale / 4": {"init_scale": 0.25},
    "init_scale * 4": {"init_scale": 4.0},
    "l2 0, best epoch": {"l2_linear": 0.0, "l2_embedding": 0.0},
    "l2 fixed at its start": {"l2": "start"},
    "one epoch, l2 0": {"l2_linear": 0.0, "l2_embedding": 0.0, "max_epochs": 1},
    "solver adam": {"solver": "adam"},
    "solver sgd": {"solver": "sgd"},
    "solver ftrl": {"solver": "ftrl"},
    "Hogwild, 2 threads": {"deterministic": False, "n_jobs": 2},
}


def planted(n_rows: int, sizes: list[int], exponent: float, seed: int) -> tuple[Data, float]:
    """Rows of a known factorization machine, and the log loss of the truth."""
    rng = np.random.default_rng(1000 + seed)
    codes = np.empty((2 * n_rows, len(sizes)), dtype=np.int64)
    for slot, size in enumerate(sizes):
        mass = np.cumsum(np.arange(1, size + 1) ** -exponent)
        codes[:, slot] = np.searchsorted(mass, rng.random(2 * n_rows) * mass[-1])
    weights = [rng.normal(0, 0.3, size) for size in sizes]
    vectors = [rng.normal(0, 0.35 / len(sizes) ** 0.5, (size, 4)) * 2 for size in sizes]
    e = np.stack([v[c] for v, c in zip(vectors, codes.T, strict=True)], axis=1)
    raw = sum(w[c] for w, c in zip(weights, codes.T, strict=True)) - 1
    raw = raw + ((e.sum(1) ** 2).sum(1) - (e**2).sum((1, 2))) / 2
    chance = 1 / (1 + np.exp(-raw))
    y = (rng.random(2 * n_rows) < chance).astype(int)
    X = FieldArray(codes, FieldSchema.from_sizes([size + 1 for size in sizes]))
    floor = log_loss(y[n_rows:], chance[n_rows:])
    return (X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:]), floor


def held_out(X: pd.DataFrame, y: np.ndarray, seed: int | None) -> Data:
    """A tenth of the training rows to judge: at random, or the last without a seed."""
    if seed is None:
        cut = len(y) * 9 // 10
        parts = X.iloc[:cut], X.iloc[cut:], y[:cut], y[cut:]
    else:
        parts = train_test_split(X, y, test_size=0.1, random_state=seed)
    X_train, X_judge, y_train, y_judge = parts
    encoder = FieldEncoder()
    return encoder.fit_transform(X_train), y_train, encoder.transform(X_judge), y_judge


def load(name: str, folder: Path, seed: int) -> Data:
    """Training rows of one of the sets."""
    if name == "planted, few ids":
        return planted(20_000, [50] * 6, 0.0, seed)[0]
    if name == "planted, many ids":
        return planted(60_000, [30, 300, 3_000, 30_000] * 2, 1.05, seed)[0]
    read = {"criteo": criteo, "frappe": frappe, "adult": adult, "movielens": movielens_folds}[name]
    X, y, _, _ = next(iter(read(folder, seed)))
    if name == "movielens":
        X = X.astype(str)
    return held_out(X, y, None if name == "criteo" else seed)


def make(name: str, n_slots: int, setting: dict[str, Any], seed: int) -> Any:
    """Estimator of a data set with one setting changed."""
    ratings = name == "movielens"
    estimator = (MFRegressor if ratings else FMClassifier)(solver="adagrad", random_state=seed)
    setting = dict(setting)
    if "learning_rate" in setting:
        setting["learning_rate"] *= min(0.05 if ratings else 0.2, 1.5 / n_slots)
    if "init_scale" in setting:
        setting["init_scale"] *= estimator.init_scale
    if setting.pop("l2", None):
        pairs = n_slots * (n_slots - 1) / 2
        setting["l2_linear"] = float(n_slots)
        setting["l2_embedding"] = 2 * (pairs * estimator.embedding_dim) ** 0.5
    return estimator.set_params(**setting)


def judge(name: str, data: Data, setting: dict[str, Any], seed: int) -> float:
    """Loss on the rows held out."""
    X, y, X_judge, y_judge = data
    model = make(name, X.shape[1], setting, seed).fit(X, y)
    if name == "movielens":
        return float(root_mean_squared_error(y_judge, model.predict(X_judge)))
    return float(log_loss(y_judge, model.predict_proba(X_judge)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    names = ["planted, few ids", "planted, many ids", "criteo", "frappe", "adult", "movielens"]
    parser.add_argument("--sets", nargs="*", default=names)
    arguments = parser.parse_args()
    data = {
        name: [load(name, arguments.data, seed) for seed in range(arguments.seeds)]
        for name in arguments.sets
    }
    print(f"| setting | {' | '.join(data)} |")
    print(f"|---|{'---|' * len(data)}")
    for label in arguments.settings:
        cells = []
        for name, by_seed in data.items():
            losses = [judge(name, d, SETTINGS[label], s) for s, d in enumerate(by_seed)]
            cells.append(f"{np.mean(losses):.4f} ± {np.std(losses):.4f}")
        print(f"| {label} | {' | '.join(cells)} |", flush=True)
    floors = {"planted, few ids": (20_000, [50] * 6, 0.0)}
    floors["planted, many ids"] = (60_000, [30, 300, 3_000, 30_000] * 2, 1.05)
    truth = [
        f"{np.mean([planted(*floors[n], s)[1] for s in range(arguments.seeds)]):.4f}"
        if n in floors
        else ""
        for n in data
    ]
    print(f"| the truth | {' | '.join(truth)} |")


if __name__ == "__main__":
    main()
