"""From draws to weights and priors that a descent can go on from.

How it goes on is told in ``start``; draws that go on as draws are the business of ``solver``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..fitted import Fitted

__all__ = ["as_start_of_descent"]

# Standard deviations of logistic over normal noise: by them the probabilities of both links agree.
_LOGISTIC = 1.6  # of two classes; largest difference of probabilities .018 (Johnson, Kotz 1970)
_GUMBEL = math.pi / math.sqrt(6)  # of a class's latent target


def as_start_of_descent(fitted: Fitted) -> Fitted:
    """Fit by draws as one whose weights and priors a descent goes on from.

    The module's weights, the mean over draws, are those of a probit where there are classes; raw
    predictions times 1.6 / sqrt(1 + v), with their mean posterior variance v, are log-odds
    (with pi / sqrt(6) for 1.6 where there are more than two classes). The priors' precisions are
    those of the chain, for all vocabularies together.

    Parameters
    ----------
    fitted : Fitted
        By solver "gibbs".

    Returns
    -------
    Fitted
        Without draws; its weights are a copy.

    References
    ----------
    MacKay (1992), The evidence framework applied to classification networks, Neural Computation 4.
    """
    draws = fitted.draws
    assert draws is not None
    is_classes, n_outputs = fitted.task.kind == "classes", fitted.spec.n_outputs
    slope = 1.0
    if is_classes:
        probes = draws.chain["probes"][draws.n_burn :]
        variance = float(probes.var(axis=0).mean()) if len(probes) else 0.0
        slope = (_LOGISTIC if n_outputs == 1 else _GUMBEL) / math.sqrt(1 + variance)
    weights = {
        name: value.detach().cpu().numpy().copy()
        for name, value in fitted.module().state_dict().items()
    }
    weights["bias"] *= slope
    weights["linear.weight"] *= slope
    weights["embedding.weight"] *= math.sqrt(slope)
    return replace(
        fitted, weights=weights, draws=None, priors=_priors(draws.chain, weights, n_outputs, slope)
    )


def _priors(
    chain: dict[str, Any], weights: dict[str, Any], n_outputs: int, slope: float
) -> dict[str, float]:
    """Precision of weights and of vectors' coordinates, for a loss of noise of precision 1."""
    # The chain's vectors may be narrower than the module's; the sums of squares agree.
    width = weights["embedding.weight"].shape[1] / n_outputs
    square = np.zeros(2)  # of an average vector, and of an average weight
    for blocks in chain["blocks"]:
        squares = (blocks**2).mean(axis=0)
        square += squares[:-1].sum() / n_outputs, squares[-1] / n_outputs
    noise = float(np.mean(chain["values"].get("noise_precision", 1.0)))
    tiny = np.finfo(np.float32).tiny
    return {
        "embedding": width / max(noise * slope * square[0], tiny),
        "linear": 1 / max(noise * slope**2 * square[1], tiny),
    }
