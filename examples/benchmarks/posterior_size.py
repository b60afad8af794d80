"""What is left of hundreds of draws: one narrow machine and a few draws, beside all of them.

    python examples/benchmarks/posterior_size.py --data ../shared/data --sweeps 500

Each set is fitted twice with the same seed, so by the same draws: with keep_draws=True and without.
Printed are the draws that are left, the width of the mean and its error (in standard deviations of
the noise), the size of the pickle, the speed for encoded rows (the least of some repetitions; CPU
time of one thread, or time on the clock if --threads is above 1), test loss (log loss, or RMSE with
y_range) and how far predictions are from those by all draws.
"""

from __future__ import annotations

import argparse
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bayes import make_encoder, movielens_u1
from quality import adult, criteo, frappe
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, root_mean_squared_error

from sklearn_fm import FMClassifier, FMRegressor

SETS = {"adult": adult, "criteo": criteo, "frappe": frappe, "movielens-u1": movielens_u1}


def fit(split: tuple[Any, ...], n_sweeps: int | str, threads: int, *, keep_draws: bool) -> Any:
    """Fit to the training rows of a split, already encoded."""
    X, y = split[:2]
    rates = len(np.unique(y)) > 2
    cls, more = (FMRegressor, {"y_range": (y.min(), y.max())}) if rates else (FMClassifier, {})
    model = cls(
        solver="gibbs",
        n_sweeps=n_sweeps,
        keep_draws=keep_draws,
        n_jobs=threads,
        random_state=0,
        **more,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def measure(predict: Callable[[Any], Any], rows: Any, clock: Callable[[], float]) -> str:
    """Speed for many rows and for one."""
    one = rows[:1]
    predict(one)
    rate = len(rows) / least_time(partial(predict, rows), clock, 5)
    return f"{rate:,.0f} rows/s, {1e6 * least_time(partial(predict, one), clock, 200):,.0f} us"


def least_time(work: Callable[[], Any], clock: Callable[[], float], repeat: int) -> float:
    """Least seconds of a call."""
    found = []
    for _ in range(repeat):
        started = clock()
        work()
        found.append(clock() - started)
    return min(found)


def score(model: Any, X: Any, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Predictions, and their loss."""
    if hasattr(model, "predict_proba"):
        p = model.predict_proba(X)[:, 1]
        return p, log_loss(y, p)
    p = model.predict(X)
    return p, root_mean_squared_error(y, p)


def rows_of(name: str, options: argparse.Namespace) -> Iterator[Any]:
    """Lines of the table for a set."""
    X, y, X_test, y_test = next(iter(SETS[name](options.data, 0)))
    encoder = make_encoder(X, y).fit(X)
    split = encoder.transform(X), y, encoder.transform(X_test), y_test
    sweeps = options.sweeps if options.sweeps == "auto" else int(options.sweeps)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    before = None
    for keep_draws in (True, False):
        model = fit(split, sweeps, options.threads, keep_draws=keep_draws)
        test = split[2]
        some = test[: 1_000 if keep_draws else 100_000]
        while len(some) < 50_000 and not keep_draws:
            some = np.concatenate([some, some])
        kinds = ["predict_proba", "predict"] if hasattr(model, "predict_proba") else ["predict"]
        speeds = [measure(getattr(model, kind), some, clock) for kind in kinds]
        p, loss = score(model, test, y_test)
        apart = np.zeros(1) if before is None else abs(p - before)
        before = p
        found = model.compression_
        yield (
            f"{name}, {found['n_draws']} draws" if keep_draws else "",
            f"{found['n_kept']}",
            "" if keep_draws else f"{found['width']}, {found['error']:.4f}",
            f"{len(pickle.dumps(model)) / 1e6:.1f}",
            "; ".join(f"{kind} {speed}" for kind, speed in zip(kinds, speeds, strict=True)),
            f"{loss:.5f}",
            "" if keep_draws else f"{apart.max():.3f}, {apart.mean():.5f}",
        )


def main() -> None:
    """Run the sets asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--sweeps", default="500", help="a number, or auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print("| set | draws kept | width, error | MB | speed | loss | largest, mean difference |")
    print("|---|---|---|---|---|---|---|")
    for name in options.sets:
        for cells in rows_of(name, options):
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
