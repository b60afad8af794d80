"""When a chain has been sampled long enough: when more draws would hardly change a prediction.

It sees raw predictions of some rows, sweep by sweep. R-hat and effective sizes are told in
``convergence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from .convergence import effective_size

__all__ = ["MOST_SWEEPS", "TOLERANCE", "UntilSettled", "averaging_loss"]

#: Sweeps that a chain takes at most where it ends by itself.
MOST_SWEEPS = 500
#: Loss of a row, in nats, that an average over too few draws may cost.
TOLERANCE = 0.0005
_LEAST_SWEEPS = 100  # in fewer, the way from the start is mistaken for a small error
_DOUBTFUL_DRAWS = 20.0
_LEAST_VARIANCE = 1e-4  # of a label


@dataclass(frozen=True)
class UntilSettled:
    """Rule that ends a chain.

    Attributes
    ----------
    tolerance : float
        Largest `averaging_loss`.
    least : int
        Sweeps before the first look.
    """

    tolerance: float = TOLERANCE
    least: int = _LEAST_SWEEPS

    @classmethod
    def of(cls, n_rows: int, n_burn: int) -> UntilSettled:
        """The rule for a chain.

        Parameters
        ----------
        n_rows : int
            Rows of different features or targets. All of them together may always cost one nat,
            which is little beside what so few rows leave open.
        n_burn : int
            First sweeps that do not count, if it is known how many; 0 for a tenth.

        Returns
        -------
        UntilSettled
        """
        return cls(max(TOLERANCE, 1 / n_rows), n_burn + _LEAST_SWEEPS)

    def next_look(self, n_sweeps: int) -> int:
        """Sweeps after which to look next: a tenth more each time, since looking takes time.

        Parameters
        ----------
        n_sweeps : int
            Sweeps at the last look; 0 before the first.

        Returns
        -------
        int
        """
        return max(self.least, n_sweeps + n_sweeps // 10)


def averaging_loss(raw: NDArray[np.float64], values: Mapping[str, NDArray[np.float64]]) -> float:
    """Expected loss of a row, in nats, that averaging over so few draws costs.

    The variance of a row's average over draws (their variance over their effective number N), in
    units of what a nat is: half the noise's precision for numbers and latent targets; 1 / 2p(1 - p)
    for the probability p of a class. Times 1 + 20 / N, with the median N of the rows, as
    few draws, or a chain still on its way, know little of their own error.

    Parameters
    ----------
    raw : ndarray of shape (n_draws, n_rows, n_outputs)
        Raw predictions of some rows by successive draws, four or more.
    values : mapping of str to ndarray
        What the likelihood draws besides: numbers have a ``"noise_precision"``, ordered levels
        have ``"cuts"``, classes neither.

    Returns
    -------
    float

    References
    ----------
    Geyer (1992), Practical Markov chain Monte Carlo, Statistical Science 7(4).
    """
    n_draws = len(raw)
    size = effective_size(raw.reshape(n_draws, -1)).reshape(raw.shape[1:])
    if "noise_precision" in values or "cuts" in values:
        nat = float(np.mean(values.get("noise_precision", 1.0))) / 2
        variance = raw.var(axis=0, ddof=1)
    else:
        p = ndtr(_margins(raw))
        mean = p.mean(axis=0)
        nat = 1 / (2 * np.maximum(mean * (1 - mean), _LEAST_VARIANCE))
        variance = p.var(axis=0, ddof=1)
    loss = (nat * variance / size).sum(axis=1).mean()
    return float(loss * (1 + _DOUBTFUL_DRAWS / np.median(size)))


def _margins(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw predictions of two classes; of more, differences to the largest other, in their noise."""
    if raw.shape[2] == 1:
        return raw
    ordered = np.sort(raw, axis=2)
    best, second = ordered[..., -1:], ordered[..., -2:-1]
    return (raw - np.where(raw == best, second, best)) / np.sqrt(2)
