"""Callbacks of skorch: each one of the installed version does what it says, or is refused by name.

Ours, such as early stopping, are tested in ``test_fitting``.
"""

import json
import signal
import sys
from collections import defaultdict
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import skorch.callbacks
import torch
from sklearn.metrics import f1_score, make_scorer, mean_absolute_error, roc_auc_score
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, LRScheduler

from sklearn_fm import DeepFMRegressor, FieldArray, FieldSchema, FMClassifier, FMRegressor

SCHEMA = FieldSchema.from_sizes([12, 9])
RNG = np.random.RandomState(0)
X = FieldArray(np.column_stack([RNG.randint(0, 11, 300), RNG.randint(0, 8, 300)]), SCHEMA)
RAW = 1.5 * RNG.randn(11)[X[:, 0]] + RNG.randn(8)[X[:, 1]] + 20
NOISE = 3 * RNG.randn(300)
Y = np.where(RAW > 20, "yes", "no")
THREE = np.digitize(RAW, [19, 21])
TRAIN, WATCHED = slice(0, 220), slice(220, None)
EVAL = (X[WATCHED], RAW[WATCHED])
PARAMS = {"solver": "adagrad", "max_epochs": 6, "batch_size": 32, "random_state": 0, "patience": 9}


def fitted(*callbacks, cls=FMRegressor, y=RAW, **params):
    model = cls(**{**PARAMS, **params}, callbacks=list(callbacks))
    return model.fit(X[TRAIN], y[TRAIN], eval_set=(X[WATCHED], y[WATCHED]))


# -- those that work, one by one: what each is shown to do -------------------------------------


def works_callback(tmp_path, capsys, monkeypatch):
    class Recorder(Callback):
        losses = ()

        def on_batch_end(self, net, loss=None, **kwargs):
            self.losses += (float(loss),)

    recorder = Recorder()
    fitted(recorder)
    assert len(recorder.losses) == 6 * 7


def works_epoch_timer(tmp_path, capsys, monkeypatch):
    timer = skorch.callbacks.EpochTimer()
    fitted(timer)
    assert timer.epoch_start_time_ is not None


def works_epoch_scoring(tmp_path, capsys, monkeypatch):
    """On the rows watched the last score is that of the model returned."""
    scores = [
        EpochScoring("roc_auc", lower_is_better=False),
        EpochScoring("neg_log_loss", lower_is_better=False, on_train=True, name="train"),
        EpochScoring(make_scorer(f1_score), lower_is_better=False, use_caching=False, name="f1"),
        EpochScoring(None, lower_is_better=False),
        EpochScoring(lambda net, X, y: np.mean(net.predict(X) == y), name="own"),
    ]
    model = fitted(*scores, cls=FMClassifier, y=Y, early_stopping=False)
    last = model.history_.iloc[-1]
    probability, predicted = model.predict_proba(X), model.predict(X)
    correct = Y[WATCHED] == predicted[WATCHED]
    assert last.roc_auc == pytest.approx(roc_auc_score(Y[WATCHED], probability[WATCHED, 1]))
    likely = np.where(Y == "yes", probability[:, 1], probability[:, 0])[TRAIN]
    assert last.train == pytest.approx(np.log(likely).mean(), rel=1e-5)
    assert last.f1 == f1_score(Y[WATCHED], predicted[WATCHED], pos_label="yes")
    assert last.score == last.own == correct.mean()
    model = fitted(EpochScoring("neg_mean_absolute_error"), early_stopping=False)
    error = mean_absolute_error(RAW[WATCHED], model.predict(X[WATCHED]))
    assert -model.history_.neg_mean_absolute_error.iloc[-1] == pytest.approx(error, rel=1e-5)
    model = fitted(EpochScoring("roc_auc_ovr"), cls=FMClassifier, y=THREE, early_stopping=False)
    auc = roc_auc_score(THREE[WATCHED], model.predict_proba(X[WATCHED]), multi_class="ovr")
    assert model.history_.roc_auc_ovr.iloc[-1] == pytest.approx(auc)


