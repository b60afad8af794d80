"""n_jobs and determinism: the same bits in any thread, process or company; and Ctrl-C."""

import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from public import each_estimator
from sklearn.base import clone

from sklearn_fm import (
    DeepFMClassifier,
    FieldArray,
    FieldSchema,
    FMClassifier,
)
from sklearn_fm.models import FM
from sklearn_fm.training import fitting, net, prediction
from sklearn_fm.training.threads import count_threads

SCHEMA = FieldSchema.from_sizes([40, 30, 9])


def make_rows(n_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    X = FieldArray(np.column_stack([rng.integers(0, n - 1, n_rows) for n in (40, 30, 9)]), SCHEMA)
    y = (np.asarray(X)[:, 0] % 2 == np.asarray(X)[:, 2] % 2).astype(int)
    return X, np.where(rng.random(n_rows) < 0.1, 1 - y, y)


def fitted(cls=FMClassifier, **params):
    X, y = make_rows()
    defaults = {"solver": "adagrad", "max_epochs": 4, "batch_size": 32, "random_state": 0}
    defaults["embedding_dim"] = 16  # one for all, as each has kernels of its own
    return cls(**{**defaults, **params}).fit(X, y)


def bits(model):
    return {k: v.numpy().copy() for k, v in model.module_.state_dict().items()}


def assert_same_bits(a, b):
    a, b = bits(a), bits(b)
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@each_estimator
def test_the_same_bits_for_any_n_jobs_and_again(cls):
    X, _ = make_rows()
    one = fitted(cls, n_jobs=1)
    predict = "predict_proba" if hasattr(one, "predict_proba") else "predict"
    for n_jobs in (1, 2, -1, None):
        other = fitted(cls, n_jobs=n_jobs)
        assert_same_bits(one, other)
        np.testing.assert_array_equal(getattr(one, predict)(X), getattr(other, predict)(X))


@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier])
def test_the_same_bits_in_a_loky_worker(cls):
    here = fitted(cls, n_jobs=2)
    X, y = make_rows()
    for there in Parallel(n_jobs=2, backend="loky")(
        delayed(clone(here).set_params(n_jobs=n_jobs).fit)(X, y) for n_jobs in (None, 2)
    ):
        assert_same_bits(here, there)


