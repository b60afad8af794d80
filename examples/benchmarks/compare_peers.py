"""Speed and quality of our estimators beside other packages, on the same rows, in one run.

    python examples/benchmarks/compare_peers.py --quick
    python examples/benchmarks/compare_peers.py --tasks fm --models FMClassifier modern-fm
    python examples/benchmarks/compare_peers.py --data ../shared/data --tasks fm deepfm
    python examples/benchmarks/compare_peers.py --scaling --rows 200000

`pip install '.[benchmarks]'` brings the packages; one that is absent is listed and left out.
Every model has its defaults (torch loops: what their docstrings say) and runs in a process of
its own, one after the other; repeats are interleaved, so that noise of the machine hits all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from contestants import DEEP_TASK, RATING_TASK, Settings
from lineup import Entrant, lineup
from measure import WARM_UP_ROWS, Job, row_bytes
from workloads import Workload, click, criteo, ratings

TITLES = {"fm": "FM", DEEP_TASK: "DeepFM", RATING_TASK: "MF"}
NOISE = 0.1  # cores in use by others, above which a line says so
SCALES = (0.25, 0.5, 1.0, 2.0)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Figures = list[dict[str, Any]]  # one entry per repeat

LEGEND = f"""
- fit rows/s: rows x epochs / seconds of a whole fit of fixed length, set-up included; median of
  the repeats [least-greatest]. Every process first fits {WARM_UP_ROWS:,} rows, so that nothing is
  compiled in what is timed; encoding, making tensors and writing files are not timed either.
- s to best: seconds of training up to the epoch that is best on the validation rows. Ours: within
  one fit with `eval_set`, its validation and set-up included. Torch and DeepCTR-Torch: epochs one
  by one, validation not included. Others: a fit of just that many epochs, found beforehand.
- test figures: of that epoch's model; test rows choose nothing.
- predict: all test rows at once, and one encoded row in the form that the model takes.
- peak MB: by how much the process's peak of resident memory rises in the timed fit, beyond the
  rows in the form that the model takes.
"""


def run_job(job: Job, scratch: Path, timeout: float) -> dict[str, Any]:
    """Figures of a job, from a process of its own; {"error": why} if it fails."""
    job_file, result_file = scratch / "job.json", scratch / "result.json"
    job.write(job_file)
    threads = dict.fromkeys(THREAD_VARIABLES, str(job.settings.threads))
    environment = {"USER": "benchmark", **os.environ, **threads}  # xLearn aborts without USER
    command = [sys.executable, str(Path(__file__).parent / "measure.py"), job_file, result_file]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {timeout:.0f} s"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        return {"error": f"exit code {done.returncode}: {lines[-1][:160]}"}
    return json.loads(result_file.read_text())


def run_all(
    entrants: list[Entrant], settings: Settings, options: argparse.Namespace, scratch: Path
) -> dict[str, Figures]:
    """Figures per label; the entrants take turns, and leave after a failure."""
    figures: dict[str, Figures] = {entrant.label: [] for entrant in entrants}
    for repeat in range(options.repeats):
        for entrant in entrants:
            known = figures[entrant.label]
            if any("error" in figure for figure in known):
                continue
            mine = replace(
                settings,
                threads=entrant.threads,
                params=entrant.params,
                seed=settings.seed + repeat,
            )
            search = repeat < options.searches and not options.scaling
            job = Job(entrant.home, settings.folder, mine, options.epochs, search)
            known.append(run_job(job, scratch, options.timeout))
            print(f"  repeat {repeat + 1}: {entrant.label}", file=sys.stderr, flush=True)
    return figures


def pick(options: argparse.Namespace, task: str) -> tuple[list[Entrant], list[Entrant]]:
    """Entrants that can run, and those that are not installed."""
    entrants = lineup(task, options.n_jobs, options.torch_threads)
    if options.models:
        wanted = [name.lower() for name in options.models]
        entrants = [e for e in entrants if any(name in e.label.lower() for name in wanted)]
    return [e for e in entrants if e.installed], [e for e in entrants if not e.installed]


def make_workload(options: argparse.Namespace, task: str) -> Workload:
    """Rows for a task."""
    if task == RATING_TASK:
        return ratings(options.ratings or options.rows * 5 // 4, options.seed)
    if options.data is not None:
        return criteo(options.data)
    return click(options.rows, options.fields, options.table_size, options.seed)


def make_settings(options: argparse.Namespace, task: str, folder: Path) -> Settings:
    """What all entrants of a task share."""
    rank = options.mf_embedding_dim if task == RATING_TASK else options.embedding_dim
    return Settings(
        task=task,
        embedding_dim=rank,
        hidden=tuple(options.hidden),
        torch_batch_size=options.torch_batch_size,
        max_epochs=options.max_epochs,
        patience=options.patience,
        sweeps=options.myfm_sweeps,
        threads=max(options.n_jobs),
        seed=options.seed,
        folder=str(folder),
    )


def spread(values: list[float], digits: int = 0) -> str:
    """Median [least-greatest]."""
    low, middle, high = (f"{f(values):,.{digits}f}" for f in (min, median, max))
    return middle if len(values) == 1 else f"{middle} [{low}-{high}]"


def print_table(task: str, entrants: list[Entrant], figures: dict[str, Figures]) -> None:
    """Markdown table of a task."""
    kinds = ["RMSE"] if task == RATING_TASK else ["AUC", "log loss"]
    head = ["model", "fit rows/s", "s to best", "epochs", *(f"test {kind}" for kind in kinds)]
    head += ["predict rows/s", "one row µs", "peak MB", "note"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for entrant in entrants:
        results = [f for f in figures[entrant.label] if "error" not in f]
        if len(results) < len(figures[entrant.label]):
            continue
        print(
            "| "
            + " | ".join([entrant.label, *cells(results, kinds), note(entrant, results)])
            + " |"
        )
    for label, results in figures.items():
        for result in results:
            if "error" in result:
                print(f"\n{label} failed: {result['error']}")


def cells(results: Figures, kinds: list[str]) -> list[str]:
    """Columns between label and note."""
    searched = [result for result in results if "best_epochs" in result]

    def middle(name: str, digits: int) -> str:
        return f"{median(result[name] for result in searched):,.{digits}f}"

    return [
        spread([result["fit_rows"] for result in results]),
        spread([result["best_seconds"] for result in searched], 2),
        middle("best_epochs", 0),
        *(middle(kind, 4) for kind in kinds),
        middle("predict_rows", 0),
        middle("one_row_microseconds", 0),
        spread([result["peak_megabytes"] for result in results]),
    ]


def note(entrant: Entrant, results: Figures) -> str:
    """Threads, speed of the epochs alone where it is known, and the contestant's own note."""
    parts = [f"{entrant.threads} thread" + "s" * (entrant.threads > 1)]
    if results[0]["epoch_rows"] is not None:
        parts.append(f"epochs alone {median(r['epoch_rows'] for r in results):,.0f} rows/s")
    parts.append(results[0]["note"])
    parts.append(noise(results))
    return "; ".join(part for part in parts if part)


