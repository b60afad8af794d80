"""Where a module is trained and predicts."""

from __future__ import annotations

import torch

__all__ = ["resolve_device"]


def resolve_device(name: str, *, fallback: bool = False) -> torch.device:
    """Device that the parameter `device` means on this machine.

    Parameters
    ----------
    name : str
        "auto", or a torch device.
    fallback : bool, default=False
        Whether to take the CPU where the device is absent.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        mps = getattr(torch.backends, "mps", None)
        return torch.device("mps" if mps is not None and mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError
    except RuntimeError:
        raise ValueError(
            f"device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got {name!r}."
        ) from None
    absent = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if absent and fallback:
        return torch.device("cpu")
    if absent:
        raise ValueError(f"device={name!r} is not available on this machine; use device='auto'.")
    return device
