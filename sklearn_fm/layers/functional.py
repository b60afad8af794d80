"""Stateless formulas over field embeddings.

They hold no parameters and look nothing up. Letters used in every shape: B rows, F fields,
S slots, K embedding_dim, C outputs, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["pairwise_sum", "pool_slots"]


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


def pool_slots(
    e: Tensor, values: Tensor, slots: Sequence[int], largest: Sequence[int] = ()
) -> Tensor:
    """One embedding per field: the sum of those of its slots, or their maximum.

    out[b, f] = sum_{s in f} e[b, s], or max_{s in f, values[b, s] != 0} e[b, s], 0 if there is
    no such slot.

    Parameters
    ----------
    e : Tensor of shape (B, S, K)
        Slot embeddings already multiplied by their values.
    values : Tensor of shape (B, S)
        The values; a slot of value 0 is empty.
    slots : sequence of int
        Slots of each field, S in total.
    largest : sequence of int, default=()
        Fields, by position, of which the maximum is taken.

    Returns
    -------
    Tensor of shape (B, F, K)
    """
    parts, first = [], 0
    single = 0  # fields of one slot so far that are passed on as one piece
    for f, n in enumerate([*slots, 0]):
        if n == 1:
            single += 1
            continue
        if single:
            parts.append(e[:, first : first + single])
            first, single = first + single, 0
        if n == 0:
            break
        own = e[:, first : first + n]
        if f in largest:
            empty = (values[:, first : first + n] == 0).unsqueeze(-1)
            own = own.masked_fill(empty, -torch.inf).amax(dim=1, keepdim=True)
            own = torch.where(own == -torch.inf, 0, own)
        else:
            own = own.sum(dim=1, keepdim=True)
        parts.append(own)
        first += n
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
