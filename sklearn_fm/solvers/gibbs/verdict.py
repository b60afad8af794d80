"""What a fit says of its chain: a table for whoever asks, a warning if something is wrong.

When a chain ends is told in ``stopping``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .chain import Run
from .convergence import effective_size, split_r_hat
from .stopping import TOLERANCE, averaging_loss

__all__ = ["convergence_table", "describe_end", "find_complaint"]

_FEWEST = 4  # sweeps that tell anything
_ONE_WAY = 2.2  # R-hat of half the rows; that of a straight line is 2.6


def convergence_table(
    history: pd.DataFrame, probes: NDArray[np.float64], n_burn: int
) -> pd.DataFrame:
    """Split R-hat and effective sample size of what is watched.

    Parameters
    ----------
    history : DataFrame
        One row per sweep.
    probes : ndarray of shape (n_sweeps, n_probes)
        Raw predictions of some rows in each sweep.
    n_burn : int
        First sweeps, which do not count.

    Returns
    -------
    DataFrame
        Columns ``"r_hat"`` and ``"effective_size"``; of predictions the least favourable tenth.
        Empty after too few sweeps.
    """
    watched = [c for c in ("train_loss", "noise_precision") if c in history]
    rows = {}
    if len(history) - n_burn >= _FEWEST:
        trace = history[watched].to_numpy()[n_burn:]
        for name, r_hat, size in zip(
            watched, split_r_hat(trace), effective_size(trace), strict=True
        ):
            rows[name] = (r_hat, size)
        r_hats, sizes = split_r_hat(probes[n_burn:]), effective_size(probes[n_burn:])
        rows["predictions"] = (np.quantile(r_hats, 0.9), np.quantile(sizes, 0.1))
    return pd.DataFrame(rows.values(), index=list(rows), columns=["r_hat", "effective_size"])


def find_complaint(
    probes: NDArray[np.float64], values: Mapping[str, NDArray[np.float64]]
) -> str | None:
    """What to tell the user if a chain is of no use; nothing if it is only short of perfect.

    Parameters
    ----------
    probes : ndarray of shape (n_draws, n_rows * n_outputs)
        Raw predictions of some rows after the burn-in.
    values : mapping of str to ndarray
        What the likelihood draws besides weights: ``"bias"``, one per output, and others.

    Returns
    -------
    str or None
    """
    n_kept = len(probes)
    if n_kept < _FEWEST:
        return (
            f"{n_kept} sweep(s) after the burn-in are too few to average over. Leave n_sweeps at "
            "'auto', or take a hundred."
        )
    r_hat = float(np.median(split_r_hat(probes)))
    by_rows = probes.reshape(n_kept, -1, len(values["bias"]))
    if r_hat <= _ONE_WAY or averaging_loss(by_rows, values) <= TOLERANCE:
        return None
    return (
        f"Predictions by {n_kept} draws are unreliable: the chain went one way from the first draw "
        f"to the last (their R-hat is {r_hat:.1f}), so it is not yet where it leads to. Take more "
        "sweeps by set_params(warm_start=True) and fit again. If that does not help, look for "
        "numbers of enormous size, and leave hyperprior_scale near 1."
    )


def describe_end(run: Run) -> str:
    """Why a chain that may end by itself did, as a part of the reason for a solver.

    Parameters
    ----------
    run : Run
        What came of sampling.

    Returns
    -------
    str
        Empty if the number of sweeps was given, or the user stopped it.
    """
    n_sweeps, loss = len(run.records), run.averaging_loss
    if math.isnan(loss):
        return ""
    seen = f"averaging over no more draws than these costs about {loss:.2g} of loss per row"
    if run.settled:
        return f"; {n_sweeps} sweeps were enough: {seen}"
    return f"; {n_sweeps} sweeps, after which {seen}"
