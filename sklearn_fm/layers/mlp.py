"""The dense stack on top of concatenated embeddings.

It knows nothing of fields: a flat vector comes in, C numbers come out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .start_values import draw_uniform

__all__ = ["ACTIVATIONS", "MLP"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class _RowSafeBatchNorm(nn.BatchNorm1d):
    """Batch normalization that takes a batch of one row with the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize the columns of (B, H)."""
        if self.training and input.shape[0] == 1:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class MLP(nn.Module):
    """Multilayer perceptron with a linear last layer.

    Each hidden layer is linear, batch normalization (optional), activation, dropout.

    Parameters
    ----------
    n_inputs : int
        Width of the input.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers; empty for a single linear map.
    n_outputs : int
        Width of the output, C.
    activation : {"relu", "gelu", "silu", "tanh", "sigmoid"}, default="relu"
        Nonlinearity after each hidden layer.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    batch_norm : bool, default=False
        Whether to normalize each hidden layer over the batch.
    """

    def __init__(
        self,
        n_inputs: int,
        hidden_layer_sizes: Sequence[int],
        n_outputs: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_units in hidden_layer_sizes:
            layers.append(nn.Linear(n_inputs, n_units))
            if batch_norm:
                layers.append(_RowSafeBatchNorm(n_units))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            n_inputs = n_units
        layers.append(nn.Linear(n_inputs, n_outputs))
        self.layers = nn.Sequential(*layers)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers.

        Parameters
        ----------
        x : Tensor of shape (B, n_inputs)
            Input rows.

        Returns
        -------
        Tensor of shape (B, C)
        """
        return self.layers(x)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew: He's uniform range, biases 0.

        Parameters
        ----------
        generator : torch.Generator, default=None
            Source of randomness; torch's global one when omitted.

        References
        ----------
        He et al. (2015), Delving deep into rectifiers, ICCV. arXiv:1502.01852
        """
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                bound = (6 / layer.in_features) ** 0.5 if layer.in_features else 0.0
                draw_uniform(layer.weight, bound, generator)
                layer.bias.zero_()
            elif isinstance(layer, nn.BatchNorm1d):
                layer.reset_parameters()
                layer.reset_running_stats()
