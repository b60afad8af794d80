"""How far predictive distributions can be believed: intervals and probabilities on test rows.

    python examples/benchmarks/bayes_coverage.py --data ../shared/data --seeds 3

Shares of test targets that predictive intervals hold; gaps between probabilities and frequencies;
several classes by one multinomial model and by one against the rest.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bayes import SETS, Gibbs, Split, kmrd, movielens_random
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from sklearn_fm import FMClassifier, FMRegressor


def compare_coverage(options: argparse.Namespace) -> None:
    """Print the share of test targets within intervals, and the reliability of probabilities."""
    print("| intervals | 50% | 80% | 95% |")
    print("|---|---|---|---|")
    cases: list[tuple[str, Callable[[int], Split], dict[str, Any]]] = [
        ("planted FM, normal noise", _planted, {}),
        ("planted FM, noise by category", lambda s: _planted(s, shape=3.0), {}),
        ("the same, noise_field=None", lambda s: _planted(s, shape=3.0), {"noise_field": None}),
        ("movielens-90/10", lambda s: next(movielens_random(options.data, s)), {}),
        (
            "movielens-90/10, noise_field=None",
            lambda s: next(movielens_random(options.data, s)),
            {"noise_field": None},
        ),
        ("kmrd", lambda s: next(kmrd(options.data, s)), {}),
        ('kmrd, loss="ordinal"', lambda s: next(kmrd(options.data, s)), {"loss": "ordinal"}),
    ]
    for label, split, params in cases:
        shares = []
        for seed in range(options.seeds):
            X, y, X_test, y_test = split(seed)
            made = _Unbounded if len(np.unique(y)) > 10 else Gibbs
            fitted = made(seed, **params).fit(X, y).model
            intervals = [fitted.predict_interval(X_test, level) for level in (0.5, 0.8, 0.95)]
            shares.append([np.mean((i[:, 0] <= y_test) & (y_test <= i[:, 1])) for i in intervals])
        cells = " | ".join(f"{100 * s:.1f}" for s in np.mean(shares, axis=0))
        print(f"| {label} | {cells} |", flush=True)
    print("\n| probabilities | expected calibration error, 10 bins of equal size | slope |")
    print("|---|---|---|")
    for name, sweeps in (("frappe", 500), ("criteo", 200)):
        X, y, X_test, y_test = next(iter(SETS[name][0](options.data, 0)))
        for label, params in (("gibbs", {"n_sweeps": sweeps}), ("auto", {"solver": "auto"})):
            p = Gibbs(0, **params).fit(X, y).predict(X_test)
            print(f"| {name}, {label} | {_reliability(y_test, p)} |", flush=True)
    X, y, X_test, y_test = _planted_classes(0)
    multinomial = Gibbs(0).params | {"n_sweeps": 300}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        joint = FMClassifier(**multinomial).fit(X, y).predict_proba(X_test)
        apart = np.column_stack(
            [
                FMClassifier(**multinomial).fit(X, (y == c).astype(int)).predict_proba(X_test)[:, 1]
                for c in range(3)
            ]
        )
        apart /= apart.sum(axis=1, keepdims=True)
    for label, p in (("multinomial probit", joint), ("one against the rest", apart)):
        cells = _reliability((y_test[:, None] == np.arange(3)).ravel(), p.ravel())
        print(f"| 3 planted classes, {label}, log loss {log_loss(y_test, p):.4f} | {cells} |")


class _Unbounded(Gibbs):
    """Targets without ends."""

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> _Unbounded:
        """Fit without a y_range."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model = FMRegressor(**self.params).fit(X, y)
        return self


def _planted(seed: int, shape: float | None = None) -> Split:
    """Biases, two factors and noise for three fields; gamma precisions of the first one's."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, [400, 200, 20], (24_000, 3))
    parts = [(rng.normal(0, 0.5, n), rng.normal(0, 0.6, (n, 2))) for n in (400, 200, 20)]
    e = np.stack([v[c] for (_, v), c in zip(parts, codes.T, strict=True)], axis=1)
    y = sum(w[c] for (w, _), c in zip(parts, codes.T, strict=True))
    y = y + ((e.sum(1) ** 2).sum(1) - (e**2).sum((1, 2))) / 2
    precision = np.ones(400) if shape is None else rng.gamma(shape, 1 / shape, 400)
    y = y + rng.normal(0, 0.8, len(codes)) / np.sqrt(precision[codes[:, 0]])
    X = pd.DataFrame(codes, columns=["a", "b", "c"]).astype(str)
    return X[:16_000], y[:16_000], X[16_000:], y[16_000:]


def _planted_classes(seed: int) -> Split:
    """Three classes by a softmax, so that neither link is the true one."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 60, (16_000, 2))
    left, right = rng.normal(size=(3, 60, 2)), rng.normal(size=(3, 60, 2))
    raw = (left[:, codes[:, 0]] * right[:, codes[:, 1]]).sum(2).T
    y = (raw + rng.gumbel(size=raw.shape)).argmax(axis=1)
    X = pd.DataFrame(codes, columns=["a", "b"]).astype(str)
    return X[:8000], y[:8000], X[8000:], y[8000:]


def _reliability(y: np.ndarray, p: np.ndarray) -> str:
    """Mean gap of probability and frequency, and slope of frequency over probability."""
    bins = np.array_split(np.argsort(p), 10)
    forecast = np.array([p[part].mean() for part in bins])
    happened = np.array([y[part].mean() for part in bins])
    slope = np.polyfit(forecast, happened, 1)[0]
    return f"{np.abs(forecast - happened).mean():.4f} | {slope:.3f}"


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    compare_coverage(parser.parse_args())


if __name__ == "__main__":
    main()
