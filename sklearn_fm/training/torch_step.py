"""One optimization step on a batch with torch, on any device.

Autograd sees only what lies above the embeddings. The tables are gathered, differentiated
and updated by hand, row by row; what epochs and callbacks are is not known here. The same step for
the CPU, its part below the embeddings compiled, is in ``compiled``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.contract import FieldModel
from .losses import Loss
from .options import StepOptions
from .rows import Batch, Rows, check_rows
from .rules import RowFTRL, make_rules
from .stepper import Stepper

__all__ = ["TorchStepper"]


class TorchStepper(Stepper):
    """Takes steps on any device with torch operations; parameters as for `Stepper`."""

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        options: StepOptions,
        total_weight: float,
        generator: torch.Generator,
        batch_size: int,
    ) -> None:
        super().__init__(model, loss, options, total_weight, generator, batch_size)
        weights = {name: table.data for name, table in model.sparse_tables().items()}
        weights["bias"] = model.bias.data.view(1, -1)
        self.rules = make_rules(weights, model.table_specs, options, batch_size)
        if model.frozen_rows is not None:
            self.rules["embedding"].freeze(model.frozen_rows)

    def set_penalty(self, prior: str, penalty: float) -> None:
        """Change a prior from the next step on; what is owed must have been paid."""
        super().set_penalty(prior, penalty)
        for name, table in self.model.table_specs.items():
            if table.prior == prior:
                self.rules[name].penalty = penalty

    def run(self, rows: Rows, order: Tensor) -> NDArray[np.float64]:
        """Take steps on consecutive batches."""
        check_rows(rows, self.model)
        losses = []
        for chosen in order.split(self.batch_size):
            losses.append(float(self.step(rows.take(chosen))))
            if not np.isfinite(losses[-1]):
                break
        return np.array(losses)

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
        batch = self._drop_to_unknown(batch)
        values = batch.values.unsqueeze(-1)
        has_linear = "linear" in model.reads
        rows, inverse = torch.unique(batch.indices, return_inverse=True)  # (U,), (B, S)
        fetched = {name: self.rules[name].fetch(rows) for name in model.table_specs}

        e = (fetched["embedding"][inverse] * values).requires_grad_()  # (B, S, W)
        start = model.bias.detach().expand(len(values), -1)  # (B, C)
        if has_linear:
            linear_values = model.linear_values(batch.values).unsqueeze(-1)
            start = start + (fetched["linear"][inverse] * linear_values).sum(dim=1)
        start = start.clone().requires_grad_()

        def compute_raw() -> Tensor:
            return model.finish(start, *model.combine_slots(e, batch.values))

        loss = self._differentiate(compute_raw, batch)
        if not torch.isfinite(loss):
            return loss

        n_slots = inverse.shape[1]
        slope = _gradient(start)
        slot_gradients = {"embedding": _gradient(e) * values}
        if has_linear:
            slot_gradients["linear"] = slope.unsqueeze(1).expand(-1, n_slots, -1) * linear_values
        gradients = {
            name: torch.zeros_like(fetched[name]).index_add_(
                0, inverse.flatten(), gradient.flatten(end_dim=1)
            )
            for name, gradient in slot_gradients.items()
        }
        gradients["bias"] = slope.sum(dim=0, keepdim=True)
        fetched["bias"] = model.bias.detach().view(1, -1)
        share = float(batch.weight.sum()) / self.total_weight
        self._finish_dense_gradients(share)
        self._clip(gradients)
        # A slot of value 0 is no occurrence of its index.
        occurs = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        occurs[inverse[batch.values != 0]] = True
        for name in gradients:
            rule = self.rules[name]
            seen = slice(None) if name == "bias" else occurs
            rule.update(
                torch.zeros(1, dtype=torch.long, device=rows.device)
                if name == "bias"
                else rows[seen],
                fetched[name][seen],
                gradients[name][seen],
                learning_rate=self.learning_rate,
                share=share,
            )
        self.optimizer.step()
        return loss

    def settle(self) -> None:
        """Pay the penalties that rows of the tables still owe, so that they can be read."""
        with torch.no_grad():
            for rule in self.rules.values():
                rule.settle()

    def table_state(self) -> dict[str, Tensor]:
        """What the rules remember; writing to the tensors sets it."""
        return {
            f"{name}.{key}": value
            for name, rule in self.rules.items()
            for key, value in rule.state().items()
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        super().load_state(state)
        for rule in self.rules.values():
            if isinstance(rule, RowFTRL):
                rule.change_rate(state["learning_rate"])

    def _clip(self, gradients: dict[str, Tensor]) -> None:
        """Limit the norm of the mean gradient over all parameters."""
        limit = self.options.gradient_clip
        if limit is None:
            return
        dense = [p.grad for p in self.dense if p.grad is not None]
        norms = [g.norm() for g in dense]
        norms += [g.norm() / self.batch_size for g in gradients.values()]
        factor = (limit / (torch.stack(norms).norm() + 1e-12)).clamp(max=1.0)
        for gradient in [*dense, *gradients.values()]:
            gradient *= factor


def _gradient(leaf: Tensor) -> Tensor:
    """Gradient that backward left; zeros if the loss does not depend on the leaf."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
