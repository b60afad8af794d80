"""Full-batch L-BFGS in float64: one minimization of the penalized loss over all rows.

Validation, early stopping and the second run are told in ``solvers.lbfgs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from ..models.contract import FieldModel
from .losses import Loss
from .rows import Rows
from .threads import limit_threads

__all__ = ["minimize_lbfgs"]


def minimize_lbfgs(
    model: FieldModel,
    loss: Loss,
    rows: Rows,
    *,
    l2_linear: float,
    l2_embedding: float,
    l2_dense: float,
    max_iter: int,
    tolerance: float,
    report: Callable[[float], bool],
) -> OptimizeResult:
    """Minimize the penalized loss over all rows, in place.

    sum_i w_i l_i + l2_linear/2 |w|^2 + l2_embedding/2 |V|^2 + l2_dense/2 |MLP weights|^2,
    divided by sum_i w_i.

    Parameters
    ----------
    model : FieldModel
        In float64.
    loss : Loss
        What is minimized.
    rows : Rows
        All rows, in float64.
    l2_linear, l2_embedding, l2_dense : float
        Precisions of the Gaussian priors.
    max_iter : int
        Iterations at most.
    tolerance : float
        Largest entry of the gradient at which to stop.
    report : callable
        Told the mean loss after each iteration, with the model up to date; returning True
        stops.

    Returns
    -------
    OptimizeResult
        From ``scipy.optimize.minimize``.
    """
    names = [name for name, _ in model.named_parameters()]
    parameters = list(model.parameters())
    sizes = [parameter.numel() for parameter in parameters]
    batch = rows.take(slice(None))
    total = float(batch.weight.sum())
    penalties = [
        _penalty(n, p, l2_linear, l2_embedding, l2_dense)
        for n, p in zip(names, parameters, strict=True)
    ]
    last_loss = [float("nan")]

    def write(flat: NDArray[Any]) -> None:
        with torch.no_grad():
            for parameter, part in zip(
                parameters, np.split(flat, np.cumsum(sizes)[:-1]), strict=True
            ):
                parameter.copy_(torch.from_numpy(part.copy()).view_as(parameter))

    def objective(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        write(flat)
        model.zero_grad(set_to_none=True)
        raw = model(batch.indices, batch.values)
        data = (loss.value(raw, batch) * batch.weight).sum() / total
        prior = sum(
            (penalty / total) * parameter.square().sum() / 2
            for penalty, parameter in zip(penalties, parameters, strict=True)
            if penalty
        )
        (data + prior).backward()
        if model.frozen_rows is not None and model.embedding.weight.grad is not None:
            model.embedding.weight.grad[model.frozen_rows] = 0
        gradient = [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in parameters
        ]
        last_loss[0] = float(data.detach())
        return float((data + prior).detach()), torch.cat(gradient).numpy()

    def callback(intermediate_result: OptimizeResult) -> None:
        write(intermediate_result.x)
        if report(last_loss[0]):
            raise StopIteration

    start = torch.cat([p.detach().flatten() for p in parameters]).numpy().copy()
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


def _penalty(
    name: str, parameter: torch.Tensor, l2_linear: float, l2_embedding: float, l2_dense: float
) -> float:
    """Precision of the prior on a parameter; biases have none."""
    if name.startswith("linear."):
        return l2_linear
    if name.startswith("embedding."):
        return l2_embedding
    return l2_dense if parameter.ndim > 1 else 0.0
