"""Measures one contestant of compare_peers.py; run as a process of its own, with a job's file.

What is measured does not depend on the model: a warm-up fit for compile caches, then a fit of a
fixed number of epochs with its peak of memory, then the best epoch, then predictions.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from contestants import Contestant, Settings, scores, seconds_of
from workloads import PARTS, Workload

WARM_UP_ROWS = 6000
ONE_ROW_CALLS = 200
PREDICT_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """A contestant, by the module and class that hold it, and what to do with it."""

    home: str
    folder: str
    settings: Settings
    epochs: int
    search: bool

    def write(self, path: Path) -> None:
        """Save what `read` reads."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Job of a file."""
        job = json.loads(path.read_text())
        return cls(**{**job, "settings": Settings(**job["settings"])})


def measure(job: Job) -> dict[str, Any]:
    """Figures of one contestant."""
    work = Workload.load(Path(job.folder))
    module, name = job.home.split(":")
    contestant = getattr(importlib.import_module(module), name)(work.schema, job.settings)
    rows = {part: contestant.form(*work.parts[part]) for part in PARTS}
    y = {part: work.parts[part][1] for part in PARTS}
    warm_up(contestant, work)
    figures = fit_speed(contestant, rows["train"], y["train"], job.epochs)
    if job.search:
        found = contestant.search(rows, y)
        figures |= {"best_seconds": found.seconds, "best_epochs": found.epochs}
        figures |= scores(job.settings, y["test"], found.prediction)
        figures |= predict_speed(contestant, rows["test"], work)
    return figures | {"note": contestant.note}


def warm_up(contestant: Contestant, work: Workload) -> None:
    """Fit and predict a few rows, so that what is compiled is compiled."""
    X, y = (part[:WARM_UP_ROWS] for part in work.parts["train"])
    rows = contestant.form(X, y)
    contestant.fit(rows, y, 1)
    contestant.predict(rows)
    contestant.model = None


def fit_speed(contestant: Contestant, rows: Any, y: Any, epochs: int) -> dict[str, Any]:
    """Rows per second of a whole fit, of its epochs alone if the model tells, and memory."""
    before = reset_peak()
    started = time.perf_counter()
    made = contestant.fit(rows, y, contestant.speed_epochs or epochs)
    seconds = time.perf_counter() - started
    peak = peak_megabytes() - before
    alone = contestant.seconds_per_epoch()
    return {
        "fit_rows": len(y) * made / seconds,
        "fit_epochs": made,
        "epoch_seconds": seconds / made if alone is None else alone,
        "epoch_rows": None if alone is None else len(y) / alone,
        "peak_megabytes": peak,
    }


def predict_speed(contestant: Contestant, rows: Any, work: Workload) -> dict[str, float]:
    """Rows per second over the test rows, and microseconds for one row at a time."""
    X, y = work.parts["test"]
    single = [contestant.form(X[i : i + 1], y[i : i + 1]) for i in range(min(len(y), 20))]
    contestant.predict(single[0])
    whole = durations(contestant, [rows], 5)
    return {
        "predict_rows": len(y) / median(whole),
        "one_row_microseconds": 1e6 * median(durations(contestant, single, ONE_ROW_CALLS)),
    }


def durations(contestant: Contestant, requests: list[Any], calls: int) -> list[float]:
    """Seconds of each call, in turn over the requests; fewer calls if they take long."""
    seconds: list[float] = []
    while len(seconds) < calls and sum(seconds) < PREDICT_SECONDS:
        request = requests[len(seconds) % len(requests)]
        seconds.append(seconds_of(lambda: contestant.predict(request)))  # noqa: B023
    return seconds


def others_seconds() -> float:
    """Seconds of all cores that other processes have used so far; 0 where it is not known."""
    if sys.platform != "linux":
        return 0.0
    ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, irq, soft_irq, steal = ticks
    busy = (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def reset_peak() -> float:
    """Give memory back and let the peak of this process start anew; megabytes in use."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak_megabytes()


def peak_megabytes() -> float:
    """Peak of this process's resident memory."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


def row_bytes(embedding_dim: int) -> int:
    """Bytes of a table row: embedding, weight and six numbers of state, in 32-byte steps."""
    return ceil((embedding_dim + 1 + 6) / 8) * 32


def limits(job: Job) -> dict[str, float]:
    """Training rows per second that the memory allows."""
    from memory_limits import measure_limits

    work = Workload.load(Path(job.folder))
    indices, table_size = work.parts["train"][0].indices, work.schema.table_size
    width = row_bytes(job.settings.embedding_dim)
    return measure_limits(indices, table_size, width, job.settings.threads, job.settings.seed)


def run(job: Job) -> dict[str, Any]:
    """Figures of a job, with the cores that other processes kept busy meanwhile."""
    busy, started = others_seconds(), time.perf_counter()
    figures = limits(job) if job.home == "limits" else measure(job)
    others = (others_seconds() - busy) / (time.perf_counter() - started)
    return figures | {"others_cores": others}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(run(Job.read(Path(sys.argv[1])))))
