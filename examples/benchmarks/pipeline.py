"""Times the way from a table to a probability: encode, fit one epoch, predict, one row.

The table is synthetic and shaped like Criteo's: numbers, and columns of strings of which few
are frequent. It measures speed only; the target is noise with a trace of signal.

    python examples/benchmarks/pipeline.py --estimator FMClassifier
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import sklearn_fm

N_NUMBERS = 13


def make_table(n_rows: int, n_columns: int, n_categories: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers, and columns of 8-digit names with `n_categories` names in all; and a target."""
    rng = np.random.default_rng(0)
    table = {f"I{j + 1}": rng.lognormal(1, 1.5, n_rows).round() for j in range(N_NUMBERS)}
    shares = np.geomspace(4, n_categories, n_columns)
    for j, size in enumerate(np.ceil(shares * n_categories / shares.sum()).astype(int)):
        cumulated = np.cumsum(np.arange(1, size + 1) ** -1.05)
        ids = np.searchsorted(cumulated, rng.random(n_rows) * cumulated[-1])
        names = np.array([f"{name:08x}" for name in rng.choice(2**32, size, replace=False)])
        table[f"C{j + 1}"] = pd.Series(names[ids], dtype=object)
    chance = np.where(table["I1"] > np.median(table["I1"]), 0.3, 0.2)
    return pd.DataFrame(table), (rng.random(n_rows) < chance).astype(int)


def durations(work: Callable[[], Any], repeats: int) -> np.ndarray:
    """Seconds of each call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


def print_row(step: str, figures: np.ndarray, unit: str) -> None:
    """Line of the table: median, least and greatest."""
    low, middle, high = (f"{f:,.0f}" for f in np.quantile(figures, [0, 0.5, 1]))
    print(f"| {step} | {middle} | {low} - {high} | {unit} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=26, help="of strings, beside 13 of numbers")
    parser.add_argument("--categories", type=int, default=500_000, help="in all columns together")
    parser.add_argument(
        "--repeats", type=int, default=3, help="of each step; 100 times as many for one row"
    )
    parser.add_argument("--estimator", default="DeepFMClassifier", help="name of a classifier")
    options = parser.parse_args()

    X, y = make_table(options.rows, options.columns, options.categories)
    encoder = sklearn_fm.FieldEncoder()
    encoded = encoder.fit_transform(X)
    model = getattr(sklearn_fm, options.estimator)(
        solver="adagrad", max_epochs=1, early_stopping=False, random_state=0
    )
    print(
        f"{options.estimator}, {options.rows:,} rows of {N_NUMBERS} numbers and {options.columns} "
        f"strings, {encoder.schema_.table_size:,} rows in the model's table\n"
    )
    print(f"| step | median of {options.repeats} | least - greatest | unit |")
    print("|---|---|---|---|")
    steps = {
        "encode: fit_transform": lambda: clone(encoder).fit_transform(X),
        "encode: transform": lambda: encoder.transform(X),
        "fit, 1 epoch": lambda: model.fit(encoded, y),
        "predict_proba": lambda: model.predict_proba(encoded),
    }
    for step, work in steps.items():
        print_row(step, options.rows / durations(work, options.repeats), "rows/s")

    pipeline = make_pipeline(encoder, model)  # both are fitted
    requests = {
        "one row, encoded": lambda: model.predict_proba(encoded[:1]),
        "one row, DataFrame": lambda: pipeline.predict_proba(X[:1]),
    }
    for request, work in requests.items():
        work()  # the first call builds lookup tables
        print_row(request, 1e6 * durations(work, 100 * options.repeats), "microseconds")


if __name__ == "__main__":
    main()
