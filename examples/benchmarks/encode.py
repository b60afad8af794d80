"""Times FieldEncoder beside other encoders on a table shaped like Criteo's.

    python examples/benchmarks/encode.py --rows 1000000 --repeats 3

13 columns of numbers with missing ones, 26 of 8-digit texts with up to 290,000 values. Peers that
are not installed are left out (`pip install '.[benchmarks]'`). The bare loop of pyarrow's
dictionary_encode over the 26 texts does less than an encoder must: it knows no vocabulary,
so it can neither give an old code to a known text nor tell an unknown one; and it does not touch
the numbers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from sklearn_fm import FieldEncoder

N_NUMBERS, N_TEXTS = 13, 26


def make_table(n_rows: int, dtype: str, seed: int = 0) -> pd.DataFrame:
    """Numbers, and texts few of which are frequent."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for j in range(N_NUMBERS):
        numbers = np.floor(rng.lognormal(2, 1.5, n_rows))
        numbers[rng.random(n_rows) < 0.1] = np.nan
        columns[f"I{j + 1}"] = numbers
    for j, size in enumerate(np.geomspace(4, 290_000, N_TEXTS).astype(int)):
        share = np.cumsum(np.arange(1, size + 1) ** -1.05)
        ids = np.searchsorted(share, rng.random(n_rows) * share[-1])
        names = rng.choice(2**32, size, replace=False)
        texts = np.array([f"{name:08x}" for name in names], dtype=object)
        columns[f"C{j + 1}"] = pd.Series(texts[ids], dtype=dtype)
    return pd.DataFrame(columns)


class DictionaryEncode:
    """pyarrow's dictionary_encode of each text column, and nothing else."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads

    def transform(self, X: pd.DataFrame) -> Any:
        """Encode one column after the other, in threads."""
        import pyarrow as pa

        columns = [pa.chunked_array(pa.array(X[name])) for name in X.columns[N_NUMBERS:]]
        with ThreadPoolExecutor(self.n_threads) as pool:
            return list(pool.map(lambda column: column.dictionary_encode(), columns))

    fit_transform = transform


def make_encoders(X: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    """Encoders by name; of others too, if they are installed."""
    numbers, texts = list(X.columns[:N_NUMBERS]), list(X.columns[N_NUMBERS:])
    ordinal = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    encoders: dict[str, Callable[[], Any]] = {
        "bare dictionary_encode, 1 thread": lambda: DictionaryEncode(1),
        "bare dictionary_encode, 2 threads": lambda: DictionaryEncode(2),
        "FieldEncoder": lambda: FieldEncoder(),
        "FieldEncoder, n_jobs=2": lambda: FieldEncoder(n_jobs=2),
        "FieldEncoder, hashed": lambda: FieldEncoder(hash_buckets=1),
        "OrdinalEncoder + StandardScaler": lambda: make_column_transformer(
            (StandardScaler(), numbers), (OrdinalEncoder(**ordinal), texts)
        ),
    }
    try:
        import category_encoders

        encoders["category_encoders OrdinalEncoder"] = lambda: category_encoders.OrdinalEncoder(
            cols=texts
        )
    except ImportError:
        pass
    try:
        import skrub

        encoders["skrub TableVectorizer"] = lambda: skrub.TableVectorizer(
            cardinality_threshold=1,
            high_cardinality=OrdinalEncoder(**ordinal),
            low_cardinality="drop",
        )
    except ImportError:
        pass
    return encoders


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median duration of a call."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return median(durations)


def print_throughput(options: argparse.Namespace) -> None:
    """Rows per second of each encoder, for each dtype of texts."""
    print(f"{options.rows:,} rows, {N_NUMBERS} numbers + {N_TEXTS} texts; thousand rows/s")
    print("| encoder | " + " | ".join(f"{d}: fit_transform | transform" for d in options.dtypes))
    print("|---|" + "---|" * 2 * len(options.dtypes))
    tables = {dtype: make_table(options.rows, dtype) for dtype in options.dtypes}
    for name in make_encoders(next(iter(tables.values()))):
        if options.encoders and not any(part in name for part in options.encoders):
            continue
        cells = []
        for X in tables.values():
            encoder = make_encoders(X)[name]()
            repeats = options.repeats if "Encoder +" not in name else 1
            for step in ("fit_transform", "transform"):
                try:
                    taken = seconds(lambda: getattr(encoder, step)(X), repeats)  # noqa: B023
                except Exception as error:
                    cells.append(f"{type(error).__name__}")
                    continue
                cells.append(f"{options.rows / taken / 1e3:,.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_latency(options: argparse.Namespace) -> None:
    """One row at a time, for vocabularies of different sizes."""
    print("\n| one row | table rows | milliseconds |")
    print("|---|---|---|")
    for total in (10_000, 1_000_000):
        n_rows = total // N_TEXTS + 1
        ids = np.random.default_rng(0).permutation(N_TEXTS * n_rows).reshape(N_TEXTS, n_rows)
        table: dict[str, Any] = {f"I{j + 1}": np.linspace(0, 1, n_rows) for j in range(N_NUMBERS)}
        table |= {f"C{j + 1}": [f"{i:08x}" for i in column] for j, column in enumerate(ids)}
        frame = pd.DataFrame(table)
        encoder = FieldEncoder().fit(frame)
        request = pd.DataFrame([frame.iloc[n_rows // 2].to_dict()])
        started = time.perf_counter()
        encoder.transform(request)
        first = 1e3 * (time.perf_counter() - started)
        usual = 1e3 * seconds(lambda: encoder.transform(request), 200)  # noqa: B023
        size = encoder.schema_.table_size
        print(f"| FieldEncoder (first call {first:.1f}) | {size:,} | {usual:.2f} |", flush=True)
    if options.slow:
        peer = make_encoders(frame)["OrdinalEncoder + StandardScaler"]().fit(frame)
        slow = 1e3 * seconds(lambda: peer.transform(request), 3)
        print(f"| OrdinalEncoder + StandardScaler | {size:,} | {slow:.0f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["str", "object"])
    parser.add_argument("--encoders", nargs="*", help="parts of the names of those to run")
    parser.add_argument("--slow", action="store_true", help="time a peer's row, too")
    options = parser.parse_args()
    print_throughput(options)
    print_latency(options)


if __name__ == "__main__":
    main()