def test_fits_in_concurrent_threads_do_not_meet():
    here = [fitted(random_state=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        there = list(pool.map(lambda seed: fitted(random_state=seed, n_jobs=2), range(4)))
    for a, b in zip(here, there, strict=True):
        assert_same_bits(a, b)


class DroppingFM(FM):
    """A head as a user may write it: torch's layer, torch's function, torch's numbers."""

    def __init__(self, schema, embedding_dim=16, **options):
        super().__init__(schema, embedding_dim, **options)
        self.drop = torch.nn.Dropout(0.3)

    def head(self, parts):
        pairs = torch.nn.functional.dropout(self.drop(parts.pairs), 0.2, self.training)
        if self.training:
            pairs = pairs + 0.01 * torch.randn_like(pairs)
        return super().head(parts._replace(pairs=pairs))


class DroppingFMClassifier(FMClassifier):
    _model = DroppingFM


@pytest.mark.parametrize("gradient_clip", [None, 10.0])  # the compiled step and torch's
@pytest.mark.parametrize("cls", [DeepFMClassifier, DroppingFMClassifier])
def test_dropout_in_concurrent_threads(cls, gradient_clip):
    """All threads drew from torch's global generator, so that probabilities were .04 off.

    Nor do fits move it, or read it: other threads, such as a loop of the user's, draw from it.
    """
    params = {"max_epochs": 12, "gradient_clip": gradient_clip, "early_stopping": True}
    if cls is DeepFMClassifier:
        params |= {"dropout": 0.3, "hidden_layer_sizes": (32,)}
    torch.manual_seed(1)
    alone = [fitted(cls, random_state=seed, **params) for seed in range(4)]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda seed: fitted(cls, random_state=seed, **params), range(4)))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(alone, beside, strict=True):
        assert_same_bits(a, b)
    other = FMClassifier if cls is DroppingFMClassifier else cls
    calm = fitted(other, random_state=0, **params | ({"dropout": 0.0} if other is cls else {}))
    assert not np.array_equal(bits(calm)["linear.weight"], bits(alone[0])["linear.weight"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("cls", [FMClassifier, DeepFMClassifier])
def test_a_forked_child_fits_and_predicts(cls):
    """After the parent has used threads; a child that hangs is killed."""
    X, _ = make_rows()
    parent = fitted(cls, n_jobs=2)
    expected = parent.predict_proba(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        child = os.fork()
    if child == 0:
        same = np.array_equal(fitted(cls, n_jobs=2).predict_proba(X), expected)
        same &= np.array_equal(parent.predict_proba(X), expected)
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hung")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
@pytest.mark.parametrize("deterministic", [True, False])
def test_ctrl_c_while_threads_are_in_kernels(deterministic):
    X, y = make_rows(20_000)
    model = FMClassifier(
        solver="adagrad",
        early_stopping=False,
        max_epochs=10_000,
        n_jobs=2,
        deterministic=deterministic,
        random_state=0,
    )
    fitted(n_jobs=2)  # compiles
    n_threads = threading.active_count()
    # Time of this process: a busy neighbour must not let the alarm ring before the training.
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert np.isfinite(model.predict_proba(X)).all()
    assert len(model.history_) < 10_000
    assert_same_bits(fitted(n_jobs=2), fitted())
    assert threading.active_count() <= n_threads + 2


def test_hogwild_is_as_good():
    X, y = make_rows(20_000)
    X_test, y_test = make_rows(20_000, seed=1)
    scores = [
        FMClassifier(n_jobs=2, deterministic=deterministic, random_state=0)
        .fit(X, y)
        .score(X_test, y_test)
        for deterministic in (True, False)
    ]
    assert scores[0] > 0.85
    assert scores[1] == pytest.approx(scores[0], abs=0.01)


def test_meaning_of_n_jobs():
    cores = joblib.cpu_count()
    assert count_threads(None) == count_threads(1) == 1
    assert count_threads(-1) == cores
    assert count_threads(1000) == cores
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert count_threads(None) == min(2, cores)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        fitted(n_jobs=0)


def test_inner_threads_fall_to_one_in_workers():
    inside = Parallel(n_jobs=2, backend="loky")(delayed(count_threads)(n) for n in (None, -1, 2))
    assert inside[:2] == [1, 1]
    assert inside[2] == min(2, joblib.cpu_count())  # who asks gets


@each_estimator
def test_without_numba_the_same_to_rounding(cls, monkeypatch):
    X, _ = make_rows()
    compiled = fitted(cls)
    for module in (net, prediction):
        monkeypatch.setattr(module, "HAS_KERNELS", False)
    by_torch = fitted(cls)
    assert len(by_torch.history_) == len(compiled.history_)
    np.testing.assert_allclose(by_torch.predict(X), compiled.predict(X), rtol=1e-3, atol=1e-4)


def test_l1_makes_exact_zeros():
    """More with more of it; none without; and "auto" knows who can."""
    zeros = []
    for l1_linear in (0.0, 3.0, 30.0):
        model = fitted(solver="ftrl", l1_linear=l1_linear, max_epochs=20, early_stopping=False)
        seen = np.unique(make_rows()[0].indices)
        zeros.append(int((model.module_.linear.weight.detach().numpy()[seen] == 0).sum()))
    assert zeros[0] == 0 < zeros[1] < zeros[2]
    assert fitted(solver="auto", l1_linear=1.0).solver_ == "ftrl"
    with pytest.raises(ValueError, match=r"l1_linear=1\.0 needs solver='ftrl'"):
        fitted(l1_linear=1.0)
    with pytest.raises(ValueError, match="learning_rate_schedule must be 'constant'"):
        fitted(solver="ftrl", learning_rate_schedule="one_cycle")


def test_large_tables_are_not_copied(monkeypatch):
    """The best epoch is found again by repeating it; the result is the same."""
    with_copies = fitted(early_stopping=True)
    monkeypatch.setattr(fitting, "_CHEAP_COPY", 0)
    assert_same_bits(with_copies, fitted(early_stopping=True))
