"""Fit a folder of Parquet files under a limit on memory, and compare with a fit in memory.

    python examples/benchmarks/larger_than_memory.py --rows 250000 500000 1000000
    python examples/benchmarks/larger_than_memory.py --rows 4000000 --limit-mb 700 --no-memory

Each fit runs in a process of its own. The limit is RLIMIT_DATA, the memory that a process may
reserve; mapped files do not count, nor do the pages that the system caches. The peak is that of
memory in use which no file backs.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

MB = 2**20


def make_chunk(n_rows, seed, truth):
    """Made-up clicks: 13 counts, 26 columns of ids as text, some of which matter in pairs."""
    rng = np.random.default_rng(seed)
    numbers = {f"I{j}": np.floor(rng.lognormal(2, 1.5, n_rows)) for j in range(13)}
    sizes = np.geomspace(10, 50_000, 26).astype(int)
    ids = [(rng.random(n_rows) ** 3 * size).astype(int) for size in sizes]
    raw = -1.5 + sum(truth[0][j][ids[j]] for j in range(26))
    raw += sum((truth[1][j][ids[j]] * truth[1][j + 1][ids[j + 1]]).sum(axis=1) for j in range(8))
    raw += 0.2 * np.log1p(numbers["I0"])
    texts = {f"C{j}": np.char.add(f"c{j:02d}", np.char.mod("%09x", ids[j])) for j in range(26)}
    label = (rng.random(n_rows) < 1 / (1 + np.exp(-raw))).astype(np.int8)
    return pd.DataFrame({"label": label, **numbers, **texts})


def make_truth():
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 50_000, 26).astype(int)
    return [rng.normal(0, 0.2, s) for s in sizes], [rng.normal(0, 0.5, (s, 2)) for s in sizes]


def write_parquet(folder, n_rows, chunk):
    folder.mkdir(parents=True)
    truth = make_truth()
    for part, start in enumerate(range(0, n_rows, chunk)):
        table = make_chunk(min(chunk, n_rows - start), 1 + part, truth)
        # As large on disk as in memory: without compression or dictionaries.
        table.to_parquet(
            folder / f"{part:04d}.parquet",
            compression=None,
            use_dictionary=False,
            row_group_size=2**16,
        )
    return sum(file.stat().st_size for file in folder.iterdir())


def _watch(peak, stop):
    page = os.sysconf("SC_PAGE_SIZE")
    while not stop.is_set():
        with open("/proc/self/statm") as file:
            _, resident, shared, *_ = map(int, file.read().split())
        peak[0] = max(peak[0], (resident - shared) * page)
        time.sleep(0.02)


def fit(source, test, scratch, limit, in_memory, max_epochs, out):
    """One fit; write time, peak of memory and test scores to a file."""
    os.environ["TMPDIR"] = str(scratch)
    from sklearn.metrics import log_loss, roc_auc_score

    from sklearn_fm import FMClassifier

    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    peak, stop = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, stop))
    watcher.start()
    model = FMClassifier(embedding_dim=8, max_epochs=max_epochs, random_state=0)
    started = time.perf_counter()
    error = ""
    try:
        if in_memory:
            table = pd.read_parquet(source)
            model.fit(table.drop(columns="label"), table["label"])
        else:
            model.fit(str(source), "label")
    except MemoryError as caught:
        error = f"MemoryError: {caught}"[:60]
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    result = {"seconds": seconds, "peak_mb": peak[0] / MB, "error": error}
    if not error:
        table = pd.read_parquet(test)
        p = model.predict_proba(table.drop(columns="label"))[:, 1]
        result |= {"auc": roc_auc_score(table.label, p), "loss": log_loss(table.label, p)}
        result["epochs"] = model.n_epochs_
    out.write_text(json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 500_000])
    parser.add_argument("--limit-mb", type=int, default=0, help="RLIMIT_DATA; 0 for none")
    parser.add_argument("--max-epochs", type=int, default=5)
    parser.add_argument("--chunk", type=int, default=125_000, help="rows of a file")
    parser.add_argument("--no-memory", action="store_true", help="leave out the fit in memory")
    parser.add_argument("--scratch", type=Path, default=None, help="folder for the files")
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(dir=args.scratch))
    context = multiprocessing.get_context("spawn")
    # Pools of malloc and Arrow reserve memory that they may never use, which the limit counts.
    os.environ |= {
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(MB),
    }
    print("| rows | Parquet MB | limit MB | fit | seconds | peak MB | epochs | AUC | log loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    try:
        test = scratch / "test.parquet"
        make_chunk(100_000, 10**6, make_truth()).to_parquet(test)
        for n_rows in args.rows:
            source = scratch / f"rows{n_rows}"
            size = write_parquet(source, n_rows, args.chunk)
            for in_memory in (False, True)[: 1 if args.no_memory else 2]:
                out = scratch / "result.json"
                out.unlink(missing_ok=True)
                arguments = (source, test, scratch, args.limit_mb * MB, in_memory, args.max_epochs)
                process = context.Process(target=fit, args=(*arguments, out))
                process.start()
                process.join()
                how = "in memory" if in_memory else "from disk"
                head = f"| {n_rows} | {size / MB:.0f} | {args.limit_mb or '-'} | {how} "
                if not out.exists():
                    print(f"{head}| died (exit {process.exitcode}) | | | | |", flush=True)
                    continue
                r = json.loads(out.read_text())
                scores = "| | | |"
                if not r["error"]:
                    scores = f"| {r['epochs']} | {r['auc']:.4f} | {r['loss']:.4f} |"
                seconds = r["error"] or f"{r['seconds']:.0f}"
                print(f"{head}| {seconds} | {r['peak_mb']:.0f} {scores}", flush=True)
            shutil.rmtree(source)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
