"""Seconds per sweep of the solvers that update blocks, beside those of others.

    python examples/benchmarks/bayes_speed.py --task gibbs --data ../shared/data
    python examples/benchmarks/bayes_speed.py --task als --rows 1000000
    python examples/benchmarks/bayes_speed.py --task classes
    python examples/benchmarks/bayes_speed.py --task cost --data ../shared/data

gibbs: the quickest of some sweeps, beside a mean one of myFM's, where that is installed; and how a
sweep grows with rows and with embedding_dim.
als: on made-up ratings, beside implicit, where it is installed (pip install implicit), and a loop
in torch; what it comes to beside "gibbs" and "adagrad".
classes: how probabilities by draws grow with the number of classes.
cost: sweeps, in seconds of the process, beside the estimate by which "auto" chooses a solver.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bayes import SETS, MyFM, make_encoder
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import root_mean_squared_error
from workloads import ratings

from sklearn_fm import FieldArray, FieldSchema, FMClassifier, FMRegressor, MFRegressor
from sklearn_fm.solvers.choice import SOLVERS
from sklearn_fm.solvers.gibbs.chain import Chain
from sklearn_fm.solvers.gibbs.solver import GibbsSolver
from sklearn_fm.solvers.gibbs.suits import estimate_seconds
from sklearn_fm.solvers.problem import Problem


def compare_costs(options: argparse.Namespace) -> None:
    """Print seconds per sweep beside what they are estimated to be."""
    cases = [("movielens-u1", 8), ("movielens-u1", 32), ("adult", 16), ("criteo", 16), ("kmrd", 32)]
    cases += [("frappe", rank) for rank in (8, 16, 32)]
    made: list[Problem] = []

    class Watched(GibbsSolver):
        def fit(self, problem: Problem, *args: Any) -> Any:
            made.append(problem)
            return super().fit(problem, *args)

    SOLVERS["gibbs"] = Watched()
    print("| milliseconds per sweep | measured | estimated |")
    print("|---|---|---|")
    for name, rank in cases:
        X, y, *_ = next(iter(SETS[name][0](options.data, 0)))
        made.clear()
        clock = _Clock()
        cls = FMClassifier if len(np.unique(y)) == 2 else MFRegressor
        model = cls(solver="gibbs", n_sweeps=12, n_burn=0, embedding_dim=rank, random_state=0)
        with clock:
            model.fit(X, y)
        estimate = estimate_seconds(made[0]) / 12
        print(
            f"| {name}, {rank} | {1e3 * min(clock.seconds):.1f} | {1e3 * estimate:.1f} |",
            flush=True,
        )


class _Clock:
    """Seconds of the process that each sweep takes, while it is entered."""

    def __enter__(self) -> _Clock:
        self.seconds: list[float] = []
        self.sweep = Chain.sweep

        def timed(chain: Chain, rng: np.random.Generator) -> None:
            started = time.process_time()
            self.sweep(chain, rng)
            self.seconds.append(time.process_time() - started)

        Chain.sweep = timed
        return self

    def __exit__(self, *error: object) -> None:
        Chain.sweep = self.sweep


def compare_sweeps(options: argparse.Namespace) -> None:
    """Print seconds per sweep."""
    cases = [
        *(("movielens-u1", 8), ("movielens-u1", 16), ("frappe", 16)),
        *(("criteo", 8), ("criteo", 16), ("kmrd", 16)),
    ]
    print("| milliseconds per sweep | 1 thread | 2 threads | myFM |")
    print("|---|---|---|---|")
    for name, rank in cases:
        X, y, *_ = next(iter(SETS[name][0](options.data, 0)))
        times = [_sweep_time(X, y, rank, n_jobs) for n_jobs in (1, 2)]
        if importlib.util.find_spec("myfm") is not None:
            n = 20
            few, many = (MyFM(0, rank, k).fit(X, y).seconds for k in (n, 3 * n))
            times.append((many - few) / (2 * n))
        cells = " | ".join(f"{1e3 * t:.1f}" for t in times)
        print(f"| {name}, embedding_dim {rank} | {cells} |", flush=True)
    print("\n| made-up clicks of 10 fields, 1 thread | entries | embedding_dim | ms per sweep |")
    print("|---|---|---|---|")
    for n_rows, rank in [
        (50_000, 16),
        (100_000, 16),
        (200_000, 16),
        *((100_000, k) for k in (8, 32, 64)),
    ]:
        rng = np.random.default_rng(0)
        X = FieldArray(rng.integers(0, 500, (n_rows, 10)), FieldSchema.from_sizes([501] * 10))
        t = _sweep_time(X, rng.integers(0, 2, n_rows), rank, 1)
        print(f"| | {10 * n_rows:,} | {rank} | {1e3 * t:.1f} |", flush=True)


def _sweep_time(X: Any, y: np.ndarray, rank: int, n_jobs: int) -> float:
    """Seconds of the quickest sweep: others may have waited for the machine."""
    cls = FMRegressor if len(np.unique(y)) > 2 else FMClassifier
    encoder = None if isinstance(X, FieldArray) else make_encoder(X, y)
    model = cls(
        solver="gibbs",
        embedding_dim=rank,
        n_sweeps=30,
        n_jobs=n_jobs,
        encoder=encoder,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return float(model.history_["seconds"].min())


def compare_classes(options: argparse.Namespace) -> None:
    """Print seconds for the probabilities of 200 rows."""
    print("| classes | draws | s for 200 rows |")
    print("|---|---|---|")
    rng = np.random.default_rng(0)
    X = FieldArray(rng.integers(0, 50, (2_000, 3)), FieldSchema.from_sizes([51] * 3))
    for n_classes in (3, 10, 50, 100):
        model = FMClassifier(solver="gibbs", n_sweeps=100, keep_draws=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, rng.permutation(np.arange(len(X)) % n_classes))
        model.predict_proba(X[:1])  # compiles
        started = time.perf_counter()
        model.predict_proba(X[:200])
        seconds = time.perf_counter() - started
        print(f"| {n_classes} | {model.posterior_.n_draws} | {seconds:.2f} |", flush=True)


def compare_als(options: argparse.Namespace) -> None:
    """Print seconds per sweep of alternating least squares, and what it comes to."""
    load = ratings(options.rows, 0)
    (X, y), (X_test, y_test) = load.parts["train"], load.parts["test"]
    rank = 32
    print(f"| {load.describe()}, embedding_dim {rank} | s per sweep | fit, s | test RMSE |")
    print("|---|---|---|---|")
    entrants = {
        "als, 1 thread": {"solver": "als", "n_jobs": 1},
        "als, 2 threads": {"solver": "als", "n_jobs": 2},
        "gibbs, 100 sweeps, 2 threads": {"solver": "gibbs", "n_jobs": 2, "n_sweeps": 100},
        "adagrad, 2 threads": {"solver": "adagrad", "n_jobs": 2},
    }
    for label, params in entrants.items():
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = MFRegressor(random_state=0, embedding_dim=rank, **params).fit(X, y)
        seconds = time.perf_counter() - started
        history = model.history_
        if "phase" in history:  # only the rows of the refit are all rows
            history = history[history["phase"] != "search"]
        error = root_mean_squared_error(y_test, model.predict(X_test))
        sweep = history["seconds"].median()
        print(f"| {label} | {sweep:.3f} | {seconds:.1f} | {error:.4f} |", flush=True)
    torch.set_num_threads(2)
    times, error = _torch_als(X, y, X_test, y_test, rank)
    print(f"| torch, batched Cholesky, 2 threads | {np.median(times):.3f} | | {error:.4f} |")
    if importlib.util.find_spec("implicit") is not None:
        from implicit.cpu.als import AlternatingLeastSquares

        rows = sparse.csr_matrix((y, np.asarray(X).T))
        for use_cg in (False, True):
            took = []
            for n in (2, 6):
                model = AlternatingLeastSquares(rank, iterations=n, num_threads=2, use_cg=use_cg)
                started = time.perf_counter()
                model.fit(rows, show_progress=False)
                took.append(time.perf_counter() - started)
            kind = "conjugate gradients" if use_cg else "Cholesky"
            sweep = (took[1] - took[0]) / 4
            print(f"| implicit (ranks, does not rate), {kind} | {sweep:.3f} | | |", flush=True)


def _torch_als(
    X: FieldArray, y: np.ndarray, X_test: FieldArray, y_test: np.ndarray, rank: int
) -> tuple[list[float], float]:
    """Alternating least squares as one would write it: index_add of outer products, Cholesky."""
    pair = torch.from_numpy(np.asarray(X).astype(np.int64))
    mean, spread = float(y.mean()), float(y.std())
    target = torch.from_numpy((y - mean) / spread)
    sizes = [int(s) for s in X.require_schema().vocabulary_sizes]
    generator = torch.Generator().manual_seed(0)
    tables = [0.1 * torch.randn(s, rank + 2, generator=generator).double() for s in sizes]
    for own, table in enumerate(tables):  # [v | 1 | bias] against [v | bias | 1]
        table[:, rank + own] = 1
    times = []
    for _ in range(6):
        started = time.perf_counter()
        for own in (0, 1):
            other = tables[1 - own][pair[:, 1 - own]]
            columns = [*range(rank), rank + 1 - own]
            slope = other[:, columns]
            rest = target - other[:, rank + own]
            gram = torch.zeros(sizes[own], rank + 1, rank + 1, dtype=torch.float64)
            for part in torch.arange(len(y)).split(2**14):
                outer = slope[part, :, None] * slope[part, None, :]
                gram.index_add_(0, pair[part, own], outer)
            right = torch.zeros(sizes[own], rank + 1, dtype=torch.float64)
            right.index_add_(0, pair[:, own], slope * rest[:, None])
            gram += 11.3 * torch.eye(rank + 1)
            tables[own][:, columns] = torch.cholesky_solve(
                right[:, :, None], torch.linalg.cholesky(gram)
            )[:, :, 0]
        times.append(time.perf_counter() - started)
    users, items = (table[np.asarray(X_test)[:, own]] for own, table in enumerate(tables))
    raw = (users[:, :rank] * items[:, :rank]).sum(1) + users[:, rank + 1] + items[:, rank]
    return times, root_mean_squared_error(y_test, mean + spread * raw.numpy())


TASKS = {
    "gibbs": compare_sweeps,
    "als": compare_als,
    "classes": compare_classes,
    "cost": compare_costs,
}


def main() -> None:
    """Run one task."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=list(TASKS), required=True)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--rows", type=int, default=1_000_000, help="made-up ratings")
    options = parser.parse_args()
    TASKS[options.task](options)


if __name__ == "__main__":
    main()
