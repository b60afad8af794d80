"""Serving drill: threads predict at full speed while another fits, grows, changes and pickles.

A script, so that a crash ends a process of its own: `python tests/drill.py FMClassifier 60` drills
for a minute. Every prediction must be, to the last bit, that of a model that was published by
then, and so must codes be if the class is FieldEncoder. It measures nothing.
"""

import argparse
import pickle
import threading
import time
import warnings

import numpy as np
import pandas as pd
from public import takes_solver
from sklearn.exceptions import ConvergenceWarning

import sklearn_fm
from sklearn_fm import FieldEncoder


def chunk(day, n_rows=400):
    """A table with ids that no day before had, and targets, 0 or 1."""
    rng = np.random.RandomState(day)
    days, users = rng.randint(0, day + 1, n_rows), rng.randint(0, 60, n_rows)
    names = [f"day {d} user {u}" for d, u in zip(days, users, strict=True)]
    X = pd.DataFrame({"user": names, "item": rng.randint(0, 9, n_rows).astype(str)})
    return X, rng.randint(0, 2, n_rows)


N_DAYS = 25
ROWS = pd.concat([chunk(day)[0].head(12) for day in range(N_DAYS)])


def answer(model, rows=ROWS):
    """All that a model says of some rows, as bytes; of an encoder, codes and what they mean."""
    if isinstance(model, FieldEncoder):
        codes = model.transform(rows.assign(n=7.0))
        return codes.tobytes(), codes.schema
    said = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
    assert np.isfinite(said).all(), said
    return said.tobytes()


def answer_for_one(model):
    """Likewise of one row; to ask for `module_` is to build it, if nobody has yet."""
    n_rows = 1 if isinstance(model, FieldEncoder) else model.module_.bias.numel()
    return answer(model, ROWS[:n_rows])


def copied(model):
    return pickle.loads(pickle.dumps(model))


READERS = {
    "all rows": answer,
    "one row": answer_for_one,
    "pickled": lambda model: answer(copied(model)),
}


def steps(cls, holder, day):
    """Changes of the model that is served; each is published when it is over."""
    if cls is FieldEncoder:
        yield from steps_of_encoder(holder, day)
        return
    step = {"solver": "adagrad", "max_epochs": 2, "early_stopping": False}
    X, y = chunk(day)
    yield lambda: holder[0].set_params(**step, warm_start=False).fit(*chunk(0))
    yield lambda: holder[0].partial_fit(X, y)
    changes = {"n_jobs": 2, "random_state": day, "l2_embedding": 3.0, "encoder": FieldEncoder()}
    yield lambda: holder[0].set_params(**changes, embedding_dim=8, solver="adam")
    yield lambda: holder[0].set_params(embedding_dim=16, solver="adagrad").partial_fit(X, y)
    yield lambda: holder.__setitem__(0, copied(holder[0]))  # its module is not built yet
    reset = {"n_jobs": None, "l2_embedding": "auto", "encoder": None, "warm_start": True}
    yield lambda: holder[0].set_params(**reset).fit(X, y)
    yield lambda: holder[0].set_params(solver="lbfgs").fit(X, y)
    if takes_solver(cls, "gibbs") and not getattr(holder[0], "hidden_layer_sizes", ()):
        draw = {"solver": "gibbs", "n_sweeps": 8}
        yield lambda: holder[0].set_params(**draw, warm_start=False).fit(X, y)
        yield lambda: holder[0].set_params(warm_start=True).fit(X, y)
        yield lambda: holder[0].refit_categories(X.head(50), y[:50], "user")
        yield lambda: holder.__setitem__(0, copied(holder[0]))


def steps_of_encoder(holder, day):
    """Likewise of an encoder; tables have a column more, a column less, and another order."""
    X, _ = chunk(day)
    first, _ = chunk(0)
    yield lambda: holder[0].set_params(min_frequency=2).fit(first)
    yield lambda: holder[0].partial_fit(X)
    yield lambda: holder[0].partial_fit(X, keep_codes=False)
    yield lambda: holder[0].set_params(min_frequency=None).fit_transform(X[["item", "user"]])
    yield lambda: holder[0].fit(first.assign(n=np.arange(len(first)) / 3)[["user", "n", "item"]])
    yield lambda: holder[0].fit(first[["item"]])
    yield lambda: holder.__setitem__(0, copied(holder[0]).fit(first))


def drill(cls, seconds):
    """Drill an estimator of a class; for a day at least; what was asked and answered."""
    made = {}
    if cls is not FieldEncoder:
        made = {"random_state": 0, "embedding_dim": 16, "solver": "adagrad", "max_epochs": 2}
    if "hidden_layer_sizes" in getattr(cls, "__dataclass_fields__", ()):
        made["hidden_layer_sizes"] = (8,)
    holder = [cls(**made).fit(*chunk(0))]
    published = {name: {reader(copied(holder[0]))} for name, reader in READERS.items()}
    given = {name: set() for name in READERS}
    counts, failures, done = dict.fromkeys(READERS, 0), [], threading.Event()

    def serve(name):
        try:
            while not done.is_set():
                given[name].add(READERS[name](holder[0]))
                counts[name] += 1
        except BaseException as error:
            failures.append((name, repr(error)))
            raise

    threads = [threading.Thread(target=serve, args=(name,)) for name in READERS]
    for thread in threads:
        thread.start()
    end, n_days = time.monotonic() + seconds, 0
    try:
        while not failures and (not n_days or time.monotonic() < end):
            n_days += 1
            for step in steps(cls, holder, n_days % N_DAYS):
                step()
                alone = copied(holder[0])
                for name, reader in READERS.items():
                    published[name].add(reader(alone))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    wrong = {name: len(given[name] - published[name]) for name in READERS}
    assert not failures, failures
    assert not any(wrong.values()), f"answers that no published model gives: {wrong}"
    different = {name: len(answers) for name, answers in given.items()}
    return f"{n_days} days, answers {counts}, different ones {different}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="class of the estimator")
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ConvergenceWarning)  # short fits
    print(drill(getattr(sklearn_fm, arguments.name), arguments.seconds))