def noise(results: Figures) -> str:
    """Warning if other processes were busy, which makes figures worthless; else nothing."""
    others = max(result["others_cores"] for result in results)
    return f"**noisy**: other processes used {others:.1f} cores" if others > NOISE else ""


def limit_entrants(n_jobs: list[int]) -> list[Entrant]:
    """The memory's limits, measured in turn with the models."""
    return [Entrant(f"limit, {n} thread(s)", "limits", n, "numba", "numba") for n in n_jobs]


def print_limits(settings: Settings, ours: list[Entrant], figures: dict[str, Figures]) -> None:
    """Ceilings in training rows per second, and how close our fits come."""
    width = row_bytes(settings.embedding_dim)
    print(f"\nMemory's limits, table rows of {width} bytes visited in the order of the rows:")
    ceilings = {}
    for label, results in figures.items():
        if not label.startswith("limit") or not all("rewrite" in result for result in results):
            continue
        read, rewrite = ([result[name] for result in results] for name in ("read", "rewrite"))
        ceilings[label] = median(rewrite)
        print(
            f"- {label}: {spread(read)} rows/s read, {spread(rewrite)} rows/s rewritten (ceiling)"
        )
    for entrant in ours:
        results = figures[entrant.label]
        ceiling = ceilings.get(f"limit, {entrant.threads} thread(s)")
        if ceiling and results and all("fit_rows" in result for result in results):
            share = median(result["fit_rows"] for result in results) / ceiling
            print(f"- {entrant.label} reaches {share:.1%} of the ceiling of its threads")


def compare(options: argparse.Namespace, task: str, scratch: Path) -> None:
    """Run a task and print its table."""
    entrants, absent = pick(options, task)
    work, folder = make_workload(options, task), scratch / task
    work.save(folder)
    settings = make_settings(options, task, folder)
    hidden = f", hidden {options.hidden}" if task == DEEP_TASK else ""
    print(f"\n## {TITLES[task]}: embedding_dim {settings.embedding_dim}{hidden}\n")
    print(f"{work.describe()}\n")
    del work
    ceilings = [e for e in limit_entrants(options.n_jobs) if task == "fm" and e.installed]
    figures = run_all([*entrants, *ceilings], settings, options, scratch)
    print_table(task, entrants, figures)
    if absent:
        print()
    for pip in dict.fromkeys(entrant.pip for entrant in absent):
        print(f"{pip}: not installed (pip install {pip})")
    if ceilings:
        print_limits(settings, [e for e in entrants if e.package == "sklearn_fm"], figures)


