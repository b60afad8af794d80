"""Random start values for weights on any device, drawn by a generator on the CPU.

Which distribution suits a layer is the layer's business.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["draw_normal", "draw_uniform"]


@torch.no_grad()
def draw_uniform(weight: Tensor, bound: float, generator: torch.Generator | None = None) -> None:
    """Fill a tensor with uniform numbers from -bound to bound.

    Parameters
    ----------
    weight : Tensor
        Changed in place.
    bound : float
        Largest absolute value.
    generator : torch.Generator, default=None
        Source of randomness, on the CPU; torch's global one when omitted.
    """
    if weight.is_meta:  # which has a shape only
        return
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
    weight.copy_(drawn.uniform_(-bound, bound, generator=generator))


@torch.no_grad()
def draw_normal(weight: Tensor, scale: float, generator: torch.Generator | None = None) -> None:
    """Fill a tensor with normal numbers of mean 0.

    Parameters
    ----------
    weight : Tensor
        Changed in place.
    scale : float
        Standard deviation.
    generator : torch.Generator, default=None
        Source of randomness, on the CPU; torch's global one when omitted.
    """
    if weight.is_meta:  # which has a shape only
        return
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
    weight.copy_(drawn.normal_(0, scale, generator=generator))
