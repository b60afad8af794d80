"""Stateless formulas over field embeddings.

They hold no parameters and look nothing up. Letters used in every shape: B rows, F fields,
S slots, K embedding_dim, C outputs, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["field_aware_sum", "pairwise_sum", "pool_slots"]


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


def field_aware_sum(e: Tensor) -> Tensor:
    """Sum of elementwise products over all pairs of fields, each with vectors for the other.

    out[b, k] = sum_{f<g} e[b, f, g, k] * e[b, g, f, k]

    Parameters
    ----------
    e : Tensor of shape (B, F, F, K)
        Field embeddings already multiplied by their values; the one at (f, g) is that of field f
        for its partner g. Those at (f, f) are not read.

    Returns
    -------
    Tensor of shape (B, K)
        Zero when F < 2. Its sum over K is the pairwise term of a field-aware factorization
        machine.

    References
    ----------
    Juan et al. (2016), Field-aware factorization machines for CTR prediction, RecSys.
    """
    F = e.shape[1]
    f, g = torch.triu_indices(F, F, offset=1, device=e.device)  # (P,) each
    pieces = e.flatten(start_dim=1, end_dim=2)  # (B, F * F, K)
    # index_select, as its derivative is far quicker than that of two index arrays.
    return (pieces.index_select(1, f * F + g) * pieces.index_select(1, g * F + f)).sum(dim=1)


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
