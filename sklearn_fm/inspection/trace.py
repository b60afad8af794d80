"""How a fit went, drawn from the history that a fitted estimator publishes.

It computes nothing but the picture; R-hat and effective sizes are the estimator's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

__all__ = ["TraceDisplay"]

_CLOCK = "epoch"
_SCALE, _PENALTY = "scale_", "l2_"
_TITLES = {
    "train_loss": "Training loss",
    "valid_loss": "Validation loss",
    "noise_precision": "Precision of the noise",
}
_LATER = {
    "refit": ", all rows",
    "partial_fit": ", partial_fit",
    "search (draws)": ", rows to learn from, draws",
    "search (deep)": ", rows to learn from, MLP",
    "refit (deep)": ", all rows, MLP",
}
_LABELS = {"train_loss": "training", "valid_loss": "validation"}
_MOST_NAMED = 10
_LONGEST_NAME = 24
_FEW_LINES, _TALLER = 5, 1.6  # lines of a panel, and how much taller it is with more
_FEW_EPOCHS = 20  # whose points are marked
_QUIET, _BACKGROUND = "0.35", "0.75"  # shades of grey: for words, for lines without a name


class TraceDisplay:
    """Traces of a fit, by epoch.

    For solver "gibbs" they tell whether the chain has converged: a trace that still climbs,
    or wanders slowly, asks for more sweeps. For other solvers they show where the
    validation loss was least. `from_estimator` makes one of a fitted estimator.

    Parameters
    ----------
    history : DataFrame
        One row per epoch, which is a sweep for "als" and "gibbs", as `history_` of an estimator.
    n_burn : int, default=0
        Sweeps at the start that predictions leave out, which are shaded.
    n_epochs : int or None, default=None
        Epoch whose weights were kept, which is marked if there was a validation loss.
    convergence : DataFrame or None, default=None
        Columns "r_hat" and "effective_size" by quantity, which titles tell.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Figure with the traces.
    axes_ : ndarray of shape (n_panels,)
        An Axes per quantity, from top to bottom. Training and validation loss share one, and so do
        the scales of all fields.
    lines_ : dict of str to list of matplotlib Line2D
        Lines of each column; two where the fit was repeated on all rows.
    burn_in_ : list of matplotlib Rectangle
        Shaded region of each Axes; empty if no sweeps are left out.
    best_epoch_ : matplotlib Line2D or None
        Mark of the epoch whose weights were kept.

    See Also
    --------
    TraceDisplay.from_estimator : Traces of a fitted estimator.

    Notes
    -----
    The vertical range fits the sweeps that are kept: the first ones may start outside of it, as
    they would otherwise press the rest into a line. ``ax.autoscale()`` shows all.

    Drawing into the `axes_` of another display lays the chains over each other.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from sklearn_fm import MFRegressor
    >>> from sklearn_fm.inspection import TraceDisplay
    >>> X = pd.DataFrame({"user": list("aabbcc"), "film": list("xyxyxy")})
    >>> model = MFRegressor(random_state=0).fit(X, [5.0, 1.0, 4.0, 2.0, 5.0, 2.0])
    >>> display = TraceDisplay.from_estimator(model)
    >>> sorted(display.lines_)
    ['noise_precision', 'scale_film', 'scale_user', 'train_loss']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        history: pd.DataFrame,
        n_burn: int = 0,
        n_epochs: int | None = None,
        convergence: pd.DataFrame | None = None,
    ) -> None:
        self.history = history
        self.n_burn = n_burn
        self.n_epochs = n_epochs
        self.convergence = convergence

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        columns: str | Sequence[str] | None = None,
        ax: Axes | Sequence[Axes] | NDArray[Any] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw how the fit of an estimator went.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator of this package, or a Pipeline that ends in one.
        columns : str, list of str or None, default=None
            Columns of `history_` to trace; None for the losses, the precision of the noise and the
            scales of all fields, as far as there are any.
        ax : matplotlib Axes, array-like of them or None, default=None
            Where to draw: Axes that are divided up, or one for each panel. None makes a figure.
        line_kw : dict or None, default=None
            Passed to matplotlib's `plot` for each line.

        Returns
        -------
        TraceDisplay
            Display of the traces, already drawn.
        """
        if isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        check_is_fitted(estimator)
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"TraceDisplay draws the history_ of a fitted estimator of sklearn_fm, which "
                f"{type(estimator).__name__} does not have."
            )
        display = cls(
            history=estimator.history_,
            n_burn=getattr(estimator, "n_burn_", 0) or 0,
            n_epochs=estimator.n_epochs_,
            convergence=getattr(estimator, "convergence_", None),
        )
        return display.plot(ax, columns=columns, line_kw=line_kw)

    def plot(
        self,
        ax: Axes | Sequence[Axes] | NDArray[Any] | None = None,
        *,
        columns: str | Sequence[str] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the traces.

        Parameters
        ----------
        ax : matplotlib Axes, array-like of them or None, default=None
            Where to draw: Axes that are divided up, or one for each panel. None makes a figure.
        columns : str, list of str or None, default=None
            Columns of `history` to trace; None for the losses, the precision of the noise and the
            scales of all fields, as far as there are any.
        line_kw : dict or None, default=None
            Passed to matplotlib's `plot` for each line.

        Returns
        -------
        TraceDisplay
            The display itself.
        """
        panels: dict[str, list[str]] = {}
        for column in self._choose(columns):
            panels.setdefault(_panel_of(column), []).append(column)
        heights = [_TALLER if len(members) > _FEW_LINES else 1.0 for members in panels.values()]
        self.axes_ = _make_axes(ax, heights)
        self.figure_: Figure = self.axes_[0].figure
        self.lines_: dict[str, list[Line2D]] = {}
        self.burn_in_: list[Rectangle] = []
        self.best_epoch_: Line2D | None = None
        for panel, members in zip(self.axes_, panels.values(), strict=True):
            self._draw_panel(panel, members, _normalized(line_kw))
        self._label_clock(self.axes_[-1])
        judged = self._judgement("predictions")
        if ax is None and judged:
            self.figure_.suptitle(f"Predictions: {judged}", fontsize="medium")
        return self

    # -- what is drawn -----------------------------------------------------------------

    def _choose(self, columns: str | Sequence[str] | None) -> list[str]:
        """Columns to trace."""
        history = self.history
        if not len(history):
            raise ValueError("The history has no rows: no epoch was finished, so none is drawn.")
        there = [str(c) for c in history.select_dtypes("number") if c != _CLOCK]
        if columns is None:
            names = [c for c in _TITLES if c in there and history[c].notna().any()]
            scales = [c for c in there if c.startswith(_SCALE)]
            if len(history) == 1 or (history[scales].nunique() > 1).any():  # else they are given
                names += scales
            return names or there
        names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
        unknown = [c for c in names if c not in there]
        if unknown or not names:
            what = f"{unknown[0]!r}, which is no trace" if unknown else "nothing"
            raise ValueError(f"columns asks for {what} of the history. It has {there}.")
        return names

    def _phases(self) -> Iterator[tuple[str, NDArray[np.float64], pd.DataFrame]]:
        """Stretches of the history that count epochs anew: name, epochs and rows."""
        history = self.history
        time = history[_CLOCK].to_numpy(float)
        if "phase" not in history:
            yield "", time, history
            return
        phase = history["phase"].fillna("partial_fit").astype(str)
        for name in phase.unique():
            is_it = (phase == name).to_numpy()
            yield name, time[is_it], history[is_it]

    def _judgement(self, name: str) -> str:
        """R-hat and effective size of a quantity in words, if they are known."""
        if self.convergence is None or name not in self.convergence.index:
            return ""
        r_hat, size = self.convergence.loc[name, ["r_hat", "effective_size"]]
        return f"R-hat {r_hat:.2f}, effective size {size:.0f}"

    # -- drawing -----------------------------------------------------------------------

    def _draw_panel(self, ax: Axes, columns: list[str], line_kw: dict[str, Any]) -> None:
        is_scales = columns[0].startswith(_SCALE)
        before = ax.get_ylim() if ax.lines else None
        kept = self.history[columns].iloc[self.n_burn :]
        level = kept.replace([np.inf, -np.inf], np.nan).median().fillna(-np.inf)
        # named in the order of their heights, which is that of the legend
        ranked = list(level.sort_values(ascending=False, kind="stable").index)
        named = columns if not is_scales else ranked[:_MOST_NAMED]
        for order, column in enumerate([*named, *(c for c in columns if c not in named)]):
            style = {"linewidth": 1.2, "color": f"C{order % 10}", "zorder": 2.5}
            if column not in named:
                style |= {"linewidth": 0.7, "color": _BACKGROUND, "zorder": 2.0}
            self.lines_[column] = list(self._draw_lines(ax, column, {**style, **line_kw}))
        is_log = is_scales or columns[0].startswith(_PENALTY)
        if is_log and (self.history[columns].to_numpy(float) > 0).any():
            ax.set_yscale("log")
        ax.margins(x=0 if self.n_burn else 0.01)
        if self.n_burn:
            self._shade(ax, columns, before)
        if "valid_loss" in columns and self.n_epochs is not None:
            self._mark_best(ax)
        _set_ticks(ax)
        is_alone = len(columns) == 1 and not is_scales
        title = _TITLES.get(columns[0], columns[0]) if is_alone else _panel_of(columns[0])
        ax.set_title(title, loc="left", fontsize="medium")
        judged = self._judgement(columns[0]) if is_alone else ""
        ax.set_title(judged, loc="right", fontsize="small", color=_QUIET)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", alpha=0.3, linewidth=0.6)
        lines = [line for column in named for line in self.lines_[column]]
        if self.best_epoch_ is not None and "valid_loss" in columns:
            lines.append(self.best_epoch_)
        if is_scales or len(lines) > 1:
            _add_legend(ax, lines, n_more=len(columns) - len(named))

    def _draw_lines(self, ax: Axes, column: str, style: dict[str, Any]) -> Iterator[Line2D]:
        name = _LABELS.get(column, column.removeprefix(_SCALE))
        for phase, time, rows in self._phases():
            if rows[column].isna().all():
                continue
            look: dict[str, Any] = (
                {"marker": "."} if len(rows) <= _FEW_EPOCHS and not self.n_burn else {}
            )
            if phase == "refit":
                look = {"linestyle": (0, (4, 2)), "alpha": 0.6}
            [line] = ax.plot(time, rows[column].to_numpy(float), **{**look, **style})
            line.set_label(name + _LATER.get(phase, ""))
            yield line

    def _shade(self, ax: Axes, columns: list[str], before: tuple[float, float] | None) -> None:
        """Shade the burn-in, and fit the vertical range to what follows."""
        _, time, _ = next(self._phases())
        last = time[min(self.n_burn, len(time)) - 1]
        self.burn_in_.append(
            ax.axvspan(time[0] - 0.5, last + 0.5, color="0.5", alpha=0.15, linewidth=0, zorder=0)
        )
        values = self.history[columns].to_numpy(float)
        is_log = ax.get_yscale() == "log"
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log10(values) if is_log else values
        kept = values[self.n_burn :][np.isfinite(values[self.n_burn :])]
        if not len(kept) or kept.min() == kept.max():
            return
        far = np.ptp(kept) / 2
        every = values[np.isfinite(values)]
        low = max(every.min(), kept.min() - far)
        high = min(every.max(), kept.max() + far)
        room = 0.06 * (high - low)
        limits = np.array([low - room, high + room])
        limits = 10**limits if is_log else limits
        if before is not None:
            limits = np.array([min(limits[0], before[0]), max(limits[1], before[1])])
        ax.set_ylim(limits[0], limits[1])

    def _mark_best(self, ax: Axes) -> None:
        """Mark the epoch whose weights were kept, on the curve of the validation loss."""
        last = self.history.iloc[-1]
        if pd.isna(last["valid_loss"]) and last.get("phase") != "refit":
            return  # the weights have moved on since, by partial_fit
        _, time, rows = next(self._phases())
        at = time == self.n_epochs
        if not at.any() or np.isnan(rows["valid_loss"].to_numpy(float)[at][0]):
            return
        [self.best_epoch_] = ax.plot(
            time[at],
            rows["valid_loss"].to_numpy(float)[at],
            linestyle="none",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=self.lines_["valid_loss"][0].get_color(),
            label=f"best epoch: {self.n_epochs}",
        )

    def _label_clock(self, ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        left_out = f" (the first {self.n_burn}, shaded, are left out)" if self.n_burn else ""
        ax.set_xlabel(_CLOCK.capitalize() + left_out)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _panel_of(column: str) -> str:
    """Title of the Axes that a column shares with its like."""
    if column.startswith(_SCALE):
        return "Scales of the embeddings"
    if column.startswith(_PENALTY):
        return "Penalties"
    return "Loss" if column in _LABELS else column


def _make_axes(
    ax: Axes | Sequence[Axes] | NDArray[Any] | None, heights: list[float]
) -> NDArray[Any]:
    """One Axes per panel: of a new figure, of Axes that are divided up, or those given."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as missing:
        raise ImportError("TraceDisplay draws with matplotlib: pip install matplotlib") from missing
    from matplotlib.axes import Axes
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    n_panels = len(heights)
    if ax is None:
        _, axes = plt.subplots(
            n_panels,
            sharex=True,
            squeeze=False,
            layout="constrained",
            height_ratios=heights,
            figsize=(7.2, 1.1 + 1.6 * sum(heights)),
        )
        return axes[:, 0]
    if not isinstance(ax, Axes):
        axes = np.ravel(np.asarray(ax, dtype=object))
        if len(axes) != n_panels:
            raise ValueError(f"ax has {len(axes)} Axes, expected {n_panels}, one for each panel.")
        return axes
    if n_panels == 1:
        return np.array([ax], dtype=object)
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            f"ax cannot be divided into {n_panels} panels, as it does not stand in a grid. Make "
            "it by plt.subplots, or pass one Axes for each panel."
        )
    ax.set_axis_off()
    figure = ax.figure
    gap = 0.5 if figure.get_layout_engine() is None else None  # which keeps titles apart
    grid = GridSpecFromSubplotSpec(n_panels, 1, place, hspace=gap, height_ratios=heights)
    first = figure.add_subplot(grid[0])
    others = [figure.add_subplot(grid[i], sharex=first) for i in range(1, n_panels)]
    for panel in [first, *others[:-1]]:
        panel.tick_params(labelbottom=False)
    return np.array([first, *others], dtype=object)


def _normalized(line_kw: dict[str, Any] | None) -> dict[str, Any]:
    """Properties of a line by their full names, so that "c" overrides "color"."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return normalize_kwargs(line_kw or {}, Line2D)


def _set_ticks(ax: Axes) -> None:
    """Put a few ticks on the vertical axis, also within a decade of a logarithmic one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = ax.get_ylim()
    if ax.get_yscale() != "log" or high / low < 10:
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    else:
        subs = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    if ax.get_yscale() == "log":
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())


def _add_legend(ax: Axes, lines: list[Line2D], *, n_more: int) -> None:
    """Name lines beside the Axes, letter by letter: a name may begin with _ or have a $."""
    names = [str(line.get_label()) for line in lines]
    names = [n if len(n) <= _LONGEST_NAME else n[: _LONGEST_NAME - 1] + "…" for n in names]
    handles: list[Any] = list(lines)
    if n_more:
        from matplotlib.lines import Line2D

        handles.append(Line2D([], [], color=_BACKGROUND, linewidth=0.7))
        names.append(f"and {n_more} more")
    legend = ax.legend(
        handles,
        [str(i) for i in range(len(handles))],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        frameon=False,
        fontsize="small",
        handlelength=1.4,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