def works_passthrough_scoring(tmp_path, capsys, monkeypatch):
    class Weights(Callback):
        def on_batch_end(self, net, batch=None, **kwargs):
            net.history.record_batch("rows", float(len(batch.target)))

    score = skorch.callbacks.PassthroughScoring("rows", on_train=True)
    model = fitted(Weights(), score)
    assert model.history_.rows.iloc[-1] == pytest.approx((6 * 32**2 + 28**2) / 220)


def works_checkpoint(tmp_path, capsys, monkeypatch):
    """Under early stopping the file holds the weights that are kept."""
    names = {"f_params": "params.pt", "dirname": str(tmp_path)}
    model = fitted(Checkpoint(**names), learning_rate=1.0, y=RAW + NOISE, patience=2, max_epochs=30)
    assert model.n_epochs_ < len(model.history_)
    saved = torch.load(tmp_path / "params.pt")
    for name, value in model.module_.state_dict().items():
        assert torch.equal(saved[name], value)
    assert list(model.history_.epoch[model.history_.event_cp])[-1] == model.n_epochs_
    assert len(json.loads((tmp_path / "history.json").read_text())) == model.n_epochs_
    assert {"optimizer.pt", "criterion.pt"} < {path.name for path in tmp_path.iterdir()}
    every = Checkpoint(monitor=None, f_params="{last_epoch[epoch]}.pt", dirname=str(tmp_path))
    fitted(every)
    assert (tmp_path / "6.pt").exists()


def works_train_end_checkpoint(tmp_path, capsys, monkeypatch):
    """Also after a refit: weights as of the estimator."""
    save = skorch.callbacks.TrainEndCheckpoint(dirname=str(tmp_path))
    model = FMRegressor(**PARAMS, callbacks=[save], early_stopping=True).fit(X, RAW)
    assert set(model.history_.phase) == {"search", "refit"}
    saved = torch.load(tmp_path / "train_end_params.pt")
    for name, value in model.module_.state_dict().items():
        assert torch.equal(saved[name], value)


def works_early_stopping(tmp_path, capsys, monkeypatch):
    stop = EarlyStopping("valid_loss", patience=2, threshold=0.9)
    assert len(fitted(stop).history_) == 3
    assert "has not improved in the last 2 epochs" in capsys.readouterr().out


def works_lr_scheduler(tmp_path, capsys, monkeypatch):
    """One rate for the dense layers and one for the tables, in the refit as in the search."""
    schedule = LRScheduler(
        policy="LambdaLR", lr_lambda=[lambda epoch: 0.0, lambda epoch: 0.9**epoch]
    )
    params = {**PARAMS, "hidden_layer_sizes": (8,), "early_stopping": True}
    model = DeepFMRegressor(**params, callbacks=[schedule]).fit(X, RAW)
    search, refit = (model.history_[model.history_.phase == name] for name in ("search", "refit"))
    assert np.allclose(search.learning_rate, search.learning_rate[0] * 0.9 ** np.arange(6))
    assert len(refit) > 1
    assert np.array_equal(refit.learning_rate, search.learning_rate[: len(refit)])
    start = DeepFMRegressor(**{**params, "max_epochs": 0}).fit(X, RAW)
    for name, value in start.module_.mlp.state_dict().items():
        assert torch.equal(model.module_.mlp.state_dict()[name], value)
    assert not np.array_equal(model.predict(X), start.predict(X))


def works_warm_restart_lr(tmp_path, capsys, monkeypatch):
    """It is no callback but a policy."""
    policy = skorch.callbacks.WarmRestartLR
    model = fitted(LRScheduler(policy=policy, min_lr=0.01, max_lr=0.4, base_period=3))
    rates = model.history_.learning_rate
    assert rates[0] == rates[4] == 0.4
    assert rates[0] > rates[1] > rates[2] > rates[3]


def works_print_log(tmp_path, capsys, monkeypatch):
    fitted(skorch.callbacks.PrintLog())
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[0] == "epoch"
    assert len(printed.splitlines()) == 8


def works_progress_bar(tmp_path, capsys, monkeypatch):
    bar = skorch.callbacks.ProgressBar(postfix_keys=["train_loss"])
    fitted(bar)
    assert bar.pbar_.n == 7
    assert "train_loss=" in bar.pbar_.postfix
    assert capsys.readouterr().err


