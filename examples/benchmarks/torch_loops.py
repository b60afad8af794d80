"""The models of compare_peers.py that a user of plain torch would write, and DeepCTR-Torch.

Tensors are made beforehand and batches are slices of them, which is as fast as such a loop gets
without giving up autograd and torch's own optimizers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from contestants import DEEP_TASK, Contestant, Settings, SteppingContestant
from torch import Tensor, nn

from sklearn_fm import FieldArray, FieldSchema

PREDICT_BATCH = 8192


class FMModule(nn.Module):
    """Factorization machine over one shared table, with an MLP if `hidden` is not empty."""

    def __init__(self, schema: FieldSchema, embedding_dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(schema.table_size, embedding_dim)
        self.linear = nn.Embedding(schema.table_size, 1)
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.normal_(self.embedding.weight, std=0.01)
        nn.init.zeros_(self.linear.weight)
        widths = [schema.n_fields * embedding_dim, *hidden]
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.mlp = (
            nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 1)) if hidden else None
        )

    def forward(self, indices: Tensor, values: Tensor) -> Tensor:
        """Raw prediction of each row."""
        e = self.embedding(indices) * values.unsqueeze(-1)
        linear = (self.linear(indices).squeeze(-1) * values).sum(1)
        pairs = (e.sum(1) ** 2 - (e**2).sum(1)).sum(1) / 2
        deep = self.mlp(e).squeeze(-1) if self.mlp is not None else 0.0
        return self.bias + linear + pairs + deep


class MFModule(nn.Module):
    """Biases and a dot product; squeezed into `span` as fastai does, or left as it is."""

    def __init__(
        self, schema: FieldSchema, embedding_dim: int, mean: float, span: tuple[float, float] | None
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(schema.table_size, embedding_dim)
        self.linear = nn.Embedding(schema.table_size, 1)
        nn.init.normal_(self.embedding.weight, std=0.01 if span else 0.05)
        nn.init.zeros_(self.linear.weight)
        self.mean, self.span = mean, span

    def forward(self, indices: Tensor, values: Tensor) -> Tensor:
        """Rating of each row."""
        e = self.embedding(indices)
        raw = (e[:, 0] * e[:, 1]).sum(1) + self.linear(indices).sum((1, 2))
        if self.span is None:
            return self.mean + raw
        low, high = self.span
        return low + (high - low) * torch.sigmoid(raw)


class TorchContestant(SteppingContestant):
    """Mini-batches sliced from whole tensors; dense Adam."""

    speed_epochs: ClassVar[int | None] = 1

    def __init__(self, schema: FieldSchema, settings: Settings) -> None:
        super().__init__(schema, settings)
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)

    def form(self, X: FieldArray, y: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Indices, values and target as tensors."""
        indices = torch.from_numpy(X.indices.astype(np.int64))
        values = torch.from_numpy(np.array(X.values))
        return indices, values, torch.from_numpy(y.astype(np.float32))

    def build(self, target: Tensor) -> nn.Module:
        """A new module; also sets the optimizer."""
        settings = self.settings
        hidden = settings.hidden if settings.task == DEEP_TASK else ()
        module = FMModule(self.schema, settings.embedding_dim, hidden)
        self.optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-6)
        return module

    def loss(self, indices: Tensor, values: Tensor, target: Tensor) -> Tensor:
        """What a batch is to minimize."""
        raw = self.model(indices, values)
        return nn.functional.binary_cross_entropy_with_logits(raw, target)

    def step(self, rows: Any, y: np.ndarray) -> None:
        """A shuffled pass."""
        if self.model is None:
            self.model = self.build(rows[2])
        self.model.train()
        for batch in torch.randperm(len(y)).split(self.settings.torch_batch_size):
            self.optimizer.zero_grad()
            self.loss(*(tensor[batch] for tensor in rows)).backward()
            self.optimizer.step()
            self.after_batch()

    def after_batch(self) -> None:
        """Nothing; a schedule goes here."""

    def predict(self, rows: Any) -> np.ndarray:
        """Probabilities, or ratings as they are."""
        indices, values, _ = rows
        self.model.eval()
        with torch.inference_mode():
            batches = zip(indices.split(PREDICT_BATCH), values.split(PREDICT_BATCH), strict=True)
            raw = torch.cat([self.model(*batch) for batch in batches]).double()
            return (raw if self.settings.rates else torch.sigmoid(raw)).numpy()


