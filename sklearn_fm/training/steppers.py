"""One optimization step on a batch with torch, on any device.

Autograd sees only what lies above the embeddings. The tables are gathered, differentiated
and updated by hand, row by row; what epochs and callbacks are is not known here. The same step for
the CPU, its part below the embeddings compiled, is in ``compiled``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.base import FieldModel
from .batching import Batch, Rows
from .losses import Loss
from .optimizers import RowFTRL, StepOptions, make_rules

__all__ = ["Stepper", "TorchStepper"]


class Stepper:
    """What both ways to take steps share: learning rates, penalties, the dense layers.

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
    batch_size : int
        Rows of a full batch.
    """

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        options: StepOptions,
        total_weight: float,
        generator: torch.Generator,
        batch_size: int,
    ) -> None:
        self.model = model
        self.loss = loss
        self.options = options
        self.total_weight = total_weight
        self.generator = generator
        self.batch_size = batch_size
        by_row = {id(model.bias)} | {id(table) for table in model.sparse_tables().values()}
        self.dense = [p for p in model.parameters() if id(p) not in by_row]
        self.optimizer = _make_optimizer(self.dense, options)
        self._unknown = torch.tensor(model.schema.unknown_rows, device=model.bias.device)

    @property
    def penalties(self) -> dict[str, float]:
        """Precision of the prior by the name of the table."""
        raise NotImplementedError

    def set_penalty(self, name: str, penalty: float) -> None:
        """Change a prior from the next step on; what is owed must have been paid."""
        raise NotImplementedError

    def run(self, rows: Rows, order: Tensor) -> NDArray[np.float64]:
        """Take steps on consecutive batches.

        Parameters
        ----------
        rows : Rows
            All rows.
        order : Tensor of shape (n,)
            Those to visit, in order.

        Returns
        -------
        ndarray of shape (n_batches,)
            Summed weighted loss of each batch before its step. If one is not finite, no step
            was taken on it, and it is the last.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Pay the penalties that rows of the tables still owe, so that they can be read."""
        raise NotImplementedError

    def table_state(self) -> dict[str, Tensor]:
        """What the solver remembers of the tables; writing to the tensors sets it."""
        raise NotImplementedError

    @property
    def learning_rate(self) -> float:
        """Current step size of the tables; "ftrl" has one for all times."""
        if self.options.solver == "ftrl":
            return self.options.learning_rate
        return self.optimizer.param_groups[1]["lr"]

    def scale_learning_rates(self, factor: float) -> None:
        """Set both learning rates to this multiple of where they started."""
        dense, tables = self.optimizer.param_groups
        dense["lr"] = self.options.learning_rate_dense * factor
        tables["lr"] = self.options.learning_rate * factor

    def state(self) -> dict[str, Any]:
        """What a later training must know to go on as if never interrupted, as numpy."""
        tables = {name: value.cpu().numpy().copy() for name, value in self.table_state().items()}
        dense = _convert(self.optimizer.state_dict(), Tensor, lambda t: t.cpu().numpy().copy())
        return {
            "solver": self.options.solver,
            "learning_rate": self.options.learning_rate,
            "schema": self.model.schema,
            "tables": tables,
            "dense": dense,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, also for a table that has grown since."""
        kept = self.model.schema.rows_kept(state["schema"])
        assert kept is not None
        for name, value in self.table_state().items():
            then = torch.from_numpy(state["tables"][name])
            if value.shape == then.shape:  # that of a table that has grown differs
                value.copy_(then)
                continue
            for before, now, n_rows in kept:
                value[now : now + n_rows] = then[before : before + n_rows]
        dense = _convert(state["dense"], np.ndarray, torch.tensor)
        self.optimizer.load_state_dict(dense)
        self.scale_learning_rates(1.0)  # those asked for now, not those of then

    def _differentiate(self, compute_raw: Callable[[], Tensor], batch: Batch) -> Tensor:
        """Summed loss of a batch, its gradients left in the leaves if it is finite."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]  # batch norm's statistics
        with torch.enable_grad():
            loss = (self.loss.value(compute_raw(), batch.target) * batch.weight).sum()
        if not torch.isfinite(loss):
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return loss.detach()
        for parameter in self.dense:
            parameter.grad = None
        loss.backward()
        return loss.detach()

    def _finish_dense_gradients(self, share: float) -> None:
        """Gradient of the summed loss to that of the mean objective of a row."""
        for parameter in self.dense:
            if parameter.grad is None:
                continue
            if self.options.l2_dense and parameter.ndim > 1:
                parameter.grad += self.options.l2_dense * share * parameter.detach()
            parameter.grad /= self.batch_size

    def _drop_to_unknown(self, batch: Batch) -> Batch:
        indices = batch.indices
        if not self.options.unknown_dropout or len(self._unknown) != indices.shape[1]:
            return batch
        draw = torch.rand(indices.shape, generator=self.generator).to(indices.device)
        drop = (draw < self.options.unknown_dropout) & (self._unknown >= 0)
        return batch._replace(indices=torch.where(drop, self._unknown.to(indices.dtype), indices))


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
        tables = {name: table.data for name, table in model.sparse_tables().items()}
        tables["bias"] = model.bias.data.view(1, -1)
        self.rules = make_rules(tables, options, batch_size)
        if model.frozen_rows is not None:
            self.rules["embedding"].freeze(model.frozen_rows)

    @property
    def penalties(self) -> dict[str, float]:
        """Precision of the prior by the name of the table."""
        return {name: rule.penalty for name, rule in self.rules.items()}

    def set_penalty(self, name: str, penalty: float) -> None:
        """Change a prior from the next step on; what is owed must have been paid."""
        self.rules[name].penalty = penalty

    def run(self, rows: Rows, order: Tensor) -> NDArray[np.float64]:
        """Take steps on consecutive batches."""
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
        linear_values = model.linear_values(batch.values).unsqueeze(-1)
        rows, inverse = torch.unique(batch.indices, return_inverse=True)  # (U,), (B, S)
        fetched = {name: self.rules[name].fetch(rows) for name in ("linear", "embedding")}

        e = (fetched["embedding"][inverse] * values).requires_grad_()  # (B, S, K)
        with torch.no_grad():
            linear = model.bias + (fetched["linear"][inverse] * linear_values).sum(dim=1)  # (B, C)
        linear.requires_grad_()

        def compute_raw() -> Tensor:
            return model.from_slots(linear, e, batch.values)

        loss = self._differentiate(compute_raw, batch)
        if not torch.isfinite(loss):
            return loss

        n_slots = inverse.shape[1]
        slope = _gradient(linear)
        slot_gradients = {
            "embedding": _gradient(e) * values,
            "linear": slope.unsqueeze(1).expand(-1, n_slots, -1) * linear_values,
        }
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
        for name, rule in self.rules.items():
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
    if options.solver_dense == "sgd":
        return torch.optim.SGD(groups)
    return torch.optim.Adagrad(groups, initial_accumulator_value=0.1)
