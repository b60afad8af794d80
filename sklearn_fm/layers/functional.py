"""Stateless formulas over field embeddings.

They hold no parameters and look nothing up. Letters used in every shape: B rows, F fields,
S slots, K embedding_dim, C outputs, H hidden units.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["pairwise_sum"]


def pairwise_sum(e: Tensor) -> Tensor:
    """Sum of elementwise products over all pairs of fields.

    out[b, k] = sum_{f<g} e[b, f, k] * e[b, g, k] = ((sum_f e)^2 - sum_f e^2) / 2

    Parameters
    ----------
    e : Tensor of shape (B, F, K)
        Field embeddings already multiplied by their values.

    Returns
    -------
    Tensor of shape (B, K)
        Zero when F < 2. Its sum over K is the pairwise term of a factorization machine.

    Notes
    -----
    Costs O(B F K) instead of O(B F^2 K). The difference cancels digits: half-precision
    embeddings should be passed as float32.

    References
    ----------
    Rendle (2010), Factorization machines, ICDM, lemma 3.1.
    """
    if e.shape[1] < 2:
        return e.sum(dim=1) * 0  # exact, where the difference of squares would round
    return (e.sum(dim=1).square() - e.square().sum(dim=1)) / 2