class TorchMF(TorchContestant):
    """Squared error with Koren's penalty on the factors of each rating; dense Adam."""

    def build(self, target: Tensor) -> nn.Module:
        """Start at the mean."""
        module = MFModule(self.schema, self.settings.embedding_dim, float(target.mean()), None)
        self.optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
        return module

    def loss(self, indices: Tensor, values: Tensor, target: Tensor) -> Tensor:
        """Penalty of .02, as in Surprise."""
        penalty = (self.model.embedding(indices) ** 2).sum((1, 2)).mean()
        return ((self.model(indices, values) - target) ** 2).mean() + 0.02 * penalty


class FastaiMF(TorchMF):
    """fastai's collaborative filter: ratings through a sigmoid, weight decay, one cycle."""

    search = Contestant.search  # the cycle's length is set before it begins

    def fit(self, rows: Any, y: np.ndarray, epochs: int) -> int:
        """One cycle over all epochs."""
        self.n_steps = epochs * -(-len(y) // self.settings.torch_batch_size)
        return super().fit(rows, y, epochs)

    def build(self, target: Tensor) -> nn.Module:
        """fastai's settings of its collaborative filtering tutorial."""
        span = float(target.min()) - 0.5, float(target.max()) + 0.5
        module = MFModule(self.schema, self.settings.embedding_dim, 0.0, span)
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=5e-3, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.1
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=5e-3, total_steps=max(self.n_steps + 1, 8), pct_start=0.25
        )
        return module

    def loss(self, indices: Tensor, values: Tensor, target: Tensor) -> Tensor:
        """Squared error alone."""
        return ((self.model(indices, values) - target) ** 2).mean()

    def after_batch(self) -> None:
        """Follow the cycle."""
        self.schedule.step()


class DeepCTR(SteppingContestant):
    """DeepFM of DeepCTR-Torch: a table per field, its own DataLoader, dense Adam."""

    speed_epochs: ClassVar[int | None] = 1
    note: ClassVar[str] = "numbers enter its MLP and linear term only"

    def form(self, X: FieldArray, y: np.ndarray) -> dict[str, np.ndarray]:
        """A column of numbers per field; code 0 is the unknown category."""
        numeric = self.schema.numeric_slots
        codes = np.asarray(X, np.float32)
        return {
            name: np.nan_to_num(codes[:, slot]) if slot in numeric else codes[:, slot] + 1
            for slot, name in enumerate(self.schema.names)
        }

    def build(self) -> Any:
        """A compiled model."""
        from deepctr_torch.inputs import DenseFeat, SparseFeat
        from deepctr_torch.models import DeepFM

        torch.set_num_threads(self.settings.threads)
        columns = [
            DenseFeat(name)
            if kind == "numeric"
            else SparseFeat(name, size, embedding_dim=self.settings.embedding_dim)
            for name, kind, size in zip(
                self.schema.names, self.schema.kinds, self.schema.vocabulary_sizes, strict=True
            )
        ]
        hidden, seed = self.settings.hidden, self.settings.seed
        model = DeepFM(columns, columns, dnn_hidden_units=hidden, seed=seed)
        model.compile("adam", "binary_crossentropy")
        return model

    def step(self, rows: Any, y: np.ndarray) -> None:
        """An epoch of its `fit`, which keeps the optimizer's state."""
        if self.model is None:
            self.model = self.build()
        size = self.settings.torch_batch_size
        self.model.fit(rows, y.astype(np.float32), batch_size=size, epochs=1, verbose=0)

    def predict(self, rows: Any) -> np.ndarray:
        """Probabilities."""
        return self.model.predict(rows, PREDICT_BATCH).ravel()
