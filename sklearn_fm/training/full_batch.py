"""Full-batch L-BFGS in float64: one minimization of the penalized loss over all rows.

Which priors, and what is watched meanwhile, is told in ``solvers.lbfgs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor, nn

from ..models.contract import FieldModel
from .losses import Loss
from .priors import Priors
from .rows import Batch, Rows
from .threads import limit_threads

__all__ = ["is_plain_fm", "linear_predictions", "minimize_lbfgs"]


def minimize_lbfgs(
    model: FieldModel,
    loss: Loss,
    rows: Rows,
    priors: Priors,
    *,
    max_iter: int,
    tolerance: float,
    report: Callable[[float], bool],
    linear_only: bool = False,
) -> OptimizeResult:
    """Minimize the penalized loss over all rows, in place.

    sum_i w_i l_i + penalty, divided by sum_i w_i.

    Parameters
    ----------
    model : FieldModel
        In float64.
    loss : Loss
        What is minimized.
    rows : Rows
        All rows, in float64.
    priors : Priors
        The penalty.
    max_iter : int
        Iterations at most.
    tolerance : float
        Largest entry of the gradient at which to stop.
    report : callable
        Told the mean loss after each iteration, with the model up to date; returning True
        stops.
    linear_only : bool, default=False
        Whether to leave out all but the bias and the linear term, whose other weights then stay.

    Returns
    -------
    OptimizeResult
        From ``scipy.optimize.minimize``.
    """
    batch = rows.take(slice(None))
    if linear_only:
        engine: _Engine = _LinearEngine(model, batch)
    elif is_plain_fm(model):
        engine = _FMEngine(model, batch)
    else:
        engine = _TorchEngine(model, batch)
    shapes = [tuple(parameter.shape) for parameter in engine.parameters]
    ends = np.cumsum([parameter.numel() for parameter in engine.parameters])
    penalties = [priors.of(parameter, model) for parameter in engine.parameters]
    frozen = _frozen(model, engine.parameters)
    total = float(batch.weight.sum())
    last_loss = [float("nan")]

    def split(flat: NDArray[Any]) -> list[NDArray[Any]]:
        parts = np.split(flat, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def write(flat: NDArray[Any]) -> None:
        with torch.no_grad():
            for parameter, part in zip(engine.parameters, split(flat), strict=True):
                parameter.copy_(torch.from_numpy(part))

    def objective(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights = split(flat)
        raw = engine.raw(weights)
        if not raw.requires_grad:
            raw.requires_grad_()
        data = (loss.value(raw, batch) * batch.weight).sum() / total
        gradients = engine.pull(data, raw)
        value = last_loss[0] = float(data.detach())
        for weight, gradient, penalty in zip(weights, gradients, penalties, strict=True):
            if penalty is not None:
                slope = penalty.slope(weight) / total
                value += float(np.vdot(weight, slope)) / 2
                gradient += slope
        if frozen is not None:
            gradients[frozen[0]][frozen[1]] = 0
        return value, np.concatenate([gradient.ravel() for gradient in gradients])

    def callback(intermediate_result: OptimizeResult) -> None:
        write(intermediate_result.x)
        if report(last_loss[0]):
            raise StopIteration

    start = torch.cat([p.detach().flatten() for p in engine.parameters]).numpy().copy()
    model.train()
    with limit_threads(1):  # also makes sums, and so the result, the same on any machine size
        result = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=callback,
            options={"maxiter": max_iter, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps},
        )
    write(result.x)
    return result


def linear_predictions(model: FieldModel, rows: Rows) -> NDArray[np.float64]:
    """Raw predictions of the bias and the linear term alone.

    Parameters
    ----------
    model : FieldModel
        In float64, with a linear term.
    rows : Rows
        Rows in memory.

    Returns
    -------
    ndarray of shape (n_rows, C)
    """
    engine = _LinearEngine(model, rows.take(slice(None)))
    return engine.raw([p.detach().numpy() for p in engine.parameters]).numpy()


class _Engine(Protocol):
    """Raw predictions and their derivatives."""

    parameters: list[nn.Parameter]

    def raw(self, weights: list[NDArray[Any]]) -> Tensor:
        """Raw predictions (B, C) at values of the parameters."""

    def pull(self, value: Tensor, raw: Tensor) -> list[NDArray[Any]]:
        """Gradients of a value that was computed from them."""


class _TorchEngine:
    """Any model, by autograd."""

    def __init__(self, model: FieldModel, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.parameters = list(model.parameters())

    def raw(self, weights: list[NDArray[Any]]) -> Tensor:
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                parameter.copy_(torch.from_numpy(weight))
        self.model.zero_grad(set_to_none=True)
        return self.model(self.batch.indices, self.batch.values)

    def pull(self, value: Tensor, raw: Tensor) -> list[NDArray[Any]]:
        value.backward()
        return [
            (torch.zeros_like(p) if p.grad is None else p.grad).numpy() for p in self.parameters
        ]


class _LinearEngine:
    """Bias and linear term alone: raw = b + X w."""

    def __init__(self, model: FieldModel, batch: Batch) -> None:
        self.parameters = [model.bias, model.linear.weight]
        values = model.linear_values(batch.values)
        self.X = _as_csr(batch.indices, values, model.schema.table_size)
        self.X_transposed = self.X.T.tocsr()

    def raw(self, weights: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(weights[0] + self.X @ weights[1])

    def pull(self, value: Tensor, raw: Tensor) -> list[NDArray[Any]]:
        slope = torch.autograd.grad(value, raw)[0].numpy()
        return [slope.sum(axis=0), self.X_transposed @ slope]


class _FMEngine(_LinearEngine):
    """Factorization machine of one output whose pairs are those of the slots.

    raw = b + X w + sum_k ((X V)_k^2 - (X*X) (V*V)_k) / 2; products of sparse matrices take a
    fraction of the time of a gather of all embeddings.
    """

    def __init__(self, model: FieldModel, batch: Batch) -> None:
        super().__init__(model, batch)
        self.parameters = [*self.parameters, model.embedding.weight]
        size = model.schema.table_size
        self.Z = _as_csr(batch.indices, batch.values, size)
        self.squares = _as_csr(batch.indices, batch.values**2, size)
        self.Z_transposed, self.squares_transposed = self.Z.T.tocsr(), self.squares.T.tocsr()

    def raw(self, weights: list[NDArray[Any]]) -> Tensor:
        self._V = weights[2]
        self._sums = self.Z @ self._V  # (B, K)
        own = self.squares @ np.einsum("tk,tk->t", self._V, self._V)
        pairs = (np.einsum("bk,bk->b", self._sums, self._sums) - own) / 2
        return super().raw(weights[:2]) + torch.from_numpy(pairs)[:, None]

    def pull(self, value: Tensor, raw: Tensor) -> list[NDArray[Any]]:
        slope = torch.autograd.grad(value, raw)[0].numpy()
        of_sums = self.Z_transposed @ (slope * self._sums)
        of_embeddings = of_sums - (self.squares_transposed @ slope) * self._V
        return [slope.sum(axis=0), self.X_transposed @ slope, of_embeddings]


def is_plain_fm(model: FieldModel) -> bool:
    """Whether the whole raw prediction is that of a factorization machine over slots.

    Parameters
    ----------
    model : FieldModel
        Any model.

    Returns
    -------
    bool
        If so, a full-batch fit takes a fraction of the time.
    """
    schema = model.schema
    over_slots = model.pair_slots or schema.n_slots == schema.n_fields
    return model.fused == "fm" and model.n_outputs == 1 and over_slots


def _as_csr(indices: Tensor, values: Tensor, n_columns: int) -> sparse.csr_array:
    """Rows of the table that each row reads, and their multipliers."""
    n_rows, n_slots = indices.shape
    ends = np.arange(n_rows + 1) * n_slots
    entries = values.numpy().ravel(), indices.numpy().ravel(), ends
    return sparse.csr_array(entries, shape=(n_rows, n_columns))


def _frozen(model: FieldModel, parameters: list[nn.Parameter]) -> tuple[int, Any] | None:
    """Position of the embeddings among the parameters, and their rows that stay as they are."""
    at = [i for i, parameter in enumerate(parameters) if parameter is model.embedding.weight]
    if model.frozen_rows is None or not at:
        return None
    return at[0], model.frozen_rows.numpy()
