"""From what skorch recorded of epochs to the rows of `history_`, as a table and as lines.

What is recorded, and when, is told in ``net`` and ``callbacks``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import pandas as pd

__all__ = ["epoch_row", "history_frame", "in_phase", "print_record"]

#: What skorch and we note down for callbacks, but nobody reads in a table.
_INNER = {"batches", "dur", "event_rates", "train_loss_best", "valid_loss_best"}


def epoch_row(record: Mapping[str, Any], metric: str, phase: str) -> dict[str, Any]:
    """One row of `history_`: the same columns for every fit, NaN where nothing was watched.

    Parameters
    ----------
    record : mapping
        What was recorded of an epoch, by skorch's names.
    metric : str
        Name of the loss's metric.
    phase : {"search", "refit", "fit", "partial_fit"}
        Which run over the rows it was part of.

    Returns
    -------
    dict
        Precisions of priors come last if they were relaxed, then what users' callbacks recorded.
    """
    row = {
        "epoch": record["epoch"],
        "phase": phase,
        "train_loss": record["train_loss"],
        "valid_loss": record.get("valid_loss", math.nan),
        f"valid_{metric}": record.get(f"valid_{metric}", math.nan),
        "seconds": record["dur"],
        "learning_rate": record["learning_rate"],
    }
    more = [name for name in ("l2_linear", "l2_embedding") if name in record]
    more += [name for name in record if name not in {*row, *_INNER, *more}]
    return row | {name: record[name] for name in more}


def history_frame(records: Iterable[Mapping[str, Any]], metric: str, phase: str) -> pd.DataFrame:
    """Table of the epochs that came to their end.

    Parameters
    ----------
    records : iterable of mapping
        What was recorded of each epoch; one that was cut short lacks its time.
    metric : str
        Name of the loss's metric.
    phase : {"search", "refit", "fit", "partial_fit"}
        Which run over the rows they were part of.

    Returns
    -------
    DataFrame
    """
    rows = [epoch_row(record, metric, phase) for record in records if "dur" in record]
    if rows:
        return pd.DataFrame(rows)
    nothing = dict.fromkeys(("epoch", "train_loss", "dur", "learning_rate"), math.nan)
    return pd.DataFrame([epoch_row(nothing, metric, phase)]).iloc[:0]


def in_phase(history: pd.DataFrame, phase: str) -> pd.DataFrame:
    """The table of a run with its phase as second column.

    Parameters
    ----------
    history : DataFrame
        One row per epoch, its number first.
    phase : {"search", "refit", "fit", "partial_fit"}
        Which run over the rows it was.

    Returns
    -------
    DataFrame
    """
    names = list(history)
    return history.assign(phase=phase)[[*names[:1], "phase", *names[1:]]]


def print_record(record: Mapping[str, Any]) -> None:
    """Print one epoch as a line, under a header if it is the first of all.

    Parameters
    ----------
    record : mapping
        Name and figure of each column, ``epoch`` first.
    """
    if record["epoch"] == 1 and record.get("phase") != "refit":
        print("  ".join(f"{name:>13}" for name in record))
    cells = (
        f"{value:>13.5g}" if isinstance(value, Real) else f"{value!s:>13}"
        for value in record.values()
    )
    print("  ".join(cells), flush=True)