def variations(options: argparse.Namespace) -> dict[str, dict[float, argparse.Namespace]]:
    """Options with one size changed at a time, by the size's name and value."""
    plan: dict[str, dict[float, argparse.Namespace]] = {}
    for size in ("rows", "fields", "table_size", "embedding_dim"):
        values = [max(round(getattr(options, size) * scale), 1) for scale in SCALES]
        plan[size] = {v: argparse.Namespace(**{**vars(options), size: v}) for v in values}
    return plan


def scaling(options: argparse.Namespace, scratch: Path) -> None:
    """Seconds per epoch over one size at a time, with the slopes of both logarithms."""
    entrants, _ = pick(options, "fm")
    entrants = entrants if options.models else entrants[:1]
    measured: dict[str, dict[str, list[float]]] = {}
    print("\n## Scaling of an FM's epoch: one size varies, the others are as given\n")
    print(f"| size | value | {' | '.join(e.label + ', s per epoch' for e in entrants)} |")
    print("|---" * (2 + len(entrants)) + "|")
    slopes: dict[str, dict[str, float]] = {entrant.label: {} for entrant in entrants}
    for size, changed in variations(options).items():
        medians: dict[str, list[float]] = {entrant.label: [] for entrant in entrants}
        for value, varied in changed.items():
            key = str([varied.rows, varied.fields, varied.table_size, varied.embedding_dim])
            if key not in measured:
                measured[key] = seconds_per_epoch(varied, entrants, scratch)
            for label, seconds in measured[key].items():
                medians[label].append(median(seconds))
            row = " | ".join(spread(measured[key][e.label], 4) for e in entrants)
            print(f"| {size} | {value:,} | {row} |", flush=True)
        for label, seconds in medians.items():
            slopes[label][size] = np.polyfit(np.log(list(changed)), np.log(seconds), 1)[0]
    print("\nSlope of log seconds over log size (1 is linear):")
    for label, by_size in slopes.items():
        print(f"- {label}: " + ", ".join(f"{size} {s:.2f}" for size, s in by_size.items()))


def seconds_per_epoch(
    options: argparse.Namespace, entrants: list[Entrant], scratch: Path
) -> dict[str, list[float]]:
    """Of each entrant, once per repeat."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        make_workload(options, "fm").save(Path(folder))
        settings = make_settings(options, "fm", Path(folder))
        figures = run_all(entrants, settings, options, scratch)
    failed = [f"{label}: {f['error']}" for label, fs in figures.items() for f in fs if "error" in f]
    if failed:
        raise SystemExit("\n".join(failed))
    return {label: [f["epoch_seconds"] for f in fs] for label, fs in figures.items()}


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--tasks", nargs="+", choices=list(TITLES), default=list(TITLES))
    add("--models", nargs="+", help="parts of labels; others are left out")
    add(
        "--data", type=Path, help="folder with criteo/criteo_80k.parquet, instead of made-up clicks"
    )
    add("--rows", type=int, default=800_000, help="to train on; a quarter more to choose and test")
    add("--ratings", type=int, help="to train on; default 5/4 of --rows")
    add("--fields", type=int, default=39, help="a third are numbers")
    add("--table-size", type=int, default=1_200_000)
    add("--embedding-dim", type=int, default=8)
    add("--mf-embedding-dim", type=int, default=50)
    add("--hidden", type=int, nargs="+", default=[128, 128], help="widths of DeepFM's layers")
    add("--n-jobs", type=int, nargs="+", default=[1, 2])
    add("--torch-batch-size", type=int, default=2048, help="of torch loops and DeepCTR-Torch")
    add("--torch-threads", type=int, help="of the same; default the most of --n-jobs")
    add("--epochs", type=int, default=3, help="of the timed fit; 1 for dense Adam")
    add("--max-epochs", type=int, default=100, help="in search of the best epoch")
    add("--patience", type=int, default=3, help="epochs without a new best")
    add("--myfm-sweeps", type=int, default=100)
    add("--repeats", type=int, default=3)
    add("--searches", type=int, default=1, help="repeats that also look for the best epoch")
    add("--timeout", type=float, default=3600, help="seconds for a model's process")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="small defaults: 20,000 rows, one repeat")
    add("--scaling", action="store_true", help="time per epoch over sizes (FM), and nothing else")
    if parser.parse_args().quick:
        parser.set_defaults(rows=20_000, table_size=30_000, repeats=1, myfm_sweeps=20)
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    options = parse()
    entrants = {e.pip: e for task in options.tasks for e in pick(options, task)[0]}
    versions = ", ".join(entrant.version for entrant in entrants.values())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {versions}")
    print(f"{options.repeats} repeat(s), {options.searches} search(es) for the best epoch")
    with tempfile.TemporaryDirectory(prefix="compare_peers_") as scratch:
        if options.scaling:
            scaling(options, Path(scratch))
            return
        print(LEGEND)
        for task in options.tasks:
            compare(options, task, Path(scratch))


if __name__ == "__main__":
    main()
