"""Random numbers of torch's layers from a generator of ours instead of torch's global one.

Layers such as ``nn.Dropout`` and ``nn.Linear`` know the global generator only, which all threads
share. What is drawn, and when, stays their business.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PrivateRandomness", "may_draw"]

#: Overloads that take a generator besides, where the name is not that with "_generator".
_SEEDED = {"default": "generator", "low_dtype": "low_generator_dtype"}
#: Layers of torch that draw in a forward pass, beside those that hold one of these.
_DRAWING = (_DropoutNd, nn.RReLU, nn.MultiheadAttention, nn.RNNBase)


class PrivateRandomness(TorchDispatchMode):
    """Within this context, what torch draws in this thread comes from generators of our own.

    It sees the operations below autograd, so a module draws as it always does, by a layer or a
    function, and its gradients are its own. There is a generator for each device.

    Parameters
    ----------
    generator : torch.Generator
        Gives the seed of the others; on the CPU.

    Notes
    -----
    An operation that cannot be told its generator still takes the global one: attention with
    dropout as one kernel of CUDA, for example.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.seed = int(torch.randint(2**62, (1,), generator=generator))
        self.generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; one that draws, by our generator."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator"):
            return func(*args, **kwargs)
        device = next((arg.device for arg in args if isinstance(arg, Tensor)), None)
        own = self._generator(torch.device(kwargs.get("device") or device or "cpu"))
        if func is torch.ops.aten.native_dropout.default:
            return _dropout(args[0], args[1], args[2], own)
        seeded = _with_generator(func)
        return func(*args, **kwargs) if seeded is None else seeded(*args, **kwargs, generator=own)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]


def may_draw(module: nn.Module) -> bool:
    """Whether a module may draw random numbers in training: unless it is known not to.

    Parameters
    ----------
    module : nn.Module
        With all that it holds.

    Returns
    -------
    bool
        True also for any class that is neither torch's nor of this package.
    """
    known = ("torch.nn.modules.", "sklearn_fm.")
    return any(
        isinstance(part, _DRAWING) or not type(part).__module__.startswith(known)
        for part in module.modules()
    )


def _with_generator(func: Any) -> Any:
    """The overload of an operation that takes a generator, None if there is none."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    name = func._overloadname
    return getattr(func.overloadpacket, _SEEDED.get(name, f"{name}_generator"), None)


def _dropout(
    x: Tensor, share: float, train: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What CUDA's one kernel for dropout computes: the rest, scaled, and which it is."""
    if not train or not share:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - share, generator=generator)
    return x * kept * (1 / (1 - share) if share < 1 else 0.0), kept