class Log(dict):
    """What loggers write to, whatever the methods are called."""

    def __init__(self):
        super().__init__()
        self.scalars = defaultdict(list)
        self.calls = []

    def log(self, values):
        for name, value in values.items():
            self.scalars[name].append(value)

    def log_metric(self, run_id, name, value, step):
        self.scalars[name].append(value)

    def log_scalar(self, name, value, step=None):
        self.scalars[name].append(value)

    def add_scalar(self, tag, scalar_value, global_step):
        self.scalars[tag].append(scalar_value)

    def append(self, value):
        self.calls.append(value)

    def __missing__(self, key):
        self[key] = Log()
        return self[key]

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, *args))


def works_tensor_board(tmp_path, capsys, monkeypatch):
    log = Log()
    history = fitted(skorch.callbacks.TensorBoard(log)).history_
    assert log.scalars["Loss/valid_loss"] == list(history.valid_loss)
    assert log.calls == [("close",)]


def works_sacred_logger(tmp_path, capsys, monkeypatch):
    log = Log()
    fitted(skorch.callbacks.SacredLogger(log, log_on_batch_end=True))
    assert len(log.scalars["train_loss_batch"]) == 6 * 7
    assert len(log.scalars["train_loss_epoch"]) == 6


def works_wandb_logger(tmp_path, capsys, monkeypatch):
    log = Log()
    log.dir = tmp_path
    history = fitted(skorch.callbacks.WandbLogger(log)).history_
    assert log.scalars["valid_loss"] == list(history.valid_loss)
    assert (tmp_path / "best_model.pth").exists()


def works_mlflow_logger(tmp_path, capsys, monkeypatch):
    log, run = Log(), SimpleNamespace(info=SimpleNamespace(run_id=1))
    history = fitted(skorch.callbacks.MlflowLogger(run, log)).history_
    assert log.scalars["train_loss"] == list(history.train_loss)
    assert [name for name, *_ in log.calls] == ["log_artifact"] * 4 + ["set_terminated"]


