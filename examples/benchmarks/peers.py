"""Other packages in the form that compare_peers.py measures; torch ones are in torch_loops.py.

All have their defaults but for the width of the embeddings and the number of threads. Packages
are imported when a model is built, so that none is needed.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import pandas as pd
from contestants import Contestant, Found, seconds_of
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from sklearn_fm import FieldArray

MYFM_SAMPLE_BYTES = 4e9


def one_hot(X: FieldArray) -> sparse.csr_matrix:
    """Rows as a sparse matrix over the shared table."""
    schema = X.require_schema()
    starts = np.arange(len(X) + 1) * schema.n_slots
    shape = len(X), schema.table_size
    matrix = sparse.csr_matrix(
        (X.values.astype(np.float64).ravel(), X.indices.ravel(), starts), shape
    )
    matrix.eliminate_zeros()
    return matrix


class OneHot(Contestant):
    """A model that takes a sparse matrix."""

    def form(self, X: FieldArray, y: np.ndarray) -> sparse.csr_matrix:
        """A column per table row."""
        return one_hot(X)


class SelfStopping(Contestant):
    """A model that stops early by itself: the time is that of a second fit, to its best epoch."""

    def best_epochs(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> int:
        """Fit with rows to watch and return the best epoch."""
        raise NotImplementedError

    def search(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> Found:
        """Fit twice."""
        epochs = self.best_epochs(rows, y)
        seconds = seconds_of(lambda: self.fit(rows["train"], y["train"], epochs))
        return Found(seconds, epochs, self.predict(rows["test"]))


class ModernFM(OneHot, SelfStopping):
    """modern-fm: compiled (Rust), Adagrad row by row; more threads need batches."""

    def make(self, epochs: int) -> Any:
        """A new estimator; `params` may set its batch size."""
        import modern_fm

        kind = modern_fm.FMRegressor if self.settings.rates else modern_fm.FMClassifier
        return kind(
            n_factors=self.settings.embedding_dim,
            max_iter=epochs,
            patience=self.settings.patience,
            n_jobs=self.settings.threads,
            random_state=self.settings.seed,
            **self.settings.params,
        )

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Train anew."""
        self.model = self.make(epochs).fit(rows, y)
        return epochs

    def best_epochs(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> int:
        """It goes on for `patience` epochs after the best, unless the epochs run out."""
        limit = self.settings.max_epochs
        model = self.make(limit).fit(
            rows["train"], y["train"], eval_set=(rows["valid"], y["valid"])
        )
        stopped = model.n_iter_ < limit
        return max(model.n_iter_ - self.settings.patience * stopped, 1)

    def predict(self, rows: Any) -> np.ndarray:
        """Probability, or rating."""
        if self.settings.rates:
            return self.model.predict(rows)
        return self.model.predict_proba(rows)[:, 1]


class MyFM(OneHot):
    """myFM: a Bayesian factorization machine by Gibbs sampling; an epoch is a sweep."""

    speed_epochs: ClassVar[int | None] = 5
    note: ClassVar[str] = "an epoch is a sweep; memory is that of 5, without the samples it keeps"

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Sample anew; keeps as many samples as 4 GB hold."""
        import myfm

        kind = myfm.MyFMRegressor if self.settings.rates else myfm.MyFMClassifier
        self.model = kind(rank=self.settings.embedding_dim, random_seed=self.settings.seed)
        sample = 8 * self.schema.table_size * (self.settings.embedding_dim + 1)
        kept = min(max(epochs - 5, 1), max(int(MYFM_SAMPLE_BYTES / sample), 1))
        self.model.fit(rows, y, n_iter=epochs, n_kept_samples=kept)
        return epochs

    def search(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> Found:
        """Sampling has no best epoch: the number of sweeps is given."""
        sweeps = self.settings.sweeps
        seconds = seconds_of(lambda: self.fit(rows["train"], y["train"], sweeps))
        return Found(seconds, sweeps, self.predict(rows["test"]))

    def predict(self, rows: Any) -> np.ndarray:
        """Posterior mean."""
        if self.settings.rates:
            return self.model.predict(rows)
        return self.model.predict_proba(rows)


class XLearn(Contestant):
    """xLearn: compiled (C++), Adagrad row by row without locks, rows and models in files."""

    note: ClassVar[str] = "rows, model and predictions are files; the time is with reading them"

    def form(self, X: FieldArray, y: np.ndarray) -> Path:
        """A text file, and the binary copy that the package makes of what it reads."""
        folder = Path(self.settings.folder) / "xlearn"
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.settings.task}_{len(y)}_{crc32(np.asarray(X).tobytes())}.txt"
        if not path.exists():
            write_libsvm(path, one_hot(X), y)
            self.fit(path, y, 1)
        return path

    def make(self, **params: Any) -> tuple[Any, dict[str, Any]]:
        """A new handle and its parameters."""
        import xlearn

        handle, settings = xlearn.create_fm(), self.settings
        handle.setQuiet()
        handle.disableEarlyStop()
        task = "reg" if settings.rates else "binary"
        threads, logs = settings.threads, f"{settings.folder}/xlearn/log"
        return handle, {"task": task, "nthread": threads, "log": logs, **params}

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Train anew; writes the model."""
        handle, params = self.make(k=self.settings.embedding_dim, epoch=epochs)
        handle.setTrain(str(rows))
        self.model = f"{self.settings.folder}/xlearn/model_{os.getpid()}"
        seconds = seconds_of(lambda: handle.fit(params, self.model))
        self.last = rows, y, epochs, seconds
        return epochs

    def seconds_per_epoch(self) -> float | None:
        """What the last fit took longer than one of a single epoch: files cost the same."""
        rows, y, epochs, seconds = self.last
        if epochs == 1:
            return None
        return (seconds - seconds_of(lambda: self.fit(rows, y, 1))) / (epochs - 1)

    def predict(self, rows: Any) -> np.ndarray:
        """Read the model, write the predictions, and read them."""
        handle, params = self.make()
        handle.setTest(str(rows))
        if not self.settings.rates:
            handle.setSigmoid()
        handle._set_Param(params)
        output = f"{self.model}.out"
        handle.predict(self.model, output)
        return np.fromfile(output, sep="\n")


def write_libsvm(path: Path, matrix: sparse.csr_matrix, y: np.ndarray) -> None:
    """Text of a row: target index:value index:value ..."""
    with path.open("w") as file:
        for row, target in enumerate(y):
            cut = slice(matrix.indptr[row], matrix.indptr[row + 1])
            pairs = zip(matrix.indices[cut].tolist(), matrix.data[cut].tolist(), strict=True)
            file.write(f"{target:g} " + " ".join(f"{i}:{x:g}" for i, x in pairs) + "\n")


class LightGBM(SelfStopping):
    """LightGBM on codes; categorical fields as such, bins and numbers as numbers."""

    speed_epochs: ClassVar[int | None] = 100
    note: ClassVar[str] = "an epoch is a tree"

    def form(self, X: FieldArray, y: np.ndarray) -> np.ndarray:
        """The codes; an unknown category is negative, which is missing."""
        return np.asarray(X, np.float64)

    def make(self, rows: dict[str, Any], y: dict[str, np.ndarray], **params: Any) -> Any:
        """Fit a classifier, watched where there are rows to validate with."""
        import lightgbm

        callbacks = [lightgbm.early_stopping(50, verbose=False)] if "valid" in rows else []
        slots = [i for i, kind in enumerate(self.schema.kinds) if kind == "categorical"]
        return lightgbm.LGBMClassifier(
            n_jobs=self.settings.threads, random_state=self.settings.seed, verbose=-1, **params
        ).fit(
            rows["train"],
            y["train"],
            eval_set=[(rows["valid"], y["valid"])] if "valid" in rows else None,
            categorical_feature=slots,
            callbacks=callbacks,
        )

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Train anew."""
        self.model = self.make({"train": rows}, {"train": y}, n_estimators=epochs)
        return epochs

    def best_epochs(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> int:
        """Trees at the best validation loss, which is followed for 50 more."""
        return self.make(rows, y, n_estimators=2000).best_iteration_

    def predict(self, rows: Any) -> np.ndarray:
        """Probability."""
        return self.model.predict_proba(rows)[:, 1]


class OneHotLogistic(OneHot):
    """LogisticRegression: convex, so that it needs no epoch to stop at."""

    speed_epochs: ClassVar[int | None] = 20
    note: ClassVar[str] = "an epoch is an iteration of L-BFGS; C=0.1"

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Iterate to convergence or the limit."""
        with warnings.catch_warnings(action="ignore"):  # of the limit
            self.model = LogisticRegression(C=0.1, max_iter=epochs).fit(rows, y)
        return int(self.model.n_iter_[0])

    def search(self, rows: dict[str, Any], y: dict[str, np.ndarray]) -> Found:
        """One fit of 1000 iterations at most."""
        seconds = seconds_of(lambda: self.fit(rows["train"], y["train"], 1000))
        return Found(seconds, int(self.model.n_iter_[0]), self.predict(rows["test"]))

    def predict(self, rows: Any) -> np.ndarray:
        """Probability."""
        return self.model.predict_proba(rows)[:, 1]


class SurpriseSVD(Contestant):
    """Surprise's SVD: compiled (Cython), stochastic gradient rating by rating."""

    def form(self, X: FieldArray, y: np.ndarray) -> tuple[Any, list[tuple[int, int, float]]]:
        """Its training set, and the list that it predicts for."""
        from surprise import Dataset, Reader

        low, high = float(y.min()), float(y.max())
        table = pd.DataFrame(np.asarray(X), columns=["user", "item"]).assign(rating=y)
        train = Dataset.load_from_df(table, Reader(rating_scale=(low, high)))
        return train.build_full_trainset(), list(table.itertuples(index=False, name=None))

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """Train anew."""
        from surprise import SVD

        settings = self.settings
        self.model = SVD(
            n_factors=settings.embedding_dim, n_epochs=epochs, random_state=settings.seed
        ).fit(rows[0])
        return epochs

    def predict(self, rows: Any) -> np.ndarray:
        """Rating."""
        return np.array([prediction.est for prediction in self.model.test(rows[1])])
