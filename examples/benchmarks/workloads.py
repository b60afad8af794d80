"""Encoded rows for compare_peers.py: synthetic clicks and ratings, and Criteo's first rows.

It makes data only and knows no model. Every workload has three parts: rows to train on, rows
that choose the epoch to stop at, and rows that are scored once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_fm import FieldArray, FieldEncoder, FieldSchema

PARTS = ("train", "valid", "test")
Part = tuple[FieldArray, np.ndarray]

# Categories per field of a Criteo sample of a million rows.
CRITEO_SIZES = [
    *(4, 10, 15, 20, 27, 100, 250, 300, 500, 600, 1500, 2000, 3000, 4000, 5000, 5600, 8000),
    *(10_000, 12_000, 15_000, 40_000, 100_000, 180_000, 250_000, 280_000, 290_000),
]


@dataclass(frozen=True)
class Workload:
    """Rows of all parts, with the schema that they share."""

    schema: FieldSchema
    parts: dict[str, Part]

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schema.json").write_text(json.dumps(asdict(self.schema)))
        for name, (X, y) in self.parts.items():
            np.save(folder / f"X_{name}.npy", np.asarray(X))
            np.save(folder / f"y_{name}.npy", y)

    @classmethod
    def load(cls, folder: Path) -> Workload:
        """Read what `save` wrote."""
        fields = json.loads((folder / "schema.json").read_text())
        schema = FieldSchema(**{name: tuple(value) for name, value in fields.items()})
        parts = {}
        for name in PARTS:
            codes = np.load(folder / f"X_{name}.npy")
            parts[name] = FieldArray(codes, schema), np.load(folder / f"y_{name}.npy")
        return cls(schema, parts)

    def describe(self) -> str:
        """Sizes in one line."""
        rows = " + ".join(f"{len(self.parts[name][1]):,} {name}" for name in PARTS)
        schema = self.schema
        return f"{rows} rows, {schema.n_fields} fields, {schema.table_size:,} rows in the table"


def click(rows: int, fields: int, table_size: int, seed: int) -> Workload:
    """Clicks from a planted factorization machine; a third of the fields are numbers.

    Categories follow a power law, so that few of them make up most of the rows.
    """
    rng = np.random.default_rng(seed)
    total, n_numbers = rows + 2 * _part_size(rows), fields // 3
    sizes = category_counts(fields - n_numbers, table_size - fields)
    schema = FieldSchema.from_sizes([1] * n_numbers + [size + 1 for size in sizes])
    codes = np.empty((total, fields))
    for j in range(n_numbers):
        number = np.log1p(rng.exponential(3.0, total)) * (rng.random(total) > 0.2)
        codes[:, j] = number / number.std() / 2
    for j, size in enumerate(sizes, start=n_numbers):
        codes[:, j] = power_law(rng, size, total, 1.05 if size > 1000 else 0.9)
    X = FieldArray(codes, schema)
    raw = planted_fm(X, rng)
    y = rng.random(total) < 1 / (1 + np.exp(1.2 + raw.mean() - raw))
    return _split(X, y.astype(np.int64), rows)


def ratings(rows: int, seed: int) -> Workload:
    """Ratings from planted biases and factors, with noise; 166 of them per user."""
    rng = np.random.default_rng(seed)
    total, rank = rows + 2 * _part_size(rows), 12
    n_users, n_items = max(rows * 6 // 1000, 50), max(rows * 4 // 1000, 50)
    user, item = power_law(rng, n_users, total, 0.6), power_law(rng, n_items, total, 0.9)
    users, items = rng.normal(0, 0.35, (n_users, rank)), rng.normal(0, 0.35, (n_items, rank))
    user_bias, item_bias = rng.normal(0, 0.4, n_users), rng.normal(0, 0.4, n_items)
    y = 3.5 + user_bias[user] + item_bias[item] + (users[user] * items[item]).sum(1)
    y = (y + rng.normal(0, 0.7, total)).clip(0.5, 5.5)
    schema = FieldSchema.from_sizes([n_users + 1, n_items + 1], names=["user", "item"])
    return _split(FieldArray(np.column_stack([user, item]).astype(np.int32), schema), y, rows)


def criteo(data: Path) -> Workload:
    """First 80,000 rows of Criteo in their order: 56,000 train, 8,000 choose, the rest tests."""
    table = pd.read_parquet(data / "criteo/criteo_80k.parquet")
    X, y = table.drop(columns="label"), table["label"].to_numpy(np.int64)
    encoder = FieldEncoder().fit(X[:56_000])
    return _split(encoder.transform(X), y, 56_000, 8_000)


def category_counts(n_fields: int, total: int) -> list[int]:
    """Known categories per field: Criteo's profile, stretched to the number of fields."""
    profile = np.log(CRITEO_SIZES)
    at = np.linspace(0, len(profile) - 1, n_fields)
    sizes = np.exp(np.interp(at, np.arange(len(profile)), profile))
    return np.maximum(sizes * total / sizes.sum(), 3).round().astype(int).tolist()


def power_law(rng: np.random.Generator, size: int, n_rows: int, power: float) -> np.ndarray:
    """Codes whose frequencies fall by a power law, in no order of their number."""
    cumulated = np.cumsum(np.arange(1, size + 1) ** -power)
    ranks = np.searchsorted(cumulated, rng.random(n_rows) * cumulated[-1])
    return rng.permutation(size)[ranks]


def planted_fm(X: FieldArray, rng: np.random.Generator) -> np.ndarray:
    """Raw predictions of a random factorization machine, alike in spread for any fields."""
    schema = X.require_schema()
    shrink = np.sqrt(39 / schema.n_fields)
    linear = rng.normal(0, 0.25 * shrink, schema.table_size).astype(np.float32)
    factors = rng.normal(0, 0.16 * shrink, (schema.table_size, 8)).astype(np.float32)
    raw = np.empty(len(X))
    for start in range(0, len(X), 20_000):
        rows = X[start : start + 20_000]
        indices, values = rows.indices, rows.values
        embedded = factors[indices] * values[:, :, None]
        pairs = (embedded.sum(1) ** 2 - (embedded**2).sum(1)).sum(1) / 2
        raw[start : start + 20_000] = (linear[indices] * values).sum(1) + pairs
    return raw


def _part_size(rows: int) -> int:
    """Rows to choose with, and as many to test."""
    return max(rows // 8, 1)


def _split(X: FieldArray, y: np.ndarray, rows: int, valid: int | None = None) -> Workload:
    """Cut rows into parts, in their order."""
    stop = rows + (_part_size(rows) if valid is None else valid)
    cuts = {"train": slice(rows), "valid": slice(rows, stop), "test": slice(stop, None)}
    return Workload(X.require_schema(), {name: (X[cut], y[cut]) for name, cut in cuts.items()})