def works_neptune_logger(tmp_path, capsys, monkeypatch):
    for name in ("neptune", "neptune.types", "neptune.handler"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    text = SimpleNamespace(from_content=lambda content, extension: content)
    monkeypatch.setattr(sys.modules["neptune.types"], "File", text, raising=False)
    monkeypatch.setattr(sys.modules["neptune.handler"], "Handler", int, raising=False)
    log = Log()
    history = fitted(skorch.callbacks.NeptuneLogger(log), learning_rate=0.07).history_
    written = log["training"]
    assert written["train"]["epoch"]["loss"].calls == list(history.train_loss)
    assert written["config/lr"] == 0.07


WORKS = {
    name.removeprefix("works_").replace("_", ""): check
    for name, check in dict(globals()).items()
    if name.startswith("works_")
}
REFUSED = {
    "BatchScoring": (lambda cls: cls("r2"), "EpochScoring scores all rows"),
    "Freezer": (lambda cls: cls("*"), "freeze_pretrained"),
    "GradientNormClipping": (lambda cls: cls(1e-9), "gradient_clip"),
    "Initializer": (lambda cls: cls("*", torch.nn.init.zeros_), "init_scale and pretrained"),
    "InputShapeSetter": (lambda cls: cls(), "schema"),
    "LoadInitState": (lambda cls: cls(Checkpoint()), "warm_start=True"),
    "ParamMapper": (lambda cls: cls("*"), "freeze_pretrained"),
    "Unfreezer": (lambda cls: cls("*"), "freeze_pretrained"),
}


@pytest.mark.parametrize("name", sorted(skorch.callbacks.__all__))
def test_every_callback_of_skorch(name, tmp_path, capsys, monkeypatch):
    """Many were accepted and ignored, or died inside skorch."""
    if name in REFUSED:
        make, instead = REFUSED[name]
        with pytest.raises(ValueError, match=f"callbacks holds {name}, which .*{instead}"):
            fitted(make(getattr(skorch.callbacks, name)))
    else:
        WORKS[name.lower()](tmp_path, capsys, monkeypatch)


class Waits(Callback):
    def on_grad_computed(self, net, named_parameters, **kwargs):
        raise AssertionError


@pytest.mark.parametrize(
    ("callback", "params", "message"),
    [
        (Waits(), {}, "Waits, which waits for on_grad_computed.*gradient_clip"),
        (skorch.callbacks.PassthroughScoring("x"), {}, "EpochScoring does that; or pass on_train"),
        (LRScheduler(), {"solver": "ftrl"}, "solver='ftrl' weighs the gradients.*Take solver="),
        (Checkpoint(f_pickle="net.pkl"), {}, "Pickle the estimator after fit"),
        (Checkpoint(load_best=True), {}, "early_stopping already keeps the weights"),
        (EarlyStopping(load_best=True), {"early_stopping": False}, "early_stopping=True keeps"),
        (skorch.callbacks.EpochTimer, {}, "EpochTimer, which is a class. Pass an instance"),
    ],
)
def test_what_would_be_ignored_is_refused_by_name(callback, params, message):
    with pytest.raises(ValueError, match=message):
        fitted(callback, **params)


@pytest.mark.parametrize(
    "callback",
    [
        EpochScoring("r2"),
        Checkpoint(),
        EarlyStopping(),
        LRScheduler("ReduceLROnPlateau", monitor="valid_loss"),
        skorch.callbacks.WandbLogger(Log()),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_a_callback_that_needs_rows_to_watch_says_so(callback):
    """They were silent, or failed for a missing key of skorch's history."""
    model = FMRegressor(**PARAMS, callbacks=[callback], early_stopping=False)
    with pytest.raises(ValueError, match=r"there are none\. Pass an eval_set, or early_stopping"):
        model.fit(X, RAW)


def test_two_callbacks_of_a_kind():
    model = fitted(EpochScoring("r2"), EpochScoring("neg_max_error"), ("keep_best", Callback()))
    assert {"r2", "neg_max_error"} < set(model.history_)


# -- Ctrl-C ------------------------------------------------------------------------------------


@pytest.fixture
def press():
    """Press Ctrl-C. Python leaves it ignored where the shell did, as for ``nohup`` and ``&``."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


class Pressed(Callback):
    """Ctrl-C in the third epoch, within one of its events."""

    def __init__(self, event):
        self.event = event

    def on_epoch_begin(self, net, **kwargs):
        if self.event == "on_epoch_begin" and len(net.history) == 3:
            signal.raise_signal(signal.SIGINT)

    def on_batch_end(self, net, **kwargs):
        if self.event == "on_batch_end" and len(net.history) == 3:
            signal.raise_signal(signal.SIGINT)

    def on_epoch_end(self, net, **kwargs):
        if self.event == "on_epoch_end" and len(net.history) == 3:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("press")
@pytest.mark.parametrize("event", ["on_epoch_end", "on_epoch_begin", "on_batch_end"])
def test_ctrl_c_in_a_callback_goes_on_to_the_caller(event):
    """It was taken for skorch's way to stop early by the name of the function, and swallowed."""
    model = FMRegressor(**PARAMS, callbacks=[Pressed(event)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, RAW)
    assert len(model.history_) in (2, 3)
    assert np.isfinite(model.predict(X)).all()


def test_ctrl_c_in_skorch_s_own_callbacks(press):
    """Also within the one that stops early by raising the same exception."""
    stop = EarlyStopping("train_loss", patience=1, threshold=0.9, sink=lambda text: press())
    with pytest.raises(KeyboardInterrupt):
        FMRegressor(**PARAMS, callbacks=[stop]).fit(X, RAW)

    class Subclass(EarlyStopping):
        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net, **kwargs)

    stop = Subclass("train_loss", patience=1, threshold=0.9, sink=lambda text: None)
    assert len(FMRegressor(**PARAMS, callbacks=[stop]).fit(X, RAW).history_) == 2


def test_ctrl_c_at_the_end_of_the_training_keeps_the_weights(press):
    class Slow(Callback):
        def on_train_end(self, net, **kwargs):
            press()

    model = FMRegressor(**PARAMS, callbacks=[Slow()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, RAW)
    assert np.array_equal(model.predict(X), FMRegressor(**PARAMS).fit(X, RAW).predict(X))
