"""Who takes part in compare_peers.py, with how many threads, and in which package each lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from contestants import DEEP_TASK, RATING_TASK, Ours

import sklearn_fm


@dataclass(frozen=True)
class Entrant:
    """A line of the table."""

    label: str
    home: str
    threads: int
    package: str = "sklearn_fm"
    pip: str = "sklearn-fm"
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Name and version of its package."""
        name = self.pip.split("=")[0]
        return f"{name} {metadata.version(name)}"


def lineup(task: str, n_jobs: list[int], torch_threads: int | None = None) -> list[Entrant]:
    """All entrants of a task; those without a line per thread count get the most threads."""
    most = max(n_jobs)
    torch = {"package": "torch", "pip": "torch", "threads": torch_threads or most}
    if task == DEEP_TASK:
        deepctr = {"package": "deepctr_torch", "pip": "deepctr-torch"}
        return [
            *ours(task, n_jobs),
            Entrant("torch loop, dense Adam", "torch_loops:TorchContestant", **torch),
            Entrant("DeepCTR-Torch", "torch_loops:DeepCTR", **torch | deepctr),
        ]
    shared = [
        *ours(task, n_jobs),
        *compiled(n_jobs),
        Entrant("myFM", "peers:MyFM", 1, "myfm", "myfm"),
    ]
    if task == RATING_TASK:
        return [
            *shared,
            Entrant("torch loop, dense Adam", "torch_loops:TorchMF", **torch),
            Entrant("torch loop as fastai", "torch_loops:FastaiMF", **torch),
            Entrant("Surprise SVD", "peers:SurpriseSVD", 1, "surprise", "scikit-surprise"),
        ]
    return [
        *shared,
        Entrant("torch loop, dense Adam", "torch_loops:TorchContestant", **torch),
        Entrant("LightGBM", "peers:LightGBM", most, "lightgbm", "lightgbm"),
        Entrant("LogisticRegression", "peers:OneHotLogistic", most, "sklearn", "scikit-learn"),
    ]


def ours(task: str, n_jobs: list[int]) -> list[Entrant]:
    """Our estimator, once per number of threads if it has that parameter."""
    name, home = Ours.names[task], "contestants:Ours"
    known = getattr(sklearn_fm, name)().get_params()
    if "n_jobs" not in known:
        return [Entrant(name, home, max(n_jobs))]
    entrants = [Entrant(f"{name} n_jobs={n}", home, n, params={"n_jobs": n}) for n in n_jobs]
    most = max(n_jobs)
    if most > 1 and "deterministic" in known:
        label = f"{name} n_jobs={most} deterministic=False"
        params = {"n_jobs": most, "deterministic": False}
        entrants.append(Entrant(label, home, most, params=params))
    return entrants


def compiled(n_jobs: list[int]) -> list[Entrant]:
    """Compiled factorization machines, once per number of threads."""
    modern, xlearn = ("modern_fm", "modern-fm"), ("xlearn", "xlearn==0.40a1")
    entrants = []
    for n in n_jobs:
        # modern-fm shares out the rows of a batch; its default batch is one row.
        params = {} if n == 1 else {"batch_size": 256}
        label = f"modern-fm n_jobs={n}" + ("" if n == 1 else " batch_size=256")
        entrants.append(Entrant(label, "peers:ModernFM", n, *modern, params))
    return entrants + [Entrant(f"xLearn nthread={n}", "peers:XLearn", n, *xlearn) for n in n_jobs]
