"""One optimization step on a batch, tables apart from the rest.

Autograd sees only what lies above the embeddings. The tables are gathered, differentiated
and updated by hand, row by row; what batches, epochs and callbacks are is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.base import FieldModel
from .batching import Batch
from .losses import Loss
from .optimizers import ROW_RULES, RowAdagrad, RowRule

__all__ = ["StepOptions", "TorchStepper"]


@dataclass(frozen=True)
class StepOptions:
    """How a step is taken; the estimator's parameters of the same names say more."""

    solver: str = "adagrad"
    solver_dense: str = "adam"
    learning_rate: float = 0.05
    learning_rate_dense: float = 0.001
    l2_linear: float = 0.0
    l2_embedding: float = 0.0
    l2_dense: float = 0.0
    initial_accumulator: float = 0.1
    gradient_clip: float | None = None
    unknown_dropout: float = 0.0


class TorchStepper:
    """Takes steps on any device with torch operations.

    Parameters
    ----------
    model : FieldModel
        Trained in place.
    loss : Loss
        What is minimized.
    options : StepOptions
        Solver, step sizes, penalties.
    total_weight : float
        Sum of the sample weights that an epoch passes through; makes the penalties
        mean the same for any batch size.
    generator : torch.Generator
        Randomness of `unknown_dropout`, on the CPU.
    """

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        options: StepOptions,
        total_weight: float,
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self.loss = loss
        self.options = options
        self.total_weight = total_weight
        self.generator = generator
        self.tables: dict[str, RowRule] = {}
        for name, table in model.sparse_tables().items():
            penalty = options.l2_linear if name == "linear" else options.l2_embedding
            rule = ROW_RULES[options.solver]
            if rule is RowAdagrad:
                self.tables[name] = RowAdagrad(table.data, penalty, options.initial_accumulator)
            else:
                self.tables[name] = rule(table.data, penalty)
        in_tables = {id(table) for table in model.sparse_tables().values()}
        self.dense = [p for p in model.parameters() if id(p) not in in_tables]
        self.optimizer = _make_optimizer(self.dense, options)
        schema = model.schema
        numeric = set(schema.numeric_slots)
        self._unknown = torch.tensor(
            [-1 if slot in numeric else offset for slot, offset in enumerate(schema.offsets)],
            device=model.bias.device,
        )

    @property
    def learning_rate(self) -> float:
        """Current step size of the tables."""
        return self.optimizer.param_groups[1]["lr"]

    def scale_learning_rates(self, factor: float) -> None:
        """Set both learning rates to this multiple of where they started."""
        dense, tables = self.optimizer.param_groups
        dense["lr"] = self.options.learning_rate_dense * factor
        tables["lr"] = self.options.learning_rate * factor

    def step(self, batch: Batch) -> Tensor:
        """Take one step and return the batch's summed weighted loss from before it.

        Parameters
        ----------
        batch : Batch
            Rows to learn from.

        Returns
        -------
        Tensor of shape ()
            Nothing was updated if it is not finite.
        """
        model = self.model
        indices, values = self._drop_to_unknown(batch.indices), batch.values.unsqueeze(-1)
        rows, inverse = torch.unique(indices, return_inverse=True)  # (U,), (B, S)
        fetched = {name: rule.fetch(rows) for name, rule in self.tables.items()}

        e = (fetched["embedding"][inverse] * values).requires_grad_()  # (B, S, K)
        with torch.no_grad():
            linear = (fetched["linear"][inverse] * values).sum(dim=1)  # (B, C)
        linear.requires_grad_()
        buffers = [buffer.clone() for buffer in model.buffers()]  # batch norm's statistics
        with torch.enable_grad():
            raw = model.bias + linear + model.interact(e)
            loss = (self.loss.value(raw, batch.target) * batch.weight).sum()
        if not torch.isfinite(loss):
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return loss.detach()
        for parameter in self.dense:
            parameter.grad = None
        loss.backward()

        n_slots = inverse.shape[1]
        slot_gradients = {
            "embedding": _gradient(e) * values,
            "linear": _gradient(linear).unsqueeze(1).expand(-1, n_slots, -1) * values,
        }
        gradients = {
            name: torch.zeros_like(fetched[name]).index_add_(
                0, inverse.flatten(), gradient.flatten(end_dim=1)
            )
            for name, gradient in slot_gradients.items()
        }
        batch_size = len(batch.target)
        share = float(batch.weight.sum()) / self.total_weight
        self._finish_dense_gradients(batch_size, share)
        self._clip(gradients, batch_size)
        for name, rule in self.tables.items():
            rule.update(
                rows,
                fetched[name],
                gradients[name],
                learning_rate=self.learning_rate,
                batch_size=batch_size,
                share=share,
            )
        self.optimizer.step()
        return loss.detach()

    def settle(self) -> None:
        """Pay the penalties that rows of the tables still owe, so that they can be read."""
        with torch.no_grad():
            for rule in self.tables.values():
                rule.settle()

    def state(self) -> dict[str, Any]:
        """What a later training must know to go on as if never interrupted, as numpy."""
        tables = {
            f"{name}.{key}": value.cpu().numpy().copy()
            for name, rule in self.tables.items()
            for key, value in rule.state().items()
        }
        dense = _convert(self.optimizer.state_dict(), Tensor, lambda t: t.cpu().numpy().copy())
        return {"solver": self.options.solver, "tables": tables, "dense": dense}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        for name, rule in self.tables.items():
            for key, value in rule.state().items():
                value.copy_(torch.from_numpy(state["tables"][f"{name}.{key}"]))
        dense = _convert(state["dense"], np.ndarray, torch.tensor)
        self.optimizer.load_state_dict(dense)
        self.scale_learning_rates(1.0)  # those asked for now, not those of then

    def _drop_to_unknown(self, indices: Tensor) -> Tensor:
        if not self.options.unknown_dropout or len(self._unknown) != indices.shape[1]:
            return indices
        draw = torch.rand(indices.shape, generator=self.generator).to(indices.device)
        drop = (draw < self.options.unknown_dropout) & (self._unknown >= 0)
        return torch.where(drop, self._unknown.to(indices.dtype), indices)

    def _finish_dense_gradients(self, batch_size: int, share: float) -> None:
        """Gradient of the summed loss to that of the mean objective of a row."""
        for parameter in self.dense:
            if parameter.grad is None:
                continue
            if self.options.l2_dense and parameter.ndim > 1:
                parameter.grad += self.options.l2_dense * share * parameter.detach()
            parameter.grad /= batch_size

    def _clip(self, gradients: dict[str, Tensor], batch_size: int) -> None:
        """Limit the norm of the mean gradient over all parameters."""
        limit = self.options.gradient_clip
        if limit is None:
            return
        dense = [p.grad for p in self.dense if p.grad is not None]
        norms = [g.norm() for g in dense] + [g.norm() / batch_size for g in gradients.values()]
        factor = (limit / (torch.stack(norms).norm() + 1e-12)).clamp(max=1.0)
        for gradient in [*dense, *gradients.values()]:
            gradient *= factor


def _gradient(leaf: Tensor) -> Tensor:
    """Gradient that backward left; zeros if the loss does not depend on the leaf."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _convert(tree: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """Nested dicts and lists with every leaf of one type converted."""
    if isinstance(tree, dict):
        return {key: _convert(value, kind, convert) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_convert(value, kind, convert) for value in tree]
    return convert(tree) if isinstance(tree, kind) else tree


def _make_optimizer(dense: list[torch.nn.Parameter], options: StepOptions) -> torch.optim.Optimizer:
    """torch's optimizer of the dense layers.

    Its second group holds an empty parameter that stands for the tables: schedulers act on
    the group's learning rate, the row rules read it.
    """
    tables = torch.nn.Parameter(torch.zeros(0))
    groups = [
        {"params": dense, "lr": options.learning_rate_dense},
        {"params": [tables], "lr": options.learning_rate},
    ]
    if options.solver_dense == "adam":
        return torch.optim.Adam(groups)
    if options.solver_dense == "adagrad":
        return torch.optim.Adagrad(groups, initial_accumulator_value=0.1)
    return torch.optim.SGD(groups)
