"""Traces show what the history holds, and say what is missing."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from sklearn_fm import FieldEncoder, FMRegressor, MFRegressor
from sklearn_fm.inspection import TraceDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

RNG = np.random.RandomState(0)
X = pd.DataFrame({name: RNG.choice(list("abcdefgh"), 300) for name in ("user", "item")})
Y = (X["user"] < "d") * 1.0 + (X["item"] < "e") + 0.3 * RNG.randn(300)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sampled():
    model = MFRegressor(solver="gibbs", n_sweeps=60, n_burn=20, embedding_dim=16, random_state=0)
    return model.fit(X, Y)


@pytest.fixture(scope="module")
def stopped_early():
    params = {"early_stopping": True, "patience": 3, "random_state": 0}
    return FMRegressor(solver="adagrad", max_epochs=60, **params).fit(X, Y)


def make_history(n_fields=2, n_sweeps=30):
    """History of a chain that starts far away."""
    sweep = np.arange(1, n_sweeps + 1)
    history = {"epoch": sweep, "train_loss": 100.0 * (sweep == 1) + 1 + sweep % 2 / 10}
    scales = {f"scale_f{f}": np.full(n_sweeps, 10.0**-f) + sweep / 1e9 for f in range(n_fields)}
    return pd.DataFrame(history | scales)


def names_in_legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# -- solver "gibbs" ----------------------------------------------------------------------------


def test_lines_are_the_history(sampled):
    display = TraceDisplay.from_estimator(sampled)
    scales = {f"scale_{name}" for name in ("user", "item")}
    assert set(display.lines_) == {"train_loss", "noise_precision", *scales}
    for column, (line,) in display.lines_.items():
        assert np.array_equal(line.get_xdata(), sampled.history_["epoch"])
        assert np.array_equal(line.get_ydata(), sampled.history_[column])
    assert display.axes_.shape == (3,)
    assert list(display.figure_.axes) == list(display.axes_)
    assert [display.lines_[c][0].axes for c in ("train_loss", "noise_precision", "scale_user")] == [
        *display.axes_
    ]
    assert display.axes_[2].get_yscale() == "log"
    assert sorted(names_in_legend(display.axes_[2])) == ["item", "user"]
    assert display.axes_[2].get_xlabel().startswith("Epoch")
    assert display.best_epoch_ is None
    display.figure_.canvas.draw()


def test_titles_tell_convergence(sampled):
    display = TraceDisplay.from_estimator(sampled)
    for ax, name in zip(display.axes_, ["train_loss", "noise_precision"], strict=False):
        r_hat, size = sampled.convergence_.loc[name]
        assert ax.get_title("right") == f"R-hat {r_hat:.2f}, effective size {size:.0f}"
    r_hat, size = sampled.convergence_.loc["predictions"]
    title = display.figure_.get_suptitle()
    assert title == f"Predictions: R-hat {r_hat:.2f}, effective size {size:.0f}"
    silent = TraceDisplay(history=sampled.history_).plot()
    assert [ax.get_title("right") for ax in silent.axes_] == ["", "", ""]
    assert silent.figure_.get_suptitle() == ""


def test_burn_in_is_shaded_and_may_leave_the_axes():
    """The rest is seen whole, however far away the chain started."""
    history = make_history()
    display = TraceDisplay(history=history, n_burn=3).plot()
    assert len(display.burn_in_) == len(display.axes_) == 2
    for ax, region in zip(display.axes_, display.burn_in_, strict=True):
        assert region.axes is ax
        assert (region.get_x(), region.get_x() + region.get_width()) == (0.5, 3.5)
    low, high = display.axes_[0].get_ylim()
    assert low < 1
    assert 1.1 < high < 1.5
    assert "first 3" in display.axes_[-1].get_xlabel()
    whole = TraceDisplay(history=history).plot()
    assert whole.burn_in_ == []
    assert whole.axes_[0].get_ylim()[1] > 100


def test_burn_in_of_the_estimator_is_shaded(sampled):
    display = TraceDisplay.from_estimator(sampled)
    assert [r.get_x() + r.get_width() for r in display.burn_in_] == [sampled.n_burn_ + 0.5] * 3
    assert sampled.n_burn_ == 20


def test_a_chain_cut_short_in_its_burn_in():
    display = TraceDisplay(history=make_history(n_sweeps=5), n_burn=8).plot()
    assert display.burn_in_[0].get_x() + display.burn_in_[0].get_width() == 5.5
    display.figure_.canvas.draw()


def test_ten_fields_are_named():
    """Those of the largest scales, from top to bottom; the others are drawn in grey."""
    display = TraceDisplay(history=make_history(n_fields=13)).plot()
    ax = display.axes_[1]
    assert len(ax.lines) == 13
    assert names_in_legend(ax) == [*(f"f{f}" for f in range(10)), "and 3 more"]
    named = {display.lines_[f"scale_f{f}"][0].get_color() for f in range(10)}
    others = {display.lines_[f"scale_f{f}"][0].get_color() for f in range(10, 13)}
    assert len(named) == 10
    assert len(others) == 1
    assert not named & others


def test_field_names_are_taken_by_the_letter():
    """matplotlib leaves out names that begin with _, and reads $ as mathematics."""
    history = make_history(0)
    for name in ("_id", "a_$b$c^", "x" * 40):
        history[f"scale_{name}"] = 1 + history["epoch"]
    display = TraceDisplay(history=history).plot()
    assert names_in_legend(display.axes_[1]) == ["_id", "a_$b$c^", "x" * 23 + "…"]
    display.figure_.canvas.draw()


def test_scales_that_are_given_are_no_trace():
    history = make_history().assign(scale_f0=1.0, scale_f1=0.5)
    assert list(TraceDisplay(history=history).plot().lines_) == ["train_loss"]
    asked = TraceDisplay(history=history, n_burn=2).plot(columns=["scale_f0"])
    assert list(asked.lines_) == ["scale_f0"]
    asked.figure_.canvas.draw()


# -- other solvers -----------------------------------------------------------------------------


def test_losses_by_epoch_and_the_best_epoch(stopped_early):
    display = TraceDisplay.from_estimator(stopped_early)
    history = stopped_early.history_
    assert set(display.lines_) == {"train_loss", "valid_loss"}
    assert len(display.axes_) == 1
    search, refit = (history[history["phase"] == phase] for phase in ("search", "refit"))
    for line, rows in zip(display.lines_["train_loss"], (search, refit), strict=True):
        assert np.array_equal(line.get_xdata(), rows["epoch"])
        assert np.array_equal(line.get_ydata(), rows["train_loss"])
    (line,) = display.lines_["valid_loss"]
    assert np.array_equal(line.get_ydata(), search["valid_loss"])
    assert display.best_epoch_.get_xdata() == [stopped_early.n_epochs_]
    assert display.best_epoch_.get_ydata() == [search["valid_loss"].min()]
    assert names_in_legend(display.axes_[0]) == [
        "training",
        "training, all rows",
        "validation",
        f"best epoch: {stopped_early.n_epochs_}",
    ]
    assert display.axes_[0].get_xlabel() == "Epoch"


def test_no_best_epoch_after_partial_fit(stopped_early):
    """The weights are no longer those of that epoch."""
    model = clone(stopped_early).fit(X, Y).partial_fit(X, Y)
    display = TraceDisplay.from_estimator(model)
    assert display.best_epoch_ is None
    assert [len(line.get_xdata()) for line in display.lines_["train_loss"]][-1] == 1


@pytest.mark.parametrize(
    "params",
    [{"solver": "lbfgs"}, {"solver": "als", "early_stopping": True}, {"solver": "adagrad"}],
    ids=lambda params: params["solver"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_all_solvers(params):
    pipeline = make_pipeline(FieldEncoder(), FMRegressor(random_state=0, max_epochs=5, **params))
    display = TraceDisplay.from_estimator(pipeline.fit(X, Y))
    history = pipeline[-1].history_
    drawn = np.concatenate([line.get_ydata() for line in display.lines_["train_loss"]])
    assert np.array_equal(drawn, history["train_loss"])
    watched = "valid_loss" in history and history["valid_loss"].notna().any()
    assert ("valid_loss" in display.lines_) == watched
    display.figure_.canvas.draw()


# -- where and what ----------------------------------------------------------------------------


def test_columns_are_chosen(stopped_early):
    display = TraceDisplay.from_estimator(
        stopped_early, columns=["l2_embedding", "seconds"], line_kw={"c": "black", "lw": 3}
    )
    assert list(display.lines_) == ["l2_embedding", "seconds"]
    assert [ax.get_title("left") for ax in display.axes_] == ["l2_embedding", "seconds"]
    line = display.lines_["seconds"][0]
    assert (line.get_color(), line.get_linewidth()) == ("black", 3)
    alone = display.plot(columns="valid_loss")
    assert alone is display
    assert list(alone.lines_) == ["valid_loss"]
    assert alone.axes_[0].get_title("left") == "Validation loss"


def test_own_axes():
    history = make_history()
    figure, (left, right) = plt.subplots(1, 2)
    one = TraceDisplay(history=history).plot(left, columns="train_loss")
    assert one.axes_.tolist() == [left]
    assert one.figure_ is figure
    divided = TraceDisplay(history=history).plot(right)
    assert len(divided.axes_) == 2
    assert divided.figure_ is figure
    assert not right.axison
    place = right.get_position()
    for ax in divided.axes_:
        assert place.x0 <= ax.get_position().x0 < ax.get_position().x1 <= place.x1
    with pytest.raises(ValueError, match="does not stand in a grid"):
        TraceDisplay(history=history).plot(plt.figure().add_axes((0, 0, 1, 1)))


def test_chains_over_each_other():
    """The vertical range fits both."""
    history = make_history()
    first = TraceDisplay(history=history, n_burn=3).plot()
    second = TraceDisplay(history=history.assign(train_loss=history["train_loss"] + 5), n_burn=3)
    second.plot(first.axes_)
    assert list(second.axes_) == list(first.axes_)
    assert len(first.axes_[0].lines) == 2
    low, high = first.axes_[0].get_ylim()
    assert low < 1
    assert high > 6.1
    with pytest.raises(ValueError, match="ax has 2 Axes, expected 1, one for each panel"):
        second.plot(first.axes_, columns=["train_loss"])


# -- errors ------------------------------------------------------------------------------------


def test_not_fitted():
    with pytest.raises(NotFittedError, match="MFRegressor instance is not fitted yet"):
        TraceDisplay.from_estimator(MFRegressor())


def test_not_ours():
    with pytest.raises(TypeError, match="which Ridge does not have"):
        TraceDisplay.from_estimator(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]))


def test_unknown_columns(sampled):
    with pytest.raises(ValueError, match=r"asks for 'valid_loss', which is no .* \['train_loss', "):
        TraceDisplay.from_estimator(sampled, columns=["train_loss", "valid_loss"])
    with pytest.raises(ValueError, match="asks for 'epoch', which is no trace"):
        TraceDisplay.from_estimator(sampled, columns="epoch")
    with pytest.raises(ValueError, match="asks for nothing"):
        TraceDisplay.from_estimator(sampled, columns=[])


def test_no_epochs():
    with pytest.raises(ValueError, match="no rows: no epoch was finished"):
        TraceDisplay(history=pd.DataFrame({"epoch": [], "train_loss": []})).plot()


def test_hint_where_matplotlib_is_missing(monkeypatch):
    display = TraceDisplay(history=make_history())
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        display.plot()
