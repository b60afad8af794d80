"""Times FieldEncoder against scikit-learn's OrdinalEncoder on strings shaped like Criteo's.

It measures the encoding only, no model. Run it with --rows 800000 for the figures that the
documentation quotes.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from sklearn.preprocessing import OrdinalEncoder

from sklearn_fm.encoding import FieldEncoder

N_NUMBERS = 13  # in the one-row request, beside the columns of strings


def zipf_strings(n_rows: int, n_columns: int, dtype: str, seed: int = 0) -> pd.DataFrame:
    """Columns of 8-digit hexadecimal names, from 4 to 290,000 of them, few of them frequent."""
    rng = np.random.default_rng(seed)
    columns = {}
    for j, size in enumerate(np.geomspace(4, 290_000, n_columns).astype(int)):
        share = np.cumsum(np.arange(1, size + 1) ** -1.05)
        ids = np.searchsorted(share, rng.random(n_rows) * share[-1])
        names = rng.choice(2**32, size, replace=False)
        texts = np.array([f"{name:08x}" for name in names], dtype=object)
        columns[f"C{j + 1}"] = pd.Series(texts[ids], dtype=dtype)
    return pd.DataFrame(columns)


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median duration of a call."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return median(durations)


def peak_memory(work: Callable[[], np.ndarray]) -> float:
    """Most memory allocated during a call, its result included, in units of that result."""
    tracemalloc.start()
    out = work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / out.nbytes


def one_row_milliseconds(n_columns: int, repeats: int) -> tuple[float, int]:
    """Median latency of a one-row DataFrame, and the size of the fitted table."""
    n_rows = 1_000_000 // n_columns + 1
    ids = np.random.default_rng(0).permutation(n_columns * n_rows).reshape(n_columns, n_rows)
    table = {f"I{j + 1}": np.linspace(0, 1, n_rows) for j in range(N_NUMBERS)}
    table |= {f"C{j + 1}": [f"{i:08x}" for i in column] for j, column in enumerate(ids)}
    frame = pd.DataFrame(table)
    encoder = FieldEncoder().fit(frame)
    request = pd.DataFrame([frame.iloc[n_rows // 2].to_dict()])
    encoder.transform(request)  # builds the hash tables
    return 1e3 * seconds(lambda: encoder.transform(request), repeats), encoder.schema_.table_size


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=26)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    print(f"{options.rows} rows x {options.columns} columns, median of {options.repeats}")
    print("| dtype | step | FieldEncoder s | OrdinalEncoder s | ratio | peak / output |")
    print("|---|---|---|---|---|---|")
    for dtype in ("str", "object", "category"):
        X = zipf_strings(options.rows, options.columns, dtype)
        ours, peer = FieldEncoder(), OrdinalEncoder()
        for step in ("fit_transform", "transform"):
            fast, slow = getattr(ours, step), getattr(peer, step)
            t_ours = seconds(lambda: fast(X), options.repeats)  # noqa: B023
            t_peer = seconds(lambda: slow(X), options.repeats)  # noqa: B023
            peak = peak_memory(lambda: fast(X))  # noqa: B023
            print(
                f"| {dtype} | {step} | {t_ours:.3f} | {t_peer:.3f} | {t_peer / t_ours:.1f}x "
                f"| {peak:.2f} |"
            )

    latency, table_size = one_row_milliseconds(options.columns, repeats=200)
    print(
        f"one row, {N_NUMBERS} numbers + {options.columns} strings, table of {table_size} rows: "
        f"{latency:.2f} ms"
    )


if __name__ == "__main__":
    main()
