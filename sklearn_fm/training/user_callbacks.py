"""Which callbacks of skorch a training can serve, and what to use instead of the others.

The tables never pass through skorch, so what works on gradients or sets weights before the training
would be ignored. How callbacks are called is told in ``net``.
"""

from __future__ import annotations

import dis
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    TrainEndCheckpoint,
    WandbLogger,
)

__all__ = ["check_callbacks", "reads_batches", "stopped_by_skorch", "tell_apart"]

_INSTEAD = {
    GradientNormClipping: "gradient_clip limits the norm of a batch's mean gradient.",
    Initializer: "init_scale and pretrained set start values.",
    ParamMapper: "freeze_pretrained keeps embeddings, and a model of one's own can do more.",
    InputShapeSetter: "The schema tells the module its sizes.",
    LoadInitState: "warm_start=True, or partial_fit, goes on from weights at hand.",
    BatchScoring: "EpochScoring scores all rows at once.",
}
_UNUSED = Callback.on_grad_computed
#: Events at a batch that do nothing here: predictions are not collected batch by batch.
_IDLE = {Callback.on_batch_begin, Callback.on_batch_end, EpochScoring.on_batch_end}


def check_callbacks(
    callbacks: Iterable[tuple[str, Any]], solver: str, *, watched: bool, stops_early: bool
) -> None:
    """Raise if a callback would be ignored, or would fail for lack of what it looks at.

    Parameters
    ----------
    callbacks : iterable of (str, skorch callback)
        Those of the user, by name.
    solver : str
        Name of the solver.
    watched : bool
        Whether there are rows to watch.
    stops_early : bool
        Whether the weights of the best epoch are kept.

    Raises
    ------
    ValueError
        Naming the callback, and what to use instead.
    """
    for _, callback in callbacks:
        problem = (
            _would_be_ignored(callback, solver)
            or _has_other_best_weights(callback, stops_early)
            or (None if watched else _lacks_rows_to_watch(callback))
        )
        if problem is not None:
            name = getattr(callback, "__name__", type(callback).__name__)
            raise ValueError(f"callbacks holds {name}, which {problem}")


def _would_be_ignored(callback: Any, solver: str) -> str | None:
    for kind, instead in _INSTEAD.items():
        if isinstance(callback, kind):
            return f"would be ignored. {instead}"
    if isinstance(callback, type):
        return "is a class. Pass an instance."
    if getattr(type(callback), "on_grad_computed", _UNUSED) is not _UNUSED:
        return (
            "waits for on_grad_computed, but gradients of the tables never pass through skorch, so "
            "it would not be called. gradient_clip limits their norm; on_batch_end sees each loss."
        )
    if isinstance(callback, PassthroughScoring) and not callback.on_train:
        return (
            "averages over batches, but rows to watch are scored all at once. EpochScoring does "
            "that; or pass on_train=True."
        )
    if isinstance(callback, LRScheduler) and solver == "ftrl":
        return (
            "changes learning rates, but solver='ftrl' weighs the gradients of all steps by one. "
            "Take solver='adagrad', 'adam' or 'sgd'."
        )
    if isinstance(callback, Checkpoint | TrainEndCheckpoint) and callback.f_pickle:
        return "is to pickle skorch's net, which holds the rows. Pickle the estimator after fit."
    return None


def _has_other_best_weights(callback: Any, stops_early: bool) -> str | None:
    if not getattr(callback, "load_best", False):
        return None
    if stops_early:
        return (
            "has load_best=True, but early_stopping already keeps the weights of the epoch that is "
            "best by valid_loss. Leave load_best=False, and read the checkpoint's file for others."
        )
    return (
        "has load_best=True, which would leave n_epochs_ behind. early_stopping=True keeps the "
        "weights of the best epoch, of held-out rows or an eval_set."
    )


def _lacks_rows_to_watch(callback: Any) -> str | None:
    monitor = getattr(callback, "monitor", None)
    looks = isinstance(monitor, str) and monitor.startswith("valid_")
    looks |= isinstance(callback, EpochScoring) and not callback.on_train
    looks |= isinstance(callback, WandbLogger) and callback.save_model
    if not looks:
        return None
    return (
        "looks at rows that are not trained on, but there are none. Pass an eval_set, or "
        "early_stopping=True to hold some out."
    )


def reads_batches(callback: Any) -> bool:
    """Whether a callback has something to do at each batch.

    Parameters
    ----------
    callback : skorch callback
        Any.

    Returns
    -------
    bool
    """
    events = (getattr(type(callback), name, None) for name in ("on_batch_begin", "on_batch_end"))
    return isinstance(callback, PassthroughScoring) or any(event not in _IDLE for event in events)


def tell_apart(callbacks: Iterable[tuple[str, Callback]]) -> list[tuple[str, Callback]]:
    """The callbacks under names that differ, which skorch asks for.

    Parameters
    ----------
    callbacks : iterable of (str, skorch callback)
        Two of a kind, such as two scores, may have one name.

    Returns
    -------
    list of (str, skorch callback)
    """
    apart: dict[str, Callback] = {}
    for name, callback in callbacks:
        free, n = name, 1
        while free in apart:
            n += 1
            free = f"{name}_{n}"
        apart[free] = callback
    return list(apart.items())


def stopped_by_skorch(traceback: TracebackType | None) -> bool:
    """Whether a KeyboardInterrupt is skorch's way to stop early, not a Ctrl-C.

    skorch's EarlyStopping raises one itself: the last frame is in its code, at a `raise`. A Ctrl-C
    comes anywhere else, also in a user's callback.

    Parameters
    ----------
    traceback : traceback or None
        Where it comes from.

    Returns
    -------
    bool
    """
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or traceback.tb_frame.f_code is not EarlyStopping.on_epoch_end.__code__:
        return False
    return dis.opname[traceback.tb_frame.f_code.co_code[traceback.tb_lasti]] == "RAISE_VARARGS"
